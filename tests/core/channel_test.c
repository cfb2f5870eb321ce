/* SPDX-License-Identifier: Apache-2.0 */
/* Records: order, types, lengths, rekey, CLOSE, and what happens to a stream that somebody has touched. */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/record.h"
#include "core/session.h"

#include <stdlib.h>
#include <string.h>

static struct pair p;
static uint8_t frame[CHV_RECORD_FRAME_MAX], other[CHV_RECORD_FRAME_MAX];
static uint8_t type;
static const uint8_t *body;
static size_t body_len;

static void connect_with(enum chv_suite suite)
{
    pair_open(&p, CHV_PROFILE_PSK, suite);
    pair_connect(&p);
}

static enum chv_err open_at(struct chv_session *s, uint8_t *at, size_t len)
{
    return chv_session_open(s, at, len, &type, &body, &body_len);
}

static void test_both_directions(void)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 65280, 65517, 65518};
    for (unsigned suite = 1; suite <= 3; suite++) {
        connect_with((enum chv_suite)suite);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            for (int from_client = 0; from_client < 2; from_client++) {
                memset(other, (int)i, lengths[i]);
                size_t len = pair_seal(from_client ? p.client : p.server, CHV_RECORD_DATA, other, lengths[i], frame);
                CU_ASSERT_EQUAL(len, lengths[i] + CHV_RECORD_HEAD + CHV_RECORD_TAIL);
                size_t cut = 0;
                struct chv_session *to = from_client ? p.server : p.client;
                CU_ASSERT_EQUAL(chv_session_frame(to, frame, 2, &cut), CHV_OK);
                CU_ASSERT_EQUAL(cut, len);
                CU_ASSERT_EQUAL(open_at(to, frame, len), CHV_OK);
                CU_ASSERT_EQUAL(type, CHV_RECORD_DATA);
                CU_ASSERT_EQUAL_FATAL(body_len, lengths[i]);
                CU_ASSERT(memcmp(body, other, body_len) == 0);
            }
        pair_close(&p);
    }
}

static void test_who_may_send_what(void)
{
    enum { CLIENT = 1, SERVER = 2 };
    for (unsigned t = 0; t < 256; t++) {
        unsigned may = CLIENT | SERVER;
        if (t == CHV_RECORD_OPEN || t == CHV_RECORD_KEY_UPDATED)
            may = CLIENT;
        else if (t == CHV_RECORD_STATUS || t == CHV_RECORD_TICKET || t == CHV_RECORD_KEY_UPDATE ||
                 t == CHV_RECORD_REDIRECT)
            may = SERVER;
        else if (t > CHV_RECORD_CLOSE && t < CHV_RECORD_SERVICE)
            may = 0;
        connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
        size_t len = 0;
        enum chv_err err = chv_session_seal(p.server, (uint8_t)t, frame, 0, &len);
        CU_ASSERT_EQUAL(err, may & SERVER ? CHV_OK : CHV_ERR_ARGUMENT);
        if (t != CHV_RECORD_OPEN) {
            err = chv_session_seal(p.client, (uint8_t)t, frame, 0, &len);
            CU_ASSERT_EQUAL(err, may & CLIENT ? CHV_OK : CHV_ERR_ARGUMENT);
        }
        /* A peer that sends it all the same, under the right key. */
        struct chv_direction *d = &p.client->channel.send;
        if (!(may & CLIENT) || t == CHV_RECORD_OPEN) {
            CU_ASSERT_EQUAL(chv_direction_seal(d, &p.real, CHV_AEAD_AES256GCM, (uint8_t)t, frame, 3, &len), CHV_OK);
            CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_PROTOCOL);
            CU_ASSERT(chv_is_zero(frame, len));
            CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
        }
        pair_close(&p);
    }
}

static void test_nothing_before_open(void)
{
    size_t len = 0;
    for (unsigned t = 0; t < 256; t++) {
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        CU_ASSERT_EQUAL_FATAL(pair_handshake(&p), CHV_OK);
        if (t != CHV_RECORD_OPEN) {
            CU_ASSERT_NOT_EQUAL(chv_session_seal(p.client, (uint8_t)t, frame, 0, &len), CHV_OK);
            CU_ASSERT_NOT_EQUAL(chv_session_seal(p.server, (uint8_t)t, frame, 0, &len), CHV_OK);
            struct chv_direction *d = &p.client->channel.send;
            CU_ASSERT_EQUAL(chv_direction_seal(d, &p.real, CHV_AEAD_AES256GCM, (uint8_t)t, frame, 0, &len), CHV_OK);
            CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_PROTOCOL);
            CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_PROTOCOL);
        }
        pair_close(&p);
    }
    /* A client takes nothing that a server seals with no OPEN: it cannot, and its keys do not fit. */
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL_FATAL(pair_handshake(&p), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_seal(p.server, CHV_RECORD_DATA, frame, 0, &len), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_OK);
    pair_close(&p);
}

static void test_lengths(void)
{
    size_t len = 0;
    for (unsigned n = 0; n < 17; n++) {
        connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
        const uint8_t head[2] = {0, (uint8_t)n};
        CU_ASSERT_EQUAL(chv_session_frame(p.server, head, 0, &len), CHV_OK);
        CU_ASSERT_EQUAL(len, 0);
        CU_ASSERT_EQUAL(chv_session_frame(p.server, head, 1, &len), CHV_OK);
        CU_ASSERT_EQUAL(len, 0);
        CU_ASSERT_EQUAL(chv_session_frame(p.server, head, 2, &len), CHV_ERR_PROTOCOL);
        CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
        pair_close(&p);
    }
    /* The first frame of a client: 4096 bytes at most. */
    static const struct {
        uint8_t head[2];
        enum chv_err err;
    } first[] = {{{0x0f, 0xfe}, CHV_OK}, {{0x0f, 0xff}, CHV_ERR_PROTOCOL}, {{0xff, 0xff}, CHV_ERR_PROTOCOL}};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        CU_ASSERT_EQUAL_FATAL(pair_handshake(&p), CHV_OK);
        CU_ASSERT_EQUAL(chv_session_frame(p.server, first[i].head, 2, &len), first[i].err);
        CU_ASSERT_EQUAL(chv_session_frame(p.client, first[i].head, 2, &len), CHV_OK);
        pair_close(&p);
    }
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, frame, CHV_RECORD_BODY_MAX + 1, &len),
                    CHV_ERR_ARGUMENT);
    /* A frame that is not as long as it says. */
    len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len - 1), CHV_ERR_PROTOCOL);
    pair_close(&p);
    /* One that is as long as it says, which is too short. */
    for (unsigned n = 2; n < CHV_RECORD_HEAD + CHV_RECORD_TAIL; n++) {
        connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
        memset(frame, 0, n);
        frame[1] = (uint8_t)(n - 2);
        CU_ASSERT_EQUAL(open_at(p.server, frame, n), CHV_ERR_PROTOCOL);
        pair_close(&p);
    }
}

static void test_touched_streams(void)
{
    size_t len, second;
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256); /* repeated */
    len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    memcpy(other, frame, len);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
    CU_ASSERT_EQUAL(open_at(p.server, other, len), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(chv_session_seal(p.server, CHV_RECORD_DATA, frame, 1, &len), CHV_ERR_AUTH);
    pair_close(&p);

    connect_with(CHV_SUITE_X25519_AESGCM_SHA256); /* reordered, or one lost */
    (void)pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    second = pair_seal(p.client, CHV_RECORD_DATA, "def", 3, other);
    CU_ASSERT_EQUAL(open_at(p.server, other, second), CHV_ERR_AUTH);
    pair_close(&p);

    connect_with(CHV_SUITE_X25519_AESGCM_SHA256); /* sent back to its sender */
    len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_ERR_AUTH);
    pair_close(&p);

    for (size_t at = 0; at < 3 + 3 + 16; at++) { /* each byte flipped */
        connect_with(CHV_SUITE_X25519_CHACHAPOLY_SHA256);
        len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
        frame[at] ^= 0x80;
        CU_ASSERT_EQUAL(open_at(p.server, frame, len), at < 2 ? CHV_ERR_PROTOCOL : CHV_ERR_AUTH);
        if (at >= 2)
            CU_ASSERT(chv_is_zero(frame + 2, 4));
        pair_close(&p);
    }
}

static void test_close_and_truncation(void)
{
    size_t len;
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_eof(p.server, false), CHV_ERR_TRUNCATED);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
    pair_close(&p);

    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    len = pair_seal(p.client, CHV_RECORD_CLOSE, NULL, 0, frame);
    size_t unused = 0;
    CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, other, 0, &unused), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_OPEN); /* it still takes the answer */
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
    CU_ASSERT_EQUAL(type, CHV_RECORD_CLOSE);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_OPEN); /* the other direction goes on */
    CU_ASSERT_EQUAL(chv_session_eof(p.server, false), CHV_OK);
    len = pair_seal(p.server, CHV_RECORD_DATA, "answer", 6, frame);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_OK);
    len = pair_seal(p.server, CHV_RECORD_CLOSE, NULL, 0, frame);
    CU_ASSERT_EQUAL(chv_session_wants(p.server), CHV_WANT_CLOSED);
    CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_OK);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
    CU_ASSERT_EQUAL(chv_session_eof(p.client, false), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_eof(p.client, true), CHV_ERR_TRUNCATED);
    pair_close(&p);

    connect_with(CHV_SUITE_X25519_AESGCM_SHA256); /* something in CLOSE */
    CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_CLOSE, frame, 1, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(
        chv_direction_seal(&p.client->channel.send, &p.real, CHV_AEAD_AES256GCM, CHV_RECORD_CLOSE, frame, 1, &len),
        CHV_OK);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_PROTOCOL);
    CU_ASSERT_EQUAL(chv_session_eof(p.server, false), CHV_ERR_PROTOCOL);
    pair_close(&p);

    connect_with(CHV_SUITE_X25519_AESGCM_SHA256); /* something behind CLOSE */
    len = pair_seal(p.client, CHV_RECORD_CLOSE, NULL, 0, frame);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
    CU_ASSERT_EQUAL(
        chv_direction_seal(&p.client->channel.send, &p.real, CHV_AEAD_AES256GCM, CHV_RECORD_DATA, frame, 0, &len),
        CHV_OK);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_PROTOCOL);
    pair_close(&p);
}

static void set_counters(uint64_t n)
{
    p.client->channel.send.n = p.server->channel.receive.n = n;
}

static void test_rekey(void)
{
    CU_ASSERT_EQUAL(CHV_REKEY_RECORDS, 1048576); /* both sides here have the same number, another program may not */
    for (unsigned suite = 1; suite <= 3; suite++) {
        connect_with((enum chv_suite)suite);
        uint8_t before[32], after[32];
        memcpy(before, p.client->channel.send.key, 32);
        set_counters(CHV_REKEY_RECORDS - 1);
        for (unsigned i = 0; i < 4; i++) {
            size_t len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
            CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
            memcpy(after, p.client->channel.send.key, 32);
            CU_ASSERT_EQUAL(memcmp(before, after, 32) == 0, i == 0); /* before record 2^20, not earlier */
            chv_session_idle(p.client);
            chv_session_idle(p.server);
        }
        CU_ASSERT(memcmp(after, p.server->channel.receive.key, 32) == 0);
        set_counters(2 * CHV_REKEY_RECORDS);
        size_t len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
        CU_ASSERT(memcmp(after, p.client->channel.send.key, 32) != 0);
        CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
        pair_close(&p);
    }
}

/* One side rekeys and the other does not: the next record does not open. */
static void test_rekey_on_one_side_only(void)
{
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    p.client->channel.send.n = CHV_REKEY_RECORDS;
    size_t len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    p.server->channel.receive.n = CHV_REKEY_RECORDS + 1;
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_ERR_AUTH);
    pair_close(&p);
}

/* The real thing: more than 2^20 records one after the other. */
static void test_a_million_records(void)
{
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    uint64_t bad = 0;
    for (uint64_t i = 1; i < CHV_REKEY_RECORDS + 3; i++) {
        size_t len = 0;
        enum chv_err sealed = chv_session_seal(p.client, CHV_RECORD_DATA, frame, 1, &len);
        bad += sealed != CHV_OK || open_at(p.server, frame, len) != CHV_OK;
    }
    CU_ASSERT_EQUAL(bad, 0);
    struct chv_session_info info;
    CU_ASSERT_EQUAL(chv_session_get_info(p.server, &info), CHV_OK);
    CU_ASSERT_EQUAL(info.records_received, CHV_REKEY_RECORDS + 3);
    pair_close(&p);
}

static void test_last_nonce(void)
{
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    set_counters(UINT64_MAX);
    size_t len = 0;
    CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, frame, 1, &len), CHV_ERR_EXHAUSTED);
    CU_ASSERT_EQUAL(chv_session_error(p.client), CHV_ERR_EXHAUSTED);
    pair_close(&p);
}

static void test_idle_gives_contexts_back(void)
{
    struct test_fault count;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    test_fault_init(&count, &p.real);
    pair_stop(&p);
    p.server_crypto = count.crypto;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    pair_connect(&p);
    size_t len = pair_seal(p.server, CHV_RECORD_DATA, "abc", 3, frame);
    CU_ASSERT_EQUAL(count.open_aead, 2);
    CU_ASSERT_EQUAL(count.open_dh, 0);
    chv_session_idle(p.server);
    CU_ASSERT_EQUAL(count.open_aead, 0);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_OK);
    len = pair_seal(p.server, CHV_RECORD_DATA, "def", 3, frame);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_OK);
    len = pair_seal(p.client, CHV_RECORD_DATA, "ghi", 3, frame);
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
    CU_ASSERT_EQUAL(count.open_aead, 2);
    pair_close(&p);
    CU_ASSERT_EQUAL(count.open_aead, 0);
}

/* An established session goes on in less memory and leaves nothing behind. */
static void test_moved(void)
{
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    pair_connect(&p);
    const size_t size = chv_session_open_size(p.server);
    void *memory = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
    CU_ASSERT(size < 400 + p.credential_len); /* ten thousand idle connections */
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    CU_ASSERT_PTR_NULL(chv_session_move(p.server, memory));
    pair_connect(&p);
    CU_ASSERT_EQUAL_FATAL(chv_session_open_size(p.server), size);
    size_t len = pair_seal(p.client, CHV_RECORD_DATA, "abc", 3, frame);
    struct chv_session *moved = chv_session_move(p.server, memory);
    CU_ASSERT_PTR_EQUAL(moved, memory);
    CU_ASSERT(chv_is_zero(p.server_memory, chv_session_size()));
    p.server = moved;
    CU_ASSERT_EQUAL(open_at(p.server, frame, len), CHV_OK);
    len = pair_seal(p.server, CHV_RECORD_DATA, "def", 3, frame);
    CU_ASSERT_EQUAL(open_at(p.client, frame, len), CHV_OK);
    chv_session_wipe(p.server);
    p.server = NULL;
    const uint8_t *bytes = memory;
    size_t nonzero = 0;
    for (size_t i = 0; i < size; i++)
        nonzero += bytes[i] != 0;
    CU_ASSERT(nonzero <= 16); /* phase, error and note of a session that is over */
    free(memory);
    pair_close(&p);
}

static void test_backend_fails_at_a_record(void)
{
    struct test_fault fault;
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    test_fault_init(&fault, &p.real);
    pair_stop(&p);
    p.client_crypto = fault.crypto;
    for (unsigned long n = 1; n <= 2; n++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        pair_connect(&p);
        chv_session_idle(p.client);
        test_fault_arm(&fault, n); /* the context, then the seal */
        size_t len = 0;
        CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, frame, 1, &len), CHV_ERR_CRYPTO);
        CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, frame, 1, &len), CHV_ERR_CRYPTO);
        CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
        test_fault_arm(&fault, 0);
    }
    pair_close(&p);
}

/* A device that is away is no forgery, and its own code (the object is as it was) is none that ends a session. */
static void test_backend_fails_to_open(void)
{
    static const enum chv_err codes[] = {CHV_ERR_UNAVAILABLE, CHV_ERR_STORE_LOCKED, CHV_ERR_CRYPTO};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct test_fault fault;
        size_t len = 0;
        pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
        test_fault_init(&fault, &p.real);
        fault.fail_with = codes[i];
        pair_stop(&p);
        p.client_crypto = fault.crypto;
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        pair_connect(&p);
        CU_ASSERT_EQUAL(chv_session_seal(p.server, CHV_RECORD_DATA, frame, 1, &len), CHV_OK);
        test_fault_arm(&fault, 1);
        CU_ASSERT_EQUAL(chv_session_open(p.client, frame, len, &type, &body, &body_len), CHV_ERR_CRYPTO);
        CU_ASSERT(fault.fired);
        CU_ASSERT_STRING_EQUAL(chv_session_note(p.client), "record: it could not be opened");
        CU_ASSERT_EQUAL(chv_session_seal(p.client, CHV_RECORD_DATA, frame, 1, &len), CHV_ERR_CRYPTO);
        test_fault_arm(&fault, 0);
        pair_close(&p);
    }
}

static void test_export(void)
{
    static const uint8_t context[512] = {1};
    uint8_t a[32], b[32];
    connect_with(CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(chv_session_export(p.client, "a", NULL, 0, a), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "a", NULL, 0, b), CHV_OK);
    CU_ASSERT(memcmp(a, b, 32) == 0);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "b", NULL, 0, b), CHV_OK);
    CU_ASSERT(memcmp(a, b, 32) != 0);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "a", context, 1, b), CHV_OK);
    CU_ASSERT(memcmp(a, b, 32) != 0);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "a", context, sizeof context, b), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "", NULL, 0, b), CHV_ERR_ARGUMENT);
    char label[66] = "";
    memset(label, 'x', 65);
    CU_ASSERT_EQUAL(chv_session_export(p.server, label, NULL, 0, b), CHV_ERR_ARGUMENT);
    label[64] = '\0';
    CU_ASSERT_EQUAL(chv_session_export(p.server, label, NULL, 0, b), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_export(p.server, "a", context, 513, b), CHV_ERR_ARGUMENT);
    pair_close(&p);
}

TEST_MAIN("core/channel", {"both directions", test_both_directions}, {"who may send what", test_who_may_send_what},
          {"nothing before OPEN", test_nothing_before_open}, {"lengths", test_lengths},
          {"touched streams", test_touched_streams}, {"CLOSE and truncation", test_close_and_truncation},
          {"rekey", test_rekey}, {"rekey on one side only", test_rekey_on_one_side_only},
          {"a million records", test_a_million_records}, {"last nonce", test_last_nonce},
          {"idle gives contexts back", test_idle_gives_contexts_back}, {"moved", test_moved},
          {"backend fails at a record", test_backend_fails_at_a_record},
          {"backend fails to open one", test_backend_fails_to_open}, {"export", test_export})
