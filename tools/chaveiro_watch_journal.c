/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tools/chaveiro_watch_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "services/files_home.h"

#define JOURNAL "journal"

static const char journal_magic[] = "chaveiro-watch 1 ";

enum {
    LINE_MAX_BYTES = 512,
    JOURNAL_MAX = 64 << 20,
    JOURNAL_FULL = 1 << 20 /* bytes, after which what counts still is written anew */
};

static enum chv_err journal_fail(const struct chaveiro_watch_state *s, enum chv_err err, const char *what,
                                 struct chv_why *why)
{
    return chv_fail(why, err, "%s/" CHV_PUSH_STATE "/" JOURNAL ": %s", s->folder, what);
}

static enum chv_err add_intent(struct chaveiro_watch_state *s, const struct chaveiro_watch_intent *intent)
{
    if (s->count == s->room) {
        const size_t room = s->room > 0 ? 2 * s->room : CHV_PUSH_WINDOW;
        struct chaveiro_watch_intent *intents = realloc(s->intents, room * sizeof *intents);
        if (intents == NULL)
            return CHV_ERR_MEMORY;
        s->intents = intents;
        s->room = room;
    }
    s->intents[s->count++] = *intent;
    return CHV_OK;
}

void chaveiro_journal_forget(struct chaveiro_watch_state *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    for (size_t i = 0; i < s->count; i++)
        if (memcmp(s->intents[i].id, id, CHV_PUSH_ID_LEN) == 0) {
            s->intents[i] = s->intents[--s->count];
            return;
        }
}

/* --- in ------------------------------------------------------------------------------------------------------------ */

/* "ENTRY SHA256 NAME" */
static bool parse_intent(const char *line, struct chaveiro_watch_intent *intent)
{
    char id[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    size_t len = sizeof intent->sha256;
    if (strlen(line) < sizeof id + sizeof hex || line[sizeof id - 1] != ' ' || line[sizeof id + sizeof hex - 1] != ' ')
        return false;
    memcpy(id, line, sizeof id - 1);
    id[sizeof id - 1] = '\0';
    memcpy(hex, line + sizeof id, sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    const char *name = line + sizeof id + sizeof hex;
    const size_t name_len = strlen(name);
    if (!chv_push_id_parse(id, intent->id) || chv_hex_decode(hex, sizeof hex - 1, intent->sha256, &len) != CHV_OK ||
        len != sizeof intent->sha256 || name_len > CHV_FILES_NAME_MAX || chv_push_name_check(name, name_len) != NULL)
        return false;
    memcpy(intent->name, name, name_len + 1);
    return true;
}

/* False: no line of a journal. */
static bool parse_line(struct chaveiro_watch_state *s, char *line, enum chv_err *err)
{
    struct chaveiro_watch_intent intent;
    uint8_t id[CHV_PUSH_ID_LEN];
    if (strncmp(line, "I ", 2) == 0 && parse_intent(line + 2, &intent)) {
        if (chaveiro_watch_find(s, intent.id) == NULL)
            *err = add_intent(s, &intent);
        return true;
    }
    if (strncmp(line, "G ", 2) != 0 || !chv_push_id_parse(line + 2, id))
        return false;
    chaveiro_journal_forget(s, id);
    return true;
}

/*
 * What was appended behind the last fdatasync may be there in part after a loss of power: it did not count yet, so from
 * the first line that is none on everything is left out. The first line came with the file.
 */
static enum chv_err parse(struct chaveiro_watch_state *s, char *text, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    char *end = strchr(text, '\n');
    if (end == NULL || strncmp(text, journal_magic, sizeof journal_magic - 1) != 0)
        return journal_fail(s, CHV_ERR_DAMAGED, "is no journal of 'chaveiro watch'", why);
    *end = '\0';
    if (snprintf(s->who, sizeof s->who, "%s", text + sizeof journal_magic - 1) >= (int)sizeof s->who ||
        s->who[0] == '\0')
        return journal_fail(s, CHV_ERR_DAMAGED, "its first line is damaged", why);
    s->head = s->size = (uint64_t)(end + 1 - text);
    for (char *line = end + 1; err == CHV_OK && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (!parse_line(s, line, &err))
            break;
        s->size = (uint64_t)(end + 1 - text);
    }
    return err;
}

enum chv_err chaveiro_journal_read(struct chaveiro_watch_state *s, struct chv_why *why)
{
    struct stat st;
    int fd = openat(s->own, JOURNAL, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return CHV_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        enum chv_err err = journal_fail(s, CHV_ERR_IO, strerror(errno), why);
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    char *text = st.st_size <= JOURNAL_MAX ? malloc((size_t)st.st_size + 1) : NULL;
    enum chv_err err = text == NULL ? CHV_ERR_MEMORY : CHV_OK;
    size_t len = 0;
    while (err == CHV_OK && len < (size_t)st.st_size) {
        ssize_t n = pread(fd, text + len, (size_t)st.st_size - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            err = journal_fail(s, CHV_ERR_IO, n < 0 ? strerror(errno) : "changed while it was read", why);
        len += n > 0 ? (size_t)n : 0;
    }
    if (err == CHV_OK) {
        text[len] = '\0';
        err = parse(s, text, why);
    }
    free(text);
    (void)close(fd);
    return err;
}

enum chv_err chaveiro_journal_go_on(struct chaveiro_watch_state *s, struct chv_why *why)
{
    s->journal = openat(s->own, JOURNAL, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (s->journal < 0 || ftruncate(s->journal, (off_t)s->size) != 0)
        return journal_fail(s, CHV_ERR_IO, strerror(errno), why);
    return CHV_OK;
}

/* --- out ----------------------------------------------------------------------------------------------------------- */

static size_t intent_line(const uint8_t id[CHV_PUSH_ID_LEN], const uint8_t sha256[CHV_FILES_DIGEST_LEN],
                          const char *name, char out[LINE_MAX_BYTES])
{
    char text[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    chv_push_id_text(id, text);
    chv_hex_encode(sha256, CHV_FILES_DIGEST_LEN, hex);
    return (size_t)snprintf(out, LINE_MAX_BYTES, "I %s %s %s\n", text, hex, name);
}

static char *whole_text(const struct chaveiro_watch_state *s, size_t *len, uint64_t *head)
{
    char *text = malloc((s->count + 2) * LINE_MAX_BYTES);
    if (text == NULL)
        return NULL;
    *len = (size_t)snprintf(text, 2 * LINE_MAX_BYTES, "%s%s\n", journal_magic, s->who);
    *head = *len;
    for (size_t i = 0; i < s->count; i++)
        *len += intent_line(s->intents[i].id, s->intents[i].sha256, s->intents[i].name, text + *len);
    return text;
}

enum chv_err chaveiro_journal_rewrite(struct chaveiro_watch_state *s, struct chv_why *why)
{
    size_t len = 0;
    uint64_t head = 0;
    char *text = whole_text(s, &len, &head);
    if (text == NULL)
        return CHV_ERR_MEMORY;
    int fd = openat(s->own, JOURNAL ".new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int failed = fd < 0 ? errno : chv_files_write_all(fd, text, len, 0);
    free(text);
    if (failed == 0 && fsync(fd) != 0)
        failed = errno;
    if (failed == 0 && renameat(s->own, JOURNAL ".new", s->own, JOURNAL) != 0)
        failed = errno;
    if (failed == 0 && fsync(s->own) != 0)
        failed = errno;
    if (failed != 0) {
        if (fd >= 0)
            (void)close(fd);
        return journal_fail(s, CHV_ERR_IO, strerror(failed), why);
    }
    if (s->journal >= 0)
        (void)close(s->journal);
    s->journal = fd;
    s->size = len;
    s->head = head;
    return CHV_OK;
}

/* All lines at once; none counts if they cannot be written. */
static int write_intents(struct chaveiro_watch_state *s, const struct chaveiro_watch_file *files, size_t n)
{
    size_t len = 0;
    char *text = malloc((n + 1) * LINE_MAX_BYTES);
    if (text == NULL)
        return ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (files[i].code == 200)
            len += intent_line(files[i].entry.id, files[i].entry.sha256, files[i].entry.name, text + len);
    int failed = chv_files_write_all(s->journal, text, len, s->size);
    free(text);
    if (failed == 0 && fdatasync(s->journal) != 0)
        failed = errno;
    if (failed == 0)
        s->size += len;
    return failed;
}

enum chv_err chaveiro_journal_intend(struct chaveiro_watch_state *s, struct chaveiro_watch_file *files, size_t n,
                                     struct chv_why *why)
{
    int failed = write_intents(s, files, n);
    if (failed != 0 && (ftruncate(s->journal, (off_t)s->size) != 0 || fdatasync(s->journal) != 0))
        return journal_fail(s, CHV_ERR_IO, strerror(errno), why);
    for (size_t i = 0; i < n; i++) {
        struct chaveiro_watch_intent intent;
        if (files[i].code != 200)
            continue;
        if (failed != 0) {
            chaveiro_watch_refuse(&files[i], failed);
            continue;
        }
        memset(&intent, 0, sizeof intent);
        memcpy(intent.id, files[i].entry.id, sizeof intent.id);
        memcpy(intent.sha256, files[i].entry.sha256, sizeof intent.sha256);
        memcpy(intent.name, files[i].entry.name, sizeof intent.name);
        if (add_intent(s, &intent) != CHV_OK)
            return CHV_ERR_MEMORY;
    }
    return CHV_OK;
}

/* Not yet durable. Returns 0 or errno. */
static int write_gone(struct chaveiro_watch_state *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    char line[LINE_MAX_BYTES], text[CHV_PUSH_ID_TEXT];
    chv_push_id_text(id, text);
    const size_t len = (size_t)snprintf(line, sizeof line, "G %s\n", text);
    int failed = chv_files_write_all(s->journal, line, len, s->size);
    if (failed == 0)
        s->size += len;
    return failed; /* a part of a line is overwritten, or left out by who reads it */
}

enum chv_err chaveiro_journal_abort(struct chaveiro_watch_state *s, const struct chaveiro_watch_file *files, size_t n,
                                    struct chv_why *why)
{
    int failed = 0;
    for (size_t i = 0; i < n && failed == 0; i++) {
        if (files[i].code == 200 || chaveiro_watch_find(s, files[i].entry.id) == NULL)
            continue;
        chaveiro_journal_forget(s, files[i].entry.id);
        failed = write_gone(s, files[i].entry.id);
    }
    if (failed == 0 && fdatasync(s->journal) != 0)
        failed = errno;
    return failed == 0 ? CHV_OK : journal_fail(s, CHV_ERR_IO, strerror(failed), why);
}

enum chv_err chaveiro_watch_gone(struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN],
                                 struct chv_why *why)
{
    struct chaveiro_watch_state *s = state;
    if (chaveiro_watch_find(s, id) == NULL)
        return CHV_OK;
    chaveiro_journal_forget(s, id);
    if (s->count == 0) {
        s->size = s->head;
        return ftruncate(s->journal, (off_t)s->size) == 0 ? CHV_OK : journal_fail(s, CHV_ERR_IO, strerror(errno), why);
    }
    if (s->size > JOURNAL_FULL)
        return chaveiro_journal_rewrite(s, why);
    (void)write_gone(s, id); /* a line that is lost is asked for again */
    return CHV_OK;
}
