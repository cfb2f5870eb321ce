/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service on the server's loops. File system calls block, so a connection's records are worked off in batches on
 * libuv's threads, one batch of a connection at a time; the client is held back while too much of it waits.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "net/sandbox.h"
#include "net/server.h"
#include "net/server_receipt.h"
#include "services/files.h"
#include "services/files_session.h"

enum { QUEUE_FULL = 1 << 20, QUEUE_LOW = QUEUE_FULL / 2 };

struct item {
    struct item *next;
    size_t len;
    uint8_t type;
    uint8_t body[];
};

struct queue {
    struct item *first, **end;
    size_t bytes; /* with the items' own */
};

struct files_conn {
    struct chv_conn *conn; /* NULL: it is gone */
    uv_loop_t *loop;
    uv_work_t work;
    bool working, sending, ended;
    struct queue waiting;              /* the loop's */
    struct queue batch;                /* the thread's while it works; so are these: */
    struct chv_files_session *session; /* */
    struct chv_files_out out;
    enum chv_err err;
    size_t out_at;                      /* sent */
    struct chv_server_receipt *receipt; /* asked for: `working` until it is there; NULL: none */
};

/* Set before the first thread, then read only; fd -1: this server has no files. */
static struct chv_files_root files_root = {.fd = -1};

/* --- before it serves ---------------------------------------------------------------------------------------------- */

static enum chv_err files_prepare(const struct chv_server_config *config, struct chv_why *why)
{
    if (config->files.home[0] == '\0')
        return CHV_OK;
    /* O_RDONLY: openat2 beneath it needs no more, and what cannot be read is better told now. */
    int fd = open(config->files.home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "[files] home: %s: %s", config->files.home, strerror(errno));
    files_root = (struct chv_files_root){.fd = fd,
                                         .max_size = config->files.max_size,
                                         .quota = config->files.quota,
                                         .fsync = config->files.durability != CHV_DURABILITY_NONE,
                                         .receipts = config->files.receipts};
    return chv_sandbox_folder(fd, true, why);
}

/* --- batches ------------------------------------------------------------------------------------------------------- */

static void queue_init(struct queue *q)
{
    *q = (struct queue){.first = NULL};
    q->end = &q->first;
}

static void drop_first(struct queue *q)
{
    struct item *item = q->first;
    q->first = item->next;
    if (q->first == NULL)
        q->end = &q->first;
    q->bytes -= sizeof *item + item->len;
    chv_wipe(item->body, item->len);
    free(item);
}

/* All of `from`, into an empty one. */
static void queue_move(struct queue *to, struct queue *from)
{
    if (from->first == NULL)
        return;
    to->first = from->first;
    to->end = from->end;
    to->bytes = from->bytes;
    queue_init(from);
}

static void free_conn(struct files_conn *c)
{
    while (c->waiting.first != NULL)
        drop_first(&c->waiting);
    while (c->batch.first != NULL)
        drop_first(&c->batch);
    free(c->out.buf);
    free(c);
}

static void run_batch(uv_work_t *work)
{
    struct files_conn *c = work->data;
    bool more = true;
    while (c->err == CHV_OK && more && c->out.len < CHV_FILES_OUT_FULL &&
           !chv_files_session_wants_receipt(c->session)) {
        if (chv_files_session_streams(c->session)) {
            c->err = chv_files_session_more(c->session, &c->out);
            more = c->out.len > 0 || !chv_files_session_streams(c->session); /* else a step of something long */
        } else if (c->batch.first != NULL) {
            const struct item *item = c->batch.first;
            c->err = chv_files_session_record(c->session, item->type, item->body, item->len, &c->out);
            drop_first(&c->batch);
        } else {
            more = false;
        }
    }
}

static void go_on(struct files_conn *c);
static void end_session(struct files_conn *c);

static void on_receipt(void *arg, const char *why, const struct chv_server_receipt *receipt)
{
    struct files_conn *c = arg;
    c->err =
        chv_files_session_receipt(c->session, why, receipt->text, receipt->signature, receipt->signature_len, &c->out);
    free(c->receipt);
    c->receipt = NULL;
    c->working = false;
    go_on(c);
}

static void ask_receipt(struct files_conn *c)
{
    c->receipt = calloc(1, sizeof *c->receipt);
    if (c->receipt == NULL) {
        c->err = CHV_ERR_MEMORY;
        c->working = false;
        go_on(c);
        return;
    }
    chv_files_session_claim(c->session, &c->receipt->receipt);
    c->receipt->done = on_receipt;
    c->receipt->arg = c;
    chv_server_receipt_ask(c->receipt, c->conn);
}

static void batch_done(uv_work_t *work, int status)
{
    struct files_conn *c = work->data;
    (void)status; /* nothing is cancelled */
    if (c->conn != NULL && !c->ended && c->err == CHV_OK && chv_files_session_wants_receipt(c->session)) {
        ask_receipt(c);
        return;
    }
    c->working = false;
    if (c->conn == NULL)
        end_session(c);
    else
        go_on(c);
}

static void start_batch(struct files_conn *c)
{
    if (c->working || c->sending || c->ended ||
        (c->waiting.first == NULL && c->batch.first == NULL && !chv_files_session_streams(c->session)))
        return;
    if (c->batch.first == NULL)
        queue_move(&c->batch, &c->waiting);
    c->working = true;
    (void)uv_queue_work(c->loop, &c->work, run_batch, batch_done); /* fails without a callback only */
}

/* --- what they have made ------------------------------------------------------------------------------------------- */

static void fail_conn(struct files_conn *c, enum chv_err err)
{
    c->ended = true;
    if (err == CHV_ERR_MALFORMED || err == CHV_ERR_PROTOCOL) {
        const char *text = err == CHV_ERR_MALFORMED ? "not a request of the service files" : "a record that is not due";
        enum chv_err sent = chv_service_status(c->conn, 400, "%s", text);
        (void)sent; /* the connection ends either way */
        chv_conn_explain(c->conn, "service files: %s", text);
    }
    chv_conn_end(c->conn, err);
}

/* Sends until the socket is full; false: it goes on at `drained`, or never. */
static bool send_out(struct files_conn *c)
{
    uint8_t type;
    const uint8_t *body;
    size_t len;
    enum chv_err err = CHV_OK;
    chv_conn_cork(c->conn);
    while (err == CHV_OK && chv_conn_unsent(c->conn) == 0 &&
           chv_files_out_next(&c->out, &c->out_at, &type, &body, &len))
        err = chv_conn_send(c->conn, type, body, len);
    chv_conn_uncork(c->conn);
    if (err != CHV_OK) { /* such as CHV_ERR_STATE: this direction is closed */
        c->ended = true;
        return false;
    }
    if (c->out_at < c->out.len)
        return false;
    chv_wipe(c->out.buf, c->out.len);
    c->out.len = c->out_at = 0;
    return true;
}

static void go_on(struct files_conn *c)
{
    c->sending = true;
    if (c->ended || !send_out(c))
        return;
    c->sending = false;
    if (c->err != CHV_OK) {
        fail_conn(c, c->err);
        return;
    }
    start_batch(c);
    if (!c->working) { /* idle connections are many */
        free(c->out.buf);
        c->out = (struct chv_files_out){.buf = NULL};
    }
    if (c->waiting.bytes < QUEUE_LOW)
        chv_conn_unpause(c->conn); /* may hand out records */
}

/* --- the service --------------------------------------------------------------------------------------------------- */

static enum chv_err files_open(struct chv_conn *conn, const struct chv_credential *client, const uint8_t *open_map,
                               size_t open_len, void **state)
{
    (void)open_map; /* no arguments of its own */
    (void)open_len;
    const bool write = chv_credential_has_scope(client, "files:rw");
    const char *refused = !write && !chv_credential_has_scope(client, "files:ro")
                              ? "403 this client has no scope 'files:ro' or 'files:rw'"
                          : files_root.fd < 0 ? "404 this server has no files: its configuration has no [files] home"
                                              : NULL;
    enum chv_err err = CHV_OK;
    if (refused != NULL) {
        err = chv_service_status(conn, refused[2] == '3' ? 403 : 404, "%s", refused + strlen("403 "));
        chv_conn_explain(conn, "%s", refused);
        return err == CHV_OK ? CHV_ERR_REFUSED : err;
    }
    struct files_conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        return CHV_ERR_MEMORY;
    err = chv_files_session_new(&files_root, client->id, write, &c->session);
    if (err != CHV_OK) {
        free(c);
        return err;
    }
    c->conn = conn;
    c->loop = &chv_conn_loop(conn)->uv;
    c->work.data = c;
    queue_init(&c->waiting);
    queue_init(&c->batch);
    *state = c;
    return chv_service_status(conn, 200, "ready");
}

static enum chv_err files_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct files_conn *c = state;
    if (c->ended)
        return CHV_OK;
    struct item *item = malloc(sizeof *item + len);
    if (item == NULL)
        return CHV_ERR_MEMORY;
    item->next = NULL;
    item->type = type;
    item->len = len;
    if (len > 0)
        memcpy(item->body, body, len);
    *c->waiting.end = item;
    c->waiting.end = &item->next;
    c->waiting.bytes += sizeof *item + len;
    if (c->waiting.bytes > QUEUE_FULL)
        chv_conn_pause(conn);
    start_batch(c);
    return CHV_OK;
}

static void files_drained(struct chv_conn *conn, void *state)
{
    struct files_conn *c = state;
    (void)conn;
    if (c->sending && !c->working)
        go_on(c);
}

static void free_session(uv_work_t *work)
{
    struct files_conn *c = work->data;
    chv_files_session_free(c->session);
    c->session = NULL;
}

static void session_freed(uv_work_t *work, int status)
{
    (void)status;
    free_conn(work->data);
}

/* It removes what is unfinished: no work for the loop. */
static void end_session(struct files_conn *c)
{
    (void)uv_queue_work(c->loop, &c->work, free_session, session_freed);
}

static void files_closed(struct chv_conn *conn, void *state)
{
    struct files_conn *c = state;
    (void)conn;
    c->conn = NULL;
    c->ended = true;
    if (c->receipt != NULL) {
        chv_server_receipt_cancel(c->receipt);
        free(c->receipt);
        c->receipt = NULL;
        c->working = false;
    }
    if (!c->working)
        end_session(c);
}

const struct chv_service chv_service_files = {
    .name = "files",
    .prepare = files_prepare,
    .open = files_open,
    .record = files_record,
    .drained = files_drained,
    .closed = files_closed,
};
