/* SPDX-License-Identifier: Apache-2.0 */
/* One client connection of the server: refused early, or asked for, proven, told its rights and given to its service.
 */
#include "config.h"

#include "net/control.h"
#include "net/server_internal.h"
#include "net/source.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Beyond the limit of connections so many more are still told so; the rest is closed silently. */
enum { REFUSED_AT_A_TIME = 64, TIME_TEXT = 32 };

enum stage {
    STAGE_CLAIMED, /* nobody has proven anything */
    STAGE_REFUSED, /* told why not; waits for the end */
    STAGE_OPEN     /* proven, its service is open */
};

struct chv_server_conn {
    struct chv_keeper_ask ask;
    struct chv_worker *worker;
    struct chv_server_conn *prev, *next; /* of its worker */
    struct chv_conn *conn;
    uint64_t source;
    atomic_uint *unproven; /* the server's counter that this one is in; NULL: proven */
    enum stage stage;
    enum chv_keeper_verdict verdict;
    unsigned refuse; /* code of a refusal at accept, 0: none */
    const char *reason;
    const struct chv_service *service;
    void *state;
    struct chv_credential *client;     /* proven; cut to its scopes */
    struct chv_clients_entry *counted; /* for its id; NULL: not (yet) */
    struct chv_server_update update;
};

static uint64_t unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec > 0 ? (uint64_t)t.tv_sec : 0;
}

/* "2026-03-01 00:00 UTC" */
static void time_text(uint64_t seconds, char out[TIME_TEXT])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, TIME_TEXT, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(out, TIME_TEXT, "%" PRIu64, seconds);
}

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
static enum chv_log_level stranger_level(struct chv_server *server)
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
    return loud ? CHV_LOG_WARNING : CHV_LOG_DEBUG;
}

static void say(const struct chv_server_conn *c, enum chv_log_level level, const char *format, ...) CHV_PRINTF(3, 4);
static void say(const struct chv_server_conn *c, enum chv_log_level level, const char *format, ...)
{
    char text[700], name[CHV_CLIENT_ID_MAX + CHV_FINGERPRINT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    who(c, name, sizeof name);
    if (level == CHV_LOG_WARNING && c->stage == STAGE_CLAIMED)
        level = stranger_level(c->worker->server);
    chv_log(level, "conn %" PRIu64 ": %s: %s%s", chv_conn_id(c->conn), chv_conn_peer(c->conn), name, text);
}

static void forget_unproven(struct chv_server_conn *c)
{
    if (c->unproven != NULL)
        atomic_fetch_sub(c->unproven, 1);
    c->unproven = NULL;
}

/* Profile key: who is not in the list gets a clear 403 and the end, before anything is served. */
static void on_peer(struct chv_server_conn *c)
{
    struct chv_identity identity;
    enum chv_err err;
    if (chv_server_identity_of(c->conn, &identity) && chv_allowlist_find(c->worker->allowed, &identity) != NULL) {
        err = chv_conn_key_answer(c->conn, NULL);
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
    if (c->refuse != 0) {
        if (chv_conn_key_refuse(conn, c->refuse) != CHV_OK)
            chv_conn_abort(conn, CHV_ERR_STATE);
        return;
    }
    if (request->kind == CHV_KEY_PSK)
        say(c, CHV_LOG_DEBUG, "asks for a session");
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

/* STATUS in the channel, which only the key's holder reads, and the end. */
static enum chv_err refuse_open(struct chv_server_conn *c, unsigned code, const char *text)
{
    say(c, CHV_LOG_WARNING, "refused %u: %s", code, text);
    c->stage = STAGE_REFUSED;
    enum chv_err err = chv_service_status(c->conn, code, "%s", text);
    if (err == CHV_OK)
        chv_conn_shutdown(c->conn);
    return err;
}

/* "credential expired at 2026-03-01 00:00 UTC" */
static void expired_text(const struct chv_server_conn *c, const char *then, char *out, size_t size)
{
    char when[TIME_TEXT];
    time_text(c->client->not_after, when);
    snprintf(out, size, "%s expired at %s: %s", c->client->epoch == 0 ? "the allow-list's entry" : "credential", when,
             then);
}

static enum chv_err refuse_verdict(struct chv_server_conn *c)
{
    char text[160];
    switch (c->verdict) {
    case CHV_KEEPER_EXPIRED:
        expired_text(c, "it must be issued again", text, sizeof text);
        break;
    case CHV_KEEPER_LIFETIME:
        snprintf(text, sizeof text,
                 "credential lives longer than this server allows (%" PRIu64 " days): it must be issued again",
                 c->worker->config.max_lifetime / 86400);
        break;
    default:
        snprintf(text, sizeof text, "credential is not accepted");
        break;
    }
    return refuse_open(c, 403, text);
}

/* The session has outlived its credential: STATUS goes out behind what is under way, and nothing after it. */
static void expire(struct chv_server_conn *c)
{
    char text[160];
    expired_text(c, "the session ends, it must be issued again", text, sizeof text);
    if (refuse_open(c, 403, text) != CHV_OK) /* such as CHV_ERR_STATE: this direction is closed already */
        chv_conn_shutdown(c->conn);
}

uint64_t chv_server_expire(struct chv_server_expiry *expiry, uint64_t now)
{
    struct chv_worker *w = (struct chv_worker *)(void *)((char *)expiry - offsetof(struct chv_worker, expiry));
    uint64_t earliest = CHV_EXPIRY_NEVER;
    for (struct chv_server_conn *c = w->conns; c != NULL; c = c->next) { /* none is freed before the loop runs on */
        if (c->stage != STAGE_OPEN || c->client->not_after == 0)
            continue;
        if (c->client->not_after <= now)
            expire(c);
        else if (c->client->not_after < earliest)
            earliest = c->client->not_after;
    }
    return earliest;
}

static const struct chv_service *find_service(const struct chv_server *server, const char *name)
{
    for (const struct chv_service *const *s = server->parts->services; *s != NULL; s++)
        if (strcmp((*s)->name, name) == 0)
            return *s;
    return NULL;
}

/*
 * The session's credential, or its static key, is proven now. Only the scopes that it has take memory: a connection may
 * live for months. *denied: why the allow-list does not let it in, else NULL.
 */
static enum chv_err keep_client(struct chv_server_conn *c, const char **denied)
{
    struct chv_session_info info;
    struct chv_credential parsed;
    memset(&parsed, 0, sizeof parsed);
    enum chv_err err = chv_session_get_info(chv_conn_session(c->conn), &info);
    if (err == CHV_OK && info.profile != CHV_PROFILE_KEY)
        err = chv_credential_parse(info.credential, info.credential_len, &parsed, NULL);
    if (err != CHV_OK)
        return err;
    const uint64_t credential_end = parsed.not_after;
    *denied = chv_server_rights(c->worker->allowed, c->conn, &info, &parsed);
    if (c->verdict == CHV_KEEPER_ACCEPTED && parsed.not_after != credential_end && parsed.not_after <= unix_time())
        c->verdict = CHV_KEEPER_EXPIRED; /* the entry has; the credential is the keeper's to judge */
    size_t size = offsetof(struct chv_credential, scopes) + parsed.scope_count * sizeof parsed.scopes[0];
    c->client = malloc(size);
    if (c->client == NULL)
        return CHV_ERR_MEMORY;
    memcpy(c->client, &parsed, size);
    forget_unproven(c);
    return CHV_OK;
}

static enum chv_err on_open(struct chv_server_conn *c, const uint8_t *body, size_t len)
{
    struct chv_open open;
    char text[160];
    const char *denied = NULL;
    enum chv_err err = keep_client(c, &denied);
    if (err != CHV_OK)
        return err;
    if (denied != NULL)
        return refuse_open(c, 403, denied);
    if (c->verdict != CHV_KEEPER_ACCEPTED)
        return refuse_verdict(c);
    unsigned most = c->worker->config.limits.client_connections;
    err = chv_clients_take(&c->worker->server->clients, c->client->id, most, &c->counted);
    if (err == CHV_ERR_BUSY) {
        snprintf(text, sizeof text, "this client has %u connections already: no more are allowed", most);
        return refuse_open(c, 429, text);
    }
    if (err != CHV_OK)
        return err;
    chv_keyqueue_trust(&c->worker->keeper.queue, c->source, uv_now(&c->worker->loop.uv));
    if (chv_open_decode(body, len, &open) != CHV_OK)
        return refuse_open(c, 400, "OPEN is not a map that names a service");
    const struct chv_service *service = find_service(c->worker->server, open.service);
    if (service == NULL) {
        snprintf(text, sizeof text, "there is no service '%s' here", open.service);
        return refuse_open(c, 404, text);
    }
    if (service->scope != NULL && !chv_credential_has_scope(c->client, service->scope)) {
        snprintf(text, sizeof text, "%s has no scope '%s'",
                 c->client->epoch == 0 ? "the allow-list's entry" : "the credential", service->scope);
        return refuse_open(c, 403, text);
    }
    err = service->open(c->conn, c->client, body, len, &c->state);
    if (err != CHV_OK) {
        say(c, CHV_LOG_WARNING, "service '%s' did not open: %s", service->name, chv_err_text(err));
        c->stage = STAGE_REFUSED;
        return err;
    }
    c->service = service;
    c->stage = STAGE_OPEN;
    chv_server_expiry_add(&c->worker->expiry, c->client->not_after);
    say(c, CHV_LOG_INFO, "opened service '%s'", service->name);
    const uint32_t successor = chv_server_successor(&c->worker->config);
    if (c->client->epoch != 0 && c->client->epoch < successor && !c->worker->draining)
        chv_server_update_begin(&c->update, &c->worker->keeper, c->conn, successor);
    return CHV_OK;
}

static enum chv_err on_updated(struct chv_server_conn *c, size_t len)
{
    enum chv_err err = chv_server_update_stored(&c->update, len);
    if (err == CHV_OK)
        say(c, CHV_LOG_INFO, "has stored its key of epoch %" PRIu32, c->update.epoch);
    else
        chv_conn_explain(c->conn, "KEY_UPDATED where none is due");
    return err;
}

static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    switch (type) {
    case CHV_RECORD_OPEN:
        return on_open(c, body, len);
    case CHV_RECORD_CLOSE:
        if (!chv_server_update_holds_close(&c->update))
            chv_conn_shutdown(conn);
        return CHV_OK;
    case CHV_RECORD_KEY_UPDATED:
        return on_updated(c, len);
    case CHV_RECORD_PING: /* the connection has answered it */
    case CHV_RECORD_PONG:
        return CHV_OK;
    default:
        break;
    }
    if (type != CHV_RECORD_DATA && type != CHV_RECORD_END && type < CHV_RECORD_SERVICE) {
        chv_conn_explain(conn, "record type %u is not for a server", type);
        return CHV_ERR_PROTOCOL;
    }
    /* A client that was refused, or let go, may have sent this before it knew. */
    if (c->stage != STAGE_OPEN || c->worker->draining)
        return CHV_OK;
    return c->service->record(conn, c->state, type, body, len);
}

static void on_drained(struct chv_conn *conn)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    if (c->stage == STAGE_OPEN && c->service->drained != NULL)
        c->service->drained(conn, c->state);
}

/* What a device said when the session's cryptography failed: the session itself knows no more than that it did. */
static void say_backend(const struct chv_server_conn *c)
{
    struct chv_backend_health health;
    chv_crypto_health(&c->worker->loop.crypto, &health);
    if (health.last[0] != '\0')
        say(c, CHV_LOG_ERROR, "backend %s: %s", c->worker->loop.crypto.backend->name, health.last);
}

static void say_end(const struct chv_server_conn *c, enum chv_err err)
{
    if (err == CHV_ERR_CRYPTO || err == CHV_ERR_KEY)
        say_backend(c);
    const char *why = c->reason != NULL ? c->reason : chv_conn_why(c->conn);
    if (why[0] == '\0')
        why = chv_err_text(err);
    if (err == CHV_OK || (err == CHV_ERR_CANCELLED && c->stage != STAGE_CLAIMED))
        say(c, CHV_LOG_INFO, "closed");
    else if (c->stage == STAGE_REFUSED) /* was said when it happened */
        say(c, CHV_LOG_DEBUG, "ended: %s", why);
    else if (c->stage == STAGE_CLAIMED && c->refuse != 0)
        say(c, CHV_LOG_WARNING, "refused %u: %s", c->refuse, why);
    else if (c->stage == STAGE_CLAIMED && chv_session_refusal(chv_conn_session(c->conn)) != 0)
        say(c, CHV_LOG_WARNING, "refused %u: %s", chv_session_refusal(chv_conn_session(c->conn)), why);
    else if (c->stage == STAGE_CLAIMED && err == CHV_ERR_AUTH && c->reason == NULL && chv_server_misbound(c->conn))
        say(c, CHV_LOG_WARNING, "OPEN does not open: %s", why);
    else if (c->stage == STAGE_CLAIMED && err == CHV_ERR_AUTH && c->reason == NULL)
        say(c, CHV_LOG_WARNING,
            "OPEN does not open: the client has another key than this credential's, or another server name");
    else
        say(c, CHV_LOG_WARNING, "%s: %s (%s)", c->stage == STAGE_CLAIMED ? "no session" : "ended", why,
            chv_err_name(err));
}

static void on_closed(struct chv_conn *conn, enum chv_err err)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    struct chv_worker *w = c->worker;
    chv_keeper_client_cancel(&w->keeper, &c->ask);
    chv_server_update_end(&c->update, &w->keeper);
    if (c->service != NULL)
        c->service->closed(conn, c->state);
    if (c->counted != NULL) /* before the log says so: the next one may be with another loop at once */
        chv_clients_give(&w->server->clients, c->counted);
    say_end(c, err);
    *(c->prev != NULL ? &c->prev->next : &w->conns) = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    forget_unproven(c);
    free(c->client);
    free(c);
    atomic_fetch_sub(&w->server->connections, 1);
    if (w->draining && w->conns == NULL)
        uv_stop(&w->loop.uv);
}

static const struct chv_conn_events events = {
    .key = on_key, .record = on_record, .drained = on_drained, .closed = on_closed};

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
    forget_unproven(c);
    atomic_fetch_sub(&server->connections, 1);
    return false;
}

static enum chv_err start(struct chv_server_conn *c, int fd, const char *peer, struct chv_why *why)
{
    const struct chv_worker *w = c->worker;
    unsigned idle = w->config.limits.loop.idle_seconds;
    const struct chv_server_identity *own = &w->config.identity;
    struct chv_session_config config = {.role = CHV_SERVER,
                                        .profiles = chv_server_profiles(&w->config),
                                        .suites = w->server->suites,
                                        .now = unix_time(),
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
        forget_unproven(c);
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
        if (c->stage != STAGE_CLAIMED) {
            chv_conn_shutdown(c->conn);
            continue;
        }
        chv_keeper_client_cancel(&w->keeper, &c->ask);
        c->refuse = CHV_REFUSE_UNAVAILABLE;
        c->reason = "the server ends";
        if (chv_conn_key_refuse(c->conn, c->refuse) != CHV_OK)
            chv_conn_abort(c->conn, CHV_ERR_CANCELLED);
    }
}

void chv_server_recheck(struct chv_worker *w)
{
    struct chv_server_conn *next;
    for (struct chv_server_conn *c = w->conns; c != NULL; c = next) {
        next = c->next; /* an end comes later, from the loop */
        const char *denied = c->stage == STAGE_OPEN ? chv_server_rights_now(w->allowed, c->conn, c->client) : NULL;
        if (denied != NULL && refuse_open(c, 403, denied) != CHV_OK)
            chv_conn_abort(c->conn, CHV_ERR_REFUSED);
    }
}
