/* SPDX-License-Identifier: Apache-2.0 */
/* The AEAD part of the backend contract. */
#include "tests/backends/contract.h"

#include "tests/harness.h"

#include <string.h>

static const uint8_t key_b[CHV_KEY_LEN] = {4, 5, 6};

static struct chv_aead *new_aead(const struct chv_crypto *c, enum chv_aead_alg alg, const uint8_t *key)
{
    struct chv_aead *aead = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(c, alg, key, &aead), CHV_OK);
    CU_ASSERT_PTR_NOT_NULL_FATAL(aead);
    return aead;
}

static void check_aead_length(const struct chv_crypto *c, struct chv_aead *aead, size_t len, size_t ad_len)
{
    static uint8_t plain[BIG];
    static uint8_t sealed[BIG + CHV_AEAD_TAG_LEN + 1];
    static uint8_t in_place[BIG + CHV_AEAD_TAG_LEN + 1];
    static uint8_t opened[BIG + 1];
    uint8_t ad[300];
    const uint8_t *ad_ptr = ad_len > 0 ? ad : NULL;
    size_t sealed_len = len + CHV_AEAD_TAG_LEN;
    fill(plain, len, 11);
    fill(ad, sizeof ad, 12);
    memset(sealed, 0xa5, sizeof sealed);
    memset(opened, 0xa5, sizeof opened);

    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, aead, nonce_a, ad_ptr, ad_len, plain, len, sealed), CHV_OK);
    CU_ASSERT_EQUAL(sealed[sealed_len], 0xa5);
    memcpy(in_place, plain, len);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, aead, nonce_a, ad_ptr, ad_len, in_place, len, in_place), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(in_place, sealed, sealed_len), 0);

    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, ad_ptr, ad_len, sealed, sealed_len, opened), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(opened, plain, len), 0);
    CU_ASSERT_EQUAL(opened[len], 0xa5);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, ad_ptr, ad_len, in_place, sealed_len, in_place), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(in_place, plain, len), 0);

    /* a failed open: zeros, also in place, and not a byte more */
    sealed[sealed_len - 1] ^= 0x80;
    memset(opened, 0xa5, sizeof opened);
    memcpy(in_place, sealed, sealed_len);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, ad_ptr, ad_len, sealed, sealed_len, opened), CHV_ERR_AUTH);
    CU_ASSERT_TRUE(all_are(opened, len, 0));
    CU_ASSERT_EQUAL(opened[len], 0xa5);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, ad_ptr, ad_len, in_place, sealed_len, in_place),
                    CHV_ERR_AUTH);
    CU_ASSERT_TRUE(all_are(in_place, len, 0));
}

/* Each bit of ciphertext, tag, associated data and nonce counts. */
static void check_aead_bits(const struct chv_crypto *c, struct chv_aead *aead)
{
    struct {
        uint8_t nonce[CHV_AEAD_NONCE_LEN];
        uint8_t ad[5];
        uint8_t sealed[20 + CHV_AEAD_TAG_LEN];
    } m;
    uint8_t plain[20];
    uint8_t out[20];
    memcpy(m.nonce, nonce_a, sizeof m.nonce);
    fill(m.ad, sizeof m.ad, 1);
    fill(plain, sizeof plain, 2);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, aead, m.nonce, m.ad, sizeof m.ad, plain, sizeof plain, m.sealed), CHV_OK);
    uint8_t *bytes = (uint8_t *)&m;
    for (size_t bit = 0; bit < 8 * sizeof m; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        memset(out, 0xa5, sizeof out);
        CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, m.nonce, m.ad, sizeof m.ad, m.sealed, sizeof m.sealed, out),
                        CHV_ERR_AUTH);
        CU_ASSERT_TRUE(all_are(out, sizeof out, 0));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* ... and a failure leaves the key usable */
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, m.nonce, m.ad, sizeof m.ad, m.sealed, sizeof m.sealed, out), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(out, plain, sizeof out), 0);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, m.nonce, m.ad, sizeof m.ad, m.sealed, CHV_AEAD_TAG_LEN - 1, out),
                    CHV_ERR_ARGUMENT);
}

static void check_rekey(const struct chv_crypto *c, enum chv_aead_alg alg)
{
    uint8_t plain[40];
    uint8_t under_a[56];
    uint8_t under_b[56];
    uint8_t rekeyed[56];
    fill(plain, sizeof plain, 3);
    struct chv_aead *a = new_aead(c, alg, key_a);
    struct chv_aead *b = new_aead(c, alg, key_b);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, a, nonce_a, NULL, 0, plain, sizeof plain, under_a), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, b, nonce_a, NULL, 0, plain, sizeof plain, under_b), CHV_OK);
    CU_ASSERT_NOT_EQUAL(memcmp(under_a, under_b, sizeof under_a), 0);
    CU_ASSERT_EQUAL(chv_crypto_aead_rekey(c, a, key_b), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, a, nonce_a, NULL, 0, plain, sizeof plain, rekeyed), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(rekeyed, under_b, sizeof rekeyed), 0);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(c, a, nonce_a, NULL, 0, under_a, sizeof under_a, rekeyed), CHV_ERR_AUTH);
    chv_crypto_aead_free(c, a);
    chv_crypto_aead_free(c, b);
    chv_crypto_aead_free(c, NULL);

    /* more handles at once than any cache holds, freed in the order made, twice over */
    for (int round = 0; round < 2; round++) {
        struct chv_aead *many[40];
        for (size_t i = 0; i < 40; i++)
            many[i] = new_aead(c, alg, i % 2 == 0 ? key_a : key_b);
        for (size_t i = 0; i < 40; i++) {
            CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, many[i], nonce_a, NULL, 0, plain, sizeof plain, rekeyed), CHV_OK);
            CU_ASSERT_EQUAL(memcmp(rekeyed, i % 2 == 0 ? under_a : under_b, sizeof rekeyed), 0);
            chv_crypto_aead_free(c, many[i]);
        }
    }
}

void test_aead(void)
{
    static const size_t lens[] = {0, 1, 15, 16, 17, 64, 1000, 16384, 65535, BIG};
    FOR_EACH_SUBJECT(c)
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        if (!has(c, CHV_CAP_AEAD(i)))
            continue;
        enum chv_aead_alg alg = (enum chv_aead_alg)i;
        struct chv_aead *aead = new_aead(c, alg, key_a);
        for (size_t n = 0; n < sizeof lens / sizeof lens[0]; n++) {
            check_aead_length(c, aead, lens[n], 0);
            check_aead_length(c, aead, lens[n], 1);
            check_aead_length(c, aead, lens[n], 300);
        }
        check_aead_bits(c, aead);
        chv_crypto_aead_free(c, aead);
        check_rekey(c, alg);
    }
}

/* No room is needed for the plaintext of an empty message. */
void test_aead_empty(void)
{
    FOR_EACH_SUBJECT(c)
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        if (!has(c, CHV_CAP_AEAD(i)))
            continue;
        uint8_t tag[CHV_AEAD_TAG_LEN];
        struct chv_aead *aead = new_aead(c, (enum chv_aead_alg)i, key_a);
        CU_ASSERT_EQUAL(chv_crypto_aead_seal(c, aead, nonce_a, NULL, 0, NULL, 0, tag), CHV_OK);
        CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, NULL, 0, tag, sizeof tag, NULL), CHV_OK);
        tag[0] ^= 1;
        CU_ASSERT_EQUAL(chv_crypto_aead_open(c, aead, nonce_a, NULL, 0, tag, sizeof tag, NULL), CHV_ERR_AUTH);
        chv_crypto_aead_free(c, aead);
    }
}

void test_aead_pairs(void)
{
    static uint8_t plain[1000];
    static uint8_t sealed[1016];
    static uint8_t opened[1000];
    fill(plain, sizeof plain, 4);
    FOR_EACH_PAIR(a, b)
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        if (!has(a, CHV_CAP_AEAD(i)) || !has(b, CHV_CAP_AEAD(i)))
            continue;
        struct chv_aead *x = new_aead(a, (enum chv_aead_alg)i, key_b);
        struct chv_aead *y = new_aead(b, (enum chv_aead_alg)i, key_b);
        CU_ASSERT_EQUAL(chv_crypto_aead_seal(a, x, nonce_a, key_a, 32, plain, sizeof plain, sealed), CHV_OK);
        CU_ASSERT_EQUAL(chv_crypto_aead_open(b, y, nonce_a, key_a, 32, sealed, sizeof sealed, opened), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(plain, opened, sizeof plain), 0);
        chv_crypto_aead_free(a, x);
        chv_crypto_aead_free(b, y);
    }
}
