/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last step of puts: each part gets its file's mode and time, goes to the disk, gets its name, and the folder goes to
 * the disk; then it is confirmed. Several small files go each of these steps together, which takes the disk much less
 * time.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/files_session_internal.h"

enum { GROUP_FILES = 64, GROUP_BYTES = 16 << 20 };

/* A part that a killed server leaves must be one that this user can open again, whatever the file's mode is. */
static unsigned part_mode(const struct chv_files_put *put)
{
    return (put->request.mode & CHV_FILES_MODE) | S_IRUSR | S_IWUSR;
}

static int set_meta(const struct chv_files_put *put)
{
    const uint64_t mtime = put->request.mtime;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = (time_t)(mtime / 1000000000), .tv_nsec = (long)(mtime % 1000000000)}};
    return fchmod(put->fd, part_mode(put)) == 0 && futimens(put->fd, times) == 0 ? 0 : errno;
}

/* The name, in place of a file or link that has it. */
static int give_name(const struct chv_files_put *put)
{
    uint64_t replaced;
    int failed = chv_files_put_replaces(put, &replaced);
    if (failed != 0)
        return failed;
    if (renameat(put->dir->fd, put->part, put->dir->fd, put->name) != 0)
        return errno;
    chv_files_home_give(put->home, replaced);
    return 0;
}

/* What part_mode has too much goes, now that it is no part. */
static int set_mode(const struct chv_files_put *put, bool sync)
{
    const unsigned mode = put->request.mode & CHV_FILES_MODE;
    if (mode == part_mode(put))
        return 0;
    return fchmod(put->fd, mode) == 0 && (!sync || fsync(put->fd) == 0) ? 0 : errno;
}

/* Once for all files of a folder. */
static int sync_folder(struct chv_files_dir *dir)
{
    if (!dir->synced)
        dir->failed = fsync(dir->fd) == 0 ? 0 : errno;
    dir->synced = true;
    return dir->failed;
}

static void store(struct chv_files_put *first, bool sync)
{
    for (struct chv_files_put *p = first; p != NULL; p = p->next)
        p->failed = set_meta(p);
    /* All of them on their way before one is waited for: then the file system commits once, not for each. */
    for (struct chv_files_put *p = first; sync && first->next != NULL && p != NULL; p = p->next)
        (void)sync_file_range(p->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    for (struct chv_files_put *p = first; sync && p != NULL; p = p->next)
        if (p->failed == 0 && fsync(p->fd) != 0)
            p->failed = errno;
    for (struct chv_files_put *p = first; p != NULL; p = p->next) {
        if (p->failed == 0)
            p->failed = give_name(p);
        p->begun = p->failed != 0; /* else there is no part any more */
        p->dir->synced = false;
    }
}

/* Answers, in order; frees. */
static enum chv_err confirm(struct chv_files_session *s, struct chv_files_put *first, bool sync)
{
    enum chv_err err = CHV_OK;
    struct chv_files_put *next;
    for (struct chv_files_put *p = first; p != NULL; p = next) {
        next = p->next;
        const bool named = !p->begun;
        if (named) /* it is stored, whatever the disk says of mode and folder */
            p->failed = set_mode(p, sync);
        if (named && sync && p->failed == 0)
            p->failed = sync_folder(p->dir);
        if (err == CHV_OK)
            err = chv_files_reply_put(s, p, p->failed);
        if (named)
            chv_files_put_free(p);
        else
            chv_files_put_undo(p);
    }
    return err;
}

enum chv_err chv_files_group_finish(struct chv_files_session *s)
{
    struct chv_files_put *first = s->group.first;
    const bool sync = s->root->durability != CHV_DURABILITY_NONE;
    s->group = (struct chv_files_group){.first = NULL};
    if (first == NULL)
        return CHV_OK;
    store(first, sync);
    return confirm(s, first, sync);
}

enum chv_err chv_files_group_add(struct chv_files_session *s, struct chv_files_put *put)
{
    struct chv_files_group *group = &s->group;
    if (group->first == NULL)
        group->end = &group->first;
    put->next = NULL;
    *group->end = put;
    group->end = &put->next;
    group->count++;
    group->bytes += put->got;
    const bool waits = s->root->durability == CHV_DURABILITY_BATCH && !put->request.receipt &&
                       group->count < GROUP_FILES && group->bytes < GROUP_BYTES;
    return waits ? CHV_OK : chv_files_group_finish(s);
}
