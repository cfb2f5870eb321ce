/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/files_part.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/encode.h"
#include "services/files_digest.h"

enum { PART_BYTES = 8, LOCK_TRIES = 8 };

bool chv_files_part_name(const char *name, char out[CHV_FILES_PART_SIZE])
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    struct chv_files_digest *d = NULL;
    bool made = chv_files_digest_new(&d) == CHV_OK && chv_files_digest_add(d, name, strlen(name)) == CHV_OK &&
                chv_files_digest_finish(d, digest) == CHV_OK;
    chv_files_digest_free(d);
    if (!made)
        return false;
    memcpy(out, CHV_FILES_PART, strlen(CHV_FILES_PART));
    chv_hex_encode(digest, PART_BYTES, out + strlen(CHV_FILES_PART));
    return true;
}

bool chv_files_is_part(const char *name)
{
    return strncmp(name, CHV_FILES_PART, strlen(CHV_FILES_PART)) == 0;
}

/*
 * Another put of the name may have renamed it, to its final name, or removed it between the two steps: what is locked
 * must still be called so.
 */
int chv_files_part_open(int dir, const char *part, bool make, int *fd, uint64_t *size)
{
    const int flags = O_RDWR | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0);
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat locked, named;
        int opened = chv_files_openat(dir, part, flags, make ? 0600 : 0);
        if (opened < 0)
            return errno;
        if (flock(opened, LOCK_EX | LOCK_NB) != 0) {
            int failed = errno == EWOULDBLOCK ? EBUSY : errno;
            (void)close(opened);
            return failed;
        }
        if (fstat(opened, &locked) == 0 && fstatat(dir, part, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
            if (!S_ISREG(locked.st_mode)) {
                (void)close(opened);
                return EEXIST;
            }
            *size = (uint64_t)locked.st_size;
            *fd = opened;
            return 0;
        }
        (void)close(opened);
    }
    return EBUSY;
}

int chv_files_part_remove(struct chv_files_home *home, int dir, const char *part, time_t older)
{
    int fd = -1;
    uint64_t size = 0;
    struct stat st;
    int failed = chv_files_part_open(dir, part, false, &fd, &size);
    if (failed != 0)
        return failed;
    /* Not its time of modification: it may have its file's already. */
    if (older != 0 && (fstat(fd, &st) != 0 || st.st_ctim.tv_sec >= older))
        failed = EBUSY;
    if (failed == 0)
        failed = chv_files_home_unlink(home, dir, part, size);
    (void)close(fd);
    return failed;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int chv_files_part_clear(struct chv_files_home *home, int dir)
{
    int failed = 0, fd = chv_files_openat(dir, "", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        failed = errno;
        if (fd >= 0)
            (void)close(fd);
        return failed;
    }
    /* First all names: where files remain, nothing is to happen to the parts. */
    for (const struct dirent *e = readdir(d); e != NULL && failed == 0; e = readdir(d))
        if (!is_dots(e->d_name) && !chv_files_is_part(e->d_name))
            failed = ENOTEMPTY;
    rewinddir(d);
    for (const struct dirent *e = readdir(d); e != NULL && failed == 0; e = readdir(d))
        if (chv_files_is_part(e->d_name))
            failed = chv_files_part_remove(home, dir, e->d_name, 0);
    (void)closedir(d);
    return failed;
}
