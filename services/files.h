/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service `files`: a folder on the server for each client. Requests are answered in the order in which they came;
 * any number may be outstanding. doc/protocol.md, section 5, has the records.
 */
#ifndef CHV_SERVICES_FILES_H
#define CHV_SERVICES_FILES_H

#include "net/service.h"
#include "services/files_wire.h"

/* Server side. Scopes "files:ro", "files:rw"; configuration [files]. */
extern const struct chv_service chv_service_files;

/* Client side, on a connection that has opened the service. */
struct chv_files_events {
    /*
     * The answer to the oldest request that has none yet; of code 206 before its stream, then another one. 100: to a put
     * with an offset, whose content may now be sent; another one comes.
     */
    void (*answer)(void *arg, const struct chv_files_answer *answer);
    /* The server is at work on the oldest request, and it takes long: a deadline begins anew. Optional. */
    void (*working)(void *arg);
    /* A part of the stream behind an answer 206, and its end; digest NULL: the server gave it up. Of a get with an offset
     * the stream begins there, and the digest is of the whole file. */
    void (*data)(void *arg, const uint8_t *data, size_t len);
    void (*end)(void *arg, const uint8_t *digest);
};

struct chv_files_client {
    struct chv_conn *conn;
    const struct chv_files_events *on;
    void *arg;
    uint64_t asked, answered;
    bool stream; /* DATA is due */
    bool final;  /* the stream is over: its last answer is due */
};

void chv_files_client_init(struct chv_files_client *client, struct chv_conn *conn, const struct chv_files_events *on,
                           void *arg);
/*
 * Sends; sets request->id. A put is followed by the content: chv_conn_send_body of DATA, then chv_files_client_end; with
 * an offset, only after the answer 100, and from that offset on. After an answer that is an error the end alone.
 */
enum chv_err chv_files_client_ask(struct chv_files_client *client, struct chv_files_request *request) CHV_MUST_CHECK;
/* `digest`: CHV_FILES_DIGEST_LEN bytes, of the whole file; NULL: what was sent is not to be kept. */
enum chv_err chv_files_client_end(struct chv_files_client *client, const uint8_t *digest) CHV_MUST_CHECK;
/* A record of the server. An error ends the connection; it has been explained. */
enum chv_err chv_files_client_record(struct chv_files_client *client, uint8_t type, const uint8_t *body,
                                     size_t len) CHV_MUST_CHECK;
/* Whether an answer is due. */
bool chv_files_client_waits(const struct chv_files_client *client);

#endif
