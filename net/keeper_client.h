/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net side of the keeper: one per loop. Questions wait in a fair queue, leave in one packet per turn of the loop,
 * and find their connection again by a tag; while they travel the connections compute what does not depend on the
 * answer.
 */
#ifndef CHV_NET_KEEPER_CLIENT_H
#define CHV_NET_KEEPER_CLIENT_H

#include "net/keeper_receipt.h"
#include "net/keeper_ticket.h"
#include "net/keyqueue.h"

enum {
    CHV_KEEPER_OUTSTANDING = 64, /* of one loop; a power of two */
    CHV_KEEPER_SILENT_MS = 2000,
    CHV_KEEPER_UPDATES = 256,     /* key updates of one loop that wait; the others are asked for in another session */
    CHV_KEEPER_UPDATE_MS = 1000,  /* how long one may take */
    CHV_KEEPER_RECEIPT_MS = 8000, /* how long a receipt may take: a keeper that died has time to come back */
    CHV_KEEPER_TICKET_MS = 3000   /* how long ticket keys may take */
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

struct chv_keeper_update_ask;

/* The body of KEY_UPDATE; NULL: there is none, or not in time. */
typedef void (*chv_keeper_updated_fn)(struct chv_keeper_update_ask *ask, const uint8_t *body, size_t len);

/* A question for a key update. */
struct chv_keeper_update_ask {
    struct chv_keeper_update_ask *prev, *next;
    struct chv_conn *conn;
    chv_keeper_updated_fn done;
    uint64_t deadline;
};

/* These wait until no handshake does, and leave one at a time: they never take a slot from one. */
struct chv_keeper_updates {
    struct chv_keeper_update_ask *first, *last;
    size_t count;
    bool out;                           /* one is at the keeper, */
    struct chv_keeper_update_ask *sent; /* this one; NULL: its connection is gone, or its time is over */
    uint64_t tag;                       /* of the last one */
};

struct chv_keeper_receipt_ask;

/* NULL: the keeper did not answer in time. */
typedef void (*chv_keeper_receipt_fn)(struct chv_keeper_receipt_ask *ask,
                                      const struct chv_keeper_receipt_answer *answer);

/* A question for a receipt; its memory is the asker's. */
struct chv_keeper_receipt_ask {
    struct chv_keeper_receipt_ask *prev, *next;
    struct chv_keeper_receipt_request request; /* without tag and kind */
    chv_keeper_receipt_fn done;
    uint64_t deadline;
};

/* They leave one at a time, beside the handshakes': neither keeps the other waiting for long. */
struct chv_keeper_receipts {
    struct chv_keeper_receipt_ask *first, *last; /* the one that is out is the first */
    bool out;                                    /* a question is at the keeper, */
    bool unwanted;                               /* but nobody waits for its answer */
    uint64_t sent;                               /* ms: when */
    uint64_t tag;                                /* of the last one */
};

struct chv_keeper_ticket_ask;

/* NULL: the keeper did not answer in time, or went. Whoever keeps the keys copies them. */
typedef void (*chv_keeper_ticket_fn)(struct chv_keeper_ticket_ask *ask, const struct chv_keeper_ticket_answer *answer);

/* A question for ticket keys; its memory is the asker's. */
struct chv_keeper_ticket_ask {
    enum chv_ticket_use use;
    uint32_t epoch;
    bool sent;
    chv_keeper_ticket_fn done;
    uint64_t deadline;
};

struct chv_keeper_tickets {
    struct chv_keeper_ticket_ask *ask; /* that waits; NULL: none */
    bool out;                          /* a question is at the keeper, perhaps of nobody any more */
    uint64_t since;                    /* ms: when it left */
    uint64_t tag;                      /* of the last one */
};

struct chv_keeper_client {
    uv_loop_t *loop;
    uv_poll_t *poll; /* NULL: there is no keeper */
    int fd;
    uv_check_t turn;
    uv_timer_t timer; /* of the questions' deadlines */
    struct chv_keyqueue queue;
    uint64_t wait_ms; /* how long a question may take, in the queue and at the keeper together */
    uint64_t receipt_ms, ticket_ms;
    uint64_t round; /* makes tags differ */
    uint64_t told;  /* ms: when `silent` was last told */
    size_t outstanding;
    struct chv_keeper_slot slots[CHV_KEEPER_OUTSTANDING];
    const struct chv_keeper_events *events;
    struct chv_keeper_request *packet; /* CHV_KEEPER_BATCH */
    size_t packet_count;               /* requests in it that the socket has not taken yet */
    struct chv_keeper_updates updates;
    struct chv_keeper_receipts receipts;
    struct chv_keeper_tickets tickets;
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

/*
 * Asks for a key update of the connection's session. False: not now, `done` will not be called. Else it is called, once,
 * from the loop within CHV_KEEPER_UPDATE_MS and a little, unless the question is cancelled before.
 */
bool chv_keeper_client_update(struct chv_keeper_client *client, struct chv_keeper_update_ask *ask,
                              struct chv_conn *conn, chv_keeper_updated_fn done);
void chv_keeper_client_update_cancel(struct chv_keeper_client *client, struct chv_keeper_update_ask *ask);

/*
 * Asks for a receipt: `done` is called, once, from the loop within CHV_KEEPER_RECEIPT_MS and a little, unless the question
 * is cancelled before. A keeper that goes meanwhile is no reason to give up: the next one is asked.
 */
void chv_keeper_client_receipt(struct chv_keeper_client *client, struct chv_keeper_receipt_ask *ask,
                               chv_keeper_receipt_fn done);
void chv_keeper_client_receipt_cancel(struct chv_keeper_client *client, struct chv_keeper_receipt_ask *ask);

/*
 * Asks for ticket keys, one question at a time. False: there is no keeper, or one waits already; `done` will not be called.
 * Else it is called, once, from the loop within CHV_KEEPER_TICKET_MS and a little, unless the question is cancelled.
 */
bool chv_keeper_client_ticket(struct chv_keeper_client *client, struct chv_keeper_ticket_ask *ask,
                              enum chv_ticket_use use, uint32_t epoch, chv_keeper_ticket_fn done);
void chv_keeper_client_ticket_cancel(struct chv_keeper_client *client);

/* Between keeper_client.c and keeper_client_update.c: what waits leaves; an answer; deadlines; the socket is another. */
void chv_keeper_client_update_flush(struct chv_keeper_client *client);
void chv_keeper_client_update_answer(struct chv_keeper_client *client, const void *packet);
void chv_keeper_client_update_expire(struct chv_keeper_client *client, uint64_t now);
void chv_keeper_client_update_drop(struct chv_keeper_client *client);
/* The same between keeper_client.c and keeper_client_receipt.c. */
void chv_keeper_client_receipt_flush(struct chv_keeper_client *client);
void chv_keeper_client_receipt_answer(struct chv_keeper_client *client, const void *packet);
void chv_keeper_client_receipt_expire(struct chv_keeper_client *client, uint64_t now);
void chv_keeper_client_receipt_drop(struct chv_keeper_client *client);
/* And between keeper_client.c and keeper_client_ticket.c. */
void chv_keeper_client_ticket_flush(struct chv_keeper_client *client);
void chv_keeper_client_ticket_answer(struct chv_keeper_client *client, const void *packet);
void chv_keeper_client_ticket_expire(struct chv_keeper_client *client, uint64_t now);
void chv_keeper_client_ticket_drop(struct chv_keeper_client *client);
void chv_keeper_client_start_timer(struct chv_keeper_client *client);

#endif
