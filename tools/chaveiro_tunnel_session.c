/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sessions of chaveiro tunnel, one for each local connection: who is next, with a ticket if there is one, which key,
 * and what is done when the server is away.
 *
 * The key and the keystore that it is in are the same for all and change only while no handshake is under way: until a key
 * has been good for one, there is one at a time. After that resumed ones go as they come; full ones, for which the keystore
 * may take its time and stops everything else meanwhile, are few.
 */
#include "tools/chaveiro_tunnel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/memory.h"

enum {
    GRACE_MS = 1000, /* for tickets to come; not shorter than the way to a far server and back */
    ATTEMPT_STEPS = 5,
    REREAD_MS = 60000 /* the keystore, for those whom the server refuses by name */
};

/* --- the queue ---------------------------------------------------------------------------------------------------- */

static void enqueue(struct tunnel_local *local, bool first)
{
    struct tunnel_local **at = &local->door->waiting;
    while (!first && *at != NULL)
        at = &(*at)->after;
    local->after = *at;
    *at = local;
    local->queued = true;
}

static void dequeue(struct tunnel_local *local)
{
    struct tunnel_local **at = &local->door->waiting;
    while (*at != local)
        at = &(*at)->after;
    *at = local->after;
    local->queued = false;
}

static unsigned stock(const struct tunnel_door *door)
{
    struct chv_ticket_store *tickets = door->link->key.tickets;
    return tickets != NULL ? chv_ticket_store_count(tickets, chv_ticket_now()) : 0;
}

/* --- which key ---------------------------------------------------------------------------------------------------- */

static bool has_current_key(const struct tunnel_local *local)
{
    const struct chv_client_key *key = &local->door->link->key;
    return local->key.parsed.epoch == key->parsed.epoch && local->key.parsed.serial == key->parsed.serial;
}

/* The server has proven to know the key: what is still to come is its word on OPEN, when the target has answered. */
static bool is_established(const struct tunnel_local *local)
{
    struct chv_session_info info = {.h_fin = NULL};
    const struct chv_session *session = chv_conn_session(chv_message_conn(local->message));
    return session != NULL && chv_session_get_info(session, &info) == CHV_OK && info.h_fin != NULL;
}

static void there(struct tunnel_door *door)
{
    if (!door->proven)
        (void)uv_timer_stop(&door->grace); /* it begins now */
    door->proven = true;
    door->attempt = 0;
    tunnel_tell_back(door);
}

/* Handshakes in the strict sense, for which the keystore may still be needed; *full of them have no ticket. */
static unsigned under_way(struct tunnel_door *door, unsigned *full)
{
    unsigned count = 0;
    *full = 0;
    for (const struct tunnel_local *local = door->locals; local != NULL; local = local->next) {
        if (local->message == NULL || local->ready)
            continue;
        if (!is_established(local)) {
            count++;
            *full += local->full;
        } else if (has_current_key(local) && !local->dropped) {
            there(door);
        }
    }
    return count;
}

/* Whether the first one that waits may begin: true, or it waits for a ticket or for another handshake's end. */
static bool may_begin(struct tunnel_door *door, unsigned count, unsigned full)
{
    if (!door->proven || door->lost)
        return count == 0;
    if (stock(door) > 0) {
        door->gives = TUNNEL_GIVES;
        door->fresh = door->impatient = false;
        return true;
    }
    if (door->gives == TUNNEL_GIVES_NONE || door->impatient || (door->handshakes == 0 && !door->fresh))
        return full < TUNNEL_FULL;
    return false; /* tickets are on their way */
}

static void refuse(struct tunnel_local *local, unsigned code, const char *text)
{
    tunnel_tell_refused(local, code, text);
    tunnel_local_drop(local);
}

/* Another key, if there is one, for those that wait: false if the server knows none of them. */
static bool change_key(struct tunnel_door *door)
{
    struct chaveiro_link *link = door->link;
    if (door->doubt == TUNNEL_UNPROVEN && chaveiro_update_fall_back(link)) {
        door->doubt = TUNNEL_NO_DOUBT;
        return true;
    }
    if (chaveiro_update_catch_up(link)) {
        door->doubt = TUNNEL_NO_DOUBT;
        door->proven = false;
        door->first = link->key;
        return true;
    }
    link->key = door->first;
    return false;
}

/* Another session, or another run, has stored a new key. */
static void take_stored(struct tunnel_door *door)
{
    door->stored = false;
    door->link->caught_up = false;
    if (chaveiro_update_catch_up(door->link)) {
        door->proven = false;
        door->first = door->link->key;
    }
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

/* A local connection that is gone already needs no session. */
static bool is_gone(const struct tunnel_local *local)
{
    struct pollfd fd = {.fd = local->fd};
    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}

static void begin(struct tunnel_local *local)
{
    struct tunnel_door *door = local->door;
    struct chaveiro_link *link = door->link;
    struct chv_why why = {""};
    dequeue(local);
    if (is_gone(local)) {
        tunnel_local_drop(local);
        return;
    }
    local->key = link->key;
    local->full = stock(door) == 0;
    enum chv_err err = chv_message_connect(&link->loop, link->address, &local->key, &local->entry->events, local,
                                           &local->message, &why);
    if (err != CHV_OK) {
        refuse(local, 0, why.text[0] != '\0' ? why.text : chv_err_text(err));
        return;
    }
    door->handshakes++;
}

static void on_check(uv_check_t *check)
{
    tunnel_session_next(check->data);
}

/* Who waits for a ticket looks whether one has come, each time that the loop turns, and not for ever. */
static void on_grace(uv_timer_t *timer)
{
    struct tunnel_door *door = timer->data;
    if (door->fresh && stock(door) == 0)
        door->gives = TUNNEL_GIVES_NONE;
    door->fresh = false;
    door->impatient = door->proven;
    tunnel_session_next(door);
}

static void wait_for_ticket(struct tunnel_door *door)
{
    const bool waits = door->waiting != NULL && door->handshakes + door->fresh > 0 && !door->stopping;
    if (!waits) {
        (void)uv_check_stop(&door->check);
        (void)uv_timer_stop(&door->grace);
        return;
    }
    (void)uv_check_start(&door->check, on_check);
    if (!uv_is_active((uv_handle_t *)&door->grace))
        (void)uv_timer_start(&door->grace, on_grace, GRACE_MS, 0);
}

void tunnel_session_next(struct tunnel_door *door)
{
    while (door->waiting != NULL && !door->stopping && !uv_is_active((uv_handle_t *)&door->retry)) {
        struct tunnel_local *local = door->waiting;
        unsigned full;
        const unsigned count = under_way(door, &full);
        if ((door->stored || door->doubt != TUNNEL_NO_DOUBT) && count > 0)
            break;
        if (door->doubt != TUNNEL_NO_DOUBT && !change_key(door)) {
            tunnel_tell_unknown(local);
            door->doubt = TUNNEL_NO_DOUBT;
            tunnel_local_drop(local);
            continue;
        }
        if (door->stored)
            take_stored(door);
        if (!may_begin(door, count, full))
            break;
        begin(local);
    }
    wait_for_ticket(door);
}

/* --- what the server sends ---------------------------------------------------------------------------------------- */

static bool on_update(struct chv_message *message, const uint8_t *body, size_t len)
{
    struct tunnel_local *local = chv_message_owner(message);
    const bool stored = chaveiro_update_of(local->door->link, message, &local->key, body, len);
    local->door->stored = local->door->stored || stored;
    return stored;
}

static void on_ready(struct chv_message *message)
{
    struct tunnel_local *local = chv_message_owner(message);
    struct tunnel_door *door = local->door;
    door->handshakes--;
    local->resumed = chv_message_resumed(message);
    door->fresh = true;
    door->impatient = false;
    door->link->caught_up = false;
    local->entry->told = 0;
    if (has_current_key(local)) {
        there(door);
        door->first = door->link->key;
        if (!local->resumed)
            chaveiro_update_proven(door->link);
    }
    tunnel_local_open(local);
    tunnel_session_next(door);
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

/* What a moment later may be better: the server is away, or too busy. */
static bool may_pass(enum chv_err err, unsigned refusal, unsigned status)
{
    if (refusal != 0)
        return refusal == CHV_REFUSE_RATE || refusal == CHV_REFUSE_UNAVAILABLE;
    if (err == CHV_ERR_REFUSED)
        return status == 503;
    return err != CHV_ERR_PROTOCOL && err != CHV_ERR_MALFORMED && err != CHV_ERR_MEMORY && err != CHV_ERR_AUTH;
}

static void on_retry(uv_timer_t *timer)
{
    tunnel_session_next(timer->data);
}

static void try_later(struct tunnel_door *door, const char *text)
{
    const unsigned attempt = ++door->attempt;
    tunnel_tell_lost(door, text);
    if (!uv_is_active((uv_handle_t *)&door->retry))
        (void)uv_timer_start(&door->retry, on_retry,
                             chaveiro_backoff(door->link, attempt < ATTEMPT_STEPS ? attempt : ATTEMPT_STEPS), 0);
}

static void doubt(struct tunnel_local *local, enum tunnel_doubt why, unsigned refusal, const char *text)
{
    struct tunnel_door *door = local->door;
    door->doubt = why;
    door->doubt_refusal = refusal;
    (void)snprintf(door->doubt_text, sizeof door->doubt_text, "%s", text);
    enqueue(local, true);
}

/* A handshake that has come to nothing. */
static void failed(struct tunnel_local *local, enum chv_err err, const char *text, unsigned refusal, unsigned status,
                   bool unproven)
{
    struct tunnel_door *door = local->door;
    if (local->dropped) {
        tunnel_local_drop(local); /* nothing is left of it but its memory */
    } else if (unproven || refusal == CHV_REFUSE_UNKNOWN_KEY) {
        doubt(local, unproven ? TUNNEL_UNPROVEN : TUNNEL_UNKNOWN, refusal, text);
        door->proven = false;
    } else if (status == CHV_REFUSE_UNKNOWN_KEY && uv_now(&door->link->loop.uv) >= door->reread) {
        door->reread = uv_now(&door->link->loop.uv) + REREAD_MS;
        door->link->caught_up = false;
        doubt(local, TUNNEL_REFUSED, 0, text); /* a newer one may be there, by another run */
    } else if (may_pass(err, refusal, status)) {
        enqueue(local, true);
        try_later(door, text);
    } else {
        tunnel_tell_refused(local, refusal != 0 ? refusal : status, text);
        tunnel_local_drop(local);
    }
}

static void on_closed(struct chv_message *message, enum chv_err err, const char *text)
{
    struct tunnel_local *local = chv_message_owner(message);
    struct tunnel_door *door = local->door;
    const bool unproven = chv_message_unproven(message, err);
    const unsigned refusal = chv_message_refusal(message), status = chv_message_status(message);
    local->message = NULL;
    if (local->ready) {
        tunnel_local_ended(local, err, text, status);
    } else {
        door->handshakes--;
        failed(local, err, text, refusal, status, unproven);
    }
    tunnel_session_next(door);
}

static const struct chv_message_events session_events = {
    .service = "tunnel",
    .record = tunnel_local_record,
    .batch = tunnel_local_batch,
    .drained = tunnel_local_drained,
    .ready = on_ready,
    .update = on_update,
    .closed = on_closed,
};

/* --- from outside ------------------------------------------------------------------------------------------------- */

/* Of the one that has waited longest. */
static void arm_due(struct tunnel_door *door);

static void on_due(uv_timer_t *timer)
{
    struct tunnel_door *door = timer->data;
    const uint64_t now = uv_now(&door->link->loop.uv);
    for (struct tunnel_local *local = door->locals, *next; local != NULL; local = next) {
        struct chv_session_info info = {.h_fin = NULL};
        next = local->next;
        if (local->ready || local->dropped || local->until > now)
            continue;
        struct chv_session *session =
            local->message != NULL ? chv_conn_session(chv_message_conn(local->message)) : NULL;
        const bool there = session != NULL && chv_session_get_info(session, &info) == CHV_OK && info.h_fin != NULL;
        if (local->message != NULL && !there)
            try_later(door, "no answer");
        tunnel_tell_late(local, there);
        tunnel_local_drop(local);
    }
    arm_due(door);
    tunnel_session_next(door);
}

static void arm_due(struct tunnel_door *door)
{
    const uint64_t now = uv_now(&door->link->loop.uv);
    uint64_t first = UINT64_MAX;
    for (const struct tunnel_local *local = door->locals; local != NULL; local = local->next)
        if (!local->ready && !local->dropped && local->until < first)
            first = local->until;
    if (first == UINT64_MAX)
        (void)uv_timer_stop(&door->due);
    else
        (void)uv_timer_start(&door->due, on_due, first > now ? first - now : 0, 0);
}

void tunnel_session_queue(struct tunnel_local *local)
{
    struct tunnel_door *door = local->door;
    local->until = uv_now(&door->link->loop.uv) + door->link->timeout;
    enqueue(local, false);
    if (!uv_is_active((uv_handle_t *)&door->due))
        arm_due(door);
    tunnel_session_next(door);
}

void tunnel_session_forget(struct tunnel_local *local)
{
    if (local->queued)
        dequeue(local);
}

void tunnel_session_start(struct tunnel_door *door)
{
    uv_loop_t *loop = &door->link->loop.uv;
    uv_timer_t *timers[] = {&door->retry, &door->grace, &door->due};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        (void)uv_timer_init(loop, timers[i]);
        timers[i]->data = door;
    }
    (void)uv_check_init(loop, &door->check);
    door->check.data = door;
    door->first = door->link->key;
    door->gives = door->link->key.tickets != NULL ? TUNNEL_MAY_GIVE : TUNNEL_GIVES_NONE;
    for (size_t i = 0; i < door->entry_count; i++) {
        door->entries[i].events = session_events;
        door->entries[i].events.tunnel = door->entries[i].config->name;
    }
}

void tunnel_session_stop(struct tunnel_door *door)
{
    uv_close((uv_handle_t *)&door->retry, NULL);
    uv_close((uv_handle_t *)&door->grace, NULL);
    uv_close((uv_handle_t *)&door->due, NULL);
    uv_close((uv_handle_t *)&door->check, NULL);
}
