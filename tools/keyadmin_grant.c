/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which credential a client gets: numbered in the registry before it is made, so that a command that was cut off anywhere
 * gives the same one when it is run again.  Until it was written out the client is CHV_CLIENT_PENDING.
 */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <string.h>

#include "tools/times.h"

bool keyadmin_scopes_within(const struct chv_registry_client *a, const struct chv_registry_client *b)
{
    for (size_t i = 0; i < a->scope_count; i++)
        if (!chv_registry_client_has_scope(b, a->scopes[i], NULL))
            return false;
    return true;
}

static void grant_scopes(struct chv_registry_client *client, const struct chv_credential *c)
{
    _Static_assert(sizeof client->scopes == sizeof c->scopes, "both have room for the same");
    client->scope_count = c->scope_count;
    memcpy(client->scopes, c->scopes, sizeof client->scopes);
    memset(client->held, 0, sizeof client->held);
}

/* What is taken from a credential stays taken from it: what a wider one has is held back from it until that was used. */
static void grant_wider(struct chv_registry_client *client, const struct chv_registry_client *before,
                        const struct chv_credential *c)
{
    grant_scopes(client, c);
    for (size_t i = 0; i < client->scope_count; i++) {
        bool held = false;
        client->held[i] = !chv_registry_client_has_scope(before, client->scopes[i], &held) || held;
    }
    /* the one that it has may say more than that */
    if ((before->flags & CHV_CLIENT_NARROWED) != 0 || !keyadmin_scopes_within(before, client))
        client->flags |= CHV_CLIENT_NARROWED_OLD;
    client->flags &= ~(unsigned)CHV_CLIENT_NARROWED;
}

/* Older credentials are denied: nothing has to be held back from them. */
static void grant_only(struct chv_registry_client *client)
{
    memset(client->held, 0, sizeof client->held);
    client->flags &= ~(unsigned)(CHV_CLIENT_NARROWED | CHV_CLIENT_NARROWED_OLD);
}

static bool grant_same_scopes(const struct chv_registry_client *client, const struct chv_credential *c)
{
    struct chv_registry_client asked;
    grant_scopes(&asked, c);
    return keyadmin_scopes_within(client, &asked) && keyadmin_scopes_within(&asked, client);
}

static void grant_identity(struct chv_registry_client *client, const struct chv_identity *identity)
{
    memset(client->identity, 0, sizeof client->identity);
    client->has_identity = identity != NULL;
    client->identity_curve = identity != NULL ? identity->curve : CHV_CURVE_25519;
    if (identity != NULL)
        memcpy(client->identity, identity->public_key, chv_dh_public_len(identity->curve));
}

static bool grant_same_identity(const struct chv_registry_client *client, const struct chv_identity *identity)
{
    return client->has_identity && client->identity_curve == identity->curve &&
           memcmp(client->identity, identity->public_key, chv_dh_public_len(identity->curve)) == 0;
}

/* A relative expiry never comes out earlier than it did before. */
static bool grant_same_expiry(const struct chv_registry_client *client, const struct keyadmin_wish *wish)
{
    const uint64_t asked = wish->credential.not_after;
    return asked == client->not_after ||
           (wish->expires_relative && client->not_after != 0 && asked > client->not_after);
}

/* Its newest key is worth nothing to anybody. */
static bool grant_lost(const struct chv_registry_client *client, const struct keyadmin_wish *wish)
{
    return client->profile != CHV_PROFILE_KEY && client->latest.serial != 0 &&
           keyadmin_epoch_lost(wish->epochs, client->latest.epoch) != NULL;
}

/* What of a wish is not what the client has, NULL: all of it is. */
static const char *grant_differs(const struct chv_registry_client *client, const struct keyadmin_wish *wish)
{
    const struct chv_credential *c = &wish->credential;
    const bool lost = grant_lost(client, wish); /* there will be another credential anyway */
    if (c->profile != client->profile)
        return "another profile";
    if ((!wish->reissue || wish->scopes_given) && !grant_same_scopes(client, c))
        return "other scopes";
    if (!lost && !grant_same_expiry(client, wish))
        return "another expiry";
    if (wish->has_identity && !grant_same_identity(client, &wish->identity) &&
        (c->profile == CHV_PROFILE_KEY || client->has_identity))
        return "another identity key";
    if (c->profile == CHV_PROFILE_KEY || lost)
        return NULL;
    if (wish->epoch_given && c->epoch != client->latest.epoch)
        return "another epoch";
    if (wish->serial_given && c->serial != client->latest.serial)
        return "another serial";
    return NULL;
}

/* The credential as the registry has it. */
static void grant_take(struct keyadmin_wish *wish, const struct keyadmin_grant *grant)
{
    struct chv_credential *c = &wish->credential;
    c->not_after = grant->client.not_after;
    c->scope_count = grant->client.scope_count;
    memcpy(c->scopes, grant->client.scopes, sizeof c->scopes);
    if (c->profile == CHV_PROFILE_KEY)
        return;
    c->epoch = grant->client.latest.epoch;
    c->serial = grant->client.latest.serial;
}

/* The next serial, of the epoch that is asked for, for a client that had none or had others. */
static enum chv_err grant_number(struct chv_registry_client *client, const struct keyadmin_wish *wish,
                                 struct chv_why *why)
{
    const struct chv_credential *c = &wish->credential;
    uint32_t next = 0;
    if (c->profile == CHV_PROFILE_KEY)
        return CHV_OK;
    enum chv_err err = chv_registry_next_serial(client, &next, why);
    if (err != CHV_OK)
        return err;
    if (wish->serial_given && c->serial < next)
        return chv_fail(why, CHV_ERR_EXISTS, "client '%s' had serial %" PRIu32 " already: the next one is %" PRIu32,
                        client->id, c->serial, next);
    if (c->epoch < client->latest.epoch)
        return chv_fail(why, CHV_ERR_EXISTS,
                        "client '%s' had a credential of epoch %" PRIu32
                        " already: 'keyadmin epoch new' makes a newer one",
                        client->id, client->latest.epoch);
    client->latest = (struct chv_issue){c->epoch, wish->serial_given ? c->serial : next};
    client->flags |= CHV_CLIENT_PENDING;
    return CHV_OK;
}

static enum chv_err grant_put(struct keyadmin_registry *reg, struct keyadmin_wish *wish, struct keyadmin_grant *grant,
                              const char *action, struct chv_why *why)
{
    char expires[CHV_TIME_TEXT];
    enum chv_err err = wish->dry ? CHV_OK : chv_registry_put(reg->r, &grant->client, why);
    if (err != CHV_OK)
        return err;
    grant_take(wish, grant);
    if (wish->dry)
        return CHV_OK;
    json_t *details = json_object(), *scopes = json_array();
    const struct chv_credential *c = &wish->credential;
    chv_time_format(c->not_after, expires);
    (void)json_object_set_new(details, "profile", json_string(chv_profile_name(c->profile)));
    if (c->profile != CHV_PROFILE_KEY) {
        (void)json_object_set_new(details, "epoch", json_integer(c->epoch));
        (void)json_object_set_new(details, "serial", json_integer(c->serial));
    }
    (void)json_object_set_new(details, "expires", json_string(expires));
    if (wish->leaked)
        (void)json_object_set_new(details, "leaked", json_true());
    for (size_t i = 0; i < c->scope_count; i++)
        (void)json_array_append_new(scopes, json_string(c->scopes[i]));
    (void)json_object_set_new(details, "scopes", scopes);
    return keyadmin_audit(reg, action, c->id, details, why);
}

static enum chv_err grant_first(struct keyadmin_registry *reg, struct keyadmin_wish *wish, struct keyadmin_grant *grant,
                                bool tombstone, struct chv_why *why)
{
    struct chv_registry_client *client = &grant->client;
    const struct chv_credential *c = &wish->credential;
    if (!tombstone) {
        memset(client, 0, sizeof *client);
        (void)snprintf(client->id, sizeof client->id, "%s", c->id);
        client->created = chv_time_now();
    }
    client->status = CHV_CLIENT_ACTIVE;
    client->profile = c->profile;
    client->flags = 0;
    client->not_after = c->not_after;
    client->reason[0] = '\0';
    memset(client->reason, 0, sizeof client->reason);
    grant_scopes(client, c);
    grant_identity(client, wish->has_identity ? &wish->identity : NULL);
    enum chv_err err = grant_number(client, wish, why);
    if (err == CHV_OK && tombstone && c->profile != CHV_PROFILE_KEY)
        client->minimum = client->latest; /* what it had before it was removed stays refused */
    return err == CHV_OK ? grant_put(reg, wish, grant, "add", why) : err;
}

/* The next credential of a client that has one. */
static enum chv_err grant_next(struct chv_registry_client *client, const struct keyadmin_wish *wish,
                               struct chv_why *why)
{
    const struct chv_credential *c = &wish->credential;
    const struct chv_registry_client before = *client;
    enum chv_err err = grant_number(client, wish, why);
    if (err != CHV_OK)
        return err;
    client->not_after = c->not_after;
    grant_wider(client, &before, c);
    client->flags &= ~(unsigned)CHV_CLIENT_NO_UPDATE;
    if (client->profile == CHV_PROFILE_KEY_PSK)
        grant_identity(client, wish->has_identity ? &wish->identity : NULL);
    return CHV_OK;
}

/* client add of a client that is there. */
static enum chv_err grant_again(struct keyadmin_registry *reg, struct keyadmin_wish *wish, struct keyadmin_grant *grant,
                                struct chv_why *why)
{
    struct chv_registry_client *client = &grant->client;
    const char *differs = grant_differs(client, wish);
    if (differs == NULL && grant_lost(client, wish)) {
        enum chv_err err = grant_next(client, wish, why);
        return err == CHV_OK ? grant_put(reg, wish, grant, "reissue", why) : err;
    }
    grant->again = true;
    if (differs == NULL && (client->flags & CHV_CLIENT_NARROWED) != 0)
        differs = "scopes that were narrowed";
    if (differs != NULL)
        return chv_fail(why, CHV_ERR_EXISTS,
                        "client '%s' is registered with %s: see 'client show', 'client set-scopes', 'client reissue'",
                        client->id, differs);
    if (client->not_after != 0 && client->not_after <= chv_time_now())
        return chv_fail(why, CHV_ERR_EXISTS, "client '%s' is registered and has expired: see 'client reissue'",
                        client->id);
    /* a key pair that was made in a keystore that is out is in no other one */
    if (!grant->pending && client->profile == CHV_PROFILE_KEY_PSK && !wish->has_identity)
        return chv_fail(why, CHV_ERR_EXISTS, "client '%s' is registered with an identity key: see 'client reissue'",
                        client->id);
    grant_take(wish, grant);
    return CHV_OK;
}

static enum chv_err grant_reissue(struct keyadmin_registry *reg, struct keyadmin_wish *wish,
                                  struct keyadmin_grant *grant, struct chv_why *why)
{
    struct chv_registry_client *client = &grant->client;
    struct chv_credential *c = &wish->credential;
    c->profile = client->profile;
    if (!wish->scopes_given) {
        c->scope_count = client->scope_count;
        memcpy(c->scopes, client->scopes, sizeof c->scopes);
    }
    /* cut off before it was written out: the same one, unless another is wanted now */
    grant->again = grant->pending && !grant_lost(client, wish) && grant_differs(client, wish) == NULL;
    if (!grant->again) {
        enum chv_err err = grant_next(client, wish, why);
        if (err != CHV_OK)
            return err;
    }
    if (wish->leaked && chv_issue_compare(client->minimum, client->latest) < 0) {
        client->minimum = client->latest;
        client->flags |= CHV_CLIENT_NO_UPDATE;
        grant_only(client);
    } else if (grant->again) {
        grant_take(wish, grant);
        return CHV_OK;
    }
    return grant_put(reg, wish, grant, "reissue", why);
}

enum chv_err keyadmin_grant(struct keyadmin_registry *reg, struct keyadmin_wish *wish, struct keyadmin_grant *grant,
                            struct chv_why *why)
{
    const char *id = wish->credential.id;
    struct chv_registry_client *client = &grant->client;
    memset(grant, 0, sizeof *grant);
    enum chv_err err = chv_registry_get(reg->r, id, client, why);
    if (err != CHV_OK && err != CHV_ERR_NOT_FOUND)
        return err;
    bool there = err == CHV_OK && client->status != CHV_CLIENT_REMOVED;
    if (!there && wish->reissue)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "there is no client '%s' in %s: 'client add' makes one", id,
                        chv_registry_name(reg->r));
    if (!there)
        return grant_first(reg, wish, grant, err == CHV_OK, why);
    if (client->status != CHV_CLIENT_ACTIVE)
        return chv_fail(why, CHV_ERR_EXISTS, "client '%s' is %s: %s", id, chv_client_status_name(client->status),
                        client->status == CHV_CLIENT_SUSPENDED ? "'client resume' lets it in again"
                                                               : "'client remove' it before it is added anew");
    grant->pending =
        (client->flags & CHV_CLIENT_PENDING) != 0 && chv_issue_compare(client->latest, client->confirmed) > 0;
    return wish->reissue ? grant_reissue(reg, wish, grant, why) : grant_again(reg, wish, grant, why);
}

/* Takes the mark off a client whose newest credential that is; *changed: it had one. */
static enum chv_err grant_written(struct keyadmin_registry *reg, const char *id, struct chv_issue issue,
                                  const struct chv_identity *identity, bool *changed, struct chv_why *why)
{
    struct chv_registry_client client;
    enum chv_err err = chv_registry_get(reg->r, id, &client, why);
    *changed =
        err == CHV_OK && (client.flags & CHV_CLIENT_PENDING) != 0 && chv_issue_compare(client.latest, issue) == 0;
    if (!*changed)
        return err;
    client.flags &= ~(unsigned)CHV_CLIENT_PENDING;
    if (identity != NULL)
        grant_identity(&client, identity);
    return chv_registry_put(reg->r, &client, why);
}

enum chv_err keyadmin_granted(struct keyadmin_registry *reg, const struct chv_credential *c,
                              const struct chv_identity *identity, struct chv_why *why)
{
    bool changed = false;
    enum chv_err err = chv_registry_begin(reg->r, why);
    if (err == CHV_OK)
        err = grant_written(reg, c->id, (struct chv_issue){c->epoch, c->serial}, identity, &changed, why);
    if (err == CHV_OK && changed)
        err =
            keyadmin_audit(reg, "issue", c->id,
                           json_pack("{s:I,s:I}", "epoch", (json_int_t)c->epoch, "serial", (json_int_t)c->serial), why);
    if (err == CHV_OK && changed)
        return chv_registry_commit(reg->r, why);
    chv_registry_rollback(reg->r);
    return err;
}

enum chv_err keyadmin_granted_many(struct keyadmin_registry *reg, const char *bundle, size_t n,
                                   const char *(*id_of)(void *arg, size_t i, struct chv_issue *issue), void *arg,
                                   struct chv_why *why)
{
    json_int_t count = 0;
    enum chv_err err = chv_registry_begin(reg->r, why);
    for (size_t i = 0; err == CHV_OK && i < n; i++) {
        struct chv_issue issue;
        bool changed = false;
        const char *id = id_of(arg, i, &issue);
        err = grant_written(reg, id, issue, NULL, &changed, why);
        count += changed ? 1 : 0;
    }
    if (err == CHV_OK && count > 0) {
        json_t *details = json_pack("{s:I}", "clients", count);
        if (strlen(bundle) < CHV_AUDIT_DETAILS_MAX / 8) /* a name that is no UTF-8 is left out */
            (void)json_object_set_new(details, "bundle", json_string(bundle));
        err = keyadmin_audit(reg, "issue", "", details, why);
    }
    if (err == CHV_OK && count > 0)
        return chv_registry_commit(reg->r, why);
    chv_registry_rollback(reg->r);
    return err;
}

bool keyadmin_expiry_relative(const char *text)
{
    const size_t len = strlen(text);
    return len > 0 && strchr("hdw", text[len - 1]) != NULL;
}

enum chv_err keyadmin_wish(const struct chv_cli_args *args, const struct keyadmin_server *server,
                           struct keyadmin_wish *wish, struct chv_why *why)
{
    struct chv_provision p = {0};
    const char *expires = chv_cli_value(args, "expires");
    enum chv_err err = keyadmin_credential(args, server, &p, why);
    wish->credential = p.credential;
    wish->epoch_given = chv_cli_given(args, "epoch");
    wish->serial_given = chv_cli_given(args, "serial");
    wish->scopes_given = args->repeat_count > 0;
    wish->expires_relative = expires == NULL || keyadmin_expiry_relative(expires);
    return err;
}
