/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/selftest.h"

#include "base/encode.h"
#include "base/memory.h"

#include <stdbool.h>
#include <string.h>

/* Longest message below: RFC 8439, 2.8.2. */
#define MESSAGE_MAX 114u
#define AD_MAX 20u

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

struct aead_answer {
    const char *key;
    const char *nonce;
    const char *ad;
    const char *plain;
    const char *sealed; /* ciphertext, tag */
};

static const struct aead_answer aead_answers[CHV_AEAD_COUNT] = {
    /* McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", test case 16. */
    [CHV_AEAD_AES256GCM] =
        {
            .key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            .nonce = "cafebabefacedbaddecaf888",
            .ad = "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            .sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                      "76fc6ece0f4e1768cddf8853bb2d551b",
        },
    /* RFC 8439, 2.8.2. */
    [CHV_AEAD_CHACHA20POLY1305] =
        {
            .key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            .nonce = "070000004041424344454647",
            .ad = "50515253c0c1c2c3c4c5c6c7",
            .plain = "4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
                     "73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
                     "6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
                     "637265656e20776f756c642062652069742e",
            .sealed = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
                      "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
                      "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
                      "3ff4def08e4b7a9de576d26586cec64b6116"
                      "1ae10b594f09e26a7e902ecbd0600691",
        },
};

struct dh_answer {
    const char *private_key[2];
    const char *public_key[2];
    const char *shared;
};

static const struct dh_answer dh_answers[CHV_CURVE_COUNT] = {
    /* RFC 7748, 6.1. */
    [CHV_CURVE_25519] =
        {
            .private_key = {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"},
            .public_key = {"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
                           "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"},
            .shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        },
    /* RFC 5903, 8.1. */
    [CHV_CURVE_P256] =
        {
            .private_key = {"c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
                            "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53"},
            .public_key = {"04dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
                           "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
                           "04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
                           "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"},
            .shared = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        },
};

/* Decodes a table's text; its length. */
static size_t decode(const char *hex, uint8_t *out, size_t cap)
{
    size_t len = cap;
    return chv_hex_decode(hex, strlen(hex), out, &len) == CHV_OK ? len : 0;
}

static bool is(const uint8_t *got, size_t len, const char *hex)
{
    uint8_t want[MESSAGE_MAX + CHV_AEAD_TAG_LEN];
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
static bool run_aead(const struct chv_crypto *crypto, struct chv_aead *aead, const struct aead_answer *a)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    uint8_t ad[AD_MAX];
    uint8_t plain[MESSAGE_MAX];
    uint8_t buf[MESSAGE_MAX + CHV_AEAD_TAG_LEN];
    uint8_t opened[MESSAGE_MAX];
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
    decode(aead_answers[alg].key, key, sizeof key);
    bool ok = chv_crypto_aead_new(crypto, alg, key, &aead) == CHV_OK && run_aead(crypto, aead, &aead_answers[alg]);
    chv_crypto_aead_free(crypto, aead);
    return ok;
}

/* Known key pairs, where they can be imported: *known says whether. */
static bool test_dh_known(const struct chv_crypto *crypto, enum chv_curve curve, bool *known)
{
    const struct dh_answer *a = &dh_answers[curve];
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
