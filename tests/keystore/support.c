/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tests/keystore/support.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/encode.h"

static char folder[256];
static pid_t folder_owner;

enum chv_err test_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                         struct chv_why *why)
{
    struct test_secret *secret = arg;
    secret->asked++;
    secret->confirm = confirm;
    (void)snprintf(secret->prompt, sizeof secret->prompt, "%s", prompt);
    if (secret->text == NULL)
        return chv_fail(why, CHV_ERR_NO_SECRET, "the test has none");
    size_t n = secret->len != 0 ? secret->len : strlen(secret->text);
    if (n > cap)
        return chv_fail(why, CHV_ERR_SPACE, "%zu bytes, room for %zu", n, cap);
    memcpy(out, secret->text, n);
    *len = n;
    return CHV_OK;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder_owner == getpid()) /* not in a child that leaves by exit() */
        (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
    if (folder[0] == '\0') {
        const char *tmp = getenv("TMPDIR");
        (void)snprintf(folder, sizeof folder, "%s/chaveiro-keystore-XXXXXX", tmp != NULL && tmp[0] ? tmp : "/tmp");
        if (mkdtemp(folder) == NULL) {
            perror(folder);
            exit(EXIT_FAILURE);
        }
        folder_owner = getpid();
        (void)atexit(remove_folder);
    }
    return folder;
}

char *test_path(const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", test_folder(), name) < 0)
        exit(EXIT_FAILURE);
    return path;
}

char *test_fresh_path(void)
{
    static unsigned count;
    char name[32];
    (void)snprintf(name, sizeof name, "store%u.ks", ++count);
    return test_path(name);
}

size_t test_folder_count(void)
{
    size_t n = 0;
    DIR *dir = opendir(test_folder());
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

struct chv_keystore *test_open(const char *uri, enum chv_keystore_mode mode)
{
    struct chv_keystore_options options = {.mode = mode, .lock_seconds = 60, .scrypt_n = TEST_N};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    enum chv_err err = chv_keystore_open(uri, &options, &ks, &why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, &why);
    if (err != CHV_OK) {
        (void)fprintf(stderr, "%s: %s\n", chv_err_name(err), why.text);
        CU_FAIL("cannot open and unlock");
        chv_keystore_close(ks);
        return NULL;
    }
    return ks;
}

static const uint8_t one[CHV_SECRET_LEN] = {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                            0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                            0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11};

void test_make_file(const char *path)
{
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "one", one, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "note", (const uint8_t *)"hello", 5, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
}

bool test_file_is_good(const char *path)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    uint8_t note[16], derived[CHV_SECRET_LEN];
    size_t len = sizeof note;
    bool good = chv_keystore_open(path, &options, &ks, NULL) == CHV_OK &&
                chv_keystore_unlock(ks, test_secret, &secret, NULL) == CHV_OK &&
                chv_keystore_data_get(ks, "note", note, &len, NULL) == CHV_OK && len == 5 &&
                memcmp(note, "hello", 5) == 0 &&
                chv_keystore_derive(ks, "one", (const uint8_t *)"x", 1, derived, NULL) == CHV_OK;
    chv_keystore_close(ks);
    return good;
}

enum chv_err test_try(const char *path, const char *passphrase, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret secret = {.text = passphrase};
    struct chv_keystore *ks = NULL;
    why->text[0] = '\0';
    enum chv_err err = chv_keystore_open(path, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, why);
    chv_keystore_close(ks);
    return err;
}

struct test_bytes test_read(const char *path)
{
    struct test_bytes file = {.ptr = NULL};
    FILE *f = fopen(path, "rbe");
    if (f == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    (void)fseek(f, 0, SEEK_END);
    file.len = (size_t)ftell(f);
    rewind(f);
    file.ptr = calloc(1, file.len + 1);
    if (file.ptr == NULL || fread(file.ptr, 1, file.len, f) != file.len)
        exit(EXIT_FAILURE);
    (void)fclose(f);
    return file;
}

void test_write(const char *path, const char *bytes, size_t len)
{
    (void)unlink(path);
    FILE *f = fopen(path, "wbe");
    if (f == NULL || fchmod(fileno(f), 0600) != 0 || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

/* The text of a member; it ends at the next quote. */
static char *member(const char *text, const char *name, size_t *len)
{
    char start[32];
    (void)snprintf(start, sizeof start, "\"%s\": \"", name);
    char *found = strstr(text, start);
    if (found == NULL)
        exit(EXIT_FAILURE);
    found += strlen(start);
    *len = strcspn(found, "\"");
    return found;
}

void test_redigest(struct test_bytes *file)
{
    static const char *const names[] = {"protected", "iv", "ciphertext", "tag"};
    struct chv_crypto crypto = {0};
    struct chv_part parts[7];
    uint8_t hash[32];
    char text[CHV_BASE64_SIZE(32)];
    size_t len;
    for (size_t i = 0; i < 4; i++) {
        if (i > 0)
            parts[2 * i - 1] = (struct chv_part){".", 1};
        parts[2 * i].ptr = member(file->ptr, names[i], &parts[2 * i].len);
    }
    if (chv_backend_open("openssl", &crypto, NULL) != CHV_OK ||
        chv_crypto_hash(&crypto, CHV_HASH_SHA256, parts, 7, hash) != CHV_OK)
        exit(EXIT_FAILURE);
    chv_backend_close(&crypto);
    chv_base64_encode(hash, sizeof hash, text);
    char *digest = member(file->ptr, "digest", &len);
    if (len != strlen(text))
        exit(EXIT_FAILURE);
    memcpy(digest, text, len);
}

char *test_replaced(const char *text, const char *from, const char *to)
{
    char *out;
    const char *found = strstr(text, from);
    if (found == NULL) {
        (void)fprintf(stderr, "'%s' is not in '%s'\n", from, text);
        exit(EXIT_FAILURE);
    }
    if (asprintf(&out, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from)) < 0)
        exit(EXIT_FAILURE);
    return out;
}

struct test_bytes test_with_header(const char *path, const char *from, const char *to)
{
    struct test_bytes file = test_read(path);
    size_t len, decoded = 511;
    char *header = member(file.ptr, "protected", &len), json[512] = "", encoded[CHV_BASE64_SIZE(512)];
    if (chv_base64_decode(header, len, (uint8_t *)json, &decoded) != CHV_OK)
        exit(EXIT_FAILURE);
    char *edited = test_replaced(json, from, to);
    chv_base64_encode((const uint8_t *)edited, strlen(edited), encoded);
    header[len] = '\0';
    struct test_bytes out = {.ptr = NULL};
    if (asprintf(&out.ptr, "%.*s%s\"%s", (int)(header - file.ptr), file.ptr, encoded, header + len + 1) < 0)
        exit(EXIT_FAILURE);
    out.len = strlen(out.ptr);
    test_redigest(&out);
    free(edited);
    free(file.ptr);
    return out;
}
