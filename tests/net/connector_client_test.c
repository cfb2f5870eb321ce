/* SPDX-License-Identifier: Apache-2.0 */
/* The net side of the connector, with a test in the connector's place: answers, none, wrong ones, and sockets that nobody
 * waits for any more. */
#include "config.h"

#include "net/connector_client.h"
#include "net/ipc.h"
#include "tests/net/conn_support.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHORT_MS = 300 };

struct asker {
    struct chv_connector_ask ask; /* first */
    unsigned done, status;
    int fd;
    bool anew; /* asks once more when it is done */
    char text[CHV_CONNECTOR_TEXT_MAX + 1];
};

static struct test_loop t;
static struct chv_connector_client client;
static int end; /* the connector's */
static unsigned losses, silences;
static const struct chv_server_tunnel db = {.name = "db", .target = "a:1", .connect_seconds = 1},
                                      web = {.name = "web", .target = "b:2", .connect_seconds = 1};

static void on_lost(struct chv_connector_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    losses++;
}

static void on_silent(struct chv_connector_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    silences++;
}

static const struct chv_connector_events events = {.lost = on_lost, .silent = on_silent};

static void on_done(struct chv_connector_ask *ask, enum chv_connector_status status, int fd, const char *text)
{
    struct asker *a = (struct asker *)ask;
    a->done++;
    a->status = status;
    a->fd = fd;
    snprintf(a->text, sizeof a->text, "%s", text);
    CU_ASSERT_EQUAL(fd >= 0, status == CHV_CONNECTOR_OK);
    if (a->anew) {
        a->anew = false;
        CU_ASSERT_EQUAL(chv_connector_client_ask(&client, &a->ask, &db, on_done), CHV_OK);
    }
}

static void introduce(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    if (end >= 0)
        (void)close(end);
    end = ends[1];
    chv_connector_client_set(&client, ends[0]);
}

static void start(void)
{
    end = -1;
    losses = silences = 0;
    test_loop_open(&t, NULL, 0);
    chv_connector_client_init(&client, &t.loop.uv, &events);
    introduce();
}

static void stop(void)
{
    chv_connector_client_close(&client);
    test_turns(&t, 2);
    test_loop_close(&t);
    if (end >= 0)
        (void)close(end);
}

static void ask(struct asker *a, const struct chv_server_tunnel *tunnel)
{
    CU_ASSERT_EQUAL(chv_connector_client_ask(&client, &a->ask, tunnel, on_done), CHV_OK);
}

/* The next question; tag 0: there is none. */
static struct chv_connector_request take(void)
{
    struct chv_connector_request q = {0}, none = {0};
    test_turns(&t, 1);
    ssize_t n = recv(end, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC);
    return n == (ssize_t)sizeof q ? q : none;
}

static unsigned take_all(void)
{
    unsigned n = 0;
    while (take().tag != 0)
        n++;
    return n;
}

static void send_packet(const void *packet, size_t len, const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    char copy[512] = {0};
    memcpy(copy, packet, len);
    struct iovec iov = {.iov_base = copy, .iov_len = len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count > 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    }
    CU_ASSERT_EQUAL(sendmsg(end, &header, MSG_NOSIGNAL), (ssize_t)len);
}

static struct chv_connector_answer answer_of(uint64_t tag, unsigned status, const char *text)
{
    struct chv_connector_answer a = {.tag = tag, .status = (uint16_t)status};
    snprintf(a.text, sizeof a.text, "%s", text);
    return a;
}

/* Answers with one end of a pair; returns the other. */
static int answer_socket(uint64_t tag)
{
    int pair[2];
    const struct chv_connector_answer a = answer_of(tag, CHV_CONNECTOR_OK, "");
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    send_packet(&a, sizeof a, pair, 1);
    close(pair[0]);
    return pair[1];
}

static bool is_done(void *arg)
{
    return ((struct asker *)arg)->done > 0;
}

static bool is_lost(void *arg)
{
    (void)arg;
    return losses > 0;
}

static bool was_silent(void *arg)
{
    (void)arg;
    return silences > 0;
}

/* Whether nobody has the other end any more. */
static bool hung_up(void *arg)
{
    struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

static void test_answers(void)
{
    struct asker a = {.fd = -1}, b = {.fd = -1};
    char byte = 'x';
    start();
    ask(&a, &db);
    ask(&b, &web);
    CU_ASSERT_EQUAL(chv_connector_client_ask(&client, &a.ask, &db, on_done), CHV_ERR_STATE);
    struct chv_connector_request q = take(), r = take();
    CU_ASSERT_STRING_EQUAL(q.tunnel, "db");
    CU_ASSERT_STRING_EQUAL(r.tunnel, "web");
    CU_ASSERT_NOT_EQUAL(q.tag, r.tag);
    const struct chv_connector_answer no = answer_of(r.tag, CHV_CONNECTOR_FAILED, "b:2: connection refused");
    send_packet(&no, sizeof no, NULL, 0);
    CU_ASSERT_TRUE(test_run(&t, is_done, &b));
    CU_ASSERT_EQUAL(b.status, CHV_CONNECTOR_FAILED);
    CU_ASSERT_STRING_EQUAL(b.text, "b:2: connection refused");
    CU_ASSERT_EQUAL(a.done, 0);
    int other = answer_socket(q.tag);
    CU_ASSERT_TRUE(test_run(&t, is_done, &a));
    CU_ASSERT_EQUAL_FATAL(a.status, CHV_CONNECTOR_OK);
    CU_ASSERT_EQUAL(fcntl(a.fd, F_GETFD), FD_CLOEXEC);
    CU_ASSERT_EQUAL(send(a.fd, &byte, 1, MSG_NOSIGNAL), 1);
    CU_ASSERT_EQUAL(recv(other, &byte, 1, 0), 1);
    close(a.fd);
    close(other);
    CU_ASSERT_EQUAL(losses + silences, 0);
    stop();
}

/* No socket is left open for nobody. */
static void test_late(void)
{
    struct asker cancelled = {.fd = -1}, waiting = {.fd = -1};
    int other;
    start();
    ask(&cancelled, &db);
    uint64_t tag = take().tag;
    chv_connector_client_cancel(&client, &cancelled.ask);
    other = answer_socket(tag);
    CU_ASSERT_TRUE(test_run(&t, hung_up, &other));
    close(other);
    other = answer_socket(tag); /* once more: nobody's by now */
    CU_ASSERT_TRUE(test_run(&t, hung_up, &other));
    close(other);
    CU_ASSERT_EQUAL(cancelled.done, 0);
    chv_connector_client_set(&client, -1);
    ask(&waiting, &db);
    chv_connector_client_cancel(&client, &waiting.ask);
    chv_connector_client_cancel(&client, &waiting.ask); /* nothing is to be cancelled */
    introduce();
    CU_ASSERT_EQUAL(take().tag, 0);
    CU_ASSERT_EQUAL(losses, 0);
    stop();
}

static void test_deadlines(void)
{
    static const struct chv_server_tunnel now = {.name = "now"}; /* no time at all */
    struct asker a = {.fd = -1}, b = {.fd = -1};
    start();
    client.grace_ms = SHORT_MS;
    ask(&a, &now);
    uint64_t tag = take().tag;
    CU_ASSERT_TRUE(test_run(&t, is_done, &a));
    CU_ASSERT_EQUAL(a.status, CHV_CONNECTOR_UNAVAILABLE);
    CU_ASSERT_TRUE(test_run(&t, was_silent, NULL));
    CU_ASSERT_EQUAL(client.outstanding, 1); /* it may come yet */
    int other = answer_socket(tag);
    CU_ASSERT_TRUE(test_run(&t, hung_up, &other));
    close(other);
    CU_ASSERT_EQUAL(client.outstanding, 0);
    /* Without a connector it waits for one, not for ever. */
    client.wait_ms = SHORT_MS;
    chv_connector_client_set(&client, -1);
    ask(&b, &db);
    CU_ASSERT_TRUE(test_run(&t, is_done, &b));
    CU_ASSERT_EQUAL(b.status, CHV_CONNECTOR_UNAVAILABLE);
    stop();
}

static void test_lost(void)
{
    struct asker out = {.fd = -1, .anew = true}, waits = {.fd = -1};
    start();
    ask(&out, &db);
    CU_ASSERT_NOT_EQUAL(take().tag, 0);
    close(end);
    end = -1;
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_EQUAL(out.done, 1);
    CU_ASSERT_EQUAL(out.status, CHV_CONNECTOR_UNAVAILABLE);
    ask(&waits, &web);
    introduce();
    CU_ASSERT_STRING_EQUAL(take().tunnel, "db"); /* it was asked anew */
    struct chv_connector_request q = take();
    CU_ASSERT_STRING_EQUAL(q.tunnel, "web");
    int other = answer_socket(q.tag);
    CU_ASSERT_TRUE(test_run(&t, is_done, &waits));
    CU_ASSERT_EQUAL(waits.status, CHV_CONNECTOR_OK);
    close(waits.fd);
    close(other);
    CU_ASSERT_EQUAL(losses, 1);
    stop();
    CU_ASSERT_EQUAL(out.done, 1);
}

/* A tunnel whose target does not answer leaves room for others. */
static void test_bounds(void)
{
    static struct asker dbs[CHV_CONNECTOR_OF_TUNNEL + 4], webs[CHV_CONNECTOR_OF_TUNNEL + CHV_CONNECTOR_WAITING + 1];
    struct asker x = {.fd = -1};
    const struct chv_server_tunnel third = {.name = "third", .connect_seconds = 1};
    memset(dbs, 0, sizeof dbs);
    memset(webs, 0, sizeof webs);
    start();
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0]; i++)
        ask(&dbs[i], &db);
    struct chv_connector_request first = take();
    CU_ASSERT_EQUAL(take_all(), CHV_CONNECTOR_OF_TUNNEL - 1);
    for (size_t i = 0; i < CHV_CONNECTOR_OF_TUNNEL; i++)
        ask(&webs[i], &web);
    CU_ASSERT_EQUAL(take_all(), CHV_CONNECTOR_OF_TUNNEL);
    ask(&x, &third);
    CU_ASSERT_STRING_EQUAL(take().tunnel, "third");
    /* An answer makes room for the next of the same tunnel. */
    const struct chv_connector_answer no = answer_of(first.tag, CHV_CONNECTOR_FAILED, "no");
    send_packet(&no, sizeof no, NULL, 0);
    CU_ASSERT_TRUE(test_run(&t, is_done, &dbs[0]));
    CU_ASSERT_STRING_EQUAL(take().tunnel, "db");
    size_t i = CHV_CONNECTOR_OF_TUNNEL;
    while (client.waiting < CHV_CONNECTOR_WAITING)
        ask(&webs[i++], &web);
    CU_ASSERT_EQUAL(chv_connector_client_ask(&client, &webs[i].ask, &web, on_done), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(webs[i].done, 0);
    stop();
}

/* Questions of many tunnels are out: no more than the connector takes. */
static void test_all_slots(void)
{
    static struct asker askers[CHV_CONNECTOR_OUTSTANDING + 5];
    struct chv_server_tunnel tunnel = {.name = "t0", .connect_seconds = 1};
    memset(askers, 0, sizeof askers);
    start();
    for (size_t i = 0; i < sizeof askers / sizeof askers[0]; i++) {
        tunnel.name[1] = (char)('0' + i % 8);
        ask(&askers[i], &tunnel);
    }
    CU_ASSERT_EQUAL(take_all(), CHV_CONNECTOR_OUTSTANDING);
    CU_ASSERT_EQUAL(client.waiting, 5);
    stop();
}

static void wrong(const void *packet, size_t len, size_t fd_count)
{
    int pair[2], fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fds[0] = fds[1] = pair[0];
    losses = 0;
    send_packet(packet, len, fds, fd_count);
    close(pair[0]);
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_TRUE(fd_count == 0 || hung_up(&pair[1]));
    close(pair[1]);
    introduce();
}

static void test_wrong_answers(void)
{
    start();
    struct chv_connector_answer a = answer_of(64, CHV_CONNECTOR_FAILED, "no");
    wrong(&a, sizeof a - 1, 0);
    wrong("", 1, 0);
    wrong(&a, sizeof a, 1); /* a socket with a failure */
    char longer[sizeof a + 1];
    memset(longer, 0, sizeof longer);
    memcpy(longer, &a, sizeof a);
    wrong(longer, sizeof longer, 1);
    a.status = CHV_CONNECTOR_OK;
    wrong(&a, sizeof a, 0); /* none with success */
    wrong(&a, sizeof a, 2);
    a.status = 201;
    wrong(&a, sizeof a, 0);
    a.status = CHV_CONNECTOR_FAILED;
    a.zero[4] = 1;
    wrong(&a, sizeof a, 0);
    a.zero[4] = 0;
    memset(a.text, 'x', sizeof a.text);
    wrong(&a, sizeof a, 0);
    a = answer_of(0, CHV_CONNECTOR_FAILED, "no");
    wrong(&a, sizeof a, 0);
    stop();
}

/* Without a descriptor left the question fails, and nothing else. */
static void test_no_descriptor(void)
{
    struct asker a = {.fd = -1};
    struct rlimit before, none;
    start();
    ask(&a, &db);
    int other = answer_socket(take().tag);
    CU_ASSERT_EQUAL(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool done = test_run(&t, is_done, &a);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
    CU_ASSERT_TRUE(done);
    CU_ASSERT_EQUAL(a.status, CHV_CONNECTOR_UNAVAILABLE);
    CU_ASSERT_TRUE(hung_up(&other));
    CU_ASSERT_EQUAL(losses, 0);
    close(other);
    stop();
}

TEST_MAIN("connector_client", {"answers", test_answers}, {"late", test_late}, {"deadlines", test_deadlines},
          {"lost", test_lost}, {"bounds", test_bounds}, {"all slots", test_all_slots},
          {"wrong answers", test_wrong_answers}, {"no descriptor", test_no_descriptor})
