/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes of the session: who gets in, who does not, and what a hostile network can do to the frames. */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/noise.h"
#include "core/symmetric.h"
#include "core/wire.h"

#include <string.h>

static const char cannot_prove[] =
    "the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)";

static const enum chv_profile profiles[] = {CHV_PROFILE_PSK, CHV_PROFILE_KEY, CHV_PROFILE_KEY_PSK};
static const enum chv_suite suites[] = {CHV_SUITE_X25519_AESGCM_SHA256, CHV_SUITE_X25519_CHACHAPOLY_SHA256,
                                        CHV_SUITE_P256_AESGCM_SHA256};
#define EACH(i, table) (size_t i = 0; i < sizeof(table) / sizeof(table)[0]; i++)

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

/* Gives `hello` to a fresh server and returns the refusal in its reply; *reply_len may be NULL. */
static unsigned answer_to(struct pair *p, const uint8_t *hello, size_t len, uint8_t *reply, size_t *reply_len)
{
    enum chv_err err = pair_give(p, p->server, hello, len, len + 1);
    size_t n = pair_take(p->server, reply, CHV_REPLY_FRAME_MAX);
    if (reply_len != NULL)
        *reply_len = n;
    unsigned code = refusal_in(reply, n);
    CU_ASSERT_EQUAL(chv_session_refusal(p->server), code);
    if (code != 0) {
        CU_ASSERT_NOT_EQUAL(err, CHV_OK);
        CU_ASSERT_EQUAL(chv_session_wants(p->server), CHV_WANT_CLOSED);
        CU_ASSERT_EQUAL(chv_session_error(p->server), err);
        CU_ASSERT(strlen(chv_session_note(p->server)) > 0);
    }
    return code;
}

static void test_every_profile_and_suite(void)
{
    for
        EACH(i, profiles)
        for
            EACH(j, suites)
            {
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
    for
        EACH(i, profiles)
        {
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
    for
        EACH(i, profiles)
        {
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

static void test_each_byte_of_hello_flipped(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for
        EACH(i, profiles)
        {
            struct pair p;
            pair_open(&p, profiles[i], CHV_SUITE_X25519_AESGCM_SHA256);
            const size_t len = take_hello(&p, hello);
            for (size_t at = 0; at < len; at++)
                for (unsigned bit = 0; bit < 8; bit += 7) {
                    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
                    hello[at] ^= (uint8_t)(1u << bit);
                    unsigned code = answer_to(&p, hello, len, reply, NULL);
                    hello[at] ^= (uint8_t)(1u << bit);
                    if (at < 2 && code == 0) { /* a longer frame is waited for */
                        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_READ);
                    } else if (code != CHV_REFUSE_MALFORMED && code != CHV_REFUSE_VERSION) {
                        CU_ASSERT_EQUAL(code, CHV_REFUSE_TICKET); /* kind 0 or 1 flipped into 2 */
                        CU_ASSERT_EQUAL(at, 2 + 6);
                    }
                    CU_ASSERT_NOT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
                }
            pair_close(&p);
        }
}

static void test_each_byte_of_reply_flipped(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for
        EACH(i, profiles)
        {
            struct pair p;
            size_t reply_len = 1;
            pair_open(&p, profiles[i], CHV_SUITE_P256_AESGCM_SHA256);
            for (size_t at = 0; at < reply_len; at++) {
                CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
                size_t hello_len = take_hello(&p, hello);
                CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &reply_len), 0);
                reply[at] ^= 0x01;
                enum chv_err err = pair_give(&p, p.client, reply, reply_len, reply_len);
                const bool waits_for_more = at < 2 && err == CHV_OK && chv_session_wants(p.client) == CHV_WANT_READ;
                CU_ASSERT(waits_for_more || chv_session_wants(p.client) == CHV_WANT_CLOSED);
                if (at >= 3 && !waits_for_more)
                    CU_ASSERT(err == CHV_ERR_AUTH || err == CHV_ERR_MALFORMED);
            }
            pair_close(&p);
        }
}

static void test_every_kind_with_every_profile(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for (unsigned profile = 0; profile <= 4; profile++)
        for (unsigned kind = 0; kind <= 255; kind++) {
            struct pair p;
            pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
            const size_t len = take_hello(&p, hello);
            struct chv_session_config all = {
                .role = CHV_SERVER,
                .crypto = &p.real,
                .profiles = CHV_PROFILE_BIT(1) | CHV_PROFILE_BIT(2) | CHV_PROFILE_BIT(3),
                .suites = CHV_SUITE_BIT(1),
                .identity_public = {p.server_identity.public_key},
            };
            chv_session_wipe(p.server);
            CU_ASSERT_EQUAL_FATAL(chv_session_init(p.server_memory, &all, &p.server, NULL), CHV_OK);
            hello[2 + 4] = (uint8_t)profile;
            hello[2 + 6] = (uint8_t)kind;
            unsigned code = answer_to(&p, hello, len, reply, NULL);
            unsigned expected = CHV_REFUSE_MALFORMED;
            if (profile < 1 || profile > 3)
                expected = CHV_REFUSE_VERSION;
            else if (profile == CHV_PROFILE_PSK && kind == 1)
                expected = 0;
            else if (profile == CHV_PROFILE_PSK && kind == 2)
                expected = CHV_REFUSE_TICKET;
            CU_ASSERT_EQUAL(code, expected);
            pair_close(&p);
        }
}

static void test_unserved_version_profile_suite(void)
{
    static const struct {
        size_t at;
        uint8_t value;
        unsigned code;
    } cases[] = {{2, 'c', CHV_REFUSE_MALFORMED},  {5, 0, CHV_REFUSE_VERSION},   {5, 2, CHV_REFUSE_VERSION},
                 {6, 2, CHV_REFUSE_VERSION},      {7, 0, CHV_REFUSE_VERSION},   {7, 2, CHV_REFUSE_VERSION},
                 {7, 200, CHV_REFUSE_VERSION},    {9, 1, CHV_REFUSE_MALFORMED}, {10, 0xff, CHV_REFUSE_MALFORMED},
                 {12, 0xff, CHV_REFUSE_MALFORMED}};
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    const size_t len = take_hello(&p, hello);
    for
        EACH(i, cases)
        {
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            const uint8_t kept = hello[cases[i].at];
            hello[cases[i].at] = cases[i].value;
            CU_ASSERT_EQUAL(answer_to(&p, hello, len, reply, NULL), cases[i].code);
            hello[cases[i].at] = kept;
        }
    pair_close(&p);
}

static void test_impossible_lengths(void)
{
    static const uint8_t zero[2] = {0, 0}, oversized[2] = {0x07, 0xff}, huge[2] = {0xff, 0xff};
    uint8_t reply[CHV_REPLY_FRAME_MAX];
    const uint8_t *const bad[] = {zero, oversized, huge};
    for
        EACH(i, bad)
        {
            struct pair p;
            pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
            CU_ASSERT_EQUAL(answer_to(&p, bad[i], 2, reply, NULL), CHV_REFUSE_MALFORMED);
            uint8_t hello[CHV_HELLO_FRAME_MAX];
            (void)take_hello(&p, hello);
            CU_ASSERT_EQUAL(pair_give(&p, p.client, bad[i], 2, 2), CHV_ERR_MALFORMED);
            CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
            pair_close(&p);
        }
    /* Every length of hello that is cut short or has something behind it. */
    struct pair p;
    uint8_t hello[CHV_HELLO_FRAME_MAX] = {0};
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    const size_t len = take_hello(&p, hello);
    for (size_t n = 3; n <= sizeof hello; n += n < 2 * len ? 1 : 97) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        chv_put_u16(hello, (uint16_t)(n - 2));
        CU_ASSERT_EQUAL(answer_to(&p, hello, n, reply, NULL), n == len ? 0 : CHV_REFUSE_MALFORMED);
    }
    pair_close(&p);
}

/* What the server's answer looks like must not depend on who is refused later. */
static void test_wrong_key_server_epoch_and_scope_look_the_same(void)
{
    enum { GOOD, WRONG_KEY, WRONG_SERVER, UNKNOWN_EPOCH, MORE_SCOPES, OTHER_ID, LATER_EXPIRY, CASES };
    size_t good_len = 0;
    for (int i = GOOD; i < CASES; i++) {
        struct pair p;
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        uint8_t access[32];
        memcpy(access, p.access, sizeof access);
        switch (i) {
        case WRONG_KEY:
            access[31] ^= 1;
            break;
        case WRONG_SERVER:
            p.wanted_server = "away";
            break;
        case UNKNOWN_EPOCH:
            p.epoch_known = false;
            break;
        case MORE_SCOPES:
            CU_ASSERT_EQUAL(chv_credential_add_scope(&p.credential, "files:rw"), CHV_OK);
            pair_provision(&p);
            break;
        case OTHER_ID:
            p.credential.id[0] = '2';
            pair_provision(&p);
            break;
        case LATER_EXPIRY:
            p.credential.not_after = 4000000000;
            pair_provision(&p);
            break;
        default:
            break;
        }
        memcpy(p.access, access, sizeof access); /* the key that was given for the first credential */
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);

        uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
        size_t reply_len = 0, hello_len = take_hello(&p, hello);
        CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &reply_len), 0);
        if (i == GOOD)
            good_len = reply_len;
        CU_ASSERT_EQUAL(reply_len, good_len);
        enum chv_err err = pair_give(&p, p.client, reply, reply_len, reply_len);
        CU_ASSERT_EQUAL(err, i == GOOD ? CHV_OK : CHV_ERR_AUTH);
        CU_ASSERT_STRING_EQUAL(chv_session_note(p.client), i == GOOD ? "" : cannot_prove);
        pair_close(&p);
    }
}

/* A hello sent again gets an answer, which is of no use without the ephemeral key. */
static void test_replayed_hello(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX], frame[256], copy[256];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    size_t hello_len = take_hello(&p, hello), reply_len = 0;
    CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &reply_len), 0);
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, reply_len, reply_len), CHV_OK);
    size_t len = pair_seal(p.client, CHV_RECORD_OPEN, "open", 4, frame);
    memcpy(copy, frame, len);

    uint8_t type;
    const uint8_t *body;
    size_t body_len;
    CU_ASSERT_EQUAL(chv_session_open(p.server, frame, len, &type, &body, &body_len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &reply_len), 0);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
    CU_ASSERT_EQUAL(chv_session_open(p.server, copy, len, &type, &body, &body_len), CHV_ERR_AUTH);
    pair_close(&p);
}

static void test_forged_refusals(void)
{
    for (unsigned code = 0; code < 600; code++) {
        uint8_t hello[CHV_HELLO_FRAME_MAX];
        const uint8_t forged[] = {0, 3, CHV_REPLY_REFUSED, (uint8_t)(code >> 8), (uint8_t)code};
        struct pair p;
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        (void)take_hello(&p, hello);
        enum chv_err err = pair_give(&p, p.client, forged, sizeof forged, sizeof forged);
        CU_ASSERT_EQUAL(err, chv_refusal_known(code) ? CHV_ERR_REFUSED : CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(chv_session_refusal(p.client), chv_refusal_known(code) ? code : 0);
        CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
        pair_close(&p);
    }
}

static void test_driver_refuses(void)
{
    static const unsigned codes[] = {CHV_REFUSE_RATE, CHV_REFUSE_UNAVAILABLE};
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for
        EACH(i, codes)
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

/* A pinned key that is not the server's: the server cannot read message 1. */
static void test_wrong_pinned_key(void)
{
    for (unsigned profile = CHV_PROFILE_KEY; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
        struct pair p, other;
        pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        pair_open(&other, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        size_t len = take_hello(&other, hello);
        CU_ASSERT_EQUAL(answer_to(&p, hello, len, reply, NULL), CHV_REFUSE_MALFORMED);
        pair_close(&p);
        pair_close(&other);
    }
}

/* A's static key with B's credential (and B's access key). */
static void test_identity_of_another(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX], frame[256];
    size_t hello_len, reply_len = 0, good_len = 0;
    struct pair p;
    pair_open(&p, CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    hello_len = take_hello(&p, hello);
    CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &good_len), 0);

    p.credential.identity_hash[5] ^= 1;
    pair_provision(&p);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    hello_len = take_hello(&p, hello);
    CU_ASSERT_EQUAL(answer_to(&p, hello, hello_len, reply, &reply_len), 0);
    CU_ASSERT_EQUAL(reply_len, good_len);
    CU_ASSERT_STRING_EQUAL(chv_session_note(p.server), "the credential belongs to another identity key");
    CU_ASSERT_EQUAL(pair_give(&p, p.client, reply, reply_len, reply_len), CHV_ERR_AUTH);
    CU_ASSERT_STRING_EQUAL(chv_session_note(p.client), cannot_prove);

    uint8_t type;
    const uint8_t *body;
    size_t body_len;
    memset(frame, 0, sizeof frame);
    frame[1] = 30;
    CU_ASSERT_EQUAL(chv_session_open(p.server, frame, 32, &type, &body, &body_len), CHV_ERR_AUTH);
    CU_ASSERT_STRING_EQUAL(chv_session_note(p.server), "the credential belongs to another identity key");
    pair_close(&p);
}

/* A key+psk credential is worth nothing in profile psk, at either end. */
static void test_credential_of_another_profile(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    p.credential.profile = CHV_PROFILE_KEY_PSK;
    p.credential.has_identity = true;
    pair_provision(&p);
    chv_session_wipe(p.client);
    p.client = NULL;
    struct chv_why why;
    struct chv_session *unused;
    struct chv_session_config config = {.role = CHV_CLIENT,
                                        .crypto = &p.real,
                                        .profile = CHV_PROFILE_PSK,
                                        .suite = p.suite,
                                        .credential = p.credential_bytes,
                                        .credential_len = p.credential_len};
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &config, &unused, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "key+psk"));

    /* A client that does it all the same: its hello made by hand, message 1 being right for it. */
    struct chv_noise noise;
    struct chv_noise_pattern pattern;
    bool done = false;
    size_t prologue_len = chv_hello_write_prologue(hello + 2, CHV_PROFILE_PSK, p.suite, CHV_HELLO_CREDENTIAL,
                                                   p.credential_bytes, p.credential_len);
    CU_ASSERT_EQUAL_FATAL(chv_noise_pattern_find("NNpsk2", &pattern), CHV_OK);
    const struct chv_noise_config raw = {
        .crypto = &p.real, .pattern = &pattern, .initiator = true, .prologue = hello + 2, .prologue_len = prologue_len};
    CU_ASSERT_EQUAL_FATAL(chv_noise_init(&noise, &raw), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_write(&noise, NULL, 0, hello + 2 + prologue_len, 200), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_run(&noise, &done), CHV_OK);
    CU_ASSERT(done);
    const size_t body = prologue_len + chv_noise_written(&noise);
    chv_noise_wipe(&noise);
    chv_put_u16(hello, (uint16_t)body);
    CU_ASSERT_EQUAL(answer_to(&p, hello, body + 2, reply, NULL), CHV_REFUSE_MALFORMED);
    pair_close(&p);
}

/*
 * A hello whose message 1 is right in every way but for its ephemeral: not a point of P-256, or one of the X25519
 * points whose result is all zeros (RFC 7748, 6.1).  The tag can be made by anyone: message 1 of NNpsk2 holds no
 * secret.
 */
static void test_bad_ephemeral(void)
{
    static const struct {
        enum chv_suite suite;
        const char *name;
        uint8_t first;
    } cases[] = {{CHV_SUITE_X25519_AESGCM_SHA256, "Noise_NNpsk2_25519_AESGCM_SHA256", 0},
                 {CHV_SUITE_X25519_AESGCM_SHA256, "Noise_NNpsk2_25519_AESGCM_SHA256", 1},
                 {CHV_SUITE_P256_AESGCM_SHA256, "Noise_NNpsk2_P256_AESGCM_SHA256", 0},
                 {CHV_SUITE_P256_AESGCM_SHA256, "Noise_NNpsk2_P256_AESGCM_SHA256", 4}};
    for
        EACH(i, cases)
        {
            uint8_t hello[CHV_HELLO_FRAME_MAX] = {0}, reply[CHV_REPLY_FRAME_MAX];
            struct pair p;
            pair_open(&p, CHV_PROFILE_PSK, cases[i].suite);
            const struct chv_suite_parts *parts = chv_suite_parts(cases[i].suite);
            const size_t e_len = chv_dh_public_len(parts->curve);
            const size_t prologue_len = chv_hello_write_prologue(
                hello + 2, CHV_PROFILE_PSK, cases[i].suite, CHV_HELLO_CREDENTIAL, p.credential_bytes, p.credential_len);
            uint8_t *e = hello + 2 + prologue_len;
            e[0] = cases[i].first;

            struct chv_noise_symmetric ss;
            CU_ASSERT_EQUAL_FATAL(chv_symmetric_init(&ss, &p.real, parts->hash, parts->aead, cases[i].name), CHV_OK);
            CU_ASSERT_EQUAL(chv_symmetric_mix_hash(&ss, hello + 2, prologue_len), CHV_OK);
            CU_ASSERT_EQUAL(chv_symmetric_mix_hash(&ss, e, e_len), CHV_OK);
            CU_ASSERT_EQUAL(chv_symmetric_mix_key(&ss, e, e_len), CHV_OK);
            CU_ASSERT_EQUAL(chv_symmetric_encrypt_and_hash(&ss, NULL, 0, e + e_len), CHV_OK);
            chv_symmetric_wipe(&ss);

            const size_t body = prologue_len + e_len + CHV_AEAD_TAG_LEN;
            chv_put_u16(hello, (uint16_t)body);
            size_t used = 0;
            CU_ASSERT_EQUAL(chv_session_recv(p.server, hello, body + 2, &used), CHV_OK);
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_KEY); /* message 1 did open */
            CU_ASSERT_EQUAL(answer_to(&p, hello, 0, reply, NULL), CHV_REFUSE_MALFORMED);
            pair_close(&p);
        }
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
    for
        EACH(i, bad)
    bad[i] = good;
    bad[0].credential_len--;
    bad[1].peer_public = NULL;
    bad[2].identity_public[CHV_CURVE_P256] = NULL;
    bad[3].suite = (enum chv_suite)9;
    bad[4].profile = (enum chv_profile)9;
    bad[5].credential = NULL;
    for
        EACH(i, bad)
        {
            CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &bad[i], &s, &why), CHV_ERR_ARGUMENT);
            CU_ASSERT(strlen(why.text) > 0);
        }
    struct chv_session_config server = {.role = CHV_SERVER, .crypto = &p.real, .profiles = 2, .suites = 2};
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_OK);
    chv_session_wipe(s);
    server.profiles = 0;
    CU_ASSERT_EQUAL(chv_session_init(p.client_memory, &server, &s, &why), CHV_ERR_ARGUMENT);
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
    for
        EACH(i, missing)
        {
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
    for
        EACH(i, profiles)
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
    for
        EACH(i, suites)
        {
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

TEST_MAIN("core/handshake", {"every profile and suite", test_every_profile_and_suite},
          {"sessions differ", test_sessions_differ}, {"fed at every boundary", test_fed_at_every_boundary},
          {"takes no byte too many", test_takes_no_byte_too_many}, {"precompute", test_precompute},
          {"each byte of the hello flipped", test_each_byte_of_hello_flipped},
          {"each byte of the reply flipped", test_each_byte_of_reply_flipped},
          {"every kind with every profile", test_every_kind_with_every_profile},
          {"version, profile, suite not served", test_unserved_version_profile_suite},
          {"impossible lengths", test_impossible_lengths},
          {"wrong key, server, epoch, scope look the same", test_wrong_key_server_epoch_and_scope_look_the_same},
          {"replayed hello", test_replayed_hello}, {"forged refusals", test_forged_refusals},
          {"driver refuses", test_driver_refuses}, {"unknown static key", test_unknown_static_key},
          {"wrong pinned key", test_wrong_pinned_key}, {"identity of another", test_identity_of_another},
          {"credential of another profile", test_credential_of_another_profile}, {"bad ephemeral", test_bad_ephemeral},
          {"wrong order changes nothing", test_wrong_order_changes_nothing},
          {"end of transport", test_end_of_transport},
          {"config that contradicts itself", test_config_that_contradicts_itself},
          {"backend fails at every call", test_backend_fails_at_every_call},
          {"wipe leaves nothing", test_wipe_leaves_nothing}, {"names", test_names})
