/* SPDX-License-Identifier: Apache-2.0 */
/* The registrar as a process of its own, over its sockets: the order in which answers and changes go out. */
#include "config.h"

#include "net/ipc.h"
#include "net/registrar.h"
#include "tests/harness.h"

#include <ftw.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, QUESTIONS_MAX = 32, LOOPS = 2 };

static char folder[64];
static struct chv_server_config config;
static struct chv_crypto crypto;
static pid_t child;
static int control, nets[LOOPS];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void put(enum chv_client_status status)
{
    struct chv_registry *r = NULL;
    const struct chv_registry_options options = {.mode = CHV_REGISTRY_CREATE, .crypto = &crypto};
    struct chv_audit_row row = {.time = 1800000000, .actor = "test", .action = "put"};
    struct chv_registry_client c = {.id = "cam1",
                                    .status = status,
                                    .profile = CHV_PROFILE_PSK,
                                    .minimum = {1, 1},
                                    .confirmed = {1, 1},
                                    .latest = {1, 1},
                                    .scope_count = 1,
                                    .scopes = {"message"}};
    CU_ASSERT_EQUAL_FATAL(chv_registry_open(config.registry, &options, &r, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_begin(r, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_put(r, &c, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_audit(r, &row, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_registry_commit(r, NULL), CHV_OK);
    chv_registry_close(r);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, PATIENCE_MS) == 1;
}

static void begin(void)
{
    const char *tmp = getenv("TMPDIR");
    int ends[2], theirs[LOOPS];
    snprintf(folder, sizeof folder, "%s/chv-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(config.registry, sizeof config.registry, "sqlite:%s/clients.db", folder);
    config.registry_required = true;
    config.epochs[0] = 1;
    config.epoch_count = 1;
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    put(CHV_CLIENT_ACTIVE);
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    child = fork();
    if (child == 0) {
        close(ends[0]);
        chv_log_open("registrar", CHV_LOG_STDERR, CHV_LOG_ERROR);
        _exit(chv_registrar_main(&config, ends[1], false));
    }
    CU_ASSERT_FATAL(child > 0);
    close(ends[1]);
    control = ends[0];
    for (int i = 0; i < LOOPS; i++) {
        const int least = 1;
        CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
        CU_ASSERT_EQUAL(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0); /* the kernel's least */
        nets[i] = ends[0];
        theirs[i] = ends[1];
    }
    struct chv_ipc_message message = {.kind = CHV_IPC_REGISTRARS};
    CU_ASSERT_EQUAL(chv_ipc_send(control, &message, theirs, LOOPS), CHV_OK);
    for (int i = 0; i < LOOPS; i++)
        close(theirs[i]);
    CU_ASSERT_TRUE_FATAL(readable(control));
}

static void end(void)
{
    int status = -1;
    close(control);
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < LOOPS; i++)
        close(nets[i]);
    chv_backend_close(&crypto);
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void ask(int loop, uint64_t tag)
{
    const struct chv_registrar_request q = {
        .tag = tag, .epoch = 1, .serial = 1, .kind = CHV_REGISTRAR_OPEN, .profile = CHV_PROFILE_PSK, .id = "cam1"};
    CU_ASSERT_EQUAL(send(nets[loop], &q, sizeof q, MSG_NOSIGNAL), (ssize_t)sizeof q);
}

static struct chv_registrar_answer take(int loop)
{
    struct chv_registrar_answer a;
    uint8_t packet[sizeof a];
    CU_ASSERT_TRUE_FATAL(readable(nets[loop]));
    const ssize_t n = recv(nets[loop], packet, sizeof packet, MSG_DONTWAIT);
    CU_ASSERT_TRUE_FATAL(n > 0 && chv_registrar_answer_take(packet, (size_t)n, &a) == (size_t)n);
    return a;
}

/* Bytes that wait to be read by a loop. */
static int waiting(int loop)
{
    int n = -1;
    CU_ASSERT_EQUAL(ioctl(nets[loop], SIOCINQ, &n), 0);
    return n;
}

/* Whether loop 0 was given what it was told last; loop 1's answer shows that its question was taken before. */
static bool answered(uint64_t tag)
{
    const int before = waiting(0);
    ask(0, tag);
    ask(1, tag);
    CU_ASSERT_EQUAL(take(1).tag, tag);
    return waiting(0) > before;
}

/* An answer from before a change never comes behind the word of it: a loop takes what comes behind for newer. */
static void test_order(void)
{
    uint64_t asked = 0;
    begin();
    do
        asked++;
    while (asked < QUESTIONS_MAX && answered(asked));
    CU_ASSERT_TRUE_FATAL(asked < QUESTIONS_MAX); /* the last answer did not fit, and waits */
    put(CHV_CLIENT_REVOKED);
    CU_ASSERT_EQUAL(take(1).status, CHV_REGISTRAR_CHANGED);
    for (uint64_t i = 1; i <= asked; i++) {
        struct chv_registrar_answer a = take(0);
        CU_ASSERT_EQUAL(a.tag, i);
        CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_OK);
        CU_ASSERT_EQUAL(a.verdict, CHV_VERDICT_OK);
    }
    CU_ASSERT_EQUAL(take(0).status, CHV_REGISTRAR_CHANGED);
    ask(0, 100);
    CU_ASSERT_EQUAL(take(0).verdict, CHV_VERDICT_REVOKED);
    end();
}

static void fill(struct chv_registrar_request *q, size_t count)
{
    for (size_t i = 0; i < count; i++)
        q[i] = (struct chv_registrar_request){.tag = i + 1,
                                              .epoch = 1,
                                              .serial = 1,
                                              .kind = CHV_REGISTRAR_OPEN,
                                              .profile = CHV_PROFILE_PSK,
                                              .id = "cam1"};
}

/* The answers to the questions of a packet are one packet, too. */
static void test_packet(void)
{
    enum { QUESTIONS = 3 };
    struct chv_registrar_request q[QUESTIONS];
    uint8_t answers[(QUESTIONS + 1) * sizeof(struct chv_registrar_answer)];
    struct chv_registrar_answer a;
    begin();
    fill(q, QUESTIONS);
    CU_ASSERT_EQUAL(send(nets[0], q, sizeof q, MSG_NOSIGNAL), (ssize_t)sizeof q);
    CU_ASSERT_TRUE_FATAL(readable(nets[0]));
    const ssize_t n = recv(nets[0], answers, sizeof answers, MSG_DONTWAIT);
    CU_ASSERT_FATAL(n > 0);
    size_t at = 0;
    for (uint64_t tag = 1; tag <= QUESTIONS; tag++) {
        const size_t size = chv_registrar_answer_take(answers + at, (size_t)n - at, &a);
        CU_ASSERT_TRUE_FATAL(size > 0);
        CU_ASSERT_EQUAL(a.tag, tag);
        CU_ASSERT_EQUAL(a.status, CHV_REGISTRAR_OK);
        at += size;
    }
    CU_ASSERT_EQUAL(at, (size_t)n);
    end();
}

/* Whoever sends what is no packet of questions is not heard any more; the others are. */
static void test_no_packet(void)
{
    static struct chv_registrar_request q[CHV_REGISTRAR_BATCH + 1];
    const size_t fragment = 2 * sizeof q[0] + 8;
    char byte;
    begin();
    fill(q, CHV_REGISTRAR_BATCH + 1);
    CU_ASSERT_EQUAL(send(nets[0], q, sizeof q, MSG_NOSIGNAL), (ssize_t)sizeof q);
    CU_ASSERT_TRUE_FATAL(readable(nets[0]));
    CU_ASSERT_EQUAL(recv(nets[0], &byte, 1, MSG_DONTWAIT), 0);
    ask(1, 7);
    CU_ASSERT_EQUAL(take(1).tag, 7);
    CU_ASSERT_EQUAL(send(nets[1], q, fragment, MSG_NOSIGNAL), (ssize_t)fragment);
    CU_ASSERT_TRUE_FATAL(readable(nets[1]));
    CU_ASSERT_EQUAL(recv(nets[1], &byte, 1, MSG_DONTWAIT), 0);
    end();
}

/* Whoever asks whether it lives is told so, however often. */
static void test_ping(void)
{
    struct chv_ipc_message message = {.kind = CHV_IPC_READY};
    int fds[CHV_WORKERS_MAX];
    size_t count;
    begin();
    CU_ASSERT_EQUAL(chv_ipc_receive(control, &message, fds, &count), CHV_OK);
    CU_ASSERT_EQUAL(message.kind, CHV_IPC_READY);
    for (unsigned i = 1; i <= 3; i++) {
        const struct chv_ipc_message ping = {.kind = CHV_IPC_PING, .generation = i};
        CU_ASSERT_EQUAL(chv_ipc_send(control, &ping, NULL, 0), CHV_OK);
        CU_ASSERT_TRUE_FATAL(readable(control));
        CU_ASSERT_EQUAL(chv_ipc_receive(control, &message, fds, &count), CHV_OK);
        CU_ASSERT_EQUAL(message.kind, CHV_IPC_PONG);
        CU_ASSERT_EQUAL(message.generation, i);
    }
    end();
}

TEST_MAIN("registrar process", {"order", test_order}, {"packet", test_packet}, {"no packet", test_no_packet},
          {"ping", test_ping})
