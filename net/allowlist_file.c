/* SPDX-License-Identifier: Apache-2.0 */
/* The allow-list on disk, and its way into a process that may open no files. */
#include "config.h"

#include "net/allowlist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who can write it can let anybody in. */
static enum chv_err check_stat(const char *file, const struct stat *st, struct chv_why *why)
{
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is no regular file", file);
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return chv_fail(why, CHV_ERR_STORE_MODE,
                        "%s: belongs to user %lu, who could let anybody in: give it to root or to user %lu", file,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: mode is %04o, others can write it: run 'chmod go-w' on it", file,
                        (unsigned)(st->st_mode & 07777));
    if (st->st_size > CHV_ALLOWLIST_TEXT_MAX)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: longer than %d MiB", file, CHV_ALLOWLIST_TEXT_MAX >> 20);
    return CHV_OK;
}

/* All of it from the beginning; it may have grown since, but not beyond what is there now. */
static enum chv_err read_text(int fd, size_t size, const char *file, char **text, size_t *len, struct chv_why *why)
{
    char *buf = malloc(size + 1);
    size_t n = 0;
    if (buf == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    while (n < size) {
        ssize_t got = pread(fd, buf + n, size - n, (off_t)n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(buf);
            return chv_fail(why, CHV_ERR_IO, "%s: cannot read: %s", file, strerror(errno));
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *text = buf;
    *len = n;
    return CHV_OK;
}

static enum chv_err seal(const char *text, size_t len, const char *file, int *out, struct chv_why *why)
{
    size_t n = 0;
    int fd = memfd_create("allowed-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    while (fd >= 0 && n < len) {
        ssize_t put = write(fd, text + n, len - n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            break;
        n += (size_t)put;
    }
    if (fd < 0 || n < len || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
        enum chv_err err = chv_fail(why, CHV_ERR_IO, "%s: cannot be passed on: %s", file, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    *out = fd;
    return CHV_OK;
}

enum chv_err chv_allowlist_load(const char *file, struct chv_allowlist **list, int *fd, struct chv_why *why)
{
    struct stat st;
    struct chv_allowlist *made = NULL;
    char *text = NULL;
    size_t len = 0;
    int in = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (in < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "allowed-keys: %s: %s", file,
                        strerror(errno));
    enum chv_err err =
        fstat(in, &st) == 0 ? check_stat(file, &st, why) : chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
    if (err == CHV_OK)
        err = read_text(in, (size_t)st.st_size, file, &text, &len, why);
    if (err == CHV_OK)
        err = chv_allowlist_parse(text, len, file, &made, why);
    if (err == CHV_OK && fd != NULL)
        err = seal(text, len, file, fd, why);
    free(text);
    close(in);
    if (err != CHV_OK) {
        chv_allowlist_unref(made);
        return err;
    }
    *list = made;
    return CHV_OK;
}

enum chv_err chv_allowlist_receive(int fd, const char *file, struct chv_allowlist **list, struct chv_why *why)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) != 0 || st.st_size > CHV_ALLOWLIST_TEXT_MAX)
        return chv_fail(why, CHV_ERR_MALFORMED, "%s: was not passed on whole", file);
    if (st.st_size == 0)
        return chv_allowlist_parse("", 0, file, list, why);
    /* Sealed: what is mapped cannot go away.  The sandbox has no pread. */
    void *text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text == MAP_FAILED)
        return chv_fail(why, CHV_ERR_IO, "%s: cannot be read: %s", file, strerror(errno));
    enum chv_err err = chv_allowlist_parse(text, (size_t)st.st_size, file, list, why);
    (void)munmap(text, (size_t)st.st_size);
    return err;
}
