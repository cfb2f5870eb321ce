/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/core/pair.h"

#include "core/hkdf.h"
#include "core/wire.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

static void identity_open(struct pair *p, struct pair_identity *identity)
{
    CU_ASSERT_EQUAL_FATAL(
        chv_crypto_dh_generate(&p->real, chv_suite_parts(p->suite)->curve, &identity->key, identity->public_key),
        CHV_OK);
}

static void expand(struct pair *p, const uint8_t prk[32], const uint8_t *info, size_t info_len, uint8_t out[32])
{
    CU_ASSERT_EQUAL_FATAL(chv_hkdf_expand(&p->real, CHV_HASH_SHA256, prk, 32, info, info_len, out, 32), CHV_OK);
}

static void derive_access(struct pair *p, const uint8_t *credential, size_t len, uint8_t out[32])
{
    uint8_t info[CHV_INFO_MAX];
    size_t info_len = 0;
    CU_ASSERT_EQUAL_FATAL(chv_info_access(credential, len, info, &info_len), CHV_OK);
    expand(p, p->master, info, info_len, out);
}

static void derive_psk(struct pair *p, const uint8_t access[32], const char *server, const uint8_t *h_psk, size_t len,
                       uint8_t out[32])
{
    uint8_t info[CHV_INFO_MAX];
    size_t info_len = 0;
    CU_ASSERT_EQUAL_FATAL(chv_info_session(server, h_psk, len, info, &info_len), CHV_OK);
    expand(p, access, info, info_len, out);
}

void pair_provision(struct pair *p)
{
    p->credential_len = sizeof p->credential_bytes;
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&p->credential, p->credential_bytes, &p->credential_len), CHV_OK);
    derive_access(p, p->credential_bytes, p->credential_len, p->access);
}

void pair_open(struct pair *p, enum chv_profile profile, enum chv_suite suite)
{
    memset(p, 0, sizeof *p);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &p->real, NULL), CHV_OK);
    p->client_crypto = p->server_crypto = p->real;
    p->profile = profile;
    p->suite = suite;
    p->server_name = p->wanted_server = "home";
    p->epoch_known = p->peer_allowed = true;
    CU_ASSERT_EQUAL_FATAL(chv_crypto_random(&p->real, p->master, sizeof p->master), CHV_OK);
    identity_open(p, &p->client_identity);
    identity_open(p, &p->server_identity);

    p->credential.profile = profile == CHV_PROFILE_KEY_PSK ? CHV_PROFILE_KEY_PSK : CHV_PROFILE_PSK;
    p->credential.epoch = p->credential.serial = 1;
    memcpy(p->credential.id, "1", 2);
    CU_ASSERT_EQUAL_FATAL(chv_credential_add_scope(&p->credential, "message"), CHV_OK);
    if (profile == CHV_PROFILE_KEY_PSK) {
        p->credential.has_identity = true;
        CU_ASSERT_EQUAL_FATAL(chv_identity_hash(&p->real, chv_suite_parts(suite)->curve, p->client_identity.public_key,
                                                p->credential.identity_hash),
                              CHV_OK);
    }
    pair_provision(p);
    p->client_memory = malloc(chv_session_size());
    p->server_memory = malloc(chv_session_size());
    CU_ASSERT_FATAL(p->client_memory != NULL && p->server_memory != NULL);
    CU_ASSERT_EQUAL_FATAL(pair_start(p), CHV_OK);
}

void pair_stop(struct pair *p)
{
    chv_session_wipe(p->client);
    chv_session_wipe(p->server);
    p->client = p->server = NULL;
}

enum chv_err pair_start(struct pair *p)
{
    pair_stop(p);
    const enum chv_curve curve = chv_suite_parts(p->suite)->curve;
    struct chv_session_config client = {
        .role = CHV_CLIENT,
        .crypto = &p->client_crypto,
        .profile = p->profile,
        .suite = p->suite,
        .credential = p->credential_bytes,
        .credential_len = p->credential_len,
        .peer_public = p->server_identity.public_key,
        .ticket = p->ticket,
        .ticket_len = p->ticket_len,
        .resumption = p->resumption,
        .server = p->wanted_server,
    };
    client.identity_public[curve] = p->client_identity.public_key;
    struct chv_session_config server = {
        .role = CHV_SERVER,
        .crypto = &p->server_crypto,
        .profiles = CHV_PROFILE_BIT(p->profile),
        .suites = CHV_SUITE_BIT(p->suite),
        .now = 1800000000,
        .limits = {.idle_seconds = 77},
    };
    server.identity_public[curve] = p->server_identity.public_key;
    enum chv_err err = chv_session_init(p->server_memory, &server, &p->server, NULL);
    if (err == CHV_OK)
        err = chv_session_init(p->client_memory, &client, &p->client, NULL);
    return err;
}

void pair_close(struct pair *p)
{
    pair_stop(p);
    chv_crypto_dh_free(&p->real, p->client_identity.key);
    chv_crypto_dh_free(&p->real, p->server_identity.key);
    free(p->client_memory);
    free(p->server_memory);
    chv_backend_close(&p->real);
}

enum chv_err pair_secret(struct pair *p, const struct chv_session *s, const struct chv_key_request *q,
                         uint8_t secret[CHV_KEY_LEN])
{
    const bool client = s == p->client;
    uint8_t access[32];
    if (q->kind == CHV_KEY_DH)
        return chv_crypto_dh_derive(&p->real, client ? p->client_identity.key : p->server_identity.key, q->peer_public,
                                    secret);
    if (client) {
        derive_psk(p, p->access, p->wanted_server, q->h_psk, q->h_psk_len, secret);
    } else if (p->epoch_known) {
        derive_access(p, q->credential, q->credential_len, access);
        derive_psk(p, access, p->server_name, q->h_psk, q->h_psk_len, secret);
    } else {
        CU_ASSERT_EQUAL_FATAL(chv_crypto_random(&p->real, secret, CHV_KEY_LEN), CHV_OK);
    }
    return CHV_OK;
}

enum chv_err pair_answer(struct pair *p, struct chv_session *s)
{
    struct chv_key_request q;
    uint8_t secret[CHV_KEY_LEN];
    enum chv_err err = chv_session_key_request(s, &q);
    if (err != CHV_OK)
        return err;
    p->questions++;
    if (q.kind == CHV_KEY_TICKET) {
        CU_ASSERT(s != p->client);
        CU_ASSERT(p->ticket == NULL ||
                  (q.ticket_len == p->ticket_len && memcmp(q.ticket, p->ticket, q.ticket_len) == 0));
        return p->taken != NULL ? chv_session_ticket_answer(s, p->taken) : chv_session_key_refuse(s, CHV_REFUSE_TICKET);
    }
    if (q.kind == CHV_KEY_PEER) {
        CU_ASSERT(s != p->client);
        CU_ASSERT(q.peer_public_len > 0 &&
                  memcmp(q.peer_public, p->client_identity.public_key, q.peer_public_len) == 0);
        return p->peer_allowed ? chv_session_key_answer(s, NULL) : chv_session_key_refuse(s, CHV_REFUSE_UNKNOWN_KEY);
    }
    err = pair_secret(p, s, &q, secret);
    return err == CHV_OK ? chv_session_key_answer(s, secret) : chv_session_key_refuse(s, CHV_REFUSE_MALFORMED);
}

enum chv_err pair_answer_all(struct pair *p, struct chv_session *s)
{
    while (chv_session_wants(s) & CHV_WANT_KEY) {
        enum chv_err err = pair_answer(p, s);
        if (err != CHV_OK)
            return err;
    }
    return chv_session_error(s);
}

size_t pair_take(struct chv_session *s, uint8_t *out, size_t cap)
{
    size_t total = 0;
    while (chv_session_wants(s) & CHV_WANT_WRITE) {
        const uint8_t *ptr;
        size_t len;
        if (chv_session_send_peek(s, &ptr, &len) != CHV_OK || len == 0)
            break;
        CU_ASSERT_FATAL(len <= cap - total);
        memcpy(out + total, ptr, len);
        total += len;
        if (chv_session_send_consume(s, len) != CHV_OK)
            break;
    }
    return total;
}

enum chv_err pair_give(struct pair *p, struct chv_session *s, const uint8_t *buf, size_t len, size_t step)
{
    size_t at = 0;
    while (at < len) {
        enum chv_err err = pair_answer_all(p, s);
        if (err != CHV_OK)
            return err;
        if (!(chv_session_wants(s) & CHV_WANT_READ))
            break;
        size_t used = 0;
        err = chv_session_recv(s, buf + at, step < len - at ? step : len - at, &used);
        if (err != CHV_OK)
            return err;
        at += used;
    }
    return pair_answer_all(p, s);
}

enum chv_err pair_handshake(struct pair *p)
{
    uint8_t wire[CHV_HELLO_FRAME_MAX];
    enum chv_err err = pair_answer_all(p, p->client);
    if (err != CHV_OK)
        return err;
    size_t len = pair_take(p->client, wire, sizeof wire);
    (void)pair_give(p, p->server, wire, len, len + 1);
    len = pair_take(p->server, wire, sizeof wire);
    err = pair_give(p, p->client, wire, len, len + 1);
    return err != CHV_OK ? err : chv_session_error(p->server);
}

size_t pair_seal(struct chv_session *s, uint8_t type, const void *body, size_t len, uint8_t *frame)
{
    size_t frame_len = 0;
    if (len > 0)
        memcpy(frame + CHV_RECORD_HEAD, body, len);
    CU_ASSERT_EQUAL_FATAL(chv_session_seal(s, type, frame, len, &frame_len), CHV_OK);
    return frame_len;
}

void pair_connect(struct pair *p)
{
    uint8_t frame[256];
    uint8_t type;
    const uint8_t *body;
    size_t body_len;
    CU_ASSERT_EQUAL_FATAL(pair_handshake(p), CHV_OK);
    size_t len = pair_seal(p->client, CHV_RECORD_OPEN, "open", 4, frame);
    CU_ASSERT_EQUAL_FATAL(chv_session_open(p->server, frame, len, &type, &body, &body_len), CHV_OK);
    CU_ASSERT_EQUAL(type, CHV_RECORD_OPEN);
}
