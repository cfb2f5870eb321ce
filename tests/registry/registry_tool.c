/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes and reads a registry for tests of the programs, with nothing in between:
 *
 *   registry_tool URI create
 *   registry_tool URI put ID [status=S] [profile=P] [minimum=E.S] [latest=E.S] [scopes=A,B] [flags=N] [not_after=N]
 *                        [reason=R] [identity=CURVE:HEX]     (what is not named stays, or is that of credential 1.1)
 *   registry_tool URI many PREFIX COUNT                      (as put of PREFIX0, PREFIX1... in one transaction)
 *   registry_tool URI epoch NUMBER STATUS
 *   registry_tool URI show ID | audit
 */
#include "base/encode.h"
#include "registry/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int fail(const struct chv_why *why, const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, why->text);
    return 1;
}

static bool issue(const char *text, struct chv_issue *out)
{
    char *end;
    out->epoch = (uint32_t)strtoul(text, &end, 10);
    if (*end != '.')
        return false;
    out->serial = (uint32_t)strtoul(end + 1, &end, 10);
    return *end == '\0';
}

static bool scopes(char *list, struct chv_registry_client *c)
{
    char *save = NULL;
    c->scope_count = 0;
    memset(c->scopes, 0, sizeof c->scopes);
    for (char *item = strtok_r(list, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save))
        if (chv_registry_client_add_scope(c, item) != CHV_OK)
            return false;
    return true;
}

static bool identity(const char *value, struct chv_registry_client *c)
{
    const char *hex = strchr(value, ':');
    size_t len = sizeof c->identity;
    c->has_identity = true;
    c->identity_curve = strncmp(value, "p256", 4) == 0 ? CHV_CURVE_P256 : CHV_CURVE_25519;
    return hex != NULL && chv_hex_decode(hex + 1, strlen(hex + 1), c->identity, &len) == CHV_OK;
}

static bool set_key(struct chv_registry_client *c, char *setting)
{
    char *value = strchr(setting, '=');
    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(setting, "status") == 0)
        return chv_client_status_parse(value, &c->status) == CHV_OK;
    if (strcmp(setting, "profile") == 0)
        return chv_profile_find(value, &c->profile) == CHV_OK;
    if (strcmp(setting, "minimum") == 0)
        return issue(value, &c->minimum);
    if (strcmp(setting, "latest") == 0)
        return issue(value, &c->latest);
    if (strcmp(setting, "scopes") == 0)
        return scopes(value, c);
    if (strcmp(setting, "identity") == 0)
        return identity(value, c);
    if (strcmp(setting, "flags") == 0)
        c->flags = (unsigned)strtoul(value, NULL, 10);
    else if (strcmp(setting, "not_after") == 0)
        c->not_after = strtoull(value, NULL, 10);
    else if (strcmp(setting, "reason") == 0)
        (void)snprintf(c->reason, sizeof c->reason, "%s", value);
    else
        return false;
    return true;
}

static bool set(struct chv_registry_client *c, const char *setting)
{
    char copy[4096];
    (void)snprintf(copy, sizeof copy, "%s", setting);
    return set_key(c, copy);
}

static enum chv_err put_one(struct chv_registry *r, const char *id, int settings, char **setting, struct chv_why *why)
{
    struct chv_registry_client c;
    enum chv_err err = chv_registry_get(r, id, &c, why);
    if (err == CHV_ERR_NOT_FOUND) {
        c = (struct chv_registry_client){.status = CHV_CLIENT_ACTIVE,
                                         .profile = CHV_PROFILE_PSK,
                                         .minimum = {1, 1},
                                         .latest = {1, 1},
                                         .created = (uint64_t)time(NULL),
                                         .scope_count = 1,
                                         .scopes = {"message"}};
        (void)snprintf(c.id, sizeof c.id, "%s", id);
        err = CHV_OK;
    }
    for (int i = 0; i < settings && err == CHV_OK; i++)
        if (!set(&c, setting[i]))
            err = chv_fail(why, CHV_ERR_ARGUMENT, "%s", setting[i]);
    return err == CHV_OK ? chv_registry_put(r, &c, why) : err;
}

static enum chv_err commit(struct chv_registry *r, const char *action, const char *id, struct chv_why *why)
{
    struct chv_audit_row row = {.time = (uint64_t)time(NULL), .actor = "test"};
    (void)snprintf(row.action, sizeof row.action, "%s", action);
    (void)snprintf(row.id, sizeof row.id, "%s", id);
    enum chv_err err = chv_registry_audit(r, &row, why);
    return err == CHV_OK ? chv_registry_commit(r, why) : err;
}

static enum chv_err change(struct chv_registry *r, int argc, char **argv, struct chv_why *why)
{
    enum chv_err err = chv_registry_begin(r, why);
    if (err == CHV_OK && strcmp(argv[0], "put") == 0) {
        err = put_one(r, argv[1], argc - 2, argv + 2, why);
    } else if (err == CHV_OK && strcmp(argv[0], "many") == 0) {
        for (unsigned long i = 0; i < strtoul(argv[2], NULL, 10) && err == CHV_OK; i++) {
            char id[CHV_CLIENT_ID_MAX + 1];
            (void)snprintf(id, sizeof id, "%s%lu", argv[1], i);
            err = put_one(r, id, argc - 3, argv + 3, why);
        }
    } else if (err == CHV_OK) {
        const struct chv_registry_epoch epoch = {.epoch = (uint32_t)strtoul(argv[1], NULL, 10),
                                                 .status = (enum chv_epoch_status)strtoul(argv[2], NULL, 10),
                                                 .created = 1};
        err = chv_registry_epoch_put(r, &epoch, why);
    }
    if (err == CHV_OK)
        err = commit(r, argv[0], strcmp(argv[0], "put") == 0 ? argv[1] : "", why);
    chv_registry_rollback(r);
    return err;
}

static enum chv_err print_row(void *arg, const struct chv_audit_row *row)
{
    (void)arg;
    (void)printf("%s %s %s %s\n", row->actor, row->action, row->id, row->details);
    return CHV_OK;
}

static enum chv_err show(struct chv_registry *r, const char *id, struct chv_why *why)
{
    struct chv_registry_client c;
    enum chv_err err = chv_registry_get(r, id, &c, why);
    if (err == CHV_OK)
        (void)printf("%s minimum=%u.%u confirmed=%u.%u last_seen=%" PRIu64 "\n", chv_client_status_name(c.status),
                     c.minimum.epoch, c.minimum.serial, c.confirmed.epoch, c.confirmed.serial, c.last_seen);
    return err;
}

int main(int argc, char **argv)
{
    struct chv_registry *r = NULL;
    struct chv_crypto crypto;
    struct chv_why why = {.text = ""};
    if (argc < 3 || chv_backend_open("openssl", &crypto, &why) != CHV_OK)
        return 64;
    const struct chv_registry_options options = {
        .mode = strcmp(argv[2], "create") == 0 ? CHV_REGISTRY_CREATE : CHV_REGISTRY_WRITE, .crypto = &crypto};
    enum chv_err err = chv_registry_open(argv[1], &options, &r, &why);
    if (err == CHV_OK && strcmp(argv[2], "show") == 0)
        err = show(r, argv[3], &why);
    else if (err == CHV_OK && strcmp(argv[2], "audit") == 0)
        err = chv_registry_audit_list(r, 1, print_row, NULL, &why);
    else if (err == CHV_OK && argc > 3)
        err = change(r, argc - 2, argv + 2, &why);
    chv_registry_close(r);
    chv_backend_close(&crypto);
    return err == CHV_OK ? 0 : fail(&why, argv[2]);
}
