/* SPDX-License-Identifier: Apache-2.0 */
/* Connections whose directions are independent: one that is stuck stops nothing but itself. */
#include "tests/net/conn_support.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"

static uint8_t body[CHV_RECORD_BULK_BODY];

/* A client that does not read, as far as polling goes, and a server that has unsent bytes for it. */
static void stuck_pair(struct test_loop *t, struct side *client, struct side *server)
{
    test_pair(t, client, server);
    CU_ASSERT_TRUE(test_run_ready(t, client));
    chv_conn_duplex(client->conn, true);
    chv_conn_duplex(server->conn, true);
    client->conn->read_ended = true;
    chv_conn_settle(client->conn);
    while (server->conn->unsent.len == 0)
        CU_ASSERT_EQUAL_FATAL(chv_conn_send(server->conn, CHV_RECORD_DATA, body, sizeof body), CHV_OK);
}

static void let_read(struct side *client)
{
    client->conn->read_ended = false;
    chv_conn_settle(client->conn);
}

static void test_reads_with_unsent(void)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, NULL, 0);
    stuck_pair(&t, &client, &server);
    for (int i = 0; i < 100; i++) {
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, body, sizeof body), CHV_OK);
        test_turns(&t, 2);
    }
    while (server.bytes < 100 * sizeof body && !t.stuck)
        test_turns(&t, 1);
    CU_ASSERT_TRUE(chv_conn_unsent(server.conn) > 0);
    let_read(&client);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    test_loop_close(&t);
}

/* Whoever answers what it reads cannot be made to hold more and more. */
static void test_unsent_is_bounded(void)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.echo = true};
    test_loop_open(&t, NULL, 0);
    stuck_pair(&t, &client, &server);
    for (int i = 0; i < 2000 && client.conn->unsent.len == 0; i++) {
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, body, sizeof body), CHV_OK);
        test_turns(&t, 2);
    }
    CU_ASSERT_TRUE(client.conn->unsent.len > 0);
    test_turns(&t, 20);
    CU_ASSERT_TRUE(server.conn->unsent.len > CHV_CONN_UNSENT_MAX);
    CU_ASSERT_TRUE(server.conn->unsent.len <= CHV_CONN_UNSENT_MAX + 2 * (size_t)CHV_LOOP_BUFFER);
    CU_ASSERT_EQUAL(server.conn->events, UV_WRITABLE);
    let_read(&client);
    while (client.conn->unsent.len > 0 && !t.stuck)
        test_turns(&t, 1);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    test_loop_close(&t);
}

/* PINGs cost their sender nothing, and a tunnel's client may have many connections: each has little held for them. */
static void test_pongs_are_bounded(void)
{
    enum { PINGS = 20000, PING_LEN = 64 };
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, NULL, 0);
    stuck_pair(&t, &client, &server);
    const size_t before = server.conn->unsent.len;
    for (int i = 0; i < PINGS; i++) {
        CU_ASSERT_EQUAL_FATAL(chv_conn_send(client.conn, CHV_RECORD_PING, body, PING_LEN), CHV_OK);
        if (i % 100 == 0)
            test_turns(&t, 2);
    }
    test_turns(&t, 20);
    CU_ASSERT_EQUAL(server.conn->events, UV_WRITABLE);
    CU_ASSERT_TRUE(server.conn->unsent.len > before);
    CU_ASSERT_TRUE(server.conn->unsent.len <= before + CHV_CONN_PONGS_MAX + (size_t)CHV_LOOP_BUFFER);
    let_read(&client);
    while (client.count[CHV_RECORD_PONG] < PINGS && !t.stuck)
        test_turns(&t, 1);
    CU_ASSERT_EQUAL(client.count[CHV_RECORD_PONG], PINGS);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    test_loop_close(&t);
}

static void on_timer(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Turns the loop for so long; the connections' own clock is what is waited for. */
static void run_for(struct test_loop *t, unsigned ms)
{
    bool over = false;
    uv_timer_t timer;
    CU_ASSERT_EQUAL_FATAL(uv_timer_init(&t->loop.uv, &timer), 0);
    timer.data = &over;
    CU_ASSERT_EQUAL_FATAL(uv_timer_start(&timer, on_timer, ms, 0), 0);
    while (!over)
        (void)uv_run(&t->loop.uv, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    test_turns(t, 1);
}

/* The stall limit is not for bytes of a direction that its owner lets wait, until CLOSE was sent. */
static void test_patience(void)
{
    static const struct chv_loop_limits limits = {.handshake_seconds = 30, .stall_seconds = 1};
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, &limits, 0);
    stuck_pair(&t, &client, &server);
    run_for(&t, 2200);
    CU_ASSERT_EQUAL_FATAL(server.closed, 0);
    CU_ASSERT_TRUE(chv_conn_unsent(server.conn) > 0);
    chv_conn_shutdown(server.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "did not take what was sent"));
    test_loop_close(&t);
}

static enum chv_err hold(struct side *side, uint8_t type, const uint8_t *bytes, size_t len)
{
    (void)bytes;
    (void)len;
    if (type == CHV_RECORD_DATA)
        chv_conn_hold_back(side->conn);
    return CHV_OK;
}

static void held_pair(struct test_loop *t, struct side *client, struct side *server)
{
    server->record = hold;
    test_pair(t, client, server);
    CU_ASSERT_TRUE(test_run_ready(t, client));
    chv_conn_duplex(server->conn, true);
    server->conn->read_size = CHV_LOOP_BUFFER; /* as of one that was fast */
    CU_ASSERT_EQUAL(chv_conn_send(client->conn, CHV_RECORD_DATA, "x", 1), CHV_OK);
    while (server->bytes == 0 && !t->stuck)
        test_turns(t, 1);
    CU_ASSERT_TRUE(server->conn->held_back);
}

/* Its pings are not read while it is held back. */
static void test_held_back_is_not_silent(void)
{
    static const struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 1, .stall_seconds = 30};
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, &limits, 0);
    held_pair(&t, &client, &server);
    chv_conn_duplex(client.conn, true); /* the limit is the loop's, so it is this end's, too */
    chv_conn_hold_back(client.conn);
    client.conn->events = 0;
    (void)uv_poll_stop(&client.conn->handle.poll);
    run_for(&t, 3200);
    CU_ASSERT_EQUAL_FATAL(server.closed, 0);
    chv_conn_unpause(server.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "silent"));
    test_loop_close(&t);
}

static void reset_client(struct side *client)
{
    const struct linger now = {.l_onoff = 1};
    CU_ASSERT_EQUAL(setsockopt(client->conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    chv_conn_abort(client->conn, CHV_ERR_CANCELLED);
}

static void test_reset_while_held_back(void)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, NULL, 0);
    held_pair(&t, &client, &server);
    reset_client(&client);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

/* An orderly end is no reason to drop what was sent before it. */
static void test_end_while_held_back(void)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, NULL, 0);
    held_pair(&t, &client, &server);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "yz", 2), CHV_OK);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_EQUAL(shutdown(client.conn->fd, SHUT_WR), 0);
    test_turns(&t, 20);
    CU_ASSERT_EQUAL_FATAL(server.closed, 0);
    CU_ASSERT_EQUAL(server.bytes, 1);
    CU_ASSERT_TRUE(server.conn->hung_up);
    CU_ASSERT_EQUAL(server.conn->events, 0);
    server.record = NULL;
    chv_conn_unpause(server.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    CU_ASSERT_EQUAL(server.bytes, 3);
    test_loop_close(&t);
}

/* What is read at a time shrinks with what the pool has left: it never runs out by halves. */
static void test_pool_share(void)
{
    struct chv_pool pool = {.limit = 64 * 1024 * 1024};
    CU_ASSERT_EQUAL(chv_pool_share(&pool, CHV_LOOP_BUFFER), CHV_LOOP_BUFFER);
    for (int i = 0; i < 2000; i++) {
        const size_t share = chv_pool_share(&pool, CHV_LOOP_BUFFER);
        CU_ASSERT_TRUE(share >= CHV_POOL_SHARE_MIN);
        if (share > CHV_POOL_SHARE_MIN)
            atomic_fetch_add(&pool.used, share);
    }
    CU_ASSERT_TRUE(atomic_load(&pool.used) < pool.limit);
    atomic_store(&pool.used, pool.limit);
    CU_ASSERT_EQUAL(chv_pool_share(&pool, CHV_LOOP_BUFFER), CHV_POOL_SHARE_MIN);
    CU_ASSERT_EQUAL(chv_pool_share(&pool, 10), 10);
}

/* A stuck end reads little at a time, and less if the pool is nearly used up. */
static void test_reads_shrink(void)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    test_loop_open(&t, NULL, 0);
    held_pair(&t, &client, &server);
    CU_ASSERT_EQUAL(server.conn->read_size, CHV_CONN_READ_MIN);
    server.record = NULL;
    atomic_fetch_add(&t.pool.used, t.pool.limit - 32 * 8192);
    for (int i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, body, 8000), CHV_OK);
    chv_conn_unpause(server.conn);
    test_turns(&t, 1);
    CU_ASSERT_TRUE(server.bytes > 1 && server.bytes <= CHV_LOOP_READS * 8192);
    atomic_fetch_sub(&t.pool.used, t.pool.limit - 32 * 8192);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.bytes, 1 + 20 * 8000);
    test_loop_close(&t);
}

TEST_MAIN("independent directions", {"reads with unsent bytes", test_reads_with_unsent},
          {"unsent bytes are bounded", test_unsent_is_bounded}, {"PONGs are bounded", test_pongs_are_bounded},
          {"patience until CLOSE", test_patience}, {"held back is not silent", test_held_back_is_not_silent},
          {"reset while held back", test_reset_while_held_back}, {"end while held back", test_end_while_held_back},
          {"the pool's share", test_pool_share}, {"reads shrink", test_reads_shrink})
