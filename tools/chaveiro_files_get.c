/* SPDX-License-Identifier: Apache-2.0 */
/* A file from the server, hidden beside its name until all of it has come and was verified. */
#include "config.h"

#include "tools/chaveiro_files.h"

#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

struct get_op {
    struct chaveiro_op op;
    struct chaveiro_transfer *t;
    struct chaveiro_base *base;
    char *path, *name, *shown; /* on the server; beneath base; for people */
    struct chv_files_meta meta;
    struct chaveiro_part part;
    bool expected; /* it is in the sum of what is to be moved */
    bool anew;     /* what was here was not the beginning of it */
    bool broken;   /* it was told that it cannot be stored: the rest of the stream goes nowhere */
    bool complete;
    int old;         /* the file of that name, when that is what goes on; -1 */
    uint64_t offset; /* bytes that were here */
    uint64_t at;     /* bytes that are here */
    uint64_t started;
    struct chv_files_digest *digest;
    uint8_t prefix[CHV_FILES_DIGEST_LEN], sum[CHV_FILES_DIGEST_LEN];
};

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR)
            return false;
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* This one cannot be stored; where no other one can be, or none is left, the connection ends, and what is under way. */
static void cannot(struct get_op *get, int error)
{
    struct chaveiro_files *files = get->op.files;
    const bool all = error == ENOSPC || error == EDQUOT || error == EIO || error == EROFS;
    get->broken = true;
    if (all || (files->todo == NULL && files->sent == &get->op && get->op.next == NULL && get->op.asked)) {
        chaveiro_progress_clear(&files->progress);
        chaveiro_fail(files->link, EX_CANTCREAT, "%s: %s", get->shown, chaveiro_local_error(error));
    } else {
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: %s", get->shown, chaveiro_local_error(error));
    }
}

/* --- asking -------------------------------------------------------------------------------------------------------- */

static void close_old(struct get_op *get)
{
    if (get->old >= 0)
        (void)close(get->old);
    get->old = -1;
}

static void ask(struct get_op *get)
{
    struct chv_files_request request = {.op = CHV_FILES_GET, .has_offset = get->offset > 0, .offset = get->offset};
    (void)snprintf(request.path, sizeof request.path, "%s", get->path);
    memcpy(request.prefix, get->prefix, sizeof request.prefix);
    chaveiro_op_ask(&get->op, &request);
}

static void get_begin(struct chaveiro_op *op)
{
    struct get_op *get = (struct get_op *)op;
    get->started = uv_hrtime();
    get->at = get->offset = 0;
    if (chv_files_digest_new(&get->digest) != CHV_OK) {
        chaveiro_files_fail(op->files, EX_OSERR, "%s: no memory for its SHA-256", get->shown);
        return;
    }
    if (!get->t->resume || get->anew) {
        ask(get);
        return;
    }
    const int failed = chaveiro_part_open(&get->part, get->base, get->name, true, &get->offset);
    if (failed != 0) {
        chaveiro_files_fail(op->files, EX_CANTCREAT, "%s: %s", get->shown, chaveiro_local_error(failed));
        return;
    }
    if (get->offset == 0)
        get->old = chaveiro_part_old(&get->part, &get->offset);
    if (get->offset > 0)
        chaveiro_op_work(op);
    else
        ask(get);
}

/* The SHA-256 of what is here. */
static void get_work(struct chaveiro_op *op)
{
    struct get_op *get = (struct get_op *)op;
    static uint8_t piece[PIECE];
    const uint64_t left = get->offset - get->at;
    const ssize_t n =
        pread(get->old >= 0 ? get->old : get->part.fd, piece, left < PIECE ? (size_t)left : PIECE, (off_t)get->at);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0 || chv_files_digest_add(get->digest, piece, (size_t)n) != CHV_OK) {
        chaveiro_op_rest(op);
        chaveiro_files_fail(op->files, EX_IOERR, "%s: what is here cannot be read: %s", get->shown,
                            n < 0 ? strerror(errno) : "it shrank");
        return;
    }
    get->at += (uint64_t)n;
    if (get->at < get->offset)
        return;
    chaveiro_op_rest(op);
    if (chv_files_digest_peek(get->digest, get->prefix) == CHV_OK)
        ask(get);
    else
        chaveiro_files_fail(op->files, EX_OSERR, "%s: its SHA-256 cannot be computed", get->shown);
}

/* --- what comes ---------------------------------------------------------------------------------------------------- */

/* What is here, into the part: the file of that name is replaced once all is there. 0 or errno. */
static int copy_old(const struct get_op *get)
{
    static uint8_t piece[PIECE];
    for (uint64_t at = 0; at < get->offset;) {
        const uint64_t left = get->offset - at;
        const ssize_t n = pread(get->old, piece, left < PIECE ? (size_t)left : PIECE, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        if (!write_all(get->part.fd, piece, (size_t)n))
            return errno;
        at += (uint64_t)n;
    }
    return 0;
}

static void content_begins(struct get_op *get, const struct chv_files_answer *answer)
{
    struct chaveiro_files *files = get->op.files;
    uint64_t size;
    int failed = 0;
    get->meta = answer->meta;
    if (!get->expected)
        chaveiro_progress_expect(&files->progress, 1, get->meta.size);
    get->expected = true;
    chaveiro_progress_file(&files->progress, chv_files_path_name(get->path));
    if (get->offset == 0) {
        chaveiro_part_close(&get->part, false);
        failed = chaveiro_part_open(&get->part, get->base, get->name, false, &size);
    } else if (get->old >= 0 && get->meta.size > get->offset) {
        failed = copy_old(get);
    } else if (get->old < 0 && lseek(get->part.fd, (off_t)get->offset, SEEK_SET) < 0) {
        failed = errno;
    }
    if (failed != 0)
        cannot(get, failed);
    else if (get->old < 0 || get->meta.size > get->offset) /* else it is there, and told so at the end */
        chaveiro_progress_add(&files->progress, 0, get->offset);
}

static void get_data(struct chaveiro_op *op, const uint8_t *data, size_t len)
{
    struct get_op *get = (struct get_op *)op;
    if (get->broken)
        return;
    get->at += len;
    if (get->at > get->meta.size)
        return; /* what the server announced is not what it sends: get_end sees to it */
    if (chv_files_digest_add(get->digest, data, len) != CHV_OK)
        cannot(get, ENOMEM);
    else if (!write_all(get->part.fd, data, len))
        cannot(get, errno);
    else
        chaveiro_progress_add(&op->files->progress, len, 0);
}

static void get_end(struct chaveiro_op *op, const uint8_t *digest)
{
    struct get_op *get = (struct get_op *)op;
    get->complete = digest != NULL && !get->broken && get->at == get->meta.size &&
                    chv_files_digest_finish(get->digest, get->sum) == CHV_OK &&
                    memcmp(get->sum, digest, sizeof get->sum) == 0;
}

/* All of it is there. */
static void finish(struct get_op *get)
{
    struct chaveiro_files *files = get->op.files;
    const bool there = get->old >= 0 && get->offset == get->meta.size;
    if (there) {
        chaveiro_part_close(&get->part, true);
    } else {
        const int failed =
            chaveiro_part_commit(&get->part, &get->meta, get->t->preserve ? 0 : files->umask, get->t->fsync);
        if (failed != 0) {
            cannot(get, failed);
            return;
        }
    }
    chaveiro_files_moved(files, get->t, get->path, get->shown, get->meta.size, get->started, there ? NULL : get->sum);
}

static void get_answer(struct chaveiro_op *op, const struct chv_files_answer *answer)
{
    struct get_op *get = (struct get_op *)op;
    if (answer->code == 206) {
        content_begins(get, answer);
    } else if (answer->code == CHV_FILES_CONTINUE) {
        return; /* of puts only */
    } else if ((answer->code == 412 || answer->code == 416) && get->offset > 0) {
        chaveiro_files_tell(op->files,
                            "%s: what is here is not the beginning of the server's file (%u): it is fetched anew",
                            get->shown, answer->code);
        get->anew = true;
        close_old(get);
        chaveiro_part_close(&get->part, true);
        chv_files_digest_free(get->digest);
        get->digest = NULL;
        chaveiro_op_again(op);
    } else if (answer->code >= 300) {
        if (answer->code == 404)
            chaveiro_part_close(&get->part, true); /* nothing to go on with */
        if (!get->broken)
            chaveiro_files_failed(op->files, answer);
    } else if (get->complete) {
        finish(get);
    } else if (!get->broken) {
        get->at = 0;
        chaveiro_part_close(&get->part, true);
        chaveiro_progress_clear(&op->files->progress);
        chaveiro_fail(op->files->link, EX_PROTOCOL, "%s: what came is not what the server sent: nothing was stored",
                      get->shown);
    }
}

/* What has come of a file stays for the next run; the folder has nothing else of it. */
static void get_free(struct chaveiro_op *op)
{
    struct get_op *get = (struct get_op *)op;
    const bool kept = get->part.fd >= 0 && get->at > 0 && (get->old < 0 || get->at > get->offset);
    if (kept)
        chaveiro_files_tell(op->files, "%s: what has come of it is kept for 'get --resume'", get->shown);
    chaveiro_part_close(&get->part, !kept);
    close_old(get);
    chaveiro_base_free(get->base);
    chv_files_digest_free(get->digest);
    free(get->path);
    free(get->name);
    free(get->shown);
}

static const struct chaveiro_op_class get_class = {
    .begin = get_begin, .work = get_work, .answer = get_answer, .data = get_data, .end = get_end, .free = get_free};

void chaveiro_get_file(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *path,
                       const struct chv_files_meta *meta, struct chaveiro_base *base, const char *name)
{
    struct get_op *get = chaveiro_op_new(files, &get_class, sizeof *get);
    if (get == NULL)
        return;
    get->t = t;
    get->old = get->part.fd = get->part.dir = -1;
    get->path = strdup(path);
    get->name = strdup(name);
    get->shown = chaveiro_base_path(base, name);
    get->base = chaveiro_base_use(base);
    if (get->path == NULL || get->name == NULL || get->shown == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more files");
        get_free(&get->op);
        free(get);
        return;
    }
    get->expected = meta != NULL;
    if (meta != NULL)
        chaveiro_progress_expect(&files->progress, 1, meta->size);
    chaveiro_op_queue(&get->op);
}
