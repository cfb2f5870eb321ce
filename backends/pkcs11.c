/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random, hash, HMAC by a token.  Every call takes a session of the token's pool and gives it back, so that contexts of
 * many threads work with the sessions that the token has; what was lost is brought back by chv_p11_token_run.
 */
#include "backends/pkcs11.h"

#include <stdlib.h>
#include <string.h>

#include "backends/pkcs11_private.h"
#include "backends/selftest.h"
#include "base/memory.h"

/*
 * SoftHSM frees what a session object took (some 230 bytes, measured by bench/token_backend) at C_Finalize only: after
 * so many, a quarter of a gigabyte, the process should make way for a fresh one.
 */
#define OBJECTS_MAX UINT64_C(1000000)

static const struct {
    CK_MECHANISM_TYPE digest;
    CK_MECHANISM_TYPE hmac;
} hashes[CHV_HASH_COUNT] = {
    [CHV_HASH_SHA256] = {CKM_SHA256, CKM_SHA256_HMAC},
    [CHV_HASH_SHA512] = {CKM_SHA512, CKM_SHA512_HMAC},
};

/* ---- what all parts use ---- */

enum chv_err chv_pkcs11_run(struct pkcs11_ctx *c, chv_p11_work_fn work, void *arg)
{
    return chv_p11_token_run(c->token, work, arg, &c->last);
}

static void add(CK_ATTRIBUTE *t, CK_ULONG *n, CK_ATTRIBUTE_TYPE type, const void *value, CK_ULONG len)
{
    t[(*n)++] = (CK_ATTRIBUTE){type, chv_pkcs11_bytes(value), len};
}

enum chv_err chv_pkcs11_import(struct pkcs11_ctx *c, struct chv_p11_session *s, CK_KEY_TYPE type, const uint8_t *value,
                               size_t len, bool sign, CK_OBJECT_HANDLE *object, struct chv_why *why)
{
    static const CK_BBOOL yes = CK_TRUE;
    static const CK_BBOOL no = CK_FALSE;
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool on;
    } flags[] = {
        {CKA_TOKEN, false},    {CKA_PRIVATE, c->private_keys},
        {CKA_SENSITIVE, true}, {CKA_EXTRACTABLE, false},
        {CKA_SIGN, sign},      {CKA_VERIFY, false},
        {CKA_ENCRYPT, !sign},  {CKA_DECRYPT, !sign},
        {CKA_WRAP, false},     {CKA_UNWRAP, false},
        {CKA_DERIVE, false},
    };
    CK_ATTRIBUTE t[3 + sizeof flags / sizeof flags[0]];
    CK_ULONG n = 0;
    add(t, &n, CKA_CLASS, &class, sizeof class);
    add(t, &n, CKA_KEY_TYPE, &type, sizeof type);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        add(t, &n, flags[i].type, flags[i].on ? &yes : &no, sizeof yes);
    add(t, &n, CKA_VALUE, value, len);
    c->objects++;
    if (chv_p11_call(s, C_CreateObject, t, n, object) != CKR_OK)
        return chv_p11_session_fail(s, why);
    return CHV_OK;
}

enum chv_err chv_pkcs11_check_key(const struct pkcs11_key *key, struct chv_p11_session *s, struct chv_why *why)
{
    if (key->there && key->pool == s->pool)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: a session's key is gone, because the token was lost meanwhile",
                    s->where);
}

void chv_pkcs11_destroy_object(struct chv_p11_session *s, CK_OBJECT_HANDLE object)
{
    (void)s->fn->C_DestroyObject(s->handle, object); /* s->rv stays what the work itself ended with */
}

void chv_pkcs11_destroy(struct pkcs11_ctx *c, struct pkcs11_key *key)
{
    struct chv_p11_session *s;
    if (!key->there)
        return;
    key->there = false;
    if (chv_p11_session_take(c->token, &s, NULL) != CHV_OK)
        return;
    if (s->pool == key->pool)
        chv_pkcs11_destroy_object(s, key->object);
    chv_p11_session_give(s);
}

uint8_t *chv_pkcs11_scratch(struct pkcs11_ctx *c, size_t size)
{
    if (size > c->scratch_size) {
        uint8_t *larger = malloc(size);
        if (larger == NULL)
            return NULL;
        free(c->scratch); /* users wipe it */
        c->scratch = larger;
        c->scratch_size = size;
    }
    return c->scratch;
}

enum chv_err chv_pkcs11_software(struct pkcs11_ctx *c, struct chv_why *why)
{
    return c->software.backend != NULL ? CHV_OK : chv_backend_open("openssl", &c->software, why);
}

/* ---- random ---- */

struct random_call {
    uint8_t *out;
    size_t len;
};

static enum chv_err random_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct random_call *call = arg;
    return chv_p11_call(s, C_GenerateRandom, call->out, call->len) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static enum chv_err pkcs11_random(void *ctx, uint8_t *out, size_t len)
{
    struct pkcs11_ctx *c = ctx;
    struct random_call call = {.out = chv_pkcs11_scratch(c, len), .len = len};
    if (call.out == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = chv_pkcs11_run(c, random_work, &call);
    if (err == CHV_OK)
        memcpy(out, call.out, len);
    chv_wipe(call.out, len);
    return err;
}

/* ---- hash ---- */

struct hash_call {
    enum chv_hash alg;
    const struct chv_part *parts;
    size_t n;
    const uint8_t *key; /* HMAC: at least as long as the hash, at most a block */
    size_t keylen;
    struct pkcs11_ctx *owner;
    uint8_t out[CHV_HASH_MAX];
};

static enum chv_err wrong_length(const struct chv_p11_session *s, CK_ULONG got, size_t want, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_CRYPTO, "%s: %s with %s: gave %lu bytes, %zu are right", s->where, s->call,
                    chv_p11_mechanism_name(s->mechanism), got, want);
}

static enum chv_err hash_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct hash_call *call = arg;
    CK_MECHANISM mechanism = {hashes[call->alg].digest, NULL, 0};
    CK_ULONG len = sizeof call->out;
    (void)chv_p11_call_for(s, mechanism.mechanism, C_DigestInit, &mechanism);
    for (size_t i = 0; s->rv == CKR_OK && i < call->n; i++)
        if (call->parts[i].len > 0)
            (void)chv_p11_call_for(s, mechanism.mechanism, C_DigestUpdate, chv_pkcs11_bytes(call->parts[i].ptr),
                                   call->parts[i].len);
    if (s->rv == CKR_OK)
        (void)chv_p11_call_for(s, mechanism.mechanism, C_DigestFinal, call->out, &len);
    if (s->rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    return len == chv_hash_len(call->alg) ? CHV_OK : wrong_length(s, len, chv_hash_len(call->alg), why);
}

static enum chv_err pkcs11_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct hash_call call = {.alg = alg, .parts = parts, .n = n};
    enum chv_err err = chv_pkcs11_run(ctx, hash_work, &call);
    if (err == CHV_OK)
        memcpy(out, call.out, chv_hash_len(alg));
    chv_wipe(call.out, sizeof call.out);
    return err;
}

/* ---- HMAC ---- */

static enum chv_err sign_parts(struct chv_p11_session *s, struct hash_call *call, CK_OBJECT_HANDLE key,
                               struct chv_why *why)
{
    CK_MECHANISM mechanism = {hashes[call->alg].hmac, NULL, 0};
    CK_ULONG len = sizeof call->out;
    (void)chv_p11_call_for(s, mechanism.mechanism, C_SignInit, &mechanism, key);
    for (size_t i = 0; s->rv == CKR_OK && i < call->n; i++)
        if (call->parts[i].len > 0)
            (void)chv_p11_call_for(s, mechanism.mechanism, C_SignUpdate, chv_pkcs11_bytes(call->parts[i].ptr),
                                   call->parts[i].len);
    if (s->rv == CKR_OK)
        (void)chv_p11_call_for(s, mechanism.mechanism, C_SignFinal, call->out, &len);
    if (s->rv != CKR_OK)
        return chv_p11_session_fail(s, why);
    return len == chv_hash_len(call->alg) ? CHV_OK : wrong_length(s, len, chv_hash_len(call->alg), why);
}

static enum chv_err hmac_work(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    struct hash_call *call = arg;
    CK_OBJECT_HANDLE key;
    enum chv_err err = chv_pkcs11_import(call->owner, s, CKK_GENERIC_SECRET, call->key, call->keylen, true, &key, why);
    if (err != CHV_OK)
        return err;
    err = sign_parts(s, call, key, why);
    chv_pkcs11_destroy_object(s, key);
    return err;
}

/*
 * Tokens want keys from the length of the hash on (SoftHSM) and to some other end.  RFC 2104, 2: a key is filled up
 * with zeros to a block, and a longer one is hashed first; so every key has an equal one that all tokens take.
 */
static enum chv_err pkcs11_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen,
                                const struct chv_part *parts, size_t n, uint8_t *out)
{
    uint8_t equal[CHV_HASH_MAX] = {0};
    struct hash_call call = {.owner = ctx, .alg = alg, .parts = parts, .n = n, .key = key, .keylen = keylen};
    enum chv_err err = CHV_OK;
    if (keylen > chv_hash_block_len(alg))
        err = pkcs11_hash(ctx, alg, &(struct chv_part){key, keylen}, 1, equal);
    else if (keylen > 0 && keylen < chv_hash_len(alg))
        memcpy(equal, key, keylen);
    if (keylen > chv_hash_block_len(alg) || keylen < chv_hash_len(alg)) {
        call.key = equal;
        call.keylen = chv_hash_len(alg);
    }
    if (err == CHV_OK)
        err = chv_pkcs11_run(ctx, hmac_work, &call);
    if (err == CHV_OK)
        memcpy(out, call.out, chv_hash_len(alg));
    chv_wipe(equal, sizeof equal);
    chv_wipe(call.out, sizeof call.out);
    return err;
}

/* ---- open, close ---- */

static void pkcs11_close(void *ctx)
{
    struct pkcs11_ctx *c = ctx;
    chv_backend_close(&c->software);
    chv_p11_token_close(c->token);
    free(c->scratch);
    chv_wipe(c, sizeof *c);
}

/* The token, and a login if the URI says where the PIN is or somebody in this process has logged in. */
static enum chv_err open_token(struct pkcs11_ctx *c, const char *uri, struct chv_why *why)
{
    struct chv_p11_uri parsed;
    enum chv_err err = chv_p11_uri_parse(uri, &parsed, why);
    if (err != CHV_OK)
        return err;
    if (parsed.object[0] != '\0')
        err = chv_fail(why, CHV_ERR_CONFIG,
                       "backend \"pkcs11\": object= names a stored key, and a backend has none: leave it out");
    if (err == CHV_OK)
        err = chv_p11_token_open(&parsed, &c->token, why);
    if (err == CHV_OK && parsed.pin_file != NULL)
        err = chv_p11_token_login(c->token, NULL, NULL, why);
    c->private_keys = err == CHV_OK && chv_p11_token_logged_in(c->token);
    c->objects_max = parsed.objects != 0 ? parsed.objects : OBJECTS_MAX;
    chv_p11_uri_free(&parsed);
    return err;
}

/* A token without a hash, a curve or an AEAD cannot run any suite. */
static enum chv_err check_useful(struct pkcs11_ctx *c, uint32_t capabilities, struct chv_why *why)
{
    static const struct {
        uint32_t all;
        unsigned first, count;
        const char *what;
    } needs[] = {
        {CHV_CAP_HASH(CHV_HASH_SHA256) | CHV_CAP_HASH(CHV_HASH_SHA512), 0, 2, "hash"},
        {CHV_CAP_CURVE(CHV_CURVE_25519) | CHV_CAP_CURVE(CHV_CURVE_P256), 8, 2, "curve"},
        {CHV_CAP_AEAD(CHV_AEAD_AES256GCM) | CHV_CAP_AEAD(CHV_AEAD_CHACHA20POLY1305), 16, 2, "AEAD"},
    };
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        if ((capabilities & needs[i].all) == 0)
            return chv_fail(why, CHV_ERR_UNSUPPORTED,
                            "backend \"pkcs11\": the token has no %s that a suite could use: %.470s; %.470s",
                            needs[i].what, c->lacks[needs[i].first].text, c->lacks[needs[i].first + 1].text);
    return CHV_OK;
}

static enum chv_err pkcs11_open(void *ctx, const char *uri, uint32_t *capabilities, struct chv_why *why)
{
    struct pkcs11_ctx *c = ctx;
    uint8_t some[CHV_KEY_LEN];
    uint32_t found = 0;
    if (uri[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG,
                        "backend \"pkcs11\" needs to know its token: write pkcs11:token=LABEL, with "
                        "?module-path=/PATH/OF/MODULE.so&pin-source=file:/PATH/OF/PIN where they are needed");
    enum chv_err err = open_token(c, uri, why);
    if (err == CHV_OK && pkcs11_random(c, some, sizeof some) != CHV_OK)
        err = chv_fail(why, CHV_ERR_UNSUPPORTED, "backend \"pkcs11\": no random bytes: %s", c->last.text);
    if (err == CHV_OK)
        err = chv_pkcs11_software(c, why);
    if (err == CHV_OK)
        err = chv_pkcs11_probe(c, &found, why);
    if (err == CHV_OK)
        err = check_useful(c, found, why);
    if (err == CHV_OK)
        err = chv_selftest(&chv_backend_pkcs11, c, found, why);
    chv_backend_close(&c->software); /* only dh_import needs it later, which sessions never call */
    if (err == CHV_OK)
        *capabilities = found;
    else
        pkcs11_close(c);
    chv_wipe(some, sizeof some);
    return err;
}

static const char *pkcs11_lacks(void *ctx, uint32_t capability)
{
    struct pkcs11_ctx *c = ctx;
    for (size_t i = 0; i < sizeof c->lacks / sizeof c->lacks[0]; i++)
        if (capability == UINT32_C(1) << i)
            return c->lacks[i].text;
    return "";
}

static void pkcs11_health(void *ctx, struct chv_backend_health *health)
{
    struct pkcs11_ctx *c = ctx;
    health->worn = c->objects >= c->objects_max;
    health->last = c->last.text;
}

const struct chv_backend chv_backend_pkcs11 = {
    .abi = CHV_BACKEND_ABI,
    .name = "pkcs11",
    .description = "a PKCS #11 token: pkcs11:token=LABEL",
    .context_size = sizeof(struct pkcs11_ctx),
    .open = pkcs11_open,
    .close = pkcs11_close,
    .random = pkcs11_random,
    .hash = pkcs11_hash,
    .hmac = pkcs11_hmac,
    .dh_generate = chv_pkcs11_dh_generate,
    .dh_import = chv_pkcs11_dh_import,
    .dh_derive = chv_pkcs11_dh_derive,
    .dh_free = chv_pkcs11_dh_free,
    .aead_new = chv_pkcs11_aead_new,
    .aead_rekey = chv_pkcs11_aead_rekey,
    .aead_seal = chv_pkcs11_aead_seal,
    .aead_open = chv_pkcs11_aead_open,
    .aead_free = chv_pkcs11_aead_free,
    .lacks = pkcs11_lacks,
    .health = pkcs11_health,
};
