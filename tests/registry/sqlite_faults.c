/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: locked, read-only, full, broken, not ours: a clear error each time, and nothing overwritten. */
#include "tests/registry/support.h"

#include <sqlite3.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/registry/fault_vfs.h"

static const char *path_of(const char *uri)
{
    return uri + strlen("sqlite:");
}

static struct chv_registry *with_client(const char *uri)
{
    struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("a", 1, 1);
    OK(put_client(r, &c, NULL));
    return r;
}

static void test_locked(void)
{
    const char *uri = fresh_sqlite();
    sqlite3 *other = NULL;
    struct chv_registry *r = NULL;
    struct chv_registry_client c = make_client("b", 1, 1), got;
    struct chv_why why;
    chv_registry_close(with_client(uri));
    OK(try_open(uri, CHV_REGISTRY_WRITE, &r, &why));
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path_of(uri), &other), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    FAILS(put_client(r, &c, &why), BUSY);
    check_why(&why, path_of(uri));
    check_why(&why, "another program is changing it (waited 300 ms)");
    OK(chv_registry_get(r, "a", &got, NULL)); /* who reads does not wait */
    CU_ASSERT_EQUAL(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    OK(put_client(r, &c, NULL)); /* the same handle goes on */
    (void)sqlite3_close(other);
    chv_registry_close(r);
}

static void as_nobody(void)
{
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(99);
}

/* Mode 0400, as a user whom it stops. */
static void test_read_only(void)
{
    const char *folder = test_path("ro"), *uri = keep_uri("ro/r.db");
    CU_ASSERT_EQUAL(mkdir(folder, 0700), 0);
    chv_registry_close(with_client(uri));
    CU_ASSERT_EQUAL(chmod(path_of(uri), 0400), 0);
    CU_ASSERT_EQUAL(chmod(test_folder(), 0711), 0);
    if (geteuid() == 0)
        CU_ASSERT(chown(folder, 65534, 65534) == 0 && chown(path_of(uri), 65534, 65534) == 0);
    int child = fork();
    if (child == 0) {
        struct chv_registry *r = NULL;
        struct chv_registry_client got;
        struct chv_why why = {.text = ""};
        as_nobody();
        if (try_open(uri, CHV_REGISTRY_WRITE, &r, &why) != CHV_ERR_IO || strstr(why.text, "is read-only") == NULL)
            _exit(1);
        if (try_open(uri, CHV_REGISTRY_READ, &r, &why) != CHV_OK || chv_registry_get(r, "a", &got, &why) != CHV_OK)
            _exit(2);
        chv_registry_close(r);
        _exit(0);
    }
    CU_ASSERT_EQUAL(wait_child(child), 0);
    CU_ASSERT_EQUAL(chmod(test_folder(), 0700), 0);
}

static void test_modes(void)
{
    const char *uri = fresh_sqlite(), *folder = test_path("open");
    struct chv_registry *r = NULL;
    struct chv_why why;
    struct stat st;
    chv_registry_close(with_client(uri));
    CU_ASSERT_EQUAL(stat(path_of(uri), &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    CU_ASSERT_EQUAL(chmod(path_of(uri), 0620), 0);
    FAILS(try_open(uri, CHV_REGISTRY_WRITE, &r, &why), STORE_MODE);
    check_why(&why, "others can write");
    CU_ASSERT_EQUAL(chmod(path_of(uri), 0602), 0);
    FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), STORE_MODE);
    CU_ASSERT_EQUAL(mkdir(folder, 0700), 0);
    CU_ASSERT_EQUAL(chmod(folder, 0777), 0);
    FAILS(try_open(keep_uri("open/r.db"), CHV_REGISTRY_CREATE, &r, &why), STORE_MODE);
    check_why(&why, "folder");
    CU_ASSERT_EQUAL(chmod(folder, 01777), 0); /* as /tmp */
    OK(try_open(keep_uri("open/r2.db"), CHV_REGISTRY_CREATE, &r, &why));
    chv_registry_close(r);
    FAILS(try_open(keep_uri("no/r.db"), CHV_REGISTRY_CREATE, &r, &why), NOT_FOUND);
    FAILS(try_open(keep_uri("open"), CHV_REGISTRY_WRITE, &r, &why), CONFIG);
    FAILS(try_open(keep_uri("open/"), CHV_REGISTRY_CREATE, &r, &why), CONFIG);
}

/* A link is followed once, when it is opened. */
static void test_links(void)
{
    const char *uri = fresh_sqlite(), *link = test_path("link.db"), *loose = test_path("loose.db");
    struct chv_registry *r = NULL;
    struct chv_why why;
    chv_registry_close(with_client(uri));
    CU_ASSERT_EQUAL(symlink(path_of(uri), link), 0);
    r = open_mode(link, CHV_REGISTRY_WRITE); /* a bare path, too */
    CU_ASSERT_STRING_EQUAL(chv_registry_name(r), path_of(uri));
    CU_ASSERT_EQUAL(count_clients(r), 1);
    chv_registry_close(r);
    CU_ASSERT_EQUAL(symlink(test_path("nowhere.db"), loose), 0);
    CU_ASSERT_NOT_EQUAL(try_open(loose, CHV_REGISTRY_CREATE, &r, &why), CHV_OK);
    CU_ASSERT_NOT_EQUAL(access(test_path("nowhere.db"), F_OK), 0);
}

static void test_exchanged(void)
{
    const char *uri = fresh_sqlite(), *other = fresh_sqlite();
    struct chv_registry *r = with_client(uri);
    struct chv_registry_client c = make_client("b", 1, 1);
    struct chv_why why;
    bool changed;
    chv_registry_close(with_client(other));
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_EQUAL(rename(path_of(other), path_of(uri)), 0);
    FAILS(chv_registry_poll(r, &changed, &why), STATE);
    check_why(&why, "exchanged while it was open");
    FAILS(put_client(r, &c, &why), STATE);
    chv_registry_close(r);
}

/* The bytes of a file, to see that they stay as they are. */
struct bytes {
    size_t len;
    char *data;
};

static struct bytes load(const char *path)
{
    struct bytes b = {.len = 0};
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    b.data = malloc((size_t)st.st_size + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.data);
    int fd = open(path, O_RDONLY);
    b.len = (size_t)read(fd, b.data, (size_t)st.st_size);
    (void)close(fd);
    CU_ASSERT_EQUAL((off_t)b.len, st.st_size);
    return b;
}

static void check_unchanged(const char *path, struct bytes before)
{
    struct bytes now = load(path);
    CU_ASSERT(now.len == before.len && memcmp(now.data, before.data, now.len) == 0);
    free(now.data);
}

/* Writes over part of a database that nobody has open. */
static void overwrite(const char *path, off_t at, size_t len)
{
    char rubbish[8192];
    memset(rubbish, 0xa5, sizeof rubbish);
    int fd = open(path, O_WRONLY);
    CU_ASSERT_FATAL(fd >= 0 && len <= sizeof rubbish);
    CU_ASSERT_EQUAL(pwrite(fd, rubbish, len, at), (ssize_t)len);
    (void)close(fd);
}

static void check_refused(const char *uri, enum chv_err code, const char *text)
{
    static const enum chv_registry_mode modes[] = {CHV_REGISTRY_CREATE, CHV_REGISTRY_WRITE, CHV_REGISTRY_READ};
    struct bytes before = load(path_of(uri));
    for (size_t i = 0; i < 3; i++) {
        struct chv_registry *r = NULL;
        struct chv_why why = {.text = ""};
        CU_ASSERT_EQUAL(try_open(uri, modes[i], &r, &why), code);
        check_why(&why, text);
        check_unchanged(path_of(uri), before);
        chv_registry_close(r);
    }
    free(before.data);
}

static void test_not_ours(void)
{
    const char *uri = fresh_sqlite();
    write_file(path_of(uri), "these are somebody's notes, long enough for nobody to take them for an empty file; "
                             "a database begins with a header of one hundred bytes, which this is not\n");
    check_refused(uri, CHV_ERR_DAMAGED, "is not a database");
    uri = fresh_sqlite();
    run_sql(uri, "CREATE TABLE notes (text)");
    CU_ASSERT_EQUAL(chmod(path_of(uri), 0600), 0);
    check_refused(uri, CHV_ERR_CONFIG, "another program");
    uri = fresh_sqlite();
    run_sql(uri, "PRAGMA application_id = 7");
    CU_ASSERT_EQUAL(chmod(path_of(uri), 0600), 0);
    check_refused(uri, CHV_ERR_CONFIG, "another program");
    uri = fresh_sqlite();
    write_file(path_of(uri), "");
    struct chv_registry *r = NULL;
    struct chv_why why;
    FAILS(try_open(uri, CHV_REGISTRY_WRITE, &r, &why), NOT_FOUND);
    check_why(&why, "put its backup back");
    chv_registry_close(with_client(uri)); /* an empty one is made */
}

static void fill(struct chv_registry *r, unsigned n)
{
    struct chv_audit_row row = make_audit("add", "");
    OK(chv_registry_begin(r, NULL));
    for (unsigned i = 0; i < n; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "c%05u", i);
        struct chv_registry_client c = make_client(id, 1, 1);
        OK(chv_registry_put(r, &c, NULL));
    }
    OK(chv_registry_audit(r, &row, NULL));
    OK(chv_registry_commit(r, NULL));
}

static void test_broken(void)
{
    const char *uri = fresh_sqlite();
    struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
    fill(r, 2000);
    chv_registry_close(r);
    struct bytes good = load(path_of(uri));
    size_t found = 0;
    for (off_t page = 0; page < (off_t)good.len / 4096; page += 7) {
        struct chv_why why = {.text = ""};
        size_t n = 0;
        int fd = open(path_of(uri), O_WRONLY | O_TRUNC);
        CU_ASSERT_EQUAL(write(fd, good.data, good.len), (ssize_t)good.len);
        (void)close(fd);
        overwrite(path_of(uri), page * 4096, 4096);
        struct bytes before = load(path_of(uri));
        enum chv_err err = try_open(uri, CHV_REGISTRY_WRITE, &r, &why);
        if (err == CHV_OK)
            err = chv_registry_list(r, &(struct chv_registry_filter){0}, count_client, &n, &why);
        CU_ASSERT(err == CHV_ERR_DAMAGED || (err == CHV_OK && n == 2000)); /* a page of the index, or a free one */
        if (err == CHV_ERR_DAMAGED) {
            found++;
            check_why(&why, path_of(uri));
            check_why(&why, "restore a backup");
        }
        check_unchanged(path_of(uri), before);
        free(before.data);
        chv_registry_close(r);
        r = NULL;
    }
    CU_ASSERT(found > 1);
    CU_ASSERT_EQUAL(truncate(path_of(uri), 3 * 4096), 0);
    struct chv_why why;
    size_t n = 0;
    enum chv_err err = try_open(uri, CHV_REGISTRY_WRITE, &r, &why);
    if (err == CHV_OK)
        err = chv_registry_list(r, &(struct chv_registry_filter){0}, count_client, &n, &why);
    CU_ASSERT_EQUAL(err, CHV_ERR_DAMAGED);
    chv_registry_close(r);
    free(good.data);
}

/* Triggers of somebody who can write to the file do not run. */
static void test_hostile_schema(void)
{
    const char *uri = fresh_sqlite();
    struct chv_registry *r = with_client(uri);
    struct chv_registry_client c;
    run_sql(uri, "CREATE TRIGGER undo AFTER UPDATE ON clients BEGIN UPDATE clients SET status = 1; END");
    OK(chv_registry_get(r, "a", &c, NULL));
    c.status = CHV_CLIENT_REVOKED;
    OK(put_client(r, &c, NULL));
    OK(chv_registry_get(r, "a", &c, NULL));
    CU_ASSERT_EQUAL(c.status, CHV_CLIENT_REVOKED);
    run_sql(uri, "ALTER TABLE clients RENAME TO hidden; CREATE VIEW clients AS SELECT * FROM hidden");
    struct chv_why why;
    CU_ASSERT_NOT_EQUAL(chv_registry_get(r, "a", &c, &why), CHV_OK);
    chv_registry_close(r);
}

/* The nth write or fsync fails, n = 1, 2, ... until all is well: each time all or nothing, and the handle lives. */
static void check_faults(enum fault_kind kind, const char *text)
{
    const char *uri = fresh_sqlite();
    size_t hits = 0;
    chv_registry_close(with_client(uri));
    for (unsigned n = 1;; n++) {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_WRITE);
        size_t before = count_clients(r);
        struct chv_why why = {.text = ""};
        char id[16];
        (void)snprintf(id, sizeof id, "n%u", n);
        struct chv_registry_client c = make_client(id, 1, 1), got;
        fault_vfs_set(kind, n);
        enum chv_err err = put_client(r, &c, &why);
        bool hit = fault_vfs_hit();
        fault_vfs_set(FAULT_NONE, 0);
        if (err != CHV_OK) {
            CU_ASSERT_TRUE(hit);
            hits++;
            CU_ASSERT_EQUAL(err, CHV_ERR_IO);
            check_why(&why, text);
            check_why(&why, path_of(uri));
        }
        CU_ASSERT_EQUAL(count_clients(r), before + (err == CHV_OK));
        if (err != CHV_OK)
            OK(put_client(r, &c, NULL)); /* the same handle goes on */
        chv_registry_close(r);
        r = open_mode(uri, CHV_REGISTRY_READ);
        CU_ASSERT_EQUAL(chv_registry_get(r, id, &got, NULL), CHV_OK);
        struct chv_audit_report report;
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
        chv_registry_close(r);
        if (!hit)
            break;
    }
    CU_ASSERT(hits > 0);
}

static void test_full(void)
{
    check_faults(FAULT_FULL, "the disk is full: nothing was changed");
}

static void test_io_errors(void)
{
    check_faults(FAULT_IO, "I/O");
    check_faults(FAULT_SYNC, "I/O");
}

/* A disk that is full while the registry is made leaves nothing that cannot be made again. */
static void test_full_at_creation(void)
{
    for (unsigned n = 1;; n++) {
        const char *uri = fresh_sqlite();
        struct chv_registry *r = NULL;
        struct chv_why why = {.text = ""};
        fault_vfs_set(FAULT_FULL, n);
        enum chv_err err = try_open(uri, CHV_REGISTRY_CREATE, &r, &why);
        bool hit = fault_vfs_hit();
        fault_vfs_set(FAULT_NONE, 0);
        CU_ASSERT_EQUAL(err, hit ? CHV_ERR_IO : CHV_OK);
        chv_registry_close(r);
        chv_registry_close(with_client(uri));
        if (!hit)
            break;
        CU_ASSERT_FATAL(n < 1000);
    }
}

static void test_read_errors(void)
{
    const char *uri = fresh_sqlite();
    struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
    fill(r, 2000);
    chv_registry_close(r);
    r = NULL;
    struct chv_why why;
    fault_vfs_set(FAULT_READ, 1);
    FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), IO);
    fault_vfs_set(FAULT_NONE, 0);
    r = open_mode(uri, CHV_REGISTRY_READ);
    fault_vfs_set(FAULT_READ, 3);
    size_t n = 0;
    FAILS(chv_registry_list(r, &(struct chv_registry_filter){0}, count_client, &n, &why), IO);
    fault_vfs_set(FAULT_NONE, 0);
    CU_ASSERT_EQUAL(count_clients(r), 2000);
    chv_registry_close(r);
}

int main(void)
{
    static const struct test_case cases[] = {{"locked", test_locked},
                                             {"read-only", test_read_only},
                                             {"modes", test_modes},
                                             {"links", test_links},
                                             {"exchanged while open", test_exchanged},
                                             {"not ours", test_not_ours},
                                             {"broken", test_broken},
                                             {"hostile schema", test_hostile_schema},
                                             {"disk full", test_full},
                                             {"errors of the disk", test_io_errors},
                                             {"disk full at creation", test_full_at_creation},
                                             {"errors of reading", test_read_errors}};
    fault_vfs_install();
    return test_main("registry SQLite faults", cases, sizeof cases / sizeof cases[0]);
}
