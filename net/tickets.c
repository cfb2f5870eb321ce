/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/tickets.h"

#include "base/memory.h"
#include "core/wire.h"
#include "net/clockmark.h"
#include "net/control.h"

#include <string.h>

struct chv_tickets_key {
    enum chv_ticket_use use;
    uint32_t epoch;
    uint64_t period;
    uint8_t key[CHV_KEY_LEN];
};

enum { KEYS_SIZE = CHV_TICKETS_KEYS * sizeof(struct chv_tickets_key) };

enum chv_err chv_tickets_init(struct chv_tickets *tickets, const struct chv_crypto *crypto)
{
    *tickets = (struct chv_tickets){.crypto = crypto, .keys = chv_secure_alloc(KEYS_SIZE)};
    return tickets->keys != NULL ? CHV_OK : CHV_ERR_MEMORY;
}

void chv_tickets_free(struct chv_tickets *tickets)
{
    chv_secure_free(tickets->keys, KEYS_SIZE);
    *tickets = (struct chv_tickets){.keys = NULL};
}

static void drop(struct chv_tickets *tickets, size_t i)
{
    struct chv_tickets_key *last = &tickets->keys[--tickets->count];
    if (&tickets->keys[i] != last)
        tickets->keys[i] = *last;
    chv_wipe(last, sizeof *last);
}

void chv_tickets_drop(struct chv_tickets *tickets, enum chv_ticket_use use)
{
    for (size_t i = tickets->count; i-- > 0;)
        if (tickets->keys[i].use == use)
            drop(tickets, i);
}

static bool names(const struct chv_server_config *config, uint32_t epoch)
{
    bool named = config->epoch_count == 0;
    for (size_t i = 0; i < config->epoch_count; i++)
        named |= config->epochs[i] == epoch;
    return named;
}

void chv_tickets_configure(struct chv_tickets *tickets, const struct chv_server_config *config, unsigned suites)
{
    char audience[CHV_AUDIENCE_MAX + 1];
    tickets->profiles = chv_server_profiles(config);
    tickets->suites = suites;
    for (unsigned use = 0; use < CHV_TICKET_USES; use++) {
        chv_ticket_audience((enum chv_ticket_use)use, config->name, config->ticket_audience, audience);
        if (strcmp(audience, tickets->audience[use]) != 0)
            chv_tickets_drop(tickets, (enum chv_ticket_use)use);
        memcpy(tickets->audience[use], audience, sizeof audience);
    }
    for (size_t i = tickets->count; i-- > 0;)
        if (!names(config, tickets->keys[i].epoch))
            drop(tickets, i);
}

static const struct chv_tickets_key *find(const struct chv_tickets *tickets, enum chv_ticket_use use, uint32_t epoch,
                                          uint64_t period)
{
    for (size_t i = 0; i < tickets->count; i++) {
        const struct chv_tickets_key *key = &tickets->keys[i];
        if (key->use == use && key->epoch == epoch && key->period == period)
            return key;
    }
    return NULL;
}

bool chv_tickets_has(const struct chv_tickets *tickets, enum chv_ticket_use use, uint32_t epoch, uint64_t period)
{
    return find(tickets, use, epoch, period) != NULL;
}

enum chv_err chv_tickets_put(struct chv_tickets *tickets, enum chv_ticket_use use, uint32_t epoch, uint64_t period,
                             const uint8_t key[CHV_KEY_LEN])
{
    size_t i = 0;
    while (i < tickets->count &&
           (tickets->keys[i].use != use || tickets->keys[i].epoch != epoch || tickets->keys[i].period != period))
        i++;
    if (i == CHV_TICKETS_KEYS)
        return CHV_ERR_SPACE;
    tickets->keys[i] = (struct chv_tickets_key){.use = use, .epoch = epoch, .period = period};
    memcpy(tickets->keys[i].key, key, CHV_KEY_LEN);
    tickets->count += i == tickets->count;
    return CHV_OK;
}

void chv_tickets_expire(struct chv_tickets *tickets, uint64_t now)
{
    for (size_t i = tickets->count; i-- > 0;)
        if (tickets->keys[i].period + 1 < now / CHV_TICKET_PERIOD_SECONDS)
            drop(tickets, i);
}

/* A clock that was set back would make ended tickets good again, as it would credentials (net/clockmark.h). */
static bool clock_is_good(struct chv_tickets *tickets, uint64_t now)
{
    if (now + CHV_CLOCKMARK_TOLERANCE < tickets->latest)
        return false;
    if (now > tickets->latest)
        tickets->latest = now;
    return true;
}

/* --- making one ---------------------------------------------------------------------------------------------------- */

static const struct chv_tickets_key *newest(const struct chv_tickets *tickets, enum chv_ticket_use use, uint64_t period)
{
    const struct chv_tickets_key *best = NULL;
    for (size_t i = 0; i < tickets->count; i++) {
        const struct chv_tickets_key *key = &tickets->keys[i];
        if (key->use == use && key->period == period && (best == NULL || key->epoch > best->epoch))
            best = key;
    }
    return best;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When it ends: never later than what it stands for. */
static uint64_t end_of(const struct chv_tickets_wish *wish)
{
    uint64_t end = wish->now + earlier(wish->lifetime, CHV_TICKET_LIFE);
    end = earlier(end, wish->auth_time + CHV_TICKET_AUTH_LIFE);
    return wish->rights->not_after != 0 ? earlier(end, wish->rights->not_after) : end;
}

static enum chv_err describe(struct chv_session *session, const struct chv_tickets_wish *wish,
                             struct chv_ticket *ticket)
{
    struct chv_session_info info;
    enum chv_err err = chv_session_get_info(session, &info);
    if (err != CHV_OK)
        return err;
    *ticket = (struct chv_ticket){.profile = info.profile,
                                  .suite = info.suite,
                                  .not_after = end_of(wish),
                                  .auth_time = wish->auth_time,
                                  .number = wish->number};
    memcpy(&ticket->rights, wish->rights,
           offsetof(struct chv_credential, scopes) + wish->rights->scope_count * sizeof wish->rights->scopes[0]);
    memcpy(ticket->lineage, info.lineage, CHV_LINEAGE_LEN);
    if (info.credential != NULL) {
        memcpy(ticket->credential, info.credential, info.credential_len);
        ticket->credential_len = info.credential_len;
    }
    if (info.peer_public != NULL) {
        ticket->has_peer = true;
        ticket->curve = chv_suite_parts(info.suite)->curve;
        memcpy(ticket->peer_public, info.peer_public, info.peer_public_len);
        ticket->peer_public_len = info.peer_public_len;
    }
    return chv_session_resumption(session, wish->number, ticket->secret);
}

enum chv_err chv_tickets_mint(struct chv_tickets *tickets, enum chv_ticket_use use, struct chv_session *session,
                              const struct chv_tickets_wish *wish, struct chv_grant *grant)
{
    struct chv_ticket ticket;
    struct chv_ticket_label label = {.period = wish->now / CHV_TICKET_PERIOD_SECONDS};
    size_t len = sizeof grant->ticket;
    const struct chv_tickets_key *key = newest(tickets, use, label.period);
    if (key == NULL || !clock_is_good(tickets, wish->now) || end_of(wish) <= wish->now)
        return CHV_ERR_UNAVAILABLE;
    label.epoch = key->epoch;
    memcpy(label.audience, tickets->audience[use], sizeof label.audience);
    enum chv_err err = describe(session, wish, &ticket);
    if (err == CHV_OK)
        err = chv_ticket_seal(tickets->crypto, key->key, &label, &ticket, grant->ticket, &len);
    if (err == CHV_OK) {
        grant->ticket_len = len;
        grant->number = wish->number;
        grant->lifetime = (uint32_t)(ticket.not_after - wish->now);
    }
    chv_wipe(&ticket, sizeof ticket);
    return err;
}

/* --- taking one ---------------------------------------------------------------------------------------------------- */

/* What cannot be seen before it is open. */
static const char *ended(const struct chv_tickets *tickets, uint64_t now, const struct chv_ticket *ticket)
{
    if (ticket->not_after <= now)
        return "the ticket has ended";
    if (ticket->auth_time > now + CHV_CLOCKMARK_TOLERANCE) /* by a stolen key: it would be renewed for ever */
        return "the last full handshake is still to come";
    if (ticket->auth_time + CHV_TICKET_AUTH_LIFE <= now)
        return "the last full handshake is too long ago";
    if ((tickets->profiles & CHV_PROFILE_BIT(ticket->profile)) == 0)
        return "the ticket's profile is not served";
    if ((tickets->suites & CHV_SUITE_BIT(ticket->suite)) == 0)
        return "the ticket's suite is not served";
    return NULL;
}

static const char *open_ticket(struct chv_tickets *tickets, enum chv_ticket_use use, const uint8_t *bytes, size_t len,
                               uint64_t now, struct chv_ticket *ticket)
{
    struct chv_ticket_label label;
    const uint64_t period = now / CHV_TICKET_PERIOD_SECONDS;
    if (chv_ticket_peek(bytes, len, &label) != CHV_OK)
        return "the ticket is malformed";
    if (strcmp(label.audience, tickets->audience[use]) != 0)
        return "the ticket is for another audience";
    if (!clock_is_good(tickets, now))
        return "the clock was set back";
    if (label.period != period && label.period + 1 != period)
        return "the ticket is of another time";
    const struct chv_tickets_key *key = find(tickets, use, label.epoch, label.period);
    if (key == NULL)
        return "there is no key for tickets of that epoch";
    if (chv_ticket_open(tickets->crypto, key->key, bytes, len, ticket) != CHV_OK)
        return "the ticket does not open";
    return ended(tickets, now, ticket);
}

enum chv_err chv_tickets_open(struct chv_tickets *tickets, enum chv_ticket_use use, const uint8_t *bytes, size_t len,
                              uint64_t now, struct chv_ticket *ticket, const char **why)
{
    *why = open_ticket(tickets, use, bytes, len, now, ticket);
    if (*why == NULL)
        return CHV_OK;
    chv_wipe(ticket, sizeof *ticket);
    return CHV_ERR_AUTH;
}
