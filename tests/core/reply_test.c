/* SPDX-License-Identifier: Apache-2.0 */
/* What a client takes for a reply: message 2 is right here, so that what stands in it is looked at by itself. */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/noise.h"
#include "core/wire.h"

#include <string.h>

static struct pair p;
static uint8_t hello[CHV_HELLO_FRAME_MAX], reply[CHV_REPLY_FRAME_MAX];

/* A server that holds the keys and says `payload`; the length of its frame. */
static size_t make_reply(const uint8_t *payload, size_t payload_len)
{
    struct chv_noise noise;
    struct chv_noise_pattern pattern;
    uint8_t secret[CHV_KEY_LEN];
    bool done = false;
    const size_t len = pair_take(p.client, hello, sizeof hello);
    const size_t prologue_len = CHV_HELLO_FIXED_LEN + p.credential_len;
    CU_ASSERT_EQUAL_FATAL(chv_noise_pattern_find("NNpsk2", &pattern), CHV_OK);
    const struct chv_noise_config config = {
        .crypto = &p.real, .pattern = &pattern, .prologue = hello + 2, .prologue_len = prologue_len};
    CU_ASSERT_EQUAL_FATAL(chv_noise_init(&noise, &config), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_read(&noise, hello + 2 + prologue_len, len - 2 - prologue_len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_run(&noise, &done), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_write(&noise, payload, payload_len, reply + 3, sizeof reply - 3), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_run(&noise, &done), CHV_OK);
    struct chv_key_request q = {
        .kind = CHV_KEY_PSK, .credential = p.credential_bytes, .credential_len = p.credential_len};
    CU_ASSERT_EQUAL_FATAL(chv_noise_need(&noise, &q.h_psk, &q.h_psk_len), CHV_NOISE_NEED_PSK);
    CU_ASSERT_EQUAL_FATAL(pair_secret(&p, p.server, &q, secret), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_answer(&noise, secret), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_run(&noise, &done), CHV_OK);
    CU_ASSERT_FATAL(done);
    reply[2] = CHV_REPLY_ACCEPTED;
    const size_t body = CHV_REPLY_STATUS_LEN + chv_noise_written(&noise);
    chv_noise_wipe(&noise);
    chv_put_u16(reply, (uint16_t)body);
    return body + 2;
}

static enum chv_err give(size_t len)
{
    return pair_give(&p, p.client, reply, len, len);
}

/* 26 bytes that it knows, up to 64 in all. */
static void test_payload(void)
{
    uint8_t payload[CHV_REPLY_PAYLOAD_MAX + 1];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i + 1);
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (size_t n = 0; n <= sizeof payload; n++) {
        const bool good = n >= CHV_REPLY_PAYLOAD_LEN && n <= CHV_REPLY_PAYLOAD_MAX;
        struct chv_session_info info;
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        CU_ASSERT_EQUAL(give(make_reply(payload, n)), good ? CHV_OK : CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(chv_session_wants(p.client), good ? CHV_WANT_OPEN : CHV_WANT_CLOSED);
        CU_ASSERT_EQUAL_FATAL(chv_session_get_info(p.client, &info), CHV_OK);
        CU_ASSERT_EQUAL(info.lineage != NULL, good);
        CU_ASSERT_EQUAL(info.h_fin != NULL, good);
        if (good) {
            CU_ASSERT(memcmp(info.lineage, payload, CHV_LINEAGE_LEN) == 0);
            CU_ASSERT_EQUAL(info.server_time, 0x1112131415161718);
            CU_ASSERT_EQUAL(info.idle_seconds, 0x191a);
        }
    }
    pair_close(&p);
}

/* Any other status, message 2 being right, and refusals of another length. */
static void test_status(void)
{
    static const uint8_t payload[CHV_REPLY_PAYLOAD_LEN] = {1};
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (unsigned status = 0; status < 256; status++) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        const size_t len = make_reply(payload, sizeof payload);
        reply[2] = (uint8_t)status;
        CU_ASSERT_EQUAL(give(len), status == CHV_REPLY_ACCEPTED ? CHV_OK : CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(chv_session_refusal(p.client), 0);
    }
    for (uint8_t n = 1; n <= 6; n++) {
        const uint8_t refusal[8] = {0, n, CHV_REPLY_REFUSED, 0x01, 0xf7};
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        (void)pair_take(p.client, hello, sizeof hello);
        memcpy(reply, refusal, sizeof refusal);
        CU_ASSERT_EQUAL(give(2u + n), n == CHV_REFUSAL_BODY_LEN ? CHV_ERR_REFUSED : CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(chv_session_refusal(p.client), n == CHV_REFUSAL_BODY_LEN ? 503 : 0);
    }
    pair_close(&p);
}

/* The server's reply to this client's hello. */
static size_t answer_of_server(void)
{
    CU_ASSERT_EQUAL_FATAL(pair_answer_all(&p, p.client), CHV_OK);
    const size_t len = pair_take(p.client, hello, sizeof hello);
    CU_ASSERT_EQUAL_FATAL(pair_give(&p, p.server, hello, len, len), CHV_OK);
    return pair_take(p.server, reply, sizeof reply);
}

/* One server, one client, the same keys: the reply of another session, of another suite. */
static void test_reply_of_another_session(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (unsigned suite = 1; suite <= 2; suite++) {
            pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
            const size_t len = answer_of_server();
            p.suite = (enum chv_suite)suite;
            CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            CU_ASSERT_EQUAL_FATAL(pair_answer_all(&p, p.client), CHV_OK);
            (void)pair_take(p.client, hello, sizeof hello);
            CU_ASSERT_EQUAL(give(len), CHV_ERR_AUTH);
            CU_ASSERT_EQUAL(chv_session_wants(p.client), CHV_WANT_CLOSED);
            pair_close(&p);
        }
}

/* What leaves the keystore is good for one handshake: the PSK of an earlier one, by the same keys, is not. */
static void test_psk_of_another_session(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile += 2) {
        uint8_t psk[2][CHV_KEY_LEN];
        for (int round = 0; round < 2; round++) {
            if (round == 0)
                pair_open(&p, (enum chv_profile)profile, CHV_SUITE_X25519_AESGCM_SHA256);
            else
                CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
            struct chv_key_request q;
            size_t used = 0;
            CU_ASSERT_EQUAL_FATAL(pair_answer_all(&p, p.client), CHV_OK);
            const size_t len = pair_take(p.client, hello, sizeof hello);
            CU_ASSERT_EQUAL_FATAL(chv_session_recv(p.server, hello, len, &used), CHV_OK);
            CU_ASSERT_EQUAL_FATAL(chv_session_key_request(p.server, &q), CHV_OK);
            while (q.kind == CHV_KEY_DH) {
                CU_ASSERT_EQUAL_FATAL(pair_answer(&p, p.server), CHV_OK);
                CU_ASSERT_EQUAL_FATAL(chv_session_key_request(p.server, &q), CHV_OK);
            }
            CU_ASSERT_EQUAL_FATAL(pair_secret(&p, p.server, &q, psk[round]), CHV_OK);
            CU_ASSERT_EQUAL_FATAL(chv_session_key_answer(p.server, psk[0]), CHV_OK);
            const size_t reply_len = pair_take(p.server, reply, sizeof reply);
            CU_ASSERT_EQUAL(give(reply_len), round == 0 ? CHV_OK : CHV_ERR_AUTH);
        }
        CU_ASSERT(memcmp(psk[0], psk[1], CHV_KEY_LEN) != 0);
        pair_close(&p);
    }
}

/* A credential that names another identity key: the server's PSK is one that nobody can guess, not a constant. */
static void test_psk_of_a_doomed_handshake(void)
{
    static const uint8_t zeros[CHV_KEY_LEN];
    struct chv_key_request q;
    size_t used = 0;
    pair_open(&p, CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    p.credential.identity_hash[0] ^= 1;
    pair_provision(&p);
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    const size_t len = answer_of_server();
    CU_ASSERT_EQUAL_FATAL(chv_session_recv(p.client, reply, len, &used), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_key_request(p.client, &q), CHV_OK);
    while (q.kind == CHV_KEY_DH) {
        CU_ASSERT_EQUAL_FATAL(pair_answer(&p, p.client), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_session_key_request(p.client, &q), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_session_key_answer(p.client, zeros), CHV_ERR_AUTH);
    pair_close(&p);
}

TEST_MAIN("core/reply", {"payload", test_payload}, {"status", test_status},
          {"reply of another session", test_reply_of_another_session},
          {"PSK of another session", test_psk_of_another_session},
          {"PSK of a doomed handshake", test_psk_of_a_doomed_handshake})
