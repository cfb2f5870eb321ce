/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin epoch: masters of new epochs, which of them are served, and the end of old ones. */
#include "tools/keyadmin_registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/memory.h"
#include "tools/backup.h"
#include "tools/server_config_edit.h"

enum { EPOCH_LIST_MAX = 16 * CHV_EPOCHS_MAX, EPOCH_CHECKS_MAX = 64 * CHV_EPOCHS_MAX };

/* --- what stands in the configuration --------------------------------------------------------------------------------
 */

static bool epoch_served(const struct chv_server_config *config, uint32_t epoch)
{
    for (size_t i = 0; i < config->epoch_count; i++)
        if (config->epochs[i] == epoch)
            return true;
    return false;
}

/* "1, 2" */
static void epoch_text(const uint32_t *epochs, size_t count, char out[EPOCH_LIST_MAX])
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && len < EPOCH_LIST_MAX; i++)
        len += (size_t)snprintf(out + len, EPOCH_LIST_MAX - len, "%s%" PRIu32, i > 0 ? ", " : "", epochs[i]);
}

/* "1:HEX, 2:HEX": those of the configuration, and one more (epoch 0: none). */
static void epoch_checks(const struct chv_server_config *config, uint32_t epoch, const uint8_t *check,
                         char out[EPOCH_CHECKS_MAX])
{
    char hex[CHV_HEX_SIZE(CHV_KEY_CHECK_LEN)];
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i <= config->check_count && len < EPOCH_CHECKS_MAX; i++) {
        const bool more = i == config->check_count;
        if (more ? epoch == 0 : config->checks[i].epoch == epoch)
            continue;
        chv_hex_encode(more ? check : config->checks[i].value, CHV_KEY_CHECK_LEN, hex);
        len += (size_t)snprintf(out + len, EPOCH_CHECKS_MAX - len, "%s%" PRIu32 ":%s", len > 0 ? ", " : "",
                                more ? epoch : config->checks[i].epoch, hex);
    }
}

/* What the configuration is to say. */
struct epoch_plan {
    uint32_t epochs[CHV_EPOCHS_MAX + 1];
    size_t count;
    char list[EPOCH_LIST_MAX], checks[EPOCH_CHECKS_MAX];
    bool no_update_to; /* it names an epoch that goes */
    struct chv_config_change changes[3];
    size_t change_count;
};

static void epoch_plan_end(struct epoch_plan *plan, const struct chv_server_config *config)
{
    epoch_text(plan->epochs, plan->count, plan->list);
    bool stays = config->update_to == 0;
    for (size_t i = 0; i < plan->count; i++)
        stays = stays || plan->epochs[i] == config->update_to;
    plan->change_count = 0;
    plan->changes[plan->change_count++] = (struct chv_config_change){"epochs", plan->list};
    if (plan->checks[0] != '\0')
        plan->changes[plan->change_count++] = (struct chv_config_change){"key-check", plan->checks};
    if (!stays)
        plan->changes[plan->change_count++] = (struct chv_config_change){"update-to", NULL};
}

/* The lines for one who has to write them by hand. */
static void epoch_tell_lines(const struct epoch_plan *plan, const char *file)
{
    (void)fprintf(stderr, "Put this under [server] of %s:\n", file != NULL ? file : "the server's configuration");
    for (size_t i = 0; i < plan->change_count; i++)
        (void)fprintf(stderr, "%s%s%s%s\n", plan->changes[i].value == NULL ? "# " : "", plan->changes[i].key,
                      plan->changes[i].value == NULL ? " is to go" : " = ",
                      plan->changes[i].value == NULL ? "" : plan->changes[i].value);
}

/* --- epoch new -------------------------------------------------------------------------------------------------------
 */

struct epoch_new {
    struct keyadmin_server server;
    struct epoch_plan plan;
    struct chv_backup *backup;
    char backup_file[64];
    uint32_t epoch;
    bool there; /* it was made before, and is not served yet */
    char label[CHV_LABEL_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
};

/* A master that is newer than all that are served was made by one who did not get to the end: it is taken up again. */
static enum chv_err epoch_choose(const struct chv_cli_args *args, struct epoch_new *e, struct chv_why *why)
{
    const struct chv_server_config *config = e->server.config;
    const bool compromised = chv_cli_given(args, "compromised");
    e->there = config != NULL && e->server.latest > config->epochs[config->epoch_count - 1];
    if (!e->there && e->server.latest == UINT32_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "there are no more epochs behind %" PRIu32, e->server.latest);
    e->epoch = e->there ? e->server.latest : e->server.latest + 1;
    (void)snprintf(e->label, sizeof e->label, "master:%" PRIu32, e->epoch);
    if (config != NULL && config->epoch_count == CHV_EPOCHS_MAX && !compromised)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "%d epochs are served already: 'keyadmin epoch retire %" PRIu32 "' comes first", CHV_EPOCHS_MAX,
                        config->epochs[0]);
    if (config != NULL && !compromised) {
        memcpy(e->plan.epochs, config->epochs, config->epoch_count * sizeof config->epochs[0]);
        e->plan.count = config->epoch_count;
    }
    e->plan.epochs[e->plan.count++] = e->epoch;
    return CHV_OK;
}

static enum chv_err epoch_plan_backup(const struct chv_cli_args *args, struct epoch_new *e, struct chv_why *why)
{
    const char *to = chv_cli_value(args, "backup-to"), *file = chv_cli_value(args, "backup-out");
    if (to == NULL && file != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--backup-out is for --backup-to CERT");
    if (to == NULL)
        return CHV_OK;
    if (e->there)
        return chv_fail(why, CHV_ERR_EXISTS,
                        "the master of epoch %" PRIu32 " is in the keystore already: it cannot be backed up any more",
                        e->epoch);
    (void)snprintf(e->backup_file, sizeof e->backup_file, "master-%" PRIu32 ".cms", e->epoch);
    return chv_backup_plan(to, file != NULL ? file : e->backup_file, &e->backup, why);
}

static enum chv_err epoch_make(struct epoch_new *e, struct chv_why *why)
{
    struct chv_keystore *ks = e->server.keystore;
    bool made = false;
    enum chv_err err = CHV_OK;
    if (e->there)
        return chv_provision_check_stored(ks, e->label, e->check, why);
    if (e->backup != NULL) {
        err = chv_backup_make(e->backup, e->server.name, NULL, e->epoch, why);
        if (err == CHV_OK)
            err = chv_backup_import(e->backup, ks, why);
    } else {
        err = chv_keystore_generate(ks, e->label, why);
    }
    made = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_provision_check_stored(ks, e->label, e->check, why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    if (err == CHV_OK)
        return CHV_OK;
    if (made && chv_keystore_remove(ks, e->label, NULL) != CHV_OK)
        (void)chv_cli_fail(EX_OK, "%s may be left in the keystore: the next 'keyadmin epoch new' takes it up",
                           e->label);
    if (e->backup != NULL)
        chv_backup_unmake(e->backup);
    return err;
}

/* Tokens' masters are known again by their check values; so are those of a file if it has begun with that. */
static void epoch_plan_new(struct epoch_new *e)
{
    static const struct chv_server_config unknown;
    const struct chv_server_config *config = e->server.config != NULL ? e->server.config : &unknown;
    if (chv_token_uri_is(e->server.uri) || config->check_count > 0)
        epoch_checks(config, e->epoch, e->check, e->plan.checks);
    epoch_plan_end(&e->plan, config);
}

/* Whether earlier masters were backed up: by the keystore, or by a backup that lies where init puts it. */
static bool epoch_backed_up(const struct epoch_new *e)
{
    char file[PATH_MAX];
    const char *slash = e->server.config_file != NULL ? strrchr(e->server.config_file, '/') : NULL;
    const int folder = slash != NULL ? (int)(slash - e->server.config_file) + 1 : 0;
    bool found = chv_backup_was_made(e->server.keystore);
    for (size_t i = 0; i < e->server.epoch_count && !found; i++)
        found = snprintf(file, sizeof file, "%.*smaster-%" PRIu32 ".cms", folder,
                         folder > 0 ? e->server.config_file : "", e->server.epochs[i]) < PATH_MAX &&
                access(file, F_OK) == 0;
    return found;
}

static void epoch_warn_backup(const struct epoch_new *e)
{
    if (e->backup == NULL && !e->there && epoch_backed_up(e))
        (void)chv_cli_fail(
            EX_OK,
            "warning: the master of epoch %" PRIu32
            " is in no backup, as earlier ones are: 'keyadmin epoch new --backup-to CERT' makes one that is",
            e->epoch);
}

static void epoch_print_new(const struct chv_cli_args *args, const struct epoch_new *e, bool written)
{
    const struct chv_server_config *config = e->server.config;
    json_t *o = json_object();
    if (o == NULL)
        return;
    (void)json_object_set_new(o, "server", json_string(e->server.name));
    (void)json_object_set_new(o, "epoch", json_integer(e->epoch));
    keyadmin_put_hex(o, "key_check", e->check, CHV_CHECK_MASTER_LEN);
    (void)json_object_set_new(o, "epochs", json_string(e->plan.list));
    if (written)
        (void)json_object_set_new(o, "configuration", json_string(e->server.config_file));
    if (e->backup != NULL)
        chv_backup_describe(e->backup, o);
    chv_cli_print(o, chv_cli_given(args, "json"));
    if (chv_cli_given(args, "json") || !written)
        return;
    if (chv_cli_given(args, "compromised"))
        printf(
            "\nFrom the server's next reload (SIGHUP) on no key of an older epoch is taken, and none is handed out in\n"
            "its place: every client is provisioned anew ('client reissue'; without a registry 'client add').\n");
    else if (!config->update)
        printf("\nThe server serves it from its next reload (SIGHUP) on.  update = no: clients keep the keys they "
               "have.\n");
    else if (config->update_to != 0)
        printf("\nThe server serves it from its next reload (SIGHUP) on; but update-to = %u: that is what clients are\n"
               "handed, until that line is changed.\n",
               config->update_to);
    else
        printf("\nThe server serves it from its next reload (SIGHUP) on: clients of older epochs are handed their new "
               "key\n"
               "when they come.  'keyadmin epoch retire' ends an old epoch once they all have it.\n");
}

/* The registry's list of epochs and its audit trail: the configuration is what counts. */
static void epoch_record_new(const struct chv_cli_args *args, struct epoch_new *e)
{
    const struct chv_server_config *config = e->server.config;
    struct keyadmin_epoch_record record = {.action = "epoch-new", .epoch = e->epoch, .check = e->check};
    if (chv_cli_given(args, "compromised")) {
        record.action = "epoch-compromised";
        record.ended = config->epochs;
        record.ended_count = config->epoch_count;
        record.status = CHV_EPOCH_COMPROMISED;
    }
    e->server.latest = e->epoch;
    keyadmin_epoch_record(args, &e->server, &record);
}

int keyadmin_epoch_new(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    bool written = false;
    int code = EX_OK;
    struct epoch_new *e = calloc(1, sizeof *e);
    if (e == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    chv_cli_hold_signals();
    enum chv_err err = keyadmin_server_open_for(args, CHV_KEYSTORE_WRITE, &e->server, &why);
    if (err == CHV_OK)
        err = epoch_choose(args, e, &why);
    if (err == CHV_OK)
        err = epoch_plan_backup(args, e, &why);
    if (err == CHV_OK)
        err = epoch_make(e, &why);
    if (err == CHV_OK) {
        epoch_plan_new(e);
        /* other servers with this registry, and a run after this one was cut off, are to know what leaked */
        const bool first = e->server.config != NULL && chv_cli_given(args, "compromised");
        if (first)
            epoch_record_new(args, e);
        enum chv_err edited = e->server.config != NULL ? chv_server_config_edit(e->server.config_file, e->plan.changes,
                                                                                e->plan.change_count, &why)
                                                       : CHV_OK;
        written = e->server.config != NULL && edited == CHV_OK;
        if (written && !first)
            epoch_record_new(args, e);
        epoch_warn_backup(e);
        epoch_print_new(args, e, written);
        if (edited != CHV_OK)
            code = chv_cli_error(edited, &why, "epoch %" PRIu32 " is made, but not in the configuration", e->epoch);
        if (!written)
            epoch_tell_lines(&e->plan, e->server.config_file);
    }
    if (err != CHV_OK)
        code = chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_backup_free(e->backup);
    keyadmin_server_close(&e->server);
    chv_wipe(e, sizeof *e);
    free(e);
    chv_cli_release_signals();
    return code;
}

/* --- epoch retire ----------------------------------------------------------------------------------------------------
 */

/* Who would be cut off. */
static enum chv_err epoch_check_clients(const struct chv_cli_args *args, const struct chv_server_config *config,
                                        uint32_t epoch, struct chv_why *why)
{
    uint64_t clients = 0;
    struct chv_why text = {""};
    if (chv_cli_given(args, "force"))
        return CHV_OK;
    enum chv_err err = keyadmin_epoch_clients(args, config, epoch, &clients, &text);
    if (err == CHV_OK && clients > 0)
        return chv_fail(why, CHV_ERR_STATE,
                        "%" PRIu64 " clients have no newer key than that of epoch %" PRIu32
                        " and would be cut off: wait "
                        "until they came, issue their keys again, or give --force",
                        clients, epoch);
    if (err == CHV_OK)
        return CHV_OK;
    return chv_fail(why, err, "%s: clients that still use epoch %" PRIu32 " would be cut off: --force if none does",
                    text.text[0] != '\0' ? text.text : chv_err_text(err), epoch);
}

/* A person types the number: nothing brings a master back. */
static enum chv_err epoch_confirm(const struct chv_cli_args *args, uint32_t epoch, struct chv_why *why)
{
    char line[32] = "", wanted[32];
    if (chv_cli_given(args, "yes"))
        return CHV_OK;
    FILE *tty = fopen("/dev/tty", "r+e");
    if (tty == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--destroy has to be confirmed, and there is no terminal: give --yes");
    (void)snprintf(wanted, sizeof wanted, "%" PRIu32 "\n", epoch);
    (void)fprintf(tty, "The master of epoch %" PRIu32 " goes for good.  Type %" PRIu32 " to destroy it: ", epoch,
                  epoch);
    (void)fflush(tty);
    bool same = fgets(line, sizeof line, tty) != NULL && strcmp(line, wanted) == 0;
    (void)fclose(tty);
    return same ? CHV_OK : chv_fail(why, CHV_ERR_CANCELLED, "not confirmed: nothing was changed");
}

static enum chv_err epoch_number(const char *text, uint32_t *epoch, struct chv_why *why)
{
    char *end = NULL;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '1' || text[0] > '9' || *end != '\0' || v > UINT32_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.40s' is no epoch: a number from 1", text);
    *epoch = (uint32_t)v;
    return CHV_OK;
}

static enum chv_err epoch_plan_retire(const struct chv_server_config *config, uint32_t epoch, struct epoch_plan *plan,
                                      struct chv_why *why)
{
    for (size_t i = 0; i < config->epoch_count; i++)
        if (config->epochs[i] != epoch)
            plan->epochs[plan->count++] = config->epochs[i];
    if (plan->count == 0 || epoch == config->epochs[config->epoch_count - 1])
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "epoch %" PRIu32 " is the newest: 'keyadmin epoch new' makes another one first", epoch);
    epoch_plan_end(plan, config);
    return CHV_OK;
}

/* `again`: it was retired before; the run that was to destroy it may have been cut off behind that. */
static enum chv_err epoch_destroy(const struct chv_cli_args *args, uint32_t epoch, bool again, struct chv_why *why)
{
    struct keyadmin_server server = {0};
    char label[CHV_LABEL_MAX + 1];
    (void)snprintf(label, sizeof label, "master:%" PRIu32, epoch);
    enum chv_err err = keyadmin_server_open_for(args, CHV_KEYSTORE_WRITE, &server, why);
    if (err == CHV_OK)
        err = chv_keystore_remove(server.keystore, label, why);
    if (err == CHV_ERR_NOT_FOUND && again && server.keystore != NULL)
        err = CHV_OK;
    else if (err == CHV_OK)
        err = chv_keystore_commit(server.keystore, why);
    keyadmin_server_close(&server);
    return err;
}

static void epoch_print_retired(const struct chv_cli_args *args, const struct keyadmin_server *server, uint32_t epoch,
                                const struct epoch_plan *plan)
{
    json_t *o = json_object();
    if (o == NULL)
        return;
    (void)json_object_set_new(o, "retired", json_integer(epoch));
    (void)json_object_set_new(o, "destroyed", json_boolean(chv_cli_given(args, "destroy")));
    (void)json_object_set_new(o, "epochs", json_string(plan->list));
    (void)json_object_set_new(o, "configuration", json_string(server->config_file));
    chv_cli_print(o, chv_cli_given(args, "json"));
    if (!chv_cli_given(args, "json"))
        printf("\nThe server refuses it from its next reload (SIGHUP) on.\n");
}

int keyadmin_epoch_retire(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {0};
    struct epoch_plan plan = {.count = 0};
    uint32_t epoch = 0;
    bool served = false;
    chv_cli_hold_signals();
    enum chv_err err = epoch_number(args->operands[0], &epoch, &why);
    if (err == CHV_OK && chv_cli_given(args, "yes") && !chv_cli_given(args, "destroy"))
        err = chv_fail(&why, CHV_ERR_ARGUMENT, "--yes is for --destroy");
    if (err == CHV_OK)
        err = keyadmin_server_find(args, &server, &why);
    if (err == CHV_OK) {
        served = epoch_served(server.config, epoch);
        if (!served && !chv_cli_given(args, "destroy"))
            err = chv_fail(&why, CHV_ERR_NOT_FOUND, "epoch %" PRIu32 " is not in epochs of %s", epoch,
                           server.config_file);
    }
    if (err == CHV_OK)
        err = epoch_plan_retire(server.config, epoch, &plan, &why);
    if (err == CHV_OK && served)
        err = epoch_check_clients(args, server.config, epoch, &why);
    if (err == CHV_OK && chv_cli_given(args, "destroy"))
        err = epoch_confirm(args, epoch, &why);
    if (err == CHV_OK && served) {
        err = chv_server_config_edit(server.config_file, plan.changes, plan.change_count, &why);
        if (err != CHV_OK)
            epoch_tell_lines(&plan, server.config_file);
    }
    if (err == CHV_OK &&
        chv_cli_given(args, "destroy")) /* behind the line: a server started now does not look for it */
        err =
            epoch_destroy(args, epoch, !served && epoch < server.config->epochs[server.config->epoch_count - 1], &why);
    if (err == CHV_OK) {
        const struct keyadmin_epoch_record record = {
            .action = "epoch-retire", .ended = &epoch, .ended_count = 1, .status = CHV_EPOCH_RETIRED};
        keyadmin_epoch_record(args, &server, &record);
        epoch_print_retired(args, &server, epoch, &plan);
    }
    keyadmin_server_close(&server);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why); /* before a signal that came ends the program */
    chv_cli_release_signals();
    return code;
}
