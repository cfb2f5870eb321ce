/* SPDX-License-Identifier: Apache-2.0 */
/* The service `tunnel` as the server's connections see it; the test is its connector, and both plain ends. */
#include "tests/net/conn_support.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "net/control.h"
#include "net/server_tunnel.h"
#include "services/tunnel.h"

/* What the net process would have. */
static struct {
    struct chv_server_tunnel db;
    unsigned taken, given, asked, cancelled, ready;
    char key[64];
    struct chv_connector_ask *ask; /* that is out */
    chv_connector_done_fn done;
    enum chv_err take, asks;
} net;

static const uint8_t counted;

const struct chv_server_tunnel *chv_server_tunnel_find(const struct chv_conn *conn, const char *name)
{
    (void)conn;
    return strcmp(name, net.db.name) == 0 ? &net.db : NULL;
}

struct chv_connector_client *chv_server_connector(const struct chv_conn *conn)
{
    (void)conn;
    return NULL;
}

enum chv_err chv_server_tunnel_take(const struct chv_conn *conn, const struct chv_server_tunnel *tunnel, const char *id,
                                    struct chv_clients_entry **entry)
{
    (void)conn;
    (void)snprintf(net.key, sizeof net.key, "%s/%s", tunnel->name, id);
    if (net.take != CHV_OK)
        return net.take;
    net.taken++;
    *entry = (struct chv_clients_entry *)(void *)(uintptr_t)&counted;
    return CHV_OK;
}

void chv_server_tunnel_give(const struct chv_conn *conn, struct chv_clients_entry *entry)
{
    (void)conn;
    net.given += entry != NULL;
}

enum chv_err chv_connector_client_ask(struct chv_connector_client *client, struct chv_connector_ask *ask,
                                      const struct chv_server_tunnel *tunnel, chv_connector_done_fn done)
{
    (void)client;
    CU_ASSERT_PTR_EQUAL(tunnel, &net.db);
    if (net.asks != CHV_OK)
        return net.asks;
    net.asked++;
    net.ask = ask;
    net.done = done;
    return CHV_OK;
}

void chv_connector_client_cancel(struct chv_connector_client *client, struct chv_connector_ask *ask)
{
    (void)client;
    net.cancelled += net.ask == ask;
    if (net.ask == ask)
        net.ask = NULL;
}

void chv_service_ready(struct chv_conn *conn)
{
    net.ready++;
    chv_conn_unpause(conn);
}

static void answer(enum chv_connector_status status, int fd, const char *text)
{
    struct chv_connector_ask *ask = net.ask;
    CU_ASSERT_PTR_NOT_NULL_FATAL(ask);
    net.ask = NULL;
    net.done(ask, status, fd, text);
}

/* The server's end, and the client's, which says OPEN with `tunnel`. */
struct site {
    struct test_loop t;
    struct chv_credential client_rights;
    struct chv_conn *server_conn;
    void *state;
    bool open;
    unsigned server_closed;
    enum chv_err server_err;
    char server_why[256];
    struct side client;
    const char *tunnel;
    struct chv_status status; /* the last */
    int target;               /* the test's end of it, -1: none */
};

static void server_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    CU_ASSERT_EQUAL(chv_conn_key_answer(conn, request->h_psk), CHV_OK);
}

static enum chv_err server_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct site *s = chv_conn_owner(conn);
    const struct chv_service *service = &chv_service_tunnel;
    switch (type) {
    case CHV_RECORD_OPEN:
        CU_ASSERT_TRUE(service->late);
        CU_ASSERT_PTR_NULL(service->scope);
        s->server_conn = conn;
        chv_conn_pause(conn);
        enum chv_err err = service->open(conn, &s->client_rights, body, len, &s->state);
        s->open = err == CHV_OK;
        return err;
    case CHV_RECORD_CLOSE:
        if (!s->open || !service->closing(conn, s->state, false))
            chv_conn_shutdown(conn);
        return CHV_OK;
    case CHV_RECORD_PING:
        return CHV_OK;
    default:
        return service->record(conn, s->state, type, body, len);
    }
}

static void server_batch(struct chv_conn *conn)
{
    const struct site *s = chv_conn_owner(conn);
    if (s->open)
        chv_service_tunnel.batch(conn, s->state);
}

static void server_drained(struct chv_conn *conn)
{
    const struct site *s = chv_conn_owner(conn);
    if (s->open)
        chv_service_tunnel.drained(conn, s->state);
}

static void server_closed(struct chv_conn *conn, enum chv_err err)
{
    struct site *s = chv_conn_owner(conn);
    if (s->open)
        chv_service_tunnel.closed(conn, s->state);
    s->open = false;
    s->server_closed++;
    s->server_err = err;
    s->server_conn = NULL;
    (void)snprintf(s->server_why, sizeof s->server_why, "%s", chv_conn_why(conn));
}

static const struct chv_conn_events server_events = {.key = server_key,
                                                     .record = server_record,
                                                     .batch = server_batch,
                                                     .drained = server_drained,
                                                     .closed = server_closed};

static void say_open(struct side *side)
{
    const struct site *s = side->arg;
    struct chv_open open = {.service = "tunnel"};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    (void)snprintf(open.tunnel, sizeof open.tunnel, "%s", s->tunnel);
    CU_ASSERT_EQUAL(chv_open_encode(&open, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_send(side->conn, CHV_RECORD_OPEN, map, len), CHV_OK);
}

static enum chv_err client_record(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    struct site *s = side->arg;
    if (type == CHV_RECORD_STATUS)
        CU_ASSERT_EQUAL(chv_status_decode(body, len, &s->status), CHV_OK);
    return CHV_OK;
}

static bool has_asked_or_ended(void *arg)
{
    const struct site *s = arg;
    return net.asked > 0 || s->server_closed > 0 || s->status.code != 0;
}

/* Up to OPEN. */
static void begin(struct site *s, const char *tunnel, const char *scope)
{
    struct chv_session_config config;
    struct chv_why why;
    int fd[2];
    memset(s, 0, sizeof *s);
    memset(&net, 0, sizeof net);
    net.db =
        (struct chv_server_tunnel){.name = "db", .target = "127.0.0.1:5432", .connect_seconds = 10, .connections = 3};
    s->target = -1;
    s->tunnel = tunnel;
    (void)snprintf(s->client_rights.id, sizeof s->client_rights.id, "cam1");
    if (scope != NULL)
        CU_ASSERT_EQUAL_FATAL(chv_credential_add_scope(&s->client_rights, scope), CHV_OK);
    s->client = (struct side){.arg = s, .on_established = say_open, .record = client_record};
    test_loop_open(&s->t, NULL, 0);
    test_tcp_pair(fd);
    test_config(&config, CHV_SERVER);
    CU_ASSERT_EQUAL_FATAL(
        chv_conn_start(&s->t.loop, fd[1], "127.0.0.1:1", &config, &server_events, s, &s->server_conn, &why), CHV_OK);
    test_start(&s->t, &s->client, CHV_CLIENT, fd[0]);
}

static void ask(struct site *s)
{
    CU_ASSERT_TRUE_FATAL(test_run(&s->t, has_asked_or_ended, s));
}

static bool has_status(void *arg)
{
    const struct site *s = arg;
    return s->status.code != 0;
}

/* Up to the stream. */
static void connect_target(struct site *s)
{
    int fd[2];
    begin(s, "db", "tunnel:db");
    ask(s);
    CU_ASSERT_STRING_EQUAL(net.key, "db/cam1");
    CU_ASSERT_EQUAL(s->status.code, 0);
    test_tcp_pair(fd);
    s->target = fd[0];
    answer(CHV_CONNECTOR_OK, fd[1], "");
    CU_ASSERT_TRUE(test_run(&s->t, has_status, s));
    CU_ASSERT_EQUAL(s->status.code, 200);
    CU_ASSERT_EQUAL(net.ready, 1);
}

static void end_site(struct site *s)
{
    if (s->target >= 0)
        (void)close(s->target);
    test_loop_close(&s->t);
    CU_ASSERT_EQUAL(net.taken, net.given);
    CU_ASSERT_PTR_NULL(net.ask);
}

static bool all_closed(void *arg)
{
    const struct site *s = arg;
    return s->server_closed > 0 && s->client.closed > 0;
}

/* --- refused ------------------------------------------------------------------------------------------------------ */

static void expect_refusal(struct site *s, unsigned code, const char *text)
{
    CU_ASSERT_TRUE(test_run(&s->t, has_status, s));
    CU_ASSERT_EQUAL(s->status.code, code);
    CU_ASSERT_PTR_NOT_NULL(strstr(s->status.text, text));
    chv_conn_shutdown(s->client.conn);
    CU_ASSERT_TRUE(test_run(&s->t, all_closed, s));
    CU_ASSERT_NOT_EQUAL(s->server_err, CHV_OK);
    end_site(s);
}

static void test_names(void)
{
    struct site s;
    begin(&s, "", "tunnel:db");
    expect_refusal(&s, 400, "names no tunnel");
    begin(&s, "db", "message");
    expect_refusal(&s, 403, "no scope 'tunnel:db'");
    begin(&s, "web", NULL); /* it does not exist, but who may not know does not learn it */
    expect_refusal(&s, 403, "no scope 'tunnel:web'");
    begin(&s, "web", "tunnel:web");
    expect_refusal(&s, 404, "no tunnel 'web'");
    CU_ASSERT_EQUAL(net.asked, 0);
    begin(&s, "abcdefghijklmnopqrstuvwxy", "tunnel:abcdefghijklmnopqrstuvwx"); /* as long as a name can be, one more */
    expect_refusal(&s, 403, "no scope");
}

static void test_caps(void)
{
    struct site s;
    begin(&s, "db", "tunnel:db");
    net.take = CHV_ERR_BUSY;
    expect_refusal(&s, 429, "3 connections through tunnel 'db'");
    CU_ASSERT_EQUAL(net.asked, 0);
    begin(&s, "db", "tunnel:db");
    net.asks = CHV_ERR_BUSY;
    expect_refusal(&s, 503, "try again later");
    CU_ASSERT_EQUAL(net.given, 1);
}

/* The client is told what, the log also where. */
static void test_no_target(void)
{
    static const struct {
        enum chv_connector_status status;
        const char *text;
    } cases[] = {
        {CHV_CONNECTOR_FAILED, "cannot be reached"},
        {CHV_CONNECTOR_TIMEOUT, "not answer in time"},
        {CHV_CONNECTOR_UNAVAILABLE, "try again later"},
        {CHV_CONNECTOR_NO_TUNNEL, "none here any more"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct site s;
        begin(&s, "db", "tunnel:db");
        ask(&s);
        answer(cases[i].status, -1, "127.0.0.1:5432: Connection refused");
        expect_refusal(&s, (unsigned)cases[i].status, cases[i].text);
        CU_ASSERT_PTR_NULL(strstr(s.status.text, "127.0.0.1"));
        CU_ASSERT_PTR_NOT_NULL(strstr(s.server_why, "127.0.0.1:5432: Connection refused"));
        CU_ASSERT_EQUAL(net.ready, 0);
        CU_ASSERT_EQUAL(net.given, 1);
    }
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

static size_t target_reads(struct site *s, char *buf, size_t size)
{
    ssize_t n;
    while ((n = recv(s->target, buf, size, MSG_DONTWAIT)) < 0 && errno == EAGAIN && !s->t.stuck)
        test_turns(&s->t, 1);
    CU_ASSERT_TRUE(n >= 0);
    return n > 0 ? (size_t)n : 0;
}

static bool client_has_end(void *arg)
{
    const struct site *s = arg;
    return s->client.count[CHV_RECORD_END] > 0 || s->client.closed > 0;
}

static void test_stream(void)
{
    struct site s;
    char buf[16];
    connect_target(&s);
    CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_DATA, "select 1", 8), CHV_OK);
    CU_ASSERT_EQUAL(target_reads(&s, buf, sizeof buf), 8);
    CU_ASSERT_EQUAL(memcmp(buf, "select 1", 8), 0);
    CU_ASSERT_EQUAL(send(s.target, "1", 1, 0), 1);
    CU_ASSERT_EQUAL(shutdown(s.target, SHUT_WR), 0);
    CU_ASSERT_TRUE(test_run(&s.t, client_has_end, &s));
    CU_ASSERT_EQUAL(s.client.bytes, 1);
    CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_END, NULL, 0), CHV_OK);
    CU_ASSERT_EQUAL(target_reads(&s, buf, sizeof buf), 0);
    chv_conn_shutdown(s.client.conn);
    CU_ASSERT_TRUE(test_run(&s.t, all_closed, &s));
    CU_ASSERT_EQUAL(s.client.err, CHV_OK);
    CU_ASSERT_EQUAL(s.server_err, CHV_OK);
    CU_ASSERT_EQUAL(net.given, 1);
    end_site(&s);
}

/* What is sent before STATUS waits for the target, as the client does. */
static void test_early_data(void)
{
    struct site s;
    char buf[16];
    int fd[2];
    begin(&s, "db", "tunnel:db");
    ask(&s);
    CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_DATA, "early", 5), CHV_OK);
    test_turns(&s.t, 20);
    CU_ASSERT_EQUAL(s.server_closed, 0);
    test_tcp_pair(fd);
    s.target = fd[0];
    answer(CHV_CONNECTOR_OK, fd[1], "");
    CU_ASSERT_EQUAL(target_reads(&s, buf, sizeof buf), 5);
    end_site(&s);
}

/* CLOSE is answered once the target has all; until then nothing is lost. */
static void test_close_waits_for_the_target(void)
{
    static uint8_t body[CHV_RECORD_BULK_BODY];
    struct site s;
    char buf[65536];
    uint64_t sent = 0, got = 0;
    size_t n;
    connect_target(&s);
    CU_ASSERT_EQUAL(shutdown(s.target, SHUT_WR), 0);
    CU_ASSERT_TRUE(test_run(&s.t, client_has_end, &s));
    while (!s.server_conn->held_back && !s.t.stuck) {
        if (chv_conn_unsent(s.client.conn) == 0) {
            CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_DATA, body, sizeof body), CHV_OK);
            sent += sizeof body;
        }
        test_turns(&s.t, 1);
    }
    CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_END, NULL, 0), CHV_OK);
    chv_conn_shutdown(s.client.conn);
    test_turns(&s.t, 50);
    CU_ASSERT_EQUAL(s.client.count[CHV_RECORD_CLOSE], 0);
    CU_ASSERT_EQUAL(s.server_closed, 0);
    while ((n = target_reads(&s, buf, sizeof buf)) > 0)
        got += n;
    CU_ASSERT_EQUAL(got, sent);
    CU_ASSERT_TRUE(test_run(&s.t, all_closed, &s));
    CU_ASSERT_EQUAL(s.client.err, CHV_OK);
    CU_ASSERT_EQUAL(s.server_err, CHV_OK);
    end_site(&s);
}

static void expect_target_reset(struct site *s)
{
    char byte;
    ssize_t n;
    while ((n = recv(s->target, &byte, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN && !s->t.stuck)
        test_turns(&s->t, 1);
    CU_ASSERT_EQUAL(n, -1);
    CU_ASSERT_EQUAL(errno, ECONNRESET);
}

static void test_close_in_the_middle(void)
{
    struct site s;
    connect_target(&s);
    chv_conn_shutdown(s.client.conn);
    expect_target_reset(&s);
    CU_ASSERT_TRUE(test_run(&s.t, all_closed, &s));
    CU_ASSERT_EQUAL(s.server_err, CHV_ERR_TRUNCATED);
    CU_ASSERT_PTR_NOT_NULL(strstr(s.server_why, "middle of the stream"));
    end_site(&s);
}

static void test_client_gone(void)
{
    struct site s;
    connect_target(&s);
    chv_conn_abort(s.client.conn, CHV_ERR_CANCELLED);
    expect_target_reset(&s);
    end_site(&s);
    begin(&s, "db", "tunnel:db");
    ask(&s);
    chv_conn_abort(s.server_conn, CHV_ERR_CANCELLED); /* while the target is connected to */
    CU_ASSERT_TRUE(test_run(&s.t, all_closed, &s));
    CU_ASSERT_EQUAL(net.cancelled, 1);
    end_site(&s);
}

static void test_idle(void)
{
    struct site s;
    begin(&s, "db", "tunnel:db");
    net.db.idle_seconds = 1;
    ask(&s);
    int fd[2];
    test_tcp_pair(fd);
    s.target = fd[0];
    answer(CHV_CONNECTOR_OK, fd[1], "");
    CU_ASSERT_TRUE(test_run(&s.t, all_closed, &s));
    CU_ASSERT_EQUAL(s.status.code, 408);
    CU_ASSERT_PTR_NOT_NULL(strstr(s.status.text, "no byte in 1 s"));
    CU_ASSERT_EQUAL(s.server_err, CHV_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(s.client.err, CHV_ERR_TRUNCATED);
    expect_target_reset(&s);
    end_site(&s);
}

/* The server ends: a stream goes on, one that is not there yet does not. */
static void test_server_ends(void)
{
    struct site s;
    char buf[16];
    connect_target(&s);
    CU_ASSERT_TRUE(chv_service_tunnel.closing(s.server_conn, s.state, true));
    CU_ASSERT_EQUAL(chv_conn_send(s.client.conn, CHV_RECORD_DATA, "more", 4), CHV_OK);
    CU_ASSERT_EQUAL(target_reads(&s, buf, sizeof buf), 4);
    CU_ASSERT_EQUAL(s.client.count[CHV_RECORD_CLOSE], 0);
    end_site(&s);
    begin(&s, "db", "tunnel:db");
    ask(&s);
    CU_ASSERT_TRUE(chv_service_tunnel.closing(s.server_conn, s.state, true));
    expect_refusal(&s, 503, "the server ends");
    CU_ASSERT_EQUAL(net.cancelled, 1);
}

TEST_MAIN("tunnel server", {"names", test_names}, {"caps", test_caps}, {"no target", test_no_target},
          {"stream", test_stream}, {"early data", test_early_data},
          {"CLOSE waits for the target", test_close_waits_for_the_target},
          {"CLOSE in the middle", test_close_in_the_middle}, {"client gone", test_client_gone}, {"idle", test_idle},
          {"the server ends", test_server_ends})
