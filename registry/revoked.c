/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry = none: a text file of who is denied, and the deny snapshot, which has the same form (doc/registry.md):
 *
 *     # comment
 *     ID EPOCH.SERIAL [scopes=A,B] [REASON]      credentials older than that are denied
 *     ID * [scopes=A,B] [REASON]                 all are
 *
 * Two lines about one client: the stricter of both.
 */
#include "registry/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, FILE_MAX_BYTES = 64 << 20 };

/* One line; what a client has more is made up when it is asked for. */
struct entry {
    char id[CHV_CLIENT_ID_MAX + 1];
    char *scopes; /* "a,b"; NULL: not narrowed */
    char *reason; /* NULL: none */
    bool all;
    struct chv_issue minimum;
};

struct entries {
    struct entry *list;
    size_t n, room;
};

struct revoked_registry {
    struct chv_registry_head head;
    char *path;
    uid_t owner;            /* may own the file besides root and who reads it; 0: nobody */
    struct entries entries; /* sorted, no id twice */
    struct stat file;       /* as it was read or tried last */
    uint64_t generation;
    bool changed;
};

static struct revoked_registry *revoked_of(struct chv_registry *r)
{
    return (struct revoked_registry *)(void *)r;
}

static void free_entries(struct entries *entries)
{
    for (size_t i = 0; i < entries->n; i++) {
        free(entries->list[i].scopes);
        free(entries->list[i].reason);
    }
    free(entries->list);
    *entries = (struct entries){0};
}

static bool parse_u32(const char *text, char end, uint32_t *value)
{
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 10 || text[0] == '0' || text[digits] != end)
        return false;
    unsigned long long v = strtoull(text, NULL, 10);
    *value = (uint32_t)v;
    return v <= UINT32_MAX;
}

static bool parse_minimum(const char *text, struct entry *e)
{
    if (strcmp(text, "*") == 0) {
        e->all = true;
        return true;
    }
    const char *dot = strchr(text, '.');
    return dot != NULL && parse_u32(text, '.', &e->minimum.epoch) && parse_u32(dot + 1, '\0', &e->minimum.serial);
}

/* The next word, cut out of *text; NULL at the end. */
static char *next_word(char **text)
{
    *text += strspn(*text, " ");
    if (**text == '\0')
        return NULL;
    char *word = *text;
    *text += strcspn(*text, " ");
    if (**text != '\0')
        *(*text)++ = '\0';
    return word;
}

/* Without the status that stands before it in a text file: who prints the reason says the status itself. */
static const char *bare_reason(const char *reason)
{
    static const char *const words[] = {"revoked", "suspended"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t len = strlen(words[i]);
        if (strncmp(reason, words[i], len) == 0 && reason[len] == '\0')
            return reason + len;
        if (strncmp(reason, words[i], len) == 0 && strncmp(reason + len, ": ", 2) == 0)
            return reason + len + 2;
    }
    return reason;
}

/* What is wrong with the line, or NULL.  `line` is changed; an empty one or a comment leaves e->id empty. */
static const char *parse_line(char *line, struct entry *e)
{
    static const char scopes_are[] = "scopes=";
    struct chv_registry_client checked;
    *e = (struct entry){.all = false};
    for (char *c = line; *c != '\0'; c++)
        if (*c == '\t')
            *c = ' ';
    if (!chv_registry_text_valid(line, LINE_MAX_BYTES))
        return "is not printable text";
    char *id = next_word(&line);
    if (id == NULL || id[0] == '#')
        return NULL;
    if (!chv_client_id_valid(id))
        return "does not begin with a client id";
    char *minimum = next_word(&line);
    if (minimum == NULL || !parse_minimum(minimum, e))
        return "has no EPOCH.SERIAL or * behind the id";
    line += strspn(line, " ");
    if (strncmp(line, scopes_are, strlen(scopes_are)) == 0) {
        char *scopes = next_word(&line) + strlen(scopes_are);
        if (strchr(scopes, '+') != NULL || !chv_registry_scopes_parse(scopes, ',', &checked))
            return "has scopes that are unknown words or not in order";
        e->scopes = strdup(scopes);
        line += strspn(line, " ");
        if (e->scopes == NULL)
            return "does not fit into memory";
    }
    if (!chv_registry_text_valid(e->all ? bare_reason(line) : line, CHV_REGISTRY_REASON_MAX))
        return "has a reason that is too long or not printable";
    if (line[0] != '\0' && (e->reason = strdup(line)) == NULL)
        return "does not fit into memory";
    memcpy(e->id, id, strlen(id));
    return NULL;
}

static enum chv_err add_entry(struct entries *entries, const struct entry *e)
{
    if (entries->n == entries->room) {
        size_t room = entries->room == 0 ? 64 : entries->room * 2;
        struct entry *more = reallocarray(entries->list, room, sizeof *more);
        if (more == NULL)
            return CHV_ERR_MEMORY;
        entries->list = more;
        entries->room = room;
    }
    entries->list[entries->n++] = *e;
    return CHV_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->id, ((const struct entry *)b)->id);
}

/* The scopes that both have. */
static void intersect(char *scopes, const char *other)
{
    struct chv_registry_client a, b, both = {.scope_count = 0};
    char text[CHV_REGISTRY_SCOPES_TEXT];
    if (!chv_registry_scopes_parse(scopes, ',', &a) || !chv_registry_scopes_parse(other, ',', &b))
        return;
    for (size_t i = 0; i < a.scope_count; i++)
        for (size_t k = 0; k < b.scope_count; k++)
            if (strcmp(a.scopes[i], b.scopes[k]) == 0)
                memcpy(both.scopes[both.scope_count++], a.scopes[i], sizeof both.scopes[0]);
    chv_registry_scopes_format(&both, ',', text);
    memcpy(scopes, text, strlen(text) + 1); /* no longer than it was */
}

static void merge(struct entry *into, struct entry *from)
{
    into->all = into->all || from->all;
    if (chv_issue_compare(from->minimum, into->minimum) > 0)
        into->minimum = from->minimum;
    if (into->scopes != NULL && from->scopes != NULL) {
        intersect(into->scopes, from->scopes);
    } else if (into->scopes == NULL) {
        into->scopes = from->scopes;
        from->scopes = NULL;
    }
    if (into->reason == NULL) {
        into->reason = from->reason;
        from->reason = NULL;
    }
    free(from->scopes);
    free(from->reason);
}

static void sort(struct entries *entries)
{
    if (entries->n == 0)
        return;
    qsort(entries->list, entries->n, sizeof *entries->list, by_id);
    size_t kept = 0;
    for (size_t i = 1; i < entries->n; i++)
        if (strcmp(entries->list[kept].id, entries->list[i].id) == 0)
            merge(&entries->list[kept], &entries->list[i]);
        else
            entries->list[++kept] = entries->list[i];
    entries->n = kept + 1;
}

static enum chv_err take_line(char *line, ssize_t len, const char *path, size_t number, struct entries *entries,
                              struct chv_why *why)
{
    struct entry e = {.all = false};
    if (line[len - 1] == '\n')
        line[--len] = '\0';
    /* a NUL would hide what stands behind it */
    const char *wrong = len > LINE_MAX_BYTES          ? "is too long"
                        : strlen(line) != (size_t)len ? "has a NUL in it"
                                                      : parse_line(line, &e);
    enum chv_err err = CHV_OK;
    if (wrong != NULL)
        err = chv_fail(why, CHV_ERR_MALFORMED, "%s: line %zu %s", path, number, wrong);
    else if (e.id[0] != '\0' && add_entry(entries, &e) != CHV_OK)
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    if (err != CHV_OK) {
        free(e.scopes);
        free(e.reason);
    }
    return err;
}

static enum chv_err parse_file(FILE *in, const char *path, struct entries *entries, struct chv_why *why)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    enum chv_err err = CHV_OK;
    for (size_t number = 1; err == CHV_OK && (len = getline(&line, &room, in)) > 0; number++)
        err = take_line(line, len, path, number, entries, why);
    if (err == CHV_OK && !feof(in))
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", path, strerror(errno));
    free(line);
    return err;
}

/* Who owns the folder can take the file away altogether, and then nobody is denied. */
static bool owns_folder(const char *path, uid_t uid)
{
    struct stat st;
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    bool owns = folder != NULL && stat(folder, &st) == 0 && st.st_uid == uid;
    free(folder);
    return owns;
}

static enum chv_err check_file(const char *path, uid_t owner, const struct stat *st, struct chv_why *why)
{
    if (!S_ISREG(st->st_mode))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is not a file", path);
    if (st->st_uid != 0 && st->st_uid != geteuid() && st->st_uid != owner && !owns_folder(path, st->st_uid))
        return chv_fail(why, CHV_ERR_STORE_MODE,
                        "%s: belongs to user %lu, who could let anybody in: give it to root or to user %lu", path,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: others can write to it: chmod go-w it", path);
    if (st->st_size > FILE_MAX_BYTES)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: is larger than %d MiB", path, FILE_MAX_BYTES >> 20);
    return CHV_OK;
}

/* Reads the file; what was read before stays where that fails. */
static enum chv_err load(struct revoked_registry *r, struct chv_why *why)
{
    struct entries entries = {0};
    int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    if (in == NULL) {
        enum chv_err err = errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO;
        err = chv_fail(why, err, "%s: %s", r->path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    enum chv_err err = CHV_OK;
    if (fstat(fd, &r->file) != 0)
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", r->path, strerror(errno));
    if (err == CHV_OK)
        err = check_file(r->path, r->owner, &r->file, why);
    if (err == CHV_OK)
        err = parse_file(in, r->path, &entries, why);
    (void)fclose(in);
    if (err != CHV_OK) {
        free_entries(&entries);
        return err;
    }
    sort(&entries);
    free_entries(&r->entries);
    r->entries = entries;
    r->generation++;
    r->changed = true;
    return CHV_OK;
}

static bool same_stat(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mode == b->st_mode &&
           a->st_uid == b->st_uid && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Reads the file again if it is another one; a failure is told once for each state of the file. */
static enum chv_err refresh(struct revoked_registry *r, struct chv_why *why)
{
    struct stat now = {0};
    if (stat(r->path, &now) != 0)
        now = (struct stat){0}; /* gone: a state as any other, which load then tells */
    if (same_stat(&now, &r->file))
        return CHV_OK;
    enum chv_err err = load(r, why);
    if (err != CHV_OK) {
        r->file = now;
        if (why != NULL) {
            struct chv_why failure = *why;
            (void)chv_fail(why, err, "%.400s; the lines read before stay in force", failure.text);
        }
    }
    return err;
}

static void revoked_close(struct chv_registry *reg)
{
    struct revoked_registry *r = revoked_of(reg);
    free_entries(&r->entries);
    free(r->path);
    free(r);
}

static enum chv_err revoked_open(const char *uri, const struct chv_registry_options *options, struct chv_registry **out,
                                 struct chv_why *why)
{
    static const char scheme[] = "revoked:";
    const char *path = uri + strlen(scheme);
    if (path[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "registry '%s': no path stands behind the scheme: write revoked:PATH",
                        uri);
    struct revoked_registry *r = calloc(1, sizeof *r);
    if (r != NULL)
        r->path = strdup(path);
    if (r == NULL || r->path == NULL) {
        free(r);
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    }
    r->head.ops = &chv_registry_revoked_ops;
    r->head.name = r->path;
    r->owner = options->owner;
    enum chv_err err = load(r, why);
    if (err != CHV_OK) {
        revoked_close((struct chv_registry *)(void *)r);
        return err;
    }
    *out = (struct chv_registry *)(void *)r;
    return CHV_OK;
}

static enum chv_err revoked_info(struct chv_registry *reg, struct chv_registry_info *info, struct chv_why *why)
{
    (void)why;
    *info = (struct chv_registry_info){.schema = CHV_REGISTRY_SCHEMA, .generation = revoked_of(reg)->generation};
    return CHV_OK;
}

static void fill(struct chv_registry_client *c, const struct entry *e, uint64_t generation)
{
    *c = (struct chv_registry_client){.status = !e->all                               ? CHV_CLIENT_ACTIVE
                                                : chv_revoked_is_suspended(e->reason) ? CHV_CLIENT_SUSPENDED
                                                                                      : CHV_CLIENT_REVOKED,
                                      .minimum = e->minimum,
                                      .changed = generation};
    memcpy(c->id, e->id, sizeof c->id);
    if (e->reason != NULL)
        (void)snprintf(c->reason, sizeof c->reason, "%s", e->all ? bare_reason(e->reason) : e->reason);
    if (e->scopes != NULL && chv_registry_scopes_parse(e->scopes, ',', c))
        c->flags |= CHV_CLIENT_NARROWED;
}

static enum chv_err revoked_get(struct chv_registry *reg, const char *id, struct chv_registry_client *client,
                                struct chv_why *why)
{
    struct revoked_registry *r = revoked_of(reg);
    const struct entry *e = NULL;
    struct entry key;
    memset(&key, 0, sizeof key);
    memcpy(key.id, id, strlen(id));
    if (r->entries.n > 0)
        e = bsearch(&key, r->entries.list, r->entries.n, sizeof *e, by_id);
    if (e == NULL)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: no line about client %s", r->path, id);
    fill(client, e, r->generation);
    return CHV_OK;
}

static enum chv_err revoked_list(struct chv_registry *reg, const struct chv_registry_filter *f,
                                 chv_registry_client_fn each, void *arg, struct chv_why *why)
{
    struct revoked_registry *r = revoked_of(reg);
    enum chv_err err = CHV_OK;
    size_t left = f->limit;
    (void)why;
    if (f->expires_before != 0 || f->epoch != 0)
        return CHV_OK; /* the file does not say */
    for (size_t i = 0; i < r->entries.n && left > 0 && err == CHV_OK; i++) {
        struct chv_registry_client c;
        fill(&c, &r->entries.list[i], r->generation);
        if (strcmp(c.id, f->after) <= 0 || (f->statuses & CHV_CLIENT_STATUS_BIT(c.status)) == 0)
            continue;
        err = each(arg, &c);
        left--;
    }
    return err;
}

static enum chv_err revoked_poll(struct chv_registry *reg, bool *changed, struct chv_why *why)
{
    struct revoked_registry *r = revoked_of(reg);
    enum chv_err err = refresh(r, why);
    if (err != CHV_OK)
        return err;
    *changed = r->changed;
    r->changed = false;
    return CHV_OK;
}

const struct chv_registry_ops chv_registry_revoked_ops = {
    .abi = CHV_REGISTRY_ABI,
    .scheme = "revoked",
    .description = "a text file of who is denied; clients are not registered",
    .traits = 0,
    .open = revoked_open,
    .close = revoked_close,
    .info = revoked_info,
    .get = revoked_get,
    .list = revoked_list,
    .poll = revoked_poll,
};

struct snapshot {
    struct chv_registry *r;
    FILE *out;
};

/* A suspended client is known by the word before its reason; no other's reason may be read as that. */
static bool write_reason(FILE *out, const struct chv_registry_client *c)
{
    if (c->status == CHV_CLIENT_SUSPENDED)
        return fprintf(out, " suspended%s%s", c->reason[0] != '\0' ? ": " : "", c->reason) > 0;
    if (c->status != CHV_CLIENT_ACTIVE && (bare_reason(c->reason) != c->reason || chv_revoked_is_suspended(c->reason)))
        return fprintf(out, " revoked: %s", c->reason) > 0;
    if (c->status == CHV_CLIENT_REMOVED && c->reason[0] == '\0')
        return fprintf(out, " removed") > 0;
    /* a reason that would be read as scopes is not worth its line */
    if (c->reason[0] == '\0' || strncmp(c->reason, "scopes=", strlen("scopes=")) == 0)
        return true;
    return fprintf(out, " %s", c->reason) > 0;
}

static enum chv_err write_client(void *arg, const struct chv_registry_client *c)
{
    FILE *out = ((struct snapshot *)arg)->out;
    char scopes[CHV_REGISTRY_SCOPES_TEXT];
    bool ok;
    if (c->status == CHV_CLIENT_ACTIVE && c->minimum.serial > 0)
        ok = fprintf(out, "%s %u.%u", c->id, (unsigned)c->minimum.epoch, (unsigned)c->minimum.serial) > 0;
    else if (c->status == CHV_CLIENT_ACTIVE)
        ok = fprintf(out, "%s 1.1", c->id) > 0; /* narrowed only */
    else
        ok = fprintf(out, "%s *", c->id) > 0;
    if (ok && (c->flags & (CHV_CLIENT_NARROWED | CHV_CLIENT_NARROWED_OLD)) != 0) {
        struct chv_registry_client least = *c; /* a line does not tell one credential from another */
        chv_registry_client_release(&least, (struct chv_issue){0, 0});
        chv_registry_scopes_format(&least, ',', scopes);
        ok = fprintf(out, " scopes=%s", scopes) > 0;
    }
    if (ok)
        ok = write_reason(out, c);
    return ok && fputc('\n', out) != EOF ? CHV_OK : CHV_ERR_IO;
}

static enum chv_err write_snapshot(void *arg, FILE *out, struct chv_why *why)
{
    struct snapshot *s = arg;
    const struct chv_registry_filter filter = {
        .statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_ACTIVE) | CHV_CLIENT_STATUS_BIT(CHV_CLIENT_SUSPENDED) |
                    CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REVOKED) | CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REMOVED),
        .denying = true};
    struct chv_registry_info info;
    s->out = out;
    enum chv_err err = chv_registry_info(s->r, &info, why);
    if (err != CHV_OK)
        return err;
    if (fprintf(out, "# deny snapshot of generation %llu\n", (unsigned long long)info.generation) < 0)
        return chv_fail(why, CHV_ERR_IO, "the deny snapshot: %s", strerror(errno));
    errno = 0;
    err = chv_registry_list(s->r, &filter, write_client, s, why);
    if (ferror(out))
        return chv_fail(why, CHV_ERR_IO, "the deny snapshot: %s", strerror(errno));
    return err == CHV_ERR_MALFORMED ? CHV_OK : err; /* such rows stand in it as denied */
}

enum chv_err chv_registry_snapshot_write(struct chv_registry *r, const char *path, struct chv_why *why)
{
    struct snapshot snapshot = {.r = r};
    return chv_registry_replace_file(path, write_snapshot, &snapshot, why);
}
