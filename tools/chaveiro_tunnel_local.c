/* SPDX-License-Identifier: Apache-2.0 */
/* Local connections of chaveiro tunnel: from accept to their end. */
#include "tools/chaveiro_tunnel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"

static void local_free(struct tunnel_local *local)
{
    struct tunnel_door *door = local->door;
    if (local->prev != NULL)
        local->prev->next = local->next;
    else
        door->locals = local->next;
    if (local->next != NULL)
        local->next->prev = local->prev;
    local->entry->count--;
    door->count--;
    if (!local->ready)
        door->pending--;
    chv_wipe(local, sizeof *local);
    free(local);
    tunnel_settle(door);
}

/* So that the other side cannot take it for an end. (A unix socket knows no reset.) */
static void reset(struct tunnel_local *local)
{
    static const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (local->fd < 0)
        return;
    (void)setsockopt(local->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(local->fd);
    local->fd = -1;
}

void tunnel_local_start(struct tunnel_entry *entry, int fd, const char *peer)
{
    struct tunnel_door *door = entry->door;
    struct tunnel_local *local = calloc(1, sizeof *local);
    if (local == NULL) {
        close(fd);
        return;
    }
    local->door = door;
    local->entry = entry;
    local->fd = fd;
    local->since = uv_hrtime();
    (void)snprintf(local->peer, sizeof local->peer, "%s", peer);
    local->next = door->locals;
    if (door->locals != NULL)
        door->locals->prev = local;
    door->locals = local;
    door->count++;
    door->pending++;
    entry->count++;
    tunnel_session_queue(local);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void on_finished(void *owner)
{
    const struct tunnel_local *local = owner;
    if (local->message != NULL)
        chv_message_close(local->message);
}

void tunnel_local_open(struct tunnel_local *local)
{
    struct chv_why why = {""};
    const struct chv_tunnel_pipe_config config = {.read_fd = local->fd,
                                                  .write_fd = local->fd,
                                                  .idle_seconds = local->entry->config->idle_seconds,
                                                  .pings = true,
                                                  .finished = on_finished};
    local->ready = true;
    local->door->pending--;
    local->fd = -1;
    tunnel_tell_opened(local);
    enum chv_err err = chv_tunnel_pipe_start(chv_message_conn(local->message), &config, local, &local->pipe, &why);
    if (err != CHV_OK) {
        chv_conn_explain(chv_message_conn(local->message), "%s", why.text);
        chv_conn_abort(chv_message_conn(local->message), err);
    }
    tunnel_settle(local->door);
}

enum chv_err tunnel_local_record(struct chv_message *message, uint8_t type, const uint8_t *body, size_t len)
{
    const struct tunnel_local *local = chv_message_owner(message);
    return local->pipe != NULL ? chv_tunnel_pipe_record(local->pipe, type, body, len) : CHV_OK; /* it ends already */
}

void tunnel_local_batch(struct chv_message *message)
{
    const struct tunnel_local *local = chv_message_owner(message);
    if (local->pipe != NULL)
        chv_tunnel_pipe_batch(local->pipe);
}

void tunnel_local_drained(struct chv_message *message)
{
    const struct tunnel_local *local = chv_message_owner(message);
    if (local->pipe != NULL)
        chv_tunnel_pipe_drained(local->pipe);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void tunnel_local_drop(struct tunnel_local *local)
{
    tunnel_session_forget(local);
    reset(local);
    if (local->message == NULL) {
        local_free(local);
    } else if (!local->dropped) {
        local->dropped = true;
        chv_message_abort(local->message); /* and frees it */
    }
}

void tunnel_local_ended(struct tunnel_local *local, enum chv_err err, const char *text, unsigned status)
{
    if (err == CHV_ERR_REFUSED)
        tunnel_tell_refused(local, status, text);
    tunnel_tell_closed(local, err, text);
    chv_tunnel_pipe_free(local->pipe);
    local_free(local);
}
