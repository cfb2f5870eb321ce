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

/* Sends bytes as DATA records of at most the bulk size, behind `head` in the first. */
static enum chv_err send_data(struct chv_conn *conn, const struct chv_part *head, const uint8_t *body, size_t len)
{
    size_t before = head->len;
    enum chv_err err = CHV_OK;
    while (err == CHV_OK && before + len > 0) {
        size_t cap;
        uint8_t *to = chv_conn_body(conn, &cap);
        size_t n = cap - before < len ? cap - before : len;
        if (before > 0)
            memcpy(to, head->ptr, before);
        if (n > 0)
            memcpy(to + before, body, n);
        err = chv_conn_send_body(conn, CHV_RECORD_DATA, before + n);
        before = 0;
        body += n;
        len -= n;
    }
    return err;
}

/* Part of the reply, with its beginning where that is still due. */
static enum chv_err answer(struct chv_conn *conn, struct message_server *s, const uint8_t *body, size_t len)
{
    static const char text[] = "message received: '";
    const struct chv_part head = {.ptr = text, .len = s->begun ? 0 : sizeof text - 1};
    s->begun = true;
    return send_data(conn, &head, body, len);
}

static enum chv_err finish_answer(struct chv_conn *conn, struct message_server *s)
{
    enum chv_err err = answer(conn, s, (const uint8_t *)"'", 1);
    return err == CHV_OK ? chv_conn_send(conn, CHV_RECORD_END, NULL, 0) : err;
}

static enum chv_err server_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct message_server *s = state;
    enum chv_err err;
    switch (type) {
    case CHV_RECORD_DATA:
        err = remember(s, body, len);
        return err == CHV_OK ? answer(conn, s, body, len) : err;
    case CHV_RECORD_END:
        if (len != 0) {
            chv_conn_explain(conn, "message service: END with a body");
            return CHV_ERR_PROTOCOL;
        }
        print_message(s);
        err = finish_answer(conn, s);
        end_message(s);
        return err;
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
