/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on-duplicate: a client that comes while another run of it is there.  Looked at once its OPEN has opened, the registry
 * has let it in and its rights are enough, so that only the holder of its key can stand in anybody's way; and nobody goes
 * before the new one's service is open.  The other one may be with another loop: the loops write letters to each other.
 */
#include "config.h"

#include "core/wire.h"
#include "net/server_internal.h"

#include <stdlib.h>
#include <string.h>

enum { RIVALS_MAX = 16, PONG_MS = 3000 };

/* Whom one that waits has asked whether they live. */
struct chv_server_rivals {
    uv_timer_t timer; /* first: freed when it is closed */
    struct chv_server_conn *conn;
    size_t count, gone;
    uint64_t numbers[RIVALS_MAX];
    struct chv_worker *workers[RIVALS_MAX];
};

static void post(struct chv_worker *w, struct chv_server_letter *letter)
{
    letter->next = NULL;
    pthread_mutex_lock(&w->mail.lock);
    *w->mail.last = letter;
    w->mail.last = &letter->next;
    pthread_mutex_unlock(&w->mail.lock);
    (void)uv_async_send(&w->wake);
}

/* Without memory it is not sent: then time decides. */
static void send_letter(const struct chv_server_conn *c, unsigned kind, struct chv_worker *w, uint64_t number)
{
    struct chv_server_letter *letter = calloc(1, sizeof *letter);
    if (letter == NULL)
        return;
    letter->kind = kind;
    letter->to = number;
    letter->from = chv_conn_id(c->conn);
    letter->from_worker = c->worker;
    memcpy(letter->id, c->client->id, sizeof letter->id);
    post(w, letter);
}

/* Sends back what came: whether its addressee lives. */
static void answer(struct chv_server_letter *letter, struct chv_worker *own, unsigned kind)
{
    struct chv_worker *to = letter->from_worker;
    const uint64_t number = letter->from;
    letter->kind = kind;
    letter->from = letter->to;
    letter->from_worker = own;
    letter->to = number;
    post(to, letter);
}

/* --- the new one -------------------------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void forget_rivals(struct chv_server_conn *c)
{
    if (c->rivals == NULL)
        return;
    c->rivals->conn = NULL;
    uv_close((uv_handle_t *)&c->rivals->timer, on_timer_closed);
    c->rivals = NULL;
}

static void nobody(void *arg, const struct chv_clients_member *other)
{
    (void)arg;
    (void)other;
}

/* A chv_clients_other_fn: the older run goes. */
static void evict(void *arg, const struct chv_clients_member *other)
{
    send_letter(arg, CHV_LETTER_EVICT, other->worker, other->number);
}

/* A chv_clients_other_fn. */
static void note_rival(void *arg, const struct chv_clients_member *other)
{
    struct chv_server_rivals *rivals = arg;
    if (rivals->count == RIVALS_MAX)
        return;
    rivals->numbers[rivals->count] = other->number;
    rivals->workers[rivals->count++] = other->worker;
}

static const char other_run[] = "another run of this client is connected";

/* Those that were asked have not answered: they go, unless somebody else has taken their place meanwhile. */
static void take_place(struct chv_server_conn *c)
{
    const struct chv_server_rivals *rivals = c->rivals; /* freed from the loop, later */
    enum chv_err err = chv_clients_join(&c->worker->server->clients, c->counted, &c->member, true, rivals->numbers,
                                        rivals->count, nobody, NULL);
    if (err != CHV_OK) {
        chv_server_cut(c, 409, other_run);
        return;
    }
    const bool open = chv_server_open_waiting(c);
    for (size_t i = 0; i < rivals->count && open; i++)
        send_letter(c, CHV_LETTER_EVICT, rivals->workers[i], rivals->numbers[i]);
    forget_rivals(c);
}

static void on_no_pong(uv_timer_t *timer)
{
    const struct chv_server_rivals *rivals = timer->data;
    take_place(rivals->conn);
}

static void ask_rivals(struct chv_server_conn *c, struct chv_server_rivals *rivals)
{
    rivals->conn = c;
    c->rivals = rivals;
    (void)uv_timer_init(&c->worker->loop.uv, &rivals->timer); /* cannot fail */
    rivals->timer.data = rivals;
    (void)uv_timer_start(&rivals->timer, on_no_pong, PONG_MS, 0);
    for (size_t i = 0; i < rivals->count; i++)
        send_letter(c, CHV_LETTER_PROBE, rivals->workers[i], rivals->numbers[i]);
}

void chv_server_duplicate_check(struct chv_server_conn *c)
{
    struct chv_clients *clients = &c->worker->server->clients;
    const enum chv_on_duplicate policy = c->worker->config.on_duplicate;
    c->member.worker = c->worker;
    c->member.number = chv_conn_id(c->conn);
    if (policy != CHV_DUPLICATE_REJECT) {
        if (!chv_server_open_waiting(c))
            return;
        enum chv_err err = chv_clients_join(clients, c->counted, &c->member, false, NULL, 0,
                                            policy == CHV_DUPLICATE_REPLACE ? evict : nobody, c);
        (void)err; /* cannot fail: it need not be alone */
        return;
    }
    struct chv_server_rivals *rivals = calloc(1, sizeof *rivals);
    if (rivals == NULL) {
        chv_server_cut(c, 503, "the server has no memory");
        return;
    }
    if (chv_clients_join(clients, c->counted, &c->member, true, NULL, 0, note_rival, rivals) == CHV_OK) {
        free(rivals);
        (void)chv_server_open_waiting(c);
        return;
    }
    ask_rivals(c, rivals);
}

/* One of those that were asked is no more; when all are, nobody is waited for. */
static void on_gone(struct chv_server_conn *c)
{
    if (++c->rivals->gone == c->rivals->count)
        take_place(c);
}

/* --- the old one -------------------------------------------------------------------------------------------------- */

/* False: it is as good as gone. */
static bool probe(struct chv_server_conn *c, struct chv_server_letter *letter)
{
    if (c->stage != CHV_STAGE_OPEN || chv_conn_send(c->conn, CHV_RECORD_PING, NULL, 0) != CHV_OK)
        return false;
    letter->next = c->probes;
    c->probes = letter;
    return true;
}

static void answer_probes(struct chv_server_conn *c, unsigned kind)
{
    while (c->probes != NULL) {
        struct chv_server_letter *letter = c->probes;
        c->probes = letter->next;
        answer(letter, c->worker, kind);
    }
}

void chv_server_duplicate_pong(struct chv_server_conn *c)
{
    answer_probes(c, CHV_LETTER_ALIVE);
}

void chv_server_duplicate_forget(struct chv_server_conn *c)
{
    forget_rivals(c);
    answer_probes(c, CHV_LETTER_GONE);
    chv_clients_leave(&c->worker->server->clients, &c->member);
}

/* --- letters ------------------------------------------------------------------------------------------------------ */

/* Takes the letter. */
static void on_letter(struct chv_worker *w, struct chv_server_letter *letter)
{
    struct chv_server_conn *c = chv_server_registry_find(w, letter->id, letter->to);
    if (letter->kind == CHV_LETTER_PROBE) {
        if (c == NULL || !probe(c, letter))
            answer(letter, w, CHV_LETTER_GONE);
        return;
    }
    if (c != NULL && letter->kind == CHV_LETTER_EVICT && c->stage == CHV_STAGE_OPEN)
        chv_server_cut(c, 409, "another run of this client has taken the place of this one");
    else if (c != NULL && letter->kind == CHV_LETTER_ALIVE && c->rivals != NULL)
        chv_server_cut(c, 409, other_run);
    else if (c != NULL && letter->kind == CHV_LETTER_GONE && c->rivals != NULL)
        on_gone(c);
    free(letter);
}

void chv_server_duplicate_letters(struct chv_worker *w, struct chv_server_letter *letters)
{
    while (letters != NULL) {
        struct chv_server_letter *letter = letters;
        letters = letter->next;
        on_letter(w, letter);
    }
}
