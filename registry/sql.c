/* SPDX-License-Identifier: Apache-2.0 */
/* A registry in SQL but for its clients: tables, transactions, epochs, audit trail. */
#include "registry/sql.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/encode.h"

enum { PAGE_ROWS = 256, VERSION_NONE = -1 };

static struct chv_sql_value number(uint64_t n)
{
    return (struct chv_sql_value){.number = (int64_t)n};
}

static struct chv_sql_value text(const char *t)
{
    return (struct chv_sql_value){.text = t};
}

bool chv_sql_number(const struct chv_sql_cell *cell, uint64_t max, uint64_t *value)
{
    if (cell->text == NULL || cell->len < 1 || cell->len > 19 || strspn(cell->text, "0123456789") != cell->len ||
        (cell->text[0] == '0' && cell->len > 1))
        return false;
    unsigned long long v = strtoull(cell->text, NULL, 10); /* 19 digits fit */
    if (v > max)
        return false;
    *value = v;
    return true;
}

bool chv_sql_copy(const struct chv_sql_cell *cell, char *out, size_t size)
{
    if (cell->text == NULL || cell->len >= size || strlen(cell->text) != cell->len)
        return false;
    memset(out, 0, size);
    memcpy(out, cell->text, cell->len);
    return true;
}

bool chv_sql_hex(const struct chv_sql_cell *cell, uint8_t *out, size_t len)
{
    size_t room = len;
    return cell->text != NULL && cell->len == 2 * len && strspn(cell->text, "0123456789abcdef") == cell->len &&
           chv_hex_decode(cell->text, cell->len, out, &room) == CHV_OK;
}

/* Callbacks of rows say CHV_ERR_MALFORMED, which no driver does. */
static enum chv_err damaged(const struct chv_sql *db, const char *what, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_DAMAGED, "%s: %s is malformed: restore a backup", db->head.name, what);
}

static enum chv_err take_number(void *arg, const struct chv_sql_cell *cells)
{
    uint64_t *value = arg;
    return chv_sql_number(&cells[0], INT64_MAX, value) ? CHV_OK : CHV_ERR_MALFORMED;
}

static enum chv_err read_version(struct chv_sql *db, int64_t *version, struct chv_why *why)
{
    uint64_t there = 0, value = 0;
    enum chv_err err = db->driver->run(db, CHV_SQL_HAS_SCHEMA, NULL, 0, take_number, &there, why);
    if (err == CHV_OK && there != 0)
        err = db->driver->run(db, CHV_SQL_VERSION, NULL, 0, take_number, &value, why);
    if (err == CHV_ERR_MALFORMED)
        return damaged(db, "table migrations", why);
    if (err == CHV_OK)
        *version = there != 0 ? (int64_t)value : VERSION_NONE;
    return err;
}

static enum chv_err migrate(struct chv_sql *db, struct chv_why *why)
{
    int64_t version = VERSION_NONE;
    enum chv_err err = db->driver->begin(db, true, why);
    if (err != CHV_OK)
        return err;
    /* read again: another program may have been faster */
    err = read_version(db, &version, why);
    if (err == CHV_OK && version == VERSION_NONE) {
        err = db->driver->script(db, db->driver->create, why);
        version = 0;
    }
    for (; err == CHV_OK && version < CHV_REGISTRY_SCHEMA; version++) {
        struct chv_sql_value values[] = {number((uint64_t)version + 1), number((uint64_t)time(NULL))};
        err = db->driver->script(db, db->driver->migrations[version], why);
        if (err == CHV_OK)
            err = db->driver->run(db, CHV_SQL_MIGRATED, values, 2, NULL, NULL, why);
    }
    if (err == CHV_OK)
        err = db->driver->commit(db, false, why);
    if (err != CHV_OK)
        db->driver->rollback(db);
    return err;
}

enum chv_err chv_sql_setup(struct chv_sql *db, enum chv_registry_mode mode, struct chv_why *why)
{
    int64_t version = VERSION_NONE;
    enum chv_err err = read_version(db, &version, why);
    if (err != CHV_OK || version == CHV_REGISTRY_SCHEMA)
        return err;
    if (version > CHV_REGISTRY_SCHEMA)
        return chv_fail(why, CHV_ERR_UNSUPPORTED,
                        "%s: its schema is version %" PRId64 ", this program knows up to %d: upgrade this program",
                        db->head.name, version, CHV_REGISTRY_SCHEMA);
    if (version == VERSION_NONE && mode != CHV_REGISTRY_CREATE)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no registry in it: " CHV_REGISTRY_MISSING_HELP,
                        db->head.name);
    if (mode == CHV_REGISTRY_READ)
        return chv_fail(why, CHV_ERR_UNSUPPORTED,
                        "%s: its schema is version %" PRId64 ", older than %d: open it for writing once", db->head.name,
                        version, CHV_REGISTRY_SCHEMA);
    return migrate(db, why);
}

static enum chv_err take_info(void *arg, const struct chv_sql_cell *cells)
{
    struct chv_registry_info *info = arg;
    if (!chv_sql_number(&cells[0], INT64_MAX - 1, &info->generation) ||
        !chv_sql_number(&cells[1], INT64_MAX - 1, &info->audit_n) ||
        !chv_sql_hex(&cells[2], info->audit_hash, sizeof info->audit_hash))
        return CHV_ERR_MALFORMED;
    info->schema = CHV_REGISTRY_SCHEMA;
    return CHV_OK;
}

static enum chv_err read_info(struct chv_sql *db, struct chv_registry_info *info, struct chv_why *why)
{
    struct chv_registry_info got = {0};
    enum chv_err err = db->driver->run(db, CHV_SQL_META_GET, NULL, 0, take_info, &got, why);
    if (err == CHV_ERR_MALFORMED || (err == CHV_OK && got.schema == 0))
        return damaged(db, "its row of table meta", why);
    if (err == CHV_OK)
        *info = got;
    return err;
}

enum chv_err chv_sql_info(struct chv_registry *r, struct chv_registry_info *info, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    if (!db->head.in_transaction)
        return read_info(db, info, why);
    *info = db->at;
    return CHV_OK;
}

enum chv_err chv_sql_begin(struct chv_registry *r, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    enum chv_err err = db->driver->begin(db, false, why);
    if (err != CHV_OK)
        return err;
    err = read_info(db, &db->at, why);
    if (err != CHV_OK)
        db->driver->rollback(db);
    return err;
}

enum chv_err chv_sql_commit(struct chv_registry *r, bool changed, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    char hash[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)];
    chv_hex_encode(db->at.audit_hash, sizeof db->at.audit_hash, hash);
    struct chv_sql_value values[] = {number(db->at.generation + changed), number(db->at.audit_n), text(hash)};
    enum chv_err err = db->driver->change(db, CHV_SQL_META_PUT, values, 3, "table meta", "its row is gone", "", why);
    return err == CHV_OK ? db->driver->commit(db, changed, why) : err;
}

void chv_sql_rollback(struct chv_registry *r)
{
    struct chv_sql *db = chv_sql_of(r);
    db->driver->rollback(db);
}

/* Epochs are few: a list holds them all, so that `each` may use the registry. */
struct epoch_rows {
    struct chv_registry_epoch *rows;
    size_t n;
};

static bool decode_epoch(const struct chv_sql_cell *cells, struct chv_registry_epoch *epoch)
{
    uint64_t n, status;
    *epoch = (struct chv_registry_epoch){.has_check = cells[4].text != NULL};
    if (!chv_sql_number(&cells[0], UINT32_MAX, &n) || n < 1 ||
        !chv_sql_number(&cells[1], CHV_EPOCH_COMPROMISED, &status) || status < 1 ||
        !chv_sql_number(&cells[2], INT64_MAX, &epoch->created) || !chv_sql_number(&cells[3], INT64_MAX, &epoch->ended))
        return false;
    epoch->epoch = (uint32_t)n;
    epoch->status = (enum chv_epoch_status)status;
    return !epoch->has_check || chv_sql_hex(&cells[4], epoch->check, sizeof epoch->check);
}

static enum chv_err take_epoch(void *arg, const struct chv_sql_cell *cells)
{
    struct epoch_rows *rows = arg;
    struct chv_registry_epoch *more = reallocarray(rows->rows, rows->n + 1, sizeof *more);
    if (more == NULL)
        return CHV_ERR_MEMORY;
    rows->rows = more;
    if (!decode_epoch(cells, &rows->rows[rows->n]))
        return CHV_ERR_MALFORMED;
    rows->n++;
    return CHV_OK;
}

static enum chv_err epoch_failed(struct chv_sql *db, enum chv_err err, struct chv_why *why)
{
    if (err == CHV_ERR_MALFORMED)
        return damaged(db, "a row of table epochs", why);
    return err == CHV_ERR_MEMORY ? chv_fail(why, err, "%s: out of memory", db->head.name) : err;
}

enum chv_err chv_sql_epoch_get(struct chv_registry *r, uint32_t n, struct chv_registry_epoch *epoch,
                               struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct epoch_rows rows = {.n = 0};
    struct chv_sql_value values[] = {number(n)};
    enum chv_err err = epoch_failed(db, db->driver->run(db, CHV_SQL_EPOCH_GET, values, 1, take_epoch, &rows, why), why);
    if (err == CHV_OK && rows.n == 0)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "%s: no epoch %" PRIu32, db->head.name, n);
    if (err == CHV_OK)
        *epoch = rows.rows[0];
    free(rows.rows);
    return err;
}

enum chv_err chv_sql_epoch_list(struct chv_registry *r, chv_registry_epoch_fn each, void *arg, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct epoch_rows rows = {.n = 0};
    enum chv_err err = epoch_failed(db, db->driver->run(db, CHV_SQL_EPOCH_LIST, NULL, 0, take_epoch, &rows, why), why);
    for (size_t i = 0; i < rows.n && err == CHV_OK; i++)
        err = each(arg, &rows.rows[i]);
    free(rows.rows);
    return err;
}

enum chv_err chv_sql_epoch_put(struct chv_registry *r, const struct chv_registry_epoch *epoch, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    char check[CHV_HEX_SIZE(CHV_EPOCH_CHECK_LEN)];
    chv_hex_encode(epoch->check, sizeof epoch->check, check);
    struct chv_sql_value values[] = {number(epoch->epoch), number((uint64_t)epoch->status), number(epoch->created),
                                     number(epoch->ended),
                                     epoch->has_check ? text(check) : (struct chv_sql_value){.null = true}};
    return db->driver->change(db, CHV_SQL_EPOCH_PUT, values, 5, "epoch", "it cannot be changed", "", why);
}

struct usage_rows {
    struct {
        uint64_t epoch, clients;
    } * rows;
    size_t n;
};

static enum chv_err take_usage(void *arg, const struct chv_sql_cell *cells)
{
    struct usage_rows *rows = arg;
    void *more = reallocarray(rows->rows, rows->n + 1, sizeof rows->rows[0]);
    if (more == NULL)
        return CHV_ERR_MEMORY;
    rows->rows = more;
    if (!chv_sql_number(&cells[0], UINT32_MAX, &rows->rows[rows->n].epoch) ||
        !chv_sql_number(&cells[1], INT64_MAX, &rows->rows[rows->n].clients))
        return CHV_ERR_MALFORMED;
    rows->n++;
    return CHV_OK;
}

enum chv_err chv_sql_epoch_usage(struct chv_registry *r, chv_registry_usage_fn each, void *arg, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct usage_rows rows = {.n = 0};
    enum chv_err err = db->driver->run(db, CHV_SQL_EPOCH_USAGE, NULL, 0, take_usage, &rows, why);
    if (err == CHV_ERR_MALFORMED)
        err = chv_fail(why, err, "%s: an epoch in table clients is malformed", db->head.name);
    for (size_t i = 0; i < rows.n && err == CHV_OK; i++)
        err = each(arg, (uint32_t)rows.rows[i].epoch, rows.rows[i].clients);
    free(rows.rows);
    return err;
}

enum chv_err chv_sql_audit(struct chv_registry *r, struct chv_audit_row *row, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    char hash[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)];
    row->n = db->at.audit_n + 1;
    enum chv_err err = chv_audit_row_hash(db->head.crypto, db->at.audit_hash, row);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s: an audit row cannot be hashed", db->head.name);
    chv_hex_encode(row->hash, sizeof row->hash, hash);
    struct chv_sql_value values[] = {number(row->n), number(row->time),  text(row->actor), text(row->action),
                                     text(row->id),  text(row->details), text(hash)};
    err = db->driver->change(db, CHV_SQL_AUDIT_PUT, values, 7, "the audit trail", "a row cannot be added",
                             "it has a row behind its head: run 'keyadmin audit verify'", why);
    if (err == CHV_OK) {
        db->at.audit_n = row->n;
        memcpy(db->at.audit_hash, row->hash, sizeof row->hash);
    }
    return err;
}

struct audit_page {
    struct chv_audit_row rows[PAGE_ROWS];
    size_t n;
};

/* As it stands: what does not fit its place becomes something that no rule allows. */
static enum chv_err take_audit(void *arg, const struct chv_sql_cell *cells)
{
    static const char impossible[] = "\x7f";
    struct audit_page *page = arg;
    struct chv_audit_row *row = &page->rows[page->n];
    memset(row, 0, sizeof *row);
    if (!chv_sql_number(&cells[0], INT64_MAX, &row->n))
        return CHV_ERR_MALFORMED;
    if (!chv_sql_number(&cells[1], INT64_MAX, &row->time))
        row->time = UINT64_MAX;
    if (!chv_sql_copy(&cells[2], row->actor, sizeof row->actor))
        memcpy(row->actor, impossible, sizeof impossible);
    if (!chv_sql_copy(&cells[3], row->action, sizeof row->action))
        memcpy(row->action, impossible, sizeof impossible);
    if (!chv_sql_copy(&cells[4], row->id, sizeof row->id))
        memcpy(row->id, impossible, sizeof impossible);
    if (!chv_sql_copy(&cells[5], row->details, sizeof row->details))
        memcpy(row->details, impossible, sizeof impossible);
    if (!chv_sql_hex(&cells[6], row->hash, sizeof row->hash))
        memset(row->hash, 0, sizeof row->hash);
    page->n++;
    return CHV_OK;
}

enum chv_err chv_sql_audit_list(struct chv_registry *r, uint64_t from, chv_audit_fn each, void *arg,
                                struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct audit_page *page = calloc(1, sizeof *page);
    if (page == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", db->head.name);
    enum chv_err err = CHV_OK;
    while (err == CHV_OK) {
        struct chv_sql_value values[] = {number(from > 1 ? from : 1), number(PAGE_ROWS)};
        page->n = 0;
        err = db->driver->run(db, CHV_SQL_AUDIT_LIST, values, 2, take_audit, page, why);
        if (err == CHV_ERR_MALFORMED)
            err = damaged(db, "a number in table audit", why);
        if (err != CHV_OK || page->n == 0)
            break;
        for (size_t i = 0; i < page->n && err == CHV_OK; i++)
            err = each(arg, &page->rows[i]);
        from = page->rows[page->n - 1].n + 1;
        if (from > INT64_MAX)
            break;
    }
    free(page);
    return err;
}

static enum chv_err take_seal(void *arg, const struct chv_sql_cell *cells)
{
    struct chv_audit_seal *seal = arg;
    uint64_t epoch;
    if (!chv_sql_number(&cells[0], INT64_MAX, &seal->n) || seal->n < 1 ||
        !chv_sql_hex(&cells[1], seal->hash, sizeof seal->hash) || !chv_sql_number(&cells[2], UINT32_MAX, &epoch) ||
        epoch < 1 || !chv_sql_number(&cells[3], INT64_MAX, &seal->time) ||
        !chv_sql_hex(&cells[4], seal->mac, sizeof seal->mac))
        return CHV_ERR_MALFORMED;
    seal->epoch = (uint32_t)epoch;
    return CHV_OK;
}

enum chv_err chv_sql_seal_get(struct chv_registry *r, struct chv_audit_seal *seal, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    struct chv_audit_seal got = {.n = 0};
    enum chv_err err = db->driver->run(db, CHV_SQL_SEAL_GET, NULL, 0, take_seal, &got, why);
    if (err == CHV_ERR_MALFORMED)
        return chv_fail(why, CHV_ERR_AUTH, "%s: the seal of the audit trail was changed", db->head.name);
    if (err == CHV_OK)
        *seal = got;
    return err;
}

enum chv_err chv_sql_seal_put(struct chv_registry *r, const struct chv_audit_seal *seal, struct chv_why *why)
{
    struct chv_sql *db = chv_sql_of(r);
    char hash[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)], mac[CHV_HEX_SIZE(CHV_AUDIT_MAC_LEN)];
    chv_hex_encode(seal->hash, sizeof seal->hash, hash);
    chv_hex_encode(seal->mac, sizeof seal->mac, mac);
    struct chv_sql_value values[] = {number(seal->n), text(hash), number(seal->epoch), number(seal->time), text(mac)};
    return db->driver->change(db, CHV_SQL_SEAL_PUT, values, 5, "the seal", "it cannot be changed", "", why);
}
