/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the service files: what is written is read, and nothing else is. */
#include "services/files_wire.h"

#include <string.h>

#include "net/control.h"
#include "tests/harness.h"

static const uint64_t large = (UINT64_C(5) << 30) + 1; /* more than 4 GiB */

static struct chv_files_request sample(enum chv_files_op op)
{
    struct chv_files_request r;
    memset(&r, 0, sizeof r); /* with what is between the members: they are compared as bytes */
    r.id = UINT64_MAX;
    r.op = op;
    memcpy(r.path, "a/\xc3\xa9", sizeof "a/\xc3\xa9");
    if (op == CHV_FILES_RENAME)
        r.to[0] = 'b';
    if (op == CHV_FILES_PUT) {
        r.size = large;
        r.mode = 0640;
        r.mtime = UINT64_C(1234567890123456789);
        r.resume = r.receipt = true;
    }
    if (op == CHV_FILES_SET) {
        r.has_mode = r.has_mtime = true;
        r.mode = 0640;
        r.mtime = UINT64_C(1234567890123456789);
    }
    if (op == CHV_FILES_CHECKSUM) {
        r.has_size = true;
        r.size = large;
    }
    if (op == CHV_FILES_PUT || op == CHV_FILES_GET) {
        r.has_offset = true;
        r.offset = large;
        memset(r.prefix, 0xcd, sizeof r.prefix);
    }
    return r;
}

static void test_requests(void)
{
    uint8_t map[CHV_CONTROL_MAX];
    for (unsigned op = 0; op < CHV_FILES_OPS; op++) {
        const struct chv_files_request r = sample((enum chv_files_op)op);
        struct chv_files_request read;
        const char *wrong = "x";
        size_t len = sizeof map;
        CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_files_request_decode(map, len, &read, &wrong), CHV_OK);
        CU_ASSERT_PTR_NULL(wrong);
        CU_ASSERT_EQUAL(memcmp(&read, &r, sizeof r), 0);
        for (size_t cut = 0; cut < len; cut++) {
            memset(&read, 'x', sizeof read);
            CU_ASSERT_EQUAL(chv_files_request_decode(map, cut, &read, &wrong), CHV_ERR_MALFORMED);
            CU_ASSERT_EQUAL(read.path[0], 'x');
            size_t room = cut;
            CU_ASSERT_EQUAL(chv_files_request_encode(&r, map, &room), CHV_ERR_SPACE);
            room = sizeof map;
            CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &room), CHV_OK);
        }
    }
}

/* A put whose size is not known yet, and a get that goes on behind bytes that are not compared. */
static void test_unknown(void)
{
    for (int i = 0; i < 2; i++) {
        struct chv_files_request r = sample(i == 0 ? CHV_FILES_PUT : CHV_FILES_GET), read;
        uint8_t map[CHV_CONTROL_MAX];
        const char *wrong = "x";
        size_t len = sizeof map;
        if (i == 0) {
            r.no_size = true;
            r.size = 0;
        } else {
            r.no_prefix = true;
            memset(r.prefix, 0, sizeof r.prefix);
        }
        CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_files_request_decode(map, len, &read, &wrong), CHV_OK);
        CU_ASSERT_PTR_NULL(wrong);
        CU_ASSERT_EQUAL(memcmp(&read, &r, sizeof r), 0);
    }
}

/* Each of the two alone. */
static void test_set(void)
{
    for (int i = 0; i < 2; i++) {
        struct chv_files_request r = sample(CHV_FILES_SET), read;
        uint8_t map[CHV_CONTROL_MAX];
        const char *wrong = "x";
        size_t len = sizeof map;
        r.has_mode = i == 0;
        r.has_mtime = i != 0;
        r.mode = i == 0 ? 0640 : 0;
        r.mtime = i == 0 ? 0 : 5;
        CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_files_request_decode(map, len, &read, &wrong), CHV_OK);
        CU_ASSERT_PTR_NULL(wrong);
        CU_ASSERT_EQUAL(memcmp(&read, &r, sizeof r), 0);
    }
}

/* A longest path in every place still fits. */
static void test_longest(void)
{
    uint8_t map[CHV_CONTROL_MAX];
    struct chv_files_request r = {.op = CHV_FILES_RENAME}, read;
    struct chv_files_answer a, got;
    const char *wrong = NULL;
    size_t len = sizeof map;
    memset(&a, 0, sizeof a); /* with what is between the members: they are compared as bytes */
    a.code = 404;
    a.has_meta = a.has_digest = a.has_space = true;
    for (size_t i = 0; i < CHV_FILES_PATH_MAX; i++)
        r.path[i] = r.to[i] = a.path[i] = i % 200 == 199 ? '/' : 'a';
    memset(a.text, 't', CHV_FILES_TEXT_MAX);
    CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_request_decode(map, len, &read, &wrong), CHV_OK);
    CU_ASSERT_PTR_NULL(wrong);
    CU_ASSERT_STRING_EQUAL(read.to, r.to);
    len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_files_answer_encode(&a, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_answer_decode(map, len, &got), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&got, &a, sizeof a), 0);
    a.has_meta = a.has_space = false; /* a put's */
    memset(&a.meta, 0, sizeof a.meta);
    a.has_receipt = true;
    memset(a.receipt, 'r', CHV_RECEIPT_MAX);
    memset(a.signature, 's', sizeof a.signature);
    a.signature_len = sizeof a.signature;
    len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_files_answer_encode(&a, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_answer_decode(map, len, &got), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(&got, &a, sizeof a), 0);
}

static void test_answers(void)
{
    uint8_t map[CHV_CONTROL_MAX];
    for (unsigned bits = 0; bits < 16; bits++) {
        struct chv_files_answer a, read;
        size_t len = sizeof map;
        memset(&a, 0, sizeof a);
        a.id = 7;
        a.code = 206;
        a.path[0] = 'p';
        a.text[0] = 't';
        a.has_meta = (bits & 1) != 0;
        a.has_digest = (bits & 2) != 0;
        a.has_space = (bits & 4) != 0;
        if (a.has_meta)
            a.meta = (struct chv_files_meta){.type = CHV_FILES_LINK, .mode = 0777, .size = large, .mtime = INT64_MAX};
        if (a.has_digest)
            memset(a.digest, 0xab, sizeof a.digest);
        if (a.has_space)
            a.total = a.left = UINT64_MAX;
        a.has_receipt = (bits & 8) != 0;
        if (a.has_receipt) {
            memset(a.receipt, 'r', CHV_RECEIPT_MAX);
            memset(a.signature, 0xcd, sizeof a.signature);
            a.signature_len = sizeof a.signature - bits % 4;
            memset(a.signature + a.signature_len, 0, bits % 4);
        }
        CU_ASSERT_EQUAL_FATAL(chv_files_answer_encode(&a, map, &len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_files_answer_decode(map, len, &read), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(&read, &a, sizeof a), 0);
        for (size_t cut = 0; cut < len; cut++)
            CU_ASSERT_EQUAL(chv_files_answer_decode(map, cut, &read), CHV_ERR_MALFORMED);
    }
}

static enum chv_err answer_of(const char *map, size_t len)
{
    struct chv_files_answer a = {.id = 1};
    enum chv_err err = chv_files_answer_decode((const uint8_t *)map, len, &a);
    CU_ASSERT_EQUAL(err != CHV_OK, a.id == 1);
    return err;
}

#define ANSWER(literal) answer_of(literal, sizeof(literal) - 1)
#define ID "\x62id\x02"
#define CODE                                                                                                           \
    "\x64"                                                                                                             \
    "code\x18\xc8"
#define PATH                                                                                                           \
    "\x64"                                                                                                             \
    "path\x61p"
#define TEXT                                                                                                           \
    "\x64"                                                                                                             \
    "text\x61t"

static void test_bad_answers(void)
{
    CU_ASSERT_EQUAL(ANSWER("\xa4" ID CODE PATH TEXT), CHV_OK);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT "\x61x\xf5"), CHV_OK); /* unknown keys are ignored */
    CU_ASSERT_EQUAL(ANSWER("\xa3" CODE PATH TEXT), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa3" ID PATH TEXT), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa3" ID CODE TEXT), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa3" ID CODE PATH), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa4" ID "\x64"
                           "code\x01" PATH TEXT),
                    CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT "\x64type\x64"
                           "file"),
                    CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT "\x66sha256\x41x"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT "\x65total\x01"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT "\x67receipt\x61r"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa6" ID CODE PATH TEXT "\x67receipt\x05\x69signature\x41s"), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ANSWER("\xa6" ID CODE PATH TEXT "\x67receipt\x61r\x69signature\x41s"), CHV_OK);
    CU_ASSERT_EQUAL(ANSWER("\xa5" ID CODE PATH TEXT ID), CHV_ERR_MALFORMED);
}

/* A request whose argument is wrong is told so by its id; one without id or operation is none. */
static void test_bad_requests(void)
{
    static const struct {
        const char *map;
        size_t len;
        enum chv_err err;
    } cases[] = {
#define CASE(literal, e) {literal, sizeof(literal) - 1, e}
#define OP(letters, op) "\x62op" letters op
        CASE("\xa3" ID OP("\x64", "stat") PATH, CHV_OK),
        CASE("\xa2" ID OP("\x64", "stat"), CHV_OK),
        CASE("\xa3" ID OP("\x64", "stat") "\x64path\x05", CHV_OK),
        CASE("\xa3" ID OP("\x64", "stat") "\x64path\x63"
                                          "a\0b",
             CHV_OK),
        CASE("\xa3" ID OP("\x64", "stat") "\x64path\x62..", CHV_OK),
        CASE("\xa3" ID OP("\x66", "rename") PATH, CHV_OK),
        CASE("\xa3" ID OP("\x63", "put") PATH, CHV_OK),
        CASE("\xa6" ID OP("\x63", "put") PATH "\x64size\x05\x64mode\x19\x02\x00\x65mtime\x05", CHV_OK),
        CASE("\xa6" ID OP("\x63", "put") PATH "\x64size\x24\x64mode\x05\x65mtime\x05", CHV_OK),
#define OFFSET "\x66offset\x05"
#define SHA256(letters) "\x66sha256\x58\x20" letters
#define LETTERS "0123456789abcdef0123456789abcdef"
        CASE("\xa4" ID OP("\x63", "get") PATH SHA256(LETTERS), CHV_OK),
        CASE("\xa5" ID OP("\x63", "get") PATH "\x66offset\x61x" SHA256(LETTERS), CHV_OK),
        CASE("\xa5" ID OP("\x63", "get") PATH "\x66offset\x1b\x80\0\0\0\0\0\0\0" SHA256(LETTERS), CHV_OK),
        CASE("\xa5" ID OP("\x63", "get") PATH OFFSET "\x66sha256\x41x", CHV_OK),
        CASE("\xa3" ID OP("\x63", "set") PATH, CHV_OK),
        CASE("\xa4" ID OP("\x63", "set") PATH "\x64mode\x61x", CHV_OK),
        CASE("\xa4" ID OP("\x63", "set") PATH "\x64mode\x19\x02\x00", CHV_OK),
        CASE("\xa4" ID OP("\x63", "set") PATH "\x65mtime\x1b\x80\0\0\0\0\0\0\0", CHV_OK),
        CASE("\xa4" ID OP("\x68", "checksum") PATH "\x64size\x61x", CHV_OK),
        CASE("\xa4" ID OP("\x68", "checksum") PATH "\x64size\x1b\x80\0\0\0\0\0\0\0", CHV_OK),
        CASE("\xa8" ID OP("\x63", "put") PATH "\x64size\x04\x64mode\x05\x65mtime\x05" OFFSET SHA256(LETTERS), CHV_OK),
        CASE("\xa7" ID OP("\x63", "put") PATH "\x64size\x05\x64mode\x05\x65mtime\x05" OFFSET, CHV_OK),
        CASE("\xa7" ID OP("\x63", "put") PATH "\x64size\x05\x64mode\x05\x65mtime\x05\x66resume\x05", CHV_OK),
        CASE("\xa3" ID OP("\x64", "sta1") PATH, CHV_ERR_MALFORMED),
        CASE("\xa2" OP("\x64", "stat") PATH, CHV_ERR_MALFORMED),
        CASE("\xa2" ID PATH, CHV_ERR_MALFORMED),
        CASE("\xa3" ID OP("\x64", "stat") "\x64path\x61\xff", CHV_ERR_MALFORMED),
        CASE("\xa3" ID OP("\x64", "stat") PATH "\x00", CHV_ERR_MALFORMED),
        CASE("\xbf" ID OP("\x64", "stat") PATH "\xff", CHV_ERR_MALFORMED),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chv_files_request r;
        const char *wrong = NULL;
        CU_ASSERT_EQUAL(chv_files_request_decode((const uint8_t *)cases[i].map, cases[i].len, &r, &wrong),
                        cases[i].err);
        CU_ASSERT_EQUAL(wrong != NULL, i > 0 && cases[i].err == CHV_OK);
    }
}

/* One byte of a good request is another one: it is read as it stands or refused, and nothing breaks. */
static void test_every_byte(void)
{
    const struct chv_files_request r = sample(CHV_FILES_PUT);
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
    for (size_t i = 0; i < len; i++)
        for (unsigned v = 0; v < 256; v++) {
            struct chv_files_request read;
            const char *wrong = NULL;
            const uint8_t was = map[i];
            map[i] = (uint8_t)v;
            if (chv_files_request_decode(map, len, &read, &wrong) == CHV_OK && wrong == NULL)
                CU_ASSERT(read.size <= INT64_MAX && read.mode <= 0777 &&
                          chv_files_path_check(read.path, strlen(read.path)) == NULL);
            map[i] = was;
        }
}

static void test_entries(void)
{
    struct chv_files_entry e = {.meta = {.type = CHV_FILES_FILE, .mode = 0600, .size = large, .mtime = 1}}, read;
    uint8_t buf[2 * CHV_FILES_ENTRY_MAX];
    size_t len = CHV_FILES_ENTRY_MAX, used = 0;
    memset(e.name, 'n', CHV_FILES_NAME_MAX);
    CU_ASSERT_EQUAL_FATAL(chv_files_entry_encode(&e, buf, &len), CHV_OK); /* a longest name fits */
    CU_ASSERT_EQUAL_FATAL(chv_files_entry_decode(buf, sizeof buf, &read, &used), CHV_OK);
    CU_ASSERT_EQUAL(used, len);
    CU_ASSERT_EQUAL(memcmp(&read, &e, sizeof e), 0);
    for (size_t cut = 0; cut < len; cut++)
        CU_ASSERT_EQUAL(chv_files_entry_decode(buf, cut, &read, &used), CHV_ERR_MALFORMED);
    static const char *const bad[] = {"", "..", "a/b", "../x", "a\nb", "\xff", ".chv-part-1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        len = CHV_FILES_ENTRY_MAX;
        memset(e.name, 0, sizeof e.name);
        memcpy(e.name, bad[i], strlen(bad[i]));
        CU_ASSERT_EQUAL_FATAL(chv_files_entry_encode(&e, buf, &len), CHV_OK);
        CU_ASSERT_EQUAL(chv_files_entry_decode(buf, len, &read, &used), CHV_ERR_MALFORMED);
    }
}

TEST_MAIN("files_wire", {"requests", test_requests}, {"unknown", test_unknown}, {"set", test_set},
          {"longest", test_longest}, {"answers", test_answers}, {"bad answers", test_bad_answers},
          {"bad requests", test_bad_requests}, {"every byte", test_every_byte}, {"entries", test_entries})
