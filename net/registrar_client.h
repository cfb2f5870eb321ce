/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net side of the registrar: one per loop.  Questions wait in order; each is answered, or is not within the limit.
 * Those about strangers, who have proven nothing and may be any number, wait behind all others, and a few of them are out
 * at a time: however many come, an OPEN finds room and its answer is not behind theirs.
 */
#ifndef CHV_NET_REGISTRAR_CLIENT_H
#define CHV_NET_REGISTRAR_CLIENT_H

#include "net/registrar.h"

#include <uv.h>

enum {
    CHV_REGISTRAR_OUTSTANDING = 32,        /* of one loop; a power of two; all their answers fit a socket */
    CHV_REGISTRAR_STRANGERS = 4,           /* of these, CHV_REGISTRAR_PEER questions at most */
    CHV_REGISTRAR_STRANGERS_WAITING = 256, /* such questions; an answer takes far less than the limit over this */
    CHV_REGISTRAR_WAIT_MS = 5000,
    CHV_REGISTRAR_SILENT_MS = 2000
};

struct chv_registrar_client;
struct chv_registrar_ask; /* a question that is not answered yet */

/* The end of a question: `answer` (OK or UNAVAILABLE) holds until the return; NULL: there is none. */
typedef void (*chv_registrar_answer_fn)(void *owner, const struct chv_registrar_answer *answer);

struct chv_registrar_events {
    /* A client was changed; NULL: anybody may have been.  Also when a registrar has come. */
    void (*changed)(struct chv_registrar_client *client, const char *id);
    /* The socket was lost, though nobody took it away: somebody is to give another. */
    void (*lost)(struct chv_registrar_client *client);
    /* A question is out for CHV_REGISTRAR_SILENT_MS; again each second while that lasts. */
    void (*silent)(struct chv_registrar_client *client);
};

/* Questions that wait to be sent. */
struct chv_registrar_queue {
    size_t capacity, waiting, outstanding;
    struct chv_registrar_ask *first, *last;
};

struct chv_registrar_client {
    uv_loop_t *loop;
    uv_poll_t *poll; /* NULL: there is no registrar */
    int fd;
    uv_timer_t timer; /* of the questions' deadlines */
    uv_prepare_t
        turn;       /* what was asked in a turn of the loop leaves at its end: the registrar looks once for all of it */
    uint64_t round; /* makes tags differ */
    uint64_t wait_ms;
    uint64_t told; /* ms: when `silent` was last told */
    struct chv_registrar_queue proven, strangers;
    /* Questions that have their slots and were not sent yet. */
    struct chv_registrar_request packet[CHV_REGISTRAR_BATCH];
    size_t packet_count;
    /* Answers of one packet, while they are handed out. */
    uint8_t answers[CHV_REGISTRAR_BATCH * sizeof(struct chv_registrar_answer)];
    struct {
        uint64_t tag;                      /* 0: free */
        uint64_t sent;                     /* ms; or put into the packet */
        struct chv_registrar_queue *queue; /* where it came from */
        struct chv_registrar_ask *ask;     /* NULL: cancelled or too late; an answer may come yet */
    } slots[CHV_REGISTRAR_OUTSTANDING];
    const struct chv_registrar_events *events;
};

/* `capacity`: questions that may wait, beside those about strangers.  Its handles keep no loop alive.  `events` must outlive it. */
void chv_registrar_client_init(struct chv_registrar_client *client, uv_loop_t *loop, size_t capacity,
                               const struct chv_registrar_events *events);
/* Closes the handles; the loop must run once more before the memory goes.  Questions are forgotten without an answer. */
void chv_registrar_client_close(struct chv_registrar_client *client);
/* A new registrar's socket, which becomes the client's (-1: none).  Questions at the old one get no answer. */
void chv_registrar_client_connect(struct chv_registrar_client *client, int fd);

/*
 * `request` without its tag (copied).  `answered` is called once, later, unless *ask was cancelled before; then *ask is no
 * more.  CHV_ERR_UNAVAILABLE: there is no registrar; CHV_ERR_BUSY: too many wait; CHV_ERR_MEMORY: it will not be called.
 */
enum chv_err chv_registrar_client_ask(struct chv_registrar_client *client, const struct chv_registrar_request *request,
                                      chv_registrar_answer_fn answered, void *owner,
                                      struct chv_registrar_ask **ask) CHV_MUST_CHECK;
/* NULL is allowed. */
void chv_registrar_client_cancel(struct chv_registrar_client *client, struct chv_registrar_ask *ask);

#endif
