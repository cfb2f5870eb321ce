/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the PKCS #11 backend share. */
#ifndef CHV_BACKENDS_PKCS11_PRIVATE_H
#define CHV_BACKENDS_PKCS11_PRIVATE_H

#include "p11/object.h"
#include "p11/token.h"

#include <chaveiro/backend.h>

struct pkcs11_ctx {
    struct chv_p11_token *token;
    bool private_keys;          /* logged in: keys are CKA_PRIVATE */
    uint64_t objects;           /* session objects made, all in all */
    uint64_t objects_max;       /* after so many the process should make way */
    struct chv_why last;        /* of the last call that failed */
    struct chv_why lacks[32];   /* for every capability bit that is not claimed */
    struct chv_crypto software; /* opened when first needed: public halves of imported keys, trials */
    uint8_t *scratch;           /* chv_pkcs11_scratch */
    size_t scratch_size;
};

/* A key that the token has as a session object. */
struct pkcs11_key {
    CK_OBJECT_HANDLE object;
    unsigned long pool; /* of the session that made it: session objects end with their pool */
    bool there;
};

/* Cryptoki's prototypes have no const for what they only read. */
static inline CK_BYTE_PTR chv_pkcs11_bytes(const void *ptr)
{
    static const uint8_t nothing; /* some modules refuse NULL even for no bytes */
    return (CK_BYTE_PTR)(uintptr_t)(ptr != NULL ? ptr : &nothing);
}

/* chv_p11_token_run; the reason of a failure is kept in c->last. */
enum chv_err chv_pkcs11_run(struct pkcs11_ctx *c, chv_p11_work_fn work, void *arg) CHV_MUST_CHECK;

/*
 * For work: a secret key by C_CreateObject that is good for `uses` only and does not come out.  The caller destroys it.
 * A token that wants a login first is told so in `why`.
 */
enum chv_err chv_pkcs11_import(struct pkcs11_ctx *c, struct chv_p11_session *s, CK_KEY_TYPE type, const uint8_t *value,
                               size_t len, bool sign, CK_OBJECT_HANDLE *object, struct chv_why *why) CHV_MUST_CHECK;
/* For work: CHV_ERR_UNAVAILABLE if the key did not survive what happened to the token. */
enum chv_err chv_pkcs11_check_key(const struct pkcs11_key *key, struct chv_p11_session *s,
                                  struct chv_why *why) CHV_MUST_CHECK;
/* Destroys the object if it is still there, whatever state the token is in. */
void chv_pkcs11_destroy(struct pkcs11_ctx *c, struct pkcs11_key *key);
/* The same for work that has a session. */
void chv_pkcs11_destroy_object(struct chv_p11_session *s, CK_OBJECT_HANDLE object);

/* At least `size` bytes that belong to the context; NULL when there is no memory.  The user wipes what he wrote. */
uint8_t *chv_pkcs11_scratch(struct pkcs11_ctx *c, size_t size);
/* Opens c->software if it is not yet. */
enum chv_err chv_pkcs11_software(struct pkcs11_ctx *c, struct chv_why *why) CHV_MUST_CHECK;

/* pkcs11_dh.c */
enum chv_err chv_pkcs11_dh_generate(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out);
enum chv_err chv_pkcs11_dh_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                  struct chv_dh **key, uint8_t *public_out);
enum chv_err chv_pkcs11_dh_derive(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN]);
void chv_pkcs11_dh_free(struct chv_dh *key);

/* pkcs11_aead.c */
enum chv_err chv_pkcs11_aead_new(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                 struct chv_aead **aead);
enum chv_err chv_pkcs11_aead_rekey(struct chv_aead *aead, const uint8_t key[CHV_KEY_LEN]);
enum chv_err chv_pkcs11_aead_seal(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                  size_t ad_len, const uint8_t *in, size_t len, uint8_t *out);
enum chv_err chv_pkcs11_aead_open(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                  size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out);
void chv_pkcs11_aead_free(struct chv_aead *aead);

/*
 * pkcs11_probe.c: which capabilities the token really has, by trying each; c->lacks for the others.  CHV_ERR_SELFTEST
 * for a token that gives wrong answers.  Needs c->software.
 */
enum chv_err chv_pkcs11_probe(struct pkcs11_ctx *c, uint32_t *found, struct chv_why *why) CHV_MUST_CHECK;

#endif
