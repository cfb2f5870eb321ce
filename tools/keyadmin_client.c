/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client add, client show. */
#include "tools/keyadmin.h"

#include <errno.h>
#include <limits.h>
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
    (void)json_object_set_new(o, "file", json_string(file));
    chv_cli_print(o, json);
    return CHV_OK;
}

/* --out: its URI, if there is no such file yet. */
static enum chv_err client_out(const char *out, char uri[PATH_MAX], struct chv_why *why)
{
    if (out == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the client's keystore go? Give --out FILE");
    if (access(out, F_OK) == 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", out);
    if (errno != ENOENT)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", out, strerror(errno));
    if (snprintf(uri, PATH_MAX, "file:%s", out) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    return CHV_OK;
}

int keyadmin_client_add(const struct chv_cli_args *args)
{
    const char *file = chv_cli_value(args, "out");
    char uri[PATH_MAX] = "";
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct chv_provision p = {0};
    char address[CHV_ADDRESS_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
    struct chv_secret_source secret =
        chv_secret_source(chv_cli_value(args, "client-passphrase-file"), "--client-passphrase-file", NULL);
    struct chv_provision_store out = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};

    chv_cli_hold_signals();
    enum chv_err err = keyadmin_cost(args, &out.scrypt_n, &why);
    if (err == CHV_OK)
        err = client_out(file, uri, &why);
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
        err = client_print(&p, file, server.name, address, check, chv_cli_given(args, "json"));
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
    struct chv_secret_source secret =
        chv_secret_source(chv_cli_value(args, "passphrase-file"), "--passphrase-file", CHV_SECRET_CREDENTIAL);
    const struct chv_provision_store store = {.uri = file, .secret = chv_secret_get, .secret_arg = &secret};

    enum chv_err err = chv_provision_open(&store, CHV_KEYSTORE_READ, &ks, &why);
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
