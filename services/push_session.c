/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/push_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/credential.h"
#include "net/log.h"
#include "net/loop.h"
#include "services/push_claims.h"

enum {
    PICKS = 512,        /* entries that one look at the folder finds */
    REFUSED_MAX = 1024, /* by one connection; while it has refused so many it is offered none */
    REFUSED_ROOM = REFUSED_MAX + CHV_PUSH_WINDOW, /* it may refuse what it was offered before, too */
    ENTRY_TRIES = 3                               /* a folder that changes while it is read */
};

struct push_ids {
    uint8_t (*list)[CHV_PUSH_ID_LEN];
    size_t count, room, at; /* at: the next one */
};

struct chv_push_session {
    const struct chv_push_outbox *outbox;
    char id[CHV_CLIENT_ID_MAX + 1];
    int folder; /* -1: none yet */
    unsigned folder_number;
    bool warned; /* it is there and cannot be read: that was logged */
    struct chv_push_claims *claims;
    struct chv_push_entry *offered; /* CHV_PUSH_WINDOW; NULL: none */
    size_t offered_count;
    struct push_ids picks, refused; /* picks: ascending */
    bool look, idle;                /* the folder is to be read again; IDLE was sent, and nothing since */
    struct {
        bool active;
        int fd;
        struct chv_push_entry entry;
        uint64_t at;
        struct chv_files_digest *digest;
    } stream;
    struct chv_files_out *out;
};

enum chv_err chv_push_session_new(const struct chv_push_outbox *outbox, const char *id, void (*wake)(void *arg),
                                  void *arg, struct chv_push_session **session)
{
    struct chv_push_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return CHV_ERR_MEMORY;
    s->outbox = outbox;
    s->folder = s->stream.fd = -1;
    s->look = true;
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    enum chv_err err = chv_push_claims_new(id, wake, arg, &s->claims);
    if (err == CHV_OK)
        *session = s;
    else
        free(s);
    return err;
}

static void end_stream(struct chv_push_session *s)
{
    if (s->stream.fd >= 0)
        (void)close(s->stream.fd);
    chv_files_digest_free(s->stream.digest);
    s->stream.fd = -1;
    s->stream.digest = NULL;
    s->stream.active = false;
}

void chv_push_session_free(struct chv_push_session *session)
{
    if (session == NULL)
        return;
    end_stream(session);
    if (session->folder >= 0)
        (void)close(session->folder);
    chv_push_claims_free(session->claims);
    free(session->offered);
    free(session->picks.list);
    free(session->refused.list);
    free(session);
}

unsigned chv_push_session_folder(const struct chv_push_session *session)
{
    return session->folder >= 0 ? session->folder_number : 0;
}

/*
 * keyadmin makes it, when there is something to push, and hands it over then: one that cannot be read may soon. One that
 * somebody has removed is let go.
 */
static enum chv_err open_folder(struct chv_push_session *s)
{
    struct stat st;
    if (s->folder >= 0 && fstat(s->folder, &st) == 0 && st.st_nlink > 0)
        return CHV_OK;
    if (s->folder >= 0)
        (void)close(s->folder);
    s->folder = -1;
    int failed = chv_push_folder_open(s->outbox, s->id, false, &s->folder);
    if (failed == EACCES && !s->warned)
        chv_log(CHV_LOG_WARNING, "client '%s': its folder in the outbox cannot be read: %s", s->id,
                strerrordesc_np(failed));
    s->warned = failed == EACCES;
    s->folder_number += failed == 0;
    return failed == 0 || failed == ENOENT || failed == EACCES ? CHV_OK : CHV_ERR_IO;
}

void chv_push_session_look(struct chv_push_session *session, bool again)
{
    if (again && session->refused.count > 0) {
        session->refused.count = 0;
        session->idle = false;
    }
    session->look = true;
}

/* --- lists of ids -------------------------------------------------------------------------------------------------- */

/* Room for one more; false: there are `most`, or there is no memory. */
static bool ids_grow(struct push_ids *ids, size_t most)
{
    if (ids->count < ids->room || ids->count >= most)
        return ids->count < ids->room;
    size_t room = ids->room > 0 ? 2 * ids->room : 16;
    room = room < most ? room : most;
    void *list = realloc(ids->list, room * sizeof *ids->list);
    if (list == NULL)
        return false;
    ids->list = list;
    ids->room = room;
    return true;
}

static bool ids_has(const struct push_ids *ids, const uint8_t id[CHV_PUSH_ID_LEN])
{
    for (size_t i = 0; i < ids->count; i++)
        if (memcmp(ids->list[i], id, CHV_PUSH_ID_LEN) == 0)
            return true;
    return false;
}

/* Idle connections are many. */
static void ids_clear(struct push_ids *ids)
{
    free(ids->list);
    *ids = (struct push_ids){.list = NULL};
}

/* --- offers -------------------------------------------------------------------------------------------------------- */

static struct chv_push_entry *find_offer(const struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    for (size_t i = 0; s->offered != NULL && i < s->offered_count; i++)
        if (memcmp(s->offered[i].id, id, CHV_PUSH_ID_LEN) == 0)
            return &s->offered[i];
    return NULL;
}

static void drop_offer(struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN], bool wake)
{
    struct chv_push_entry *offer = find_offer(s, id);
    if (offer != NULL && s->offered != NULL)
        *offer = s->offered[--s->offered_count];
    chv_push_unclaim(s->claims, id, wake);
    if (s->offered_count == 0) {
        free(s->offered);
        s->offered = NULL;
    }
}

/* It stays, and is not offered to this connection for a while. */
static enum chv_err set_aside(struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN], unsigned code,
                              const char *text)
{
    struct chv_push_mark mark = {.code = code, .time = (uint64_t)time(NULL)};
    (void)snprintf(mark.text, sizeof mark.text, "%s", text);
    (void)chv_push_mark_write(s->outbox, s->folder, id, &mark); /* for people only */
    bool kept = ids_grow(&s->refused, REFUSED_ROOM);
    if (kept)
        memcpy(s->refused.list[s->refused.count++], id, CHV_PUSH_ID_LEN);
    drop_offer(s, id, true);
    return kept ? CHV_OK : CHV_ERR_MEMORY;
}

static enum chv_err send_gone(struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    uint8_t *body = chv_files_out_body(s->out, CHV_PUSH_ID_LEN);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    memcpy(body, id, CHV_PUSH_ID_LEN);
    chv_files_out_add(s->out, CHV_PUSH_GONE, CHV_PUSH_ID_LEN);
    return CHV_OK;
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

/* A stream whose entry is answered already is not wanted any more. */
static enum chv_err stop_stream(struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    if (!s->stream.active || memcmp(s->stream.entry.id, id, CHV_PUSH_ID_LEN) != 0)
        return CHV_OK;
    end_stream(s);
    return chv_files_out_end(s->out, NULL);
}

static enum chv_err on_refused(struct chv_push_session *s, const struct chv_push_answer *answer)
{
    if (find_offer(s, answer->id) == NULL)
        return CHV_OK; /* it was given up meanwhile */
    enum chv_err err = stop_stream(s, answer->id);
    return err == CHV_OK ? set_aside(s, answer->id, answer->code, answer->text) : err;
}

/* *there: it is to be removed. One that is gone, whoever removed it, is only confirmed. */
static enum chv_err find_stored(struct chv_push_session *s, const struct chv_push_answer *answer,
                                struct chv_push_entry *entry, bool *there)
{
    const struct chv_push_entry *offer = find_offer(s, answer->id);
    int failed = 0;
    if (offer != NULL)
        *entry = *offer;
    else
        failed = s->folder >= 0 ? chv_push_entry_open(s->folder, answer->id, entry, NULL) : ENOENT;
    if (failed == EBADMSG) { /* nothing to compare with, and nothing that anybody could be offered */
        *entry = (struct chv_push_entry){.size = 0};
        memcpy(entry->id, answer->id, sizeof entry->id);
        memcpy(entry->sha256, answer->sha256, sizeof entry->sha256);
        failed = 0;
    }
    *there = failed == 0;
    if (failed == 0 && memcmp(entry->sha256, answer->sha256, sizeof entry->sha256) != 0)
        return CHV_ERR_PROTOCOL;
    return failed == 0 || failed == ENOENT ? stop_stream(s, answer->id) : CHV_ERR_IO;
}

/* All of them with one fsync. */
static enum chv_err remove_stored(struct chv_push_session *s, const struct chv_push_entry *entries, size_t n)
{
    bool removed = n > 0;
    (void)chv_push_log_add(s->outbox, s->folder, entries, n, (uint64_t)time(NULL)); /* for people only */
    for (size_t i = 0; i < n; i++) {
        int failed = chv_push_entry_remove(s->folder, entries[i].id);
        if (failed != 0 && failed != ENOENT)
            return CHV_ERR_IO;
    }
    return !removed || fsync(s->folder) == 0 ? CHV_OK : CHV_ERR_IO;
}

enum chv_err chv_push_session_answers(struct chv_push_session *session, const struct chv_push_answer *answers, size_t n,
                                      struct chv_files_out *out)
{
    struct chv_push_session *s = session;
    struct chv_push_entry *stored = n > 0 ? calloc(n, sizeof *stored) : NULL;
    size_t count = 0;
    /* Before the first look at it, too: an entry must not be called gone because nobody has looked. */
    enum chv_err err = n > 0 && stored == NULL ? CHV_ERR_MEMORY : open_folder(s);
    if (err == CHV_OK && s->warned)
        err = CHV_ERR_IO;
    s->out = out;
    for (size_t i = 0; i < n && err == CHV_OK; i++) {
        bool there = false;
        if (answers[i].code == 200)
            err = find_stored(s, &answers[i], &stored[count], &there);
        else
            err = on_refused(s, &answers[i]);
        count += err == CHV_OK && there;
    }
    if (err == CHV_OK && count > 0)
        err = remove_stored(s, stored, count);
    for (size_t i = 0; i < n && err == CHV_OK; i++)
        if (answers[i].code == 200) {
            drop_offer(s, answers[i].id, false);
            err = send_gone(s, answers[i].id);
        }
    free(stored);
    return err;
}

/* --- entries ------------------------------------------------------------------------------------------------------- */

/* Keeps the first PICKS of those that can be offered. */
static bool pick(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    struct chv_push_session *s = arg;
    struct push_ids *p = &s->picks;
    if (ids_has(&s->refused, id) || chv_push_claimed(s->claims, id))
        return true;
    size_t low = 0, high = p->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (memcmp(p->list[middle], id, CHV_PUSH_ID_LEN) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (p->count == PICKS) {
        s->look = true; /* there are more: look again when these are through */
        if (low == PICKS)
            return true;
        p->count--;
    }
    if (!ids_grow(p, PICKS))
        return false;
    memmove(p->list + low + 1, p->list + low, (p->count - low) * sizeof *p->list);
    memcpy(p->list[low], id, CHV_PUSH_ID_LEN);
    p->count++;
    return true;
}

static enum chv_err look(struct chv_push_session *s)
{
    s->look = false;
    s->picks.count = s->picks.at = 0;
    enum chv_err err = open_folder(s);
    if (err != CHV_OK || s->folder < 0 || s->refused.count >= REFUSED_MAX)
        return err;
    return chv_push_folder_each(s->folder, pick, s) == 0 ? CHV_OK : CHV_ERR_IO;
}

static enum chv_err send_entry(struct chv_push_session *s)
{
    size_t len = CHV_PUSH_MAP_MAX;
    uint8_t *body = chv_files_out_body(s->out, len);
    if (body == NULL)
        return CHV_ERR_MEMORY;
    if (s->offered == NULL)
        s->offered = calloc(CHV_PUSH_WINDOW, sizeof *s->offered);
    if (s->offered == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = chv_files_digest_new(&s->stream.digest);
    if (err == CHV_OK)
        err = chv_push_entry_encode(&s->stream.entry, body, &len);
    if (err != CHV_OK)
        return err;
    s->offered[s->offered_count++] = s->stream.entry;
    s->stream.active = true;
    s->stream.at = 0;
    s->idle = false;
    chv_files_out_add(s->out, CHV_PUSH_ENTRY, len);
    return CHV_OK;
}

static enum chv_err offer(struct chv_push_session *s, const uint8_t id[CHV_PUSH_ID_LEN])
{
    if (!chv_push_claim(s->claims, id))
        return CHV_OK;
    int failed = chv_push_entry_open(s->folder, id, &s->stream.entry, &s->stream.fd);
    if (failed == 0)
        return send_entry(s);
    if (failed == EBADMSG)
        return set_aside(s, id, 500, "the server's file of it is damaged");
    chv_push_unclaim(s->claims, id, false);
    return failed == ENOENT ? CHV_OK : CHV_ERR_IO; /* delivered or cancelled meanwhile */
}

/* The next one, or IDLE. */
static enum chv_err next_entry(struct chv_push_session *s)
{
    enum chv_err err = CHV_OK;
    for (unsigned tries = 0; tries < ENTRY_TRIES && err == CHV_OK && !s->stream.active;) {
        if (s->refused.count >= REFUSED_MAX)
            s->picks.at = s->picks.count;
        if (s->picks.at < s->picks.count) {
            err = offer(s, s->picks.list[s->picks.at++]);
        } else if (s->look) {
            err = look(s);
            tries++;
        } else {
            break;
        }
    }
    if (err != CHV_OK || s->stream.active || s->picks.at < s->picks.count || s->look)
        return err;
    ids_clear(&s->picks);
    if (s->idle)
        return CHV_OK;
    if (chv_files_out_body(s->out, 0) == NULL)
        return CHV_ERR_MEMORY;
    chv_files_out_add(s->out, CHV_PUSH_IDLE, 0);
    s->idle = true;
    return CHV_OK;
}

static enum chv_err finish_entry(struct chv_push_session *s)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    const struct chv_push_entry entry = s->stream.entry;
    enum chv_err err = chv_files_digest_finish(s->stream.digest, digest);
    if (err != CHV_OK)
        return err;
    end_stream(s);
    if (memcmp(digest, entry.sha256, sizeof digest) == 0)
        return chv_files_out_end(s->out, digest);
    err = chv_files_out_end(s->out, NULL);
    return err == CHV_OK ? set_aside(s, entry.id, 500, "the server's file of it is damaged") : err;
}

static enum chv_err more_content(struct chv_push_session *s)
{
    const uint64_t size = s->stream.entry.size;
    while (s->stream.at < size && s->out->len < CHV_FILES_OUT_FULL) {
        const uint64_t left = size - s->stream.at;
        const size_t want = left < CHV_RECORD_BULK_BODY ? (size_t)left : CHV_RECORD_BULK_BODY;
        uint8_t *body = chv_files_out_body(s->out, want);
        if (body == NULL)
            return CHV_ERR_MEMORY;
        ssize_t n = pread(s->stream.fd, body, want, (off_t)(CHV_PUSH_HEAD + s->stream.at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return finish_entry(s); /* its digest will not be right */
        enum chv_err err = chv_files_digest_add(s->stream.digest, body, (size_t)n);
        if (err != CHV_OK)
            return err;
        chv_files_out_add(s->out, CHV_RECORD_DATA, (size_t)n);
        s->stream.at += (uint64_t)n;
    }
    return s->stream.at < size ? CHV_OK : finish_entry(s);
}

bool chv_push_session_busy(const struct chv_push_session *session)
{
    return session->stream.active || (session->offered_count < CHV_PUSH_WINDOW &&
                                      (session->look || session->picks.at < session->picks.count || !session->idle));
}

enum chv_err chv_push_session_more(struct chv_push_session *session, struct chv_files_out *out)
{
    enum chv_err err = CHV_OK;
    session->out = out;
    while (err == CHV_OK && out->len < CHV_FILES_OUT_FULL && chv_push_session_busy(session)) {
        const size_t before = out->len;
        err = session->stream.active ? more_content(session) : next_entry(session);
        if (out->len == before && !session->stream.active)
            break; /* a folder that changes all the time: next time */
    }
    return err;
}
