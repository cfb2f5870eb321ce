/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client add, client show. */
#include "tools/keyadmin.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static enum chv_err client_print(const struct chv_provision *p, const char *file, const char *server,
                                 const char *address, const uint8_t check[CHV_SECRET_LEN], bool json)
{
    json_t *o = json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    keyadmin_describe(o, &p->credential);
    (void)json_object_set_new(o, "server", json_string(server));
    (void)json_object_set_new(o, "address", json_string(address));
    keyadmin_put_hex(o, "key_check", check, CHV_CHECK_CLIENT_LEN);
    (void)json_object_set_new(o, chv_token_uri_is(file) ? "token" : "file", json_string(file));
    chv_cli_print(o, json);
    return CHV_OK;
}

static enum chv_err client_out_file(const char *out, char uri[CHV_TOKEN_URI_SIZE], struct chv_why *why)
{
    if (chv_token_uri_is(out))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out is for a file: a token is given by --to");
    if (access(out, F_OK) == 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", out);
    if (errno != ENOENT)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", out, strerror(errno));
    if (snprintf(uri, CHV_TOKEN_URI_SIZE, "file:%s", out) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    return CHV_OK;
}

/* --out or --to: the URI of the client's keystore, a file that is not there or a token that is. */
static enum chv_err client_out(const struct chv_cli_args *args, char uri[CHV_TOKEN_URI_SIZE],
                               struct chv_secret_source *secret, struct chv_why *why)
{
    const char *out = chv_cli_value(args, "out"), *to = chv_cli_value(args, "to");
    const struct chv_secret_options secrets = {.passphrase_file = chv_cli_value(args, "client-passphrase-file")};
    enum chv_err err;
    if ((out == NULL) == (to == NULL))
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the client's keystore go? Give --out FILE, or --to URI");
    if (to != NULL && !chv_token_uri_is(to))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.200s': is no token, write pkcs11:token=NAME", to);
    err =
        to != NULL ? chv_token_uri(to, chv_cli_value(args, "module"), NULL, uri, why) : client_out_file(out, uri, why);
    if (err == CHV_OK)
        err = chv_secret_for(uri, &secrets, secret, why);
    secret->option = "--client-passphrase-file";
    secret->credential = NULL; /* that is the server's */
    return err;
}

int keyadmin_client_add(const struct chv_cli_args *args)
{
    char uri[CHV_TOKEN_URI_SIZE] = "";
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct chv_provision p = {0};
    char address[CHV_ADDRESS_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
    struct chv_secret_source secret = {.kind = CHV_SECRET_PROMPT};
    struct chv_provision_store out = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};

    chv_cli_hold_signals();
    enum chv_err err = keyadmin_cost(args, &out.scrypt_n, &why);
    if (err == CHV_OK)
        err = client_out(args, uri, &secret, &why);
    if (err == CHV_OK)
        err =
            keyadmin_credential(args, &(struct keyadmin_server){.latest = 1}, &p, &why); /* before anything is asked */
    if (err == CHV_OK)
        err = keyadmin_server_open(args, &server, &why);
    if (err == CHV_OK)
        err = keyadmin_server_address(args, &server, address, &why);
    if (err == CHV_OK)
        err = keyadmin_credential(args, &server, &p, &why);
    if (err == CHV_OK)
        err = chv_provision_check(server.keystore, &p, check, &why);
    if (err == CHV_OK)
        err = chv_provision_client(server.keystore, &p, server.name, address, &out, &why);
    if (err == CHV_OK)
        keyadmin_warn(&server, &p.credential, address);
    if (err == CHV_OK)
        err = client_print(&p, chv_token_uri_is(uri) ? uri : chv_cli_value(args, "out"), server.name, address, check,
                           chv_cli_given(args, "json"));
    keyadmin_server_close(&server);
    chv_cli_release_signals();
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

int keyadmin_client_show(const struct chv_cli_args *args)
{
    const char *file = args->operands[0];
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_client_key key;
    struct chv_provision p = {0};
    uint8_t check[CHV_SECRET_LEN];

    enum chv_err err = keyadmin_open_operand(args, &ks, &why);
    if (err == CHV_OK)
        err = chv_client_key_load(&key, ks, &why);
    if (err == CHV_OK)
        err = chv_provision_check_stored(ks, key.label, check, &why);
    if (err == CHV_OK) {
        p.credential = key.parsed;
        err = client_print(&p, file, key.server, key.address, check, chv_cli_given(args, "json"));
    }
    chv_keystore_close(ks);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
