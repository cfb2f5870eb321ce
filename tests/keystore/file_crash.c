/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crashes and failures of the disk at every call of a write.  Linked with --wrap, so that the library's own calls come
 * through here: a child leaves without a word at the Nth, or the Nth fails.
 */
#include <config.h>

#include "tests/keystore/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CRASHED = 42, CALLS_MAX = 200 };

/* What happens at call number `at` (from 1); 0: nothing. */
static enum { CALM, CRASH, CRASH_HALF, FAIL } plan;
static unsigned at, calls;
static int refuse_renameat2; /* an errno: this file system has no RENAME_NOREPLACE */

/* The calls of a commit, a letter each: w write, s fsync of a file, S of a folder, r rename; NULL: nobody asks. */
static char *trace;
static const char *steal_lock; /* removed just before it is locked, once... */
static bool steal_again;       /* ... and made anew, as the next writer would */

static void note(char what)
{
    if (trace != NULL)
        trace[strlen(trace)] = what; /* zeroed, and larger than any commit needs */
}

/* Whether this call is to fail. */
static bool meet(void)
{
    if (plan == CALM || ++calls != at)
        return false;
    if (plan == CRASH)
        _exit(CRASHED);
    errno = EIO;
    return plan == FAIL;
}

int __real_openat(int dir, const char *name, int flags, ...);
ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
int __real_ftruncate(int fd, off_t len);
int __real_fsync(int fd);
int __real_fchmod(int fd, mode_t mode);
int __real_close(int fd);
int __real_flock(int fd, int operation);
int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __real_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags);
int __real_unlinkat(int dir, const char *name, int flags);

int __wrap_openat(int dir, const char *name, int flags, ...);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
int __wrap_ftruncate(int fd, off_t len);
int __wrap_fsync(int fd);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_close(int fd);
int __wrap_flock(int fd, int operation);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);

int __wrap_openat(int dir, const char *name, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return meet() ? -1 : __real_openat(dir, name, flags, mode);
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    if (plan == CRASH_HALF && calls + 1 == at) {
        (void)__real_write(fd, buf, len / 2);
        _exit(CRASHED);
    }
    note('w');
    return meet() ? -1 : __real_write(fd, buf, len);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return meet() ? -1 : __real_pwrite(fd, buf, len, offset);
}

int __wrap_ftruncate(int fd, off_t len)
{
    return meet() ? -1 : __real_ftruncate(fd, len);
}

int __wrap_fsync(int fd)
{
    struct stat st;
    if (trace != NULL)
        note(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'S' : 's');
    return meet() ? -1 : __real_fsync(fd);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    return meet() ? -1 : __real_fchmod(fd, mode);
}

int __wrap_close(int fd)
{
    bool failed = meet();
    int result = __real_close(fd); /* a close that fails closes all the same on Linux */
    if (failed)
        errno = EIO;
    return failed ? -1 : result;
}

int __wrap_flock(int fd, int operation)
{
    if (steal_lock != NULL) {
        (void)unlink(steal_lock);
        if (steal_again)
            test_write(steal_lock, "", 0);
        steal_lock = NULL;
    }
    return meet() ? -1 : __real_flock(fd, operation);
}

int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    note('r');
    return meet() ? -1 : __real_renameat(from_dir, from, to_dir, to);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    note('r');
    if (meet())
        return -1;
    if (refuse_renameat2 != 0) {
        errno = refuse_renameat2;
        return -1;
    }
    return __real_renameat2(from_dir, from, to_dir, to, flags);
}

int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return meet() ? -1 : __real_linkat(from_dir, from, to_dir, to, flags);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
    return meet() ? -1 : __real_unlinkat(dir, name, flags);
}

/* ---- what is done while it happens ---- */

/* Adds "added" to the file, or makes it; the first error. */
static enum chv_err change(const char *path, enum chv_keystore_mode mode, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = mode, .scrypt_n = TEST_N};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks = NULL;
    enum chv_err err = chv_keystore_open(path, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, test_secret, &secret, why);
    if (err == CHV_OK)
        err = chv_keystore_generate(ks, "added", why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    chv_keystore_close(ks);
    return err;
}

/* Runs change() in a child with the plan; its exit status: 0 done, 1 error, CRASHED. */
static int run_child(const char *path, enum chv_keystore_mode mode)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        calls = 0;
        _exit(change(path, mode, NULL) == CHV_OK ? 0 : 1);
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* 1: holds "added"; 0: whole and without it; -1: not there; -2: not whole. */
static int state_of(const char *path)
{
    uint8_t out[32];
    if (access(path, F_OK) != 0)
        return -1;
    struct chv_why why;
    if (test_try(path, TEST_PASSPHRASE, &why) != CHV_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        return -2;
    }
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_READ);
    enum chv_err err = chv_keystore_derive(ks, "added", out, 1, out, NULL);
    chv_keystore_close(ks);
    return err == CHV_OK;
}

/* The next writer succeeds and leaves the keystore and nothing else. */
static void next_writer_is_well(const char *path)
{
    int state = state_of(path);
    enum chv_keystore_mode mode = state == -1 ? CHV_KEYSTORE_CREATE : CHV_KEYSTORE_WRITE;
    struct chv_keystore *ks = test_open(path, mode);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "next", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(state_of(path), state == 1);
    CU_ASSERT_EQUAL(test_folder_count(), 1);
}

/* Crashes at call 1, 2, ... until the child gets through. */
static void crash_at_each(enum chv_keystore_mode mode, int kind)
{
    char *path = test_path("crash.ks");
    unsigned crashes = 0, old = 0, new = 0;
    int status = CRASHED;
    for (unsigned n = 1; status != 0 && n < CALLS_MAX; n++) {
        if (mode == CHV_KEYSTORE_WRITE)
            test_make_file(path);
        plan = kind == CRASH_HALF ? CRASH_HALF : CRASH;
        at = n;
        status = run_child(path, mode);
        plan = CALM;
        CU_ASSERT(status == CRASHED || status == 0);
        crashes += status == CRASHED;
        int state = state_of(path);
        CU_ASSERT(state == 1 || state == (mode == CHV_KEYSTORE_CREATE ? -1 : 0));
        old += state != 1;
        new += state == 1;
        if (status == 0)
            CU_ASSERT(state == 1);
        if (kind == CRASH_HALF ? status == CRASHED : n % 3 == 0 || status == 0)
            next_writer_is_well(path);
        (void)unlink(path);
        if (kind == CRASH_HALF && status == CRASHED)
            break;
        if (kind == CRASH_HALF)
            status = CRASHED; /* that call was no write: look further */
    }
    CU_ASSERT(crashes > 0 && old > 0);
    if (kind == CRASH)
        CU_ASSERT(crashes >= 12 && new >= 2); /* also after the rename, before the folder is synced */
    /* leftovers of the rounds that no writer followed */
    test_make_file(path);
    next_writer_is_well(path);
    (void)unlink(path);
    free(path);
}

static void test_crash_write(void)
{
    crash_at_each(CHV_KEYSTORE_WRITE, CRASH);
}

static void test_crash_create(void)
{
    crash_at_each(CHV_KEYSTORE_CREATE, CRASH);
}

static void test_crash_half_written(void)
{
    crash_at_each(CHV_KEYSTORE_WRITE, CRASH_HALF);
}

static void test_crash_create_by_link(void)
{
    refuse_renameat2 = EINVAL;
    crash_at_each(CHV_KEYSTORE_CREATE, CRASH);
    refuse_renameat2 = 0;
}

/* The Nth call fails, N = 1, 2, ...: an error and the old file, or no error and the new one; nothing left behind. */
static void fail_each(enum chv_keystore_mode mode)
{
    char *path = test_path("fail.ks");
    unsigned failures = 0;
    bool all = false;
    for (unsigned n = 1; !all && n < CALLS_MAX; n++) {
        struct chv_why why = {""};
        if (mode == CHV_KEYSTORE_WRITE)
            test_make_file(path);
        plan = FAIL;
        at = n;
        calls = 0;
        enum chv_err err = change(path, mode, &why);
        all = calls < n;
        plan = CALM;
        int state = state_of(path);
        if (err == CHV_OK) {
            CU_ASSERT_EQUAL(state, 1);
        } else {
            failures++;
            CU_ASSERT(err == CHV_ERR_IO || err == CHV_ERR_BUSY);
            CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));
            /* only a folder that cannot be synced leaves the new one, and says so */
            if (state == 1)
                CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "was written, but"));
            CU_ASSERT(state == 1 || state == (mode == CHV_KEYSTORE_CREATE ? -1 : 0));
        }
        /* a file that cannot be removed is the next writer's to tidy: then, and only then, something may be left */
        CU_ASSERT(test_folder_count() <= 2);
        if (test_folder_count() != (state == -1 ? 0 : 1))
            next_writer_is_well(path);
        (void)unlink(path);
    }
    CU_ASSERT(failures >= 6);
    CU_ASSERT_EQUAL(test_folder_count(), 0);
    free(path);
}

static void test_failures(void)
{
    fail_each(CHV_KEYSTORE_WRITE);
    fail_each(CHV_KEYSTORE_CREATE);
}

/* Without its bytes on the disk first, a new name may point to nothing after a power cut. */
static void test_order(void)
{
    char seen[64] = "";
    char *path = test_path("order.ks");
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_CREATE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    trace = seen;
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    trace = NULL;
    CU_ASSERT_STRING_EQUAL(seen, "wsrS");
    memset(seen, 0, sizeof seen);
    trace = seen;
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    trace = NULL;
    CU_ASSERT_STRING_EQUAL(seen, "wsrS");
    chv_keystore_close(ks);
    (void)unlink(path);
    free(path);
}

/* The holder removes the lock file between our open and our lock: what we then hold keeps nobody out. */
static void test_lock_without_a_name(void)
{
    char *path = test_path("named.ks"), *lock = test_path("named.ks.lock");
    struct chv_keystore_options write = {.mode = CHV_KEYSTORE_WRITE};
    struct chv_keystore *second = NULL;
    test_make_file(path);
    for (int again = 0; again < 2; again++) {
        steal_again = again != 0;
        steal_lock = lock;
        struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        CU_ASSERT_PTR_NULL(steal_lock);
        CU_ASSERT_EQUAL(access(lock, F_OK), 0);
        CU_ASSERT_EQUAL(chv_keystore_open(path, &write, &second, NULL), CHV_ERR_BUSY);
        chv_keystore_close(ks);
        CU_ASSERT_EQUAL(test_folder_count(), 1);
    }
    (void)unlink(path);
    free(path);
    free(lock);
}

static void test_create_never_replaces(void)
{
    static const int systems[] = {0, EINVAL, ENOSYS}; /* by renameat2, and by link where that is not to be had */
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        struct chv_why why = {""};
        char *path = test_path("both.ks");
        refuse_renameat2 = systems[i];
        struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_CREATE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
        test_write(path, "somebody else's", 15); /* between open and commit */
        CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_ERR_EXISTS);
        chv_keystore_close(ks);
        struct test_bytes file = test_read(path);
        CU_ASSERT_STRING_EQUAL(file.ptr, "somebody else's");
        CU_ASSERT_EQUAL(test_folder_count(), 1);
        free(file.ptr);
        (void)unlink(path);
        test_make_file(path); /* and without anybody else it works */
        CU_ASSERT(test_file_is_good(path));
        CU_ASSERT_EQUAL(test_folder_count(), 1);
        (void)unlink(path);
        refuse_renameat2 = 0;
        free(path);
    }
}

/* ---- no room on the disk ---- */

/* The old file is whole, nothing is left, the error says why; afterwards the same keystore can still be committed. */
static void assert_full(const char *path, const char *reason, void (*make_room)(void))
{
    struct chv_why why = {""};
    struct test_bytes before = test_read(path);
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    CU_ASSERT_EQUAL(chv_keystore_generate(ks, "added", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, &why), CHV_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, reason));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "the old one is untouched"));
    struct test_bytes after = test_read(path);
    CU_ASSERT(after.len == before.len && memcmp(after.ptr, before.ptr, after.len) == 0);
    make_room();
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(state_of(path), 1);
    free(before.ptr);
    free(after.ptr);
}

static struct rlimit no_limit;

static void lift_limit(void)
{
    (void)setrlimit(RLIMIT_FSIZE, &no_limit);
}

static void test_file_size_limit(void)
{
    char *path = test_path("limit.ks");
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    test_make_file(path);
    CU_ASSERT_EQUAL(getrlimit(RLIMIT_FSIZE, &no_limit), 0);
    struct rlimit small = {.rlim_cur = 300, .rlim_max = no_limit.rlim_max};
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_full(path, "File too large", lift_limit);
    CU_ASSERT_EQUAL(test_folder_count(), 1);
    (void)signal(SIGXFSZ, handler);
    (void)unlink(path);
    free(path);
}

static char *filler;

static void remove_filler(void)
{
    (void)unlink(filler);
}

/* On a file system of its own of four pages, in a mount namespace that ends with the child. */
static void fill_disk(const char *folder)
{
    char path[512], buf[4096] = "";
    unsigned before = CU_get_number_of_failures();
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=16k,mode=700") != 0)
        _exit(77);
    (void)snprintf(path, sizeof path, "%s/full.ks", folder);
    test_make_file(path);
    if (asprintf(&filler, "%s/filler", folder) < 0)
        _exit(1);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (__real_write(fd, buf, sizeof buf) > 0)
        ;
    close(fd);
    assert_full(path, "No space left on device", remove_filler);
    _exit(CU_get_number_of_failures() == before ? 0 : 1);
}

static void test_disk_full(void)
{
    int status = -1;
    char *folder = test_path("tmpfs");
    CU_ASSERT_EQUAL(mkdir(folder, 0700), 0);
    pid_t child = fork();
    if (child == 0)
        fill_disk(folder);
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        (void)fprintf(stderr, "(not root here: no small file system, only the size limit was tried) ");
    else
        CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
    free(folder);
}

TEST_MAIN("keystore: crashes and failures", {"crash in a write", test_crash_write},
          {"crash in a create", test_crash_create}, {"crash in a half-done write()", test_crash_half_written},
          {"crash in a create by link()", test_crash_create_by_link}, {"each call fails", test_failures},
          {"order of a write", test_order}, {"lock without a name", test_lock_without_a_name},
          {"create never replaces", test_create_never_replaces}, {"file size limit", test_file_size_limit},
          {"disk full", test_disk_full})
