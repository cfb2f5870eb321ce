/* SPDX-License-Identifier: Apache-2.0 */
#include "services/message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/text.h"

enum {
    SHOWN_MAX = 1024,       /* bytes of a message that are printed */
    ESCAPED_MAX = 3 * 1024, /* what they may grow to: a line stays below PIPE_BUF, so that lines never mix */
    LINE_MAX_BYTES = 4096
};

static const char reply_head[] = "message received: '";
static const char reply_tail[] = "'";

struct message_server {
    const char *id;
    uint64_t total; /* bytes of the message that is coming in */
    bool begun;
    size_t shown_len;
    char *shown; /* its beginning; only while it comes in */
};

static enum chv_err server_open(struct chv_conn *conn, const struct chv_credential *client, const uint8_t *open,
                                size_t open_len, void **state)
{
    (void)open; /* no arguments of its own */
    (void)open_len;
    struct message_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return CHV_ERR_MEMORY;
    s->id = client->id;
    *state = s;
    return chv_service_status(conn, 200, "ready");
}

static void end_message(struct message_server *s)
{
    if (s->shown != NULL)
        chv_wipe(s->shown, SHOWN_MAX);
    free(s->shown);
    s->shown = NULL;
    s->shown_len = 0;
    s->total = 0;
    s->begun = false;
}

static void server_closed(struct chv_conn *conn, void *state)
{
    (void)conn;
    if (state != NULL)
        end_message(state);
    free(state);
}

static enum chv_err remember(struct message_server *s, const uint8_t *body, size_t len)
{
    s->total += len;
    size_t n = SHOWN_MAX - s->shown_len < len ? SHOWN_MAX - s->shown_len : len;
    if (n == 0)
        return CHV_OK;
    if (s->shown == NULL)
        s->shown = malloc(SHOWN_MAX);
    if (s->shown == NULL)
        return CHV_ERR_MEMORY;
    memcpy(s->shown + s->shown_len, body, n);
    s->shown_len += n;
    return CHV_OK;
}

/* One line, one write: the loops of all threads print here. */
static void print_message(const struct message_server *s)
{
    char text[ESCAPED_MAX + 1], line[LINE_MAX_BYTES];
    const char *shown = s->shown != NULL ? s->shown : "";
    size_t used = chv_text_escape(shown, s->shown_len, text, sizeof text, NULL);
    int n;
    if (used < s->total)
        n = snprintf(line, sizeof line, "client '%s': '%s'... (%" PRIu64 " bytes)\n", s->id, text, s->total);
    else
        n = snprintf(line, sizeof line, "client '%s': '%s'\n", s->id, text);
    ssize_t written;
    do
        written = write(STDOUT_FILENO, line, (size_t)n);
    while (written < 0 && errno == EINTR);
    chv_wipe(text, sizeof text);
    chv_wipe(line, sizeof line);
}

/* Sends head and body as DATA records of at most the bulk size. */
static enum chv_err send_data(struct chv_conn *conn, const char *head, const uint8_t *body, size_t len)
{
    size_t head_len = strlen(head);
    enum chv_err err = CHV_OK;
    while (err == CHV_OK && head_len + len > 0) {
        size_t cap;
        uint8_t *to = chv_conn_body(conn, &cap);
        size_t n = cap - head_len < len ? cap - head_len : len;
        memcpy(to, head, head_len);
        if (n > 0)
            memcpy(to + head_len, body, n);
        err = chv_conn_send_body(conn, CHV_RECORD_DATA, head_len + n);
        head_len = 0;
        body += n;
        len -= n;
    }
    return err;
}

static enum chv_err begin(struct chv_conn *conn, struct message_server *s, const uint8_t *body, size_t len)
{
    const char *head = s->begun ? "" : reply_head;
    s->begun = true;
    return send_data(conn, head, body, len);
}

static enum chv_err server_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct message_server *s = state;
    enum chv_err err;
    switch (type) {
    case CHV_RECORD_DATA:
        err = remember(s, body, len);
        return err == CHV_OK ? begin(conn, s, body, len) : err;
    case CHV_RECORD_END:
        if (len != 0) {
            chv_conn_explain(conn, "message service: END with a body");
            return CHV_ERR_PROTOCOL;
        }
        print_message(s);
        err = s->begun ? CHV_OK : begin(conn, s, NULL, 0);
        end_message(s);
        if (err == CHV_OK)
            err = send_data(conn, reply_tail, NULL, 0);
        return err == CHV_OK ? chv_conn_send(conn, CHV_RECORD_END, NULL, 0) : err;
    default:
        chv_conn_explain(conn, "message service: record of type %u", (unsigned)type);
        return CHV_ERR_PROTOCOL;
    }
}

const struct chv_service chv_service_message = {
    .name = "message",
    .scope = "message",
    .open = server_open,
    .record = server_record,
    .closed = server_closed,
};
