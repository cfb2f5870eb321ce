/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connect: addresses good, bad, dead and slow. */
#include "tests/net/conn_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/conn_internal.h"

static enum chv_err try_connect(struct test_loop *t, const char *address, struct side *side, struct chv_why *why)
{
    struct chv_session_config config;
    struct chv_conn *conn = NULL;
    test_config(&config, CHV_CLIENT);
    enum chv_err err = chv_conn_connect(&t->loop, address, &config, &test_events, side, &conn, why);
    side->conn = conn;
    return err;
}

static int listen_tcp(char *address, size_t size, int backlog)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&in, len), 0);
    if (backlog > 0)
        CU_ASSERT_EQUAL_FATAL(listen(fd, backlog), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    (void)snprintf(address, size, "127.0.0.1:%u", ntohs(in.sin_port));
    return fd;
}

/* Waits for the client at the listener, and makes a server of it. */
static void serve(struct test_loop *t, int listener, struct side *server)
{
    struct timeval none = {.tv_usec = 1000};
    int fd = -1;
    CU_ASSERT_EQUAL(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none), 0);
    while (fd < 0 && !t->stuck) {
        (void)uv_run(&t->loop.uv, UV_RUN_NOWAIT);
        fd = accept(listener, NULL, NULL);
    }
    test_start(t, server, CHV_SERVER, fd);
}

static void complete(struct test_loop *t, const char *address, int listener)
{
    struct side client = {.echo = false}, server = {.echo = false};
    struct chv_why why = {""};
    CU_ASSERT_EQUAL_FATAL(try_connect(t, address, &client, &why), CHV_OK);
    CU_ASSERT_EQUAL(client.keys, 0);
    CU_ASSERT_STRING_EQUAL(chv_conn_peer(client.conn), address);
    serve(t, listener, &server);
    CU_ASSERT_TRUE(test_run_ready(t, &client));
    int no_delay = 0;
    socklen_t len = sizeof no_delay;
    if (getsockopt(client.conn->fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len) == 0)
        CU_ASSERT_EQUAL(no_delay, 1);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(t, &client));
    CU_ASSERT_TRUE(test_run_closed(t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    CU_ASSERT_EQUAL(server.err, CHV_OK);
}

static void test_tcp(void)
{
    struct test_loop t;
    char address[64], name[64];
    test_loop_open(&t, NULL, 0);
    int listener = listen_tcp(address, sizeof address, 5);
    complete(&t, address, listener);
    /* "localhost" may be ::1 first, where nobody listens: the next address is tried */
    (void)snprintf(name, sizeof name, "localhost%s", strchr(address, ':'));
    complete(&t, name, listener);
    (void)close(listener);
    test_loop_close(&t);
}

static void test_unix(void)
{
    struct test_loop t;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char folder[64], address[128];
    const char *tmp = getenv("TMPDIR");
    struct side nobody = {.echo = false};
    struct chv_why why = {""};
    (void)snprintf(folder, sizeof folder, "%s/chv-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s/s", folder);
    (void)snprintf(address, sizeof address, "unix:%s", un.sun_path);
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL(try_connect(&t, address, &nobody, &why), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &nobody));
    CU_ASSERT_EQUAL(nobody.err, CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(nobody.why, "No such file or directory: is chaveirod running there?"));
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(listener, (struct sockaddr *)&un, sizeof un), 0);
    CU_ASSERT_EQUAL_FATAL(listen(listener, 5), 0);
    complete(&t, address, listener);
    (void)close(listener);
    (void)unlink(un.sun_path);
    (void)rmdir(folder);
    test_loop_close(&t);
}

static void test_refused(void)
{
    struct test_loop t;
    char address[64], want[256];
    struct side client = {.echo = false};
    struct chv_why why = {""};
    test_loop_open(&t, NULL, 0);
    int bound = listen_tcp(address, sizeof address, 0); /* bound, not listening */
    CU_ASSERT_EQUAL(try_connect(&t, address, &client, &why), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_UNAVAILABLE);
    (void)snprintf(want, sizeof want, "cannot connect to %s: Connection refused: is chaveirod running there?", address);
    CU_ASSERT_STRING_EQUAL(client.why, want);
    (void)close(bound);
    test_loop_close(&t);
}

static void test_bad_addresses(void)
{
    static const char *const bad[] = {
        "",         "host",    "host:", ":7240",     "host:0", "host:65536", "host:7a",     "host:-1",  "host: 1",
        "::1:7240", "[]:7240", "[::1]", "[::1]7240", "unix:",  "unix:rel",   "host:000001", "host:1:2",
    };
    struct test_loop t;
    struct side client = {.echo = false};
    char longer[300] = "unix:/";
    test_loop_open(&t, NULL, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chv_why why = {""};
        CU_ASSERT_EQUAL(try_connect(&t, bad[i], &client, &why), CHV_ERR_ARGUMENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, bad[i]));
    }
    memset(longer + 6, 'a', sizeof longer - 7);
    CU_ASSERT_EQUAL(try_connect(&t, longer, &client, NULL), CHV_ERR_ARGUMENT);
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 4] = ':';
    longer[sizeof longer - 3] = '1';
    longer[sizeof longer - 2] = '2';
    CU_ASSERT_EQUAL(try_connect(&t, longer, &client, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(client.closed, 0);
    test_loop_close(&t);
}

static void test_bad_config(void)
{
    struct test_loop t;
    struct chv_session_config config;
    struct side client = {.echo = false};
    struct chv_conn *conn = NULL;
    struct chv_why why = {""};
    test_loop_open(&t, NULL, 0);
    test_config(&config, CHV_CLIENT);
    config.credential_len = 3;
    CU_ASSERT_EQUAL(chv_conn_connect(&t.loop, "127.0.0.1:1", &config, &test_events, &client, &conn, &why),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(conn);
    test_loop_close(&t);
}

static void test_unknown_host(void)
{
    struct test_loop t;
    struct side client = {.echo = false};
    struct chv_why why = {""};
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL(try_connect(&t, "no such host:1", &client, &why), CHV_OK); /* asks nobody: no name has a blank */
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "cannot resolve no such host:1: "));
    test_loop_close(&t);
}

/* Given up while resolving, while connecting, between two addresses. */
static void test_abort_meanwhile(void)
{
    char address[64], name[64];
    int listener = listen_tcp(address, sizeof address, 1);
    (void)snprintf(name, sizeof name, "localhost%s", strchr(address, ':'));
    for (int turns = 0; turns < 6; turns++) {
        struct test_loop t;
        struct side one = {.echo = false}, two = {.echo = false}, three = {.echo = false};
        struct chv_why why;
        test_loop_open(&t, NULL, 0);
        CU_ASSERT_EQUAL(try_connect(&t, name, &one, &why), CHV_OK);
        CU_ASSERT_EQUAL(try_connect(&t, "unix:/nonexistent/socket", &two, &why), CHV_OK);
        CU_ASSERT_EQUAL(try_connect(&t, address, &three, &why), CHV_OK);
        test_turns(&t, turns);
        if (one.conn != NULL)
            chv_conn_abort(one.conn, CHV_ERR_CANCELLED);
        if (two.conn != NULL)
            chv_conn_end(two.conn, CHV_ERR_CANCELLED);
        if (three.conn != NULL)
            chv_conn_shutdown(three.conn);
        test_loop_close(&t);
        CU_ASSERT_EQUAL(one.closed + two.closed + three.closed, 3);
        CU_ASSERT_EQUAL(one.err, CHV_ERR_CANCELLED);
        CU_ASSERT_TRUE(two.err == CHV_ERR_CANCELLED || two.err == CHV_ERR_UNAVAILABLE);
        CU_ASSERT_EQUAL(three.err, CHV_ERR_CANCELLED);
    }
    (void)close(listener);
}

static void test_no_descriptor(void)
{
    struct test_loop t;
    struct side client = {.echo = false};
    struct rlimit old, none;
    struct chv_why why;
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    CU_ASSERT_EQUAL(try_connect(&t, "unix:/nonexistent/socket", &client, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
    CU_ASSERT_EQUAL(client.err, CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "Too many open files"));
    test_loop_close(&t);
}

/* A port where connections are taken by the kernel and never answered. */
static void test_deadline(void)
{
    struct test_loop t;
    struct chv_loop_limits limits = {.handshake_seconds = 1, .idle_seconds = 0, .stall_seconds = 1};
    char address[64];
    struct side client = {.echo = false};
    struct chv_why why;
    int listener = listen_tcp(address, sizeof address, 5);
    test_loop_open(&t, &limits, 0);
    CU_ASSERT_EQUAL(try_connect(&t, address, &client, &why), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(client.why, "no session within 1 s");
    (void)close(listener);
    test_loop_close(&t);
}

TEST_MAIN("connect", {"TCP", test_tcp}, {"unix", test_unix}, {"refused", test_refused},
          {"bad addresses", test_bad_addresses}, {"bad config", test_bad_config}, {"unknown host", test_unknown_host},
          {"abort meanwhile", test_abort_meanwhile}, {"no descriptor", test_no_descriptor}, {"deadline", test_deadline})
