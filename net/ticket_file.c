/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a ticket store:
 *
 *   "chaveiro tickets 1\n" | binding[32] | u16 count
 *   | {u64 from | u64 until | secret[32] | u16 len ticket}...        from, until: Unix time of this machine
 *
 * It is replaced as a whole.  Its lock is on the file itself, so nothing is left beside it; whoever has got the lock looks
 * whether the file still has its name, since the one who had it before has put another one there.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "net/ticket_list.h"

static const char magic[] = "chaveiro tickets 1\n";

enum {
    MAGIC_LEN = sizeof magic - 1,
    ENTRY_LEN = 8 + 8 + CHV_KEY_LEN + 2 + CHV_TICKET_MAX,
    FILE_LEN_MAX = MAGIC_LEN + CHV_KEY_LEN + 2 + CHV_TICKET_STORE_MAX * ENTRY_LEN,
    LOCK_TRIES = 400, /* two seconds: who holds it is about to write a few kilobytes */
    LOCK_PAUSE_NS = 5000000
};

struct chv_ticket_file {
    char *path, *name, *temp; /* `name`, `temp`: in the folder */
    int dir;
    int fd;         /* of the locked file; -1 */
    bool held;      /* somebody did not let go of it: it is not waited for again */
    uint8_t *bytes; /* FILE_LEN_MAX + 1, in locked memory */
};

static enum chv_err failed(const struct chv_ticket_file *file, enum chv_err err, const char *what, struct chv_why *why)
{
    return chv_fail(why, err, "%s: %s: %s", file->path, what, strerror(errno));
}

/* O_NONBLOCK: a FIFO must not hold us before fstat has shown what it is. */
static int open_it(const struct chv_ticket_file *file, bool make)
{
    return openat(file->dir, file->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0),
                  S_IRUSR | S_IWUSR);
}

static enum chv_err check(const struct chv_ticket_file *file, const struct stat *st, struct chv_why *why)
{
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is no plain file: name another one for the tickets", file->path);
    if (st->st_uid != geteuid())
        return chv_fail(why, CHV_ERR_STORE_MODE,
                        "%s: belongs to user %lu, not to you (user %lu): name another file for the tickets", file->path,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return chv_fail(
            why, CHV_ERR_STORE_MODE,
            "%s: mode is %04o, others may get at the tickets in it: remove it, it is made anew, and think who "
            "could have read it",
            file->path, (unsigned)(st->st_mode & 07777));
    return CHV_OK;
}

/* CHV_ERR_NOT_FOUND: it is not there, and shall not be made. */
static enum chv_err open_checked(const struct chv_ticket_file *file, bool make, int *out, struct stat *st,
                                 struct chv_why *why)
{
    int fd = open_it(file, make);
    if (fd < 0 && errno == ENOENT && !make)
        return CHV_ERR_NOT_FOUND;
    if (fd < 0 && errno == ELOOP)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is a symbolic link: name the file itself", file->path);
    if (fd < 0 && (errno == ENXIO || errno == EISDIR))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is no plain file: name another one for the tickets", file->path);
    if (fd < 0)
        return failed(file, CHV_ERR_IO, "cannot open the file with tickets", why);
    enum chv_err err = fstat(fd, st) == 0 ? check(file, st, why) : failed(file, CHV_ERR_IO, "cannot look at it", why);
    if (err != CHV_OK)
        close(fd);
    else
        *out = fd;
    return err;
}

static enum chv_err split(struct chv_ticket_file *file, const char *path, struct chv_why *why)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    enum chv_err err = CHV_OK;
    file->path = strdup(path);
    file->name = strdup(slash == NULL ? path : slash + 1);
    file->temp = NULL;
    if (folder == NULL || file->path == NULL || file->name == NULL ||
        asprintf(&file->temp, ".%s.new", file->name) < 0) {
        file->temp = NULL; /* undefined after a failure */
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
        goto out;
    }
    if (file->name[0] == '\0' || strcmp(file->name, ".") == 0 || strcmp(file->name, "..") == 0) {
        err = chv_fail(why, CHV_ERR_CONFIG, "%s: is a folder: name a file in it for the tickets", path);
        goto out;
    }
    file->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->dir < 0)
        err = failed(file, CHV_ERR_IO, "cannot open its folder", why);
out:
    free(folder);
    return err;
}

enum chv_err chv_ticket_file_open(const char *path, struct chv_ticket_file **file, struct chv_why *why)
{
    struct chv_ticket_file *f = calloc(1, sizeof *f);
    struct stat st;
    int fd = -1;
    if (f == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    f->dir = f->fd = -1;
    enum chv_err err = split(f, path, why);
    if (err == CHV_OK) {
        f->bytes = chv_secure_alloc(FILE_LEN_MAX + 1);
        if (f->bytes == NULL)
            err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    }
    if (err == CHV_OK)
        err = open_checked(f, false, &fd, &st, why);
    if (fd >= 0)
        close(fd);
    if (err != CHV_OK && err != CHV_ERR_NOT_FOUND) {
        chv_ticket_file_close(f);
        return err;
    }
    *file = f;
    return CHV_OK;
}

void chv_ticket_file_close(struct chv_ticket_file *file)
{
    if (file == NULL)
        return;
    chv_ticket_file_leave(file);
    if (file->dir >= 0)
        close(file->dir);
    chv_secure_free(file->bytes, FILE_LEN_MAX + 1);
    free(file->path);
    free(file->name);
    free(file->temp);
    free(file);
}

void chv_ticket_file_leave(struct chv_ticket_file *file)
{
    if (file->fd >= 0)
        close(file->fd); /* and with it the lock */
    file->fd = -1;
}

/* Locked, and still the file of that name?  CHV_ERR_BUSY: to be tried again. */
static enum chv_err try_lock(struct chv_ticket_file *file, bool make, struct chv_why *why)
{
    struct stat mine = {.st_ino = 0}, there;
    int fd = -1;
    enum chv_err err = open_checked(file, make, &fd, &mine, why);
    if (err != CHV_OK)
        return err;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        err = errno == EWOULDBLOCK || errno == EINTR
                  ? CHV_ERR_BUSY
                  : failed(file, CHV_ERR_IO, "cannot lock the file with tickets", why);
        close(fd);
        return err;
    }
    if (fstatat(file->dir, file->name, &there, AT_SYMLINK_NOFOLLOW) != 0 || mine.st_ino != there.st_ino ||
        mine.st_dev != there.st_dev) {
        close(fd);
        return CHV_ERR_BUSY;
    }
    file->fd = fd;
    return CHV_OK;
}

static bool get_entry(struct chv_reader *r, struct chv_ticket_entry *entry)
{
    entry->from = chv_read_u64(r);
    entry->until = chv_read_u64(r);
    const uint8_t *secret = chv_read_bytes(r, CHV_KEY_LEN);
    entry->ticket_len = chv_read_u16(r);
    const uint8_t *ticket =
        entry->ticket_len > 0 && entry->ticket_len <= CHV_TICKET_MAX ? chv_read_bytes(r, entry->ticket_len) : NULL;
    if (secret == NULL || ticket == NULL || entry->until <= entry->from ||
        entry->until - entry->from > CHV_TICKET_LIFETIME_MAX)
        return false;
    memcpy(entry->secret, secret, CHV_KEY_LEN);
    memcpy(entry->ticket, ticket, entry->ticket_len);
    return true;
}

static bool parse(const uint8_t *bytes, size_t len, struct chv_ticket_list *list)
{
    struct chv_reader r;
    chv_reader_init(&r, bytes, len);
    const uint8_t *head = chv_read_bytes(&r, MAGIC_LEN);
    const uint8_t *binding = chv_read_bytes(&r, CHV_KEY_LEN);
    const uint16_t count = chv_read_u16(&r);
    if (r.failed || memcmp(head, magic, MAGIC_LEN) != 0 || count > CHV_TICKET_STORE_MAX)
        return false;
    memcpy(list->binding, binding, CHV_KEY_LEN);
    for (; list->count < count; list->count++)
        if (!get_entry(&r, &list->entries[list->count]))
            return false;
    return chv_reader_done(&r);
}

static enum chv_err read_list(struct chv_ticket_file *file, struct chv_ticket_list *list, struct chv_why *why)
{
    size_t len = 0;
    ssize_t n = 1;
    enum chv_err err = CHV_OK;
    while (n > 0 && len < FILE_LEN_MAX + 1) {
        n = read(file->fd, file->bytes + len, FILE_LEN_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            len += (size_t)n;
    }
    list->count = 0;
    if (n < 0) {
        err = failed(file, CHV_ERR_IO, "cannot read the file with tickets", why);
    } else if (len > 0 && !parse(file->bytes, len, list)) {
        chv_wipe(list, sizeof *list); /* also what was read before the damage */
        (void)chv_fail(why, CHV_OK, "%s: is damaged, or no file with tickets: none is taken from it", file->path);
    }
    chv_wipe(file->bytes, len);
    return err;
}

enum chv_err chv_ticket_file_enter(struct chv_ticket_file *file, bool make, struct chv_ticket_list *list,
                                   struct chv_why *why)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    enum chv_err err = CHV_ERR_BUSY;
    for (int i = 0; i < (file->held ? 2 : LOCK_TRIES) && err == CHV_ERR_BUSY; i++) {
        if (i > 0)
            (void)nanosleep(&pause, NULL);
        err = try_lock(file, make, why);
    }
    file->held = err == CHV_ERR_BUSY;
    if (err == CHV_ERR_BUSY)
        return chv_fail(why, err, "%s: another process holds the file with tickets", file->path);
    if (err == CHV_OK)
        err = read_list(file, list, why);
    if (err != CHV_OK)
        chv_ticket_file_leave(file);
    return err;
}

static size_t format(uint8_t *bytes, const struct chv_ticket_list *list)
{
    struct chv_writer w;
    chv_writer_init(&w, bytes, FILE_LEN_MAX);
    chv_write_bytes(&w, magic, MAGIC_LEN);
    chv_write_bytes(&w, list->binding, CHV_KEY_LEN);
    chv_write_u16(&w, (uint16_t)list->count);
    for (size_t i = 0; i < list->count; i++) {
        const struct chv_ticket_entry *entry = &list->entries[i];
        chv_write_u64(&w, entry->from);
        chv_write_u64(&w, entry->until);
        chv_write_bytes(&w, entry->secret, CHV_KEY_LEN);
        chv_write_u16(&w, entry->ticket_len);
        chv_write_bytes(&w, entry->ticket, entry->ticket_len);
    }
    return w.len;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, bytes + done, len - done, (off_t)done);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            done += (size_t)n;
    }
    return true;
}

enum chv_err chv_ticket_file_write(struct chv_ticket_file *file, const struct chv_ticket_list *list, bool *placed,
                                   struct chv_why *why)
{
    static const char what[] = "cannot write the file with tickets";
    const size_t len = format(file->bytes, list);
    enum chv_err err = CHV_OK;
    *placed = false;
    (void)unlinkat(file->dir, file->temp, 0); /* of one who was killed: we have the lock */
    int fd = openat(file->dir, file->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    bool ok = fd >= 0 && fchmod(fd, S_IRUSR | S_IWUSR) == 0 && write_all(fd, file->bytes, len) && fsync(fd) == 0 &&
              renameat(file->dir, file->temp, file->dir, file->name) == 0;
    if (ok) {
        *placed = true;
        ok = fsync(file->dir) == 0;
    }
    if (!ok)
        err = failed(file, CHV_ERR_IO, what, why);
    if (fd >= 0 && !*placed)
        (void)unlinkat(file->dir, file->temp, 0);
    if (fd >= 0)
        close(fd);
    chv_wipe(file->bytes, len);
    return err;
}
