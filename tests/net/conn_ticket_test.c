/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that comes back by ticket: the driver's answers, now and later. */
#include "tests/net/conn_support.h"

#include <string.h>
#include <unistd.h>

#include "net/conn_internal.h"

static const uint8_t ticket[] = "a ticket", lineage[CHV_LINEAGE_LEN] = {1, 2}, secret[CHV_KEY_LEN] = {3, 4};
static struct chv_session_config client_config;

static struct chv_session_ticket taken(void)
{
    return (struct chv_session_ticket){.profile = CHV_PROFILE_PSK,
                                       .suite = client_config.suite,
                                       .credential = client_config.credential,
                                       .credential_len = client_config.credential_len,
                                       .lineage = lineage,
                                       .secret = secret,
                                       .server = "home"};
}

/* The server's side waits for the test's answer (SIDE_WAITS); the client comes with the ticket. */
static void start(struct test_loop *t, struct side *client, struct side *server)
{
    int fd[2];
    struct chv_why why = {""};
    memset(client, 0, sizeof *client);
    memset(server, 0, sizeof *server);
    server->key = SIDE_WAITS;
    test_loop_open(t, NULL, 0);
    test_tcp_pair(fd);
    test_start(t, server, CHV_SERVER, fd[1]);
    test_config(&client_config, CHV_CLIENT);
    client_config.ticket = ticket;
    client_config.ticket_len = sizeof ticket;
    client_config.resumption = secret;
    client_config.server = "home";
    CU_ASSERT_EQUAL_FATAL(
        chv_conn_start(&t->loop, fd[0], "test", &client_config, &test_events, client, &client->conn, &why), CHV_OK);
}

static bool is_asked(void *arg)
{
    return ((struct side *)arg)->keys > 0;
}

static void test_taken(void)
{
    struct test_loop t;
    struct side client, server;
    struct chv_session_info info;
    start(&t, &client, &server);
    struct chv_session_ticket answer = taken();
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(server.conn, &answer), CHV_ERR_STATE); /* nobody has asked yet */
    CU_ASSERT_TRUE(test_run(&t, is_asked, &server));
    CU_ASSERT_EQUAL_FATAL(server.request.kind, CHV_KEY_TICKET);
    CU_ASSERT_EQUAL(server.request.ticket_len, sizeof ticket);
    test_turns(&t, 5); /* the answer may take its time */
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(client.conn, &answer), CHV_ERR_STATE);
    answer.server = "";
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(server.conn, &answer), CHV_ERR_ARGUMENT);
    answer.server = "home";
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(server.conn, &answer), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(server.conn, &answer), CHV_ERR_STATE);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(client.keys + server.keys, 1);
    CU_ASSERT_EQUAL(chv_session_get_info(chv_conn_session(server.conn), &info), CHV_OK);
    CU_ASSERT(info.resumed && memcmp(info.lineage, lineage, sizeof lineage) == 0);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_OK);
    test_loop_close(&t);
}

/* 401 reaches the client, whoever says it: the owner, or the session about a ticket of another suite. */
static void refused(bool by_owner)
{
    struct test_loop t;
    struct side client, server;
    start(&t, &client, &server);
    struct chv_session_ticket answer = taken();
    answer.suite = CHV_SUITE_X25519_CHACHAPOLY_SHA256;
    CU_ASSERT_TRUE(test_run(&t, is_asked, &server));
    const enum chv_err err =
        by_owner ? chv_conn_key_refuse(server.conn, CHV_REFUSE_TICKET) : chv_conn_ticket_answer(server.conn, &answer);
    CU_ASSERT_EQUAL(err, by_owner ? CHV_OK : CHV_ERR_AUTH);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(client.err, CHV_ERR_REFUSED);
    CU_ASSERT_EQUAL(server.err, CHV_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL(strstr(client.why, "401"));
    test_loop_close(&t);
}

static void test_refused(void)
{
    refused(true);
    refused(false);
}

/* Gone while its ticket is looked at. */
static void test_gone(void)
{
    struct test_loop t;
    struct side client, server;
    start(&t, &client, &server);
    const struct chv_session_ticket answer = taken();
    CU_ASSERT_TRUE(test_run(&t, is_asked, &server));
    struct chv_conn *conn = server.conn;
    chv_conn_abort(conn, CHV_ERR_CANCELLED);
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(conn, &answer), CHV_ERR_STATE);
    CU_ASSERT_TRUE(test_run_closed(&t, &client));
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, CHV_ERR_CANCELLED);
    test_loop_close(&t);
}

TEST_MAIN("net/conn_ticket", {"taken", test_taken}, {"refused", test_refused}, {"gone", test_gone})
