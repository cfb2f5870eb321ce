/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client add, client reissue, client show: what is handed out, and what was. */
#include "tools/keyadmin_registry.h"

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

/* One command that hands a credential out. */
struct client_job {
    const struct chv_cli_args *args;
    struct keyadmin_server server;
    struct keyadmin_registry registry;
    struct keyadmin_epochs epochs;
    struct keyadmin_wish wish;
    struct keyadmin_grant grant;
    struct chv_provision p;
    struct chv_provision_identity identity;
    enum chv_profile profile;
    struct chv_secret_source secret;
    char uri[CHV_TOKEN_URI_SIZE]; /* of the client's keystore */
    uint64_t scrypt_n;
    bool keystore;               /* one is made: not for a key of profile key that is there already */
    bool there;                  /* its file is: right only if it is this client's */
    struct chv_keystore *client; /* that, open for changes */
    struct chv_keystore *fresh;  /* a new file, open: client_provision's to close */
    char address[CHV_ADDRESS_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
};

static enum chv_err client_exists(const char *out, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", out);
}

static enum chv_err client_out_file(struct client_job *job, const char *out, struct chv_why *why)
{
    if (chv_token_uri_is(out))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out is for a file: a token is given by --to");
    job->there = access(out, F_OK) == 0;
    if (!job->there && errno != ENOENT)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", out, strerror(errno));
    if (snprintf(job->uri, sizeof job->uri, "file:%s", out) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    return CHV_OK;
}

/* --out or --to: the URI of the client's keystore, a file that is not there or a token that is. */
static enum chv_err client_out(struct client_job *job, struct chv_why *why)
{
    const struct chv_cli_args *args = job->args;
    const char *out = chv_cli_value(args, "out"), *to = chv_cli_value(args, "to");
    const struct chv_secret_options secrets = {.passphrase_file = chv_cli_value(args, "client-passphrase-file")};
    enum chv_err err;
    if ((out == NULL) == (to == NULL))
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the client's keystore go? Give --out FILE, or --to URI");
    if (to != NULL && !chv_token_uri_is(to))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.200s': is no token, write pkcs11:token=NAME", to);
    err = to != NULL ? chv_token_uri(to, chv_cli_value(args, "module"), NULL, job->uri, why)
                     : client_out_file(job, out, why);
    if (err == CHV_OK)
        err = chv_secret_for(job->uri, &secrets, &job->secret, why);
    job->secret.option = "--client-passphrase-file";
    job->secret.credential = NULL; /* that is the server's */
    return err;
}

/* A file that is there is looked at only if a registry says that it may be our own. */
static enum chv_err client_there(const struct client_job *job, struct chv_why *why)
{
    const struct chv_cli_args *args = job->args;
    struct keyadmin_registry registry = {.r = NULL};
    struct chv_registry_client client;
    bool ours = false;
    if (!job->there)
        return CHV_OK;
    if (chv_cli_given(args, "registry") || chv_cli_given(args, "config") || !chv_cli_given(args, "keystore")) {
        enum chv_err err = keyadmin_registry_find(args, CHV_REGISTRY_READ, &registry, NULL);
        ours = err == CHV_OK && registry.r != NULL &&
               chv_registry_get(registry.r, args->operands[0], &client, NULL) == CHV_OK &&
               client.status == CHV_CLIENT_ACTIVE;
        keyadmin_registry_close(&registry);
    }
    return ours ? CHV_OK : client_exists(chv_cli_value(args, "out"), why);
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

/* --- add, reissue --------------------------------------------------------------------------------------------------
 */

/* Of which epoch the credential is to be; asked before, and again with the registry's turn to write. */
static enum chv_err client_epoch(struct client_job *job, struct chv_why *why)
{
    struct keyadmin_wish *wish = &job->wish;
    if (job->profile == CHV_PROFILE_KEY)
        return CHV_OK;
    wish->epochs = &job->epochs;
    enum chv_err err = keyadmin_epochs_load(&job->epochs, job->server.config, &job->registry, why);
    return err == CHV_OK ? keyadmin_epoch_pick(&job->server, &job->epochs, wish->epoch_given, wish->leaked,
                                               &wish->credential.epoch, why)
                         : err;
}

static enum chv_err client_open(struct client_job *job, struct chv_why *why)
{
    const struct chv_cli_args *args = job->args;
    enum chv_err err = keyadmin_server_open(args, &job->server, why);
    if (err == CHV_OK)
        err = keyadmin_server_address(args, &job->server, job->address, why);
    if (err == CHV_OK)
        err = keyadmin_wish(args, &job->server, &job->wish, why);
    if (err == CHV_OK)
        err = keyadmin_registry_open(args, job->server.config, CHV_REGISTRY_WRITE, &job->registry, why);
    if (err == CHV_OK && job->registry.r == NULL && job->wish.reissue)
        err = chv_fail(why, CHV_ERR_UNSUPPORTED,
                       "there is no registry that knows the client's serial: 'client add --serial N' makes the next "
                       "credential, and a line 'ID EPOCH.N' in the file of denied clients refuses older ones");
    if (err == CHV_OK && job->registry.r == NULL && job->there)
        err = client_exists(chv_cli_value(args, "out"), why);
    return err == CHV_OK ? client_epoch(job, why) : err;
}

/*
 * A file that is there is opened before anything is numbered: it is to be this client's, and its passphrase known.  The
 * next key then stands in it beside the one in use, as in a token.
 */
static enum chv_err client_reopen(struct client_job *job, struct chv_why *why)
{
    const struct chv_provision_store out = {.uri = job->uri, .secret = chv_secret_get, .secret_arg = &job->secret};
    if (!job->there || job->profile == CHV_PROFILE_KEY)
        return CHV_OK;
    return chv_provision_reopen(&out, job->wish.credential.id, job->server.name, &job->client, why);
}

/*
 * A new file is opened before anything is numbered, too: a folder or a passphrase that is missing costs no number, and
 * what was mistyped beside it is not registered.
 */
static enum chv_err client_begin(struct client_job *job, struct chv_why *why)
{
    const struct chv_provision_store out = {
        .uri = job->uri, .secret = chv_secret_get, .secret_arg = &job->secret, .scrypt_n = job->scrypt_n};
    if (job->there || chv_token_uri_is(job->uri))
        return CHV_OK;
    return chv_provision_open(&out, CHV_KEYSTORE_CREATE, &job->fresh, why);
}

/* Its number, in the registry before the credential is made; without a registry it is what the options say. */
static enum chv_err client_grant(struct client_job *job, struct chv_why *why)
{
    if (job->registry.r == NULL)
        return CHV_OK;
    job->wish.has_identity = job->profile != CHV_PROFILE_PSK && !job->identity.generate;
    job->wish.identity = job->identity.client;
    enum chv_err err = chv_registry_begin(job->registry.r, why);
    if (err == CHV_OK)
        err = client_epoch(job, why);
    if (err == CHV_OK)
        err = keyadmin_grant(&job->registry, &job->wish, &job->grant, why);
    if (err == CHV_OK && !job->grant.again)
        return chv_registry_commit(job->registry.r, why);
    if (err == CHV_OK && job->wish.leaked)
        return chv_registry_commit(job->registry.r, why);
    chv_registry_rollback(job->registry.r);
    return err;
}

/* The profile that the client has, for a reissue. */
static enum chv_err client_profile(struct client_job *job, struct chv_why *why)
{
    struct chv_registry_client client;
    enum chv_err err = CHV_OK;
    if (!job->wish.reissue)
        return CHV_OK;
    err = chv_registry_get(job->registry.r, job->args->operands[0], &client, why);
    if (err == CHV_ERR_NOT_FOUND)
        return CHV_OK; /* said by keyadmin_grant */
    if (err == CHV_OK)
        job->profile = client.profile;
    if (err == CHV_OK && job->profile == CHV_PROFILE_KEY)
        return chv_fail(
            why, CHV_ERR_ARGUMENT,
            "client '%s' has an identity key and no credential: 'client set-key %s --identity KEY' lets its new key in",
            client.id, client.id);
    if (err == CHV_OK && job->profile == CHV_PROFILE_PSK && chv_cli_given(job->args, "identity"))
        err = chv_fail(why, CHV_ERR_ARGUMENT, "--identity: client '%s' is of profile psk", client.id);
    return err;
}

static enum chv_err client_encode(struct client_job *job, struct chv_why *why)
{
    job->p.credential = job->wish.credential;
    if (job->profile == CHV_PROFILE_KEY)
        return CHV_OK;
    job->p.credential.has_identity = job->profile == CHV_PROFILE_KEY_PSK;
    enum chv_err err = CHV_OK;
    if (job->profile == CHV_PROFILE_KEY_PSK && !job->identity.generate)
        err = chv_provision_bind(&job->p, &job->identity.client, why);
    return err == CHV_OK ? chv_provision_end(&job->p, why) : err;
}

/*
 * The client's keystore; one that an earlier run made or began is completed, if the registry says that there was one.  A
 * token takes the next key beside the one in use, which the client removes once the server knows the new one.
 */
static enum chv_err client_provision(struct client_job *job, struct chv_why *why)
{
    const struct chv_provision_store out = {.uri = job->uri,
                                            .secret = chv_secret_get,
                                            .secret_arg = &job->secret,
                                            .scrypt_n = job->scrypt_n,
                                            .open = job->fresh};
    struct chv_provision_identity *identity = job->profile != CHV_PROFILE_PSK ? &job->identity : NULL;
    bool again = job->there;
    enum chv_err err = CHV_OK;
    if (job->client != NULL)
        return chv_provision_beside(job->server.keystore, &job->p, job->server.name, job->address, identity,
                                    job->client, job->uri, job->wish.reissue || !job->grant.again, why);
    if (!again) {
        job->fresh = NULL;
        err = chv_provision_client(job->server.keystore, &job->p, job->server.name, job->address, identity, &out, why);
        again = err == CHV_ERR_EXISTS && (job->grant.again || job->wish.reissue) && chv_token_uri_is(job->uri);
    }
    if (again)
        err = chv_provision_again(job->server.keystore, &job->p, job->server.name, job->address, identity, &out, why);
    return err;
}

/* Profile key has no number: the key pair is what the registry is to know, so it has to be there first. */
static enum chv_err client_make_key(struct client_job *job, struct chv_why *why)
{
    struct chv_registry_client client;
    if (job->registry.r != NULL && job->keystore && !job->there) {
        enum chv_err err = chv_registry_get(job->registry.r, job->wish.credential.id, &client, why);
        if (err == CHV_OK && client.status != CHV_CLIENT_REMOVED)
            return chv_fail(why, CHV_ERR_EXISTS,
                            "client '%s' is registered already: see 'client show', 'client remove'", client.id);
        if (err != CHV_OK && err != CHV_ERR_NOT_FOUND)
            return err;
    }
    enum chv_err err = client_encode(job, why);
    if (err == CHV_OK && job->keystore)
        err = client_provision(job, why);
    job->identity.generate = false; /* it was */
    return err == CHV_OK ? client_grant(job, why) : err;
}

static enum chv_err client_make(struct client_job *job, struct chv_why *why)
{
    if (job->profile == CHV_PROFILE_KEY)
        return client_make_key(job, why);
    enum chv_err err = client_reopen(job, why);
    if (err == CHV_OK)
        err = client_begin(job, why);
    if (err == CHV_OK)
        err = client_grant(job, why);
    if (err == CHV_OK)
        err = client_encode(job, why);
    if (err == CHV_OK)
        err = client_provision(job, why);
    if (err == CHV_OK)
        err = chv_provision_check(job->server.keystore, &job->p, job->check, why);
    if (err == CHV_OK && job->registry.r != NULL)
        err = keyadmin_granted(&job->registry, &job->p.credential,
                               job->profile == CHV_PROFILE_KEY_PSK ? &job->identity.client : NULL, why);
    return err;
}

static enum chv_err client_result(struct client_job *job, struct chv_why *why)
{
    const bool credential = job->profile != CHV_PROFILE_KEY, identity = job->profile != CHV_PROFILE_PSK;
    const struct client_told told = {
        .credential = &job->p.credential,
        .file = !job->keystore               ? NULL
                : chv_token_uri_is(job->uri) ? job->uri
                                             : chv_cli_value(job->args, "out"),
        .server = job->server.name,
        .address = job->address,
        .check = credential ? job->check : NULL,
        .identity = identity ? &job->identity.client : NULL,
        .server_identity = identity ? &job->identity.server : NULL,
        .allow = !credential,
    };
    keyadmin_warn(&job->server, &job->p.credential, job->address);
    keyadmin_seal(&job->registry, &job->server);
    return client_tell(&told, chv_cli_given(job->args, "json"), why);
}

static int client_issue(struct client_job *job)
{
    const struct chv_cli_args *args = job->args;
    struct chv_why why = {""};

    chv_cli_hold_signals();
    enum chv_err err = keyadmin_cost(args, &job->scrypt_n, &why);
    if (err == CHV_OK && !job->wish.reissue)
        err = keyadmin_profile(args, &job->profile, &why);
    if (err == CHV_OK && !job->wish.reissue)
        err = client_check_options(args, job->profile, &why);
    job->keystore = err == CHV_OK && !client_has_all(args, job->profile);
    if (job->keystore)
        err = client_out(job, &why);
    if (err == CHV_OK) /* before anything is asked */
        err = keyadmin_wish(args, &(struct keyadmin_server){.latest = 1}, &job->wish, &why);
    if (err == CHV_OK)
        err = client_there(job, &why);
    if (err == CHV_OK)
        err = client_open(job, &why);
    if (err == CHV_OK)
        err = client_profile(job, &why);
    if (err == CHV_OK)
        err = client_identity(args, &job->server, job->profile, &job->identity, &why);
    if (err == CHV_OK)
        err = client_make(job, &why);
    if (err == CHV_OK)
        err = client_result(job, &why);
    chv_keystore_close(job->fresh);
    chv_keystore_close(job->client);
    keyadmin_registry_close(&job->registry);
    keyadmin_server_close(&job->server);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_cli_release_signals();
    return code;
}

int keyadmin_client_add(const struct chv_cli_args *args)
{
    if (chv_cli_given(args, "from"))
        return keyadmin_client_add_many(args);
    if (args->operand_count == 0)
        return chv_cli_fail(EX_USAGE, "'keyadmin client add' wants ID {--out FILE | --to URI}, or --from FILE --out "
                                      "BUNDLE: see 'keyadmin client add --help'");
    if (chv_cli_given(args, "recipient"))
        return chv_cli_fail(EX_USAGE, "--recipient is for a bundle: give --from FILE");
    struct client_job job = {.args = args, .profile = CHV_PROFILE_PSK, .secret = {.kind = CHV_SECRET_PROMPT}};
    return client_issue(&job);
}

int keyadmin_client_issue_again(const struct chv_cli_args *args, bool leaked)
{
    struct client_job job = {.args = args,
                             .profile = CHV_PROFILE_PSK,
                             .wish = {.reissue = true, .leaked = leaked},
                             .secret = {.kind = CHV_SECRET_PROMPT}};
    return client_issue(&job);
}

int keyadmin_client_reissue(const struct chv_cli_args *args)
{
    return keyadmin_client_issue_again(args, chv_cli_given(args, "leaked"));
}

int keyadmin_client_show(const struct chv_cli_args *args)
{
    if (keyadmin_client_registered(args))
        return keyadmin_client_show_registered(args);
    struct chv_why why = {""};
    struct chv_keystore *ks = NULL;
    struct chv_client_key key = {0};
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
