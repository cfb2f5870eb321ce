/* SPDX-License-Identifier: Apache-2.0 */
/* What the token keystore costs its token, counted: one C_Sign for each derivation, and handles that are found once. */
#include <config.h>

#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "keystore/token.h"

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

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* `keys`: whose originals are looked at, once in CHV_TOKEN_LOOK_MS, by one C_Sign. */
static void check_counts(const char *which, unsigned long keys)
{
    static const work_fn works[] = {derive, derive_by_turns, derive2};
    struct chv_keystore *ks = warm(which);
    const uint64_t start = now_ms();
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        const unsigned long signs = count(ks, works[i], "C_Sign");
        const unsigned long finds = count(ks, works[i], "C_FindObjectsInit");
        const unsigned long calls = count(ks, works[i], NULL);
        const unsigned long looks = keys * ((now_ms() - start) / CHV_TOKEN_LOOK_MS + 1);
        CU_ASSERT(signs >= MANY && signs <= MANY + looks);
        CU_ASSERT_EQUAL(finds, 0);
        CU_ASSERT(calls >= 2UL * MANY && calls <= 2UL * (MANY + looks)); /* C_SignInit and C_Sign, and nothing else */
    }
    chv_keystore_close(ks);
}

static void test_counts(void)
{
    setup();
    check_counts(uri, 0);
}

/* The keeper's fast path costs the same calls. */
static void test_counts_of_a_copy(void)
{
    setup();
    char *copy = test_format("%s&chaveiro-session-copy=yes", uri);
    check_counts(copy, 2);
    free(copy);
}

/* ---- copies in the session ---- */

static enum chv_err count_each(struct chv_p11_session *s, CK_OBJECT_HANDLE object, void *arg, struct chv_why *why)
{
    (void)s;
    (void)object;
    (void)why;
    ++*(unsigned *)arg;
    return CHV_OK;
}

static enum chv_err count_session(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_BBOOL no = CK_FALSE;
    const CK_ATTRIBUTE match[] = {{CKA_TOKEN, &no, sizeof no}};
    return chv_p11_find_each(s, match, 1, count_each, arg, why);
}

static unsigned session_objects(struct chv_keystore *ks)
{
    unsigned n = 0;
    CU_ASSERT_EQUAL(chv_p11_token_run(((struct chv_token_store *)ks)->token, count_session, &n, NULL), CHV_OK);
    return n;
}

static struct chv_token_entry *entry_of(struct chv_keystore *ks, const char *label)
{
    struct chv_token_store *store = (struct chv_token_store *)ks;
    for (size_t i = 0; i < CHV_TOKEN_CACHE; i++)
        if (strcmp(store->cache[i].label, label) == 0)
            return &store->cache[i];
    CU_FAIL_FATAL("not in the cache");
    return NULL;
}

/* A keystore with two keys that can be copied, and are. */
static struct chv_keystore *copying(void)
{
    static bool made;
    uint8_t out[32];
    setup();
    char *copy = test_format("pkcs11:token=calls;object=copies%s&chaveiro-session-copy=yes", strchr(uri, '?'));
    struct chv_keystore *ks = test_open(copy, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    if (!made) {
        CU_ASSERT_EQUAL_FATAL(chv_keystore_import(ks, "access", secret, NULL), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_generate(ks, "second", NULL), CHV_OK);
    }
    made = true;
    CU_ASSERT_EQUAL(derive(ks), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "second", secret, 5, out, NULL), CHV_OK);
    CU_ASSERT_NOT_EQUAL_FATAL(entry_of(ks, "access")->original, CK_INVALID_HANDLE);
    free(copy);
    return ks;
}

/* Each one that is made anew takes the place of another: SoftHSM has no more room for session objects than memory. */
static void test_copies_do_not_pile_up(void)
{
    struct chv_keystore *ks = copying();
    CU_ASSERT_EQUAL(session_objects(ks), 2);
    for (unsigned i = 0; i < 5; i++) {
        test_fault_arm_call(fault, 1, CKR_KEY_HANDLE_INVALID);
        fault->only = "C_SignInit";
        CU_ASSERT_EQUAL(derive(ks), CHV_OK);
        test_fault_disarm(fault);
        CU_ASSERT_EQUAL(session_objects(ks), 2);
    }
    /* nor when the key that is found again is refused */
    struct chv_token_entry *known = entry_of(ks, "access");
    for (unsigned i = 0; i < 5; i++) {
        known->check[0] ^= 1;
        known->generation--;
        CU_ASSERT_EQUAL(derive(ks), CHV_ERR_KEY);
        known->check[0] ^= 1;
        CU_ASSERT_EQUAL(session_objects(ks), 2);
    }
    CU_ASSERT_EQUAL(derive(ks), CHV_OK);
    CU_ASSERT_EQUAL(session_objects(ks), 2);
    chv_keystore_close(ks);
}

/* The handle of a copy's original is another key's: a token that was initialised again may count from the start. */
static void test_another_original(void)
{
    struct chv_why why = {""};
    uint8_t out[32];
    struct chv_keystore *ks = copying();
    struct chv_token_entry *known = entry_of(ks, "access");
    const CK_OBJECT_HANDLE right = known->original;
    known->original = entry_of(ks, "second")->original;
    known->looked -= CHV_TOKEN_LOOK_MS;
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "access", secret, 5, out, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "key 'access' is another one than before"));
    known->original = right;
    CU_ASSERT_EQUAL(derive(ks), CHV_OK);
    chv_keystore_close(ks);
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
          {"by a session copy too", test_counts_of_a_copy}, {"copies do not pile up", test_copies_do_not_pile_up},
          {"another original", test_another_original}, {"a label that is not there", test_missing},
          {"a handle found again", test_found_again}, {"a locked PIN", test_pin_locked},
          {"all sessions are closed", test_end})
