/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets on the server's side (doc/protocol.md, section 7): their keys, making them, and taking them. One per loop. The
 * keys are the keeper's, for few periods at a time, and in locked memory; while there is no keeper those that are here go
 * on being used. No session is stored: what it takes to come back is in the ticket.
 */
#ifndef CHV_NET_TICKETS_H
#define CHV_NET_TICKETS_H

#include "core/ticket.h"
#include "net/keeper_ticket.h"
#include "net/server.h"

struct chv_grant;

enum {
    CHV_TICKET_LIFE = 86400,          /* seconds, at most */
    CHV_TICKET_AUTH_LIFE = 7 * 86400, /* since the last full handshake, across renewals */
    CHV_TICKET_DATA_LIFE = 30,        /* of one for a data side */
    CHV_TICKETS_PER_SESSION = 8,
    CHV_TICKETS_KEYS = 256 /* at a time, of all epochs, uses and periods */
};

struct chv_tickets_key; /* one; in locked memory */

struct chv_tickets {
    const struct chv_crypto *crypto;
    char audience[CHV_TICKET_USES][CHV_AUDIENCE_MAX + 1];
    unsigned profiles, suites; /* masks of those served */
    size_t count;
    struct chv_tickets_key *keys; /* CHV_TICKETS_KEYS */
    uint64_t latest;              /* the latest time that was seen */
};

/* Without keys. `crypto` must outlive it. CHV_ERR_MEMORY. */
enum chv_err chv_tickets_init(struct chv_tickets *tickets, const struct chv_crypto *crypto) CHV_MUST_CHECK;
/* Wipes; zeroed memory is allowed. */
void chv_tickets_free(struct chv_tickets *tickets);
/*
 * Takes over audiences and what is served; `suites` is a mask. Keys of another audience are wiped, and those of epochs
 * that `config` does not name, if it names any.
 */
void chv_tickets_configure(struct chv_tickets *tickets, const struct chv_server_config *config, unsigned suites);

/* A key, in place of one for the same; copied. CHV_ERR_SPACE. */
enum chv_err chv_tickets_put(struct chv_tickets *tickets, enum chv_ticket_use use, uint32_t epoch, uint64_t period,
                             const uint8_t key[CHV_KEY_LEN]) CHV_MUST_CHECK;
/* Wipes keys of periods whose tickets nobody takes any more at the time `now`, Unix seconds. */
void chv_tickets_expire(struct chv_tickets *tickets, uint64_t now);
/* Wipes all keys for a use. */
void chv_tickets_drop(struct chv_tickets *tickets, enum chv_ticket_use use);
/* Whether there is a key for tickets of that use and epoch in that period. */
bool chv_tickets_has(const struct chv_tickets *tickets, enum chv_ticket_use use, uint32_t epoch, uint64_t period);

/* What a ticket is to be. */
struct chv_tickets_wish {
    uint64_t now, auth_time; /* Unix seconds: auth_time of the last full handshake */
    uint32_t lifetime;       /* seconds, at most */
    uint32_t number;         /* no other ticket of this session has it */
    /* What the client was let in with; its end is the ticket's, too. It need not have room for scopes that it has not. */
    const struct chv_credential *rights;
};

/*
 * Makes a ticket for an established session (WANT_OPEN) whose client is proven, by the newest epoch that there is a key
 * of. `grant` has its bytes, number and lifetime; nothing else of it is written.
 * CHV_ERR_UNAVAILABLE: there is no key for now, or it would have ended already. CHV_ERR_SPACE: it would be too long.
 */
enum chv_err chv_tickets_mint(struct chv_tickets *tickets, enum chv_ticket_use use, struct chv_session *session,
                              const struct chv_tickets_wish *wish, struct chv_grant *grant) CHV_MUST_CHECK;

/*
 * Takes a ticket: of this audience, of the current or the previous period, not ended, of a profile and suite that are
 * served. On failure `why` says what is wrong, for the log (static text); the client is told 401 and no more.  The
 * caller wipes `ticket` (it has a secret), and judges the credential (net/judge.h).
 */
enum chv_err chv_tickets_open(struct chv_tickets *tickets, enum chv_ticket_use use, const uint8_t *bytes, size_t len,
                              uint64_t now, struct chv_ticket *ticket, const char **why) CHV_MUST_CHECK;

#endif
