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

enum { CHV_KEEPER_OUTSTANDING = 64 }; /* of one loop; a power of two */

struct chv_keeper_client;

/* Part of the owner's object per connection; zeroed before its first use. */
struct chv_keeper_ask {
    struct chv_keyqueue_entry entry; /* first */
    struct chv_conn *conn;
    unsigned slot; /* 0: not at the keeper; else slot + 1 */
};

/* The verdict on a connection's credential, told before chv_conn_key_answer is called. */
typedef void (*chv_keeper_verdict_fn)(struct chv_conn *conn, enum chv_verdict verdict);

/* The socket to the keeper was lost, though nobody took it away: somebody is to give another. */
typedef void (*chv_keeper_lost_fn)(struct chv_keeper_client *client);

/* Why a question was refused, told before chv_conn_key_refuse is called with `code`. */
typedef void (*chv_keeper_refused_fn)(struct chv_conn *conn, unsigned code, const char *reason);

struct chv_keeper_slot {
    bool used;
    uint64_t tag;
    struct chv_keeper_ask *ask; /* NULL: its connection is gone */
};

struct chv_keeper_client {
    uv_loop_t *loop;
    uv_poll_t *poll; /* NULL: there is no keeper */
    int fd;
    uv_check_t turn;
    uv_timer_t timer; /* of the queue's deadlines */
    struct chv_keyqueue queue;
    uint64_t wait_ms; /* how long a question may wait in the queue */
    uint64_t round;   /* makes tags differ */
    size_t outstanding;
    struct chv_keeper_slot slots[CHV_KEEPER_OUTSTANDING];
    chv_keeper_verdict_fn verdict;
    chv_keeper_refused_fn refused;
    chv_keeper_lost_fn lost;
    struct chv_keeper_request *packet; /* CHV_KEEPER_BATCH */
    size_t packet_count;               /* requests in it that the socket has not taken yet */
};

/* `capacity`: of the queue. The client's handles keep no loop alive. */
enum chv_err chv_keeper_client_init(struct chv_keeper_client *client, uv_loop_t *loop, size_t capacity, uint64_t seed,
                                    chv_keeper_verdict_fn verdict, chv_keeper_refused_fn refused,
                                    chv_keeper_lost_fn lost) CHV_MUST_CHECK;
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
 * A connection's CHV_KEY_PSK question. It is answered or refused (429: the queue is full, 503) later, or at once. `ask`
 * must be cancelled before the connection goes.
 */
void chv_keeper_client_ask(struct chv_keeper_client *client, struct chv_keeper_ask *ask, struct chv_conn *conn,
                           uint64_t source);
void chv_keeper_client_cancel(struct chv_keeper_client *client, struct chv_keeper_ask *ask);

#endif
