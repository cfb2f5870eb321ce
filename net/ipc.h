/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor and its processes say to each other over SOCK_SEQPACKET: small messages, some with
 * descriptors. */
#ifndef CHV_NET_IPC_H
#define CHV_NET_IPC_H

#include "net/server.h"
#include "net/ticket_keys.h"

enum chv_ipc_kind {
    CHV_IPC_READY = 1, /* child -> supervisor: it serves */
    CHV_IPC_SERVES, /* keeper -> supervisor, after each CHV_IPC_CONFIG, and with an identity key before READY: what is in effect */
    CHV_IPC_KEEPERS,    /* supervisor -> both: one socket end per loop, in loop order; replaces all earlier ones */
    CHV_IPC_REGISTRARS, /* the same for net and registrar */
    CHV_IPC_CONNECTORS, /* the same for net and connector */
    CHV_IPC_AUDIT,  /* supervisor -> keeper and registrar: an end of the socket between them; replaces the one before */
    CHV_IPC_CONFIG, /* supervisor -> all: take over what can change while running */
    CHV_IPC_ALLOWED,     /* supervisor -> net: the allow-list as a sealed memory file; without a descriptor: none */
    CHV_IPC_TICKET_KEYS, /* supervisor -> net: the keys of a data side; replace those before */
    CHV_IPC_LOST, /* net -> supervisor: a loop has lost its socket to the keeper or registrar, of this generation */
    CHV_IPC_SILENT, /* net -> supervisor: the keeper or registrar of this generation lets a loop wait long for an answer */
    CHV_IPC_PING, /* supervisor -> keeper, registrar: answer with CHV_IPC_PONG and this generation, between two packets */
    CHV_IPC_PONG,    /* keeper, registrar -> supervisor */
    CHV_IPC_ASKS,    /* keeper -> supervisor, before it serves: a person may be asked (generation 1), was asked (0) */
    CHV_IPC_REFUSED, /* keeper -> supervisor, while it serves: its PIN is refused (generation 1), taken again (0) */
    CHV_IPC_DRAIN    /* supervisor -> net: accept no more, let the clients go, exit */
};

struct chv_ipc_message {
    enum chv_ipc_kind kind;
    unsigned
        generation; /* KEEPERS, REGISTRARS, LOST, SILENT: counts the sets of sockets; PING, PONG: pings; CONFIG to the
                                        keeper: 0 if another keeper may be started for it; SERVES: 1 if it should */
    union {
        struct chv_ticket_keys keys; /* CHV_IPC_TICKET_KEYS: who sent or received it wipes it */
        /* CHV_IPC_CONFIG; of CHV_IPC_SERVES only epochs, update, max_lifetime and identity */
        struct chv_server_config config;
    };
};

/* Two ends, close-on-exec. */
enum chv_err chv_ipc_pair(int ends[2], struct chv_why *why) CHV_MUST_CHECK;
/* The descriptors stay the caller's. Does not block: CHV_ERR_BUSY if the other side does not read. */
enum chv_err chv_ipc_send(int fd, const struct chv_ipc_message *message, const int *fds,
                          size_t fd_count) CHV_MUST_CHECK;
/*
 * CHV_ERR_NOT_FOUND: nothing there now. CHV_ERR_TRUNCATED: the other side is gone. *fd_count: descriptors received, the
 * caller's to close; 0 on failure.
 */
enum chv_err chv_ipc_receive(int fd, struct chv_ipc_message *message, int fds[CHV_WORKERS_MAX],
                             size_t *fd_count) CHV_MUST_CHECK;

#endif
