/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets on the server's side: for whom, for how long, and by which keys they are made and taken. */
#include "config.h"

#include "net/clockmark.h"
#include "net/tickets.h"

#include "net/control.h"
#include "tests/core/pair.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400, NOON = 20000 * DAY + DAY / 2, PERIOD = 20000 };

static struct pair p;
static struct chv_server_config config;
static struct chv_tickets tickets;
static struct chv_grant grant;
static struct chv_ticket ticket;
static struct chv_credential rights;
static struct chv_tickets_wish wish;
static const char *why;

static void put(struct chv_tickets *t, enum chv_ticket_use use, uint32_t epoch, uint64_t period)
{
    uint8_t key[CHV_KEY_LEN];
    memset(key, (int)(epoch * 16 + period % 16), sizeof key); /* the same for every use and name: audiences must do */
    CU_ASSERT_EQUAL(chv_tickets_put(t, use, epoch, period, key), CHV_OK);
}

static void put_all(struct chv_tickets *t, uint32_t epoch)
{
    for (uint64_t period = PERIOD - 1; period <= PERIOD + 1; period++) {
        put(t, CHV_TICKET_RESUMPTION, epoch, period);
        put(t, CHV_TICKET_DATA, epoch, period);
    }
}

static void make(struct chv_tickets *t, const char *name, const char *fleet)
{
    snprintf(config.name, sizeof config.name, "%s", name);
    snprintf(config.ticket_audience, sizeof config.ticket_audience, "%s", fleet);
    CU_ASSERT_EQUAL_FATAL(chv_tickets_init(t, &p.real), CHV_OK);
    chv_tickets_configure(t, &config, CHV_SUITE_BIT(p.suite));
    put_all(t, 1);
}

/* A session of server "s1" and the keys of epoch 1 for yesterday, today and tomorrow. */
static void start(enum chv_profile profile, enum chv_suite suite)
{
    memset(&config, 0, sizeof config);
    memset(&grant, 0, sizeof grant);
    config.epoch_count = 1;
    config.epochs[0] = 1;
    config.profiles = CHV_PROFILE_BIT(profile);
    pair_open(&p, profile, suite);
    pair_connect(&p);
    make(&tickets, "s1", "");
    rights = (struct chv_credential){.id = "1", .scope_count = 1, .scopes = {"message"}};
    wish = (struct chv_tickets_wish){
        .now = NOON, .auth_time = NOON - 60, .lifetime = CHV_TICKET_LIFE, .number = 3, .rights = &rights};
}

static void end(void)
{
    chv_tickets_free(&tickets);
    pair_close(&p);
}

static enum chv_err mint(void)
{
    return chv_tickets_mint(&tickets, CHV_TICKET_RESUMPTION, p.server, &wish, &grant);
}

static enum chv_err take(struct chv_tickets *t, enum chv_ticket_use use, uint64_t now)
{
    memset(&ticket, 0x5a, sizeof ticket);
    return chv_tickets_open(t, use, grant.ticket, grant.ticket_len, now, &ticket, &why);
}

/* Refused, for this reason, and no secret is left behind. */
static void refused(struct chv_tickets *t, enum chv_ticket_use use, uint64_t now, const char *reason)
{
    static const uint8_t zeros[CHV_KEY_LEN];
    CU_ASSERT_EQUAL(take(t, use, now), CHV_ERR_AUTH);
    CU_ASSERT_PTR_NOT_NULL_FATAL(why);
    if (strstr(why, reason) == NULL) {
        CU_FAIL("reason");
        fprintf(stderr, "'%s', not '%s'\n", why, reason);
    }
    CU_ASSERT_EQUAL(memcmp(ticket.secret, zeros, sizeof zeros), 0);
}

/* --- what is in one ------------------------------------------------------------------------------------------------ */

static void check_contents(void)
{
    struct chv_session_info info;
    uint8_t secret[CHV_KEY_LEN];
    CU_ASSERT_EQUAL_FATAL(chv_session_get_info(p.server, &info), CHV_OK);
    CU_ASSERT_EQUAL(chv_session_resumption(p.client, 3, secret), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(ticket.secret, secret, sizeof secret), 0);
    CU_ASSERT(ticket.profile == p.profile && ticket.suite == p.suite && ticket.number == 3);
    CU_ASSERT_EQUAL(ticket.auth_time, NOON - 60);
    CU_ASSERT_EQUAL(ticket.not_after, NOON + DAY);
    CU_ASSERT_EQUAL(memcmp(ticket.lineage, info.lineage, CHV_LINEAGE_LEN), 0);
    CU_ASSERT_STRING_EQUAL(ticket.rights.id, "1");
    CU_ASSERT_TRUE(chv_credential_has_scope(&ticket.rights, "message"));
    CU_ASSERT_EQUAL(ticket.credential_len, info.credential_len);
    if (info.credential != NULL)
        CU_ASSERT_EQUAL(memcmp(ticket.credential, info.credential, info.credential_len), 0);
    CU_ASSERT_EQUAL(ticket.has_peer, info.peer_public != NULL);
    if (info.peer_public != NULL)
        CU_ASSERT_EQUAL(memcmp(ticket.peer_public, info.peer_public, info.peer_public_len), 0);
}

/* A session that begins with what was opened, and its own ticket. */
static void come_back(void)
{
    static uint8_t bytes[CHV_TICKET_MAX];
    static struct chv_ticket opened;
    const bool key = p.profile == CHV_PROFILE_KEY;
    opened = ticket;
    memcpy(bytes, grant.ticket, sizeof bytes);
    CU_ASSERT_EQUAL(chv_session_resumption(p.client, 3, p.resumption), CHV_OK);
    const struct chv_session_ticket taken = {.profile = opened.profile,
                                             .suite = opened.suite,
                                             .credential = key ? NULL : opened.credential,
                                             .credential_len = opened.credential_len,
                                             .peer_public = opened.has_peer ? opened.peer_public : NULL,
                                             .peer_public_len = opened.peer_public_len,
                                             .lineage = opened.lineage,
                                             .secret = opened.secret,
                                             .server = p.server_name};
    p.ticket = bytes;
    p.ticket_len = grant.ticket_len;
    p.taken = &taken;
    CU_ASSERT_EQUAL_FATAL(pair_start(&p), CHV_OK);
    pair_connect(&p);
    p.taken = NULL;
    p.ticket = NULL;
}

static void test_there_and_back(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (unsigned suite = 1; suite <= 3; suite++) {
            start((enum chv_profile)profile, (enum chv_suite)suite);
            for (unsigned generation = 0; generation < 3; generation++) {
                CU_ASSERT_EQUAL_FATAL(mint(), CHV_OK);
                CU_ASSERT(grant.number == 3 && grant.lifetime == DAY && grant.port == 0);
                CU_ASSERT_EQUAL_FATAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
                CU_ASSERT_PTR_NULL(why);
                check_contents();
                come_back();
            }
            end();
        }
}

/* As the server keeps them: no memory behind the last scope. */
static void test_rights_that_are_cut(void)
{
    const size_t size = offsetof(struct chv_credential, scopes) + 2 * sizeof rights.scopes[0];
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    struct chv_credential *cut = malloc(size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(cut);
    rights = (struct chv_credential){.id = "1", .scope_count = 2, .scopes = {"files:ro", "message"}};
    memcpy(cut, &rights, size);
    wish.rights = cut;
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    CU_ASSERT_EQUAL(ticket.rights.scope_count, 2);
    CU_ASSERT_STRING_EQUAL(ticket.rights.scopes[1], "message");
    free(cut);
    end();
}

static void test_one_that_would_be_too_long(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (unsigned i = 0; i < CHV_SCOPES_MAX; i++)
        snprintf(rights.scopes[i], sizeof rights.scopes[i], "tunnel:0123456789012345678901%02u", i);
    rights.scope_count = CHV_SCOPES_MAX;
    CU_ASSERT_EQUAL(mint(), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(grant.ticket_len, 0);
    end();
}

/* --- audiences ----------------------------------------------------------------------------------------------------- */

static void test_audience(void)
{
    struct chv_tickets other, same, fleet, far;
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    make(&other, "s2", "");
    make(&same, "s1", "");
    make(&fleet, "s1", "f");
    make(&far, "s2", "f");
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(take(&same, CHV_TICKET_RESUMPTION, NOON), CHV_OK); /* another process of the name */
    refused(&other, CHV_TICKET_RESUMPTION, NOON, "another audience");
    refused(&fleet, CHV_TICKET_RESUMPTION, NOON, "another audience");
    refused(&tickets, CHV_TICKET_DATA, NOON, "another audience");
    CU_ASSERT_EQUAL(chv_tickets_mint(&tickets, CHV_TICKET_DATA, p.server, &wish, &grant), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_DATA, NOON), CHV_OK);
    CU_ASSERT_EQUAL(take(&fleet, CHV_TICKET_DATA, NOON), CHV_OK); /* a fleet is for coming back only */
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "another audience");
    refused(&far, CHV_TICKET_DATA, NOON, "another audience");
    CU_ASSERT_EQUAL(chv_tickets_mint(&fleet, CHV_TICKET_RESUMPTION, p.server, &wish, &grant), CHV_OK);
    CU_ASSERT_EQUAL(take(&far, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "another audience");
    /* Another audience, other keys. */
    snprintf(config.name, sizeof config.name, "s1");
    config.ticket_audience[0] = '\0';
    chv_tickets_configure(&fleet, &config, fleet.suites);
    CU_ASSERT_FALSE(chv_tickets_has(&fleet, CHV_TICKET_RESUMPTION, 1, PERIOD));
    CU_ASSERT_TRUE(chv_tickets_has(&fleet, CHV_TICKET_DATA, 1, PERIOD));
    chv_tickets_free(&other);
    chv_tickets_free(&same);
    chv_tickets_free(&fleet);
    chv_tickets_free(&far);
    end();
}

static void test_names_of_audiences(void)
{
    char a[CHV_AUDIENCE_MAX + 1], name[CHV_SERVER_NAME_MAX + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    chv_ticket_audience(CHV_TICKET_RESUMPTION, "s1", "", a);
    CU_ASSERT_STRING_EQUAL(a, "s1");
    chv_ticket_audience(CHV_TICKET_RESUMPTION, "s1", "f", a);
    CU_ASSERT_STRING_EQUAL(a, "fleet/f");
    chv_ticket_audience(CHV_TICKET_DATA, "s1", "f", a);
    CU_ASSERT_STRING_EQUAL(a, "s1/data");
    chv_ticket_audience(CHV_TICKET_DATA, name, "", a);
    CU_ASSERT_EQUAL(strlen(a), CHV_SERVER_NAME_MAX + 5);
    chv_ticket_audience(CHV_TICKET_RESUMPTION, "s1", name, a);
    CU_ASSERT_EQUAL(strlen(a), CHV_SERVER_NAME_MAX + 6);
}

/* --- periods ------------------------------------------------------------------------------------------------------- */

static void test_periods(void)
{
    const uint64_t midnight = (uint64_t)(PERIOD + 1) * DAY;
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    wish.now = midnight - 1;
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, midnight - 1), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, midnight), CHV_OK);
    /* Tomorrow's key is there: no keeper is needed when the period turns. The day after there is none. */
    wish.now = midnight;
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, midnight + DAY - 2), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, midnight + DAY - 1), CHV_OK);
    wish.now = midnight + DAY;
    CU_ASSERT_EQUAL(mint(), CHV_ERR_UNAVAILABLE);
    /* The keys of a period end with the one after it. */
    chv_tickets_expire(&tickets, NOON);
    CU_ASSERT_TRUE(chv_tickets_has(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD - 1));
    chv_tickets_expire(&tickets, midnight);
    CU_ASSERT_FALSE(chv_tickets_has(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD - 1));
    CU_ASSERT_TRUE(chv_tickets_has(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD));
    chv_tickets_expire(&tickets, midnight + DAY);
    CU_ASSERT_FALSE(chv_tickets_has(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD));
    CU_ASSERT_FALSE(chv_tickets_has(&tickets, CHV_TICKET_DATA, 1, PERIOD));
    CU_ASSERT_TRUE(chv_tickets_has(&tickets, CHV_TICKET_DATA, 1, PERIOD + 1));
    end();
}

/* Made by hand, with a true key: the label and what is sealed are judged by themselves. */
static void seal(uint64_t period, uint64_t not_after, uint64_t auth_time)
{
    struct chv_ticket_label label = {.epoch = 1, .period = period, .audience = "s1"};
    uint8_t key[CHV_KEY_LEN];
    memset(key, (int)(16 + period % 16), sizeof key);
    CU_ASSERT_EQUAL_FATAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(take(&tickets, CHV_TICKET_RESUMPTION, wish.now), CHV_OK);
    ticket.not_after = not_after;
    ticket.auth_time = auth_time;
    grant.ticket_len = sizeof grant.ticket;
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&p.real, key, &label, &ticket, grant.ticket, &grant.ticket_len), CHV_OK);
}

static void test_of_another_time(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    seal(PERIOD, NOON + DAY, NOON);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    seal(PERIOD - 1, NOON + DAY, NOON);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    seal(PERIOD + 1, NOON + DAY, NOON);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "another time");
    put(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD - 2);
    seal(PERIOD - 2, NOON + DAY, NOON);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "another time");
    end();
}

/* --- how long ------------------------------------------------------------------------------------------------------ */

static void test_life(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(grant.lifetime, DAY);
    wish.lifetime = CHV_TICKET_DATA_LIFE;
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(grant.lifetime, 30);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON + 29), CHV_OK);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON + 30, "has ended");
    wish.lifetime = 2 * DAY; /* no more than a day, whoever asks */
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(grant.lifetime, DAY);
    rights.not_after = NOON + 100; /* of credential, allow-list and registry the first */
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(grant.lifetime, 100);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON + 100, "has ended");
    tickets.latest = 0;
    rights.not_after = NOON;
    CU_ASSERT_EQUAL(mint(), CHV_ERR_UNAVAILABLE);
    end();
}

static void test_seven_days(void)
{
    const uint64_t last = NOON + 7 * DAY;
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (uint64_t day = 0; day <= 7; day++)
        put(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD + day);
    wish.auth_time = NOON;
    for (unsigned day = 0; day < 7; day++) { /* each session's ticket is made with the time that the last one had */
        wish.now = NOON + (uint64_t)day * DAY;
        CU_ASSERT_EQUAL(mint(), CHV_OK);
        CU_ASSERT_EQUAL(grant.lifetime, DAY);
        CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, wish.now), CHV_OK);
        wish.auth_time = ticket.auth_time;
        CU_ASSERT_EQUAL(wish.auth_time, NOON);
    }
    wish.now = last - 5;
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(grant.lifetime, 5);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, last - 1), CHV_OK);
    refused(&tickets, CHV_TICKET_RESUMPTION, last, "has ended");
    wish.now = last;
    CU_ASSERT_EQUAL(mint(), CHV_ERR_UNAVAILABLE);
    end();
    /* Whatever it says of its own end. */
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    seal(PERIOD, NOON + DAY, NOON - 7 * DAY + 1);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON + 1, "too long ago");
    end();
}

/* Who had a ticket key for a day could else make a ticket that the server itself renews for ever. */
static void test_not_yet(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    seal(PERIOD, NOON + DAY, NOON + CHV_CLOCKMARK_TOLERANCE);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    seal(PERIOD, NOON + DAY, NOON + CHV_CLOCKMARK_TOLERANCE + 1);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "still to come");
    seal(PERIOD, NOON + DAY, UINT64_MAX);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "still to come");
    end();
}

static void test_clock_set_back(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON + 1000), CHV_OK);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON + 700), CHV_OK); /* a correction */
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON + 699, "set back");
    wish.now = NOON + 699;
    CU_ASSERT_EQUAL(mint(), CHV_ERR_UNAVAILABLE);
    end();
}

/* --- keys ---------------------------------------------------------------------------------------------------------- */

static void test_epochs(void)
{
    struct chv_ticket_label label;
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    const struct chv_grant old = grant;
    put(&tickets, CHV_TICKET_RESUMPTION, 2, PERIOD);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(chv_ticket_peek(grant.ticket, grant.ticket_len, &label), CHV_OK);
    CU_ASSERT_EQUAL(label.epoch, 2); /* the newest that there is */
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    grant = old;
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    config.epochs[0] = 2; /* 1 is retired */
    chv_tickets_configure(&tickets, &config, tickets.suites);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "no key for tickets of that epoch");
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    chv_tickets_drop(&tickets, CHV_TICKET_RESUMPTION);
    CU_ASSERT_EQUAL(mint(), CHV_ERR_UNAVAILABLE);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "no key");
    end();
}

static void test_what_is_served(void)
{
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    config.profiles = CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK);
    chv_tickets_configure(&tickets, &config, tickets.suites);
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "profile is not served");
    config.profiles = 0; /* psk */
    chv_tickets_configure(&tickets, &config, CHV_SUITE_BIT(CHV_SUITE_P256_AESGCM_SHA256));
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "suite is not served");
    chv_tickets_configure(&tickets, &config, CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256));
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    end();
}

static void test_another_key(void)
{
    uint8_t key[CHV_KEY_LEN] = {1};
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    CU_ASSERT_EQUAL(chv_tickets_put(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD, key), CHV_OK); /* in its place */
    refused(&tickets, CHV_TICKET_RESUMPTION, NOON, "does not open");
    put(&tickets, CHV_TICKET_RESUMPTION, 1, PERIOD);
    CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_OK);
    for (size_t i = 0; i < grant.ticket_len; i++) {
        grant.ticket[i] ^= 0x80;
        CU_ASSERT_EQUAL(take(&tickets, CHV_TICKET_RESUMPTION, NOON), CHV_ERR_AUTH);
        grant.ticket[i] ^= 0x80;
    }
    for (size_t len = 0; len < grant.ticket_len; len++)
        CU_ASSERT_EQUAL(chv_tickets_open(&tickets, CHV_TICKET_RESUMPTION, grant.ticket, len, NOON, &ticket, &why),
                        CHV_ERR_AUTH);
    end();
}

static void test_no_more_keys_than_room(void)
{
    const uint8_t key[CHV_KEY_LEN] = {1};
    start(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    for (uint64_t i = tickets.count; i < CHV_TICKETS_KEYS; i++)
        CU_ASSERT_EQUAL(chv_tickets_put(&tickets, CHV_TICKET_DATA, 9, i, key), CHV_OK);
    CU_ASSERT_EQUAL(chv_tickets_put(&tickets, CHV_TICKET_DATA, 9, CHV_TICKETS_KEYS, key), CHV_ERR_SPACE);
    CU_ASSERT_EQUAL(chv_tickets_put(&tickets, CHV_TICKET_DATA, 9, CHV_TICKETS_KEYS - 1, key), CHV_OK);
    CU_ASSERT_EQUAL(mint(), CHV_OK);
    end();
}

TEST_MAIN("tickets", {"there and back", test_there_and_back}, {"rights that are cut", test_rights_that_are_cut},
          {"too long", test_one_that_would_be_too_long}, {"audience", test_audience},
          {"names of audiences", test_names_of_audiences}, {"periods", test_periods},
          {"of another time", test_of_another_time}, {"life", test_life}, {"seven days", test_seven_days},
          {"not yet", test_not_yet}, {"clock set back", test_clock_set_back}, {"epochs", test_epochs},
          {"what is served", test_what_is_served}, {"another key", test_another_key},
          {"no more keys than room", test_no_more_keys_than_room})
