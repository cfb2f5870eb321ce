/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a token really has.  Its list of mechanisms is asked first, so that what it lacks has a name; but tokens list
 * what they then refuse, and curves are not in the list at all.  So each is tried as a session uses it, against software
 * where both must agree.  That the answers are right is for the self-test to say.
 */
#include <stdlib.h>
#include <string.h>

#include "backends/pkcs11.h"
#include "backends/pkcs11_private.h"
#include "base/memory.h"

enum { RECORD = 65536 }; /* more than the longest record */

/* What must be in the list for a capability, by its bit. */
struct need {
    uint32_t capability;
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS flags;
};

static const struct need needs[] = {
    {CHV_CAP_HASH(CHV_HASH_SHA256), CKM_SHA256, CKF_DIGEST},
    {CHV_CAP_HASH(CHV_HASH_SHA256), CKM_SHA256_HMAC, CKF_SIGN},
    {CHV_CAP_HASH(CHV_HASH_SHA512), CKM_SHA512, CKF_DIGEST},
    {CHV_CAP_HASH(CHV_HASH_SHA512), CKM_SHA512_HMAC, CKF_SIGN},
    {CHV_CAP_CURVE(CHV_CURVE_25519), CKM_ECDH1_DERIVE, CKF_DERIVE},
    {CHV_CAP_CURVE(CHV_CURVE_P256), CKM_ECDH1_DERIVE, CKF_DERIVE},
    {CHV_CAP_AEAD(CHV_AEAD_AES256GCM), CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT},
    {CHV_CAP_AEAD(CHV_AEAD_CHACHA20POLY1305), CKM_CHACHA20_POLY1305, CKF_ENCRYPT | CKF_DECRYPT},
};

static enum chv_err check_list(struct pkcs11_ctx *c, uint32_t capability, struct chv_why *why)
{
    enum chv_err err = chv_fail(why, CHV_ERR_UNSUPPORTED, "PKCS #11 has no mechanism for it");
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if (needs[i].capability != capability)
            continue;
        err = chv_p11_token_mechanism(c->token, needs[i].mechanism, needs[i].flags, NULL, why);
        if (err != CHV_OK)
            return err;
    }
    return err;
}

static enum chv_err try_hash(struct pkcs11_ctx *c, const struct chv_crypto *token, unsigned number)
{
    static const uint8_t key[CHV_HASH_MAX] = {1};
    uint8_t out[CHV_HASH_MAX];
    const struct chv_part part = {key, sizeof key};
    enum chv_hash alg = (enum chv_hash)number;
    (void)c;
    enum chv_err err = chv_crypto_hash(token, alg, &part, 1, out);
    return err == CHV_OK ? chv_crypto_hmac(token, alg, key, chv_hash_len(alg), &part, 1, out) : err;
}

/* A key of the token and one of software agree. */
static enum chv_err try_curve(struct pkcs11_ctx *c, const struct chv_crypto *token, unsigned number)
{
    enum chv_curve curve = (enum chv_curve)number;
    uint8_t public_a[CHV_DH_PUBLIC_MAX];
    uint8_t public_b[CHV_DH_PUBLIC_MAX];
    uint8_t shared_a[CHV_KEY_LEN] = {0};
    uint8_t shared_b[CHV_KEY_LEN] = {1};
    struct chv_dh *a = NULL;
    struct chv_dh *b = NULL;
    enum chv_err err = chv_crypto_dh_generate(token, curve, &a, public_a);
    if (err == CHV_OK)
        err = chv_crypto_dh_generate(&c->software, curve, &b, public_b);
    if (err == CHV_OK)
        err = chv_crypto_dh_derive(token, a, public_b, shared_a);
    if (err == CHV_OK)
        err = chv_crypto_dh_derive(&c->software, b, public_a, shared_b);
    if (err == CHV_OK && !chv_equal(shared_a, shared_b, sizeof shared_a))
        err = chv_fail(&c->last, CHV_ERR_SELFTEST, "%s: gives another %s result than software does",
                       chv_p11_token_name(c->token), chv_curve_name(curve));
    chv_crypto_dh_free(token, a);
    chv_crypto_dh_free(&c->software, b);
    chv_wipe(shared_a, sizeof shared_a);
    chv_wipe(shared_b, sizeof shared_b);
    return err;
}

/* The longest record, sealed in place by the token, opened in place by it, and by software. */
static enum chv_err try_record(struct pkcs11_ctx *c, const struct chv_crypto *token, struct chv_aead *a,
                               struct chv_aead *b, uint8_t *buf, uint8_t *copy)
{
    static const uint8_t nonce[CHV_AEAD_NONCE_LEN] = {1};
    const size_t sealed = RECORD + CHV_AEAD_TAG_LEN;
    memset(buf, 0x5a, RECORD);
    enum chv_err err = chv_crypto_aead_seal(token, a, nonce, NULL, 0, buf, RECORD, buf);
    if (err != CHV_OK)
        return err;
    memcpy(copy, buf, sealed);
    err = chv_crypto_aead_open(&c->software, b, nonce, NULL, 0, copy, sealed, copy);
    if (err == CHV_OK)
        err = chv_crypto_aead_open(token, a, nonce, NULL, 0, buf, sealed, buf);
    if (err == CHV_OK && memcmp(buf, copy, RECORD) != 0)
        err = CHV_ERR_AUTH;
    return err == CHV_ERR_AUTH ? chv_fail(&c->last, CHV_ERR_SELFTEST, "%s: seals another record than software does",
                                          chv_p11_token_name(c->token))
                               : err;
}

static enum chv_err try_aead(struct pkcs11_ctx *c, const struct chv_crypto *token, unsigned number)
{
    static const uint8_t key[CHV_KEY_LEN] = {2};
    enum chv_aead_alg alg = (enum chv_aead_alg)number;
    struct chv_aead *a = NULL;
    struct chv_aead *b = NULL;
    uint8_t *buf = malloc(2 * (RECORD + CHV_AEAD_TAG_LEN));
    enum chv_err err = buf == NULL ? CHV_ERR_MEMORY : chv_crypto_aead_new(token, alg, key, &a);
    if (err == CHV_OK)
        err = chv_crypto_aead_new(&c->software, alg, key, &b);
    if (err == CHV_OK)
        err = try_record(c, token, a, b, buf, buf + RECORD + CHV_AEAD_TAG_LEN);
    chv_crypto_aead_free(token, a);
    chv_crypto_aead_free(&c->software, b);
    free(buf);
    return err;
}

static const struct {
    unsigned first, count; /* capability bits */
    enum chv_err (*attempt)(struct pkcs11_ctx *c, const struct chv_crypto *token, unsigned number);
} kinds[] = {
    {0, CHV_HASH_COUNT, try_hash},
    {8, CHV_CURVE_COUNT, try_curve},
    {16, CHV_AEAD_COUNT, try_aead},
};

/* One capability; CHV_ERR_UNSUPPORTED, or what else failed, if the token does not have it. */
static enum chv_err probe(struct pkcs11_ctx *c, size_t kind, unsigned number)
{
    uint32_t capability = UINT32_C(1) << (kinds[kind].first + number);
    const struct chv_crypto token = {.backend = &chv_backend_pkcs11, .ctx = c, .capabilities = capability};
    struct chv_why *why = &c->lacks[kinds[kind].first + number];
    enum chv_err err = check_list(c, capability, why);
    if (err != CHV_OK)
        return err;
    err = kinds[kind].attempt(c, &token, number);
    if (err != CHV_OK)
        *why = c->last;
    return err;
}

enum chv_err chv_pkcs11_probe(struct pkcs11_ctx *c, uint32_t *found, struct chv_why *why)
{
    *found = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (unsigned i = 0; i < kinds[k].count; i++) {
            enum chv_err err = probe(c, k, i);
            if (err == CHV_OK)
                *found |= UINT32_C(1) << (kinds[k].first + i);
            else if (err == CHV_ERR_SELFTEST)
                return chv_fail(why, err, "backend \"pkcs11\": %s: do not use this token", c->last.text);
        }
    return CHV_OK;
}
