/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/server_config_value.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTIONS "[server], [pkcs11], [limits], [files], [share \"NAME\"], [tunnel \"NAME\"], [push], [tickets], [log]"

struct parse {
    const char *text;              /* the rest */
    struct chv_config_place place; /* its file: for messages, too */
    int line;                      /* of the key under way, from 1 */
    bool failed;
    struct chv_server_config config;
    bool data_only;
    int seen[64]; /* by key of the table: its line; 0: it is not there */
    unsigned share_seen[CHV_SHARES_MAX], tunnel_seen[CHV_TUNNELS_MAX];
    struct chv_why why;
};

#define AT(member) offsetof(struct chv_server_config, member)

static const struct chv_config_key keys[] = {
    {"server", "name", KIND_SERVER_NAME, AT(name), 0, 0, "1 to 64 of A-Z a-z 0-9 . _ -"},
    {"server", "keystore", KIND_KEYSTORE, AT(keystore), 0, 0, "a file name or a URI (file:PATH)"},
    {"server", "passphrase-file", KIND_PATH, AT(passphrase_file), 0, 0, "a file name"},
    {"server", "pin-hold", KIND_BOOL, AT(pin_hold), 0, 0, "yes or no"},
    {"server", "epochs", KIND_EPOCHS, AT(epochs), 1, UINT32_MAX, "up to 16 different numbers from 1, as in: 1, 2"},
    {"server", "update", KIND_BOOL, AT(update), 0, 0, "yes or no"},
    {"server", "update-to", KIND_NUMBER, AT(update_to), 1, UINT32_MAX, "one of the epochs"},
    {"server", "key-check", KIND_CHECKS, AT(checks), 1, UINT32_MAX,
     "up to 16 of EPOCH:VALUE, the value in 32 hex digits as 'keyadmin check' shows it"},
    {"server", "listen", KIND_LISTEN, AT(listen), 0, 0, "up to 16 of HOST:PORT, [V6]:PORT, unix:/PATH"},
    {"server", "handshake", KIND_HANDSHAKE, AT(handshake), 0, 0, "up to 16 of HOST:PORT, [V6]:PORT"},
    {"server", "data", KIND_DATA, AT(data), 0, 0, "up to 16 of HOST:PORT, [V6]:PORT"},
    {"server", "redirect", KIND_REDIRECT, AT(redirect), 0, 0,
     "up to 16 of PORT, HOST:PORT, [V6]:PORT, the port 1 to 65535"},
    {"server", "session-limit", KIND_SECONDS64, AT(session_limit), 0, UINT64_C(86400) * 36525,
     "0 (no limit) to 36525d, as in: 10m, 12h"},
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
    {"files", "durability", KIND_DURABILITY, AT(files.durability), 0, 0, "file, batch or none"},
    {"files", "part-keep", KIND_SECONDS64, AT(files.part_keep), 0, UINT64_C(86400) * 36525,
     "0 (nothing is kept) to 36525d, as in: 7d, 12h"},
    {"files", "receipts", KIND_SWITCH, AT(files.receipts), 0, 0, "on or off"},
    {"files", "receipt-key", KIND_PATH, AT(files.receipt_key), 0, 0, "a file name"},
    {"push", "outbox", KIND_PATH, AT(push.outbox), 0, 0, "a folder"},
    {"tickets", "tickets", KIND_SWITCH, AT(tickets), 0, 0, "on or off"},
    {"tickets", "audience", KIND_SERVER_NAME, AT(ticket_audience), 0, 0, "1 to 64 of A-Z a-z 0-9 . _ -"},
    {"tickets", "keys", KIND_PATH, AT(ticket_keys), 0, 0, "a file name"},
    {"log", "level", KIND_LEVEL, AT(log_level), 0, 0, "error, warning, info or debug"},
    {"log", "target", KIND_TARGET, AT(log_target), 0, 0, "stderr or syslog"},
};

enum { KEY_COUNT = sizeof keys / sizeof keys[0] };
_Static_assert(KEY_COUNT <= 64, "room in struct parse");

/* The first failure is kept; libinih goes on to the end. */
static void fail(struct parse *p, const char *format, ...) CHV_PRINTF(2, 3);
static void fail(struct parse *p, const char *format, ...)
{
    if (p->failed)
        return;
    p->failed = true;
    char text[sizeof(struct chv_why)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (p->line > 0)
        (void)chv_fail(&p->why, CHV_ERR_CONFIG, "%s:%d: %s", p->place.file, p->line, text);
    else
        (void)chv_fail(&p->why, CHV_ERR_CONFIG, "%s: %s", p->place.file, text);
}

static const char *allowed(const struct chv_config_key *key)
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

/* A key of a share, whose section check_section has found. */
static bool handle_share(struct parse *p, const char *share_name, const char *name, const char *value)
{
    size_t at = 0, i = 0;
    while (at < p->config.files.share_count && strcmp(p->config.files.shares[at].name, share_name) != 0)
        at++;
    while (i < CHV_CONFIG_SHARE_KEYS && strcmp(chv_config_share_keys[i].name, name) != 0)
        i++;
    if (at == p->config.files.share_count)
        return false; /* not without check_section's saying so */
    if (i == CHV_CONFIG_SHARE_KEYS)
        fail(p, "unknown key '%.64s' in [share \"%s\"]; known are: path, access, scope", name, share_name);
    else if ((p->share_seen[at] & 1U << i) != 0)
        fail(p, "key '%s' is given twice in [share \"%s\"]", name, share_name);
    else if (!chv_config_share_set(&p->config.files.shares[at], &p->place, &chv_config_share_keys[i], value))
        fail(p, "%s = '%.100s' is not allowed; allowed: %s", name, value, chv_config_share_keys[i].allowed);
    p->share_seen[at] |= 1U << i;
    return !p->failed;
}

/* The same of a tunnel. */
static bool handle_tunnel(struct parse *p, const char *tunnel_name, const char *name, const char *value)
{
    const struct chv_config_key *key = chv_config_tunnel_keys;
    size_t at = 0, i = 0;
    while (at < p->config.tunnel_count && strcmp(p->config.tunnels[at].name, tunnel_name) != 0)
        at++;
    while (i < CHV_CONFIG_TUNNEL_KEYS && strcmp(key[i].name, name) != 0)
        i++;
    if (at == p->config.tunnel_count)
        return false;
    if (i == CHV_CONFIG_TUNNEL_KEYS)
        fail(p, "unknown key '%.64s' in [tunnel \"%s\"]; known are: target, connect-timeout, idle-timeout, connections",
             name, tunnel_name);
    else if ((p->tunnel_seen[at] & 1U << i) != 0)
        fail(p, "key '%s' is given twice in [tunnel \"%s\"]", name, tunnel_name);
    else if (!chv_config_tunnel_set(&p->config, at, &p->place, &key[i], value))
        fail(p, "%s = '%.100s' is not allowed; allowed: %s", name, value, key[i].allowed);
    p->tunnel_seen[at] |= 1U << i;
    return !p->failed;
}

static int handle(void *arg, const char *section, const char *name, const char *value)
{
    struct parse *p = arg;
    char names[300], share[CHV_SHARE_NAME_MAX + 1], tunnel[CHV_TUNNEL_NAME_MAX + 1];
    if (p->failed)
        return 0;
    if (chv_config_share_name(section, share))
        return handle_share(p, share, name, value);
    if (chv_config_tunnel_name(section, tunnel))
        return handle_tunnel(p, tunnel, name, value);
    if (section[0] == '\0') {
        fail(p, "key '%.64s' stands before the first section (" SECTIONS ")", name);
        return 0;
    }
    size_t i = 0;
    while (i < KEY_COUNT && (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0))
        i++;
    if (i == KEY_COUNT) {
        fail(p, "unknown key '%.64s' in [%s]; known are: %s", name, section, key_names(section, names, sizeof names));
        return 0;
    }
    if (p->seen[i] != 0) {
        fail(p, "key '%s' is given twice in [%s]", name, section);
        return 0;
    }
    p->seen[i] = p->line;
    if (!chv_config_value_set(&p->config, &p->place, &keys[i], value)) {
        fail(p, "%s = '%.100s' is not allowed; allowed: %s", name, value, allowed(&keys[i]));
        return 0;
    }
    return 1;
}

static void add_share(struct parse *p, const char *name)
{
    struct chv_server_files *files = &p->config.files;
    for (size_t i = 0; i < files->share_count; i++)
        if (strcmp(files->shares[i].name, name) == 0)
            fail(p, "section [share \"%s\"] is given twice", name);
    if (files->share_count == CHV_SHARES_MAX)
        fail(p, "there are more than %d shares", CHV_SHARES_MAX);
    else
        memcpy(files->shares[files->share_count++].name, name, strlen(name) + 1);
}

static void add_tunnel(struct parse *p, const char *name)
{
    struct chv_server_config *c = &p->config;
    for (size_t i = 0; i < c->tunnel_count; i++)
        if (strcmp(c->tunnels[i].name, name) == 0)
            fail(p, "section [tunnel \"%s\"] is given twice", name);
    if (c->tunnel_count == CHV_TUNNELS_MAX)
        fail(p, "there are more than %d tunnels", CHV_TUNNELS_MAX);
    else
        chv_config_tunnel_defaults(&c->tunnels[c->tunnel_count++], name);
}

/* libinih tells of keys only: sections are checked here, so that an empty one is not passed over. */
static void check_section(struct parse *p, const char *line)
{
    line += strspn(line, " \t");
    if (*line != '[')
        return;
    char name[64], share[CHV_SHARE_NAME_MAX + 1], tunnel[CHV_TUNNEL_NAME_MAX + 1];
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
    if (chv_config_share_name(name, share))
        add_share(p, share);
    else if (chv_config_tunnel_name(name, tunnel))
        add_tunnel(p, tunnel);
    else if (strncmp(name, "share", strlen("share")) == 0)
        fail(p, "[%s] is not allowed; allowed: [share \"NAME\"], the name 1 to 32 of A-Z a-z 0-9 . _ -", name);
    else if (strncmp(name, "tunnel", strlen("tunnel")) == 0)
        fail(p, "[%s] is not allowed; allowed: [tunnel \"NAME\"], the name 1 to 25 of a-z 0-9 . _ -", name);
    else if (!section_known(name))
        fail(p, "unknown section [%s]; known are: " SECTIONS, name);
    if (*end != '\0' && *end != ';' && *end != '#')
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

static void check_shares(struct parse *p)
{
    const struct chv_server_files *files = &p->config.files;
    if (files->share_count > 0 && files->home[0] == '\0')
        fail(p, "[share \"%s\"] is of no use without [files] 'home'", files->shares[0].name);
    for (size_t i = 0; i < files->share_count; i++)
        if (files->shares[i].path[0] == '\0')
            fail(p, "[share \"%s\"] has no 'path': the folder that is shared", files->shares[i].name);
}

static void check_tunnels(struct parse *p)
{
    for (size_t i = 0; i < p->config.tunnel_count; i++)
        if (p->config.tunnels[i].target[0] == '\0')
            fail(p, "[tunnel \"%s\"] has no 'target': where it leads to", p->config.tunnels[i].name);
}

static bool set_default_registry(struct parse *p)
{
    static const struct chv_config_key registry = {.kind = KIND_REGISTRY};
    return chv_config_value_set(&p->config, &p->place, &registry, "none");
}

/* The line of a key; 0: it is not in the file. */
static int line_of(const struct parse *p, const char *section, const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
            return p->seen[i];
    return 0;
}

/* Whether it is in the file, which is said with its line. */
static bool is_there(struct parse *p, const char *section, const char *name, const char *wrong)
{
    p->line = line_of(p, section, name);
    const bool there = p->line > 0;
    if (there)
        fail(p, "[%s] '%s' %s", section, name, wrong);
    p->line = 0;
    return there;
}

/* What belongs to two ports, and to a data side of its own. */
static void check_ports(struct parse *p)
{
    struct chv_server_config *c = &p->config;
    if (line_of(p, "server", "listen") == 0 && c->handshake_count > 0)
        c->listen_count = 0;
    if (c->handshake_count > 0 && !chv_server_has_two_ports(c))
        (void)is_there(p, "server", "handshake", "is of no use without 'data' or 'redirect': where clients go on to");
    if (c->handshake_count == 0) {
        (void)is_there(p, "server", "data", "is of no use without 'handshake', unless chaveirod runs with --data-only");
        (void)is_there(p, "server", "redirect", "is of no use without 'handshake'");
    }
    (void)is_there(p, "server", "session-limit", "is for chaveirod --data-only");
    (void)is_there(p, "tickets", "keys", "is for chaveirod --data-only: a server with a keystore has them from there");
}

/* A file for chaveirod --data-only. */
static void check_data_side(struct parse *p)
{
    static const struct {
        const char *section, *name;
    } none[] = {{"server", "keystore"},     {"server", "passphrase-file"}, {"server", "pin-hold"},
                {"server", "key-check"},    {"server", "epochs"},          {"server", "update"},
                {"server", "update-to"},    {"server", "profiles"},        {"server", "allowed-keys"},
                {"server", "max-lifetime"}, {"limits", "keeper-queue"},    {"files", "receipt-key"},
                {"tickets", "tickets"},     {"tickets", "audience"}};
    (void)is_there(p, "server", "listen", "is not for a data side: clients come in by 'data'");
    (void)is_there(p, "server", "handshake", "is not for a data side: it can do none");
    (void)is_there(p, "server", "redirect", "is not for a data side: it sends nobody on");
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        (void)is_there(p, none[i].section, none[i].name, "is not for a data side, which has no keystore and no keeper");
    if (p->config.files.receipts)
        (void)is_there(p, "files", "receipts", "is not for a data side: it has no key to sign with");
    if (p->config.data_count == 0)
        fail(p, "[server] has no 'data': where clients come in");
    if (p->config.ticket_keys[0] == '\0')
        fail(p, "[tickets] has no 'keys': the file that 'keyadmin ticket-keys' makes");
    p->config.data_only = true;
    p->config.listen_count = p->config.epoch_count = 0;
    p->config.update = p->config.tickets = false;
    p->config.profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK) | CHV_PROFILE_BIT(CHV_PROFILE_KEY) |
                         CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK); /* of the handshakes behind the tickets */
}

static void check_server(struct parse *p)
{
    const struct chv_server_config *c = &p->config;
    check_ports(p);
    if (c->keystore[0] == '\0')
        fail(p, "[server] has no 'keystore': the file with the master secret (keyadmin init makes one)");
    else if ((c->profiles & CHV_PROFILE_BIT(CHV_PROFILE_KEY)) != 0 && c->allowed_keys[0] == '\0' && denies_only(c))
        fail(p, "[server] serves profile key, but has neither 'allowed-keys', the file with the keys that may come in, "
                "nor a 'registry' of them");
    else if (c->allowed_keys[0] != '\0' && !chv_server_wants_identity(c))
        fail(p, "[server] has 'allowed-keys', but 'profiles' has neither key nor key+psk");
    else if (c->files.receipts && c->files.home[0] == '\0')
        fail(p, "[files] has 'receipts = on', but no 'home': there are no files to sign receipts of");
    else if (!c->files.receipts && c->files.receipt_key[0] != '\0')
        fail(p, "[files] has 'receipt-key', but not 'receipts = on'");
    if (!epoch_served(c, c->update_to))
        fail(p, "update-to = %u is none of the epochs", c->update_to);
}

/* A data side without one asks nobody: rights are the ticket's. */
static void check_registry(struct parse *p)
{
    const struct chv_server_config *c = &p->config;
    if (c->registry[0] == '\0' && !p->data_only && !set_default_registry(p))
        fail(p, "the file's name is too long");
    if (c->registry_required)
        return;
    if (c->registry[0] == '\0' || denies_only(c))
        fail(p, "[server] has 'registry-required = no', but no 'registry' that could be away");
    else if (c->state[0] == '\0')
        fail(p, "[server] has 'registry-required = no', but no 'state': the folder that the deny snapshot is in");
}

static enum chv_err parse(const char *text, const char *file, bool data_only, struct chv_server_config *config,
                          struct chv_why *why)
{
    const char *slash = strrchr(file, '/');
    struct parse *p = calloc(1, sizeof *p);
    if (p == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    p->text = text;
    p->data_only = data_only;
    p->place.file = file;
    p->place.dir_len = slash != NULL ? (size_t)(slash - file) + 1 : 0;
    chv_server_config_defaults(&p->config);

    ini_use_stack = false;
    ini_max_line = CHV_CONFIG_LINE_SIZE;
    ini_initial_alloc = CHV_CONFIG_LINE_SIZE;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    int result = ini_parse_stream(next_line, p, handle, p);
    if (!p->failed && result != 0) {
        p->line = result > 0 ? result : 0;
        fail(p, "%s", result > 0 ? "not a 'key = value' line" : "out of memory");
    }
    p->line = 0;
    if (p->config.name[0] == '\0')
        fail(p, "[server] has no 'name': the server name that clients are provisioned for");
    check_registry(p);
    if (data_only)
        check_data_side(p);
    else
        check_server(p);
    check_shares(p);
    check_tunnels(p);

    enum chv_err err = p->failed ? CHV_ERR_CONFIG : CHV_OK;
    if (err == CHV_OK)
        *config = p->config;
    else
        (void)chv_fail(why, err, "%s", p->why.text);
    free(p);
    return err;
}

enum chv_err chv_server_config_parse(const char *text, const char *file, struct chv_server_config *config,
                                     struct chv_why *why)
{
    return parse(text, file, false, config, why);
}

enum chv_err chv_server_config_parse_data(const char *text, const char *file, struct chv_server_config *config,
                                          struct chv_why *why)
{
    return parse(text, file, true, config, why);
}
