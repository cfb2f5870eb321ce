/* SPDX-License-Identifier: Apache-2.0 */
/* What keyadmin's commands share: the server they are about, a credential from options, printing. */
#include "tools/keyadmin.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "net/keycheck.h"
#include "services/scopes.h"
#include "tools/identity.h"
#include "tools/times.h"

static const char keyadmin_config_here[] = "chaveirod.conf";
static const char keyadmin_config_system[] = SYSCONFDIR "/chaveiro/chaveirod.conf";
static const char keyadmin_default_expiry[] = "90d";
static const char keyadmin_default_scope[] = "message";

enum { KEYADMIN_HOST_MAX = 256 };

static enum chv_err keyadmin_find_config(const struct chv_cli_args *args, const char **file, struct chv_why *why)
{
    *file = chv_cli_value(args, "config");
    if (*file != NULL)
        return CHV_OK;
    *file = keyadmin_config_here;
    if (access(*file, F_OK) == 0)
        return CHV_OK;
    *file = keyadmin_config_system;
    if (access(*file, F_OK) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_NOT_FOUND, "no configuration file: neither ./%s nor %s; give --config or --keystore",
                    keyadmin_config_here, keyadmin_config_system);
}

enum chv_err keyadmin_server_config(const struct chv_cli_args *args, struct keyadmin_server *server,
                                    struct chv_why *why)
{
    enum chv_err err = keyadmin_find_config(args, &server->config_file, why);
    if (err != CHV_OK)
        return err;
    server->config = malloc(sizeof *server->config);
    if (server->config == NULL)
        return CHV_ERR_MEMORY;
    err = chv_server_config_load(server->config_file, server->config, why);
    if (err != CHV_OK) {
        free(server->config);
        server->config = NULL;
    }
    return err;
}

static struct chv_secret_options keyadmin_secrets(const struct chv_cli_args *args)
{
    return (struct chv_secret_options){.passphrase_file = chv_cli_value(args, "passphrase-file"),
                                       .pin_file = chv_cli_value(args, "pin-file"),
                                       .pin_fd = chv_cli_value(args, "pin-fd")};
}

enum chv_err keyadmin_secret(const struct chv_cli_args *args, const char *uri, struct chv_secret_source *secret,
                             struct chv_why *why)
{
    const struct chv_secret_options secrets = keyadmin_secrets(args);
    return chv_secret_for(uri, &secrets, secret, why);
}

enum chv_err keyadmin_open_operand(const struct chv_cli_args *args, struct chv_keystore **ks, struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    enum chv_err err = chv_token_uri(args->operands[0], chv_cli_value(args, "module"), NULL, uri, why);
    if (err == CHV_OK)
        err = keyadmin_secret(args, uri, &secret, why);
    return err == CHV_OK ? chv_provision_open(&store, CHV_KEYSTORE_READ, ks, why) : err;
}

/* The keystore's URI with its module: --module, unless that can be meant for the client's token only, else the file's.
 */
static enum chv_err keyadmin_server_uri(const struct chv_cli_args *args, const char *uri,
                                        struct keyadmin_server *server, struct chv_why *why)
{
    const char *said = chv_cli_value(args, "module"), *file = server->config != NULL ? server->config->module : "";
    bool complete = !chv_token_uri_is(uri) || strstr(uri, "module-path=") != NULL || file[0] != '\0';
    bool client = args->command->run != keyadmin_identity_new && chv_cli_given(args, "to");
    return said == NULL || (complete && client) ? chv_token_uri_default(uri, file, server->uri, why)
                                                : chv_token_uri(uri, said, NULL, server->uri, why);
}

enum chv_err keyadmin_server_find(const struct chv_cli_args *args, struct keyadmin_server *server, struct chv_why *why)
{
    struct chv_secret_options secrets = keyadmin_secrets(args);
    const char *uri = chv_cli_value(args, "keystore");
    enum chv_err err = CHV_OK;

    memset(server, 0, sizeof *server);
    if (uri == NULL || chv_cli_given(args, "config"))
        err = keyadmin_server_config(args, server, why);
    if (err != CHV_OK)
        return err;
    if (uri == NULL) {
        uri = server->config->keystore;
        if (secrets.passphrase_file == NULL && secrets.pin_file == NULL && secrets.pin_fd == NULL &&
            server->config->passphrase_file[0] != 0)
            secrets.passphrase_file = server->config->passphrase_file;
    }
    err = keyadmin_server_uri(args, uri, server, why);
    return err == CHV_OK ? chv_secret_for(server->uri, &secrets, &server->secret, why) : err;
}

enum chv_err keyadmin_server_open(const struct chv_cli_args *args, struct keyadmin_server *server, struct chv_why *why)
{
    return keyadmin_server_open_for(args, CHV_KEYSTORE_READ, server, why);
}

enum chv_err keyadmin_server_open_for(const struct chv_cli_args *args, enum chv_keystore_mode mode,
                                      struct keyadmin_server *server, struct chv_why *why)
{
    const struct chv_provision_store store = {
        .uri = server->uri, .secret = chv_secret_get, .secret_arg = &server->secret};

    memset(server, 0, sizeof *server);
    if (chv_cli_given(args, "keystore") && chv_cli_given(args, "config"))
        return chv_fail(why, CHV_ERR_ARGUMENT, "give --config or --keystore, not both");
    enum chv_err err = keyadmin_server_find(args, server, why);
    if (err != CHV_OK)
        return err;
    err = chv_provision_open(&store, mode, &server->keystore, why);
    if (err == CHV_OK)
        err = chv_provision_epochs(server->keystore, server->epochs, &server->epoch_count, why);
    for (size_t i = 0; err == CHV_OK && server->config != NULL && i < server->epoch_count; i++)
        err =
            chv_keycheck(server->keystore, server->epochs[i], server->config->checks, server->config->check_count, why);
    if (err == CHV_OK && server->config != NULL)
        memcpy(server->name, server->config->name, sizeof server->name);
    else if (err == CHV_OK)
        err = chv_provision_text(server->keystore, "server", server->name, sizeof server->name, why);
    if (err == CHV_OK)
        server->latest = server->epochs[server->epoch_count - 1];
    return err;
}

void keyadmin_server_close(struct keyadmin_server *server)
{
    chv_keystore_close(server->keystore);
    server->keystore = NULL;
    free(server->config);
    server->config = NULL;
}

/* "0.0.0.0:7040" tells a client nothing: the host's name stands in for an address that means all of them. */
static void keyadmin_reachable(const char *listen, char out[CHV_ADDRESS_MAX + 1])
{
    static const char *const wildcards[] = {"0.0.0.0:", "[::]:", "*:", ":"};
    char host[KEYADMIN_HOST_MAX] = "";
    for (size_t i = 0; i < sizeof wildcards / sizeof wildcards[0]; i++) {
        size_t len = strlen(wildcards[i]);
        if (strncmp(listen, wildcards[i], len) == 0 && gethostname(host, sizeof host - 1) == 0 && host[0] != 0) {
            (void)snprintf(out, CHV_ADDRESS_MAX + 1, "%.200s:%s", host, listen + len);
            return;
        }
    }
    (void)snprintf(out, CHV_ADDRESS_MAX + 1, "%s", listen);
}

enum chv_err keyadmin_server_address(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                     char out[CHV_ADDRESS_MAX + 1], struct chv_why *why)
{
    const char *given = chv_cli_value(args, "address");
    if (given != NULL) {
        enum chv_err err = chv_provision_address(given, why);
        if (err == CHV_OK)
            (void)snprintf(out, CHV_ADDRESS_MAX + 1, "%s", given);
        return err;
    }
    enum chv_err err = chv_provision_text(server->keystore, "address", out, CHV_ADDRESS_MAX + 1, why);
    if (err != CHV_ERR_NOT_FOUND)
        return err;
    if (server->config == NULL || server->config->listen_count + server->config->handshake_count == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "what shall the client connect to? Give --address HOST:PORT");
    keyadmin_reachable(server->config->listen_count > 0 ? server->config->listen[0] : server->config->handshake[0],
                       out);
    return CHV_OK;
}

/* --- credentials ---------------------------------------------------------------------------------------------------
 */

bool keyadmin_scope_known(const struct chv_server_config *config, const char *scope)
{
    for (size_t i = 0; config != NULL && i < config->files.share_count; i++)
        if (strcmp(config->files.shares[i].scope, scope) == 0)
            return true;
    return chv_scope_known(scope);
}

/* It may be a slip of the hand, or a service of later on. */
void keyadmin_warn_scope(const struct chv_server_config *config, const char *scope)
{
    if (!keyadmin_scope_known(config, scope))
        (void)chv_cli_fail(
            EX_OK,
            "warning: no service knows the scope '%s': it grants nothing; there are %s and the scopes of "
            "[share] sections",
            scope, CHV_SCOPES_KNOWN);
}

/* The server refuses credentials that outlive its limit: better said now than found out by the client. */
void keyadmin_warn(const struct keyadmin_server *server, const struct chv_credential *c, const char *address)
{
    const char *port = strrchr(address, ':');
    for (size_t i = 0; i < c->scope_count; i++)
        keyadmin_warn_scope(server->config, c->scopes[i]);
    if (strncmp(address, "unix:", strlen("unix:")) != 0 && port != NULL && strcmp(port, ":0") == 0)
        (void)chv_cli_fail(
            EX_OK, "warning: the client cannot connect to %s, the server's port is not fixed: give --address", address);
    if (server->config == NULL)
        return;
    if ((chv_server_profiles(server->config) & CHV_PROFILE_BIT(c->profile)) == 0)
        (void)chv_cli_fail(EX_OK, "warning: the server will refuse this client: 'profiles' in %s does not have %s",
                           server->config_file, chv_profile_name(c->profile));
    if (c->profile == CHV_PROFILE_KEY)
        return; /* the rest is about credentials */
    uint64_t now = chv_time_now();
    uint64_t most = server->config->max_lifetime;
    if (most != 0 && (c->not_after == 0 || c->not_after > now + most + CHV_LIFETIME_SLACK))
        (void)chv_cli_fail(
            EX_OK,
            "warning: the server will refuse this credential: it lives longer than max-lifetime = %" PRIu64
            " days in %s",
            most / 86400, server->config_file);
}

enum chv_err keyadmin_profile(const struct chv_cli_args *args, enum chv_profile *profile, struct chv_why *why)
{
    const char *name = chv_cli_value(args, "profile");
    *profile = CHV_PROFILE_PSK;
    if (name == NULL || chv_profile_find(name, profile) == CHV_OK)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_ARGUMENT, "unknown profile '%.40s': there are psk, key and key+psk", name);
}

/* --profile and --identity.  Without --identity the key is still to be made, and its hash with it. */
static enum chv_err keyadmin_bind(const struct chv_cli_args *args, struct chv_provision *p, struct chv_why *why)
{
    const char *given = chv_cli_value(args, "identity");
    struct chv_identity identity;
    enum chv_profile profile;
    enum chv_err err = keyadmin_profile(args, &profile, why);
    if (err != CHV_OK || profile == CHV_PROFILE_PSK)
        return err;
    if (profile == CHV_PROFILE_KEY) { /* what an entry of the allow-list says */
        p->credential.profile = profile;
        p->credential.epoch = p->credential.serial = 0;
        if (!chv_cli_given(args, "expires"))
            p->credential.not_after = 0;
        return CHV_OK;
    }
    if (given == NULL) {
        p->credential.profile = profile;
        p->credential.has_identity = true;
        return CHV_OK;
    }
    err = chv_identity_public(given, &identity, why);
    return err == CHV_OK ? chv_provision_bind(p, &identity, why) : err;
}

enum chv_err keyadmin_credential(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                 struct chv_provision *p, struct chv_why *why)
{
    const char *expires = chv_cli_value(args, "expires");
    uint64_t epoch, serial, not_after, now = chv_time_now();
    enum chv_err err = chv_cli_number(args, "epoch", 1, UINT32_MAX, server->latest, &epoch, why);
    if (err == CHV_OK)
        err = chv_cli_number(args, "serial", 1, UINT32_MAX, 1, &serial, why);
    if (err == CHV_OK)
        err = chv_time_expiry(expires != NULL ? expires : keyadmin_default_expiry, now, &not_after, why);
    if (err == CHV_OK)
        err = chv_provision_begin(p, args->operands[0], (uint32_t)epoch, (uint32_t)serial, not_after, why);
    for (size_t i = 0; err == CHV_OK && i < args->repeat_count; i++) /* --scope is the one that repeats */
        err = chv_provision_scope(p, args->repeats[i], why);
    if (err == CHV_OK && args->repeat_count == 0)
        err = chv_provision_scope(p, keyadmin_default_scope, why);
    if (err == CHV_OK)
        err = keyadmin_bind(args, p, why);
    if (err == CHV_OK && p->credential.profile != CHV_PROFILE_KEY)
        err = chv_provision_end(p, why);
    return err;
}

enum chv_err keyadmin_cost(const struct chv_cli_args *args, uint64_t *n, struct chv_why *why)
{
    enum chv_err err = chv_cli_number(args, "scrypt-cost", 1u << 14, 1u << 20, 0, n, why);
    if (err == CHV_OK && (*n & (*n - 1)) != 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--scrypt-cost wants a power of two, not %" PRIu64, *n);
    return err;
}

/* --- printing ------------------------------------------------------------------------------------------------------
 */

void keyadmin_put_hex(json_t *object, const char *name, const uint8_t *bytes, size_t len)
{
    char hex[CHV_HEX_SIZE(CHV_INFO_MAX)];
    if (len > CHV_INFO_MAX)
        return;
    chv_hex_encode(bytes, len, hex);
    (void)json_object_set_new(object, name, json_string(hex));
}

void keyadmin_describe(json_t *object, const struct chv_credential *c)
{
    char expires[CHV_TIME_TEXT], bound[CHV_FINGERPRINT_MAX];
    json_t *scopes = json_array();
    chv_time_format(c->not_after, expires);
    for (size_t i = 0; i < c->scope_count; i++)
        (void)json_array_append_new(scopes, json_string(c->scopes[i]));
    (void)json_object_set_new(object, "client", json_string(c->id));
    (void)json_object_set_new(object, "profile", json_string(chv_profile_name(c->profile)));
    (void)json_object_set_new(object, "scopes", scopes);
    (void)json_object_set_new(object, "expires", json_string(expires));
    if (c->profile == CHV_PROFILE_KEY)
        return;
    (void)json_object_set_new(object, "epoch", json_integer(c->epoch));
    (void)json_object_set_new(object, "serial", json_integer(c->serial));
    if (c->has_identity) {
        chv_fingerprint_format(c->identity_hash, bound);
        (void)json_object_set_new(object, "bound_to", json_string(bound));
    }
}
