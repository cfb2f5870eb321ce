/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the client's side share; nobody else includes this. */
#ifndef CHV_SERVICES_MESSAGE_INTERNAL_H
#define CHV_SERVICES_MESSAGE_INTERNAL_H

#include "net/control.h"
#include "services/input.h"
#include "services/message.h"

enum { CHV_MESSAGE_PING = 8 }; /* bytes of a ping's body */

struct chv_message {
    struct chv_conn *conn; /* the one in use: a full handshake may follow a resumed one, a data side's the first */
    struct chv_loop *loop;
    struct chv_client_key *key;
    const struct chv_message_events *on;
    void *owner;
    char *address;            /* as given */
    struct chv_status status; /* the last one */
    bool ready, closing, updated;
    bool aborted;                 /* by its owner: nothing follows any more */
    bool resumed;                 /* the connection in use came with a ticket out of the store */
    bool data_side;               /* the connection in use is where a REDIRECT led */
    uint16_t port;                /* of that REDIRECT; 0: none */
    uint8_t binding[CHV_KEY_LEN]; /* of tickets that come, with a store */
    unsigned asked, tickets;      /* that OPEN asked for, that have come */

    /* the message being sent */
    chv_message_read_fn read; /* NULL: none */
    void *read_arg;
    bool pumping, waiting; /* in chv_message_send_on; its source has nothing right now */
    const uint8_t *data;   /* chv_message_send: what is left */
    size_t data_len;
    uint8_t *copy; /* ... in memory of our own */
    size_t copy_size;
    struct chv_input *input; /* chv_message_send_fd */
    int fd;
    bool fd_ready;

    uint64_t begun, answered; /* messages, replies */
    uint64_t ping_time;       /* uv_hrtime when it left; 0: none is out */
    uint8_t ping_body[CHV_MESSAGE_PING];
};

/* message_client.c */
void chv_message_forget_source(struct chv_message *m);
/* Sends what the source gives until the socket is full. */
void chv_message_send_on(struct chv_message *m);
enum chv_err chv_message_record(struct chv_message *m, uint8_t type, const uint8_t *body, size_t len) CHV_MUST_CHECK;

/* message_connect.c */
enum chv_err chv_message_got_ticket(struct chv_message *m, const uint8_t *body, size_t len) CHV_MUST_CHECK;
/* Before any STATUS: goes on at the data side. */
enum chv_err chv_message_got_redirect(struct chv_message *m, const uint8_t *body, size_t len) CHV_MUST_CHECK;

#endif
