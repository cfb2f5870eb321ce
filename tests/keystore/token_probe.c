/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe of keys that may derive: what works is named, what fails is no pass, and what passes derives the right bytes.
 * SoftHSM refuses everything by itself; NSS derives, behind a module that refuses what would give the key out.
 */
#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <string.h>

#include "core/hkdf.h"
#include "keystore/token.h"
#include "keystore/token_copy.h"
#include "p11/observe.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const uint8_t known[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";

static const struct way {
    CK_MECHANISM_TYPE type;
    const char *name;
} derive_ways[] = {{CKM_EXTRACT_KEY_FROM_KEY, "CKM_EXTRACT_KEY_FROM_KEY"},
                   {CKM_CONCATENATE_BASE_AND_KEY, "CKM_CONCATENATE_BASE_AND_KEY"},
                   {CKM_CONCATENATE_BASE_AND_DATA, "CKM_CONCATENATE_BASE_AND_DATA"},
                   {CKM_CONCATENATE_DATA_AND_BASE, "CKM_CONCATENATE_DATA_AND_BASE"},
                   {CKM_XOR_BASE_AND_DATA, "CKM_XOR_BASE_AND_DATA"}};
/* by which both SoftHSM and NSS say that they wrap */
static const struct way wrap_ways[] = {{CKM_AES_KEY_WRAP, "CKM_AES_KEY_WRAP"}, {CKM_RSA_PKCS, "CKM_RSA_PKCS"}};

/* what a token may answer that is no refusal */
static const struct answer {
    CK_RV rv;
    const char *name;
} answers[] = {{CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"},
               {CKR_GENERAL_ERROR, "CKR_GENERAL_ERROR"},
               {CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED"},
               {CKR_HOST_MEMORY, "CKR_HOST_MEMORY"},
               {CKR_ARGUMENTS_BAD, "CKR_ARGUMENTS_BAD"},
               {CKR_MECHANISM_PARAM_INVALID, "CKR_MECHANISM_PARAM_INVALID"},
               {CKR_KEY_HANDLE_INVALID, "CKR_KEY_HANDLE_INVALID"},
               {CKR_SESSION_HANDLE_INVALID, "CKR_SESSION_HANDLE_INVALID"},
               {CKR_TEMPLATE_INCONSISTENT, "CKR_TEMPLATE_INCONSISTENT"},
               {CKR_BUFFER_TOO_SMALL, "CKR_BUFFER_TOO_SMALL"},
               {CKR_VENDOR_DEFINED | 1, "CKR_VENDOR_DEFINED"},
               {0x7777, "CKR_?"}};

static struct chv_fault *fault;
static struct chv_keystore *softhsm;
static CK_OBJECT_HANDLE key; /* in it: of the session, may derive */

static struct chv_p11_token *token(void)
{
    return ((struct chv_token_store *)softhsm)->token;
}

static enum chv_err make_key(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    const struct chv_p11_secret wanted = {.value = known, .value_len = sizeof known, .derive = true};
    return chv_p11_secret_make(s, &wanted, arg, why);
}

static char *through_fault(const char *real, const char *uri)
{
    return test_replaced(uri, real, test_fault_module(real, &fault));
}

static void setup(void)
{
    if (softhsm != NULL)
        return;
    test_softhsm_token("probe");
    char *plain = test_softhsm_uri("probe", "p", ""), *uri = through_fault(test_softhsm_module(), plain);
    softhsm = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(softhsm);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(token(), make_key, &key, NULL), CHV_OK);
    free(uri);
    free(plain);
}

/* One probe, without the way back from a lost token. */
static enum chv_err probe(const char **way, struct chv_why *why)
{
    struct chv_p11_session *s = NULL;
    why->text[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token(), &s, why), CHV_OK);
    enum chv_err err = chv_token_probe(s, key, "deriving", way, why);
    s->rv = CKR_OK; /* nothing is lost but by order */
    chv_p11_session_give(s);
    return err;
}

/* From now, calls by that mechanism get that answer. */
static void arm(const char *call, CK_MECHANISM_TYPE with, CK_RV rv)
{
    test_fault_arm_call(fault, 1, rv);
    fault->times = 1000000;
    fault->only = call;
    fault->with = with;
}

static unsigned count_objects(void);

/* ---- the list of mechanisms ---- */

/* what is said when asked for the number, and with the list */
static const CK_ULONG counts[][2] = {{CK_UNAVAILABLE_INFORMATION, 1}, {4097, 1}, {1, 2}}, (*said)[2];
static bool asked; /* for the list */

static CK_RV count_mechanisms(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *n)
{
    (void)slot;
    asked = list != NULL;
    *n = (*said)[asked];
    return CKR_OK;
}

/* Numbers that cannot be right are not believed: no list is made or read by them. */
static void test_mechanism_counts(void)
{
    setup();
    for (said = counts; said < counts + COUNT(counts); said++) {
        struct chv_why why = {""};
        struct chv_p11_session *s = NULL;
        CU_ASSERT_EQUAL_FATAL(chv_p11_session_take(token(), &s, &why), CHV_OK);
        CK_FUNCTION_LIST *real = s->fn, bent = *real;
        bent.C_GetMechanismList = count_mechanisms;
        s->fn = &bent;
        CU_ASSERT_EQUAL(chv_token_probe(s, key, "deriving", NULL, &why), CHV_ERR_CRYPTO);
        s->fn = real;
        s->rv = CKR_OK;
        chv_p11_session_give(s);
        CU_ASSERT_EQUAL(asked, (*said)[0] == 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "impossible number of mechanisms"));
    }
}

/* ---- on SoftHSM ---- */

static void test_pass(void)
{
    struct chv_why why = {""};
    const char *way = "left";
    setup();
    unsigned before = count_objects();
    CU_ASSERT_EQUAL(probe(&way, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(why.text, "");
    CU_ASSERT_PTR_NULL(way);
    CU_ASSERT_EQUAL(probe(NULL, &why), CHV_OK);
    CU_ASSERT_EQUAL(count_objects(), before);
}

static void check_granted(const struct way *granted, const char *call)
{
    struct chv_why why = {""};
    const char *way = NULL;
    char *says = test_format("key 'deriving' is refused for derive mechanisms: %s with %s gives", call, granted->name);
    unsigned before = count_objects();
    fault->grant = granted->type;
    CU_ASSERT_EQUAL(probe(&way, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    CU_ASSERT(way != NULL && strcmp(way, granted->name) == 0);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(count_objects(), before);
    free(says);
}

/* Every mechanism by itself is enough to refuse the key. */
static void test_granted(void)
{
    setup();
    for (size_t i = 0; i < COUNT(derive_ways); i++)
        check_granted(&derive_ways[i], "C_DeriveKey");
    for (size_t i = 0; i < COUNT(wrap_ways); i++)
        check_granted(&wrap_ways[i], "C_WrapKey");
    check_granted(&(struct way){CKM_AES_KEY_WRAP_PAD, "CKM_AES_KEY_WRAP_PAD"}, "C_WrapKey");
    check_granted(&(struct way){CKM_RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"}, "C_WrapKey");
}

/* Even if the token only makes a key of it that is as protected as it was. */
static void test_granted_protected(void)
{
    struct chv_why why = {""};
    setup();
    arm("C_DeriveKey", CKM_XOR_BASE_AND_DATA, CKR_TEMPLATE_INCONSISTENT);
    fault->times = 1; /* the readable one only */
    fault->grant = CKM_XOR_BASE_AND_DATA;
    CU_ASSERT_EQUAL(probe(NULL, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKM_XOR_BASE_AND_DATA"));
    CU_ASSERT_EQUAL(fault->fired, 1);
    test_fault_disarm(fault);
}

static void check_answer(const char *call, const struct way *way, const struct answer *answer)
{
    struct chv_why why = {""};
    const char *leak = "left";
    arm(call, way->type, answer->rv);
    CU_ASSERT_NOT_EQUAL(probe(&leak, &why), CHV_OK);
    CU_ASSERT_PTR_NULL(leak);
    CU_ASSERT(fault->fired > 0);
    char *says = test_format("%s with %s: %s (0x%lx)", call, way->name, answer->name, answer->rv);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "nothing shows that key 'deriving' stays in the token"));
    if (strstr(why.text, says) == NULL)
        (void)fprintf(stderr, "%s: %s\n", says, why.text);
    free(says);
    test_fault_disarm(fault);
}

/* No answer, and no clear one, is no refusal. */
static void test_no_refusal(void)
{
    struct chv_why why = {""};
    setup();
    for (size_t i = 0; i < COUNT(answers); i++) {
        for (size_t j = 0; j < COUNT(derive_ways); j++)
            check_answer("C_DeriveKey", &derive_ways[j], &answers[i]);
        check_answer("C_WrapKey", &wrap_ways[0], &answers[i]);
    }
    check_answer("C_WrapKey", &wrap_ways[1], &answers[0]);
    CU_ASSERT_EQUAL(probe(NULL, &why), CHV_OK);
}

static void test_refusals(void)
{
    static const struct {
        const char *call;
        CK_RV rv;
    } cases[] = {
        {"C_DeriveKey", CKR_MECHANISM_INVALID},     {"C_DeriveKey", CKR_KEY_FUNCTION_NOT_PERMITTED},
        {"C_DeriveKey", CKR_KEY_TYPE_INCONSISTENT}, {"C_DeriveKey", CKR_FUNCTION_NOT_SUPPORTED},
        {"C_DeriveKey", CKR_ACTION_PROHIBITED},     {"C_DeriveKey", CKR_KEY_UNEXTRACTABLE},
        {"C_WrapKey", CKR_MECHANISM_INVALID},       {"C_WrapKey", CKR_KEY_FUNCTION_NOT_PERMITTED},
        {"C_WrapKey", CKR_KEY_TYPE_INCONSISTENT},   {"C_WrapKey", CKR_FUNCTION_NOT_SUPPORTED},
        {"C_WrapKey", CKR_ACTION_PROHIBITED},       {"C_WrapKey", CKR_KEY_UNEXTRACTABLE},
        {"C_WrapKey", CKR_KEY_NOT_WRAPPABLE},
    };
    struct chv_why why = {""};
    setup();
    for (size_t i = 0; i < COUNT(cases); i++) {
        arm(cases[i].call, 0, cases[i].rv);
        CU_ASSERT_EQUAL(probe(NULL, &why), CHV_OK);
        CU_ASSERT(fault->fired > 1);
        test_fault_disarm(fault);
    }
}

/* What the probe needs beside: a key to wrap by, and to know what the token has. */
static void test_tools_fail(void)
{
    static const char *const calls[] = {"C_GenerateKey", "C_GenerateKeyPair", "C_GetSessionInfo", "C_GetMechanismInfo"};
    setup();
    for (size_t i = 0; i < COUNT(calls); i++)
        for (size_t j = 0; j < 2; j++) {
            struct chv_why why = {""};
            arm(calls[i], 0, j == 0 ? CKR_DEVICE_ERROR : CKR_MECHANISM_INVALID);
            CU_ASSERT_NOT_EQUAL(probe(NULL, &why), CHV_OK);
            CU_ASSERT_PTR_NOT_NULL(strstr(why.text, calls[i]));
            CU_ASSERT_PTR_NOT_NULL(strstr(why.text, j == 0 ? "CKR_DEVICE_ERROR" : "CKR_MECHANISM_INVALID"));
            test_fault_disarm(fault);
        }
}

/* Which ways there are to wrap is what the token says; one that says none of those known here is not believed. */
static void test_ways_to_wrap(void)
{
    static const struct way ways[] = {{CKM_AES_ECB, "CKM_AES_ECB"},
                                      {CKM_AES_CBC, "CKM_AES_CBC"},
                                      {CKM_AES_CBC_PAD, "CKM_AES_CBC_PAD"},
                                      {CKM_AES_KEY_WRAP, "CKM_AES_KEY_WRAP"},
                                      {CKM_RSA_PKCS, "CKM_RSA_PKCS"}};
    struct chv_why why = {""};
    setup();
    for (size_t i = 0; i < COUNT(ways); i++) {
        fault->wrap_only = ways[i].type;
        check_granted(&ways[i], "C_WrapKey");
    }
    fault->wrap_only = CKM_DES3_CBC;
    CU_ASSERT_EQUAL(probe(NULL, &why), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "wraps keys by mechanisms that are not known here (0x133)"));
    test_fault_disarm(fault);
    fault->wrap_only = 0x7777; /* none that it has: a token that wraps nothing */
    test_fault_arm_call(fault, 1, CKR_DEVICE_ERROR);
    fault->only = "C_WrapKey";
    CU_ASSERT_EQUAL(probe(NULL, &why), CHV_OK);
    CU_ASSERT_EQUAL(fault->fired, 0);
    test_fault_disarm(fault);
}

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

static unsigned count_objects(void)
{
    unsigned n = 0;
    CU_ASSERT_EQUAL(chv_p11_token_run(token(), count_session, &n, NULL), CHV_OK);
    return n;
}

/* ---- session copies ---- */

static void test_copy_softhsm(void)
{
    struct chv_why why = {""};
    setup();
    unsigned before = count_objects();
    CU_ASSERT_EQUAL(chv_token_copy_trial(token(), &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(why.text, "");
    /* a token that lets a protected key be opened, or copied to an open one */
    static const char *const calls[] = {"C_SetAttributeValue", "C_CopyObject"};
    for (size_t i = 0; i < COUNT(calls); i++) {
        test_fault_arm_call(fault, i == 0 ? 1 : 2, CKR_OK); /* the first copy is the one that is wanted */
        fault->only = calls[i];
        CU_ASSERT_EQUAL(chv_token_copy_trial(token(), &why), CHV_ERR_KEY);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, calls[i]));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKA_SENSITIVE"));
        test_fault_disarm(fault);
    }
    /* one that gives it out once it derives, one that copies nothing */
    fault->grant = CKM_EXTRACT_KEY_FROM_KEY;
    CU_ASSERT_EQUAL(chv_token_copy_trial(token(), &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKM_EXTRACT_KEY_FROM_KEY"));
    test_fault_disarm(fault);
    arm("C_CopyObject", 0, CKR_FUNCTION_NOT_SUPPORTED);
    CU_ASSERT_EQUAL(chv_token_copy_trial(token(), &why), CHV_ERR_UNSUPPORTED);
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(count_objects(), before);
}

/* Every change and every copy, tried or not: a token that had no room, or memory, has refused nothing. */
static void test_copy_no_refusal(void)
{
    static const struct {
        const char *call;
        unsigned long first, last;
    } tries[] = {{"C_SetAttributeValue", 1, 8}, {"C_CopyObject", 2, 8}};
    static const CK_RV no_refusals[] = {CKR_HOST_MEMORY, CKR_DEVICE_MEMORY, CKR_ARGUMENTS_BAD};
    struct chv_why why = {""};
    setup();
    for (size_t i = 0; i < COUNT(tries); i++)
        for (unsigned long n = tries[i].first; n <= tries[i].last; n++)
            for (size_t k = 0; k < COUNT(no_refusals); k++) {
                test_fault_arm_call(fault, n, no_refusals[k]);
                fault->only = tries[i].call;
                CU_ASSERT_NOT_EQUAL(chv_token_copy_trial(token(), &why), CHV_OK);
                CU_ASSERT_EQUAL(fault->fired, 1);
                CU_ASSERT_PTR_NOT_NULL(strstr(why.text, chv_p11_rv_name(no_refusals[k])));
                CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "nothing shows"));
                test_fault_disarm(fault);
            }
    /* a copy that may derive stands the probe, too: each way twice for it, and twice for the key */
    fault->only = "C_DeriveKey";
    fault->calls = 0;
    CU_ASSERT_EQUAL(chv_token_copy_trial(token(), &why), CHV_OK);
    CU_ASSERT_EQUAL(fault->calls, 4 * COUNT(derive_ways));
    test_fault_disarm(fault);
}

static char told[1024];
static unsigned told_times;

static void hear(const char *text)
{
    (void)snprintf(told, sizeof told, "%s", text);
    told_times++;
}

/* A key that cannot be copied serves itself, and the log is told once. */
static void test_copy_told(void)
{
    uint8_t out[CHV_SECRET_LEN];
    setup();
    char *direct = test_softhsm_uri("probe", "told", ""), *plain = through_fault(test_softhsm_module(), direct);
    char *uri = test_format("%s&chaveiro-session-copy=yes", plain);
    struct chv_keystore *ks = test_open(plain, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "a", known, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "b", known, NULL), CHV_OK);
    chv_keystore_close(ks);
    chv_p11_observe(hear);
    ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "a", known, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "a", known, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "b", known, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(told_times, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(told, "chaveiro-session-copy=yes: no session copy of key 'a'"));
    CU_ASSERT_PTR_NOT_NULL(strstr(told, "C_CopyObject: CKR_"));
    /* one that was made for it is copied, and nothing is told */
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "c", NULL), CHV_OK);
    chv_keystore_close(ks);
    told_times = 0;
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    unsigned before = count_objects();
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "c", known, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(told_times, 0);
    CU_ASSERT_EQUAL(count_objects(), before + 1);
    chv_keystore_close(ks);
    chv_p11_observe(NULL);
    free(uri);
    free(plain);
    free(direct);
}

static void test_close(void)
{
    chv_keystore_close(softhsm);
    softhsm = NULL;
}

/* ---- on NSS, through chv_keystore_* ---- */

static const char *const rungs[] = {"hkdf", "sp800-108"};

/* A keystore's URI in NSS behind the fault module; NULL if NSS is not there. */
static char *nss_uri(const char *object, const char *rung)
{
    if (test_nss_module() == NULL) {
        CU_ASSERT(test_may_leave_out("libnss3"));
        return NULL;
    }
    char *query = rung != NULL ? test_format("&chaveiro-derive=%s", rung) : test_format("%s", "");
    char *plain = test_nss_uri(object, query), *uri = through_fault(test_nss_module(), plain);
    free(plain);
    free(query);
    return uri;
}

static enum chv_err try_open(const char *uri, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct test_secret secret = {.text = TEST_PIN};
    struct chv_keystore *ks = NULL;
    why->text[0] = '\0';
    enum chv_err err = chv_keystore_open(uri, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, why);
    chv_keystore_close(ks);
    return err;
}

static void stock(const char *uri)
{
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_import(ks, "given", known, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_generate(ks, "made", NULL), CHV_OK);
    chv_keystore_close(ks);
}

/* derive and derive2 of "given", which every keystore here has, and of OpenSSL. */
static void check_bytes(const char *uri)
{
    static const size_t lengths[] = {0, 1, 31, 32, 64, 500, CHV_INFO_MAX};
    static const uint8_t info2[] = "the second step";
    uint8_t info[CHV_INFO_MAX] = {1, 2, 3}, theirs[32], ours[32], twice[32];
    struct chv_crypto crypto = {0};
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, known, 32, info, lengths[i], ours, 32), CHV_OK);
        CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, ours, 32, info2, sizeof info2, twice, 32), CHV_OK);
        CU_ASSERT_EQUAL(chv_keystore_derive(ks, "given", info, lengths[i], theirs, NULL), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(ours, theirs, 32), 0);
        CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "given", info, lengths[i], info2, sizeof info2, theirs, NULL), CHV_OK);
        CU_ASSERT_EQUAL(memcmp(twice, theirs, 32), 0);
    }
    chv_backend_close(&crypto);
    chv_keystore_close(ks);
}

/* All rungs give the same: HMAC on both tokens, the other two where the key stays inside. */
static void test_rungs(void)
{
    char *plain = test_softhsm_uri("probe", "hmac", "");
    stock(plain);
    check_bytes(plain);
    free(plain);
    char *uri = nss_uri("hmac", NULL);
    if (uri == NULL)
        return;
    stock(uri);
    check_bytes(uri);
    free(uri);
    fault->sealed = true;
    for (size_t i = 0; i < COUNT(rungs); i++) {
        uri = nss_uri(rungs[i], rungs[i]);
        fault->calls = 0;
        fault->only = "C_DeriveKey";
        stock(uri);
        check_bytes(uri);
        CU_ASSERT(fault->calls > 0); /* by that mechanism indeed */
        test_fault_disarm(fault);
        free(uri);
    }
    fault->sealed = false;
}

/* The token keeps the key no more: the keystore does not open, so nothing is derived. */
static void check_open_refused(const char *uri, const struct way *way, const char *call)
{
    struct chv_why why = {""};
    fault->grant = way->type;
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_KEY);
    char *says = test_format("is refused for derive mechanisms: %s with %s gives", call, way->name);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    free(says);
    test_fault_disarm(fault);
    arm(call, way->type, CKR_HOST_MEMORY);
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_MEMORY);
    says = test_format("%s with %s: CKR_HOST_MEMORY", call, way->name);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    free(says);
    test_fault_disarm(fault);
}

static void test_open_refused(void)
{
    struct chv_why why = {""};
    char *uri = nss_uri(rungs[0], rungs[0]);
    if (uri == NULL)
        return;
    fault->sealed = true;
    for (size_t i = 0; i < COUNT(derive_ways); i++)
        check_open_refused(uri, &derive_ways[i], "C_DeriveKey");
    for (size_t i = 0; i < COUNT(wrap_ways); i++)
        check_open_refused(uri, &wrap_ways[i], "C_WrapKey");
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_OK);
    /* a broken token, for as long as it is broken */
    arm("C_DeriveKey", CKM_CONCATENATE_BASE_AND_DATA, CKR_DEVICE_ERROR);
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "C_DeriveKey with CKM_CONCATENATE_BASE_AND_DATA: CKR_DEVICE_ERROR"));
    test_fault_disarm(fault);
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_OK);
    /* NSS as it is */
    fault->sealed = false;
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_KEY);
    free(uri);
}

/* A key that only signs is none for a rung above, and the other way round. */
static void test_wrong_rung(void)
{
    struct chv_why why = {""};
    char *uri = nss_uri("hmac", rungs[1]);
    if (uri == NULL)
        return;
    fault->sealed = true;
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "its CKA_DERIVE is false and must be true"));
    free(uri);
    uri = nss_uri(rungs[1], NULL);
    CU_ASSERT_EQUAL(try_open(uri, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "its CKA_DERIVE is true and must be false"));
    free(uri);
    fault->sealed = false;
}

/* It wraps a key that is not extractable. */
static void test_copy_nss(void)
{
    struct chv_why why = {""};
    char *uri = nss_uri("copy", NULL);
    if (uri == NULL)
        return;
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_NOT_EQUAL(chv_token_copy_trial(((struct chv_token_store *)ks)->token, &why), CHV_OK);
    CU_ASSERT_STRING_NOT_EQUAL(why.text, "");
    (void)fprintf(stderr, "NSS: %s\n", why.text);
    chv_keystore_close(ks);
    free(uri);
}

TEST_MAIN("keystore: token, probe", {"a token that refuses", test_pass}, {"each way alone", test_granted},
          {"a protected result", test_granted_protected}, {"no refusal", test_no_refusal}, {"refusals", test_refusals},
          {"ways to wrap", test_ways_to_wrap}, {"numbers of mechanisms", test_mechanism_counts},
          {"what the probe needs", test_tools_fail}, {"session copies on SoftHSM", test_copy_softhsm},
          {"no refusal of a copy", test_copy_no_refusal}, {"no session copy", test_copy_told}, {"close", test_close},
          {"session copies on NSS", test_copy_nss}, {"rungs derive the same", test_rungs},
          {"refused at open", test_open_refused}, {"another rung's key", test_wrong_rung})
