/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration from its file, and what of it is found elsewhere. */
#include "tools/server_config.h"

#include "tools/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum chv_err (*parse_fn)(const char *text, const char *file, struct chv_server_config *config,
                                 struct chv_why *why);

static enum chv_err load(const char *file, parse_fn parse, struct chv_server_config *config, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    char absolute[PATH_MAX];
    char *text = NULL;
    FILE *f = NULL;

    if (realpath(file, absolute) == NULL || (f = fopen(absolute, "re")) == NULL) {
        err = chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
        goto out;
    }
    text = malloc(CHV_SERVER_CONFIG_TEXT_MAX + 1);
    if (text == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
        goto out;
    }
    size_t len = fread(text, 1, CHV_SERVER_CONFIG_TEXT_MAX + 1, f);
    if (ferror(f)) {
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
        goto out;
    }
    if (len > CHV_SERVER_CONFIG_TEXT_MAX || memchr(text, '\0', len) != NULL) {
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: not a configuration file: %s", file,
                       len > CHV_SERVER_CONFIG_TEXT_MAX ? "longer than 64 KiB" : "has NUL bytes");
        goto out;
    }
    text[len] = '\0';
    err = parse(text, absolute, config, why);
out:
    free(text);
    if (f != NULL)
        fclose(f);
    return err;
}

enum chv_err chv_server_config_load(const char *file, struct chv_server_config *config, struct chv_why *why)
{
    return load(file, chv_server_config_parse, config, why);
}

enum chv_err chv_server_config_load_data(const char *file, struct chv_server_config *config, struct chv_why *why)
{
    return load(file, chv_server_config_parse_data, config, why);
}

enum chv_err chv_server_config_complete(struct chv_server_config *config, struct chv_why *why)
{
    char keystore[CHV_TOKEN_URI_SIZE], backend[CHV_TOKEN_URI_SIZE];
    _Static_assert(sizeof keystore <= sizeof config->keystore, "a completed URI fits");
    enum chv_err err = CHV_OK;
    if (chv_token_uri_is(config->keystore)) {
        err = chv_token_uri_default(config->keystore, config->module, keystore, why);
        if (err == CHV_OK)
            memcpy(config->keystore, keystore, sizeof keystore);
    }
    if (err == CHV_OK && chv_token_uri_is(config->backend)) {
        err = chv_token_uri_default(config->backend, config->module, backend, why);
        if (err == CHV_OK &&
            snprintf(config->backend, sizeof config->backend, "%s", backend) >= (int)sizeof config->backend)
            err = chv_fail(why, CHV_ERR_CONFIG, "backend: the URI is too long with the [pkcs11] module in it");
    }
    return err == CHV_ERR_ARGUMENT ? CHV_ERR_CONFIG : err;
}
