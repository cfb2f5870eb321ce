/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the connection driver share; nobody else includes this. */
#ifndef CHV_NET_CONN_INTERNAL_H
#define CHV_NET_CONN_INTERNAL_H

#include "net/conn.h"

#include <stdbool.h>

enum {
    CHV_CONN_READ_MIN = 64 * 1024,          /* bulk read size at first, and again after back-pressure */
    CHV_CONN_BULK_MAX = 512 * 1024,         /* read or written at a time unless duplex: it may have to be held */
    CHV_CONN_PROGRESS = 4096,               /* unsent bytes that must move within the stall limit */
    CHV_CONN_UNSENT_MAX = 1024 * 1024,      /* beyond it not even a duplex connection is read */
    CHV_CONN_PONGS_MAX = 64 * 1024,         /* likewise, of PONGs: they are what its peer can have held at will */
    CHV_CONN_LINGER_BYTES = 4 * 1024 * 1024 /* thrown away while a refused peer goes on sending */
};

enum chv_conn_state {
    CHV_CONN_CONNECTING, /* client: resolving, connecting */
    CHV_CONN_HANDSHAKE,
    CHV_CONN_OPEN,
    CHV_CONN_FLUSHING, /* no record is read any more; unsent bytes go out, then the end */
    CHV_CONN_ENDED     /* handle closing; `closed` is due */
};

/* What a connection in the list `stalled` waits for. */
enum chv_conn_stall { CHV_STALL_NONE, CHV_STALL_UNSENT, CHV_STALL_PARTIAL, CHV_STALL_CLOSING };

_Static_assert(CHV_LOOP_SLOTS *(CHV_RECORD_BULK_BODY + CHV_RECORD_HEAD + CHV_RECORD_TAIL) <= CHV_LOOP_BUFFER,
               "the slots fit the buffer");

/* loop.c: chv_session_size() bytes; NULL when there is no memory. */
void *chv_loop_take_room(struct chv_loop *loop);
void chv_loop_give_room(struct chv_loop *loop, void *room);

struct chv_connecting; /* connect.c: addresses still to try */

struct chv_conn {
    struct chv_loop *loop;
    struct chv_conn *prev, *next; /* loop->conns */
    struct chv_deadline_list *list;
    struct chv_conn *list_prev, *list_next;
    uint64_t deadline; /* uv_now units (ms) */

    union {
        uv_handle_t any;
        uv_poll_t poll;
        uv_timer_t none; /* stands in when there is no socket to close yet: uv_close gives the deferred end */
    } handle;
    bool handle_ready; /* `poll` is initialised */
    bool detaching;    /* the handle is closing; then `then` */
    void (*then)(struct chv_conn *conn);
    int events; /* polled for now; 0: stopped */
    int fd;     /* -1: none */

    struct chv_session *session;
    const struct chv_conn_events *on;
    void *owner;
    uint64_t id;
    char *peer;
    struct chv_why *why;
    struct chv_connecting *connecting;

    struct chv_held partial; /* frame that has not come as a whole */
    struct chv_held unsent;
    size_t read_size;
    size_t lingered; /* bytes thrown away */
    size_t moved;    /* unsent bytes written since the deadline was set */
    size_t pongs;    /* bytes of PONGs behind others that were unsent */

    enum chv_role role;
    enum chv_conn_state state;
    enum chv_conn_stall stall;
    enum chv_err err; /* what `closed` will say */
    int write_error;  /* errno of the write that ended writing */
    unsigned corks;
    bool paused;    /* by its owner: no record either */
    bool held_back; /* by its owner */
    bool duplex;    /* directions are independent */
    bool hung_up;   /* the peer's end was seen while it was held back */
    bool handed;    /* a record, so that `batch` is due */
    bool has_room;  /* its session has that of a handshake */
    bool exact; /* an event came that was not wanted: from now on those that are watched are those that are wanted */
    bool busy;  /* in chv_conn_consume: what changes the state now is seen by its loop */
    bool key_asked;
    bool first_record; /* came: the peer is proven (server) */
    bool fresh_record; /* one came or went since the deadline was set */
    bool waited;       /* `drained` is due when unsent gets empty */
    bool close_sent, close_received;
    bool read_ended;  /* end of the peer's bytes */
    bool write_ended; /* the socket takes no more */
    bool linger, shut;
};

/* Whether so much waits for the peer that nothing more is read from it. */
static inline bool chv_conn_backed_up(const struct chv_conn *conn)
{
    if (conn->duplex)
        return conn->unsent.len > CHV_CONN_UNSENT_MAX || (conn->unsent.len > 0 && conn->pongs > CHV_CONN_PONGS_MAX);
    return conn->unsent.len > 0 && conn->role == CHV_SERVER;
}

/* deadline.c */
/* Puts the connection into the list that its state asks for; cheap, call after anything that may have changed it. */
void chv_deadline_update(struct chv_conn *conn);
void chv_deadline_remove(struct chv_conn *conn);
/* The loop's timer: ends those whose time is up, lets silent ones rest. It runs while there are connections. */
void chv_deadline_start(struct chv_loop *loop);

/* conn.c */
/* A connection without a socket yet; `fd` -1. */
enum chv_err chv_conn_new(struct chv_loop *loop, const char *peer, const struct chv_session_config *config,
                          const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                          struct chv_why *why) CHV_MUST_CHECK;
/* Undoes chv_conn_new when nothing else has happened. */
void chv_conn_discard(struct chv_conn *conn);
/* The loop counts it and sets its first deadline; from now on it ends by chv_conn_finish only. */
void chv_conn_adopt(struct chv_conn *conn);
/* Makes `fd` the connection's, watched by its poll handle; on failure it stays the caller's. 0 or a negative errno. */
int chv_conn_attach(struct chv_conn *conn, int fd);
/* Gives up the socket; `then` is called from the loop once the handle is closed. The last `then` counts. */
void chv_conn_detach(struct chv_conn *conn, void (*then)(struct chv_conn *conn));
/* The socket is connected: from now on it is a session. */
void chv_conn_connected(struct chv_conn *conn);
/* The end, now. The first error given to it or to chv_conn_end counts. */
void chv_conn_finish(struct chv_conn *conn, enum chv_err err);
/* A call of the session failed: sends what it still has to say (a refusal), then ends. */
void chv_conn_session_failed(struct chv_conn *conn, enum chv_err err);
/* After anything that changed the state: goes on with an end in progress, polls for what is needed, sets the deadline.
 */
void chv_conn_settle(struct chv_conn *conn);

/* conn_read.c */
/* Reads what is there, unless somebody up the stack uses the loop's buffer: then the poll handle will tell again. */
void chv_conn_read(struct chv_conn *conn);
/* The peer's bytes have ended, by FIN (0) or by `error` (an errno). */
void chv_conn_lost(struct chv_conn *conn, int error);
/* Drives the session on, with bytes of the peer or (len 0) without. Returns how many were used. */
size_t chv_conn_consume(struct chv_conn *conn, uint8_t *buf, size_t len);
/* The same with the bytes that were held back. */
void chv_conn_resume(struct chv_conn *conn);

/* conn_write.c */
/* Writes bytes that are not in the loop's buffer, behind those unsent. */
void chv_conn_push(struct chv_conn *conn, const uint8_t *data, size_t len);
/* Writes what waits in the loop's buffer. */
void chv_conn_flush(struct chv_conn *conn);
/* The socket takes bytes again. */
void chv_conn_writable(struct chv_conn *conn);

/* connect.c */
/* Forgets the addresses. */
void chv_connect_cancel(struct chv_conn *conn);

#endif
