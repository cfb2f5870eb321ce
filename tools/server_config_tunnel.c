/* SPDX-License-Identifier: Apache-2.0 */
/* Sections [tunnel "NAME"] of the configuration file. */
#include "tools/server_config_value.h"

#include <string.h>

#define AT(member) offsetof(struct chv_server_tunnel, member)

const struct chv_config_key chv_config_tunnel_keys[CHV_CONFIG_TUNNEL_KEYS] = {
    {"tunnel", "target", KIND_TUNNEL_TARGET, AT(target), 0, 0, "HOST:PORT, [V6]:PORT (a port from 1), unix:/PATH"},
    {"tunnel", "connect-timeout", KIND_SECONDS, AT(connect_seconds), 1, 3600, "1s to 1h"},
    {"tunnel", "idle-timeout", KIND_SECONDS, AT(idle_seconds), 0, 86400 * 365, "0 (none) to 365d, as in: 30m"},
    {"tunnel", "connections", KIND_NUMBER, AT(connections), 1, 10000000, "1 to 10000000"},
};

bool chv_config_tunnel_name(const char *section, char out[CHV_TUNNEL_NAME_MAX + 1])
{
    static const char head[] = "tunnel \"";
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    if (strncmp(section, head, strlen(head)) != 0)
        return false;
    const char *name = section + strlen(head);
    const size_t len = strspn(name, letters);
    if (len == 0 || len > CHV_TUNNEL_NAME_MAX || strcmp(name + len, "\"") != 0)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

void chv_config_tunnel_defaults(struct chv_server_tunnel *tunnel, const char *name)
{
    *tunnel = (struct chv_server_tunnel){.connect_seconds = 10, .connections = 64};
    memcpy(tunnel->name, name, strlen(name));
}

bool chv_config_tunnel_set(struct chv_server_config *config, size_t tunnel, const struct chv_config_place *place,
                           const struct chv_config_key *key, const char *value)
{
    struct chv_config_key at = *key;
    at.offset += offsetof(struct chv_server_config, tunnels) + tunnel * sizeof config->tunnels[0];
    return chv_config_value_set(config, place, &at, value);
}
