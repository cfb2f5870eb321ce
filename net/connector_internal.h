/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the connector share; nobody else includes this. */
#ifndef CHV_NET_CONNECTOR_INTERNAL_H
#define CHV_NET_CONNECTOR_INTERNAL_H

#include "net/connector.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ADDRESSES_MAX = 16 };

struct address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    };
};

struct addresses {
    size_t count;
    struct address list[ADDRESSES_MAX];
};

/* A name, for all who want its addresses. */
struct lookup {
    uv_getaddrinfo_t request;
    struct chv_connector *connector; /* NULL: it is gone */
    struct lookup *next;
    struct attempt *waiting;
    bool resolving;
    uint64_t resolved; /* ms; 0: never */
    struct addresses addresses;
    char host[CHV_CONNECTOR_HOST_MAX + 1], port[CHV_CONNECTOR_PORT_MAX + 1];
};

/* One question. */
struct attempt {
    struct attempt *prev, *next; /* of its peer */
    struct peer *peer;
    struct lookup *lookup; /* that it waits for; NULL: none */
    struct attempt *next_waiting;
    uv_timer_t timer; /* of all; then of one address */
    uint64_t deadline;
    struct dial *dial; /* the address that is tried */
    uint64_t tag;
    unsigned seconds;
    int error; /* errno of the last address that failed, 0: none has */
    bool full; /* it has no room for another connection yet */
    size_t at; /* the next address */
    struct addresses addresses;
    char target[CHV_TUNNEL_TARGET_LEN];
};

/* A connection that is being made. */
struct dial {
    uv_poll_t poll;
    struct attempt *attempt; /* NULL: given up */
    int fd;
};

/* A loop of the net process. */
struct peer {
    uv_poll_t poll;
    struct chv_connector *connector;
    struct peer *next;
    int fd; /* -1: gone */
    size_t attempt_count;
    struct attempt *attempts;
};

struct chv_connector {
    uv_loop_t *loop;
    chv_connector_resolve_fn resolve;
    uint64_t fresh_ms;
    struct peer *peers;
    struct lookup *lookups;
    size_t tunnel_count;
    struct chv_server_tunnel tunnels[CHV_TUNNELS_MAX];
};

/* connector.c */
/* Sends an answer, with `fd` if that is not -1; the peer may be lost afterwards. */
void chv_connector_answer(struct peer *peer, uint64_t tag, enum chv_connector_status status, int fd, const char *text);
/* It may ask again, having waited for an answer. */
void chv_connector_resume(struct peer *peer);

/* connector_attempt.c */
/* Begins to answer a question about this tunnel. */
void chv_connector_attempt(struct peer *peer, uint64_t tag, const struct chv_server_tunnel *tunnel);
/* Its addresses are known. */
void chv_connector_dial(struct attempt *attempt, const struct addresses *addresses);
/* Without a socket. */
void chv_connector_fail(struct attempt *attempt, enum chv_connector_status status, const char *format, ...)
    CHV_PRINTF(3, 4);
/* Whether a socket is connected to itself. */
bool chv_connector_is_self(int fd);
/* Without an answer. */
void chv_connector_forget(struct attempt *attempt);

/* connector_name.c */
/* Its addresses: at once, or once its name is resolved; or it fails. */
void chv_connector_find(struct attempt *attempt);
/* It waits for no name any more. */
void chv_connector_leave(struct attempt *attempt);
/* No name is remembered. Those that are waited for stay until then. */
void chv_connector_forget_names(struct chv_connector *connector);
/* None is left that belongs to it. */
void chv_connector_end_names(struct chv_connector *connector);

#endif
