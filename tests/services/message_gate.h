/* SPDX-License-Identifier: Apache-2.0 */
/* A server with two ports that gives tickets and sends on, as it is told to, and a client of it. */
#ifndef CHV_TESTS_SERVICES_MESSAGE_GATE_H
#define CHV_TESTS_SERVICES_MESSAGE_GATE_H

#include "net/control.h"
#include "tests/services/message_support.h"

enum { GRANTS_MAX = 64 };

/* What the server does at a port. */
struct manner {
    unsigned ticket_code;      /* refuses tickets, with this code in clear */
    bool ends;                 /* at a ticket, without an answer */
    bool wrong_ticket;         /* takes it with another secret */
    bool wrong_key;            /* of the full handshake */
    unsigned refuses;          /* the full handshake, with this code in clear */
    unsigned extra;            /* tickets beyond those asked for */
    bool garbled;              /* its tickets are no maps */
    bool early;                /* STATUS comes before all else */
    bool updates;              /* a KEY_UPDATE, before all else */
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

extern const struct chv_message_events test_comer_events;

void test_gate_open(struct gate *gate);
void test_gate_close(struct gate *gate);
void test_gate_turn(struct gate *gate);
void test_comer_start(struct gate *gate, struct comer *comer);
void test_comer_leave(struct gate *gate, struct comer *comer);
/* Says one message and goes; `well`: and nothing is wrong. */
void test_visit(struct gate *gate, struct comer *comer);
void test_visit_well(struct gate *gate, struct comer *comer);
/* Tickets that the client has. */
unsigned test_stock(struct gate *gate);
void test_forget_tickets(struct gate *gate);

#define UNTIL(gate, condition)                                                                                         \
    do {                                                                                                               \
        while (!(condition) && !(gate)->env.stuck)                                                                     \
            test_gate_turn(gate);                                                                                      \
        CU_ASSERT_TRUE(!!(condition));                                                                                 \
    } while (0)

#endif
