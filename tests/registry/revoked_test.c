/* SPDX-License-Identifier: Apache-2.0 */
/* registry = none: the text file of who is denied, and the deny snapshot. */
#include "tests/registry/support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *uri_of(const char *path)
{
    static char uri[512];
    (void)snprintf(uri, sizeof uri, "revoked:%s", path);
    return uri;
}

static struct chv_registry *open_text(const char *path, const char *text)
{
    write_file(path, text);
    return open_mode(uri_of(path), CHV_REGISTRY_READ);
}

static enum chv_verdict verdict(struct chv_registry *r, const char *id, uint32_t epoch, uint32_t serial)
{
    struct chv_registry_claim claim = {.id = id, .profile = CHV_PROFILE_PSK, .issue = {epoch, serial}};
    struct chv_registry_answer answer = {.verdict = CHV_VERDICT_COUNT};
    OK(chv_registry_lookup(r, &claim, 1800000000, &answer, NULL));
    return answer.verdict;
}

static void test_lines(void)
{
    struct chv_registry *r = open_text(test_path("lines"), "# who is denied\n\n"
                                                           "cam2 1.3 lost in the \t field, Évora\n"
                                                           "  cam1   *\n"
                                                           "cam3 2.1 scopes=files:ro,message\n"
                                                           "cam4 1.1 scopes= nothing any more\n"
                                                           "cam5 *");
    struct chv_registry_client c;
    struct chv_why why;
    CU_ASSERT_EQUAL(chv_registry_traits(r), 0);
    CU_ASSERT_EQUAL(verdict(r, "cam1", 9, 9), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "cam5", 9, 9), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "cam2", 1, 2), CHV_VERDICT_SUPERSEDED);
    CU_ASSERT_EQUAL(verdict(r, "cam2", 1, 3), CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(verdict(r, "cam2", 2, 1), CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(verdict(r, "cam3", 1, 9), CHV_VERDICT_SUPERSEDED);
    CU_ASSERT_EQUAL(verdict(r, "somebody", 1, 1), CHV_VERDICT_OK); /* not denied */
    FAILS(chv_registry_get(r, "somebody", &c, &why), NOT_FOUND);
    OK(chv_registry_get(r, "cam2", &c, NULL));
    CU_ASSERT_STRING_EQUAL(c.reason, "lost in the   field, Évora");
    CU_ASSERT_EQUAL(c.flags, 0);
    OK(chv_registry_get(r, "cam3", &c, NULL));
    CU_ASSERT(c.flags == CHV_CLIENT_NARROWED && c.scope_count == 2);
    struct chv_registry_claim claim = {.id = "cam4", .profile = CHV_PROFILE_KEY, .has_identity = true};
    struct chv_registry_answer answer;
    OK(chv_registry_lookup(r, &claim, 1, &answer, NULL));
    CU_ASSERT(answer.verdict == CHV_VERDICT_OK && answer.has_scopes && answer.client.scope_count == 0);
    claim.id = "cam2";
    OK(chv_registry_lookup(r, &claim, 1, &answer, NULL));
    CU_ASSERT(answer.known && !answer.has_scopes);
    claim.id = NULL; /* keys are not in it */
    OK(chv_registry_lookup(r, &claim, 1, &answer, NULL));
    CU_ASSERT(answer.verdict == CHV_VERDICT_OK && !answer.known);
    CU_ASSERT_EQUAL(count_clients(r), 5);
    /* nothing can be changed here, nor asked that it does not have */
    struct chv_registry_epoch epoch;
    struct chv_audit_seal seal;
    struct chv_audit_report report;
    FAILS(chv_registry_begin(r, &why), UNSUPPORTED);
    check_why(&why, "edit the file");
    FAILS(chv_registry_seen(r, NULL, 0, "x", &why), UNSUPPORTED);
    FAILS(chv_registry_get_by_key(r, CHV_CURVE_25519, c.identity, &c, &why), UNSUPPORTED);
    FAILS(chv_registry_changed(r, 0, NULL, NULL, &why), UNSUPPORTED);
    FAILS(chv_registry_epoch_get(r, 1, &epoch, &why), UNSUPPORTED);
    FAILS(chv_registry_epoch_list(r, NULL, NULL, &why), UNSUPPORTED);
    FAILS(chv_registry_epoch_usage(r, NULL, NULL, &why), UNSUPPORTED);
    FAILS(chv_registry_audit_list(r, 1, NULL, NULL, &why), UNSUPPORTED);
    FAILS(chv_registry_seal_get(r, &seal, &why), UNSUPPORTED);
    FAILS(chv_registry_verify(r, NULL, NULL, &report, &why), UNSUPPORTED);
    FAILS(chv_registry_put(r, &c, &why), STATE);
    CU_ASSERT_EQUAL(chv_registry_fd(r), -1);
    chv_registry_close(r);
}

/* Two lines about one client: the stricter of both, whichever stands first. */
static void test_twice(void)
{
    struct chv_registry *r = open_text(test_path("twice"), "a 1.2\na *\nb 3.1 scopes=files:ro,message\n"
                                                           "b 2.9 scopes=message,tunnel:x because\n");
    struct chv_registry_client c;
    CU_ASSERT_EQUAL(verdict(r, "a", 5, 5), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "b", 3, 0), CHV_VERDICT_SUPERSEDED);
    CU_ASSERT_EQUAL(verdict(r, "b", 3, 1), CHV_VERDICT_OK);
    OK(chv_registry_get(r, "b", &c, NULL));
    CU_ASSERT_EQUAL(c.scope_count, 1);
    CU_ASSERT_STRING_EQUAL(c.scopes[0], "message");
    CU_ASSERT_STRING_EQUAL(c.reason, "because");
    CU_ASSERT_EQUAL(count_clients(r), 2);
    chv_registry_close(r);
}

static void test_hostile_lines(void)
{
    static const char *const lines[] = {
        "cam1\n",
        "cam1 \n",
        "cam1 1\n",
        "cam1 1.\n",
        "cam1 .1\n",
        "cam1 0.1\n",
        "cam1 1.0\n",
        "cam1 01.1\n",
        "cam1 1.1x\n",
        "cam1 1.1.1\n",
        "cam1 +1.1\n",
        "cam1 -1.1\n",
        "cam1 4294967296.1\n",
        "cam1 1.4294967296\n",
        "cam1 99999999999999999999.1\n",
        "cam1 **\n",
        "cam1 * scopes=b,a\n",
        "cam1 * scopes=a,a\n",
        "cam1 * scopes=a,\n",
        "cam1 * scopes=,a\n",
        "cam1 * scopes=A\n",
        "cam1 * scopes=a*\n",
        "cam1 * scopes=+a\n",
        "cam1 * \x01\n",
        "cam1 * bad \xff utf\n",
        "cam1 * \x1b[2Jhidden\n",
        "cam1 *\r\n",
        "-cam1 *\n",
        "cam/1 *\n",
        "cam1* *\n",
        "\xef\xbb\xbf-cam1 *\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa *\n", /* 65 */
    };
    const char *path = test_path("hostile");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[512];
        struct chv_registry *r = NULL;
        struct chv_why why = {.text = ""};
        (void)snprintf(text, sizeof text, "good 1.1\n%s", lines[i]);
        write_file(path, text);
        enum chv_err err = try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why);
        if (err != CHV_ERR_MALFORMED)
            (void)fprintf(stderr, "accepted: %s", lines[i]);
        CU_ASSERT_EQUAL(err, CHV_ERR_MALFORMED);
        check_why(&why, "line 2 ");
        chv_registry_close(r);
    }
    char line[256];
    for (int len = 120; len <= 121; len++) { /* the longest reason, and one byte more */
        struct chv_registry *long_one = NULL;
        (void)snprintf(line, sizeof line, "cam1 * %.*d\n", len, 1);
        write_file(path, line);
        CU_ASSERT_EQUAL(try_open(uri_of(path), CHV_REGISTRY_READ, &long_one, NULL),
                        len == 120 ? CHV_OK : CHV_ERR_MALFORMED);
        chv_registry_close(long_one);
    }
    FILE *out = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT(fwrite("cam1 *\0 hidden\n", 1, 15, out) == 15); /* a NUL */
    (void)fclose(out);
    struct chv_registry *r = NULL;
    struct chv_why why;
    FAILS(try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why), MALFORMED);
    check_why(&why, "NUL");
    out = fopen(path, "w"); /* a line without an end */
    for (int i = 0; i < 10000; i++)
        (void)fputc('a', out);
    (void)fclose(out);
    FAILS(try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why), MALFORMED);
    check_why(&why, "too long");
}

static bool opens_for(const char *path, uid_t owner)
{
    const struct chv_registry_options options = {.mode = CHV_REGISTRY_READ, .owner = owner};
    struct chv_registry *r = NULL;
    enum chv_err err = chv_registry_open(uri_of(path), &options, &r, NULL);
    CU_ASSERT(err == CHV_OK || err == CHV_ERR_STORE_MODE);
    chv_registry_close(r);
    return err == CHV_OK;
}

/* The file is user 12345's, its folder root's; root reads it. */
static void check_owners(const char *path)
{
    char folder[512], inside[600];
    CU_ASSERT_TRUE(opens_for(path, 12345));
    CU_ASSERT_FALSE(opens_for(path, 54321));
    (void)snprintf(folder, sizeof folder, "%s.d", path);
    (void)snprintf(inside, sizeof inside, "%s/revoked", folder);
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0755), 0);
    write_file(inside, "a *\n");
    CU_ASSERT_EQUAL(chmod(inside, 0644), 0);
    CU_ASSERT_EQUAL(chown(inside, 12345, 12345), 0);
    CU_ASSERT_FALSE(opens_for(inside, 0));
    CU_ASSERT_EQUAL(chown(folder, 54321, 54321), 0);
    CU_ASSERT_FALSE(opens_for(inside, 0));
    CU_ASSERT_EQUAL(chown(folder, 12345, 12345), 0);
    CU_ASSERT_TRUE(opens_for(inside, 0));
    CU_ASSERT_EQUAL(chmod(inside, 0666), 0);
    CU_ASSERT_FALSE(opens_for(inside, 12345));
}

static void test_files(void)
{
    const char *path = test_path("files");
    struct chv_registry *r = NULL;
    struct chv_why why;
    FAILS(try_open(uri_of(test_path("none")), CHV_REGISTRY_READ, &r, &why), NOT_FOUND);
    FAILS(try_open("revoked:", CHV_REGISTRY_READ, &r, &why), CONFIG);
    FAILS(try_open(uri_of(test_folder()), CHV_REGISTRY_READ, &r, &why), CONFIG);
    FAILS(try_open(uri_of(path), CHV_REGISTRY_CREATE, &r, &why), UNSUPPORTED);
    write_file(path, "a *\n");
    CU_ASSERT_EQUAL(chmod(path, 0620), 0);
    FAILS(try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why), STORE_MODE);
    check_why(&why, "chmod go-w");
    CU_ASSERT_EQUAL(chmod(path, 0644), 0);
    OK(try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why));
    if (geteuid() == 0) { /* only root can give a file away */
        bool changed = false;
        CU_ASSERT_EQUAL(chown(path, 12345, 12345), 0);
        FAILS(chv_registry_poll(r, &changed, &why), STORE_MODE);
        check_why(&why, "belongs to user 12345");
        chv_registry_close(r);
        r = NULL;
        FAILS(try_open(uri_of(path), CHV_REGISTRY_READ, &r, &why), STORE_MODE);
        check_why(&why, "give it to root");
        check_owners(path);
    }
    chv_registry_close(r);
}

static void replace(const char *path, const char *text)
{
    const char *beside = test_path("beside");
    write_file(beside, text);
    CU_ASSERT_EQUAL(rename(beside, path), 0);
}

static void test_reload(void)
{
    const char *path = test_path("reload");
    struct chv_registry *r = open_text(path, "a *\n");
    struct chv_registry_info info;
    struct chv_why why;
    bool changed = false;
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed);
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_FALSE(changed);
    CU_ASSERT_EQUAL(verdict(r, "b", 1, 1), CHV_VERDICT_OK);
    replace(path, "b *\n");
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed);
    CU_ASSERT_EQUAL(verdict(r, "b", 1, 1), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_OK);
    OK(chv_registry_info(r, &info, NULL));
    CU_ASSERT_EQUAL(info.generation, 2);
    /* a mistake in the file, or the file gone: said once, and what was denied stays denied */
    replace(path, "c *\nd oops\n");
    FAILS(chv_registry_poll(r, &changed, &why), MALFORMED);
    check_why(&why, "line 2");
    check_why(&why, "stay in force");
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_FALSE(changed);
    CU_ASSERT_EQUAL(verdict(r, "b", 1, 1), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "c", 1, 1), CHV_VERDICT_OK);
    CU_ASSERT_EQUAL(unlink(path), 0);
    FAILS(chv_registry_poll(r, &changed, &why), NOT_FOUND);
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_EQUAL(verdict(r, "b", 1, 1), CHV_VERDICT_REVOKED);
    replace(path, "c *\n");
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed);
    CU_ASSERT_EQUAL(verdict(r, "c", 1, 1), CHV_VERDICT_REVOKED);
    CU_ASSERT_EQUAL(verdict(r, "b", 1, 1), CHV_VERDICT_OK);
    chv_registry_close(r);
}

/* Every kind of denial survives into the snapshot; who is not denied is not in it. */
static void test_snapshot(void)
{
    struct chv_registry *db = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    const char *path = test_path("snapshot");
    const char *const ids[] = {"active", "suspended", "revoked", "removed", "raised", "narrowed", "tricky"};
    struct stat st;
    for (size_t i = 0; i < 7; i++) {
        struct chv_registry_client c = make_client(ids[i], 1, 1);
        if (i >= 1 && i <= 3)
            c.status = (enum chv_client_status)(i + 1);
        if (i == 2)
            (void)snprintf(c.reason, sizeof c.reason, "%s", "roubado em Évora # 3");
        if (i == 4)
            c.minimum = c.latest = (struct chv_issue){2, 3};
        if (i == 5) {
            c.flags = CHV_CLIENT_NARROWED;
            (void)snprintf(c.reason, sizeof c.reason, "%s", "only reading");
        }
        if (i == 4) { /* the line is about the old credential, too */
            c.flags = CHV_CLIENT_NARROWED_OLD;
            c.held[0] = true;
        }
        if (i == 6) {
            c.status = CHV_CLIENT_REVOKED;
            (void)snprintf(c.reason, sizeof c.reason, "%s", "scopes=tunnel:all");
        }
        OK(put_client(db, &c, NULL));
    }
    OK(chv_registry_snapshot_write(db, path, NULL));
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    char *text = read_file(path);
    CU_ASSERT_STRING_EQUAL(text, "# deny snapshot of generation 7\n"
                                 "narrowed 1.1 scopes=files:ro,message only reading\n"
                                 "raised 2.3 scopes=message\n"
                                 "removed * removed\n"
                                 "revoked * roubado em Évora # 3\n"
                                 "suspended * suspended\n"
                                 "tricky *\n");
    free(text);
    struct chv_registry *r = open_mode(uri_of(path), CHV_REGISTRY_READ);
    for (size_t i = 0; i < 7; i++) {
        bool denied = i == 2 || i == 3 || i == 6;
        CU_ASSERT_EQUAL(verdict(r, ids[i], 3, 1), denied   ? CHV_VERDICT_REVOKED
                                                  : i == 1 ? CHV_VERDICT_SUSPENDED
                                                           : CHV_VERDICT_OK);
    }
    CU_ASSERT_EQUAL(verdict(r, "raised", 2, 2), CHV_VERDICT_SUPERSEDED);
    struct chv_registry_client c;
    OK(chv_registry_get(r, "narrowed", &c, NULL));
    CU_ASSERT(c.flags == CHV_CLIENT_NARROWED && c.scope_count == 2);
    OK(chv_registry_get(r, "revoked", &c, NULL));
    CU_ASSERT_STRING_EQUAL(c.reason, "roubado em Évora # 3");
    chv_registry_close(r);
    chv_registry_close(db);
    r = open_text(test_path("empty"), "");
    FAILS(chv_registry_snapshot_write(r, test_path("no/where"), NULL), IO);
    chv_registry_close(r);
}

/* Suspended stays suspended and revoked stays revoked, whatever the reason says, and the reason is as it was. */
static void test_snapshot_words(void)
{
    static const struct {
        const char *id;
        enum chv_client_status status;
        const char *reason;
    } rows[] = {
        {"a", CHV_CLIENT_SUSPENDED, "in repair"},
        {"b", CHV_CLIENT_SUSPENDED, "suspended"},
        {"c", CHV_CLIENT_SUSPENDED, "scopes=message"},
        {"d", CHV_CLIENT_SUSPENDED, "revoked: not yet"},
        {"e", CHV_CLIENT_REVOKED, "suspended"},
        {"f", CHV_CLIENT_REVOKED, "suspended: in June"},
        {"g", CHV_CLIENT_REVOKED, "suspended:in June"},
        {"h", CHV_CLIENT_REVOKED, "revoked: twice"},
        {"i", CHV_CLIENT_SUSPENDED, NULL}, /* the longest */
        {"j", CHV_CLIENT_SUSPENDED, ""},
    };
    struct chv_registry *db = open_mode(fresh_sqlite(), CHV_REGISTRY_CREATE);
    const char *path = test_path("words");
    char longest[CHV_REGISTRY_REASON_MAX + 1] = "";
    memset(longest, 'x', sizeof longest - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct chv_registry_client c = make_client(rows[i].id, 1, 1);
        c.status = rows[i].status;
        (void)snprintf(c.reason, sizeof c.reason, "%s", rows[i].reason != NULL ? rows[i].reason : longest);
        OK(put_client(db, &c, NULL));
    }
    OK(chv_registry_snapshot_write(db, path, NULL));
    struct chv_registry *r = open_mode(uri_of(path), CHV_REGISTRY_READ);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct chv_registry_client c;
        OK(chv_registry_get(r, rows[i].id, &c, NULL));
        CU_ASSERT_EQUAL(c.status, rows[i].status);
        CU_ASSERT_STRING_EQUAL(c.reason, rows[i].reason != NULL ? rows[i].reason : longest);
    }
    chv_registry_close(r);
    chv_registry_close(db);
}

static void test_snapshot_malformed(void)
{
    const char *uri = fresh_sqlite(), *path = test_path("snapshot2");
    struct chv_registry *db = open_mode(uri, CHV_REGISTRY_CREATE);
    struct chv_registry_client c = make_client("a", 1, 1);
    OK(put_client(db, &c, NULL));
    run_sql(uri, "UPDATE clients SET status = 9");
    OK(chv_registry_snapshot_write(db, path, NULL));
    struct chv_registry *r = open_mode(uri_of(path), CHV_REGISTRY_READ);
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_REVOKED);
    chv_registry_close(r);
    /* a snapshot that cannot be written leaves the one before */
    run_sql(uri, "DROP TABLE clients");
    CU_ASSERT_NOT_EQUAL(chv_registry_snapshot_write(db, path, NULL), CHV_OK);
    r = open_mode(uri_of(path), CHV_REGISTRY_READ);
    CU_ASSERT_EQUAL(verdict(r, "a", 1, 1), CHV_VERDICT_REVOKED);
    chv_registry_close(r);
    chv_registry_close(db);
}

TEST_MAIN("registry none", {"lines", test_lines}, {"two lines about one", test_twice},
          {"hostile lines", test_hostile_lines}, {"files", test_files}, {"read again when it changes", test_reload},
          {"snapshot", test_snapshot}, {"words in the snapshot", test_snapshot_words},
          {"snapshot of malformed rows", test_snapshot_malformed})
