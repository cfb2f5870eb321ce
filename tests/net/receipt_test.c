/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a receipt: one for each statement, and nothing else is read as one. */
#include "net/receipt.h"
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

static const char sample_text[] = "chaveiro-receipt: 1\n"
                                  "server: gate.example\n"
                                  "client: cam1\n"
                                  "path: 2026/img \xc3\xa9.jpg\n"
                                  "size: 1234\n"
                                  "sha256: 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20\n"
                                  "time: 2026-03-01T12:00:00Z\n";

static struct chv_receipt sample(void)
{
    struct chv_receipt r;
    memset(&r, 0, sizeof r); /* with what is between the members: they are compared as bytes */
    memcpy(r.server, "gate.example", sizeof "gate.example");
    memcpy(r.client, "cam1", sizeof "cam1");
    memcpy(r.path, "2026/img \xc3\xa9.jpg", sizeof "2026/img \xc3\xa9.jpg");
    r.size = 1234;
    for (size_t i = 0; i < sizeof r.sha256; i++)
        r.sha256[i] = (uint8_t)(i + 1);
    r.time = 1772366400;
    return r;
}

static void test_text(void)
{
    struct chv_receipt r = sample(), read;
    char text[CHV_RECEIPT_MAX];
    size_t len = 0;
    CU_ASSERT_EQUAL_FATAL(chv_receipt_format(&r, text, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, strlen(sample_text));
    CU_ASSERT_EQUAL(memcmp(text, sample_text, len), 0);
    memset(&read, 0, sizeof read);
    CU_ASSERT_EQUAL(chv_receipt_parse(text, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&read, &r, sizeof r), 0);
}

static const char *path_line(const char *path, char out[CHV_RECEIPT_MAX + 1])
{
    struct chv_receipt r = sample(), read;
    size_t len = 0, lines = 0;
    memset(r.path, 0, sizeof r.path);
    memcpy(r.path, path, strlen(path));
    CU_ASSERT_EQUAL_FATAL(chv_receipt_format(&r, out, &len), CHV_OK);
    memset(&read, 0, sizeof read);
    CU_ASSERT_EQUAL(chv_receipt_parse(out, len, &read), CHV_OK);
    CU_ASSERT_STRING_EQUAL(read.path, path);
    out[len] = '\0';
    for (size_t i = 0; i < len; i++)
        lines += out[i] == '\n';
    CU_ASSERT_EQUAL(lines, 7);
    char *line = strstr(out, "path: ");
    *strchr(line, '\n') = '\0';
    return line + strlen("path: ");
}

/* No name makes a line of its own, nor looks like another name. */
static void test_escapes(void)
{
    /* A separator of lines, a mark that turns the direction round, a control of ISO 8859. */
    static const char marks[] = {'a',        (char)0xe2, (char)0x80, (char)0xa8, 'b', (char)0xe2,
                                 (char)0x80, (char)0xae, (char)0xc2, (char)0x85, '\0'};
    char text[CHV_RECEIPT_MAX + 1];
    CU_ASSERT_STRING_EQUAL(path_line("a\nsize: 0", text), "a\\x0asize: 0");
    CU_ASSERT_STRING_EQUAL(path_line("a\\x0ab", text), "a\\x5cx0ab");
    CU_ASSERT_STRING_EQUAL(path_line("\\\\", text), "\\x5c\\x5c");
    CU_ASSERT_STRING_EQUAL(path_line("\r\x7f\x1b[1m", text), "\\x0d\\x7f\\x1b[1m");
    CU_ASSERT_STRING_EQUAL(path_line(marks, text), "a\\xe2\\x80\\xa8b\\xe2\\x80\\xae\\xc2\\x85");
    CU_ASSERT_STRING_EQUAL(path_line(" ", text), " ");
}

/* doc/protocol.md, section 5: who checks receipts by himself has to escape the same ones. */
static bool is_escaped(uint32_t c)
{
    static const uint32_t ranges[][2] = {{0, 0x1f},        {'\\', '\\'},      {0x7f, 0x9f},     {0x61c, 0x61c},
                                         {0x200b, 0x200f}, {0x2028, 0x202e},  {0x2060, 0x206f}, {0xfeff, 0xfeff},
                                         {0xfff0, 0xfffb}, {0xe0000, 0xe0fff}};
    bool escaped = (c & 0xffff) >= 0xfffe;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        escaped |= c >= ranges[i][0] && c <= ranges[i][1];
    return escaped;
}

static size_t utf8(uint32_t c, char out[4])
{
    static const unsigned char heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(heads[n] | c);
    return n;
}

static void test_every_character(void)
{
    enum { TOGETHER = 100 };
    char text[CHV_RECEIPT_MAX + 1], path[4 * TOGETHER + 1], line[16 * TOGETHER + 1];
    for (uint32_t c = 1; c <= 0x10ffff;) {
        size_t path_len = 0, len = 0;
        for (size_t i = 0; i < TOGETHER && c <= 0x10ffff; i++, c += c == 0xd7ff ? 0x801 : 1) { /* no surrogates */
            char one[4];
            const size_t n = utf8(c, one);
            memcpy(path + path_len, one, n);
            path_len += n;
            for (size_t k = 0; k < n; k++)
                len += (size_t)snprintf(line + len, sizeof line - len, is_escaped(c) ? "\\x%02x" : "%c",
                                        (unsigned char)one[k]);
        }
        path[path_len] = '\0';
        CU_ASSERT_STRING_EQUAL(path_line(path, text), line);
    }
}

static void test_longest(void)
{
    struct chv_receipt r = sample(), read;
    char text[CHV_RECEIPT_MAX];
    size_t len = 0;
    r.size = UINT64_MAX;
    r.time = UINT64_C(253402300799);
    memset(r.server, 's', CHV_SERVER_NAME_MAX);
    memset(r.client, 'c', CHV_CLIENT_ID_MAX);
    memset(r.path, 'p', CHV_RECEIPT_PATH_MAX);
    CU_ASSERT_EQUAL_FATAL(chv_receipt_format(&r, text, &len), CHV_OK);
    memset(&read, 0, sizeof read);
    CU_ASSERT_EQUAL(chv_receipt_parse(text, len, &read), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&read, &r, sizeof r), 0);
    memset(r.path, '\\', CHV_RECEIPT_PATH_MAX); /* four times as long as it may be */
    CU_ASSERT_EQUAL(chv_receipt_format(&r, text, &len), CHV_ERR_SPACE);
    memset(r.path + 500, 0, sizeof r.path - 500);
    CU_ASSERT_EQUAL(chv_receipt_format(&r, text, &len), CHV_OK);
}

static enum chv_err format_of(const struct chv_receipt *r)
{
    char text[CHV_RECEIPT_MAX];
    size_t len = 4711;
    enum chv_err err = chv_receipt_format(r, text, &len);
    CU_ASSERT_EQUAL(err != CHV_OK, len == 4711);
    return err;
}

static void test_format_refuses(void)
{
    struct chv_receipt r = sample();
    CU_ASSERT_EQUAL(format_of(&r), CHV_OK);
    r.server[0] = '\0';
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r = sample();
    memcpy(r.client, "a\nb", sizeof "a\nb");
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r = sample();
    r.path[0] = '\0';
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r = sample();
    memset(r.path, 'x', sizeof r.path); /* no end */
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r = sample();
    memcpy(r.path, "\xff", sizeof "\xff");
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r = sample();
    r.time = UINT64_C(253402300800); /* the year 10000 */
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
    r.time = UINT64_MAX;
    CU_ASSERT_EQUAL(format_of(&r), CHV_ERR_ARGUMENT);
}

static enum chv_err parse_of(const char *text, size_t len)
{
    struct chv_receipt r = {.size = 4711};
    enum chv_err err = chv_receipt_parse(text, len, &r);
    CU_ASSERT_EQUAL(err != CHV_OK, r.size == 4711);
    return err;
}

/* A change of any byte is another statement, or none. */
static void test_every_byte(void)
{
    const struct chv_receipt was = sample();
    char text[sizeof sample_text];
    for (size_t i = 0; i + 1 < sizeof sample_text; i++)
        for (unsigned v = 0; v < 256; v++) {
            struct chv_receipt r;
            memset(&r, 0, sizeof r);
            memcpy(text, sample_text, sizeof text);
            text[i] = (char)v;
            if (text[i] != sample_text[i] && chv_receipt_parse(text, sizeof text - 1, &r) == CHV_OK)
                CU_ASSERT_NOT_EQUAL(memcmp(&r, &was, sizeof r), 0);
        }
    for (size_t cut = 0; cut + 1 < sizeof sample_text; cut++)
        CU_ASSERT_EQUAL(parse_of(sample_text, cut), CHV_ERR_MALFORMED);
}

#define HEAD "chaveiro-receipt: 1\nserver: s\nclient: c\n"
#define ZEROS "00000000000000000000000000000000"
#define TAIL "sha256: " ZEROS ZEROS "\ntime: 2026-03-01T12:00:00Z\n"

static void test_parse_refuses(void)
{
    static const char *const bad[] = {
        "",
        "\n",
        HEAD "path: p\nsize: 1\n",
        HEAD "path: p\nsize: 01\n" TAIL,
        HEAD "path: p\nsize: +1\n" TAIL,
        HEAD "path: p\nsize: \n" TAIL,
        HEAD "path: p\nsize: 18446744073709551616\n" TAIL,
        HEAD "path: \nsize: 1\n" TAIL,
        HEAD "path: p\r\nsize: 1\n" TAIL,
        HEAD "path: p\\\nsize: 1\n" TAIL,
        HEAD "path: \\x0\nsize: 1\n" TAIL,
        HEAD "path: \\x00\nsize: 1\n" TAIL,
        HEAD "path: \\x0A\nsize: 1\n" TAIL, /* lower case */
        HEAD "path: \\x41\nsize: 1\n" TAIL, /* "A" needs no escape */
        HEAD "path: \\n\nsize: 1\n" TAIL,
        HEAD "size: 1\npath: p\n" TAIL,
        HEAD "path: p\npath: p\nsize: 1\n" TAIL,
        HEAD "path:p\nsize: 1\n" TAIL,
        HEAD "path: p\nsize: 1\n" TAIL "\n",
        HEAD "path: p\nsize: 1\n" TAIL "note: x\n",
        " " HEAD "path: p\nsize: 1\n" TAIL,
        "chaveiro-receipt: 2\nserver: s\nclient: c\npath: p\nsize: 1\n" TAIL,
        "chaveiro-receipt: 1\nserver: s/s\nclient: c\npath: p\nsize: 1\n" TAIL,
        HEAD "path: p\nsize: 1\nsha256: " ZEROS "\ntime: 2026-03-01T12:00:00Z\n",
        HEAD "path: p\nsize: 1\nsha256: " ZEROS ZEROS "00\ntime: 2026-03-01T12:00:00Z\n",
        HEAD "path: p\nsize: 1\nsha256: " ZEROS ZEROS "\ntime: 2026-3-1T12:00:00Z\n",
        HEAD "path: p\nsize: 1\nsha256: " ZEROS ZEROS "\ntime: 2026-02-30T12:00:00Z\n",
        HEAD "path: p\nsize: 1\nsha256: " ZEROS ZEROS "\ntime: 1969-12-31T23:59:59Z\n",
        HEAD "path: p\nsize: 1\nsha256: " ZEROS ZEROS "\ntime: 2026-03-01T12:00:00Z and more text\n",
    };
    static const char good[] = HEAD "path: p\nsize: 0\n" TAIL;
    static const char nul[] = HEAD "path: p\0q\nsize: 1\n" TAIL;
    CU_ASSERT_EQUAL(parse_of(good, sizeof good - 1), CHV_OK);
    CU_ASSERT_EQUAL(parse_of(nul, sizeof nul - 1), CHV_ERR_MALFORMED);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(parse_of(bad[i], strlen(bad[i])), CHV_ERR_MALFORMED);
        if (parse_of(bad[i], strlen(bad[i])) == CHV_OK)
            (void)fprintf(stderr, "taken: %s\n", bad[i]);
    }
}

TEST_MAIN("receipt", {"text", test_text}, {"escapes", test_escapes}, {"every character", test_every_character},
          {"longest", test_longest}, {"format refuses", test_format_refuses}, {"every byte", test_every_byte},
          {"parse refuses", test_parse_refuses})
