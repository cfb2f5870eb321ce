/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions that outlive their credentials, of one loop.  The wall clock is asked once a second and compared with the
 * earliest end of all: only when that has come are the connections looked at.  What the clock shows counts, not how
 * long a timer ran: a clock that jumps forward ends at the next tick what it has made too old.
 */
#ifndef CHV_NET_SERVER_EXPIRY_H
#define CHV_NET_SERVER_EXPIRY_H

#include <stdint.h>
#include <uv.h>

#define CHV_EXPIRY_NEVER UINT64_MAX

struct chv_server_expiry;

/*
 * Ends every session whose credential's not_after (Unix s, not 0) is at or before `now`; returns the earliest one of
 * the others, CHV_EXPIRY_NEVER if there is none.
 */
typedef uint64_t (*chv_server_expire_fn)(struct chv_server_expiry *expiry, uint64_t now);

struct chv_server_expiry {
    uv_timer_t timer;
    chv_server_expire_fn expire;
    uint64_t earliest; /* never later than the earliest end of a session; CHV_EXPIRY_NEVER: none ends */
};

void chv_server_expiry_init(struct chv_server_expiry *expiry, uv_loop_t *loop, chv_server_expire_fn expire);
/* A session has begun whose credential ends then; 0: never.  O(1); nothing is to be said when it is over. */
void chv_server_expiry_add(struct chv_server_expiry *expiry, uint64_t not_after);
/* What the timer does. */
void chv_server_expiry_tick(struct chv_server_expiry *expiry, uint64_t now);
/* No tick comes after this; the loop must run once more. */
void chv_server_expiry_close(struct chv_server_expiry *expiry);

#endif
