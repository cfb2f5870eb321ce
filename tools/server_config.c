/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/server_config.h"

#include "base/encode.h"
#include "core/credential.h"

#include <errno.h>
#include <ini.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define SECTIONS "[server], [pkcs11], [limits], [files], [log]"

/* A line of the file, its newline and what libinih adds. */
enum { LINE_SIZE = 8192 };

struct parse {
    const char *text; /* the rest */
    const char *file; /* for messages */
    size_t dir_len;   /* of `file`, with its last slash */
    int line;         /* of the key under way, from 1 */
    bool failed;
    struct chv_server_config config;
    uint64_t seen; /* bit per key of the table */
    struct chv_why why;
};

enum kind {
    KIND_NAME,
    KIND_KEYSTORE,
    KIND_PATH,
    KIND_BOOL,
    KIND_EPOCHS,
    KIND_CHECKS,
    KIND_LISTEN,
    KIND_BACKEND,
    KIND_SUITES,
    KIND_PROFILES,
    KIND_USER,
    KIND_NUMBER,
    KIND_SECONDS,   /* unsigned */
    KIND_SECONDS64, /* uint64_t */
    KIND_SIZE,      /* size_t */
    KIND_SIZE64,    /* uint64_t */
    KIND_HOME,
    KIND_LEVEL,
    KIND_TARGET,
    KIND_MODULE,
    KIND_REGISTRY,
    KIND_DUPLICATE
};

struct key {
    const char *section, *name;
    enum kind kind;
    size_t offset; /* in struct chv_server_config */
    uint64_t min, max;
    const char *allowed;
};

#define AT(member) offsetof(struct chv_server_config, member)

static const struct key keys[] = {
    {"server", "name", KIND_NAME, AT(name), 0, 0, "1 to 64 of A-Z a-z 0-9 . _ -"},
    {"server", "keystore", KIND_KEYSTORE, AT(keystore), 0, 0, "a file name or a URI (file:PATH)"},
    {"server", "passphrase-file", KIND_PATH, AT(passphrase_file), 0, 0, "a file name"},
    {"server", "pin-hold", KIND_BOOL, AT(pin_hold), 0, 0, "yes or no"},
    {"server", "epochs", KIND_EPOCHS, AT(epochs), 1, UINT32_MAX, "up to 16 different numbers from 1, as in: 1, 2"},
    {"server", "update", KIND_BOOL, AT(update), 0, 0, "yes or no"},
    {"server", "update-to", KIND_NUMBER, AT(update_to), 1, UINT32_MAX, "one of the epochs"},
    {"server", "key-check", KIND_CHECKS, AT(checks), 1, UINT32_MAX,
     "up to 16 of EPOCH:VALUE, the value in 32 hex digits as 'keyadmin check' shows it"},
    {"server", "listen", KIND_LISTEN, AT(listen), 0, 0, "up to 16 of HOST:PORT, [V6]:PORT, unix:/PATH"},
    {"server", "backend", KIND_BACKEND, AT(backend), 0, 0, NULL},
    {"server", "suites", KIND_SUITES, AT(suites), 0, 0,
     "x25519-aesgcm-sha256, x25519-chachapoly-sha256, p256-aesgcm-sha256"},
    {"server", "profiles", KIND_PROFILES, AT(profiles), 0, 0, "psk, key, key+psk"},
    {"server", "allowed-keys", KIND_PATH, AT(allowed_keys), 0, 0, "a file name"},
    {"server", "registry", KIND_REGISTRY, AT(registry), 0, 0,
     "none, sqlite:FILE, postgresql://HOST/DATABASE, revoked:FILE"},
    {"server", "registry-required", KIND_BOOL, AT(registry_required), 0, 0, "yes or no"},
    {"server", "on-duplicate", KIND_DUPLICATE, AT(on_duplicate), 0, 0, "allow, reject or replace"},
    {"server", "workers", KIND_NUMBER, AT(workers), 0, CHV_WORKERS_MAX, "0 (one per processor) to 64"},
    {"server", "user", KIND_USER, AT(user), 0, 0, "the name of a user of this system"},
    {"server", "state", KIND_PATH, AT(state), 0, 0, "a folder"},
    {"server", "max-lifetime", KIND_SECONDS64, AT(max_lifetime), 0, UINT64_C(86400) * 36525,
     "0 (no limit) to 36525d, as in: 90d, 12h"},
    {"server", "backlog", KIND_NUMBER, AT(backlog), 1, 65535, "1 to 65535"},
    {"pkcs11", "module", KIND_MODULE, AT(module), 0, 0, "an absolute path"},
    {"limits", "connections", KIND_NUMBER, AT(limits.connections), 1, 10000000, "1 to 10000000"},
    {"limits", "client-connections", KIND_NUMBER, AT(limits.client_connections), 1, 10000000, "1 to 10000000"},
    {"limits", "handshake-timeout", KIND_SECONDS, AT(limits.loop.handshake_seconds), 1, 3600, "1s to 1h"},
    {"limits", "idle-timeout", KIND_SECONDS, AT(limits.loop.idle_seconds), 0, 65535, "0 (none) to 65535s, as in: 10m"},
    {"limits", "stall-timeout", KIND_SECONDS, AT(limits.loop.stall_seconds), 1, 3600, "1s to 1h"},
    {"limits", "memory", KIND_SIZE, AT(limits.memory), 1 << 20, UINT64_C(1) << 40, "1M to 1024G, as in: 64M"},
    {"limits", "rate", KIND_NUMBER, AT(limits.rate), 0, 1000000, "0 (no limit) to 1000000"},
    {"limits", "burst", KIND_NUMBER, AT(limits.burst), 1, 1000000, "1 to 1000000"},
    {"limits", "keeper-queue", KIND_NUMBER, AT(limits.keeper_queue), 1, 1000000, "1 to 1000000"},
    {"files", "home", KIND_HOME, AT(files.home), 0, 0, "a folder, with /%i behind it for the client's id"},
    {"files", "max-size", KIND_SIZE64, AT(files.max_size), 0, INT64_MAX, "0 (no limit) or a size, as in: 500M, 20G"},
    {"files", "quota", KIND_SIZE64, AT(files.quota), 0, INT64_MAX, "0 (no limit) or a size, as in: 500M, 20G"},
    {"files", "fsync", KIND_BOOL, AT(files.fsync), 0, 0, "yes or no"},
    {"log", "level", KIND_LEVEL, AT(log_level), 0, 0, "error, warning, info or debug"},
    {"log", "target", KIND_TARGET, AT(log_target), 0, 0, "stderr or syslog"},
};

enum { KEY_COUNT = sizeof keys / sizeof keys[0] };
_Static_assert(KEY_COUNT <= 64, "one bit per key in struct parse");

/* The first failure is kept; libinih goes on to the end. */
static void fail(struct parse *p, const char *format, ...) CHV_PRINTF(2, 3);
static void fail(struct parse *p, const char *format, ...)
{
    if (p->failed)
        return;
    p->failed = true;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (p->line > 0)
        (void)chv_fail(&p->why, CHV_ERR_CONFIG, "%s:%d: %s", p->file, p->line, text);
    else
        (void)chv_fail(&p->why, CHV_ERR_CONFIG, "%s: %s", p->file, text);
}

static bool copy_text(char *out, size_t size, const char *value)
{
    int n = snprintf(out, size, "%s", value);
    return n > 0 && (size_t)n < size;
}

/* A path that is not absolute starts at the configuration file's folder. */
static bool set_path(const struct parse *p, char out[PATH_MAX], const char *scheme, const char *value)
{
    int dir_len = value[0] == '/' ? 0 : (int)p->dir_len;
    int n = snprintf(out, PATH_MAX, "%s%.*s%s", scheme, dir_len, p->file, value);
    return value[0] != '\0' && n > 0 && n < PATH_MAX;
}

static bool set_keystore(const struct parse *p, char out[PATH_MAX], const char *value)
{
    if (strncmp(value, "pkcs11:", 7) == 0)
        return copy_text(out, PATH_MAX, value);
    return set_path(p, out, "file:", strncmp(value, "file:", 5) == 0 ? value + 5 : value);
}

/* "FOLDER/%i": each client has a folder of its own, and no other part of the name depends on it. */
static bool set_home(const struct parse *p, char out[PATH_MAX], char *value)
{
    static const char id[] = "/%i";
    const size_t len = strlen(value);
    if (len <= strlen(id) || strcmp(value + len - strlen(id), id) != 0)
        return false;
    value[len - strlen(id)] = '\0';
    return strchr(value, '%') == NULL && set_path(p, out, "", value);
}

/* `none` is the file `revoked` beside the configuration (registry/registry.h). */
static bool set_registry(const struct parse *p, char out[PATH_MAX], const char *value)
{
    static const char sqlite[] = "sqlite:", revoked[] = "revoked:";
    if (strcmp(value, "none") == 0)
        return set_path(p, out, revoked, "revoked");
    if (strncmp(value, "postgresql://", strlen("postgresql://")) == 0)
        return copy_text(out, PATH_MAX, value);
    if (strncmp(value, revoked, strlen(revoked)) == 0)
        return set_path(p, out, revoked, value + strlen(revoked));
    return strncmp(value, sqlite, strlen(sqlite)) == 0 && set_path(p, out, sqlite, value + strlen(sqlite));
}

/* Decimal digits and one unit out of `units` or none; `scale` has a factor per unit. */
static bool read_number(const char *text, const char *units, const uint64_t *scale, const struct key *key,
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

static bool read_scaled(enum kind kind, const char *text, const struct key *key, uint64_t *number)
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

static bool set_epochs(struct chv_server_config *config, const struct key *key, char *list)
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
static bool read_check(char *item, const struct key *key, struct chv_key_check *check)
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

static bool set_checks(struct chv_server_config *config, const struct key *key, char *list)
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
    static const struct key port = {.min = 0, .max = 65535};
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

static bool add_listen(struct chv_server_config *config, const char *address)
{
    if (config->listen_count == CHV_LISTEN_MAX || !listen_valid(address))
        return false;
    for (size_t i = 0; i < config->listen_count; i++)
        if (strcmp(config->listen[i], address) == 0)
            return false;
    return copy_text(config->listen[config->listen_count++], CHV_LISTEN_LEN, address);
}

static bool set_listen(struct chv_server_config *config, char *list)
{
    config->listen_count = 0;
    char *save = NULL;
    for (char *item = strtok_r(list, ", \t", &save); item != NULL; item = strtok_r(NULL, ", \t", &save))
        if (!add_listen(config, item))
            return false;
    return config->listen_count > 0;
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

static bool set_number(struct chv_server_config *config, const struct key *key, const char *value)
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
static bool set_value(struct parse *p, const struct key *key, char *value)
{
    struct chv_server_config *config = &p->config;
    void *member = (char *)config + key->offset;
    switch (key->kind) {
    case KIND_NAME:
        return chv_server_name_valid(value) && copy_text(config->name, sizeof config->name, value);
    case KIND_KEYSTORE:
        return set_keystore(p, config->keystore, value);
    case KIND_PATH:
        return set_path(p, member, "", value);
    case KIND_BOOL:
        *(bool *)member = strcmp(value, "yes") == 0;
        return *(bool *)member || strcmp(value, "no") == 0;
    case KIND_EPOCHS:
        return set_epochs(config, key, value);
    case KIND_CHECKS:
        return set_checks(config, key, value);
    case KIND_LISTEN:
        return set_listen(config, value);
    case KIND_BACKEND:
        return set_backend(config, value);
    case KIND_SUITES:
        return set_suites(config, value);
    case KIND_PROFILES:
        return set_profiles(config, value);
    case KIND_USER:
        return getpwnam(value) != NULL && copy_text(config->user, sizeof config->user, value);
    case KIND_HOME:
        return set_home(p, config->files.home, value);
    case KIND_LEVEL:
        return chv_log_level_find(value, &config->log_level) == CHV_OK;
    case KIND_TARGET:
        return set_target(&config->log_target, value);
    case KIND_MODULE:
        return value[0] == '/' && copy_text(config->module, sizeof config->module, value);
    case KIND_REGISTRY:
        return set_registry(p, config->registry, value);
    case KIND_DUPLICATE:
        return set_duplicate(&config->on_duplicate, value);
    case KIND_NUMBER:
    case KIND_SECONDS:
    case KIND_SECONDS64:
    case KIND_SIZE:
    case KIND_SIZE64:
        return set_number(config, key, value);
    }
    return false;
}

static const char *allowed(const struct key *key)
{
    return key->kind == KIND_BACKEND ? chv_backend_names() : key->allowed;
}

static bool section_known(const char *section)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].section, section) == 0)
            return true;
    return false;
}

/* "name, keystore, ..." of a section. */
static const char *key_names(const char *section, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < KEY_COUNT && len < size; i++)
        if (strcmp(keys[i].section, section) == 0)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", keys[i].name);
    return out;
}

static int handle(void *arg, const char *section, const char *name, const char *value)
{
    struct parse *p = arg;
    char text[LINE_SIZE];
    if (p->failed)
        return 0;
    if (section[0] == '\0') {
        fail(p, "key '%.64s' stands before the first section (" SECTIONS ")", name);
        return 0;
    }
    size_t i = 0;
    while (i < KEY_COUNT && (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0))
        i++;
    if (i == KEY_COUNT) {
        fail(p, "unknown key '%.64s' in [%s]; known are: %s", name, section, key_names(section, text, 300));
        return 0;
    }
    if ((p->seen & UINT64_C(1) << i) != 0) {
        fail(p, "key '%s' is given twice in [%s]", name, section);
        return 0;
    }
    p->seen |= UINT64_C(1) << i;
    if (!copy_text(text, sizeof text, value) || !set_value(p, &keys[i], text)) {
        fail(p, "%s = '%.100s' is not allowed; allowed: %s", name, value, allowed(&keys[i]));
        return 0;
    }
    return 1;
}

/* libinih tells of keys only: sections are checked here, so that an empty one is not passed over. */
static void check_section(struct parse *p, const char *line)
{
    line += strspn(line, " \t");
    if (*line != '[')
        return;
    char name[64];
    const char *end = strchr(line, ']');
    size_t len = end != NULL ? (size_t)(end - line) - 1 : 0;
    if (end == NULL || len >= sizeof name) {
        fail(p, "not a section; known are: " SECTIONS);
        return;
    }
    memcpy(name, line + 1, len);
    name[len] = '\0';
    end++;
    end += strspn(end, " \t\r\n");
    if (!section_known(name))
        fail(p, "unknown section [%s]; known are: " SECTIONS, name);
    else if (*end != '\0' && *end != ';' && *end != '#')
        fail(p, "text behind section [%s]", name);
}

/* An ini_reader over the text that counts lines: libinih's own handler is not told them. */
static char *next_line(char *out, int size, void *arg)
{
    struct parse *p = arg;
    if (*p->text == '\0' || p->failed)
        return NULL;
    size_t len = strcspn(p->text, "\n");
    len += p->text[len] == '\n';
    p->line++;
    if (len + 3 > (size_t)size) {
        fail(p, "line is longer than %d bytes", size - 3);
        return NULL;
    }
    memcpy(out, p->text, len);
    out[len] = '\0';
    p->text += len;
    check_section(p, out);
    return out;
}

/* 0: the newest. */
static bool epoch_served(const struct chv_server_config *config, unsigned epoch)
{
    bool served = epoch == 0;
    for (size_t i = 0; i < config->epoch_count; i++)
        served = served || config->epochs[i] == epoch;
    return served;
}

static bool denies_only(const struct chv_server_config *config)
{
    return strncmp(config->registry, "revoked:", strlen("revoked:")) == 0;
}

enum chv_err chv_server_config_parse(const char *text, const char *file, struct chv_server_config *config,
                                     struct chv_why *why)
{
    const char *slash = strrchr(file, '/');
    struct parse *p = calloc(1, sizeof *p);
    if (p == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    p->text = text;
    p->file = file;
    p->dir_len = slash != NULL ? (size_t)(slash - file) + 1 : 0;
    chv_server_config_defaults(&p->config);

    ini_use_stack = false;
    ini_max_line = LINE_SIZE;
    ini_initial_alloc = LINE_SIZE;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    int result = ini_parse_stream(next_line, p, handle, p);
    if (!p->failed && result != 0) {
        p->line = result > 0 ? result : 0;
        fail(p, "%s", result > 0 ? "not a 'key = value' line" : "out of memory");
    }
    p->line = 0;
    if (p->config.registry[0] == '\0' && !set_registry(p, p->config.registry, "none"))
        fail(p, "the file's name is too long");
    if (p->config.name[0] == '\0')
        fail(p, "[server] has no 'name': the server name that clients are provisioned for");
    else if (p->config.keystore[0] == '\0')
        fail(p, "[server] has no 'keystore': the file with the master secret (keyadmin init makes one)");
    else if ((p->config.profiles & CHV_PROFILE_BIT(CHV_PROFILE_KEY)) != 0 && p->config.allowed_keys[0] == '\0' &&
             denies_only(&p->config))
        fail(p, "[server] serves profile key, but has neither 'allowed-keys', the file with the keys that may come in, "
                "nor a 'registry' of them");
    else if (!p->config.registry_required && denies_only(&p->config))
        fail(p, "[server] has 'registry-required = no', but no 'registry' that could be away");
    else if (!p->config.registry_required && p->config.state[0] == '\0')
        fail(p, "[server] has 'registry-required = no', but no 'state': the folder that the deny snapshot is in");
    else if (p->config.allowed_keys[0] != '\0' && !chv_server_wants_identity(&p->config))
        fail(p, "[server] has 'allowed-keys', but 'profiles' has neither key nor key+psk");

    if (!epoch_served(&p->config, p->config.update_to))
        fail(p, "update-to = %u is none of the epochs", p->config.update_to);

    enum chv_err err = p->failed ? CHV_ERR_CONFIG : CHV_OK;
    if (err == CHV_OK)
        *config = p->config;
    else
        (void)chv_fail(why, err, "%s", p->why.text);
    free(p);
    return err;
}

enum chv_err chv_server_config_listen(struct chv_server_config *config, const char *const *addresses, size_t count,
                                      struct chv_why *why)
{
    struct chv_server_config changed = *config;
    changed.listen_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!add_listen(&changed, addresses[i]))
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
