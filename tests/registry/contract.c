/* SPDX-License-Identifier: Apache-2.0 */
/* The same cases over every kind of registry that can be written: SQLite, and PostgreSQL where a server is given. */
#include "tests/registry/support.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static struct chv_registry *create(const char *uri)
{
    return open_mode(uri, CHV_REGISTRY_CREATE);
}

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
        check_why(&why, "created first");
        FAILS(try_open(uri, CHV_REGISTRY_READ, &r, &why), NOT_FOUND);
        CU_ASSERT_PTR_NULL(r);
        chv_registry_close(create(uri));
        chv_registry_close(create(uri)); /* a second time finds it */
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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri), *other = open_mode(uri, CHV_REGISTRY_READ);
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
        struct chv_registry *r = create(uri);
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

struct ids {
    size_t n;
    char text[4096];
};

static enum chv_err add_id(void *arg, const struct chv_registry_client *c)
{
    struct ids *ids = arg;
    size_t len = strlen(ids->text);
    ids->n++;
    (void)snprintf(ids->text + len, sizeof ids->text - len, "%s%s ", c->status == CHV_CLIENT_MALFORMED ? "!" : "",
                   c->id);
    return CHV_OK;
}

static void check_list(struct chv_registry *r, struct chv_registry_filter filter, const char *wanted)
{
    struct ids ids = {.n = 0};
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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri), *other = open_mode(uri, CHV_REGISTRY_READ);
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

static void see(struct chv_registry *r, const char *id, uint32_t epoch, uint32_t serial, uint64_t time)
{
    struct chv_registry_seen seen[2] = {{.id = "nobody", .issue = {1, 1}, .time = 1},
                                        {.issue = {epoch, serial}, .time = time}};
    (void)snprintf(seen[1].id, sizeof seen[1].id, "%s", id);
    OK(chv_registry_seen(r, seen, 2, "chaveirod", NULL));
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
        struct chv_registry *r = create(uri);
        struct chv_registry_client c = make_client("a", 1, 1);
        struct chv_registry_info info;
        OK(put_client(r, &c, NULL));
        see(r, "a", 1, 1, 100); /* the first time: confirmed, nothing raised */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.last_seen, 100);
        CU_ASSERT_EQUAL(c.changed, 1);
        CU_ASSERT_EQUAL(chv_issue_compare(c.confirmed, (struct chv_issue){1, 1}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 1);
        see(r, "a", 1, 1, 90); /* last seen never goes back */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.last_seen, 100);
        see(r, "a", 2, 1, 200); /* a new epoch, in band: older ones are denied from now on */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(chv_issue_compare(c.confirmed, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(chv_issue_compare(c.latest, (struct chv_issue){2, 1}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 2);
        CU_ASSERT_EQUAL(c.changed, 2);
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.audit_n, 2); /* put, confirm */
        see(r, "a", 1, 1, 300);           /* the older one changes nothing but the time */
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
        struct chv_registry *r = create(uri);
        struct chv_registry_client c = make_client("a", 1, 1);
        OK(put_client(r, &c, NULL));
        c.flags = CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED;
        c.latest = c.minimum = (struct chv_issue){1, 2};
        OK(put_client(r, &c, NULL));
        see(r, "a", 1, 1, 100); /* it was let in before */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NO_UPDATE | CHV_CLIENT_NARROWED);
        CU_ASSERT_EQUAL(generation_of(r), 2);
        see(r, "a", 1, 2, 200);
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NARROWED | CHV_CLIENT_REPLACED);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){1, 2}), 0);
        CU_ASSERT_EQUAL(generation_of(r), 3); /* other servers have to know */
        CU_ASSERT_EQUAL(c.changed, 3);
        see(r, "a", 1, 2, 300); /* again: nothing to do */
        CU_ASSERT_EQUAL(generation_of(r), 3);
        see(r, "a", 2, 2, 400); /* in band: the one before it did not leak */
        OK(chv_registry_get(r, "a", &c, NULL));
        CU_ASSERT_EQUAL(c.flags, CHV_CLIENT_NARROWED);
        CU_ASSERT_EQUAL(chv_issue_compare(c.minimum, (struct chv_issue){2, 2}), 0);
        chv_registry_close(r);
    }
}

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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri);
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
            struct ids listed = {.n = 0};
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
            see(r, "b", 2, 1, 300); /* passed over */
            run_sql(uri, "DELETE FROM clients WHERE id = 'b'; INSERT INTO clients SELECT * FROM kept");
        }
        run_sql(uri, "UPDATE clients SET id = 'b b' WHERE id = 'b'");
        struct ids listed = {.n = 0};
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
        struct chv_registry *r = create(uri);
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
        struct chv_registry *r = create(uri);
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

TEST_MAIN("registry contract", {"open, create, schemes", test_open}, {"what goes in comes out", test_round_trip},
          {"bad input is refused", test_bad_input}, {"transactions", test_transactions},
          {"nothing goes back", test_refused_changes}, {"list and filters", test_list}, {"pages", test_pages},
          {"changes are told", test_changed}, {"seen", test_seen}, {"seen after a leak", test_seen_after_a_leak},
          {"epochs", test_epochs}, {"malformed rows deny", test_malformed_rows},
          {"malformed tables", test_malformed_meta}, {"schema versions", test_schema_versions})
