/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay PORT SIZE: takes connections on a port of its own, which it prints, and carries bytes to PORT and back, with reads of
 * SIZE bytes and no cryptography: what two hops cost anybody who reads and writes.
 */
#include "bench/net.h"

#include <sys/epoll.h>

enum { EVENTS = 64 };

/* One end; `rest` is what it could not take of its peer's bytes. */
struct end {
    int fd;
    struct end *peer;
    uint8_t *rest;
    size_t rest_at, rest_len;
    uint32_t watched;
    bool ended; /* its last byte was read */
};

static uint8_t *buffer;
static size_t size;
static int epoll;
static unsigned target;

static void watch(struct end *e, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = e};
    if (e->watched == events)
        return;
    net_must(epoll_ctl(epoll, EPOLL_CTL_MOD, e->fd, &event) == 0, "epoll_ctl");
    e->watched = events;
}

static struct end *end_new(int fd)
{
    struct end *e = calloc(1, sizeof *e);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};
    net_must(e != NULL, "memory");
    e->fd = fd;
    e->watched = EPOLLIN;
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    return e;
}

static void take_connection(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct end *e = end_new(fd);
    int other = net_connect(target, 0);
    net_must(fcntl(other, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
    e->peer = end_new(other);
    e->peer->peer = e;
}

/* Both ends; an event of the other that was reported already finds fd -1, and is freed with the program. */
static void drop(struct end *e)
{
    struct end *both[] = {e, e->peer};
    for (int i = 0; i < 2; i++) {
        free(both[i]->rest);
        both[i]->rest = NULL;
        close(both[i]->fd);
        both[i]->fd = -1;
    }
}

/* False: the connection is lost. */
static bool put(struct end *to, const uint8_t *data, size_t len, size_t *done)
{
    *done = 0;
    while (*done < len) {
        ssize_t n = send(to->fd, data + *done, len - *done, MSG_NOSIGNAL);
        if (n < 0)
            return net_would_block();
        *done += (size_t)n;
    }
    return true;
}

static bool carry(struct end *from)
{
    struct end *to = from->peer;
    size_t done;
    ssize_t n = recv(from->fd, buffer, size, 0);
    if (n < 0)
        return net_would_block();
    if (n == 0) {
        from->ended = true;
        watch(from, from->watched & ~(uint32_t)EPOLLIN);
        return !to->ended && shutdown(to->fd, SHUT_WR) == 0;
    }
    if (!put(to, buffer, (size_t)n, &done))
        return false;
    if (done == (size_t)n)
        return true;
    to->rest = malloc((size_t)n - done);
    net_must(to->rest != NULL, "memory");
    to->rest_at = 0;
    to->rest_len = (size_t)n - done;
    memcpy(to->rest, buffer + done, to->rest_len);
    watch(from, from->watched & ~(uint32_t)EPOLLIN);
    watch(to, to->watched | EPOLLOUT);
    return true;
}

static bool carry_rest(struct end *to)
{
    size_t done;
    if (!put(to, to->rest + to->rest_at, to->rest_len, &done))
        return false;
    to->rest_at += done;
    to->rest_len -= done;
    if (to->rest_len > 0)
        return true;
    free(to->rest);
    to->rest = NULL;
    watch(to, to->watched & ~(uint32_t)EPOLLOUT);
    watch(to->peer, to->peer->watched | EPOLLIN);
    return true;
}

static void serve(struct end *e, uint32_t events)
{
    bool ok = e->fd >= 0;
    if (!ok)
        return;
    if ((events & EPOLLOUT) != 0)
        ok = carry_rest(e);
    else if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (e->watched & EPOLLIN) == 0)
        ok = false;
    if (ok && (events & EPOLLIN) != 0)
        ok = carry(e);
    if (!ok)
        drop(e);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: relay PORT SIZE\n");
        return EXIT_FAILURE;
    }
    target = (unsigned)net_number(argv[1]);
    size = net_number(argv[2]);
    buffer = malloc(size);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    net_must(buffer != NULL && epoll >= 0, "epoll");
    net_many_files();
    int listener = net_listen();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        net_must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == NULL)
                take_connection(listener);
            else
                serve(events[i].data.ptr, events[i].events);
    }
}
