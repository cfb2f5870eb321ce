/* SPDX-License-Identifier: Apache-2.0 */
/* The table of backends, the wrappers' own checks, the self-test, and the backends made for tests. */
#include "tests/harness.h"
#include "tests/support/test_backend.h"

#include "backends/openssl.h"
#include "backends/selftest.h"
#include "base/memory.h"

#include <chaveiro/backend.h>

#include <openssl/err.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void test_names(void)
{
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        enum chv_hash alg = (enum chv_hash)i;
        bool wide = alg == CHV_HASH_SHA512 || alg == CHV_HASH_BLAKE2B;
        CU_ASSERT_EQUAL(chv_hash_len(alg), wide ? 64 : 32);
        CU_ASSERT_EQUAL(chv_hash_block_len(alg), wide ? 128 : 64);
    }
    CU_ASSERT_STRING_EQUAL(chv_hash_name(CHV_HASH_SHA256), "SHA256");
    CU_ASSERT_STRING_EQUAL(chv_hash_name(CHV_HASH_SHA512), "SHA512");
    CU_ASSERT_STRING_EQUAL(chv_hash_name(CHV_HASH_BLAKE2S), "BLAKE2s");
    CU_ASSERT_STRING_EQUAL(chv_hash_name(CHV_HASH_BLAKE2B), "BLAKE2b");
    CU_ASSERT_STRING_EQUAL(chv_curve_name(CHV_CURVE_25519), "25519");
    CU_ASSERT_STRING_EQUAL(chv_curve_name(CHV_CURVE_P256), "P256");
    CU_ASSERT_STRING_EQUAL(chv_aead_name(CHV_AEAD_AES256GCM), "AESGCM");
    CU_ASSERT_STRING_EQUAL(chv_aead_name(CHV_AEAD_CHACHA20POLY1305), "ChaChaPoly");
    CU_ASSERT_EQUAL(chv_dh_public_len(CHV_CURVE_25519), 32);
    CU_ASSERT_EQUAL(chv_dh_public_len(CHV_CURVE_P256), 65);

    CU_ASSERT_EQUAL(chv_hash_len((enum chv_hash)4), 0);
    CU_ASSERT_EQUAL(chv_hash_block_len((enum chv_hash)4), 0);
    CU_ASSERT_EQUAL(chv_dh_public_len((enum chv_curve)2), 0);
    CU_ASSERT_STRING_EQUAL(chv_hash_name((enum chv_hash)4), "?");
    CU_ASSERT_STRING_EQUAL(chv_curve_name((enum chv_curve)2), "?");
    CU_ASSERT_STRING_EQUAL(chv_aead_name((enum chv_aead_alg)2), "?");
}

static void test_table(void)
{
    char names[256];
    char *rest = names;
    snprintf(names, sizeof names, "%s", chv_backend_names());
    size_t n = 0;
    for (char *name = strtok_r(names, ", ", &rest); name != NULL; name = strtok_r(NULL, ", ", &rest), n++) {
        const struct chv_backend *b = chv_backend_find(name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(b);
        if (b == NULL)
            return;
        CU_ASSERT_STRING_EQUAL(b->name, name);
        CU_ASSERT_EQUAL(b->abi, CHV_BACKEND_ABI);
        CU_ASSERT_PTR_NOT_NULL(b->description);
    }
    CU_ASSERT_TRUE(n >= 1);
    CU_ASSERT_PTR_EQUAL(chv_backend_find("openssl"), &chv_backend_openssl);
    CU_ASSERT_PTR_NULL(chv_backend_find("OpenSSL"));
    CU_ASSERT_PTR_NULL(chv_backend_find("openss"));
    CU_ASSERT_PTR_NULL(chv_backend_find("openssl "));
    CU_ASSERT_PTR_NULL(chv_backend_find(""));
}

static void test_open(void)
{
    struct chv_crypto c = {0};
    struct chv_why why = {{0}};
    CU_ASSERT_EQUAL(chv_backend_open("openssl", &c, &why), CHV_OK);
    CU_ASSERT_PTR_EQUAL(c.backend, &chv_backend_openssl);
    CU_ASSERT_EQUAL(c.capabilities, 0x0003030f);
    CU_ASSERT_STRING_EQUAL(why.text, "");
    chv_backend_close(&c);
    CU_ASSERT_PTR_NULL(c.backend);
    CU_ASSERT_PTR_NULL(c.ctx);
    chv_backend_close(&c);
    chv_backend_close(NULL);

    static const char *const unknown[] = {"", "nope", "nope:x", "openss", "openssl2", ":openssl", "OPENSSL"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        memset(&why, 0, sizeof why);
        CU_ASSERT_EQUAL(chv_backend_open(unknown[i], &c, &why), CHV_ERR_CONFIG);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, chv_backend_names()));
        CU_ASSERT_PTR_NULL(c.backend);
        CU_ASSERT_EQUAL(chv_backend_open(unknown[i], &c, NULL), CHV_ERR_CONFIG);
    }
    CU_ASSERT_EQUAL(chv_backend_open("openssl:x", &c, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "takes no parameters"));
    CU_ASSERT_EQUAL(chv_backend_open("openssl:", &c, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NULL(c.ctx);
}

/* ---- wrappers ---- */

static const uint8_t key[CHV_KEY_LEN] = {1};
static const uint8_t nonce[CHV_AEAD_NONCE_LEN];

static void test_abi(void)
{
    struct chv_backend other = chv_backend_openssl;
    struct chv_crypto c;
    struct chv_why why = {{0}};
    uint8_t memory[1];
    other.abi = CHV_BACKEND_ABI + 1;
    CU_ASSERT_EQUAL(chv_crypto_open(&c, &other, memory, "", &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_NOT_EQUAL(why.text[0], '\0');
    CU_ASSERT_PTR_NULL(c.backend);
    chv_crypto_close(&c);
    chv_crypto_close(NULL);
}

/* What a context does not claim is refused before the backend is asked. */
static void test_unsupported(void)
{
    struct chv_crypto real = {0};
    struct test_fault fault;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &real, NULL), CHV_OK);
    test_fault_init(&fault, &real);
    struct chv_crypto c = fault.crypto;
    uint8_t out[CHV_DH_PUBLIC_MAX] = {0};
    struct chv_dh *dh = NULL;
    struct chv_aead *aead = NULL;
    for (unsigned missing = 0; missing < 2; missing++) {
        /* no capability, then numbers that are none */
        unsigned n = missing == 0 ? 0 : 9;
        c.capabilities = missing == 0 ? 0 : UINT32_MAX;
        CU_ASSERT_EQUAL(chv_crypto_hash(&c, (enum chv_hash)n, NULL, 0, out), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_EQUAL(chv_crypto_hmac(&c, (enum chv_hash)n, key, 32, NULL, 0, out), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_EQUAL(chv_crypto_dh_generate(&c, (enum chv_curve)n, &dh, out), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_EQUAL(chv_crypto_dh_import(&c, (enum chv_curve)n, key, &dh, out), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_EQUAL(chv_crypto_aead_new(&c, (enum chv_aead_alg)n, key, &aead), CHV_ERR_UNSUPPORTED);
    }
    struct chv_backend without = *fault.crypto.backend;
    without.dh_import = NULL;
    c = fault.crypto;
    c.backend = &without;
    CU_ASSERT_EQUAL(chv_crypto_dh_import(&c, CHV_CURVE_25519, key, &dh, out), CHV_ERR_UNSUPPORTED);

    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&c, NULL, out, out), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_crypto_aead_rekey(&c, NULL, key), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(&c, NULL, nonce, NULL, 0, key, 32, out), CHV_ERR_ARGUMENT);
    CU_ASSERT_TRUE(chv_is_zero(out, sizeof out));
    memset(out, 0xa5, sizeof out);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(&c, NULL, nonce, NULL, 0, key, 32, out), CHV_ERR_ARGUMENT);
    CU_ASSERT_TRUE(chv_is_zero(out, 16));
    CU_ASSERT_EQUAL(out[16], 0xa5);
    CU_ASSERT_EQUAL(fault.calls, 0);
    CU_ASSERT_PTR_NULL(dh);
    CU_ASSERT_PTR_NULL(aead);
    chv_backend_close(&real);
}

/* Failures leave nothing in OpenSSL's queue for the host program to stumble over. */
static void test_error_queue(void)
{
    struct chv_crypto c = {0};
    uint8_t out[CHV_DH_PUBLIC_MAX];
    uint8_t zeros[CHV_DH_PUBLIC_MAX] = {4};
    struct chv_dh *dh = NULL;
    struct chv_aead *aead = NULL;
    ERR_clear_error();
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &c, NULL), CHV_OK);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
    CU_ASSERT_EQUAL(chv_crypto_dh_generate(&c, CHV_CURVE_P256, &dh, out), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&c, dh, zeros, out), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
    chv_crypto_dh_free(&c, dh);
    CU_ASSERT_EQUAL(chv_crypto_dh_generate(&c, CHV_CURVE_25519, &dh, out), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&c, dh, zeros + 1, out), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
    chv_crypto_dh_free(&c, dh);
    CU_ASSERT_EQUAL(chv_crypto_dh_import(&c, CHV_CURVE_P256, zeros + 1, &dh, out), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
    CU_ASSERT_EQUAL(chv_crypto_aead_new(&c, CHV_AEAD_AES256GCM, key, &aead), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(&c, aead, nonce, NULL, 0, zeros, 32, out), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
    chv_crypto_aead_free(&c, aead);
    chv_backend_close(&c);
    CU_ASSERT_EQUAL(ERR_peek_error(), 0);
}

/* ---- self-test ---- */

/* OpenSSL's answers with one bit wrong in one kind of them. */
enum lie { LIE_NONE, LIE_HASH, LIE_HMAC, LIE_SEAL, LIE_OPEN, LIE_TAG, LIE_ZEROS, LIE_PUBLIC, LIE_SHARED, LIE_RANDOM };

static enum lie lie;
static unsigned lie_alg; /* for LIE_HASH and LIE_HMAC */

static enum chv_err lying_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    enum chv_err err = chv_backend_openssl.hash(ctx, alg, parts, n, out);
    out[chv_hash_len(alg) - 1] ^= (uint8_t)(lie == LIE_HASH && alg == lie_alg);
    return err;
}

static enum chv_err lying_hmac(void *ctx, enum chv_hash alg, const uint8_t *k, size_t keylen,
                               const struct chv_part *parts, size_t n, uint8_t *out)
{
    enum chv_err err = chv_backend_openssl.hmac(ctx, alg, k, keylen, parts, n, out);
    out[0] ^= (uint8_t)(lie == LIE_HMAC && alg == lie_alg);
    return err;
}

static enum chv_err lying_seal(struct chv_aead *aead, const uint8_t iv[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                               size_t ad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    enum chv_err err = chv_backend_openssl.aead_seal(aead, iv, ad, ad_len, in, len, out);
    out[len + 15] ^= (uint8_t)(lie == LIE_SEAL);
    return err;
}

static enum chv_err lying_open(struct chv_aead *aead, const uint8_t iv[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                               size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out)
{
    enum chv_err err = chv_backend_openssl.aead_open(aead, iv, ad, ad_len, in, in_len, out);
    out[0] ^= (uint8_t)((lie == LIE_OPEN && err == CHV_OK) || (lie == LIE_ZEROS && err != CHV_OK));
    return lie == LIE_TAG ? CHV_OK : err;
}

static enum chv_err lying_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                 struct chv_dh **dh, uint8_t *public_out)
{
    enum chv_err err = chv_backend_openssl.dh_import(ctx, curve, private_key, dh, public_out);
    public_out[31] ^= (uint8_t)(lie == LIE_PUBLIC);
    return err;
}

static enum chv_err lying_derive(struct chv_dh *dh, const uint8_t *peer, uint8_t shared_out[CHV_KEY_LEN])
{
    static uint8_t count;
    enum chv_err err = chv_backend_openssl.dh_derive(dh, peer, shared_out);
    if (lie == LIE_SHARED)
        shared_out[0] ^= ++count; /* never twice the same */
    return err;
}

static enum chv_err lying_random(void *ctx, uint8_t *out, size_t len)
{
    enum chv_err err = chv_backend_openssl.random(ctx, out, len);
    if (lie == LIE_RANDOM)
        memset(out, 7, len);
    return err;
}

static void expect_selftest(const struct chv_backend *b, void *ctx, uint32_t capabilities, const char *what)
{
    struct chv_why why = {{0}};
    enum chv_err err = chv_selftest(b, ctx, capabilities, &why);
    if (what == NULL) {
        CU_ASSERT_EQUAL(err, CHV_OK);
        return;
    }
    CU_ASSERT_EQUAL(err, CHV_ERR_SELFTEST);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, what));
}

static void test_selftest(void)
{
    static const struct {
        enum lie lie;
        const char *what;
    } lies[] = {
        {LIE_SEAL, "AESGCM"},  {LIE_OPEN, "AESGCM"},  {LIE_TAG, "AESGCM"},    {LIE_ZEROS, "AESGCM"},
        {LIE_PUBLIC, "25519"}, {LIE_SHARED, "25519"}, {LIE_RANDOM, "random"},
    };
    struct chv_crypto real = {0};
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &real, NULL), CHV_OK);
    struct chv_backend liar = chv_backend_openssl;
    liar.name = "liar";
    liar.hash = lying_hash;
    liar.hmac = lying_hmac;
    liar.aead_seal = lying_seal;
    liar.aead_open = lying_open;
    liar.dh_import = lying_import;
    liar.dh_derive = lying_derive;
    liar.random = lying_random;
    uint32_t all = real.capabilities;

    lie = LIE_NONE;
    expect_selftest(&liar, real.ctx, all, NULL);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        lie = lies[i].lie;
        expect_selftest(&liar, real.ctx, all, lies[i].what);
    }
    for (lie_alg = 0; lie_alg < CHV_HASH_COUNT; lie_alg++) {
        lie = LIE_HASH;
        expect_selftest(&liar, real.ctx, all, chv_hash_name((enum chv_hash)lie_alg));
        /* what is not claimed is not tested */
        expect_selftest(&liar, real.ctx, all & ~CHV_CAP_HASH(lie_alg), NULL);
        lie = LIE_HMAC;
        if (lie_alg == CHV_HASH_SHA256 || lie_alg == CHV_HASH_SHA512)
            expect_selftest(&liar, real.ctx, all, "HMAC-");
    }
    /* the other curve and AEAD, and a backend that cannot import */
    lie = LIE_SEAL;
    expect_selftest(&liar, real.ctx, all & ~CHV_CAP_AEAD(CHV_AEAD_AES256GCM), "ChaChaPoly");
    lie = LIE_SHARED;
    expect_selftest(&liar, real.ctx, all & ~CHV_CAP_CURVE(CHV_CURVE_25519), "P256");
    liar.dh_import = NULL;
    expect_selftest(&liar, real.ctx, all, "25519");
    lie = LIE_NONE;
    expect_selftest(&liar, real.ctx, all, NULL);
    chv_backend_close(&real);
}

/* Whichever call fails, the self-test fails and leaves no handle. */
static void test_selftest_fault(void)
{
    struct chv_crypto real = {0};
    struct test_fault fault;
    unsigned long n = 0;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &real, NULL), CHV_OK);
    test_fault_init(&fault, &real);
    do {
        test_fault_arm(&fault, ++n);
        enum chv_err err = chv_selftest(fault.crypto.backend, fault.crypto.ctx, real.capabilities, NULL);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_SELFTEST : CHV_OK);
        CU_ASSERT_EQUAL(fault.open_dh, 0);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
    } while (fault.fired && n < 1000);
    CU_ASSERT_TRUE(n > 20 && n < 1000);
    chv_backend_close(&real);
}

/* ---- backends for tests ---- */

static void test_fixed(void)
{
    static const uint8_t keys[2][CHV_DH_PRIVATE_LEN] = {{1, 2, 3}, {4, 5, 6}};
    struct chv_crypto real = {0};
    struct test_fixed fixed;
    struct test_fault fault;
    uint8_t want[CHV_DH_PUBLIC_MAX];
    uint8_t got[CHV_DH_PUBLIC_MAX];
    struct chv_dh *dh = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &real, NULL), CHV_OK);
    test_fixed_init(&fixed, &real, keys, 2);
    test_fault_init(&fault, &fixed.crypto);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 2; i++) {
            CU_ASSERT_EQUAL(chv_crypto_dh_import(&real, CHV_CURVE_P256, keys[i], &dh, want), CHV_OK);
            chv_crypto_dh_free(&real, dh);
            CU_ASSERT_EQUAL(chv_crypto_dh_generate(&fault.crypto, CHV_CURVE_P256, &dh, got), CHV_OK);
            CU_ASSERT_EQUAL(memcmp(got, want, sizeof got), 0);
            CU_ASSERT_EQUAL(fault.open_dh, 1);
            chv_crypto_dh_free(&fault.crypto, dh);
        }
        CU_ASSERT_EQUAL(chv_crypto_dh_generate(&fault.crypto, CHV_CURVE_P256, &dh, got), CHV_ERR_CRYPTO);
        fixed.next = 0;
    }
    CU_ASSERT_EQUAL(fault.open_dh, 0);
    CU_ASSERT_EQUAL(chv_selftest(fixed.crypto.backend, fixed.crypto.ctx, real.capabilities, NULL), CHV_OK);
    chv_backend_close(&real);
}

TEST_MAIN("backends", {"names and lengths", test_names}, {"table", test_table}, {"open", test_open}, {"abi", test_abi},
          {"unsupported", test_unsupported}, {"error queue", test_error_queue}, {"self-test", test_selftest},
          {"self-test, failing calls", test_selftest_fault}, {"fixed and fault", test_fixed})
