/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where clients come in. The supervisor binds, and keeps the sockets: a net process that is started again finds the
 * same ones, and clients wait meanwhile. The net process accepts.
 */
#ifndef CHV_NET_LISTENER_H
#define CHV_NET_LISTENER_H

#include "net/server.h"

#include <sys/socket.h>
#include <sys/types.h>

enum { CHV_LISTENERS_MAX = 32 };

struct chv_listener {
    char text[CHV_LISTEN_LEN]; /* "127.0.0.1:43211", "unix:/PATH" */
    enum chv_port kind;
    uint16_t port;                   /* TCP: as bound */
    struct sockaddr_storage address; /* TCP: likewise */
    bool local;                      /* a unix socket */
    dev_t device;                    /* of its file, so that nobody else's is removed */
    ino_t inode;
    size_t fd_count; /* TCP: one per loop (SO_REUSEPORT), unix: one for all */
    int fds[CHV_WORKERS_MAX];
};

struct chv_listeners {
    size_t count;
    struct chv_listener list[CHV_LISTENERS_MAX];
};
_Static_assert(CHV_LISTENERS_MAX <= 32, "chv_listeners_reachable has a bit for each");

/*
 * Binds and listens on every address of the configuration. Port 0: the kernel picks one, for all loops the same. The
 * socket file of a server that is gone is replaced; one that answers is CHV_ERR_BUSY, as is a port in use. Resolves
 * names (may block).
 */
enum chv_err chv_listeners_open(struct chv_listeners *listeners, const struct chv_server_config *config,
                                unsigned workers, struct chv_why *why) CHV_MUST_CHECK;
/*
 * The data ports, a bit for each listener, that the client of the connected socket `fd` can be sent on to: those at the
 * address by which it came, else all of its address family.
 */
uint32_t chv_listeners_reachable(const struct chv_listeners *listeners, int fd);
/*
 * From now on connecting is refused, whichever process or loop still has a descriptor; clients that wait to be accepted
 * are let go.
 */
void chv_listeners_stop(const struct chv_listeners *listeners);
/* `remove`: also the socket files. */
void chv_listeners_close(struct chv_listeners *listeners, bool remove);

/* Takes connections of one listening socket on one loop. */
struct chv_acceptor {
    uv_poll_t poll;
    uv_timer_t pause; /* no descriptors left: wait for some */
    int fd;
    const struct chv_listener *listener; /* the caller's, for `accepted` */
    void *owner;
    /* A connected, non-blocking socket, the callee's from now on. */
    void (*accepted)(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer);
};

/* `fd` becomes the acceptor's, also on failure: it is closed. chv_acceptor_stop may be called in any case. */
enum chv_err chv_acceptor_start(struct chv_acceptor *acceptor, uv_loop_t *loop, int fd, void *owner,
                                void (*accepted)(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer),
                                struct chv_why *why) CHV_MUST_CHECK;
/* Stops and closes the handles and this process's copy of the socket. The memory must stay until the loop has run. */
void chv_acceptor_stop(struct chv_acceptor *acceptor);

#endif
