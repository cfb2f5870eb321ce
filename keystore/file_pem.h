/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keystore "pem:FILE": one identity key as PEM text, which OpenSSL's programs read and write too.  A private key is
 * PKCS #8 (RFC 5958), in clear or encrypted (RFC 8018, scrypt), in a file that nobody else can read; a public key is a
 * SubjectPublicKeyInfo (RFC 5280).  The key's label is "identity", or "receipt" of a private key whose PKCS #8 says so by
 * its attribute key usage.
 */
#ifndef CHV_KEYSTORE_FILE_PEM_H
#define CHV_KEYSTORE_FILE_PEM_H

#include "core/identity.h"

enum { CHV_PEM_TEXT_MAX = 1024 }; /* of a public key, with its NUL */

/* Whether the file at `path` begins like PEM, as `openssl pkey` takes it; false if it cannot be read. */
bool chv_pem_is(const char *path);
/* A public key as NUL-terminated PEM text. */
enum chv_err chv_pem_public(const struct chv_identity *identity, char out[CHV_PEM_TEXT_MAX],
                            struct chv_why *why) CHV_MUST_CHECK;
/* Whether a P-256 key's ECDSA signature with SHA-256, in DER, is one of `message`.  CHV_ERR_DAMAGED: it is none. */
enum chv_err chv_pem_verify(const struct chv_identity *identity, const uint8_t *message, size_t len,
                            const uint8_t *signature, size_t signature_len, struct chv_why *why) CHV_MUST_CHECK;

#endif
