/* SPDX-License-Identifier: Apache-2.0 */
/* Files that must not open: each with its own error, a text that helps, and the file left as it was. */
#include <config.h>

#include "tests/keystore/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "keystore/file.h"

/* ---- a file and what it looked like before ---- */

struct snapshot {
    struct stat st;
    struct test_bytes bytes;
};

static struct snapshot snap(const char *path)
{
    struct snapshot s = {.bytes = test_read(path)};
    CU_ASSERT_EQUAL(stat(path, &s.st), 0);
    return s;
}

static void assert_untouched(const char *path, struct snapshot *before)
{
    struct snapshot now = snap(path);
    CU_ASSERT(now.st.st_ino == before->st.st_ino && now.st.st_mode == before->st.st_mode);
    CU_ASSERT(now.st.st_mtim.tv_sec == before->st.st_mtim.tv_sec &&
              now.st.st_mtim.tv_nsec == before->st.st_mtim.tv_nsec);
    CU_ASSERT(now.bytes.len == before->bytes.len && memcmp(now.bytes.ptr, before->bytes.ptr, now.bytes.len) == 0);
    free(now.bytes.ptr);
    free(before->bytes.ptr);
}

/* Reader and writer get `want`, the text names the file and has `says` in it, nothing is changed or left behind. */
static void refused(const char *path, enum chv_err want, const char *says)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_WRITE};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    struct snapshot before = snap(path);
    size_t entries = test_folder_count();
    enum chv_err err = test_try(path, TEST_PASSPHRASE, &why);
    if (err != want || strstr(why.text, path) == NULL || strstr(why.text, says) == NULL) {
        (void)fprintf(stderr, "\nwanted %s with '%s', got %s: %s\n", chv_err_name(want), says, chv_err_name(err),
                      why.text);
        CU_FAIL("another refusal");
    }
    err = chv_keystore_open(path, &options, &ks, NULL);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, NULL);
    CU_ASSERT_EQUAL(err, want);
    chv_keystore_close(ks);
    assert_untouched(path, &before);
    CU_ASSERT_EQUAL(test_folder_count(), entries);
}

static void refused_bytes(const char *bytes, size_t len, enum chv_err want, const char *says)
{
    char *path = test_path("edited.ks");
    test_write(path, bytes, len);
    refused(path, want, says);
    (void)unlink(path);
    free(path);
}

static char *good_path(void)
{
    static char *path;
    if (path == NULL) {
        path = test_path("good.ks");
        test_make_file(path);
    }
    return path;
}

/* ---- passphrase and damage ---- */

static void test_wrong_passphrase(void)
{
    struct chv_why why;
    const char *path = good_path();
    struct snapshot before = snap(path);
    CU_ASSERT_EQUAL(test_try(path, "correct horsf", &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "wrong passphrase (or a file edited on purpose)"));
    CU_ASSERT_EQUAL(test_try(path, TEST_PASSPHRASE " ", &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(test_try(path, TEST_PASSPHRASE, &why), CHV_OK);
    assert_untouched(path, &before);
}

static void test_edited_on_purpose(void)
{
    /* with the digest made to fit: only the tag is left to notice it */
    static const char *const members[] = {"\"iv\": \"", "\"ciphertext\": \"", "\"tag\": \""};
    for (size_t i = 0; i < 3; i++) {
        struct test_bytes file = test_read(good_path());
        char *c = strstr(file.ptr, members[i]) + strlen(members[i]);
        *c = *c == 'A' ? 'B' : 'A';
        refused_bytes(file.ptr, file.len, CHV_ERR_STORE_DAMAGED, "digest does not match");
        test_redigest(&file);
        refused_bytes(file.ptr, file.len, CHV_ERR_PASSPHRASE, "edited on purpose");
        free(file.ptr);
    }
    /* the header is the associated data: a cheaper or dearer cost is not taken, nor another spelling of the same */
    struct test_bytes file = test_with_header(good_path(), "16384", "32768");
    refused_bytes(file.ptr, file.len, CHV_ERR_PASSPHRASE, "edited on purpose");
    free(file.ptr);
    file = test_with_header(good_path(), ",\"p\"", ", \"p\"");
    refused_bytes(file.ptr, file.len, CHV_ERR_PASSPHRASE, "edited on purpose");
    free(file.ptr);
}

static bool is_refusal(enum chv_err err)
{
    return err == CHV_ERR_STORE_DAMAGED || err == CHV_ERR_STORE_FORMAT || err == CHV_ERR_STORE_TRUNCATED ||
           err == CHV_ERR_STORE_COST;
}

/* What open() says of these bytes, without a passphrase. */
static enum chv_err opened(const char *path, const char *bytes, size_t len, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct chv_keystore *ks = NULL;
    test_write(path, bytes, len);
    why->text[0] = '\0';
    enum chv_err err = chv_keystore_open(path, &options, &ks, why);
    chv_keystore_close(ks);
    return err;
}

static void test_each_byte_changed(void)
{
    struct test_bytes file = test_read(good_path());
    struct chv_why why;
    char *path = test_path("flipped.ks");
    const char changes[] = {1, 0x20};
    size_t body = (size_t)(strstr(file.ptr, "\"iv\"") - file.ptr), damaged = 0;
    for (size_t i = 0; i < file.len; i++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            file.ptr[i] ^= changes[k];
            enum chv_err err = opened(path, file.ptr, file.len, &why);
            if (!is_refusal(err) || strstr(why.text, path) == NULL) {
                (void)fprintf(stderr, "byte %zu ^ %d: %s %s\n", i, changes[k], chv_err_name(err), why.text);
                CU_FAIL("a changed byte was not noticed");
            }
            damaged += i >= body && err == CHV_ERR_STORE_DAMAGED;
            file.ptr[i] ^= changes[k];
        }
        /* white space that JSON does not care about */
        if (file.ptr[i] == ' ' || file.ptr[i] == '\n') {
            char was = file.ptr[i];
            file.ptr[i] = '\t';
            CU_ASSERT_EQUAL(opened(path, file.ptr, file.len, &why), CHV_ERR_STORE_DAMAGED);
            file.ptr[i] = was;
        }
    }
    CU_ASSERT_EQUAL(damaged, sizeof changes * (file.len - body));
    CU_ASSERT_EQUAL(opened(path, file.ptr, file.len, &why), CHV_OK);
    (void)unlink(path);
    free(path);
    free(file.ptr);
}

static void test_truncated(void)
{
    struct test_bytes file = test_read(good_path());
    struct chv_why why;
    char *path = test_path("short.ks");
    for (size_t i = 0; i < file.len; i++) {
        enum chv_err err = opened(path, file.ptr, i, &why);
        if (err != CHV_ERR_STORE_TRUNCATED) {
            (void)fprintf(stderr, "%zu bytes: %s %s\n", i, chv_err_name(err), why.text);
            CU_FAIL("not reported as truncated");
        }
    }
    (void)unlink(path);
    refused_bytes(file.ptr, 0, CHV_ERR_STORE_TRUNCATED, "is empty");
    refused_bytes(file.ptr, 100, CHV_ERR_STORE_TRUNCATED, "ends after 100 bytes");
    refused_bytes(file.ptr, file.len - 1, CHV_ERR_STORE_TRUNCATED, "is truncated");
    free(path);
    free(file.ptr);
}

static void test_reformatted(void)
{
    struct test_bytes file = test_read(good_path());
    char *edited = test_replaced(file.ptr, "\n  \"iv\": ", "\"iv\":");
    refused_bytes(edited, strlen(edited), CHV_ERR_STORE_DAMAGED, "white space");
    free(edited);
    edited = test_replaced(file.ptr, "\n}\n", "\n}\n\n");
    refused_bytes(edited, strlen(edited), CHV_ERR_STORE_DAMAGED, "white space");
    free(edited);
    edited = test_replaced(file.ptr, "\n}\n", "\n}\nmore");
    refused_bytes(edited, strlen(edited), CHV_ERR_STORE_DAMAGED, "no JSON any more");
    free(edited);
    edited = test_replaced(file.ptr, "\"iv\"", "\"iw\"");
    refused_bytes(edited, strlen(edited), CHV_ERR_STORE_DAMAGED, "its members");
    free(edited);
    edited = test_replaced(file.ptr, "{\n", "{\n  \"tag\": \"x\",\n");
    refused_bytes(edited, strlen(edited), CHV_ERR_STORE_FORMAT, "not a chaveiro keystore");
    free(edited);
    free(file.ptr);
}

static void test_garbage(void)
{
    struct test_bytes file = test_read(good_path());
    struct chv_why why;
    char *path = test_path("garbage.ks");
    char bytes[512];
    uint32_t x = 2463534242U; /* xorshift32: the same garbage every time */
    for (size_t round = 0; round < 600; round++) {
        size_t keep = round % 2 == 0 ? 0 : round % 200;
        for (size_t i = 0; i < sizeof bytes; i++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            bytes[i] = (char)(round % 3 == 0 ? "{}[]\":,x1 \\u"[(x >> 8) % 12] : (char)(x >> 24));
        }
        memcpy(bytes, file.ptr, keep);
        enum chv_err err = opened(path, bytes, 1 + (x >> 8) % sizeof bytes, &why);
        CU_ASSERT(is_refusal(err));
    }
    (void)unlink(path);
    free(path);
    free(file.ptr);
}

/* ---- other formats, other versions, other contents ---- */

static void test_other_formats(void)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{\"protected\": 1}",
        "{\"protected\": \"\"}",
        "{\"a\": \"b\"}",
        "-----BEGIN PRIVATE KEY-----\n",
        "\n",
        "\xef\xbb\xbf{}",
        "{\"keys\":[]}",
        "{\"protected\": \"e30\", \"iv\": \"AA\", \"ciphertext\": \"AA\", \"tag\": \"AA\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct chv_why why;
        char *path = test_path("other.ks");
        enum chv_err err = opened(path, texts[i], strlen(texts[i]), &why);
        if (err != CHV_ERR_STORE_FORMAT && !(err == CHV_ERR_STORE_DAMAGED && strstr(texts[i], "e30") != NULL)) {
            (void)fprintf(stderr, "%s: %s %s\n", texts[i], chv_err_name(err), why.text);
            CU_FAIL("another format was not recognised");
        }
        (void)unlink(path);
        free(path);
    }
}

struct header_case {
    const char *from, *to;
    enum chv_err want;
    const char *says;
};

static void test_headers(void)
{
    static const struct header_case cases[] = {
        {"\"v\":1", "\"v\":2", CHV_ERR_STORE_FORMAT, "version 2, this program knows 1"},
        {"\"v\":1", "\"v\":\"1\"", CHV_ERR_STORE_FORMAT, "header"},
        {"chaveiro-keystore", "something-else", CHV_ERR_STORE_FORMAT, "not a chaveiro keystore"},
        {"\"alg\":\"scrypt\"", "\"alg\":\"argon2id\"", CHV_ERR_STORE_FORMAT, "header"},
        {"A256GCM", "A128GCM", CHV_ERR_STORE_FORMAT, "header"},
        {"jwk-set+json", "text/plain", CHV_ERR_STORE_FORMAT, "header"},
        {"\"v\":1", "\"v\":1,\"x\":1", CHV_ERR_STORE_FORMAT, "header"},
        {"\"r\":8,", "", CHV_ERR_STORE_FORMAT, "header"},
        {"16384", "\"16384\"", CHV_ERR_STORE_FORMAT, "header"},
        {"16384", "16384.0", CHV_ERR_STORE_FORMAT, "header"},
        {"\"salt\":\"", "\"salt\":\"A", CHV_ERR_STORE_FORMAT, "salt"},
        {"\"salt\":\"", "\"salt\":\"\",\"tlas\":\"", CHV_ERR_STORE_FORMAT, "header"},
        {"16384", "8192", CHV_ERR_STORE_COST, "N=8192"},
        {"16384", "2097152", CHV_ERR_STORE_COST, "N=2097152"},
        {"16384", "4611686018427387904", CHV_ERR_STORE_COST, "power of two from 2^14 to 2^20"},
        {"16384", "24576", CHV_ERR_STORE_COST, "power of two"},
        {"16384", "0", CHV_ERR_STORE_COST, "N=0"},
        {"16384", "-16384", CHV_ERR_STORE_COST, "power of two"},
        {"\"r\":8", "\"r\":0", CHV_ERR_STORE_COST, "r=0"},
        {"\"r\":8", "\"r\":17", CHV_ERR_STORE_COST, "r=17"},
        {"\"r\":8", "\"r\":4294967297", CHV_ERR_STORE_COST, "r=4294967297"},
        {"\"p\":1", "\"p\":0", CHV_ERR_STORE_COST, "p=0"},
        {"\"p\":1", "\"p\":5", CHV_ERR_STORE_COST, "p=5"},
        {"16384,\"r\":8", "1048576,\"r\":16", CHV_ERR_STORE_COST, "2048 MiB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test_bytes file = test_with_header(good_path(), cases[i].from, cases[i].to);
        refused_bytes(file.ptr, file.len, cases[i].want, cases[i].says);
        /* an absurd cost is called so even where the digest was forgotten */
        char *digest = strstr(file.ptr, "\"digest\": \"") + strlen("\"digest\": \"");
        *digest = *digest == 'A' ? 'B' : 'A';
        bool cost = cases[i].want == CHV_ERR_STORE_COST;
        refused_bytes(file.ptr, file.len, cost ? CHV_ERR_STORE_COST : CHV_ERR_STORE_DAMAGED,
                      cost ? cases[i].says : "digest");
        free(file.ptr);
    }
}

static void test_nonce_and_tag_lengths(void)
{
    static const char *const from[] = {"\"iv\": \"", "\"tag\": \"", "\"ciphertext\": \""};
    static const char *const to[] = {"\"iv\": \"AAAA", "\"tag\": \"AAAA", "\"ciphertext\": \"*"};
    for (size_t i = 0; i < 3; i++) {
        struct test_bytes file = test_read(good_path());
        struct test_bytes edited = {.ptr = test_replaced(file.ptr, from[i], to[i])};
        edited.len = strlen(edited.ptr);
        test_redigest(&edited);
        refused_bytes(edited.ptr, edited.len, CHV_ERR_STORE_FORMAT, "nonce, ciphertext or tag");
        free(edited.ptr);
        free(file.ptr);
    }
}

/* Base64url of 32 zero bytes, and of the public X25519 key of that private key. */
#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define ZEROS_PUBLIC "L-V9o0fNYkMVKNqsX7spBzD_9oSvxM_C7ZCZX1jLO3Q"
#define PAIR(x, ops)                                                                                                   \
    "{\"kty\":\"OKP\",\"kid\":\"i\",\"crv\":\"X25519\",\"x\":\"" x "\",\"d\":\"" ZEROS "\",\"key_ops\":" ops "}"
#define SECRET(kid) "{\"kty\":\"oct\",\"kid\":\"" kid "\",\"k\":\"" ZEROS "\"}"
#define KEYS(keys) "{\"keys\":[" keys "],\"data\":{}}"

/* Seals any contents as a keystore file under the tests' passphrase. */
static enum chv_err try_contents(const char *plain)
{
    struct chv_crypto crypto = {0};
    struct chv_file_cost cost = {TEST_N, CHV_FILE_R_DEFAULT, CHV_FILE_P_DEFAULT};
    OSSL_LIB_CTX *ossl = OSSL_LIB_CTX_new();
    char *text = NULL, *path = test_path("contents.ks");
    size_t len = 0;
    struct chv_why why;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_file_envelope_seal(&crypto, ossl, &cost, TEST_PASSPHRASE, strlen(TEST_PASSPHRASE),
                                                 (const uint8_t *)plain, strlen(plain), path, &text, &len, NULL),
                          CHV_OK);
    test_write(path, text, len);
    enum chv_err err = test_try(path, TEST_PASSPHRASE, &why);
    if (err == CHV_ERR_STORE_FORMAT)
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "the passphrase is right"));
    (void)unlink(path);
    free(path);
    free(text);
    chv_backend_close(&crypto);
    OSSL_LIB_CTX_free(ossl);
    return err;
}

static void test_contents(void)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"keys\":[]}",
        "{\"keys\":{},\"data\":{}}",
        "{\"keys\":[],\"data\":[]}",
        "{\"keys\":[],\"data\":{},\"more\":1}",
        "{\"keys\":[],\"keys\":[],\"data\":{}}",
        "{\"keys\":[],\"data\":{}} ...",
        "{\"keys\":[],\"data\":{\"a\":1}}",
        "{\"keys\":[],\"data\":{\"a\":\"====\"}}",
        "{\"keys\":[],\"data\":{\"a b\":\"AAAA\"}}",
        "{\"keys\":[" SECRET("a") "],\"data\":{\"a\":\"AAAA\"}}",
        KEYS("1"),
        KEYS("{}"),
        KEYS(SECRET("")),
        KEYS(SECRET("a/b")),
        KEYS(SECRET("a") "," SECRET("a")),
        KEYS("{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AAAA\"}"),
        KEYS("{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"" ZEROS "\",\"alg\":\"HS256\"}"),
        KEYS("{\"kty\":\"RSA\",\"kid\":\"a\",\"k\":\"" ZEROS "\"}"),
        KEYS(PAIR(ZEROS, "[\"deriveBits\"]")),  /* not the private key's public key */
        KEYS(PAIR(ZEROS_PUBLIC, "[\"sign\"]")), /* X25519 cannot sign */
        KEYS(PAIR(ZEROS_PUBLIC, "[\"deriveKey\"]")),
        KEYS(PAIR(ZEROS_PUBLIC, "[\"deriveBits\",\"sign\"]")),
        KEYS(PAIR(ZEROS_PUBLIC, "[]")),
        KEYS("{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"x\":\"" ZEROS "\",\"y\":\"" ZEROS "\",\"d\":\"" ZEROS
             "\",\"key_ops\":[\"sign\"]}"), /* scalar 0 */
    };
    CU_ASSERT_EQUAL(try_contents(KEYS("")), CHV_OK);
    CU_ASSERT_EQUAL(try_contents(KEYS(SECRET("a"))), CHV_OK);
    CU_ASSERT_EQUAL(try_contents(KEYS(PAIR(ZEROS_PUBLIC, "[\"deriveBits\"]"))), CHV_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum chv_err err = try_contents(bad[i]);
        if (err != CHV_ERR_STORE_FORMAT) {
            (void)fprintf(stderr, "\n%s: %s\n", bad[i], chv_err_name(err));
            CU_FAIL("bad contents were taken");
        }
    }
}

/* ---- what kind of file, whose, with what mode ---- */

static void test_kinds(void)
{
    struct chv_why why;
    char *path = test_path("kind");
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    CU_ASSERT_EQUAL(test_try(path, "x", &why), CHV_ERR_STORE_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "is a folder"));
    CU_ASSERT_EQUAL(rmdir(path), 0);

    CU_ASSERT_EQUAL(mkfifo(path, 0600), 0); /* nobody writes: a plain open would wait for ever */
    CU_ASSERT_EQUAL(test_try(path, "x", &why), CHV_ERR_STORE_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "FIFO"));
    CU_ASSERT_EQUAL(unlink(path), 0);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) < sizeof address.sun_path) {
        memcpy(address.sun_path, path, strlen(path));
        CU_ASSERT_EQUAL(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
        CU_ASSERT_EQUAL(test_try(path, "x", &why), CHV_ERR_STORE_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "is a socket"));
        CU_ASSERT_EQUAL(unlink(path), 0);
    }
    close(fd);

    CU_ASSERT_EQUAL(test_try("/dev/null", "x", &why), CHV_ERR_STORE_FORMAT);
    CU_ASSERT_EQUAL(test_try(path, "x", &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));

    test_write(path, "{", 1);
    CU_ASSERT_EQUAL(truncate(path, CHV_FILE_SIZE_MAX + 1), 0);
    refused(path, CHV_ERR_STORE_FORMAT, "at most 1048576");
    (void)unlink(path);
    free(path);
}

static void test_mode(void)
{
    static const mode_t bad[] = {0640, 0620, 0604, 0602, 0644, 0660, 0666, 0777};
    char *path = test_path("mode.ks");
    struct test_bytes file = test_read(good_path());
    test_write(path, file.ptr, file.len);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(chmod(path, bad[i]), 0);
        refused(path, CHV_ERR_STORE_MODE, "chmod 600");
    }
    CU_ASSERT_EQUAL(chmod(path, 0400), 0);
    CU_ASSERT(test_file_is_good(path));
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
    CU_ASSERT(test_file_is_good(path));
    (void)unlink(path);
    free(path);
    free(file.ptr);
}

enum { NOBODY = 65534 };

/* A file of root's that somebody else can open all the same: only root can set that up. */
static void test_owner(void)
{
    struct chv_why why;
    const char *path = good_path();
    int status = -1;
    if (geteuid() != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        if (seteuid(NOBODY) != 0)
            _exit(2);
        (void)setfsuid(0); /* opens as root, asks as nobody */
        enum chv_err err = test_try(path, TEST_PASSPHRASE, &why);
        _exit(err == CHV_ERR_STORE_MODE && strstr(why.text, "belongs to user 0") != NULL ? 0 : 1);
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
}

/* Root may open anybody's, and leaves it theirs. */
static void test_root_keeps_owner(void)
{
    struct stat st;
    char *path = test_path("theirs.ks");
    if (geteuid() == 0) {
        test_make_file(path);
        CU_ASSERT_EQUAL(chown(path, NOBODY, NOBODY), 0);
        for (int i = 0; i < 2; i++) {
            struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
            CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
            CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
            chv_keystore_close(ks);
            CU_ASSERT_EQUAL(stat(path, &st), 0);
            CU_ASSERT(st.st_uid == NOBODY && st.st_gid == NOBODY && (st.st_mode & 07777) == 0600);
        }
        (void)unlink(path);
    }
    free(path);
}

TEST_MAIN("keystore: files that are refused", {"wrong passphrase", test_wrong_passphrase},
          {"edited on purpose", test_edited_on_purpose}, {"each byte changed", test_each_byte_changed},
          {"truncated at each length", test_truncated}, {"reformatted", test_reformatted}, {"garbage", test_garbage},
          {"other formats", test_other_formats}, {"headers and costs", test_headers},
          {"lengths of nonce and tag", test_nonce_and_tag_lengths}, {"contents", test_contents},
          {"folder, FIFO, socket, device, size", test_kinds}, {"mode", test_mode}, {"owner", test_owner},
          {"root keeps the owner", test_root_keeps_owner})
