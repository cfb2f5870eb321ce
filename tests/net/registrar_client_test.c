/* SPDX-License-Identifier: Apache-2.0 */
/* The net side of the registrar, with a test in the registrar's place: answers in time, late, never, and a lost socket. */
#include "config.h"

#include "net/ipc.h"
#include "net/registrar_client.h"
#include "tests/net/conn_support.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 500, CAPACITY = 8 };

/* Who asked. */
struct asker {
    struct chv_registrar_ask *ask;
    unsigned answered, unanswered, status, verdict;
};

static struct test_loop t;
static struct chv_registrar_client client;
static int end; /* the registrar's */
static unsigned all, losses, silences;
static char changed[CHV_CLIENT_ID_MAX + 1];

static void on_changed(struct chv_registrar_client *c, const char *id)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    if (id == NULL)
        all++;
    else
        snprintf(changed, sizeof changed, "%s", id);
}

static void on_lost(struct chv_registrar_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    losses++;
}

static void on_silent(struct chv_registrar_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    silences++;
}

static const struct chv_registrar_events events = {.changed = on_changed, .lost = on_lost, .silent = on_silent};

static void on_answer(void *owner, const struct chv_registrar_answer *answer)
{
    struct asker *a = owner;
    a->ask = NULL;
    if (answer == NULL) {
        a->unanswered++;
        return;
    }
    a->answered++;
    a->status = answer->status;
    a->verdict = answer->verdict;
}

static struct chv_registrar_request packet[CHV_REGISTRAR_BATCH];
static size_t packet_count, packet_at; /* questions of the last packet, and how many of them were looked at */

static void introduce(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    if (end >= 0)
        (void)close(end);
    end = ends[1];
    chv_registrar_client_connect(&client, ends[0]);
}

static void start(void)
{
    end = -1;
    packet_count = packet_at = 0;
    all = losses = silences = 0;
    changed[0] = '\0';
    test_loop_open(&t, NULL, 0);
    chv_registrar_client_init(&client, &t.loop.uv, CAPACITY, &events);
    client.wait_ms = WAIT_MS;
    introduce();
    CU_ASSERT_EQUAL(all, 1); /* a registrar that comes may know of changes */
}

static void finish(void)
{
    chv_registrar_client_close(&client);
    test_loop_close(&t);
    if (end >= 0)
        (void)close(end);
}

static enum chv_err ask(struct asker *a)
{
    const struct chv_registrar_request q = {
        .kind = CHV_REGISTRAR_OPEN, .profile = 1, .epoch = 1, .serial = 1, .id = "x"};
    return chv_registrar_client_ask(&client, &q, on_answer, a, &a->ask);
}

static enum chv_err ask_of_stranger(struct asker *a)
{
    const struct chv_registrar_request q = {.kind = CHV_REGISTRAR_PEER, .profile = 2};
    return chv_registrar_client_ask(&client, &q, on_answer, a, &a->ask);
}

static bool is_asked(void *arg)
{
    (void)arg;
    struct pollfd p = {.fd = end, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static struct chv_registrar_request receive(void)
{
    if (packet_at == packet_count) {
        CU_ASSERT_TRUE_FATAL(test_run(&t, is_asked, NULL));
        const ssize_t n = recv(end, packet, sizeof packet, MSG_DONTWAIT | MSG_TRUNC);
        CU_ASSERT_TRUE_FATAL(n > 0 && (size_t)n <= sizeof packet && (size_t)n % sizeof packet[0] == 0);
        packet_count = (size_t)n / sizeof packet[0];
        packet_at = 0;
    }
    CU_ASSERT_NOT_EQUAL(packet[packet_at].tag, 0);
    return packet[packet_at++];
}

/* Puts an answer with that many scopes there; its size. */
static size_t put_answer(uint8_t *at, uint64_t tag, uint8_t scopes)
{
    const struct chv_registrar_answer a = {
        .tag = tag, .status = CHV_REGISTRAR_OK, .verdict = CHV_VERDICT_REVOKED, .scope_count = scopes};
    memcpy(at, &a, chv_registrar_answer_size(&a));
    return chv_registrar_answer_size(&a);
}

static void reply(uint64_t tag, enum chv_registrar_status status, const char *id)
{
    struct chv_registrar_answer a = {.tag = tag, .status = (uint16_t)status, .verdict = CHV_VERDICT_REVOKED};
    snprintf(a.id, sizeof a.id, "%s", id);
    size_t len = chv_registrar_answer_size(&a);
    CU_ASSERT_EQUAL(send(end, &a, len, MSG_NOSIGNAL), (ssize_t)len);
}

static bool is_done(void *arg)
{
    const struct asker *a = arg;
    return a->answered + a->unanswered > 0;
}

static bool is_lost(void *arg)
{
    (void)arg;
    return losses > 0;
}

static bool has_changed(void *arg)
{
    (void)arg;
    return changed[0] != '\0';
}

static void test_answered(void)
{
    struct asker one = {.ask = NULL}, two = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&one), CHV_OK);
    CU_ASSERT_EQUAL(ask(&two), CHV_OK);
    struct chv_registrar_request q1 = receive(), q2 = receive();
    CU_ASSERT_STRING_EQUAL(q1.id, "x");
    reply(q2.tag, CHV_REGISTRAR_UNAVAILABLE, ""); /* in any order */
    reply(q1.tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &one));
    CU_ASSERT_EQUAL(one.status, CHV_REGISTRAR_OK);
    CU_ASSERT_EQUAL(one.verdict, CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(two.status, CHV_REGISTRAR_UNAVAILABLE);
    CU_ASSERT_EQUAL(client.proven.outstanding, 0);
    finish();
}

static void test_changes(void)
{
    start();
    reply(0, CHV_REGISTRAR_CHANGED, "cam1");
    CU_ASSERT_TRUE(test_run(&t, has_changed, NULL));
    CU_ASSERT_STRING_EQUAL(changed, "cam1");
    CU_ASSERT_EQUAL(all, 1);
    reply(0, CHV_REGISTRAR_CHANGED, "");
    reply(0, CHV_REGISTRAR_CHANGED, "cam2");
    changed[0] = '\0';
    CU_ASSERT_TRUE(test_run(&t, has_changed, NULL));
    CU_ASSERT_EQUAL(all, 2);
    finish();
}

/* Without an answer in time there is none; one that comes late is nobody's. */
static void test_deadline(void)
{
    struct asker late = {.ask = NULL}, next = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&late), CHV_OK);
    struct chv_registrar_request q = receive();
    CU_ASSERT_TRUE(test_run(&t, is_done, &late));
    CU_ASSERT_EQUAL(late.unanswered, 1);
    CU_ASSERT_EQUAL(client.proven.outstanding, 1); /* the registrar has it yet */
    CU_ASSERT_EQUAL(ask(&next), CHV_OK);
    struct chv_registrar_request q2 = receive();
    CU_ASSERT_NOT_EQUAL(q.tag, q2.tag);
    reply(q.tag, CHV_REGISTRAR_OK, "");
    reply(q2.tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &next));
    CU_ASSERT_EQUAL(next.answered, 1);
    CU_ASSERT_EQUAL(late.answered, 0);
    CU_ASSERT_EQUAL(client.proven.outstanding, 0);
    finish();
}

/* No more are out than their answers fit, no more wait than is allowed, and those that wait have a limit too. */
static void test_bounds(void)
{
    static struct asker many[CHV_REGISTRAR_OUTSTANDING + CAPACITY];
    struct asker over = {.ask = NULL};
    memset(many, 0, sizeof many);
    start();
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING + CAPACITY; i++)
        CU_ASSERT_EQUAL(ask(&many[i]), CHV_OK);
    CU_ASSERT_EQUAL(client.proven.outstanding, CHV_REGISTRAR_OUTSTANDING);
    CU_ASSERT_EQUAL(client.proven.waiting, CAPACITY);
    CU_ASSERT_EQUAL(ask(&over), CHV_ERR_BUSY);
    struct chv_registrar_request q = receive();
    reply(q.tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &many[0]));
    CU_ASSERT_EQUAL(client.proven.outstanding, CHV_REGISTRAR_OUTSTANDING); /* the next one has taken its place */
    CU_ASSERT_EQUAL(client.proven.waiting, CAPACITY - 1);
    CU_ASSERT_TRUE(test_run(&t, is_done, &many[CHV_REGISTRAR_OUTSTANDING + CAPACITY - 1]));
    CU_ASSERT_EQUAL(client.proven.waiting, 0);
    finish();
}

/* However many strangers come, a few of their questions are out, and who has proven a key is asked about before the rest. */
static void test_strangers(void)
{
    static struct asker strangers[CHV_REGISTRAR_STRANGERS + CHV_REGISTRAR_STRANGERS_WAITING],
        proven[CHV_REGISTRAR_OUTSTANDING - CHV_REGISTRAR_STRANGERS];
    const size_t all_strangers = sizeof strangers / sizeof strangers[0], room = sizeof proven / sizeof proven[0];
    struct asker over = {.ask = NULL}, last = {.ask = NULL};
    struct chv_registrar_request first = {.tag = 0};
    memset(strangers, 0, sizeof strangers);
    memset(proven, 0, sizeof proven);
    start();
    client.wait_ms = 60000;
    for (size_t i = 0; i < all_strangers; i++)
        CU_ASSERT_EQUAL(ask_of_stranger(&strangers[i]), CHV_OK);
    CU_ASSERT_EQUAL(ask_of_stranger(&over), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(client.strangers.outstanding, CHV_REGISTRAR_STRANGERS);
    for (size_t i = 0; i < room; i++)
        CU_ASSERT_EQUAL(ask(&proven[i]), CHV_OK);
    test_turns(&t, 1);
    CU_ASSERT_EQUAL(client.proven.outstanding, room);
    CU_ASSERT_EQUAL(client.proven.waiting, 0); /* all are at the registrar at once, behind a few of the others */
    for (size_t i = 0; i < CHV_REGISTRAR_OUTSTANDING; i++) {
        struct chv_registrar_request q = receive();
        CU_ASSERT_EQUAL(q.kind, i < CHV_REGISTRAR_STRANGERS ? CHV_REGISTRAR_PEER : CHV_REGISTRAR_OPEN);
        if (i == 0)
            first = q;
    }
    CU_ASSERT_EQUAL(ask(&last), CHV_OK);
    reply(first.tag, CHV_REGISTRAR_OK, ""); /* its room is not the next stranger's */
    CU_ASSERT_TRUE(test_run(&t, is_done, &strangers[0]));
    CU_ASSERT_EQUAL(receive().kind, CHV_REGISTRAR_OPEN);
    CU_ASSERT_EQUAL(client.strangers.outstanding, CHV_REGISTRAR_STRANGERS - 1);
    chv_registrar_client_cancel(&client, strangers[all_strangers - 1].ask);
    CU_ASSERT_EQUAL(client.strangers.waiting, CHV_REGISTRAR_STRANGERS_WAITING - 1);
    chv_registrar_client_connect(&client, -1);
    CU_ASSERT_EQUAL(last.unanswered, 1);
    CU_ASSERT_EQUAL(strangers[all_strangers - 2].unanswered, 1);
    CU_ASSERT_EQUAL(strangers[all_strangers - 1].unanswered, 0);
    finish();
}

static bool is_silent(void *arg)
{
    (void)arg;
    return silences > 1;
}

/* A registrar that has a question and says nothing is told about, again and again; one that answers is not. */
static void test_silent(void)
{
    struct asker one = {.ask = NULL}, two = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&one), CHV_OK);
    reply(receive().tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &one));
    CU_ASSERT_EQUAL(ask(&two), CHV_OK);
    CU_ASSERT_TRUE(test_run(&t, is_done, &two)); /* too late for who asked; the question is out yet */
    CU_ASSERT_EQUAL(silences, 0);
    CU_ASSERT_TRUE(test_run(&t, is_silent, NULL));
    finish();
}

static void test_cancelled(void)
{
    struct asker sent = {.ask = NULL}, kept = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&sent), CHV_OK);
    struct chv_registrar_request q = receive();
    chv_registrar_client_cancel(&client, sent.ask);
    chv_registrar_client_cancel(&client, NULL);
    CU_ASSERT_EQUAL(ask(&kept), CHV_OK);
    struct chv_registrar_request q2 = receive();
    reply(q.tag, CHV_REGISTRAR_OK, "");
    reply(q2.tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &kept));
    CU_ASSERT_EQUAL(sent.answered + sent.unanswered, 0);
    finish();
}

/* What was out at a registrar that is gone gets no answer; without one nothing is asked; a new one is asked anew. */
static void test_lost(void)
{
    struct asker one = {.ask = NULL}, two = {.ask = NULL}, three = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&one), CHV_OK);
    (void)close(end);
    end = -1;
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_EQUAL(one.unanswered, 1);
    CU_ASSERT_EQUAL(ask(&two), CHV_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(two.unanswered, 0);
    introduce();
    CU_ASSERT_EQUAL(all, 2);
    CU_ASSERT_EQUAL(ask(&three), CHV_OK);
    reply(receive().tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &three));
    CU_ASSERT_EQUAL(three.answered, 1);
    CU_ASSERT_EQUAL(losses, 1);
    finish();
}

/* What is asked in one turn is one packet, and so may the answers be. */
static void test_packets(void)
{
    static uint8_t answers[4 * sizeof(struct chv_registrar_answer)];
    struct asker one = {.ask = NULL}, two = {.ask = NULL}, three = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&one), CHV_OK);
    CU_ASSERT_EQUAL(ask(&two), CHV_OK);
    CU_ASSERT_EQUAL(ask(&three), CHV_OK);
    const uint64_t first = receive().tag;
    CU_ASSERT_EQUAL(packet_count, 3);
    size_t len = put_answer(answers, receive().tag, 2); /* of the second */
    len += put_answer(answers + len, first, 0);
    CU_ASSERT_EQUAL(send(end, answers, len, MSG_NOSIGNAL), (ssize_t)len);
    CU_ASSERT_TRUE(test_run(&t, is_done, &one));
    CU_ASSERT_EQUAL(one.answered, 1);
    CU_ASSERT_EQUAL(two.answered, 1);
    CU_ASSERT_EQUAL(client.proven.outstanding, 1);
    len = put_answer(answers, receive().tag, 0);
    len += put_answer(answers + len, 0, 0) - 1; /* cut off */
    CU_ASSERT_EQUAL(send(end, answers, len, MSG_NOSIGNAL), (ssize_t)len);
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_EQUAL(three.answered, 1);
    finish();
}

/* A packet that the socket does not take stays, less what is cancelled meanwhile, and goes out when there is room. */
static void test_socket_full(void)
{
    struct asker asked[4] = {{.ask = NULL}}, later = {.ask = NULL};
    const int least = 1;
    const uint8_t filler[512] = {0};
    uint8_t taken[sizeof filler];
    size_t filled = 0;
    start();
    CU_ASSERT_EQUAL(setsockopt(client.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0); /* the kernel's least */
    while (send(client.fd, filler, sizeof filler, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        filled++;
    CU_ASSERT_TRUE(filled > 0);
    for (size_t i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(ask(&asked[i]), CHV_OK);
    test_turns(&t, 2);
    CU_ASSERT_EQUAL(client.packet_count, 4);
    chv_registrar_client_cancel(&client, asked[1].ask);
    CU_ASSERT_EQUAL(ask(&later), CHV_OK); /* for the next packet */
    test_turns(&t, 2);
    CU_ASSERT_EQUAL(client.packet_count, 4);
    for (; filled > 0; filled--)
        CU_ASSERT_EQUAL(recv(end, taken, sizeof taken, MSG_DONTWAIT), (ssize_t)sizeof taken);
    for (size_t i = 0; i < 5; i++)
        reply(receive().tag, CHV_REGISTRAR_OK, "");
    CU_ASSERT_TRUE(test_run(&t, is_done, &later));
    for (size_t i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(asked[i].answered, i == 1 ? 0 : 1);
    CU_ASSERT_EQUAL(client.proven.outstanding, 0);
    CU_ASSERT_EQUAL(losses, 0);
    finish();
}

static void test_garbage(void)
{
    struct asker one = {.ask = NULL};
    start();
    CU_ASSERT_EQUAL(ask(&one), CHV_OK);
    CU_ASSERT_EQUAL(send(end, "no answer", 9, MSG_NOSIGNAL), 9);
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_EQUAL(one.unanswered, 1);
    finish();
}

TEST_MAIN("registrar client", {"answered", test_answered}, {"changes", test_changes}, {"deadline", test_deadline},
          {"bounds", test_bounds}, {"strangers", test_strangers}, {"silent", test_silent},
          {"cancelled", test_cancelled}, {"socket lost", test_lost}, {"packets", test_packets},
          {"socket full", test_socket_full}, {"garbage", test_garbage})
