/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets on loopback for the measuring programs. Whatever fails ends the program with a line that says what. */
#ifndef CHV_BENCH_NET_H
#define CHV_BENCH_NET_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void net_must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
        exit(EXIT_FAILURE);
    }
}

static inline uint64_t net_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void net_nodelay(int fd)
{
    const int on = 1;
    net_must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
}

static inline bool net_would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static inline struct sockaddr_in net_loopback(unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A listening socket on a port of the kernel's choice, which is printed. TCP_NODELAY is inherited. */
static inline int net_listen(void)
{
    struct sockaddr_in address = net_loopback(0);
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    net_must(fd >= 0, "socket");
    net_nodelay(fd);
    net_must(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 4096) == 0 &&
                 getsockname(fd, (struct sockaddr *)&address, &len) == 0,
             "listen");
    printf("%u\n", ntohs(address.sin_port));
    net_must(fflush(stdout) == 0, "standard output");
    return fd;
}

/* `flags`: SOCK_NONBLOCK (the connection may still be on its way then) or 0. */
static inline int net_connect(unsigned port, int flags)
{
    struct sockaddr_in address = net_loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    net_must(fd >= 0, "socket");
    net_nodelay(fd);
    net_must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS, "connect");
    return fd;
}

/* As many descriptors as this process may have. */
static inline void net_many_files(void)
{
    struct rlimit limit;
    net_must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
    limit.rlim_cur = limit.rlim_max;
    net_must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
}

/* An argument that is a number from 1 on. */
static inline uint64_t net_number(const char *text)
{
    char *end;
    errno = 0;
    const uint64_t value = strtoull(text, &end, 10);
    errno = errno == 0 ? EINVAL : errno;
    net_must(value > 0 && *end == '\0', text);
    return value;
}

enum { NET_WORDS = 5 };

/* A line on standard input: a word and numbers, of which those that are missing are 0. How many there are; 0: no more lines. */
static inline size_t net_job(char *line, size_t size, char **word, uint64_t number[NET_WORDS])
{
    size_t n = 0;
    char *save = NULL;
    if (fgets(line, (int)size, stdin) == NULL)
        return 0;
    memset(number, 0, NET_WORDS * sizeof *number);
    *word = strtok_r(line, " \n", &save);
    net_must(*word != NULL, "no such job");
    for (char *next = *word; next != NULL && n < NET_WORDS; next = strtok_r(NULL, " \n", &save)) {
        number[n] = n > 0 && strcmp(next, "0") != 0 ? net_number(next) : 0;
        n++;
    }
    return n;
}

#endif
