/* SPDX-License-Identifier: Apache-2.0 */
/* What is said in a session of the message service, and of others: its client side. message_connect.c makes the session. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/text.h"
#include "services/message_internal.h"

void chv_message_forget_source(struct chv_message *m)
{
    m->read = NULL;
    m->waiting = false;
    chv_input_close(m->input);
    m->input = NULL;
    if (m->copy != NULL)
        chv_wipe(m->copy, m->copy_size);
    free(m->copy);
    m->copy = NULL;
    m->data = NULL;
    m->data_len = 0;
}

/* Sends what the source gives until the socket is full. The source's error comes out in *source. */
static void send_records(struct chv_message *m, enum chv_err *source)
{
    enum chv_err sent = CHV_OK;
    while (sent == CHV_OK && m->read != NULL && chv_conn_unsent(m->conn) == 0) {
        size_t len;
        uint8_t *body = chv_conn_body(m->conn, &len);
        *source = m->read(m->read_arg, body, &len);
        if (*source != CHV_OK)
            return;
        /* A socket that takes no more ends the connection from its reading side: what the server said last comes first.
         */
        sent = chv_conn_send_body(m->conn, len > 0 ? CHV_RECORD_DATA : CHV_RECORD_END, len);
        if (len == 0)
            chv_message_forget_source(m);
    }
}

void chv_message_send_on(struct chv_message *m)
{
    enum chv_err source = CHV_OK;
    if (m->pumping || m->read == NULL)
        return;
    m->pumping = true;
    chv_conn_cork(m->conn);
    send_records(m, &source);
    m->pumping = false;
    m->waiting = source == CHV_ERR_BUSY;
    if (source != CHV_OK && source != CHV_ERR_BUSY)
        chv_conn_abort(m->conn, source);
    chv_conn_uncork(m->conn);
    if (m->read == NULL && m->on->sent != NULL)
        m->on->sent(m);
}

static enum chv_err start_message(struct chv_message *m, chv_message_read_fn read, void *arg)
{
    if (!m->ready || m->closing || m->read != NULL)
        return CHV_ERR_STATE;
    m->read = read;
    m->read_arg = arg;
    m->begun++;
    return CHV_OK;
}

static enum chv_err read_memory(void *arg, uint8_t *buf, size_t *len)
{
    struct chv_message *m = arg;
    if (m->data_len < *len)
        *len = m->data_len;
    if (*len > 0)
        memcpy(buf, m->data, *len);
    m->data += *len;
    m->data_len -= *len;
    return CHV_OK;
}

enum chv_err chv_message_send(struct chv_message *message, const void *data, size_t len)
{
    enum chv_err err = start_message(message, read_memory, message);
    if (err != CHV_OK)
        return err;
    message->data = len > 0 ? data : (const uint8_t *)"";
    message->data_len = len;
    chv_message_send_on(message);
    if (message->read != read_memory || message->data_len == 0)
        return CHV_OK; /* another message may have been started in `sent` */
    if (message->copy != NULL)
        return CHV_OK;
    message->copy = malloc(message->data_len);
    if (message->copy == NULL) {
        chv_conn_abort(message->conn, CHV_ERR_MEMORY);
        return CHV_ERR_MEMORY;
    }
    memcpy(message->copy, message->data, message->data_len);
    message->copy_size = message->data_len;
    message->data = message->copy;
    return CHV_OK;
}

enum chv_err chv_message_send_from(struct chv_message *message, chv_message_read_fn read, void *arg)
{
    enum chv_err err = start_message(message, read, arg);
    if (err == CHV_OK)
        chv_message_send_on(message);
    return err;
}

static void on_input(void *arg)
{
    struct chv_message *m = arg;
    m->fd_ready = true;
    chv_input_pause(m->input);
    chv_message_send_on(m);
}

/* One read(2) for each time that the descriptor is ready. */
static enum chv_err read_fd(void *arg, uint8_t *buf, size_t *len)
{
    struct chv_message *m = arg;
    if (!m->fd_ready) {
        chv_input_resume(m->input);
        return CHV_ERR_BUSY;
    }
    m->fd_ready = false;
    ssize_t n = read(m->fd, buf, *len);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        chv_input_resume(m->input);
        return CHV_ERR_BUSY;
    }
    if (n < 0) {
        chv_conn_explain(m->conn, "cannot read the message: %s", strerror(errno));
        return CHV_ERR_CANCELLED;
    }
    *len = (size_t)n;
    return CHV_OK;
}

enum chv_err chv_message_send_fd(struct chv_message *message, int fd, struct chv_why *why)
{
    if (!message->ready || message->closing || message->read != NULL)
        return chv_fail(why, CHV_ERR_STATE,
                        "a message can be sent when the connection is ready and the last one has left");
    enum chv_err err = chv_input_open(chv_conn_loop(message->conn), fd, on_input, message, &message->input, why);
    if (err != CHV_OK)
        return err;
    message->fd = fd;
    message->fd_ready = false;
    return chv_message_send_from(message, read_fd, message);
}

void chv_message_resume(struct chv_message *message)
{
    if (message->read != NULL && message->waiting)
        chv_message_send_on(message);
}

enum chv_err chv_message_ping(struct chv_message *message)
{
    if (!message->ready || message->closing || message->ping_time != 0)
        return CHV_ERR_STATE;
    uint64_t now = uv_hrtime();
    memcpy(message->ping_body, &now, CHV_MESSAGE_PING); /* opaque to the server */
    message->ping_time = now;
    return chv_conn_send(message->conn, CHV_RECORD_PING, message->ping_body, CHV_MESSAGE_PING);
}

static enum chv_err got_pong(struct chv_message *m, const uint8_t *body, size_t len)
{
    if (len == 0 && m->on->service != NULL)
        return CHV_OK; /* of a ping of its own, which nobody waits for */
    if (m->ping_time == 0 || len != CHV_MESSAGE_PING || memcmp(body, m->ping_body, CHV_MESSAGE_PING) != 0) {
        chv_conn_explain(m->conn, "the server answered a ping that was not sent");
        return CHV_ERR_PROTOCOL;
    }
    uint64_t microseconds = (uv_hrtime() - m->ping_time) / 1000;
    m->ping_time = 0;
    if (m->on->pong != NULL)
        m->on->pong(m, microseconds);
    return CHV_OK;
}

static enum chv_err got_status(struct chv_message *m, const uint8_t *body, size_t len)
{
    char text[CHV_STATUS_TEXT_MAX + 1];
    enum chv_err err = chv_status_decode(body, len, &m->status);
    if (err != CHV_OK) {
        chv_conn_explain(m->conn, "the server sent a malformed STATUS");
        return err;
    }
    size_t text_len;
    (void)chv_text_escape(m->status.text, strlen(m->status.text), text, sizeof text, &text_len);
    memcpy(m->status.text, text, text_len + 1);
    if (m->status.code >= 300) {
        chv_conn_explain(m->conn, "the server refused: %u: %s", m->status.code, m->status.text);
        return CHV_ERR_REFUSED;
    }
    if (m->status.code == 200 && !m->ready) {
        m->ready = true;
        m->on->ready(m);
    }
    return CHV_OK;
}

static enum chv_err got_close(struct chv_message *m)
{
    if (m->begun > m->answered) {
        chv_conn_explain(m->conn, "the server closed before its reply was complete");
        return CHV_ERR_TRUNCATED;
    }
    if (!m->closing)
        chv_conn_explain(m->conn, "the server closed the connection");
    chv_conn_shutdown(m->conn);
    return CHV_OK;
}

static enum chv_err got_update(struct chv_message *m, const uint8_t *body, size_t len)
{
    m->updated = true;
    if (m->on->update == NULL || !m->on->update(m, body, len))
        return CHV_OK;
    enum chv_err err = chv_conn_send(m->conn, CHV_RECORD_KEY_UPDATED, "", 0);
    return err == CHV_ERR_STATE ? CHV_OK : err; /* this direction is closed already: it is for information only */
}

enum chv_err chv_message_record(struct chv_message *m, uint8_t type, const uint8_t *body, size_t len)
{
    bool due = m->begun > m->answered;
    if (m->on->service != NULL && m->ready &&
        (type == CHV_RECORD_DATA || type == CHV_RECORD_END || type >= CHV_RECORD_SERVICE))
        return m->on->record(m, type, body, len);
    switch (type) {
    case CHV_RECORD_STATUS:
        return got_status(m, body, len);
    case CHV_RECORD_PING:
        return CHV_OK;
    case CHV_RECORD_PONG:
        return got_pong(m, body, len);
    case CHV_RECORD_KEY_UPDATE:
        if (!m->updated && !m->data_side) /* it may come before a REDIRECT, so also before STATUS */
            return got_update(m, body, len);
        break;
    case CHV_RECORD_TICKET:
        return chv_message_got_ticket(m, body, len);
    case CHV_RECORD_REDIRECT:
        if (!m->ready && m->status.code == 0)
            return chv_message_got_redirect(m, body, len);
        break;
    case CHV_RECORD_CLOSE:
        return got_close(m);
    case CHV_RECORD_DATA:
        if (due) {
            m->on->reply(m, body, len);
            return CHV_OK;
        }
        break;
    case CHV_RECORD_END:
        if (due) {
            m->answered++;
            m->on->reply_end(m);
            return CHV_OK;
        }
        break;
    default:
        break;
    }
    chv_conn_explain(m->conn, "the server sent a record of type %u that is not due", (unsigned)type);
    return CHV_ERR_PROTOCOL;
}

void *chv_message_owner(const struct chv_message *message)
{
    return message->owner;
}

struct chv_conn *chv_message_conn(struct chv_message *message)
{
    return message->conn;
}

const char *chv_message_greeting(const struct chv_message *message)
{
    return message->status.text;
}

unsigned chv_message_status(const struct chv_message *message)
{
    return message->status.code;
}

void chv_message_close(struct chv_message *message)
{
    bool unfinished = message->read != NULL;
    if (message->closing)
        return;
    message->closing = true;
    chv_message_forget_source(message);
    if (unfinished) {
        chv_conn_explain(message->conn, "closed in the middle of a message");
        chv_conn_abort(message->conn, CHV_ERR_CANCELLED);
    } else {
        chv_conn_shutdown(message->conn);
    }
}

void chv_message_abort(struct chv_message *message)
{
    message->aborted = true;
    chv_message_forget_source(message);
    chv_conn_abort(message->conn, CHV_ERR_CANCELLED);
}
