/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin client list, client show of a registered client. */
#include "tools/keyadmin_registry.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

#include "tools/identity.h"
#include "tools/times.h"

enum { LIST_ISSUE_SIZE = 24, LIST_ID_LEAST = 6 };

static bool client_is_pending(const struct chv_registry_client *c)
{
    return (c->flags & CHV_CLIENT_PENDING) != 0 && chv_issue_compare(c->latest, c->confirmed) > 0;
}

static void put_issue(json_t *o, const char *name, struct chv_issue issue)
{
    char text[LIST_ISSUE_SIZE];
    (void)snprintf(text, sizeof text, "%lu.%lu", (unsigned long)issue.epoch, (unsigned long)issue.serial);
    if (issue.serial != 0)
        (void)json_object_set_new(o, name, json_string(text));
}

static void put_time(json_t *o, const char *name, uint64_t time, const char *none)
{
    char text[CHV_TIME_TEXT];
    chv_time_format(time, text);
    if (time != 0 || none != NULL)
        (void)json_object_set_new(o, name, json_string(time != 0 ? text : none));
}

json_t *keyadmin_client_json(const struct chv_registry_client *c, const struct keyadmin_epochs *epochs)
{
    struct chv_identity identity = {.curve = c->identity_curve};
    char fingerprint[CHV_FINGERPRINT_MAX];
    json_t *o = json_object(), *scopes = json_array(), *held = json_array();
    (void)json_object_set_new(o, "client", json_string(c->id));
    (void)json_object_set_new(o, "status", json_string(chv_client_status_name(c->status)));
    if (c->status == CHV_CLIENT_MALFORMED) {
        (void)json_object_set_new(o, "reason", json_string(c->reason));
        json_decref(scopes);
        json_decref(held);
        return o;
    }
    if (c->profile != 0)
        (void)json_object_set_new(o, "profile", json_string(chv_profile_name(c->profile)));
    for (size_t i = 0; i < c->scope_count; i++)
        (void)json_array_append_new(scopes, json_string(c->scopes[i]));
    (void)json_object_set_new(o, "scopes", scopes);
    for (size_t i = 0; i < c->scope_count; i++)
        if (c->held[i])
            (void)json_array_append_new(held, json_string(c->scopes[i]));
    if (json_array_size(held) > 0)
        (void)json_object_set(o, "held_back", held);
    json_decref(held);
    put_time(o, "expires", c->not_after, "never");
    if (c->latest.serial != 0) {
        (void)json_object_set_new(o, "epoch", json_integer(c->latest.epoch));
        (void)json_object_set_new(o, "serial", json_integer(c->latest.serial));
    }
    put_issue(o, "minimum", c->minimum);
    put_issue(o, "confirmed", c->confirmed);
    put_time(o, "created", c->created, NULL);
    put_time(o, "last_seen", c->last_seen, "never");
    if (c->reason[0] != '\0')
        (void)json_object_set_new(o, "reason", json_string(c->reason));
    if (client_is_pending(c))
        (void)json_object_set_new(o, "pending", json_true());
    if (keyadmin_client_stranded(epochs, c))
        (void)json_object_set_new(o, "stranded", json_true());
    if ((c->flags & CHV_CLIENT_NO_UPDATE) != 0)
        (void)json_object_set_new(o, "no_update", json_true());
    if ((c->flags & CHV_CLIENT_NARROWED) != 0)
        (void)json_object_set_new(o, "narrowed", json_true());
    if (c->has_identity) {
        memcpy(identity.public_key, c->identity, sizeof identity.public_key);
        if (chv_identity_fingerprint(&identity, fingerprint, NULL) == CHV_OK)
            (void)json_object_set_new(o, "identity", json_string(fingerprint));
    }
    return o;
}

/* --- list ----------------------------------------------------------------------------------------------------------
 */

struct client_list {
    const char *scope; /* NULL: any */
    struct keyadmin_epochs epochs;
    bool stranded; /* only who is */
    bool json, colour;
    int width; /* of the widest id */
    size_t count;
};

static bool list_wants(const struct client_list *list, const struct chv_registry_client *c)
{
    if (list->stranded && !keyadmin_client_stranded(&list->epochs, c))
        return false;
    return list->scope == NULL || chv_registry_client_has_scope(c, list->scope, NULL);
}

static const char *list_status(const struct client_list *list, const struct chv_registry_client *c)
{
    if (c->status != CHV_CLIENT_ACTIVE)
        return chv_client_status_name(c->status);
    return keyadmin_client_stranded(&list->epochs, c) ? "stranded"
           : client_is_pending(c)                     ? "pending"
                                                      : chv_client_status_name(c->status);
}

static enum chv_err list_measure(void *arg, const struct chv_registry_client *c)
{
    struct client_list *list = arg;
    const int len = (int)strlen(c->id);
    if (list_wants(list, c) && len > list->width)
        list->width = len;
    return CHV_OK;
}

static const char *list_colour(const struct client_list *list, const struct chv_registry_client *c)
{
    switch (c->status) {
    case CHV_CLIENT_ACTIVE:
        if (keyadmin_client_stranded(&list->epochs, c))
            return "\033[31m";
        return client_is_pending(c) ? "\033[33m" : "\033[32m";
    case CHV_CLIENT_SUSPENDED:
        return "\033[33m";
    case CHV_CLIENT_REVOKED:
    case CHV_CLIENT_MALFORMED:
        return "\033[31m";
    case CHV_CLIENT_REMOVED:
        return "\033[2m";
    }
    return "";
}

static void list_cell(const char *text, int width)
{
    printf("%-*s  ", width, text);
}

static void list_date(uint64_t time)
{
    char text[CHV_TIME_TEXT];
    chv_time_format(time, text);
    text[strcspn(text, "T")] = '\0';
    list_cell(text, 10);
}

static enum chv_err list_print(void *arg, const struct chv_registry_client *c)
{
    struct client_list *list = arg;
    char issue[LIST_ISSUE_SIZE] = "-";
    if (!list_wants(list, c))
        return CHV_OK;
    if (list->json) {
        json_t *o = keyadmin_client_json(c, &list->epochs);
        printf("%s", list->count == 0 ? "" : ",");
        (void)json_dumpf(o, stdout, JSON_COMPACT);
        json_decref(o);
    } else {
        list_cell(c->id, list->width);
        printf("%s", list->colour ? list_colour(list, c) : "");
        list_cell(list_status(list, c), 9);
        printf("%s", list->colour ? "\033[0m" : "");
        if (c->latest.serial != 0)
            (void)snprintf(issue, sizeof issue, "%lu.%lu", (unsigned long)c->latest.epoch,
                           (unsigned long)c->latest.serial);
        list_cell(issue, 7);
        list_date(c->not_after);
        list_date(c->last_seen);
        for (size_t i = 0; i < c->scope_count; i++)
            printf("%s%s", i == 0 ? "" : " ", c->scopes[i]);
        if (c->reason[0] != '\0') {
            printf("%s(", c->scope_count > 0 ? " " : "");
            chv_cli_put_escaped(stdout, c->reason, strlen(c->reason), false);
            printf(")");
        }
        printf("\n");
    }
    list->count++;
    return ferror(stdout) ? CHV_ERR_IO : CHV_OK;
}

static enum chv_err list_filter(const struct chv_cli_args *args, struct chv_registry_filter *filter,
                                struct chv_why *why)
{
    const char *status = chv_cli_value(args, "status"), *expiring = chv_cli_value(args, "expiring");
    const uint64_t now = chv_time_now();
    enum chv_client_status found;
    uint64_t epoch = 0, before = 0;
    enum chv_err err = chv_cli_number(args, "epoch", 1, UINT32_MAX, 0, &epoch, why);
    if (err == CHV_OK && status != NULL && strcmp(status, "all") == 0)
        filter->statuses = CHV_CLIENT_STATUS_BIT(CHV_CLIENT_ACTIVE) | CHV_CLIENT_STATUS_BIT(CHV_CLIENT_SUSPENDED) |
                           CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REVOKED) | CHV_CLIENT_STATUS_BIT(CHV_CLIENT_REMOVED);
    else if (err == CHV_OK && status != NULL && chv_client_status_parse(status, &found) != CHV_OK)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "--status '%.40s': there are active, suspended, revoked, removed and all", status);
    else if (err == CHV_OK && status != NULL)
        filter->statuses = CHV_CLIENT_STATUS_BIT(found);
    if (err == CHV_OK && expiring != NULL)
        err = chv_time_expiry(expiring, now, &before, why);
    if (err == CHV_OK && expiring != NULL && before == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--expiring wants a time, as in 30d or 2027-01-31");
    filter->epoch = (uint32_t)epoch;
    filter->expires_before = before != 0 ? before + 1 : 0;
    return err;
}

int keyadmin_client_list(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_registry reg = {.r = NULL};
    struct chv_registry_filter filter = {.after = NULL};
    struct client_list list = {.scope = chv_cli_value(args, "scope"),
                               .stranded = chv_cli_given(args, "stranded"),
                               .json = chv_cli_given(args, "json"),
                               .colour = chv_cli_colour(stdout),
                               .width = LIST_ID_LEAST};
    enum chv_err err = list_filter(args, &filter, &why);
    if (err == CHV_OK)
        err = keyadmin_registry_find(args, CHV_REGISTRY_READ, &reg, &why);
    if (err == CHV_OK)
        err = keyadmin_epochs_load(&list.epochs, reg.config, &reg, &why);
    if (err == CHV_OK && reg.r != NULL && !list.json)
        err = chv_registry_list(reg.r, &filter, list_measure, &list, &why);
    if (err == CHV_OK || err == CHV_ERR_MALFORMED) { /* one bad row does not hide the others */
        if (list.json)
            printf("{\"clients\":[");
        else
            printf("%s%-*s  %-9s  %-7s  %-10s  %-10s  %s%s\n", list.colour ? "\033[1m" : "", list.width, "CLIENT",
                   "STATUS", "KEY", "EXPIRES", "SEEN", "SCOPES", list.colour ? "\033[0m" : "");
        err = reg.r != NULL ? chv_registry_list(reg.r, &filter, list_print, &list, &why) : CHV_OK;
        if (list.json)
            printf("]}\n");
    }
    keyadmin_registry_close(&reg);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- show ----------------------------------------------------------------------------------------------------------
 */

bool keyadmin_client_registered(const struct chv_cli_args *args)
{
    static const char *const schemes[] = {"file:", "pkcs11:", "pem:"};
    const char *what = args->operands[0];
    if (!chv_client_id_valid(what))
        return false;
    if (chv_cli_given(args, "registry"))
        return true;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncasecmp(what, schemes[i], strlen(schemes[i])) == 0)
            return false;
    return access(what, F_OK) != 0;
}

int keyadmin_client_show_registered(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_registry reg = {.r = NULL};
    struct chv_registry_client client = {0};
    struct keyadmin_epochs epochs;
    const char *id = args->operands[0];
    enum chv_err err = keyadmin_registry_find(args, CHV_REGISTRY_READ, &reg, &why);
    if (err != CHV_OK) {
        keyadmin_registry_close(&reg);
        if (err == CHV_ERR_NOT_FOUND && !chv_cli_given(args, "registry") && !chv_cli_given(args, "config"))
            return chv_cli_error(err, &why, "%s: is no keystore here, and there is no registry to look for a client",
                                 id);
        return chv_cli_why(err, &why);
    }
    err = reg.r != NULL ? chv_registry_get(reg.r, id, &client, &why) : CHV_ERR_NOT_FOUND;
    if (err == CHV_ERR_NOT_FOUND && keyadmin_registry_revoked(reg.uri) != NULL)
        err = chv_fail(&why, err, "%s: is no keystore here; there is no registry, and no line about a client in %s", id,
                       keyadmin_registry_revoked(reg.uri));
    else if (err == CHV_ERR_NOT_FOUND)
        err = chv_fail(&why, err, "%s: is no keystore here, and no client in %s", id,
                       reg.r != NULL ? chv_registry_name(reg.r) : "a registry");
    if (err == CHV_OK)
        err = keyadmin_epochs_load(&epochs, reg.config, &reg, &why);
    if (err == CHV_OK)
        chv_cli_print(keyadmin_client_json(&client, &epochs), chv_cli_given(args, "json"));
    keyadmin_registry_close(&reg);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
