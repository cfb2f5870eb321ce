/* SPDX-License-Identifier: Apache-2.0 */
#include "net/client_key.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "core/wire.h"

static const char access_prefix[] = "access:";
static const char identity_label[] = "identity";

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
bool chv_client_key_label(const char *label, uint32_t *epoch, uint32_t *serial)
{
    const char *p = label + sizeof access_prefix - 1;
    if (strncmp(label, access_prefix, sizeof access_prefix - 1) != 0 || !parse_number(p, epoch, &p) || *p != '.')
        return false;
    return parse_number(p + 1, serial, &p) && *p == '\0';
}

struct newest {
    uint32_t epoch, serial;
    uint32_t below_epoch, below_serial; /* older than this one; 0, 0: whichever */
};

static enum chv_err look_at(void *arg, const struct chv_key_info *info)
{
    struct newest *newest = arg;
    uint32_t epoch, serial;
    if (info->use != CHV_USE_SECRET || !chv_client_key_label(info->label, &epoch, &serial))
        return CHV_OK;
    if (newest->below_epoch != 0 &&
        (epoch > newest->below_epoch || (epoch == newest->below_epoch && serial >= newest->below_serial)))
        return CHV_OK;
    if (epoch > newest->epoch || (epoch == newest->epoch && serial > newest->serial)) {
        newest->epoch = epoch;
        newest->serial = serial;
    }
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

/* Those of an item that may be missing. */
static enum chv_err get_optional(struct chv_keystore *ks, const char *label, char *out, size_t size,
                                 struct chv_why *why)
{
    enum chv_err err = get_text(ks, label, out, size, why);
    if (err != CHV_ERR_NOT_FOUND)
        return err;
    out[0] = '\0';
    if (why != NULL)
        why->text[0] = '\0';
    return CHV_OK;
}

static enum chv_err load_credential(struct chv_client_key *key, struct newest newest, struct chv_why *why)
{
    char label[CHV_LABEL_MAX + 1];
    enum chv_err err = chv_keystore_list(key->keystore, look_at, &newest, why);
    if (err != CHV_OK)
        return err;
    if (newest.epoch == 0)
        return chv_fail(
            why, CHV_ERR_NOT_FOUND,
            "there is no access key in this keystore: it is not one made by 'keyadmin client add', or, if it is a "
            "token, its name (object=) is another one or it was initialised anew");
    (void)snprintf(key->label, sizeof key->label, "%s%lu.%lu", access_prefix, (unsigned long)newest.epoch,
                   (unsigned long)newest.serial);
    (void)snprintf(label, sizeof label, "credential:%lu.%lu", (unsigned long)newest.epoch,
                   (unsigned long)newest.serial);
    key->credential_len = sizeof key->credential;
    err = chv_keystore_data_get(key->keystore, label, key->credential, &key->credential_len, why);
    if (err != CHV_OK)
        return err;
    if (chv_credential_parse(key->credential, key->credential_len, &key->parsed, NULL) != CHV_OK ||
        key->parsed.epoch != newest.epoch || key->parsed.serial != newest.serial)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"%s\" of the keystore is not the credential of its key",
                        label);
    if (key->profile != 0 && key->profile != key->parsed.profile)
        return chv_fail(
            why, CHV_ERR_CONFIG,
            "profile %s is wanted, but the keystore's credential is for profile %s: it has to be issued for "
            "that by 'keyadmin client add'",
            chv_profile_name(key->profile), chv_profile_name(key->parsed.profile));
    key->profile = key->parsed.profile;
    return CHV_OK;
}

static enum chv_err load_server_key(struct chv_client_key *key, struct chv_why *why)
{
    char text[CHV_IDENTITY_TEXT_MAX];
    enum chv_err err = get_optional(key->keystore, "server-key", text, sizeof text, why);
    if (err != CHV_OK || text[0] == '\0')
        return err;
    char *space = strchr(text, ' ');
    if (space != NULL)
        *space = '\0';
    if (space == NULL || chv_identity_parse(text, space + 1, &key->server_key) != CHV_OK)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"server-key\" of the keystore is no public key");
    key->has_server_key = true;
    return CHV_OK;
}

static enum chv_err load_identity(struct chv_client_key *key, struct chv_why *why)
{
    struct chv_why lack = {""};
    enum chv_err err = chv_client_key_identity(key, key->keystore, &lack);
    if (err == CHV_ERR_NOT_FOUND || err == CHV_OK) /* it may be elsewhere */
        return CHV_OK;
    return chv_fail(why, err, "%s", lack.text[0] != '\0' ? lack.text : chv_err_text(err));
}

/* What the keystore says it is for, where nobody has said it. */
static enum chv_err load_profile(struct chv_client_key *key, struct chv_why *why)
{
    char text[16];
    enum chv_err err = get_optional(key->keystore, "profile", text, sizeof text, why);
    if (err != CHV_OK || text[0] == '\0' || key->profile != 0)
        return err;
    if (chv_profile_find(text, &key->profile) != CHV_OK)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"profile\" of the keystore is none: '%s'", text);
    return CHV_OK;
}

enum chv_err chv_client_key_load_for(struct chv_client_key *key, struct chv_keystore *keystore,
                                     enum chv_profile profile, struct chv_why *why)
{
    memset(key, 0, sizeof *key);
    key->keystore = keystore;
    key->profile = profile;
    key->suite = CHV_SUITE_X25519_AESGCM_SHA256;
    if (keystore == NULL) {
        key->profile = CHV_PROFILE_KEY;
        return profile == 0 || profile == CHV_PROFILE_KEY
                   ? CHV_OK
                   : chv_fail(why, CHV_ERR_CONFIG, "profile %s needs a keystore made by 'keyadmin client add'",
                              chv_profile_name(profile));
    }
    enum chv_err err = load_profile(key, why);
    if (err == CHV_OK && key->profile != CHV_PROFILE_KEY)
        err = load_credential(key, (struct newest){0}, why);
    if (err == CHV_OK && key->profile != CHV_PROFILE_KEY)
        err = get_text(keystore, "server", key->server, sizeof key->server, why);
    else if (err == CHV_OK)
        err = get_optional(keystore, "server", key->server, sizeof key->server, why);
    if (err == CHV_OK && key->profile != CHV_PROFILE_KEY)
        err = get_text(keystore, "address", key->address, sizeof key->address, why);
    else if (err == CHV_OK)
        err = get_optional(keystore, "address", key->address, sizeof key->address, why);
    if (err == CHV_OK && key->server[0] != '\0' && !chv_server_name_valid(key->server))
        err = chv_fail(why, CHV_ERR_STORE_DAMAGED, "item \"server\" of the keystore is not a server name");
    if (err == CHV_OK && key->profile != CHV_PROFILE_PSK)
        err = load_server_key(key, why);
    if (err == CHV_OK && key->profile != CHV_PROFILE_PSK)
        err = load_identity(key, why);
    return err;
}

enum chv_err chv_client_key_older(struct chv_client_key *key, struct chv_why *why)
{
    struct chv_client_key older = *key;
    const struct newest below = {.below_epoch = key->parsed.epoch, .below_serial = key->parsed.serial};
    enum chv_err err = load_credential(&older, below, why);
    if (err == CHV_OK && strcmp(older.parsed.id, key->parsed.id) != 0)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "there is no older key of '%s' in this keystore", key->parsed.id);
    if (err == CHV_OK)
        *key = older;
    return err;
}

bool chv_client_key_newer(struct chv_client_key *key, const struct chv_client_key *other)
{
    const struct chv_credential *a = &key->parsed, *b = &other->parsed;
    if (strcmp(a->id, b->id) != 0 || a->profile != b->profile || b->epoch < a->epoch ||
        (b->epoch == a->epoch && b->serial <= a->serial))
        return false;
    key->keystore = other->keystore;
    key->parsed = *b;
    key->credential_len = other->credential_len;
    memcpy(key->credential, other->credential, sizeof key->credential);
    memcpy(key->label, other->label, sizeof key->label);
    return true;
}

enum chv_err chv_client_key_load(struct chv_client_key *key, struct chv_keystore *keystore, struct chv_why *why)
{
    return chv_client_key_load_for(key, keystore, (enum chv_profile)0, why);
}

enum chv_err chv_client_key_identity(struct chv_client_key *key, struct chv_keystore *keystore, struct chv_why *why)
{
    struct chv_identity found;
    memset(&found, 0, sizeof found);
    enum chv_err err = chv_keystore_public_key(keystore, identity_label, &found.curve, found.public_key, why);
    if (err != CHV_OK)
        return err;
    key->identity = found;
    key->identity_keystore = keystore;
    return CHV_OK;
}

/* The first suite of a curve is its default. */
static enum chv_err choose_suite(struct chv_client_key *key, struct chv_why *why)
{
    const enum chv_suite usual =
        key->identity.curve == CHV_CURVE_P256 ? CHV_SUITE_P256_AESGCM_SHA256 : CHV_SUITE_X25519_AESGCM_SHA256;
    if (!key->has_suite)
        key->suite = usual;
    const struct chv_suite_parts *parts = chv_suite_parts(key->suite);
    if (parts == NULL || parts->curve != key->identity.curve)
        return chv_fail(
            why, CHV_ERR_CONFIG, "suite %s does not go with an identity key of kind %s: leave it out, or take %s",
            chv_suite_name(key->suite), chv_identity_curve_name(key->identity.curve), chv_suite_name(usual));
    return CHV_OK;
}

static enum chv_err check_binding(const struct chv_client_key *key, const struct chv_crypto *crypto,
                                  struct chv_why *why)
{
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
    char wanted[CHV_FINGERPRINT_MAX], found[CHV_FINGERPRINT_MAX];
    enum chv_err err = chv_identity_hash(crypto, key->identity.curve, key->identity.public_key, hash);
    if (err != CHV_OK)
        return err;
    if (chv_equal(hash, key->parsed.identity_hash, sizeof hash))
        return CHV_OK;
    chv_fingerprint_format(key->parsed.identity_hash, wanted);
    chv_fingerprint_format(hash, found);
    return chv_fail(
        why, CHV_ERR_CONFIG,
        "the credential of '%s' is bound to the identity key %s, this one is %s: give the right one, or have "
        "the credential issued again",
        key->parsed.id, wanted, found);
}

enum chv_err chv_client_key_ready(struct chv_client_key *key, const struct chv_crypto *crypto, struct chv_why *why)
{
    const char *profile = chv_profile_name(key->profile);
    if (key->profile == CHV_PROFILE_PSK)
        return CHV_OK;
    if (key->identity_keystore == NULL)
        return chv_fail(
            why, CHV_ERR_CONFIG,
            "profile %s needs the client's identity key: give --identity ('keyadmin identity new' makes one)", profile);
    if (!key->has_server_key)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "profile %s needs the server's public key: give --server-key, its server.pub", profile);
    if (key->identity.curve != key->server_key.curve)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "the client's identity key is of kind %s, the server's %s: both must be the same",
                        chv_identity_curve_name(key->identity.curve), chv_identity_curve_name(key->server_key.curve));
    enum chv_err err = choose_suite(key, why);
    if (err == CHV_OK && key->profile == CHV_PROFILE_KEY_PSK)
        err = check_binding(key, crypto, why);
    return err;
}

void chv_client_key_config(const struct chv_client_key *key, struct chv_session_config *config)
{
    *config = (struct chv_session_config){
        .role = CHV_CLIENT,
        .profile = key->profile,
        .suite = key->suite,
    };
    if (key->profile != CHV_PROFILE_KEY) {
        config->credential = key->credential;
        config->credential_len = key->credential_len;
    }
    if (key->profile != CHV_PROFILE_PSK) {
        config->peer_public = key->has_server_key ? key->server_key.public_key : NULL;
        config->identity_public[key->identity.curve] = key->identity.public_key;
    }
}

enum chv_err chv_client_key_binding(const struct chv_client_key *key, const struct chv_crypto *crypto,
                                    uint8_t out[static CHV_KEY_LEN])
{
    static const char label[] = "chaveiro tickets";
    const bool keys = key->profile != CHV_PROFILE_PSK;
    const size_t public_len = keys ? chv_dh_public_len(key->identity.curve) : 0;
    const uint8_t head[5] = {(uint8_t)key->profile, (uint8_t)key->suite, (uint8_t)strlen(key->server),
                             (uint8_t)(key->credential_len >> 8), (uint8_t)key->credential_len};
    const struct chv_part parts[] = {
        {label, sizeof label},
        {head, sizeof head},
        {key->server, head[2]},
        {key->credential, key->credential_len},
        {key->identity.public_key, public_len},
        {key->server_key.public_key, key->has_server_key ? public_len : 0},
    };
    return chv_crypto_hash(crypto, CHV_HASH_SHA256, parts, sizeof parts / sizeof parts[0], out);
}

static enum chv_err derive_psk(struct chv_client_key *key, const struct chv_key_request *request,
                               uint8_t psk[CHV_SECRET_LEN], struct chv_why *why)
{
    uint8_t info[CHV_INFO_MAX];
    size_t len;
    enum chv_err err = chv_info_session(key->server, request->h_psk, request->h_psk_len, info, &len);
    if (err != CHV_OK)
        return chv_fail(why, err, "session PSK: %s", chv_err_text(err));
    return chv_keystore_derive(key->keystore, key->label, info, len, psk, why);
}

static enum chv_err compute(struct chv_client_key *key, const struct chv_key_request *request,
                            uint8_t secret[CHV_SECRET_LEN], struct chv_why *why)
{
    if (request->kind == CHV_KEY_PSK && key->label[0] != '\0')
        return derive_psk(key, request, secret, why);
    if (request->kind == CHV_KEY_DH && key->identity_keystore != NULL)
        return chv_keystore_dh(key->identity_keystore, identity_label, request->peer_public, secret, why);
    return chv_fail(why, CHV_ERR_UNSUPPORTED, "profile %s is not served by this keystore",
                    chv_profile_name(request->profile));
}

void chv_client_key_answer(struct chv_client_key *key, struct chv_conn *conn, const struct chv_key_request *request)
{
    uint8_t secret[CHV_SECRET_LEN];
    struct chv_why why = {""};
    enum chv_err err = compute(key, request, secret, &why);
    if (err == CHV_OK) {
        err = chv_conn_key_answer(conn, secret);
    } else {
        chv_conn_explain(conn, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
        err = chv_conn_key_refuse(conn, CHV_REFUSE_UNAVAILABLE);
    }
    (void)err; /* a session that fails on it ends the connection, which says so */
    chv_wipe(secret, sizeof secret);
}
