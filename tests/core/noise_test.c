/* SPDX-License-Identifier: Apache-2.0 */
#include "core/noise.h"

#include "base/memory.h"
#include "tests/core/noise_pair.h"

#include <stdio.h>
#include <string.h>

static void check_split(struct noise_pair *pair)
{
    uint8_t k[2][3][CHV_KEY_LEN];
    const struct chv_noise *n = pair->noise;

    CU_ASSERT(memcmp(n[0].ss.h, n[1].ss.h, sizeof n[0].ss.h) == 0);
    CU_ASSERT_FALSE(chv_is_zero(n[0].ss.h, n[0].ss.hash_len));
    CU_ASSERT(n[0].e == NULL && n[1].e == NULL);
    for (int side = INITIATOR; side <= RESPONDER; side++) {
        CU_ASSERT(chv_noise_done(&n[side]));
        CU_ASSERT_EQUAL(chv_noise_split(&pair->noise[side], k[side][0], k[side][1], k[side][2]), CHV_OK);
        CU_ASSERT(chv_is_zero(n[side].ss.ck, sizeof n[side].ss.ck));
        CU_ASSERT(chv_is_zero(n[side].ss.prk, sizeof n[side].ss.prk));
        CU_ASSERT(chv_is_zero(n[side].answer, sizeof n[side].answer));
        CU_ASSERT_EQUAL(chv_noise_split(&pair->noise[side], k[side][0], k[side][1], NULL), CHV_ERR_STATE);
        CU_ASSERT(chv_noise_done(&n[side]));
    }
    CU_ASSERT(memcmp(k[0], k[1], sizeof k[0]) == 0);
    CU_ASSERT(memcmp(k[0][0], k[0][1], CHV_KEY_LEN) != 0 && memcmp(k[0][1], k[0][2], CHV_KEY_LEN) != 0);
}

static void run_name(const char *pattern, const char *suite)
{
    static struct noise_pair pair;
    char name[96];

    snprintf(name, sizeof name, "Noise_%s_%s", pattern, suite);
    noise_pair_begin(&pair, name);
    const enum chv_err err = noise_pair_run(&pair);
    if (err != CHV_OK)
        fprintf(stderr, "%s: %s\n", name, chv_err_name(err));
    CU_ASSERT_EQUAL(err, CHV_OK);
    if (err == CHV_OK)
        check_split(&pair);
    noise_pair_free(&pair);
}

static void test_every_pattern(void)
{
    static const char *const suites[] = {"25519_AESGCM_SHA256", "25519_ChaChaPoly_BLAKE2b", "P256_AESGCM_SHA256",
                                         "P256_ChaChaPoly_BLAKE2s", "25519_ChaChaPoly_SHA512"};
    const char *pattern;

    for (size_t i = 0; (pattern = chv_noise_pattern_name(i)) != NULL; i++)
        for (size_t suite = 0; suite < sizeof suites / sizeof suites[0]; suite++)
            run_name(pattern, suites[suite]);
}

/* Every pattern with every set of psk modifiers. */
static void test_every_psk(void)
{
    const char *base;

    for (size_t i = 0; (base = chv_noise_pattern_name(i)) != NULL; i++) {
        struct chv_noise_pattern pattern;
        CU_ASSERT_EQUAL_FATAL(chv_noise_pattern_find(base, &pattern), CHV_OK);
        for (unsigned set = 1; set < 2u << pattern.messages; set++) {
            char name[CHV_PATTERN_NAME_MAX];
            size_t len = (size_t)snprintf(name, sizeof name, "%s", base);
            for (unsigned psk = 0; psk <= pattern.messages; psk++)
                if ((set >> psk & 1) != 0)
                    len +=
                        (size_t)snprintf(name + len, sizeof name - len, "%spsk%u", len == strlen(base) ? "" : "+", psk);
            run_name(name, "25519_AESGCM_SHA256");
        }
    }
}

/* What the peer's message `message` does to its reader after the pair was changed. */
static void check_refused(struct noise_pair *pair, unsigned message, enum chv_err expected)
{
    while (pair->next < message) {
        CU_ASSERT_EQUAL_FATAL(noise_pair_write(pair), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(noise_pair_read(pair), CHV_OK);
    }
    CU_ASSERT_EQUAL_FATAL(noise_pair_write(pair), CHV_OK);
    CU_ASSERT_EQUAL(noise_pair_read(pair), expected);
    noise_check_failed(&pair->noise[message % 2 == 0 ? RESPONDER : INITIATOR], expected);
}

static void test_wrong_psk(void)
{
    static const struct {
        const char *name;
        unsigned message; /* that does not open */
    } cases[] = {{"Noise_NNpsk0_25519_AESGCM_SHA256", 0},
                 {"Noise_NNpsk2_25519_AESGCM_SHA256", 1},
                 {"Noise_IKpsk2_25519_ChaChaPoly_SHA256", 1},
                 {"Noise_XXpsk3_P256_AESGCM_SHA256", 2}};
    static struct noise_pair pair;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int side = INITIATOR; side <= RESPONDER; side++) {
            noise_pair_begin(&pair, cases[i].name);
            pair.psk[side][31] ^= 1;
            check_refused(&pair, cases[i].message, CHV_ERR_AUTH);
            noise_pair_free(&pair);
        }
}

/* A side that pins another key, and one that has not the private key that it shows. */
static void test_wrong_static(void)
{
    static struct noise_pair pair;
    uint8_t other[CHV_DH_PUBLIC_MAX];
    struct chv_dh *key;

    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&noise_crypto, CHV_CURVE_25519, &key, other), CHV_OK);

    noise_pair_init(&pair, "Noise_IK_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[INITIATOR].rs = other;
    noise_pair_start_both(&pair);
    check_refused(&pair, 0, CHV_ERR_AUTH);
    noise_pair_free(&pair);

    noise_pair_init(&pair, "Noise_IK_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[INITIATOR].s_public = other;
    noise_pair_start_both(&pair);
    check_refused(&pair, 0, CHV_ERR_AUTH);
    noise_pair_free(&pair);

    noise_pair_init(&pair, "Noise_XX_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[RESPONDER].s_public = other;
    noise_pair_start_both(&pair);
    check_refused(&pair, 1, CHV_ERR_AUTH);
    noise_pair_free(&pair);
    chv_crypto_dh_free(&noise_crypto, key);
}

static void test_wrong_prologue(void)
{
    static struct noise_pair pair;

    noise_pair_init(&pair, "Noise_NNpsk2_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[RESPONDER].prologue_len--;
    noise_pair_start_both(&pair);
    check_refused(&pair, 0, CHV_ERR_AUTH);
    noise_pair_free(&pair);
}

/* Flips one bit of message `message`; false if there is no such byte. */
static bool flip(struct noise_pair *pair, const char *name, unsigned message, size_t bit, unsigned fails_at)
{
    bool there = true;

    noise_pair_begin(pair, name);
    for (;;) {
        CU_ASSERT_EQUAL_FATAL(noise_pair_write(pair), CHV_OK);
        if (pair->next == message) {
            there = bit / 8 < pair->message_len;
            if (!there)
                break;
            pair->message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        struct chv_noise *reader = &pair->noise[pair->next % 2 == 0 ? RESPONDER : INITIATOR];
        const bool last = pair->next == fails_at;
        const enum chv_err err = noise_pair_read(pair);
        if (last) {
            /* a changed point of P-256 is no point */
            CU_ASSERT(err == CHV_ERR_AUTH || err == CHV_ERR_MALFORMED);
            CU_ASSERT(memcmp(pair->message + pair->message_len - 25, "payload", 7) != 0);
            if (!pair->key_refused)
                noise_check_failed(reader, err);
            break;
        }
        CU_ASSERT_EQUAL_FATAL(err, CHV_OK);
    }
    noise_pair_free(pair);
    return there;
}

static void test_flipped_bits(void)
{
    static struct noise_pair pair;
    size_t bit;

    for (unsigned message = 0; message < 2; message++) {
        for (bit = 0; flip(&pair, "Noise_NNpsk2_25519_AESGCM_SHA256", message, bit, message); bit++)
            ;
        CU_ASSERT_EQUAL(bit / 8, 32 + 16 + 9);
        /* one bit of each byte, among them X25519's bit 255, which the curve ignores */
        for (bit = 7; flip(&pair, "Noise_IK_25519_ChaChaPoly_SHA256", message, bit, message); bit += 8)
            ;
        CU_ASSERT_EQUAL(bit / 8, message == 0 ? 32 + 48 + 16 + 9 : 32 + 16 + 9);
        for (bit = 0; flip(&pair, "Noise_IKpsk2_P256_AESGCM_SHA256", message, bit, message); bit += 8)
            ;
        CU_ASSERT_EQUAL(bit / 8, message == 0 ? 65 + 81 + 16 + 9 : 65 + 16 + 9);
    }
    /* without a key the first message is taken as it is, and the second does not open */
    for (bit = 0; bit < 256; bit++)
        CU_ASSERT(flip(&pair, "Noise_NN_25519_AESGCM_SHA256", 0, bit, 1));
}

static const struct test_case cases[] = {
    {"every pattern", test_every_pattern},   {"every set of psk modifiers", test_every_psk},
    {"wrong psk", test_wrong_psk},           {"wrong static key", test_wrong_static},
    {"wrong prologue", test_wrong_prologue}, {"flipped bits", test_flipped_bits},
};

int main(void)
{
    return noise_test_main("noise", cases, sizeof cases / sizeof cases[0]);
}
