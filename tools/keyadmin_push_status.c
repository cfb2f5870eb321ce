/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin push status, push cancel. */
#include "tools/keyadmin_push.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "tools/times.h"

enum { NAME_WIDTH = 6 };

struct waiting {
    struct chv_push_entry entry;
    bool damaged, refused;
    struct chv_push_mark mark;
};

/* What the outbox has for a client. */
struct box {
    int folder;
    struct waiting *list;
    size_t count, room;
    uint64_t bytes, oldest; /* Unix seconds, 0: nothing waits */
    size_t refused;
    struct chv_push_log log;
    bool no_memory;
};

/* Unix seconds; the first half of an id is the time. */
static uint64_t pushed_at(const uint8_t id[CHV_PUSH_ID_LEN])
{
    uint64_t ns = 0;
    for (unsigned i = 0; i < 8; i++)
        ns = ns << 8 | id[i];
    return ns / 1000000000;
}

static bool add_waiting(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    struct box *box = arg;
    if (box->count == box->room) {
        const size_t room = box->room > 0 ? 2 * box->room : 16;
        struct waiting *list = realloc(box->list, room * sizeof *list);
        if (list == NULL) {
            box->no_memory = true;
            return false;
        }
        box->list = list;
        box->room = room;
    }
    struct waiting *w = &box->list[box->count];
    *w = (struct waiting){.damaged = false};
    int failed = chv_push_entry_open(box->folder, id, &w->entry, NULL);
    if (failed == ENOENT)
        return true; /* it has just gone */
    w->damaged = failed != 0;
    memcpy(w->entry.id, id, CHV_PUSH_ID_LEN);
    w->refused = chv_push_mark_read(box->folder, id, &w->mark);
    box->refused += w->refused;
    box->bytes += w->entry.size;
    if (box->oldest == 0 || pushed_at(id) < box->oldest)
        box->oldest = pushed_at(id);
    box->count++;
    return true;
}

static int by_entry(const void *a, const void *b)
{
    return memcmp(((const struct waiting *)a)->entry.id, ((const struct waiting *)b)->entry.id, CHV_PUSH_ID_LEN);
}

/* A client that nothing was ever pushed to has no folder. */
static enum chv_err read_box(const struct chv_push_outbox *outbox, const char *id, struct box *box, struct chv_why *why)
{
    *box = (struct box){.folder = -1};
    int failed = chv_push_folder_open(outbox, id, false, &box->folder);
    if (failed == ENOENT)
        return CHV_OK;
    if (failed == 0)
        failed = chv_push_folder_each(box->folder, add_waiting, box);
    if (box->no_memory)
        return CHV_ERR_MEMORY;
    if (failed != 0)
        return chv_fail(why, CHV_ERR_IO, "the outbox of %s: %s", id, keyadmin_push_error(failed));
    chv_push_log_read(box->folder, &box->log);
    if (box->count > 0)
        qsort(box->list, box->count, sizeof *box->list, by_entry);
    return CHV_OK;
}

static void free_box(struct box *box)
{
    if (box->folder >= 0)
        (void)close(box->folder);
    free(box->list);
}

/* --- status -------------------------------------------------------------------------------------------------------- */

static json_t *time_json(uint64_t seconds)
{
    char text[CHV_TIME_TEXT];
    chv_time_format(seconds, text);
    return json_string(text);
}

static json_t *waiting_json(const struct waiting *w)
{
    char id[CHV_PUSH_ID_TEXT], hex[CHV_HEX_SIZE(CHV_FILES_DIGEST_LEN)];
    chv_push_id_text(w->entry.id, id);
    chv_hex_encode(w->entry.sha256, sizeof w->entry.sha256, hex);
    json_t *o = json_pack("{s:s, s:o}", "entry", id, "pushed", time_json(pushed_at(w->entry.id)));
    if (w->damaged) {
        (void)json_object_set_new(o, "damaged", json_true());
        return o;
    }
    (void)json_object_set_new(o, "name", json_string(w->entry.name));
    (void)json_object_set_new(o, "size", json_integer((json_int_t)w->entry.size));
    (void)json_object_set_new(o, "sha256", json_string(hex));
    if (w->refused)
        (void)json_object_set_new(o, "refused",
                                  json_pack("{s:I, s:s, s:o}", "code", (json_int_t)w->mark.code, "text", w->mark.text,
                                            "time", time_json(w->mark.time)));
    return o;
}

static json_t *box_json(const char *id, const struct box *box)
{
    json_t *list = json_array();
    for (size_t i = 0; i < box->count; i++)
        (void)json_array_append_new(list, waiting_json(&box->list[i]));
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "client", id, "waiting", (json_int_t)box->count, "bytes",
                          (json_int_t)box->bytes, "refused", (json_int_t)box->refused, "delivered",
                          (json_int_t)box->log.count, "entries", list);
    if (box->oldest != 0)
        (void)json_object_set_new(o, "oldest", time_json(box->oldest));
    if (box->log.time != 0)
        (void)json_object_set_new(o, "last_delivery", time_json(box->log.time));
    return o;
}

static void age_text(uint64_t since, char out[CHV_TIME_TEXT])
{
    const uint64_t now = chv_time_now(), s = now > since ? now - since : 0;
    if (since == 0)
        (void)snprintf(out, CHV_TIME_TEXT, "-");
    else if (s < 120)
        (void)snprintf(out, CHV_TIME_TEXT, "%" PRIu64 "s", s);
    else if (s < 7200)
        (void)snprintf(out, CHV_TIME_TEXT, "%" PRIu64 "m", s / 60);
    else if (s < UINT64_C(48) * 3600)
        (void)snprintf(out, CHV_TIME_TEXT, "%" PRIu64 "h", s / 3600);
    else
        (void)snprintf(out, CHV_TIME_TEXT, "%" PRIu64 "d", s / 86400);
}

static void print_box(const char *id, int width, const struct box *box)
{
    char age[CHV_TIME_TEXT], last[CHV_TIME_TEXT] = "-";
    age_text(box->oldest, age);
    if (box->log.time != 0)
        chv_time_format(box->log.time, last);
    printf("%-*s  %7zu  %14" PRIu64 "  %6s  %7zu  %9" PRIu64 "  %s\n", width, id, box->count, box->bytes, age,
           box->refused, box->log.count, last);
}

static void print_entries(const struct box *box)
{
    for (size_t i = 0; i < box->count; i++) {
        const struct waiting *w = &box->list[i];
        char id[CHV_PUSH_ID_TEXT], when[CHV_TIME_TEXT];
        chv_push_id_text(w->entry.id, id);
        chv_time_format(pushed_at(w->entry.id), when);
        printf("  %s  %s  %12" PRIu64 "  ", id, when, w->entry.size);
        if (w->damaged)
            printf("(damaged: cancel it)");
        else
            chv_cli_put_escaped(stdout, w->entry.name, strlen(w->entry.name), false);
        if (w->refused) {
            printf("  (refused %u: ", w->mark.code);
            chv_cli_put_escaped(stdout, w->mark.text, strlen(w->mark.text), false);
            printf(")");
        }
        printf("\n");
    }
}

static enum chv_err operands(const struct chv_cli_args *args, struct keyadmin_targets *targets, struct chv_why *why)
{
    for (size_t i = 0; i < args->operand_count; i++) {
        if (!chv_client_id_valid(args->operands[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT, "'%.80s' is no client id", args->operands[i]);
        enum chv_err err = keyadmin_targets_add(targets, args->operands[i], why);
        if (err != CHV_OK)
            return err;
    }
    keyadmin_targets_sort(targets);
    return CHV_OK;
}

int keyadmin_push_status(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server;
    struct chv_push_outbox outbox;
    struct keyadmin_targets targets = {.ids = NULL};
    const bool json = chv_cli_given(args, "json");
    int width = NAME_WIDTH;
    json_t *list = json_array();
    enum chv_err err = keyadmin_push_open(args, &server, &outbox, &why);
    if (err == CHV_OK)
        err = args->operand_count > 0 ? operands(args, &targets, &why) : keyadmin_targets_all(&outbox, &targets, &why);
    for (size_t i = 0; i < targets.count; i++)
        if ((int)strlen(targets.ids[i]) > width)
            width = (int)strlen(targets.ids[i]);
    if (err == CHV_OK && !json)
        printf("%-*s  %7s  %14s  %6s  %7s  %9s  %s\n", width, "CLIENT", "WAITING", "BYTES", "OLDEST", "REFUSED",
               "DELIVERED", "LAST");
    for (size_t i = 0; i < targets.count && err == CHV_OK; i++) {
        struct box box;
        err = read_box(&outbox, targets.ids[i], &box, &why);
        if (err == CHV_OK && json)
            (void)json_array_append_new(list, box_json(targets.ids[i], &box));
        else if (err == CHV_OK)
            print_box(targets.ids[i], width, &box);
        if (err == CHV_OK && !json && args->operand_count > 0)
            print_entries(&box);
        free_box(&box);
    }
    if (err == CHV_OK && json)
        chv_cli_print(json_pack("{s:O}", "clients", list), true);
    json_decref(list);
    keyadmin_targets_free(&targets);
    keyadmin_push_close(&server, &outbox);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- cancel -------------------------------------------------------------------------------------------------------- */

/* 0: it was there and is gone; ENOENT: it was not. */
static int cancel_for(const struct chv_push_outbox *outbox, const char *client, const uint8_t id[CHV_PUSH_ID_LEN])
{
    int folder = -1;
    int failed = chv_push_folder_open(outbox, client, false, &folder);
    if (failed != 0)
        return failed;
    failed = chv_push_entry_remove(folder, id);
    if (failed == 0 && fsync(folder) != 0)
        failed = errno;
    (void)close(folder);
    return failed;
}

static enum chv_err cancel_targets(const struct chv_cli_args *args, const struct chv_push_outbox *outbox,
                                   struct keyadmin_targets *targets, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    if (args->repeat_count == 0)
        return keyadmin_targets_all(outbox, targets, why);
    for (size_t i = 0; i < args->repeat_count && err == CHV_OK; i++)
        err = chv_client_id_valid(args->repeats[i])
                  ? keyadmin_targets_add(targets, args->repeats[i], why)
                  : chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.80s' is no client id", args->repeats[i]);
    keyadmin_targets_sort(targets);
    return err;
}

int keyadmin_push_cancel(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server;
    struct chv_push_outbox outbox;
    struct keyadmin_targets targets = {.ids = NULL};
    uint8_t id[CHV_PUSH_ID_LEN];
    json_t *cancelled = json_array();
    const bool json = chv_cli_given(args, "json");
    enum chv_err err = keyadmin_push_open(args, &server, &outbox, &why);
    if (err == CHV_OK && !chv_push_id_parse(args->operands[0], id))
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "'%.80s' is no entry: 'keyadmin push status ID' shows those of a client",
                       args->operands[0]);
    if (err == CHV_OK)
        err = cancel_targets(args, &outbox, &targets, &why);
    for (size_t i = 0; i < targets.count && err == CHV_OK; i++) {
        int failed = cancel_for(&outbox, targets.ids[i], id);
        if (failed == 0 && !json)
            printf("%s  %s  cancelled\n", args->operands[0], targets.ids[i]);
        if (failed == 0)
            (void)json_array_append_new(cancelled, json_string(targets.ids[i]));
        else if (failed != ENOENT)
            err = chv_fail(&why, CHV_ERR_IO, "the outbox of %s: %s", targets.ids[i], keyadmin_push_error(failed));
    }
    if (err == CHV_OK && json_array_size(cancelled) == 0)
        err = chv_fail(&why, CHV_ERR_NOT_FOUND, "entry %s waits for none of these clients", args->operands[0]);
    if (json && err == CHV_OK)
        chv_cli_print(json_pack("{s:s, s:O}", "entry", args->operands[0], "cancelled", cancelled), true);
    json_decref(cancelled);
    keyadmin_targets_free(&targets);
    keyadmin_push_close(&server, &outbox);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
