/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles: the access keys of a batch of clients in one sealed file (doc/keystore-format.md, "Bundles").  One passphrase
 * and one scrypt for all of them, or a certificate (CMS); then chunks of AES-256-GCM whose associated data is the
 * header's hash, their number and whether they are the last, so that a change, a cut, or another order shows.
 */
#ifndef CHV_TOOLS_BUNDLE_H
#define CHV_TOOLS_BUNDLE_H

#include "core/credential.h"
#include "core/identity.h"
#include "net/client_key.h"
#include "tools/cms.h"

#include <chaveiro/keystore.h>

#include <stdbool.h>

enum { CHV_BUNDLE_CLIENTS_MAX = 10000000 };

/* What goes for all clients in it. */
struct chv_bundle_meta {
    char server[CHV_SERVER_NAME_MAX + 1];
    char address[CHV_ADDRESS_MAX + 1];
    char server_key[CHV_IDENTITY_TEXT_MAX]; /* the server's identity key, for clients of profile key+psk; "": none is */
    uint64_t created;                       /* Unix seconds */
    uint64_t clients;
};

/* How a bundle is sealed: to a certificate, or else by a passphrase. */
struct chv_bundle_seal {
    const struct chv_cms_recipient *recipient; /* NULL: passphrase */
    chv_secret_fn secret;
    void *secret_arg;
    uint64_t scrypt_n; /* 0: the default */
};

/* How it is opened; what is not needed is not asked for. */
struct chv_bundle_open {
    chv_secret_fn secret;
    void *secret_arg;
    const char *key; /* private key of the certificate, PEM; NULL: none given */
    struct chv_secret_source *key_secret;
};

struct chv_bundle_entry {
    struct chv_credential credential;
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len;
    uint8_t key[CHV_SECRET_LEN]; /* the caller wipes it */
};

/* Whether the file at `path` begins as a bundle does; false if it cannot be read. */
bool chv_bundle_is(const char *path);

struct chv_bundle_writer;

/*
 * Begins one in PATH.part, mode 0600; one that was left there is begun anew.  Asks for the passphrase.  CHV_ERR_BUSY:
 * another process is writing it.
 */
enum chv_err chv_bundle_create(const char *path, const struct chv_bundle_seal *seal, const struct chv_bundle_meta *meta,
                               struct chv_bundle_writer **writer, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_bundle_put(struct chv_bundle_writer *writer, const uint8_t *credential, size_t len,
                            const uint8_t key[CHV_SECRET_LEN], struct chv_why *why) CHV_MUST_CHECK;
/*
 * Ends it: whole, on disk and at its place.  CHV_ERR_EXISTS if there is a file and not `replace`; CHV_ERR_STATE if there
 * were not as many clients as its head says.
 */
enum chv_err chv_bundle_finish(struct chv_bundle_writer *writer, bool replace, struct chv_why *why) CHV_MUST_CHECK;
/* Frees it, and removes what was not finished.  NULL is allowed. */
void chv_bundle_discard(struct chv_bundle_writer *writer);

struct chv_bundle_reader;

/*
 * CHV_ERR_STORE_FORMAT: no bundle, or one of another version; CHV_ERR_PASSPHRASE, CHV_ERR_AUTH: not opened by that;
 * CHV_ERR_NO_SECRET: it wants a private key.  CHV_ERR_STORE_DAMAGED and CHV_ERR_STORE_TRUNCATED here and in `next`.
 */
enum chv_err chv_bundle_read(const char *path, const struct chv_bundle_open *open, struct chv_bundle_meta *meta,
                             struct chv_bundle_reader **reader, struct chv_why *why) CHV_MUST_CHECK;
/* *end: there was none any more, and the whole file was right.  What came before is to be believed only then. */
enum chv_err chv_bundle_next(struct chv_bundle_reader *reader, struct chv_bundle_entry *entry, bool *end,
                             struct chv_why *why) CHV_MUST_CHECK;
void chv_bundle_close(struct chv_bundle_reader *reader); /* NULL is allowed */

#endif
