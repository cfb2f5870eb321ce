/* SPDX-License-Identifier: Apache-2.0 */
/* The keystore "pem:FILE": one identity key, or one that signs receipts, as PEM text, and nothing else. */
#include "core/identity.h"
#include "keystore/file_pem.h"
#include "tests/keystore/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct chv_why why;

/* "pem:PATH" of a path that is not there yet; the caller frees. */
static char *fresh_uri(void)
{
    char *path = test_fresh_path(), *uri = NULL;
    size_t size = strlen(path) + sizeof "pem:";
    uri = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(uri);
    (void)snprintf(uri, size, "pem:%s", path);
    free(path);
    return uri;
}

static struct chv_keystore *open_it(const char *uri, enum chv_keystore_mode mode, struct test_secret *secret)
{
    const struct chv_keystore_options options = {.mode = mode};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, test_secret, secret, &why), CHV_OK);
    return ks;
}

/* An empty passphrase: the key is written in clear. */
static enum chv_err no_passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                  struct chv_why *w)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)out;
    (void)cap;
    (void)w;
    *len = 0;
    return CHV_OK;
}

static void make(const char *uri, enum chv_curve curve, bool clear)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_ERR_STATE); /* nothing to write yet */
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, curve, &why), CHV_ERR_STATE);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, clear ? no_passphrase : test_secret, &secret, &why), CHV_OK);
    CU_ASSERT_EQUAL(secret.confirm, clear ? 0 : 1);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "other", CHV_USE_IDENTITY, curve, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_RECEIPT, CHV_CURVE_P256, &why),
                    CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, curve, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, curve, &why), CHV_ERR_EXISTS);
    CU_ASSERT_NOT_EQUAL(access(uri + strlen("pem:"), F_OK), 0); /* not before commit */
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_OK);
    chv_keystore_close(ks);
}

static enum chv_err count(void *arg, const struct chv_key_info *info)
{
    unsigned *n = arg;
    CU_ASSERT_STRING_EQUAL(info->label, "identity");
    CU_ASSERT_EQUAL(info->use, CHV_USE_IDENTITY);
    (*n)++;
    return CHV_OK;
}

/* What it computes with a fresh key is what that computes with its public one. */
static void check_dh(struct chv_keystore *ks, enum chv_curve curve)
{
    struct chv_crypto crypto;
    struct chv_dh *peer = NULL;
    uint8_t theirs[CHV_DH_PUBLIC_MAX] = {0}, ours[CHV_DH_PUBLIC_MAX] = {0}, a[CHV_KEY_LEN], b[CHV_KEY_LEN];
    enum chv_curve found;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_generate(&crypto, curve, &peer, theirs), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "identity", &found, ours, &why), CHV_OK);
    CU_ASSERT_EQUAL(found, curve);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "identity", theirs, a, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, peer, ours, b), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
    memset(theirs, 0, sizeof theirs); /* no point of either curve that is good for anything */
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "identity", theirs, a, &why), CHV_ERR_MALFORMED);
    chv_crypto_dh_free(&crypto, peer);
    chv_backend_close(&crypto);
}

static void test_round_trip(void)
{
    for (unsigned i = 0; i < 4; i++) {
        const enum chv_curve curve = i % 2 == 0 ? CHV_CURVE_25519 : CHV_CURVE_P256;
        const bool clear = i < 2;
        struct test_secret secret = {.text = TEST_PASSPHRASE};
        char *uri = fresh_uri();
        unsigned keys = 0;
        make(uri, curve, clear);
        struct stat st;
        CU_ASSERT_EQUAL(stat(uri + 4, &st), 0);
        CU_ASSERT_EQUAL(st.st_mode & 07777, 0600);
        CU_ASSERT_TRUE(chv_pem_is(uri + 4));
        struct chv_keystore *ks = open_it(uri, CHV_KEYSTORE_READ, &secret);
        CU_ASSERT_EQUAL(secret.asked, clear ? 0 : 1);
        CU_ASSERT_EQUAL(chv_keystore_list(ks, count, &keys, &why), CHV_OK);
        CU_ASSERT_EQUAL(keys, 1);
        check_dh(ks, curve);
        CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &secret, &why), CHV_ERR_STATE);
        chv_keystore_close(ks);
        free(uri);
    }
}

static void test_public_half(void)
{
    for (unsigned curve = 0; curve < CHV_CURVE_COUNT; curve++) {
        struct test_secret secret = {.text = NULL};
        struct chv_identity id = {.curve = (enum chv_curve)curve}, back = {.curve = (enum chv_curve)curve};
        char text[CHV_PEM_TEXT_MAX], *uri = fresh_uri(), *out = fresh_uri();
        uint8_t shared[CHV_KEY_LEN];
        make(uri, id.curve, true);
        struct chv_keystore *ks = open_it(uri, CHV_KEYSTORE_READ, &secret);
        CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "identity", &id.curve, id.public_key, &why), CHV_OK);
        chv_keystore_close(ks);
        CU_ASSERT_EQUAL(chv_pem_public(&id, text, &why), CHV_OK);
        test_write(out + 4, text, strlen(text));
        CU_ASSERT_EQUAL(chmod(out + 4, 0644), 0); /* anybody may read it */
        ks = open_it(out, CHV_KEYSTORE_READ, &secret);
        CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "identity", &back.curve, back.public_key, &why), CHV_OK);
        CU_ASSERT_EQUAL(chv_identity_compare(&id, &back), 0);
        CU_ASSERT_EQUAL(chv_keystore_dh(ks, "identity", id.public_key, shared, &why), CHV_ERR_KEY);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "only the public key"));
        chv_keystore_close(ks);
        CU_ASSERT_EQUAL(secret.asked, 0);
        free(uri);
        free(out);
    }
    struct chv_identity bad = {.curve = CHV_CURVE_P256, .public_key = {4, 1}};
    char text[CHV_PEM_TEXT_MAX];
    CU_ASSERT_EQUAL(chv_pem_public(&bad, text, &why), CHV_ERR_CRYPTO);
}

static void test_nothing_else(void)
{
    struct test_secret secret = {.text = NULL};
    char *uri = fresh_uri();
    uint8_t out[CHV_DH_PUBLIC_MAX] = {9}, secret32[CHV_SECRET_LEN] = {1}, sig[CHV_SIGNATURE_MAX];
    enum chv_curve curve;
    size_t len = sizeof out;
    make(uri, CHV_CURVE_25519, true);
    struct chv_keystore *ks = open_it(uri, CHV_KEYSTORE_READ, &secret);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "identity", out, 1, out, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "a 'pem' keystore cannot derive keys"));
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "identity", out, 1, out, 1, out, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "a", &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "a", secret32, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "identity", &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "a", out, 1, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "a", out, &len, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "identity", out, 1, sig, &len, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "receipt", &curve, out, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "receipt", out, secret32, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_25519, &why),
                    CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_ERR_STATE);
    chv_keystore_close(ks);
    free(uri);
}

static enum chv_err try(const char *uri, enum chv_keystore_mode mode, const char *passphrase)
{
    const struct chv_keystore_options options = {.mode = mode};
    struct test_secret secret = {.text = passphrase};
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_keystore_open(uri, &options, &ks, &why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, &why);
    chv_keystore_close(ks);
    return err;
}

static void test_refused(void)
{
    static const char *const texts[] = {"",
                                        "no PEM at all\n",
                                        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                                        "-----BEGIN PRIVATE KEY-----\n",
                                        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
    char *uri = fresh_uri(), *bad = fresh_uri();
    make(uri, CHV_CURVE_P256, false);
    CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_READ, "wrong"), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_READ, NULL), CHV_ERR_NO_SECRET);
    CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_WRITE, TEST_PASSPHRASE), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_CREATE, TEST_PASSPHRASE), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(try("pem:", CHV_KEYSTORE_READ, NULL), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(try("pem:/nonexistent", CHV_KEYSTORE_READ, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(try("pem:/", CHV_KEYSTORE_READ, NULL), CHV_ERR_STORE_FORMAT);
    static const mode_t modes[] = {0640, 0604, 0660};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        CU_ASSERT_EQUAL(chmod(uri + 4, modes[i]), 0);
        CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_READ, TEST_PASSPHRASE), CHV_ERR_STORE_MODE);
    }
    CU_ASSERT_EQUAL(chmod(uri + 4, 0600), 0);
    CU_ASSERT_EQUAL(try(uri, CHV_KEYSTORE_READ, TEST_PASSPHRASE), CHV_OK);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        test_write(bad + 4, texts[i], strlen(texts[i]));
        CU_ASSERT_EQUAL(chmod(bad + 4, 0600), 0);
        CU_ASSERT_EQUAL(try(bad, CHV_KEYSTORE_READ, NULL), CHV_ERR_STORE_FORMAT);
        CU_ASSERT_EQUAL(chv_pem_is(bad + 4), i >= 2);
    }
    CU_ASSERT_FALSE(chv_pem_is("/nonexistent"));
    /* cut at every place */
    struct test_bytes whole = test_read(uri + 4);
    for (size_t n = 0; n + 1 < whole.len; n += 7) {
        test_write(bad + 4, whole.ptr, n);
        CU_ASSERT_EQUAL(chmod(bad + 4, 0600), 0);
        CU_ASSERT_NOT_EQUAL(try(bad, CHV_KEYSTORE_READ, TEST_PASSPHRASE), CHV_OK);
    }
    free(whole.ptr);
    free(uri);
    free(bad);
}

static void write_receipt_key(const char *uri, bool clear)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, clear ? no_passphrase : test_secret, &secret, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_IDENTITY, CHV_CURVE_P256, &why),
                    CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_RECEIPT, CHV_CURVE_25519, &why),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_RECEIPT, CHV_CURVE_P256, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_P256, &why),
                    CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_commit(ks, &why), CHV_OK);
    chv_keystore_close(ks);
}

static enum chv_err is_receipt(void *arg, const struct chv_key_info *info)
{
    unsigned *count = arg;
    (*count)++;
    CU_ASSERT_STRING_EQUAL(info->label, "receipt");
    CU_ASSERT_EQUAL(info->use, CHV_USE_RECEIPT);
    CU_ASSERT_EQUAL(info->curve, CHV_CURVE_P256);
    return CHV_OK;
}

/* It signs, as one in any keystore does, and does nothing else. */
static void test_receipt_key(void)
{
    for (int clear = 0; clear < 2; clear++) {
        struct test_secret secret = {.text = TEST_PASSPHRASE};
        struct chv_identity key;
        uint8_t sig[CHV_SIGNATURE_MAX], out[CHV_SECRET_LEN];
        size_t len = sizeof sig;
        unsigned count = 0;
        char *uri = fresh_uri();
        write_receipt_key(uri, clear != 0);
        struct chv_keystore *ks = open_it(uri, CHV_KEYSTORE_READ, &secret);
        CU_ASSERT_EQUAL(secret.asked, clear ? 0 : 1);
        memset(&key, 0, sizeof key);
        CU_ASSERT_EQUAL(chv_keystore_list(ks, is_receipt, &count, &why), CHV_OK);
        CU_ASSERT_EQUAL(count, 1);
        CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "receipt", &key.curve, key.public_key, &why), CHV_OK);
        CU_ASSERT_EQUAL(chv_keystore_sign(ks, "receipt", (const uint8_t *)"got it", 6, sig, &len, &why), CHV_OK);
        CU_ASSERT_EQUAL(chv_pem_verify(&key, (const uint8_t *)"got it", 6, sig, len, &why), CHV_OK);
        CU_ASSERT_EQUAL(chv_pem_verify(&key, (const uint8_t *)"got it!", 7, sig, len, &why), CHV_ERR_DAMAGED);
        CU_ASSERT_EQUAL(chv_keystore_dh(ks, "receipt", key.public_key, out, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_EQUAL(chv_keystore_dh(ks, "identity", key.public_key, out, &why), CHV_ERR_NOT_FOUND);
        CU_ASSERT_EQUAL(chv_keystore_sign(ks, "identity", out, 1, sig, &len, &why), CHV_ERR_NOT_FOUND);
        chv_keystore_close(ks);
        free(uri);
    }
}

TEST_MAIN("keystore: PEM", {"receipt key", test_receipt_key}, {"there and back", test_round_trip},
          {"public half", test_public_half}, {"nothing else", test_nothing_else}, {"refused", test_refused})
