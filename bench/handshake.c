/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake [REPETITIONS]: CPU time of a handshake per side, in memory, in one thread, beside what its primitives cost
 * alone and beside OpenSSL's TLS 1.3.  Medians of interleaved repetitions.
 */
#include "bench/handshake.h"

#include "bench/bench.h"
#include "core/hkdf.h"

#include <stdio.h>

enum { ROUNDS = 40, REPETITIONS = 7, REPETITIONS_MAX = 99, HMACS = 15 };

enum { PRIMITIVES_DH, PRIMITIVES_HMAC, NOISE, SESSION, DERIVED, RESUMED, KEY, KEY_PSK, TLS_256, TLS_128, SUBJECTS };

static struct chv_crypto crypto;

void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench/handshake: %s failed\n", what);
        exit(EXIT_FAILURE);
    }
}

double cpu_us(void)
{
    return bench_now() * 1e6;
}

void lap(double *start, double *sum)
{
    const double now = cpu_us();

    *sum += now - *start;
    *start = now;
}

static void crypto_open(const struct chv_crypto *c, const char *arg)
{
    (void)c;
    (void)arg;
}

static void crypto_close(void)
{
}

/* One key pair and one agreement: a side's share of ee. */
static void dh_run(struct cost *cost)
{
    static uint8_t peer[CHV_DH_PUBLIC_MAX];
    static struct chv_dh *peer_key;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
    uint8_t shared[CHV_KEY_LEN];

    if (peer_key == NULL)
        require(chv_crypto_dh_generate(&crypto, CHV_CURVE_25519, &peer_key, peer) == CHV_OK, "dh_generate");
    double start = cpu_us();
    for (int i = 0; i < BATCH; i++) {
        struct chv_dh *key;
        require(chv_crypto_dh_generate(&crypto, CHV_CURVE_25519, &key, public_key) == CHV_OK, "dh_generate");
        require(chv_crypto_dh_derive(&crypto, key, peer, shared) == CHV_OK, "dh_derive");
        chv_crypto_dh_free(&crypto, key);
    }
    lap(&start, &cost->handshake[SERVER]);
    chv_crypto_dh_free(&crypto, peer_key);
    peer_key = NULL;
}

/* The HMACs of a responder, each with the key that the one before gave. */
static void hmac_run(struct cost *cost)
{
    uint8_t key[CHV_HASH_MAX] = {1};
    uint8_t data[CHV_KEY_LEN + 1] = {1};
    double start = cpu_us();

    for (int i = 0; i < BATCH * HMACS; i++) {
        const struct chv_part part = {data, sizeof data};
        require(chv_crypto_hmac(&crypto, CHV_HASH_SHA256, key, CHV_KEY_LEN, &part, 1, key) == CHV_OK, "hmac");
    }
    lap(&start, &cost->handshake[SERVER]);
}

static void expand(const uint8_t *key, const uint8_t *info, size_t info_len, uint8_t *out)
{
    require(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, CHV_KEY_LEN, info, info_len, out, CHV_KEY_LEN) == CHV_OK,
            "derivation");
}

/* What a keeper computes for a session PSK, without its process: two HMACs. */
static void derive(const struct chv_key_request *request, uint8_t psk[][CHV_KEY_LEN])
{
    static const uint8_t master[CHV_KEY_LEN] = {1};
    uint8_t info[CHV_INFO_MAX], access[CHV_KEY_LEN];
    size_t len = 0;

    for (int i = 0; i < BATCH; i++) {
        require(chv_info_access(request[i].credential, request[i].credential_len, info, &len) == CHV_OK, "derivation");
        expand(master, info, len, access);
        require(chv_info_session("home", request[i].h_psk, request[i].h_psk_len, info, &len) == CHV_OK, "derivation");
        expand(access, info, len, psk[i]);
    }
}

static void derived_open(const struct chv_crypto *c, const char *arg)
{
    session_open(c, arg);
    session_set_keeper(derive);
}

static void derived_close(void)
{
    session_set_keeper(NULL);
    session_close();
}

static const struct subject subjects[SUBJECTS] = {
    [PRIMITIVES_DH] = {"X25519 key pair + derive", crypto_open, dh_run, crypto_close, NULL},
    [PRIMITIVES_HMAC] = {"15 HMAC-SHA256", crypto_open, hmac_run, crypto_close, NULL},
    [NOISE] = {"Noise engine, NNpsk2", noise_open, noise_run, noise_close, "Noise_NNpsk2_25519_AESGCM_SHA256"},
    [SESSION] = {"session, profile psk, with OPEN", session_open, session_run, session_close, "x25519-aesgcm-sha256"},
    [DERIVED] = {"the same, its key derived here", derived_open, session_run, derived_close, "x25519-aesgcm-sha256"},
    [RESUMED] = {"session resumed, with its ticket", session_resumed_open, session_run, session_close,
                 "x25519-aesgcm-sha256"},
    [KEY] = {"session, profile key, with OPEN", session_key_open, session_run, session_close, "x25519-aesgcm-sha256"},
    [KEY_PSK] = {"session, profile key+psk, with OPEN", session_key_psk_open, session_run, session_close,
                 "x25519-aesgcm-sha256"},
    [TLS_256] = {"TLS 1.3 PSK, AES-256-GCM/SHA-384", tls_open, tls_run, tls_close, "TLS_AES_256_GCM_SHA384"},
    [TLS_128] = {"TLS 1.3 PSK, AES-128-GCM/SHA-256", tls_open, tls_run, tls_close, "TLS_AES_128_GCM_SHA256"},
};

/* One repetition of one subject; columns: client, server, client and server with set-up. */
static void measure(const struct subject *s, double columns[4])
{
    struct cost cost = {{0}, {0}};

    s->open(&crypto, s->arg);
    s->run(&cost); /* caches and lazily fetched algorithms */
    cost = (struct cost){{0}, {0}};
    for (int i = 0; i < ROUNDS; i++)
        s->run(&cost);
    s->close();
    for (int side = CLIENT; side <= SERVER; side++) {
        columns[side] = cost.handshake[side] / (ROUNDS * BATCH);
        columns[2 + side] = (cost.handshake[side] + cost.setup[side]) / (ROUNDS * BATCH);
    }
}

static void print_ratio(const char *what, double ratio, double aim)
{
    printf("%-58s %5.2f   (aim: at most %.1f)\n", what, ratio, aim);
}

int main(int argc, char **argv)
{
    static double values[SUBJECTS][4][REPETITIONS_MAX];
    double result[SUBJECTS][4];
    struct chv_why why;
    const long repetitions = argc > 1 ? strtol(argv[1], NULL, 10) : REPETITIONS;

    if (repetitions < 1 || repetitions > REPETITIONS_MAX) {
        fprintf(stderr, "usage: handshake [REPETITIONS]    1 to %d, default %d\n", REPETITIONS_MAX, REPETITIONS);
        return EXIT_FAILURE;
    }
    require(chv_backend_open("openssl", &crypto, &why) == CHV_OK, "backend openssl");
    for (long r = 0; r < repetitions; r++)
        for (int s = 0; s < SUBJECTS; s++) {
            double columns[4];
            measure(&subjects[s], columns);
            for (int c = 0; c < 4; c++)
                values[s][c][r] = columns[c];
        }
    chv_backend_close(&crypto);

    printf("handshake: CPU us per side, medians of %ld interleaved repetitions of %d, backend openssl\n", repetitions,
           ROUNDS * BATCH);
    printf("%-36s %8s %8s   with set-up: %8s %8s\n", "", "client", "server", "client", "server");
    for (int s = 0; s < SUBJECTS; s++) {
        for (int c = 0; c < 4; c++)
            result[s][c] = bench_median(values[s][c], (size_t)repetitions);
        if (s <= PRIMITIVES_HMAC)
            printf("%-36s %8s %8.1f\n", subjects[s].name, "", result[s][SERVER]);
        else
            printf("%-36s %8.1f %8.1f   %21.1f %8.1f\n", subjects[s].name, result[s][CLIENT], result[s][SERVER],
                   result[s][2], result[s][3]);
    }
    const double floor_us = result[PRIMITIVES_DH][SERVER] + result[PRIMITIVES_HMAC][SERVER];
    putchar('\n');
    print_ratio("Noise responder : its primitives", result[NOISE][SERVER] / floor_us, 1.3);
    print_ratio("Noise responder : TLS server, AES-256-GCM/SHA-384", result[NOISE][SERVER] / result[TLS_256][SERVER],
                0.6);
    print_ratio("Noise responder : TLS server, AES-128-GCM/SHA-256", result[NOISE][SERVER] / result[TLS_128][SERVER],
                0.6);
    print_ratio("session, server : its primitives", result[SESSION][SERVER] / floor_us, 1.3);
    print_ratio("session, server : TLS server, AES-256-GCM/SHA-384", result[SESSION][SERVER] / result[TLS_256][SERVER],
                0.6);
    print_ratio("session, server : TLS server, AES-128-GCM/SHA-256", result[SESSION][SERVER] / result[TLS_128][SERVER],
                0.6);
    print_ratio("the same with set-up, AES-256-GCM/SHA-384", result[SESSION][3] / result[TLS_256][3], 0.6);
    /* A ticket costs what the keeper's derivation costs; what resuming saves is the keeper process, and identity keys. */
    printf("%-58s %5.2f\n", "session resumed, server : full, psk, its key derived here",
           result[RESUMED][SERVER] / result[DERIVED][SERVER]);
    print_ratio("session resumed, server : full, key", result[RESUMED][SERVER] / result[KEY][SERVER], 0.9);
    print_ratio("session resumed, server : full, key+psk", result[RESUMED][SERVER] / result[KEY_PSK][SERVER], 0.9);
    return EXIT_SUCCESS;
}
