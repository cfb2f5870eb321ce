/* SPDX-License-Identifier: Apache-2.0 */
/* What the net process has for the service `tunnel`, on the connection's loop. */
#ifndef CHV_NET_SERVER_TUNNEL_H
#define CHV_NET_SERVER_TUNNEL_H

#include "net/clients.h"
#include "net/conn.h"
#include "net/connector_client.h"

/* The tunnel of that name, as it is configured now; NULL: none. Holds until the loop's next event: copy what is to stay. */
const struct chv_server_tunnel *chv_server_tunnel_find(const struct chv_conn *conn, const char *name);
/* The loop's connector; of a server's connection. */
struct chv_connector_client *chv_server_connector(const struct chv_conn *conn);
/*
 * Counts one connection more of client `id` through `tunnel`, in all loops together, to be given back with *entry.
 * CHV_ERR_BUSY: it has as many as the tunnel allows.
 */
enum chv_err chv_server_tunnel_take(const struct chv_conn *conn, const struct chv_server_tunnel *tunnel, const char *id,
                                    struct chv_clients_entry **entry) CHV_MUST_CHECK;
/* NULL is allowed. */
void chv_server_tunnel_give(const struct chv_conn *conn, struct chv_clients_entry *entry);

#endif
