/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/receipt.h"

#include "base/encode.h"
#include "net/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The lines, in order. The first one names what is signed, so that it can be taken for nothing else. */
enum line { LINE_FORMAT, LINE_SERVER, LINE_CLIENT, LINE_PATH, LINE_SIZE, LINE_SHA256, LINE_TIME, LINES };

static const char *const keys[LINES] = {
    [LINE_FORMAT] = "chaveiro-receipt",
    [LINE_SERVER] = "server",
    [LINE_CLIENT] = "client",
    [LINE_PATH] = "path",
    [LINE_SIZE] = "size",
    [LINE_SHA256] = "sha256",
    [LINE_TIME] = "time",
};

static const char version[] = "1";

enum { ESCAPE_LEN = 4, TIME_SIZE = 32 };

/* --- out ----------------------------------------------------------------------------------------------------------- */

struct text {
    char *out;
    size_t len;
    bool full;
};

static void add(struct text *t, const char *format, ...) CHV_PRINTF(2, 3);
static void add(struct text *t, const char *format, ...)
{
    char line[160]; /* longer than any but the path's */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line || (size_t)n > CHV_RECEIPT_MAX - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->out + t->len, line, (size_t)n);
    t->len += (size_t)n;
}

/* What chv_text_escape leaves as it is has no backslash in it but the path's own, which are escaped here. */
static void add_path(struct text *t, const char *path)
{
    char part[ESCAPE_LEN * CHV_RECEIPT_PATH_MAX + 1];
    size_t n;
    while (*path != '\0') {
        if (*path == '\\') {
            add(t, "\\x5c");
            path++;
            continue;
        }
        path += chv_text_escape(path, strcspn(path, "\\"), part, sizeof part, &n);
        if (n > CHV_RECEIPT_MAX - t->len) {
            t->full = true;
            return;
        }
        memcpy(t->out + t->len, part, n);
        t->len += n;
    }
}

static bool format_time(uint64_t seconds, char out[TIME_SIZE])
{
    static const uint64_t last = UINT64_C(253402300799); /* of the year 9999 */
    const time_t t = (time_t)seconds;
    struct tm tm;
    return seconds <= last && gmtime_r(&t, &tm) != NULL && strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0;
}

enum chv_err chv_receipt_format(const struct chv_receipt *receipt, char out[CHV_RECEIPT_MAX], size_t *len)
{
    struct text t = {.out = out};
    char hex[CHV_HEX_SIZE(CHV_RECEIPT_DIGEST_LEN)], when[TIME_SIZE];
    const size_t path_len = strnlen(receipt->path, sizeof receipt->path);
    if (!chv_server_name_valid(receipt->server) || !chv_client_id_valid(receipt->client) || path_len == 0 ||
        path_len > CHV_RECEIPT_PATH_MAX || !chv_text_is_utf8(receipt->path, path_len) ||
        !format_time(receipt->time, when))
        return CHV_ERR_ARGUMENT;
    chv_hex_encode(receipt->sha256, sizeof receipt->sha256, hex);
    add(&t, "%s: %s\n", keys[LINE_FORMAT], version);
    add(&t, "%s: %s\n", keys[LINE_SERVER], receipt->server);
    add(&t, "%s: %s\n", keys[LINE_CLIENT], receipt->client);
    add(&t, "%s: ", keys[LINE_PATH]);
    add_path(&t, receipt->path);
    add(&t, "\n%s: %" PRIu64 "\n", keys[LINE_SIZE], receipt->size);
    add(&t, "%s: %s\n", keys[LINE_SHA256], hex);
    add(&t, "%s: %s\n", keys[LINE_TIME], when);
    if (t.full)
        return CHV_ERR_SPACE;
    *len = t.len;
    return CHV_OK;
}

/* --- in ------------------------------------------------------------------------------------------------------------ */

struct value {
    const char *text;
    size_t len;
};

/* Takes "key: value\n" off the text. */
static bool next_value(const char **text, const char *end, const char *key, struct value *value)
{
    const size_t key_len = strlen(key), left = (size_t)(end - *text);
    const char *newline = memchr(*text, '\n', left);
    if (newline == NULL || (size_t)(newline - *text) < key_len + 2 || memcmp(*text, key, key_len) != 0 ||
        memcmp(*text + key_len, ": ", 2) != 0)
        return false;
    value->text = *text + key_len + 2;
    value->len = (size_t)(newline - value->text);
    *text = newline + 1;
    return true;
}

static bool copy(const struct value *value, char *out, size_t size)
{
    if (value->len >= size || memchr(value->text, '\0', value->len) != NULL)
        return false;
    memcpy(out, value->text, value->len);
    out[value->len] = '\0';
    return true;
}

static bool copy_path(const struct value *value, char out[CHV_RECEIPT_PATH_MAX + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < value->len; n++) {
        uint8_t byte = (uint8_t)value->text[i];
        size_t one = 1;
        if (n == CHV_RECEIPT_PATH_MAX)
            return false;
        if (byte != '\\') {
            i++;
        } else if (value->len - i < ESCAPE_LEN || value->text[i + 1] != 'x' ||
                   chv_hex_decode(value->text + i + 2, 2, &byte, &one) != CHV_OK) {
            return false;
        } else {
            i += ESCAPE_LEN;
        }
        if (byte == 0)
            return false;
        out[n] = (char)byte;
    }
    out[n] = '\0';
    return true;
}

static bool copy_number(const struct value *value, uint64_t *out)
{
    uint64_t number = 0;
    if (value->len == 0)
        return false;
    for (size_t i = 0; i < value->len; i++) {
        const unsigned digit = (unsigned)(unsigned char)value->text[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

static bool copy_time(const struct value *value, uint64_t *out)
{
    char text[TIME_SIZE];
    struct tm tm;
    memset(&tm, 0, sizeof tm);
    if (!copy(value, text, sizeof text))
        return false;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    const time_t seconds = end != NULL && *end == '\0' ? timegm(&tm) : -1;
    *out = (uint64_t)seconds;
    return seconds >= 0;
}

enum chv_err chv_receipt_parse(const char *text, size_t len, struct chv_receipt *receipt)
{
    struct value values[LINES];
    struct chv_receipt r;
    char again[CHV_RECEIPT_MAX];
    const char *at = text;
    size_t again_len, digest_len = sizeof r.sha256;
    memset(&r, 0, sizeof r);
    for (size_t i = 0; i < LINES; i++)
        if (!next_value(&at, text + len, keys[i], &values[i]))
            return CHV_ERR_MALFORMED;
    if (at != text + len || !copy(&values[LINE_SERVER], r.server, sizeof r.server) ||
        !copy(&values[LINE_CLIENT], r.client, sizeof r.client) || !copy_path(&values[LINE_PATH], r.path) ||
        !copy_number(&values[LINE_SIZE], &r.size) || !copy_time(&values[LINE_TIME], &r.time) ||
        chv_hex_decode(values[LINE_SHA256].text, values[LINE_SHA256].len, r.sha256, &digest_len) != CHV_OK ||
        digest_len != sizeof r.sha256)
        return CHV_ERR_MALFORMED;
    /* One text for one statement: also the version, zeros in front of a number, the case of hex digits. */
    if (chv_receipt_format(&r, again, &again_len) != CHV_OK || again_len != len || memcmp(again, text, len) != 0)
        return CHV_ERR_MALFORMED;
    *receipt = r;
    return CHV_OK;
}
