/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/server_update.h"

#include "core/credential.h"
#include "net/log.h"

#include <inttypes.h>
#include <stdlib.h>

struct chv_server_update_ask {
    struct chv_keeper_update_ask ask; /* first */
    struct chv_server_update *update;
    uint32_t successor;
    bool close_due;
};

static void say_handed(struct chv_conn *conn, uint32_t epoch)
{
    struct chv_session_info info;
    struct chv_credential c;
    if (chv_session_get_info(chv_conn_session(conn), &info) == CHV_OK &&
        chv_credential_parse(info.credential, info.credential_len, &c, NULL) == CHV_OK)
        chv_log(CHV_LOG_INFO, "conn %" PRIu64 ": %s: client '%s': is handed its key of epoch %" PRIu32,
                chv_conn_id(conn), chv_conn_peer(conn), c.id, epoch);
}

static void on_answer(struct chv_keeper_update_ask *ask, const uint8_t *body, size_t len)
{
    struct chv_server_update_ask *a = (struct chv_server_update_ask *)(void *)ask;
    struct chv_conn *conn = ask->conn;
    const bool close_due = a->close_due;
    void (*then)(struct chv_conn * conn) = a->update->then;
    a->update->ask = NULL;
    /* A direction that is closed by now takes no record: the next session will. */
    if (body != NULL && chv_conn_send(conn, CHV_RECORD_KEY_UPDATE, body, len) == CHV_OK) {
        a->update->epoch = a->successor;
        say_handed(conn, a->successor);
    }
    free(a);
    if (close_due)
        chv_conn_shutdown(conn);
    if (then != NULL)
        then(conn);
}

bool chv_server_update_begin(struct chv_server_update *update, struct chv_keeper_client *keeper, struct chv_conn *conn,
                             uint32_t successor)
{
    struct chv_server_update_ask *a = calloc(1, sizeof *a);
    if (a == NULL)
        return false;
    if (!chv_keeper_client_update(keeper, &a->ask, conn, on_answer)) {
        free(a);
        return false;
    }
    a->update = update;
    a->successor = successor;
    update->ask = a;
    return true;
}

bool chv_server_update_holds_close(struct chv_server_update *update)
{
    if (update->ask == NULL)
        return false;
    update->ask->close_due = true;
    return true;
}

enum chv_err chv_server_update_stored(struct chv_server_update *update, size_t body_len)
{
    if (update->epoch == 0 || update->stored || body_len != 0)
        return CHV_ERR_PROTOCOL;
    update->stored = true;
    return CHV_OK;
}

void chv_server_update_end(struct chv_server_update *update, struct chv_keeper_client *keeper)
{
    if (update->ask == NULL)
        return;
    chv_keeper_client_update_cancel(keeper, &update->ask->ask);
    free(update->ask);
    update->ask = NULL;
}
