/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/push_outbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/encode.h"
#include "net/control.h"
#include "services/files_home.h"
#include "services/push_outbox_internal.h"

#define REFUSED ".refused"
#define DELIVERED "delivered"

enum {
    MARK_NAME_SIZE = CHV_PUSH_ID_TEXT + sizeof REFUSED + sizeof ".new",
    MARK_SIZE = CHV_PUSH_TEXT_MAX + 64,
    LOG_LINE_MAX = 512,
    LOG_FULL = 64 << 10 /* bytes */
};

const uint8_t chv_push_magic[CHV_PUSH_MAGIC_LEN] = {'C', 'H', 'V', 'P', 'U', 'S', 'H', '1'};

int chv_push_outbox_open(const char *path, struct chv_push_outbox *outbox)
{
    struct chv_push_outbox o = {.root = geteuid() == 0};
    o.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o.fd < 0)
        return errno;
    if (fstat(o.fd, &o.st) != 0) {
        int failed = errno;
        (void)close(o.fd);
        return failed;
    }
    *outbox = o;
    return 0;
}

void chv_push_outbox_close(struct chv_push_outbox *outbox)
{
    if (outbox->fd >= 0)
        (void)close(outbox->fd);
    outbox->fd = -1;
}

/* Others than its owner and group have nothing to do there. */
int chv_push_adopt(const struct chv_push_outbox *outbox, int fd, bool folder)
{
    const mode_t mode = outbox->st.st_mode & (folder ? 07770U : 0660U);
    if (outbox->root && fchown(fd, outbox->st.st_uid, outbox->st.st_gid) != 0)
        return errno;
    return fchmod(fd, mode) == 0 ? 0 : errno;
}

int chv_push_make_folder(const struct chv_push_outbox *outbox, const char *name, int *fd)
{
    const bool made = mkdirat(outbox->fd, name, 0700) == 0;
    if (!made && errno != EEXIST)
        return errno;
    int folder = chv_files_openat(outbox->fd, name, O_RDONLY | O_DIRECTORY, 0);
    int failed = folder < 0 ? errno : 0;
    /* Both also if it was there: who made it may have been stopped before. */
    if (failed == 0 && (made || outbox->root))
        failed = chv_push_adopt(outbox, folder, true);
    if (failed == 0 && fsync(outbox->fd) != 0)
        failed = errno;
    if (failed == 0) {
        *fd = folder;
        return 0;
    }
    if (folder >= 0)
        (void)close(folder);
    return failed;
}

int chv_push_folder_open(const struct chv_push_outbox *outbox, const char *id, bool make, int *fd)
{
    struct stat st;
    int folder = chv_files_openat(outbox->fd, id, O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0)
        return errno == ENOENT && make ? chv_push_make_folder(outbox, id, fd) : errno;
    if (make && outbox->root && fstat(folder, &st) == 0 && st.st_uid != outbox->st.st_uid) {
        (void)close(folder); /* who made it did not come to hand it over */
        return chv_push_make_folder(outbox, id, fd);
    }
    *fd = folder;
    return 0;
}

int chv_push_folder_each(int folder, chv_push_each_fn each, void *arg)
{
    int fd = chv_files_openat(folder, "", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int failed = dir == NULL ? errno : 0;
    bool more = dir != NULL;
    if (dir == NULL && fd >= 0)
        (void)close(fd);
    while (more) {
        uint8_t id[CHV_PUSH_ID_LEN];
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (e == NULL)
            failed = errno;
        more = e != NULL && (!chv_push_id_parse(e->d_name, id) || each(arg, id));
    }
    if (dir != NULL)
        (void)closedir(dir);
    return failed;
}

/* --- entries ------------------------------------------------------------------------------------------------------- */

static int read_head(int fd, const uint8_t id[CHV_PUSH_ID_LEN], struct chv_push_entry *entry)
{
    uint8_t head[CHV_PUSH_HEAD] = {0};
    struct stat st;
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0)
        return errno;
    const size_t len = (size_t)head[CHV_PUSH_MAGIC_LEN] << 8 | head[CHV_PUSH_MAGIC_LEN + 1];
    if ((size_t)n < sizeof head || memcmp(head, chv_push_magic, CHV_PUSH_MAGIC_LEN) != 0 || len > CHV_PUSH_MAP_MAX ||
        chv_push_entry_decode(head + CHV_PUSH_MAP_AT, len, entry) != CHV_OK ||
        memcmp(entry->id, id, CHV_PUSH_ID_LEN) != 0 || chv_push_name_check(entry->name, strlen(entry->name)) != NULL)
        return EBADMSG;
    if (fstat(fd, &st) != 0)
        return errno;
    return (uint64_t)st.st_size == CHV_PUSH_HEAD + entry->size ? 0 : EBADMSG;
}

int chv_push_entry_open(int folder, const uint8_t id[CHV_PUSH_ID_LEN], struct chv_push_entry *entry, int *fd)
{
    char name[CHV_PUSH_ID_TEXT];
    struct chv_push_entry e;
    chv_push_id_text(id, name);
    int file = chv_files_openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (file < 0)
        return errno;
    int failed = read_head(file, id, &e);
    if (failed == 0)
        *entry = e;
    if (failed == 0 && fd != NULL)
        *fd = file;
    else
        (void)close(file);
    return failed;
}

static void mark_name(const uint8_t id[CHV_PUSH_ID_LEN], const char *suffix, char out[MARK_NAME_SIZE])
{
    char text[CHV_PUSH_ID_TEXT];
    chv_push_id_text(id, text);
    (void)snprintf(out, MARK_NAME_SIZE, "%s" REFUSED "%s", text, suffix);
}

int chv_push_entry_remove(int folder, const uint8_t id[CHV_PUSH_ID_LEN])
{
    char name[CHV_PUSH_ID_TEXT], mark[MARK_NAME_SIZE];
    chv_push_id_text(id, name);
    mark_name(id, "", mark);
    int failed = unlinkat(folder, name, 0) == 0 ? 0 : errno;
    if (failed == 0 || failed == ENOENT)
        (void)unlinkat(folder, mark, 0); /* else it is there for nobody */
    return failed;
}

/* --- marks and the log --------------------------------------------------------------------------------------------- */

/* In place of what has the name; not durable: it is for people. */
static int replace_file(const struct chv_push_outbox *outbox, int folder, const char *name, const char *new_name,
                        const char *text, size_t len)
{
    int fd = chv_files_openat(folder, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0600);
    if (fd < 0)
        return errno;
    int failed = chv_push_adopt(outbox, fd, false);
    if (failed == 0)
        failed = chv_files_write_all(fd, text, len, 0);
    (void)close(fd);
    if (failed == 0 && renameat(folder, new_name, folder, name) != 0)
        failed = errno;
    if (failed != 0)
        (void)unlinkat(folder, new_name, 0);
    return failed;
}

int chv_push_mark_write(const struct chv_push_outbox *outbox, int folder, const uint8_t id[CHV_PUSH_ID_LEN],
                        const struct chv_push_mark *mark)
{
    char name[MARK_NAME_SIZE], new_name[MARK_NAME_SIZE], text[MARK_SIZE];
    mark_name(id, "", name);
    mark_name(id, ".new", new_name);
    int n = snprintf(text, sizeof text, "%u %" PRIu64 " %s\n", mark->code, mark->time, mark->text);
    return replace_file(outbox, folder, name, new_name, text, (size_t)n);
}

/* NUL-terminated; what does not fit is cut. Returns the length, 0 if there is no such file. */
static size_t read_file(int folder, const char *name, char *out, size_t size)
{
    int fd = chv_files_openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    ssize_t n = fd >= 0 ? pread(fd, out, size - 1, 0) : -1;
    if (fd >= 0)
        (void)close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* A number and the space behind it, or the end of the line; false: there is none. */
static bool take_number(const char **text, uint64_t *number)
{
    char *end;
    errno = 0;
    if (**text < '0' || **text > '9')
        return false;
    const unsigned long long value = strtoull(*text, &end, 10);
    if (errno != 0 || (*end != ' ' && *end != '\n'))
        return false;
    *number = value;
    *text = end + (*end == ' ');
    return true;
}

bool chv_push_mark_read(int folder, const uint8_t id[CHV_PUSH_ID_LEN], struct chv_push_mark *mark)
{
    char name[MARK_NAME_SIZE], text[MARK_SIZE];
    struct chv_push_mark m = {.code = 0};
    const char *at = text;
    uint64_t code = 0;
    mark_name(id, "", name);
    if (read_file(folder, name, text, sizeof text) == 0 || !take_number(&at, &code) || code > CHV_STATUS_CODE_MAX ||
        !take_number(&at, &m.time))
        return false;
    m.code = (unsigned)code;
    (void)snprintf(m.text, sizeof m.text, "%.*s", (int)strcspn(at, "\n"), at);
    *mark = m;
    return true;
}

/* The first line is the number of those before the file was begun. */
static void count_log(const char *text, struct chv_push_log *log)
{
    static const char before[] = "before ";
    *log = (struct chv_push_log){.count = 0};
    const char *at = text + sizeof before - 1, *end = strchr(text, '\n');
    if (end == NULL || strncmp(text, before, sizeof before - 1) != 0 || !take_number(&at, &log->count))
        return;
    for (const char *line = end + 1; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        at = line;
        (void)take_number(&at, &log->time);
        log->count++;
    }
}

void chv_push_log_read(int folder, struct chv_push_log *log)
{
    *log = (struct chv_push_log){.count = 0};
    char *text = calloc(1, LOG_FULL + CHV_PUSH_WINDOW * LOG_LINE_MAX);
    if (text != NULL && read_file(folder, DELIVERED, text, LOG_FULL + CHV_PUSH_WINDOW * LOG_LINE_MAX) > 0)
        count_log(text, log);
    free(text);
}

static size_t log_line(const struct chv_push_entry *e, uint64_t now, char out[LOG_LINE_MAX])
{
    char id[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    chv_push_id_text(e->id, id);
    chv_hex_encode(e->sha256, sizeof e->sha256, hex);
    return (size_t)snprintf(out, LOG_LINE_MAX, "%" PRIu64 " %s %" PRIu64 " %s %s\n", now, id, e->size, hex, e->name);
}

/* Those that `text` has not, as lines at `out`, each once: a client may answer twice. */
static size_t new_lines(const char *text, const struct chv_push_entry *entries, size_t n, uint64_t now, char *out)
{
    char id[CHV_PUSH_ID_TEXT];
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        chv_push_id_text(entries[i].id, id);
        if (strstr(text, id) == NULL && strstr(out, id) == NULL)
            len += log_line(&entries[i], now, out + len);
    }
    return len;
}

int chv_push_log_add(const struct chv_push_outbox *outbox, int folder, const struct chv_push_entry *entries, size_t n,
                     uint64_t now)
{
    enum { LINES_ROOM = CHV_PUSH_WINDOW * LOG_LINE_MAX };
    struct chv_push_log log;
    char first[LOG_LINE_MAX];
    if (n == 0 || n > CHV_PUSH_WINDOW)
        return n == 0 ? 0 : EINVAL;
    char *text = calloc(1, LOG_FULL + LINES_ROOM), *lines = malloc(LINES_ROOM + LOG_LINE_MAX);
    int failed = text == NULL || lines == NULL ? ENOMEM : 0;
    size_t at = failed == 0 ? read_file(folder, DELIVERED, text, LOG_FULL + LINES_ROOM) : 0;
    size_t len = failed == 0 ? new_lines(text, entries, n, now, lines) : 0;
    if (len > 0 && (at == 0 || at > LOG_FULL || text[at - 1] != '\n')) {
        count_log(text, &log);
        const size_t head = (size_t)snprintf(first, sizeof first, "before %" PRIu64 "\n", log.count);
        memmove(lines + head, lines, len);
        memcpy(lines, first, head);
        failed = replace_file(outbox, folder, DELIVERED, DELIVERED ".new", lines, head + len);
        len = 0;
    }
    int fd = len > 0 ? chv_files_openat(folder, DELIVERED, O_WRONLY | O_NONBLOCK, 0) : -1;
    if (len > 0 && fd < 0)
        failed = errno;
    if (fd >= 0) {
        failed = chv_files_write_all(fd, lines, len, at);
        (void)close(fd);
    }
    free(lines);
    free(text);
    return failed;
}
