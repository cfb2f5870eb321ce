/* SPDX-License-Identifier: Apache-2.0 */
/* scrypt, key generation and signatures by OpenSSL: what a session backend has no call for. */
#include "keystore/file.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <string.h>

#include "base/memory.h"

static enum chv_err openssl_failed(struct chv_why *why, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    enum chv_err err =
        chv_fail(why, CHV_ERR_CRYPTO, "%s failed in OpenSSL: %s", what, reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return err;
}

enum chv_err chv_file_scrypt(OSSL_LIB_CTX *ossl, const char *passphrase, size_t passphrase_len,
                             const uint8_t salt[CHV_FILE_SALT_LEN], const struct chv_file_cost *cost,
                             uint8_t out[CHV_KEY_LEN], struct chv_why *why)
{
    /* RFC 7914, 6: V is 128 N r, B is 128 p r, and two blocks to work in; OpenSSL refuses what is over this */
    uint64_t memory = 128 * cost->r * (cost->n + cost->p + 4);
    if (EVP_PBE_scrypt_ex(passphrase, passphrase_len, salt, CHV_FILE_SALT_LEN, cost->n, cost->r, cost->p, memory, out,
                          CHV_KEY_LEN, ossl, NULL) == 1)
        return CHV_OK;
    chv_wipe(out, CHV_KEY_LEN);
    return openssl_failed(why, "scrypt");
}

enum chv_err chv_file_generate_private(OSSL_LIB_CTX *ossl, enum chv_curve curve, uint8_t out[CHV_DH_PRIVATE_LEN],
                                       struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    BIGNUM *scalar = NULL;
    int ok = 0;
    EVP_PKEY *pkey = curve == CHV_CURVE_25519 ? EVP_PKEY_Q_keygen(ossl, NULL, "X25519")
                                              : EVP_PKEY_Q_keygen(ossl, NULL, "EC", "P-256");
    if (pkey != NULL && curve == CHV_CURVE_25519) {
        size_t len = CHV_DH_PRIVATE_LEN;
        ok = EVP_PKEY_get_raw_private_key(pkey, out, &len) == 1 && len == CHV_DH_PRIVATE_LEN;
    } else if (pkey != NULL) {
        ok = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &scalar) == 1 &&
             BN_bn2binpad(scalar, out, CHV_DH_PRIVATE_LEN) == CHV_DH_PRIVATE_LEN;
    }
    if (!ok) {
        err = openssl_failed(why, "key generation");
        chv_wipe(out, CHV_DH_PRIVATE_LEN);
    }
    BN_clear_free(scalar);
    EVP_PKEY_free(pkey);
    return err;
}

static EVP_PKEY *p256_key(OSSL_LIB_CTX *ossl, const struct chv_file_key *key)
{
    static char group[] = "P-256";
    EVP_PKEY *pkey = NULL;
    uint8_t point[CHV_DH_PUBLIC_MAX];   /* a copy: OSSL_PARAM takes no const */
    uint8_t native[CHV_DH_PRIVATE_LEN]; /* OSSL_PARAM integers are in the machine's byte order */
    BIGNUM *scalar = BN_secure_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(ossl, "EC", NULL);
    if (scalar == NULL || ctx == NULL || BN_bin2bn(key->secret, CHV_DH_PRIVATE_LEN, scalar) == NULL ||
        BN_bn2nativepad(scalar, native, sizeof native) != (int)sizeof native)
        goto out;
    memcpy(point, key->public_key, sizeof point);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native, sizeof native),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) != 1)
        pkey = NULL;
out:
    chv_wipe(native, sizeof native);
    BN_clear_free(scalar);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

enum chv_err chv_file_sign(OSSL_LIB_CTX *ossl, const struct chv_file_key *key, const uint8_t *message, size_t len,
                           uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    size_t n = CHV_SIGNATURE_MAX;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY *pkey = p256_key(ossl, key);
    if (md == NULL || pkey == NULL || EVP_DigestSignInit_ex(md, NULL, "SHA256", ossl, NULL, pkey, NULL) != 1 ||
        EVP_DigestSign(md, sig, &n, message, len) != 1)
        err = openssl_failed(why, "signing");
    else
        *sig_len = n;
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    return err;
}
