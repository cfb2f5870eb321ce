/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of registry by scheme, and the wrappers that check what every kind may rely on. */
#include "registry/internal.h"

#include <string.h>

static const struct chv_registry_ops *const kinds[] = {
    &chv_registry_sqlite_ops,
    &chv_registry_postgresql_ops,
    &chv_registry_revoked_ops,
};

const char *chv_registry_schemes(void)
{
    return "sqlite, postgresql, revoked";
}

/* The kind whose scheme stands before the first colon; a bare path is SQLite's; NULL for another scheme. */
static const struct chv_registry_ops *find_kind(const char *uri)
{
    size_t len = strcspn(uri, ":/");
    if (uri[len] != ':')
        return &chv_registry_sqlite_ops;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strlen(kinds[i]->scheme) == len && strncmp(uri, kinds[i]->scheme, len) == 0)
            return kinds[i];
    return len == strlen("postgres") && strncmp(uri, "postgres", len) == 0 ? &chv_registry_postgresql_ops : NULL;
}

enum chv_err chv_registry_open(const char *uri, const struct chv_registry_options *options, struct chv_registry **r,
                               struct chv_why *why)
{
    const struct chv_registry_ops *ops = find_kind(uri);
    if (ops == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "registry '%.*s:': unknown scheme; known: %s",
                        (int)strcspn(chv_registry_show(uri).text, ":"), chv_registry_show(uri).text,
                        chv_registry_schemes());
    if (ops->abi != CHV_REGISTRY_ABI)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "registry kind %s is of another version", ops->scheme);
    bool writable = (ops->traits & CHV_REGISTRY_WRITABLE) != 0;
    if (writable && options->crypto == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "registry kind %s needs a crypto backend for its audit trail",
                        ops->scheme);
    if (!writable && options->mode == CHV_REGISTRY_CREATE)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "a registry of kind %s is not made here: write the file",
                        ops->scheme);
    struct chv_registry *made = NULL;
    enum chv_err err = ops->open(uri, options, &made, why);
    if (err != CHV_OK)
        return err;
    struct chv_registry_head *head = chv_registry_head(made);
    head->crypto = options->crypto;
    head->mode = options->mode;
    *r = made;
    return CHV_OK;
}

void chv_registry_close(struct chv_registry *r)
{
    if (r == NULL)
        return;
    chv_registry_rollback(r);
    chv_registry_head(r)->ops->close(r);
}

unsigned chv_registry_traits(const struct chv_registry *r)
{
    return ((const struct chv_registry_head *)(const void *)r)->ops->traits;
}

const char *chv_registry_name(const struct chv_registry *r)
{
    return ((const struct chv_registry_head *)(const void *)r)->name;
}

static enum chv_err unsupported(const struct chv_registry_head *head, const char *what, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: a registry of kind %s has no %s", head->name, head->ops->scheme,
                    what);
}

static enum chv_err need_transaction(const struct chv_registry_head *head, struct chv_why *why)
{
    if (!head->in_transaction)
        return chv_fail(why, CHV_ERR_STATE, "%s: a change outside a transaction", head->name);
    if (head->failed)
        return chv_fail(why, CHV_ERR_STATE, "%s: a change of this transaction failed: it has to be rolled back",
                        head->name);
    return CHV_OK;
}

enum chv_err chv_registry_info(struct chv_registry *r, struct chv_registry_info *info, struct chv_why *why)
{
    return chv_registry_head(r)->ops->info(r, info, why);
}

enum chv_err chv_registry_poll(struct chv_registry *r, bool *changed, struct chv_why *why)
{
    return chv_registry_head(r)->ops->poll(r, changed, why);
}

int chv_registry_fd(struct chv_registry *r)
{
    const struct chv_registry_ops *ops = chv_registry_head(r)->ops;
    return ops->fd == NULL ? -1 : ops->fd(r);
}

enum chv_err chv_registry_begin(struct chv_registry *r, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->begin == NULL)
        return unsupported(head, "changes: edit the file", why);
    if (head->mode == CHV_REGISTRY_READ)
        return chv_fail(why, CHV_ERR_STATE, "%s: was opened for reading only", head->name);
    if (head->in_transaction)
        return chv_fail(why, CHV_ERR_STATE, "%s: a transaction is open already", head->name);
    enum chv_err err = head->ops->begin(r, why);
    if (err != CHV_OK)
        return err;
    head->in_transaction = true;
    head->put = head->audited = head->failed = false;
    return CHV_OK;
}

enum chv_err chv_registry_commit(struct chv_registry *r, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    enum chv_err err = need_transaction(head, why);
    if (err != CHV_OK) {
        chv_registry_rollback(r);
        return err;
    }
    if (head->put && !head->audited)
        err = chv_fail(why, CHV_ERR_STATE, "%s: a change without an audit row", head->name);
    else
        err = head->ops->commit(r, head->put, why);
    if (err != CHV_OK)
        head->ops->rollback(r);
    head->in_transaction = false;
    return err;
}

void chv_registry_rollback(struct chv_registry *r)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->in_transaction)
        head->ops->rollback(r);
    head->in_transaction = false;
}

enum chv_err chv_registry_get(struct chv_registry *r, const char *id, struct chv_registry_client *client,
                              struct chv_why *why)
{
    if (!chv_client_id_valid(id))
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%s': not a client id", chv_registry_show(id).text);
    struct chv_registry_client got;
    enum chv_err err = chv_registry_head(r)->ops->get(r, id, &got, why);
    if (err == CHV_OK)
        *client = got;
    return err;
}

enum chv_err chv_registry_get_by_key(struct chv_registry *r, enum chv_curve curve, const uint8_t *public_key,
                                     struct chv_registry_client *client, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->get_by_key == NULL)
        return unsupported(head, "identity keys", why);
    if (curve != CHV_CURVE_25519 && curve != CHV_CURVE_P256)
        return chv_fail(why, CHV_ERR_ARGUMENT, "unknown curve");
    struct chv_registry_client got;
    enum chv_err err = head->ops->get_by_key(r, curve, public_key, &got, why);
    if (err == CHV_OK)
        *client = got;
    return err;
}

enum chv_err chv_registry_put(struct chv_registry *r, const struct chv_registry_client *client, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    enum chv_err err = need_transaction(head, why);
    if (err == CHV_OK)
        err = chv_registry_client_check(client, why);
    if (err != CHV_OK)
        return err;
    err = head->ops->put(r, client, true, why);
    head->put = true;
    head->failed = err != CHV_OK;
    return err;
}

enum chv_err chv_registry_list(struct chv_registry *r, const struct chv_registry_filter *filter,
                               chv_registry_client_fn each, void *arg, struct chv_why *why)
{
    struct chv_registry_filter f = *filter;
    if (f.after == NULL)
        f.after = "";
    if (f.statuses == 0)
        f.statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_ACTIVE) | CHV_CLIENT_STATUS_BIT(CHV_CLIENT_SUSPENDED) |
                     CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REVOKED);
    if (f.limit == 0)
        f.limit = SIZE_MAX;
    if (f.expires_before > INT64_MAX)
        f.expires_before = INT64_MAX;
    return chv_registry_head(r)->ops->list(r, &f, each, arg, why);
}

enum chv_err chv_registry_changed(struct chv_registry *r, uint64_t generation, chv_registry_changed_fn each, void *arg,
                                  struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->changed == NULL)
        return unsupported(head, "list of changes", why);
    if (generation > INT64_MAX)
        return CHV_OK;
    return head->ops->changed(r, generation, each, arg, why);
}

/* One client that came in with a newer credential; a malformed row is passed over. */
static enum chv_err confirm(struct chv_registry *r, const struct chv_registry_seen *seen, const char *actor,
                            struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    struct chv_registry_client c;
    enum chv_err err = head->ops->get(r, seen->id, &c, why);
    if (err != CHV_OK)
        return err == CHV_ERR_MALFORMED ? CHV_OK : err;
    struct chv_issue before = c.confirmed;
    bool step = chv_registry_client_confirm(&c, seen->issue);
    err = head->ops->put(r, &c, step, why);
    if (err != CHV_OK)
        return err;
    head->put = head->put || step;
    if (before.serial == 0)
        return CHV_OK;
    struct chv_audit_row row = {.time = seen->time, .action = "confirm"};
    memcpy(row.id, c.id, sizeof row.id);
    memcpy(row.actor, actor, strnlen(actor, CHV_AUDIT_ACTOR_MAX));
    err = chv_registry_audit(r, &row, why);
    return err;
}

enum chv_err chv_registry_seen(struct chv_registry *r, const struct chv_registry_seen *seen, size_t n,
                               const char *actor, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    for (size_t i = 0; i < n; i++)
        if (!chv_client_id_valid(seen[i].id) || seen[i].time > INT64_MAX ||
            (seen[i].issue.epoch == 0) != (seen[i].issue.serial == 0))
            return chv_fail(why, CHV_ERR_ARGUMENT, "'%s': not a client that was seen",
                            chv_registry_show(seen[i].id).text);
    enum chv_err err = chv_registry_begin(r, why);
    if (err != CHV_OK || n == 0) {
        chv_registry_rollback(r);
        return err;
    }
    for (size_t i = 0; i < n && err == CHV_OK; i++) {
        bool newer = false;
        err = head->ops->touch(r, &seen[i], &newer, why);
        if (err == CHV_OK && newer)
            err = confirm(r, &seen[i], actor, why);
    }
    head->audited = true; /* the first confirmation of a client is no change that anybody made */
    if (err == CHV_OK)
        return chv_registry_commit(r, why);
    chv_registry_rollback(r);
    return err;
}

enum chv_err chv_registry_epoch_get(struct chv_registry *r, uint32_t number, struct chv_registry_epoch *epoch,
                                    struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->epoch_get == NULL)
        return unsupported(head, "epochs", why);
    return head->ops->epoch_get(r, number, epoch, why);
}

enum chv_err chv_registry_epoch_put(struct chv_registry *r, const struct chv_registry_epoch *epoch, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    enum chv_err err = need_transaction(head, why);
    if (err != CHV_OK)
        return err;
    if (epoch->epoch < 1 || epoch->status < CHV_EPOCH_ACTIVE || epoch->status > CHV_EPOCH_COMPROMISED ||
        epoch->created > INT64_MAX || epoch->ended > INT64_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "epoch %u: not well-formed", (unsigned)epoch->epoch);
    err = head->ops->epoch_put(r, epoch, why);
    head->put = true;
    head->failed = err != CHV_OK;
    return err;
}

enum chv_err chv_registry_epoch_list(struct chv_registry *r, chv_registry_epoch_fn each, void *arg, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->epoch_list == NULL)
        return unsupported(head, "epochs", why);
    return head->ops->epoch_list(r, each, arg, why);
}

enum chv_err chv_registry_epoch_usage(struct chv_registry *r, chv_registry_usage_fn each, void *arg,
                                      struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->epoch_usage == NULL)
        return unsupported(head, "epochs", why);
    return head->ops->epoch_usage(r, each, arg, why);
}

/* Finds the row or line that the claim is about; CHV_ERR_NOT_FOUND if there is none. */
static enum chv_err find_claimed(struct chv_registry *r, const struct chv_registry_claim *claim, bool complete,
                                 struct chv_registry_client *client, struct chv_why *why)
{
    bool by_key = claim->id == NULL || claim->id[0] == '\0';
    if (by_key && (claim->profile != CHV_PROFILE_KEY || !claim->has_identity))
        return chv_fail(why, CHV_ERR_ARGUMENT, "a claim without an id");
    if (by_key && !complete)
        return CHV_ERR_NOT_FOUND;
    return by_key ? chv_registry_get_by_key(r, claim->identity_curve, claim->identity, client, why)
                  : chv_registry_get(r, claim->id, client, why);
}

/* Whether the key of the claim is registered for another client. */
static enum chv_err key_of_another(struct chv_registry *r, const struct chv_registry_claim *claim, const char *id,
                                   bool *another, struct chv_why *why)
{
    struct chv_registry_client owner;
    enum chv_err err = chv_registry_get_by_key(r, claim->identity_curve, claim->identity, &owner, why);
    if (err == CHV_OK || err == CHV_ERR_MALFORMED) {
        *another = err == CHV_ERR_MALFORMED || strcmp(owner.id, id) != 0;
        return CHV_OK;
    }
    return err == CHV_ERR_NOT_FOUND ? CHV_OK : err;
}

enum chv_err chv_registry_lookup(struct chv_registry *r, const struct chv_registry_claim *claim, uint64_t now,
                                 struct chv_registry_answer *answer, struct chv_why *why)
{
    bool complete = (chv_registry_traits(r) & CHV_REGISTRY_COMPLETE) != 0;
    struct chv_registry_answer a = {.verdict = CHV_VERDICT_OK};
    struct chv_registry_info info;
    struct chv_why detail = {.text = ""};
    enum chv_err err = chv_registry_info(r, &info, why);
    if (err != CHV_OK)
        return err;
    a.generation = info.generation;
    err = find_claimed(r, claim, complete, &a.client, &detail);
    if (err == CHV_ERR_NOT_FOUND) {
        a.verdict = complete ? CHV_VERDICT_UNKNOWN : CHV_VERDICT_OK;
    } else if (err == CHV_ERR_MALFORMED) {
        a.verdict = CHV_VERDICT_MALFORMED;
        a.known = true;
        a.client = (struct chv_registry_client){.status = CHV_CLIENT_MALFORMED};
        if (claim->id != NULL)
            memcpy(a.client.id, claim->id, strnlen(claim->id, CHV_CLIENT_ID_MAX));
        memcpy(a.client.reason, detail.text, strnlen(detail.text, CHV_REGISTRY_REASON_MAX));
    } else if (err != CHV_OK) {
        return chv_fail(why, err, "%s", detail.text);
    } else {
        if (!complete)
            a.client.profile = claim->profile; /* a deny list has none */
        a.known = true;
        a.verdict = chv_registry_judge(&a.client, claim, now);
        a.has_scopes = complete || (a.client.flags & CHV_CLIENT_NARROWED) != 0;
        a.newer = complete && chv_issue_compare(claim->issue, a.client.confirmed) > 0;
    }
    bool another = false;
    if (complete && a.verdict == CHV_VERDICT_OK && claim->has_identity && !a.client.has_identity) {
        err = key_of_another(r, claim, a.client.id, &another, why);
        if (err != CHV_OK)
            return err;
    }
    if (another)
        a.verdict = CHV_VERDICT_IDENTITY;
    *answer = a;
    return CHV_OK;
}
