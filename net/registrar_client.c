/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/registrar_client.h"

#include "net/child_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert((CHV_REGISTRAR_OUTSTANDING & (CHV_REGISTRAR_OUTSTANDING - 1)) == 0,
               "the low bits of a tag are its slot");
_Static_assert((size_t)CHV_REGISTRAR_OUTSTANDING <= (size_t)CHV_REGISTRAR_BATCH, "all that may be out fit a packet");

enum { TIMER_MS = 200, TELL_MS = 1000 };

struct chv_registrar_ask {
    struct chv_registrar_queue *queue;
    struct chv_registrar_ask *prev, *next; /* while it waits */
    unsigned slot;                         /* + 1; 0: it waits */
    uint64_t deadline;
    chv_registrar_answer_fn answered;
    void *owner;
    struct chv_registrar_request request;
};

static void unlink_waiting(struct chv_registrar_ask *ask)
{
    struct chv_registrar_queue *queue = ask->queue;
    *(ask == queue->first ? &queue->first : &ask->prev->next) = ask->next;
    *(ask == queue->last ? &queue->last : &ask->next->prev) = ask->prev;
    queue->waiting--;
}

/* The first that waits, of which there is one. */
static struct chv_registrar_ask *take_first(struct chv_registrar_queue *queue)
{
    struct chv_registrar_ask *ask = queue->first;
    queue->first = ask->next;
    *(queue->first != NULL ? &queue->first->prev : &queue->last) = NULL;
    queue->waiting--;
    return ask;
}

/* The owner may ask anew at once. */
static void finish(struct chv_registrar_ask *ask, const struct chv_registrar_answer *answer)
{
    chv_registrar_answer_fn answered = ask->answered;
    void *owner = ask->owner;
    free(ask);
    answered(owner, answer);
}

/* The first that waits gets no answer. */
static void drop_first(struct chv_registrar_queue *queue)
{
    finish(take_first(queue), NULL);
}

static void lose(struct chv_registrar_client *client)
{
    chv_registrar_client_connect(client, -1);
    client->events->lost(client);
}

static void on_ready(uv_poll_t *poll, int status, int events);

/* Whose first is to be sent next, NULL: nobody's, or there is no room. */
static struct chv_registrar_queue *next_queue(struct chv_registrar_client *client)
{
    if (client->poll == NULL || client->proven.outstanding + client->strangers.outstanding == CHV_REGISTRAR_OUTSTANDING)
        return NULL;
    if (client->proven.first != NULL)
        return &client->proven;
    return client->strangers.first != NULL && client->strangers.outstanding < CHV_REGISTRAR_STRANGERS
               ? &client->strangers
               : NULL;
}

/* Gives slots to what there is room for. */
static void fill_packet(struct chv_registrar_client *client)
{
    struct chv_registrar_queue *queue;
    while ((queue = next_queue(client)) != NULL) {
        struct chv_registrar_ask *ask = take_first(queue);
        unsigned slot = 0;
        while (client->slots[slot].tag != 0)
            slot++;
        ask->slot = slot + 1;
        ask->request.tag = ++client->round * CHV_REGISTRAR_OUTSTANDING + slot;
        client->slots[slot].tag = ask->request.tag;
        client->slots[slot].sent = uv_now(client->loop);
        client->slots[slot].queue = queue;
        client->slots[slot].ask = ask;
        queue->outstanding++;
        client->packet[client->packet_count++] = ask->request;
    }
}

/* All that there is room for; a packet that the socket does not take stays. */
static void flush(struct chv_registrar_client *client)
{
    if (client->packet_count == 0)
        fill_packet(client);
    while (client->packet_count > 0) {
        if (send(client->fd, client->packet, client->packet_count * sizeof client->packet[0],
                 MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN)
                (void)uv_poll_start(client->poll, UV_READABLE | UV_WRITABLE, on_ready);
            return; /* else the timer tries again, or reading finds that the socket is lost */
        }
        client->packet_count = 0;
        fill_packet(client);
    }
}

static void take_answer(struct chv_registrar_client *client, const struct chv_registrar_answer *answer)
{
    if (answer->status == CHV_REGISTRAR_CHANGED) {
        client->events->changed(client, answer->id[0] != '\0' ? answer->id : NULL);
        return;
    }
    const size_t slot = answer->tag % CHV_REGISTRAR_OUTSTANDING;
    struct chv_registrar_ask *ask = client->slots[slot].ask;
    if (answer->tag == 0 || client->slots[slot].tag != answer->tag)
        return;
    client->slots[slot].tag = 0;
    client->slots[slot].ask = NULL;
    client->slots[slot].queue->outstanding--;
    if (ask != NULL)
        finish(ask, answer);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct chv_registrar_client *client = poll->data;
    struct chv_registrar_answer answer;
    if (status == 0 && (events & UV_WRITABLE) != 0)
        (void)uv_poll_start(poll, UV_READABLE, on_ready);
    const ssize_t n = status == 0 ? recv(client->fd, client->answers, sizeof client->answers, MSG_DONTWAIT) : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        lose(client);
        return;
    }
    for (size_t at = 0, size; client->poll == poll && n > 0 && at < (size_t)n; at += size) {
        size = chv_registrar_answer_take(client->answers + at, (size_t)n - at, &answer);
        if (size == 0) {
            lose(client);
            return;
        }
        take_answer(client, &answer);
    }
    flush(client);
}

static void expire_waiting(struct chv_registrar_queue *queue, uint64_t now)
{
    while (queue->first != NULL && queue->first->deadline <= now)
        drop_first(queue);
}

/* Their slots stay taken: the registrar may answer yet, and is not to be asked more than it can. */
static void expire_sent(struct chv_registrar_client *client, uint64_t now)
{
    bool silent = false;
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING; i++) {
        struct chv_registrar_ask *ask = client->slots[i].ask;
        silent |= client->slots[i].tag != 0 && now - client->slots[i].sent >= CHV_REGISTRAR_SILENT_MS;
        if (ask == NULL || ask->deadline > now)
            continue;
        client->slots[i].ask = NULL;
        finish(ask, NULL);
    }
    if (silent && now - client->told >= TELL_MS) {
        client->told = now;
        client->events->silent(client);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct chv_registrar_client *client = timer->data;
    const uint64_t now = uv_now(client->loop);
    expire_waiting(&client->proven, now);
    expire_waiting(&client->strangers, now);
    expire_sent(client, now);
    flush(client);
    if (client->proven.waiting + client->proven.outstanding + client->strangers.waiting +
            client->strangers.outstanding ==
        0)
        (void)uv_timer_stop(timer);
}

static void on_turn(uv_prepare_t *turn)
{
    flush(turn->data);
}

void chv_registrar_client_init(struct chv_registrar_client *client, uv_loop_t *loop, size_t capacity,
                               const struct chv_registrar_events *events)
{
    *client = (struct chv_registrar_client){.loop = loop,
                                            .fd = -1,
                                            .wait_ms = CHV_REGISTRAR_WAIT_MS,
                                            .proven = {.capacity = capacity},
                                            .strangers = {.capacity = CHV_REGISTRAR_STRANGERS_WAITING},
                                            .events = events};
    (void)uv_timer_init(loop, &client->timer); /* cannot fail */
    client->timer.data = client;
    uv_unref((uv_handle_t *)&client->timer);
    (void)uv_prepare_init(loop, &client->turn);
    (void)uv_prepare_start(&client->turn, on_turn);
    client->turn.data = client;
    uv_unref((uv_handle_t *)&client->turn);
}

static void disconnect(struct chv_registrar_client *client)
{
    chv_child_unwatch(client->poll, client->fd);
    client->poll = NULL;
    client->fd = -1;
}

void chv_registrar_client_close(struct chv_registrar_client *client)
{
    disconnect(client);
    while (client->proven.first != NULL)
        free(take_first(&client->proven));
    while (client->strangers.first != NULL)
        free(take_first(&client->strangers));
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING; i++) {
        free(client->slots[i].ask);
        client->slots[i].ask = NULL;
    }
    uv_close((uv_handle_t *)&client->timer, NULL);
    uv_close((uv_handle_t *)&client->turn, NULL);
}

void chv_registrar_client_connect(struct chv_registrar_client *client, int fd)
{
    disconnect(client);
    client->poll = fd >= 0 ? chv_child_watch(client->loop, fd, on_ready, client) : NULL;
    client->fd = client->poll != NULL ? fd : -1;
    struct chv_registrar_ask *asks[CHV_REGISTRAR_OUTSTANDING];
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING; i++) {
        asks[i] = client->slots[i].ask;
        client->slots[i].tag = 0;
        client->slots[i].ask = NULL;
    }
    client->proven.outstanding = client->strangers.outstanding = 0;
    client->packet_count = 0;
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING; i++)
        if (asks[i] != NULL)
            finish(asks[i], NULL);
    /* what is asked from here on finds no registrar, and does not wait */
    while (client->poll == NULL && client->proven.first != NULL)
        drop_first(&client->proven);
    while (client->poll == NULL && client->strangers.first != NULL)
        drop_first(&client->strangers);
    if (client->poll != NULL)
        client->events->changed(client, NULL);
    flush(client);
}

enum chv_err chv_registrar_client_ask(struct chv_registrar_client *client, const struct chv_registrar_request *request,
                                      chv_registrar_answer_fn answered, void *owner, struct chv_registrar_ask **ask)
{
    struct chv_registrar_queue *queue = request->kind == CHV_REGISTRAR_PEER ? &client->strangers : &client->proven;
    if (client->poll == NULL)
        return CHV_ERR_UNAVAILABLE;
    if (queue->waiting >= queue->capacity)
        flush(client); /* a short queue, and many that came in one turn */
    if (queue->waiting >= queue->capacity)
        return CHV_ERR_BUSY;
    struct chv_registrar_ask *a = malloc(sizeof *a);
    if (a == NULL)
        return CHV_ERR_MEMORY;
    *a = (struct chv_registrar_ask){.queue = queue,
                                    .prev = queue->last,
                                    .deadline = uv_now(client->loop) + client->wait_ms,
                                    .answered = answered,
                                    .owner = owner,
                                    .request = *request};
    *(queue->last != NULL ? &queue->last->next : &queue->first) = a;
    queue->last = a;
    queue->waiting++;
    *ask = a;
    if (!uv_is_active((uv_handle_t *)&client->timer))
        (void)uv_timer_start(&client->timer, on_timer, TIMER_MS, TIMER_MS);
    return CHV_OK;
}

void chv_registrar_client_cancel(struct chv_registrar_client *client, struct chv_registrar_ask *ask)
{
    if (ask == NULL)
        return;
    if (ask->slot > 0)
        client->slots[ask->slot - 1].ask = NULL;
    else
        unlink_waiting(ask);
    free(ask);
}
