/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/connector_client.h"

#include "net/child_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert((CHV_CONNECTOR_OUTSTANDING & (CHV_CONNECTOR_OUTSTANDING - 1)) == 0,
               "the low bits of a tag are its slot");

enum { TIMER_MS = 200, TELL_MS = 1000 };

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void append(struct chv_connector_client *client, struct chv_connector_ask *ask)
{
    ask->prev = client->last;
    ask->next = NULL;
    *(client->last != NULL ? &client->last->next : &client->first) = ask;
    client->last = ask;
    ask->state = CHV_CONNECTOR_WAITS;
    client->waiting++;
}

static void unlink_waiting(struct chv_connector_client *client, struct chv_connector_ask *ask)
{
    *(ask->prev != NULL ? &ask->prev->next : &client->first) = ask->next;
    *(ask->next != NULL ? &ask->next->prev : &client->last) = ask->prev;
    ask->prev = ask->next = NULL;
    ask->state = CHV_CONNECTOR_IDLE;
    client->waiting--;
}

/* The owner may ask anew at once, and its memory may be gone afterwards. */
static void finish(struct chv_connector_ask *ask, enum chv_connector_status status, int fd, const char *text)
{
    ask->state = CHV_CONNECTOR_IDLE;
    ask->done(ask, status, fd, text);
}

static void lose(struct chv_connector_client *client)
{
    chv_connector_client_set(client, -1);
    client->events->lost(client);
}

static void on_ready(uv_poll_t *poll, int status, int events);

static size_t outstanding_of(const struct chv_connector_client *client, const char *tunnel)
{
    size_t n = 0;
    for (size_t i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++)
        n += client->slots[i].tag != 0 && strcmp(client->slots[i].tunnel, tunnel) == 0;
    return n;
}

/* The first that waits and whose tunnel has not too many out; NULL: nobody, or there is no room. */
static struct chv_connector_ask *next_ask(const struct chv_connector_client *client)
{
    char full[CHV_TUNNEL_NAME_MAX + 1] = ""; /* that the one before was of, mostly the next one's too */
    if (client->poll == NULL || client->outstanding == CHV_CONNECTOR_OUTSTANDING)
        return NULL;
    for (struct chv_connector_ask *ask = client->first; ask != NULL; ask = ask->next) {
        if (strcmp(ask->tunnel, full) == 0)
            continue;
        if (outstanding_of(client, ask->tunnel) < CHV_CONNECTOR_OF_TUNNEL)
            return ask;
        memcpy(full, ask->tunnel, sizeof full);
    }
    return NULL;
}

/* Sends what there is room for. */
static void flush(struct chv_connector_client *client)
{
    struct chv_connector_ask *ask;
    while ((ask = next_ask(client)) != NULL) {
        struct chv_connector_request request = {0};
        unsigned slot = 0;
        while (client->slots[slot].tag != 0)
            slot++;
        request.tag = ++client->round * CHV_CONNECTOR_OUTSTANDING + slot;
        memcpy(request.tunnel, ask->tunnel, sizeof request.tunnel);
        if (send(client->fd, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN)
                (void)uv_poll_start(client->poll, UV_READABLE | UV_WRITABLE, on_ready);
            return; /* else the timer tries again, or reading finds that the socket is lost */
        }
        unlink_waiting(client, ask);
        ask->state = CHV_CONNECTOR_OUT;
        ask->slot = slot;
        client->slots[slot].tag = request.tag;
        client->slots[slot].deadline = uv_now(client->loop) + UINT64_C(1000) * ask->connect_seconds + client->grace_ms;
        client->slots[slot].ask = ask;
        memcpy(client->slots[slot].tunnel, ask->tunnel, sizeof ask->tunnel);
        client->outstanding++;
    }
}

/* A whole answer, with a socket where there must be one and none elsewhere. */
static bool valid(const struct chv_connector_answer *answer, size_t len, const struct msghdr *header, int fd)
{
    static const uint8_t zero[sizeof answer->zero] = {0};
    if (len != sizeof *answer || (header->msg_flags & MSG_TRUNC) != 0 ||
        (fd >= 0 && (header->msg_flags & MSG_CTRUNC) != 0))
        return false;
    switch (answer->status) {
    case CHV_CONNECTOR_OK:
    case CHV_CONNECTOR_NO_TUNNEL:
    case CHV_CONNECTOR_FAILED:
    case CHV_CONNECTOR_UNAVAILABLE:
    case CHV_CONNECTOR_TIMEOUT:
        break;
    default:
        return false;
    }
    return answer->tag != 0 && (fd >= 0) == (answer->status == CHV_CONNECTOR_OK) &&
           memchr(answer->text, '\0', sizeof answer->text) != NULL && memcmp(answer->zero, zero, sizeof zero) == 0;
}

static int take_descriptor(struct msghdr *header)
{
    int fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(header);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* The answer to a question that is out, or to one that nobody asks any more. */
static void take_answer(struct chv_connector_client *client, const struct chv_connector_answer *answer, int fd)
{
    const size_t slot = answer->tag % CHV_CONNECTOR_OUTSTANDING;
    struct chv_connector_ask *ask = NULL;
    if (client->slots[slot].tag == answer->tag) {
        ask = client->slots[slot].ask;
        client->slots[slot].tag = 0;
        client->slots[slot].ask = NULL;
        client->outstanding--;
    }
    if (ask != NULL)
        finish(ask, (enum chv_connector_status)answer->status, fd, answer->text);
    else if (fd >= 0)
        close(fd);
}

/* False: nothing more is to be read now. */
static bool receive(struct chv_connector_client *client, int status)
{
    struct chv_connector_answer answer = {0};
    union control control = {0};
    struct iovec iov = {.iov_base = &answer, .iov_len = sizeof answer};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_LEN(sizeof(int))}; /* room for one: the kernel closes others */
    ssize_t n = status == 0 ? recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    const int fd = n >= 0 ? take_descriptor(&header) : -1;
    if (n > 0 && fd < 0 && (header.msg_flags & MSG_CTRUNC) != 0 && answer.status == CHV_CONNECTOR_OK) {
        answer.status = CHV_CONNECTOR_UNAVAILABLE; /* the kernel has closed it */
        (void)snprintf(answer.text, sizeof answer.text, "the net process has no descriptor left for it");
    }
    if (n <= 0 || !valid(&answer, (size_t)n, &header, fd)) {
        if (fd >= 0)
            close(fd);
        lose(client);
        return false;
    }
    take_answer(client, &answer, fd);
    return true;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct chv_connector_client *client = poll->data;
    if (status == 0 && (events & UV_WRITABLE) != 0)
        (void)uv_poll_start(poll, UV_READABLE, on_ready);
    bool more = true;
    for (int i = 0; more && client->poll == poll && i < CHV_CONNECTOR_OUTSTANDING; i++)
        more = receive(client, status);
    flush(client);
}

static void expire_waiting(struct chv_connector_client *client, uint64_t now)
{
    const char *text = client->poll != NULL ? "too many connections are being made" : "there is no connector";
    while (client->first != NULL && client->first->deadline <= now) {
        struct chv_connector_ask *ask = client->first;
        unlink_waiting(client, ask);
        finish(ask, CHV_CONNECTOR_UNAVAILABLE, -1, text);
    }
}

/* Their slots stay taken: a socket may come yet, and the connector is not to be asked more than it can. */
static void expire_sent(struct chv_connector_client *client, uint64_t now)
{
    bool silent = false;
    for (size_t i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++) {
        if (client->slots[i].tag == 0 || client->slots[i].deadline > now)
            continue;
        struct chv_connector_ask *ask = client->slots[i].ask;
        silent = true;
        client->slots[i].ask = NULL;
        if (ask != NULL)
            finish(ask, CHV_CONNECTOR_UNAVAILABLE, -1, "the connector does not answer");
    }
    if (silent && now - client->told >= TELL_MS) {
        client->told = now;
        client->events->silent(client);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct chv_connector_client *client = timer->data;
    const uint64_t now = uv_now(client->loop);
    expire_waiting(client, now);
    expire_sent(client, now);
    flush(client);
    if (client->waiting + client->outstanding == 0)
        (void)uv_timer_stop(timer);
}

void chv_connector_client_init(struct chv_connector_client *client, uv_loop_t *loop,
                               const struct chv_connector_events *events)
{
    *client = (struct chv_connector_client){
        .loop = loop, .fd = -1, .wait_ms = CHV_CONNECTOR_WAIT_MS, .grace_ms = CHV_CONNECTOR_GRACE_MS, .events = events};
    (void)uv_timer_init(loop, &client->timer); /* cannot fail */
    client->timer.data = client;
    uv_unref((uv_handle_t *)&client->timer);
}

static void disconnect(struct chv_connector_client *client)
{
    chv_child_unwatch(client->poll, client->fd);
    client->poll = NULL;
    client->fd = -1;
}

void chv_connector_client_close(struct chv_connector_client *client)
{
    disconnect(client);
    while (client->first != NULL)
        unlink_waiting(client, client->first);
    for (size_t i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++) {
        if (client->slots[i].ask != NULL)
            client->slots[i].ask->state = CHV_CONNECTOR_IDLE;
        client->slots[i].tag = 0;
        client->slots[i].ask = NULL;
    }
    client->outstanding = 0;
    uv_close((uv_handle_t *)&client->timer, NULL);
}

void chv_connector_client_set(struct chv_connector_client *client, int fd)
{
    disconnect(client);
    client->poll = fd >= 0 ? chv_child_watch(client->loop, fd, on_ready, client) : NULL;
    client->fd = client->poll != NULL ? fd : -1;
    /* All slots are free before the first owner hears of it, who may cancel others, or ask anew. */
    uint64_t gone[CHV_CONNECTOR_OUTSTANDING];
    for (size_t i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++)
        gone[i] = client->slots[i].tag;
    for (size_t i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++) {
        struct chv_connector_ask *ask = client->slots[i].ask;
        if (gone[i] == 0 || client->slots[i].tag != gone[i])
            continue;
        client->slots[i].tag = 0;
        client->slots[i].ask = NULL;
        client->outstanding--;
        if (ask != NULL)
            finish(ask, CHV_CONNECTOR_UNAVAILABLE, -1, "the connector was lost");
    }
    flush(client);
}

enum chv_err chv_connector_client_ask(struct chv_connector_client *client, struct chv_connector_ask *ask,
                                      const struct chv_server_tunnel *tunnel, chv_connector_done_fn done)
{
    if (ask->state != CHV_CONNECTOR_IDLE)
        return CHV_ERR_STATE;
    if (client->waiting >= CHV_CONNECTOR_WAITING)
        return CHV_ERR_BUSY;
    memset(ask->tunnel, 0, sizeof ask->tunnel); /* it travels */
    memcpy(ask->tunnel, tunnel->name, strnlen(tunnel->name, sizeof ask->tunnel - 1));
    ask->connect_seconds = tunnel->connect_seconds;
    ask->done = done;
    ask->deadline = uv_now(client->loop) + client->wait_ms;
    append(client, ask);
    if (!uv_is_active((uv_handle_t *)&client->timer))
        (void)uv_timer_start(&client->timer, on_timer, TIMER_MS, TIMER_MS);
    flush(client);
    return CHV_OK;
}

void chv_connector_client_cancel(struct chv_connector_client *client, struct chv_connector_ask *ask)
{
    if (ask->state == CHV_CONNECTOR_WAITS)
        unlink_waiting(client, ask);
    else if (ask->state == CHV_CONNECTOR_OUT)
        client->slots[ask->slot].ask = NULL;
    ask->state = CHV_CONNECTOR_IDLE;
}
