/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of a token.  Every attribute that matters is spelled out when an object is made and read back before it is
 * used: tokens differ in their defaults, and an object may be somebody else's work.
 */
#ifndef CHV_P11_OBJECT_H
#define CHV_P11_OBJECT_H

#include "p11/token.h"

#include <chaveiro/backend.h>

/* Objects that match, at most `max`; *count may be higher than max (then there are more).  Leaves no search open. */
enum chv_err chv_p11_find(struct chv_p11_session *s, const CK_ATTRIBUTE *match, CK_ULONG n, CK_OBJECT_HANDLE *objects,
                          size_t max, size_t *count, struct chv_why *why) CHV_MUST_CHECK;
/* Calls `each` for every match, whatever their number; stops at the first error and returns it. */
typedef enum chv_err (*chv_p11_object_fn)(struct chv_p11_session *s, CK_OBJECT_HANDLE object, void *arg,
                                          struct chv_why *why);
enum chv_err chv_p11_find_each(struct chv_p11_session *s, const CK_ATTRIBUTE *match, CK_ULONG n, chv_p11_object_fn each,
                               void *arg, struct chv_why *why) CHV_MUST_CHECK;

/* *len: in, room; out, bytes.  CHV_ERR_SPACE, CHV_ERR_NOT_FOUND for an attribute that the object has not. */
enum chv_err chv_p11_get(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, void *out,
                         size_t *len, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_p11_get_ulong(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                               CK_ULONG *out, struct chv_why *why) CHV_MUST_CHECK;

/* What a key must be: CKA_SENSITIVE = true, and so on. */
struct chv_p11_rule {
    CK_ATTRIBUTE_TYPE type;
    const char *name; /* "CKA_SENSITIVE" */
    bool want;
};
extern const struct chv_p11_rule chv_p11_secret_rules[]; /* HMAC only, stays inside */
extern const size_t chv_p11_secret_rule_count;
/*
 * CHV_ERR_KEY, and `why` says which attribute of `what` is wrong and why it matters.  One that the token does not give is
 * false; CKA_SENSITIVE and CKA_EXTRACTABLE must be given.
 */
enum chv_err chv_p11_check(struct chv_p11_session *s, CK_OBJECT_HANDLE object, const char *what,
                           const struct chv_p11_rule *rules, size_t n, struct chv_why *why) CHV_MUST_CHECK;

/* The same if CKA_ALLOWED_MECHANISMS has another than these `n`.  Tokens that do not keep the attribute allow all. */
enum chv_err chv_p11_check_allowed(struct chv_p11_session *s, CK_OBJECT_HANDLE object, const char *what,
                                   const CK_MECHANISM_TYPE *allowed, size_t n, struct chv_why *why) CHV_MUST_CHECK;

/* A secret key that only signs by HMAC.  `value` NULL: the token makes 32 bytes. */
struct chv_p11_secret {
    const char *label;
    const uint8_t *value;
    size_t value_len;
    bool token;      /* else a session object */
    bool modifiable; /* lets chv_p11_secret_copy work */
    bool derive;     /* CKA_DERIVE instead of nothing: for the derive mechanisms */
};
enum chv_err chv_p11_secret_make(struct chv_p11_session *s, const struct chv_p11_secret *secret,
                                 CK_OBJECT_HANDLE *object, struct chv_why *why) CHV_MUST_CHECK;
/* A session object with the same key. */
enum chv_err chv_p11_secret_copy(struct chv_p11_session *s, CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *copy,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* HMAC-SHA256 of the parts by C_Sign. */
enum chv_err chv_p11_hmac(struct chv_p11_session *s, CK_OBJECT_HANDLE key, const uint8_t *data, size_t len,
                          uint8_t out[32], struct chv_why *why) CHV_MUST_CHECK;

/* EC key pairs: P-256 everywhere, X25519 by whichever of three ways the token has. */
struct chv_p11_pair {
    const char *label; /* NULL for none */
    enum chv_curve curve;
    bool token; /* else session objects */
    bool sign;  /* CKA_SIGN, else CKA_DERIVE; never both */
    bool open;  /* CKA_PRIVATE is false: session objects of somebody who has not logged in */
};
/* public_out: chv_dh_public_len(curve) bytes.  CHV_ERR_UNSUPPORTED where the token has no such curve. */
enum chv_err chv_p11_pair_make(struct chv_p11_session *s, const struct chv_p11_pair *pair,
                               CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key, uint8_t *public_out,
                               struct chv_why *why) CHV_MUST_CHECK;
/*
 * The private key object of known bytes (RFC 7748's, or a P-256 scalar, big-endian) and their public key, for
 * known-answer tests.  CHV_ERR_UNSUPPORTED where the token takes no such object.
 */
enum chv_err chv_p11_pair_import(struct chv_p11_session *s, const struct chv_p11_pair *pair,
                                 const uint8_t private_value[CHV_DH_PRIVATE_LEN], const uint8_t *public_value,
                                 CK_OBJECT_HANDLE *private_key, struct chv_why *why) CHV_MUST_CHECK;
/* Curve and public key of an EC key object that has CKA_EC_PARAMS and, public, CKA_EC_POINT. */
enum chv_err chv_p11_pair_curve(struct chv_p11_session *s, CK_OBJECT_HANDLE object, enum chv_curve *curve,
                                struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_p11_pair_public(struct chv_p11_session *s, CK_OBJECT_HANDLE public_key, enum chv_curve *curve,
                                 uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why) CHV_MUST_CHECK;
/* Whether the token can make and use keys of that curve. */
bool chv_p11_pair_supported(struct chv_p11_token *token, enum chv_curve curve);
/*
 * CKM_ECDH1_DERIVE.  The peer's point is checked here first: tokens differ in what they answer to a bad one.
 * CHV_ERR_MALFORMED as dh_derive of backend.h.
 */
enum chv_err chv_p11_ecdh(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, enum chv_curve curve,
                          const uint8_t *peer_public, uint8_t out[32], struct chv_why *why) CHV_MUST_CHECK;
/* ECDSA with SHA-256 (both in the token) over `message`, DER. */
enum chv_err chv_p11_ecdsa(struct chv_p11_session *s, CK_OBJECT_HANDLE private_key, const uint8_t *message, size_t len,
                           uint8_t sig[80], size_t *sig_len, struct chv_why *why) CHV_MUST_CHECK;

#endif
