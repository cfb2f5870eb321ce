/* SPDX-License-Identifier: Apache-2.0 */
/* doc/registry.md says what there is: every table and column, the hash of its example row, its deny file. */
#include "tests/registry/support.h"

#include <sqlite3.h>

#include <stdio.h>
#include <string.h>

#include "base/encode.h"

static char *document(void)
{
    const char *top = getenv("top_srcdir");
    char *path = NULL;
    if (asprintf(&path, "%s/doc/registry.md", top == NULL ? "." : top) < 0)
        abort();
    char *text = read_file(path);
    free(path);
    return text;
}

/* The section of a table, or NULL. */
static char *section(const char *text, const char *table)
{
    char heading[64];
    (void)snprintf(heading, sizeof heading, "\n### `%s`\n", table);
    const char *start = strstr(text, heading);
    if (start == NULL)
        return NULL;
    start += strlen(heading);
    const char *end = strstr(start, "\n##");
    return end == NULL ? strdup(start) : strndup(start, (size_t)(end - start));
}

static size_t rows_of(const char *section_text)
{
    size_t n = 0;
    for (const char *row = section_text; (row = strstr(row, "\n| `")) != NULL; row++)
        n++;
    return n;
}

static void test_columns(void)
{
    const char *uri = fresh_sqlite();
    char *text = document();
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    char *part = NULL, table[64] = "";
    size_t columns = 0, tables = 0;
    chv_registry_close(open_mode(uri, CHV_REGISTRY_CREATE));
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(uri + strlen("sqlite:"), &db), SQLITE_OK);
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db,
                                             "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c "
                                             "WHERE t.type = 'table' ORDER BY t.name, c.cid",
                                             -1, &stmt, NULL),
                          SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        char cell[80];
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        if (strcmp(name, table) != 0) {
            CU_ASSERT(part == NULL || rows_of(part) == columns);
            free(part);
            part = section(text, name);
            (void)snprintf(table, sizeof table, "%s", name);
            columns = 0;
            tables++;
        }
        columns++;
        (void)snprintf(cell, sizeof cell, "\n| `%s` |", (const char *)sqlite3_column_text(stmt, 1));
        bool there = part != NULL && strstr(part, cell) != NULL;
        if (!there)
            (void)fprintf(stderr, "table %s: not documented: %s\n", table, cell + 1);
        CU_ASSERT(there);
    }
    CU_ASSERT(part != NULL && rows_of(part) == columns);
    CU_ASSERT_EQUAL(tables, 6);
    (void)sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
    free(part);
    free(text);
}

static void test_example_row(void)
{
    struct chv_registry *r = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    struct chv_audit_row row = {
        .time = 1750000000, .actor = "keyadmin alice", .action = "add", .id = "cam1", .details = "{\"serial\":1}"};
    char hex[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)], *text = document();
    OK(chv_registry_begin(r, NULL));
    OK(chv_registry_audit(r, &row, NULL));
    chv_hex_encode(row.hash, sizeof row.hash, hex);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, hex));
    free(text);
    chv_registry_close(r);
}

static void test_example_file(void)
{
    static const char mark[] = "```revoked\n";
    char *text = document(), *start = strstr(text, mark), uri[512];
    const char *path = test_path("example");
    struct chv_registry_client c;
    CU_ASSERT_PTR_NOT_NULL_FATAL(start);
    char *end = strstr(start + strlen(mark), "```");
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    *end = '\0';
    write_file(path, start + strlen(mark));
    (void)snprintf(uri, sizeof uri, "revoked:%s", path);
    struct chv_registry *r = open_mode(uri, CHV_REGISTRY_READ);
    CU_ASSERT_EQUAL(count_clients(r), 3);
    OK(chv_registry_get(r, "cam1", &c, NULL));
    CU_ASSERT_EQUAL(c.status, CHV_CLIENT_REVOKED);
    CU_ASSERT_STRING_EQUAL(c.reason, "stolen in June");
    OK(chv_registry_get(r, "door-7", &c, NULL));
    CU_ASSERT(c.scope_count == 2 && c.minimum.epoch == 2);
    chv_registry_close(r);
    free(text);
}

TEST_MAIN("registry documentation", {"tables and columns", test_columns}, {"example row", test_example_row},
          {"example file", test_example_file})
