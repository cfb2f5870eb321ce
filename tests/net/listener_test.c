/* SPDX-License-Identifier: Apache-2.0 */
/* An acceptor whose socket cannot be watched. */
#include "net/listener.h"
#include "tests/harness.h"

#include <fcntl.h>
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

TEST_MAIN("listener", {"stop after a failed start", test_stop_after_a_failed_start},
          {"stop after a start", test_stop_after_a_start})
