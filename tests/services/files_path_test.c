/* SPDX-License-Identifier: Apache-2.0 */
/* Which names a client may use. */
#include "services/files_path.h"

#include <string.h>

#include "tests/harness.h"

static const char *check(const char *path)
{
    return chv_files_path_check(path, strlen(path));
}

static void test_good(void)
{
    static const char *const good[] = {"",         "a",   "a/b/c", ".hidden", "...",         "..a",    "a..", "a b",
                                       "\xc3\xa9", "-rf", "~",     "a\\b",    ".chv-partly", "%2e%2e", "*"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CU_ASSERT_PTR_NULL(check(good[i]));
}

static void test_bad(void)
{
    static const struct {
        const char *path, *word;
    } bad[] = {
        {"/", "empty"},
        {"/a", "empty"},
        {"a/", "empty"},
        {"a//b", "empty"},
        {".", "'..'"},
        {"..", "'..'"},
        {"../a", "'..'"},
        {"a/..", "'..'"},
        {"a/../b", "'..'"},
        {"a/./b", "'..'"},
        {"a/.", "'..'"},
        {".chv-part-", "own"},
        {"a/.chv-part-1", "own"},
        {".chv-part-x/a", "own"},
        {"a\nb", "control"},
        {"a\x7f", "control"},
        {"\x1b[2J", "control"},
        {"\xff", "UTF-8"},
        {"a/\xc3", "UTF-8"},
        {"\xc0\xae\xc0\xae/a", "UTF-8"},
        {"\xed\xa0\x80", "UTF-8"},
        {"\xe2\x82", "UTF-8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *wrong = check(bad[i].path);
        CU_ASSERT_PTR_NOT_NULL_FATAL(wrong);
        CU_ASSERT_PTR_NOT_NULL(strstr(wrong, bad[i].word));
    }
    CU_ASSERT_PTR_NOT_NULL(chv_files_path_check("a\0b", 3));
    CU_ASSERT_PTR_NOT_NULL(chv_files_path_check("a\0", 2));
}

static void test_lengths(void)
{
    char path[CHV_FILES_PATH_MAX + 2];
    memset(path, 'a', sizeof path);
    CU_ASSERT_PTR_NULL(chv_files_path_check(path, CHV_FILES_NAME_MAX));
    CU_ASSERT_PTR_NOT_NULL(chv_files_path_check(path, CHV_FILES_NAME_MAX + 1));
    for (size_t i = 1; i < sizeof path; i += 2)
        path[i] = '/';
    CU_ASSERT_PTR_NULL(chv_files_path_check(path, CHV_FILES_PATH_MAX - 1));
    path[CHV_FILES_PATH_MAX - 1] = 'a';
    CU_ASSERT_PTR_NULL(chv_files_path_check(path, CHV_FILES_PATH_MAX));
    path[CHV_FILES_PATH_MAX] = 'a';
    CU_ASSERT_PTR_NOT_NULL(chv_files_path_check(path, CHV_FILES_PATH_MAX + 1));
}

static void test_name(void)
{
    CU_ASSERT_STRING_EQUAL(chv_files_path_name(""), "");
    CU_ASSERT_STRING_EQUAL(chv_files_path_name("a"), "a");
    CU_ASSERT_STRING_EQUAL(chv_files_path_name("a/b/c"), "c");
}

TEST_MAIN("files_path", {"good names", test_good}, {"bad names", test_bad}, {"lengths", test_lengths},
          {"last component", test_name})
