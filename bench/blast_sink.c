/* SPDX-License-Identifier: Apache-2.0 */
/* The far end: counts what comes, or sends it back. */
#include "bench/blast.h"

#include <pthread.h>
#include <sys/epoll.h>

enum { EVENTS = 256 };

struct stream {
    int fd;
    size_t head_len;
    struct blast_head head;
    uint64_t left;
};

atomic_ullong blast_received[BLAST_STREAMS];

static uint8_t buffer[BLAST_BUFFER];
static int epoll, listen_fd;

static void take_connection(void)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct stream *s = calloc(1, sizeof *s);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    net_must(s != NULL, "memory");
    s->fd = fd;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): epoll has it */
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

/* False: the stream is over. */
static bool take_head(struct stream *s)
{
    ssize_t n = recv(s->fd, (uint8_t *)&s->head + s->head_len, sizeof s->head - s->head_len, 0);
    if (n <= 0)
        return n < 0 && net_would_block();
    s->head_len += (size_t)n;
    if (s->head_len < sizeof s->head)
        return true;
    s->left = s->head.bytes;
    return s->head.stream < BLAST_STREAMS && (s->head.kind == BLAST_SINK || s->head.kind == BLAST_ECHO);
}

static bool sink(struct stream *s)
{
    ssize_t n = recv(s->fd, buffer, sizeof buffer, 0);
    if (n <= 0)
        return n < 0 && net_would_block();
    atomic_fetch_add_explicit(&blast_received[s->head.stream], (unsigned long long)n, memory_order_relaxed);
    if (s->head.bytes == 0)
        return true;
    s->left -= (uint64_t)n < s->left ? (uint64_t)n : s->left;
    return s->left > 0 || send(s->fd, "", 1, MSG_NOSIGNAL) == 1;
}

/* Few bytes at a time: they fit into the socket. */
static bool echo(struct stream *s)
{
    ssize_t n = recv(s->fd, buffer, BLAST_SMALL, 0);
    if (n <= 0)
        return n < 0 && net_would_block();
    return send(s->fd, buffer, (size_t)n, MSG_NOSIGNAL) == n;
}

static void serve(struct stream *s)
{
    bool go = false;
    if (s->head_len < sizeof s->head)
        go = take_head(s);
    else if (s->head.kind == BLAST_SINK)
        go = sink(s);
    else
        go = echo(s);
    if (go)
        return;
    close(s->fd);
    free(s);
}

static void *run(void *arg)
{
    (void)arg;
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        net_must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == NULL)
                take_connection();
            else
                serve(events[i].data.ptr);
    }
    return NULL;
}

void blast_serve(int listener)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    pthread_t thread;
    listen_fd = listener;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    net_must(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "epoll");
    errno = pthread_create(&thread, NULL, run, NULL);
    net_must(errno == 0, "thread");
}
