/* SPDX-License-Identifier: Apache-2.0 */
/* Two pipes with a channel between them, on one loop; the test is at both plain ends. */
#include "tests/net/conn_support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "services/tunnel_pipe.h"

enum { CLIENT, SERVER, ENDS };
enum { GIVE_UP_MS = 25000 }; /* less than the stall limit of the tests' loops */

static const size_t MIB = (size_t)1024 * 1024;

/* One end of the channel with its pipe; `plain` is the test's. */
struct end {
    struct side side; /* first */
    struct chv_tunnel_pipe *pipe;
    int plain;
    unsigned finished;
    uint64_t in, out; /* of the pipe, when it ended */
    /* the test's plain socket */
    uint64_t to_send, sent, sent_sum, got, got_sum, seed;
    bool shut, eof;
    int error;
};

struct world {
    struct test_loop *t;
    struct end end[ENDS];
};

static struct end *end_of(struct side *side)
{
    return (struct end *)(void *)side;
}

static enum chv_err pass_record(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    struct end *e = end_of(side);
    if (e->pipe == NULL || (type != CHV_RECORD_DATA && type != CHV_RECORD_END))
        return CHV_OK;
    return chv_tunnel_pipe_record(e->pipe, type, body, len);
}

static void pass_batch(struct chv_conn *conn)
{
    struct end *e = chv_conn_owner(conn);
    if (e->pipe != NULL)
        chv_tunnel_pipe_batch(e->pipe);
}

static void pass_drained(struct side *side)
{
    if (end_of(side)->pipe != NULL)
        chv_tunnel_pipe_drained(end_of(side)->pipe);
}

static void pass_closed(struct side *side)
{
    struct end *e = end_of(side);
    if (e->pipe != NULL)
        chv_tunnel_pipe_counts(e->pipe, &e->in, &e->out);
    chv_tunnel_pipe_free(e->pipe);
    e->pipe = NULL;
}

/* The client closes, and the server answers. */
static void on_finished(void *owner)
{
    struct end *e = owner;
    struct chv_session_info info;
    e->finished++;
    CU_ASSERT_TRUE(chv_tunnel_pipe_ended(e->pipe));
    CU_ASSERT_EQUAL(chv_session_get_info(chv_conn_session(e->side.conn), &info), CHV_OK);
    if (info.server_time != 0)
        chv_conn_shutdown(e->side.conn);
}

static void start_end(struct world *w, int which, int fd)
{
    static struct chv_conn_events events;
    struct chv_session_config config;
    struct chv_why why;
    struct end *e = &w->end[which];
    events = test_events;
    events.batch = pass_batch;
    e->side.record = pass_record;
    e->side.on_drained = pass_drained;
    e->side.on_closed = pass_closed;
    e->seed = (uint64_t)which + 1;
    e->plain = -1;
    test_config(&config, which == CLIENT ? CHV_CLIENT : CHV_SERVER);
    config.limits.idle_seconds = (uint16_t)w->t->loop.limits.idle_seconds;
    CU_ASSERT_EQUAL_FATAL(chv_conn_start(&w->t->loop, fd, "peer", &config, &events, &e->side, &e->side.conn, &why),
                          CHV_OK);
}

static void open_channel(struct world *w)
{
    int fd[2];
    memset(w->end, 0, sizeof w->end);
    test_tcp_pair(fd);
    start_end(w, SERVER, fd[1]);
    start_end(w, CLIENT, fd[0]);
    CU_ASSERT_TRUE_FATAL(test_run_ready(w->t, &w->end[CLIENT].side));
}

static void open_pipe(struct world *w, int which, struct chv_tunnel_pipe_config *config)
{
    struct end *e = &w->end[which];
    struct chv_why why = {""};
    config->finished = on_finished;
    CU_ASSERT_EQUAL_FATAL(chv_tunnel_pipe_start(e->side.conn, config, e, &e->pipe, &why), CHV_OK);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    CU_ASSERT_EQUAL(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void open_pipes(struct world *w, bool tcp, unsigned idle_seconds)
{
    open_channel(w);
    for (int i = 0; i < ENDS; i++) {
        int fd[2];
        tcp ? test_tcp_pair(fd) : test_unix_pair(fd);
        w->end[i].plain = fd[0];
        struct chv_tunnel_pipe_config config = {
            .read_fd = fd[1], .write_fd = fd[1], .idle_seconds = idle_seconds, .pings = i == CLIENT};
        if (tcp)
            (void)setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &(int){0}, sizeof(int));
        open_pipe(w, i, &config);
        if (tcp)
            CU_ASSERT_TRUE(option(fd[1], IPPROTO_TCP, TCP_NODELAY) && option(fd[1], SOL_SOCKET, SO_KEEPALIVE));
        CU_ASSERT_TRUE(option(w->end[i].side.conn->fd, SOL_SOCKET, SO_KEEPALIVE));
    }
}

static void open_world(struct world *w, bool tcp, const struct chv_loop_limits *limits, size_t pool)
{
    static struct test_loop loop;
    w->t = &loop;
    test_loop_open(w->t, limits, pool);
    open_pipes(w, tcp, 0);
}

static void close_plain(struct end *e)
{
    if (e->plain >= 0)
        (void)close(e->plain);
    e->plain = -1;
}

static void close_world(struct world *w)
{
    for (int i = 0; i < ENDS; i++)
        close_plain(&w->end[i]);
    test_loop_close(w->t);
}

/* --- the plain ends ----------------------------------------------------------------------------------------------- */

/* A write of a random length, if there is something left to send. */
static void write_some(struct end *e, uint64_t *random)
{
    static uint8_t buf[262144];
    if (e->sent == e->to_send || e->plain < 0 || e->error != 0)
        return;
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    size_t n = (size_t)(*random >> 40) % ((*random >> 20) % 3 == 0 ? 100 : sizeof buf) + 1;
    if (n > e->to_send - e->sent)
        n = (size_t)(e->to_send - e->sent);
    test_fill(buf, n, e->seed);
    const ssize_t done = send(e->plain, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done <= 0)
        return;
    e->sent_sum = test_sum(e->sent_sum, buf, (size_t)done);
    e->sent += (uint64_t)done;
    e->seed += e->sent;
}

static void read_some(struct end *e)
{
    static uint8_t buf[300000];
    if (e->eof || e->error != 0 || e->plain < 0)
        return;
    const ssize_t n = recv(e->plain, buf, sizeof buf, MSG_DONTWAIT);
    if (n == 0)
        e->eof = true;
    else if (n < 0 && errno != EAGAIN)
        e->error = errno;
    if (n <= 0)
        return;
    e->got_sum = test_sum(e->got_sum, buf, (size_t)n);
    e->got += (uint64_t)n;
}

static void half_close(struct end *e)
{
    CU_ASSERT_EQUAL(shutdown(e->plain, SHUT_WR), 0);
    e->shut = true;
}

/* Both ends write what they have, then half-close if `ends`; both read. Until all has come over. */
static void exchange(struct world *w, bool ends)
{
    uint64_t random = 42;
    bool more = true;
    while (more && !w->t->stuck) {
        more = false;
        for (int i = 0; i < ENDS; i++) {
            struct end *e = &w->end[i];
            const struct end *other = &w->end[1 - i];
            write_some(e, &random);
            read_some(e);
            if (ends && e->sent == e->to_send && !e->shut)
                half_close(e);
            if (e->got < other->to_send || (ends && !e->eof))
                more = true;
        }
        test_turns(w->t, 1);
    }
    for (int i = 0; i < ENDS; i++) {
        CU_ASSERT_EQUAL(w->end[i].error, 0);
        CU_ASSERT_EQUAL(w->end[i].got, w->end[1 - i].sent);
        CU_ASSERT_EQUAL(w->end[i].got_sum, w->end[1 - i].sent_sum);
    }
}

static void expect_clean_end(struct world *w)
{
    for (int i = 0; i < ENDS; i++) {
        struct end *e = &w->end[i];
        CU_ASSERT_TRUE(test_run_closed(w->t, &e->side));
        CU_ASSERT_EQUAL(e->side.err, CHV_OK);
        CU_ASSERT_EQUAL(e->finished, 1);
        CU_ASSERT_EQUAL(e->side.count[CHV_RECORD_END], 1);
        CU_ASSERT_EQUAL(e->in, e->sent);
        CU_ASSERT_EQUAL(e->out, e->got);
    }
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void one_exchange(bool tcp, uint64_t up, uint64_t down)
{
    struct world w;
    open_world(&w, tcp, NULL, 0);
    w.end[CLIENT].to_send = up;
    w.end[SERVER].to_send = down;
    exchange(&w, true);
    expect_clean_end(&w);
    close_world(&w);
}

static void test_bulk(void)
{
    one_exchange(true, 16 * MIB, 16 * MIB);
    one_exchange(false, 5 * MIB + 1, 64 * 1024 - 1);
    one_exchange(true, 0, 3 * MIB);
}

static void test_small(void)
{
    for (uint64_t n = 0; n < 4; n++)
        one_exchange(n % 2 == 0, n, 3 - n);
}

static void test_nothing(void)
{
    one_exchange(true, 0, 0);
    one_exchange(false, 0, 0);
}

/* One end ends first; the other goes on for as long as it likes. */
static void test_half_close(void)
{
    for (int first = 0; first < ENDS; first++) {
        struct world w;
        open_world(&w, first == CLIENT, NULL, 0);
        struct end *early = &w.end[first], *late = &w.end[1 - first];
        early->to_send = 1000;
        exchange(&w, false);
        half_close(early);
        while (!late->eof && !w.t->stuck) {
            test_turns(w.t, 1);
            read_some(late);
        }
        CU_ASSERT_FALSE(early->eof);
        late->to_send = 3 * MIB;
        exchange(&w, false);
        CU_ASSERT_EQUAL(w.end[CLIENT].finished + w.end[SERVER].finished, 0);
        exchange(&w, true);
        expect_clean_end(&w);
        close_world(&w);
    }
}

/* More small records in one read than one writev takes. */
static void test_many_records(void)
{
    struct world w;
    open_world(&w, true, NULL, 0);
    struct end *client = &w.end[CLIENT], *server = &w.end[SERVER];
    chv_conn_cork(client->side.conn);
    for (unsigned i = 0; i < 1000; i++) {
        const uint8_t byte = (uint8_t)i;
        CU_ASSERT_EQUAL(chv_conn_send(client->side.conn, CHV_RECORD_DATA, &byte, i % 10 != 9), CHV_OK);
    }
    chv_conn_uncork(client->side.conn);
    while (server->got < 900 && !w.t->stuck) {
        test_turns(w.t, 1);
        read_some(server);
    }
    CU_ASSERT_EQUAL(server->got, 900);
    CU_ASSERT_EQUAL(server->side.count[CHV_RECORD_DATA], 1000);
    close_world(&w);
}

static bool holds(const uint8_t *buf, const char *text)
{
    return memmem(buf, CHV_LOOP_BUFFER, text, strlen(text)) != NULL;
}

static void test_no_plaintext_stays(void)
{
    static const char text[] = "nobody may find this text in a buffer";
    struct world w;
    open_world(&w, true, NULL, 0);
    for (int i = 0; i < ENDS; i++) {
        CU_ASSERT_EQUAL(send(w.end[i].plain, text, sizeof text, 0), sizeof text);
        while (w.end[1 - i].got < sizeof text && !w.t->stuck) {
            test_turns(w.t, 1);
            read_some(&w.end[1 - i]);
        }
        CU_ASSERT_FALSE(holds(w.t->loop.in, text));
        CU_ASSERT_FALSE(holds(w.t->loop.out, text));
    }
    close_world(&w);
}

/* --- readers that stop -------------------------------------------------------------------------------------------- */

/* The kernel's share of what is under way. */
static void bound_buffers(struct world *w)
{
    const int size = 65536;
    for (int i = 0; i < ENDS; i++) {
        const int fds[] = {w->end[i].plain, w->end[i].side.conn->fd};
        for (size_t k = 0; k < sizeof fds / sizeof fds[0]; k++) {
            (void)setsockopt(fds[k], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
            (void)setsockopt(fds[k], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        }
    }
}

/* Writes until nothing more goes for a good while. */
static void write_until_stuck(struct world *w, struct end *e)
{
    uint64_t random = 7, before;
    e->to_send = UINT64_MAX;
    do {
        before = e->sent;
        for (int i = 0; i < 50; i++) {
            write_some(e, &random);
            test_turns(w->t, 1);
        }
    } while (e->sent > before && e->sent < 256 * MIB);
    CU_ASSERT_TRUE(e->sent < 256 * MIB);
    e->to_send = e->sent;
}

static void one_stuck(int from, bool tcp)
{
    struct world w;
    open_world(&w, tcp, NULL, 0);
    struct end *writer = &w.end[from], *reader = &w.end[1 - from];
    bound_buffers(&w);
    write_until_stuck(&w, writer);
    const size_t used = atomic_load(&w.t->pool.used);
    CU_ASSERT_TRUE(used > 0 && used <= 3 * (size_t)CHV_LOOP_BUFFER);
    CU_ASSERT_TRUE(reader->side.conn->held_back);
    CU_ASSERT_EQUAL(writer->pipe != NULL && reader->pipe != NULL, true);
    reader->to_send = 4 * MIB; /* the other direction has nothing to do with it */
    uint64_t random = 9;
    while (writer->got < reader->to_send && !w.t->stuck) {
        write_some(reader, &random);
        read_some(writer);
        test_turns(w.t, 1);
    }
    CU_ASSERT_EQUAL(writer->got, reader->to_send);
    CU_ASSERT_TRUE(atomic_load(&w.t->pool.used) <= 3 * (size_t)CHV_LOOP_BUFFER);
    exchange(&w, true);
    expect_clean_end(&w);
    CU_ASSERT_EQUAL(atomic_load(&w.t->pool.used), 0);
    close_world(&w);
}

static void test_stuck(void)
{
    one_stuck(CLIENT, true);
    one_stuck(SERVER, true);
    one_stuck(CLIENT, false);
}

/* Many with their readers stopped, both ways: the pool is enough for all, and nobody ends for want of it. */
static void test_many_stuck(void)
{
    enum { MANY = 8 };
    struct test_loop t;
    struct world *w = calloc(MANY, sizeof *w);
    const size_t pool = 2 * MIB;
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    test_loop_open(&t, NULL, pool);
    for (int i = 0; i < MANY; i++) {
        w[i].t = &t;
        open_pipes(&w[i], true, 0);
        bound_buffers(&w[i]);
        write_until_stuck(&w[i], &w[i].end[CLIENT]);
        write_until_stuck(&w[i], &w[i].end[SERVER]);
    }
    const size_t used = atomic_load(&t.pool.used);
    CU_ASSERT_TRUE(used > 0 && used < pool);
    for (int i = 0; i < MANY; i++) {
        CU_ASSERT_EQUAL(w[i].end[CLIENT].side.closed + w[i].end[SERVER].side.closed, 0);
        exchange(&w[i], true);
        expect_clean_end(&w[i]);
        close_plain(&w[i].end[CLIENT]);
        close_plain(&w[i].end[SERVER]);
    }
    free(w);
    test_loop_close(&t);
}

/* Many in bulk at once: when so much has come in all, the slowest has half of the mean at least. */
static void test_fair(void)
{
    enum { MANY = 40 };
    struct test_loop t;
    struct world *w = calloc(MANY, sizeof *w);
    uint64_t total = 0, least = UINT64_MAX, random = 3;
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    test_loop_open(&t, NULL, 0);
    for (int i = 0; i < MANY; i++) {
        w[i].t = &t;
        open_pipes(&w[i], true, 0);
        w[i].end[CLIENT].to_send = UINT64_MAX;
    }
    while (total < (uint64_t)MANY * 2 * MIB && !t.stuck) {
        total = 0;
        for (int i = 0; i < MANY; i++) {
            write_some(&w[i].end[CLIENT], &random);
            read_some(&w[i].end[SERVER]);
            total += w[i].end[SERVER].got;
        }
        test_turns(&t, 1);
    }
    for (int i = 0; i < MANY; i++)
        least = w[i].end[SERVER].got < least ? w[i].end[SERVER].got : least;
    CU_ASSERT_TRUE(least >= total / MANY / 2);
    for (int i = 0; i < MANY; i++) {
        close_plain(&w[i].end[CLIENT]);
        close_plain(&w[i].end[SERVER]);
    }
    test_loop_close(&t);
    free(w);
}

/* --- cut streams -------------------------------------------------------------------------------------------------- */

static void reset(struct end *e)
{
    const struct linger now = {.l_onoff = 1};
    CU_ASSERT_EQUAL(setsockopt(e->plain, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close_plain(e);
}

/* `e` is to see a reset, not an end. */
static void expect_reset(struct world *w, struct end *e)
{
    while (e->error == 0 && !e->eof && !w->t->stuck) {
        test_turns(w->t, 1);
        read_some(e);
    }
    CU_ASSERT_EQUAL(e->error, ECONNRESET);
    CU_ASSERT_FALSE(e->eof);
    for (int i = 0; i < ENDS; i++) {
        CU_ASSERT_TRUE(test_run_closed(w->t, &w->end[i].side));
        CU_ASSERT_EQUAL(w->end[i].finished, 0);
        CU_ASSERT_EQUAL(w->end[i].side.count[CHV_RECORD_CLOSE], 0);
    }
}

static void test_reset(void)
{
    for (int first = 0; first < ENDS; first++) {
        struct world w;
        open_world(&w, true, NULL, 0);
        struct end *lost = &w.end[first], *other = &w.end[1 - first];
        lost->to_send = other->to_send = 100000;
        exchange(&w, false);
        reset(lost);
        expect_reset(&w, other);
        CU_ASSERT_EQUAL(lost->side.err, CHV_ERR_CANCELLED);
        CU_ASSERT_PTR_NOT_NULL(strstr(lost->side.why, "plain side of the tunnel was lost"));
        CU_ASSERT_EQUAL(other->side.err, CHV_ERR_TRUNCATED);
        CU_ASSERT_EQUAL(other->side.count[CHV_RECORD_END], 0);
        close_world(&w);
    }
}

/* While it is not read, because the other end's reader has stopped. */
static void test_reset_of_a_stuck_one(void)
{
    for (int first = 0; first < ENDS; first++) {
        struct world w;
        open_world(&w, true, NULL, 0);
        write_until_stuck(&w, &w.end[first]);
        w.end[1 - first].to_send = 0;
        uv_update_time(&w.t->loop.uv);
        const uint64_t before = uv_now(&w.t->loop.uv);
        reset(&w.end[first]);
        CU_ASSERT_TRUE(test_run_closed(w.t, &w.end[first].side));
        CU_ASSERT_EQUAL(w.end[first].side.err, CHV_ERR_CANCELLED);
        CU_ASSERT_TRUE(uv_now(&w.t->loop.uv) - before < GIVE_UP_MS); /* the stall limit is not waited for */
        close_world(&w);
    }
}

/* The reader of a direction is gone; what comes from the same end is read to its end all the same. */
static void test_broken(void)
{
    struct world w;
    open_world(&w, false, NULL, 0);
    struct end *server = &w.end[SERVER], *client = &w.end[CLIENT];
    CU_ASSERT_EQUAL(shutdown(server->plain, SHUT_RD), 0);
    client->to_send = MIB;
    uint64_t random = 1;
    while (server->side.bytes < MIB && !w.t->stuck) {
        write_some(client, &random);
        test_turns(w.t, 1);
    }
    server->to_send = MIB;
    while (client->got < MIB && !w.t->stuck) {
        write_some(server, &random);
        read_some(client);
        test_turns(w.t, 1);
    }
    half_close(server);
    CU_ASSERT_TRUE(test_run_closed(w.t, &server->side));
    CU_ASSERT_TRUE(test_run_closed(w.t, &client->side));
    CU_ASSERT_EQUAL(server->side.err, CHV_ERR_CANCELLED);
    CU_ASSERT_EQUAL(client->side.err, CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(client->side.count[CHV_RECORD_END], 0);
    CU_ASSERT_EQUAL(atomic_load(&w.t->pool.used), 0);
    close_world(&w);
}

/* The channel is lost: both plain ends are reset. */
static void test_channel_lost(void)
{
    struct world w;
    open_world(&w, true, NULL, 0);
    w.end[CLIENT].to_send = 1000;
    exchange(&w, false);
    chv_conn_abort(w.end[CLIENT].side.conn, CHV_ERR_IO);
    expect_reset(&w, &w.end[SERVER]);
    expect_reset(&w, &w.end[CLIENT]);
    close_world(&w);
}

static void test_records_not_due(void)
{
    static const struct {
        uint8_t type;
        size_t len;
        bool after_end;
    } cases[] = {{CHV_RECORD_SERVICE, 0, false},
                 {CHV_RECORD_END, 1, false},
                 {CHV_RECORD_DATA, 1, true},
                 {CHV_RECORD_END, 0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        open_world(&w, true, NULL, 0);
        struct chv_tunnel_pipe *pipe = w.end[SERVER].pipe;
        if (cases[i].after_end)
            CU_ASSERT_EQUAL(chv_tunnel_pipe_record(pipe, CHV_RECORD_END, NULL, 0), CHV_OK);
        CU_ASSERT_EQUAL(chv_tunnel_pipe_record(pipe, cases[i].type, (const uint8_t *)"x", cases[i].len),
                        CHV_ERR_PROTOCOL);
        CU_ASSERT_PTR_NOT_NULL(strstr(chv_conn_why(w.end[SERVER].side.conn), "not due"));
        close_world(&w);
    }
}

static void test_pool_used_up(void)
{
    struct world w;
    open_world(&w, true, NULL, 4096);
    uint64_t random = 1;
    w.end[CLIENT].to_send = UINT64_MAX;
    while (w.end[CLIENT].side.closed + w.end[SERVER].side.closed < ENDS && !w.t->stuck) {
        write_some(&w.end[CLIENT], &random);
        test_turns(w.t, 1);
    }
    CU_ASSERT_TRUE(w.end[CLIENT].side.err == CHV_ERR_MEMORY || w.end[SERVER].side.err == CHV_ERR_MEMORY);
    close_world(&w);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static void test_idle(void)
{
    struct test_loop t;
    struct world w = {.t = &t};
    test_loop_open(&t, NULL, 0);
    open_pipes(&w, true, 1);
    expect_reset(&w, &w.end[SERVER]);
    CU_ASSERT_TRUE(w.end[CLIENT].side.err == CHV_ERR_TIMEOUT || w.end[SERVER].side.err == CHV_ERR_TIMEOUT);
    CU_ASSERT_TRUE(strstr(w.end[CLIENT].side.why, "no byte through the tunnel in 1 s") != NULL ||
                   strstr(w.end[SERVER].side.why, "no byte through the tunnel in 1 s") != NULL);
    close_world(&w);
}

/* The server's limit for silent connections is not for a tunnel whose client is there. */
static void test_pings(void)
{
    static const struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 1, .stall_seconds = 30};
    struct world w;
    open_world(&w, true, &limits, 0);
    struct end *client = &w.end[CLIENT], *server = &w.end[SERVER];
    while (server->side.count[CHV_RECORD_PING] < 8 && server->side.closed == 0 && !w.t->stuck)
        (void)uv_run(&w.t->loop.uv, UV_RUN_ONCE);
    CU_ASSERT_EQUAL(client->side.closed + server->side.closed, 0);
    client->to_send = server->to_send = 10;
    exchange(&w, true);
    expect_clean_end(&w);
    close_world(&w);
}

/* --- two descriptors ---------------------------------------------------------------------------------------------- */

static void open_client_apart(struct world *w, int read_fd, int write_fd)
{
    static struct test_loop loop;
    int fd[2];
    w->t = &loop;
    test_loop_open(w->t, NULL, 0);
    open_channel(w);
    test_tcp_pair(fd);
    w->end[SERVER].plain = fd[0];
    struct chv_tunnel_pipe_config socket = {.read_fd = fd[1], .write_fd = fd[1]};
    struct chv_tunnel_pipe_config apart = {.read_fd = read_fd, .write_fd = write_fd};
    open_pipe(w, SERVER, &socket);
    open_pipe(w, CLIENT, &apart);
}

/* As `chaveiro connect` has them: pipes, which get their flags back. */
static void test_standard_streams(void)
{
    struct world w;
    char got[16] = "";
    int in[2], out[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(in, O_CLOEXEC), 0);
    CU_ASSERT_EQUAL_FATAL(pipe2(out, O_CLOEXEC), 0);
    const int shared = dup(out[1]);
    open_client_apart(&w, in[0], out[1]);
    CU_ASSERT_TRUE((fcntl(shared, F_GETFL) & O_NONBLOCK) != 0);
    CU_ASSERT_EQUAL(write(in[1], "question", 8), 8);
    (void)close(in[1]);
    struct end *server = &w.end[SERVER];
    while (!server->eof && !w.t->stuck) {
        test_turns(w.t, 1);
        read_some(server);
    }
    CU_ASSERT_EQUAL(server->got, 8);
    CU_ASSERT_EQUAL(send(server->plain, "answer", 6, 0), 6);
    half_close(server);
    for (int i = 0; i < ENDS; i++) {
        CU_ASSERT_TRUE(test_run_closed(w.t, &w.end[i].side));
        CU_ASSERT_EQUAL(w.end[i].side.err, CHV_OK);
    }
    CU_ASSERT_EQUAL(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    (void)close(shared);
    CU_ASSERT_EQUAL(read(out[0], got, sizeof got), 6);
    CU_ASSERT_STRING_EQUAL(got, "answer");
    CU_ASSERT_EQUAL(read(out[0], got, sizeof got), 0);
    (void)close(out[0]);
    close_world(&w);
}

static void test_regular_files(void)
{
    struct world w;
    FILE *in = tmpfile(), *out = tmpfile();
    uint8_t buf[10000];
    CU_ASSERT_FATAL(in != NULL && out != NULL);
    test_fill(buf, sizeof buf, 5);
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(fwrite(buf, 1, sizeof buf, in), sizeof buf);
    rewind(in);
    open_client_apart(&w, dup(fileno(in)), dup(fileno(out)));
    struct end *server = &w.end[SERVER];
    server->to_send = MIB;
    uint64_t random = 1;
    while ((!server->eof || server->sent < server->to_send) && !w.t->stuck) {
        write_some(server, &random);
        test_turns(w.t, 1);
        read_some(server);
    }
    half_close(server);
    CU_ASSERT_TRUE(test_run_closed(w.t, &w.end[CLIENT].side));
    CU_ASSERT_EQUAL(w.end[CLIENT].side.err, CHV_OK);
    CU_ASSERT_EQUAL(server->got, 100 * sizeof buf);
    CU_ASSERT_EQUAL(fseek(out, 0, SEEK_END), 0);
    CU_ASSERT_EQUAL((uint64_t)ftell(out), MIB);
    (void)fclose(in);
    (void)fclose(out);
    close_world(&w);
}

static void test_bad_descriptors(void)
{
    struct test_loop t;
    struct world w = {.t = &t};
    struct chv_tunnel_pipe *pipe = NULL;
    struct chv_why why = {""};
    int fd[2];
    test_loop_open(&t, NULL, 0);
    open_channel(&w);
    test_unix_pair(fd);
    (void)close(fd[0]);
    const struct chv_tunnel_pipe_config config = {.read_fd = fd[1], .write_fd = fd[0], .finished = on_finished};
    CU_ASSERT_EQUAL(chv_tunnel_pipe_start(w.end[CLIENT].side.conn, &config, &w.end[CLIENT], &pipe, &why), CHV_ERR_IO);
    CU_ASSERT_PTR_NULL(pipe);
    CU_ASSERT_TRUE(fcntl(fd[1], F_GETFD) < 0); /* taken over, and closed */
    chv_tunnel_pipe_free(NULL);
    close_world(&w);
}

TEST_MAIN("tunnel pipe", {"bulk both ways", test_bulk}, {"small", test_small}, {"nothing", test_nothing},
          {"half-close", test_half_close}, {"many records", test_many_records},
          {"no plaintext stays", test_no_plaintext_stays}, {"stuck readers", test_stuck},
          {"many stuck", test_many_stuck}, {"fair", test_fair}, {"reset", test_reset},
          {"reset of a stuck one", test_reset_of_a_stuck_one}, {"broken", test_broken},
          {"channel lost", test_channel_lost}, {"records not due", test_records_not_due},
          {"pool used up", test_pool_used_up}, {"idle", test_idle}, {"pings", test_pings},
          {"standard streams", test_standard_streams}, {"regular files", test_regular_files},
          {"bad descriptors", test_bad_descriptors})
