/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From hello to Split.  Patterns (Noise, 7.5 and 9), with `psk` answered late (doc/protocol.md, section 2):
 *
 *   psk      NNpsk2   -> e                 <- e, ee, psk
 *   key      IK       -> e, es, s, ss      <- e, ee, se
 *   key+psk  IKpsk2   -> e, es, s, ss      <- e, ee, se, psk
 *
 * A session of any profile is resumed by NNpsk2 with the secret of its ticket in the access key's place (section 7).
 */
#include "core/session.h"

#include "base/bytes.h"
#include "base/memory.h"
#include "core/credential.h"
#include "core/hkdf.h"

#include <string.h>

static const char cannot_prove[] =
    "the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)";

void chv_handshake_wipe(struct chv_handshake *h)
{
    if (h->noise_started)
        chv_noise_wipe(&h->noise);
    chv_wipe(h, sizeof *h);
}

enum chv_err chv_handshake_refuse(struct chv_session *s, unsigned code, enum chv_err err, const char *note)
{
    s->error = err;
    s->note = note;
    s->refusal = code;
    s->phase = CHV_PHASE_SEND_REFUSAL;

    struct chv_handshake *h = &s->handshake;
    chv_handshake_wipe(h);
    struct chv_writer w;
    chv_writer_init(&w, h->frame, sizeof h->frame);
    chv_write_u16(&w, CHV_REFUSAL_BODY_LEN);
    chv_write_u8(&w, CHV_REPLY_REFUSED);
    chv_write_u16(&w, (uint16_t)code);
    h->length = w.len;
    return err;
}

/* Nothing has been sent yet, so the client learns whether it was its hello or this side. */
static enum chv_err server_failed(struct chv_session *s, enum chv_err err, const char *note)
{
    const bool hello_is_bad = err == CHV_ERR_MALFORMED || err == CHV_ERR_AUTH;
    return chv_handshake_refuse(s, hello_is_bad ? CHV_REFUSE_MALFORMED : CHV_REFUSE_UNAVAILABLE, err, note);
}

static enum chv_err start_noise(struct chv_session *s, const uint8_t *prologue, size_t prologue_len)
{
    struct chv_handshake *h = &s->handshake;
    struct chv_noise_pattern pattern;
    const enum chv_profile profile = s->resumed ? CHV_PROFILE_PSK : s->profile;
    enum chv_err err = chv_noise_pattern_find(chv_profile_pattern(profile), &pattern);
    if (err != CHV_OK)
        return err;
    const bool initiator = s->role == CHV_CLIENT;
    const struct chv_noise_config config = {
        .crypto = s->crypto,
        .pattern = &pattern,
        .curve = s->parts->curve,
        .cipher = s->parts->aead,
        .hash = s->parts->hash,
        .initiator = initiator,
        .prologue = prologue,
        .prologue_len = prologue_len,
        .s_public = profile != CHV_PROFILE_PSK ? h->identity_public[s->parts->curve] : NULL,
        .rs = initiator && profile != CHV_PROFILE_PSK ? s->peer_public : NULL,
    };
    err = chv_noise_init(&h->noise, &config);
    h->noise_started = err == CHV_OK;
    return err;
}

/* Turns to sending the frame whose body of `body_len` bytes stands behind its length's place. */
static void frame_ready(struct chv_session *s, size_t body_len, enum chv_phase phase)
{
    struct chv_handshake *h = &s->handshake;
    chv_put_u16(h->frame, (uint16_t)body_len);
    h->length = CHV_FRAME_LENGTH_LEN + body_len;
    h->have = 0;
    s->phase = phase;
}

static size_t write_prologue(const struct chv_session *s, const uint8_t *ticket, size_t ticket_len, uint8_t *out)
{
    if (s->resumed)
        return chv_hello_write_prologue(out, CHV_PROFILE_PSK, s->suite, CHV_HELLO_TICKET, ticket, ticket_len);
    if (s->profile == CHV_PROFILE_PSK)
        return chv_hello_write_prologue(out, s->profile, s->suite, CHV_HELLO_CREDENTIAL, s->credential,
                                        s->credential_len);
    return chv_hello_write_prologue(out, s->profile, s->suite, CHV_HELLO_NOTHING, NULL, 0);
}

enum chv_err chv_handshake_start_client(struct chv_session *s, const uint8_t *ticket, size_t ticket_len)
{
    struct chv_handshake *h = &s->handshake;
    uint8_t *prologue = h->frame + CHV_FRAME_LENGTH_LEN;
    const size_t prologue_len = write_prologue(s, ticket, ticket_len, prologue);

    enum chv_err err = start_noise(s, prologue, prologue_len);
    if (err != CHV_OK)
        return chv_session_fail(s, err, "the Noise engine could not start");

    size_t payload_len = 0;
    if (s->profile == CHV_PROFILE_KEY_PSK && !s->resumed) {
        memcpy(h->payload, s->credential, s->credential_len); /* zeros behind it */
        payload_len = CHV_PADDED_CREDENTIAL_LEN;
    }
    h->have = CHV_FRAME_LENGTH_LEN + prologue_len; /* where message 1 begins */
    err = chv_noise_write(&h->noise, h->payload, payload_len, h->frame + h->have, sizeof h->frame - h->have);
    if (err != CHV_OK)
        return chv_session_fail(s, err, "message 1 could not be written");
    return chv_handshake_advance(s);
}

enum chv_err chv_handshake_hello_arrived(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    struct chv_hello hello;
    const char *note = "";
    unsigned code =
        chv_hello_parse(h->frame + CHV_FRAME_LENGTH_LEN, h->length - CHV_FRAME_LENGTH_LEN, &h->served, &hello, &note);
    if (code != 0)
        return chv_handshake_refuse(s, code, code == CHV_REFUSE_VERSION ? CHV_ERR_PROTOCOL : CHV_ERR_MALFORMED, note);
    const struct chv_suite_parts *parts = chv_suite_parts(hello.suite);
    if (hello.kind != CHV_HELLO_TICKET && hello.profile != CHV_PROFILE_PSK && !h->has_identity[parts->curve])
        return chv_handshake_refuse(s, CHV_REFUSE_VERSION, CHV_ERR_PROTOCOL,
                                    "hello: no identity key here for the curve of this suite");
    if (hello.kind == CHV_HELLO_CREDENTIAL) {
        struct chv_credential c;
        if (chv_credential_parse(hello.bytes, hello.bytes_len, &c, NULL) != CHV_OK || c.profile != hello.profile)
            return chv_handshake_refuse(s, CHV_REFUSE_MALFORMED, CHV_ERR_MALFORMED,
                                        "hello: credential malformed or for another profile");
        memcpy(s->credential, hello.bytes, hello.bytes_len);
        s->credential_len = hello.bytes_len;
    } else if (hello.kind == CHV_HELLO_TICKET) {
        s->resumed = true;
        h->ticket = hello.bytes;
        h->ticket_len = hello.bytes_len;
    }
    s->profile = hello.profile;
    s->suite = hello.suite;
    s->parts = parts;

    enum chv_err err = start_noise(s, hello.prologue, hello.prologue_len);
    if (err == CHV_OK)
        err = chv_noise_read(&h->noise, hello.message1, hello.message1_len);
    if (err != CHV_OK)
        return server_failed(s, err, "hello: message 1 could not be read");
    s->phase = CHV_PHASE_OPEN_HELLO;
    return chv_handshake_advance(s);
}

/* Message 1 of key+psk carries the credential, zeros behind it up to 512 bytes. */
static bool take_padded_credential(struct chv_session *s, const uint8_t *payload, size_t len)
{
    struct chv_credential c;
    size_t used;
    if (len != CHV_PADDED_CREDENTIAL_LEN || chv_credential_parse(payload, len, &c, &used) != CHV_OK ||
        c.profile != CHV_PROFILE_KEY_PSK || !chv_is_zero(payload + used, len - used))
        return false;
    memcpy(s->credential, payload, used);
    s->credential_len = used;
    return true;
}

/* key+psk binds the credential to the static key that was just proven; doomed if it names another one. */
static enum chv_err check_identity(struct chv_session *s)
{
    struct chv_credential c;
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
    enum chv_err err = chv_credential_parse(s->credential, s->credential_len, &c, NULL);
    if (err == CHV_OK)
        err = chv_identity_hash(s->crypto, s->parts->curve, s->peer_public, hash);
    if (err != CHV_OK)
        return err;
    s->handshake.doomed = !chv_equal(hash, c.identity_hash, sizeof hash);
    if (s->handshake.doomed)
        s->note = "the credential belongs to another identity key";
    return CHV_OK;
}

/* Server: begins message 2. */
static enum chv_err write_reply(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    struct chv_writer w;
    chv_writer_init(&w, h->payload, sizeof h->payload);
    chv_write_bytes(&w, s->lineage, sizeof s->lineage);
    chv_write_u64(&w, s->server_time);
    chv_write_u16(&w, s->idle_seconds);
    uint8_t *body = h->frame + CHV_FRAME_LENGTH_LEN;
    body[0] = CHV_REPLY_ACCEPTED;
    enum chv_err err = chv_noise_write(&h->noise, h->payload, w.len, body + CHV_REPLY_STATUS_LEN,
                                       CHV_REPLY_BODY_MAX - CHV_REPLY_STATUS_LEN);
    if (err != CHV_OK)
        return server_failed(s, err, "message 2 could not be written");
    s->phase = s->profile == CHV_PROFILE_KEY && !s->resumed ? CHV_PHASE_ASK_PEER : CHV_PHASE_BUILD_REPLY;
    return CHV_OK;
}

/* Server: message 1 is open.  Next the ticket, the allow-list (profile key) or message 2. */
static enum chv_err hello_opened(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    size_t len;
    const uint8_t *payload = chv_noise_payload(&h->noise, &len);
    const bool good = s->profile == CHV_PROFILE_KEY_PSK ? take_padded_credential(s, payload, len) : len == 0;
    if (!good)
        return chv_handshake_refuse(s, CHV_REFUSE_MALFORMED, CHV_ERR_MALFORMED, "hello: payload of message 1");
    if (s->resumed) {
        s->phase = CHV_PHASE_ASK_TICKET;
        return CHV_OK;
    }

    if (s->profile != CHV_PROFILE_PSK) {
        memcpy(s->peer_public, h->noise.rs, chv_dh_public_len(s->parts->curve));
        s->has_peer = true;
    }
    enum chv_err err = CHV_OK;
    if (s->profile == CHV_PROFILE_KEY_PSK)
        err = check_identity(s);
    if (err == CHV_OK)
        err = chv_crypto_random(s->crypto, s->lineage, sizeof s->lineage);
    if (err != CHV_OK)
        return server_failed(s, err, "a random number or digest could not be had");
    s->has_lineage = true;
    return write_reply(s);
}

enum chv_err chv_handshake_ticket_taken(struct chv_session *s)
{
    s->handshake.ticket = NULL;
    enum chv_err err = write_reply(s);
    return err == CHV_OK ? chv_handshake_advance(s) : err;
}

enum chv_err chv_handshake_reply_arrived(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    uint8_t *body = h->frame + CHV_FRAME_LENGTH_LEN;
    const size_t body_len = h->length - CHV_FRAME_LENGTH_LEN;

    if (body[0] == CHV_REPLY_REFUSED && body_len == CHV_REFUSAL_BODY_LEN &&
        chv_refusal_known(chv_get_u16(body + CHV_REPLY_STATUS_LEN))) {
        s->refusal = chv_get_u16(body + CHV_REPLY_STATUS_LEN);
        return chv_session_fail(s, CHV_ERR_REFUSED, "refused in clear: a hint that anyone on the way can forge");
    }
    if (body[0] != CHV_REPLY_ACCEPTED)
        return chv_session_fail(s, CHV_ERR_MALFORMED, "reply: unknown status; not a chaveiro server");
    enum chv_err err = chv_noise_read(&h->noise, body + CHV_REPLY_STATUS_LEN, body_len - CHV_REPLY_STATUS_LEN);
    if (err != CHV_OK)
        return chv_session_fail(s, err, "reply: message 2 could not be read");
    s->phase = CHV_PHASE_OPEN_REPLY;
    return chv_handshake_advance(s);
}

/* Both roles: Split, and the handshake turns into a channel. */
static enum chv_err split(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    uint8_t c2s[CHV_KEY_LEN], s2c[CHV_KEY_LEN], third[CHV_KEY_LEN];
    memcpy(s->h_fin, h->noise.ss.h, sizeof s->h_fin);
    enum chv_err err = chv_noise_split(&h->noise, c2s, s2c, third);
    if (err != CHV_OK)
        return chv_session_fail(s, err, "Split failed");

    chv_handshake_wipe(h);
    struct chv_channel *c = &s->channel;
    const bool client = s->role == CHV_CLIENT;
    memcpy(c->send.key, client ? c2s : s2c, sizeof c->send.key);
    memcpy(c->receive.key, client ? s2c : c2s, sizeof c->receive.key);
    memcpy(c->exporter, third, sizeof c->exporter);
    chv_wipe(c2s, sizeof c2s);
    chv_wipe(s2c, sizeof s2c);
    chv_wipe(third, sizeof third);
    s->has_h_fin = true;
    s->phase = CHV_PHASE_CHANNEL;
    return CHV_OK;
}

/* Client: message 2 is open, so the server has proven the key. */
static enum chv_err reply_opened(struct chv_session *s)
{
    size_t len;
    const uint8_t *payload = chv_noise_payload(&s->handshake.noise, &len);
    struct chv_reader r;
    chv_reader_init(&r, payload, len);
    const uint8_t *lineage = chv_read_bytes(&r, CHV_LINEAGE_LEN);
    const uint64_t server_time = chv_read_u64(&r);
    const uint16_t idle_seconds = chv_read_u16(&r);
    if (r.failed || len > CHV_REPLY_PAYLOAD_MAX)
        return chv_session_fail(s, CHV_ERR_MALFORMED, "reply: payload of message 2");
    memcpy(s->lineage, lineage, sizeof s->lineage);
    s->has_lineage = true;
    s->server_time = server_time;
    s->idle_seconds = idle_seconds;
    return split(s);
}

enum chv_err chv_handshake_sent(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    switch (s->phase) {
    case CHV_PHASE_SEND_HELLO:
        h->have = 0;
        h->length = 0;
        s->phase = CHV_PHASE_READ_REPLY;
        return CHV_OK;
    case CHV_PHASE_SEND_REPLY:
        return split(s);
    default: /* SEND_REFUSAL: the error was set when the refusal was made */
        (void)chv_session_fail(s, s->error, s->note);
        return CHV_OK;
    }
}

/* A message is complete. */
static enum chv_err complete(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    switch (s->phase) {
    case CHV_PHASE_BUILD_HELLO:
        frame_ready(s, h->have - CHV_FRAME_LENGTH_LEN + chv_noise_written(&h->noise), CHV_PHASE_SEND_HELLO);
        return CHV_OK;
    case CHV_PHASE_OPEN_HELLO:
        return hello_opened(s);
    case CHV_PHASE_BUILD_REPLY:
        frame_ready(s, CHV_REPLY_STATUS_LEN + chv_noise_written(&h->noise), CHV_PHASE_SEND_REPLY);
        return CHV_OK;
    default:
        return reply_opened(s);
    }
}

static enum chv_err noise_failed(struct chv_session *s, enum chv_err err)
{
    switch (s->phase) {
    case CHV_PHASE_OPEN_HELLO:
        return server_failed(s, err,
                             "hello: message 1 does not open (changed on the way, or for another identity key)");
    case CHV_PHASE_BUILD_REPLY:
        return server_failed(s, err, "message 2 could not be made");
    case CHV_PHASE_OPEN_REPLY:
        return chv_session_fail(s, err, err == CHV_ERR_AUTH ? cannot_prove : "reply: message 2 could not be read");
    default:
        return chv_session_fail(s, err, "message 1 could not be made");
    }
}

/* A doomed handshake goes on with a PSK that nobody knows, so that it fails exactly as one with a wrong key does. */
static enum chv_err answer_doomed(struct chv_session *s)
{
    uint8_t nobody_knows[CHV_KEY_LEN];
    enum chv_err err = chv_crypto_random(s->crypto, nobody_knows, sizeof nobody_knows);
    if (err == CHV_OK)
        err = chv_noise_answer(&s->handshake.noise, nobody_knows);
    chv_wipe(nobody_knows, sizeof nobody_knows);
    return err;
}

/* The session PSK of a resumed session. */
static enum chv_err answer_resumed(struct chv_session *s, const uint8_t *h_psk, size_t h_psk_len)
{
    struct chv_handshake *h = &s->handshake;
    uint8_t info[CHV_INFO_MAX], psk[CHV_KEY_LEN];
    size_t info_len = 0;
    enum chv_err err = chv_info_session(h->server, h_psk, h_psk_len, info, &info_len);
    if (err == CHV_OK)
        err = chv_hkdf_expand(s->crypto, CHV_HASH_SHA256, h->resumption, sizeof h->resumption, info, info_len, psk,
                              sizeof psk);
    chv_wipe(h->resumption, sizeof h->resumption);
    if (err == CHV_OK)
        err = chv_noise_answer(&h->noise, psk);
    chv_wipe(psk, sizeof psk);
    return err;
}

enum chv_err chv_handshake_advance(struct chv_session *s)
{
    struct chv_handshake *h = &s->handshake;
    while (s->phase == CHV_PHASE_BUILD_HELLO || s->phase == CHV_PHASE_OPEN_HELLO || s->phase == CHV_PHASE_BUILD_REPLY ||
           s->phase == CHV_PHASE_OPEN_REPLY) {
        bool done = false;
        enum chv_err err = chv_noise_run(&h->noise, &done);
        const uint8_t *data;
        size_t len;
        const enum chv_noise_need need =
            err == CHV_OK ? chv_noise_need(&h->noise, &data, &len) : CHV_NOISE_NEED_NOTHING;
        if (err == CHV_OK && need == CHV_NOISE_NEED_PSK && h->doomed) {
            err = answer_doomed(s);
        } else if (err == CHV_OK && need == CHV_NOISE_NEED_PSK && s->resumed) {
            err = answer_resumed(s, data, len);
        } else if (err == CHV_OK && need != CHV_NOISE_NEED_NOTHING) {
            return CHV_OK;
        }
        if (err != CHV_OK)
            return noise_failed(s, err);
        if (done)
            err = complete(s);
        if (err != CHV_OK)
            return err;
    }
    return CHV_OK;
}
