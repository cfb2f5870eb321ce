/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message service: each DATA... END of the client is one message of any length; the server prints
 * `client 'ID': 'TEXT'` and answers `message received: 'TEXT'` as DATA... END, record by record.
 */
#ifndef CHV_SERVICES_MESSAGE_H
#define CHV_SERVICES_MESSAGE_H

#include "net/client_key.h"
#include "net/service.h"

/* Server side. Scope "message". */
extern const struct chv_service chv_service_message;

/*
 * Client side: one connection that has opened the service, on one loop. All callbacks come from the loop; in each of
 * them every function below may be called.
 */
struct chv_message;

struct chv_message_events {
    /*
     * NULL: the service is `message`. Else another one, and what it sends, DATA and END too, comes to `record`, whose error
     * ends the connection; its owner sends by chv_message_conn; `batch` and `drained` are as chv_conn_events has them.
     */
    const char *service;
    enum chv_err (*record)(struct chv_message *message, uint8_t type, const uint8_t *body, size_t len);
    void (*batch)(struct chv_message *message); /* optional */
    void (*drained)(struct chv_message *message);
    /* The tunnel's name, with service "tunnel"; else NULL. Holds until `ready` or `closed`. */
    const char *tunnel;
    /* The server answered OPEN with STATUS 200: messages and pings may be sent. */
    void (*ready)(struct chv_message *message);
    /* The message was handed over as a whole; the next may be sent. Optional. */
    void (*sent)(struct chv_message *message);
    /* A part of the reply, and its end. Replies come in the order of the messages. */
    void (*reply)(struct chv_message *message, const uint8_t *data, size_t len);
    void (*reply_end)(struct chv_message *message);
    /* The answer to a ping, after so many microseconds. Optional. */
    void (*pong)(struct chv_message *message, uint64_t microseconds);
    /*
     * The server hands out the next key of this client: true if it was stored, and the server is told so. Optional:
     * without it the key is left.
     */
    bool (*update)(struct chv_message *message, const uint8_t *body, size_t len);
    /*
     * The end, exactly once; `message` is freed after this returns. CHV_OK: chv_message_close was called and the server
     * closed too. `text`: one line for people that says what failed and why; "" if err is CHV_OK.
     */
    void (*closed)(struct chv_message *message, enum chv_err err, const char *text);
};

/*
 * Gives the next bytes of a message: *len: in, room at buf; out, bytes, 0 at its end. CHV_ERR_BUSY if there are none
 * right now: chv_message_resume when there are. Any other error ends the connection with it (the server sees a
 * truncated stream).
 */
typedef enum chv_err (*chv_message_read_fn)(void *arg, uint8_t *buf, size_t *len);

/*
 * Connects to `address` (NULL: the key's own) and opens the service. `key` must outlive the connection; `owner` is for
 * chv_message_owner. On failure no callback was or will be made.
 *
 * If the key's store has a ticket, the session is resumed with it; a server that does not take it, or does not prove that it
 * knows it, gets one full handshake at once. Tickets that the store lacks are asked for. If the server answers OPEN with
 * a REDIRECT, this follows it, once: to the same host, or to one of the key's redirect_hosts. None of this is seen by the
 * owner, but chv_message_conn is another one then; before `ready` it must not be kept. Blocks as the store's file does.
 */
enum chv_err chv_message_connect(struct chv_loop *loop, const char *address, struct chv_client_key *key,
                                 const struct chv_message_events *events, void *owner, struct chv_message **message,
                                 struct chv_why *why) CHV_MUST_CHECK;
void *chv_message_owner(const struct chv_message *message);
/* For chv_session_get_info and chv_conn_peer. */
struct chv_conn *chv_message_conn(struct chv_message *message);
/* The text of the server's STATUS 200. */
const char *chv_message_greeting(const struct chv_message *message);
/* The code of the server's last STATUS (403: refused in the channel, with the reason), 0 before one has come. */
unsigned chv_message_status(const struct chv_message *message);
/*
 * For `closed`. The code of a refusal in clear, 0: none. A data side that does not take its ticket is one that cannot
 * serve now (503).
 */
unsigned chv_message_refusal(struct chv_message *message);
/* For `closed`, with its error: the server could not prove that it knows the key. */
bool chv_message_unproven(struct chv_message *message, enum chv_err err);
/* Whether the session was resumed with a ticket out of the key's store; the answer is final at `ready` and in `closed`. */
bool chv_message_resumed(const struct chv_message *message);
/* The port that a REDIRECT led to, 0 if there was none: an error is then about that data side, not about the key. */
uint16_t chv_message_redirected(const struct chv_message *message);

/*
 * Sends one message; while one is being sent, or before `ready`, CHV_ERR_STATE. Replies may come while it is being
 * sent. send: `data` is copied if it cannot leave at once, so it need not outlive the call. send_from: `read` is called
 * from the loop until the message's end, and may be called from within. send_fd: up to the end of file of `fd`, which
 * stays the caller's and must stay open until `sent` or `closed`.
 */
enum chv_err chv_message_send(struct chv_message *message, const void *data, size_t len) CHV_MUST_CHECK;
enum chv_err chv_message_send_from(struct chv_message *message, chv_message_read_fn read, void *arg) CHV_MUST_CHECK;
enum chv_err chv_message_send_fd(struct chv_message *message, int fd, struct chv_why *why) CHV_MUST_CHECK;
void chv_message_resume(struct chv_message *message);

/* CHV_ERR_STATE before `ready` and while a ping is unanswered. */
enum chv_err chv_message_ping(struct chv_message *message) CHV_MUST_CHECK;

/* Orderly end: CLOSE to the server, `closed` when its CLOSE has come. In the middle of a message: it is truncated. */
void chv_message_close(struct chv_message *message);
/* Ends now, `closed` comes with CHV_ERR_CANCELLED. */
void chv_message_abort(struct chv_message *message);

#endif
