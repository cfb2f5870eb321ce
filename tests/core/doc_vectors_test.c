/* SPDX-License-Identifier: Apache-2.0 */
/* The worked vectors of doc/protocol.md, section 12, recomputed with the library. */
#include "base/encode.h"
#include "core/credential.h"
#include "core/hkdf.h"
#include "core/session.h"
#include "core/ticket.h"
#include "core/update.h"
#include "tests/harness.h"
#include "tests/support/test_backend.h"

#include <stdio.h>
#include <string.h>

enum { VALUE_MAX = 2048, BLOCK_MAX = 64 };

struct value {
    char name[64];
    char text[2 * VALUE_MAX + 1]; /* as written, continuation lines joined */
    uint8_t bytes[VALUE_MAX];
    size_t len;
};

struct block {
    struct value values[BLOCK_MAX];
    size_t count;
};

static struct block block; /* the one under test; too big for a stack */

static void value_done(struct value *v)
{
    size_t len = strlen(v->text);
    if (v->text[0] == '"') {
        v->len = len - 2;
        memcpy(v->bytes, v->text + 1, v->len);
    } else {
        v->len = sizeof v->bytes;
        if (chv_hex_decode(v->text, len, v->bytes, &v->len) != CHV_OK)
            v->len = 0; /* a decimal number of odd length */
    }
}

/* Reads the fenced block of that name. */
static void read_block(const char *name)
{
    const char *top = getenv("top_srcdir");
    char path[4096], line[512], opening[128];
    (void)snprintf(path, sizeof path, "%s/doc/protocol.md", top != NULL ? top : ".");
    (void)snprintf(opening, sizeof opening, "```vector %s\n", name);
    memset(&block, 0, sizeof block);
    FILE *f = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    while (fgets(line, sizeof line, f) != NULL && strcmp(line, opening) != 0)
        ;
    while (fgets(line, sizeof line, f) != NULL && strcmp(line, "```\n") != 0) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == ' ') {
            CU_ASSERT_FATAL(block.count > 0);
            char *text = block.values[block.count - 1].text;
            size_t at = strlen(text);
            (void)snprintf(text + at, sizeof block.values[0].text - at, "%s", line + strspn(line, " "));
            continue;
        }
        CU_ASSERT_FATAL(block.count < BLOCK_MAX);
        struct value *v = &block.values[block.count++];
        CU_ASSERT_EQUAL_FATAL(sscanf(line, "%63s = %511[^\n]", v->name, v->text), 2);
    }
    (void)fclose(f);
    for (size_t i = 0; i < block.count; i++)
        value_done(&block.values[i]);
    CU_ASSERT_FATAL(block.count > 0);
}

static const struct value *get(const char *name)
{
    for (size_t i = 0; i < block.count; i++)
        if (strcmp(block.values[i].name, name) == 0)
            return &block.values[i];
    fprintf(stderr, "no value %s\n", name);
    CU_FAIL_FATAL("a value is missing");
    return NULL;
}

static void same(const char *name, const void *bytes, size_t len)
{
    const struct value *v = get(name);
    bool equal = v->len == len && memcmp(v->bytes, bytes, len) == 0;
    if (!equal)
        fprintf(stderr, "%s differs\n", name);
    CU_ASSERT(equal);
}

static unsigned long long number(const char *name)
{
    return strtoull(get(name)->text, NULL, 10);
}

static void expand(const struct chv_crypto *crypto, const uint8_t *key, const uint8_t *info, size_t len,
                   uint8_t out[32])
{
    CU_ASSERT_EQUAL_FATAL(chv_hkdf_expand(crypto, CHV_HASH_SHA256, key, 32, info, len, out, 32), CHV_OK);
}

static void test_keys(void)
{
    struct chv_crypto crypto;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    read_block("keys");

    struct chv_credential c;
    const struct value *credential = get("credential");
    CU_ASSERT_EQUAL_FATAL(chv_credential_parse(credential->bytes, credential->len, &c, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(c.id, "cam1");
    CU_ASSERT(chv_credential_has_scope(&c, "message") && chv_credential_has_scope(&c, "files:ro"));
    uint8_t encoded[CHV_CREDENTIAL_MAX];
    size_t len = sizeof encoded;
    CU_ASSERT_EQUAL(chv_credential_encode(&c, encoded, &len), CHV_OK);
    same("credential", encoded, len);

    uint8_t info[CHV_INFO_MAX], key[32];
    CU_ASSERT_EQUAL_FATAL(chv_info_access(encoded, len, info, &len), CHV_OK);
    same("access_info", info, len);
    expand(&crypto, get("master")->bytes, info, len, key);
    same("access_key", key, sizeof key);

    CU_ASSERT_EQUAL_FATAL(chv_info_check(info, &len), CHV_OK);
    expand(&crypto, get("access_key")->bytes, info, len, key);
    same("access_check", key, 4);
    expand(&crypto, get("master")->bytes, info, len, key);
    same("master_check", key, 16);
    chv_backend_close(&crypto);
}

static void test_update(void)
{
    struct chv_crypto crypto;
    struct chv_credential parsed;
    struct chv_update update;
    uint8_t info[CHV_INFO_MAX], key[32], access[32], new[CHV_CREDENTIAL_MAX], body[CHV_UPDATE_BODY_MAX];
    size_t len, new_len = sizeof new, body_len = sizeof body;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    read_block("key-update");
    const struct value *old = get("old_credential"), *h_fin = get("h_fin");

    CU_ASSERT_EQUAL_FATAL(chv_update_successor(old->bytes, old->len, 2, new, &new_len), CHV_OK);
    same("new_credential", new, new_len);
    CU_ASSERT_EQUAL_FATAL(chv_info_access(new, new_len, info, &len), CHV_OK);
    expand(&crypto, get("new_master")->bytes, info, len, access);
    same("new_access_key", access, sizeof access);
    CU_ASSERT_EQUAL_FATAL(chv_info_update((const char *)get("server")->bytes, h_fin->bytes, h_fin->len, old->bytes,
                                          old->len, new, new_len, info, &len),
                          CHV_OK);
    same("update_info", info, len);
    expand(&crypto, get("old_access_key")->bytes, info, len, key);
    same("update_key", key, sizeof key);
    CU_ASSERT_EQUAL(chv_update_seal(&crypto, key, new, new_len, access, body, &body_len), CHV_OK);
    same("key_update_body", body, body_len);

    CU_ASSERT_EQUAL_FATAL(chv_credential_parse(old->bytes, old->len, &parsed, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_update_accept(&parsed, body, body_len, &update, NULL), CHV_OK);
    memset(access, 0, sizeof access);
    CU_ASSERT_EQUAL(chv_update_open(&crypto, key, &update, access), CHV_OK);
    same("new_access_key", access, sizeof access);
    chv_backend_close(&crypto);
}

static enum chv_err give_nonce(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    if (len != get("nonce")->len)
        return CHV_ERR_CRYPTO;
    memcpy(out, get("nonce")->bytes, len);
    return CHV_OK;
}

static void read_ticket(struct chv_ticket *t, struct chv_ticket_label *label)
{
    const struct value *audience = get("audience"), *credential = get("credential");
    *t = (struct chv_ticket){.profile = CHV_PROFILE_PSK,
                             .suite = CHV_SUITE_X25519_AESGCM_SHA256,
                             .not_after = number("not_after"),
                             .auth_time = number("auth_time"),
                             .number = (uint32_t)number("number"),
                             .credential_len = credential->len,
                             .rights = {.not_after = 1798761600, .id = "cam1"}};
    *label = (struct chv_ticket_label){.epoch = (uint32_t)number("epoch"), .period = number("period")};
    memcpy(label->audience, audience->bytes, audience->len);
    memcpy(t->lineage, get("lineage")->bytes, sizeof t->lineage);
    memcpy(t->secret, get("resumption_secret")->bytes, sizeof t->secret);
    memcpy(t->credential, credential->bytes, credential->len);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&t->rights, "message"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&t->rights, "files:ro"), CHV_OK);
}

static void test_ticket(void)
{
    struct chv_crypto crypto;
    struct test_fixed fixed;
    struct chv_ticket ticket, opened;
    struct chv_ticket_label label, found;
    uint8_t info[CHV_INFO_MAX], key[32], bytes[CHV_TICKET_MAX];
    size_t len;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    test_fixed_init(&fixed, &crypto, NULL, 0);
    fixed.vtable.random = give_nonce;
    read_block("ticket");
    read_ticket(&ticket, &label);

    const struct value *h_fin = get("h_fin");
    CU_ASSERT_EQUAL_FATAL(chv_info_resumption(h_fin->bytes, h_fin->len, ticket.number, info, &len), CHV_OK);
    same("resumption_info", info, len);
    expand(&crypto, get("exporter_secret")->bytes, info, len, key);
    same("resumption_secret", key, sizeof key);
    CU_ASSERT_EQUAL_FATAL(chv_info_ticket_seal(get("nonce")->bytes, info, &len), CHV_OK);
    expand(&crypto, get("ticket_key")->bytes, info, len, key);
    same("seal_key", key, sizeof key);
    CU_ASSERT_EQUAL_FATAL(chv_info_ticket(label.audience, label.period, info, &len), CHV_OK);
    same("ticket_info", info, len);
    expand(&crypto, get("master")->bytes, info, len, key);
    same("ticket_key", key, sizeof key);

    len = sizeof bytes;
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&fixed.crypto, key, &label, &ticket, bytes, &len), CHV_OK);
    same("ticket", bytes, len);
    CU_ASSERT_EQUAL_FATAL(chv_ticket_peek(bytes, len, &found), CHV_OK);
    CU_ASSERT_EQUAL(found.period, label.period);
    CU_ASSERT_EQUAL_FATAL(chv_ticket_open(&crypto, key, bytes, len, &opened), CHV_OK);
    same("resumption_secret", opened.secret, sizeof opened.secret);
    same("credential", opened.credential, opened.credential_len);
    chv_backend_close(&crypto);
}

/* Two sessions with the document's ephemeral keys, and what they need to be answered. */
struct run {
    struct chv_crypto real;
    struct test_fixed client_fixed, server_fixed;
    uint8_t client_ephemeral[1][CHV_DH_PRIVATE_LEN], server_ephemeral[1][CHV_DH_PRIVATE_LEN];
    enum chv_curve curve;
    struct chv_dh *client_identity, *server_identity;
    uint8_t client_public[CHV_DH_PUBLIC_MAX], server_public[CHV_DH_PUBLIC_MAX];
    void *client_memory, *server_memory;
    struct chv_session *client, *server;
};

/* The server's only random bytes are the lineage. */
static enum chv_err give_lineage(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    if (len != get("lineage")->len)
        return CHV_ERR_CRYPTO;
    memcpy(out, get("lineage")->bytes, len);
    return CHV_OK;
}

static void take_ticket(struct chv_session *s, const struct chv_key_request *request)
{
    same("ticket", request->ticket, request->ticket_len);
    const struct chv_session_ticket taken = {.profile = CHV_PROFILE_PSK,
                                             .suite = CHV_SUITE_X25519_AESGCM_SHA256,
                                             .credential = get("credential")->bytes,
                                             .credential_len = get("credential")->len,
                                             .lineage = get("lineage")->bytes,
                                             .secret = get("resumption_secret")->bytes,
                                             .server = "example-server"};
    CU_ASSERT_EQUAL_FATAL(chv_session_ticket_answer(s, &taken), CHV_OK);
}

static void answer(struct run *r, struct chv_session *s)
{
    while (chv_session_wants(s) & CHV_WANT_KEY) {
        struct chv_key_request request;
        uint8_t secret[32], info[CHV_INFO_MAX];
        size_t len;
        CU_ASSERT_EQUAL_FATAL(chv_session_key_request(s, &request), CHV_OK);
        if (request.kind == CHV_KEY_TICKET) {
            take_ticket(s, &request);
            continue;
        }
        if (request.kind == CHV_KEY_DH) {
            struct chv_dh *own = s == r->client ? r->client_identity : r->server_identity;
            CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_derive(&r->real, own, request.peer_public, secret), CHV_OK);
        } else {
            CU_ASSERT_EQUAL_FATAL(request.kind, CHV_KEY_PSK);
            same("credential", request.credential, request.credential_len);
            same("h_psk", request.h_psk, request.h_psk_len);
            const struct value *server = get("server");
            CU_ASSERT_EQUAL_FATAL(
                chv_info_session((const char *)server->bytes, request.h_psk, request.h_psk_len, info, &len), CHV_OK);
            expand(&r->real, get("access_key")->bytes, info, len, secret);
            same("session_psk", secret, sizeof secret);
        }
        CU_ASSERT_EQUAL_FATAL(chv_session_key_answer(s, secret), CHV_OK);
    }
}

/* What `from` sends must be the value of that name; `to` gets it. */
static void pass(struct run *r, struct chv_session *from, struct chv_session *to, const char *name)
{
    const uint8_t *frame;
    size_t len, consumed;
    answer(r, from);
    CU_ASSERT_EQUAL_FATAL(chv_session_send_peek(from, &frame, &len), CHV_OK);
    same(name, frame, len);
    CU_ASSERT_EQUAL_FATAL(chv_session_recv(to, frame, len, &consumed), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(consumed, len);
    CU_ASSERT_EQUAL_FATAL(chv_session_send_consume(from, len), CHV_OK);
    answer(r, to);
}

static void run_open(struct run *r, enum chv_profile profile, enum chv_suite suite, bool resumed)
{
    memset(r, 0, sizeof *r);
    r->curve = chv_suite_parts(suite)->curve;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &r->real, NULL), CHV_OK);
    memcpy(r->client_ephemeral[0], get("client_ephemeral_private")->bytes, CHV_DH_PRIVATE_LEN);
    memcpy(r->server_ephemeral[0], get("server_ephemeral_private")->bytes, CHV_DH_PRIVATE_LEN);
    test_fixed_init(&r->client_fixed, &r->real, (const uint8_t(*)[CHV_DH_PRIVATE_LEN])r->client_ephemeral, 1);
    test_fixed_init(&r->server_fixed, &r->real, (const uint8_t(*)[CHV_DH_PRIVATE_LEN])r->server_ephemeral, 1);
    r->server_fixed.vtable.random = give_lineage;

    const struct value *credential = get("credential");
    struct chv_session_config client = {
        .role = CHV_CLIENT,
        .crypto = &r->client_fixed.crypto,
        .profile = profile,
        .suite = suite,
        .credential = credential->bytes,
        .credential_len = credential->len,
    };
    struct chv_session_config server = {
        .role = CHV_SERVER,
        .crypto = &r->server_fixed.crypto,
        .profiles = CHV_PROFILE_BIT(profile),
        .suites = CHV_SUITE_BIT(suite),
        .now = number("server_time"),
        .limits = {.idle_seconds = (uint16_t)number("idle_seconds")},
    };
    if (resumed) {
        client.ticket = get("ticket")->bytes;
        client.ticket_len = get("ticket")->len;
        client.resumption = get("resumption_secret")->bytes;
        client.server = "example-server";
    }
    if (profile == CHV_PROFILE_KEY_PSK) {
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_import(&r->real, r->curve, get("client_identity_private")->bytes,
                                                   &r->client_identity, r->client_public),
                              CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_import(&r->real, r->curve, get("server_identity_private")->bytes,
                                                   &r->server_identity, r->server_public),
                              CHV_OK);
        same("client_identity_public", r->client_public, chv_dh_public_len(r->curve));
        same("server_identity_public", r->server_public, chv_dh_public_len(r->curve));
        client.identity_public[r->curve] = r->client_public;
        client.peer_public = r->server_public;
        server.identity_public[r->curve] = r->server_public;
    }
    r->client_memory = malloc(chv_session_size());
    r->server_memory = malloc(chv_session_size());
    CU_ASSERT_FATAL(r->client_memory != NULL && r->server_memory != NULL);
    CU_ASSERT_EQUAL_FATAL(chv_session_init(r->client_memory, &client, &r->client, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_session_init(r->server_memory, &server, &r->server, NULL), CHV_OK);
}

static void run_close(struct run *r)
{
    chv_session_wipe(r->client);
    chv_session_wipe(r->server);
    chv_crypto_dh_free(&r->real, r->client_identity);
    chv_crypto_dh_free(&r->real, r->server_identity);
    free(r->client_memory);
    free(r->server_memory);
    chv_backend_close(&r->real);
}

/* Seals the named body: the named record must come out, and the other side must open it. */
static void check_record(struct chv_session *from, struct chv_session *to, uint8_t type, const char *body_name,
                         const char *record_name)
{
    uint8_t frame[256], got_type;
    const uint8_t *body;
    size_t len, body_len;
    const struct value *wanted = get(body_name);
    memcpy(frame + CHV_RECORD_HEAD, wanted->bytes, wanted->len);
    CU_ASSERT_EQUAL_FATAL(chv_session_seal(from, type, frame, wanted->len, &len), CHV_OK);
    same(record_name, frame, len);
    CU_ASSERT_EQUAL_FATAL(chv_session_open(to, frame, len, &got_type, &body, &body_len), CHV_OK);
    CU_ASSERT_EQUAL(got_type, type);
    same(body_name, body, body_len);
}

static void check_channel(struct run *r)
{
    struct chv_session_info info;
    uint8_t out[32];
    const struct value *label = get("exporter_label"), *context = get("exporter_context");
    struct chv_session *both[] = {r->client, r->server};
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(chv_session_wants(both[i]), CHV_WANT_OPEN);
        CU_ASSERT_EQUAL_FATAL(chv_session_get_info(both[i], &info), CHV_OK);
        same("h_fin", info.h_fin, 32);
        same("lineage", info.lineage, CHV_LINEAGE_LEN);
        CU_ASSERT_EQUAL(info.server_time, number("server_time"));
        CU_ASSERT_EQUAL(info.idle_seconds, number("idle_seconds"));
        same("exporter_secret", both[i]->channel.exporter, CHV_KEY_LEN);
        CU_ASSERT_EQUAL(chv_session_export(both[i], (const char *)label->bytes, context->bytes, context->len, out),
                        CHV_OK);
        same("exporter_value", out, sizeof out);
    }
    same("key_client_to_server", r->client->channel.send.key, CHV_KEY_LEN);
    same("key_server_to_client", r->server->channel.send.key, CHV_KEY_LEN);

    check_record(r->client, r->server, CHV_RECORD_OPEN, "open_body", "open_record");
    check_record(r->server, r->client, CHV_RECORD_STATUS, "status_body", "status_record");
    check_record(r->client, r->server, CHV_RECORD_DATA, "data_body", "data_record");
}

/* Noise, 4.2: REKEY. */
static void check_rekey(struct run *r, enum chv_suite suite)
{
    const enum chv_aead_alg alg = chv_suite_parts(suite)->aead;
    uint8_t key[CHV_KEY_LEN];
    struct chv_aead *aead = NULL;
    memcpy(key, get("key_client_to_server")->bytes, sizeof key);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&r->real, alg, key, &aead), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_rekey(&r->real, alg, aead, key), CHV_OK);
    same("rekeyed_client_to_server", key, sizeof key);
    chv_crypto_aead_free(&r->real, aead);
}

static void check_handshake(enum chv_profile profile, enum chv_suite suite)
{
    static struct run r;
    char name[128], protocol[128];
    (void)snprintf(name, sizeof name, "%s-%s", chv_profile_name(profile), chv_suite_name(suite));
    read_block(name);
    const struct chv_suite_parts *parts = chv_suite_parts(suite);
    (void)snprintf(protocol, sizeof protocol, "Noise_%s_%s_%s_%s", chv_profile_pattern(profile),
                   chv_curve_name(parts->curve), chv_aead_name(parts->aead), chv_hash_name(parts->hash));
    same("protocol_name", protocol, strlen(protocol));

    run_open(&r, profile, suite, false);
    pass(&r, r.client, r.server, "hello");
    pass(&r, r.server, r.client, "reply");
    check_channel(&r);
    check_rekey(&r, suite);
    run_close(&r);
}

static void test_resumed(void)
{
    static struct run r;
    read_block("resumed-x25519-aesgcm-sha256");
    run_open(&r, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256, true);
    pass(&r, r.client, r.server, "hello");
    pass(&r, r.server, r.client, "reply");
    struct chv_session *both[] = {r.client, r.server};
    for (size_t i = 0; i < 2; i++) {
        struct chv_session_info info;
        uint8_t secret[CHV_KEY_LEN];
        CU_ASSERT_EQUAL_FATAL(chv_session_wants(both[i]), CHV_WANT_OPEN);
        CU_ASSERT_EQUAL_FATAL(chv_session_get_info(both[i], &info), CHV_OK);
        CU_ASSERT(info.resumed);
        same("h_fin", info.h_fin, 32);
        same("lineage", info.lineage, CHV_LINEAGE_LEN);
        CU_ASSERT_EQUAL(info.server_time, number("server_time"));
        same("exporter_secret", both[i]->channel.exporter, CHV_KEY_LEN);
        CU_ASSERT_EQUAL(chv_session_resumption(both[i], 0, secret), CHV_OK);
        same("resumption_secret_0", secret, sizeof secret);
    }
    same("key_client_to_server", r.client->channel.send.key, CHV_KEY_LEN);
    same("key_server_to_client", r.server->channel.send.key, CHV_KEY_LEN);
    run_close(&r);
}

static void test_psk_x25519_aesgcm(void)
{
    check_handshake(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
}

static void test_psk_x25519_chachapoly(void)
{
    check_handshake(CHV_PROFILE_PSK, CHV_SUITE_X25519_CHACHAPOLY_SHA256);
}

static void test_psk_p256_aesgcm(void)
{
    check_handshake(CHV_PROFILE_PSK, CHV_SUITE_P256_AESGCM_SHA256);
}

static void test_key_psk_x25519_aesgcm(void)
{
    check_handshake(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
}

/* The table of section 2 has every label of the code, with its fields, and no other. */
static void test_every_label_is_documented(void)
{
    const char *top = getenv("top_srcdir");
    char path[4096], line[1024];
    size_t rows = 0;
    (void)snprintf(path, sizeof path, "%s/doc/protocol.md", top != NULL ? top : ".");
    FILE *f = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "| `chaveiro v1 ", 15) != 0)
            continue;
        rows++;
        char *label = line + 3;
        label[strcspn(label, "`")] = '\0';
        bool known = false;
        for (size_t i = 0; i < chv_label_count; i++)
            known = known || strcmp(chv_labels[i].text, label) == 0;
        if (!known)
            fprintf(stderr, "the code has no label %s\n", label);
        CU_ASSERT(known);
    }
    (void)fclose(f);
    CU_ASSERT_EQUAL(rows, chv_label_count);
}

TEST_MAIN("doc/protocol.md", {"keys", test_keys}, {"key update", test_update}, {"ticket", test_ticket},
          {"resumed", test_resumed}, {"psk, x25519-aesgcm", test_psk_x25519_aesgcm},
          {"psk, x25519-chachapoly", test_psk_x25519_chachapoly}, {"psk, p256-aesgcm", test_psk_p256_aesgcm},
          {"key+psk, x25519-aesgcm", test_key_psk_x25519_aesgcm},
          {"every label is documented", test_every_label_is_documented})
