/* SPDX-License-Identifier: Apache-2.0 */
/* A client's tickets: each used once, whoever asks, whatever is killed; nothing that is not ours is read or used. */
#include "net/ticket_store.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/harness.h"

static const uint8_t ours[CHV_KEY_LEN] = {1}, theirs[CHV_KEY_LEN] = {2};
static const struct chv_ticket_now noon = {.boot = 1000, .wall = 1800000000};
enum { LIFE = 3600 };

struct place {
    char folder[64], file[96], temp[96], link[96];
    unsigned warnings;
    char warning[512];
};

static void place_open(struct place *p)
{
    const char *tmp = getenv("TMPDIR");
    memset(p, 0, sizeof *p);
    (void)snprintf(p->folder, sizeof p->folder, "%s/chv-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(p->folder));
    (void)snprintf(p->file, sizeof p->file, "%s/tickets", p->folder);
    (void)snprintf(p->temp, sizeof p->temp, "%s/.tickets.new", p->folder);
    (void)snprintf(p->link, sizeof p->link, "%s/link", p->folder);
}

static void place_close(struct place *p)
{
    (void)unlink(p->file);
    (void)unlink(p->link);
    CU_ASSERT_EQUAL(rmdir(p->folder), 0); /* nothing else is left there */
}

static void on_warning(void *arg, const char *text)
{
    struct place *p = arg;
    p->warnings++;
    (void)snprintf(p->warning, sizeof p->warning, "%s", text);
}

/* `p` NULL: in memory. */
static struct chv_ticket_store *store_open(struct place *p)
{
    struct chv_ticket_store *store = NULL;
    struct chv_why why = {""};
    CU_ASSERT_EQUAL_FATAL(chv_ticket_store_open(p != NULL ? p->file : NULL, on_warning, p, &store, &why), CHV_OK);
    chv_ticket_store_bind(store, ours);
    return store;
}

static void add(struct chv_ticket_store *store, struct chv_ticket_now now, uint8_t number, uint32_t lifetime)
{
    struct chv_grant grant = {.ticket = {0x10, number}, .ticket_len = 2, .lifetime = lifetime};
    const uint8_t secret[CHV_KEY_LEN] = {0x20, number};
    chv_ticket_store_add(store, ours, now, &grant, secret);
}

/* The number of the ticket that comes; -1: none does. */
static int take(struct chv_ticket_store *store, struct chv_ticket_now now)
{
    struct chv_ticket_use use;
    memset(&use, 'x', sizeof use);
    if (!chv_ticket_store_take(store, now, &use)) {
        CU_ASSERT_TRUE(chv_is_zero(&use, sizeof use));
        return -1;
    }
    CU_ASSERT_EQUAL(use.ticket_len, 2);
    CU_ASSERT_EQUAL(use.ticket[0], 0x10);
    CU_ASSERT_EQUAL(use.secret[0], 0x20);
    CU_ASSERT_EQUAL(use.secret[1], use.ticket[1]);
    return use.ticket[1];
}

static struct chv_ticket_now later(uint64_t seconds)
{
    return (struct chv_ticket_now){.boot = noon.boot + seconds, .wall = noon.wall + seconds};
}

/* Memory and file alike. */
static void both(void (*test)(struct place *p))
{
    struct place p;
    test(NULL);
    place_open(&p);
    test(&p);
    CU_ASSERT_EQUAL(p.warnings, 0);
    place_close(&p);
}

static void once(struct place *p)
{
    struct chv_ticket_store *store = store_open(p);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    add(store, noon, 1, LIFE);
    add(store, noon, 2, LIFE + 20);
    add(store, noon, 3, LIFE + 10);
    CU_ASSERT_EQUAL(chv_ticket_store_count(store, noon), 3);
    CU_ASSERT_EQUAL(take(store, noon), 2); /* longest-lived first */
    CU_ASSERT_EQUAL(take(store, noon), 3);
    CU_ASSERT_EQUAL(take(store, noon), 1);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    CU_ASSERT_EQUAL(chv_ticket_store_count(store, noon), 0);
    chv_ticket_store_close(store);
}

static void test_once(void)
{
    both(once);
}

static void lifetimes(struct place *p)
{
    struct chv_ticket_store *store = store_open(p);
    add(store, noon, 1, 10);
    CU_ASSERT_EQUAL(take(store, later(10)), -1);
    add(store, later(20), 2, 10);
    CU_ASSERT_EQUAL(take(store, later(29)), 2);
    add(store, later(100), 3, UINT32_MAX); /* is not believed */
    CU_ASSERT_EQUAL(take(store, later(100 + CHV_TICKET_LIFETIME_MAX)), -1);
    add(store, later(200), 4, UINT32_MAX);
    CU_ASSERT_EQUAL(take(store, later(200 + CHV_TICKET_LIFETIME_MAX - 1)), 4);
    chv_ticket_store_close(store);
}

static void test_lifetimes(void)
{
    both(lifetimes);
}

/* In memory the time of day does not matter, whoever sets it; in a file the machine's run does not. */
static void test_clocks(void)
{
    struct place p;
    struct chv_ticket_store *store = store_open(NULL);
    add(store, noon, 1, LIFE);
    CU_ASSERT_EQUAL(take(store, (struct chv_ticket_now){.boot = noon.boot + 1, .wall = 0}), 1);
    add(store, noon, 2, LIFE);
    CU_ASSERT_EQUAL(take(store, (struct chv_ticket_now){.boot = noon.boot + LIFE, .wall = noon.wall}), -1);
    chv_ticket_store_close(store);
    place_open(&p);
    store = store_open(&p);
    add(store, noon, 3, LIFE);
    CU_ASSERT_EQUAL(take(store, (struct chv_ticket_now){.boot = 1, .wall = noon.wall + 1}), 3);
    add(store, noon, 4, LIFE);
    CU_ASSERT_EQUAL(take(store, (struct chv_ticket_now){.boot = noon.boot, .wall = noon.wall + LIFE}), -1);
    add(store, noon, 5, LIFE); /* from the future */
    CU_ASSERT_EQUAL(take(store, (struct chv_ticket_now){.boot = noon.boot, .wall = noon.wall - 1}), -1);
    chv_ticket_store_close(store);
    place_close(&p);
    const struct chv_ticket_now now = chv_ticket_now();
    CU_ASSERT_TRUE(now.boot > 0 && now.wall > UINT64_C(1700000000));
}

static void bounded(struct place *p)
{
    struct chv_ticket_store *store = store_open(p);
    bool came[CHV_TICKET_STORE_MAX + 2] = {false};
    add(store, noon, 0, LIFE);
    for (unsigned i = 1; i <= CHV_TICKET_STORE_MAX; i++)
        add(store, noon, (uint8_t)i, LIFE + 100 + i);
    add(store, noon, CHV_TICKET_STORE_MAX + 1, LIFE + 1); /* ends before all that are there */
    CU_ASSERT_EQUAL(chv_ticket_store_count(store, noon), CHV_TICKET_STORE_MAX);
    for (int i = take(store, noon); i >= 0; i = take(store, noon)) {
        CU_ASSERT_FALSE(came[i]);
        came[i] = true;
    }
    CU_ASSERT_FALSE(came[0]);
    CU_ASSERT_FALSE(came[CHV_TICKET_STORE_MAX + 1]);
    for (int i = 1; i <= CHV_TICKET_STORE_MAX; i++)
        CU_ASSERT_TRUE(came[i]);
    chv_ticket_store_close(store);
}

static void test_bounded(void)
{
    both(bounded);
}

static void wanted(struct place *p)
{
    struct chv_ticket_store *store = store_open(p);
    CU_ASSERT_EQUAL(chv_ticket_store_lacks(store, noon), CHV_TICKET_STORE_WANTED);
    add(store, noon, 1, LIFE);
    CU_ASSERT_EQUAL(chv_ticket_store_lacks(store, noon), CHV_TICKET_STORE_WANTED - 1);
    CU_ASSERT_EQUAL(chv_ticket_store_lacks(store, later(LIFE)), CHV_TICKET_STORE_WANTED);
    chv_ticket_store_want(store, 1000);
    CU_ASSERT_EQUAL(chv_ticket_store_lacks(store, noon), CHV_OPEN_TICKETS_MAX);
    chv_ticket_store_want(store, 0);
    CU_ASSERT_EQUAL(chv_ticket_store_lacks(store, noon), 0);
    CU_ASSERT_EQUAL(chv_ticket_store_take(store, later(LIFE), &(struct chv_ticket_use){.ticket_len = 0}), false);
    chv_ticket_store_close(store);
}

static void test_wanted(void)
{
    both(wanted);
}

static void binding(struct place *p)
{
    struct chv_ticket_store *store = store_open(p);
    add(store, noon, 1, LIFE);
    chv_ticket_store_bind(store, ours);
    CU_ASSERT_EQUAL(chv_ticket_store_count(store, noon), 1);
    chv_ticket_store_bind(store, theirs);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    add(store, noon, 2, LIFE); /* of a session that is ours: it came too late */
    CU_ASSERT_EQUAL(take(store, noon), -1);
    const struct chv_grant grant = {.ticket = {0x10, 3}, .ticket_len = 2, .lifetime = LIFE};
    const uint8_t secret[CHV_KEY_LEN] = {0x20, 3};
    chv_ticket_store_add(store, theirs, noon, &grant, secret);
    chv_ticket_store_bind(store, ours);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    chv_ticket_store_close(store);
}

/* What was got with another credential is not used, and does not come back either. */
static void test_binding(void)
{
    both(binding);
}

static void test_file_outlives(void)
{
    struct place p;
    struct stat st;
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p), *other = store_open(&p);
    CU_ASSERT_NOT_EQUAL(stat(p.file, &st), 0); /* made when it is needed */
    const mode_t mask = umask(0);
    add(store, noon, 1, LIFE);
    (void)umask(mask);
    CU_ASSERT_EQUAL(stat(p.file, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 07777, 0600);
    add(other, noon, 2, LIFE + 1);
    CU_ASSERT_EQUAL(take(store, noon), 2);
    CU_ASSERT_EQUAL(chv_ticket_store_count(other, noon), 1);
    chv_ticket_store_close(store);
    chv_ticket_store_close(other);
    store = store_open(&p);
    CU_ASSERT_EQUAL(take(store, noon), 1);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    chv_ticket_store_close(store);
    CU_ASSERT_EQUAL(p.warnings, 0);
    place_close(&p);
}

static enum chv_err open_err(const char *file, struct chv_why *why)
{
    struct chv_ticket_store *store = NULL;
    enum chv_err err = chv_ticket_store_open(file, NULL, NULL, &store, why);
    CU_ASSERT_EQUAL(store == NULL, err != CHV_OK);
    chv_ticket_store_close(store);
    return err;
}

static void test_refused_files(void)
{
    struct place p;
    struct chv_why why = {""};
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    for (unsigned bit = 1; bit < 0100; bit <<= 1) {
        CU_ASSERT_EQUAL(chmod(p.file, 0600 | bit), 0);
        CU_ASSERT_EQUAL(open_err(p.file, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, p.file));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "remove it"));
    }
    /* one that was opened before says so, and goes on in memory */
    CU_ASSERT_EQUAL(take(store, noon), -1);
    CU_ASSERT_EQUAL(p.warnings, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.warning, "others may get at"));
    add(store, noon, 2, LIFE);
    CU_ASSERT_EQUAL(take(store, noon), 2);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    CU_ASSERT_EQUAL(p.warnings, 1); /* once */
    chv_ticket_store_close(store);
    CU_ASSERT_EQUAL(chmod(p.file, 0600), 0);
    CU_ASSERT_EQUAL(symlink(p.file, p.link), 0);
    CU_ASSERT_EQUAL(open_err(p.link, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "symbolic link"));
    CU_ASSERT_EQUAL(unlink(p.link), 0);
    CU_ASSERT_EQUAL(symlink("/nowhere/at/all", p.link), 0);
    CU_ASSERT_EQUAL(open_err(p.link, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(unlink(p.link), 0);
    CU_ASSERT_EQUAL(mkfifo(p.link, 0600), 0);
    CU_ASSERT_EQUAL(open_err(p.link, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(open_err(p.folder, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(open_err("/nowhere/at/all", &why), CHV_ERR_IO);
    if (geteuid() == 0) {
        CU_ASSERT_EQUAL(chown(p.file, 1, 1), 0);
        CU_ASSERT_EQUAL(open_err(p.file, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "belongs to user 1"));
    }
    place_close(&p);
}

/* Becomes a link after it was opened: nothing is read or written through it. */
static void test_link_later(void)
{
    struct place p;
    struct stat before, after;
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    CU_ASSERT_EQUAL(rename(p.file, p.link), 0);
    CU_ASSERT_EQUAL(symlink(p.link, p.file), 0);
    CU_ASSERT_EQUAL(stat(p.link, &before), 0);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    add(store, noon, 2, LIFE);
    CU_ASSERT_EQUAL(stat(p.link, &after), 0);
    CU_ASSERT_EQUAL(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    CU_ASSERT_EQUAL(before.st_size, after.st_size);
    CU_ASSERT_EQUAL(take(store, noon), 2); /* out of memory */
    CU_ASSERT_EQUAL(p.warnings, 1);
    chv_ticket_store_close(store);
    place_close(&p);
}

static size_t read_all(const char *path, uint8_t *out, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = read(fd, out, size);
    (void)close(fd);
    return n > 0 ? (size_t)n : 0;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(write(fd, bytes, len), (ssize_t)len);
    (void)close(fd);
}

/* Every cut and every changed byte: no crash, nothing but what was put in, and the file is good again afterwards. */
static void test_damaged(void)
{
    struct place p;
    uint8_t good[4096], bad[4096];
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    add(store, noon, 2, LIFE);
    const size_t len = read_all(p.file, good, sizeof good);
    CU_ASSERT_TRUE(len > 100 && len < sizeof good);
    struct chv_ticket_use use;
    for (size_t cut = 0; cut < len; cut += 7) {
        p.warnings = 0;
        struct chv_ticket_store *fresh = store_open(&p);
        write_file(p.file, good, cut);
        CU_ASSERT_FALSE(chv_ticket_store_take(fresh, noon, &use));
        CU_ASSERT_EQUAL(p.warnings, cut > 0);
        chv_ticket_store_close(fresh);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(p.warning, "is damaged"));
    CU_ASSERT_PTR_NOT_NULL(strstr(p.warning, p.file));
    memcpy(bad, good, len);
    bad[len] = 0; /* something behind it */
    write_file(p.file, bad, len + 1);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    for (size_t i = 0; i < len; i++) {
        memcpy(bad, good, len);
        bad[i] ^= 0x81;
        write_file(p.file, bad, len);
        if (chv_ticket_store_take(store, noon, &use))
            CU_ASSERT_TRUE(use.ticket_len >= 1 && use.ticket_len <= CHV_TICKET_MAX);
    }
    memset(bad, 0xff, sizeof bad);
    write_file(p.file, bad, sizeof bad);
    add(store, noon, 3, LIFE); /* written anew */
    p.warnings = 0;
    CU_ASSERT_EQUAL(take(store, noon), 3);
    CU_ASSERT_EQUAL(p.warnings, 0);
    chv_wipe(&use, sizeof use);
    chv_ticket_store_close(store);
    place_close(&p);
}

/* Does `work` in a process of its own, which is killed then; what it wrote to its descriptor is returned. */
static size_t in_child(struct place *p, void (*work)(struct place *p, int fd), uint8_t *out, size_t size)
{
    int fds[2];
    size_t len = 0;
    CU_ASSERT_EQUAL_FATAL(pipe2(fds, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        work(p, fds[1]);
        (void)raise(SIGKILL);
        _exit(1);
    }
    (void)close(fds[1]);
    for (ssize_t n = 1; n > 0 && len<size; len += n> 0 ? (size_t)n : 0)
        n = read(fds[0], out + len, size - len);
    (void)close(fds[0]);
    CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
    return len;
}

static void take_one(struct place *p, int fd)
{
    struct chv_ticket_store *store = store_open(p);
    const uint8_t number = (uint8_t)take(store, noon);
    (void)!write(fd, &number, 1);
}

/* It is gone from the file before it is in anybody's hands. */
static void test_killed(void)
{
    struct place p;
    uint8_t out[2];
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    add(store, noon, 2, LIFE + 1);
    CU_ASSERT_EQUAL(in_child(&p, take_one, out, sizeof out), 1);
    CU_ASSERT_EQUAL(out[0], 2);
    CU_ASSERT_EQUAL(take(store, noon), 1);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    /* what one who was killed in the middle of writing has left is in nobody's way */
    write_file(p.temp, out, 1);
    add(store, noon, 3, LIFE);
    CU_ASSERT_NOT_EQUAL(access(p.temp, F_OK), 0);
    CU_ASSERT_EQUAL(take(store, noon), 3);
    CU_ASSERT_EQUAL(p.warnings, 0);
    chv_ticket_store_close(store);
    place_close(&p);
}

static void take_all(struct place *p, int fd)
{
    struct chv_ticket_store *store = store_open(p);
    for (int i = take(store, noon); i >= 0; i = take(store, noon)) {
        const uint8_t number = (uint8_t)i;
        (void)!write(fd, &number, 1);
    }
}

/* One process takes while another one does: both together get each ticket once. */
static void test_two_processes(void)
{
    struct place p;
    unsigned came[CHV_TICKET_STORE_MAX] = {0};
    uint8_t out[2 * CHV_TICKET_STORE_MAX];
    int fds[2];
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    for (unsigned i = 0; i < CHV_TICKET_STORE_MAX; i++)
        add(store, noon, (uint8_t)i, LIFE);
    CU_ASSERT_EQUAL_FATAL(pipe2(fds, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        take_all(&p, fds[1]);
        _exit(0);
    }
    (void)close(fds[1]);
    size_t len = in_child(&p, take_all, out, sizeof out);
    for (ssize_t n = 1; n > 0 && len<sizeof out; len += n> 0 ? (size_t)n : 0)
        n = read(fds[0], out + len, sizeof out - len);
    (void)close(fds[0]);
    CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
    CU_ASSERT_EQUAL(len, CHV_TICKET_STORE_MAX);
    for (size_t i = 0; i < len && out[i] < CHV_TICKET_STORE_MAX; i++)
        came[out[i]]++;
    for (size_t i = 0; i < CHV_TICKET_STORE_MAX; i++)
        CU_ASSERT_EQUAL(came[i], 1);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    chv_ticket_store_close(store);
    place_close(&p);
}

/* Somebody holds it, and does not let go: a warning, and the connection is made without it. */
static void test_held(void)
{
    struct place p;
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    const int fd = open(p.file, O_RDONLY | O_CLOEXEC);
    CU_ASSERT_EQUAL(flock(fd, LOCK_EX), 0);
    CU_ASSERT_EQUAL(take(store, noon), -1);
    CU_ASSERT_EQUAL(p.warnings, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.warning, "another process holds"));
    (void)close(fd);
    CU_ASSERT_EQUAL(take(store, noon), 1);
    chv_ticket_store_close(store);
    place_close(&p);
}

/* A ticket that cannot be taken off the disk is not used; one that cannot be put there is kept in memory. */
static void test_full_disk(void)
{
    struct place p;
    struct rlimit limit, none;
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    add(store, noon, 1, LIFE);
    CU_ASSERT_EQUAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
    void (*const old)(int) = signal(SIGXFSZ, SIG_IGN);
    none = (struct rlimit){.rlim_cur = 8, .rlim_max = limit.rlim_max};
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &none), 0);
    const int taken = take(store, noon);
    add(store, noon, 2, LIFE);
    const int second = take(store, noon), third = take(store, noon);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    (void)signal(SIGXFSZ, old);
    CU_ASSERT_EQUAL(taken, -1);
    CU_ASSERT_EQUAL(second, 2);
    CU_ASSERT_EQUAL(third, -1);
    CU_ASSERT_EQUAL(p.warnings, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.warning, "cannot write"));
    CU_ASSERT_EQUAL(take(store, noon), 1); /* there is room again */
    chv_ticket_store_close(store);
    place_close(&p);
}

/* What a file had is not in it any more once it was used. */
static void test_secrets_leave_the_file(void)
{
    struct place p;
    uint8_t bytes[4096];
    place_open(&p);
    struct chv_ticket_store *store = store_open(&p);
    struct chv_grant grant = {.ticket = "PUBLIC-PART", .ticket_len = 11, .lifetime = LIFE};
    static const uint8_t secret[CHV_KEY_LEN] = "SECRET-PART";
    struct chv_ticket_use use;
    chv_ticket_store_add(store, ours, noon, &grant, secret);
    size_t len = read_all(p.file, bytes, sizeof bytes);
    CU_ASSERT_PTR_NOT_NULL(memmem(bytes, len, "SECRET-PART", 11));
    CU_ASSERT_TRUE(chv_ticket_store_take(store, noon, &use));
    len = read_all(p.file, bytes, sizeof bytes);
    CU_ASSERT_TRUE(len > 0);
    CU_ASSERT_PTR_NULL(memmem(bytes, len, "SECRET-PART", 11));
    CU_ASSERT_PTR_NULL(memmem(bytes, len, "PUBLIC-PART", 11));
    chv_ticket_store_close(store);
    chv_ticket_store_close(NULL);
    place_close(&p);
}

TEST_MAIN("ticket store", {"once", test_once}, {"lifetimes", test_lifetimes}, {"clocks", test_clocks},
          {"bounded", test_bounded}, {"wanted", test_wanted}, {"binding", test_binding},
          {"file outlives", test_file_outlives}, {"refused files", test_refused_files}, {"link later", test_link_later},
          {"damaged", test_damaged}, {"killed", test_killed}, {"two processes", test_two_processes},
          {"held", test_held}, {"full disk", test_full_disk}, {"secrets leave the file", test_secrets_leave_the_file})
