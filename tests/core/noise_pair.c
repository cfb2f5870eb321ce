/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/core/noise_pair.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

struct chv_crypto noise_crypto;

static const char prologue[] = "prologue";

void noise_pair_init(struct noise_pair *pair, const char *name, const struct chv_crypto *keys,
                     const struct chv_crypto *initiator, const struct chv_crypto *responder)
{
    struct chv_noise_config config = {
        .pattern = &pair->pattern, .prologue = (const uint8_t *)prologue, .prologue_len = sizeof prologue};

    memset(pair, 0, sizeof *pair);
    pair->keys = keys;
    CU_ASSERT_EQUAL_FATAL(chv_noise_parse_name(name, &pair->pattern, &config.curve, &config.cipher, &config.hash),
                          CHV_OK);
    for (int side = INITIATOR; side <= RESPONDER; side++) {
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(keys, config.curve, &pair->key[side], pair->key_public[side]),
                              CHV_OK);
        memset(pair->psk[side], 'p', CHV_KEY_LEN);
        config.crypto = side == INITIATOR ? initiator : responder;
        config.initiator = side == INITIATOR;
        config.s_public = pair->key_public[side];
        config.rs = NULL;
        if (side == INITIATOR ? pair->pattern.pre_responder : pair->pattern.pre_initiator)
            config.rs = pair->key_public[1 - side];
        pair->config[side] = config;
    }
}

enum chv_err noise_pair_start(struct noise_pair *pair, int side)
{
    return chv_noise_init(&pair->noise[side], &pair->config[side]);
}

void noise_pair_free(struct noise_pair *pair)
{
    for (int side = INITIATOR; side <= RESPONDER; side++) {
        chv_noise_wipe(&pair->noise[side]);
        chv_crypto_dh_free(pair->keys, pair->key[side]);
    }
}

static void note(struct noise_pair *pair, int side, char what)
{
    char *asked = pair->asked[side];
    const size_t len = strlen(asked);

    if (len + 1 < sizeof pair->asked[side])
        asked[len] = what;
}

enum chv_err noise_pair_finish(struct noise_pair *pair, int side)
{
    struct chv_noise *n = &pair->noise[side];
    uint8_t secret[CHV_KEY_LEN];
    const uint8_t *data;
    size_t len;
    bool complete;

    for (;;) {
        enum chv_err err = chv_noise_run(n, &complete);
        if (err != CHV_OK || complete)
            return err;
        const enum chv_noise_need need = chv_noise_need(n, &data, &len);
        note(pair, side, need == CHV_NOISE_NEED_DH ? 'd' : 'p');
        memcpy(secret, pair->psk[side], sizeof secret);
        if (need == CHV_NOISE_NEED_DH)
            err = chv_crypto_dh_derive(pair->keys, pair->key[side], data, secret);
        pair->key_refused = err != CHV_OK;
        if (err == CHV_OK)
            err = chv_noise_answer(n, secret);
        if (err != CHV_OK)
            return err;
    }
}

enum chv_err noise_pair_write(struct noise_pair *pair)
{
    char payload[16];
    const int side = pair->next % 2 == 0 ? INITIATOR : RESPONDER;
    struct chv_noise *n = &pair->noise[side];
    const int len = snprintf(payload, sizeof payload, "payload %u", pair->next);
    memset(pair->message, 0, sizeof pair->message);
    enum chv_err err = chv_noise_write(n, (const uint8_t *)payload, (size_t)len, pair->message, sizeof pair->message);

    if (err == CHV_OK)
        err = noise_pair_finish(pair, side);
    pair->message_len = chv_noise_written(n);
    return err;
}

enum chv_err noise_pair_read(struct noise_pair *pair)
{
    char payload[16];
    const int side = pair->next % 2 == 0 ? RESPONDER : INITIATOR;
    struct chv_noise *n = &pair->noise[side];
    const int expected = snprintf(payload, sizeof payload, "payload %u", pair->next);
    enum chv_err err = chv_noise_read(n, pair->message, pair->message_len);
    size_t len;

    if (err == CHV_OK)
        err = noise_pair_finish(pair, side);
    const uint8_t *got = chv_noise_payload(n, &len);
    if (err == CHV_OK)
        CU_ASSERT(len == (size_t)expected && memcmp(got, payload, len) == 0);
    pair->next++;
    return err;
}

enum chv_err noise_pair_run(struct noise_pair *pair)
{
    enum chv_err err = CHV_OK;

    while (err == CHV_OK && !chv_noise_done(&pair->noise[RESPONDER])) {
        err = noise_pair_write(pair);
        if (err == CHV_OK)
            err = noise_pair_read(pair);
    }
    return err;
}

void noise_pair_start_both(struct noise_pair *pair)
{
    CU_ASSERT_EQUAL_FATAL(noise_pair_start(pair, INITIATOR), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(noise_pair_start(pair, RESPONDER), CHV_OK);
}

void noise_pair_begin(struct noise_pair *pair, const char *name)
{
    noise_pair_init(pair, name, &noise_crypto, &noise_crypto, &noise_crypto);
    noise_pair_start_both(pair);
}

void noise_check_failed(struct chv_noise *n, enum chv_err err)
{
    static const uint8_t secret[CHV_KEY_LEN];
    uint8_t buffer[64] = {0};
    uint8_t k[3][CHV_KEY_LEN] = {{0}};
    bool complete = true;
    size_t len = 1;

    CU_ASSERT_EQUAL(n->phase, CHV_NOISE_FAILED);
    CU_ASSERT_EQUAL(chv_noise_run(n, &complete), err);
    CU_ASSERT_FALSE(complete);
    CU_ASSERT_EQUAL(chv_noise_read(n, buffer, sizeof buffer), err);
    CU_ASSERT_EQUAL(chv_noise_write(n, NULL, 0, buffer, sizeof buffer), err);
    CU_ASSERT_EQUAL(chv_noise_answer(n, secret), err);
    CU_ASSERT_EQUAL(chv_noise_split(n, k[0], k[1], k[2]), err);
    CU_ASSERT(chv_is_zero(k, sizeof k) && chv_is_zero(buffer, sizeof buffer));
    CU_ASSERT_EQUAL(chv_noise_written(n), 0);
    CU_ASSERT_PTR_NULL(chv_noise_payload(n, &len));
    CU_ASSERT_EQUAL(len, 0);
    CU_ASSERT_FALSE(chv_noise_done(n));
    n->phase = CHV_NOISE_BETWEEN;
    n->error = CHV_OK;
    CU_ASSERT(chv_is_zero(n, sizeof *n));
}

int noise_test_main(const char *suite, const struct test_case *cases, size_t n)
{
    struct chv_why why;

    if (chv_backend_open("openssl", &noise_crypto, &why) != CHV_OK) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    const int status = test_main(suite, cases, n);
    chv_backend_close(&noise_crypto);
    return status;
}
