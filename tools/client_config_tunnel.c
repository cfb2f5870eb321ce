/* SPDX-License-Identifier: Apache-2.0 */
/* Sections [tunnel "NAME"] of the client's configuration file. */
#include "tools/client_config_tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/control.h"
#include "tools/provision.h"
#include "tools/times.h"

enum tunnel_key { LISTEN, CONNECTIONS, IDLE_TIMEOUT, UNSAFE_LISTEN, KEYS };

static const struct {
    const char *name, *allowed;
} tunnel_keys[KEYS] = {
    {"listen", "up to 16 different HOST:PORT, [V6]:PORT, unix:/PATH, with commas between them"},
    {"connections", "1 to 16384"},
    {"idle-timeout", "a time like 90s, 10m, 2h; 0: none"},
    {"unsafe-listen", "yes or no"},
};

bool chv_client_tunnel_section(const char *section, char out[CHV_TUNNEL_NAME_MAX + 1])
{
    static const char head[] = "tunnel \"";
    const size_t before = strlen(head), len = strlen(section);
    if (strncmp(section, head, before) != 0 || len < before + 2 || len - before - 1 > CHV_TUNNEL_NAME_MAX ||
        section[len - 1] != '"')
        return false;
    memcpy(out, section + before, len - before - 1);
    out[len - before - 1] = '\0';
    return chv_tunnel_name_valid(out);
}

bool chv_client_tunnel_listen(struct chv_client_tunnel *tunnel, const char *address)
{
    const size_t len = strlen(address);
    if (tunnel->listen_count == CHV_CLIENT_TUNNEL_LISTENS || len >= CHV_LISTEN_LEN ||
        chv_provision_address(address, NULL) != CHV_OK)
        return false;
    for (size_t i = 0; i < tunnel->listen_count; i++)
        if (strcmp(tunnel->listen[i], address) == 0)
            return false;
    memcpy(tunnel->listen[tunnel->listen_count++], address, len + 1);
    return true;
}

static bool set_listen(struct chv_client_tunnel *tunnel, const char *value)
{
    char list[CHV_CLIENT_TUNNEL_LISTENS * (CHV_LISTEN_LEN + 2)], *save = NULL;
    const size_t len = strlen(value);
    if (len >= sizeof list)
        return false;
    memcpy(list, value, len + 1);
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save))
        if (!chv_client_tunnel_listen(tunnel, item))
            return false;
    return tunnel->listen_count > 0;
}

static bool set_connections(struct chv_client_tunnel *tunnel, const char *value)
{
    char *end = NULL;
    errno = 0;
    const unsigned long number = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < 1 ||
        number > CHV_CLIENT_CONNECTIONS_MAX)
        return false;
    tunnel->connections = (unsigned)number;
    return true;
}

enum chv_err chv_client_tunnel_idle(struct chv_client_tunnel *tunnel, const char *span, struct chv_why *why)
{
    uint64_t ms = 0;
    enum chv_err err = strcmp(span, "0") == 0 ? CHV_OK : chv_time_span(span, &ms, why);
    if (err == CHV_OK)
        tunnel->idle_seconds = (unsigned)((ms + 999) / 1000);
    return err;
}

static bool set_value(struct chv_client_tunnel *tunnel, enum tunnel_key key, const char *value)
{
    switch (key) {
    case LISTEN:
        return set_listen(tunnel, value);
    case CONNECTIONS:
        return set_connections(tunnel, value);
    case IDLE_TIMEOUT:
        return chv_client_tunnel_idle(tunnel, value, NULL) == CHV_OK;
    case UNSAFE_LISTEN:
        tunnel->unsafe_listen = strcmp(value, "yes") == 0;
        return tunnel->unsafe_listen || strcmp(value, "no") == 0;
    case KEYS:
        break;
    }
    return false;
}

static struct chv_client_tunnel *find(struct chv_client_tunnels *tunnels, const char *name)
{
    for (size_t i = 0; i < tunnels->count; i++)
        if (strcmp(tunnels->list[i].name, name) == 0)
            return &tunnels->list[i];
    if (tunnels->count == CHV_CLIENT_TUNNELS_MAX)
        return NULL;
    struct chv_client_tunnel *made = &tunnels->list[tunnels->count++];
    memcpy(made->name, name, strlen(name) + 1);
    return made;
}

enum chv_err chv_client_tunnel_set(struct chv_client_tunnels *tunnels, const char *tunnel_name, const char *name,
                                   const char *value, struct chv_why *why)
{
    struct chv_client_tunnel *tunnel = find(tunnels, tunnel_name);
    size_t i = 0;
    while (i < KEYS && strcmp(tunnel_keys[i].name, name) != 0)
        i++;
    if (i == KEYS)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "unknown key '%.64s' in [tunnel \"%s\"]; known are: listen, connections, idle-timeout, "
                        "unsafe-listen",
                        name, tunnel_name);
    if (tunnel == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "there are more than %d tunnels", CHV_CLIENT_TUNNELS_MAX);
    if ((tunnel->seen & 1U << i) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "key '%s' is given twice in [tunnel \"%s\"]", name, tunnel_name);
    tunnel->seen |= 1U << i;
    if (!set_value(tunnel, (enum tunnel_key)i, value))
        return chv_fail(why, CHV_ERR_CONFIG, "%s = '%.100s' is not allowed; allowed: %s", name, value,
                        tunnel_keys[i].allowed);
    return CHV_OK;
}
