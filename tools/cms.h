/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cryptographic Message Syntax (RFC 5652) for what leaves this program encrypted to a certificate: AES-256-GCM
 * (AuthEnvelopedData, RFC 5083), its key wrapped by RSA-OAEP or ECDH.  `openssl cms -decrypt` opens it.
 */
#ifndef CHV_TOOLS_CMS_H
#define CHV_TOOLS_CMS_H

#include "tools/secret.h"

#include <chaveiro/error.h>

#include <stddef.h>
#include <stdint.h>

enum { CHV_CMS_NAME_SIZE = 256, CHV_CMS_FINGERPRINT_LEN = 32 };

/* A certificate to encrypt to. */
struct chv_cms_recipient;

/*
 * Reads a certificate, PEM or DER.  CHV_ERR_NOT_FOUND, CHV_ERR_IO; CHV_ERR_ARGUMENT with the reason for one that nothing
 * should be encrypted to: no RSA or EC key, a weak one, expired, its key usage says otherwise.
 */
enum chv_err chv_cms_recipient_load(const char *file, struct chv_cms_recipient **recipient,
                                    struct chv_why *why) CHV_MUST_CHECK;
void chv_cms_recipient_free(struct chv_cms_recipient *recipient); /* NULL is allowed */
/* Its subject in one line, printable ASCII; and its SHA-256 fingerprint. */
const char *chv_cms_recipient_subject(const struct chv_cms_recipient *recipient);
const uint8_t *chv_cms_recipient_fingerprint(const struct chv_cms_recipient *recipient);

/* Encrypts. *text: PEM, *text_len bytes, the caller's to free().  `plain` is copied nowhere. */
enum chv_err chv_cms_seal(const struct chv_cms_recipient *recipient, const uint8_t *plain, size_t len, char **text,
                          size_t *text_len, struct chv_why *why) CHV_MUST_CHECK;

/*
 * Opens a file, PEM or DER, AuthEnvelopedData or EnvelopedData, with the private key in the PEM file `key`; `secret` gives
 * its passphrase, if it has one.  *len: in, room at `plain`; out, bytes.  CHV_ERR_AUTH: it is for another key, or was
 * changed.  On failure `plain` holds zeros.
 */
enum chv_err chv_cms_open(const char *file, const char *key, struct chv_secret_source *secret, uint8_t *plain,
                          size_t *len, struct chv_why *why) CHV_MUST_CHECK;
/* The same of text that is in memory; `name` is for error texts. */
enum chv_err chv_cms_open_text(const char *name, const char *text, size_t text_len, const char *key,
                               struct chv_secret_source *secret, uint8_t *plain, size_t *len,
                               struct chv_why *why) CHV_MUST_CHECK;

#endif
