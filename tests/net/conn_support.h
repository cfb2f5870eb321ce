/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of connections in one process and on one loop; the session PSK is h_psk itself. */
#ifndef CHV_TESTS_NET_CONN_SUPPORT_H
#define CHV_TESTS_NET_CONN_SUPPORT_H

#include "net/conn.h"
#include "tests/harness.h"

#include <stdbool.h>

struct side;

/* Called for every record before it is counted; an error ends the connection. */
typedef enum chv_err (*side_record_fn)(struct side *side, uint8_t type, const uint8_t *body, size_t len);
typedef void (*side_fn)(struct side *side);

enum side_key { SIDE_ANSWERS, SIDE_WAITS, SIDE_REFUSES, SIDE_LIES };

/* One end. Set what is wanted before it is started; zero is a peer that answers keys and sends OPEN, STATUS and CLOSE.
 */
struct side {
    enum side_key key;
    bool echo;      /* sends DATA back */
    bool keep_open; /* does not answer CLOSE */
    side_record_fn record;
    side_fn on_key, on_established, on_drained, on_closed;
    void *arg;

    struct chv_conn *conn; /* NULL once closed */
    struct chv_key_request request;
    unsigned keys, established, drained, closed;
    enum chv_err err;
    char why[512];
    unsigned count[256]; /* records by type */
    uint64_t bytes;      /* of DATA */
    uint64_t sum;        /* of DATA, order-dependent */
};

struct test_loop {
    struct chv_loop loop;
    struct chv_pool pool;
    uv_timer_t guard; /* against a test that would hang */
    bool stuck;
};

void test_loop_open(struct test_loop *t, const struct chv_loop_limits *limits, size_t pool_limit);
/* Closes and checks that the pool got everything back. */
void test_loop_close(struct test_loop *t);
/* Turns the loop until `done` says so; false if it never does. */
bool test_run(struct test_loop *t, bool (*done)(void *arg), void *arg);
bool test_run_closed(struct test_loop *t, struct side *side);
bool test_run_ready(struct test_loop *t, struct side *client); /* STATUS has come */
/* So many turns that do not block. */
void test_turns(struct test_loop *t, int n);

/* Connected, non-blocking. */
void test_tcp_pair(int fd[2]);
void test_unix_pair(int fd[2]);
void test_config(struct chv_session_config *config, enum chv_role role);
void test_start(struct test_loop *t, struct side *side, enum chv_role role, int fd);
/* A client and a server over TCP. */
void test_pair(struct test_loop *t, struct side *client, struct side *server);
extern const struct chv_conn_events test_events;

/* Order-dependent checksum of a stream. */
uint64_t test_sum(uint64_t sum, const uint8_t *data, size_t len);
/* Bytes that differ from seed to seed. */
void test_fill(uint8_t *buf, size_t len, uint64_t seed);

#endif
