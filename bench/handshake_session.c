/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session, from hello to the client's OPEN: a full one of each profile, or one resumed with a ticket, which the server
 * opens.  A PSK comes from elsewhere, as from the keeper process; so do the results of DH with the server's identity key
 * in a real server, but here they are computed and counted.
 */
#include "bench/handshake.h"
#include "core/ticket.h"
#include "core/wire.h"

#include <chaveiro/session.h>

#include <stdlib.h>
#include <string.h>

struct identity {
    struct chv_dh *key;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
};

static const struct chv_crypto *backend;
static struct chv_session_config config[2];
static void *memory[2][BATCH];
static struct chv_session *session[2][BATCH];
static uint8_t frame[BATCH][CHV_FIRST_FRAME_MAX];
static size_t frame_len[BATCH];
static uint8_t credential[CHV_CREDENTIAL_MAX];
static struct identity identity[2];
static session_keeper *keeper;

static const uint8_t ticket_key[CHV_KEY_LEN] = {1};
static uint8_t ticket[CHV_TICKET_MAX], resumption[CHV_KEY_LEN];

void session_set_keeper(session_keeper *k)
{
    keeper = k;
}

static void make_identities(enum chv_suite suite, struct chv_credential *c)
{
    const enum chv_curve curve = chv_suite_parts(suite)->curve;
    for (int side = CLIENT; side <= SERVER; side++) {
        require(chv_crypto_dh_generate(backend, curve, &identity[side].key, identity[side].public_key) == CHV_OK,
                "identity key");
        config[side].identity_public[curve] = identity[side].public_key;
    }
    config[CLIENT].peer_public = identity[SERVER].public_key;
    c->has_identity = true;
    require(chv_identity_hash(backend, curve, identity[CLIENT].public_key, c->identity_hash) == CHV_OK, "identity");
}

static void open_profile(const struct chv_crypto *crypto, enum chv_profile profile, const char *arg)
{
    struct chv_credential c = {.profile = profile, .epoch = 1, .serial = 1, .id = "camera-1"};
    enum chv_suite suite = CHV_SUITE_X25519_AESGCM_SHA256;
    size_t len = sizeof credential;

    backend = crypto;
    require(chv_suite_find(arg, &suite) == CHV_OK, arg);
    config[CLIENT] =
        (struct chv_session_config){.role = CHV_CLIENT, .crypto = backend, .profile = profile, .suite = suite};
    config[SERVER] = (struct chv_session_config){.role = CHV_SERVER,
                                                 .crypto = backend,
                                                 .profiles = CHV_PROFILE_BIT(profile),
                                                 .suites = CHV_SUITE_BIT(suite),
                                                 .now = 1800000000};
    if (profile != CHV_PROFILE_PSK)
        make_identities(suite, &c);
    if (profile != CHV_PROFILE_KEY) {
        require(chv_credential_add_scope(&c, "message") == CHV_OK &&
                    chv_credential_encode(&c, credential, &len) == CHV_OK,
                "credential");
        config[CLIENT].credential = credential;
        config[CLIENT].credential_len = len;
    }
    for (int i = 0; i < 2 * BATCH; i++) {
        memory[i / BATCH][i % BATCH] = malloc(chv_session_size());
        require(memory[i / BATCH][i % BATCH] != NULL, "memory");
    }
}

void session_open(const struct chv_crypto *crypto, const char *arg)
{
    open_profile(crypto, CHV_PROFILE_PSK, arg);
}

void session_key_open(const struct chv_crypto *crypto, const char *arg)
{
    open_profile(crypto, CHV_PROFILE_KEY, arg);
}

void session_key_psk_open(const struct chv_crypto *crypto, const char *arg)
{
    open_profile(crypto, CHV_PROFILE_KEY_PSK, arg);
}

void session_close(void)
{
    for (int i = 0; i < 2 * BATCH; i++)
        free(memory[i / BATCH][i % BATCH]);
    for (int side = CLIENT; side <= SERVER; side++) {
        chv_crypto_dh_free(backend, identity[side].key);
        identity[side].key = NULL;
    }
}

static void send_all(int side)
{
    for (int i = 0; i < BATCH; i++) {
        const uint8_t *ptr;
        require(chv_session_send_peek(session[side][i], &ptr, &frame_len[i]) == CHV_OK && frame_len[i] > 0, "peek");
        memcpy(frame[i], ptr, frame_len[i]);
        require(chv_session_send_consume(session[side][i], frame_len[i]) == CHV_OK, "consume");
    }
}

static void receive_all(int side)
{
    for (int i = 0; i < BATCH; i++) {
        size_t used;
        require(chv_session_recv(session[side][i], frame[i], frame_len[i], &used) == CHV_OK && used == frame_len[i],
                "receive");
    }
}

static void take_ticket(struct chv_session *s, const struct chv_key_request *request)
{
    struct chv_ticket t;
    require(chv_ticket_open(backend, ticket_key, request->ticket, request->ticket_len, &t) == CHV_OK, "ticket");
    const struct chv_session_ticket taken = {.profile = t.profile,
                                             .suite = t.suite,
                                             .credential = t.credential,
                                             .credential_len = t.credential_len,
                                             .lineage = t.lineage,
                                             .secret = t.secret,
                                             .server = "home"};
    require(chv_session_ticket_answer(s, &taken) == CHV_OK, "answer");
}

/* Questions but that for a PSK, whose answers are what the side itself can compute. */
static void answer_others(int side)
{
    for (int i = 0; i < BATCH; i++) {
        struct chv_session *s = session[side][i];
        struct chv_key_request request;
        uint8_t shared[CHV_KEY_LEN];
        while ((chv_session_wants(s) & CHV_WANT_KEY) != 0) {
            require(chv_session_key_request(s, &request) == CHV_OK, "question");
            if (request.kind == CHV_KEY_PSK)
                break;
            if (request.kind == CHV_KEY_TICKET) {
                take_ticket(s, &request);
            } else if (request.kind == CHV_KEY_PEER) {
                require(chv_session_key_answer(s, NULL) == CHV_OK, "answer");
            } else {
                require(chv_crypto_dh_derive(backend, identity[side].key, request.peer_public, shared) == CHV_OK &&
                            chv_session_key_answer(s, shared) == CHV_OK,
                        "answer");
            }
        }
    }
}

static void answer_all(int side)
{
    static uint8_t psk[BATCH][CHV_KEY_LEN] = {{1}}; /* the client has the server's */
    struct chv_key_request request[BATCH];

    answer_others(side);
    if ((chv_session_wants(session[side][0]) & CHV_WANT_KEY) == 0)
        return;
    for (int i = 0; i < BATCH; i++)
        require(chv_session_key_request(session[side][i], &request[i]) == CHV_OK && request[i].kind == CHV_KEY_PSK,
                "question");
    if (side == SERVER && keeper != NULL)
        keeper(request, psk);
    for (int i = 0; i < BATCH; i++)
        require(chv_session_key_answer(session[side][i], psk[i]) == CHV_OK, "answer");
}

static void seal_all(void)
{
    for (int i = 0; i < BATCH; i++)
        require(chv_session_seal(session[CLIENT][i], CHV_RECORD_OPEN, frame[i], 32, &frame_len[i]) == CHV_OK, "seal");
}

static void open_all(void)
{
    for (int i = 0; i < BATCH; i++) {
        const uint8_t *body;
        size_t len;
        uint8_t type;
        require(chv_session_open(session[SERVER][i], frame[i], frame_len[i], &type, &body, &len) == CHV_OK, "open");
    }
}

static void handshakes(struct cost *cost)
{
    double start = cpu_us();

    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            require(chv_session_init(memory[side][i], &config[side], &session[side][i], NULL) == CHV_OK, "session");
        /* a client's hello is made here: it belongs to the handshake */
        lap(&start, side == CLIENT ? &cost->handshake[CLIENT] : &cost->setup[SERVER]);
    }
    answer_others(CLIENT);
    send_all(CLIENT);
    lap(&start, &cost->handshake[CLIENT]);
    receive_all(SERVER);
    answer_all(SERVER);
    send_all(SERVER);
    lap(&start, &cost->handshake[SERVER]);
    receive_all(CLIENT);
    answer_all(CLIENT);
    seal_all();
    lap(&start, &cost->handshake[CLIENT]);
    open_all();
    lap(&start, &cost->handshake[SERVER]);
}

static void wipe_all(struct cost *cost)
{
    double start = cpu_us();

    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            chv_session_wipe(session[side][i]);
        lap(&start, &cost->setup[side]);
    }
}

/* The ticket of a first, full session. */
void session_resumed_open(const struct chv_crypto *crypto, const char *arg)
{
    static const struct chv_ticket_label label = {.epoch = 1, .period = 20771, .audience = "home"};
    struct cost unused = {{0}, {0}};
    struct chv_session_info info;
    size_t len = sizeof ticket;

    open_profile(crypto, CHV_PROFILE_PSK, arg);
    handshakes(&unused);
    require(chv_session_get_info(session[SERVER][0], &info) == CHV_OK, "info");
    struct chv_ticket t = {.profile = info.profile,
                           .suite = info.suite,
                           .not_after = 1800086400,
                           .auth_time = 1800000000,
                           .credential_len = info.credential_len,
                           .rights = {.id = "camera-1", .scope_count = 1, .scopes = {"message"}}};
    memcpy(t.credential, info.credential, info.credential_len);
    memcpy(t.lineage, info.lineage, sizeof t.lineage);
    require(chv_session_resumption(session[SERVER][0], 0, t.secret) == CHV_OK &&
                chv_session_resumption(session[CLIENT][0], 0, resumption) == CHV_OK &&
                chv_ticket_seal(backend, ticket_key, &label, &t, ticket, &len) == CHV_OK,
            "ticket");
    wipe_all(&unused);
    config[CLIENT].ticket = ticket;
    config[CLIENT].ticket_len = len;
    config[CLIENT].resumption = resumption;
    config[CLIENT].server = "home";
}

void session_run(struct cost *cost)
{
    handshakes(cost);
    wipe_all(cost);
}
