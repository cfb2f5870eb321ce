/* SPDX-License-Identifier: Apache-2.0 */
/* Completion of commands, of names on the server, and of local ones. */
#include "tools/chaveiro_shell.h"

#include <dirent.h>
#include <histedit.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/text.h"

enum { NAME_SIZE = PATH_MAX, SHOWN_MAX = 100, WIDTH = 80, GAP = 2 };

struct candidate {
    char *name;
    bool folder;
};

/* What may stand for the word. */
struct candidates {
    const char *prefix; /* of the last name in it */
    struct candidate *list;
    size_t count, room;
    bool failed;
};

/* What a terminal would not show as it is cannot be typed either. */
static bool is_plain(const char *name)
{
    char escaped[4 * CHV_FILES_NAME_MAX + 1];
    const size_t len = strlen(name);
    size_t used;
    return len <= CHV_FILES_NAME_MAX && chv_text_escape(name, len, escaped, sizeof escaped, &used) == len &&
           used == len;
}

static void add(struct candidates *c, const char *name, bool folder)
{
    const size_t len = strlen(c->prefix);
    if (strncmp(name, c->prefix, len) != 0 || (name[0] == '.' && len == 0) || !is_plain(name))
        return;
    if (c->count == c->room) {
        const size_t room = c->room > 0 ? 2 * c->room : 64;
        struct candidate *list = realloc(c->list, room * sizeof *list);
        if (list == NULL) {
            c->failed = true;
            return;
        }
        c->list = list;
        c->room = room;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        c->failed = true;
    else
        c->list[c->count++] = (struct candidate){.name = copy, .folder = folder};
}

static void free_candidates(struct candidates *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->list[i].name);
    free(c->list);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)a)->name, ((const struct candidate *)b)->name);
}

/* --- where they come from ------------------------------------------------------------------------------------------ */

static void listed(struct chaveiro_files *files, void *arg, const struct chaveiro_listing *listing,
                   const struct chv_files_answer *answer)
{
    struct candidates *c = arg;
    (void)files;
    c->failed = answer == NULL || answer->code >= 300;
    for (size_t i = 0; i < listing->count && !c->failed; i++)
        add(c, listing->entries[i].name, listing->entries[i].meta.type == CHV_FILES_FOLDER);
}

/* The connection is not made again for this. */
static void find_remote(struct chaveiro_shell *shell, const char *folder, struct candidates *c)
{
    char path[CHV_FILES_PATH_MAX + 1];
    if (!shell->files.connected || !chaveiro_files_path(&shell->files, folder, path)) {
        c->failed = true;
        return;
    }
    chaveiro_files_list(&shell->files, path, listed, NULL, c);
    if (!chaveiro_files_run(&shell->files))
        c->failed = true;
}

static void find_local(const char *folder, struct candidates *c)
{
    DIR *dir = opendir(folder[0] != '\0' ? folder : ".");
    c->failed = dir == NULL;
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        struct stat st;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            add(c, e->d_name, fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode));
    }
    if (dir != NULL)
        (void)closedir(dir);
}

/* --- the line ------------------------------------------------------------------------------------------------------ */

/* How much the names have in common; not cut in the middle of a character. */
static size_t common(const struct candidates *c)
{
    size_t len = strlen(c->list[0].name);
    for (size_t i = 1; i < c->count; i++) {
        size_t same = 0;
        while (same < len && c->list[0].name[same] == c->list[i].name[same])
            same++;
        len = same;
    }
    while (len > 0 && ((unsigned char)c->list[0].name[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void show(const struct candidates *c)
{
    size_t widest = 1, column = 0;
    const size_t count = c->count < SHOWN_MAX ? c->count : SHOWN_MAX;
    for (size_t i = 0; i < count; i++)
        widest = strlen(c->list[i].name) + 1 > widest ? strlen(c->list[i].name) + 1 : widest;
    (void)putchar('\n');
    for (size_t i = 0; i < count; i++) {
        const int n = printf("%s%s", c->list[i].name, c->list[i].folder ? "/" : "");
        column += widest + GAP;
        if (column + widest > WIDTH || i + 1 == count)
            column = 0;
        (void)printf("%*s", column == 0 ? 0 : (int)(widest + GAP) - n, "");
        if (column == 0)
            (void)putchar('\n');
    }
    if (count < c->count)
        (void)printf("... and %zu more\n", c->count - count);
    (void)fflush(stdout);
}

/* Puts the word anew: what it begins with, as it is typed, and behind it `name`. */
static unsigned char replace(EditLine *el, const struct chv_words_last *last, size_t typed, const char *folder,
                             const char *name, const char *end)
{
    char text[NAME_SIZE], quoted[2 * NAME_SIZE], whole[2 * NAME_SIZE + 4];
    const char quote[2] = {last->quote, '\0'};
    if ((size_t)snprintf(text, sizeof text, "%s%s", folder, name) >= sizeof text ||
        chv_words_quote(text, last->quote, quoted, sizeof quoted) != CHV_OK ||
        (size_t)snprintf(whole, sizeof whole, "%s%s%s", quote, quoted, end) >= sizeof whole)
        return CC_ERROR;
    el_deletestr(el, (int)typed);
    if (el_insertstr(el, whole) != 0)
        return CC_ERROR;
    return CC_REFRESH;
}

static unsigned char choose(EditLine *el, const struct chv_words_last *last, size_t typed, const char *folder,
                            struct candidates *c)
{
    char end[3] = "";
    char shared[CHV_FILES_NAME_MAX + 1];
    if (c->failed || c->count == 0)
        return CC_ERROR;
    qsort(c->list, c->count, sizeof *c->list, by_name);
    const size_t len = common(c);
    if (c->count > 1 && len == strlen(c->prefix)) {
        show(c);
        return CC_REDISPLAY;
    }
    (void)snprintf(shared, sizeof shared, "%.*s", (int)len, c->list[0].name);
    if (c->count == 1 && c->list[0].folder)
        (void)snprintf(end, sizeof end, "/");
    else if (c->count == 1)
        (void)snprintf(end, sizeof end, last->quote != 0 ? "%c " : " ", last->quote);
    return replace(el, last, typed, folder, shared, end);
}

/* The command that the line begins with. */
static enum chaveiro_names wanted(const char *line, size_t len, size_t index)
{
    enum chaveiro_names names = CHAVEIRO_NAMES_NONE;
    struct chv_words words;
    char *text = strndup(line, len);
    /* Operands only: options are not counted. */
    if (text != NULL && chv_words_split(text, &words, NULL) == CHV_OK) {
        size_t options = 0;
        for (size_t i = 1; i < words.count && i < index; i++)
            options += words.words[i][0] == '-';
        if (words.count > 0)
            names = chaveiro_shell_names(words.words[0], index - options);
        chv_words_free(&words);
    }
    free(text);
    return names;
}

unsigned char chaveiro_edit_complete(struct chaveiro_shell *shell, void *editline)
{
    EditLine *el = editline;
    const LineInfo *line = el_line(el);
    const size_t len = (size_t)(line->cursor - line->buffer);
    struct chv_words_last last;
    char word[NAME_SIZE], folder[NAME_SIZE];
    if (chv_words_last(line->buffer, len, &last, word, sizeof word) != CHV_OK || last.escape)
        return CC_ERROR;
    const char *slash = last.index > 0 ? strrchr(word, '/') : NULL;
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - word) + 1 : 0, word);
    struct candidates c = {.prefix = slash != NULL ? slash + 1 : word};
    /* Up to the word only: its quote may not be closed yet. */
    const enum chaveiro_names names =
        last.index > 0 ? wanted(line->buffer, last.start, last.index) : CHAVEIRO_NAMES_NONE;
    for (size_t i = 0; last.index == 0 && chaveiro_shell_command(i) != NULL; i++)
        add(&c, chaveiro_shell_command(i), false);
    if (names == CHAVEIRO_NAMES_REMOTE)
        find_remote(shell, folder[0] != '\0' ? folder : ".", &c);
    else if (names == CHAVEIRO_NAMES_LOCAL)
        find_local(folder, &c);
    /* Characters, not bytes, are taken away. */
    size_t typed = 0;
    for (size_t i = last.start; i < len; i++)
        typed += ((unsigned char)line->buffer[i] & 0xc0) != 0x80;
    const unsigned char told = choose(el, &last, typed, folder, &c);
    free_candidates(&c);
    return told;
}
