/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin's commands, one file per group, and what they share. */
#ifndef CHV_TOOLS_KEYADMIN_H
#define CHV_TOOLS_KEYADMIN_H

#include "core/identity.h"
#include "tools/cli.h"
#include "tools/provision.h"
#include "tools/secret.h"
#include "tools/server_config.h"
#include "tools/token.h"

/* Each returns the exit code, after one line on standard error if that is not 0. */
int keyadmin_init(const struct chv_cli_args *args);
int keyadmin_client_add(const struct chv_cli_args *args);
int keyadmin_client_show(const struct chv_cli_args *args);
int keyadmin_bundle_unpack(const struct chv_cli_args *args);
int keyadmin_bundle_list(const struct chv_cli_args *args);
int keyadmin_client_list(const struct chv_cli_args *args);
int keyadmin_client_reissue(const struct chv_cli_args *args);
int keyadmin_client_revoke(const struct chv_cli_args *args);
int keyadmin_client_suspend(const struct chv_cli_args *args);
int keyadmin_client_resume(const struct chv_cli_args *args);
int keyadmin_client_remove(const struct chv_cli_args *args);
int keyadmin_client_set_scopes(const struct chv_cli_args *args);
int keyadmin_client_set_key(const struct chv_cli_args *args);
int keyadmin_audit_list(const struct chv_cli_args *args);
int keyadmin_audit_verify(const struct chv_cli_args *args);
int keyadmin_audit_seal(const struct chv_cli_args *args);
int keyadmin_registry_new(const struct chv_cli_args *args);
int keyadmin_check(const struct chv_cli_args *args);
int keyadmin_derive(const struct chv_cli_args *args);
int keyadmin_epoch_new(const struct chv_cli_args *args);
int keyadmin_epoch_list(const struct chv_cli_args *args);
int keyadmin_epoch_status(const struct chv_cli_args *args);
int keyadmin_epoch_retire(const struct chv_cli_args *args);
int keyadmin_identity_new(const struct chv_cli_args *args);
int keyadmin_identity_show(const struct chv_cli_args *args);
int keyadmin_identity_fingerprint(const struct chv_cli_args *args);
int keyadmin_receipt_new_key(const struct chv_cli_args *args);
int keyadmin_receipt_public_key(const struct chv_cli_args *args);
int keyadmin_receipt_verify(const struct chv_cli_args *args);
int keyadmin_push(const struct chv_cli_args *args);
int keyadmin_push_status(const struct chv_cli_args *args);
int keyadmin_push_cancel(const struct chv_cli_args *args);
int keyadmin_restore(const struct chv_cli_args *args);
int keyadmin_ticket_keys(const struct chv_cli_args *args);
int keyadmin_token_list(const struct chv_cli_args *args);
int keyadmin_token_init(const struct chv_cli_args *args);
int keyadmin_token_check(const struct chv_cli_args *args);

/* The source of a keystore's passphrase or PIN, from --passphrase-file, --pin-file, --pin-fd. */
enum chv_err keyadmin_secret(const struct chv_cli_args *args, const char *uri, struct chv_secret_source *secret,
                             struct chv_why *why) CHV_MUST_CHECK;
/* CHV_ERR_ARGUMENT if an option was given that only a token's command takes. */
enum chv_err keyadmin_no_token_options(const struct chv_cli_args *args, struct chv_why *why) CHV_MUST_CHECK;
/* Opens the keystore that the command's operand names, for reading; --module, and the options above. */
enum chv_err keyadmin_open_operand(const struct chv_cli_args *args, struct chv_keystore **ks,
                                   struct chv_why *why) CHV_MUST_CHECK;
/* The flags of a token in words. */
struct chv_p11_token_info;
json_t *keyadmin_token_flags(const struct chv_p11_token_info *info);
/* Which files a token's PINs are in. */
void keyadmin_put_token(json_t *object, const struct chv_token_plan *token);

/* The server that a command is about: its configuration (or only its keystore), opened. */
struct keyadmin_server {
    struct chv_server_config *config; /* NULL: --keystore was given */
    const char *config_file;
    struct chv_secret_source secret;
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_keystore *keystore;
    char name[CHV_SERVER_NAME_MAX + 1];
    uint32_t epochs[CHV_PROVISION_EPOCHS]; /* whose masters its keystore has, ascending */
    size_t epoch_count;
    uint32_t latest; /* the newest of them */
};

/* Which one it is, from --config, --keystore (which counts, if both are given), --passphrase-file: config, uri, secret. */
enum chv_err keyadmin_server_find(const struct chv_cli_args *args, struct keyadmin_server *server,
                                  struct chv_why *why) CHV_MUST_CHECK;
/* Its configuration alone: config, config_file. */
enum chv_err keyadmin_server_config(const struct chv_cli_args *args, struct keyadmin_server *server,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* The same, and opens its keystore for reading.  `close` takes what a failed `open` left, and a zeroed struct. */
enum chv_err keyadmin_server_open(const struct chv_cli_args *args, struct keyadmin_server *server,
                                  struct chv_why *why) CHV_MUST_CHECK;
/* The same for changes: CHV_KEYSTORE_WRITE. */
enum chv_err keyadmin_server_open_for(const struct chv_cli_args *args, enum chv_keystore_mode mode,
                                      struct keyadmin_server *server, struct chv_why *why) CHV_MUST_CHECK;
void keyadmin_server_close(struct keyadmin_server *server);
/* What clients of it are told to connect to: --address, the keystore's, the first one it listens on. */
enum chv_err keyadmin_server_address(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                     char out[CHV_ADDRESS_MAX + 1], struct chv_why *why) CHV_MUST_CHECK;

/* The credential that ID, --scope, --expires, --serial and --epoch ask for; warns of one that the server will refuse.
 */
enum chv_err keyadmin_credential(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                 struct chv_provision *p, struct chv_why *why) CHV_MUST_CHECK;
/* Says so, if the server's configuration is such that it will refuse that credential, or if nobody can connect there. */
void keyadmin_warn(const struct keyadmin_server *server, const struct chv_credential *c, const char *address);
/* Whether a service, or a share of the configuration (NULL: unknown), has that scope; the other warns if none has. */
bool keyadmin_scope_known(const struct chv_server_config *config, const char *scope);
void keyadmin_warn_scope(const struct chv_server_config *config, const char *scope);
/* "client", "scopes", "expires"... of a credential, for chv_cli_print. */
void keyadmin_describe(json_t *object, const struct chv_credential *c);
/* A key check value as hex under `name`. */
void keyadmin_put_hex(json_t *object, const char *name, const uint8_t *bytes, size_t len);
/* --profile; psk without it. */
enum chv_err keyadmin_profile(const struct chv_cli_args *args, enum chv_profile *profile,
                              struct chv_why *why) CHV_MUST_CHECK;
/* --curve; X25519 without it. */
enum chv_err keyadmin_curve(const struct chv_cli_args *args, enum chv_curve *curve, struct chv_why *why) CHV_MUST_CHECK;
/* "identity" (the fingerprint) and "identity_key" of a public key. */
enum chv_err keyadmin_describe_identity(json_t *object, const struct chv_identity *identity,
                                        struct chv_why *why) CHV_MUST_CHECK;
enum { CHV_ALLOWED_LINE_MAX = 2600 };
/* The line of a server's allow-list: key, id, scopes and expiry of `c`. */
enum chv_err keyadmin_allowed_line(const struct chv_identity *identity, const struct chv_credential *c, char *out,
                                   size_t size, struct chv_why *why) CHV_MUST_CHECK;
/* --scrypt-cost; 0: the default. */
enum chv_err keyadmin_cost(const struct chv_cli_args *args, uint64_t *n, struct chv_why *why) CHV_MUST_CHECK;

#endif
