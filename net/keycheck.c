/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keycheck.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/memory.h"
#include "core/hkdf.h"
#include "net/keeper.h"
#include "net/log.h"

static bool is_known(uint32_t epoch, const struct chv_key_check *checks, size_t check_count)
{
    bool known = false;
    for (size_t i = 0; i < check_count; i++)
        known = known || checks[i].epoch == epoch;
    return known;
}

/* `known`: there was such a master when the configuration was written. */
static enum chv_err derive_check(struct chv_keystore *keystore, uint32_t epoch, bool known,
                                 uint8_t value[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX];
    size_t info_len;
    char label[32];
    struct chv_why detail = {""};
    (void)snprintf(label, sizeof label, "master:%" PRIu32, epoch);
    enum chv_err err = chv_info_check(info, &info_len);
    if (err == CHV_OK)
        err = chv_keystore_derive(keystore, label, info, info_len, value, &detail);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "the keystore, as it was when it was opened, has no master secret of epoch %" PRIu32 ": %s",
                        epoch,
                        known ? "by its key-check there was one: is this another keystore, or was its token "
                                "initialised anew? Bring the old one back, or 'keyadmin restore' a backup"
                              : "remove it from 'epochs', or make it with keyadmin and restart");
    if (err != CHV_OK)
        return chv_fail(why, err, "master secret of epoch %" PRIu32 ": %s", epoch,
                        detail.text[0] != '\0' ? detail.text : chv_err_text(err));
    return CHV_OK;
}

enum chv_err chv_keycheck(struct chv_keystore *keystore, uint32_t epoch, const struct chv_key_check *checks,
                          size_t check_count, struct chv_why *why)
{
    uint8_t value[CHV_SECRET_LEN];
    char has[CHV_HEX_SIZE(CHV_KEY_CHECK_LEN)], wanted[CHV_HEX_SIZE(CHV_KEY_CHECK_LEN)];
    enum chv_err err = derive_check(keystore, epoch, is_known(epoch, checks, check_count), value, why);
    for (size_t i = 0; err == CHV_OK && i < check_count; i++) {
        if (checks[i].epoch != epoch || memcmp(checks[i].value, value, CHV_KEY_CHECK_LEN) == 0)
            continue;
        chv_hex_encode(value, CHV_KEY_CHECK_LEN, has);
        chv_hex_encode(checks[i].value, CHV_KEY_CHECK_LEN, wanted);
        err = chv_fail(why, CHV_ERR_KEY,
                       "the master of epoch %" PRIu32 " has the key check value %s, the configuration says key-check = "
                       "%" PRIu32 ":%s: the keystore is another one, or its token was initialised anew: bring the old "
                       "one back (with another master every client is provisioned anew)",
                       epoch, has, epoch, wanted);
    }
    chv_wipe(value, sizeof value);
    return err;
}

void chv_keycheck_missing(const struct chv_server_config *config, chv_keycheck_fn say)
{
    for (size_t i = 0; chv_keeper_has_token(config) && i < config->epoch_count; i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "epoch %" PRIu32 " is served from a token and has no key-check: a token that was initialised "
                       "anew would not be noticed; add 'key-check = %" PRIu32 ":VALUE', the value of 'keyadmin check'",
                       config->epochs[i], config->epochs[i]);
        if (!is_known(config->epochs[i], config->checks, config->check_count))
            say(text);
    }
}

static void log_warning(const char *text)
{
    chv_log(CHV_LOG_WARNING, "%s", text);
}

void chv_keycheck_log(const struct chv_server_config *config)
{
    chv_keycheck_missing(config, log_warning);
}
