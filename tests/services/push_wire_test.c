/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the service push: what is written is read, and nothing else is. */
#include "services/push_wire.h"

#include <string.h>

#include "net/control.h"
#include "tests/harness.h"

static struct chv_push_entry sample(void)
{
    struct chv_push_entry e;
    memset(&e, 0, sizeof e); /* with what is between the members: they are compared as bytes */
    memset(e.id, 0xa5, sizeof e.id);
    memset(e.name, 'n', sizeof e.name - 1);
    e.size = e.mtime = INT64_MAX;
    e.mode = 0777;
    memset(e.sha256, 0x5a, sizeof e.sha256);
    return e;
}

static void test_entries(void)
{
    uint8_t map[CHV_PUSH_MAP_MAX];
    const struct chv_push_entry e = sample();
    struct chv_push_entry read;
    size_t len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_push_entry_encode(&e, map, &len), CHV_OK); /* the largest fits */
    CU_ASSERT_EQUAL_FATAL(chv_push_entry_decode(map, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&read, &e, sizeof e), 0);
    for (size_t cut = 0; cut < len; cut++) {
        read.mode = 1;
        CU_ASSERT_EQUAL(chv_push_entry_decode(map, cut, &read), CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(read.mode, 1);
        uint8_t small[CHV_PUSH_MAP_MAX];
        size_t room = cut;
        CU_ASSERT_EQUAL(chv_push_entry_encode(&e, small, &room), CHV_ERR_SPACE);
    }
}

static void test_numbers_out_of_range(void)
{
    struct chv_push_entry bad[3] = {sample(), sample(), sample()}, read;
    bad[0].size = UINT64_C(1) << 63;
    bad[1].mtime = UINT64_C(1) << 63;
    bad[2].mode = 01000;
    for (size_t i = 0; i < 3; i++) {
        uint8_t map[CHV_PUSH_MAP_MAX];
        size_t len = sizeof map;
        CU_ASSERT_EQUAL_FATAL(chv_push_entry_encode(&bad[i], map, &len), CHV_OK);
        CU_ASSERT_EQUAL(chv_push_entry_decode(map, len, &read), CHV_ERR_MALFORMED);
    }
}

static void check_answer(const struct chv_push_answer *a, enum chv_err wanted)
{
    uint8_t map[CHV_CONTROL_MAX];
    struct chv_push_answer read;
    size_t len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_push_answer_encode(a, map, &len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_push_answer_decode(map, len, &read), wanted);
    if (wanted == CHV_OK)
        CU_ASSERT_EQUAL(memcmp(&read, a, sizeof read), 0);
    for (size_t cut = 0; cut < len; cut++)
        CU_ASSERT_EQUAL(chv_push_answer_decode(map, cut, &read), CHV_ERR_MALFORMED);
}

static void test_answers(void)
{
    struct chv_push_answer a;
    memset(&a, 0, sizeof a);
    memset(a.id, 7, sizeof a.id);
    a.code = 409;
    memset(a.text, 't', sizeof a.text - 1);
    check_answer(&a, CHV_OK);
    a.code = 599;
    check_answer(&a, CHV_OK);
    static const unsigned codes[] = {0, 100, 201, 300, 399, 600, 100000};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        a.code = codes[i];
        check_answer(&a, CHV_ERR_MALFORMED);
    }
    memset(a.text, 0, sizeof a.text);
    memset(a.sha256, 9, sizeof a.sha256);
    a.code = 200;
    check_answer(&a, CHV_OK);
}

static void test_ids(void)
{
    char text[CHV_PUSH_ID_TEXT];
    uint8_t id[CHV_PUSH_ID_LEN], read[CHV_PUSH_ID_LEN];
    for (size_t i = 0; i < sizeof id; i++)
        id[i] = (uint8_t)(0x17 * i);
    chv_push_id_text(id, text);
    CU_ASSERT(chv_push_id_parse(text, read) && memcmp(id, read, sizeof id) == 0);
    static const char *const none[] = {"",
                                       "0",
                                       "0017002e0045005c0073008a00a100b",
                                       "0017002E0045005C0073008A00A100B8",
                                       "0017002e0045005c0073008a00a100b80",
                                       "0017002e0045005c0073008a00a100.g"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        CU_ASSERT_FALSE(chv_push_id_parse(none[i], read));
}

static void test_names(void)
{
    static const char *const good[] = {"a", "...", ".hidden", "\xc3\xa9", ".chaveiro-watch2", "a b"};
    static const char *const bad[] = {"",     ".",    "..",  "a/b", "/a", ".chaveiro-watch", ".chv-part-0",
                                      "a\nb", "\xff", "\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CU_ASSERT_PTR_NULL(chv_push_name_check(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CU_ASSERT_PTR_NOT_NULL(chv_push_name_check(bad[i], strlen(bad[i])));
    CU_ASSERT_PTR_NOT_NULL(chv_push_name_check("a\0b", 3));
}

TEST_MAIN("push_wire", {"entries", test_entries}, {"numbers out of range", test_numbers_out_of_range},
          {"answers", test_answers}, {"ids", test_ids}, {"names", test_names})
