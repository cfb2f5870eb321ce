/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro get: one file from the server, hidden beside its name until all of it has come and was verified. */
#include "tools/chaveiro_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { GET_SIGNALS = 3 };

struct get_job {
    struct chaveiro_link *link;
    struct chv_files_client client;
    struct chv_files_request request;
    struct chv_files_meta meta;
    char local[PATH_MAX], part[PATH_MAX]; /* part "": none */
    int fd;
    uint64_t got;
    bool complete;
    uv_signal_t signals[GET_SIGNALS];
    bool signals_open;
    struct chv_files_digest *digest;
    uint8_t sum[CHV_FILES_DIGEST_LEN];
    struct chaveiro_progress progress;
};

static void drop_part(struct get_job *job)
{
    if (job->fd >= 0)
        (void)close(job->fd);
    job->fd = -1;
    if (job->part[0] != '\0')
        (void)unlink(job->part);
    job->part[0] = '\0';
}

static void get_fail(struct get_job *job, const char *text)
{
    chaveiro_progress_end(&job->progress);
    chaveiro_fail(job->link, EX_CANTCREAT, "%s: %s", job->local, text);
}

static void open_part(struct get_job *job)
{
    const char *slash = strrchr(job->local, '/');
    int n = snprintf(job->part, sizeof job->part, "%.*s.chv-get-XXXXXX",
                     slash != NULL ? (int)(slash - job->local) + 1 : 0, job->local);
    if (n < 0 || (size_t)n >= sizeof job->part) {
        job->part[0] = '\0';
        get_fail(job, strerror(ENAMETOOLONG));
        return;
    }
    job->fd = mkostemp(job->part, O_CLOEXEC);
    if (job->fd < 0) {
        job->part[0] = '\0';
        get_fail(job, strerror(errno));
    } else if (chv_files_digest_new(&job->digest) != CHV_OK) {
        get_fail(job, "no SHA-256");
    }
}

/* Under its name, with its mode and time, and on the disk. */
static int finish(struct get_job *job)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(job->meta.mtime / 1000000000), .tv_nsec = (long)(job->meta.mtime % 1000000000)}};
    struct stat st;
    if (stat(job->local, &st) == 0 && S_ISDIR(st.st_mode))
        return EISDIR;
    if (fchmod(job->fd, job->meta.mode & CHV_FILES_MODE) != 0 || futimens(job->fd, times) != 0 || fsync(job->fd) != 0 ||
        rename(job->part, job->local) != 0)
        return errno;
    job->part[0] = '\0';
    return 0;
}

static void on_answer(void *arg, const struct chv_files_answer *answer)
{
    struct get_job *job = arg;
    struct chaveiro_link *link = job->link;
    if (answer->code == 206 && answer->has_meta) {
        job->meta = answer->meta;
        job->progress.size = answer->meta.size;
        open_part(job);
        return;
    }
    chaveiro_progress_end(&job->progress);
    if (answer->code >= 300) {
        chaveiro_files_failed(link, answer);
    } else if (!job->complete) {
        chaveiro_fail(link, EX_PROTOCOL, "%s: what came is not what the server sent: nothing was stored", job->local);
        return;
    } else {
        int failed = finish(job);
        if (failed != 0) {
            get_fail(job, strerror(failed));
            return;
        }
        chaveiro_files_summary(link, "get", job->request.path, job->local, job->got, job->progress.started, job->sum);
    }
    chaveiro_finish(link);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct get_job *job = arg;
    if (job->fd < 0 || job->link->failed)
        return;
    if (chv_files_digest_add(job->digest, data, len) != CHV_OK) {
        get_fail(job, "its SHA-256 cannot be computed");
        return;
    }
    job->got += len;
    while (len > 0) {
        ssize_t n = write(job->fd, data, len);
        if (n < 0 && errno != EINTR) {
            get_fail(job, strerror(errno));
            return;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    chaveiro_progress_to(&job->progress, job->got);
}

static void on_end(void *arg, const uint8_t *digest)
{
    struct get_job *job = arg;
    job->complete = digest != NULL && job->fd >= 0 && job->got == job->meta.size &&
                    chv_files_digest_finish(job->digest, job->sum) == CHV_OK &&
                    memcmp(job->sum, digest, sizeof job->sum) == 0;
}

static const struct chv_files_events get_events = {.answer = on_answer, .data = on_data, .end = on_end};

static void on_signal(uv_signal_t *handle, int number)
{
    struct get_job *job = handle->data;
    chaveiro_progress_end(&job->progress);
    chaveiro_interrupt(job->link, number);
}

static void get_ready(struct chaveiro_link *link)
{
    static const int numbers[GET_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    struct get_job *job = link->state;
    job->link = link;
    for (size_t i = 0; i < GET_SIGNALS; i++) {
        (void)uv_signal_init(&link->loop.uv, &job->signals[i]);
        job->signals[i].data = job;
        (void)uv_signal_start(&job->signals[i], on_signal, numbers[i]);
    }
    job->signals_open = true;
    chv_files_client_init(&job->client, chv_message_conn(link->message), &get_events, job);
    chaveiro_progress_begin(&job->progress, link->args, chv_files_path_name(job->request.path), 0);
    enum chv_err err = chv_files_client_ask(&job->client, &job->request);
    if (err != CHV_OK)
        chaveiro_fail_why(link, err, NULL);
    else
        chaveiro_due(link, true);
}

static enum chv_err get_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    struct get_job *job = link->state;
    return chv_files_client_record(&job->client, type, body, len);
}

static void get_drained(struct chaveiro_link *link)
{
    (void)link; /* one request is all that is sent */
}

static void get_over(struct chaveiro_link *link)
{
    struct get_job *job = link->state;
    chaveiro_progress_end(&job->progress);
    for (size_t i = 0; i < GET_SIGNALS && job->signals_open; i++)
        uv_close((uv_handle_t *)&job->signals[i], NULL);
    job->signals_open = false;
}

static const struct chaveiro_job get_job = {
    .ready = get_ready, .record = get_record, .drained = get_drained, .over = get_over};

/* LOCAL, the name of REMOTE in it if it is a folder; without it the name of REMOTE, here. */
static int get_name(const struct chv_cli_args *args, struct get_job *job)
{
    struct stat st;
    const char *local = args->operand_count > 1 ? args->operands[1] : NULL;
    const char *name = chv_files_path_name(job->request.path);
    int n;
    if (name[0] == '\0')
        return chv_cli_fail(EX_USAGE, "get which file?");
    const size_t len = local != NULL ? strlen(local) : 0;
    if (local == NULL)
        n = snprintf(job->local, sizeof job->local, "%s", name);
    else if (len > 0 && (local[len - 1] == '/' || (stat(local, &st) == 0 && S_ISDIR(st.st_mode))))
        n = snprintf(job->local, sizeof job->local, "%s%s%s", local, local[len - 1] == '/' ? "" : "/", name);
    else
        n = snprintf(job->local, sizeof job->local, "%s", local);
    if (n <= 0 || (size_t)n >= sizeof job->local)
        return chv_cli_fail(EX_USAGE, "'%.200s' is no name for a file", local != NULL ? local : name);
    return EX_OK;
}

int chaveiro_get(const struct chv_cli_args *args)
{
    struct get_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    job->fd = -1;
    job->request.op = CHV_FILES_GET;
    int code = chaveiro_files_remote(args->operands[0], job->request.path);
    if (code == EX_OK)
        code = get_name(args, job);
    if (code == EX_OK)
        code = chaveiro_run(args, &get_job, job);
    drop_part(job);
    chv_files_digest_free(job->digest);
    free(job);
    return code;
}
