/* SPDX-License-Identifier: Apache-2.0 */
/* One question for a connection: each address of its target in turn, until the tunnel's time is over. */
#include "config.h"

#include "net/connector_internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SHARE_LEAST_MS = 200, /* for one address */
    FULL_MS = 50          /* until a unix socket that had no room is tried again */
};

static void on_attempt_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_dial_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Gives its socket up, or (`keep`) out of the loop's hands. Returns that. */
static int end_dial(struct attempt *a, bool keep)
{
    struct dial *dial = a->dial;
    if (dial == NULL)
        return -1;
    int fd = dial->fd;
    a->dial = NULL;
    dial->attempt = NULL;
    uv_close((uv_handle_t *)&dial->poll, on_dial_closed); /* it is watched no more from here on */
    if (keep)
        return fd;
    close(fd);
    return -1;
}

void chv_connector_forget(struct attempt *a)
{
    struct peer *peer = a->peer;
    chv_connector_leave(a);
    (void)end_dial(a, false);
    *(a->prev != NULL ? &a->prev->next : &peer->attempts) = a->next;
    if (a->next != NULL)
        a->next->prev = a->prev;
    a->peer = NULL;
    uv_close((uv_handle_t *)&a->timer, on_attempt_closed);
    chv_connector_resume(peer);
    peer->attempt_count--;
}

void chv_connector_fail(struct attempt *a, enum chv_connector_status status, const char *format, ...)
{
    char text[CHV_CONNECTOR_TEXT_MAX + 1];
    struct peer *peer = a->peer;
    const uint64_t tag = a->tag;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    chv_connector_forget(a);
    chv_connector_answer(peer, tag, status, -1, text);
}

static void succeed(struct attempt *a)
{
    static const int on = 1;
    struct peer *peer = a->peer;
    const uint64_t tag = a->tag;
    const bool tcp = a->addresses.list[a->at - 1].any.sa_family != AF_UNIX;
    int fd = end_dial(a, true);
    chv_connector_forget(a);
    if (tcp) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    chv_connector_answer(peer, tag, CHV_CONNECTOR_OK, fd, "");
    close(fd);
}

static void try_next(struct attempt *a);

static void try_failed(struct attempt *a, int error)
{
    (void)end_dial(a, false);
    a->error = error;
    try_next(a);
}

/*
 * A port of this machine that nobody listens at may be the one that the kernel picks for the connection to it: TCP then
 * connects the socket to itself (RFC 9293, 3.5, simultaneous open), and holds the port that the service wants.
 */
bool chv_connector_is_self(int fd)
{
    struct sockaddr_storage here, there;
    socklen_t here_len = sizeof here, there_len = sizeof there;
    memset(&here, 0, sizeof here);
    memset(&there, 0, sizeof there);
    return getsockname(fd, (struct sockaddr *)&here, &here_len) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_len) == 0 &&
           (here.ss_family == AF_INET || here.ss_family == AF_INET6) && here_len == there_len &&
           memcmp(&here, &there, here_len) == 0;
}

static void on_dialed(uv_poll_t *poll, int status, int events)
{
    struct dial *dial = poll->data;
    int error = 0;
    socklen_t len = sizeof error;
    (void)status; /* the socket knows it better */
    (void)events;
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0 && chv_connector_is_self(dial->fd))
        error = ECONNREFUSED;
    if (error != 0)
        try_failed(dial->attempt, error);
    else
        succeed(dial->attempt);
}

static void fail_for_time(struct attempt *a)
{
    chv_connector_fail(a, CHV_CONNECTOR_TIMEOUT, "%s: no answer within %u s", a->target, a->seconds);
}

/* An address that does not answer takes its share of the time; the rest is for the others. */
static void on_share(uv_timer_t *timer)
{
    struct attempt *a = timer->data;
    if (a->full)
        try_next(a);
    else if (a->lookup != NULL)
        chv_connector_fail(a, CHV_CONNECTOR_TIMEOUT, "%s: the name was not resolved within %u s", a->target,
                           a->seconds);
    else
        try_failed(a, ETIMEDOUT);
}

/* errno, or 0: its end comes by on_dialed. */
static int dial(struct attempt *a, const struct address *to)
{
    struct dial *d = calloc(1, sizeof *d);
    if (d == NULL)
        return ENOMEM;
    d->fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = d->fd < 0 ? errno : 0;
    if (error == 0)
        error = -uv_poll_init(a->peer->connector->loop, &d->poll, d->fd);
    if (error != 0) {
        if (d->fd >= 0)
            close(d->fd);
        free(d);
        return error;
    }
    d->poll.data = d;
    d->attempt = a;
    a->dial = d;
    if (connect(d->fd, &to->any, to->len) != 0 && errno != EINPROGRESS)
        return errno;
    return -uv_poll_start(&d->poll, UV_WRITABLE, on_dialed);
}

static void fail_for_error(struct attempt *a)
{
    switch (a->error) {
    case ETIMEDOUT:
        fail_for_time(a);
        return;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        chv_connector_fail(a, CHV_CONNECTOR_UNAVAILABLE, "%s: %s", a->target, strerror(a->error));
        return;
    case ECONNREFUSED:
        chv_connector_fail(a, CHV_CONNECTOR_FAILED, "%s: connection refused", a->target);
        return;
    default:
        chv_connector_fail(a, CHV_CONNECTOR_FAILED, "%s: %s", a->target, strerror(a->error));
        return;
    }
}

/* The next address, until one is being tried or there is none left. */
static void try_next(struct attempt *a)
{
    uv_loop_t *loop = a->peer->connector->loop;
    int error = 0;
    do {
        const uint64_t now = uv_now(loop);
        if (now >= a->deadline) {
            fail_for_time(a);
            return;
        }
        if (a->at == a->addresses.count) {
            fail_for_error(a);
            return;
        }
        uint64_t share = (a->deadline - now) / (a->addresses.count - a->at);
        share = share < SHARE_LEAST_MS ? SHARE_LEAST_MS : share;
        share = share < a->deadline - now ? share : a->deadline - now;
        (void)uv_timer_start(&a->timer, on_share, share, 0);
        error = dial(a, &a->addresses.list[a->at]);
        /* Of a unix socket whose queue is full no event tells when there is room (connect(2)). */
        a->full = error == EAGAIN && a->addresses.list[a->at].any.sa_family == AF_UNIX;
        if (error != 0) {
            (void)end_dial(a, false);
            a->error = error;
        }
        if (a->full) {
            (void)uv_timer_start(&a->timer, on_share, share < FULL_MS ? share : FULL_MS, 0);
            return;
        }
        a->at++;
    } while (error != 0);
}

void chv_connector_dial(struct attempt *a, const struct addresses *addresses)
{
    a->addresses = *addresses;
    try_next(a);
}

void chv_connector_attempt(struct peer *peer, uint64_t tag, const struct chv_server_tunnel *tunnel)
{
    uv_loop_t *loop = peer->connector->loop;
    struct attempt *a = calloc(1, sizeof *a);
    if (a == NULL) {
        chv_connector_answer(peer, tag, CHV_CONNECTOR_UNAVAILABLE, -1, "out of memory");
        return;
    }
    const uint64_t ms = UINT64_C(1000) * tunnel->connect_seconds;
    (void)uv_timer_init(loop, &a->timer); /* cannot fail */
    a->timer.data = a;
    a->tag = tag;
    a->seconds = tunnel->connect_seconds;
    memcpy(a->target, tunnel->target, sizeof a->target);
    a->peer = peer;
    a->next = peer->attempts;
    if (a->next != NULL)
        a->next->prev = a;
    peer->attempts = a;
    peer->attempt_count++;
    a->deadline = uv_now(loop) + ms;
    (void)uv_timer_start(&a->timer, on_share, ms, 0);
    chv_connector_find(a);
}
