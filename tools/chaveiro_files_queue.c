/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of operations on one connection. */
#include "tools/chaveiro_files.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

enum { LINE_SIZE = 1600, PING_SECONDS = 5 };

static const uint64_t second = 1000000000;

/* --- operations ---------------------------------------------------------------------------------------------------- */

void *chaveiro_op_new(struct chaveiro_files *files, const struct chaveiro_op_class *class, size_t size)
{
    struct chaveiro_op *op = calloc(1, size);
    if (op == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more operations");
        return NULL;
    }
    op->class = class;
    op->files = files;
    return op;
}

static void free_op(struct chaveiro_op *op)
{
    if (op->class->free != NULL)
        op->class->free(op);
    free(op);
}

/* Frees it if nobody waits for it any more. */
static void settle(const struct chaveiro_files *files, struct chaveiro_op *op)
{
    if (!op->asked && !op->queued && files->worker != op)
        free_op(op);
}

void chaveiro_op_queue(struct chaveiro_op *op)
{
    struct chaveiro_files *files = op->files;
    struct chaveiro_op **place = files->insert != NULL ? files->insert : files->todo_end;
    op->queued = true;
    op->next = *place;
    *place = op;
    if (op->next == NULL)
        files->todo_end = &op->next;
    if (files->insert != NULL)
        files->insert = &op->next;
}

void chaveiro_ops_first(struct chaveiro_files *files)
{
    files->insert = &files->todo;
}

void chaveiro_ops_done(struct chaveiro_files *files)
{
    files->insert = NULL;
}

void chaveiro_op_again(struct chaveiro_op *op)
{
    chaveiro_ops_first(op->files);
    chaveiro_op_queue(op);
    chaveiro_ops_done(op->files);
}

/* A connection that cannot take more says why when it ends; other errors are told here. */
static void broken(struct chaveiro_files *files, enum chv_err err)
{
    if (err != CHV_ERR_IO && err != CHV_ERR_STATE)
        chaveiro_fail_why(files->link, err, NULL);
}

void chaveiro_op_ask(struct chaveiro_op *op, struct chv_files_request *request)
{
    struct chaveiro_files *files = op->files;
    enum chv_err err = chv_files_client_ask(&files->client, request);
    if (err != CHV_OK)
        broken(files, err);
    /* Also if it failed: it is freed with the others once the connection is over. */
    op->asked = true;
    op->next = NULL;
    *files->sent_end = op;
    files->sent_end = &op->next;
}

void chaveiro_op_work(struct chaveiro_op *op)
{
    op->files->worker = op;
    op->files->waiting = false;
}

void chaveiro_op_rest(struct chaveiro_op *op)
{
    op->files->worker = NULL;
    op->files->waiting = false;
}

void chaveiro_op_wait(struct chaveiro_op *op, bool wait)
{
    op->files->worker = op;
    op->files->waiting = wait;
}

/* Nothing is owed to anybody any more. */
static void drop_all(struct chaveiro_files *files)
{
    struct chaveiro_op *worker = files->worker;
    files->worker = NULL;
    if (worker != NULL && !worker->asked && !worker->queued)
        free_op(worker);
    for (int i = 0; i < 2; i++) {
        struct chaveiro_op **list = i == 0 ? &files->sent : &files->todo;
        while (*list != NULL) {
            struct chaveiro_op *op = *list;
            *list = op->next;
            free_op(op);
        }
    }
    files->sent_end = &files->sent;
    files->todo_end = &files->todo;
    files->insert = NULL;
    files->waiting = false;
}

/* --- the connection ------------------------------------------------------------------------------------------------ */

/* One more step of what is to be done; false: nothing can be done now. */
static bool step(struct chaveiro_files *files)
{
    struct chaveiro_op *op = files->worker;
    if (op != NULL && files->waiting)
        return false;
    if (op != NULL) {
        op->class->work(op);
        settle(files, op);
        return true;
    }
    op = files->todo;
    if (op == NULL || files->client.asked - files->client.answered >= CHAVEIRO_OUTSTANDING)
        return false;
    files->todo = op->next;
    if (files->todo == NULL)
        files->todo_end = &files->todo;
    op->queued = false;
    op->next = NULL;
    op->class->begin(op);
    settle(files, op);
    return true;
}

/* Work without a word for long would have the server end the connection. */
static void keep_alive(struct chaveiro_files *files)
{
    const uint64_t now = uv_hrtime();
    if (files->pinged != 0 && now - files->pinged < (uint64_t)PING_SECONDS * second)
        return;
    if (files->pinged != 0) {
        enum chv_err err = chv_message_ping(files->link->message);
        (void)err; /* one that is not answered yet serves as well */
    }
    files->pinged = now;
}

static void on_idle(uv_idle_t *idle)
{
    struct chaveiro_files *files = idle->data;
    struct chaveiro_link *link = files->link;
    struct chv_conn *conn = files->client.conn;
    bool more = true;
    chv_conn_cork(conn);
    for (int i = 0; i < CHAVEIRO_RECORDS && more && !link->failed && chv_conn_unsent(conn) == 0; i++)
        more = step(files);
    chv_conn_uncork(conn);
    if (link->failed) {
        (void)uv_idle_stop(idle);
        return;
    }
    const bool waits = chv_files_client_waits(&files->client);
    chaveiro_due(link, waits);
    if (!waits && files->worker != NULL)
        keep_alive(files);
    if (!waits && files->worker == NULL && files->todo == NULL) {
        files->done = true;
        more = false;
    }
    if (!more || chv_conn_unsent(conn) > 0)
        (void)uv_idle_stop(idle);
}

static void kick(struct chaveiro_files *files)
{
    if (files->running)
        (void)uv_idle_start(&files->idle, on_idle);
}

static void on_answer(void *arg, const struct chv_files_answer *answer)
{
    struct chaveiro_files *files = arg;
    struct chaveiro_op *op = files->sent;
    const bool last = answer->code != CHV_FILES_CONTINUE && answer->code != 206;
    if (last) {
        files->sent = op->next;
        if (files->sent == NULL)
            files->sent_end = &files->sent;
        op->asked = false;
        op->next = NULL;
    }
    op->class->answer(op, answer);
    if (last)
        settle(files, op);
    kick(files);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct chaveiro_files *files = arg;
    struct chaveiro_op *op = files->sent;
    if (op->class->data != NULL && !files->link->failed)
        op->class->data(op, data, len);
}

static void on_end(void *arg, const uint8_t *digest)
{
    struct chaveiro_files *files = arg;
    struct chaveiro_op *op = files->sent;
    if (op->class->end != NULL)
        op->class->end(op, digest);
}

static const struct chv_files_events files_events = {.answer = on_answer, .data = on_data, .end = on_end};

static void link_ready(struct chaveiro_link *link)
{
    struct chaveiro_files *files = link->state;
    chv_files_client_init(&files->client, chv_message_conn(link->message), &files_events, files);
    files->connected = true;
}

static enum chv_err link_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    struct chaveiro_files *files = link->state;
    return chv_files_client_record(&files->client, type, body, len);
}

static void link_drained(struct chaveiro_link *link)
{
    kick(link->state);
}

static void link_over(struct chaveiro_link *link)
{
    struct chaveiro_files *files = link->state;
    files->connected = false;
    (void)uv_idle_stop(&files->idle);
    chaveiro_progress_clear(&files->progress);
    if (files->prompting && !link->failed)
        (void)fputs("\r\033[K", stderr); /* the line that is being typed; it is drawn again */
}

static const struct chaveiro_job files_job = {
    .ready = link_ready, .record = link_record, .drained = link_drained, .over = link_over};

static void on_signal(uv_signal_t *handle, int number)
{
    struct chaveiro_files *files = handle->data;
    files->signal = number;
    if (files->shell && !files->running)
        return; /* it looks */
    chaveiro_progress_clear(&files->progress);
    chaveiro_files_abort(files);
}

static void open_handles(struct chaveiro_files *files)
{
    static const int numbers[CHAVEIRO_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    uv_loop_t *loop = &files->link->loop.uv;
    (void)uv_idle_init(loop, &files->idle);
    files->idle.data = files;
    for (size_t i = 0; i < CHAVEIRO_SIGNALS; i++) {
        (void)uv_signal_init(loop, &files->signals[i]);
        files->signals[i].data = files;
        (void)uv_signal_start(&files->signals[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&files->signals[i]);
    }
    files->has_handles = true;
}

void chaveiro_files_init(struct chaveiro_files *files, const struct chv_cli_args *args)
{
    memset(files, 0, sizeof *files);
    files->args = args;
    files->json = chv_cli_given(args, "json");
    files->verbose = chv_cli_given(args, "verbose");
    files->todo_end = &files->todo;
    files->sent_end = &files->sent;
    files->umask = umask(077);
    (void)umask(files->umask);
}

bool chaveiro_files_connect(struct chaveiro_files *files)
{
    struct chv_why why = {""};
    if (files->connected)
        return true;
    if (files->link == NULL) {
        enum chv_err err = chaveiro_open(files->args, &files->link, &why);
        if (err != CHV_OK) {
            files->link = NULL;
            files->code = chv_cli_why(err, &why);
            return false;
        }
        if (files->shell)
            chaveiro_keep_tickets(files->link, CHV_TICKET_STORE_WANTED);
        files->link->job = &files_job;
        files->link->state = files;
        open_handles(files);
    }
    const int code = chaveiro_link_connect(files->link);
    if (code != EX_OK)
        files->code = code;
    return code == EX_OK;
}

bool chaveiro_files_run(struct chaveiro_files *files)
{
    if (files->todo == NULL)
        return true;
    files->running = true;
    bool finished = chaveiro_files_connect(files);
    if (finished) {
        files->done = false;
        files->pinged = 0;
        kick(files);
        chaveiro_link_wait(files->link, &files->done);
        finished = files->done;
        if (!finished && (files->code == EX_OK || files->signal != 0))
            files->code = files->link->code;
    }
    files->running = false;
    drop_all(files);
    return finished;
}

void chaveiro_files_abort(struct chaveiro_files *files)
{
    if (files->link != NULL && !files->link->over)
        chaveiro_interrupt(files->link, files->signal);
}

int chaveiro_files_close(struct chaveiro_files *files, int code)
{
    const bool never = false;
    drop_all(files);
    if (files->link == NULL)
        return code;
    if (files->connected) {
        chaveiro_finish(files->link);
        chaveiro_link_wait(files->link, &never);
    }
    if (code == EX_OK && !files->shell)
        code = files->link->code;
    if (files->has_handles) {
        uv_close((uv_handle_t *)&files->idle, NULL);
        for (size_t i = 0; i < CHAVEIRO_SIGNALS; i++)
            uv_close((uv_handle_t *)&files->signals[i], NULL);
    }
    chaveiro_close(files->link);
    files->link = NULL;
    return code;
}

/* --- failures ------------------------------------------------------------------------------------------------------ */

void chaveiro_files_reset(struct chaveiro_files *files)
{
    files->code = EX_OK;
    files->failures = 0;
    files->signal = 0;
}

void chaveiro_files_fail(struct chaveiro_files *files, int code, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    chaveiro_progress_clear(&files->progress);
    chaveiro_files_code(files, chv_cli_fail(code, "%s", text));
}

void chaveiro_files_code(struct chaveiro_files *files, int code)
{
    if (code == EX_OK)
        return;
    if (files->code == EX_OK)
        files->code = code;
    files->failures++;
}

void chaveiro_files_tell(struct chaveiro_files *files, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    chaveiro_progress_clear(&files->progress);
    (void)chv_cli_fail(EX_OK, "%s", text);
}

static int exit_of(unsigned code)
{
    switch (code) {
    case 403:
        return EX_NOPERM;
    case 404:
        return EX_NOINPUT;
    case 409:
    case 413:
    case 507:
        return EX_CANTCREAT;
    case 500:
    case 501:
    case 503:
        return EX_UNAVAILABLE;
    default:
        return EX_DATAERR;
    }
}

void chaveiro_files_failed(struct chaveiro_files *files, const struct chv_files_answer *answer)
{
    chaveiro_files_fail(files, exit_of(answer->code), "%s: %s (%u)", answer->path[0] != '\0' ? answer->path : "/",
                        answer->text, answer->code);
}
