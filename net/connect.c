/* SPDX-License-Identifier: Apache-2.0 */
/* A client's way to a connected socket: resolve the name off the loop, then try each address in turn. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/conn_internal.h"

enum { HOST_MAX = 255, PORT_MAX = 5 };

struct chv_connecting {
    uv_getaddrinfo_t request;
    struct chv_conn *conn; /* NULL: given up while the request is out */
    bool resolving;
    struct addrinfo *list; /* from getaddrinfo */
    const struct addrinfo *next;
    struct addrinfo unix_info; /* or this one */
    struct sockaddr_un unix_address;
};

static void free_connecting(struct chv_connecting *c)
{
    if (c->list != NULL)
        uv_freeaddrinfo(c->list);
    free(c);
}

void chv_connect_cancel(struct chv_conn *conn)
{
    struct chv_connecting *c = conn->connecting;
    if (c == NULL)
        return;
    conn->connecting = NULL;
    if (!c->resolving) {
        free_connecting(c);
        return;
    }
    c->conn = NULL; /* the callback frees it */
    (void)uv_cancel((uv_req_t *)&c->request);
}

static void try_next(struct chv_conn *conn);

static void attempt_failed(struct chv_conn *conn, int error)
{
    struct chv_connecting *c = conn->connecting;
    if (c->next != NULL) {
        chv_conn_detach(conn, try_next);
        return;
    }
    bool nobody = error == ECONNREFUSED || error == ENOENT;
    chv_conn_explain(conn, "cannot connect to %s: %s%s", conn->peer, strerror(error),
                     nobody ? ": is chaveirod running there?" : "");
    chv_conn_finish(conn, CHV_ERR_UNAVAILABLE);
}

static void connected(struct chv_conn *conn)
{
    int one = 1;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one,
                     sizeof one); /* not for AF_UNIX: then it fails, rightly */
    chv_connect_cancel(conn);
    chv_conn_connected(conn);
}

/* The socket of the current attempt is connected, or failed. */
static void on_connecting(uv_poll_t *handle, int status, int events)
{
    struct chv_conn *conn = handle->data;
    (void)status; /* the socket knows it better */
    (void)events;
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    (void)uv_poll_stop(&conn->handle.poll);
    conn->events = 0;
    if (error != 0)
        attempt_failed(conn, error);
    else
        connected(conn);
}

/* One attempt at the next address; its end comes by chv_connect_ready. */
static void try_next(struct chv_conn *conn)
{
    struct chv_connecting *c = conn->connecting;
    const struct addrinfo *info = c->next;
    c->next = info->ai_next;
    int error = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        attempt_failed(conn, errno);
        return;
    }
    int rc = chv_conn_attach(conn, fd);
    if (rc != 0) {
        (void)close(fd);
        attempt_failed(conn, -rc);
        return;
    }
    if (connect(fd, info->ai_addr, info->ai_addrlen) != 0 && errno != EINPROGRESS)
        error = errno;
    if (error == 0) {
        rc = uv_poll_start(&conn->handle.poll, UV_WRITABLE, on_connecting);
        error = rc != 0 ? -rc : 0;
    }
    if (error != 0)
        attempt_failed(conn, error);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct chv_connecting *c = request->data;
    struct chv_conn *conn = c->conn;
    c->resolving = false;
    c->list = list;
    c->next = list;
    if (conn == NULL) {
        free_connecting(c);
    } else if (status != 0 || list == NULL) {
        chv_conn_explain(conn, "cannot resolve %s: %s", conn->peer,
                         status != 0 ? uv_strerror(status) : "it has no address");
        chv_conn_finish(conn, CHV_ERR_UNAVAILABLE);
    } else {
        try_next(conn);
    }
}

/* "HOST:PORT" or "[V6]:PORT" into its parts. */
static enum chv_err split_address(const char *address, char host[HOST_MAX + 1], char port[PORT_MAX + 1],
                                  struct chv_why *why)
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    size_t len = colon != NULL ? (size_t)(colon - address) : 0;
    bool v6 = len > 0 && address[0] == '[' && colon[-1] == ']';
    if (v6) {
        start++;
        len -= 2;
    }
    size_t port_len = colon != NULL ? strlen(colon + 1) : 0;
    bool number = port_len > 0 && port_len <= PORT_MAX && strspn(colon + 1, "0123456789") == port_len;
    long value = number ? strtol(colon + 1, NULL, 10) : 0;
    if (len == 0 || len > HOST_MAX || value < 1 || value > 65535 || (!v6 && memchr(start, ':', len) != NULL))
        return chv_fail(why, CHV_ERR_ARGUMENT, "\"%s\" is no address: HOST:PORT, [IPV6]:PORT or unix:/PATH is one",
                        address);
    memcpy(host, start, len);
    host[len] = '\0';
    memcpy(port, colon + 1, port_len + 1);
    return CHV_OK;
}

static enum chv_err use_unix(struct chv_connecting *c, const char *path, struct chv_why *why)
{
    size_t len = strlen(path);
    if (path[0] != '/' || len >= sizeof c->unix_address.sun_path)
        return chv_fail(why, CHV_ERR_ARGUMENT, "\"unix:%s\": an absolute path of at most %zu bytes is wanted", path,
                        sizeof c->unix_address.sun_path - 1);
    c->unix_address.sun_family = AF_UNIX;
    memcpy(c->unix_address.sun_path, path, len + 1);
    c->unix_info.ai_family = AF_UNIX;
    c->unix_info.ai_addr = (struct sockaddr *)&c->unix_address;
    c->unix_info.ai_addrlen = sizeof c->unix_address;
    c->next = &c->unix_info;
    return CHV_OK;
}

static enum chv_err resolve(struct chv_loop *loop, struct chv_connecting *c, const char *address, struct chv_why *why)
{
    char host[HOST_MAX + 1], port[PORT_MAX + 1];
    enum chv_err err = split_address(address, host, port, why);
    if (err != CHV_OK)
        return err;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    c->request.data = c;
    int rc = uv_getaddrinfo(&loop->uv, &c->request, on_resolved, host, port, &hints);
    if (rc != 0)
        return chv_fail(why, CHV_ERR_UNAVAILABLE, "cannot resolve %s: %s", address, uv_strerror(rc));
    c->resolving = true;
    return CHV_OK;
}

enum chv_err chv_conn_connect(struct chv_loop *loop, const char *address, const struct chv_session_config *config,
                              const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                              struct chv_why *why)
{
    static const char unix_scheme[] = "unix:";
    struct chv_conn *made = NULL;
    struct chv_connecting *c = calloc(1, sizeof *c);
    if (c == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for a connection");
    enum chv_err err = chv_conn_new(loop, address, config, events, owner, &made, why);
    if (err != CHV_OK)
        goto out;
    bool local = strncmp(address, unix_scheme, sizeof unix_scheme - 1) == 0;
    err = local ? use_unix(c, address + sizeof unix_scheme - 1, why) : resolve(loop, c, address, why);
    if (err != CHV_OK)
        goto out;
    c->conn = made;
    made->connecting = c;
    chv_conn_adopt(made);
    *conn = made;
    if (local)
        chv_conn_detach(made, try_next); /* the first attempt comes from the loop: no callback before this returns */
    return CHV_OK;
out:
    if (made != NULL)
        chv_conn_discard(made);
    free(c);
    return err;
}

enum chv_err chv_conn_same_host(const struct chv_conn *conn, uint16_t port, char *out, size_t size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    char host[HOST_MAX + 1];
    if (conn->fd < 0 || getpeername(conn->fd, (struct sockaddr *)&address, &len) != 0)
        return CHV_ERR_STATE;
    if (address.ss_family != AF_INET && address.ss_family != AF_INET6)
        return CHV_ERR_UNSUPPORTED;
    if (getnameinfo((struct sockaddr *)&address, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
        return CHV_ERR_IO;
    const bool v6 = strchr(host, ':') != NULL;
    int n = snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)port);
    return n > 0 && (size_t)n < size ? CHV_OK : CHV_ERR_SPACE;
}
