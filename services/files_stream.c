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

/* Bytes read in one go, and at once, when nothing is sent. */
enum { SILENT_STEP = 8 << 20, SILENT_READ = 128 << 10 };

static const char changed_text[] = "the file changed while it was read: try again";

void chv_files_stream_end(struct chv_files_session *s)
{
    struct chv_files_stream *t = &s->stream;
    if (t->fd >= 0)
        (void)close(t->fd);
    if (t->dir != NULL)
        (void)closedir(t->dir);
    *t = (struct chv_files_stream){.fd = -1};
}

static enum chv_err stop(struct chv_files_session *s, const char *changed, int error)
{
    enum chv_err err = s->stream.told ? chv_files_out_end(s->out, NULL) : CHV_OK;
    chv_files_stream_end(s);
    if (err != CHV_OK)
        return err;
    return changed != NULL ? chv_files_reply(s, 409, "%s", changed) : chv_files_reply_errno(s, error);
}

static enum chv_err finish(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_digest = true};
    enum chv_err err = chv_files_digest_finish(s->digest, answer.digest);
    if (err == CHV_OK && s->stream.told)
        err = chv_files_out_end(s->out, answer.digest);
    chv_files_stream_end(s);
    return err == CHV_OK ? chv_files_reply_with(s, &answer, 200, NULL) : err;
}

/* --- content ------------------------------------------------------------------------------------------------------- */

/* Opens the request's file for reading; what it is stands in `before`. 0, an errno, or -1: no regular file. */
static int open_file(struct chv_files_session *s)
{
    struct chv_files_stream *t = &s->stream;
    struct chv_files_dir *dir = NULL;
    struct stat st;
    if (s->at.path[0] == '\0')
        return EISDIR;
    int failed = chv_files_dir_take(s, &s->at, &dir);
    if (failed != 0)
        return failed;
    const char *name = chv_files_path_name(s->at.path);
    /* Of a FIFO or a device the open itself could have an effect. */
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        failed = errno;
    else if (S_ISDIR(st.st_mode))
        failed = EISDIR;
    else if (S_ISLNK(st.st_mode))
        failed = ELOOP;
    else if (!S_ISREG(st.st_mode))
        failed = -1;
    if (failed == 0) {
        t->fd = chv_files_openat(dir->fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
        failed = t->fd < 0 ? errno : fstat(t->fd, &t->before) != 0 || !S_ISREG(t->before.st_mode) ? -1 : 0;
    }
    chv_files_dir_drop(dir);
    return failed;
}

static enum chv_err tell(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = true};
    chv_files_meta_of(&s->stream.before, &answer.meta);
    s->stream.told = true;
    return chv_files_reply_with(s, &answer, 206, NULL);
}

enum chv_err chv_files_stream_get(struct chv_files_session *s, enum chv_files_purpose purpose)
{
    const struct chv_files_request *r = &s->request;
    struct chv_files_stream *t = &s->stream;
    int failed = open_file(s);
    if (failed != 0) {
        chv_files_stream_end(s);
        return failed > 0 ? chv_files_reply_errno(s, failed) : chv_files_reply(s, 409, "is no regular file");
    }
    const uint64_t size = (uint64_t)t->before.st_size;
    const uint64_t least = purpose == CHV_FILES_TO_GET ? r->offset : r->has_size ? r->size : 0;
    if (least > size) {
        chv_files_stream_end(s);
        return chv_files_reply(s, 416, "it has only %llu bytes", (unsigned long long)size);
    }
    enum chv_err err = chv_files_begin_digest(s);
    if (err != CHV_OK)
        return err;
    t->active = true;
    t->purpose = purpose;
    t->end = purpose == CHV_FILES_TO_SUM && r->has_size ? r->size : size;
    t->skip = purpose == CHV_FILES_TO_GET ? r->offset : t->end;
    if (purpose != CHV_FILES_TO_GET || (r->has_offset && !r->no_prefix))
        return CHV_OK;
    t->at = t->skip; /* what comes before it is none of this stream */
    return tell(s);
}

enum chv_err chv_files_stream_part(struct chv_files_session *s, int fd, uint64_t size)
{
    struct chv_files_stream *t = &s->stream;
    t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (t->fd < 0)
        return chv_files_put_verified(s, errno);
    t->active = true;
    t->purpose = CHV_FILES_TO_PUT;
    t->end = t->skip = size;
    return CHV_OK;
}

static bool unchanged(const struct chv_files_stream *t)
{
    struct stat now;
    return fstat(t->fd, &now) == 0 && now.st_size == t->before.st_size &&
           now.st_mtim.tv_sec == t->before.st_mtim.tv_sec && now.st_mtim.tv_nsec == t->before.st_mtim.tv_nsec;
}

/* What the client has already of a file that it gets is its beginning? */
static enum chv_err check_prefix(struct chv_files_session *s)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    enum chv_err err = chv_files_digest_peek(s->digest, digest);
    if (err != CHV_OK)
        return err;
    if (memcmp(digest, s->request.prefix, sizeof digest) == 0)
        return tell(s);
    chv_files_stream_end(s);
    return chv_files_reply(s, 412, "what comes before the offset has another SHA-256");
}

static enum chv_err end_content(struct chv_files_session *s)
{
    if (s->stream.purpose == CHV_FILES_TO_PUT) {
        chv_files_stream_end(s);
        return chv_files_put_verified(s, 0);
    }
    return unchanged(&s->stream) ? finish(s) : stop(s, changed_text, 0);
}

/* It has fewer bytes than it had, or cannot be read. */
static enum chv_err cut_content(struct chv_files_session *s, int error)
{
    if (s->stream.purpose == CHV_FILES_TO_PUT) {
        chv_files_stream_end(s);
        return chv_files_put_verified(s, error != 0 ? error : EIO);
    }
    return stop(s, error == 0 ? changed_text : NULL, error);
}

static size_t next_piece(const struct chv_files_stream *t)
{
    const bool silent = t->at < t->skip;
    const uint64_t left = (silent ? t->skip : t->end) - t->at;
    const size_t most = silent ? SILENT_READ : CHV_RECORD_BULK_BODY;
    return left < most ? (size_t)left : most;
}

static enum chv_err more_content(struct chv_files_session *s)
{
    struct chv_files_stream *t = &s->stream;
    for (size_t step = 0; s->out->len < CHV_FILES_OUT_FULL && step < SILENT_STEP;) {
        if (t->purpose == CHV_FILES_TO_GET && !t->told && t->at == t->skip) {
            enum chv_err err = check_prefix(s);
            if (err != CHV_OK || !t->active)
                return err;
        }
        const size_t want = next_piece(t);
        if (want == 0)
            return end_content(s);
        uint8_t *body = chv_files_out_body(s->out, want);
        if (body == NULL)
            return CHV_ERR_MEMORY;
        ssize_t n = pread(t->fd, body, want, (off_t)t->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cut_content(s, n == 0 ? 0 : errno);
        enum chv_err err = chv_files_digest_add(s->digest, body, (size_t)n);
        if (err != CHV_OK)
            return err;
        if (t->at >= t->skip)
            chv_files_out_add(s->out, CHV_RECORD_DATA, (size_t)n);
        t->at += (size_t)n;
        step += (size_t)n;
    }
    return CHV_OK;
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
    s->stream.told = true;
    enum chv_err err = chv_files_reply_with(s, &answer, 206, NULL);
    uint8_t *body = err == CHV_OK ? chv_files_out_body(s->out, CHV_FILES_ENTRY_MAX) : NULL;
    if (body == NULL)
        return CHV_ERR_MEMORY;
    err = add_entry(s, chv_files_path_name(s->at.path), st, body, &len);
    if (err != CHV_OK)
        return err;
    chv_files_out_add(s->out, CHV_RECORD_DATA, len);
    return finish(s);
}

/* The shared folders, which stand in the home's listing. */
static enum chv_err ls_shares(struct chv_files_session *s)
{
    const struct chv_files_root *root = s->root;
    size_t len = 0;
    enum chv_err err = CHV_OK;
    uint8_t *body = chv_files_out_body(s->out, CHV_SHARES_MAX * (size_t)CHV_FILES_ENTRY_MAX);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    for (size_t i = 0; i < root->share_count && err == CHV_OK; i++) {
        char name[CHV_SHARE_NAME_MAX + 2] = {CHV_FILES_SHARE};
        struct stat st;
        memcpy(name + 1, root->shares[i].name, sizeof root->shares[i].name);
        if ((s->shares & UINT32_C(1) << i) != 0 && fstat(chv_files_home_fd(root->shares[i].home), &st) == 0)
            err = add_entry(s, name, &st, body, &len);
    }
    if (err == CHV_OK && len > 0)
        chv_files_out_add(s->out, CHV_RECORD_DATA, len);
    return err;
}

enum chv_err chv_files_stream_ls(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = false};
    struct stat st;
    enum chv_err err = chv_files_begin_digest(s);
    if (err != CHV_OK)
        return err;
    int failed = chv_files_stat(s, &s->at, &st);
    if (failed != 0)
        return chv_files_reply_errno(s, failed);
    if (!S_ISDIR(st.st_mode))
        return ls_file(s, &st);
    int fd = chv_files_openat(chv_files_home_fd(s->at.home), s->at.path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return chv_files_reply_errno(s, errno);
    s->stream.dir = fdopendir(fd);
    if (s->stream.dir == NULL) {
        failed = errno;
        (void)close(fd);
        return chv_files_reply_errno(s, failed);
    }
    s->stream.active = s->stream.told = true;
    s->stream.purpose = CHV_FILES_TO_LIST;
    s->stream.top = s->request.path[0] == '\0';
    err = chv_files_reply_with(s, &answer, 206, NULL);
    return err == CHV_OK && s->stream.top ? ls_shares(s) : err;
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
        if ((!s->stream.top || e->d_name[0] != CHV_FILES_SHARE) &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) /* else it has just gone */
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
    if (s->stream.purpose != CHV_FILES_TO_LIST)
        return more_content(s);
    while (err == CHV_OK && !over && s->out->len < CHV_FILES_OUT_FULL)
        err = ls_record(s, &over, &failed);
    if (err != CHV_OK || !over)
        return err;
    return failed == 0 ? finish(s) : stop(s, NULL, failed);
}
