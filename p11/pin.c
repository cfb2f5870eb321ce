/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "p11/uri.h"

/* The PIN, a line end, and one byte more to see that there is more. */
enum { READ_MAX = CHV_P11_PIN_MAX + 3 };

static enum chv_err check_file(const char *path, const struct stat *st, struct chv_why *why)
{
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "PIN file %s: is no regular file", path);
    if (st->st_uid != geteuid() && st->st_uid != 0 && geteuid() != 0) /* root sees to a server's files */
        return chv_fail(why, CHV_ERR_STORE_MODE, "PIN file %s: belongs to another user: chown it to yourself", path);
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE,
                        "PIN file %s: others can use it (mode %04o): run chmod 600 and choose a new PIN", path,
                        (unsigned)st->st_mode & 07777U);
    return CHV_OK;
}

static enum chv_err read_all(int fd, const char *path, char *buf, size_t *len, struct chv_why *why)
{
    size_t n = 0;
    while (n < READ_MAX) {
        ssize_t got = read(fd, buf + n, READ_MAX - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return chv_fail(why, CHV_ERR_IO, "PIN file %s: cannot read: %s", path, strerror(errno));
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *len = n;
    return CHV_OK;
}

enum chv_err chv_p11_pin_read(const char *path, char out[CHV_P11_PIN_MAX + 1], size_t *len,
                              struct chv_p11_pin_mark *mark, struct chv_why *why)
{
    char buf[READ_MAX];
    struct stat st;
    size_t n = 0;
    enum chv_err err;
    /* O_NONBLOCK: a named pipe must not hold us before fstat says what it is */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "PIN file %s: cannot open: %s", path,
                        strerror(errno));
    err = fstat(fd, &st) == 0 ? check_file(path, &st, why)
                              : chv_fail(why, CHV_ERR_IO, "PIN file %s: %s", path, strerror(errno));
    if (err == CHV_OK)
        err = read_all(fd, path, buf, &n, why);
    if (err != CHV_OK)
        goto out;
    if (n > 0 && buf[n - 1] == '\n')
        n -= n > 1 && buf[n - 2] == '\r' ? 2 : 1;
    if (n == 0)
        err = chv_fail(why, CHV_ERR_NO_SECRET, "PIN file %s: is empty", path);
    else if (n > CHV_P11_PIN_MAX || memchr(buf, '\0', n) != NULL || memchr(buf, '\n', n) != NULL)
        err =
            chv_fail(why, CHV_ERR_CONFIG, "PIN file %s: is not one line of 1 to %d characters", path, CHV_P11_PIN_MAX);
    if (err != CHV_OK)
        goto out;
    memcpy(out, buf, n);
    out[n] = '\0';
    *len = n;
    if (mark != NULL)
        *mark = (struct chv_p11_pin_mark){(uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size, st.st_ctim};
out:
    chv_wipe(buf, sizeof buf);
    (void)close(fd);
    return err;
}

void chv_p11_pin_path(const char *uri, char *out, size_t size)
{
    struct chv_p11_uri parsed;
    out[0] = '\0';
    if (strncmp(uri, "pkcs11:", strlen("pkcs11:")) != 0 || chv_p11_uri_parse(uri, &parsed, NULL) != CHV_OK)
        return;
    if (parsed.pin_file != NULL && strlen(parsed.pin_file) < size)
        (void)snprintf(out, size, "%s", parsed.pin_file);
    chv_p11_uri_free(&parsed);
}
