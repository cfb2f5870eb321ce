/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Up" is from the plain side into the connection: readv into record slots, sealed where they are, one write. "Down" is the
 * other way: the bodies of one read of the connection leave in one writev.
 */
#include "config.h"

#include "services/tunnel_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    GATHER = 32,   /* bodies of one writev */
    TICKS = 4,     /* looks at the clock per idle limit: it comes so much late at most */
    PING_PART = 3, /* of the server's idle limit between pings */
    SECOND_MS = 1000
};

/* A descriptor on the loop. */
struct watch {
    union {
        uv_handle_t any;
        uv_poll_t poll;
        uv_idle_t idle; /* what epoll does not take, a regular file: always ready */
    } handle;
    bool polled;
    int events; /* watched for now */
    int fd;     /* -1: closed */
    int flags;  /* as they were */
};

struct chv_tunnel_pipe {
    struct chv_conn *conn;
    void *owner;
    void (*finished)(void *owner);
    void (*idle)(void *owner);
    struct watch in, out; /* `out` only where the descriptors differ */
    bool apart;           /* they do */
    bool socket;          /* the plain side that is written to */
    bool tcp;
    bool up_ended, down_ended;   /* END was sent, has come */
    bool shut;                   /* the plain side was told so */
    bool broken;                 /* it takes no more: what comes for it is dropped */
    bool hung_up;                /* its end was seen while it was not read */
    bool over;                   /* the connection ends: nothing more is pumped */
    bool said;                   /* `finished` was called */
    size_t slots;                /* to read into at a time */
    struct iovec gather[GATHER]; /* bodies of this read of the connection, not yet written */
    size_t gathered;
    struct chv_held pending; /* bytes that the plain side did not take */
    uint64_t read, written;  /* plain bytes */
    uv_timer_t timer;
    unsigned handles;
    uint64_t moved;              /* read + written at the last tick */
    uint64_t quiet_ms, idle_ms;  /* without a byte; the limit, 0: none */
    uint64_t records, silent_ms; /* moved at the last tick; without one */
    uint64_t ping_ms;            /* 0: none */
};

static void settle(struct chv_tunnel_pipe *p);

/* --- handles ------------------------------------------------------------------------------------------------------ */

static void on_handle_closed(uv_handle_t *handle)
{
    struct chv_tunnel_pipe *p = handle->data;
    if (--p->handles == 0)
        free(p);
}

static void close_watch(struct watch *w)
{
    if (w->fd < 0)
        return;
    uv_close(&w->handle.any, on_handle_closed);
    if ((w->flags & O_NONBLOCK) == 0)
        (void)fcntl(w->fd, F_SETFL, w->flags); /* others may have the same terminal */
    (void)close(w->fd);
    w->fd = -1;
}

static int open_watch(struct chv_tunnel_pipe *p, struct watch *w, int fd)
{
    uv_loop_t *uv = &chv_conn_loop(p->conn)->uv;
    w->flags = fcntl(fd, F_GETFL);
    int rc = uv_poll_init(uv, &w->handle.poll, fd);
    w->polled = rc == 0;
    if (rc == UV_EPERM)
        rc = uv_idle_init(uv, &w->handle.idle);
    if (rc != 0)
        return rc;
    w->handle.any.data = p;
    w->fd = fd;
    p->handles++;
    return 0;
}

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_idle(uv_idle_t *handle);

/* Neither call fails on a handle that is initialised and not closing. */
static void watch_for(struct watch *w, int events)
{
    if (w->fd < 0 || events == w->events)
        return;
    w->events = events;
    if (!w->polled)
        (void)((events & UV_READABLE) != 0 ? uv_idle_start(&w->handle.idle, on_idle) : uv_idle_stop(&w->handle.idle));
    else if (events != 0)
        (void)uv_poll_start(&w->handle.poll, events, on_poll);
    else
        (void)uv_poll_stop(&w->handle.poll);
}

static struct watch *out_of(struct chv_tunnel_pipe *p)
{
    return p->apart ? &p->out : &p->in;
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void end(struct chv_tunnel_pipe *p, enum chv_err err)
{
    p->over = true;
    chv_conn_end(p->conn, err);
}

/* The plain side is gone: what it had sent before still goes out, without END. */
static void plain_lost(struct chv_tunnel_pipe *p, int error)
{
    if (p->over)
        return;
    chv_conn_explain(p->conn, "the plain side of the tunnel was lost: %s", strerror(error));
    if (chv_conn_unsent(p->conn) == 0) {
        end(p, CHV_ERR_CANCELLED);
    } else { /* the peer is slow: it is not waited for */
        p->over = true;
        chv_conn_abort(p->conn, CHV_ERR_CANCELLED);
    }
}

static void check_finished(struct chv_tunnel_pipe *p)
{
    if (p->said || p->over || !p->up_ended || !p->shut || chv_conn_unsent(p->conn) > 0)
        return;
    p->said = true;
    p->finished(p->owner);
}

/* END has come and all before it is written: the plain side sees end of file. */
static void shut_when_written(struct chv_tunnel_pipe *p)
{
    if (!p->down_ended || p->shut || p->pending.len > 0 || p->gathered > 0 || p->broken)
        return;
    p->shut = true;
    if (p->socket)
        (void)shutdown(out_of(p)->fd, SHUT_WR); /* one that is gone says so when it is read */
    else if (p->apart)
        close_watch(&p->out);
}

/* --- up ----------------------------------------------------------------------------------------------------------- */

static bool may_read(const struct chv_tunnel_pipe *p)
{
    return !p->over && !p->up_ended && chv_conn_unsent(p->conn) == 0;
}

static void sent(struct chv_tunnel_pipe *p, enum chv_err err)
{
    if (err == CHV_OK)
        return;
    p->over = true;
    if (err != CHV_ERR_STATE && err != CHV_ERR_IO) /* these: the connection is ending already, and says why */
        end(p, err);
}

static void up_end(struct chv_tunnel_pipe *p)
{
    p->up_ended = true;
    if (p->broken)
        plain_lost(p, EPIPE);
    else
        sent(p, chv_conn_send(p->conn, CHV_RECORD_END, NULL, 0));
}

/* Slots for one read of at most `turn` bytes; *room is their bytes. */
static size_t room_to_read(struct chv_tunnel_pipe *p, size_t turn, struct iovec *slots, size_t *room)
{
    const size_t full = p->slots * CHV_RECORD_BULK_BODY;
    size_t most = chv_pool_share(chv_conn_loop(p->conn)->pool, full < turn ? full : turn);
    if (most > CHV_RECORD_BULK_BODY)
        most -= most % CHV_RECORD_BULK_BODY; /* no small records beside full ones */
    const size_t wanted = (most + CHV_RECORD_BULK_BODY - 1) / CHV_RECORD_BULK_BODY;
    const size_t count = chv_conn_slots(p->conn, slots, wanted);
    *room = count * CHV_RECORD_BULK_BODY;
    if (*room > most) {
        slots[count - 1].iov_len -= *room - most;
        *room = most;
    }
    return count;
}

/* One read; whether there may be more. */
static bool read_once(struct chv_tunnel_pipe *p, size_t turn)
{
    struct iovec slots[CHV_LOOP_SLOTS];
    size_t room;
    const size_t count = room_to_read(p, turn, slots, &room);
    ssize_t n;
    do
        n = readv(p->in.fd, slots, (int)count);
    while (n < 0 && errno == EINTR);
    const int error = n < 0 ? errno : 0;
    sent(p, chv_conn_send_slots(p->conn, CHV_RECORD_DATA, n > 0 ? (size_t)n : 0));
    if (n > 0)
        p->read += (uint64_t)n;
    else if (n == 0)
        up_end(p);
    else if (error != EAGAIN && error != EWOULDBLOCK)
        plain_lost(p, error);
    if (n <= 0 || (size_t)n < room)
        return false;
    if (p->slots < CHV_LOOP_SLOTS)
        p->slots *= 2;
    return true;
}

static void pump_up(struct chv_tunnel_pipe *p)
{
    const size_t turn = chv_loop_turn(chv_conn_loop(p->conn));
    const uint64_t before = p->read;
    bool more = true;
    for (int i = 0; i < CHV_LOOP_READS && p->read - before < turn && more && may_read(p); i++)
        more = read_once(p, turn);
    if (chv_conn_unsent(p->conn) > 0)
        p->slots = 1; /* who waits for a slow reader holds little memory */
}

/* --- down --------------------------------------------------------------------------------------------------------- */

/* As writev, and never a signal. */
static ssize_t write_plain(struct chv_tunnel_pipe *p, struct iovec *bodies, size_t count)
{
    const struct watch *out = out_of(p);
    ssize_t n;
    do
        n = p->socket ? sendmsg(out->fd, &(struct msghdr){.msg_iov = bodies, .msg_iovlen = count}, MSG_NOSIGNAL)
                      : writev(out->fd, bodies, (int)count);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        p->written += (uint64_t)n;
    return n;
}

/*
 * The plain side takes no more. It may have said something before it went, or wait for nothing but to be heard: it is
 * read to its end, and what comes for it is dropped.
 */
static void break_down(struct chv_tunnel_pipe *p, int error)
{
    p->broken = true;
    p->gathered = 0;
    chv_held_free(&p->pending, chv_conn_loop(p->conn)->pool);
    if (p->up_ended)
        plain_lost(p, error);
}

static enum chv_err hold(struct chv_tunnel_pipe *p, const void *bytes, size_t len)
{
    enum chv_err err = chv_held_append(&p->pending, chv_conn_loop(p->conn)->pool, bytes, len);
    if (err != CHV_OK)
        chv_conn_explain(p->conn, "no memory for a plain side that does not read: the limit for slow peers is reached");
    return err;
}

/* Drops the first `n` bytes. */
static size_t advance(struct iovec *bodies, size_t count, size_t n)
{
    size_t first = 0;
    while (first < count && n >= bodies[first].iov_len)
        n -= bodies[first++].iov_len;
    if (first < count) {
        bodies[first].iov_base = (uint8_t *)bodies[first].iov_base + n;
        bodies[first].iov_len -= n;
    }
    return first;
}

/* Writes what was gathered; what is not taken is held, and the connection is not read until it is gone. */
static enum chv_err write_gathered(struct chv_tunnel_pipe *p)
{
    struct iovec *bodies = p->gather;
    size_t left = p->gathered;
    enum chv_err err = CHV_OK;
    bool full = p->pending.len > 0;
    while (left > 0 && !full) {
        const ssize_t n = write_plain(p, bodies, left);
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            break_down(p, errno);
            return CHV_OK;
        }
        full = n < 0;
        const size_t done = n < 0 ? 0 : advance(bodies, left, (size_t)n);
        bodies += done;
        left -= done;
    }
    for (; left > 0 && err == CHV_OK; bodies++, left--)
        err = hold(p, bodies->iov_base, bodies->iov_len);
    p->gathered = 0;
    if (p->pending.len > 0)
        chv_conn_hold_back(p->conn);
    return err;
}

static enum chv_err gather(struct chv_tunnel_pipe *p, const uint8_t *body, size_t len)
{
    if (p->broken || len == 0)
        return CHV_OK;
    if (p->gathered == GATHER) {
        const enum chv_err err = write_gathered(p);
        if (err != CHV_OK || p->broken)
            return err;
    }
    p->gather[p->gathered++] = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = len};
    return CHV_OK;
}

static void pump_down(struct chv_tunnel_pipe *p)
{
    struct chv_held *held = &p->pending;
    if (held->len == 0)
        return;
    struct iovec bytes = {.iov_base = held->buf + held->start, .iov_len = held->len};
    const ssize_t n = write_plain(p, &bytes, 1);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n < 0) {
        break_down(p, errno);
    } else {
        held->start += (size_t)n;
        held->len -= (size_t)n;
        if (held->len > 0)
            return;
        chv_held_free(held, chv_conn_loop(p->conn)->pool);
    }
    chv_conn_unpause(p->conn);
}

enum chv_err chv_tunnel_pipe_record(struct chv_tunnel_pipe *p, uint8_t type, const uint8_t *body, size_t len)
{
    if (p->down_ended || (type != CHV_RECORD_DATA && (type != CHV_RECORD_END || len > 0))) {
        chv_conn_explain(p->conn, "tunnel: record of type %u, %zu bytes, that is not due", (unsigned)type, len);
        return CHV_ERR_PROTOCOL;
    }
    if (type == CHV_RECORD_DATA)
        return gather(p, body, len);
    p->down_ended = true;
    if (p->gathered == 0)
        settle(p); /* else in `batch` */
    return CHV_OK;
}

void chv_tunnel_pipe_batch(struct chv_tunnel_pipe *p)
{
    if (p->gathered > 0) {
        const enum chv_err err = write_gathered(p);
        if (err != CHV_OK)
            end(p, err);
    }
    settle(p);
}

void chv_tunnel_pipe_drained(struct chv_tunnel_pipe *p)
{
    settle(p);
}

/* --- both --------------------------------------------------------------------------------------------------------- */

/* After anything that may have changed what is to be waited for. */
static void settle(struct chv_tunnel_pipe *p)
{
    int in = 0, out = 0;
    shut_when_written(p);
    check_finished(p);
    if (may_read(p))
        in = UV_READABLE;
    else if (!p->over && !p->up_ended && !p->hung_up)
        in = UV_DISCONNECT; /* of one that is stuck */
    if (p->pending.len > 0 && !p->over)
        out = UV_WRITABLE;
    watch_for(&p->in, p->apart ? in : in | out);
    if (p->apart)
        watch_for(&p->out, out);
}

/* One that is not read has hung up: what it sent before is still to be read, unless it was reset. */
static void look_for_reset(struct chv_tunnel_pipe *p)
{
    int error = 0;
    socklen_t len = sizeof error;
    p->hung_up = true;
    if (getsockopt(p->in.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
        plain_lost(p, error);
}

static void ready(struct chv_tunnel_pipe *p, int events)
{
    if ((events & UV_WRITABLE) != 0)
        pump_down(p);
    if ((events & UV_READABLE) != 0 && may_read(p))
        pump_up(p);
    else if ((events & UV_DISCONNECT) != 0 && !p->over && !p->up_ended)
        look_for_reset(p);
    settle(p);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct chv_tunnel_pipe *p = handle->data;
    struct watch *w = p->apart && handle == &p->out.handle.poll ? &p->out : &p->in;
    if (status < 0) {
        w->events = 0; /* libuv stopped it: the next read or write will say why */
        events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
    }
    ready(p, w == &p->out ? events & UV_WRITABLE : events);
}

static void on_idle(uv_idle_t *handle)
{
    ready(handle->data, UV_READABLE);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static void ping_when_silent(struct chv_tunnel_pipe *p, uint64_t period)
{
    struct chv_session_info info;
    if (p->ping_ms == 0 || chv_session_get_info(chv_conn_session(p->conn), &info) != CHV_OK)
        return;
    const bool silent = info.records_sent == p->records;
    p->silent_ms = silent ? p->silent_ms + period : 0;
    if (silent && p->silent_ms + period > p->ping_ms && chv_conn_unsent(p->conn) == 0) {
        p->silent_ms = 0;
        sent(p, chv_conn_send(p->conn, CHV_RECORD_PING, NULL, 0));
        if (!p->over)
            info.records_sent++;
    }
    p->records = info.records_sent;
}

static void on_tick(uv_timer_t *timer)
{
    struct chv_tunnel_pipe *p = timer->data;
    const uint64_t period = uv_timer_get_repeat(timer), moved = p->read + p->written;
    if (p->over)
        return;
    p->quiet_ms = moved == p->moved ? p->quiet_ms + period : 0;
    p->moved = moved;
    if (p->idle_ms != 0 && p->quiet_ms >= p->idle_ms) {
        chv_conn_explain(p->conn, "no byte through the tunnel in %u s", (unsigned)(p->idle_ms / SECOND_MS));
        if (p->idle != NULL)
            p->idle(p->owner);
        end(p, CHV_ERR_TIMEOUT);
    } else {
        ping_when_silent(p, period);
    }
    settle(p);
}

static void start_timer(struct chv_tunnel_pipe *p, const struct chv_tunnel_pipe_config *config)
{
    struct chv_session_info info;
    p->idle_ms = (uint64_t)config->idle_seconds * SECOND_MS;
    uint64_t period = p->idle_ms / TICKS;
    if (config->pings && chv_session_get_info(chv_conn_session(p->conn), &info) == CHV_OK && info.idle_seconds != 0) {
        p->ping_ms = (uint64_t)info.idle_seconds * SECOND_MS / PING_PART;
        p->records = info.records_sent;
        period = period == 0 || p->ping_ms < period ? p->ping_ms : period;
    }
    (void)uv_timer_init(&chv_conn_loop(p->conn)->uv, &p->timer); /* cannot fail */
    p->timer.data = p;
    p->handles++;
    if (period != 0)
        (void)uv_timer_start(&p->timer, on_tick, period, period);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void close_plain(struct chv_tunnel_pipe *p)
{
    close_watch(&p->in);
    if (p->apart)
        close_watch(&p->out);
}

/* Small writes leave at once, and a peer that is gone without a word is noticed. */
static void set_options(struct chv_tunnel_pipe *p, int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    const int one = 1;
    p->socket = getsockname(fd, (struct sockaddr *)&address, &len) == 0;
    p->tcp = p->socket && (address.ss_family == AF_INET || address.ss_family == AF_INET6);
    if (!p->tcp)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

static enum chv_err open_plain(struct chv_tunnel_pipe *p, const struct chv_tunnel_pipe_config *config,
                               struct chv_why *why)
{
    set_options(p, config->write_fd);
    p->apart = config->read_fd != config->write_fd;
    int rc = open_watch(p, &p->in, config->read_fd);
    if (rc == 0 && p->apart)
        rc = open_watch(p, &p->out, config->write_fd);
    if (rc == 0)
        return CHV_OK;
    if (p->in.fd < 0)
        (void)close(config->read_fd);
    if (p->apart)
        (void)close(config->write_fd);
    return chv_fail(why, CHV_ERR_IO, "cannot watch the plain side of a tunnel: %s", uv_strerror(rc));
}

enum chv_err chv_tunnel_pipe_start(struct chv_conn *conn, const struct chv_tunnel_pipe_config *config, void *owner,
                                   struct chv_tunnel_pipe **pipe, struct chv_why *why)
{
    struct chv_tunnel_pipe *p = calloc(1, sizeof *p);
    if (p == NULL) {
        (void)close(config->read_fd);
        if (config->write_fd != config->read_fd)
            (void)close(config->write_fd);
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for a tunnel");
    }
    p->conn = conn;
    p->owner = owner;
    p->finished = config->finished;
    p->idle = config->idle;
    p->slots = 1;
    p->in.fd = p->out.fd = -1;
    start_timer(p, config);
    enum chv_err err = open_plain(p, config, why);
    if (err != CHV_OK) {
        chv_tunnel_pipe_free(p);
        return err;
    }
    chv_conn_duplex(conn, true);
    settle(p);
    *pipe = p;
    return CHV_OK;
}

bool chv_tunnel_pipe_ended(const struct chv_tunnel_pipe *pipe)
{
    return pipe->up_ended && pipe->down_ended;
}

bool chv_tunnel_pipe_finished(const struct chv_tunnel_pipe *pipe)
{
    return pipe->said;
}

void chv_tunnel_pipe_counts(const struct chv_tunnel_pipe *pipe, uint64_t *in, uint64_t *out)
{
    *in = pipe->read;
    *out = pipe->written;
}

void chv_tunnel_pipe_free(struct chv_tunnel_pipe *pipe)
{
    static const struct linger now = {.l_onoff = 1};
    if (pipe == NULL)
        return;
    pipe->over = true;
    chv_held_free(&pipe->pending, chv_conn_loop(pipe->conn)->pool);
    if (pipe->tcp && !(pipe->up_ended && pipe->shut) && out_of(pipe)->fd >= 0)
        (void)setsockopt(out_of(pipe)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* closing resets it */
    close_plain(pipe);
    uv_close((uv_handle_t *)&pipe->timer, on_handle_closed);
}
