/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an address to an open service: with a ticket where there is one, by a full handshake where the ticket is not taken,
 * and on to a data side where the server says so (doc/protocol.md, section 7).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "services/message_internal.h"

/* A ticket says nothing without the server's name: in profile key it may be unknown. */
static bool has_store(const struct chv_message *m)
{
    return m->key->tickets != NULL && m->key->server[0] != '\0';
}

static struct chv_session *session_of(struct chv_message *m)
{
    return chv_conn_session(m->conn);
}

/* Has the server proven that it is the one?  Before that, whatever comes may be a stranger's. */
static bool proven(struct chv_message *m)
{
    struct chv_session_info info = {.h_fin = NULL};
    return chv_session_get_info(session_of(m), &info) == CHV_OK && info.h_fin != NULL;
}

/* --- the connection's events ---------------------------------------------------------------------------------------
 */

static void on_established(struct chv_conn *conn)
{
    struct chv_message *m = chv_conn_owner(conn);
    struct chv_open open = {.service = "message"};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    if (m->on->service != NULL)
        (void)snprintf(open.service, sizeof open.service, "%s", m->on->service);
    if (m->on->tunnel != NULL)
        (void)snprintf(open.tunnel, sizeof open.tunnel, "%s", m->on->tunnel);
    if (has_store(m) && !m->data_side)
        open.tickets = chv_ticket_store_lacks(m->key->tickets, chv_ticket_now());
    m->asked = open.tickets;
    m->tickets = 0;
    enum chv_err err = chv_open_instance(&open);
    if (err == CHV_OK)
        err = chv_open_encode(&open, map, &len);
    if (err == CHV_OK)
        err = chv_conn_send(conn, CHV_RECORD_OPEN, map, len);
    if (err != CHV_OK)
        chv_conn_abort(conn, err);
}

static void on_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    struct chv_message *m = chv_conn_owner(conn);
    chv_client_key_answer(m->key, conn, request);
}

/* NULL: a connection that was left for a data side; it ends by itself. */
static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct chv_message *m = chv_conn_owner(conn);
    return m != NULL ? chv_message_record(m, type, body, len) : CHV_OK;
}

static void on_batch(struct chv_conn *conn)
{
    struct chv_message *m = chv_conn_owner(conn);
    if (m != NULL && m->on->batch != NULL && m->ready)
        m->on->batch(m);
}

static void on_drained(struct chv_conn *conn)
{
    struct chv_message *m = chv_conn_owner(conn);
    if (m == NULL)
        return;
    if (m->on->service != NULL)
        m->on->drained(m);
    else if (m->read != NULL && !m->waiting)
        chv_message_send_on(m);
}

static bool start_again(struct chv_message *m, enum chv_err err);

/* What went wrong at a data side, by both ports. */
static void explain_data_side(struct chv_message *m, enum chv_err err, const char *text, struct chv_why *out)
{
    const char *what = "did not answer: ";
    if (err == CHV_ERR_AUTH) {
        what = "cannot prove that it belongs to that server";
        text = "";
    } else if (err == CHV_ERR_REFUSED) {
        what = "did not let the client in: ";
    }
    (void)chv_fail(out, err, "the server at %s redirected to port %u, which %s%s", m->address, (unsigned)m->port, what,
                   text);
}

static void finish(struct chv_message *m, enum chv_err err, const char *text)
{
    struct chv_why why = {""};
    if (err != CHV_OK && text[0] == '\0')
        text = chv_err_text(err);
    if (err != CHV_OK && m->data_side && !m->closing && !m->aborted && !proven(m)) {
        explain_data_side(m, err, text, &why);
        text = why.text;
    }
    chv_message_forget_source(m);
    m->on->closed(m, err, text);
    free(m->address);
    free(m);
}

static void on_closed(struct chv_conn *conn, enum chv_err err)
{
    struct chv_message *m = chv_conn_owner(conn);
    if (m == NULL || start_again(m, err))
        return;
    if (err == CHV_OK && !m->closing)
        err = CHV_ERR_UNAVAILABLE;
    finish(m, err, err == CHV_OK ? "" : chv_conn_why(conn));
}

static const struct chv_conn_events conn_events = {
    .key = on_key,
    .established = on_established,
    .record = on_record,
    .batch = on_batch,
    .drained = on_drained,
    .closed = on_closed,
};

/* --- connections ---------------------------------------------------------------------------------------------------
 */

/* `use` NULL: a full handshake. On failure m->conn is as before. */
static enum chv_err start(struct chv_message *m, const char *address, const struct chv_ticket_use *use,
                          struct chv_why *why)
{
    struct chv_session_config config;
    chv_client_key_config(m->key, &config);
    if (use != NULL) {
        config.ticket = use->ticket;
        config.ticket_len = use->ticket_len;
        config.resumption = use->secret;
        config.server = m->key->server;
    }
    return chv_conn_connect(m->loop, address, &config, &conn_events, m, &m->conn, why);
}

/*
 * A ticket that is not taken, or that the server cannot prove to know, is followed by one full handshake: m->resumed is
 * only ever set by chv_message_connect, so whoever forges refusals gets no second one. A loop that is being closed
 * takes no new connection.
 */
static bool start_again(struct chv_message *m, enum chv_err err)
{
    const bool refused = err == CHV_ERR_REFUSED && chv_session_refusal(session_of(m)) == CHV_REFUSE_TICKET;
    if (!m->resumed || m->data_side || m->closing || m->aborted || proven(m) || (!refused && err != CHV_ERR_AUTH) ||
        uv_is_closing((uv_handle_t *)&m->loop->tick))
        return false;
    m->resumed = false;
    struct chv_why why = {""};
    err = start(m, m->address, NULL, &why);
    if (err != CHV_OK)
        finish(m, err, why.text);
    return true;
}

/* false: there is none. */
static bool take_ticket(struct chv_message *m, struct chv_ticket_use *use)
{
    if (!has_store(m) || chv_client_key_binding(m->key, &m->loop->crypto, m->binding) != CHV_OK)
        return false;
    chv_ticket_store_bind(m->key->tickets, m->binding);
    return chv_ticket_store_take(m->key->tickets, chv_ticket_now(), use);
}

enum chv_err chv_message_connect(struct chv_loop *loop, const char *address, struct chv_client_key *key,
                                 const struct chv_message_events *events, void *owner, struct chv_message **message,
                                 struct chv_why *why)
{
    struct chv_ticket_use use;
    struct chv_message *m = calloc(1, sizeof *m);
    char *copy = strdup(address != NULL ? address : key->address);
    if (m == NULL || copy == NULL) {
        free(m);
        free(copy);
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for a connection");
    }
    m->loop = loop;
    m->key = key;
    m->on = events;
    m->owner = owner;
    m->address = copy;
    m->resumed = take_ticket(m, &use);
    enum chv_err err = start(m, copy, m->resumed ? &use : NULL, why);
    chv_wipe(&use, sizeof use);
    if (err != CHV_OK) {
        free(copy);
        free(m);
        return err;
    }
    *message = m;
    return CHV_OK;
}

/* --- TICKET and REDIRECT -------------------------------------------------------------------------------------------
 */

enum chv_err chv_message_got_ticket(struct chv_message *m, const uint8_t *body, size_t len)
{
    struct chv_grant grant;
    uint8_t secret[CHV_KEY_LEN];
    if (m->tickets >= m->asked) {
        chv_conn_explain(m->conn, "the server sent a ticket that was not asked for");
        return CHV_ERR_PROTOCOL;
    }
    m->tickets++;
    enum chv_err err = chv_grant_decode(body, len, &grant);
    if (err != CHV_OK || grant.port != 0) {
        chv_conn_explain(m->conn, "the server sent a malformed TICKET");
        return CHV_ERR_PROTOCOL;
    }
    err = chv_session_resumption(session_of(m), grant.number, secret);
    if (err == CHV_OK)
        chv_ticket_store_add(m->key->tickets, m->binding, chv_ticket_now(), &grant, secret);
    chv_wipe(secret, sizeof secret);
    return err;
}

/* Whether `host` is one of "HOST, HOST". */
static bool is_listed(const char *list, const char *host)
{
    static const char between[] = ", \t";
    const size_t len = strlen(host);
    while (list != NULL && *list != '\0') {
        list += strspn(list, between);
        const size_t n = strcspn(list, between);
        if (n == len && n > 0 && strncasecmp(list, host, n) == 0)
            return true;
        list += n;
    }
    return false;
}

/* The address that a REDIRECT leads to. */
static enum chv_err find_data_side(struct chv_message *m, const struct chv_grant *grant, char *out, size_t size)
{
    const unsigned port = grant->port;
    if (grant->host[0] != '\0' && !is_listed(m->key->redirect_hosts, grant->host)) {
        chv_conn_explain(m->conn,
                         "the server at %s redirected to another host, %s, port %u: not followed; if that is right, "
                         "'redirect-hosts = %s' in the configuration file allows it",
                         m->address, grant->host, port, grant->host);
        return CHV_ERR_PROTOCOL;
    }
    if (strncmp(m->address, "unix:", 5) == 0) {
        chv_conn_explain(m->conn, "the server at %s redirected to port %u: there are no ports behind a unix socket",
                         m->address, port);
        return CHV_ERR_PROTOCOL;
    }
    if (grant->host[0] == '\0') {
        enum chv_err err = chv_conn_same_host(m->conn, grant->port, out, size);
        if (err != CHV_OK)
            chv_conn_explain(m->conn, "the server at %s redirected to port %u: cannot tell its host's address",
                             m->address, port);
        return err;
    }
    int n = snprintf(out, size, strchr(grant->host, ':') != NULL ? "[%s]:%u" : "%s:%u", grant->host, port);
    return n > 0 && (size_t)n < size ? CHV_OK : CHV_ERR_SPACE;
}

static enum chv_err follow(struct chv_message *m, const struct chv_grant *grant, const char *address)
{
    struct chv_conn *first = m->conn;
    struct chv_why why = {""};
    struct chv_ticket_use use = {.ticket_len = grant->ticket_len};
    memcpy(use.ticket, grant->ticket, grant->ticket_len);
    enum chv_err err = chv_session_resumption(session_of(m), grant->number, use.secret);
    if (err == CHV_OK)
        err = start(m, address, &use, &why);
    chv_wipe(&use, sizeof use);
    if (err != CHV_OK) {
        chv_conn_explain(first, "the server at %s redirected to port %u: %s", m->address, (unsigned)grant->port,
                         why.text[0] != '\0' ? why.text : chv_err_text(err));
        return err;
    }
    m->data_side = true;
    m->port = grant->port;
    chv_conn_set_owner(first, NULL);
    chv_conn_shutdown(first);
    return CHV_OK;
}

enum chv_err chv_message_got_redirect(struct chv_message *m, const uint8_t *body, size_t len)
{
    char address[CHV_GRANT_HOST_MAX + 16];
    struct chv_grant grant;
    if (m->data_side) {
        chv_conn_explain(m->conn, "the server at %s redirected to port %u, which redirected again: not followed",
                         m->address, (unsigned)m->port);
        return CHV_ERR_PROTOCOL;
    }
    if (m->closing)
        return CHV_OK; /* its owner has gone */
    enum chv_err err = chv_grant_decode(body, len, &grant);
    if (err != CHV_OK || grant.port == 0) {
        chv_conn_explain(m->conn, "the server at %s sent a malformed REDIRECT", m->address);
        return CHV_ERR_PROTOCOL;
    }
    if (m->key->server[0] == '\0') {
        chv_conn_explain(m->conn,
                         "the server at %s redirected to port %u, and without its name that cannot be followed: "
                         "'server-name' in the configuration file gives it",
                         m->address, (unsigned)grant.port);
        return CHV_ERR_UNSUPPORTED;
    }
    err = find_data_side(m, &grant, address, sizeof address);
    return err == CHV_OK ? follow(m, &grant, address) : err;
}

bool chv_message_unproven(struct chv_message *message, enum chv_err err)
{
    return err == CHV_ERR_AUTH && !message->data_side && !proven(message);
}

unsigned chv_message_refusal(struct chv_message *message)
{
    const unsigned code = chv_session_refusal(session_of(message));
    return code == CHV_REFUSE_TICKET && message->data_side ? CHV_REFUSE_UNAVAILABLE : code;
}

bool chv_message_resumed(const struct chv_message *message)
{
    return message->resumed;
}

uint16_t chv_message_redirected(const struct chv_message *message)
{
    return message->port;
}
