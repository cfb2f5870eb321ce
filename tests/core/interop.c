/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interop PROTOCOL initiator|responder: the engine at one end of a pipe, for interop_dissononce.py.
 *
 * Frames are u16 length || bytes.  In come: prologue, own static private key, the peer's static public key, access key,
 * server name (empty where there is none), then messages.  Out go messages and, after the handshake, its hash and the
 * third output of Split.  Then every transport message is answered with the same text, until the input ends.
 */
#include "core/hkdf.h"
#include "core/noise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_MAX = 65535 };

struct frame {
    uint8_t bytes[FRAME_MAX + 1]; /* and a NUL */
    size_t len;
};

static struct chv_crypto crypto;
static struct chv_dh *key;
static uint8_t key_public[CHV_DH_PUBLIC_MAX];
static struct frame prologue, private_key, peer, access_key, server;

static void die(const char *what, enum chv_err err)
{
    fprintf(stderr, "interop: %s: %s\n", what, chv_err_text(err));
    exit(EXIT_FAILURE);
}

/* false at the end of the input */
static bool get_frame(struct frame *f)
{
    uint8_t head[2];

    if (fread(head, 1, 2, stdin) != 2)
        return false;
    f->len = (size_t)(head[0] << 8 | head[1]);
    if (fread(f->bytes, 1, f->len, stdin) != f->len)
        die("input", CHV_ERR_TRUNCATED);
    f->bytes[f->len] = '\0';
    return true;
}

static void put_frame(const uint8_t *bytes, size_t len)
{
    const uint8_t head[2] = {(uint8_t)(len >> 8), (uint8_t)len};

    if (fwrite(head, 1, 2, stdout) != 2 || fwrite(bytes, 1, len, stdout) != len || fflush(stdout) != 0)
        die("output", CHV_ERR_IO);
}

/* The session PSK of doc/protocol.md, section 2. */
static enum chv_err session_psk(const uint8_t *h_psk, size_t len, uint8_t secret[CHV_KEY_LEN])
{
    uint8_t info[CHV_INFO_MAX];
    size_t info_len;
    enum chv_err err = chv_info_session((const char *)server.bytes, h_psk, len, info, &info_len);

    if (err == CHV_OK)
        err = chv_hkdf_expand(&crypto, CHV_HASH_SHA256, access_key.bytes, access_key.len, info, info_len, secret,
                              CHV_KEY_LEN);
    return err;
}

static void finish_message(struct chv_noise *n)
{
    uint8_t secret[CHV_KEY_LEN];
    const uint8_t *data;
    size_t len;
    bool complete;

    for (;;) {
        enum chv_err err = chv_noise_run(n, &complete);
        if (err != CHV_OK)
            die("handshake", err);
        if (complete)
            return;
        if (chv_noise_need(n, &data, &len) == CHV_NOISE_NEED_DH)
            err = chv_crypto_dh_derive(&crypto, key, data, secret);
        else
            err = session_psk(data, len, secret);
        if (err == CHV_OK)
            err = chv_noise_answer(n, secret);
        if (err != CHV_OK)
            die("long-term key", err);
    }
}

/* Each handshake payload names the message: "message 0" ... */
static void handshake(struct chv_noise *n)
{
    static struct frame f;

    while (!chv_noise_done(n)) {
        char payload[16];
        const size_t payload_len = (size_t)snprintf(payload, sizeof payload, "message %u", n->message);
        if (chv_noise_our_turn(n)) {
            const enum chv_err err = chv_noise_write(n, (const uint8_t *)payload, payload_len, f.bytes, FRAME_MAX);
            if (err != CHV_OK)
                die("write", err);
            finish_message(n);
            put_frame(f.bytes, chv_noise_written(n));
            continue;
        }
        if (!get_frame(&f))
            die("handshake", CHV_ERR_TRUNCATED);
        const enum chv_err err = chv_noise_read(n, f.bytes, f.len);
        if (err != CHV_OK)
            die("read", err);
        finish_message(n);
        size_t len;
        const uint8_t *got = chv_noise_payload(n, &len);
        if (len != payload_len || memcmp(got, payload, len) != 0)
            die("payload of a handshake message", CHV_ERR_MALFORMED);
    }
}

static void transport(struct chv_noise *n)
{
    static struct frame f;
    uint8_t k1[CHV_KEY_LEN], k2[CHV_KEY_LEN];
    uint8_t result[2 * CHV_HASH_MAX];
    uint8_t nonce[CHV_AEAD_NONCE_LEN];
    struct chv_aead *send, *receive;
    const size_t hash_len = n->ss.hash_len;
    const enum chv_aead_alg cipher = n->ss.cipher;

    memcpy(result, n->ss.h, hash_len);
    enum chv_err err = chv_noise_split(n, k1, k2, result + hash_len);
    if (err == CHV_OK)
        err = chv_crypto_aead_new(&crypto, cipher, n->initiator ? k1 : k2, &send);
    if (err == CHV_OK)
        err = chv_crypto_aead_new(&crypto, cipher, n->initiator ? k2 : k1, &receive);
    if (err != CHV_OK)
        die("split", err);
    put_frame(result, hash_len + CHV_KEY_LEN);
    for (uint64_t i = 0; get_frame(&f); i++) {
        if (f.len < CHV_AEAD_TAG_LEN)
            die("transport message", CHV_ERR_MALFORMED);
        chv_noise_nonce(cipher, i, nonce);
        err = chv_crypto_aead_open(&crypto, receive, nonce, NULL, 0, f.bytes, f.len, f.bytes);
        if (err == CHV_OK)
            err = chv_crypto_aead_seal(&crypto, send, nonce, NULL, 0, f.bytes, f.len - CHV_AEAD_TAG_LEN, f.bytes);
        if (err != CHV_OK)
            die("transport message", err);
        put_frame(f.bytes, f.len);
    }
    chv_crypto_aead_free(&crypto, send);
    chv_crypto_aead_free(&crypto, receive);
}

int main(int argc, char **argv)
{
    struct chv_noise_pattern pattern;
    struct chv_noise_config config = {.crypto = &crypto, .pattern = &pattern};
    struct chv_noise n;
    struct chv_why why;

    if (argc != 3 || chv_noise_parse_name(argv[1], &pattern, &config.curve, &config.cipher, &config.hash) != CHV_OK)
        die("usage: interop PROTOCOL initiator|responder", CHV_ERR_ARGUMENT);
    enum chv_err err = chv_backend_open("openssl", &crypto, &why);
    if (err != CHV_OK)
        die(why.text, err);
    if (!get_frame(&prologue) || !get_frame(&private_key) || !get_frame(&peer) || !get_frame(&access_key) ||
        !get_frame(&server))
        die("set-up", CHV_ERR_TRUNCATED);
    if (private_key.len == CHV_DH_PRIVATE_LEN) {
        err = chv_crypto_dh_import(&crypto, config.curve, private_key.bytes, &key, key_public);
        if (err != CHV_OK)
            die("static key", err);
        config.s_public = key_public;
    }
    config.initiator = strcmp(argv[2], "initiator") == 0;
    config.prologue = prologue.bytes;
    config.prologue_len = prologue.len;
    if (peer.len == chv_dh_public_len(config.curve))
        config.rs = peer.bytes;
    err = chv_noise_init(&n, &config);
    if (err != CHV_OK)
        die("start", err);
    handshake(&n);
    transport(&n);
    chv_noise_wipe(&n);
    chv_crypto_dh_free(&crypto, key);
    chv_backend_close(&crypto);
    return EXIT_SUCCESS;
}
