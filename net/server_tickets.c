/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets at the server's connections: a loop's keys come from the keeper, before it accepts and whenever a period begins; a
 * client that brings a ticket is answered here, without the keeper; one that asks for some is given them once its service
 * is open.
 */
#include "config.h"

#include "base/memory.h"
#include "net/control.h"
#include "net/judge.h"
#include "net/server_internal.h"

#include <string.h>

enum {
    AGAIN_MS = 1000,         /* after a round that failed, and twice as long after each other one */
    AGAIN_DOUBLED = 6,       /* so many times */
    ACCEPT_MS = 2000,        /* how long clients wait for the keys, when the server starts */
    LOOK_MOST_SECONDS = 3600 /* a clock that is set does not move a timer */
};

/* --- keys ---------------------------------------------------------------------------------------------------------- */

static bool uses(const struct chv_worker *w, enum chv_ticket_use use)
{
    return use == CHV_TICKET_RESUMPTION ? w->config.tickets : chv_server_has_two_ports(&w->config);
}

static void on_timer(uv_timer_t *timer)
{
    struct chv_worker *w = timer->data;
    if (w->ticket_keys.asking)
        chv_server_accept(w);
    else
        chv_server_tickets_renew(w);
}

static void end_round(struct chv_worker *w, bool failed)
{
    struct chv_server_tickets *t = &w->ticket_keys;
    const uint64_t left = CHV_TICKET_PERIOD_SECONDS - chv_clock_time() % CHV_TICKET_PERIOD_SECONDS;
    uint64_t ms = UINT64_C(1000) * (left < LOOK_MOST_SECONDS ? left : LOOK_MOST_SECONDS);
    t->asking = false;
    t->failures = failed && t->failures < AGAIN_DOUBLED ? t->failures + 1 : failed ? t->failures : 0;
    if (failed)
        ms = (uint64_t)AGAIN_MS << (t->failures - 1);
    if (t->again)
        ms = 0;
    t->again = false;
    (void)uv_timer_start(&t->timer, on_timer, ms, 0);
    chv_server_accept(w);
}

static bool lacks(const struct chv_worker *w, enum chv_ticket_use use, uint32_t epoch)
{
    const uint64_t period = chv_clock_time() / CHV_TICKET_PERIOD_SECONDS;
    return !chv_tickets_has(&w->tickets, use, epoch, period) || !chv_tickets_has(&w->tickets, use, epoch, period + 1);
}

static void on_keys(struct chv_keeper_ticket_ask *ask, const struct chv_keeper_ticket_answer *answer);

/* The next question of the round. Those of a use are one behind the other, by epoch. */
static void ask_on(struct chv_worker *w)
{
    struct chv_server_tickets *t = &w->ticket_keys;
    for (; t->next < CHV_TICKET_USES * w->config.epoch_count; t->next++) {
        const enum chv_ticket_use use = (enum chv_ticket_use)(t->next / w->config.epoch_count);
        const uint32_t epoch = w->config.epochs[t->next % w->config.epoch_count];
        if (!uses(w, use) || !lacks(w, use, epoch))
            continue;
        if (!chv_keeper_client_ticket(&w->keeper, &t->ask, use, epoch, on_keys))
            end_round(w, true);
        return;
    }
    end_round(w, false);
}

static void on_keys(struct chv_keeper_ticket_ask *ask, const struct chv_keeper_ticket_answer *answer)
{
    struct chv_worker *w = (struct chv_worker *)(void *)((char *)ask - offsetof(struct chv_worker, ticket_keys.ask));
    enum chv_err err = answer != NULL && answer->status == CHV_KEEPER_OK ? CHV_OK : CHV_ERR_UNAVAILABLE;
    for (unsigned i = 0; i < CHV_TICKET_PERIODS && err == CHV_OK; i++)
        err = chv_tickets_put(&w->tickets, ask->use, ask->epoch, answer->first_period + i, answer->keys[i]);
    if (err != CHV_OK) {
        end_round(w, true);
        return;
    }
    w->ticket_keys.next++;
    ask_on(w);
}

void chv_server_tickets_renew(struct chv_worker *w)
{
    struct chv_server_tickets *t = &w->ticket_keys;
    chv_tickets_expire(&w->tickets, chv_clock_time());
    for (unsigned use = 0; use < CHV_TICKET_USES; use++)
        if (!uses(w, (enum chv_ticket_use)use))
            chv_tickets_drop(&w->tickets, (enum chv_ticket_use)use);
    t->again = t->asking;
    if (t->asking)
        return;
    t->asking = true; /* a data side serves no epoch: the round is over at once, and it accepts */
    t->next = 0;
    t->period = chv_clock_time() / CHV_TICKET_PERIOD_SECONDS;
    if (!w->accepting)
        (void)uv_timer_start(&t->timer, on_timer, ACCEPT_MS, 0);
    ask_on(w);
}

void chv_server_tickets_set(struct chv_worker *w, const struct chv_ticket_keys *keys)
{
    chv_tickets_drop(&w->tickets, CHV_TICKET_DATA);
    for (size_t i = 0; i < keys->count; i++) {
        const struct chv_ticket_key *k = &keys->list[i];
        if (chv_tickets_put(&w->tickets, CHV_TICKET_DATA, k->epoch, k->period, k->key) != CHV_OK) {
            chv_log(CHV_LOG_ERROR, "no room for all ticket keys");
            return;
        }
    }
}

/* A machine that slept, or whose clock was set, is in another period before its timer is due. */
static void look_at_period(struct chv_worker *w)
{
    const struct chv_server_tickets *t = &w->ticket_keys;
    const uint64_t period = chv_clock_time() / CHV_TICKET_PERIOD_SECONDS;
    if (period != t->period && !t->asking && t->failures == 0)
        chv_server_tickets_renew(w);
}

enum chv_err chv_server_tickets_init(struct chv_worker *w)
{
    (void)uv_timer_init(&w->loop.uv, &w->ticket_keys.timer);
    w->ticket_keys.timer.data = w;
    uv_unref((uv_handle_t *)&w->ticket_keys.timer);
    return chv_tickets_init(&w->tickets, &w->loop.crypto);
}

void chv_server_tickets_close(struct chv_worker *w)
{
    chv_keeper_client_ticket_cancel(&w->keeper);
    uv_close((uv_handle_t *)&w->ticket_keys.timer, NULL);
}

/* --- a client that brings one -------------------------------------------------------------------------------------- */

static void refuse(struct chv_server_conn *c, const char *reason)
{
    c->refuse = CHV_REFUSE_TICKET;
    c->reason = reason;
    if (chv_conn_key_refuse(c->conn, c->refuse) != CHV_OK)
        chv_conn_abort(c->conn, CHV_ERR_STATE);
}

/* Profile key, and the allow-list does not have it: the registry says who has this key. */
static bool is_registrys(const struct chv_server_conn *c, const struct chv_ticket *ticket,
                         struct chv_identity *identity)
{
    if (ticket->profile != CHV_PROFILE_KEY || !chv_server_has_registry(&c->worker->config))
        return false;
    memset(identity, 0, sizeof *identity);
    identity->curve = ticket->curve;
    memcpy(identity->public_key, ticket->peer_public, ticket->peer_public_len);
    return chv_allowlist_find(c->worker->allowed, identity) == NULL;
}

/* On a data port: what the handshake port has granted holds, whoever said so there. */
static const char *take_rights(struct chv_server_conn *c, const struct chv_ticket *ticket)
{
    struct chv_identity identity;
    const bool registrys = !c->worker->config.data_only && is_registrys(c, ticket, &identity);
    return chv_server_granted(c, ticket, registrys) == CHV_OK ? NULL : "out of memory";
}

static const char *open_ticket(struct chv_server_conn *c, const struct chv_key_request *request,
                               struct chv_ticket *ticket)
{
    struct chv_worker *w = c->worker;
    struct chv_credential credential;
    const uint64_t now = chv_clock_time();
    const bool data = c->listener->kind == CHV_PORT_DATA;
    const enum chv_ticket_use use = data ? CHV_TICKET_DATA : CHV_TICKET_RESUMPTION;
    const char *why;
    if (!uses(w, use))
        return "tickets are off";
    look_at_period(w);
    if (chv_tickets_open(&w->tickets, use, request->ticket, request->ticket_len, now, ticket, &why) != CHV_OK)
        return why;
    if (data) /* judged a moment ago, on the handshake port */
        return take_rights(c, ticket);
    if (ticket->profile == CHV_PROFILE_KEY)
        return NULL; /* who has the key says until when */
    if (chv_credential_parse(ticket->credential, ticket->credential_len, &credential, NULL) != CHV_OK)
        return "the ticket's credential is malformed";
    c->verdict = chv_judge(w->config.epochs, w->config.epoch_count, w->config.max_lifetime, now, &credential);
    return c->verdict == CHV_KEEPER_EPOCH ? "the epoch of the ticket's credential is not served" : NULL;
}

static void answer(struct chv_server_conn *c, const struct chv_ticket *ticket)
{
    const bool key = ticket->profile == CHV_PROFILE_KEY;
    const struct chv_session_ticket answer = {.profile = ticket->profile,
                                              .suite = ticket->suite,
                                              .credential = key ? NULL : ticket->credential,
                                              .credential_len = ticket->credential_len,
                                              .peer_public = ticket->has_peer ? ticket->peer_public : NULL,
                                              .peer_public_len = ticket->peer_public_len,
                                              .lineage = ticket->lineage,
                                              .secret = ticket->secret,
                                              .server = c->worker->config.name};
    c->resumed = true;
    c->auth_time = ticket->auth_time;
    if (chv_conn_ticket_answer(c->conn, &answer) == CHV_ERR_ARGUMENT)
        chv_conn_abort(c->conn, CHV_ERR_ARGUMENT);
}

/* As in a full handshake. */
static bool asks_registry(struct chv_server_conn *c, const struct chv_ticket *ticket)
{
    struct chv_identity identity;
    if (c->granted != NULL || !is_registrys(c, ticket, &identity))
        return false;
    c->resumed = true;
    chv_server_registry_peer(c, &identity);
    return true;
}

void chv_server_ticket(struct chv_server_conn *c, const struct chv_key_request *request)
{
    struct chv_ticket ticket;
    const char *why = open_ticket(c, request, &ticket);
    if (why != NULL)
        refuse(c, why);
    else if (!asks_registry(c, &ticket))
        answer(c, &ticket);
    chv_wipe(&ticket, sizeof ticket);
}

void chv_server_ticket_known(struct chv_server_conn *c)
{
    struct chv_ticket ticket;
    struct chv_key_request request;
    const char *why = "the question is gone";
    if (chv_session_key_request(chv_conn_session(c->conn), &request) == CHV_OK && request.kind == CHV_KEY_TICKET)
        why = open_ticket(c, &request, &ticket);
    if (why != NULL)
        refuse(c, why);
    else
        answer(c, &ticket);
    chv_wipe(&ticket, sizeof ticket);
}

/* --- a client that would like some --------------------------------------------------------------------------------- */

static enum chv_err give(struct chv_server_conn *c, const struct chv_tickets_wish *wish)
{
    struct chv_grant grant;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    memset(&grant, 0, sizeof grant);
    enum chv_err err =
        chv_tickets_mint(&c->worker->tickets, CHV_TICKET_RESUMPTION, chv_conn_session(c->conn), wish, &grant);
    if (err == CHV_OK)
        err = chv_grant_encode(&grant, map, &len);
    return err == CHV_OK ? chv_conn_send(c->conn, CHV_RECORD_TICKET, map, len) : err;
}

void chv_server_tickets_give(struct chv_server_conn *c)
{
    struct chv_tickets_wish wish = {
        .now = chv_clock_time(), .auth_time = c->auth_time, .lifetime = CHV_TICKET_LIFE, .rights = c->client};
    enum chv_err err = c->tickets > 0 && uses(c->worker, CHV_TICKET_RESUMPTION) ? CHV_OK : CHV_ERR_UNAVAILABLE;
    if (err == CHV_OK)
        look_at_period(c->worker);
    for (unsigned i = 0; i < c->tickets && err == CHV_OK; i++) {
        wish.number = c->next_ticket++;
        err = give(c, &wish);
    }
    if (err != CHV_OK && err != CHV_ERR_UNAVAILABLE && err != CHV_ERR_SPACE) /* without those it does */
        chv_conn_end(c->conn, err);
}
