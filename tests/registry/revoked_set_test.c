/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the text file of who is denied. */
#include "tests/registry/support.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct chv_why why;

static void write_mode(const char *path, const char *text, mode_t mode)
{
    FILE *out = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT(fputs(text, out) >= 0);
    CU_ASSERT_EQUAL(fchmod(fileno(out), mode), 0);
    (void)fclose(out);
}

static void file_is(const char *path, const char *text)
{
    char got[4096];
    FILE *in = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    got[fread(got, 1, sizeof got - 1, in)] = '\0';
    (void)fclose(in);
    CU_ASSERT_STRING_EQUAL(got, text);
}

static void set(const char *path, const char *id, enum chv_client_status status, const char *reason, bool changes)
{
    bool changed = !changes;
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, id, status, reason, &changed, &why), CHV_OK);
    CU_ASSERT_EQUAL(changed, changes);
}

static void test_lines(void)
{
    const char *path = test_path("set");
    set(path, "a", CHV_CLIENT_ACTIVE, NULL, false);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    set(path, "a", CHV_CLIENT_REVOKED, NULL, true);
    file_is(path, "a * revoked\n");
    set(path, "a", CHV_CLIENT_REVOKED, "again", false);
    set(path, "a", CHV_CLIENT_SUSPENDED, NULL, false);
    set(path, "b", CHV_CLIENT_SUSPENDED, "in repair", true);
    file_is(path, "a * revoked\nb * suspended: in repair\n");
    set(path, "b", CHV_CLIENT_REVOKED, "lost", true);
    file_is(path, "a * revoked\nb * revoked: lost\n");
    bool changed;
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "b", CHV_CLIENT_ACTIVE, NULL, &changed, &why), CHV_ERR_STATE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'b'"));
}

static void test_what_others_wrote(void)
{
    const char *path = test_path("set-kept");
    struct stat st;
    write_mode(path, "# head\n\ncam 1.3 scopes=a\n\tcam  *\tsuspended: x\ncam2 * suspendedly\nno end", 0644);
    set(path, "cam", CHV_CLIENT_ACTIVE, NULL, true);
    file_is(path, "# head\n\ncam 1.3 scopes=a\ncam2 * suspendedly\nno end\n");
    set(path, "cam", CHV_CLIENT_SUSPENDED, NULL, true);
    file_is(path, "# head\n\ncam 1.3 scopes=a\ncam2 * suspendedly\nno end\ncam * suspended\n");
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0644);
    /* another reason that begins alike is no suspension */
    bool changed;
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "cam2", CHV_CLIENT_ACTIVE, NULL, &changed, &why), CHV_ERR_STATE);
}

static void test_refused(void)
{
    const char *path = test_path("set-bad");
    bool changed;
    char longest[CHV_REGISTRY_REASON_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "a b", CHV_CLIENT_REVOKED, NULL, &changed, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "a", CHV_CLIENT_REMOVED, NULL, &changed, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "a", CHV_CLIENT_REVOKED, "x\ny *", &changed, &why),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_registry_revoked_set(path, "a", CHV_CLIENT_REVOKED, longest, &changed, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_EQUAL(chv_registry_revoked_set("/nonexistent/x", "a", CHV_CLIENT_REVOKED, NULL, &changed, &why),
                    CHV_ERR_IO);
}

static void test_at_once(void)
{
    enum { WRITERS = 4, EACH = 10 };
    const char *path = test_path("set-at-once");
    char id[32];
    pid_t children[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        children[w] = fork();
        CU_ASSERT_FATAL(children[w] >= 0);
        if (children[w] != 0)
            continue;
        bool changed, ok = true;
        for (int i = 0; i < EACH; i++) {
            (void)snprintf(id, sizeof id, "c%d-%d", w, i);
            enum chv_err err;
            do
                err = chv_registry_revoked_set(path, id, CHV_CLIENT_REVOKED, NULL, &changed, NULL);
            while (err == CHV_ERR_BUSY);
            ok = ok && err == CHV_OK;
        }
        _exit(ok ? 0 : 1);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status = -1;
        CU_ASSERT_EQUAL(waitpid(children[w], &status, 0), children[w]);
        CU_ASSERT_EQUAL(status, 0);
    }
    for (int w = 0; w < WRITERS; w++)
        for (int i = 0; i < EACH; i++) {
            (void)snprintf(id, sizeof id, "c%d-%d", w, i);
            set(path, id, CHV_CLIENT_REVOKED, NULL, false);
        }
}

TEST_MAIN("revoked_set", {"lines", test_lines}, {"what others wrote", test_what_others_wrote},
          {"what is refused", test_refused}, {"several at once", test_at_once})
