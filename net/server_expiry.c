/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/server_expiry.h"

#include "net/clock.h"

enum { TICK_MS = 1000 };

static void on_tick(uv_timer_t *timer)
{
    chv_server_expiry_tick(timer->data, chv_clock_time());
}

void chv_server_expiry_init(struct chv_server_expiry *expiry, uv_loop_t *loop, chv_server_expire_fn expire)
{
    *expiry = (struct chv_server_expiry){.expire = expire, .earliest = CHV_EXPIRY_NEVER};
    (void)uv_timer_init(loop, &expiry->timer); /* cannot fail */
    expiry->timer.data = expiry;
    uv_unref((uv_handle_t *)&expiry->timer);
}

void chv_server_expiry_add(struct chv_server_expiry *expiry, uint64_t not_after)
{
    if (not_after == 0)
        return;
    if (not_after < expiry->earliest)
        expiry->earliest = not_after;
    if (!uv_is_active((uv_handle_t *)&expiry->timer))
        (void)uv_timer_start(&expiry->timer, on_tick, TICK_MS, TICK_MS);
}

void chv_server_expiry_tick(struct chv_server_expiry *expiry, uint64_t now)
{
    if (now < expiry->earliest)
        return;
    /* One that has ended meanwhile may have been the earliest: then nothing is due, and this was the last look for it. */
    expiry->earliest = expiry->expire(expiry, now);
    if (expiry->earliest == CHV_EXPIRY_NEVER)
        (void)uv_timer_stop(&expiry->timer);
}

void chv_server_expiry_close(struct chv_server_expiry *expiry)
{
    uv_close((uv_handle_t *)&expiry->timer, NULL);
}
