/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a configuration that people keep. */
#include "tests/harness.h"
#include "tools/server_config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char out[2048];

static enum chv_err change(const char *text, const char *key, const char *value)
{
    const struct chv_config_change c = {key, value};
    size_t len = sizeof out;
    return chv_server_config_change(text, &c, 1, out, &len);
}

static void becomes(const char *text, const char *key, const char *value, const char *wanted)
{
    CU_ASSERT_EQUAL(change(text, key, value), CHV_OK);
    if (strcmp(out, wanted) != 0)
        fprintf(stderr, "is '%s', wanted was '%s'\n", out, wanted);
    CU_ASSERT_STRING_EQUAL(out, wanted);
}

static void test_lines(void)
{
    becomes("[server]\nepochs = 1\nx = y\n", "epochs", "1, 2", "[server]\nepochs = 1, 2\nx = y\n");
    becomes("[server]\n  epochs:1 ; c\n", "epochs", "2", "[server]\nepochs = 2\n");
    becomes("# a\n[server]\n# b\n#epochs = 1\n# c\n", "epochs", "2",
            "# a\n[server]\n# b\n#epochs = 1\nepochs = 2\n# c\n");
    becomes("[server]\n#epochs = 1\nname = s\nepochs = 1", "epochs", "2",
            "[server]\n#epochs = 1\nname = s\nepochs = 2\n");
    becomes("[server]\nname = s\n", "epochs", "2", "[server]\nepochs = 2\nname = s\n");
    becomes("[server]", "epochs", "2", "[server]\nepochs = 2\n");
    becomes("[server]\nepochs-x = 1\n", "epochs", "2", "[server]\nepochs = 2\nepochs-x = 1\n");
}

/* A key of that name in another section is another one. */
static void test_sections(void)
{
    becomes("[log]\nepochs = 9\n[server]\nname = s\n[limits]\nepochs = 8\n#epochs = 7\n", "epochs", "2",
            "[log]\nepochs = 9\n[server]\nepochs = 2\nname = s\n[limits]\nepochs = 8\n#epochs = 7\n");
    CU_ASSERT_EQUAL(change("[log]\nepochs = 1\n", "epochs", "2"), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(change("", "epochs", "2"), CHV_ERR_NOT_FOUND);
}

static void test_comment_out(void)
{
    becomes("[server]\nupdate-to = 1\nx = y\n", "update-to", NULL, "[server]\n# update-to = 1\nx = y\n");
    becomes("[server]\n# update-to = 1\n", "update-to", NULL, "[server]\n# update-to = 1\n");
}

static void test_space(void)
{
    const struct chv_config_change c = {"epochs", "1, 2"};
    static const char wanted[] = "[server]\nepochs = 1, 2\n";
    size_t len = sizeof wanted;
    CU_ASSERT_EQUAL(chv_server_config_change("[server]\n", &c, 1, out, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, strlen(wanted));
    len = sizeof wanted - 1;
    CU_ASSERT_EQUAL(chv_server_config_change("[server]\n", &c, 1, out, &len), CHV_ERR_SPACE);
    len = 5;
    CU_ASSERT_EQUAL(chv_server_config_change("[server]\n", &c, 1, out, &len), CHV_ERR_SPACE);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(fputs(text, f) >= 0);
    CU_ASSERT_EQUAL(fclose(f), 0);
}

static void get(const char *path)
{
    FILE *f = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    size_t n = fread(out, 1, sizeof out - 1, f);
    out[n] = '\0';
    CU_ASSERT_EQUAL(fclose(f), 0);
}

static void test_file(void)
{
    char folder[256], path[300], again[300];
    struct chv_why why = {""};
    struct stat st;
    const struct chv_config_change good[] = {{"epochs", "1, 2"}, {"update-to", "2"}}, bad = {"epochs", "none"};
    const char *top = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%.200s/chv-edit-XXXXXX", top != NULL ? top : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/c.conf", folder);
    (void)snprintf(again, sizeof again, "%s/link.conf", folder);
    put(path, "[server]\nname = s\nkeystore = k\n# kept\n");
    CU_ASSERT_EQUAL(chmod(path, 0640), 0);
    CU_ASSERT_EQUAL(symlink("c.conf", again), 0);
    CU_ASSERT_EQUAL(chv_server_config_edit(again, good, 2, &why), CHV_OK);
    get(path);
    CU_ASSERT_STRING_EQUAL(out, "[server]\nupdate-to = 2\nepochs = 1, 2\nname = s\nkeystore = k\n# kept\n");
    CU_ASSERT_EQUAL(lstat(again, &st), 0);
    CU_ASSERT(S_ISLNK(st.st_mode));
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 07777, 0640);

    CU_ASSERT_EQUAL(chv_server_config_edit(path, &bad, 1, &why), CHV_ERR_CONFIG); /* and is as it was */
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "epochs"));
    get(path);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "epochs = 1, 2\n"));
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_EQUAL(chv_server_config_edit(path, good, 2, &why), CHV_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));
    CU_ASSERT_EQUAL(unlink(again), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0); /* nothing is left */
}

TEST_MAIN("changes of a configuration", {"lines", test_lines}, {"sections", test_sections},
          {"comment out", test_comment_out}, {"space", test_space}, {"file", test_file})
