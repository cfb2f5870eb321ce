/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the net process share; nobody else includes this. */
#ifndef CHV_NET_SERVER_INTERNAL_H
#define CHV_NET_SERVER_INTERNAL_H

#include "net/allowlist.h"
#include "net/clients.h"
#include "net/clock.h"
#include "net/connector_client.h"
#include "net/keeper_client.h"
#include "net/listener.h"
#include "net/ratelimit.h"
#include "net/registrar_client.h"
#include "net/server.h"
#include "net/server_expiry.h"
#include "net/server_update.h"
#include "net/ticket_keys.h"
#include "net/tickets.h"

#include <pthread.h>
#include <stdatomic.h>

struct chv_server_conn;

enum {
    CHV_SERVER_SOURCES = 4096,         /* buckets of `unproven` */
    CHV_SERVER_IDS = 1024,             /* buckets of a loop's connections by client id */
    CHV_SERVER_CHECKS = 16,            /* sessions of a loop that are checked again at a time */
    CHV_SERVER_STRANGER_WARNINGS = 100 /* log lines per second about peers that have opened no service */
};

/* How a loop comes by its ticket keys (server_tickets.c). */
struct chv_server_tickets {
    struct chv_keeper_ticket_ask ask;
    bool asking, again; /* a round of questions is under way; another is to follow it */
    unsigned next;      /* question of the round */
    uint64_t period;    /* in which the last round began */
    unsigned failures;  /* rounds in a row that did not get all */
    uv_timer_t timer;   /* of the next round */
};

/* What all loops share. */
struct chv_server {
    const struct chv_server_parts *parts;
    const struct chv_listeners *listeners;
    int control_fd; /* the supervisor's; messages are whole, so that each loop may send */
    struct chv_pool pool;
    struct chv_clients clients;
    struct chv_clients tunnels; /* the same of each tunnel, by "TUNNEL/ID" */
    atomic_uint connections;
    atomic_uint most_connections;
    atomic_uint turn; /* of data ports: the next one's */
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
    struct chv_tickets tickets;
    struct chv_server_tickets ticket_keys;
    struct chv_registrar_client registrar;
    unsigned registrar_generation; /* likewise */
    struct chv_connector_client connector;
    unsigned connector_generation;                    /* likewise */
    struct chv_server_conn *by_id[CHV_SERVER_IDS];    /* proven ones, if there is a registry */
    struct chv_server_conn *check_first, *check_last; /* sessions whose rights are to be asked for again */
    unsigned checking;                                /* of which so many are asked for now */
    uv_timer_t check_again;
    size_t acceptor_count;
    struct chv_acceptor acceptors[CHV_LISTENERS_MAX];
    int listen_fds[CHV_LISTENERS_MAX]; /* of the server's listeners, in their order */
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
        bool keeper, registrar, connector, config, drain, stop, allow; /* what has come */
        int keeper_fd, registrar_fd, connector_fd;
        unsigned keeper_generation, registrar_generation, connector_generation;
        struct chv_server_config new_config;
        struct chv_allowlist *allowed;             /* an owner's */
        struct chv_ticket_keys *ticket_keys;       /* chv_secure_alloc; NULL: none have come */
        struct chv_server_letter *letters, **last; /* in order */
    } mail;
};

enum chv_server_stage {
    CHV_STAGE_CLAIMED,    /* nobody has proven anything */
    CHV_STAGE_WAITING,    /* proven; OPEN waits for an answer, and nothing is read */
    CHV_STAGE_REFUSED,    /* told why not; waits for the end */
    CHV_STAGE_REDIRECTED, /* proven, and sent on to a data port; waits for the end */
    CHV_STAGE_OPEN        /* proven, its service is open */
};

/* From one loop to another, about a client of two runs (server_duplicate.c). */
struct chv_server_letter {
    struct chv_server_letter *next;
    enum { CHV_LETTER_PROBE, CHV_LETTER_ALIVE, CHV_LETTER_GONE, CHV_LETTER_EVICT } kind;
    char id[CHV_CLIENT_ID_MAX + 1];
    uint64_t to, from;              /* connections */
    struct chv_worker *from_worker; /* whose loop `from` is of */
};

struct chv_server_rivals;

/* What OPEN asked for, until it gets it. */
struct chv_server_opening {
    const struct chv_service *service;
    size_t len; /* of the map */
    uint8_t map[];
};

struct chv_server_conn {
    struct chv_keeper_ask ask;
    struct chv_worker *worker;
    struct chv_server_conn *prev, *next; /* of its worker */
    struct chv_conn *conn;
    const struct chv_listener *listener; /* by which it came */
    uint32_t reachable;                  /* of a handshake port: chv_listeners_reachable */
    uint16_t came_by;                    /* of a data port: the port of its handshake; 0: not known */
    bool limited;                        /* it ends by session-limit */
    struct chv_credential *granted;      /* of a data port: the rights in the ticket; else NULL */
    uint64_t source;
    atomic_uint *unproven; /* the server's counter that this one is in; NULL: proven */
    enum chv_server_stage stage;
    enum chv_keeper_verdict verdict;
    unsigned refuse;     /* code of a refusal at accept, 0: none */
    bool resumed;        /* came with a ticket */
    const char *denied;  /* a ticket's client that the registry does not let in: why; NULL: it does */
    uint8_t tickets;     /* that OPEN asked for */
    uint8_t next_ticket; /* number of the session's next one */
    uint64_t auth_time;  /* of the last full handshake, Unix seconds */
    const char *reason;
    const struct chv_service *service;
    void *state;
    struct chv_credential *client;     /* proven; cut to its scopes */
    struct chv_clients_entry *counted; /* for its id; NULL: not (yet) */
    struct chv_server_update update;
    struct chv_server_opening *opening; /* CHV_STAGE_WAITING */
    struct chv_clients_member member;   /* its run */
    struct chv_server_rivals *rivals;   /* of an older run, that are asked whether they live; NULL: none */
    struct chv_server_letter *probes;   /* who asks whether this one does */

    /* The registry's word (server_registry.c). */
    struct chv_registrar_ask *question; /* that is out; NULL: none */
    struct chv_credential
        *registered; /* profile key: who has this key, and with which rights; NULL: the allow-list says */
    bool goes_on;    /* though the server ends: its service does */
    bool indexed;    /* in by_id */
    bool checking, check_due, check_again, no_update, narrowed;
    struct chv_server_conn *id_prev, *id_next;       /* in by_id */
    struct chv_server_conn *check_prev, *check_next; /* while check_due */
};

/* server_conn.c */
/* A client has connected: `fd` is taken over. */
void chv_server_accepted(struct chv_acceptor *acceptor, int fd, const struct sockaddr *address);
/* Lets every client of this loop go. */
void chv_server_drain(struct chv_worker *worker);
/* Of struct chv_keeper_events. */
void chv_server_verdict(struct chv_conn *conn, enum chv_keeper_verdict verdict);
void chv_server_refused(struct chv_conn *conn, unsigned code, const char *reason);
/* To the log, with who it is about. */
void chv_server_say(const struct chv_server_conn *c, enum chv_log_level level, const char *format, ...)
    CHV_PRINTF(3, 4);
/* Its source has one unfinished handshake less. */
void chv_server_proven(struct chv_server_conn *c);

/* server_open.c */
/* OPEN has come: the client is proven. */
enum chv_err chv_server_open(struct chv_server_conn *c, const uint8_t *body, size_t len) CHV_MUST_CHECK;
/* The registry, if there is one, lets in the one that waits: goes on, unless its rights are too few. */
void chv_server_admit(struct chv_server_conn *c);
/*
 * Asks for its next key, if it is to be handed one, and calls `then` (or NULL) once KEY_UPDATE has gone out, or will not.
 * False: there is none, and nobody calls.
 */
bool chv_server_offer_update(struct chv_server_conn *c, void (*then)(struct chv_conn *conn));
/* No other run stands against it: opens the service that waits, and reads on. Whether it is open. */
bool chv_server_open_waiting(struct chv_server_conn *c);
/* STATUS in the channel, which only the key's holder reads, and the end; of one that waits or is open. */
void chv_server_cut(struct chv_server_conn *c, unsigned code, const char *text);
/* Another allow-list is in effect: ends sessions that it does not let in. */
void chv_server_recheck(struct chv_worker *worker);
/* A chv_server_expire_fn. */
uint64_t chv_server_expire(struct chv_server_expiry *expiry, uint64_t now);

/* server_duplicate.c */
/*
 * Its rights are enough: opens its service, now or once the run that it is to replace is known to be dead. Nobody goes
 * before that service is open.
 */
void chv_server_duplicate_check(struct chv_server_conn *c);
/* PONG has come. */
void chv_server_duplicate_pong(struct chv_server_conn *c);
/* It counts as a run no more, and waits for none. */
void chv_server_duplicate_forget(struct chv_server_conn *c);
/* Takes the letters. */
void chv_server_duplicate_letters(struct chv_worker *worker, struct chv_server_letter *letters);

/* server.c */
/* Takes connections from now on, unless it does already, or ends. */
void chv_server_accept(struct chv_worker *worker);

/* server_tickets.c */
enum chv_err chv_server_tickets_init(struct chv_worker *worker) CHV_MUST_CHECK;
/* Its handle; the keys go by chv_tickets_free once the loop has run. */
void chv_server_tickets_close(struct chv_worker *worker);
/* A keeper has come, or the configuration is another: asks for keys. Accepts afterwards, if that has not begun. */
void chv_server_tickets_renew(struct chv_worker *worker);
/* Of a data side without a keeper: these keys, in place of all that it had. */
void chv_server_tickets_set(struct chv_worker *worker, const struct chv_ticket_keys *keys);
/* The session's question CHV_KEY_TICKET. */
void chv_server_ticket(struct chv_server_conn *c, const struct chv_key_request *request);
/* The same once the registry has said whose key it is; c->denied if nobody's that may come in. */
void chv_server_ticket_known(struct chv_server_conn *c);
/* Its service is open: TICKET records, as many as OPEN has asked for. */
void chv_server_tickets_give(struct chv_server_conn *c);

/* server_redirect.c */
/* It waits, and may come in by the handshake port: key update if one is due, tickets, REDIRECT, and the end. */
void chv_server_redirect(struct chv_server_conn *c);
/* A data ticket was opened: its rights are kept; `registered`: they came from the registry. CHV_ERR_MEMORY. */
enum chv_err chv_server_granted(struct chv_server_conn *c, const struct chv_ticket *ticket,
                                bool registered) CHV_MUST_CHECK;
/* " on port D (came by port H, lineage X)" of a data port, else "". */
enum { CHV_SERVER_PORT_TEXT = 128 };
void chv_server_port_text(const struct chv_server_conn *c, char out[CHV_SERVER_PORT_TEXT]);

/* server_registry.c */
void chv_server_registry_init(struct chv_worker *worker);
void chv_server_registry_close(struct chv_worker *worker);
/* Profile key: answers the session's question whose this key is, or its ticket's, now or later. */
void chv_server_registry_peer(struct chv_server_conn *c, const struct chv_identity *identity);
/* Asks for the rights of one that waits. CHV_ERR_UNAVAILABLE, CHV_ERR_BUSY, CHV_ERR_MEMORY. */
enum chv_err chv_server_registry_ask(struct chv_server_conn *c) CHV_MUST_CHECK;
/* It is to be found by its id from now on. */
void chv_server_registry_index(struct chv_server_conn *c);
/* The connection of this client with that number, NULL: it is no more. */
struct chv_server_conn *chv_server_registry_find(struct chv_worker *worker, const char *id, uint64_t number);
/* It waits for no answer any more. */
void chv_server_registry_cancel(struct chv_server_conn *c);
/* It is over. */
void chv_server_registry_forget(struct chv_server_conn *c);

/* server_tunnel.c */
void chv_server_tunnel_init(struct chv_worker *worker);

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
