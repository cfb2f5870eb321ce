/* SPDX-License-Identifier: Apache-2.0 */
/* Each call of the backend fails in turn, on either side of a handshake. */
#include "base/memory.h"
#include "tests/core/noise_pair.h"
#include "tests/support/test_backend.h"

#include <string.h>

static struct noise_pair pair;

static enum chv_err run(int side, uint8_t k[3][CHV_KEY_LEN])
{
    enum chv_err err = noise_pair_start(&pair, side);

    if (err == CHV_OK)
        err = noise_pair_run(&pair);
    return err == CHV_OK ? chv_noise_split(&pair.noise[side], k[0], k[1], k[2]) : err;
}

/* The n-th call of one side fails; false if there are fewer. */
static bool fail_at(const char *name, int side, unsigned long n, enum chv_err with)
{
    struct test_fault fault;
    uint8_t k[3][CHV_KEY_LEN] = {{0}};
    struct chv_noise *broken = &pair.noise[side];

    test_fault_init(&fault, &noise_crypto);
    noise_pair_init(&pair, name, &noise_crypto, side == INITIATOR ? &fault.crypto : &noise_crypto,
                    side == INITIATOR ? &noise_crypto : &fault.crypto);
    CU_ASSERT_EQUAL_FATAL(noise_pair_start(&pair, 1 - side), CHV_OK);
    test_fault_arm(&fault, n);
    fault.fail_with = with;
    const enum chv_err err = run(side, k);
    const bool fired = fault.fired;
    if (fired) {
        CU_ASSERT_EQUAL(fault.open_dh + fault.open_aead, 0);
        CU_ASSERT(chv_is_zero(k, sizeof k));
        if (broken->error == CHV_ERR_STATE) {
            CU_ASSERT_EQUAL(err, with); /* chv_noise_init: there was no handshake yet */
        } else {
            CU_ASSERT_EQUAL(err, CHV_ERR_CRYPTO);
            /* every call of the side that failed tells it, with no call of the backend */
            const unsigned long calls = fault.calls;
            if (pair.message_len == 0) /* it failed in writing */
                CU_ASSERT(chv_is_zero(pair.message, sizeof pair.message));
            noise_check_failed(broken, CHV_ERR_CRYPTO);
            CU_ASSERT_EQUAL(fault.calls, calls);
        }
    } else {
        CU_ASSERT_EQUAL(err, CHV_OK);
    }
    noise_pair_free(&pair);
    CU_ASSERT_EQUAL(fault.open_dh + fault.open_aead, 0);
    return fired;
}

static void fail_each(const char *name)
{
    for (int side = INITIATOR; side <= RESPONDER; side++) {
        unsigned long n = 1;
        while (fail_at(name, side, n, CHV_ERR_CRYPTO) && fail_at(name, side, n, CHV_ERR_MEMORY))
            n++;
        CU_ASSERT(n > 20);
    }
}

static void test_nn_psk2(void)
{
    fail_each("Noise_NNpsk2_25519_AESGCM_SHA256");
}

static void test_ik(void)
{
    fail_each("Noise_IK_25519_ChaChaPoly_SHA256");
}

static void test_ik_psk2(void)
{
    fail_each("Noise_IKpsk2_P256_AESGCM_SHA256");
}

static void test_xx_psk3(void)
{
    fail_each("Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s"); /* a name that is hashed */
}

static const struct test_case cases[] = {
    {"NNpsk2", test_nn_psk2},
    {"IK", test_ik},
    {"IKpsk2", test_ik_psk2},
    {"XXpsk3", test_xx_psk3},
};

int main(void)
{
    return noise_test_main("noise fault", cases, sizeof cases / sizeof cases[0]);
}
