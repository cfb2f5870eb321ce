/* SPDX-License-Identifier: Apache-2.0 */
/* The connector, asked over its sockets; names are resolved by the test. */
#include "config.h"

#include "net/connector_client.h"
#include "net/connector_internal.h"
#include "net/ipc.h"
#include "tests/net/conn_support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LOOPS = 2, LOOKUPS_MAX = 8 };

struct reply {
    bool there;
    int fd;
    struct chv_connector_answer answer;
};

static struct test_loop t;
static struct chv_connector *connector;
static struct chv_server_config config;
static int nets[LOOPS];

/* What the connector wants to be resolved. */
static struct {
    uv_getaddrinfo_t *request;
    uv_getaddrinfo_cb resolved;
    char node[256], service[8];
} lookups[LOOKUPS_MAX];
static size_t lookup_count;

static int resolve(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb resolved, const char *node,
                   const char *service, const struct addrinfo *hints)
{
    CU_ASSERT_PTR_EQUAL(loop, &t.loop.uv);
    CU_ASSERT_EQUAL(hints->ai_socktype, SOCK_STREAM);
    CU_ASSERT_FATAL(lookup_count < LOOKUPS_MAX);
    lookups[lookup_count].request = request;
    lookups[lookup_count].resolved = resolved;
    snprintf(lookups[lookup_count].node, sizeof lookups[0].node, "%s", node);
    snprintf(lookups[lookup_count++].service, sizeof lookups[0].service, "%s", service);
    return 0;
}

/* Answers lookup `i`: with these addresses, NULL ends them; or with a failure. */
static void resolved(size_t i, int status, const char *a, const char *b)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    const char *const hosts[] = {a, b};
    struct addrinfo *list = NULL, **last = &list;
    for (size_t h = 0; h < 2 && hosts[h] != NULL; h++) {
        CU_ASSERT_EQUAL_FATAL(getaddrinfo(hosts[h], lookups[i].service, &hints, last), 0);
        last = &(*last)->ai_next;
    }
    lookups[i].resolved(lookups[i].request, status, list);
}

static void tunnel(const char *name, const char *target, unsigned seconds)
{
    struct chv_server_tunnel *new = &config.tunnels[config.tunnel_count++];
    memset(new, 0, sizeof *new);
    snprintf(new->name, sizeof new->name, "%s", name);
    snprintf(new->target, sizeof new->target, "%s", target);
    new->connect_seconds = seconds;
    chv_connector_configure(connector, &config);
}

static void start_fresh(uint64_t fresh_ms)
{
    int theirs[LOOPS];
    test_loop_open(&t, NULL, 0);
    lookup_count = 0;
    config.tunnel_count = 0;
    CU_ASSERT_EQUAL_FATAL(chv_connector_new(&t.loop.uv, resolve, fresh_ms, &connector), CHV_OK);
    for (int i = 0; i < LOOPS; i++) {
        int ends[2];
        CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
        nets[i] = ends[0];
        theirs[i] = ends[1];
    }
    chv_connector_serve(connector, theirs, LOOPS);
}

static void start(void)
{
    start_fresh(CHV_CONNECTOR_FRESH_MS);
}

static void stop(void)
{
    for (int i = 0; i < LOOPS; i++)
        close(nets[i]);
    chv_connector_close(connector);
    test_turns(&t, 4);
    test_loop_close(&t);
}

static int descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    CU_ASSERT_PTR_NOT_NULL_FATAL(folder);
    while (readdir(folder) != NULL)
        n++;
    closedir(folder);
    return n;
}

static void ask(int loop, uint64_t tag, const char *name)
{
    struct chv_connector_request q = {.tag = tag};
    memcpy(q.tunnel, name, strlen(name));
    CU_ASSERT_EQUAL(send(nets[loop], &q, sizeof q, MSG_NOSIGNAL), (ssize_t)sizeof q);
}

static struct reply take(int loop)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct reply r = {.fd = -1};
    struct iovec iov = {.iov_base = &r.answer, .iov_len = sizeof r.answer};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    r.there = recvmsg(nets[loop], &header, MSG_DONTWAIT) == (ssize_t)sizeof r.answer;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    if (c != NULL)
        memcpy(&r.fd, CMSG_DATA(c), sizeof r.fd);
    return r;
}

static bool readable(void *arg)
{
    struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static struct reply answer(int loop)
{
    CU_ASSERT_TRUE_FATAL(test_run(&t, readable, &nets[loop]));
    return take(loop);
}

static void fails(int loop, uint64_t tag, unsigned status, const char *text)
{
    struct reply r = answer(loop);
    CU_ASSERT_EQUAL(r.answer.tag, tag);
    CU_ASSERT_EQUAL(r.answer.status, status);
    CU_ASSERT_EQUAL(r.fd, -1);
    if (strstr(r.answer.text, text) == NULL) {
        CU_FAIL("text");
        fprintf(stderr, "no '%s' in '%s'\n", text, r.answer.text);
    }
}

/* A listening socket of 127.0.0.1; "ADDRESS:PORT" of it. */
static int listener(int backlog, char out[64])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&a, len), 0);
    CU_ASSERT_EQUAL_FATAL(backlog < 0 ? 0 : listen(fd, backlog), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    snprintf(out, 64, "127.0.0.1:%u", ntohs(a.sin_port));
    return fd;
}

/* The socket of that answer leads to `listening`. */
static void leads_to(struct reply r, int listening)
{
    char byte = 'x';
    CU_ASSERT_EQUAL_FATAL(r.answer.status, CHV_CONNECTOR_OK);
    CU_ASSERT_EQUAL(r.answer.text[0], '\0');
    CU_ASSERT_TRUE_FATAL(r.fd >= 0);
    CU_ASSERT_NOT_EQUAL(fcntl(r.fd, F_GETFL) & O_NONBLOCK, 0);
    CU_ASSERT_EQUAL(send(r.fd, &byte, 1, MSG_NOSIGNAL), 1);
    int fd = accept(listening, NULL, NULL);
    CU_ASSERT_EQUAL(recv(fd, &byte, 1, 0), 1);
    close(fd);
    close(r.fd);
}

static void test_targets(void)
{
    static const char *const good[] = {"a:1", "db.example:65535", "[::1]:80", "127.0.0.1:5432", "unix:/x", "unix:/a:1"};
    static const char *const bad[] = {"",      "a",     "a:",      "a:0",    "a:65536", "a:1x",   ":1",
                                      "::1:1", "[::1]", "[::1]80", "unix:x", "unix:",   "unix:/", "a:000080"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CU_ASSERT_TRUE(chv_connector_target_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CU_ASSERT_FALSE(chv_connector_target_valid(bad[i]));
}

static void test_connects(void)
{
    char address[64];
    int on = 0;
    socklen_t len = sizeof on;
    start();
    int l = listener(5, address);
    tunnel("db", address, 10);
    int before = descriptors();
    ask(0, 7, "db");
    struct reply r = answer(0);
    CU_ASSERT_EQUAL(r.answer.tag, 7);
    CU_ASSERT_EQUAL(getsockopt(r.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    CU_ASSERT_NOT_EQUAL(on, 0);
    CU_ASSERT_EQUAL(getsockopt(r.fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
    CU_ASSERT_NOT_EQUAL(on, 0);
    leads_to(r, l);
    ask(1, 7, "db");
    leads_to(answer(1), l);
    CU_ASSERT_FALSE(take(0).there);
    CU_ASSERT_EQUAL(lookup_count, 0);
    test_turns(&t, 2);
    CU_ASSERT_EQUAL(descriptors(), before);
    close(l);
    stop();
}

static void test_refused(void)
{
    char address[64];
    start();
    int l = listener(-1, address); /* it does not listen, and nobody else can have the port */
    tunnel("db", address, 10);
    ask(0, 1, "db");
    fails(0, 1, CHV_CONNECTOR_FAILED, "connection refused");
    ask(0, 2, "db");
    fails(0, 2, CHV_CONNECTOR_FAILED, address);
    ask(0, 3, "other");
    fails(0, 3, CHV_CONNECTOR_NO_TUNNEL, "no such tunnel");
    config.tunnel_count = 0;
    chv_connector_configure(connector, &config);
    ask(1, 4, "db");
    fails(1, 4, CHV_CONNECTOR_NO_TUNNEL, "no such tunnel");
    close(l);
    stop();
}

/* One that is its own peer, as the kernel makes it where nobody listens. */
static void test_self(void)
{
    char address[64];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2];
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    CU_ASSERT_FALSE(chv_connector_is_self(fd));
    CU_ASSERT_EQUAL_FATAL(connect(fd, (const struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_TRUE(chv_connector_is_self(fd));
    close(fd);
    int l = listener(5, address);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(l, (struct sockaddr *)&a, &len), 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (const struct sockaddr *)&a, sizeof a), 0);
    CU_ASSERT_FALSE(chv_connector_is_self(fd));
    close(fd);
    close(l);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CU_ASSERT_FALSE(chv_connector_is_self(pair[0])); /* both have no name */
    close(pair[0]);
    close(pair[1]);
}

static void test_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char folder[64], target[140];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/chv-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(a.sun_path, sizeof a.sun_path, "%s/s", folder);
    snprintf(target, sizeof target, "unix:%s", a.sun_path);
    start();
    tunnel("x", target, 10);
    ask(0, 1, "x");
    fails(0, 1, CHV_CONNECTOR_FAILED, "No such file");
    int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(l, (const struct sockaddr *)&a, sizeof a), 0);
    ask(0, 2, "x");
    fails(0, 2, CHV_CONNECTOR_FAILED, "connection refused");
    CU_ASSERT_EQUAL_FATAL(listen(l, 0), 0);
    ask(0, 3, "x");
    struct reply first = answer(0);
    ask(0, 4, "x"); /* the queue is full: it waits for room */
    test_turns(&t, 3);
    CU_ASSERT_FALSE(take(0).there);
    leads_to(first, l);
    leads_to(answer(0), l);
    close(l);
    stop();
    CU_ASSERT_EQUAL(unlink(a.sun_path), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

/* A name is resolved once for all who wait, and again when its answer is old. */
static void test_names(void)
{
    char address[64], target[80];
    start();
    int l = listener(9, address);
    snprintf(target, sizeof target, "db.example%s", strchr(address, ':'));
    tunnel("db", target, 10);
    ask(0, 1, "db");
    ask(1, 2, "db");
    test_turns(&t, 3);
    CU_ASSERT_EQUAL_FATAL(lookup_count, 1);
    CU_ASSERT_STRING_EQUAL(lookups[0].node, "db.example");
    resolved(0, 0, "127.0.0.1", NULL);
    struct reply r = answer(0), both = answer(1);
    CU_ASSERT_EQUAL(send(both.fd, "x", 1, MSG_NOSIGNAL), 1); /* either may be the first to be accepted */
    leads_to(r, l);
    leads_to(both, l);
    ask(0, 3, "db");
    leads_to(answer(0), l);
    CU_ASSERT_EQUAL(lookup_count, 1);
    chv_connector_configure(connector, &config); /* SIGHUP: nothing is remembered */
    ask(0, 4, "db");
    test_turns(&t, 3);
    CU_ASSERT_EQUAL_FATAL(lookup_count, 2);
    resolved(1, UV_EAI_NONAME, NULL, NULL);
    fails(0, 4, CHV_CONNECTOR_FAILED, "no such host");
    ask(0, 5, "db"); /* a failure is not remembered */
    test_turns(&t, 3);
    CU_ASSERT_EQUAL_FATAL(lookup_count, 3);
    resolved(2, UV_EAI_AGAIN, NULL, NULL);
    fails(0, 5, CHV_CONNECTOR_FAILED, "cannot be resolved");
    ask(0, 6, "db");
    test_turns(&t, 3);
    resolved(3, 0, NULL, NULL);
    fails(0, 6, CHV_CONNECTOR_FAILED, "no such host");
    close(l);
    stop();
}

/* A listening socket of 127.0.0.1 and one of 127.0.0.2 with the same port; "ADDRESS:PORT" of the first. */
static void two_listeners(int fds[2], char out[64])
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    bool there = false;
    for (int i = 0; i < 100 && !there; i++) { /* another socket may have the other's port */
        fds[0] = listener(9, out);
        fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CU_ASSERT_EQUAL_FATAL(getsockname(fds[0], (struct sockaddr *)&a, &len), 0);
        a.sin_addr.s_addr = htonl(0x7f000002);
        there = bind(fds[1], (const struct sockaddr *)&a, len) == 0 && listen(fds[1], 9) == 0;
        for (int k = 0; k < 2 && !there; k++)
            close(fds[k]);
    }
    CU_ASSERT_TRUE_FATAL(there);
}

static void on_time(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
    uv_close((uv_handle_t *)timer, NULL);
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

/* Where a name leads elsewhere by now, the next connection goes there, once what is remembered is old. */
static void moves(uint64_t fresh_ms)
{
    char address[64], target[80];
    int l[2];
    bool old = false;
    uv_timer_t timer = {.data = &old};
    two_listeners(l, address);
    start_fresh(fresh_ms);
    snprintf(target, sizeof target, "db.example%s", strchr(address, ':'));
    tunnel("db", target, 10);
    ask(0, 1, "db");
    test_turns(&t, 3);
    CU_ASSERT_EQUAL_FATAL(lookup_count, 1);
    resolved(0, 0, "127.0.0.1", NULL);
    leads_to(answer(0), l[0]);
    CU_ASSERT_EQUAL_FATAL(uv_timer_init(&t.loop.uv, &timer), 0);
    CU_ASSERT_EQUAL_FATAL(uv_timer_start(&timer, on_time, fresh_ms, 0), 0); /* by the clock of the loop, as the names */
    CU_ASSERT_TRUE_FATAL(test_run(&t, is_set, &old));
    ask(0, 2, "db");
    test_turns(&t, 3);
    CU_ASSERT_EQUAL_FATAL(lookup_count, 2);
    resolved(1, 0, "127.0.0.2", NULL);
    leads_to(answer(0), l[1]);
    for (int i = 0; i < 2; i++)
        close(l[i]);
    stop();
}

static void test_names_that_move(void)
{
    moves(0);
    moves(50);
}

static void test_several_addresses(void)
{
    char address[64], target[80];
    start();
    int l = listener(9, address);
    snprintf(target, sizeof target, "db.example%s", strchr(address, ':'));
    tunnel("db", target, 10);
    ask(0, 1, "db");
    test_turns(&t, 3);
    resolved(0, 0, "127.0.0.3", "127.0.0.1"); /* nobody listens at the first */
    leads_to(answer(0), l);
    close(l);
    stop();
}

/* A socket whose queue is full does not answer; the other address has its share of the time. */
static void test_no_answer(void)
{
    char silent[64], address[64], target[80];
    int fill[4];
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    start();
    int s = listener(0, silent);
    CU_ASSERT_EQUAL_FATAL(getsockname(s, (struct sockaddr *)&a, &len), 0);
    for (int i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fill[i], (const struct sockaddr *)&a, len);
    }
    tunnel("silent", silent, 1);
    snprintf(target, sizeof target, "db.example%s", strchr(silent, ':'));
    tunnel("both", target, 2);
    ask(0, 1, "silent");
    ask(1, 2, "both");
    test_turns(&t, 3);
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(0x7f000002);
    const bool there = bind(l, (const struct sockaddr *)&a, sizeof a) == 0 && listen(l, 5) == 0;
    resolved(0, 0, "127.0.0.1", "127.0.0.2");
    fails(0, 1, CHV_CONNECTOR_TIMEOUT, "no answer within 1 s");
    if (there)
        leads_to(answer(1), l);
    else
        fails(1, 2, CHV_CONNECTOR_FAILED, "connection refused");
    /* A name that is not resolved in time; its answer finds nobody. */
    snprintf(address, sizeof address, "late.example:80");
    tunnel("late", address, 1);
    ask(0, 3, "late");
    fails(0, 3, CHV_CONNECTOR_TIMEOUT, "not resolved within 1 s");
    resolved(1, 0, "127.0.0.1", NULL);
    close(l);
    close(s);
    for (int i = 0; i < 4; i++)
        close(fill[i]);
    stop();
}

static void broken(const void *packet, size_t len)
{
    int ends[2];
    char byte;
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    chv_connector_serve(connector, &ends[1], 1);
    CU_ASSERT_EQUAL(send(ends[0], packet, len, MSG_NOSIGNAL), (ssize_t)len);
    CU_ASSERT_TRUE(test_run(&t, readable, &ends[0]));
    CU_ASSERT_EQUAL(recv(ends[0], &byte, 1, MSG_DONTWAIT), 0);
    close(ends[0]);
    CU_ASSERT_EQUAL(lookup_count, 0);
}

static void test_broken_questions(void)
{
    static const struct chv_connector_request good = {.tag = 1, .tunnel = "db"};
    struct chv_connector_request q = good;
    char longer[sizeof q + 1] = {0};
    start();
    chv_log_set_level(CHV_LOG_ERROR);
    tunnel("db", "db.example:80", 1);
    memcpy(longer, &q, sizeof q);
    broken(longer, sizeof longer);
    broken(&q, sizeof q - 1);
    broken("", 1);
    q.tag = 0;
    broken(&q, sizeof q);
    q = good;
    q.tunnel[3] = 'x';
    broken(&q, sizeof q);
    q = good;
    q.zero[5] = 1;
    broken(&q, sizeof q);
    q = good;
    memset(q.tunnel, 0, sizeof q.tunnel);
    broken(&q, sizeof q);
    memset(q.tunnel, 'd', sizeof q.tunnel);
    broken(&q, sizeof q);
    stop();
}

/* One loop's broken packet costs another nothing. */
static void test_other_loop(void)
{
    char address[64], target[80], byte;
    start();
    int l = listener(5, address);
    snprintf(target, sizeof target, "db.example%s", strchr(address, ':'));
    tunnel("db", target, 10);
    ask(0, 1, "db");
    ask(1, 2, "db");
    test_turns(&t, 3);
    CU_ASSERT_EQUAL(send(nets[0], "?", 1, MSG_NOSIGNAL), 1);
    CU_ASSERT_TRUE(test_run(&t, readable, &nets[0]));
    CU_ASSERT_EQUAL(recv(nets[0], &byte, 1, MSG_DONTWAIT), 0);
    resolved(0, 0, "127.0.0.1", NULL);
    leads_to(answer(1), l);
    close(l);
    stop();
}

/* No more than its share is read of a loop that asks for ever; what it asked is answered. */
static void test_bounds(void)
{
    start();
    tunnel("db", "db.example:80", 10);
    for (unsigned i = 0; i < CHV_CONNECTOR_OUTSTANDING + 1; i++) {
        ask(0, 1 + i, "db");
        test_turns(&t, 2);
    }
    ask(0, 1000, "none"); /* it would be answered at once, if it were read */
    test_turns(&t, 3);
    CU_ASSERT_FALSE(take(0).there);
    ask(1, 5, "none");
    fails(1, 5, CHV_CONNECTOR_NO_TUNNEL, "");
    resolved(0, UV_EAI_NONAME, NULL, NULL);
    for (unsigned i = 0; i < CHV_CONNECTOR_OUTSTANDING; i++)
        CU_ASSERT_EQUAL(answer(0).answer.status, CHV_CONNECTOR_FAILED);
    CU_ASSERT_EQUAL(answer(0).answer.tag, 1000);
    CU_ASSERT_EQUAL(lookup_count, 2);
    resolved(1, UV_EAI_NONAME, NULL, NULL);
    fails(0, CHV_CONNECTOR_OUTSTANDING + 1, CHV_CONNECTOR_FAILED, "no such host");
    stop();
}

/* Whoever does not take its answers loses its socket, and nothing stays behind. */
static void test_gone(void)
{
    char silent[64], byte;
    const int least = 1;
    int ends[2];
    int before = descriptors();
    start();
    int s = listener(5, silent);
    tunnel("db", silent, 10);
    tunnel("name", "db.example:80", 10);
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    CU_ASSERT_EQUAL(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0); /* the kernel's least */
    chv_connector_serve(connector, &ends[1], 1);
    close(nets[0]);
    nets[0] = ends[0];
    ask(0, 1, "name");
    for (unsigned i = 0; i < 32; i++)
        ask(0, 2 + i, "none");
    test_turns(&t, 5);
    ssize_t n;
    do
        n = recv(nets[0], &byte, 1, MSG_DONTWAIT);
    while (n > 0);
    CU_ASSERT_TRUE(n == 0 || errno == ECONNRESET); /* questions that nobody has read */
    resolved(0, UV_EAI_NONAME, NULL, NULL);        /* for nobody */
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    chv_connector_serve(connector, &ends[1], 1);
    close(nets[0]);
    nets[0] = ends[0];
    ask(0, 1, "db");
    ask(0, 2, "name");
    test_turns(&t, 1);
    chv_connector_serve(connector, NULL, 0); /* while both are out */
    test_turns(&t, 3);
    close(s);
    stop();
    if (lookup_count > 1)
        resolved(1, UV_ECANCELED, NULL, NULL); /* as after uv_cancel: the lookup frees itself */
    CU_ASSERT_EQUAL(descriptors(), before);
}

TEST_MAIN("connector", {"targets", test_targets}, {"connects", test_connects}, {"refused", test_refused},
          {"self", test_self}, {"unix", test_unix}, {"names", test_names}, {"names that move", test_names_that_move},
          {"several addresses", test_several_addresses}, {"no answer", test_no_answer},
          {"broken questions", test_broken_questions}, {"other loop", test_other_loop}, {"bounds", test_bounds},
          {"gone", test_gone})
