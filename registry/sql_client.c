/* SPDX-License-Identifier: Apache-2.0 */
/* Clients in SQL: rows out and in, each checked on its way. */
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "registry/sql.h"

/* The order of the columns. */
enum {
    COL_ID,
    COL_STATUS,
    COL_PROFILE,
    COL_FLAGS,
    COL_MINIMUM,
    COL_CONFIRMED = COL_MINIMUM + 2,
    COL_LATEST = COL_CONFIRMED + 2,
    COL_NOT_AFTER = COL_LATEST + 2,
    COL_SCOPES,
    COL_CURVE,
    COL_IDENTITY,
    COL_REASON,
    COL_CREATED,
    COL_LAST_SEEN,
    COL_CHANGED,
    COL_COUNT
};

_Static_assert(COL_COUNT - CHV_SQL_COLUMNS_MAX == 0, "columns of a client");
_Static_assert(COL_COUNT - CHV_SQL_PARAMETERS_MAX == 0, "parameters of a client");

enum { PAGE_CLIENTS = 256, PAGE_IDS = 1024 };

static struct chv_sql_value number(uint64_t n)
{
    return (struct chv_sql_value){.number = (int64_t)n};
}

static struct chv_sql_value text(const char *t)
{
    return (struct chv_sql_value){.text = t};
}

static bool decode_issue(const struct chv_sql_cell *cells, struct chv_issue *issue)
{
    uint64_t epoch, serial;
    if (!chv_sql_number(&cells[0], UINT32_MAX, &epoch) || !chv_sql_number(&cells[1], UINT32_MAX, &serial))
        return false;
    *issue = (struct chv_issue){(uint32_t)epoch, (uint32_t)serial};
    return true;
}

/* Curve 0 and no key, or a curve's number + 1 and its key. */
static bool decode_identity(const struct chv_sql_cell *cells, struct chv_registry_client *c)
{
    uint64_t curve;
    if (!chv_sql_number(&cells[COL_CURVE], CHV_CURVE_COUNT, &curve))
        return false;
    if (curve == 0)
        return cells[COL_IDENTITY].text == NULL;
    c->has_identity = true;
    c->identity_curve = (enum chv_curve)(curve - 1);
    return chv_sql_hex(&cells[COL_IDENTITY], c->identity, chv_dh_public_len(c->identity_curve));
}

const char *chv_sql_client_decode(const struct chv_sql_cell *cells, struct chv_registry_client *c)
{
    uint64_t status, profile, flags;
    char scopes[CHV_REGISTRY_SCOPES_TEXT];
    *c = (struct chv_registry_client){.status = CHV_CLIENT_MALFORMED};
    if (!chv_sql_copy(&cells[COL_ID], c->id, sizeof c->id) || !chv_client_id_valid(c->id))
        return "id";
    if (!chv_sql_number(&cells[COL_STATUS], CHV_CLIENT_REMOVED, &status))
        return "status";
    if (!chv_sql_number(&cells[COL_PROFILE], CHV_PROFILE_KEY_PSK, &profile))
        return "profile";
    if (!chv_sql_number(&cells[COL_FLAGS], UINT32_MAX, &flags))
        return "flags";
    if (!decode_issue(&cells[COL_MINIMUM], &c->minimum))
        return "minimum";
    if (!decode_issue(&cells[COL_CONFIRMED], &c->confirmed))
        return "confirmed";
    if (!decode_issue(&cells[COL_LATEST], &c->latest))
        return "latest";
    if (!chv_sql_number(&cells[COL_NOT_AFTER], INT64_MAX, &c->not_after))
        return "not_after";
    if (!chv_sql_copy(&cells[COL_SCOPES], scopes, sizeof scopes) || !chv_registry_scopes_parse(scopes, ' ', c))
        return "scopes";
    if (!decode_identity(cells, c))
        return "identity";
    if (!chv_sql_copy(&cells[COL_REASON], c->reason, sizeof c->reason))
        return "reason";
    if (!chv_sql_number(&cells[COL_CREATED], INT64_MAX, &c->created))
        return "created";
    if (!chv_sql_number(&cells[COL_LAST_SEEN], INT64_MAX, &c->last_seen))
        return "last_seen";
    if (!chv_sql_number(&cells[COL_CHANGED], INT64_MAX, &c->changed))
        return "changed";
    c->status = (enum chv_client_status)status;
    c->profile = (enum chv_profile)profile;
    c->flags = (unsigned)flags;
    return chv_registry_client_check(c, NULL) == CHV_OK ? NULL : "combination of values";
}

struct one {
    const char *wrong;
    bool found;
    struct chv_registry_client client;
};

static enum chv_err take_one(void *arg, const struct chv_sql_cell *cells)
{
    struct one *one = arg;
    one->found = true;
    one->wrong = chv_sql_client_decode(cells, &one->client);
    return CHV_OK;
}

static enum chv_err get_one(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                            size_t n, const char *what, struct chv_registry_client *client, struct chv_why *why)
{
    struct one one = {.found = false};
    enum chv_err err = db->driver->run(db, statement, values, n, take_one, &one, why);
    if (err != CHV_OK)
        return err;
    if (!one.found)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: no client %s", db->head.name, what);
    if (one.wrong != NULL)
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: the row of client %s is malformed (bad %s)", db->head.name,
                        one.client.id[0] != '\0' ? one.client.id : what, one.wrong);
    *client = one.client;
    return CHV_OK;
}

enum chv_err chv_sql_get(struct chv_registry *r, const char *id, struct chv_registry_client *client,
                         struct chv_why *why)
{
    struct chv_sql_value values[] = {text(id)};
    enum chv_err err = get_one(chv_sql_of(r), CHV_SQL_CLIENT_GET, values, 1, id, client, why);
    /* a database may compare as it likes: the answer must be about the one that was asked for */
    if (err == CHV_OK && strcmp(client->id, id) != 0)
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: asked for client %s, it gave %s", chv_registry_name(r), id,
                        client->id);
    return err;
}

enum chv_err chv_sql_get_by_key(struct chv_registry *r, enum chv_curve curve, const uint8_t *public_key,
                                struct chv_registry_client *client, struct chv_why *why)
{
    char hex[CHV_HEX_SIZE(CHV_DH_PUBLIC_MAX)];
    chv_hex_encode(public_key, chv_dh_public_len(curve), hex);
    struct chv_sql_value values[] = {text(hex), number((uint64_t)curve + 1)};
    enum chv_err err = get_one(chv_sql_of(r), CHV_SQL_CLIENT_BY_KEY, values, 2, "with this key", client, why);
    if (err == CHV_OK &&
        (client->identity_curve != curve || memcmp(client->identity, public_key, chv_dh_public_len(curve)) != 0))
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: client %s does not have the key that was asked for",
                        chv_registry_name(r), client->id);
    return err;
}

/* Some clients of a listing, and where the next ones begin: behind the last id as it stands in the database. */
struct page {
    struct chv_registry_client *clients;
    size_t n;
    char *last;
    uint64_t malformed;
    char first[160]; /* the first malformed one, for people */
};

static enum chv_err remember_last(char **last, const struct chv_sql_cell *cell)
{
    char *copy = cell->text == NULL ? NULL : strndup(cell->text, cell->len);
    if (copy == NULL)
        return CHV_ERR_MEMORY;
    free(*last);
    *last = copy;
    return CHV_OK;
}

static enum chv_err take_client(void *arg, const struct chv_sql_cell *cells)
{
    struct page *page = arg;
    struct chv_registry_client *c = &page->clients[page->n];
    const char *wrong = chv_sql_client_decode(cells, c);
    if (wrong != NULL) {
        struct chv_why line;
        const char *id = cells[COL_ID].text == NULL ? "" : cells[COL_ID].text;
        (void)chv_fail(&line, CHV_OK, "the row of client %s is malformed (bad %s)", chv_registry_show(id).text, wrong);
        if (page->malformed++ == 0)
            memcpy(page->first, line.text, strnlen(line.text, sizeof page->first - 1));
        char kept[CHV_CLIENT_ID_MAX + 1];
        memcpy(kept, c->id, sizeof kept);
        bool shown = chv_client_id_valid(kept);
        *c = (struct chv_registry_client){.status = CHV_CLIENT_MALFORMED};
        memcpy(c->id, kept, sizeof kept);
        (void)chv_fail(&line, CHV_OK, "bad %s", wrong);
        memcpy(c->reason, line.text, strnlen(line.text, CHV_REGISTRY_REASON_MAX));
        page->n += shown;
    } else {
        page->n++;
    }
    return remember_last(&page->last, &cells[COL_ID]);
}

static enum chv_err fetch_page(struct chv_sql *db, const struct chv_registry_filter *f, struct page *page, size_t limit,
                               uint64_t *rows, struct chv_why *why)
{
    struct chv_sql_value values[9] = {text(page->last)};
    for (unsigned s = CHV_CLIENT_ACTIVE; s <= CHV_CLIENT_REMOVED; s++)
        values[s] = number((f->statuses & CHV_CLIENT_STATUS_BIT(s)) != 0 ? s : CHV_CLIENT_ACTIVE - 2u);
    values[5] = number(f->expires_before);
    values[6] = number(f->epoch);
    values[7] = number(f->denying);
    values[8] = number(limit);
    uint64_t bad_before = page->malformed;
    page->n = 0;
    enum chv_err err = db->driver->run(db, CHV_SQL_CLIENT_LIST, values, 9, take_client, page, why);
    if (err == CHV_ERR_MEMORY)
        return chv_fail(why, err, "%s: out of memory", db->head.name);
    *rows = page->n + (page->malformed - bad_before); /* at least: enough to tell an empty page from others */
    return err;
}

enum chv_err chv_sql_list(struct chv_registry *r, const struct chv_registry_filter *filter, chv_registry_client_fn each,
                          void *arg, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct page page = {.clients = calloc(PAGE_CLIENTS, sizeof *page.clients), .last = strdup(filter->after)};
    size_t left = filter->limit;
    uint64_t rows = 1;
    enum chv_err err = CHV_OK;
    if (page.clients == NULL || page.last == NULL)
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", db->head.name);
    while (err == CHV_OK && left > 0) {
        err = fetch_page(db, filter, &page, left < PAGE_CLIENTS ? left : PAGE_CLIENTS, &rows, why);
        if (err != CHV_OK || rows == 0)
            break;
        for (size_t i = 0; i < page.n && err == CHV_OK; i++)
            err = each(arg, &page.clients[i]);
        left -= page.n < left ? page.n : left;
    }
    if (err == CHV_OK && page.malformed > 0)
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: %s%s", db->head.name, page.first,
                       page.malformed > 1 ? ", and others" : "");
    free(page.last);
    free(page.clients);
    return err;
}

enum chv_err chv_sql_put(struct chv_registry *r, const struct chv_registry_client *c, bool step, struct chv_why *why)
{
    static const char back[] = "its latest, confirmed or minimum credential or a serial would go back";
    static const char taken[] = "its identity key belongs to another client";
    struct chv_sql *db = chv_sql_of(r);
    char scopes[CHV_REGISTRY_SCOPES_TEXT], identity[CHV_HEX_SIZE(CHV_DH_PUBLIC_MAX)];
    chv_registry_scopes_format(c, ' ', scopes);
    if (c->has_identity)
        chv_hex_encode(c->identity, chv_dh_public_len(c->identity_curve), identity);
    struct chv_sql_value values[COL_COUNT] = {
        [COL_ID] = text(c->id),
        [COL_STATUS] = number((uint64_t)c->status),
        [COL_PROFILE] = number((uint64_t)c->profile),
        [COL_FLAGS] = number(c->flags),
        [COL_MINIMUM] = number(c->minimum.epoch),
        [COL_MINIMUM + 1] = number(c->minimum.serial),
        [COL_CONFIRMED] = number(c->confirmed.epoch),
        [COL_CONFIRMED + 1] = number(c->confirmed.serial),
        [COL_LATEST] = number(c->latest.epoch),
        [COL_LATEST + 1] = number(c->latest.serial),
        [COL_NOT_AFTER] = number(c->not_after),
        [COL_SCOPES] = text(scopes),
        [COL_CURVE] = number(c->has_identity ? (uint64_t)c->identity_curve + 1 : 0),
        [COL_IDENTITY] = c->has_identity ? text(identity) : (struct chv_sql_value){.null = true},
        [COL_REASON] = text(c->reason),
        [COL_CREATED] = number(c->created),
        [COL_LAST_SEEN] = number(c->last_seen),
        [COL_CHANGED] = number(step ? db->at.generation + 1 : c->changed),
    };
    return db->driver->change(db, CHV_SQL_CLIENT_PUT, values, COL_COUNT, c->id, back, taken, why);
}

struct change_page {
    struct {
        char id[CHV_CLIENT_ID_MAX + 1];
        uint64_t generation;
    } ids[PAGE_IDS];
    size_t n, rows;
    uint64_t generation;
    char *last;
};

static enum chv_err take_change(void *arg, const struct chv_sql_cell *cells)
{
    struct change_page *page = arg;
    page->rows++;
    if (!chv_sql_number(&cells[1], INT64_MAX, &page->generation))
        return CHV_ERR_MALFORMED;
    page->ids[page->n].generation = page->generation;
    /* nobody can have a session under an id that is none */
    if (chv_sql_copy(&cells[0], page->ids[page->n].id, sizeof page->ids[0].id) &&
        chv_client_id_valid(page->ids[page->n].id))
        page->n++;
    return remember_last(&page->last, &cells[0]);
}

enum chv_err chv_sql_changed(struct chv_registry *r, uint64_t generation, chv_registry_changed_fn each, void *arg,
                             struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    enum chv_err err = CHV_OK;
    struct change_page *page = calloc(1, sizeof *page);
    if (page != NULL)
        page->last = strdup("");
    if (page == NULL || page->last == NULL) {
        free(page);
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", db->head.name);
    }
    page->generation = generation + 1; /* all of the next one on */
    while (err == CHV_OK) {
        struct chv_sql_value values[] = {number(page->generation), text(page->last), number(PAGE_IDS)};
        page->n = page->rows = 0;
        err = db->driver->run(db, CHV_SQL_CHANGED, values, 3, take_change, page, why);
        if (err == CHV_ERR_MEMORY)
            err = chv_fail(why, err, "%s: out of memory", db->head.name);
        if (err == CHV_ERR_MALFORMED)
            err = chv_fail(why, CHV_ERR_DAMAGED, "%s: a generation in table clients is malformed", db->head.name);
        if (err != CHV_OK || page->rows == 0)
            break;
        for (size_t i = 0; i < page->n && err == CHV_OK; i++)
            err = each(arg, page->ids[i].id, page->ids[i].generation);
    }
    free(page->last);
    free(page);
    return err;
}

static enum chv_err take_newer(void *arg, const struct chv_sql_cell *cells)
{
    bool *newer = arg;
    uint64_t value;
    if (!chv_sql_number(&cells[0], 1, &value))
        return CHV_ERR_MALFORMED;
    *newer = value == 1;
    return CHV_OK;
}

enum chv_err chv_sql_touch(struct chv_registry *r, const struct chv_registry_seen *seen, bool *newer,
                           struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct chv_sql_value values[] = {text(seen->id), number(seen->time), number(seen->issue.epoch),
                                     number(seen->issue.serial)};
    *newer = false;
    enum chv_err err = db->driver->run(db, CHV_SQL_TOUCH, values, 4, take_newer, newer, why);
    return err == CHV_ERR_MALFORMED
               ? chv_fail(why, CHV_ERR_DAMAGED, "%s: client %s: no answer", db->head.name, seen->id)
               : err;
}
