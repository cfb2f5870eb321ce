/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client revoke, suspend, resume, remove, set-scopes: what a client may still do. */
#include "tools/keyadmin_registry.h"

#include <string.h>
#include <sysexits.h>

#include "tools/identity.h"

/* A change of one client's row; *changed: there is something to write. */
struct state_change {
    const struct chv_cli_args *args;
    const char *action, *reason;
    struct chv_registry_client client;
    bool changed;
    bool widened; /* set-scopes: more than the registry can give */
};

typedef enum chv_err (*state_fn)(struct state_change *change, struct chv_why *why);

static void state_set(struct state_change *change, enum chv_client_status status)
{
    struct chv_registry_client *c = &change->client;
    const char *reason = change->reason != NULL ? change->reason : "";
    if (c->status == status && (change->reason == NULL || strcmp(c->reason, reason) == 0))
        return;
    c->status = status;
    memset(c->reason, 0, sizeof c->reason);
    memcpy(c->reason, reason, strlen(reason)); /* its length was checked */
    change->changed = true;
}

static enum chv_err state_refuse(const struct state_change *change, const char *what, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_ARGUMENT, "client '%s' is %s: %s", change->client.id,
                    chv_client_status_name(change->client.status), what);
}

static enum chv_err state_revoke(struct state_change *change, struct chv_why *why)
{
    (void)why;
    state_set(change, CHV_CLIENT_REVOKED);
    return CHV_OK;
}

static enum chv_err state_suspend(struct state_change *change, struct chv_why *why)
{
    if (change->client.status == CHV_CLIENT_REVOKED)
        return state_refuse(change, "that is more than suspended", why);
    state_set(change, CHV_CLIENT_SUSPENDED);
    return CHV_OK;
}

static enum chv_err state_resume(struct state_change *change, struct chv_why *why)
{
    if (change->client.status == CHV_CLIENT_REVOKED)
        return state_refuse(change, "'client remove' and 'client add' give it a new key", why);
    if (change->client.status == CHV_CLIENT_SUSPENDED)
        state_set(change, CHV_CLIENT_ACTIVE);
    return CHV_OK;
}

/* A tombstone: the serials stay taken, the identity key may be another client's. */
static enum chv_err state_remove(struct state_change *change, struct chv_why *why)
{
    struct chv_registry_client *c = &change->client;
    (void)why;
    state_set(change, CHV_CLIENT_REMOVED);
    c->has_identity = false;
    c->identity_curve = CHV_CURVE_25519;
    memset(c->identity, 0, sizeof c->identity);
    return CHV_OK;
}

static enum chv_err state_scopes(struct state_change *change, struct chv_why *why)
{
    const struct chv_cli_args *args = change->args;
    struct chv_registry_client *c = &change->client, wanted = {.scope_count = 0};
    for (size_t i = 1; i < args->operand_count; i++) {
        enum chv_err err = chv_registry_client_add_scope(&wanted, args->operands[i]);
        if (err != CHV_OK)
            return chv_fail(why, CHV_ERR_ARGUMENT,
                            err == CHV_ERR_SPACE
                                ? "scope '%.80s': a client may have %d scopes at most"
                                : "bad scope '%.80s': a scope may hold a-z, 0-9, . _ : / -, 1 to %d in all",
                            args->operands[i], err == CHV_ERR_SPACE ? CHV_SCOPES_MAX : CHV_SCOPE_MAX);
    }
    if (c->status != CHV_CLIENT_ACTIVE && c->status != CHV_CLIENT_SUSPENDED)
        return state_refuse(change, "it has no rights", why);
    const bool within = keyadmin_scopes_within(&wanted, c), all = keyadmin_scopes_within(c, &wanted);
    /* cut off before the credential that has them was written out: it still is to be */
    const bool unwritten = (c->flags & CHV_CLIENT_PENDING) != 0 && chv_issue_compare(c->latest, c->confirmed) > 0 &&
                           (chv_cli_given(args, "out") || chv_cli_given(args, "to"));
    /* profile key: there is no credential to say less */
    change->widened = (!within || (all && unwritten)) && c->profile != CHV_PROFILE_KEY;
    if (change->widened || (within && all))
        return CHV_OK;
    for (size_t i = 0; i < wanted.scope_count; i++)
        (void)chv_registry_client_has_scope(c, wanted.scopes[i], &wanted.held[i]); /* it stays held back */
    c->scope_count = wanted.scope_count;
    memcpy(c->scopes, wanted.scopes, sizeof c->scopes);
    memcpy(c->held, wanted.held, sizeof c->held);
    if (c->profile != CHV_PROFILE_KEY)
        c->flags |= CHV_CLIENT_NARROWED;
    change->changed = true;
    return CHV_OK;
}

/* Profile key: another key pair in the place of the one that it had, whose sessions end. */
static enum chv_err state_key(struct state_change *change, struct chv_why *why)
{
    struct chv_registry_client *c = &change->client;
    struct chv_identity identity = {.curve = CHV_CURVE_25519};
    const char *given = chv_cli_value(change->args, "identity");
    if (given == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "which key? Give --identity KEY, a public key");
    if (c->profile != CHV_PROFILE_KEY)
        return chv_fail(why, CHV_ERR_ARGUMENT, "client '%s' is of profile %s: %s", c->id, chv_profile_name(c->profile),
                        c->profile == CHV_PROFILE_PSK
                            ? "it has no identity key"
                            : "its credential is bound to its key, 'client reissue --identity KEY' makes another");
    enum chv_err err = chv_identity_public(given, &identity, why);
    if (err != CHV_OK)
        return err;
    if (identity.curve != c->identity_curve)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--identity: the key is of kind %s, the server's is %s",
                        chv_identity_curve_name(identity.curve), chv_identity_curve_name(c->identity_curve));
    const size_t len = chv_dh_public_len(identity.curve);
    change->changed = memcmp(c->identity, identity.public_key, len) != 0;
    memset(c->identity, 0, sizeof c->identity);
    memcpy(c->identity, identity.public_key, len);
    return CHV_OK;
}

/* --- what they share -----------------------------------------------------------------------------------------------
 */

static json_t *state_details(const struct state_change *change)
{
    json_t *details = json_object(), *scopes = json_array();
    if (change->reason != NULL && change->reason[0] != '\0')
        (void)json_object_set_new(details, "reason", json_string(change->reason));
    for (size_t i = 0; i < change->client.scope_count; i++)
        (void)json_array_append_new(scopes, json_string(change->client.scopes[i]));
    if (strcmp(change->action, "set-scopes") == 0)
        (void)json_object_set_new(details, "scopes", json_incref(scopes));
    json_decref(scopes);
    if (strcmp(change->action, "set-key") == 0) {
        struct chv_identity identity = {.curve = change->client.identity_curve};
        char fingerprint[CHV_FINGERPRINT_MAX];
        memcpy(identity.public_key, change->client.identity, sizeof identity.public_key);
        if (chv_identity_fingerprint(&identity, fingerprint, NULL) == CHV_OK)
            (void)json_object_set_new(details, "identity", json_string(fingerprint));
    }
    return details;
}

static enum chv_err state_in_registry(struct keyadmin_registry *reg, struct state_change *change, state_fn apply,
                                      struct chv_why *why)
{
    const char *id = change->args->operands[0];
    enum chv_err err = chv_registry_begin(reg->r, why);
    if (err != CHV_OK)
        return err;
    err = chv_registry_get(reg->r, id, &change->client, why);
    if (err == CHV_ERR_NOT_FOUND ||
        (err == CHV_OK && change->client.status == CHV_CLIENT_REMOVED && apply != state_remove))
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "there is no client '%s' in %s", id, chv_registry_name(reg->r));
    if (err == CHV_OK)
        err = apply(change, why);
    if (err == CHV_OK && change->changed) {
        err = chv_registry_put(reg->r, &change->client, why);
        if (err == CHV_OK)
            err = keyadmin_audit(reg, change->action, id, state_details(change), why);
        if (err == CHV_OK)
            return chv_registry_commit(reg->r, why);
    }
    chv_registry_rollback(reg->r);
    return err;
}

/* registry = none: only who is denied is known, in a text file. */
static enum chv_err state_in_file(const struct keyadmin_registry *reg, struct state_change *change, state_fn apply,
                                  struct chv_why *why)
{
    const char *path = keyadmin_registry_revoked(reg->uri);
    const enum chv_client_status status = apply == state_revoke    ? CHV_CLIENT_REVOKED
                                          : apply == state_suspend ? CHV_CLIENT_SUSPENDED
                                                                   : CHV_CLIENT_ACTIVE;
    if (path == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "there is no registry: give --config or --registry");
    if (apply == state_remove || apply == state_scopes || apply == state_key)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "there is no registry, only %s of who is denied: %s", path,
                        apply == state_remove   ? "revoke the client"
                        : apply == state_scopes ? "'scopes=' in a line there narrows a client"
                                                : "the client's key is a line of allowed-keys");
    enum chv_err err =
        chv_registry_revoked_set(path, change->args->operands[0], status, change->reason, &change->changed, why);
    (void)snprintf(change->client.id, sizeof change->client.id, "%s", change->args->operands[0]);
    change->client.status = status;
    return err;
}

static enum chv_err state_print(const struct state_change *change, const struct keyadmin_registry *reg)
{
    json_t *o = reg->r != NULL ? keyadmin_client_json(&change->client, NULL) : json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    if (reg->r == NULL) {
        (void)json_object_set_new(o, "client", json_string(change->client.id));
        (void)json_object_set_new(o, "status", json_string(chv_client_status_name(change->client.status)));
        (void)json_object_set_new(o, "file", json_string(keyadmin_registry_revoked(reg->uri)));
    }
    (void)json_object_set_new(o, "changed", json_boolean(change->changed));
    chv_cli_print(o, chv_cli_given(change->args, "json"));
    return CHV_OK;
}

static int state_run(const struct chv_cli_args *args, const char *action, state_fn apply, bool *widened)
{
    struct chv_why why = {""};
    struct keyadmin_registry reg = {.r = NULL};
    struct state_change change = {.args = args, .action = action, .reason = chv_cli_value(args, "reason")};
    enum chv_err err = CHV_OK;

    chv_cli_hold_signals();
    if (!chv_client_id_valid(args->operands[0]))
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "'%.80s' is not a client id", args->operands[0]);
    if (err == CHV_OK && change.reason != NULL && strlen(change.reason) > CHV_REGISTRY_REASON_MAX)
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "--reason: at most %d bytes", CHV_REGISTRY_REASON_MAX);
    if (err == CHV_OK)
        err = keyadmin_registry_find(args, CHV_REGISTRY_WRITE, &reg, &why);
    if (err == CHV_OK)
        err = reg.r != NULL ? state_in_registry(&reg, &change, apply, &why) : state_in_file(&reg, &change, apply, &why);
    for (size_t i = 1; err == CHV_OK && apply == state_scopes && !change.widened && i < args->operand_count; i++)
        keyadmin_warn_scope(reg.config, args->operands[i]);
    if (err == CHV_OK && !change.widened)
        err = state_print(&change, &reg);
    keyadmin_registry_close(&reg);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_cli_release_signals();
    if (widened != NULL)
        *widened = change.widened;
    return code;
}

int keyadmin_client_revoke(const struct chv_cli_args *args)
{
    return state_run(args, "revoke", state_revoke, NULL);
}

int keyadmin_client_suspend(const struct chv_cli_args *args)
{
    return state_run(args, "suspend", state_suspend, NULL);
}

int keyadmin_client_resume(const struct chv_cli_args *args)
{
    return state_run(args, "resume", state_resume, NULL);
}

int keyadmin_client_remove(const struct chv_cli_args *args)
{
    return state_run(args, "remove", state_remove, NULL);
}

int keyadmin_client_set_key(const struct chv_cli_args *args)
{
    return state_run(args, "set-key", state_key, NULL);
}

/* The credential is bound to its scopes: more of them are another credential. */
int keyadmin_client_set_scopes(const struct chv_cli_args *args)
{
    bool widened = false;
    const bool out = chv_cli_given(args, "out") || chv_cli_given(args, "to");
    int code = state_run(args, "set-scopes", state_scopes, &widened);
    if (code != EX_OK || !widened)
        return code;
    if (!out)
        return chv_cli_fail(EX_USAGE,
                            "client '%s': its credential does not have all of these scopes; a new one can: give --out "
                            "FILE or --to URI for it",
                            args->operands[0]);
    struct chv_cli_args reissue = *args;
    if (args->operand_count - 1 > CHV_CLI_REPEATS)
        return chv_cli_fail(EX_USAGE, "a client may have %d scopes at most", CHV_SCOPES_MAX);
    for (size_t i = 1; i < args->operand_count; i++)
        reissue.repeats[i - 1] = args->operands[i];
    reissue.repeat_count = args->operand_count - 1;
    reissue.operand_count = 1;
    return keyadmin_client_issue_again(&reissue, false);
}
