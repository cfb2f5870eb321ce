/* SPDX-License-Identifier: Apache-2.0 */
/* What each process of the server can do once it serves, above all whom it can reach. */
#include "config.h"

#include "net/sandbox.h"
#include "tests/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs in a process with that sandbox; 0 or the line of what went wrong. */
typedef int (*inside_fn)(void);

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)
#define REFUSED(call) MUST((call) < 0 && errno == EPERM)

static struct sockaddr_in address; /* of a listening socket */
static int listening, unconnected, udp, pair[2];

static void inside(enum chv_sandbox kind, inside_fn run)
{
#ifdef CHV_SANITIZED
    (void)kind;
    (void)run; /* there is no filter */
#else
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct chv_why why = {""};
        if (chv_sandbox_enter(kind, false, &why) != CHV_OK) {
            fprintf(stderr, "%s\n", why.text);
            _exit(1);
        }
        _exit(run());
    }
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

static void open_sockets(void)
{
    socklen_t len = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(listening, (const struct sockaddr *)&address, len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(listening, 5), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(listening, (struct sockaddr *)&address, &len), 0);
}

static void close_sockets(void)
{
    close(listening);
    close(unconnected);
    close(udp);
}

/* Sends and takes descriptors over a pair of sockets, as the processes do among themselves. */
static int passes_descriptors(void)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    int got = -1;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &unconnected, sizeof unconnected);
    MUST(sendmsg(pair[0], &header, MSG_NOSIGNAL) == 1);
    memset(&control, 0, sizeof control);
    MUST(recvmsg(pair[1], &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1);
    MUST(CMSG_FIRSTHDR(&header) != NULL);
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof got);
    MUST(got > 2 && close(got) == 0);
    MUST(send(pair[0], &byte, 1, MSG_NOSIGNAL) == 1);
    MUST(recv(pair[1], &byte, 1, 0) == 1);
    return 0;
}

static int net_reaches_nobody(void)
{
    const struct sockaddr *to = (const struct sockaddr *)&address;
    struct sockaddr_in copy = address;
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &copy, .msg_namelen = sizeof copy};
    REFUSED(socket(AF_INET, SOCK_STREAM, 0));
    REFUSED(socket(AF_UNIX, SOCK_STREAM, 0));
    REFUSED(connect(unconnected, to, sizeof address));
    REFUSED(bind(unconnected, to, sizeof address));
    REFUSED(listen(unconnected, 1));
    REFUSED(sendto(unconnected, &byte, 1, MSG_FASTOPEN | MSG_NOSIGNAL, to, sizeof address));
    REFUSED(sendmsg(unconnected, &header, MSG_FASTOPEN | MSG_NOSIGNAL));
    REFUSED(sendto(udp, &byte, 1, 0, to, sizeof address));
    MUST(shutdown(listening, SHUT_RDWR) == 0);
    REFUSED(sendto(listening, &byte, 1, MSG_FASTOPEN | MSG_NOSIGNAL, to, sizeof address));
    REFUSED(execl("/bin/true", "true", (char *)NULL));
    REFUSED(open("/etc/passwd", O_RDONLY));
    return passes_descriptors();
}

static void test_net(void)
{
    static const enum chv_sandbox kinds[] = {CHV_SANDBOX_NET, CHV_SANDBOX_NET_FILES};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        open_sockets();
        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        inside(kinds[i], net_reaches_nobody);
        close(pair[0]);
        close(pair[1]);
        close_sockets();
    }
}

/* It connects and resolves; it takes no connections, runs nothing, and changes no file. */
static int connector_connects(void)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    MUST(fd >= 0);
    MUST(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS);
    MUST(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    MUST(getaddrinfo("localhost", "80", &hints, &list) == 0);
    freeaddrinfo(list);
    REFUSED(listen(fd, 1));
    REFUSED(accept4(listening, NULL, NULL, SOCK_NONBLOCK));
    REFUSED(execl("/bin/true", "true", (char *)NULL));
    REFUSED(fork());
    REFUSED(open("/dev/null", O_WRONLY));
    REFUSED(open("/dev/null", O_RDWR));
    REFUSED(open("/dev/null", O_RDONLY | O_CREAT, 0600));
    REFUSED(unlink("/nonexistent"));
    REFUSED(mkdir("/nonexistent", 0700));
    return passes_descriptors();
}

static void test_connector(void)
{
    open_sockets();
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    inside(CHV_SANDBOX_CONNECTOR, connector_connects);
    close(pair[0]);
    close(pair[1]);
    close_sockets();
}

static int keeper_reaches_nobody(void)
{
    REFUSED(socket(AF_INET, SOCK_STREAM, 0));
    REFUSED(connect(unconnected, (const struct sockaddr *)&address, sizeof address));
    REFUSED(execl("/bin/true", "true", (char *)NULL));
    return passes_descriptors();
}

static void test_keeper(void)
{
    open_sockets();
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    inside(CHV_SANDBOX_KEEPER, keeper_reaches_nobody);
    close(pair[0]);
    close(pair[1]);
    close_sockets();
}

TEST_MAIN("sandbox", {"net", test_net}, {"connector", test_connector}, {"keeper", test_keeper})
