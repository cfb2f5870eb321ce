/* SPDX-License-Identifier: Apache-2.0 */
#include "keystore/token_check.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "core/wire.h"
#include "keystore/token.h"

/* How long a rate is measured, in nanoseconds, and how many operations between two looks at the clock. */
enum { CHECK_MEASURE_NS = 100000000, CHECK_STEP = 16 };

static const struct {
    CK_MECHANISM_TYPE type;
    CK_FLAGS flags;
} check_mechanisms[CHV_TOKEN_MECHANISMS] = {
    {CKM_SHA256_HMAC, CKF_SIGN},
    {CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE},
    {CKM_SHA256, CKF_DIGEST},
    {CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT},
    {CKM_CHACHA20_POLY1305, CKF_ENCRYPT | CKF_DECRYPT},
    {CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR},
    {CKM_ECDH1_DERIVE, CKF_DERIVE},
    {CKM_ECDSA, CKF_SIGN},
    {CKM_HKDF_DERIVE, CKF_DERIVE},
    {CKM_SP800_108_COUNTER_KDF, CKF_DERIVE},
    {CKM_AES_KEY_WRAP, CKF_WRAP},
    {CKM_EXTRACT_KEY_FROM_KEY, CKF_DERIVE},
};

struct check_job {
    struct chv_token_check *check;
    struct chv_crypto crypto; /* whom the token is compared with */
    uint8_t secret[CHV_SECRET_LEN];
};

static uint64_t check_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* --- bytes ---------------------------------------------------------------------------------------------------------
 */

/* Infos of several lengths, an empty one and one longer than a block of the hash among them. */
static enum chv_err check_rung(struct chv_p11_session *s, struct check_job *job, CK_OBJECT_HANDLE key,
                               enum chv_token_rung rung, enum chv_token_answer *answer)
{
    static const size_t lengths[] = {0, 1, 32, 64, 200, CHV_INFO_MAX};
    uint8_t info[CHV_INFO_MAX], ours[CHV_SECRET_LEN], theirs[CHV_SECRET_LEN];
    enum chv_err err = CHV_OK;
    *answer = CHV_TOKEN_EQUAL;
    for (size_t i = 0; err == CHV_OK && i < sizeof lengths / sizeof lengths[0]; i++) {
        err = chv_crypto_random(&job->crypto, info, sizeof info);
        if (err == CHV_OK)
            err = chv_hkdf_expand(&job->crypto, CHV_HASH_SHA256, job->secret, sizeof job->secret, info, lengths[i],
                                  ours, sizeof ours);
        if (err != CHV_OK)
            return err;
        if (chv_token_expand(s, key, rung, info, lengths[i], theirs, NULL) != CHV_OK) {
            *answer = CHV_TOKEN_ABSENT;
            s->rv = CKR_OK;
            return CHV_OK;
        }
        if (!chv_equal(ours, theirs, sizeof ours))
            *answer = CHV_TOKEN_WRONG;
    }
    return err;
}

/* What works on the key at `leak`; why that is not known at `unproved`. */
static void check_probe(struct chv_p11_session *s, CK_OBJECT_HANDLE key, char leak[64], char unproved[256])
{
    struct chv_why why = {""};
    const char *way = NULL;
    if (chv_token_probe(s, key, "test", &way, &why) != CHV_OK) {
        if (way != NULL)
            (void)snprintf(leak, 64, "%s", way);
        else
            (void)snprintf(unproved, 256, "%s", why.text);
    }
    s->rv = CKR_OK;
}

static void check_measure(struct chv_p11_session *s, CK_OBJECT_HANDLE key, double *rate)
{
    uint8_t data[64] = {0}, out[CHV_SECRET_LEN];
    uint64_t start = check_now(), end = start;
    unsigned long n = 0;
    while (end - start < CHECK_MEASURE_NS) {
        for (unsigned i = 0; i < CHECK_STEP; i++, n++)
            if (chv_p11_hmac(s, key, data, sizeof data, out, NULL) != CHV_OK)
                return;
        end = check_now();
    }
    *rate = (double)n * 1e9 / (double)(end - start);
}

/* The same secret twice: as a keystore has it, and as the derive mechanisms need it. */
static enum chv_err check_keys(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct check_job *job = arg;
    struct chv_token_check *check = job->check;
    struct chv_p11_secret wanted = {.label = "test", .value = job->secret, .value_len = sizeof job->secret};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    check->test_keys = chv_p11_secret_make(s, &wanted, &key, NULL) == CHV_OK;
    if (!check->test_keys) {
        s->rv = CKR_OK;
        return CHV_OK;
    }
    enum chv_err err = check_rung(s, job, key, CHV_TOKEN_HMAC, &check->rungs[CHV_TOKEN_HMAC].answer);
    if (err == CHV_OK)
        check_probe(s, key, check->leak, check->unproved);
    if (err == CHV_OK)
        check_measure(s, key, &check->hmac_rate);
    (void)s->fn->C_DestroyObject(s->handle, key);
    wanted.derive = true;
    if (err == CHV_OK && chv_p11_secret_make(s, &wanted, &key, NULL) == CHV_OK) {
        for (unsigned i = CHV_TOKEN_HKDF; err == CHV_OK && i < CHV_TOKEN_RUNGS; i++)
            err = check_rung(s, job, key, (enum chv_token_rung)i, &check->rungs[i].answer);
        check_probe(s, key, check->derive_leak, check->unproved);
        (void)s->fn->C_DestroyObject(s->handle, key);
    }
    s->rv = CKR_OK;
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: %s", s->where, chv_err_text(err));
}

static enum chv_err check_token(struct chv_p11_token *token, struct chv_token_check *check, struct chv_why *why)
{
    static const char *const rungs[CHV_TOKEN_RUNGS] = {"hmac", "hkdf", "sp800-108"};
    struct check_job job = {.check = check};
    (void)snprintf(check->name, sizeof check->name, "%s", chv_p11_token_name(token));
    for (size_t i = 0; i < CHV_TOKEN_MECHANISMS; i++) {
        check->mechanisms[i].name = chv_p11_mechanism_name(check_mechanisms[i].type);
        check->mechanisms[i].there =
            chv_p11_token_mechanism(token, check_mechanisms[i].type, check_mechanisms[i].flags, NULL, NULL) == CHV_OK;
    }
    check->mechanism_count = CHV_TOKEN_MECHANISMS;
    for (size_t i = 0; i < CHV_TOKEN_RUNGS; i++)
        check->rungs[i].name = rungs[i];
    check->p256 = chv_p11_pair_supported(token, CHV_CURVE_P256);
    check->x25519 = chv_p11_pair_supported(token, CHV_CURVE_25519);
    enum chv_err err = chv_p11_token_info(token, &check->info, why);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &job.crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_crypto_random(&job.crypto, job.secret, sizeof job.secret);
    if (err == CHV_OK)
        err = chv_p11_token_run(token, check_keys, &job, why);
    if (err == CHV_OK)
        err = chv_token_known_run(token, &job.crypto, check->known, &check->known_count, why);
    chv_wipe(job.secret, sizeof job.secret);
    chv_backend_close(&job.crypto);
    return err;
}

/* --- a backend in it -----------------------------------------------------------------------------------------------
 */

/* The first thing that a suite needs and this backend has not, in the backend's words; NULL: it has all. */
static const char *check_lacks(const struct chv_crypto *crypto, const struct chv_suite_parts *parts)
{
    const uint32_t needs[] = {CHV_CAP_CURVE(parts->curve), CHV_CAP_AEAD(parts->aead), CHV_CAP_HASH(parts->hash)};
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        if ((crypto->capabilities & needs[i]) == 0)
            return chv_crypto_lacks(crypto, needs[i]);
    return NULL;
}

/* As a server or client opens it; that it does not is an answer. */
static enum chv_err check_backend(const struct chv_p11_uri *uri, struct chv_token_check *check, struct chv_why *why)
{
    char spec[CHV_P11_URI_MAX + 1];
    struct chv_crypto crypto;
    if (!chv_p11_uri_token_only(uri, spec, sizeof spec))
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 URI: too long");
    check->backend.why.text[0] = '\0';
    check->backend.opens = chv_backend_open(spec, &crypto, &check->backend.why) == CHV_OK;
    if (!check->backend.opens)
        return CHV_OK;
    for (unsigned i = 0; i < CHV_TOKEN_SUITES; i++) {
        const enum chv_suite suite = (enum chv_suite)(CHV_SUITE_X25519_AESGCM_SHA256 + i);
        const char *lacks = check_lacks(&crypto, chv_suite_parts(suite));
        check->backend.suites[i].name = chv_suite_name(suite);
        check->backend.suites[i].there = lacks == NULL;
        (void)snprintf(check->backend.suites[i].lacks, sizeof check->backend.suites[i].lacks, "%.399s",
                       lacks != NULL ? lacks : "");
    }
    chv_backend_close(&crypto);
    return CHV_OK;
}

/* --- a keystore in it ----------------------------------------------------------------------------------------------
 */

static enum chv_err check_first(void *arg, const struct chv_key_info *info)
{
    struct chv_token_check *check = arg;
    if (info->use == CHV_USE_SECRET && check->derive_label[0] == '\0')
        (void)snprintf(check->derive_label, sizeof check->derive_label, "%s", info->label);
    return CHV_OK;
}

/* What a server's handshake costs the token: one derivation by a key that lives in it. */
static enum chv_err check_keystore(const char *uri, chv_secret_fn secret, void *arg, struct chv_token_check *check,
                                   struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct chv_keystore *ks = NULL;
    uint8_t info[CHV_INFO_MAX], out[CHV_SECRET_LEN];
    size_t len = 0;
    enum chv_err err = chv_keystore_open(uri, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, secret, arg, why);
    if (err == CHV_OK)
        err = chv_keystore_list(ks, check_first, check, why);
    if (err == CHV_OK)
        err = chv_info_check(info, &len);
    if (err == CHV_OK && check->derive_label[0] != '\0') {
        uint64_t start = check_now(), end = start;
        unsigned long n = 0;
        while (err == CHV_OK && end - start < CHECK_MEASURE_NS) {
            for (unsigned i = 0; err == CHV_OK && i < CHECK_STEP; i++, n++)
                err = chv_keystore_derive(ks, check->derive_label, info, len, out, why);
            end = check_now();
        }
        check->derive_rate = (double)n * 1e9 / (double)(end - start);
        chv_wipe(out, sizeof out);
    }
    chv_keystore_close(ks);
    return err;
}

enum chv_err chv_token_check(const char *uri, chv_secret_fn secret, void *arg, struct chv_token_check *check,
                             struct chv_why *why)
{
    struct chv_p11_uri parsed;
    struct chv_p11_token *token = NULL;
    memset(check, 0, sizeof *check);
    enum chv_err err = chv_p11_uri_parse(uri, &parsed, why);
    if (err != CHV_OK)
        return err;
    err = chv_p11_token_open(&parsed, &token, why);
    if (err == CHV_OK && parsed.pin_file == NULL)
        err = check_backend(&parsed, check, why);
    if (err == CHV_OK)
        err = chv_p11_token_login(token, secret, arg, why);
    if (err == CHV_OK && !check->backend.opens) {
        err = check_backend(&parsed, check, why); /* a PIN that is wrong is not tried here a second time */
        check->backend.needs_login = parsed.pin_file == NULL && check->backend.opens;
    }
    if (err == CHV_OK)
        err = check_token(token, check, why);
    if (err == CHV_OK)
        err = check_keystore(uri, secret, arg, check, why); /* logged in already: nothing is asked again */
    chv_p11_token_close(token);
    chv_p11_uri_free(&parsed);
    return err;
}
