/* SPDX-License-Identifier: Apache-2.0 */
#include "core/record.h"

#include "base/memory.h"
#include "core/noise.h"
#include "core/wire.h"

/* The context for the next record, re-keyed where its number asks for it (Noise, 11.3: Rekey). */
static enum chv_err prepare(struct chv_direction *d, const struct chv_crypto *crypto, enum chv_aead_alg alg)
{
    if (d->n == UINT64_MAX) /* reserved for Rekey (Noise, 4.2) */
        return CHV_ERR_EXHAUSTED;
    if (d->aead == NULL) {
        enum chv_err err = chv_crypto_aead_new(crypto, alg, d->key, &d->aead);
        if (err != CHV_OK)
            return err;
    }
    if (d->n > 0 && d->n % CHV_REKEY_RECORDS == 0)
        return chv_noise_rekey(crypto, alg, d->aead, d->key);
    return CHV_OK;
}

enum chv_err chv_direction_seal(struct chv_direction *d, const struct chv_crypto *crypto, enum chv_aead_alg alg,
                                uint8_t type, uint8_t *frame, size_t body_len, size_t *frame_len)
{
    enum chv_err err = prepare(d, crypto, alg);
    if (err != CHV_OK)
        return err;

    const size_t plain_len = CHV_RECORD_TYPE_LEN + body_len;
    const size_t sealed_len = plain_len + CHV_AEAD_TAG_LEN;
    uint8_t *plain = frame + CHV_FRAME_LENGTH_LEN;
    plain[0] = type;

    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    chv_noise_nonce(alg, d->n, nonce);
    err = chv_crypto_aead_seal(crypto, d->aead, nonce, NULL, 0, plain, plain_len, plain);
    if (err != CHV_OK)
        return err;
    d->n++;
    chv_put_u16(frame, (uint16_t)sealed_len);
    *frame_len = CHV_FRAME_LENGTH_LEN + sealed_len;
    return CHV_OK;
}

enum chv_err chv_direction_open(struct chv_direction *d, const struct chv_crypto *crypto, enum chv_aead_alg alg,
                                uint8_t *frame, size_t frame_len, uint8_t *type, const uint8_t **body, size_t *body_len)
{
    if (frame_len < CHV_RECORD_FRAME_MIN || chv_get_u16(frame) != frame_len - CHV_FRAME_LENGTH_LEN)
        return CHV_ERR_PROTOCOL;
    enum chv_err err = prepare(d, crypto, alg);
    if (err != CHV_OK)
        return err;

    uint8_t *sealed = frame + CHV_FRAME_LENGTH_LEN;
    const size_t sealed_len = frame_len - CHV_FRAME_LENGTH_LEN;
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    chv_noise_nonce(alg, d->n, nonce);
    err = chv_crypto_aead_open(crypto, d->aead, nonce, NULL, 0, sealed, sealed_len, sealed);
    if (err != CHV_OK)
        return err;
    d->n++;
    *type = sealed[0];
    *body = sealed + CHV_RECORD_TYPE_LEN;
    *body_len = sealed_len - CHV_RECORD_TYPE_LEN - CHV_AEAD_TAG_LEN;
    return CHV_OK;
}

void chv_direction_idle(struct chv_direction *d, const struct chv_crypto *crypto)
{
    chv_crypto_aead_free(crypto, d->aead);
    d->aead = NULL;
}

void chv_direction_wipe(struct chv_direction *d, const struct chv_crypto *crypto)
{
    chv_direction_idle(d, crypto);
    chv_wipe(d, sizeof *d);
}
