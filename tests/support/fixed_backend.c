/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/test_backend.h"

/* Handles are the inner backend's own, so that only the members that take a context need a wrapper. */

static enum chv_err fixed_open(void *ctx, const char *uri, uint32_t *capabilities, struct chv_why *why)
{
    (void)ctx;
    (void)uri;
    (void)capabilities;
    return chv_fail(why, CHV_ERR_STATE, "made by test_fixed_init only");
}

static void fixed_close(void *ctx)
{
    (void)ctx;
}

static enum chv_err fixed_random(void *ctx, uint8_t *out, size_t len)
{
    struct test_fixed *f = ctx;
    return chv_crypto_random(f->inner, out, len);
}

static enum chv_err fixed_hash(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct test_fixed *f = ctx;
    return chv_crypto_hash(f->inner, alg, parts, n, out);
}

static enum chv_err fixed_hmac(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen,
                               const struct chv_part *parts, size_t n, uint8_t *out)
{
    struct test_fixed *f = ctx;
    return chv_crypto_hmac(f->inner, alg, key, keylen, parts, n, out);
}

static enum chv_err fixed_dh_generate(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out)
{
    struct test_fixed *f = ctx;
    if (f->next >= f->count)
        return CHV_ERR_CRYPTO;
    return chv_crypto_dh_import(f->inner, curve, f->keys[f->next++], key, public_out);
}

static enum chv_err fixed_dh_import(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                                    struct chv_dh **key, uint8_t *public_out)
{
    struct test_fixed *f = ctx;
    return chv_crypto_dh_import(f->inner, curve, private_key, key, public_out);
}

static enum chv_err fixed_aead_new(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                   struct chv_aead **aead)
{
    struct test_fixed *f = ctx;
    return chv_crypto_aead_new(f->inner, alg, key, aead);
}

void test_fixed_init(struct test_fixed *fixed, const struct chv_crypto *inner,
                     const uint8_t (*keys)[CHV_DH_PRIVATE_LEN], size_t count)
{
    *fixed = (struct test_fixed){.vtable = *inner->backend, .inner = inner, .keys = keys, .count = count};
    fixed->vtable.name = "fixed";
    fixed->vtable.description = "ephemeral keys from a list";
    fixed->vtable.open = fixed_open;
    fixed->vtable.close = fixed_close;
    fixed->vtable.random = fixed_random;
    fixed->vtable.hash = fixed_hash;
    fixed->vtable.hmac = fixed_hmac;
    fixed->vtable.dh_generate = fixed_dh_generate;
    fixed->vtable.dh_import = fixed_dh_import;
    fixed->vtable.aead_new = fixed_aead_new;
    fixed->crypto = (struct chv_crypto){
        .backend = &fixed->vtable,
        .ctx = fixed,
        .capabilities = inner->capabilities,
    };
}
