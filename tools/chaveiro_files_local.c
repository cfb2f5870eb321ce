/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local files that come: hidden beside their name until all of them is there. Nothing outside of the folder that the user
 * named is reached, whatever the server calls its files and whoever puts a symbolic link there.
 */
#include "config.h"

#include "tools/chaveiro_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "services/files_home.h"

enum { LOCK_TRIES = 8, PART_BYTES = 8 };

/* --- folders ------------------------------------------------------------------------------------------------------- */

struct chaveiro_base *chaveiro_base_open(const char *folder)
{
    struct chaveiro_base *base = calloc(1, sizeof *base);
    if (base == NULL)
        return NULL;
    base->users = 1;
    base->fd = open(folder[0] != '\0' ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    base->shown = strdup(strcmp(folder, ".") != 0 ? folder : "");
    if (base->fd >= 0 && base->shown != NULL)
        return base;
    const int failed = base->fd < 0 ? errno : ENOMEM;
    chaveiro_base_free(base);
    errno = failed;
    return NULL;
}

struct chaveiro_base *chaveiro_base_use(struct chaveiro_base *base)
{
    base->users++;
    return base;
}

void chaveiro_base_free(struct chaveiro_base *base)
{
    if (base == NULL || --base->users > 0)
        return;
    if (base->fd >= 0)
        (void)close(base->fd);
    free(base->shown);
    free(base);
}

char *chaveiro_base_path(const struct chaveiro_base *base, const char *name)
{
    const size_t len = strlen(base->shown), size = len + strlen(name) + 2;
    char *path = malloc(size);
    if (path != NULL)
        (void)snprintf(path, size, "%s%s%s", base->shown, len > 0 && base->shown[len - 1] != '/' ? "/" : "", name);
    return path;
}

/* --- files --------------------------------------------------------------------------------------------------------- */

const char *chaveiro_local_error(int error)
{
    switch (error) {
    case EBUSY:
        return "another program is fetching it";
    case ELOOP:
        return "a symbolic link stands in the way: they are not followed here";
    case EXDEV:
        return "this leads out of the folder";
    case EEXIST:
        return "what has this name is no regular file";
    case EPERM:
        return "what an interrupted transfer has left beside it is somebody else's";
    default:
        return strerror(error);
    }
}

/* The same for the same name, so that the next run finds it. */
static bool part_name(const char *name, char out[sizeof CHAVEIRO_PART + 2 * PART_BYTES])
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    struct chv_files_digest *d = NULL;
    const bool made = chv_files_digest_new(&d) == CHV_OK && chv_files_digest_add(d, name, strlen(name)) == CHV_OK &&
                      chv_files_digest_finish(d, digest) == CHV_OK;
    chv_files_digest_free(d);
    if (!made)
        return false;
    memcpy(out, CHAVEIRO_PART, strlen(CHAVEIRO_PART));
    chv_hex_encode(digest, PART_BYTES, out + strlen(CHAVEIRO_PART));
    return true;
}

/* 0, or errno: what stands at the name cannot be replaced. sftp would write into it, so it has to be writable. */
static int replaceable(const struct chaveiro_part *part)
{
    struct stat st;
    if (fstatat(part->dir, part->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (S_ISLNK(st.st_mode))
        return 0;
    if (!S_ISREG(st.st_mode))
        return EEXIST;
    return faccessat(part->dir, part->name, W_OK, AT_EACCESS) == 0 ? 0 : errno;
}

/* One that was complete, with a mode that lets nobody write, and lacked only its name. */
static bool remove_own(const struct chaveiro_part *part)
{
    struct stat st;
    return fstatat(part->dir, part->part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           st.st_uid == geteuid() && unlinkat(part->dir, part->part, 0) == 0;
}

/*
 * Opens the part and locks it. Another run may have renamed it, to its final name, between the two steps: what is locked
 * must still be called so. In a folder that others write to it may be theirs.
 */
static int open_part(struct chaveiro_part *part)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat locked, named;
        const int fd = openat(part->dir, part->part, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EACCES && remove_own(part))
            continue;
        if (fd < 0)
            return errno;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            const int failed = errno == EWOULDBLOCK ? EBUSY : errno;
            (void)close(fd);
            return failed;
        }
        if (fstat(fd, &locked) == 0 && fstatat(part->dir, part->part, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
            if (!S_ISREG(locked.st_mode) || locked.st_uid != geteuid() || locked.st_nlink != 1) {
                (void)close(fd);
                return EPERM;
            }
            part->fd = fd;
            return 0;
        }
        (void)close(fd);
    }
    return EBUSY;
}

int chaveiro_part_open(struct chaveiro_part *part, const struct chaveiro_base *base, const char *name, bool keep,
                       uint64_t *size)
{
    struct stat st;
    const char *last = chv_files_path_name(name);
    part->fd = part->dir = -1;
    if (strlen(last) > CHV_FILES_NAME_MAX)
        return ENAMETOOLONG;
    (void)snprintf(part->name, sizeof part->name, "%s", last);
    if (last == name)
        part->dir = fcntl(base->fd, F_DUPFD_CLOEXEC, 3);
    else
        part->dir = chv_files_open_parent(base->fd, name);
    if (part->dir < 0)
        return errno;
    int failed = part_name(part->name, part->part) ? replaceable(part) : ENOMEM;
    if (failed == 0)
        failed = open_part(part);
    if (failed == 0 && !keep && ftruncate(part->fd, 0) != 0)
        failed = errno;
    if (failed == 0 && fstat(part->fd, &st) != 0)
        failed = errno;
    if (failed != 0) {
        chaveiro_part_close(part, false);
        return failed;
    }
    *size = (uint64_t)st.st_size;
    return 0;
}

int chaveiro_part_old(const struct chaveiro_part *part, uint64_t *size)
{
    struct stat st;
    const int fd = openat(part->dir, part->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *size = (uint64_t)st.st_size;
        return fd;
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

int chaveiro_part_commit(struct chaveiro_part *part, const struct chv_files_meta *meta, mode_t mask, bool fsync_it)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(meta->mtime / 1000000000), .tv_nsec = (long)(meta->mtime % 1000000000)}};
    int failed = replaceable(part);
    if (failed != 0)
        return failed;
    if (fchmod(part->fd, (mode_t)meta->mode & CHV_FILES_MODE & ~mask) != 0 || futimens(part->fd, times) != 0 ||
        (fsync_it && fsync(part->fd) != 0) || renameat(part->dir, part->part, part->dir, part->name) != 0)
        return errno;
    (void)close(part->fd);
    part->fd = -1;
    failed = fsync_it && fsync(part->dir) != 0 ? errno : 0;
    chaveiro_part_close(part, false);
    return failed;
}

void chaveiro_part_close(struct chaveiro_part *part, bool remove)
{
    if (part->fd >= 0 && remove)
        (void)unlinkat(part->dir, part->part, 0); /* ours: we hold its lock */
    if (part->fd >= 0)
        (void)close(part->fd);
    if (part->dir >= 0)
        (void)close(part->dir);
    part->fd = part->dir = -1;
}
