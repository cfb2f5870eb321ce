/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A high-water mark of the clock: a clock that was set back would make expired credentials good again. Kept in
 * memory, and in a small file so that a restart does not forget it.
 */
#ifndef CHV_NET_CLOCKMARK_H
#define CHV_NET_CLOCKMARK_H

#include <chaveiro/error.h>

#include <stdint.h>

enum {
    CHV_CLOCKMARK_TOLERANCE = 300, /* seconds: a correction by NTP is no attack */
    CHV_CLOCKMARK_INTERVAL = 60    /* seconds between writes */
};

#define CHV_CLOCKMARK_FILE "clock-mark"

struct chv_clockmark {
    int folder; /* -1: in memory only */
    uint64_t mark, written;
};

/*
 * `state`: an existing folder that this user can write to, or "" for none. Reads the mark. CHV_ERR_CONFIG with what to
 * do if the folder or file cannot be used.
 */
enum chv_err chv_clockmark_open(struct chv_clockmark *mark, const char *state, struct chv_why *why) CHV_MUST_CHECK;
void chv_clockmark_close(struct chv_clockmark *mark);

/*
 * Whether the clock may be believed; moves the mark on and writes it where that is due. CHV_ERR_UNAVAILABLE: before
 * CHV_TIME_FLOOR or behind the mark by more than the tolerance; `why` says what to do. CHV_ERR_IO: the time is good,
 * but the mark could not be written (said once per interval).
 */
enum chv_err chv_clockmark_check(struct chv_clockmark *mark, uint64_t now, struct chv_why *why) CHV_MUST_CHECK;

#endif
