/* SPDX-License-Identifier: Apache-2.0 */
/* The keystore file on disk: checked reading, the writers' lock, replacing in one step. */
#include <config.h>

#include "keystore/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/encode.h"

#define TEMP_SUFFIX ".new"

enum { LOCK_POLL_MS = 50, TEMP_HEX = 2 * CHV_FILE_TEMP_RANDOM };

/* One text for the errors of the system, so that each says what failed, on what and why. */
static enum chv_err io_failed(struct chv_why *why, const char *path, const char *what, int number)
{
    enum chv_err err = number == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO;
    return chv_fail(why, err, "%s: %s: %s", path, what, strerror(number));
}

/* Opens the folder of `full` and keeps the last part as the name. */
static enum chv_err split_path(struct chv_file_place *place, const char *full, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    const char *slash = strrchr(full, '/');
    const char *name = slash == NULL ? full : slash + 1;
    char *folder = slash == NULL ? strdup(".") : slash == full ? strdup("/") : strndup(full, (size_t)(slash - full));
    place->name = strdup(name);
    if (folder == NULL || place->name == NULL || asprintf(&place->lock_name, "%s.lock", name) < 0) {
        place->lock_name = NULL; /* undefined after a failure */
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", place->path);
        goto out;
    }
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        err = chv_fail(why, CHV_ERR_ARGUMENT, "%s: is a folder: name a file in it", place->path);
        goto out;
    }
    place->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->dir < 0) {
        int number = errno;
        place->dir = AT_FDCWD;
        err = io_failed(why, place->path, "cannot open its folder", number);
    }
out:
    free(folder);
    return err;
}

enum chv_err chv_file_locate(struct chv_file_place *place, const char *path, enum chv_keystore_mode mode,
                             struct chv_why *why)
{
    *place = (struct chv_file_place){.path = path, .dir = AT_FDCWD, .lock = -1, .exists = mode != CHV_KEYSTORE_CREATE};
    if (mode == CHV_KEYSTORE_READ) {
        place->name = strdup(path);
        return place->name == NULL ? chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path) : CHV_OK;
    }
    if (mode == CHV_KEYSTORE_CREATE)
        return split_path(place, path, why);
    char *full = realpath(path, NULL);
    if (full == NULL)
        return io_failed(why, path, "cannot open", errno);
    enum chv_err err = split_path(place, full, why);
    free(full);
    return err;
}

/* Whether `name` is one of this keystore's temporary names: "." NAME "." 24 hex digits ".new". */
static bool is_temp(const struct chv_file_place *place, const char *name)
{
    size_t n = strlen(place->name);
    if (strlen(name) != 1 + n + 1 + TEMP_HEX + strlen(TEMP_SUFFIX) || name[0] != '.' ||
        memcmp(name + 1, place->name, n) != 0 || name[1 + n] != '.')
        return false;
    const char *hex = name + 1 + n + 1;
    return strspn(hex, "0123456789abcdef") == TEMP_HEX && strcmp(hex + TEMP_HEX, TEMP_SUFFIX) == 0;
}

/* Under the lock nobody else is writing: what has a temporary name was left by a writer that crashed. */
static enum chv_err sweep(const struct chv_file_place *place, struct chv_why *why)
{
    int fd = openat(place->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        return io_failed(why, place->path, "cannot read its folder", number);
    }
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (is_temp(place, entry->d_name))
            (void)unlinkat(place->dir, entry->d_name, 0); /* only untidy if it fails */
    closedir(folder);
    return CHV_OK;
}

/* The process that wrote its number into the lock file; 0 if it cannot be known. */
static long lock_holder(int fd)
{
    char text[24];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    char *end = NULL;
    long pid = strtol(text, &end, 10);
    return end != text && *end == '\n' && pid > 0 ? pid : 0;
}

/*
 * One attempt.  A lock file is removed by its holder, so the one that was just locked may no longer be the one that
 * stands in the folder: then it protects nothing and the next attempt makes a new one.
 */
static enum chv_err try_lock(struct chv_file_place *place, long *holder, struct chv_why *why)
{
    struct stat mine, there;
    int fd = openat(place->dir, place->lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: cannot open the lock file %s beside it: %s", place->path,
                        place->lock_name, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int number = errno;
        *holder = lock_holder(fd);
        close(fd);
        return number == EWOULDBLOCK || number == EINTR ? CHV_ERR_BUSY
                                                        : io_failed(why, place->path, "cannot lock", number);
    }
    if (fstat(fd, &mine) != 0 || fstatat(place->dir, place->lock_name, &there, AT_SYMLINK_NOFOLLOW) != 0 ||
        mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
        close(fd);
        return CHV_ERR_BUSY;
    }
    /* Only for the message of a writer that waits: the lock holds without it. */
    char text[24];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    bool told = ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n;
    (void)told;
    place->lock = fd;
    return CHV_OK;
}

enum chv_err chv_file_lock(struct chv_file_place *place, unsigned seconds, struct chv_why *why)
{
    const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};
    struct timespec now, end;
    long holder = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)seconds;
    for (;;) {
        enum chv_err err = try_lock(place, &holder, why);
        if (err == CHV_OK)
            return sweep(place, why);
        if (err != CHV_ERR_BUSY)
            return err;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec))
            break;
        (void)nanosleep(&pause, NULL);
    }
    if (holder > 0)
        return chv_fail(why, CHV_ERR_BUSY, "%s: process %ld is changing it (waited %u s): try again when it is done",
                        place->path, holder, seconds);
    return chv_fail(why, CHV_ERR_BUSY, "%s: another process is changing it (waited %u s): try again when it is done",
                    place->path, seconds);
}

void chv_file_leave(struct chv_file_place *place)
{
    if (place->lock >= 0) {
        /* first the name, then the lock: nobody can take a lock that is about to lose its name (try_lock looks) */
        (void)unlinkat(place->dir, place->lock_name, 0);
        close(place->lock);
    }
    if (place->dir >= 0)
        close(place->dir);
    free(place->name);
    free(place->lock_name);
    *place = (struct chv_file_place){.dir = AT_FDCWD, .lock = -1};
}

static enum chv_err check_stat(const struct chv_file_place *place, const struct stat *st, struct chv_why *why)
{
    const char *path = place->path;
    if (S_ISDIR(st->st_mode))
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is a folder, not a keystore file", path);
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is a FIFO, socket or device, not a keystore file", path);
    if (geteuid() != 0 && st->st_uid != geteuid())
        return chv_fail(why, CHV_ERR_STORE_MODE,
                        "%s: belongs to user %lu, not to you (user %lu): take it over by chown", path,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return chv_fail(
            why, CHV_ERR_STORE_MODE,
            "%s: mode is %04o, others may get at it: run 'chmod 600' on it, and think who could have read it", path,
            (unsigned)(st->st_mode & 07777));
    if (st->st_size == 0)
        return chv_fail(why, CHV_ERR_STORE_TRUNCATED, "%s: is empty: restore it from a copy", path);
    if (st->st_size > CHV_FILE_SIZE_MAX)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: has %lld bytes, a keystore file has at most %d", path,
                        (long long)st->st_size, CHV_FILE_SIZE_MAX);
    return CHV_OK;
}

enum chv_err chv_file_read(struct chv_file_place *place, char **text, size_t *len, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    struct stat st;
    char *buf = NULL;
    size_t n = 0;
    /* O_NONBLOCK: a FIFO must not hold us before fstat has shown what it is */
    int fd = openat(place->dir, place->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENXIO)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is a socket, not a keystore file", place->path);
    if (fd < 0)
        return io_failed(why, place->path, "cannot open", errno);
    if (fstat(fd, &st) != 0) {
        err = io_failed(why, place->path, "cannot look at it", errno);
        goto out;
    }
    err = check_stat(place, &st, why);
    if (err != CHV_OK)
        goto out;
    buf = malloc((size_t)st.st_size);
    if (buf == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", place->path);
        goto out;
    }
    while (n < (size_t)st.st_size) {
        ssize_t got = read(fd, buf + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err = io_failed(why, place->path, "cannot read", errno);
            goto out;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    place->owner = st.st_uid;
    place->group = st.st_gid;
    *text = buf;
    *len = n;
    buf = NULL;
out:
    free(buf);
    close(fd);
    return err;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Writes the temporary file, whole and on the disk; errno says why if it is not. */
static int write_temp(const struct chv_file_place *place, const char *temp, const char *text, size_t len)
{
    int fd = openat(place->dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    int failed = write_all(fd, text, len);
    /* root at work on a user's keystore leaves it the user's */
    if (failed == 0 && place->exists && geteuid() == 0 && place->owner != 0)
        failed = fchown(fd, place->owner, place->group);
    if (failed == 0)
        failed = fchmod(fd, S_IRUSR | S_IWUSR); /* whatever the umask is */
    if (failed == 0)
        failed = fsync(fd);
    int number = errno;
    if (close(fd) != 0 && failed == 0) {
        failed = -1;
        number = errno;
    }
    errno = number;
    return failed;
}

/* Gives the temporary file its name; a new keystore never takes the place of a file. */
static int publish(const struct chv_file_place *place, const char *temp)
{
    if (place->exists)
        return renameat(place->dir, temp, place->dir, place->name);
    if (renameat2(place->dir, temp, place->dir, place->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* a file system without that flag: link() does not replace either */
    if (linkat(place->dir, temp, place->dir, place->name, 0) != 0)
        return -1;
    (void)unlinkat(place->dir, temp, 0); /* else the next writer does */
    return 0;
}

enum chv_err chv_file_replace(struct chv_file_place *place, const struct chv_crypto *crypto, const char *text,
                              size_t len, struct chv_why *why)
{
    char temp[NAME_MAX + 1], hex[CHV_HEX_SIZE(CHV_FILE_TEMP_RANDOM)];
    uint8_t unique[CHV_FILE_TEMP_RANDOM];
    enum chv_err err = chv_crypto_random(crypto, unique, sizeof unique);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s: no random bytes for a temporary name", place->path);
    chv_hex_encode(unique, sizeof unique, hex);
    int n = snprintf(temp, sizeof temp, ".%s.%s" TEMP_SUFFIX, place->name, hex);
    if (n < 0 || (size_t)n >= sizeof temp)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: its name is too long: choose a shorter one", place->path);
    if (write_temp(place, temp, text, len) != 0) {
        err = io_failed(why, place->path, "cannot write a new version (the old one is untouched)", errno);
        (void)unlinkat(place->dir, temp, 0);
        return err == CHV_ERR_NOT_FOUND ? CHV_ERR_IO : err;
    }
    if (publish(place, temp) != 0) {
        int number = errno;
        (void)unlinkat(place->dir, temp, 0);
        if (number == EEXIST)
            return chv_fail(why, CHV_ERR_EXISTS, "%s: exists already: choose another name or move it away",
                            place->path);
        err = io_failed(why, place->path, "cannot put the new version in place (the old one is untouched)", number);
        return err == CHV_ERR_NOT_FOUND ? CHV_ERR_IO : err;
    }
    place->exists = true;
    place->owner = geteuid() == 0 && place->owner != 0 ? place->owner : geteuid();
    if (fsync(place->dir) != 0)
        return chv_fail(why, CHV_ERR_IO, "%s: was written, but may not outlive a power cut: cannot sync its folder: %s",
                        place->path, strerror(errno));
    return CHV_OK;
}
