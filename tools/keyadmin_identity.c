/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin identity new, show, fingerprint: static Diffie-Hellman key pairs of clients and servers. */
#include "tools/keyadmin.h"

#include <limits.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "keystore/file_pem.h"
#include "tools/identity.h"
#include "tools/times.h"

enum chv_err keyadmin_curve(const struct chv_cli_args *args, enum chv_curve *curve, struct chv_why *why)
{
    const char *name = chv_cli_value(args, "curve");
    *curve = CHV_CURVE_25519;
    if (name == NULL || chv_identity_curve_find(name, curve) == CHV_OK)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_ARGUMENT, "unknown curve '%.40s': there are x25519 and p256", name);
}

enum chv_err keyadmin_describe_identity(json_t *object, const struct chv_identity *identity, struct chv_why *why)
{
    char text[CHV_IDENTITY_TEXT_MAX], fingerprint[CHV_FINGERPRINT_MAX];
    enum chv_err err = chv_identity_fingerprint(identity, fingerprint, why);
    if (err != CHV_OK)
        return err;
    chv_identity_format(identity, text);
    (void)json_object_set_new(object, "identity", json_string(fingerprint));
    (void)json_object_set_new(object, "identity_key", json_string(text));
    return CHV_OK;
}

/* --- new ---------------------------------------------------------------------------------------------------------- */

/* A key in PEM text has a passphrase only if one is given: it may serve a machine that nobody sits at. */
static enum chv_err identity_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                    struct chv_why *why)
{
    const struct chv_secret_source *source = arg;
    *len = 0;
    return source->kind == CHV_SECRET_DEFAULT ? CHV_OK : chv_secret_get(arg, prompt, confirm, out, cap, len, why);
}

static enum chv_err identity_new_file(const struct chv_cli_args *args, enum chv_curve curve, const char *file,
                                      char public_file[PATH_MAX], struct chv_identity *identity, struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = identity_secret, .secret_arg = &secret};
    struct chv_keystore *ks = NULL;
    bool written = false;
    if (snprintf(public_file, PATH_MAX, "%s.pub", file) >= PATH_MAX ||
        snprintf(uri, sizeof uri, "pem:%s", file) >= (int)sizeof uri)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    enum chv_err err = keyadmin_secret(args, uri, &secret, why);
    if (err == CHV_OK)
        err = chv_provision_open(&store, CHV_KEYSTORE_CREATE, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, CHV_IDENTITY_LABEL, CHV_USE_IDENTITY, curve, why);
    if (err == CHV_OK)
        err = chv_identity_of(ks, identity, why);
    if (err == CHV_OK)
        err = chv_identity_write(identity, public_file, why);
    written = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    if (err != CHV_OK && written)
        (void)unlink(public_file);
    chv_keystore_close(ks);
    return err;
}

static enum chv_err identity_new_token(const struct chv_cli_args *args, enum chv_curve curve, const char *given,
                                       struct chv_identity *identity, struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    struct chv_keystore *ks = NULL;
    if (!chv_token_uri_is(given))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.200s': is no token, write pkcs11:token=NAME", given);
    enum chv_err err = chv_token_uri(given, chv_cli_value(args, "module"), NULL, uri, why);
    if (err == CHV_OK)
        err = keyadmin_secret(args, uri, &secret, why);
    if (err == CHV_OK)
        err = chv_provision_open(&store, CHV_KEYSTORE_WRITE, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, CHV_IDENTITY_LABEL, CHV_USE_IDENTITY, curve, why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    if (err == CHV_OK)
        err = chv_identity_of(ks, identity, why);
    chv_keystore_close(ks);
    return err;
}

/* Into the keystore of a server that has none yet; its public key beside the configuration. */
static enum chv_err identity_new_server(const struct chv_cli_args *args, enum chv_curve curve,
                                        char public_file[PATH_MAX], struct chv_identity *identity, struct chv_why *why)
{
    struct keyadmin_server server = {0};
    bool written = false, made = false;
    enum chv_err err = keyadmin_server_open_for(args, CHV_KEYSTORE_WRITE, &server, why);
    if (err == CHV_OK && server.config_file != NULL)
        err = chv_identity_server_file(server.config_file, public_file, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(server.keystore, CHV_IDENTITY_LABEL, CHV_USE_IDENTITY, curve, why);
    made = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_identity_of(server.keystore, identity, why);
    if (err == CHV_OK && public_file[0] != '\0') {
        err = chv_identity_write(identity, public_file, why);
        written = err == CHV_OK;
    }
    if (err == CHV_OK)
        err = chv_keystore_commit(server.keystore, why);
    if (err != CHV_OK && written)
        (void)unlink(public_file);
    if (err != CHV_OK && made) { /* a token keeps at once what it makes */
        enum chv_err undone = chv_keystore_remove(server.keystore, CHV_IDENTITY_LABEL, NULL);
        (void)undone;
    }
    keyadmin_server_close(&server);
    return err;
}

static enum chv_err identity_new_where(const struct chv_cli_args *args, struct chv_why *why)
{
    int places = (chv_cli_given(args, "out") ? 1 : 0) + (chv_cli_given(args, "to") ? 1 : 0) +
                 (chv_cli_given(args, "server") ? 1 : 0);
    if (places != 1)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "where shall the key pair be made? Give one of --out FILE, --to URI and --server");
    if (!chv_cli_given(args, "server") && (chv_cli_given(args, "config") || chv_cli_given(args, "keystore")))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--config and --keystore name a server: give --server with them");
    return CHV_OK;
}

int keyadmin_identity_new(const struct chv_cli_args *args)
{
    const char *out = chv_cli_value(args, "out"), *to = chv_cli_value(args, "to");
    char public_file[PATH_MAX] = "";
    struct chv_identity identity = {.curve = CHV_CURVE_25519};
    struct chv_why why = {""};
    enum chv_curve curve;
    json_t *o = json_object();

    chv_cli_hold_signals();
    enum chv_err err = o == NULL ? CHV_ERR_MEMORY : identity_new_where(args, &why);
    if (err == CHV_OK)
        err = keyadmin_curve(args, &curve, &why);
    if (err == CHV_OK)
        err = out != NULL  ? identity_new_file(args, curve, out, public_file, &identity, &why)
              : to != NULL ? identity_new_token(args, curve, to, &identity, &why)
                           : identity_new_server(args, curve, public_file, &identity, &why);
    if (err == CHV_OK)
        err = keyadmin_describe_identity(o, &identity, &why);
    if (err == CHV_OK) {
        if (out != NULL)
            (void)json_object_set_new(o, "file", json_string(out));
        if (to != NULL)
            (void)json_object_set_new(o, "token", json_string(to));
        if (public_file[0] != '\0')
            (void)json_object_set_new(o, "public_file", json_string(public_file));
        chv_cli_print(json_incref(o), chv_cli_given(args, "json"));
    }
    json_decref(o);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
    chv_cli_release_signals();
    return code;
}

/* --- show, fingerprint -------------------------------------------------------------------------------------------- */

static enum chv_err identity_open(const struct chv_cli_args *args, const char *given, struct chv_identity *identity,
                                  struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_identity_uri(given, chv_cli_value(args, "module"), uri, why);
    if (err == CHV_OK)
        err = keyadmin_secret(args, uri, &secret, why);
    if (err == CHV_OK)
        err = chv_provision_open(&store, CHV_KEYSTORE_READ, &ks, why);
    if (err == CHV_OK)
        err = chv_identity_of(ks, identity, why);
    if (err == CHV_ERR_NOT_FOUND && ks != NULL)
        err = chv_fail(why, err, "%s: there is no identity key in it: 'keyadmin identity new' makes one", given);
    chv_keystore_close(ks);
    return err;
}

int keyadmin_identity_fingerprint(const struct chv_cli_args *args)
{
    struct chv_identity identity = {.curve = CHV_CURVE_25519};
    struct chv_why why = {""};
    char fingerprint[CHV_FINGERPRINT_MAX];
    enum chv_err err = identity_open(args, args->operands[0], &identity, &why);
    if (err == CHV_OK)
        err = chv_identity_fingerprint(&identity, fingerprint, &why);
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    if (chv_cli_given(args, "json"))
        chv_cli_print(
            json_pack("{s:s, s:s}", "identity", fingerprint, "curve", chv_identity_curve_name(identity.curve)), true);
    else
        printf("%s\n", fingerprint);
    return EX_OK;
}

/* "cam1" for /etc/keys/cam1.pub. */
static enum chv_err identity_id(const struct chv_cli_args *args, char id[CHV_CLIENT_ID_MAX + 1], struct chv_why *why)
{
    const char *name = strrchr(args->operands[0], '/');
    name = name != NULL ? name + 1 : args->operands[0];
    size_t n = strcspn(name, ".");
    if (args->operand_count > 1) {
        name = args->operands[1];
        n = strlen(name);
    } else if (chv_token_uri_is(args->operands[0])) {
        return chv_fail(why, CHV_ERR_ARGUMENT, "whose key is it? Give the client's ID behind the key");
    }
    (void)snprintf(id, CHV_CLIENT_ID_MAX + 1, "%.*s", n > CHV_CLIENT_ID_MAX ? 0 : (int)n, name);
    if (!chv_client_id_valid(id))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "'%.80s' is no client id: give one behind the key (letters, digits, . _ @ : -, first one "
                        "alphanumeric, 1 to %d in all)",
                        name, CHV_CLIENT_ID_MAX);
    return CHV_OK;
}

enum chv_err keyadmin_allowed_line(const struct chv_identity *identity, const struct chv_credential *c, char *out,
                                   size_t size, struct chv_why *why)
{
    char key[CHV_IDENTITY_TEXT_MAX], expires[CHV_TIME_TEXT];
    chv_identity_format(identity, key);
    size_t len = (size_t)snprintf(out, size, "%s %s", key, c->id);
    for (size_t i = 0; i < c->scope_count && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%c%s", i == 0 ? ' ' : ',', c->scopes[i]);
    if (c->not_after != 0 && len < size) {
        chv_time_format(c->not_after, expires);
        len += (size_t)snprintf(out + len, size - len, " expires=%s", expires);
    }
    return len < size ? CHV_OK : chv_fail(why, CHV_ERR_SPACE, "the line of '%s' is too long", c->id);
}

/* id, scopes and expiry as a line has them. */
static enum chv_err identity_rights(const struct chv_cli_args *args, struct chv_credential *c, struct chv_why *why)
{
    struct chv_provision p;
    char id[CHV_CLIENT_ID_MAX + 1];
    const char *expires = chv_cli_value(args, "expires");
    uint64_t not_after = 0;
    enum chv_err err = identity_id(args, id, why);
    if (err == CHV_OK && expires != NULL)
        err = chv_time_expiry(expires, chv_time_now(), &not_after, why);
    if (err == CHV_OK)
        err = chv_provision_begin(&p, id, 1, 1, not_after, why);
    for (size_t i = 0; err == CHV_OK && i < args->repeat_count; i++) /* --scope is the one that repeats */
        err = chv_provision_scope(&p, args->repeats[i], why);
    if (err == CHV_OK && args->repeat_count == 0)
        err = chv_provision_scope(&p, "message", why);
    if (err == CHV_OK)
        *c = p.credential;
    for (size_t i = 0; err == CHV_OK && i < c->scope_count; i++)
        keyadmin_warn_scope(NULL, c->scopes[i]);
    return err;
}

int keyadmin_identity_show(const struct chv_cli_args *args)
{
    struct chv_identity identity = {.curve = CHV_CURVE_25519};
    struct chv_why why = {""};
    struct chv_credential c;
    char line[CHV_ALLOWED_LINE_MAX], pem[CHV_PEM_TEXT_MAX];
    json_t *o = NULL;
    const bool as_pem = chv_cli_given(args, "pem");

    enum chv_err err = as_pem ? CHV_OK : identity_rights(args, &c, &why);
    if (err == CHV_OK)
        err = identity_open(args, args->operands[0], &identity, &why);
    if (err == CHV_OK)
        err = as_pem ? chv_pem_public(&identity, pem, &why)
                     : keyadmin_allowed_line(&identity, &c, line, sizeof line, &why);
    if (err == CHV_OK && as_pem) {
        printf("%s", pem);
    } else if (err == CHV_OK && !chv_cli_given(args, "json")) {
        printf("%s\n", line);
    } else if (err == CHV_OK) {
        o = json_object();
        err = o == NULL ? CHV_ERR_MEMORY : keyadmin_describe_identity(o, &identity, &why);
        (void)json_object_set_new(o, "allowed_key", json_string(line));
        if (err == CHV_OK)
            chv_cli_print(json_incref(o), true);
        json_decref(o);
    }
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
