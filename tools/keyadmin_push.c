/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin push: files into clients' outboxes. */
#include "tools/keyadmin_push.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "tools/chaveiro_files.h"

/* What waits for a client already: a number for each entry, which another entry hardly has. */
struct known {
    uint64_t *keys;
    size_t count, room;
    bool read, failed;
};

struct push {
    const struct chv_cli_args *args;
    struct keyadmin_server server;
    struct chv_push_outbox outbox;
    struct chv_push_spool spool;
    struct keyadmin_targets targets;
    struct known *known; /* of each target */
    struct chaveiro_progress progress;
    int *sources; /* a descriptor for each operand */
    bool json;
    json_t *results;
    int code;
};

/* --- before anything is queued ------------------------------------------------------------------------------------- */

/* The name that the file will have at the clients. */
static const char *push_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL ? slash + 1 : file;
}

static enum chv_err check_names(const struct chv_cli_args *args, struct chv_why *why)
{
    for (size_t i = 0; i < args->operand_count; i++) {
        const char *name = push_name(args->operands[i]), *wrong = chv_push_name_check(name, strlen(name));
        if (wrong != NULL)
            return chv_fail(why, CHV_ERR_ARGUMENT, "%.400s: %s", args->operands[i], wrong);
        for (size_t k = 0; k < i; k++)
            if (strcmp(push_name(args->operands[k]), name) == 0)
                return chv_fail(why, CHV_ERR_ARGUMENT, "'%s' and '%s' would have the same name at the clients",
                                args->operands[k], args->operands[i]);
    }
    return CHV_OK;
}

static enum chv_err open_sources(struct push *p, struct chv_why *why)
{
    const size_t n = p->args->operand_count;
    p->sources = malloc(n * sizeof *p->sources);
    if (p->sources == NULL)
        return CHV_ERR_MEMORY;
    for (size_t i = 0; i < n; i++)
        p->sources[i] = -1;
    for (size_t i = 0; i < n; i++) {
        const char *file = p->args->operands[i];
        struct stat st;
        p->sources[i] = open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (p->sources[i] < 0 || fstat(p->sources[i], &st) != 0)
            return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
        if (!S_ISREG(st.st_mode))
            return chv_fail(why, CHV_ERR_ARGUMENT, "%s: is no regular file", file);
    }
    return CHV_OK;
}

static void close_sources(struct push *p)
{
    for (size_t i = 0; p->sources != NULL && i < p->args->operand_count; i++)
        if (p->sources[i] >= 0)
            (void)close(p->sources[i]);
    free(p->sources);
}

/* --- one file ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *arg, uint64_t done)
{
    chaveiro_progress_to(arg, done);
}

static uint64_t key_of(const struct chv_push_entry *entry)
{
    uint64_t key = 0;
    memcpy(&key, entry->sha256, sizeof key);
    for (const char *c = entry->name; *c != '\0'; c++)
        key = (key ^ (uint8_t)*c) * UINT64_C(1099511628211);
    return key;
}

/* Without memory for it every entry is looked at each time. */
static void add_known(struct known *known, const struct chv_push_entry *entry)
{
    if (known->count == known->room && !known->failed) {
        const size_t room = known->room > 0 ? 2 * known->room : 16;
        uint64_t *keys = realloc(known->keys, room * sizeof *keys);
        if (keys != NULL) {
            known->keys = keys;
            known->room = room;
        } else {
            known->failed = true;
        }
    }
    if (!known->failed)
        known->keys[known->count++] = key_of(entry);
}

struct reading {
    struct known *known;
    int folder;
};

static bool read_known(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    struct reading *reading = arg;
    struct chv_push_entry entry;
    if (chv_push_entry_open(reading->folder, id, &entry, NULL) == 0)
        add_known(reading->known, &entry);
    return true;
}

static int may_wait(struct known *known, int folder, const struct chv_push_entry *entry, bool *may)
{
    struct reading reading = {known, folder};
    const uint64_t key = key_of(entry);
    int failed = known->read ? 0 : chv_push_folder_each(folder, read_known, &reading);
    known->read = failed == 0;
    *may = known->failed;
    for (size_t i = 0; i < known->count && !*may; i++)
        *may = known->keys[i] == key;
    return failed;
}

struct twin {
    int folder;
    const struct chv_push_entry *entry;
    bool found;
    struct chv_push_entry other;
};

static bool find_twin(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    struct twin *twin = arg;
    const struct chv_push_entry *e = twin->entry;
    twin->found = chv_push_entry_open(twin->folder, id, &twin->other, NULL) == 0 &&
                  strcmp(twin->other.name, e->name) == 0 &&
                  memcmp(twin->other.sha256, e->sha256, sizeof e->sha256) == 0 && twin->other.mode == e->mode;
    return !twin->found;
}

/*
 * The entry, or the one that already waits there with the same file: who runs a command again that was cut off pushes
 * nothing twice.
 */
static int queue_for(struct push *p, const struct chv_push_entry *entry, size_t target, struct chv_push_entry *queued,
                     bool *again)
{
    struct known *known = &p->known[target];
    int folder = -1;
    bool may = false;
    int failed = chv_push_folder_open(&p->outbox, p->targets.ids[target], true, &folder);
    struct twin twin = {.folder = folder, .entry = entry};
    if (failed == 0)
        failed = may_wait(known, folder, entry, &may);
    if (failed == 0 && may)
        failed = chv_push_folder_each(folder, find_twin, &twin);
    if (failed == 0 && !twin.found)
        failed = chv_push_spool_link(&p->spool, entry, folder);
    if (failed == 0 && !twin.found)
        add_known(known, entry);
    if (folder >= 0)
        (void)close(folder);
    *again = twin.found;
    *queued = twin.found ? twin.other : *entry;
    return failed;
}

static void tell(struct push *p, const struct chv_push_entry *entry, const char *client, const char *state,
                 const char *why)
{
    char id[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    chv_push_id_text(entry->id, id);
    chv_hex_encode(entry->sha256, sizeof entry->sha256, hex);
    if (why != NULL) {
        chaveiro_progress_end(&p->progress);
        (void)chv_cli_fail(EX_OK, "%s: for %s: %s: not queued", entry->name, client, why);
    } else if (!p->json) {
        printf("%s  %s  ", id, client);
        chv_cli_put_escaped(stdout, entry->name, strlen(entry->name), false);
        printf("%s\n", strcmp(state, "waiting") == 0 ? "  (was waiting already)" : "");
    }
    if (p->json) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:s}", "client", client, "name", entry->name, "state", state,
                              "size", (json_int_t)entry->size, "sha256", hex);
        (void)json_object_set_new(o, why == NULL ? "entry" : "why", json_string(why == NULL ? id : why));
        (void)json_array_append_new(p->results, o);
    }
}

static int exit_of(int failed)
{
    return failed == ENOSPC || failed == EDQUOT || failed == EMLINK || failed == EACCES || failed == EPERM
               ? EX_CANTCREAT
               : EX_IOERR;
}

static void push_file(struct push *p, size_t i)
{
    struct chv_push_entry entry = {.size = 0};
    struct stat st;
    const char *file = p->args->operands[i];
    (void)snprintf(entry.name, sizeof entry.name, "%s", push_name(file));
    chaveiro_progress_begin(&p->progress, p->args, entry.name,
                            fstat(p->sources[i], &st) == 0 ? (uint64_t)st.st_size : 0);
    int failed = chv_push_id_new(entry.id);
    if (failed == 0)
        failed = chv_push_spool_copy(&p->spool, p->sources[i], &entry, on_progress, &p->progress);
    chaveiro_progress_end(&p->progress);
    if (failed != 0) {
        p->code = chv_cli_fail(failed == ESTALE ? EX_TEMPFAIL : exit_of(failed), "%s: %s: not queued for anybody", file,
                               keyadmin_push_error(failed));
        return;
    }
    for (size_t k = 0; k < p->targets.count; k++) {
        struct chv_push_entry queued;
        bool again = false;
        const char *client = p->targets.ids[k];
        failed = queue_for(p, &entry, k, &queued, &again);
        tell(p, &queued, client,
             failed != 0 ? "failed"
             : again     ? "waiting"
                         : "queued",
             failed != 0 ? keyadmin_push_error(failed) : NULL);
        if (failed != 0)
            p->code = exit_of(failed);
    }
    (void)fflush(stdout);
    chv_push_spool_drop(&p->spool, &entry);
}

int keyadmin_push(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct push p = {.args = args, .json = chv_cli_given(args, "json"), .spool.fd = -1};
    p.results = json_array();
    enum chv_err err = keyadmin_push_open(args, &p.server, &p.outbox, &why);
    if (err == CHV_OK)
        err = check_names(args, &why);
    if (err == CHV_OK)
        err = keyadmin_targets_find(args, p.server.config, &p.targets, &why);
    if (err == CHV_OK)
        err = open_sources(&p, &why);
    if (err == CHV_OK)
        p.known = calloc(p.targets.count, sizeof *p.known);
    if (err == CHV_OK && p.known == NULL)
        err = CHV_ERR_MEMORY;
    int failed = err == CHV_OK ? chv_push_spool_open(&p.outbox, &p.spool) : 0;
    if (failed != 0)
        p.code = chv_cli_fail(exit_of(failed), "[push] outbox: %s: %s", p.server.config->push.outbox,
                              keyadmin_push_error(failed));
    for (size_t i = 0; i < args->operand_count && err == CHV_OK && failed == 0; i++)
        push_file(&p, i);
    if (p.json && err == CHV_OK && failed == 0)
        chv_cli_print(json_pack("{s:O}", "pushed", p.results), true);
    json_decref(p.results);
    close_sources(&p);
    for (size_t i = 0; p.known != NULL && i < p.targets.count; i++)
        free(p.known[i].keys);
    free(p.known);
    chv_push_spool_close(&p.spool);
    keyadmin_targets_free(&p.targets);
    keyadmin_push_close(&p.server, &p.outbox);
    return err == CHV_OK ? p.code : chv_cli_why(err, &why);
}
