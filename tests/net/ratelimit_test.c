/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ratelimit.h"
#include "net/source.h"
#include "tests/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

static uint64_t source4(const char *text)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    CU_ASSERT_EQUAL_FATAL(inet_pton(AF_INET, text, &a.sin_addr), 1);
    return chv_source_of((const struct sockaddr *)&a);
}

static uint64_t source6(const char *text)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    CU_ASSERT_EQUAL_FATAL(inet_pton(AF_INET6, text, &a.sin6_addr), 1);
    return chv_source_of((const struct sockaddr *)&a);
}

static void test_prefixes(void)
{
    CU_ASSERT_EQUAL(source4("192.0.2.1"), source4("192.0.2.255"));
    CU_ASSERT_NOT_EQUAL(source4("192.0.2.1"), source4("192.0.3.1"));
    CU_ASSERT_EQUAL(source6("2001:db8:1::1"), source6("2001:db8:1:ffff::2"));
    CU_ASSERT_NOT_EQUAL(source6("2001:db8:1::1"), source6("2001:db8:2::1"));
    CU_ASSERT_EQUAL(source6("::ffff:192.0.2.9"), source4("192.0.2.1"));
    const struct sockaddr_un local = {.sun_family = AF_UNIX};
    CU_ASSERT_NOT_EQUAL(chv_source_of((const struct sockaddr *)&local), 0);
    CU_ASSERT_NOT_EQUAL(source4("0.0.0.0"), 0);
}

static void test_text(void)
{
    char text[CHV_PEER_TEXT];
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(4711), .sin_addr = {htonl(0xc0000201)}};
    chv_source_text((const struct sockaddr *)&v4, text);
    CU_ASSERT_STRING_EQUAL(text, "192.0.2.1:4711");
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(1), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    chv_source_text((const struct sockaddr *)&v6, text);
    CU_ASSERT_STRING_EQUAL(text, "[::1]:1");
    const struct sockaddr_un local = {.sun_family = AF_UNIX};
    chv_source_text((const struct sockaddr *)&local, text);
    CU_ASSERT_STRING_EQUAL(text, "unix");
}

static void test_burst_then_rate(void)
{
    struct chv_ratelimit limit;
    CU_ASSERT_EQUAL_FATAL(chv_ratelimit_init(&limit, 10, 5, 1), CHV_OK);
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1000), CHV_RATE_PASS);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1000), CHV_RATE_REFUSE);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 8, 1000), CHV_RATE_PASS); /* another source */
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1099), CHV_RATE_REFUSE);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1100), CHV_RATE_PASS); /* 10 a second */
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1100), CHV_RATE_REFUSE);
    for (int i = 0; i < 5; i++) /* never more than the burst, however long it was quiet */
        CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, UINT64_C(1) << 50), CHV_RATE_PASS);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, UINT64_C(1) << 50), CHV_RATE_REFUSE);
    chv_ratelimit_free(&limit);
}

static void test_far_over_is_dropped(void)
{
    struct chv_ratelimit limit;
    CU_ASSERT_EQUAL_FATAL(chv_ratelimit_init(&limit, 1, 3, 1), CHV_OK);
    unsigned counts[3] = {0};
    for (int i = 0; i < 100; i++)
        counts[chv_ratelimit_take(&limit, 7, 0)]++;
    CU_ASSERT_EQUAL(counts[CHV_RATE_PASS], 3);
    CU_ASSERT_EQUAL(counts[CHV_RATE_REFUSE], 3);
    CU_ASSERT_EQUAL(counts[CHV_RATE_DROP], 94);
    /* One who keeps hammering still gets its rate. */
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 1000), CHV_RATE_PASS);
    chv_ratelimit_free(&limit);
}

static void test_off_and_changed(void)
{
    struct chv_ratelimit limit;
    CU_ASSERT_EQUAL_FATAL(chv_ratelimit_init(&limit, 0, 1, 1), CHV_OK);
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_PASS);
    chv_ratelimit_set(&limit, 1, 1);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_PASS);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_REFUSE);
    chv_ratelimit_set(&limit, 0, 1);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_PASS);
    chv_ratelimit_free(&limit);
}

/* More sources than buckets: one that used its burst up is not forgotten for the sake of those that come once. */
static void test_full_table_keeps_the_empty_buckets(void)
{
    struct chv_ratelimit limit;
    CU_ASSERT_EQUAL_FATAL(chv_ratelimit_init(&limit, 1, 4, 99), CHV_OK);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_PASS);
    for (uint64_t source = 1000; source < 100000; source++)
        (void)chv_ratelimit_take(&limit, source, 0);
    CU_ASSERT_EQUAL(chv_ratelimit_take(&limit, 7, 0), CHV_RATE_REFUSE);
    chv_ratelimit_free(&limit);
}

TEST_MAIN("ratelimit", {"prefixes", test_prefixes}, {"text", test_text}, {"burst, then rate", test_burst_then_rate},
          {"far over is dropped", test_far_over_is_dropped}, {"off, and changed", test_off_and_changed},
          {"full table", test_full_table_keeps_the_empty_buckets})
