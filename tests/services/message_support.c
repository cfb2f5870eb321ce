/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/services/message_support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/hkdf.h"
#include "net/control.h"

enum { GUARD_MS = 120000 };

const struct chv_keystore_options test_create = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = 1 << 14};

enum chv_err test_passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                             struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)cap;
    (void)why;
    static const char passphrase[] = {'h', 'o', 'r', 's', 'e'};
    memcpy(out, passphrase, sizeof passphrase);
    *len = sizeof passphrase;
    return CHV_OK;
}

void test_store_open(struct test_store *s)
{
    static const uint8_t secret[CHV_SECRET_LEN] = {1, 2, 3};
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = sizeof bytes;
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = 1, .id = "1"};
    struct chv_why why = {""};
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(s->folder, sizeof s->folder, "%s/chv-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    (void)snprintf(s->path, sizeof s->path, "%s/key", s->folder);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(s->path, &test_create, &s->keystore, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(s->keystore, test_passphrase, NULL, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_import(s->keystore, "access:1.1", secret, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, bytes, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(s->keystore, "credential:1.1", bytes, len, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(s->keystore, "server", (const uint8_t *)"hive", 4, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(s->keystore, "address", (const uint8_t *)"127.0.0.1:7240", 14, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_client_key_load(&s->key, s->keystore, &why), CHV_OK);
}

void test_store_close(struct test_store *s)
{
    chv_keystore_close(s->keystore);
    (void)unlink(s->path);
    char lock[128];
    (void)snprintf(lock, sizeof lock, "%s.lock", s->path);
    (void)unlink(lock);
    CU_ASSERT_EQUAL(rmdir(s->folder), 0);
}

static void on_guard(uv_timer_t *timer)
{
    struct test_env *env = timer->data;
    env->stuck = true;
}

static void divert_output(struct test_env *env)
{
    char path[128];
    (void)fflush(stdout);
    (void)snprintf(path, sizeof path, "%s/out", env->store.folder);
    env->out = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(env->out >= 0);
    (void)unlink(path);
    env->saved = dup(STDOUT_FILENO);
    CU_ASSERT_FATAL(dup2(env->out, STDOUT_FILENO) >= 0);
}

void test_env_open(struct test_env *env)
{
    static const struct chv_loop_limits limits = {.handshake_seconds = 30, .idle_seconds = 0, .stall_seconds = 30};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    struct chv_why why;
    memset(env, 0, sizeof *env);
    test_store_open(&env->store);
    env->pool.limit = (size_t)64 * 1024 * 1024;
    CU_ASSERT_EQUAL_FATAL(chv_loop_init(&env->loop, "openssl", &env->pool, &limits, &why), CHV_OK);
    env->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CU_ASSERT_EQUAL_FATAL(bind(env->listener, (struct sockaddr *)&in, len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(env->listener, 100), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(env->listener, (struct sockaddr *)&in, &len), 0);
    (void)snprintf(env->address, sizeof env->address, "127.0.0.1:%u", ntohs(in.sin_port));
    CU_ASSERT_EQUAL(uv_timer_init(&env->loop.uv, &env->guard), 0);
    env->guard.data = env;
    CU_ASSERT_EQUAL(uv_timer_start(&env->guard, on_guard, GUARD_MS, 0), 0);
    divert_output(env);
}

void test_env_close(struct test_env *env)
{
    uv_close((uv_handle_t *)&env->guard, NULL);
    chv_loop_close(&env->loop);
    CU_ASSERT_EQUAL(atomic_load(&env->pool.used), 0);
    (void)close(env->listener);
    (void)dup2(env->saved, STDOUT_FILENO);
    (void)close(env->saved);
    (void)close(env->out);
    test_store_close(&env->store);
}

const char *test_printed(struct test_env *env)
{
    static char text[65536];
    ssize_t n = pread(env->out, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    CU_ASSERT_EQUAL(ftruncate(env->out, 0), 0);
    return text;
}

/* --- server --- */

static void server_key(struct chv_conn *conn, const struct chv_key_request *request)
{
    struct test_peer *peer = chv_conn_owner(conn);
    uint8_t info[CHV_INFO_MAX], psk[CHV_KEY_LEN];
    size_t len;
    CU_ASSERT_EQUAL(request->kind, CHV_KEY_PSK);
    CU_ASSERT_EQUAL(chv_info_session("hive", request->h_psk, request->h_psk_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(peer->env->store.keystore, "access:1.1", info, len, psk, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_conn_key_answer(conn, psk), CHV_OK);
}

static enum chv_err server_open(struct test_peer *peer, struct chv_conn *conn, const uint8_t *body, size_t len)
{
    struct chv_open open;
    struct chv_session_info info;
    CU_ASSERT_EQUAL(chv_open_decode(body, len, &open), CHV_OK);
    CU_ASSERT_STRING_EQUAL(open.service, chv_service_message.name);
    CU_ASSERT_EQUAL(chv_session_get_info(chv_conn_session(conn), &info), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_parse(info.credential, info.credential_len, &peer->client, NULL), CHV_OK);
    CU_ASSERT_TRUE(chv_credential_has_scope(&peer->client, chv_service_message.scope));
    if (peer->refuse != 0) {
        CU_ASSERT_EQUAL(chv_service_status(conn, peer->refuse, "key of client '%s' is revoked", peer->client.id),
                        CHV_OK);
        return CHV_ERR_REFUSED;
    }
    return chv_service_message.open(conn, &peer->client, body, len, &peer->state);
}

static enum chv_err server_record(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    struct test_peer *peer = chv_conn_owner(conn);
    enum chv_err err = CHV_OK;
    if (type == CHV_RECORD_OPEN)
        err = server_open(peer, conn, body, len);
    else if (type == CHV_RECORD_CLOSE)
        chv_conn_shutdown(conn);
    else if (type != CHV_RECORD_PING && type != CHV_RECORD_PONG)
        err = chv_service_message.record(conn, peer->state, type, body, len);
    return err == CHV_OK && peer->hook != NULL ? peer->hook(conn, type) : err;
}

static void server_closed(struct chv_conn *conn, enum chv_err err)
{
    struct test_peer *peer = chv_conn_owner(conn);
    chv_service_message.closed(conn, peer->state);
    (void)snprintf(peer->server_why, sizeof peer->server_why, "%s", chv_conn_why(conn));
    peer->server_err = err;
    peer->server_closed = true;
    peer->conn = NULL;
}

static const struct chv_conn_events server_events = {
    .key = server_key, .record = server_record, .closed = server_closed};

static void accept_one(struct test_env *env, struct test_peer *peer)
{
    struct chv_session_config config = {
        .role = CHV_SERVER,
        .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
        .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256),
        .now = 1800000000,
    };
    int fd = -1;
    while (fd < 0 && !env->stuck) {
        test_turn(env);
        fd = accept(env->listener, NULL, NULL);
    }
    CU_ASSERT_EQUAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    CU_ASSERT_EQUAL_FATAL(chv_conn_start(&env->loop, fd, "client", &config, &server_events, peer, &peer->conn, NULL),
                          CHV_OK);
}

/* --- client --- */

static void on_ready(struct chv_message *m)
{
    struct test_peer *peer = chv_message_owner(m);
    peer->ready++;
    CU_ASSERT_STRING_EQUAL(chv_message_greeting(m), "ready");
    CU_ASSERT_EQUAL(chv_message_status(m), 200);
    if (peer->on_ready != NULL)
        peer->on_ready(peer);
}

static void on_sent(struct chv_message *m)
{
    struct test_peer *peer = chv_message_owner(m);
    peer->sent++;
    if (peer->on_sent != NULL)
        peer->on_sent(peer);
}

static void on_reply(struct chv_message *m, const uint8_t *data, size_t len)
{
    struct test_peer *peer = chv_message_owner(m);
    peer->reply = realloc(peer->reply, peer->reply_len + len + 1);
    if (peer->reply == NULL)
        abort();
    memcpy(peer->reply + peer->reply_len, data, len);
    peer->reply_len += len;
    peer->reply[peer->reply_len] = '\0';
}

static void on_reply_end(struct chv_message *m)
{
    ((struct test_peer *)chv_message_owner(m))->replies++;
}

static void on_pong(struct chv_message *m, uint64_t microseconds)
{
    struct test_peer *peer = chv_message_owner(m);
    peer->pongs++;
    CU_ASSERT_TRUE(microseconds < 120000000);
}

static void on_closed(struct chv_message *m, enum chv_err err, const char *text)
{
    struct test_peer *peer = chv_message_owner(m);
    (void)snprintf(peer->text, sizeof peer->text, "%s", text);
    peer->err = err;
    peer->closed++;
    peer->message = NULL;
    CU_ASSERT_EQUAL((err == CHV_OK), (text[0] == '\0'));
}

static const struct chv_message_events message_events = {
    .ready = on_ready,
    .sent = on_sent,
    .reply = on_reply,
    .reply_end = on_reply_end,
    .pong = on_pong,
    .closed = on_closed,
};

void test_turn(struct test_env *env)
{
    (void)uv_run(&env->loop.uv, UV_RUN_NOWAIT);
    size_t used = atomic_load(&env->pool.used);
    if (used > env->most)
        env->most = used;
}

void test_connect(struct test_env *env, struct test_peer *peer)
{
    peer->env = env;
    CU_ASSERT_EQUAL_FATAL(
        chv_message_connect(&env->loop, env->address, &env->store.key, &message_events, peer, &peer->message, NULL),
        CHV_OK);
    accept_one(env, peer);
    TEST_UNTIL(env, peer->ready || peer->closed);
}

void test_finish(struct test_env *env, struct test_peer *peer)
{
    if (peer->message != NULL)
        chv_message_close(peer->message);
    TEST_UNTIL(env, peer->closed && peer->server_closed);
    free(peer->reply);
    peer->reply = NULL;
}
