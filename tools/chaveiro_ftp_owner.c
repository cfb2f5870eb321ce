/* SPDX-License-Identifier: Apache-2.0 */
/* Whose the other end of a connection on this machine is: the kernel's socket diagnosis (sock_diag(7)) says it. */
#include "tools/chaveiro_ftp.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
};

/* Seen from the other end: its address is the source. */
static bool fill(struct request *r, const struct sockaddr_storage *peer, const struct sockaddr_storage *own)
{
    struct inet_diag_sockid *id = &r->body.id;
    *r = (struct request){
        .head = {.nlmsg_len = sizeof *r, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = (uint8_t)peer->ss_family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0U}};
    id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (peer->ss_family != own->ss_family)
        return false;
    if (peer->ss_family == AF_INET) {
        struct sockaddr_in from, to;
        memcpy(&from, peer, sizeof from);
        memcpy(&to, own, sizeof to);
        id->idiag_sport = from.sin_port;
        id->idiag_dport = to.sin_port;
        memcpy(id->idiag_src, &from.sin_addr, sizeof from.sin_addr);
        memcpy(id->idiag_dst, &to.sin_addr, sizeof to.sin_addr);
        return true;
    }
    struct sockaddr_in6 from, to;
    memcpy(&from, peer, sizeof from);
    memcpy(&to, own, sizeof to);
    id->idiag_sport = from.sin6_port;
    id->idiag_dport = to.sin6_port;
    memcpy(id->idiag_src, &from.sin6_addr, sizeof from.sin6_addr);
    memcpy(id->idiag_dst, &to.sin6_addr, sizeof to.sin6_addr);
    return peer->ss_family == AF_INET6;
}

static bool ask(const struct request *r, uid_t *uid)
{
    union {
        struct nlmsghdr head;
        uint8_t bytes[1024];
    } answer = {.bytes = {0}};
    bool known = false;
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return false;
    /* The kernel answers inside of send(2). */
    if (send(fd, r, sizeof *r, 0) == (ssize_t)sizeof *r) {
        ssize_t n = recv(fd, &answer, sizeof answer, 0);
        known =
            n >= (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) && answer.head.nlmsg_type == SOCK_DIAG_BY_FAMILY;
    }
    (void)close(fd);
    if (!known)
        return false;
    struct inet_diag_msg message;
    memcpy(&message, answer.bytes + NLMSG_HDRLEN, sizeof message);
    if (message.idiag_inode == 0) /* closed already: nobody's any more, and told as root's */
        return false;
    *uid = message.idiag_uid;
    return true;
}

bool ftp_owner(int fd, uid_t *uid)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC}, own = peer;
    socklen_t peer_len = sizeof peer, own_len = sizeof own;
    struct request request;
    struct ucred cred;
    socklen_t cred_len = sizeof cred;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &own_len) != 0)
        return false;
    if (own.ss_family == AF_UNIX) {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) != 0)
            return false;
        *uid = cred.uid;
        return true;
    }
    return fill(&request, &peer, &own) && ask(&request, uid);
}
