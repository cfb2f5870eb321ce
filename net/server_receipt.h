/* SPDX-License-Identifier: Apache-2.0 */
/* A receipt (net/receipt.h) for a service of a server connection: asked of the keeper, on the connection's loop. */
#ifndef CHV_NET_SERVER_RECEIPT_H
#define CHV_NET_SERVER_RECEIPT_H

#include "net/keeper_client.h"

struct chv_server_receipt;

/* `why`: NULL, or why there is none (static text for the client); text and signature hold during the call. */
typedef void (*chv_server_receipt_fn)(void *arg, const char *why, const struct chv_server_receipt *receipt);

/* Its memory is the asker's, who sets the first part. */
struct chv_server_receipt {
    struct chv_receipt receipt; /* client, path, size, sha256; the rest is set before `done` */
    chv_server_receipt_fn done;
    void *arg;

    struct chv_conn *conn;
    struct chv_keeper_receipt_ask ask;
    char text[CHV_RECEIPT_MAX + 1]; /* the statement, NUL-terminated */
    uint8_t signature[CHV_SIGNATURE_MAX];
    size_t signature_len;
};

/* `done` is called once, later, from the loop, within CHV_KEEPER_RECEIPT_MS and a little, unless it is cancelled before. */
void chv_server_receipt_ask(struct chv_server_receipt *receipt, struct chv_conn *conn);
/* Before the connection is gone. */
void chv_server_receipt_cancel(struct chv_server_receipt *receipt);

#endif
