/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that are slow, silent or greedy: memory and time are bounded. */
#include "tests/net/conn_support.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/session.h"
#include "net/conn_internal.h"

static const size_t MIB = (size_t)1024 * 1024;

/* A server that floods, a client whose socket nobody reads: the server stops, holds little, and goes on at `drained`.
 */
static uint8_t flood_body[CHV_RECORD_BULK_BODY];

static void flood(struct side *side)
{
    uint64_t *left = side->arg;
    while (*left > 0 && chv_conn_unsent(side->conn) == 0) {
        CU_ASSERT_EQUAL_FATAL(chv_conn_send(side->conn, CHV_RECORD_DATA, flood_body, sizeof flood_body), CHV_OK);
        *left -= 1;
    }
    if (*left == 0)
        chv_conn_shutdown(side->conn);
}

static void test_slow_reader(void)
{
    struct test_loop t;
    uint64_t left = 400, asked = left;
    struct side client = {.echo = false}, server = {.on_drained = flood, .arg = &left};
    test_loop_open(&t, NULL, 4 * MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    (void)uv_poll_stop(&client.conn->handle.poll);
    flood(&server);
    test_turns(&t, 20);
    CU_ASSERT_TRUE(left > 0);
    CU_ASSERT_TRUE(chv_conn_unsent(server.conn) > 0);
    CU_ASSERT_TRUE(chv_conn_unsent(server.conn) <= CHV_LOOP_BUFFER);
    CU_ASSERT_TRUE(atomic_load(&t.pool.used) <= 2 * (size_t)CHV_LOOP_BUFFER);
    client.conn->events = 0;
    chv_conn_settle(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_OK);
    CU_ASSERT_TRUE(server.drained > 0);
    CU_ASSERT_EQUAL(client.bytes, asked * sizeof flood_body);
    test_loop_close(&t);
}

/* A client that sends and never reads: the server stops reading it. */
static void test_back_pressure(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = true};
    test_loop_open(&t, NULL, 16 * MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    client.conn->read_ended = true; /* as far as polling goes */
    chv_conn_settle(client.conn);
    uint64_t sent = 0;
    for (int i = 0; i < 2000 && client.conn->unsent.len == 0; i++) {
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, flood_body, sizeof flood_body), CHV_OK);
        sent += sizeof flood_body;
        test_turns(&t, 2);
    }
    CU_ASSERT_TRUE(client.conn->unsent.len > 0);
    test_turns(&t, 20);
    CU_ASSERT_TRUE(server.bytes < sent);
    CU_ASSERT_TRUE(server.conn->unsent.len > 0 && server.conn->unsent.len <= CHV_LOOP_BUFFER);
    CU_ASSERT_EQUAL(server.conn->events, UV_WRITABLE);
    CU_ASSERT_EQUAL(server.conn->read_size, CHV_CONN_READ_MIN);
    client.conn->read_ended = false;
    chv_conn_settle(client.conn);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(client.bytes, sent);
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    test_loop_close(&t);
}

/* One wake-up does not serve one peer for ever: reads of 1, 2, 4 ... 128 bytes, then it is another's turn. */
static void test_reads_per_wake_up(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    for (int i = 0; i < 1000; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "0123456789", 10), CHV_OK);
    server.conn->read_size = 1;
    test_turns(&t, 1);
    CU_ASSERT_EQUAL(server.bytes, (1u << CHV_LOOP_READS) / (10 + CHV_RECORD_HEAD + CHV_RECORD_TAIL) * 10);
    test_turns(&t, 10);
    CU_ASSERT_EQUAL(server.bytes, 10000);
    test_loop_close(&t);
}

/* Alone, a stream may take a whole buffer; the more had a turn in the last round or in this one, the less. */
static void test_turns_are_shared(void)
{
    struct test_loop t;
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL(chv_loop_turn(&t.loop), CHV_LOOP_BUFFER);
    CU_ASSERT_EQUAL(chv_loop_turn(&t.loop), CHV_LOOP_BUFFER / 2);
    for (int i = 0; i < 10; i++)
        (void)chv_loop_turn(&t.loop);
    test_turns(&t, 1);
    CU_ASSERT_EQUAL(chv_loop_turn(&t.loop), CHV_LOOP_BUFFER / 12);
    test_turns(&t, 1);
    CU_ASSERT_EQUAL(chv_loop_turn(&t.loop), CHV_LOOP_BUFFER);
    for (int i = 0; i < 1000; i++)
        (void)chv_loop_turn(&t.loop);
    CU_ASSERT_EQUAL(chv_loop_turn(&t.loop), CHV_LOOP_TURN_MIN);
    test_loop_close(&t);
}

struct amount {
    struct side *side;
    uint64_t bytes;
};

static bool has_come(void *arg)
{
    const struct amount *a = arg;
    return a->side->bytes >= a->bytes;
}

/* Waits until that much is at its socket, which nobody reads. */
static bool arrives(const struct side *side, size_t bytes)
{
    int there = 0;
    for (int i = 0; i < 5000 && (size_t)there < bytes; i++) {
        (void)usleep(1000);
        CU_ASSERT_EQUAL(ioctl(side->conn->fd, FIONREAD, &there), 0);
    }
    return (size_t)there >= bytes;
}

/* Who has sent much waits for its next turn while others have theirs. */
static void test_turn_ends_a_read(void)
{
    enum { RECORDS = 3, WARM = 40 };
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, NULL, MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    for (uint64_t i = 1; i <= WARM; i++) { /* until TCP's window has room for all */
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, flood_body, sizeof flood_body), CHV_OK);
        CU_ASSERT_TRUE(test_run(&t, has_come, &(struct amount){&server, i * sizeof flood_body}));
    }
    server.bytes = 0;
    server.conn->read_ended = true; /* as far as polling goes */
    chv_conn_settle(server.conn);
    for (int i = 0; i < RECORDS; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, flood_body, sizeof flood_body), CHV_OK);
    CU_ASSERT_TRUE_FATAL(arrives(&server, RECORDS * sizeof flood_body));
    server.conn->read_ended = false;
    chv_conn_settle(server.conn);
    server.conn->read_size = CHV_LOOP_BUFFER;
    t.loop.turns_before = 1000;
    test_turns(&t, 1);
    CU_ASSERT_EQUAL(server.bytes, sizeof flood_body);
    CU_ASSERT_TRUE(test_run(&t, has_come, &(struct amount){&server, RECORDS * sizeof flood_body}));
    test_loop_close(&t);
}

static void test_pool_used_up_by_unsent(void)
{
    struct test_loop t;
    uint64_t left = 400;
    struct side client = {.echo = false}, server = {.arg = &left};
    test_loop_open(&t, NULL, 16384);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    client.conn->read_ended = true;
    chv_conn_settle(client.conn);
    while (server.conn->state == CHV_CONN_OPEN && left-- > 0) {
        enum chv_err err = chv_conn_send(server.conn, CHV_RECORD_DATA, flood_body, sizeof flood_body);
        CU_ASSERT_TRUE(err == CHV_OK || err == CHV_ERR_STATE);
    }
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_MEMORY);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "limit of 16384 bytes"));
    test_loop_close(&t);
}

/* Sends `len` bytes of a frame that claims to be long. */
static void half_frame(struct side *client, size_t len)
{
    static uint8_t frame[CHV_RECORD_FRAME_MAX] = {0xff, 0xff};
    chv_conn_push(client->conn, frame, len);
}

static void test_half_record_is_held_and_given_back(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    uint8_t frame[5000];
    size_t len;
    test_loop_open(&t, NULL, MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(atomic_load(&t.pool.used), 0);
    CU_ASSERT_EQUAL(chv_session_seal(chv_conn_session(client.conn), CHV_RECORD_DATA, frame, 4900, &len), CHV_OK);
    for (size_t i = 0; i < len - 1; i++) {
        chv_conn_push(client.conn, frame + i, 1);
        test_turns(&t, 1);
        CU_ASSERT_TRUE(atomic_load(&t.pool.used) <= 2 * (i + 1) + 1024);
    }
    test_turns(&t, 5);
    CU_ASSERT_TRUE(atomic_load(&t.pool.used) > 0);
    CU_ASSERT_EQUAL(server.bytes, 0);
    chv_conn_push(client.conn, frame + len - 1, 1);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(server.bytes, 4900);
    CU_ASSERT_EQUAL(atomic_load(&t.pool.used), 0);
    test_loop_close(&t);
}

/* The session fails (a backend may, at any call) while half a record is held: its rest finds nothing to be put behind. */
static void test_half_record_of_a_failed_session(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    uint8_t frame[CHV_RECORD_FRAME_MIN] = {0, CHV_RECORD_FRAME_MIN - 2};
    const uint8_t *body;
    uint8_t type;
    size_t len;
    test_loop_open(&t, NULL, MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    half_frame(&client, 1000);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(server.conn->partial.len, 1000);
    CU_ASSERT_EQUAL(chv_session_open(chv_conn_session(server.conn), frame, sizeof frame, &type, &body, &len),
                    CHV_ERR_AUTH);
    half_frame(&client, 1000);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_AUTH);
    test_loop_close(&t);
}

/* Established clients that send half a record: when the pool is used up, they end, and nobody else. */
static void test_half_records(void)
{
    enum { PEERS = 200, LIMIT = 256 * 1024 };
    struct test_loop t;
    static struct side clients[PEERS], servers[PEERS];
    unsigned ended = 0;
    memset(clients, 0, sizeof clients);
    memset(servers, 0, sizeof servers);
    test_loop_open(&t, NULL, LIMIT);
    for (int i = 0; i < PEERS; i++) {
        test_pair(&t, &clients[i], &servers[i]);
        CU_ASSERT_TRUE(test_run_ready(&t, &clients[i]));
    }
    for (int i = 1; i < PEERS; i++)
        half_frame(&clients[i], 10000);
    test_turns(&t, 50);
    CU_ASSERT_TRUE(atomic_load(&t.pool.used) <= LIMIT);
    for (int i = 1; i < PEERS; i++) {
        ended += servers[i].closed;
        CU_ASSERT_TRUE(servers[i].closed == 0 || servers[i].err == CHV_ERR_MEMORY);
    }
    CU_ASSERT_TRUE(ended >= PEERS - LIMIT / 10000 - 1);
    CU_ASSERT_TRUE(ended < PEERS - 1);
    CU_ASSERT_EQUAL(chv_conn_send(clients[0].conn, CHV_RECORD_DATA, "x", 1), CHV_OK);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(servers[0].bytes, 1);
    test_loop_close(&t);
}

/* 10 000 half hellos, or as many as there may be descriptors: they take nothing from the pool. */
static void test_half_hellos(void)
{
    struct rlimit old, limit;
    struct test_loop t;
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit = old;
    limit.rlim_cur = old.rlim_max < 20100 ? old.rlim_max : 20100;
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    size_t peers = (limit.rlim_cur - 100) / 2 < 10000 ? (size_t)(limit.rlim_cur - 100) / 2 : 10000;
    struct side *servers = calloc(peers, sizeof *servers);
    int *fds = calloc(peers, sizeof *fds);
    if (servers == NULL || fds == NULL)
        abort();
    test_loop_open(&t, NULL, 4096);
    for (size_t i = 0; i < peers; i++) {
        int fd[2];
        test_unix_pair(fd);
        fds[i] = fd[0];
        CU_ASSERT_EQUAL(send(fd[0], "\4\0CHV\1\1\1\1\0", 9, 0), 9);
        test_start(&t, &servers[i], CHV_SERVER, fd[1]);
    }
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(atomic_load(&t.pool.used), 0);
    CU_ASSERT_EQUAL(t.loop.conn_count, peers);
    for (size_t i = 0; i < peers; i++)
        (void)close(fds[i]);
    while (t.loop.conn_count > 0 && !t.stuck)
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_EQUAL(servers[0].err, CHV_ERR_TRUNCATED);
    test_loop_close(&t);
    free(servers);
    free(fds);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* A first record may be small only, and is refused by its length, before it is held. */
static void send_long_first(struct side *side)
{
    static const uint8_t head[2] = {0x0f, 0xff}; /* 4095 and these 2 */
    chv_conn_push(side->conn, head, sizeof head);
}

static void test_first_record_too_long(void)
{
    struct test_loop t;
    struct side client = {.on_established = send_long_first}, server = {.echo = false};
    test_loop_open(&t, NULL, MIB);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    test_loop_close(&t);
}

static const struct chv_loop_limits short_limits = {.handshake_seconds = 1, .idle_seconds = 1, .stall_seconds = 1};

static void test_deadline_handshake(void)
{
    struct test_loop t;
    struct side server = {.echo = false}, waiting = {.key = SIDE_WAITS}, client = {.echo = false};
    int fd[2];
    test_loop_open(&t, &short_limits, 0);
    test_tcp_pair(fd);
    test_start(&t, &server, CHV_SERVER, fd[1]);
    test_pair(&t, &client, &waiting);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(server.why, "no session within 1 s");
    CU_ASSERT_TRUE(test_run_closed(&t, &waiting));
    CU_ASSERT_EQUAL(waiting.err, CHV_ERR_TIMEOUT);
    (void)close(fd[0]);
    test_loop_close(&t);
}

static void test_deadline_idle(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, &short_limits, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_deadline_remove(client.conn); /* the server's is meant */
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(server.why, "silent for 1 s");
    CU_ASSERT_EQUAL(client.count[CHV_RECORD_CLOSE], 1);
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    test_loop_close(&t);
}

static void test_deadline_half_record(void)
{
    struct test_loop t;
    struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 0, .stall_seconds = 1};
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, &limits, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    half_frame(&client, 100);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "did not finish a record"));
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    test_loop_close(&t);
}

static void test_deadline_unsent(void)
{
    struct test_loop t;
    struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 0, .stall_seconds = 1};
    uint64_t left = 1000;
    struct side client = {.echo = false}, server = {.arg = &left};
    test_loop_open(&t, &limits, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    client.conn->read_ended = true;
    chv_conn_settle(client.conn);
    flood(&server);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "did not take what was sent"));
    test_loop_close(&t);
}

static void test_deadline_close(void)
{
    struct test_loop t;
    struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 0, .stall_seconds = 1};
    struct side client = {.keep_open = true}, server = {.echo = false};
    test_loop_open(&t, &limits, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_conn_shutdown(server.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(server.why, "did not close its side"));
    test_loop_close(&t);
}

/* A silent connection gives its AEAD contexts back, stays, and goes on. */
static void test_rest(void)
{
    struct test_loop t;
    struct side client = {.echo = false}, server = {.echo = false};
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_PTR_EQUAL(server.conn->list, &t.loop.active);
    while (server.conn->list != NULL && !t.stuck) /* no idle limit: it is in no list when it rests */
        (void)uv_run(&t.loop.uv, UV_RUN_ONCE);
    CU_ASSERT_PTR_NULL(server.conn->session->channel.receive.aead);
    CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, "x", 1), CHV_OK);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(server.bytes, 1);
    CU_ASSERT_PTR_NOT_NULL(server.conn->session->channel.receive.aead);
    CU_ASSERT_PTR_EQUAL(server.conn->list, &t.loop.active);
    test_loop_close(&t);
}

static void test_start_fails(void)
{
    struct test_loop t;
    struct chv_session_config config;
    struct side side = {.echo = false};
    struct chv_conn *conn = NULL;
    struct chv_why why = {""};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    test_unix_pair(fd);
    test_config(&config, CHV_SERVER);
    config.suites = 0;
    CU_ASSERT_EQUAL(chv_conn_start(&t.loop, fd[1], "x", &config, &test_events, &side, &conn, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_TRUE(why.text[0] != '\0');
    char byte;
    CU_ASSERT_EQUAL(recv(fd[0], &byte, 1, 0), 0); /* the socket was closed */
    (void)close(fd[0]);
    test_config(&config, CHV_SERVER);
    CU_ASSERT_EQUAL(chv_conn_start(&t.loop, fd[0], "x", &config, &test_events, &side, &conn, &why), CHV_ERR_IO);
    CU_ASSERT_EQUAL(side.closed, 0);
    CU_ASSERT_PTR_NULL(conn);
    test_loop_close(&t);
}

static void test_loop_fails(void)
{
    struct chv_loop loop;
    struct chv_pool pool = {.limit = 1};
    struct chv_why why = {""};
    struct rlimit old, none;
    CU_ASSERT_EQUAL(chv_loop_init(&loop, "nosuch", &pool, &short_limits, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "openssl"));
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    enum chv_err err = chv_loop_init(&loop, "openssl", &pool, &short_limits, &why);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
    CU_ASSERT_EQUAL(err, CHV_ERR_IO);
}

TEST_MAIN("limits of connections", {"slow reader", test_slow_reader}, {"back-pressure", test_back_pressure},
          {"reads per wake-up", test_reads_per_wake_up}, {"turns are shared", test_turns_are_shared},
          {"a turn ends a read", test_turn_ends_a_read}, {"pool used up by unsent bytes", test_pool_used_up_by_unsent},
          {"half a record is held and given back", test_half_record_is_held_and_given_back},
          {"half record of a failed session", test_half_record_of_a_failed_session},
          {"half records", test_half_records}, {"half hellos", test_half_hellos},
          {"first record too long", test_first_record_too_long}, {"handshake deadline", test_deadline_handshake},
          {"idle deadline", test_deadline_idle}, {"half record deadline", test_deadline_half_record},
          {"unsent deadline", test_deadline_unsent}, {"close deadline", test_deadline_close}, {"rest", test_rest},
          {"start fails", test_start_fails}, {"loop fails", test_loop_fails})
