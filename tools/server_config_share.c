/* SPDX-License-Identifier: Apache-2.0 */
/* Sections [share "NAME"] of the configuration file. */
#include "core/credential.h"
#include "tools/server_config_value.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct chv_server_share, member)

const struct chv_config_key chv_config_share_keys[CHV_CONFIG_SHARE_KEYS] = {
    {"share", "path", KIND_SHARE_PATH, AT(path), 0, 0, "a folder"},
    {"share", "access", KIND_SHARE_ACCESS, AT(write), 0, 0, "ro or rw"},
    {"share", "scope", KIND_SHARE_SCOPE, AT(scope), 0, 0, "1 to 32 of a-z 0-9 . _ : / -"},
};

bool chv_config_share_name(const char *section, char out[CHV_SHARE_NAME_MAX + 1])
{
    static const char head[] = "share \"";
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (strncmp(section, head, strlen(head)) != 0)
        return false;
    const char *name = section + strlen(head);
    const size_t len = strspn(name, letters);
    if (len == 0 || len > CHV_SHARE_NAME_MAX || strcmp(name + len, "\"") != 0 || strspn(name, ".") == len)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

/* A path that is not absolute starts at the configuration file's folder. */
static bool set_path(const struct chv_config_place *place, char out[CHV_SHARE_PATH_MAX], const char *value)
{
    int dir_len = value[0] == '/' ? 0 : (int)place->dir_len;
    int n = snprintf(out, CHV_SHARE_PATH_MAX, "%.*s%s", dir_len, place->file, value);
    return value[0] != '\0' && n > 0 && n < CHV_SHARE_PATH_MAX;
}

bool chv_config_share_set(struct chv_server_share *share, const struct chv_config_place *place,
                          const struct chv_config_key *key, const char *value)
{
    switch (key->kind) {
    case KIND_SHARE_PATH:
        return set_path(place, share->path, value);
    case KIND_SHARE_ACCESS:
        share->write = strcmp(value, "rw") == 0;
        return share->write || strcmp(value, "ro") == 0;
    case KIND_SHARE_SCOPE:
        if (!chv_scope_valid(value))
            return false;
        memcpy(share->scope, value, strlen(value) + 1);
        return true;
    default:
        return false;
    }
}
