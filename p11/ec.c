/* SPDX-License-Identifier: Apache-2.0 */
/* EC key pairs of a token, ECDH, ECDSA. */
#include "p11/object.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <string.h>

#include "base/memory.h"

/* Ways to have a curve, in the order in which they are tried.  Parameters are DER object identifiers. */
static const struct recipe {
    enum chv_curve curve;
    CK_MECHANISM_TYPE generate;
    CK_KEY_TYPE type;
    uint8_t params[11];
    size_t params_len;
} recipes[] = {
    /* RFC 5480, 2.1.1.1: secp256r1 */
    {CHV_CURVE_P256, CKM_EC_KEY_PAIR_GEN, CKK_EC, {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, 10},
    /* RFC 8410, 3: id-X25519, as PKCS #11 3.0, 2.3.8 has it */
    {CHV_CURVE_25519, CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKK_EC_MONTGOMERY, {6, 3, 0x2b, 0x65, 0x6e}, 5},
    /* the same as SoftHSM 2.6 has it */
    {CHV_CURVE_25519, CKM_EC_EDWARDS_KEY_PAIR_GEN, CKK_EC_EDWARDS, {6, 3, 0x2b, 0x65, 0x6e}, 5},
    /* Curve25519 by GNU's number, as NSS has it */
    {CHV_CURVE_25519, CKM_EC_KEY_PAIR_GEN, CKK_EC, {6, 9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1}, 11},
};

enum { PAIR_ATTRIBUTES = 14 };

static void add(CK_ATTRIBUTE *t, CK_ULONG *n, CK_ATTRIBUTE_TYPE type, const void *value, CK_ULONG len)
{
    t[(*n)++] = (CK_ATTRIBUTE){type, (void *)(uintptr_t)value, len};
}

static void add_flag(CK_ATTRIBUTE *t, CK_ULONG *n, CK_ATTRIBUTE_TYPE type, bool on)
{
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    add(t, n, type, on ? &yes : &no, sizeof yes);
}

static void add_label(CK_ATTRIBUTE *t, CK_ULONG *n, const char *label)
{
    if (label == NULL)
        return;
    add(t, n, CKA_LABEL, label, strlen(label));
    add(t, n, CKA_ID, label, strlen(label));
}

static CK_RV generate(struct chv_p11_session *s, const struct recipe *r, const struct chv_p11_pair *pair,
                      CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key)
{
    CK_MECHANISM mechanism = {r->generate, NULL, 0};
    CK_ATTRIBUTE priv[PAIR_ATTRIBUTES], pub[PAIR_ATTRIBUTES];
    CK_ULONG priv_n = 0, pub_n = 0;
    add(priv, &priv_n, CKA_KEY_TYPE, &r->type, sizeof r->type);
    add_flag(priv, &priv_n, CKA_TOKEN, pair->token);
    add_flag(priv, &priv_n, CKA_PRIVATE, !pair->open);
    add_flag(priv, &priv_n, CKA_SENSITIVE, true);
    add_flag(priv, &priv_n, CKA_EXTRACTABLE, false);
    add_flag(priv, &priv_n, CKA_DERIVE, !pair->sign);
    add_flag(priv, &priv_n, CKA_SIGN, pair->sign);
    add_flag(priv, &priv_n, CKA_DECRYPT, false);
    add_flag(priv, &priv_n, CKA_UNWRAP, false);
    add_label(priv, &priv_n, pair->label);
    add(pub, &pub_n, CKA_KEY_TYPE, &r->type, sizeof r->type);
    add(pub, &pub_n, CKA_EC_PARAMS, r->params, r->params_len);
    add_flag(pub, &pub_n, CKA_TOKEN, pair->token);
    add_flag(pub, &pub_n, CKA_PRIVATE, false);
    add_flag(pub, &pub_n, CKA_VERIFY, pair->sign);
    add_flag(pub, &pub_n, CKA_ENCRYPT, false);
    add_flag(pub, &pub_n, CKA_WRAP, false);
    add_label(pub, &pub_n, pair->label);
    return chv_p11_call_for(s, r->generate, C_GenerateKeyPair, &mechanism, pub, pub_n, priv, priv_n, public_key,
                            private_key);
}

/* The token has the mechanism, or says so, but not for this curve: the next recipe may do. */
static bool not_this_way(CK_RV rv)
{
    switch (rv) {
    case CKR_ATTRIBUTE_VALUE_INVALID:
    case CKR_CURVE_NOT_SUPPORTED:
    case CKR_DOMAIN_PARAMS_INVALID:
    case CKR_FUNCTION_NOT_SUPPORTED:
    case CKR_KEY_TYPE_INCONSISTENT:
    case CKR_MECHANISM_INVALID:
    case CKR_MECHANISM_PARAM_INVALID:
    case CKR_TEMPLATE_INCOMPLETE:
    case CKR_TEMPLATE_INCONSISTENT:
        return true;
    default:
        return false;
    }
}

static void destroy_pair(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, CK_OBJECT_HANDLE public_key)
{
    (void)s->fn->C_DestroyObject(s->handle, private_key);
    (void)s->fn->C_DestroyObject(s->handle, public_key);
}

enum chv_err chv_p11_pair_make(struct chv_p11_session *s, const struct chv_p11_pair *pair,
                               CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key, uint8_t *public_out,
                               struct chv_why *why)
{
    CK_OBJECT_HANDLE priv = CK_INVALID_HANDLE, pub = CK_INVALID_HANDLE;
    uint8_t point[CHV_DH_PUBLIC_MAX];
    enum chv_curve curve = pair->curve;
    CK_RV rv = CKR_MECHANISM_INVALID;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0] && not_this_way(rv); i++)
        if (recipes[i].curve == pair->curve)
            rv = generate(s, &recipes[i], pair, &priv, &pub);
    if (not_this_way(rv))
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: C_GenerateKeyPair: the token has no %s keys (%s)", s->where,
                        chv_curve_name(pair->curve), chv_p11_rv_name(rv));
    if (rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    enum chv_err err = chv_p11_pair_public(s, pub, &curve, point, why);
    if (err != CHV_OK) {
        CK_RV failed = s->rv;
        destroy_pair(s, priv, pub);
        s->rv = failed;
        return err;
    }
    memcpy(public_out, point, chv_dh_public_len(curve));
    *private_key = priv;
    *public_key = pub;
    return CHV_OK;
}

/* Some tokens want the public point with it, others refuse that. */
static CK_RV import_key(struct chv_p11_session *s, const struct recipe *r, const struct chv_p11_pair *pair,
                        const uint8_t *private_value, const uint8_t *public_value, bool with_point,
                        CK_OBJECT_HANDLE *private_key)
{
    static const CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    uint8_t der[CHV_DH_PUBLIC_MAX + 2] = {4, (uint8_t)chv_dh_public_len(pair->curve)};
    CK_ATTRIBUTE t[PAIR_ATTRIBUTES];
    CK_ULONG n = 0;
    memcpy(der + 2, public_value, der[1]);
    add(t, &n, CKA_CLASS, &class, sizeof class);
    add(t, &n, CKA_KEY_TYPE, &r->type, sizeof r->type);
    add(t, &n, CKA_EC_PARAMS, r->params, r->params_len);
    add(t, &n, CKA_VALUE, private_value, CHV_DH_PRIVATE_LEN);
    add_flag(t, &n, CKA_TOKEN, pair->token);
    add_flag(t, &n, CKA_PRIVATE, !pair->open);
    add_flag(t, &n, CKA_SENSITIVE, true);
    add_flag(t, &n, CKA_EXTRACTABLE, false);
    add_flag(t, &n, CKA_DERIVE, !pair->sign);
    add_flag(t, &n, CKA_SIGN, pair->sign);
    if (with_point)
        add(t, &n, CKA_EC_POINT, der, der[1] + 2u);
    return chv_p11_call(s, C_CreateObject, t, n, private_key);
}

enum chv_err chv_p11_pair_import(struct chv_p11_session *s, const struct chv_p11_pair *pair,
                                 const uint8_t private_value[CHV_DH_PRIVATE_LEN], const uint8_t *public_value,
                                 CK_OBJECT_HANDLE *private_key, struct chv_why *why)
{
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    CK_RV rv = CKR_MECHANISM_INVALID;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0] && not_this_way(rv); i++)
        for (int with_point = 0; with_point < 2 && recipes[i].curve == pair->curve && not_this_way(rv); with_point++)
            rv = import_key(s, &recipes[i], pair, private_value, public_value, with_point != 0, &made);
    if (rv == CKR_OK)
        *private_key = made;
    else if (not_this_way(rv))
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: C_CreateObject: the token takes no %s private keys (%s)",
                        s->where, chv_curve_name(pair->curve), chv_p11_rv_name(rv));
    return rv == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

enum chv_err chv_p11_pair_curve(struct chv_p11_session *s, CK_OBJECT_HANDLE object, enum chv_curve *curve,
                                struct chv_why *why)
{
    uint8_t params[64];
    size_t len = sizeof params;
    enum chv_err err = chv_p11_get(s, object, CKA_EC_PARAMS, params, &len, why);
    if (err != CHV_OK)
        return err;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        if (recipes[i].params_len == len && memcmp(recipes[i].params, params, len) == 0) {
            *curve = recipes[i].curve;
            return CHV_OK;
        }
    return chv_fail(why, CHV_ERR_KEY, "%s: an EC key is on a curve that is not used here", s->where);
}

/* CKA_EC_POINT is a DER OCTET STRING (PKCS #11 2.40, 2.3.3) or, by newer texts and older tokens, the bytes themselves.
 */
enum chv_err chv_p11_pair_public(struct chv_p11_session *s, CK_OBJECT_HANDLE public_key, enum chv_curve *curve,
                                 uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why)
{
    uint8_t point[CHV_DH_PUBLIC_MAX + 8];
    size_t len = sizeof point;
    enum chv_curve found = CHV_CURVE_P256;
    enum chv_err err = chv_p11_pair_curve(s, public_key, &found, why);
    if (err == CHV_OK)
        err = chv_p11_get(s, public_key, CKA_EC_POINT, point, &len, why);
    if (err != CHV_OK)
        return err;
    size_t want = chv_dh_public_len(found), at = len == want + 2 && point[0] == 4 && point[1] == want ? 2 : 0;
    if (len - at != want)
        return chv_fail(why, CHV_ERR_KEY, "%s: a public key has %zu bytes, %zu are right", s->where, len - at, want);
    memcpy(out, point + at, want);
    *curve = found;
    return CHV_OK;
}

static enum chv_err try_curve(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    const struct chv_p11_pair pair = {.curve = *(const enum chv_curve *)arg};
    CK_OBJECT_HANDLE priv = CK_INVALID_HANDLE, pub = CK_INVALID_HANDLE;
    uint8_t point[CHV_DH_PUBLIC_MAX], shared[32];
    enum chv_err err = chv_p11_pair_make(s, &pair, &priv, &pub, point, why);
    if (err != CHV_OK)
        return err;
    err = chv_p11_ecdh(s, priv, pair.curve, point, shared, why);
    chv_wipe(shared, sizeof shared);
    CK_RV rv = s->rv;
    destroy_pair(s, priv, pub);
    s->rv = rv;
    return err;
}

bool chv_p11_pair_supported(struct chv_p11_token *token, enum chv_curve curve)
{
    /* asked by doing it: a token's list of mechanisms does not name curves */
    return chv_p11_token_mechanism(token, CKM_ECDH1_DERIVE, CKF_DERIVE, NULL, NULL) == CHV_OK &&
           chv_p11_token_run(token, try_curve, &curve, NULL) == CHV_OK;
}

/* ---- ECDH ---- */

/* Uncompressed and on P-256: OpenSSL refuses others when it takes them in. */
static bool on_p256(const uint8_t *point)
{
    char group[] = "P-256";
    EVP_PKEY *key = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point, 65),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    bool good = point[0] == 4 && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
                EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

/*
 * Whether X25519 with this point is zero whatever the scalar (RFC 7748, 6.1): OpenSSL fails then, with any private key.
 * Asked only when a token has failed, to tell a bad point from a bad token.
 */
static bool low_order(const uint8_t *point)
{
    static const uint8_t any[32] = {1};
    uint8_t shared[32];
    size_t len = sizeof shared;
    EVP_PKEY *ours = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, any, sizeof any);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, point, 32);
    EVP_PKEY_CTX *ctx = ours != NULL ? EVP_PKEY_CTX_new(ours, NULL) : NULL;
    bool low = ctx != NULL && theirs != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
               EVP_PKEY_derive_set_peer(ctx, theirs) == 1 && EVP_PKEY_derive(ctx, shared, &len) != 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(ours);
    ERR_clear_error();
    return low;
}

static CK_RV derive(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, const uint8_t *point, size_t len,
                    CK_OBJECT_HANDLE *shared)
{
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static const CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    static const CK_ULONG length = 32;
    CK_ECDH1_DERIVE_PARAMS params = {
        .kdf = CKD_NULL, .public_data_len = len, .public_data = (unsigned char *)(uintptr_t)point};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &params, sizeof params};
    CK_ATTRIBUTE t[8];
    CK_ULONG n = 0;
    add(t, &n, CKA_CLASS, &class, sizeof class);
    add(t, &n, CKA_KEY_TYPE, &type, sizeof type);
    add(t, &n, CKA_VALUE_LEN, &length, sizeof length);
    add_flag(t, &n, CKA_TOKEN, false);
    add_flag(t, &n, CKA_PRIVATE, false); /* nobody need have logged in; it is read and destroyed at once */
    add_flag(t, &n, CKA_SENSITIVE, false);
    add_flag(t, &n, CKA_EXTRACTABLE, true);
    return chv_p11_call_for(s, CKM_ECDH1_DERIVE, C_DeriveKey, &mechanism, private_key, t, n, shared);
}

/*
 * The point goes as its bytes (PKCS #11 2.40, 2.3.8).  Tokens that also take the DER OCTET STRING guess which it is,
 * and a point that begins like DER (one in 256 on P-256) is refused by them: it goes once more as DER.
 */
static CK_RV derive_either(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, const uint8_t *point, size_t len,
                           CK_OBJECT_HANDLE *shared)
{
    uint8_t der[CHV_DH_PUBLIC_MAX + 2] = {4, (uint8_t)len};
    CK_RV rv = derive(s, private_key, point, len, shared);
    if (rv == CKR_OK || point[0] != 4 || point[1] != len - 2)
        return rv;
    memcpy(der + 2, point, len);
    return derive(s, private_key, der, len + 2, shared);
}

enum chv_err chv_p11_ecdh(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, enum chv_curve curve,
                          const uint8_t *peer_public, uint8_t out[32], struct chv_why *why)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t shared[32];
    size_t len = sizeof shared;
    if (curve == CHV_CURVE_P256 && !on_p256(peer_public))
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: the peer's public key is no point of P-256", s->where);
    CK_RV rv = derive_either(s, private_key, peer_public, chv_dh_public_len(curve), &object);
    if (rv != CKR_OK && curve == CHV_CURVE_25519 && low_order(peer_public)) {
        s->rv = CKR_OK;
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: the peer's public key is of low order", s->where);
    }
    if (rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    enum chv_err err = chv_p11_get(s, object, CKA_VALUE, shared, &len, why);
    if (err == CHV_OK && len != sizeof shared)
        err = chv_fail(why, CHV_ERR_CRYPTO, "%s: C_DeriveKey with CKM_ECDH1_DERIVE: gave %zu bytes, 32 are right",
                       s->where, len);
    /* RFC 7748, 6.1: a peer's point of low order */
    if (err == CHV_OK && curve == CHV_CURVE_25519 && chv_is_zero(shared, sizeof shared))
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: the peer's public key is of low order", s->where);
    if (err == CHV_OK)
        memcpy(out, shared, sizeof shared);
    chv_wipe(shared, sizeof shared);
    rv = s->fn->C_DestroyObject(s->handle, object);
    if (err == CHV_OK && rv != CKR_OK)
        s->rv = rv; /* no reason to fail, but the pool looks at it */
    return err;
}

/* ---- ECDSA ---- */

/* One DER INTEGER of an unsigned big-endian number; returns its length. */
static size_t put_integer(const uint8_t *number, size_t len, uint8_t *out)
{
    while (len > 1 && number[0] == 0) {
        number++;
        len--;
    }
    size_t pad = number[0] >= 0x80 ? 1 : 0;
    out[0] = 2;
    out[1] = (uint8_t)(len + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, number, len);
    return 2 + pad + len;
}

enum chv_err chv_p11_ecdsa(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, const uint8_t *message, size_t len,
                           uint8_t sig[80], size_t *sig_len, struct chv_why *why)
{
    static uint8_t nothing;
    CK_MECHANISM digest = {CKM_SHA256, NULL, 0}, ecdsa = {CKM_ECDSA, NULL, 0};
    uint8_t hash[64], raw[128];
    CK_ULONG hash_len = sizeof hash, raw_len = sizeof raw;
    CK_BYTE_PTR bytes = len == 0 ? &nothing : (CK_BYTE_PTR)(uintptr_t)message;
    if (chv_p11_call_for(s, CKM_SHA256, C_DigestInit, &digest) != CKR_OK ||
        chv_p11_call_for(s, CKM_SHA256, C_Digest, bytes, len, hash, &hash_len) != CKR_OK)
        return chv_p11_session_fail(s, why);
    if (hash_len != 32)
        return chv_fail(why, CHV_ERR_CRYPTO, "%s: C_Digest with CKM_SHA256: gave %lu bytes, 32 are right", s->where,
                        hash_len);
    if (chv_p11_call_for(s, CKM_ECDSA, C_SignInit, &ecdsa, private_key) != CKR_OK ||
        chv_p11_call_for(s, CKM_ECDSA, C_Sign, hash, hash_len, raw, &raw_len) != CKR_OK)
        return chv_p11_session_fail(s, why);
    if (raw_len != 64) /* r and s, 32 bytes each: PKCS #11 2.40, 2.3.1 */
        return chv_fail(why, CHV_ERR_CRYPTO, "%s: C_Sign with CKM_ECDSA: gave %lu bytes, 64 are right", s->where,
                        raw_len);
    /* SEQUENCE of two INTEGERs, at most 2 + 35 + 35 bytes: RFC 3279, 2.2.3 */
    size_t n = put_integer(raw, 32, sig + 2);
    n += put_integer(raw + 32, 32, sig + 2 + n);
    sig[0] = 0x30;
    sig[1] = (uint8_t)n;
    *sig_len = n + 2;
    return CHV_OK;
}
