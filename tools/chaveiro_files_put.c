/* SPDX-License-Identifier: Apache-2.0 */
/* A file to the server. */
#include "config.h"

#include "tools/chaveiro_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "services/files_home.h"

enum { PIECE = 1 << 20 };

enum put_phase {
    PUT_PART,     /* resume: what has an interrupted put left? */
    PUT_PREFIX,   /* ... the SHA-256 of as much of the file */
    PUT_STAT,     /* resume, nothing is left: is it there already? */
    PUT_WHOLE,    /* ... the SHA-256 of the file */
    PUT_CHECKSUM, /* ... and the server's */
    PUT_CONTENT   /* it is sent */
};

struct put_op {
    struct chaveiro_op op;
    struct chaveiro_transfer *t;
    struct chaveiro_base *base; /* NULL: `name` is as the user wrote it */
    char *name, *path, *shown;  /* local; on the server; for people */
    enum put_phase phase;
    bool expected; /* it is in the sum of what is to be moved */
    int fd;
    struct stat before;
    uint64_t offset; /* bytes that the server has */
    uint64_t at;     /* bytes that were read */
    uint64_t started;
    bool sending; /* its stream has no end yet */
    bool told;    /* why it cannot be sent */
    struct chv_files_digest *digest;
    uint8_t prefix[CHV_FILES_DIGEST_LEN], sum[CHV_FILES_DIGEST_LEN];
};

static uint64_t size_of(const struct put_op *put)
{
    return (uint64_t)put->before.st_size;
}

uint64_t chaveiro_files_mtime(const struct stat *st)
{
    return st->st_mtim.tv_sec < 0 ? 0 : (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;
}

static bool unchanged(const struct put_op *put)
{
    struct stat now;
    return fstat(put->fd, &now) == 0 && now.st_size == put->before.st_size &&
           now.st_mtim.tv_sec == put->before.st_mtim.tv_sec && now.st_mtim.tv_nsec == put->before.st_mtim.tv_nsec;
}

/* --- asking -------------------------------------------------------------------------------------------------------- */

static void ask(struct put_op *put, enum chv_files_op op)
{
    struct chv_files_request request = {.op = op};
    (void)snprintf(request.path, sizeof request.path, "%s", put->path);
    chaveiro_op_ask(&put->op, &request);
}

/* From `offset` on. */
static void ask_put(struct put_op *put)
{
    struct chv_files_request request = {.op = CHV_FILES_PUT,
                                        .size = size_of(put),
                                        .mode = put->before.st_mode & CHV_FILES_MODE &
                                                ~(put->t->preserve ? 0 : put->op.files->umask),
                                        .mtime = chaveiro_files_mtime(&put->before),
                                        .resume = size_of(put) > 0,
                                        .receipt = put->t->receipts != NULL,
                                        .has_offset = put->offset > 0,
                                        .offset = put->offset};
    (void)snprintf(request.path, sizeof request.path, "%s", put->path);
    memcpy(request.prefix, put->prefix, sizeof request.prefix);
    put->phase = PUT_CONTENT;
    put->sending = true;
    put->at = put->offset;
    chaveiro_progress_file(&put->op.files->progress, chv_files_path_name(put->path));
    chaveiro_progress_add(&put->op.files->progress, 0, put->offset);
    chaveiro_op_ask(&put->op, &request);
    if (put->offset > 0)
        chaveiro_op_wait(&put->op, true);
    else
        chaveiro_op_work(&put->op);
}

static bool new_digest(struct put_op *put)
{
    chv_files_digest_free(put->digest);
    put->digest = NULL;
    if (chv_files_digest_new(&put->digest) == CHV_OK)
        return true;
    chaveiro_files_fail(put->op.files, EX_OSERR, "%s: no memory for its SHA-256", put->shown);
    return false;
}

/* From the beginning. */
static void ask_anew(struct put_op *put)
{
    put->offset = 0;
    if (new_digest(put))
        ask_put(put);
}

/* 0 or errno; ENOTSUP: it is no regular file. */
static int open_file(struct put_op *put)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    put->fd = put->base != NULL ? chv_files_openat(put->base->fd, put->name, flags, 0) : open(put->name, flags);
    if (put->fd < 0 || fstat(put->fd, &put->before) != 0)
        return errno;
    return S_ISREG(put->before.st_mode) ? 0 : ENOTSUP;
}

static void put_begin(struct chaveiro_op *op)
{
    struct put_op *put = (struct put_op *)op;
    if (put->fd >= 0) { /* another turn */
        if (put->phase == PUT_PREFIX || put->phase == PUT_WHOLE) {
            put->at = 0;
            if (new_digest(put))
                chaveiro_op_work(op);
        } else if (put->phase == PUT_STAT) {
            ask(put, CHV_FILES_STAT);
        } else {
            ask_anew(put);
        }
        return;
    }
    const int failed = open_file(put);
    if (failed != 0) {
        chaveiro_files_fail(op->files, EX_NOINPUT, "%s: %s", put->shown,
                            failed == ENOTSUP ? "is no regular file" : strerror(failed));
        return;
    }
    if (put->t->receipts != NULL) {
        const int code = chaveiro_receipts_plan(put->t->receipts, op->files->link, put->path);
        chaveiro_files_code(op->files, code);
        if (code != EX_OK)
            return;
    }
    put->started = uv_hrtime();
    if (!put->expected)
        chaveiro_progress_expect(&op->files->progress, 1, size_of(put));
    put->expected = true;
    if (put->t->resume && size_of(put) > 0)
        ask(put, CHV_FILES_STAT_PART);
    else
        ask_anew(put);
}

/* --- content ------------------------------------------------------------------------------------------------------- */

static void send_end(struct put_op *put, const uint8_t *digest)
{
    enum chv_err err = chv_files_client_end(&put->op.files->client, digest);
    (void)err; /* a connection that cannot take it is ending, and says why itself */
    put->sending = false;
    if (put->op.files->worker == &put->op)
        chaveiro_op_rest(&put->op);
}

/* The end of the stream; `why`: of a file that cannot be sent, in words. */
static void end(struct put_op *put, const char *why)
{
    if (why == NULL && !unchanged(put))
        why = "the file changed while it was read: try again";
    if (why == NULL && chv_files_digest_finish(put->digest, put->sum) != CHV_OK)
        why = "its SHA-256 cannot be computed";
    if (why == NULL) {
        send_end(put, put->sum);
        return;
    }
    chaveiro_files_fail(put->op.files, EX_IOERR, "%s: %s", put->shown, why);
    put->told = true;
    send_end(put, NULL);
}

static void send_piece(struct put_op *put)
{
    size_t cap;
    const uint64_t left = size_of(put) - put->at;
    if (left == 0) {
        end(put, NULL);
        return;
    }
    struct chv_conn *conn = put->op.files->client.conn;
    uint8_t *body = chv_conn_body(conn, &cap);
    ssize_t n;
    do
        n = pread(put->fd, body, left < cap ? (size_t)left : cap, (off_t)put->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        end(put, n < 0 ? strerror(errno) : "the file shrank while it was read: try again");
        return;
    }
    enum chv_err err = chv_files_digest_add(put->digest, body, (size_t)n);
    if (err == CHV_OK)
        err = chv_conn_send_body(conn, CHV_RECORD_DATA, (size_t)n);
    if (err != CHV_OK)
        chaveiro_op_wait(&put->op, true); /* until the connection ends, which it does */
    put->at += (uint64_t)n;
    chaveiro_progress_add(&put->op.files->progress, (uint64_t)n, 0);
}

/* A piece of what is compared first. */
static void hash_piece(struct put_op *put)
{
    static uint8_t piece[PIECE];
    const uint64_t end_at = put->phase == PUT_PREFIX ? put->offset : size_of(put), left = end_at - put->at;
    const ssize_t n = pread(put->fd, piece, left < PIECE ? (size_t)left : PIECE, (off_t)put->at);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0 || chv_files_digest_add(put->digest, piece, (size_t)n) != CHV_OK ||
        ((uint64_t)n == left && chv_files_digest_peek(put->digest, put->prefix) != CHV_OK)) {
        chaveiro_op_rest(&put->op);
        chaveiro_files_fail(put->op.files, EX_IOERR, "%s: %s", put->shown,
                            n < 0 ? strerror(errno) : "the file shrank while it was read: try again");
        return;
    }
    put->at += (uint64_t)n;
    if (put->at < end_at)
        return;
    chaveiro_op_rest(&put->op);
    if (put->phase == PUT_PREFIX) {
        ask_put(put);
    } else {
        put->phase = PUT_CHECKSUM;
        ask(put, CHV_FILES_CHECKSUM);
    }
}

static void put_work(struct chaveiro_op *op)
{
    struct put_op *put = (struct put_op *)op;
    if (put->phase == PUT_CONTENT)
        send_piece(put);
    else
        hash_piece(put);
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

static void next(struct put_op *put, enum put_phase phase)
{
    put->phase = phase;
    chaveiro_op_again(&put->op);
}

static void content_answer(struct put_op *put, const struct chv_files_answer *answer)
{
    struct chaveiro_files *files = put->op.files;
    const bool early = put->sending;
    if (early)
        send_end(put, NULL);
    if ((answer->code == 412 || answer->code == 416) && put->offset > 0) {
        chaveiro_files_tell(files, "%s: what the server has of it is not its beginning (%u): it is sent anew",
                            put->shown, answer->code);
        put->offset = 0;
        next(put, PUT_CONTENT);
    } else if (answer->code >= 300) {
        if (!put->told) /* else the client gave up */
            chaveiro_files_failed(files, answer);
    } else if (early || !answer->has_digest || memcmp(answer->digest, put->sum, sizeof put->sum) != 0) {
        chaveiro_progress_clear(&files->progress);
        chaveiro_fail(files->link, EX_PROTOCOL, "%s: the server confirms another file than was sent", put->path);
    } else {
        if (put->t->receipts != NULL) {
            chaveiro_progress_clear(&files->progress);
            chaveiro_files_code(files, chaveiro_receipts_take(put->t->receipts, files->link, put->path, size_of(put),
                                                              put->sum, answer));
        }
        chaveiro_files_moved(files, put->t, put->path, put->shown, size_of(put), put->started, put->sum);
    }
}

static void put_answer(struct chaveiro_op *op, const struct chv_files_answer *answer)
{
    struct put_op *put = (struct put_op *)op;
    if (answer->code == CHV_FILES_CONTINUE) {
        if (put->sending && put->offset > 0)
            chaveiro_op_work(op);
        return;
    }
    switch (put->phase) {
    case PUT_PART:
        put->offset = answer->code == 200 && answer->has_meta ? answer->meta.size : 0;
        next(put, put->offset > 0 && put->offset <= size_of(put) ? PUT_PREFIX : PUT_STAT);
        break;
    case PUT_STAT:
        put->offset = 0;
        next(put, put->t->receipts == NULL && answer->code == 200 && answer->has_meta &&
                          answer->meta.type == CHV_FILES_FILE && answer->meta.size == size_of(put)
                      ? PUT_WHOLE
                      : PUT_CONTENT);
        break;
    case PUT_CHECKSUM:
        if (answer->code == 200 && answer->has_digest && memcmp(answer->digest, put->prefix, sizeof put->prefix) == 0)
            chaveiro_files_moved(op->files, put->t, put->path, put->shown, size_of(put), put->started, NULL);
        else
            next(put, PUT_CONTENT);
        break;
    default:
        content_answer(put, answer);
        break;
    }
}

static void put_free(struct chaveiro_op *op)
{
    struct put_op *put = (struct put_op *)op;
    if (put->fd >= 0)
        (void)close(put->fd);
    chaveiro_base_free(put->base);
    chv_files_digest_free(put->digest);
    free(put->path);
    free(put->name);
    free(put->shown);
}

static const struct chaveiro_op_class put_class = {
    .begin = put_begin, .work = put_work, .answer = put_answer, .free = put_free};

void chaveiro_put_file(struct chaveiro_files *files, struct chaveiro_transfer *t, struct chaveiro_base *base,
                       const char *name, const struct stat *st, const char *path)
{
    struct put_op *put = chaveiro_op_new(files, &put_class, sizeof *put);
    if (put == NULL)
        return;
    put->t = t;
    put->fd = -1;
    put->path = strdup(path);
    put->name = strdup(name);
    put->shown = base != NULL ? chaveiro_base_path(base, name) : strdup(name);
    put->base = base != NULL ? chaveiro_base_use(base) : NULL;
    if (put->path == NULL || put->name == NULL || put->shown == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more files");
        put_free(&put->op);
        free(put);
        return;
    }
    put->expected = st != NULL;
    if (st != NULL)
        chaveiro_progress_expect(&files->progress, 1, (uint64_t)st->st_size);
    chaveiro_op_queue(&put->op);
}
