/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration while the server runs: SIGHUP, and what of it the keeper takes. */
#include "config.h"

#include "net/allowlist.h"
#include "net/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void take_epochs(struct chv_server_config *config, const struct chv_server_config *from)
{
    config->max_lifetime = from->max_lifetime;
    config->update = from->update;
    config->update_to = from->update_to;
    config->epoch_count = from->epoch_count;
    memcpy(config->epochs, from->epochs, sizeof config->epochs);
    config->check_count = from->check_count;
    memcpy(config->checks, from->checks, sizeof config->checks);
}

static void send_config(const struct child *child, const struct chv_server_config *config, unsigned generation)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_CONFIG, .generation = generation, .config = *config};
    if (child->control >= 0 && chv_ipc_send(child->control, &message, NULL, 0) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the %s process does not take the configuration: SIGHUP again, or restart", child->name);
}

/*
 * A keystore file is as it was when the keeper opened it: a new one sees the master that was made since. The one that goes
 * gives way to one with the epochs that it served, which is then asked again: a master that is in no keystore costs
 * nobody anything.
 */
static void renew_keeper(struct supervisor *s)
{
    struct child *keeper = &s->children[CHILD_KEEPER];
    chv_log(CHV_LOG_INFO,
            "the keeper does not have the master of an epoch that the configuration names: another one looks "
            "whether the keystore has it by now");
    s->renewing = RENEW_ENDS;
    close(keeper->control);
    keeper->control = -1;
}

/* To the keeper; it says what it takes of them. */
static void ask_epochs(struct supervisor *s, bool last)
{
    struct chv_server_config asked = s->config; /* its epochs are in effect once the keeper says so */
    take_epochs(&asked, &s->wanted);
    s->renewing = RENEW_NOT;
    send_config(&s->children[CHILD_KEEPER], &asked, last);
    chv_child_ping(&s->children[CHILD_KEEPER]); /* it computes key checks: that may hang too */
}

void chv_supervisor_keeper_ready(struct supervisor *s)
{
    if (s->renewing == RENEW_STARTS)
        ask_epochs(s, true);
}

static bool same_identity(const struct chv_server_identity *a, const struct chv_server_identity *b)
{
    return a->there == b->there && a->curve == b->curve &&
           memcmp(a->public_key, b->public_key, sizeof a->public_key) == 0;
}

void chv_supervisor_serves(struct supervisor *s, const struct chv_server_config *config, bool lacks)
{
    uint64_t before = s->config.max_lifetime;
    uint32_t successor = chv_server_successor(&s->config);
    bool other_key = !same_identity(&s->config.identity, &config->identity);
    bool other_epochs = s->config.epoch_count != config->epoch_count ||
                        memcmp(s->config.epochs, config->epochs, sizeof config->epochs) != 0;
    take_epochs(&s->config, config);
    s->config.identity = config->identity;
    if (s->config.max_lifetime != before || other_key || other_epochs || chv_server_successor(&s->config) != successor)
        send_config(&s->children[CHILD_NET], &s->config, 0);
    if (other_epochs)
        send_config(&s->children[CHILD_REGISTRAR], &s->config, 0);
    if (lacks)
        renew_keeper(s);
}

enum chv_err chv_supervisor_load_allowed(struct supervisor *s, const struct chv_server_config *config,
                                         struct chv_why *why)
{
    struct chv_allowlist *list = NULL;
    int fd = -1;
    if (config->allowed_keys[0] != '\0') {
        enum chv_err err = chv_allowlist_load(config->allowed_keys, &list, &fd, why);
        if (err != CHV_OK)
            return err;
        chv_log(CHV_LOG_INFO, "%s: %zu keys", config->allowed_keys, chv_allowlist_count(list));
        chv_allowlist_unref(list);
    }
    if (s->allowed_keys >= 0)
        close(s->allowed_keys);
    s->allowed_keys = fd;
    if (config != &s->config)
        memcpy(s->config.allowed_keys, config->allowed_keys, sizeof s->config.allowed_keys);
    return CHV_OK;
}

void chv_supervisor_send_allowed(const struct supervisor *s)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_ALLOWED};
    const struct child *net = &s->children[CHILD_NET];
    if (net->control >= 0 &&
        chv_ipc_send(net->control, &message, &s->allowed_keys, s->allowed_keys >= 0 ? 1 : 0) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the net process does not take the allow-list: SIGHUP again, or restart");
}

/* Keys whose change needs a restart; "" if none changed. */
static void restart_keys(const struct chv_server_config *a, const struct chv_server_config *b, char *out, size_t size)
{
    const struct {
        const char *key;
        bool changed;
    } keys[] = {
        {"name", strcmp(a->name, b->name) != 0},
        {"keystore", strcmp(a->keystore, b->keystore) != 0},
        {"passphrase-file", strcmp(a->passphrase_file, b->passphrase_file) != 0},
        {"pin-hold", a->pin_hold != b->pin_hold},
        {"listen", a->listen_count != b->listen_count || memcmp(a->listen, b->listen, sizeof a->listen) != 0},
        {"handshake",
         a->handshake_count != b->handshake_count || memcmp(a->handshake, b->handshake, sizeof a->handshake) != 0},
        {"data", a->data_count != b->data_count || memcmp(a->data, b->data, sizeof a->data) != 0},
        /* The keeper has keys for data tickets if they were wanted at its start. */
        {"redirect", chv_server_has_two_ports(a) != chv_server_has_two_ports(b)},
        {"session-limit", a->session_limit != b->session_limit},
        {"backend", strcmp(a->backend, b->backend) != 0},
        {"module", strcmp(a->module, b->module) != 0},
        {"suites", a->suites != b->suites},
        {"profiles", a->profiles != b->profiles},
        {"workers", a->workers != b->workers},
        {"user", strcmp(a->user, b->user) != 0},
        {"state", strcmp(a->state, b->state) != 0},
        {"registry", strcmp(a->registry, b->registry) != 0},
        {"registry-required", a->registry_required != b->registry_required},
        {"backlog", a->backlog != b->backlog},
        {"memory", a->limits.memory != b->limits.memory},
        {"keeper-queue", a->limits.keeper_queue != b->limits.keeper_queue},
        {"[files]", strcmp(a->files.home, b->files.home) != 0 || a->files.max_size != b->files.max_size ||
                        a->files.quota != b->files.quota || a->files.part_keep != b->files.part_keep ||
                        a->files.durability != b->files.durability || a->files.share_count != b->files.share_count ||
                        memcmp(a->files.shares, b->files.shares, sizeof a->files.shares) != 0 ||
                        a->files.receipts != b->files.receipts ||
                        strcmp(a->files.receipt_key, b->files.receipt_key) != 0},
        {"[push]", strcmp(a->push.outbox, b->push.outbox) != 0},
        {"audience", strcmp(a->ticket_audience, b->ticket_audience) != 0},
        {"target", a->log_target != b->log_target},
    };
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].changed && len < size)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", keys[i].key);
}

void chv_supervisor_say_redirects(const struct chv_server_config *config)
{
    for (size_t i = 0; i < config->redirect_count; i++) {
        const struct chv_server_redirect *r = &config->redirect[i];
        const char *open = strchr(r->host, ':') != NULL ? "[" : "", *close = *open != '\0' ? "]" : "";
        if (r->host[0] == '\0')
            chv_log(CHV_LOG_INFO, "sending clients on to port %u of where they are", r->port);
        else
            chv_log(CHV_LOG_INFO, "sending clients on to %s%s%s:%u", open, r->host, close, r->port);
    }
}

static bool same_redirects(const struct chv_server_config *a, const struct chv_server_config *b)
{
    bool same = a->redirect_count == b->redirect_count;
    for (size_t i = 0; i < a->redirect_count && same; i++)
        same = a->redirect[i].port == b->redirect[i].port && strcmp(a->redirect[i].host, b->redirect[i].host) == 0;
    return same;
}

/* What may change while running, and needs no answer of the keeper. */
static void take_over(struct chv_server_config *config, const struct chv_server_config *new_config)
{
    size_t memory = config->limits.memory;
    unsigned keeper_queue = config->limits.keeper_queue;
    config->limits = new_config->limits;
    config->limits.memory = memory;
    config->limits.keeper_queue = keeper_queue;
    config->log_level = new_config->log_level;
    config->on_duplicate = new_config->on_duplicate;
    if (chv_server_has_two_ports(config) == chv_server_has_two_ports(new_config)) {
        config->redirect_count = new_config->redirect_count;
        memcpy(config->redirect, new_config->redirect, sizeof config->redirect);
    }
    config->tunnel_count = new_config->tunnel_count;
    memcpy(config->tunnels, new_config->tunnels, sizeof config->tunnels);
    config->tickets = new_config->tickets;
}

void chv_supervisor_reload(struct supervisor *s)
{
    struct chv_why why = {""};
    char keys[300];
    struct chv_server_config *loaded = malloc(sizeof *loaded);
    if (loaded == NULL)
        return;
    enum chv_err err = s->setup->load(s->setup->load_arg, loaded, &why);
    if (err != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "the configuration stays as it was: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
        free(loaded);
        return;
    }
    restart_keys(&s->config, loaded, keys, sizeof keys);
    const bool others = !same_redirects(&s->config, loaded);
    take_over(&s->config, loaded);
    if (others)
        chv_supervisor_say_redirects(&s->config);
    chv_log_set_level(s->config.log_level);
    chv_children_update(s);
    send_config(&s->children[CHILD_CONNECTOR], &s->config, 0); /* before anybody asks for a new tunnel */
    send_config(&s->children[CHILD_NET], &s->config, 0);
    if (chv_supervisor_load_allowed(s, loaded, &why) == CHV_OK)
        chv_supervisor_send_allowed(s);
    else
        chv_log(CHV_LOG_ERROR, "allowed-keys stay as they were: %s", why.text);
    if (chv_supervisor_load_ticket_keys(s, loaded, &why) == CHV_OK)
        chv_supervisor_send_ticket_keys(s);
    else
        chv_log(CHV_LOG_ERROR, "ticket keys stay as they were: %s", why.text);
    take_epochs(&s->wanted, loaded);
    if (s->children[CHILD_KEEPER].control >= 0)
        ask_epochs(s, !chv_child_restartable(s, &s->children[CHILD_KEEPER]));
    else if (s->renewing == RENEW_NOT)
        take_epochs(&s->config, loaded);
    send_config(&s->children[CHILD_REGISTRAR], &s->config, 0);
    free(loaded);
    if (keys[0] != '\0')
        chv_log(CHV_LOG_WARNING, "configuration loaded; these take a restart: %s", keys);
    else
        chv_log(CHV_LOG_INFO, "configuration loaded");
}
