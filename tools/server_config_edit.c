/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/server_config_edit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EDIT_TEXT_SIZE = CHV_SERVER_CONFIG_TEXT_MAX + 1 };

/* --- text ------------------------------------------------------------------------------------------------------------
 */

static size_t edit_line(const char *text)
{
    size_t n = strcspn(text, "\n");
    return n + (text[n] == '\n');
}

/* Whether the line sets this key; `comment`: whether it is a comment that shows it ("#key = ", "# key = "). */
static bool edit_is_key(const char *line, const char *key, bool comment)
{
    size_t n = strlen(key);
    line += strspn(line, " \t");
    if (comment) {
        if (*line != '#' && *line != ';')
            return false;
        line++;
        line += strspn(line, " \t");
    }
    if (strncmp(line, key, n) != 0)
        return false;
    line += n + strspn(line + n, " \t");
    return *line == '=' || *line == ':';
}

static bool edit_is_section(const char *line, bool *server)
{
    static const char name[] = "[server]";
    line += strspn(line, " \t");
    if (*line != '[')
        return false;
    *server = strncmp(line, name, sizeof name - 1) == 0;
    return true;
}

/* Where the key's line is (`end` behind it), or where one belongs (start == end).  False: there is no [server]. */
static bool edit_find(const char *text, const char *key, size_t *start, size_t *end)
{
    bool server = false, found = false;
    size_t at = 0;
    for (; text[at] != '\0'; at += edit_line(text + at)) {
        const char *line = text + at;
        const size_t after = at + edit_line(line);
        if (edit_is_section(line, &server)) {
            if (server && !found) {
                found = true;
                *start = *end = after;
            }
        } else if (server && edit_is_key(line, key, false)) {
            *start = at;
            *end = after;
            return true;
        } else if (server && edit_is_key(line, key, true)) {
            *start = *end = after;
        }
    }
    return found;
}

static enum chv_err edit_one(const char *text, const struct chv_config_change *change, char *out, size_t cap)
{
    size_t start = 0, end = 0;
    if (!edit_find(text, change->key, &start, &end))
        return CHV_ERR_NOT_FOUND;
    const bool ends = start == 0 || text[start - 1] == '\n';
    int n = 0;
    if (change->value != NULL)
        n = snprintf(out, cap, "%.*s%s%s = %s\n%s", (int)start, text, ends ? "" : "\n", change->key, change->value,
                     text + end);
    else if (start < end)
        n = snprintf(out, cap, "%.*s# %s", (int)start, text, text + start);
    else
        n = snprintf(out, cap, "%s", text);
    return n >= 0 && (size_t)n < cap ? CHV_OK : CHV_ERR_SPACE;
}

enum chv_err chv_server_config_change(const char *text, const struct chv_config_change *changes, size_t count,
                                      char *out, size_t *len)
{
    const size_t cap = *len;
    enum chv_err err = snprintf(out, cap, "%s", text) < (int)cap ? CHV_OK : CHV_ERR_SPACE;
    char *before = malloc(cap);
    if (before == NULL)
        return CHV_ERR_MEMORY;
    for (size_t i = 0; err == CHV_OK && i < count; i++) {
        memcpy(before, out, strlen(out) + 1);
        err = edit_one(before, &changes[i], out, cap);
    }
    free(before);
    if (err == CHV_OK)
        *len = strlen(out);
    return err;
}

/* --- the file --------------------------------------------------------------------------------------------------------
 */

static enum chv_err edit_read(const char *path, char text[EDIT_TEXT_SIZE], struct stat *st, struct chv_why *why)
{
    size_t have = 0;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st) != 0) {
        int error = errno;
        if (fd >= 0)
            (void)close(fd);
        return chv_fail(why, CHV_ERR_IO, "%s: %s", path, strerror(error));
    }
    while (have < CHV_SERVER_CONFIG_TEXT_MAX && (n = read(fd, text + have, CHV_SERVER_CONFIG_TEXT_MAX - have)) > 0)
        have += (size_t)n;
    text[have] = '\0';
    (void)close(fd);
    if (n < 0 || !S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_IO, "%s: cannot be read as a file", path);
    return CHV_OK;
}

static bool edit_write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

static void edit_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    int fd = open(slash == folder ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* `old`: what was there when it was read: nobody else's change is written over. */
static enum chv_err edit_replace(const char *path, const char *text, const struct stat *old, struct chv_why *why)
{
    char temp[PATH_MAX];
    struct stat now;
    enum chv_err err = CHV_OK;
    if (snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= (int)sizeof temp)
        return chv_fail(why, CHV_ERR_IO, "%s: the name is too long", path);
    int fd = mkstemp(temp);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    if (fchown(fd, old->st_uid, old->st_gid) != 0 || fchmod(fd, old->st_mode & 07777) != 0 ||
        !edit_write_all(fd, text, strlen(text)))
        err = chv_fail(why, CHV_ERR_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    (void)close(fd);
    if (err == CHV_OK && (stat(path, &now) != 0 || now.st_ino != old->st_ino || now.st_size != old->st_size ||
                          now.st_mtim.tv_sec != old->st_mtim.tv_sec || now.st_mtim.tv_nsec != old->st_mtim.tv_nsec))
        err = chv_fail(why, CHV_ERR_BUSY, "%s: somebody else changed it just now: try again", path);
    if (err == CHV_OK && rename(temp, path) != 0)
        err = chv_fail(why, CHV_ERR_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    if (err != CHV_OK)
        (void)unlink(temp);
    else
        edit_sync_folder(path);
    return err;
}

enum chv_err chv_server_config_edit(const char *file, const struct chv_config_change *changes, size_t count,
                                    struct chv_why *why)
{
    char path[PATH_MAX];
    struct stat st = {0};
    size_t len = EDIT_TEXT_SIZE;
    enum chv_err err = CHV_ERR_MEMORY;
    char *old = malloc(EDIT_TEXT_SIZE), *new = malloc(EDIT_TEXT_SIZE);
    struct chv_server_config *parsed = malloc(sizeof *parsed);
    if (old == NULL || new == NULL || parsed == NULL)
        goto out;
    if (realpath(file, path) == NULL) {
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
        goto out;
    }
    err = edit_read(path, old, &st, why);
    if (err != CHV_OK)
        goto out;
    err = chv_server_config_change(old, changes, count, new, &len);
    if (err != CHV_OK)
        err = chv_fail(why, err, "%s: cannot be changed: %s", path, chv_err_text(err));
    else
        err = chv_server_config_parse(new, path, parsed, why);
    if (err == CHV_OK && strcmp(old, new) != 0)
        err = edit_replace(path, new, &st, why);
out:
    free(parsed);
    free(new);
    free(old);
    return err;
}
