/* SPDX-License-Identifier: Apache-2.0 */
/* A client that comes back with tickets, and that is sent on: what it follows, and what it does not. */
#include "tests/services/message_gate.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- tickets ------------------------------------------------------------------------------------------------------- */

static void test_comes_back(void)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    test_visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.asked, CHV_TICKET_STORE_WANTED);
    CU_ASSERT_EQUAL(test_stock(&gate), CHV_TICKET_STORE_WANTED);
    for (unsigned i = 0; i < 3; i++) {
        test_visit_well(&gate, &comer);
        CU_ASSERT_TRUE(comer.resumed);
        CU_ASSERT_EQUAL(gate.front.asked, 1); /* in place of the one that was used */
    }
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.front.resumed, 3);
    CU_ASSERT_EQUAL(gate.front.came, 4);
    test_gate_close(&gate);
}

/* Of another credential, server, suite or profile no ticket is used. */
static void test_bound(void)
{
    struct gate gate;
    struct comer comer;
    uint8_t hash[2][CHV_KEY_LEN];
    test_gate_open(&gate);
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
    test_visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(chv_client_key_binding(&other, crypto, hash[1]), CHV_OK);
    chv_ticket_store_bind(key->tickets, hash[1]);
    test_visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.front.full, 2);
    CU_ASSERT_EQUAL(gate.front.resumed, 0);
    /* without the server's name there is nothing that a ticket could be used with */
    key->server[0] = '\0';
    test_comer_start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(gate.front.resumed, 0);
    test_gate_close(&gate);
}

static void test_not_taken(void)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    test_visit_well(&gate, &comer);
    gate.front.manner.ticket_code = CHV_REFUSE_TICKET;
    test_visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.resumed, 1);
    CU_ASSERT_EQUAL(gate.front.full, 2);
    CU_ASSERT_EQUAL(gate.front.came, 3);
    CU_ASSERT_EQUAL(test_stock(&gate), CHV_TICKET_STORE_WANTED);
    gate.front.manner = (struct manner){.wrong_ticket = true}; /* message 2 does not open */
    test_visit_well(&gate, &comer);
    CU_ASSERT_FALSE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.full, 3);
    CU_ASSERT_EQUAL(gate.front.came, 5);
    test_gate_close(&gate);
}

/* Whatever is forged: one full handshake, and what that says is said to the owner. */
static void test_one_full_handshake(void)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    test_visit_well(&gate, &comer);
    gate.front.manner = (struct manner){.ticket_code = CHV_REFUSE_TICKET, .refuses = 503};
    test_visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.ready, 0);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_REFUSED);
    CU_ASSERT_EQUAL(comer.refusal, 503);
    CU_ASSERT_EQUAL(gate.front.came, 3);
    CU_ASSERT_EQUAL(test_stock(&gate), 1);
    gate.front.manner = (struct manner){.wrong_ticket = true, .wrong_key = true};
    test_visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_AUTH);
    CU_ASSERT_TRUE(comer.unproven);
    CU_ASSERT_EQUAL(gate.front.came, 5);
    CU_ASSERT_EQUAL(test_stock(&gate), 0);
    test_gate_close(&gate);
}

/* The ticket is used up; the owner is told, and no full handshake follows by itself. */
static void no_handshake_after(struct manner manner, enum chv_err err, unsigned refusal)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    test_visit_well(&gate, &comer);
    gate.front.manner = manner;
    test_visit(&gate, &comer);
    for (int i = 0; i < 100; i++)
        test_gate_turn(&gate);
    CU_ASSERT_EQUAL(comer.ready, 0);
    CU_ASSERT_EQUAL(comer.closed, 1);
    CU_ASSERT_EQUAL(comer.err, err);
    CU_ASSERT_EQUAL(comer.refusal, refusal);
    CU_ASSERT_FALSE(comer.unproven);
    CU_ASSERT_EQUAL(gate.front.resumed, 1);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.front.came, 2);
    CU_ASSERT_EQUAL(test_stock(&gate), CHV_TICKET_STORE_WANTED - 1);
    /* the next one is still good */
    gate.front.manner = (struct manner){.ticket_code = 0};
    test_visit_well(&gate, &comer);
    CU_ASSERT_TRUE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    test_gate_close(&gate);
}

static void test_no_full_handshake(void)
{
    no_handshake_after((struct manner){.ticket_code = 429}, CHV_ERR_REFUSED, 429);
    no_handshake_after((struct manner){.ticket_code = 503}, CHV_ERR_REFUSED, 503);
    no_handshake_after((struct manner){.ends = true}, CHV_ERR_TRUNCATED, 0);
}

static void on_ready_abort(struct chv_message *m)
{
    chv_message_abort(m);
}

/* Its owner has gone: nothing follows. */
static void test_aborted(void)
{
    struct chv_message_events aborting = test_comer_events;
    struct gate gate;
    struct comer comer;
    aborting.ready = on_ready_abort;
    test_gate_open(&gate);
    test_visit_well(&gate, &comer);
    memset(&comer, 0, sizeof comer);
    gate.front.manner.ticket_code = CHV_REFUSE_TICKET;
    CU_ASSERT_EQUAL(chv_message_connect(&gate.env.loop, gate.env.address, &gate.env.store.key, &aborting, &comer,
                                        &comer.message, NULL),
                    CHV_OK);
    UNTIL(&gate, gate.front.resumed == 1);
    if (comer.message != NULL)
        chv_message_abort(comer.message);
    UNTIL(&gate, comer.closed);
    for (int i = 0; i < 100; i++)
        test_gate_turn(&gate);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_CANCELLED);
    test_gate_close(&gate);
}

static void refused_tickets(struct manner manner, bool store, const char *text)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    struct chv_ticket_store *tickets = gate.env.store.key.tickets;
    if (!store)
        gate.env.store.key.tickets = NULL;
    gate.front.manner = manner;
    test_comer_start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, text));
    gate.env.store.key.tickets = tickets;
    test_gate_close(&gate);
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
    test_gate_open(&gate);
    gate.front.manner.redirect.port = gate.data.number;
    test_visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(comer.port, gate.data.number);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.data.resumed, 1);
    CU_ASSERT_EQUAL(gate.data.full, 0);
    CU_ASSERT_EQUAL(gate.data.asked, 0);
    CU_ASSERT_EQUAL(test_stock(&gate), CHV_TICKET_STORE_WANTED); /* the handshake port's; the data ticket is not kept */
    test_visit_well(&gate, &comer);
    CU_ASSERT_TRUE(comer.resumed);
    CU_ASSERT_EQUAL(gate.front.full, 1);
    CU_ASSERT_EQUAL(gate.data.resumed, 2);
    /* without a store too: the data ticket is for now */
    test_forget_tickets(&gate);
    struct chv_ticket_store *tickets = gate.env.store.key.tickets;
    gate.env.store.key.tickets = NULL;
    test_visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.data.resumed, 3);
    gate.env.store.key.tickets = tickets;
    /* to a host that is allowed, whatever the case of its letters */
    memcpy(gate.front.manner.redirect.host, "LocalHost", 10);
    gate.env.store.key.redirect_hosts = "elsewhere, localhost";
    test_visit_well(&gate, &comer);
    CU_ASSERT_EQUAL(gate.data.resumed, 4);
    test_gate_close(&gate);
}

/* The first connection is closed in order. */
static void test_redirect_leaves(void)
{
    struct gate gate;
    struct comer comer;
    test_gate_open(&gate);
    gate.front.manner.redirect.port = gate.data.number;
    test_comer_start(&gate, &comer);
    UNTIL(&gate, comer.ready || comer.closed);
    CU_ASSERT_EQUAL(comer.ready, 1);
    UNTIL(&gate, gate.env.loop.conn_count <= 2); /* both ends of the data connection */
    test_comer_leave(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_OK);
    test_gate_close(&gate);
}

static void not_followed(struct gate *gate, const char *text)
{
    struct comer comer;
    test_forget_tickets(gate);
    gate->data.came = 0;
    test_visit(gate, &comer);
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
    test_gate_open(&gate);
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
    test_visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    (void)snprintf(told, sizeof told, "redirected to port %u, which redirected again", (unsigned)gate.data.number);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, told));
    CU_ASSERT_EQUAL(gate.front.came, came + 1);
    /* tickets of a data side */
    test_forget_tickets(&gate);
    gate.data.manner = (struct manner){.extra = 1};
    test_visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, "a ticket that was not asked for"));
    /* nor a key */
    test_forget_tickets(&gate);
    gate.data.manner = (struct manner){.updates = true};
    test_visit(&gate, &comer);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, "type 5 that is not due"));
    gate.data.manner = (struct manner){.updates = false};
    /* behind STATUS */
    test_forget_tickets(&gate);
    gate.data.came = 0;
    gate.front.manner.early = true;
    test_comer_start(&gate, &comer);
    UNTIL(&gate, comer.closed);
    CU_ASSERT_EQUAL(comer.err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(comer.text, "type 7 that is not due"));
    CU_ASSERT_EQUAL(gate.data.came, 0);
    test_gate_close(&gate);
}

static void test_unix_is_not_redirected(void)
{
    struct gate gate;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    test_gate_open(&gate);
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
    test_gate_close(&gate);
}

/* The data side fails: both ports are told, no key is doubted, and nobody makes a full handshake there. */
static void data_side_fails(struct gate *gate, enum chv_err err, unsigned refusal, const char *text)
{
    struct comer comer;
    char told[160];
    test_forget_tickets(gate);
    gate->front.manner.redirect = (struct chv_grant){.port = gate->data.number};
    const unsigned came = gate->front.came;
    test_visit(gate, &comer);
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
    test_gate_open(&gate);
    gate.data.manner = (struct manner){.ticket_code = CHV_REFUSE_TICKET};
    data_side_fails(&gate, CHV_ERR_REFUSED, CHV_REFUSE_UNAVAILABLE, "did not let the client in: ");
    CU_ASSERT_EQUAL(gate.data.came, 1);
    gate.data.manner = (struct manner){.wrong_ticket = true};
    data_side_fails(&gate, CHV_ERR_AUTH, 0, "cannot prove that it belongs");
    CU_ASSERT_EQUAL(gate.data.came, 2);
    (void)close(gate.data.fd);
    gate.data.fd = -1;
    data_side_fails(&gate, CHV_ERR_UNAVAILABLE, 0, "did not answer: cannot connect");
    test_gate_close(&gate);
}

TEST_MAIN("message tickets", {"comes back", test_comes_back}, {"bound", test_bound}, {"not taken", test_not_taken},
          {"one full handshake", test_one_full_handshake}, {"no full handshake", test_no_full_handshake},
          {"aborted", test_aborted}, {"refused tickets", test_refused_tickets}, {"redirect", test_redirect},
          {"redirect leaves", test_redirect_leaves}, {"not followed", test_not_followed},
          {"unix is not redirected", test_unix_is_not_redirected}, {"data side fails", test_data_side_fails})
