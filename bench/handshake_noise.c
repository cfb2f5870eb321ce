/* SPDX-License-Identifier: Apache-2.0 */
/* NNpsk2 by the engine alone. */
#include "bench/handshake.h"
#include "core/noise.h"

#include <string.h>

static struct chv_noise noise[2][BATCH];
static uint8_t message[BATCH][256];
static size_t message_len[BATCH];
static struct chv_noise_pattern pattern;
static struct chv_noise_config config;

void noise_open(const struct chv_crypto *crypto, const char *arg)
{
    config = (struct chv_noise_config){
        .crypto = crypto, .name = arg, .pattern = &pattern, .prologue = (const uint8_t *)"hello", .prologue_len = 5};
    require(chv_noise_parse_name(arg, &pattern, &config.curve, &config.cipher, &config.hash) == CHV_OK, arg);
}

void noise_close(void)
{
}

static void finish(struct chv_noise *n)
{
    static const uint8_t psk[CHV_KEY_LEN] = {1};
    bool complete;

    require(chv_noise_run(n, &complete) == CHV_OK, "noise run");
    if (!complete)
        require(chv_noise_answer(n, psk) == CHV_OK && chv_noise_run(n, &complete) == CHV_OK && complete,
                "noise answer");
}

static void write_all(int side)
{
    for (int i = 0; i < BATCH; i++) {
        require(chv_noise_write(&noise[side][i], NULL, 0, message[i], sizeof message[i]) == CHV_OK, "noise write");
        finish(&noise[side][i]);
        message_len[i] = chv_noise_written(&noise[side][i]);
    }
}

static void read_all(int side)
{
    for (int i = 0; i < BATCH; i++) {
        require(chv_noise_read(&noise[side][i], message[i], message_len[i]) == CHV_OK, "noise read");
        finish(&noise[side][i]);
    }
}

static void split_all(int side)
{
    uint8_t k[3][CHV_KEY_LEN];

    for (int i = 0; i < BATCH; i++)
        require(chv_noise_split(&noise[side][i], k[0], k[1], k[2]) == CHV_OK, "noise split");
}

void noise_run(struct cost *cost)
{
    double start = cpu_us();

    for (int side = CLIENT; side <= SERVER; side++) {
        config.initiator = side == CLIENT;
        for (int i = 0; i < BATCH; i++)
            require(chv_noise_init(&noise[side][i], &config) == CHV_OK, "noise init");
        lap(&start, &cost->setup[side]);
    }
    write_all(CLIENT);
    lap(&start, &cost->handshake[CLIENT]);
    read_all(SERVER);
    write_all(SERVER);
    split_all(SERVER);
    lap(&start, &cost->handshake[SERVER]);
    read_all(CLIENT);
    split_all(CLIENT);
    lap(&start, &cost->handshake[CLIENT]);
    for (int side = CLIENT; side <= SERVER; side++) {
        for (int i = 0; i < BATCH; i++)
            chv_noise_wipe(&noise[side][i]);
        lap(&start, &cost->setup[side]);
    }
}
