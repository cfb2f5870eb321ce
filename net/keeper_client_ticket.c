/* SPDX-License-Identifier: Apache-2.0 */
/* The question for ticket keys on the net side of the keeper: one at a time, beside the handshakes'. */
#include "config.h"

#include "base/memory.h"
#include "net/keeper_client.h"

#include <string.h>
#include <sys/socket.h>

static void end(struct chv_keeper_client *client, const struct chv_keeper_ticket_answer *answer)
{
    struct chv_keeper_ticket_ask *ask = client->tickets.ask;
    client->tickets.ask = NULL;
    if (ask != NULL)
        ask->done(ask, answer);
}

bool chv_keeper_client_ticket(struct chv_keeper_client *client, struct chv_keeper_ticket_ask *ask,
                              enum chv_ticket_use use, uint32_t epoch, chv_keeper_ticket_fn done)
{
    struct chv_keeper_tickets *t = &client->tickets;
    if (client->poll == NULL || t->ask != NULL)
        return false;
    *ask = (struct chv_keeper_ticket_ask){
        .use = use, .epoch = epoch, .done = done, .deadline = uv_now(client->loop) + client->ticket_ms};
    t->ask = ask;
    chv_keeper_client_start_timer(client);
    return true;
}

void chv_keeper_client_ticket_cancel(struct chv_keeper_client *client)
{
    client->tickets.ask = NULL;
}

void chv_keeper_client_ticket_flush(struct chv_keeper_client *client)
{
    struct chv_keeper_tickets *t = &client->tickets;
    if (t->ask == NULL || t->ask->sent || t->out || client->poll == NULL)
        return;
    const struct chv_keeper_ticket_request request = {
        .tag = t->tag + 1, .kind = CHV_KEEPER_TICKET, .use = (uint8_t)t->ask->use, .epoch = t->ask->epoch};
    if (send(client->fd, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* the timer tries again; a socket that is lost is noticed by its reading side */
    t->tag++;
    t->out = t->ask->sent = true;
    t->since = uv_now(client->loop);
}

void chv_keeper_client_ticket_answer(struct chv_keeper_client *client, const void *packet)
{
    struct chv_keeper_tickets *t = &client->tickets;
    struct chv_keeper_ticket_answer answer;
    memcpy(&answer, packet, sizeof answer);
    if (t->out && answer.tag == t->tag) {
        t->out = false;
        if (t->ask != NULL && t->ask->sent)
            end(client, &answer);
    }
    chv_wipe(&answer, sizeof answer);
}

/* If it is out, it stays out: the keeper is not to get another before it answers. */
void chv_keeper_client_ticket_expire(struct chv_keeper_client *client, uint64_t now)
{
    if (client->tickets.ask != NULL && client->tickets.ask->deadline <= now)
        end(client, NULL);
}

void chv_keeper_client_ticket_drop(struct chv_keeper_client *client)
{
    client->tickets.out = false;
    end(client, NULL);
}
