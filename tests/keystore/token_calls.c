/* SPDX-License-Identifier: Apache-2.0 */
/* What the token keystore costs its token, counted: one C_Sign for each derivation, and handles that are found once. */
#include <config.h>

#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <string.h>

enum { MANY = 1000 };

static struct chv_fault *fault;
static char *uri;
static const uint8_t secret[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";

static void setup(void)
{
    if (uri != NULL)
        return;
    test_softhsm_token("calls");
    uri = test_format("pkcs11:token=calls?module-path=%s", test_fault_module(test_softhsm_module(), &fault));
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "access", secret, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "second", secret, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL), CHV_OK);
    chv_keystore_close(ks);
}

/* Opened and used once, so that what is found at the first use is found. */
static struct chv_keystore *warm(const char *which)
{
    uint8_t out[32];
    setup();
    struct chv_keystore *ks = test_open(which, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "access", secret, 5, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "second", secret, 5, out, NULL), CHV_OK);
    return ks;
}

typedef enum chv_err (*work_fn)(struct chv_keystore *ks);

static enum chv_err derive(struct chv_keystore *ks)
{
    uint8_t out[32];
    return chv_keystore_derive(ks, "access", secret, 5, out, NULL);
}

/* Two labels in turn: both handles are kept. */
static enum chv_err derive_by_turns(struct chv_keystore *ks)
{
    static unsigned turn;
    uint8_t out[32];
    return chv_keystore_derive(ks, turn++ % 2 == 0 ? "access" : "second", secret, 5, out, NULL);
}

static enum chv_err derive2(struct chv_keystore *ks)
{
    uint8_t out[32];
    return chv_keystore_derive2(ks, "access", secret, 5, secret, 6, out, NULL);
}

/* How many calls of this name MANY times the work makes; of all names for NULL. */
static unsigned long count(struct chv_keystore *ks, work_fn work, const char *call)
{
    fault->only = call;
    fault->calls = 0;
    for (unsigned i = 0; i < MANY; i++)
        CU_ASSERT_EQUAL(work(ks), CHV_OK);
    fault->only = NULL;
    return fault->calls;
}

static void check_counts(const char *which)
{
    static const work_fn works[] = {derive, derive_by_turns, derive2};
    struct chv_keystore *ks = warm(which);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        CU_ASSERT_EQUAL(count(ks, works[i], "C_Sign"), MANY);
        CU_ASSERT_EQUAL(count(ks, works[i], "C_FindObjectsInit"), 0);
        CU_ASSERT_EQUAL(count(ks, works[i], NULL), 2UL * MANY); /* C_SignInit and C_Sign, and nothing else */
    }
    chv_keystore_close(ks);
}

static void test_counts(void)
{
    setup();
    check_counts(uri);
}

/* The keeper's fast path costs the same calls. */
static void test_counts_of_a_copy(void)
{
    setup();
    char *copy = test_format("%s&chaveiro-session-copy=yes", uri);
    check_counts(copy);
    free(copy);
}

/* A label that is not there is asked for each time: it may come. */
static void test_missing(void)
{
    uint8_t out[32];
    struct chv_keystore *ks = warm(uri);
    fault->only = "C_FindObjectsInit";
    fault->calls = 0;
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(chv_keystore_derive(ks, "nobody", secret, 5, out, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT(fault->calls >= 3);
    fault->only = NULL;
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "access", secret, 5, out, NULL), CHV_OK);
    chv_keystore_close(ks);
}

/* After one lost handle it is found again, once. */
static void test_found_again(void)
{
    struct chv_keystore *ks = warm(uri);
    test_fault_arm_call(fault, 1, CKR_KEY_HANDLE_INVALID);
    fault->only = "C_SignInit";
    CU_ASSERT_EQUAL(derive(ks), CHV_OK);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(count(ks, derive, "C_FindObjectsInit"), 0);
    CU_ASSERT_EQUAL(count(ks, derive, "C_Sign"), MANY);
    chv_keystore_close(ks);
}

/* Said at the try only, as some tokens do: one try, the answer's name, and nothing more until a person asks for it. */
static void test_pin_locked(void)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret pin = {.text = TEST_PIN};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    fault->logins = 0;
    test_fault_arm_call(fault, 1, CKR_PIN_LOCKED);
    fault->only = "C_Login";
    fault->times = MANY;
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &pin, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "C_Login: CKR_PIN_LOCKED"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "the security officer must set a new one"));
    CU_ASSERT_PTR_NULL(strstr(why.text, TEST_PIN));
    for (unsigned i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(derive(ks), CHV_ERR_STORE_LOCKED);
    CU_ASSERT(fault->logins == 1 && pin.asked == 1);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &pin, NULL), CHV_OK);
    CU_ASSERT_EQUAL(derive(ks), CHV_OK);
    chv_keystore_close(ks);
}

static void test_end(void)
{
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
    free(uri);
}

TEST_MAIN("keystore: token, calls", {"a derivation is one C_Sign", test_counts},
          {"by a session copy too", test_counts_of_a_copy}, {"a label that is not there", test_missing},
          {"a handle found again", test_found_again}, {"a locked PIN", test_pin_locked},
          {"all sessions are closed", test_end})
