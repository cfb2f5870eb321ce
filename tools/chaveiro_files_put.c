/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro put: one file to the server. */
#include "tools/chaveiro_files.h"
#include "tools/chaveiro_receipt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { RECORDS_AT_ONCE = 8 };

struct put_job {
    struct chaveiro_link *link;
    struct chv_files_client client;
    struct chv_files_request request;
    const char *local;
    int fd;
    struct stat before;
    uint64_t sent;
    bool sending, idle_open;
    uv_idle_t idle; /* the next records, behind what has come meanwhile */
    struct chv_files_digest *digest;
    uint8_t sum[CHV_FILES_DIGEST_LEN];
    struct chaveiro_progress progress;
    struct chaveiro_receipts receipts;
};

static bool unchanged(const struct put_job *job)
{
    struct stat now;
    return fstat(job->fd, &now) == 0 && now.st_size == job->before.st_size &&
           now.st_mtim.tv_sec == job->before.st_mtim.tv_sec && now.st_mtim.tv_nsec == job->before.st_mtim.tv_nsec;
}

static void stop_sending(struct put_job *job)
{
    job->sending = false;
    (void)uv_idle_stop(&job->idle);
}

/* The end of the stream; `why`: of a file that cannot be sent, in words. */
static enum chv_err end(struct put_job *job, const char *why)
{
    stop_sending(job);
    if (why == NULL && !unchanged(job))
        why = "the file changed while it was read: try again";
    if (why == NULL && chv_files_digest_finish(job->digest, job->sum) != CHV_OK)
        why = "its SHA-256 cannot be computed";
    if (why == NULL)
        return chv_files_client_end(&job->client, job->sum);
    chaveiro_progress_end(&job->progress);
    int code = chv_cli_fail(EX_IOERR, "%s: %s", job->local, why);
    if (job->link->code == EX_OK)
        job->link->code = code;
    return chv_files_client_end(&job->client, NULL);
}

static enum chv_err send_record(struct put_job *job)
{
    size_t cap;
    const uint64_t left = job->request.size - job->sent;
    if (left == 0)
        return end(job, NULL);
    uint8_t *body = chv_conn_body(job->client.conn, &cap);
    ssize_t n;
    do
        n = pread(job->fd, body, left < cap ? (size_t)left : cap, (off_t)job->sent);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return end(job, n < 0 ? strerror(errno) : "the file shrank while it was read: try again");
    enum chv_err err = chv_files_digest_add(job->digest, body, (size_t)n);
    if (err == CHV_OK)
        err = chv_conn_send_body(job->client.conn, CHV_RECORD_DATA, (size_t)n);
    job->sent += (uint64_t)n;
    return err;
}

static void on_idle(uv_idle_t *idle)
{
    struct put_job *job = idle->data;
    struct chv_conn *conn = job->client.conn;
    enum chv_err err = CHV_OK;
    chv_conn_cork(conn);
    for (int i = 0; i < RECORDS_AT_ONCE && err == CHV_OK && job->sending && chv_conn_unsent(conn) == 0; i++)
        err = send_record(job);
    chv_conn_uncork(conn);
    chaveiro_due(job->link, true);
    chaveiro_progress_to(&job->progress, job->sent);
    /* A socket that takes no more ends the connection from its reading side. */
    if (err != CHV_OK || chv_conn_unsent(conn) > 0)
        (void)uv_idle_stop(idle);
}

static void on_answer(void *arg, const struct chv_files_answer *answer)
{
    struct put_job *job = arg;
    struct chaveiro_link *link = job->link;
    chaveiro_progress_end(&job->progress);
    if (answer->code >= 300) {
        if (link->code == EX_OK) /* else it was said already: the client gave up */
            chaveiro_files_failed(link, answer);
        if (job->sending) {
            stop_sending(job);
            enum chv_err err = chv_files_client_end(&job->client, NULL);
            (void)err; /* the connection ends either way */
        }
    } else if (job->sending || !answer->has_digest || memcmp(answer->digest, job->sum, sizeof job->sum) != 0) {
        chaveiro_fail(link, EX_PROTOCOL, "%s: the server confirms another file than was sent", job->request.path);
        return;
    } else {
        const int code =
            chaveiro_receipts_take(&job->receipts, link, job->request.path, job->request.size, job->sum, answer);
        if (link->code == EX_OK)
            link->code = code;
        chaveiro_files_summary(link, "put", job->request.path, job->local, job->request.size, job->progress.started,
                               job->sum);
    }
    chaveiro_finish(link);
}

/* The server's answer to a put has no stream: chv_files_client_record sees to it that neither is called. */
static void on_data(void *arg, const uint8_t *data, size_t len)
{
    (void)arg;
    (void)data;
    (void)len;
}

static void on_end(void *arg, const uint8_t *digest)
{
    (void)arg;
    (void)digest;
}

static const struct chv_files_events put_events = {.answer = on_answer, .data = on_data, .end = on_end};

static void put_ready(struct chaveiro_link *link)
{
    struct put_job *job = link->state;
    job->link = link;
    const int code = chaveiro_receipts_plan(&job->receipts, link, job->request.path);
    if (code != EX_OK) {
        link->code = code;
        chaveiro_finish(link);
        return;
    }
    chv_files_client_init(&job->client, chv_message_conn(link->message), &put_events, job);
    chaveiro_progress_begin(&job->progress, link->args, chv_files_path_name(job->request.path), job->request.size);
    (void)uv_idle_init(&link->loop.uv, &job->idle);
    job->idle.data = job;
    job->idle_open = true;
    enum chv_err err = chv_files_client_ask(&job->client, &job->request);
    if (err != CHV_OK) {
        chaveiro_fail_why(link, err, NULL);
        return;
    }
    job->sending = true;
    chaveiro_due(link, true);
    (void)uv_idle_start(&job->idle, on_idle);
}

static enum chv_err put_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    struct put_job *job = link->state;
    return chv_files_client_record(&job->client, type, body, len);
}

static void put_drained(struct chaveiro_link *link)
{
    struct put_job *job = link->state;
    if (job->sending)
        (void)uv_idle_start(&job->idle, on_idle);
}

static void put_over(struct chaveiro_link *link)
{
    struct put_job *job = link->state;
    chaveiro_progress_end(&job->progress);
    if (job->idle_open)
        uv_close((uv_handle_t *)&job->idle, NULL);
    job->idle_open = false;
}

static const struct chaveiro_job put_job = {
    .ready = put_ready, .record = put_record, .drained = put_drained, .over = put_over};

/* EX_OK, or an exit code after one line. */
static int put_open(struct put_job *job)
{
    const int fd = open(job->local, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return chv_cli_fail(EX_NOINPUT, "%s: %s", job->local, strerror(errno));
    job->fd = fd;
    if (fstat(fd, &job->before) != 0)
        return chv_cli_fail(EX_IOERR, "%s: %s", job->local, strerror(errno));
    if (!S_ISREG(job->before.st_mode))
        return chv_cli_fail(EX_NOINPUT, "%s: is no regular file", job->local);
    const struct timespec *mtime = &job->before.st_mtim;
    job->request.size = (uint64_t)job->before.st_size;
    job->request.mode = job->before.st_mode & CHV_FILES_MODE;
    job->request.mtime = mtime->tv_sec < 0 ? 0 : (uint64_t)mtime->tv_sec * 1000000000 + (uint64_t)mtime->tv_nsec;
    if (chv_files_digest_new(&job->digest) != CHV_OK)
        return chv_cli_fail(EX_OSERR, "no SHA-256");
    return EX_OK;
}

/* REMOTE, the name of LOCAL behind it if it ends with a slash; without it the name of LOCAL. */
static int put_name(const struct chv_cli_args *args, struct put_job *job)
{
    char text[2 * CHV_FILES_PATH_MAX];
    const char *remote = args->operand_count > 1 ? args->operands[1] : "";
    const size_t len = strlen(remote);
    const bool folder = len == 0 || remote[len - 1] == '/';
    int n = snprintf(text, sizeof text, "%s%s", remote, folder ? chv_files_path_name(job->local) : "");
    if (n < 0 || (size_t)n >= sizeof text)
        return chv_cli_fail(EX_USAGE, "the name on the server is too long");
    return chaveiro_files_remote(text, job->request.path);
}

int chaveiro_put(const struct chv_cli_args *args)
{
    struct put_job job = {.fd = -1, .local = args->operands[0], .request = {.op = CHV_FILES_PUT}};
    int code = put_name(args, &job);
    if (code == EX_OK)
        code = chaveiro_receipts_init(&job.receipts, args, false);
    job.request.receipt = job.receipts.where != NULL;
    if (code == EX_OK)
        code = put_open(&job);
    if (code == EX_OK)
        code = chaveiro_run(args, &put_job, &job);
    chv_files_digest_free(job.digest);
    if (job.fd >= 0)
        (void)close(job.fd);
    return code;
}
