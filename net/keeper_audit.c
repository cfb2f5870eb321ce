/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_audit.h"

#include "base/memory.h"
#include "core/hkdf.h"
#include "net/keeper_internal.h"

#include <string.h>

static enum chv_err make_mac(struct chv_keeper *keeper, const struct chv_audit_seal *seal,
                             uint8_t mac[CHV_AUDIT_MAC_LEN], struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX], key[CHV_SECRET_LEN] = {0}, message[CHV_AUDIT_SEAL_MESSAGE_LEN];
    const struct chv_part part = {message, sizeof message};
    char label[CHV_KEEPER_LABEL_SIZE];
    size_t info_len = 0;
    chv_keeper_master(seal->epoch, label);
    chv_audit_seal_message(seal, message);
    enum chv_err err = chv_info_audit(info, &info_len);
    if (err == CHV_OK)
        err = chv_keystore_derive(keeper->keystore, label, info, info_len, key, why);
    if (err == CHV_OK)
        err = chv_crypto_hmac(&keeper->crypto, CHV_HASH_SHA256, key, sizeof key, &part, 1, mac);
    chv_wipe(key, sizeof key);
    return err;
}

enum chv_err chv_keeper_audit(struct chv_keeper *keeper, uint64_t now, const void *packet, size_t len,
                              struct chv_keeper_audit_answer *answer)
{
    struct chv_keeper_audit_request q;
    struct chv_why why = {""};
    if (len != sizeof q)
        return CHV_ERR_MALFORMED;
    memcpy(&q, packet, sizeof q);
    if (q.kind != CHV_KEEPER_AUDIT || q.epoch == 0 || q.n == 0)
        return CHV_ERR_MALFORMED;
    *answer = (struct chv_keeper_audit_answer){.tag = q.tag, .status = CHV_KEEPER_UNAVAILABLE};
    if (chv_keeper_begin(keeper, now) == CHV_ERR_UNAVAILABLE)
        return CHV_OK;
    struct chv_audit_seal seal = {.n = q.n, .epoch = q.epoch, .time = q.time};
    memcpy(seal.hash, q.hash, sizeof seal.hash);
    enum chv_err err = make_mac(keeper, &seal, answer->mac, &why);
    if (err == CHV_ERR_NOT_FOUND) {
        answer->status = CHV_KEEPER_MALFORMED; /* that epoch's master was removed: it is no fault of the keystore */
        return CHV_OK;
    }
    chv_keeper_keystore_says(keeper, now, err, &why);
    if (err == CHV_OK)
        answer->status = CHV_KEEPER_OK;
    return CHV_OK;
}
