/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin ticket-keys: what a data side without a keystore needs (net/ticket_keys.h). */
#include "tools/keyadmin_registry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "core/credential.h"
#include "core/hkdf.h"
#include "net/ticket_keys.h"
#include "tools/times.h"

enum { TICKET_DAYS_MAX = 92 };

struct ticket_plan {
    uint32_t epoch;
    uint64_t first; /* period */
    uint64_t days;
    const char *file;
};

/* The one that the server seals tickets with: the newest that is served, if a configuration says which are. */
static uint32_t ticket_epoch(const struct keyadmin_server *server)
{
    uint32_t newest = 0;
    if (server->config == NULL)
        return server->latest;
    for (size_t i = 0; i < server->config->epoch_count; i++)
        for (size_t j = 0; j < server->epoch_count; j++)
            if (server->epochs[j] == server->config->epochs[i] && server->epochs[j] > newest)
                newest = server->epochs[j];
    return newest != 0 ? newest : server->latest;
}

static enum chv_err ticket_wish(const struct chv_cli_args *args, struct ticket_plan *plan, struct chv_why *why)
{
    const char *from = chv_cli_value(args, "from");
    uint64_t start = chv_time_now();
    plan->file = chv_cli_value(args, "out");
    if (plan->file == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "where shall the keys go? Give --out FILE");
    if (!chv_cli_given(args, "days"))
        return chv_fail(why, CHV_ERR_ARGUMENT, "for how long? Give --days N");
    enum chv_err err = chv_cli_number(args, "days", 1, TICKET_DAYS_MAX, 1, &plan->days, why);
    if (err == CHV_OK && from != NULL)
        err = chv_time_date(from, &start, why);
    plan->first = start / CHV_TICKET_PERIOD_SECONDS;
    return err;
}

static enum chv_err ticket_pick(const struct chv_cli_args *args, struct keyadmin_server *server,
                                struct ticket_plan *plan, struct chv_why *why)
{
    const char *name = chv_cli_value(args, "name");
    uint64_t epoch;
    bool there = false;
    if (name != NULL && !chv_server_name_valid(name))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--name '%.80s' is no server name: 1 to 64 of A-Z a-z 0-9 . _ -", name);
    if (name != NULL)
        memcpy(server->name, name, strlen(name) + 1);
    enum chv_err err = chv_cli_number(args, "epoch", 1, UINT32_MAX, ticket_epoch(server), &epoch, why);
    for (size_t i = 0; i < server->epoch_count; i++)
        there = there || server->epochs[i] == epoch;
    plan->epoch = (uint32_t)epoch;
    if (err == CHV_OK && !there)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "the keystore has no master of epoch %" PRIu64, epoch);
    return err;
}

static enum chv_err ticket_derive(const struct keyadmin_server *server, const struct ticket_plan *plan,
                                  struct chv_ticket_keys *keys, struct chv_why *why)
{
    char label[32];
    uint8_t info[CHV_INFO_MAX];
    size_t len = 0;
    enum chv_err err = CHV_OK;
    (void)snprintf(label, sizeof label, "master:%" PRIu32, plan->epoch);
    (void)snprintf(keys->audience, sizeof keys->audience, "%s/data", server->name);
    for (uint64_t i = 0; i < plan->days && err == CHV_OK; i++) {
        struct chv_ticket_key *key = &keys->list[keys->count++];
        key->epoch = plan->epoch;
        key->period = plan->first + i;
        err = chv_info_ticket(keys->audience, key->period, info, &len);
        if (err == CHV_OK)
            err = chv_keystore_derive(server->keystore, label, info, len, key->key, why);
    }
    return err;
}

/* Before the keys are there: none are that the trail does not know of. */
static enum chv_err ticket_audit(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                 const struct ticket_plan *plan, struct chv_why *why)
{
    char until[CHV_TIME_TEXT];
    struct keyadmin_registry reg = {.r = NULL};
    chv_time_format((plan->first + plan->days) * CHV_TICKET_PERIOD_SECONDS, until);
    enum chv_err err = keyadmin_registry_open(args, server->config, CHV_REGISTRY_WRITE, &reg, why);
    if (err == CHV_OK && reg.r != NULL) {
        err = chv_registry_begin(reg.r, why);
        if (err == CHV_OK) {
            err = keyadmin_audit(&reg, "ticket-keys", "",
                                 json_pack("{s:s, s:I, s:I, s:s}", "server", server->name, "epoch",
                                           (json_int_t)plan->epoch, "days", (json_int_t)plan->days, "until", until),
                                 why);
            if (err == CHV_OK)
                err = chv_registry_commit(reg.r, why);
            else
                chv_registry_rollback(reg.r);
        }
        if (err == CHV_OK)
            keyadmin_seal(&reg, server);
    }
    keyadmin_registry_close(&reg);
    return err;
}

/* --- the file ------------------------------------------------------------------------------------------------------ */

static enum chv_err ticket_put(int fd, const char *name, const char *text, size_t len, struct chv_why *why)
{
    for (size_t n = 0; n < len;) {
        const ssize_t put = write(fd, text + n, len - n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return chv_fail(why, CHV_ERR_IO, "%s: cannot write: %s", name, strerror(errno));
        n += (size_t)put;
    }
    return fsync(fd) == 0 ? CHV_OK : chv_fail(why, CHV_ERR_IO, "%s: fsync: %s", name, strerror(errno));
}

static void ticket_sync_folder(const char *file)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(file, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - file) + 1 : 1,
                   slash != NULL ? file : ".");
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* Whole or not at all, and mode 0600 from its first byte on. */
static enum chv_err ticket_write(const char *file, bool force, const char *text, size_t len, struct chv_why *why)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s.XXXXXX", file) >= (int)sizeof name)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    const int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: cannot be made: %s", file, strerror(errno));
    enum chv_err err = ticket_put(fd, file, text, len, why);
    close(fd);
    if (err == CHV_OK && renameat2(AT_FDCWD, name, AT_FDCWD, file, force ? 0 : RENAME_NOREPLACE) != 0)
        err = errno == EEXIST
                  ? chv_fail(why, CHV_ERR_EXISTS, "%s: is there already: --force puts another one in its place", file)
                  : chv_fail(why, CHV_ERR_IO, "%s: cannot be made: %s", file, strerror(errno));
    if (err != CHV_OK)
        (void)unlink(name);
    else
        ticket_sync_folder(file);
    return err;
}

static enum chv_err ticket_make(const struct chv_cli_args *args, const struct keyadmin_server *server,
                                const struct ticket_plan *plan, struct chv_why *why)
{
    struct stat st;
    size_t len = CHV_TICKET_KEYS_TEXT_MAX;
    const bool force = chv_cli_given(args, "force");
    enum chv_err err = CHV_OK;
    struct chv_ticket_keys *keys = chv_secure_alloc(sizeof *keys);
    char *text = chv_secure_alloc(CHV_TICKET_KEYS_TEXT_MAX);
    if (keys == NULL || text == NULL)
        err = chv_fail(why, CHV_ERR_MEMORY, "no locked memory for the keys");
    if (err == CHV_OK && !force && lstat(plan->file, &st) == 0) /* before the trail says that there are such keys */
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already: --force puts another one in its place", plan->file);
    if (err == CHV_OK)
        err = ticket_derive(server, plan, keys, why);
    if (err == CHV_OK)
        err = chv_ticket_keys_format(keys, text, &len);
    if (err == CHV_OK)
        err = ticket_audit(args, server, plan, why);
    if (err == CHV_OK)
        err = ticket_write(plan->file, force, text, len, why);
    chv_secure_free(text, CHV_TICKET_KEYS_TEXT_MAX);
    chv_secure_free(keys, sizeof *keys);
    return err;
}

int keyadmin_ticket_keys(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {.config = NULL};
    struct ticket_plan plan = {.epoch = 0};
    char audience[CHV_AUDIENCE_MAX + 1], from[CHV_TIME_TEXT], until[CHV_TIME_TEXT];
    enum chv_err err = ticket_wish(args, &plan, &why);
    if (err == CHV_OK)
        err = keyadmin_server_open(args, &server, &why);
    if (err == CHV_OK)
        err = ticket_pick(args, &server, &plan, &why);
    if (err == CHV_OK) {
        chv_cli_hold_signals();
        err = ticket_make(args, &server, &plan, &why);
        chv_cli_release_signals();
    }
    if (err == CHV_OK) {
        (void)snprintf(audience, sizeof audience, "%s/data", server.name);
        chv_time_format(plan.first * CHV_TICKET_PERIOD_SECONDS, from);
        chv_time_format((plan.first + plan.days) * CHV_TICKET_PERIOD_SECONDS, until);
        chv_cli_print(json_pack("{s:s, s:s, s:I, s:I, s:s, s:s}", "file", plan.file, "audience", audience, "epoch",
                                (json_int_t)plan.epoch, "days", (json_int_t)plan.days, "from", from, "until", until),
                      chv_cli_given(args, "json"));
    }
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
