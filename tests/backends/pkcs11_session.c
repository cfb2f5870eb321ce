/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole sessions of every suite and profile that a token has, refused by name where it has not: with one URI between the
 * token and OpenSSL, both ways, and between the token and itself; with several between any two of them, both ways.
 * Afterwards the token has as many objects as before.
 * Usage: pkcs11_session URI...
 */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "core/record.h"
#include "core/wire.h"
#include "p11/object.h"

#include <stdio.h>
#include <string.h>

enum { TOKENS_MAX = 4 };

static struct chv_crypto tokens[TOKENS_MAX];
static const char *uris[TOKENS_MAX];
static size_t token_count;

static struct pair p;
static uint8_t frame[CHV_RECORD_FRAME_MAX];
static uint8_t body[CHV_RECORD_BODY_MAX];

static uint32_t needs(enum chv_suite suite)
{
    const struct chv_suite_parts *parts = chv_suite_parts(suite);
    return CHV_CAP_CURVE(parts->curve) | CHV_CAP_AEAD(parts->aead) | CHV_CAP_HASH(parts->hash);
}

static void send_record(struct chv_session *from, struct chv_session *to, size_t len)
{
    uint8_t type;
    const uint8_t *got;
    size_t got_len;
    size_t frame_len = pair_seal(from, CHV_RECORD_DATA, body, len, frame);
    CU_ASSERT_EQUAL_FATAL(chv_session_open(to, frame, frame_len, &type, &got, &got_len), CHV_OK);
    CU_ASSERT_EQUAL(got_len, len);
    CU_ASSERT_EQUAL(memcmp(got, body, len), 0);
}

/* Handshake, OPEN, records of many lengths both ways, and one that was changed on the way. */
static void run_session(void)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 1000, 16384, CHV_RECORD_BODY_MAX};
    uint8_t type;
    const uint8_t *got;
    size_t got_len;
    pair_connect(&p);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memset(body, (int)i + 1, lengths[i]);
        send_record(p.client, p.server, lengths[i]);
        send_record(p.server, p.client, lengths[i]);
    }
    size_t len = pair_seal(p.client, CHV_RECORD_DATA, body, 100, frame);
    frame[len - 1] ^= 1;
    CU_ASSERT_EQUAL(chv_session_open(p.server, frame, len, &type, &got, &got_len), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(chv_session_error(p.server), CHV_ERR_AUTH);
}

enum way { TOKEN_CLIENT, TOKEN_SERVER, TOKEN_BOTH, WAYS };

static bool has(const struct chv_crypto *crypto, enum chv_suite suite)
{
    return (crypto->capabilities & needs(suite)) == needs(suite);
}

/* NULL: OpenSSL on that side. */
static void run_between(const struct chv_crypto *client, const struct chv_crypto *server, enum chv_profile profile,
                        enum chv_suite suite)
{
    pair_open(&p, profile, suite);
    pair_stop(&p);
    if (client != NULL)
        p.client_crypto = *client;
    if (server != NULL)
        p.server_crypto = *server;
    if (has(&p.client_crypto, suite) && has(&p.server_crypto, suite)) {
        CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
        run_session();
    } else {
        CU_ASSERT_EQUAL(pair_start(&p), CHV_ERR_UNSUPPORTED);
    }
    pair_close(&p);
}

struct count {
    size_t n;
};

static enum chv_err count_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_HANDLE some[1];
    return chv_p11_find(s, NULL, 0, some, 1, &((struct count *)arg)->n, why);
}

/* Objects that this process sees in the token. */
static size_t count_objects(const char *uri)
{
    struct chv_p11_uri parsed;
    struct chv_p11_token *token = NULL;
    struct count count = {0};
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(uri, &parsed, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&parsed, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, count_work, &count, NULL), CHV_OK);
    chv_p11_token_close(token);
    chv_p11_uri_free(&parsed);
    return count.n;
}

static const enum chv_profile profiles[] = {CHV_PROFILE_PSK, CHV_PROFILE_KEY, CHV_PROFILE_KEY_PSK};

/* One token against another: no software in between. */
static void test_between(void)
{
    for (size_t a = 0; a < token_count; a++)
        for (size_t b = 0; b < token_count; b++) {
            unsigned suites = 0;
            if (a == b)
                continue;
            for (unsigned suite = 1; chv_suite_parts((enum chv_suite)suite) != NULL; suite++) {
                suites += has(&tokens[a], (enum chv_suite)suite) && has(&tokens[b], (enum chv_suite)suite);
                for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
                    run_between(&tokens[a], &tokens[b], profiles[i], (enum chv_suite)suite);
            }
            CU_ASSERT_TRUE(suites > 0);
            printf("%u shared suites ... ", suites);
        }
}

static void test_sessions(void)
{
    for (size_t t = 0; t < token_count; t++) {
        unsigned suites = 0;
        size_t before = count_objects(uris[t]);
        for (unsigned suite = 1; chv_suite_parts((enum chv_suite)suite) != NULL; suite++) {
            suites += has(&tokens[t], (enum chv_suite)suite);
            for (unsigned way = 0; way < WAYS; way++)
                for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
                    run_between(way != TOKEN_SERVER ? &tokens[t] : NULL, way != TOKEN_CLIENT ? &tokens[t] : NULL,
                                profiles[i], (enum chv_suite)suite);
        }
        CU_ASSERT_TRUE(suites > 0);
        CU_ASSERT_EQUAL(count_objects(uris[t]), before);
        printf("%u suites ... ", suites);
    }
}

/* What the token lacks is named: the mechanism, and what the token said. */
static void test_refusal(void)
{
    for (size_t t = 0; t < token_count; t++) {
        if ((tokens[t].capabilities & CHV_CAP_AEAD(CHV_AEAD_CHACHA20POLY1305)) != 0)
            continue;
        struct chv_why why = {{0}};
        struct chv_session *session = NULL;
        uint8_t credential[CHV_CREDENTIAL_MAX] = {0};
        void *memory = calloc(1, chv_session_size());
        CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
        const struct chv_session_config config = {
            .role = CHV_SERVER,
            .crypto = &tokens[t],
            .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
            .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_CHACHAPOLY_SHA256),
            .credential = credential,
        };
        CU_ASSERT_EQUAL(chv_session_init(memory, &config, &session, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "ChaChaPoly"));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKM_CHACHA20_POLY1305"));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKR_MECHANISM_INVALID"));
        free(memory);
    }
}

int main(int argc, char **argv)
{
    static const struct test_case one[] = {{"sessions", test_sessions}, {"refusal", test_refusal}};
    static const struct test_case several[] = {{"between tokens", test_between}};
    int result = EXIT_FAILURE;
    for (int i = 1; i < argc && token_count < TOKENS_MAX; i++) {
        struct chv_why why = {{0}};
        if (chv_backend_open(argv[i], &tokens[token_count], &why) != CHV_OK) {
            fprintf(stderr, "pkcs11_session: %s: %s\n", argv[i], why.text);
            goto out;
        }
        uris[token_count++] = argv[i];
    }
    if (token_count == 1)
        result = test_main("sessions in a token", one, sizeof one / sizeof one[0]);
    else if (token_count > 1)
        result = test_main("sessions between tokens", several, sizeof several / sizeof several[0]);
out:
    for (size_t i = 0; i < token_count; i++)
        chv_backend_close(&tokens[i]);
    return result;
}
