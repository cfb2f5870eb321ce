/* SPDX-License-Identifier: Apache-2.0 */
/* The token keystore over a module that fails, lies or hangs: a clear error, and service afterwards without a restart. */
#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "p11/error.h"

static struct chv_fault *fault;
static char *uri;    /* with a PIN file */
static char *no_pin; /* without */
static char *pin_file;
static char rig_label[] = "faults";

static void setup(void)
{
    if (fault != NULL)
        return;
    const char *module = test_softhsm_module();
    test_softhsm_token(rig_label);
    const char *path = test_fault_module(module, &fault);
    pin_file = test_tokens_path("pin");
    test_write_private(pin_file, TEST_PIN "\n");
    no_pin = test_format("pkcs11:token=%s;object=f?module-path=%s", rig_label, path);
    uri = test_format("%s&pin-source=file:%s", no_pin, pin_file);
}

static enum chv_err no_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                              struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)out;
    (void)cap;
    (void)len;
    return chv_fail(why, CHV_ERR_NO_SECRET, "nobody is there");
}

static enum chv_err open_by(const char *which, enum chv_keystore_mode mode, struct chv_keystore **ks,
                            struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = mode};
    struct chv_keystore *opened = NULL;
    enum chv_err err = chv_keystore_open(which, &options, &opened, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(opened, no_secret, NULL, why);
    if (err != CHV_OK) {
        chv_keystore_close(opened);
        return err;
    }
    *ks = opened;
    return CHV_OK;
}

static struct chv_keystore *must_open(void)
{
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    setup();
    test_fault_disarm(fault);
    if (open_by(uri, CHV_KEYSTORE_WRITE, &ks, &why) != CHV_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        CU_FAIL_FATAL("cannot open");
    }
    return ks;
}

static const uint8_t secret[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";

/* ---- work ---- */

static enum chv_err do_open(struct chv_keystore *ks, struct chv_why *why)
{
    struct chv_keystore *other = NULL;
    (void)ks;
    enum chv_err err = open_by(uri, CHV_KEYSTORE_READ, &other, why);
    uint8_t out[32];
    if (err == CHV_OK)
        err = chv_keystore_derive(other, "access", secret, 5, out, why);
    chv_keystore_close(other);
    return err;
}

static enum chv_err do_derive(struct chv_keystore *ks, struct chv_why *why)
{
    static uint8_t first[32];
    uint8_t out[32];
    memset(out, 7, sizeof out);
    enum chv_err err = chv_keystore_derive(ks, "access", secret, 5, out, why);
    if (err != CHV_OK) {
        CU_ASSERT(out[0] == 7 && out[31] == 7); /* outputs are set on success only */
        return err;
    }
    if (first[0] == 0 && first[1] == 0)
        memcpy(first, out, 32);
    CU_ASSERT_EQUAL(memcmp(first, out, 32), 0);
    return err;
}

static enum chv_err do_derive2(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t out[32];
    return chv_keystore_derive2(ks, "access", secret, 5, secret, 6, out, why);
}

static enum chv_err do_generate(struct chv_keystore *ks, struct chv_why *why)
{
    enum chv_err err = chv_keystore_generate(ks, "new", why);
    if (err == CHV_OK)
        err = chv_keystore_remove(ks, "new", why);
    return err;
}

static enum chv_err do_import(struct chv_keystore *ks, struct chv_why *why)
{
    enum chv_err err = chv_keystore_import(ks, "new", secret, why);
    if (err == CHV_OK)
        err = chv_keystore_remove(ks, "new", why);
    return err;
}

static enum chv_err do_data(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t out[8];
    size_t len = sizeof out;
    enum chv_err err = chv_keystore_data_put(ks, "data", secret, 8, why);
    return err != CHV_OK ? err : chv_keystore_data_get(ks, "data", out, &len, why);
}

static enum chv_err do_pair(struct chv_keystore *ks, struct chv_why *why)
{
    enum chv_err err = chv_keystore_generate_identity(ks, "new", CHV_USE_IDENTITY, CHV_CURVE_P256, why);
    if (err == CHV_OK)
        err = chv_keystore_remove(ks, "new", why);
    return err;
}

static enum chv_err do_dh(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t point[CHV_DH_PUBLIC_MAX], out[32];
    enum chv_curve curve;
    enum chv_err err = chv_keystore_public_key(ks, "identity", &curve, point, why);
    return err != CHV_OK ? err : chv_keystore_dh(ks, "identity", point, out, why);
}

static enum chv_err do_sign(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t sig[CHV_SIGNATURE_MAX];
    size_t len;
    return chv_keystore_sign(ks, "receipt", secret, 9, sig, &len, why);
}

static enum chv_err count_key(void *arg, const struct chv_key_info *info)
{
    (void)info;
    ++*(unsigned *)arg;
    return CHV_OK;
}

static enum chv_err do_list(struct chv_keystore *ks, struct chv_why *why)
{
    unsigned n = 0;
    return chv_keystore_list(ks, count_key, &n, why);
}

static const struct work {
    const char *name;
    enum chv_err (*run)(struct chv_keystore *ks, struct chv_why *why);
    bool makes; /* objects: slow, and a lost answer may leave one behind */
} works[] = {
    {"open", do_open, false},       {"derive", do_derive, false},
    {"derive2", do_derive2, false}, {"dh", do_dh, false},
    {"sign", do_sign, false},       {"list", do_list, false},
    {"data", do_data, false},       {"generate", do_generate, true},
    {"import", do_import, true},    {"generate_identity", do_pair, true},
};
#define WORK_COUNT (sizeof works / sizeof works[0])

/* What the works use; a failed one may have left "new" behind. */
static struct chv_keystore *stocked(void)
{
    static bool done;
    struct chv_keystore *ks = must_open();
    if (!done) {
        CU_ASSERT_EQUAL_FATAL(chv_keystore_import(ks, "access", secret, NULL), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL),
                              CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_RECEIPT, CHV_CURVE_P256, NULL),
                              CHV_OK);
        done = true;
    }
    return ks;
}

/* The work is done again without a restart of anything; restarts of the module are rate-limited, so it may take a while. */
static bool back(const struct work *w, struct chv_keystore *ks)
{
    struct chv_why why = {""};
    test_fault_disarm(fault);
    for (unsigned i = 0; i < 2000; i++) {
        enum chv_err err = w->makes ? chv_keystore_remove(ks, "new", &why) : CHV_OK;
        if (err == CHV_OK || err == CHV_ERR_NOT_FOUND)
            err = w->run(ks, &why);
        if (err == CHV_OK)
            return true;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    (void)fprintf(stderr, "%s: not back: %s\n", w->name, why.text);
    return false;
}

/* ---- tests ---- */

/* Call 1, 2, ... of the work fails once: what can be mended is mended unseen, the rest is told. */
static void nth_call(const struct work *w, CK_RV rv, enum chv_fault_mode mode)
{
    struct chv_keystore *ks = stocked();
    CU_ASSERT_EQUAL(w->makes ? CHV_OK : w->run(ks, NULL), CHV_OK);
    bool fired = true;
    for (unsigned long n = 1; n < 400 && fired; n++) {
        struct chv_why why = {""};
        test_fault_arm_call(fault, n, rv);
        fault->mode = mode;
        enum chv_err err = w->run(ks, &why);
        fired = fault->fired > 0;
        if (err != CHV_OK)
            CU_ASSERT(why.text[0] != '\0');
        /* one lost session, login or handle is nobody's business but ours */
        if (mode == CHV_FAULT_BEFORE && chv_p11_rv_lost(rv) && w->run != do_open && err != CHV_OK) {
            (void)fprintf(stderr, "%s, call %lu, %s: %s\n", w->name, n, chv_p11_rv_name(rv), why.text);
            CU_FAIL("one lost call was not mended");
        }
        test_fault_disarm(fault);
        if (fired && err != CHV_OK)
            CU_ASSERT(back(w, ks));
    }
    CU_ASSERT(!fired);
    chv_keystore_close(ks);
}

static void test_nth_call(void)
{
    static const CK_RV answers[] = {CKR_GENERAL_ERROR,   CKR_SESSION_HANDLE_INVALID, CKR_HOST_MEMORY,
                                    CKR_DEVICE_REMOVED,  CKR_KEY_HANDLE_INVALID,     CKR_USER_NOT_LOGGED_IN,
                                    CKR_FUNCTION_FAILED, CKR_OPERATION_ACTIVE};
    for (size_t i = 0; i < WORK_COUNT; i++) /* all of them where it is cheap */
        for (size_t k = 0; k < (i < 3 ? sizeof answers / sizeof answers[0] : works[i].makes ? 1 : 3); k++)
            nth_call(&works[i], answers[k], CHV_FAULT_BEFORE);
}

static void test_lost_answer(void)
{
    for (size_t i = 0; i < WORK_COUNT; i++)
        nth_call(&works[i], CKR_DEVICE_ERROR, CHV_FAULT_AFTER);
}

static void test_lengths(void)
{
    struct chv_why why = {""};
    for (size_t i = 0; i < WORK_COUNT; i++) {
        nth_call(&works[i], CKR_OK, i % 2 == 0 ? CHV_FAULT_SHORT : CHV_FAULT_LONG);
    }
    struct chv_keystore *ks = stocked();
    test_fault_arm_call(fault, 1, CKR_OK);
    fault->mode = CHV_FAULT_SHORT;
    fault->only = "C_Sign";
    CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_ERR_CRYPTO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "C_Sign with CKM_SHA256_HMAC: gave 31 bytes, 32 are right"));
    chv_keystore_close(ks);
}

/* The device is away for good, then it is back. */
static void test_away(void)
{
    static const CK_RV answers[] = {CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_GENERAL_ERROR};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct chv_why why = {""};
        struct chv_keystore *ks = stocked();
        CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_OK);
        test_fault_arm_call(fault, 1, answers[i]);
        fault->times = 1000000;
        unsigned long before = fault->initialised;
        for (unsigned k = 0; k < 50; k++) {
            CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_ERR_UNAVAILABLE);
            CU_ASSERT_PTR_NOT_NULL(strstr(why.text, chv_p11_rv_name(answers[i])));
            CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "pkcs11_fault.so"));
        }
        CU_ASSERT(fault->initialised - before <= 3); /* it does not hammer the module */
        CU_ASSERT(back(&works[1], ks));
        chv_keystore_close(ks);
    }
}

static void test_one_session(void)
{
    struct chv_keystore *other = NULL;
    setup();
    fault->max_sessions = 1;
    fault->most_sessions = 0;
    struct chv_keystore *ks = stocked();
    CU_ASSERT_EQUAL(open_by(uri, CHV_KEYSTORE_READ, &other, NULL), CHV_OK);
    for (size_t i = 1; i < WORK_COUNT; i++) {
        CU_ASSERT_EQUAL(works[i].run(ks, NULL), CHV_OK);
        CU_ASSERT_EQUAL(do_derive(other, NULL), CHV_OK);
    }
    CU_ASSERT_EQUAL(fault->most_sessions, 1);
    chv_keystore_close(other);
    chv_keystore_close(ks);
    fault->max_sessions = 0;
}

static void *derive_in_thread(void *arg)
{
    struct chv_why why = {""};
    enum chv_err err = do_derive(arg, &why);
    return err == CHV_OK ? arg : NULL;
}

/* One call hangs: others go on in sessions of their own, and it goes on when the device does. */
static void test_hanging_call(void)
{
    struct chv_keystore *ks = stocked(), *other = NULL;
    int to_test[2], to_call[2];
    char byte = 0;
    pthread_t thread;
    void *result = NULL;
    CU_ASSERT_EQUAL_FATAL(pipe(to_test), 0);
    CU_ASSERT_EQUAL_FATAL(pipe(to_call), 0);
    CU_ASSERT_EQUAL_FATAL(open_by(uri, CHV_KEYSTORE_READ, &other, NULL), CHV_OK);
    CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(do_derive(other, NULL), CHV_OK);
    test_fault_arm_call(fault, 1, CKR_OK);
    fault->mode = CHV_FAULT_HANG;
    fault->only = "C_SignInit"; /* before the module's own lock */
    fault->hang_write = to_test[1];
    fault->hang_read = to_call[0];
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, derive_in_thread, ks), 0);
    CU_ASSERT_EQUAL(read(to_test[0], &byte, 1), 1); /* it hangs now */
    for (unsigned i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(do_derive(other, NULL), CHV_OK);
    CU_ASSERT_EQUAL(write(to_call[1], &byte, 1), 1);
    (void)pthread_join(thread, &result);
    CU_ASSERT_PTR_NOT_NULL(result);
    test_fault_disarm(fault);
    chv_keystore_close(other);
    chv_keystore_close(ks);
    for (size_t i = 0; i < 2; i++) {
        (void)close(to_test[i]);
        (void)close(to_call[i]);
    }
}

/* ---- PINs ---- */

static void test_wrong_pin_once(void)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret wrong = {.text = "0000"};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    chv_keystore_close(stocked());
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(no_pin, &options, &ks, NULL), CHV_OK);
    fault->logins = 0;
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &wrong, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "C_Login: CKR_PIN_INCORRECT"));
    CU_ASSERT_PTR_NULL(strstr(why.text, "0000"));
    CU_ASSERT(wrong.asked == 1 && fault->logins == 1);
    for (unsigned i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_ERR_STORE_LOCKED);
    CU_ASSERT_EQUAL(fault->logins, 1);
    chv_keystore_close(ks);
}

/* Whether the PIN is tried at all under a flag of the token. */
static void check_flag(CK_FLAGS flag, const char *query, const char *says, bool tried)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret secret_text = {.text = TEST_PIN};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    char *with = test_format("%s%s", no_pin, query);
    fault->token_flags = flag;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(with, &options, &ks, NULL), CHV_OK);
    fault->logins = 0;
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &secret_text, &why), tried ? CHV_OK : CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(fault->logins, tried ? 1 : 0);
    CU_ASSERT_EQUAL(secret_text.asked, tried ? 1 : 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    chv_keystore_close(ks);
    fault->token_flags = 0;
    free(with);
}

static void test_pin_flags(void)
{
    chv_keystore_close(stocked());
    check_flag(CKF_USER_PIN_LOCKED, "", "CKF_USER_PIN_LOCKED", false);
    check_flag(CKF_USER_PIN_LOCKED, "&chaveiro-final-try=yes", "CKF_USER_PIN_LOCKED", false);
    check_flag(CKF_USER_PIN_FINAL_TRY, "", "CKF_USER_PIN_FINAL_TRY", false);
    check_flag(CKF_USER_PIN_FINAL_TRY, "&chaveiro-final-try=yes", "", true);
    check_flag(CKF_USER_PIN_COUNT_LOW, "", "", true);
}

/* The PIN file has a wrong PIN by the time it is needed again: one try, and no more before it changes. */
static void test_wrong_pin_file(void)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = stocked();
    CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_OK);
    test_write_private(pin_file, "a wrong one\n");
    fault->logins = 0;
    test_fault_arm_call(fault, 1, CKR_SESSION_HANDLE_INVALID);
    CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKR_PIN_INCORRECT"));
    test_fault_disarm(fault);
    for (unsigned i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_ERR_PASSPHRASE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "not tried again before the file changes"));
    }
    CU_ASSERT_EQUAL(fault->logins, 1);
    test_write_private(pin_file, TEST_PIN "\n");
    CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_OK);
    CU_ASSERT_EQUAL(fault->logins, 2);
    chv_keystore_close(ks);
}

/* Without a PIN file the token waits for a person, and unlock is allowed again. */
static void test_prompted_pin(void)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret asked = {.text = TEST_PIN};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    chv_keystore_close(stocked());
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(no_pin, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_OK);
    test_fault_arm_call(fault, 1, CKR_SESSION_HANDLE_INVALID);
    CU_ASSERT_EQUAL(do_derive(ks, &why), CHV_ERR_STORE_LOCKED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "must be given again"));
    CU_ASSERT_EQUAL(asked.asked, 1);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, &why), CHV_OK);
    CU_ASSERT_EQUAL(asked.asked, 2);
    CU_ASSERT_EQUAL(do_derive(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
}

static void clean(void)
{
    free(uri);
    free(no_pin);
    free(pin_file);
}

static void test_end(void)
{
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
    clean();
}

TEST_MAIN("keystore: token, faults", {"the n-th call fails", test_nth_call}, {"an answer is lost", test_lost_answer},
          {"wrong lengths", test_lengths}, {"the device is away", test_away}, {"one session", test_one_session},
          {"a call hangs", test_hanging_call}, {"a wrong PIN is tried once", test_wrong_pin_once},
          {"PIN flags", test_pin_flags}, {"a PIN file goes wrong", test_wrong_pin_file},
          {"a prompted PIN", test_prompted_pin}, {"all sessions are closed", test_end})
