/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin init: a server's keystore, in a file or a token, and its configuration file, both or neither. */
#include "registry/registry.h"
#include "tools/keyadmin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "tools/backup.h"
#include "keystore/token_copy.h"
#include "tools/identity.h"

static const char init_config_name[] = "chaveirod.conf";
static const char init_store_name[] = "server.keys";
static const char init_backup_name[] = "master-1.cms";

enum { INIT_HOST_MAX = 256 };

#define REGISTRY_NAME "registry.db"
#define STATE_NAME "state"

struct init_plan {
    const char *dir;
    bool dir_made;
    char name[CHV_SERVER_NAME_MAX + 1];
    const char *listen;
    const char *address;        /* NULL: clients are told `listen` */
    char config[PATH_MAX];      /* the file */
    char config_temp[PATH_MAX]; /* "" once it has its name or is gone */
    char store_uri[PATH_MAX];   /* to open */
    char store_line[PATH_MAX];  /* as the configuration says it */
    char store_file[PATH_MAX];  /* to remove after a failure; "" for another kind of keystore */
    bool is_token;
    struct chv_token_plan token; /* if it is */
    char session_copy[512];      /* "yes", "no", or "no: REASON"; "" if the URI was not to be changed */
    enum chv_curve curve;        /* of the identity key */
    bool has_identity;
    struct chv_identity identity;
    char public_file[PATH_MAX]; /* its public key; "" once it is to stay, or was not written */
    char backup_file[PATH_MAX];
    struct chv_backup *backup;    /* NULL: none is wanted */
    char registry_file[PATH_MAX]; /* made; "": not, or it was there */
    char state[PATH_MAX];         /* likewise */
};

static enum chv_err init_path(char out[PATH_MAX], const char *dir, const char *name, struct chv_why *why)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", dir);
    return CHV_OK;
}

/* The host's name, if it can be a server's: a name that means something beats one that means nothing. */
static enum chv_err init_name(const struct chv_cli_args *args, struct init_plan *plan, struct chv_why *why)
{
    char host[INIT_HOST_MAX] = "";
    const char *name = chv_cli_value(args, "name");
    if (name == NULL && gethostname(host, sizeof host - 1) == 0)
        name = host;
    if (name == NULL || (name == host && !chv_server_name_valid(host)))
        return chv_fail(why, CHV_ERR_ARGUMENT, "this host's name cannot be a server's: give --name SERVER");
    if (!chv_server_name_valid(name))
        return chv_fail(why, CHV_ERR_ARGUMENT, "bad server name '%.80s': 1 to %d letters, digits, '.', '_' and '-'",
                        name, CHV_SERVER_NAME_MAX);
    (void)snprintf(plan->name, sizeof plan->name, "%s", name);
    return CHV_OK;
}

/* --keystore as a URI to open, as a line of the file (a path in it would start from the file's folder), and as a path.
 */
static enum chv_err init_store(const char *given, struct init_plan *plan, struct chv_why *why)
{
    static const char scheme[] = "file:";
    char here[PATH_MAX];
    const char *path = given;
    if (given == NULL) {
        (void)snprintf(plan->store_line, PATH_MAX, "%s%s", scheme, init_store_name);
        enum chv_err err = init_path(plan->store_file, plan->dir, init_store_name, why);
        if (err == CHV_OK && snprintf(plan->store_uri, PATH_MAX, "%s%s", scheme, plan->store_file) >= PATH_MAX)
            err = chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", plan->dir);
        return err;
    }
    if (strncmp(path, scheme, sizeof scheme - 1) == 0)
        path += sizeof scheme - 1;
    else if (strcspn(path, ":") < strcspn(path, "/")) { /* another scheme: not a file of ours to name or remove */
        (void)snprintf(plan->store_uri, PATH_MAX, "%s", given);
        (void)snprintf(plan->store_line, PATH_MAX, "%s", given);
        plan->is_token = chv_token_uri_is(given);
        return CHV_OK;
    }
    int n = path[0] == '/'                      ? snprintf(plan->store_file, PATH_MAX, "%s", path)
            : getcwd(here, sizeof here) != NULL ? snprintf(plan->store_file, PATH_MAX, "%s/%s", here, path)
                                                : PATH_MAX;
    if (n >= PATH_MAX || snprintf(plan->store_uri, PATH_MAX, "%s%s", scheme, plan->store_file) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", given);
    (void)snprintf(plan->store_line, PATH_MAX, "%s", plan->store_uri);
    return CHV_OK;
}

static enum chv_err init_plan(const struct chv_cli_args *args, struct init_plan *plan, struct chv_why *why)
{
    memset(plan, 0, sizeof *plan);
    plan->dir = chv_cli_value(args, "dir");
    plan->listen = chv_cli_value(args, "listen");
    plan->address = chv_cli_value(args, "address");
    if (plan->dir == NULL)
        plan->dir = ".";
    if (plan->listen == NULL)
        plan->listen = CHV_DEFAULT_LISTEN;
    enum chv_err err = init_name(args, plan, why);
    if (err == CHV_OK)
        err = init_path(plan->config, plan->dir, init_config_name, why);
    if (err == CHV_OK)
        err = init_store(chv_cli_value(args, "keystore"), plan, why);
    if (err == CHV_OK && plan->address != NULL)
        err = chv_provision_address(plan->address, why);
    if (err == CHV_OK && !plan->is_token)
        err = keyadmin_no_token_options(args, why);
    if (err == CHV_OK)
        err = keyadmin_curve(args, &plan->curve, why);
    return err;
}

/* --backup-to: the certificate is looked at before anything is made. */
static enum chv_err init_plan_backup(const struct chv_cli_args *args, struct init_plan *plan, struct chv_why *why)
{
    const char *certificate = chv_cli_value(args, "backup-to"), *file = chv_cli_value(args, "backup-out");
    enum chv_err err = CHV_OK;
    if (certificate == NULL && file != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--backup-out is for a backup: to whom? Give --backup-to CERT.pem");
    if (certificate == NULL)
        return CHV_OK;
    if (file == NULL) {
        err = init_path(plan->backup_file, plan->dir, init_backup_name, why);
        file = plan->backup_file;
    }
    return err == CHV_OK ? chv_backup_plan(certificate, file, &plan->backup, why) : err;
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static enum chv_err init_refuse(const char *path, struct chv_why *why)
{
    struct stat st;
    if (path[0] == 0 || (lstat(path, &st) != 0 && errno == ENOENT))
        return CHV_OK;
    return chv_fail(why, CHV_ERR_EXISTS, "%s is there already and will not be overwritten", path);
}

static enum chv_err init_write(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return CHV_ERR_IO;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? CHV_OK : CHV_ERR_IO;
}

/* A token's masters, and one that was brought back from a backup, are known again by a value that is kept outside. */
static bool init_keeps_check(const struct init_plan *plan)
{
    return plan->is_token || plan->backup != NULL;
}

static enum chv_err init_config_text(const struct init_plan *plan, const uint8_t check[CHV_SECRET_LEN], char *text,
                                     size_t *len, struct chv_why *why)
{
    char value[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN) + 2] = "1:";
    const struct chv_server_config_values values = {.name = plan->name,
                                                    .keystore = plan->store_line,
                                                    .listen = plan->listen,
                                                    .registry = "sqlite:" REGISTRY_NAME,
                                                    .state = STATE_NAME,
                                                    .key_check = init_keeps_check(plan) ? value : NULL};
    chv_hex_encode(check, CHV_CHECK_MASTER_LEN, value + strlen(value));
    enum chv_err err = chv_server_config_template(&values, text, len);
    if (err != CHV_OK)
        err =
            chv_fail(why, err, "a configuration cannot say listen = %s, keystore = %s", plan->listen, plan->store_line);
    return err;
}

/*
 * The whole configuration under a name of its own: what can fail about it fails before the keystore is made.  Then once
 * more, with the check value of the master that was made.
 */
static enum chv_err init_write_config(struct init_plan *plan, const uint8_t check[CHV_SECRET_LEN], struct chv_why *why)
{
    size_t len = CHV_SERVER_CONFIG_TEXT_MAX;
    int fd = -1;
    char *text = malloc(len);
    if (text == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = init_config_text(plan, check, text, &len, why);
    if (err != CHV_OK)
        goto out;
    if (plan->config_temp[0] != 0) {
        fd = open(plan->config_temp, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    } else if (snprintf(plan->config_temp, PATH_MAX, "%s.XXXXXX", plan->config) < PATH_MAX) {
        fd = mkstemp(plan->config_temp);
    } else {
        plan->config_temp[0] = 0;
        err = chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", plan->config);
        goto out;
    }
    if (fd < 0) {
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", plan->config_temp, strerror(errno));
        plan->config_temp[0] = 0;
        goto out;
    }
    if (init_write(fd, text, len) != CHV_OK || fchmod(fd, 0644) != 0)
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", plan->config_temp, strerror(errno));
out:
    if (fd >= 0)
        (void)close(fd);
    free(text);
    return err;
}

static enum chv_err init_place_config(struct init_plan *plan, struct chv_why *why)
{
    if (link(plan->config_temp, plan->config) != 0) /* unlike rename(2) it replaces nothing */
        return chv_fail(why, errno == EEXIST ? CHV_ERR_EXISTS : CHV_ERR_IO, "%s: %s", plan->config, strerror(errno));
    (void)unlink(plan->config_temp);
    plan->config_temp[0] = 0;
    int fd = open(plan->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    return CHV_OK;
}

/* What is to be known about the token before anything is made. */
static enum chv_err init_plan_token(const struct chv_cli_args *args, struct init_plan *plan, struct chv_why *why)
{
    const struct chv_token_wish wish = {.uri = chv_cli_value(args, "keystore"),
                                        .module = chv_cli_value(args, "module"),
                                        .folder = plan->dir,
                                        .pin_file = chv_cli_value(args, "pin-file"),
                                        .so_pin_file = chv_cli_value(args, "so-pin-file"),
                                        .ask = chv_cli_given(args, "ask-pin"),
                                        .pin_fd = chv_cli_given(args, "pin-fd")};
    enum chv_err err = chv_token_plan(&wish, &plan->token, why);
    (void)snprintf(plan->store_uri, PATH_MAX, "%s", plan->token.uri);
    (void)snprintf(plan->store_line, PATH_MAX, "%s", plan->token.uri);
    return err;
}

static bool init_append(char uri[PATH_MAX], const char *query)
{
    size_t len = strlen(uri);
    return snprintf(uri + len, PATH_MAX - len, "%c%s", strchr(uri, '?') != NULL ? '&' : '?', query) <
           (int)(PATH_MAX - len);
}

/*
 * A server derives at every handshake, which a copy in the session makes much cheaper.  So it has one where the URI does not
 * say otherwise and the token was tried.  *token stays open, and logged in to: the PIN is not asked for again.
 */
static enum chv_err init_session_copy(struct init_plan *plan, struct chv_secret_source *secret,
                                      struct chv_p11_token **token, struct chv_why *why)
{
    static const char option[] = "chaveiro-session-copy=";
    struct chv_p11_uri uri;
    struct chv_why against = {""};
    if (strstr(plan->store_uri, option) != NULL)
        return CHV_OK;
    enum chv_err err = chv_p11_uri_parse(plan->store_uri, &uri, why);
    if (err != CHV_OK)
        return err;
    err = chv_p11_token_open(&uri, token, why);
    if (err == CHV_OK)
        err = chv_p11_token_login(*token, chv_secret_get, secret, why);
    bool fit = err == CHV_OK && uri.derive[0] == '\0' && chv_token_copy_trial(*token, &against) == CHV_OK;
    chv_p11_uri_free(&uri);
    if (err != CHV_OK)
        return err;
    (void)snprintf(plan->session_copy, sizeof plan->session_copy, "%s%s%.400s", fit ? "yes" : "no",
                   against.text[0] != '\0' ? ": " : "", against.text);
    if (fit && (!init_append(plan->store_uri, "chaveiro-session-copy=yes") ||
                !init_append(plan->store_line, "chaveiro-session-copy=yes")))
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.80s...: the URI is too long", plan->store_uri);
    return CHV_OK;
}

/* Empty, beside the configuration; one that an earlier server has left is kept. */
static enum chv_err init_registry(struct init_plan *plan, struct chv_why *why)
{
    char file[PATH_MAX];
    struct chv_crypto crypto;
    struct chv_registry *registry = NULL;
    const char *slash = strrchr(plan->config, '/');
    const struct chv_registry_options options = {.mode = CHV_REGISTRY_CREATE, .crypto = &crypto};
    if (snprintf(file, sizeof file, "%.*s" REGISTRY_NAME, slash != NULL ? (int)(slash - plan->config) + 1 : 0,
                 plan->config) >= (int)sizeof file)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", plan->config);
    enum chv_err err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    const bool there = access(file, F_OK) == 0;
    err = chv_registry_open(file, &options, &registry, why);
    chv_registry_close(registry);
    chv_backend_close(&crypto);
    if (!there)
        memcpy(plan->registry_file, file, sizeof file);
    return err;
}

/* The folder of the server's marks, beside the configuration; one that an earlier server has left is kept. */
static enum chv_err init_state(struct init_plan *plan, struct chv_why *why)
{
    char folder[PATH_MAX];
    struct stat st;
    enum chv_err err = init_path(folder, plan->dir, STATE_NAME, why);
    if (err != CHV_OK)
        return err;
    if (mkdir(folder, 0700) == 0)
        memcpy(plan->state, folder, sizeof folder);
    else if (errno != EEXIST || stat(folder, &st) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", folder, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is no folder, and will not be overwritten", folder);
    return CHV_OK;
}

static enum chv_err init_place(struct init_plan *plan, struct chv_keystore *ks, const uint8_t check[CHV_SECRET_LEN],
                               struct chv_why *why)
{
    enum chv_err err = init_keeps_check(plan) ? init_write_config(plan, check, why) : CHV_OK;
    if (err == CHV_OK)
        err = init_place_config(plan, why);
    if (err != CHV_OK && plan->store_file[0] != 0)
        (void)unlink(plan->store_file); /* made a moment ago by us, under our lock */
    else if (err != CHV_OK)
        chv_provision_unmake(ks);
    return err;
}

/* The server's own key pair.  A token that has no such curve still serves profile psk, if nobody asked for the curve. */
static enum chv_err init_identity(const struct chv_cli_args *args, struct init_plan *plan, struct chv_keystore *ks,
                                  struct chv_why *why)
{
    struct chv_why lack = {""};
    char file[PATH_MAX];
    enum chv_err err = chv_keystore_generate_identity(ks, CHV_IDENTITY_LABEL, CHV_USE_IDENTITY, plan->curve, &lack);
    if (err == CHV_ERR_UNSUPPORTED && !chv_cli_given(args, "curve")) {
        (void)chv_cli_fail(EX_OK, "warning: no identity key was made, profiles key and key+psk cannot be served: %s",
                           lack.text);
        return CHV_OK;
    }
    if (err != CHV_OK)
        return chv_fail(why, err, "%s", lack.text[0] != 0 ? lack.text : chv_err_text(err));
    err = chv_identity_of(ks, &plan->identity, why);
    plan->has_identity = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_identity_server_file(plan->config, file, why);
    if (err == CHV_OK)
        err = chv_identity_write(&plan->identity, file, why);
    if (err == CHV_OK)
        memcpy(plan->public_file, file, sizeof file);
    return err;
}

static enum chv_err init_refuse_public(const struct init_plan *plan, struct chv_why *why)
{
    char file[PATH_MAX];
    enum chv_err err = chv_identity_server_file(plan->config, file, why);
    return err == CHV_OK ? init_refuse(file, why) : err;
}

static enum chv_err init_make(const struct chv_cli_args *args, struct init_plan *plan, uint8_t check[CHV_SECRET_LEN],
                              struct chv_why *why)
{
    struct chv_keystore *ks = NULL;
    struct chv_p11_token *token = NULL;
    struct chv_secret_source secret;
    const struct chv_secret_options secrets = {/* a token's --pin-file has become a part of its URI */
                                               .passphrase_file = chv_cli_value(args, "passphrase-file"),
                                               .pin_fd = chv_cli_value(args, "pin-fd")};
    struct chv_provision_store store = {.uri = plan->store_uri, .secret = chv_secret_get, .secret_arg = &secret};

    memset(check, 0, CHV_SECRET_LEN);
    enum chv_err err = keyadmin_cost(args, &store.scrypt_n, why);
    if (err == CHV_OK)
        err = init_refuse(plan->config, why);
    if (err == CHV_OK)
        err = init_refuse(plan->store_file, why);
    if (err == CHV_OK)
        err = init_refuse_public(plan, why);
    if (err == CHV_OK)
        err = init_plan_backup(args, plan, why);
    if (err != CHV_OK)
        return err;
    plan->dir_made = mkdir(plan->dir, 0700) == 0;
    if (!plan->dir_made && errno != EEXIST)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", plan->dir, strerror(errno));
    if (plan->is_token)
        err = init_plan_token(args, plan, why);
    if (err == CHV_OK)
        err = chv_secret_for(plan->store_uri, &secrets, &secret, why);
    if (err == CHV_OK)
        err = init_write_config(plan, check, why);
    if (err == CHV_OK)
        err = chv_token_make(&plan->token, why);
    if (err == CHV_OK && plan->is_token)
        err = init_session_copy(plan, &secret, &token, why);
    if (err == CHV_OK && plan->backup != NULL)
        err = chv_backup_make(plan->backup, plan->name, plan->address, 1, why);
    if (err == CHV_OK)
        err = chv_provision_server(&store, plan->name, plan->address, plan->backup, &ks, why);
    if (err == CHV_OK)
        err = init_identity(args, plan, ks, why);
    if (err == CHV_OK)
        err = chv_provision_check_stored(ks, "master:1", check, why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    if (err == CHV_OK)
        err = init_registry(plan, why);
    if (err == CHV_OK)
        err = init_state(plan, why);
    if (err == CHV_OK)
        err = init_place(plan, ks, check, why);
    else if (ks != NULL)
        chv_provision_unmake(ks);
    chv_keystore_close(ks);
    chv_p11_token_close(token);
    return err;
}

static void init_undo(struct init_plan *plan)
{
    if (plan->config_temp[0] != 0)
        (void)unlink(plan->config_temp);
    if (plan->public_file[0] != 0)
        (void)unlink(plan->public_file);
    if (plan->registry_file[0] != 0)
        (void)unlink(plan->registry_file);
    if (plan->state[0] != 0)
        (void)rmdir(plan->state);
    chv_backup_unmake(plan->backup);
    if (plan->dir_made)
        (void)rmdir(plan->dir); /* not with the PIN of a token in it, which stays */
}

/* A failure later than the token's making leaves it behind, with its PIN: it says where. */
static void init_tell_left(const struct init_plan *plan)
{
    if (plan->token.made)
        (void)chv_cli_fail(EX_OK, "token \"%s\" was made and stays, empty%s%s: run init again to use it",
                           plan->token.label, plan->token.pin_written ? ", its PIN in " : "",
                           plan->token.pin_written ? plan->token.pin_file : "");
}

/* What a backup means is said where it is made. */
static void init_print_backup(const struct init_plan *plan)
{
    printf("\nThis master secret was once outside of its keystore: it was made in this program's memory, encrypted to "
           "the\n"
           "certificate and imported%s.  Who has the backup and the certificate's private key\n"
           "has the master: keep them apart, and neither on this machine.  Keep the key check value with the backup;\n"
           "'keyadmin restore' puts it back.\n",
           plan->is_token ? ", and the token will not give it out" : "");
}

static void init_print_token(const struct init_plan *plan)
{
    if (plan->backup == NULL)
        printf("\nThe master secret is in the token and never leaves it: there is no copy.  If the token is lost, or "
               "initialised\n"
               "again, every client has to be provisioned anew.  Keep a copy of the key check value elsewhere.\n");
    if (plan->token.so_pin_written)
        printf("Nobody needs the security officer's PIN day by day: move %s\n"
               "to a safe place.\n",
               plan->token.so_pin_file);
    printf("\n"
           "Next:\n"
           "  keyadmin token check '%s'\n"
           "  keyadmin client add cam1 --config %s --out cam1.key\n"
           "  chaveirod -c %s\n"
           "  chaveiro -k cam1.key send 'ola'\n",
           plan->store_uri, plan->config, plan->config);
}

static void init_print(const struct init_plan *plan, const uint8_t check[CHV_SECRET_LEN], bool json)
{
    json_t *o = json_object();
    if (o == NULL)
        return;
    (void)json_object_set_new(o, "server", json_string(plan->name));
    (void)json_object_set_new(o, "configuration", json_string(plan->config));
    (void)json_object_set_new(o, "keystore", json_string(plan->store_uri));
    (void)json_object_set_new(o, "listen", json_string(plan->listen));
    if (plan->address != NULL)
        (void)json_object_set_new(o, "address", json_string(plan->address));
    (void)json_object_set_new(o, "epoch", json_integer(1));
    keyadmin_put_hex(o, "key_check", check, CHV_CHECK_MASTER_LEN);
    if (plan->has_identity && keyadmin_describe_identity(o, &plan->identity, NULL) == CHV_OK)
        (void)json_object_set_new(o, "public_file", json_string(plan->public_file));
    if (plan->is_token)
        keyadmin_put_token(o, &plan->token);
    if (plan->backup != NULL)
        chv_backup_describe(plan->backup, o);
    if (plan->session_copy[0] != 0)
        (void)json_object_set_new(o, "session_copy", json_string(plan->session_copy));
    chv_cli_print(o, json);
    if (json)
        return;
    if (plan->backup != NULL)
        init_print_backup(plan);
    if (plan->is_token) {
        init_print_token(plan);
        return;
    }
    if (plan->backup == NULL)
        printf(
            "\nKeep the key check value outside of this machine, and a copy of the keystore where it is safe: without "
            "it\n"
            "every client has to be provisioned anew.\n");
    printf("\n"
           "Next:\n"
           "  keyadmin client add cam1 --config %s --out cam1.key\n"
           "  chaveirod -c %s\n"
           "  chaveiro -k cam1.key send 'ola'\n",
           plan->config, plan->config);
}

int keyadmin_init(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct init_plan plan;
    uint8_t check[CHV_SECRET_LEN];

    chv_cli_hold_signals();
    enum chv_err err = init_plan(args, &plan, &why);
    if (err == CHV_OK) {
        err = init_make(args, &plan, check, &why);
        if (err != CHV_OK) {
            init_undo(&plan);
            init_tell_left(&plan);
        }
    }
    if (err == CHV_OK)
        init_print(&plan, check, chv_cli_given(args, "json"));
    chv_backup_free(plan.backup);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
    chv_cli_release_signals();
    return code;
}
