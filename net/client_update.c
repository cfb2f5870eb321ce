/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/client_update.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/hkdf.h"

enum { OLDER_MAX = 64 }; /* at a time */

static enum chv_err open_body(const struct chv_client_key *key, const uint8_t *h_fin, const struct chv_update *body,
                              uint8_t access[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX], update_key[CHV_SECRET_LEN];
    size_t len;
    struct chv_crypto crypto = {.backend = NULL};
    enum chv_err err = chv_info_update(key->server, h_fin, CHV_KEY_LEN, key->credential, key->credential_len,
                                       body->credential, body->credential_len, info, &len);
    if (err != CHV_OK)
        return chv_fail(why, err, "the key update is malformed");
    err = chv_backend_open("openssl", &crypto, why); /* whoever computes the session: there may be no AES-GCM */
    if (err != CHV_OK)
        return err;
    err = chv_keystore_derive(key->keystore, key->label, info, len, update_key, why);
    if (err == CHV_OK) {
        err = chv_update_open(&crypto, update_key, body, access);
        if (err != CHV_OK)
            err = chv_fail(why, err, "the key update does not open: it is not for this key, or not of this server");
    }
    chv_wipe(update_key, sizeof update_key);
    chv_backend_close(&crypto);
    return err;
}

enum chv_err chv_client_update_take(const struct chv_client_key *key, const uint8_t *h_fin, const uint8_t *body,
                                    size_t len, struct chv_client_update *update, struct chv_why *why)
{
    struct chv_update parsed;
    if (key->label[0] == '\0')
        return chv_fail(why, CHV_ERR_PROTOCOL, "a key update in profile key, which has no access key");
    enum chv_err err = chv_update_accept(&key->parsed, body, len, &parsed, why);
    if (err == CHV_OK)
        err = open_body(key, h_fin, &parsed, update->access, why);
    if (err != CHV_OK) {
        chv_wipe(update, sizeof *update);
        return err;
    }
    update->epoch = parsed.parsed.epoch;
    update->serial = parsed.parsed.serial;
    update->credential_len = parsed.credential_len;
    memcpy(update->credential, parsed.credential, parsed.credential_len);
    return CHV_OK;
}

static void make_labels(uint32_t epoch, uint32_t serial, char access[CHV_LABEL_MAX + 1],
                        char credential[CHV_LABEL_MAX + 1])
{
    (void)snprintf(access, CHV_LABEL_MAX + 1, "access:%" PRIu32 ".%" PRIu32, epoch, serial);
    (void)snprintf(credential, CHV_LABEL_MAX + 1, "credential:%" PRIu32 ".%" PRIu32, epoch, serial);
}

/* Whether the stored key of that label is this one, by their check values. */
static enum chv_err is_stored(struct chv_keystore *keystore, const char *label, const uint8_t access[CHV_SECRET_LEN],
                              bool *there, bool *same, struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX], has[CHV_SECRET_LEN], wanted[CHV_SECRET_LEN];
    size_t len;
    struct chv_crypto crypto = {.backend = NULL};
    *there = *same = false;
    enum chv_err err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_keystore_derive(keystore, label, info, len, has, why);
    if (err == CHV_ERR_NOT_FOUND)
        return CHV_OK;
    *there = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_hkdf_expand(&crypto, CHV_HASH_SHA256, access, CHV_SECRET_LEN, info, len, wanted, sizeof wanted);
    if (err == CHV_OK)
        err = chv_hkdf_forget(&crypto, CHV_HASH_SHA256);
    chv_backend_close(&crypto);
    *same = err == CHV_OK && chv_equal(has, wanted, sizeof has) != 0;
    return err;
}

enum chv_err chv_client_update_store(struct chv_keystore *keystore, const struct chv_client_update *update,
                                     struct chv_why *why)
{
    char access[CHV_LABEL_MAX + 1], credential[CHV_LABEL_MAX + 1];
    bool there, same;
    make_labels(update->epoch, update->serial, access, credential);
    enum chv_err err = is_stored(keystore, access, update->access, &there, &same, why);
    if (err == CHV_OK && there && !same) /* of a master that is another one now: the server has just said so */
        err = chv_keystore_remove(keystore, access, why);
    if (err == CHV_OK)
        err = chv_keystore_data_put(keystore, credential, update->credential, update->credential_len, why);
    if (err == CHV_OK && !same)
        err = chv_keystore_import(keystore, access, update->access, why);
    return err == CHV_OK ? chv_keystore_commit(keystore, why) : err;
}

/* --- older ones ------------------------------------------------------------------------------------------------------
 */

struct older {
    const struct chv_credential *than;
    struct {
        uint32_t epoch, serial;
    } list[OLDER_MAX];
    size_t count;
};

static enum chv_err collect(void *arg, const struct chv_key_info *info)
{
    struct older *older = arg;
    const struct chv_credential *than = older->than;
    uint32_t epoch, serial;
    if (info->use != CHV_USE_SECRET || !chv_client_key_label(info->label, &epoch, &serial) || older->count == OLDER_MAX)
        return CHV_OK;
    if (epoch < than->epoch || (epoch == than->epoch && serial < than->serial)) {
        older->list[older->count].epoch = epoch;
        older->list[older->count++].serial = serial;
    }
    return CHV_OK;
}

enum chv_err chv_client_update_has_older(const struct chv_client_key *key, bool *has, struct chv_why *why)
{
    struct older older = {.than = &key->parsed};
    *has = false;
    if (key->label[0] == '\0')
        return CHV_OK;
    enum chv_err err = chv_keystore_list(key->keystore, collect, &older, why);
    *has = err == CHV_OK && older.count > 0;
    return err;
}

/* A key without a credential is nobody's any more; one with another client's is not ours. */
static bool is_ours(struct chv_keystore *keystore, const char *credential, const char *id)
{
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = sizeof bytes;
    struct chv_credential c;
    enum chv_err err = chv_keystore_data_get(keystore, credential, bytes, &len, NULL);
    if (err == CHV_ERR_NOT_FOUND)
        return true;
    return err == CHV_OK && chv_credential_parse(bytes, len, &c, NULL) == CHV_OK && strcmp(c.id, id) == 0;
}

enum chv_err chv_client_update_retire(struct chv_keystore *keystore, const struct chv_client_key *key,
                                      struct chv_why *why)
{
    struct older older = {.than = &key->parsed};
    char access[CHV_LABEL_MAX + 1], credential[CHV_LABEL_MAX + 1];
    bool removed = false;
    enum chv_err err = chv_keystore_list(keystore, collect, &older, why);
    for (size_t i = 0; err == CHV_OK && i < older.count; i++) {
        make_labels(older.list[i].epoch, older.list[i].serial, access, credential);
        if (!is_ours(keystore, credential, key->parsed.id))
            continue;
        removed = true;
        err = chv_keystore_remove(keystore, access, why); /* first: no key ever stands without its credential */
        if (err == CHV_OK && chv_keystore_remove(keystore, credential, why) != CHV_OK && why != NULL)
            why->text[0] = '\0'; /* it was not there */
    }
    return err == CHV_OK && removed ? chv_keystore_commit(keystore, why) : err;
}
