/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/chaveiro_ftp_text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { HALF_YEAR = 180 * 86400, MS = 1000000 };
#define SECOND UINT64_C(1000000000)

/* --- paths -------------------------------------------------------------------------------------------------------- */

static bool is_dots(const char *part, size_t len, size_t dots)
{
    return len == dots && strncmp(part, "..", dots) == 0;
}

const char *ftp_path_resolve(const char *cwd, const char *arg, char out[CHV_FILES_PATH_MAX + 1])
{
    size_t len = 0;
    out[0] = '\0';
    if (arg[0] != '/') {
        len = strlen(cwd);
        memcpy(out, cwd, len + 1);
    }
    while (*arg != '\0') {
        const size_t n = strcspn(arg, "/");
        if (is_dots(arg, n, 2)) {
            while (len > 0 && out[--len] != '/')
                continue;
        } else if (n > 0 && !is_dots(arg, n, 1)) {
            if (len + 1 + n > CHV_FILES_PATH_MAX)
                return "the name is longer than 1024 bytes";
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, arg, n);
            len += n;
        }
        out[len] = '\0';
        arg += n + (arg[n] == '/');
    }
    return chv_files_path_check(out, len);
}

void ftp_path_quote(const char *path, char out[FTP_QUOTED_MAX])
{
    *out++ = '"';
    *out++ = '/';
    for (; *path != '\0'; path++) {
        if (*path == '"')
            *out++ = '"';
        *out++ = *path;
    }
    *out++ = '"';
    *out = '\0';
}

bool ftp_path_is_pattern(const char *path)
{
    return strpbrk(chv_files_path_name(path), "*?[") != NULL;
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* Decimal digits, at most `most` of them; *text moves behind them. */
static bool take_number(const char **text, size_t most, unsigned long *number)
{
    const char *at = *text;
    *number = 0;
    while (*at >= '0' && *at <= '9' && most-- > 0)
        *number = 10 * *number + (unsigned long)(*at++ - '0');
    const bool any = at > *text;
    *text = at;
    return any;
}

bool ftp_port_parse(const char *text, struct sockaddr_storage *address)
{
    unsigned long n[6];
    struct sockaddr_in in = {.sin_family = AF_INET};
    for (int i = 0; i < 6; i++)
        if (!take_number(&text, 3, &n[i]) || n[i] > 255 || *text++ != (i < 5 ? ',' : '\0'))
            return false;
    in.sin_addr.s_addr = htonl((uint32_t)(n[0] << 24 | n[1] << 16 | n[2] << 8 | n[3]));
    in.sin_port = htons((uint16_t)(n[4] << 8 | n[5]));
    memset(address, 0, sizeof *address);
    memcpy(address, &in, sizeof in);
    return true;
}

static bool host_parse(unsigned long protocol, const char *host, uint16_t port, struct sockaddr_storage *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memset(address, 0, sizeof *address);
    if (protocol == 1 && inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        memcpy(address, &in, sizeof in);
        return true;
    }
    if (protocol == 2 && inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        memcpy(address, &in6, sizeof in6);
        return true;
    }
    return false;
}

bool ftp_eprt_parse(const char *text, struct sockaddr_storage *address, bool *other)
{
    char fields[3][INET6_ADDRSTRLEN];
    const char delimiter[2] = {text[0], '\0'};
    const char *at = text + (text[0] != '\0');
    *other = false;
    if (text[0] < 33 || text[0] > 126)
        return false;
    for (int i = 0; i < 3; i++) {
        const size_t n = strcspn(at, delimiter);
        if (at[n] == '\0' || n == 0 || n >= sizeof fields[i])
            return false;
        memcpy(fields[i], at, n);
        fields[i][n] = '\0';
        at += n + 1;
    }
    if (*at != '\0' || strspn(fields[0], "0123456789") != strlen(fields[0]) ||
        strspn(fields[2], "0123456789") != strlen(fields[2]))
        return false;
    const unsigned long protocol = strtoul(fields[0], NULL, 10), port = strtoul(fields[2], NULL, 10);
    *other = protocol != 1 && protocol != 2;
    return port <= UINT16_MAX && host_parse(protocol, fields[1], (uint16_t)port, address);
}

/* 16 bytes of any address: IPv4 as a mapped one. False: neither. */
static bool host_bytes(const struct sockaddr_storage *address, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->ss_family == AF_INET) {
        memcpy(out, mapped, sizeof mapped);
        memcpy(out + sizeof mapped, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
        return true;
    }
    if (address->ss_family != AF_INET6)
        return false;
    memcpy(out, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    return true;
}

bool ftp_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    uint8_t x[16], y[16];
    return host_bytes(a, x) && host_bytes(b, y) && memcmp(x, y, sizeof x) == 0;
}

bool ftp_is_loopback(const struct sockaddr_storage *address)
{
    static const uint8_t v6[16] = {[15] = 1}, v4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    uint8_t host[16];
    return host_bytes(address, host) && (memcmp(host, v6, sizeof v6) == 0 || memcmp(host, v4, sizeof v4) == 0);
}

/* --- times -------------------------------------------------------------------------------------------------------- */

void ftp_time_format(uint64_t ns, char out[FTP_TIME_SIZE])
{
    const time_t seconds = (time_t)(ns / SECOND);
    struct tm tm;
    size_t len = gmtime_r(&seconds, &tm) != NULL ? strftime(out, FTP_TIME_SIZE, "%Y%m%d%H%M%S", &tm) : 0;
    if (len == 0)
        (void)snprintf(out, FTP_TIME_SIZE, "19700101000000");
    else if (ns % SECOND >= MS)
        (void)snprintf(out + len, FTP_TIME_SIZE - len, ".%03u", (unsigned)(ns % SECOND / MS));
}

bool ftp_time_parse(const char *text, size_t len, uint64_t *ns)
{
    unsigned long n[6];
    if (len < 14 || len > 14 + 10 || (len > 14 && (text[14] != '.' || len == 15)))
        return false;
    const char *at = text;
    for (int i = 0; i < 6; i++)
        if (!take_number(&at, i == 0 ? 4 : 2, &n[i]))
            return false;
    if (at != text + 14)
        return false;
    uint64_t fraction = 0, unit = SECOND;
    for (size_t i = 15; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        unit /= 10;
        fraction += unit * (uint64_t)(text[i] - '0');
    }
    const int leap = n[5] == 60; /* a leap second is let pass, as the one behind :59 */
    struct tm tm = {.tm_year = (int)n[0] - 1900,
                    .tm_mon = (int)n[1] - 1,
                    .tm_mday = (int)n[2],
                    .tm_hour = (int)n[3],
                    .tm_min = (int)n[4],
                    .tm_sec = (int)n[5] - leap};
    const struct tm asked = tm;
    const time_t seconds = timegm(&tm) + leap;
    /* timegm goes over to the next day or month by itself: what it changes was none. What travels ends in 2262. */
    if (seconds < 0 || (uint64_t)seconds >= INT64_MAX / SECOND || tm.tm_mon != asked.tm_mon ||
        tm.tm_mday != asked.tm_mday || tm.tm_hour != asked.tm_hour || tm.tm_min != asked.tm_min ||
        tm.tm_sec != asked.tm_sec)
        return false;
    *ns = (uint64_t)seconds * SECOND + fraction;
    return true;
}

/* --- listings ----------------------------------------------------------------------------------------------------- */

const char *const ftp_facts[FTP_FACTS] = {"type", "size", "modify", "UNIX.mode"};

size_t ftp_facts_format(const struct chv_files_meta *meta, unsigned facts, char out[FTP_FACTS_MAX])
{
    static const char *const types[] = {[CHV_FILES_FILE] = "file",
                                        [CHV_FILES_FOLDER] = "dir",
                                        [CHV_FILES_LINK] = "OS.unix=symlink",
                                        [CHV_FILES_OTHER] = "OS.unix=other"};
    char when[FTP_TIME_SIZE];
    int len = 0;
    ftp_time_format(meta->mtime, when);
    if ((facts & 1) != 0)
        len += snprintf(out + len, (size_t)(FTP_FACTS_MAX - len), "type=%s;", types[meta->type]);
    if ((facts & 2) != 0 && meta->type == CHV_FILES_FILE)
        len += snprintf(out + len, (size_t)(FTP_FACTS_MAX - len), "size=%llu;", (unsigned long long)meta->size);
    if ((facts & 4) != 0)
        len += snprintf(out + len, (size_t)(FTP_FACTS_MAX - len), "modify=%s;", when);
    if ((facts & 8) != 0)
        len += snprintf(out + len, (size_t)(FTP_FACTS_MAX - len), "UNIX.mode=%04o;", meta->mode);
    len += snprintf(out + len, (size_t)(FTP_FACTS_MAX - len), " ");
    return (size_t)len;
}

unsigned ftp_facts_parse(const char *text)
{
    unsigned facts = 0;
    while (*text != '\0') {
        const size_t n = strcspn(text, ";");
        for (unsigned i = 0; i < FTP_FACTS; i++)
            if (strlen(ftp_facts[i]) == n && strncasecmp(text, ftp_facts[i], n) == 0)
                facts |= 1U << i;
        text += n + (text[n] == ';');
    }
    return facts;
}

size_t ftp_list_format(const struct chv_files_entry *entry, uint64_t now, char out[FTP_LINE_OUT_MAX])
{
    static const char
        letters[] = "rwxrwxrwx",
        types[] = {[CHV_FILES_FILE] = '-', [CHV_FILES_FOLDER] = 'd', [CHV_FILES_LINK] = 'l', [CHV_FILES_OTHER] = '?'};
    const struct chv_files_meta *meta = &entry->meta;
    const time_t seconds = (time_t)(meta->mtime / SECOND);
    const bool recent = (uint64_t)seconds <= now && now - (uint64_t)seconds < HALF_YEAR;
    char mode[11], when[FTP_TIME_SIZE];
    struct tm tm;
    mode[0] = types[meta->type];
    for (unsigned i = 0; i < 9; i++)
        mode[i + 1] = (meta->mode & 0400U >> i) != 0 ? letters[i] : '-';
    mode[10] = '\0';
    /* LC_TIME is "C": the programs set no locale. */
    if (gmtime_r(&seconds, &tm) == NULL || strftime(when, sizeof when, recent ? "%b %e %H:%M" : "%b %e  %Y", &tm) == 0)
        (void)snprintf(when, sizeof when, "Jan  1  1970");
    int len = snprintf(out, FTP_LINE_OUT_MAX, "%s   1 ftp      ftp      %12llu %s %s", mode,
                       (unsigned long long)meta->size, when, entry->name);
    return (size_t)len;
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

unsigned ftp_code_of(unsigned code, bool naming)
{
    switch (code) {
    case 400:
        return naming ? 553 : 501;
    case 409:
        return naming ? 553 : 550;
    case 413:
    case 507:
        return 552;
    case 412:
    case 416:
        return 554;
    case 403:
    case 404:
        return 550;
    default:
        return 451;
    }
}

bool ftp_is_http(const char *line)
{
    static const char *const verbs[] = {"GET ",   "POST ",    "HEAD ",  "PUT ",   "OPTIONS ", "DELETE ",
                                        "TRACE ", "CONNECT ", "PATCH ", "PRI * ", "Host:"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strncasecmp(line, verbs[i], strlen(verbs[i])) == 0)
            return true;
    return false;
}
