/* SPDX-License-Identifier: Apache-2.0 */
/* Making a token while calls fail: each failure is told, the security officer's PIN is tried only where that is safe. */
#include "tests/harness.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include "p11/module.h"
#include "p11/provision.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct chv_fault *fault;
static const char *path;

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void __lsan_disable(void) __attribute__((weak, visibility("default")));
void __lsan_enable(void) __attribute__((weak, visibility("default")));
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* libp11 loses its slots when one of them cannot be asked: LeakSanitizer, if it is there, looks for ours elsewhere. */
static void leaks(bool ours)
{
    void (*call)(void) = ours ? __lsan_enable : __lsan_disable;
    if (call != NULL)
        call();
}

static void setup(void)
{
    test_softhsm_setup();
    if (fault == NULL)
        path = test_fault_module(test_softhsm_module(), &fault);
    test_fault_disarm(fault);
    fault->logins = 0;
    fault->made = 0;
}

/* Without any token. */
static void empty(void)
{
    test_remove_tree(test_softhsm_tokens());
    CU_ASSERT_EQUAL_FATAL(mkdir(test_softhsm_tokens(), 0700), 0);
}

static enum chv_err make(struct chv_why *why)
{
    why->text[0] = '\0';
    return chv_p11_token_init(path, NULL, "made", TEST_SO_PIN, TEST_PIN, why);
}

struct seen {
    unsigned made; /* tokens of the label */
    CK_FLAGS flags;
};

static enum chv_err look(void *arg, const struct chv_p11_token_info *info)
{
    struct seen *seen = arg;
    if (strcmp(info->label, "made") == 0) {
        seen->made++;
        seen->flags = info->flags;
    }
    return CHV_OK;
}

static struct seen seen(void)
{
    struct seen found = {.made = 0};
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(chv_p11_token_list(path, NULL, look, &found, NULL), CHV_OK);
    return found;
}

/* Whether the text is one of a call of ours, with its module. */
static bool tells(const struct chv_why *why, CK_RV rv)
{
    bool named = strstr(why->text, " C_") != NULL && strstr(why->text, chv_p11_rv_name(rv)) != NULL &&
                 strstr(why->text, "pkcs11_fault.so") != NULL;
    if (!named)
        (void)fprintf(stderr, "not told: %s\n", why->text);
    return named;
}

static void nth_call(CK_RV rv, enum chv_fault_mode mode)
{
    bool fired = true;
    unsigned failed = 0;
    for (unsigned long n = 1; n < 100 && fired; n++) {
        struct chv_why why = {""};
        setup();
        empty();
        test_fault_arm_call(fault, n, rv);
        fault->mode = mode;
        leaks(false);
        enum chv_err err = make(&why);
        leaks(true);
        fired = fault->fired > 0;
        struct seen left = seen();
        CU_ASSERT(err == CHV_OK || tells(&why, rv));
        CU_ASSERT(left.made <= 1);
        if (err == CHV_OK)
            CU_ASSERT(left.made == 1 && (left.flags & CKF_USER_PIN_INITIALIZED) != 0);
        CU_ASSERT(fired || err == CHV_OK);
        CU_ASSERT(!chv_p11_module_loaded(path));
        CU_ASSERT_EQUAL(fault->open_sessions, 0);
        CU_ASSERT(fault->logins <= 1);
        failed += err != CHV_OK;
    }
    CU_ASSERT(!fired);
    CU_ASSERT(failed >= 6);
}

static void test_nth_call(void)
{
    nth_call(CKR_GENERAL_ERROR, CHV_FAULT_BEFORE);
    nth_call(CKR_DEVICE_REMOVED, CHV_FAULT_BEFORE);
}

static void test_lost_answer(void)
{
    nth_call(CKR_DEVICE_ERROR, CHV_FAULT_AFTER);
}

/* Each call by name, with what it leaves behind. */
static void test_names(void)
{
    static const struct {
        const char *call, *says;
        bool begun;
    } cases[] = {
        {"C_InitToken", "token \"made\" in ", false},
        {"C_OpenSession", "token \"made\" in ", true},
        {"C_Login", "C_Login as the security officer: ", true},
        {"C_InitPIN", "token \"made\" in ", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chv_why why = {""};
        setup();
        empty();
        test_fault_arm_call(fault, 1, CKR_FUNCTION_FAILED);
        fault->only = cases[i].call;
        CU_ASSERT_EQUAL(make(&why), CHV_ERR_UNAVAILABLE);
        CU_ASSERT(tells(&why, CKR_FUNCTION_FAILED));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].call));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].says));
        struct seen left = seen();
        CU_ASSERT_EQUAL(left.made, cases[i].begun ? 1 : 0);
        CU_ASSERT_EQUAL(left.flags & CKF_USER_PIN_INITIALIZED, 0);
        CU_ASSERT_EQUAL(make(&why), cases[i].begun ? CHV_ERR_EXISTS : CHV_OK);
    }
}

/* A locked PIN of the security officer is nothing that a security officer could mend. */
static void test_so_locked(void)
{
    static const char *const calls[] = {"C_InitToken", "C_Login"};
    for (size_t i = 0; i < 2; i++) {
        struct chv_why why = {""};
        setup();
        empty();
        test_fault_arm_call(fault, 1, CKR_PIN_LOCKED);
        fault->only = calls[i];
        CU_ASSERT_EQUAL(make(&why), CHV_ERR_PASSPHRASE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, calls[i]));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKR_PIN_LOCKED: the security officer's PIN is locked"));
        CU_ASSERT_PTR_NULL(strstr(why.text, "must set a new one"));
    }
}

/* What the token says of the security officer's PIN is read before the login, once the token is one. */
static void check_flag(CK_FLAGS flag, const char *name)
{
    struct chv_why why = {""};
    setup();
    empty();
    fault->made_flags = flag;
    CU_ASSERT_EQUAL(make(&why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, name));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "nothing was tried"));
    CU_ASSERT(fault->made == 1 && fault->logins == 0);
    struct seen left = seen();
    CU_ASSERT(left.made == 1 && (left.flags & flag) != 0); /* the list says it too */
    fault->made_flags = 0;
}

static void test_so_flags(void)
{
    check_flag(CKF_SO_PIN_LOCKED, "CKF_SO_PIN_LOCKED");
    check_flag(CKF_SO_PIN_FINAL_TRY, "CKF_SO_PIN_FINAL_TRY");
}

static void test_list_fails(void)
{
    struct chv_why why = {""};
    struct seen none = {.made = 0};
    bool fired = true;
    setup();
    for (unsigned long n = 1; n < 20 && fired; n++) {
        test_fault_arm_call(fault, n, CKR_GENERAL_ERROR);
        leaks(false);
        enum chv_err err = chv_p11_token_list(path, NULL, look, &none, &why);
        leaks(true);
        fired = fault->fired > 0;
        CU_ASSERT(err == CHV_OK || tells(&why, CKR_GENERAL_ERROR));
        CU_ASSERT(fired || err == CHV_OK);
        CU_ASSERT(!chv_p11_module_loaded(path));
    }
    CU_ASSERT(!fired);
}

TEST_MAIN("p11: making tokens", {"the n-th call fails", test_nth_call}, {"an answer is lost", test_lost_answer},
          {"calls are named", test_names}, {"a locked PIN of the security officer", test_so_locked},
          {"flags of the security officer's PIN", test_so_flags}, {"a list that fails", test_list_fails})
