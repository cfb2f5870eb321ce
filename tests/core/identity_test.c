/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity.h"
#include "tests/harness.h"

#include <string.h>

#define X25519_TEXT "x25519 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8="

static struct chv_identity example(enum chv_curve curve)
{
    struct chv_identity id = {.curve = curve};
    for (size_t i = 0; i < chv_dh_public_len(curve); i++)
        id.public_key[i] = (uint8_t)i;
    if (curve == CHV_CURVE_P256)
        id.public_key[0] = 4;
    else
        memcpy(id.public_key + 30, "\xfb\xff", 2); /* both characters in which the alphabets differ */
    return id;
}

static void test_round_trip(void)
{
    for (unsigned curve = 0; curve < CHV_CURVE_COUNT; curve++) {
        char text[CHV_IDENTITY_TEXT_MAX];
        const struct chv_identity id = example((enum chv_curve)curve);
        struct chv_identity back;
        chv_identity_format(&id, text);
        char *space = strchr(text, ' ');
        CU_ASSERT_PTR_NOT_NULL_FATAL(space);
        if (curve == CHV_CURVE_25519)
            CU_ASSERT_STRING_EQUAL(text, X25519_TEXT);
        *space = '\0';
        CU_ASSERT_EQUAL(chv_identity_parse(text, space + 1, &back), CHV_OK);
        CU_ASSERT_EQUAL(chv_identity_compare(&id, &back), 0);
        CU_ASSERT_EQUAL(memcmp(&id.public_key, &back.public_key, sizeof id.public_key), 0);
    }
}

static void test_refused(void)
{
    static const char *const bad[][2] = {
        {"x25519", ""},
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8"},      /* padding */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8=="},    /* too much of it */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd-_8="},     /* the other alphabet */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/9="},     /* unused bits */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+=8="},     /* '=' inside */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka"},             /* short */
        {"x25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj"}, /* long */
        {"X25519", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8="},
        {"p256", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8="},
        {"", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8="},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chv_identity id;
        memset(&id, 0xa5, sizeof id);
        CU_ASSERT_EQUAL(chv_identity_parse(bad[i][0], bad[i][1], &id), CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(id.public_key[0], 0);
    }
    /* a P-256 point that is not in its uncompressed form */
    char text[CHV_IDENTITY_TEXT_MAX];
    struct chv_identity id = example(CHV_CURVE_P256), back;
    id.public_key[0] = 2;
    chv_identity_format(&id, text);
    CU_ASSERT_EQUAL(chv_identity_parse("p256", text + strlen("p256 "), &back), CHV_ERR_MALFORMED);
}

static void test_order(void)
{
    struct chv_identity a = example(CHV_CURVE_25519), b = a, c = example(CHV_CURVE_P256);
    b.public_key[31]++;
    b.public_key[31] = 0;
    CU_ASSERT_TRUE(chv_identity_compare(&b, &a) < 0);
    CU_ASSERT_TRUE(chv_identity_compare(&a, &b) > 0);
    CU_ASSERT_TRUE(chv_identity_compare(&a, &c) < 0);
    CU_ASSERT_TRUE(chv_identity_compare(&c, &a) > 0);
}

/* SHA-256("chaveiro v1 identity" 00 00 || 32 bytes of 0x11), by sha256sum(1) and base64(1). */
static void test_fingerprint(void)
{
    char text[CHV_FINGERPRINT_MAX], other[CHV_FINGERPRINT_MAX];
    struct chv_crypto crypto;
    struct chv_identity id = {.curve = CHV_CURVE_25519};
    memset(id.public_key, 0x11, 32);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_fingerprint(&crypto, &id, text), CHV_OK);
    CU_ASSERT_STRING_EQUAL(text, "SHA256:I405IlGINgZySJOGlHGbxUS3RwfTfN7IEmEGNX2dPww");
    id.public_key[0] ^= 1;
    CU_ASSERT_EQUAL(chv_fingerprint(&crypto, &id, other), CHV_OK);
    CU_ASSERT_STRING_NOT_EQUAL(text, other);
    chv_backend_close(&crypto);
}

static void test_names(void)
{
    enum chv_curve curve;
    CU_ASSERT_STRING_EQUAL(chv_identity_curve_name((enum chv_curve)7), "?");
    CU_ASSERT_EQUAL(chv_identity_curve_find("ed25519", &curve), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_identity_curve_find("p256", &curve), CHV_OK);
    CU_ASSERT_EQUAL(curve, CHV_CURVE_P256);
}

TEST_MAIN("core: identity keys as text", {"there and back", test_round_trip}, {"refused", test_refused},
          {"order", test_order}, {"fingerprint", test_fingerprint}, {"names", test_names})
