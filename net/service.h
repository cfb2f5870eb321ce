/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service's server side, as the server's connections see it: net calls, services/ implements, tools/ puts the table
 * together. One object per connection, on that connection's loop thread.
 */
#ifndef CHV_NET_SERVICE_H
#define CHV_NET_SERVICE_H

#include "core/credential.h"
#include "net/conn.h"

struct chv_server_config;

struct chv_service {
    const char *name;  /* in OPEN */
    const char *scope; /* that the client must have; NULL: the service looks at the scopes itself */
    /*
     * Once in the net process, as the user that it serves as, before it has threads and before its system calls are
     * limited; it names the folders that it needs (chv_sandbox_folder). An error: it does not start. Optional.
     */
    enum chv_err (*prepare)(const struct chv_server_config *config, struct chv_why *why);
    /*
     * The client is proven, in scope, and asked for this service. `open`: the OPEN record's map. Sets *state and
     * answers (STATUS 200 by chv_conn_send) or refuses with STATUS and an error. `client` holds as long as the
     * connection. With `late` it may return CHV_OK without an answer: the client is paused, and at STATUS 200
     * chv_service_ready is due.
     */
    bool late;
    enum chv_err (*open)(struct chv_conn *conn, const struct chv_credential *client, const uint8_t *open,
                         size_t open_len, void **state);
    /* DATA, END, and types from CHV_RECORD_SERVICE on. An error ends the connection. */
    enum chv_err (*record)(struct chv_conn *conn, void *state, uint8_t type, const uint8_t *body, size_t len);
    /* As chv_conn_events has them. Optional. */
    void (*batch)(struct chv_conn *conn, void *state);
    void (*drained)(struct chv_conn *conn, void *state);
    /*
     * The client has sent CLOSE, or the server ends and lets it go (`ends`). True: the service goes on, and calls
     * chv_conn_shutdown when it is done; the server's end waits for it no longer than for others. Optional.
     */
    bool (*closing)(struct chv_conn *conn, void *state, bool ends);
    /* Frees the state; the connection is over. */
    void (*closed)(struct chv_conn *conn, void *state);
};

/* A `late` service has answered STATUS 200: the client's records come. */
void chv_service_ready(struct chv_conn *conn);
/* Answers with a STATUS record. */
enum chv_err chv_service_status(struct chv_conn *conn, unsigned code, const char *format, ...) CHV_MUST_CHECK
    CHV_PRINTF(3, 4);

#endif
