/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The net side of the connector: one per loop. Questions wait in order; each is answered, or is not within the limit. One
 * tunnel whose target does not answer leaves room for the others.
 */
#ifndef CHV_NET_CONNECTOR_CLIENT_H
#define CHV_NET_CONNECTOR_CLIENT_H

#include "net/connector.h"

#include <uv.h>

enum {
    CHV_CONNECTOR_OF_TUNNEL = 24, /* of the questions that are out, for one tunnel at most */
    CHV_CONNECTOR_WAITING = 1024, /* questions of one loop that wait to be asked */
    CHV_CONNECTOR_WAIT_MS = 5000, /* for their turn, and for a connector */
    CHV_CONNECTOR_GRACE_MS = 2000 /* beyond the tunnel's connect-timeout, for the answer */
};

struct chv_connector_client;
struct chv_connector_ask;

/*
 * The end of a question. `fd`: the connected, non-blocking, close-on-exec socket, the callee's from now on; -1 unless
 * `status` is CHV_CONNECTOR_OK. `text`: why there is none, for the log (it tells of the target); holds during the call.
 */
typedef void (*chv_connector_done_fn)(struct chv_connector_ask *ask, enum chv_connector_status status, int fd,
                                      const char *text);

/* A question; its memory is the asker's, zeroed before its first use, and must stay until `done` or a cancel. */
struct chv_connector_ask {
    struct chv_connector_ask *prev, *next; /* while it waits */
    enum { CHV_CONNECTOR_IDLE, CHV_CONNECTOR_WAITS, CHV_CONNECTOR_OUT } state;
    unsigned slot; /* CHV_CONNECTOR_OUT */
    uint64_t deadline;
    unsigned connect_seconds;
    chv_connector_done_fn done;
    char tunnel[CHV_TUNNEL_NAME_MAX + 1];
};

struct chv_connector_events {
    /* The socket was lost, though nobody took it away: somebody is to give another. */
    void (*lost)(struct chv_connector_client *client);
    /* A question was not answered within its time, which a connector always does; again each second while that lasts. */
    void (*silent)(struct chv_connector_client *client);
};

struct chv_connector_client {
    uv_loop_t *loop;
    uv_poll_t *poll; /* NULL: there is no connector */
    int fd;
    uv_timer_t timer;           /* of the deadlines */
    uint64_t round;             /* makes tags differ */
    uint64_t told;              /* ms: when `silent` was last told */
    uint64_t wait_ms, grace_ms; /* CHV_CONNECTOR_WAIT_MS, CHV_CONNECTOR_GRACE_MS */
    size_t waiting, outstanding;
    struct chv_connector_ask *first, *last; /* that wait */
    struct {
        uint64_t tag;                         /* 0: free */
        char tunnel[CHV_TUNNEL_NAME_MAX + 1]; /* while it is not */
        uint64_t deadline;
        struct chv_connector_ask *ask; /* NULL: cancelled or too late; an answer may come yet, and is closed */
    } slots[CHV_CONNECTOR_OUTSTANDING];
    const struct chv_connector_events *events;
};

/* Its handles keep no loop alive. `events` must outlive it. */
void chv_connector_client_init(struct chv_connector_client *client, uv_loop_t *loop,
                               const struct chv_connector_events *events);
/* Closes the handles; the loop must run once more before the memory goes. Questions are forgotten without an answer. */
void chv_connector_client_close(struct chv_connector_client *client);
/*
 * A new connector's socket, which becomes the client's (-1: none). What is out at the old one is answered
 * CHV_CONNECTOR_UNAVAILABLE, during this call; what waits goes on waiting.
 */
void chv_connector_client_set(struct chv_connector_client *client, int fd);
/*
 * Asks for a connection of `tunnel` (copied). `done` is called once, later, from the loop, unless the question is cancelled
 * before. CHV_ERR_BUSY: too many wait; CHV_ERR_STATE: `ask` is in use; `done` will not be called then.
 */
enum chv_err chv_connector_client_ask(struct chv_connector_client *client, struct chv_connector_ask *ask,
                                      const struct chv_server_tunnel *tunnel,
                                      chv_connector_done_fn done) CHV_MUST_CHECK;
/* A socket that comes for it yet is closed. One that is not in use stays so. */
void chv_connector_client_cancel(struct chv_connector_client *client, struct chv_connector_ask *ask);

#endif
