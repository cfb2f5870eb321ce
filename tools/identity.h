/* SPDX-License-Identifier: Apache-2.0 */
/* Identity keys as command lines and configuration files name them: PEM files, keystores, tokens, or the key itself. */
#ifndef CHV_TOOLS_IDENTITY_H
#define CHV_TOOLS_IDENTITY_H

#include "core/identity.h"
#include "tools/token.h"

#include <chaveiro/keystore.h>

#include <limits.h>

/* Label of the identity key in every keystore. */
#define CHV_IDENTITY_LABEL "identity"

/* "x25519 BASE64", "p256 BASE64", or the name of a PEM file with the public key.  Blocks on the file. */
enum chv_err chv_identity_public(const char *text, struct chv_identity *identity, struct chv_why *why) CHV_MUST_CHECK;
/*
 * The keystore URI that holds the key pair: `given` as it is if it has a scheme; a path becomes pem:PATH or file:PATH, by
 * what is in the file.  `module` as for chv_token_uri.
 */
enum chv_err chv_identity_uri(const char *given, const char *module, char out[CHV_TOKEN_URI_SIZE],
                              struct chv_why *why) CHV_MUST_CHECK;
/* The public identity key of an unlocked keystore. */
enum chv_err chv_identity_of(struct chv_keystore *ks, struct chv_identity *identity,
                             struct chv_why *why) CHV_MUST_CHECK;
/* Its fingerprint. */
enum chv_err chv_identity_fingerprint(const struct chv_identity *identity, char out[CHV_FINGERPRINT_MAX],
                                      struct chv_why *why) CHV_MUST_CHECK;
/* The identity hash, as credentials carry it. */
enum chv_err chv_identity_digest(const struct chv_identity *identity, uint8_t out[CHV_IDENTITY_HASH_LEN],
                                 struct chv_why *why) CHV_MUST_CHECK;
/* Writes it as PEM text to a new file that everybody may read.  CHV_ERR_EXISTS: nothing was changed. */
enum chv_err chv_identity_write(const struct chv_identity *identity, const char *path,
                                struct chv_why *why) CHV_MUST_CHECK;
/* A server's public identity key, in the folder of its configuration file. */
#define CHV_IDENTITY_SERVER_FILE "server.pub"
enum chv_err chv_identity_server_file(const char *config_file, char out[PATH_MAX], struct chv_why *why) CHV_MUST_CHECK;

#endif
