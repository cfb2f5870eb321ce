/* SPDX-License-Identifier: Apache-2.0 */
/* Answers with a stream behind them: a file's content, a folder's entries; and a file's checksum, part by part. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/loop.h"
#include "services/files_session_internal.h"

enum { SILENT_STEP = 8 << 20 }; /* bytes read in one go when nothing is sent */

void chv_files_stream_end(struct chv_files_session *s)
{
    struct chv_files_stream *t = &s->stream;
    if (t->fd >= 0)
        (void)close(t->fd);
    if (t->dir != NULL)
        (void)closedir(t->dir);
    *t = (struct chv_files_stream){.fd = -1};
}

/* END with the stream's digest, or without if it is not what it should be. */
static enum chv_err send_end(struct chv_files_session *s, const uint8_t *digest)
{
    const size_t len = digest != NULL ? CHV_FILES_DIGEST_LEN : 0;
    uint8_t *body = chv_files_out_body(s->out, CHV_FILES_DIGEST_LEN);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    if (len > 0)
        memcpy(body, digest, len);
    chv_files_out_add(s->out, CHV_RECORD_END, len);
    return CHV_OK;
}

static enum chv_err stop(struct chv_files_session *s, const char *changed, int error)
{
    enum chv_err err = s->stream.silent ? CHV_OK : send_end(s, NULL);
    chv_files_stream_end(s);
    if (err != CHV_OK)
        return err;
    return changed != NULL ? chv_files_reply(s, 409, "%s", changed) : chv_files_reply_errno(s, error);
}

static enum chv_err finish(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_digest = true};
    enum chv_err err = chv_files_digest_finish(s->digest, answer.digest);
    if (err == CHV_OK && !s->stream.silent)
        err = send_end(s, answer.digest);
    chv_files_stream_end(s);
    return err == CHV_OK ? chv_files_reply_with(s, &answer, 200, NULL) : err;
}

/* --- content ------------------------------------------------------------------------------------------------------- */

enum chv_err chv_files_stream_get(struct chv_files_session *s, bool silent)
{
    struct chv_files_answer answer = {.has_meta = true};
    struct chv_files_stream *t = &s->stream;
    struct stat st;
    /* Of a FIFO or a device the open itself could have an effect. */
    int failed = chv_files_stat(s, s->request.path, &st);
    if (failed != 0)
        return chv_files_reply_errno(s, failed);
    if (S_ISDIR(st.st_mode))
        return chv_files_reply_errno(s, EISDIR);
    if (S_ISLNK(st.st_mode))
        return chv_files_reply_errno(s, ELOOP);
    if (!S_ISREG(st.st_mode))
        return chv_files_reply(s, 409, "is no regular file");
    t->fd = chv_files_openat(chv_files_home_fd(s->home), s->request.path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (t->fd < 0)
        return chv_files_reply_errno(s, errno);
    if (fstat(t->fd, &t->before) != 0 || !S_ISREG(t->before.st_mode)) {
        chv_files_stream_end(s);
        return chv_files_reply(s, 409, "is no regular file");
    }
    enum chv_err err = chv_files_begin_digest(s);
    if (err != CHV_OK)
        return err;
    t->active = true;
    t->silent = silent;
    chv_files_meta_of(&t->before, &answer.meta);
    return silent ? CHV_OK : chv_files_reply_with(s, &answer, 206, NULL);
}

static bool unchanged(const struct chv_files_stream *t)
{
    struct stat now;
    return fstat(t->fd, &now) == 0 && now.st_size == t->before.st_size &&
           now.st_mtim.tv_sec == t->before.st_mtim.tv_sec && now.st_mtim.tv_nsec == t->before.st_mtim.tv_nsec;
}

static enum chv_err more_content(struct chv_files_session *s)
{
    static const char changed[] = "the file changed while it was read: try again";
    struct chv_files_stream *t = &s->stream;
    const uint64_t size = (uint64_t)t->before.st_size;
    for (size_t step = 0; t->at < size && s->out->len < CHV_FILES_OUT_FULL && step < SILENT_STEP;) {
        const size_t want = size - t->at < CHV_RECORD_BULK_BODY ? (size_t)(size - t->at) : CHV_RECORD_BULK_BODY;
        uint8_t *body = chv_files_out_body(s->out, want);
        if (body == NULL)
            return CHV_ERR_MEMORY;
        ssize_t n = pread(t->fd, body, want, (off_t)t->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return stop(s, n == 0 ? changed : NULL, errno);
        enum chv_err err = chv_files_digest_add(s->digest, body, (size_t)n);
        if (err != CHV_OK)
            return err;
        if (!t->silent)
            chv_files_out_add(s->out, CHV_RECORD_DATA, (size_t)n);
        t->at += (size_t)n;
        step += (size_t)n;
    }
    if (t->at < size)
        return CHV_OK;
    return unchanged(t) ? finish(s) : stop(s, changed, 0);
}

/* --- listings ------------------------------------------------------------------------------------------------------ */

/* Adds the entry to the body at *len if a client can name it. */
static enum chv_err add_entry(struct chv_files_session *s, const char *name, const struct stat *st, uint8_t *body,
                              size_t *len)
{
    struct chv_files_entry entry;
    size_t room = CHV_FILES_ENTRY_MAX;
    const size_t n = strlen(name);
    if (n > CHV_FILES_NAME_MAX || chv_files_path_check(name, n) != NULL)
        return CHV_OK;
    memcpy(entry.name, name, n + 1);
    chv_files_meta_of(st, &entry.meta);
    enum chv_err err = chv_files_entry_encode(&entry, body + *len, &room);
    if (err == CHV_OK)
        err = chv_files_digest_add(s->digest, body + *len, room);
    if (err == CHV_OK)
        *len += room;
    return err;
}

/* The one entry of what is no folder. */
static enum chv_err ls_file(struct chv_files_session *s, const struct stat *st)
{
    struct chv_files_answer answer = {.has_meta = false};
    size_t len = 0;
    enum chv_err err = chv_files_reply_with(s, &answer, 206, NULL);
    uint8_t *body = err == CHV_OK ? chv_files_out_body(s->out, CHV_FILES_ENTRY_MAX) : NULL;
    if (body == NULL)
        return CHV_ERR_MEMORY;
    err = add_entry(s, chv_files_path_name(s->request.path), st, body, &len);
    if (err != CHV_OK)
        return err;
    chv_files_out_add(s->out, CHV_RECORD_DATA, len);
    return finish(s);
}

enum chv_err chv_files_stream_ls(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = false};
    struct stat st;
    enum chv_err err = chv_files_begin_digest(s);
    if (err != CHV_OK)
        return err;
    int failed = chv_files_stat(s, s->request.path, &st);
    if (failed != 0)
        return chv_files_reply_errno(s, failed);
    if (!S_ISDIR(st.st_mode))
        return ls_file(s, &st);
    int fd = chv_files_openat(chv_files_home_fd(s->home), s->request.path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return chv_files_reply_errno(s, errno);
    s->stream.dir = fdopendir(fd);
    if (s->stream.dir == NULL) {
        failed = errno;
        (void)close(fd);
        return chv_files_reply_errno(s, failed);
    }
    s->stream.active = true;
    return chv_files_reply_with(s, &answer, 206, NULL);
}

/* One record of entries; *over: these were the last. */
static enum chv_err ls_record(struct chv_files_session *s, bool *over, int *failed)
{
    DIR *dir = s->stream.dir;
    size_t len = 0;
    enum chv_err err = CHV_OK;
    uint8_t *body = chv_files_out_body(s->out, CHV_RECORD_BULK_BODY);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    while (err == CHV_OK && len + CHV_FILES_ENTRY_MAX <= CHV_RECORD_BULK_BODY) {
        struct stat st;
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (e == NULL) {
            *over = true;
            *failed = errno;
            break;
        }
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) /* else it has just gone */
            err = add_entry(s, e->d_name, &st, body, &len);
    }
    if (err == CHV_OK && len > 0)
        chv_files_out_add(s->out, CHV_RECORD_DATA, len);
    return err;
}

enum chv_err chv_files_stream_more(struct chv_files_session *s)
{
    bool over = false;
    int failed = 0;
    enum chv_err err = CHV_OK;
    if (s->stream.dir == NULL)
        return more_content(s);
    while (err == CHV_OK && !over && s->out->len < CHV_FILES_OUT_FULL)
        err = ls_record(s, &over, &failed);
    if (err != CHV_OK || !over)
        return err;
    return failed == 0 ? finish(s) : stop(s, NULL, failed);
}
