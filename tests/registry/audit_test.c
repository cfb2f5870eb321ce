/* SPDX-License-Identifier: Apache-2.0 */
/* The audit trail: whatever is done to it behind our back is found, and the first wrong row is named. */
#include "tests/registry/support.h"

#include <stdio.h>
#include <string.h>

#include "base/encode.h"

/* A registry with `n` rows in its trail. */
static struct chv_registry *with_rows(const char *uri, unsigned n)
{
    struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
    OK(chv_registry_begin(r, NULL));
    for (unsigned i = 1; i <= n; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "c%u", i);
        struct chv_audit_row row = make_audit("add", id);
        OK(chv_registry_audit(r, &row, NULL));
        CU_ASSERT_EQUAL(row.n, i);
    }
    OK(chv_registry_commit(r, NULL));
    return r;
}

/* The hash that the documentation promises, computed by hand for the first row. */
static void test_hash(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_audit_row row = {.time = 0x01020304, .actor = "me", .action = "add", .id = "a", .details = "{}"};
        static const uint8_t canonical[32 + 8 + 8 + 3 + 4 + 2 + 2 + 2] = {
            [39] = 1,   [44] = 1,   [45] = 2,   [46] = 3, [47] = 4,   [48] = 2, [49] = 'm', [50] = 'e', [51] = 3,
            [52] = 'a', [53] = 'd', [54] = 'd', [55] = 1, [56] = 'a', [58] = 2, [59] = '{', [60] = '}'};
        const struct chv_part part = {canonical, sizeof canonical};
        uint8_t wanted[CHV_AUDIT_HASH_LEN];
        OK(chv_crypto_hash(test_crypto(), CHV_HASH_SHA256, &part, 1, wanted));
        OK(chv_registry_begin(r, NULL));
        OK(chv_registry_audit(r, &row, NULL));
        OK(chv_registry_commit(r, NULL));
        CU_ASSERT_EQUAL(memcmp(row.hash, wanted, sizeof wanted), 0);
        chv_registry_close(r);
    }
}

static void test_seal(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_audit_report report;
        struct chv_audit_seal seal, got;
        struct chv_why why;
        uint8_t other = 7;
        FAILS(chv_registry_seal(r, 1, 5, test_mac, NULL, NULL, &why), NOT_FOUND);
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        CU_ASSERT(report.rows == 0 && report.sealed == 0 && report.first_bad == 0);
        chv_registry_close(r);
        r = with_rows(uri, 3);
        OK(chv_registry_seal(r, 1, 5, test_mac, NULL, &seal, NULL));
        CU_ASSERT_EQUAL(seal.n, 3);
        OK(chv_registry_seal_get(r, &got, NULL));
        CU_ASSERT(got.n == 3 && got.epoch == 1 && got.time == 5 && memcmp(got.mac, seal.mac, sizeof got.mac) == 0);
        struct chv_registry_client c = make_client("x", 1, 1);
        OK(put_client(r, &c, NULL));
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        CU_ASSERT(report.rows == 4 && report.sealed == 3);
        FAILS(chv_registry_verify(r, test_mac, &other, &report, &why), AUTH); /* another master */
        check_why(&why, "this master did not make");
        OK(chv_registry_seal(r, 2, 6, test_mac, NULL, &seal, NULL));
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        CU_ASSERT_EQUAL(report.sealed, 4);
        run_sql(uri, "UPDATE seal SET time = 7");
        FAILS(chv_registry_verify(r, test_mac, NULL, &report, &why), AUTH);
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL)); /* without the key only the chain is looked at */
        FAILS(chv_registry_seal(r, 1, 8, test_mac, NULL, NULL, &why), AUTH);
        run_sql(uri, "UPDATE seal SET mac = 'x'");
        FAILS(chv_registry_verify(r, NULL, NULL, &report, &why), AUTH);
        chv_registry_close(r);
    }
}

static const struct chv_audit_seal unknown = {.n = 0};

/* What who has no key does: the MAC comes from elsewhere. */
static enum chv_err seal_in_steps(struct chv_registry *r, const struct chv_audit_seal *known,
                                  struct chv_audit_seal *next, struct chv_why *why)
{
    struct chv_audit_seal stands;
    uint8_t message[CHV_AUDIT_SEAL_MESSAGE_LEN];
    enum chv_err err = chv_registry_seal_begin(r, 1, 5, known, &stands, next, why);
    if (err != CHV_OK || next->n == stands.n)
        return err;
    chv_audit_seal_message(next, message);
    OK(test_mac(NULL, 1, message, sizeof message, next->mac, NULL));
    return chv_registry_seal_put(r, &stands, next, why);
}

static void test_seal_in_steps(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_audit_report report;
        struct chv_audit_seal stands, next, again;
        struct chv_registry_info before, after;
        struct chv_why why;
        OK(chv_registry_seal_begin(r, 1, 5, &unknown, &stands, &next, NULL));
        CU_ASSERT(stands.n == 0 && next.n == 0);
        chv_registry_close(r);
        r = with_rows(uri, 3);
        OK(chv_registry_info(r, &before, NULL));
        OK(seal_in_steps(r, &unknown, &next, NULL));
        CU_ASSERT(next.n == 3 && next.epoch == 1 && next.time == 5);
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        CU_ASSERT(report.rows == 3 && report.sealed == 3);
        OK(chv_registry_info(r, &after, NULL));
        CU_ASSERT_EQUAL(after.generation, before.generation); /* nobody was changed */
        struct chv_registry_client c = make_client("x", 1, 1);
        OK(put_client(r, &c, NULL));
        OK(chv_registry_seal_begin(r, 1, 6, &next, &stands, &again, NULL));
        CU_ASSERT(stands.n == 3 && memcmp(stands.mac, next.mac, sizeof next.mac) == 0 && again.n == 4);
        OK(put_client(r, &c, NULL)); /* what comes meanwhile is sealed the next time */
        OK(chv_registry_seal_put(r, &stands, &again, NULL));
        FAILS(chv_registry_verify(r, test_mac, NULL, &report, &why), AUTH); /* nobody has made its MAC */
        OK(seal_in_steps(r, &again, &next, NULL));
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        CU_ASSERT(report.rows == 5 && report.sealed == 5);
        FAILS(chv_registry_seal_put(r, &stands, &again, &why), EXISTS); /* another one stands by now */
        check_why(&why, "somebody else has sealed");
        chv_registry_close(r);
    }
}

/* Rows behind the seal, the seal itself, and what was seen before. */
static void test_steps_vouch_for_no_broken_trail(void)
{
    static const struct tampering {
        const char *sql, *text;
    } tamperings[] = {
        {"UPDATE audit SET actor = 'mallory' WHERE n = 7", "audit row 7 was changed"},
        {"DELETE FROM audit WHERE n = 7", "audit row 7 is missing"},
        {"DELETE FROM audit WHERE n = 5", "audit row 5 is missing"},
        {"DELETE FROM audit WHERE n > 4", "is missing"},
        {"UPDATE audit SET hash = '00' WHERE n = 5", "audit row 5"},
        {"UPDATE seal SET hash = (SELECT hash FROM audit WHERE n = 4)", "not the one that was sealed"},
        {"UPDATE meta SET audit_hash = '0000000000000000000000000000000000000000000000000000000000000001'",
         "not the last one"},
        {"DELETE FROM audit WHERE n = 8; UPDATE meta SET audit_n = 7, audit_hash = (SELECT hash FROM audit WHERE n = "
         "7)",
         "cut off"},
        /* a trail of other rows that fits in itself, with no seal: only who saw it before knows */
        {"DELETE FROM seal; UPDATE audit SET n = n + 100; DELETE FROM audit WHERE n <> 101; UPDATE audit SET n = 1;"
         "UPDATE meta SET audit_n = 1, audit_hash = (SELECT hash FROM audit WHERE n = 1)",
         "cut off"},
    };
    for (size_t i = 0; i < sizeof tamperings / sizeof tamperings[0]; i++)
        for (size_t kind = 0; kind < (have_postgresql() ? 2 : 1); kind++) {
            const char *uri = fresh_registry(kind);
            struct chv_registry *r = with_rows(uri, 5);
            struct chv_audit_seal known, stands, next;
            struct chv_why why;
            OK(chv_registry_seal(r, 1, 5, test_mac, NULL, NULL, NULL));
            struct chv_registry_client c = make_client("x", 1, 1);
            for (unsigned n = 0; n < 3; n++)
                OK(put_client(r, &c, NULL));
            OK(chv_registry_seal_begin(r, 1, 5, &unknown, &stands, &known, NULL));
            CU_ASSERT_EQUAL(known.n, 8);
            run_sql(uri, tamperings[i].sql);
            FAILS(chv_registry_seal_begin(r, 1, 5, &known, &stands, &next, &why), AUTH);
            check_why(&why, tamperings[i].text);
            chv_registry_close(r);
        }
}

static const struct tampering {
    const char *name, *sql;
    uint64_t first_bad;
    const char *text;
} tamperings[] = {
    {"actor", "UPDATE audit SET actor = 'mallory' WHERE n = 4", 4, "audit row 4 was changed"},
    {"details", "UPDATE audit SET details = '{}' WHERE n = 1", 1, "audit row 1 was changed"},
    {"time", "UPDATE audit SET time = time + 1 WHERE n = 9", 9, "audit row 9"},
    {"id", "UPDATE audit SET id = 'c3' WHERE n = 2", 2, "audit row 2"},
    {"hash", "UPDATE audit SET hash = '00' WHERE n = 5", 5, "audit row 5"},
    {"deleted", "DELETE FROM audit WHERE n = 6", 6, "audit row 6 is missing"},
    {"first deleted", "DELETE FROM audit WHERE n = 1", 1, "audit row 1 is missing"},
    {"renumbered", "DELETE FROM audit WHERE n = 6; UPDATE audit SET n = 6 WHERE n = 7", 6, "audit row 6"},
    {"moved",
     "UPDATE audit SET n = 100 WHERE n = 3; UPDATE audit SET n = 3 WHERE n = 4;"
     "UPDATE audit SET n = 4 WHERE n = 100",
     3, "audit row 3"},
    {"cut off", "DELETE FROM audit WHERE n > 7", 8, "cut off"},
    {"emptied", "DELETE FROM audit", 1, "cut off"},
    {"last edited", "UPDATE audit SET action = 'x' WHERE n = 10", 10, "audit row 10"},
    {"head", "UPDATE meta SET audit_hash = '0000000000000000000000000000000000000000000000000000000000000001'", 10,
     "not the last one"},
    {"head moved back", "UPDATE meta SET audit_n = 9", 9, "not the last one"},
    /* the head made to fit: what is above the seal can be cut off by who can write, and only the mark tells; below not */
    {"cut off below the seal, head made to fit",
     "DELETE FROM audit WHERE n > 7; UPDATE meta SET audit_n = 7, audit_hash = (SELECT hash FROM audit WHERE n = 7)", 8,
     "below its seal"},
};

static void check_tampering(const char *uri, const struct tampering *t, bool sealed)
{
    struct chv_registry *r = with_rows(uri, 8);
    struct chv_audit_report report;
    struct chv_why why;
    if (sealed)
        OK(chv_registry_seal(r, 1, 5, test_mac, NULL, NULL, NULL));
    struct chv_registry_client c = make_client("x", 1, 1);
    OK(put_client(r, &c, NULL));
    c.status = CHV_CLIENT_SUSPENDED;
    OK(put_client(r, &c, NULL));
    OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
    run_sql(uri, t->sql);
    enum chv_err err = chv_registry_verify(r, test_mac, NULL, &report, &why);
    CU_ASSERT_EQUAL(err, CHV_ERR_AUTH);
    if (err != CHV_ERR_AUTH || report.first_bad != t->first_bad)
        (void)fprintf(stderr, "%s: %s: row %u\n", t->name, chv_err_name(err), (unsigned)report.first_bad);
    CU_ASSERT_EQUAL(report.first_bad, t->first_bad);
    check_why(&why, t->text);
    FAILS(chv_registry_seal(r, 1, 6, test_mac, NULL, NULL, &why), AUTH); /* vouches for no broken trail */
    chv_registry_close(r);
}

static void test_tampering(void)
{
    for (size_t i = 0; i < sizeof tamperings / sizeof tamperings[0]; i++)
        for (size_t kind = 0; kind < (have_postgresql() ? 2 : 1); kind++)
            check_tampering(fresh_registry(kind), &tamperings[i], i + 1 == sizeof tamperings / sizeof tamperings[0]);
}

/* The whole trail written anew with right hashes: only the seal knows. */
static void test_rewritten(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = with_rows(uri, 3);
        struct chv_audit_report report;
        struct chv_why why;
        OK(chv_registry_seal(r, 1, 5, test_mac, NULL, NULL, NULL));
        chv_registry_close(r);
        run_sql(uri, "DELETE FROM audit; UPDATE meta SET audit_n = 0, audit_hash = "
                     "'0000000000000000000000000000000000000000000000000000000000000000'");
        r = with_rows(uri, 5);
        /* they are the same three rows: the seal's hash fits again, and it is right to */
        OK(chv_registry_verify(r, test_mac, NULL, &report, NULL));
        chv_registry_close(r);
        run_sql(uri, "DELETE FROM audit; UPDATE meta SET audit_n = 0, audit_hash = "
                     "'0000000000000000000000000000000000000000000000000000000000000000'");
        r = open_mode(uri, CHV_REGISTRY_WRITE);
        struct chv_registry_client c = make_client("x", 1, 1);
        for (unsigned i = 0; i < 4; i++)
            OK(put_client(r, &c, NULL));
        FAILS(chv_registry_verify(r, test_mac, NULL, &report, &why), AUTH);
        CU_ASSERT_EQUAL(report.first_bad, 3);
        check_why(&why, "not the one that was sealed");
        chv_registry_close(r);
    }
}

struct listed {
    uint64_t first, n;
};

static enum chv_err list_row(void *arg, const struct chv_audit_row *row)
{
    struct listed *listed = arg;
    if (listed->n++ == 0)
        listed->first = row->n;
    CU_ASSERT_STRING_EQUAL(row->actor, "keyadmin test");
    return CHV_OK;
}

static void test_list(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = with_rows(uri, 600); /* pages */
        struct listed listed = {.n = 0};
        OK(chv_registry_audit_list(r, 0, list_row, &listed, NULL));
        CU_ASSERT(listed.first == 1 && listed.n == 600);
        listed = (struct listed){.n = 0};
        OK(chv_registry_audit_list(r, 599, list_row, &listed, NULL));
        CU_ASSERT(listed.first == 599 && listed.n == 2);
        listed = (struct listed){.n = 0};
        OK(chv_registry_audit_list(r, 601, list_row, &listed, NULL));
        CU_ASSERT_EQUAL(listed.n, 0);
        chv_registry_close(r);
    }
}

/* What does not fit is not taken for what does. */
static void test_overlong(void)
{
    FOR_EACH_KIND
    {
        char sql[CHV_AUDIT_DETAILS_MAX + 200];
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_audit_row row = make_audit("add", "");
        struct chv_audit_report report;
        struct chv_why why;
        memset(row.details, 'x', CHV_AUDIT_DETAILS_MAX);
        row.details[0] = '{';
        row.details[CHV_AUDIT_DETAILS_MAX - 1] = '}';
        OK(chv_registry_begin(r, NULL));
        OK(chv_registry_audit(r, &row, NULL));
        OK(chv_registry_commit(r, NULL));
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
        (void)snprintf(sql, sizeof sql, "UPDATE audit SET details = details || ' and more'");
        run_sql(uri, sql);
        FAILS(chv_registry_verify(r, NULL, NULL, &report, &why), AUTH);
        CU_ASSERT_EQUAL(report.first_bad, 1);
        chv_registry_close(r);
    }
}

static const char *folder_of_mark(void)
{
    return test_folder();
}

static void test_mark(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = with_rows(uri, 3);
        struct chv_registry_client c = make_client("x", 1, 1);
        const char *path = test_path(CHV_REGISTRY_MARK_FILE);
        struct chv_why why = {.text = ""};
        bool older = true;
        (void)remove(path);
        OK(chv_registry_mark_check(r, folder_of_mark(), &older, &why)); /* no mark yet */
        CU_ASSERT_FALSE(older);
        OK(put_client(r, &c, NULL));
        OK(chv_registry_mark_write(r, folder_of_mark(), &why));
        OK(chv_registry_mark_check(r, folder_of_mark(), &older, &why));
        CU_ASSERT_FALSE(older);
        OK(put_client(r, &c, NULL)); /* further on than the mark */
        OK(chv_registry_mark_check(r, folder_of_mark(), &older, &why));
        CU_ASSERT_FALSE(older);
        CU_ASSERT_STRING_EQUAL(why.text, "");
        OK(chv_registry_mark_write(r, folder_of_mark(), &why));
        /* as of before: */
        run_sql(uri, "DELETE FROM audit WHERE n = 5; UPDATE meta SET generation = 1, audit_n = 4, audit_hash = "
                     "(SELECT hash FROM audit WHERE n = 4)");
        OK(chv_registry_mark_check(r, folder_of_mark(), &older, &why));
        CU_ASSERT_TRUE(older);
        check_why(&why, "is older than it was (generation 1, audit row 4; before: 2, 5)");
        /* and changed since: it is as far again, but another past */
        c.status = CHV_CLIENT_REVOKED;
        OK(put_client(r, &c, NULL));
        struct chv_audit_row row = make_audit("other", "");
        OK(chv_registry_begin(r, NULL));
        OK(chv_registry_audit(r, &row, NULL));
        OK(chv_registry_commit(r, NULL));
        run_sql(uri, "UPDATE audit SET hash = '0000000000000000000000000000000000000000000000000000000000000009' "
                     "WHERE n = 5");
        OK(chv_registry_mark_check(r, folder_of_mark(), &older, &why));
        CU_ASSERT_TRUE(older);
        check_why(&why, "audit row 5 is not the one that it was");
        write_file(path, "1 2 three\n");
        FAILS(chv_registry_mark_check(r, folder_of_mark(), &older, &why), CONFIG);
        check_why(&why, "not a registry mark");
        FAILS(chv_registry_mark_write(r, test_path("no/such"), &why), IO);
        (void)remove(path);
        chv_registry_close(r);
    }
}

TEST_MAIN("registry audit", {"hash of a row", test_hash}, {"seal", test_seal}, {"seal in steps", test_seal_in_steps},
          {"steps vouch for no broken trail", test_steps_vouch_for_no_broken_trail},
          {"tampering is found", test_tampering}, {"a trail written anew", test_rewritten}, {"list", test_list},
          {"an overlong row", test_overlong}, {"mark against old backups", test_mark})
