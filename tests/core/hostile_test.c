/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile network, and a client that lies, can do to a handshake: nothing but end it. */
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

static void test_each_byte_of_hello_flipped(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for (size_t i = 0; i < COUNT(profiles); i++) {
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
                } else {
                    CU_ASSERT(code == CHV_REFUSE_MALFORMED || code == CHV_REFUSE_VERSION);
                }
                CU_ASSERT_NOT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
            }
        pair_close(&p);
    }
}

static void test_each_byte_of_reply_flipped(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];
    for (size_t i = 0; i < COUNT(profiles); i++) {
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
    for (size_t i = 0; i < COUNT(cases); i++) {
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
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pair p;
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        CU_ASSERT_EQUAL(answer_to(&p, bad[i], 2, reply, NULL), CHV_REFUSE_MALFORMED);
        CU_ASSERT_STRING_EQUAL(chv_session_note(p.server), "hello: impossible length"); /* before anything else */
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

/*
 * A client that lies, its message 1 being right for the lie: what refuses it is the check, not the tag.  `hello` has the
 * prologue behind its length; the length of the whole frame.
 */
static size_t lie(struct pair *p, uint8_t *hello, size_t prologue_len, const uint8_t *payload, size_t payload_len)
{
    struct chv_noise noise;
    struct chv_noise_pattern pattern;
    uint8_t secret[CHV_KEY_LEN];
    bool done = false;
    const bool psk = p->profile == CHV_PROFILE_PSK;
    const struct chv_suite_parts *parts = chv_suite_parts(p->suite);
    CU_ASSERT_EQUAL_FATAL(chv_noise_pattern_find(chv_profile_pattern(p->profile), &pattern), CHV_OK);
    const struct chv_noise_config config = {.crypto = &p->real,
                                            .pattern = &pattern,
                                            .curve = parts->curve,
                                            .cipher = parts->aead,
                                            .hash = parts->hash,
                                            .initiator = true,
                                            .prologue = hello + 2,
                                            .prologue_len = prologue_len,
                                            .s_public = psk ? NULL : p->client_identity.public_key,
                                            .rs = psk ? NULL : p->server_identity.public_key};
    CU_ASSERT_EQUAL_FATAL(chv_noise_init(&noise, &config), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(
        chv_noise_write(&noise, payload, payload_len, hello + 2 + prologue_len, CHV_HELLO_BODY_MAX - prologue_len),
        CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_run(&noise, &done), CHV_OK);
    const uint8_t *point;
    size_t len;
    while (chv_noise_need(&noise, &point, &len) == CHV_NOISE_NEED_DH) {
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_derive(&p->real, p->client_identity.key, point, secret), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_noise_answer(&noise, secret), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_noise_run(&noise, &done), CHV_OK);
    }
    CU_ASSERT_FATAL(done);
    const size_t body = prologue_len + chv_noise_written(&noise);
    chv_noise_wipe(&noise);
    chv_put_u16(hello, (uint16_t)body);
    return body + 2;
}

/* The lie's refusal by a server that would take every profile, 0 if it was taken. */
static unsigned answer_to_lie(struct pair *p, uint8_t *hello, size_t prologue_len, const uint8_t *payload,
                              size_t payload_len)
{
    uint8_t reply[CHV_REPLY_FRAME_MAX];
    const struct chv_session_config all = {
        .role = CHV_SERVER,
        .crypto = &p->real,
        .profiles = CHV_PROFILE_BIT(1) | CHV_PROFILE_BIT(2) | CHV_PROFILE_BIT(3),
        .suites = CHV_SUITE_BIT(1),
        .identity_public = {p->server_identity.public_key},
    };
    chv_session_wipe(p->server);
    CU_ASSERT_EQUAL_FATAL(chv_session_init(p->server_memory, &all, &p->server, NULL), CHV_OK);
    const size_t len = lie(p, hello, prologue_len, payload, payload_len);
    return answer_to(p, hello, len, reply, NULL);
}

static void test_lies_in_the_prologue(void)
{
    /* offsets in the body */
    static const struct {
        size_t at;
        uint8_t value;
        unsigned code;
    } cases[] = {{0, 'C', 0},
                 {0, 'c', CHV_REFUSE_MALFORMED},
                 {2, 'v', CHV_REFUSE_MALFORMED},
                 {3, 0, CHV_REFUSE_VERSION},
                 {3, 2, CHV_REFUSE_VERSION},
                 {6, 0, CHV_REFUSE_MALFORMED},
                 {6, 2, CHV_REFUSE_TICKET},
                 {6, 3, CHV_REFUSE_MALFORMED},
                 {7, 1, CHV_REFUSE_MALFORMED},
                 {7, 0x80, CHV_REFUSE_MALFORMED},
                 {10, 2, CHV_REFUSE_MALFORMED},    /* the credential's version */
                 {11, 3, CHV_REFUSE_MALFORMED},    /* its profile */
                 {15, 0, CHV_REFUSE_MALFORMED},    /* epoch 0 */
                 {19, 0, CHV_REFUSE_MALFORMED},    /* serial 0 */
                 {29, '-', CHV_REFUSE_MALFORMED},  /* the id's first character */
                 {33, 'M', CHV_REFUSE_MALFORMED}}; /* the scope's */
    uint8_t hello[CHV_HELLO_FRAME_MAX];
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const size_t len = chv_hello_write_prologue(hello + 2, CHV_PROFILE_PSK, p.suite, CHV_HELLO_CREDENTIAL,
                                                    p.credential_bytes, p.credential_len);
        hello[2 + cases[i].at] = cases[i].value;
        CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, NULL, 0), cases[i].code);
    }
    /* A byte behind the credential, and a payload where there is none. */
    uint8_t longer[CHV_CREDENTIAL_MAX + 1] = {0};
    memcpy(longer, p.credential_bytes, p.credential_len);
    size_t len = chv_hello_write_prologue(hello + 2, CHV_PROFILE_PSK, p.suite, CHV_HELLO_CREDENTIAL, longer,
                                          p.credential_len + 1);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, NULL, 0), CHV_REFUSE_MALFORMED);
    len = chv_hello_write_prologue(hello + 2, CHV_PROFILE_PSK, p.suite, CHV_HELLO_CREDENTIAL, p.credential_bytes,
                                   p.credential_len);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, longer, 1), CHV_REFUSE_MALFORMED);
    pair_close(&p);

    /* Kinds that go with psk only; bytes where kind 0 has none. */
    for (unsigned profile = CHV_PROFILE_KEY; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
        const size_t payload_len = profile == CHV_PROFILE_KEY ? 0 : CHV_PADDED_CREDENTIAL_LEN;
        memset(longer, 0, sizeof longer);
        memcpy(longer, p.credential_bytes, p.credential_len);
        for (unsigned kind = 0; kind < 4; kind++) {
            len = chv_hello_write_prologue(hello + 2, p.profile, p.suite, (enum chv_hello_kind)kind, NULL, 0);
            CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, longer, payload_len), kind == 0 ? 0 : CHV_REFUSE_MALFORMED);
        }
        len = chv_hello_write_prologue(hello + 2, p.profile, p.suite, CHV_HELLO_NOTHING, longer, 1);
        CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, longer, payload_len), CHV_REFUSE_MALFORMED);
        pair_close(&p);
    }
}

/* Message 1 of key carries nothing, that of key+psk a credential of that profile in 512 bytes, zeros behind it. */
static void test_lies_in_the_payload(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], payload[CHV_PADDED_CREDENTIAL_LEN + 1] = {0};
    struct pair p;
    pair_open(&p, CHV_PROFILE_KEY, CHV_SUITE_X25519_AESGCM_SHA256);
    size_t len = chv_hello_write_prologue(hello + 2, p.profile, p.suite, CHV_HELLO_NOTHING, NULL, 0);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, 0), 0);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, 1), CHV_REFUSE_MALFORMED);
    pair_close(&p);

    pair_open(&p, CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    len = chv_hello_write_prologue(hello + 2, p.profile, p.suite, CHV_HELLO_NOTHING, NULL, 0);
    memcpy(payload, p.credential_bytes, p.credential_len);
    const size_t good = CHV_PADDED_CREDENTIAL_LEN;
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, good), 0);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, 0), CHV_REFUSE_MALFORMED);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, p.credential_len), CHV_REFUSE_MALFORMED);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, good - 1), CHV_REFUSE_MALFORMED);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, good + 1), CHV_REFUSE_MALFORMED);
    const size_t behind[] = {p.credential_len, good - 1};
    for (size_t i = 0; i < COUNT(behind); i++) {
        payload[behind[i]] = 1;
        CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, good), CHV_REFUSE_MALFORMED);
        payload[behind[i]] = 0;
    }
    p.credential.profile = CHV_PROFILE_PSK;
    p.credential.has_identity = false;
    pair_provision(&p);
    memset(payload, 0, sizeof payload);
    memcpy(payload, p.credential_bytes, p.credential_len);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, payload, good), CHV_REFUSE_MALFORMED);
    pair_close(&p);
}

/* A key+psk credential is worth nothing in profile psk, at either end. */
static void test_credential_of_another_profile(void)
{
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

    /* A client that does it all the same. */
    uint8_t hello[CHV_HELLO_FRAME_MAX];
    const size_t len = chv_hello_write_prologue(hello + 2, CHV_PROFILE_PSK, p.suite, CHV_HELLO_CREDENTIAL,
                                                p.credential_bytes, p.credential_len);
    CU_ASSERT_EQUAL(answer_to_lie(&p, hello, len, NULL, 0), CHV_REFUSE_MALFORMED);
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
    for (size_t i = 0; i < COUNT(cases); i++) {
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

/* Bytes of a fixed generator (Marsaglia's xorshift), half of them behind a right beginning: no crash, nobody gets in.
 */
static void test_garbage(void)
{
    uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX], good[CHV_HELLO_FRAME_MAX];
    uint64_t x = 88172645463325252u;
    struct pair p;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    const size_t good_len = take_hello(&p, good);
    for (unsigned round = 0; round < 4000; round++) {
        for (size_t i = 0; i < sizeof hello; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            hello[i] = (uint8_t)(x >> 32);
        }
        if (round % 2 == 0)
            memcpy(hello, good, x % (good_len - 8)); /* fewer bytes left to chance would now and then be right */
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        enum chv_err err = pair_give(&p, p.server, hello, sizeof hello, sizeof hello);
        CU_ASSERT_NOT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN);
        if (err == CHV_OK)
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_READ);
        (void)pair_take(p.server, reply, sizeof reply);
        (void)take_hello(&p, good);
        err = pair_give(&p, p.client, hello, sizeof hello, sizeof hello);
        CU_ASSERT(err == CHV_ERR_MALFORMED || err == CHV_ERR_AUTH || chv_session_wants(p.client) == CHV_WANT_READ);
    }
    pair_close(&p);
}

TEST_MAIN("core/hostile", {"each byte of the hello flipped", test_each_byte_of_hello_flipped},
          {"each byte of the reply flipped", test_each_byte_of_reply_flipped},
          {"every kind with every profile", test_every_kind_with_every_profile},
          {"version, profile, suite not served", test_unserved_version_profile_suite},
          {"impossible lengths", test_impossible_lengths},
          {"wrong key, server, epoch, scope look the same", test_wrong_key_server_epoch_and_scope_look_the_same},
          {"replayed hello", test_replayed_hello}, {"forged refusals", test_forged_refusals},
          {"wrong pinned key", test_wrong_pinned_key}, {"identity of another", test_identity_of_another},
          {"lies in the prologue", test_lies_in_the_prologue}, {"lies in the payload", test_lies_in_the_payload},
          {"credential of another profile", test_credential_of_another_profile}, {"bad ephemeral", test_bad_ephemeral},
          {"garbage", test_garbage})
