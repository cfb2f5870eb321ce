/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/registry/support.h"

#include <libpq-fe.h>
#include <sqlite3.h>

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT_MAX 1024

static char folder[256];
static pid_t folder_owner;
static struct chv_crypto crypto;
static char *kept[KEPT_MAX];
static size_t kept_count;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void clean_up(void)
{
    if (folder_owner != getpid()) /* a child that leaves by exit() */
        return;
    chv_backend_close(&crypto);
    for (size_t i = 0; i < kept_count; i++)
        free(kept[i]);
    (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
    if (folder[0] == '\0') {
        const char *tmp = getenv("TMPDIR");
        (void)snprintf(folder, sizeof folder, "%s/chaveiro-registry-XXXXXX", tmp != NULL && tmp[0] ? tmp : "/tmp");
        if (mkdtemp(folder) == NULL) {
            perror(folder);
            exit(EXIT_FAILURE);
        }
        folder_owner = getpid();
        (void)atexit(clean_up);
    }
    return folder;
}

/* Freed at exit: tests end in the middle. */
static const char *keep(char *text)
{
    if (text == NULL || kept_count == KEPT_MAX)
        abort();
    kept[kept_count++] = text;
    return text;
}

const char *test_path(const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", test_folder(), name) < 0)
        abort();
    return keep(path);
}

const struct chv_crypto *test_crypto(void)
{
    (void)test_folder();
    if (crypto.backend == NULL && chv_backend_open("openssl", &crypto, NULL) != CHV_OK)
        abort();
    return &crypto;
}

const char *fresh_sqlite(void)
{
    static unsigned count;
    char *uri = NULL;
    if (asprintf(&uri, "sqlite:%s/r%u.db", test_folder(), ++count) < 0)
        abort();
    return keep(uri);
}

const char *keep_uri(const char *name)
{
    char *uri = NULL;
    if (asprintf(&uri, "sqlite:%s/%s", test_folder(), name) < 0)
        abort();
    return keep(uri);
}

bool have_postgresql(void)
{
    return getenv("CHV_TEST_POSTGRES") != NULL;
}

static void run_postgresql(const char *uri, const char *sql)
{
    PGconn *connection = PQconnectdb(uri);
    PGresult *result = PQexec(connection, sql);
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
    if (!good)
        (void)fprintf(stderr, "%s: %s\n", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
    CU_ASSERT_FATAL(good);
}

const char *fresh_postgresql(void)
{
    static unsigned count;
    const char *server = getenv("CHV_TEST_POSTGRES");
    char *uri = NULL, *admin = NULL, create[64];
    /* the folder has no character that a URI would want written otherwise */
    if (asprintf(&uri, "postgresql:///t%d_%u?host=%s&user=chaveiro", (int)getpid(), ++count, server) < 0 ||
        asprintf(&admin, "postgresql:///postgres?host=%s&user=chaveiro", server) < 0)
        abort();
    (void)snprintf(create, sizeof create, "CREATE DATABASE t%d_%u", (int)getpid(), count);
    run_postgresql(keep(admin), create);
    return keep(uri);
}

const char *fresh_registry(size_t kind)
{
    return kind == 0 ? fresh_sqlite() : fresh_postgresql();
}

void run_sql(const char *uri, const char *sql)
{
    if (strncmp(uri, "sqlite:", 7) != 0) {
        run_postgresql(uri, sql);
        return;
    }
    sqlite3 *db = NULL;
    char *message = NULL;
    int rc = sqlite3_open(uri + 7, &db);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db, 60000);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    if (rc != SQLITE_OK)
        (void)fprintf(stderr, "%s: %s\n", sql, message != NULL ? message : sqlite3_errstr(rc));
    sqlite3_free(message);
    (void)sqlite3_close(db);
    CU_ASSERT_EQUAL_FATAL(rc, SQLITE_OK);
}

enum chv_err try_open(const char *uri, enum chv_registry_mode mode, struct chv_registry **r, struct chv_why *why)
{
    struct chv_registry_options options = {.mode = mode, .crypto = test_crypto(), .busy_ms = 300};
    *r = NULL;
    return chv_registry_open(uri, &options, r, why);
}

struct chv_registry *open_mode(const char *uri, enum chv_registry_mode mode)
{
    struct chv_why why = {.text = ""};
    struct chv_registry *r = NULL;
    struct chv_registry_options options = {.mode = mode, .crypto = test_crypto(), .busy_ms = 60000};
    enum chv_err err = chv_registry_open(uri, &options, &r, &why);
    if (err != CHV_OK)
        (void)fprintf(stderr, "%s: %s\n", uri, why.text);
    CU_ASSERT_EQUAL_FATAL(err, CHV_OK);
    return r;
}

struct chv_registry_client make_client(const char *id, uint32_t epoch, uint32_t serial)
{
    struct chv_registry_client c = {.status = CHV_CLIENT_ACTIVE,
                                    .profile = CHV_PROFILE_PSK,
                                    .minimum = {epoch, serial},
                                    .latest = {epoch, serial},
                                    .not_after = 2000000000,
                                    .created = 1750000000};
    (void)snprintf(c.id, sizeof c.id, "%s", id);
    if (chv_registry_client_add_scope(&c, "message") != CHV_OK ||
        chv_registry_client_add_scope(&c, "files:ro") != CHV_OK)
        abort();
    return c;
}

struct chv_audit_row make_audit(const char *action, const char *id)
{
    struct chv_audit_row row = {.time = 1750000001, .actor = "keyadmin test", .details = "{\"why\":\"a test\"}"};
    (void)snprintf(row.action, sizeof row.action, "%s", action);
    (void)snprintf(row.id, sizeof row.id, "%s", id);
    return row;
}

enum chv_err put_client(struct chv_registry *r, const struct chv_registry_client *client, struct chv_why *why)
{
    struct chv_audit_row row = make_audit("put", client->id);
    enum chv_err err = chv_registry_begin(r, why);
    if (err != CHV_OK)
        return err;
    err = chv_registry_put(r, client, why);
    if (err == CHV_OK)
        err = chv_registry_audit(r, &row, why);
    if (err == CHV_OK)
        err = chv_registry_commit(r, why);
    chv_registry_rollback(r);
    return err;
}

enum chv_err count_client(void *arg, const struct chv_registry_client *client)
{
    (void)client;
    (*(size_t *)arg)++;
    return CHV_OK;
}

size_t count_clients(struct chv_registry *r)
{
    const struct chv_registry_filter all = {.statuses = ~0u};
    size_t n = 0;
    CU_ASSERT_EQUAL(chv_registry_list(r, &all, count_client, &n, NULL), CHV_OK);
    return n;
}

enum chv_err test_mac(void *arg, uint32_t epoch, const uint8_t *message, size_t len, uint8_t mac[CHV_AUDIT_MAC_LEN],
                      struct chv_why *why)
{
    uint8_t key[CHV_KEY_LEN] = {0};
    const struct chv_part part = {message, len};
    (void)why;
    key[0] = (uint8_t)epoch;
    key[1] = arg == NULL ? 0 : *(const uint8_t *)arg;
    return chv_crypto_hmac(test_crypto(), CHV_HASH_SHA256, key, sizeof key, &part, 1, mac);
}

void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT(fputs(text, out) >= 0);
    CU_ASSERT_EQUAL(fchmod(fileno(out), 0600), 0);
    CU_ASSERT_EQUAL(fclose(out), 0);
}

char *read_file(const char *path)
{
    char *text = NULL;
    size_t room = 0;
    FILE *in = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    ssize_t n = getdelim(&text, &room, EOF, in);
    (void)fclose(in);
    CU_ASSERT_FATAL(n >= 0);
    return text;
}

void check_why(const struct chv_why *why, const char *part)
{
    bool there = strstr(why->text, part) != NULL;
    if (!there)
        (void)fprintf(stderr, "no '%s' in: %s\n", part, why->text);
    CU_ASSERT(there);
}

int wait_child(int pid)
{
    int status = 0;
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

enum chv_err add_id(void *arg, const struct chv_registry_client *c)
{
    struct id_list *ids = arg;
    size_t len = strlen(ids->text);
    ids->n++;
    (void)snprintf(ids->text + len, sizeof ids->text - len, "%s%s ", c->status == CHV_CLIENT_MALFORMED ? "!" : "",
                   c->id);
    return CHV_OK;
}

void see_client(struct chv_registry *r, const char *id, uint32_t epoch, uint32_t serial, uint64_t time)
{
    struct chv_registry_seen seen[2] = {{.id = "nobody", .issue = {1, 1}, .time = 1},
                                        {.issue = {epoch, serial}, .time = time}};
    (void)snprintf(seen[1].id, sizeof seen[1].id, "%s", id);
    OK(chv_registry_seen(r, seen, 2, "chaveirod", NULL));
}
