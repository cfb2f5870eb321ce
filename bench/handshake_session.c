/* SPDX-License-Identifier: Apache-2.0 */
/* A session of profile psk, from hello to the client's OPEN.  The PSK comes from elsewhere, as from the keeper process. */
#include "bench/handshake.h"
#include "core/credential.h"

#include <chaveiro/session.h>

#include <stdlib.h>
#include <string.h>

static struct chv_session_config config[2];
static void *memory[2][BATCH];
static struct chv_session *session[2][BATCH];
static uint8_t frame[BATCH][CHV_FIRST_FRAME_MAX];
static size_t frame_len[BATCH];
static uint8_t credential[CHV_CREDENTIAL_MAX];
static session_keeper *keeper;

void session_set_keeper(session_keeper *k)
{
    keeper = k;
}

void session_open(const struct chv_crypto *crypto, const char *arg)
{
    static struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = 1, .id = "camera-1"};
    enum chv_suite suite = CHV_SUITE_X25519_AESGCM_SHA256;
    size_t len = sizeof credential;

    require(chv_suite_find(arg, &suite) == CHV_OK, arg);
    require(chv_credential_add_scope(&c, "message") == CHV_OK && chv_credential_encode(&c, credential, &len) == CHV_OK,
            "credential");
    config[CLIENT] = (struct chv_session_config){.role = CHV_CLIENT,
                                                 .crypto = crypto,
                                                 .profile = CHV_PROFILE_PSK,
                                                 .suite = suite,
                                                 .credential = credential,
                                                 .credential_len = len};
    config[SERVER] = (struct chv_session_config){.role = CHV_SERVER,
                                                 .crypto = crypto,
                                                 .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
                                                 .suites = CHV_SUITE_BIT(suite),
                                                 .now = 1800000000};
    for (int i = 0; i < 2 * BATCH; i++) {
        memory[i / BATCH][i % BATCH] = malloc(chv_session_size());
        require(memory[i / BATCH][i % BATCH] != NULL, "memory");
    }
}

void session_close(void)
{
    for (int i = 0; i < 2 * BATCH; i++)
        free(memory[i / BATCH][i % BATCH]);
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

static void answer_all(int side)
{
    static uint8_t psk[BATCH][CHV_KEY_LEN] = {{1}}; /* the client has the server's */
    struct chv_key_request request[BATCH];

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

void session_run(struct cost *cost)
{
    double start = cpu_us();

    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            require(chv_session_init(memory[side][i], &config[side], &session[side][i], NULL) == CHV_OK, "session");
        /* a client's hello is made here: it belongs to the handshake */
        lap(&start, side == CLIENT ? &cost->handshake[CLIENT] : &cost->setup[SERVER]);
    }
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
    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            chv_session_wipe(session[side][i]);
        lap(&start, &cost->setup[side]);
    }
}
