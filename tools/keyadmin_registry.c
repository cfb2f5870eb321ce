/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin's registry: found, opened, audited, sealed. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/hkdf.h"
#include "tools/times.h"

static const char registry_scheme_revoked[] = "revoked:";

const char *keyadmin_registry_revoked(const char *uri)
{
    size_t len = sizeof registry_scheme_revoked - 1;
    return strncmp(uri, registry_scheme_revoked, len) == 0 ? uri + len : NULL;
}

/* By the process's user id: who the audit trail names is not what an environment says. */
static void registry_actor(char out[CHV_AUDIT_ACTOR_MAX + 1])
{
    const uid_t uid = getuid();
    const struct passwd *user = getpwuid(uid);
    bool plain = user != NULL && user->pw_name[0] != '\0';
    for (const char *c = plain ? user->pw_name : ""; *c != '\0'; c++)
        plain = plain && *c > ' ' && *c <= '~';
    if (plain)
        (void)snprintf(out, CHV_AUDIT_ACTOR_MAX + 1, "%s %s", chv_cli_program(), user->pw_name);
    else
        (void)snprintf(out, CHV_AUDIT_ACTOR_MAX + 1, "%s uid=%lu", chv_cli_program(), (unsigned long)uid);
}

/* Root, too, believes the file of who is denied that belongs to the server's own user. */
static uid_t registry_owner(const struct chv_server_config *config)
{
    const struct passwd *user =
        config != NULL && config->user[0] != '\0' && geteuid() == 0 ? getpwnam(config->user) : NULL;
    return user != NULL ? user->pw_uid : 0;
}

static enum chv_err registry_open_uri(enum chv_registry_mode mode, uid_t owner, struct keyadmin_registry *reg,
                                      struct chv_why *why)
{
    struct chv_registry_options options = {.mode = mode, .crypto = &reg->crypto, .owner = owner};
    const char *revoked = keyadmin_registry_revoked(reg->uri);
    registry_actor(reg->actor);
    if (reg->uri[0] == '\0' || (revoked != NULL && mode != CHV_REGISTRY_READ))
        return CHV_OK;
    if (revoked != NULL && access(revoked, F_OK) != 0)
        return CHV_OK; /* nobody is denied */
    enum chv_err err = chv_backend_open("openssl", &reg->crypto, why);
    return err == CHV_OK ? chv_registry_open(reg->uri, &options, &reg->r, why) : err;
}

/* Whoever changes a backup that is too old builds on what was taken back: said once by a run of this program. */
static void registry_warn_older(const struct keyadmin_registry *reg, const char *state)
{
    static bool said;
    bool older = false;
    struct chv_why text = {""};
    if (said || state[0] == '\0' || access(state, R_OK | X_OK) != 0) /* the server's user may keep it to itself */
        return;
    enum chv_err err = chv_registry_mark_check(reg->r, state, &older, &text);
    said = older || err != CHV_OK;
    if (older)
        (void)chv_cli_fail(EX_OK, "warning: %s", text.text);
    else if (err != CHV_OK)
        (void)chv_cli_error(err, &text, "warning: whether the registry is an old backup is not known");
}

enum chv_err keyadmin_registry_open(const struct chv_cli_args *args, const struct chv_server_config *config,
                                    enum chv_registry_mode mode, struct keyadmin_registry *reg, struct chv_why *why)
{
    const char *given = chv_cli_value(args, "registry");
    memset(reg, 0, sizeof *reg);
    if (given == NULL && config != NULL)
        given = config->registry;
    if (given != NULL &&
        snprintf(reg->uri, sizeof reg->uri, "%s", strcmp(given, "none") == 0 ? "" : given) >= (int)sizeof reg->uri)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--registry: the URI is too long");
    enum chv_err err = registry_open_uri(mode, registry_owner(config), reg, why);
    if (err == CHV_OK && reg->r != NULL && mode == CHV_REGISTRY_WRITE && config != NULL &&
        strcmp(reg->uri, config->registry) == 0)
        registry_warn_older(reg, config->state);
    return err;
}

enum chv_err keyadmin_registry_find(const struct chv_cli_args *args, enum chv_registry_mode mode,
                                    struct keyadmin_registry *reg, struct chv_why *why)
{
    struct keyadmin_server server = {0};
    enum chv_err err = CHV_OK;
    memset(reg, 0, sizeof *reg);
    if (!chv_cli_given(args, "registry") || chv_cli_given(args, "config"))
        err = keyadmin_server_config(args, &server, why);
    if (err == CHV_ERR_NOT_FOUND && !chv_cli_given(args, "config"))
        err = chv_fail(why, err, "no configuration file that says where the registry is; give --config or --registry");
    if (err == CHV_OK)
        err = keyadmin_registry_open(args, server.config, mode, reg, why);
    reg->config = server.config;
    server.config = NULL;
    keyadmin_server_close(&server);
    return err;
}

void keyadmin_registry_close(struct keyadmin_registry *reg)
{
    free(reg->config);
    reg->config = NULL;
    chv_registry_close(reg->r);
    reg->r = NULL;
    chv_backend_close(&reg->crypto);
}

/* --- audit ---------------------------------------------------------------------------------------------------------
 */

enum chv_err keyadmin_audit(struct keyadmin_registry *reg, const char *action, const char *id, json_t *details,
                            struct chv_why *why)
{
    struct chv_audit_row row = {.time = chv_time_now()};
    (void)snprintf(row.actor, sizeof row.actor, "%s", reg->actor);
    (void)snprintf(row.action, sizeof row.action, "%s", action);
    (void)snprintf(row.id, sizeof row.id, "%s", id);
    if (details != NULL) {
        size_t len = json_dumpb(details, row.details, sizeof row.details, JSON_COMPACT);
        if (len >= sizeof row.details) { /* the scopes of a client in profile key may be many */
            (void)json_object_del(details, "scopes");
            memset(row.details, 0, sizeof row.details);
            len = json_dumpb(details, row.details, sizeof row.details, JSON_COMPACT);
        }
        json_decref(details);
        if (len == 0 || len >= sizeof row.details)
            return chv_fail(why, CHV_ERR_MEMORY, "the audit row is too long");
    }
    return chv_registry_audit(reg->r, &row, why);
}

enum chv_err keyadmin_audit_mac(void *arg, uint32_t epoch, const uint8_t *message, size_t len,
                                uint8_t mac[CHV_AUDIT_MAC_LEN], struct chv_why *why)
{
    struct chv_keystore *keystore = arg;
    struct chv_crypto crypto = {0};
    const struct chv_part part = {message, len};
    uint8_t info[CHV_INFO_MAX], key[CHV_SECRET_LEN] = {0};
    char label[CHV_LABEL_MAX + 1];
    size_t info_len = 0;

    (void)snprintf(label, sizeof label, "master:%lu", (unsigned long)epoch);
    enum chv_err err = chv_info_audit(info, &info_len);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &crypto, why);
    if (err == CHV_OK)
        err = chv_keystore_derive(keystore, label, info, info_len, key, why);
    if (err == CHV_ERR_NOT_FOUND)
        err = chv_fail(why, err, "the keystore has no master of epoch %lu any more, which sealed the audit trail",
                       (unsigned long)epoch);
    if (err == CHV_OK)
        err = chv_crypto_hmac(&crypto, CHV_HASH_SHA256, key, sizeof key, &part, 1, mac);
    chv_wipe(key, sizeof key);
    chv_backend_close(&crypto);
    return err;
}

/* The configuration tells, not the registry: who can write there would say in it that his epoch is served. */
enum chv_err keyadmin_seal_believed(struct keyadmin_registry *reg, const struct keyadmin_server *server,
                                    struct chv_why *why)
{
    struct chv_audit_seal seal = {.n = 0};
    enum chv_err err = chv_registry_seal_get(reg->r, &seal, why);
    bool believed = server->config == NULL || seal.n == 0 || seal.epoch == server->latest;
    for (size_t i = 0; !believed && i < server->config->epoch_count; i++)
        believed = server->config->epochs[i] == seal.epoch;
    if (err == CHV_OK && !believed)
        err = chv_fail(
            why, CHV_ERR_AUTH,
            "%s: audit row %" PRIu64 " has a seal by the master of epoch %" PRIu32
            ", which is not in epochs of %s: whoever has that master may have made it; 'keyadmin audit seal --anew', "
            "once the rows have been looked at",
            chv_registry_name(reg->r), seal.n, seal.epoch, server->config_file);
    return err;
}

void keyadmin_seal(struct keyadmin_registry *reg, const struct keyadmin_server *server)
{
    struct chv_why why = {""};
    if (reg->r == NULL)
        return;
    enum chv_err err = keyadmin_seal_believed(reg, server, &why);
    if (err == CHV_OK)
        err =
            chv_registry_seal(reg->r, server->latest, chv_time_now(), keyadmin_audit_mac, server->keystore, NULL, &why);
    if (err != CHV_OK)
        (void)chv_cli_error(err, &why, "warning: the audit trail was not sealed");
}
