/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/client_config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/credential.h"
#include "core/identity.h"
#include "tools/provision.h"
#include "tools/token.h"

enum { TEXT_MAX = 64 * 1024 };

enum kind { KIND_FILE, KIND_STORE, KIND_PUBLIC, KIND_ADDRESS, KIND_SUITE, KIND_PROFILE, KIND_HOSTS, KIND_NAME };

struct key {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct chv_client_config */
    const char *allowed;
};

#define AT(member) offsetof(struct chv_client_config, member)

static const struct key keys[] = {
    {"keystore", KIND_STORE, AT(keystore), "a file name or a URI (file:PATH, pkcs11:token=NAME)"},
    {"passphrase-file", KIND_FILE, AT(passphrase_file), "a file name"},
    {"profile", KIND_PROFILE, AT(profile), "psk, key or key+psk"},
    {"identity", KIND_STORE, AT(identity), "the name of a PEM file or a URI (pkcs11:token=NAME)"},
    {"identity-passphrase-file", KIND_FILE, AT(identity_passphrase_file), "a file name"},
    {"server-key", KIND_PUBLIC, AT(server_key), "the name of a PEM file, or a key: x25519 BASE64, p256 BASE64"},
    {"receipt-key", KIND_PUBLIC, AT(receipt_key), "the name of a PEM file, or a key: p256 BASE64"},
    {"address", KIND_ADDRESS, AT(address), "HOST:PORT, [V6]:PORT or unix:/PATH"},
    {"suite", KIND_SUITE, AT(suite), "x25519-aesgcm-sha256, x25519-chachapoly-sha256, p256-aesgcm-sha256"},
    {"tickets", KIND_FILE, AT(tickets), "a file name"},
    {"redirect-hosts", KIND_HOSTS, AT(redirect_hosts), "host names or addresses without ports, HOST, HOST..."},
    {"server-name", KIND_NAME, AT(server_name), "1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'"},
};

enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

struct parse {
    const char *file;
    size_t dir_len; /* of `file`, with its last slash */
    unsigned seen;  /* bit per key */
    bool failed;
    char what[400]; /* the first failure */
    struct chv_client_config config;
};

static int fail(struct parse *p, const char *format, ...) CHV_PRINTF(2, 3);
static int fail(struct parse *p, const char *format, ...)
{
    va_list args;
    if (p->failed)
        return 0;
    p->failed = true;
    va_start(args, format);
    (void)vsnprintf(p->what, sizeof p->what, format, args);
    va_end(args);
    return 0;
}

static bool copy(char *out, size_t size, const char *value)
{
    int n = snprintf(out, size, "%s", value);
    return n > 0 && (size_t)n < size;
}

/* A path that is not absolute starts at the configuration file's folder; what has a scheme before it stays so. */
static bool set_path(const struct parse *p, char out[PATH_MAX], const char *value)
{
    static const char *const schemes[] = {"file:", "pem:"};
    const char *path = value;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncmp(value, schemes[i], strlen(schemes[i])) == 0)
            path = value + strlen(schemes[i]);
    if (*path == '\0')
        return false;
    int dir_len = *path == '/' ? 0 : (int)p->dir_len;
    int n = snprintf(out, PATH_MAX, "%.*s%.*s%s", (int)(path - value), value, dir_len, p->file, path);
    return n > 0 && n < PATH_MAX;
}

static bool set_public(const struct parse *p, char out[PATH_MAX], const char *value)
{
    char curve[16];
    size_t n = strcspn(value, " \t");
    if (n >= sizeof curve || value[n] == '\0')
        return set_path(p, out, value);
    enum chv_curve ignored;
    memcpy(curve, value, n);
    curve[n] = '\0';
    return chv_identity_curve_find(curve, &ignored) == CHV_OK ? copy(out, PATH_MAX, value) : set_path(p, out, value);
}

/* Names or addresses with commas between them; blanks may stand around a comma. */
static bool is_hosts(const char *value)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_-";
    for (;;) {
        value += strspn(value, " \t");
        const size_t n = strspn(value, letters);
        value += n;
        value += strspn(value, " \t");
        if (n == 0 || (*value != ',' && *value != '\0'))
            return false;
        if (*value == '\0')
            return true;
        value++;
    }
}

static bool set_value(struct parse *p, const struct key *key, const char *value)
{
    char *out = (char *)&p->config + key->offset;
    enum chv_suite suite;
    switch (key->kind) {
    case KIND_FILE:
        return set_path(p, out, value);
    case KIND_STORE:
        return chv_token_uri_is(value) ? copy(out, PATH_MAX, value) : set_path(p, out, value);
    case KIND_PUBLIC:
        return set_public(p, out, value);
    case KIND_ADDRESS:
        return chv_provision_address(value, NULL) == CHV_OK && copy(out, sizeof p->config.address, value);
    case KIND_SUITE:
        return chv_suite_find(value, &suite) == CHV_OK && copy(out, sizeof p->config.suite, value);
    case KIND_PROFILE:
        return chv_profile_find(value, &p->config.profile) == CHV_OK;
    case KIND_HOSTS:
        return is_hosts(value) && copy(out, sizeof p->config.redirect_hosts, value);
    case KIND_NAME:
        return chv_server_name_valid(value) && copy(out, sizeof p->config.server_name, value);
    }
    return false;
}

static int handle(void *arg, const char *section, const char *name, const char *value)
{
    struct parse *p = arg;
    char tunnel[CHV_TUNNEL_NAME_MAX + 1];
    size_t i = 0;
    if (p->failed)
        return 0;
    if (section[0] == '\0')
        return fail(p, "key '%.64s' stands before the line [client]", name);
    if (chv_client_tunnel_section(section, tunnel)) {
        struct chv_why why = {""};
        return chv_client_tunnel_set(&p->config.tunnels, tunnel, name, value, &why) == CHV_OK ? 1
                                                                                              : fail(p, "%s", why.text);
    }
    if (strcmp(section, "client") != 0)
        return fail(p,
                    "key '%.64s' in section [%.64s]: there are only [client] and [tunnel \"NAME\"], the name 1 to 25 "
                    "of a-z 0-9 . _ -",
                    name, section);
    while (i < KEY_COUNT && strcmp(keys[i].name, name) != 0)
        i++;
    if (i == KEY_COUNT)
        return fail(p,
                    "unknown key '%.64s'; known are: keystore, passphrase-file, profile, identity, "
                    "identity-passphrase-file, server-key, receipt-key, address, suite, tickets, redirect-hosts, "
                    "server-name",
                    name);
    if ((p->seen & 1u << i) != 0)
        return fail(p, "key '%s' is given twice", name);
    p->seen |= 1u << i;
    if (!set_value(p, &keys[i], value))
        return fail(p, "%s = '%.100s' is not allowed; allowed: %s", name, value, keys[i].allowed);
    return 1;
}

enum chv_err chv_client_config_parse(const char *text, const char *file, struct chv_client_config *config,
                                     struct chv_why *why)
{
    const char *slash = strrchr(file, '/');
    enum chv_err err = CHV_OK;
    struct parse *p = calloc(1, sizeof *p);
    if (p == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    p->file = file;
    p->dir_len = slash != NULL ? (size_t)(slash - file) + 1 : 0;
    ini_use_stack = false;
    ini_max_line = 8192;
    ini_initial_alloc = 8192;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    int line = ini_parse_string(text, handle, p); /* the first line that was not taken */
    if (line < 0)
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    else if (line > 0)
        err = chv_fail(why, CHV_ERR_CONFIG, "%s:%d: %s", file, line,
                       p->what[0] != '\0' ? p->what : "not a 'key = value' line");
    else if (!copy(p->config.file, sizeof p->config.file, file))
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: the name is too long", file);
    if (err == CHV_OK)
        *config = p->config;
    free(p);
    return err;
}

/* False: there is none, or nobody knows where. */
static bool users_own(char out[PATH_MAX])
{
    static const char name[] = "chaveiro/chaveiro.conf";
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = 0;
    if (folder != NULL && folder[0] == '/')
        n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    else if (home != NULL && home[0] == '/')
        n = snprintf(out, PATH_MAX, "%s/.config/%s", home, name);
    return n > 0 && n < PATH_MAX && access(out, F_OK) == 0;
}

enum chv_err chv_client_config_load(const char *file, struct chv_client_config *config, struct chv_why *why)
{
    char own[PATH_MAX], absolute[PATH_MAX];
    enum chv_err err = CHV_OK;
    char *text = NULL;
    if (file == NULL && !users_own(own)) {
        memset(config, 0, sizeof *config);
        return CHV_OK;
    }
    if (file == NULL)
        file = own;
    FILE *f = realpath(file, absolute) != NULL ? fopen(absolute, "re") : NULL;
    if (f == NULL)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
    text = malloc(TEXT_MAX + 1);
    if (text == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
        goto out;
    }
    size_t len = fread(text, 1, TEXT_MAX + 1, f);
    if (ferror(f)) {
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
        goto out;
    }
    if (len > TEXT_MAX || memchr(text, '\0', len) != NULL) {
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: not a configuration file: %s", file,
                       len > TEXT_MAX ? "longer than 64 KiB" : "has NUL bytes");
        goto out;
    }
    text[len] = '\0';
    err = chv_client_config_parse(text, absolute, config, why);
out:
    free(text);
    fclose(f);
    return err;
}
