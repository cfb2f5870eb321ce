/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noise-vectors [--backend SPEC] FILE...: runs both sides of every Noise test vector through the engine.
 * Schema: the JSON of cacophony and snow ("protocol_name" or "name", hex strings).
 */
#include "base/encode.h"
#include "base/memory.h"
#include "core/noise.h"
#include "tests/support/test_backend.h"

#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PSKS_MAX = 8, PROLOGUE_MAX = 4096, INITIATOR = 0, RESPONDER = 1 };

struct text {
    uint8_t bytes[CHV_NOISE_MESSAGE_MAX];
    size_t len;
};

/* One side of a vector, and of the handshake that is run from it. */
struct side {
    uint8_t prologue[PROLOGUE_MAX];
    size_t prologue_len;
    uint8_t psks[PSKS_MAX][CHV_KEY_LEN];
    size_t psk_count, psks_used;
    bool has_static, has_ephemeral, has_remote;
    uint8_t static_private[CHV_DH_PRIVATE_LEN];
    uint8_t ephemeral[1][CHV_DH_PRIVATE_LEN];
    uint8_t remote[CHV_DH_PUBLIC_MAX];
    struct chv_noise noise;
    struct test_fixed fixed;
    struct chv_dh *key;
    uint8_t key_public[CHV_DH_PUBLIC_MAX];
    struct chv_aead *send, *receive;
    uint64_t sent, received;
};

struct vector {
    const char *file;
    size_t number; /* in its file, from 1 */
    const char *name;
    struct chv_noise_pattern pattern;
    enum chv_curve curve;
    enum chv_aead_alg cipher;
    enum chv_hash hash;
    struct side side[2];
};

static unsigned passed, failed, skipped;

static void report(const char *what, const struct vector *v, const char *format, ...) CHV_PRINTF(3, 4);

static void report(const char *what, const struct vector *v, const char *format, ...)
{
    va_list args;

    printf("%s: %s: vector %zu (%s): ", what, v->file, v->number, v->name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static bool bad(const struct vector *v, const char *key)
{
    report("FAIL", v, "%s is missing, no hex string or of a wrong length", key);
    return false;
}

/* *there says whether the key is given; false if it is given and is no hex string of min to max bytes. */
static bool get_hex(const json_t *hex, uint8_t *out, size_t min, size_t max, size_t *len, bool *there)
{
    const char *s = json_string_value(hex);

    *len = max;
    *there = hex != NULL && !json_is_null(hex);
    if (!*there)
        return true;
    return s != NULL && chv_hex_decode(s, strlen(s), out, len) == CHV_OK && *len >= min;
}

static const json_t *member(const json_t *json, int side, const char *key)
{
    char name[64];

    snprintf(name, sizeof name, "%s_%s", side == INITIATOR ? "init" : "resp", key);
    return json_object_get(json, name);
}

static bool load_side(const struct vector *v, int which, const json_t *json, struct side *s)
{
    const json_t *psks = member(json, which, "psks");
    const json_t *psk;
    const size_t public_len = chv_dh_public_len(v->curve);
    size_t i;
    size_t len;
    bool there;

    if (!get_hex(member(json, which, "prologue"), s->prologue, 0, sizeof s->prologue, &s->prologue_len, &there))
        return bad(v, "prologue");
    if (!there)
        s->prologue_len = 0;
    json_array_foreach(psks, i, psk)
    {
        if (i == PSKS_MAX || !get_hex(psk, s->psks[i], CHV_KEY_LEN, CHV_KEY_LEN, &len, &there) || !there)
            return bad(v, "psks");
        s->psk_count++;
    }
    if (!get_hex(member(json, which, "static"), s->static_private, CHV_DH_PRIVATE_LEN, CHV_DH_PRIVATE_LEN, &len,
                 &s->has_static))
        return bad(v, "static");
    if (!get_hex(member(json, which, "ephemeral"), s->ephemeral[0], CHV_DH_PRIVATE_LEN, CHV_DH_PRIVATE_LEN, &len,
                 &s->has_ephemeral))
        return bad(v, "ephemeral");
    if (!get_hex(member(json, which, "remote_static"), s->remote, public_len, public_len, &len, &s->has_remote))
        return bad(v, "remote_static");
    return true;
}

static bool start_side(const struct vector *v, int which, const struct chv_crypto *crypto, struct side *s)
{
    const bool remote_known = which == INITIATOR ? v->pattern.pre_responder : v->pattern.pre_initiator;

    if (remote_known && !s->has_remote)
        return bad(v, "remote_static");
    test_fixed_init(&s->fixed, crypto, s->ephemeral, s->has_ephemeral ? 1 : 0);
    if (s->has_static && chv_crypto_dh_import(crypto, v->curve, s->static_private, &s->key, s->key_public) != CHV_OK)
        return bad(v, "static");
    const struct chv_noise_config config = {
        .crypto = &s->fixed.crypto,
        .name = v->name,
        .pattern = &v->pattern,
        .curve = v->curve,
        .cipher = v->cipher,
        .hash = v->hash,
        .initiator = which == INITIATOR,
        .prologue = s->prologue,
        .prologue_len = s->prologue_len,
        .s_public = s->has_static ? s->key_public : NULL,
        .rs = remote_known ? s->remote : NULL,
    };
    const enum chv_err err = chv_noise_init(&s->noise, &config);
    if (err != CHV_OK)
        report("FAIL", v, "cannot start: %s", chv_err_text(err));
    return err == CHV_OK;
}

static void stop_side(const struct chv_crypto *crypto, struct side *s)
{
    chv_noise_wipe(&s->noise);
    chv_crypto_dh_free(crypto, s->key);
    chv_crypto_aead_free(crypto, s->send);
    chv_crypto_aead_free(crypto, s->receive);
}

/* Runs the message under way to its end and answers what it asks for. */
static enum chv_err finish_message(const struct chv_crypto *crypto, struct side *s)
{
    uint8_t secret[CHV_KEY_LEN];
    const uint8_t *data;
    size_t len;
    bool complete;

    for (;;) {
        enum chv_err err = chv_noise_run(&s->noise, &complete);
        if (err != CHV_OK || complete)
            return err;
        if (chv_noise_need(&s->noise, &data, &len) == CHV_NOISE_NEED_DH) {
            err = s->key == NULL ? CHV_ERR_KEY : chv_crypto_dh_derive(crypto, s->key, data, secret);
        } else if (s->psks_used == s->psk_count) {
            err = CHV_ERR_KEY;
        } else {
            memcpy(secret, s->psks[s->psks_used++], sizeof secret);
        }
        if (err == CHV_OK)
            err = chv_noise_answer(&s->noise, secret);
        if (err != CHV_OK)
            return err;
    }
}

/* Message i is written and compared with the vector's; then the vector's own is read. */
static bool run_handshake_message(const struct vector *v, size_t i, const struct chv_crypto *crypto, struct side *from,
                                  struct side *to, const struct text *payload, struct text *ciphertext)
{
    static uint8_t out[CHV_NOISE_MESSAGE_MAX];
    enum chv_err err = chv_noise_write(&from->noise, payload->bytes, payload->len, out, sizeof out);

    if (err == CHV_OK)
        err = finish_message(crypto, from);
    if (err != CHV_OK) {
        report("FAIL", v, "message %zu: write: %s", i, chv_err_text(err));
        return false;
    }
    if (chv_noise_written(&from->noise) != ciphertext->len || memcmp(out, ciphertext->bytes, ciphertext->len) != 0) {
        report("FAIL", v, "message %zu: ciphertext differs", i);
        return false;
    }
    err = chv_noise_read(&to->noise, ciphertext->bytes, ciphertext->len);
    if (err == CHV_OK)
        err = finish_message(crypto, to);
    if (err != CHV_OK) {
        report("FAIL", v, "message %zu: read: %s", i, chv_err_text(err));
        return false;
    }
    size_t len;
    const uint8_t *got = chv_noise_payload(&to->noise, &len);
    if (len != payload->len || memcmp(got, payload->bytes, len) != 0) {
        report("FAIL", v, "message %zu: payload differs", i);
        return false;
    }
    return true;
}

static bool run_transport_message(const struct vector *v, size_t i, const struct chv_crypto *crypto, struct side *from,
                                  struct side *to, const struct text *payload, struct text *ciphertext)
{
    static uint8_t out[CHV_NOISE_MESSAGE_MAX];
    uint8_t nonce[CHV_AEAD_NONCE_LEN];

    if (ciphertext->len != payload->len + CHV_AEAD_TAG_LEN) {
        report("FAIL", v, "message %zu: lengths of payload and ciphertext do not fit", i);
        return false;
    }
    chv_noise_nonce(v->cipher, from->sent++, nonce);
    if (chv_crypto_aead_seal(crypto, from->send, nonce, NULL, 0, payload->bytes, payload->len, out) != CHV_OK ||
        memcmp(out, ciphertext->bytes, ciphertext->len) != 0) {
        report("FAIL", v, "message %zu: ciphertext differs", i);
        return false;
    }
    chv_noise_nonce(v->cipher, to->received++, nonce);
    if (chv_crypto_aead_open(crypto, to->receive, nonce, NULL, 0, ciphertext->bytes, ciphertext->len, out) != CHV_OK ||
        memcmp(out, payload->bytes, payload->len) != 0) {
        report("FAIL", v, "message %zu: payload differs", i);
        return false;
    }
    return true;
}

/* Compares h and makes the transport keys of one side. */
static bool split_side(const struct vector *v, int which, const struct chv_crypto *crypto, const json_t *json,
                       struct side *s)
{
    uint8_t hash[CHV_HASH_MAX];
    uint8_t k1[CHV_KEY_LEN];
    uint8_t k2[CHV_KEY_LEN];
    uint8_t third[CHV_KEY_LEN];
    const size_t hash_len = chv_hash_len(v->hash);
    size_t len;
    bool there;

    if (!get_hex(json_object_get(json, "handshake_hash"), hash, hash_len, hash_len, &len, &there))
        return bad(v, "handshake_hash");
    if (there && memcmp(hash, s->noise.ss.h, hash_len) != 0) {
        report("FAIL", v, "handshake hash of the %s differs", which == INITIATOR ? "initiator" : "responder");
        return false;
    }
    if (s->psks_used != s->psk_count) {
        report("FAIL", v, "%zu psks given, %zu used", s->psk_count, s->psks_used);
        return false;
    }
    if (!chv_noise_done(&s->noise) || chv_noise_split(&s->noise, k1, k2, third) != CHV_OK ||
        chv_crypto_aead_new(crypto, v->cipher, which == INITIATOR ? k1 : k2, &s->send) != CHV_OK ||
        chv_crypto_aead_new(crypto, v->cipher, which == INITIATOR ? k2 : k1, &s->receive) != CHV_OK) {
        report("FAIL", v, "cannot split");
        return false;
    }
    return true;
}

static bool get_text(const struct vector *v, const json_t *message, const char *key, struct text *text)
{
    bool there;

    if (!get_hex(json_object_get(message, key), text->bytes, 0, sizeof text->bytes, &text->len, &there) || !there)
        return bad(v, key);
    return true;
}

static bool run_message(struct vector *v, size_t i, const struct chv_crypto *crypto, const json_t *message)
{
    static struct text payload;
    static struct text ciphertext;
    const int sender = v->pattern.one_way || i % 2 == 0 ? INITIATOR : RESPONDER;
    struct side *from = &v->side[sender];
    struct side *to = &v->side[1 - sender];

    if (!get_text(v, message, "payload", &payload) || !get_text(v, message, "ciphertext", &ciphertext))
        return false;
    if (i < v->pattern.messages)
        return run_handshake_message(v, i, crypto, from, to, &payload, &ciphertext);
    return run_transport_message(v, i, crypto, from, to, &payload, &ciphertext);
}

static bool run_messages(struct vector *v, const struct chv_crypto *crypto, const json_t *json)
{
    const json_t *messages = json_object_get(json, "messages");
    bool ok = true;
    size_t i;

    if (json_array_size(messages) < v->pattern.messages) {
        report("FAIL", v, "fewer messages than the handshake has");
        return false;
    }
    for (i = 0; ok && i < v->pattern.messages; i++)
        ok = run_message(v, i, crypto, json_array_get(messages, i));
    ok = ok && split_side(v, INITIATOR, crypto, json, &v->side[INITIATOR]) &&
         split_side(v, RESPONDER, crypto, json, &v->side[RESPONDER]);
    for (; ok && i < json_array_size(messages); i++)
        ok = run_message(v, i, crypto, json_array_get(messages, i));
    return ok;
}

static void run_vector(const char *file, size_t number, const struct chv_crypto *crypto, const json_t *json)
{
    static struct vector v;
    const char *name = json_string_value(json_object_get(json, "protocol_name"));

    if (name == NULL)
        name = json_string_value(json_object_get(json, "name"));
    v = (struct vector){.file = file, .number = number, .name = name != NULL ? name : "no name"};
    if (name == NULL) {
        report("FAIL", &v, "neither protocol_name nor name is a string");
        failed++;
        return;
    }
    if (chv_noise_parse_name(name, &v.pattern, &v.curve, &v.cipher, &v.hash) != CHV_OK) {
        report("SKIP", &v, "the engine has no such pattern, modifier, DH, cipher or hash");
        skipped++;
        return;
    }
    const uint32_t needed[] = {CHV_CAP_CURVE(v.curve), CHV_CAP_AEAD(v.cipher), CHV_CAP_HASH(v.hash)};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if ((crypto->capabilities & needed[i]) == 0) {
            static const char *const what[] = {"DH", "cipher", "hash"};
            report("SKIP", &v, "backend %s lacks the %s. %s", crypto->backend->name, what[i],
                   chv_crypto_lacks(crypto, needed[i]));
            skipped++;
            return;
        }
    bool ok = true;
    for (int i = INITIATOR; ok && i <= RESPONDER; i++)
        ok = load_side(&v, i, json, &v.side[i]) && start_side(&v, i, crypto, &v.side[i]);
    ok = ok && run_messages(&v, crypto, json);
    stop_side(crypto, &v.side[INITIATOR]);
    stop_side(crypto, &v.side[RESPONDER]);
    ok ? passed++ : failed++;
}

/* false if the file cannot be read or has no vectors. */
static bool run_file(const char *file, const struct chv_crypto *crypto)
{
    json_error_t error;
    json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
    const json_t *vectors = json_object_get(root, "vectors");
    size_t i;

    if (root == NULL)
        fprintf(stderr, "noise-vectors: %s: line %d: %s\n", file, error.line, error.text);
    else if (json_array_size(vectors) == 0)
        fprintf(stderr, "noise-vectors: %s: no \"vectors\" in it\n", file);
    for (i = 0; i < json_array_size(vectors); i++)
        run_vector(file, i + 1, crypto, json_array_get(vectors, i));
    json_decref(root);
    return i > 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"backend", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: noise-vectors [--backend SPEC] FILE...\n";
    const char *backend = "openssl";
    struct chv_crypto crypto = {0};
    struct chv_why why;
    bool read_all = true;
    int option;

    while ((option = getopt_long(argc, argv, "b:h", options, NULL)) != -1) {
        if (option == 'b') {
            backend = optarg;
        } else {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? EXIT_SUCCESS : EXIT_FAILURE;
        }
    }
    if (optind == argc) {
        fputs(usage, stderr);
        return EXIT_FAILURE;
    }
    if (chv_backend_open(backend, &crypto, &why) != CHV_OK) {
        fprintf(stderr, "noise-vectors: backend %s: %s\n", backend, why.text);
        return EXIT_FAILURE;
    }
    for (int i = optind; i < argc; i++)
        if (!run_file(argv[i], &crypto))
            read_all = false;
    chv_backend_close(&crypto);
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return read_all && failed == 0 && passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
