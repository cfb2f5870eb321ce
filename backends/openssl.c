/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetches, new contexts and reference counts cost more than the short messages of a handshake themselves, and contend
 * between threads: so all that can be kept is made once, in open(), and only re-initialised later.
 */
#include "backends/openssl.h"

#include "backends/selftest.h"
#include "base/memory.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/proverr.h>
#include <openssl/rand.h>

/* AEAD contexts kept for the next key; the rest is given back. */
#define AEAD_FREE_MAX 16u

struct chv_aead {
    struct openssl_ctx *owner;
    struct chv_aead *next; /* in the list of free ones */
    EVP_CIPHER_CTX *cipher;
    enum chv_aead_alg alg;
};

struct chv_dh {
    struct openssl_ctx *owner;
    EVP_PKEY *pkey;
    enum chv_curve curve;
};

struct openssl_ctx {
    OSSL_LIB_CTX *lib;
    OSSL_PROVIDER *provider;
    EVP_MAC *hmac;
    EVP_MD_CTX *digest[CHV_HASH_COUNT];    /* has its EVP_MD */
    EVP_MAC_CTX *mac[CHV_HASH_COUNT];      /* has its digest */
    bool mac_keyed[CHV_HASH_COUNT];        /* holds somebody's key */
    EVP_PKEY_CTX *keygen[CHV_CURVE_COUNT]; /* after keygen_init */
    EVP_PKEY *peer[CHV_CURVE_COUNT];       /* public keys are decoded into it */
    EVP_CIPHER *cipher[CHV_AEAD_COUNT];
    struct chv_aead *free_aead[CHV_AEAD_COUNT];
    unsigned free_count[CHV_AEAD_COUNT];
};

static const char *const digest_names[CHV_HASH_COUNT] = {
    [CHV_HASH_SHA256] = "SHA2-256",
    [CHV_HASH_SHA512] = "SHA2-512",
    [CHV_HASH_BLAKE2S] = "BLAKE2S-256",
    [CHV_HASH_BLAKE2B] = "BLAKE2B-512",
};

static const char *const key_types[CHV_CURVE_COUNT] = {
    [CHV_CURVE_25519] = "X25519",
    [CHV_CURVE_P256] = "EC",
};

static const char *const cipher_names[CHV_AEAD_COUNT] = {
    [CHV_AEAD_AES256GCM] = "AES-256-GCM",
    [CHV_AEAD_CHACHA20POLY1305] = "ChaCha20-Poly1305",
};

static const uint8_t zero_key[CHV_KEY_LEN];

/* Empties OpenSSL's error queue, so that nobody takes our errors for theirs. */
static enum chv_err failed(enum chv_err err)
{
    ERR_clear_error();
    return err;
}

/* The same with what OpenSSL says. */
static enum chv_err failed_why(struct chv_why *why, const char *what)
{
    char text[256] = "no reason given";
    unsigned long code = ERR_peek_last_error();
    if (code != 0)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return chv_fail(why, CHV_ERR_CRYPTO, "OpenSSL cannot set up %s: %s", what, text);
}

/* ---- open, close ---- */

static int set_up_hash(struct openssl_ctx *c, enum chv_hash alg)
{
    int ok = 0;
    /* OSSL_PARAM has no const: the text is only read. */
    char name[16];
    memcpy(name, digest_names[alg], strlen(digest_names[alg]) + 1);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MD *md = EVP_MD_fetch(c->lib, name, NULL);
    if (md == NULL)
        goto out;
    c->digest[alg] = EVP_MD_CTX_new();
    if (c->digest[alg] == NULL || EVP_DigestInit_ex2(c->digest[alg], md, NULL) != 1)
        goto out;
    c->mac[alg] = EVP_MAC_CTX_new(c->hmac);
    if (c->mac[alg] == NULL || EVP_MAC_CTX_set_params(c->mac[alg], params) != 1)
        goto out;
    ok = 1;
out:
    EVP_MD_free(md); /* the context holds it */
    return ok;
}

static EVP_PKEY *empty_peer(struct openssl_ctx *c, enum chv_curve curve)
{
    if (curve == CHV_CURVE_25519)
        return EVP_PKEY_new_raw_public_key_ex(c->lib, "X25519", NULL, zero_key, sizeof zero_key);
    EVP_PKEY *peer = NULL;
    char group[] = SN_X9_62_prime256v1;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(c->lib, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &peer, EVP_PKEY_KEY_PARAMETERS, params) != 1)
        peer = NULL;
    EVP_PKEY_CTX_free(ctx);
    return peer;
}

static int set_up_curve(struct openssl_ctx *c, enum chv_curve curve)
{
    c->keygen[curve] = EVP_PKEY_CTX_new_from_name(c->lib, key_types[curve], NULL);
    if (c->keygen[curve] == NULL || EVP_PKEY_keygen_init(c->keygen[curve]) != 1)
        return 0;
    if (curve == CHV_CURVE_P256 && EVP_PKEY_CTX_set_group_name(c->keygen[curve], SN_X9_62_prime256v1) != 1)
        return 0;
    c->peer[curve] = empty_peer(c, curve);
    return c->peer[curve] != NULL;
}

static enum chv_err set_up(struct openssl_ctx *c, struct chv_why *why)
{
    c->lib = OSSL_LIB_CTX_new();
    if (c->lib == NULL)
        return failed_why(why, "a library context");
    c->provider = OSSL_PROVIDER_load(c->lib, "default");
    if (c->provider == NULL)
        return failed_why(why, "the default provider");
    c->hmac = EVP_MAC_fetch(c->lib, "HMAC", NULL);
    if (c->hmac == NULL)
        return failed_why(why, "HMAC");
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++)
        if (!set_up_hash(c, (enum chv_hash)i))
            return failed_why(why, digest_names[i]);
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++)
        if (!set_up_curve(c, (enum chv_curve)i))
            return failed_why(why, i == CHV_CURVE_P256 ? "P-256" : key_types[i]);
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        c->cipher[i] = EVP_CIPHER_fetch(c->lib, cipher_names[i], NULL);
        if (c->cipher[i] == NULL)
            return failed_why(why, cipher_names[i]);
    }
    return CHV_OK;
}

static void openssl_close(void *ctx)
{
    struct openssl_ctx *c = ctx;
    for (unsigned i = 0; i < CHV_AEAD_COUNT; i++) {
        while (c->free_aead[i] != NULL) {
            struct chv_aead *aead = c->free_aead[i];
            c->free_aead[i] = aead->next;
            EVP_CIPHER_CTX_free(aead->cipher);
            free(aead);
        }
        EVP_CIPHER_free(c->cipher[i]);
    }
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++) {
        EVP_PKEY_free(c->peer[i]);
        EVP_PKEY_CTX_free(c->keygen[i]);
    }
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        EVP_MAC_CTX_free(c->mac[i]);
        EVP_MD_CTX_free(c->digest[i]);
    }
    EVP_MAC_free(c->hmac);
    if (c->provider != NULL)
        OSSL_PROVIDER_unload(c->provider);
    OSSL_LIB_CTX_free(c->lib);
    chv_wipe(c, sizeof *c);
}

static enum chv_err openssl_open(void *ctx, const char *uri, uint32_t *capabilities, struct chv_why *why)
{
    if (uri[0] != '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "backend \"openssl\" takes no parameters: write \"openssl\" alone");
    const uint32_t all = CHV_CAP_HASH(CHV_HASH_SHA256) | CHV_CAP_HASH(CHV_HASH_SHA512) |
                         CHV_CAP_HASH(CHV_HASH_BLAKE2S) | CHV_CAP_HASH(CHV_HASH_BLAKE2B) |
                         CHV_CAP_CURVE(CHV_CURVE_25519) | CHV_CAP_CURVE(CHV_CURVE_P256) |
                         CHV_CAP_AEAD(CHV_AEAD_AES256GCM) | CHV_CAP_AEAD(CHV_AEAD_CHACHA20POLY1305);
    enum chv_err err = set_up(ctx, why);
    if (err == CHV_OK)
        err = chv_selftest(&chv_backend_openssl, ctx, all, why);
    if (err != CHV_OK) {
        openssl_close(ctx);
        return err;
    }
    *capabilities = all;
    /*
     * The self-test left this thread a random generator of this library context.  Where another thread uses and closes the
     * context, this one would free its generator at its end, after the context is gone (OPENSSL_thread_stop_ex(3)).
     */
    OPENSSL_thread_stop_ex(((struct openssl_ctx *)ctx)->lib);
    return CHV_OK;
}

/* ---- random, hash, HMAC ---- */

static enum chv_err openssl_random(void *ctx, uint8_t *out, size_t len)
{
    struct openssl_ctx *c = ctx;
    return RAND_priv_bytes_ex(c->lib, out, len, 0) == 1 ? CHV_OK : failed(CHV_ERR_CRYPTO);
}

static enum chv_err openssl_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct openssl_ctx *c = ctx;
    EVP_MD_CTX *md = c->digest[alg];
    int ok = EVP_DigestInit_ex2(md, NULL, NULL);
    for (size_t i = 0; ok == 1 && i < n; i++)
        if (parts[i].len > 0)
            ok = EVP_DigestUpdate(md, parts[i].ptr, parts[i].len);
    if (ok == 1)
        ok = EVP_DigestFinal_ex(md, out, NULL);
    return ok == 1 ? CHV_OK : failed(CHV_ERR_CRYPTO);
}

static enum chv_err openssl_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen,
                                 const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct openssl_ctx *c = ctx;
    EVP_MAC_CTX *mac = c->mac[alg];
    c->mac_keyed[alg] = true;
    /* NULL would mean "the key as before". */
    int ok = EVP_MAC_init(mac, keylen > 0 ? key : zero_key, keylen, NULL);
    for (size_t i = 0; ok == 1 && i < n; i++)
        if (parts[i].len > 0)
            ok = EVP_MAC_update(mac, parts[i].ptr, parts[i].len);
    if (ok == 1)
        ok = EVP_MAC_final(mac, out, NULL, chv_hash_len(alg));
    return ok == 1 ? CHV_OK : failed(CHV_ERR_CRYPTO);
}

/*
 * A kept EVP_MAC_CTX holds its last key and result until the next HMAC, which on a quiet server may be long after the
 * session they belong to.  To overwrite them after each HMAC would nearly double its price; so it is done when a key of
 * a session ends, which is once or twice a session.
 */
static void forget_mac_keys(struct openssl_ctx *c)
{
    for (unsigned i = 0; i < CHV_HASH_COUNT; i++) {
        if (!c->mac_keyed[i])
            continue;
        if (EVP_MAC_init(c->mac[i], zero_key, sizeof zero_key, NULL) == 1)
            c->mac_keyed[i] = false;
        else
            ERR_clear_error();
    }
}

/* ---- Diffie-Hellman ---- */

static void openssl_dh_free(struct chv_dh *key)
{
    if (key == NULL)
        return;
    forget_mac_keys(key->owner);
    EVP_PKEY_free(key->pkey);
    free(key);
}

/* Takes `pkey` over, whatever happens. */
static enum chv_err make_dh(struct openssl_ctx *c, enum chv_curve curve, EVP_PKEY *pkey, struct chv_dh **key,
                            uint8_t *public_out)
{
    enum chv_err err = CHV_OK;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    size_t len = 0;
    struct chv_dh *dh = NULL;
    if (pkey == NULL ||
        EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, public_key, sizeof public_key,
                                        &len) != 1 ||
        len != chv_dh_public_len(curve)) {
        err = failed(CHV_ERR_CRYPTO);
        goto out;
    }
    dh = malloc(sizeof *dh);
    if (dh == NULL) {
        err = CHV_ERR_MEMORY;
        goto out;
    }
    *dh = (struct chv_dh){.owner = c, .pkey = pkey, .curve = curve};
    pkey = NULL;
    memcpy(public_out, public_key, len);
    *key = dh;
out:
    EVP_PKEY_free(pkey);
    return err;
}

static enum chv_err openssl_dh_generate(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out)
{
    struct openssl_ctx *c = ctx;
    EVP_PKEY *pkey = NULL;
    if (EVP_PKEY_generate(c->keygen[curve], &pkey) != 1)
        return failed(CHV_ERR_CRYPTO);
    return make_dh(c, curve, pkey, key, public_out);
}

/* OpenSSL 3.0 does not compute the public point of an imported scalar: d * G, checked to be 0 < d < n. */
static enum chv_err p256_public(struct openssl_ctx *c, const BIGNUM *d, uint8_t public_key[CHV_DH_PUBLIC_MAX])
{
    enum chv_err err = CHV_ERR_CRYPTO;
    EC_POINT *point = NULL;
    EC_GROUP *group = EC_GROUP_new_by_curve_name_ex(c->lib, NULL, NID_X9_62_prime256v1);
    if (group == NULL)
        goto out;
    if (BN_is_zero(d) || BN_cmp(d, EC_GROUP_get0_order(group)) >= 0) {
        err = CHV_ERR_ARGUMENT;
        goto out;
    }
    point = EC_POINT_new(group);
    if (point == NULL || EC_POINT_mul(group, point, d, NULL, NULL, NULL) != 1 ||
        EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, public_key, CHV_DH_PUBLIC_MAX, NULL) !=
            CHV_DH_PUBLIC_MAX)
        goto out;
    err = CHV_OK;
out:
    EC_POINT_free(point);
    EC_GROUP_free(group);
    return err == CHV_OK ? err : failed(err);
}

static enum chv_err p256_import(struct openssl_ctx *c, const uint8_t private_key[CHV_DH_PRIVATE_LEN], EVP_PKEY **pkey)
{
    enum chv_err err = CHV_ERR_CRYPTO;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t native[CHV_DH_PRIVATE_LEN] = {0};
    char group[] = SN_X9_62_prime256v1;
    EVP_PKEY_CTX *ctx = NULL;
    BIGNUM *d = BN_secure_new();
    if (d == NULL || BN_bin2bn(private_key, CHV_DH_PRIVATE_LEN, d) == NULL ||
        BN_bn2nativepad(d, native, sizeof native) != sizeof native)
        goto out;
    BN_set_flags(d, BN_FLG_CONSTTIME);
    err = p256_public(c, d, public_key);
    if (err != CHV_OK)
        goto out;
    err = CHV_ERR_CRYPTO;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native, sizeof native),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, public_key, sizeof public_key),
        OSSL_PARAM_construct_end(),
    };
    ctx = EVP_PKEY_CTX_new_from_name(c->lib, "EC", NULL);
    if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, pkey, EVP_PKEY_KEYPAIR, params) == 1)
        err = CHV_OK;
out:
    EVP_PKEY_CTX_free(ctx);
    BN_clear_free(d);
    chv_wipe(native, sizeof native);
    return err == CHV_OK ? err : failed(err);
}

static enum chv_err openssl_dh_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                      struct chv_dh **key, uint8_t *public_out)
{
    struct openssl_ctx *c = ctx;
    EVP_PKEY *pkey = NULL;
    if (curve == CHV_CURVE_P256) {
        enum chv_err err = p256_import(c, private_key, &pkey);
        if (err != CHV_OK)
            return err;
    } else {
        pkey = EVP_PKEY_new_raw_private_key_ex(c->lib, key_types[curve], NULL, private_key, CHV_DH_PRIVATE_LEN);
    }
    return make_dh(c, curve, pkey, key, public_out);
}

/*
 * Decodes the peer's key into the kept object.  For P-256 this is the whole check of SP 800-56A, 5.6.2.3.3: decoding
 * refuses coordinates that are not reduced and points off the curve, only the uncompressed form is let through (so no
 * infinity), and the curve has cofactor 1.  That is why set_peer below need not validate a second time.
 */
static enum chv_err decode_peer(struct chv_dh *key, const uint8_t *peer_public, EVP_PKEY **peer)
{
    *peer = key->owner->peer[key->curve];
    if (key->curve == CHV_CURVE_P256 && peer_public[0] != POINT_CONVERSION_UNCOMPRESSED)
        return CHV_ERR_MALFORMED;
    if (EVP_PKEY_set1_encoded_public_key(*peer, peer_public, chv_dh_public_len(key->curve)) != 1)
        return failed(CHV_ERR_MALFORMED);
    return CHV_OK;
}

static enum chv_err openssl_dh_derive(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN])
{
    uint8_t shared[CHV_KEY_LEN] = {0};
    size_t len = sizeof shared;
    EVP_PKEY *peer = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    enum chv_err err = decode_peer(key, peer_public, &peer);
    if (err != CHV_OK)
        return err;
    err = CHV_ERR_CRYPTO;
    ctx = EVP_PKEY_CTX_new_from_pkey(key->owner->lib, key->pkey, NULL);
    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) != 1)
        goto out;
    if (EVP_PKEY_derive(ctx, shared, &len) != 1) {
        /* How OpenSSL reports an all-zero X25519 result (RFC 7748, 6.1). */
        if (ERR_GET_REASON(ERR_peek_last_error()) == PROV_R_FAILED_DURING_DERIVATION)
            err = CHV_ERR_MALFORMED;
        goto out;
    }
    if (len != sizeof shared)
        goto out;
    if (key->curve == CHV_CURVE_25519 && chv_is_zero(shared, sizeof shared)) {
        err = CHV_ERR_MALFORMED;
        goto out;
    }
    memcpy(shared_out, shared, sizeof shared);
    err = CHV_OK;
out:
    EVP_PKEY_CTX_free(ctx);
    chv_wipe(shared, sizeof shared);
    return err == CHV_OK ? err : failed(err);
}

/* ---- AEAD ---- */

static void destroy_aead(struct chv_aead *aead)
{
    if (aead == NULL)
        return;
    EVP_CIPHER_CTX_free(aead->cipher);
    free(aead);
}

static void openssl_aead_free(struct chv_aead *aead)
{
    if (aead == NULL)
        return;
    struct openssl_ctx *c = aead->owner;
    forget_mac_keys(c);
    /* No key waits in the list: the schedule and the hash key are overwritten with those of the zero key. */
    if (c->free_count[aead->alg] >= AEAD_FREE_MAX ||
        EVP_CipherInit_ex2(aead->cipher, NULL, zero_key, NULL, 1, NULL) != 1) {
        ERR_clear_error();
        destroy_aead(aead);
        return;
    }
    aead->next = c->free_aead[aead->alg];
    c->free_aead[aead->alg] = aead;
    c->free_count[aead->alg]++;
}

static struct chv_aead *take_aead(struct openssl_ctx *c, enum chv_aead_alg alg)
{
    struct chv_aead *aead = c->free_aead[alg];
    if (aead != NULL) {
        c->free_aead[alg] = aead->next;
        c->free_count[alg]--;
        aead->next = NULL;
        return aead;
    }
    aead = calloc(1, sizeof *aead);
    if (aead == NULL)
        return NULL;
    aead->owner = c;
    aead->alg = alg;
    aead->cipher = EVP_CIPHER_CTX_new();
    if (aead->cipher == NULL || EVP_CipherInit_ex2(aead->cipher, c->cipher[alg], NULL, NULL, 1, NULL) != 1) {
        ERR_clear_error();
        destroy_aead(aead);
        return NULL;
    }
    return aead;
}

static enum chv_err openssl_aead_rekey(struct chv_aead *aead, const uint8_t key[CHV_KEY_LEN])
{
    return EVP_CipherInit_ex2(aead->cipher, NULL, key, NULL, 1, NULL) == 1 ? CHV_OK : failed(CHV_ERR_CRYPTO);
}

static enum chv_err openssl_aead_new(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                     struct chv_aead **aead)
{
    struct chv_aead *a = take_aead(ctx, alg);
    if (a == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = openssl_aead_rekey(a, key);
    if (err == CHV_OK)
        *aead = a;
    else
        destroy_aead(a);
    return err;
}

/* Sets the nonce and takes in the associated data. */
static int start_record(struct chv_aead *aead, const uint8_t *nonce, const uint8_t *ad, size_t ad_len, int seal)
{
    int n;
    if (EVP_CipherInit_ex2(aead->cipher, NULL, NULL, nonce, seal, NULL) != 1)
        return 0;
    return ad_len == 0 || EVP_CipherUpdate(aead->cipher, NULL, &n, ad, (int)ad_len) == 1;
}

static enum chv_err openssl_aead_seal(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                      size_t ad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    int n;
    if (len > INT_MAX || ad_len > INT_MAX)
        return CHV_ERR_ARGUMENT;
    if (!start_record(aead, nonce, ad, ad_len, 1) ||
        (len > 0 && EVP_CipherUpdate(aead->cipher, out, &n, in, (int)len) != 1) ||
        EVP_CipherFinal_ex(aead->cipher, out + len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(aead->cipher, EVP_CTRL_AEAD_GET_TAG, CHV_AEAD_TAG_LEN, out + len) != 1)
        return failed(CHV_ERR_CRYPTO);
    return CHV_OK;
}

static enum chv_err openssl_aead_open(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                      size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out)
{
    enum chv_err err = CHV_ERR_CRYPTO;
    int n;
    size_t len = in_len - CHV_AEAD_TAG_LEN;
    uint8_t tag[CHV_AEAD_TAG_LEN];
    uint8_t none[CHV_AEAD_TAG_LEN]; /* an AEAD has no last block: final only compares the tag */
    memcpy(tag, in + len, sizeof tag);
    if (len > INT_MAX || ad_len > INT_MAX) {
        err = CHV_ERR_ARGUMENT;
        goto out;
    }
    if (!start_record(aead, nonce, ad, ad_len, 0) ||
        EVP_CIPHER_CTX_ctrl(aead->cipher, EVP_CTRL_AEAD_SET_TAG, CHV_AEAD_TAG_LEN, tag) != 1 ||
        (len > 0 && EVP_CipherUpdate(aead->cipher, out, &n, in, (int)len) != 1))
        goto out;
    err = EVP_CipherFinal_ex(aead->cipher, none, &n) == 1 ? CHV_OK : CHV_ERR_AUTH;
out:
    if (err != CHV_OK) {
        chv_wipe(out, len);
        ERR_clear_error();
    }
    return err;
}

const struct chv_backend chv_backend_openssl = {
    .abi = CHV_BACKEND_ABI,
    .name = "openssl",
    .description = "OpenSSL 3, in this process",
    .context_size = sizeof(struct openssl_ctx),
    .open = openssl_open,
    .close = openssl_close,
    .random = openssl_random,
    .hash = openssl_hash,
    .hmac = openssl_hmac,
    .dh_generate = openssl_dh_generate,
    .dh_import = openssl_dh_import,
    .dh_derive = openssl_dh_derive,
    .dh_free = openssl_dh_free,
    .aead_new = openssl_aead_new,
    .aead_rekey = openssl_aead_rekey,
    .aead_seal = openssl_aead_seal,
    .aead_open = openssl_aead_open,
    .aead_free = openssl_aead_free,
};
