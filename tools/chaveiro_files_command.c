/* SPDX-License-Identifier: Apache-2.0 */
/* get and put, as the command line, batch files and the shell have them. */
#include "tools/chaveiro_files.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "net/text.h"
#include "tools/words.h"

/* --- what it came to ----------------------------------------------------------------------------------------------- */

void chaveiro_files_moved(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *remote,
                          const char *local, uint64_t size, uint64_t started, const uint8_t *digest)
{
    char hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)] = "";
    char shown[PATH_MAX];
    const double seconds = (double)(uv_hrtime() - started) / 1e9;
    if (!chv_text_is_utf8(local, strlen(local))) { /* JSON is */
        (void)chv_text_escape(local, strlen(local), shown, sizeof shown, NULL);
        local = shown;
    }
    if (digest != NULL)
        chv_hex_encode(digest, CHV_FILES_DIGEST_LEN, hex);
    t->files++;
    t->bytes += size;
    t->there += digest == NULL;
    if (digest == NULL)
        chaveiro_progress_add(&files->progress, 0, size);
    if (files->json) {
        json_t *told = json_pack("{s:s, s:s, s:s, s:I, s:f}", "command", t->command, "remote", remote, "local", local,
                                 "size", (json_int_t)size, "seconds", seconds);
        if (digest != NULL)
            (void)json_object_set_new(told, "sha256", json_string(hex));
        else
            (void)json_object_set_new(told, "unchanged", json_true());
        chv_cli_print(told, true);
    } else if (files->verbose && digest != NULL) {
        chaveiro_files_tell(files, "%s: %s: %llu bytes in %.3f s, SHA-256 %s", t->command, remote,
                            (unsigned long long)size, seconds, hex);
    } else if (files->verbose) {
        chaveiro_files_tell(files, "%s: %s: %llu bytes, there already", t->command, remote, (unsigned long long)size);
    }
}

static void tell_sum(struct chaveiro_files *files, const struct chaveiro_transfer *t, double seconds)
{
    char failures[32] = "";
    if (files->failures > 0)
        (void)snprintf(failures, sizeof failures, ", %u failed", files->failures);
    chaveiro_files_tell(files, "%s: %llu file%s, %llu bytes in %.3f s%s", t->command, (unsigned long long)t->files,
                        t->files == 1 ? "" : "s", (unsigned long long)t->bytes, seconds, failures);
}

/* Works off what is queued, and tells of all of it. */
static int transfer(struct chaveiro_files *files, struct chaveiro_transfer *t)
{
    t->started = uv_hrtime();
    const bool alive = chaveiro_files_run(files);
    chaveiro_folders_done(files, t, alive);
    chaveiro_progress_end(&files->progress);
    const double seconds = (double)(uv_hrtime() - t->started) / 1e9;
    if (t->many && files->json)
        chv_cli_print(json_pack("{s:s, s:I, s:I, s:I, s:I, s:f}", "command", t->command, "files", (json_int_t)t->files,
                                "bytes", (json_int_t)t->bytes, "unchanged", (json_int_t)t->there, "failed",
                                (json_int_t)files->failures, "seconds", seconds),
                      true);
    else if ((t->many && files->verbose) || (files->chatty && !files->json && t->files > 0))
        tell_sum(files, t, seconds);
    return files->code;
}

/* --- local names --------------------------------------------------------------------------------------------------- */

/* A word of the shell is a pattern; an operand of the command line is a name. malloc'ed, NULL after one line. */
static char *plain(struct chaveiro_files *files, const char *word)
{
    char *name = strdup(word);
    if (name == NULL)
        chaveiro_files_fail(files, EX_OSERR, "no memory for a name");
    else if (files->shell)
        chv_pattern_literal(name);
    return name;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Where in `path` its last name begins, once slashes at its end are gone. */
static size_t last_name(char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    const char *slash = strrchr(path, '/');
    return slash != NULL && len > 1 ? (size_t)(slash - path) + 1 : 0;
}

/* The folder that `path` is, or is in. NULL after one line; *name: beneath it, "" if it is `path` itself. */
static struct chaveiro_base *open_base(struct chaveiro_files *files, char *path, bool itself, char **name)
{
    const size_t at = itself ? 0 : last_name(path);
    const char *folder = itself ? path : at > 1 ? path : at == 1 ? "/" : "";
    *name = strdup(itself ? "" : path + at);
    if (at > 1)
        path[at - 1] = '\0';
    struct chaveiro_base *base = *name != NULL ? chaveiro_base_open(folder) : NULL;
    if (base == NULL) {
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: %s", folder[0] != '\0' ? folder : ".",
                            *name != NULL ? strerror(errno) : "no memory");
        free(*name);
        *name = NULL;
    }
    return base;
}

/* --- get ----------------------------------------------------------------------------------------------------------- */

static void get_one(struct chaveiro_files *files, struct chaveiro_transfer *t, const struct chaveiro_match *m,
                    struct chaveiro_base *base, const char *name)
{
    const struct chv_files_meta *meta = m->known ? &m->meta : NULL;
    const bool folder = m->known && m->meta.type == CHV_FILES_FOLDER;
    if (folder && t->recursive)
        chaveiro_get_folder(files, t, m->path, meta, base, name);
    else if (folder && t->many)
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: is a folder: -r fetches folders", m->path);
    else if (m->path[0] == '\0')
        chaveiro_files_fail(files, EX_USAGE, "get which file?");
    else
        chaveiro_get_file(files, t, m->path, meta, base, name);
}

/* Queues all of them. */
static void get_all(struct chaveiro_files *files, struct chaveiro_transfer *t, const struct chaveiro_matches *m,
                    char *into)
{
    const size_t len = into != NULL ? strlen(into) : 0;
    const bool here = into == NULL, folder = here || is_folder(into), slash = len > 0 && into[len - 1] == '/';
    const bool makes =
        !folder && m->count == 1 && t->recursive && m->list[0].known && m->list[0].meta.type == CHV_FILES_FOLDER;
    char current[] = "", *name = NULL;
    if (!here && len == 0) {
        chaveiro_files_fail(files, EX_USAGE, "'' is no name for a file");
        return;
    }
    if (!folder && m->count > 1) {
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: is no folder: several files need one", into);
        return;
    }
    struct chaveiro_base *base = open_base(files, here ? current : into, folder || (slash && !makes), &name);
    for (size_t i = 0; i < m->count && base != NULL; i++)
        get_one(files, t, &m->list[i], base, name[0] != '\0' ? name : chv_files_path_name(m->list[i].path));
    chaveiro_base_free(base);
    free(name);
}

int chaveiro_files_get(struct chaveiro_files *files, struct chaveiro_transfer *t, char **words, size_t count)
{
    struct chaveiro_matches m = {.list = NULL};
    const size_t sources = count > 2 ? count - 1 : 1;
    char *into = count > 1 ? plain(files, words[count - 1]) : NULL;
    bool alive = count < 2 || into != NULL;
    for (size_t i = 0; i < sources && alive; i++) {
        const bool found = chaveiro_files_expand(files, words[i], t->recursive ? CHAVEIRO_EXPAND_STAT : 0, &m);
        alive = found || (sources > 1 && files->signal == 0 && (files->link == NULL || files->connected));
    }
    t->command = "get";
    t->many = t->recursive || sources > 1 || m.count > 1;
    chaveiro_progress_begin(&files->progress, files->args, "", 0);
    if (alive && m.count > 0)
        get_all(files, t, &m, into);
    chaveiro_matches_free(&m);
    free(into);
    return transfer(files, t);
}

/* --- put ----------------------------------------------------------------------------------------------------------- */

/* One local operand, into the folder `into` or as it. */
static void put_one(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *local, const char *into,
                    bool is_into)
{
    char path[2 * CHV_FILES_PATH_MAX + 2], *copy = strdup(local), *name = NULL;
    struct stat st;
    if (copy == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for a name");
        return;
    }
    if (stat(local, &st) != 0) {
        chaveiro_files_fail(files, EX_NOINPUT, "%s: %s", local, strerror(errno));
        free(copy);
        return;
    }
    const char *last = copy + last_name(copy);
    if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || strcmp(last, "/") == 0)
        last = ""; /* all that is in it */
    const int n = snprintf(path, sizeof path, "%s%s%s", into, into[0] != '\0' && is_into && last[0] != '\0' ? "/" : "",
                           is_into ? last : "");
    const char *wrong = n < 0 || n > CHV_FILES_PATH_MAX ? "the name on the server is too long"
                                                        : chv_files_path_check(path, strlen(path));
    if (wrong != NULL) {
        chaveiro_files_fail(files, EX_USAGE, "'%.200s': %s", path, wrong);
    } else if (S_ISDIR(st.st_mode) && t->recursive) {
        struct chaveiro_base *base = open_base(files, copy, true, &name);
        if (base != NULL)
            chaveiro_put_folder(files, t, base, name, path);
        chaveiro_base_free(base);
    } else if (S_ISDIR(st.st_mode)) {
        chaveiro_files_fail(files, EX_NOINPUT, "%s: is no regular file: -r sends folders", local);
    } else {
        chaveiro_put_file(files, t, NULL, local, &st, path);
    }
    free(name);
    free(copy);
}

/* Whether what the last operand names is a folder there, or has to be one. False after one line. */
static bool put_into(struct chaveiro_files *files, const char *remote, bool several, char *into, bool *is_into)
{
    struct chaveiro_matches m = {.list = NULL};
    const size_t len = strlen(remote);
    if (!chaveiro_files_path(files, remote, into))
        return false;
    *is_into = len == 0 || remote[len - 1] == '/' || into[0] == '\0';
    if (*is_into)
        return true;
    char pattern[2 * CHV_FILES_PATH_MAX + 2] = "/";
    chv_pattern_escape(into, pattern + 1, sizeof pattern - 1);
    const bool found = chaveiro_files_expand(files, pattern, CHAVEIRO_EXPAND_ONE, &m);
    *is_into = found && m.count == 1 && m.list[0].known && m.list[0].meta.type == CHV_FILES_FOLDER;
    chaveiro_matches_free(&m);
    if (found && several && !*is_into)
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: is no folder on the server: several files need one", into);
    return found && (!several || *is_into);
}

int chaveiro_files_put(struct chaveiro_files *files, struct chaveiro_transfer *t, char **words, size_t count,
                       bool has_remote)
{
    char into[CHV_FILES_PATH_MAX + 1] = "";
    const size_t sources = has_remote ? count - 1 : count;
    bool is_into = true, there = false;
    struct stat st;
    t->command = "put";
    t->many = t->recursive || sources > 1;
    for (size_t i = 0; i < sources; i++)
        there = stat(words[i], &st) == 0 || there;
    /* If nothing is there to be sent, the server need not be asked. */
    bool known = !there || !has_remote ? chaveiro_files_path(files, files->shell ? "." : "/", into)
                                       : put_into(files, words[count - 1], sources > 1, into, &is_into);
    chaveiro_progress_begin(&files->progress, files->args, "", 0);
    for (size_t i = 0; i < sources && known; i++)
        put_one(files, t, words[i], into, is_into);
    return transfer(files, t);
}
