/* SPDX-License-Identifier: Apache-2.0 */
/* OPEN: the client is proven; its rights are what credential, allow-list and registry all give.  What ends a session later. */
#include "config.h"

#include "base/encode.h"
#include "core/wire.h"
#include "net/control.h"
#include "net/server_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIME_TEXT = 32 };

/* "2026-03-01 00:00 UTC" */
static void time_text(uint64_t seconds, char out[TIME_TEXT])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, TIME_TEXT, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        snprintf(out, TIME_TEXT, "%" PRIu64, seconds);
}

/* STATUS in the channel, which only the key's holder reads, and the end. */
static enum chv_err refuse(struct chv_server_conn *c, unsigned code, const char *text)
{
    chv_server_say(c, CHV_LOG_WARNING, "refused %u: %s", code, text);
    c->stage = CHV_STAGE_REFUSED;
    chv_server_duplicate_forget(c);
    free(c->opening);
    c->opening = NULL;
    enum chv_err err = chv_service_status(c->conn, code, "%s", text);
    if (err == CHV_OK)
        chv_conn_shutdown(c->conn);
    return err;
}

void chv_server_cut(struct chv_server_conn *c, unsigned code, const char *text)
{
    chv_server_registry_cancel(c);
    if (refuse(c, code, text) != CHV_OK) /* such as CHV_ERR_STATE: this direction is closed already */
        chv_conn_shutdown(c->conn);
    chv_conn_unpause(c->conn);
}

/* "credential expired at 2026-03-01 00:00 UTC: ..." */
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
    return refuse(c, 403, text);
}

/* The session has outlived its credential: STATUS goes out behind what is under way, and nothing after it. */
static void expire(struct chv_server_conn *c)
{
    char text[160];
    if (c->limited)
        snprintf(text, sizeof text, "the session has reached its limit on this data side: come by the handshake port");
    else
        expired_text(c, "the session ends, it must be issued again", text, sizeof text);
    chv_server_cut(c, 403, text);
}

uint64_t chv_server_expire(struct chv_server_expiry *expiry, uint64_t now)
{
    struct chv_worker *w = (struct chv_worker *)(void *)((char *)expiry - offsetof(struct chv_worker, expiry));
    uint64_t earliest = CHV_EXPIRY_NEVER;
    for (struct chv_server_conn *c = w->conns; c != NULL; c = c->next) { /* none is freed before the loop runs on */
        if (c->stage != CHV_STAGE_OPEN || c->client->not_after == 0)
            continue;
        if (c->client->not_after <= now)
            expire(c);
        else if (c->client->not_after < earliest)
            earliest = c->client->not_after;
    }
    return earliest;
}

/* The same in all that goes back to one full handshake. */
static void say_lineage(const struct chv_server_conn *c)
{
    struct chv_session_info info;
    char lineage[CHV_HEX_SIZE(CHV_LINEAGE_LEN)], when[TIME_TEXT];
    if (!chv_log_writes(CHV_LOG_DEBUG) || chv_session_get_info(chv_conn_session(c->conn), &info) != CHV_OK)
        return;
    chv_hex_encode(info.lineage, CHV_LINEAGE_LEN, lineage);
    time_text(c->auth_time, when);
    chv_server_say(c, CHV_LOG_DEBUG, "%s: lineage %s, full handshake at %s",
                   c->resumed ? "resumed a session" : "began a session", lineage, when);
}

static const struct chv_service *find_service(const struct chv_server *server, const char *name)
{
    for (const struct chv_service *const *s = server->parts->services; *s != NULL; s++)
        if (strcmp((*s)->name, name) == 0)
            return *s;
    return NULL;
}

/* Without the scopes that it does not have: a connection may live for months. */
static size_t credential_size(const struct chv_credential *credential)
{
    return offsetof(struct chv_credential, scopes) + credential->scope_count * sizeof credential->scopes[0];
}

/* Epoch and serial stay: the registry, if there is one, is asked about them. */
static void take_granted(struct chv_credential *rights, const struct chv_credential *granted)
{
    const uint32_t epoch = rights->epoch, serial = rights->serial;
    memcpy(rights, granted, credential_size(granted));
    rights->epoch = epoch;
    rights->serial = serial;
}

/* The session's credential, or its static key, is proven now. *denied: why the allow-list does not let it in, else NULL. */
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
    if (c->denied != NULL)
        *denied = c->denied;
    else if (c->granted != NULL) /* what credential, allow-list and registry gave it on the handshake port */
        take_granted(&parsed, c->granted);
    else if (c->registered != NULL) /* and the registry is asked again */
        memcpy(&parsed, c->registered, credential_size(c->registered));
    else
        *denied = chv_server_rights(c->worker->allowed, c->conn, &info, &parsed);
    if (c->verdict == CHV_KEEPER_ACCEPTED && parsed.not_after != credential_end && parsed.not_after <= chv_clock_time())
        c->verdict = CHV_KEEPER_EXPIRED; /* the entry has; the credential is the keeper's to judge */
    size_t size = credential_size(&parsed);
    c->client = malloc(size);
    if (c->client == NULL)
        return CHV_ERR_MEMORY;
    memcpy(c->client, &parsed, size);
    chv_server_proven(c);
    return CHV_OK;
}

/* Who would have to have a scope that is missing. */
static const char *source_of_rights(const struct chv_server_conn *c)
{
    if (c->narrowed || c->registered != NULL)
        return "in the registry this client";
    if (c->granted != NULL)
        return "the ticket";
    return c->client->epoch == 0 ? "the allow-list's entry" : "the credential";
}

bool chv_server_offer_update(struct chv_server_conn *c, void (*then)(struct chv_conn *conn))
{
    const uint32_t successor = chv_server_successor(&c->worker->config);
    if (c->client->epoch == 0 || c->client->epoch >= successor || c->no_update || c->worker->draining)
        return false;
    c->update.then = then;
    return chv_server_update_begin(&c->update, &c->worker->keeper, c->conn, successor);
}

/* A data side ends sessions of its own accord. */
static void limit_session(struct chv_server_conn *c)
{
    const struct chv_server_config *config = &c->worker->config;
    const uint64_t end = chv_clock_time() + config->session_limit;
    if (config->session_limit == 0 || (c->client->not_after != 0 && c->client->not_after <= end))
        return;
    c->client->not_after = end;
    c->limited = true;
}

/* STATUS 200 has left. */
static void opened(struct chv_server_conn *c)
{
    char port[CHV_SERVER_PORT_TEXT];
    chv_server_port_text(c, port);
    chv_server_say(c, CHV_LOG_INFO, "opened service '%s'%s%s", c->service->name, c->resumed ? " (resumed)" : "", port);
    if (c->listener->kind == CHV_PORT_DATA)
        return; /* tickets and keys are given where the handshake is */
    chv_server_tickets_give(c);
    (void)chv_server_offer_update(c, NULL);
}

static enum chv_err open_service(struct chv_server_conn *c, const struct chv_service *service, const uint8_t *map,
                                 size_t len)
{
    enum chv_err err = service->open(c->conn, c->client, map, len, &c->state);
    if (err != CHV_OK) {
        const char *why = chv_conn_why(c->conn);
        chv_server_say(c, CHV_LOG_WARNING, "service '%s' did not open: %s", service->name,
                       why != NULL && *why != '\0' ? why : chv_err_text(err));
        c->stage = CHV_STAGE_REFUSED;
        return err;
    }
    c->service = service;
    c->stage = CHV_STAGE_OPEN;
    limit_session(c);
    chv_server_expiry_add(&c->worker->expiry, c->client->not_after);
    if (!service->late)
        opened(c);
    return CHV_OK;
}

void chv_service_ready(struct chv_conn *conn)
{
    struct chv_server_conn *c = chv_conn_owner(conn);
    opened(c);
    chv_conn_unpause(conn);
}

void chv_server_admit(struct chv_server_conn *c)
{
    char text[160];
    const struct chv_service *service = c->opening->service;
    if (service->scope == NULL || chv_credential_has_scope(c->client, service->scope)) {
        if (c->listener->kind == CHV_PORT_HANDSHAKE)
            chv_server_redirect(c);
        else
            chv_server_duplicate_check(c);
        return;
    }
    snprintf(text, sizeof text, "%s has no scope '%s'", source_of_rights(c), service->scope);
    chv_server_cut(c, 403, text);
}

bool chv_server_open_waiting(struct chv_server_conn *c)
{
    struct chv_server_opening *opening = c->opening;
    c->opening = NULL;
    chv_conn_cork(c->conn);
    enum chv_err err = open_service(c, opening->service, opening->map, opening->len);
    chv_conn_uncork(c->conn);
    free(opening);
    const bool open = c->stage == CHV_STAGE_OPEN;
    if (err != CHV_OK)
        chv_conn_end(c->conn, err);
    else if (!c->service->late)
        chv_conn_unpause(c->conn);
    return open;
}

/* Until the registry, and perhaps another run of the client, has its say nothing more is read. */
static enum chv_err wait_for_answers(struct chv_server_conn *c, const struct chv_service *service, const uint8_t *map,
                                     size_t len)
{
    struct chv_server_opening *opening = malloc(sizeof *opening + len);
    if (opening == NULL)
        return CHV_ERR_MEMORY;
    *opening = (struct chv_server_opening){.service = service, .len = len};
    memcpy(opening->map, map, len);
    c->opening = opening;
    chv_server_registry_index(c);
    const bool asks = chv_server_has_registry(&c->worker->config);
    if (asks && chv_server_registry_ask(c) != CHV_OK)
        return refuse(c, 503, "the server cannot reach its registry: try again later");
    c->stage = CHV_STAGE_WAITING;
    chv_conn_pause(c->conn);
    if (!asks)
        chv_server_admit(c);
    return CHV_OK;
}

enum chv_err chv_server_open(struct chv_server_conn *c, const uint8_t *body, size_t len)
{
    struct chv_open open;
    char text[160];
    const char *denied = NULL;
    enum chv_err err = keep_client(c, &denied);
    if (err != CHV_OK)
        return err;
    if (!c->resumed)
        c->auth_time = chv_clock_time();
    say_lineage(c);
    if (c->worker->draining)
        return refuse(c, 503, "the server ends");
    if (denied != NULL)
        return refuse(c, 403, denied);
    if (c->verdict != CHV_KEEPER_ACCEPTED)
        return refuse_verdict(c);
    unsigned most = c->worker->config.limits.client_connections;
    err = chv_clients_take(&c->worker->server->clients, c->client->id, most, &c->counted);
    if (err == CHV_ERR_BUSY) {
        snprintf(text, sizeof text, "this client has %u connections already: no more are allowed", most);
        return refuse(c, 429, text);
    }
    if (err != CHV_OK)
        return err;
    chv_keyqueue_trust(&c->worker->keeper.queue, c->source, uv_now(&c->worker->loop.uv));
    if (chv_open_decode(body, len, &open) != CHV_OK)
        return refuse(c, 400, "OPEN is not a map that names a service");
    const struct chv_service *service = find_service(c->worker->server, open.service);
    if (service == NULL) {
        snprintf(text, sizeof text, "there is no service '%s' here", open.service);
        return refuse(c, 404, text);
    }
    c->tickets = (uint8_t)(open.tickets < CHV_TICKETS_PER_SESSION ? open.tickets : CHV_TICKETS_PER_SESSION);
    c->member.has_instance = open.has_instance;
    memcpy(c->member.instance, open.instance, sizeof open.instance);
    return wait_for_answers(c, service, body, len);
}

void chv_server_recheck(struct chv_worker *w)
{
    struct chv_server_conn *next;
    for (struct chv_server_conn *c = w->conns; c != NULL; c = next) {
        next = c->next; /* an end comes later, from the loop */
        const bool in = (c->stage == CHV_STAGE_OPEN || c->stage == CHV_STAGE_WAITING) && !w->config.data_only;
        const char *denied = in && c->registered == NULL ? chv_server_rights_now(w->allowed, c->conn, c->client) : NULL;
        if (denied != NULL)
            chv_server_cut(c, 403, denied);
    }
}
