/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that are not what they should be, the rungs of derivation, and points that look like DER. */
#include "tests/keystore/support.h"
#include "tests/support/tokens.h"

#include <openssl/evp.h>

#include <stdio.h>
#include <string.h>

#include "keystore/token.h"

static const uint8_t secret[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";

static char *softhsm(const char *query)
{
    static bool made;
    if (!made)
        test_softhsm_token("keys");
    made = true;
    return test_softhsm_uri("keys", "k", query);
}

static struct chv_token_store *store(struct chv_keystore *ks)
{
    return (struct chv_token_store *)ks;
}

/* ---- attributes ---- */

/* A secret under our label as somebody else might make it: right but for one attribute. */
struct odd {
    char label[32];
    CK_ATTRIBUTE_TYPE type;
    bool value;
    bool pair; /* or a key pair, made for DERIVE */
};

static enum chv_err make_odd_secret(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct odd *odd = arg;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE object;
    char label[48];
    uint8_t value[32] = {1};
    (void)snprintf(label, sizeof label, "k:%s", odd->label);
    CK_ATTRIBUTE t[] = {
        {CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_LABEL, label, strlen(label)},
        {CKA_VALUE, value, sizeof value},  {CKA_TOKEN, &yes, sizeof yes},      {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &no, sizeof no},  {CKA_SIGN, &yes, sizeof yes},
        {CKA_VERIFY, &no, sizeof no},      {CKA_ENCRYPT, &no, sizeof no},      {CKA_DECRYPT, &no, sizeof no},
        {CKA_WRAP, &no, sizeof no},        {CKA_UNWRAP, &no, sizeof no},       {CKA_DERIVE, &no, sizeof no}};
    CK_ULONG n = sizeof t / sizeof t[0];
    for (CK_ULONG i = 4; i < n; i++)
        if (t[i].type == odd->type)
            t[i].pValue = odd->value ? &yes : &no;
    return chv_p11_call(s, C_CreateObject, t, n, &object) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static void test_secret_attributes(void)
{
    static const struct {
        const char *name;
        CK_ATTRIBUTE_TYPE type;
        bool wrong;
    } cases[] = {
        {"CKA_PRIVATE", CKA_PRIVATE, false},        {"CKA_SENSITIVE", CKA_SENSITIVE, false},
        {"CKA_EXTRACTABLE", CKA_EXTRACTABLE, true}, {"CKA_SIGN", CKA_SIGN, false},
        {"CKA_DERIVE", CKA_DERIVE, true},           {"CKA_WRAP", CKA_WRAP, true},
        {"CKA_UNWRAP", CKA_UNWRAP, true},           {"CKA_ENCRYPT", CKA_ENCRYPT, true},
        {"CKA_DECRYPT", CKA_DECRYPT, true},
    };
    char *uri = softhsm("");
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct odd odd = {.type = cases[i].type, .value = cases[i].wrong};
        struct chv_why why = {""};
        uint8_t out[32];
        (void)snprintf(odd.label, sizeof odd.label, "odd%zu", i);
        CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_odd_secret, &odd, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_keystore_derive(ks, odd.label, secret, 1, out, &why), CHV_ERR_KEY);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, odd.label));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].name));
        CU_ASSERT_EQUAL(chv_keystore_remove(ks, odd.label, NULL), CHV_OK);
    }
    /* and as it should be */
    struct odd good = {.label = "good", .type = CKA_SIGN, .value = true};
    uint8_t out[32];
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_odd_secret, &good, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "good", secret, 1, out, NULL), CHV_OK);
    /* two of one label: nobody knows which is ours */
    struct chv_why why = {""};
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_odd_secret, &good, NULL), CHV_OK);
    chv_keystore_close(ks);
    ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "good", secret, 1, out, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "several objects called 'k:good'"));
    chv_keystore_close(ks);
    free(uri);
}

/* A key pair by our own maker, then one attribute is changed under us. */
static enum chv_err set_flag(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct odd *odd = arg;
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_BBOOL value = odd->value ? CK_TRUE : CK_FALSE;
    CK_OBJECT_HANDLE object;
    size_t n = 0;
    char label[48];
    (void)snprintf(label, sizeof label, "k:%s", odd->label);
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, label, strlen(label)}};
    CK_ATTRIBUTE change = {odd->type, &value, sizeof value};
    enum chv_err err = chv_p11_find(s, match, 2, &object, 1, &n, why);
    if (err != CHV_OK || n != 1)
        return CHV_ERR_NOT_FOUND;
    return chv_p11_call(s, C_SetAttributeValue, object, &change, 1) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static void test_pair_attributes(void)
{
    struct chv_why why = {""};
    uint8_t point[CHV_DH_PUBLIC_MAX], out[CHV_SIGNATURE_MAX];
    size_t len;
    enum chv_curve curve;
    char *uri = softhsm("");
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "id", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "rc", CHV_USE_RECEIPT, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "id", &curve, point, NULL), CHV_OK);
    chv_keystore_close(ks);
    /* opened while all was well: they are looked at again before the first use */
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    struct odd unwrap = {.label = "id", .type = CKA_UNWRAP, .value = true};
    struct odd derives = {.label = "rc", .type = CKA_DERIVE, .value = true};
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, set_flag, &unwrap, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, set_flag, &derives, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "id", point, out, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'id' is refused: its CKA_UNWRAP is true"));
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "rc", point, 5, out, &len, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'rc' is refused: its CKA_DERIVE is true"));
    unwrap.value = derives.value = false;
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, set_flag, &unwrap, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, set_flag, &derives, &why), CHV_OK);
    chv_keystore_close(ks);
    free(uri);
}

/* ---- what our own maker writes, read back raw ---- */

static enum chv_err check_made(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        CK_BBOOL want;
    } wanted[] = {
        {CKA_TOKEN, CK_TRUE},
        {CKA_PRIVATE, CK_TRUE},
        {CKA_SENSITIVE, CK_TRUE},
        {CKA_EXTRACTABLE, CK_FALSE},
        {CKA_SIGN, CK_TRUE},
        {CKA_VERIFY, CK_FALSE},
        {CKA_ENCRYPT, CK_FALSE},
        {CKA_DECRYPT, CK_FALSE},
        {CKA_WRAP, CK_FALSE},
        {CKA_UNWRAP, CK_FALSE},
        {CKA_DERIVE, CK_FALSE},
        {CKA_MODIFIABLE, CK_FALSE},
        {CKA_LOCAL, CK_TRUE},
        {CKA_NEVER_EXTRACTABLE, CK_TRUE},
        {CKA_ALWAYS_SENSITIVE, CK_TRUE},
    };
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, arg, strlen(arg)}};
    CK_OBJECT_HANDLE object;
    CK_MECHANISM_TYPE allowed = 0;
    uint8_t value[64];
    size_t n = 0;
    enum chv_err err = chv_p11_find(s, match, 2, &object, 1, &n, why);
    CU_ASSERT(err == CHV_OK && n == 1);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        CK_BBOOL got = 2;
        size_t len = 1;
        CU_ASSERT_EQUAL(chv_p11_get(s, object, wanted[i].type, &got, &len, why), CHV_OK);
        CU_ASSERT_EQUAL(got, wanted[i].want);
    }
    n = sizeof allowed;
    CU_ASSERT_EQUAL(chv_p11_get(s, object, CKA_ALLOWED_MECHANISMS, &allowed, &n, why), CHV_OK);
    CU_ASSERT_EQUAL(allowed, CKM_SHA256_HMAC);
    n = sizeof value;
    CU_ASSERT_NOT_EQUAL(chv_p11_get(s, object, CKA_VALUE, value, &n, why), CHV_OK); /* it never comes out */
    s->rv = CKR_OK;
    return CHV_OK;
}

static void test_made(void)
{
    char *uri = softhsm(""), label[] = "k:made";
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "made", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, check_made, label, NULL), CHV_OK);
    chv_keystore_close(ks);
    free(uri);
}

/* ---- a token that does not take CKA_ALLOWED_MECHANISMS, or seems not to ---- */

/* Answers to the first calls that make a key; CKR_OK: the token's own.  And one to C_DestroyObject. */
static struct {
    CK_RV answers[4], destroy;
    size_t calls;
    CK_FUNCTION_LIST *real;
} script;

static CK_RV next_answer(void)
{
    return script.calls < sizeof script.answers / sizeof script.answers[0] ? script.answers[script.calls++] : CKR_OK;
}

static CK_RV scripted_generate(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *key)
{
    CK_RV rv = next_answer();
    return rv != CKR_OK ? rv : script.real->C_GenerateKey(s, m, t, n, key);
}

static CK_RV scripted_create(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *object)
{
    CK_RV rv = next_answer();
    return rv != CKR_OK ? rv : script.real->C_CreateObject(s, t, n, object);
}

/* One answer, once. */
static CK_RV scripted_destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object)
{
    CK_RV rv = script.destroy;
    script.destroy = CKR_OK;
    return rv != CKR_OK ? rv : script.real->C_DestroyObject(s, object);
}

struct limit_case {
    CK_RV answers[4], destroy;
    size_t calls;
    bool made, limited;
    unsigned left; /* objects of the label */
};

static void check_limit(struct chv_p11_session *s, const struct limit_case *c, const uint8_t *value)
{
    char label[] = "limits";
    const struct chv_p11_secret wanted = {.label = label, .value = value, .value_len = sizeof secret, .token = true};
    CK_ATTRIBUTE match[] = {{CKA_LABEL, label, strlen(label)}};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE, found[4];
    CK_MECHANISM_TYPE allowed = 0;
    size_t n = 0, len = sizeof allowed;
    CK_FUNCTION_LIST bent = *s->fn;
    script.real = s->fn;
    script.calls = 0;
    script.destroy = c->destroy;
    memcpy(script.answers, c->answers, sizeof script.answers);
    bent.C_GenerateKey = scripted_generate;
    bent.C_CreateObject = scripted_create;
    bent.C_DestroyObject = scripted_destroy;
    s->fn = &bent;
    enum chv_err err = chv_p11_secret_make(s, &wanted, &key, NULL);
    s->fn = script.real;
    CU_ASSERT_EQUAL(err == CHV_OK, c->made);
    CU_ASSERT_EQUAL(script.calls, c->calls);
    CU_ASSERT_EQUAL(chv_p11_find(s, match, 1, found, 4, &n, NULL), CHV_OK);
    CU_ASSERT_EQUAL(n, c->left);
    if (err == CHV_OK && chv_p11_get(s, key, CKA_ALLOWED_MECHANISMS, &allowed, &len, NULL) == CHV_OK)
        CU_ASSERT_EQUAL(c->limited, len == sizeof allowed && allowed == CKM_SHA256_HMAC);
    CU_ASSERT(!c->limited || allowed == CKM_SHA256_HMAC);
    for (size_t i = 0; i < n && i < 4; i++)
        CU_ASSERT_EQUAL(chv_p11_call(s, C_DestroyObject, found[i]), CKR_OK);
}

static enum chv_err check_limits(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    static const struct limit_case cases[] = {
        {{CKR_OK}, CKR_OK, 1, true, true, 1},
        /* one fault that was over at once takes nothing from the key */
        {{CKR_GENERAL_ERROR}, CKR_OK, 3, true, true, 1},
        /* refused while the token works: so it does not take it */
        {{CKR_GENERAL_ERROR, CKR_OK, CKR_GENERAL_ERROR}, CKR_OK, 3, true, false, 1},
        {{CKR_GENERAL_ERROR, CKR_OK, CKR_ATTRIBUTE_TYPE_INVALID}, CKR_OK, 3, true, false, 1},
        /* an answer that leaves no doubt */
        {{CKR_ATTRIBUTE_TYPE_INVALID}, CKR_OK, 2, true, false, 1},
        /* a token that is out of order makes nothing, and nothing is left */
        {{CKR_GENERAL_ERROR, CKR_GENERAL_ERROR}, CKR_OK, 2, false, false, 0},
        {{CKR_GENERAL_ERROR, CKR_OK, CKR_DEVICE_MEMORY}, CKR_OK, 3, false, false, 0},
        {{CKR_DEVICE_MEMORY}, CKR_OK, 1, false, false, 0},
        /* the lesser key does not go: the error is told, and the other one goes */
        {{CKR_GENERAL_ERROR}, CKR_ACTION_PROHIBITED, 3, false, false, 1},
    };
    (void)arg;
    (void)why;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_limit(s, &cases[i], NULL);
        check_limit(s, &cases[i], secret);
    }
    s->rv = CKR_OK;
    return CHV_OK;
}

static void test_limits(void)
{
    char *uri = softhsm("");
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, check_limits, NULL, NULL), CHV_OK);
    chv_keystore_close(ks);
    free(uri);
}

/* ---- public halves ---- */

static enum chv_err check_half(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_BBOOL private = 2;
    size_t n = 0, len = sizeof private;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, arg, strlen(arg)}};
    CU_ASSERT(chv_p11_find(s, match, 2, &object, 1, &n, why) == CHV_OK && n == 1);
    CU_ASSERT_EQUAL(chv_p11_get(s, object, CKA_PRIVATE, &private, &len, why), CHV_OK);
    CU_ASSERT_EQUAL(private, CK_FALSE);
    return CHV_OK;
}

/* A public half that is made to be private, which is not the token's to keep. */
static enum chv_err check_ignored(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    static uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}; /* RFC 5480, 2.1.1.1 */
    CK_MECHANISM generate = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, private = 2;
    CK_OBJECT_HANDLE pub = CK_INVALID_HANDLE, priv = CK_INVALID_HANDLE;
    size_t len = sizeof private;
    CK_ATTRIBUTE pub_t[] = {{CKA_TOKEN, &yes, sizeof yes},
                            {CKA_PRIVATE, &yes, sizeof yes},
                            {CKA_EC_PARAMS, p256, sizeof p256},
                            {CKA_LABEL, arg, strlen(arg)}};
    CK_ATTRIBUTE priv_t[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_PRIVATE, &yes, sizeof yes}};
    CU_ASSERT_EQUAL(chv_p11_call(s, C_GenerateKeyPair, &generate, pub_t, 4, priv_t, 2, &pub, &priv), CKR_OK);
    CU_ASSERT_EQUAL(chv_p11_get(s, pub, CKA_PRIVATE, &private, &len, why), CHV_OK);
    CU_ASSERT_EQUAL(private, CK_FALSE);
    CU_ASSERT_EQUAL(chv_p11_call(s, C_DestroyObject, pub), CKR_OK);
    CU_ASSERT_EQUAL(chv_p11_call(s, C_DestroyObject, priv), CKR_OK);
    return CHV_OK;
}

/* They are not private, as doc/tokens.md says, and for its reason: NSS would not keep it. */
static void test_public_halves(void)
{
    char pair[] = "k:half", stranger[] = "stranger";
    char *uris[] = {softhsm(""), test_nss_module() != NULL ? test_nss_uri("k", "") : NULL};
    for (size_t i = 0; i < 2 && uris[i] != NULL; i++) {
        struct chv_keystore *ks = test_open(uris[i], CHV_KEYSTORE_WRITE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "half", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, check_half, pair, NULL), CHV_OK);
        if (i == 1)
            CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, check_ignored, stranger, NULL), CHV_OK);
        chv_keystore_close(ks);
        free(uris[i]);
    }
    CU_ASSERT(uris[1] != NULL || test_may_leave_out("libnss3"));
}

/* ---- rungs ---- */

struct rung_job {
    CK_OBJECT_HANDLE key;
    enum chv_token_rung rung;
    size_t info_len;
    uint8_t out[32];
};

static enum chv_err make_deriving(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    const struct chv_p11_secret made = {.value = secret, .value_len = sizeof secret, .derive = true};
    return chv_p11_secret_make(s, &made, &((struct rung_job *)arg)->key, why);
}

/* NSS derives readable bytes from readable keys only. */
static enum chv_err make_readable(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    uint8_t value[CHV_SECRET_LEN];
    memcpy(value, secret, sizeof value);
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type},
                        {CKA_VALUE, value, sizeof value},  {CKA_TOKEN, &no, sizeof no},
                        {CKA_SENSITIVE, &no, sizeof no},   {CKA_EXTRACTABLE, &yes, sizeof yes},
                        {CKA_SIGN, &yes, sizeof yes},      {CKA_DERIVE, &yes, sizeof yes}};
    struct rung_job *job = arg;
    return chv_p11_call(s, C_CreateObject, t, sizeof t / sizeof t[0], &job->key) == CKR_OK
               ? CHV_OK
               : chv_p11_session_fail(s, why);
}

static enum chv_err expand(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    static const uint8_t info[CHV_INFO_MAX] = {1, 2, 3};
    struct rung_job *job = arg;
    return chv_token_expand(s, job->key, job->rung, info, job->info_len, job->out, why);
}

static enum chv_err probe(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    return chv_token_probe(s, ((struct rung_job *)arg)->key, "deriving", NULL, why);
}

/* NSS has all three, and gives a key that may derive to whoever asks: a test token. */
static void test_rungs_nss(void)
{
    if (test_nss_module() == NULL) {
        CU_ASSERT(test_may_leave_out("libnss3"));
        return;
    }
    struct chv_why why = {""};
    struct rung_job job = {.key = 0};
    uint8_t hmac[32];
    char *uri = test_nss_uri("rungs", "");
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_readable, &job, &why), CHV_OK);
    static const size_t lengths[] = {0, 1, 31, 64, 500, CHV_INFO_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        job.info_len = lengths[i];
        job.rung = CHV_TOKEN_HMAC;
        CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, expand, &job, &why), CHV_OK);
        memcpy(hmac, job.out, 32);
        for (job.rung = CHV_TOKEN_HKDF; job.rung <= CHV_TOKEN_SP800_108; job.rung++) {
            why.text[0] = '\0';
            CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, expand, &job, &why), CHV_OK);
            CU_ASSERT_EQUAL(memcmp(hmac, job.out, 32), 0);
            if (why.text[0] != '\0')
                (void)fprintf(stderr, "rung %d, %zu bytes: %s\n", (int)job.rung, lengths[i], why.text);
        }
    }
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_deriving, &job, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, probe, &job, &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "gives its bytes out"));
    chv_keystore_close(ks);
    free(uri);
    /* so a keystore that is pinned to such a rung refuses to work there */
    uri = test_nss_uri("rungs2", "&chaveiro-derive=hkdf");
    ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "m", &why), CHV_ERR_KEY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "refused for derive mechanisms"));
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "m", secret, 1, hmac, &why), CHV_ERR_NOT_FOUND);
    chv_keystore_close(ks);
    free(uri);
}

static void test_rungs_softhsm(void)
{
    static const char *const rungs[][2] = {{"hkdf", "CKM_HKDF_DERIVE"}, {"sp800-108", "CKM_SP800_108_COUNTER_KDF"}};
    for (size_t i = 0; i < 2; i++) {
        struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
        struct chv_keystore *ks = NULL;
        struct chv_why why = {""};
        char *query = test_format("&chaveiro-derive=%s", rungs[i][0]), *uri = softhsm(query);
        CU_ASSERT_EQUAL(chv_keystore_open(uri, &options, &ks, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, rungs[i][1]));
        free(uri);
        free(query);
    }
}

/* ---- points that look like DER ---- */

/* A peer whose point begins 04 3f (P-256) or 04 1e (X25519): also the DER of an OCTET STRING. */
static void find_point(const struct chv_crypto *crypto, enum chv_curve curve, struct chv_dh **peer, uint8_t *point)
{
    size_t len = chv_dh_public_len(curve);
    for (;;) {
        CU_ASSERT_EQUAL_FATAL(chv_crypto_dh_generate(crypto, curve, peer, point), CHV_OK);
        if (point[1] == len - 2)
            return;
        chv_crypto_dh_free(crypto, *peer);
    }
}

static void check_point(const char *uri)
{
    struct chv_crypto crypto = {0};
    struct chv_dh *peer = NULL;
    uint8_t point[CHV_DH_PUBLIC_MAX], ours[CHV_DH_PUBLIC_MAX], a[32], b[32];
    enum chv_curve curve;
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    find_point(&crypto, CHV_CURVE_P256, &peer, point);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "der", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "der", &curve, ours, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "der", point, a, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, peer, ours, b), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(a, b, 32), 0);
    chv_crypto_dh_free(&crypto, peer);
    /* a point off the curve, and one of low order, are the peer's fault: nothing is restarted for them */
    point[40] ^= 1;
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "der", point, a, NULL), CHV_ERR_MALFORMED);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "x", CHV_USE_IDENTITY, CHV_CURVE_25519, NULL), CHV_OK);
    static const uint8_t low[][32] = {
        {0},
        {1}, /* RFC 7748, 6.1: orders 4 and 1, then 8 */
        {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
         0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
    };
    for (size_t i = 0; i < sizeof low / sizeof low[0]; i++)
        CU_ASSERT_EQUAL(chv_keystore_dh(ks, "x", low[i], a, NULL), CHV_ERR_MALFORMED);
    chv_backend_close(&crypto);
    chv_keystore_close(ks);
}

static void test_points(void)
{
    char *uri = softhsm("");
    check_point(uri);
    free(uri);
    if (test_nss_module() == NULL) {
        CU_ASSERT(test_may_leave_out("libnss3"));
        return;
    }
    uri = test_nss_uri("points", "");
    check_point(uri);
    free(uri);
}

TEST_MAIN("keystore: token, keys", {"attributes of secrets", test_secret_attributes},
          {"attributes of key pairs", test_pair_attributes}, {"attributes that we write", test_made},
          {"attributes that are not taken", test_limits}, {"public halves", test_public_halves},
          {"rungs on NSS", test_rungs_nss}, {"rungs on SoftHSM", test_rungs_softhsm},
          {"points that look like DER, bad points", test_points})
