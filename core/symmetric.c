/* SPDX-License-Identifier: Apache-2.0 */
#include "core/symmetric.h"

#include "base/memory.h"

#include <string.h>

enum chv_err chv_symmetric_init(struct chv_noise_symmetric *ss, const struct chv_crypto *crypto, enum chv_hash hash,
                                enum chv_aead_alg cipher, const char *name)
{
    const struct chv_part part = {name, strlen(name)};

    *ss = (struct chv_noise_symmetric){
        .crypto = crypto, .hash = hash, .cipher = cipher, .hash_len = (uint8_t)chv_hash_len(hash)};
    /* A name that fits is padded with zeros, a longer one is hashed. */
    if (part.len <= ss->hash_len) {
        memcpy(ss->h, name, part.len);
    } else {
        enum chv_err err = chv_crypto_hash(crypto, hash, &part, 1, ss->h);
        if (err != CHV_OK)
            return err;
    }
    memcpy(ss->ck, ss->h, ss->hash_len);
    return CHV_OK;
}

void chv_symmetric_wipe(struct chv_noise_symmetric *ss)
{
    if (ss->aead != NULL)
        chv_crypto_aead_free(ss->crypto, ss->aead);
    chv_wipe(ss, sizeof *ss);
}

size_t chv_symmetric_tag_len(const struct chv_noise_symmetric *ss)
{
    return ss->key_state == CHV_NOISE_NO_KEY ? 0 : CHV_AEAD_TAG_LEN;
}

static enum chv_err hash_with(const struct chv_noise_symmetric *ss, const uint8_t *data, size_t len, uint8_t *out)
{
    const struct chv_part parts[] = {{ss->h, ss->hash_len}, {data, len}};

    return chv_crypto_hash(ss->crypto, ss->hash, parts, 2, out);
}

enum chv_err chv_symmetric_mix_hash(struct chv_noise_symmetric *ss, const uint8_t *data, size_t len)
{
    return hash_with(ss, data, len, ss->h);
}

/* HKDF's output i (4.3): HMAC(temp_key, output(i-1) || byte(i)). */
static enum chv_err hkdf_output(const struct chv_noise_symmetric *ss, const uint8_t *temp_key, const uint8_t *previous,
                                uint8_t i, uint8_t *out)
{
    const struct chv_part parts[] = {{previous, i == 1 ? 0 : ss->hash_len}, {&i, 1}};

    return chv_crypto_hmac(ss->crypto, ss->hash, temp_key, ss->hash_len, parts, 2, out);
}

/* HKDF's temp_key into prk, then its first output into ck, which the extraction was the last to read. */
static enum chv_err extract(struct chv_noise_symmetric *ss, const uint8_t *ikm, size_t len)
{
    const struct chv_part part = {ikm, len};
    enum chv_err err = chv_crypto_hmac(ss->crypto, ss->hash, ss->ck, ss->hash_len, &part, 1, ss->prk);

    return err == CHV_OK ? hkdf_output(ss, ss->prk, NULL, 1, ss->ck) : err;
}

/* InitializeKey: one AEAD object for the whole handshake. */
static enum chv_err set_key(struct chv_noise_symmetric *ss, const uint8_t key[CHV_KEY_LEN])
{
    enum chv_err err = ss->aead == NULL ? chv_crypto_aead_new(ss->crypto, ss->cipher, key, &ss->aead)
                                        : chv_crypto_aead_rekey(ss->crypto, ss->aead, key);

    if (err == CHV_OK)
        ss->key_state = CHV_NOISE_KEY_SET;
    chv_wipe(ss->prk, sizeof ss->prk);
    return err;
}

enum chv_err chv_symmetric_mix_key(struct chv_noise_symmetric *ss, const uint8_t *ikm, size_t len)
{
    enum chv_err err = extract(ss, ikm, len);

    ss->key_state = CHV_NOISE_KEY_PENDING;
    ss->n = 0;
    return err;
}

enum chv_err chv_symmetric_mix_key_and_hash(struct chv_noise_symmetric *ss, const uint8_t psk[CHV_KEY_LEN])
{
    uint8_t temp[CHV_HASH_MAX];
    enum chv_err err = extract(ss, psk, CHV_KEY_LEN);

    if (err == CHV_OK)
        err = hkdf_output(ss, ss->prk, ss->ck, 2, temp); /* temp_h */
    if (err == CHV_OK)
        err = chv_symmetric_mix_hash(ss, temp, ss->hash_len);
    if (err == CHV_OK)
        err = hkdf_output(ss, ss->prk, temp, 3, temp); /* temp_k */
    if (err == CHV_OK)
        err = set_key(ss, temp);
    ss->n = 0;
    chv_wipe(temp, sizeof temp);
    return err;
}

/* A key that stands out is computed, and the nonce for the next message made. */
static enum chv_err ready(struct chv_noise_symmetric *ss, uint8_t nonce[CHV_AEAD_NONCE_LEN])
{
    enum chv_err err = CHV_OK;

    if (ss->key_state == CHV_NOISE_KEY_PENDING) {
        uint8_t key[CHV_HASH_MAX];
        err = hkdf_output(ss, ss->prk, ss->ck, 2, key);
        if (err == CHV_OK)
            err = set_key(ss, key);
        chv_wipe(key, sizeof key);
    }
    if (ss->n == UINT64_MAX) /* reserved (5.1) */
        return CHV_ERR_EXHAUSTED;
    chv_noise_nonce(ss->cipher, ss->n++, nonce);
    return err;
}

enum chv_err chv_symmetric_encrypt_and_hash(struct chv_noise_symmetric *ss, const uint8_t *in, size_t len, uint8_t *out)
{
    const size_t out_len = len + chv_symmetric_tag_len(ss);

    if (ss->key_state == CHV_NOISE_NO_KEY) {
        if (len > 0)
            memcpy(out, in, len);
    } else {
        uint8_t nonce[CHV_AEAD_NONCE_LEN];
        enum chv_err err = ready(ss, nonce);
        if (err == CHV_OK)
            err = chv_crypto_aead_seal(ss->crypto, ss->aead, nonce, ss->h, ss->hash_len, in, len, out);
        if (err != CHV_OK)
            return err;
    }
    return chv_symmetric_mix_hash(ss, out, out_len);
}

enum chv_err chv_symmetric_decrypt_and_hash(struct chv_noise_symmetric *ss, const uint8_t *in, size_t in_len,
                                            uint8_t *out)
{
    uint8_t next[CHV_HASH_MAX];
    /* First, because opening in place overwrites the ciphertext that h takes in; and so nothing can fail after it. */
    enum chv_err err = hash_with(ss, in, in_len, next);

    if (err != CHV_OK)
        return err;
    if (ss->key_state == CHV_NOISE_NO_KEY) {
        if (out != in && in_len > 0)
            memcpy(out, in, in_len);
    } else {
        uint8_t nonce[CHV_AEAD_NONCE_LEN];
        err = ready(ss, nonce);
        if (err == CHV_OK)
            err = chv_crypto_aead_open(ss->crypto, ss->aead, nonce, ss->h, ss->hash_len, in, in_len, out);
        if (err != CHV_OK)
            return err;
    }
    memcpy(ss->h, next, ss->hash_len);
    return CHV_OK;
}

enum chv_err chv_symmetric_split(struct chv_noise_symmetric *ss, uint8_t k1[CHV_KEY_LEN], uint8_t k2[CHV_KEY_LEN],
                                 uint8_t *third)
{
    uint8_t output[2][CHV_HASH_MAX];
    enum chv_err err = extract(ss, NULL, 0); /* the first output is in ck */

    if (err == CHV_OK)
        err = hkdf_output(ss, ss->prk, ss->ck, 2, output[0]);
    if (err == CHV_OK && third != NULL)
        err = hkdf_output(ss, ss->prk, output[0], 3, output[1]);
    if (err == CHV_OK) {
        memcpy(k1, ss->ck, CHV_KEY_LEN);
        memcpy(k2, output[0], CHV_KEY_LEN);
        if (third != NULL)
            memcpy(third, output[1], CHV_KEY_LEN);
    }
    chv_wipe(ss->ck, sizeof ss->ck);
    chv_wipe(ss->prk, sizeof ss->prk);
    chv_wipe(output, sizeof output);
    return err;
}

void chv_noise_nonce(enum chv_aead_alg cipher, uint64_t n, uint8_t out[CHV_AEAD_NONCE_LEN])
{
    memset(out, 0, 4);
    for (unsigned i = 0; i < 8; i++)
        out[4 + i] = (uint8_t)(n >> 8 * (cipher == CHV_AEAD_AES256GCM ? 7 - i : i));
}

enum chv_err chv_noise_rekey(const struct chv_crypto *crypto, enum chv_aead_alg cipher, struct chv_aead *aead,
                             uint8_t k[CHV_KEY_LEN])
{
    static const uint8_t zeros[CHV_KEY_LEN];
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    uint8_t next[CHV_KEY_LEN + CHV_AEAD_TAG_LEN];

    chv_noise_nonce(cipher, UINT64_MAX, nonce);
    enum chv_err err = chv_crypto_aead_seal(crypto, aead, nonce, NULL, 0, zeros, sizeof zeros, next);
    if (err == CHV_OK)
        err = chv_crypto_aead_rekey(crypto, aead, next);
    if (err == CHV_OK)
        memcpy(k, next, CHV_KEY_LEN);
    chv_wipe(next, sizeof next);
    return err;
}
