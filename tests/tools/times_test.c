/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/times.h"

#include "tests/harness.h"

#include <string.h>

/* 2026-11-21T13:14:15Z, and the last second of that day. */
#define NOW UINT64_C(1795266855)
#define TODAY_END UINT64_C(1795305599)
#define DAY UINT64_C(86400)

static uint64_t expiry(const char *text, uint64_t now)
{
    struct chv_why why = {"unset"};
    uint64_t at = 1;
    CU_ASSERT_EQUAL(chv_time_expiry(text, now, &at, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(why.text, "unset");
    return at;
}

static void test_relative(void)
{
    CU_ASSERT_EQUAL(expiry("90d", NOW), TODAY_END + 90 * DAY);
    CU_ASSERT_EQUAL(expiry("1d", NOW), TODAY_END + DAY);
    CU_ASSERT_EQUAL(expiry("2w", NOW), TODAY_END + 14 * DAY);
    CU_ASSERT_EQUAL(expiry("24h", NOW), TODAY_END + DAY);
    CU_ASSERT_EQUAL(expiry("25h", NOW), TODAY_END + 2 * DAY);
    CU_ASSERT_EQUAL(expiry("12h", NOW), TODAY_END + DAY);
}

/* The same command on the same day gives the same credential, whatever the hour, and never a shorter one than asked. */
static void test_relative_is_the_same_all_day(void)
{
    static const char *const texts[] = {"1h", "12h", "36h", "1d", "90d", "3w"};
    static const uint64_t least[] = {3600, 12 * 3600, 36 * 3600, DAY, 90 * DAY, 21 * DAY};
    uint64_t start = TODAY_END - (DAY - 1);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t at = expiry(texts[i], start);
        for (uint64_t now = start; now <= TODAY_END; now += 1799)
            CU_ASSERT_EQUAL(expiry(texts[i], now), at);
        CU_ASSERT_EQUAL(expiry(texts[i], TODAY_END), at);
        CU_ASSERT_EQUAL(at % DAY, DAY - 1);
        CU_ASSERT(at - TODAY_END >= least[i]);
        CU_ASSERT_NOT_EQUAL(expiry(texts[i], TODAY_END + 1), at);
    }
}

static void test_absolute(void)
{
    CU_ASSERT_EQUAL(expiry("2026-11-21", NOW), TODAY_END);
    CU_ASSERT_EQUAL(expiry("2026-11-21T13:14:16Z", NOW), NOW + 1);
    CU_ASSERT_EQUAL(expiry("2028-02-29", NOW), UINT64_C(1835481599));
    CU_ASSERT_EQUAL(expiry("never", NOW), 0);
}

static void test_refused(void)
{
    static const char *const texts[] = {"",
                                        "0d",
                                        "d",
                                        "90",
                                        "90x",
                                        "-1d",
                                        "+1d",
                                        " 90d",
                                        "90d ",
                                        "1.5d",
                                        "1000000000d",
                                        "2027-1-31",
                                        "2027-13-01",
                                        "2027-02-29",
                                        "2027-02-30",
                                        "2027-00-10",
                                        "2027-01-00",
                                        "2027-01-31T",
                                        "27-01-31",
                                        "2027/01/31",
                                        "Never",
                                        "2027-01-31T24:00:00Z",
                                        "2027-01-31T12:60:00Z",
                                        "2027-01-31T12:00:60Z",
                                        "2027-01-31T12:00:00",
                                        "2027-01-31T12:00:00+01",
                                        "2027-01-31T12:00:00Zx",
                                        "2026-11-20",
                                        "2026-11-21T13:14:15Z",
                                        "999999999w"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct chv_why why = {""};
        uint64_t at = 77;
        CU_ASSERT_EQUAL(chv_time_expiry(texts[i], NOW, &at, &why), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(at, 77);
        CU_ASSERT_NOT_EQUAL(why.text[0], 0);
    }
}

static void test_format(void)
{
    char text[CHV_TIME_TEXT];
    chv_time_format(NOW, text);
    CU_ASSERT_STRING_EQUAL(text, "2026-11-21T13:14:15Z");
    chv_time_format(0, text);
    CU_ASSERT_STRING_EQUAL(text, "never");
    chv_time_format(UINT64_C(253402300799), text);
    CU_ASSERT_STRING_EQUAL(text, "9999-12-31T23:59:59Z");
    chv_time_format(UINT64_MAX, text);
    CU_ASSERT_STRING_EQUAL(text, "18446744073709551615 s");
}

static void test_span(void)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"10", 10000}, {"10s", 10000}, {"500ms", 500}, {"2m", 120000}, {"1h", 3600000}, {"24h", 86400000}};
    static const char *const bad[] = {"", "0", "0ms", "s", "10 s", "-1", "25h", "1d", "1e3", "4294967296h"};
    uint64_t ms = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CU_ASSERT_EQUAL(chv_time_span(good[i].text, &ms, NULL), CHV_OK);
        CU_ASSERT_EQUAL(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ms = 77;
        CU_ASSERT_EQUAL(chv_time_span(bad[i], &ms, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(ms, 77);
    }
}

TEST_MAIN("times", {"relative", test_relative}, {"relative is the same all day", test_relative_is_the_same_all_day},
          {"absolute", test_absolute}, {"refused", test_refused}, {"format", test_format}, {"span", test_span})
