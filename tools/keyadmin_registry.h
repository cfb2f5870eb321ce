/* SPDX-License-Identifier: Apache-2.0 */
/* The registry as keyadmin's commands use it, and the numbers of credentials that are handed out. */
#ifndef CHV_TOOLS_KEYADMIN_REGISTRY_H
#define CHV_TOOLS_KEYADMIN_REGISTRY_H

#include "registry/registry.h"
#include "tools/keyadmin.h"

struct keyadmin_registry {
    struct chv_registry *r; /* NULL: there is none */
    struct chv_crypto crypto;
    struct chv_server_config *config;    /* of keyadmin_registry_find, if it was read */
    char uri[PATH_MAX];                  /* "": none is configured */
    char actor[CHV_AUDIT_ACTOR_MAX + 1]; /* "keyadmin alice" */
};

/* The path of a registry that is the text file of who is denied, NULL of any other. */
const char *keyadmin_registry_revoked(const char *uri);
/*
 * Opens the registry that --registry names, else the one of the server's configuration (`config` NULL: none).  With
 * `registry = none` and in want of CREATE or WRITE there is none: r stays NULL, as it does in mode READ if its file is
 * missing.  Mode WRITE warns of a registry that is older than the mark in the server's state folder.  `close` takes what a failed `open` left, and a zeroed struct.
 */
enum chv_err keyadmin_registry_open(const struct chv_cli_args *args, const struct chv_server_config *config,
                                    enum chv_registry_mode mode, struct keyadmin_registry *reg,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* The same for commands that need no keystore: the configuration is found if --registry is not given. */
enum chv_err keyadmin_registry_find(const struct chv_cli_args *args, enum chv_registry_mode mode,
                                    struct keyadmin_registry *reg, struct chv_why *why) CHV_MUST_CHECK;
void keyadmin_registry_close(struct keyadmin_registry *reg);

/* An audit row about `id` ("": about none) in the open transaction.  Takes the reference of `details`, which may be NULL. */
enum chv_err keyadmin_audit(struct keyadmin_registry *reg, const char *action, const char *id, json_t *details,
                            struct chv_why *why) CHV_MUST_CHECK;
/* A chv_registry_mac_fn; `arg` is the server's keystore. */
enum chv_err keyadmin_audit_mac(void *arg, uint32_t epoch, const uint8_t *message, size_t len,
                                uint8_t mac[CHV_AUDIT_MAC_LEN], struct chv_why *why) CHV_MUST_CHECK;
/*
 * CHV_ERR_AUTH: the seal that stands is by the master of an epoch that is over. Whoever has that master, as after a leak, may
 * have made it: nothing is sealed behind it.
 */
enum chv_err keyadmin_seal_believed(struct keyadmin_registry *reg, const struct keyadmin_server *server,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* Seals the audit trail at the end of a command that has the keystore open; a failure is a warning. */
void keyadmin_seal(struct keyadmin_registry *reg, const struct keyadmin_server *server);

/* Which epochs' credentials are of use. */
enum { KEYADMIN_EPOCHS_MAX = 256 };
struct keyadmin_epochs {
    const struct chv_server_config *config; /* says which are served; NULL: all that did not end */
    uint32_t compromised[KEYADMIN_EPOCHS_MAX], retired[KEYADMIN_EPOCHS_MAX]; /* by the registry */
    size_t compromised_count, retired_count;
};

/* What configuration (or NULL) and registry say; may be asked again. */
enum chv_err keyadmin_epochs_load(struct keyadmin_epochs *epochs, const struct chv_server_config *config,
                                  struct keyadmin_registry *reg, struct chv_why *why) CHV_MUST_CHECK;
/* NULL: credentials of the epoch are taken; else why they are not. */
const char *keyadmin_epoch_lost(const struct keyadmin_epochs *epochs, uint32_t epoch);
/*
 * The epoch that a new credential is of: the newest one of use whose master is there, or, if `given`, *epoch, which has to
 * be one.  `leaked`: no older one than that.  CHV_ERR_ARGUMENT, CHV_ERR_CONFIG.
 */
enum chv_err keyadmin_epoch_pick(const struct keyadmin_server *server, const struct keyadmin_epochs *epochs, bool given,
                                 bool leaked, uint32_t *epoch, struct chv_why *why) CHV_MUST_CHECK;
/* A client whose newest key, and the one that it uses, are of epochs that are of no use: it has to be provisioned anew. */
bool keyadmin_client_stranded(const struct keyadmin_epochs *epochs, const struct chv_registry_client *client);
/* How many of those there are, in all and among `epoch`'s that use it (as struct chv_registry_filter has it). */
enum chv_err keyadmin_epoch_stranded(struct keyadmin_registry *reg, const struct keyadmin_epochs *epochs,
                                     uint32_t epoch, uint64_t *stranded, struct chv_why *why) CHV_MUST_CHECK;

/* What a client shall be given. */
struct keyadmin_wish {
    struct chv_credential credential;     /* epoch: keyadmin_epoch_pick's; serial: 1 */
    const struct keyadmin_epochs *epochs; /* who has a key of no other ones is given the next */
    bool expires_relative;                /* counts from now: where it was fixed before, that stays */
    bool epoch_given, serial_given, scopes_given;
    bool has_identity; /* profiles key and key+psk: of a key that is known already */
    struct chv_identity identity;
    bool dry;     /* only look whether it can be granted: nothing is written, no transaction needed */
    bool reissue; /* a credential beside one that it has, or in its place */
    bool leaked;  /* in its place, at once */
};

/* What came of it. */
struct keyadmin_grant {
    struct chv_registry_client client; /* as it stands now */
    bool again;                        /* nothing is new: what was granted before */
    bool pending;                      /* and that is not known to have been written out */
};

/*
 * Inside a transaction: registers the client, or numbers its next credential, in `wish->credential`, whose serial, epoch,
 * expiry and scopes are those that count afterwards.  The same wish again gives the same, unless that is of an epoch that
 * is of no use any more: then the next one; CHV_ERR_EXISTS for another one
 * of a client that is there, or for one that is suspended or revoked; CHV_ERR_NOT_FOUND for a reissue of one
 * that is not.
 */
enum chv_err keyadmin_grant(struct keyadmin_registry *reg, struct keyadmin_wish *wish, struct keyadmin_grant *grant,
                            struct chv_why *why) CHV_MUST_CHECK;
/* In a transaction of its own: what was granted was written out; `identity` (or NULL) is the client's key. */
enum chv_err keyadmin_granted(struct keyadmin_registry *reg, const struct chv_credential *c,
                              const struct chv_identity *identity, struct chv_why *why) CHV_MUST_CHECK;
/* The same for clients of a bundle, `n` of them in one transaction with one audit row. */
enum chv_err keyadmin_granted_many(struct keyadmin_registry *reg, const char *bundle, size_t n,
                                   const char *(*id_of)(void *arg, size_t i, struct chv_issue *issue), void *arg,
                                   struct chv_why *why) CHV_MUST_CHECK;
/* client add --from. */
int keyadmin_client_add_many(const struct chv_cli_args *args);
/* Whether an expiry counts from now: "90d", not a date. */
bool keyadmin_expiry_relative(const char *text);
/* The wish that the options of a command are: as keyadmin_credential. */
enum chv_err keyadmin_wish(const struct chv_cli_args *args, const struct keyadmin_server *server,
                           struct keyadmin_wish *wish, struct chv_why *why) CHV_MUST_CHECK;

/* client reissue, with the scopes of the command's --scope or operands. */
int keyadmin_client_issue_again(const struct chv_cli_args *args, bool leaked);
/* client show: whether its operand is a client of the registry, no keystore; and the former. */
bool keyadmin_client_registered(const struct chv_cli_args *args);
int keyadmin_client_show_registered(const struct chv_cli_args *args);
/* Whether all scopes of `a` are in `b`. */
bool keyadmin_scopes_within(const struct chv_registry_client *a, const struct chv_registry_client *b);
/* Active and suspended clients whose newest key in use is of this epoch.  CHV_ERR_UNSUPPORTED: no registry counts. */
enum chv_err keyadmin_epoch_clients(const struct chv_cli_args *args, const struct chv_server_config *config,
                                    uint32_t epoch, uint64_t *clients, struct chv_why *why) CHV_MUST_CHECK;
/* What has become of epochs. */
struct keyadmin_epoch_record {
    const char *action;   /* of the audit row */
    uint32_t epoch;       /* a new one; 0: none */
    const uint8_t *check; /* its master's key check value */
    const uint32_t *ended;
    size_t ended_count;
    enum chv_epoch_status status; /* of those that ended */
};
/* Writes that to the registry, if there is one, and seals the audit trail if the keystore is open; a failure is a warning. */
void keyadmin_epoch_record(const struct chv_cli_args *args, const struct keyadmin_server *server,
                           const struct keyadmin_epoch_record *record);
/* A client as JSON; `epochs` (or NULL) for whether it is stranded. */
json_t *keyadmin_client_json(const struct chv_registry_client *c, const struct keyadmin_epochs *epochs);

#endif
