/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include <chaveiro/error.h>

#include <stdio.h>
#include <string.h>

static const struct {
    int code;
    enum chv_err err;
    const char *name;
    const char *text;
} table[] = {
#define ROW(code, name, text) {code, CHV_ERR_##name, #name, text},
    CHV_ERROR_MAP(ROW)
#undef ROW
};

#define ROWS (sizeof table / sizeof table[0])

static void test_table(void)
{
    for (size_t i = 0; i < ROWS; i++) {
        CU_ASSERT_EQUAL((int)table[i].err, table[i].code);
        CU_ASSERT_STRING_EQUAL(chv_err_name(table[i].err), table[i].name);
        CU_ASSERT_STRING_EQUAL(chv_err_text(table[i].err), table[i].text);
        CU_ASSERT_TRUE(table[i].code <= 0 && table[i].code > -90);
        CU_ASSERT_NOT_EQUAL(table[i].text[0], '\0');
        for (size_t k = 0; k < i; k++) {
            CU_ASSERT_NOT_EQUAL(table[i].code, table[k].code);
            CU_ASSERT_STRING_NOT_EQUAL(table[i].name, table[k].name);
            CU_ASSERT_STRING_NOT_EQUAL(table[i].text, table[k].text);
        }
    }
    CU_ASSERT_EQUAL(CHV_OK, 0);
}

static void test_unknown(void)
{
    static const int unknown[] = {1, -29, -59, -89, -1000, 1000};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        CU_ASSERT_STRING_EQUAL(chv_err_text((enum chv_err)unknown[i]), "unknown error");
        CU_ASSERT_STRING_EQUAL(chv_err_name((enum chv_err)unknown[i]), "?");
    }
}

static void test_fatal(void)
{
    for (size_t i = 0; i < ROWS; i++)
        CU_ASSERT_EQUAL(chv_err_is_fatal(table[i].err) != 0, table[i].code <= -30 && table[i].code >= -59);
    CU_ASSERT_FALSE(chv_err_is_fatal((enum chv_err)(-29)));
    CU_ASSERT_TRUE(chv_err_is_fatal((enum chv_err)(-59)));
    CU_ASSERT_FALSE(chv_err_is_fatal((enum chv_err)(-60)));
}

static void test_fail(void)
{
    struct {
        struct chv_why why;
        char after;
    } w;
    char long_text[2 * sizeof w.why.text];
    memset(&w, 0x55, sizeof w);
    CU_ASSERT_EQUAL(chv_fail(&w.why, CHV_ERR_IO, "%s: %d", "file", 7), CHV_ERR_IO);
    CU_ASSERT_STRING_EQUAL(w.why.text, "file: 7");

    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    CU_ASSERT_EQUAL(chv_fail(&w.why, CHV_ERR_AUTH, "%s", long_text), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(strlen(w.why.text), sizeof w.why.text - 1);
    CU_ASSERT_EQUAL(w.after, 0x55);

    CU_ASSERT_EQUAL(chv_fail(NULL, CHV_ERR_MEMORY, "%s", long_text), CHV_ERR_MEMORY);
}

TEST_MAIN("errors", {"table", test_table}, {"unknown codes", test_unknown}, {"fatal range", test_fatal},
          {"why", test_fail})
