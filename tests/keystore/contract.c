/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of include/chaveiro/keystore.h: the same cases over every kind of keystore. */
#include "tests/keystore/support.h"
#include "tests/support/tokens.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a kind cannot do, or does in its own way (doc/tokens.md). */
enum {
    NO_DATA = 1,    /* the token keeps no data objects */
    NO_COMMIT = 2,  /* changes are durable at once */
    EXISTS_LATE = 4 /* whether there is one already shows at unlock, and a new one asks for the PIN that there is */
};

/* A kind: its name and a URI under which nothing exists yet, freed by the caller. */
struct kind {
    const char *name;
    const char *scheme;
    char *(*fresh_uri)(void);
    unsigned ways;
};
static const struct kind *kind; /* the one that runs */

static char *fresh_file(void)
{
    char *path = test_fresh_path();
    size_t size = strlen(path) + sizeof "file:";
    char *uri = malloc(size);
    (void)snprintf(uri, size, "file:%s", path);
    free(path);
    return uri;
}

static char *fresh_softhsm(void)
{
    static unsigned count;
    char name[16];
    if (count == 0)
        test_softhsm_token("contract");
    (void)snprintf(name, sizeof name, "ks%u", ++count);
    return test_softhsm_uri("contract", name, "");
}

static char *fresh_softhsm_copy(void)
{
    char *uri = fresh_softhsm(), *out = test_format("%s&chaveiro-session-copy=yes", uri);
    free(uri);
    return out;
}

static char *fresh_nss(void)
{
    static unsigned count;
    char name[16];
    (void)snprintf(name, sizeof name, "ks%u", ++count);
    return test_nss_uri(name, "");
}

static const struct kind kinds[] = {
    {"file", "file", fresh_file, 0},
    {"softhsm", "pkcs11", fresh_softhsm, NO_COMMIT | EXISTS_LATE},
    {"softhsm, session copy", "pkcs11", fresh_softhsm_copy, NO_COMMIT | EXISTS_LATE},
    {"nss", "pkcs11", fresh_nss, NO_DATA | NO_COMMIT | EXISTS_LATE},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* A token that is not installed is told once and left out. */
static bool installed(const struct kind *k)
{
    static unsigned told;
    unsigned bit = 1U << (unsigned)(k - kinds);
    bool here = k->fresh_uri == fresh_file || (k->fresh_uri == fresh_nss ? test_nss_module() : test_softhsm_module());
    if (!here && (told & bit) == 0)
        CU_ASSERT(test_may_leave_out(k->name));
    told |= bit;
    return here;
}

static void each_kind(void (*run)(const char *uri))
{
    for (kind = kinds; kind < kinds + KIND_COUNT; kind++) {
        if (!installed(kind))
            continue;
        char *uri = kind->fresh_uri();
        run(uri);
        free(uri);
    }
}

static const uint8_t secret[CHV_SECRET_LEN] = "a secret of thirty-two bytes ...";

/* HKDF-Expand of somebody else: RFC 5869, 2.3 by OpenSSL's EVP_KDF. */
static void expand(const uint8_t prk[32], const char *info, uint8_t out[32])
{
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char digest[] = "SHA256", info_copy[64]; /* OSSL_PARAM takes no const */
    uint8_t key[32];
    memcpy(key, prk, sizeof key);
    (void)snprintf(info_copy, sizeof info_copy, "%s", info);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info_copy, strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    CU_ASSERT_EQUAL(EVP_KDF_derive(ctx, out, 32, params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

#define BYTES(text) (const uint8_t *)(text), strlen(text)

static void commit_and_close(struct chv_keystore *ks)
{
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
}

static void derive_one(const char *uri)
{
    uint8_t want[32], middle[32], got[32];
    struct chv_why why = {""};
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "master:1", secret, NULL), CHV_OK);
    commit_and_close(ks);

    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    expand(secret, "first info", want);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:1", BYTES("first info"), got, NULL), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(got, want, 32), 0);
    memcpy(middle, want, 32);
    expand(middle, "second", want);
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "master:1", BYTES("first info"), BYTES("second"), got, NULL), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(got, want, 32), 0);
    expand(secret, "", want);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:1", NULL, 0, got, NULL), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(got, want, 32), 0);

    static uint8_t longest[CHV_INFO_MAX + 1];
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:1", longest, CHV_INFO_MAX, got, NULL), CHV_OK);
    memset(got, 7, sizeof got);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:1", longest, CHV_INFO_MAX + 1, got, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "1281 bytes"));
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "master:1", longest, CHV_INFO_MAX + 1, longest, 1, got, NULL),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "master:1", longest, 1, longest, CHV_INFO_MAX + 1, got, NULL),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "master:2", longest, 1, got, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "master:2"));
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "master:2", longest, 1, longest, 1, got, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(got[0], 7); /* outputs are set on success only */
    chv_keystore_close(ks);
}

static void test_derive(void)
{
    each_kind(derive_one);
}

static void generate_one(const char *uri)
{
    uint8_t a[32], b[32], again[32];
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "a", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "b", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "a", NULL), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "a", secret, NULL), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "a", BYTES("x"), a, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "b", BYTES("x"), b, NULL), CHV_OK);
    CU_ASSERT_NOT_EQUAL(memcmp(a, b, 32), 0);
    commit_and_close(ks);
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "a", BYTES("x"), again, NULL), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(a, again, 32), 0);
    chv_keystore_close(ks);
}

static void test_generate(void)
{
    each_kind(generate_one);
}

struct listing {
    char text[512];
    size_t stop_after;
    size_t count;
};

static enum chv_err note_key(void *arg, const struct chv_key_info *info)
{
    struct listing *l = arg;
    size_t n = strlen(l->text);
    (void)snprintf(l->text + n, sizeof l->text - n, "%s/%d/%d ", info->label, (int)info->use,
                   info->use == CHV_USE_SECRET ? 0 : (int)info->curve);
    return ++l->count == l->stop_after ? CHV_ERR_CANCELLED : CHV_OK;
}

static void list_one(const char *uri)
{
    struct listing all = {.stop_after = 0}, some = {.stop_after = 2};
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "master:2", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "access:1.1", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_RECEIPT, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_25519, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "master:1", NULL), CHV_OK);
    if ((kind->ways & NO_DATA) == 0)
        CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "server", BYTES("s"), NULL), CHV_OK);
    commit_and_close(ks);
    ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_list(ks, note_key, &all, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(all.text, "access:1.1/0/0 identity/1/0 master:1/0/0 master:2/0/0 receipt/2/1 ");
    CU_ASSERT_EQUAL(chv_keystore_list(ks, note_key, &some, NULL), CHV_ERR_CANCELLED);
    CU_ASSERT_STRING_EQUAL(some.text, "access:1.1/0/0 identity/1/0 ");

    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "master:1", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "identity", NULL), CHV_OK);
    if ((kind->ways & NO_DATA) == 0)
        CU_ASSERT_EQUAL(chv_keystore_remove(ks, "server", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "server", NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "master:1", NULL), CHV_ERR_NOT_FOUND);
    commit_and_close(ks);
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    all = (struct listing){.stop_after = 0};
    CU_ASSERT_EQUAL(chv_keystore_list(ks, note_key, &all, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(all.text, "access:1.1/0/0 master:2/0/0 receipt/2/1 ");
    chv_keystore_close(ks);
}

static void test_list_and_remove(void)
{
    each_kind(list_one);
}

static void data_one(const char *uri)
{
    static uint8_t big[CHV_KEYSTORE_DATA_MAX + 1], got[CHV_KEYSTORE_DATA_MAX];
    size_t len = sizeof got;
    memset(big, 0xa5, sizeof big);
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    if ((kind->ways & NO_DATA) != 0) {
        struct chv_why why = {""};
        CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "big", big, 1, &why), CHV_ERR_UNSUPPORTED);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keeps no data objects"));
        chv_keystore_close(ks);
        return;
    }
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "big", big, CHV_KEYSTORE_DATA_MAX, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "big2", big, CHV_KEYSTORE_DATA_MAX + 1, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "empty", NULL, 0, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "server", BYTES("old"), NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "server", BYTES("cellar"), NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "key", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "key", BYTES("x"), NULL), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "server", NULL), CHV_ERR_EXISTS);
    commit_and_close(ks);

    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "big", got, &len, NULL), CHV_OK);
    CU_ASSERT(len == CHV_KEYSTORE_DATA_MAX && memcmp(got, big, len) == 0);
    len = sizeof got;
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "empty", got, &len, NULL), CHV_OK);
    CU_ASSERT_EQUAL(len, 0);
    len = 6;
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "server", got, &len, NULL), CHV_OK);
    CU_ASSERT(len == 6 && memcmp(got, "cellar", 6) == 0);
    len = 5;
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "server", got, &len, NULL), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(len, 5);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "nothing", got, &len, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "key", got, &len, NULL), CHV_ERR_NOT_FOUND);
    chv_keystore_close(ks);
}

static void test_data(void)
{
    each_kind(data_one);
}

/* Both sides of a DH, one in the keystore, one by the backend. */
static void check_dh(struct chv_keystore *ks, const char *label, enum chv_curve want_curve)
{
    struct chv_crypto crypto = {0};
    struct chv_dh *peer = NULL;
    enum chv_curve curve;
    uint8_t ours[CHV_DH_PUBLIC_MAX], theirs[CHV_DH_PUBLIC_MAX], a[32], b[32];
    static const uint8_t zeros[CHV_DH_PUBLIC_MAX];
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_generate(&crypto, want_curve, &peer, theirs), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, label, &curve, ours, NULL), CHV_OK);
    CU_ASSERT_EQUAL(curve, want_curve);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, label, theirs, a, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_dh_derive(&crypto, peer, ours, b), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(a, b, 32), 0);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, label, zeros, a, NULL), CHV_ERR_MALFORMED);
    chv_crypto_dh_free(&crypto, peer);
    chv_backend_close(&crypto);
}

static EVP_PKEY *public_p256(const uint8_t point[65])
{
    char group[] = "P-256";
    uint8_t copy[65];
    EVP_PKEY *pkey = NULL;
    memcpy(copy, point, sizeof copy);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, copy, sizeof copy),
        OSSL_PARAM_construct_end(),
    };
    CU_ASSERT_EQUAL(EVP_PKEY_fromdata_init(ctx), 1);
    CU_ASSERT_EQUAL(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static int verify(const uint8_t point[65], const char *message, const uint8_t *sig, size_t sig_len)
{
    EVP_PKEY *pkey = public_p256(point);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int ok = EVP_DigestVerifyInit_ex(md, NULL, "SHA256", NULL, NULL, pkey, NULL) == 1 &&
             EVP_DigestVerify(md, sig, sig_len, (const uint8_t *)message, strlen(message)) == 1;
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    return ok;
}

static void check_sign(struct chv_keystore *ks)
{
    uint8_t sig[CHV_SIGNATURE_MAX], point[CHV_DH_PUBLIC_MAX];
    size_t len = 0;
    enum chv_curve curve;
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "receipt", &curve, point, NULL), CHV_OK);
    CU_ASSERT_EQUAL(curve, CHV_CURVE_P256);
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "receipt", BYTES("got it"), sig, &len, NULL), CHV_OK);
    CU_ASSERT(verify(point, "got it", sig, len));
    CU_ASSERT(!verify(point, "got IT", sig, len));
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "receipt", NULL, 0, sig, &len, NULL), CHV_OK);
    CU_ASSERT(verify(point, "", sig, len));
}

static void identity_one(const char *uri)
{
    uint8_t sig[CHV_SIGNATURE_MAX], out[CHV_DH_PUBLIC_MAX];
    size_t len = 99;
    enum chv_curve curve;
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "x", CHV_USE_IDENTITY, CHV_CURVE_25519, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "x", CHV_USE_IDENTITY, CHV_CURVE_25519, NULL), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "p", CHV_USE_IDENTITY, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "receipt", CHV_USE_RECEIPT, CHV_CURVE_P256, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "r", CHV_USE_RECEIPT, CHV_CURVE_25519, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "r", CHV_USE_SECRET, CHV_CURVE_P256, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "secret", NULL), CHV_OK);
    check_dh(ks, "x", CHV_CURVE_25519);
    commit_and_close(ks);

    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    check_dh(ks, "x", CHV_CURVE_25519);
    check_dh(ks, "p", CHV_CURVE_P256);
    check_sign(ks);
    /* a key does what it was made for and nothing else */
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "p", BYTES("m"), sig, &len, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "secret", BYTES("m"), sig, &len, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(len, 99);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "p", &curve, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "receipt", out, sig, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "secret", out, sig, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "x", NULL, sig, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "x", BYTES("m"), sig, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "x", BYTES("m"), BYTES("m"), sig, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "secret", &curve, out, NULL), CHV_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "nobody", &curve, out, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "nobody", out, sig, NULL), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "nobody", BYTES("m"), sig, &len, NULL), CHV_ERR_NOT_FOUND);
    chv_keystore_close(ks);
}

static void test_identity(void)
{
    each_kind(identity_one);
}

static void labels_one(const char *uri)
{
    static const char *const bad[] = {"", " ", "a b", "a/b", "a\n", "\xc3\xa9", "a,b", "a%b"};
    char longest[CHV_LABEL_MAX + 2];
    struct chv_why why = {""};
    uint8_t out[CHV_SIGNATURE_MAX];
    size_t len = sizeof out;
    enum chv_curve curve;
    struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    memset(longest, 'z', sizeof longest);
    longest[CHV_LABEL_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, longest, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "[A-Za-z0-9._:@-]"));
    longest[CHV_LABEL_MAX] = '\0';
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, longest, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "Az09._:@-", NULL), CHV_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(chv_keystore_generate(ks, bad[i], NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_import(ks, bad[i], secret, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_data_put(ks, bad[i], secret, 1, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_data_get(ks, bad[i], out, &len, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_remove(ks, bad[i], NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_derive(ks, bad[i], secret, 1, out, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_derive2(ks, bad[i], secret, 1, secret, 1, out, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, bad[i], CHV_USE_IDENTITY, CHV_CURVE_25519, NULL),
                        CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_public_key(ks, bad[i], &curve, out, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_dh(ks, bad[i], secret, out, NULL), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_keystore_sign(ks, bad[i], secret, 1, out, &len, NULL), CHV_ERR_ARGUMENT);
    }
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, NULL, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "n", NULL, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_list(ks, NULL, NULL, NULL), CHV_ERR_ARGUMENT);
    chv_keystore_close(ks);
}

static void test_labels(void)
{
    each_kind(labels_one);
}

/* Every call that reads or changes; the error that all must give. */
static void all_refuse(struct chv_keystore *ks, enum chv_err reads, enum chv_err changes)
{
    uint8_t out[CHV_SIGNATURE_MAX] = {0};
    size_t len = sizeof out;
    struct listing l = {.stop_after = 0};
    enum chv_curve curve;
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "n", NULL), changes);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "n", secret, NULL), changes);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "a", NULL), changes);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "n", secret, 1, NULL), changes);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "n", CHV_USE_IDENTITY, CHV_CURVE_25519, NULL), changes);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), changes);
    if (reads == CHV_OK)
        return;
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "a", secret, 1, out, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "a", secret, 1, secret, 1, out, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_data_get(ks, "d", out, &len, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_list(ks, note_key, &l, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, "i", &curve, out, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_dh(ks, "i", secret, out, NULL), reads);
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, "r", secret, 1, out, &len, NULL), reads);
}

static void states_one(const char *uri)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    struct test_secret asked = {.text = TEST_PASSPHRASE}, wrong = {.text = "wrong"}, none = {.text = NULL};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    all_refuse(ks, CHV_ERR_STORE_LOCKED, CHV_ERR_STORE_LOCKED);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &none, NULL), CHV_ERR_NO_SECRET);
    all_refuse(ks, CHV_ERR_STORE_LOCKED, CHV_ERR_STORE_LOCKED);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_OK);
    CU_ASSERT(asked.asked == 1 && (asked.confirm != 0) == ((kind->ways & EXISTS_LATE) == 0));
    CU_ASSERT_PTR_NULL(strchr(asked.prompt, ':'));
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(asked.asked, 1);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, NULL, NULL, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "a", NULL), CHV_OK);
    commit_and_close(ks);

    /* there is one now */
    ks = NULL;
    if ((kind->ways & EXISTS_LATE) != 0) {
        CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
        CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_ERR_EXISTS);
        all_refuse(ks, CHV_ERR_STORE_LOCKED, CHV_ERR_STORE_LOCKED);
        chv_keystore_close(ks);
        ks = NULL;
    } else {
        CU_ASSERT_EQUAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_ERR_EXISTS);
        CU_ASSERT_PTR_NULL(ks);
    }

    options.mode = CHV_KEYSTORE_READ;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, NULL), CHV_OK);
    all_refuse(ks, CHV_ERR_STORE_LOCKED, CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &wrong, NULL), CHV_ERR_PASSPHRASE);
    CU_ASSERT(wrong.asked == 1 && wrong.confirm == 0);
    all_refuse(ks, CHV_ERR_STORE_LOCKED, CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_keystore_unlock(ks, test_secret, &asked, NULL), CHV_OK);
    all_refuse(ks, CHV_OK, CHV_ERR_STATE);
    chv_keystore_close(ks);

    if ((kind->ways & NO_COMMIT) != 0)
        return;
    /* what was not committed is gone */
    ks = test_open(uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "lost", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_remove(ks, "a", NULL), CHV_OK);
    chv_keystore_close(ks);
    struct listing l = {.stop_after = 0};
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_list(ks, note_key, &l, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(l.text, "a/0/0 ");
    chv_keystore_close(ks);
}

static void test_states(void)
{
    each_kind(states_one);
}

/* The same secret, the same bytes, wherever it lives. */
static void test_pairwise(void)
{
    enum { ROUNDS = 20 };
    uint8_t info[CHV_INFO_MAX], first[ROUNDS][2][32], got[2][32];
    for (kind = kinds; kind < kinds + KIND_COUNT; kind++) {
        if (!installed(kind))
            continue;
        char *uri = kind->fresh_uri();
        struct chv_keystore *ks = test_open(uri, CHV_KEYSTORE_CREATE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        CU_ASSERT_EQUAL(chv_keystore_import(ks, "m", secret, NULL), CHV_OK);
        for (size_t i = 0; i < ROUNDS; i++) {
            size_t len = i * i * 2; /* to 722: past every block of the hash */
            memset(info, (int)i, sizeof info);
            CU_ASSERT_EQUAL(chv_keystore_derive(ks, "m", info, len, got[0], NULL), CHV_OK);
            CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "m", info, len, info, i, got[1], NULL), CHV_OK);
            if (kind == kinds)
                memcpy(first[i], got, sizeof got);
            CU_ASSERT_EQUAL(memcmp(first[i], got, sizeof got), 0);
        }
        chv_keystore_close(ks);
        free(uri);
    }
}

static void test_uris(void)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    size_t known = 0;
    /* schemes() lists the kinds that this test knows: a new one joins the table above */
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        CU_ASSERT_PTR_NOT_NULL(strstr(chv_keystore_schemes(), kinds[i].scheme));
        if (i == 0 || strcmp(kinds[i].scheme, kinds[i - 1].scheme) != 0)
            known += strlen(kinds[i].scheme) + (i > 0 ? 2 : 0);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(chv_keystore_schemes(), ", pem")); /* tests/keystore/pem.c: no secrets in it */
    known += strlen(", pem");
    CU_ASSERT_EQUAL(strlen(chv_keystore_schemes()), known);
    CU_ASSERT_EQUAL(chv_keystore_open("ftp:x", &options, &ks, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'ftp'"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, chv_keystore_schemes()));
    CU_ASSERT_EQUAL(chv_keystore_open("file", &options, &ks, &why), CHV_ERR_NOT_FOUND); /* a bare path */
    CU_ASSERT_EQUAL(chv_keystore_open("fil:x", &options, &ks, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_keystore_open("FILE:x", &options, &ks, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_keystore_open("file:", &options, &ks, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_keystore_open("", &options, &ks, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_open(NULL, &options, &ks, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_open("file:x", NULL, &ks, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_keystore_open("./no:such", &options, &ks, &why), CHV_ERR_NOT_FOUND);
    options.mode = (enum chv_keystore_mode)7;
    CU_ASSERT_EQUAL(chv_keystore_open("file:x", &options, &ks, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(ks);
    chv_keystore_close(NULL);
}

TEST_MAIN("keystore: contract", {"derive, derive2", test_derive}, {"generate, import", test_generate},
          {"list, remove", test_list_and_remove}, {"data items", test_data}, {"key pairs", test_identity},
          {"labels", test_labels}, {"locked, read only, uncommitted", test_states}, {"the same bytes", test_pairwise},
          {"URIs", test_uris})
