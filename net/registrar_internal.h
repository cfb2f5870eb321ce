/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the registrar share; nobody else includes this. */
#ifndef CHV_NET_REGISTRAR_INTERNAL_H
#define CHV_NET_REGISTRAR_INTERNAL_H

#include "net/registrar.h"

#define CHV_REGISTRAR_ACTOR "chaveirod"

/* A client as the registry had it at r->generation, and what this process knows to be newer. */
struct chv_registrar_cached {
    struct chv_registry_client client;
};

/* When a copy of a client's credential was last audited. */
struct chv_registrar_clone {
    uint64_t time;
    char id[CHV_CLIENT_ID_MAX + 1];
};

/* What is known of the audit trail, and what is under way to seal it. */
struct chv_registrar_seal {
    bool due;    /* there are, or may be, rows behind the seal */
    bool broken; /* the trail, or its seal, is not what it was: nothing is sealed until the registry is opened anew */
    bool unable; /* said that the seal that stands cannot be checked, or not be believed */
    uint64_t at; /* ms: not before */
    unsigned pause_ms;                  /* after a failure */
    uint64_t tag;                       /* of the question that is out, 0: none, */
    bool checking;                      /* which is for the MAC of the seal that stands */
    uint64_t tags;                      /* so far */
    struct chv_audit_seal known;        /* the head as it was last seen; n = 0: not yet */
    struct chv_audit_seal good;         /* a seal whose MAC is right; likewise */
    struct chv_audit_seal stands, next; /* of the question */
};

struct chv_registrar {
    struct chv_registrar_setup setup;
    char *uri, *state, *snapshot_path;
    struct chv_registry *registry; /* NULL: it cannot be opened */
    struct chv_registry *snapshot; /* open while it fails and is not required */
    bool snapshot_tried;           /* since it began to fail */
    bool failing;
    bool missing;                   /* a deny file that is not there: it denies nobody, and may come */
    uint64_t retry_at, complain_at; /* ms */
    char complaint[sizeof(struct chv_why)];
    uint64_t generation; /* up to which changes were told */
    size_t compromised_count;
    uint32_t compromised[CHV_REGISTRAR_EPOCHS_MAX]; /* epochs */
    bool mark_due, snapshot_due;
    size_t served_count;
    uint32_t served[CHV_EPOCHS_MAX]; /* epochs */
    bool unserved_told;              /* that one of another epoch came, since they are these */
    bool unissued_told;              /* that one of a serial came which was not handed out */
    bool older; /* an old backup was restored: serials may have been handed out that it does not know */

    size_t seen_count;
    bool seen_newer;     /* one of them raises a minimum */
    uint64_t seen_at;    /* ms: when it is written at the latest */
    uint64_t seen_retry; /* ms: not before, for it failed */
    struct chv_registry_seen seen[CHV_REGISTRAR_SEEN_MAX];
    uint16_t seen_index[2 * CHV_REGISTRAR_SEEN_MAX]; /* by hash of the id: place + 1 of the last one put there */

    struct chv_registrar_seal seal;

    struct chv_registrar_clone clones[256];                  /* by hash of the id */
    struct chv_registrar_cached *cache[CHV_REGISTRAR_CACHE]; /* by hash of the id: the last one put there */
};

/* registrar.c */
/* The registry has failed: it is left alone for a while. */
void chv_registrar_failed(struct chv_registrar *r, uint64_t now, enum chv_err err, const struct chv_why *why);
bool chv_registrar_writable(const struct chv_registrar *r);
bool chv_registrar_complete(const struct chv_registrar *r);
/* If it cannot be written they go on waiting. */
void chv_registrar_write_seen(struct chv_registrar *r, uint64_t now);

/* The newest of the epochs that are served whose master has not leaked; 0: none. */
uint32_t chv_registrar_newest_epoch(const struct chv_registrar *r);

/* registrar_seal.c */
/* Rows were added to the audit trail. */
void chv_registrar_seal_due(struct chv_registrar *r, uint64_t now);

/* registrar_answer.c */
bool chv_registrar_is_compromised(const struct chv_registrar *r, uint32_t epoch);
void chv_registrar_cache_clear(struct chv_registrar *r);
void chv_registrar_cache_forget(struct chv_registrar *r, const char *id);

#endif
