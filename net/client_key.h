/* SPDX-License-Identifier: Apache-2.0 */
/* A client's side of the handshake from its open keystore: which credential, which server, and the answers to the
 * session. */
#ifndef CHV_NET_CLIENT_KEY_H
#define CHV_NET_CLIENT_KEY_H

#include "core/credential.h"
#include "net/conn.h"

#include <chaveiro/keystore.h>

enum { CHV_ADDRESS_MAX = 255 };

/* Public values only: the access key stays in the keystore. */
struct chv_client_key {
    struct chv_keystore *keystore; /* borrowed, unlocked; used in `answer` */
    char label[CHV_LABEL_MAX + 1]; /* of the access key: "access:EPOCH.SERIAL" */
    char server[CHV_SERVER_NAME_MAX + 1];
    char address[CHV_ADDRESS_MAX + 1];
    uint8_t credential[CHV_CREDENTIAL_MAX];
    size_t credential_len;
    struct chv_credential parsed;
    enum chv_suite suite; /* set by load to the default; the owner may change it before connecting */
};

/*
 * Reads the newest credential (by epoch, then serial), the server's name and address from an unlocked keystore.
 * CHV_ERR_NOT_FOUND if there is no access key or an item beside it is missing, CHV_ERR_STORE_DAMAGED if one does not
 * fit the others.
 */
enum chv_err chv_client_key_load(struct chv_client_key *key, struct chv_keystore *keystore,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* The session config of this client, with key->suite. It points into `key`. */
void chv_client_key_config(const struct chv_client_key *key, struct chv_session_config *config);
/*
 * The `key` event of a client's connection: derives the session PSK and answers, or refuses, and then says why in
 * chv_conn_why. Blocks as the keystore does. Profile psk; anything else is refused.
 */
void chv_client_key_answer(struct chv_client_key *key, struct chv_conn *conn, const struct chv_key_request *request);

#endif
