/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/times.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TIME_DAY = 86400, TIME_NUMBER_DIGITS = 9 };

/* Nothing is given out for longer than this: it keeps every sum far from overflow and every year at four digits. */
#define TIME_LAST UINT64_C(253402300799) /* 9999-12-31T23:59:59Z */

void chv_time_format(uint64_t seconds, char out[CHV_TIME_TEXT])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (seconds == 0) {
        memcpy(out, "never", sizeof "never");
        return;
    }
    if (seconds > TIME_LAST || gmtime_r(&t, &tm) == NULL ||
        strftime(out, CHV_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(out, CHV_TIME_TEXT, "%llu s", (unsigned long long)seconds);
}

uint64_t chv_time_now(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || now.tv_sec < 0)
        return 0;
    return (uint64_t)now.tv_sec;
}

/* Digits only, at most `most` of them; *rest is what stands behind them. False if there is none. */
static bool time_digits(const char *text, size_t most, uint64_t *value, const char **rest)
{
    size_t n = 0;
    uint64_t v = 0;
    while (n < most && isdigit((unsigned char)text[n])) {
        v = v * 10 + (uint64_t)(text[n] - '0');
        n++;
    }
    if (n == 0)
        return false;
    *value = v;
    *rest = text + n;
    return true;
}

/* The last second of the UTC day that `t` lies in. */
static uint64_t time_day_end(uint64_t t)
{
    return t - t % TIME_DAY + (TIME_DAY - 1);
}

/* "90d": its seconds. */
static bool time_relative(const char *text, uint64_t *seconds)
{
    static const struct {
        const char *unit;
        uint64_t seconds;
    } units[] = {{"h", 3600}, {"d", TIME_DAY}, {"w", UINT64_C(7) * TIME_DAY}};
    const char *rest;
    uint64_t n;
    if (!time_digits(text, TIME_NUMBER_DIGITS, &n, &rest) || n == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(rest, units[i].unit) == 0) {
            *seconds = n * units[i].seconds;
            return true;
        }
    }
    return false;
}

/* Exactly `digits` digits and then `end`; moves *text behind both. */
static bool time_field(const char **text, size_t digits, char end, int *out)
{
    const char *rest;
    uint64_t v;
    if (!time_digits(*text, digits, &v, &rest) || rest != *text + digits || *rest != end)
        return false;
    *out = (int)v;
    *text = end == 0 ? rest : rest + 1;
    return true;
}

/* "2027-01-31" or "2027-01-31T12:00:00Z", every field in its range (RFC 3339, 5.6, without fractions and offsets). */
static bool time_absolute(const char *text, uint64_t *seconds)
{
    struct tm tm = {.tm_hour = 23, .tm_min = 59, .tm_sec = 59};
    int year, month;
    bool dated = strlen(text) == strlen("2027-01-31");
    if (!time_field(&text, 4, '-', &year) || !time_field(&text, 2, '-', &month) ||
        !time_field(&text, 2, dated ? 0 : 'T', &tm.tm_mday))
        return false;
    if (!dated && (!time_field(&text, 2, ':', &tm.tm_hour) || !time_field(&text, 2, ':', &tm.tm_min) ||
                   !time_field(&text, 2, 'Z', &tm.tm_sec) || *text != 0))
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    struct tm given = tm;
    time_t t = timegm(&tm);
    /* timegm takes 31 February for 3 March: what it made of the fields must be what was given. */
    if (t <= 0 || tm.tm_year != given.tm_year || tm.tm_mon != given.tm_mon || tm.tm_mday != given.tm_mday ||
        tm.tm_hour != given.tm_hour || tm.tm_min != given.tm_min || tm.tm_sec != given.tm_sec)
        return false;
    *seconds = (uint64_t)t;
    return true;
}

enum chv_err chv_time_expiry(const char *text, uint64_t now, uint64_t *out, struct chv_why *why)
{
    uint64_t span, at;
    if (strcmp(text, "never") == 0) {
        *out = 0;
        return CHV_OK;
    }
    if (time_relative(text, &span))
        at = time_day_end(time_day_end(now) + span);
    else if (!time_absolute(text, &at))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "'%s' is no expiry: write 90d, 12h, 2w, 2027-01-31, 2027-01-31T12:00:00Z or never", text);
    if (at <= now)
        return chv_fail(why, CHV_ERR_ARGUMENT, "the expiry %s is in the past", text);
    if (at > TIME_LAST)
        return chv_fail(why, CHV_ERR_ARGUMENT, "the expiry %s is after the year 9999: write never", text);
    *out = at;
    return CHV_OK;
}

enum chv_err chv_time_date(const char *text, uint64_t *out, struct chv_why *why)
{
    uint64_t end;
    if (strlen(text) != strlen("2027-01-31") || !time_absolute(text, &end))
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.40s' is no date: write 2027-01-31", text);
    *out = end - end % TIME_DAY;
    return CHV_OK;
}

enum chv_err chv_time_span(const char *text, uint64_t *milliseconds, struct chv_why *why)
{
    static const struct {
        const char *unit;
        uint64_t milliseconds;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    const char *rest = NULL;
    uint64_t n = 0;
    if (time_digits(text, TIME_NUMBER_DIGITS, &n, &rest)) {
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            uint64_t ms = n * units[i].milliseconds;
            if (strcmp(rest, units[i].unit) == 0 && ms > 0 && ms <= UINT64_C(1000) * TIME_DAY) {
                *milliseconds = ms;
                return CHV_OK;
            }
        }
    }
    return chv_fail(why, CHV_ERR_ARGUMENT, "'%s' is no time span: write 10s, 500ms, 2m or 1h, at most a day", text);
}
