/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a push is for, and where it goes. */
#include "tools/keyadmin_push.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "services/files_home.h"

static const char push_scope[] = "push";

const char *keyadmin_push_error(int failed)
{
    switch (failed) {
    case ENOSPC:
    case EDQUOT:
        return "no space left on the disk of the outbox";
    case EXDEV:
        return "leads out of the outbox";
    case ESTALE:
        return "changed while it was read: try again";
    case EMLINK:
        return "the file system of the outbox allows no more links to one file: push it to fewer clients at a time";
    default:
        return strerror(failed);
    }
}

enum chv_err keyadmin_push_open(const struct chv_cli_args *args, struct keyadmin_server *server,
                                struct chv_push_outbox *outbox, struct chv_why *why)
{
    memset(server, 0, sizeof *server);
    *outbox = (struct chv_push_outbox){.fd = -1};
    enum chv_err err = keyadmin_server_config(args, server, why);
    if (err != CHV_OK)
        return err;
    const char *path = server->config->push.outbox;
    if (path[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "%s: has no [push] outbox, so its server pushes nothing",
                        server->config_file);
    int failed = chv_push_outbox_open(path, outbox);
    if (failed != 0)
        return chv_fail(why, CHV_ERR_CONFIG, "[push] outbox: %s: %s", path, strerror(failed));
    return CHV_OK;
}

void keyadmin_push_close(struct keyadmin_server *server, struct chv_push_outbox *outbox)
{
    chv_push_outbox_close(outbox);
    keyadmin_server_close(server);
}

/* --- the list ------------------------------------------------------------------------------------------------------ */

enum chv_err keyadmin_targets_add(struct keyadmin_targets *targets, const char *id, struct chv_why *why)
{
    if (targets->count == targets->room) {
        const size_t room = targets->room > 0 ? 2 * targets->room : 64;
        void *ids = realloc(targets->ids, room * sizeof *targets->ids);
        if (ids == NULL)
            return chv_fail(why, CHV_ERR_MEMORY, "no memory for more than %zu clients", targets->room);
        targets->ids = ids;
        targets->room = room;
    }
    (void)snprintf(targets->ids[targets->count++], sizeof *targets->ids, "%s", id);
    return CHV_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(a, b);
}

void keyadmin_targets_sort(struct keyadmin_targets *targets)
{
    size_t kept = 0;
    if (targets->count > 0)
        qsort(targets->ids, targets->count, sizeof *targets->ids, by_id);
    for (size_t i = 0; i < targets->count; i++)
        if (kept == 0 || strcmp(targets->ids[kept - 1], targets->ids[i]) != 0)
            memmove(targets->ids[kept++], targets->ids[i], sizeof *targets->ids);
    targets->count = kept;
}

void keyadmin_targets_free(struct keyadmin_targets *targets)
{
    free(targets->ids);
    *targets = (struct keyadmin_targets){.ids = NULL};
}

enum chv_err keyadmin_targets_all(const struct chv_push_outbox *outbox, struct keyadmin_targets *targets,
                                  struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    int fd = chv_files_openat(outbox->fd, "", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        err = chv_fail(why, CHV_ERR_IO, "the outbox: %s", strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    for (const struct dirent *e = readdir(dir); e != NULL && err == CHV_OK; e = readdir(dir))
        if (chv_client_id_valid(e->d_name))
            err = keyadmin_targets_add(targets, e->d_name, why);
    (void)closedir(dir);
    keyadmin_targets_sort(targets);
    return err;
}

/* --- from the command line ----------------------------------------------------------------------------------------- */

/* A file of who is denied knows of no others: they are believed. */
static enum chv_err check_target(struct keyadmin_registry *reg, const char *id, struct chv_why *why)
{
    struct chv_registry_client client;
    if (!chv_client_id_valid(id))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to '%.80s' is no client id", id);
    if (reg->r == NULL)
        return CHV_OK;
    const bool knows_all = keyadmin_registry_revoked(reg->uri) == NULL;
    enum chv_err err = chv_registry_get(reg->r, id, &client, why);
    if (err == CHV_ERR_NOT_FOUND && !knows_all)
        return CHV_OK;
    if (err == CHV_ERR_NOT_FOUND || (err == CHV_OK && client.status == CHV_CLIENT_REMOVED))
        return chv_fail(why, CHV_ERR_NOT_FOUND, "there is no client '%s' in %s", id, chv_registry_name(reg->r));
    if (err == CHV_OK && client.status == CHV_CLIENT_REVOKED)
        return chv_fail(why, CHV_ERR_CONFIG, "client '%s' is revoked: it would never get it", id);
    if (err == CHV_OK && knows_all && !chv_registry_client_has_scope(&client, push_scope, NULL))
        return chv_fail(why, CHV_ERR_CONFIG,
                        "client '%s' has no scope 'push': it would never get it (see 'keyadmin client set-scopes')",
                        id);
    return err;
}

struct by_scope {
    struct keyadmin_targets *targets;
    const char *scope;
    struct chv_why *why;
};

static enum chv_err add_by_scope(void *arg, const struct chv_registry_client *client)
{
    struct by_scope *by = arg;
    if (client->status == CHV_CLIENT_MALFORMED || !chv_registry_client_has_scope(client, by->scope, NULL))
        return CHV_OK;
    if (chv_registry_client_has_scope(client, push_scope, NULL))
        return keyadmin_targets_add(by->targets, client->id, by->why);
    (void)chv_cli_fail(EX_OK, "warning: client '%s' has no scope 'push': it is left out", client->id);
    return CHV_OK;
}

static enum chv_err find_by_scope(struct keyadmin_registry *reg, const char *scope, struct keyadmin_targets *targets,
                                  struct chv_why *why)
{
    struct by_scope by = {targets, scope, why};
    const struct chv_registry_filter filter = {.statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_ACTIVE) |
                                                           CHV_CLIENT_STATUS_BIT(CHV_CLIENT_SUSPENDED)};
    if (!chv_scope_valid(scope))
        return chv_fail(why, CHV_ERR_ARGUMENT, "--to-scope '%.80s' is no scope", scope);
    if (reg->r == NULL || keyadmin_registry_revoked(reg->uri) != NULL)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "--to-scope: there is no registry that knows which clients have a scope: name them with --to");
    enum chv_err err = chv_registry_list(reg->r, &filter, add_by_scope, &by, why);
    if (err == CHV_OK && targets->count == 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "--to-scope: no client in %s has the scopes '%s' and 'push'",
                        chv_registry_name(reg->r), scope);
    return err;
}

enum chv_err keyadmin_targets_find(const struct chv_cli_args *args, const struct chv_server_config *config,
                                   struct keyadmin_targets *targets, struct chv_why *why)
{
    struct keyadmin_registry reg;
    const char *scope = chv_cli_value(args, "to-scope");
    if (args->repeat_count == 0 && scope == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "push to whom? Give --to ID or --to-scope SCOPE");
    enum chv_err err = keyadmin_registry_open(args, config, CHV_REGISTRY_READ, &reg, why);
    if (err == CHV_OK && scope != NULL)
        err = find_by_scope(&reg, scope, targets, why);
    for (size_t i = 0; i < args->repeat_count && err == CHV_OK; i++) { /* --to is the one that repeats */
        err = check_target(&reg, args->repeats[i], why);
        if (err == CHV_OK)
            err = keyadmin_targets_add(targets, args->repeats[i], why);
    }
    keyadmin_registry_close(&reg);
    if (err == CHV_OK)
        keyadmin_targets_sort(targets);
    return err;
}
