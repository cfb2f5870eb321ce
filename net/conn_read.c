/* SPDX-License-Identifier: Apache-2.0 */
/* The way in: reads into the loop's buffer, frames opened in place; only part of a frame is ever kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "net/conn_internal.h"

enum { PING_BODY_MAX = 64 };

/* The room of the handshake goes back as soon as it is over: thousands of connections are idle. */
static void give_handshake_back(struct chv_conn *conn)
{
    struct chv_session *old = conn->session;
    void *memory = malloc(chv_session_open_size(old));
    if (memory == NULL)
        return;
    struct chv_session *moved = chv_session_move(old, memory);
    if (moved == NULL) {
        free(memory);
        return;
    }
    conn->session = moved;
    conn->has_room = false;
    chv_loop_give_room(conn->loop, old);
}

/* One turn of the handshake without input: bytes out, the next question. False when the owner must act, or it is over.
 */
static bool handshake_turn(struct chv_conn *conn)
{
    struct chv_session *session = conn->session;
    unsigned wants = chv_session_wants(session);
    if ((wants & CHV_WANT_WRITE) != 0) {
        const uint8_t *ptr;
        size_t len;
        enum chv_err err = chv_session_send_peek(session, &ptr, &len);
        if (err == CHV_OK) {
            chv_conn_push(conn, ptr, len);
            err = chv_session_send_consume(session, len);
        }
        if (err != CHV_OK)
            chv_conn_session_failed(conn, err);
        return true;
    }
    if ((wants & CHV_WANT_KEY) != 0 && !conn->key_asked) {
        struct chv_key_request request;
        enum chv_err err = chv_session_key_request(session, &request);
        if (err != CHV_OK) {
            chv_conn_session_failed(conn, err);
        } else {
            conn->key_asked = true;
            conn->on->key(conn, &request);
        }
        return true;
    }
    if ((wants & CHV_WANT_OPEN) != 0) {
        conn->state = CHV_CONN_OPEN;
        give_handshake_back(conn);
        if (conn->on->established != NULL)
            conn->on->established(conn);
        return true;
    }
    if ((wants & CHV_WANT_CLOSED) != 0) {
        enum chv_err err = chv_session_error(session);
        chv_conn_session_failed(conn, err != CHV_OK ? err : CHV_ERR_PROTOCOL);
        return true;
    }
    return false;
}

static size_t handshake_input(struct chv_conn *conn, const uint8_t *buf, size_t len)
{
    size_t used = 0;
    if (len == 0 || (chv_session_wants(conn->session) & CHV_WANT_READ) == 0)
        return 0;
    enum chv_err err = chv_session_recv(conn->session, buf, len, &used);
    if (err != CHV_OK)
        chv_conn_session_failed(conn, err);
    return used;
}

/* What the driver itself does with a record, before its owner sees it. */
static enum chv_err own_part(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len)
{
    if (type == CHV_RECORD_CLOSE)
        conn->close_received = true;
    if (type != CHV_RECORD_PING)
        return CHV_OK;
    if (len > PING_BODY_MAX) {
        chv_conn_explain(conn, "PING of %zu bytes, %d are allowed", len, PING_BODY_MAX);
        return CHV_ERR_PROTOCOL;
    }
    if (conn->close_sent)
        return CHV_OK;
    conn->pongs = conn->unsent.len > 0 ? conn->pongs + len + CHV_RECORD_HEAD + CHV_RECORD_TAIL : 0;
    return chv_conn_send(conn, CHV_RECORD_PONG, body, len);
}

/* One frame of exactly `len` bytes. */
static void open_frame(struct chv_conn *conn, uint8_t *frame, size_t len)
{
    uint8_t type;
    const uint8_t *body;
    size_t body_len;
    enum chv_err err = chv_session_open(conn->session, frame, len, &type, &body, &body_len);
    if (err != CHV_OK) {
        chv_conn_session_failed(conn, err);
        return;
    }
    conn->fresh_record = true;
    conn->first_record = true;
    err = own_part(conn, type, body, body_len);
    if (err == CHV_OK && conn->state == CHV_CONN_OPEN) {
        conn->handed = true;
        err = conn->on->record(conn, type, body, body_len);
    }
    if (err != CHV_OK)
        chv_conn_end(conn, err);
}

/* The length of the frame at buf, 0 if it is not known yet, or impossible: then the connection ends. */
static size_t frame_length(struct chv_conn *conn, const uint8_t *buf, size_t len)
{
    size_t frame = 0;
    enum chv_err err = chv_session_frame(conn->session, buf, len, &frame);
    if (err != CHV_OK)
        chv_conn_session_failed(conn, err);
    return err == CHV_OK ? frame : 0;
}

/* Until more bytes or the owner are needed. */
static size_t consume_on(struct chv_conn *conn, uint8_t *buf, size_t len)
{
    size_t used = 0;
    bool go = true;
    while (go) {
        if (conn->state == CHV_CONN_HANDSHAKE) {
            go = handshake_turn(conn);
            if (!go) {
                size_t n = handshake_input(conn, buf + used, len - used);
                used += n;
                go = n > 0;
            }
        } else if (conn->paused) {
            go = false;
        } else if (conn->state == CHV_CONN_OPEN) {
            size_t frame = frame_length(conn, buf + used, len - used);
            go = frame > 0 && frame <= len - used;
            if (go) {
                open_frame(conn, buf + used, frame);
                used += frame;
            } else {
                go = conn->state != CHV_CONN_OPEN;
            }
        } else {
            used = len; /* over: nobody wants the rest */
            go = false;
        }
    }
    return used;
}

size_t chv_conn_consume(struct chv_conn *conn, uint8_t *buf, size_t len)
{
    conn->busy = true;
    chv_conn_cork(conn);
    size_t used = consume_on(conn, buf, len);
    while (conn->handed) {
        conn->handed = false;
        if (conn->on->batch == NULL)
            break;
        conn->on->batch(conn);
        used += consume_on(conn, buf + used, len - used); /* it may have let a paused one go on */
    }
    conn->busy = false;
    chv_conn_uncork(conn);
    return used;
}

/* Keeps what is left of a read until the rest of its frame comes. */
static void hold(struct chv_conn *conn, const uint8_t *data, size_t len)
{
    if (len == 0 || (conn->state != CHV_CONN_HANDSHAKE && conn->state != CHV_CONN_OPEN))
        return;
    if (chv_held_append(&conn->partial, conn->loop->pool, data, len) != CHV_OK) {
        chv_conn_explain(conn, "no memory for part of a record: the limit of %zu bytes for slow peers is reached",
                         conn->loop->pool->limit);
        chv_conn_finish(conn, CHV_ERR_MEMORY);
    }
}

void chv_conn_resume(struct chv_conn *conn)
{
    if (conn->busy)
        return; /* the loop up the stack goes on */
    struct chv_held held = conn->partial;
    conn->partial = (struct chv_held){.buf = NULL};
    size_t used = chv_conn_consume(conn, held.buf == NULL ? NULL : held.buf + held.start, held.len);
    const bool goes_on = conn->state == CHV_CONN_HANDSHAKE || conn->state == CHV_CONN_OPEN;
    if (goes_on && held.len - used > held.cap / 2) { /* who pauses at each record has no copy made each time */
        chv_wipe(held.buf + held.start, used);
        held.start += used;
        held.len -= used;
        conn->partial = held;
    } else {
        if (used < held.len)
            hold(conn, held.buf + held.start + used, held.len - used);
        chv_held_free(&held, conn->loop->pool);
    }
    chv_conn_settle(conn);
}

void chv_conn_lost(struct chv_conn *conn, int error)
{
    bool partial = conn->partial.len > 0;
    conn->read_ended = true;
    if (conn->state == CHV_CONN_FLUSHING)
        return;
    if (error != 0)
        chv_conn_explain(conn, "connection lost: %s", strerror(error));
    enum chv_err err = chv_session_eof(conn->session, partial);
    if (err != CHV_OK) {
        chv_conn_finish(conn, err);
    } else if (error != 0) {
        chv_conn_finish(conn, conn->close_sent ? CHV_OK : CHV_ERR_IO);
    }
}

/* At the end of the peer's refused bytes the socket can be closed without a reset. */
static void throw_away(struct chv_conn *conn, size_t len)
{
    conn->lingered += len;
    if (conn->lingered > CHV_CONN_LINGER_BYTES)
        chv_conn_finish(conn, conn->err);
}

/*
 * `have` bytes at loop->in, the last `got` of them new; if there is a partial frame, the place of the ones before is
 * still to be filled with it. Returns what is left of them.
 */
static size_t take(struct chv_conn *conn, size_t have, size_t got)
{
    uint8_t *in = conn->loop->in;
    size_t old = conn->partial.len;
    if (old > 0) {
        size_t frame = 0;
        if (conn->state == CHV_CONN_OPEN)
            frame = frame_length(conn, conn->partial.buf + conn->partial.start, old);
        if (conn->partial.len != old)
            return 0; /* the session had failed meanwhile: the end has freed it */
        if (have < frame) {
            hold(conn, in + old, got); /* not worth the copy: a peer may send byte by byte */
            return 0;
        }
        memcpy(in, conn->partial.buf + conn->partial.start, old);
        chv_held_free(&conn->partial, conn->loop->pool);
    }
    size_t used = chv_conn_consume(conn, in, have);
    if (used > 0 && used < have)
        memmove(in, in + used, have - used);
    return have - used;
}

static bool may_read(const struct chv_conn *conn)
{
    if (conn->read_ended || conn->paused || conn->held_back || chv_conn_backed_up(conn))
        return false;
    switch (conn->state) {
    case CHV_CONN_HANDSHAKE:
        return (chv_session_wants(conn->session) & CHV_WANT_READ) != 0;
    case CHV_CONN_OPEN:
    case CHV_CONN_FLUSHING:
        return true;
    default:
        return false;
    }
}

/* Who has not proven anything gives little at a time: also what comes ahead of the handshake is then little. */
static size_t read_size(const struct chv_conn *conn, size_t have, size_t turn)
{
    size_t size = conn->first_record ? conn->read_size : CHV_FIRST_FRAME_MAX;
    if (size > turn)
        size = turn;
    if (conn->duplex)
        size = chv_pool_share(conn->loop->pool, size);
    return size < CHV_LOOP_BUFFER - have ? size : CHV_LOOP_BUFFER - have;
}

/* Reads until a short read, the limit of one wake-up, or back-pressure. Returns the most bytes that the buffer held. */
static size_t read_turns(struct chv_conn *conn)
{
    uint8_t *in = conn->loop->in;
    const size_t turn = chv_loop_turn(conn->loop);
    size_t have = 0, most = 0, sum = 0;
    for (int i = 0; i < CHV_LOOP_READS && sum < turn && may_read(conn); i++) {
        size_t before = conn->partial.len > 0 ? conn->partial.len : have;
        size_t size = read_size(conn, before, turn);
        ssize_t n = recv(conn->fd, in + before, size, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n <= 0) {
            int error = n < 0 ? errno : 0;
            hold(conn, in, conn->partial.len > 0 ? 0 : have);
            have = 0;
            if (conn->state != CHV_CONN_ENDED)
                chv_conn_lost(conn, error);
            break;
        }
        size_t got = (size_t)n;
        sum += got;
        most = before + got > most ? before + got : most;
        if (conn->state == CHV_CONN_FLUSHING)
            throw_away(conn, got);
        else
            have = take(conn, before + got, got);
        if (got < size)
            break;
        if (conn->read_size < (conn->duplex ? (size_t)CHV_LOOP_BUFFER : (size_t)CHV_CONN_BULK_MAX))
            conn->read_size *= 2;
    }
    hold(conn, in, have);
    return most;
}

void chv_conn_read(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    if (loop->in_conn != NULL)
        return;
    loop->in_conn = conn;
    size_t most = read_turns(conn);
    chv_wipe(loop->in, most);
    loop->in_conn = NULL;
}
