/* SPDX-License-Identifier: Apache-2.0 */
/* A client's side of the handshake from its open keystore: which credential, which server, and the answers to the
 * session. */
#ifndef CHV_NET_CLIENT_KEY_H
#define CHV_NET_CLIENT_KEY_H

#include "core/identity.h"
#include "net/conn.h"
#include "net/ticket_store.h"

#include <chaveiro/keystore.h>

enum { CHV_ADDRESS_MAX = 255 };

/* Public values only: access key and private identity key stay in their keystores. */
struct chv_client_key {
    enum chv_profile profile;
    struct chv_keystore *keystore;        /* borrowed, unlocked; used in `answer`; NULL in profile key without one */
    char label[CHV_LABEL_MAX + 1];        /* of the access key: "access:EPOCH.SERIAL"; "" in profile key */
    char server[CHV_SERVER_NAME_MAX + 1]; /* "" if not known: profile key does without */
    char address[CHV_ADDRESS_MAX + 1];    /* likewise */
    uint8_t credential[CHV_CREDENTIAL_MAX];
    size_t credential_len;        /* 0 in profile key */
    struct chv_credential parsed; /* zeros in profile key */
    /* Profiles key and key+psk. */
    struct chv_keystore *identity_keystore; /* borrowed, unlocked: has the own key pair "identity"; NULL: none yet */
    struct chv_identity identity;           /* its public half */
    bool has_server_key;
    struct chv_identity server_key; /* what the server must prove to have */
    bool has_suite;
    enum chv_suite suite; /* set by the owner with has_suite, else by chv_client_key_ready to the default */
    /* Where tickets for coming back go and come from: set by the owner, borrowed; NULL: each handshake is a full one. */
    struct chv_ticket_store *tickets;
    /* "HOST, HOST": where beside the server's own host a REDIRECT may lead; borrowed; NULL: nowhere. */
    const char *redirect_hosts;
};

/*
 * Reads the newest credential (by epoch, then serial), the server's name and address from an unlocked keystore.
 * CHV_ERR_NOT_FOUND if there is no access key or an item beside it is missing, CHV_ERR_STORE_DAMAGED if one does not
 * fit the others.
 */
enum chv_err chv_client_key_load(struct chv_client_key *key, struct chv_keystore *keystore,
                                 struct chv_why *why) CHV_MUST_CHECK;
/*
 * The same for one profile (0: what the item "profile" says, else the credential's), with the identity key and the
 * server's public one if they are in the keystore.  CHV_ERR_CONFIG if the credential is for another profile: there is
 * no going over to another one.  keystore NULL: profile key, all else is to be set by the caller.
 */
enum chv_err chv_client_key_load_for(struct chv_client_key *key, struct chv_keystore *keystore,
                                     enum chv_profile profile, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Takes the next older credential of the same client from the keystore, in place of the one in `key`: for a server that
 * could not prove the newer one.  CHV_ERR_NOT_FOUND: there is none.  On failure nothing has changed.
 */
enum chv_err chv_client_key_older(struct chv_client_key *key, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Takes the credential of `other`, which is of the same client, from the same keystore opened again, if it is newer than
 * the one in `key`; false, and nothing has changed, if it is not.
 */
bool chv_client_key_newer(struct chv_client_key *key, const struct chv_client_key *other);
/* "access:EPOCH.SERIAL"; false for any other label. */
bool chv_client_key_label(const char *label, uint32_t *epoch, uint32_t *serial);
/* The own key pair from another keystore (borrowed, unlocked), in place of what `load` found. */
enum chv_err chv_client_key_identity(struct chv_client_key *key, struct chv_keystore *keystore,
                                     struct chv_why *why) CHV_MUST_CHECK;
/*
 * Checks that all that the profile needs is there and fits, and chooses the suite.  CHV_ERR_CONFIG, also for a
 * credential that is bound to another identity key; `why` says what is missing and which option gives it.
 */
enum chv_err chv_client_key_ready(struct chv_client_key *key, const struct chv_crypto *crypto,
                                  struct chv_why *why) CHV_MUST_CHECK;
/* The session config of this client, with its suite. It points into `key`. */
void chv_client_key_config(const struct chv_client_key *key, struct chv_session_config *config);
/* What a ticket is good for: profile, suite, server name, credential, identity keys; a hash of them. */
enum chv_err chv_client_key_binding(const struct chv_client_key *key, const struct chv_crypto *crypto,
                                    uint8_t out[static CHV_KEY_LEN]) CHV_MUST_CHECK;
/*
 * The `key` event of a client's connection: derives the session PSK, or computes Diffie-Hellman with the identity key,
 * and answers; or refuses, and then says why in chv_conn_why. Blocks as the keystore does.
 */
void chv_client_key_answer(struct chv_client_key *key, struct chv_conn *conn, const struct chv_key_request *request);

#endif
