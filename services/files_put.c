/* SPDX-License-Identifier: Apache-2.0 */
/* A file on its way in: a hidden file beside its name until all of it has come and was verified. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "services/files_session_internal.h"

enum { LOCK_TRIES = 8 };

static void close_all(struct chv_files_put *put)
{
    if (put->fd >= 0)
        (void)close(put->fd);
    if (put->dir >= 0)
        (void)close(put->dir);
    put->fd = put->dir = -1;
}

void chv_files_put_undo(struct chv_files_session *s)
{
    struct chv_files_put *put = &s->put;
    if (put->fd >= 0) {
        (void)unlinkat(put->dir, put->part, 0); /* ours: we hold its lock */
        chv_files_home_give(s->home, put->taken);
    }
    close_all(put);
}

/* Answers early: the rest of the stream is thrown away. */
static enum chv_err fail(struct chv_files_session *s, int error)
{
    chv_files_put_undo(s);
    s->put.discard = true;
    return chv_files_reply_errno(s, error);
}

/*
 * Opens the part and locks it. Another put of the name may have renamed it, to its final name, between the two steps:
 * what is locked must still be called so.
 */
static int open_part(struct chv_files_put *put)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat locked, named;
        int fd = chv_files_openat(put->dir, put->part, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
        if (fd < 0)
            return errno;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int failed = errno == EWOULDBLOCK ? EBUSY : errno;
            (void)close(fd);
            return failed;
        }
        if (fstat(fd, &locked) == 0 && fstatat(put->dir, put->part, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
            put->fd = fd;
            return ftruncate(fd, 0) == 0 ? 0 : errno; /* what a killed server left */
        }
        (void)close(fd);
    }
    return EBUSY;
}

/* Bytes of the file that will be replaced; errno if it is none. */
static int replaced_size(const struct chv_files_put *put, uint64_t *size)
{
    struct stat st;
    *size = 0;
    if (fstatat(put->dir, put->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (S_ISREG(st.st_mode) && st.st_nlink == 1)
        *size = (uint64_t)st.st_size;
    return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : EEXIST;
}

enum chv_err chv_files_put_begin(struct chv_files_session *s)
{
    struct chv_files_put *put = &s->put;
    const struct chv_files_request *r = &s->request;
    uint64_t old;
    put->got = put->taken = 0;
    if (r->path[0] == '\0')
        return chv_files_reply(s, 400, "a put needs the name of a file");
    if (r->receipt && !s->root->receipts)
        return chv_files_reply(s, 501, "this server signs no receipts: nothing was stored");
    if (s->root->max_size != 0 && r->size > s->root->max_size)
        return chv_files_reply(s, 413, "%llu bytes are more than the %llu that this server takes",
                               (unsigned long long)r->size, (unsigned long long)s->root->max_size);
    if (r->size > chv_files_home_left(s->home))
        return chv_files_reply(s, 507, "%llu bytes are more than the quota of this client leaves",
                               (unsigned long long)r->size);
    put->dir = chv_files_open_parent(chv_files_home_fd(s->home), r->path);
    if (put->dir < 0)
        return fail(s, errno);
    (void)snprintf(put->name, sizeof put->name, "%s", chv_files_path_name(r->path));
    if (!chv_files_part_name(put->name, put->part))
        return fail(s, ENOMEM);
    int failed = replaced_size(put, &old);
    if (failed == 0)
        failed = open_part(put);
    if (failed != 0)
        return fail(s, failed);
    enum chv_err err = chv_files_begin_digest(s);
    put->discard = err != CHV_OK;
    return err;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

enum chv_err chv_files_put_data(struct chv_files_session *s, const uint8_t *data, size_t len)
{
    struct chv_files_put *put = &s->put;
    if (put->discard)
        return CHV_OK;
    if (len > s->request.size - put->got) {
        chv_files_put_undo(s);
        put->discard = true;
        return chv_files_reply(s, 400, "more bytes came than were announced");
    }
    if (!chv_files_home_take(s->home, len)) {
        chv_files_put_undo(s);
        put->discard = true;
        return chv_files_reply(s, 507, "the quota of this client is used up");
    }
    put->taken += len;
    put->got += len;
    int failed = write_all(put->fd, data, len);
    return failed == 0 ? chv_files_digest_add(s->digest, data, len) : fail(s, failed);
}

/* All of it is there: under its name, with its mode and time, and on the disk. */
static int finish(struct chv_files_session *s)
{
    struct chv_files_put *put = &s->put;
    const uint64_t mtime = s->request.mtime;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = (time_t)(mtime / 1000000000), .tv_nsec = (long)(mtime % 1000000000)}};
    uint64_t old;
    if (fchmod(put->fd, s->request.mode & CHV_FILES_MODE) != 0 || futimens(put->fd, times) != 0)
        return errno;
    if (s->root->fsync && fsync(put->fd) != 0)
        return errno;
    int failed = replaced_size(put, &old);
    if (failed != 0)
        return failed;
    if (renameat(put->dir, put->part, put->dir, put->name) != 0)
        return errno;
    chv_files_home_give(s->home, old);
    failed = s->root->fsync && fsync(put->dir) != 0 ? errno : 0;
    close_all(put); /* it is stored, whatever the disk says of the folder */
    return failed;
}

enum chv_err chv_files_put_end(struct chv_files_session *s, const uint8_t *digest, size_t len)
{
    struct chv_files_put *put = &s->put;
    struct chv_files_answer answer = {.has_digest = true};
    put->active = false;
    if (put->discard)
        return CHV_OK; /* answered */
    const char *wrong = NULL;
    enum chv_err err = chv_files_digest_finish(s->digest, answer.digest);
    if (err != CHV_OK)
        return err;
    if (len == 0)
        wrong = "the client gave it up";
    else if (put->got != s->request.size)
        wrong = "fewer bytes came than were announced";
    else if (memcmp(answer.digest, digest, CHV_FILES_DIGEST_LEN) != 0)
        wrong = "the SHA-256 of what came is another one";
    if (wrong != NULL) {
        chv_files_put_undo(s);
        return chv_files_reply(s, 400, "%s: nothing was stored", wrong);
    }
    int failed = finish(s);
    return failed == 0 ? chv_files_put_stored(s, &answer, put->got) : fail(s, failed);
}
