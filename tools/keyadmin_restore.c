/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin restore: a master secret from its backup into a keystore, the one it came from or a new one. */
#include "tools/keyadmin.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "tools/backup.h"
#include "tools/identity.h"

/* What is put into the keystore, to be taken out again: a token keeps at once what it is given. */
struct restore {
    struct keyadmin_server server;
    struct chv_backup *backup;
    struct chv_keystore *ks;
    bool imported, server_put, address_put;
};

/* What came out of the file is what the configuration is of. */
static enum chv_err restore_compare(const struct restore *r, struct chv_why *why)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    const struct chv_server_config *config = r->server.config;
    char has[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN)], wanted[CHV_HEX_SIZE(CHV_KEY_CHECK_LEN)];
    _Static_assert((int)CHV_CHECK_MASTER_LEN == (int)CHV_KEY_CHECK_LEN, "both are the value that is kept");
    if (config == NULL)
        return CHV_OK;
    if (strcmp(config->name, info->server) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "the backup is of the server '%s', %s is of '%s'", info->server,
                        r->server.config_file, config->name);
    for (size_t i = 0; i < config->check_count; i++) {
        if (config->checks[i].epoch != info->epoch ||
            memcmp(config->checks[i].value, info->check, CHV_CHECK_MASTER_LEN) == 0)
            continue;
        chv_hex_encode(info->check, sizeof info->check, has);
        chv_hex_encode(config->checks[i].value, CHV_KEY_CHECK_LEN, wanted);
        return chv_fail(why, CHV_ERR_CONFIG,
                        "the key check value differs: the backup has %s, %s says key-check = %" PRIu32
                        ":%s: it is the backup of another master",
                        has, r->server.config_file, info->epoch, wanted);
    }
    return CHV_OK;
}

/* The one that is there, or a new file.  A token has to be there. */
static enum chv_err restore_open(const struct chv_cli_args *args, struct restore *r, struct chv_why *why)
{
    struct chv_provision_store store = {
        .uri = r->server.uri, .secret = chv_secret_get, .secret_arg = &r->server.secret};
    struct chv_why missing = {""};
    enum chv_err err = keyadmin_cost(args, &store.scrypt_n, why);
    if (err != CHV_OK)
        return err;
    err = chv_provision_open(&store, CHV_KEYSTORE_WRITE, &r->ks, &missing);
    if (err == CHV_ERR_NOT_FOUND && !chv_token_uri_is(r->server.uri))
        return chv_provision_open(&store, CHV_KEYSTORE_CREATE, &r->ks, why);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(why, err, "%s: 'keyadmin token init' makes a token", missing.text);
    if (err != CHV_OK && why != NULL)
        *why = missing;
    return err;
}

static enum chv_err restore_on_key(void *arg, const struct chv_key_info *info)
{
    bool *any = arg;
    (void)info;
    *any = true;
    return CHV_OK;
}

/* A keystore without a server's name is a new one, or none of a server. */
static enum chv_err restore_check_server(struct restore *r, bool *named, struct chv_why *why)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    char server[CHV_SERVER_NAME_MAX + 1];
    bool any = false;
    enum chv_err err = chv_provision_text(r->ks, "server", server, sizeof server, NULL);
    *named = err == CHV_OK;
    if (*named && strcmp(server, info->server) != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "the backup is of the server '%s', the keystore of '%s'", info->server,
                        server);
    if (err != CHV_ERR_NOT_FOUND)
        return err;
    err = chv_keystore_list(r->ks, restore_on_key, &any, why);
    if (err == CHV_OK && any)
        err = chv_fail(why, CHV_ERR_EXISTS, "the keystore has keys, but is not a server's");
    return err;
}

static enum chv_err restore_check_free(const struct restore *r, struct chv_why *why)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    char label[CHV_LABEL_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
    struct chv_why found = {""};
    chv_backup_label(r->backup, label);
    enum chv_err err = chv_provision_check_stored(r->ks, label, check, &found);
    if (err == CHV_ERR_NOT_FOUND)
        return CHV_OK;
    if (err == CHV_OK)
        return chv_fail(
            why, CHV_ERR_EXISTS, "the keystore has a master of epoch %" PRIu32 " already, %s: it stays", info->epoch,
            memcmp(check, info->check, CHV_CHECK_MASTER_LEN) == 0 ? "and it is this one" : "and it is another one");
    if (why != NULL)
        *why = found;
    return err;
}

static enum chv_err restore_put(struct restore *r, struct chv_why *why)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    char address[CHV_ADDRESS_MAX + 1];
    bool named = false;
    enum chv_err err = restore_check_server(r, &named, why);
    if (err == CHV_OK)
        err = restore_check_free(r, why);
    if (err == CHV_OK)
        err = chv_backup_import(r->backup, r->ks, why);
    r->imported = err == CHV_OK;
    if (err == CHV_OK && !named) {
        err = chv_keystore_data_put(r->ks, "server", (const uint8_t *)info->server, strlen(info->server), why);
        r->server_put = err == CHV_OK;
    }
    if (err == CHV_OK && info->address[0] != '\0' &&
        chv_provision_text(r->ks, "address", address, sizeof address, NULL) == CHV_ERR_NOT_FOUND) {
        err = chv_keystore_data_put(r->ks, "address", (const uint8_t *)info->address, strlen(info->address), why);
        r->address_put = err == CHV_OK;
    }
    return err == CHV_OK ? chv_keystore_commit(r->ks, why) : err;
}

static void restore_undo(struct restore *r)
{
    char label[CHV_LABEL_MAX + 1];
    enum chv_err gone = CHV_OK;
    if (r->imported) {
        chv_backup_label(r->backup, label);
        gone = chv_keystore_remove(r->ks, label, NULL);
    }
    if (r->server_put)
        gone = chv_keystore_remove(r->ks, "server", NULL);
    if (r->address_put)
        gone = chv_keystore_remove(r->ks, "address", NULL);
    (void)gone; /* the first failure is what is told */
}

/* An identity key is in no backup. */
static void restore_print_identity(const struct restore *r)
{
    struct chv_identity identity;
    char file[PATH_MAX];
    if (chv_identity_of(r->ks, &identity, NULL) != CHV_ERR_NOT_FOUND ||
        chv_identity_server_file(r->server.config_file, file, NULL) != CHV_OK)
        return;
    const bool there = access(file, F_OK) == 0;
    printf(
        "\nThe keystore has no identity key, which is in no backup.  Profiles key and key+psk need one; clients that "
        "know the\n"
        "server by the key that it had have to be told of the new one, which these make:\n");
    if (there)
        printf("  mv %s %s.old\n", file, file);
    printf("  keyadmin identity new --server -c %s\n", r->server.config_file);
}

static void restore_print_next(const struct restore *r)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    const struct chv_server_config *config = r->server.config;
    char check[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN)];
    bool served = false;
    chv_hex_encode(info->check, sizeof info->check, check);
    if (config == NULL) {
        printf("\nNo configuration was given to compare with: compare the key check value with the one that you kept.\n"
               "A configuration of this server has these lines under [server]:\n"
               "  name = %s\n"
               "  keystore = %s\n"
               "  key-check = %" PRIu32 ":%s\n",
               info->server, r->server.uri, info->epoch, check);
        return;
    }
    for (size_t i = 0; i < config->epoch_count; i++)
        served = served || config->epochs[i] == info->epoch;
    if (!served)
        printf("\nEpoch %" PRIu32 " is not in epochs of %s: it is not served.\n", info->epoch, r->server.config_file);
    printf("\nThe master has been outside of its keystore: keep the backup and the private key apart again.\n");
    restore_print_identity(r);
    printf("\nNext:\n"
           "  chaveirod -c %s\n",
           r->server.config_file);
}

static void restore_print(const struct restore *r, const char *file, bool json)
{
    const struct chv_backup_info *info = chv_backup_info(r->backup);
    json_t *o = json_object();
    if (o == NULL)
        return;
    (void)json_object_set_new(o, "server", json_string(info->server));
    (void)json_object_set_new(o, "keystore", json_string(r->server.uri));
    if (info->address[0] != '\0')
        (void)json_object_set_new(o, "address", json_string(info->address));
    (void)json_object_set_new(o, "epoch", json_integer(info->epoch));
    keyadmin_put_hex(o, "key_check", info->check, sizeof info->check);
    (void)json_object_set_new(o, "backup", json_string(file));
    chv_cli_print(o, json);
    if (!json)
        restore_print_next(r);
}

int keyadmin_restore(const struct chv_cli_args *args)
{
    struct restore r = {.backup = NULL};
    struct chv_why why = {""};
    const char *file = chv_cli_value(args, "from"), *key = chv_cli_value(args, "key");
    struct chv_secret_source key_secret =
        chv_secret_source(chv_cli_value(args, "key-passphrase-file"), "--key-passphrase-file", NULL);
    enum chv_err err = CHV_OK;

    if (file == NULL || key == NULL)
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "which backup, opened by what? Give --from FILE and --key KEY.pem");
    chv_cli_hold_signals();
    if (err == CHV_OK)
        err = keyadmin_server_find(args, &r.server, &why);
    if (err == CHV_OK)
        err = chv_backup_read(file, key, &key_secret, &r.backup, &why);
    if (err == CHV_OK)
        err = restore_compare(&r, &why);
    if (err == CHV_OK)
        err = restore_open(args, &r, &why);
    if (err == CHV_OK)
        err = restore_put(&r, &why);
    if (err == CHV_OK)
        restore_print(&r, file, chv_cli_given(args, "json"));
    else if (r.ks != NULL)
        restore_undo(&r);
    chv_keystore_close(r.ks);
    chv_backup_free(r.backup);
    keyadmin_server_close(&r.server);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
    chv_cli_release_signals();
    return code;
}
