/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/secret.h"

#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make(const char *name, const void *bytes, size_t len, mode_t mode)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, bytes, len), (ssize_t)len);
    CU_ASSERT_EQUAL(fchmod(fd, mode), 0);
    (void)close(fd);
}

static enum chv_err get(const char *name, char *out, size_t cap, size_t *len, struct chv_why *why)
{
    struct chv_secret_source source = chv_secret_source(path_of(name), "--passphrase-file", NULL);
    return chv_secret_get(&source, "passphrase of x", 0, out, cap, len, why);
}

static void test_file(void)
{
    char out[CHV_PASSPHRASE_MAX];
    char longest[CHV_PASSPHRASE_MAX + 1];
    struct chv_why why = {""};
    size_t len = 0;
    make("a", "pass word\n", 10, 0600);
    CU_ASSERT_EQUAL(get("a", out, sizeof out, &len, &why), CHV_OK);
    CU_ASSERT(len == 9 && memcmp(out, "pass word", 9) == 0);
    make("b", "pass\n\n", 6, 0400); /* one newline only */
    CU_ASSERT_EQUAL(get("b", out, sizeof out, &len, &why), CHV_OK);
    CU_ASSERT(len == 5 && memcmp(out, "pass\n", 5) == 0);
    make("c", "a\0b", 3, 0600);
    CU_ASSERT_EQUAL(get("c", out, sizeof out, &len, &why), CHV_OK);
    CU_ASSERT(len == 3 && memcmp(out, "a\0b", 3) == 0);
    memset(longest, 'x', sizeof longest);
    longest[CHV_PASSPHRASE_MAX] = '\n';
    make("d", longest, sizeof longest, 0600);
    CU_ASSERT_EQUAL(get("d", out, sizeof out, &len, &why), CHV_OK);
    CU_ASSERT_EQUAL(len, CHV_PASSPHRASE_MAX);
}

/* Refused, says why, and leaves zeros and *len as it was. */
static void refused(const char *name, const char *part)
{
    char out[CHV_PASSPHRASE_MAX], zeros[CHV_PASSPHRASE_MAX] = {0};
    struct chv_why why = {""};
    size_t len = 77;
    memset(out, 'o', sizeof out);
    CU_ASSERT_EQUAL(get(name, out, sizeof out, &len, &why), CHV_ERR_NO_SECRET);
    CU_ASSERT_EQUAL(len, 77);
    CU_ASSERT_EQUAL(memcmp(out, zeros, sizeof out), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, part));
}

static void test_file_refused(void)
{
    char much[CHV_PASSPHRASE_MAX + 1];
    memset(much, 'x', sizeof much);
    refused("missing", "No such file");
    make("empty", "", 0, 0600);
    refused("empty", "empty");
    make("newline", "\n", 1, 0600);
    refused("newline", "empty");
    make("long", much, sizeof much, 0600);
    refused("long", "longer than 1024");
    make("group", "x", 1, 0640);
    refused("group", "chmod 600");
    make("others", "x", 1, 0604);
    refused("others", "chmod 600");
    make("writable", "x", 1, 0620);
    refused("writable", "chmod 600");
    CU_ASSERT_EQUAL(mkdir(path_of("dir"), 0700), 0);
    refused("dir", "not a regular file");
}

static void test_small_room(void)
{
    char out[4];
    size_t len = 0;
    struct chv_why why = {""};
    make("five", "12345", 5, 0600);
    CU_ASSERT_EQUAL(get("five", out, sizeof out, &len, &why), CHV_ERR_NO_SECRET);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "longer than 4"));
    make("four", "1234", 4, 0600);
    CU_ASSERT_EQUAL(get("four", out, sizeof out, &len, &why), CHV_OK);
}

/* Lines of standard input: each call takes its own and not a byte more. */
static void test_stdin(void)
{
    char out[CHV_PASSPHRASE_MAX], rest[8];
    size_t len = 0;
    int ends[2], saved = dup(STDIN_FILENO);
    struct chv_secret_source source = chv_secret_source("-", "--passphrase-file", NULL);
    CU_ASSERT_EQUAL(source.kind, CHV_SECRET_STDIN);
    CU_ASSERT_FATAL(pipe(ends) == 0 && dup2(ends[0], STDIN_FILENO) >= 0);
    CU_ASSERT_EQUAL(write(ends[1], "first\nsecond\n\nrest", 18), 18);
    (void)close(ends[1]);
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_OK);
    CU_ASSERT(len == 5 && memcmp(out, "first", 5) == 0);
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 1, out, sizeof out, &len, NULL), CHV_OK);
    CU_ASSERT(len == 6 && memcmp(out, "second", 6) == 0);
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_ERR_NO_SECRET);
    CU_ASSERT_EQUAL(read(STDIN_FILENO, rest, sizeof rest), 4);
    (void)dup2(saved, STDIN_FILENO);
    (void)close(saved);
    (void)close(ends[0]);
}

static void test_credential(void)
{
    char found[PATH_MAX];
    char out[CHV_PASSPHRASE_MAX];
    size_t len = 0;
    struct chv_secret_source source = chv_secret_source(NULL, "--passphrase-file", CHV_SECRET_CREDENTIAL);
    struct chv_secret_source none = chv_secret_source(NULL, "--passphrase-file", NULL);
    CU_ASSERT_EQUAL(source.kind, CHV_SECRET_DEFAULT);
    CU_ASSERT_EQUAL(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
    CU_ASSERT_FALSE(chv_secret_repeatable(&source));
    make(CHV_SECRET_CREDENTIAL, "from systemd", 12, 0400);
    CU_ASSERT_TRUE(chv_secret_repeatable(&source));
    CU_ASSERT_FALSE(chv_secret_repeatable(&none));
    CU_ASSERT_TRUE(chv_secret_path(&source, found));
    CU_ASSERT_STRING_EQUAL(found, path_of(CHV_SECRET_CREDENTIAL));
    CU_ASSERT_FALSE(chv_secret_path(&none, found));
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_OK);
    CU_ASSERT(len == 12 && memcmp(out, "from systemd", 12) == 0);
    if (geteuid() == 0) { /* root's 0440 is what systemd makes for a service's user */
        CU_ASSERT_EQUAL(chmod(path_of(CHV_SECRET_CREDENTIAL), 0440), 0);
        CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_OK);
    }
    CU_ASSERT_EQUAL(chmod(path_of(CHV_SECRET_CREDENTIAL), 0444), 0);
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_ERR_NO_SECRET);
    CU_ASSERT_EQUAL(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    CU_ASSERT_FALSE(chv_secret_repeatable(&source));
}

static void test_repeatable(void)
{
    make("again", "x", 1, 0600);
    struct chv_secret_source file = chv_secret_source(path_of("again"), "o", NULL);
    CU_ASSERT_TRUE(chv_secret_repeatable(&file));
    struct chv_secret_source input = chv_secret_source("-", "o", NULL);
    CU_ASSERT_FALSE(chv_secret_repeatable(&input));
    char found[PATH_MAX];
    CU_ASSERT_TRUE(chv_secret_path(&file, found));
    CU_ASSERT_STRING_EQUAL(found, file.path);
    CU_ASSERT_FALSE(chv_secret_path(&input, found));
    struct chv_secret_source prompt = {.kind = CHV_SECRET_PROMPT, .option = "o"};
    CU_ASSERT_FALSE(chv_secret_repeatable(&prompt));
}

/* Which source a command line means for a token and for a file. */
static void test_for(void)
{
    static const char token[] = "pkcs11:token=t", file[] = "file:/x", with_pin[] = "pkcs11:token=t?pin-source=file:/p";
    struct chv_secret_source source;
    const struct chv_secret_options none = {NULL, NULL, NULL}, pin = {.pin_file = "p"}, both = {"a", "p", NULL},
                                    closed = {.pin_fd = "999"}, odd = {.pin_fd = "1x"},
                                    phrase = {.passphrase_file = "a"};
    CU_ASSERT_EQUAL(chv_secret_for(file, &none, &source, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(source.credential, CHV_SECRET_CREDENTIAL);
    CU_ASSERT_EQUAL(chv_secret_for(token, &none, &source, NULL), CHV_OK);
    CU_ASSERT(source.kind == CHV_SECRET_DEFAULT && strcmp(source.credential, CHV_SECRET_PIN_CREDENTIAL) == 0);
    CU_ASSERT_EQUAL(chv_secret_for(token, &pin, &source, NULL), CHV_OK);
    CU_ASSERT(source.kind == CHV_SECRET_FILE && strcmp(source.path, "p") == 0);
    CU_ASSERT_EQUAL(chv_secret_for(token, &phrase, &source, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_secret_for(file, &pin, &source, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_secret_for(token, &both, &source, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_secret_for(with_pin, &pin, &source, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_secret_for(with_pin, &none, &source, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_secret_for(token, &closed, &source, NULL), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_secret_for(token, &odd, &source, NULL), CHV_ERR_ARGUMENT);
}

/* A file behind a descriptor can be read again, a pipe cannot; others must not be able to read it. */
static void test_descriptor(void)
{
    char out[64], number[16];
    size_t len = 0;
    int ends[2];
    struct chv_secret_source source;
    const struct chv_secret_options options = {.pin_fd = number};
    make("again", "1234\nmore", 9, 0600);
    int fd = open(path_of("again"), O_RDONLY | O_CLOEXEC);
    (void)snprintf(number, sizeof number, "%d", fd);
    CU_ASSERT_EQUAL(chv_secret_for("pkcs11:token=t", &options, &source, NULL), CHV_OK);
    CU_ASSERT_TRUE(chv_secret_repeatable(&source));
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_OK);
        CU_ASSERT(len == 4 && memcmp(out, "1234", 4) == 0);
    }
    CU_ASSERT_EQUAL(chmod(path_of("again"), 0640), 0);
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_ERR_NO_SECRET);
    (void)close(fd);
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    CU_ASSERT_EQUAL(write(ends[1], "abc\ndef", 7), 7);
    (void)close(ends[1]);
    (void)snprintf(number, sizeof number, "%d", ends[0]);
    CU_ASSERT_EQUAL(chv_secret_for("pkcs11:token=t", &options, &source, NULL), CHV_OK);
    CU_ASSERT_FALSE(chv_secret_repeatable(&source));
    CU_ASSERT_EQUAL(chv_secret_get(&source, "p", 0, out, sizeof out, &len, NULL), CHV_OK);
    CU_ASSERT(len == 3 && memcmp(out, "abc", 3) == 0);
    (void)close(ends[0]);
}

static void run_in_folder(void (*test)(void))
{
    static const char *const names[] = {
        "a",     "b",      "c",        "d",    "empty", "newline", "long",
        "group", "others", "writable", "five", "four",  "again",   CHV_SECRET_CREDENTIAL};
    const char *top = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%.40s/chv-XXXXXX", top != NULL ? top : "/tmp");
    CU_ASSERT_FATAL(mkdtemp(folder) != NULL);
    test();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlink(path_of(names[i]));
    (void)rmdir(path_of("dir"));
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

static void all_descriptor(void)
{
    run_in_folder(test_descriptor);
}

static void all_file(void)
{
    run_in_folder(test_file);
}

static void all_refused(void)
{
    run_in_folder(test_file_refused);
}

static void all_room(void)
{
    run_in_folder(test_small_room);
}

static void all_credential(void)
{
    run_in_folder(test_credential);
}

static void all_repeatable(void)
{
    run_in_folder(test_repeatable);
}

TEST_MAIN("secret", {"file", all_file}, {"file refused", all_refused}, {"small room", all_room}, {"stdin", test_stdin},
          {"credential", all_credential}, {"repeatable", all_repeatable}, {"options", test_for},
          {"descriptor", all_descriptor})
