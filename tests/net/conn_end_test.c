/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that end: peers that vanish, lie or refuse, owners that close in every callback, late answers. */
#include "tests/net/conn_support.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"

/* Makes close() send RST. */
static void hard(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    CU_ASSERT_EQUAL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
}

/* A server on one end of a TCP connection, the bare other end. */
static int bare_peer(struct test_loop *t, struct side *side, enum chv_role role)
{
    int fd[2];
    test_tcp_pair(fd);
    test_start(t, side, role, fd[1]);
    return fd[0];
}

static size_t read_all(struct test_loop *t, int fd, uint8_t *buf, size_t cap, bool *reset)
{
    size_t len = 0;
    *reset = false;
    while (!t->stuck) {
        ssize_t n = recv(fd, buf + len, cap - len, MSG_DONTWAIT);
        if (n > 0)
            len += (size_t)n;
        else if (n == 0)
            break;
        else if (errno != EAGAIN) {
            *reset = true;
            break;
        }
        (void)uv_run(&t->loop.uv, UV_RUN_NOWAIT);
    }
    return len;
}

static void test_vanish_before_hello(void)
{
    for (int reset = 0; reset < 2; reset++) {
        for (size_t sent = 0; sent < 3; sent++) {
            struct test_loop t;
            struct side server = {.echo = false};
            test_loop_open(&t, NULL, 0);
            int fd = bare_peer(&t, &server, CHV_SERVER);
            CU_ASSERT_EQUAL(send(fd, "\0\100C", sent, 0), (ssize_t)sent);
            test_turns(&t, 3);
            if (reset)
                hard(fd);
            (void)close(fd);
            CU_ASSERT_TRUE(test_run_closed(&t, &server));
            CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
            CU_ASSERT_TRUE(server.why[0] != '\0');
            test_loop_close(&t);
        }
    }
}

/* The client goes away at each step of its life; the server always notices, and ends with "truncated". */
enum step { STEP_KEY_OUT, STEP_SERVER_KEY_OUT, STEP_ESTABLISHED, STEP_READY, STEP_HALF_RECORD, STEP_CLOSE_SENT, STEPS };

static bool key_is_out(void *arg)
{
    return ((struct side *)arg)->keys > 0;
}

static void go_to(struct test_loop *t, struct side *client, struct side *server, enum step step)
{
    uint8_t frame[64];
    size_t len;
    client->key = step == STEP_KEY_OUT ? SIDE_WAITS : SIDE_ANSWERS;
    server->key = step == STEP_SERVER_KEY_OUT ? SIDE_WAITS : SIDE_ANSWERS;
    server->keep_open = true;
    test_pair(t, client, server);
    if (step == STEP_KEY_OUT)
        CU_ASSERT_TRUE(test_run(t, key_is_out, client));
    if (step == STEP_SERVER_KEY_OUT)
        CU_ASSERT_TRUE(test_run(t, key_is_out, server));
    if (step >= STEP_READY)
        CU_ASSERT_TRUE(test_run_ready(t, client));
    if (step == STEP_HALF_RECORD) {
        CU_ASSERT_EQUAL(chv_session_seal(chv_conn_session(client->conn), CHV_RECORD_DATA, frame, 20, &len), CHV_OK);
        chv_conn_push(client->conn, frame, len - 1);
    }
    if (step == STEP_CLOSE_SENT)
        CU_ASSERT_EQUAL(chv_conn_send(client->conn, CHV_RECORD_CLOSE, NULL, 0), CHV_OK);
    test_turns(t, 5);
}

static void vanish(enum step step, bool reset)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, NULL, 0);
    go_to(&t, &client, &server, step);
    if (reset)
        hard(client.conn->fd);
    chv_conn_abort(client.conn, CHV_ERR_CANCELLED);
    if (step == STEP_CLOSE_SENT && !reset) {
        /* Nothing is missing: the server may still close in peace. */
        test_turns(&t, 5);
        CU_ASSERT_EQUAL_FATAL(server.closed, 0);
        chv_conn_shutdown(server.conn);
    }
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_CANCELLED);
    if (step != STEP_CLOSE_SENT)
        CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

static void test_vanish_at_every_step(void)
{
    for (int step = 0; step < STEPS; step++) {
        vanish((enum step)step, false);
        vanish((enum step)step, true);
    }
}

static void test_refusal_is_delivered(void)
{
    struct test_loop t;
    struct side server = {.echo = false};
    static uint8_t garbage[100000]; /* bytes the server never reads would turn its close into a reset */
    uint8_t reply[600] = {0};
    bool reset;
    garbage[1] = 9; /* 9 bytes that are no hello */
    test_loop_open(&t, NULL, 0);
    int fd = bare_peer(&t, &server, CHV_SERVER);
    CU_ASSERT_EQUAL(send(fd, garbage, sizeof garbage, 0), (ssize_t)sizeof garbage);
    CU_ASSERT_TRUE(shutdown(fd, SHUT_WR) == 0);
    size_t len = read_all(&t, fd, reply, sizeof reply, &reset);
    CU_ASSERT_EQUAL(len, 5);
    CU_ASSERT_FALSE(reset);
    CU_ASSERT_EQUAL(reply[3] << 8 | reply[4], CHV_REFUSE_MALFORMED);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_MALFORMED);
    (void)close(fd);
    test_loop_close(&t);
}

static void test_key_refused(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.key = SIDE_REFUSES};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_REFUSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "503"));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_KEY);
    test_loop_close(&t);
}

/* A server may refuse before it has read anything. */
static void test_refused_at_once(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_tcp_pair(fd);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    CU_ASSERT_EQUAL(chv_conn_key_refuse(server.conn, 77), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_conn_key_refuse(server.conn, CHV_REFUSE_RATE), CHV_OK);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_REFUSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "429"));
    test_loop_close(&t);
}

static void test_client_key_refused(void)
{
    struct test_loop t;
    struct side client = {.key = SIDE_REFUSES}, server = {.echo = false};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_KEY);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

static void test_wrong_key(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.key = SIDE_LIES};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "cannot prove that it knows this key"));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

static void test_late_answer(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.key = SIDE_WAITS};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run(&t, key_is_out, &server));
    test_turns(&t, 10);
    CU_ASSERT_EQUAL(client.established, 0);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, server.request.h_psk), CHV_OK);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    test_loop_close(&t);
}

/* Bytes that nobody wants while the key is out are not told of again and again; whoever sends them still has to go. */
static void test_early_bytes(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.key = SIDE_WAITS};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run(&t, key_is_out, &server));
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(server.conn->events, UV_READABLE | UV_DISCONNECT); /* changed no more by what follows mostly */
    CU_ASSERT_EQUAL(send(client.conn->fd, "x", 1, MSG_NOSIGNAL), 1);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(server.conn->events, UV_DISCONNECT);
    chv_conn_abort(client.conn, CHV_ERR_CANCELLED);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

/* Between the end and `closed` the connection is still there: an answer that comes then changes nothing. */
static void test_answer_after_the_end(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.key = SIDE_WAITS};
    static const uint8_t key[CHV_KEY_LEN] = {1};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run(&t, key_is_out, &server));
    chv_conn_abort(server.conn, CHV_ERR_CANCELLED);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, key), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_key_refuse(server.conn, CHV_REFUSE_RATE), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(server.closed, 0);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_CANCELLED);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

static void abort_it(struct side *side)
{
    chv_conn_abort(side->conn, CHV_ERR_CANCELLED);
}

static void end_it(struct side *side)
{
    chv_conn_end(side->conn, CHV_ERR_CANCELLED);
}

static void shut_it(struct side *side)
{
    chv_conn_shutdown(side->conn);
}

static enum chv_err ending_record(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    side_fn how = side->arg == NULL ? abort_it : end_it;
    (void)type;
    (void)body;
    (void)len;
    how(side);
    return CHV_OK;
}

static enum chv_err failing_record(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    (void)side;
    (void)body;
    (void)len;
    return type == CHV_RECORD_DATA ? CHV_ERR_BUSY : CHV_OK;
}

static void close_inside(struct side client, struct side server)
{
    struct test_loop t;
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_TRUE(client.err != CHV_OK || server.err != CHV_OK);
    test_loop_close(&t);
}

static void test_close_inside_callbacks(void)
{
    static const side_fn ways[] = {abort_it, end_it, shut_it};
    static int plain_arg;
    const struct side plain = {.echo = false};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct side keyed = {.on_key = ways[i]};
        close_inside(keyed, plain);
        close_inside(plain, keyed);
        struct side established = {.on_established = ways[i]};
        if (ways[i] != shut_it) /* a client that says CLOSE first breaks the protocol: its session refuses */
            close_inside(established, plain);
        close_inside(plain, established);
    }
    struct side aborts = {.record = ending_record}, ends = {.record = ending_record, .arg = &plain_arg};
    close_inside(plain, aborts);
    close_inside(aborts, plain);
    close_inside(plain, ends);
    close_inside(ends, plain);
}

/* What the server said before it ended comes before the end, although the client goes on sending. */
static void test_last_words(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.record = failing_record};
    static uint8_t data[CHV_RECORD_BULK_BODY];
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_send(server.conn, 99, "bye", 3), CHV_OK);
    for (int i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, data, sizeof data), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.count[99], 1);
    CU_ASSERT_EQUAL(client.err, CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(server.err, CHV_ERR_BUSY);
    test_loop_close(&t);
}

static enum chv_err refused_record(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    (void)body;
    (void)len;
    if (type != 99)
        return CHV_OK;
    chv_conn_explain(side->conn, "what the server said");
    return CHV_ERR_REFUSED;
}

/* A write that fails does not hide what the peer sent before it went. */
static void test_last_words_before_a_failed_write(void)
{
    struct test_loop t;
    struct side client = {.record = refused_record}, server = {.echo = false};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_unix_pair(fd);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_send(server.conn, 99, "bye", 3), CHV_OK);
    chv_conn_abort(server.conn, CHV_ERR_REFUSED);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "x", 1), CHV_OK);
    CU_ASSERT_TRUE(client.conn->write_ended);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_REFUSED);
    CU_ASSERT_STRING_EQUAL(client.why, "what the server said");
    test_loop_close(&t);
}

static void test_tampered_record(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    uint8_t frame[64];
    size_t len;
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_session_seal(chv_conn_session(client.conn), CHV_RECORD_DATA, frame, 20, &len), CHV_OK);
    frame[10] ^= 1;
    chv_conn_push(client.conn, frame, len);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(server.bytes, 0);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
}

/* Writing to a peer that is gone raises no signal, and the end comes by the reading side. */
static void write_to_nobody(void (*make)(int fd[2]))
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    static uint8_t data[CHV_RECORD_BULK_BODY];
    int fd[2];
    test_loop_open(&t, NULL, 0);
    make(fd);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    hard(server.conn->fd);
    chv_conn_abort(server.conn, CHV_ERR_CANCELLED);
    enum chv_err err = CHV_OK;
    for (int i = 0; i < 5 && err == CHV_OK; i++)
        err = chv_conn_send(client.conn, CHV_RECORD_DATA, data, sizeof data);
    CU_ASSERT_EQUAL(err, CHV_ERR_IO);
    CU_ASSERT_EQUAL(client.closed, 0);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_TRUNCATED);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "connection lost: "));
    test_loop_close(&t);
}

static void test_write_to_nobody(void)
{
    write_to_nobody(test_tcp_pair);
    write_to_nobody(test_unix_pair); /* EPIPE at once */
}

/* What a peer sends while the server waits for the key is kept, little as it is, and read when its time has come. */
static void test_bytes_ahead(void)
{
    struct test_loop t;
    struct side client = {.key = SIDE_WAITS}, server = {.key = SIDE_WAITS};
    static uint8_t garbage[100000] = {0, 50};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_tcp_pair(fd);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    chv_conn_push(client.conn, garbage, sizeof garbage);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    CU_ASSERT_EQUAL(server.keys, 1);
    test_turns(&t, 5);
    CU_ASSERT_TRUE(server.conn->partial.len > 0 && server.conn->partial.len <= CHV_FIRST_FRAME_MAX);
    CU_ASSERT_EQUAL(server.closed, 0);
    CU_ASSERT_EQUAL(chv_conn_key_answer(server.conn, server.request.h_psk), CHV_OK);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_AUTH);
    test_loop_close(&t);
}

/* The loop goes down with connections in every state. */
static void test_loop_goes_down(void)
{
    struct test_loop t;
    struct side clients[STEPS], servers[STEPS], bare = {.echo = false};
    memset(clients, 0, sizeof clients);
    memset(servers, 0, sizeof servers);
    test_loop_open(&t, NULL, 0);
    for (int step = 0; step < STEPS; step++)
        go_to(&t, &clients[step], &servers[step], (enum step)step);
    int fd = bare_peer(&t, &bare, CHV_SERVER);
    test_loop_close(&t);
    for (int step = 0; step < STEPS; step++) {
        CU_ASSERT_EQUAL(clients[step].closed, 1);
        CU_ASSERT_EQUAL(servers[step].closed, 1);
        CU_ASSERT_EQUAL(servers[step].err, CHV_ERR_CANCELLED);
    }
    CU_ASSERT_EQUAL(bare.err, CHV_ERR_CANCELLED);
    (void)close(fd);
}

struct late_handle {
    uv_timer_t timer;
    bool closed;
};

static void on_late_closed(uv_handle_t *handle)
{
    ((struct late_handle *)handle->data)->closed = true;
}

static void close_late(struct side *side)
{
    struct late_handle *late = side->arg;
    uv_loop_t *loop = late->timer.loop;
    uv_close((uv_handle_t *)&late->timer, on_late_closed);
    uv_stop(loop);
}

/* What the owner closes at the last moment, with the loop stopped, is closed all the same. */
static void test_loop_goes_down_to_the_last_handle(void)
{
    struct test_loop t;
    struct late_handle late = {.closed = false};
    struct side side = {.on_closed = close_late, .arg = &late};
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL(uv_timer_init(&t.loop.uv, &late.timer), 0);
    late.timer.data = &late;
    int fd = bare_peer(&t, &side, CHV_SERVER);
    test_loop_close(&t);
    CU_ASSERT_EQUAL(side.closed, 1);
    CU_ASSERT_TRUE(late.closed);
    (void)close(fd);
}

TEST_MAIN("ends of connections", {"vanish before the hello", test_vanish_before_hello},
          {"vanish at every step", test_vanish_at_every_step}, {"refusal is delivered", test_refusal_is_delivered},
          {"key refused", test_key_refused}, {"refused at once", test_refused_at_once},
          {"client's key refused", test_client_key_refused}, {"wrong key", test_wrong_key},
          {"early bytes", test_early_bytes}, {"late answer", test_late_answer},
          {"answer after the end", test_answer_after_the_end}, {"close inside callbacks", test_close_inside_callbacks},
          {"last words", test_last_words}, {"last words before a failed write", test_last_words_before_a_failed_write},
          {"tampered record", test_tampered_record}, {"write to nobody", test_write_to_nobody},
          {"bytes ahead", test_bytes_ahead}, {"loop goes down", test_loop_goes_down},
          {"loop goes down to the last handle", test_loop_goes_down_to_the_last_handle})
