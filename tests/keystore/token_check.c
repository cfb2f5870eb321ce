/* SPDX-License-Identifier: Apache-2.0 */
/* What chv_token_check says of a token that does all, has one session, refuses, or computes wrongly. */
#include "keystore/token_check.h"
#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static struct chv_fault *fault;
static char *uri;    /* with a PIN file */
static char *no_pin; /* without */
static struct chv_token_check check;

static void setup(void)
{
    if (fault != NULL) {
        test_fault_disarm(fault);
        fault->max_sessions = 0;
        return;
    }
    test_softhsm_token("checked");
    const char *path = test_fault_module(test_softhsm_module(), &fault);
    char *pin = test_tokens_path("pin");
    test_write_private(pin, TEST_PIN "\n");
    no_pin = test_format("pkcs11:token=checked;object=other?module-path=%s", path);
    uri = test_format("%s&pin-source=file:%s", no_pin, pin);
    free(pin);
}

/* Every call of that name ends so. */
static void arm(const char *name, enum chv_fault_mode mode, CK_RV rv)
{
    test_fault_disarm(fault);
    fault->only = name;
    fault->mode = mode;
    fault->rv = rv;
    fault->times = ULONG_MAX / 2;
    fault->calls = 0;
    fault->first = 1;
}

static void run(const char *which)
{
    struct test_secret pin = {.text = TEST_PIN};
    struct chv_why why = {""};
    if (chv_token_check(which, test_secret, &pin, &check, &why) != CHV_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        CU_FAIL_FATAL("the check failed");
    }
    CU_ASSERT_EQUAL(pin.asked, which == no_pin ? 1 : 0);
}

/* The first known answer of that name. */
static const struct chv_token_known *known(const char *what)
{
    for (size_t i = 0; i < check.known_count; i++)
        if (strcmp(check.known[i].what, what) == 0)
            return &check.known[i];
    CU_FAIL_FATAL("there is no such known answer");
    return &check.known[0];
}

static bool suite(const char *name)
{
    for (size_t i = 0; i < CHV_TOKEN_SUITES; i++)
        if (check.backend.opens && strcmp(check.backend.suites[i].name, name) == 0)
            return check.backend.suites[i].there;
    return false;
}

/* SoftHSM has all but ChaCha20-Poly1305 and the derive mechanisms. */
static void expect_softhsm(void)
{
    CU_ASSERT_EQUAL(check.known_count, 15);
    for (size_t i = 0; i < check.known_count; i++) {
        const char *what = check.known[i].what;
        bool lacks = strcmp(what, "ChaCha20-Poly1305") == 0 || strcmp(what, "HKDF-Expand by hkdf") == 0 ||
                     strcmp(what, "HKDF-Expand by sp800-108") == 0;
        CU_ASSERT_EQUAL(check.known[i].verdict, lacks ? CHV_TOKEN_LISTS_NOT : CHV_TOKEN_GIVES);
        CU_ASSERT_EQUAL(check.known[i].reason[0] != '\0', lacks);
    }
    CU_ASSERT_STRING_EQUAL(known("X25519")->source, "RFC 7748, 6.1");
    CU_ASSERT_TRUE(check.backend.opens);
    CU_ASSERT_FALSE(check.backend.needs_login);
    CU_ASSERT_TRUE(suite("x25519-aesgcm-sha256") && suite("p256-aesgcm-sha256"));
    CU_ASSERT_FALSE(suite("x25519-chachapoly-sha256"));
}

static void test_all(void)
{
    setup();
    run(uri);
    expect_softhsm();
    run(no_pin);
    expect_softhsm();
}

/* What the token says of its sessions is what is told, and one is enough for everything that is tried. */
static void test_sessions(void)
{
    setup();
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
    fault->most_sessions = 0;
    fault->max_sessions = 1;
    run(uri);
    CU_ASSERT_EQUAL(check.info.max_sessions, 1);
    CU_ASSERT_EQUAL(fault->most_sessions, 1);
    CU_ASSERT_EQUAL(fault->open_sessions, 0);
    expect_softhsm();
    fault->max_sessions = 7;
    run(uri);
    CU_ASSERT_EQUAL(check.info.max_sessions, 7);
    setup();
    run(uri);
    CU_ASSERT_EQUAL(check.info.max_sessions, CK_EFFECTIVELY_INFINITE);
}

/* Listed, but it does not work: told by the call and its answer, and the backend is not what the list promises. */
static void test_refuses(void)
{
    setup();
    arm("C_EncryptInit", CHV_FAULT_BEFORE, CKR_MECHANISM_PARAM_INVALID);
    run(uri);
    CU_ASSERT_EQUAL(known("AES-256-GCM")->verdict, CHV_TOKEN_REFUSES);
    CU_ASSERT_STRING_EQUAL(known("AES-256-GCM")->reason, "C_EncryptInit with CKM_AES_GCM: CKR_MECHANISM_PARAM_INVALID");
    CU_ASSERT_EQUAL(known("SHA-256")->verdict, CHV_TOKEN_GIVES);
    CU_ASSERT_FALSE(check.backend.opens);
    CU_ASSERT_PTR_NOT_NULL(strstr(check.backend.why.text, "CKR_MECHANISM_PARAM_INVALID"));
    test_fault_disarm(fault);
}

static void test_wrong(void)
{
    static const struct {
        const char *call, *what;
    } cases[] = {{"C_Digest", "SHA-256"}, {"C_Decrypt", "AES-256-GCM"}};
    setup();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arm(cases[i].call, CHV_FAULT_SHORT, CKR_OK);
        run(uri);
        CU_ASSERT_EQUAL(known(cases[i].what)->verdict, CHV_TOKEN_ERRS);
        CU_ASSERT_STRING_EQUAL(known(cases[i].what)->reason, "gives other bytes");
    }
    test_fault_disarm(fault);
}

/* A token that takes no keys at all: curves are compared with OpenSSL, the rest is refused by name. */
static void test_no_import(void)
{
    setup();
    arm("C_CreateObject", CHV_FAULT_BEFORE, CKR_ATTRIBUTE_VALUE_INVALID);
    run(uri);
    CU_ASSERT_FALSE(check.test_keys);
    CU_ASSERT_EQUAL(known("SHA-256")->verdict, CHV_TOKEN_GIVES);
    CU_ASSERT_EQUAL(known("HMAC-SHA256")->verdict, CHV_TOKEN_REFUSES);
    CU_ASSERT_STRING_EQUAL(known("HMAC-SHA256")->reason, "C_CreateObject: CKR_ATTRIBUTE_VALUE_INVALID");
    for (unsigned i = 0; i < 2; i++) {
        const struct chv_token_known *k = known(i == 0 ? "X25519" : "ECDH on P-256");
        CU_ASSERT_EQUAL(k->verdict, CHV_TOKEN_GIVES);
        CU_ASSERT_PTR_NOT_NULL(strstr(k->source, "agreement with OpenSSL"));
    }
    arm("C_DeriveKey", CHV_FAULT_BEFORE, CKR_FUNCTION_NOT_SUPPORTED);
    run(uri);
    CU_ASSERT_EQUAL(known("X25519")->verdict, CHV_TOKEN_REFUSES);
    CU_ASSERT_STRING_EQUAL(known("X25519")->reason, "C_DeriveKey with CKM_ECDH1_DERIVE: CKR_FUNCTION_NOT_SUPPORTED");
    test_fault_disarm(fault);
}

/* Session objects for nobody who has not logged in. */
static void test_needs_login(void)
{
    setup();
    arm("C_GenerateRandom", CHV_FAULT_BEFORE, CKR_FUNCTION_REJECTED); /* not what is taken for a lost login */
    fault->times = 1;
    run(no_pin);
    CU_ASSERT_TRUE(check.backend.opens);
    CU_ASSERT_TRUE(check.backend.needs_login);
    test_fault_disarm(fault);
}

TEST_MAIN("token check", {"all", test_all}, {"sessions", test_sessions}, {"refuses", test_refuses},
          {"wrong", test_wrong}, {"no import", test_no_import}, {"needs login", test_needs_login})
