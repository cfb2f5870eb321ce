/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service on the server's loops. File system calls block, so a connection's records are worked off in batches on
 * libuv's threads, one thread for a connection at a time; the client is held back while too much of it waits.
 * A thread that has done its batch takes what has come meanwhile: two wake-ups less, and each may take long on a busy
 * machine.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/control.h"
#include "net/sandbox.h"
#include "net/server.h"
#include "net/server_receipt.h"
#include "services/files.h"
#include "services/files_queue.h"
#include "services/files_session.h"

enum {
    QUEUE_FULL = 1 << 20,
    QUEUE_LOW = QUEUE_FULL / 2,
    BATCH_MOST = 8 << 20,   /* bytes worked off before others get the thread */
    WORKING_MS = 3000,      /* without a record: the client is told that it is worked on */
    SWEEP_SECONDS = 86400,  /* between two looks for old parts, at most */
    SWEEP_ALONE_SECONDS = 2 /* that one goes on when nobody is here: the server may want to end */
};

struct files_conn {
    struct chv_conn *conn; /* NULL: it is gone */
    uv_loop_t *loop;
    uv_work_t work;
    bool working, sending, ended;
    uv_mutex_t lock;                   /* of these: */
    struct chv_files_queue waiting;    /* put there by the loop */
    bool held_back;                    /* until some of it was taken; then the thread sends `room` */
    uv_async_t room;                   /* */
    bool has_room;                     /* `room` is open */
    struct chv_files_queue batch;      /* the thread's while it works; so are these: */
    struct chv_files_session *session; /* */
    struct chv_files_out out;
    enum chv_err err;
    size_t out_at;                      /* sent */
    struct chv_server_receipt *receipt; /* asked for: `working` until it is there; NULL: none */
    uv_timer_t timer;                   /* runs while there is work, and once more */
    bool spoke;                         /* since it fired */
};

/* Set before the first thread, then read only; fd -1: this server has no files. */
static struct chv_files_root files_root = {.fd = -1};

/* --- before it serves ---------------------------------------------------------------------------------------------- */

static enum chv_err prepare_share(const struct chv_server_share *from, struct chv_why *why)
{
    struct chv_files_share *share = &files_root.shares[files_root.share_count];
    int fd = open(from->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "[share \"%s\"] path: %s: %s", from->name, from->path, strerror(errno));
    share->home = chv_files_home_shared(fd);
    if (share->home == NULL) {
        (void)close(fd);
        return chv_fail(why, CHV_ERR_MEMORY, "[share \"%s\"]: no memory", from->name);
    }
    memcpy(share->name, from->name, sizeof share->name);
    memcpy(share->scope, from->scope, sizeof share->scope);
    share->write = from->write;
    files_root.share_count++;
    return chv_sandbox_folder(fd, from->write, why);
}

static enum chv_err files_prepare(const struct chv_server_config *config, struct chv_why *why)
{
    const struct chv_server_files *files = &config->files;
    if (files->home[0] == '\0')
        return CHV_OK;
    /* O_RDONLY: openat2 beneath it needs no more, and what cannot be read is better told now. */
    int fd = open(files->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "[files] home: %s: %s", files->home, strerror(errno));
    files_root = (struct chv_files_root){.fd = fd,
                                         .max_size = files->max_size,
                                         .quota = files->quota,
                                         .part_keep = files->part_keep,
                                         .durability = files->durability,
                                         .receipts = files->receipts};
    enum chv_err err = chv_sandbox_folder(fd, true, why);
    for (size_t i = 0; i < files->share_count && err == CHV_OK; i++)
        err = prepare_share(&files->shares[i], why);
    return err;
}

/* --- parts that nobody goes on with -------------------------------------------------------------------------------- */

static atomic_uint connections;

static struct {
    uv_work_t work;
    atomic_bool running;
    atomic_uint_fast64_t next, alone; /* uv_hrtime: when it is due, when the last connection ended */
} sweep;

static bool sweep_stops(void)
{
    return atomic_load(&connections) == 0 &&
           uv_hrtime() - atomic_load(&sweep.alone) > SWEEP_ALONE_SECONDS * UINT64_C(1000000000);
}

static void run_sweep(uv_work_t *work)
{
    uint64_t seconds = files_root.part_keep < SWEEP_SECONDS ? files_root.part_keep : SWEEP_SECONDS;
    (void)work;
    if (chv_files_sweep(&files_root, sweep_stops))
        atomic_store(&sweep.next, uv_hrtime() + (seconds > 0 ? seconds : 1) * UINT64_C(1000000000));
}

static void sweep_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
    atomic_store(&sweep.running, false);
}

/* A client has come: are there old parts? On a thread for files; nobody waits for it. */
static void start_sweep(uv_loop_t *loop)
{
    bool running = false;
    if (uv_hrtime() < atomic_load(&sweep.next) || !atomic_compare_exchange_strong(&sweep.running, &running, true))
        return;
    if (uv_queue_work(loop, &sweep.work, run_sweep, sweep_done) != 0)
        atomic_store(&sweep.running, false);
}

/* --- batches ------------------------------------------------------------------------------------------------------- */

static void free_conn(struct files_conn *c)
{
    chv_files_queue_free(&c->waiting);
    chv_files_queue_free(&c->batch);
    uv_mutex_destroy(&c->lock);
    free(c->out.buf);
    free(c);
}

/* All that waits is the next batch. */
static void take_waiting(struct files_conn *c)
{
    uv_mutex_lock(&c->lock);
    if (c->waiting.first != NULL)
        chv_files_queue_turn(&c->batch, &c->waiting);
    if (c->held_back)
        (void)uv_async_send(&c->room);
    c->held_back = false;
    uv_mutex_unlock(&c->lock);
}

static bool next_record(struct files_conn *c, size_t done, uint8_t *type, const uint8_t **body, size_t *len)
{
    if (c->batch.first == NULL && done < BATCH_MOST)
        take_waiting(c);
    return done < BATCH_MOST && chv_files_queue_take(&c->batch, type, body, len);
}

static void run_batch(uv_work_t *work)
{
    struct files_conn *c = work->data;
    bool more = true;
    size_t done = 0;
    uint8_t type;
    const uint8_t *body;
    size_t len;
    while (c->err == CHV_OK && more && c->out.len < CHV_FILES_OUT_FULL &&
           !chv_files_session_wants_receipt(c->session)) {
        if (chv_files_session_streams(c->session)) {
            c->err = chv_files_session_more(c->session, &c->out);
            more = c->out.len > 0 || !chv_files_session_streams(c->session); /* else a step of something long */
        } else if (next_record(c, done, &type, &body, &len)) {
            done += len;
            c->err = chv_files_session_record(c->session, type, body, len, &c->out);
        } else {
            more = false;
        }
    }
    if (c->err == CHV_OK)
        c->err = chv_files_session_rest(c->session, &c->out);
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

/* What is worked on takes long: the client is told that it is not forgotten. Nothing is: its memory goes back. */
static void on_timer(uv_timer_t *timer)
{
    struct files_conn *c = timer->data;
    struct chv_files_answer answer = {.code = CHV_FILES_WORKING};
    uint8_t map[CHV_CONTROL_MAX];
    size_t len = sizeof map;
    if (c->conn == NULL || c->ended || !c->working) { /* idle connections are many */
        (void)uv_timer_stop(timer);
        if (!c->working) {
            chv_files_queue_trim(&c->waiting);
            chv_files_queue_trim(&c->batch);
        }
        return;
    }
    const bool spoke = c->spoke;
    c->spoke = false;
    if (spoke || !chv_files_session_due(c->session, &answer.id))
        return;
    enum chv_err err = chv_files_answer_encode(&answer, map, &len);
    if (err == CHV_OK)
        err = chv_conn_send(c->conn, CHV_FILES_ANSWER, map, len);
    (void)err; /* the answer itself will find that out, too */
}

static void start_batch(struct files_conn *c)
{
    if (c->working || c->sending || c->ended)
        return;
    if (c->batch.first == NULL)
        take_waiting(c);
    if (c->batch.first == NULL && !chv_files_session_streams(c->session))
        return;
    c->working = true;
    if (!uv_is_active((const uv_handle_t *)&c->timer))
        (void)uv_timer_start(&c->timer, on_timer, WORKING_MS, WORKING_MS);
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
    const bool some = c->out.len > 0;
    bool all = false;
    if (chv_files_out_send(&c->out, &c->out_at, c->conn, &all) != CHV_OK) /* such as CHV_ERR_STATE: closed */
        c->ended = true;
    if (!all)
        return false;
    c->spoke = c->spoke || some;
    chv_files_session_told(c->session);
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
    if (!c->working) {
        free(c->out.buf);
        c->out = (struct chv_files_out){.buf = NULL};
    }
    uv_mutex_lock(&c->lock);
    const bool low = c->waiting.bytes < QUEUE_LOW;
    uv_mutex_unlock(&c->lock);
    if (low)
        chv_conn_unpause(c->conn);
}

/* --- the service --------------------------------------------------------------------------------------------------- */

static void files_closed(struct chv_conn *conn, void *state);

static uint32_t visible_shares(const struct chv_credential *client)
{
    uint32_t shares = 0;
    for (size_t i = 0; i < files_root.share_count; i++) {
        const char *scope = files_root.shares[i].scope;
        if (scope[0] == '\0' || chv_credential_has_scope(client, scope))
            shares |= UINT32_C(1) << i;
    }
    return shares;
}

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
    err = chv_files_session_new(&files_root, client->id, write, visible_shares(client), &c->session);
    if (err == CHV_OK && uv_mutex_init(&c->lock) != 0)
        err = CHV_ERR_MEMORY;
    if (err != CHV_OK) {
        chv_files_session_free(c->session);
        free(c);
        return err;
    }
    c->conn = conn;
    c->loop = &chv_conn_loop(conn)->uv;
    c->work.data = c;
    (void)uv_timer_init(c->loop, &c->timer); /* cannot fail */
    c->timer.data = c;
    atomic_fetch_add(&connections, 1);
    start_sweep(c->loop);
    *state = c;
    err = chv_service_status(conn, 200, "ready");
    if (err != CHV_OK)
        files_closed(conn, c); /* it has not been opened */
    return err;
}

static void on_room(uv_async_t *room)
{
    struct files_conn *c = room->data;
    if (c->conn != NULL)
        chv_conn_unpause(c->conn);
}

/* The lock is held. */
static enum chv_err hold_back(struct files_conn *c)
{
    if (!c->has_room && uv_async_init(c->loop, &c->room, on_room) != 0)
        return CHV_ERR_MEMORY;
    c->room.data = c;
    c->has_room = true;
    c->held_back = true;
    chv_conn_hold_back(c->conn);
    return CHV_OK;
}

static enum chv_err files_record(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len)
{
    struct files_conn *c = state;
    (void)conn;
    if (c->ended)
        return CHV_OK;
    uv_mutex_lock(&c->lock);
    enum chv_err err = chv_files_queue_add(&c->waiting, type, body, len);
    if (err == CHV_OK && c->waiting.bytes > QUEUE_FULL)
        err = hold_back(c);
    uv_mutex_unlock(&c->lock);
    if (err == CHV_OK)
        start_batch(c);
    return err;
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

static void room_closed(uv_handle_t *room)
{
    free_conn(room->data);
}

static void timer_closed(uv_handle_t *timer)
{
    struct files_conn *c = timer->data;
    if (c->has_room)
        uv_close((uv_handle_t *)&c->room, room_closed);
    else
        free_conn(c);
}

static void session_freed(uv_work_t *work, int status)
{
    struct files_conn *c = work->data;
    (void)status;
    uv_close((uv_handle_t *)&c->timer, timer_closed);
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
    atomic_store(&sweep.alone, uv_hrtime());
    atomic_fetch_sub(&connections, 1);
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
