/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tools/chaveirod_check.h"

#include "base/memory.h"
#include "net/allowlist.h"
#include "net/clockmark.h"
#include "net/connector.h"
#include "net/keycheck.h"
#include "net/registrar.h"
#include "net/sandbox.h"
#include "net/source.h"
#include "net/ticket_keys.h"
#include "tools/cli.h"
#include "tools/identity.h"
#include "tools/times.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum { BUSY_MS = 500, CONNECT_SECONDS = 2 };

static const char deny_scheme[] = "revoked:", file_scheme[] = "sqlite:";

static void warn(const char *text)
{
    (void)chv_cli_fail(EX_OK, "warning: %s", text);
}

/* Whether it was no problem. */
static bool tell(enum chv_err err, const struct chv_why *why)
{
    if (err != CHV_OK)
        (void)chv_cli_why(err, why);
    return err == CHV_OK;
}

/* --- what the first user of the server opens ---------------------------------------------------------------------- */

static enum chv_err check_keystore(const struct chv_server_config *config, struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct chv_keystore *keystore = NULL;
    enum chv_err err = chv_keystore_open(config->keystore, &options, &keystore, why);
    chv_keystore_close(keystore);
    return err;
}

/* A locked keystore does not say whether it has an identity key; the public half is written out wherever one is made. */
static enum chv_err check_identity(const struct chv_server_config *config, const char *file, struct chv_why *why)
{
    char path[PATH_MAX];
    struct chv_identity identity;
    struct chv_why detail = {""};
    if (!chv_server_wants_identity(config))
        return CHV_OK;
    enum chv_err err = chv_identity_server_file(file, path, why);
    if (err != CHV_OK)
        return err;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "profiles key and key+psk need the server's identity key, and %s, its public half, is not "
                        "there: run 'keyadmin identity new --server', or if the keystore has the key, 'keyadmin "
                        "identity show --pem KEYSTORE' and write that there",
                        path);
    err = chv_identity_public(path, &identity, &detail);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "the server's public identity key: %s", detail.text);
}

static enum chv_err check_allowed_keys(const struct chv_server_config *config, struct chv_why *why)
{
    struct chv_allowlist *allowed = NULL;
    if (config->allowed_keys[0] == '\0')
        return CHV_OK;
    enum chv_err err = chv_allowlist_load(config->allowed_keys, &allowed, NULL, why);
    chv_allowlist_unref(allowed);
    return err;
}

static enum chv_err check_passphrase(const struct chv_server_config *config, struct chv_why *why)
{
    if (config->passphrase_file[0] == '\0' || faccessat(AT_FDCWD, config->passphrase_file, R_OK, AT_EACCESS) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_CONFIG, "passphrase-file: %s: %s", config->passphrase_file, strerror(errno));
}

/* --- what it opens as `user` -------------------------------------------------------------------------------------- */

static enum chv_err check_state(const struct chv_server_config *config, struct chv_why *why)
{
    struct chv_clockmark mark;
    enum chv_err err = chv_clockmark_open(&mark, config->state, why);
    if (err == CHV_OK)
        chv_clockmark_close(&mark);
    return err;
}

static bool denies_only(const struct chv_server_config *config)
{
    return strncmp(config->registry, deny_scheme, strlen(deny_scheme)) == 0;
}

/* Tried without writing: the server writes who was seen, and SQLite its log beside the file. */
static enum chv_err check_registry_writable(const struct chv_server_config *config, struct chv_why *why)
{
    char folder[PATH_MAX];
    if (strncmp(config->registry, file_scheme, strlen(file_scheme)) != 0)
        return CHV_OK;
    const char *path = config->registry + strlen(file_scheme), *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
                   slash != NULL ? path : ".");
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0 && faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_CONFIG, "%s: the server's user cannot write to it and its folder: %s", path,
                    strerror(errno));
}

static enum chv_err look_into_registry(const struct chv_server_config *config, struct chv_registry *registry,
                                       struct chv_why *why)
{
    struct chv_registry_info info;
    struct chv_why text = {""};
    bool older = false;
    enum chv_err err = chv_registry_info(registry, &info, why);
    if (err != CHV_OK || denies_only(config))
        return err;
    if (config->state[0] != '\0' && chv_registry_mark_check(registry, config->state, &older, &text) == CHV_OK && older)
        warn(text.text);
    return check_registry_writable(config, why);
}

/* `absent`: a deny file that is not there, as far as the server's first user sees. */
static enum chv_err check_registry(const struct chv_server_config *config, bool absent, struct chv_why *why)
{
    struct chv_crypto crypto;
    struct chv_registry *registry = NULL;
    const struct chv_registry_options options = {
        .mode = CHV_REGISTRY_READ, .busy_ms = BUSY_MS, .connect_seconds = CONNECT_SECONDS, .crypto = &crypto};
    struct chv_why detail = {""};
    if (absent)
        return CHV_OK;
    enum chv_err err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_registry_open(config->registry, &options, &registry, &detail);
    if (err == CHV_OK)
        err = look_into_registry(config, registry, &detail);
    chv_registry_close(registry);
    chv_backend_close(&crypto);
    if (!config->registry_required && (err == CHV_ERR_UNAVAILABLE || err == CHV_ERR_BUSY || err == CHV_ERR_IO)) {
        warn(detail.text);
        err = CHV_OK;
    }
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s", detail.text[0] != '\0' ? detail.text : chv_err_text(err));
}

static enum chv_err check_folder(const char *key, const char *folder, struct chv_why *why)
{
    struct stat st;
    if (folder[0] == '\0')
        return CHV_OK;
    if (stat(folder, &st) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: %s: %s", key, folder, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: %s is no folder", key, folder);
    if (faccessat(AT_FDCWD, folder, R_OK | X_OK, AT_EACCESS) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: %s: %s; the server's user must be able to use it", key, folder,
                        strerror(errno));
    return CHV_OK;
}

static enum chv_err check_home(const struct chv_server_config *config, struct chv_why *why)
{
    enum chv_err err = check_folder("[files] home", config->files.home, why);
    for (size_t i = 0; i < config->files.share_count && err == CHV_OK; i++) {
        char key[CHV_SHARE_NAME_MAX + 32];
        (void)snprintf(key, sizeof key, "[share \"%s\"] path", config->files.shares[i].name);
        err = check_folder(key, config->files.shares[i].path, why);
    }
    return err;
}

static enum chv_err check_outbox(const struct chv_server_config *config, struct chv_why *why)
{
    return check_folder("[push] outbox", config->push.outbox, why);
}

static enum chv_err check_backend(const struct chv_server_config *config, struct chv_why *why)
{
    struct chv_crypto crypto;
    enum chv_err err = chv_backend_open(config->backend, &crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_server_suites_check(&crypto, config->suites, why);
    chv_backend_close(&crypto);
    return err;
}

/* Where a tunnel leads to now. A target that is not there yet is no reason not to start: a warning. */
static void tell_tunnel(const struct chv_server_tunnel *tunnel)
{
    char host[CHV_CONNECTOR_HOST_MAX + 1], port[CHV_CONNECTOR_PORT_MAX + 1], address[CHV_PEER_TEXT];
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (!chv_connector_target_split(tunnel->target, host, port)) {
        const char *path = tunnel->target + strlen("unix:");
        (void)printf("tunnel \"%s\" leads to %s\n", tunnel->name, tunnel->target);
        if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0)
            (void)chv_cli_fail(EX_OK, "warning: [tunnel \"%s\"] target: %s: %s", tunnel->name, path, strerror(errno));
        return;
    }
    const int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) {
        (void)printf("tunnel \"%s\" leads to %s\n", tunnel->name, tunnel->target);
        (void)chv_cli_fail(EX_OK, "warning: [tunnel \"%s\"] target: %s cannot be resolved now: %s", tunnel->name, host,
                           gai_strerror(rc));
        return;
    }
    (void)printf("tunnel \"%s\" leads to %s, now", tunnel->name, tunnel->target);
    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        chv_source_text(info->ai_addr, address);
        (void)printf("%s %s", info == list ? "" : ",", address);
    }
    (void)printf("\n");
    freeaddrinfo(list);
}

typedef enum chv_err (*check_fn)(const struct chv_server_config *config, struct chv_why *why);

static bool check_as_user(const struct chv_server_config *config, bool absent)
{
    static const check_fn checks[] = {check_state, check_home, check_outbox, check_backend};
    struct chv_why why = {""};
    bool good = tell(chv_sandbox_user(config->user, &why), &why);
    if (!good)
        return false;
    if (strncmp(config->keystore, "pkcs11", strlen("pkcs11")) == 0)
        good = tell(check_keystore(config, &why), &why);
    why = (struct chv_why){""};
    if (chv_server_has_registry(config))
        good = tell(check_registry(config, absent, &why), &why) && good;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        why = (struct chv_why){""};
        good = tell(checks[i](config, &why), &why) && good;
    }
    for (size_t i = 0; i < config->tunnel_count; i++)
        tell_tunnel(&config->tunnels[i]);
    return good;
}

/* In a process of its own, which becomes the user for good. */
static bool check_in_child(const struct chv_server_config *config, bool absent)
{
    int status = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const bool good = check_as_user(config, absent);
        (void)fflush(NULL);
        _exit(good ? EX_OK : EX_CONFIG);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid < 0 || !WIFEXITED(status))
        (void)chv_cli_fail(EX_OSERR, "the check as the server's user did not come to its end");
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EX_OK;
}

static bool check_ticket_keys(const struct chv_server_config *config)
{
    struct chv_why why = {""};
    struct chv_ticket_keys *keys = chv_secure_alloc(sizeof *keys);
    bool good = keys != NULL;
    if (good)
        good = tell(chv_ticket_keys_load(config->ticket_keys, config->name, keys, &why), &why);
    else
        (void)chv_cli_fail(EX_OSERR, "no locked memory for ticket keys");
    if (good && chv_ticket_keys_end(keys, chv_time_now()) == 0)
        warn("[tickets] keys: there is none for today, no client would come in");
    else if (good && chv_ticket_keys_end(keys, chv_time_now()) - chv_time_now() <= CHV_TICKET_KEYS_WARN)
        warn("[tickets] keys: they run out within three days");
    chv_secure_free(keys, sizeof *keys);
    return good;
}

static bool check_data_side(const struct chv_server_config *config, bool absent)
{
    bool good = check_ticket_keys(config);
    good = check_in_child(config, absent) && good;
    if (chv_server_has_registry(config) && !denies_only(config) && config->state[0] == '\0')
        warn(CHV_REGISTRAR_UNMARKED);
    return good;
}

bool chv_chaveirod_check(const struct chv_server_config *config, const char *file, bool secret_given)
{
    struct chv_why why = {""};
    bool good = true;
    const bool absent =
        denies_only(config) && access(config->registry + strlen(deny_scheme), F_OK) != 0 && errno == ENOENT;
    if (config->data_only)
        return check_data_side(config, absent);
    if (strncmp(config->keystore, "pkcs11", strlen("pkcs11")) != 0)
        good = tell(check_keystore(config, &why), &why);
    why = (struct chv_why){""};
    if (!secret_given)
        good = tell(check_passphrase(config, &why), &why) && good;
    why = (struct chv_why){""};
    good = tell(check_identity(config, file, &why), &why) && good;
    why = (struct chv_why){""};
    good = tell(check_allowed_keys(config, &why), &why) && good;
    good = check_in_child(config, absent) && good;
    chv_keycheck_missing(config, warn);
    if (!denies_only(config) && config->state[0] == '\0')
        warn(CHV_REGISTRAR_UNMARKED);
    return good;
}
