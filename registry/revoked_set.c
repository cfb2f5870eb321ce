/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the text file of registry = none. */
#include "registry/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 100, LOCK_WAIT_MS = 50, NEW_MODE = 0644 };

static const char word_revoked[] = "revoked", word_suspended[] = "suspended";

bool chv_revoked_is_suspended(const char *reason)
{
    size_t len = sizeof word_suspended - 1;
    return reason != NULL && strncmp(reason, word_suspended, len) == 0 && (reason[len] == '\0' || reason[len] == ':');
}

struct revoked_change {
    const char *path, *id, *reason;
    enum chv_client_status status;
    char *text; /* the file as it is */
    struct stat st;
    bool exists;
    bool suspended, revoked; /* what lines about the client there are */
};

/* The next word of a line that ends at `end`. */
static const char *word_of(const char **at, const char *end, size_t *len)
{
    while (*at < end && (**at == ' ' || **at == '\t'))
        (*at)++;
    const char *word = *at;
    while (*at < end && **at != ' ' && **at != '\t')
        (*at)++;
    *len = (size_t)(*at - word);
    return word;
}

enum line { LINE_OTHER, LINE_MINIMUM, LINE_REVOKED, LINE_SUSPENDED };

static enum line line_kind(const char *line, size_t size, const char *id)
{
    char reason[sizeof word_suspended + 1] = "";
    const char *end = line + size;
    size_t len;
    const char *word = word_of(&line, end, &len);
    if (len != strlen(id) || memcmp(word, id, len) != 0)
        return LINE_OTHER;
    word = word_of(&line, end, &len);
    if (len != 1 || *word != '*')
        return LINE_MINIMUM;
    word = word_of(&line, end, &len);
    len = (size_t)(end - word);
    memcpy(reason, word, len < sizeof reason - 1 ? len : sizeof reason - 1);
    return chv_revoked_is_suspended(reason) ? LINE_SUSPENDED : LINE_REVOKED;
}

static void look(struct revoked_change *c)
{
    for (const char *line = c->text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        enum line kind = line_kind(line, len, c->id);
        c->suspended = c->suspended || kind == LINE_SUSPENDED;
        c->revoked = c->revoked || kind == LINE_REVOKED;
        line += len + (line[len] == '\n');
    }
}

static enum chv_err read_text(struct revoked_change *c, struct chv_why *why)
{
    size_t room = 0;
    FILE *in = fopen(c->path, "re");
    if (in == NULL && errno == ENOENT) {
        c->text = strdup("");
        return c->text != NULL ? CHV_OK : CHV_ERR_MEMORY;
    }
    if (in == NULL)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", c->path, strerror(errno));
    c->exists = true;
    errno = 0;
    ssize_t n = fstat(fileno(in), &c->st) == 0 ? getdelim(&c->text, &room, '\0', in) : -1;
    bool failed = n < 0 && (!feof(in) || ferror(in));
    enum chv_err err = CHV_OK;
    if (failed)
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", c->path, strerror(errno));
    else if (n > 0 && (size_t)n != strlen(c->text))
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: has a NUL in it", c->path);
    else if (c->text == NULL)
        err = CHV_ERR_MEMORY;
    else if (n < 0)
        c->text[0] = '\0';
    (void)fclose(in);
    return err;
}

static enum chv_err write_text(void *arg, FILE *out, struct chv_why *why)
{
    const struct revoked_change *c = arg;
    /* who could read it before (the server's user) can read it still */
    if (fchmod(fileno(out), c->exists ? c->st.st_mode & 0777 & ~(mode_t)(S_IWGRP | S_IWOTH) : NEW_MODE) != 0 ||
        (c->exists && geteuid() == 0 && fchown(fileno(out), c->st.st_uid, c->st.st_gid) != 0))
        return chv_fail(why, CHV_ERR_IO, "%s: %s", c->path, strerror(errno));
    for (const char *line = c->text; *line != '\0';) {
        size_t n = strcspn(line, "\n");
        /* a client that is revoked is no longer suspended */
        if (line_kind(line, n, c->id) != LINE_SUSPENDED)
            (void)fprintf(out, "%.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    if (c->status != CHV_CLIENT_ACTIVE)
        (void)fprintf(out, "%s * %s%s%s\n", c->id, c->status == CHV_CLIENT_REVOKED ? word_revoked : word_suspended,
                      c->reason[0] != '\0' ? ": " : "", c->reason);
    return ferror(out) ? chv_fail(why, CHV_ERR_IO, "%s: cannot be written", c->path) : CHV_OK;
}

static enum chv_err change(struct revoked_change *c, bool *changed, struct chv_why *why)
{
    enum chv_err err = read_text(c, why);
    if (err != CHV_OK || c->text == NULL)
        return err;
    look(c);
    if (c->status == CHV_CLIENT_ACTIVE && c->revoked)
        err = chv_fail(why, CHV_ERR_STATE, "client '%s' is revoked in %s: nothing but an editor takes that back", c->id,
                       c->path);
    if (err != CHV_OK)
        return err;
    bool wanted = c->status == CHV_CLIENT_ACTIVE      ? c->suspended
                  : c->status == CHV_CLIENT_SUSPENDED ? !c->suspended && !c->revoked
                                                      : !c->revoked;
    if (wanted)
        err = chv_registry_replace_file(c->path, write_text, c, why);
    if (err == CHV_OK)
        *changed = wanted;
    return err;
}

static enum chv_err take_lock(const char *path, int *lock, struct chv_why *why)
{
    char *name = NULL;
    if (asprintf(&name, "%s.lock", path) < 0)
        return CHV_ERR_MEMORY;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    enum chv_err err = fd < 0 ? chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(errno)) : CHV_OK;
    const struct timespec wait = {.tv_nsec = LOCK_WAIT_MS * 1000000L};
    int tries = 0;
    while (err == CHV_OK && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            err = chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(errno));
        else if (++tries > LOCK_TRIES)
            err = chv_fail(why, CHV_ERR_BUSY, "%s: another program is changing it", path);
        else
            (void)nanosleep(&wait, NULL);
    }
    if (err == CHV_OK)
        *lock = fd;
    else if (fd >= 0)
        close(fd);
    free(name);
    return err;
}

enum chv_err chv_registry_revoked_set(const char *path, const char *id, enum chv_client_status status,
                                      const char *reason, bool *changed, struct chv_why *why)
{
    struct revoked_change c = {.path = path, .id = id, .status = status, .reason = reason != NULL ? reason : ""};
    int lock = -1;
    if (!chv_client_id_valid(id))
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%s': not a client id", chv_registry_show(id).text);
    if (!chv_registry_text_valid(c.reason, CHV_REGISTRY_REASON_MAX - sizeof word_suspended - 1))
        return chv_fail(why, CHV_ERR_ARGUMENT, "the reason is too long or not printable");
    if (status != CHV_CLIENT_ACTIVE && status != CHV_CLIENT_SUSPENDED && status != CHV_CLIENT_REVOKED)
        return chv_fail(why, CHV_ERR_ARGUMENT, "the file does not know that status");
    enum chv_err err = take_lock(path, &lock, why);
    if (err != CHV_OK)
        return err;
    err = change(&c, changed, why);
    free(c.text);
    close(lock);
    return err;
}
