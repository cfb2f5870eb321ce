/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key whose handle was freed is nowhere in the heap: all writable mappings but the stack are searched.  That it is
 * found before shows that the search works.
 */
#include "tests/core/pair.h"
#include "tests/harness.h"

#include "base/memory.h"
#include "core/hkdf.h"
#include "core/session.h"

#include <chaveiro/backend.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The key is written down masked, so that this program's own data does not contain it. */
#define MASK 0x5a
static const uint8_t masked_key[CHV_KEY_LEN] = {
    0x11, 0xd3, 0x42, 0x95, 0x07, 0xee, 0x6c, 0xb8, 0x29, 0xf1, 0x5d, 0x83, 0xca, 0x30, 0x74, 0xaf,
    0xe2, 0x18, 0x9b, 0x46, 0xfd, 0x61, 0x0c, 0xd7, 0x35, 0xa9, 0x7e, 0xc4, 0x52, 0x8d, 0xb0, 0x1f,
};

static void unmask(uint8_t key[CHV_KEY_LEN])
{
    for (size_t i = 0; i < CHV_KEY_LEN; i++)
        key[i] = masked_key[i] ^ MASK;
}

static bool stands_at(const uint8_t *p, bool reversed)
{
    for (size_t i = 0; i < CHV_KEY_LEN; i++)
        if (p[i] != (masked_key[reversed ? CHV_KEY_LEN - 1 - i : i] ^ MASK))
            return false;
    return true;
}

static bool in_range(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + CHV_KEY_LEN <= len; i++)
        if (stands_at(p + i, false) || stands_at(p + i, true)) /* a bignum has its bytes in the other order */
            return true;
    return false;
}

static bool in_memory(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    bool found = false;
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        char *end = NULL;
        uintptr_t from = (uintptr_t)strtoull(line, &end, 16);
        uintptr_t to = (uintptr_t)strtoull(end + 1, &end, 16);
        if (strncmp(end, " rw-p", 5) != 0 || strstr(line, "[stack]") != NULL || strstr(line, "[v") != NULL)
            continue;
        found = in_range((const uint8_t *)from, to - from); /* NOLINT(performance-no-int-to-ptr) */
    }
    fclose(f);
    return found;
}

static struct chv_crypto crypto;

static void test_hmac(void)
{
    uint8_t key[CHV_KEY_LEN];
    uint8_t out[CHV_HASH_MAX];
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    struct chv_dh *dh = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&crypto, CHV_CURVE_25519, &dh, public_key), CHV_OK);
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        unmask(key);
        CU_ASSERT_EQUAL(chv_crypto_hmac(&crypto, (enum chv_hash)i, key, sizeof key, NULL, 0, out), CHV_OK);
        chv_wipe(key, sizeof key);
    }
    CU_ASSERT_TRUE(in_memory());
    chv_crypto_dh_free(&crypto, dh);
    CU_ASSERT_FALSE(in_memory());
}

static void test_aead(void)
{
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        /* one more than are kept for the next key, so that both ways of giving back are taken */
        struct chv_aead *aead[17] = {NULL};
        static const uint8_t nonce[CHV_AEAD_NONCE_LEN];
        uint8_t buf[32 + CHV_AEAD_TAG_LEN] = {0};
        uint8_t key[CHV_KEY_LEN];
        for (size_t k = 0; k < 17; k++) {
            unmask(key);
            CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&crypto, (enum chv_aead_alg)i, key, &aead[k]), CHV_OK);
            chv_wipe(key, sizeof key);
            CU_ASSERT_EQUAL(chv_crypto_aead_seal(&crypto, aead[k], nonce, NULL, 0, buf, 32, buf), CHV_OK);
        }
        CU_ASSERT_TRUE(in_memory());
        for (size_t k = 0; k < 17; k++)
            chv_crypto_aead_free(&crypto, aead[k]);
        CU_ASSERT_FALSE(in_memory());
    }
}

static void test_dh(void)
{
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++) {
        uint8_t key[CHV_KEY_LEN];
        uint8_t public_key[CHV_DH_PUBLIC_MAX];
        uint8_t shared[CHV_KEY_LEN];
        struct chv_dh *dh = NULL;
        unmask(key);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_import(&crypto, (enum chv_curve)i, key, &dh, public_key), CHV_OK);
        chv_wipe(key, sizeof key);
        CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, dh, public_key, shared), CHV_OK);
        CU_ASSERT_TRUE(in_memory());
        chv_crypto_dh_free(&crypto, dh);
        CU_ASSERT_FALSE(in_memory());
    }
}

/* A derivation leaves its key behind only until it is forgotten. */
static void test_expand(void)
{
    uint8_t key[CHV_KEY_LEN];
    uint8_t out[CHV_KEY_LEN];
    unmask(key);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, sizeof key, NULL, 0, out, sizeof out), CHV_OK);
    chv_wipe(key, sizeof key);
    CU_ASSERT_EQUAL(chv_hkdf_forget(&crypto, CHV_HASH_SHA256), CHV_OK);
    CU_ASSERT_FALSE(in_memory());
}

/* A session that was idle when it ended leaves nothing of its exporter secret, though no handle is freed then. */
static void test_export(void)
{
    struct pair p;
    uint8_t out[CHV_KEY_LEN];
    pair_open(&p, CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    pair_connect(&p);
    unmask(p.client->channel.exporter);
    chv_session_idle(p.client);
    CU_ASSERT_TRUE(in_memory());
    CU_ASSERT_EQUAL(chv_session_export(p.client, "example", NULL, 0, out), CHV_OK);
    chv_session_wipe(p.client);
    CU_ASSERT_FALSE(in_memory());
    pair_close(&p);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"HMAC", test_hmac}, {"AEAD", test_aead}, {"DH", test_dh}, {"expand", test_expand}, {"export", test_export}};
#ifdef __SANITIZE_ADDRESS__
    puts("skipped: AddressSanitizer maps terabytes and keeps freed memory");
    return 77;
#endif
    if (chv_backend_open("openssl", &crypto, NULL) != CHV_OK)
        return EXIT_FAILURE;
    int result = test_main("forget", cases, sizeof cases / sizeof cases[0]);
    chv_backend_close(&crypto);
    return result;
}
