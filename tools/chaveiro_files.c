/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro ls, stat, df, checksum, mkdir, rmdir, rm, mv: one request for each operand, all of them outstanding at once. */
#include "tools/chaveiro_files.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/encode.h"

enum { OUTSTANDING = 64, ENTRIES_FIRST = 64 };

struct files_job {
    struct chaveiro_link *link;
    struct chv_files_client client;
    enum chv_files_op op;
    size_t next; /* operand to ask for */
    bool none;   /* ls and df without an operand: the home */
    bool folder; /* several listings: each under its name */
    struct chv_files_entry *entries;
    size_t count, room;
    struct chv_files_digest *digest;
    bool broken; /* the listing */
    json_t *results;
};

/* --- shared -------------------------------------------------------------------------------------------------------- */

int chaveiro_files_remote(const char *text, char out[CHV_FILES_PATH_MAX + 1])
{
    if (text[0] == '/')
        text++;
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/')
        len--;
    const char *wrong = chv_files_path_check(text, len);
    if (wrong != NULL)
        return chv_cli_fail(EX_USAGE, "'%.200s': %s", text, wrong);
    memcpy(out, text, len);
    out[len] = '\0';
    return EX_OK;
}

static int exit_of(unsigned code)
{
    switch (code) {
    case 403:
        return EX_NOPERM;
    case 404:
        return EX_NOINPUT;
    case 409:
    case 413:
    case 507:
        return EX_CANTCREAT;
    case 500:
    case 501:
    case 503:
        return EX_UNAVAILABLE;
    default:
        return EX_DATAERR;
    }
}

void chaveiro_files_failed(struct chaveiro_link *link, const struct chv_files_answer *answer)
{
    const int code = chv_cli_fail(exit_of(answer->code), "%s: %s (%u)", answer->path[0] != '\0' ? answer->path : "/",
                                  answer->text, answer->code);
    if (link->code == EX_OK)
        link->code = code;
}

void chaveiro_files_time(uint64_t ns, char out[CHAVEIRO_TIME_SIZE])
{
    const time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    if (localtime_r(&seconds, &tm) == NULL || strftime(out, CHAVEIRO_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        (void)snprintf(out, CHAVEIRO_TIME_SIZE, "-");
}

void chaveiro_files_summary(const struct chaveiro_link *link, const char *command, const char *remote,
                            const char *local, uint64_t size, uint64_t started,
                            const uint8_t digest[static CHV_FILES_DIGEST_LEN])
{
    char hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    const double seconds = (double)(uv_hrtime() - started) / 1e9;
    chv_hex_encode(digest, CHV_FILES_DIGEST_LEN, hex);
    if (chv_cli_given(link->args, "json"))
        chv_cli_print(json_pack("{s:s, s:s, s:s, s:I, s:s, s:f}", "command", command, "remote", remote, "local", local,
                                "size", (json_int_t)size, "sha256", hex, "seconds", seconds),
                      true);
    else if (chv_cli_given(link->args, "verbose"))
        (void)chv_cli_fail(EX_OK, "%s: %s: %llu bytes in %.3f s, SHA-256 %s", command, remote, (unsigned long long)size,
                           seconds, hex);
}

/* --- results ------------------------------------------------------------------------------------------------------- */

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
    char mode[8];
    (void)snprintf(mode, sizeof mode, "%04o", meta->mode);
    return json_pack("{s:s, s:s, s:I, s:s, s:f}", key, name, "type", chv_files_type_name(meta->type), "size",
                     (json_int_t)meta->size, "mode", mode, "mtime", (double)meta->mtime / 1e9);
}

static void put_name(const char *name)
{
    if (isatty(STDOUT_FILENO) == 1)
        chv_cli_put_escaped(stdout, name, strlen(name), false);
    else
        (void)fputs(name, stdout);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct chv_files_entry *)a)->name, ((const struct chv_files_entry *)b)->name);
}

static void print_listing(struct files_job *job, const char *path)
{
    json_t *list = json_array();
    const bool json = chv_cli_given(job->link->args, "json");
    if (job->count > 0)
        qsort(job->entries, job->count, sizeof *job->entries, by_name);
    if (!json && job->folder) {
        put_name(path[0] != '\0' ? path : "/");
        (void)fputs(":\n", stdout);
    }
    for (size_t i = 0; i < job->count; i++) {
        const struct chv_files_entry *e = &job->entries[i];
        char mode[11], when[CHAVEIRO_TIME_SIZE];
        if (json) {
            (void)json_array_append_new(list, meta_json("name", e->name, &e->meta));
            continue;
        }
        mode_text(&e->meta, mode);
        chaveiro_files_time(e->meta.mtime, when);
        (void)printf("%s %12llu %s ", mode, (unsigned long long)e->meta.size, when);
        put_name(e->name);
        (void)putchar('\n');
    }
    if (json)
        (void)json_array_append_new(job->results, json_pack("{s:s, s:O}", "path", path, "entries", list));
    json_decref(list);
    job->count = 0;
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

static void print_answer(struct files_job *job, const struct chv_files_answer *a)
{
    char hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    json_t *result = NULL;
    const bool json = chv_cli_given(job->link->args, "json");
    if (a->has_digest)
        chv_hex_encode(a->digest, sizeof a->digest, hex);
    switch (job->op) {
    case CHV_FILES_LS:
        print_listing(job, a->path);
        return;
    case CHV_FILES_STAT:
        if (json)
            result = meta_json("path", a->path, &a->meta);
        else if (a->has_meta)
            print_meta(a);
        break;
    case CHV_FILES_DF:
        result = json_pack("{s:I, s:I}", "total", (json_int_t)a->total, "free", (json_int_t)a->left);
        if (!json) {
            chv_cli_print(result, false);
            result = NULL;
        }
        break;
    case CHV_FILES_CHECKSUM:
        if (json) {
            result = json_pack("{s:s, s:s}", "path", a->path, "sha256", a->has_digest ? hex : "");
        } else if (a->has_digest) {
            (void)printf("%s  ", hex);
            put_name(a->path);
            (void)putchar('\n');
        }
        break;
    default:
        if (json)
            result = json_pack("{s:s, s:s}", "command", chv_files_op_name(job->op), "path", a->path);
        else if (chv_cli_given(job->link->args, "verbose"))
            (void)chv_cli_fail(EX_OK, "%s: %s: done", chv_files_op_name(job->op), a->path);
        break;
    }
    if (result != NULL)
        (void)json_array_append_new(job->results, result);
}

/* --- the connection ------------------------------------------------------------------------------------------------ */

static void ask_more(struct files_job *job)
{
    const struct chv_cli_args *args = job->link->args;
    const size_t step = job->op == CHV_FILES_RENAME ? 2 : 1, count = job->none ? 1 : args->operand_count;
    enum chv_err err = CHV_OK;
    while (err == CHV_OK && job->next < count && job->client.asked - job->client.answered < OUTSTANDING) {
        struct chv_files_request request = {.op = job->op};
        /* They have been checked before the connection was made. */
        if (!job->none)
            (void)chaveiro_files_remote(args->operands[job->next], request.path);
        if (step == 2)
            (void)chaveiro_files_remote(args->operands[job->next + 1], request.to);
        err = chv_files_client_ask(&job->client, &request);
        job->next += step;
    }
    if (err != CHV_OK && err != CHV_ERR_IO) /* the end of the connection says more */
        chaveiro_fail_why(job->link, err, NULL);
    else if (chv_files_client_waits(&job->client))
        chaveiro_due(job->link, true);
    else
        chaveiro_finish(job->link);
}

static void on_answer(void *arg, const struct chv_files_answer *answer)
{
    struct files_job *job = arg;
    if (answer->code == 206) {
        chv_files_digest_free(job->digest);
        job->digest = NULL;
        job->count = 0;
        job->broken = chv_files_digest_new(&job->digest) != CHV_OK;
        return;
    }
    if (answer->code >= 300)
        chaveiro_files_failed(job->link, answer);
    else if (job->broken)
        chaveiro_fail(job->link, EX_PROTOCOL, "%s: the server's listing is damaged", answer->path);
    else
        print_answer(job, answer);
    if (!job->link->failed)
        ask_more(job);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct files_job *job = arg;
    if (!job->broken && chv_files_digest_add(job->digest, data, len) != CHV_OK)
        job->broken = true;
    while (len > 0 && !job->broken) {
        size_t used = 0;
        if (job->count == job->room) {
            const size_t room = job->room > 0 ? 2 * job->room : ENTRIES_FIRST;
            struct chv_files_entry *entries = realloc(job->entries, room * sizeof *entries);
            if (entries == NULL) {
                chaveiro_fail(job->link, EX_OSERR, "no memory for a listing of more than %zu entries", job->room);
                return;
            }
            job->entries = entries;
            job->room = room;
        }
        job->broken = chv_files_entry_decode(data, len, &job->entries[job->count], &used) != CHV_OK;
        job->count += !job->broken;
        data += used;
        len -= used;
    }
}

static void on_end(void *arg, const uint8_t *digest)
{
    struct files_job *job = arg;
    uint8_t own[CHV_FILES_DIGEST_LEN];
    if (!job->broken && digest != NULL)
        job->broken = chv_files_digest_finish(job->digest, own) != CHV_OK || memcmp(own, digest, sizeof own) != 0;
}

static const struct chv_files_events files_events = {.answer = on_answer, .data = on_data, .end = on_end};

static void files_ready(struct chaveiro_link *link)
{
    struct files_job *job = link->state;
    job->link = link;
    chv_files_client_init(&job->client, chv_message_conn(link->message), &files_events, job);
    ask_more(job);
}

static enum chv_err files_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    struct files_job *job = link->state;
    return chv_files_client_record(&job->client, type, body, len);
}

static void files_drained(struct chaveiro_link *link)
{
    (void)link; /* requests are small: they are kept */
}

static const struct chaveiro_job files_job = {.ready = files_ready, .record = files_record, .drained = files_drained};

static int run(const struct chv_cli_args *args, enum chv_files_op op)
{
    char path[CHV_FILES_PATH_MAX + 1];
    struct files_job job = {.op = op, .none = args->operand_count == 0, .folder = args->operand_count > 1};
    for (size_t i = 0; i < args->operand_count; i++) {
        int code = chaveiro_files_remote(args->operands[i], path);
        if (code != EX_OK)
            return code;
    }
    job.results = json_array();
    int code = chaveiro_run(args, &files_job, &job);
    if (chv_cli_given(args, "json") && (code == EX_OK || json_array_size(job.results) > 0))
        chv_cli_print(json_pack("{s:O}", "results", job.results), true);
    json_decref(job.results);
    chv_files_digest_free(job.digest);
    free(job.entries);
    return code;
}

int chaveiro_ls(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_LS);
}

int chaveiro_stat(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_STAT);
}

int chaveiro_df(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_DF);
}

int chaveiro_checksum(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_CHECKSUM);
}

int chaveiro_mkdir(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_MKDIR);
}

int chaveiro_rmdir(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_RMDIR);
}

int chaveiro_rm(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_RM);
}

int chaveiro_mv(const struct chv_cli_args *args)
{
    return run(args, CHV_FILES_RENAME);
}
