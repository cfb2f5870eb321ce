/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts at the keeper: what it signs and what not; and from the net side, with a test in the keeper's place. */
#include "config.h"

#include "net/keeper_audit.h"
#include "net/keeper_receipt.h"

#include "keystore/file_pem.h"
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

static enum chv_err open_keeper(void)
{
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    why.text[0] = '\0';
    return chv_keeper_open(&keeper, &config, test_secret, &secret, &identity, &why);
}

/* A key pair of that use with the label of receipts, or none, in place of what is there. */
static void give_key(const enum chv_key_use *use)
{
    struct chv_keystore *ks = test_open(config.keystore, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    enum chv_err err = chv_keystore_remove(ks, CHV_RECEIPT_LABEL, NULL);
    CU_ASSERT(err == CHV_OK || err == CHV_ERR_NOT_FOUND);
    if (use != NULL)
        CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, CHV_RECEIPT_LABEL, *use, CHV_CURVE_P256, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_OK);
    chv_keystore_close(ks);
}

static void start(void)
{
    const enum chv_key_use use = CHV_USE_RECEIPT;
    keeper_config(&config);
    config.files.receipts = true;
    give_key(&use);
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
}

static void question(struct chv_keeper_receipt_request *request)
{
    memset(request, 0, sizeof *request);
    request->tag = 42;
    request->kind = CHV_KEEPER_RECEIPT;
    request->size = 1234;
    memset(request->sha256, 0xab, sizeof request->sha256);
    memcpy(request->client, "cam1", 4);
    memcpy(request->path, "a/b.jpg", 7);
}

static void ask(const struct chv_keeper_receipt_request *request, struct chv_keeper_receipt_answer *answer)
{
    CU_ASSERT_TRUE(chv_keeper_is_receipt(request, sizeof *request));
    chv_keeper_receipt(&keeper, NOW, request, answer);
    CU_ASSERT_EQUAL(answer->tag, 42);
}

/* Whether the answer is the key's signature of this statement. */
static bool is_signed(const struct chv_receipt *receipt, const struct chv_keeper_receipt_answer *answer)
{
    struct chv_identity key;
    char text[CHV_RECEIPT_MAX];
    size_t len = 0;
    memset(&key, 0, sizeof key);
    CU_ASSERT_EQUAL(chv_keystore_public_key(keeper.keystore, CHV_RECEIPT_LABEL, &key.curve, key.public_key, &why),
                    CHV_OK);
    CU_ASSERT_EQUAL(chv_receipt_format(receipt, text, &len), CHV_OK);
    return chv_pem_verify(&key, (const uint8_t *)text, len, answer->signature, answer->signature_len, &why) == CHV_OK;
}

static void test_signs(void)
{
    struct chv_keeper_receipt_request request;
    struct chv_keeper_receipt_answer answer;
    start();
    question(&request);
    ask(&request, &answer);
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(answer.time, NOW);
    struct chv_receipt r = {.server = "s1", .client = "cam1", .path = "a/b.jpg", .size = 1234, .time = NOW};
    memset(r.sha256, 0xab, sizeof r.sha256);
    CU_ASSERT_TRUE(is_signed(&r, &answer));
    /* Of no other statement. */
    struct chv_receipt other = r;
    other.size++;
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    other = r;
    other.time--;
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    other = r;
    other.server[1] = '2';
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    other = r;
    other.client[3] = '2';
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    other = r;
    other.path[0] = 'b';
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    other = r;
    other.sha256[31] ^= 1;
    CU_ASSERT_FALSE(is_signed(&other, &answer));
    answer.signature[answer.signature_len - 1] ^= 1;
    CU_ASSERT_FALSE(is_signed(&r, &answer));
    answer.signature_len = 0;
    CU_ASSERT_FALSE(is_signed(&r, &answer));
    chv_keeper_close(&keeper);
}

/* A newline in a path is an escape in the text: no line can be forged. */
static void test_path_with_newline(void)
{
    static const char path[] = "a\nsize: 0";
    struct chv_keeper_receipt_request request;
    struct chv_keeper_receipt_answer answer;
    start();
    question(&request);
    memset(request.path, 0, sizeof request.path);
    memcpy(request.path, path, sizeof path);
    ask(&request, &answer);
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_OK);
    struct chv_receipt r = {.server = "s1", .client = "cam1", .path = "a\nsize: 0", .size = 1234, .time = NOW};
    memset(r.sha256, 0xab, sizeof r.sha256);
    CU_ASSERT_TRUE(is_signed(&r, &answer));
    chv_keeper_close(&keeper);
}

static void check_refused(const struct chv_keeper_receipt_request *request, enum chv_keeper_status status)
{
    struct chv_keeper_receipt_answer answer;
    uint8_t zeros[sizeof answer.signature] = {0};
    memset(&answer, 0xff, sizeof answer);
    ask(request, &answer);
    CU_ASSERT_EQUAL(answer.status, status);
    CU_ASSERT_EQUAL(answer.signature_len, 0);
    CU_ASSERT_EQUAL(memcmp(answer.signature, zeros, sizeof zeros), 0);
}

static void test_refuses(void)
{
    struct chv_keeper_receipt_request request;
    struct chv_keeper_receipt_answer answer;
    start();
    question(&request);
    memcpy(request.client, "a\nb", 4);
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    request.client[0] = '\0';
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    memset(request.client, 'a', sizeof request.client); /* no end */
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    request.path[0] = '\0';
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    memset(request.path, 'a', sizeof request.path);
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    memcpy(request.path, "\xff", 2);
    check_refused(&request, CHV_KEEPER_MALFORMED);
    question(&request);
    memset(request.path, '\n', CHV_RECEIPT_PATH_MAX); /* it does not fit */
    check_refused(&request, CHV_KEEPER_MALFORMED);
    keeper.receipts = false;
    question(&request);
    check_refused(&request, CHV_KEEPER_MALFORMED);
    keeper.receipts = true;
    chv_keeper_receipt(&keeper, 1000, &request, &answer); /* a clock that is wrong */
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(answer.signature_len, 0);
    CU_ASSERT_FALSE(chv_keeper_is_receipt(&request, sizeof request - 1));
    request.kind = CHV_KEEPER_UPDATE;
    CU_ASSERT_FALSE(chv_keeper_is_receipt(&request, sizeof request));
    chv_keeper_close(&keeper);
}

/* Its use was fixed when the key was made: one for Diffie-Hellman signs nothing, whatever its label. */
static void test_key(void)
{
    const enum chv_key_use wrong = CHV_USE_IDENTITY;
    struct chv_keeper_receipt_request request;
    keeper_config(&config);
    config.files.receipts = true;
    give_key(NULL);
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keyadmin receipt new-key"));
    give_key(&wrong);
    CU_ASSERT_EQUAL(open_keeper(), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keyadmin receipt new-key"));
    config.files.receipts = false;
    CU_ASSERT_EQUAL_FATAL(open_keeper(), CHV_OK);
    keeper.receipts = true; /* as if nobody had looked */
    question(&request);
    check_refused(&request, CHV_KEEPER_UNAVAILABLE);
    chv_keeper_close(&keeper);
}

/* --- a keystore and a clock that fail ------------------------------------------------------------------------------ */

struct chv_keystore {
    const struct chv_keystore_ops *ops;
};

/* What it was about to give is there already: none of it may go out. */
static enum chv_err failing_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                   uint8_t out[CHV_SECRET_LEN], struct chv_why *w)
{
    (void)ks, (void)label, (void)info, (void)info_len;
    memset(out, 0x77, CHV_SECRET_LEN);
    return chv_fail(w, CHV_ERR_CRYPTO, "the token was pulled");
}

static enum chv_err failing_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                                 uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *w)
{
    (void)ks, (void)label, (void)message, (void)len, (void)sig_len;
    memset(sig, 0x77, CHV_SIGNATURE_MAX);
    return chv_fail(w, CHV_ERR_CRYPTO, "the token was pulled");
}

static void check_no_seal(uint64_t now)
{
    static const uint8_t zeros[CHV_AUDIT_MAC_LEN];
    const struct chv_keeper_audit_request q = {.tag = 42, .kind = CHV_KEEPER_AUDIT, .epoch = 1, .n = 1, .time = NOW};
    struct chv_keeper_audit_answer answer;
    memset(&answer, 0xff, sizeof answer);
    CU_ASSERT_EQUAL(chv_keeper_audit(&keeper, now, &q, sizeof q, &answer), CHV_OK);
    CU_ASSERT(answer.tag == 42 && answer.status == CHV_KEEPER_UNAVAILABLE);
    CU_ASSERT_EQUAL(memcmp(answer.mac, zeros, sizeof zeros), 0);
}

static void test_faults(void)
{
    static const struct chv_keystore_ops ops = {
        .abi = CHV_KEYSTORE_ABI, .scheme = "bad", .derive = failing_derive, .sign = failing_sign};
    struct chv_keystore bad = {.ops = &ops};
    struct chv_keeper_receipt_request request;
    struct chv_keeper_receipt_answer answer;
    start();
    struct chv_keystore *good = keeper.keystore;
    keeper.keystore = keeper.receipt_keystore = &bad;
    question(&request);
    check_refused(&request, CHV_KEEPER_UNAVAILABLE);
    check_no_seal(NOW);
    keeper.keystore = keeper.receipt_keystore = good;
    check_no_seal(CHV_TIME_FLOOR - 1);
    ask(&request, &answer); /* and it goes on */
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_OK);
    chv_keeper_close(&keeper);
}

/* --- the net side -------------------------------------------------------------------------------------------------- */

enum { ASKS = 3, SOON_MS = 300 };

struct asked {
    struct chv_keeper_receipt_ask ask; /* first */
    unsigned done;
    bool none;
    struct chv_keeper_receipt_answer answer;
};

static struct test_loop t;
static struct chv_keeper_client client;
static struct asked asks[ASKS];
static int end; /* the keeper's */
static unsigned losses, silences;

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
    memset(asks, 0, sizeof asks);
    end = -1;
    losses = silences = 0;
    test_loop_open(&t, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(chv_keeper_client_init(&client, &t.loop.uv, 8, 4711, &events), CHV_OK);
    introduce();
}

static void finish_client(void)
{
    CU_ASSERT_PTR_NULL(client.receipts.first);
    chv_keeper_client_close(&client);
    test_loop_close(&t);
    chv_keeper_client_free(&client);
    if (end >= 0)
        (void)close(end);
}

static void on_done(struct chv_keeper_receipt_ask *ask, const struct chv_keeper_receipt_answer *answer)
{
    struct asked *a = (struct asked *)(void *)ask;
    a->done++;
    a->none = answer == NULL;
    if (answer != NULL)
        a->answer = *answer;
}

static void ask_for(size_t i)
{
    memset(&asks[i], 0, sizeof asks[i]);
    asks[i].ask.request.size = i;
    chv_keeper_client_receipt(&client, &asks[i].ask, on_done);
}

static bool is_asked(void *arg)
{
    (void)arg;
    struct pollfd p = {.fd = end, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static bool is_done(void *arg)
{
    return ((const struct asked *)arg)->done > 0;
}

static bool is_lost(void *arg)
{
    (void)arg;
    return losses > 0;
}

static struct chv_keeper_receipt_request receive(void)
{
    struct chv_keeper_receipt_request request;
    CU_ASSERT_TRUE_FATAL(test_run(&t, is_asked, NULL));
    CU_ASSERT_EQUAL_FATAL(recv(end, &request, sizeof request, MSG_DONTWAIT), (ssize_t)sizeof request);
    CU_ASSERT_TRUE(chv_keeper_is_receipt(&request, sizeof request));
    return request;
}

static void answer_it(const struct chv_keeper_receipt_request *request, uint16_t signature_len)
{
    const struct chv_keeper_receipt_answer a = {
        .tag = request->tag, .status = CHV_KEEPER_OK, .time = 100 + request->size, .signature_len = signature_len};
    CU_ASSERT_EQUAL(send(end, &a, sizeof a, MSG_NOSIGNAL), (ssize_t)sizeof a);
}

static void test_one_after_the_other(void)
{
    start_client();
    for (size_t i = 0; i < ASKS; i++)
        ask_for(i);
    for (size_t i = 0; i < ASKS; i++) {
        struct chv_keeper_receipt_request request = receive();
        CU_ASSERT_EQUAL(request.size, i);
        test_turns(&t, 5);
        CU_ASSERT_FALSE(is_asked(NULL)); /* one at a time */
        answer_it(&request, 70);
        CU_ASSERT_TRUE(test_run(&t, is_done, &asks[i]));
        CU_ASSERT_FALSE(asks[i].none);
        CU_ASSERT_EQUAL(asks[i].answer.time, 100 + i);
    }
    finish_client();
}

/* One that nobody waits for holds its place until it is answered; its answer goes to nobody. */
static void test_cancelled(void)
{
    start_client();
    ask_for(0);
    ask_for(1);
    ask_for(2);
    struct chv_keeper_receipt_request request = receive();
    chv_keeper_client_receipt_cancel(&client, &asks[0].ask);
    chv_keeper_client_receipt_cancel(&client, &asks[1].ask);
    test_turns(&t, 5);
    CU_ASSERT_FALSE(is_asked(NULL));
    answer_it(&request, 70);
    request = receive();
    CU_ASSERT_EQUAL(request.size, 2);
    answer_it(&request, 70);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[2]));
    CU_ASSERT_EQUAL(asks[0].done + asks[1].done, 0);
    finish_client();
}

static void test_late(void)
{
    start_client();
    client.receipt_ms = SOON_MS;
    ask_for(0);
    ask_for(1);
    struct chv_keeper_receipt_request request = receive();
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[0]));
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[1]));
    CU_ASSERT_TRUE(asks[0].none && asks[1].none);
    client.receipt_ms = CHV_KEEPER_RECEIPT_MS;
    ask_for(2);
    test_turns(&t, 5);
    CU_ASSERT_FALSE(is_asked(NULL)); /* the keeper gets no more than it can */
    answer_it(&request, 70);
    request = receive();
    answer_it(&request, CHV_SIGNATURE_MAX + 1); /* not what a keeper says */
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[2]));
    CU_ASSERT_TRUE(asks[2].none);
    CU_ASSERT_EQUAL(asks[0].done + asks[1].done, 2);
    finish_client();
}

static bool is_silent(void *arg)
{
    (void)arg;
    return silences > 0;
}

/* One that hangs over a receipt is told of, as over a handshake, also when nobody waits for it any more. */
static void test_silent(void)
{
    start_client();
    ask_for(0);
    struct chv_keeper_receipt_request request = receive();
    chv_keeper_client_receipt_cancel(&client, &asks[0].ask);
    CU_ASSERT_TRUE(test_run(&t, is_silent, NULL));
    answer_it(&request, 70);
    ask_for(1);
    request = receive();
    answer_it(&request, 70);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[1]));
    CU_ASSERT_EQUAL(silences, 1);
    finish_client();
}

/* A keeper that dies is no reason to go without: the next one is asked, and an answer of the old one is none. */
static void test_another_keeper(void)
{
    start_client();
    ask_for(0);
    struct chv_keeper_receipt_request request = receive();
    (void)close(end);
    end = -1;
    CU_ASSERT_TRUE(test_run(&t, is_lost, NULL));
    ask_for(1);
    test_turns(&t, 5);
    CU_ASSERT_EQUAL(asks[0].done + asks[1].done, 0);
    introduce();
    answer_it(&request, 60);
    request = receive();
    CU_ASSERT_EQUAL(request.size, 0);
    answer_it(&request, 70);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[0]));
    CU_ASSERT_EQUAL(asks[0].answer.signature_len, 70);
    request = receive();
    answer_it(&request, 70);
    CU_ASSERT_TRUE(test_run(&t, is_done, &asks[1]));
    finish_client();
}

TEST_MAIN("keeper receipts", {"signs", test_signs}, {"faults", test_faults},
          {"path with newline", test_path_with_newline}, {"refuses", test_refuses}, {"key", test_key},
          {"one after the other", test_one_after_the_other}, {"cancelled", test_cancelled}, {"late", test_late},
          {"silent", test_silent}, {"another keeper", test_another_keeper})
