/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that only ask: a listing, and requests with one answer. */
#include "tools/chaveiro_files.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { ENTRIES_FIRST = 16, ENTRIES_MAX = 1 << 20 };

/* --- listings ------------------------------------------------------------------------------------------------------ */

struct list_op {
    struct chaveiro_op op;
    char path[CHV_FILES_PATH_MAX + 1];
    chaveiro_list_fn *done;
    void (*free_arg)(void *arg);
    void *arg;
    struct chaveiro_listing listing;
    size_t room;
    struct chv_files_digest *digest;
    bool broken;
};

static void list_begin(struct chaveiro_op *op)
{
    const struct list_op *list = (struct list_op *)op;
    struct chv_files_request request = {.op = CHV_FILES_LS};
    memcpy(request.path, list->path, sizeof request.path);
    chaveiro_op_ask(op, &request);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct chv_files_entry *)a)->name, ((const struct chv_files_entry *)b)->name);
}

static void list_answer(struct chaveiro_op *op, const struct chv_files_answer *answer)
{
    struct list_op *list = (struct list_op *)op;
    if (answer->code == 206) {
        list->broken = chv_files_digest_new(&list->digest) != CHV_OK;
        return;
    }
    if (answer->code < 300 && (list->broken || list->digest == NULL)) {
        list->done(op->files, list->arg, &list->listing, NULL);
        return;
    }
    if (list->listing.count > 1)
        qsort(list->listing.entries, list->listing.count, sizeof *list->listing.entries, by_name);
    list->done(op->files, list->arg, &list->listing, answer);
}

/* Room for one more entry. */
static bool list_room(struct list_op *list)
{
    if (list->listing.count < list->room)
        return true;
    const size_t room = list->room > 0 ? 2 * list->room : ENTRIES_FIRST;
    struct chv_files_entry *entries =
        room <= ENTRIES_MAX ? realloc(list->listing.entries, room * sizeof *entries) : NULL;
    if (entries == NULL) {
        chaveiro_fail(list->op.files->link, EX_OSERR, "no memory for a listing of more than %zu entries", list->room);
        return false;
    }
    list->listing.entries = entries;
    list->room = room;
    return true;
}

static void list_data(struct chaveiro_op *op, const uint8_t *data, size_t len)
{
    struct list_op *list = (struct list_op *)op;
    if (!list->broken && chv_files_digest_add(list->digest, data, len) != CHV_OK)
        list->broken = true;
    while (len > 0 && !list->broken) {
        size_t used = 0;
        if (!list_room(list))
            return;
        list->broken = chv_files_entry_decode(data, len, &list->listing.entries[list->listing.count], &used) != CHV_OK;
        list->listing.count += !list->broken;
        data += used;
        len -= used;
    }
}

static void list_end(struct chaveiro_op *op, const uint8_t *digest)
{
    struct list_op *list = (struct list_op *)op;
    uint8_t own[CHV_FILES_DIGEST_LEN];
    if (!list->broken)
        list->broken = digest == NULL || chv_files_digest_finish(list->digest, own) != CHV_OK ||
                       memcmp(own, digest, sizeof own) != 0;
}

static void list_free(struct chaveiro_op *op)
{
    struct list_op *list = (struct list_op *)op;
    if (list->free_arg != NULL)
        list->free_arg(list->arg);
    chv_files_digest_free(list->digest);
    free(list->listing.entries);
}

static const struct chaveiro_op_class list_class = {
    .begin = list_begin, .answer = list_answer, .data = list_data, .end = list_end, .free = list_free};

void chaveiro_files_list(struct chaveiro_files *files, const char *path, chaveiro_list_fn *done,
                         void (*free_arg)(void *arg), void *arg)
{
    struct list_op *list = chaveiro_op_new(files, &list_class, sizeof *list);
    if (list == NULL) {
        if (free_arg != NULL)
            free_arg(arg);
        return;
    }
    (void)snprintf(list->path, sizeof list->path, "%s", path);
    list->done = done;
    list->free_arg = free_arg;
    list->arg = arg;
    chaveiro_op_queue(&list->op);
}

/* --- one answer ---------------------------------------------------------------------------------------------------- */

struct ask_op {
    struct chaveiro_op op;
    enum chv_files_op what;
    chaveiro_answer_fn *done;
    void (*free_arg)(void *arg);
    void *arg;
    const char *to; /* behind the path */
    char path[];
};

static void ask_begin(struct chaveiro_op *op)
{
    const struct ask_op *ask = (struct ask_op *)op;
    struct chv_files_request request = {.op = ask->what};
    (void)snprintf(request.path, sizeof request.path, "%s", ask->path);
    (void)snprintf(request.to, sizeof request.to, "%s", ask->to);
    chaveiro_op_ask(op, &request);
}

static void ask_answer(struct chaveiro_op *op, const struct chv_files_answer *answer)
{
    struct ask_op *ask = (struct ask_op *)op;
    ask->done(op->files, ask->arg, answer);
}

static void ask_free(struct chaveiro_op *op)
{
    struct ask_op *ask = (struct ask_op *)op;
    if (ask->free_arg != NULL)
        ask->free_arg(ask->arg);
}

static const struct chaveiro_op_class ask_class = {.begin = ask_begin, .answer = ask_answer, .free = ask_free};

void chaveiro_files_ask(struct chaveiro_files *files, enum chv_files_op op, const char *path, const char *to,
                        chaveiro_answer_fn *done, void (*free_arg)(void *arg), void *arg)
{
    const size_t len = strlen(path) + 1, to_len = to != NULL ? strlen(to) + 1 : 1;
    struct ask_op *ask = chaveiro_op_new(files, &ask_class, sizeof *ask + len + to_len);
    if (ask == NULL) {
        if (free_arg != NULL)
            free_arg(arg);
        return;
    }
    memcpy(ask->path, path, len);
    memcpy(ask->path + len, to != NULL ? to : "", to_len);
    ask->to = ask->path + len;
    ask->what = op;
    ask->done = done;
    ask->free_arg = free_arg;
    ask->arg = arg;
    chaveiro_op_queue(&ask->op);
}
