/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_receipt.h"

#include "base/memory.h"
#include "net/keeper_internal.h"

#include <stdio.h>
#include <string.h>

static enum chv_err on_key(void *arg, const struct chv_key_info *info)
{
    bool *found = arg;
    *found |= strcmp(info->label, CHV_RECEIPT_LABEL) == 0 && info->use == CHV_USE_RECEIPT;
    return CHV_OK;
}

/* A chv_secret_fn: the server is given the passphrase of its keystore, and no other. */
static enum chv_err no_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                              struct chv_why *why)
{
    (void)prompt;
    (void)confirm;
    (void)out;
    (void)cap;
    (void)len;
    return chv_fail(why, CHV_ERR_NO_SECRET,
                    "receipt-key: %s: is encrypted: the server takes a key without a passphrase here, in a file that "
                    "only it can read",
                    (const char *)arg);
}

static enum chv_err open_pem(struct chv_keeper *keeper, const char *file, struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    char uri[PATH_MAX + sizeof "pem:"], name[PATH_MAX];
    (void)snprintf(uri, sizeof uri, "pem:%s", file);
    (void)snprintf(name, sizeof name, "%s", file);
    enum chv_err err = chv_keystore_open(uri, &options, &keeper->receipt_keystore, why);
    return err == CHV_OK ? chv_keystore_unlock(keeper->receipt_keystore, no_secret, name, why) : err;
}

enum chv_err chv_keeper_receipt_open(struct chv_keeper *keeper, const struct chv_server_config *config,
                                     struct chv_why *why)
{
    const char *file = config->files.receipt_key;
    enum chv_err err = CHV_OK;
    bool found = false;
    if (!config->files.receipts)
        return CHV_OK;
    if (file[0] != '\0')
        err = open_pem(keeper, file, why);
    else
        keeper->receipt_keystore = keeper->keystore;
    if (err == CHV_OK)
        err = chv_keystore_list(keeper->receipt_keystore, on_key, &found, why);
    if (err == CHV_OK && !found && file[0] != '\0')
        err = chv_fail(why, CHV_ERR_CONFIG,
                       "receipt-key: %s: is no key that signs receipts: 'keyadmin receipt new-key --out' makes one",
                       file);
    else if (err == CHV_OK && !found)
        err = chv_fail(why, CHV_ERR_CONFIG,
                       "receipts = on needs a key that signs them, which the keystore does not have: run "
                       "'keyadmin receipt new-key'");
    keeper->receipts = err == CHV_OK;
    return err;
}

bool chv_keeper_is_receipt(const void *packet, size_t len)
{
    struct chv_keeper_receipt_request request;
    if (len != sizeof request)
        return false;
    memcpy(&request, packet, sizeof request);
    return request.kind == CHV_KEEPER_RECEIPT;
}

static void answer_receipt(struct chv_keeper *keeper, uint64_t now, const struct chv_keeper_receipt_request *request,
                           struct chv_keeper_receipt_answer *answer)
{
    struct chv_receipt receipt = {.size = request->size, .time = now};
    struct chv_why why = {""};
    char text[CHV_RECEIPT_MAX];
    uint8_t signature[CHV_SIGNATURE_MAX];
    size_t len = 0, signature_len = sizeof signature;
    if (!keeper->receipts || memchr(request->client, '\0', sizeof request->client) == NULL ||
        memchr(request->path, '\0', sizeof request->path) == NULL)
        return;
    memcpy(receipt.server, keeper->server, sizeof receipt.server);
    memcpy(receipt.client, request->client, sizeof receipt.client);
    memcpy(receipt.path, request->path, sizeof receipt.path);
    memcpy(receipt.sha256, request->sha256, sizeof receipt.sha256);
    if (chv_receipt_format(&receipt, text, &len) != CHV_OK)
        return;
    enum chv_err err = chv_keystore_sign(keeper->receipt_keystore, CHV_RECEIPT_LABEL, (const uint8_t *)text, len,
                                         signature, &signature_len, &why);
    chv_keeper_keystore_says(keeper, now, err, &why);
    answer->status = err == CHV_OK ? CHV_KEEPER_OK : CHV_KEEPER_UNAVAILABLE;
    if (err != CHV_OK)
        return;
    answer->time = now;
    answer->signature_len = (uint16_t)signature_len;
    memcpy(answer->signature, signature, signature_len);
}

void chv_keeper_receipt(struct chv_keeper *keeper, uint64_t now, const void *packet,
                        struct chv_keeper_receipt_answer *answer)
{
    struct chv_keeper_receipt_request request;
    memcpy(&request, packet, sizeof request);
    *answer = (struct chv_keeper_receipt_answer){.tag = request.tag, .status = CHV_KEEPER_MALFORMED};
    if (chv_keeper_begin(keeper, now) == CHV_ERR_UNAVAILABLE)
        answer->status = CHV_KEEPER_UNAVAILABLE;
    else
        answer_receipt(keeper, now, &request, answer);
}
