/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key update of one server connection (doc/protocol.md, section 8): asks the keeper once the service is open, passes its
 * answer on as KEY_UPDATE. What it carries the net process cannot read.
 */
#ifndef CHV_NET_SERVER_UPDATE_H
#define CHV_NET_SERVER_UPDATE_H

#include "net/keeper_client.h"

/* Part of the connection, zeroed. The question has memory of its own: it is gone again a moment later. */
struct chv_server_update {
    struct chv_server_update_ask *ask;   /* NULL: no question is out */
    uint32_t epoch;                      /* that the client was handed; 0: none */
    bool stored;                         /* as the client says */
    void (*then)(struct chv_conn *conn); /* the answer has come and left; NULL: nobody waits */
};

/*
 * After STATUS 200, or before REDIRECT, for a session whose credential is of an epoch older than `successor`. At most once.
 * False: nothing was asked, and `then` is not called.
 */
bool chv_server_update_begin(struct chv_server_update *update, struct chv_keeper_client *keeper, struct chv_conn *conn,
                             uint32_t successor);
/* The client's CLOSE has come. True: it is answered when the keeper has, within CHV_KEEPER_UPDATE_MS. */
bool chv_server_update_holds_close(struct chv_server_update *update);
/* KEY_UPDATED has come. CHV_ERR_PROTOCOL if none was sent, or for a second one, or one with a body. */
enum chv_err chv_server_update_stored(struct chv_server_update *update, size_t body_len) CHV_MUST_CHECK;
/* The connection is over. */
void chv_server_update_end(struct chv_server_update *update, struct chv_keeper_client *keeper);

#endif
