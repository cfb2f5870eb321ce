/* SPDX-License-Identifier: Apache-2.0 */
/* Several processes at once, and one that is killed in the middle. */
#include "tests/registry/support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITERS = 3, ROUNDS = 40, BATCH = 50 };

static enum chv_err open_patient(const char *uri, enum chv_registry_mode mode, struct chv_registry **r)
{
    struct chv_registry_options options = {.mode = mode, .crypto = test_crypto(), .busy_ms = 60000};
    struct chv_why why = {.text = ""};
    enum chv_err err = chv_registry_open(uri, &options, r, &why);
    if (err != CHV_OK)
        (void)fprintf(stderr, "%s\n", why.text);
    return err;
}

/* Takes the next serial of client "shared", as `reissue` does. */
static enum chv_err reissue(struct chv_registry *r, struct chv_why *why)
{
    struct chv_registry_client c;
    struct chv_audit_row row = make_audit("reissue", "shared");
    enum chv_err err = chv_registry_begin(r, why);
    if (err == CHV_OK)
        err = chv_registry_get(r, "shared", &c, why);
    if (err == CHV_OK)
        err = chv_registry_next_serial(&c, &c.latest.serial, why);
    if (err == CHV_OK) {
        (void)snprintf(row.details, sizeof row.details, "{\"serial\":%u}", (unsigned)c.latest.serial);
        err = chv_registry_put(r, &c, why);
    }
    if (err == CHV_OK)
        err = chv_registry_audit(r, &row, why);
    if (err == CHV_OK)
        err = chv_registry_commit(r, why);
    chv_registry_rollback(r);
    return err;
}

static int writer(const char *uri)
{
    struct chv_registry *r = NULL;
    struct chv_why why = {.text = ""};
    enum chv_err err = open_patient(uri, CHV_REGISTRY_WRITE, &r);
    for (unsigned i = 0; i < ROUNDS && err == CHV_OK; i++)
        err = reissue(r, &why);
    if (err != CHV_OK)
        (void)fprintf(stderr, "%s\n", why.text);
    chv_registry_close(r);
    return err == CHV_OK ? 0 : 1;
}

static enum chv_err next_in_order(void *arg, const struct chv_audit_row *row)
{
    unsigned *serial = arg;
    char wanted[32];
    if (strcmp(row->action, "reissue") != 0)
        return CHV_OK;
    (void)snprintf(wanted, sizeof wanted, "{\"serial\":%u}", ++*serial);
    CU_ASSERT_STRING_EQUAL(row->details, wanted);
    return CHV_OK;
}

static void test_serials_never_repeat(void)
{
    FOR_EACH_KIND
    {
        struct chv_registry *r = open_mode(uri, CHV_REGISTRY_CREATE);
        struct chv_registry_client c = make_client("shared", 1, 1);
        struct chv_audit_report report;
        struct chv_registry_info info;
        int children[WRITERS];
        unsigned serial = 1;
        OK(put_client(r, &c, NULL));
        for (size_t i = 0; i < WRITERS; i++) {
            children[i] = fork();
            if (children[i] == 0)
                _exit(writer(uri));
        }
        for (size_t i = 0; i < WRITERS; i++)
            CU_ASSERT_EQUAL(wait_child(children[i]), 0);
        OK(chv_registry_get(r, "shared", &c, NULL));
        CU_ASSERT_EQUAL(c.latest.serial, 1 + WRITERS * ROUNDS);
        OK(chv_registry_audit_list(r, 1, next_in_order, &serial, NULL));
        CU_ASSERT_EQUAL(serial, 1 + WRITERS * ROUNDS);
        OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
        OK(chv_registry_info(r, &info, NULL));
        CU_ASSERT_EQUAL(info.generation, 1 + WRITERS * ROUNDS);
        chv_registry_close(r);
    }
}

/* All make the registry that is not there yet. */
static void test_made_at_once(void)
{
    FOR_EACH_KIND
    {
        int children[WRITERS];
        for (size_t i = 0; i < WRITERS; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                struct chv_registry *r = NULL;
                enum chv_err err = open_patient(uri, CHV_REGISTRY_CREATE, &r);
                chv_registry_close(r);
                _exit(err == CHV_OK ? 0 : 1);
            }
        }
        for (size_t i = 0; i < WRITERS; i++)
            CU_ASSERT_EQUAL(wait_child(children[i]), 0);
        chv_registry_close(open_mode(uri, CHV_REGISTRY_WRITE));
    }
}

/* Adds batches for ever; tells of each commit. */
static void add_for_ever(const char *uri, int told)
{
    struct chv_registry *r = NULL;
    if (open_patient(uri, CHV_REGISTRY_WRITE, &r) != CHV_OK)
        _exit(1);
    for (unsigned n = 0;; n++) {
        if (chv_registry_begin(r, NULL) != CHV_OK)
            _exit(2);
        for (unsigned i = 0; i < BATCH; i++) {
            char id[32];
            (void)snprintf(id, sizeof id, "c%06u", n * BATCH + i);
            struct chv_registry_client c = make_client(id, 1, 1);
            struct chv_audit_row row = make_audit("add", id);
            if (chv_registry_put(r, &c, NULL) != CHV_OK || chv_registry_audit(r, &row, NULL) != CHV_OK)
                _exit(3);
            if (i == BATCH / 2 && write(told, "+", 1) != 1) /* in the middle of a batch */
                _exit(4);
        }
        if (chv_registry_commit(r, NULL) != CHV_OK)
            _exit(5);
    }
}

static void kill_after(const char *uri, unsigned batches)
{
    int pipe_fds[2];
    CU_ASSERT_EQUAL_FATAL(pipe(pipe_fds), 0);
    int child = fork();
    if (child == 0) {
        (void)close(pipe_fds[0]);
        add_for_ever(uri, pipe_fds[1]);
    }
    (void)close(pipe_fds[1]);
    char byte;
    for (unsigned i = 0; i < batches; i++)
        CU_ASSERT_EQUAL_FATAL(read(pipe_fds[0], &byte, 1), 1);
    CU_ASSERT_EQUAL(kill(child, SIGKILL), 0);
    CU_ASSERT_EQUAL(wait_child(child), 128 + SIGKILL);
    (void)close(pipe_fds[0]);
}

static void test_killed(void)
{
    for (unsigned batches = 1; batches <= 5; batches++) {
        FOR_EACH_KIND
        {
            struct chv_audit_report report;
            struct chv_registry_info info;
            chv_registry_close(open_mode(uri, CHV_REGISTRY_CREATE));
            kill_after(uri, batches);
            struct chv_registry *r = open_mode(uri, CHV_REGISTRY_WRITE);
            OK(chv_registry_begin(r, NULL)); /* a server may still be at the dead one's last words */
            OK(chv_registry_info(r, &info, NULL));
            size_t n = count_clients(r);
            CU_ASSERT_EQUAL(n % BATCH, 0);
            CU_ASSERT(n >= (size_t)(batches - 1) * BATCH);
            CU_ASSERT_EQUAL(info.audit_n, n);
            CU_ASSERT_EQUAL(info.generation, n / BATCH);
            OK(chv_registry_verify(r, NULL, NULL, &report, NULL));
            CU_ASSERT_EQUAL(report.rows, n);
            chv_registry_rollback(r);
            struct chv_registry_client c = make_client("after", 1, 1);
            OK(put_client(r, &c, NULL));
            chv_registry_close(r);
        }
    }
}

TEST_MAIN("registry writers", {"serials never repeat", test_serials_never_repeat},
          {"made by several at once", test_made_at_once}, {"killed in the middle", test_killed})
