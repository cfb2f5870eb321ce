/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions resumed by ticket: what carries on, what is asked, and what is refused. */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/session.h"
#include "core/wire.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static const char cannot_prove[] =
    "the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)";

static struct pair p;
static uint8_t ticket[CHV_TICKET_MAX]; /* to a session these are bytes */
static uint8_t lineage[CHV_LINEAGE_LEN], secret[CHV_KEY_LEN];
static struct chv_session_ticket taken;
static uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];

/* What the ticket of a session says, and its secret at the client. */
static void issue(uint32_t number)
{
    struct chv_session_info info;
    memset(ticket, 0x5a, sizeof ticket);
    CU_ASSERT_EQUAL_FATAL(chv_session_get_info(p.server, &info), CHV_OK);
    memcpy(lineage, info.lineage, sizeof lineage);
    CU_ASSERT_EQUAL_FATAL(chv_session_resumption(p.server, number, secret), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_resumption(p.client, number, p.resumption), CHV_OK);
    taken = (struct chv_session_ticket){
        .profile = p.profile, .suite = p.suite, .lineage = lineage, .secret = secret, .server = p.server_name};
    if (p.profile != CHV_PROFILE_KEY) {
        taken.credential = p.credential_bytes;
        taken.credential_len = p.credential_len;
    }
    if (p.profile != CHV_PROFILE_PSK) {
        taken.peer_public = p.client_identity.public_key;
        taken.peer_public_len = chv_dh_public_len(chv_suite_parts(p.suite)->curve);
    }
    p.ticket = ticket;
    p.ticket_len = sizeof ticket;
    p.taken = &taken;
    p.questions = 0;
}

/* A full session, its ticket, and sessions that begin with it. */
static void open_with_ticket(enum chv_profile profile, enum chv_suite suite)
{
    pair_open(&p, profile, suite);
    pair_connect(&p);
    issue(0);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
}

static size_t hello_of_client(void)
{
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_WRITE); /* at once: there is nothing to ask */
    return pair_take(p.client, hello, sizeof hello);
}

/* The server has the hello and asks for the ticket. */
static void give_hello(void)
{
    size_t used = 0;
    const size_t len = hello_of_client();
    CU_ASSERT_EQUAL_FATAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_wants(p.server), CHV_WANT_KEY);
}

static void check_infos(const uint8_t *wanted_lineage)
{
    struct chv_session_info c, s;
    CU_ASSERT_EQUAL_FATAL(chv_session_get_info(p.client, &c), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_get_info(p.server, &s), CHV_OK);
    CU_ASSERT(c.resumed && s.resumed);
    CU_ASSERT(c.profile == p.profile && s.profile == p.profile);
    CU_ASSERT(c.suite == p.suite && s.suite == p.suite);
    CU_ASSERT(memcmp(c.h_fin, s.h_fin, 32) == 0);
    CU_ASSERT(memcmp(c.lineage, wanted_lineage, CHV_LINEAGE_LEN) == 0);
    CU_ASSERT(memcmp(s.lineage, wanted_lineage, CHV_LINEAGE_LEN) == 0);
    CU_ASSERT_EQUAL(c.server_time, 1800000000);
    CU_ASSERT_EQUAL(c.idle_seconds, 77);
    CU_ASSERT_EQUAL(s.credential != NULL, p.profile != CHV_PROFILE_KEY);
    CU_ASSERT_EQUAL(s.peer_public != NULL, p.profile != CHV_PROFILE_PSK);
    if (s.credential != NULL) {
        CU_ASSERT_EQUAL_FATAL(s.credential_len, p.credential_len);
        CU_ASSERT(memcmp(s.credential, p.credential_bytes, s.credential_len) == 0);
    }
    if (s.peer_public != NULL) {
        CU_ASSERT(memcmp(s.peer_public, p.client_identity.public_key, s.peer_public_len) == 0);
    }
}

static void check_records(void)
{
    uint8_t frame[64], type;
    const uint8_t *body;
    size_t body_len, len = pair_seal(p.server, CHV_RECORD_TICKET, "abc", 3, frame);
    CU_ASSERT_EQUAL(chv_session_open(p.client, frame, len, &type, &body, &body_len), CHV_OK);
    CU_ASSERT_EQUAL(type, CHV_RECORD_TICKET);
    len = pair_seal(p.server, CHV_RECORD_REDIRECT, "abc", 3, frame);
    CU_ASSERT_EQUAL(chv_session_open(p.client, frame, len, &type, &body, &body_len), CHV_OK);
    CU_ASSERT_EQUAL(type, CHV_RECORD_REDIRECT);
    len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    CU_ASSERT_EQUAL(chv_session_open(p.server, frame, len, &type, &body, &body_len), CHV_OK);
}

/* Of every profile, twice over; one question only, and neither a PSK nor a DH. */
static void test_every_profile_and_suite(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (unsigned suite = 1; suite <= 3; suite++) {
            uint8_t first[CHV_LINEAGE_LEN];
            open_with_ticket((enum chv_profile)profile, (enum chv_suite)suite);
            memcpy(first, lineage, sizeof first);
            for (int generation = 0; generation < 2; generation++) {
                CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
                pair_connect(&p);
                CU_ASSERT_EQUAL(p.questions, 1);
                check_infos(first);
                check_records();
                issue(3);
            }
            pair_close(&p);
        }
}

static void test_resumption_secret(void)
{
    static const uint32_t numbers[] = {0, 1, 255, 256, UINT32_MAX};
    uint8_t a[COUNT(numbers)][CHV_KEY_LEN], b[CHV_KEY_LEN], exported[CHV_KEY_LEN];
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    memset(b, 0x55, sizeof b);
    CU_ASSERT_EQUAL(chv_session_resumption(p.client, 0, b), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_resumption(p.server, 0, b), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(b[0], 0x55);
    pair_connect(&p);
    for (size_t i = 0; i < COUNT(numbers); i++) {
        CU_ASSERT_EQUAL(chv_session_resumption(p.client, numbers[i], a[i]), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_resumption(p.server, numbers[i], b), CHV_OK);
        CU_ASSERT(memcmp(a[i], b, sizeof b) == 0);
        for (size_t j = 0; j < i; j++)
            CU_ASSERT(memcmp(a[i], a[j], sizeof b) != 0);
    }
    CU_ASSERT_EQUAL(chv_session_export(p.client, "resumption", NULL, 0, exported), CHV_OK);
    CU_ASSERT(memcmp(exported, a[0], sizeof exported) != 0);
    CU_ASSERT_EQUAL(pair_start(&p), CHV_OK); /* the same keys, another session */
    pair_connect(&p);
    CU_ASSERT_EQUAL(chv_session_resumption(p.client, 0, b), CHV_OK);
    CU_ASSERT(memcmp(a[0], b, sizeof b) != 0);
    pair_close(&p);
}

/* Two sessions of one ticket have other keys and other secrets: the ephemerals see to it. */
static void test_sessions_of_one_ticket_differ(void)
{
    uint8_t keys[2][CHV_KEY_LEN], secrets[2][CHV_KEY_LEN];
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        pair_connect(&p);
        memcpy(keys[i], p.client->channel.send.key, CHV_KEY_LEN);
        CU_ASSERT_EQUAL(chv_session_resumption(p.client, 0, secrets[i]), CHV_OK);
    }
    CU_ASSERT(memcmp(keys[0], keys[1], CHV_KEY_LEN) != 0);
    CU_ASSERT(memcmp(secrets[0], secrets[1], CHV_KEY_LEN) != 0);
    CU_ASSERT(memcmp(secrets[0], secret, CHV_KEY_LEN) != 0);
    pair_close(&p);
}

/* A client needs neither identity key: the ticket's secret is all. */
static void test_without_identity_keys(void)
{
    open_with_ticket(CHV_PROFILE_KEY_PSK, CHV_SUITE_P256_AESGCM_SHA256);
    chv_session_wipe(p.client);
    const struct chv_session_config config = {.role = CHV_CLIENT,
                                              .crypto = &p.real,
                                              .profile = p.profile,
                                              .suite = p.suite,
                                              .credential = p.credential_bytes,
                                              .credential_len = p.credential_len,
                                              .ticket = ticket,
                                              .ticket_len = 1,
                                              .resumption = p.resumption,
                                              .server = "home"};
    p.ticket_len = 1;
    CU_ASSERT_EQUAL_FATAL(chv_session_init(p.client_memory, &config, &p.client, NULL), CHV_OK);
    pair_connect(&p);
    check_infos(lineage);
    pair_close(&p);
}

/* A server that serves no profile takes tickets, and no full handshake of any kind. */
static void test_tickets_only(void)
{
    const struct chv_session_config config = {.role = CHV_SERVER, .crypto = &p.real, .suites = 0xe};
    for (unsigned i = 0; i < 6; i++) {
        const enum chv_profile profile = CHV_PROFILE_PSK + i % 3;
        const bool full = i < 3;
        full ? pair_open(&p, profile, CHV_SUITE_X25519_AESGCM_SHA256)
             : open_with_ticket(profile, CHV_SUITE_X25519_AESGCM_SHA256);
        chv_session_wipe(p.server);
        CU_ASSERT_EQUAL_FATAL(chv_session_init(p.server_memory, &config, &p.server, NULL), CHV_OK);
        CU_ASSERT_EQUAL(pair_handshake(&p), full ? CHV_ERR_REFUSED : CHV_OK);
        CU_ASSERT_EQUAL(chv_session_refusal(p.client), full ? CHV_REFUSE_VERSION : 0);
        pair_close(&p);
    }
}

static void test_refused(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        struct chv_session_info info;
        open_with_ticket((enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        p.taken = NULL;
        CU_ASSERT_EQUAL(pair_handshake(&p), CHV_ERR_REFUSED);
        CU_ASSERT_EQUAL(chv_session_refusal(p.client), CHV_REFUSE_TICKET);
        CU_ASSERT_EQUAL(chv_session_refusal(p.server), CHV_REFUSE_TICKET);
        CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_ERR_AUTH);
        CU_ASSERT_STRING_EQUAL(chv_session_note(p.server), "hello: ticket not taken");
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
        CU_ASSERT_EQUAL(chv_session_get_info(p.server, &info), CHV_OK);
        CU_ASSERT_PTR_NULL(info.credential); /* nothing of a ticket that was not taken is believed */
        /* A full handshake, as the client then does. */
        p.ticket = NULL;
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        pair_connect(&p);
        CU_ASSERT_EQUAL(chv_session_get_info(p.server, &info), CHV_OK);
        CU_ASSERT_FALSE(info.resumed);
        CU_ASSERT(memcmp(info.lineage, lineage, sizeof lineage) != 0);
        pair_close(&p);
    }
}

/* What the driver may answer with, and a client that comes too often. */
static void test_refusal_codes(void)
{
    static const struct {
        unsigned code;
        enum chv_err err;
    } cases[] = {{400, CHV_ERR_ARGUMENT}, {401, CHV_OK}, {403, CHV_ERR_ARGUMENT}, {426, CHV_ERR_ARGUMENT},
                 {429, CHV_OK},           {503, CHV_OK}, {0, CHV_ERR_ARGUMENT}};
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(cases); i++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        give_hello();
        CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, cases[i].code), cases[i].err);
        CU_ASSERT_EQUAL(chv_session_refusal(p.server), cases[i].err == CHV_OK ? cases[i].code : 0);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), cases[i].err == CHV_OK ? CHV_WANT_WRITE : CHV_WANT_KEY);
    }
    /* 401 is for tickets only. */
    p.ticket = NULL;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    give_hello();
    CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_TICKET), CHV_ERR_ARGUMENT);
    pair_close(&p);
}

static void cannot_be_proven(void)
{
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_EQUAL(pair_handshake(&p), CHV_ERR_AUTH);
    CU_ASSERT_STRING_EQUAL(chv_session_note(p.client), cannot_prove);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
}

static void test_wrong_secret(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        open_with_ticket((enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        secret[31] ^= 1;
        cannot_be_proven();
        secret[31] ^= 1;
        p.resumption[0] ^= 0x80;
        cannot_be_proven();
        p.resumption[0] ^= 0x80;
        p.wanted_server = "homf";
        cannot_be_proven();
        p.wanted_server = "home";
        taken.server = "hom";
        cannot_be_proven();
        taken.server = "home";
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        pair_connect(&p);
        pair_close(&p);
    }
}

/* A ticket of another suite, or of a profile that is not served (any more), whatever the hello says. */
static void test_other_suite_or_profile(void)
{
    for (unsigned suite = 1; suite <= 3; suite++)
        for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++) {
            struct chv_credential c = {.profile = (enum chv_profile)profile,
                                       .epoch = 1,
                                       .serial = 1,
                                       .id = "1",
                                       .has_identity = profile == CHV_PROFILE_KEY_PSK};
            uint8_t credential[CHV_CREDENTIAL_MAX];
            size_t len = sizeof credential;
            if (profile != CHV_PROFILE_KEY)
                CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, credential, &len), CHV_OK);
            open_with_ticket(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_CHACHAPOLY_SHA256);
            const bool fits = suite == CHV_SUITE_X25519_CHACHAPOLY_SHA256 && profile == CHV_PROFILE_KEY_PSK;
            taken.suite = (enum chv_suite)suite;
            taken.profile = (enum chv_profile)profile;
            taken.credential = profile == CHV_PROFILE_KEY ? NULL : credential;
            taken.credential_len = profile == CHV_PROFILE_KEY ? 0 : len;
            taken.peer_public = profile == CHV_PROFILE_PSK ? NULL : p.client_identity.public_key;
            taken.peer_public_len = suite == CHV_SUITE_P256_AESGCM_SHA256 ? 65 : 32;
            give_hello();
            CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), fits ? CHV_OK : CHV_ERR_AUTH);
            CU_ASSERT_EQUAL(chv_session_refusal(p.server), fits ? 0 : CHV_REFUSE_TICKET);
            const size_t n = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, n, n), fits ? CHV_OK : CHV_ERR_REFUSED);
            pair_close(&p);
        }
}

static void test_answer_that_contradicts_itself(void)
{
    uint8_t other[CHV_CREDENTIAL_MAX];
    struct chv_session_ticket bad[13];
    open_with_ticket(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(bad); i++)
        bad[i] = taken;
    memcpy(other, p.credential_bytes, p.credential_len);
    other[1] = CHV_PROFILE_PSK;
    bad[0].credential = NULL;
    bad[1].credential_len--;
    bad[2].credential = other;
    bad[3].peer_public = NULL;
    bad[4].peer_public_len = 65;
    bad[5].lineage = NULL;
    bad[6].secret = NULL;
    bad[7].server = "";
    bad[8].server = "ho me";
    bad[9].profile = (enum chv_profile)0;
    bad[10].suite = (enum chv_suite)4;
    bad[11].profile = CHV_PROFILE_KEY; /* with a credential */
    bad[12].profile = CHV_PROFILE_PSK; /* with a peer */
    give_hello();
    for (size_t i = 0; i < COUNT(bad); i++) {
        CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &bad[i]), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY);
    }
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_OK);
    const size_t len = pair_take(p.server, reply, sizeof reply);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_OK);
    pair_close(&p);
}

static void test_wrong_order_changes_nothing(void)
{
    struct chv_session_info info;
    open_with_ticket(CHV_PROFILE_KEY, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.client, &taken), CHV_ERR_STATE);
    give_hello();
    CU_ASSERT_EQUAL(chv_session_get_info(p.server, &info), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_key_answer(p.server, secret), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_key_answer(p.server, NULL), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_precompute(p.server), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY);
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_WRITE); /* profile key: nobody asks for the peer again */
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_ERR_STATE);
    const size_t len = pair_take(p.server, reply, sizeof reply);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_OK);
    /* The question of a full handshake is none about a ticket. */
    p.ticket = NULL;
    p.profile = CHV_PROFILE_PSK;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    give_hello();
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_ERR_STATE);
    pair_close(&p);
}

static void test_config_that_contradicts_itself(void)
{
    static uint8_t long_ticket[CHV_TICKET_MAX + 1];
    struct chv_session *s;
    struct chv_why why;
    struct chv_session_config bad[6];
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(bad); i++)
        bad[i] = (struct chv_session_config){.role = CHV_CLIENT,
                                             .crypto = &p.real,
                                             .profile = p.profile,
                                             .suite = p.suite,
                                             .credential = p.credential_bytes,
                                             .credential_len = p.credential_len,
                                             .ticket = long_ticket,
                                             .ticket_len = CHV_TICKET_MAX,
                                             .resumption = secret,
                                             .server = "home"};
    chv_session_wipe(p.client);
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &bad[0], &p.client, &why), CHV_OK);
    chv_session_wipe(p.client);
    p.client = NULL;
    bad[0].ticket_len++;
    bad[1].ticket_len = 0;
    bad[2].resumption = NULL;
    bad[3].server = NULL;
    bad[4].server = "";
    bad[5].credential = NULL;
    for (size_t i = 0; i < COUNT(bad); i++) {
        why.text[0] = '\0';
        CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &bad[i], &s, &why), CHV_ERR_ARGUMENT);
        CU_ASSERT(strlen(why.text) > 0);
    }
    pair_close(&p);
}

/* Cut anywhere and fed in pieces of any size, with a server that would take any ticket. */
static void test_hello_cut_and_changed(void)
{
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    p.ticket_len = 100;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    const size_t len = hello_of_client();
    for (size_t n = 0; n < len; n++) { /* a frame that is shorter than what was in it */
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        uint8_t cut[CHV_HELLO_FRAME_MAX];
        memcpy(cut, hello, len);
        CU_ASSERT_EQUAL(pair_give(&p, p.server, cut, n, n + 1), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_READ);
        if (n < 2)
            continue;
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        chv_put_u16(cut, (uint16_t)(n - 2));
        CU_ASSERT_EQUAL(pair_give(&p, p.server, cut, n, n + 1), CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(chv_session_refusal(p.server), CHV_REFUSE_MALFORMED);
    }
    p.ticket = NULL; /* pair_answer compares no ticket: `taken` is for any */
    for (size_t at = 2; at < len; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            hello[at] ^= (uint8_t)(1u << bit);
            CU_ASSERT_NOT_EQUAL(pair_give(&p, p.server, hello, len, len + 1), CHV_OK);
            const unsigned code = chv_session_refusal(p.server);
            CU_ASSERT(code == CHV_REFUSE_MALFORMED || (code == CHV_REFUSE_VERSION && at < 2 + CHV_HELLO_FIXED_LEN));
            hello[at] ^= (uint8_t)(1u << bit);
        }
    /* Message 1 is bound to the ticket: it goes with no other. */
    CU_ASSERT_EQUAL(p.questions, 0);
    for (size_t step = 1; step <= len; step++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        CU_ASSERT_EQUAL(pair_give(&p, p.server, hello, len, step), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_WRITE);
    }
    pair_close(&p);
}

/* A server that serves `key` only takes resumptions, which all say psk, and no other hello of profile psk. */
static void test_hello_names_no_profile(void)
{
    open_with_ticket(CHV_PROFILE_KEY, CHV_SUITE_X25519_AESGCM_SHA256);
    const size_t len = hello_of_client();
    CU_ASSERT_EQUAL(hello[2 + 4], CHV_PROFILE_PSK);
    CU_ASSERT_EQUAL(hello[2 + 6], CHV_HELLO_TICKET);
    static const struct {
        uint8_t profile, kind;
        unsigned code;
    } cases[] = {{1, 2, CHV_REFUSE_MALFORMED}, /* message 1 is for the other prologue: seen after the checks of form */
                 {1, 1, CHV_REFUSE_VERSION},   {2, 2, CHV_REFUSE_MALFORMED}, {3, 2, CHV_REFUSE_MALFORMED},
                 {0, 2, CHV_REFUSE_VERSION},   {4, 2, CHV_REFUSE_VERSION}};
    hello[2 + 8]--; /* length of the ticket */
    for (size_t i = 0; i < COUNT(cases); i++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        hello[2 + 4] = cases[i].profile;
        hello[2 + 6] = cases[i].kind;
        CU_ASSERT_NOT_EQUAL(pair_give(&p, p.server, hello, len, len), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_refusal(p.server), cases[i].code);
    }
    pair_close(&p);
}

/* Someone who has seen the ticket pass and has not its secret gets an answer and nothing else. */
static void test_stolen_ticket(void)
{
    uint8_t frame[256], type;
    const uint8_t *body;
    size_t body_len;
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    memset(p.resumption, 0, sizeof p.resumption);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_EQUAL(pair_handshake(&p), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN); /* the server has proven nothing to anyone */
    memset(frame, 7, sizeof frame);
    chv_put_u16(frame, sizeof frame - 2);
    CU_ASSERT_EQUAL(chv_session_open(p.server, frame, sizeof frame, &type, &body, &body_len), CHV_ERR_AUTH);
    pair_close(&p);
}

static bool memory_has(const void *memory, size_t len, const uint8_t *what)
{
    return memmem(memory, len, what, CHV_KEY_LEN) != NULL;
}

/* The resumption secret is gone as soon as the session PSK was made. */
static void test_secret_is_wiped(void)
{
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT(memory_has(p.client_memory, chv_session_size(), p.resumption));
    give_hello();
    CU_ASSERT_EQUAL(chv_session_ticket_answer(p.server, &taken), CHV_OK);
    CU_ASSERT_FALSE(memory_has(p.server_memory, chv_session_size(), secret));
    const size_t len = pair_take(p.server, reply, sizeof reply);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_OK);
    CU_ASSERT_FALSE(memory_has(p.client_memory, chv_session_size(), p.resumption));
    /* Also on the ways out: refused, no answer, wiped. */
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_eof(p.client, false), CHV_ERR_TRUNCATED);
    CU_ASSERT_FALSE(memory_has(p.client_memory, chv_session_size(), p.resumption));
    p.taken = NULL;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_EQUAL(pair_handshake(&p), CHV_ERR_REFUSED);
    CU_ASSERT_FALSE(memory_has(p.client_memory, chv_session_size(), p.resumption));
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    chv_session_wipe(p.client);
    p.client = NULL;
    CU_ASSERT_FALSE(memory_has(p.client_memory, chv_session_size(), p.resumption));
    pair_close(&p);
}

/* Each backend call of either side fails once: no handle left, the error sticks, nothing opens. */
static void test_backend_fails_at_every_call(void)
{
    for (int failing_client = 0; failing_client < 2; failing_client++) {
        struct test_fault fault;
        open_with_ticket(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        test_fault_init(&fault, &p.real);
        pair_stop(&p);
        if (failing_client)
            p.client_crypto = fault.crypto;
        else
            p.server_crypto = fault.crypto;
        unsigned long n = 1;
        for (;; n++) {
            test_fault_arm(&fault, 0);
            pair_stop(&p);
            CU_ASSERT_EQUAL_FATAL(fault.open_dh + fault.open_aead, 0);
            test_fault_arm(&fault, n);
            enum chv_err err = pair_start(&p);
            if (err != CHV_OK) {
                CU_ASSERT(failing_client && fault.fired);
                continue;
            }
            err = pair_handshake(&p);
            if (!fault.fired)
                break;
            CU_ASSERT_NOT_EQUAL(err, CHV_OK);
            CU_ASSERT_EQUAL(chv_session_wants(failing_client ? p.client : p.server), CHV_WANT_CLOSED);
            CU_ASSERT_FALSE(memory_has(p.server_memory, chv_session_size(), secret));
        }
        CU_ASSERT(n > 10);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
        pair_close(&p);
    }
}

/* A server that sends before OPEN, with the right keys, has made itself a liar. */
static void test_records_before_open(void)
{
    static const uint8_t types[] = {CHV_RECORD_TICKET, CHV_RECORD_REDIRECT, CHV_RECORD_STATUS, CHV_RECORD_DATA};
    open_with_ticket(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(types); i++) {
        uint8_t frame[64], type;
        const uint8_t *body;
        size_t body_len, len = 0;
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(pair_handshake(&p), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_seal(p.server, types[i], frame, 1, &len), CHV_ERR_STATE);
        CU_ASSERT_EQUAL_FATAL(
            chv_direction_seal(&p.server->channel.send, &p.real, CHV_AEAD_AES256GCM, types[i], frame, 1, &len), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_open(p.client, frame, len, &type, &body, &body_len), CHV_ERR_PROTOCOL);
        CU_ASSERT_STRING_EQUAL(chv_session_note(p.client), "record: before OPEN was sent");
    }
    pair_close(&p);
}

TEST_MAIN("core/resume", {"every profile and suite", test_every_profile_and_suite},
          {"resumption secret", test_resumption_secret},
          {"sessions of one ticket differ", test_sessions_of_one_ticket_differ},
          {"without identity keys", test_without_identity_keys}, {"tickets only", test_tickets_only},
          {"refused", test_refused}, {"codes of a refusal", test_refusal_codes}, {"wrong secret", test_wrong_secret},
          {"another suite or profile", test_other_suite_or_profile},
          {"answer that contradicts itself", test_answer_that_contradicts_itself},
          {"wrong order changes nothing", test_wrong_order_changes_nothing},
          {"config that contradicts itself", test_config_that_contradicts_itself},
          {"hello cut and changed", test_hello_cut_and_changed},
          {"the hello names no profile", test_hello_names_no_profile}, {"stolen ticket", test_stolen_ticket},
          {"the secret is wiped", test_secret_is_wiped},
          {"backend fails at every call", test_backend_fails_at_every_call},
          {"records before OPEN", test_records_before_open})
