/* SPDX-License-Identifier: Apache-2.0 */
/* The message service, both sides. */
#include "tests/services/message_support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"

static const char head[] = "message received: '";
static const size_t EXTRA = sizeof head - 1 + 1, MIB = (size_t)1024 * 1024;

static bool replied(const struct test_peer *peer, const void *data, size_t len)
{
    return peer->reply_len == EXTRA + len && memcmp(peer->reply, head, sizeof head - 1) == 0 &&
           (len == 0 || memcmp(peer->reply + sizeof head - 1, data, len) == 0) &&
           peer->reply[peer->reply_len - 1] == '\'';
}

static void send_and_wait(struct test_env *env, struct test_peer *peer, const void *data, size_t len)
{
    unsigned replies = peer->replies;
    peer->reply_len = 0;
    CU_ASSERT_EQUAL(chv_message_send(peer->message, data, len), CHV_OK);
    TEST_UNTIL(env, peer->replies > replies || peer->closed);
    CU_ASSERT_TRUE(replied(peer, data, len));
}

static void fill(uint8_t *buf, size_t len)
{
    uint32_t x = 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        buf[i] = (uint8_t)(x >> 24);
    }
}

static void test_ola(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    test_env_open(&env);
    test_connect(&env, &peer);
    send_and_wait(&env, &peer, "ola", 3);
    CU_ASSERT_STRING_EQUAL((char *)peer.reply, "message received: 'ola'");
    CU_ASSERT_STRING_EQUAL(test_printed(&env), "client '1': 'ola'\n");
    send_and_wait(&env, &peer, "", 0);
    CU_ASSERT_STRING_EQUAL(test_printed(&env), "client '1': ''\n");
    CU_ASSERT_EQUAL(peer.sent, 2);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_OK);
    CU_ASSERT_EQUAL(peer.server_err, CHV_OK);
    test_env_close(&env);
}

/* So that a long message cannot lie in the kernel as a whole: both ends must read while they send. */
static void small_buffers(int fd)
{
    int size = 16384;
    CU_ASSERT_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    CU_ASSERT_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

static void test_sizes(void)
{
    static const size_t sizes[] = {1, 65260, 65261, 65279, 65280, 65281, 65518, 65519, 5242880};
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    uint8_t *data = malloc(5 * MIB);
    if (data == NULL)
        abort();
    fill(data, 5 * MIB);
    test_env_open(&env);
    test_connect(&env, &peer);
    small_buffers(peer.conn->fd);
    small_buffers(chv_message_conn(peer.message)->fd);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        send_and_wait(&env, &peer, data, sizes[i]);
    /* one buffer of either side, and the copy of what could not leave at once belongs to the caller's data */
    CU_ASSERT_TRUE(env.most <= 2 * MIB);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_OK);
    test_env_close(&env);
    free(data);
}

static void printed_as(struct test_env *env, struct test_peer *peer, const char *text, size_t len, const char *want)
{
    send_and_wait(env, peer, text, len);
    CU_ASSERT_STRING_EQUAL(test_printed(env), want);
}

static void test_printed_safely(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    char text[3000], want[8192];
    test_env_open(&env);
    test_connect(&env, &peer);
    printed_as(&env, &peer, "a\nclient '2': 'b\x1b[2J", 20, "client '1': 'a\\x0aclient '2': 'b\\x1b[2J'\n");
    printed_as(&env, &peer, "ol\xc3\xa1\0\xff", 6, "client '1': 'ol\xc3\xa1\\x00\\xff'\n");
    memset(text, 'x', sizeof text);
    (void)snprintf(want, sizeof want, "client '1': '%.1024s'\n", text);
    printed_as(&env, &peer, text, 1024, want);
    (void)snprintf(want, sizeof want, "client '1': '%.1024s'... (1025 bytes)\n", text);
    printed_as(&env, &peer, text, 1025, want);
    memset(text, 1, sizeof text); /* each comes out as four characters: a line still fits one write */
    send_and_wait(&env, &peer, text, sizeof text);
    const char *line = test_printed(&env);
    CU_ASSERT_TRUE(strlen(line) <= 4096);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "\\x01'... (3000 bytes)\n"));
    test_finish(&env, &peer);
    test_env_close(&env);
}

/* A message from a file, and one from a pipe that is written bit by bit. */
static void test_from_descriptors(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    struct chv_why why;
    uint8_t *data = malloc(MIB);
    char path[128];
    int pipe_fd[2];
    if (data == NULL)
        abort();
    fill(data, MIB);
    test_env_open(&env);
    (void)snprintf(path, sizeof path, "%s/file", env.store.folder);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(write(file, data, MIB), MIB);
    CU_ASSERT_EQUAL(lseek(file, 0, SEEK_SET), 0);
    (void)unlink(path);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_message_send_fd(peer.message, file, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_message_send_fd(peer.message, file, &why), CHV_ERR_STATE);
    TEST_UNTIL(&env, peer.replies == 1 || peer.closed);
    CU_ASSERT_TRUE(replied(&peer, data, MIB));
    CU_ASSERT_EQUAL(pipe(pipe_fd), 0);
    peer.reply_len = 0;
    CU_ASSERT_EQUAL(chv_message_send_fd(peer.message, pipe_fd[0], &why), CHV_OK);
    CU_ASSERT_EQUAL(fcntl(pipe_fd[0], F_GETFL) & O_NONBLOCK, 0);
    for (int i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(write(pipe_fd[1], data + (size_t)100 * (size_t)i, 100), 100);
        for (int turn = 0; turn < 5; turn++)
            test_turn(&env);
    }
    CU_ASSERT_TRUE(peer.reply_len >= 1000); /* it did not wait for the end */
    CU_ASSERT_EQUAL(peer.sent, 1);
    (void)close(pipe_fd[1]);
    TEST_UNTIL(&env, peer.replies == 2 || peer.closed);
    CU_ASSERT_TRUE(replied(&peer, data, 1000));
    (void)close(pipe_fd[0]);
    (void)close(file);
    CU_ASSERT_EQUAL(chv_message_send_fd(peer.message, file, &why), CHV_ERR_IO);
    CU_ASSERT_EQUAL(chv_message_send(peer.message, "x", 1), CHV_OK);
    test_finish(&env, &peer);
    test_env_close(&env);
    free(data);
}

static void test_unreadable(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    struct chv_why why;
    test_env_open(&env);
    int folder = open("/", O_RDONLY | O_CLOEXEC);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_message_send_fd(peer.message, folder, &why), CHV_OK);
    TEST_UNTIL(&env, peer.closed);
    CU_ASSERT_EQUAL(peer.err, CHV_ERR_CANCELLED);
    CU_ASSERT_STRING_EQUAL(peer.text, "cannot read the message: Is a directory");
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.server_err, CHV_ERR_TRUNCATED);
    CU_ASSERT_STRING_EQUAL(test_printed(&env), ""); /* half a message is none */
    (void)close(folder);
    test_env_close(&env);
}

struct source {
    size_t left;
    bool pause, fail;
};

static enum chv_err read_source(void *arg, uint8_t *buf, size_t *len)
{
    struct source *s = arg;
    if (s->fail)
        return CHV_ERR_NOT_FOUND;
    if (s->pause)
        return CHV_ERR_BUSY;
    *len = s->left < 1000 ? s->left : 1000;
    memset(buf, 'z', *len);
    s->left -= *len;
    return CHV_OK;
}

static void test_source(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    struct source source = {.left = 2 * MIB, .pause = true};
    test_env_open(&env);
    test_connect(&env, &peer);
    chv_message_resume(peer.message); /* nothing to resume */
    CU_ASSERT_EQUAL(chv_message_send_from(peer.message, read_source, &source), CHV_OK);
    CU_ASSERT_EQUAL(chv_message_send(peer.message, "x", 1), CHV_ERR_STATE);
    for (int i = 0; i < 10; i++)
        test_turn(&env);
    CU_ASSERT_EQUAL(peer.sent, 0);
    source.pause = false;
    chv_message_resume(peer.message);
    TEST_UNTIL(&env, peer.replies == 1 || peer.closed);
    CU_ASSERT_EQUAL(peer.reply_len, EXTRA + 2 * MIB);
    source = (struct source){.fail = true};
    CU_ASSERT_EQUAL(chv_message_send_from(peer.message, read_source, &source), CHV_OK);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(peer.server_err, CHV_ERR_TRUNCATED);
    test_env_close(&env);
}

static void send_next(struct test_peer *peer)
{
    if (peer->sent < 50)
        CU_ASSERT_EQUAL(chv_message_send(peer->message, "again", 5), CHV_OK);
}

static void test_many_messages(void)
{
    enum { PEERS = 8 };
    struct test_env env;
    struct test_peer peers[PEERS];
    memset(peers, 0, sizeof peers);
    test_env_open(&env);
    for (int i = 0; i < PEERS; i++) {
        peers[i].on_ready = send_next;
        peers[i].on_sent = send_next;
        test_connect(&env, &peers[i]);
    }
    for (int i = 0; i < PEERS; i++) {
        TEST_UNTIL(&env, peers[i].replies == 50 || peers[i].closed);
        CU_ASSERT_EQUAL(peers[i].reply_len, 50 * (EXTRA + 5));
        test_finish(&env, &peers[i]);
        CU_ASSERT_EQUAL(peers[i].err, CHV_OK);
    }
    test_env_close(&env);
}

static void test_ping(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    test_env_open(&env);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_message_ping(peer.message), CHV_OK);
    CU_ASSERT_EQUAL(chv_message_ping(peer.message), CHV_ERR_STATE);
    TEST_UNTIL(&env, peer.pongs == 1 || peer.closed);
    CU_ASSERT_EQUAL(chv_message_ping(peer.message), CHV_OK);
    TEST_UNTIL(&env, peer.pongs == 2 || peer.closed);
    chv_message_close(peer.message);
    CU_ASSERT_EQUAL(chv_message_ping(peer.message), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_message_send(peer.message, "x", 1), CHV_ERR_STATE);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_OK);
    test_env_close(&env);
}

static void test_refused(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 403};
    test_env_open(&env);
    test_connect(&env, &peer);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.ready, 0);
    CU_ASSERT_EQUAL(peer.err, CHV_ERR_REFUSED);
    CU_ASSERT_STRING_EQUAL(peer.text, "the server refused: 403: key of client '1' is revoked");
    test_env_close(&env);
}

static enum chv_err refuse_data(struct chv_conn *conn, uint8_t type)
{
    if (type != CHV_RECORD_DATA)
        return CHV_OK;
    CU_ASSERT_EQUAL(chv_service_status(conn, 413, "too long"), CHV_OK);
    return CHV_ERR_REFUSED;
}

/* Although the client's writes fail once the server has closed, the reason is what its user reads. */
static void test_refused_in_the_middle(void)
{
    struct test_env env;
    struct test_peer peer = {.hook = refuse_data};
    struct source source = {.left = 100 * MIB};
    test_env_open(&env);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_message_send_from(peer.message, read_source, &source), CHV_OK);
    TEST_UNTIL(&env, peer.closed);
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_ERR_REFUSED);
    CU_ASSERT_STRING_EQUAL(peer.text, "the server refused: 413: too long");
    CU_ASSERT_EQUAL(peer.server_err, CHV_ERR_REFUSED);
    test_env_close(&env);
}

static enum chv_err close_first(struct chv_conn *conn, uint8_t type)
{
    if (type == CHV_RECORD_OPEN)
        chv_conn_shutdown(conn);
    return CHV_OK;
}

static enum chv_err close_in_a_reply(struct chv_conn *conn, uint8_t type)
{
    if (type == CHV_RECORD_DATA)
        chv_conn_shutdown(conn);
    return CHV_OK;
}

static enum chv_err end_unasked(struct chv_conn *conn, uint8_t type)
{
    return type == CHV_RECORD_OPEN ? chv_conn_send(conn, CHV_RECORD_END, NULL, 0) : CHV_OK;
}

static enum chv_err pong_unasked(struct chv_conn *conn, uint8_t type)
{
    return type == CHV_RECORD_OPEN ? chv_conn_send(conn, CHV_RECORD_PONG, "12345678", 8) : CHV_OK;
}

static enum chv_err status_broken(struct chv_conn *conn, uint8_t type)
{
    return type == CHV_RECORD_OPEN ? chv_conn_send(conn, CHV_RECORD_STATUS, "\xa0", 1) : CHV_OK;
}

static void misbehaves(enum chv_err (*hook)(struct chv_conn *conn, uint8_t type), enum chv_err err, const char *text)
{
    struct test_env env;
    struct test_peer peer = {.hook = hook};
    test_env_open(&env);
    test_connect(&env, &peer);
    if (peer.message != NULL && hook == close_in_a_reply)
        CU_ASSERT_EQUAL(chv_message_send(peer.message, "x", 1), CHV_OK);
    TEST_UNTIL(&env, peer.closed);
    CU_ASSERT_EQUAL(peer.err, err);
    CU_ASSERT_PTR_NOT_NULL(strstr(peer.text, text));
    test_finish(&env, &peer);
    test_env_close(&env);
}

static void test_server_misbehaves(void)
{
    misbehaves(close_first, CHV_ERR_UNAVAILABLE, "the server closed the connection");
    misbehaves(close_in_a_reply, CHV_ERR_TRUNCATED, "closed before its reply was complete");
    misbehaves(end_unasked, CHV_ERR_PROTOCOL, "type 1 that is not due");
    misbehaves(pong_unasked, CHV_ERR_PROTOCOL, "a ping that was not sent");
    misbehaves(status_broken, CHV_ERR_MALFORMED, "malformed STATUS");
}

static void client_misbehaves(uint8_t type, size_t len)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    test_env_open(&env);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_conn_send(chv_message_conn(peer.message), type, "body", len), CHV_OK);
    TEST_UNTIL(&env, peer.server_closed);
    CU_ASSERT_EQUAL(peer.server_err, CHV_ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(peer.server_why, "message service"));
    test_finish(&env, &peer);
    CU_ASSERT_EQUAL(peer.err, CHV_ERR_TRUNCATED);
    test_env_close(&env);
}

static void test_client_misbehaves(void)
{
    client_misbehaves(16, 0);
    client_misbehaves(255, 4);
    client_misbehaves(CHV_RECORD_END, 1);
}

static void abort_it(struct test_peer *peer)
{
    chv_message_abort(peer->message);
}

static void close_it(struct test_peer *peer)
{
    chv_message_close(peer->message);
}

static void test_end_inside_callbacks(void)
{
    static void (*const ways[])(struct test_peer * peer) = {abort_it, close_it};
    for (int i = 0; i < 2; i++) {
        struct test_env env;
        struct test_peer ready = {.on_ready = ways[i]}, sent = {.on_sent = ways[i]};
        struct source source = {.pause = true};
        struct test_peer half = {.refuse = 0};
        test_env_open(&env);
        test_connect(&env, &ready);
        test_finish(&env, &ready);
        CU_ASSERT_EQUAL(ready.err, i == 0 ? CHV_ERR_CANCELLED : CHV_OK);
        test_connect(&env, &sent);
        CU_ASSERT_EQUAL(chv_message_send(sent.message, "x", 1), CHV_OK);
        test_finish(&env, &sent);
        CU_ASSERT_EQUAL(sent.err, i == 0 ? CHV_ERR_CANCELLED : CHV_OK);
        test_connect(&env, &half);
        CU_ASSERT_EQUAL(chv_message_send_from(half.message, read_source, &source), CHV_OK);
        ways[i](&half);
        test_finish(&env, &half);
        CU_ASSERT_EQUAL(half.err, CHV_ERR_CANCELLED);
        CU_ASSERT_EQUAL(half.server_err, CHV_ERR_TRUNCATED);
        test_env_close(&env);
    }
}

static void test_too_early(void)
{
    struct test_env env;
    struct test_peer peer = {.refuse = 0};
    struct chv_message *m;
    struct chv_why why;
    static const struct chv_message_events none = {.closed = NULL};
    test_env_open(&env);
    test_connect(&env, &peer);
    CU_ASSERT_EQUAL(chv_message_connect(&env.loop, "nowhere", &env.store.key, &none, &peer, &m, &why),
                    CHV_ERR_ARGUMENT);
    test_finish(&env, &peer);
    test_env_close(&env);
}

TEST_MAIN("message service", {"ola", test_ola}, {"sizes", test_sizes}, {"printed safely", test_printed_safely},
          {"from descriptors", test_from_descriptors}, {"unreadable", test_unreadable}, {"source", test_source},
          {"many messages", test_many_messages}, {"ping", test_ping}, {"refused", test_refused},
          {"refused in the middle", test_refused_in_the_middle}, {"server misbehaves", test_server_misbehaves},
          {"client misbehaves", test_client_misbehaves}, {"end inside callbacks", test_end_inside_callbacks},
          {"too early", test_too_early})
