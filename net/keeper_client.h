/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net side of the keeper: one per loop. Questions wait in a fair queue, leave in one packet per turn of the loop,
 * and find their connection again by a tag; while they travel the connections compute what does not depend on the
 * answer.
 */
#ifndef CHV_NET_KEEPER_CLIENT_H
#define CHV_NET_KEEPER_CLIENT_H

#include "net/keeper.h"
#include "net/keyqueue.h"

enum {
    CHV_KEEPER_OUTSTANDING = 64, /* of one loop; a power of two */
    CHV_KEEPER_SILENT_MS = 2000
};

struct chv_keeper_client;

/* Part of the owner's object per connection; zeroed before its first use. */
struct chv_keeper_ask {
    struct chv_keyqueue_entry entry; /* first */
    struct chv_conn *conn;
    unsigned slot; /* 0: not at the keeper; else slot + 1 */
};

/* The verdict on a connection's credential, told before chv_conn_key_answer is called. */
typedef void (*chv_keeper_verdict_fn)(struct chv_conn *conn, enum chv_keeper_verdict verdict);

/* Why a question was refused, told before chv_conn_key_refuse is called with `code`. */
typedef void (*chv_keeper_refused_fn)(struct chv_conn *conn, unsigned code, const char *reason);

typedef void (*chv_keeper_state_fn)(struct chv_keeper_client *client);

/* None may be NULL. */
struct chv_keeper_events {
    chv_keeper_verdict_fn verdict;
    chv_keeper_refused_fn refused;
    chv_keeper_state_fn lost;   /* the socket was lost, though nobody took it away: somebody is to give another */
    chv_keeper_state_fn silent; /* a question is out for CHV_KEEPER_SILENT_MS; again each second while that lasts */
};

struct chv_keeper_slot {
    bool used;
    uint64_t tag;
    uint64_t sent;              /* ms */
    struct chv_keeper_ask *ask; /* NULL: its connection is gone, or was refused: an answer is too late */
};

struct chv_keeper_client {
    uv_loop_t *loop;
    uv_poll_t *poll; /* NULL: there is no keeper */
    int fd;
    uv_check_t turn;
    uv_timer_t timer; /* of the questions' deadlines */
    struct chv_keyqueue queue;
    uint64_t wait_ms; /* how long a question may take, in the queue and at the keeper together */
    uint64_t round;   /* makes tags differ */
    uint64_t told;    /* ms: when `silent` was last told */
    size_t outstanding;
    struct chv_keeper_slot slots[CHV_KEEPER_OUTSTANDING];
    const struct chv_keeper_events *events;
    struct chv_keeper_request *packet; /* CHV_KEEPER_BATCH */
    size_t packet_count;               /* requests in it that the socket has not taken yet */
};

/* `capacity`: of the queue. The client's handles keep no loop alive. `events` must outlive it. */
enum chv_err chv_keeper_client_init(struct chv_keeper_client *client, uv_loop_t *loop, size_t capacity, uint64_t seed,
                                    const struct chv_keeper_events *events) CHV_MUST_CHECK;
/* Closes the handles; the loop must run once more before the memory goes. No question may be out any more. */
void chv_keeper_client_close(struct chv_keeper_client *client);
/* After the loop has run: frees. */
void chv_keeper_client_free(struct chv_keeper_client *client);

/*
 * A new keeper's socket, which becomes the client's (-1: none). What was outstanding at the old one is refused with
 * 503, and without a new one also all that waits.
 */
void chv_keeper_client_connect(struct chv_keeper_client *client, int fd);

/*
 * A connection's CHV_KEY_PSK or CHV_KEY_DH question. It is answered or refused (429: the queue is full, 503) within wait_ms, or at
 * once. `ask` must be cancelled before the connection goes.
 */
void chv_keeper_client_ask(struct chv_keeper_client *client, struct chv_keeper_ask *ask, struct chv_conn *conn,
                           uint64_t source);
void chv_keeper_client_cancel(struct chv_keeper_client *client, struct chv_keeper_ask *ask);

#endif
