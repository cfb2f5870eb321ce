/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/services/message_gate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/hkdf.h"

/* --- the server ---------------------------------------------------------------------------------------------------- */

static void answer_key(struct port *port, struct chv_conn *conn, const struct chv_key_request *request)
{
    uint8_t info[CHV_INFO_MAX], psk[CHV_KEY_LEN];
    size_t len;
    port->full++;
    if (port->manner.refuses != 0) {
        CU_ASSERT_EQUAL(chv_conn_key_refuse(conn, port->manner.refuses), CHV_OK);
        return;
    }
    CU_ASSERT_EQUAL(chv_info_session("hive", request->h_psk, request->h_psk_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(port->gate->env.store.keystore, "access:1.1", info, len, psk, NULL), CHV_OK);
    psk[0] ^= port->manner.wrong_key;
    CU_ASSERT_EQUAL(chv_conn_key_answer(conn, psk), CHV_OK);
}

static void answer_ticket(struct port *port, struct chv_conn *conn, const struct chv_key_request *request)
{
    struct gate *gate = port->gate;
    const struct chv_client_key *key = &gate->env.store.key;
    unsigned i = 0;
    while (i < gate->granted && memcmp(gate->grants[i].ticket, request->ticket, sizeof gate->grants[i].ticket) != 0)
        i++;
    CU_ASSERT_EQUAL(request->ticket_len, sizeof gate->grants[0].ticket);
    CU_ASSERT_TRUE_FATAL(i < gate->granted); /* none that was used already */
    memset(gate->grants[i].ticket, 0, sizeof gate->grants[i].ticket);
    port->resumed++;
    if (port->manner.ends) {
        chv_conn_abort(conn, CHV_ERR_CANCELLED);
        return;
    }
    if (port->manner.ticket_code != 0) {
        CU_ASSERT_EQUAL(chv_conn_key_refuse(conn, port->manner.ticket_code), CHV_OK);
        return;
    }
    gate->grants[i].secret[0] ^= port->manner.wrong_ticket;
    const struct chv_session_ticket ticket = {.profile = CHV_PROFILE_PSK,
                                              .suite = CHV_SUITE_X25519_AESGCM_SHA256,
                                              .credential = key->credential,
                                              .credential_len = key->credential_len,
                                              .lineage = gate->lineage,
                                              .secret = gate->grants[i].secret,
                                              .server = "hive"};
    CU_ASSERT_EQUAL(chv_conn_ticket_answer(conn, &ticket), CHV_OK);
}

static void on_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    struct port *port = chv_conn_owner(conn);
    if (request->kind == CHV_KEY_TICKET)
        answer_ticket(port, conn, request);
    else
        answer_key(port, conn, request);
}

/* One more ticket of this session; its REDIRECT has a port. */
static void grant(struct port *port, struct chv_conn *conn, uint8_t type, struct chv_grant *out)
{
    struct gate *gate = port->gate;
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_TRUE_FATAL(gate->granted < GRANTS_MAX);
    const unsigned i = gate->granted++;
    const uint8_t ticket[4] = {'t', 'k', 't', (uint8_t)i};
    memcpy(gate->grants[i].ticket, ticket, sizeof ticket);
    out->number = i;
    out->lifetime = 30;
    out->ticket_len = sizeof ticket;
    memcpy(out->ticket, ticket, sizeof ticket);
    CU_ASSERT_EQUAL(chv_session_resumption(chv_conn_session(conn), i, gate->grants[i].secret), CHV_OK);
    CU_ASSERT_EQUAL(chv_grant_encode(out, map, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_send(conn, type, map, port->manner.garbled ? len - 1 : len), CHV_OK);
}

static void opened(struct port *port, struct chv_conn *conn, const uint8_t *body, size_t len)
{
    struct chv_open open;
    CU_ASSERT_EQUAL_FATAL(chv_open_decode(body, len, &open), CHV_OK);
    CU_ASSERT_STRING_EQUAL(open.service, "message");
    CU_ASSERT_TRUE(open.has_instance);
    port->opened++;
    port->asked = open.tickets;
    const bool redirects = port->manner.redirect.port != 0 || port->manner.map != NULL;
    if (port->manner.updates)
        CU_ASSERT_EQUAL(chv_conn_send(conn, CHV_RECORD_KEY_UPDATE, body, len), CHV_OK);
    if (!redirects || port->manner.early)
        CU_ASSERT_EQUAL(chv_service_status(conn, 200, "ready"), CHV_OK);
    for (unsigned i = 0; i < open.tickets + port->manner.extra; i++)
        grant(port, conn, CHV_RECORD_TICKET, &(struct chv_grant){.port = 0});
    if (port->manner.map != NULL) {
        CU_ASSERT_EQUAL(chv_conn_send(conn, CHV_RECORD_REDIRECT, port->manner.map, port->manner.map_len), CHV_OK);
    } else if (redirects) {
        grant(port, conn, CHV_RECORD_REDIRECT, &port->manner.redirect);
    }
}

static enum chv_err on_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct port *port = chv_conn_owner(conn);
    enum chv_err err = CHV_OK;
    if (type == CHV_RECORD_OPEN)
        opened(port, conn, body, len);
    else if (type == CHV_RECORD_CLOSE)
        chv_conn_shutdown(conn);
    else if (type == CHV_RECORD_END)
        err = chv_conn_send(conn, CHV_RECORD_END, NULL, 0);
    return err;
}

static void on_server_closed(struct chv_conn *conn, enum chv_err err)
{
    (void)conn;
    (void)err;
}

static const struct chv_conn_events server_events = {.key = on_key, .record = on_record, .closed = on_server_closed};

static void accept_at(struct port *port)
{
    const struct chv_session_config config = {
        .role = CHV_SERVER,
        .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
        .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256),
        .now = 1800000000,
    };
    struct chv_conn *conn = NULL;
    const int fd = port->fd >= 0 ? accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
    if (fd < 0)
        return;
    port->came++;
    CU_ASSERT_EQUAL(chv_conn_start(&port->gate->env.loop, fd, "client", &config, &server_events, port, &conn, NULL),
                    CHV_OK);
}

void test_gate_turn(struct gate *gate)
{
    test_turn(&gate->env);
    accept_at(&gate->front);
    accept_at(&gate->data);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in in = {.sin_port = 0};
    socklen_t len = sizeof in;
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

void test_gate_open(struct gate *gate)
{
    memset(gate, 0, sizeof *gate);
    test_env_open(&gate->env);
    gate->front = (struct port){.gate = gate, .fd = gate->env.listener, .number = port_of(gate->env.listener)};
    const struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&in, sizeof in), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 10), 0);
    gate->data = (struct port){.gate = gate, .fd = fd, .number = port_of(fd)};
    CU_ASSERT_EQUAL_FATAL(chv_ticket_store_open(NULL, NULL, NULL, &gate->env.store.key.tickets, NULL), CHV_OK);
}

void test_gate_close(struct gate *gate)
{
    struct chv_ticket_store *tickets = gate->env.store.key.tickets;
    if (gate->data.fd >= 0)
        (void)close(gate->data.fd);
    test_env_close(&gate->env);
    chv_ticket_store_close(tickets);
}

/* --- the client ---------------------------------------------------------------------------------------------------- */

static void on_ready(struct chv_message *m)
{
    struct comer *comer = chv_message_owner(m);
    comer->ready++;
    comer->resumed = chv_message_resumed(m);
    comer->port = chv_message_redirected(m);
    CU_ASSERT_STRING_EQUAL(chv_message_greeting(m), "ready");
}

static void on_reply(struct chv_message *m, const uint8_t *data, size_t len)
{
    (void)m;
    (void)data;
    (void)len;
}

static void on_reply_end(struct chv_message *m)
{
    ((struct comer *)chv_message_owner(m))->replies++;
}

static void on_closed(struct chv_message *m, enum chv_err err, const char *text)
{
    struct comer *comer = chv_message_owner(m);
    comer->closed++;
    comer->err = err;
    comer->refusal = chv_message_refusal(m);
    comer->unproven = chv_message_unproven(m, err);
    comer->message = NULL;
    (void)snprintf(comer->text, sizeof comer->text, "%s", text);
}

const struct chv_message_events test_comer_events = {
    .ready = on_ready, .reply = on_reply, .reply_end = on_reply_end, .closed = on_closed};

void test_comer_start(struct gate *gate, struct comer *comer)
{
    memset(comer, 0, sizeof *comer);
    CU_ASSERT_EQUAL_FATAL(chv_message_connect(&gate->env.loop, gate->env.address, &gate->env.store.key,
                                              &test_comer_events, comer, &comer->message, NULL),
                          CHV_OK);
}

void test_comer_leave(struct gate *gate, struct comer *comer)
{
    if (comer->message != NULL)
        chv_message_close(comer->message);
    UNTIL(gate, comer->closed);
}

/* Says one message and goes. */
void test_visit(struct gate *gate, struct comer *comer)
{
    test_comer_start(gate, comer);
    UNTIL(gate, comer->ready || comer->closed);
    if (comer->message != NULL && comer->ready) {
        CU_ASSERT_EQUAL(chv_message_send(comer->message, "ola", 3), CHV_OK);
        UNTIL(gate, comer->replies || comer->closed);
        CU_ASSERT_EQUAL(comer->replies, 1);
    }
    test_comer_leave(gate, comer);
}

void test_visit_well(struct gate *gate, struct comer *comer)
{
    test_visit(gate, comer);
    CU_ASSERT_EQUAL(comer->ready, 1);
    CU_ASSERT_EQUAL(comer->err, CHV_OK);
    CU_ASSERT_STRING_EQUAL(comer->text, "");
}

unsigned test_stock(struct gate *gate)
{
    return chv_ticket_store_count(gate->env.store.key.tickets, chv_ticket_now());
}

void test_forget_tickets(struct gate *gate)
{
    struct chv_ticket_use use;
    while (chv_ticket_store_take(gate->env.store.key.tickets, chv_ticket_now(), &use))
        continue;
    chv_wipe(&use, sizeof use);
}
