/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/selftest.h"

#include "backends/answers.h"
#include "base/encode.h"
#include "base/memory.h"

#include <stdbool.h>
#include <string.h>

/* Digests of "abc": FIPS 180-4's examples (SHA256, SHA512), RFC 7693, appendices B and A. */
static const char *const hash_abc[CHV_HASH_COUNT] = {
    [CHV_HASH_SHA256] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    [CHV_HASH_SHA512] = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    [CHV_HASH_BLAKE2S] = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982",
    [CHV_HASH_BLAKE2B] = "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
                         "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
};

/* RFC 4231, test case 2.  BLAKE2 has no published HMAC answers: the same construction stands on its digest. */
static const char *const hmac_jefe[CHV_HASH_COUNT] = {
    [CHV_HASH_SHA256] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    [CHV_HASH_SHA512] = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
};

/* Decodes a table's text; its length. */
static size_t decode(const char *hex, uint8_t *out, size_t cap)
{
    size_t len = cap;
    return chv_hex_decode(hex, strlen(hex), out, &len) == CHV_OK ? len : 0;
}

static bool is(const uint8_t *got, size_t len, const char *hex)
{
    uint8_t want[CHV_ANSWER_MESSAGE_MAX + CHV_AEAD_TAG_LEN];
    return decode(hex, want, sizeof want) == len && memcmp(got, want, len) == 0;
}

static bool test_hash(const struct chv_crypto *crypto, enum chv_hash alg)
{
    uint8_t out[CHV_HASH_MAX];
    const struct chv_part abc[] = {{"a", 1}, {NULL, 0}, {"bc", 2}};
    return chv_crypto_hash(crypto, alg, abc, 3, out) == CHV_OK && is(out, chv_hash_len(alg), hash_abc[alg]);
}

static bool test_hmac(const struct chv_crypto *crypto, enum chv_hash alg)
{
    uint8_t out[CHV_HASH_MAX];
    const uint8_t key[] = {'J', 'e', 'f', 'e'};
    const struct chv_part message[] = {{"what do ya want ", 16}, {"for nothing?", 12}};
    return chv_crypto_hmac(crypto, alg, key, sizeof key, message, 2, out) == CHV_OK &&
           (hmac_jefe[alg] == NULL || is(out, chv_hash_len(alg), hmac_jefe[alg]));
}

/* Seals, opens in place, and then refuses the same with a wrong tag, leaving zeros. */
static bool run_aead(const struct chv_crypto *crypto, struct chv_aead *aead, const struct chv_answer_aead *a)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    uint8_t ad[CHV_ANSWER_AD_MAX];
    uint8_t plain[CHV_ANSWER_MESSAGE_MAX];
    uint8_t buf[CHV_ANSWER_MESSAGE_MAX + CHV_AEAD_TAG_LEN];
    uint8_t opened[CHV_ANSWER_MESSAGE_MAX];
    decode(a->nonce, nonce, sizeof nonce);
    size_t ad_len = decode(a->ad, ad, sizeof ad);
    size_t len = decode(a->plain, plain, sizeof plain);
    size_t sealed_len = len + CHV_AEAD_TAG_LEN;

    if (chv_crypto_aead_seal(crypto, aead, nonce, ad, ad_len, plain, len, buf) != CHV_OK ||
        !is(buf, sealed_len, a->sealed))
        return false;
    if (chv_crypto_aead_open(crypto, aead, nonce, ad, ad_len, buf, sealed_len, opened) != CHV_OK ||
        memcmp(opened, plain, len) != 0)
        return false;
    buf[sealed_len - 1] ^= 1;
    return chv_crypto_aead_open(crypto, aead, nonce, ad, ad_len, buf, sealed_len, opened) == CHV_ERR_AUTH &&
           chv_is_zero(opened, len);
}

static bool test_aead(const struct chv_crypto *crypto, enum chv_aead_alg alg)
{
    uint8_t key[CHV_KEY_LEN];
    struct chv_aead *aead = NULL;
    decode(chv_answers_aead[alg].key, key, sizeof key);
    bool ok = chv_crypto_aead_new(crypto, alg, key, &aead) == CHV_OK && run_aead(crypto, aead, &chv_answers_aead[alg]);
    chv_crypto_aead_free(crypto, aead);
    return ok;
}

/* Known key pairs, where they can be imported: *known says whether. */
static bool test_dh_known(const struct chv_crypto *crypto, enum chv_curve curve, bool *known)
{
    const struct chv_answer_dh *a = &chv_answers_dh[curve];
    bool ok = true;
    *known = true;
    for (size_t i = 0; ok && i < 2; i++) {
        uint8_t private_key[CHV_DH_PRIVATE_LEN];
        uint8_t public_key[CHV_DH_PUBLIC_MAX];
        uint8_t peer[CHV_DH_PUBLIC_MAX];
        uint8_t shared[CHV_KEY_LEN];
        struct chv_dh *key = NULL;
        decode(a->private_key[i], private_key, sizeof private_key);
        decode(a->public_key[1 - i], peer, sizeof peer);
        enum chv_err err = chv_crypto_dh_import(crypto, curve, private_key, &key, public_key);
        *known = err != CHV_ERR_UNSUPPORTED;
        if (!*known)
            return true;
        ok = err == CHV_OK && is(public_key, chv_dh_public_len(curve), a->public_key[i]) &&
             chv_crypto_dh_derive(crypto, key, peer, shared) == CHV_OK && is(shared, sizeof shared, a->shared);
        chv_crypto_dh_free(crypto, key);
    }
    return ok;
}

/* Two fresh keys agree with each other, and do not come twice. */
static bool test_dh_fresh(const struct chv_crypto *crypto, enum chv_curve curve)
{
    uint8_t public_a[CHV_DH_PUBLIC_MAX] = {0};
    uint8_t public_b[CHV_DH_PUBLIC_MAX] = {0};
    uint8_t shared_a[CHV_KEY_LEN];
    uint8_t shared_b[CHV_KEY_LEN];
    struct chv_dh *a = NULL;
    struct chv_dh *b = NULL;
    bool ok = chv_crypto_dh_generate(crypto, curve, &a, public_a) == CHV_OK &&
              chv_crypto_dh_generate(crypto, curve, &b, public_b) == CHV_OK &&
              memcmp(public_a, public_b, sizeof public_a) != 0 &&
              chv_crypto_dh_derive(crypto, a, public_b, shared_a) == CHV_OK &&
              chv_crypto_dh_derive(crypto, b, public_a, shared_b) == CHV_OK &&
              chv_equal(shared_a, shared_b, sizeof shared_a);
    chv_crypto_dh_free(crypto, a);
    chv_crypto_dh_free(crypto, b);
    chv_wipe(shared_a, sizeof shared_a);
    chv_wipe(shared_b, sizeof shared_b);
    return ok;
}

/* A generator that is stuck, or that writes nothing. */
static bool test_random(const struct chv_crypto *crypto)
{
    uint8_t a[CHV_KEY_LEN] = {0};
    uint8_t b[CHV_KEY_LEN] = {0};
    bool ok = chv_crypto_random(crypto, a, sizeof a) == CHV_OK && chv_crypto_random(crypto, b, sizeof b) == CHV_OK &&
              !chv_is_zero(a, sizeof a) && !chv_is_zero(b, sizeof b) && !chv_equal(a, b, sizeof a);
    chv_wipe(a, sizeof a);
    chv_wipe(b, sizeof b);
    return ok;
}

enum chv_err chv_selftest(const struct chv_backend *backend, void *ctx, uint32_t capabilities, struct chv_why *why)
{
    static const char text[] = "backend \"%s\": %s%s gives a wrong answer: do not use this installation";
    const struct chv_crypto crypto = {.backend = backend, .ctx = ctx, .capabilities = capabilities};
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        enum chv_hash alg = (enum chv_hash)i;
        if ((capabilities & CHV_CAP_HASH(alg)) == 0)
            continue;
        if (!test_hash(&crypto, alg))
            return chv_fail(why, CHV_ERR_SELFTEST, text, backend->name, "", chv_hash_name(alg));
        if (!test_hmac(&crypto, alg))
            return chv_fail(why, CHV_ERR_SELFTEST, text, backend->name, "HMAC-", chv_hash_name(alg));
    }
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        enum chv_aead_alg alg = (enum chv_aead_alg)i;
        if ((capabilities & CHV_CAP_AEAD(alg)) != 0 && !test_aead(&crypto, alg))
            return chv_fail(why, CHV_ERR_SELFTEST, text, backend->name, "", chv_aead_name(alg));
    }
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++) {
        enum chv_curve curve = (enum chv_curve)i;
        if ((capabilities & CHV_CAP_CURVE(curve)) == 0)
            continue;
        bool known = false;
        if (!test_dh_known(&crypto, curve, &known) || (!known && !test_dh_fresh(&crypto, curve)))
            return chv_fail(why, CHV_ERR_SELFTEST, text, backend->name, "DH ", chv_curve_name(curve));
    }
    if (!test_random(&crypto))
        return chv_fail(why, CHV_ERR_SELFTEST, text, backend->name, "", "random");
    return CHV_OK;
}
