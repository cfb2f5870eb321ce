/* SPDX-License-Identifier: Apache-2.0 */
#include "net/client_key.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/hkdf.h"

static const char access_prefix[] = "access:";

/* A number from 1 in canonical decimal; *end is set behind it. */
static bool parse_number(const char *text, uint32_t *value, const char **end)
{
    uint64_t v = 0;
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 10 || text[0] == '0')
        return false;
    for (size_t i = 0; i < n; i++)
        v = v * 10 + (uint64_t)(text[i] - '0');
    *value = (uint32_t)v;
    *end = text + n;
    return v <= UINT32_MAX;
}

/* "access:EPOCH.SERIAL": the order of credentials of one id. */
static bool parse_label(const char *label, uint32_t *epoch, uint32_t *serial)
{
    const char *p = label + sizeof access_prefix - 1;
    if (strncmp(label, access_prefix, sizeof access_prefix - 1) != 0 || !parse_number(p, epoch, &p) || *p != '.')
        return false;
    return parse_number(p + 1, serial, &p) && *p == '\0';
}

struct newest {
    uint32_t epoch, serial;
};

static enum chv_err look_at(void *arg, const struct chv_key_info *info)
{
    struct newest *newest = arg;
    uint32_t epoch, serial;
    if (info->use != CHV_USE_SECRET || !parse_label(info->label, &epoch, &serial))
        return CHV_OK;
    if (epoch > newest->epoch || (epoch == newest->epoch && serial > newest->serial))
        *newest = (struct newest){epoch, serial};
    return CHV_OK;
}

static enum chv_err get_text(struct chv_keystore *ks, const char *label, char *out, size_t size, struct chv_why *why)
{
    size_t len = size - 1;
    enum chv_err err = chv_keystore_data_get(ks, label, (uint8_t *)out, &len, why);
    if (err != CHV_OK)
        return err;
    out[len] = '\0';
    if (memchr(out, '\0', len) != NULL)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"%s\" of the keystore holds a NUL", label);
    return CHV_OK;
}

enum chv_err chv_client_key_load(struct chv_client_key *key, struct chv_keystore *keystore, struct chv_why *why)
{
    struct newest newest = {0, 0};
    char label[CHV_LABEL_MAX + 1];
    memset(key, 0, sizeof *key);
    key->keystore = keystore;
    key->suite = CHV_SUITE_X25519_AESGCM_SHA256;
    enum chv_err err = chv_keystore_list(keystore, look_at, &newest, why);
    if (err != CHV_OK)
        return err;
    if (newest.epoch == 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND,
                        "there is no access key in this keystore: it is not one made by 'keyadmin client add'");
    (void)snprintf(key->label, sizeof key->label, "%s%lu.%lu", access_prefix, (unsigned long)newest.epoch,
                   (unsigned long)newest.serial);
    (void)snprintf(label, sizeof label, "credential:%lu.%lu", (unsigned long)newest.epoch,
                   (unsigned long)newest.serial);
    key->credential_len = sizeof key->credential;
    err = chv_keystore_data_get(keystore, label, key->credential, &key->credential_len, why);
    if (err == CHV_OK)
        err = get_text(keystore, "server", key->server, sizeof key->server, why);
    if (err == CHV_OK)
        err = get_text(keystore, "address", key->address, sizeof key->address, why);
    if (err != CHV_OK)
        return err;
    if (chv_credential_parse(key->credential, key->credential_len, &key->parsed, NULL) != CHV_OK ||
        key->parsed.epoch != newest.epoch || key->parsed.serial != newest.serial)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"%s\" of the keystore is not the credential of its key",
                        label);
    if (!chv_server_name_valid(key->server))
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"server\" of the keystore is not a server name");
    return CHV_OK;
}

void chv_client_key_config(const struct chv_client_key *key, struct chv_session_config *config)
{
    *config = (struct chv_session_config){
        .role = CHV_CLIENT,
        .profile = key->parsed.profile,
        .suite = key->suite,
        .credential = key->credential,
        .credential_len = key->credential_len,
    };
}

static enum chv_err derive_psk(struct chv_client_key *key, const struct chv_key_request *request,
                               uint8_t psk[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX];
    size_t len;
    if (request->kind != CHV_KEY_PSK || request->profile != CHV_PROFILE_PSK)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "profile %s is not served by this keystore",
                        chv_profile_name(request->profile));
    enum chv_err err = chv_info_session(key->server, request->h_psk, request->h_psk_len, info, &len);
    if (err != CHV_OK)
        return chv_fail(why, err, "session PSK: %s", chv_err_text(err));
    return chv_keystore_derive(key->keystore, key->label, info, len, psk, why);
}

void chv_client_key_answer(struct chv_client_key *key, struct chv_conn *conn, const struct chv_key_request *request)
{
    uint8_t psk[CHV_SECRET_LEN];
    struct chv_why why = {""};
    enum chv_err err = derive_psk(key, request, psk, &why);
    if (err == CHV_OK) {
        err = chv_conn_key_answer(conn, psk);
    } else {
        chv_conn_explain(conn, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
        err = chv_conn_key_refuse(conn, CHV_REFUSE_UNAVAILABLE);
    }
    (void)err; /* a session that fails on it ends the connection, which says so */
    chv_wipe(psk, sizeof psk);
}
