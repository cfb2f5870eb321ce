/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/ipc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * CHV_WORKERS_MAX)];
};

enum chv_err chv_ipc_pair(int ends[2], struct chv_why *why)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return chv_fail(why, CHV_ERR_IO, "socketpair: %s", strerror(errno));
    return CHV_OK;
}

static size_t message_size(enum chv_ipc_kind kind)
{
    const size_t head = offsetof(struct chv_ipc_message, config);
    _Static_assert(offsetof(struct chv_ipc_message, keys) == offsetof(struct chv_ipc_message, config), "one head");
    if (kind == CHV_IPC_TICKET_KEYS)
        return head + sizeof(struct chv_ticket_keys);
    return kind == CHV_IPC_CONFIG || kind == CHV_IPC_SERVES ? sizeof(struct chv_ipc_message) : head;
}

enum chv_err chv_ipc_send(int fd, const struct chv_ipc_message *message, const int *fds, size_t fd_count)
{
    union control control = {0};
    struct iovec iov = {.iov_len = message_size(message->kind)};
    /* sendmsg does not write there.  NOLINTNEXTLINE(bugprone-sizeof-expression): the pointer itself is copied */
    memcpy(&iov.iov_base, &message, sizeof message);
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > CHV_WORKERS_MAX)
        return CHV_ERR_ARGUMENT;
    if (fd_count > 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return CHV_OK;
    return errno == EAGAIN ? CHV_ERR_BUSY : CHV_ERR_IO;
}

static void take_descriptors(struct msghdr *header, int fds[CHV_WORKERS_MAX], size_t *fd_count)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        *fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), *fd_count * sizeof(int));
    }
}

enum chv_err chv_ipc_receive(int fd, struct chv_ipc_message *message, int fds[CHV_WORKERS_MAX], size_t *fd_count)
{
    union control control = {0};
    struct iovec iov = {.iov_base = message, .iov_len = sizeof *message};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *fd_count = 0;
    ssize_t n;
    do
        n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return CHV_ERR_NOT_FOUND;
    if (n <= 0)
        return CHV_ERR_TRUNCATED;
    take_descriptors(&header, fds, fd_count);
    if ((size_t)n >= offsetof(struct chv_ipc_message, config) && (size_t)n == message_size(message->kind) &&
        (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        return CHV_OK;
    while (*fd_count > 0)
        close(fds[--*fd_count]);
    return CHV_ERR_MALFORMED;
}
