/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin bundle unpack, bundle list. */
#include "tools/keyadmin.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "tools/bundle.h"
#include "tools/identity.h"
#include "tools/times.h"

/* --from, and what opens it. */
struct bundle_input {
    struct chv_secret_source secret, key_secret;
    struct chv_bundle_open how;
    struct chv_bundle_meta meta;
    struct chv_bundle_reader *reader;
};

static enum chv_err bundle_input(const struct chv_cli_args *args, const char *file, struct bundle_input *in,
                                 struct chv_why *why)
{
    const struct chv_secret_options secrets = {.passphrase_file = chv_cli_value(args, "passphrase-file")};
    const struct chv_secret_options keys = {.passphrase_file = chv_cli_value(args, "key-passphrase-file")};
    enum chv_err err = chv_secret_for(file, &secrets, &in->secret, why);
    if (err == CHV_OK)
        err = chv_secret_for(file, &keys, &in->key_secret, why);
    in->secret.credential = in->key_secret.credential = NULL; /* that is the server's */
    in->key_secret.option = "--key-passphrase-file";
    in->how = (struct chv_bundle_open){.secret = chv_secret_get,
                                       .secret_arg = &in->secret,
                                       .key = chv_cli_value(args, "key"),
                                       .key_secret = &in->key_secret};
    return err == CHV_OK ? chv_bundle_read(file, &in->how, &in->meta, &in->reader, why) : err;
}

/* --- unpack --------------------------------------------------------------------------------------------------------
 */

/* The whole bundle is read: it is to be right to its end. */
static enum chv_err unpack_find(struct bundle_input *in, const char *id, struct chv_bundle_entry *found,
                                struct chv_why *why)
{
    struct chv_bundle_entry entry;
    bool end = false, any = false;
    enum chv_err err = CHV_OK;
    while (err == CHV_OK && !end) {
        err = chv_bundle_next(in->reader, &entry, &end, why);
        if (err == CHV_OK && !end && strcmp(entry.credential.id, id) == 0) {
            *found = entry;
            any = true;
        }
    }
    chv_wipe(&entry, sizeof entry);
    if (err == CHV_OK && !any)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "there is no client '%s' in the bundle, among %" PRIu64, id,
                       in->meta.clients);
    return err;
}

static enum chv_err unpack_uri(const struct chv_cli_args *args, char uri[CHV_TOKEN_URI_SIZE], struct chv_why *why)
{
    const char *out = chv_cli_value(args, "out"), *to = chv_cli_value(args, "to");
    if ((out == NULL) == (to == NULL))
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the client's keystore go? Give --out FILE, or --to URI");
    if (to != NULL && !chv_token_uri_is(to))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.200s': is no token, write pkcs11:token=NAME", to);
    if (to != NULL)
        return chv_token_uri(to, chv_cli_value(args, "module"), NULL, uri, why);
    if (access(out, F_OK) == 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", out);
    if (snprintf(uri, CHV_TOKEN_URI_SIZE, "file:%s", out) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    return CHV_OK;
}

/* Profile key+psk: the server's key, which the client pins. */
static enum chv_err unpack_server_key(const struct bundle_input *in, struct chv_identity *server, struct chv_why *why)
{
    if (in->meta.server_key[0] == '\0' || chv_identity_public(in->meta.server_key, server, NULL) != CHV_OK)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "the bundle does not have the server's identity key");
    return CHV_OK;
}

static enum chv_err unpack_print(const struct chv_cli_args *args, const struct bundle_input *in,
                                 const struct chv_bundle_entry *entry, const char *uri)
{
    uint8_t check[CHV_SECRET_LEN];
    enum chv_err err = chv_provision_check_given(entry->key, check);
    json_t *o = json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    keyadmin_describe(o, &entry->credential);
    (void)json_object_set_new(o, "server", json_string(in->meta.server));
    (void)json_object_set_new(o, "address", json_string(in->meta.address));
    if (err == CHV_OK)
        keyadmin_put_hex(o, "key_check", check, CHV_CHECK_CLIENT_LEN);
    if (chv_token_uri_is(uri))
        (void)json_object_set_new(o, "token", json_string(uri));
    else
        (void)json_object_set_new(o, "file", json_string(chv_cli_value(args, "out")));
    chv_cli_print(o, chv_cli_given(args, "json"));
    return err;
}

int keyadmin_bundle_unpack(const struct chv_cli_args *args)
{
    char uri[CHV_TOKEN_URI_SIZE] = "";
    const struct chv_secret_options secrets = {.passphrase_file = chv_cli_value(args, "client-passphrase-file")};
    struct chv_why why = {""};
    struct bundle_input in = {.reader = NULL};
    struct chv_bundle_entry entry = {.len = 0};
    struct chv_provision p = {.len = 0};
    struct chv_provision_identity identity = {.generate = false};
    struct chv_secret_source secret = {.kind = CHV_SECRET_PROMPT};
    struct chv_provision_store out = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    const char *from = chv_cli_value(args, "from");

    chv_cli_hold_signals();
    enum chv_err err = keyadmin_cost(args, &out.scrypt_n, &why);
    if (err == CHV_OK && from == NULL)
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "from which bundle? Give --from FILE");
    if (err == CHV_OK)
        err = unpack_uri(args, uri, &why);
    if (err == CHV_OK)
        err = chv_secret_for(uri, &secrets, &secret, &why);
    secret.option = "--client-passphrase-file";
    secret.credential = NULL;
    if (err == CHV_OK)
        err = bundle_input(args, from, &in, &why);
    if (err == CHV_OK)
        err = unpack_find(&in, args->operands[0], &entry, &why);
    if (err == CHV_OK) {
        p.credential = entry.credential;
        err = chv_provision_end(&p, &why);
    }
    const bool bound = err == CHV_OK && entry.credential.profile == CHV_PROFILE_KEY_PSK;
    if (bound)
        err = unpack_server_key(&in, &identity.server, &why);
    if (err == CHV_OK)
        err = chv_provision_given(&p, entry.key, in.meta.server, in.meta.address, bound ? &identity : NULL, &out, &why);
    if (err == CHV_OK)
        err = unpack_print(args, &in, &entry, uri);
    chv_wipe(&entry, sizeof entry);
    chv_bundle_close(in.reader);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_cli_release_signals();
    return code;
}

/* --- list ----------------------------------------------------------------------------------------------------------
 */

static void list_client(const struct chv_credential *c, bool json, bool first)
{
    char expires[CHV_TIME_TEXT];
    if (json) {
        json_t *o = json_object();
        keyadmin_describe(o, c);
        printf("%s", first ? "" : ",");
        (void)json_dumpf(o, stdout, JSON_COMPACT);
        json_decref(o);
        return;
    }
    chv_time_format(c->not_after, expires);
    printf("%s  %" PRIu32 ".%" PRIu32 "  %s ", c->id, c->epoch, c->serial, expires);
    for (size_t i = 0; i < c->scope_count; i++)
        printf(" %s", c->scopes[i]);
    printf("\n");
}

int keyadmin_bundle_list(const struct chv_cli_args *args)
{
    const bool json = chv_cli_given(args, "json");
    struct chv_why why = {""};
    struct bundle_input in = {.reader = NULL};
    struct chv_bundle_entry entry;
    bool end = false, first = true;
    enum chv_err err = bundle_input(args, args->operands[0], &in, &why);
    if (err == CHV_OK && json) {
        json_t *server = json_string(in.meta.server), *address = json_string(in.meta.address);
        printf("{\"server\":");
        (void)json_dumpf(server, stdout, JSON_ENCODE_ANY);
        printf(",\"address\":");
        (void)json_dumpf(address, stdout, JSON_ENCODE_ANY);
        printf(",\"clients\":[");
        json_decref(server);
        json_decref(address);
    }
    while (err == CHV_OK && !end) {
        err = chv_bundle_next(in.reader, &entry, &end, &why);
        if (err == CHV_OK && !end)
            list_client(&entry.credential, json, first);
        first = false;
    }
    if (in.reader != NULL && json)
        printf("]}\n");
    chv_wipe(&entry, sizeof entry);
    chv_bundle_close(in.reader);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
