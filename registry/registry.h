/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registry: who the clients are, and what was done to them.  Never a key.
 *
 *   sqlite:PATH (or a bare path)   a file of its own, for one machine
 *   postgresql://...               libpq's URI, for several servers; the password comes from PGPASSFILE or a service
 *   revoked:PATH                   registry = none: a text file that denies, read again when it changes; read only
 *
 * A registry only narrows what a credential says (doc/registry.md).  What is read out of it is checked as what is put in:
 * a row that is not well-formed is CHV_ERR_MALFORMED, names its id and denies.
 *
 * Changes: begin, get, put ..., audit, commit.  Writers of one registry take turns between begin and commit, so what is
 * read there (the latest serial) holds until then.  All or nothing becomes durable with commit; every transaction that
 * put something has at least one audit row and is one step of the generation.
 *
 * All calls may block on disk or network; none belongs on a loop's thread.  A handle serves one thread, one process.
 * After a failed call outside a transaction the handle can be used again (PostgreSQL: it connects anew); inside one the
 * transaction is to be rolled back.  Errors of every call, with the file or server in `why`:
 *   CHV_ERR_BUSY          locked by somebody else for longer than options.busy_ms
 *   CHV_ERR_UNAVAILABLE   the server does not answer
 *   CHV_ERR_IO            read-only, disk full, or else failed: `why` says which
 *   CHV_ERR_DAMAGED       not a database, or a broken one: nothing was written to it
 *   CHV_ERR_MEMORY
 */
#ifndef CHV_REGISTRY_REGISTRY_H
#define CHV_REGISTRY_REGISTRY_H

#include <chaveiro/backend.h>
#include <chaveiro/error.h>
#include <chaveiro/session.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/credential.h"

enum {
    CHV_REGISTRY_SCHEMA = 1,       /* version that this program writes; newer ones are refused */
    CHV_REGISTRY_REASON_MAX = 120, /* bytes of text; no control characters */
    CHV_AUDIT_ACTOR_MAX = 64,
    CHV_AUDIT_ACTION_MAX = 32,
    CHV_AUDIT_DETAILS_MAX = 1024,
    CHV_AUDIT_HASH_LEN = 32,
    CHV_AUDIT_MAC_LEN = 32,
    CHV_AUDIT_SEAL_MESSAGE_LEN = 8 + 32 + 4 + 8
};

/* Which of a client's credentials.  {0, 0}: none.  Ordered by epoch, then serial. */
struct chv_issue {
    uint32_t epoch, serial;
};

/* Less than, equal to or greater than 0, as a is older than, the same as or newer than b. */
int chv_issue_compare(struct chv_issue a, struct chv_issue b);

enum chv_client_status {
    CHV_CLIENT_MALFORMED = 0, /* only from list(): the row cannot be believed; id, and in `reason` what is wrong */
    CHV_CLIENT_ACTIVE = 1,
    CHV_CLIENT_SUSPENDED = 2,
    CHV_CLIENT_REVOKED = 3,
    CHV_CLIENT_REMOVED = 4 /* a tombstone: it keeps the serials */
};

#define CHV_CLIENT_STATUS_BIT(s) (1u << (unsigned)(s))

/* "active", "suspended", "revoked", "removed", "malformed"; "?" for a number that is none.  Static storage. */
const char *chv_client_status_name(enum chv_client_status status);
/* CHV_ERR_ARGUMENT for a name that is none of the first four. */
enum chv_err chv_client_status_parse(const char *name, enum chv_client_status *status) CHV_MUST_CHECK;

enum chv_client_flag {
    CHV_CLIENT_NO_UPDATE = 1, /* its key leaked, and the one in its place did not come in yet: no key update in band */
    CHV_CLIENT_NARROWED = 2,  /* `scopes` are fewer than its latest credential's: the deny snapshot has to say so */
    CHV_CLIENT_PENDING = 4,   /* its latest credential was numbered, and is not known to have been written out yet */
    CHV_CLIENT_NARROWED_OLD = 16, /* the same of credentials before its latest, which was not used yet */
    CHV_CLIENT_REPLACED =
        8 /* the confirmed credential is in the place of one that leaked: no older one's session stays */
};

struct chv_registry_client {
    char id[CHV_CLIENT_ID_MAX + 1];
    enum chv_client_status status;
    enum chv_profile profile;
    unsigned flags;             /* enum chv_client_flag */
    struct chv_issue minimum;   /* older credentials are denied */
    struct chv_issue confirmed; /* newest seen in an OPEN */
    struct chv_issue latest;    /* newest handed out; its serial never goes back, over all epochs */
    uint64_t not_after;         /* Unix seconds, 0 = never */
    /* Rights are the intersection of these with the credential's; profile key: these.  Sorted, none twice. */
    size_t scope_count;
    char scopes[CHV_SCOPES_MAX][CHV_SCOPE_MAX + 1];
    /* Of those: not for credentials with a lower serial than the latest, which has them again; until it was used. */
    bool held[CHV_SCOPES_MAX];
    bool has_identity; /* profile key: always */
    enum chv_curve identity_curve;
    uint8_t
        identity[CHV_DH_PUBLIC_MAX]; /* chv_dh_public_len(identity_curve) bytes, the rest 0; no two clients share one */
    char reason[CHV_REGISTRY_REASON_MAX + 1]; /* why it is suspended, revoked...; "" for none */
    uint64_t created;                         /* Unix seconds; kept from the first put */
    uint64_t last_seen;                       /* Unix seconds, 0 = never; put keeps what is there, seen() writes it */
    uint64_t changed;                         /* generation of its last change; put sets it */
};

/* Adds a scope in its place, as chv_credential_add_scope. */
enum chv_err chv_registry_client_add_scope(struct chv_registry_client *client, const char *scope) CHV_MUST_CHECK;
/* Whether the client has that scope; *held (or NULL): only by its latest credential. */
bool chv_registry_client_has_scope(const struct chv_registry_client *client, const char *scope, bool *held);
/* Takes out the scopes that are held back from that credential. */
void chv_registry_client_release(struct chv_registry_client *client, struct chv_issue issue);
/*
 * Whether a client is well-formed: what put() asks of one and get() promises.  CHV_ERR_ARGUMENT, and `why` names the id
 * (cleaned of control characters) and the field.  Times pass for numbers up to 2^63 - 1.
 */
enum chv_err chv_registry_client_check(const struct chv_registry_client *client, struct chv_why *why) CHV_MUST_CHECK;
/*
 * A credential that is newer than the confirmed one came in: confirmed, minimum, latest, held and flags become what
 * chv_registry_seen makes of them.  Whether that is a change for others than this client's own record: a minimum that is
 * raised, or key update in band that is on again.
 */
bool chv_registry_client_confirm(struct chv_registry_client *client, struct chv_issue issue);
/* latest.serial + 1; CHV_ERR_EXHAUSTED after 2^32 - 1.  Right only inside a transaction, for a client got in it. */
enum chv_err chv_registry_next_serial(const struct chv_registry_client *client, uint32_t *serial,
                                      struct chv_why *why) CHV_MUST_CHECK;

struct chv_registry_filter {
    const char *after;       /* ids behind this one, in byte order; NULL: from the first */
    unsigned statuses;       /* CHV_CLIENT_STATUS_BIT mask; 0: all but removed */
    uint64_t expires_before; /* Unix seconds: only not_after from 1 to before this; 0: any */
    uint32_t epoch;          /* the epoch it uses: the confirmed one's, or the latest's if none was seen; 0: any */
    bool denying;            /* only what the deny snapshot has to say: not active, narrowed, or a minimum above 1.1 */
    size_t limit;            /* at most so many; 0: all */
};

/* Lent until the return.  Any code but CHV_OK stops the listing, which then returns it.  May use the registry. */
typedef enum chv_err (*chv_registry_client_fn)(void *arg, const struct chv_registry_client *client);
typedef enum chv_err (*chv_registry_changed_fn)(void *arg, const char *id, uint64_t generation);

struct chv_registry_seen {
    char id[CHV_CLIENT_ID_MAX + 1];
    struct chv_issue issue; /* of the credential that opened; profile key: {0, 0} */
    uint64_t time;          /* Unix seconds */
};

enum chv_epoch_status {
    CHV_EPOCH_ACTIVE = 1,
    CHV_EPOCH_RETIRED = 2,
    CHV_EPOCH_COMPROMISED = 3 /* its master leaked: no key update in band from it, refused at once */
};

/* "active", "retired", "compromised"; "?" for a number that is none.  Static storage. */
const char *chv_epoch_status_name(enum chv_epoch_status status);

enum { CHV_EPOCH_CHECK_LEN = 16 };

struct chv_registry_epoch {
    uint32_t epoch; /* from 1 */
    enum chv_epoch_status status;
    uint64_t created;
    uint64_t ended; /* when it was retired or given up, 0 = not */
    bool has_check;
    uint8_t check[CHV_EPOCH_CHECK_LEN]; /* key check value of its master */
};

typedef enum chv_err (*chv_registry_epoch_fn)(void *arg, const struct chv_registry_epoch *epoch);
/* `clients`: active and suspended ones that use the epoch (as chv_registry_filter.epoch has it). */
typedef enum chv_err (*chv_registry_usage_fn)(void *arg, uint32_t epoch, uint64_t clients);

/*
 * One row of the audit trail.  hash = SHA-256(hash of row n - 1, zeros before the first || u64 n || u64 time ||
 * u8 len actor || u8 len action || u8 len id || u16 len details); integers big-endian.
 */
struct chv_audit_row {
    uint64_t n;                              /* from 1, without a gap; audit() sets it */
    uint64_t time;                           /* Unix seconds */
    char actor[CHV_AUDIT_ACTOR_MAX + 1];     /* who: "keyadmin alice", "chaveirod"; printable ASCII, not empty */
    char action[CHV_AUDIT_ACTION_MAX + 1];   /* "add", "revoke", "clone"; [a-z0-9._-]+ */
    char id[CHV_CLIENT_ID_MAX + 1];          /* the client, "" if it is about none */
    char details[CHV_AUDIT_DETAILS_MAX + 1]; /* a JSON object or ""; UTF-8 without control characters; no secret */
    uint8_t hash[CHV_AUDIT_HASH_LEN];        /* audit() sets it */
};

typedef enum chv_err (*chv_audit_fn)(void *arg, const struct chv_audit_row *row);

/* What vouches for rows 1 to n: mac = HMAC-SHA256(Expand(master[epoch], "chaveiro v1 audit" 0x00), message). */
struct chv_audit_seal {
    uint64_t n; /* 0: there is no seal */
    uint8_t hash[CHV_AUDIT_HASH_LEN];
    uint32_t epoch;
    uint64_t time;
    uint8_t mac[CHV_AUDIT_MAC_LEN];
};

/* What the MAC is over: u64 n || hash || u32 epoch || u64 time, big-endian. */
void chv_audit_seal_message(const struct chv_audit_seal *seal, uint8_t out[static CHV_AUDIT_SEAL_MESSAGE_LEN]);

/* Computes a seal's MAC: the registry never has the key.  Called in chv_registry_seal and chv_registry_verify only. */
typedef enum chv_err (*chv_registry_mac_fn)(void *arg, uint32_t epoch, const uint8_t *message, size_t len,
                                            uint8_t mac[CHV_AUDIT_MAC_LEN], struct chv_why *why);

/* Where a registry stands. */
struct chv_registry_info {
    unsigned schema;
    uint64_t generation; /* transactions that changed something; revoked: changes of the file seen by this handle */
    uint64_t audit_n;    /* rows in the audit trail */
    uint8_t audit_hash[CHV_AUDIT_HASH_LEN]; /* of the last one; zeros if there is none */
};

enum chv_registry_mode {
    CHV_REGISTRY_READ,  /* changes are CHV_ERR_STATE */
    CHV_REGISTRY_WRITE, /* an existing one; an older schema is brought up to date */
    CHV_REGISTRY_CREATE /* as WRITE, made if there is none; a file gets mode 0600 */
};

struct chv_registry_options {
    enum chv_registry_mode mode;
    unsigned busy_ms;                /* how long to wait for other writers; 0: 5000 */
    unsigned connect_seconds;        /* PostgreSQL, how long to wait for a connection; 0: 3 */
    const struct chv_crypto *crypto; /* for SHA-256; must outlive the registry.  revoked: may be NULL */
    uid_t owner; /* revoked: who may own the file besides root, this user and the owner of its folder; 0: nobody */
};

/* What a kind of registry is like. */
enum chv_registry_trait {
    CHV_REGISTRY_COMPLETE = 1, /* who is not in it is no client (else: who is not in it is not denied) */
    CHV_REGISTRY_WRITABLE = 2  /* has transactions, epochs and an audit trail */
};

struct chv_registry; /* each kind's own; begins with struct chv_registry_head */
struct chv_registry_ops;

#define CHV_REGISTRY_ABI 1u

/* Kept by the wrappers below; a kind only sets ops and name. */
struct chv_registry_head {
    const struct chv_registry_ops *ops;
    const char *name; /* for error texts: a path, "postgresql://host/database"; never a password */
    const struct chv_crypto *crypto;
    enum chv_registry_mode mode;
    bool in_transaction, put, audited, failed;
};

/* One const table per kind.  The wrappers have checked arguments, mode and transaction; lists are validated by them. */
struct chv_registry_ops {
    uint32_t abi;
    const char *scheme;      /* "sqlite", "postgresql", "revoked" */
    const char *description; /* one line for people */
    unsigned traits;         /* enum chv_registry_trait */

    /* `uri` as given to chv_registry_open; *r is the caller's, for close. */
    enum chv_err (*open)(const char *uri, const struct chv_registry_options *options, struct chv_registry **r,
                         struct chv_why *why);
    void (*close)(struct chv_registry *r);

    enum chv_err (*info)(struct chv_registry *r, struct chv_registry_info *info, struct chv_why *why);
    enum chv_err (*get)(struct chv_registry *r, const char *id, struct chv_registry_client *client,
                        struct chv_why *why);
    enum chv_err (*list)(struct chv_registry *r, const struct chv_registry_filter *filter, chv_registry_client_fn each,
                         void *arg, struct chv_why *why);
    /* *changed: whether something may have changed since the last poll. */
    enum chv_err (*poll)(struct chv_registry *r, bool *changed, struct chv_why *why);
    /* Optional: what becomes readable when poll is worth calling; -1 while there is none. */
    int (*fd)(struct chv_registry *r);

    /* Optional, all of a WRITABLE one. */
    enum chv_err (*begin)(struct chv_registry *r, struct chv_why *why);
    enum chv_err (*commit)(struct chv_registry *r, bool changed, struct chv_why *why);
    void (*rollback)(struct chv_registry *r);
    enum chv_err (*get_by_key)(struct chv_registry *r, enum chv_curve curve, const uint8_t *public_key,
                               struct chv_registry_client *client, struct chv_why *why);
    /* `step`: a change of the generation; else `changed` stays. */
    enum chv_err (*put)(struct chv_registry *r, const struct chv_registry_client *client, bool step,
                        struct chv_why *why);
    enum chv_err (*changed)(struct chv_registry *r, uint64_t generation, chv_registry_changed_fn each, void *arg,
                            struct chv_why *why);
    enum chv_err (*touch)(struct chv_registry *r, const struct chv_registry_seen *seen, bool *newer,
                          struct chv_why *why);
    enum chv_err (*epoch_get)(struct chv_registry *r, uint32_t number, struct chv_registry_epoch *epoch,
                              struct chv_why *why);
    enum chv_err (*epoch_put)(struct chv_registry *r, const struct chv_registry_epoch *epoch, struct chv_why *why);
    enum chv_err (*epoch_list)(struct chv_registry *r, chv_registry_epoch_fn each, void *arg, struct chv_why *why);
    enum chv_err (*epoch_usage)(struct chv_registry *r, chv_registry_usage_fn each, void *arg, struct chv_why *why);
    enum chv_err (*audit)(struct chv_registry *r, struct chv_audit_row *row, struct chv_why *why);
    enum chv_err (*audit_list)(struct chv_registry *r, uint64_t from, chv_audit_fn each, void *arg,
                               struct chv_why *why);
    enum chv_err (*seal_get)(struct chv_registry *r, struct chv_audit_seal *seal, struct chv_why *why);
    enum chv_err (*seal_put)(struct chv_registry *r, const struct chv_audit_seal *seal, struct chv_why *why);
};

/*
 * Opens what `uri` names.  CHV_ERR_CONFIG: unknown scheme (`why` lists the known ones), bad URI, a password in it;
 * CHV_ERR_NOT_FOUND: nothing there (mode CREATE makes it); CHV_ERR_STORE_MODE: others own the file or can write to it;
 * CHV_ERR_UNSUPPORTED: the schema is newer than this program's (or older, in mode READ).
 */
enum chv_err chv_registry_open(const char *uri, const struct chv_registry_options *options, struct chv_registry **r,
                               struct chv_why *why) CHV_MUST_CHECK;
/* Rolls an open transaction back.  NULL is allowed. */
void chv_registry_close(struct chv_registry *r);
/* The schemes known to chv_registry_open ("sqlite, postgresql, revoked").  Static storage. */
const char *chv_registry_schemes(void);
unsigned chv_registry_traits(const struct chv_registry *r);
/* How error texts name it; no secret.  The registry's. */
const char *chv_registry_name(const struct chv_registry *r);

enum chv_err chv_registry_info(struct chv_registry *r, struct chv_registry_info *info,
                               struct chv_why *why) CHV_MUST_CHECK;
/*
 * Cheap "did anything change": call it once a second, and when chv_registry_fd is readable.  *changed is also true the
 * first time and after a connection was lost, since changes may have been missed; then ask chv_registry_changed (or, of a
 * registry without it, everything anew).  Own commits may show or not.
 * revoked: a file that has become unreadable or malformed is an error here (once per change of the file) while the lines
 * read before stay in force.
 */
enum chv_err chv_registry_poll(struct chv_registry *r, bool *changed, struct chv_why *why) CHV_MUST_CHECK;
/* A descriptor to wait on for reading, owned by the registry and valid until its next call; -1: none, poll by time. */
int chv_registry_fd(struct chv_registry *r);

/* Waits its turn to write.  CHV_ERR_STATE in a transaction or in mode READ; CHV_ERR_UNSUPPORTED for revoked. */
enum chv_err chv_registry_begin(struct chv_registry *r, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Makes the changes durable, the generation one higher if there were any.  CHV_ERR_STATE if something was put without
 * an audit row.  After any error the transaction is rolled back: nothing was changed (PostgreSQL, connection lost just
 * then: it may have been; read again).
 */
enum chv_err chv_registry_commit(struct chv_registry *r, struct chv_why *why) CHV_MUST_CHECK;
/* Outside a transaction nothing happens. */
void chv_registry_rollback(struct chv_registry *r);

/* CHV_ERR_NOT_FOUND (revoked: no line about it); CHV_ERR_MALFORMED; CHV_ERR_ARGUMENT for a bad id. */
enum chv_err chv_registry_get(struct chv_registry *r, const char *id, struct chv_registry_client *client,
                              struct chv_why *why) CHV_MUST_CHECK;
/* The client whose identity key that is (a removed one too).  CHV_ERR_UNSUPPORTED for revoked. */
enum chv_err chv_registry_get_by_key(struct chv_registry *r, enum chv_curve curve, const uint8_t *public_key,
                                     struct chv_registry_client *client, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Inside a transaction: a new client, or a new state of one.  created, last_seen and changed as said above.
 * CHV_ERR_ARGUMENT as chv_registry_client_check: then nothing has happened.  CHV_ERR_STATE if latest, its serial, confirmed
 * or minimum would go back; CHV_ERR_EXISTS if the identity key is another client's: as after any other error of a change,
 * the transaction can only be rolled back.  A change may be sent later: its error then comes from a later call in the
 * transaction, or from commit, and names the client all the same.
 */
enum chv_err chv_registry_put(struct chv_registry *r, const struct chv_registry_client *client,
                              struct chv_why *why) CHV_MUST_CHECK;
/*
 * In byte order of ids, page by page: memory does not grow with their number, and what others change meanwhile may be
 * seen or not.  Rows that are malformed come with status CHV_CLIENT_MALFORMED (unless even the id is), whatever the
 * filter's statuses; when all is listed the result is then CHV_ERR_MALFORMED, and `why` names the first.  revoked: the
 * lines of the file.
 */
enum chv_err chv_registry_list(struct chv_registry *r, const struct chv_registry_filter *filter,
                               chv_registry_client_fn each, void *arg, struct chv_why *why) CHV_MUST_CHECK;
/*
 * The ids of all clients changed after `generation`, oldest change first.  Not their rows, so that a malformed one is told
 * as well.  CHV_ERR_UNSUPPORTED for revoked.
 */
enum chv_err chv_registry_changed(struct chv_registry *r, uint64_t generation, chv_registry_changed_fn each, void *arg,
                                  struct chv_why *why) CHV_MUST_CHECK;
/*
 * Clients that came in, `n` of them in one transaction of its own (CHV_ERR_STATE inside one).  last_seen moves forward;
 * an issue newer than the confirmed one becomes confirmed and the minimum (and the latest, if it is newer still); one that
 * came for a leaked key (not older than the minimum that was set then) turns CHV_CLIENT_NO_UPDATE into
 * CHV_CLIENT_REPLACED, until a newer one is confirmed.  Where that raises the minimum or changes NO_UPDATE the generation
 * moves on; where it takes the place of an older confirmed one there is an audit row "confirm" by `actor`.  Unknown ids
 * and malformed rows are passed over.
 */
enum chv_err chv_registry_seen(struct chv_registry *r, const struct chv_registry_seen *seen, size_t n,
                               const char *actor, struct chv_why *why) CHV_MUST_CHECK;

/* CHV_ERR_NOT_FOUND. */
enum chv_err chv_registry_epoch_get(struct chv_registry *r, uint32_t number, struct chv_registry_epoch *epoch,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* Inside a transaction; replaces.  Needs an audit row as a client does. */
enum chv_err chv_registry_epoch_put(struct chv_registry *r, const struct chv_registry_epoch *epoch,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* In order of numbers. */
enum chv_err chv_registry_epoch_list(struct chv_registry *r, chv_registry_epoch_fn each, void *arg,
                                     struct chv_why *why) CHV_MUST_CHECK;
/* In order of numbers, only epochs that have clients. */
enum chv_err chv_registry_epoch_usage(struct chv_registry *r, chv_registry_usage_fn each, void *arg,
                                      struct chv_why *why) CHV_MUST_CHECK;

/* Inside a transaction: adds a row; n and hash of *row are set.  CHV_ERR_ARGUMENT for a text that breaks its rule. */
enum chv_err chv_registry_audit(struct chv_registry *r, struct chv_audit_row *row, struct chv_why *why) CHV_MUST_CHECK;
/* Rows from number `from` on, in order, as they stand (texts cut to their room): only chv_registry_verify judges. */
enum chv_err chv_registry_audit_list(struct chv_registry *r, uint64_t from, chv_audit_fn each, void *arg,
                                     struct chv_why *why) CHV_MUST_CHECK;

struct chv_audit_report {
    uint64_t rows;      /* that were walked and are right */
    uint64_t sealed;    /* rows 1 to this one stand under the seal; 0: there is none */
    uint64_t first_bad; /* 0: none */
};

/* The seal as it stands; n = 0 if there is none. */
enum chv_err chv_registry_seal_get(struct chv_registry *r, struct chv_audit_seal *seal,
                                   struct chv_why *why) CHV_MUST_CHECK;
/*
 * Seals all rows there are, in a transaction of its own, with a MAC by master `epoch`.  The trail is
 * verified first (CHV_ERR_AUTH: a seal must not vouch for a broken one).  *seal may be NULL.
 */
enum chv_err chv_registry_seal(struct chv_registry *r, uint32_t epoch, uint64_t time, chv_registry_mac_fn mac,
                               void *arg, struct chv_audit_seal *seal, struct chv_why *why) CHV_MUST_CHECK;
/*
 * The same in steps, for who gets the MAC from another process and must not wait for it inside a transaction.  _begin says
 * which seal `stands` (n = 0: none; its MAC is the caller's to check) and, where there are rows behind it, what the `next`
 * one has to say but for its MAC; next->n = stands->n: there are none.  Only the rows behind the standing seal are walked:
 * the hash that it vouches for covers the others.  `known`, if its n is not 0: a row and its hash that the caller has seen,
 * which has to be there still.  CHV_ERR_AUTH as chv_registry_verify.
 * _put stores it in a transaction of its own.  CHV_ERR_EXISTS: another seal than `stands` is there by now.
 */
enum chv_err chv_registry_seal_begin(struct chv_registry *r, uint32_t epoch, uint64_t time,
                                     const struct chv_audit_seal *known, struct chv_audit_seal *stands,
                                     struct chv_audit_seal *next, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_registry_seal_put(struct chv_registry *r, const struct chv_audit_seal *stands,
                                   const struct chv_audit_seal *next, struct chv_why *why) CHV_MUST_CHECK;
/*
 * Walks the whole trail.  CHV_ERR_AUTH: a row was changed, removed, moved or cut off, or the seal does not fit; `why` and
 * report->first_bad name the first such row.  `mac` NULL: the seal's MAC is not checked (its place in the chain is).
 * *report is always set.
 */
enum chv_err chv_registry_verify(struct chv_registry *r, chv_registry_mac_fn mac, void *arg,
                                 struct chv_audit_report *report, struct chv_why *why) CHV_MUST_CHECK;

/* Who stands at the door, as the handshake proved it. */
struct chv_registry_claim {
    const char *id; /* profile key: NULL or "" if only the key is known */
    enum chv_profile profile;
    struct chv_issue issue; /* of the credential; profile key: {0, 0} */
    bool has_identity;      /* profiles key and key+psk */
    enum chv_curve identity_curve;
    const uint8_t *identity; /* the static public key of the handshake */
};

enum chv_verdict {
    CHV_VERDICT_OK,
    CHV_VERDICT_UNKNOWN, /* not registered; never from a registry that is not COMPLETE */
    CHV_VERDICT_SUSPENDED,
    CHV_VERDICT_REVOKED,
    CHV_VERDICT_SUPERSEDED, /* older than the minimum */
    CHV_VERDICT_CLONE,      /* older than one that was confirmed: somebody kept a copy */
    CHV_VERDICT_EXPIRED,
    CHV_VERDICT_PROFILE,   /* registered for identity keys only, or not for these */
    CHV_VERDICT_IDENTITY,  /* the identity key is not this client's */
    CHV_VERDICT_MALFORMED, /* its row cannot be believed */
    CHV_VERDICT_REMOVED,
    CHV_VERDICT_EPOCH, /* the master of the credential's epoch leaked: the registrar's word, not chv_registry_lookup's */
    CHV_VERDICT_COUNT
};

/* What a client is told: "client is revoked".  Static storage; "?" for a number that is none. */
const char *chv_verdict_text(enum chv_verdict verdict);

struct chv_registry_answer {
    enum chv_verdict verdict;
    uint64_t generation; /* the answer is at least as new as this */
    bool known;          /* `client` is set: there is a row or line (MALFORMED: id and reason only) */
    bool has_scopes;     /* client.scopes limit the rights; false only for an OK without a COMPLETE registry */
    bool newer;          /* claim.issue is newer than the confirmed one: tell chv_registry_seen at once */
    struct chv_registry_client client; /* chv_registry_client_release takes out what claim.issue does not have */
};

/*
 * The whole question at OPEN.  A verdict is CHV_OK; anything else means that there is no answer (503).  `now`: Unix
 * seconds.  In profile key a client is found by its key if the claim has no id.
 */
enum chv_err chv_registry_lookup(struct chv_registry *r, const struct chv_registry_claim *claim, uint64_t now,
                                 struct chv_registry_answer *answer, struct chv_why *why) CHV_MUST_CHECK;
/* The rules alone, for a client that is known. */
enum chv_verdict chv_registry_judge(const struct chv_registry_client *client, const struct chv_registry_claim *claim,
                                    uint64_t now);

/*
 * Deny snapshot: what a server goes by while the registry cannot be reached (registry.required = no).  The text format of
 * `revoked:` (doc/registry.md), so chv_registry_open("revoked:PATH") reads it.  Written beside and renamed, mode 0600.
 */
enum chv_err chv_registry_snapshot_write(struct chv_registry *r, const char *path, struct chv_why *why) CHV_MUST_CHECK;

/*
 * registry = none: writes what the file at `path` (made if it is missing) says about a client, all other lines as they
 * are, in one step; writers take turns by PATH.lock.  REVOKED and SUSPENDED add a line "ID * revoked: REASON" or "ID *
 * suspended: REASON"; ACTIVE takes lines of the second kind out.  *changed: whether there was anything to do.
 * CHV_ERR_STATE: to resume a client that is denied otherwise; CHV_ERR_ARGUMENT: bad id, reason or status; CHV_ERR_BUSY,
 * CHV_ERR_IO.
 */
enum chv_err chv_registry_revoked_set(const char *path, const char *id, enum chv_client_status status,
                                      const char *reason, bool *changed, struct chv_why *why) CHV_MUST_CHECK;

#define CHV_REGISTRY_MARK_FILE "registry-mark"

/*
 * A mark outside the registry (generation, audit row and its hash), in `folder`, an existing one that this user can write
 * to: a registry that is older than its mark, or has another past, was restored from a backup or exchanged.  *older: whether
 * that is so; `why` then says it for the log (the only case where `why` is set with CHV_OK).  No mark yet: not older.
 * CHV_ERR_CONFIG if the mark cannot be read.
 */
enum chv_err chv_registry_mark_check(struct chv_registry *r, const char *folder, bool *older,
                                     struct chv_why *why) CHV_MUST_CHECK;
/* Makes where the registry stands the mark.  CHV_ERR_IO. */
enum chv_err chv_registry_mark_write(struct chv_registry *r, const char *folder, struct chv_why *why) CHV_MUST_CHECK;

#endif
