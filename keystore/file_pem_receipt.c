/* SPDX-License-Identifier: Apache-2.0 */
#include "keystore/file_pem_private.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include <string.h>

enum { DIGITAL_SIGNATURE = 0, KEY_AGREEMENT = 4, USAGES = 9 }; /* bits: RFC 5280, 4.2.1.3 */

static enum chv_err openssl_failed(const char *path, const char *what, struct chv_why *why)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    enum chv_err err =
        chv_fail(why, CHV_ERR_CRYPTO, "%s: %s: %s", path, what, reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return err;
}

/* NULL: it is of another form, which has no attributes. */
static PKCS8_PRIV_KEY_INFO *read_info(const char *text, size_t len, OSSL_LIB_CTX *ossl, const char *passphrase,
                                      size_t passphrase_len)
{
    PKCS8_PRIV_KEY_INFO *info = NULL;
    X509_SIG *sealed = NULL;
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    if (bio != NULL && strstr(text, "-----BEGIN PRIVATE KEY-----") != NULL)
        info = PEM_read_bio_PKCS8_PRIV_KEY_INFO(bio, NULL, NULL, NULL);
    else if (bio != NULL && strstr(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") != NULL)
        sealed = PEM_read_bio_PKCS8(bio, NULL, NULL, NULL);
    if (sealed != NULL)
        info = PKCS8_decrypt_ex(sealed, passphrase, (int)passphrase_len, ossl, NULL);
    X509_SIG_free(sealed);
    BIO_free(bio);
    ERR_clear_error();
    return info;
}

/* False: it says something that no key of ours does. */
static bool use_of(const PKCS8_PRIV_KEY_INFO *info, enum chv_key_use *use)
{
    const STACK_OF(X509_ATTRIBUTE) *attributes = PKCS8_pkey_get0_attrs(info);
    const int at = attributes == NULL ? -1 : X509at_get_attr_by_NID(attributes, NID_key_usage, -1);
    *use = CHV_USE_IDENTITY;
    if (at < 0)
        return true;
    const ASN1_BIT_STRING *bits = X509_ATTRIBUTE_get0_data(X509at_get_attr(attributes, at), 0, V_ASN1_BIT_STRING, NULL);
    unsigned set = 0;
    for (int i = 0; bits != NULL && i < USAGES; i++)
        set |= (unsigned)ASN1_BIT_STRING_get_bit(bits, i) << i;
    if (set == 1u << DIGITAL_SIGNATURE)
        *use = CHV_USE_RECEIPT;
    return set == 1u << DIGITAL_SIGNATURE || set == 1u << KEY_AGREEMENT;
}

enum chv_err chv_pem_use(const char *path, const char *text, size_t len, OSSL_LIB_CTX *ossl, const char *passphrase,
                         size_t passphrase_len, EVP_PKEY **pkey, enum chv_key_use *use, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    PKCS8_PRIV_KEY_INFO *info = read_info(text, len, ossl, passphrase, passphrase_len);
    *use = CHV_USE_IDENTITY;
    if (info == NULL)
        return CHV_OK;
    EVP_PKEY *again = EVP_PKCS82PKEY_ex(info, ossl, NULL);
    if (again == NULL) {
        err = openssl_failed(path, "its private key cannot be had", why);
    } else if (!use_of(info, use)) {
        err = chv_fail(why, CHV_ERR_KEY,
                       "%s: its key usage is neither digitalSignature (receipts) nor keyAgreement alone", path);
    } else {
        EVP_PKEY_free(*pkey);
        *pkey = again;
        again = NULL;
    }
    EVP_PKEY_free(again);
    PKCS8_PRIV_KEY_INFO_free(info);
    return err;
}

bool chv_pem_mark_receipt(PKCS8_PRIV_KEY_INFO *info)
{
    static const unsigned char bits[] = {0x80 >> DIGITAL_SIGNATURE};
    return PKCS8_pkey_add1_attr_by_NID(info, NID_key_usage, V_ASN1_BIT_STRING, bits, sizeof bits) == 1;
}

enum chv_err chv_pem_sign(const char *path, OSSL_LIB_CTX *ossl, EVP_PKEY *pkey, const uint8_t *message, size_t len,
                          uint8_t signature[CHV_SIGNATURE_MAX], size_t *signature_len, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    size_t n = CHV_SIGNATURE_MAX;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL || EVP_DigestSignInit_ex(md, NULL, "SHA256", ossl, NULL, pkey, NULL) != 1 ||
        EVP_DigestSign(md, signature, &n, message, len) != 1)
        err = openssl_failed(path, "signing", why);
    else
        *signature_len = n;
    EVP_MD_CTX_free(md);
    return err;
}

enum chv_err chv_pem_verify(const struct chv_identity *identity, const uint8_t *message, size_t len,
                            const uint8_t *signature, size_t signature_len, struct chv_why *why)
{
    EVP_PKEY *pkey = chv_pem_public_pkey(identity);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    enum chv_err err = CHV_OK;
    if (pkey == NULL || md == NULL || EVP_DigestVerifyInit_ex(md, NULL, "SHA256", NULL, NULL, pkey, NULL) != 1)
        err = openssl_failed("public key", "cannot verify", why);
    else if (EVP_DigestVerify(md, signature, signature_len, message, len) != 1)
        err = chv_fail(why, CHV_ERR_DAMAGED, "the signature is not of this text by this key");
    ERR_clear_error();
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    return err;
}
