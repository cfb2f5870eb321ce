/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD: a disk that is full, or a file that may only be read, while a program runs.  CHV_TEST_DISK names a file of
 * one byte, which is mapped when the program starts: 1: nothing is written any more (ENOSPC); 2: files whose path is
 * CHV_TEST_DISK_FILE are not opened for writing (EACCES); 3: nothing gets to the disk (fsync, EIO).
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

enum { DISK_FULL = 1, DISK_READ_ONLY = 2, DISK_BROKEN = 3 };

typedef ssize_t pwrite_fn(int, const void *, size_t, off64_t);
typedef int open_fn(const char *, int, ...);
typedef int sync_fn(int);

static pwrite_fn *real_pwrite;
static open_fn *real_open;
static sync_fn *real_fsync;
static const volatile unsigned char *state;
static const char *file;

__attribute__((constructor)) static void disk_start(void)
{
    const char *path = getenv("CHV_TEST_DISK");
    file = getenv("CHV_TEST_DISK_FILE");
    real_pwrite = (pwrite_fn *)dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = (sync_fn *)dlsym(RTLD_NEXT, "fsync");
    if (path == NULL || file == NULL || real_pwrite == NULL || real_fsync == NULL)
        abort();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd >= 0 ? mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        abort();
    state = map;
    close(fd);
}

/* As unistd.h and fcntl.h call them; SQLite writes with this one, and opens with the other. */
SHOWN ssize_t pwrite64(int __fd, const void *__buf, size_t __n, off64_t __offset)
{
    if (*state == DISK_FULL) {
        errno = ENOSPC;
        return -1;
    }
    return real_pwrite(__fd, __buf, __n, __offset);
}

/* As it is called where nobody asked for large files: services write with this one. */
SHOWN ssize_t pwrite(int __fd, const void *__buf, size_t __nbytes, __off_t __offset)
{
    return pwrite64(__fd, __buf, __nbytes, __offset);
}

SHOWN int fsync(int __fd)
{
    if (*state == DISK_BROKEN) {
        errno = EIO;
        return -1;
    }
    return real_fsync(__fd);
}

SHOWN int open64(const char *__file, int __oflag, ...)
{
    va_list rest;
    if (real_open == NULL) /* other libraries start before this one */
        real_open = (open_fn *)dlsym(RTLD_NEXT, "open64");
    if (real_open == NULL)
        abort();
    va_start(rest, __oflag);
    const mode_t mode = (__oflag & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (state != NULL && *state == DISK_READ_ONLY && (__oflag & O_ACCMODE) != O_RDONLY && strcmp(__file, file) == 0) {
        errno = EACCES;
        return -1;
    }
    return real_open(__file, __oflag, mode);
}
