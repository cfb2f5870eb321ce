/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's order of calls, its questions, its costs and limits. */
#include "base/memory.h"
#include "core/hkdf.h"
#include "tests/core/noise_pair.h"
#include "tests/support/test_backend.h"

#include <string.h>

static struct noise_pair pair;

/* A backend that counts; every handle is noise_crypto's own. */
static unsigned hmacs, derives, hashes, aeads_made;
static struct chv_backend counting_backend;
static struct chv_crypto counting;

static enum chv_err count_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen,
                               const struct chv_part *parts, size_t n, uint8_t *out)
{
    hmacs++;
    return noise_crypto.backend->hmac(ctx, alg, key, keylen, parts, n, out);
}

static enum chv_err count_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    hashes++;
    return noise_crypto.backend->hash(ctx, alg, parts, n, out);
}

static enum chv_err count_derive(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN])
{
    derives++;
    return noise_crypto.backend->dh_derive(key, peer_public, shared_out);
}

static enum chv_err count_aead(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN], struct chv_aead **aead)
{
    aeads_made++;
    return noise_crypto.backend->aead_new(ctx, alg, key, aead);
}

/* A pair whose `side` counts. */
static void begin_counting(const char *name, int side)
{
    counting_backend = *noise_crypto.backend;
    counting_backend.hmac = count_hmac;
    counting_backend.hash = count_hash;
    counting_backend.dh_derive = count_derive;
    counting_backend.aead_new = count_aead;
    counting = noise_crypto;
    counting.backend = &counting_backend;
    noise_pair_init(&pair, name, &noise_crypto, side == INITIATOR ? &counting : &noise_crypto,
                    side == INITIATOR ? &noise_crypto : &counting);
    noise_pair_start_both(&pair);
    hmacs = derives = hashes = aeads_made = 0;
}

/* The responder of profile psk: 15 HMACs from message 1 to Split with its three outputs, 2 X25519, one AEAD object. */
static void test_cost(void)
{
    uint8_t k[3][CHV_KEY_LEN];

    begin_counting("Noise_NNpsk2_25519_AESGCM_SHA256", RESPONDER);
    CU_ASSERT_EQUAL_FATAL(noise_pair_run(&pair), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_split(&pair.noise[RESPONDER], k[0], k[1], k[2]), CHV_OK);
    CU_ASSERT_EQUAL(hmacs, 15);
    CU_ASSERT_EQUAL(derives, 1);
    CU_ASSERT_EQUAL(hashes, 5); /* e, payload; e, psk, payload */
    CU_ASSERT_EQUAL(aeads_made, 1);
    noise_pair_free(&pair);

    /* two outputs cost one less */
    begin_counting("Noise_NNpsk2_25519_AESGCM_SHA256", INITIATOR);
    CU_ASSERT_EQUAL_FATAL(noise_pair_run(&pair), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_split(&pair.noise[INITIATOR], k[0], k[1], NULL), CHV_OK);
    CU_ASSERT_EQUAL(hmacs, 14);
    noise_pair_free(&pair);
}

/* HASH(h after message 1 || e_r), as doc/protocol.md has it. */
static void expected_h_psk(const uint8_t *h, const uint8_t *e, size_t e_len, uint8_t out[32])
{
    const struct chv_part parts[] = {{h, 32}, {e, e_len}};

    CU_ASSERT_EQUAL(chv_crypto_hash(&noise_crypto, CHV_HASH_SHA256, parts, 2, out), CHV_OK);
}

/* At the end of message 2 each side asks for the psk before it computes ee, and may compute ee while it waits. */
static void check_late_psk(int side)
{
    struct chv_noise *n = &pair.noise[side];
    uint8_t h[CHV_HASH_MAX];
    uint8_t expected[32];
    const uint8_t *data;
    size_t len;
    bool complete;

    begin_counting("Noise_NNpsk2_25519_AESGCM_SHA256", side);
    CU_ASSERT_EQUAL_FATAL(noise_pair_write(&pair), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(noise_pair_read(&pair), CHV_OK);
    memcpy(h, n->ss.h, sizeof h);
    if (side == RESPONDER) {
        CU_ASSERT_EQUAL_FATAL(chv_noise_write(n, NULL, 0, pair.message, sizeof pair.message), CHV_OK);
    } else {
        CU_ASSERT_EQUAL_FATAL(noise_pair_write(&pair), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_noise_read(n, pair.message, pair.message_len), CHV_OK);
    }
    CU_ASSERT_EQUAL(chv_noise_need(n, &data, &len), CHV_NOISE_NEED_NOTHING);
    CU_ASSERT_EQUAL(chv_noise_run(n, &complete), CHV_OK);
    CU_ASSERT_FALSE(complete);
    CU_ASSERT_EQUAL(derives, 0);
    CU_ASSERT_EQUAL_FATAL(chv_noise_need(n, &data, &len), CHV_NOISE_NEED_PSK);
    CU_ASSERT_EQUAL(len, 32);
    expected_h_psk(h, pair.message, 32, expected);
    CU_ASSERT(memcmp(data, expected, 32) == 0);

    /* again, without an answer: ee, and then it stands at psk with the same question */
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(chv_noise_run(n, &complete), CHV_OK);
        CU_ASSERT_FALSE(complete);
        CU_ASSERT_EQUAL(derives, 1);
        CU_ASSERT_PTR_NULL(n->e);
        CU_ASSERT_EQUAL(chv_noise_need(n, &data, &len), CHV_NOISE_NEED_PSK);
        CU_ASSERT(memcmp(data, expected, 32) == 0);
    }
    CU_ASSERT_EQUAL(chv_noise_answer(n, pair.psk[side]), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_need(n, &data, &len), CHV_NOISE_NEED_NOTHING);
    CU_ASSERT_PTR_NULL(data);
    CU_ASSERT_EQUAL(chv_noise_answer(n, pair.psk[side]), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_noise_run(n, &complete), CHV_OK);
    CU_ASSERT(complete);
    CU_ASSERT_EQUAL(derives, 1);
    CU_ASSERT(chv_is_zero(n->answer, sizeof n->answer));
    noise_pair_free(&pair);
}

static void test_late_psk(void)
{
    check_late_psk(RESPONDER);
    check_late_psk(INITIATOR);
}

/* The order of the questions, and that each DH question shows the key that its token means. */
static void test_questions(void)
{
    static const struct {
        const char *name, *asked[2];
    } expected[] = {
        {"Noise_NNpsk2_25519_AESGCM_SHA256", {"p", "p"}},    {"Noise_NNpsk0+psk2_25519_AESGCM_SHA256", {"pp", "pp"}},
        {"Noise_IK_25519_AESGCM_SHA256", {"dd", "dd"}},      {"Noise_IKpsk2_25519_AESGCM_SHA256", {"ddp", "ddp"}},
        {"Noise_IKpsk2_P256_AESGCM_SHA256", {"ddp", "ddp"}}, {"Noise_XXpsk3_25519_AESGCM_SHA256", {"dp", "dp"}}};

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        noise_pair_begin(&pair, expected[i].name);
        CU_ASSERT_EQUAL_FATAL(noise_pair_run(&pair), CHV_OK);
        CU_ASSERT_STRING_EQUAL(pair.asked[INITIATOR], expected[i].asked[INITIATOR]);
        CU_ASSERT_STRING_EQUAL(pair.asked[RESPONDER], expected[i].asked[RESPONDER]);
        noise_pair_free(&pair);
    }
}

static void expect_dh(struct chv_noise *n, int side, const uint8_t *point)
{
    uint8_t secret[CHV_KEY_LEN];
    const uint8_t *data;
    size_t len;
    bool complete;

    CU_ASSERT_EQUAL_FATAL(chv_noise_run(n, &complete), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_need(n, &data, &len), CHV_NOISE_NEED_DH);
    CU_ASSERT(len == 32 && memcmp(data, point, len) == 0);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&noise_crypto, pair.key[side], data, secret), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_answer(n, secret), CHV_OK);
}

/* IKpsk2: es and ss of message 1 for the responder; se, then psk, of message 2 for the initiator. */
static void test_dh_questions(void)
{
    struct chv_noise *initiator = &pair.noise[INITIATOR];
    struct chv_noise *responder = &pair.noise[RESPONDER];
    const uint8_t *data;
    size_t len;
    bool complete;

    begin_counting("Noise_IKpsk2_25519_AESGCM_SHA256", INITIATOR);
    CU_ASSERT_EQUAL_FATAL(chv_noise_write(initiator, NULL, 0, pair.message, sizeof pair.message), CHV_OK);
    expect_dh(initiator, INITIATOR, pair.key_public[RESPONDER]); /* ss */
    CU_ASSERT(chv_noise_run(initiator, &complete) == CHV_OK && complete);
    CU_ASSERT_EQUAL(chv_noise_written(initiator), 32 + 48 + 16);
    CU_ASSERT_EQUAL_FATAL(chv_noise_read(responder, pair.message, 96), CHV_OK);
    expect_dh(responder, RESPONDER, initiator->e_public); /* es */
    CU_ASSERT_FALSE(responder->has_rs);
    expect_dh(responder, RESPONDER, pair.key_public[INITIATOR]); /* ss */
    CU_ASSERT(responder->has_rs);
    CU_ASSERT(chv_noise_run(responder, &complete) == CHV_OK && complete);

    CU_ASSERT_EQUAL_FATAL(chv_noise_write(responder, NULL, 0, pair.message, sizeof pair.message), CHV_OK);
    CU_ASSERT_EQUAL(noise_pair_finish(&pair, RESPONDER), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_noise_read(initiator, pair.message, chv_noise_written(responder)), CHV_OK);
    derives = 0;
    expect_dh(initiator, INITIATOR, responder->e_public); /* se; psk does not jump over it */
    CU_ASSERT_EQUAL(derives, 1);                          /* ee came before */
    CU_ASSERT_EQUAL(chv_noise_run(initiator, &complete), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_need(initiator, &data, &len), CHV_NOISE_NEED_PSK);
    CU_ASSERT_EQUAL(chv_noise_answer(initiator, pair.psk[INITIATOR]), CHV_OK);
    CU_ASSERT(chv_noise_run(initiator, &complete) == CHV_OK && complete);
    CU_ASSERT(memcmp(initiator->ss.h, responder->ss.h, 32) == 0);
    noise_pair_free(&pair);
}

/* The calls that are wrong now: CHV_ERR_STATE, and not a bit of the state changes. */
static void check_order(struct chv_noise *n, bool may_write, bool may_read, bool may_run, bool may_answer,
                        bool may_split)
{
    struct chv_noise before;
    uint8_t buffer[100] = {0};
    uint8_t k[3][CHV_KEY_LEN] = {{0}};
    bool complete = true;

    memcpy(&before, n, sizeof before); /* with its padding */
    if (!may_write)
        CU_ASSERT_EQUAL(chv_noise_write(n, NULL, 0, buffer, sizeof buffer), CHV_ERR_STATE);
    if (!may_read)
        CU_ASSERT_EQUAL(chv_noise_read(n, buffer, sizeof buffer), CHV_ERR_STATE);
    if (!may_run)
        CU_ASSERT(chv_noise_run(n, &complete) == CHV_ERR_STATE && !complete);
    if (!may_answer)
        CU_ASSERT_EQUAL(chv_noise_answer(n, buffer), CHV_ERR_STATE);
    if (!may_split)
        CU_ASSERT_EQUAL(chv_noise_split(n, k[0], k[1], k[2]), CHV_ERR_STATE);
    CU_ASSERT(chv_equal(&before, n, sizeof before));
    CU_ASSERT(chv_is_zero(buffer, sizeof buffer) && chv_is_zero(k, sizeof k));
}

static void test_order(void)
{
    struct chv_noise *initiator = &pair.noise[INITIATOR];
    struct chv_noise *responder = &pair.noise[RESPONDER];
    uint8_t k[3][CHV_KEY_LEN];
    bool complete;

    noise_pair_begin(&pair, "Noise_NNpsk2_25519_AESGCM_SHA256");
    check_order(initiator, true, false, false, false, false);
    check_order(responder, false, true, false, false, false);
    CU_ASSERT_EQUAL(chv_noise_write(initiator, NULL, 0, pair.message, sizeof pair.message), CHV_OK);
    check_order(initiator, false, false, true, false, false);
    CU_ASSERT_EQUAL(chv_noise_written(initiator), 0);
    CU_ASSERT(chv_noise_run(initiator, &complete) == CHV_OK && complete);
    CU_ASSERT_EQUAL(chv_noise_written(initiator), 48);
    check_order(initiator, false, true, false, false, false);
    CU_ASSERT_EQUAL(chv_noise_read(responder, pair.message, 48), CHV_OK);
    check_order(responder, false, false, true, false, false);
    CU_ASSERT(chv_noise_run(responder, &complete) == CHV_OK && complete);
    CU_ASSERT_EQUAL(chv_noise_written(responder), 0);
    check_order(responder, true, false, false, false, false);
    CU_ASSERT_EQUAL(chv_noise_write(responder, NULL, 0, pair.message, sizeof pair.message), CHV_OK);
    CU_ASSERT(chv_noise_run(responder, &complete) == CHV_OK && !complete);
    check_order(responder, false, false, true, true, false);
    CU_ASSERT_EQUAL(noise_pair_finish(&pair, RESPONDER), CHV_OK);
    CU_ASSERT(chv_noise_done(responder) && !chv_noise_done(initiator));
    check_order(responder, false, false, false, false, true);
    CU_ASSERT_EQUAL(chv_noise_split(responder, k[0], k[1], k[2]), CHV_OK);
    check_order(responder, false, false, false, false, false);
    noise_pair_free(&pair);
    CU_ASSERT_EQUAL(chv_noise_run(responder, &complete), CHV_ERR_STATE);
    chv_noise_wipe(responder);
}

static void test_lengths(void)
{
    static uint8_t payload[CHV_NOISE_MESSAGE_MAX];
    static uint8_t out[CHV_NOISE_MESSAGE_MAX];
    struct chv_noise *initiator = &pair.noise[INITIATOR];
    struct chv_noise *responder = &pair.noise[RESPONDER];
    const size_t most = CHV_NOISE_MESSAGE_MAX - 32 - 48 - 16;
    struct chv_noise before;
    size_t len;

    noise_pair_begin(&pair, "Noise_IK_25519_AESGCM_SHA256");
    memcpy(&before, initiator, sizeof before);
    CU_ASSERT_EQUAL(chv_noise_write(initiator, payload, most + 1, out, SIZE_MAX), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_noise_write(initiator, payload, SIZE_MAX, out, SIZE_MAX), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_noise_write(initiator, payload, most, out, sizeof out - 1), CHV_ERR_SPACE);
    CU_ASSERT(chv_equal(&before, initiator, sizeof before));
    payload[most - 1] = 7;
    CU_ASSERT_EQUAL(chv_noise_write(initiator, payload, most, out, sizeof out), CHV_OK);
    CU_ASSERT_EQUAL(noise_pair_finish(&pair, INITIATOR), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_written(initiator), sizeof out);
    CU_ASSERT_EQUAL(chv_noise_read(responder, out, sizeof out), CHV_OK);
    CU_ASSERT_EQUAL(noise_pair_finish(&pair, RESPONDER), CHV_OK);
    const uint8_t *got = chv_noise_payload(responder, &len);
    CU_ASSERT(len == most && memcmp(got, payload, most) == 0);
    CU_ASSERT_EQUAL(chv_noise_read(initiator, out, 32 + 15), CHV_ERR_MALFORMED);
    noise_check_failed(initiator, CHV_ERR_MALFORMED);
    noise_pair_free(&pair);

    noise_pair_begin(&pair, "Noise_NN_25519_AESGCM_SHA256");
    CU_ASSERT_EQUAL(chv_noise_read(responder, out, CHV_NOISE_MESSAGE_MAX + 1), CHV_ERR_MALFORMED);
    noise_check_failed(responder, CHV_ERR_MALFORMED);
    noise_pair_free(&pair);
}

/* Results that a peer can force: a zero answer, a point of small order, a point off the curve. */
static void test_weak_points(void)
{
    static const uint8_t zeros[CHV_DH_PUBLIC_MAX];
    struct chv_noise *responder = &pair.noise[RESPONDER];
    bool complete;

    noise_pair_begin(&pair, "Noise_IK_25519_AESGCM_SHA256");
    CU_ASSERT_EQUAL(noise_pair_write(&pair), CHV_OK);
    CU_ASSERT_EQUAL(chv_noise_read(responder, pair.message, pair.message_len), CHV_OK);
    CU_ASSERT(chv_noise_run(responder, &complete) == CHV_OK && !complete);
    CU_ASSERT_EQUAL(chv_noise_answer(responder, zeros), CHV_ERR_AUTH);
    noise_check_failed(responder, CHV_ERR_AUTH);
    noise_pair_free(&pair);

    for (int p256 = 0; p256 < 2; p256++) {
        const char *name = p256 ? "Noise_NN_P256_AESGCM_SHA256" : "Noise_NN_25519_AESGCM_SHA256";
        noise_pair_begin(&pair, name);
        CU_ASSERT_EQUAL(noise_pair_write(&pair), CHV_OK);
        memset(pair.message, 0, responder->dh_len);
        CU_ASSERT_EQUAL(noise_pair_read(&pair), CHV_OK);
        CU_ASSERT_EQUAL(noise_pair_write(&pair), CHV_ERR_MALFORMED);
        CU_ASSERT(chv_is_zero(pair.message, sizeof pair.message));
        noise_check_failed(responder, CHV_ERR_MALFORMED);
        noise_pair_free(&pair);
    }
}

/* Nonce 2^64-1 is Rekey's (5.1): no message takes it. */
static void test_last_nonce(void)
{
    for (int last = 0; last < 2; last++) {
        noise_pair_begin(&pair, "Noise_NK_25519_AESGCM_SHA256");
        CU_ASSERT_EQUAL(chv_noise_write(&pair.noise[INITIATOR], NULL, 0, pair.message, sizeof pair.message), CHV_OK);
        pair.noise[INITIATOR].token = 2; /* as if keys had been mixed and messages sent */
        pair.noise[INITIATOR].pos = 32;
        pair.noise[INITIATOR].ss.key_state = CHV_NOISE_KEY_PENDING;
        pair.noise[INITIATOR].ss.n = UINT64_MAX - 1 + (uint64_t)last;
        CU_ASSERT_EQUAL(noise_pair_finish(&pair, INITIATOR), last ? CHV_ERR_EXHAUSTED : CHV_OK);
        if (last)
            noise_check_failed(&pair.noise[INITIATOR], CHV_ERR_EXHAUSTED);
        noise_pair_free(&pair);
    }
}

/* The first two outputs of Split are Noise's, the third is HKDF's next. */
static void test_split(void)
{
    uint8_t prk[32];
    uint8_t expected[96];
    uint8_t k[3][CHV_KEY_LEN];
    uint8_t h[CHV_HASH_MAX];
    struct chv_noise *n = &pair.noise[RESPONDER];

    noise_pair_begin(&pair, "Noise_NNpsk2_25519_AESGCM_SHA256");
    CU_ASSERT_EQUAL_FATAL(noise_pair_run(&pair), CHV_OK);
    CU_ASSERT(chv_is_zero(n->ss.prk, sizeof n->ss.prk)); /* not kept once the key is made */
    CU_ASSERT_EQUAL(chv_hkdf_extract(&noise_crypto, CHV_HASH_SHA256, n->ss.ck, 32, NULL, 0, prk), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&noise_crypto, CHV_HASH_SHA256, prk, 32, NULL, 0, expected, 96), CHV_OK);
    memcpy(h, n->ss.h, sizeof h);
    CU_ASSERT_EQUAL(chv_noise_split(n, k[0], k[1], k[2]), CHV_OK);
    CU_ASSERT(memcmp(k, expected, sizeof k) == 0);
    CU_ASSERT(memcmp(h, n->ss.h, sizeof h) == 0);
    noise_pair_free(&pair);
}

static void test_rekey(void)
{
    static const uint8_t zeros[CHV_KEY_LEN];

    for (unsigned c = 0; c < CHV_AEAD_COUNT; c++) {
        const enum chv_aead_alg cipher = (enum chv_aead_alg)c;
        uint8_t k[CHV_KEY_LEN] = {1, 2, 3};
        uint8_t nonce[CHV_AEAD_NONCE_LEN];
        uint8_t expected[CHV_KEY_LEN + CHV_AEAD_TAG_LEN], got[CHV_KEY_LEN + CHV_AEAD_TAG_LEN];
        struct chv_aead *aead, *fresh;

        CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&noise_crypto, cipher, k, &aead), CHV_OK);
        chv_noise_nonce(cipher, UINT64_MAX, nonce);
        CU_ASSERT_EQUAL(chv_crypto_aead_seal(&noise_crypto, aead, nonce, NULL, 0, zeros, 32, expected), CHV_OK);
        CU_ASSERT_EQUAL(chv_noise_rekey(&noise_crypto, cipher, aead, k), CHV_OK);
        CU_ASSERT(memcmp(k, expected, sizeof k) == 0);
        /* the object has the new key too */
        CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&noise_crypto, cipher, k, &fresh), CHV_OK);
        chv_noise_nonce(cipher, 5, nonce);
        CU_ASSERT_EQUAL(chv_crypto_aead_seal(&noise_crypto, fresh, nonce, NULL, 0, zeros, 32, expected), CHV_OK);
        CU_ASSERT_EQUAL(chv_crypto_aead_seal(&noise_crypto, aead, nonce, NULL, 0, zeros, 32, got), CHV_OK);
        CU_ASSERT(memcmp(got, expected, sizeof got) == 0);
        chv_crypto_aead_free(&noise_crypto, fresh);

        /* Whichever call fails, k is not one that the object may not have. */
        struct test_fault fault;
        uint8_t kept[CHV_KEY_LEN];
        memcpy(kept, k, sizeof kept);
        test_fault_init(&fault, &noise_crypto);
        for (unsigned long call = 1; call <= 2; call++) {
            struct chv_aead *failing;
            test_fault_arm(&fault, 0);
            CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&fault.crypto, cipher, k, &failing), CHV_OK);
            test_fault_arm(&fault, call);
            CU_ASSERT_EQUAL(chv_noise_rekey(&fault.crypto, cipher, failing, k), CHV_ERR_CRYPTO);
            CU_ASSERT(memcmp(k, kept, sizeof k) == 0);
            chv_crypto_aead_free(&fault.crypto, failing);
        }
        chv_crypto_aead_free(&noise_crypto, aead);
    }
}

static void test_nonces(void)
{
    static const uint8_t big[] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t little[] = {0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
    uint8_t nonce[CHV_AEAD_NONCE_LEN];

    chv_noise_nonce(CHV_AEAD_AES256GCM, UINT64_C(0x0102030405060708), nonce);
    CU_ASSERT(memcmp(nonce, big, sizeof nonce) == 0);
    chv_noise_nonce(CHV_AEAD_CHACHA20POLY1305, UINT64_C(0x0102030405060708), nonce);
    CU_ASSERT(memcmp(nonce, little, sizeof nonce) == 0);
}

static void test_config(void)
{
    struct chv_crypto lacking = noise_crypto;
    struct chv_noise n;

    noise_pair_init(&pair, "Noise_IK_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    const struct chv_noise_config good = pair.config[INITIATOR];
    struct chv_noise_config config = good;
    config.s_public = NULL;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = good;
    config.rs = NULL;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = pair.config[RESPONDER];
    config.rs = pair.key_public[INITIATOR]; /* would look pinned */
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = pair.config[RESPONDER];
    config.s_public = NULL;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = good;
    config.crypto = &lacking;
    static const uint32_t bits[] = {CHV_CAP_HASH(CHV_HASH_SHA256), CHV_CAP_CURVE(CHV_CURVE_25519),
                                    CHV_CAP_AEAD(CHV_AEAD_AES256GCM)};
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        lacking.capabilities = noise_crypto.capabilities & ~bits[i];
        CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_UNSUPPORTED);
    }
    config = good;
    config.hash = (enum chv_hash)CHV_HASH_COUNT;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = good;
    config.curve = (enum chv_curve)CHV_CURVE_COUNT;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    config = good;
    config.cipher = (enum chv_aead_alg)CHV_AEAD_COUNT;
    CU_ASSERT_EQUAL(chv_noise_init(&n, &config), CHV_ERR_ARGUMENT);
    noise_pair_free(&pair);

    noise_pair_init(&pair, "Noise_NN_25519_AESGCM_SHA256", &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[INITIATOR].s_public = NULL;
    pair.config[RESPONDER].s_public = NULL;
    noise_pair_start_both(&pair);
    CU_ASSERT_EQUAL(noise_pair_run(&pair), CHV_OK);
    noise_pair_free(&pair);
}

static void test_names(void)
{
    static const char *const unknown[] = {"",
                                          "Noise",
                                          "Noise_NN",
                                          "noise_NN_25519_AESGCM_SHA256",
                                          "Noise_NNpsk9_25519_AESGCM_SHA256",
                                          "Noise_NN_448_AESGCM_SHA256",
                                          "Noise_NN_25519_AES_SHA256",
                                          "Noise_NN_25519_AESGCM_SHA256x",
                                          "Noise_NN_25519_AESGCM_SHA3",
                                          "Noise_NN_25519_AESGCM_SHA256_",
                                          "Noise_NN_25519_AESGCM",
                                          "Noise_NN__AESGCM_SHA256",
                                          "Noise_NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN_25519_AESGCM_SHA256",
                                          "NoisePSK_NN_25519_AESGCM_SHA256"};
    struct chv_noise_pattern p = {.messages = 9};
    enum chv_curve curve = CHV_CURVE_25519;
    enum chv_aead_alg cipher = CHV_AEAD_AES256GCM;
    enum chv_hash hash = CHV_HASH_SHA256;

    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        CU_ASSERT_EQUAL(chv_noise_parse_name(unknown[i], &p, &curve, &cipher, &hash), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(p.messages, 9);
    CU_ASSERT_EQUAL(chv_noise_parse_name("Noise_XXpsk3_P256_ChaChaPoly_BLAKE2b", &p, &curve, &cipher, &hash), CHV_OK);
    CU_ASSERT_STRING_EQUAL(p.name, "XXpsk3");
    CU_ASSERT(curve == CHV_CURVE_P256 && cipher == CHV_AEAD_CHACHA20POLY1305 && hash == CHV_HASH_BLAKE2B);

    /* the name that is built from the parts is the one that is given */
    static const char name[] = "Noise_IKpsk2_25519_AESGCM_SHA256";
    noise_pair_init(&pair, name, &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[INITIATOR].name = name;
    noise_pair_start_both(&pair);
    CU_ASSERT_EQUAL(noise_pair_run(&pair), CHV_OK);
    noise_pair_free(&pair);
    noise_pair_init(&pair, name, &noise_crypto, &noise_crypto, &noise_crypto);
    pair.config[INITIATOR].name = "Noise_IKpsk2_25519_AESGCM_SHA512";
    noise_pair_start_both(&pair);
    CU_ASSERT_EQUAL(noise_pair_write(&pair), CHV_OK);
    CU_ASSERT_EQUAL(noise_pair_read(&pair), CHV_ERR_AUTH);
    noise_pair_free(&pair);
}

static const struct test_case cases[] = {
    {"cost of the psk responder", test_cost},
    {"late psk: asked before ee", test_late_psk},
    {"order of the questions", test_questions},
    {"contents of the DH questions", test_dh_questions},
    {"wrong order of calls", test_order},
    {"lengths", test_lengths},
    {"weak points", test_weak_points},
    {"last nonce", test_last_nonce},
    {"split", test_split},
    {"rekey", test_rekey},
    {"nonces", test_nonces},
    {"configuration", test_config},
    {"names", test_names},
};

int main(void)
{
    return noise_test_main("noise state", cases, sizeof cases / sizeof cases[0]);
}
