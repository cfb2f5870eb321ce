/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that calls a backend: checks capabilities, optional members and lengths before it does. */
#include <chaveiro/backend.h>

#include "base/memory.h"

#define HMAC_KEY_MAX 1024u

static const struct {
    const char *name;
    size_t len;
    size_t block;
} hashes[CHV_HASH_COUNT] = {
    [CHV_HASH_SHA256] = {.name = "SHA256", .len = 32, .block = 64},    /* FIPS 180-4 */
    [CHV_HASH_SHA512] = {.name = "SHA512", .len = 64, .block = 128},   /* FIPS 180-4 */
    [CHV_HASH_BLAKE2S] = {.name = "BLAKE2s", .len = 32, .block = 64},  /* RFC 7693 */
    [CHV_HASH_BLAKE2B] = {.name = "BLAKE2b", .len = 64, .block = 128}, /* RFC 7693 */
};

static const struct {
    const char *name;
    size_t public_len;
} curves[CHV_CURVE_COUNT] = {
    [CHV_CURVE_25519] = {.name = "25519", .public_len = 32},
    [CHV_CURVE_P256] = {.name = "P256", .public_len = 65},
};

static const char *const aeads[CHV_AEAD_COUNT] = {
    [CHV_AEAD_AES256GCM] = "AESGCM",
    [CHV_AEAD_CHACHA20POLY1305] = "ChaChaPoly",
};

size_t chv_hash_len(enum chv_hash alg)
{
    return (unsigned)alg < CHV_HASH_COUNT ? hashes[alg].len : 0;
}

size_t chv_hash_block_len(enum chv_hash alg)
{
    return (unsigned)alg < CHV_HASH_COUNT ? hashes[alg].block : 0;
}

size_t chv_dh_public_len(enum chv_curve curve)
{
    return (unsigned)curve < CHV_CURVE_COUNT ? curves[curve].public_len : 0;
}

const char *chv_hash_name(enum chv_hash alg)
{
    return (unsigned)alg < CHV_HASH_COUNT ? hashes[alg].name : "?";
}

const char *chv_curve_name(enum chv_curve curve)
{
    return (unsigned)curve < CHV_CURVE_COUNT ? curves[curve].name : "?";
}

const char *chv_aead_name(enum chv_aead_alg alg)
{
    return (unsigned)alg < CHV_AEAD_COUNT ? aeads[alg] : "?";
}

enum chv_err chv_crypto_open(struct chv_crypto *crypto, const struct chv_backend *backend, void *memory,
                             const char *uri, struct chv_why *why)
{
    *crypto = (struct chv_crypto){0};
    if (backend->abi != CHV_BACKEND_ABI)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "backend made for interface %u, this program has %u", backend->abi,
                        CHV_BACKEND_ABI);
    uint32_t capabilities = 0;
    chv_wipe(memory, backend->context_size);
    enum chv_err err = backend->open(memory, uri, &capabilities, why);
    if (err == CHV_OK)
        *crypto = (struct chv_crypto){.backend = backend, .ctx = memory, .capabilities = capabilities};
    else
        chv_wipe(memory, backend->context_size);
    return err;
}

void chv_crypto_close(struct chv_crypto *crypto)
{
    if (crypto == NULL)
        return;
    if (crypto->backend != NULL)
        crypto->backend->close(crypto->ctx);
    *crypto = (struct chv_crypto){0};
}

static int has_hash(const struct chv_crypto *crypto, enum chv_hash alg)
{
    return (unsigned)alg < CHV_HASH_COUNT && (crypto->capabilities & CHV_CAP_HASH(alg)) != 0;
}

static int has_curve(const struct chv_crypto *crypto, enum chv_curve curve)
{
    return (unsigned)curve < CHV_CURVE_COUNT && (crypto->capabilities & CHV_CAP_CURVE(curve)) != 0;
}

static int has_aead(const struct chv_crypto *crypto, enum chv_aead_alg alg)
{
    return (unsigned)alg < CHV_AEAD_COUNT && (crypto->capabilities & CHV_CAP_AEAD(alg)) != 0;
}

enum chv_err chv_crypto_random(const struct chv_crypto *crypto, uint8_t *out, size_t len)
{
    return len > 0 ? crypto->backend->random(crypto->ctx, out, len) : CHV_OK;
}

enum chv_err chv_crypto_hash(const struct chv_crypto *crypto, enum chv_hash alg, const struct chv_part *parts, size_t n,
                             uint8_t *out)
{
    if (!has_hash(crypto, alg))
        return CHV_ERR_UNSUPPORTED;
    return crypto->backend->hash(crypto->ctx, alg, parts, n, out);
}

enum chv_err chv_crypto_hmac(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *key, size_t keylen,
                             const struct chv_part *parts, size_t n, uint8_t *out)
{
    if (!has_hash(crypto, alg))
        return CHV_ERR_UNSUPPORTED;
    if (keylen > HMAC_KEY_MAX)
        return CHV_ERR_ARGUMENT;
    return crypto->backend->hmac(crypto->ctx, alg, key, keylen, parts, n, out);
}

enum chv_err chv_crypto_dh_generate(const struct chv_crypto *crypto, enum chv_curve curve, struct chv_dh **key,
                                    uint8_t *public_out)
{
    if (!has_curve(crypto, curve))
        return CHV_ERR_UNSUPPORTED;
    return crypto->backend->dh_generate(crypto->ctx, curve, key, public_out);
}

enum chv_err chv_crypto_dh_import(const struct chv_crypto *crypto, enum chv_curve curve,
                                  const uint8_t private_key[CHV_DH_PRIVATE_LEN], struct chv_dh **key,
                                  uint8_t *public_out)
{
    if (!has_curve(crypto, curve) || crypto->backend->dh_import == NULL)
        return CHV_ERR_UNSUPPORTED;
    return crypto->backend->dh_import(crypto->ctx, curve, private_key, key, public_out);
}

enum chv_err chv_crypto_dh_derive(const struct chv_crypto *crypto, struct chv_dh *key, const uint8_t *peer_public,
                                  uint8_t shared_out[CHV_KEY_LEN])
{
    if (key == NULL)
        return CHV_ERR_ARGUMENT;
    return crypto->backend->dh_derive(key, peer_public, shared_out);
}

void chv_crypto_dh_free(const struct chv_crypto *crypto, struct chv_dh *key)
{
    if (key != NULL)
        crypto->backend->dh_free(key);
}

enum chv_err chv_crypto_aead_new(const struct chv_crypto *crypto, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                 struct chv_aead **aead)
{
    if (!has_aead(crypto, alg))
        return CHV_ERR_UNSUPPORTED;
    return crypto->backend->aead_new(crypto->ctx, alg, key, aead);
}

enum chv_err chv_crypto_aead_rekey(const struct chv_crypto *crypto, struct chv_aead *aead,
                                   const uint8_t key[CHV_KEY_LEN])
{
    if (aead == NULL)
        return CHV_ERR_ARGUMENT;
    return crypto->backend->aead_rekey(aead, key);
}

enum chv_err chv_crypto_aead_seal(const struct chv_crypto *crypto, struct chv_aead *aead,
                                  const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                                  const uint8_t *in, size_t len, uint8_t *out)
{
    if (aead == NULL || len > SIZE_MAX - CHV_AEAD_TAG_LEN)
        return CHV_ERR_ARGUMENT;
    return crypto->backend->aead_seal(aead, nonce, ad, ad_len, in, len, out);
}

enum chv_err chv_crypto_aead_open(const struct chv_crypto *crypto, struct chv_aead *aead,
                                  const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                                  const uint8_t *in, size_t in_len, uint8_t *out)
{
    if (in_len < CHV_AEAD_TAG_LEN)
        return CHV_ERR_ARGUMENT;
    if (aead == NULL) {
        chv_wipe(out, in_len - CHV_AEAD_TAG_LEN);
        return CHV_ERR_ARGUMENT;
    }
    return crypto->backend->aead_open(aead, nonce, ad, ad_len, in, in_len, out);
}

void chv_crypto_aead_free(const struct chv_crypto *crypto, struct chv_aead *aead)
{
    if (aead != NULL)
        crypto->backend->aead_free(aead);
}

const char *chv_crypto_lacks(const struct chv_crypto *crypto, uint32_t capability)
{
    return crypto->backend->lacks != NULL ? crypto->backend->lacks(crypto->ctx, capability) : "";
}

void chv_crypto_health(const struct chv_crypto *crypto, struct chv_backend_health *health)
{
    *health = (struct chv_backend_health){.worn = false, .last = ""};
    if (crypto->backend->health != NULL)
        crypto->backend->health(crypto->ctx, health);
}
