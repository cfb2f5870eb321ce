/* SPDX-License-Identifier: Apache-2.0 */
/* As contract.c: epochs, schema versions, and tables that somebody else wrote to. */
#include "tests/registry/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static enum chv_err add_epoch(void *arg, const struct chv_registry_epoch *epoch)
{
    *(uint64_t *)arg = *(uint64_t *)arg * 10 + epoch->epoch;
    return CHV_OK;
}

static enum chv_err add_usage(void *arg, uint32_t epoch, uint64_t clients)
{
    *(uint64_t *)arg = *(uint64_t *)arg * 100 + epoch * 10 + clients;
    return CHV_OK;
}

static void test_epochs(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_epoch e = {.epoch = 2, .status = CHV_EPOCH_ACTIVE, .created = 5, .has_check = true}, got;
        struct chv_audit_row row = make_audit("epoch-new", "");
        struct chv_why why;
        uint64_t order = 0;
        memset(e.check, 0xab, sizeof e.check);
        FAILS(chv_registry_epoch_get(r, 2, &got, &why), NOT_FOUND);
        FAILS(chv_registry_epoch_put(r, &e, &why), STATE);
        OK(chv_registry_begin(r, NULL));
        OK(chv_registry_epoch_put(r, &e, NULL));
        e.epoch = 1;
        e.has_check = false;
        e.status = CHV_EPOCH_COMPROMISED;
        e.ended = 6;
        OK(chv_registry_epoch_put(r, &e, NULL));
        e.epoch = 0;
        FAILS(chv_registry_epoch_put(r, &e, &why), ARGUMENT);
        OK(chv_registry_audit(r, &row, NULL));
        OK(chv_registry_commit(r, NULL));
        OK(chv_registry_epoch_get(r, 2, &got, NULL));
        CU_ASSERT(got.has_check && got.check[15] == 0xab && got.status == CHV_EPOCH_ACTIVE && got.created == 5);
        OK(chv_registry_epoch_get(r, 1, &got, NULL));
        CU_ASSERT(!got.has_check && got.status == CHV_EPOCH_COMPROMISED && got.ended == 6);
        OK(chv_registry_epoch_list(r, add_epoch, &order, NULL));
        CU_ASSERT_EQUAL(order, 12);

        const char *const ids[] = {"a", "b", "c", "d", "e"};
        for (unsigned i = 0; i < 5; i++) {
            struct chv_registry_client c = make_client(ids[i], i < 3 ? 1 : 2, 1);
            if (i == 1) { /* issued anew, not used yet: still of epoch 1 */
                c.latest = (struct chv_issue){2, 2};
                c.confirmed = (struct chv_issue){1, 1};
            }
            if (i == 2)
                c.status = CHV_CLIENT_REVOKED;
            OK(put_client(r, &c, NULL));
        }
        order = 0;
        OK(chv_registry_epoch_usage(r, add_usage, &order, NULL));
        CU_ASSERT_EQUAL(order, 1222);
        chv_registry_close(r);
    }
}

/* A row that somebody else wrote: an error that names the id, and a verdict that denies. */
static void test_malformed_rows(void)
{
    static const char *const changes[] = {
        "status = 9",           "status = -1",
        "profile = 0",          "flags = 64",
        "scopes = 'message *'", "scopes = 'message files:ro'",
        "scopes = 'a  b'",      "not_after = -5",
        "latest_serial = 0",    "latest_epoch = 4294967296",
        "identity = 'zz'",      "identity_curve = 1",
        "identity_curve = 7",   "minimum_serial = 0",
        "last_seen = -1",       "reason = 'two' || chr(10) || 'lines'",
    };
    FOR_EACH_KIND
    {
        bool sqlite = strncmp(uri, "sqlite:", 7) == 0;
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_claim claim = {.id = "b", .profile = CHV_PROFILE_PSK, .issue = {1, 1}};
        const char *const ids[] = {"a", "b", "c"};
        for (size_t i = 0; i < 3; i++) {
            struct chv_registry_client c = make_client(ids[i], 1, 1);
            OK(put_client(r, &c, NULL));
        }
        run_sql(uri, "CREATE TABLE kept AS SELECT * FROM clients WHERE id = 'b'");
        for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
            char sql[256];
            struct chv_registry_client got;
            struct chv_registry_answer answer;
            struct chv_why why;
            struct id_list listed = {.n = 0};
            const char *change =
                sqlite && strstr(changes[i], "chr(") != NULL ? "reason = 'two' || char(10) || 'lines'" : changes[i];
            (void)snprintf(sql, sizeof sql, "UPDATE clients SET %s WHERE id = 'b'", change);
            run_sql(uri, sql);
            FAILS(chv_registry_get(r, "b", &got, &why), MALFORMED);
            check_why(&why, "client b is malformed");
            OK(chv_registry_lookup(r, &claim, 1800000000, &answer, NULL));
            CU_ASSERT_EQUAL(answer.verdict, CHV_VERDICT_MALFORMED);
            CU_ASSERT_STRING_EQUAL(answer.client.id, "b");
            const struct chv_registry_filter suspended = {.statuses = ~0u};
            FAILS(chv_registry_list(r, &suspended, add_id, &listed, &why), MALFORMED);
            check_why(&why, "client b");
            CU_ASSERT_STRING_EQUAL(listed.text, "a !b c ");
            see_client(r, "b", 2, 1, 300); /* passed over */
            run_sql(uri, "DELETE FROM clients WHERE id = 'b'; INSERT INTO clients SELECT * FROM kept");
        }
        run_sql(uri, "UPDATE clients SET id = 'b b' WHERE id = 'b'");
        struct id_list listed = {.n = 0};
        struct chv_why why;
        FAILS(chv_registry_list(r, &(struct chv_registry_filter){0}, add_id, &listed, &why), MALFORMED);
        CU_ASSERT_STRING_EQUAL(listed.text, "a c ");
        chv_registry_close(r);
    }
}

static void test_malformed_meta(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_info info;
        struct chv_registry_epoch epoch;
        struct chv_why why;
        run_sql(uri, "INSERT INTO epochs (epoch, status, created, ended) VALUES (3, 77, 1, 0)");
        FAILS(chv_registry_epoch_get(r, 3, &epoch, &why), DAMAGED);
        check_why(&why, "epochs");
        run_sql(uri, "UPDATE meta SET audit_hash = 'short'");
        FAILS(chv_registry_info(r, &info, &why), DAMAGED);
        FAILS(chv_registry_begin(r, &why), DAMAGED);
        run_sql(uri, "DELETE FROM meta");
        FAILS(chv_registry_info(r, &info, &why), DAMAGED);
        check_why(&why, "meta");
        chv_registry_close(r);
    }
}

static void test_schema_versions(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_why why;
        chv_registry_close(r);
        run_sql(uri, "INSERT INTO migrations (version, applied) VALUES (7, 1)");
        FAILS(try_open(uri, CHV_REGISTRY_WRITE, &r, &why), UNSUPPORTED);
        check_why(&why, "version 7");
        check_why(&why, "upgrade this program");
        FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), UNSUPPORTED);
        FAILS(try_open(uri, CHV_REGISTRY_CREATE, &r, &why), UNSUPPORTED);
        /* version 0: the table of migrations alone */
        run_sql(uri, "DELETE FROM migrations; DROP TABLE meta; DROP TABLE clients; DROP TABLE epochs; DROP TABLE audit;"
                     "DROP TABLE seal");
        FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), UNSUPPORTED);
        check_why(&why, "version 0");
        r = open_mode(uri, CHV_REGISTRY_WRITE);
        struct chv_registry_client c = make_client("a", 1, 1);
        OK(put_client(r, &c, NULL));
        chv_registry_close(r);
    }
}

TEST_MAIN("registry tables", {"epochs", test_epochs}, {"malformed rows deny", test_malformed_rows},
          {"malformed tables", test_malformed_meta}, {"schema versions", test_schema_versions})
