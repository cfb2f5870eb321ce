/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_client.h"

#include <string.h>
#include <sys/socket.h>

static void remove_ask(struct chv_keeper_receipts *r, struct chv_keeper_receipt_ask *ask)
{
    *(ask->prev != NULL ? &ask->prev->next : &r->first) = ask->next;
    *(ask->next != NULL ? &ask->next->prev : &r->last) = ask->prev;
    ask->prev = ask->next = NULL;
}

/* It waits no more. If it is the one that is out, it stays out: the keeper is not to get another before it answers. */
static void forget(struct chv_keeper_receipts *r, struct chv_keeper_receipt_ask *ask)
{
    if (r->out && !r->unwanted && ask == r->first)
        r->unwanted = true;
    remove_ask(r, ask);
}

void chv_keeper_client_receipt(struct chv_keeper_client *client, struct chv_keeper_receipt_ask *ask,
                               chv_keeper_receipt_fn done)
{
    struct chv_keeper_receipts *r = &client->receipts;
    ask->done = done;
    ask->deadline = uv_now(client->loop) + client->receipt_ms;
    ask->next = NULL;
    ask->prev = r->last;
    *(r->last != NULL ? &r->last->next : &r->first) = ask;
    r->last = ask;
    chv_keeper_client_start_timer(client);
}

void chv_keeper_client_receipt_cancel(struct chv_keeper_client *client, struct chv_keeper_receipt_ask *ask)
{
    forget(&client->receipts, ask);
}

void chv_keeper_client_receipt_flush(struct chv_keeper_client *client)
{
    struct chv_keeper_receipts *r = &client->receipts;
    if (r->first == NULL || r->out || client->poll == NULL)
        return;
    struct chv_keeper_receipt_request *request = &r->first->request;
    request->tag = r->tag + 1;
    request->kind = CHV_KEEPER_RECEIPT;
    if (send(client->fd, request, sizeof *request, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* the timer tries again; a socket that is lost is noticed by its reading side */
    r->tag++;
    r->out = true;
    r->sent = uv_now(client->loop);
}

void chv_keeper_client_receipt_answer(struct chv_keeper_client *client, const void *packet)
{
    struct chv_keeper_receipts *r = &client->receipts;
    struct chv_keeper_receipt_answer answer;
    memcpy(&answer, packet, sizeof answer);
    if (!r->out || answer.tag != r->tag)
        return;
    struct chv_keeper_receipt_ask *ask = r->unwanted ? NULL : r->first;
    r->out = r->unwanted = false;
    if (ask == NULL)
        return;
    remove_ask(r, ask);
    ask->done(ask, answer.signature_len <= sizeof answer.signature ? &answer : NULL);
}

void chv_keeper_client_receipt_expire(struct chv_keeper_client *client, uint64_t now)
{
    struct chv_keeper_receipts *r = &client->receipts;
    while (r->first != NULL && r->first->deadline <= now) {
        struct chv_keeper_receipt_ask *ask = r->first;
        forget(r, ask);
        ask->done(ask, NULL);
    }
}

void chv_keeper_client_receipt_drop(struct chv_keeper_client *client)
{
    client->receipts.out = client->receipts.unwanted = false; /* what was out goes to the next keeper */
}
