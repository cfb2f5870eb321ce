/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/clockmark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPORARY CHV_CLOCKMARK_FILE ".new"

enum { TEXT_MAX = 32 };

static enum chv_err read_mark(struct chv_clockmark *mark, const char *state, struct chv_why *why)
{
    char text[TEXT_MAX + 1];
    int fd = openat(mark->folder, CHV_CLOCKMARK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return CHV_OK;
    ssize_t n = fd >= 0 ? read(fd, text, TEXT_MAX) : -1;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "%s/" CHV_CLOCKMARK_FILE ": %s", state, strerror(saved));
    text[n] = '\0';
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (n == 0 || text[0] < '0' || text[0] > '9' || errno != 0 || strcmp(end, "\n") != 0)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "%s/" CHV_CLOCKMARK_FILE ": not a clock mark; remove it if the clock is right", state);
    mark->mark = v;
    return CHV_OK;
}

enum chv_err chv_clockmark_open(struct chv_clockmark *mark, const char *state, struct chv_why *why)
{
    static const char belongs[] = "; it must belong to the server's user";
    *mark = (struct chv_clockmark){.folder = -1};
    if (state[0] == '\0')
        return CHV_OK;
    mark->folder = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mark->folder < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "state folder %s: %s%s", state, strerror(errno),
                        errno == EACCES ? belongs : "");
    enum chv_err err = CHV_OK;
    if (faccessat(mark->folder, ".", W_OK | X_OK, AT_EACCESS) != 0)
        err = chv_fail(why, CHV_ERR_CONFIG, "state folder %s: %s%s", state, strerror(errno), belongs);
    else
        err = read_mark(mark, state, why);
    if (err != CHV_OK)
        chv_clockmark_close(mark);
    return err;
}

void chv_clockmark_close(struct chv_clockmark *mark)
{
    if (mark->folder >= 0)
        close(mark->folder);
    mark->folder = -1;
}

/* A reader finds the old mark or the new one, never half of one. */
static enum chv_err write_mark(struct chv_clockmark *mark, struct chv_why *why)
{
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof text, "%" PRIu64 "\n", mark->mark);
    int fd = openat(mark->folder, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, text, (size_t)len) == len && fdatasync(fd) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (ok && renameat(mark->folder, TEMPORARY, mark->folder, CHV_CLOCKMARK_FILE) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_IO, "the clock mark cannot be written: %s", strerror(ok ? errno : saved));
}

enum chv_err chv_clockmark_check(struct chv_clockmark *mark, uint64_t now, struct chv_why *why)
{
    if (now < CHV_TIME_FLOOR)
        return chv_fail(why, CHV_ERR_UNAVAILABLE,
                        "the clock shows a time before this program was released: set it right");
    if (now + CHV_CLOCKMARK_TOLERANCE < mark->mark)
        return chv_fail(why, CHV_ERR_UNAVAILABLE,
                        "the clock is %" PRIu64
                        " s behind what it showed before: set it right, or, if it is right now, remove "
                        "'" CHV_CLOCKMARK_FILE "' from the state folder and restart",
                        mark->mark - now);
    if (now > mark->mark)
        mark->mark = now;
    if (mark->folder < 0 || (mark->written != 0 && mark->mark < mark->written + CHV_CLOCKMARK_INTERVAL))
        return CHV_OK;
    mark->written = mark->mark;
    return write_mark(mark, why);
}
