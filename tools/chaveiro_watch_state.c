/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tools/chaveiro_watch_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "tools/chaveiro_watch_journal.h"

enum { PART_SIZE = sizeof CHV_FILES_PART + CHV_PUSH_ID_TEXT, READ_STEP = 256 << 10 };

static void part_name(const uint8_t id[CHV_PUSH_ID_LEN], char out[PART_SIZE])
{
    char text[CHV_PUSH_ID_TEXT];
    chv_push_id_text(id, text);
    (void)snprintf(out, PART_SIZE, "%s%s", CHV_FILES_PART, text);
}

int chaveiro_watch_part(const struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN])
{
    char name[PART_SIZE];
    part_name(id, name);
    if (unlinkat(state->dir, name, 0) != 0 && errno != ENOENT) /* of a connection that was lost */
        return -1;
    return openat(state->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

void chaveiro_watch_drop(const struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN])
{
    char name[PART_SIZE];
    part_name(id, name);
    (void)unlinkat(state->dir, name, 0);
}

bool chaveiro_watch_taken(const struct chaveiro_watch_state *state, const char *name)
{
    struct stat st;
    return fstatat(state->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

void chaveiro_watch_refuse(struct chaveiro_watch_file *file, int failed)
{
    file->code = failed == EEXIST                                         ? 409
                 : failed == ENOSPC || failed == EDQUOT                   ? 507
                 : failed == EFBIG                                        ? 413
                 : failed == EILSEQ || failed == ENAMETOOLONG             ? 400
                 : failed == EACCES || failed == EPERM || failed == EROFS ? 403
                                                                          : 500;
    const char *text = failed == EEXIST   ? "another file of that name is there, and nothing is replaced"
                       : failed == EINVAL ? "the client's file system cannot rename without replacing"
                                          : strerrordesc_np(failed);
    (void)snprintf(file->text, sizeof file->text, "%s", text);
}

/* --- starting ------------------------------------------------------------------------------------------------------ */

/* The part is what was to get the name. */
static bool part_is(int fd, const uint8_t sha256[CHV_FILES_DIGEST_LEN])
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    struct chv_files_digest *d = NULL;
    uint8_t *buf = malloc(READ_STEP);
    bool same = buf != NULL && chv_files_digest_new(&d) == CHV_OK;
    ssize_t n = 1;
    while (same && n > 0) {
        n = read(fd, buf, READ_STEP);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        same = n >= 0 && chv_files_digest_add(d, buf, (size_t)n) == CHV_OK;
    }
    same = same && chv_files_digest_finish(d, digest) == CHV_OK && memcmp(digest, sha256, sizeof digest) == 0;
    chv_files_digest_free(d);
    free(buf);
    return same;
}

/* *kept: it has its name, now or since long. */
static enum chv_err recover_one(const struct chaveiro_watch_state *s, const struct chaveiro_watch_intent *intent,
                                bool *kept, bool *now, struct chv_why *why)
{
    char part[PART_SIZE];
    part_name(intent->id, part);
    *now = false;
    int fd = openat(s->dir, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *kept = true;
        return CHV_OK;
    }
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s/%s: %s", s->folder, part, strerror(errno));
    *kept = part_is(fd, intent->sha256);
    (void)close(fd);
    if (!*kept)
        return CHV_OK;
    *kept = *now = renameat2(s->dir, part, s->dir, intent->name, RENAME_NOREPLACE) == 0;
    if (!*kept && errno != EEXIST)
        return chv_fail(why, CHV_ERR_IO, "%s/%s: %s", s->folder, intent->name, strerror(errno));
    return CHV_OK;
}

static enum chv_err recover(struct chaveiro_watch_state *s,
                            void (*renamed)(const struct chaveiro_watch_intent *intent, void *arg), void *arg,
                            struct chv_why *why)
{
    size_t kept_count = 0;
    for (size_t i = 0; i < s->count; i++) {
        bool kept = false, now = false;
        enum chv_err err = recover_one(s, &s->intents[i], &kept, &now, why);
        if (err != CHV_OK)
            return err;
        if (now)
            renamed(&s->intents[i], arg);
        if (kept)
            s->intents[kept_count++] = s->intents[i];
    }
    s->count = kept_count;
    if (fsync(s->dir) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", s->folder, strerror(errno));
    return CHV_OK;
}

/* No intent has a part any more: those that are there were never whole, or had no name to get. */
static enum chv_err sweep(const struct chaveiro_watch_state *s, struct chv_why *why)
{
    uint8_t id[CHV_PUSH_ID_LEN];
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        enum chv_err err = chv_fail(why, CHV_ERR_IO, "%s: %s", s->folder, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        if (strncmp(e->d_name, CHV_FILES_PART, strlen(CHV_FILES_PART)) == 0 &&
            chv_push_id_parse(e->d_name + strlen(CHV_FILES_PART), id))
            (void)unlinkat(s->dir, e->d_name, 0);
    (void)closedir(dir);
    return CHV_OK;
}

static enum chv_err take_folder(const char *folder, struct chaveiro_watch_state *s, struct chv_why *why)
{
    s->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", folder, strerror(errno));
    const bool made = mkdirat(s->dir, CHV_PUSH_STATE, 0700) == 0;
    if (made || errno == EEXIST)
        s->own = openat(s->dir, CHV_PUSH_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->own >= 0)
        s->lock = openat(s->own, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (s->lock < 0)
        return chv_fail(why, CHV_ERR_IO, "%s/" CHV_PUSH_STATE ": %s", folder, strerror(errno));
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? chv_fail(why, CHV_ERR_BUSY, "%s: another 'chaveiro watch' is at work in this folder", folder)
                   : chv_fail(why, CHV_ERR_IO, "%s/" CHV_PUSH_STATE ": %s", folder, strerror(errno));
    return CHV_OK;
}

enum chv_err chaveiro_watch_open(const char *folder, struct chaveiro_watch_state *state,
                                 void (*renamed)(const struct chaveiro_watch_intent *intent, void *arg), void *arg,
                                 struct chv_why *why)
{
    memset(state, 0, sizeof *state);
    state->folder = folder;
    state->dir = state->own = state->lock = state->journal = -1;
    enum chv_err err = take_folder(folder, state, why);
    if (err == CHV_OK)
        err = chaveiro_journal_read(state, why);
    const size_t read = state->count;
    if (err == CHV_OK)
        err = recover(state, renamed, arg, why);
    if (err == CHV_OK && state->who[0] != '\0')
        err = state->count == read ? chaveiro_journal_go_on(state, why) : chaveiro_journal_rewrite(state, why);
    return err == CHV_OK ? sweep(state, why) : err;
}

void chaveiro_watch_close(struct chaveiro_watch_state *state)
{
    const int fds[] = {state->journal, state->lock, state->own, state->dir};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    free(state->intents);
    state->intents = NULL;
}

enum chv_err chaveiro_watch_bind(struct chaveiro_watch_state *state, const char *who, struct chv_why *why)
{
    if (strcmp(state->who, who) == 0)
        return CHV_OK;
    if (state->who[0] != '\0')
        return chv_fail(why, CHV_ERR_CONFIG,
                        "%s: is the folder of server and client '%s', not of '%s': give another folder", state->folder,
                        state->who, who);
    (void)snprintf(state->who, sizeof state->who, "%s", who);
    enum chv_err err = chaveiro_journal_rewrite(state, why);
    if (err == CHV_OK && fsync(state->dir) != 0) /* the state folder's own name */
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", state->folder, strerror(errno));
    return err;
}

const struct chaveiro_watch_intent *chaveiro_watch_find(const struct chaveiro_watch_state *state,
                                                        const uint8_t id[CHV_PUSH_ID_LEN])
{
    for (size_t i = 0; i < state->count; i++)
        if (memcmp(state->intents[i].id, id, CHV_PUSH_ID_LEN) == 0)
            return &state->intents[i];
    return NULL;
}

/* --- files --------------------------------------------------------------------------------------------------------- */

/* The contents are on the disk, with mode and time. */
static int finish_part(const struct chaveiro_watch_file *file)
{
    const uint64_t mtime = file->entry.mtime;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = (time_t)(mtime / 1000000000), .tv_nsec = (long)(mtime % 1000000000)}};
    if (fchmod(file->fd, file->entry.mode & CHV_PUSH_MODE) != 0 || futimens(file->fd, times) != 0 ||
        fsync(file->fd) != 0)
        return errno;
    return 0;
}

static int rename_part(const struct chaveiro_watch_state *s, const struct chv_push_entry *entry)
{
    char part[PART_SIZE];
    part_name(entry->id, part);
    return renameat2(s->dir, part, s->dir, entry->name, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

/* Their intents are on the disk: now the names. */
static enum chv_err rename_all(struct chaveiro_watch_state *s, struct chaveiro_watch_file *files, size_t n,
                               struct chv_why *why)
{
    size_t aborted = 0;
    for (size_t i = 0; i < n; i++) {
        int failed = files[i].code == 200 ? rename_part(s, &files[i].entry) : 0;
        if (failed != 0) {
            chaveiro_watch_refuse(&files[i], failed);
            aborted++;
        }
    }
    if (fsync(s->dir) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", s->folder, strerror(errno));
    return aborted > 0 ? chaveiro_journal_abort(s, files, n, why) : CHV_OK;
}

enum chv_err chaveiro_watch_commit(struct chaveiro_watch_state *state, struct chaveiro_watch_file *files, size_t n,
                                   struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    for (size_t i = 0; i < n; i++) {
        int failed = finish_part(&files[i]);
        files[i].code = 200;
        if (failed != 0)
            chaveiro_watch_refuse(&files[i], failed);
        (void)close(files[i].fd);
        files[i].fd = -1;
    }
    if (fsync(state->dir) != 0) /* an intent's part has its name before the intent is there */
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", state->folder, strerror(errno));
    if (err == CHV_OK)
        err = chaveiro_journal_intend(state, files, n, why);
    if (err == CHV_OK)
        err = rename_all(state, files, n, why);
    for (size_t i = 0; i < n && err == CHV_OK; i++)
        if (files[i].code != 200)
            chaveiro_watch_drop(state, files[i].entry.id);
    return err;
}
