/* SPDX-License-Identifier: Apache-2.0 */
/* What the keystore tests share: a throw-away folder, a passphrase, whole files. */
#ifndef CHV_TESTS_KEYSTORE_SUPPORT_H
#define CHV_TESTS_KEYSTORE_SUPPORT_H

#include "tests/harness.h"

#include <chaveiro/keystore.h>

#include <stdbool.h>
#include <sys/stat.h>

#define TEST_PASSPHRASE "correct horse"
#define TEST_N (UINT64_C(1) << 14)

/* A callback's argument: what it says, and what it was asked. */
struct test_secret {
    const char *text; /* NULL: there is none */
    size_t len;       /* 0: strlen(text) */
    unsigned asked;
    int confirm;
    char prompt[256];
};

enum chv_err test_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                         struct chv_why *why);

/* The folder of this program, made at the first call and removed with all that is in it at exit. */
const char *test_folder(void);
/* A path in it; the caller frees. */
char *test_path(const char *name);
/* A path that no call returned before; the caller frees. */
char *test_fresh_path(void);
/* Number of entries of the folder. */
size_t test_folder_count(void);

/* Opens and unlocks; a failure is a failed test and NULL. */
struct chv_keystore *test_open(const char *uri, enum chv_keystore_mode mode);
/* A keystore file with the secret "one" (32 bytes of 0x11) and the data item "note" ("hello"). */
void test_make_file(const char *path);
/* Whether the file opens and unlocks and holds that. */
bool test_file_is_good(const char *path);
/* The error of open, of unlock if open is well; *why says it. */
enum chv_err test_try(const char *path, const char *passphrase, struct chv_why *why);

struct test_bytes {
    char *ptr; /* with a NUL behind */
    size_t len;
};
struct test_bytes test_read(const char *path);
void test_write(const char *path, const char *bytes, size_t len);
/* Recomputes the digest member, as somebody who edits a file on purpose would; works in place. */
void test_redigest(struct test_bytes *file);
/* A copy of the text with the first `from` replaced by `to`; fails the test if there is none. */
char *test_replaced(const char *text, const char *from, const char *to);
/* The file of `path` with the header's text `from` replaced and the digest made to fit. */
struct test_bytes test_with_header(const char *path, const char *from, const char *to);

#endif
