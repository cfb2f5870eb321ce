/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_server 256|128: the server to compare with: libssl, TLS 1.3 psk_dhe_ke, epoll, one thread, on a port that it prints.
 * Answers a request of TLS_ASK bytes with TLS_ANSWER bytes, and close_notify with close_notify.
 */
#include "bench/net.h"
#include "bench/tls_psk.h"

#include <sys/epoll.h>

enum { EVENTS = 64 };

struct peer {
    int fd;
    int asked; /* bytes */
    SSL *ssl;
};

static SSL_CTX *context;
static int epoll;

static void take_connection(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct peer *p = calloc(1, sizeof *p);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    net_must(p != NULL, "memory");
    p->fd = fd;
    p->ssl = tls_psk_new(context, fd, 1);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): epoll has it */
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

/* False: it is over. */
static bool serve(struct peer *p)
{
    unsigned char bytes[TLS_ASK] = {0};
    for (;;) {
        int n = SSL_read(p->ssl, bytes, sizeof bytes); /* does the handshake first */
        if (n <= 0 && SSL_get_error(p->ssl, n) == SSL_ERROR_WANT_READ)
            return true;
        if (n <= 0) {
            SSL_shutdown(p->ssl);
            return false;
        }
        p->asked += n;
        if (p->asked == TLS_ASK && SSL_write(p->ssl, bytes, TLS_ANSWER) != TLS_ANSWER)
            return false;
    }
}

static void drop(struct peer *p)
{
    SSL_free(p->ssl);
    close(p->fd);
    free(p);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: tls_server 256|128\n");
        return EXIT_FAILURE;
    }
    context = tls_psk_context(TLS_server_method(), argv[1]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    net_must(epoll >= 0, "epoll");
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
            else if (!serve(events[i].data.ptr))
                drop(events[i].data.ptr);
    }
}
