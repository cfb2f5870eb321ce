/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Provisioning: a client's credential, the access key that belongs to it, and the client's own keystore
 * (doc/protocol.md, section 2).  An access key is in memory only between its derivation and its import.
 */
#ifndef CHV_TOOLS_PROVISION_H
#define CHV_TOOLS_PROVISION_H

#include "core/credential.h"
#include "net/client_key.h"

#include <chaveiro/keystore.h>

enum {
    CHV_CHECK_CLIENT_LEN = 4,  /* bytes shown of an access key's check value */
    CHV_CHECK_MASTER_LEN = 16, /* of a master's */
    CHV_PROVISION_EPOCHS = 256 /* masters that one keystore may have here */
};

/* The keystore that is opened, how it gets its passphrase, and what a new file costs. */
struct chv_provision_store {
    const char *uri;
    chv_secret_fn secret;
    void *secret_arg;
    uint64_t scrypt_n; /* CHV_KEYSTORE_CREATE only; 0: the default */
    /* chv_provision_client only: it is open already, with CHV_KEYSTORE_CREATE, and is closed in any case. NULL: not. */
    struct chv_keystore *open;
};

/* Opens and unlocks. On failure nothing is open. Blocks as the keystore and the passphrase source do. */
enum chv_err chv_provision_open(const struct chv_provision_store *store, enum chv_keystore_mode mode,
                                struct chv_keystore **ks, struct chv_why *why) CHV_MUST_CHECK;

struct chv_backup; /* tools/backup.h */

/*
 * A server's keystore with the master of epoch 1 (generated in it, or if not NULL that of `backup`), its server's name
 * and, if not NULL, the address that clients are told. Nothing is durable before chv_keystore_commit; the caller closes *ks.  A token keeps at once what it is given:
 * on failure it is taken out again.
 */
enum chv_err chv_provision_server(const struct chv_provision_store *store, const char *server, const char *address,
                                  const struct chv_backup *backup, struct chv_keystore **ks,
                                  struct chv_why *why) CHV_MUST_CHECK;

/* Takes out what chv_provision_server put in, as far as that can be done; for a failure before commit. */
void chv_provision_unmake(struct chv_keystore *ks);

/* The epochs whose masters the keystore has, ascending, at most CHV_PROVISION_EPOCHS.  CHV_ERR_NOT_FOUND if none. */
enum chv_err chv_provision_epochs(struct chv_keystore *ks, uint32_t epochs[CHV_PROVISION_EPOCHS], size_t *count,
                                  struct chv_why *why) CHV_MUST_CHECK;
/* A data item as text, checked to have no control characters; CHV_ERR_NOT_FOUND if there is none. */
enum chv_err chv_provision_text(struct chv_keystore *ks, const char *label, char *out, size_t cap,
                                struct chv_why *why) CHV_MUST_CHECK;

/* A client to be: what goes into its credential, and its canonical bytes. */
struct chv_provision {
    struct chv_credential credential;
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len;
    uint8_t info[CHV_INFO_MAX]; /* of the access key */
    size_t info_len;
};

/*
 * Starts a credential of profile psk without scopes.  CHV_ERR_ARGUMENT with a hint in `why` for a bad id, likewise
 * scope below.
 */
enum chv_err chv_provision_begin(struct chv_provision *p, const char *id, uint32_t epoch, uint32_t serial,
                                 uint64_t not_after, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_provision_scope(struct chv_provision *p, const char *scope, struct chv_why *why) CHV_MUST_CHECK;
/* Encodes the credential and the info of its access key. */
enum chv_err chv_provision_end(struct chv_provision *p, struct chv_why *why) CHV_MUST_CHECK;

/* The access key's check value from the server's keystore; the key itself does not come out. */
enum chv_err chv_provision_check(struct chv_keystore *server, const struct chv_provision *p,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *why) CHV_MUST_CHECK;
/* The check value of a stored secret. */
enum chv_err chv_provision_check_stored(struct chv_keystore *ks, const char *label, uint8_t out[CHV_SECRET_LEN],
                                        struct chv_why *why) CHV_MUST_CHECK;

/* The check value of an access key in memory, by the openssl backend. */
enum chv_err chv_provision_check_given(const uint8_t key[CHV_SECRET_LEN], uint8_t out[CHV_SECRET_LEN]) CHV_MUST_CHECK;

/* Profiles key and key+psk: the identity keys of both sides. */
struct chv_provision_identity {
    struct chv_identity server; /* what the server must prove to have */
    bool generate;              /* the client's is made in its own keystore, on the server's curve */
    struct chv_identity client; /* given, or set by chv_provision_client */
};

/* Makes it a credential of profile key+psk, bound to that identity key; chv_provision_end encodes it. */
enum chv_err chv_provision_bind(struct chv_provision *p, const struct chv_identity *client,
                                struct chv_why *why) CHV_MUST_CHECK;

/*
 * Derives the access key and writes the client's own keystore: key, credential, server name, address, and what
 * `identity` (NULL in profile psk) says.  In profile key there is no access key and no credential.  A file is there
 * whole or not at all, and what a token was given is taken out again after a failure; CHV_ERR_EXISTS if there is one.
 * A credential that is bound to a key made here is set and encoded anew.
 */
enum chv_err chv_provision_client(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                  const char *address, struct chv_provision_identity *identity,
                                  const struct chv_provision_store *out, struct chv_why *why) CHV_MUST_CHECK;

/*
 * The same with a credential and the access key that were derived before; `identity` as there, but none is made.  A token that has a keystore of
 * this client and server already is completed, as by chv_provision_again.
 */
enum chv_err chv_provision_given(struct chv_provision *p, const uint8_t key[CHV_SECRET_LEN], const char *server_name,
                                 const char *address, struct chv_provision_identity *identity,
                                 const struct chv_provision_store *out, struct chv_why *why) CHV_MUST_CHECK;
/*
 * The same for a keystore that is there: CHV_OK if it holds that very key, or if it is a token with this client's keys
 * for this server only, after what was missing was added beside them; CHV_ERR_EXISTS if it holds anything else.
 */
enum chv_err chv_provision_again(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                 const char *address, struct chv_provision_identity *identity,
                                 const struct chv_provision_store *out, struct chv_why *why) CHV_MUST_CHECK;

/*
 * Opens a client's keystore that is there for changes.  CHV_ERR_EXISTS if it holds anything else than keys of that client
 * for that server.
 */
enum chv_err chv_provision_reopen(const struct chv_provision_store *out, const char *id, const char *server_name,
                                  struct chv_keystore **ks, struct chv_why *why) CHV_MUST_CHECK;
/*
 * chv_provision_again in a keystore that is open; `name` is for errors.  `add`: a key that it does not hold yet is put beside
 * the others, all in one step with what else has changed; else CHV_ERR_EXISTS.
 */
enum chv_err chv_provision_beside(struct chv_keystore *server, struct chv_provision *p, const char *server_name,
                                  const char *address, struct chv_provision_identity *identity, struct chv_keystore *ks,
                                  const char *name, bool add, struct chv_why *why) CHV_MUST_CHECK;

/* "HOST:PORT", "[V6]:PORT" or "unix:/PATH", and short enough: form only, nothing is looked up.  CHV_ERR_ARGUMENT. */
enum chv_err chv_provision_address(const char *address, struct chv_why *why) CHV_MUST_CHECK;

#endif
