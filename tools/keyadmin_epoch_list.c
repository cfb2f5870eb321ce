/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin epoch list, epoch status: masters, which are served, who uses them, who can use none. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

static bool epoch_served(const struct chv_server_config *config, uint32_t epoch)
{
    for (size_t i = 0; i < config->epoch_count; i++)
        if (config->epochs[i] == epoch)
            return true;
    return false;
}

static json_t *epoch_row(const struct chv_server_config *config, uint32_t epoch, json_t *rows)
{
    json_t *row = json_object();
    const bool served = epoch_served(config, epoch);
    (void)json_object_set_new(row, "epoch", json_integer(epoch));
    (void)json_object_set_new(row, "served", json_boolean(served));
    (void)json_object_set_new(row, "successor", json_boolean(served && chv_server_successor(config) == epoch));
    return json_array_append_new(rows, row) == 0 ? row : NULL;
}

static void epoch_print_row(const json_t *row, const char *number, const char *text)
{
    char value[24] = "-";
    const json_t *count = json_object_get(row, number);
    const char *last = json_string_value(json_object_get(row, text));
    if (count != NULL)
        (void)snprintf(value, sizeof value, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
    printf("%-8" JSON_INTEGER_FORMAT " %-7s %-9s %-9s", json_integer_value(json_object_get(row, "epoch")),
           json_is_true(json_object_get(row, "served")) ? "yes" : "no",
           json_is_true(json_object_get(row, "successor")) ? "yes" : "-", value);
    count = json_object_get(row, "stranded");
    if (count != NULL)
        printf(" %-9" JSON_INTEGER_FORMAT, json_integer_value(count));
    printf(" %s\n", last != NULL ? last : "-");
}

/* --- list ------------------------------------------------------------------------------------------------------------
 */

static enum chv_err list_rows(const struct keyadmin_server *server, json_t *rows, struct chv_why *why)
{
    uint8_t check[CHV_SECRET_LEN];
    char label[CHV_LABEL_MAX + 1];
    for (size_t i = 0; i < server->epoch_count; i++) {
        json_t *row = epoch_row(server->config, server->epochs[i], rows);
        (void)snprintf(label, sizeof label, "master:%" PRIu32, server->epochs[i]);
        enum chv_err err =
            row != NULL ? chv_provision_check_stored(server->keystore, label, check, why) : CHV_ERR_MEMORY;
        if (err != CHV_OK)
            return err;
        keyadmin_put_hex(row, "key_check", check, CHV_CHECK_MASTER_LEN);
    }
    return CHV_OK;
}

int keyadmin_epoch_list(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    json_t *o = json_object(), *rows = json_array(), *row;
    size_t i;
    enum chv_err err = o != NULL && rows != NULL ? keyadmin_server_open(args, &server, &why) : CHV_ERR_MEMORY;
    if (err == CHV_OK)
        err = server.config != NULL ? list_rows(&server, rows, &why)
                                    : chv_fail(&why, CHV_ERR_ARGUMENT,
                                               "which epochs are served stands in the configuration: give --config");
    if (err == CHV_OK && chv_cli_given(args, "json")) {
        (void)json_object_set(o, "epochs", rows);
        chv_cli_print(json_incref(o), true);
    } else if (err == CHV_OK) {
        printf("%-8s %-7s %-9s %-9s %s\n", "EPOCH", "SERVED", "SUCCESSOR", "CLIENTS", "KEY CHECK");
        json_array_foreach(rows, i, row)
        {
            epoch_print_row(row, "clients", "key_check");
        }
    }
    json_decref(rows);
    json_decref(o);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- status ----------------------------------------------------------------------------------------------------------
 */

struct epoch_status {
    const struct chv_server_config *config;
    struct keyadmin_registry reg;
    struct keyadmin_epochs epochs;
    json_t *rows;
    uint64_t stranded;
    struct chv_why *why;
};

static json_t *status_find(const struct epoch_status *s, uint32_t epoch)
{
    size_t i;
    json_t *row;
    json_array_foreach(s->rows, i, row)
    {
        if (json_integer_value(json_object_get(row, "epoch")) == epoch)
            return row;
    }
    return NULL;
}

/* One that is not served has a row only if clients use it. */
static enum chv_err status_on_usage(void *arg, uint32_t epoch, uint64_t clients)
{
    struct epoch_status *s = arg;
    json_t *row = status_find(s, epoch);
    if (row == NULL)
        row = epoch_row(s->config, epoch, s->rows);
    if (row == NULL)
        return CHV_ERR_MEMORY;
    (void)json_object_set_new(row, "clients", json_integer((json_int_t)clients));
    return CHV_OK;
}

static enum chv_err status_stranded(struct epoch_status *s, json_t *row)
{
    const uint32_t epoch = (uint32_t)json_integer_value(json_object_get(row, "epoch"));
    const char *lost = keyadmin_epoch_lost(&s->epochs, epoch);
    uint64_t stranded = 0;
    enum chv_err err = keyadmin_epoch_stranded(&s->reg, &s->epochs, epoch, &stranded, s->why);
    (void)json_object_set_new(row, "stranded", json_integer((json_int_t)stranded));
    if (lost != NULL)
        (void)json_object_set_new(row, "lost", json_string(lost));
    s->stranded += stranded;
    return err;
}

static enum chv_err status_rows(const struct chv_cli_args *args, struct epoch_status *s)
{
    const struct chv_server_config *config = s->config;
    size_t i;
    json_t *row;
    if (config->registry[0] == '\0' || keyadmin_registry_revoked(config->registry) != NULL)
        return chv_fail(s->why, CHV_ERR_UNSUPPORTED, "without a registry nobody counts which clients use an epoch");
    enum chv_err err = keyadmin_registry_open(args, config, CHV_REGISTRY_READ, &s->reg, s->why);
    if (err == CHV_OK)
        err = keyadmin_epochs_load(&s->epochs, config, &s->reg, s->why);
    for (i = 0; err == CHV_OK && i < config->epoch_count; i++) {
        row = epoch_row(config, config->epochs[i], s->rows);
        (void)json_object_set_new(row, "clients", json_integer(0));
    }
    if (err == CHV_OK)
        err = chv_registry_epoch_usage(s->reg.r, status_on_usage, s, s->why);
    json_array_foreach(s->rows, i, row)
    {
        if (err == CHV_OK)
            err = status_stranded(s, row);
    }
    return err;
}

static void status_print(const struct epoch_status *s, bool json)
{
    size_t i;
    json_t *row, *o = json_object();
    if (json && o != NULL) {
        (void)json_object_set(o, "epochs", s->rows);
        (void)json_object_set_new(o, "stranded", json_integer((json_int_t)s->stranded));
        chv_cli_print(o, true);
        return;
    }
    json_decref(o);
    printf("%-8s %-7s %-9s %-9s %-9s %s\n", "EPOCH", "SERVED", "SUCCESSOR", "CLIENTS", "STRANDED", "WHY");
    json_array_foreach(s->rows, i, row)
    {
        epoch_print_row(row, "clients", "lost");
    }
    if (s->stranded > 0)
        printf("\n%" PRIu64
               " clients have no key that is taken: 'client list --stranded' names them, 'client reissue' or\n"
               "'client add --from' provisions them anew.\n",
               s->stranded);
}

int keyadmin_epoch_status(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct epoch_status s = {.rows = json_array(), .why = &why};
    enum chv_err err = s.rows != NULL ? keyadmin_server_find(args, &server, &why) : CHV_ERR_MEMORY;
    s.config = server.config;
    if (err == CHV_OK)
        err = status_rows(args, &s);
    if (err == CHV_OK)
        status_print(&s, chv_cli_given(args, "json"));
    json_decref(s.rows);
    keyadmin_registry_close(&s.reg);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
