/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL: the server stops, is killed, is slow to let go, allows no writing, is not there. */
#include "tests/registry/support.h"

#include <libpq-fe.h>

#include <spawn.h>
#include <stdio.h>
#include <string.h>

extern char **environ;

static void control(const char *word)
{
    char *path = getenv("CHV_TEST_POSTGRES_CTL");
    char text[16];
    (void)snprintf(text, sizeof text, "%s", word);
    CU_ASSERT_PTR_NOT_NULL_FATAL(path);
    char *argv[] = {path, text, NULL};
    pid_t child;
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&child, path, NULL, NULL, argv, environ), 0);
    CU_ASSERT_EQUAL_FATAL(wait_child(child), 0);
}

static struct chv_registry *with_client(const char *uri)
{
    struct chv_registry *r = NULL;
    struct chv_registry_client c = make_client("a", 1, 1);
    chv_registry_close(open_mode(uri, CHV_REGISTRY_CREATE));
    OK(try_open(uri, CHV_REGISTRY_WRITE, &r, NULL));
    OK(put_client(r, &c, NULL));
    return r;
}

static void test_stopped(void)
{
    struct chv_registry *r = with_client(fresh_postgresql());
    struct chv_registry_client got, b = make_client("b", 1, 1);
    struct chv_registry_answer answer;
    struct chv_registry_claim claim = {.id = "a", .profile = CHV_PROFILE_PSK, .issue = {1, 1}};
    struct chv_why why;
    bool changed;
    OK(chv_registry_poll(r, &changed, NULL));
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_FALSE(changed);
    control("stop");
    FAILS(chv_registry_get(r, "a", &got, &why), UNAVAILABLE);
    check_why(&why, "postgresql://");
    check_why(&why, "cannot connect");
    FAILS(chv_registry_lookup(r, &claim, 1, &answer, &why), UNAVAILABLE);
    FAILS(put_client(r, &b, &why), UNAVAILABLE);
    FAILS(chv_registry_poll(r, &changed, &why), UNAVAILABLE);
    CU_ASSERT_EQUAL(chv_registry_fd(r), -1);
    control("start");
    OK(chv_registry_get(r, "a", &got, NULL)); /* connected anew */
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed); /* what was told meanwhile was not heard */
    CU_ASSERT(chv_registry_fd(r) >= 0);
    OK(put_client(r, &b, NULL));
    /* stopped and started between two calls: nobody notices, but a poll says that changes may have been missed */
    control("stop");
    control("start");
    OK(chv_registry_get(r, "b", &got, NULL));
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed);
    control("stop");
    control("start");
    got.status = CHV_CLIENT_SUSPENDED;
    OK(put_client(r, &got, NULL));
    control("stop");
    control("start");
    OK(chv_registry_poll(r, &changed, NULL));
    CU_ASSERT_TRUE(changed);
    chv_registry_close(r);
}

/* Inside a transaction nothing is done twice: it fails, and is begun anew. */
static void test_killed_inside(void)
{
    struct chv_registry *r = with_client(fresh_postgresql());
    struct chv_registry_client got, b = make_client("b", 1, 1);
    struct chv_audit_row row = make_audit("add", "b");
    struct chv_audit_report report;
    struct chv_why why;
    for (unsigned when = 0; when < 3; when++) {
        OK(chv_registry_begin(r, NULL));
        if (when > 0)
            OK(chv_registry_put(r, &b, NULL));
        if (when > 1)
            OK(chv_registry_audit(r, &row, NULL));
        control("kill");
        control("start");
        enum chv_err err = CHV_OK;
        if (when == 0)
            err = chv_registry_get(r, "a", &got, &why);
        if (err == CHV_OK && when < 2)
            err = chv_registry_audit(r, &row, &why);
        if (err == CHV_OK)
            err = chv_registry_commit(r, &why);
        CU_ASSERT_EQUAL(err, CHV_ERR_UNAVAILABLE);
        check_why(&why, "the connection was lost");
        chv_registry_rollback(r);
        CU_ASSERT_EQUAL(count_clients(r), 1);
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
    }
    OK(put_client(r, &b, NULL));
    chv_registry_close(r);
}

static void test_locked(void)
{
    const char *uri = fresh_postgresql();
    struct chv_registry *r = with_client(uri);
    struct chv_registry_client got, b = make_client("b", 1, 1);
    struct chv_why why;
    PGconn *other = PQconnectdb(uri);
    PQclear(PQexec(other, "BEGIN; SELECT * FROM meta FOR UPDATE"));
    FAILS(put_client(r, &b, &why), BUSY);
    check_why(&why, "another program is changing it");
    OK(chv_registry_get(r, "a", &got, NULL)); /* who reads does not wait */
    PQfinish(other);
    chv_registry_close(r);
    r = open_mode(uri, CHV_REGISTRY_WRITE); /* patient: the other's end may take a moment to be noticed */
    OK(put_client(r, &b, NULL));
    chv_registry_close(r);
}

static void test_read_only(void)
{
    const char *uri = fresh_postgresql();
    struct chv_registry *r = with_client(uri);
    struct chv_registry_client got, b = make_client("b", 1, 1);
    struct chv_why why;
    chv_registry_close(r);
    run_sql(uri, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() ||"
                 " ' SET default_transaction_read_only = on'; END $$");
    OK(try_open(uri, CHV_REGISTRY_WRITE, &r, NULL));
    OK(chv_registry_get(r, "a", &got, NULL));
    FAILS(put_client(r, &b, &why), IO);
    check_why(&why, "read-only: nothing was changed");
    chv_registry_close(r);
}

static void test_too_few_rights(void)
{
    const char *uri = fresh_postgresql();
    struct chv_registry *r = with_client(uri);
    struct chv_why why;
    char other[512];
    chv_registry_close(r);
    run_sql(uri, "CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON migrations TO guest");
    (void)snprintf(other, sizeof other, "%.*sguest", (int)(strstr(uri, "user=") + 5 - uri), uri);
    OK(try_open(other, CHV_REGISTRY_READ, &r, &why));
    struct chv_registry_client got;
    FAILS(chv_registry_get(r, "a", &got, &why), CONFIG);
    check_why(&why, "too few rights");
    chv_registry_close(r);
}

static void test_not_there(void)
{
    struct chv_registry *r = NULL;
    struct chv_why why;
    char uri[512];
    (void)snprintf(uri, sizeof uri, "postgresql:///x?host=%s&user=chaveiro", test_folder());
    FAILS(try_open(uri, CHV_REGISTRY_CREATE, &r, &why), UNAVAILABLE);
    check_why(&why, "cannot connect");
    CU_ASSERT_PTR_NULL(strchr(why.text, '\n'));
    (void)snprintf(uri, sizeof uri, "postgresql:///none?host=%s&user=chaveiro", getenv("CHV_TEST_POSTGRES"));
    FAILS(try_open(uri, CHV_REGISTRY_CREATE, &r, &why), UNAVAILABLE);
    check_why(&why, "\"none\"");
    FAILS(try_open("postgresql://h:port/", CHV_REGISTRY_READ, &r, &why), UNAVAILABLE);
    FAILS(try_open("postgresql://%zz", CHV_REGISTRY_READ, &r, &why), CONFIG);
    check_why(&why, "postgresql://USER@HOST/DATABASE");
    FAILS(try_open("postgresql://h/d?sslpassword=geheim", CHV_REGISTRY_READ, &r, &why), CONFIG);
    CU_ASSERT_PTR_NULL(strstr(why.text, "geheim"));
    FAILS(try_open("postgresql://h/d?password=geheim", CHV_REGISTRY_READ, &r, &why), CONFIG);
    CU_ASSERT_PTR_NULL(strstr(why.text, "geheim"));
}

/* Refusals of changes that are on their way come with the next call, and the whole transaction goes. */
static void test_late_refusal(void)
{
    struct chv_registry *r = with_client(fresh_postgresql());
    struct chv_registry_client a, b = make_client("b", 1, 1), got;
    struct chv_audit_row row = make_audit("x", "");
    struct chv_why why;
    OK(chv_registry_get(r, "a", &a, NULL));
    a.latest.serial = 5;
    OK(put_client(r, &a, NULL));
    a.latest.serial = 4;
    OK(chv_registry_begin(r, NULL));
    OK(chv_registry_put(r, &b, NULL));
    OK(chv_registry_put(r, &a, NULL)); /* is refused */
    enum chv_err err = CHV_OK;
    unsigned n = 0;
    for (; n < 1000 && err == CHV_OK; n++) {
        char id[16];
        (void)snprintf(id, sizeof id, "c%u", n);
        b = make_client(id, 1, 1);
        err = chv_registry_put(r, &b, &why);
    }
    CU_ASSERT_EQUAL(err, CHV_ERR_STATE);
    CU_ASSERT(n < 1000);
    check_why(&why, " a: ");
    check_why(&why, "go back");
    FAILS(chv_registry_audit(r, &row, &why), STATE);
    FAILS(chv_registry_put(r, &b, &why), STATE);
    FAILS(chv_registry_commit(r, &why), STATE);
    check_why(&why, "rolled back");
    CU_ASSERT_EQUAL(count_clients(r), 1);
    FAILS(chv_registry_get(r, "b", &got, &why), NOT_FOUND);
    chv_registry_close(r);
}

int main(void)
{
    static const struct test_case cases[] = {{"stopped and started", test_stopped},
                                             {"killed inside a transaction", test_killed_inside},
                                             {"locked", test_locked},
                                             {"read-only", test_read_only},
                                             {"too few rights", test_too_few_rights},
                                             {"not there", test_not_there},
                                             {"a late refusal", test_late_refusal}};
    if (!have_postgresql()) {
        (void)fprintf(stderr, "no PostgreSQL server: tests/registry/postgresql.py starts one\n");
        return 77;
    }
    return test_main("registry PostgreSQL faults", cases, sizeof cases / sizeof cases[0]);
}
