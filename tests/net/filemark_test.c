/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filemark.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[200], path[256], other[256];

static void write_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%.150s/chv-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/file", folder);
    (void)snprintf(other, sizeof other, "%s/other", folder);
    write_file(path, "1234");
}

static void teardown(void)
{
    (void)unlink(path);
    (void)unlink(other);
    (void)rmdir(folder);
}

/* To the time of another second, so that no clock's step hides it. */
static void set_time(const char *name, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    CU_ASSERT_EQUAL(utimensat(AT_FDCWD, name, times, 0), 0);
}

static bool changed_since(struct chv_filemark *mark)
{
    struct chv_filemark now;
    chv_filemark_path(path, &now);
    bool changed = !chv_filemark_same(&now, mark);
    *mark = now;
    return changed;
}

static void test_changes(void)
{
    struct chv_filemark mark;
    setup();
    set_time(path, 1000);
    chv_filemark_path(path, &mark);
    CU_ASSERT_FALSE(changed_since(&mark));
    set_time(path, 2000); /* of one size, in its place */
    CU_ASSERT_TRUE(changed_since(&mark));
    write_file(path, "123456");
    CU_ASSERT_TRUE(changed_since(&mark));
    write_file(other, "123456");
    CU_ASSERT_EQUAL(rename(other, path), 0);
    CU_ASSERT_TRUE(changed_since(&mark));
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_TRUE(changed_since(&mark));
    CU_ASSERT_FALSE(changed_since(&mark)); /* still away */
    write_file(path, "123456");
    CU_ASSERT_TRUE(changed_since(&mark));
    teardown();
}

/* Each part alone. */
static void test_parts(void)
{
    const struct chv_filemark mark = {1, 2, 3, {4, 5}, {6, 7}};
    const struct chv_filemark others[] = {
        {9, 2, 3, {4, 5}, {6, 7}}, {1, 9, 3, {4, 5}, {6, 7}}, {1, 2, 9, {4, 5}, {6, 7}}, {1, 2, 3, {9, 5}, {6, 7}},
        {1, 2, 3, {4, 9}, {6, 7}}, {1, 2, 3, {4, 5}, {9, 7}}, {1, 2, 3, {4, 5}, {6, 9}},
    };
    CU_ASSERT_TRUE(chv_filemark_same(&mark, &mark));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CU_ASSERT_FALSE(chv_filemark_same(&mark, &others[i]));
}

static void test_descriptor(void)
{
    struct chv_filemark by_path, by_fd;
    setup();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    chv_filemark_path(path, &by_path);
    chv_filemark_fd(fd, &by_fd);
    CU_ASSERT_TRUE(chv_filemark_same(&by_path, &by_fd));
    (void)close(fd);
    chv_filemark_fd(-1, &by_fd);
    chv_filemark_path("", &by_path);
    CU_ASSERT_TRUE(chv_filemark_same(&by_path, &by_fd));
    CU_ASSERT_EQUAL(by_fd.inode, 0);
    teardown();
}

TEST_MAIN("file mark", {"changes", test_changes}, {"parts", test_parts}, {"descriptor", test_descriptor})
