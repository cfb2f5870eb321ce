/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/ticket_keys.h"

#include "base/encode.h"
#include "base/memory.h"
#include "net/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char head[] = "chaveiro-ticket-keys 1";

enum { LINE_MAX_LEN = 160, TIME_TEXT = 32 };

/* --- text ---------------------------------------------------------------------------------------------------------- */

/* A decimal number without sign or leading zero, and the space behind it; NULL: it is none. */
static const char *read_number(const char *at, uint64_t max, uint64_t *out)
{
    char *end;
    if (*at < '1' || *at > '9')
        return NULL;
    errno = 0;
    const unsigned long long v = strtoull(at, &end, 10);
    if (errno != 0 || v > max || *end != ' ')
        return NULL;
    *out = v;
    return end + 1;
}

static const char *add_key(struct chv_ticket_keys *keys, const char *at)
{
    uint64_t epoch, period;
    if (keys->count == CHV_TICKET_KEYS_MAX)
        return "too many keys";
    struct chv_ticket_key *key = &keys->list[keys->count];
    size_t len = sizeof key->key;
    at = read_number(at, UINT32_MAX, &epoch);
    if (at != NULL)
        at = read_number(at, UINT64_MAX / CHV_TICKET_PERIOD_SECONDS - 1, &period);
    if (at == NULL || chv_hex_decode(at, strlen(at), key->key, &len) != CHV_OK || len != sizeof key->key)
        return "not 'key EPOCH PERIOD HEX'";
    for (size_t i = 0; i < keys->count; i++)
        if (keys->list[i].epoch == epoch && keys->list[i].period == period)
            return "a second key of this epoch and period";
    key->epoch = (uint32_t)epoch;
    key->period = period;
    keys->count++;
    return NULL;
}

/* What is wrong with line `number`, NULL: nothing. */
static const char *take_line(struct chv_ticket_keys *keys, size_t number, const char *line)
{
    static const char audience[] = "audience ", key[] = "key ";
    if (number == 1)
        return strcmp(line, head) == 0 ? NULL : "not a file of ticket keys: its first line is 'chaveiro-ticket-keys 1'";
    if (line[0] == '\0' || line[0] == '#')
        return NULL;
    if (strncmp(line, key, strlen(key)) == 0)
        return keys->audience[0] != '\0' ? add_key(keys, line + strlen(key)) : "a key before the audience";
    if (strncmp(line, audience, strlen(audience)) != 0)
        return "neither 'audience' nor 'key'";
    line += strlen(audience);
    if (keys->audience[0] != '\0' || line[0] == '\0' || strlen(line) > CHV_AUDIENCE_MAX)
        return "not one audience";
    memcpy(keys->audience, line, strlen(line) + 1);
    return NULL;
}

enum chv_err chv_ticket_keys_parse(const char *text, size_t len, const char *file, struct chv_ticket_keys *keys,
                                   struct chv_why *why)
{
    char line[LINE_MAX_LEN];
    size_t number = 0;
    const char *wrong = NULL;
    memset(keys, 0, sizeof *keys);
    while (len > 0 && wrong == NULL) {
        const char *end = memchr(text, '\n', len);
        const size_t n = end != NULL ? (size_t)(end - text) : len;
        number++;
        if (n >= sizeof line || memchr(text, '\0', n) != NULL) {
            wrong = "not a line of such a file";
            break;
        }
        memcpy(line, text, n);
        line[n] = '\0';
        wrong = take_line(keys, number, line);
        text += n + (end != NULL);
        len -= n + (end != NULL);
    }
    chv_wipe(line, sizeof line);
    if (wrong == NULL && keys->count > 0)
        return CHV_OK;
    chv_wipe(keys, sizeof *keys);
    if (wrong == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: there are no ticket keys in it", file);
    return chv_fail(why, CHV_ERR_CONFIG, "%s:%zu: %s", file, number, wrong);
}

enum chv_err chv_ticket_keys_format(const struct chv_ticket_keys *keys, char *out, size_t *len)
{
    char hex[CHV_HEX_SIZE(CHV_KEY_LEN)];
    const size_t cap = *len;
    size_t n = 0;
    for (size_t i = 0; i <= keys->count && n < cap; i++) {
        int wrote;
        if (i == 0) {
            wrote = snprintf(out, cap, "%s\naudience %s\n", head, keys->audience);
        } else {
            const struct chv_ticket_key *key = &keys->list[i - 1];
            chv_hex_encode(key->key, sizeof key->key, hex);
            wrote = snprintf(out + n, cap - n, "key %" PRIu32 " %" PRIu64 " %s\n", key->epoch, key->period, hex);
        }
        n += wrote > 0 ? (size_t)wrote : cap;
    }
    chv_wipe(hex, sizeof hex);
    if (n >= cap) {
        chv_wipe(out, cap);
        return CHV_ERR_SPACE;
    }
    *len = n;
    return CHV_OK;
}

/* --- the file ------------------------------------------------------------------------------------------------------ */

/* Who can read it can come in with any client's rights; who can write it, too. */
static enum chv_err check_stat(const char *file, const struct stat *st, struct chv_why *why)
{
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is no regular file", file);
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: belongs to user %lu: give it to root or to user %lu", file,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: mode is %04o, others can get at its keys: run 'chmod 600' on it",
                        file, (unsigned)(st->st_mode & 07777));
    if (st->st_size > CHV_TICKET_KEYS_TEXT_MAX)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: longer than %d KiB", file, CHV_TICKET_KEYS_TEXT_MAX >> 10);
    return CHV_OK;
}

static enum chv_err read_text(int fd, const char *file, char *text, size_t *len, struct chv_why *why)
{
    struct stat st;
    size_t n = 0;
    enum chv_err err =
        fstat(fd, &st) == 0 ? check_stat(file, &st, why) : chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
    while (err == CHV_OK && n < CHV_TICKET_KEYS_TEXT_MAX) {
        const ssize_t got = read(fd, text + n, CHV_TICKET_KEYS_TEXT_MAX - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return chv_fail(why, CHV_ERR_IO, "%s: cannot read: %s", file, strerror(errno));
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *len = n;
    return err;
}

enum chv_err chv_ticket_keys_load(const char *file, const char *server, struct chv_ticket_keys *keys,
                                  struct chv_why *why)
{
    char audience[CHV_AUDIENCE_MAX + 1];
    size_t len = 0;
    const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "[tickets] keys: %s: %s", file,
                        strerror(errno));
    char *text = chv_secure_alloc(CHV_TICKET_KEYS_TEXT_MAX);
    enum chv_err err = text != NULL ? read_text(fd, file, text, &len, why)
                                    : chv_fail(why, CHV_ERR_MEMORY, "%s: no locked memory for its keys", file);
    if (err == CHV_OK)
        err = chv_ticket_keys_parse(text, len, file, keys, why);
    chv_secure_free(text, CHV_TICKET_KEYS_TEXT_MAX);
    close(fd);
    (void)snprintf(audience, sizeof audience, "%s/data", server);
    if (err == CHV_OK && strcmp(keys->audience, audience) != 0) {
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: its keys are for %s, not for %s: another server's", file,
                       keys->audience, audience);
        chv_wipe(keys, sizeof *keys);
    }
    return err;
}

/* --- how long ------------------------------------------------------------------------------------------------------ */

static bool has(const struct chv_ticket_keys *keys, uint64_t period)
{
    for (size_t i = 0; i < keys->count; i++)
        if (keys->list[i].period == period)
            return true;
    return false;
}

uint64_t chv_ticket_keys_end(const struct chv_ticket_keys *keys, uint64_t now)
{
    const uint64_t today = now / CHV_TICKET_PERIOD_SECONDS;
    uint64_t end = today;
    while (has(keys, end))
        end++;
    return end > today ? end * CHV_TICKET_PERIOD_SECONDS : 0;
}

void chv_ticket_keys_say(const struct chv_ticket_keys *keys, const char *file, uint64_t now)
{
    char when[TIME_TEXT] = "?";
    struct tm tm;
    const uint64_t end = chv_ticket_keys_end(keys, now);
    const time_t t = (time_t)end;
    if (gmtime_r(&t, &tm) != NULL)
        (void)strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &tm);
    if (end == 0)
        chv_log(CHV_LOG_ERROR,
                "%s: has no ticket key for now: no client comes in until there is another one ('keyadmin ticket-keys') "
                "and SIGHUP comes",
                file);
    else if (end - now <= CHV_TICKET_KEYS_WARN)
        chv_log(CHV_LOG_WARNING, "%s: its ticket keys run out at %s: make others ('keyadmin ticket-keys'), then SIGHUP",
                file, when);
    else
        chv_log(CHV_LOG_INFO, "%s: ticket keys until %s", file, when);
}
