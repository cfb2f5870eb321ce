/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/server_receipt.h"

#include "net/server_internal.h"

#include <string.h>

static struct chv_worker *worker_of(const struct chv_server_receipt *r)
{
    const struct chv_server_conn *c = chv_conn_owner(r->conn);
    return c->worker;
}

/* The statement that was signed: what was asked for, at the keeper's time. */
static const char *take(struct chv_server_receipt *r, const struct chv_keeper_receipt_answer *answer)
{
    size_t len = 0;
    if (answer == NULL)
        return "the process that signs receipts does not answer";
    if (answer->status == CHV_KEEPER_MALFORMED)
        return "none can be made of this name";
    if (answer->status != CHV_KEEPER_OK)
        return "the key that signs receipts cannot be used now";
    memcpy(r->receipt.server, worker_of(r)->config.name, sizeof r->receipt.server);
    r->receipt.time = answer->time;
    if (chv_receipt_format(&r->receipt, r->text, &len) != CHV_OK)
        return "none can be made of this name";
    r->text[len] = '\0';
    memcpy(r->signature, answer->signature, answer->signature_len);
    r->signature_len = answer->signature_len;
    return NULL;
}

static void on_answer(struct chv_keeper_receipt_ask *ask, const struct chv_keeper_receipt_answer *answer)
{
    struct chv_server_receipt *r =
        (struct chv_server_receipt *)(void *)((char *)ask - offsetof(struct chv_server_receipt, ask));
    r->done(r->arg, take(r, answer), r);
}

void chv_server_receipt_ask(struct chv_server_receipt *r, struct chv_conn *conn)
{
    struct chv_keeper_receipt_request *q = &r->ask.request;
    r->conn = conn;
    memset(&r->ask, 0, sizeof r->ask);
    q->size = r->receipt.size;
    memcpy(q->sha256, r->receipt.sha256, sizeof q->sha256);
    memcpy(q->client, r->receipt.client, strnlen(r->receipt.client, sizeof q->client - 1));
    memcpy(q->path, r->receipt.path, strnlen(r->receipt.path, sizeof q->path - 1));
    chv_keeper_client_receipt(&worker_of(r)->keeper, &r->ask, on_answer);
}

void chv_server_receipt_cancel(struct chv_server_receipt *r)
{
    chv_keeper_client_receipt_cancel(&worker_of(r)->keeper, &r->ask);
}
