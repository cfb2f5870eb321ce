/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes of the session: who gets in, how the frames may be cut, and which calls are in order. */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/noise.h"
#include "core/symmetric.h"
#include "core/wire.h"

#include <string.h>

static const enum chv_profile profiles[] = {CHV_PROFILE_PSK, CHV_PROFILE_KEY, CHV_PROFILE_KEY_PSK};
static const enum chv_suite suites[] = {CHV_SUITE_X25519_AESGCM_SHA256, CHV_SUITE_X25519_CHACHAPOLY_SHA256,
                                        CHV_SUITE_P256_AESGCM_SHA256};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* The client's hello, taken whole. */
static size_t take_hello(struct pair *p, uint8_t *hello)
{
    CU_ASSERT_EQUAL_FATAL(pair_answer_all(p, p->client), CHV_OK);
    return pair_take(p->client, hello, CHV_HELLO_FRAME_MAX);
}

/* The refusal code in a reply frame, 0 if it is none. */
static unsigned refusal_in(const uint8_t *reply, size_t len)
{
    return len == 5 && reply[2] == CHV_REPLY_REFUSED ? chv_get_u16(reply + 3) : 0;
}

static void test_every_profile_and_suite(void)
{
    for (size_t i = 0; i < COUNT(profiles); i++)
        for (size_t j = 0; j < COUNT(suites); j++) {
            struct pair p;
            pair_open(&p, profiles[i], suites[j]);
            pair_connect(&p);
            struct chv_session_info c, s;
            CU_ASSERT_EQUAL(chv_session_get_info(p.client, &c), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_get_info(p.server, &s), CHV_OK);
            CU_ASSERT(memcmp(c.h_fin, s.h_fin, 32) == 0);
            CU_ASSERT(memcmp(c.lineage, s.lineage, CHV_LINEAGE_LEN) == 0);
            CU_ASSERT(!chv_is_zero(c.lineage, CHV_LINEAGE_LEN));
            CU_ASSERT_EQUAL(c.server_time, 1800000000);
            CU_ASSERT_EQUAL(c.idle_seconds, 77);
            CU_ASSERT_EQUAL(s.profile, profiles[i]);
            CU_ASSERT_EQUAL(s.suite, suites[j]);
            if (profiles[i] == CHV_PROFILE_KEY) {
                CU_ASSERT_PTR_NULL(s.credential);
            } else {
                CU_ASSERT_EQUAL_FATAL(s.credential_len, p.credential_len);
                CU_ASSERT(memcmp(s.credential, p.credential_bytes, p.credential_len) == 0);
            }
            if (profiles[i] == CHV_PROFILE_PSK) {
                CU_ASSERT_PTR_NULL(s.peer_public);
            } else {
                CU_ASSERT(memcmp(s.peer_public, p.client_identity.public_key, s.peer_public_len) == 0);
            }
            pair_close(&p);
        }
}

/* Two handshakes of the same client share nothing. */
static void test_sessions_differ(void)
{
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    pair_connect(&p);
    uint8_t first[32], second[32];
    CU_ASSERT_EQUAL(chv_session_export(p.client, "test", NULL, 0, first), CHV_OK);
    CU_ASSERT_EQUAL(pair_start(&p), CHV_OK);
    pair_connect(&p);
    CU_ASSERT_EQUAL(chv_session_export(p.client, "test", NULL, 0, second), CHV_OK);
    CU_ASSERT(memcmp(first, second, 32) != 0);
    pair_close(&p);
}

static void test_fed_at_every_boundary(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for (size_t i = 0; i < COUNT(profiles); i++) {
        struct pair p;
        pair_open(&p, profiles[i], CHV_SUITE_X25519_AESGCM_SHA256);
        size_t hello_len = take_hello(&p, hello), reply_len = 0;
        for (size_t cut = 0; cut <= hello_len; cut++) {
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            hello_len = take_hello(&p, hello);
            size_t used = 0;
            CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, cut, &used), CHV_OK);
            CU_ASSERT_EQUAL(used, cut);
            CU_ASSERT_EQUAL(pair_give(&p, p.server, hello + cut, hello_len - cut, hello_len + 1), CHV_OK);
            reply_len = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT(reply_len > 0);
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
            const size_t at = cut % (reply_len + 1);
            CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, at, at + 1), CHV_OK);
            CU_ASSERT_EQUAL(pair_give(&p, p.client, reply + at, reply_len - at, reply_len + 1), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
        }
        /* And byte by byte, output too. */
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        hello_len = take_hello(&p, hello);
        CU_ASSERT_EQUAL(pair_give(&p, p.server, hello, hello_len, 1), CHV_OK);
        const uint8_t *ptr;
        size_t n;
        while (chv_session_wants(p.server) & CHV_WANT_WRITE) {
            CU_ASSERT_EQUAL_FATAL(chv_session_send_peek(p.server, &ptr, &n), CHV_OK);
            const uint8_t one = ptr[0];
            CU_ASSERT_EQUAL_FATAL(chv_session_send_consume(p.server, 1), CHV_OK);
            CU_ASSERT_EQUAL_FATAL(pair_give(&p, p.client, &one, 1, 1), CHV_OK);
        }
        CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
        pair_close(&p);
    }
}

/* Bytes of the next frame are never taken by the handshake, wherever the answer to a question stands. */
static void test_takes_no_byte_too_many(void)
{
    for (size_t i = 0; i < COUNT(profiles); i++) {
        struct pair p;
        uint8_t hello[CHV_HELLO_FRAME_MAX + 64] = {0};
        pair_open(&p, profiles[i], CHV_SUITE_X25519_AESGCM_SHA256);
        size_t len = take_hello(&p, hello), used = 0;
        CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len + 64, &used), CHV_OK);
        CU_ASSERT_EQUAL(used, len);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY);
        CU_ASSERT_EQUAL(chv_session_recv(p.server, hello + len, 64, &used), CHV_ERR_STATE);
        CU_ASSERT_EQUAL(used, 0);
        CU_ASSERT_EQUAL(pair_answer_all(&p, p.server), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_recv(p.server, hello + len, 64, &used), CHV_ERR_STATE);
        CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_OK);
        pair_close(&p);
    }
}

/* The psk is asked for before the ephemeral DH, which precompute does while the answer travels. */
static void test_precompute(void)
{
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    struct test_fault count;
    test_fault_init(&count, &p.real);
    pair_stop(&p);
    p.server_crypto = count.crypto;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    size_t len = take_hello(&p, hello), used = 0;
    CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY);
    const unsigned long before = count.calls;
    CU_ASSERT_EQUAL(chv_session_precompute(p.server), CHV_OK);
    const unsigned long after = count.calls;
    CU_ASSERT(after > before);
    CU_ASSERT_EQUAL(chv_session_precompute(p.server), CHV_OK);
    CU_ASSERT_EQUAL(count.calls, after);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY);
    CU_ASSERT_EQUAL(pair_answer(&p, p.server), CHV_OK);
    len = pair_take(p.server, reply, sizeof reply);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
    CU_ASSERT_EQUAL(chv_session_precompute(p.client), CHV_OK);
    pair_close(&p);
    CU_ASSERT_EQUAL(count.open_dh + count.open_aead, 0);
}

static void test_driver_refuses(void)
{
    static const unsigned codes[] = {CHV_REFUSE_RATE, CHV_REFUSE_UNAVAILABLE};
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(codes); i++)
        for (int with_hello = 0; with_hello < 2; with_hello++) {
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            size_t used = 0, len = take_hello(&p, hello);
            if (with_hello)
                CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_UNKNOWN_KEY), CHV_ERR_ARGUMENT);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, codes[i]), CHV_OK);
            len = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT_EQUAL(refusal_in(reply, len), codes[i]);
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, codes[i]), CHV_ERR_KEY);
            CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_ERR_REFUSED);
        }
    pair_close(&p);
}

/* The keystore says that the client's point is bad: 400, and only for that question. */
static void test_bad_point_in_a_dh_question(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    const uint8_t zeros[CHV_KEY_LEN] = {0};
    struct chv_key_request q;
    for (unsigned profile = CHV_PROFILE_KEY; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (int answered = 0; answered < 2; answered++) {
            struct pair p;
            pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
            size_t used = 0, len = take_hello(&p, hello);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_MALFORMED), CHV_ERR_ARGUMENT);
            CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_request(p.server, &q), CHV_OK);
            CU_ASSERT_EQUAL(q.kind, CHV_KEY_DH);
            if (answered) /* es, then ss: the second point is the client's static key */
                CU_ASSERT_EQUAL(pair_answer(&p, p.server), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_request(p.server, &q), CHV_OK);
            CU_ASSERT_EQUAL(q.kind, CHV_KEY_DH);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_UNKNOWN_KEY), CHV_ERR_ARGUMENT);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_VERSION), CHV_ERR_ARGUMENT);
            CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_MALFORMED), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_ERR_MALFORMED);
            CU_ASSERT_EQUAL(chv_session_refusal(p.server), CHV_REFUSE_MALFORMED);
            CU_ASSERT_PTR_NOT_NULL(strstr(chv_session_note(p.server), "valid point"));
            len = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT_EQUAL(refusal_in(reply, len), CHV_REFUSE_MALFORMED);

            /* A driver that hands zeros over all the same: the stranger sees no difference. */
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            len = take_hello(&p, hello);
            CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
            if (answered)
                CU_ASSERT_EQUAL(pair_answer(&p, p.server), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_answer(p.server, zeros), CHV_ERR_AUTH);
            CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_ERR_AUTH);
            len = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT_EQUAL(refusal_in(reply, len), CHV_REFUSE_MALFORMED);
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);

            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_key_answer(p.client, zeros), CHV_ERR_AUTH);
            CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
            pair_close(&p);
        }
    /* Neither the allow-list nor the keeper may say it. */
    struct pair p;
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY; profile++) {
        pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        size_t used = 0, len = take_hello(&p, hello);
        CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
        while (chv_session_key_request(p.server, &q) == CHV_OK && q.kind == CHV_KEY_DH)
            CU_ASSERT_EQUAL_FATAL(pair_answer(&p, p.server), CHV_OK);
        CU_ASSERT_EQUAL(q.kind, profile == CHV_PROFILE_PSK ? CHV_KEY_PSK : CHV_KEY_PEER);
        CU_ASSERT_EQUAL(chv_session_key_refuse(p.server, CHV_REFUSE_MALFORMED), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_OK);
        pair_close(&p);
    }
}

static void test_unknown_static_key(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_KEY, CHV_SUITE_X25519_AESGCM_SHA256);
    p.peer_allowed = false;
    size_t len = take_hello(&p, hello);
    CU_ASSERT_EQUAL(pair_give(&p, p.server, hello, len, len), CHV_ERR_KEY);
    len = pair_take(p.server, reply, sizeof reply);
    CU_ASSERT_EQUAL(refusal_in(reply, len), CHV_REFUSE_UNKNOWN_KEY);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, len, len), CHV_ERR_REFUSED);
    pair_close(&p);
}

static void test_wrong_order_changes_nothing(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], frame[64] = {0}, secret[32] = {1};
    struct chv_key_request q;
    struct chv_session_info info;
    const uint8_t *ptr;
    size_t len, used = 0;
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_get_info(p.server, &info), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_WRITE);
    CU_ASSERT_EQUAL(chv_session_recv(p.client, hello, 1, &used), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_key_request(p.client, &q), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_key_answer(p.client, secret), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_key_refuse(p.client, 503), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_OPEN, frame, 4, &len), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_frame(p.client, frame, 2, &len), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_export(p.client, "x", NULL, 0, secret), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_send_consume(p.server, 0), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_send_peek(p.server, &ptr, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, 0);
    CU_ASSERT_EQUAL(chv_session_send_consume(p.client, 5000), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_session_precompute(p.server), CHV_OK);
    size_t hello_len = take_hello(&p, hello);
    CU_ASSERT_EQUAL(pair_give(&p, p.server, hello, 3, 1), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_recv(p.server, hello + 3, hello_len - 3, &used), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_key_answer(p.server, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(pair_answer_all(&p, p.server), CHV_OK);
    len = pair_take(p.server, hello, sizeof hello);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, hello, len, 7), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
    pair_close(&p);
}

/* The peer goes at every step. */
static void test_end_of_transport(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_eof(p.client, false), CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(chv_session_eof(p.server, false), CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    size_t used = 0, len = take_hello(&p, hello);
    CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_eof(p.server, false), CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(chv_session_key_answer(p.server, hello), CHV_ERR_TRUNCATED);
    pair_close(&p);
}

static void test_config_that_contradicts_itself(void)
{
    struct pair p;
    struct chv_session *s;
    struct chv_why why;
    pair_open(&p, CHV_PROFILE_KEY_PSK, CHV_SUITE_P256_AESGCM_SHA256);
    chv_session_wipe(p.client);
    p.client = NULL;
    const struct chv_session_config good = {.role = CHV_CLIENT,
                                            .crypto = &p.real,
                                            .profile = p.profile,
                                            .suite = p.suite,
                                            .credential = p.credential_bytes,
                                            .credential_len = p.credential_len,
                                            .peer_public = p.server_identity.public_key,
                                            .identity_public = {NULL, p.client_identity.public_key}};
    struct chv_session_config bad[6];
    for (size_t i = 0; i < COUNT(bad); i++)
        bad[i] = good;
    bad[0].credential_len--;
    bad[1].peer_public = NULL;
    bad[2].identity_public[CHV_CURVE_P256] = NULL;
    bad[3].suite = (enum chv_suite)9;
    bad[4].profile = (enum chv_profile)9;
    bad[5].credential = NULL;
    for (size_t i = 0; i < COUNT(bad); i++) {
        CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &bad[i], &s, &why), CHV_ERR_ARGUMENT);
        CU_ASSERT(strlen(why.text) > 0);
    }
    struct chv_session_config server = {.role = CHV_SERVER, .crypto = &p.real, .profiles = 2, .suites = 2};
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_OK);
    chv_session_wipe(s);
    server.suites = 0;
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_ERR_ARGUMENT);
    server.suites = 2;
    server.profiles = CHV_PROFILE_BIT(CHV_PROFILE_KEY);
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_ERR_ARGUMENT);
    server.profiles = 2;
    server.suites = 1u << 9;
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_ERR_ARGUMENT);

    /* A backend that lacks a part: both roles say which. */
    static const struct {
        uint32_t bit;
        const char *name;
    } missing[] = {{CHV_CAP_CURVE(CHV_CURVE_P256), "P256"},
                   {CHV_CAP_AEAD(CHV_AEAD_AES256GCM), "AESGCM"},
                   {CHV_CAP_HASH(CHV_HASH_SHA256), "SHA256"}};
    for (size_t i = 0; i < COUNT(missing); i++) {
        struct chv_crypto poor = p.real;
        poor.capabilities &= ~missing[i].bit;
        struct chv_session_config config = good;
        config.crypto = &poor;
        CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &config, &s, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, missing[i].name));
        struct chv_session_config serving = {
            .role = CHV_SERVER, .crypto = &poor, .profiles = 2, .suites = CHV_SUITE_BIT(3)};
        CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &serving, &s, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, missing[i].name));
    }
    pair_close(&p);
}

/* Each backend call of either side fails once: no handle left, the error sticks, nothing opens. */
static void test_backend_fails_at_every_call(void)
{
    for (size_t i = 0; i < COUNT(profiles); i++)
        for (int failing_client = 0; failing_client < 2; failing_client++) {
            struct pair p;
            struct test_fault fault;
            pair_open(&p, profiles[i], CHV_SUITE_X25519_AESGCM_SHA256);
            test_fault_init(&fault, &p.real);
            pair_stop(&p);
            if (failing_client)
                p.client_crypto = fault.crypto;
            else
                p.server_crypto = fault.crypto;
            unsigned long n = 1;
            for (;; n++) {
                test_fault_arm(&fault, 0);
                chv_session_wipe(p.client);
                chv_session_wipe(p.server);
                p.client = p.server = NULL;
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
                struct chv_session *victim = failing_client ? p.client : p.server;
                CU_ASSERT_EQUAL(chv_session_wants(victim), CHV_WANT_CLOSED);
                CU_ASSERT_NOT_EQUAL(chv_session_error(victim), CHV_OK);
                /* Its own trouble is not put down to the client's hello; 0: message 2 had been sent. */
                const unsigned refusal = chv_session_refusal(p.server);
                CU_ASSERT(failing_client || refusal == CHV_REFUSE_UNAVAILABLE || refusal == 0);
                CU_ASSERT_EQUAL(fault.open_dh + fault.open_aead, 0);
            }
            CU_ASSERT(n > 10);
            CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN);
            pair_close(&p);
        }
}

static void test_wipe_leaves_nothing(void)
{
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    pair_connect(&p);
    chv_session_wipe(p.client);
    const uint8_t *bytes = p.client_memory;
    size_t nonzero = 0;
    for (size_t i = 0; i < chv_session_size(); i++)
        nonzero += bytes[i] != 0;
    CU_ASSERT(nonzero <= 16); /* phase, error and note of a session that is over */
    chv_session_wipe(p.client);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
    pair_close(&p);
}

static void test_names(void)
{
    enum chv_suite suite;
    enum chv_profile profile;
    for (size_t i = 0; i < COUNT(suites); i++) {
        CU_ASSERT_EQUAL(chv_suite_find(chv_suite_name(suites[i]), &suite), CHV_OK);
        CU_ASSERT_EQUAL(suite, suites[i]);
        CU_ASSERT_EQUAL(chv_profile_find(chv_profile_name(profiles[i]), &profile), CHV_OK);
        CU_ASSERT_EQUAL(profile, profiles[i]);
    }
    CU_ASSERT_EQUAL(chv_suite_find("x448", &suite), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_profile_find("", &profile), CHV_ERR_NOT_FOUND);
    CU_ASSERT_STRING_EQUAL(chv_suite_name((enum chv_suite)0), "?");
    CU_ASSERT_STRING_EQUAL(chv_profile_name((enum chv_profile)77), "?");
}

/* A server with one identity key serves key and key+psk on its curve only, and psk on all. */
static void test_suite_of_another_curve(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        struct pair p;
        size_t used;
        pair_open(&p, (enum chv_profile)profile, CHV_SUITE_P256_AESGCM_SHA256);
        CU_ASSERT_EQUAL(pair_answer_all(&p, p.client), CHV_OK);
        const size_t len = pair_take(p.client, hello, sizeof hello);
        const uint8_t x25519[32] = {9};
        struct chv_session_config server = {
            .role = CHV_SERVER,
            .crypto = &p.real,
            .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK) | CHV_PROFILE_BIT(CHV_PROFILE_KEY) |
                        CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK),
            .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256) | CHV_SUITE_BIT(CHV_SUITE_P256_AESGCM_SHA256),
            .identity_public = {[CHV_CURVE_25519] = x25519},
        };
        chv_session_wipe(p.server);
        CU_ASSERT_EQUAL_FATAL(chv_session_init(p.server_memory, &server, &p.server, NULL), CHV_OK);
        enum chv_err err = chv_session_recv(p.server, hello, len, &used);
        if (profile == CHV_PROFILE_PSK) {
            CU_ASSERT_EQUAL(err, CHV_OK);
        } else {
            CU_ASSERT_EQUAL(err, CHV_ERR_PROTOCOL);
            CU_ASSERT_EQUAL(chv_session_refusal(p.server), CHV_REFUSE_VERSION);
            CU_ASSERT_EQUAL(pair_take(p.server, reply, sizeof reply), 5);
        }
        chv_session_wipe(p.server);
        server.suites = CHV_SUITE_BIT(CHV_SUITE_P256_AESGCM_SHA256); /* no suite for its only key */
        CU_ASSERT_EQUAL(chv_session_init(p.server_memory, &server, &p.server, NULL), CHV_ERR_ARGUMENT);
        p.server = NULL;
        pair_close(&p);
    }
}

TEST_MAIN("core/handshake", {"every profile and suite", test_every_profile_and_suite},
          {"sessions differ", test_sessions_differ}, {"fed at every boundary", test_fed_at_every_boundary},
          {"takes no byte too many", test_takes_no_byte_too_many}, {"precompute", test_precompute},
          {"driver refuses", test_driver_refuses}, {"bad point in a DH question", test_bad_point_in_a_dh_question},
          {"unknown static key", test_unknown_static_key}, {"suite of another curve", test_suite_of_another_curve},
          {"wrong order changes nothing", test_wrong_order_changes_nothing},
          {"end of transport", test_end_of_transport},
          {"config that contradicts itself", test_config_that_contradicts_itself},
          {"backend fails at every call", test_backend_fails_at_every_call},
          {"wipe leaves nothing", test_wipe_leaves_nothing}, {"names", test_names})
