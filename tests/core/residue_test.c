/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a handshake leaves on the stack: it runs on a stack of its own, which is then searched for the secrets that went
 * through it.
 */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/session.h"
#include "core/ticket.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_SIZE = 1 << 20 };

static struct pair p;
static _Alignas(4096) uint8_t stack[STACK_SIZE];

/* What a question was answered with; here only, wiped before the stack is searched. */
static uint8_t answers[8][CHV_KEY_LEN];
static size_t answer_count;

static size_t occurrences(const uint8_t *secret)
{
    size_t found = 0;
    for (size_t i = 0; i + CHV_KEY_LEN <= sizeof stack; i++)
        found += memcmp(stack + i, secret, CHV_KEY_LEN) == 0;
    return found;
}

/* The answer is made on another stack: its making is not what is looked at. */
static struct chv_session *asked;
static struct chv_key_request question;

static void *answer_elsewhere(void *arg)
{
    uint8_t *secret = arg;
    CU_ASSERT_EQUAL_FATAL(pair_secret(&p, asked, &question, secret), CHV_OK);
    return NULL;
}

static enum chv_err answer(struct chv_session *s)
{
    pthread_t thread;
    asked = s;
    enum chv_err err = chv_session_key_request(s, &question);
    if (err != CHV_OK)
        return err;
    if (question.kind == CHV_KEY_PEER)
        return chv_session_key_answer(s, NULL);
    if (question.kind == CHV_KEY_TICKET)
        return chv_session_ticket_answer(s, p.taken);
    uint8_t *secret = answers[answer_count++];
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, answer_elsewhere, secret), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_join(thread, NULL), 0);
    return chv_session_key_answer(s, secret);
}

static void move(struct chv_session *from, struct chv_session *to)
{
    static uint8_t wire[CHV_HELLO_FRAME_MAX];
    size_t used = 0;
    while (chv_session_wants(from) & CHV_WANT_KEY)
        CU_ASSERT_EQUAL_FATAL(answer(from), CHV_OK);
    const size_t len = pair_take(from, wire, sizeof wire);
    CU_ASSERT_EQUAL_FATAL(chv_session_recv(to, wire, len, &used), CHV_OK);
    while (chv_session_wants(to) & CHV_WANT_KEY)
        CU_ASSERT_EQUAL_FATAL(answer(to), CHV_OK);
}

static void *handshake(void *unused)
{
    (void)unused;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    move(p.client, p.server);
    move(p.server, p.client);
    return NULL;
}

static void *rekey(void *unused)
{
    static uint8_t frame[64];
    (void)unused;
    (void)pair_seal(p.client, CHV_RECORD_OPEN, NULL, 0, frame);
    p.client->channel.send.n = CHV_REKEY_RECORDS;
    (void)pair_seal(p.client, CHV_RECORD_DATA, NULL, 0, frame);
    return NULL;
}

static void run(void *(*what)(void *))
{
    pthread_t thread;
    pthread_attr_t attr;
    memset(stack, 0, sizeof stack);
    CU_ASSERT_EQUAL_FATAL(pthread_attr_init(&attr), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_attr_setstack(&attr, stack, sizeof stack), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, &attr, what, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
}

static void test_handshake(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (unsigned suite = 1; suite <= 3; suite++) {
            answer_count = 0;
            pair_open(&p, (enum chv_profile)profile, (enum chv_suite)suite);
            run(handshake);
            CU_ASSERT(answer_count > 0);
            for (size_t i = 0; i < answer_count; i++)
                CU_ASSERT_EQUAL(occurrences(answers[i]), 0);
            CU_ASSERT_EQUAL(occurrences(p.client->channel.send.key), 0);
            CU_ASSERT_EQUAL(occurrences(p.client->channel.receive.key), 0);
            CU_ASSERT_EQUAL(occurrences(p.client->channel.exporter), 0);
            run(rekey);
            CU_ASSERT_EQUAL(occurrences(p.client->channel.send.key), 0);
            pair_close(&p);
            chv_wipe(answers, sizeof answers);
        }
}

/* A ticket is sealed and opened, and a session resumed with it. */
static uint8_t ticket_key[CHV_KEY_LEN], ticket[CHV_TICKET_MAX];
static size_t ticket_len;
static struct chv_ticket sealed, opened;

static void *ticket_made_and_opened(void *unused)
{
    const struct chv_ticket_label label = {.epoch = 1, .period = 20771, .audience = "home"};
    (void)unused;
    ticket_len = sizeof ticket;
    CU_ASSERT_EQUAL_FATAL(chv_session_resumption(p.client, 0, p.resumption), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_resumption(p.server, 0, sealed.secret), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&p.real, ticket_key, &label, &sealed, ticket, &ticket_len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_ticket_open(&p.real, ticket_key, ticket, ticket_len, &opened), CHV_OK);
    return NULL;
}

/* The session PSK of a resumed session comes out of the session itself: what the backend made with the ticket's secret. */
static uint8_t session_psk[CHV_KEY_LEN];

static enum chv_err watch_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t key_len,
                               const struct chv_part *parts, size_t n, uint8_t *out)
{
    const enum chv_err err = p.real.backend->hmac(ctx, alg, key, key_len, parts, n, out);
    if (key_len == CHV_KEY_LEN && memcmp(key, opened.secret, CHV_KEY_LEN) == 0)
        memcpy(session_psk, out, sizeof session_psk);
    return err;
}

static enum chv_err fail_dh(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN])
{
    (void)key;
    (void)peer_public;
    (void)shared_out;
    return CHV_ERR_CRYPTO;
}

/* As far as the session PSK, and no further: what comes behind it would write over what it has left. */
static void *handshake_cut(void *unused)
{
    static uint8_t wire[CHV_HELLO_FRAME_MAX];
    size_t used = 0;
    (void)unused;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    const size_t len = pair_take(p.client, wire, sizeof wire);
    CU_ASSERT_EQUAL_FATAL(chv_session_recv(p.server, wire, len, &used), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, p.taken), CHV_ERR_CRYPTO);
    return NULL;
}

static void test_resumption(void)
{
    for (unsigned suite = 1; suite <= 3; suite++) {
        uint8_t info[CHV_INFO_MAX], seal_key[CHV_KEY_LEN];
        size_t info_len = 0;
        pair_open(&p, CHV_PROFILE_PSK, (enum chv_suite)suite);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_random(&p.real, ticket_key, sizeof ticket_key), CHV_OK);
        pair_connect(&p);
        sealed = (struct chv_ticket){.profile = CHV_PROFILE_PSK,
                                     .suite = p.suite,
                                     .not_after = 1,
                                     .credential_len = p.credential_len,
                                     .rights = {.id = "1"}};
        memcpy(sealed.credential, p.credential_bytes, p.credential_len);
        run(ticket_made_and_opened);
        CU_ASSERT(memcmp(p.resumption, opened.secret, CHV_KEY_LEN) == 0);
        /* The key of this one ticket, made once more. */
        CU_ASSERT_EQUAL(chv_info_ticket_seal(ticket + 1 + 4 + 1 + 4 + 8, info, &info_len), CHV_OK);
        CU_ASSERT_EQUAL(
            chv_hkdf_expand(&p.real, CHV_HASH_SHA256, ticket_key, CHV_KEY_LEN, info, info_len, seal_key, CHV_KEY_LEN),
            CHV_OK);
        CU_ASSERT_EQUAL(occurrences(ticket_key), 0);
        CU_ASSERT_EQUAL(occurrences(seal_key), 0);
        CU_ASSERT_EQUAL(occurrences(p.resumption), 0);

        const struct chv_session_ticket taken = {.profile = p.profile,
                                                 .suite = p.suite,
                                                 .credential = opened.credential,
                                                 .credential_len = opened.credential_len,
                                                 .lineage = opened.lineage,
                                                 .secret = opened.secret,
                                                 .server = "home"};
        p.ticket = ticket;
        p.ticket_len = ticket_len;
        p.taken = &taken;
        struct chv_backend watched = *p.real.backend;
        watched.hmac = watch_hmac;
        pair_stop(&p);
        p.client_crypto.backend = p.server_crypto.backend = &watched;
        run(handshake);
        CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
        CU_ASSERT_FALSE(chv_is_zero(session_psk, sizeof session_psk));
        CU_ASSERT_EQUAL(occurrences(session_psk), 0);
        CU_ASSERT_EQUAL(occurrences(p.resumption), 0);
        CU_ASSERT_EQUAL(occurrences(p.client->channel.send.key), 0);
        CU_ASSERT_EQUAL(occurrences(p.client->channel.exporter), 0);
        watched.dh_derive = fail_dh;
        chv_wipe(session_psk, sizeof session_psk);
        run(handshake_cut);
        CU_ASSERT_FALSE(chv_is_zero(session_psk, sizeof session_psk));
        CU_ASSERT_EQUAL(occurrences(session_psk), 0);
        pair_close(&p);
    }
}

/* The search finds what is there. */
static const uint8_t *left;
static void *leave(void *unused)
{
    volatile uint8_t room[16384]; /* deep enough not to be written over by the end of the thread */
    (void)unused;
    for (size_t i = 0; i < CHV_KEY_LEN; i++)
        room[i] = left[i];
    CU_ASSERT_EQUAL(room[0], left[0]);
    return NULL;
}

static void test_search(void)
{
    static const uint8_t secret[CHV_KEY_LEN] = {1, 2, 3};
    left = secret;
    run(leave);
    CU_ASSERT_EQUAL(occurrences(secret), 1);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"the search itself", test_search}, {"handshake", test_handshake}, {"resumption", test_resumption}};
#ifdef __SANITIZE_ADDRESS__
    puts("skipped: AddressSanitizer puts locals elsewhere");
    return 77;
#endif
    return test_main("core/residue", cases, sizeof cases / sizeof cases[0]);
}
