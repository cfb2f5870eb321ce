/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blast: source and sink for what carries connections. Prints the port of its sink, then does one job for each line on
 * standard input, each through PORT, and prints one line with what it measured:
 *
 *   bulk PORT BYTES             one stream: seconds until the sink has all of it
 *   fair PORT STREAMS MS        that many streams at once, for that long after 500 ms: bytes of the slowest, their mean
 *   echo PORT COUNT             64 bytes there and back, one after the other: median and 99th percentile, in µs
 *   connect PORT COUNT FLIGHT   connections with one such exchange, FLIGHT at a time: seconds
 *   hold PORT COUNT             the same, but all stay until the next line: seconds
 */
#include "bench/blast.h"

#include "bench/bench.h"

#include <sys/epoll.h>

enum { EVENTS = 256, HOLD_FLIGHT = 16, ECHO_WARM = 200, WARM_MS = 500, LINE_MAX_LEN = 128 };

static uint8_t data[BLAST_BUFFER];

static void send_all(int fd, const void *what, size_t len)
{
    const uint8_t *p = what;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        net_must(n > 0, "send");
        p += n;
        len -= (size_t)n;
    }
}

static void receive_all(int fd, uint8_t *out, size_t len)
{
    ssize_t n = recv(fd, out, len, MSG_WAITALL);
    errno = n == 0 ? ECONNRESET : errno;
    net_must(n == (ssize_t)len, "receive");
}

static void bulk(unsigned port, uint64_t bytes)
{
    struct blast_head head = {.bytes = bytes, .kind = BLAST_SINK};
    uint8_t done;
    int fd = net_connect(port, 0);
    const uint64_t start = net_ns();
    send_all(fd, &head, sizeof head);
    for (uint64_t left = bytes; left > 0;) {
        size_t n = left < sizeof data ? (size_t)left : sizeof data;
        send_all(fd, data, n);
        left -= n;
    }
    receive_all(fd, &done, 1);
    printf("%.6f\n", (double)(net_ns() - start) * 1e-9);
    close(fd);
}

static void echo(unsigned port, uint64_t count)
{
    struct blast_head head = {.kind = BLAST_ECHO};
    uint8_t small[BLAST_SMALL];
    double *us = calloc(count, sizeof *us);
    int fd = net_connect(port, 0);
    net_must(us != NULL, "memory");
    send_all(fd, &head, sizeof head);
    for (uint64_t i = 0; i < count + ECHO_WARM; i++) {
        const uint64_t start = net_ns();
        send_all(fd, data, BLAST_SMALL);
        receive_all(fd, small, BLAST_SMALL);
        if (i >= ECHO_WARM)
            us[i - ECHO_WARM] = (double)(net_ns() - start) * 1e-3;
    }
    qsort(us, count, sizeof *us, bench_compare);
    printf("%.2f %.2f\n", us[count / 2], us[count * 99 / 100]);
    close(fd);
    free(us);
}

/* ---- many at once ---- */

static void fair_fill(int epoll, int timeout)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, timeout);
    net_must(n >= 0 || errno == EINTR, "epoll_wait");
    for (int i = 0; i < n; i++)
        net_must(send(events[i].data.fd, data, sizeof data, MSG_NOSIGNAL) > 0 || net_would_block(), "send");
}

static bool all_have_come(uint64_t streams)
{
    for (uint64_t i = 0; i < streams; i++)
        if (atomic_load(&blast_received[i]) == 0)
            return false;
    return true;
}

static void fair(unsigned port, uint64_t streams, uint64_t ms)
{
    static const struct linger now = {.l_onoff = 1};
    unsigned long long before[BLAST_STREAMS];
    int fds[BLAST_STREAMS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    double slowest = 0, sum = 0;
    net_must(epoll >= 0 && streams <= BLAST_STREAMS, "fair");
    for (uint64_t i = 0; i < streams; i++)
        atomic_store(&blast_received[i], 0);
    for (uint32_t i = 0; i < streams; i++) {
        struct blast_head head = {.kind = BLAST_SINK, .stream = i};
        struct epoll_event event = {.events = EPOLLOUT};
        fds[i] = net_connect(port, 0);
        send_all(fds[i], &head, sizeof head);
        event.data.fd = fds[i];
        net_must(fcntl(fds[i], F_SETFL, O_NONBLOCK) == 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) == 0,
                 "epoll_ctl");
    }
    while (!all_have_come(streams)) /* with a busy machine, handshakes take their time */
        fair_fill(epoll, 1);
    const uint64_t begin = net_ns() + UINT64_C(1000000) * WARM_MS;
    while (net_ns() < begin)
        fair_fill(epoll, 1);
    for (uint64_t i = 0; i < streams; i++)
        before[i] = atomic_load(&blast_received[i]);
    const uint64_t end = net_ns() + ms * 1000000;
    while (net_ns() < end)
        fair_fill(epoll, 1);
    for (uint64_t i = 0; i < streams; i++) {
        const double got = (double)(atomic_load(&blast_received[i]) - before[i]);
        slowest = i == 0 || got < slowest ? got : slowest;
        sum += got;
    }
    printf("%.0f %.0f\n", slowest, sum / (double)streams);
    /* A reset: what is still under way is not carried while the next one is measured. */
    for (uint64_t i = 0; i < streams; i++) {
        (void)setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fds[i]);
    }
    close(epoll);
}

/* ---- connections ---- */

static void start_one(int epoll, unsigned port)
{
    struct epoll_event event = {.events = EPOLLOUT};
    event.data.fd = net_connect(port, SOCK_NONBLOCK);
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event) == 0, "epoll_ctl");
}

/* Connected: asks; answered: returns true. */
static bool go_on(int epoll, const struct epoll_event *event)
{
    uint8_t ask[sizeof(struct blast_head) + BLAST_SMALL] = {0};
    const struct blast_head head = {.kind = BLAST_ECHO};
    int fd = event->data.fd;
    if ((event->events & EPOLLOUT) != 0) {
        struct epoll_event next = {.events = EPOLLIN, .data = event->data};
        memcpy(ask, &head, sizeof head);
        net_must(send(fd, ask, sizeof ask, MSG_NOSIGNAL) == sizeof ask, "send");
        net_must(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &next) == 0, "epoll_ctl");
        return false;
    }
    /* 64 bytes on loopback come whole */
    net_must(recv(fd, ask, BLAST_SMALL, 0) == BLAST_SMALL, "answer");
    return true;
}

/* kept: where the descriptors go, NULL: closed. */
static void connections(unsigned port, uint64_t count, uint64_t flight, int *kept)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t started = 0, done = 0;
    const uint64_t start = net_ns();
    net_must(epoll >= 0, "epoll");
    while (done < count) {
        struct epoll_event events[EVENTS];
        while (started < count && started - done < flight) {
            start_one(epoll, port);
            started++;
        }
        int n = epoll_wait(epoll, events, EVENTS, -1);
        net_must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (!go_on(epoll, &events[i]))
                continue;
            if (kept != NULL)
                kept[done] = events[i].data.fd;
            else
                close(events[i].data.fd);
            done++;
        }
    }
    printf("%.6f\n", (double)(net_ns() - start) * 1e-9);
    close(epoll);
}

static void hold(unsigned port, uint64_t count)
{
    int *fds = calloc(count, sizeof *fds);
    net_must(fds != NULL, "memory");
    connections(port, count, HOLD_FLIGHT, fds);
    (void)fflush(stdout);
    (void)getchar(); /* an empty line */
    for (uint64_t i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
    puts("0"); /* all are gone */
}

static bool job(size_t n, const char *word, const uint64_t *number)
{
    const unsigned port = (unsigned)number[1];
    if (n == 3 && strcmp(word, "bulk") == 0)
        bulk(port, number[2]);
    else if (n == 4 && strcmp(word, "fair") == 0)
        fair(port, number[2], number[3]);
    else if (n == 3 && strcmp(word, "echo") == 0)
        echo(port, number[2]);
    else if (n == 4 && strcmp(word, "connect") == 0)
        connections(port, number[2], number[3], NULL);
    else if (n == 3 && strcmp(word, "hold") == 0)
        hold(port, number[2]);
    else
        return false;
    return fflush(stdout) == 0;
}

int main(void)
{
    char line[LINE_MAX_LEN], *word;
    uint64_t number[NET_WORDS];
    size_t n;
    net_many_files();
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31);
    blast_serve(net_listen());
    while ((n = net_job(line, sizeof line, &word, number)) > 0)
        net_must(job(n, word, number), "no such job");
    return EXIT_SUCCESS;
}
