/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a connection: made, started, answered, ended. Its bytes move in conn_read.c and conn_write.c. */
#include "net/conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/conn_internal.h"

void chv_conn_adopt(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    uv_update_time(&loop->uv);
    conn->next = loop->conns;
    if (loop->conns != NULL)
        loop->conns->prev = conn;
    loop->conns = conn;
    loop->conn_count++;
    chv_deadline_start(loop);
    chv_deadline_update(conn);
}

static void unlink_conn(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        loop->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    loop->conn_count--;
    if (loop->conn_count == 0)
        (void)uv_timer_stop(&loop->tick);
}

static void free_conn(struct chv_conn *conn)
{
    chv_session_wipe(conn->session);
    if (conn->has_room)
        chv_loop_give_room(conn->loop, conn->session);
    else
        free(conn->session);
    free(conn->peer);
    free(conn->why);
    chv_wipe(conn, sizeof *conn);
    free(conn);
}

enum chv_err chv_conn_new(struct chv_loop *loop, const char *peer, const struct chv_session_config *config,
                          const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                          struct chv_why *why)
{
    static atomic_uint_fast64_t last_id;
    struct chv_conn *c = calloc(1, sizeof *c);
    void *memory = chv_loop_take_room(loop);
    char *name = strdup(peer);
    enum chv_err err = CHV_ERR_MEMORY;
    if (c == NULL || memory == NULL || name == NULL) {
        (void)chv_fail(why, err, "no memory for a connection");
        goto out;
    }
    struct chv_session_config ours = *config;
    ours.crypto = &loop->crypto;
    err = chv_session_init(memory, &ours, &c->session, why);
    if (err != CHV_OK)
        goto out;
    c->loop = loop;
    c->has_room = true;
    c->role = config->role;
    c->on = events;
    c->owner = owner;
    c->peer = name;
    c->fd = -1;
    c->id = atomic_fetch_add(&last_id, 1) + 1;
    c->read_size = CHV_CONN_READ_MIN;
    *conn = c;
    return CHV_OK;
out:
    free(name);
    chv_loop_give_room(loop, memory);
    free(c);
    return err;
}

void chv_conn_discard(struct chv_conn *conn)
{
    free_conn(conn);
}

/* The handshake waits for its owner: the peer has nothing to say meanwhile. */
static bool key_is_out(const struct chv_conn *conn)
{
    return conn->state == CHV_CONN_HANDSHAKE && (chv_session_wants(conn->session) & CHV_WANT_READ) == 0;
}

/* What a peer that is held back sent before it closed is still to be read; of one that is gone nothing is. */
static void look_for_reset(struct chv_conn *conn, int events)
{
    int error = 0;
    socklen_t len = sizeof error;
    if ((events & UV_DISCONNECT) == 0)
        return;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
        chv_conn_lost(conn, error);
    conn->hung_up = true;
}

static int wanted_events(const struct chv_conn *conn)
{
    int events = conn->unsent.len > 0 ? UV_WRITABLE : 0;
    if (conn->held_back && conn->duplex && !conn->read_ended && !conn->hung_up && conn->state == CHV_CONN_OPEN)
        return events | UV_DISCONNECT;
    if (conn->read_ended || conn->paused || conn->held_back || chv_conn_backed_up(conn))
        return events;
    return events | (key_is_out(conn) ? UV_DISCONNECT : UV_READABLE);
}

/*
 * Watched though they are not wanted now: a change costs two system calls, and a server's connection waits for its key and
 * for the registrar while its peer mostly has nothing to say.
 */
static int spare_events(const struct chv_conn *conn)
{
    return conn->exact || conn->role != CHV_SERVER || conn->duplex || conn->held_back ? 0 : UV_READABLE | UV_DISCONNECT;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct chv_conn *conn = handle->data;
    const int wanted = wanted_events(conn);
    if (status < 0) {
        conn->events = 0; /* libuv stopped it: the error is found by the next read or write */
        events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
    } else if ((events & ~wanted) != 0) {
        conn->exact = true;
        events &= wanted;
    }
    if ((events & UV_WRITABLE) != 0 && conn->unsent.len > 0)
        chv_conn_writable(conn);
    if (key_is_out(conn) && (events & UV_DISCONNECT) != 0)
        chv_conn_lost(conn, 0);
    else if (conn->held_back && conn->duplex)
        look_for_reset(conn, events);
    else if ((events & (UV_READABLE | UV_DISCONNECT)) != 0)
        chv_conn_read(conn);
    chv_conn_settle(conn);
}

int chv_conn_attach(struct chv_conn *conn, int fd)
{
    int rc = uv_poll_init(&conn->loop->uv, &conn->handle.poll, fd);
    if (rc != 0)
        return rc;
    conn->handle.poll.data = conn;
    conn->handle_ready = true;
    conn->fd = fd;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct chv_conn *conn = handle->data;
    conn->detaching = false;
    conn->then(conn);
}

void chv_conn_detach(struct chv_conn *conn, void (*then)(struct chv_conn *conn))
{
    conn->then = then;
    if (conn->detaching)
        return;
    conn->detaching = true;
    if (!conn->handle_ready) {
        (void)uv_timer_init(&conn->loop->uv, &conn->handle.none); /* cannot fail */
        conn->handle.none.data = conn;
    }
    conn->handle_ready = false;
    conn->events = 0;
    uv_close(&conn->handle.any, on_handle_closed);
    if (conn->fd >= 0)
        (void)close(conn->fd);
    conn->fd = -1;
}

void chv_conn_connected(struct chv_conn *conn)
{
    conn->state = CHV_CONN_HANDSHAKE;
    (void)chv_conn_consume(conn, NULL, 0);
    chv_conn_read(conn);
    chv_conn_settle(conn);
}

enum chv_err chv_conn_start(struct chv_loop *loop, int fd, const char *peer, const struct chv_session_config *config,
                            const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                            struct chv_why *why)
{
    struct chv_conn *c;
    enum chv_err err = chv_conn_new(loop, peer, config, events, owner, &c, why);
    if (err != CHV_OK) {
        (void)close(fd);
        return err;
    }
    int rc = chv_conn_attach(c, fd);
    if (rc != 0) {
        err = chv_fail(why, CHV_ERR_IO, "cannot watch the socket of %s: %s", peer, uv_strerror(rc));
        chv_conn_discard(c);
        (void)close(fd);
        return err;
    }
    *conn = c;
    chv_conn_adopt(c);
    chv_conn_connected(c);
    return CHV_OK;
}

static void on_gone(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    unlink_conn(conn);
    if (loop->out_conn == conn)
        loop->out_conn = NULL;
    conn->on->closed(conn, conn->err);
    free_conn(conn);
}

void chv_conn_finish(struct chv_conn *conn, enum chv_err err)
{
    struct chv_loop *loop = conn->loop;
    if (conn->state == CHV_CONN_ENDED)
        return;
    if (conn->state != CHV_CONN_FLUSHING || conn->err == CHV_OK)
        conn->err = err;
    if (conn->write_ended && conn->err != CHV_OK)
        chv_conn_explain(conn, "connection lost: %s", strerror(conn->write_error));
    conn->state = CHV_CONN_ENDED;
    if (loop->out_conn == conn) {
        chv_wipe(loop->out + loop->out_len, CHV_LOOP_BUFFER - loop->out_len); /* bodies not sent */
        loop->out_conn = NULL;
        loop->out_len = 0;
    }
    chv_deadline_remove(conn);
    chv_held_free(&conn->partial, loop->pool);
    chv_held_free(&conn->unsent, loop->pool);
    chv_connect_cancel(conn);
    chv_conn_detach(conn, on_gone);
}

void chv_conn_abort(struct chv_conn *conn, enum chv_err err)
{
    chv_conn_finish(conn, err);
}

void chv_conn_end(struct chv_conn *conn, enum chv_err err)
{
    if (conn->state == CHV_CONN_FLUSHING || conn->state == CHV_CONN_ENDED)
        return;
    if (conn->state == CHV_CONN_CONNECTING) {
        chv_conn_finish(conn, err);
        return;
    }
    conn->err = err;
    conn->paused = conn->held_back = false;
    conn->state = CHV_CONN_FLUSHING;
    /* A server's last words (a refusal, a STATUS) must not be lost to the reset that unread bytes would cause. */
    conn->linger = conn->role == CHV_SERVER && err != CHV_OK;
    chv_held_free(&conn->partial, conn->loop->pool);
    if (!conn->busy) {
        chv_conn_flush(conn);
        chv_conn_settle(conn);
    }
}

/* What a client's user should read about the end of its handshake. */
static void explain_to_client(struct chv_conn *conn, enum chv_err err)
{
    static const struct {
        unsigned code;
        const char *text;
    } refusals[] = {
        {CHV_REFUSE_MALFORMED, "it finds the request malformed"},
        {CHV_REFUSE_TICKET, "it does not take the ticket"},
        {CHV_REFUSE_UNKNOWN_KEY, "it does not know this key"},
        {CHV_REFUSE_VERSION, "it does not serve this version, profile or suite, or is a data port only"},
        {CHV_REFUSE_RATE, "it has too many connections: try again later"},
        {CHV_REFUSE_UNAVAILABLE, "it cannot reach its keystore: try again later"},
    };
    unsigned code = chv_session_refusal(conn->session);
    const char *text = "it does not say why";
    if (err == CHV_ERR_AUTH)
        chv_conn_explain(
            conn, "the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)");
    if (err != CHV_ERR_REFUSED)
        return;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (refusals[i].code == code)
            text = refusals[i].text;
    chv_conn_explain(conn, "the server refused the connection: %u: %s", code, text);
}

void chv_conn_session_failed(struct chv_conn *conn, enum chv_err err)
{
    const uint8_t *ptr;
    size_t len;
    if (conn->role == CHV_CLIENT && conn->state == CHV_CONN_HANDSHAKE)
        explain_to_client(conn, err);
    if ((chv_session_wants(conn->session) & CHV_WANT_WRITE) != 0 &&
        chv_session_send_peek(conn->session, &ptr, &len) == CHV_OK) {
        chv_conn_push(conn, ptr, len);
        enum chv_err sent = chv_session_send_consume(conn->session, len);
        (void)sent; /* the session is over: `err` says why */
    }
    chv_conn_end(conn, err);
}

/* An end in progress: bytes out first, then, where the peer may still be sending, its end. */
static void flush_on(struct chv_conn *conn)
{
    if (conn->unsent.len > 0 && !conn->write_ended)
        return;
    if (!conn->linger || conn->read_ended || conn->write_ended) {
        chv_conn_finish(conn, conn->err == CHV_OK && conn->write_ended ? CHV_ERR_IO : conn->err);
    } else if (!conn->shut) {
        conn->shut = true;
        if (shutdown(conn->fd, SHUT_WR) != 0)
            chv_conn_finish(conn, conn->err);
    }
}

/* libuv is told of what is wanted, and of no more that it must be told of. */
static int watch(struct chv_conn *conn)
{
    const int wanted = wanted_events(conn), spare = spare_events(conn);
    if ((wanted & ~conn->events) == 0 && (conn->events & ~(wanted | spare)) == 0)
        return 0;
    const int events = wanted != 0 && conn->state == CHV_CONN_HANDSHAKE ? wanted | spare : wanted;
    int rc = events != 0 ? uv_poll_start(&conn->handle.poll, events, on_poll) : uv_poll_stop(&conn->handle.poll);
    if (rc == 0)
        conn->events = events;
    return rc;
}

void chv_conn_settle(struct chv_conn *conn)
{
    if (conn->busy)
        return;
    if (conn->state == CHV_CONN_OPEN && conn->close_sent && conn->close_received)
        conn->state = CHV_CONN_FLUSHING;
    if (conn->state == CHV_CONN_FLUSHING)
        flush_on(conn);
    else if (conn->read_ended && conn->write_ended)
        chv_conn_finish(conn, CHV_ERR_IO);
    if (conn->state == CHV_CONN_ENDED || conn->state == CHV_CONN_CONNECTING)
        return;
    const int rc = watch(conn);
    if (rc != 0) {
        chv_conn_explain(conn, "cannot watch the socket: %s", uv_strerror(rc));
        chv_conn_finish(conn, CHV_ERR_IO);
        return;
    }
    chv_deadline_update(conn);
}

void chv_conn_shutdown(struct chv_conn *conn)
{
    if (conn->close_sent || conn->state == CHV_CONN_FLUSHING || conn->state == CHV_CONN_ENDED)
        return;
    if (conn->state != CHV_CONN_OPEN) {
        chv_conn_abort(conn, CHV_ERR_CANCELLED);
        return;
    }
    enum chv_err err = chv_conn_send(conn, CHV_RECORD_CLOSE, NULL, 0);
    if (err != CHV_OK) /* CHV_ERR_STATE: before OPEN there is nothing to close */
        chv_conn_abort(conn, err == CHV_ERR_STATE ? CHV_ERR_CANCELLED : err);
    else
        chv_conn_settle(conn);
}

enum chv_err chv_conn_key_answer(struct chv_conn *conn, const uint8_t *secret)
{
    if (conn->state != CHV_CONN_HANDSHAKE || !conn->key_asked)
        return CHV_ERR_STATE;
    conn->key_asked = false;
    enum chv_err err = chv_session_key_answer(conn->session, secret);
    if (err != CHV_OK)
        chv_conn_session_failed(conn, err);
    chv_conn_resume(conn);
    return err;
}

enum chv_err chv_conn_ticket_answer(struct chv_conn *conn, const struct chv_session_ticket *ticket)
{
    if (conn->state != CHV_CONN_HANDSHAKE || !conn->key_asked)
        return CHV_ERR_STATE;
    enum chv_err err = chv_session_ticket_answer(conn->session, ticket);
    if (err == CHV_ERR_STATE || err == CHV_ERR_ARGUMENT)
        return err;
    conn->key_asked = false;
    if (err != CHV_OK)
        chv_conn_session_failed(conn, err);
    chv_conn_resume(conn);
    return err;
}

enum chv_err chv_conn_key_refuse(struct chv_conn *conn, unsigned code)
{
    if (conn->state != CHV_CONN_HANDSHAKE)
        return CHV_ERR_STATE;
    enum chv_err err = chv_session_key_refuse(conn->session, code);
    if (err == CHV_ERR_STATE || err == CHV_ERR_ARGUMENT)
        return err;
    conn->key_asked = false;
    enum chv_err ended = chv_session_error(conn->session);
    chv_conn_session_failed(conn, ended != CHV_OK ? ended : CHV_ERR_REFUSED);
    chv_conn_resume(conn);
    return CHV_OK;
}

void chv_conn_pause(struct chv_conn *conn)
{
    conn->paused = conn->state == CHV_CONN_OPEN;
}

void chv_conn_hold_back(struct chv_conn *conn)
{
    conn->held_back = conn->state == CHV_CONN_OPEN;
    conn->read_size = CHV_CONN_READ_MIN; /* who waits for a slow reader holds little memory */
}

void chv_conn_duplex(struct chv_conn *conn, bool on)
{
    const int one = 1;
    conn->duplex = on;
    if (on && conn->fd >= 0)
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one); /* a dead peer says nothing */
    chv_conn_settle(conn);
}

void chv_conn_unpause(struct chv_conn *conn)
{
    const bool records = conn->paused;
    if (!records && !conn->held_back)
        return;
    conn->paused = conn->held_back = false;
    if (conn->state == CHV_CONN_OPEN && records)
        chv_conn_resume(conn);
    else
        chv_conn_settle(conn);
}

enum chv_err chv_conn_precompute(struct chv_conn *conn)
{
    return conn->state == CHV_CONN_HANDSHAKE ? chv_session_precompute(conn->session) : CHV_ERR_STATE;
}

void chv_conn_explain(struct chv_conn *conn, const char *format, ...)
{
    if (conn->why != NULL)
        return;
    conn->why = malloc(sizeof *conn->why);
    if (conn->why == NULL)
        return; /* the code alone must do */
    va_list args;
    va_start(args, format);
    (void)vsnprintf(conn->why->text, sizeof conn->why->text, format, args);
    va_end(args);
}

const char *chv_conn_why(const struct chv_conn *conn)
{
    return conn->why != NULL ? conn->why->text : chv_session_note(conn->session);
}

void *chv_conn_owner(const struct chv_conn *conn)
{
    return conn->owner;
}

void chv_conn_set_owner(struct chv_conn *conn, void *owner)
{
    conn->owner = owner;
}

struct chv_loop *chv_conn_loop(const struct chv_conn *conn)
{
    return conn->loop;
}

uint64_t chv_conn_id(const struct chv_conn *conn)
{
    return conn->id;
}

const char *chv_conn_peer(const struct chv_conn *conn)
{
    return conn->peer;
}

struct chv_session *chv_conn_session(struct chv_conn *conn)
{
    return conn->session;
}
