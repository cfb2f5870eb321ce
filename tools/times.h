/* SPDX-License-Identifier: Apache-2.0 */
/* Times as people write and read them; UTC throughout. */
#ifndef CHV_TOOLS_TIMES_H
#define CHV_TOOLS_TIMES_H

#include <chaveiro/error.h>

#include <stdint.h>

enum { CHV_TIME_TEXT = 32 };

/* "2027-01-31T23:59:59Z", "never" for 0. */
void chv_time_format(uint64_t seconds, char out[CHV_TIME_TEXT]);
/*
 * A credential's end, in Unix seconds, from "never" (0), "90d", "12h", "2w" from now on, "2027-01-31" (the end of that
 * UTC day) or "2027-01-31T12:00:00Z".  A relative one counts from the end of today and is rounded up to the end of a
 * UTC day, so that it is the same all day long and never shorter than asked.  CHV_ERR_ARGUMENT for anything else and
 * for a time that is not after `now`.
 */
enum chv_err chv_time_expiry(const char *text, uint64_t now, uint64_t *out, struct chv_why *why) CHV_MUST_CHECK;
/* The beginning of the UTC day "2027-01-31", in Unix seconds.  CHV_ERR_ARGUMENT. */
enum chv_err chv_time_date(const char *text, uint64_t *out, struct chv_why *why) CHV_MUST_CHECK;
/* A span in milliseconds from "10" or "10s", "500ms", "2m", "1h"; at least 1 ms, at most a day. CHV_ERR_ARGUMENT. */
enum chv_err chv_time_span(const char *text, uint64_t *milliseconds, struct chv_why *why) CHV_MUST_CHECK;
/* Unix time by CLOCK_REALTIME. */
uint64_t chv_time_now(void);

#endif
