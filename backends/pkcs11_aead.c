/* SPDX-License-Identifier: Apache-2.0 */
/* AEAD by a token: keys as session objects, a record by one C_Encrypt or C_Decrypt. */
#include <stdlib.h>
#include <string.h>

#include "backends/pkcs11_private.h"
#include "base/memory.h"

#ifndef CKR_AEAD_DECRYPT_FAILED /* PKCS #11 3.0 */
#define CKR_AEAD_DECRYPT_FAILED 0x42UL
#endif

struct chv_aead {
    struct pkcs11_ctx *owner;
    enum chv_aead_alg alg;
    struct pkcs11_key key;
};

/* A mechanism with its parameters. */
struct cipher {
    CK_MECHANISM mechanism;
    union {
        CK_GCM_PARAMS gcm;
        struct chv_p11_chacha_params chacha;
    } params;
};

static const CK_KEY_TYPE key_types[CHV_AEAD_COUNT] = {
    [CHV_AEAD_AES256GCM] = CKK_AES,
    [CHV_AEAD_CHACHA20POLY1305] = CKK_CHACHA20,
};

static void set_cipher(struct cipher *cipher, enum chv_aead_alg alg, const uint8_t *nonce, const uint8_t *ad,
                       size_t ad_len)
{
    CK_BYTE_PTR n = chv_pkcs11_bytes(nonce);
    CK_BYTE_PTR a = ad_len > 0 ? chv_pkcs11_bytes(ad) : NULL;
    if (alg == CHV_AEAD_AES256GCM) {
        cipher->params.gcm = (CK_GCM_PARAMS){
            .iv_ptr = n,
            .iv_len = CHV_AEAD_NONCE_LEN,
            .iv_bits = CHV_AEAD_NONCE_LEN * 8,
            .aad_ptr = a,
            .aad_len = ad_len,
            .tag_bits = CHV_AEAD_TAG_LEN * 8,
        };
        cipher->mechanism = (CK_MECHANISM){CKM_AES_GCM, &cipher->params.gcm, sizeof cipher->params.gcm};
    } else {
        cipher->params.chacha = (struct chv_p11_chacha_params){
            .pNonce = n, .ulNonceLen = CHV_AEAD_NONCE_LEN, .pAAD = a, .ulAADLen = ad_len};
        cipher->mechanism = (CK_MECHANISM){CKM_CHACHA20_POLY1305, &cipher->params.chacha, sizeof cipher->params.chacha};
    }
}

/* ---- keys ---- */

struct key_call {
    struct pkcs11_ctx *owner;
    enum chv_aead_alg alg;
    const uint8_t *value;
    struct pkcs11_key key;
};

static enum chv_err key_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct key_call *call = arg;
    enum chv_err err = chv_pkcs11_import(call->owner, s, key_types[call->alg], call->value, CHV_KEY_LEN, false,
                                         &call->key.object, why);
    call->key.pool = s->pool;
    call->key.there = err == CHV_OK;
    return err;
}

enum chv_err chv_pkcs11_aead_rekey(struct chv_aead *aead, const uint8_t key[CHV_KEY_LEN])
{
    struct key_call call = {.owner = aead->owner, .alg = aead->alg, .value = key};
    chv_pkcs11_destroy(aead->owner, &aead->key);
    enum chv_err err = chv_pkcs11_run(aead->owner, key_work, &call);
    if (err == CHV_OK)
        aead->key = call.key;
    return err;
}

enum chv_err chv_pkcs11_aead_new(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                 struct chv_aead **aead)
{
    struct chv_aead *a = calloc(1, sizeof *a);
    if (a == NULL)
        return CHV_ERR_MEMORY;
    a->owner = ctx;
    a->alg = alg;
    enum chv_err err = chv_pkcs11_aead_rekey(a, key);
    if (err == CHV_OK)
        *aead = a;
    else
        free(a);
    return err;
}

void chv_pkcs11_aead_free(struct chv_aead *aead)
{
    if (aead == NULL)
        return;
    chv_pkcs11_destroy(aead->owner, &aead->key);
    chv_wipe(aead, sizeof *aead);
    free(aead);
}

/* ---- records ---- */

struct record_call {
    struct chv_aead *aead;
    const uint8_t *nonce, *ad, *in;
    size_t ad_len, in_len, want; /* want: bytes that come out */
    uint8_t *out;
    size_t room;
    enum chv_err failed; /* in place: what a first try ended with, that may have changed the input */
};

/* chv_p11_token_run tries again where a token was lost; that must not seal or open what is half done. */
static enum chv_err begin(struct chv_p11_session *s, struct record_call *call, struct cipher *cipher,
                          struct chv_why *why)
{
    if (call->failed != CHV_OK)
        return call->failed;
    set_cipher(cipher, call->aead->alg, call->nonce, call->ad, call->ad_len);
    return chv_pkcs11_check_key(&call->aead->key, s, why);
}

static enum chv_err end(struct record_call *call, enum chv_err err)
{
    if (call->in == call->out)
        call->failed = err;
    return err;
}

static enum chv_err too_short(const struct chv_p11_session *s, const struct record_call *call, CK_ULONG got,
                              struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_CRYPTO, "%s: %s with %s: gave %lu bytes, %zu are right", s->where, s->call,
                    chv_p11_mechanism_name(s->mechanism), got, call->want);
}

static enum chv_err seal_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct record_call *call = arg;
    struct cipher cipher;
    CK_ULONG len = call->room;
    enum chv_err err = begin(s, call, &cipher, why);
    if (err != CHV_OK)
        return err;
    if (chv_p11_call_for(s, cipher.mechanism.mechanism, C_EncryptInit, &cipher.mechanism, call->aead->key.object) !=
            CKR_OK ||
        chv_p11_call_for(s, cipher.mechanism.mechanism, C_Encrypt, chv_pkcs11_bytes(call->in), call->in_len, call->out,
                         &len) != CKR_OK)
        return end(call, chv_p11_session_fail(s, why));
    return len == call->want ? CHV_OK : too_short(s, call, len, why);
}

enum chv_err chv_pkcs11_aead_seal(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                  size_t ad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    struct record_call call = {
        .aead = aead,
        .nonce = nonce,
        .ad = ad,
        .ad_len = ad_len,
        .in = len > 0 ? in : NULL,
        .in_len = len,
        .want = len + CHV_AEAD_TAG_LEN,
        .out = out,
        .room = len + CHV_AEAD_TAG_LEN,
    };
    return chv_pkcs11_run(aead->owner, seal_work, &call);
}

/*
 * Whether the key and the session still work: nothing is sealed and opened under a nonce that is never sent
 * (Noise 5.1 reserves 2^64-1, and both its encodings differ from this one in the first four bytes).
 */
static bool still_works(struct chv_p11_session *s, const struct chv_aead *aead)
{
    static const uint8_t nonce[CHV_AEAD_NONCE_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct cipher cipher;
    uint8_t tag[2 * CHV_AEAD_TAG_LEN];
    uint8_t none[2 * CHV_AEAD_TAG_LEN];
    CK_ULONG tag_len = sizeof tag;
    CK_ULONG none_len = sizeof none;
    set_cipher(&cipher, aead->alg, nonce, NULL, 0);
    return s->fn->C_EncryptInit(s->handle, &cipher.mechanism, aead->key.object) == CKR_OK &&
           s->fn->C_Encrypt(s->handle, chv_pkcs11_bytes(NULL), 0, tag, &tag_len) == CKR_OK &&
           tag_len == CHV_AEAD_TAG_LEN &&
           s->fn->C_DecryptInit(s->handle, &cipher.mechanism, aead->key.object) == CKR_OK &&
           s->fn->C_Decrypt(s->handle, tag, tag_len, none, &none_len) == CKR_OK && none_len == 0;
}

/* Answers of tokens that have no name for a wrong tag. */
static bool may_be_tag(CK_RV rv)
{
    return rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED || rv == CKR_DATA_INVALID || rv == CKR_DATA_LEN_RANGE;
}

/*
 * A wrong tag has a name of its own in some tokens; SoftHSM says CKR_GENERAL_ERROR, which it also says when it is
 * broken.  So another record is tried: if that goes, it was the tag.
 */
static enum chv_err open_failed(struct chv_p11_session *s, const struct chv_aead *aead, struct chv_why *why)
{
    CK_RV rv = s->rv;
    bool told = rv == CKR_AEAD_DECRYPT_FAILED || chv_p11_rv_error(rv) == CHV_ERR_AUTH;
    if (!told && !(may_be_tag(rv) && still_works(s, aead)))
        return chv_p11_session_fail(s, why);
    s->rv = CKR_OK;
    return chv_fail(why, CHV_ERR_AUTH, "%s: %s with %s: %s: the tag is wrong", s->where, s->call,
                    chv_p11_mechanism_name(s->mechanism), chv_p11_rv_name(rv));
}

static enum chv_err open_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct record_call *call = arg;
    struct cipher cipher;
    CK_ULONG len = call->room;
    enum chv_err err = begin(s, call, &cipher, why);
    if (err != CHV_OK)
        return err;
    if (chv_p11_call_for(s, cipher.mechanism.mechanism, C_DecryptInit, &cipher.mechanism, call->aead->key.object) !=
        CKR_OK)
        return chv_p11_session_fail(s, why);
    if (chv_p11_call_for(s, cipher.mechanism.mechanism, C_Decrypt, chv_pkcs11_bytes(call->in), call->in_len, call->out,
                         &len) != CKR_OK)
        return end(call, open_failed(s, call->aead, why));
    return len == call->want ? CHV_OK : too_short(s, call, len, why);
}

/*
 * SoftHSM wants room for the ciphertext and the tag, though it writes the plaintext only; a record opened in place has
 * that room, any other goes through the scratch buffer.
 */
enum chv_err chv_pkcs11_aead_open(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                  size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out)
{
    struct record_call call = {
        .aead = aead,
        .nonce = nonce,
        .ad = ad,
        .ad_len = ad_len,
        .in = in,
        .in_len = in_len,
        .want = in_len - CHV_AEAD_TAG_LEN,
        .out = out == in ? out : chv_pkcs11_scratch(aead->owner, in_len),
        .room = in_len,
    };
    enum chv_err err = call.out == NULL ? CHV_ERR_MEMORY : chv_pkcs11_run(aead->owner, open_work, &call);
    if (err != CHV_OK)
        chv_wipe(out, call.want);
    else if (call.out != out && call.want > 0)
        memcpy(out, call.out, call.want);
    if (call.out != NULL && call.out != out)
        chv_wipe(call.out, in_len);
    return err;
}
