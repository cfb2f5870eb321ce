/* SPDX-License-Identifier: Apache-2.0 */
/* The way out: records are sealed in the loop's buffer and written from there; only what the socket refuses is kept. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "net/conn_internal.h"

enum { FRAME_EXTRA = CHV_RECORD_HEAD + CHV_RECORD_TAIL };

/* The socket takes no more. What the peer sent before it went (a refusal) may still be there to read. */
static void write_failed(struct chv_conn *conn, int error)
{
    conn->write_error = error; /* said at the end, unless something better is read before */
    conn->write_ended = true;
    chv_held_free(&conn->unsent, conn->loop->pool);
}

/* Writes what the socket takes now. */
static size_t write_some(struct chv_conn *conn, const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = send(conn->fd, data + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            write_failed(conn, errno);
            break;
        }
    }
    return done;
}

void chv_conn_push(struct chv_conn *conn, const uint8_t *data, size_t len)
{
    if (conn->state == CHV_CONN_ENDED || conn->write_ended || len == 0)
        return;
    size_t done = conn->unsent.len == 0 ? write_some(conn, data, len) : 0;
    if (conn->write_ended || done == len)
        return;
    if (chv_held_append(&conn->unsent, conn->loop->pool, data + done, len - done) != CHV_OK) {
        chv_conn_explain(conn, "no memory for unsent bytes: the limit of %zu bytes for slow peers is reached",
                         conn->loop->pool->limit);
        chv_conn_finish(conn, CHV_ERR_MEMORY);
        return;
    }
    conn->waited = true;
    if (!conn->duplex)
        conn->read_size = CHV_CONN_READ_MIN; /* a slow peer holds little memory */
}

void chv_conn_flush(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    if (loop->out_conn != conn)
        return;
    size_t len = loop->out_len;
    loop->out_conn = NULL;
    loop->out_len = 0;
    chv_conn_push(conn, loop->out, len);
}

void chv_conn_writable(struct chv_conn *conn)
{
    struct chv_held *unsent = &conn->unsent;
    size_t done = write_some(conn, unsent->buf + unsent->start, unsent->len);
    if (conn->write_ended)
        return;
    unsent->start += done;
    unsent->len -= done;
    conn->moved += done;
    if (unsent->len > 0)
        return;
    chv_held_free(unsent, conn->loop->pool);
    if (conn->waited && conn->state == CHV_CONN_OPEN && conn->on->drained != NULL) {
        conn->waited = false;
        chv_conn_cork(conn);
        conn->on->drained(conn);
        chv_conn_uncork(conn);
    }
}

void chv_conn_cork(struct chv_conn *conn)
{
    conn->corks++;
}

void chv_conn_uncork(struct chv_conn *conn)
{
    conn->corks--;
    if (conn->corks > 0)
        return;
    chv_conn_flush(conn);
    chv_conn_settle(conn);
}

/* Makes the buffer this connection's, with room for one record of the longest kind at least. */
static uint8_t *claim(struct chv_conn *conn)
{
    struct chv_loop *loop = conn->loop;
    struct chv_conn *other = loop->out_conn;
    const size_t cap = conn->duplex ? (size_t)CHV_LOOP_BUFFER : (size_t)CHV_CONN_BULK_MAX;
    if (other != NULL && other != conn) {
        chv_conn_flush(other);
        chv_conn_settle(other);
    } else if (loop->out_len + CHV_RECORD_BULK_BODY + FRAME_EXTRA > cap) {
        chv_conn_flush(conn);
    }
    loop->out_conn = conn;
    return loop->out + loop->out_len + CHV_RECORD_HEAD;
}

uint8_t *chv_conn_body(struct chv_conn *conn, size_t *cap)
{
    *cap = CHV_RECORD_BULK_BODY;
    return claim(conn);
}

size_t chv_conn_slots(struct chv_conn *conn, struct iovec *slots, size_t max)
{
    uint8_t *body = claim(conn);
    size_t count = (CHV_LOOP_BUFFER - conn->loop->out_len) / (CHV_RECORD_BULK_BODY + FRAME_EXTRA);
    if (count > max)
        count = max;
    for (size_t i = 0; i < count; i++, body += CHV_RECORD_BULK_BODY + FRAME_EXTRA)
        slots[i] = (struct iovec){.iov_base = body, .iov_len = CHV_RECORD_BULK_BODY};
    return count;
}

/* Seals the body that stands behind what waits in the buffer. */
static enum chv_err seal_next(struct chv_conn *conn, uint8_t type, size_t len)
{
    struct chv_loop *loop = conn->loop;
    size_t frame_len;
    if (conn->state != CHV_CONN_OPEN || conn->close_sent)
        return CHV_ERR_STATE;
    if (conn->write_ended)
        return CHV_ERR_IO;
    enum chv_err err = chv_session_seal(conn->session, type, loop->out + loop->out_len, len, &frame_len);
    if (err != CHV_OK)
        return err;
    loop->out_len += frame_len;
    conn->fresh_record = true;
    if (type == CHV_RECORD_CLOSE)
        conn->close_sent = true;
    return CHV_OK;
}

/* `room`: bytes behind the sealed ones where plaintext may have stayed. */
static void done_sealing(struct chv_conn *conn, enum chv_err err, size_t room)
{
    struct chv_loop *loop = conn->loop;
    if (err != CHV_OK)
        chv_wipe(loop->out + loop->out_len, room);
    if (loop->out_len == 0) {
        loop->out_conn = NULL;
    } else if (err == CHV_OK && conn->corks == 0) {
        chv_conn_flush(conn);
        chv_conn_settle(conn);
    }
}

enum chv_err chv_conn_send_body(struct chv_conn *conn, uint8_t type, size_t len)
{
    struct chv_loop *loop = conn->loop;
    if (loop->out_conn != conn || len > CHV_RECORD_BULK_BODY || len + FRAME_EXTRA > CHV_LOOP_BUFFER - loop->out_len)
        return CHV_ERR_STATE; /* not after chv_conn_body */
    enum chv_err err = seal_next(conn, type, len);
    done_sealing(conn, err, len + FRAME_EXTRA);
    return err;
}

/* Bytes in the buffer that so many of bodies take as records. */
static size_t sealed_size(size_t total)
{
    return total + (total + CHV_RECORD_BULK_BODY - 1) / CHV_RECORD_BULK_BODY * FRAME_EXTRA;
}

enum chv_err chv_conn_send_slots(struct chv_conn *conn, uint8_t type, size_t total)
{
    struct chv_loop *loop = conn->loop;
    enum chv_err err = CHV_OK;
    if (loop->out_conn != conn || total > CHV_LOOP_BUFFER || sealed_size(total) > CHV_LOOP_BUFFER - loop->out_len)
        return CHV_ERR_STATE; /* not after chv_conn_slots */
    while (total > 0 && err == CHV_OK) {
        const size_t n = total < CHV_RECORD_BULK_BODY ? total : CHV_RECORD_BULK_BODY;
        err = seal_next(conn, type, n);
        if (err == CHV_OK)
            total -= n;
    }
    done_sealing(conn, err, sealed_size(total));
    return err;
}

enum chv_err chv_conn_send(struct chv_conn *conn, uint8_t type, const void *body, size_t len)
{
    size_t cap;
    if (len > CHV_RECORD_BULK_BODY)
        return CHV_ERR_ARGUMENT;
    if (conn->state != CHV_CONN_OPEN)
        return CHV_ERR_STATE;
    uint8_t *to = chv_conn_body(conn, &cap);
    if (len > 0)
        memcpy(to, body, len);
    return chv_conn_send_body(conn, type, len);
}

size_t chv_conn_unsent(const struct chv_conn *conn)
{
    return conn->unsent.len;
}
