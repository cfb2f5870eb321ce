/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs in the registry: who uses them, and what became of them. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

#include "tools/times.h"

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
