/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, tokens and sessions under several threads; making and listing tokens. */
#include "tests/harness.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "p11/module.h"
#include "p11/object.h"
#include "p11/provision.h"
#include "p11/token_private.h"

static struct chv_fault *fault;
static struct chv_p11_uri uri;

static void setup(void)
{
    if (fault != NULL)
        return;
    test_softhsm_token("pool");
    const char *path = test_fault_module(test_softhsm_module(), &fault);
    char *pin = test_tokens_path("pin");
    test_write_private(pin, TEST_PIN);
    char *text = test_format("pkcs11:token=pool?module-path=%s&pin-source=file:%s", path, pin);
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(text, &uri, NULL), CHV_OK);
    free(text);
    free(pin);
}

static enum chv_err make_and_sign(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    static const uint8_t value[32] = {1};
    const struct chv_p11_secret secret = {.value = value, .value_len = sizeof value};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum chv_err err = chv_p11_secret_make(s, &secret, &key, why);
    if (err == CHV_OK)
        err = chv_p11_hmac(s, key, value, sizeof value, arg, why);
    if (key != CK_INVALID_HANDLE)
        (void)s->fn->C_DestroyObject(s->handle, key);
    return err;
}

struct crew {
    struct chv_p11_token *token;
    unsigned rounds, wrong;
};

static void *work_many(void *arg)
{
    struct crew *crew = arg;
    uint8_t first[32], out[32];
    struct chv_why why = {""};
    for (unsigned i = 0; i < crew->rounds; i++) {
        enum chv_err err = chv_p11_token_run(crew->token, make_and_sign, out, &why);
        if (i == 0)
            memcpy(first, out, 32);
        if (err != CHV_OK || memcmp(first, out, 32) != 0)
            crew->wrong++;
    }
    if (crew->wrong > 0)
        (void)fprintf(stderr, "%s\n", why.text);
    return NULL;
}

static unsigned run_crew(struct chv_p11_token *token, unsigned rounds, struct chv_p11_module *restart)
{
    enum { CREW = 4 };
    struct crew crew[CREW];
    pthread_t threads[CREW];
    unsigned wrong = 0;
    for (unsigned i = 0; i < CREW; i++) {
        crew[i] = (struct crew){token, rounds, 0};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, work_many, &crew[i]), 0);
    }
    if (restart != NULL)
        CU_ASSERT_EQUAL(chv_p11_module_restart(restart, restart->restarts, NULL), CHV_OK);
    for (unsigned i = 0; i < CREW; i++) {
        (void)pthread_join(threads[i], NULL);
        wrong += crew[i].wrong;
    }
    return wrong;
}

/* Four threads, one or two sessions: each waits for its turn, none shares. */
static void test_threads(void)
{
    static const CK_ULONG limits[] = {1, 2, 0};
    setup();
    for (size_t i = 0; i < 3; i++) {
        struct chv_p11_token *token = NULL;
        fault->max_sessions = limits[i];
        fault->most_sessions = 0;
        CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
        CU_ASSERT_EQUAL(run_crew(token, 100, NULL), 0);
        CU_ASSERT(limits[i] == 0 || fault->most_sessions <= limits[i]);
        CU_ASSERT(fault->most_sessions <= CHV_P11_POOL_MAX);
        chv_p11_token_close(token);
    }
    fault->max_sessions = 0;
}

/* The token says "no limit" and then has two: the pool learns it. */
static void test_limit_found(void)
{
    struct chv_p11_token *token = NULL;
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    fault->max_sessions = 2;
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
    CU_ASSERT_EQUAL(run_crew(token, 50, NULL), 0);
    fault->max_sessions = 0;
    chv_p11_token_close(token);
}

/* The module is restarted under them: they wait, log in again and go on. */
static void test_restart_under_threads(void)
{
    struct chv_p11_token *token = NULL;
    struct chv_p11_module *module = NULL;
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_module_load(uri.module_path, NULL, &module, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
    fault->finalised = 0;
    CU_ASSERT_EQUAL(run_crew(token, 200, module), 0);
    CU_ASSERT_EQUAL(fault->finalised, 1);
    /* again and again at once: soon it is too early (the pause doubles, so this ends on a slow machine too) */
    struct chv_why why = {""};
    enum chv_err err = CHV_OK;
    for (unsigned i = 0; i < 10 && err == CHV_OK; i++)
        err = chv_p11_module_restart(module, module->restarts, &why);
    CU_ASSERT_EQUAL(err, CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "the next try"));
    unsigned long finalised = fault->finalised;
    CU_ASSERT_EQUAL(chv_p11_module_restart(module, module->restarts - 1, &why),
                    CHV_OK); /* somebody else's is ours too */
    chv_p11_module_unload(module);
    CU_ASSERT_EQUAL(fault->finalised, finalised); /* the token holds it */
    chv_p11_token_close(token);
    CU_ASSERT_EQUAL(fault->finalised, finalised + 1);
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
}

/* Who opens the same token again shares it, login and all. */
static void test_shared(void)
{
    struct chv_p11_token *a = NULL, *b = NULL;
    struct chv_p11_module *m = NULL;
    struct chv_why why = {""};
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &a, NULL), CHV_OK);
    CU_ASSERT(!chv_p11_token_logged_in(a));
    CU_ASSERT_EQUAL(chv_p11_token_login(a, NULL, NULL, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &b, NULL), CHV_OK);
    CU_ASSERT_PTR_EQUAL(a, b);
    CU_ASSERT_EQUAL(chv_p11_module_load(uri.module_path, "other arguments", &m, &why), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(chv_p11_token_init(uri.module_path, NULL, "new", TEST_SO_PIN, TEST_PIN, &why), CHV_ERR_BUSY);
    chv_p11_token_close(a);
    CU_ASSERT(chv_p11_token_logged_in(b));
    chv_p11_token_close(b);
    CU_ASSERT(!chv_p11_module_loaded(uri.module_path));
}

static void *take_one(void *arg)
{
    struct chv_p11_token *token = arg;
    struct chv_p11_session *s = NULL;
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_p11_session_take(token, &s, &why), CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NULL(s);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "token \"pool\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "no session was free for 5 s (it has 1)"));
    return NULL;
}

/* Whoever waits for the only session, which a call that hangs has, is told so. */
static void test_no_session_is_free(void)
{
    struct chv_p11_token *token = NULL;
    struct chv_p11_session *held = NULL;
    pthread_t thread;
    setup();
    fault->max_sessions = 1;
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &held, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, take_one, token), 0);
    (void)pthread_join(thread, NULL);
    chv_p11_session_give(held);
    CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &held, NULL), CHV_OK); /* nothing was lost by the wait */
    chv_p11_session_give(held);
    chv_p11_token_close(token);
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
    fault->max_sessions = 0;
}

/* A session with an operation that nobody will end is closed, and what was made in it: other sessions go on. */
static void test_closed_session(void)
{
    static const CK_ULONG limits[] = {0, 2};
    setup();
    for (size_t i = 0; i < 2; i++) {
        struct chv_p11_token *token = NULL;
        struct chv_p11_session *a = NULL, *b = NULL;
        fault->max_sessions = limits[i]; /* with room for another one first, and without */
        CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &a, NULL), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &b, NULL), CHV_OK);
        const unsigned long pool = a->pool, generation = a->generation;
        chv_p11_session_give(b);
        a->rv = CKR_OPERATION_ACTIVE;
        fault->logins = 0;
        chv_p11_session_give(a);
        CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &a, NULL), CHV_OK);
        CU_ASSERT_NOT_EQUAL(a->pool, pool);
        CU_ASSERT_NOT_EQUAL(a->generation, generation);
        const unsigned long after = a->pool;
        chv_p11_session_give(a);
        CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token, &a, NULL), CHV_OK);
        CU_ASSERT_EQUAL(a->pool, after); /* idle ones stay, and the login */
        chv_p11_session_give(a);
        CU_ASSERT_EQUAL(fault->logins, 0);
        chv_p11_token_close(token);
        CU_ASSERT_EQUAL(fault->open_sessions, 0);
    }
    fault->max_sessions = 0;
}

/* A module by two names is one: its C_Finalize would end the other's sessions. */
static void test_two_names(void)
{
    struct chv_p11_module *a = NULL, *b = NULL;
    setup();
    char *other = test_tokens_path("other-name.so");
    CU_ASSERT_EQUAL_FATAL(symlink(uri.module_path, other), 0);
    fault->initialised = fault->finalised = 0;
    CU_ASSERT_EQUAL_FATAL(chv_p11_module_load(uri.module_path, NULL, &a, NULL), CHV_OK);
    CU_ASSERT(chv_p11_module_loaded(other));
    CU_ASSERT_EQUAL_FATAL(chv_p11_module_load(other, NULL, &b, NULL), CHV_OK);
    CU_ASSERT_PTR_EQUAL(a, b);
    CU_ASSERT_EQUAL(fault->initialised, 1);
    CU_ASSERT_EQUAL(chv_p11_module_load(other, "other arguments", &b, NULL), CHV_ERR_BUSY);
    chv_p11_module_unload(a);
    CU_ASSERT_EQUAL(fault->finalised, 0);
    chv_p11_module_unload(b);
    CU_ASSERT_EQUAL(fault->finalised, 1);
    CU_ASSERT(!chv_p11_module_loaded(other));
    (void)unlink(other);
    free(other);
}

/* A child has its parent's logins in the module's memory: it may not open what the parent has open, PIN or not. */
static void test_child_opens(void)
{
    struct chv_p11_token *token = NULL, *again = NULL;
    int status = -1;
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
    pid_t pid = fork();
    if (pid == 0) {
        struct chv_why why = {""};
        struct chv_p11_module *module = NULL;
        enum chv_err err = chv_p11_token_open(&uri, &again, &why);
        enum chv_err loaded = chv_p11_module_load(uri.module_path, NULL, &module, NULL);
        _exit(err == CHV_ERR_STATE && loaded == CHV_ERR_STATE && strstr(why.text, "before a fork") != NULL ? 0 : 1);
    }
    CU_ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
    chv_p11_token_close(token);
}

/* ---- PINs ---- */

/* The one who opened it first had no pin-source; the next one names it. */
static void test_later_pin_source(void)
{
    struct chv_p11_token *a = NULL, *b = NULL;
    struct chv_p11_uri bare;
    setup();
    char *text = test_format("pkcs11:token=pool?module-path=%s", uri.module_path);
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(text, &bare, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&bare, &a, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_login(a, NULL, NULL, NULL), CHV_ERR_STORE_LOCKED);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &b, NULL), CHV_OK);
    CU_ASSERT_PTR_EQUAL(a, b);
    CU_ASSERT_EQUAL(chv_p11_token_login(b, NULL, NULL, NULL), CHV_OK);
    chv_p11_token_close(a);
    chv_p11_token_close(b);
    chv_p11_uri_free(&bare);
    free(text);
}

/* A token that has been logged in to, and has forgotten it. */
static struct chv_p11_token *open_forgetful(void)
{
    struct chv_p11_token *token = NULL;
    struct chv_p11_module *module = NULL;
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_module_load(uri.module_path, NULL, &module, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_module_restart(module, module->restarts, NULL), CHV_OK);
    chv_p11_module_unload(module);
    fault->logins = 0;
    return token;
}

static void arm_login(CK_RV rv)
{
    test_fault_arm_call(fault, 1, rv);
    fault->only = "C_Login";
    fault->times = 100;
}

/* Once a PIN was wrong it is not tried again, also if the token was out of order at a try that somebody asked for. */
static void test_wrong_pin_stays_wrong(void)
{
    uint8_t out[32];
    struct chv_p11_token *token = open_forgetful();
    char *pin = test_tokens_path("pin");
    test_write_private(pin, "wrong");
    CU_ASSERT_EQUAL(chv_p11_token_run(token, make_and_sign, out, NULL), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(fault->logins, 1);
    arm_login(CKR_DEVICE_ERROR);
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(fault->logins, 2);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, make_and_sign, out, NULL), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(fault->logins, 2);
    test_write_private(pin, TEST_PIN);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, make_and_sign, out, NULL), CHV_OK);
    chv_p11_token_close(token);
    free(pin);
}

/* The same where the PIN is typed at the token: nobody is asked again by work that goes on. */
static void test_wrong_pin_at_the_token(void)
{
    uint8_t out[32];
    struct chv_why why = {""};
    struct chv_p11_token *token = open_forgetful();
    fault->token_flags = CKF_PROTECTED_AUTHENTICATION_PATH;
    arm_login(CKR_PIN_INCORRECT);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, make_and_sign, out, NULL), CHV_ERR_PASSPHRASE);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, make_and_sign, out, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "typed at the token"));
    CU_ASSERT_EQUAL(fault->logins, 1);
    test_fault_disarm(fault);
    fault->token_flags = 0;
    chv_p11_token_close(token);
}

/* ---- what a token says ---- */

static void test_shown(void)
{
    static const struct {
        const char *raw, *shown;
    } cases[] = {
        {"label   ", "label"},
        {"Schl\xc3\xbcssel \xe2\x82\xac \xf0\x9f\x94\x91", "Schl\xc3\xbcssel \xe2\x82\xac \xf0\x9f\x94\x91"},
        {"a\x1b[2Jb\x7f\n", "a?[2Jb??"},
        {"\xc2\x9b"
         "2J",
         "??2J"}, /* C1: CSI */
        {"\x9b"
         "2J",
         "?2J"},
        {"\xc0\x9b\xff\xc3", "????"}, /* no UTF-8, and a character cut off */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        chv_p11_show((const unsigned char *)cases[i].raw, strlen(cases[i].raw), out);
        CU_ASSERT_STRING_EQUAL(out, cases[i].shown);
    }
}

static CK_RV no_slots(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n)
{
    (void)present;
    (void)list;
    *n = CK_UNAVAILABLE_INFORMATION;
    return CKR_OK;
}

static CK_RV too_many_slots(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n)
{
    (void)present;
    *n = list == NULL ? 1 : 1000;
    return CKR_OK;
}

/* Numbers that cannot be right are not believed. */
static void test_slot_counts(void)
{
    CK_FUNCTION_LIST list = {.C_GetSlotList = no_slots};
    CK_SLOT_ID *slots = NULL;
    CK_ULONG count = 0;
    CU_ASSERT_EQUAL(chv_p11_slots(&list, &slots, &count), CKR_GENERAL_ERROR);
    free(slots);
    list.C_GetSlotList = too_many_slots;
    CU_ASSERT_EQUAL(chv_p11_slots(&list, &slots, &count), CKR_BUFFER_TOO_SMALL);
    free(slots);
}

static void test_info(void)
{
    struct chv_p11_token *token = NULL;
    struct chv_p11_token_info info;
    struct chv_why why = {""};
    setup();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_info(token, &info, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(info.label, "pool");
    CU_ASSERT_PTR_NOT_NULL(strstr(chv_p11_token_name(token), info.serial));
    CU_ASSERT((info.flags & CKF_USER_PIN_INITIALIZED) != 0);
    CU_ASSERT_EQUAL(chv_p11_token_mechanism(token, CKM_SHA256_HMAC, CKF_SIGN, NULL, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_mechanism(token, CKM_CHACHA20_POLY1305, 0, NULL, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKM_CHACHA20_POLY1305: CKR_MECHANISM_INVALID"));
    CU_ASSERT_EQUAL(chv_p11_token_mechanism(token, CKM_SHA256_HMAC, CKF_ENCRYPT, NULL, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_p11_token_login(token, NULL, NULL, NULL), CHV_OK);
    CU_ASSERT(chv_p11_pair_supported(token, CHV_CURVE_P256));
    CU_ASSERT(chv_p11_pair_supported(token, CHV_CURVE_25519));
    chv_p11_token_close(token);
}

static void test_init(void)
{
    struct chv_why why = {""};
    setup();
    CU_ASSERT_EQUAL(chv_p11_token_init(test_softhsm_module(), NULL, "pool", TEST_SO_PIN, TEST_PIN, &why),
                    CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_p11_token_init(test_softhsm_module(), NULL, "", TEST_SO_PIN, TEST_PIN, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_p11_token_init(test_softhsm_module(), NULL, "123456789012345678901234567890123", TEST_SO_PIN,
                                       TEST_PIN, &why),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_p11_token_init(test_softhsm_module(), NULL, "short", "1", TEST_PIN, &why), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "C_InitToken: CKR_PIN_"));
    CU_ASSERT_EQUAL(chv_p11_token_init("/nowhere.so", NULL, "x", TEST_SO_PIN, TEST_PIN, &why), CHV_ERR_NOT_FOUND);
    chv_p11_uri_free(&uri);
}

TEST_MAIN("p11: modules, tokens, sessions", {"threads and few sessions", test_threads},
          {"a limit that was not told", test_limit_found}, {"no session is free", test_no_session_is_free},
          {"restart under threads", test_restart_under_threads}, {"one token, two openers", test_shared},
          {"a session that is closed", test_closed_session}, {"a module by two names", test_two_names},
          {"a child opens it", test_child_opens}, {"a later pin-source", test_later_pin_source},
          {"a wrong PIN stays wrong", test_wrong_pin_stays_wrong},
          {"a wrong PIN at the token", test_wrong_pin_at_the_token}, {"texts are shown", test_shown},
          {"numbers of slots", test_slot_counts}, {"what a token says", test_info}, {"making tokens", test_init})
