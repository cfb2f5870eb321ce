/* SPDX-License-Identifier: Apache-2.0 */
/* The ticket keys of a data side: from their file to the net process, and how long they last. */
#include "config.h"

#include "base/memory.h"
#include "net/supervisor_internal.h"

#include <string.h>

enum { LOOK_MS = 3600 * 1000 }; /* a clock that is set does not move it */

void chv_supervisor_forget_ticket_keys(struct supervisor *s)
{
    chv_secure_free(s->ticket_keys, sizeof *s->ticket_keys);
    s->ticket_keys = NULL;
}

static void say(struct supervisor *s)
{
    s->ticket_keys_day = chv_clock_time() / CHV_TICKET_PERIOD_SECONDS;
    s->ticket_keys_look = chv_clock_ms() + LOOK_MS;
    chv_ticket_keys_say(s->ticket_keys, s->ticket_keys_file, chv_clock_time());
}

enum chv_err chv_supervisor_load_ticket_keys(struct supervisor *s, const struct chv_server_config *config,
                                             struct chv_why *why)
{
    if (!config->data_only)
        return CHV_OK;
    struct chv_ticket_keys *keys = chv_secure_alloc(sizeof *keys);
    if (keys == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no locked memory for ticket keys");
    /* By the name that is in effect: another one takes a restart. */
    enum chv_err err = chv_ticket_keys_load(config->ticket_keys, s->config.name, keys, why);
    if (err != CHV_OK) {
        chv_secure_free(keys, sizeof *keys);
        return err;
    }
    chv_supervisor_forget_ticket_keys(s);
    s->ticket_keys = keys;
    memcpy(s->ticket_keys_file, config->ticket_keys, sizeof s->ticket_keys_file);
    say(s);
    return CHV_OK;
}

void chv_supervisor_look_at_ticket_keys(struct supervisor *s)
{
    const uint64_t now = chv_clock_time(), end = chv_ticket_keys_end(s->ticket_keys, now);
    const bool ends = end == 0 || end - now <= CHV_TICKET_KEYS_WARN;
    s->ticket_keys_look = chv_clock_ms() + LOOK_MS;
    if (ends && now / CHV_TICKET_PERIOD_SECONDS != s->ticket_keys_day)
        say(s);
}

void chv_supervisor_send_ticket_keys(const struct supervisor *s)
{
    const struct child *net = &s->children[CHILD_NET];
    struct chv_ipc_message message = {.kind = CHV_IPC_TICKET_KEYS};
    if (s->ticket_keys == NULL || net->control < 0)
        return;
    memcpy(&message.keys, s->ticket_keys, sizeof message.keys);
    if (chv_ipc_send(net->control, &message, NULL, 0) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the net process does not take the ticket keys: SIGHUP again, or restart");
    chv_wipe(&message.keys, sizeof message.keys);
}
