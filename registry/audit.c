/* SPDX-License-Identifier: Apache-2.0 */
/* The audit trail: a chain of hashes over rows that are only added, and the seal at its head. */
#include "registry/internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"

enum { HEAD_MAX = 8 + 8 + 3 + CHV_AUDIT_ACTOR_MAX + CHV_AUDIT_ACTION_MAX + CHV_CLIENT_ID_MAX + 2 };

static bool actor_valid(const char *text)
{
    size_t len = strnlen(text, CHV_AUDIT_ACTOR_MAX + 1);
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return len >= 1 && len <= CHV_AUDIT_ACTOR_MAX;
}

static bool action_valid(const char *text)
{
    size_t len = strnlen(text, CHV_AUDIT_ACTION_MAX + 1);
    return len >= 1 && len <= CHV_AUDIT_ACTION_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static bool details_valid(const char *text)
{
    if (!chv_registry_text_valid(text, CHV_AUDIT_DETAILS_MAX))
        return false;
    size_t len = strlen(text);
    return len == 0 || (len >= 2 && text[0] == '{' && text[len - 1] == '}');
}

enum chv_err chv_audit_row_check(const struct chv_audit_row *row, struct chv_why *why)
{
    const char *field = row->time > INT64_MAX                                 ? "time"
                        : !actor_valid(row->actor)                            ? "actor"
                        : !action_valid(row->action)                          ? "action"
                        : row->id[0] != '\0' && !chv_client_id_valid(row->id) ? "id"
                        : !details_valid(row->details)                        ? "details"
                                                                              : NULL;
    return field == NULL ? CHV_OK : chv_fail(why, CHV_ERR_ARGUMENT, "audit row: bad %s", field);
}

enum chv_err chv_audit_row_hash(const struct chv_crypto *crypto, const uint8_t previous[CHV_AUDIT_HASH_LEN],
                                struct chv_audit_row *row)
{
    uint8_t head[HEAD_MAX];
    const char *texts[] = {row->actor, row->action, row->id};
    struct chv_writer w;
    chv_writer_init(&w, head, sizeof head);
    chv_write_u64(&w, row->n);
    chv_write_u64(&w, row->time);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t len = strlen(texts[i]);
        chv_write_u8(&w, (uint8_t)len);
        chv_write_bytes(&w, texts[i], len);
    }
    size_t details_len = strlen(row->details);
    chv_write_u16(&w, (uint16_t)details_len);
    if (w.failed)
        return CHV_ERR_SPACE;
    const struct chv_part parts[] = {{previous, CHV_AUDIT_HASH_LEN}, {head, w.len}, {row->details, details_len}};
    return chv_crypto_hash(crypto, CHV_HASH_SHA256, parts, sizeof parts / sizeof parts[0], row->hash);
}

enum chv_err chv_registry_audit(struct chv_registry *r, struct chv_audit_row *row, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (!head->in_transaction)
        return chv_fail(why, CHV_ERR_STATE, "%s: an audit row outside a transaction", head->name);
    if (head->failed)
        return chv_fail(why, CHV_ERR_STATE, "%s: a change of this transaction failed: it has to be rolled back",
                        head->name);
    enum chv_err err = chv_audit_row_check(row, why);
    if (err != CHV_OK)
        return err;
    err = head->ops->audit(r, row, why);
    head->audited = true;
    head->failed = err != CHV_OK;
    return err;
}

enum chv_err chv_registry_audit_list(struct chv_registry *r, uint64_t from, chv_audit_fn each, void *arg,
                                     struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->audit_list == NULL)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: a registry of kind %s has no audit trail", head->name,
                        head->ops->scheme);
    return from > INT64_MAX ? CHV_OK : head->ops->audit_list(r, from, each, arg, why);
}

void chv_audit_seal_message(const struct chv_audit_seal *seal, uint8_t out[static CHV_AUDIT_SEAL_MESSAGE_LEN])
{
    struct chv_writer w;
    chv_writer_init(&w, out, CHV_AUDIT_SEAL_MESSAGE_LEN);
    chv_write_u64(&w, seal->n);
    chv_write_bytes(&w, seal->hash, sizeof seal->hash);
    chv_write_u32(&w, seal->epoch);
    chv_write_u64(&w, seal->time);
}

enum chv_err chv_registry_seal_get(struct chv_registry *r, struct chv_audit_seal *seal, struct chv_why *why)
{
    struct chv_registry_head *head = chv_registry_head(r);
    if (head->ops->seal_get == NULL)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: a registry of kind %s has no audit trail", head->name,
                        head->ops->scheme);
    return head->ops->seal_get(r, seal, why);
}

struct walk {
    struct chv_registry_head *head;
    const struct chv_audit_seal *seal;
    uint64_t until; /* the head's row when the walk began; what is added meanwhile is not walked */
    uint64_t n;
    uint8_t hash[CHV_AUDIT_HASH_LEN];
    struct chv_audit_report *report;
    struct chv_why *why;
};

static enum chv_err broken(struct walk *w, uint64_t n, const char *what)
{
    w->report->first_bad = n;
    return chv_fail(w->why, CHV_ERR_AUTH, "%s: audit row %" PRIu64 " %s", w->head->name, n, what);
}

static enum chv_err walk_row(void *arg, const struct chv_audit_row *row)
{
    struct walk *w = arg;
    if (w->n >= w->until)
        return CHV_ERR_CANCELLED;
    if (row->n != w->n + 1)
        return broken(w, w->n + 1, "is missing");
    struct chv_audit_row again = *row;
    enum chv_err err = chv_audit_row_hash(w->head->crypto, w->hash, &again);
    if (err != CHV_OK)
        return chv_fail(w->why, err, "%s: audit row %" PRIu64 " cannot be hashed", w->head->name, row->n);
    if (chv_audit_row_check(row, NULL) != CHV_OK || !chv_equal(again.hash, row->hash, sizeof again.hash))
        return broken(w, row->n, "was changed, or the one before it");
    if (row->n == w->seal->n && !chv_equal(row->hash, w->seal->hash, sizeof row->hash))
        return broken(w, row->n, "is not the one that was sealed");
    w->n = row->n;
    memcpy(w->hash, row->hash, sizeof w->hash);
    w->report->rows = w->n;
    return CHV_OK;
}

/* Everything but the MAC. */
static enum chv_err walk_trail(struct walk *w, struct chv_why *why)
{
    struct chv_registry_info info;
    enum chv_err err = chv_registry_info((struct chv_registry *)(void *)w->head, &info, why);
    if (err != CHV_OK)
        return err;
    w->until = info.audit_n;
    w->why = why;
    err = chv_registry_audit_list((struct chv_registry *)(void *)w->head, 1, walk_row, w, why);
    if (err != CHV_OK && err != CHV_ERR_CANCELLED)
        return err;
    if (w->seal->n > w->n)
        return broken(w, w->n + 1, "is missing: the trail was cut off below its seal");
    if (w->n < info.audit_n)
        return broken(w, w->n + 1, "is missing: the trail was cut off");
    if (!chv_equal(w->hash, info.audit_hash, sizeof w->hash))
        return broken(w, w->n, "is not the last one that was written");
    return CHV_OK;
}

static enum chv_err check_seal(struct walk *w, chv_registry_mac_fn mac, void *arg, struct chv_why *why)
{
    uint8_t message[CHV_AUDIT_SEAL_MESSAGE_LEN], code[CHV_AUDIT_MAC_LEN];
    chv_audit_seal_message(w->seal, message);
    enum chv_err err = mac(arg, w->seal->epoch, message, sizeof message, code, why);
    if (err == CHV_OK && !chv_equal(code, w->seal->mac, sizeof code))
        err = broken(w, w->seal->n, "has a seal that this master did not make");
    chv_wipe(code, sizeof code);
    return err;
}

enum chv_err chv_registry_verify(struct chv_registry *r, chv_registry_mac_fn mac, void *arg,
                                 struct chv_audit_report *report, struct chv_why *why)
{
    *report = (struct chv_audit_report){0};
    struct chv_audit_seal seal = {.n = 0};
    enum chv_err err = chv_registry_seal_get(r, &seal, why);
    if (err != CHV_OK)
        return err;
    struct walk w = {.head = chv_registry_head(r), .seal = &seal, .report = report};
    err = walk_trail(&w, why);
    if (err != CHV_OK)
        return err;
    if (seal.n > 0 && mac != NULL)
        err = check_seal(&w, mac, arg, why);
    if (err == CHV_OK)
        report->sealed = seal.n;
    return err;
}

enum chv_err chv_registry_seal(struct chv_registry *r, uint32_t epoch, uint64_t time, chv_registry_mac_fn mac,
                               void *arg, struct chv_audit_seal *seal, struct chv_why *why)
{
    struct chv_audit_report report;
    struct chv_audit_seal made = {.epoch = epoch, .time = time};
    struct chv_registry_info info;
    uint8_t message[CHV_AUDIT_SEAL_MESSAGE_LEN];
    if (epoch < 1 || time > INT64_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "a seal without an epoch");
    enum chv_err err = chv_registry_begin(r, why);
    if (err == CHV_OK)
        err = chv_registry_verify(r, mac, arg, &report, why);
    if (err == CHV_OK)
        err = chv_registry_info(r, &info, why);
    if (err == CHV_OK && info.audit_n == 0)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is nothing to seal yet", chv_registry_name(r));
    if (err != CHV_OK)
        goto out;
    made.n = info.audit_n;
    memcpy(made.hash, info.audit_hash, sizeof made.hash);
    chv_audit_seal_message(&made, message);
    err = mac(arg, epoch, message, sizeof message, made.mac, why);
    if (err == CHV_OK)
        err = chv_registry_head(r)->ops->seal_put(r, &made, why);
    if (err == CHV_OK)
        err = chv_registry_commit(r, why);
    if (err == CHV_OK && seal != NULL)
        *seal = made;
out:
    chv_registry_rollback(r);
    return err;
}

/* --- in steps ----------------------------------------------------------------------------------------------------- */

/* Beside a walk that begins at the row of the seal that stands. */
struct walk_on {
    struct walk walk;
    const struct chv_audit_seal *known;
    bool sealed_row_seen;
};

static enum chv_err walk_on_row(void *arg, const struct chv_audit_row *row)
{
    struct walk_on *on = arg;
    struct walk *w = &on->walk;
    enum chv_err err = CHV_OK;
    if (row->n == w->seal->n) {
        on->sealed_row_seen = true;
        if (!chv_equal(row->hash, w->seal->hash, sizeof row->hash))
            return broken(w, row->n, "is not the one that was sealed");
    } else {
        err = walk_row(w, row);
    }
    if (err == CHV_OK && row->n == on->known->n && !chv_equal(row->hash, on->known->hash, sizeof row->hash))
        err = broken(w, row->n, "is not the one that was there before");
    return err;
}

enum chv_err chv_registry_seal_begin(struct chv_registry *r, uint32_t epoch, uint64_t time,
                                     const struct chv_audit_seal *known, struct chv_audit_seal *stands,
                                     struct chv_audit_seal *next, struct chv_why *why)
{
    struct chv_audit_report report;
    struct chv_registry_info info;
    struct chv_audit_seal seal = {.n = 0};
    enum chv_err err = chv_registry_seal_get(r, &seal, why);
    if (err == CHV_OK)
        err = chv_registry_info(r, &info, why);
    if (err != CHV_OK)
        return err;
    struct walk_on on = {.walk = {.head = chv_registry_head(r),
                                  .seal = &seal,
                                  .until = info.audit_n,
                                  .n = seal.n,
                                  .report = &report,
                                  .why = why},
                         .known = known};
    struct walk *w = &on.walk;
    memcpy(w->hash, seal.hash, sizeof w->hash);
    err = chv_registry_audit_list(r, seal.n > 0 ? seal.n : 1, walk_on_row, &on, why);
    if (err != CHV_OK && err != CHV_ERR_CANCELLED)
        return err;
    if (seal.n > 0 && !on.sealed_row_seen)
        return broken(w, seal.n, "is missing");
    if (w->n < info.audit_n || w->n < known->n)
        return broken(w, w->n + 1, "is missing: the trail was cut off");
    if (!chv_equal(w->hash, info.audit_hash, sizeof w->hash))
        return broken(w, w->n, "is not the last one that was written");
    *stands = seal;
    *next = (struct chv_audit_seal){.n = w->n, .epoch = epoch, .time = time};
    memcpy(next->hash, w->hash, sizeof next->hash);
    return CHV_OK;
}

enum chv_err chv_registry_seal_put(struct chv_registry *r, const struct chv_audit_seal *stands,
                                   const struct chv_audit_seal *next, struct chv_why *why)
{
    struct chv_audit_seal now = {.n = 0};
    enum chv_err err = chv_registry_begin(r, why);
    if (err == CHV_OK)
        err = chv_registry_seal_get(r, &now, why);
    if (err == CHV_OK && (now.n != stands->n || !chv_equal(now.mac, stands->mac, sizeof now.mac)))
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: somebody else has sealed the audit trail", chv_registry_name(r));
    if (err == CHV_OK)
        err = chv_registry_head(r)->ops->seal_put(r, next, why);
    if (err == CHV_OK)
        err = chv_registry_commit(r, why);
    chv_registry_rollback(r);
    return err;
}
