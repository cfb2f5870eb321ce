/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filemark.h"

#include <sys/stat.h>

static void take(int found, const struct stat *st, struct chv_filemark *mark)
{
    *mark = (struct chv_filemark){.device = 0};
    if (found == 0)
        *mark = (struct chv_filemark){(uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size, st->st_mtim,
                                      st->st_ctim};
}

void chv_filemark_path(const char *path, struct chv_filemark *mark)
{
    struct stat st;
    take(path[0] != '\0' ? stat(path, &st) : -1, &st, mark);
}

void chv_filemark_fd(int fd, struct chv_filemark *mark)
{
    struct stat st;
    take(fstat(fd, &st), &st, mark);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool chv_filemark_same(const struct chv_filemark *a, const struct chv_filemark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(&a->modified, &b->modified) && same_time(&a->changed, &b->changed);
}
