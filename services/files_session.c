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

/* --- answers ------------------------------------------------------------------------------------------------------- */

static enum chv_err add_answer(struct chv_files_session *s, const struct chv_files_request *r,
                               struct chv_files_answer *answer, unsigned code, const char *text)
{
    size_t len = CHV_CONTROL_MAX;
    uint8_t *body = chv_files_out_body(s->out, len);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    answer->id = r->id;
    answer->code = code;
    memcpy(answer->path, r->path, sizeof answer->path);
    (void)snprintf(answer->text, sizeof answer->text, "%s", text != NULL ? text : "");
    enum chv_err err = chv_files_answer_encode(answer, body, &len);
    if (err == CHV_OK)
        chv_files_out_add(s->out, CHV_FILES_ANSWER, len);
    return err;
}

enum chv_err chv_files_reply_with(struct chv_files_session *s, struct chv_files_answer *answer, unsigned code,
                                  const char *text)
{
    enum chv_err err = chv_files_group_finish(s);
    return err == CHV_OK ? add_answer(s, &s->request, answer, code, text) : err;
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

/* What an errno means to the client. */
static unsigned errno_code(int error, char text[CHV_FILES_TEXT_MAX + 1])
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
        {EXDEV, 403, "this leads out of the folder, or to another file system"},
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
        if (known[i].error == error) {
            (void)snprintf(text, CHV_FILES_TEXT_MAX + 1, "%s", known[i].text);
            return known[i].code;
        }
    (void)snprintf(text, CHV_FILES_TEXT_MAX + 1, "the server's file system failed: %s", strerrordesc_np(error));
    return 500;
}

enum chv_err chv_files_reply_errno(struct chv_files_session *s, int error)
{
    struct chv_files_answer answer = {.has_meta = false};
    char text[CHV_FILES_TEXT_MAX + 1];
    const unsigned code = errno_code(error, text);
    return chv_files_reply_with(s, &answer, code, text);
}

enum chv_err chv_files_reply_put(struct chv_files_session *s, const struct chv_files_put *put, int failed)
{
    struct chv_files_answer answer = {.has_digest = failed == 0};
    char text[CHV_FILES_TEXT_MAX + 1] = "";
    const unsigned code = failed == 0 ? 200 : errno_code(failed, text);
    memcpy(answer.digest, put->digest, sizeof answer.digest);
    if (failed == 0 && put->request.receipt) /* the group's last, and the request that is under way */
        return chv_files_put_stored(s, &answer, put->got);
    return add_answer(s, &put->request, &answer, code, text);
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

enum chv_err chv_files_begin_digest(struct chv_files_session *s)
{
    return s->digest != NULL ? chv_files_digest_reset(s->digest) : chv_files_digest_new(&s->digest);
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static enum chv_err op_stat(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = true};
    struct stat st;
    int failed = chv_files_stat(s, &s->at, &st);
    if (failed != 0)
        return chv_files_reply_errno(s, failed);
    chv_files_meta_of(&st, &answer.meta);
    return chv_files_reply_with(s, &answer, 200, NULL);
}

static enum chv_err op_df(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_space = true};
    struct statvfs vfs;
    if (fstatvfs(chv_files_home_fd(s->at.home), &vfs) != 0)
        return chv_files_reply_errno(s, errno);
    const uint64_t left = chv_files_home_left(s->at.home), quota = chv_files_home_quota(s->at.home);
    answer.total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    answer.left = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (quota != 0) {
        answer.total = quota;
        answer.left = left < answer.left ? left : answer.left;
    }
    return chv_files_reply_with(s, &answer, 200, NULL);
}

/* The change of a folder's entries is on the disk. */
static int sync_folder(const struct chv_files_session *s, int dir)
{
    return s->root->durability == CHV_DURABILITY_NONE || fsync(dir) == 0 ? 0 : errno;
}

static int do_rmdir(const struct chv_files_session *s, int dir, const char *name)
{
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return errno;
    /* What interrupted puts have left is nothing that the client sees. */
    int sub = chv_files_openat(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (sub < 0)
        return errno;
    int failed = chv_files_part_clear(s->at.home, sub);
    (void)close(sub);
    if (failed != 0)
        return failed;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}

static int do_rm(const struct chv_files_session *s, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (unlinkat(dir, name, 0) != 0)
        return errno;
    if (S_ISREG(st.st_mode) && st.st_nlink == 1)
        chv_files_home_give(s->at.home, (uint64_t)st.st_size);
    return 0;
}

static int do_rename(const struct chv_files_session *s, int dir, const char *name)
{
    int to = chv_files_open_parent(chv_files_home_fd(s->to.home), s->to.path);
    if (to < 0)
        return errno;
    int failed = renameat2(dir, name, to, chv_files_path_name(s->to.path), RENAME_NOREPLACE) == 0 ? 0 : errno;
    if (failed == 0)
        failed = sync_folder(s, to);
    (void)close(to);
    return failed;
}

/* A change of a folder's entries. */
static enum chv_err op_entry(struct chv_files_session *s)
{
    const enum chv_files_op op = s->request.op;
    if (s->at.path[0] == '\0' || (op == CHV_FILES_RENAME && s->to.path[0] == '\0'))
        return chv_files_reply(s, 400, "the home and shared folders themselves cannot be made, removed or renamed");
    if (op == CHV_FILES_RENAME && s->at.home != s->to.home)
        return chv_files_reply(s, 409, "nothing can be renamed from the home to a shared folder, or between these");
    int dir = chv_files_open_parent(chv_files_home_fd(s->at.home), s->at.path);
    if (dir < 0)
        return chv_files_reply_errno(s, errno);
    const char *name = chv_files_path_name(s->at.path);
    int failed;
    switch (op) {
    case CHV_FILES_MKDIR:
        failed = mkdirat(dir, name, 0755) == 0 ? 0 : errno;
        break;
    case CHV_FILES_RMDIR:
        failed = do_rmdir(s, dir, name);
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
    if (failed == EEXIST && op == CHV_FILES_RENAME)
        return chv_files_reply(s, 409, "the new name exists already");
    return failed == 0 ? chv_files_reply(s, 200, "%s", "") : chv_files_reply_errno(s, failed);
}

/* 0 or errno. A folder stays one that its owner can use: nothing could be set back in it. */
static int do_set(struct chv_files_session *s)
{
    const struct chv_files_request *r = &s->request;
    const time_t seconds = (time_t)(r->mtime / 1000000000);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = seconds, .tv_nsec = (long)(r->mtime % 1000000000)}};
    struct chv_files_dir *dir = NULL;
    struct stat st;
    int failed = chv_files_dir_take(s, &s->at, &dir);
    if (failed != 0)
        return failed;
    const char *name = chv_files_path_name(s->at.path);
    /* Of a FIFO or a device the open itself could have an effect. */
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        failed = errno;
    else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        failed = S_ISLNK(st.st_mode) ? ELOOP : EPERM;
    int fd = failed == 0 ? chv_files_openat(dir->fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0) : -1;
    chv_files_dir_drop(dir);
    if (failed != 0 || fd < 0)
        return failed != 0 ? failed : errno;
    const mode_t mode = r->mode & CHV_FILES_MODE;
    if (fstat(fd, &st) != 0 || (r->has_mode && fchmod(fd, S_ISDIR(st.st_mode) ? mode | S_IRWXU : mode) != 0) ||
        (r->has_mtime && futimens(fd, times) != 0) || (s->root->durability != CHV_DURABILITY_NONE && fsync(fd) != 0))
        failed = errno;
    (void)close(fd);
    return failed;
}

static enum chv_err op_set(struct chv_files_session *s)
{
    if (s->at.path[0] == '\0')
        return chv_files_reply(s, 400, "the home and shared folders themselves stay as they are");
    int failed = do_set(s);
    return failed == 0 ? chv_files_reply(s, 200, "%s", "") : chv_files_reply_errno(s, failed);
}

/* Whether it may be begun; else it is answered. */
static enum chv_err begin(struct chv_files_session *s, const char *wrong, bool *begun)
{
    const struct chv_files_request *r = &s->request;
    *begun = false;
    if (wrong != NULL)
        return chv_files_reply(s, 400, "%s", wrong);
    if (r->op >= CHV_FILES_PUT && !s->write)
        return chv_files_reply(s, 403, "this client may only read: it has no scope 'files:rw'");
    if (s->home == NULL) {
        int failed = chv_files_home_open(s->root, s->id, &s->home);
        if (failed != 0)
            return chv_files_reply_errno(s, failed == ENOENT || failed == ENOTDIR ? EACCES : failed);
    }
    if (!chv_files_place_find(s, r->path, &s->at) || !chv_files_place_find(s, r->to, &s->to))
        return chv_files_reply(s, 404, "there is no such shared folder (names with @ in front are theirs)");
    if (r->op >= CHV_FILES_PUT && (!s->at.write || (r->op == CHV_FILES_RENAME && !s->to.write)))
        return chv_files_reply(s, 403, "this shared folder may only be read");
    *begun = true;
    return CHV_OK;
}

/* What changes a folder, or tells what is there, comes after the puts before it; a put may wait with these. */
static enum chv_err after_others(struct chv_files_session *s)
{
    if (s->request.op == CHV_FILES_PUT)
        return CHV_OK;
    if (s->request.op > CHV_FILES_PUT)
        chv_files_dir_forget(s);
    return chv_files_group_finish(s);
}

static enum chv_err do_request(struct chv_files_session *s)
{
    switch (s->request.op) {
    case CHV_FILES_LS:
        return chv_files_stream_ls(s);
    case CHV_FILES_GET:
        return chv_files_stream_get(s, CHV_FILES_TO_GET);
    case CHV_FILES_CHECKSUM:
        return chv_files_stream_get(s, CHV_FILES_TO_SUM);
    case CHV_FILES_STAT:
        return op_stat(s);
    case CHV_FILES_DF:
        return op_df(s);
    case CHV_FILES_PUT:
        return chv_files_put_begin(s);
    case CHV_FILES_STAT_PART:
        return chv_files_part_stat(s);
    case CHV_FILES_RM_PART:
        return chv_files_part_discard(s);
    case CHV_FILES_SET:
        return op_set(s);
    default:
        return op_entry(s);
    }
}

static void set_due(struct chv_files_session *s)
{
    if (atomic_load(&s->is_due))
        return;
    atomic_store(&s->due, s->request.id);
    atomic_store(&s->is_due, true);
}

static enum chv_err on_request(struct chv_files_session *s, const uint8_t *body, size_t len)
{
    const char *wrong = NULL;
    bool begun = false;
    if (s->putting)
        return CHV_ERR_PROTOCOL; /* inside a stream */
    enum chv_err err = chv_files_request_decode(body, len, &s->request, &wrong);
    if (err != CHV_OK)
        return err;
    set_due(s);
    s->putting = s->request.op == CHV_FILES_PUT;
    err = after_others(s);
    if (err == CHV_OK)
        err = begin(s, wrong, &begun);
    return err != CHV_OK || !begun ? err : do_request(s);
}

enum chv_err chv_files_session_record(struct chv_files_session *session, uint8_t type, const uint8_t *body, size_t len,
                                      struct chv_files_out *out)
{
    session->out = out;
    if (type == CHV_FILES_REQUEST)
        return on_request(session, body, len);
    if (!session->putting)
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

enum chv_err chv_files_session_rest(struct chv_files_session *session, struct chv_files_out *out)
{
    session->out = out;
    chv_files_dir_forget(session);
    return chv_files_group_finish(session);
}

bool chv_files_session_due(const struct chv_files_session *session, uint64_t *id)
{
    *id = atomic_load(&session->due);
    return atomic_load(&session->is_due);
}

void chv_files_session_told(struct chv_files_session *session)
{
    const bool due = session->stream.active || session->put != NULL || session->receipt_due;
    atomic_store(&session->due, session->request.id);
    atomic_store(&session->is_due, due);
}

enum chv_err chv_files_session_new(const struct chv_files_root *root, const char *id, bool write, uint32_t shares,
                                   struct chv_files_session **session)
{
    struct chv_files_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return CHV_ERR_MEMORY;
    s->root = root;
    s->write = write;
    s->shares = shares;
    s->stream.fd = -1;
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    *session = s;
    return CHV_OK;
}

void chv_files_session_free(struct chv_files_session *session)
{
    struct chv_files_out out = {.buf = NULL};
    if (session == NULL)
        return;
    /* What has come as a whole is stored, though nobody is told. */
    enum chv_err err = chv_files_session_rest(session, &out);
    (void)err;
    free(out.buf);
    chv_files_stream_end(session);
    chv_files_put_interrupt(session);
    chv_files_digest_free(session->digest);
    chv_files_home_close(session->home);
    free(session);
}
