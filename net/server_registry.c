/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the net process asks the registrar: at OPEN, and again whenever a client was changed, so that what is denied in the
 * registry ends here within a second.  Who cannot be asked about keeps the session that it has.
 */
#include "config.h"

#include "net/ipc.h"
#include "net/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRY_AGAIN_MS = 1000 };

static struct chv_worker *worker_of(struct chv_registrar_client *client)
{
    return (struct chv_worker *)(void *)((char *)client - offsetof(struct chv_worker, registrar));
}

/* FNV-1a: ids come from whoever has the master, so that nobody can choose them to collide. */
static struct chv_server_conn **bucket_of(struct chv_worker *w, const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return &w->by_id[hash % CHV_SERVER_IDS];
}

/* --- questions ---------------------------------------------------------------------------------------------------- */

static void take_identity(struct chv_registrar_request *q, const struct chv_identity *identity)
{
    q->has_identity = 1;
    q->curve = (uint8_t)identity->curve;
    memcpy(q->identity, identity->public_key, chv_dh_public_len(identity->curve));
}

static enum chv_err ask(struct chv_server_conn *c, enum chv_registrar_kind kind, chv_registrar_answer_fn answered)
{
    struct chv_session_info info;
    struct chv_identity identity;
    struct chv_registrar_request q;
    enum chv_err err = chv_session_get_info(chv_conn_session(c->conn), &info);
    if (err != CHV_OK)
        return err;
    memset(&q, 0, sizeof q);
    q.kind = (uint8_t)kind;
    q.profile = (uint8_t)info.profile;
    if (c->client != NULL && c->registered == NULL)
        memcpy(q.id, c->client->id, strlen(c->client->id));
    if (c->client != NULL) {
        q.epoch = c->client->epoch;
        q.serial = c->client->serial;
    }
    if (chv_server_identity_of(c->conn, &identity))
        take_identity(&q, &identity);
    return chv_registrar_client_ask(&c->worker->registrar, &q, answered, c, &c->question);
}

static bool has_scope(const struct chv_registrar_answer *answer, const char *scope)
{
    for (size_t i = 0; i < answer->scope_count; i++)
        if (strcmp(answer->scopes[i], scope) == 0)
            return true;
    return false;
}

/* Rights are what both have.  Whether scopes were taken away. */
static bool narrow(struct chv_credential *rights, const struct chv_registrar_answer *answer)
{
    const size_t had = rights->scope_count;
    size_t kept = 0;
    for (size_t i = 0; answer->has_scopes != 0 && i < rights->scope_count; i++)
        if (has_scope(answer, rights->scopes[i]))
            memmove(rights->scopes[kept++], rights->scopes[i], sizeof rights->scopes[0]);
    if (answer->has_scopes != 0)
        rights->scope_count = kept;
    if (answer->not_after != 0 && (rights->not_after == 0 || answer->not_after < rights->not_after))
        rights->not_after = answer->not_after;
    return rights->scope_count < had;
}

/* A key of the allow-list need not be in the registry; in it, it is under the same id. */
static bool lets_in(const struct chv_server_conn *c, const struct chv_registrar_answer *answer)
{
    if (answer->verdict == CHV_VERDICT_OK) /* a registry that only denies knows nobody */
        return c->registered == NULL || (answer->known != 0 && strcmp(answer->id, c->client->id) == 0);
    return answer->verdict == CHV_VERDICT_UNKNOWN && c->client->epoch == 0 && c->registered == NULL;
}

static void deny(struct chv_server_conn *c, const struct chv_registrar_answer *answer)
{
    char text[200];
    const char *what = chv_verdict_text((enum chv_verdict)answer->verdict);
    if (answer->verdict == CHV_VERDICT_OK)
        what = "this identity key is another client's now";
    if (answer->verdict == CHV_VERDICT_MALFORMED)
        chv_server_say(c, CHV_LOG_ERROR, "its row in the registry cannot be believed: %s", answer->reason);
    const bool told = answer->known != 0 && answer->reason[0] != '\0' &&
                      (answer->verdict == CHV_VERDICT_SUSPENDED || answer->verdict == CHV_VERDICT_REVOKED ||
                       answer->verdict == CHV_VERDICT_REMOVED);
    snprintf(text, sizeof text, "%s%s%s", what, told ? ": " : "", told ? answer->reason : "");
    chv_server_cut(c, 403, text);
}

/* --- OPEN --------------------------------------------------------------------------------------------------------- */

static void on_open_answer(void *owner, const struct chv_registrar_answer *answer)
{
    struct chv_server_conn *c = owner;
    c->question = NULL;
    if (answer == NULL || answer->status != CHV_REGISTRAR_OK) {
        chv_server_cut(c, 503, "the server cannot reach its registry: try again later");
        return;
    }
    if (!lets_in(c, answer)) {
        deny(c, answer);
        return;
    }
    c->no_update = answer->no_update != 0;
    c->narrowed = narrow(c->client, answer);
    chv_server_admit(c);
}

enum chv_err chv_server_registry_ask(struct chv_server_conn *c)
{
    return ask(c, CHV_REGISTRAR_OPEN, on_open_answer);
}

/* --- profile key: whose key is this? ------------------------------------------------------------------------------ */

static void refuse_peer(struct chv_server_conn *c, unsigned code, const char *reason)
{
    c->refuse = code;
    c->reason = reason;
    if (chv_conn_key_refuse(c->conn, code) != CHV_OK)
        chv_conn_abort(c->conn, CHV_ERR_STATE);
}

/* In clear; one that came with a ticket, as which it was let in before, is told in its channel. */
static void deny_peer(struct chv_server_conn *c, const char *reason)
{
    if (!c->resumed) {
        refuse_peer(c, CHV_REFUSE_UNKNOWN_KEY, reason);
        return;
    }
    c->denied = reason;
    chv_server_ticket_known(c);
}

static void let_peer_in(struct chv_server_conn *c)
{
    enum chv_err err = CHV_OK;
    if (c->resumed)
        chv_server_ticket_known(c);
    else
        err = chv_conn_key_answer(c->conn, NULL);
    (void)err; /* a session that fails on it ends the connection, which says so */
}

static enum chv_err keep_registered(struct chv_server_conn *c, const struct chv_registrar_answer *answer)
{
    size_t scopes = answer->scope_count * sizeof answer->scopes[0];
    c->registered = calloc(1, offsetof(struct chv_credential, scopes) + scopes);
    if (c->registered == NULL)
        return CHV_ERR_MEMORY;
    memcpy(c->registered->id, answer->id, sizeof c->registered->id);
    c->registered->not_after = answer->not_after;
    c->registered->scope_count = answer->scope_count;
    memcpy(c->registered->scopes, answer->scopes, scopes);
    return CHV_OK;
}

static void on_peer_answer(void *owner, const struct chv_registrar_answer *answer)
{
    struct chv_server_conn *c = owner;
    c->question = NULL;
    if (answer == NULL || answer->status != CHV_REGISTRAR_OK) {
        refuse_peer(c, CHV_REFUSE_UNAVAILABLE, "the registry cannot be reached");
    } else if (answer->verdict != CHV_VERDICT_OK || answer->known == 0) {
        deny_peer(c, answer->verdict == CHV_VERDICT_OK ? "this identity key is not in allowed-keys"
                     : answer->verdict == CHV_VERDICT_UNKNOWN
                         ? "this identity key is neither in allowed-keys nor in the registry"
                         : chv_verdict_text((enum chv_verdict)answer->verdict));
    } else if (keep_registered(c, answer) != CHV_OK) {
        chv_conn_abort(c->conn, CHV_ERR_MEMORY);
    } else {
        let_peer_in(c);
    }
}

void chv_server_registry_peer(struct chv_server_conn *c, const struct chv_identity *identity)
{
    struct chv_registrar_request q;
    memset(&q, 0, sizeof q);
    q.kind = CHV_REGISTRAR_PEER;
    q.profile = CHV_PROFILE_KEY;
    take_identity(&q, identity);
    enum chv_err err = chv_registrar_client_ask(&c->worker->registrar, &q, on_peer_answer, c, &c->question);
    if (err == CHV_ERR_BUSY)
        refuse_peer(c, CHV_REFUSE_RATE, "too many keys that are not in allowed-keys are being looked up");
    else if (err != CHV_OK)
        refuse_peer(c, CHV_REFUSE_UNAVAILABLE, "the registry cannot be reached");
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

void chv_server_registry_index(struct chv_server_conn *c)
{
    struct chv_server_conn **bucket = bucket_of(c->worker, c->client->id);
    c->id_next = *bucket;
    if (c->id_next != NULL)
        c->id_next->id_prev = c;
    *bucket = c;
    c->indexed = true;
}

struct chv_server_conn *chv_server_registry_find(struct chv_worker *w, const char *id, uint64_t number)
{
    struct chv_server_conn *c = *bucket_of(w, id);
    while (c != NULL && chv_conn_id(c->conn) != number)
        c = c->id_next;
    return c;
}

static void take_out(struct chv_server_conn *c)
{
    struct chv_worker *w = c->worker;
    if (!c->check_due)
        return;
    *(c->check_prev != NULL ? &c->check_prev->check_next : &w->check_first) = c->check_next;
    *(c->check_next != NULL ? &c->check_next->check_prev : &w->check_last) = c->check_prev;
    c->check_prev = c->check_next = NULL;
    c->check_due = false;
}

/* A question that is out may have been answered before the change: then another follows. */
static void put_in(struct chv_server_conn *c)
{
    struct chv_worker *w = c->worker;
    if ((c->stage != CHV_STAGE_OPEN && c->stage != CHV_STAGE_WAITING) || c->check_due)
        return;
    if (c->question != NULL) { /* OPEN's own answer is from after the change */
        c->check_again = c->checking;
        return;
    }
    c->check_due = true;
    c->check_prev = w->check_last;
    *(w->check_last != NULL ? &w->check_last->check_next : &w->check_first) = c;
    w->check_last = c;
}

static void check_next(struct chv_worker *w);

/* Why a session is to end, or NULL. A service that looks at the scopes itself may have used any of them. */
static const char *lost_scope(const struct chv_server_conn *c, const struct chv_registrar_answer *answer)
{
    if (answer->has_scopes == 0)
        return NULL;
    const struct chv_service *service = c->service != NULL ? c->service : c->opening->service;
    if (service->scope != NULL)
        return has_scope(answer, service->scope) ? NULL : service->scope;
    for (size_t i = 0; i < c->client->scope_count; i++)
        if (!has_scope(answer, c->client->scopes[i]))
            return c->client->scopes[i];
    return NULL;
}

static void apply_check(struct chv_server_conn *c, const struct chv_registrar_answer *answer)
{
    char text[100];
    if (!lets_in(c, answer)) {
        deny(c, answer);
        return;
    }
    const char *scope = lost_scope(c, answer);
    if (scope != NULL) {
        snprintf(text, sizeof text, "scope '%s' was taken away", scope);
        chv_server_cut(c, 403, text);
        return;
    }
    if (answer->not_after != 0 && (c->client->not_after == 0 || answer->not_after < c->client->not_after)) {
        c->client->not_after = answer->not_after;
        chv_server_expiry_add(&c->worker->expiry, c->client->not_after);
    }
}

static void on_check_again(uv_timer_t *timer)
{
    check_next(timer->data);
}

static void check_later(struct chv_worker *w)
{
    if (!uv_is_active((uv_handle_t *)&w->check_again))
        (void)uv_timer_start(&w->check_again, on_check_again, TRY_AGAIN_MS, 0);
}

static void on_check_answer(void *owner, const struct chv_registrar_answer *answer)
{
    struct chv_server_conn *c = owner;
    struct chv_worker *w = c->worker;
    const bool again = c->check_again;
    c->question = NULL;
    c->check_again = c->checking = false;
    w->checking--;
    if ((c->stage == CHV_STAGE_OPEN || c->stage == CHV_STAGE_WAITING) && answer != NULL &&
        answer->status == CHV_REGISTRAR_OK)
        apply_check(c, answer);
    /* Without an answer it is asked for again; a registry that cannot be reached tells when it can. */
    if (again || answer == NULL)
        put_in(c);
    if (answer != NULL)
        check_next(w);
    else
        check_later(w);
}

static void check_next(struct chv_worker *w)
{
    while (w->check_first != NULL && w->checking < CHV_SERVER_CHECKS) {
        struct chv_server_conn *c = w->check_first;
        enum chv_err err = ask(c, CHV_REGISTRAR_RECHECK, on_check_answer);
        if (err == CHV_ERR_UNAVAILABLE)
            return;          /* a registrar that comes has everybody checked */
        if (err != CHV_OK) { /* so many OPENs wait, and no answer need follow that goes on from here */
            check_later(w);
            return;
        }
        take_out(c);
        c->checking = true;
        w->checking++;
    }
}

static void on_changed(struct chv_registrar_client *client, const char *id)
{
    struct chv_worker *w = worker_of(client);
    if (id == NULL) {
        for (struct chv_server_conn *c = w->conns; c != NULL; c = c->next)
            put_in(c);
    } else {
        for (struct chv_server_conn *c = *bucket_of(w, id); c != NULL; c = c->id_next)
            if (strcmp(c->client->id, id) == 0)
                put_in(c);
    }
    check_next(w);
}

static enum chv_err tell(struct chv_registrar_client *client, enum chv_ipc_kind kind)
{
    const struct chv_worker *w = worker_of(client);
    const struct chv_ipc_message message = {.kind = kind, .generation = w->registrar_generation};
    return chv_ipc_send(w->server->control_fd, &message, NULL, 0);
}

/* While the registrar itself is gone the supervisor will know better. */
static void on_lost(struct chv_registrar_client *client)
{
    if (tell(client, CHV_IPC_LOST) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the supervisor cannot be told that the registrar's socket is lost: restart");
}

static void on_silent(struct chv_registrar_client *client)
{
    enum chv_err err = tell(client, CHV_IPC_SILENT);
    (void)err; /* it is told again */
}

static const struct chv_registrar_events registrar_events = {
    .changed = on_changed, .lost = on_lost, .silent = on_silent};

void chv_server_registry_cancel(struct chv_server_conn *c)
{
    if (c->question == NULL)
        return;
    if (c->checking)
        c->worker->checking--;
    c->checking = false;
    chv_registrar_client_cancel(&c->worker->registrar, c->question);
    c->question = NULL;
}

void chv_server_registry_forget(struct chv_server_conn *c)
{
    chv_server_registry_cancel(c);
    take_out(c);
    if (!c->indexed)
        return;
    *(c->id_prev != NULL ? &c->id_prev->id_next : bucket_of(c->worker, c->client->id)) = c->id_next;
    if (c->id_next != NULL)
        c->id_next->id_prev = c->id_prev;
    c->indexed = false;
}

void chv_server_registry_init(struct chv_worker *w)
{
    chv_registrar_client_init(&w->registrar, &w->loop.uv, w->config.limits.keeper_queue, &registrar_events);
    (void)uv_timer_init(&w->loop.uv, &w->check_again);
    w->check_again.data = w;
    uv_unref((uv_handle_t *)&w->check_again);
}

void chv_server_registry_close(struct chv_worker *w)
{
    for (struct chv_server_conn *c = w->conns; c != NULL; c = c->next)
        chv_server_registry_cancel(c);
    chv_registrar_client_close(&w->registrar);
    uv_close((uv_handle_t *)&w->check_again, NULL);
}
