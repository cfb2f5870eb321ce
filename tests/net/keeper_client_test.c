/* SPDX-License-Identifier: Apache-2.0 */
/* The net side of the keeper, with a test in the keeper's place: answers in time, late, never, and of an old keeper. */
#include "config.h"

#include "net/ipc.h"
#include "net/keeper_client.h"
#include "net/keeper_update.h"
#include "tests/net/conn_support.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 600, CLIENTS = 2 };

/* One connection: its client, its server, and the server's question. */
struct pair {
    struct side client, server;
    struct chv_keeper_ask ask;
};

static struct test_loop t;
static struct chv_keeper_client keeper;
static struct pair pairs[CLIENTS];
static int end; /* the keeper's, of the socket in use */
static unsigned verdicts, refusals, silences, losses, code;
static const char *reason;

static void on_verdict(struct chv_conn *conn, enum chv_keeper_verdict verdict)
{
    (void)conn;
    CU_ASSERT_EQUAL(verdict, CHV_KEEPER_ACCEPTED);
    verdicts++;
}

static void on_refused(struct chv_conn *conn, unsigned refused_code, const char *text)
{
    (void)conn;
    refusals++;
    code = refused_code;
    reason = text;
}

static void on_lost(struct chv_keeper_client *client)
{
    CU_ASSERT_PTR_EQUAL(client, &keeper);
    losses++;
}

static void on_silent(struct chv_keeper_client *client)
{
    CU_ASSERT_PTR_EQUAL(client, &keeper);
    silences++;
}

static const struct chv_keeper_events events = {
    .verdict = on_verdict, .refused = on_refused, .lost = on_lost, .silent = on_silent};

static void ask(struct side *side)
{
    struct pair *pair = side->arg;
    chv_keeper_client_ask(&keeper, &pair->ask, side->conn, 1);
}

static void forget(struct side *side)
{
    struct pair *pair = side->arg;
    chv_keeper_client_cancel(&keeper, &pair->ask);
}

/* A new keeper's socket, as the supervisor gives it. */
static void introduce(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    if (end >= 0)
        (void)close(end);
    end = ends[1];
    chv_keeper_client_connect(&keeper, ends[0]);
}

static void start(void)
{
    memset(pairs, 0, sizeof pairs);
    end = -1;
    verdicts = refusals = silences = losses = code = 0;
    reason = "";
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_client_init(&keeper, &t.loop.uv, 8, 4711, &events), CHV_OK);
    keeper.wait_ms = WAIT_MS;
    introduce();
}

static void finish(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        struct side *sides[] = {&pairs[i].client, &pairs[i].server};
        for (size_t j = 0; j < 2; j++)
            if (sides[j]->conn != NULL)
                chv_conn_abort(sides[j]->conn, CHV_ERR_CANCELLED);
    }
    chv_keeper_client_close(&keeper);
    test_loop_close(&t);
    chv_keeper_client_free(&keeper);
    (void)close(end);
}

static struct pair *connect_client(size_t i)
{
    struct pair *pair = &pairs[i];
    memset(pair, 0, sizeof *pair);
    pair->server = (struct side){.on_key = ask, .on_closed = forget, .arg = pair};
    test_pair(&t, &pair->client, &pair->server);
    return pair;
}

static bool is_asked(void *arg)
{
    (void)arg;
    struct pollfd p = {.fd = end, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* What the next packet asks. */
static size_t receive(struct chv_keeper_request *requests)
{
    CU_ASSERT_TRUE_FATAL(test_run(&t, is_asked, NULL));
    ssize_t n = recv(end, requests, CHV_KEEPER_BATCH * sizeof *requests, MSG_DONTWAIT);
    CU_ASSERT_FATAL(n > 0 && (size_t)n % sizeof *requests == 0);
    return (size_t)n / sizeof *requests;
}

/* The sides of these tests take h_psk for the session PSK. */
static void answer(const struct chv_keeper_request *request, bool truly)
{
    struct chv_keeper_answer a = {.tag = request->tag, .status = CHV_KEEPER_OK, .verdict = CHV_KEEPER_ACCEPTED};
    if (truly)
        memcpy(a.psk, request->h_psk, sizeof a.psk);
    CU_ASSERT_EQUAL(send(end, &a, sizeof a, MSG_NOSIGNAL), (ssize_t)sizeof a);
}

static bool is_silent(void *arg)
{
    return silences >= *(unsigned *)arg;
}

static struct chv_keeper_request requests[CHV_KEEPER_BATCH];

static void test_answered(void)
{
    start();
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer(requests, true);
    CU_ASSERT_TRUE(test_run_ready(&t, &pair->client));
    CU_ASSERT_EQUAL(verdicts, 1);
    CU_ASSERT_EQUAL(refusals, 0);
    CU_ASSERT_EQUAL(keeper.outstanding, 0);
    finish();
}

/* A question that the keeper has taken and does not answer ends with 503; an answer later is nobody's. */
static void test_deadline_in_flight(void)
{
    struct chv_keeper_request late;
    start();
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(&late), 1);
    CU_ASSERT_TRUE(test_run_closed(&t, &pair->client));
    CU_ASSERT_EQUAL(refusals, 1);
    CU_ASSERT_EQUAL(code, CHV_REFUSE_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(reason, "does not answer"));
    CU_ASSERT_EQUAL(keeper.outstanding, 1); /* the keeper has it yet */

    struct pair *next = connect_client(1);
    CU_ASSERT_EQUAL(receive(requests), 1);
    CU_ASSERT_NOT_EQUAL(requests[0].tag, late.tag);
    answer(&late, true);
    answer(requests, true);
    CU_ASSERT_TRUE(test_run_ready(&t, &next->client));
    CU_ASSERT_EQUAL(verdicts, 1);
    CU_ASSERT_EQUAL(refusals, 1);
    CU_ASSERT_EQUAL(keeper.outstanding, 0);
    finish();
}

/* Those in the queue have the same limit as those on their way. */
static void test_deadline_in_the_queue(void)
{
    start();
    for (size_t i = 0; i < CHV_KEEPER_OUTSTANDING; i++)
        keeper.slots[i] = (struct chv_keeper_slot){.used = true, .tag = i, .sent = uv_now(&t.loop.uv)};
    keeper.outstanding = CHV_KEEPER_OUTSTANDING;
    struct pair *pair = connect_client(0);
    CU_ASSERT_TRUE(test_run_closed(&t, &pair->client));
    CU_ASSERT_EQUAL(code, CHV_REFUSE_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(reason, "in time"));
    CU_ASSERT_FALSE(is_asked(NULL));
    finish();
}

/* Told again as long as a question is out, also when its connection is gone; and no more when it is answered. */
static void test_silent(void)
{
    unsigned wanted = 2;
    start();
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(requests), 1);
    CU_ASSERT_TRUE(test_run(&t, is_silent, &wanted));
    CU_ASSERT_EQUAL(pair->client.closed, 1);
    CU_ASSERT_EQUAL(losses, 0);
    answer(requests, true);
    pair = connect_client(1);
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer(requests, true);
    CU_ASSERT_TRUE(test_run_ready(&t, &pair->client));
    CU_ASSERT_EQUAL(silences, 2);
    CU_ASSERT_EQUAL(verdicts, 1);
    finish();
}

/* What was at the old keeper is refused when another takes its place, and an answer to it is not one to somebody else. */
static void test_another_keeper(void)
{
    struct chv_keeper_request old;
    start();
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(&old), 1);
    introduce();
    CU_ASSERT_TRUE(test_run_closed(&t, &pair->client));
    CU_ASSERT_EQUAL(code, CHV_REFUSE_UNAVAILABLE);
    CU_ASSERT_EQUAL(losses, 0);

    struct pair *next = connect_client(1);
    CU_ASSERT_EQUAL(receive(requests), 1);
    CU_ASSERT_EQUAL(requests[0].tag % CHV_KEEPER_OUTSTANDING, old.tag % CHV_KEEPER_OUTSTANDING); /* the same slot */
    answer(&old, false);
    answer(requests, true);
    CU_ASSERT_TRUE(test_run_ready(&t, &next->client));
    CU_ASSERT_EQUAL(verdicts, 1);
    finish();
}

static bool is_lost(void *arg)
{
    (void)arg;
    return losses > 0;
}

static void test_lost(void)
{
    start();
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(requests), 1);
    (void)close(end);
    end = -1;
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT_TRUE(test_run_closed(&t, &pair->client));
    CU_ASSERT_EQUAL(code, CHV_REFUSE_UNAVAILABLE);
    introduce();
    pair = connect_client(1);
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer(requests, true);
    CU_ASSERT_TRUE(test_run_ready(&t, &pair->client));
    finish();
}

/* --- key updates ---------------------------------------------------------------------------------------------------- */

struct asked {
    struct chv_keeper_update_ask ask; /* first */
    unsigned done;
    size_t len; /* of the body; 0: none */
    uint8_t first;
};

static struct asked asks[CHV_KEEPER_UPDATES + 1];

static void on_done(struct chv_keeper_update_ask *ask, const uint8_t *body, size_t len)
{
    struct asked *a = (struct asked *)(void *)ask;
    a->done++;
    a->len = len;
    a->first = body != NULL ? body[0] : 0;
}

static bool update(struct pair *pair, size_t i)
{
    memset(&asks[i], 0, sizeof asks[i]);
    return chv_keeper_client_update(&keeper, &asks[i].ask, pair->server.conn, on_done);
}

static void answer_update(const struct chv_keeper_request *request, enum chv_keeper_status status)
{
    struct chv_keeper_update_answer a = {
        .tag = request->tag, .status = (uint16_t)status, .body_len = 100, .body = {0x42}};
    CU_ASSERT_EQUAL(send(end, &a, sizeof a, MSG_NOSIGNAL), (ssize_t)sizeof a);
}

static bool is_done(void *arg)
{
    return ((const struct asked *)arg)->done > 0;
}

/* A connection with an open session. */
static struct pair *open_session(void)
{
    struct pair *pair = connect_client(0);
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer(requests, true);
    CU_ASSERT_TRUE_FATAL(test_run_ready(&t, &pair->client));
    return pair;
}

static void test_update_answered(void)
{
    struct chv_session_info info;
    start();
    struct pair *pair = open_session();
    CU_ASSERT_TRUE(update(pair, 0));
    CU_ASSERT_TRUE(update(pair, 1));
    CU_ASSERT_EQUAL_FATAL(receive(requests), 1); /* one at a time */
    CU_ASSERT_EQUAL_FATAL(chv_session_get_info(chv_conn_session(pair->server.conn), &info), CHV_OK);
    CU_ASSERT_EQUAL(requests[0].kind, CHV_KEEPER_UPDATE);
    CU_ASSERT_EQUAL(requests[0].profile, CHV_PROFILE_PSK);
    CU_ASSERT_EQUAL(requests[0].credential_len, info.credential_len);
    CU_ASSERT_EQUAL(memcmp(requests[0].credential, info.credential, info.credential_len), 0);
    CU_ASSERT_EQUAL(requests[0].h_psk_len, CHV_KEY_LEN);
    CU_ASSERT_EQUAL(memcmp(requests[0].h_psk, info.h_fin, CHV_KEY_LEN), 0);
    test_turns(&t, 5);
    CU_ASSERT_FALSE(is_asked(NULL));
    answer_update(requests, CHV_KEEPER_OK);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[0]));
    CU_ASSERT_EQUAL(asks[0].len, 100);
    CU_ASSERT_EQUAL(asks[0].first, 0x42);
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer_update(requests, CHV_KEEPER_MALFORMED);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[1]));
    CU_ASSERT_EQUAL(asks[1].len, 0);
    CU_ASSERT_EQUAL(keeper.outstanding, 0);
    CU_ASSERT_EQUAL(keeper.updates.count, 0);
    finish();
}

/* While a handshake waits no update leaves; it is given up in time. */
static void test_update_behind_handshakes(void)
{
    start();
    struct pair *pair = open_session();
    keeper.wait_ms = 60000;
    for (size_t i = 0; i < CHV_KEEPER_OUTSTANDING; i++)
        keeper.slots[i] = (struct chv_keeper_slot){.used = true, .tag = i, .sent = uv_now(&t.loop.uv)};
    keeper.outstanding = CHV_KEEPER_OUTSTANDING;
    struct pair *waiting = connect_client(1);
    test_turns(&t, 20);
    CU_ASSERT_EQUAL(keeper.queue.count, 1);
    CU_ASSERT_TRUE(update(pair, 0));
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[0]));
    CU_ASSERT_EQUAL(asks[0].len, 0);
    CU_ASSERT_FALSE(is_asked(NULL));
    CU_ASSERT_EQUAL(waiting->client.closed, 0);
    finish();
}

/* An answer that comes too late, or after its connection is gone, is nobody's; until it comes no other one leaves. */
static void test_update_late(void)
{
    start();
    struct pair *pair = open_session();
    CU_ASSERT_TRUE(update(pair, 0));
    CU_ASSERT_EQUAL(receive(requests), 1);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[0]));
    CU_ASSERT_EQUAL(asks[0].len, 0);
    CU_ASSERT_TRUE(update(pair, 1));
    CU_ASSERT_TRUE(update(pair, 2));
    test_turns(&t, 5);
    CU_ASSERT_FALSE(is_asked(NULL));
    chv_keeper_client_update_cancel(&keeper, &asks[1].ask); /* waits */
    answer_update(requests, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(receive(requests), 1);
    chv_keeper_client_update_cancel(&keeper, &asks[2].ask); /* on its way */
    answer_update(requests, CHV_KEEPER_OK);
    CU_ASSERT_TRUE(update(pair, 3));
    CU_ASSERT_EQUAL(receive(requests), 1);
    answer_update(requests, CHV_KEEPER_OK);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[3]));
    CU_ASSERT_EQUAL(asks[0].done, 1);
    CU_ASSERT_EQUAL(asks[1].done + asks[2].done, 0);
    finish();
}

static void test_update_bounded(void)
{
    start();
    struct pair *pair = open_session();
    for (size_t i = 0; i < CHV_KEEPER_UPDATES; i++)
        CU_ASSERT_TRUE(update(pair, i));
    CU_ASSERT_FALSE(update(pair, CHV_KEEPER_UPDATES));
    introduce(); /* another keeper: nothing of the old one's is asked again */
    for (size_t i = 0; i < CHV_KEEPER_UPDATES; i++)
        CU_ASSERT_EQUAL(asks[i].done, 1);
    CU_ASSERT_EQUAL(keeper.updates.count, 0);
    CU_ASSERT_TRUE(update(pair, 0));
    CU_ASSERT_EQUAL(receive(requests), 1);
    chv_keeper_client_connect(&keeper, -1);
    CU_ASSERT_EQUAL(asks[0].done, 1);
    CU_ASSERT_FALSE(update(pair, 1)); /* there is no keeper */
    finish();
}

TEST_MAIN("keeper client", {"answered", test_answered}, {"deadline in flight", test_deadline_in_flight},
          {"deadline in the queue", test_deadline_in_the_queue}, {"silent", test_silent},
          {"another keeper", test_another_keeper}, {"lost", test_lost}, {"update: answered", test_update_answered},
          {"update: behind handshakes", test_update_behind_handshakes}, {"update: late", test_update_late},
          {"update: bounded", test_update_bounded})
