/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines and the escaping of a peer's text. */
#include "net/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/text.h"
#include "tests/harness.h"

static int pipe_fd[2], saved = -1;

static void capture(void)
{
    CU_ASSERT_EQUAL_FATAL(pipe(pipe_fd), 0);
    saved = dup(STDERR_FILENO);
    CU_ASSERT_FATAL(saved >= 0);
    CU_ASSERT_FATAL(dup2(pipe_fd[1], STDERR_FILENO) >= 0);
    (void)close(pipe_fd[1]);
}

static void captured(char *out, size_t size)
{
    size_t len = 0;
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    for (ssize_t n; len + 1 < size && (n = read(pipe_fd[0], out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = '\0';
    (void)close(pipe_fd[0]);
}

static void test_line(void)
{
    char line[8192], want[64];
    chv_log_open("net", CHV_LOG_STDERR, CHV_LOG_INFO);
    capture();
    chv_log(CHV_LOG_WARNING, "client '%s' refused", "1");
    captured(line, sizeof line);
    (void)snprintf(want, sizeof want, " warning net[%ld]: client '1' refused\n", (long)getpid());
    CU_ASSERT_EQUAL_FATAL(strlen(line), 20 + strlen(want));
    CU_ASSERT_STRING_EQUAL(line + 20, want);
    CU_ASSERT_EQUAL(line[10], 'T');
    CU_ASSERT_EQUAL(line[19], 'Z');
}

static void test_levels(void)
{
    char lines[8192];
    enum chv_log_level level = CHV_LOG_INFO;
    CU_ASSERT_EQUAL(chv_log_level_find("error", &level), CHV_OK);
    CU_ASSERT_EQUAL(level, CHV_LOG_ERROR);
    CU_ASSERT_EQUAL(chv_log_level_find("debug", &level), CHV_OK);
    CU_ASSERT_EQUAL(level, CHV_LOG_DEBUG);
    CU_ASSERT_EQUAL(chv_log_level_find("Debug", &level), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(level, CHV_LOG_DEBUG);
    chv_log_open("net", CHV_LOG_STDERR, CHV_LOG_WARNING);
    capture();
    chv_log(CHV_LOG_ERROR, "one");
    chv_log(CHV_LOG_WARNING, "two");
    chv_log(CHV_LOG_INFO, "three");
    chv_log_set_level(CHV_LOG_DEBUG);
    chv_log(CHV_LOG_DEBUG, "four");
    captured(lines, sizeof lines);
    CU_ASSERT_PTR_NOT_NULL(strstr(lines, ": one\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(lines, ": two\n"));
    CU_ASSERT_PTR_NULL(strstr(lines, "three"));
    CU_ASSERT_PTR_NOT_NULL(strstr(lines, " debug net["));
}

static void test_no_forged_line(void)
{
    char line[8192], text[6000];
    chv_log_open("net", CHV_LOG_STDERR, CHV_LOG_INFO);
    capture();
    chv_log(CHV_LOG_INFO, "id '%s'", "a\n2026-01-01T00:00:00Z error net[1]: b\x1b[2J\r\x7f");
    captured(line, sizeof line);
    CU_ASSERT_PTR_EQUAL(strchr(line, '\n'), line + strlen(line) - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "id 'a\\x0a2026"));
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "b\\x1b[2J\\x0d\\x7f'\n"));
    memset(text, '\n', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    capture();
    chv_log(CHV_LOG_INFO, "%s", text);
    captured(line, sizeof line);
    CU_ASSERT_TRUE(strlen(line) <= 4096);
    CU_ASSERT_PTR_EQUAL(strchr(line, '\n'), line + strlen(line) - 1);
}

static void escapes(const char *in, size_t len, const char *want)
{
    char out[128];
    size_t out_len;
    CU_ASSERT_EQUAL(chv_text_escape(in, len, out, sizeof out, &out_len), len);
    CU_ASSERT_STRING_EQUAL(out, want);
    CU_ASSERT_EQUAL(out_len, strlen(want));
}

#define ESCAPES(in, want) escapes(in, sizeof(in) - 1, want)

static void test_escape(void)
{
    ESCAPES("", "");
    ESCAPES("ol\xc3\xa1 \xf0\x9f\x90\x9d", "ol\xc3\xa1 \xf0\x9f\x90\x9d");
    ESCAPES("a\0b", "a\\x00b");
    ESCAPES("\xc2\x9b"
            "2J",
            "\\xc2\\x9b2J");                                                  /* C1: CSI */
    static const char override[] = {(char)0xe2, (char)0x80, (char)0xae, 'x'}; /* right to left */
    escapes(override, sizeof override, "\\xe2\\x80\\xaex");
    ESCAPES("\xe2\x80\xa8", "\\xe2\\x80\\xa8"); /* line separator */
    ESCAPES("\xef\xbb\xbf", "\\xef\\xbb\\xbf");
    ESCAPES("\xc3", "\\xc3");          /* cut off */
    ESCAPES("\xc0\xaf", "\\xc0\\xaf"); /* overlong */
    ESCAPES("\xe0\x80\xaf", "\\xe0\\x80\\xaf");
    ESCAPES("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* surrogate */
    ESCAPES("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
    ESCAPES("\xff\xfe", "\\xff\\xfe");
}

static void test_escape_cut(void)
{
    char out[16];
    size_t len;
    for (size_t cap = 1; cap < sizeof out; cap++) {
        memset(out, '!', sizeof out);
        size_t used = chv_text_escape("a\xc3\xa1\nb", 5, out, cap, &len);
        CU_ASSERT_EQUAL(out[len], '\0');
        CU_ASSERT_TRUE(len < cap);
        CU_ASSERT_EQUAL(out[cap], '!');
        CU_ASSERT_EQUAL(used, cap < 2 ? 0 : cap < 4 ? 1 : cap < 8 ? 3 : cap < 9 ? 4 : 5);
    }
}

static void test_utf8(void)
{
    CU_ASSERT_TRUE(chv_text_is_utf8("", 0));
    CU_ASSERT_TRUE(chv_text_is_utf8("a\n\xc3\xa9", 4));
    CU_ASSERT_FALSE(chv_text_is_utf8("a\xc3", 2));
    CU_ASSERT_FALSE(chv_text_is_utf8("\x80", 1));
    CU_ASSERT_FALSE(chv_text_is_utf8("\xf8\x88\x80\x80\x80", 5));
}

/* There is no reader for syslog's lines here: that it takes them, and that stderr stays silent, is what can be seen. */
static void test_syslog(void)
{
    char lines[64];
    capture();
    chv_log_open("net", CHV_LOG_SYSLOG, CHV_LOG_ERROR);
    chv_log(CHV_LOG_DEBUG, "not logged");
    chv_log_open("net", CHV_LOG_STDERR, CHV_LOG_INFO);
    captured(lines, sizeof lines);
    CU_ASSERT_STRING_EQUAL(lines, "");
}

TEST_MAIN("log", {"line", test_line}, {"levels", test_levels}, {"no forged line", test_no_forged_line},
          {"escape", test_escape}, {"escape, cut", test_escape_cut}, {"UTF-8", test_utf8}, {"syslog", test_syslog})
