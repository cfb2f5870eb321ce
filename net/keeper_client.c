/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_client.h"

#include "base/memory.h"
#include "net/child_watch.h"
#include "net/keeper_update.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert((CHV_KEEPER_OUTSTANDING & (CHV_KEEPER_OUTSTANDING - 1)) == 0, "the low bits of a tag are its slot");
_Static_assert(offsetof(struct chv_keeper_ask, entry) == 0, "an entry is its ask");

enum { TIMER_MS = 200, TELL_MS = 1000 };

static void refuse(struct chv_keeper_client *client, struct chv_keeper_ask *ask, unsigned code, const char *reason)
{
    client->events->refused(ask->conn, code, reason);
    if (chv_conn_key_refuse(ask->conn, code) != CHV_OK)
        chv_conn_abort(ask->conn, CHV_ERR_UNAVAILABLE);
}

static bool asks_dh(const struct chv_keeper_ask *ask)
{
    struct chv_key_request question;
    return chv_session_key_request(chv_conn_session(ask->conn), &question) == CHV_OK && question.kind == CHV_KEY_DH;
}

static void take_answer(struct chv_keeper_client *client, struct chv_keeper_answer *answer)
{
    struct chv_keeper_slot *slot = &client->slots[answer->tag % CHV_KEEPER_OUTSTANDING];
    if (!slot->used || slot->tag != answer->tag)
        return;
    struct chv_keeper_ask *ask = slot->ask;
    *slot = (struct chv_keeper_slot){.used = false};
    client->outstanding--;
    if (ask == NULL)
        return;
    ask->slot = 0;
    if (answer->status == CHV_KEEPER_MALFORMED && asks_dh(ask)) {
        refuse(client, ask, CHV_REFUSE_MALFORMED, "a public key in the hello is no valid point");
    } else if (answer->status == CHV_KEEPER_MALFORMED) {
        refuse(client, ask, CHV_REFUSE_UNAVAILABLE, "the keeper does not take this credential");
    } else if (answer->status != CHV_KEEPER_OK) {
        refuse(client, ask, CHV_REFUSE_UNAVAILABLE, "the keeper cannot answer (its log says why)");
    } else {
        client->events->verdict(ask->conn, (enum chv_keeper_verdict)answer->verdict);
        enum chv_err err = chv_conn_key_answer(ask->conn, answer->psk);
        (void)err; /* a failure ends the connection, which `closed` tells */
    }
}

static void lose(struct chv_keeper_client *client)
{
    chv_keeper_client_connect(client, -1);
    client->events->lost(client);
}

static void flush(struct chv_keeper_client *client);

static void on_answers(uv_poll_t *poll, int status, int events)
{
    struct chv_keeper_client *client = poll->data;
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    if (status == 0 && (events & UV_WRITABLE) != 0) {
        (void)uv_poll_start(poll, UV_READABLE, on_answers);
        flush(client);
        if (client->poll != poll)
            return;
    }
    if (status == 0 && (events & UV_READABLE) == 0)
        return;
    ssize_t n = status == 0 ? recv(client->fd, answers, sizeof answers, MSG_DONTWAIT) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == (ssize_t)sizeof(struct chv_keeper_update_answer)) {
        chv_keeper_client_update_answer(client, answers);
        flush(client);
        return;
    }
    if (n == (ssize_t)sizeof(struct chv_keeper_receipt_answer)) {
        chv_keeper_client_receipt_answer(client, answers);
        flush(client);
        return;
    }
    if (n == (ssize_t)sizeof(struct chv_keeper_ticket_answer)) {
        chv_keeper_client_ticket_answer(client, answers);
        chv_wipe(answers, (size_t)n);
        flush(client);
        return;
    }
    if (n <= 0 || (size_t)n % sizeof answers[0] != 0) {
        if (n > 0)
            chv_wipe(answers, (size_t)n);
        lose(client);
        return;
    }
    for (size_t i = 0; i < (size_t)n / sizeof answers[0]; i++)
        take_answer(client, &answers[i]);
    chv_wipe(answers, sizeof answers);
}

static bool fill_request(struct chv_keeper_ask *ask, uint64_t tag, struct chv_keeper_request *request)
{
    struct chv_key_request question;
    if (chv_session_key_request(chv_conn_session(ask->conn), &question) != CHV_OK)
        return false;
    *request = (struct chv_keeper_request){.tag = tag, .profile = (uint8_t)question.profile};
    if (question.kind == CHV_KEY_DH && question.peer_public_len <= sizeof request->point) {
        request->kind = CHV_KEEPER_DH;
        request->curve = (uint8_t)question.curve;
        request->point_len = (uint16_t)question.peer_public_len;
        memcpy(request->point, question.peer_public, question.peer_public_len);
        return true;
    }
    if (question.kind != CHV_KEY_PSK || question.credential_len > sizeof request->credential ||
        question.h_psk_len > sizeof request->h_psk)
        return false;
    request->kind = CHV_KEEPER_PSK;
    request->h_psk_len = (uint8_t)question.h_psk_len;
    request->credential_len = (uint16_t)question.credential_len;
    memcpy(request->credential, question.credential, question.credential_len);
    memcpy(request->h_psk, question.h_psk, question.h_psk_len);
    return true;
}

static size_t free_slot(const struct chv_keeper_client *client)
{
    size_t i = 0;
    while (client->slots[i].used)
        i++;
    return i;
}

/* Takes up to a packet of questions out of the queue. */
static size_t fill_packet(struct chv_keeper_client *client)
{
    size_t n = 0;
    while (n < CHV_KEEPER_BATCH && client->outstanding < CHV_KEEPER_OUTSTANDING) {
        struct chv_keeper_ask *ask = (struct chv_keeper_ask *)(void *)chv_keyqueue_pop(&client->queue);
        if (ask == NULL)
            break;
        size_t i = free_slot(client);
        uint64_t tag = ++client->round * CHV_KEEPER_OUTSTANDING + i;
        if (!fill_request(ask, tag, &client->packet[n])) {
            chv_conn_abort(ask->conn, CHV_ERR_STATE);
            continue;
        }
        client->slots[i] = (struct chv_keeper_slot){.used = true, .tag = tag, .sent = uv_now(client->loop), .ask = ask};
        ask->slot = (unsigned)i + 1;
        client->outstanding++;
        n++;
    }
    return n;
}

/* False: the packet stays, and the socket or the timer tells when to try again; or the socket is lost. */
static bool send_packet(struct chv_keeper_client *client)
{
    if (send(client->fd, client->packet, client->packet_count * sizeof client->packet[0],
             MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == EINTR)
        (void)uv_poll_start(client->poll, UV_READABLE | UV_WRITABLE, on_answers);
    else if (errno == ENOBUFS || errno == ENOMEM)
        chv_keeper_client_start_timer(client);
    else
        lose(client);
    return false;
}

static void flush(struct chv_keeper_client *client)
{
    while (client->poll != NULL) {
        if (client->packet_count == 0 && client->queue.count > 0)
            client->packet_count = fill_packet(client);
        if (client->packet_count == 0)
            break;
        if (!send_packet(client))
            return;
        size_t n = client->packet_count;
        client->packet_count = 0;
        for (size_t i = 0; i < n; i++) {
            const struct chv_keeper_ask *ask = client->slots[client->packet[i].tag % CHV_KEEPER_OUTSTANDING].ask;
            if (ask == NULL)
                continue;
            enum chv_err err = chv_conn_precompute(ask->conn);
            (void)err; /* sticky: the answer will find it */
        }
    }
    chv_keeper_client_ticket_flush(client);
    chv_keeper_client_receipt_flush(client);
    if (client->queue.count == 0)
        chv_keeper_client_update_flush(client);
}

static void on_turn(uv_check_t *handle)
{
    struct chv_keeper_client *client = handle->data;
    if (client->packet_count == 0)
        flush(client);
}

/* Their slots stay taken: the keeper may answer yet, and is not to get more than it can. */
static void expire_sent(struct chv_keeper_client *client, uint64_t now)
{
    bool silent = false;
    for (size_t i = 0; i < CHV_KEEPER_OUTSTANDING; i++) {
        struct chv_keeper_slot *slot = &client->slots[i];
        struct chv_keeper_ask *ask = slot->ask;
        silent |= slot->used && now - slot->sent >= CHV_KEEPER_SILENT_MS;
        if (ask == NULL || ask->entry.deadline > now)
            continue;
        slot->ask = NULL;
        ask->slot = 0;
        refuse(client, ask, CHV_REFUSE_UNAVAILABLE, "the keeper does not answer");
    }
    silent |= client->tickets.out && now - client->tickets.since >= CHV_KEEPER_SILENT_MS;
    silent |= client->receipts.out && now - client->receipts.sent >= CHV_KEEPER_SILENT_MS;
    if (silent && now - client->told >= TELL_MS) {
        client->told = now;
        client->events->silent(client);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct chv_keeper_client *client = timer->data;
    struct chv_keyqueue_entry *entry;
    while ((entry = chv_keyqueue_expire(&client->queue, uv_now(client->loop))) != NULL)
        refuse(client, (struct chv_keeper_ask *)(void *)entry, CHV_REFUSE_UNAVAILABLE,
               "the keeper did not answer in time");
    expire_sent(client, uv_now(client->loop));
    chv_keeper_client_update_expire(client, uv_now(client->loop));
    chv_keeper_client_receipt_expire(client, uv_now(client->loop));
    chv_keeper_client_ticket_expire(client, uv_now(client->loop));
    flush(client);
    if (client->queue.count == 0 && client->packet_count == 0 && client->outstanding == 0 &&
        client->updates.first == NULL && client->updates.sent == NULL && client->receipts.first == NULL &&
        !client->receipts.out && client->tickets.ask == NULL && !client->tickets.out)
        (void)uv_timer_stop(timer);
}

void chv_keeper_client_start_timer(struct chv_keeper_client *client)
{
    if (uv_is_active((uv_handle_t *)&client->timer) == 0)
        (void)uv_timer_start(&client->timer, on_timer, TIMER_MS, TIMER_MS);
}

enum chv_err chv_keeper_client_init(struct chv_keeper_client *client, uv_loop_t *loop, size_t capacity, uint64_t seed,
                                    const struct chv_keeper_events *events)
{
    *client = (struct chv_keeper_client){.loop = loop,
                                         .fd = -1,
                                         .wait_ms = 5000,
                                         .receipt_ms = CHV_KEEPER_RECEIPT_MS,
                                         .ticket_ms = CHV_KEEPER_TICKET_MS,
                                         .events = events};
    client->packet = calloc(CHV_KEEPER_BATCH, sizeof *client->packet);
    if (client->packet == NULL || chv_keyqueue_init(&client->queue, capacity, seed) != CHV_OK) {
        free(client->packet);
        return CHV_ERR_MEMORY;
    }
    (void)uv_check_init(loop, &client->turn);
    (void)uv_check_start(&client->turn, on_turn);
    client->turn.data = client;
    uv_unref((uv_handle_t *)&client->turn);
    (void)uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    uv_unref((uv_handle_t *)&client->timer);
    return CHV_OK;
}

static void disconnect(struct chv_keeper_client *client)
{
    chv_child_unwatch(client->poll, client->fd);
    client->poll = NULL;
    client->fd = -1;
}

void chv_keeper_client_close(struct chv_keeper_client *client)
{
    disconnect(client);
    uv_close((uv_handle_t *)&client->turn, NULL);
    uv_close((uv_handle_t *)&client->timer, NULL);
}

void chv_keeper_client_free(struct chv_keeper_client *client)
{
    chv_keyqueue_free(&client->queue);
    free(client->packet);
    client->packet = NULL;
}

void chv_keeper_client_connect(struct chv_keeper_client *client, int fd)
{
    static const char gone[] = "the keeper is gone";
    disconnect(client);
    for (size_t i = 0; i < CHV_KEEPER_OUTSTANDING; i++) {
        struct chv_keeper_ask *ask = client->slots[i].ask;
        client->slots[i] = (struct chv_keeper_slot){.used = false};
        if (ask != NULL) {
            ask->slot = 0;
            refuse(client, ask, CHV_REFUSE_UNAVAILABLE, gone);
        }
    }
    client->outstanding = 0;
    client->packet_count = 0;
    chv_keeper_client_update_drop(client);
    chv_keeper_client_receipt_drop(client);
    chv_keeper_client_ticket_drop(client);
    client->poll = fd >= 0 ? chv_child_watch(client->loop, fd, on_answers, client) : NULL;
    client->fd = client->poll != NULL ? fd : -1;
    struct chv_keyqueue_entry *entry;
    while (client->poll == NULL && (entry = chv_keyqueue_pop(&client->queue)) != NULL)
        refuse(client, (struct chv_keeper_ask *)(void *)entry, CHV_REFUSE_UNAVAILABLE, gone);
}

void chv_keeper_client_ask(struct chv_keeper_client *client, struct chv_keeper_ask *ask, struct chv_conn *conn,
                           uint64_t source)
{
    uint64_t now = uv_now(client->loop);
    ask->conn = conn;
    if (client->poll == NULL) {
        refuse(client, ask, CHV_REFUSE_UNAVAILABLE, "the keeper is not there");
        return;
    }
    enum chv_err err = chv_keyqueue_push(&client->queue, &ask->entry, source, now, now + client->wait_ms);
    if (err == CHV_ERR_BUSY && client->outstanding < CHV_KEEPER_OUTSTANDING) {
        flush(client); /* a short queue, and many that came in one turn */
        err = client->poll != NULL ? chv_keyqueue_push(&client->queue, &ask->entry, source, now, now + client->wait_ms)
                                   : err;
    }
    if (err != CHV_OK) {
        refuse(client, ask, CHV_REFUSE_RATE, "too many handshakes wait for the keeper");
        return;
    }
    chv_keeper_client_start_timer(client);
}

void chv_keeper_client_cancel(struct chv_keeper_client *client, struct chv_keeper_ask *ask)
{
    chv_keyqueue_cancel(&client->queue, &ask->entry);
    if (ask->slot > 0)
        client->slots[ask->slot - 1].ask = NULL;
    ask->slot = 0;
}
