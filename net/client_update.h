/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's side of key update (doc/protocol.md, section 8): takes the body of a KEY_UPDATE, stores what is in it beside
 * what is there, removes what is older than the key in use.  All of them block as the keystore does.
 */
#ifndef CHV_NET_CLIENT_UPDATE_H
#define CHV_NET_CLIENT_UPDATE_H

#include "core/update.h"
#include "net/client_key.h"

/* A new credential and its access key; wiped by the caller. */
struct chv_client_update {
    uint32_t epoch, serial;
    size_t credential_len;
    uint8_t credential[CHV_CREDENTIAL_MAX];
    uint8_t access[CHV_SECRET_LEN];
};

/*
 * Checks a body that came in a session of `key`, and opens it.  `h_fin`: that session's, CHV_KEY_LEN bytes.
 * CHV_ERR_MALFORMED, CHV_ERR_PROTOCOL (not what the client accepts), CHV_ERR_AUTH; `why` says what is wrong.
 */
enum chv_err chv_client_update_take(const struct chv_client_key *key, const uint8_t *h_fin, const uint8_t *body,
                                    size_t len, struct chv_client_update *update, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Stores it durably in a keystore that is opened for writing.  The credential comes before the key: whatever is cut
 * off leaves no key without its credential.  One that is there already is left; another key under its name is replaced.
 */
enum chv_err chv_client_update_store(struct chv_keystore *keystore, const struct chv_client_update *update,
                                     struct chv_why *why) CHV_MUST_CHECK;

/* Whether the keystore has older keys of this client than the one in `key`. */
enum chv_err chv_client_update_has_older(const struct chv_client_key *key, bool *has,
                                         struct chv_why *why) CHV_MUST_CHECK;
/*
 * The server has shown that it knows this key: removes older ones of the same client, from a keystore that is opened for
 * writing and may have changed since `key` was read.
 */
enum chv_err chv_client_update_retire(struct chv_keystore *keystore, const struct chv_client_key *key,
                                      struct chv_why *why) CHV_MUST_CHECK;

#endif
