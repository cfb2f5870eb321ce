/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service `tunnel`: one TCP (or unix socket) connection through the channel. OPEN's `tunnel` names where to; STATUS 200
 * comes when the target is connected, and from then on DATA and END carry the bytes (services/tunnel_pipe.h). The client
 * sends CLOSE when both directions have ended.
 *
 * 400: OPEN names no tunnel. 403: no scope tunnel:NAME, whether there is such a tunnel or not. 404: there is none. 408: no
 * byte within the tunnel's limit. 429: the client has as many connections through it as it may. 502, 504: the target
 * cannot be reached, or not in time. 503: the server cannot make connections now, or ends.
 */
#ifndef CHV_SERVICES_TUNNEL_H
#define CHV_SERVICES_TUNNEL_H

#include "net/service.h"

/* Server side. */
extern const struct chv_service chv_service_tunnel;

#endif
