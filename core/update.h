/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key update (doc/protocol.md, section 8): the body of KEY_UPDATE, what a client accepts, and a credential's successor.
 *
 *   update key = Expand(old access key, chv_info_update(server, h_fin, old, new))
 *   body       = u16 len new credential || AES-256-GCM(update key, nonce 0, ad "", new access key)
 *
 * The same cipher in every suite: whoever seals has the keys of a keystore and need not know the session's suite.
 * Key and plaintext are functions of (old, new, h_fin), so that nonce 0 never meets two plaintexts under one key.
 */
#ifndef CHV_CORE_UPDATE_H
#define CHV_CORE_UPDATE_H

#include "core/credential.h"

enum {
    CHV_UPDATE_SEALED_LEN = CHV_KEY_LEN + CHV_AEAD_TAG_LEN,
    CHV_UPDATE_BODY_MAX = 2 + CHV_CREDENTIAL_MAX + CHV_UPDATE_SEALED_LEN
};

/*
 * The same credential of another epoch, all else equal. *len: in, room (CHV_CREDENTIAL_MAX is enough); out, length.
 * CHV_ERR_MALFORMED if `old` is no credential, CHV_ERR_ARGUMENT if `epoch` is not higher than its own.
 */
enum chv_err chv_update_successor(const uint8_t *old, size_t old_len, uint32_t epoch, uint8_t *out,
                                  size_t *len) CHV_MUST_CHECK;

/* The keeper's side. *body_len: in, room (CHV_UPDATE_BODY_MAX is enough); out, length. On failure `body` is wiped. */
enum chv_err chv_update_seal(const struct chv_crypto *crypto, const uint8_t update_key[CHV_KEY_LEN],
                             const uint8_t *credential, size_t credential_len, const uint8_t access[CHV_KEY_LEN],
                             uint8_t *body, size_t *body_len) CHV_MUST_CHECK;

/* A parsed body; pointers are into it. */
struct chv_update {
    const uint8_t *credential; /* the new one */
    size_t credential_len;
    const uint8_t *sealed; /* CHV_UPDATE_SEALED_LEN */
    struct chv_credential parsed;
};

/*
 * The client's rule, applied before a key is used: form, a canonical credential, the same id, profile and identity hash
 * as `old` has, and a higher (epoch, serial). CHV_ERR_MALFORMED; CHV_ERR_PROTOCOL, with what differs in `why`.
 * `update` is set on success only.
 */
enum chv_err chv_update_accept(const struct chv_credential *old, const uint8_t *body, size_t body_len,
                               struct chv_update *update, struct chv_why *why) CHV_MUST_CHECK;
/* The new access key; CHV_ERR_AUTH, and zeros in `access`, if it was not sealed with this key. */
enum chv_err chv_update_open(const struct chv_crypto *crypto, const uint8_t update_key[CHV_KEY_LEN],
                             const struct chv_update *update, uint8_t access[CHV_KEY_LEN]) CHV_MUST_CHECK;

#endif
