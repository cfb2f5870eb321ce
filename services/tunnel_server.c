/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/tunnel.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/control.h"
#include "net/log.h"
#include "net/server_tunnel.h"
#include "services/tunnel_pipe.h"

struct tunnel {
    struct chv_connector_ask ask; /* first; while there is no pipe */
    struct chv_conn *conn;
    const char *id;
    struct chv_clients_entry *counted;
    struct chv_tunnel_pipe *pipe; /* NULL: not connected yet */
    uint64_t since;               /* ms of the loop */
    unsigned idle_seconds;
    bool closing; /* the client has sent CLOSE */
    char name[CHV_TUNNEL_NAME_MAX + 1];
    char target[]; /* for the log only */
};

static void say(const struct tunnel *t, const char *format, ...) CHV_PRINTF(2, 3);

static void say(const struct tunnel *t, const char *format, ...)
{
    char text[CHV_TUNNEL_TARGET_LEN + 200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    chv_log(CHV_LOG_INFO, "conn %" PRIu64 ": %s: client '%s': tunnel '%s': %s", chv_conn_id(t->conn),
            chv_conn_peer(t->conn), t->id, t->name, text);
}

/* --- OPEN --------------------------------------------------------------------------------------------------------- */

/* STATUS for the client, and the end. */
static enum chv_err refuse(struct chv_conn *conn, unsigned code, const char *format, ...) CHV_PRINTF(3, 4);

static enum chv_err refuse(struct chv_conn *conn, unsigned code, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    chv_conn_explain(conn, "%s", text);
    enum chv_err err = chv_service_status(conn, code, "%s", text);
    return err == CHV_OK ? CHV_ERR_REFUSED : err;
}

_Static_assert((int)CHV_OPEN_TUNNEL_MAX == (int)CHV_TUNNEL_NAME_MAX, "whatever OPEN names can be a tunnel");

/* Of the name that OPEN has; NULL, and why in *err, also if the client may not know whether it exists. */
static const struct chv_server_tunnel *find(struct chv_conn *conn, const struct chv_credential *client,
                                            const char *name, enum chv_err *err)
{
    char scope[sizeof "tunnel:" + CHV_OPEN_TUNNEL_MAX];
    const struct chv_server_tunnel *found = NULL;
    (void)snprintf(scope, sizeof scope, "tunnel:%s", name);
    if (name[0] == '\0') {
        *err = refuse(conn, 400, "OPEN names no tunnel");
    } else if (!chv_credential_has_scope(client, scope)) {
        *err = refuse(conn, 403, "there is no scope '%s' for this client", scope);
    } else {
        found = chv_server_tunnel_find(conn, name);
        if (found == NULL)
            *err = refuse(conn, 404, "there is no tunnel '%s' here", name);
    }
    return found;
}

static void forget(struct tunnel *t)
{
    chv_connector_client_cancel(chv_server_connector(t->conn), &t->ask);
    chv_server_tunnel_give(t->conn, t->counted);
    free(t);
}

static void on_connected(struct chv_connector_ask *ask, enum chv_connector_status status, int fd, const char *text);

static enum chv_err ask(struct tunnel *t, const struct chv_server_tunnel *tunnel)
{
    enum chv_err err = chv_server_tunnel_take(t->conn, tunnel, t->id, &t->counted);
    if (err == CHV_ERR_BUSY)
        return refuse(t->conn, 429, "this client has %u connections through tunnel '%s' already: no more are allowed",
                      tunnel->connections, tunnel->name);
    if (err != CHV_OK)
        return err;
    err = chv_connector_client_ask(chv_server_connector(t->conn), &t->ask, tunnel, on_connected);
    return err == CHV_OK ? err
                         : refuse(t->conn, 503, "too many connections of tunnels are being made: try again later");
}

static enum chv_err tunnel_open(struct chv_conn *conn, const struct chv_credential *client, const uint8_t *map,
                                size_t len, void **state)
{
    struct chv_open open;
    enum chv_err err = chv_open_decode(map, len, &open);
    if (err != CHV_OK)
        return err;
    const struct chv_server_tunnel *tunnel = find(conn, client, open.tunnel, &err);
    if (tunnel == NULL)
        return err;
    const size_t target_size = strlen(tunnel->target) + 1;
    struct tunnel *t = calloc(1, sizeof *t + target_size);
    if (t == NULL)
        return CHV_ERR_MEMORY;
    t->conn = conn;
    t->id = client->id;
    t->idle_seconds = tunnel->idle_seconds;
    t->since = uv_now(&chv_conn_loop(conn)->uv);
    memcpy(t->name, tunnel->name, sizeof t->name);
    memcpy(t->target, tunnel->target, target_size);
    err = ask(t, tunnel);
    if (err != CHV_OK) {
        forget(t);
        return err;
    }
    *state = t;
    return CHV_OK;
}

/* --- connected, or not -------------------------------------------------------------------------------------------- */

/* What the log knows of the target is not for the client. */
static void not_connected(struct tunnel *t, enum chv_connector_status status, const char *text)
{
    static const struct {
        enum chv_connector_status status;
        const char *text;
    } reasons[] = {
        {CHV_CONNECTOR_NO_TUNNEL, "there is none here any more"},
        {CHV_CONNECTOR_FAILED, "its target cannot be reached"},
        {CHV_CONNECTOR_TIMEOUT, "its target did not answer in time"},
    };
    const char *reason = "the server cannot make connections now: try again later";
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            reason = reasons[i].text;
    chv_conn_explain(t->conn, "tunnel '%s': %s", t->name, text);
    enum chv_err err = refuse(t->conn, (unsigned)status, "tunnel '%s': %s", t->name, reason);
    chv_conn_end(t->conn, err);
}

static void on_finished(void *owner)
{
    struct tunnel *t = owner;
    if (t->closing)
        chv_conn_shutdown(t->conn);
}

static void on_idle(void *owner)
{
    struct tunnel *t = owner;
    enum chv_err err = chv_service_status(t->conn, 408, "tunnel '%s': no byte in %u s", t->name, t->idle_seconds);
    (void)err; /* a courtesy: it ends either way */
}

static enum chv_err start(struct tunnel *t, int fd)
{
    const struct chv_tunnel_pipe_config config = {
        .read_fd = fd, .write_fd = fd, .idle_seconds = t->idle_seconds, .finished = on_finished, .idle = on_idle};
    struct chv_why why = {""};
    enum chv_err err = chv_tunnel_pipe_start(t->conn, &config, t, &t->pipe, &why);
    if (err != CHV_OK) {
        chv_conn_explain(t->conn, "%s", why.text);
        return err;
    }
    return chv_service_status(t->conn, 200, "tunnel '%s'", t->name);
}

static void on_connected(struct chv_connector_ask *ask, enum chv_connector_status status, int fd, const char *text)
{
    struct tunnel *t = (struct tunnel *)(void *)ask;
    struct chv_conn *conn = t->conn;
    if (fd < 0) {
        not_connected(t, status, text);
        return;
    }
    chv_conn_cork(conn); /* what follows STATUS leaves with it */
    enum chv_err err = start(t, fd);
    if (err == CHV_OK) {
        say(t, "connected to %s", t->target);
        chv_service_ready(conn);
    } else {
        chv_conn_end(conn, err);
    }
    chv_conn_uncork(conn);
}

/* --- the stream --------------------------------------------------------------------------------------------------- */

static enum chv_err tunnel_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct tunnel *t = state;
    (void)conn;
    return t->pipe != NULL ? chv_tunnel_pipe_record(t->pipe, type, body, len) : CHV_ERR_PROTOCOL;
}

static void tunnel_batch(struct chv_conn *conn, void *state)
{
    struct tunnel *t = state;
    (void)conn;
    if (t->pipe != NULL)
        chv_tunnel_pipe_batch(t->pipe);
}

static void tunnel_drained(struct chv_conn *conn, void *state)
{
    struct tunnel *t = state;
    (void)conn;
    if (t->pipe != NULL)
        chv_tunnel_pipe_drained(t->pipe);
}

/* The server's end waits for streams that are there, not for those that are to be. */
static bool server_ends(struct tunnel *t)
{
    if (t->pipe != NULL)
        return true;
    enum chv_err err = refuse(t->conn, 503, "the server ends");
    chv_conn_end(t->conn, err);
    return true;
}

static bool tunnel_closing(struct chv_conn *conn, void *state, bool ends)
{
    struct tunnel *t = state;
    if (ends)
        return server_ends(t);
    if (t->pipe == NULL || !chv_tunnel_pipe_ended(t->pipe)) {
        chv_conn_explain(conn, "closed in the middle of the stream");
        chv_conn_end(conn, CHV_ERR_TRUNCATED);
        return true;
    }
    t->closing = true; /* CLOSE tells the client that its target has it all */
    return !chv_tunnel_pipe_finished(t->pipe);
}

static void tunnel_closed(struct chv_conn *conn, void *state)
{
    struct tunnel *t = state;
    uint64_t in, out;
    if (t->pipe != NULL) {
        const uint64_t ms = uv_now(&chv_conn_loop(conn)->uv) - t->since;
        chv_tunnel_pipe_counts(t->pipe, &in, &out);
        say(t, "%s after %" PRIu64 ".%03" PRIu64 " s, %" PRIu64 " bytes to %s, %" PRIu64 " bytes back",
            chv_tunnel_pipe_finished(t->pipe) ? "complete" : "cut", ms / 1000, ms % 1000, out, t->target, in);
        chv_tunnel_pipe_free(t->pipe);
    }
    forget(t);
}

const struct chv_service chv_service_tunnel = {
    .name = "tunnel",
    .late = true,
    .open = tunnel_open,
    .record = tunnel_record,
    .batch = tunnel_batch,
    .drained = tunnel_drained,
    .closing = tunnel_closing,
    .closed = tunnel_closed,
};
