/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registrar: the process that has the registry open and answers one question, whether a client that has proven its
 * key may come in and with which rights (doc/registry.md).  It never lets anybody in whom the keeper has not: it can only
 * narrow.
 *
 * Wire: a SOCK_SEQPACKET socket per loop of the net process; a packet is up to CHV_REGISTRAR_BATCH questions, or answers, in
 * any order, of chv_registrar_answer_size bytes each.  An answer with CHV_REGISTRAR_CHANGED is none: it says that a client
 * was changed.  What it was asked before it said so it answers as it was, what it is asked afterwards as it is.  Both ends
 * are the same program on the same machine: host byte order.
 */
#ifndef CHV_NET_REGISTRAR_H
#define CHV_NET_REGISTRAR_H

#include "net/server.h"
#include "registry/registry.h"

enum chv_registrar_kind {
    CHV_REGISTRAR_OPEN = 1,   /* a client has proven its key: it counts as seen */
    CHV_REGISTRAR_PEER = 2,   /* profile key: whose key is this?  Not proven yet; id "" */
    CHV_REGISTRAR_RECHECK = 3 /* of a session that was let in */
};

enum chv_registrar_status {
    CHV_REGISTRAR_OK = 200,          /* verdict and what follows is set */
    CHV_REGISTRAR_MALFORMED = 400,   /* not a question */
    CHV_REGISTRAR_UNAVAILABLE = 503, /* the registry cannot be reached: the registrar's log says why */
    CHV_REGISTRAR_CHANGED = 1        /* tag 0; id "": anybody may have been changed */
};

struct chv_registrar_request {
    uint64_t tag; /* the asker's, comes back; not 0 */
    uint32_t epoch, serial;
    uint8_t kind; /* enum chv_registrar_kind */
    uint8_t profile;
    uint8_t has_identity;
    uint8_t curve; /* of identity */
    char id[CHV_CLIENT_ID_MAX +
            1]; /* zeros behind it; profile key: the allow-list's word for this key, "" if it has none */
    uint8_t identity[CHV_DH_PUBLIC_MAX]; /* zeros unless has_identity */
    uint8_t zero[2];
};

struct chv_registrar_answer {
    uint64_t tag;
    uint64_t not_after; /* Unix seconds, 0: never */
    uint16_t status;    /* enum chv_registrar_status */
    uint16_t verdict;   /* enum chv_verdict */
    uint8_t known;      /* it is in the registry: id, reason, no_update are set */
    uint8_t has_scopes; /* rights are no more than `scopes` */
    uint8_t no_update;  /* no key update in band: its key leaked, or a newer credential is on its way */
    uint8_t scope_count;
    char id[CHV_CLIENT_ID_MAX + 1];
    char reason[CHV_REGISTRY_REASON_MAX + 1];
    char scopes[CHV_SCOPES_MAX][CHV_SCOPE_MAX + 1]; /* only scope_count of them travel */
};

_Static_assert(sizeof(struct chv_registrar_request) == 152, "request layout");
_Static_assert(offsetof(struct chv_registrar_answer, scopes) == 210, "answer layout");

/* Bytes of a packet that this answer takes. */
size_t chv_registrar_answer_size(const struct chv_registrar_answer *answer);
/* Copies the answer that a packet, or the rest of one, of `len` bytes begins with; its size, 0: that is none. */
size_t chv_registrar_answer_take(const uint8_t *packet, size_t len, struct chv_registrar_answer *answer);

enum {
    CHV_REGISTRAR_BATCH = 32,          /* questions or answers of a packet */
    CHV_REGISTRAR_RETRY_MS = 1000,     /* a registry that failed is left alone for so long */
    CHV_REGISTRAR_CHANGES_MAX = 64,    /* more at once: "anybody" */
    CHV_REGISTRAR_EPOCHS_MAX = 64,     /* whose masters leaked */
    CHV_REGISTRAR_CACHE = 4096,        /* clients */
    CHV_REGISTRAR_SEEN_MAX = 4096,     /* that wait to be written */
    CHV_REGISTRAR_SEEN_MS = 1000,      /* between two writes of who was seen */
    CHV_REGISTRAR_CLONE_SECONDS = 3600 /* one audit row about one client's copies in so long */
};

#define CHV_REGISTRAR_SNAPSHOT_FILE "registry-deny"
/* The warning of a server with a registry and without a state folder. */
#define CHV_REGISTRAR_UNMARKED                                                                                         \
    "there is a registry but no 'state' folder: an old backup of it that is put back goes unnoticed"

struct chv_registrar_setup {
    const char *uri;
    const char *state; /* folder for mark and deny snapshot; "": none */
    bool required;     /* else, while the registry cannot be reached, the deny snapshot is gone by */
    bool again;        /* it served before: it begins also when the registry cannot be opened, and tries again */
    bool absent;       /* a deny file that was not there when the server's first user looked */
    const struct chv_crypto *crypto; /* for the registry; must outlive the registrar */
    size_t epoch_count;
    const uint32_t *epochs; /* as chv_registrar_set_epochs */
};

/* NULL: anybody. */
typedef void (*chv_registrar_changed_fn)(void *arg, const char *id);

struct chv_registrar;

/* `now`: monotonic ms.  `why` names the registry and what to do.  Texts are copied.  Blocks, as all here may. */
enum chv_err chv_registrar_open(const struct chv_registrar_setup *setup, uint64_t now, struct chv_registrar **registrar,
                                struct chv_why *why) CHV_MUST_CHECK;
/*
 * The epochs that the keeper serves, CHV_EPOCHS_MAX at most; copied.  That a credential of another epoch was used is not
 * written down: nobody can have proven it, and it would shut out the client whose id it has.
 */
void chv_registrar_set_epochs(struct chv_registrar *registrar, const uint32_t *epochs, size_t count);
/* Writes who was seen.  NULL is allowed. */
void chv_registrar_close(struct chv_registrar *registrar);
/*
 * Looks whether something changed, opens again what was lost.  To be called before each batch of questions, and several
 * times a second.
 */
void chv_registrar_poll(struct chv_registrar *registrar, uint64_t now, chv_registrar_changed_fn changed, void *arg);
/* To wait on for reading, -1: none.  Holds until the next call. */
int chv_registrar_fd(const struct chv_registrar *registrar);
/* Answers one question, always.  `now`: monotonic ms; `time`: Unix seconds. */
void chv_registrar_answer(struct chv_registrar *registrar, uint64_t now, uint64_t time, const void *packet, size_t len,
                          struct chv_registrar_answer *answer);
/* After a batch of questions, before the answers go out: newer credentials become the oldest that are taken. */
void chv_registrar_settle(struct chv_registrar *registrar, uint64_t now);
/*
 * The seal of the audit trail, by steps: a question for the keeper that is due, and its answer. One is out at a time; what
 * was out at a keeper that is gone is asked of the next one. `now`: monotonic ms; `time`: Unix seconds.
 */
struct chv_keeper_audit_request;
struct chv_keeper_audit_answer;
bool chv_registrar_seal_ask(struct chv_registrar *registrar, uint64_t now, uint64_t time,
                            struct chv_keeper_audit_request *question);
void chv_registrar_seal_answer(struct chv_registrar *registrar, uint64_t now,
                               const struct chv_keeper_audit_answer *answer);
void chv_registrar_seal_lost(struct chv_registrar *registrar);
/* About once a second: writes who was seen, the mark, the deny snapshot. */
void chv_registrar_tick(struct chv_registrar *registrar, uint64_t now);

/*
 * The registrar process, from after the fork to its end: drops user and rights, opens, says CHV_IPC_READY on `control`
 * and serves until the supervisor's end closes.  `again`: it is not its first start.  Returns the exit code.
 */
int chv_registrar_main(const struct chv_server_config *config, int control, bool again);

#endif
