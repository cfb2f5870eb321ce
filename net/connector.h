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

enum chv_connector_status {
    CHV_CONNECTOR_OK = 200,          /* and a connected, non-blocking stream socket */
    CHV_CONNECTOR_NO_TUNNEL = 404,   /* the connector's configuration has none of this name */
    CHV_CONNECTOR_FAILED = 502,      /* no such host, connection refused, ... */
    CHV_CONNECTOR_UNAVAILABLE = 503, /* there is no connector, or it has no room */
    CHV_CONNECTOR_TIMEOUT = 504      /* nobody answered within the tunnel's connect-timeout */
};

enum { CHV_CONNECTOR_TEXT_MAX = 200 };

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

#endif
