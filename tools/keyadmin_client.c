/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client add, client show. */
#include "tools/keyadmin.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "tools/identity.h"

/* What there is to tell about a client's keystore; NULL: it is not there. */
struct client_told {
    const struct chv_credential *credential;
    const char *file, *server, *address;
    const uint8_t *check;                                  /* of the access key */
    const struct chv_identity *identity, *server_identity; /* the client's own, the one it expects */
    bool allow;                                            /* print the line of the allow-list */
};

static enum chv_err client_tell(const struct client_told *told, bool json, struct chv_why *why)
{
    char fingerprint[CHV_FINGERPRINT_MAX], line[CHV_ALLOWED_LINE_MAX];
    enum chv_err err = CHV_OK;
    json_t *o = json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    if (told->credential != NULL)
        keyadmin_describe(o, told->credential);
    else
        (void)json_object_set_new(o, "profile", json_string(chv_profile_name(CHV_PROFILE_KEY)));
    (void)json_object_set_new(o, "server", json_string(told->server));
    (void)json_object_set_new(o, "address", json_string(told->address));
    if (told->check != NULL)
        keyadmin_put_hex(o, "key_check", told->check, CHV_CHECK_CLIENT_LEN);
    if (told->identity != NULL)
        err = keyadmin_describe_identity(o, told->identity, why);
    if (err == CHV_OK && told->server_identity != NULL) {
        err = chv_identity_fingerprint(told->server_identity, fingerprint, why);
        (void)json_object_set_new(o, "server_identity", json_string(fingerprint));
    }
    if (told->file != NULL)
        (void)json_object_set_new(o, chv_token_uri_is(told->file) ? "token" : "file", json_string(told->file));
    if (err == CHV_OK && told->allow)
        err = keyadmin_allowed_line(told->identity, told->credential, line, sizeof line, why);
    if (err == CHV_OK && told->allow)
        (void)json_object_set_new(o, "allowed_key", json_string(line));
    if (err == CHV_OK)
        chv_cli_print(json_incref(o), json);
    json_decref(o);
    return err;
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

/* --profile key, key+psk: the server's key, and the client's as --identity gives it. */
static enum chv_err client_identity(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                    enum chv_profile profile, struct chv_provision_identity *identity,
                                    struct chv_why *why)
{
    const char *given = chv_cli_value(args, "identity");
    struct chv_why lack = {""};
    if (profile == CHV_PROFILE_PSK)
        return CHV_OK;
    enum chv_err err = chv_identity_of(server->keystore, &identity->server, &lack);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(why, err, "the server has no identity key: 'keyadmin identity new --server' makes one");
    if (err != CHV_OK)
        return chv_fail(why, err, "%s", lack.text[0] != 0 ? lack.text : chv_err_text(err));
    identity->generate = given == NULL;
    if (given != NULL)
        err = chv_identity_public(given, &identity->client, why);
    if (err == CHV_OK && given != NULL && identity->client.curve != identity->server.curve)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "--identity: the key is of kind %s, the server's is %s: both must be the same ('keyadmin "
                        "identity new --curve %s')",
                        chv_identity_curve_name(identity->client.curve),
                        chv_identity_curve_name(identity->server.curve),
                        chv_identity_curve_name(identity->server.curve));
    return err;
}

/* A client of profile key that has its key pair already needs no keystore: its line is all that is to be made. */
static bool client_has_all(const struct chv_cli_args *args, enum chv_profile profile)
{
    return profile == CHV_PROFILE_KEY && chv_cli_given(args, "identity");
}

static enum chv_err client_check_options(const struct chv_cli_args *args, enum chv_profile profile, struct chv_why *why)
{
    static const char *const of_credentials[] = {"serial", "epoch"};
    if (profile == CHV_PROFILE_PSK && chv_cli_given(args, "identity"))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--identity: give --profile key or --profile key+psk with it");
    for (size_t i = 0; i < 2 && profile == CHV_PROFILE_KEY; i++)
        if (chv_cli_given(args, of_credentials[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT, "--%s: profile key has no credential", of_credentials[i]);
    if (client_has_all(args, profile) && (chv_cli_given(args, "out") || chv_cli_given(args, "to")))
        return chv_fail(
            why, CHV_ERR_ARGUMENT,
            "profile key with --identity makes no keystore, only the line of the allow-list: leave --out and "
            "--to out");
    return CHV_OK;
}

int keyadmin_client_add(const struct chv_cli_args *args)
{
    char uri[CHV_TOKEN_URI_SIZE] = "";
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct chv_provision p = {0};
    struct chv_provision_identity identity = {.generate = false};
    enum chv_profile profile = CHV_PROFILE_PSK;
    char address[CHV_ADDRESS_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
    struct chv_secret_source secret = {.kind = CHV_SECRET_PROMPT};
    struct chv_provision_store out = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};

    chv_cli_hold_signals();
    enum chv_err err = keyadmin_cost(args, &out.scrypt_n, &why);
    if (err == CHV_OK)
        err = keyadmin_profile(args, &profile, &why);
    if (err == CHV_OK)
        err = client_check_options(args, profile, &why);
    const bool keystore = err == CHV_OK && !client_has_all(args, profile);
    if (keystore)
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
        err = client_identity(args, &server, profile, &identity, &why);
    if (err == CHV_OK && keystore)
        err = chv_provision_client(server.keystore, &p, server.name, address,
                                   profile != CHV_PROFILE_PSK ? &identity : NULL, &out, &why);
    if (err == CHV_OK && profile != CHV_PROFILE_KEY)
        err = chv_provision_check(server.keystore, &p, check, &why);
    if (err == CHV_OK)
        keyadmin_warn(&server, &p.credential, address);
    if (err == CHV_OK) {
        const struct client_told told = {
            .credential = &p.credential,
            .file = !keystore               ? NULL
                    : chv_token_uri_is(uri) ? uri
                                            : chv_cli_value(args, "out"),
            .server = server.name,
            .address = address,
            .check = profile != CHV_PROFILE_KEY ? check : NULL,
            .identity = profile != CHV_PROFILE_PSK ? &identity.client : NULL,
            .server_identity = profile != CHV_PROFILE_PSK ? &identity.server : NULL,
            .allow = profile == CHV_PROFILE_KEY,
        };
        err = client_tell(&told, chv_cli_given(args, "json"), &why);
    }
    keyadmin_server_close(&server);
    chv_cli_release_signals();
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

int keyadmin_client_show(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_client_key key;
    uint8_t check[CHV_SECRET_LEN];

    enum chv_err err = keyadmin_open_operand(args, &ks, &why);
    if (err == CHV_OK)
        err = chv_client_key_load(&key, ks, &why);
    const bool credential = err == CHV_OK && key.profile != CHV_PROFILE_KEY;
    if (credential)
        err = chv_provision_check_stored(ks, key.label, check, &why);
    if (err == CHV_OK) {
        const struct client_told told = {.credential = credential ? &key.parsed : NULL,
                                         .file = args->operands[0],
                                         .server = key.server,
                                         .address = key.address,
                                         .check = credential ? check : NULL,
                                         .identity = key.identity_keystore != NULL ? &key.identity : NULL,
                                         .server_identity = key.has_server_key ? &key.server_key : NULL};
        err = client_tell(&told, chv_cli_given(args, "json"), &why);
    }
    chv_keystore_close(ks);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
