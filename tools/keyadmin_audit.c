/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin audit list, verify, seal. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

#include "base/encode.h"
#include "tools/times.h"

struct audit_list {
    const char *id; /* NULL: of all */
    bool json;
    size_t count;
};

static enum chv_err audit_print(void *arg, const struct chv_audit_row *row)
{
    struct audit_list *list = arg;
    char time[CHV_TIME_TEXT], hash[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)];
    if (list->id != NULL && strcmp(list->id, row->id) != 0)
        return CHV_OK;
    chv_time_format(row->time, time);
    if (list->json) {
        json_t *o = json_object(), *details = json_loads(row->details, JSON_REJECT_DUPLICATES, NULL);
        chv_hex_encode(row->hash, sizeof row->hash, hash);
        (void)json_object_set_new(o, "n", json_integer((json_int_t)row->n));
        (void)json_object_set_new(o, "time", json_string(time));
        (void)json_object_set_new(o, "actor", json_string(row->actor));
        (void)json_object_set_new(o, "action", json_string(row->action));
        if (row->id[0] != '\0')
            (void)json_object_set_new(o, "client", json_string(row->id));
        if (details != NULL)
            (void)json_object_set_new(o, "details", details);
        else if (row->details[0] != '\0') /* what somebody wrote there instead */
            (void)json_object_set_new(o, "details", json_stringn_nocheck("", 0));
        (void)json_object_set_new(o, "hash", json_string(hash));
        printf("%s", list->count == 0 ? "" : ",");
        (void)json_dumpf(o, stdout, JSON_COMPACT);
        json_decref(o);
    } else {
        printf("%6" PRIu64 "  %s  ", row->n, time);
        chv_cli_put_escaped(stdout, row->actor, strlen(row->actor), false);
        printf("%*s  ", (int)(strlen(row->actor) < 16 ? 16 - strlen(row->actor) : 0), "");
        chv_cli_put_escaped(stdout, row->action, strlen(row->action), false);
        printf("%*s  ", (int)(strlen(row->action) < 10 ? 10 - strlen(row->action) : 0), "");
        chv_cli_put_escaped(stdout, row->id[0] != '\0' ? row->id : "-", row->id[0] != '\0' ? strlen(row->id) : 1,
                            false);
        printf("%s", row->details[0] != '\0' ? "  " : "");
        chv_cli_put_escaped(stdout, row->details, strlen(row->details), false);
        printf("\n");
    }
    list->count++;
    return ferror(stdout) ? CHV_ERR_IO : CHV_OK;
}

static enum chv_err audit_needs(const struct keyadmin_registry *reg, struct chv_why *why)
{
    if (reg->r != NULL && (chv_registry_traits(reg->r) & CHV_REGISTRY_WRITABLE) != 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_UNSUPPORTED,
                    "there is no registry, and so no audit trail: see 'registry' in "
                    "chaveirod.conf(5), or give --registry");
}

int keyadmin_audit_list(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_registry reg = {.r = NULL};
    struct audit_list list = {.id = chv_cli_value(args, "id"), .json = chv_cli_given(args, "json")};
    enum chv_err err = keyadmin_registry_find(args, CHV_REGISTRY_READ, &reg, &why);
    if (err == CHV_OK)
        err = audit_needs(&reg, &why);
    if (err == CHV_OK) {
        printf("%s", list.json ? "{\"rows\":[" : "");
        err = chv_registry_audit_list(reg.r, 1, audit_print, &list, &why);
        printf("%s", list.json ? "]}\n" : "");
    }
    keyadmin_registry_close(&reg);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

static enum chv_err audit_open(const struct chv_cli_args *args, enum chv_registry_mode mode,
                               struct keyadmin_server *server, struct keyadmin_registry *reg, struct chv_why *why)
{
    enum chv_err err = keyadmin_server_open(args, server, why);
    if (err == CHV_OK)
        err = keyadmin_registry_open(args, server->config, mode, reg, why);
    return err == CHV_OK ? audit_needs(reg, why) : err;
}

static enum chv_err audit_report(const struct chv_audit_report *report, const struct chv_audit_seal *seal, bool json)
{
    char time[CHV_TIME_TEXT];
    json_t *o = json_object();
    if (o == NULL)
        return CHV_ERR_MEMORY;
    chv_time_format(seal->time, time);
    (void)json_object_set_new(o, "rows", json_integer((json_int_t)report->rows));
    (void)json_object_set_new(o, "sealed", json_integer((json_int_t)report->sealed));
    (void)json_object_set_new(o, "not_sealed_yet", json_integer((json_int_t)(report->rows - report->sealed)));
    if (seal->n != 0) {
        (void)json_object_set_new(o, "sealed_at", json_string(time));
        (void)json_object_set_new(o, "epoch", json_integer(seal->epoch));
    }
    chv_cli_print(o, json);
    return CHV_OK;
}

int keyadmin_audit_verify(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct keyadmin_registry reg = {.r = NULL};
    struct chv_audit_report report = {0};
    struct chv_audit_seal seal = {0};
    enum chv_err err = audit_open(args, CHV_REGISTRY_READ, &server, &reg, &why);
    if (err == CHV_OK)
        err = chv_registry_verify(reg.r, keyadmin_audit_mac, server.keystore, &report, &why);
    if (err == CHV_OK)
        err = keyadmin_seal_believed(&reg, &server, &why);
    if (err == CHV_OK)
        err = chv_registry_seal_get(reg.r, &seal, &why);
    if (err == CHV_OK)
        err = audit_report(&report, &seal, chv_cli_given(args, "json"));
    keyadmin_registry_close(&reg);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

static enum chv_err audit_tell_anew(struct keyadmin_registry *reg, struct chv_why *why)
{
    struct chv_audit_seal before = {0};
    enum chv_err err = chv_registry_begin(reg->r, why);
    if (err == CHV_OK)
        err = chv_registry_seal_get(reg->r, &before, why);
    if (err == CHV_OK)
        err = keyadmin_audit(reg, "seal-anew", "",
                             json_pack("{s:I,s:I}", "sealed", (json_int_t)before.n, "epoch", (json_int_t)before.epoch),
                             why);
    if (err == CHV_OK)
        return chv_registry_commit(reg->r, why);
    chv_registry_rollback(reg->r);
    return err;
}

/* --anew: a person vouches for what stands there, and the trail tells that; the chain has to be whole nevertheless. */
static enum chv_err audit_seal_anew(struct keyadmin_registry *reg, const struct keyadmin_server *server,
                                    struct chv_audit_seal *seal, struct chv_why *why)
{
    const struct chv_audit_seal unknown = {.n = 0};
    struct chv_audit_seal stands = {0}, next = {0};
    struct chv_audit_report report;
    uint8_t message[CHV_AUDIT_SEAL_MESSAGE_LEN];
    enum chv_err err = chv_registry_verify(reg->r, NULL, NULL, &report, why);
    if (err == CHV_OK)
        err = audit_tell_anew(reg, why);
    if (err == CHV_OK)
        err = chv_registry_seal_begin(reg->r, server->latest, chv_time_now(), &unknown, &stands, &next, why);
    if (err != CHV_OK)
        return err;
    chv_audit_seal_message(&next, message);
    err = keyadmin_audit_mac(server->keystore, next.epoch, message, sizeof message, next.mac, why);
    if (err == CHV_OK)
        err = chv_registry_seal_put(reg->r, &stands, &next, why);
    if (err == CHV_OK)
        *seal = next;
    return err;
}

static enum chv_err audit_seal_on(struct keyadmin_registry *reg, const struct keyadmin_server *server,
                                  struct chv_audit_seal *seal, struct chv_why *why)
{
    enum chv_err err = keyadmin_seal_believed(reg, server, why);
    if (err == CHV_OK)
        err =
            chv_registry_seal(reg->r, server->latest, chv_time_now(), keyadmin_audit_mac, server->keystore, seal, why);
    return err;
}

int keyadmin_audit_seal(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct keyadmin_registry reg = {.r = NULL};
    struct chv_audit_report report = {0};
    struct chv_audit_seal seal = {0};
    chv_cli_hold_signals();
    enum chv_err err = audit_open(args, CHV_REGISTRY_WRITE, &server, &reg, &why);
    if (err == CHV_OK)
        err = chv_cli_given(args, "anew") ? audit_seal_anew(&reg, &server, &seal, &why)
                                          : audit_seal_on(&reg, &server, &seal, &why);
    report.rows = report.sealed = seal.n;
    if (err == CHV_OK)
        err = audit_report(&report, &seal, chv_cli_given(args, "json"));
    keyadmin_registry_close(&reg);
    keyadmin_server_close(&server);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_cli_release_signals();
    return code;
}
