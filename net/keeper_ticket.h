/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's question about ticket keys (doc/protocol.md, section 7): those of one epoch and one audience for the
 * previous, the current and the next period. No question names an audience: the keeper makes it of its own configuration,
 * by its own clock, and for epochs that it serves. A question is a packet of its own, and so is its answer: both are known
 * by their length.
 */
#ifndef CHV_NET_KEEPER_TICKET_H
#define CHV_NET_KEEPER_TICKET_H

#include "core/ticket.h"
#include "net/keeper.h"

enum { CHV_TICKET_PERIODS = 3 /* that keys are handed out for */ };

/* What tickets are for. */
enum chv_ticket_use {
    CHV_TICKET_RESUMPTION, /* coming back: audience is the server's name, or "fleet/NAME" */
    CHV_TICKET_DATA,       /* going on at a data side: audience is the server's name + "/data" */
    CHV_TICKET_USES
};

/* The audience of a server's tickets. `fleet`: the configured one, "": none. A server's name has no "/". */
void chv_ticket_audience(enum chv_ticket_use use, const char *server, const char *fleet,
                         char out[CHV_AUDIENCE_MAX + 1]);

struct chv_keeper_ticket_request {
    uint64_t tag; /* the asker's, comes back */
    uint8_t kind; /* CHV_KEEPER_TICKET */
    uint8_t use;  /* enum chv_ticket_use */
    uint8_t zero[2];
    uint32_t epoch;
};

struct chv_keeper_ticket_answer {
    uint64_t tag;
    uint16_t
        status; /* CHV_KEEPER_OK; CHV_KEEPER_MALFORMED: no keys of this epoch or for this use; CHV_KEEPER_UNAVAILABLE */
    uint16_t zero[3];
    uint64_t first_period;
    uint8_t keys[CHV_TICKET_PERIODS][CHV_KEY_LEN]; /* zeros unless status is CHV_KEEPER_OK */
};

_Static_assert(offsetof(struct chv_keeper_ticket_request, kind) == offsetof(struct chv_keeper_request, kind) &&
                   sizeof(struct chv_keeper_ticket_request) == 16,
               "shorter than any other question");
_Static_assert(sizeof(struct chv_keeper_ticket_answer) == 120 &&
                   sizeof(struct chv_keeper_ticket_answer) % sizeof(struct chv_keeper_answer) != 0,
               "no number of other answers has this length");

/* Whether a packet from the net process is such a question. */
bool chv_keeper_is_ticket(const void *packet, size_t len);
/* Answers it at the time `now` (Unix seconds); the caller wipes the answer. */
void chv_keeper_ticket(struct chv_keeper *keeper, uint64_t now, const void *packet,
                       struct chv_keeper_ticket_answer *answer);

#endif
