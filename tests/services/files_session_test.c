/* SPDX-License-Identifier: Apache-2.0 */
/* The service files without a connection: what stays in the home, what is left behind, what the sandbox allows. */
#include "config.h"

#include "services/files_part.h"
#include "services/files_session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/control.h"
#include "net/sandbox.h"
#include "tests/harness.h"

struct site {
    char folder[64];
    struct chv_files_root root;
    struct chv_files_session *session;
    struct chv_files_out out;
};

static void open_site(struct site *s, uint64_t quota)
{
    const char *tmp = getenv("TMPDIR");
    memset(s, 0, sizeof *s);
    CU_ASSERT_FATAL(
        snprintf(s->folder, sizeof s->folder, "%s/chv-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp") > 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
    s->root = (struct chv_files_root){.fd = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .quota = quota};
    CU_ASSERT_FATAL(s->root.fd >= 0);
    CU_ASSERT_EQUAL_FATAL(chv_files_session_new(&s->root, "cam1", true, 0, &s->session), CHV_OK);
}

/* What a test has made must be named: a name that is left over fails. */
static void close_site(struct site *s, const char *const *names)
{
    chv_files_session_free(s->session);
    free(s->out.buf);
    for (; *names != NULL; names++)
        CU_ASSERT(unlinkat(s->root.fd, *names, 0) == 0 || unlinkat(s->root.fd, *names, AT_REMOVEDIR) == 0);
    CU_ASSERT_EQUAL(unlinkat(s->root.fd, "cam1", AT_REMOVEDIR), 0);
    CU_ASSERT_EQUAL(rmdir(s->folder), 0);
    (void)close(s->root.fd);
}

static void ask(struct site *s, enum chv_files_op op, const char *path, uint64_t size)
{
    struct chv_files_request r = {.id = 1, .op = op, .size = size, .mode = 0600};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    memcpy(r.path, path, strlen(path) + 1);
    s->out.len = 0;
    CU_ASSERT_EQUAL_FATAL(chv_files_request_encode(&r, map, &len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_files_session_record(s->session, CHV_FILES_REQUEST, map, len, &s->out), CHV_OK);
}

static void feed(struct site *s, uint8_t type, const void *body, size_t len)
{
    CU_ASSERT_EQUAL_FATAL(chv_files_session_record(s->session, type, body, len, &s->out), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_files_session_rest(s->session, &s->out), CHV_OK);
}

/* Code of the last answer; 0: there is none. */
static unsigned answered(struct site *s)
{
    struct chv_files_answer a = {.code = 0};
    uint8_t type;
    const uint8_t *body;
    size_t at = 0, len;
    while (chv_files_session_streams(s->session))
        CU_ASSERT_EQUAL_FATAL(chv_files_session_more(s->session, &s->out), CHV_OK);
    while (chv_files_out_next(&s->out, &at, &type, &body, &len))
        if (type == CHV_FILES_ANSWER)
            CU_ASSERT_EQUAL_FATAL(chv_files_answer_decode(body, len, &a), CHV_OK);
    return a.code;
}

static void digest_of(const char *text, uint8_t out[CHV_FILES_DIGEST_LEN])
{
    struct chv_files_digest *d = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_files_digest_new(&d), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_digest_add(d, text, strlen(text)), CHV_OK);
    CU_ASSERT_EQUAL(chv_files_digest_finish(d, out), CHV_OK);
    chv_files_digest_free(d);
}

static void put(struct site *s, const char *path, const char *text)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    digest_of(text, digest);
    ask(s, CHV_FILES_PUT, path, strlen(text));
    feed(s, CHV_RECORD_DATA, text, strlen(text));
    feed(s, CHV_RECORD_END, digest, sizeof digest);
}

/* FIPS 180-4, the message "abc" */
static void test_digest(void)
{
    static const uint8_t abc[CHV_FILES_DIGEST_LEN] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                                      0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                                      0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    digest_of("abc", digest);
    CU_ASSERT_EQUAL(memcmp(digest, abc, sizeof abc), 0);
}

static void test_put_and_get(void)
{
    struct site s;
    static const char *const names[] = {"cam1/f", NULL};
    open_site(&s, 0);
    put(&s, "f", "hello");
    CU_ASSERT_EQUAL(answered(&s), 200);
    ask(&s, CHV_FILES_GET, "f", 0);
    CU_ASSERT_EQUAL(answered(&s), 200);
    ask(&s, CHV_FILES_CHECKSUM, "f", 0);
    CU_ASSERT_EQUAL(answered(&s), 200);
    ask(&s, CHV_FILES_LS, "", 0);
    CU_ASSERT_EQUAL(answered(&s), 200);
    close_site(&s, names);
}

/* A session that ends leaves nothing of what had not ended. */
static void test_unfinished(void)
{
    struct site s;
    static const char *const names[] = {NULL};
    open_site(&s, 0);
    ask(&s, CHV_FILES_PUT, "f", 5);
    feed(&s, CHV_RECORD_DATA, "hell", 4);
    CU_ASSERT_EQUAL(answered(&s), 0);
    close_site(&s, names);
    open_site(&s, 0);
    ask(&s, CHV_FILES_PUT, "f", 5);
    feed(&s, CHV_RECORD_DATA, "hello", 5);
    feed(&s, CHV_RECORD_END, "", 0);
    CU_ASSERT_EQUAL(answered(&s), 400);
    close_site(&s, names);
}

/* Connections of a client have one quota; what goes is given back. */
static void test_quota(void)
{
    struct site s;
    struct chv_files_home *home = NULL;
    static const char *const names[] = {"cam1/f", NULL};
    open_site(&s, 10);
    put(&s, "f", "hello");
    CU_ASSERT_EQUAL(answered(&s), 200);
    CU_ASSERT_EQUAL_FATAL(chv_files_home_open(&s.root, "cam1", &home), 0);
    CU_ASSERT_EQUAL(chv_files_home_left(home), 5);
    put(&s, "f", "world");
    CU_ASSERT_EQUAL(answered(&s), 200);
    CU_ASSERT_EQUAL(chv_files_home_left(home), 5);
    put(&s, "g", "much too long");
    CU_ASSERT_EQUAL(answered(&s), 507);
    CU_ASSERT_TRUE(chv_files_home_take(home, 3));
    CU_ASSERT_FALSE(chv_files_home_take(home, 3));
    CU_ASSERT_FALSE(chv_files_home_take(home, UINT64_MAX));
    put(&s, "g", "12345");
    CU_ASSERT_EQUAL(answered(&s), 507);
    chv_files_home_give(home, 3);
    put(&s, "g", "12345");
    CU_ASSERT_EQUAL(answered(&s), 200);
    ask(&s, CHV_FILES_RM, "g", 0);
    CU_ASSERT_EQUAL(answered(&s), 200);
    CU_ASSERT_EQUAL(chv_files_home_left(home), 5);
    chv_files_home_close(home);
    close_site(&s, names);
}

/* openat2 itself: no path of a request has `..`, so it is given some here. */
static void test_beneath(void)
{
    struct site s;
    static const char *const names[] = {"link", "out", NULL};
    open_site(&s, 0);
    ask(&s, CHV_FILES_STAT, "", 0); /* makes the home */
    CU_ASSERT_EQUAL(answered(&s), 200);
    CU_ASSERT_EQUAL(symlinkat("cam1", s.root.fd, "link"), 0);
    CU_ASSERT_EQUAL(symlinkat("/", s.root.fd, "out"), 0);
    static const struct {
        const char *path;
        int error;
    } bad[] = {{"..", EXDEV}, {"cam1/../..", EXDEV}, {"/", EXDEV}, {"link", ELOOP}, {"out", ELOOP}, {"out/etc", ELOOP}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(chv_files_openat(s.root.fd, bad[i].path, O_RDONLY | O_DIRECTORY, 0), -1);
        CU_ASSERT_EQUAL(errno, bad[i].error);
    }
    int fd = chv_files_openat(s.root.fd, "cam1", O_RDONLY | O_DIRECTORY, 0);
    CU_ASSERT_TRUE(fd >= 0);
    (void)close(fd);
    close_site(&s, names);
}

/* A request is due from its beginning until its last answer was sent. */
static void test_due(void)
{
    struct site s;
    uint64_t id = 0;
    static const char *const names[] = {"cam1/f", NULL};
    open_site(&s, 0);
    CU_ASSERT_FALSE(chv_files_session_due(s.session, &id));
    ask(&s, CHV_FILES_PUT, "f", 2);
    chv_files_session_told(s.session);
    CU_ASSERT_TRUE(chv_files_session_due(s.session, &id));
    CU_ASSERT_EQUAL(id, 1);
    feed(&s, CHV_RECORD_DATA, "hello", 5); /* refused: the rest of the stream is nothing that anybody waits for */
    CU_ASSERT_EQUAL(answered(&s), 400);
    chv_files_session_told(s.session);
    CU_ASSERT_FALSE(chv_files_session_due(s.session, &id));
    feed(&s, CHV_RECORD_END, "", 0);
    put(&s, "f", "hello");
    CU_ASSERT_TRUE(chv_files_session_due(s.session, &id));
    chv_files_session_told(s.session);
    CU_ASSERT_FALSE(chv_files_session_due(s.session, &id));
    ask(&s, CHV_FILES_CHECKSUM, "f", 0);
    chv_files_session_told(s.session);
    CU_ASSERT_TRUE(chv_files_session_due(s.session, &id));
    CU_ASSERT_EQUAL(answered(&s), 200);
    chv_files_session_told(s.session);
    CU_ASSERT_FALSE(chv_files_session_due(s.session, &id));
    close_site(&s, names);
}

static bool never(void)
{
    return false;
}

static bool at_once(void)
{
    return true;
}

/* The age of a part is that of its last change, whatever its time of modification says. */
static void test_sweep(void)
{
    struct site s;
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    static const char *const names[] = {"cam1/" CHV_FILES_PART "0", NULL};
    open_site(&s, 0);
    ask(&s, CHV_FILES_STAT, "", 0);
    int fd = openat(s.root.fd, names[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(futimens(fd, times), 0);
    (void)close(fd);
    s.root.part_keep = 86400;
    CU_ASSERT_TRUE(chv_files_sweep(&s.root, never));
    CU_ASSERT_FALSE(chv_files_sweep(&s.root, at_once));
    close_site(&s, names); /* it is still there */
}

#ifndef CHV_SANITIZED
/* `shared`: a folder that may only be read. */
static int in_sandbox(int folder, int shared)
{
    struct chv_why why = {""};
    if (chv_sandbox_folder(shared, false, &why) != CHV_OK || chv_sandbox_folder(folder, true, &why) != CHV_OK ||
        chv_sandbox_folders(&why) != CHV_OK)
        return 1;
    if (openat(shared, "cam1", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0)
        return 7;
    if (mkdirat(shared, "d", 0700) == 0 || errno != EACCES)
        return 8;
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
        return 2;
    if (openat(folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0)
        return 3;
    int fd = openat(folder, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || mkdirat(folder, "d", 0700) != 0 || renameat(folder, "f", folder, "d/f") != 0)
        return 4;
    if (symlinkat("x", folder, "l") == 0)
        return 5;
    return unlinkat(folder, "d/f", 0) == 0 && unlinkat(folder, "d", AT_REMOVEDIR) == 0 ? 0 : 6;
}
#endif

/* In a process of its own: there is no way back. */
static void test_sandbox(void)
{
#ifndef CHV_SANITIZED
    struct site s, shared;
    int status = 0;
    static const char *const names[] = {NULL};
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 2)
        return;
    open_site(&s, 0);
    open_site(&shared, 0);
    ask(&s, CHV_FILES_STAT, "", 0);
    CU_ASSERT_EQUAL(mkdirat(shared.root.fd, "cam1", 0700), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_sandbox(s.root.fd, shared.root.fd));
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_EQUAL(status, 0);
    close_site(&s, names);
    close_site(&shared, names);
#endif
}

TEST_MAIN("files_session", {"digest", test_digest}, {"put and get", test_put_and_get}, {"unfinished", test_unfinished},
          {"quota", test_quota}, {"beneath", test_beneath}, {"due", test_due}, {"sweep", test_sweep},
          {"sandbox", test_sandbox})
