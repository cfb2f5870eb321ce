/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same cases over every backend, and every backend against every other.
 * Usage: contract [[--backend] SPEC]...   when none is named, all of the table that need no parameters
 */
#include "tests/backends/contract.h"

#include "tests/harness.h"

#include "base/encode.h"
#include "base/memory.h"

#include <chaveiro/backend.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SUBJECT_MAX 8u

struct chv_crypto subjects[SUBJECT_MAX];
size_t subject_count;
static const char *specs[SUBJECT_MAX];

/* ---- random ---- */

static void test_random(void)
{
    FOR_EACH_SUBJECT(c)
    {
        uint8_t last[32] = {0};
        for (int i = 0; i < 100; i++) {
            uint8_t now[33];
            now[32] = 0xa5;
            CU_ASSERT_EQUAL(chv_crypto_random(c, now, 32), CHV_OK);
            CU_ASSERT_NOT_EQUAL(memcmp(now, last, 32), 0);
            CU_ASSERT_EQUAL(now[32], 0xa5);
            memcpy(last, now, 32);
        }
        CU_ASSERT_EQUAL(chv_crypto_random(c, NULL, 0), CHV_OK);
    }
}

/* ---- hash, HMAC ---- */

/* Digest of one part, in a buffer whose rest must stay. */
static bool digest(const struct chv_crypto *c, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    uint8_t buf[CHV_HASH_MAX + 1];
    size_t len = chv_hash_len(alg);
    memset(buf, 0xa5, sizeof buf);
    if (chv_crypto_hash(c, alg, parts, n, buf) != CHV_OK || !all_are(buf + len, sizeof buf - len, 0xa5))
        return false;
    memcpy(out, buf, len);
    return true;
}

static void check_hash(const struct chv_crypto *c, enum chv_hash alg)
{
    static uint8_t big[BIG];
    uint8_t whole[CHV_HASH_MAX];
    uint8_t split[CHV_HASH_MAX];
    uint8_t alias[CHV_HASH_MAX];
    size_t len = chv_hash_len(alg);
    fill(big, sizeof big, 1);

    /* nothing, in every spelling */
    CU_ASSERT_TRUE(digest(c, alg, NULL, 0, whole));
    const struct chv_part none[] = {{NULL, 0}, {"", 0}};
    CU_ASSERT_TRUE(digest(c, alg, none, 2, split));
    CU_ASSERT_EQUAL(memcmp(whole, split, len), 0);

    /* every cut of a message of two blocks and a bit, empty parts between */
    CU_ASSERT_TRUE(digest(c, alg, &(struct chv_part){big, 260}, 1, whole));
    for (size_t cut = 0; cut <= 260; cut++) {
        const struct chv_part parts[] = {{big, cut}, {NULL, 0}, {big + cut, 260 - cut}, {big, 0}};
        CU_ASSERT_TRUE(digest(c, alg, parts, 4, split));
        CU_ASSERT_EQUAL(memcmp(whole, split, len), 0);
    }

    /* a big message; the output may stand on a part */
    CU_ASSERT_TRUE(digest(c, alg, &(struct chv_part){big, BIG}, 1, whole));
    fill(alias, sizeof alias, 3);
    const struct chv_part first[] = {{alias, sizeof alias}, {big, 10}};
    CU_ASSERT_TRUE(digest(c, alg, first, 2, split));
    CU_ASSERT_EQUAL(chv_crypto_hash(c, alg, first, 2, alias), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(alias, split, len), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(whole, split, len), 0);
}

static void test_hash(void)
{
    FOR_EACH_SUBJECT(c)
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++)
        if (has(c, CHV_CAP_HASH(i)))
            check_hash(c, (enum chv_hash)i);
}

/* RFC 2104, 2, from the hash alone: what HMAC must be, whatever key length. */
static void reference_hmac(const struct chv_crypto *c, enum chv_hash alg, const uint8_t *key, size_t keylen,
                           const struct chv_part *message, uint8_t *out)
{
    size_t block = chv_hash_block_len(alg);
    uint8_t k[128] = {0};
    uint8_t inner[128];
    uint8_t outer[128];
    uint8_t mid[CHV_HASH_MAX];
    if (keylen > block) {
        CU_ASSERT_TRUE(digest(c, alg, &(struct chv_part){key, keylen}, 1, k));
    } else if (keylen > 0) {
        memcpy(k, key, keylen);
    }
    for (size_t i = 0; i < block; i++) {
        inner[i] = k[i] ^ 0x36;
        outer[i] = k[i] ^ 0x5c;
    }
    CU_ASSERT_TRUE(digest(c, alg, (const struct chv_part[]){{inner, block}, *message}, 2, mid));
    CU_ASSERT_TRUE(digest(c, alg, (const struct chv_part[]){{outer, block}, {mid, chv_hash_len(alg)}}, 2, out));
}

static void check_hmac(const struct chv_crypto *c, enum chv_hash alg)
{
    static const size_t key_lens[] = {1, 32, 0 /* after another */, 63, 64, 65, 127, 128, 129, 1024};
    uint8_t key[1024];
    uint8_t message[300];
    size_t len = chv_hash_len(alg);
    fill(key, sizeof key, 5);
    fill(message, sizeof message, 6);
    for (size_t i = 0; i < sizeof key_lens / sizeof key_lens[0]; i++) {
        uint8_t want[CHV_HASH_MAX];
        uint8_t got[CHV_HASH_MAX + 1];
        const struct chv_part whole = {message, sizeof message};
        const struct chv_part parts[] = {{message, 100}, {NULL, 0}, {message + 100, 200}};
        memset(got, 0xa5, sizeof got);
        reference_hmac(c, alg, key, key_lens[i], &whole, want);
        CU_ASSERT_EQUAL(chv_crypto_hmac(c, alg, key_lens[i] > 0 ? key : NULL, key_lens[i], parts, 3, got), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(got, want, len), 0);
        CU_ASSERT_TRUE(all_are(got + len, sizeof got - len, 0xa5));

        const struct chv_part nothing = {"", 0};
        reference_hmac(c, alg, key, key_lens[i], &nothing, want);
        CU_ASSERT_EQUAL(chv_crypto_hmac(c, alg, key, key_lens[i], NULL, 0, got), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(got, want, len), 0);
    }

    /* the output may stand on the key or a part */
    uint8_t want[CHV_HASH_MAX];
    uint8_t alias[CHV_HASH_MAX];
    fill(alias, sizeof alias, 8);
    const struct chv_part self = {alias, sizeof alias};
    CU_ASSERT_EQUAL(chv_crypto_hmac(c, alg, alias, len, &self, 1, want), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_hmac(c, alg, alias, len, &self, 1, alias), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(alias, want, len), 0);

    memset(want, 0xa5, sizeof want);
    CU_ASSERT_EQUAL(chv_crypto_hmac(c, alg, key, 1025, NULL, 0, want), CHV_ERR_ARGUMENT);
    CU_ASSERT_TRUE(all_are(want, sizeof want, 0xa5));
}

static void test_hmac(void)
{
    FOR_EACH_SUBJECT(c)
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++)
        if (has(c, CHV_CAP_HASH(i)))
            check_hmac(c, (enum chv_hash)i);
}

static void test_hash_pairs(void)
{
    FOR_EACH_PAIR(a, b)
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        if (!has(a, CHV_CAP_HASH(i)) || !has(b, CHV_CAP_HASH(i)))
            continue;
        enum chv_hash alg = (enum chv_hash)i;
        uint8_t message[200];
        uint8_t x[CHV_HASH_MAX];
        uint8_t y[CHV_HASH_MAX];
        const struct chv_part part = {message, sizeof message};
        fill(message, sizeof message, i);
        CU_ASSERT_TRUE(digest(a, alg, &part, 1, x) && digest(b, alg, &part, 1, y));
        CU_ASSERT_EQUAL(memcmp(x, y, chv_hash_len(alg)), 0);
        CU_ASSERT_EQUAL(chv_crypto_hmac(a, alg, key_a, sizeof key_a, &part, 1, x), CHV_OK);
        CU_ASSERT_EQUAL(chv_crypto_hmac(b, alg, key_a, sizeof key_a, &part, 1, y), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(x, y, chv_hash_len(alg)), 0);
    }
}

/* ---- Diffie-Hellman ---- */

static void test_dh_pairs(void)
{
    FOR_EACH_PAIR(a, b)
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++) {
        if (!has(a, CHV_CAP_CURVE(i)) || !has(b, CHV_CAP_CURVE(i)))
            continue;
        enum chv_curve curve = (enum chv_curve)i;
        uint8_t public_x[CHV_DH_PUBLIC_MAX + 1];
        uint8_t public_y[CHV_DH_PUBLIC_MAX + 1];
        uint8_t shared_x[CHV_KEY_LEN];
        uint8_t shared_y[CHV_KEY_LEN];
        struct chv_dh *x = NULL;
        struct chv_dh *y = NULL;
        size_t len = chv_dh_public_len(curve);
        memset(public_x, 0xa5, sizeof public_x);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(a, curve, &x, public_x), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(b, curve, &y, public_y), CHV_OK);
        CU_ASSERT_TRUE(all_are(public_x + len, sizeof public_x - len, 0xa5));
        CU_ASSERT_NOT_EQUAL(memcmp(public_x, public_y, len), 0);
        /* a key may be used more than once (es and ee) */
        for (int round = 0; round < 2; round++) {
            CU_ASSERT_EQUAL(chv_crypto_dh_derive(a, x, public_y, shared_x), CHV_OK);
            CU_ASSERT_EQUAL(chv_crypto_dh_derive(b, y, public_x, shared_y), CHV_OK);
            CU_ASSERT_EQUAL(memcmp(shared_x, shared_y, sizeof shared_x), 0);
        }
        chv_crypto_dh_free(a, x);
        chv_crypto_dh_free(b, y);
        chv_crypto_dh_free(b, NULL);
    }
}

/* Refuses a peer key, leaving the output and the key as they were. */
static void check_bad_peer(const struct chv_crypto *c, enum chv_curve curve, const char *hex)
{
    uint8_t peer[CHV_DH_PUBLIC_MAX] = {0};
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t shared[CHV_KEY_LEN];
    size_t len = sizeof peer;
    struct chv_dh *key = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_hex_decode(hex, strlen(hex), peer, &len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(len, chv_dh_public_len(curve));
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(c, curve, &key, public_key), CHV_OK);
    memset(shared, 0xa5, sizeof shared);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(c, key, peer, shared), CHV_ERR_MALFORMED);
    CU_ASSERT_TRUE(all_are(shared, sizeof shared, 0xa5));
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(c, key, public_key, shared), CHV_OK);
    chv_crypto_dh_free(c, key);
}

/* The points of small order (RFC 7748, 7; the list of the Curve25519 page), all giving the all-zero result. */
static const char *const small_order[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

#define GX "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
#define GY "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
#define ZERO "0000000000000000000000000000000000000000000000000000000000000000"
#define P256_P "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"

static const char *const bad_points[] = {
    "00" ZERO ZERO,                                                             /* infinity, padded */
    "04" ZERO ZERO,                                                             /* off the curve */
    "04" GX "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f4", /* y off by one */
    "04" GY GX,                                                                 /* swapped */
    "04" P256_P GY,                                                             /* x not reduced */
    "04" GX "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "07" GX GY,   /* hybrid form */
    "02" GX ZERO, /* compressed, padded */
    "05" GX GY,
    "ff" GX GY,
};

static void test_dh_bad(void)
{
    FOR_EACH_SUBJECT(c)
    {
        if (has(c, CHV_CAP_CURVE(CHV_CURVE_25519)))
            for (size_t i = 0; i < sizeof small_order / sizeof small_order[0]; i++)
                check_bad_peer(c, CHV_CURVE_25519, small_order[i]);
        if (has(c, CHV_CAP_CURVE(CHV_CURVE_P256)))
            for (size_t i = 0; i < sizeof bad_points / sizeof bad_points[0]; i++)
                check_bad_peer(c, CHV_CURVE_P256, bad_points[i]);
    }
}

static void test_dh_import(void)
{
    static const char *const refused[] = {
        ZERO,
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", /* the order */
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    };
    FOR_EACH_SUBJECT(c)
    {
        uint8_t private_key[CHV_DH_PRIVATE_LEN];
        uint8_t public_key[CHV_DH_PUBLIC_MAX];
        uint8_t base[CHV_DH_PUBLIC_MAX];
        size_t len;
        struct chv_dh *key = NULL;
        if (c->backend->dh_import == NULL) {
            CU_ASSERT_EQUAL(chv_crypto_dh_import(c, CHV_CURVE_25519, key_a, &key, public_key), CHV_ERR_UNSUPPORTED);
            continue;
        }
        if (!has(c, CHV_CAP_CURVE(CHV_CURVE_P256)))
            continue;
        for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
            len = sizeof private_key;
            CU_ASSERT_EQUAL(chv_hex_decode(refused[i], 64, private_key, &len), CHV_OK);
            memset(public_key, 0xa5, sizeof public_key);
            CU_ASSERT_EQUAL(chv_crypto_dh_import(c, CHV_CURVE_P256, private_key, &key, public_key), CHV_ERR_ARGUMENT);
            CU_ASSERT_PTR_NULL(key);
            CU_ASSERT_TRUE(all_are(public_key, sizeof public_key, 0xa5));
        }
        /* 1 and n - 1 are the ends of what is allowed: G and -G */
        memset(private_key, 0, sizeof private_key);
        private_key[31] = 1;
        len = sizeof base;
        CU_ASSERT_EQUAL(chv_hex_decode("04" GX GY, 130, base, &len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_import(c, CHV_CURVE_P256, private_key, &key, public_key), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(public_key, base, sizeof base), 0);
        chv_crypto_dh_free(c, key);
        len = sizeof private_key;
        CU_ASSERT_EQUAL(chv_hex_decode(refused[1], 64, private_key, &len), CHV_OK);
        private_key[31]--;
        key = NULL;
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_import(c, CHV_CURVE_P256, private_key, &key, public_key), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(public_key, base, 33), 0);
        CU_ASSERT_NOT_EQUAL(memcmp(public_key, base, sizeof base), 0);
        chv_crypto_dh_free(c, key);
    }
}

/* ---- threads ---- */

/* All members in turn on a context of its own; NULL if all went well. */
static void *worker(void *arg)
{
    static char wrong[] = "wrong";
    const char *spec = arg;
    struct chv_crypto c = {0};
    char *result = NULL;
    if (chv_backend_open(spec, &c, NULL) != CHV_OK)
        return wrong;
    for (int i = 0; i < 50 && result == NULL; i++) {
        uint8_t first[CHV_HASH_MAX];
        uint8_t second[CHV_HASH_MAX];
        uint8_t public_key[CHV_DH_PUBLIC_MAX];
        uint8_t buf[64 + CHV_AEAD_TAG_LEN] = {0};
        struct chv_dh *key = NULL;
        struct chv_aead *aead = NULL;
        const struct chv_part part = {&i, sizeof i};
        bool ok = chv_crypto_random(&c, first, 32) == CHV_OK &&
                  chv_crypto_hash(&c, CHV_HASH_SHA256, &part, 1, first) == CHV_OK &&
                  chv_crypto_hmac(&c, CHV_HASH_SHA256, first, 32, &part, 1, first) == CHV_OK &&
                  chv_crypto_hash(&c, CHV_HASH_SHA256, &part, 1, second) == CHV_OK &&
                  chv_crypto_hmac(&c, CHV_HASH_SHA256, second, 32, &part, 1, second) == CHV_OK &&
                  memcmp(first, second, 32) == 0;
        enum chv_curve curve = has(&c, CHV_CAP_CURVE(i % 2)) ? (enum chv_curve)(i % 2) : CHV_CURVE_P256;
        ok = ok && chv_crypto_dh_generate(&c, curve, &key, public_key) == CHV_OK &&
             chv_crypto_dh_derive(&c, key, public_key, first) == CHV_OK;
        ok = ok && chv_crypto_aead_new(&c, CHV_AEAD_AES256GCM, first, &aead) == CHV_OK &&
             chv_crypto_aead_seal(&c, aead, nonce_a, NULL, 0, buf, 64, buf) == CHV_OK &&
             chv_crypto_aead_open(&c, aead, nonce_a, NULL, 0, buf, sizeof buf, buf) == CHV_OK && chv_is_zero(buf, 64);
        chv_crypto_dh_free(&c, key);
        chv_crypto_aead_free(&c, aead);
        if (!ok)
            result = wrong;
    }
    chv_backend_close(&c);
    return result;
}

static void test_threads(void)
{
    for (size_t i = 0; i < subject_count; i++) {
        pthread_t threads[2];
        char spec[256];
        snprintf(spec, sizeof spec, "%s", specs[i]);
        for (size_t t = 0; t < 2; t++)
            CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[t], NULL, worker, spec), 0);
        for (size_t t = 0; t < 2; t++) {
            void *result = NULL;
            CU_ASSERT_EQUAL(pthread_join(threads[t], &result), 0);
            CU_ASSERT_PTR_NULL(result);
        }
    }
}

/* ---- program ---- */

enum parameters { GIVEN, OPTIONAL };

static int add_subject(const char *spec, enum parameters parameters)
{
    struct chv_why why = {{0}};
    if (subject_count == SUBJECT_MAX)
        return -1;
    enum chv_err err = chv_backend_open(spec, &subjects[subject_count], &why);
    if (err == CHV_ERR_CONFIG && parameters == OPTIONAL && chv_backend_find(spec) != NULL)
        return 0;
    if (err != CHV_OK) {
        fprintf(stderr, "contract: %s: %s\n", spec, why.text);
        return -1;
    }
    specs[subject_count++] = spec;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"random", test_random},         {"hash", test_hash},           {"hmac", test_hmac},
        {"hash pairs", test_hash_pairs}, {"aead", test_aead},           {"aead empty", test_aead_empty},
        {"aead pairs", test_aead_pairs}, {"dh pairs", test_dh_pairs},   {"dh bad keys", test_dh_bad},
        {"dh import", test_dh_import},   {"two threads", test_threads},
    };
    static char names[256];
    char *rest = names;
    int bad = 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--backend") != 0)
            bad |= add_subject(argv[i], GIVEN);
    if (argc == 1) {
        snprintf(names, sizeof names, "%s", chv_backend_names());
        for (char *name = strtok_r(names, ", ", &rest); name != NULL; name = strtok_r(NULL, ", ", &rest))
            bad |= add_subject(name, OPTIONAL);
    }
    int result = bad == 0 && subject_count > 0 ? test_main("backend contract", cases, sizeof cases / sizeof cases[0])
                                               : EXIT_FAILURE;
    for (size_t i = 0; i < subject_count; i++)
        chv_backend_close(&subjects[i]);
    return result;
}
