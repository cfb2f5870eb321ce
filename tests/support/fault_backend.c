/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/test_backend.h"

#include "base/memory.h"

#include <stdlib.h>

/* A handle's wrapper: members that take a handle get no context. */
struct handle {
    struct test_fault *fault;
    struct chv_dh *dh;
    struct chv_aead *aead;
};

static struct handle *from_dh(struct chv_dh *key)
{
    return (struct handle *)(void *)key;
}

static struct handle *from_aead(struct chv_aead *aead)
{
    return (struct handle *)(void *)aead;
}

/* Counts a fallible call; true if it is the one to fail. */
static bool fails(struct test_fault *f)
{
    f->calls++;
    if (f->fail_at == 0 || f->calls != f->fail_at)
        return false;
    f->fired = true;
    return true;
}

static enum chv_err fault_open(void *ctx, const char *uri, uint32_t *capabilities, struct chv_why *why)
{
    (void)ctx;
    (void)uri;
    (void)capabilities;
    return chv_fail(why, CHV_ERR_STATE, "made by test_fault_init only");
}

static void fault_close(void *ctx)
{
    (void)ctx;
}

static enum chv_err fault_random(void *ctx, uint8_t *out, size_t len)
{
    struct test_fault *f = ctx;
    return fails(f) ? f->fail_with : chv_crypto_random(f->inner, out, len);
}

static enum chv_err fault_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct test_fault *f = ctx;
    return fails(f) ? f->fail_with : chv_crypto_hash(f->inner, alg, parts, n, out);
}

static enum chv_err fault_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen,
                               const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct test_fault *f = ctx;
    return fails(f) ? f->fail_with : chv_crypto_hmac(f->inner, alg, key, keylen, parts, n, out);
}

static enum chv_err wrap_dh(struct test_fault *f, enum chv_curve curve, const uint8_t *private_key, struct chv_dh **key,
                            uint8_t *public_out)
{
    if (fails(f))
        return f->fail_with;
    struct handle *h = calloc(1, sizeof *h);
    if (h == NULL)
        return CHV_ERR_MEMORY;
    h->fault = f;
    enum chv_err err = private_key != NULL ? chv_crypto_dh_import(f->inner, curve, private_key, &h->dh, public_out)
                                           : chv_crypto_dh_generate(f->inner, curve, &h->dh, public_out);
    if (err != CHV_OK) {
        free(h);
        return err;
    }
    f->open_dh++;
    *key = (struct chv_dh *)(void *)h;
    return CHV_OK;
}

static enum chv_err fault_dh_generate(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out)
{
    return wrap_dh(ctx, curve, NULL, key, public_out);
}

static enum chv_err fault_dh_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                    struct chv_dh **key, uint8_t *public_out)
{
    return wrap_dh(ctx, curve, private_key, key, public_out);
}

static enum chv_err fault_dh_derive(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN])
{
    struct handle *h = from_dh(key);
    return fails(h->fault) ? h->fault->fail_with
                           : chv_crypto_dh_derive(h->fault->inner, h->dh, peer_public, shared_out);
}

static void fault_dh_free(struct chv_dh *key)
{
    struct handle *h = from_dh(key);
    if (h == NULL)
        return;
    h->fault->open_dh--;
    chv_crypto_dh_free(h->fault->inner, h->dh);
    free(h);
}

static enum chv_err fault_aead_new(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                   struct chv_aead **aead)
{
    struct test_fault *f = ctx;
    if (fails(f))
        return f->fail_with;
    struct handle *h = calloc(1, sizeof *h);
    if (h == NULL)
        return CHV_ERR_MEMORY;
    h->fault = f;
    enum chv_err err = chv_crypto_aead_new(f->inner, alg, key, &h->aead);
    if (err != CHV_OK) {
        free(h);
        return err;
    }
    f->open_aead++;
    *aead = (struct chv_aead *)(void *)h;
    return CHV_OK;
}

static enum chv_err fault_aead_rekey(struct chv_aead *aead, const uint8_t key[CHV_KEY_LEN])
{
    struct handle *h = from_aead(aead);
    return fails(h->fault) ? h->fault->fail_with : chv_crypto_aead_rekey(h->fault->inner, h->aead, key);
}

static enum chv_err fault_aead_seal(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                    size_t ad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    struct handle *h = from_aead(aead);
    return fails(h->fault) ? h->fault->fail_with
                           : chv_crypto_aead_seal(h->fault->inner, h->aead, nonce, ad, ad_len, in, len, out);
}

static enum chv_err fault_aead_open(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                                    size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out)
{
    struct handle *h = from_aead(aead);
    if (fails(h->fault)) {
        chv_wipe(out, in_len - CHV_AEAD_TAG_LEN);
        return h->fault->fail_with;
    }
    return chv_crypto_aead_open(h->fault->inner, h->aead, nonce, ad, ad_len, in, in_len, out);
}

static void fault_aead_free(struct chv_aead *aead)
{
    struct handle *h = from_aead(aead);
    if (h == NULL)
        return;
    h->fault->open_aead--;
    chv_crypto_aead_free(h->fault->inner, h->aead);
    free(h);
}

static const struct chv_backend fault_backend = {
    .abi = CHV_BACKEND_ABI,
    .name = "fault",
    .description = "fails on demand",
    .context_size = sizeof(struct test_fault),
    .open = fault_open,
    .close = fault_close,
    .random = fault_random,
    .hash = fault_hash,
    .hmac = fault_hmac,
    .dh_generate = fault_dh_generate,
    .dh_import = fault_dh_import,
    .dh_derive = fault_dh_derive,
    .dh_free = fault_dh_free,
    .aead_new = fault_aead_new,
    .aead_rekey = fault_aead_rekey,
    .aead_seal = fault_aead_seal,
    .aead_open = fault_aead_open,
    .aead_free = fault_aead_free,
};

void test_fault_init(struct test_fault *fault, const struct chv_crypto *inner)
{
    *fault = (struct test_fault){.inner = inner, .fail_with = CHV_ERR_CRYPTO};
    fault->crypto = (struct chv_crypto){
        .backend = &fault_backend,
        .ctx = fault,
        .capabilities = inner->capabilities,
    };
}

void test_fault_arm(struct test_fault *fault, unsigned long n)
{
    fault->calls = 0;
    fault->fail_at = n;
    fault->fired = false;
}
