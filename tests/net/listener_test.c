/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets and what each is for; an acceptor whose socket cannot be watched. */
#include "net/listener.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void accepted(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer)
{
    (void)acceptor;
    (void)peer;
    close(fd);
}

/* A regular file: epoll refuses it, as it refuses a socket when memory is short. */
static void test_stop_after_a_failed_start(void)
{
    uv_loop_t loop;
    struct chv_acceptor acceptor;
    struct chv_why why = {""};
    memset(&acceptor, 0xa5, sizeof acceptor);
    CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
    FILE *file = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    int fd = dup(fileno(file));
    CU_ASSERT_EQUAL(chv_acceptor_start(&acceptor, &loop, fd, NULL, accepted, &why), CHV_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "cannot watch a listening socket"));
    CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), -1); /* was closed */
    chv_acceptor_stop(&acceptor);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    fclose(file);
}

static void test_stop_after_a_start(void)
{
    uv_loop_t loop;
    struct chv_acceptor acceptor;
    struct chv_why why = {""};
    CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(chv_acceptor_start(&acceptor, &loop, fd, NULL, accepted, &why), CHV_OK);
    chv_acceptor_stop(&acceptor);
    chv_acceptor_stop(&acceptor); /* nothing more to stop */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
}

static struct chv_listeners listeners;
static struct chv_server_config config;

static void open_all(const char *const *handshake, const char *const *data, unsigned workers)
{
    struct chv_why why = {""};
    memset(&config, 0, sizeof config);
    config.backlog = 16;
    config.listen_count = 1;
    snprintf(config.listen[0], CHV_LISTEN_LEN, "127.0.0.1:0");
    for (; *handshake != NULL; handshake++)
        snprintf(config.handshake[config.handshake_count++], CHV_LISTEN_LEN, "%s", *handshake);
    for (; *data != NULL; data++)
        snprintf(config.data[config.data_count++], CHV_LISTEN_LEN, "%s", *data);
    CU_ASSERT_EQUAL_FATAL(chv_listeners_open(&listeners, &config, workers, &why), CHV_OK);
}

static void test_kinds(void)
{
    const char *const handshake[] = {"127.0.0.1:0", NULL}, *const data[] = {"127.0.0.1:0", "127.0.0.1:0", NULL};
    const enum chv_port kinds[] = {CHV_PORT_BOTH, CHV_PORT_HANDSHAKE, CHV_PORT_DATA, CHV_PORT_DATA};
    char text[64];
    open_all(handshake, data, 2);
    CU_ASSERT_EQUAL_FATAL(listeners.count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct chv_listener *l = &listeners.list[i];
        CU_ASSERT_EQUAL(l->kind, kinds[i]);
        CU_ASSERT_EQUAL(l->fd_count, 2);
        CU_ASSERT_NOT_EQUAL(l->port, 0); /* the kernel's, */
        snprintf(text, sizeof text, "127.0.0.1:%u", l->port);
        CU_ASSERT_STRING_EQUAL(l->text, text); /* as the log says it, */
        for (size_t j = 0; j < i; j++)         /* each another one */
            CU_ASSERT_NOT_EQUAL(listeners.list[j].port, l->port);
    }
    chv_listeners_close(&listeners, true);
}

static void look_at_no_delay(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer)
{
    (void)peer;
    int *no_delay = acceptor->owner;
    socklen_t len = sizeof *no_delay;
    CU_ASSERT_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, no_delay, &len), 0);
    close(fd);
    chv_acceptor_stop(acceptor);
}

/* What is accepted on a port of any kind holds no record back. */
static void test_no_delay(void)
{
    const char *const handshake[] = {"127.0.0.1:0", NULL}, *const data[] = {"127.0.0.1:0", NULL};
    struct chv_acceptor acceptor;
    struct chv_why why = {""};
    uv_loop_t loop;
    CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
    open_all(handshake, data, 2);
    CU_ASSERT_EQUAL_FATAL(listeners.count, 3);
    for (size_t i = 0; i < 3; i++) {
        struct chv_listener *l = &listeners.list[i];
        CU_ASSERT_EQUAL_FATAL(l->fd_count, 2);
        close(l->fds[--l->fd_count]); /* all that come, come to the first */
        int no_delay = 0, client = socket(AF_INET, SOCK_STREAM, 0);
        CU_ASSERT_EQUAL_FATAL(connect(client, (const struct sockaddr *)&l->address, sizeof(struct sockaddr_in)), 0);
        CU_ASSERT_EQUAL_FATAL(chv_acceptor_start(&acceptor, &loop, dup(l->fds[0]), &no_delay, look_at_no_delay, &why),
                              CHV_OK);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        CU_ASSERT_NOT_EQUAL(no_delay, 0);
        close(client);
    }
    chv_listeners_close(&listeners, true);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
}

/* Which data ports a client that came by an address is sent on to. */
static void test_reachable(void)
{
    const char *const handshake[] = {"127.0.0.1:0", "127.0.0.2:0", NULL}, *const data[] = {"127.0.0.1:0", "0.0.0.0:0",
                                                                                           "127.0.0.3:0", NULL};
    open_all(handshake, data, 1);
    /* A listening socket has the same local address as those that it accepts. */
    CU_ASSERT_EQUAL(chv_listeners_reachable(&listeners, listeners.list[1].fds[0]), 1U << 3 | 1U << 4);
    CU_ASSERT_EQUAL(chv_listeners_reachable(&listeners, listeners.list[2].fds[0]), 1U << 4);
    chv_listeners_close(&listeners, true);
    const char *const other[] = {"127.0.0.3:0", "127.0.0.4:0", NULL};
    open_all(handshake, other, 1);
    /* None is at its address: the address may not be the one that the client sees. */
    CU_ASSERT_EQUAL(chv_listeners_reachable(&listeners, listeners.list[1].fds[0]), 1U << 3 | 1U << 4);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL(chv_listeners_reachable(&listeners, fd), 0);
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM, 0); /* another family */
    if (fd >= 0)
        CU_ASSERT_EQUAL(chv_listeners_reachable(&listeners, fd), 0);
    if (fd >= 0)
        close(fd);
    chv_listeners_close(&listeners, true);
}

TEST_MAIN("listener", {"kinds", test_kinds}, {"no delay", test_no_delay}, {"reachable", test_reachable},
          {"stop after a failed start", test_stop_after_a_failed_start},
          {"stop after a start", test_stop_after_a_start})
