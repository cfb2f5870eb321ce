/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the net process share; nobody else includes this. */
#ifndef CHV_NET_SERVER_INTERNAL_H
#define CHV_NET_SERVER_INTERNAL_H

#include "net/allowlist.h"
#include "net/clients.h"
#include "net/keeper_client.h"
#include "net/listener.h"
#include "net/ratelimit.h"
#include "net/server.h"
#include "net/server_expiry.h"
#include "net/server_update.h"

#include <pthread.h>
#include <stdatomic.h>

struct chv_server_conn;

enum {
    CHV_SERVER_SOURCES = 4096,         /* buckets of `unproven` */
    CHV_SERVER_STRANGER_WARNINGS = 100 /* log lines per second about peers that have opened no service */
};

/* What all loops share. */
struct chv_server {
    const struct chv_server_parts *parts;
    int control_fd; /* the supervisor's; messages are whole, so that each loop may send */
    struct chv_pool pool;
    struct chv_clients clients;
    atomic_uint connections;
    atomic_uint most_connections;
    unsigned suites;
    uint64_t source_seed;
    atomic_uint unproven[CHV_SERVER_SOURCES]; /* connections without an opened OPEN, by hash of their source */
    pthread_mutex_t rate_lock;                /* of all below */
    struct chv_ratelimit rate;
    uint64_t warned_second; /* in which so many `warnings` were said about strangers, and so many were not */
    unsigned warnings, warnings_left;
};

/* One loop. Only `mail` is touched by other threads. */
struct chv_worker {
    struct chv_server *server;
    struct chv_server_config config; /* as it is now */
    struct chv_loop loop;
    struct chv_keeper_client keeper;
    unsigned keeper_generation; /* of its socket */
    size_t acceptor_count;
    struct chv_acceptor acceptors[CHV_LISTENERS_MAX];
    int listen_fds[CHV_LISTENERS_MAX];
    bool accepting, draining;
    uv_timer_t drain_limit;
    uv_timer_t health; /* of the backend */
    struct chv_server_expiry expiry;
    struct chv_server_conn *conns;
    struct chv_allowlist *allowed; /* NULL: empty */
    pthread_t thread;
    uv_async_t wake;
    struct {
        pthread_mutex_t lock;
        bool keeper, config, drain, stop, allow; /* what has come */
        int keeper_fd;
        unsigned keeper_generation;
        struct chv_server_config new_config;
        struct chv_allowlist *allowed; /* an owner's */
    } mail;
};

/* server_conn.c */
/* A client has connected: `fd` is taken over. */
void chv_server_accepted(struct chv_acceptor *acceptor, int fd, const struct sockaddr *address);
/* Lets every client of this loop go. */
void chv_server_drain(struct chv_worker *worker);
/* Another allow-list is in effect: ends sessions that it does not let in. */
void chv_server_recheck(struct chv_worker *worker);
/* A chv_server_expire_fn. */
uint64_t chv_server_expire(struct chv_server_expiry *expiry, uint64_t now);
/* Of struct chv_keeper_events. */
void chv_server_verdict(struct chv_conn *conn, enum chv_keeper_verdict verdict);
void chv_server_refused(struct chv_conn *conn, unsigned code, const char *reason);

/* server_rights.c */
/* The client's static key; false in profile psk, and before the hello was read. */
bool chv_server_identity_of(struct chv_conn *conn, struct chv_identity *identity);
/*
 * What the allow-list makes of a proven client: NULL, or why it has no rights (static text).  `rights`: in, the
 * credential's; out, in profile key the entry's, in key+psk what both grant.
 */
const char *chv_server_rights(const struct chv_allowlist *allowed, struct chv_conn *conn,
                              const struct chv_session_info *info, struct chv_credential *rights);
/* Whether a session that has rights would get them, or more, if it came now: NULL, or why not. */
const char *chv_server_rights_now(const struct chv_allowlist *allowed, struct chv_conn *conn,
                                  const struct chv_credential *had);
/* Profile key+psk: whether the credential is bound to another key, so that the session was doomed from its hello on. */
bool chv_server_misbound(struct chv_conn *conn);

#endif
