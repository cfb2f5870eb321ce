/* SPDX-License-Identifier: Apache-2.0 */
/* The file keystore beside its contract: the document's example, passphrases, links, locks, what is left behind. */
#include <config.h>

#include "tests/keystore/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/encode.h"

/* ---- the example of doc/keystore-format.md ---- */

static void test_document(void)
{
    static const char master[] = "a5041a37864ba35116ff74a7e7d63fe65bd2fad5d7adb3042bfe42e8eeda06f3";
    const char *top = getenv("top_srcdir");
    char doc_path[4096], hex[65];
    uint8_t out[CHV_DH_PUBLIC_MAX];
    size_t len = sizeof out;
    enum chv_curve curve;
    (void)snprintf(doc_path, sizeof doc_path, "%s/doc/keystore-format.md", top != NULL ? top : ".");
    struct test_bytes doc = test_read(doc_path);
    char *start = strstr(doc.ptr, "```json\n");
    char *end = start == NULL ? NULL : strstr(start += strlen("```json\n"), "```");
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    if (end == NULL)
        return;
    char *path = test_path("example.ks");
    test_write(path, start, (size_t)(end - start));
    CU_ASSERT_PTR_NOT_NULL(strstr(doc.ptr, "`correct horse battery staple`"));
    CU_ASSERT_PTR_NOT_NULL(strstr(doc.ptr, master));

    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret secret = {.text = "correct horse battery staple"};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(path, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, test_secret, &secret, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:1", (const uint8_t *)"chaveiro v1 check",
                                        sizeof "chaveiro v1 check", out, NULL),
                    CHV_OK);
    chv_hex_encode(out, 32, hex);
    CU_ASSERT_STRING_EQUAL(hex, master);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "server", out, &len, NULL), CHV_OK);
    CU_ASSERT(len == 6 && memcmp(out, "cellar", 6) == 0);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "identity", &curve, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(curve, CHV_CURVE_25519);
    chv_keystore_close(ks);
    (void)unlink(path);
    free(path);
    free(doc.ptr);
}

/* ---- passphrases ---- */

static enum chv_err create_with(const char *path, struct test_secret *secret, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(path, &options, &ks, NULL), CHV_OK);
    enum chv_err err = chv_keystore_unlock(ks, test_secret, secret, why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    chv_keystore_close(ks);
    return err;
}

static enum chv_err claims_too_much(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                    struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)out;
    (void)why;
    *len = cap + 1;
    return CHV_OK;
}

static enum chv_err says_nothing(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                 struct chv_why *why)
{
    (void)claims_too_much(arg, prompt, confirm, out, cap, len, why);
    *len = 0;
    return CHV_OK;
}

static void test_passphrases(void)
{
    char longest[1025];
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    char *path = test_path("with:colon.ks"), *uri = test_replaced(path, "/", "file:/");
    memset(longest, 'p', sizeof longest);

    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, says_nothing, NULL, &why), CHV_ERR_NO_SECRET);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "empty passphrase"));
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, claims_too_much, NULL, &why), CHV_ERR_ARGUMENT);
    chv_keystore_close(ks);

    struct test_secret secret = {.text = longest, .len = 1025};
    CU_ASSERT_EQUAL(create_with(uri, &secret, &why), CHV_ERR_SPACE); /* the callback's own refusal */
    secret.len = 1024;
    CU_ASSERT_EQUAL(create_with(uri, &secret, &why), CHV_OK);
    CU_ASSERT_PTR_NULL(strchr(secret.prompt, ':'));
    CU_ASSERT_PTR_NOT_NULL(strstr(secret.prompt, "with?colon.ks"));
    options.mode = CHV_KEYSTORE_READ;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    secret.len = 1023;
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &secret, &why), CHV_ERR_PASSPHRASE);
    secret.len = 1024;
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &secret, &why), CHV_OK);
    chv_keystore_close(ks);
    (void)unlink(path);

    /* bytes, not text: a NUL counts */
    struct test_secret binary = {.text = "a\0b", .len = 3}, cut = {.text = "a", .len = 1};
    CU_ASSERT_EQUAL(create_with(uri, &binary, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &cut, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &binary, &why), CHV_OK);
    chv_keystore_close(ks);
    (void)unlink(path);
    free(path);
    free(uri);
}

/* ---- writing ---- */

static void test_fresh_salt_and_nonce(void)
{
    struct stat st;
    char *path = test_fresh_path();
    mode_t mask = umask(0777); /* the mode is 0600 whatever the umask says */
    test_make_file(path);
    (void)umask(mask);
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 07777, 0600);
    struct test_bytes first = test_read(path);
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    struct test_bytes second = test_read(path);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    struct test_bytes third = test_read(path);
    chv_keystore_close(ks);
    /* line 2 is the header with the salt, line 3 the nonce */
    struct test_bytes *files[] = {&first, &second, &third};
    for (size_t i = 0; i < 3; i++) {
        const struct test_bytes *a = files[i], *b = files[(i + 1) % 3];
        CU_ASSERT_EQUAL_FATAL(a->len, b->len);
        const char *iv_a = strstr(a->ptr, "\"iv\""), *iv_b = strstr(b->ptr, "\"iv\"");
        CU_ASSERT(memcmp(a->ptr, b->ptr, (size_t)(iv_a - a->ptr)) != 0);
        CU_ASSERT(memcmp(iv_a, iv_b, 25) != 0);
    }
    for (size_t i = 0; i < 3; i++)
        free(files[i]->ptr);
    CU_ASSERT(test_file_is_good(path));
    (void)unlink(path);
    free(path);
}

static void test_costs_of_new_files(void)
{
    static const uint64_t bad[] = {1, 8192, 16385, UINT64_C(1) << 21, UINT64_C(1) << 63};
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    char *path = test_fresh_path();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = bad[i]};
        CU_ASSERT_EQUAL(chv_keystore_open(path, &options, &ks, &why), CHV_ERR_STORE_COST);
        CU_ASSERT_PTR_NULL(ks);
    }
    CU_ASSERT_EQUAL(test_folder_count(), 0);
    free(path);
}

/* The default cost, once: N = 131072, r = 8, p = 1. */
static void test_default_cost(void)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    char *path = test_fresh_path();
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(path, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &secret, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
    struct test_bytes file = test_read(path);
    char header[512] = "";
    size_t len = sizeof header - 1;
    const char *start = strstr(file.ptr, "\"protected\": \"") + strlen("\"protected\": \"");
    CU_ASSERT_EQUAL(chv_base64_decode(start, strcspn(start, "\""), (uint8_t *)header, &len), CHV_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(header, "\"n\":131072,\"r\":8,\"p\":1,"));
    free(file.ptr);
    (void)unlink(path);
    free(path);
}

static void test_too_much(void)
{
    static uint8_t data[CHV_KEYSTORE_DATA_MAX];
    struct chv_why why = {""};
    char *path = test_fresh_path(), label[16];
    test_make_file(path);
    struct test_bytes before = test_read(path);
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    for (int i = 0; i < 150; i++) {
        (void)snprintf(label, sizeof label, "d%d", i);
        CU_ASSERT_EQUAL(chv_keystore_data_put(ks, label, data, sizeof data, NULL), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_ERR_SPACE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "at most 1048576"));
    struct test_bytes after = test_read(path);
    CU_ASSERT(after.len == before.len && memcmp(after.ptr, before.ptr, after.len) == 0);
    free(after.ptr);
    free(before.ptr);
    /* and it goes on once there is less */
    for (int i = 0; i < 149; i++) {
        (void)snprintf(label, sizeof label, "d%d", i);
        CU_ASSERT_EQUAL(chv_keystore_remove(ks, label, NULL), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
    CU_ASSERT(test_file_is_good(path));
    (void)unlink(path);
    free(path);
}

/* Many keys: the table grows, order and contents stay. */
static void test_many_keys(void)
{
    uint8_t first[32], again[32];
    char *path = test_fresh_path(), label[16];
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(label, sizeof label, "k%d", (i * 37) % 100);
        CU_ASSERT_EQUAL(chv_keystore_generate(ks, label, NULL), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "k37", (const uint8_t *)"x", 1, first, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
    ks = test_open(path, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "k37", (const uint8_t *)"x", 1, again, NULL), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(first, again, 32), 0);
    chv_keystore_close(ks);
    (void)unlink(path);
    free(path);
}

/* ---- links and names ---- */

static void test_symbolic_links(void)
{
    struct stat st;
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_keystore_options create = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    struct chv_keystore_options write = {.mode = CHV_KEYSTORE_WRITE};
    char *path = test_path("real.ks"), *folder = test_path("links"), *link = test_path("links/to.ks");
    CU_ASSERT_EQUAL(mkdir(folder, 0700), 0);
    test_make_file(path);
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    ino_t old = st.st_ino;
    CU_ASSERT_EQUAL(symlink("../real.ks", link), 0);
    CU_ASSERT(test_file_is_good(link));

    struct chv_keystore *writer = test_open(link, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(writer);
    CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &ks, &why), CHV_ERR_BUSY); /* both names share the lock */
    CU_ASSERT_EQUAL(chv_keystore_generate(writer, "through", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(writer, NULL), CHV_OK);
    chv_keystore_close(writer);
    CU_ASSERT_EQUAL(lstat(link, &st), 0);
    CU_ASSERT(S_ISLNK(st.st_mode));
    CU_ASSERT_EQUAL(lstat(path, &st), 0);
    CU_ASSERT(S_ISREG(st.st_mode) && st.st_ino != old);

    CU_ASSERT_EQUAL(chv_keystore_open(link, &create, &ks, &why), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_EQUAL(chv_keystore_open(link, &create, &ks, &why), CHV_ERR_EXISTS); /* dangling */
    CU_ASSERT_EQUAL(chv_keystore_open(link, &write, &ks, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NULL(ks);
    CU_ASSERT_EQUAL(unlink(link), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0); /* nothing was left in it */
    free(path);
    free(folder);
    free(link);
}

static void test_bad_places(void)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_keystore_options create = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    char *path = test_path("no-such-folder/a.ks"), *slash = test_path(""), *dot = test_path("."), name[256];
    CU_ASSERT_EQUAL(chv_keystore_open(path, &create, &ks, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "folder"));
    CU_ASSERT_EQUAL(chv_keystore_open(slash, &create, &ks, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_open(dot, &create, &ks, &why), CHV_ERR_ARGUMENT);
    free(path);
    free(slash);
    free(dot);
    /* room for .lock, none for the temporary name */
    memset(name, 'n', 240);
    name[240] = '\0';
    path = test_path(name);
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    CU_ASSERT_EQUAL(create_with(path, &secret, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "too long"));
    CU_ASSERT_EQUAL(test_folder_count(), 0);
    free(path);
}

/* ---- the lock ---- */

static void test_lock(void)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_keystore_options write = {.mode = CHV_KEYSTORE_WRITE}, create = {.mode = CHV_KEYSTORE_CREATE};
    char *path = test_fresh_path(), pid[32];
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());

    /* two that create: the second is told to wait, not that nothing is there */
    struct chv_keystore *creator = test_open(path, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(creator);
    CU_ASSERT_EQUAL(chv_keystore_open(path, &create, &ks, &why), CHV_ERR_BUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, pid));
    chv_keystore_close(creator);
    CU_ASSERT_EQUAL(test_folder_count(), 0);

    test_make_file(path);
    struct chv_keystore *writer = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(writer);
    CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &ks, &why), CHV_ERR_BUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, pid));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));
    write.lock_seconds = 1;
    CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &ks, &why), CHV_ERR_BUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "waited 1 s"));
    CU_ASSERT(test_file_is_good(path)); /* readers take no lock */
    chv_keystore_close(writer);
    CU_ASSERT_EQUAL(test_folder_count(), 1);
    (void)unlink(path);
    free(path);
}

/* Descriptors that a program started from here would get. */
static int inheritable(void)
{
    int n = 0;
    for (int fd = 3; fd < 64; fd++) {
        int flags = fcntl(fd, F_GETFD);
        n += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    return n;
}

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 64; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_descriptors(void)
{
    char *path = test_fresh_path();
    test_make_file(path);
    int before = inheritable(), open_before = open_descriptors();
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT(open_descriptors() > open_before); /* folder and lock */
    CU_ASSERT_EQUAL(inheritable(), before);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(open_descriptors(), open_before);
    ks = test_open(path, CHV_KEYSTORE_READ);
    CU_ASSERT_EQUAL(open_descriptors(), open_before); /* a reader keeps none */
    chv_keystore_close(ks);
    (void)unlink(path);
    free(path);
}

static void test_stale_lock(void)
{
    char *path = test_path("stale.ks"), *lock = test_path("stale.ks.lock");
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_keystore_options write = {.mode = CHV_KEYSTORE_WRITE};
    test_make_file(path);
    test_write(lock, "1\n", 2); /* its process is gone: nobody holds it */
    ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL(ks);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(test_folder_count(), 1);

    /* held by somebody whose number cannot be read */
    test_write(lock, "?", 1);
    int fd = open(lock, O_RDWR | O_CLOEXEC);
    CU_ASSERT_EQUAL(flock(fd, LOCK_EX), 0);
    ks = NULL;
    CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &ks, &why), CHV_ERR_BUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "another process"));
    close(fd);
    (void)unlink(lock);

    /* a link in its place is not followed */
    CU_ASSERT_EQUAL(symlink("elsewhere", lock), 0);
    CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &ks, &why), CHV_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "stale.ks.lock"));
    (void)unlink(lock);
    CU_ASSERT_EQUAL(test_folder_count(), 1);
    (void)unlink(path);
    free(path);
    free(lock);
}

static void test_leftovers(void)
{
    static const char *const ours = ".left.ks.0123456789abcdef01234567.new";
    static const char *const others[] = {
        ".left.ks.0123456789abcdef0123456.new",  ".left.ks.0123456789abcdef012345678.new",
        ".left.ks.0123456789ABCDEF01234567.new", ".left.ks.more.0123456789abcdef01234567.new",
        "left.ks.0123456789abcdef01234567.new",  ".left.ks.0123456789abcdef01234567.old",
        ".heft.ks.0123456789abcdef01234567.new", ".left.ks"};
    char *path = test_path("left.ks"), *left = test_path(ours);
    test_make_file(path);
    test_write(left, "half", 4);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *other = test_path(others[i]);
        test_write(other, "x", 1);
        free(other);
    }
    CU_ASSERT(test_file_is_good(path)); /* a reader does not tidy */
    CU_ASSERT_EQUAL(access(left, F_OK), 0);
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL(ks);
    chv_keystore_close(ks);
    CU_ASSERT_NOT_EQUAL(access(left, F_OK), 0);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *other = test_path(others[i]);
        CU_ASSERT_EQUAL(access(other, F_OK), 0);
        (void)unlink(other);
        free(other);
    }
    (void)unlink(path);
    CU_ASSERT_EQUAL(test_folder_count(), 0);
    free(path);
    free(left);
}

TEST_MAIN("keystore: file", {"example of the document", test_document}, {"costs of new files", test_costs_of_new_files},
          {"default cost", test_default_cost}, {"passphrases", test_passphrases},
          {"fresh salt and nonce", test_fresh_salt_and_nonce}, {"over 1 MiB", test_too_much},
          {"many keys", test_many_keys}, {"symbolic links", test_symbolic_links}, {"bad places", test_bad_places},
          {"lock", test_lock}, {"descriptors", test_descriptors}, {"stale lock", test_stale_lock},
          {"leftovers", test_leftovers})
