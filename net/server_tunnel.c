/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/server_tunnel.h"

#include "net/ipc.h"
#include "net/server_internal.h"

#include <stdio.h>
#include <string.h>

const struct chv_server_tunnel *chv_server_tunnel_named(const struct chv_server_config *config, const char *name)
{
    for (size_t i = 0; i < config->tunnel_count; i++)
        if (strcmp(config->tunnels[i].name, name) == 0)
            return &config->tunnels[i];
    return NULL;
}

static struct chv_worker *worker_of(const struct chv_conn *conn)
{
    const struct chv_server_conn *c = chv_conn_owner(conn);
    return c->worker;
}

const struct chv_server_tunnel *chv_server_tunnel_find(const struct chv_conn *conn, const char *name)
{
    return chv_server_tunnel_named(&worker_of(conn)->config, name);
}

struct chv_connector_client *chv_server_connector(const struct chv_conn *conn)
{
    return &worker_of(conn)->connector;
}

enum chv_err chv_server_tunnel_take(const struct chv_conn *conn, const struct chv_server_tunnel *tunnel, const char *id,
                                    struct chv_clients_entry **entry)
{
    char key[CHV_TUNNEL_NAME_MAX + CHV_CLIENT_ID_MAX + 2]; /* neither has a slash in it */
    (void)snprintf(key, sizeof key, "%s/%s", tunnel->name, id);
    return chv_clients_take(&worker_of(conn)->server->tunnels, key, tunnel->connections, entry);
}

void chv_server_tunnel_give(const struct chv_conn *conn, struct chv_clients_entry *entry)
{
    if (entry != NULL)
        chv_clients_give(&worker_of(conn)->server->tunnels, entry);
}

static enum chv_err tell_of_connector(struct chv_connector_client *client, enum chv_ipc_kind kind)
{
    struct chv_worker *w = (struct chv_worker *)(void *)((char *)client - offsetof(struct chv_worker, connector));
    const struct chv_ipc_message message = {.kind = kind, .generation = w->connector_generation};
    return chv_ipc_send(w->server->control_fd, &message, NULL, 0);
}

/* While the connector itself is gone the supervisor will know better. */
static void connector_lost(struct chv_connector_client *client)
{
    if (tell_of_connector(client, CHV_IPC_LOST) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the supervisor cannot be told that the connector's socket is lost: restart");
}

static void connector_silent(struct chv_connector_client *client)
{
    enum chv_err err = tell_of_connector(client, CHV_IPC_SILENT);
    (void)err; /* it is told again */
}

void chv_server_tunnel_init(struct chv_worker *worker)
{
    static const struct chv_connector_events events = {.lost = connector_lost, .silent = connector_silent};
    chv_connector_client_init(&worker->connector, &worker->loop.uv, &events);
}
