/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chaveiro tunnel: TCP and unix sockets of this machine whose connections go to targets that the server has. Each local
 * connection has a session of its own; one loop has them all.
 *
 * What waits is bounded: a local connection that is let in gets its session next, and while TUNNEL_PENDING of them have
 * none yet, no further one is accepted: those wait in the backlog of the listening socket.
 */
#ifndef CHV_TOOLS_CHAVEIRO_TUNNEL_H
#define CHV_TOOLS_CHAVEIRO_TUNNEL_H

#include "net/listener.h"
#include "net/source.h"
#include "services/tunnel_pipe.h"
#include "tools/chaveiro.h"

enum {
    TUNNEL_CONNECTIONS = 512, /* local ones at a time */
    TUNNEL_PENDING = 32,      /* of them, those without a session yet */
    TUNNEL_FULL = 4,          /* full handshakes at a time, once the key has been good for one */
    TUNNEL_TICKETS = 16,      /* kept in stock */
    TUNNEL_SIGNALS = 3
};

struct tunnel_door;
struct tunnel_local;

/* One tunnel of the server, and where its local connections come in. */
struct tunnel_entry {
    struct tunnel_door *door;
    const struct chv_client_tunnel *config;
    struct chv_listeners listeners;
    struct tunnel_listener {
        struct tunnel_entry *entry;
        uv_poll_t poll;
        int fd;
        bool local; /* a unix socket */
        const char *text;
    } in[CHV_LISTENERS_MAX];
    size_t in_count;
    unsigned count; /* local connections */
    struct chv_message_events events;
    unsigned told; /* the code of the refusal that was told last, 0: none since it worked */
};

enum tunnel_doubt { TUNNEL_NO_DOUBT, TUNNEL_UNPROVEN, TUNNEL_UNKNOWN, TUNNEL_REFUSED };
enum tunnel_gives { TUNNEL_MAY_GIVE, TUNNEL_GIVES, TUNNEL_GIVES_NONE };

struct tunnel_door {
    struct chaveiro_link *link;
    struct tunnel_entry *entries;
    size_t entry_count;
    unsigned count, count_max; /* local connections */
    struct tunnel_local *locals;
    bool json, verbose;

    /* Sessions that are being made (chaveiro_tunnel_session.c). */
    struct tunnel_local *waiting; /* for their turn, the first one first */
    unsigned pending;             /* without a session: waiting or in a handshake */
    unsigned handshakes;          /* of the pending ones, that have a connection */
    bool proven;                  /* the key in link->key has been good for a handshake */
    enum tunnel_doubt doubt;      /* ... or has not */
    unsigned doubt_refusal;
    char doubt_text[CHV_STATUS_TEXT_MAX + 64];
    uint64_t reread;             /* uv_now when the keystore may be read again for those who are refused */
    bool stored;                 /* a new key of the client is in the keystore */
    bool lost;                   /* the server; it was said so */
    unsigned attempt;            /* that have failed since */
    enum tunnel_gives gives;     /* does the server hand out tickets? */
    bool fresh;                  /* a session has just begun: its tickets follow */
    bool impatient;              /* none has come for a while */
    struct chv_client_key first; /* what was tried before older ones were */
    uv_timer_t retry;            /* before another attempt */
    uv_timer_t grace;            /* for the tickets that follow on STATUS */
    uv_timer_t due;              /* of the local connection that waits longest */
    uv_check_t check;            /* whether a ticket has come */

    bool stopping, over, handles;
    uv_timer_t pause, deadline; /* no descriptors left: wait for some; of the end */
    uv_signal_t signals[TUNNEL_SIGNALS];
};

/* A local connection and its session. */
struct tunnel_local {
    struct tunnel_door *door;
    struct tunnel_entry *entry;
    struct tunnel_local *next, *prev; /* of all */
    struct tunnel_local *after;       /* in door->waiting */
    char peer[CHV_PEER_TEXT];
    int fd;                       /* the pipe's, once there is one: -1 */
    uint64_t since;               /* uv_hrtime when it was accepted */
    uint64_t until;               /* uv_now when it has waited long enough */
    struct chv_client_key key;    /* as it was when the handshake began */
    struct chv_message *message;  /* NULL: there is none yet, or any more */
    struct chv_tunnel_pipe *pipe; /* NULL: there is none yet */
    bool queued, ready, resumed, full, dropped;
};

/* --- chaveiro_tunnel.c -------------------------------------------------------------------------------------------- */

/* Accepts or not, as there is room; ends the loop once it is to end and nobody is there any more. */
void tunnel_settle(struct tunnel_door *door);
bool tunnel_has_room(const struct tunnel_entry *entry);

/* --- local connections (chaveiro_tunnel_local.c) ------------------------------------------------------------------- */

/* Takes over a connected socket. */
void tunnel_local_start(struct tunnel_entry *entry, int fd, const char *peer);
/* Its session is ready: bytes go to and fro. */
void tunnel_local_open(struct tunnel_local *local);
/* It gets a reset, and the session, if there is one, is nobody's any more. */
void tunnel_local_drop(struct tunnel_local *local);
/* Its session has ended, which frees it. */
void tunnel_local_ended(struct tunnel_local *local, enum chv_err err, const char *text, unsigned status);
enum chv_err tunnel_local_record(struct chv_message *message, uint8_t type, const uint8_t *body, size_t len);
void tunnel_local_batch(struct chv_message *message);
void tunnel_local_drained(struct chv_message *message);

/* --- sessions (chaveiro_tunnel_session.c) -------------------------------------------------------------------------- */

/* The local connection waits for its turn. */
void tunnel_session_queue(struct tunnel_local *local);
/* As many as may begin. */
void tunnel_session_next(struct tunnel_door *door);
/* Not any more: for a local connection that is dropped. */
void tunnel_session_forget(struct tunnel_local *local);
void tunnel_session_start(struct tunnel_door *door);
void tunnel_session_stop(struct tunnel_door *door);

/* --- what is said (chaveiro_tunnel_text.c) ------------------------------------------------------------------------- */

enum chv_err tunnel_tell_listening(const struct tunnel_door *door, struct chv_why *why) CHV_MUST_CHECK;
void tunnel_tell_opened(const struct tunnel_local *local);
void tunnel_tell_closed(const struct tunnel_local *local, enum chv_err err, const char *text);
/* The server did not let it in. */
void tunnel_tell_refused(struct tunnel_local *local, unsigned code, const char *text);
/* Nor does it know any key of this client (door->doubt says how). */
void tunnel_tell_unknown(struct tunnel_local *local);
/* No session within --timeout; `there`: the server is, but not the target. */
void tunnel_tell_late(struct tunnel_local *local, bool there);
void tunnel_tell_lost(struct tunnel_door *door, const char *text);
void tunnel_tell_back(struct tunnel_door *door);

#endif
