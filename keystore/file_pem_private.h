/* SPDX-License-Identifier: Apache-2.0 */
/* Between keystore/file_pem.c and keystore/file_pem_receipt.c: keys that sign receipts, as PEM text. */
#ifndef CHV_KEYSTORE_FILE_PEM_PRIVATE_H
#define CHV_KEYSTORE_FILE_PEM_PRIVATE_H

#include "keystore/file_pem.h"

#include <chaveiro/keystore.h>

#include <openssl/x509.h>

/*
 * What the private key in `text` was made for. A receipt key says so itself: its PKCS #8 has the attribute key usage (RFC
 * 5280, 4.2.1.3) with digitalSignature alone; without that attribute, or with keyAgreement alone, it is an identity key.
 * `passphrase` opens an encrypted one. Where the attribute was looked at, *pkey becomes the key that it stands beside.
 */
enum chv_err chv_pem_use(const char *path, const char *text, size_t len, OSSL_LIB_CTX *ossl, const char *passphrase,
                         size_t passphrase_len, EVP_PKEY **pkey, enum chv_key_use *use,
                         struct chv_why *why) CHV_MUST_CHECK;
/* Adds that attribute to a new one. */
bool chv_pem_mark_receipt(PKCS8_PRIV_KEY_INFO *info);
/* ECDSA with SHA-256, DER. */
enum chv_err chv_pem_sign(const char *path, OSSL_LIB_CTX *ossl, EVP_PKEY *pkey, const uint8_t *message, size_t len,
                          uint8_t signature[CHV_SIGNATURE_MAX], size_t *signature_len,
                          struct chv_why *why) CHV_MUST_CHECK;
/* Of bytes, without a file; NULL: they are none. The caller's. */
EVP_PKEY *chv_pem_public_pkey(const struct chv_identity *identity);

#endif
