/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a keystore in a token reads back the attributes of all its keys: one test per attribute, on SoftHSM. */
#include "tests/keystore/support.h"
#include "tests/support/pkcs11_fault.h"
#include "tests/support/tokens.h"

#include <stdio.h>
#include <string.h>

#include "keystore/token.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const uint8_t known[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";
static char *uri;

static struct chv_token_store *store(struct chv_keystore *ks)
{
    return (struct chv_token_store *)ks;
}

static struct chv_keystore *stocked(void)
{
    if (uri == NULL) {
        test_softhsm_token("open");
        uri = test_softhsm_uri("open", "o", "");
    }
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    return ks;
}

/* An object as keystores make it, but for one attribute. */
struct odd {
    CK_ATTRIBUTE_TYPE type;
    CK_BBOOL value;
    const char *label;
    enum { SECRET, IDENTITY, RECEIPT } kind;
    bool local; /* made in the token; `type` is set wrong at first and right then */
    CK_OBJECT_HANDLE object;
};

enum { ODD_MAX = 24 };

static CK_ULONG fill(const struct odd *odd, CK_ATTRIBUTE t[ODD_MAX])
{
    static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    static CK_OBJECT_CLASS classes[] = {CKO_SECRET_KEY, CKO_PRIVATE_KEY};
    static CK_KEY_TYPE types[] = {CKK_GENERIC_SECRET, CKK_EC};
    static uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}; /* RFC 5480, 2.1.1.1 */
    const bool pair = odd->kind != SECRET;
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool on, secrets, pairs;
    } flags[] = {
        {CKA_TOKEN, true, true, true},     {CKA_PRIVATE, true, true, true},
        {CKA_SENSITIVE, true, true, true}, {CKA_EXTRACTABLE, false, true, true},
        {CKA_VERIFY, false, true, false},  {CKA_SIGN, odd->kind != IDENTITY, true, true},
        {CKA_WRAP, false, true, false},    {CKA_DERIVE, odd->kind == IDENTITY, true, true},
        {CKA_UNWRAP, false, true, true},   {CKA_ENCRYPT, false, true, false},
        {CKA_DECRYPT, false, true, true},  {CKA_MODIFIABLE, true, true, true},
    };
    CK_ULONG n = 0;
    t[n++] = (CK_ATTRIBUTE){CKA_CLASS, &classes[pair], sizeof classes[0]};
    t[n++] = (CK_ATTRIBUTE){CKA_KEY_TYPE, &types[pair], sizeof types[0]};
    t[n++] = (CK_ATTRIBUTE){CKA_LABEL, (void *)(uintptr_t)odd->label, strlen(odd->label)};
    for (size_t i = 0; i < COUNT(flags); i++)
        if (pair ? flags[i].pairs : flags[i].secrets) {
            CK_BBOOL on = flags[i].type == odd->type ? odd->value : flags[i].on;
            t[n++] = (CK_ATTRIBUTE){flags[i].type, on ? &yes : &no, sizeof yes};
        }
    if (pair)
        t[n++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, p256, sizeof p256};
    return n;
}

static enum chv_err make_odd(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct odd *odd = arg;
    CK_ATTRIBUTE t[ODD_MAX];
    CK_ULONG n = fill(odd, t), length = CHV_SECRET_LEN;
    CK_MECHANISM generate = {CKM_GENERIC_SECRET_KEY_GEN, NULL, 0};
    CK_BBOOL right = odd->value ? CK_FALSE : CK_TRUE;
    CK_ATTRIBUTE change = {odd->type, &right, sizeof right};
    if (odd->local) {
        t[n++] = (CK_ATTRIBUTE){CKA_VALUE_LEN, &length, sizeof length};
        (void)chv_p11_call(s, C_GenerateKey, &generate, t, n, &odd->object);
        if (s->rv == CKR_OK)
            (void)chv_p11_call(s, C_SetAttributeValue, odd->object, &change, 1);
    } else {
        t[n++] = (CK_ATTRIBUTE){CKA_VALUE, (void *)(uintptr_t)known, sizeof known};
        (void)chv_p11_call(s, C_CreateObject, t, n, &odd->object);
    }
    return s->rv == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static enum chv_err remove_odd(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct odd *odd = arg;
    return chv_p11_call(s, C_DestroyObject, odd->object) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static enum chv_err try_open(const char *which, enum chv_keystore_mode mode, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = mode};
    struct test_secret secret = {.text = TEST_PIN};
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_keystore_open(which, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, why);
    chv_keystore_close(ks);
    return err;
}

/* With that object in the token the keystore does not open, and says why; without it, it does. */
static void check_refused(struct chv_keystore *ks, struct odd *odd, const char *says)
{
    struct chv_why why = {""};
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_odd, odd, &why), CHV_OK);
    for (int mode = CHV_KEYSTORE_READ; mode <= CHV_KEYSTORE_WRITE; mode++) {
        why.text[0] = '\0';
        CU_ASSERT_EQUAL(try_open(uri, (enum chv_keystore_mode)mode, &why), CHV_ERR_KEY);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "key 'odd' is refused: "));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
        if (strstr(why.text, says) == NULL)
            (void)fprintf(stderr, "%s: %s\n", says, why.text);
    }
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, remove_odd, odd, NULL), CHV_OK);
    CU_ASSERT_EQUAL(try_open(uri, CHV_KEYSTORE_READ, NULL), CHV_OK);
}

#define CASE(what, name, wrong, word)                                                                                  \
    {                                                                                                                  \
        {.type = (name), .value = (wrong), .label = "o:odd", .kind = (what)}, "its " #name " is " word " and must be " \
    }

static void test_attributes(void)
{
    static const struct {
        struct odd odd;
        const char *says;
    } cases[] = {
        CASE(SECRET, CKA_PRIVATE, CK_FALSE, "false"),     CASE(SECRET, CKA_SENSITIVE, CK_FALSE, "false"),
        CASE(SECRET, CKA_EXTRACTABLE, CK_TRUE, "true"),   CASE(SECRET, CKA_SIGN, CK_FALSE, "false"),
        CASE(SECRET, CKA_VERIFY, CK_TRUE, "true"),        CASE(SECRET, CKA_DERIVE, CK_TRUE, "true"),
        CASE(SECRET, CKA_WRAP, CK_TRUE, "true"),          CASE(SECRET, CKA_UNWRAP, CK_TRUE, "true"),
        CASE(SECRET, CKA_ENCRYPT, CK_TRUE, "true"),       CASE(SECRET, CKA_DECRYPT, CK_TRUE, "true"),
        CASE(IDENTITY, CKA_PRIVATE, CK_FALSE, "false"),   CASE(IDENTITY, CKA_SENSITIVE, CK_FALSE, "false"),
        CASE(IDENTITY, CKA_EXTRACTABLE, CK_TRUE, "true"), CASE(IDENTITY, CKA_DERIVE, CK_FALSE, "false"),
        CASE(IDENTITY, CKA_UNWRAP, CK_TRUE, "true"),      CASE(IDENTITY, CKA_DECRYPT, CK_TRUE, "true"),
        CASE(RECEIPT, CKA_PRIVATE, CK_FALSE, "false"),    CASE(RECEIPT, CKA_SENSITIVE, CK_FALSE, "false"),
        CASE(RECEIPT, CKA_EXTRACTABLE, CK_TRUE, "true"),  CASE(RECEIPT, CKA_DERIVE, CK_TRUE, "true"),
        CASE(RECEIPT, CKA_UNWRAP, CK_TRUE, "true"),       CASE(RECEIPT, CKA_DECRYPT, CK_TRUE, "true"),
    };
    struct chv_keystore *ks = stocked();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct odd odd = cases[i].odd;
        check_refused(ks, &odd, cases[i].says);
    }
    chv_keystore_close(ks);
}

/* Made in the token, and readable for a while. */
static void test_never_extractable(void)
{
    struct odd odd = {.type = CKA_EXTRACTABLE, .value = CK_TRUE, .label = "o:odd", .local = true};
    struct chv_keystore *ks = stocked();
    check_refused(ks, &odd, "its CKA_NEVER_EXTRACTABLE is false");
    chv_keystore_close(ks);
}

/* An attribute that is no flag: its bytes take the place of the flag's in the template. */
struct other {
    struct odd odd;
    CK_ATTRIBUTE attribute;
};

static enum chv_err make_other(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct other *other = arg;
    CK_ATTRIBUTE t[ODD_MAX];
    CK_ULONG n = fill(&other->odd, t), i = 0;
    t[n++] = (CK_ATTRIBUTE){CKA_VALUE, (void *)(uintptr_t)known, sizeof known};
    while (i < n && t[i].type != other->attribute.type)
        i++;
    t[i] = other->attribute;
    n += i == n;
    return chv_p11_call(s, C_CreateObject, t, n, &other->odd.object) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static void check_other(CK_ATTRIBUTE_TYPE on, CK_ATTRIBUTE attribute, const char *says)
{
    struct other other = {.odd = {.type = on, .value = CK_TRUE, .label = "o:odd"}, .attribute = attribute};
    struct chv_why why = {""};
    struct chv_keystore *ks = stocked();
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_other, &other, &why), CHV_OK);
    CU_ASSERT_EQUAL(try_open(uri, CHV_KEYSTORE_READ, &why), says != NULL ? CHV_ERR_KEY : CHV_OK);
    if (says != NULL)
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, remove_odd, &other.odd, NULL), CHV_OK);
    chv_keystore_close(ks);
}

static void test_allowed_mechanisms(void)
{
    CK_MECHANISM_TYPE ours[] = {CKM_SHA256_HMAC}, more[] = {CKM_SHA256_HMAC, CKM_SHA512_HMAC}, many[17];
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = CKM_SHA256_HMAC;
    many[0] = CKM_SHA512_HMAC;
    check_other(CKA_SIGN, (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, ours, sizeof ours}, NULL);
    check_other(CKA_SIGN, (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, more, sizeof more},
                "'odd' is refused: its CKA_ALLOWED_MECHANISMS has CKM_SHA512_HMAC");
    check_other(CKA_SIGN, (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, many, sizeof many},
                "'odd' is refused: its CKA_ALLOWED_MECHANISMS has ");
}

static void test_key_type(void)
{
    CK_KEY_TYPE aes = CKK_AES, hmac = CKK_SHA256_HMAC;
    check_other(CKA_SIGN, (CK_ATTRIBUTE){CKA_KEY_TYPE, &aes, sizeof aes}, "'odd' is refused: its type is 0x1f");
    /* as a TPM's tool makes it */
    check_other(CKA_VERIFY, (CK_ATTRIBUTE){CKA_KEY_TYPE, &hmac, sizeof hmac}, NULL);
    check_other(CKA_DERIVE, (CK_ATTRIBUTE){CKA_KEY_TYPE, &hmac, sizeof hmac},
                "'odd' is refused: its CKA_DERIVE is true");
}

/* ---- attributes that the token does not give, or gives without a byte ---- */

static void check_ungiven(struct chv_fault *fault, const char *through, CK_ATTRIBUTE_TYPE type, const char *name)
{
    static const struct {
        enum chv_fault_mode mode;
        CK_RV rv;
    } ways[] = {{CHV_FAULT_BEFORE, CKR_ATTRIBUTE_TYPE_INVALID}, {CHV_FAULT_SHORT, CKR_OK}};
    char *says = test_format("key 'odd' is refused: the token does not give its %s", name);
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct chv_why why = {""};
        test_fault_arm_call(fault, 1, ways[i].rv);
        fault->times = 1000;
        fault->mode = ways[i].mode;
        fault->only = "C_GetAttributeValue";
        fault->attribute = type;
        CU_ASSERT_EQUAL(try_open(through, CHV_KEYSTORE_READ, &why), CHV_ERR_KEY);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, says));
        CU_ASSERT(fault->fired > 0);
        test_fault_disarm(fault);
        CU_ASSERT_EQUAL(try_open(through, CHV_KEYSTORE_READ, NULL), CHV_OK);
    }
    free(says);
}

static void test_ungiven(void)
{
    struct chv_fault *fault = NULL;
    struct chv_keystore *ks = stocked();
    chv_keystore_close(ks);
    const char *real = test_softhsm_module();
    char *plain = test_softhsm_uri("open", "ungiven", "");
    char *through = test_replaced(plain, real, test_fault_module(real, &fault));
    for (int pair = 0; pair < 2; pair++) {
        ks = test_open(through, CHV_KEYSTORE_WRITE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        CU_ASSERT_EQUAL(pair ? chv_keystore_generate_identity(ks, "odd", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL)
                             : chv_keystore_generate(ks, "odd", NULL),
                        CHV_OK);
        chv_keystore_close(ks);
        check_ungiven(fault, through, CKA_EXTRACTABLE, "CKA_EXTRACTABLE");
        check_ungiven(fault, through, CKA_SENSITIVE, "CKA_SENSITIVE");
        ks = test_open(through, CHV_KEYSTORE_WRITE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        CU_ASSERT_EQUAL(chv_keystore_remove(ks, "odd", NULL), CHV_OK);
        chv_keystore_close(ks);
    }
    free(through);
    free(plain);
}

/* Another keystore's keys in the same token, and keys of nobody, are not ours to judge. */
static void test_strangers(void)
{
    static const char *const labels[] = {"other:odd", "odd", "o", "o:", "oo:odd"};
    struct chv_keystore *ks = stocked();
    for (size_t i = 0; i < COUNT(labels); i++) {
        struct odd odd = {.type = CKA_EXTRACTABLE, .value = CK_TRUE, .label = labels[i]};
        CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(store(ks)->token, make_odd, &odd, NULL), CHV_OK);
        CU_ASSERT_EQUAL(try_open(uri, CHV_KEYSTORE_READ, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, remove_odd, &odd, NULL), CHV_OK);
    }
    chv_keystore_close(ks);
}

/* ---- a secret that was given to the token does not come back ---- */

static enum chv_err read_value(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE match[] = {
        {CKA_TOKEN, &yes, sizeof yes}, {CKA_CLASS, &class, sizeof class}, {CKA_LABEL, arg, strlen(arg)}};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    size_t n = 0;
    uint8_t value[64] = {0}, zeros[64] = {0};
    enum chv_err err = chv_p11_find(s, match, COUNT(match), &object, 1, &n, why);
    CU_ASSERT(err == CHV_OK && n == 1);
    CK_ATTRIBUTE wanted = {CKA_VALUE, value, sizeof value};
    CU_ASSERT_EQUAL(s->fn->C_GetAttributeValue(s->handle, object, &wanted, 1), CKR_ATTRIBUTE_SENSITIVE);
    CU_ASSERT_EQUAL(wanted.ulValueLen, CK_UNAVAILABLE_INFORMATION);
    CU_ASSERT_EQUAL(memcmp(value, zeros, sizeof value), 0);
    return CHV_OK;
}

static void check_value(const char *keystore)
{
    uint8_t out[CHV_SECRET_LEN];
    char label[] = "v:given";
    struct chv_keystore *ks = test_open(keystore, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "given", known, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "given", known, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_p11_token_run(store(ks)->token, read_value, label, NULL), CHV_OK);
    chv_keystore_close(ks);
}

static void test_value_softhsm(void)
{
    chv_keystore_close(stocked());
    char *keystore = test_softhsm_uri("open", "v", "");
    check_value(keystore);
    free(keystore);
}

static void test_value_nss(void)
{
    if (test_nss_module() == NULL) {
        CU_ASSERT(test_may_leave_out("libnss3"));
        return;
    }
    char *keystore = test_nss_uri("v", "");
    check_value(keystore);
    free(keystore);
}

static void test_end(void)
{
    free(uri);
    uri = NULL;
}

TEST_MAIN("keystore: token, opening", {"attributes of keys", test_attributes},
          {"readable once", test_never_extractable}, {"allowed mechanisms", test_allowed_mechanisms},
          {"a key of another type", test_key_type}, {"attributes not given", test_ungiven},
          {"strangers' keys", test_strangers}, {"an imported value, SoftHSM", test_value_softhsm},
          {"an imported value, NSS", test_value_nss}, {"end", test_end})
