/* SPDX-License-Identifier: Apache-2.0 */
/* A file on its way in: a hidden file beside its name until all of it has come and was verified. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/files_session_internal.h"

enum { HOLE_MIN = 4096 };

void chv_files_put_free(struct chv_files_put *put)
{
    if (put->fd >= 0)
        (void)close(put->fd);
    chv_files_dir_drop(put->dir);
    free(put);
}

void chv_files_put_undo(struct chv_files_put *put)
{
    if (put == NULL)
        return;
    if (put->fd >= 0 && (put->begun || put->old == 0)) {
        (void)unlinkat(put->dir->fd, put->part, 0); /* ours: we hold its lock */
        chv_files_home_give(put->home, put->taken);
    }
    chv_files_put_free(put);
}

void chv_files_put_interrupt(struct chv_files_session *s)
{
    struct chv_files_put *put = s->put;
    s->put = NULL;
    if (put != NULL && put->keep && put->begun && put->got > 0)
        chv_files_put_free(put);
    else
        chv_files_put_undo(put);
}

/* Answers early: the rest of the stream is thrown away. */
static void give_up(struct chv_files_session *s)
{
    chv_files_put_undo(s->put);
    s->put = NULL;
}

static enum chv_err fail(struct chv_files_session *s, int error)
{
    give_up(s);
    return chv_files_reply_errno(s, error);
}

int chv_files_put_replaces(const struct chv_files_put *put, uint64_t *size)
{
    struct stat st;
    *size = 0;
    if (fstatat(put->dir->fd, put->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (S_ISREG(st.st_mode) && st.st_nlink == 1)
        *size = (uint64_t)st.st_size;
    return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : EEXIST;
}

static enum chv_err reply_large(struct chv_files_session *s, uint64_t size)
{
    const unsigned long long most = s->root->max_size;
    if (size <= most)
        return chv_files_reply(s, 413, "it is larger than the %llu bytes that this server takes", most);
    return chv_files_reply(s, 413, "%llu bytes are more than the %llu that this server takes", (unsigned long long)size,
                           most);
}

/* --- its beginning ------------------------------------------------------------------------------------------------- */

/* What this connection has sent before may hold the name's lock, or room that it will give back. */
static int open_part(struct chv_files_session *s, enum chv_err *err)
{
    struct chv_files_put *put = s->put;
    const bool make = put->request.offset == 0;
    int failed = chv_files_part_open(put->dir->fd, put->part, make, &put->fd, &put->old);
    if (failed == EBUSY && s->group.count > 0) {
        *err = chv_files_group_finish(s);
        failed = chv_files_part_open(put->dir->fd, put->part, make, &put->fd, &put->old);
    }
    return failed;
}

/* Of a file whose size is not known yet the next record finds it out. */
static bool has_room(const struct chv_files_put *put)
{
    const uint64_t size = put->request.no_size ? 0 : put->request.size;
    return size <= put->old || size - put->old <= chv_files_home_left(put->home);
}

static enum chv_err check_room(struct chv_files_session *s, bool *fits)
{
    enum chv_err err = CHV_OK;
    *fits = has_room(s->put);
    if (!*fits && s->group.count > 0) {
        err = chv_files_group_finish(s);
        *fits = has_room(s->put);
    }
    if (*fits || err != CHV_OK)
        return err;
    give_up(s);
    return chv_files_reply(s, 507, "%llu bytes are more than the quota of this client leaves",
                           (unsigned long long)s->request.size);
}

/* From here on the part has the first `offset` bytes of this put, and none of another. */
static enum chv_err take_part(struct chv_files_session *s)
{
    struct chv_files_put *put = s->put;
    const uint64_t offset = put->request.offset;
    put->begun = true;
    put->taken = put->old;
    if (put->old > offset && ftruncate(put->fd, (off_t)offset) != 0)
        return fail(s, errno);
    chv_files_home_give(put->home, put->old - offset);
    put->got = put->taken = offset;
    struct chv_files_answer answer = {.has_meta = false};
    return put->request.has_offset || put->request.no_size ? chv_files_reply_with(s, &answer, CHV_FILES_CONTINUE, NULL)
                                                           : CHV_OK;
}

enum chv_err chv_files_put_verified(struct chv_files_session *s, int failed)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    if (failed != 0)
        return fail(s, failed);
    enum chv_err err = chv_files_digest_peek(s->digest, digest);
    if (err != CHV_OK)
        return err;
    if (memcmp(digest, s->put->request.prefix, sizeof digest) == 0)
        return take_part(s);
    give_up(s);
    return chv_files_reply(s, 412, "what is here of it has another SHA-256");
}

static enum chv_err begin_content(struct chv_files_session *s)
{
    struct chv_files_put *put = s->put;
    enum chv_err err = chv_files_begin_digest(s);
    if (err != CHV_OK)
        return err;
    if (put->old < put->request.offset) {
        const uint64_t old = put->old;
        give_up(s);
        return chv_files_reply(s, 416, "only %llu bytes of it are here", (unsigned long long)old);
    }
    return put->request.has_offset ? chv_files_stream_part(s, put->fd, put->request.offset) : take_part(s);
}

static int new_put(struct chv_files_session *s)
{
    struct chv_files_put *put = calloc(1, sizeof *put);
    if (put == NULL)
        return ENOMEM;
    put->fd = -1;
    put->home = s->at.home;
    put->keep = s->request.resume && s->root->part_keep > 0;
    put->request = s->request;
    s->put = put;
    int failed = chv_files_dir_take(s, &s->at, &put->dir);
    if (failed != 0)
        return failed;
    (void)snprintf(put->name, sizeof put->name, "%s", chv_files_path_name(s->at.path));
    return chv_files_part_name(put->name, put->part) ? 0 : ENOMEM;
}

enum chv_err chv_files_put_begin(struct chv_files_session *s)
{
    const struct chv_files_request *r = &s->request;
    enum chv_err err = CHV_OK;
    uint64_t replaced;
    bool fits = false;
    if (s->at.path[0] == '\0')
        return chv_files_reply(s, 400, "a put needs the name of a file");
    if (r->receipt && !s->root->receipts)
        return chv_files_reply(s, 501, "this server signs no receipts: nothing was stored");
    if (s->root->max_size != 0 && r->size > s->root->max_size)
        return reply_large(s, r->size);
    int failed = new_put(s);
    if (failed == 0)
        failed = chv_files_put_replaces(s->put, &replaced);
    if (failed == 0)
        failed = open_part(s, &err);
    if (err != CHV_OK)
        return err;
    if (failed == ENOENT && r->offset > 0) {
        give_up(s);
        return chv_files_reply(s, 416, "nothing of it is here");
    }
    if (failed != 0)
        return fail(s, failed);
    err = check_room(s, &fits);
    return err != CHV_OK || !fits ? err : begin_content(s);
}

/* --- its content --------------------------------------------------------------------------------------------------- */

/* Such a record is not written: the file stays as sparse as it was. */
static bool is_hole(const uint8_t *data, size_t len)
{
    return len >= HOLE_MIN && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

enum chv_err chv_files_put_data(struct chv_files_session *s, const uint8_t *data, size_t len)
{
    struct chv_files_put *put = s->put;
    if (put == NULL)
        return CHV_OK;
    const uint64_t most = !put->request.no_size    ? put->request.size
                          : s->root->max_size != 0 ? s->root->max_size
                                                   : INT64_MAX;
    if (put->got > most || len > most - put->got) {
        const bool announced = !put->request.no_size;
        give_up(s);
        return announced ? chv_files_reply(s, 400, "more bytes came than were announced") : reply_large(s, most);
    }
    if (!chv_files_home_take(put->home, len)) {
        give_up(s);
        return chv_files_reply(s, 507, "the quota of this client is used up");
    }
    put->taken += len;
    int failed = 0;
    if (!is_hole(data, len))
        failed = chv_files_write_all(put->fd, data, len, put->got);
    else if (ftruncate(put->fd, (off_t)(put->got + len)) != 0)
        failed = errno;
    if (failed != 0)
        return fail(s, failed);
    put->got += len;
    return chv_files_digest_add(s->digest, data, len);
}

enum chv_err chv_files_put_end(struct chv_files_session *s, const uint8_t *digest, size_t len)
{
    struct chv_files_put *put = s->put;
    s->putting = false;
    if (put == NULL)
        return CHV_OK; /* answered */
    const char *wrong = NULL;
    enum chv_err err = chv_files_digest_finish(s->digest, put->digest);
    if (err != CHV_OK)
        return err;
    if (len == 0)
        wrong = "the client gave it up";
    else if (!put->request.no_size && put->got != put->request.size)
        wrong = "fewer bytes came than were announced";
    else if (memcmp(put->digest, digest, CHV_FILES_DIGEST_LEN) != 0)
        wrong = "the SHA-256 of what came is another one";
    if (wrong != NULL) {
        give_up(s);
        return chv_files_reply(s, 400, "%s: nothing was stored", wrong);
    }
    s->put = NULL;
    return chv_files_group_add(s, put);
}

/* --- what an interrupted one has left ------------------------------------------------------------------------------- */

/* The part of the request's path: its folder, one user more, and its name. */
static int find_part(struct chv_files_session *s, struct chv_files_dir **dir, char part[CHV_FILES_PART_SIZE])
{
    if (s->at.path[0] == '\0')
        return ENOENT;
    int failed = chv_files_dir_take(s, &s->at, dir);
    if (failed == 0 && !chv_files_part_name(chv_files_path_name(s->at.path), part))
        failed = ENOMEM;
    return failed;
}

static enum chv_err reply_part(struct chv_files_session *s, struct chv_files_answer *answer, int failed)
{
    if (failed == ENOENT)
        return chv_files_reply(s, 404, "no interrupted put has left anything of it");
    return failed != 0 ? chv_files_reply_errno(s, failed) : chv_files_reply_with(s, answer, 200, NULL);
}

enum chv_err chv_files_part_stat(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = true};
    struct chv_files_dir *dir = NULL;
    char part[CHV_FILES_PART_SIZE];
    struct stat st;
    int failed = find_part(s, &dir, part);
    if (failed == 0 && fstatat(dir->fd, part, &st, AT_SYMLINK_NOFOLLOW) != 0)
        failed = errno;
    if (failed == 0 && (!S_ISREG(st.st_mode) || st.st_size == 0))
        failed = ENOENT;
    chv_files_dir_drop(dir);
    if (failed == 0)
        chv_files_meta_of(&st, &answer.meta);
    return reply_part(s, &answer, failed);
}

enum chv_err chv_files_part_discard(struct chv_files_session *s)
{
    struct chv_files_answer answer = {.has_meta = false};
    struct chv_files_dir *dir = NULL;
    char part[CHV_FILES_PART_SIZE];
    int failed = find_part(s, &dir, part);
    if (failed == 0)
        failed = chv_files_part_remove(s->at.home, dir->fd, part, 0);
    chv_files_dir_drop(dir);
    return reply_part(s, &answer, failed);
}
