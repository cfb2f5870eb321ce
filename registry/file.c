/* SPDX-License-Identifier: Apache-2.0 */
/* Files that readers find old or new, never half. */
#include "registry/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum chv_err sync_folder(const char *path, struct chv_why *why)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    int fd = folder == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum chv_err err = CHV_OK;
    if (fd < 0 || fsync(fd) != 0)
        err = chv_fail(why, CHV_ERR_IO, "%s: its folder: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(folder);
    return err;
}

enum chv_err chv_registry_replace_file(const char *path,
                                       enum chv_err (*fill)(void *arg, FILE *out, struct chv_why *why), void *arg,
                                       struct chv_why *why)
{
    char *beside = NULL;
    FILE *out = NULL;
    int fd = -1;
    enum chv_err err = CHV_OK;
    if (asprintf(&beside, "%s.new", path) < 0)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    /* one name, so that a crash leaves one file, which the next write takes over */
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err = chv_fail(why, CHV_ERR_IO, "%s: cannot be written: %s", beside, strerror(errno));
        goto out;
    }
    out = fdopen(fd, "w");
    if (out == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
        goto out;
    }
    fd = -1;
    err = fill(arg, out, why);
    if (err == CHV_OK && (fflush(out) != 0 || fsync(fileno(out)) != 0 || rename(beside, path) != 0))
        err = chv_fail(why, CHV_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (err == CHV_OK)
        err = sync_folder(path, why);
    else
        (void)unlink(beside);
out:
    if (out != NULL)
        (void)fclose(out);
    if (fd >= 0) {
        close(fd);
        (void)unlink(beside);
    }
    free(beside);
    return err;
}
