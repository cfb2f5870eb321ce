/* SPDX-License-Identifier: Apache-2.0 */
/* One client connection of the server: refused early, or asked for, proven, told its rights and given to its service.
 */
#include "config.h"

#include "net/server_internal.h"
#include "net/source.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beyond the limit of connections so many more are still told so; the rest is closed silently. */
enum { REFUSED_AT_A_TIME = 64 };

/* "client 'cam1' " once proven, "claimed client 'cam1' " before, "" while nothing is known. */
static void who(const struct chv_server_conn *c, char *out, size_t size)
{
    struct chv_session_info info;
    struct chv_credential claimed;
    struct chv_identity identity;
    char fingerprint[CHV_FINGERPRINT_MAX];
    out[0] = '\0';
    if (c->client != NULL)
        snprintf(out, size, "client '%s': ", c->client->id);
    else if (c->conn != NULL && chv_session_get_info(chv_conn_session(c->conn), &info) == CHV_OK &&
             info.credential != NULL &&
             chv_credential_parse(info.credential, info.credential_len, &claimed, NULL) == CHV_OK)
        snprintf(out, size, "claimed client '%s': ", claimed.id);
    else if (c->conn != NULL && chv_server_identity_of(c->conn, &identity) &&
             chv_fingerprint(&c->worker->loop.crypto, &identity, fingerprint) == CHV_OK)
        snprintf(out, size, "key %s: ", fingerprint);
}

/* Strangers cannot fill the disk: beyond so many warnings a second the rest is counted, and said at level debug. */
static bool strangers_are_heard(struct chv_server *server)
{
    uint64_t second = uv_hrtime() / 1000000000;
    unsigned left = 0;
    pthread_mutex_lock(&server->rate_lock);
    if (second != server->warned_second) {
        left = server->warnings_left;
        server->warned_second = second;
        server->warnings = server->warnings_left = 0;
    }
    bool loud = server->warnings < CHV_SERVER_STRANGER_WARNINGS;
    if (loud)
        server->warnings++;
    else
        server->warnings_left++;
    pthread_mutex_unlock(&server->rate_lock);
    if (left > 0)
        chv_log(CHV_LOG_WARNING, "%u more refusals like these came in one second: level debug shows each", left);
    return loud;
}

void chv_server_say(const struct chv_server_conn *c, enum chv_log_level level, const char *format, ...)
{
    char text[700], name[CHV_CLIENT_ID_MAX + CHV_FINGERPRINT_MAX];
    va_list args;
    if (!chv_log_writes(level))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    who(c, name, sizeof name);
    if ((level == CHV_LOG_WARNING || level == CHV_LOG_INFO) && c->stage == CHV_STAGE_CLAIMED &&
        !strangers_are_heard(c->worker->server))
        level = CHV_LOG_DEBUG;
    chv_log(level, "conn %" PRIu64 ": %s: %s%s", chv_conn_id(c->conn), chv_conn_peer(c->conn), name, text);
}

void chv_server_proven(struct chv_server_conn *c)
{
    if (c->unproven != NULL)
        atomic_fetch_sub(c->unproven, 1);
    c->unproven = NULL;
}

/* Profile key: who is not in the list gets a clear 403 and the end, before anything is served. */
static void on_peer(struct chv_server_conn *c)
{
    struct chv_identity identity = {.curve = CHV_CURVE_25519};
    enum chv_err err;
    if (chv_server_identity_of(c->conn, &identity) && chv_allowlist_find(c->worker->allowed, &identity) != NULL) {
        err = chv_conn_key_answer(c->conn, NULL);
    } else if (chv_server_has_registry(&c->worker->config)) {
        chv_server_registry_peer(c, &identity);
        return;
    } else {
        c->refuse = CHV_REFUSE_UNKNOWN_KEY;
        c->reason = "this identity key is not in allowed-keys";
        err = chv_conn_key_refuse(c->conn, c->refuse);
    }
    (void)err; /* a session that fails on it ends the connection, which says so */
}

static void on_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    c->conn = conn; /* chv_conn_start may not have returned yet */
    if (c->refuse == 0 && request->kind == CHV_KEY_PEER) {
        on_peer(c);
        return;
    }
    if (c->refuse == 0 && request->kind == CHV_KEY_TICKET) {
        chv_server_ticket(c, request);
        return;
    }
    if (c->refuse != 0) {
        if (chv_conn_key_refuse(conn, c->refuse) != CHV_OK)
            chv_conn_abort(conn, CHV_ERR_STATE);
        return;
    }
    if (request->kind == CHV_KEY_PSK)
        chv_server_say(c, CHV_LOG_DEBUG, "asks for a session");
    chv_keeper_client_ask(&c->worker->keeper, &c->ask, conn, c->source);
}

void chv_server_verdict(struct chv_conn *conn, enum chv_keeper_verdict verdict)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    c->verdict = verdict;
    if (verdict == CHV_KEEPER_EPOCH)
        c->reason = "the credential's epoch is not served";
}

void chv_server_refused(struct chv_conn *conn, unsigned code, const char *reason)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    c->refuse = code;
    c->reason = reason;
}

static enum chv_err on_updated(struct chv_server_conn *c, size_t len)
{
    enum chv_err err = chv_server_update_stored(&c->update, len);
    if (err == CHV_OK)
        chv_server_say(c, CHV_LOG_INFO, "has stored its key of epoch %" PRIu32, c->update.epoch);
    else
        chv_conn_explain(c->conn, "KEY_UPDATED where none is due");
    return err;
}

/* Whether its service has something to say about the end, and ends it itself. */
static bool goes_on(struct chv_server_conn *c, bool ends)
{
    return c->stage == CHV_STAGE_OPEN && c->service->closing != NULL && c->service->closing(c->conn, c->state, ends);
}

static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    switch (type) {
    case CHV_RECORD_OPEN:
        return chv_server_open(c, body, len);
    case CHV_RECORD_CLOSE:
        if (!goes_on(c, false) && !chv_server_update_holds_close(&c->update))
            chv_conn_shutdown(conn);
        return CHV_OK;
    case CHV_RECORD_KEY_UPDATED:
        return on_updated(c, len);
    case CHV_RECORD_PONG:
        chv_server_duplicate_pong(c);
        return CHV_OK;
    case CHV_RECORD_PING: /* the connection has answered it */
        return CHV_OK;
    default:
        break;
    }
    if (type != CHV_RECORD_DATA && type != CHV_RECORD_END && type < CHV_RECORD_SERVICE) {
        chv_conn_explain(conn, "record type %u is not for a server", type);
        return CHV_ERR_PROTOCOL;
    }
    /* A client that was refused, or let go, may have sent this before it knew. */
    if (c->stage != CHV_STAGE_OPEN || (c->worker->draining && !c->goes_on))
        return CHV_OK;
    return c->service->record(conn, c->state, type, body, len);
}

static void on_batch(struct chv_conn *conn)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    if (c->stage == CHV_STAGE_OPEN && c->service->batch != NULL)
        c->service->batch(conn, c->state);
}

static void on_drained(struct chv_conn *conn)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    if (c->stage == CHV_STAGE_OPEN && c->service->drained != NULL)
        c->service->drained(conn, c->state);
}

/* What a device said when the session's cryptography failed: the session itself knows no more than that it did. */
static void say_backend(const struct chv_server_conn *c)
{
    struct chv_backend_health health;
    chv_crypto_health(&c->worker->loop.crypto, &health);
    if (health.last[0] != '\0')
        chv_server_say(c, CHV_LOG_ERROR, "backend %s: %s", c->worker->loop.crypto.backend->name, health.last);
}

static void say_end(const struct chv_server_conn *c, enum chv_err err)
{
    if (err == CHV_ERR_CRYPTO || err == CHV_ERR_KEY)
        say_backend(c);
    const char *why = c->reason != NULL ? c->reason : chv_conn_why(c->conn);
    if (why[0] == '\0')
        why = chv_err_text(err);
    if (err == CHV_OK || (err == CHV_ERR_CANCELLED && c->stage != CHV_STAGE_CLAIMED))
        chv_server_say(c, CHV_LOG_INFO, "closed");
    else if (c->stage == CHV_STAGE_REFUSED) /* was said when it happened */
        chv_server_say(c, CHV_LOG_DEBUG, "ended: %s", why);
    else if (c->stage == CHV_STAGE_CLAIMED && c->refuse != 0) /* a ticket's end is nobody's fault */
        chv_server_say(c, c->refuse == CHV_REFUSE_TICKET ? CHV_LOG_INFO : CHV_LOG_WARNING, "refused %u: %s", c->refuse,
                       why);
    else if (c->stage == CHV_STAGE_CLAIMED && chv_session_refusal(chv_conn_session(c->conn)) != 0)
        chv_server_say(c, CHV_LOG_WARNING, "refused %u: %s", chv_session_refusal(chv_conn_session(c->conn)), why);
    else if (c->stage == CHV_STAGE_CLAIMED && err == CHV_ERR_AUTH && c->reason == NULL && chv_server_misbound(c->conn))
        chv_server_say(c, CHV_LOG_WARNING, "OPEN does not open: %s", why);
    else if (c->stage == CHV_STAGE_CLAIMED && err == CHV_ERR_AUTH && c->reason == NULL)
        chv_server_say(c, CHV_LOG_WARNING,
                       "OPEN does not open: the client has another key than this credential's, or another server name");
    else
        chv_server_say(c, CHV_LOG_WARNING, "%s: %s (%s)", c->stage == CHV_STAGE_CLAIMED ? "no session" : "ended", why,
                       chv_err_name(err));
}

static void on_closed(struct chv_conn *conn, enum chv_err err)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    struct chv_worker *w = c->worker;
    chv_keeper_client_cancel(&w->keeper, &c->ask);
    chv_server_update_end(&c->update, &w->keeper);
    chv_server_registry_forget(c);
    chv_server_duplicate_forget(c);
    if (c->service != NULL)
        c->service->closed(conn, c->state);
    if (c->counted != NULL) /* before the log says so: the next one may be with another loop at once */
        chv_clients_give(&w->server->clients, c->counted);
    say_end(c, err);
    *(c->prev != NULL ? &c->prev->next : &w->conns) = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    chv_server_proven(c);
    free(c->client);
    free(c->registered);
    free(c->granted);
    free(c->opening);
    free(c);
    atomic_fetch_sub(&w->server->connections, 1);
    if (w->draining && w->conns == NULL)
        uv_stop(&w->loop.uv);
}

static const struct chv_conn_events events = {
    .key = on_key, .record = on_record, .batch = on_batch, .drained = on_drained, .closed = on_closed};

/* False: close silently. Else `c->refuse` may have been set. */
static bool admit(struct chv_server_conn *c, bool tcp)
{
    struct chv_server *server = c->worker->server;
    unsigned limit = atomic_load(&server->most_connections);
    unsigned now_open = atomic_fetch_add(&server->connections, 1) + 1;
    c->unproven = &server->unproven[chv_source_hash(c->source, server->source_seed) % CHV_SERVER_SOURCES];
    unsigned unproven = atomic_fetch_add(c->unproven, 1);
    enum chv_rate rate = CHV_RATE_PASS;
    if (tcp) {
        pthread_mutex_lock(&server->rate_lock);
        rate = chv_ratelimit_take(&server->rate, c->source, uv_hrtime() / 1000000);
        pthread_mutex_unlock(&server->rate_lock);
    }
    if (rate != CHV_RATE_PASS) {
        c->refuse = CHV_REFUSE_RATE;
        c->reason = "too many connections from this network per second";
    } else if (now_open > limit) {
        c->refuse = CHV_REFUSE_RATE;
        c->reason = "too many connections";
    } else if (unproven > limit / 2) {
        c->refuse = CHV_REFUSE_RATE;
        c->reason = "half of all connections are unfinished handshakes of this network";
    }
    if (rate != CHV_RATE_DROP && now_open <= limit + REFUSED_AT_A_TIME)
        return true;
    chv_server_proven(c);
    atomic_fetch_sub(&server->connections, 1);
    return false;
}

static enum chv_err start(struct chv_server_conn *c, int fd, const char *peer, struct chv_why *why)
{
    const struct chv_worker *w = c->worker;
    const bool data = c->listener->kind == CHV_PORT_DATA;
    unsigned idle = w->config.limits.loop.idle_seconds;
    const struct chv_server_identity *own = &w->config.identity;
    struct chv_session_config config = {.role = CHV_SERVER,
                                        .profiles = data ? 0 : chv_server_profiles(&w->config),
                                        .suites = w->server->suites,
                                        .now = chv_clock_time(),
                                        .limits = {.idle_seconds = (uint16_t)idle}};
    if (own->there)
        config.identity_public[own->curve] = own->public_key;
    return chv_conn_start(&c->worker->loop, fd, peer, &config, &events, c, &c->conn, why);
}

void chv_server_accepted(struct chv_acceptor *acceptor, int fd, const struct sockaddr *address)
{
    struct chv_worker *w = acceptor->owner;
    char peer[CHV_PEER_TEXT];
    struct chv_why why = {""};
    struct chv_server_conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        chv_log(CHV_LOG_ERROR, "no memory for a connection");
        return;
    }
    c->worker = w;
    c->listener = acceptor->listener;
    if (c->listener->kind == CHV_PORT_HANDSHAKE)
        c->reachable = chv_listeners_reachable(w->server->listeners, fd);
    c->source = chv_source_of(address);
    chv_source_text(address, peer);
    if (!admit(c, address->sa_family != AF_UNIX)) {
        close(fd);
        chv_log(CHV_LOG_DEBUG, "%s: closed at once: %s", peer, c->reason);
        free(c);
        return;
    }
    /* Before the start: it may read the hello and ask for its key. The end comes later, from the loop. */
    c->next = w->conns;
    if (c->next != NULL)
        c->next->prev = c;
    w->conns = c;
    bool refuse = c->refuse != 0;
    if (start(c, fd, peer, &why) != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "%s: %s", peer, why.text);
        w->conns = c->next;
        if (c->next != NULL)
            c->next->prev = NULL;
        chv_server_proven(c);
        free(c);
        atomic_fetch_sub(&w->server->connections, 1);
        return;
    }
    /* Unless its hello came with it and was refused already. */
    if (refuse && chv_session_refusal(chv_conn_session(c->conn)) == 0 &&
        chv_conn_key_refuse(c->conn, c->refuse) != CHV_OK)
        chv_conn_abort(c->conn, CHV_ERR_REFUSED);
}

void chv_server_drain(struct chv_worker *w)
{
    struct chv_server_conn *next;
    for (struct chv_server_conn *c = w->conns; c != NULL; c = next) {
        next = c->next;
        if (c->stage == CHV_STAGE_WAITING) {
            chv_server_cut(c, 503, "the server ends");
            continue;
        }
        c->goes_on = goes_on(c, true);
        if (c->stage != CHV_STAGE_CLAIMED) {
            if (!c->goes_on)
                chv_conn_shutdown(c->conn);
            continue;
        }
        chv_keeper_client_cancel(&w->keeper, &c->ask);
        chv_server_registry_cancel(c);
        c->refuse = CHV_REFUSE_UNAVAILABLE;
        c->reason = "the server ends";
        enum chv_err err = chv_conn_key_refuse(c->conn, c->refuse);
        (void)err; /* CHV_ERR_STATE: OPEN is on its way, and will be told so */
    }
}
