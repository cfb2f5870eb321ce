/* SPDX-License-Identifier: Apache-2.0 */
/* Ticket keys at the keeper: which it hands out and which not; and from the net side, with a test in the keeper's place. */
#include "config.h"

#include "net/keeper_ticket.h"

#include "core/hkdf.h"
#include "net/ipc.h"
#include "net/keeper_client.h"
#include "tests/net/conn_support.h"
#include "tests/net/keeper_support.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the keeper ---------------------------------------------------------------------------------------------------- */

static struct chv_server_config config;
static struct chv_server_identity identity;
static struct chv_keeper keeper;
static struct chv_why why;
static struct chv_keeper_ticket_request request;
static struct chv_keeper_ticket_answer answer;

static void start(const char *fleet)
{
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    keeper_config(&config);
    config.tickets = true;
    config.data_count = 1;
    config.epoch_count = 2;
    config.epochs[1] = 2;
    snprintf(config.ticket_audience, sizeof config.ticket_audience, "%s", fleet);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_open(&keeper, &config, test_secret, &secret, &identity, &why), CHV_OK);
    request = (struct chv_keeper_ticket_request){.tag = 42, .kind = CHV_KEEPER_TICKET, .epoch = 1};
}

static void ask(void)
{
    memset(&answer, 0xff, sizeof answer);
    CU_ASSERT_TRUE(chv_keeper_is_ticket(&request, sizeof request));
    chv_keeper_ticket(&keeper, NOW, &request, &answer);
    CU_ASSERT_EQUAL(answer.tag, 42);
}

/* By HKDF alone; the masters are keeper_support's. */
static void check_key(uint32_t epoch, const char *audience, uint64_t period, const uint8_t *key)
{
    struct chv_crypto crypto;
    uint8_t info[CHV_INFO_MAX], master[CHV_KEY_LEN], wanted[CHV_KEY_LEN];
    size_t len;
    memset(master, (int)(epoch * 0x11), sizeof master);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_ticket(audience, period, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, master, sizeof master, info, len, wanted, sizeof wanted),
                    CHV_OK);
    CU_ASSERT_EQUAL(memcmp(key, wanted, sizeof wanted), 0);
    chv_backend_close(&crypto);
}

static void check_keys(uint32_t epoch, const char *audience)
{
    CU_ASSERT_EQUAL(CHV_TICKET_PERIODS, 3); /* the previous, the current and the next: no later one */
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(answer.first_period, NOW / DAY - 1);
    for (unsigned i = 0; i < CHV_TICKET_PERIODS; i++)
        check_key(epoch, audience, NOW / DAY - 1 + i, answer.keys[i]);
}

static void refused(enum chv_keeper_status status)
{
    static const uint8_t zeros[sizeof answer.keys];
    ask();
    CU_ASSERT_EQUAL(answer.status, status);
    CU_ASSERT_EQUAL(answer.first_period, 0);
    CU_ASSERT_EQUAL(memcmp(answer.keys, zeros, sizeof zeros), 0);
}

static void test_keys(void)
{
    start("");
    ask();
    check_keys(1, "s1");
    request.epoch = 2;
    ask();
    check_keys(2, "s1");
    request.use = CHV_TICKET_DATA;
    ask();
    check_keys(2, "s1/data");
    chv_keeper_close(&keeper);
    start("f"); /* for coming back only */
    ask();
    check_keys(1, "fleet/f");
    request.use = CHV_TICKET_DATA;
    ask();
    check_keys(1, "s1/data");
    chv_keeper_close(&keeper);
}

/* What the keeper's own configuration does not have. */
static void test_not_served(void)
{
    start("");
    request.epoch = 3;
    refused(CHV_KEEPER_MALFORMED);
    request.epoch = 0;
    refused(CHV_KEEPER_MALFORMED);
    request.epoch = 2;
    config.epoch_count = 1;
    config.tickets = false;
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_OK);
    refused(CHV_KEEPER_MALFORMED); /* though its master is there */
    request.epoch = 1;
    refused(CHV_KEEPER_MALFORMED);
    request.use = CHV_TICKET_DATA;
    ask();
    check_keys(1, "s1/data");
    config.tickets = true;
    config.data_count = 0;
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_OK);
    refused(CHV_KEEPER_MALFORMED);
    config.redirect_count = 1; /* data sides elsewhere */
    CU_ASSERT_EQUAL(chv_keeper_configure(&keeper, &config, &why), CHV_OK);
    ask();
    check_keys(1, "s1/data");
    chv_keeper_close(&keeper);
}

static void test_form(void)
{
    start("");
    request.use = CHV_TICKET_USES;
    refused(CHV_KEEPER_MALFORMED);
    request.use = 0;
    for (size_t i = 0; i < sizeof request.zero; i++) {
        request.zero[i] = 1;
        refused(CHV_KEEPER_MALFORMED);
        request.zero[i] = 0;
    }
    CU_ASSERT_FALSE(chv_keeper_is_ticket(&request, sizeof request - 1));
    request.kind = CHV_KEEPER_PSK;
    CU_ASSERT_FALSE(chv_keeper_is_ticket(&request, sizeof request));
    request.kind = CHV_KEEPER_TICKET;
    chv_keeper_ticket(&keeper, 1000, &request, &answer); /* a clock that is wrong */
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_UNAVAILABLE);
    chv_keeper_close(&keeper);
}

struct chv_keystore {
    const struct chv_keystore_ops *ops;
};

static unsigned derived;

/* The second of a question's three. */
static enum chv_err failing_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                   uint8_t out[CHV_SECRET_LEN], struct chv_why *w)
{
    (void)ks, (void)label, (void)info, (void)info_len;
    memset(out, 0x77, CHV_SECRET_LEN);
    return ++derived == 2 ? chv_fail(w, CHV_ERR_CRYPTO, "the token was pulled") : CHV_OK;
}

static void test_faults(void)
{
    static const struct chv_keystore_ops ops = {.abi = CHV_KEYSTORE_ABI, .scheme = "bad", .derive = failing_derive};
    struct chv_keystore bad = {.ops = &ops};
    start("");
    struct chv_keystore *good = keeper.keystore;
    keeper.keystore = keeper.receipt_keystore = &bad;
    refused(CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(derived, 2);
    keeper.keystore = keeper.receipt_keystore = good;
    ask(); /* and it goes on */
    check_keys(1, "s1");
    chv_keeper_close(&keeper);
}

/* --- the net side -------------------------------------------------------------------------------------------------- */

enum { SOON_MS = 300 };

static struct test_loop t;
static struct chv_keeper_client client;
static struct chv_keeper_ticket_ask asks[2];
static unsigned done, none, losses, silences;
static struct chv_keeper_ticket_answer got;
static int end; /* the keeper's */

static void on_lost(struct chv_keeper_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    losses++;
}

static void on_verdict(struct chv_conn *conn, enum chv_keeper_verdict verdict)
{
    (void)conn;
    (void)verdict;
}

static void on_refused(struct chv_conn *conn, unsigned code, const char *reason)
{
    (void)conn;
    (void)code;
    (void)reason;
}

static void on_silent(struct chv_keeper_client *c)
{
    CU_ASSERT_PTR_EQUAL(c, &client);
    silences++;
}

static const struct chv_keeper_events events = {
    .verdict = on_verdict, .refused = on_refused, .lost = on_lost, .silent = on_silent};

static void introduce(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    if (end >= 0)
        (void)close(end);
    end = ends[1];
    chv_keeper_client_connect(&client, ends[0]);
}

static void start_client(void)
{
    end = -1;
    done = none = losses = silences = 0;
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_client_init(&client, &t.loop.uv, 8, 4711, &events), CHV_OK);
    introduce();
}

static void finish_client(void)
{
    CU_ASSERT_PTR_NULL(client.tickets.ask);
    chv_keeper_client_close(&client);
    test_loop_close(&t);
    chv_keeper_client_free(&client);
    if (end >= 0)
        (void)close(end);
}

static void on_keys(struct chv_keeper_ticket_ask *a, const struct chv_keeper_ticket_answer *keys)
{
    CU_ASSERT(a == &asks[0] || a == &asks[1]);
    done++;
    none += keys == NULL;
    if (keys != NULL)
        got = *keys;
}

static bool ask_for(size_t i, uint32_t epoch)
{
    return chv_keeper_client_ticket(&client, &asks[i], CHV_TICKET_DATA, epoch, on_keys);
}

static bool is_asked(void *arg)
{
    (void)arg;
    struct pollfd p = {.fd = end, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static bool is_done(void *arg)
{
    (void)arg;
    return done > 0;
}

static bool is_lost(void *arg)
{
    (void)arg;
    return losses > 0;
}

static bool is_silent(void *arg)
{
    (void)arg;
    return silences > 0;
}

static struct chv_keeper_ticket_request receive(void)
{
    struct chv_keeper_ticket_request r;
    CU_ASSERT_TRUE_FATAL(test_run(&t, is_asked, NULL));
    CU_ASSERT_EQUAL_FATAL(recv(end, &r, sizeof r, MSG_DONTWAIT), (ssize_t)sizeof r);
    CU_ASSERT_TRUE(chv_keeper_is_ticket(&r, sizeof r));
    CU_ASSERT_EQUAL(r.use, CHV_TICKET_DATA);
    return r;
}

static void answer_it(const struct chv_keeper_ticket_request *r)
{
    const struct chv_keeper_ticket_answer a = {.tag = r->tag, .status = CHV_KEEPER_OK, .first_period = 7 * r->epoch};
    CU_ASSERT_EQUAL(send(end, &a, sizeof a, MSG_NOSIGNAL), (ssize_t)sizeof a);
}

static void test_asked_and_answered(void)
{
    start_client();
    for (uint32_t epoch = 1; epoch <= 3; epoch++) {
        done = 0;
        CU_ASSERT_TRUE(ask_for(0, epoch));
        CU_ASSERT_FALSE(ask_for(1, epoch)); /* one at a time */
        struct chv_keeper_ticket_request r = receive();
        CU_ASSERT_EQUAL(r.epoch, epoch);
        answer_it(&r);
        CU_ASSERT_TRUE(test_run(&t, is_done, NULL));
        CU_ASSERT(none == 0 && got.first_period == 7 * epoch);
    }
    CU_ASSERT_EQUAL(losses, 0);
    finish_client();
}

/* Its answer is nobody's, and no other question leaves before it. */
static void test_late(void)
{
    start_client();
    client.ticket_ms = SOON_MS;
    CU_ASSERT_TRUE(ask_for(0, 1));
    struct chv_keeper_ticket_request r = receive();
    CU_ASSERT_TRUE(test_run(&t, is_done, NULL));
    CU_ASSERT_EQUAL(none, 1);
    client.ticket_ms = CHV_KEEPER_TICKET_MS;
    CU_ASSERT_TRUE(ask_for(1, 2));
    test_turns(&t, 5);
    CU_ASSERT_FALSE(is_asked(NULL));
    answer_it(&r);
    done = 0;
    r = receive();
    CU_ASSERT_EQUAL(r.epoch, 2);
    CU_ASSERT_EQUAL(done, 0);
    answer_it(&r);
    CU_ASSERT_TRUE(test_run(&t, is_done, NULL));
    CU_ASSERT(none == 1 && got.first_period == 14);
    finish_client();
}

static void test_cancelled(void)
{
    start_client();
    CU_ASSERT_TRUE(ask_for(0, 1));
    struct chv_keeper_ticket_request r = receive();
    chv_keeper_client_ticket_cancel(&client);
    CU_ASSERT_TRUE(test_run(&t, is_silent, NULL)); /* it hangs all the same */
    answer_it(&r);
    CU_ASSERT_TRUE(ask_for(1, 2));
    r = receive();
    CU_ASSERT_EQUAL(done, 0);
    answer_it(&r);
    CU_ASSERT_TRUE(test_run(&t, is_done, NULL));
    finish_client();
}

static void test_keeper_goes(void)
{
    start_client();
    CU_ASSERT_TRUE(ask_for(0, 1));
    (void)receive();
    (void)close(end);
    end = -1;
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    CU_ASSERT(done == 1 && none == 1);
    CU_ASSERT_FALSE(ask_for(0, 1));
    introduce();
    CU_ASSERT_TRUE(ask_for(0, 2));
    struct chv_keeper_ticket_request r = receive();
    answer_it(&r);
    done = 0;
    CU_ASSERT_TRUE(test_run(&t, is_done, NULL));
    CU_ASSERT_EQUAL(got.first_period, 14);
    finish_client();
}

TEST_MAIN("keeper_ticket", {"keys", test_keys}, {"not served", test_not_served}, {"form", test_form},
          {"faults", test_faults}, {"asked and answered", test_asked_and_answered}, {"late", test_late},
          {"cancelled", test_cancelled}, {"keeper goes", test_keeper_goes})
