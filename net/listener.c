/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/listener.h"

#include "net/source.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ACCEPTS_PER_TURN = 64, PAUSE_MS = 200 };

static int tcp_socket(const struct sockaddr *address, socklen_t len, bool shared)
{
    static const int on = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    if (ok && shared)
        ok = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    if (ok && address->sa_family == AF_INET6)
        ok = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
    /* Accepted sockets inherit it: one write is one record, never to be held back. */
    if (ok)
        ok = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
    if (ok)
        ok = bind(fd, address, len) == 0;
    if (ok)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* With SO_REUSEPORT a second server of the same user could bind the same port: this notices one that listens. */
static bool port_free(const struct sockaddr *address, socklen_t len)
{
    int fd = tcp_socket(address, len, false);
    bool ok = fd >= 0 && listen(fd, 1) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return ok;
}

static enum chv_err bind_tcp(struct chv_listener *l, const struct addrinfo *info,
                             const struct chv_server_config *config, unsigned workers, const char *name,
                             struct chv_why *why)
{
    struct sockaddr_storage bound;
    socklen_t len = info->ai_addrlen;
    if (len > sizeof bound)
        return chv_fail(why, CHV_ERR_CONFIG, "cannot listen on %s: not a TCP address", name);
    memcpy(&bound, info->ai_addr, len);
    struct sockaddr *address = (struct sockaddr *)&bound;
    if (!port_free(address, len))
        goto failed;
    for (unsigned i = 0; i < workers; i++) {
        int fd = tcp_socket(address, len, workers > 1);
        if (fd < 0)
            goto failed;
        l->fds[l->fd_count++] = fd;
        /* The first one learns the port that the kernel picked, the others take the same. */
        socklen_t room = sizeof bound;
        if (getsockname(fd, address, &room) != 0 || listen(fd, (int)config->backlog) != 0)
            goto failed;
    }
    char text[CHV_PEER_TEXT];
    chv_source_text(address, text);
    snprintf(l->text, sizeof l->text, "%s", text);
    l->address = bound;
    l->port = chv_source_port(address);
    return CHV_OK;
failed:
    return chv_fail(why, errno == EADDRINUSE ? CHV_ERR_BUSY : CHV_ERR_IO, "cannot listen on %s: %s", name,
                    strerror(errno));
}

static enum chv_err open_tcp(struct chv_listeners *listeners, enum chv_port kind, const char *name,
                             const struct chv_server_config *config, unsigned workers, struct chv_why *why)
{
    char host[CHV_LISTEN_LEN];
    snprintf(host, sizeof host, "%s", name[0] == '[' ? name + 1 : name);
    char *colon = strrchr(host, ':');
    const char *port = colon + 1;
    *colon = '\0';
    if (name[0] == '[')
        colon[-1] = '\0';

    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "cannot listen on %s: %s", name, gai_strerror(rc));
    enum chv_err err = CHV_OK;
    for (const struct addrinfo *info = list; info != NULL && err == CHV_OK; info = info->ai_next) {
        struct chv_listener *l = &listeners->list[listeners->count];
        if (listeners->count == CHV_LISTENERS_MAX) {
            err = chv_fail(why, CHV_ERR_CONFIG, "more than %d addresses to listen on", CHV_LISTENERS_MAX);
        } else {
            listeners->count++;
            l->kind = kind;
            err = bind_tcp(l, info, config, workers, name, why);
        }
    }
    freeaddrinfo(list);
    return err;
}

/* Removes the socket file of a server that is gone. 0, or an errno: EADDRINUSE if one answers. */
static int clear_socket_file(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode))
        return EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int saved = errno;
    close(fd);
    if (rc == 0 || saved != ECONNREFUSED)
        return rc == 0 || saved == EAGAIN ? EADDRINUSE : saved;
    return unlink(address->sun_path) == 0 ? 0 : errno;
}

static int bind_unix(struct chv_listener *l, const struct sockaddr_un *address, const struct chv_server_config *config)
{
    int err = clear_socket_file(address);
    if (err != 0)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    l->fds[l->fd_count++] = fd;
    mode_t mask = umask(config->private_sockets ? 0177 : 0117); /* from the start */
    int rc = bind(fd, (const struct sockaddr *)address, sizeof *address);
    int saved = errno;
    (void)umask(mask);
    struct stat st;
    if (rc != 0)
        return saved;
    if (stat(address->sun_path, &st) != 0)
        return errno;
    l->device = st.st_dev;
    l->inode = st.st_ino;
    return listen(fd, (int)config->backlog) == 0 ? 0 : errno;
}

/* The file is the starting user's, root's: who is in the group of the server's own user may connect too. */
static int give_to_group(const struct sockaddr_un *address, const char *user)
{
    if (user[0] == '\0' || geteuid() != 0)
        return 0;
    const struct passwd *entry = getpwnam(user);
    return entry == NULL ? ENOENT : lchown(address->sun_path, (uid_t)-1, entry->pw_gid) == 0 ? 0 : errno;
}

static enum chv_err open_unix(struct chv_listeners *listeners, const char *name, const struct chv_server_config *config,
                              struct chv_why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[CHV_LISTEN_LEN];
    const char *path = name + strlen("unix:");
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    snprintf(folder, sizeof folder, "%s", path);
    if (listeners->count == CHV_LISTENERS_MAX)
        return chv_fail(why, CHV_ERR_CONFIG, "more than %d addresses to listen on", CHV_LISTENERS_MAX);
    struct chv_listener *l = &listeners->list[listeners->count++];
    l->local = true;
    snprintf(l->text, sizeof l->text, "%s", name);

    /* Two servers that start at once do not both find the old file stale. */
    int lock = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = lock < 0 || flock(lock, LOCK_EX) != 0 ? errno : bind_unix(l, &address, config);
    if (err == 0)
        err = give_to_group(&address, config->user);
    if (lock >= 0)
        close(lock);
    if (err == 0)
        return CHV_OK;
    if (err == EADDRINUSE)
        return chv_fail(why, CHV_ERR_BUSY, "cannot listen on %s: another server answers there", name);
    return chv_fail(why, CHV_ERR_IO, "cannot listen on %s: %s", name,
                    err == EEXIST ? "a file that is no socket is there" : strerror(err));
}

enum chv_err chv_listeners_open(struct chv_listeners *listeners, const struct chv_server_config *config,
                                unsigned workers, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    memset(listeners, 0, sizeof *listeners);
    for (size_t i = 0; i < config->listen_count && err == CHV_OK; i++) {
        const char *name = config->listen[i];
        if (strncmp(name, "unix:", 5) == 0)
            err = open_unix(listeners, name, config, why);
        else
            err = open_tcp(listeners, CHV_PORT_BOTH, name, config, workers, why);
    }
    for (size_t i = 0; i < config->handshake_count && err == CHV_OK; i++)
        err = open_tcp(listeners, CHV_PORT_HANDSHAKE, config->handshake[i], config, workers, why);
    for (size_t i = 0; i < config->data_count && err == CHV_OK; i++)
        err = open_tcp(listeners, CHV_PORT_DATA, config->data[i], config, workers, why);
    if (err != CHV_OK)
        chv_listeners_close(listeners, true);
    return err;
}

/* 2: reachable at this address; 1: of its family; 0: neither. */
static unsigned fits(const struct chv_listener *l, const struct sockaddr_storage *here)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    if (l->kind != CHV_PORT_DATA || l->address.ss_family != here->ss_family)
        return 0;
    if (here->ss_family == AF_INET) {
        const struct in_addr *bound = &((const struct sockaddr_in *)(const void *)&l->address)->sin_addr;
        const struct in_addr *at = &((const struct sockaddr_in *)(const void *)here)->sin_addr;
        return bound->s_addr == htonl(INADDR_ANY) || bound->s_addr == at->s_addr ? 2 : 1;
    }
    const struct in6_addr *bound = &((const struct sockaddr_in6 *)(const void *)&l->address)->sin6_addr;
    const struct in6_addr *at = &((const struct sockaddr_in6 *)(const void *)here)->sin6_addr;
    return memcmp(bound, &any6, sizeof any6) == 0 || memcmp(bound, at, sizeof *at) == 0 ? 2 : 1;
}

uint32_t chv_listeners_reachable(const struct chv_listeners *listeners, int fd)
{
    struct sockaddr_storage here;
    socklen_t len = sizeof here;
    uint32_t found[3] = {0}; /* by fit */
    memset(&here, 0, sizeof here);
    if (getsockname(fd, (struct sockaddr *)&here, &len) != 0)
        return 0;
    for (size_t i = 0; i < listeners->count; i++)
        found[fits(&listeners->list[i], &here)] |= UINT32_C(1) << i;
    return found[2] != 0 ? found[2] : found[1];
}

void chv_listeners_stop(const struct chv_listeners *listeners)
{
    for (size_t i = 0; i < listeners->count; i++)
        for (size_t j = 0; j < listeners->list[i].fd_count; j++)
            (void)shutdown(listeners->list[i].fds[j], SHUT_RDWR);
}

void chv_listeners_close(struct chv_listeners *listeners, bool remove)
{
    for (size_t i = 0; i < listeners->count; i++) {
        struct chv_listener *l = &listeners->list[i];
        for (size_t j = 0; j < l->fd_count; j++)
            close(l->fds[j]);
        l->fd_count = 0;
        struct stat st;
        const char *path = l->text + strlen("unix:");
        if (remove && l->local && l->inode != 0 && lstat(path, &st) == 0 && st.st_dev == l->device &&
            st.st_ino == l->inode)
            (void)unlink(path);
    }
    if (remove)
        listeners->count = 0;
}

static void on_connections(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct chv_acceptor *acceptor = timer->data;
    (void)uv_poll_start(&acceptor->poll, UV_READABLE, on_connections);
}

static void on_connections(uv_poll_t *poll, int status, int events)
{
    struct chv_acceptor *acceptor = poll->data;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && status == 0 && acceptor->fd >= 0; i++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNIX};
        socklen_t len = sizeof peer;
        int fd = accept4(acceptor->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            acceptor->accepted(acceptor, fd, (const struct sockaddr *)&peer);
            continue;
        }
        if (errno == EAGAIN)
            return;
        if (errno == EINVAL) { /* chv_listeners_stop: the order to drain is on its way */
            (void)uv_poll_stop(poll);
            return;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            chv_log(CHV_LOG_WARNING, "cannot accept: %s; clients wait", strerror(errno));
            (void)uv_poll_stop(poll);
            (void)uv_timer_start(&acceptor->pause, on_pause_over, PAUSE_MS, 0);
            return;
        }
        /* ECONNABORTED and the network errors of accept(2) belong to one connection that is gone. */
    }
}

enum chv_err chv_acceptor_start(struct chv_acceptor *acceptor, uv_loop_t *loop, int fd, void *owner,
                                void (*accepted)(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer),
                                struct chv_why *why)
{
    acceptor->fd = fd;
    acceptor->owner = owner;
    acceptor->accepted = accepted;
    int rc = uv_poll_init(loop, &acceptor->poll, fd);
    if (rc != 0) {
        close(fd);
        acceptor->fd = -1; /* no handle for chv_acceptor_stop to close */
        return chv_fail(why, CHV_ERR_IO, "cannot watch a listening socket: %s", uv_strerror(rc));
    }
    acceptor->poll.data = acceptor;
    (void)uv_timer_init(loop, &acceptor->pause);
    acceptor->pause.data = acceptor;
    (void)uv_poll_start(&acceptor->poll, UV_READABLE, on_connections);
    return CHV_OK;
}

void chv_acceptor_stop(struct chv_acceptor *acceptor)
{
    if (acceptor->fd < 0)
        return;
    uv_close((uv_handle_t *)&acceptor->poll, NULL);
    uv_close((uv_handle_t *)&acceptor->pause, NULL);
    close(acceptor->fd);
    acceptor->fd = -1;
}
