/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { CLI_LINE_MAX = 2048, CLI_NAME_COLUMN = 16 };

/* --- errors --------------------------------------------------------------------------------------------------------
 */

/* A whole line at once, so that two processes' lines do not mix. */
static void cli_line(const char *text)
{
    char *line = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&line, &size);
    if (memory == NULL)
        return;
    (void)fprintf(memory, "%s: ", chv_cli_program());
    chv_cli_put_escaped(memory, text, strlen(text), false);
    (void)fputc('\n', memory);
    if (fclose(memory) == 0) {
        (void)fflush(stdout);
        (void)fwrite(line, 1, size, stderr);
        (void)fflush(stderr);
    }
    free(line);
}

int chv_cli_fail(int code, const char *format, ...)
{
    char text[CLI_LINE_MAX];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    cli_line(text);
    return code;
}

int chv_cli_why(enum chv_err err, const struct chv_why *why)
{
    return chv_cli_fail(chv_cli_exit_code(err), "%s", why != NULL && why->text[0] != 0 ? why->text : chv_err_text(err));
}

int chv_cli_error(enum chv_err err, const struct chv_why *why, const char *format, ...)
{
    char text[CLI_LINE_MAX];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return chv_cli_fail(chv_cli_exit_code(err), "%s: %s", text,
                        why != NULL && why->text[0] != 0 ? why->text : chv_err_text(err));
}

int chv_cli_exit_code(enum chv_err err)
{
    switch (err) {
    case CHV_OK:
        return EX_OK;
    case CHV_ERR_ARGUMENT:
        return EX_USAGE;
    case CHV_ERR_NOT_FOUND:
    case CHV_ERR_NO_SECRET:
        return EX_NOINPUT;
    case CHV_ERR_EXISTS:
        return EX_CANTCREAT;
    case CHV_ERR_IO:
        return EX_IOERR;
    case CHV_ERR_BUSY:
        return EX_TEMPFAIL;
    case CHV_ERR_MEMORY:
        return EX_OSERR;
    case CHV_ERR_CONFIG:
    case CHV_ERR_UNSUPPORTED:
    case CHV_ERR_STORE_MODE:
        return EX_CONFIG;
    case CHV_ERR_UNAVAILABLE:
    case CHV_ERR_TIMEOUT:
        return EX_UNAVAILABLE;
    case CHV_ERR_MALFORMED:
    case CHV_ERR_PROTOCOL:
    case CHV_ERR_TRUNCATED:
    case CHV_ERR_REFUSED:
        return EX_PROTOCOL;
    case CHV_ERR_AUTH:
    case CHV_ERR_PASSPHRASE:
        return EX_NOPERM;
    case CHV_ERR_DAMAGED:
    case CHV_ERR_STORE_TRUNCATED:
    case CHV_ERR_STORE_DAMAGED:
    case CHV_ERR_STORE_COST:
    case CHV_ERR_STORE_FORMAT:
        return EX_DATAERR;
    case CHV_ERR_CANCELLED:
        return EX_TEMPFAIL;
    case CHV_ERR_STATE:
    case CHV_ERR_SPACE:
    case CHV_ERR_CRYPTO:
    case CHV_ERR_EXHAUSTED:
    case CHV_ERR_SELFTEST:
    case CHV_ERR_KEY:
    case CHV_ERR_STORE_LOCKED:
        return EX_SOFTWARE;
    }
    return EX_SOFTWARE;
}

/* --- results -------------------------------------------------------------------------------------------------------
 */

bool chv_cli_colour(FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    return (no_color == NULL || *no_color == 0) && isatty(fileno(stream));
}

/* Length of the UTF-8 sequence at text (RFC 3629, 4), 0 if there is none. */
static size_t cli_utf8(const unsigned char *text, size_t left)
{
    static const struct {
        unsigned char first_min, first_max, second_min, second_max;
        size_t len;
    } forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
                 {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                 {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (text[0] < forms[i].first_min || text[0] > forms[i].first_max)
            continue;
        if (left < forms[i].len || text[1] < forms[i].second_min || text[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < forms[i].len; k++)
            if (text[k] < 0x80 || text[k] > 0xbf)
                return 0;
        /* U+0080 to U+009F: control characters that terminals obey */
        return text[0] == 0xc2 && text[1] < 0xa0 ? 0 : forms[i].len;
    }
    return 0;
}

void chv_cli_put_escaped(FILE *stream, const char *text, size_t len, bool multiline)
{
    const unsigned char *p = (const unsigned char *)text;
    while (len > 0) {
        size_t n = 1;
        bool plain = (*p >= 0x20 && *p < 0x7f) || (multiline && (*p == '\n' || *p == '\t'));
        if (*p >= 0x80) {
            n = cli_utf8(p, len);
            plain = n > 0;
            n = plain ? n : 1;
        }
        if (plain)
            (void)fwrite(p, 1, n, stream);
        else
            (void)fprintf(stream, "\\x%02x", *p);
        p += n;
        len -= n;
    }
}

static void cli_put_value(const json_t *value)
{
    size_t i;
    json_t *item;
    switch (json_typeof(value)) {
    case JSON_STRING:
        chv_cli_put_escaped(stdout, json_string_value(value), json_string_length(value), false);
        return;
    case JSON_INTEGER:
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    case JSON_REAL:
        printf("%.3f", json_real_value(value));
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        printf("%s", json_is_true(value) ? "yes" : "no");
        return;
    case JSON_ARRAY:
        json_array_foreach(value, i, item)
        {
            printf("%s", i == 0 ? "" : ", ");
            cli_put_value(item);
        }
        return;
    case JSON_OBJECT:
    case JSON_NULL:
        printf("-");
        return;
    }
}

void chv_cli_print(json_t *object, bool json)
{
    const char *key;
    json_t *value;
    bool bold = chv_cli_colour(stdout);

    if (object == NULL)
        return;
    if (json) {
        (void)json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        printf("\n");
        json_decref(object);
        return;
    }
    json_object_foreach(object, key, value)
    {
        printf("%s", bold ? "\033[1m" : "");
        for (const char *p = key; *p != 0; p++)
            (void)putchar(*p == '_' ? ' ' : *p);
        printf(":%s", bold ? "\033[0m" : "");
        printf("%*s", (int)strlen(key) + 1 < CLI_NAME_COLUMN ? CLI_NAME_COLUMN - 1 - (int)strlen(key) : 1, "");
        cli_put_value(value);
        printf("\n");
    }
    json_decref(object);
}
