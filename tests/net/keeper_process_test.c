/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper as a process of its own, sandboxed, over its sockets; and the sandbox itself. */
#include "config.h"

#include "core/hkdf.h"
#include "net/ipc.h"
#include "net/keeper_audit.h"
#include "net/sandbox.h"
#include "tests/net/keeper_support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 };

static struct chv_server_config config;
static struct chv_ipc_message message;
static pid_t child;
static int control, net;
static unsigned asked;

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, PATIENCE_MS) == 1;
}

static enum chv_ipc_kind receive_kind(void)
{
    int fds[CHV_WORKERS_MAX];
    size_t count;
    while (readable(control) && chv_ipc_receive(control, &message, fds, &count) == CHV_OK) {
        if (message.kind != CHV_IPC_ASKS)
            return message.kind;
        CU_ASSERT_EQUAL(message.generation, asked++ == 0);
    }
    return 0;
}

static void connect_net(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    const struct chv_ipc_message keepers = {.kind = CHV_IPC_KEEPERS};
    CU_ASSERT_EQUAL(chv_ipc_send(control, &keepers, &ends[1], 1), CHV_OK);
    close(ends[1]);
    net = ends[0];
}

static void start(void)
{
    int ends[2];
    asked = 0;
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    child = fork();
    if (child == 0) {
        struct test_secret secret = {.text = TEST_PASSPHRASE};
        close(ends[0]);
        chv_log_open("keeper", CHV_LOG_STDERR, CHV_LOG_ERROR);
        _exit(chv_keeper_main(&config, ends[1], test_secret, &secret));
    }
    CU_ASSERT_FATAL(child > 0);
    close(ends[1]);
    control = ends[0];
}

static int end(void)
{
    int status = -1;
    close(control);
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static ssize_t exchange(const void *packet, size_t len, struct chv_keeper_answer answers[CHV_KEEPER_BATCH])
{
    CU_ASSERT_EQUAL(send(net, packet, len, MSG_NOSIGNAL), (ssize_t)len);
    CU_ASSERT_TRUE(readable(net));
    return recv(net, answers, CHV_KEEPER_BATCH * sizeof answers[0], MSG_DONTWAIT);
}

static void check_good(void)
{
    struct chv_keeper_request request;
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    uint8_t wanted[CHV_KEY_LEN];
    keeper_request(&request, 5, 1, (uint64_t)time(NULL) + DAY);
    keeper_psk(&request, "s1", 1, wanted);
    CU_ASSERT_EQUAL(exchange(&request, sizeof request, answers), (ssize_t)sizeof answers[0]);
    CU_ASSERT_EQUAL(answers[0].tag, 5);
    CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_OK);
    CU_ASSERT_EQUAL(memcmp(answers[0].psk, wanted, sizeof wanted), 0);
}

static void test_serves(void)
{
    keeper_config(&config);
    char *state = test_fresh_path();
    CU_ASSERT_EQUAL_FATAL(mkdir(state, 0700), 0);
    snprintf(config.state, sizeof config.state, "%s", state);
    start();
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_READY);
    connect_net();
    check_good();
    const struct chv_ipc_message ping = {.kind = CHV_IPC_PING, .generation = 77};
    CU_ASSERT_EQUAL(chv_ipc_send(control, &ping, NULL, 0), CHV_OK);
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_PONG);
    CU_ASSERT_EQUAL(message.generation, 77);
    close(net);
    connect_net(); /* a net process that was started again */
    check_good();
    close(net);
    CU_ASSERT_EQUAL(end(), 0);
    free(state);
}

/* What is not a packet of requests costs its sender the socket, and nobody anything else. */
static void test_garbage(void)
{
    static uint8_t garbage[(CHV_KEEPER_BATCH + 1) * sizeof(struct chv_keeper_request)];
    static const size_t lengths[] = {1, sizeof(struct chv_keeper_request) - 1, sizeof(struct chv_keeper_request) + 1,
                                     sizeof garbage, CHV_KEEPER_BATCH * sizeof(struct chv_keeper_request) + 1};
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    keeper_config(&config);
    config.log_level = CHV_LOG_ERROR;
    start();
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_READY);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        connect_net();
        CU_ASSERT_EQUAL(exchange(garbage, lengths[i], answers), 0);
        close(net);
    }
    connect_net();
    memset(garbage, 0xff, sizeof garbage);
    CU_ASSERT_EQUAL(exchange(garbage, CHV_KEEPER_BATCH * sizeof(struct chv_keeper_request), answers),
                    (ssize_t)sizeof answers);
    for (size_t i = 0; i < CHV_KEEPER_BATCH; i++)
        CU_ASSERT_EQUAL(answers[i].status, CHV_KEEPER_MALFORMED);
    check_good();
    close(net);
    CU_ASSERT_EQUAL(end(), 0);
}

/* A seal's question, and by hand its MAC. */
static void audit_question(uint32_t epoch, struct chv_keeper_audit_request *question, uint8_t mac[CHV_AUDIT_MAC_LEN])
{
    struct chv_audit_seal seal = {.n = 7, .epoch = epoch, .time = NOW};
    struct chv_crypto crypto;
    uint8_t info[CHV_INFO_MAX], key[CHV_KEY_LEN], text[CHV_AUDIT_SEAL_MESSAGE_LEN];
    const struct chv_part part = {text, sizeof text};
    size_t len;
    memset(seal.hash, 0x5a, sizeof seal.hash);
    *question = (struct chv_keeper_audit_request){
        .tag = 99, .kind = CHV_KEEPER_AUDIT, .epoch = epoch, .n = seal.n, .time = seal.time};
    memcpy(question->hash, seal.hash, sizeof question->hash);
    chv_audit_seal_message(&seal, text);
    memset(key, (int)(epoch * 0x11), sizeof key);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_audit(info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, key, 32), CHV_OK);
    CU_ASSERT_EQUAL(chv_crypto_hmac(&crypto, CHV_HASH_SHA256, key, sizeof key, &part, 1, mac), CHV_OK);
    chv_backend_close(&crypto);
}

static int connect_registrar(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(chv_ipc_pair(ends, NULL), CHV_OK);
    const struct chv_ipc_message audit = {.kind = CHV_IPC_AUDIT};
    CU_ASSERT_EQUAL(chv_ipc_send(control, &audit, &ends[1], 1), CHV_OK);
    close(ends[1]);
    return ends[0];
}

/* The registrar's socket has answers about seals and no others; on the net process's there is none about a seal. */
static void test_audit(void)
{
    struct chv_keeper_audit_request question;
    struct chv_keeper_audit_answer answer;
    struct chv_keeper_request psk;
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    uint8_t mac[CHV_AUDIT_MAC_LEN];
    static uint8_t padded[sizeof(struct chv_keeper_request)];
    keeper_config(&config);
    start();
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_READY);
    connect_net();
    int registrar = connect_registrar();
    for (uint32_t epoch = 1; epoch <= 2; epoch++) { /* 2 is not served: a seal of that epoch is checked all the same */
        audit_question(epoch, &question, mac);
        CU_ASSERT_EQUAL(send(registrar, &question, sizeof question, MSG_NOSIGNAL), (ssize_t)sizeof question);
        CU_ASSERT_TRUE(readable(registrar));
        CU_ASSERT_EQUAL(recv(registrar, &answer, sizeof answer, MSG_DONTWAIT), (ssize_t)sizeof answer);
        CU_ASSERT(answer.tag == 99 && answer.status == CHV_KEEPER_OK);
        CU_ASSERT_EQUAL(memcmp(answer.mac, mac, sizeof mac), 0);
    }
    question.epoch = 3;
    CU_ASSERT_EQUAL(send(registrar, &question, sizeof question, MSG_NOSIGNAL), (ssize_t)sizeof question);
    CU_ASSERT_TRUE(readable(registrar));
    CU_ASSERT_EQUAL(recv(registrar, &answer, sizeof answer, MSG_DONTWAIT), (ssize_t)sizeof answer);
    CU_ASSERT_EQUAL(answer.status, CHV_KEEPER_MALFORMED);
    keeper_request(&psk, 5, 1, (uint64_t)time(NULL) + DAY);
    CU_ASSERT_EQUAL(send(registrar, &psk, sizeof psk, MSG_NOSIGNAL), (ssize_t)sizeof psk);
    CU_ASSERT_TRUE(readable(registrar));
    CU_ASSERT_EQUAL(recv(registrar, &answer, sizeof answer, MSG_DONTWAIT), 0); /* no session for the registrar */
    close(registrar);
    audit_question(1, &question, mac);
    memcpy(padded, &question, sizeof question);
    CU_ASSERT_EQUAL(exchange(padded, sizeof padded, answers), (ssize_t)sizeof answers[0]);
    CU_ASSERT_EQUAL(answers[0].status, CHV_KEEPER_MALFORMED);
    CU_ASSERT_EQUAL(exchange(&question, sizeof question, answers), 0); /* and the net process's socket is gone */
    close(net);
    connect_net();
    check_good();
    close(net);
    CU_ASSERT_EQUAL(end(), 0);
}

static void test_configuration(void)
{
    struct chv_keeper_request request;
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    keeper_config(&config);
    start();
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_READY);
    CU_ASSERT_EQUAL(asked, 2); /* a person may be asked; is asked no more */
    connect_net();
    message.kind = CHV_IPC_CONFIG;
    message.config = config;
    message.config.epochs[0] = 7;
    CU_ASSERT_EQUAL(chv_ipc_send(control, &message, NULL, 0), CHV_OK);
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_SERVES);
    CU_ASSERT_EQUAL(message.config.epoch_count, config.epoch_count);
    CU_ASSERT_EQUAL(memcmp(message.config.epochs, config.epochs, sizeof config.epochs), 0);
    check_good();
    message.kind = CHV_IPC_CONFIG;
    message.config = config;
    message.config.epochs[0] = 2;
    CU_ASSERT_EQUAL(chv_ipc_send(control, &message, NULL, 0), CHV_OK);
    connect_net(); /* behind it on the same socket: answered by the new configuration */
    CU_ASSERT_EQUAL(receive_kind(), CHV_IPC_SERVES);
    CU_ASSERT_EQUAL(message.config.epochs[0], 2);
    keeper_request(&request, 5, 1, (uint64_t)time(NULL) + DAY);
    CU_ASSERT_EQUAL(exchange(&request, sizeof request, answers), (ssize_t)sizeof answers[0]);
    CU_ASSERT_EQUAL(answers[0].verdict, CHV_KEEPER_EPOCH);
    close(net);
    CU_ASSERT_EQUAL(end(), 0);
}

static void test_bad_start(void)
{
    keeper_config(&config);
    snprintf(config.keystore, sizeof config.keystore, "file:/nonexistent/keys");
    start();
    CU_ASSERT_EQUAL(receive_kind(), 0);
    CU_ASSERT_EQUAL(end(), 66);
    keeper_config(&config);
    snprintf(config.state, sizeof config.state, "/nonexistent");
    start();
    CU_ASSERT_EQUAL(end(), 78);
}

static void *nothing(void *arg)
{
    return arg;
}

/* With a module in the process: files, locks, sockets of a client, threads; no programs, no processes, no listening. */
static int in_sandbox(enum chv_sandbox kind, bool module)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct chv_why why;
        if (!chv_sandbox_child("chv-test", getppid()) || chv_sandbox_enter(kind, module, &why) != CHV_OK)
            _exit(10);
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (kind == CHV_SANDBOX_NET && !module ? fd >= 0 || errno != EPERM : fd < 0)
            _exit(11);
        int sock = socket(AF_INET, SOCK_STREAM, 0);
        if (module ? sock < 0 : sock >= 0 || errno != EPERM)
            _exit(12);
        if (module && (flock(fd, LOCK_SH) != 0 || listen(sock, 1) == 0 || errno != EPERM))
            _exit(15);
        pthread_t thread;
        if (module && (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0))
            _exit(16);
        if (fork() >= 0 || errno != EPERM)
            _exit(13);
        char *const arguments[] = {NULL};
        if (execve("/bin/true", arguments, arguments) == 0 || errno != EPERM)
            _exit(14);
        _exit(0);
    }
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_sandbox(void)
{
#ifdef CHV_SANITIZED
    (void)in_sandbox; /* there is no filter */
#else
    CU_ASSERT_EQUAL(in_sandbox(CHV_SANDBOX_NET, false), 0);
    CU_ASSERT_EQUAL(in_sandbox(CHV_SANDBOX_KEEPER, false), 0);
    CU_ASSERT_EQUAL(in_sandbox(CHV_SANDBOX_NET, true), 0);
    CU_ASSERT_EQUAL(in_sandbox(CHV_SANDBOX_KEEPER, true), 0);
#endif
}

TEST_MAIN("keeper process", {"serves", test_serves}, {"garbage", test_garbage}, {"audit", test_audit},
          {"configuration", test_configuration}, {"bad start", test_bad_start}, {"sandbox", test_sandbox})
