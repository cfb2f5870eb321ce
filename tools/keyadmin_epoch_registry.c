/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs in the registry: who uses them, and what became of them. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

#include "tools/times.h"

/* --- which are of use ------------------------------------------------------------------------------------------------
 */

static bool epoch_in(const uint32_t *epochs, size_t count, uint32_t epoch)
{
    for (size_t i = 0; i < count; i++)
        if (epochs[i] == epoch)
            return true;
    return false;
}

/* They come in order: of very many the oldest are left out, which no configuration serves. */
static void epoch_add(uint32_t *epochs, size_t *count, uint32_t epoch)
{
    if (*count == KEYADMIN_EPOCHS_MAX)
        memmove(epochs, epochs + 1, --*count * sizeof *epochs);
    epochs[(*count)++] = epoch;
}

static enum chv_err epoch_on_row(void *arg, const struct chv_registry_epoch *row)
{
    struct keyadmin_epochs *epochs = arg;
    if (row->status == CHV_EPOCH_COMPROMISED)
        epoch_add(epochs->compromised, &epochs->compromised_count, row->epoch);
    else if (row->status == CHV_EPOCH_RETIRED)
        epoch_add(epochs->retired, &epochs->retired_count, row->epoch);
    return CHV_OK;
}

enum chv_err keyadmin_epochs_load(struct keyadmin_epochs *epochs, const struct chv_server_config *config,
                                  struct keyadmin_registry *reg, struct chv_why *why)
{
    memset(epochs, 0, sizeof *epochs);
    epochs->config = config;
    if (reg->r == NULL || keyadmin_registry_revoked(reg->uri) != NULL)
        return CHV_OK;
    return chv_registry_epoch_list(reg->r, epoch_on_row, epochs, why);
}

const char *keyadmin_epoch_lost(const struct keyadmin_epochs *epochs, uint32_t epoch)
{
    if (epoch_in(epochs->compromised, epochs->compromised_count, epoch))
        return "its master leaked";
    if (epochs->config != NULL && !epoch_in(epochs->config->epochs, epochs->config->epoch_count, epoch))
        return "it is not in epochs of the configuration";
    if (epochs->config == NULL && epoch_in(epochs->retired, epochs->retired_count, epoch))
        return "it was retired";
    return NULL;
}

enum chv_err keyadmin_epoch_pick(const struct keyadmin_server *server, const struct keyadmin_epochs *epochs, bool given,
                                 bool leaked, uint32_t *epoch, struct chv_why *why)
{
    size_t i = server->epoch_count;
    while (i > 0 && keyadmin_epoch_lost(epochs, server->epochs[i - 1]) != NULL)
        i--;
    if (i == 0)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "the keystore has no master of an epoch that the server takes keys of (epoch %" PRIu32
                        ": %s): 'keyadmin epoch new' makes one",
                        server->latest, keyadmin_epoch_lost(epochs, server->latest));
    const uint32_t newest = server->epochs[i - 1];
    const char *lost = given ? keyadmin_epoch_lost(epochs, *epoch) : NULL;
    if (given && !epoch_in(server->epochs, server->epoch_count, *epoch))
        return CHV_OK; /* said where the master is looked for */
    if (lost != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "--epoch %" PRIu32 ": no key of that epoch is taken (%s): leave --epoch out for epoch %" PRIu32,
                        *epoch, lost, newest);
    /* the thief may have been handed the next epochs' key in band: that is to be older than the new one, too */
    if (leaked && given && *epoch < newest)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "--leaked: whoever has the key may have the one of epoch %" PRIu32
                        " already, which a key of epoch %" PRIu32 " does not replace: leave --epoch out",
                        newest, *epoch);
    *epoch = given ? *epoch : newest;
    return CHV_OK;
}

bool keyadmin_client_stranded(const struct keyadmin_epochs *epochs, const struct chv_registry_client *client)
{
    return epochs != NULL && (client->status == CHV_CLIENT_ACTIVE || client->status == CHV_CLIENT_SUSPENDED) &&
           client->profile != CHV_PROFILE_KEY && client->latest.serial != 0 &&
           keyadmin_epoch_lost(epochs, client->latest.epoch) != NULL &&
           (client->confirmed.serial == 0 || keyadmin_epoch_lost(epochs, client->confirmed.epoch) != NULL);
}

struct epoch_stranded {
    const struct keyadmin_epochs *epochs;
    uint64_t clients;
};

static enum chv_err epoch_on_client(void *arg, const struct chv_registry_client *client)
{
    struct epoch_stranded *stranded = arg;
    stranded->clients += keyadmin_client_stranded(stranded->epochs, client) ? 1 : 0;
    return CHV_OK;
}

enum chv_err keyadmin_epoch_stranded(struct keyadmin_registry *reg, const struct keyadmin_epochs *epochs,
                                     uint32_t epoch, uint64_t *stranded, struct chv_why *why)
{
    const struct chv_registry_filter filter = {.statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_ACTIVE) |
                                                           CHV_CLIENT_STATUS_BIT(CHV_CLIENT_SUSPENDED),
                                               .epoch = epoch};
    struct epoch_stranded found = {.epochs = epochs};
    enum chv_err err = CHV_OK;
    if (keyadmin_epoch_lost(epochs, epoch) != NULL) /* who uses another one is not stranded */
        err = chv_registry_list(reg->r, &filter, epoch_on_client, &found, why);
    if (err == CHV_OK || err == CHV_ERR_MALFORMED) /* one bad row does not hide the others */
        *stranded = found.clients;
    return err == CHV_ERR_MALFORMED ? CHV_OK : err;
}

/* --- who uses them ---------------------------------------------------------------------------------------------------
 */

struct epoch_usage {
    uint32_t epoch;
    uint64_t clients;
};

static enum chv_err epoch_on_usage(void *arg, uint32_t epoch, uint64_t clients)
{
    struct epoch_usage *usage = arg;
    if (epoch == usage->epoch)
        usage->clients += clients;
    return CHV_OK;
}

enum chv_err keyadmin_epoch_clients(const struct chv_cli_args *args, const struct chv_server_config *config,
                                    uint32_t epoch, uint64_t *clients, struct chv_why *why)
{
    struct keyadmin_registry reg = {.r = NULL};
    struct epoch_usage usage = {.epoch = epoch};
    if (config->registry[0] == '\0' || keyadmin_registry_revoked(config->registry) != NULL)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "without a registry nobody counts which clients use an epoch");
    enum chv_err err = keyadmin_registry_open(args, config, CHV_REGISTRY_READ, &reg, why);
    if (err == CHV_OK)
        err = chv_registry_epoch_usage(reg.r, epoch_on_usage, &usage, why);
    keyadmin_registry_close(&reg);
    if (err == CHV_OK)
        *clients = usage.clients;
    return err;
}

/* What the registry knows of the epoch stays. */
static enum chv_err epoch_row_get(struct keyadmin_registry *reg, uint32_t number, struct chv_registry_epoch *epoch,
                                  struct chv_why *why)
{
    enum chv_err err = chv_registry_epoch_get(reg->r, number, epoch, why);
    if (err != CHV_ERR_NOT_FOUND)
        return err;
    *epoch = (struct chv_registry_epoch){.epoch = number, .status = CHV_EPOCH_ACTIVE, .created = chv_time_now()};
    return CHV_OK;
}

static enum chv_err epoch_write(struct keyadmin_registry *reg, const struct keyadmin_epoch_record *record,
                                struct chv_why *why)
{
    struct chv_registry_epoch epoch;
    enum chv_err err = CHV_OK;
    json_t *details = json_object(), *ended = json_array();
    if (record->epoch != 0) {
        err = epoch_row_get(reg, record->epoch, &epoch, why);
        if (err == CHV_OK) {
            epoch.has_check = true;
            memcpy(epoch.check, record->check, sizeof epoch.check);
            err = chv_registry_epoch_put(reg->r, &epoch, why);
        }
        (void)json_object_set_new(details, "epoch", json_integer(record->epoch));
    }
    for (size_t i = 0; err == CHV_OK && i < record->ended_count; i++) {
        err = epoch_row_get(reg, record->ended[i], &epoch, why);
        if (err != CHV_OK)
            break;
        epoch.status = record->status;
        epoch.ended = chv_time_now();
        err = chv_registry_epoch_put(reg->r, &epoch, why);
        (void)json_array_append_new(ended, json_integer(record->ended[i]));
    }
    if (record->ended_count > 0)
        (void)json_object_set(details, "ended", ended);
    json_decref(ended);
    if (err == CHV_OK)
        return keyadmin_audit(reg, record->action, "", details, why);
    json_decref(details);
    return err;
}

void keyadmin_epoch_record(const struct chv_cli_args *args, const struct keyadmin_server *server,
                           const struct keyadmin_epoch_record *record)
{
    struct chv_why why = {""};
    struct keyadmin_registry reg = {.r = NULL};
    enum chv_err err = keyadmin_registry_open(args, server->config, CHV_REGISTRY_WRITE, &reg, &why);
    if (err == CHV_OK && reg.r != NULL) {
        err = chv_registry_begin(reg.r, &why);
        if (err == CHV_OK) {
            err = epoch_write(&reg, record, &why);
            if (err == CHV_OK)
                err = chv_registry_commit(reg.r, &why);
            else
                chv_registry_rollback(reg.r);
        }
        if (err == CHV_OK && server->keystore != NULL)
            keyadmin_seal(&reg, server);
    }
    if (err != CHV_OK)
        (void)chv_cli_error(err, &why, "warning: the registry does not have it");
    keyadmin_registry_close(&reg);
}
