/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_update.h"

#include "base/memory.h"
#include "core/credential.h"
#include "core/hkdf.h"
#include "net/keeper_internal.h"

#include <string.h>

bool chv_keeper_is_update(const void *packet, size_t len)
{
    struct chv_keeper_request request;
    if (len != sizeof request)
        return false;
    memcpy(&request, packet, sizeof request);
    return request.kind == CHV_KEEPER_UPDATE;
}

struct keys {
    uint8_t update[CHV_KEY_LEN];
    uint8_t access[CHV_KEY_LEN]; /* the new one */
};

static enum chv_err derive(struct chv_keeper *keeper, const struct chv_keeper_request *request, uint32_t old_epoch,
                           const uint8_t *new, size_t new_len, struct keys *keys, struct chv_why *why)
{
    uint8_t access[CHV_INFO_MAX], update[CHV_INFO_MAX];
    size_t access_len, update_len;
    char label[CHV_KEEPER_LABEL_SIZE];
    chv_keeper_master(old_epoch, label);
    enum chv_err err = chv_info_access(request->credential, request->credential_len, access, &access_len);
    if (err == CHV_OK)
        err = chv_info_update(keeper->server, request->h_psk, request->h_psk_len, request->credential,
                              request->credential_len, new, new_len, update, &update_len);
    if (err == CHV_OK)
        err = chv_keystore_derive2(keeper->keystore, label, access, access_len, update, update_len, keys->update, why);
    if (err != CHV_OK)
        return err;
    chv_keeper_master(keeper->successor, label);
    err = chv_info_access(new, new_len, access, &access_len);
    if (err == CHV_OK)
        err = chv_keystore_derive(keeper->keystore, label, access, access_len, keys->access, why);
    return err;
}

static void answer_update(struct chv_keeper *keeper, uint64_t now, const struct chv_keeper_request *request,
                          struct chv_keeper_update_answer *answer)
{
    struct chv_credential old;
    struct chv_why why = {""};
    struct keys keys = {{0}, {0}};
    uint8_t new[CHV_CREDENTIAL_MAX];
    size_t new_len = sizeof new, body_len = sizeof answer->body;
    if (!chv_keeper_well_formed(keeper, request, &old) || chv_keeper_judge(keeper, now, &old) != CHV_KEEPER_ACCEPTED ||
        keeper->successor <= old.epoch ||
        chv_update_successor(request->credential, request->credential_len, keeper->successor, new, &new_len) != CHV_OK)
        return;
    enum chv_err err = derive(keeper, request, old.epoch, new, new_len, &keys, &why);
    chv_keeper_keystore_says(keeper, now, err, &why);
    if (err == CHV_OK)
        err = chv_update_seal(&keeper->crypto, keys.update, new, new_len, keys.access, answer->body, &body_len);
    chv_wipe(&keys, sizeof keys);
    answer->status = err == CHV_OK ? CHV_KEEPER_OK : CHV_KEEPER_UNAVAILABLE;
    answer->body_len = err == CHV_OK ? (uint16_t)body_len : 0;
}

void chv_keeper_update(struct chv_keeper *keeper, uint64_t now, const void *packet,
                       struct chv_keeper_update_answer *answer)
{
    struct chv_keeper_request request;
    memcpy(&request, packet, sizeof request);
    *answer = (struct chv_keeper_update_answer){.tag = request.tag, .status = CHV_KEEPER_MALFORMED};
    if (chv_keeper_begin(keeper, now) == CHV_ERR_UNAVAILABLE)
        answer->status = CHV_KEEPER_UNAVAILABLE;
    else
        answer_update(keeper, now, &request, answer);
}
