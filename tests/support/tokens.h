/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens for tests, in a throw-away folder of this program that is removed at exit.  A program that has not the module
 * says so and leaves with 77.
 */
#ifndef CHV_TESTS_SUPPORT_TOKENS_H
#define CHV_TESTS_SUPPORT_TOKENS_H

#include <stdbool.h>

#define TEST_PIN "correct horse"
#define TEST_SO_PIN "battery staple"

/* The folder, made at the first call. */
const char *test_tokens_folder(void);
/* A path in it; the caller frees. */
char *test_tokens_path(const char *name);
/* printf to a new string; the caller frees. */
char *test_format(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
/* Percent-encodes all but letters, digits and "-_."; the caller frees. */
char *test_encode(const char *text);
/* A file of mode 0600. */
void test_write_private(const char *path, const char *text);
/* Copies or removes a folder and all in it. */
void test_copy_tree(const char *from, const char *to);
void test_remove_tree(const char *path);

/*
 * For the part of a test that a missing package leaves out: says so, and is false where nothing may be left out
 * (CHV_NO_SKIP=1), for the test to assert.
 */
bool test_may_leave_out(const char *package);

/* Path of the module; NULL if it is not installed. */
const char *test_softhsm_module(void);
const char *test_nss_module(void);

/* SOFTHSM2_CONF for this process, with an empty token folder. */
void test_softhsm_setup(void);
/* The folder with SoftHSM's tokens. */
const char *test_softhsm_tokens(void);
/* A new SoftHSM token with TEST_PIN; the setup is made where it was not. */
void test_softhsm_token(const char *label);
/* "pkcs11:token=LABEL;object=OBJECT?module-path=...QUERY", QUERY as "&name=value" or "". The caller frees. */
char *test_softhsm_uri(const char *label, const char *object, const char *query);
/* The same for the one token of an NSS database in the folder, which is made with TEST_PIN at the first call. */
char *test_nss_uri(const char *object, const char *query);

#endif
