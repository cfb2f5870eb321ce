/* SPDX-License-Identifier: Apache-2.0 */
/* When connections are looked at: at the earliest end of a credential, and at no other time. */
#include "config.h"

#include "net/server_expiry.h"
#include "tests/harness.h"

static uv_loop_t loop;
static struct chv_server_expiry expiry;
static unsigned looks;
static uint64_t looked_at, next;

static uint64_t expire(struct chv_server_expiry *e, uint64_t now)
{
    CU_ASSERT_PTR_EQUAL(e, &expiry);
    looks++;
    looked_at = now;
    return next;
}

static void start(void)
{
    looks = 0;
    next = CHV_EXPIRY_NEVER;
    CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
    chv_server_expiry_init(&expiry, &loop, expire);
}

static void end(void)
{
    chv_server_expiry_close(&expiry);
    CU_ASSERT_EQUAL(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
}

static int ticking(void)
{
    return uv_is_active((uv_handle_t *)&expiry.timer);
}

static void test_only_when_one_is_due(void)
{
    start();
    for (uint64_t i = 0; i < 10000; i++)
        chv_server_expiry_add(&expiry, 20000 - i); /* the earliest: 10001 */
    for (uint64_t now = 0; now <= 10000; now++)
        chv_server_expiry_tick(&expiry, now);
    CU_ASSERT_EQUAL(looks, 0);
    next = 10002;
    chv_server_expiry_tick(&expiry, 10001);
    CU_ASSERT_EQUAL(looks, 1);
    CU_ASSERT_EQUAL(looked_at, 10001);
    chv_server_expiry_tick(&expiry, 10001);
    CU_ASSERT_EQUAL(looks, 1);
    next = CHV_EXPIRY_NEVER;
    chv_server_expiry_tick(&expiry, 99999999); /* the clock jumped */
    CU_ASSERT_EQUAL(looks, 2);
    chv_server_expiry_tick(&expiry, UINT64_MAX - 1);
    CU_ASSERT_EQUAL(looks, 2);
    end();
}

static void test_the_timer_runs_while_there_is_an_end(void)
{
    start();
    CU_ASSERT_FALSE(ticking());
    chv_server_expiry_add(&expiry, 0); /* never */
    CU_ASSERT_FALSE(ticking());
    chv_server_expiry_tick(&expiry, UINT64_MAX - 1);
    CU_ASSERT_EQUAL(looks, 0);
    chv_server_expiry_add(&expiry, 100);
    CU_ASSERT_TRUE(ticking());
    chv_server_expiry_tick(&expiry, 50); /* the clock jumped back: it goes on */
    CU_ASSERT_TRUE(ticking());
    chv_server_expiry_tick(&expiry, 100);
    CU_ASSERT_EQUAL(looks, 1);
    CU_ASSERT_FALSE(ticking());
    chv_server_expiry_add(&expiry, 200);
    CU_ASSERT_TRUE(ticking());
    chv_server_expiry_tick(&expiry, 199);
    CU_ASSERT_EQUAL(looks, 1);
    end();
}

static void test_it_keeps_no_loop_running(void)
{
    start();
    chv_server_expiry_add(&expiry, UINT64_MAX - 1);
    CU_ASSERT_EQUAL(uv_run(&loop, UV_RUN_DEFAULT), 0);
    end();
}

/* By the wall clock: what ended before this is due at the first tick. */
static void test_the_wall_clock(void)
{
    start();
    chv_server_expiry_add(&expiry, 1000000000); /* in 2001 */
    uv_ref((uv_handle_t *)&expiry.timer);
    CU_ASSERT_EQUAL(uv_run(&loop, UV_RUN_DEFAULT), 0); /* until it has stopped by itself */
    CU_ASSERT_EQUAL(looks, 1);
    CU_ASSERT(looked_at > 1000000000);
    end();
}

TEST_MAIN("net/server_expiry", {"only when one is due", test_only_when_one_is_due},
          {"the timer runs while there is an end", test_the_timer_runs_while_there_is_an_end},
          {"it keeps no loop running", test_it_keeps_no_loop_running}, {"the wall clock", test_the_wall_clock})
