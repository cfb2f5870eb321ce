/* SPDX-License-Identifier: Apache-2.0 */
/* A client that comes back with tickets, and that is sent on: what it follows, and what it does not. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "net/control.h"
#include "tests/services/message_support.h"

enum { GRANTS_MAX = 64 };

/* What the server does at a port. */
struct manner {
    bool refuses_ticket;       /* 401 */
    bool wrong_ticket;         /* takes it with another secret */
    bool wrong_key;            /* of the full handshake */
    unsigned refuses;          /* the full handshake, with this code in clear */
    unsigned extra;            /* tickets beyond those asked for */
    bool garbled;              /* its tickets are no maps */
    bool early;                /* STATUS comes before all else */
    struct chv_grant redirect; /* port 0: none */
    const char *map;           /* the REDIRECT's, as it is */
    size_t map_len;
};

struct port {
    struct gate *gate;
    struct manner manner;
    int fd;
    uint16_t number;
    unsigned came, full, resumed, opened, asked; /* asked: by the last OPEN */
};

struct gate {
    struct test_env env;
    struct port front, data;
    struct {
        uint8_t ticket[4], secret[CHV_KEY_LEN];
    } grants[GRANTS_MAX];
    unsigned granted;
    uint8_t lineage[CHV_LINEAGE_LEN];
};

/* A client of it. */
struct comer {
    struct chv_message *message;
    unsigned ready, closed, replies;
    bool resumed, unproven;
    unsigned refusal;
    uint16_t port;
    enum chv_err err;
    char text[512];
};

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
    if (port->manner.refuses_ticket) {
        CU_ASSERT_EQUAL(chv_conn_key_refuse(conn, CHV_REFUSE_TICKET), CHV_OK);
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

static void turn(struct gate *gate)
{
    test_turn(&gate->env);
    accept_at(&gate->front);
    accept_at(&gate->data);
}

#define UNTIL(gate, condition)                                                                                         \
    do {                                                                                                               \
        while (!(condition) && !(gate)->env.stuck)                                                                     \
            turn(gate);                                                                                                \
        CU_ASSERT_TRUE(!!(condition));                                                                                 \
    } while (0)

static uint16_t port_of(int fd)
{
    struct sockaddr_in in = {.sin_port = 0};
    socklen_t len = sizeof in;
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

static void gate_open(struct gate *gate)
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

static void gate_close(struct gate *gate)
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

static const struct chv_message_events events = {
    .ready = on_ready, .reply = on_reply, .reply_end = on_reply_end, .closed = on_closed};

static void start(struct gate *gate, struct comer *comer)
{
    memset(comer, 0, sizeof *comer);
    CU_ASSERT_EQUAL_FATAL(chv_message_connect(&gate->env.loop, gate->env.address, &gate->env.store.key, &events, comer,
                                              &comer->message, NULL),
                          CHV_OK);
}

static void leave(struct gate *gate, struct comer *comer)
{
    if (comer->message != NULL)
        chv_message_close(comer->message);
    UNTIL(gate, comer->closed);
}

/* Says one message and goes. */
static void visit(struct gate *gate, struct comer *comer)
{
    start(gate, comer);
    UNTIL(gate, comer->ready || comer->closed);
    if (comer->message != NULL && comer->ready) {
        CU_ASSERT_EQUAL(chv_message_send(comer->message, "ola", 3), CHV_OK);
        UNTIL(gate, comer->replies || comer->closed);
        CU_ASSERT_EQUAL(comer->replies, 1);
    }
    leave(gate, comer);
}

static void visit_well(struct gate *gate, struct comer *comer)
{
    visit(gate, comer);
    CU_ASSERT_EQUAL(comer->ready, 1);
    CU_ASSERT_EQUAL(comer->err, CHV_OK);
    CU_ASSERT_STRING_EQUAL(comer->text, "");
}

static unsigned stock(struct gate *gate)
{
    return chv_ticket_store_count(gate->env.store.key.tickets, chv_ticket_now());
}

static void forget_tickets(struct gate *gate)
{
    struct chv_ticket_use use;
    while (chv_ticket_store_take(gate->env.store.key.tickets, chv_ticket_now(), &use))
        continue;
    chv_wipe(&use, sizeof use);
}

/* --- tickets ------------------------------------------------------------------------------------------------------- */

static void test_comes_back(void)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.asked, CHV_TICKET_STORE_WANTED);
    CU_ASSERT_EQUAL(stock(&gate), CHV_TICKET_STORE_WANTED);
    for (unsigned i = 0; i < 3; i++) {
        visit_well(&gate, &comer);
        CU_ASSERT_TRUE(comer.resumed);
        CU_ASSERT_EQUAL(gate.front.asked, 1); /* in place of the one that was used */
    }
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.front.resumed, 3);
    CU_ASSERT_EQUAL(gate.front.came, 4);
    gate_close(&gate);
}

/* Of another credential, server, suite or profile no ticket is used. */
static void test_bound(void)
{
    struct gate gate;
    struct comer comer;
    uint8_t hash[2][CHV_KEY_LEN];
    gate_open(&gate);
    struct chv_client_key *key = &gate.env.store.key, other = *key;
    const struct chv_crypto *crypto = &gate.env.loop.crypto;
    CU_ASSERT_EQUAL(chv_client_key_binding(key, crypto, hash[0]), CHV_OK);
    for (int i = 0; i < 4; i++) {
        other = *key;
        if (i == 0)
            other.credential[8] ^= 1; /* the serial */
        else if (i == 1)
            other.server[0] ^= 1;
        else if (i == 2)
            other.suite = CHV_SUITE_X25519_CHACHAPOLY_SHA256;
        else
            other.profile = CHV_PROFILE_KEY_PSK;
        CU_ASSERT_EQUAL(chv_client_key_binding(&other, crypto, hash[1]), CHV_OK);
        CU_ASSERT_NOT_EQUAL(memcmp(hash[0], hash[1], CHV_KEY_LEN), 0);
    }
    visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(chv_client_key_binding(&other, crypto, hash[1]), CHV_OK);
    chv_ticket_store_bind(key->tickets, hash[1]);
    visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.front.full, 2);
    CU_ASSERT_EQUAL(gate.front.resumed, 0);
    /* without the server's name there is nothing that a ticket could be used with */
    key->server[0] = '\0';
    start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(gate.front.resumed, 0);
    gate_close(&gate);
}

static void test_not_taken(void)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    visit_well(&gate, &comer);
    gate.front.manner.refuses_ticket = true;
    visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.resumed, 1);
    CU_ASSERT_EQUAL(gate.front.full, 2);
    CU_ASSERT_EQUAL(gate.front.came, 3);
    CU_ASSERT_EQUAL(stock(&gate), CHV_TICKET_STORE_WANTED);
    gate.front.manner = (struct manner){.wrong_ticket = true}; /* message 2 does not open */
    visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.full, 3);
    CU_ASSERT_EQUAL(gate.front.came, 5);
    gate_close(&gate);
}

/* Whatever is forged: one full handshake, and what that says is said to the owner. */
static void test_one_full_handshake(void)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    visit_well(&gate, &comer);
    gate.front.manner = (struct manner){.refuses_ticket = true, .refuses = 503};
    visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.ready, 0);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_REFUSED);
    CU_ASSERT_EQUAL(comer.refusal, 503);
    CU_ASSERT_EQUAL(gate.front.came, 3);
    CU_ASSERT_EQUAL(stock(&gate), 1);
    gate.front.manner = (struct manner){.wrong_ticket = true, .wrong_key = true};
    visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_AUTH);
    CU_ASSERT_TRUE(comer.unproven);
    CU_ASSERT_EQUAL(gate.front.came, 5);
    CU_ASSERT_EQUAL(stock(&gate), 0);
    gate_close(&gate);
}

static void on_ready_abort(struct chv_message *m)
{
    chv_message_abort(m);
}

/* Its owner has gone: nothing follows. */
static void test_aborted(void)
{
    static const struct chv_message_events aborting = {
        .ready = on_ready_abort, .reply = on_reply, .reply_end = on_reply_end, .closed = on_closed};
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    visit_well(&gate, &comer);
    memset(&comer, 0, sizeof comer);
    gate.front.manner.refuses_ticket = true;
    CU_ASSERT_EQUAL(chv_message_connect(&gate.env.loop, gate.env.address, &gate.env.store.key, &aborting, &comer,
                                        &comer.message, NULL),
                    CHV_OK);
    UNTIL(&gate, gate.front.resumed == 1);
    if (comer.message != NULL)
        chv_message_abort(comer.message);
    UNTIL(&gate, comer.closed);
    for (int i = 0; i < 100; i++)
        turn(&gate);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_CANCELLED);
    gate_close(&gate);
}

static void refused_tickets(struct manner manner, bool store, const char *text)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    struct chv_ticket_store *tickets = gate.env.store.key.tickets;
    if (!store)
        gate.env.store.key.tickets = NULL;
    gate.front.manner = manner;
    start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, text));
    gate.env.store.key.tickets = tickets;
    gate_close(&gate);
}

static void test_refused_tickets(void)
{
    refused_tickets((struct manner){.extra = 1}, true, "a ticket that was not asked for");
    refused_tickets((struct manner){.extra = 1}, false, "a ticket that was not asked for");
    refused_tickets((struct manner){.garbled = true}, true, "a malformed TICKET");
}

/* --- REDIRECT ------------------------------------------------------------------------------------------------------ */

static void test_redirect(void)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    gate.front.manner.redirect.port = gate.data.number;
    visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(comer.port, gate.data.number);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.data.resumed, 1);
    CU_ASSERT_EQUAL(gate.data.full, 0);
    CU_ASSERT_EQUAL(gate.data.asked, 0);
    CU_ASSERT_EQUAL(stock(&gate), CHV_TICKET_STORE_WANTED); /* the handshake port's; the data ticket is not kept */
    visit_well(&gate, &comer);
    CU_ASSERT_TRUE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.data.resumed, 2);
    /* without a store too: the data ticket is for now */
    forget_tickets(&gate);
    struct chv_ticket_store *tickets = gate.env.store.key.tickets;
    gate.env.store.key.tickets = NULL;
    visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.data.resumed, 3);
    gate.env.store.key.tickets = tickets;
    /* to a host that is allowed, whatever the case of its letters */
    memcpy(gate.front.manner.redirect.host, "LocalHost", 10);
    gate.env.store.key.redirect_hosts = "elsewhere, localhost";
    visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.data.resumed, 4);
    gate_close(&gate);
}

/* The first connection is closed in order. */
static void test_redirect_leaves(void)
{
    struct gate gate;
    struct comer comer;
    gate_open(&gate);
    gate.front.manner.redirect.port = gate.data.number;
    start(&gate, &comer);
    UNTIL(&gate, comer.ready || comer.closed);
    CU_ASSERT_EQUAL(comer.ready, 1);
    UNTIL(&gate, gate.env.loop.conn_count <= 2); /* both ends of the data connection */
    leave(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_OK);
    gate_close(&gate);
}

static void not_followed(struct gate *gate, const char *text)
{
    struct comer comer;
    forget_tickets(gate);
    gate->data.came = 0;
    visit(gate, &comer);
    CU_ASSERT_EQUAL(comer.ready, 0);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(gate->data.came, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, text));
    CU_ASSERT_FALSE(comer.unproven);
}

#define MAP(literal)                                                                                                   \
    (struct manner)                                                                                                    \
    {                                                                                                                  \
        .map = (literal), .map_len = sizeof(literal) - 1                                                               \
    }

static void test_not_followed(void)
{
    struct gate gate;
    struct comer comer;
    char told[64];
    gate_open(&gate);
    gate.front.manner.redirect = (struct chv_grant){.port = gate.data.number, .host = "localhost"};
    not_followed(&gate, "redirected to another host, localhost, port");
    gate.env.store.key.redirect_hosts = "local, localhost.example";
    not_followed(&gate, "'redirect-hosts = localhost' in the configuration file allows it");
    gate.front.manner = MAP("\xa4\x66ticket\x41\x01\x66number\x01\x68lifetime\x01\x64port\x00");
    not_followed(&gate, "malformed REDIRECT");
    gate.front.manner = MAP("\xa3\x66ticket\x41\x01\x66number\x01\x68lifetime\x01"); /* no port */
    not_followed(&gate, "malformed REDIRECT");
    gate.front.manner = MAP("\xa4\x66ticket\x40\x66number\x01\x68lifetime\x01\x64port\x01"); /* no ticket */
    not_followed(&gate, "malformed REDIRECT");
    gate.front.manner = MAP("");
    not_followed(&gate, "malformed REDIRECT");
    /* a second one, at the data side */
    gate.front.manner = (struct manner){.redirect.port = gate.data.number};
    gate.data.manner.redirect.port = gate.front.number;
    const unsigned came = gate.front.came;
    visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    (void)snprintf(told, sizeof told, "redirected to port %u, which redirected again", (unsigned)gate.data.number);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, told));
    CU_ASSERT_EQUAL(gate.front.came, came + 1);
    /* tickets of a data side */
    forget_tickets(&gate);
    gate.data.manner = (struct manner){.extra = 1};
    visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, "a ticket that was not asked for"));
    /* behind STATUS */
    forget_tickets(&gate);
    gate.data.came = 0;
    gate.front.manner.early = true;
    start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, "type 7 that is not due"));
    CU_ASSERT_EQUAL(gate.data.came, 0);
    gate_close(&gate);
}

static void test_unix_is_not_redirected(void)
{
    struct gate gate;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    gate_open(&gate);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s/s", gate.env.store.folder);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 10), 0);
    gate.front.fd = fd;
    (void)snprintf(gate.env.address, sizeof gate.env.address, "unix:%.58s", un.sun_path);
    gate.front.manner.redirect.port = gate.data.number;
    not_followed(&gate, "there are no ports behind a unix socket");
    (void)close(fd);
    (void)unlink(un.sun_path);
    gate_close(&gate);
}

/* The data side fails: both ports are told, no key is doubted, and nobody makes a full handshake there. */
static void data_side_fails(struct gate *gate, enum chv_err err, unsigned refusal, const char *text)
{
    struct comer comer;
    char told[160];
    forget_tickets(gate);
    gate->front.manner.redirect = (struct chv_grant){.port = gate->data.number};
    const unsigned came = gate->front.came;
    visit(gate, &comer);
    CU_ASSERT_EQUAL(comer.ready, 0);
    CU_ASSERT_EQUAL(comer.err, err);
    CU_ASSERT_EQUAL(comer.refusal, refusal);
    CU_ASSERT_FALSE(comer.unproven);
    (void)snprintf(told, sizeof told, "the server at %.40s redirected to port %u, which %.30s", gate->env.address,
                   (unsigned)gate->data.number, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, told));
    CU_ASSERT_EQUAL(gate->front.came, came + 1);
    CU_ASSERT_EQUAL(gate->data.full, 0);
}

static void test_data_side_fails(void)
{
    struct gate gate;
    gate_open(&gate);
    gate.data.manner = (struct manner){.refuses_ticket = true};
    data_side_fails(&gate, CHV_ERR_REFUSED, CHV_REFUSE_UNAVAILABLE, "did not let the client in: ");
    CU_ASSERT_EQUAL(gate.data.came, 1);
    gate.data.manner = (struct manner){.wrong_ticket = true};
    data_side_fails(&gate, CHV_ERR_AUTH, 0, "cannot prove that it belongs");
    CU_ASSERT_EQUAL(gate.data.came, 2);
    (void)close(gate.data.fd);
    gate.data.fd = -1;
    data_side_fails(&gate, CHV_ERR_UNAVAILABLE, 0, "did not answer: cannot connect");
    gate_close(&gate);
}

TEST_MAIN("message tickets", {"comes back", test_comes_back}, {"bound", test_bound}, {"not taken", test_not_taken},
          {"one full handshake", test_one_full_handshake}, {"aborted", test_aborted},
          {"refused tickets", test_refused_tickets}, {"redirect", test_redirect},
          {"redirect leaves", test_redirect_leaves}, {"not followed", test_not_followed},
          {"unix is not redirected", test_unix_is_not_redirected}, {"data side fails", test_data_side_fails})
