/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend "pkcs11" when things go wrong: configurations, sessions and logins lost, the module restarted, the token
 * gone and back, every Cryptoki call failing in turn.  No crash, no wrong answer, no object left, service back.
 */
#include "tests/harness.h"
#include "tests/support/tokens.h"

#include "p11/module.h"
#include "p11/object.h"

#include <chaveiro/backend.h>

#include <stdio.h>
#include <string.h>

enum { LEN = 1000 };

static char *uri;
static struct chv_crypto crypto, software;
static const uint8_t key[CHV_KEY_LEN] = {3, 1, 4};
static const uint8_t other_key[CHV_KEY_LEN] = {2, 7, 1};
static const uint8_t nonce[CHV_AEAD_NONCE_LEN] = {1, 5, 9};
static const uint8_t ad[] = "with it";

/* ---- a module whose calls fail on demand ---- */

static struct chv_p11_module *module;
static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST wrapped;
static unsigned long calls, fail_at;
static bool for_ever, lie, fired;
static CK_RV answer;

static bool hit(void)
{
    calls++;
    bool now = fail_at != 0 && (calls == fail_at || (for_ever && calls > fail_at));
    fired = fired || now;
    return now;
}

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void __lsan_disable(void) __attribute__((weak, visibility("default")));
void __lsan_enable(void) __attribute__((weak, visibility("default")));
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* SoftHSM loses memory, above all at each C_DeriveKey: LeakSanitizer, if it is there, looks for ours. */
static void enter_module(void)
{
    if (__lsan_disable != NULL)
        __lsan_disable();
}

static CK_RV leave_module(CK_RV rv)
{
    if (__lsan_enable != NULL)
        __lsan_enable();
    return rv;
}

#define REAL(name, names) (enter_module(), leave_module(real->name names))

/* `lie`: the call is made and says a length that is one too short. */
#define FAULT(name, types, names)                                                                                      \
    static CK_RV fault_##name types                                                                                    \
    {                                                                                                                  \
        return hit() && !lie ? answer : REAL(name, names);                                                             \
    }
#define FAULT_LEN(name, types, names)                                                                                  \
    static CK_RV fault_##name types                                                                                    \
    {                                                                                                                  \
        bool now = hit();                                                                                              \
        if (now && !lie)                                                                                               \
            return answer;                                                                                             \
        CK_RV rv = REAL(name, names);                                                                                  \
        if (now && *len > 0)                                                                                           \
            --*len;                                                                                                    \
        return rv;                                                                                                     \
    }
typedef CK_SESSION_HANDLE S;
typedef CK_OBJECT_HANDLE O;
/* NOLINTBEGIN(bugprone-macro-parentheses) */
FAULT(C_OpenSession, (CK_SLOT_ID slot, CK_FLAGS f, void *a, CK_NOTIFY n, S *s), (slot, f, a, n, s))
FAULT(C_GetSessionInfo, (S s, CK_SESSION_INFO *info), (s, info))
FAULT(C_Login, (S s, CK_USER_TYPE user, CK_BYTE_PTR pin, CK_ULONG len), (s, user, pin, len))
FAULT(C_CreateObject, (S s, CK_ATTRIBUTE *t, CK_ULONG n, O *o), (s, t, n, o))
FAULT(C_GenerateRandom, (S s, CK_BYTE_PTR out, CK_ULONG len), (s, out, len))
FAULT(C_GenerateKeyPair,
      (S s, CK_MECHANISM *m, CK_ATTRIBUTE *a, CK_ULONG an, CK_ATTRIBUTE *b, CK_ULONG bn, O *pub, O *priv),
      (s, m, a, an, b, bn, pub, priv))
FAULT(C_DeriveKey, (S s, CK_MECHANISM *m, O base, CK_ATTRIBUTE *t, CK_ULONG n, O *o), (s, m, base, t, n, o))
FAULT(C_DigestInit, (S s, CK_MECHANISM *m), (s, m))
FAULT(C_DigestUpdate, (S s, CK_BYTE_PTR in, CK_ULONG n), (s, in, n))
FAULT_LEN(C_DigestFinal, (S s, CK_BYTE_PTR out, CK_ULONG *len), (s, out, len))
FAULT(C_SignInit, (S s, CK_MECHANISM *m, O o), (s, m, o))
FAULT(C_SignUpdate, (S s, CK_BYTE_PTR in, CK_ULONG n), (s, in, n))
FAULT_LEN(C_SignFinal, (S s, CK_BYTE_PTR out, CK_ULONG *len), (s, out, len))
FAULT(C_EncryptInit, (S s, CK_MECHANISM *m, O o), (s, m, o))
FAULT_LEN(C_Encrypt, (S s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG *len), (s, in, n, out, len))
FAULT(C_DecryptInit, (S s, CK_MECHANISM *m, O o), (s, m, o))
FAULT_LEN(C_Decrypt, (S s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG *len), (s, in, n, out, len))
/* NOLINTEND(bugprone-macro-parentheses) */

static CK_RV fault_C_GetAttributeValue(S s, O o, CK_ATTRIBUTE *t, CK_ULONG n)
{
    bool now = hit();
    if (now && !lie)
        return answer;
    CK_RV rv = REAL(C_GetAttributeValue, (s, o, t, n));
    if (now && rv == CKR_OK)
        t->ulValueLen--;
    return rv;
}

static CK_RV fault_C_Initialize(void *args)
{
    return REAL(C_Initialize, (args));
}

/* C_DestroyObject and C_CloseSession work: what they leave behind, nobody could take away. */
static enum chv_err wrap_module(struct chv_why *why)
{
    enum chv_err err = chv_p11_module_load(test_softhsm_module(), NULL, &module, why);
    if (err != CHV_OK)
        return err;
    real = module->fn;
    wrapped = *real;
#define PUT(name) wrapped.name = fault_##name
    PUT(C_OpenSession), PUT(C_GetSessionInfo), PUT(C_Login), PUT(C_CreateObject), PUT(C_GenerateRandom);
    PUT(C_GenerateKeyPair), PUT(C_DeriveKey), PUT(C_DigestInit), PUT(C_DigestUpdate), PUT(C_DigestFinal);
    PUT(C_SignInit), PUT(C_SignUpdate), PUT(C_SignFinal), PUT(C_EncryptInit), PUT(C_Encrypt), PUT(C_DecryptInit);
    PUT(C_Decrypt), PUT(C_GetAttributeValue), PUT(C_Initialize);
    module->fn = &wrapped;
    return CHV_OK;
}

static void arm(unsigned long n, CK_RV rv, bool ever, bool wrong_length)
{
    calls = 0;
    fired = false;
    fail_at = n;
    answer = rv;
    for_ever = ever;
    lie = wrong_length;
}

/* ---- helpers ---- */

static struct chv_p11_token *open_token(const char *text)
{
    struct chv_p11_uri parsed;
    struct chv_p11_token *token = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(text, &parsed, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&parsed, &token, NULL), CHV_OK);
    chv_p11_uri_free(&parsed);
    return token;
}

static enum chv_err count_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_HANDLE some[1];
    return chv_p11_find(s, NULL, 0, some, 1, arg, why);
}

static size_t count_objects(void)
{
    size_t n = 1000;
    struct chv_p11_token *token = open_token(uri);
    CU_ASSERT_EQUAL(chv_p11_token_run(token, count_work, &n, NULL), CHV_OK);
    chv_p11_token_close(token);
    return n;
}

static void close_all_sessions(void)
{
    struct chv_p11_token_info info;
    struct chv_p11_token *token = open_token(uri);
    CU_ASSERT_EQUAL(chv_p11_token_info(token, &info, NULL), CHV_OK);
    CU_ASSERT_EQUAL(real->C_CloseAllSessions(info.slot), CKR_OK);
    chv_p11_token_close(token);
}

static bool filled(const uint8_t *buf, size_t len, uint8_t value)
{
    size_t i = 0;
    while (i < len && buf[i] == value)
        i++;
    return i == len;
}

/* Each call: OK with the answer that software gives, or an error and no output. */

static bool check_bytes(enum chv_err err, const uint8_t *got, const uint8_t *want, size_t len)
{
    CU_ASSERT_TRUE(err == CHV_OK ? memcmp(got, want, len) == 0 : filled(got, len, 0xa5));
    return err == CHV_OK;
}

static unsigned do_hashes(void)
{
    uint8_t got[CHV_HASH_MAX];
    uint8_t want[CHV_HASH_MAX];
    const struct chv_part parts[] = {{"one", 3}, {"two", 3}};
    unsigned good = 0;
    CU_ASSERT_EQUAL(chv_crypto_hash(&software, CHV_HASH_SHA256, parts, 2, want), CHV_OK);
    memset(got, 0xa5, sizeof got);
    good += check_bytes(chv_crypto_hash(&crypto, CHV_HASH_SHA256, parts, 2, got), got, want, 32);
    CU_ASSERT_EQUAL(chv_crypto_hmac(&software, CHV_HASH_SHA256, key, sizeof key, parts, 2, want), CHV_OK);
    memset(got, 0xa5, sizeof got);
    good += check_bytes(chv_crypto_hmac(&crypto, CHV_HASH_SHA256, key, sizeof key, parts, 2, got), got, want, 32);
    memset(got, 0xa5, sizeof got);
    enum chv_err err = chv_crypto_random(&crypto, got, 32);
    CU_ASSERT_TRUE((err == CHV_OK) != filled(got, 32, 0xa5));
    return good + (err == CHV_OK);
}

static unsigned do_dh(enum chv_curve curve)
{
    uint8_t mine[CHV_DH_PUBLIC_MAX];
    uint8_t theirs[CHV_DH_PUBLIC_MAX];
    uint8_t got[CHV_KEY_LEN];
    uint8_t want[CHV_KEY_LEN];
    struct chv_dh *a = NULL;
    struct chv_dh *b = NULL;
    bool good = false;
    memset(mine, 0xa5, sizeof mine);
    memset(got, 0xa5, sizeof got);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&software, curve, &b, theirs), CHV_OK);
    enum chv_err err = chv_crypto_dh_generate(&crypto, curve, &a, mine);
    CU_ASSERT_TRUE((err == CHV_OK) == (a != NULL));
    CU_ASSERT_TRUE(err == CHV_OK || filled(mine, sizeof mine, 0xa5));
    if (err == CHV_OK) {
        CU_ASSERT_EQUAL(chv_crypto_dh_derive(&software, b, mine, want), CHV_OK);
        err = chv_crypto_dh_derive(&crypto, a, theirs, got);
        CU_ASSERT_NOT_EQUAL(err, CHV_ERR_MALFORMED);
        good = check_bytes(err, got, want, sizeof want);
    }
    chv_crypto_dh_free(&crypto, a);
    chv_crypto_dh_free(&software, b);
    return good;
}

static unsigned do_open(struct chv_aead *a, const uint8_t *sealed, bool in_place)
{
    uint8_t plain[LEN];
    uint8_t buf[LEN + CHV_AEAD_TAG_LEN];
    uint8_t *out = in_place ? buf : plain;
    memset(plain, 0xa5, sizeof plain);
    memcpy(buf, sealed, sizeof buf);
    enum chv_err err = chv_crypto_aead_open(&crypto, a, nonce, ad, sizeof ad, buf, sizeof buf, out);
    CU_ASSERT_TRUE(filled(out, LEN, err == CHV_OK ? 0x5a : 0));
    return err == CHV_OK;
}

static unsigned do_aead(void)
{
    uint8_t want[LEN + CHV_AEAD_TAG_LEN];
    uint8_t buf[LEN + CHV_AEAD_TAG_LEN];
    struct chv_aead *a = NULL;
    struct chv_aead *b = NULL;
    unsigned good = 0;
    memset(buf, 0x5a, LEN);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&software, CHV_AEAD_AES256GCM, key, &b), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(&software, b, nonce, ad, sizeof ad, buf, LEN, want), CHV_OK);
    enum chv_err err = chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, other_key, &a);
    CU_ASSERT_TRUE((err == CHV_OK) == (a != NULL));
    if (err == CHV_OK) {
        good += chv_crypto_aead_rekey(&crypto, a, key) == CHV_OK;
        err = chv_crypto_aead_seal(&crypto, a, nonce, ad, sizeof ad, buf, LEN, buf);
        CU_ASSERT_TRUE(err != CHV_OK || memcmp(buf, want, sizeof buf) == 0);
        good += err == CHV_OK;
        good += do_open(a, want, true);
        good += do_open(a, want, false);
    }
    chv_crypto_aead_free(&crypto, a);
    chv_crypto_aead_free(&software, b);
    return good;
}

enum { ALL_GOOD = 9 };

static unsigned do_all(void)
{
    return do_hashes() + do_dh(CHV_CURVE_P256) + do_dh(CHV_CURVE_25519) + do_aead();
}

/* ---- tests ---- */

static void check_config(const char *spec, enum chv_err want, const char *text)
{
    struct chv_crypto c = {0};
    struct chv_why why = {{0}};
    CU_ASSERT_EQUAL(chv_backend_open(spec, &c, &why), want);
    CU_ASSERT_PTR_NULL(c.backend);
    if (strstr(why.text, text) == NULL)
        fprintf(stderr, "%s: '%s' is not in: %s\n", spec, text, why.text);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
}

static void test_config(void)
{
    char *other = test_softhsm_uri("T", "x", "");
    char *missing = test_softhsm_uri("U", "", "");
    char *no_pin = test_softhsm_uri("V", "", "&pin-source=file:/nonexistent/pin");
    char *pin = test_tokens_path("wrong");
    char *query = test_format("&pin-source=file:%s", pin);
    char *wrong_pin = test_softhsm_uri("V", "", query);
    test_write_private(pin, TEST_SO_PIN);
    check_config("pkcs11", CHV_ERR_CONFIG, "pkcs11:token=LABEL");
    check_config("pkcs11:", CHV_ERR_CONFIG, "names no token");
    check_config("pkcs11:token=T?pin-value=1234", CHV_ERR_CONFIG, "pin-value");
    check_config("pkcs11:token=T?module-path=/nonexistent/module.so", CHV_ERR_NOT_FOUND, "/nonexistent/module.so");
    check_config(other, CHV_ERR_CONFIG, "object=");
    check_config(missing, CHV_ERR_NOT_FOUND, "token");
    check_config(no_pin, CHV_ERR_NOT_FOUND, "/nonexistent/pin");
    check_config(wrong_pin, CHV_ERR_PASSPHRASE, "CKR_PIN_INCORRECT");
    free(other);
    free(missing);
    free(no_pin);
    free(wrong_pin);
    free(query);
    free(pin);
}

static void test_objects(void)
{
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t bad[CHV_DH_PUBLIC_MAX] = {4};
    uint8_t shared[CHV_KEY_LEN];
    uint8_t sealed[40] = {0};
    struct chv_dh *dh = NULL;
    struct chv_aead *aead = NULL;
    CU_ASSERT_EQUAL(count_objects(), 0);
    CU_ASSERT_EQUAL(do_all(), ALL_GOOD);
    CU_ASSERT_EQUAL(count_objects(), 0);
    /* one object for each key that is out, whatever was done with it, and none when it is freed */
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&crypto, CHV_CURVE_P256, &dh, public_key), CHV_OK);
    CU_ASSERT_EQUAL(count_objects(), 1);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, dh, public_key, shared), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, dh, bad, shared), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(count_objects(), 1);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, key, &aead), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_aead_rekey(&crypto, aead, other_key), CHV_OK);
    CU_ASSERT_EQUAL(count_objects(), 2);
    CU_ASSERT_EQUAL(chv_crypto_aead_open(&crypto, aead, nonce, NULL, 0, sealed, 40, sealed), CHV_ERR_AUTH);
    CU_ASSERT_EQUAL(count_objects(), 2);
    chv_crypto_aead_free(&crypto, aead);
    chv_crypto_dh_free(&crypto, dh);
    CU_ASSERT_EQUAL(count_objects(), 0);
}

/* Keys that were out when the token was lost are void: an error, never AUTH, never a wrong answer; new ones work. */
static void check_lost(void (*lose)(void))
{
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t shared[CHV_KEY_LEN];
    uint8_t buf[40];
    struct chv_dh *dh = NULL;
    struct chv_aead *aead = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(&crypto, CHV_CURVE_25519, &dh, public_key), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, key, &aead), CHV_OK);
    lose();
    memset(shared, 0xa5, sizeof shared);
    memset(buf, 0xa5, sizeof buf);
    enum chv_err err = chv_crypto_aead_open(&crypto, aead, nonce, NULL, 0, buf, sizeof buf, buf);
    CU_ASSERT_TRUE(err != CHV_OK && err != CHV_ERR_AUTH);
    CU_ASSERT_TRUE(filled(buf, 24, 0));
    CU_ASSERT_NOT_EQUAL(chv_crypto_aead_seal(&crypto, aead, nonce, NULL, 0, buf, 24, buf), CHV_OK);
    CU_ASSERT_NOT_EQUAL(chv_crypto_dh_derive(&crypto, dh, public_key, shared), CHV_OK);
    CU_ASSERT_TRUE(filled(shared, sizeof shared, 0xa5));
    struct chv_backend_health health;
    chv_crypto_health(&crypto, &health);
    CU_ASSERT_PTR_NOT_NULL(strstr(health.last, "token \"T\""));
    CU_ASSERT_EQUAL(do_all(), ALL_GOOD);
    /* an old key's end must not take a new key's object */
    CU_ASSERT_EQUAL(chv_crypto_aead_rekey(&crypto, aead, key), CHV_OK);
    CU_ASSERT_EQUAL(count_objects(), 1);
    chv_crypto_dh_free(&crypto, dh);
    CU_ASSERT_EQUAL(count_objects(), 1);
    CU_ASSERT_EQUAL(chv_crypto_aead_seal(&crypto, aead, nonce, NULL, 0, buf, 24, buf), CHV_OK);
    chv_crypto_aead_free(&crypto, aead);
    CU_ASSERT_EQUAL(count_objects(), 0);
}

static void restart_module(void)
{
    CU_ASSERT_EQUAL(chv_p11_module_restart(module, module->restarts, NULL), CHV_OK);
}

static void test_sessions_closed(void)
{
    check_lost(close_all_sessions);
}

static void test_restarted(void)
{
    check_lost(restart_module);
}

static void test_token_gone(void)
{
    char *away = test_tokens_path("away");
    (void)rename(test_softhsm_tokens(), away);
    (void)do_all();
    (void)rename(away, test_softhsm_tokens());
    unsigned good = do_all();
    module->restart_after = 0; /* a restart may be due, and must not be waited for here */
    CU_ASSERT_TRUE(good == ALL_GOOD || do_all() == ALL_GOOD);
    CU_ASSERT_EQUAL(count_objects(), 0);
    free(away);
}

/* CKR_GENERAL_ERROR is a wrong tag only where the token still works: a broken one is no forged record. */
static void test_broken_is_no_forgery(void)
{
    uint8_t buf[40] = {0};
    struct chv_aead *aead = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, key, &aead), CHV_OK);
    module->restart_after = 0;
    arm(2, CKR_GENERAL_ERROR, true, false); /* C_DecryptInit goes, C_Decrypt and all behind it fail */
    enum chv_err err = chv_crypto_aead_open(&crypto, aead, nonce, NULL, 0, buf, sizeof buf, buf);
    arm(0, CKR_OK, false, false);
    CU_ASSERT_TRUE(err != CHV_OK && err != CHV_ERR_AUTH);
    chv_crypto_aead_free(&crypto, aead);
    module->restart_after = 0;
    CU_ASSERT_EQUAL(do_all(), ALL_GOOD);
    CU_ASSERT_EQUAL(count_objects(), 0);
}

/* Every call fails in turn, once or from then on. */
static void check_faults(CK_RV rv, bool ever, bool wrong_length)
{
    for (unsigned long n = 1;; n++) {
        module->restart_after = 0;
        arm(n, rv, ever, wrong_length);
        unsigned good = do_all();
        bool over = !fired;
        arm(0, CKR_OK, false, false);
        if (over) {
            CU_ASSERT_EQUAL(good, ALL_GOOD);
            break;
        }
        CU_ASSERT_EQUAL(count_objects(), 0);
    }
    CU_ASSERT_EQUAL(do_all(), ALL_GOOD);
}

static void test_faults(void)
{
    static const CK_RV answers[] = {CKR_GENERAL_ERROR,      CKR_FUNCTION_FAILED,    CKR_HOST_MEMORY,
                                    CKR_DEVICE_REMOVED,     CKR_DEVICE_ERROR,       CKR_SESSION_HANDLE_INVALID,
                                    CKR_KEY_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN, CKR_OPERATION_NOT_INITIALIZED};
    size_t n = sizeof answers / sizeof answers[0];
#ifdef __SANITIZE_ADDRESS__
    n = 4; /* a sanitizer that takes whole stacks is a hundred times slower in the module */
#endif
    for (size_t i = 0; i < n; i++)
        check_faults(answers[i], false, false);
}

static void test_faults_for_ever(void)
{
    check_faults(CKR_GENERAL_ERROR, true, false);
    check_faults(CKR_DEVICE_REMOVED, true, false);
    check_faults(CKR_MECHANISM_INVALID, true, false);
}

static void test_wrong_lengths(void)
{
    check_faults(CKR_OK, false, true);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"configuration", test_config},
        {"objects", test_objects},
        {"sessions closed", test_sessions_closed},
        {"module restarted", test_restarted},
        {"a broken token is no forgery", test_broken_is_no_forgery},
        {"faults", test_faults},
        {"faults that stay", test_faults_for_ever},
        {"wrong lengths", test_wrong_lengths},
        {"token gone and back", test_token_gone},
    };
    struct chv_why why = {{0}};
    test_softhsm_token("T");
    test_softhsm_token("V"); /* nobody logs in to it */
    char *pin = test_tokens_path("pin");
    char *query = test_format("&pin-source=file:%s", pin);
    test_write_private(pin, TEST_PIN);
    uri = test_softhsm_uri("T", "", query);
    int result = EXIT_FAILURE;
    if (wrap_module(&why) == CHV_OK && chv_backend_open("openssl", &software, &why) == CHV_OK &&
        chv_backend_open(uri, &crypto, &why) == CHV_OK)
        result = test_main("backend pkcs11, lost tokens", cases, sizeof cases / sizeof cases[0]);
    else
        fprintf(stderr, "pkcs11_lost: %s\n", why.text);
    chv_backend_close(&crypto);
    chv_backend_close(&software);
    if (module != NULL)
        module->fn = real;
    chv_p11_module_unload(module);
    free(uri);
    free(query);
    free(pin);
    return result;
}
