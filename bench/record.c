/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seal and open of records: AES-256-GCM by OpenSSL alone (kept context, only the nonce set), the same through
 * chv_crypto, and whole records through chv_session.  All in place, in turn within one run, over the same buffer.
 * Usage: record [--backend SPEC]
 */
#include "bench/bench.h"
#include "core/credential.h"

#include <chaveiro/backend.h>
#include <chaveiro/session.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#define ROUNDS 7
#define BATCH_BYTES (1u << 20)
#define BATCH_RECORDS_MAX 1024u
#define SECONDS 0.04 /* per way and round, seal and open together */

enum way { RAW, CRYPTO, SESSION, WAYS };

struct bench {
    uint8_t *buf; /* records one after the other, each in a slot of `slot` bytes */
    size_t len;   /* bytes of a message */
    size_t slot;
    size_t count; /* of slots */
    EVP_CIPHER_CTX *raw;
    struct chv_crypto crypto;
    struct chv_aead *aead;
    struct chv_session *client, *server;
    uint64_t nonce;
};

static const uint8_t key[CHV_KEY_LEN] = {1, 2, 3, 4};

static void put_nonce(uint64_t n, uint8_t nonce[CHV_AEAD_NONCE_LEN])
{
    memset(nonce, 0, CHV_AEAD_NONCE_LEN);
    memcpy(nonce + 4, &n, sizeof n);
}

/* ---- one message each way ---- */

static bool raw_seal(struct bench *b, uint8_t *p, uint64_t n)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    int out;
    put_nonce(n, nonce);
    return EVP_EncryptInit_ex2(b->raw, NULL, NULL, nonce, NULL) == 1 &&
           EVP_EncryptUpdate(b->raw, p, &out, p, (int)b->len) == 1 &&
           EVP_EncryptFinal_ex(b->raw, p + b->len, &out) == 1 &&
           EVP_CIPHER_CTX_ctrl(b->raw, EVP_CTRL_AEAD_GET_TAG, CHV_AEAD_TAG_LEN, p + b->len) == 1;
}

static bool raw_open(struct bench *b, uint8_t *p, uint64_t n)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    int out;
    put_nonce(n, nonce);
    return EVP_DecryptInit_ex2(b->raw, NULL, NULL, nonce, NULL) == 1 &&
           EVP_CIPHER_CTX_ctrl(b->raw, EVP_CTRL_AEAD_SET_TAG, CHV_AEAD_TAG_LEN, p + b->len) == 1 &&
           EVP_DecryptUpdate(b->raw, p, &out, p, (int)b->len) == 1 && EVP_DecryptFinal_ex(b->raw, p, &out) == 1;
}

static bool seal(struct bench *b, enum way way, uint8_t *p, uint64_t n)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    size_t frame_len;
    switch (way) {
    case RAW:
        return raw_seal(b, p, n);
    case CRYPTO:
        put_nonce(n, nonce);
        return chv_crypto_aead_seal(&b->crypto, b->aead, nonce, NULL, 0, p, b->len, p) == CHV_OK;
    default:
        return chv_session_seal(b->client, CHV_RECORD_DATA, p, b->len, &frame_len) == CHV_OK;
    }
}

static bool open(struct bench *b, enum way way, uint8_t *p, uint64_t n)
{
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    const uint8_t *body;
    size_t len;
    uint8_t type;
    switch (way) {
    case RAW:
        return raw_open(b, p, n);
    case CRYPTO:
        put_nonce(n, nonce);
        return chv_crypto_aead_open(&b->crypto, b->aead, nonce, NULL, 0, p, b->len + CHV_AEAD_TAG_LEN, p) == CHV_OK;
    default:
        return chv_session_frame(b->server, p, b->slot, &len) == CHV_OK &&
               chv_session_open(b->server, p, len, &type, &body, &len) == CHV_OK;
    }
}

/* Seconds per message. */
static bool measure(struct bench *b, enum way way, double *sealing, double *opening)
{
    size_t passes = 0;
    double seal_time = 0;
    double open_time = 0;
    while (seal_time + open_time < SECONDS) {
        uint64_t first = b->nonce;
        double start = bench_now();
        for (size_t i = 0; i < b->count; i++)
            if (!seal(b, way, b->buf + i * b->slot, first + i))
                return false;
        double middle = bench_now();
        for (size_t i = 0; i < b->count; i++)
            if (!open(b, way, b->buf + i * b->slot, first + i))
                return false;
        open_time += bench_now() - middle;
        seal_time += middle - start;
        b->nonce += b->count;
        passes++;
    }
    *sealing = seal_time / (double)(passes * b->count);
    *opening = open_time / (double)(passes * b->count);
    return true;
}

/* ---- set up ---- */

/* Moves what `from` has to send, answering questions of both with the same PSK. */
static bool step(struct chv_session *from, struct chv_session *to)
{
    const uint8_t *ptr;
    size_t len;
    size_t used;
    if ((chv_session_wants(from) & CHV_WANT_KEY) != 0 && chv_session_key_answer(from, key) != CHV_OK)
        return false;
    while ((chv_session_wants(from) & CHV_WANT_WRITE) != 0) {
        if (chv_session_send_peek(from, &ptr, &len) != CHV_OK || chv_session_recv(to, ptr, len, &used) != CHV_OK ||
            chv_session_send_consume(from, used) != CHV_OK)
            return false;
    }
    return true;
}

static bool connect_sessions(struct bench *b, void *client_memory, void *server_memory)
{
    struct chv_credential credential = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = 1, .id = "bench"};
    uint8_t encoded[CHV_CREDENTIAL_MAX];
    uint8_t frame[CHV_RECORD_HEAD + CHV_RECORD_TAIL];
    struct chv_session_config config = {
        .role = CHV_CLIENT,
        .crypto = &b->crypto,
        .profile = CHV_PROFILE_PSK,
        .suite = CHV_SUITE_X25519_AESGCM_SHA256,
        .credential = encoded,
        .credential_len = sizeof encoded,
        .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
        .suites = CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256),
    };
    const uint8_t *body;
    size_t len;
    uint8_t type;
    if (chv_credential_encode(&credential, encoded, &config.credential_len) != CHV_OK ||
        chv_session_init(client_memory, &config, &b->client, NULL) != CHV_OK)
        return false;
    config.role = CHV_SERVER;
    if (chv_session_init(server_memory, &config, &b->server, NULL) != CHV_OK)
        return false;
    for (int i = 0; i < 4; i++)
        if (!step(b->client, b->server) || !step(b->server, b->client))
            return false;
    return chv_session_seal(b->client, CHV_RECORD_OPEN, frame, 0, &len) == CHV_OK &&
           chv_session_open(b->server, frame, len, &type, &body, &len) == CHV_OK;
}

static bool set_up(struct bench *b, const char *spec, struct chv_why *why)
{
    if (chv_backend_open(spec, &b->crypto, why) != CHV_OK)
        return false;
    b->buf = calloc(3, BATCH_BYTES);
    b->raw = EVP_CIPHER_CTX_new();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    bool ok = b->buf != NULL && b->raw != NULL && cipher != NULL &&
              EVP_EncryptInit_ex2(b->raw, cipher, key, NULL, NULL) == 1 &&
              chv_crypto_aead_new(&b->crypto, CHV_AEAD_AES256GCM, key, &b->aead) == CHV_OK;
    EVP_CIPHER_free(cipher);
    return ok;
}

/* ---- output ---- */

static void print_line(const char *what, size_t len, double times[WAYS][ROUNDS])
{
    double rate[WAYS];
    double ratio[WAYS][ROUNDS];
    for (int w = 0; w < WAYS; w++)
        for (int r = 0; r < ROUNDS; r++)
            ratio[w][r] = times[RAW][r] / times[w][r];
    for (int w = 0; w < WAYS; w++)
        rate[w] = (double)len / bench_median(times[w], ROUNDS) / 1e6;
    printf("%-5s %6zu %11.0f %11.0f %11.0f %10.2f %10.2f\n", what, len, rate[RAW], rate[CRYPTO], rate[SESSION],
           bench_median(ratio[CRYPTO], ROUNDS), bench_median(ratio[SESSION], ROUNDS));
}

static bool run_size(struct bench *b, size_t len)
{
    double sealing[WAYS][ROUNDS];
    double opening[WAYS][ROUNDS];
    b->len = len;
    b->slot = CHV_RECORD_HEAD + len + CHV_RECORD_TAIL;
    b->count = BATCH_BYTES / len;
    if (b->count > BATCH_RECORDS_MAX)
        b->count = BATCH_RECORDS_MAX;
    for (int r = 0; r < ROUNDS; r++)
        for (int w = 0; w < WAYS; w++)
            if (!measure(b, (enum way)w, &sealing[w][r], &opening[w][r]))
                return false;
    print_line("seal", len, sealing);
    print_line("open", len, opening);
    return true;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {64, 1024, 16384, CHV_RECORD_BODY_MAX};
    const char *spec = argc == 3 && strcmp(argv[1], "--backend") == 0 ? argv[2] : "openssl";
    struct bench b = {0};
    struct chv_why why = {{0}};
    void *client_memory = calloc(1, chv_session_size());
    void *server_memory = calloc(1, chv_session_size());
    bool ok = client_memory != NULL && server_memory != NULL && (argc == 1 || argc == 3) && set_up(&b, spec, &why) &&
              connect_sessions(&b, client_memory, server_memory);
    if (ok)
        printf("record: AES-256-GCM in place, MB/s of CPU time, medians of %d rounds; ratio: to raw\n"
               "%-5s %6s %11s %11s %11s %10s %10s\n",
               ROUNDS, "", "bytes", "raw", "chv_crypto", "session", "crypto/raw", "sess./raw");
    for (size_t i = 0; ok && i < sizeof sizes / sizeof sizes[0]; i++)
        ok = run_size(&b, sizes[i]);
    if (!ok)
        fprintf(stderr, "record: failed %s\n", why.text);
    chv_session_wipe(b.client);
    chv_session_wipe(b.server);
    if (b.aead != NULL)
        chv_crypto_aead_free(&b.crypto, b.aead);
    EVP_CIPHER_CTX_free(b.raw);
    chv_backend_close(&b.crypto);
    free(b.buf);
    free(client_memory);
    free(server_memory);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
