/* SPDX-License-Identifier: Apache-2.0 */
/* Key updates on the net side of the keeper: behind all handshakes, one at a time, given up after a second. */
#include "config.h"

#include "base/memory.h"
#include "net/keeper_client.h"
#include "net/keeper_update.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static void append(struct chv_keeper_updates *u, struct chv_keeper_update_ask *ask)
{
    ask->next = NULL;
    ask->prev = u->last;
    *(u->last != NULL ? &u->last->next : &u->first) = ask;
    u->last = ask;
    u->count++;
}

static void remove_ask(struct chv_keeper_updates *u, struct chv_keeper_update_ask *ask)
{
    *(ask->prev != NULL ? &ask->prev->next : &u->first) = ask->next;
    *(ask->next != NULL ? &ask->next->prev : &u->last) = ask->prev;
    ask->prev = ask->next = NULL;
    u->count--;
}

bool chv_keeper_client_update(struct chv_keeper_client *client, struct chv_keeper_update_ask *ask,
                              struct chv_conn *conn, chv_keeper_updated_fn done)
{
    struct chv_keeper_updates *u = &client->updates;
    if (client->poll == NULL || u->count >= CHV_KEEPER_UPDATES)
        return false;
    *ask = (struct chv_keeper_update_ask){
        .conn = conn, .done = done, .deadline = uv_now(client->loop) + CHV_KEEPER_UPDATE_MS};
    append(u, ask);
    chv_keeper_client_start_timer(client);
    return true;
}

void chv_keeper_client_update_cancel(struct chv_keeper_client *client, struct chv_keeper_update_ask *ask)
{
    struct chv_keeper_updates *u = &client->updates;
    if (u->sent == ask)
        u->sent = NULL;
    else
        remove_ask(u, ask);
}

static bool fill(const struct chv_keeper_update_ask *ask, uint64_t tag, struct chv_keeper_request *request)
{
    struct chv_session_info info;
    if (chv_session_get_info(chv_conn_session(ask->conn), &info) != CHV_OK || info.credential == NULL ||
        info.h_fin == NULL)
        return false;
    *request = (struct chv_keeper_request){.tag = tag,
                                           .kind = CHV_KEEPER_UPDATE,
                                           .profile = (uint8_t)info.profile,
                                           .h_psk_len = CHV_KEY_LEN,
                                           .credential_len = (uint16_t)info.credential_len};
    memcpy(request->credential, info.credential, info.credential_len);
    memcpy(request->h_psk, info.h_fin, CHV_KEY_LEN);
    return true;
}

void chv_keeper_client_update_flush(struct chv_keeper_client *client)
{
    struct chv_keeper_updates *u = &client->updates;
    struct chv_keeper_request request;
    while (u->first != NULL && !u->out && client->poll != NULL) {
        struct chv_keeper_update_ask *ask = u->first;
        if (fill(ask, u->tag + 1, &request)) {
            if (send(client->fd, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return; /* the timer tries again; who loses the socket notices by a handshake */
            u->tag++;
            u->out = true;
            remove_ask(u, ask);
            u->sent = ask;
        } else {
            remove_ask(u, ask);
            ask->done(ask, NULL, 0);
        }
    }
}

void chv_keeper_client_update_answer(struct chv_keeper_client *client, const void *packet)
{
    struct chv_keeper_updates *u = &client->updates;
    struct chv_keeper_update_answer answer;
    memcpy(&answer, packet, sizeof answer);
    if (!u->out || answer.tag != u->tag)
        return;
    struct chv_keeper_update_ask *ask = u->sent;
    u->out = false;
    u->sent = NULL;
    if (ask == NULL)
        return;
    bool good = answer.status == CHV_KEEPER_OK && answer.body_len <= CHV_UPDATE_BODY_MAX;
    ask->done(ask, good ? answer.body : NULL, good ? answer.body_len : 0);
}

void chv_keeper_client_update_expire(struct chv_keeper_client *client, uint64_t now)
{
    struct chv_keeper_updates *u = &client->updates;
    struct chv_keeper_update_ask *ask = u->sent;
    if (ask != NULL && ask->deadline <= now) {
        u->sent = NULL; /* it is still out: the keeper is not to get another before it answers */
        ask->done(ask, NULL, 0);
    }
    while ((ask = u->first) != NULL && ask->deadline <= now) {
        remove_ask(u, ask);
        ask->done(ask, NULL, 0);
    }
}

void chv_keeper_client_update_drop(struct chv_keeper_client *client)
{
    client->updates.out = false;
    chv_keeper_client_update_expire(client, UINT64_MAX);
}
