/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"
#include "tools/csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIELDS = 3 };

static char text[1024];
static struct chv_csv csv;
static struct chv_why why;
static char *fields[FIELDS];
static size_t count;

static void begin(const char *contents)
{
    (void)snprintf(text, sizeof text, "%s", contents);
    chv_csv_begin(&csv, "list.csv", text);
}

/* The next record is these fields (NULL: no such field), on that line. */
static void next(size_t line, const char *a, const char *b, const char *c)
{
    const char *const wanted[FIELDS] = {a, b, c};
    CU_ASSERT_EQUAL_FATAL(chv_csv_next(&csv, fields, FIELDS, &count, &why), CHV_OK);
    CU_ASSERT_EQUAL(csv.line, line);
    for (size_t i = 0; i < FIELDS; i++) {
        CU_ASSERT_EQUAL_FATAL(i < count, wanted[i] != NULL);
        if (wanted[i] != NULL)
            CU_ASSERT_STRING_EQUAL(fields[i], wanted[i]);
    }
}

static void end(void)
{
    CU_ASSERT_EQUAL(chv_csv_next(&csv, fields, FIELDS, &count, &why), CHV_OK);
    CU_ASSERT_EQUAL(count, 0);
}

static void bad(const char *contents, const char *where)
{
    begin(contents);
    enum chv_err err = CHV_OK;
    do
        err = chv_csv_next(&csv, fields, FIELDS, &count, &why);
    while (err == CHV_OK && count > 0);
    CU_ASSERT_EQUAL(err, CHV_ERR_MALFORMED);
    CU_ASSERT_PTR_EQUAL(strstr(why.text, where), why.text);
}

static void test_plain(void)
{
    begin("a,b,c\nd,,\n\n  \n e f , g ,\th\t\nlast");
    next(1, "a", "b", "c");
    next(2, "d", "", "");
    next(5, "e f", "g", "h");
    next(6, "last", NULL, NULL);
    end();
    end();
    begin("");
    end();
    begin("\n\n");
    end();
}

static void test_quotes(void)
{
    begin("\"a,b\",\"c \"\"d\"\" e\",\"\"\n  \"x\"  , y\"z ,\n\"\"\"\"\n");
    next(1, "a,b", "c \"d\" e", "");
    next(2, "x", "y\"z", "");
    next(3, "\"", NULL, NULL);
    end();
}

static void test_ends_of_lines(void)
{
    begin("\xef\xbb\xbfid,b\r\nc,\"d\"\r\n");
    next(1, "id", "b", NULL);
    next(2, "c", "d", NULL);
    end();
}

static void test_bad(void)
{
    bad("a,b\nc,\"d\n\"", "list.csv:2: ");
    bad("\"a\" b", "list.csv:1: ");
    bad("\"a", "list.csv:1: ");
    bad("a\n\nb,c,d,e", "list.csv:3: ");
    bad("a\x01", "list.csv:1: ");
    bad("a\rb", "list.csv:1: ");
    bad("a\x7f", "list.csv:1: ");
}

static void test_load(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[256];
    char *loaded = NULL;
    (void)snprintf(path, sizeof path, "%s/chaveiro-csv-XXXXXX", tmp != NULL && tmp[0] ? tmp : "/tmp");
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(chv_csv_load(path, 100, &loaded, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(loaded, "");
    free(loaded);
    CU_ASSERT_EQUAL(write(fd, "id,x\n", 5), 5);
    CU_ASSERT_EQUAL(chv_csv_load(path, 5, &loaded, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(loaded, "id,x\n");
    free(loaded);
    loaded = NULL;
    CU_ASSERT_EQUAL(chv_csv_load(path, 4, &loaded, &why), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(write(fd, "\0", 1), 1);
    CU_ASSERT_EQUAL(chv_csv_load(path, 100, &loaded, &why), CHV_ERR_MALFORMED);
    CU_ASSERT_PTR_NULL(loaded);
    close(fd);
    unlink(path);
    CU_ASSERT_EQUAL(chv_csv_load(path, 100, &loaded, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_csv_load("/", 100, &loaded, &why), CHV_ERR_IO);
}

TEST_MAIN("csv", {"plain fields", test_plain}, {"quotes", test_quotes}, {"ends of lines", test_ends_of_lines},
          {"what is wrong", test_bad}, {"a file", test_load})
