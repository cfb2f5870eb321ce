/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are answered at once; content goes in and out in files_put.c and files_stream.c. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "net/control.h"
#include "services/files_session_internal.h"

enum { OUT_HEAD = 5, OUT_FIRST = 8192 };

/* --- records to send ----------------------------------------------------------------------------------------------- */

uint8_t *chv_files_out_body(struct chv_files_out *out, size_t len)
{
    const size_t wanted = out->len + OUT_HEAD + len;
    if (wanted > out->cap) {
        size_t cap = out->cap > 0 ? out->cap : OUT_FIRST;
        while (cap < wanted)
            cap *= 2;
        uint8_t *buf = realloc(out->buf, cap);
        if (buf == NULL)
            return NULL;
        out->buf = buf;
        out->cap = cap;
    }
    return out->buf + out->len + OUT_HEAD;
}

void chv_files_out_add(struct chv_files_out *out, uint8_t type, size_t len)
{
    const uint32_t length = (uint32_t)len;
    out->buf[out->len] = type;
    memcpy(out->buf + out->len + 1, &length, sizeof length);
    out->len += OUT_HEAD + len;
}

bool chv_files_out_next(const struct chv_files_out *out, size_t *at, uint8_t *type, const uint8_t **body, size_t *len)
{
    uint32_t length;
    if (*at == out->len)
        return false;
    *type = out->buf[*at];
    memcpy(&length, out->buf + *at + 1, sizeof length);
    *body = out->buf + *at + OUT_HEAD;
    *len = length;
    *at += OUT_HEAD + length;
    return true;
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

enum chv_err chv_files_reply_with(struct chv_files_session *s, struct chv_files_answer *answer, unsigned code,
                                  const char *text)
{
    size_t len = CHV_CONTROL_MAX;
    uint8_t *body = chv_files_out_body(s->out, len);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    answer->id = s->request.id;
    answer->code = code;
    memcpy(answer->path, s->request.path, sizeof answer->path);
    (void)snprintf(answer->text, sizeof answer->text, "%s", text != NULL ? text : "");
    enum chv_err err = chv_files_answer_encode(answer, body, &len);
    if (err == CHV_OK)
        chv_files_out_add(s->out, CHV_FILES_ANSWER, len);
    return err;
}

enum chv_err chv_files_reply(struct chv_files_session *s, unsigned code, const char *format, ...)
{
    struct chv_files_answer answer = {.has_meta = false};
    char text[CHV_FILES_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return chv_files_reply_with(s, &answer, code, text);
}

enum chv_err chv_files_reply_errno(struct chv_files_session *s, int error)
{
    static const struct {
        int error;
        unsigned code;
        const char *text;
    } known[] = {
        {ENOENT, 404, "there is no such file or folder"},
        {ENOTDIR, 404, "a part of the name is no folder"},
        {EACCES, 403, "the server may not do this to this file"},
        {EPERM, 403, "the server may not do this to this file"},
        {EROFS, 403, "the server's file system is read-only"},
        {ELOOP, 403, "symbolic links are not followed"},
        {EXDEV, 403, "this leads out of the client's home, or to another file system"},
        {EEXIST, 409, "exists already"},
        {ENOTEMPTY, 409, "the folder is not empty"},
        {EISDIR, 409, "is a folder"},
        {EBUSY, 409, "is in use"},
        {EINVAL, 409, "a folder cannot go into itself"},
        {ENOSPC, 507, "no space left on the server's disk"},
        {EDQUOT, 507, "the server's disk quota is used up"},
        {EFBIG, 413, "too large for the server's file system"},
        {ENAMETOOLONG, 400, "the name is too long for the server's file system"},
        {EILSEQ, 400, "the server's file system does not take this name"},
        {EMFILE, 503, "the server has too many files open: try again later"},
        {ENFILE, 503, "the server has too many files open: try again later"},
        {ENOMEM, 503, "the server has no memory left: try again later"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].error == error)
            return chv_files_reply(s, known[i].code, "%s", known[i].text);
    return chv_files_reply(s, 500, "the server's file system failed: %s", strerrordesc_np(error));
}

void chv_files_meta_of(const struct stat *st, struct chv_files_meta *meta)
{
    meta->type = S_ISREG(st->st_mode)   ? CHV_FILES_FILE
                 : S_ISDIR(st->st_mode) ? CHV_FILES_FOLDER
                 : S_ISLNK(st->st_mode) ? CHV_FILES_LINK
                                        : CHV_FILES_OTHER;
    meta->mode = st->st_mode & CHV_FILES_MODE;
    meta->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    meta->mtime =
        st->st_mtim.tv_sec < 0 ? 0 : (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;
}

int chv_files_stat(const struct chv_files_session *s, const char *path, struct stat *st)
{
    const int home = chv_files_home_fd(s->home);
    memset(st, 0, sizeof *st);
    if (path[0] == '\0')
        return fstat(home, st) == 0 ? 0 : errno;
    int dir = chv_files_open_parent(home, path);
    if (dir < 0)
        return errno;
    int failed = fstatat(dir, chv_files_path_name(path), st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    (void)close(dir);
    return failed;
}

enum chv_err chv_files_begin_digest(struct chv_files_session *s)
{
    chv_files_digest_free(s->digest);
    s->digest = NULL;
    return chv_files_digest_new(&s->digest);
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static enum chv_err op_stat(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = true};
    struct stat st;
    int failed = chv_files_stat(s, s->request.path, &st);
    if (failed != 0)
        return chv_files_reply_errno(s, failed);
    chv_files_meta_of(&st, &answer.meta);
    return chv_files_reply_with(s, &answer, 200, NULL);
}

static enum chv_err op_df(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_space = true};
    struct statvfs vfs;
    if (fstatvfs(chv_files_home_fd(s->home), &vfs) != 0)
        return chv_files_reply_errno(s, errno);
    uint64_t left = chv_files_home_left(s->home);
    answer.total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    answer.left = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (s->root->quota != 0) {
        answer.total = s->root->quota;
        answer.left = left < answer.left ? left : answer.left;
    }
    return chv_files_reply_with(s, &answer, 200, NULL);
}

/* The change of a folder's entries is on the disk. */
static int sync_folder(const struct chv_files_session *s, int dir)
{
    return !s->root->fsync || fsync(dir) == 0 ? 0 : errno;
}

static int do_rmdir(int dir, const char *name)
{
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return errno;
    /* What a killed server left unfinished is nothing that the client could remove. */
    int sub = chv_files_openat(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (sub < 0)
        return errno;
    bool swept = chv_files_sweep_parts(sub);
    (void)close(sub);
    if (!swept)
        return ENOTEMPTY;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}

static int do_rm(struct chv_files_session *s, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (unlinkat(dir, name, 0) != 0)
        return errno;
    if (S_ISREG(st.st_mode) && st.st_nlink == 1)
        chv_files_home_give(s->home, (uint64_t)st.st_size);
    return 0;
}

static int do_rename(struct chv_files_session *s, int dir, const char *name)
{
    int to = chv_files_open_parent(chv_files_home_fd(s->home), s->request.to);
    if (to < 0)
        return errno;
    int failed = renameat2(dir, name, to, chv_files_path_name(s->request.to), RENAME_NOREPLACE) == 0 ? 0 : errno;
    if (failed == 0)
        failed = sync_folder(s, to);
    (void)close(to);
    return failed;
}

/* A change of a folder's entries. */
static enum chv_err op_entry(struct chv_files_session *s)
{
    const struct chv_files_request *r = &s->request;
    if (r->path[0] == '\0' || (r->op == CHV_FILES_RENAME && r->to[0] == '\0'))
        return chv_files_reply(s, 400, "the home itself cannot be made, removed or renamed");
    int dir = chv_files_open_parent(chv_files_home_fd(s->home), r->path);
    if (dir < 0)
        return chv_files_reply_errno(s, errno);
    const char *name = chv_files_path_name(r->path);
    int failed;
    switch (r->op) {
    case CHV_FILES_MKDIR:
        failed = mkdirat(dir, name, 0755) == 0 ? 0 : errno;
        break;
    case CHV_FILES_RMDIR:
        failed = do_rmdir(dir, name);
        break;
    case CHV_FILES_RM:
        failed = do_rm(s, dir, name);
        break;
    default:
        failed = do_rename(s, dir, name);
        break;
    }
    if (failed == 0)
        failed = sync_folder(s, dir);
    (void)close(dir);
    return failed == 0 ? chv_files_reply(s, 200, "%s", "") : chv_files_reply_errno(s, failed);
}

/* NULL, or why the request is not even begun. */
static enum chv_err begin(struct chv_files_session *s, const char *wrong, bool *begun)
{
    *begun = false;
    if (wrong != NULL)
        return chv_files_reply(s, 400, "%s", wrong);
    if (s->request.op >= CHV_FILES_PUT && !s->write)
        return chv_files_reply(s, 403, "this client may only read: it has no scope 'files:rw'");
    if (s->home == NULL) {
        int failed = chv_files_home_open(s->root, s->id, &s->home);
        if (failed != 0)
            return chv_files_reply_errno(s, failed == ENOENT || failed == ENOTDIR ? EACCES : failed);
    }
    *begun = true;
    return CHV_OK;
}

static enum chv_err on_request(struct chv_files_session *s, const uint8_t *body, size_t len)
{
    const char *wrong = NULL;
    bool begun;
    if (s->put.active)
        return CHV_ERR_PROTOCOL; /* inside a stream */
    enum chv_err err = chv_files_request_decode(body, len, &s->request, &wrong);
    if (err != CHV_OK)
        return err;
    s->put.active = s->request.op == CHV_FILES_PUT;
    s->put.discard = true; /* until it has begun */
    err = begin(s, wrong, &begun);
    if (err != CHV_OK || !begun)
        return err;
    if (s->request.has_offset)
        return chv_files_reply(s, 416, "this server keeps no parts yet");
    switch (s->request.op) {
    case CHV_FILES_LS:
        return chv_files_stream_ls(s);
    case CHV_FILES_GET:
    case CHV_FILES_CHECKSUM:
        return chv_files_stream_get(s, s->request.op == CHV_FILES_CHECKSUM);
    case CHV_FILES_STAT:
        return op_stat(s);
    case CHV_FILES_DF:
        return op_df(s);
    case CHV_FILES_PUT:
        return chv_files_put_begin(s);
    case CHV_FILES_STAT_PART:
    case CHV_FILES_RM_PART:
        return chv_files_reply(s, 404, "there is no unfinished file");
    default:
        return op_entry(s);
    }
}

enum chv_err chv_files_session_record(struct chv_files_session *session, uint8_t type, const uint8_t *body, size_t len,
                                      struct chv_files_out *out)
{
    session->out = out;
    if (type == CHV_FILES_REQUEST)
        return on_request(session, body, len);
    if (!session->put.active)
        return CHV_ERR_PROTOCOL;
    if (type == CHV_RECORD_DATA)
        return chv_files_put_data(session, body, len);
    if (type == CHV_RECORD_END && (len == 0 || len == CHV_FILES_DIGEST_LEN))
        return chv_files_put_end(session, body, len);
    return CHV_ERR_PROTOCOL;
}

bool chv_files_session_streams(const struct chv_files_session *session)
{
    return session->stream.active;
}

enum chv_err chv_files_session_more(struct chv_files_session *session, struct chv_files_out *out)
{
    session->out = out;
    return chv_files_stream_more(session);
}

enum chv_err chv_files_session_new(const struct chv_files_root *root, const char *id, bool write,
                                   struct chv_files_session **session)
{
    struct chv_files_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return CHV_ERR_MEMORY;
    s->root = root;
    s->write = write;
    s->put.dir = s->put.fd = s->stream.fd = -1;
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    *session = s;
    return CHV_OK;
}

void chv_files_session_free(struct chv_files_session *session)
{
    if (session == NULL)
        return;
    chv_files_put_undo(session);
    chv_files_stream_end(session);
    chv_files_digest_free(session->digest);
    chv_files_home_close(session->home);
    free(session);
}
