/* SPDX-License-Identifier: Apache-2.0 */
/* The connector: its questions, answers and life. */
#include "config.h"

#include "net/connector_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void lose_peer(struct peer *peer);
static void on_question(uv_poll_t *poll, int status, int events);

static ssize_t send_answer(int to, const struct chv_connector_answer *answer, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_len = sizeof *answer};
    /* sendmsg does not write there.  NOLINTNEXTLINE(bugprone-sizeof-expression): the pointer itself is copied */
    memcpy(&iov.iov_base, &answer, sizeof answer);
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(to, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

/* The asker bounds what it has out, so that one whose socket is full does not read: it loses it. */
void chv_connector_answer(struct peer *peer, uint64_t tag, enum chv_connector_status status, int fd, const char *text)
{
    struct chv_connector_answer a = {.tag = tag, .status = (uint16_t)status};
    if (peer->fd < 0)
        return;
    (void)snprintf(a.text, sizeof a.text, "%s", text);
    ssize_t n = send_answer(peer->fd, &a, fd);
    if (n < 0 && fd >= 0 && errno != EAGAIN && errno != EPIPE && errno != ECONNRESET) { /* ETOOMANYREFS, ENOMEM */
        a.status = CHV_CONNECTOR_UNAVAILABLE;
        (void)snprintf(a.text, sizeof a.text, "the socket cannot be handed over: %s", strerror(errno));
        n = send_answer(peer->fd, &a, -1);
    }
    if (n >= 0)
        return;
    if (errno == EAGAIN)
        chv_log(CHV_LOG_ERROR, "a loop of the net process does not take its answers: its socket is closed");
    lose_peer(peer);
}

/* --- questions ---------------------------------------------------------------------------------------------------- */

static bool request_valid(const struct chv_connector_request *q, size_t len)
{
    static const uint8_t zero[sizeof q->tunnel + sizeof q->zero] = {0};
    if (len != sizeof *q || q->tag == 0)
        return false;
    const size_t name = strnlen(q->tunnel, sizeof q->tunnel);
    return name > 0 && name < sizeof q->tunnel && memcmp(q->tunnel + name, zero, sizeof q->tunnel - name) == 0 &&
           memcmp(q->zero, zero, sizeof q->zero) == 0;
}

static void take_question(struct peer *peer, const struct chv_connector_request *q)
{
    struct chv_connector *c = peer->connector;
    size_t i = 0;
    while (i < c->tunnel_count && strcmp(c->tunnels[i].name, q->tunnel) != 0)
        i++;
    if (i == c->tunnel_count) {
        chv_connector_answer(peer, q->tag, CHV_CONNECTOR_NO_TUNNEL, -1,
                             "the connector's configuration has no such tunnel");
        return;
    }
    chv_connector_attempt(peer, q->tag, &c->tunnels[i]);
}

void chv_connector_resume(struct peer *peer)
{
    if (peer->attempt_count == CHV_CONNECTOR_OUTSTANDING && peer->fd >= 0)
        (void)uv_poll_start(&peer->poll, UV_READABLE, on_question);
}

static void on_question(uv_poll_t *poll, int status, int events)
{
    struct peer *peer = poll->data;
    struct chv_connector_request q;
    (void)events;
    while (peer->fd >= 0 && peer->attempt_count < CHV_CONNECTOR_OUTSTANDING) {
        ssize_t n = status == 0 ? recv(peer->fd, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC) : 0;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n > 0 && !request_valid(&q, (size_t)n)) {
            chv_log(CHV_LOG_ERROR, "a packet of %zd bytes from the net process is no question: its socket is closed",
                    n);
            n = 0;
        }
        if (n <= 0)
            lose_peer(peer);
        else
            take_question(peer, &q);
    }
    if (peer->fd >= 0) /* it has to wait for an answer */
        (void)uv_poll_stop(poll);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_peer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Its memory goes once the loop has run. */
static void lose_peer(struct peer *peer)
{
    struct peer **at = &peer->connector->peers;
    const int fd = peer->fd;
    if (fd < 0)
        return;
    peer->fd = -1;
    while (peer->attempts != NULL)
        chv_connector_forget(peer->attempts);
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    uv_close((uv_handle_t *)&peer->poll, on_peer_closed); /* it is watched no more from here on */
    close(fd);
}

enum chv_err chv_connector_new(uv_loop_t *loop, chv_connector_resolve_fn resolve, uint64_t fresh_ms,
                               struct chv_connector **connector)
{
    struct chv_connector *c = calloc(1, sizeof *c);
    if (c == NULL)
        return CHV_ERR_MEMORY;
    c->loop = loop;
    c->resolve = resolve != NULL ? resolve : uv_getaddrinfo;
    c->fresh_ms = fresh_ms;
    *connector = c;
    return CHV_OK;
}

void chv_connector_configure(struct chv_connector *c, const struct chv_server_config *config)
{
    c->tunnel_count = config->tunnel_count;
    memcpy(c->tunnels, config->tunnels, sizeof c->tunnels);
    chv_connector_forget_names(c);
}

static void add_peer(struct chv_connector *c, int fd)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL || uv_poll_init(c->loop, &peer->poll, fd) != 0) {
        chv_log(CHV_LOG_ERROR, "no memory for a loop of the net process: its socket is closed");
        free(peer);
        close(fd);
        return;
    }
    peer->poll.data = peer;
    peer->connector = c;
    peer->fd = fd;
    peer->next = c->peers;
    c->peers = peer;
    if (uv_poll_start(&peer->poll, UV_READABLE, on_question) != 0)
        lose_peer(peer);
}

void chv_connector_serve(struct chv_connector *c, const int *fds, size_t count)
{
    while (c->peers != NULL)
        lose_peer(c->peers);
    for (size_t i = 0; i < count; i++)
        add_peer(c, fds[i]);
}

void chv_connector_close(struct chv_connector *c)
{
    if (c == NULL)
        return;
    while (c->peers != NULL)
        lose_peer(c->peers);
    chv_connector_end_names(c);
    free(c);
}
