/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_load 256|128: a client of bench/tls_server and of stunnel. One job for each line on standard input, one line of answer:
 *
 *   full PORT COUNT FLIGHT   handshake, request, answer, close_notify both ways; FLIGHT at a time: seconds
 *   hold PORT COUNT          the same without the close; all stay until the next line: seconds
 */
#include "bench/blast.h"
#include "bench/net.h"
#include "bench/tls_psk.h"

#include <sys/epoll.h>

enum { EVENTS = 64, HOLD_FLIGHT = 16, LINE_LEN = 128 };

struct call {
    SSL *ssl;
    int fd, answered;
    bool asked, closing;
};

static SSL_CTX *context;
static int epoll;

static void start(unsigned port)
{
    struct call *c = calloc(1, sizeof *c);
    /* writable at once: go_on sends the ClientHello */
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    net_must(c != NULL, "memory");
    c->fd = net_connect(port, 0);
    net_must(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
    c->ssl = tls_psk_new(context, c->fd, 0);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): epoll has it */
    net_must(epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) == 0, "epoll_ctl");
}

/* True: as far as it is to go. */
static bool go_on(struct call *c, bool keep)
{
    unsigned char bytes[TLS_ASK] = {0};
    const struct blast_head head = {.kind = BLAST_ECHO};
    if (!c->asked) {
        int result = SSL_do_handshake(c->ssl);
        if (result != 1) {
            net_must(SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_READ, "TLS handshake");
            return false;
        }
        net_must(SSL_session_reused(c->ssl) == 1, "TLS PSK");
        memcpy(bytes, &head, sizeof head);
        net_must(SSL_write(c->ssl, bytes, TLS_ASK) == TLS_ASK, "request");
        c->asked = true;
    }
    for (;;) {
        int n = SSL_read(c->ssl, bytes, sizeof bytes);
        if (n <= 0 && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ)
            return false;
        if (n <= 0) {
            net_must(c->closing, "answer");
            return true;
        }
        c->answered += n;
        if (c->answered < TLS_ANSWER)
            continue;
        if (keep)
            return true;
        SSL_shutdown(c->ssl);
        c->closing = true;
    }
}

static void drop(struct call *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
}

/* kept: where they go, NULL: dropped. */
static void calls(unsigned port, uint64_t count, uint64_t flight, struct call **kept)
{
    uint64_t started = 0, done = 0;
    const uint64_t begin = net_ns();
    while (done < count) {
        struct epoll_event events[EVENTS];
        for (; started < count && started - done < flight; started++)
            start(port);
        int n = epoll_wait(epoll, events, EVENTS, -1);
        net_must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct call *c = events[i].data.ptr;
            if (!go_on(c, kept != NULL))
                continue;
            if (kept != NULL)
                kept[done] = c;
            else
                drop(c);
            done++;
        }
    }
    printf("%.6f\n", (double)(net_ns() - begin) * 1e-9);
    net_must(fflush(stdout) == 0, "standard output");
}

static void hold(unsigned port, uint64_t count)
{
    struct call **kept = calloc(count, sizeof(struct call *));
    net_must(kept != NULL, "memory");
    calls(port, count, HOLD_FLIGHT, kept);
    (void)getchar(); /* an empty line */
    for (uint64_t i = 0; i < count; i++)
        drop(kept[i]);
    free(kept);
    puts("0"); /* all are gone */
    net_must(fflush(stdout) == 0, "standard output");
}

int main(int argc, char **argv)
{
    char line[LINE_LEN], *word;
    uint64_t number[NET_WORDS];
    size_t n;
    if (argc != 2) {
        fprintf(stderr, "usage: tls_load 256|128\n");
        return EXIT_FAILURE;
    }
    context = tls_psk_context(TLS_client_method(), argv[1]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    net_must(epoll >= 0, "epoll");
    net_many_files();
    while ((n = net_job(line, sizeof line, &word, number)) > 0)
        if (n == 4 && strcmp(word, "full") == 0)
            calls((unsigned)number[1], number[2], number[3], NULL);
        else if (n == 3 && strcmp(word, "hold") == 0)
            hold((unsigned)number[1], number[2]);
        else
            net_must(false, "no such job");
    return EXIT_SUCCESS;
}
