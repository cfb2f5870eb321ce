/* SPDX-License-Identifier: Apache-2.0 */
#include "core/session.h"

#include "base/memory.h"
#include "core/credential.h"

#include <string.h>

static const char bad_point[] = "hello: a public key in it is no valid point";

size_t chv_session_size(void)
{
    return sizeof(struct chv_session);
}

size_t chv_session_open_size(const struct chv_session *s)
{
    return offsetof(struct chv_session, credential) + s->credential_len;
}

struct chv_session *chv_session_move(struct chv_session *s, void *memory)
{
    if (s->phase != CHV_PHASE_CHANNEL)
        return NULL;
    memcpy(memory, s, chv_session_open_size(s));
    chv_wipe(s, sizeof *s);
    return memory;
}

static enum chv_err check_capabilities(const struct chv_crypto *crypto, const struct chv_suite_parts *parts,
                                       struct chv_why *why)
{
    const struct {
        uint32_t capability;
        const char *name;
    } needs[] = {
        {CHV_CAP_CURVE(parts->curve), chv_curve_name(parts->curve)},
        {CHV_CAP_AEAD(parts->aead), chv_aead_name(parts->aead)},
        {CHV_CAP_HASH(parts->hash), chv_hash_name(parts->hash)},
    };
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if ((crypto->capabilities & needs[i].capability) != 0)
            continue;
        const char *reason = chv_crypto_lacks(crypto, needs[i].capability);
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "suite %s: backend %s does not have %s%s%s", parts->name,
                        crypto->backend->name, needs[i].name, reason[0] != '\0' ? ": " : "", reason);
    }
    return CHV_OK;
}

/* What a resumed session needs beside the credential. */
static enum chv_err take_resumption(struct chv_session *s, const struct chv_session_config *config, struct chv_why *why)
{
    struct chv_handshake *h = &s->handshake;
    if (config->ticket_len < 1 || config->ticket_len > CHV_TICKET_MAX || config->resumption == NULL ||
        config->server == NULL || !chv_server_name_valid(config->server))
        return chv_fail(why, CHV_ERR_ARGUMENT, "a ticket of 1 to %d bytes goes with its secret and the server's name",
                        CHV_TICKET_MAX);
    memcpy(h->resumption, config->resumption, sizeof h->resumption);
    memcpy(h->server, config->server, strlen(config->server));
    s->resumed = true;
    return CHV_OK;
}

static enum chv_err init_client(struct chv_session *s, const struct chv_session_config *config, struct chv_why *why)
{
    s->profile = config->profile;
    s->suite = config->suite;
    s->parts = chv_suite_parts(config->suite);
    if (s->parts == NULL || chv_profile_pattern(config->profile) == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no such suite or profile");
    enum chv_err err = check_capabilities(s->crypto, s->parts, why);
    if (err != CHV_OK)
        return err;

    if (s->profile != CHV_PROFILE_KEY) {
        struct chv_credential c;
        if (config->credential == NULL ||
            chv_credential_parse(config->credential, config->credential_len, &c, NULL) != CHV_OK)
            return chv_fail(why, CHV_ERR_ARGUMENT, "the credential is malformed");
        if (c.profile != s->profile)
            return chv_fail(why, CHV_ERR_ARGUMENT, "the credential is for profile %s, not %s",
                            chv_profile_name(c.profile), chv_profile_name(s->profile));
        memcpy(s->credential, config->credential, config->credential_len);
        s->credential_len = config->credential_len;
    }
    if (config->ticket != NULL)
        return take_resumption(s, config, why);
    if (s->profile != CHV_PROFILE_PSK) {
        if (config->peer_public == NULL || !s->handshake.has_identity[s->parts->curve])
            return chv_fail(why, CHV_ERR_ARGUMENT, "profile %s needs the own and the server's identity key for %s",
                            chv_profile_name(s->profile), chv_curve_name(s->parts->curve));
        memcpy(s->peer_public, config->peer_public, chv_dh_public_len(s->parts->curve));
        s->has_peer = true;
    }
    return CHV_OK;
}

/* A server must be able to run every suite that it says it serves; profiles key and key+psk on the curves of its keys. */
static enum chv_err init_server(struct chv_session *s, const struct chv_session_config *config, struct chv_why *why)
{
    s->handshake.served = (struct chv_served){.profiles = config->profiles, .suites = config->suites};
    s->server_time = config->now;
    s->idle_seconds = config->limits.idle_seconds;
    if (config->suites == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "nothing to serve: no suite");
    bool lacks_identity = (config->profiles & ~CHV_PROFILE_BIT(CHV_PROFILE_PSK)) != 0;
    for (unsigned suite = 0; suite < 8 * sizeof config->suites; suite++) {
        if (!(config->suites & CHV_SUITE_BIT(suite)))
            continue;
        const struct chv_suite_parts *parts = chv_suite_parts((enum chv_suite)suite);
        if (parts == NULL)
            return chv_fail(why, CHV_ERR_ARGUMENT, "no such suite: %u", suite);
        enum chv_err err = check_capabilities(s->crypto, parts, why);
        if (err != CHV_OK)
            return err;
        lacks_identity = lacks_identity && !s->handshake.has_identity[parts->curve];
    }
    if (lacks_identity)
        return chv_fail(why, CHV_ERR_ARGUMENT, "profiles key and key+psk need an identity key for a suite's curve");
    return CHV_OK;
}

enum chv_err chv_session_init(void *memory, const struct chv_session_config *config, struct chv_session **session,
                              struct chv_why *why)
{
    struct chv_session *s = memory;
    memset(s, 0, sizeof *s);
    s->crypto = config->crypto;
    s->role = config->role;
    s->note = "";
    for (unsigned curve = 0; curve < CHV_CURVE_COUNT; curve++)
        if (config->identity_public[curve] != NULL) {
            memcpy(s->handshake.identity_public[curve], config->identity_public[curve],
                   chv_dh_public_len((enum chv_curve)curve));
            s->handshake.has_identity[curve] = true;
        }

    enum chv_err err = s->role == CHV_CLIENT ? init_client(s, config, why) : init_server(s, config, why);
    if (err == CHV_OK) {
        s->phase = s->role == CHV_CLIENT ? CHV_PHASE_BUILD_HELLO : CHV_PHASE_READ_HELLO;
        if (s->role == CHV_CLIENT) {
            err = chv_handshake_start_client(s, config->ticket, config->ticket_len);
            if (err != CHV_OK)
                err = chv_fail(why, err, "cannot begin the handshake: %s", s->note);
        }
    }
    if (err != CHV_OK) {
        chv_session_wipe(s);
        return err;
    }
    *session = s;
    return CHV_OK;
}

static void wipe_keys(struct chv_session *s)
{
    if (s->phase == CHV_PHASE_CHANNEL)
        chv_channel_wipe(&s->channel, s->crypto);
    else if (s->phase != CHV_PHASE_ENDED)
        chv_handshake_wipe(&s->handshake);
}

void chv_session_wipe(struct chv_session *s)
{
    if (s == NULL)
        return;
    wipe_keys(s); /* sees to the handshake, which a moved session has not */
    chv_wipe(s, chv_session_open_size(s));
    s->phase = CHV_PHASE_ENDED;
    s->note = "";
    s->error = CHV_ERR_STATE;
}

enum chv_err chv_session_fail(struct chv_session *s, enum chv_err err, const char *note)
{
    if (s->error == CHV_OK) {
        s->error = err;
        if (s->note[0] == '\0') /* else what is known already says more: the identity of a doomed handshake */
            s->note = note;
    }
    wipe_keys(s);
    s->phase = CHV_PHASE_ENDED;
    return s->error;
}

/* The Noise engine's question that nobody has answered. */
static enum chv_noise_need noise_need(const struct chv_session *s)
{
    const uint8_t *data;
    size_t len;
    switch (s->phase) {
    case CHV_PHASE_BUILD_HELLO:
    case CHV_PHASE_OPEN_REPLY:
    case CHV_PHASE_OPEN_HELLO:
    case CHV_PHASE_BUILD_REPLY:
        return chv_noise_need(&s->handshake.noise, &data, &len);
    default:
        return CHV_NOISE_NEED_NOTHING;
    }
}

static bool key_wanted(const struct chv_session *s)
{
    return s->phase == CHV_PHASE_ASK_PEER || s->phase == CHV_PHASE_ASK_TICKET ||
           noise_need(s) != CHV_NOISE_NEED_NOTHING;
}

unsigned chv_session_wants(const struct chv_session *s)
{
    switch (s->phase) {
    case CHV_PHASE_READ_HELLO:
    case CHV_PHASE_READ_REPLY:
        return CHV_WANT_READ;
    case CHV_PHASE_SEND_HELLO:
    case CHV_PHASE_SEND_REPLY:
    case CHV_PHASE_SEND_REFUSAL:
        return CHV_WANT_WRITE;
    case CHV_PHASE_CHANNEL:
        return s->channel.close_sent && s->channel.close_received ? CHV_WANT_CLOSED : CHV_WANT_OPEN;
    case CHV_PHASE_ENDED:
        return CHV_WANT_CLOSED;
    default:
        return key_wanted(s) ? CHV_WANT_KEY : 0;
    }
}

enum chv_err chv_session_error(const struct chv_session *s)
{
    return s->error;
}

const char *chv_session_note(const struct chv_session *s)
{
    return s->note;
}

unsigned chv_session_refusal(const struct chv_session *s)
{
    return s->refusal;
}

/* Takes bytes until `want` of the frame are there; whether they are. */
static bool fill(struct chv_handshake *h, size_t want, const uint8_t *buf, size_t len, size_t *consumed)
{
    size_t n = want - h->have < len - *consumed ? want - h->have : len - *consumed;
    memcpy(h->frame + h->have, buf + *consumed, n);
    h->have += n;
    *consumed += n;
    return h->have == want;
}

enum chv_err chv_session_recv(struct chv_session *s, const uint8_t *buf, size_t len, size_t *consumed)
{
    *consumed = 0;
    if (s->error != CHV_OK)
        return s->error;
    if (s->phase != CHV_PHASE_READ_HELLO && s->phase != CHV_PHASE_READ_REPLY)
        return CHV_ERR_STATE;

    struct chv_handshake *h = &s->handshake;
    const bool server = s->role == CHV_SERVER;
    if (h->length == 0) {
        if (!fill(h, CHV_FRAME_LENGTH_LEN, buf, len, consumed))
            return CHV_OK;
        const size_t body = chv_get_u16(h->frame);
        const size_t body_max = server ? CHV_HELLO_BODY_MAX : CHV_REPLY_BODY_MAX;
        if (body == 0 || body > body_max) {
            if (server)
                return chv_handshake_refuse(s, CHV_REFUSE_MALFORMED, CHV_ERR_MALFORMED, "hello: impossible length");
            return chv_session_fail(s, CHV_ERR_MALFORMED, "reply: impossible length; not a chaveiro server");
        }
        h->length = CHV_FRAME_LENGTH_LEN + body;
    }
    if (!fill(h, h->length, buf, len, consumed))
        return CHV_OK;
    return server ? chv_handshake_hello_arrived(s) : chv_handshake_reply_arrived(s);
}

static bool sending(const struct chv_session *s)
{
    return s->phase == CHV_PHASE_SEND_HELLO || s->phase == CHV_PHASE_SEND_REPLY || s->phase == CHV_PHASE_SEND_REFUSAL;
}

enum chv_err chv_session_send_peek(struct chv_session *s, const uint8_t **ptr, size_t *len)
{
    if (!sending(s)) {
        if (s->error != CHV_OK)
            return s->error;
        *ptr = NULL;
        *len = 0;
        return CHV_OK;
    }
    const struct chv_handshake *h = &s->handshake;
    *ptr = h->frame + h->have;
    *len = h->length - h->have;
    return CHV_OK;
}

enum chv_err chv_session_send_consume(struct chv_session *s, size_t n)
{
    if (!sending(s))
        return s->error != CHV_OK ? s->error : CHV_ERR_STATE;
    struct chv_handshake *h = &s->handshake;
    if (n > h->length - h->have)
        return CHV_ERR_ARGUMENT;
    h->have += n;
    return h->have == h->length ? chv_handshake_sent(s) : CHV_OK;
}

enum chv_err chv_session_key_request(struct chv_session *s, struct chv_key_request *request)
{
    if (s->error != CHV_OK)
        return s->error;
    if (!key_wanted(s))
        return CHV_ERR_STATE;

    const size_t public_len = chv_dh_public_len(s->parts->curve);
    *request = (struct chv_key_request){.profile = s->profile, .curve = s->parts->curve};
    const uint8_t *data = NULL;
    size_t len = 0;
    if (s->phase == CHV_PHASE_ASK_PEER) {
        request->kind = CHV_KEY_PEER;
    } else if (s->phase == CHV_PHASE_ASK_TICKET) {
        request->kind = CHV_KEY_TICKET;
        request->ticket = s->handshake.ticket;
        request->ticket_len = s->handshake.ticket_len;
    } else if (chv_noise_need(&s->handshake.noise, &data, &len) == CHV_NOISE_NEED_DH) {
        request->kind = CHV_KEY_DH;
        request->peer_public = data;
        request->peer_public_len = len;
        return CHV_OK;
    } else {
        request->kind = CHV_KEY_PSK;
        request->credential = s->credential;
        request->credential_len = s->credential_len;
        request->h_psk = data;
        request->h_psk_len = len;
    }
    if (s->has_peer) {
        request->peer_public = s->peer_public;
        request->peer_public_len = public_len;
    }
    return CHV_OK;
}

enum chv_err chv_session_precompute(struct chv_session *s)
{
    if (s->error != CHV_OK)
        return s->error;
    return key_wanted(s) ? chv_handshake_advance(s) : CHV_OK;
}

enum chv_err chv_session_key_answer(struct chv_session *s, const uint8_t *secret)
{
    if (s->error != CHV_OK)
        return s->error;
    if (!key_wanted(s) || s->phase == CHV_PHASE_ASK_TICKET)
        return CHV_ERR_STATE;
    if (s->phase == CHV_PHASE_ASK_PEER) {
        s->phase = CHV_PHASE_BUILD_REPLY;
        return chv_handshake_advance(s);
    }
    if (secret == NULL)
        return CHV_ERR_ARGUMENT;
    /* Fails for a DH result of zeros only, which the peer's key has brought about. */
    enum chv_err err = chv_noise_answer(&s->handshake.noise, secret);
    if (err != CHV_OK && s->role == CHV_SERVER)
        return chv_handshake_refuse(s, CHV_REFUSE_MALFORMED, err, bad_point);
    if (err != CHV_OK)
        return chv_session_fail(s, err, "reply: a public key in it is no valid point");
    return chv_handshake_advance(s);
}

static bool ticket_consistent(const struct chv_session_ticket *t)
{
    struct chv_credential c;
    const bool wants_peer = t->profile != CHV_PROFILE_PSK;
    const struct chv_suite_parts *parts = chv_suite_parts(t->suite);
    if (parts == NULL || chv_profile_pattern(t->profile) == NULL || t->lineage == NULL || t->secret == NULL ||
        !chv_server_name_valid(t->server))
        return false;
    if ((t->peer_public != NULL) != wants_peer || (wants_peer && t->peer_public_len != chv_dh_public_len(parts->curve)))
        return false;
    if (t->profile == CHV_PROFILE_KEY)
        return t->credential == NULL;
    return t->credential != NULL && chv_credential_parse(t->credential, t->credential_len, &c, NULL) == CHV_OK &&
           c.profile == t->profile;
}

static const char not_taken[] = "hello: ticket not taken";

enum chv_err chv_session_ticket_answer(struct chv_session *s, const struct chv_session_ticket *ticket)
{
    if (s->error != CHV_OK)
        return s->error;
    if (s->phase != CHV_PHASE_ASK_TICKET)
        return CHV_ERR_STATE;
    if (!ticket_consistent(ticket))
        return CHV_ERR_ARGUMENT;
    const unsigned served = s->handshake.served.profiles;
    if (ticket->suite != s->suite || (served != 0 && !(served & CHV_PROFILE_BIT(ticket->profile))))
        return chv_handshake_refuse(s, CHV_REFUSE_TICKET, CHV_ERR_AUTH,
                                    "hello: ticket of another suite, or of a profile that is not served");

    struct chv_handshake *h = &s->handshake;
    s->profile = ticket->profile;
    if (ticket->credential != NULL) {
        memcpy(s->credential, ticket->credential, ticket->credential_len);
        s->credential_len = ticket->credential_len;
    }
    if (ticket->peer_public != NULL) {
        memcpy(s->peer_public, ticket->peer_public, ticket->peer_public_len);
        s->has_peer = true;
    }
    memcpy(s->lineage, ticket->lineage, sizeof s->lineage);
    s->has_lineage = true;
    memcpy(h->resumption, ticket->secret, sizeof h->resumption);
    memcpy(h->server, ticket->server, strlen(ticket->server));
    return chv_handshake_ticket_taken(s);
}

enum chv_err chv_session_key_refuse(struct chv_session *s, unsigned code)
{
    if (s->error != CHV_OK)
        return s->error;
    const bool before_hello = s->phase == CHV_PHASE_READ_HELLO;
    if (!before_hello && !key_wanted(s))
        return CHV_ERR_STATE;
    if (s->role == CHV_CLIENT) {
        (void)chv_session_fail(s, CHV_ERR_KEY, "the own long-term key could not be used");
        return CHV_OK;
    }
    const bool temporary = code == CHV_REFUSE_RATE || code == CHV_REFUSE_UNAVAILABLE;
    const bool unknown_peer = code == CHV_REFUSE_UNKNOWN_KEY && s->phase == CHV_PHASE_ASK_PEER;
    const bool no_ticket = code == CHV_REFUSE_TICKET && s->phase == CHV_PHASE_ASK_TICKET;
    const bool malformed = code == CHV_REFUSE_MALFORMED && noise_need(s) == CHV_NOISE_NEED_DH;
    if (malformed)
        (void)chv_handshake_refuse(s, code, CHV_ERR_MALFORMED, bad_point);
    else if (no_ticket)
        (void)chv_handshake_refuse(s, code, CHV_ERR_AUTH, not_taken);
    else if (temporary || unknown_peer)
        (void)chv_handshake_refuse(s, code, CHV_ERR_KEY, "refused by the driver");
    else
        return CHV_ERR_ARGUMENT;
    return CHV_OK;
}

enum chv_err chv_session_get_info(const struct chv_session *s, struct chv_session_info *info)
{
    if (s->parts == NULL || s->phase == CHV_PHASE_ASK_TICKET)
        return CHV_ERR_STATE;
    *info = (struct chv_session_info){
        .resumed = s->resumed,
        .profile = s->profile,
        .suite = s->suite,
        .credential = s->credential_len > 0 ? s->credential : NULL,
        .credential_len = s->credential_len,
        .peer_public = s->has_peer ? s->peer_public : NULL,
        .peer_public_len = s->has_peer ? chv_dh_public_len(s->parts->curve) : 0,
        .lineage = s->has_lineage ? s->lineage : NULL,
        .server_time = s->server_time,
        .idle_seconds = s->idle_seconds,
        .h_fin = s->has_h_fin ? s->h_fin : NULL,
    };
    if (s->phase == CHV_PHASE_CHANNEL) {
        info->records_sent = s->channel.send.n;
        info->records_received = s->channel.receive.n;
    }
    return CHV_OK;
}
