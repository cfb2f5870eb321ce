/* SPDX-License-Identifier: Apache-2.0 */
/* Records after Split: who may send what, and when (doc/protocol.md, section 5). */
#include "core/session.h"

#include "base/memory.h"
#include "core/hkdf.h"

enum { CHV_EXPORT_CONTEXT_MAX = 512 };
enum { BY_CLIENT = 1, BY_SERVER = 2, BY_BOTH = BY_CLIENT | BY_SERVER };

/* Who sends a type; 0: reserved. */
static unsigned senders(uint8_t type)
{
    static const uint8_t table[CHV_RECORD_SERVICE] = {
        [CHV_RECORD_DATA] = BY_BOTH,          [CHV_RECORD_END] = BY_BOTH,        [CHV_RECORD_OPEN] = BY_CLIENT,
        [CHV_RECORD_STATUS] = BY_SERVER,      [CHV_RECORD_TICKET] = BY_SERVER,   [CHV_RECORD_KEY_UPDATE] = BY_SERVER,
        [CHV_RECORD_KEY_UPDATED] = BY_CLIENT, [CHV_RECORD_REDIRECT] = BY_SERVER, [CHV_RECORD_PING] = BY_BOTH,
        [CHV_RECORD_PONG] = BY_BOTH,          [CHV_RECORD_CLOSE] = BY_BOTH,
    };
    return type >= CHV_RECORD_SERVICE ? BY_BOTH : table[type];
}

static unsigned own_bit(const struct chv_session *s)
{
    return s->role == CHV_CLIENT ? BY_CLIENT : BY_SERVER;
}

void chv_channel_wipe(struct chv_channel *c, const struct chv_crypto *crypto)
{
    chv_direction_wipe(&c->send, crypto);
    chv_direction_wipe(&c->receive, crypto);
    chv_wipe(c, sizeof *c);
}

static enum chv_err in_channel(const struct chv_session *s)
{
    if (s->error != CHV_OK)
        return s->error;
    return s->phase == CHV_PHASE_CHANNEL ? CHV_OK : CHV_ERR_STATE;
}

enum chv_err chv_session_frame(struct chv_session *s, const uint8_t *buf, size_t len, size_t *frame_len)
{
    enum chv_err err = in_channel(s);
    if (err != CHV_OK)
        return err;
    if (len < CHV_FRAME_LENGTH_LEN) {
        *frame_len = 0;
        return CHV_OK;
    }
    const size_t total = CHV_FRAME_LENGTH_LEN + (size_t)chv_get_u16(buf);
    const bool unproven = s->role == CHV_SERVER && !s->channel.open_done;
    if (total < CHV_RECORD_FRAME_MIN || (unproven && total > CHV_FIRST_FRAME_MAX))
        return chv_session_fail(s, CHV_ERR_PROTOCOL, "record: impossible length");
    *frame_len = total;
    return CHV_OK;
}

/* A backend's failure ends the session as one: its own code may promise an unchanged object (-1 to -29). */
static enum chv_err ending(enum chv_err err)
{
    return chv_err_is_fatal(err) ? err : CHV_ERR_CRYPTO;
}

enum chv_err chv_session_seal(struct chv_session *s, uint8_t type, uint8_t *frame, size_t body_len, size_t *frame_len)
{
    enum chv_err err = in_channel(s);
    if (err != CHV_OK)
        return err;
    struct chv_channel *c = &s->channel;
    if (body_len > CHV_RECORD_BODY_MAX || !(senders(type) & own_bit(s)) || (type == CHV_RECORD_CLOSE && body_len > 0))
        return CHV_ERR_ARGUMENT;
    const bool may_open = s->role == CHV_CLIENT && !c->open_done;
    if (c->close_sent || may_open != (type == CHV_RECORD_OPEN) || (s->role == CHV_SERVER && !c->open_done))
        return CHV_ERR_STATE;

    err = chv_direction_seal(&c->send, s->crypto, s->parts->aead, type, frame, body_len, frame_len);
    if (err != CHV_OK)
        return chv_session_fail(s, ending(err), "a record could not be sealed");
    if (type == CHV_RECORD_OPEN)
        c->open_done = true;
    if (type == CHV_RECORD_CLOSE)
        c->close_sent = true;
    return CHV_OK;
}

/* The text for a record that opened but may not stand here; NULL if it may. */
static const char *misplaced(const struct chv_session *s, uint8_t type, size_t body_len)
{
    const struct chv_channel *c = &s->channel;
    const unsigned peer = BY_BOTH & ~own_bit(s);
    if (!(senders(type) & peer))
        return "record: a type that is unknown or not this peer's to send";
    if (s->role == CHV_CLIENT && !c->open_done)
        return "record: before OPEN was sent";
    if (s->role == CHV_SERVER && !c->open_done && type != CHV_RECORD_OPEN)
        return "record: the first one is not OPEN";
    if (s->role == CHV_SERVER && c->open_done && type == CHV_RECORD_OPEN)
        return "record: OPEN a second time";
    if (type == CHV_RECORD_CLOSE && body_len > 0)
        return "record: CLOSE with a body";
    return NULL;
}

enum chv_err chv_session_open(struct chv_session *s, uint8_t *frame, size_t frame_len, uint8_t *type,
                              const uint8_t **body, size_t *body_len)
{
    enum chv_err err = in_channel(s);
    if (err != CHV_OK)
        return err;
    struct chv_channel *c = &s->channel;
    if (c->close_received)
        return chv_session_fail(s, CHV_ERR_PROTOCOL, "record: something behind CLOSE");

    uint8_t opened_type;
    const uint8_t *opened;
    size_t opened_len;
    err = chv_direction_open(&c->receive, s->crypto, s->parts->aead, frame, frame_len, &opened_type, &opened,
                             &opened_len);
    if (err == CHV_ERR_AUTH)
        return chv_session_fail(s, err, "record: it does not open (changed, repeated, reordered or lost on the way)");
    if (err != CHV_OK)
        return chv_session_fail(s, ending(err), "record: it could not be opened");
    const char *note = misplaced(s, opened_type, opened_len);
    if (note != NULL) {
        chv_wipe(frame, frame_len);
        return chv_session_fail(s, CHV_ERR_PROTOCOL, note);
    }
    if (opened_type == CHV_RECORD_OPEN)
        c->open_done = true;
    if (opened_type == CHV_RECORD_CLOSE)
        c->close_received = true;
    *type = opened_type;
    *body = opened;
    *body_len = opened_len;
    return CHV_OK;
}

enum chv_err chv_session_eof(struct chv_session *s, bool partial)
{
    if (s->error != CHV_OK)
        return s->error;
    if (s->phase == CHV_PHASE_CHANNEL && s->channel.close_received && !partial)
        return CHV_OK;
    return chv_session_fail(s, CHV_ERR_TRUNCATED,
                            s->phase == CHV_PHASE_CHANNEL ? "the stream ended without CLOSE"
                                                          : "the peer went away during the handshake");
}

void chv_session_idle(struct chv_session *s)
{
    if (s->phase != CHV_PHASE_CHANNEL)
        return;
    chv_direction_idle(&s->channel.send, s->crypto);
    chv_direction_idle(&s->channel.receive, s->crypto);
}

/* From the exporter secret. */
static enum chv_err expand_exporter(struct chv_session *s, const uint8_t *info, size_t info_len,
                                    uint8_t out[CHV_KEY_LEN])
{
    enum chv_err err =
        chv_hkdf_expand(s->crypto, CHV_HASH_SHA256, s->channel.exporter, CHV_KEY_LEN, info, info_len, out, CHV_KEY_LEN);
    if (err == CHV_OK)
        err = chv_hkdf_forget(s->crypto, CHV_HASH_SHA256);
    if (err != CHV_OK)
        chv_wipe(out, CHV_KEY_LEN);
    return err;
}

enum chv_err chv_session_resumption(struct chv_session *s, uint32_t number, uint8_t out[CHV_KEY_LEN])
{
    uint8_t info[CHV_INFO_MAX];
    size_t info_len = 0;
    enum chv_err err = in_channel(s);
    if (err == CHV_OK)
        err = chv_info_resumption(s->h_fin, sizeof s->h_fin, number, info, &info_len);
    return err == CHV_OK ? expand_exporter(s, info, info_len, out) : err;
}

enum chv_err chv_session_export(struct chv_session *s, const char *label, const uint8_t *context, size_t context_len,
                                uint8_t out[CHV_KEY_LEN])
{
    enum chv_err err = in_channel(s);
    if (err != CHV_OK)
        return err;
    uint8_t info[CHV_INFO_MAX];
    size_t info_len = 0;
    if (context_len > CHV_EXPORT_CONTEXT_MAX)
        return CHV_ERR_ARGUMENT;
    err = chv_info_exporter(s->h_fin, sizeof s->h_fin, label, context, context_len, info, &info_len);
    return err == CHV_OK ? expand_exporter(s, info, info_len, out) : err;
}
