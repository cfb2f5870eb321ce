/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the service files killed before and behind every system call of its work on a file: under a final name
 * there is nothing partial, ever, and what is left can be gone on with.
 */
#include "config.h"

#include "services/files_part.h"
#include "services/files_session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/control.h"
#include "tests/harness.h"

enum { QUOTA = 1000000, CONTENT = 30000, RECORD = 10000, PART = 15000, NO_PTRACE = 99, STOPS_MAX = 2000, MODE = 0440 };

struct site {
    char folder[64];
    struct chv_files_root root;
    struct chv_files_session *session;
    struct chv_files_out out;
};

static uint8_t content[CONTENT]; /* the new file; the old one is its first 5 bytes, upside down */
static const char old_content[] = "olden";

/* --- a site -------------------------------------------------------------------------------------------------------- */

static void open_site(struct site *s)
{
    const char *tmp = getenv("TMPDIR");
    memset(s, 0, sizeof *s);
    CU_ASSERT_FATAL(
        snprintf(s->folder, sizeof s->folder, "%s/chv-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp") > 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    s->root = (struct chv_files_root){
        .fd = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .quota = QUOTA, .part_keep = 86400};
    CU_ASSERT_FATAL(s->root.fd >= 0);
    CU_ASSERT_EQUAL_FATAL(mkdirat(s->root.fd, "cam1", 0700), 0);
    CU_ASSERT_EQUAL_FATAL(mkdirat(s->root.fd, "cam1/d", 0700), 0);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 7 + i / 251);
}

/* Of all that is in it, which is one level deep. */
static void remove_all(int dir)
{
    DIR *d = fdopendir(dup(dir));
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    rewinddir(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(dir, e->d_name, 0) == 0)
            continue;
        int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CU_ASSERT_FATAL(sub >= 0);
        remove_all(sub);
        (void)close(sub);
        CU_ASSERT_EQUAL(unlinkat(dir, e->d_name, AT_REMOVEDIR), 0);
    }
    (void)closedir(d);
}

static void close_site(struct site *s)
{
    remove_all(s->root.fd);
    CU_ASSERT_EQUAL(rmdir(s->folder), 0);
    (void)close(s->root.fd);
}

static void start(struct site *s)
{
    CU_ASSERT_EQUAL_FATAL(chv_files_session_new(&s->root, "cam1", true, 0, &s->session), CHV_OK);
}

static void stop(struct site *s)
{
    chv_files_session_free(s->session);
    free(s->out.buf);
    s->session = NULL;
    memset(&s->out, 0, sizeof s->out);
}

static void feed(struct site *s, uint8_t type, const void *body, size_t len)
{
    CU_ASSERT_EQUAL_FATAL(chv_files_session_record(s->session, type, body, len, &s->out), CHV_OK);
    while (chv_files_session_streams(s->session))
        CU_ASSERT_EQUAL_FATAL(chv_files_session_more(s->session, &s->out), CHV_OK);
}

static void ask(struct site *s, const struct chv_files_request *request)
{
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(request, map, &len), CHV_OK);
    feed(s, CHV_FILES_REQUEST, map, len);
}

static void ask_path(struct site *s, enum chv_files_op op, const char *path)
{
    struct chv_files_request r = {.id = 1, .op = op};
    (void)snprintf(r.path, sizeof r.path, "%s", path);
    ask(s, &r);
}

/* The last answer; nothing waits any more. */
static struct chv_files_answer last(struct site *s)
{
    struct chv_files_answer a = {.code = 0};
    uint8_t type;
    const uint8_t *body;
    size_t at = 0, len;
    CU_ASSERT_EQUAL_FATAL(chv_files_session_rest(s->session, &s->out), CHV_OK);
    while (chv_files_out_next(&s->out, &at, &type, &body, &len))
        if (type == CHV_FILES_ANSWER)
            CU_ASSERT_EQUAL_FATAL(chv_files_answer_decode(body, len, &a), CHV_OK);
    s->out.len = 0;
    return a;
}

static void digest_of(size_t len, uint8_t out[CHV_FILES_DIGEST_LEN])
{
    struct chv_files_digest *d = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_files_digest_new(&d), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_digest_add(d, content, len), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_digest_finish(d, out), CHV_OK);
    chv_files_digest_free(d);
}

/* Content from `offset` on. */
static void put(struct site *s, const char *path, size_t offset)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    struct chv_files_request r = {
        .id = 1, .op = CHV_FILES_PUT, .size = CONTENT, .mode = MODE, .mtime = 1, .resume = true};
    (void)snprintf(r.path, sizeof r.path, "%s", path);
    r.has_offset = offset > 0;
    r.offset = offset;
    digest_of(offset, r.prefix);
    ask(s, &r);
    for (size_t at = offset; at < CONTENT; at += RECORD)
        feed(s, CHV_RECORD_DATA, content + at, CONTENT - at < RECORD ? CONTENT - at : RECORD);
    digest_of(CONTENT, digest);
    feed(s, CHV_RECORD_END, digest, sizeof digest);
}

static void write_file(const struct site *s, const char *path, const void *data, size_t len)
{
    int fd = openat(s->root.fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

static void write_part(const struct site *s, const char *folder, const char *name)
{
    char part[CHV_FILES_PART_SIZE], path[128];
    CU_ASSERT_FATAL(chv_files_part_name(name, part));
    (void)snprintf(path, sizeof path, "%s/%s", folder, part);
    write_file(s, path, content, PART);
}

/* --- what is checked ------------------------------------------------------------------------------------------------ */

enum found { NOTHING, OLD, NEW };

/* Anything else is partial. */
static enum found look(const struct site *s, const char *path)
{
    static uint8_t read_back[CONTENT + 1];
    int fd = openat(s->root.fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        CU_ASSERT_EQUAL(errno, ENOENT);
        return NOTHING;
    }
    const ssize_t n = read(fd, read_back, sizeof read_back);
    (void)close(fd);
    if (n == (ssize_t)strlen(old_content) && memcmp(read_back, old_content, (size_t)n) == 0)
        return OLD;
    CU_ASSERT_EQUAL(n, CONTENT);
    CU_ASSERT_EQUAL(memcmp(read_back, content, CONTENT), 0);
    return NEW;
}

/* As a client does that comes again: what is left is gone on with, and in the end all of it is there. */
static void go_on(struct site *s, const char *path)
{
    ask_path(s, CHV_FILES_STAT_PART, path);
    const struct chv_files_answer a = last(s);
    CU_ASSERT(a.code == 404 || a.code == 200);
    if (a.code == 200)
        CU_ASSERT(a.meta.size > 0 && a.meta.size <= CONTENT);
    put(s, path, a.code == 200 ? (size_t)a.meta.size : 0);
    CU_ASSERT_EQUAL(last(s).code, 200);
    ask_path(s, CHV_FILES_STAT, path);
    CU_ASSERT_EQUAL(last(s).meta.mode, MODE);
}

static uint64_t room(struct site *s)
{
    ask_path(s, CHV_FILES_DF, "");
    return last(s).left;
}

/* Root opens any file; the server's user must be able to, too. */
static void check_parts(const struct site *s, const char *folder)
{
    int fd = openat(s->root.fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL)
        return; /* what was run has removed it */
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct stat st;
        if (chv_files_is_part(e->d_name) && fstatat(fd, e->d_name, &st, 0) == 0)
            CU_ASSERT_EQUAL(st.st_mode & 0600, 0600);
    }
    (void)closedir(d);
}

/* --- killed --------------------------------------------------------------------------------------------------------- */

struct scenario {
    void (*before)(struct site *s); /* what is there */
    void (*run)(struct site *s);    /* until it is killed */
    void (*after)(struct site *s);  /* whatever happened */
};

/* True: it came to its end. Each system call has two stops. */
static bool run_until(struct site *s, const struct scenario *scenario, unsigned stops)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(NO_PTRACE);
        start(s);
        (void)raise(SIGSTOP);
        scenario->run(s);
        _exit(0);
    }
    CU_ASSERT_FATAL(pid > 0);
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    for (unsigned i = 0; WIFSTOPPED(status) && i < stops; i++) {
        CU_ASSERT_EQUAL_FATAL(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    }
    if (WIFSTOPPED(status)) {
        CU_ASSERT_EQUAL_FATAL(kill(pid, SIGKILL), 0);
        CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
        CU_ASSERT(WIFSIGNALED(status));
        return false;
    }
    CU_ASSERT(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NO_PTRACE));
    return true;
}

static void run_all(const struct scenario *scenario)
{
    bool ended = false;
    unsigned stops = 0;
    for (; stops < STOPS_MAX && !ended; stops++) {
        struct site s;
        open_site(&s);
        scenario->before(&s);
        ended = run_until(&s, scenario, stops);
        check_parts(&s, "cam1");
        check_parts(&s, "cam1/d");
        start(&s);
        scenario->after(&s);
        stop(&s);
        close_site(&s);
    }
    CU_ASSERT(ended);
}

static void nothing(struct site *s)
{
    (void)s;
}

static void run_put(struct site *s)
{
    put(s, "f", 0);
    (void)last(s);
}

static void after_put(struct site *s)
{
    if (look(s, "cam1/f") != NEW)
        go_on(s, "f");
    CU_ASSERT_EQUAL(look(s, "cam1/f"), NEW);
    CU_ASSERT_EQUAL(room(s), QUOTA - CONTENT);
    ask_path(s, CHV_FILES_STAT_PART, "f");
    CU_ASSERT_EQUAL(last(s).code, 404);
}

static void test_put(void)
{
    static const struct scenario scenario = {nothing, run_put, after_put};
    run_all(&scenario);
}

static void before_replace(struct site *s)
{
    write_file(s, "cam1/f", old_content, strlen(old_content));
}

static void after_replace(struct site *s)
{
    CU_ASSERT_NOT_EQUAL(look(s, "cam1/f"), NOTHING);
    after_put(s);
}

static void test_replace(void)
{
    static const struct scenario scenario = {before_replace, run_put, after_replace};
    run_all(&scenario);
}

static void before_resume(struct site *s)
{
    write_part(s, "cam1", "f");
}

static void run_resume(struct site *s)
{
    put(s, "f", PART - 1000);
    (void)last(s);
}

/* What had come before is not lost by going on. */
static void after_resume(struct site *s)
{
    if (look(s, "cam1/f") == NOTHING) {
        ask_path(s, CHV_FILES_STAT_PART, "f");
        CU_ASSERT(last(s).meta.size >= PART - 1000);
    }
    after_put(s);
}

static void test_resume(void)
{
    static const struct scenario scenario = {before_resume, run_resume, after_resume};
    run_all(&scenario);
}

static const char *const group[] = {"a", "d/b", "d/c"};
enum { GROUP = sizeof group / sizeof group[0] };

static void before_group(struct site *s)
{
    write_file(s, "cam1/d/b", old_content, strlen(old_content));
}

static void run_group(struct site *s)
{
    for (size_t i = 0; i < GROUP; i++)
        put(s, group[i], 0);
    (void)last(s);
}

static void after_group(struct site *s)
{
    CU_ASSERT_NOT_EQUAL(look(s, "cam1/d/b"), NOTHING);
    for (size_t i = 0; i < GROUP; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "cam1/%s", group[i]);
        if (look(s, path) != NEW)
            go_on(s, group[i]);
        CU_ASSERT_EQUAL(look(s, path), NEW);
    }
    CU_ASSERT_EQUAL(room(s), QUOTA - GROUP * CONTENT);
}

static void test_group(void)
{
    static const struct scenario scenario = {before_group, run_group, after_group};
    run_all(&scenario);
}

static void before_remove(struct site *s)
{
    write_file(s, "cam1/f", content, CONTENT);
    write_part(s, "cam1/d", "x");
    write_part(s, "cam1", "y");
}

static void run_remove(struct site *s)
{
    struct chv_files_request r = {.id = 1, .op = CHV_FILES_RENAME, .path = "f", .to = "g"};
    ask(s, &r);
    ask_path(s, CHV_FILES_RM, "g");
    ask_path(s, CHV_FILES_RMDIR, "d");
    ask_path(s, CHV_FILES_RM_PART, "y");
    (void)last(s);
}

/* Each of these is done or not, and can be done again. */
static void after_remove(struct site *s)
{
    CU_ASSERT(look(s, "cam1/f") == NOTHING || look(s, "cam1/g") == NOTHING);
    static const struct {
        enum chv_files_op op;
        const char *path;
    } all[] = {{CHV_FILES_RM, "f"}, {CHV_FILES_RM, "g"}, {CHV_FILES_RMDIR, "d"}, {CHV_FILES_RM_PART, "y"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ask_path(s, all[i].op, all[i].path);
        const unsigned code = last(s).code;
        CU_ASSERT(code == 200 || code == 404);
    }
    CU_ASSERT_EQUAL(room(s), QUOTA);
    CU_ASSERT_EQUAL(unlinkat(s->root.fd, "cam1", AT_REMOVEDIR), 0); /* nothing is left in it */
}

static void test_remove(void)
{
    static const struct scenario scenario = {before_remove, run_remove, after_remove};
    run_all(&scenario);
}

static void before_get(struct site *s)
{
    write_file(s, "cam1/f", content, CONTENT);
}

static void run_get(struct site *s)
{
    struct chv_files_request r = {.id = 1, .op = CHV_FILES_GET, .path = "f", .has_offset = true, .offset = PART};
    digest_of(PART, r.prefix);
    ask(s, &r);
    ask_path(s, CHV_FILES_LS, "");
    (void)last(s);
}

static void after_get(struct site *s)
{
    CU_ASSERT_EQUAL(look(s, "cam1/f"), NEW);
    run_get(s);
    ask_path(s, CHV_FILES_CHECKSUM, "f");
    CU_ASSERT_EQUAL(last(s).code, 200);
}

static void test_get(void)
{
    static const struct scenario scenario = {before_get, run_get, after_get};
    run_all(&scenario);
}

TEST_MAIN("files_kill", {"get", test_get}, {"put", test_put}, {"replace", test_replace}, {"resume", test_resume},
          {"group", test_group}, {"remove", test_remove})
