/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that go well: both roles over real sockets. */
#include "tests/net/conn_support.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"

struct stream {
    uint64_t left, sum;
    size_t record;
    uint8_t buf[CHV_RECORD_BULK_BODY];
    bool closing;
};

/* Sends what the socket takes, then END and CLOSE. */
static void stream_on(struct side *side)
{
    struct stream *s = side->arg;
    while (s->left > 0 && chv_conn_unsent(side->conn) == 0) {
        size_t n = s->left < s->record ? (size_t)s->left : s->record;
        test_fill(s->buf, n, s->left);
        s->sum = test_sum(s->sum, s->buf, n);
        CU_ASSERT_EQUAL_FATAL(chv_conn_send(side->conn, CHV_RECORD_DATA, s->buf, n), CHV_OK);
        s->left -= n;
    }
    if (s->left == 0 && !s->closing) {
        s->closing = true;
        CU_ASSERT_EQUAL(chv_conn_send(side->conn, CHV_RECORD_END, NULL, 0), CHV_OK);
        chv_conn_shutdown(side->conn);
    }
}

static void one_stream(uint64_t total, size_t record, bool echo)
{
    struct test_loop t;
    struct stream *stream = calloc(1, sizeof *stream);
    struct side client = {.arg = stream, .on_drained = stream_on}, server = {.echo = echo};
    if (stream == NULL)
        abort();
    stream->left = total;
    stream->record = record;
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    stream_on(&client);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    CU_ASSERT_EQUAL(server.bytes, total);
    CU_ASSERT_EQUAL(server.sum, stream->sum);
    CU_ASSERT_EQUAL(server.count[CHV_RECORD_END], 1);
    if (echo) {
        CU_ASSERT_EQUAL(client.bytes, total);
        CU_ASSERT_EQUAL(client.sum, stream->sum);
    }
    CU_ASSERT_EQUAL(client.keys + server.keys, 2);
    CU_ASSERT_EQUAL(client.established + server.established, 2);
    CU_ASSERT_EQUAL(t.loop.conn_count, 0);
    test_loop_close(&t);
    free(stream);
}

static void test_sizes(void)
{
    static const uint64_t totals[] = {0, 1, 65279, 65280, 65281, 65518, 65519, 1 << 20};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        one_stream(totals[i], CHV_RECORD_BULK_BODY, true);
}

static void test_bulk(void)
{
    one_stream(UINT64_C(5) * 1024 * 1024 + 1, CHV_RECORD_BULK_BODY, true);
    one_stream(UINT64_C(32) * 1024 * 1024, CHV_RECORD_BULK_BODY, false);
}

static void test_many_small(void)
{
    one_stream(50000, 10, true);
    one_stream(1000003, 997, true);
}

/* A frame of the longest kind, which the driver itself never sends, is taken. */
static void test_longest_frame(void)
{
    struct test_loop t;
    struct side client = {.keep_open = false}, server = {.echo = false};
    uint8_t *frame = calloc(1, CHV_RECORD_FRAME_MAX);
    size_t len;
    CU_ASSERT_PTR_NOT_NULL_FATAL(frame);
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_session_seal(chv_conn_session(client.conn), CHV_RECORD_DATA, frame, CHV_RECORD_BODY_MAX, &len),
                    CHV_OK);
    chv_conn_push(client.conn, frame, len);
    chv_conn_settle(client.conn);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    CU_ASSERT_EQUAL(server.bytes, CHV_RECORD_BODY_MAX);
    test_loop_close(&t);
    free(frame);
}

static void test_ping(void)
{
    struct test_loop t;
    struct side client = {.keep_open = false}, server = {.echo = false};
    const uint8_t body[65] = {1, 2, 3};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_PING, body, 64), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_send(server.conn, CHV_RECORD_PING, body, 0), CHV_OK);
    while (client.count[CHV_RECORD_PONG] + server.count[CHV_RECORD_PONG] < 2 && !t.stuck)
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_EQUAL(server.count[CHV_RECORD_PING], 1);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_PING, body, 65), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "PING"));
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    test_loop_close(&t);
}

/* Records between cork and uncork, and those sent in a callback, leave in one write. */
static void test_cork(void)
{
    struct test_loop t;
    struct side client = {.keep_open = false}, server = {.echo = false};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_conn_cork(client.conn);
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "x", 1), CHV_OK);
    CU_ASSERT_EQUAL(t.loop.out_len, (size_t)100 * (1 + CHV_RECORD_HEAD + CHV_RECORD_TAIL));
    chv_conn_uncork(client.conn);
    CU_ASSERT_EQUAL(t.loop.out_len, 0);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.bytes, 100);
    test_loop_close(&t);
}

/* A corked connection's records go out before another one uses the buffer. */
static void test_two_share_the_buffer(void)
{
    struct test_loop t;
    struct side client[2] = {{.arg = NULL}, {.arg = NULL}}, server[2] = {{.arg = NULL}, {.arg = NULL}};
    test_loop_open(&t, NULL, 0);
    for (int i = 0; i < 2; i++) {
        test_pair(&t, &client[i], &server[i]);
        CU_ASSERT_TRUE(test_run_ready(&t, &client[i]));
        chv_conn_cork(client[i].conn);
    }
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client[i % 2].conn, CHV_RECORD_DATA, "ab", (size_t)i % 2 + 1), CHV_OK);
    for (int i = 0; i < 2; i++) {
        chv_conn_uncork(client[i].conn);
        chv_conn_shutdown(client[i].conn);
    }
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_TRUE(test_run_closed(&t, &server[i]));
        CU_ASSERT_EQUAL(server[i].bytes, 50 * ((size_t)i + 1));
        CU_ASSERT_EQUAL(server[i].err, CHV_OK);
    }
    test_loop_close(&t);
}

static void test_wrong_calls(void)
{
    struct test_loop t;
    struct side client = {.keep_open = false}, server = {.key = SIDE_WAITS};
    uint8_t big[CHV_RECORD_BULK_BODY + 1] = {0};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_unix_pair(fd);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    CU_ASSERT_EQUAL(chv_conn_send(server.conn, CHV_RECORD_DATA, "x", 1), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, big), CHV_ERR_STATE);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    while (server.keys == 0 && !t.stuck)
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_EQUAL(chv_conn_precompute(server.conn), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, server.request.h_psk), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, server.request.h_psk), CHV_ERR_STATE);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_precompute(server.conn), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_key_refuse(server.conn, CHV_REFUSE_RATE), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, big, sizeof big), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, 11, big, 1), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_conn_send_body(client.conn, CHV_RECORD_DATA, 1), CHV_ERR_STATE);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "x", 1), CHV_ERR_STATE);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    test_loop_close(&t);
}

static enum chv_err start_another(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    struct side *other = side->arg;
    uint8_t before[64];
    if (type != CHV_RECORD_DATA || other->conn != NULL)
        return CHV_OK;
    CU_ASSERT_EQUAL_FATAL(len, sizeof before);
    memcpy(before, body, len);
    test_start(other->arg, other, CHV_SERVER, (int)other->bytes);
    CU_ASSERT_EQUAL(memcmp(before, body, len), 0); /* the new one did not read into the buffer in use */
    return CHV_OK;
}

static void test_start_inside_a_callback(void)
{
    struct test_loop t;
    struct side inner = {.arg = &t}, inner_client = {.arg = NULL};
    struct side client = {.keep_open = false}, server = {.record = start_another, .arg = &inner};
    uint8_t body[64];
    int fd[2];
    test_fill(body, sizeof body, 1);
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    test_tcp_pair(fd);
    test_start(&t, &inner_client, CHV_CLIENT, fd[0]);
    inner.bytes = (uint64_t)fd[1];
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, body, sizeof body), CHV_OK);
    CU_ASSERT_TRUE(test_run_ready(&t, &inner_client));
    chv_conn_shutdown(inner_client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &inner));
    CU_ASSERT_EQUAL(inner.err, CHV_OK);
    test_loop_close(&t);
}

/* The hello is there before the server's end starts: it is read without a turn of the loop. */
static void test_read_at_once(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_tcp_pair(fd);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    CU_ASSERT_EQUAL(server.keys, 1);
    test_loop_close(&t);
}

static bool holds(const uint8_t *buf, size_t len, const char *text)
{
    return memmem(buf, len, text, strlen(text)) != NULL;
}

static void test_no_plaintext_stays(void)
{
    static const char text[] = "nobody may find this text in a buffer";
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = true};
    size_t cap;
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, text, sizeof text), CHV_OK);
    CU_ASSERT_FALSE(holds(t.loop.out, CHV_LOOP_BUFFER, text));
    while (client.bytes < sizeof text && !t.stuck)
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_FALSE(holds(t.loop.in, CHV_LOOP_BUFFER, text));
    CU_ASSERT_FALSE(holds(t.loop.out, CHV_LOOP_BUFFER, text));
    /* a body that is refused, and one that is never sent */
    memcpy(chv_conn_body(client.conn, &cap), text, sizeof text);
    CU_ASSERT_EQUAL(chv_conn_send_body(client.conn, 11, sizeof text), CHV_ERR_ARGUMENT);
    CU_ASSERT_FALSE(holds(t.loop.out, CHV_LOOP_BUFFER, text));
    memcpy(chv_conn_body(client.conn, &cap), text, sizeof text);
    chv_conn_abort(client.conn, CHV_ERR_CANCELLED);
    CU_ASSERT_FALSE(holds(t.loop.out, CHV_LOOP_BUFFER, text));
    test_loop_close(&t);
}

static enum chv_err pause_each(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    (void)body;
    (void)len;
    if (type == CHV_RECORD_DATA)
        chv_conn_pause(side->conn);
    return CHV_OK;
}

/* What waits for a paused owner stays where it is while it is much; what he has had is gone from there. */
static void test_paused(void)
{
    enum { RECORDS = 4 };
    static const char text[400] = "nobody may find this text either";
    struct test_loop t;
    struct side client = {.echo = false}, server = {.record = pause_each};
    test_loop_open(&t, NULL, 1 << 20);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_conn_cork(client.conn);
    for (int i = 0; i < RECORDS; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, text, sizeof text), CHV_OK);
    chv_conn_uncork(client.conn);
    while (server.bytes == 0 && !t.stuck)
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_EQUAL(server.bytes, sizeof text);
    const uint8_t *kept = server.conn->partial.buf;
    CU_ASSERT_PTR_NOT_NULL_FATAL(kept);
    chv_conn_unpause(server.conn);
    CU_ASSERT_EQUAL(server.bytes, 2 * sizeof text);
    CU_ASSERT_PTR_EQUAL_FATAL(server.conn->partial.buf, kept);
    CU_ASSERT_FALSE(holds(kept, server.conn->partial.cap, text));
    for (uint64_t i = 3; i <= RECORDS; i++) { /* little of it: no large buffer is kept */
        chv_conn_unpause(server.conn);
        CU_ASSERT_EQUAL(server.bytes, i * sizeof text);
        CU_ASSERT_TRUE(server.conn->partial.cap / 2 <
                       (RECORDS - i + 1) * (sizeof text + CHV_RECORD_HEAD + CHV_RECORD_TAIL));
    }
    CU_ASSERT_PTR_NULL(server.conn->partial.buf);
    test_loop_close(&t);
}

TEST_MAIN("connections", {"messages of many sizes", test_sizes}, {"bulk", test_bulk},
          {"many small records", test_many_small}, {"the longest frame", test_longest_frame},
          {"ping and pong", test_ping}, {"paused", test_paused}, {"cork", test_cork},
          {"two share the buffer", test_two_share_the_buffer}, {"wrong calls", test_wrong_calls},
          {"start inside a callback", test_start_inside_a_callback}, {"read at once", test_read_at_once},
          {"no plaintext stays", test_no_plaintext_stays})
