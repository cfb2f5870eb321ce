/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connector: the process that makes the connections behind tunnels ([tunnel "NAME"]), for the net process may make
 * none. It is asked for a tunnel by its name and knows from its own configuration where that leads: a net process that
 * was broken into reaches the tunnels' targets and nothing else.
 *
 * Wire: a SOCK_SEQPACKET socket per loop of the net process, one question or answer a packet, answers in any order; with
 * CHV_CONNECTOR_OK comes the connected socket by SCM_RIGHTS (unix(7)). Both ends are the same program on the same machine:
 * host byte order.
 */
#ifndef CHV_NET_CONNECTOR_H
#define CHV_NET_CONNECTOR_H

#include "net/server.h"

#include <uv.h>

enum chv_connector_status {
    CHV_CONNECTOR_OK = 200,          /* and a connected, non-blocking stream socket */
    CHV_CONNECTOR_NO_TUNNEL = 404,   /* the connector's configuration has none of this name */
    CHV_CONNECTOR_FAILED = 502,      /* no such host, connection refused, ... */
    CHV_CONNECTOR_UNAVAILABLE = 503, /* there is no connector, or it has no room */
    CHV_CONNECTOR_TIMEOUT = 504      /* nobody answered within the tunnel's connect-timeout */
};

enum {
    CHV_CONNECTOR_TEXT_MAX = 200,
    CHV_CONNECTOR_OUTSTANDING = 64 /* questions of one loop; a power of two; all their answers fit a socket */
};

struct chv_connector_request {
    uint64_t tag;                         /* the asker's, comes back; not 0 */
    char tunnel[CHV_TUNNEL_NAME_MAX + 1]; /* zeros behind it */
    uint8_t zero[6];
};

struct chv_connector_answer {
    uint64_t tag;
    uint16_t status;                       /* enum chv_connector_status */
    char text[CHV_CONNECTOR_TEXT_MAX + 1]; /* why there is no socket, with the target: for the log only */
    uint8_t zero[5];
};

_Static_assert(sizeof(struct chv_connector_request) == 40, "request layout");
_Static_assert(sizeof(struct chv_connector_answer) == 216, "answer layout");

/* A tunnel's target: "HOST:PORT" (a port from 1), "[V6]:PORT" or "unix:/PATH". */
bool chv_connector_target_valid(const char *target);
/* Its name or address and its port; false of one that has none. */
enum { CHV_CONNECTOR_HOST_MAX = 255, CHV_CONNECTOR_PORT_MAX = 5 };
bool chv_connector_target_split(const char *target, char host[CHV_CONNECTOR_HOST_MAX + 1],
                                char port[CHV_CONNECTOR_PORT_MAX + 1]) CHV_MUST_CHECK;

/* What it resolves names with: uv_getaddrinfo, whose contract it has. */
typedef int (*chv_connector_resolve_fn)(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb resolved,
                                        const char *node, const char *service, const struct addrinfo *hints);

enum { CHV_CONNECTOR_FRESH_MS = 5000 /* a resolved name is not asked for again */ };

struct chv_connector;

/*
 * `resolve`: NULL for uv_getaddrinfo; `fresh_ms`: how long its answer holds. The loop must outlive it; its handles keep the
 * loop alive.
 */
enum chv_err chv_connector_new(uv_loop_t *loop, chv_connector_resolve_fn resolve, uint64_t fresh_ms,
                               struct chv_connector **connector) CHV_MUST_CHECK;
/* The tunnels from now on (copied); connections that are being made are not touched. */
void chv_connector_configure(struct chv_connector *connector, const struct chv_server_config *config);
/* The net process's loops, in place of all earlier ones, whose questions are forgotten. The sockets become its own. */
void chv_connector_serve(struct chv_connector *connector, const int *fds, size_t count);
/* Ends all; the loop must run on until it has nothing left to do. NULL is allowed. */
void chv_connector_close(struct chv_connector *connector);

/*
 * The connector process, from after the fork to its end: drops user and rights, says CHV_IPC_READY on `control` and serves
 * until the supervisor's end closes. Returns the exit code.
 */
int chv_connector_main(const struct chv_server_config *config, int control);

#endif
