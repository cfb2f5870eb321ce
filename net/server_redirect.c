/* SPDX-License-Identifier: Apache-2.0 */
/* Two ports (doc/architecture.md): who is let in on a handshake port is sent on to a data port, with a ticket for that. */
#include "config.h"

#include "base/encode.h"
#include "net/control.h"
#include "net/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A REDIRECT's ticket has this number, plus the port of the handshake: the data side's log knows it by that. */
enum { REDIRECT_NUMBER = 0x10000 };

struct target {
    const char *host; /* "": the same */
    uint16_t port;
};

/* In turn: the own data ports that it can reach, then those elsewhere. */
static bool find_target(const struct chv_server_conn *c, struct target *target)
{
    struct chv_server *server = c->worker->server;
    const struct chv_server_config *config = &c->worker->config;
    const unsigned own = (unsigned)__builtin_popcount(c->reachable);
    const unsigned count = own + (unsigned)config->redirect_count;
    if (count == 0)
        return false;
    unsigned turn = atomic_fetch_add(&server->turn, 1) % count;
    if (turn >= own) {
        const struct chv_server_redirect *r = &config->redirect[turn - own];
        *target = (struct target){.host = r->host, .port = r->port};
        return true;
    }
    size_t i = 0;
    while ((c->reachable >> i & 1) == 0 || turn-- > 0)
        i++;
    *target = (struct target){.host = "", .port = server->listeners->list[i].port};
    return true;
}

static void lineage_of(const struct chv_server_conn *c, char out[CHV_HEX_SIZE(CHV_LINEAGE_LEN)])
{
    struct chv_session_info info;
    out[0] = '\0';
    if (chv_session_get_info(chv_conn_session(c->conn), &info) == CHV_OK && info.lineage != NULL)
        chv_hex_encode(info.lineage, CHV_LINEAGE_LEN, out);
}

static enum chv_err grant(struct chv_server_conn *c, const struct target *target)
{
    struct chv_grant map;
    uint8_t body[CHV_CONTROL_MAX];
    size_t len = sizeof body;
    const struct chv_tickets_wish wish = {.now = chv_clock_time(),
                                          .auth_time = c->auth_time,
                                          .lifetime = CHV_TICKET_DATA_LIFE,
                                          .number = REDIRECT_NUMBER + c->listener->port,
                                          .rights = c->client};
    memset(&map, 0, sizeof map);
    map.port = target->port;
    snprintf(map.host, sizeof map.host, "%s", target->host);
    enum chv_err err = chv_tickets_mint(&c->worker->tickets, CHV_TICKET_DATA, chv_conn_session(c->conn), &wish, &map);
    if (err == CHV_OK)
        err = chv_grant_encode(&map, body, &len);
    return err == CHV_OK ? chv_conn_send(c->conn, CHV_RECORD_REDIRECT, body, len) : err;
}

static void redirect(struct chv_server_conn *c)
{
    struct target target;
    char lineage[CHV_HEX_SIZE(CHV_LINEAGE_LEN)];
    if (!find_target(c, &target)) {
        chv_server_cut(c, 503, "there is no data port at the address by which this client came");
        return;
    }
    chv_conn_cork(c->conn);
    chv_server_tickets_give(c);
    const enum chv_err err = grant(c, &target);
    if (err == CHV_OK) {
        lineage_of(c, lineage);
        chv_server_say(c, CHV_LOG_INFO, "redirected to %s%sport %u (came by port %u, lineage %s)", target.host,
                       target.host[0] != '\0' ? " " : "", target.port, c->listener->port, lineage);
        c->stage = CHV_STAGE_REDIRECTED;
        free(c->opening);
        c->opening = NULL;
        chv_clients_give(&c->worker->server->clients, c->counted); /* its data session counts */
        c->counted = NULL;
        chv_conn_shutdown(c->conn);
        chv_conn_unpause(c->conn);
    } else if (err == CHV_ERR_SPACE) {
        chv_server_cut(c, 500, "this client's rights do not fit into a ticket for the data port");
    } else {
        chv_server_cut(c, 503, "the server has no keys for tickets to its data port now: try again later");
    }
    chv_conn_uncork(c->conn);
}

/* The keeper has made the next key, or has not: it is on its way, and the client goes on. */
static void on_update(struct chv_conn *conn)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    if (c->stage == CHV_STAGE_WAITING)
        redirect(c);
}

void chv_server_redirect(struct chv_server_conn *c)
{
    if (!chv_server_offer_update(c, on_update))
        redirect(c);
}

/* --- the data port ------------------------------------------------------------------------------------------------- */

static enum chv_err copy_rights(const struct chv_credential *rights, struct chv_credential **out)
{
    const size_t size = offsetof(struct chv_credential, scopes) + rights->scope_count * sizeof rights->scopes[0];
    free(*out);
    *out = malloc(size);
    if (*out == NULL)
        return CHV_ERR_MEMORY;
    memcpy(*out, rights, size);
    return CHV_OK;
}

enum chv_err chv_server_granted(struct chv_server_conn *c, const struct chv_ticket *ticket, bool registered)
{
    enum chv_err err = copy_rights(&ticket->rights, &c->granted);
    if (err == CHV_OK && registered)
        err = copy_rights(&ticket->rights, &c->registered);
    c->came_by = ticket->number / REDIRECT_NUMBER == 1 ? (uint16_t)(ticket->number % REDIRECT_NUMBER) : 0;
    return err;
}

void chv_server_port_text(const struct chv_server_conn *c, char out[CHV_SERVER_PORT_TEXT])
{
    char lineage[CHV_HEX_SIZE(CHV_LINEAGE_LEN)], by[32] = "";
    out[0] = '\0';
    if (c->listener->kind != CHV_PORT_DATA)
        return;
    lineage_of(c, lineage);
    if (c->came_by != 0)
        snprintf(by, sizeof by, "came by port %u, ", c->came_by);
    snprintf(out, CHV_SERVER_PORT_TEXT, " on port %u (%slineage %s)", c->listener->port, by, lineage);
}
