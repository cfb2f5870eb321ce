/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: one file, in WAL mode, so that readers never wait; every commit is on the disk when it returns. */
#include "registry/sql.h"
#include "registry/sql_schema.h"

#include <sqlite3.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_OF(number) TEXT_OF_(number)
#define TEXT_OF_(number) #number

/* "CHVR", at offset 68 of the file: a database of another program is refused. */
#define APPLICATION_ID 1128814162
enum { BUSY_MS_DEFAULT = 5000, WAL_LIMIT = 64 << 20 };

struct sqlite_registry {
    struct chv_sql sql;
    char *path; /* without symbolic links */
    unsigned busy_ms;
    sqlite3 *db;
    sqlite3_stmt *statements[CHV_SQL_COUNT];
    struct stat file; /* as opened: whoever exchanges it is noticed */
    int64_t data_version;
    bool polled;
};

static struct sqlite_registry *sqlite_of(struct chv_sql *db)
{
    return (struct sqlite_registry *)(void *)db;
}

static enum chv_err disk_full(const struct sqlite_registry *s, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_IO, "%s: the disk is full: nothing was changed", s->path);
}

/* The one place where SQLite's codes become ours (https://www.sqlite.org/rescode.html). */
static enum chv_err failed(const struct sqlite_registry *s, int rc, struct chv_why *why)
{
    int number = s->db == NULL ? 0 : sqlite3_system_errno(s->db);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return chv_fail(why, CHV_ERR_BUSY, "%s: another program is changing it (waited %u ms): try again", s->path,
                        s->busy_ms);
    case SQLITE_READONLY:
        return chv_fail(why, CHV_ERR_IO, "%s: is read-only: nothing was changed", s->path);
    case SQLITE_FULL:
        return disk_full(s, why);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return chv_fail(why, CHV_ERR_DAMAGED,
                        "%s: %s: nothing was written; move it away (with -wal and -shm) and restore a backup", s->path,
                        (rc & 0xff) == SQLITE_NOTADB ? "is not a database" : "the database is damaged");
    case SQLITE_NOMEM:
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_IOERR:
        if (number == ENOSPC || number == EDQUOT) /* no room for the -shm file has no code of its own */
            return disk_full(s, why);
        return chv_fail(why, CHV_ERR_IO, "%s: %s: %s", s->path, sqlite3_errstr(rc),
                        number != 0 ? strerror(number) : "see the system's log");
    default:
        return chv_fail(why, CHV_ERR_IO, "%s: %s", s->path, s->db == NULL ? sqlite3_errstr(rc) : sqlite3_errmsg(s->db));
    }
}

static enum chv_err sqlite_script(struct chv_sql *db, const char *sql, struct chv_why *why)
{
    struct sqlite_registry *s = sqlite_of(db);
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? CHV_OK : failed(s, rc, why);
}

static enum chv_err prepare(struct sqlite_registry *s, enum chv_sql_statement statement, struct chv_why *why)
{
    if (s->statements[statement] != NULL)
        return CHV_OK;
    char *text = strdup(chv_sql_text(s->sql.driver, statement));
    if (text == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '$') /* numbered parameters are ?1 here */
            *c = '?';
    int rc = sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, &s->statements[statement], NULL);
    free(text);
    return rc == SQLITE_OK ? CHV_OK : failed(s, rc, why);
}

static int bind(sqlite3_stmt *stmt, const struct chv_sql_value *values, size_t n)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < (int)n && rc == SQLITE_OK; i++) {
        const struct chv_sql_value *v = &values[i];
        rc = v->null           ? sqlite3_bind_null(stmt, i + 1)
             : v->text != NULL ? sqlite3_bind_text(stmt, i + 1, v->text, -1, SQLITE_STATIC)
                               : sqlite3_bind_int64(stmt, i + 1, v->number);
    }
    return rc;
}

static int columns(sqlite3_stmt *stmt, struct chv_sql_cell *cells)
{
    int n = sqlite3_column_count(stmt);
    for (int i = 0; i < n; i++) {
        cells[i].text = (const char *)sqlite3_column_text(stmt, i);
        cells[i].len = (size_t)sqlite3_column_bytes(stmt, i);
        if (cells[i].text == NULL && sqlite3_column_type(stmt, i) != SQLITE_NULL)
            return SQLITE_NOMEM;
    }
    return SQLITE_OK;
}

static enum chv_err sqlite_run(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                               size_t n, chv_sql_row_fn each, void *arg, struct chv_why *why)
{
    struct sqlite_registry *s = sqlite_of(db);
    struct chv_sql_cell cells[CHV_SQL_COLUMNS_MAX];
    enum chv_err err = prepare(s, statement, why);
    if (err != CHV_OK)
        return err;
    sqlite3_stmt *stmt = s->statements[statement];
    int rc = bind(stmt, values, n);
    while (rc == SQLITE_OK && err == CHV_OK) {
        rc = sqlite3_step(stmt);
        if (rc != SQLITE_ROW)
            break;
        rc = columns(stmt, cells);
        if (rc == SQLITE_OK && each != NULL)
            err = each(arg, cells);
    }
    if (rc != SQLITE_DONE && rc != SQLITE_OK)
        err = failed(s, rc, why);
    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    return err;
}

static enum chv_err sqlite_change(struct chv_sql *db, enum chv_sql_statement statement,
                                  const struct chv_sql_value *values, size_t n, const char *subject,
                                  const char *refusal, const char *taken, struct chv_why *why)
{
    struct sqlite_registry *s = sqlite_of(db);
    enum chv_err err = sqlite_run(db, statement, values, n, NULL, NULL, why);
    int rc = sqlite3_extended_errcode(s->db);
    if (err != CHV_OK && (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY))
        return chv_fail(why, CHV_ERR_EXISTS, "%s: %s: %s", s->path, subject, taken);
    if (err == CHV_OK && sqlite3_changes(s->db) != 1)
        return chv_fail(why, CHV_ERR_STATE, "%s: %s: %s", s->path, subject, refusal);
    return err;
}

/* A file that was moved away or replaced (a restored backup) is not the one that is written to here. */
static enum chv_err check_same_file(const struct sqlite_registry *s, struct chv_why *why)
{
    struct stat now;
    if (stat(s->path, &now) == 0 && now.st_dev == s->file.st_dev && now.st_ino == s->file.st_ino)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_STATE, "%s: was removed or exchanged while it was open: it has to be opened anew",
                    s->path);
}

static enum chv_err sqlite_begin(struct chv_sql *db, bool schema, struct chv_why *why)
{
    (void)schema;
    enum chv_err err = check_same_file(sqlite_of(db), why);
    return err == CHV_OK ? sqlite_script(db, "BEGIN IMMEDIATE", why) : err;
}

static enum chv_err sqlite_commit(struct chv_sql *db, bool changed, struct chv_why *why)
{
    (void)changed; /* data_version tells the others */
    return sqlite_script(db, "COMMIT", why);
}

static void sqlite_rollback(struct chv_sql *db)
{
    struct sqlite_registry *s = sqlite_of(db);
    if (!sqlite3_get_autocommit(s->db)) /* some errors have rolled back already */
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static const char *const migrations[CHV_REGISTRY_SCHEMA] = {
    CHV_SQL_SCHEMA_1("INTEGER", "TEXT", " STRICT, WITHOUT ROWID"),
};

static const struct chv_sql_driver driver = {
    .has_schema = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
    .migrations = migrations,
    .create = CHV_SQL_CREATE("INTEGER", " STRICT, WITHOUT ROWID") "PRAGMA application_id = " TEXT_OF(APPLICATION_ID),
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .script = sqlite_script,
    .run = sqlite_run,
    .change = sqlite_change,
};

static void sqlite_close_registry(struct chv_registry *r)
{
    struct sqlite_registry *s = (struct sqlite_registry *)(void *)r;
    for (size_t i = 0; i < CHV_SQL_COUNT; i++)
        (void)sqlite3_finalize(s->statements[i]);
    (void)sqlite3_close(s->db);
    free(s->path);
    free(s);
}

static enum chv_err check_folder(const char *folder, struct chv_why *why)
{
    struct stat st;
    if (stat(folder, &st) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", folder, strerror(errno));
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: others can exchange the registry in this folder: chmod go-w it",
                        folder);
    return CHV_OK;
}

/* The path without symbolic links: SQLite is then told to follow none. */
static enum chv_err resolve(const char *path, bool *exists, char **resolved, struct chv_why *why)
{
    *exists = true;
    *resolved = realpath(path, NULL);
    if (*resolved != NULL)
        return CHV_OK;
    if (errno != ENOENT)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", path, strerror(errno));
    *exists = false;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char *folder = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    char *real = folder == NULL ? NULL : realpath(folder, NULL);
    enum chv_err err = CHV_OK;
    if (folder == NULL)
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    else if (real == NULL)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "%s: its folder: %s", path, strerror(errno));
    else if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: names no file", path);
    else if (asprintf(resolved, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name) < 0)
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    if (err != CHV_OK)
        *resolved = NULL;
    free(folder);
    free(real);
    return err;
}

static enum chv_err make_file(const char *path, struct chv_why *why)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return CHV_OK; /* another program was faster */
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: cannot be made: %s", path, strerror(errno));
    close(fd);
    return CHV_OK;
}

static enum chv_err check_file(struct sqlite_registry *s, struct chv_why *why)
{
    char *slash = strrchr(s->path, '/');
    char kept = slash[1];
    slash[1] = '\0';
    enum chv_err err = check_folder(s->path, why);
    slash[1] = kept;
    if (err != CHV_OK)
        return err;
    if (stat(s->path, &s->file) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", s->path, strerror(errno));
    if (!S_ISREG(s->file.st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is not a file", s->path);
    if ((s->file.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: others can write to it: chmod go-w it", s->path);
    if (geteuid() != 0 && s->file.st_uid != geteuid() && s->file.st_uid != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: belongs to user %lu, not to you (user %lu)", s->path,
                        (unsigned long)s->file.st_uid, (unsigned long)geteuid());
    return CHV_OK;
}

static int defend(sqlite3 *db)
{
    static const struct {
        int option, value;
    } settings[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
        {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
        {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0},
        {SQLITE_DBCONFIG_DQS_DDL, 0},
    };
    int rc = SQLITE_OK;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && rc == SQLITE_OK; i++) {
        int got = -1;
        rc = sqlite3_db_config(db, settings[i].option, settings[i].value, &got);
        if (rc == SQLITE_OK && got != settings[i].value)
            rc = SQLITE_MISUSE;
    }
    return rc;
}

/* One number of a statement without parameters. */
static enum chv_err ask_number(struct sqlite_registry *s, const char *sql, int64_t *value, struct chv_why *why)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *value = sqlite3_column_int64(stmt, 0);
    enum chv_err err = rc == SQLITE_ROW ? CHV_OK : failed(s, rc, why);
    (void)sqlite3_finalize(stmt);
    return err;
}

/* Ours, or empty and to be made; anything else is left alone. */
static enum chv_err check_owner(struct sqlite_registry *s, enum chv_registry_mode mode, struct chv_why *why)
{
    int64_t id = 0, tables = 0;
    enum chv_err err = ask_number(s, "PRAGMA application_id", &id, why);
    if (err == CHV_OK)
        err = ask_number(s, "SELECT COUNT(*) FROM sqlite_schema", &tables, why);
    if (err != CHV_OK)
        return err;
    if (id == APPLICATION_ID)
        return CHV_OK;
    if (id != 0 || tables != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is a database of another program, not a registry", s->path);
    return mode == CHV_REGISTRY_CREATE
               ? CHV_OK
               : chv_fail(why, CHV_ERR_NOT_FOUND, "%s: is empty, no registry: " CHV_REGISTRY_MISSING_HELP, s->path);
}

static enum chv_err configure(struct sqlite_registry *s, enum chv_registry_mode mode, struct chv_why *why)
{
    int rc = defend(s->db);
    if (rc == SQLITE_OK)
        rc = sqlite3_extended_result_codes(s->db, 1);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(s->db, (int)s->busy_ms);
    if (rc != SQLITE_OK)
        return failed(s, rc, why);
    enum chv_err err = sqlite_script(&s->sql,
                                     "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
                                     "PRAGMA synchronous = FULL;",
                                     why);
    if (err == CHV_OK)
        err = check_owner(s, mode, why);
    if (err != CHV_OK || mode == CHV_REGISTRY_READ)
        return err;
    if (sqlite3_db_readonly(s->db, "main") != 0) /* it was opened so where the system allows no more */
        return failed(s, SQLITE_READONLY, why);
    return sqlite_script(&s->sql, "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = " TEXT_OF(67108864) ";", why);
}

static enum chv_err open_database(struct sqlite_registry *s, const char *path, enum chv_registry_mode mode,
                                  struct chv_why *why)
{
    bool exists;
    enum chv_err err = resolve(path, &exists, &s->path, why);
    if (err != CHV_OK)
        return err;
    s->sql.head.name = s->path;
    if (!exists && mode != CHV_REGISTRY_CREATE)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no registry: " CHV_REGISTRY_MISSING_HELP, s->path);
    if (!exists)
        err = make_file(s->path, why);
    if (err == CHV_OK)
        err = check_file(s, why);
    if (err != CHV_OK)
        return err;
    int flags = mode == CHV_REGISTRY_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int rc = sqlite3_open_v2(s->path, &s->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (rc != SQLITE_OK)
        return failed(s, rc, why);
    err = configure(s, mode, why);
    return err == CHV_OK ? chv_sql_setup(&s->sql, mode, why) : err;
}

static enum chv_err sqlite_open_registry(const char *uri, const struct chv_registry_options *options,
                                         struct chv_registry **r, struct chv_why *why)
{
    static const char scheme[] = "sqlite:";
    const char *path = strncmp(uri, scheme, strlen(scheme)) == 0 ? uri + strlen(scheme) : uri;
    if (path[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "registry '%s': no path stands behind the scheme: write sqlite:PATH", uri);
    struct sqlite_registry *s = calloc(1, sizeof *s);
    if (s == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    s->sql.head.ops = &chv_registry_sqlite_ops;
    s->sql.driver = &driver;
    s->busy_ms = options->busy_ms != 0 ? options->busy_ms : BUSY_MS_DEFAULT;
    enum chv_err err = open_database(s, path, options->mode, why);
    if (err != CHV_OK) {
        sqlite_close_registry((struct chv_registry *)(void *)s);
        return err;
    }
    *r = (struct chv_registry *)(void *)s;
    return CHV_OK;
}

static enum chv_err sqlite_poll(struct chv_registry *r, bool *changed, struct chv_why *why)
{
    struct sqlite_registry *s = (struct sqlite_registry *)(void *)r;
    int64_t version = 0;
    enum chv_err err = check_same_file(s, why);
    if (err == CHV_OK)
        err = ask_number(s, "PRAGMA data_version", &version, why);
    if (err != CHV_OK)
        return err;
    *changed = !s->polled || version != s->data_version;
    s->polled = true;
    s->data_version = version;
    return CHV_OK;
}

const struct chv_registry_ops chv_registry_sqlite_ops = {
    .abi = CHV_REGISTRY_ABI,
    .scheme = "sqlite",
    .description = "a file of its own, for one machine",
    .traits = CHV_REGISTRY_COMPLETE | CHV_REGISTRY_WRITABLE,
    .open = sqlite_open_registry,
    .close = sqlite_close_registry,
    .info = chv_sql_info,
    .get = chv_sql_get,
    .list = chv_sql_list,
    .poll = sqlite_poll,
    .begin = chv_sql_begin,
    .commit = chv_sql_commit,
    .rollback = chv_sql_rollback,
    .get_by_key = chv_sql_get_by_key,
    .put = chv_sql_put,
    .changed = chv_sql_changed,
    .touch = chv_sql_touch,
    .epoch_get = chv_sql_epoch_get,
    .epoch_put = chv_sql_epoch_put,
    .epoch_list = chv_sql_epoch_list,
    .epoch_usage = chv_sql_epoch_usage,
    .audit = chv_sql_audit,
    .audit_list = chv_sql_audit_list,
    .seal_get = chv_sql_seal_get,
    .seal_put = chv_sql_seal_put,
};
