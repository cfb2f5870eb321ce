/* SPDX-License-Identifier: Apache-2.0 */
/* What the client shows the server: credential and access key, identity key, the server's key that it expects. */
#include "tools/chaveiro.h"

#include <string.h>

#include "base/encode.h"
#include "base/memory.h"
#include "tools/identity.h"
#include "tools/provision.h"

/* An option's value, else the configuration's, else NULL. */
static const char *key_value(const struct chv_cli_args *args, const char *option, const char *configured)
{
    const char *given = chv_cli_value(args, option);
    return given != NULL ? given : configured[0] != '\0' ? configured : NULL;
}

static struct chv_secret_options key_secrets(const struct chaveiro_link *link)
{
    const struct chv_cli_args *args = link->args;
    struct chv_secret_options given = {.passphrase_file = chv_cli_value(args, "passphrase-file"),
                                       .pin_file = chv_cli_value(args, "pin-file"),
                                       .pin_fd = chv_cli_value(args, "pin-fd")};
    if (given.passphrase_file == NULL && given.pin_file == NULL && given.pin_fd == NULL &&
        link->config.passphrase_file[0] != '\0')
        given.passphrase_file = link->config.passphrase_file;
    return given;
}

static enum chv_err key_open(const char *uri, const struct chv_secret_options *given, struct chv_keystore **ks,
                             struct chv_why *why)
{
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    enum chv_err err = chv_secret_for(uri, given, &secret, why);
    return err == CHV_OK ? chv_provision_open(&store, CHV_KEYSTORE_READ, ks, why) : err;
}

/* The keystore of -k, if there is one: link->key_uri is set to what was opened. */
static enum chv_err key_open_store(struct chaveiro_link *link, struct chv_why *why)
{
    const char *given = key_value(link->args, "key", link->config.keystore);
    const struct chv_secret_options secrets = key_secrets(link);
    struct chaveiro_secret *secret = &link->key_secret;
    const struct chv_provision_store store = {
        .uri = link->key_uri, .secret = chaveiro_secret_get, .secret_arg = secret};
    if (given == NULL)
        return CHV_OK;
    enum chv_err err = chv_token_uri_default(given, chv_cli_value(link->args, "module"), link->key_uri, why);
    if (err == CHV_OK)
        err = chv_secret_for(link->key_uri, &secrets, &secret->source, why);
    secret->hold = !chv_token_uri_is(link->key_uri); /* a token stays logged in */
    return err == CHV_OK ? chv_provision_open(&store, CHV_KEYSTORE_READ, &link->keystore, why) : err;
}

/* The identity key of --identity, in place of the keystore's own. */
static enum chv_err key_open_identity(struct chaveiro_link *link, const char *store_uri, struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    const char *given = key_value(link->args, "identity", link->config.identity);
    const char *passphrase = key_value(link->args, "identity-passphrase-file", link->config.identity_passphrase_file);
    struct chv_secret_options secrets = {.passphrase_file = passphrase};
    if (given == NULL || link->key.profile == CHV_PROFILE_PSK) {
        if (given == NULL || !chv_cli_given(link->args, "identity"))
            return CHV_OK;
        return chv_fail(why, CHV_ERR_CONFIG,
                        "--identity: the keystore's credential is for profile psk, which uses none");
    }
    if (passphrase == NULL && link->keystore == NULL) /* the only secret that there is */
        secrets = key_secrets(link);
    enum chv_err err = chv_identity_uri(given, NULL, uri, why);
    if (err == CHV_OK && chv_token_uri_is(uri)) {
        char complete[CHV_TOKEN_URI_SIZE];
        err = chv_token_uri_default(uri, chv_cli_value(link->args, "module"), complete, why);
        if (err == CHV_OK)
            memcpy(uri, complete, sizeof complete);
    }
    if (err == CHV_OK && strcmp(uri, store_uri) == 0)
        return CHV_OK; /* was taken from there */
    if (err == CHV_OK)
        err = key_open(uri, &secrets, &link->identity, why);
    if (err == CHV_OK)
        err = chv_client_key_identity(&link->key, link->identity, why);
    if (err == CHV_ERR_NOT_FOUND && link->identity != NULL)
        err = chv_fail(why, err, "%s: there is no identity key in it: 'keyadmin identity new' makes one", given);
    return err;
}

static enum chv_err key_take_server_key(struct chaveiro_link *link, struct chv_why *why)
{
    const char *given = key_value(link->args, "server-key", link->config.server_key);
    if (given == NULL || link->key.profile == CHV_PROFILE_PSK)
        return CHV_OK;
    enum chv_err err = chv_identity_public(given, &link->key.server_key, why);
    link->key.has_server_key = err == CHV_OK;
    return err;
}

/* Names the file that asked for it: a profile is never gone over to. */
static enum chv_err key_load(struct chaveiro_link *link, struct chv_why *why)
{
    struct chv_why text = {""};
    if (link->keystore == NULL && key_value(link->args, "identity", link->config.identity) == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "which key? Give -k FILE, made by 'keyadmin client add', or --identity FILE with --server-key");
    enum chv_err err = chv_client_key_load_for(&link->key, link->keystore, link->config.profile, &text);
    if (err == CHV_OK)
        return CHV_OK;
    if (err == CHV_ERR_CONFIG && link->config.profile != 0)
        return chv_fail(why, err, "%s: %s", link->config.file, text.text);
    return chv_fail(why, err, "%s", text.text[0] != '\0' ? text.text : chv_err_text(err));
}

enum chv_err chaveiro_open_key(struct chaveiro_link *link, struct chv_why *why)
{
    const char *suite = key_value(link->args, "suite", link->config.suite);
    enum chv_err err = key_open_store(link, why);
    if (err == CHV_OK)
        err = key_load(link, why);
    link->newest_epoch = link->key.parsed.epoch;
    link->newest_serial = link->key.parsed.serial;
    if (err == CHV_OK)
        err = key_open_identity(link, link->key_uri, why);
    if (err == CHV_OK)
        err = key_take_server_key(link, why);
    if (err != CHV_OK)
        return err;
    if (suite != NULL && chv_suite_find(suite, &link->key.suite) == CHV_OK)
        link->key.has_suite = true;
    if (link->address == NULL && link->config.address[0] != '\0')
        link->address = link->config.address;
    if (link->address == NULL && link->key.address[0] != '\0')
        link->address = link->key.address;
    if (link->address == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "which server? Give --server HOST:PORT");
    return CHV_OK;
}

enum chv_err chaveiro_key_check(struct chaveiro_link *link, char out[2 * 4 + 1], struct chv_why *why)
{
    uint8_t value[CHV_SECRET_LEN];
    out[0] = '\0';
    if (link->key.profile == CHV_PROFILE_KEY)
        return CHV_OK;
    enum chv_err err = chv_provision_check_stored(link->keystore, link->key.label, value, why);
    if (err == CHV_OK)
        chv_hex_encode(value, CHV_CHECK_CLIENT_LEN, out);
    chv_wipe(value, sizeof value);
    return err;
}

const char *chaveiro_fingerprint(const struct chaveiro_link *link, const struct chv_identity *identity,
                                 char out[CHV_FINGERPRINT_MAX])
{
    if (chv_fingerprint(&link->loop.crypto, identity, out) != CHV_OK)
        (void)snprintf(out, CHV_FINGERPRINT_MAX, "?");
    return out;
}
