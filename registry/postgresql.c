/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL: one registry for several servers.  Writers take turns at the row of table meta; LISTEN and NOTIFY tell of
 * changes.  Outside a transaction a lost connection is made anew once per call.
 */
#include "registry/sql.h"
#include "registry/sql_schema.h"

#include <libpq-fe.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNEL "chaveiro_registry"

enum {
    BUSY_MS_DEFAULT = 5000,
    CONNECT_SECONDS_DEFAULT = 3,
    OPTIONS_MAX = 64,  /* libpq 15 has 47 */
    PENDING_MAX = 256, /* changes sent and not answered yet: their answers fit into the socket's buffers */
    OID_INT8 = 20,     /* pg_type.dat */
    OID_TEXT = 25
};

/* A change on its way, and what to say if it is refused. */
struct pending {
    char subject[CHV_CLIENT_ID_MAX + 1];
    const char *refusal, *taken;
};

struct pg_registry {
    struct chv_sql sql;
    char *name;
    PQconninfoOption *options; /* of the URI */
    unsigned busy_ms, connect_seconds;
    enum chv_registry_mode mode;
    PGconn *connection; /* NULL: to be made */
    bool prepared[CHV_SQL_COUNT];
    bool in_transaction;
    bool lost;    /* the connection is of no use any more, whatever libpq says of it */
    bool changed; /* poll has to say so: first time, or connected anew */
    struct pending pending[PENDING_MAX];
    size_t pending_count;
};

static struct pg_registry *pg_of(struct chv_sql *db)
{
    return (struct pg_registry *)(void *)db;
}

static void disconnect(struct pg_registry *p)
{
    PQfinish(p->connection);
    p->connection = NULL;
    p->pending_count = 0;
    p->changed = true;
    p->lost = false;
    memset(p->prepared, 0, sizeof p->prepared);
}

static void say_nothing(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

/* The first line of libpq's message, without control characters. */
static struct chv_why first_line(const char *message)
{
    struct chv_why line;
    (void)chv_fail(&line, CHV_OK, "%.200s", message == NULL ? "" : message);
    line.text[strcspn(line.text, "\n")] = '\0';
    for (char *c = line.text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return line;
}

/* SQLSTATE classes and codes (PostgreSQL's appendix A) that have a meaning of their own here. */
static const struct {
    const char *state; /* two characters: the class */
    enum chv_err err;
    const char *text;
} states[] = {
    {"08", CHV_ERR_UNAVAILABLE, "the connection was lost"},
    {"57014", CHV_ERR_BUSY, "the server took too long"},
    {"40", CHV_ERR_BUSY, "another program is changing it: try again"},
    {"55P03", CHV_ERR_BUSY, "another program is changing it: try again"},
    {"25006", CHV_ERR_IO, "is read-only: nothing was changed"},
    {"53100", CHV_ERR_IO, "the server's disk is full: nothing was changed"},
    {"53", CHV_ERR_UNAVAILABLE, "the server has too little room or too many connections"},
    {"XX", CHV_ERR_DAMAGED, "the server found damage: restore a backup"},
    {"42501", CHV_ERR_CONFIG, "the user has too few rights"},
};

static enum chv_err failed_result(struct pg_registry *p, const PGresult *result, struct chv_why *why)
{
    const char *state = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    struct chv_why line = first_line(result == NULL ? PQerrorMessage(p->connection) : PQresultErrorMessage(result));
    /* what the server did not say itself libpq did, when the server was gone */
    if (state == NULL || PQstatus(p->connection) != CONNECTION_OK || strncmp(state, "57P", 3) == 0) {
        p->lost = true;
        return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: the connection was lost: %s", p->name, line.text);
    }
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
            return chv_fail(why, states[i].err, "%s: %s (%s)", p->name, states[i].text, line.text);
    return chv_fail(why, CHV_ERR_IO, "%s: %s", p->name, line.text);
}

static bool succeeded(const PGresult *result)
{
    return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

static enum chv_err pg_script(struct chv_sql *db, const char *sql, struct chv_why *why)
{
    struct pg_registry *p = pg_of(db);
    PGresult *result = PQexec(p->connection, sql);
    enum chv_err err = succeeded(result) ? CHV_OK : failed_result(p, result, why);
    PQclear(result);
    return err;
}

static const char *option(const struct pg_registry *p, const char *keyword)
{
    for (const PQconninfoOption *o = p->options; o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val;
    return NULL;
}

static enum chv_err connect_once(struct pg_registry *p, struct chv_why *why)
{
    const char *keywords[OPTIONS_MAX], *values[OPTIONS_MAX];
    char seconds[16], setup[256];
    size_t n = 0;
    (void)snprintf(seconds, sizeof seconds, "%u", p->connect_seconds);
    /* what the URI does not say; a server that vanishes is noticed within half a minute */
    const char *const ours[][2] = {{"application_name", "chaveiro"}, {"connect_timeout", seconds},
                                   {"keepalives_idle", "10"},        {"keepalives_interval", "5"},
                                   {"keepalives_count", "3"},        {"tcp_user_timeout", "20000"}};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (option(p, ours[i][0]) == NULL) {
            keywords[n] = ours[i][0];
            values[n++] = ours[i][1];
        }
    for (const PQconninfoOption *o = p->options; o->keyword != NULL; o++)
        if (o->val != NULL && strcmp(o->keyword, "client_encoding") != 0 && n < OPTIONS_MAX - 2) {
            keywords[n] = o->keyword;
            values[n++] = o->val;
        }
    keywords[n] = "client_encoding";
    values[n++] = "UTF8";
    keywords[n] = values[n] = NULL;
    p->connection = PQconnectdbParams(keywords, values, 0);
    if (p->connection == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", p->name);
    if (PQstatus(p->connection) != CONNECTION_OK) {
        enum chv_err err = chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: cannot connect: %s", p->name,
                                    first_line(PQerrorMessage(p->connection)).text);
        disconnect(p);
        return err;
    }
    (void)PQsetNoticeReceiver(p->connection, say_nothing, NULL);
    (void)snprintf(setup, sizeof setup,
                   "SET lock_timeout = %u; SET statement_timeout = 60000; SET default_transaction_isolation ="
                   " 'read committed'; LISTEN " CHANNEL,
                   p->busy_ms);
    enum chv_err err = pg_script(&p->sql, setup, why);
    if (err != CHV_OK)
        disconnect(p);
    return err;
}

/* A connection to a registry of this version. */
static enum chv_err ensure(struct pg_registry *p, struct chv_why *why)
{
    if (p->connection != NULL && PQstatus(p->connection) == CONNECTION_OK && !p->lost)
        return CHV_OK;
    if (p->in_transaction)
        return chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: the connection was lost inside a transaction", p->name);
    disconnect(p);
    enum chv_err err = connect_once(p, why);
    if (err == CHV_OK)
        err = chv_sql_setup(&p->sql, p->mode, why);
    if (err != CHV_OK)
        disconnect(p);
    return err;
}

static enum chv_err prepare(struct pg_registry *p, enum chv_sql_statement statement, const struct chv_sql_value *values,
                            size_t n, struct chv_why *why)
{
    if (p->prepared[statement])
        return CHV_OK;
    Oid types[CHV_SQL_PARAMETERS_MAX];
    char name[16];
    for (size_t i = 0; i < n; i++)
        types[i] = values[i].null || values[i].text != NULL ? OID_TEXT : OID_INT8;
    (void)snprintf(name, sizeof name, "s%u", (unsigned)statement);
    PGresult *result = PQprepare(p->connection, name, chv_sql_text(p->sql.driver, statement), (int)n, types);
    enum chv_err err = succeeded(result) ? CHV_OK : failed_result(p, result, why);
    PQclear(result);
    p->prepared[statement] = err == CHV_OK;
    return err;
}

/* Parameters as libpq takes them: texts. */
struct parameters {
    const char *texts[CHV_SQL_PARAMETERS_MAX];
    char numbers[CHV_SQL_PARAMETERS_MAX][24];
};

static void format(struct parameters *out, const struct chv_sql_value *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(out->numbers[i], sizeof out->numbers[i], "%" PRId64, values[i].number);
        out->texts[i] = values[i].null ? NULL : values[i].text != NULL ? values[i].text : out->numbers[i];
    }
}

static enum chv_err judge_change(struct pg_registry *p, PGresult *result, const struct pending *change,
                                 struct chv_why *why)
{
    if (PQresultStatus(result) == PGRES_COMMAND_OK && strcmp(PQcmdTuples(result), "1") == 0)
        return CHV_OK;
    if (succeeded(result))
        return chv_fail(why, CHV_ERR_STATE, "%s: %s: %s", p->name, change->subject, change->refusal);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state != NULL && strcmp(state, "23505") == 0) /* unique_violation */
        return chv_fail(why, CHV_ERR_EXISTS, "%s: %s: %s", p->name, change->subject, change->taken);
    return failed_result(p, result, why);
}

/* Waits for the answers to all changes that were sent; the first failure is the one to tell. */
static enum chv_err flush(struct pg_registry *p, struct chv_why *why)
{
    if (p->pending_count == 0)
        return CHV_OK;
    enum chv_err err = CHV_OK;
    if (PQpipelineSync(p->connection) != 1)
        err = failed_result(p, NULL, why);
    for (size_t i = 0; i < p->pending_count && !p->lost; i++) {
        for (PGresult *result; (result = PQgetResult(p->connection)) != NULL; PQclear(result))
            if (err == CHV_OK)
                err = judge_change(p, result, &p->pending[i], why);
    }
    p->pending_count = 0;
    if (p->lost)
        return err;
    PQclear(PQgetResult(p->connection)); /* PGRES_PIPELINE_SYNC */
    if (PQexitPipelineMode(p->connection) != 1 && err == CHV_OK)
        err = failed_result(p, NULL, why);
    return err;
}

static enum chv_err run_once(struct pg_registry *p, enum chv_sql_statement statement,
                             const struct chv_sql_value *values, size_t n, PGresult **result, struct chv_why *why)
{
    struct parameters parameters;
    char name[16];
    enum chv_err err = flush(p, why);
    if (err == CHV_OK)
        err = prepare(p, statement, values, n, why);
    if (err != CHV_OK)
        return err;
    format(&parameters, values, n);
    (void)snprintf(name, sizeof name, "s%u", (unsigned)statement);
    *result = PQexecPrepared(p->connection, name, (int)n, parameters.texts, NULL, NULL, 0);
    return succeeded(*result) ? CHV_OK : failed_result(p, *result, why);
}

static enum chv_err pg_run(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                           size_t n, chv_sql_row_fn each, void *arg, struct chv_why *why)
{
    struct pg_registry *p = pg_of(db);
    struct chv_sql_cell cells[CHV_SQL_COLUMNS_MAX];
    PGresult *result = NULL;
    bool setting_up = statement == CHV_SQL_HAS_SCHEMA || statement == CHV_SQL_VERSION; /* called by ensure itself */
    enum chv_err err = setting_up ? CHV_OK : ensure(p, why);
    if (err != CHV_OK)
        return err;
    err = run_once(p, statement, values, n, &result, why);
    if (err != CHV_OK && !setting_up && !p->in_transaction && p->lost) {
        /* a server that was started again meanwhile: what runs outside a transaction only reads */
        PQclear(result);
        result = NULL;
        err = ensure(p, why);
        if (err == CHV_OK)
            err = run_once(p, statement, values, n, &result, why);
    }
    int rows = err == CHV_OK ? PQntuples(result) : 0;
    for (int row = 0; row < rows && err == CHV_OK && each != NULL; row++) {
        for (int i = 0; i < PQnfields(result) && i < CHV_SQL_COLUMNS_MAX; i++) {
            cells[i].text = PQgetisnull(result, row, i) ? NULL : PQgetvalue(result, row, i);
            cells[i].len = (size_t)PQgetlength(result, row, i);
        }
        err = each(arg, cells);
    }
    PQclear(result);
    return err;
}

static enum chv_err pg_change(struct chv_sql *db, enum chv_sql_statement statement, const struct chv_sql_value *values,
                              size_t n, const char *subject, const char *refusal, const char *taken,
                              struct chv_why *why)
{
    struct pg_registry *p = pg_of(db);
    struct parameters parameters;
    char name[16];
    enum chv_err err = ensure(p, why);
    if (err == CHV_OK && (p->pending_count == PENDING_MAX || !p->prepared[statement]))
        err = flush(p, why);
    if (err == CHV_OK)
        err = prepare(p, statement, values, n, why);
    if (err != CHV_OK)
        return err;
    if (p->pending_count == 0 && PQenterPipelineMode(p->connection) != 1)
        return failed_result(p, NULL, why);
    format(&parameters, values, n);
    (void)snprintf(name, sizeof name, "s%u", (unsigned)statement);
    if (PQsendQueryPrepared(p->connection, name, (int)n, parameters.texts, NULL, NULL, 0) != 1)
        return failed_result(p, NULL, why);
    struct pending *change = &p->pending[p->pending_count++];
    (void)snprintf(change->subject, sizeof change->subject, "%s", subject);
    change->refusal = refusal;
    change->taken = taken;
    return CHV_OK;
}

static void pg_rollback(struct chv_sql *db)
{
    struct pg_registry *p = pg_of(db);
    (void)flush(p, NULL);
    p->in_transaction = false;
    if (p->connection == NULL)
        return;
    if (p->lost) {
        disconnect(p);
        return;
    }
    PGresult *result = PQexec(p->connection, "ROLLBACK");
    if (!succeeded(result))
        disconnect(p);
    PQclear(result);
}

/*
 * READ COMMITTED, and the row of meta first: who has it is the only writer, and sees what the one before committed.  Who
 * makes the tables takes turns by an advisory lock ("CHVR"), since there is no row yet.
 */
static enum chv_err pg_begin(struct chv_sql *db, bool schema, struct chv_why *why)
{
    static const char lock_meta[] = "BEGIN; SELECT generation FROM meta WHERE one = 1 FOR UPDATE";
    static const char lock_schema[] =
        "BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(1128814162)";
    struct pg_registry *p = pg_of(db);
    enum chv_err err = schema ? CHV_OK : ensure(p, why);
    if (err != CHV_OK)
        return err;
    err = pg_script(db, schema ? lock_schema : lock_meta, why);
    if (err != CHV_OK && !schema && p->lost) {
        err = ensure(p, why);
        if (err == CHV_OK)
            err = pg_script(db, lock_meta, why);
    }
    if (err != CHV_OK)
        pg_rollback(db);
    p->in_transaction = err == CHV_OK;
    return err;
}

static enum chv_err pg_commit(struct chv_sql *db, bool changed, struct chv_why *why)
{
    struct pg_registry *p = pg_of(db);
    enum chv_err err = flush(p, why);
    if (err == CHV_OK && changed)
        err = pg_script(db, "NOTIFY " CHANNEL, why);
    if (err == CHV_OK)
        err = pg_script(db, "COMMIT", why);
    if (err == CHV_OK)
        p->in_transaction = false;
    return err;
}

static const char *const migrations[CHV_REGISTRY_SCHEMA] = {
    CHV_SQL_SCHEMA_1("BIGINT", "TEXT COLLATE \"C\"", ""),
};

static const struct chv_sql_driver driver = {
    .has_schema = "SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE tablename = 'migrations'"
                  " AND schemaname = current_schema()",
    .migrations = migrations,
    .create = CHV_SQL_CREATE("BIGINT", ""),
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .script = pg_script,
    .run = pg_run,
    .change = pg_change,
};

static void pg_close(struct chv_registry *r)
{
    struct pg_registry *p = (struct pg_registry *)(void *)r;
    PQfinish(p->connection);
    PQconninfoFree(p->options);
    free(p->name);
    free(p);
}

static enum chv_err parse_uri(struct pg_registry *p, const char *uri, struct chv_why *why)
{
    char *message = NULL;
    p->options = PQconninfoParse(uri, &message);
    if (p->options == NULL) {
        /* libpq's message may quote what looks like a password: only the first words are passed on */
        PQfreemem(message);
        return chv_fail(why, CHV_ERR_CONFIG, "registry postgresql: not a URI: write postgresql://USER@HOST/DATABASE");
    }
    if (option(p, "password") != NULL || option(p, "sslpassword") != NULL)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "registry postgresql: a password in the URI can be read by others: put it into a file that "
                        "PGPASSFILE names, or a service file");
    const char *host = option(p, "host"), *database = option(p, "dbname"), *service = option(p, "service");
    int n = service != NULL ? asprintf(&p->name, "postgresql service %s", chv_registry_show(service).text)
                            : asprintf(&p->name, "postgresql://%s/%s", host == NULL ? "" : chv_registry_show(host).text,
                                       database == NULL ? "" : chv_registry_show(database).text);
    if (n < 0) {
        p->name = NULL;
        return chv_fail(why, CHV_ERR_MEMORY, "registry postgresql: out of memory");
    }
    p->sql.head.name = p->name;
    return CHV_OK;
}

static enum chv_err pg_open(const char *uri, const struct chv_registry_options *options, struct chv_registry **r,
                            struct chv_why *why)
{
    struct pg_registry *p = calloc(1, sizeof *p);
    if (p == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "registry postgresql: out of memory");
    p->sql.head.ops = &chv_registry_postgresql_ops;
    p->sql.driver = &driver;
    p->mode = options->mode;
    p->busy_ms = options->busy_ms != 0 ? options->busy_ms : BUSY_MS_DEFAULT;
    p->connect_seconds = options->connect_seconds != 0 ? options->connect_seconds : CONNECT_SECONDS_DEFAULT;
    enum chv_err err = parse_uri(p, uri, why);
    if (err == CHV_OK)
        err = ensure(p, why);
    if (err != CHV_OK) {
        pg_close((struct chv_registry *)(void *)p);
        return err;
    }
    if (p->mode == CHV_REGISTRY_CREATE)
        p->mode = CHV_REGISTRY_WRITE; /* what vanishes later is not made again */
    *r = (struct chv_registry *)(void *)p;
    return CHV_OK;
}

static enum chv_err pg_poll(struct chv_registry *r, bool *changed, struct chv_why *why)
{
    struct pg_registry *p = (struct pg_registry *)(void *)r;
    if (p->connection != NULL && PQconsumeInput(p->connection) != 1)
        disconnect(p);
    enum chv_err err = ensure(p, why);
    if (err != CHV_OK)
        return err;
    bool told = p->changed;
    for (PGnotify *note; (note = PQnotifies(p->connection)) != NULL; PQfreemem(note))
        told = true;
    p->changed = false;
    *changed = told;
    return CHV_OK;
}

static int pg_fd(struct chv_registry *r)
{
    struct pg_registry *p = (struct pg_registry *)(void *)r;
    return p->connection == NULL ? -1 : PQsocket(p->connection);
}

const struct chv_registry_ops chv_registry_postgresql_ops = {
    .abi = CHV_REGISTRY_ABI,
    .scheme = "postgresql",
    .description = "a PostgreSQL server, for several machines",
    .traits = CHV_REGISTRY_COMPLETE | CHV_REGISTRY_WRITABLE,
    .open = pg_open,
    .close = pg_close,
    .info = chv_sql_info,
    .get = chv_sql_get,
    .list = chv_sql_list,
    .poll = pg_poll,
    .fd = pg_fd,
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
