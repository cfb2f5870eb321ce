/* SPDX-License-Identifier: Apache-2.0 */
/* The same cases over every kind of registry that can be written: SQLite, and PostgreSQL where a server is given.  Clients. */
#include "tests/registry/support.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static bool same_client(const struct chv_registry_client *a, const struct chv_registry_client *b)
{
    return strcmp(a->id, b->id) == 0 && a->status == b->status && a->profile == b->profile && a->flags == b->flags &&
           chv_issue_compare(a->minimum, b->minimum) == 0 && chv_issue_compare(a->confirmed, b->confirmed) == 0 &&
           chv_issue_compare(a->latest, b->latest) == 0 && a->not_after == b->not_after &&
           a->scope_count == b->scope_count && memcmp(a->scopes, b->scopes, sizeof a->scopes) == 0 &&
           a->has_identity == b->has_identity && memcmp(a->identity, b->identity, sizeof a->identity) == 0 &&
           strcmp(a->reason, b->reason) == 0 && a->created == b->created;
}

static void test_open(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = NULL;
        struct chv_registry_info info;
        struct chv_why why;
        FAILS(try_open(uri, CHV_REGISTRY_WRITE, &r, &why), NOT_FOUND);
        check_why(&why, "keyadmin registry new");
        FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), NOT_FOUND);
        CU_ASSERT_PTR_NULL(r);
        chv_registry_close(open_mode(uri, CHV_REGISTRY_CREATE));
        chv_registry_close(open_mode(uri, CHV_REGISTRY_CREATE)); /* a second time finds it */
        r = open_mode(uri, CHV_REGISTRY_READ);
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.schema, CHV_REGISTRY_SCHEMA);
        CU_ASSERT_EQUAL(info.generation, 0);
        CU_ASSERT_EQUAL(info.audit_n, 0);
        FAILS(chv_registry_begin(r, &why), STATE);
        CU_ASSERT_EQUAL(chv_registry_traits(r), CHV_REGISTRY_COMPLETE | CHV_REGISTRY_WRITABLE);
        chv_registry_close(r);
    }
    struct chv_registry *r = NULL;
    struct chv_why why;
    FAILS(try_open("mysql://x/y", CHV_REGISTRY_READ, &r, &why), CONFIG);
    check_why(&why, "sqlite, postgresql, revoked");
    FAILS(try_open("sqlite:", CHV_REGISTRY_READ, &r, &why), CONFIG);
    FAILS(try_open("postgresql://a:geheim@h/d", CHV_REGISTRY_READ, &r, &why), CONFIG);
    CU_ASSERT_PTR_NULL(strstr(why.text, "geheim"));
    check_why(&why, "PGPASSFILE");
    chv_registry_close(NULL);
}

static void test_round_trip(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client c = make_client("cam1", 1, 1), got;
        struct chv_registry_info info;
        OK(put_client(r, &c, NULL));
        OK(chv_registry_get(r, "cam1", &got, NULL));
        CU_ASSERT(same_client(&got, &c));
        CU_ASSERT_EQUAL(got.changed, 1);
        c.status = CHV_CLIENT_REVOKED;
        c.profile = CHV_PROFILE_KEY_PSK;
        c.flags = CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED;
        c.latest = c.minimum = (struct chv_issue){2, 7};
        c.confirmed = (struct chv_issue){1, 1};
        c.not_after = INT64_MAX;
        c.scope_count = 0;
        memset(c.scopes, 0, sizeof c.scopes);
        c.has_identity = true;
        c.identity_curve = CHV_CURVE_P256;
        memset(c.identity, 9, sizeof c.identity);
        c.identity[0] = 4;
        (void)snprintf(c.reason, sizeof c.reason, "%s", "roubado em Évora; 'quoted'");
        OK(put_client(r, &c, NULL));
        OK(chv_registry_get(r, "cam1", &got, NULL));
        CU_ASSERT(same_client(&got, &c));
        CU_ASSERT_EQUAL(got.changed, 2);
        OK(chv_registry_get_by_key(r, CHV_CURVE_P256, c.identity, &got, NULL));
        CU_ASSERT_STRING_EQUAL(got.id, "cam1");
        FAILS(chv_registry_get_by_key(r, CHV_CURVE_25519, c.identity, &got, NULL), NOT_FOUND);
        FAILS(chv_registry_get(r, "cam2", &got, NULL), NOT_FOUND);
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.generation, 2);
        CU_ASSERT_EQUAL(info.audit_n, 2);
        chv_registry_close(r);
    }
}

static void test_bad_input(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client got, c;
        struct chv_audit_row row = make_audit("put", "a");
        struct chv_why why;
        FAILS(chv_registry_get(r, "", &got, &why), ARGUMENT);
        FAILS(chv_registry_get(r, "a b", &got, &why), ARGUMENT);
        FAILS(chv_registry_get(r, "x' OR '1'='1", &got, &why), ARGUMENT);
        c = make_client("a\n\033b", 1, 1);
        FAILS(put_client(r, &c, &why), ARGUMENT);
        check_why(&why, "'a??b': bad id");
        c = make_client("a", 1, 1);
        (void)snprintf(c.scopes[0], sizeof c.scopes[0], "%s", "z");
        FAILS(put_client(r, &c, &why), ARGUMENT);
        check_why(&why, "scopes");
        c = make_client("a", 1, 0);
        FAILS(put_client(r, &c, &why), ARGUMENT);
        c = make_client("a", 1, 1);
        c.not_after = (uint64_t)INT64_MAX + 1;
        FAILS(put_client(r, &c, &why), ARGUMENT);
        c = make_client("a", 1, 1);
        c.profile = CHV_PROFILE_KEY; /* without a key */
        FAILS(put_client(r, &c, &why), ARGUMENT);
        c = make_client("a", 1, 1);
        (void)snprintf(c.reason, sizeof c.reason, "%s", "two\nlines");
        FAILS(put_client(r, &c, &why), ARGUMENT);
        (void)snprintf(c.reason, sizeof c.reason, "%s", "not UTF-8 \xc3");
        FAILS(put_client(r, &c, &why), ARGUMENT);
        OK(chv_registry_begin(r, NULL));
        (void)snprintf(row.details, sizeof row.details, "%s", "{\"a\":1}\n");
        FAILS(chv_registry_audit(r, &row, &why), ARGUMENT);
        row = make_audit("", "a");
        FAILS(chv_registry_audit(r, &row, &why), ARGUMENT);
        row = make_audit("put", "-");
        FAILS(chv_registry_audit(r, &row, &why), ARGUMENT);
        row = make_audit("put", "a");
        row.actor[0] = '\0';
        FAILS(chv_registry_audit(r, &row, &why), ARGUMENT);
        chv_registry_rollback(r);
        CU_ASSERT_EQUAL(count_clients(r), 0);
        chv_registry_close(r);
    }
}

static void test_transactions(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE), *other = open_mode(uri, CHV_REGISTRY_READ);
        struct chv_registry_client c = make_client("a", 1, 1), got;
        struct chv_audit_row row = make_audit("add", "a");
        struct chv_registry_info info;
        struct chv_why why;
        FAILS(chv_registry_put(r, &c, &why), STATE);
        FAILS(chv_registry_audit(r, &row, &why), STATE);
        FAILS(chv_registry_commit(r, &why), STATE);
        chv_registry_rollback(r); /* nothing to do */

        OK(chv_registry_begin(r, NULL));
        FAILS(chv_registry_begin(r, &why), STATE);
        OK(chv_registry_put(r, &c, NULL));
        OK(chv_registry_audit(r, &row, NULL));
        CU_ASSERT_EQUAL(row.n, 1);
        OK(chv_registry_get(r, "a", &got, NULL)); /* seen inside */
        FAILS(chv_registry_get(other, "a", &got, NULL), NOT_FOUND);
        chv_registry_rollback(r);
        FAILS(chv_registry_get(r, "a", &got, NULL), NOT_FOUND);

        OK(chv_registry_begin(r, NULL));
        OK(chv_registry_put(r, &c, NULL));
        FAILS(chv_registry_commit(r, &why), STATE); /* no audit row */
        check_why(&why, "audit");
        FAILS(chv_registry_get(r, "a", &got, NULL), NOT_FOUND);

        OK(chv_registry_begin(r, NULL)); /* an audit row alone is no step of the generation */
        OK(chv_registry_audit(r, &row, NULL));
        OK(chv_registry_commit(r, NULL));
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.generation, 0);
        CU_ASSERT_EQUAL(info.audit_n, 1);

        OK(put_client(r, &c, NULL));
        OK(chv_registry_get(other, "a", &got, NULL));
        OK(chv_registry_begin(r, NULL)); /* closed in the middle */
        c = make_client("b", 1, 1);
        OK(chv_registry_put(r, &c, NULL));
        chv_registry_close(r);
        CU_ASSERT_EQUAL(count_clients(other), 1);
        chv_registry_close(other);
    }
}

/* What must only grow does not go back; an identity key is one client's. */
static void test_refused_changes(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client c = make_client("a", 2, 5), got, worse;
        struct chv_why why;
        enum chv_err err;
        uint32_t serial;
        c.confirmed = (struct chv_issue){2, 5};
        c.has_identity = true;
        c.identity[0] = 1;
        OK(put_client(r, &c, NULL));
        worse = c;
        worse.latest = (struct chv_issue){2, 4};
        FAILS(put_client(r, &worse, &why), STATE);
        check_why(&why, "a: ");
        check_why(&why, "go back");
        worse.latest = (struct chv_issue){3, 1}; /* a new epoch does not restart serials */
        FAILS(put_client(r, &worse, &why), STATE);
        worse = c;
        worse.minimum = (struct chv_issue){1, 9};
        FAILS(put_client(r, &worse, &why), STATE);
        worse = c;
        worse.confirmed = (struct chv_issue){0, 0};
        FAILS(put_client(r, &worse, &why), STATE);
        worse.confirmed = (struct chv_issue){2, 4};
        FAILS(put_client(r, &worse, &why), STATE);
        worse = c;
        worse.minimum = (struct chv_issue){2, 4};
        FAILS(put_client(r, &worse, &why), STATE);
        OK(chv_registry_get(r, "a", &got, NULL));
        CU_ASSERT(same_client(&got, &c));
        OK(chv_registry_next_serial(&got, &serial, NULL));
        CU_ASSERT_EQUAL(serial, 6);
        got.latest.serial = UINT32_MAX;
        FAILS(chv_registry_next_serial(&got, &serial, &why), EXHAUSTED);

        struct chv_registry_client twin = make_client("b", 1, 1);
        twin.has_identity = true;
        twin.identity[0] = 1;
        FAILS(put_client(r, &twin, &why), EXISTS);
        check_why(&why, "b: its identity key");
        struct chv_audit_row row = make_audit("x", "");
        OK(chv_registry_begin(r, NULL)); /* who goes on after a refused change cannot commit */
        OK(chv_registry_audit(r, &row, NULL));
        err = chv_registry_put(r, &twin, &why);
        CU_ASSERT(err == CHV_OK || err == CHV_ERR_EXISTS);
        err = chv_registry_audit(r, &row, &why);
        CU_ASSERT(err == CHV_OK || err == CHV_ERR_STATE);
        CU_ASSERT_NOT_EQUAL(chv_registry_commit(r, &why), CHV_OK);
        CU_ASSERT_EQUAL(count_clients(r), 1);
        c.latest.serial = 6;
        c.created = 1; /* kept as it was at first */
        c.last_seen = 77;
        OK(put_client(r, &c, NULL));
        OK(chv_registry_get(r, "a", &got, NULL));
        CU_ASSERT_EQUAL(got.created, 1750000000);
        CU_ASSERT_EQUAL(got.last_seen, 0);
        chv_registry_close(r);
    }
}

static void check_list(struct chv_registry *r, struct chv_registry_filter filter, const char *wanted)
{
    struct id_list ids = {.n = 0};
    OK(chv_registry_list(r, &filter, add_id, &ids, NULL));
    CU_ASSERT_STRING_EQUAL(ids.text, wanted);
}

static enum chv_err stop_at_once(void *arg, const struct chv_registry_client *c)
{
    (void)c;
    (*(size_t *)arg)++;
    return CHV_ERR_CANCELLED;
}

static void test_list(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        const char *const ids[] = {"b", "a-1", "a1", "B", "a.2", "z"}; /* byte order: B a-1 a.2 a1 b z */
        for (size_t i = 0; i < 6; i++) {
            struct chv_registry_client c = make_client(ids[i], 1, 1);
            c.not_after = i == 0 ? 0 : 1000 * i;
            if (i == 1)
                c.status = CHV_CLIENT_REMOVED;
            if (i == 2)
                c.status = CHV_CLIENT_SUSPENDED;
            if (i == 3)
                c.latest = c.minimum = (struct chv_issue){2, 1};
            if (i == 4)
                c.flags = CHV_CLIENT_NARROWED;
            if (i == 5) {
                c.latest = (struct chv_issue){2, 2};
                c.confirmed = (struct chv_issue){1, 1};
            }
            OK(put_client(r, &c, NULL));
        }
        check_list(r, (struct chv_registry_filter){0}, "B a.2 a1 b z ");
        check_list(r, (struct chv_registry_filter){.after = "a.2"}, "a1 b z ");
        check_list(r, (struct chv_registry_filter){.after = "a", .limit = 2}, "a.2 a1 ");
        check_list(r, (struct chv_registry_filter){.after = "z"}, "");
        check_list(r, (struct chv_registry_filter){.statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REMOVED)}, "a-1 ");
        check_list(r, (struct chv_registry_filter){.statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REVOKED)}, "");
        check_list(r, (struct chv_registry_filter){.expires_before = 4000}, "B a1 ");
        check_list(r, (struct chv_registry_filter){.epoch = 2}, "B ");
        check_list(r, (struct chv_registry_filter){.epoch = 1}, "a.2 a1 b z ");
        check_list(r, (struct chv_registry_filter){.denying = true, .statuses = ~0u}, "B a-1 a.2 a1 ");
        size_t n = 0;
        FAILS(chv_registry_list(r, &(struct chv_registry_filter){0}, stop_at_once, &n, NULL), CANCELLED);
        CU_ASSERT_EQUAL(n, 1);
        chv_registry_close(r);
    }
}

static enum chv_err get_again(void *arg, const struct chv_registry_client *c)
{
    struct chv_registry_client got;
    return chv_registry_get(arg, c->id, &got, NULL);
}

/* More than a page, and the registry used while listing. */
static void test_pages(void)
{
    enum { MANY = 1500 };
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_audit_row row = make_audit("add", "");
        OK(chv_registry_begin(r, NULL));
        for (unsigned i = 0; i < MANY; i++) {
            char id[16];
            (void)snprintf(id, sizeof id, "c%05u", i);
            struct chv_registry_client c = make_client(id, 1, 1);
            OK(chv_registry_put(r, &c, NULL));
            OK(chv_registry_audit(r, &row, NULL));
        }
        OK(chv_registry_commit(r, NULL));
        CU_ASSERT_EQUAL(count_clients(r), MANY);
        OK(chv_registry_list(r, &(struct chv_registry_filter){0}, get_again, r, NULL));
        size_t n = 0;
        OK(chv_registry_list(r, &(struct chv_registry_filter){.limit = 1000}, count_client, &n, NULL));
        CU_ASSERT_EQUAL(n, 1000);
        struct chv_audit_report report;
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
        CU_ASSERT_EQUAL(report.rows, MANY);
        chv_registry_close(r);
    }
}

struct changes {
    size_t n;
    uint64_t last;
    char first[CHV_CLIENT_ID_MAX + 1];
};

static enum chv_err add_change(void *arg, const char *id, uint64_t generation)
{
    struct changes *changes = arg;
    if (changes->n++ == 0)
        (void)snprintf(changes->first, sizeof changes->first, "%s", id);
    CU_ASSERT(generation >= changes->last);
    changes->last = generation;
    return CHV_OK;
}

static void test_changed(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE), *other = open_mode(uri, CHV_REGISTRY_READ);
        struct changes changes = {.n = 0};
        bool changed = false;
        for (unsigned i = 0; i < 5; i++) {
            char id[8];
            (void)snprintf(id, sizeof id, "c%u", 9 - i);
            struct chv_registry_client c = make_client(id, 1, 1);
            OK(put_client(r, &c, NULL));
        }
        OK(chv_registry_changed(other, 0, add_change, &changes, NULL));
        CU_ASSERT_EQUAL(changes.n, 5);
        CU_ASSERT_EQUAL(changes.last, 5);
        changes = (struct changes){.n = 0};
        OK(chv_registry_changed(other, 3, add_change, &changes, NULL));
        CU_ASSERT_EQUAL(changes.n, 2);
        CU_ASSERT_STRING_EQUAL(changes.first, "c6");
        changes = (struct changes){.n = 0};
        OK(chv_registry_changed(other, 5, add_change, &changes, NULL));
        CU_ASSERT_EQUAL(changes.n, 0);

        OK(chv_registry_poll(other, &changed, NULL));
        CU_ASSERT_TRUE(changed); /* the first time */
        OK(chv_registry_poll(other, &changed, NULL));
        CU_ASSERT_FALSE(changed);
        struct chv_registry_client c;
        OK(chv_registry_get(r, "c6", &c, NULL));
        c.status = CHV_CLIENT_SUSPENDED;
        OK(put_client(r, &c, NULL));
        struct pollfd wait = {.fd = chv_registry_fd(other), .events = POLLIN};
        CU_ASSERT_EQUAL(wait.fd < 0, strncmp(uri, "sqlite:", 7) == 0);
        if (wait.fd >= 0)
            CU_ASSERT_EQUAL(poll(&wait, 1, 60000), 1);
        OK(chv_registry_poll(other, &changed, NULL));
        CU_ASSERT_TRUE(changed);
        OK(chv_registry_changed(other, 5, add_change, &changes, NULL));
        CU_ASSERT_EQUAL(changes.n, 1);
        CU_ASSERT_STRING_EQUAL(changes.first, "c6");
        OK(chv_registry_poll(other, &changed, NULL));
        CU_ASSERT_FALSE(changed);
        chv_registry_close(other);
        chv_registry_close(r);
    }
}

static uint64_t generation_of(struct chv_registry *r)
{
    struct chv_registry_info info = {0};
    OK(chv_registry_info(r, &info, NULL));
    return info.generation;
}

static void test_seen(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client c = make_client("a", 1, 1);
        struct chv_registry_info info;
        OK(put_client(r, &c, NULL));
        see_client(r, "a", 1, 1, 100); /* the first time: confirmed, nothing raised */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.last_seen, 100);
        CU_ASSERT_EQUAL(c.changed, 1);
        CU_ASSERT_EQUAL(chv_issue_compare(c.confirmed, (struct chv_issue){1, 1}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 1);
        see_client(r, "a", 1, 1, 90); /* last seen never goes back */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.last_seen, 100);
        see_client(r, "a", 2, 1, 200); /* a new epoch, in band: older ones are denied from now on */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(chv_issue_compare(c.confirmed, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(chv_issue_compare(c.latest, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 2);
        CU_ASSERT_EQUAL(c.changed, 2);
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.audit_n, 2); /* put, confirm */
        see_client(r, "a", 1, 1, 300);    /* the older one changes nothing but the time */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(chv_issue_compare(c.confirmed, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 2);
        CU_ASSERT_EQUAL(c.last_seen, 300);
        struct chv_registry_seen bad = {.id = "a b", .issue = {1, 1}};
        FAILS(chv_registry_seen(r, &bad, 1, "chaveirod", NULL), ARGUMENT);
        struct chv_audit_report report;
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
        chv_registry_close(r);
    }
}

/* A leaked key's client is updated in band again once the credential in its place came in; the old ones stay denied. */
static void test_seen_after_a_leak(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client c = make_client("a", 1, 1);
        OK(put_client(r, &c, NULL));
        c.flags = CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED;
        c.latest = c.minimum = (struct chv_issue){1, 2};
        OK(put_client(r, &c, NULL));
        see_client(r, "a", 1, 1, 100); /* it was let in before */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED);
        CU_ASSERT_EQUAL(generation_of(r), 2);
        see_client(r, "a", 1, 2, 200);
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NARROWED | CHV_CLIENT_REPLACED);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){1, 2}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 3); /* other servers have to know */
        CU_ASSERT_EQUAL(c.changed, 3);
        see_client(r, "a", 1, 2, 300); /* again: nothing to do */
        CU_ASSERT_EQUAL(generation_of(r), 3);
        see_client(r, "a", 2, 2, 400); /* in band: the one before it did not leak */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NARROWED);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){2, 2}), 0);
        chv_registry_close(r);
    }
}

TEST_MAIN("registry contract", {"open, create, schemes", test_open}, {"what goes in comes out", test_round_trip},
          {"bad input is refused", test_bad_input}, {"transactions", test_transactions},
          {"nothing goes back", test_refused_changes}, {"list and filters", test_list}, {"pages", test_pages},
          {"changes are told", test_changed}, {"seen", test_seen}, {"seen after a leak", test_seen_after_a_leak})
