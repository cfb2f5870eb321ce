/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the message service and a small server for it, in one process, keyed from one keystore file. */
#ifndef CHV_TESTS_SERVICES_MESSAGE_SUPPORT_H
#define CHV_TESTS_SERVICES_MESSAGE_SUPPORT_H

#include "net/client_key.h"
#include "services/message.h"
#include "tests/harness.h"

#include <stdbool.h>

/* Keystore of client `1`, server name "hive", in a folder of its own; scope "message". */
struct test_store {
    char folder[64], path[96];
    struct chv_keystore *keystore;
    struct chv_client_key key;
};

void test_store_open(struct test_store *s);
void test_store_close(struct test_store *s);
extern const struct chv_keystore_options test_create;
enum chv_err test_passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                             struct chv_why *why);

struct test_peer {
    /* set before */
    enum chv_err (*hook)(struct chv_conn *conn, uint8_t type); /* server: after each record */
    void (*on_ready)(struct test_peer *peer);
    void (*on_sent)(struct test_peer *peer);
    unsigned refuse; /* STATUS for OPEN instead of the service */
    /* the server's side */
    enum chv_err server_err;
    char server_why[512];
    struct chv_conn *conn;
    void *state;
    struct chv_credential client;
    /* the client's side */
    struct chv_message *message;
    uint8_t *reply; /* all bytes of all replies */
    size_t reply_len;
    unsigned ready, sent, replies, pongs, closed;
    enum chv_err err;
    char text[512];
    struct test_env *env;
    bool server_closed;
};

struct test_env {
    struct test_store store;
    struct chv_loop loop;
    struct chv_pool pool;
    size_t most; /* of the pool, ever */
    int listener;
    char address[64];
    uv_timer_t guard;
    bool stuck;
    int out, saved; /* where standard output goes meanwhile */
};

void test_env_open(struct test_env *env);
void test_env_close(struct test_env *env);
/* Connects the client, accepts it, and waits for `ready` or `closed`. */
void test_connect(struct test_env *env, struct test_peer *peer);
/* One turn, without blocking for long. */
void test_turn(struct test_env *env);
/* Closes in order and waits for both ends. */
void test_finish(struct test_env *env, struct test_peer *peer);
/* What the service printed since the last call; NUL-terminated, static storage. */
const char *test_printed(struct test_env *env);

#define TEST_UNTIL(env, condition)                                                                                     \
    do {                                                                                                               \
        while (!(condition) && !(env)->stuck)                                                                          \
            test_turn(env);                                                                                            \
        CU_ASSERT_TRUE(!!(condition));                                                                                 \
    } while (0)

#endif
