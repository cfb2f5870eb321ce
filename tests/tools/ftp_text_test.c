/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of FTP: paths that stay inside, addresses, times, listings. */
#include "tools/chaveiro_ftp_text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/harness.h"

#define E_ACUTE "\xc3\xa9"

static void test_paths(void)
{
    static const struct {
        const char *cwd, *arg, *path; /* path NULL: refused */
    } cases[] = {
        {"", "a", "a"},
        {"", "/a", "a"},
        {"d", "a", "d/a"},
        {"d", "/a", "a"},
        {"d/e", "", "d/e"},
        {"d/e", ".", "d/e"},
        {"d/e", "..", "d"},
        {"d/e", "../..", ""},
        {"d/e", "../../..", ""},
        {"d/e", "../../../../etc/passwd", "etc/passwd"},
        {"", "..", ""},
        {"", "/../../..", ""},
        {"", "/../a/../../b/./c//", "b/c"},
        {"d", "x/../../y", "y"},
        {"d", "a//b", "d/a/b"},
        {"", "...", "..."},
        {"", "..a/b..", "..a/b.."},
        {"d", E_ACUTE, "d/" E_ACUTE},
        {"", "a\nb", NULL},
        {"", "a\rb", NULL},
        {"", "a\x7f", NULL},
        {"", "\xff", NULL},
        {"", "\xc3", NULL},
        {"", ".chv-part-0", NULL},
        {"d", "e/.chv-part-0", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[CHV_FILES_PATH_MAX + 1];
        const char *wrong = ftp_path_resolve(cases[i].cwd, cases[i].arg, out);
        CU_ASSERT_EQUAL(wrong == NULL, cases[i].path != NULL);
        if (wrong == NULL && cases[i].path != NULL)
            CU_ASSERT_STRING_EQUAL(out, cases[i].path);
    }
}

/* Every length around the limits: what is too long is refused, and nothing is written behind the buffer. */
static void test_long_paths(void)
{
    char cwd[CHV_FILES_PATH_MAX + 1], arg[2 * CHV_FILES_PATH_MAX], out[CHV_FILES_PATH_MAX + 1];
    for (size_t len = CHV_FILES_PATH_MAX - 3; len <= CHV_FILES_PATH_MAX; len++) {
        memset(cwd, 'c', len);
        for (size_t i = 100; i < len - 1; i += 100)
            cwd[i] = '/';
        cwd[len] = '\0';
        for (size_t more = 1; more < 4; more++) {
            memset(arg, 'a', more);
            arg[more] = '\0';
            CU_ASSERT_EQUAL(ftp_path_resolve(cwd, arg, out) == NULL, len + 1 + more <= CHV_FILES_PATH_MAX);
        }
        CU_ASSERT_PTR_NULL(ftp_path_resolve(cwd, ".", out));
        CU_ASSERT_STRING_EQUAL(out, cwd);
    }
    memset(arg, 'a', sizeof arg);
    arg[CHV_FILES_NAME_MAX] = '\0';
    CU_ASSERT_PTR_NULL(ftp_path_resolve("", arg, out));
    arg[CHV_FILES_NAME_MAX] = 'a';
    arg[CHV_FILES_NAME_MAX + 1] = '\0';
    CU_ASSERT_PTR_NOT_NULL(ftp_path_resolve("", arg, out));
    arg[CHV_FILES_NAME_MAX + 1] = 'a';
    arg[sizeof arg - 1] = '\0';
    CU_ASSERT_PTR_NOT_NULL(ftp_path_resolve("", arg, out));
}

static void test_quotes(void)
{
    char out[FTP_QUOTED_MAX], path[CHV_FILES_PATH_MAX + 1];
    ftp_path_quote("", out);
    CU_ASSERT_STRING_EQUAL(out, "\"/\"");
    ftp_path_quote("a \"b\"", out);
    CU_ASSERT_STRING_EQUAL(out, "\"/a \"\"b\"\"\"");
    memset(path, '"', CHV_FILES_PATH_MAX);
    path[CHV_FILES_PATH_MAX] = '\0';
    ftp_path_quote(path, out);
    CU_ASSERT_EQUAL(strlen(out), 2 * CHV_FILES_PATH_MAX + 3);
    CU_ASSERT_TRUE(ftp_path_is_pattern("a*"));
    CU_ASSERT_TRUE(ftp_path_is_pattern("d/?"));
    CU_ASSERT_FALSE(ftp_path_is_pattern("d*/a"));
}

static void check_address(const struct sockaddr_storage *address, const char *host, unsigned port)
{
    char text[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    const bool v6 = address->ss_family == AF_INET6;
    CU_ASSERT_PTR_NOT_NULL(
        inet_ntop(address->ss_family, v6 ? (const void *)&in6->sin6_addr : &in->sin_addr, text, sizeof text));
    CU_ASSERT_STRING_EQUAL(text, host);
    CU_ASSERT_EQUAL(ntohs(v6 ? in6->sin6_port : in->sin_port), port);
}

static void test_addresses(void)
{
    static const char *const bad_ports[] = {"",
                                            "127,0,0,1,4",
                                            "127,0,0,1,4,5,6",
                                            "127,0,0,256,4,5",
                                            "127,0,0,1,4,256",
                                            "127,0,0,1,4,x",
                                            " 127,0,0,1,4,5",
                                            "127,0,0,1,4,5 ",
                                            "127,0,0,-1,4,5",
                                            "1270,0,0,1,4,5",
                                            "127.0.0.1,4,5"};
    static const char *const bad_eprts[] = {"",
                                            "|",
                                            "|1|127.0.0.1|5",
                                            "|1|127.0.0.1|5||",
                                            "|1|127.0.0.1|65536|",
                                            "|1|127.0.0.1|-5|",
                                            "|1|127.0.0.1||",
                                            "|1|::1|5|",
                                            "|2|127.0.0.1|5|",
                                            "|1|localhost|5|",
                                            "|x|127.0.0.1|5|",
                                            " 1 127.0.0.1 5 ",
                                            "|1|127.0.0.1|99999999999999999999|",
                                            "|2|00000000000000000000000000000000000000000000000000000000001|5|"};
    struct sockaddr_storage a, b;
    bool other;
    CU_ASSERT_TRUE(ftp_port_parse("127,0,0,1,4,5", &a));
    check_address(&a, "127.0.0.1", 1029);
    CU_ASSERT_TRUE(ftp_eprt_parse("|1|127.0.0.1|80|", &b, &other));
    check_address(&b, "127.0.0.1", 80);
    CU_ASSERT_TRUE(ftp_same_host(&a, &b));
    CU_ASSERT_TRUE(ftp_eprt_parse("|2|::ffff:127.0.0.1|80|", &b, &other));
    CU_ASSERT_TRUE(ftp_same_host(&a, &b));
    CU_ASSERT_TRUE(ftp_is_loopback(&b));
    CU_ASSERT_TRUE(ftp_eprt_parse("!2!::1!65535!", &b, &other));
    check_address(&b, "::1", 65535);
    CU_ASSERT_TRUE(ftp_is_loopback(&b));
    CU_ASSERT_FALSE(ftp_same_host(&a, &b));
    CU_ASSERT_TRUE(ftp_port_parse("128,0,0,1,4,5", &b));
    CU_ASSERT_FALSE(ftp_is_loopback(&b));
    CU_ASSERT_TRUE(ftp_eprt_parse("|2|::2|80|", &b, &other));
    CU_ASSERT_FALSE(ftp_is_loopback(&b));
    for (size_t i = 0; i < sizeof bad_ports / sizeof bad_ports[0]; i++)
        CU_ASSERT_FALSE(ftp_port_parse(bad_ports[i], &a));
    for (size_t i = 0; i < sizeof bad_eprts / sizeof bad_eprts[0]; i++) {
        CU_ASSERT_FALSE(ftp_eprt_parse(bad_eprts[i], &a, &other));
        CU_ASSERT_FALSE(other);
    }
    CU_ASSERT_FALSE(ftp_eprt_parse("|3|127.0.0.1|5|", &a, &other));
    CU_ASSERT_TRUE(other);
}

static void test_times(void)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"19700101000000", 0},
        {"20260301120000", UINT64_C(1772366400000000000)},
        {"20161231235960", UINT64_C(1483228800000000000)}, /* a leap second */
        {"20260301120000.5", UINT64_C(1772366400500000000)},
        {"20260301120000.123456789", UINT64_C(1772366400123456789)},
        {"20240229235959", UINT64_C(1709251199000000000)},
    };
    static const char *const bad[] = {"",
                                      "2026030112000",
                                      "20260229120000",
                                      "20261301120000",
                                      "20260001120000",
                                      "20260301240000",
                                      "20260301126000",
                                      "20260301120061",
                                      "20269931239960",
                                      "22630101000000",
                                      "20260301120000.",
                                      "20260301120000.x",
                                      "20260301120000x",
                                      "19690101000000",
                                      "2026030112000x",
                                      "20260301120000.1234567890"};
    char text[FTP_TIME_SIZE];
    uint64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CU_ASSERT_TRUE(ftp_time_parse(good[i].text, strlen(good[i].text), &ns));
        CU_ASSERT_EQUAL(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CU_ASSERT_FALSE(ftp_time_parse(bad[i], strlen(bad[i]), &ns));
    ftp_time_format(UINT64_C(1772366400000000000), text);
    CU_ASSERT_STRING_EQUAL(text, "20260301120000");
    ftp_time_format(UINT64_C(1772366400123456789), text);
    CU_ASSERT_STRING_EQUAL(text, "20260301120000.123");
    ftp_time_format(INT64_MAX, text);
    CU_ASSERT_STRING_EQUAL(text, "22620411234716.854");
}

static void test_listings(void)
{
    struct chv_files_entry e = {.name = "a " E_ACUTE,
                                .meta = {.type = CHV_FILES_FILE,
                                         .mode = 0640,
                                         .size = UINT64_C(5000000000),
                                         .mtime = UINT64_C(1772366400000000000)}};
    char line[FTP_LINE_OUT_MAX], facts[FTP_FACTS_MAX];
    CU_ASSERT_EQUAL(ftp_list_format(&e, 1772366401, line), strlen(line));
    CU_ASSERT_STRING_EQUAL(line, "-rw-r-----   1 ftp      ftp        5000000000 Mar  1 12:00 a " E_ACUTE);
    (void)ftp_list_format(&e, 1772366400 + 200 * 86400, line);
    CU_ASSERT_STRING_EQUAL(line, "-rw-r-----   1 ftp      ftp        5000000000 Mar  1  2026 a " E_ACUTE);
    (void)ftp_list_format(&e, 1772366399, line); /* from the future */
    CU_ASSERT_STRING_EQUAL(line, "-rw-r-----   1 ftp      ftp        5000000000 Mar  1  2026 a " E_ACUTE);
    CU_ASSERT_EQUAL(ftp_facts_format(&e.meta, FTP_FACTS_ALL, facts), strlen(facts));
    CU_ASSERT_STRING_EQUAL(facts, "type=file;size=5000000000;modify=20260301120000;UNIX.mode=0640; ");
    e.meta.type = CHV_FILES_FOLDER;
    e.meta.size = 0;
    (void)ftp_facts_format(&e.meta, FTP_FACTS_ALL, facts);
    CU_ASSERT_STRING_EQUAL(facts, "type=dir;modify=20260301120000;UNIX.mode=0640; ");
    (void)ftp_facts_format(&e.meta, ftp_facts_parse("TYPE;unknown;unix.mode"), facts);
    CU_ASSERT_STRING_EQUAL(facts, "type=dir;UNIX.mode=0640; ");
    (void)ftp_facts_format(&e.meta, ftp_facts_parse(""), facts);
    CU_ASSERT_STRING_EQUAL(facts, " ");
    e.meta = (struct chv_files_meta){.type = CHV_FILES_OTHER, .mode = 0777, .size = INT64_MAX, .mtime = INT64_MAX};
    memset(e.name, 'n', CHV_FILES_NAME_MAX);
    e.name[CHV_FILES_NAME_MAX] = '\0';
    CU_ASSERT(ftp_list_format(&e, 0, line) < sizeof line - 2);
    CU_ASSERT(ftp_facts_format(&e.meta, FTP_FACTS_ALL, facts) < sizeof facts);
}

static void test_replies(void)
{
    CU_ASSERT_EQUAL(ftp_code_of(404, false), 550);
    CU_ASSERT_EQUAL(ftp_code_of(403, true), 550);
    CU_ASSERT_EQUAL(ftp_code_of(507, true), 552);
    CU_ASSERT_EQUAL(ftp_code_of(413, true), 552);
    CU_ASSERT_EQUAL(ftp_code_of(409, true), 553);
    CU_ASSERT_EQUAL(ftp_code_of(409, false), 550);
    CU_ASSERT_EQUAL(ftp_code_of(416, false), 554);
    CU_ASSERT_EQUAL(ftp_code_of(503, false), 451);
    CU_ASSERT_TRUE(ftp_is_http("GET / HTTP/1.1"));
    CU_ASSERT_TRUE(ftp_is_http("post /x"));
    CU_ASSERT_TRUE(ftp_is_http("PRI * HTTP/2.0"));
    CU_ASSERT_FALSE(ftp_is_http("USER GET "));
    CU_ASSERT_FALSE(ftp_is_http("PUTX"));
}

TEST_MAIN("ftp_text", {"paths", test_paths}, {"long paths", test_long_paths}, {"quotes", test_quotes},
          {"addresses", test_addresses}, {"times", test_times}, {"listings", test_listings}, {"replies", test_replies})
