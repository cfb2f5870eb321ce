/* SPDX-License-Identifier: Apache-2.0 */
#include "core/update.h"

#include "base/bytes.h"
#include "base/memory.h"

#include <string.h>

static const uint8_t nonce_0[CHV_AEAD_NONCE_LEN];

enum chv_err chv_update_successor(const uint8_t *old, size_t old_len, uint32_t epoch, uint8_t *out, size_t *len)
{
    struct chv_credential c;
    enum chv_err err = chv_credential_parse(old, old_len, &c, NULL);
    if (err != CHV_OK)
        return err;
    if (epoch <= c.epoch)
        return CHV_ERR_ARGUMENT;
    c.epoch = epoch;
    return chv_credential_encode(&c, out, len);
}

enum chv_err chv_update_seal(const struct chv_crypto *crypto, const uint8_t update_key[CHV_KEY_LEN],
                             const uint8_t *credential, size_t credential_len, const uint8_t access[CHV_KEY_LEN],
                             uint8_t *body, size_t *body_len)
{
    struct chv_writer w;
    struct chv_aead *aead = NULL;
    chv_writer_init(&w, body, *body_len);
    if (credential_len > CHV_CREDENTIAL_MAX)
        return CHV_ERR_ARGUMENT;
    chv_write_u16(&w, (uint16_t)credential_len);
    chv_write_bytes(&w, credential, credential_len);
    uint8_t *sealed = chv_write_room(&w, CHV_UPDATE_SEALED_LEN);
    if (sealed == NULL)
        return CHV_ERR_SPACE;
    enum chv_err err = chv_crypto_aead_new(crypto, CHV_AEAD_AES256GCM, update_key, &aead);
    if (err == CHV_OK)
        err = chv_crypto_aead_seal(crypto, aead, nonce_0, NULL, 0, access, CHV_KEY_LEN, sealed);
    chv_crypto_aead_free(crypto, aead);
    if (err == CHV_OK)
        *body_len = w.len;
    else
        chv_wipe(body, w.len);
    return err;
}

static enum chv_err check_same(const struct chv_credential *old, const struct chv_credential *new, struct chv_why *why)
{
    const char *other = strcmp(old->id, new->id) != 0  ? "another client id"
                        : old->profile != new->profile ? "another profile"
                        : old->has_identity != new->has_identity ||
                                memcmp(old->identity_hash, new->identity_hash, sizeof old->identity_hash) != 0
                            ? "another identity"
                            : NULL;
    if (other != NULL)
        return chv_fail(why, CHV_ERR_PROTOCOL, "the key update is for %s", other);
    if (new->epoch < old->epoch || (new->epoch == old->epoch &&new->serial <= old->serial))
        return chv_fail(why, CHV_ERR_PROTOCOL, "the key update is not newer than the key in use");
    return CHV_OK;
}

enum chv_err chv_update_accept(const struct chv_credential *old, const uint8_t *body, size_t body_len,
                               struct chv_update *update, struct chv_why *why)
{
    struct chv_reader r;
    struct chv_update u = {.credential = NULL};
    chv_reader_init(&r, body, body_len);
    u.credential_len = chv_read_u16(&r);
    u.credential = chv_read_bytes(&r, u.credential_len);
    u.sealed = chv_read_bytes(&r, CHV_UPDATE_SEALED_LEN);
    if (!chv_reader_done(&r) || chv_credential_parse(u.credential, u.credential_len, &u.parsed, NULL) != CHV_OK)
        return chv_fail(why, CHV_ERR_MALFORMED, "the key update is malformed");
    enum chv_err err = check_same(old, &u.parsed, why);
    if (err == CHV_OK)
        *update = u;
    return err;
}

enum chv_err chv_update_open(const struct chv_crypto *crypto, const uint8_t update_key[CHV_KEY_LEN],
                             const struct chv_update *update, uint8_t access[CHV_KEY_LEN])
{
    struct chv_aead *aead = NULL;
    enum chv_err err = chv_crypto_aead_new(crypto, CHV_AEAD_AES256GCM, update_key, &aead);
    if (err == CHV_OK)
        err = chv_crypto_aead_open(crypto, aead, nonce_0, NULL, 0, update->sealed, CHV_UPDATE_SEALED_LEN, access);
    chv_crypto_aead_free(crypto, aead);
    if (err != CHV_OK)
        chv_wipe(access, CHV_KEY_LEN);
    return err;
}
