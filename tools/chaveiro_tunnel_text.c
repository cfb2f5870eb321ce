/* SPDX-License-Identifier: Apache-2.0 */
/* What chaveiro tunnel says: lines for people, and with --json events on standard output. */
#include "tools/chaveiro_tunnel.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sysexits.h>

/* Beside the codes of refusals, for struct tunnel_entry.told. */
enum { TOLD_UNKNOWN = 1, TOLD_TARGET, TOLD_SERVER, TOLD_OTHER };

static void event(const struct tunnel_door *door, json_t *object)
{
    if (door->json) {
        chv_cli_print(object, true);
        (void)fflush(stdout);
    } else {
        json_decref(object);
    }
}

static double seconds_since(uint64_t then)
{
    return (double)(uv_hrtime() - then) / 1e9;
}

enum chv_err tunnel_tell_listening(const struct tunnel_door *door, struct chv_why *why)
{
    for (size_t i = 0; i < door->entry_count; i++) {
        const struct tunnel_entry *entry = &door->entries[i];
        for (size_t j = 0; j < entry->in_count; j++) {
            if (door->json)
                event(door, json_pack("{s:s, s:s, s:s}", "event", "listening", "tunnel", entry->config->name, "address",
                                      entry->in[j].text));
            else
                (void)printf("tunnel %s: listening on %s\n", entry->config->name, entry->in[j].text);
        }
    }
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_IO, "where it listens cannot be said: standard output: %s", strerror(errno));
}

void tunnel_tell_opened(const struct tunnel_local *local)
{
    const struct tunnel_door *door = local->door;
    char where[CHAVEIRO_WHERE_MAX];
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:b}", "event", "opened", "tunnel", local->entry->config->name, "peer",
                  local->peer, "server", chv_conn_peer(chv_message_conn(local->message)), "resumed", local->resumed);
    if (object != NULL && chv_message_redirected(local->message) != 0)
        (void)json_object_set_new(object, "redirected_by", json_string(door->link->address));
    event(door, object);
    if (door->verbose)
        (void)chv_cli_fail(EX_OK, "tunnel %s: %s: connected to %s", local->entry->config->name, local->peer,
                           chaveiro_where(door->link, local->message, where));
}

void tunnel_tell_closed(const struct tunnel_local *local, enum chv_err err, const char *text)
{
    const struct tunnel_door *door = local->door;
    const double seconds = seconds_since(local->since);
    uint64_t sent = 0, received = 0;
    if (local->pipe != NULL)
        chv_tunnel_pipe_counts(local->pipe, &sent, &received);
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:b}", "event", "closed", "tunnel",
                               local->entry->config->name, "peer", local->peer, "sent", (json_int_t)sent, "received",
                               (json_int_t)received, "seconds", seconds, "clean", err == CHV_OK);
    if (err != CHV_OK && object != NULL)
        (void)json_object_set_new(object, "why", json_string(text));
    event(door, object);
    if (door->verbose)
        (void)chv_cli_fail(EX_OK,
                           "tunnel %s: %s: closed after %.3f s, %" PRIu64 " bytes sent, %" PRIu64 " received%s%s",
                           local->entry->config->name, local->peer, seconds, sent, received, err != CHV_OK ? ": " : "",
                           err != CHV_OK ? text : "");
}

/* The same reason is told once for each tunnel, until that has worked again. */
static void refused(struct tunnel_local *local, unsigned code, const char *text, bool quiet)
{
    const struct tunnel_door *door = local->door;
    struct tunnel_entry *entry = local->entry;
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "event", "refused", "tunnel", entry->config->name, "peer",
                               local->peer, "why", text);
    if (code >= CHV_STATUS_CODE_MIN && object != NULL)
        (void)json_object_set_new(object, "code", json_integer(code));
    event(door, object);
    if (door->verbose || (!quiet && entry->told != code))
        (void)chv_cli_fail(EX_OK, "tunnel %s: %s: %s: %s", entry->config->name, local->peer,
                           local->ready ? "ended" : "not let through", text);
    entry->told = code;
}

void tunnel_tell_refused(struct tunnel_local *local, unsigned code, const char *text)
{
    refused(local, code != 0 ? code : TOLD_OTHER, text, false);
}

void tunnel_tell_unknown(struct tunnel_local *local)
{
    struct tunnel_door *door = local->door;
    struct chaveiro_link *link = door->link;
    if (door->doubt == TUNNEL_REFUSED) {
        tunnel_tell_refused(local, CHV_REFUSE_UNKNOWN_KEY, door->doubt_text);
        return;
    }
    event(door, json_pack("{s:s, s:s, s:s, s:i, s:s}", "event", "refused", "tunnel", local->entry->config->name, "peer",
                          local->peer, "code", (int)door->doubt_refusal, "why", door->doubt_text));
    if (local->entry->told != TOLD_UNKNOWN || door->verbose)
        chaveiro_report(link, CHV_ERR_AUTH, door->doubt_text, door->doubt_refusal, 0, door->doubt == TUNNEL_UNPROVEN);
    local->entry->told = TOLD_UNKNOWN;
    link->failed = false;
    link->code = EX_OK;
}

void tunnel_tell_late(struct tunnel_local *local, bool there)
{
    if (there)
        refused(local, TOLD_TARGET, "its target did not answer within --timeout", false);
    else
        refused(local, TOLD_SERVER, "the server did not answer within --timeout", local->door->lost);
}

void tunnel_tell_lost(struct tunnel_door *door, const char *text)
{
    const char *address = door->link->address;
    if (door->lost)
        return;
    door->lost = true;
    event(door, json_pack("{s:s, s:s, s:s}", "event", "lost", "server", address, "why", text));
    (void)chv_cli_fail(EX_OK, "the server %s cannot be used: %s; new connections wait", address, text);
}

void tunnel_tell_back(struct tunnel_door *door)
{
    const char *address = door->link->address;
    if (!door->lost)
        return;
    door->lost = false;
    event(door, json_pack("{s:s, s:s}", "event", "back", "server", address));
    (void)chv_cli_fail(EX_OK, "the server %s can be used again", address);
}
