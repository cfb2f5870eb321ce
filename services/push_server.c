/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service on the server's loops. File system calls block, so the work of a connection is done in batches on libuv's
 * threads, one at a time; the client's folder is watched, and looked at now and then in case that tells nothing.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/sandbox.h"
#include "net/server.h"
#include "services/push.h"
#include "services/push_session.h"

enum {
    ANSWERS_FULL = 256,
    ANSWERS_LOW = CHV_PUSH_WINDOW,
    LOOK_MS = 60000,        /* while the folder is watched */
    LOOK_BLIND_MS = 5000,   /* and while it cannot be */
    AGAIN_MS = 5 * LOOK_MS, /* until what a client refused is offered again */
};

struct push_conn {
    struct chv_conn *conn; /* NULL: it is gone */
    uv_loop_t *loop;
    uv_work_t work;
    uv_async_t wake; /* from another connection of the client */
    uv_fs_event_t event;
    uv_timer_t timer;
    unsigned handles; /* of these three, open */
    char id[CHV_CLIENT_ID_MAX + 1];
    uint64_t refused; /* uv_now when what was refused was last offered again */
    bool working, sending, ended, look;
    bool watched;                    /* anything at all: */
    unsigned watches;                /* the client's folder of this number; 0: the outbox, for one to be made */
    struct chv_push_answer *answers; /* the loop's: ANSWERS_FULL and some; NULL: none yet */
    size_t answer_count, answer_room;
    /* The thread's while it works. */
    struct chv_push_session *session;
    struct chv_push_answer *batch;
    size_t batch_count, batch_at;
    struct chv_files_out out;
    enum chv_err err;
    /* */
    size_t out_at; /* sent */
};

/* Set before the first thread, then read only; fd -1: this server pushes nothing. */
static struct chv_push_outbox outbox = {.fd = -1};
static char outbox_path[PATH_MAX];

static enum chv_err push_prepare(const struct chv_server_config *config, struct chv_why *why)
{
    const char *path = config->push.outbox;
    if (path[0] == '\0')
        return CHV_OK;
    int failed = chv_push_outbox_open(path, &outbox);
    if (failed == 0 && access(path, W_OK | X_OK) != 0)
        failed = errno;
    if (failed != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "[push] outbox: %s: %s", path, strerror(failed));
    outbox.root = false; /* what this process makes is its own */
    (void)snprintf(outbox_path, sizeof outbox_path, "%s", path);
    return chv_sandbox_folder(outbox.fd, true, why);
}

/* --- batches ------------------------------------------------------------------------------------------------------- */

static void run_batch(uv_work_t *work)
{
    struct push_conn *c = work->data;
    while (c->err == CHV_OK && c->batch_at < c->batch_count && c->out.len < CHV_FILES_OUT_FULL) {
        size_t n = c->batch_count - c->batch_at;
        n = n < CHV_PUSH_WINDOW ? n : CHV_PUSH_WINDOW;
        c->err = chv_push_session_answers(c->session, c->batch + c->batch_at, n, &c->out);
        c->batch_at += n;
    }
    if (c->err == CHV_OK && c->batch_at == c->batch_count)
        c->err = chv_push_session_more(c->session, &c->out);
}

static void go_on(struct push_conn *c);
static void end_session(struct push_conn *c);

static void batch_done(uv_work_t *work, int status)
{
    struct push_conn *c = work->data;
    (void)status; /* nothing is cancelled */
    c->working = false;
    if (c->conn == NULL)
        end_session(c);
    else
        go_on(c);
}

static void take_answers(struct push_conn *c)
{
    if (c->batch_at < c->batch_count || c->answer_count == 0)
        return;
    free(c->batch);
    c->batch = c->answers;
    c->batch_count = c->answer_count;
    c->batch_at = 0;
    c->answers = NULL;
    c->answer_count = c->answer_room = 0;
}

static void start_batch(struct push_conn *c)
{
    if (c->working || c->sending || c->ended)
        return;
    take_answers(c);
    if (c->look)
        chv_push_session_look(c->session, false);
    c->look = false;
    if (c->batch_at == c->batch_count && !chv_push_session_busy(c->session))
        return;
    c->working = true;
    (void)uv_queue_work(c->loop, &c->work, run_batch, batch_done); /* fails without a callback only */
}

/* --- new entries --------------------------------------------------------------------------------------------------- */

static void look(struct push_conn *c)
{
    c->look = true;
    start_batch(c);
}

static void on_wake(uv_async_t *wake)
{
    look(wake->data);
}

/* From any thread, until the session is freed. */
static void wake(void *arg)
{
    struct push_conn *c = arg;
    (void)uv_async_send(&c->wake);
}

/* Marks and the log change, too: only entries count, and what happens to the client's folder itself. */
static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct push_conn *c = event->data;
    uint8_t id[CHV_PUSH_ID_LEN];
    (void)events;
    if (status < 0 || name == NULL || strcmp(name, c->id) == 0 || chv_push_id_parse(name, id))
        look(c);
}

static void on_timer(uv_timer_t *timer)
{
    struct push_conn *c = timer->data;
    const uint64_t now = uv_now(c->loop);
    if (!c->working && now - c->refused >= AGAIN_MS) {
        c->refused = now;
        chv_push_session_look(c->session, true);
    }
    look(c);
}

/* What came before it was watched is looked for once more. */
static void watch(struct push_conn *c)
{
    char path[PATH_MAX];
    const unsigned wanted = chv_push_session_folder(c->session);
    if (uv_is_active((uv_handle_t *)&c->timer) && c->watches == wanted)
        return;
    int n = snprintf(path, sizeof path, "%s/%s", outbox_path, wanted != 0 ? c->id : ".");
    (void)uv_fs_event_stop(&c->event);
    c->watches = wanted;
    c->watched = n > 0 && (size_t)n < sizeof path && uv_fs_event_start(&c->event, on_event, path, 0) == 0;
    const uint64_t every = c->watched ? LOOK_MS : LOOK_BLIND_MS;
    (void)uv_timer_start(&c->timer, on_timer, every, every);
    c->look = true;
}

/* --- what they have made ------------------------------------------------------------------------------------------- */

static void fail_conn(struct push_conn *c, unsigned code, const char *text, enum chv_err err)
{
    c->ended = true;
    enum chv_err sent = chv_service_status(c->conn, code, "%s", text);
    (void)sent; /* the connection ends either way */
    chv_conn_explain(c->conn, "service push: %s", text);
    chv_conn_end(c->conn, err);
}

/* Sends until the socket is full; false: it goes on at `drained`, or never. */
static bool send_out(struct push_conn *c)
{
    bool all = false;
    if (chv_files_out_send(&c->out, &c->out_at, c->conn, &all) != CHV_OK) /* such as CHV_ERR_STATE: closed */
        c->ended = true;
    return all;
}

static void go_on(struct push_conn *c)
{
    c->sending = true;
    if (c->ended || !send_out(c))
        return;
    c->sending = false;
    if (c->err == CHV_ERR_PROTOCOL) {
        fail_conn(c, 400, "an answer that fits no entry", c->err);
        return;
    }
    if (c->err != CHV_OK) {
        fail_conn(c, 500, "the client's outbox cannot be read or written", c->err);
        return;
    }
    watch(c);
    start_batch(c);
    if (!c->working) { /* idle connections are many */
        free(c->out.buf);
        free(c->batch);
        c->out = (struct chv_files_out){.buf = NULL};
        c->batch = NULL;
        c->batch_count = c->batch_at = 0;
    }
    if (c->answer_count < ANSWERS_LOW)
        chv_conn_unpause(c->conn); /* may hand out records */
}

/* --- the service --------------------------------------------------------------------------------------------------- */

static void free_conn(struct push_conn *c)
{
    free(c->answers);
    free(c->batch);
    free(c->out.buf);
    free(c);
}

static enum chv_err start(struct push_conn *c, struct chv_conn *conn, const char *id)
{
    c->conn = conn;
    c->loop = &chv_conn_loop(conn)->uv;
    c->refused = uv_now(c->loop);
    (void)snprintf(c->id, sizeof c->id, "%s", id);
    c->work.data = c->wake.data = c->event.data = c->timer.data = c;
    if (uv_async_init(c->loop, &c->wake, on_wake) != 0)
        return CHV_ERR_IO;
    (void)uv_fs_event_init(c->loop, &c->event);
    (void)uv_timer_init(c->loop, &c->timer);
    c->handles = 3;
    return chv_push_session_new(&outbox, id, wake, c, &c->session);
}

static void handle_closed(uv_handle_t *handle)
{
    struct push_conn *c = handle->data;
    if (--c->handles == 0)
        free_conn(c);
}

static void close_handles(struct push_conn *c)
{
    uv_close((uv_handle_t *)&c->wake, handle_closed);
    uv_close((uv_handle_t *)&c->event, handle_closed);
    uv_close((uv_handle_t *)&c->timer, handle_closed);
}

static void push_closed(struct chv_conn *conn, void *state);

static enum chv_err push_open(struct chv_conn *conn, const struct chv_credential *client, const uint8_t *open_map,
                              size_t open_len, void **state)
{
    static const char none[] = "this server pushes nothing: its configuration has no [push] outbox";
    (void)open_map; /* no arguments of its own */
    (void)open_len;
    if (outbox.fd < 0) {
        enum chv_err err = chv_service_status(conn, 404, "%s", none);
        chv_conn_explain(conn, "404 %s", none);
        return err == CHV_OK ? CHV_ERR_REFUSED : err;
    }
    struct push_conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = start(c, conn, client->id);
    if (err != CHV_OK) {
        if (c->handles > 0)
            close_handles(c);
        else
            free_conn(c);
        return err;
    }
    *state = c;
    err = chv_service_status(conn, 200, "ready");
    if (err == CHV_OK)
        start_batch(c);
    else
        push_closed(conn, c); /* it has not been opened */
    return err;
}

static enum chv_err keep_answer(struct push_conn *c, const struct chv_push_answer *answer)
{
    if (c->answer_count == c->answer_room) {
        const size_t room = c->answer_room > 0 ? 2 * c->answer_room : 8;
        struct chv_push_answer *answers = realloc(c->answers, room * sizeof *answers);
        if (answers == NULL)
            return CHV_ERR_MEMORY;
        c->answers = answers;
        c->answer_room = room;
    }
    c->answers[c->answer_count++] = *answer;
    return CHV_OK;
}

static enum chv_err push_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct push_conn *c = state;
    struct chv_push_answer answer;
    if (c->ended)
        return CHV_OK;
    if (type != CHV_PUSH_ANSWER || chv_push_answer_decode(body, len, &answer) != CHV_OK) {
        enum chv_err err = chv_service_status(conn, 400, "not an answer of the service push");
        chv_conn_explain(conn, "service push: a record that is no answer");
        c->ended = true;
        return err == CHV_OK ? CHV_ERR_PROTOCOL : err;
    }
    enum chv_err err = keep_answer(c, &answer);
    if (err != CHV_OK)
        return err;
    if (c->answer_count >= ANSWERS_FULL)
        chv_conn_pause(conn);
    start_batch(c);
    return CHV_OK;
}

static void push_drained(struct chv_conn *conn, void *state)
{
    struct push_conn *c = state;
    (void)conn;
    if (c->sending && !c->working)
        go_on(c);
}

static void free_session(uv_work_t *work)
{
    struct push_conn *c = work->data;
    chv_push_session_free(c->session);
    c->session = NULL;
}

/* Nobody wakes it any more. */
static void session_freed(uv_work_t *work, int status)
{
    (void)status;
    close_handles(work->data);
}

/* It closes files: no work for the loop. */
static void end_session(struct push_conn *c)
{
    (void)uv_queue_work(c->loop, &c->work, free_session, session_freed);
}

static void push_closed(struct chv_conn *conn, void *state)
{
    struct push_conn *c = state;
    (void)conn;
    c->conn = NULL;
    c->ended = true;
    (void)uv_timer_stop(&c->timer);
    (void)uv_fs_event_stop(&c->event);
    if (!c->working)
        end_session(c);
}

const struct chv_service chv_service_push = {
    .name = "push",
    .scope = "push",
    .prepare = push_prepare,
    .open = push_open,
    .record = push_record,
    .drained = push_drained,
    .closed = push_closed,
};
