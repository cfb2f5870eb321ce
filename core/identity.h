/* SPDX-License-Identifier: Apache-2.0 */
/* Identity public keys as people read and write them (doc/protocol.md, section 3). */
#ifndef CHV_CORE_IDENTITY_H
#define CHV_CORE_IDENTITY_H

#include "core/credential.h"

enum {
    CHV_IDENTITY_BASE64_MAX = 88, /* of a P-256 point */
    CHV_IDENTITY_TEXT_MAX = 96,   /* "x25519 BASE64" and its NUL */
    CHV_FINGERPRINT_MAX = 56      /* "SHA256:BASE64" and its NUL */
};

/* A public key; bytes behind chv_dh_public_len(curve) are 0. */
struct chv_identity {
    enum chv_curve curve;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
};

/* "x25519", "p256": in options, configuration files and allow-lists; "?" for a number that is none. */
const char *chv_identity_curve_name(enum chv_curve curve);
/* CHV_ERR_NOT_FOUND for an unknown name. */
enum chv_err chv_identity_curve_find(const char *name, enum chv_curve *curve) CHV_MUST_CHECK;

/* "x25519 BASE64": base64 with padding (RFC 4648, 4) of the public key's bytes. */
void chv_identity_format(const struct chv_identity *identity, char out[CHV_IDENTITY_TEXT_MAX]);
/* The same from its two words.  One encoding only; CHV_ERR_MALFORMED for anything else, *identity is then zeroed. */
enum chv_err chv_identity_parse(const char *curve, const char *base64, struct chv_identity *identity) CHV_MUST_CHECK;

/* Compares curve and key: <0, 0, >0, a total order.  Public values: not in constant time. */
int chv_identity_compare(const struct chv_identity *a, const struct chv_identity *b);

/* "SHA256:" and the unpadded base64 of the identity hash (chv_identity_hash), the one that a credential carries. */
void chv_fingerprint_format(const uint8_t hash[CHV_IDENTITY_HASH_LEN], char out[CHV_FINGERPRINT_MAX]);
enum chv_err chv_fingerprint(const struct chv_crypto *crypto, const struct chv_identity *identity,
                             char out[CHV_FINGERPRINT_MAX]) CHV_MUST_CHECK;

#endif
