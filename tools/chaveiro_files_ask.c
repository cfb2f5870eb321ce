/* SPDX-License-Identifier: Apache-2.0 */
/* ls, stat, checksum, df, mkdir, rmdir, rm, rename: one request for each name, all of them outstanding at once. */
#include "tools/chaveiro_files.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/encode.h"
#include "net/text.h"
#include "tools/times.h"
#include "tools/words.h"

struct asked {
    enum chv_files_op op;
    bool several; /* listings: each under its name */
    bool printed; /* ... and there was one before */
    json_t *results;
};

void chaveiro_files_time(uint64_t ns, char out[CHAVEIRO_TIME_SIZE])
{
    const time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    if (localtime_r(&seconds, &tm) == NULL || strftime(out, CHAVEIRO_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        (void)snprintf(out, CHAVEIRO_TIME_SIZE, "-");
}

void chaveiro_files_put_name(const char *name)
{
    char escaped[256];
    size_t len = isatty(STDOUT_FILENO) == 1 ? strlen(name) : 0;
    if (len == 0)
        (void)fputs(name, stdout);
    while (len > 0) {
        const size_t used = chv_text_escape(name, len, escaped, sizeof escaped, NULL);
        (void)fputs(escaped, stdout);
        name += used;
        len -= used;
    }
}

static void mode_text(const struct chv_files_meta *meta, char out[11])
{
    static const char letters[] = "rwxrwxrwx";
    static const char types[] = {
        [CHV_FILES_FILE] = '-', [CHV_FILES_FOLDER] = 'd', [CHV_FILES_LINK] = 'l', [CHV_FILES_OTHER] = '?'};
    out[0] = types[meta->type];
    for (unsigned i = 0; i < 9; i++)
        out[i + 1] = '-';
    for (unsigned i = 0; i < 9; i++)
        if ((meta->mode & 0400U >> i) != 0)
            out[i + 1] = letters[i];
    out[10] = '\0';
}

static json_t *meta_json(const char *key, const char *name, const struct chv_files_meta *meta)
{
    char mode[8], when[CHV_TIME_TEXT];
    (void)snprintf(mode, sizeof mode, "%04o", meta->mode);
    chv_time_format(meta->mtime / 1000000000, when);
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", key, name, "type", chv_files_type_name(meta->type), "size",
                     (json_int_t)meta->size, "mode", mode, "mtime", when);
}

static void print_entry(const struct chaveiro_files *files, const char *name, const struct chv_files_meta *meta)
{
    char mode[11], when[CHAVEIRO_TIME_SIZE];
    mode_text(meta, mode);
    chaveiro_files_time(meta->mtime, when);
    if (!files->names)
        (void)printf("%s %12llu %s ", mode, (unsigned long long)meta->size, when);
    chaveiro_files_put_name(name);
    (void)putchar('\n');
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

static void listed(struct chaveiro_files *files, void *arg, const struct chaveiro_listing *listing,
                   const struct chv_files_answer *answer)
{
    struct asked *asked = arg;
    if (answer == NULL) {
        chaveiro_fail(files->link, EX_PROTOCOL, "the server's listing is damaged");
        return;
    }
    if (answer->code >= 300) {
        chaveiro_files_failed(files, answer);
        return;
    }
    if (files->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < listing->count; i++)
            (void)json_array_append_new(list, meta_json("name", listing->entries[i].name, &listing->entries[i].meta));
        (void)json_array_append_new(asked->results, json_pack("{s:s, s:o}", "path", answer->path, "entries", list));
        return;
    }
    if (asked->several) {
        chaveiro_files_put_name(answer->path[0] != '\0' ? answer->path : "/");
        (void)fputs(":\n", stdout);
    }
    for (size_t i = 0; i < listing->count; i++)
        print_entry(files, listing->entries[i].name, &listing->entries[i].meta);
}

static void print_meta(const struct chv_files_answer *a)
{
    char mode[8], when[CHAVEIRO_TIME_SIZE];
    (void)snprintf(mode, sizeof mode, "%04o", a->meta.mode);
    chaveiro_files_time(a->meta.mtime, when);
    chv_cli_print(json_pack("{s:s, s:s, s:I, s:s, s:s}", "path", a->path, "type", chv_files_type_name(a->meta.type),
                            "size", (json_int_t)a->meta.size, "mode", mode, "mtime", when),
                  false);
}

static void print_digest(const struct chv_files_answer *a, const char *hex)
{
    (void)printf("%s  ", hex);
    chaveiro_files_put_name(a->path);
    (void)putchar('\n');
}

static void answered(struct chaveiro_files *files, void *arg, const struct chv_files_answer *a)
{
    const struct asked *asked = arg;
    char hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)] = "";
    json_t *result = NULL;
    if (a->code >= 300) {
        chaveiro_files_failed(files, a);
        return;
    }
    if (a->has_digest)
        chv_hex_encode(a->digest, sizeof a->digest, hex);
    switch (asked->op) {
    case CHV_FILES_STAT:
        if (files->json)
            result = meta_json("path", a->path, &a->meta);
        else if (a->has_meta)
            print_meta(a);
        break;
    case CHV_FILES_DF:
        result = json_pack("{s:I, s:I}", "total", (json_int_t)a->total, "free", (json_int_t)a->left);
        if (!files->json) {
            chv_cli_print(result, false);
            result = NULL;
        }
        break;
    case CHV_FILES_CHECKSUM:
        if (files->json)
            result = json_pack("{s:s, s:s}", "path", a->path, "sha256", hex);
        else if (a->has_digest)
            print_digest(a, hex);
        break;
    default:
        if (files->json)
            result = json_pack("{s:s, s:s}", "command", chv_files_op_name(asked->op), "path", a->path);
        else if (files->verbose)
            chaveiro_files_tell(files, "%s: %s: done", chv_files_op_name(asked->op), a->path);
        break;
    }
    if (result != NULL)
        (void)json_array_append_new(asked->results, result);
}

/* --- asking -------------------------------------------------------------------------------------------------------- */

/* What a pattern has found is known already; folders are listed behind the files, as ls(1) does. */
static void list_all(struct chaveiro_files *files, struct asked *asked, const struct chaveiro_matches *m)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct chaveiro_match *one = &m->list[i];
        if (one->known && one->meta.type != CHV_FILES_FOLDER && files->json)
            (void)json_array_append_new(asked->results,
                                        json_pack("{s:s, s:[o]}", "path", one->path, "entries",
                                                  meta_json("name", chv_files_path_name(one->path), &one->meta)));
        else if (one->known && one->meta.type != CHV_FILES_FOLDER)
            print_entry(files, one->path, &one->meta);
        else
            chaveiro_files_list(files, one->path, listed, NULL, asked);
    }
}

/* A word as a name, for what takes no patterns. False after one line. */
static bool word_path(struct chaveiro_files *files, const char *word, char out[CHV_FILES_PATH_MAX + 1])
{
    char *name = strdup(word);
    if (name == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for a name");
        return false;
    }
    if (files->shell)
        chv_pattern_literal(name);
    const bool ok = chaveiro_files_path(files, name, out);
    free(name);
    return ok;
}

static bool collect(struct chaveiro_files *files, enum chv_files_op op, char **words, size_t count,
                    struct chaveiro_matches *m)
{
    static char none[] = "", *home[] = {none};
    bool ok = true;
    if (count == 0) {
        words = home;
        count = 1;
    }
    for (size_t i = 0; i < count && ok; i++) {
        char path[CHV_FILES_PATH_MAX + 1], pattern[2 * CHV_FILES_PATH_MAX + 2] = "/";
        if (op == CHV_FILES_LS || op == CHV_FILES_STAT || op == CHV_FILES_CHECKSUM || op == CHV_FILES_RM) {
            ok = chaveiro_files_expand(files, words[i], 0, m);
            continue;
        }
        ok = word_path(files, words[i], path);
        if (!ok)
            break;
        chv_pattern_escape(path, pattern + 1, sizeof pattern - 1);
        ok = chaveiro_files_expand(files, pattern, 0, m);
    }
    return ok;
}

int chaveiro_files_simple(struct chaveiro_files *files, enum chv_files_op op, char **words, size_t count)
{
    struct chaveiro_matches m = {.list = NULL};
    struct asked asked = {.op = op, .results = json_array()};
    if (collect(files, op, words, count, &m)) {
        asked.several = m.count > 1;
        if (op == CHV_FILES_LS)
            list_all(files, &asked, &m);
        else if (op == CHV_FILES_RENAME)
            chaveiro_files_ask(files, op, m.list[0].path, m.list[1].path, answered, NULL, &asked);
        else
            for (size_t i = 0; i < m.count; i++)
                chaveiro_files_ask(files, op, m.list[i].path, NULL, answered, NULL, &asked);
        (void)chaveiro_files_run(files);
        if (files->json && (files->code == EX_OK || json_array_size(asked.results) > 0))
            chv_cli_print(json_pack("{s:O}", "results", asked.results), true);
    }
    json_decref(asked.results);
    chaveiro_matches_free(&m);
    return files->code;
}
