/* SPDX-License-Identifier: Apache-2.0 */
#include "core/credential.h"
#include "tests/harness.h"

#include "base/memory.h"

#include <string.h>

static struct chv_credential sample(void)
{
    struct chv_credential c = {.profile = CHV_PROFILE_KEY_PSK,
                               .epoch = 7,
                               .serial = 2,
                               .not_after = 1800000000,
                               .id = "cam-1@door",
                               .has_identity = true,
                               .identity_hash = {1, 2, 3}};
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "files:ro"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "tunnel:db"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "files:ro"), CHV_OK);
    return c;
}

static size_t encode(const struct chv_credential *c, uint8_t out[CHV_CREDENTIAL_MAX])
{
    size_t len = CHV_CREDENTIAL_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(c, out, &len), CHV_OK);
    return len;
}

static void test_layout(void)
{
    static const uint8_t expected[] = {1,    1,    0, 0, 0,   3, 0, 0, 0,   4,   0,   0,   0,   0,   0x6b,
                                       0x49, 0xd2, 0, 1, '1', 0, 1, 7, 'm', 'e', 's', 's', 'a', 'g', 'e'};
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 3, .serial = 4, .not_after = 1800000000, .id = "1"};
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    uint8_t out[CHV_CREDENTIAL_MAX];
    CU_ASSERT_EQUAL_FATAL(encode(&c, out), sizeof expected);
    CU_ASSERT(memcmp(out, expected, sizeof expected) == 0);
}

static void test_round_trip(void)
{
    struct chv_credential c = sample(), d;
    CU_ASSERT_EQUAL(c.scope_count, 3);
    CU_ASSERT_STRING_EQUAL(c.scopes[0], "files:ro");
    CU_ASSERT_STRING_EQUAL(c.scopes[1], "message");
    CU_ASSERT(chv_credential_has_scope(&c, "tunnel:db"));
    CU_ASSERT(!chv_credential_has_scope(&c, "tunnel"));
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = encode(&c, bytes);
    CU_ASSERT_EQUAL_FATAL(chv_credential_parse(bytes, len, &d, NULL), CHV_OK);
    uint8_t again[CHV_CREDENTIAL_MAX];
    CU_ASSERT_EQUAL(encode(&d, again), len);
    CU_ASSERT_EQUAL(memcmp(again, bytes, len), 0);
}

/* One encoding only: whatever parses encodes to the same bytes; cut or longer ones do not parse. */
static void test_strict(void)
{
    struct chv_credential c = sample(), d;
    uint8_t bytes[CHV_CREDENTIAL_MAX + 1] = {0}, again[CHV_CREDENTIAL_MAX];
    const size_t len = encode(&c, bytes);
    for (size_t n = 0; n < len; n++)
        CU_ASSERT_EQUAL(chv_credential_parse(bytes, n, &d, NULL), CHV_ERR_MALFORMED);
    CU_ASSERT(chv_is_zero(&d, sizeof d));
    CU_ASSERT_EQUAL(chv_credential_parse(bytes, len + 1, &d, NULL), CHV_ERR_MALFORMED);
    size_t used = 0;
    CU_ASSERT_EQUAL(chv_credential_parse(bytes, len + 1, &d, &used), CHV_OK);
    CU_ASSERT_EQUAL(used, len);

    size_t taken = 0;
    for (size_t at = 0; at < len; at++)
        for (unsigned v = 0; v < 256; v++) {
            const uint8_t kept = bytes[at];
            bytes[at] = (uint8_t)v;
            if (chv_credential_parse(bytes, len, &d, NULL) == CHV_OK) {
                taken++;
                size_t n = sizeof again;
                CU_ASSERT_EQUAL(chv_credential_encode(&d, again, &n), CHV_OK);
                CU_ASSERT(n == len && memcmp(again, bytes, len) == 0);
            }
            bytes[at] = kept;
        }
    CU_ASSERT(taken > 32 * 256); /* the identity hash at least */

    /* Identity hashes of every other length, all else being right. */
    const size_t hash_at = 19 + strlen(c.id) + 1;
    for (size_t n = 0; n < CHV_IDENTITY_HASH_LEN; n++) {
        uint8_t cut[CHV_CREDENTIAL_MAX];
        const size_t rest = hash_at + CHV_IDENTITY_HASH_LEN;
        memcpy(cut, bytes, hash_at + n);
        cut[hash_at - 1] = (uint8_t)n;
        memcpy(cut + hash_at + n, bytes + rest, len - rest);
        CU_ASSERT_EQUAL(chv_credential_parse(cut, hash_at + n + len - rest, &d, NULL), CHV_ERR_MALFORMED);
    }
}

static void expect_refused(const struct chv_credential *c)
{
    uint8_t out[CHV_CREDENTIAL_MAX];
    size_t len = sizeof out;
    CU_ASSERT_EQUAL(chv_credential_encode(c, out, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(len, sizeof out);
}

static void test_not_canonical(void)
{
    struct chv_credential bad[12];
    for (size_t i = 0; i < 12; i++)
        bad[i] = sample();
    bad[0].epoch = 0;
    bad[1].serial = 0;
    bad[2].profile = CHV_PROFILE_KEY;
    bad[3].profile = CHV_PROFILE_PSK; /* with an identity hash */
    bad[4].has_identity = false;
    bad[5].id[0] = '-';
    bad[6].scopes[1][0] = 'a'; /* out of order */
    bad[7].scopes[0][0] = 'F';
    memcpy(bad[8].scopes[1], bad[8].scopes[0], sizeof bad[8].scopes[0]); /* twice */
    bad[9].profile = CHV_PROFILE_KEY; /* whose clients have none, with an identity hash or without */
    bad[10].profile = (enum chv_profile)0;
    bad[11].profile = (enum chv_profile)4;
    bad[9].has_identity = bad[10].has_identity = bad[11].has_identity = false;
    for (size_t i = 0; i < 12; i++)
        expect_refused(&bad[i]);
}

static void test_too_long(void)
{
    struct chv_credential c = sample();
    char scope[CHV_SCOPE_MAX + 1] = "tunnel:aaaaaaaaaaaaaaaaaaaaaaaa0";
    for (int x = 'a'; x <= 'z'; x++) {
        scope[7] = (char)x;
        CU_ASSERT_EQUAL(chv_credential_add_scope(&c, scope), CHV_OK);
    }
    uint8_t out[CHV_CREDENTIAL_MAX];
    size_t len = sizeof out;
    CU_ASSERT_EQUAL(chv_credential_encode(&c, out, &len), CHV_ERR_SPACE);
    c = sample();
    len = 20;
    CU_ASSERT_EQUAL(chv_credential_encode(&c, out, &len), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "no spaces"), CHV_ERR_ARGUMENT);
    char name[4] = "s00";
    for (size_t i = c.scope_count; i < CHV_SCOPES_MAX; i++) {
        name[1] = (char)('0' + i / 10);
        name[2] = (char)('0' + i % 10);
        CU_ASSERT_EQUAL(chv_credential_add_scope(&c, name), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "zz"), CHV_ERR_SPACE);
}

static void test_grammar(void)
{
    char longest[CHV_CLIENT_ID_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[CHV_CLIENT_ID_MAX + 1] = '\0';
    CU_ASSERT(!chv_client_id_valid(longest));
    CU_ASSERT(!chv_server_name_valid(longest));
    longest[CHV_CLIENT_ID_MAX] = '\0';
    CU_ASSERT(chv_client_id_valid(longest));
    CU_ASSERT(chv_server_name_valid(longest));
    static const char *const good_ids[] = {"1", "cam1", "A.b_c@d:e-f"};
    static const char *const bad_ids[] = {"", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa9"};
    static const char *const bad_names[] = {"", "a b", "a@b", "a:b", "a/b"};
    static const char *const bad_scopes[] = {"", "A", "files*", "a b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < 3; i++)
        CU_ASSERT(chv_client_id_valid(good_ids[i]));
    for (size_t i = 0; i < 7; i++)
        CU_ASSERT(!chv_client_id_valid(bad_ids[i]));
    for (size_t i = 0; i < 5; i++) {
        CU_ASSERT(!chv_server_name_valid(bad_names[i]));
        CU_ASSERT(!chv_scope_valid(bad_scopes[i]));
    }
    CU_ASSERT(chv_server_name_valid("-home.example_1"));
    CU_ASSERT(chv_scope_valid("tunnel:db/main.x_1-2"));
}

static void test_identity_hash(void)
{
    struct chv_crypto crypto;
    uint8_t key[CHV_DH_PUBLIC_MAX] = {4}, x25519[32], p256[32], expected[32];
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_identity_hash(&crypto, CHV_CURVE_25519, key, x25519), CHV_OK);
    CU_ASSERT_EQUAL(chv_identity_hash(&crypto, CHV_CURVE_P256, key, p256), CHV_OK);
    CU_ASSERT(memcmp(x25519, p256, 32) != 0);
    /* label, 0x00, curve, key: 0 for X25519, 1 for P-256 */
    uint8_t whole[20 + 1 + 1 + CHV_DH_PUBLIC_MAX] = "chaveiro v1 identity";
    memcpy(whole + 22, key, sizeof key);
    const struct chv_part parts[] = {{whole, 22 + 32}, {whole, 22 + CHV_DH_PUBLIC_MAX}};
    CU_ASSERT_EQUAL(chv_crypto_hash(&crypto, CHV_HASH_SHA256, &parts[0], 1, expected), CHV_OK);
    CU_ASSERT(memcmp(x25519, expected, 32) == 0);
    whole[21] = 1;
    CU_ASSERT_EQUAL(chv_crypto_hash(&crypto, CHV_HASH_SHA256, &parts[1], 1, expected), CHV_OK);
    CU_ASSERT(memcmp(p256, expected, 32) == 0);
    chv_backend_close(&crypto);
}

TEST_MAIN("core/credential", {"layout", test_layout}, {"round trip", test_round_trip}, {"strict", test_strict},
          {"not canonical", test_not_canonical}, {"too long", test_too_long}, {"grammar", test_grammar},
          {"identity hash", test_identity_hash})
