/* SPDX-License-Identifier: Apache-2.0 */
/* Names on the server as people write them, and patterns of them. */
#include "tools/chaveiro_files.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "tools/words.h"

enum { PATTERN_MAX = 4 * CHV_FILES_PATH_MAX, FIRST_ROOM = 16 };

/* --- one name ------------------------------------------------------------------------------------------------------ */

/* Adds one component to a path; ".." takes one off. False: it is too long. */
static bool add_component(char *out, size_t size, const char *name, size_t len)
{
    size_t used = strlen(out);
    if (len == 0 || (len == 1 && name[0] == '.'))
        return true;
    if (len == 2 && name[0] == '.' && name[1] == '.') {
        char *slash = strrchr(out, '/');
        *(slash != NULL ? slash : out) = '\0';
        return true;
    }
    if (used + len + 2 > size)
        return false;
    if (used > 0)
        out[used++] = '/';
    memcpy(out + used, name, len);
    out[used + len] = '\0';
    return true;
}

static bool add_all(char *out, size_t size, const char *path)
{
    bool fits = true;
    for (const char *at = path; *at != '\0' && fits;) {
        const size_t len = strcspn(at, "/");
        fits = add_component(out, size, at, len);
        at += len + (at[len] == '/');
    }
    return fits;
}

/* In the shell, as of a file system with the current folder `cwd`; else as it is, without the slashes around. */
static bool resolve(const struct chaveiro_files *files, const char *cwd, const char *text, char *out, size_t size)
{
    out[0] = '\0';
    if (files->shell)
        return (text[0] == '/' || add_all(out, size, cwd)) && add_all(out, size, text);
    const char *from = text[0] == '/' ? text + 1 : text;
    size_t len = strlen(from);
    while (len > 0 && from[len - 1] == '/')
        len--;
    if (len >= size)
        return false;
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

static bool check(struct chaveiro_files *files, const char *path)
{
    const char *wrong = chv_files_path_check(path, strlen(path));
    if (wrong != NULL)
        chaveiro_files_fail(files, EX_USAGE, "'%.200s': %s", path, wrong);
    return wrong == NULL;
}

bool chaveiro_files_path(struct chaveiro_files *files, const char *text, char out[CHV_FILES_PATH_MAX + 1])
{
    char path[PATTERN_MAX];
    if (!resolve(files, files->cwd, text, path, sizeof path)) {
        chaveiro_files_fail(files, EX_USAGE, "'%.200s': the name is longer than 1024 bytes", text);
        return false;
    }
    if (!check(files, path))
        return false;
    memcpy(out, path, strlen(path) + 1);
    return true;
}

/* --- patterns ------------------------------------------------------------------------------------------------------ */

struct expansion {
    struct chaveiro_matches *matches;
    unsigned flags;
    bool failed;
};

/* A listing that is under way for it; base: the folder, pattern: for its entries, rest: behind them. */
struct level {
    struct expansion *x;
    char *base, *pattern, *rest;
};

static void free_level(void *arg)
{
    struct level *level = arg;
    free(level->base);
    free(level->pattern);
    free(level->rest);
    free(level);
}

static void add_match(struct chaveiro_files *files, struct expansion *x, const char *path,
                      const struct chv_files_meta *meta)
{
    struct chaveiro_matches *m = x->matches;
    if (m->count == m->room) {
        const size_t room = m->room > 0 ? 2 * m->room : FIRST_ROOM;
        struct chaveiro_match *list = realloc(m->list, room * sizeof *list);
        if (list != NULL) {
            m->list = list;
            m->room = room;
        }
    }
    char *copy = m->count < m->room ? strdup(path) : NULL;
    if (copy == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more names");
        x->failed = true;
        return;
    }
    m->list[m->count++] = (struct chaveiro_match){
        .path = copy, .known = meta != NULL, .meta = meta != NULL ? *meta : (struct chv_files_meta){.mode = 0}};
}

static void descend(struct chaveiro_files *files, struct expansion *x, const char *base, const char *pattern);

/* "base/name", which may be too long for a name of this server. */
static bool join(char out[CHV_FILES_PATH_MAX + 1], const char *base, const char *name)
{
    const int n = snprintf(out, CHV_FILES_PATH_MAX + 1, "%s%s%s", base, base[0] != '\0' ? "/" : "", name);
    return n > 0 && n <= CHV_FILES_PATH_MAX;
}

static void listed(struct chaveiro_files *files, void *arg, const struct chaveiro_listing *listing,
                   const struct chv_files_answer *answer)
{
    const struct level *level = arg;
    if (answer == NULL || answer->code >= 300) {
        level->x->failed = true;
        if (answer == NULL)
            chaveiro_files_fail(files, EX_PROTOCOL, "%s: the server's listing is damaged", level->base);
        else
            chaveiro_files_failed(files, answer);
        return;
    }
    chaveiro_ops_first(files);
    for (size_t i = 0; i < listing->count; i++) {
        const struct chv_files_entry *e = &listing->entries[i];
        char path[CHV_FILES_PATH_MAX + 1];
        if (!chv_pattern_match(level->pattern, e->name) || !join(path, level->base, e->name))
            continue;
        if (level->rest[0] == '\0')
            add_match(files, level->x, path, &e->meta);
        else if (e->meta.type == CHV_FILES_FOLDER)
            descend(files, level->x, path, level->rest);
    }
    chaveiro_ops_done(files);
}

static void stat_answer(struct chaveiro_files *files, void *arg, const struct chv_files_answer *answer)
{
    struct level *level = arg;
    const bool there = answer->code == 200 && answer->has_meta;
    if (there)
        add_match(files, level->x, level->base, &answer->meta);
    else if ((level->x->flags & CHAVEIRO_EXPAND_ONE) != 0 && answer->code == 404)
        add_match(files, level->x, level->base, NULL);
    else if (level->pattern != NULL && answer->code == 404)
        return; /* behind a pattern: nothing is there that matches */
    else
        chaveiro_files_failed(files, answer);
}

static struct level *new_level(struct chaveiro_files *files, struct expansion *x, const char *base, const char *pattern,
                               size_t len, const char *rest)
{
    struct level *level = calloc(1, sizeof *level);
    if (level != NULL) {
        *level = (struct level){.x = x, .base = strdup(base), .rest = strdup(rest)};
        level->pattern = pattern != NULL ? strndup(pattern, len) : NULL;
        if (level->base != NULL && level->rest != NULL && (pattern == NULL || level->pattern != NULL))
            return level;
        free_level(level);
    }
    chaveiro_files_fail(files, EX_OSERR, "no memory for more names");
    x->failed = true;
    return NULL;
}

/* The names beneath `base` that `pattern` (not "") stands for. */
static void descend(struct chaveiro_files *files, struct expansion *x, const char *base, const char *pattern)
{
    char path[CHV_FILES_PATH_MAX + 1], component[PATTERN_MAX];
    struct level *level;
    if (snprintf(path, sizeof path, "%s", base) >= (int)sizeof path)
        return;
    const bool behind = base[0] != '\0'; /* descend is called with a base only behind a pattern */
    for (const char *at = pattern; *at != '\0';) {
        const size_t len = strcspn(at, "/");
        const char *rest = at + len + (at[len] == '/');
        char next[CHV_FILES_PATH_MAX + 1];
        memcpy(component, at, len); /* patterns are shorter than PATTERN_MAX */
        component[len] = '\0';
        if (chv_pattern_is(component)) {
            level = new_level(files, x, path, at, len, rest);
            if (level != NULL)
                chaveiro_files_list(files, path, listed, free_level, level);
            return;
        }
        chv_pattern_literal(component);
        if (!join(next, path, component))
            return; /* no such name can be */
        memcpy(path, next, sizeof path);
        at = rest;
    }
    level = new_level(files, x, path, behind ? "" : NULL, 0, "");
    if (level != NULL)
        chaveiro_files_ask(files, CHV_FILES_STAT, path, NULL, stat_answer, free_level, level);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct chaveiro_match *)a)->path, ((const struct chaveiro_match *)b)->path);
}

bool chaveiro_files_expand(struct chaveiro_files *files, const char *pattern, unsigned flags,
                           struct chaveiro_matches *matches)
{
    char cwd[2 * CHV_FILES_PATH_MAX + 1], path[PATTERN_MAX], literal[PATTERN_MAX];
    struct expansion x = {.matches = matches, .flags = flags};
    const size_t before = matches->count;
    chv_pattern_escape(files->cwd, cwd, sizeof cwd);
    if (!resolve(files, cwd, pattern, path, sizeof path)) {
        chaveiro_files_fail(files, EX_USAGE, "'%.200s': the name is longer than 1024 bytes", pattern);
        return false;
    }
    memcpy(literal, path, strlen(path) + 1);
    chv_pattern_literal(literal);
    if (!check(files, literal))
        return false;
    const bool several = chv_pattern_is(path);
    if (!several && flags == 0) {
        add_match(files, &x, literal, NULL);
        return !x.failed;
    }
    if (several)
        descend(files, &x, "", path);
    else {
        struct level *level = new_level(files, &x, literal, NULL, 0, "");
        if (level != NULL)
            chaveiro_files_ask(files, CHV_FILES_STAT, literal, NULL, stat_answer, free_level, level);
    }
    const unsigned failures = files->failures;
    if (!chaveiro_files_run(files) || x.failed)
        return false;
    if (several && matches->count == before)
        add_match(files, &x, literal, NULL);
    if (matches->count > before)
        qsort(matches->list + before, matches->count - before, sizeof *matches->list, by_path);
    return !x.failed && (matches->count > before || files->failures == failures);
}

void chaveiro_matches_free(struct chaveiro_matches *matches)
{
    for (size_t i = 0; i < matches->count; i++)
        free(matches->list[i].path);
    free(matches->list);
    *matches = (struct chaveiro_matches){.list = NULL};
}
