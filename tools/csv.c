/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/csv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum chv_err chv_csv_load(const char *file, size_t max, char **text, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    size_t len = 0, room = 0;
    FILE *in = fopen(file, "re");
    char *read = in != NULL ? malloc(1) : NULL;
    if (in != NULL && read == NULL)
        err = CHV_ERR_MEMORY;
    if (in == NULL)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
    do {
        if (len == room) {
            room = room == 0 ? 1 << 16 : room * 2;
            char *more = realloc(read, room + 1);
            if (more == NULL) {
                err = CHV_ERR_MEMORY;
                break;
            }
            read = more;
        }
        len += fread(read + len, 1, room - len, in);
        if (len > max)
            err = chv_fail(why, CHV_ERR_MALFORMED, "%s: is longer than %zu MiB", file, max >> 20);
    } while (err == CHV_OK && !feof(in) && !ferror(in));
    if (err == CHV_OK && ferror(in))
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
    else if (err == CHV_OK && memchr(read, '\0', len) != NULL)
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: is no text: there is a NUL in it", file);
    (void)fclose(in);
    if (err != CHV_OK) {
        free(read);
        return err;
    }
    read[len] = '\0';
    *text = read;
    return CHV_OK;
}

void chv_csv_begin(struct chv_csv *csv, const char *name, char *text)
{
    static const char mark[] = "\xef\xbb\xbf";
    *csv = (struct chv_csv){.name = name, .text = text};
    if (strncmp(text, mark, sizeof mark - 1) == 0)
        csv->text += sizeof mark - 1;
}

static bool csv_blank(char c)
{
    return c == ' ' || c == '\t';
}

static enum chv_err csv_wrong(const struct chv_csv *csv, const char *what, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_MALFORMED, "%s:%zu: %s", csv->name, csv->line, what);
}

/* A field in quotes at *at, which is moved behind it. */
static enum chv_err csv_quoted(const struct chv_csv *csv, char **at, char **field, struct chv_why *why)
{
    char *in = *at + 1, *out = in;
    *field = in;
    while (*in != '\0' && (in[0] != '"' || in[1] == '"')) {
        in += *in == '"'; /* the first of two */
        *out++ = *in++;
    }
    if (*in == '\0')
        return csv_wrong(csv, "a quote that is opened is not closed on this line", why);
    in++;
    *out = '\0';
    while (csv_blank(*in))
        in++;
    if (*in != ',' && *in != '\0')
        return csv_wrong(csv, "there is text behind a closing quote", why);
    *at = in;
    return CHV_OK;
}

static void csv_plain(char **at, char **field)
{
    char *end = *at + strcspn(*at, ",");
    *field = *at;
    *at = end;
    while (end > *field && csv_blank(end[-1]))
        end--;
    /* what stands at `end` may be the comma, which the caller looks at before it is cut off */
    if (end < *at)
        *end = '\0';
}

static enum chv_err csv_fields(const struct chv_csv *csv, char *line, char **fields, size_t max, size_t *count,
                               struct chv_why *why)
{
    size_t n = 0;
    for (char *at = line;; at++) {
        enum chv_err err = CHV_OK;
        if (n == max)
            return csv_wrong(csv, "there are too many fields", why);
        while (csv_blank(*at))
            at++;
        if (*at == '"')
            err = csv_quoted(csv, &at, &fields[n], why);
        else
            csv_plain(&at, &fields[n]);
        if (err != CHV_OK)
            return err;
        n++;
        if (*at == '\0')
            break;
        *at = '\0'; /* the comma */
    }
    *count = n;
    return CHV_OK;
}

enum chv_err chv_csv_next(struct chv_csv *csv, char **fields, size_t max, size_t *count, struct chv_why *why)
{
    *count = 0;
    while (*csv->text != '\0') {
        char *line = csv->text, *end = line + strcspn(line, "\n");
        csv->text = end + (*end == '\n');
        csv->line++;
        if (end > line && end[-1] == '\r')
            end--;
        *end = '\0';
        if (line[strspn(line, " \t")] == '\0')
            continue;
        for (const char *c = line; *c != '\0'; c++)
            if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
                return csv_wrong(csv, "there is a control character", why);
        return csv_fields(csv, line, fields, max, count, why);
    }
    return CHV_OK;
}
