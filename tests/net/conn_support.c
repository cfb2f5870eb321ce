/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/net/conn_support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/credential.h"
#include "net/control.h"

enum { GUARD_MS = 60000 };

static const struct chv_loop_limits default_limits = {.handshake_seconds = 30, .idle_seconds = 0, .stall_seconds = 30};

static void on_guard(uv_timer_t *timer)
{
    struct test_loop *t = timer->data;
    t->stuck = true;
}

void test_loop_open(struct test_loop *t, const struct chv_loop_limits *limits, size_t pool_limit)
{
    struct chv_why why = {""};
    memset(t, 0, sizeof *t);
    t->pool.limit = pool_limit != 0 ? pool_limit : (size_t)64 * 1024 * 1024;
    enum chv_err err = chv_loop_init(&t->loop, "openssl", &t->pool, limits != NULL ? limits : &default_limits, &why);
    CU_ASSERT_EQUAL_FATAL(err, CHV_OK);
    CU_ASSERT_EQUAL_FATAL(uv_timer_init(&t->loop.uv, &t->guard), 0);
    t->guard.data = t;
    CU_ASSERT_EQUAL_FATAL(uv_timer_start(&t->guard, on_guard, GUARD_MS, 0), 0);
}

void test_loop_close(struct test_loop *t)
{
    uv_close((uv_handle_t *)&t->guard, NULL);
    chv_loop_close(&t->loop);
    CU_ASSERT_EQUAL(atomic_load(&t->pool.used), 0);
}

bool test_run(struct test_loop *t, bool (*done)(void *arg), void *arg)
{
    while (!done(arg) && !t->stuck)
        (void)uv_run(&t->loop.uv, UV_RUN_ONCE);
    CU_ASSERT_FALSE(t->stuck);
    return !t->stuck;
}

static bool is_closed(void *arg)
{
    return ((struct side *)arg)->closed > 0;
}

bool test_run_closed(struct test_loop *t, struct side *side)
{
    return test_run(t, is_closed, side);
}

static bool is_ready(void *arg)
{
    struct side *side = arg;
    return side->count[CHV_RECORD_STATUS] > 0 || side->closed > 0;
}

bool test_run_ready(struct test_loop *t, struct side *client)
{
    return test_run(t, is_ready, client) && client->closed == 0;
}

void test_turns(struct test_loop *t, int n)
{
    for (int i = 0; i < n; i++)
        (void)uv_run(&t->loop.uv, UV_RUN_NOWAIT);
}

static void unblock(int fd)
{
    CU_ASSERT_EQUAL_FATAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

void test_tcp_pair(int fd[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(listener >= 0);
    CU_ASSERT_EQUAL_FATAL(bind(listener, (struct sockaddr *)&address, len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(listener, 1), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd[0], (struct sockaddr *)&address, len), 0);
    fd[1] = accept(listener, NULL, NULL);
    CU_ASSERT_FATAL(fd[1] >= 0);
    (void)close(listener);
    for (int i = 0; i < 2; i++) {
        (void)setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        unblock(fd[i]);
    }
}

void test_unix_pair(int fd[2])
{
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

void test_config(struct chv_session_config *config, enum chv_role role)
{
    static uint8_t credential[CHV_CREDENTIAL_MAX];
    size_t len = sizeof credential;
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = 1, .id = "cam1"};
    CU_ASSERT_EQUAL_FATAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, credential, &len), CHV_OK);
    *config = (struct chv_session_config){
        .role = role,
        .profile = CHV_PROFILE_PSK,
        .suite = CHV_SUITE_X25519_AESGCM_SHA256,
        .credential = role == CHV_CLIENT ? credential : NULL,
        .credential_len = role == CHV_CLIENT ? len : 0,
        .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
        .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256),
        .now = 1800000000,
    };
}

static void on_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    struct side *side = chv_conn_owner(conn);
    enum chv_err err = CHV_OK;
    uint8_t wrong[CHV_KEY_LEN] = {1};
    side->conn = conn;
    side->keys++;
    side->request = *request;
    if (side->on_key != NULL)
        side->on_key(side);
    else if (side->key == SIDE_ANSWERS)
        err = chv_conn_key_answer(conn, request->h_psk);
    else if (side->key == SIDE_LIES)
        err = chv_conn_key_answer(conn, wrong);
    else if (side->key == SIDE_REFUSES)
        err = chv_conn_key_refuse(conn, CHV_REFUSE_UNAVAILABLE);
    CU_ASSERT_TRUE(err == CHV_OK || err == CHV_ERR_AUTH); /* the second where the other end lied */
}

static void on_established(struct chv_conn *conn)
{
    struct side *side = chv_conn_owner(conn);
    struct chv_session_info info;
    struct chv_open open = {.service = "message"};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    side->conn = conn;
    side->established++;
    CU_ASSERT_EQUAL(chv_session_get_info(chv_conn_session(conn), &info), CHV_OK);
    if (side->on_established != NULL) {
        side->on_established(side);
        return;
    }
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_OK);
    if (info.server_time != 0) { /* a client knows it */
        enum chv_err err = chv_conn_send(conn, CHV_RECORD_OPEN, map, len);
        (void)err; /* a server's session refuses it */
    }
}

uint64_t test_sum(uint64_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = sum * 1099511628211u + data[i];
    return sum;
}

void test_fill(uint8_t *buf, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        buf[i] = (uint8_t)(seed >> 56);
    }
}

static enum chv_err answer_open(struct chv_conn *conn)
{
    struct chv_status status = {.code = 200, .text = "ready"};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL(chv_status_encode(&status, map, &len), CHV_OK);
    return chv_conn_send(conn, CHV_RECORD_STATUS, map, len);
}

static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct side *side = chv_conn_owner(conn);
    enum chv_err err = side->record != NULL ? side->record(side, type, body, len) : CHV_OK;
    side->count[type]++;
    if (err != CHV_OK)
        return err;
    switch (type) {
    case CHV_RECORD_OPEN:
        return answer_open(conn);
    case CHV_RECORD_DATA:
        side->bytes += len;
        side->sum = test_sum(side->sum, body, len);
        return side->echo ? chv_conn_send(conn, type, body, len) : CHV_OK;
    case CHV_RECORD_CLOSE:
        if (!side->keep_open)
            chv_conn_shutdown(conn);
        return CHV_OK;
    default:
        return CHV_OK;
    }
}

static void on_drained(struct chv_conn *conn)
{
    struct side *side = chv_conn_owner(conn);
    side->drained++;
    CU_ASSERT_EQUAL(chv_conn_unsent(conn), 0);
    if (side->on_drained != NULL)
        side->on_drained(side);
}

static void on_closed(struct chv_conn *conn, enum chv_err err)
{
    struct side *side = chv_conn_owner(conn);
    (void)snprintf(side->why, sizeof side->why, "%s", chv_conn_why(conn));
    if (side->on_closed != NULL)
        side->on_closed(side);
    side->closed++;
    side->err = err;
    side->conn = NULL;
    CU_ASSERT_EQUAL(side->closed, 1);
}

const struct chv_conn_events test_events = {
    .key = on_key,
    .established = on_established,
    .record = on_record,
    .drained = on_drained,
    .closed = on_closed,
};

void test_start(struct test_loop *t, struct side *side, enum chv_role role, int fd)
{
    struct chv_session_config config;
    struct chv_conn *conn;
    struct chv_why why;
    test_config(&config, role);
    CU_ASSERT_EQUAL_FATAL(chv_conn_start(&t->loop, fd, role == CHV_CLIENT ? "server" : "client", &config, &test_events,
                                         side, &conn, &why),
                          CHV_OK);
    side->conn = conn;
}

void test_pair(struct test_loop *t, struct side *client, struct side *server)
{
    int fd[2];
    test_tcp_pair(fd);
    test_start(t, server, CHV_SERVER, fd[1]);
    test_start(t, client, CHV_CLIENT, fd[0]);
}
