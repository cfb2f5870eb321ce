/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/server_config_value.h"

#include "base/encode.h"
#include "core/credential.h"
#include "net/connector.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static bool copy_text(char *out, size_t size, const char *value)
{
    int n = snprintf(out, size, "%s", value);
    return n > 0 && (size_t)n < size;
}

/* A path that is not absolute starts at the configuration file's folder. */
static bool set_path(const struct chv_config_place *place, char out[PATH_MAX], const char *scheme, const char *value)
{
    int dir_len = value[0] == '/' ? 0 : (int)place->dir_len;
    int n = snprintf(out, PATH_MAX, "%s%.*s%s", scheme, dir_len, place->file, value);
    return value[0] != '\0' && n > 0 && n < PATH_MAX;
}

static bool set_keystore(const struct chv_config_place *place, char out[PATH_MAX], const char *value)
{
    if (strncmp(value, "pkcs11:", 7) == 0)
        return copy_text(out, PATH_MAX, value);
    return set_path(place, out, "file:", strncmp(value, "file:", 5) == 0 ? value + 5 : value);
}

/* "FOLDER/%i": each client has a folder of its own, and no other part of the name depends on it. */
static bool set_home(const struct chv_config_place *place, char out[PATH_MAX], char *value)
{
    static const char id[] = "/%i";
    const size_t len = strlen(value);
    if (len <= strlen(id) || strcmp(value + len - strlen(id), id) != 0)
        return false;
    value[len - strlen(id)] = '\0';
    return strchr(value, '%') == NULL && set_path(place, out, "", value);
}

/* `none` is the file `revoked` beside the configuration (registry/registry.h). */
static bool set_registry(const struct chv_config_place *place, char out[PATH_MAX], const char *value)
{
    static const char sqlite[] = "sqlite:", revoked[] = "revoked:";
    if (strcmp(value, "none") == 0)
        return set_path(place, out, revoked, "revoked");
    if (strncmp(value, "postgresql://", strlen("postgresql://")) == 0)
        return copy_text(out, PATH_MAX, value);
    if (strncmp(value, revoked, strlen(revoked)) == 0)
        return set_path(place, out, revoked, value + strlen(revoked));
    return strncmp(value, sqlite, strlen(sqlite)) == 0 && set_path(place, out, sqlite, value + strlen(sqlite));
}

/* Decimal digits and one unit out of `units` or none; `scale` has a factor per unit. */
static bool read_number(const char *text, const char *units, const uint64_t *scale, const struct chv_config_key *key,
                        uint64_t *number)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    uint64_t factor = 1;
    if (*end != '\0') {
        const char *unit = strchr(units, *end);
        if (unit == NULL || end[1] != '\0')
            return false;
        factor = scale[unit - units];
    }
    if (v > UINT64_MAX / factor || v * factor < key->min || v * factor > key->max)
        return false;
    *number = v * factor;
    return true;
}

static bool read_scaled(enum chv_config_kind kind, const char *text, const struct chv_config_key *key, uint64_t *number)
{
    static const uint64_t seconds[] = {1, 60, 3600, 86400};
    static const uint64_t bytes[] = {UINT64_C(1) << 10, UINT64_C(1) << 20, UINT64_C(1) << 30};
    switch (kind) {
    case KIND_SECONDS:
    case KIND_SECONDS64:
        return read_number(text, "smhd", seconds, key, number);
    case KIND_SIZE:
    case KIND_SIZE64:
        return read_number(text, "KMG", bytes, key, number);
    default:
        return read_number(text, "", NULL, key, number);
    }
}

static bool set_epochs(struct chv_server_config *config, const struct chv_config_key *key, char *list)
{
    size_t count = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save)) {
        uint64_t v;
        if (count == CHV_EPOCHS_MAX || !read_number(item, "", NULL, key, &v))
            return false;
        size_t at = count;
        for (; at > 0 && config->epochs[at - 1] >= v; at--) {
            if (config->epochs[at - 1] == v)
                return false;
            config->epochs[at] = config->epochs[at - 1];
        }
        config->epochs[at] = (uint32_t)v;
        count++;
    }
    config->epoch_count = count;
    return count > 0;
}

/* "EPOCH:HEX" */
static bool read_check(char *item, const struct chv_config_key *key, struct chv_key_check *check)
{
    uint64_t epoch;
    size_t len = sizeof check->value;
    char *colon = strchr(item, ':');
    if (colon == NULL)
        return false;
    *colon = '\0';
    if (!read_number(item, "", NULL, key, &epoch) ||
        chv_hex_decode(colon + 1, strlen(colon + 1), check->value, &len) != CHV_OK || len != sizeof check->value)
        return false;
    check->epoch = (uint32_t)epoch;
    return true;
}

static bool set_checks(struct chv_server_config *config, const struct chv_config_key *key, char *list)
{
    char *save = NULL;
    config->check_count = 0;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save)) {
        struct chv_key_check *check = &config->checks[config->check_count];
        if (config->check_count == CHV_EPOCHS_MAX || !read_check(item, key, check))
            return false;
        for (size_t i = 0; i < config->check_count; i++)
            if (config->checks[i].epoch == check->epoch)
                return false;
        config->check_count++;
    }
    return config->check_count > 0;
}

static bool port_valid(const char *text)
{
    static const struct chv_config_key port = {.min = 0, .max = 65535};
    uint64_t v;
    return strlen(text) <= 5 && read_number(text, "", NULL, &port, &v);
}

static bool listen_valid(const char *text)
{
    if (strlen(text) >= CHV_LISTEN_LEN)
        return false;
    if (strncmp(text, "unix:", 5) == 0)
        return text[5] == '/' && text[6] != '\0' && strlen(text + 5) < sizeof((struct sockaddr_un *)NULL)->sun_path;
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || !port_valid(colon + 1))
        return false;
    if (text[0] == '[')
        return colon[-1] == ']' && colon - text > 2;
    return memchr(text, ':', (size_t)(colon - text)) == NULL;
}

static bool add_address(char list[CHV_LISTEN_MAX][CHV_LISTEN_LEN], size_t *count, const char *address)
{
    const size_t len = strlen(address);
    const bool any = len > 2 && strcmp(address + len - 2, ":0") == 0; /* each time another one */
    if (*count == CHV_LISTEN_MAX || !listen_valid(address))
        return false;
    for (size_t i = 0; i < *count && !any; i++)
        if (strcmp(list[i], address) == 0)
            return false;
    return copy_text(list[(*count)++], CHV_LISTEN_LEN, address);
}

static bool set_listen(struct chv_server_config *config, char *list)
{
    config->listen_count = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save))
        if (!add_address(config->listen, &config->listen_count, item))
            return false;
    return config->listen_count > 0;
}

/* Who is sent on is told a port: these have one. */
static bool set_ports(char to[CHV_LISTEN_MAX][CHV_LISTEN_LEN], size_t *count, char *list)
{
    *count = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save))
        if (strncmp(item, "unix:", 5) == 0 || !add_address(to, count, item))
            return false;
    return *count > 0;
}

/* "PORT", "HOST:PORT", "[V6]:PORT" */
static bool add_redirect(struct chv_server_config *config, char *item)
{
    static const struct chv_config_key any = {.min = 1, .max = 65535};
    struct chv_server_redirect *r = &config->redirect[config->redirect_count];
    uint64_t port;
    if (config->redirect_count == CHV_REDIRECTS_MAX)
        return false;
    memset(r, 0, sizeof *r);
    char *colon = strrchr(item, ':');
    if (!read_number(colon != NULL ? colon + 1 : item, "", NULL, &any, &port))
        return false;
    r->port = (uint16_t)port;
    if (colon != NULL) {
        const bool v6 = item[0] == '[';
        if (!listen_valid(item))
            return false;
        colon[v6 ? -1 : 0] = '\0';
        if (item[strspn(item, "[ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")] != '\0' ||
            !copy_text(r->host, sizeof r->host, v6 ? item + 1 : item))
            return false;
    }
    for (size_t i = 0; i < config->redirect_count; i++)
        if (config->redirect[i].port == r->port && strcmp(config->redirect[i].host, r->host) == 0)
            return false;
    config->redirect_count++;
    return true;
}

static bool set_redirect(struct chv_server_config *config, char *list)
{
    config->redirect_count = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save))
        if (!add_redirect(config, item))
            return false;
    return config->redirect_count > 0;
}

static bool set_profiles(struct chv_server_config *config, char *list)
{
    config->profiles = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save)) {
        enum chv_profile profile;
        if (chv_profile_find(item, &profile) != CHV_OK || (config->profiles & CHV_PROFILE_BIT(profile)) != 0)
            return false;
        config->profiles |= CHV_PROFILE_BIT(profile);
    }
    return config->profiles != 0;
}

static bool set_suites(struct chv_server_config *config, char *list)
{
    config->suites = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save)) {
        enum chv_suite suite;
        if (chv_suite_find(item, &suite) != CHV_OK)
            return false;
        config->suites |= CHV_SUITE_BIT(suite);
    }
    return config->suites != 0;
}

static bool set_backend(struct chv_server_config *config, const char *spec)
{
    char name[CHV_BACKEND_SPEC_MAX];
    if (!copy_text(name, sizeof name, spec))
        return false;
    name[strcspn(name, ":")] = '\0';
    return chv_backend_find(name) != NULL && copy_text(config->backend, sizeof config->backend, spec);
}

static bool set_target(enum chv_log_target *target, const char *value)
{
    *target = strcmp(value, "syslog") == 0 ? CHV_LOG_SYSLOG : CHV_LOG_STDERR;
    return *target == CHV_LOG_SYSLOG || strcmp(value, "stderr") == 0;
}

static bool set_duplicate(enum chv_on_duplicate *on_duplicate, const char *value)
{
    static const char *const names[] = {
        [CHV_DUPLICATE_ALLOW] = "allow", [CHV_DUPLICATE_REJECT] = "reject", [CHV_DUPLICATE_REPLACE] = "replace"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        *on_duplicate = (enum chv_on_duplicate)i;
        if (strcmp(value, names[i]) == 0)
            return true;
    }
    return false;
}

static bool set_durability(enum chv_durability *durability, const char *value)
{
    static const char *const names[] = {
        [CHV_DURABILITY_BATCH] = "batch", [CHV_DURABILITY_FILE] = "file", [CHV_DURABILITY_NONE] = "none"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        *durability = (enum chv_durability)i;
        if (strcmp(value, names[i]) == 0)
            return true;
    }
    return false;
}

static bool set_number(struct chv_server_config *config, const struct chv_config_key *key, const char *value)
{
    uint64_t v;
    if (!read_scaled(key->kind, value, key, &v))
        return false;
    char *member = (char *)config + key->offset;
    if (key->kind == KIND_SECONDS64 || key->kind == KIND_SIZE64)
        *(uint64_t *)(void *)member = v;
    else if (key->kind == KIND_SIZE)
        *(size_t *)(void *)member = (size_t)v;
    else
        *(unsigned *)(void *)member = (unsigned)v;
    return true;
}

/* `value` may be cut up. */
static bool set_value(struct chv_server_config *config, const struct chv_config_place *place,
                      const struct chv_config_key *key, char *value)
{
    void *member = (char *)config + key->offset;
    switch (key->kind) {
    case KIND_SERVER_NAME:
        return chv_server_name_valid(value) && copy_text(member, CHV_SERVER_NAME_MAX + 1, value);
    case KIND_KEYSTORE:
        return set_keystore(place, config->keystore, value);
    case KIND_PATH:
        return set_path(place, member, "", value);
    case KIND_BOOL:
        *(bool *)member = strcmp(value, "yes") == 0;
        return *(bool *)member || strcmp(value, "no") == 0;
    case KIND_SWITCH:
        *(bool *)member = strcmp(value, "on") == 0;
        return *(bool *)member || strcmp(value, "off") == 0;
    case KIND_EPOCHS:
        return set_epochs(config, key, value);
    case KIND_CHECKS:
        return set_checks(config, key, value);
    case KIND_LISTEN:
        return set_listen(config, value);
    case KIND_HANDSHAKE:
        return set_ports(config->handshake, &config->handshake_count, value);
    case KIND_DATA:
        return set_ports(config->data, &config->data_count, value);
    case KIND_REDIRECT:
        return set_redirect(config, value);
    case KIND_BACKEND:
        return set_backend(config, value);
    case KIND_SUITES:
        return set_suites(config, value);
    case KIND_PROFILES:
        return set_profiles(config, value);
    case KIND_USER:
        return getpwnam(value) != NULL && copy_text(config->user, sizeof config->user, value);
    case KIND_HOME:
        return set_home(place, config->files.home, value);
    case KIND_DURABILITY:
        return set_durability(&config->files.durability, value);
    case KIND_LEVEL:
        return chv_log_level_find(value, &config->log_level) == CHV_OK;
    case KIND_TARGET:
        return set_target(&config->log_target, value);
    case KIND_MODULE:
        return value[0] == '/' && copy_text(config->module, sizeof config->module, value);
    case KIND_REGISTRY:
        return set_registry(place, config->registry, value);
    case KIND_DUPLICATE:
        return set_duplicate(&config->on_duplicate, value);
    case KIND_NUMBER:
    case KIND_SECONDS:
    case KIND_SECONDS64:
    case KIND_SIZE:
    case KIND_SIZE64:
        return set_number(config, key, value);
    case KIND_TUNNEL_TARGET:
        return chv_connector_target_valid(value) && copy_text(member, CHV_TUNNEL_TARGET_LEN, value);
    case KIND_SHARE_PATH:
    case KIND_SHARE_ACCESS:
    case KIND_SHARE_SCOPE:
        break; /* chv_config_share_set */
    }
    return false;
}

bool chv_config_value_set(struct chv_server_config *config, const struct chv_config_place *place,
                          const struct chv_config_key *key, const char *value)
{
    char text[CHV_CONFIG_LINE_SIZE];
    return copy_text(text, sizeof text, value) && set_value(config, place, key, text);
}

enum chv_err chv_server_config_listen(struct chv_server_config *config, const char *const *addresses, size_t count,
                                      struct chv_why *why)
{
    struct chv_server_config changed = *config;
    if (config->data_only)
        return chv_fail(why, CHV_ERR_CONFIG, "--listen is not for a data side: clients come in by 'data' of its file");
    changed.listen_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!add_address(changed.listen, &changed.listen_count, addresses[i]))
            return chv_fail(
                why, CHV_ERR_CONFIG,
                "--listen '%s' is not allowed; allowed: up to 16 different HOST:PORT, [V6]:PORT, unix:/PATH",
                addresses[i]);
    *config = changed;
    return CHV_OK;
}

enum chv_err chv_server_config_backend(struct chv_server_config *config, const char *spec, struct chv_why *why)
{
    if (!set_backend(config, spec))
        return chv_fail(why, CHV_ERR_CONFIG, "--backend '%s' is not known; known are: %s", spec, chv_backend_names());
    return CHV_OK;
}
