/* SPDX-License-Identifier: Apache-2.0 */
#include "keystore/token_answers.h"

#include <stdio.h>
#include <string.h>

#include "backends/answers.h"
#include "base/encode.h"
#include "base/memory.h"
#include "keystore/token.h"

enum { KNOWN_BYTES_MAX = 160 };

/* FIPS 180-4 and its examples; RFC 4231, 4; RFC 5869, A: of the output the first 32 bytes, which are one HMAC. */
static const struct {
    const char *message, *digest;
} known_hashes[] = {
    {"616263", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"6162636462636465636465666465666765666768666768696768696a68696a6b696a6b6c6a6b6c6d6b6c6d6e6c6d6e6f6d6e6f706e6f7071",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static const struct {
    const char *key, *message, *mac;
} known_macs[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {"0102030405060708090a0b0c0d0e0f10111213141516171819",
     "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
};

static const struct {
    const char *prk, *info, *okm;
} known_expands[] = {
    {"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "f0f1f2f3f4f5f6f7f8f9",
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"},
    {"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
     "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
     "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"},
    {"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "",
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"},
};

struct known_run {
    const struct chv_crypto *software;
    struct chv_token_known *known; /* of the test under way */
};

/* Decodes a table's text; its length. */
static size_t known_bytes(const char *hex, uint8_t *out, size_t cap)
{
    size_t len = cap;
    return chv_hex_decode(hex, strlen(hex), out, &len) == CHV_OK ? len : 0;
}

/* CHV_ERR_SELFTEST if the token gave other bytes. */
static enum chv_err known_compare(const uint8_t *got, size_t len, const char *hex, struct chv_why *why)
{
    uint8_t want[KNOWN_BYTES_MAX];
    size_t want_len = known_bytes(hex, want, sizeof want);
    return want_len == len && memcmp(got, want, len) == 0 ? CHV_OK
                                                          : chv_fail(why, CHV_ERR_SELFTEST, "gives other bytes");
}

static void known_destroy(struct chv_p11_session *s, CK_OBJECT_HANDLE object)
{
    (void)s->fn->C_DestroyObject(s->handle, object); /* s->rv stays the answer of the test */
}

/* --- hash, HMAC, Expand --------------------------------------------------------------------------------------------
 */

static enum chv_err known_hash(struct chv_p11_session *s, const struct known_run *run, unsigned i, struct chv_why *why)
{
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    uint8_t message[KNOWN_BYTES_MAX], out[64];
    CK_ULONG len = sizeof out;
    size_t message_len = known_bytes(known_hashes[i].message, message, sizeof message);
    (void)run;
    if (chv_p11_call_for(s, CKM_SHA256, C_DigestInit, &mechanism) != CKR_OK ||
        chv_p11_call_for(s, CKM_SHA256, C_Digest, message, message_len, out, &len) != CKR_OK)
        return chv_p11_session_fail(s, why);
    return known_compare(out, len, known_hashes[i].digest, why);
}

/* A key as a keystore has it; RFC 2104, 2: zeros behind a short one do not change what it computes. */
static enum chv_err known_secret(struct chv_p11_session *s, const char *hex, bool derive, CK_OBJECT_HANDLE *key,
                                 struct chv_why *why)
{
    uint8_t value[CHV_SECRET_LEN] = {0};
    (void)known_bytes(hex, value, sizeof value);
    const struct chv_p11_secret secret = {.value = value, .value_len = sizeof value, .derive = derive};
    return chv_p11_secret_make(s, &secret, key, why);
}

static enum chv_err known_hmac(struct chv_p11_session *s, const struct known_run *run, unsigned i, struct chv_why *why)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t message[KNOWN_BYTES_MAX], out[CHV_SECRET_LEN];
    size_t len = known_bytes(known_macs[i].message, message, sizeof message);
    (void)run;
    enum chv_err err = known_secret(s, known_macs[i].key, false, &key, why);
    if (err != CHV_OK)
        return err;
    err = chv_p11_hmac(s, key, message, len, out, why);
    known_destroy(s, key);
    return err == CHV_OK ? known_compare(out, sizeof out, known_macs[i].mac, why) : err;
}

static enum chv_err known_expand(struct chv_p11_session *s, enum chv_token_rung rung, unsigned i, struct chv_why *why)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t info[KNOWN_BYTES_MAX], out[CHV_SECRET_LEN];
    size_t len = known_bytes(known_expands[i].info, info, sizeof info);
    enum chv_err err = known_secret(s, known_expands[i].prk, rung != CHV_TOKEN_HMAC, &key, why);
    if (err != CHV_OK)
        return err;
    err = chv_token_expand(s, key, rung, info, len, out, why);
    known_destroy(s, key);
    return err == CHV_OK ? known_compare(out, sizeof out, known_expands[i].okm, why) : err;
}

static enum chv_err known_expand_hmac(struct chv_p11_session *s, const struct known_run *run, unsigned i,
                                      struct chv_why *why)
{
    (void)run;
    return known_expand(s, CHV_TOKEN_HMAC, i, why);
}

static enum chv_err known_expand_hkdf(struct chv_p11_session *s, const struct known_run *run, unsigned i,
                                      struct chv_why *why)
{
    (void)run;
    return known_expand(s, CHV_TOKEN_HKDF, i, why);
}

static enum chv_err known_expand_sp800(struct chv_p11_session *s, const struct known_run *run, unsigned i,
                                       struct chv_why *why)
{
    (void)run;
    return known_expand(s, CHV_TOKEN_SP800_108, i, why);
}

/* --- AEAD ----------------------------------------------------------------------------------------------------------
 */

static enum chv_err known_aead_key(struct chv_p11_session *s, CK_KEY_TYPE type, const char *hex,
                                   CK_OBJECT_HANDLE *object, struct chv_why *why)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    uint8_t value[CHV_KEY_LEN];
    CK_ATTRIBUTE t[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_ENCRYPT, &yes, sizeof yes},
        {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_VALUE, value, known_bytes(hex, value, sizeof value)},
    };
    return chv_p11_call(s, C_CreateObject, t, sizeof t / sizeof t[0], object) == CKR_OK ? CHV_OK
                                                                                        : chv_p11_session_fail(s, why);
}

/* Some tokens want room for the tag when they open, too. */
static CK_RV known_crypt(struct chv_p11_session *s, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key, bool seal,
                         uint8_t *in, size_t in_len, uint8_t out[KNOWN_BYTES_MAX], CK_ULONG *len)
{
    *len = KNOWN_BYTES_MAX;
    if (seal ? chv_p11_call_for(s, mechanism->mechanism, C_EncryptInit, mechanism, key) != CKR_OK
             : chv_p11_call_for(s, mechanism->mechanism, C_DecryptInit, mechanism, key) != CKR_OK)
        return s->rv;
    return seal ? chv_p11_call_for(s, mechanism->mechanism, C_Encrypt, in, in_len, out, len)
                : chv_p11_call_for(s, mechanism->mechanism, C_Decrypt, in, in_len, out, len);
}

/* Sealed, opened, and refused with a wrong tag. */
static enum chv_err known_record(struct chv_p11_session *s, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                                 const struct chv_answer_aead *a, struct chv_why *why)
{
    uint8_t in[KNOWN_BYTES_MAX], out[KNOWN_BYTES_MAX];
    CK_ULONG len;
    size_t in_len = known_bytes(a->plain, in, sizeof in);
    if (known_crypt(s, mechanism, key, true, in, in_len, out, &len) != CKR_OK)
        return chv_p11_session_fail(s, why);
    enum chv_err err = known_compare(out, len, a->sealed, why);
    if (err != CHV_OK)
        return err;
    in_len = known_bytes(a->sealed, in, sizeof in);
    if (known_crypt(s, mechanism, key, false, in, in_len, out, &len) != CKR_OK)
        return chv_p11_session_fail(s, why);
    err = known_compare(out, len, a->plain, why);
    in[in_len - 1] ^= 1;
    if (err == CHV_OK && known_crypt(s, mechanism, key, false, in, in_len, out, &len) == CKR_OK)
        err = chv_fail(why, CHV_ERR_SELFTEST, "takes a wrong tag");
    s->rv = CKR_OK;
    return err;
}

static enum chv_err known_aead(struct chv_p11_session *s, const struct known_run *run, unsigned i, struct chv_why *why)
{
    const struct chv_answer_aead *a = &chv_answers_aead[i];
    const bool gcm = i == CHV_AEAD_AES256GCM;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t nonce[CHV_AEAD_NONCE_LEN], ad[CHV_ANSWER_AD_MAX];
    const size_t ad_len = known_bytes(a->ad, ad, sizeof ad);
    CK_GCM_PARAMS gcm_params = {.iv_ptr = nonce,
                                .iv_len = known_bytes(a->nonce, nonce, sizeof nonce),
                                .iv_bits = CHV_AEAD_NONCE_LEN * 8,
                                .aad_ptr = ad,
                                .aad_len = ad_len,
                                .tag_bits = CHV_AEAD_TAG_LEN * 8};
    struct chv_p11_chacha_params chacha_params = {
        .pNonce = nonce, .ulNonceLen = sizeof nonce, .pAAD = ad, .ulAADLen = ad_len};
    CK_MECHANISM mechanism = gcm ? (CK_MECHANISM){CKM_AES_GCM, &gcm_params, sizeof gcm_params}
                                 : (CK_MECHANISM){CKM_CHACHA20_POLY1305, &chacha_params, sizeof chacha_params};
    (void)run;
    enum chv_err err = known_aead_key(s, gcm ? CKK_AES : CKK_CHACHA20, a->key, &key, why);
    if (err != CHV_OK)
        return err;
    err = known_record(s, &mechanism, key, a, why);
    known_destroy(s, key);
    return err;
}

/* --- curves --------------------------------------------------------------------------------------------------------
 */

/* Fresh keys of the token and of software agree: where the token takes none from outside. */
static enum chv_err known_agreement(struct chv_p11_session *s, const struct known_run *run, enum chv_curve curve,
                                    struct chv_why *why)
{
    const struct chv_p11_pair pair = {.curve = curve};
    CK_OBJECT_HANDLE priv = CK_INVALID_HANDLE, pub = CK_INVALID_HANDLE;
    uint8_t ours_public[CHV_DH_PUBLIC_MAX], theirs_public[CHV_DH_PUBLIC_MAX], ours[CHV_KEY_LEN] = {0},
                                                                              theirs[CHV_KEY_LEN] = {0};
    struct chv_dh *software = NULL;
    enum chv_err err = chv_p11_pair_make(s, &pair, &priv, &pub, ours_public, why);
    if (err != CHV_OK)
        return err;
    run->known->source = "agreement with OpenSSL: it takes no private keys";
    err = chv_crypto_dh_generate(run->software, curve, &software, theirs_public);
    if (err == CHV_OK)
        err = chv_crypto_dh_derive(run->software, software, ours_public, theirs);
    if (err == CHV_OK)
        err = chv_p11_ecdh(s, priv, curve, theirs_public, ours, why);
    if (err == CHV_OK && !chv_equal(ours, theirs, sizeof ours))
        err = chv_fail(why, CHV_ERR_SELFTEST, "gives other bytes");
    chv_crypto_dh_free(run->software, software);
    known_destroy(s, priv);
    known_destroy(s, pub);
    chv_wipe(ours, sizeof ours);
    chv_wipe(theirs, sizeof theirs);
    return err;
}

static enum chv_err known_dh(struct chv_p11_session *s, const struct known_run *run, unsigned i, struct chv_why *why)
{
    const struct chv_answer_dh *a = &chv_answers_dh[i];
    const struct chv_p11_pair pair = {.curve = (enum chv_curve)i};
    enum chv_err err = CHV_OK;
    for (unsigned side = 0; err == CHV_OK && side < 2; side++) {
        CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
        uint8_t private_key[CHV_DH_PRIVATE_LEN], own[CHV_DH_PUBLIC_MAX], peer[CHV_DH_PUBLIC_MAX], out[CHV_KEY_LEN];
        (void)known_bytes(a->private_key[side], private_key, sizeof private_key);
        (void)known_bytes(a->public_key[side], own, sizeof own);
        (void)known_bytes(a->public_key[1 - side], peer, sizeof peer);
        err = chv_p11_pair_import(s, &pair, private_key, own, &key, why);
        if (err != CHV_OK)
            return known_agreement(s, run, pair.curve, why);
        err = chv_p11_ecdh(s, key, pair.curve, peer, out, why);
        known_destroy(s, key);
        if (err == CHV_OK)
            err = known_compare(out, sizeof out, a->shared, why);
    }
    return err;
}

/* --- all of them ---------------------------------------------------------------------------------------------------
 */

static const struct known_test {
    const char *what, *source;
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS flags;
    enum chv_err (*run)(struct chv_p11_session *s, const struct known_run *run, unsigned i, struct chv_why *why);
    unsigned i;
} known_tests[] = {
    {"SHA-256", "FIPS 180-4, \"abc\"", CKM_SHA256, CKF_DIGEST, known_hash, 0},
    {"SHA-256", "FIPS 180-4, two blocks", CKM_SHA256, CKF_DIGEST, known_hash, 1},
    {"HMAC-SHA256", "RFC 4231, test case 1", CKM_SHA256_HMAC, CKF_SIGN, known_hmac, 0},
    {"HMAC-SHA256", "RFC 4231, test case 2", CKM_SHA256_HMAC, CKF_SIGN, known_hmac, 1},
    {"HMAC-SHA256", "RFC 4231, test case 3", CKM_SHA256_HMAC, CKF_SIGN, known_hmac, 2},
    {"HMAC-SHA256", "RFC 4231, test case 4", CKM_SHA256_HMAC, CKF_SIGN, known_hmac, 3},
    {"HKDF-Expand by hmac", "RFC 5869, A.1", CKM_SHA256_HMAC, CKF_SIGN, known_expand_hmac, 0},
    {"HKDF-Expand by hmac", "RFC 5869, A.2", CKM_SHA256_HMAC, CKF_SIGN, known_expand_hmac, 1},
    {"HKDF-Expand by hmac", "RFC 5869, A.3", CKM_SHA256_HMAC, CKF_SIGN, known_expand_hmac, 2},
    {"HKDF-Expand by hkdf", "RFC 5869, A.1", CKM_HKDF_DERIVE, CKF_DERIVE, known_expand_hkdf, 0},
    {"HKDF-Expand by sp800-108", "RFC 5869, A.1", CKM_SP800_108_COUNTER_KDF, CKF_DERIVE, known_expand_sp800, 0},
    {"AES-256-GCM", NULL, CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT, known_aead, CHV_AEAD_AES256GCM},
    {"ChaCha20-Poly1305", NULL, CKM_CHACHA20_POLY1305, CKF_ENCRYPT | CKF_DECRYPT, known_aead,
     CHV_AEAD_CHACHA20POLY1305},
    {"ECDH on P-256", NULL, CKM_ECDH1_DERIVE, CKF_DERIVE, known_dh, CHV_CURVE_P256},
    {"X25519", NULL, CKM_ECDH1_DERIVE, CKF_DERIVE, known_dh, CHV_CURVE_25519},
};
#define KNOWN_TESTS (sizeof known_tests / sizeof known_tests[0])
_Static_assert(KNOWN_TESTS <= CHV_TOKEN_KNOWN_MAX, "room for all");

static void known_reason(const struct chv_p11_session *s, const struct chv_why *why, char out[CHV_TOKEN_REASON_MAX])
{
    const bool with = s->mechanism != CHV_P11_NO_MECHANISM;
    if (s->rv == CKR_OK)
        (void)snprintf(out, CHV_TOKEN_REASON_MAX, "%.*s", CHV_TOKEN_REASON_MAX - 1, why->text);
    else
        (void)snprintf(out, CHV_TOKEN_REASON_MAX, "%s%s%s: %s", s->call, with ? " with " : "",
                       with ? chv_p11_mechanism_name(s->mechanism) : "", chv_p11_rv_name(s->rv));
}

static enum chv_err known_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct known_run *run = arg;
    struct chv_token_known *first = run->known;
    (void)why;
    for (size_t i = 0; i < KNOWN_TESTS; i++) {
        struct chv_why reason = {""};
        run->known = &first[i];
        if (run->known->reason[0] != '\0')
            continue;
        s->rv = CKR_OK;
        enum chv_err err = known_tests[i].run(s, run, known_tests[i].i, &reason);
        run->known->verdict = err == CHV_OK             ? CHV_TOKEN_GIVES
                              : err == CHV_ERR_SELFTEST ? CHV_TOKEN_ERRS
                                                        : CHV_TOKEN_REFUSES;
        if (err != CHV_OK)
            known_reason(s, &reason, run->known->reason);
    }
    run->known = first;
    s->rv = CKR_OK; /* a refusal is an answer here, no reason to bring the token back */
    return CHV_OK;
}

enum chv_err chv_token_known_run(struct chv_p11_token *token, const struct chv_crypto *software,
                                 struct chv_token_known known[CHV_TOKEN_KNOWN_MAX], size_t *count, struct chv_why *why)
{
    struct known_run run = {.software = software, .known = known};
    for (size_t i = 0; i < KNOWN_TESTS; i++) {
        const struct known_test *test = &known_tests[i];
        const char *source = test->source != NULL      ? test->source
                             : test->run == known_aead ? chv_answers_aead[test->i].source
                                                       : chv_answers_dh[test->i].source;
        known[i] = (struct chv_token_known){.what = test->what, .source = source};
        if (chv_p11_token_mechanism(token, test->mechanism, test->flags, NULL, NULL) != CHV_OK)
            (void)snprintf(known[i].reason, sizeof known[i].reason, "%s is not in its list",
                           chv_p11_mechanism_name(test->mechanism));
    }
    *count = KNOWN_TESTS;
    return chv_p11_token_run(token, known_work, &run, why);
}
