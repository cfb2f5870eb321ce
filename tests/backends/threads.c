/* SPDX-License-Identifier: Apache-2.0 */
/* A context may be opened by one thread and used and closed by another, as the server's loops do. */
#include <chaveiro/backend.h>

#include "tests/harness.h"

#include <pthread.h>

/* Uses every kind of call that may leave something with the thread, then closes. */
static void *use_and_close(void *arg)
{
    struct chv_crypto *crypto = arg;
    uint8_t random[CHV_KEY_LEN], point[CHV_DH_PUBLIC_MAX];
    struct chv_dh *key = NULL;
    CU_ASSERT_EQUAL(chv_crypto_random(crypto, random, sizeof random), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_generate(crypto, CHV_CURVE_25519, &key, point), CHV_OK);
    chv_crypto_dh_free(crypto, key);
    chv_backend_close(crypto);
    return NULL;
}

/* What the opening thread kept of a closed context it would free at its own end: both orders of the two ends. */
static void *open_and_hand_over(void *arg)
{
    struct chv_why why = {""};
    struct chv_crypto crypto;
    pthread_t thread;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        enum chv_err err = chv_backend_open("openssl", &crypto, &why);
        CU_ASSERT_EQUAL_FATAL(err, CHV_OK);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, use_and_close, &crypto), 0);
        CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
    }
    return NULL;
}

static void test_main_thread_opens(void)
{
    (void)open_and_hand_over(NULL);
}

static void test_other_thread_opens(void)
{
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, open_and_hand_over, NULL), 0);
    CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
}

TEST_MAIN("backend threads", {"another thread opens", test_other_thread_opens},
          {"the main thread opens", test_main_thread_opens})
