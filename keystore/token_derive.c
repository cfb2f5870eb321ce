/* SPDX-License-Identifier: Apache-2.0 */
/* HKDF-Expand in a token, three ways.  The second and third need the probe (token_probe.c). */
#include "keystore/token.h"

#include <string.h>

#include "base/memory.h"

enum chv_err chv_token_rung_find(const char *name, enum chv_token_rung *rung, struct chv_why *why)
{
    static const char *const names[] = {"hmac", "hkdf", "sp800-108"};
    if (name[0] == '\0')
        name = names[CHV_TOKEN_HMAC];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *rung = (enum chv_token_rung)i;
            return CHV_OK;
        }
    return chv_fail(why, CHV_ERR_CONFIG, "chaveiro-derive=%s: known are hmac, hkdf and sp800-108", name);
}

/* RFC 5869, 2.3, for one block: T(1) = HMAC(PRK, info || 0x01). */
static enum chv_err expand_hmac(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const uint8_t *info, size_t info_len,
                                uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t block[CHV_INFO_MAX + 1];
    if (info_len > 0)
        memcpy(block, info, info_len);
    block[info_len] = 1;
    return chv_p11_hmac(s, key, block, info_len + 1, out, why);
}

/* C_DeriveKey to a key that can be read, its bytes, and the key's end. */
static enum chv_err derive_bytes(struct chv_p11_session *s, CK_OBJECT_HANDLE key, CK_MECHANISM *mechanism,
                                 CK_ULONG length, uint8_t *out, struct chv_why *why)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class},       {CKA_KEY_TYPE, &type, sizeof type},
                        {CKA_VALUE_LEN, &length, sizeof length}, {CKA_TOKEN, &no, sizeof no},
                        {CKA_SENSITIVE, &no, sizeof no},         {CKA_EXTRACTABLE, &yes, sizeof yes}};
    CK_OBJECT_HANDLE derived = CK_INVALID_HANDLE;
    uint8_t bytes[CHV_SECRET_LEN];
    size_t len = sizeof bytes;
    if (chv_p11_call_for(s, mechanism->mechanism, C_DeriveKey, mechanism, key, t, sizeof t / sizeof t[0], &derived) !=
        CKR_OK)
        return chv_p11_session_fail(s, why);
    enum chv_err err = chv_p11_get(s, derived, CKA_VALUE, bytes, &len, why);
    if (err == CHV_OK && len != length)
        err = chv_fail(why, CHV_ERR_CRYPTO, "%s: C_DeriveKey with %s: gave %zu bytes, %lu are right", s->where,
                       chv_p11_mechanism_name(mechanism->mechanism), len, length);
    if (err == CHV_OK)
        memcpy(out, bytes, length);
    chv_wipe(bytes, sizeof bytes);
    (void)s->fn->C_DestroyObject(s->handle, derived);
    return err;
}

static enum chv_err expand_hkdf(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const uint8_t *info, size_t info_len,
                                uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t copy[CHV_INFO_MAX];
    if (info_len > 0)
        memcpy(copy, info, info_len);
    struct chv_p11_hkdf_params params = {.bExtract = CK_FALSE,
                                         .bExpand = CK_TRUE,
                                         .prfHashMechanism = CKM_SHA256,
                                         .ulSaltType = CKF_HKDF_SALT_NULL,
                                         .pInfo = copy,
                                         .ulInfoLen = info_len};
    CK_MECHANISM mechanism = {CKM_HKDF_DERIVE, &params, sizeof params};
    return derive_bytes(s, key, &mechanism, CHV_SECRET_LEN, out, why);
}

/*
 * SP 800-108, 5.1, with the fixed input data before an 8-bit counter: K(1) = PRF(K, info || [1]).  For 32 bytes that is
 * T(1) of RFC 5869.
 */
static enum chv_err expand_sp800_108(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const uint8_t *info,
                                     size_t info_len, uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t copy[CHV_INFO_MAX] = {0};
    if (info_len > 0)
        memcpy(copy, info, info_len);
    struct chv_p11_counter_format counter = {.bLittleEndian = CK_FALSE, .ulWidthInBits = 8};
    struct chv_p11_prf_data data[] = {{CK_SP800_108_BYTE_ARRAY, copy, info_len},
                                      {CK_SP800_108_ITERATION_VARIABLE, &counter, sizeof counter}};
    size_t skip = info_len == 0 ? 1 : 0;
    struct chv_p11_sp800_108_params params = {
        .prfType = CKM_SHA256_HMAC, .ulNumberOfDataParams = 2 - skip, .pDataParams = data + skip};
    CK_MECHANISM mechanism = {CKM_SP800_108_COUNTER_KDF, &params, sizeof params};
    return derive_bytes(s, key, &mechanism, CHV_SECRET_LEN, out, why);
}

enum chv_err chv_token_expand(struct chv_p11_session *s, CK_OBJECT_HANDLE key, enum chv_token_rung rung,
                              const uint8_t *info, size_t info_len, uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    switch (rung) {
    case CHV_TOKEN_HKDF:
        return expand_hkdf(s, key, info, info_len, out, why);
    case CHV_TOKEN_SP800_108:
        return expand_sp800_108(s, key, info, info_len, out, why);
    default:
        return expand_hmac(s, key, info, info_len, out, why);
    }
}
