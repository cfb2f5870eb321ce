/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry in SQL: everything that SQLite and PostgreSQL have in common.  A driver moves statements and rows; what they
 * mean, and whether a row can be believed, is decided here once.
 */
#ifndef CHV_REGISTRY_SQL_H
#define CHV_REGISTRY_SQL_H

#include "registry/internal.h"

/* Every statement but those of the schema.  Parameters are $1, $2, ...; drivers prepare each once. */
enum chv_sql_statement {
    CHV_SQL_HAS_SCHEMA, /* its text is the driver's */
    CHV_SQL_VERSION,
    CHV_SQL_MIGRATED,
    CHV_SQL_META_GET,
    CHV_SQL_META_PUT,
    CHV_SQL_CLIENT_GET,
    CHV_SQL_CLIENT_BY_KEY,
    CHV_SQL_CLIENT_LIST,
    CHV_SQL_CLIENT_PUT,
    CHV_SQL_CHANGED,
    CHV_SQL_TOUCH,
    CHV_SQL_EPOCH_GET,
    CHV_SQL_EPOCH_LIST,
    CHV_SQL_EPOCH_PUT,
    CHV_SQL_EPOCH_USAGE,
    CHV_SQL_AUDIT_PUT,
    CHV_SQL_AUDIT_LIST,
    CHV_SQL_SEAL_GET,
    CHV_SQL_SEAL_PUT,
    CHV_SQL_COUNT
};

enum { CHV_SQL_PARAMETERS_MAX = 18, CHV_SQL_COLUMNS_MAX = 18 };

/* A parameter: a number, or a text where `text` is set. */
struct chv_sql_value {
    int64_t number;
    const char *text;
    bool null;
};

/* A column: numbers as decimal text; text NULL is SQL's NULL.  `len` bytes and a NUL. */
struct chv_sql_cell {
    const char *text;
    size_t len;
};

typedef enum chv_err (*chv_sql_row_fn)(void *arg, const struct chv_sql_cell *cells);

struct chv_sql;

/* Each function fails with the codes of registry.h and names the registry in `why`. */
struct chv_sql_driver {
    const char *has_schema;        /* one number: whether the table `migrations` is there */
    const char *const *migrations; /* scripts from version i to i + 1 */
    const char *create;            /* what makes the empty table `migrations` */

    /* Waits its turn to write.  `schema`: among those who make or migrate the tables, which may not be there yet. */
    enum chv_err (*begin)(struct chv_sql *db, bool schema, struct chv_why *why);
    /* `changed`: others are to be told. */
    enum chv_err (*commit)(struct chv_sql *db, bool changed, struct chv_why *why);
    void (*rollback)(struct chv_sql *db);
    /* Several statements without parameters or rows. */
    enum chv_err (*script)(struct chv_sql *db, const char *sql, struct chv_why *why);
    /* Runs a statement; calls `each` (may be NULL) for each row and stops at its first error.  `each` uses no registry. */
    enum chv_err (*run)(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                        size_t n, chv_sql_row_fn each, void *arg, struct chv_why *why);
    /*
     * Inside a transaction: runs one that changes exactly one row, now or later.  No row changed: CHV_ERR_STATE with
     * `refusal`; a value that must be unique: CHV_ERR_EXISTS with `taken`; both behind `subject`, which is copied.
     */
    enum chv_err (*change)(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                           size_t n, const char *subject, const char *refusal, const char *taken, struct chv_why *why);
};

/* Begins every SQL registry. */
struct chv_sql {
    struct chv_registry_head head;
    const struct chv_sql_driver *driver;
    /* inside a transaction */
    struct chv_registry_info at; /* as begun, with the audit rows added since */
};

static inline struct chv_sql *chv_sql_of(struct chv_registry *r)
{
    return (struct chv_sql *)(void *)r;
}

/* The text of a statement as the driver is to prepare it. */
const char *chv_sql_text(const struct chv_sql_driver *driver, enum chv_sql_statement statement);

/* Makes or migrates the tables as `mode` allows; else checks that they are of this version. */
enum chv_err chv_sql_setup(struct chv_sql *db, enum chv_registry_mode mode, struct chv_why *why) CHV_MUST_CHECK;

/* Members of struct chv_registry_ops, the same for every driver. */
enum chv_err chv_sql_info(struct chv_registry *r, struct chv_registry_info *info, struct chv_why *why);
enum chv_err chv_sql_begin(struct chv_registry *r, struct chv_why *why);
enum chv_err chv_sql_commit(struct chv_registry *r, bool changed, struct chv_why *why);
void chv_sql_rollback(struct chv_registry *r);
enum chv_err chv_sql_get(struct chv_registry *r, const char *id, struct chv_registry_client *client,
                         struct chv_why *why);
enum chv_err chv_sql_get_by_key(struct chv_registry *r, enum chv_curve curve, const uint8_t *public_key,
                                struct chv_registry_client *client, struct chv_why *why);
enum chv_err chv_sql_list(struct chv_registry *r, const struct chv_registry_filter *filter, chv_registry_client_fn each,
                          void *arg, struct chv_why *why);
enum chv_err chv_sql_put(struct chv_registry *r, const struct chv_registry_client *client, bool step,
                         struct chv_why *why);
enum chv_err chv_sql_changed(struct chv_registry *r, uint64_t generation, chv_registry_changed_fn each, void *arg,
                             struct chv_why *why);
enum chv_err chv_sql_touch(struct chv_registry *r, const struct chv_registry_seen *seen, bool *newer,
                           struct chv_why *why);
enum chv_err chv_sql_epoch_get(struct chv_registry *r, uint32_t number, struct chv_registry_epoch *epoch,
                               struct chv_why *why);
enum chv_err chv_sql_epoch_put(struct chv_registry *r, const struct chv_registry_epoch *epoch, struct chv_why *why);
enum chv_err chv_sql_epoch_list(struct chv_registry *r, chv_registry_epoch_fn each, void *arg, struct chv_why *why);
enum chv_err chv_sql_epoch_usage(struct chv_registry *r, chv_registry_usage_fn each, void *arg, struct chv_why *why);
enum chv_err chv_sql_audit(struct chv_registry *r, struct chv_audit_row *row, struct chv_why *why);
enum chv_err chv_sql_audit_list(struct chv_registry *r, uint64_t from, chv_audit_fn each, void *arg,
                                struct chv_why *why);
enum chv_err chv_sql_seal_get(struct chv_registry *r, struct chv_audit_seal *seal, struct chv_why *why);
enum chv_err chv_sql_seal_put(struct chv_registry *r, const struct chv_audit_seal *seal, struct chv_why *why);

/* Columns of a client, in the order of CHV_SQL_CLIENT_*; the field that is wrong, or NULL. */
const char *chv_sql_client_decode(const struct chv_sql_cell *cells, struct chv_registry_client *client);
/* A number from 0 to `max` in its one decimal form. */
bool chv_sql_number(const struct chv_sql_cell *cell, uint64_t max, uint64_t *value);
/* A text without NUL, at most `size` - 1 bytes. */
bool chv_sql_copy(const struct chv_sql_cell *cell, char *out, size_t size);
/* Exactly `len` bytes in lower-case hex. */
bool chv_sql_hex(const struct chv_sql_cell *cell, uint8_t *out, size_t len);

#endif
