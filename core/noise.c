/* SPDX-License-Identifier: Apache-2.0 */
#include "core/noise.h"

#include "base/memory.h"
#include "core/noise_name.h"
#include "core/symmetric.h"

#include <string.h>

/*
 * The first failure ends a handshake: nothing that was secret or half done outlives it.  A code that promises an
 * unchanged object (-1 to -29) cannot stand for that, so a backend's becomes CHV_ERR_CRYPTO.
 */
static enum chv_err fail(struct chv_noise *n, enum chv_err err)
{
    if (!chv_err_is_fatal(err))
        err = CHV_ERR_CRYPTO;
    if (n->phase == CHV_NOISE_WRITING)
        chv_wipe(n->out, n->pos);
    chv_noise_wipe(n);
    n->phase = CHV_NOISE_FAILED;
    n->error = err;
    return err;
}

void chv_noise_wipe(struct chv_noise *n)
{
    if (n->e != NULL)
        chv_crypto_dh_free(n->ss.crypto, n->e);
    chv_symmetric_wipe(&n->ss);
    chv_wipe(n, sizeof *n);
    n->phase = CHV_NOISE_FAILED;
    n->error = CHV_ERR_STATE;
}

static bool initiator_writes(unsigned message)
{
    return message % 2 == 0;
}

/* Whether this side's static key takes part in a DH token (7.3: es is the initiator's e, the responder's s). */
static bool uses_own_static(const struct chv_noise *n, unsigned token)
{
    return token == CHV_TOKEN_SS || token == (n->initiator ? CHV_TOKEN_SE : CHV_TOKEN_ES);
}

static bool uses_own_ephemeral(const struct chv_noise *n, unsigned token)
{
    return token == CHV_TOKEN_EE || token == (n->initiator ? CHV_TOKEN_ES : CHV_TOKEN_SE);
}

/* Whether a message that this side writes has an s token. */
static bool sends_static(const struct chv_noise_pattern *p, bool initiator)
{
    for (unsigned m = initiator ? 0 : 1; m < p->messages; m += 2)
        if (memchr(p->tokens[m], CHV_TOKEN_S, CHV_PATTERN_TOKENS_MAX) != NULL)
            return true;
    return false;
}

static enum chv_err check_config(const struct chv_noise_config *c)
{
    const struct chv_noise_pattern *p = c->pattern;
    const uint32_t needed = CHV_CAP_HASH(c->hash) | CHV_CAP_CURVE(c->curve) | CHV_CAP_AEAD(c->cipher);
    const bool own_known = c->initiator ? p->pre_initiator : p->pre_responder;
    const bool peer_known = c->initiator ? p->pre_responder : p->pre_initiator;

    if (chv_hash_len(c->hash) == 0 || chv_dh_public_len(c->curve) == 0 || (unsigned)c->cipher >= CHV_AEAD_COUNT)
        return CHV_ERR_ARGUMENT;
    if (c->s_public == NULL && (own_known || sends_static(p, c->initiator)))
        return CHV_ERR_ARGUMENT;
    /* A peer's key that the pattern does not use would look pinned and not be. */
    if ((c->rs != NULL) != peer_known)
        return CHV_ERR_ARGUMENT;
    return (c->crypto->capabilities & needed) == needed ? CHV_OK : CHV_ERR_UNSUPPORTED;
}

/* Initialize's hashes: the prologue, then the pre-messages' keys, the initiator's first. */
static enum chv_err mix_premessages(struct chv_noise *n, const struct chv_noise_config *c)
{
    const uint8_t *initiator_s = n->initiator ? n->s_public : n->rs;
    const uint8_t *responder_s = n->initiator ? n->rs : n->s_public;
    enum chv_err err = chv_symmetric_mix_hash(&n->ss, c->prologue, c->prologue_len);

    if (err == CHV_OK && n->pattern.pre_initiator)
        err = chv_symmetric_mix_hash(&n->ss, initiator_s, n->dh_len);
    if (err == CHV_OK && n->pattern.pre_responder)
        err = chv_symmetric_mix_hash(&n->ss, responder_s, n->dh_len);
    return err;
}

enum chv_err chv_noise_init(struct chv_noise *n, const struct chv_noise_config *config)
{
    char name[CHV_NOISE_NAME_MAX];
    enum chv_err err = check_config(config);

    if (err != CHV_OK)
        return err;
    *n = (struct chv_noise){.pattern = *config->pattern,
                            .curve = config->curve,
                            .dh_len = (uint8_t)chv_dh_public_len(config->curve),
                            .initiator = config->initiator,
                            .has_rs = config->rs != NULL};
    if (config->s_public != NULL)
        memcpy(n->s_public, config->s_public, n->dh_len);
    if (n->has_rs)
        memcpy(n->rs, config->rs, n->dh_len);
    chv_noise_build_name(config, name);
    err = chv_symmetric_init(&n->ss, config->crypto, config->hash, config->cipher,
                             config->name != NULL ? config->name : name);
    if (err == CHV_OK)
        err = mix_premessages(n, config);
    if (err != CHV_OK)
        chv_noise_wipe(n);
    return err;
}

bool chv_noise_our_turn(const struct chv_noise *n)
{
    return initiator_writes(n->message) == n->initiator;
}

bool chv_noise_done(const struct chv_noise *n)
{
    return n->phase == CHV_NOISE_DONE || n->phase == CHV_NOISE_SPLIT;
}

/* Whether a message may begin; the sticky error, or CHV_ERR_STATE. */
static enum chv_err check_turn(const struct chv_noise *n, bool write)
{
    if (n->phase == CHV_NOISE_FAILED)
        return n->error;
    return n->phase == CHV_NOISE_BETWEEN && chv_noise_our_turn(n) == write ? CHV_OK : CHV_ERR_STATE;
}

/* Bytes of the next message besides its payload. */
static size_t overhead(const struct chv_noise *n)
{
    size_t tag_len = chv_symmetric_tag_len(&n->ss);
    size_t len = 0;

    for (const uint8_t *token = n->pattern.tokens[n->message]; *token != CHV_TOKEN_END; token++) {
        if (*token == CHV_TOKEN_E)
            len += n->dh_len;
        else if (*token == CHV_TOKEN_S)
            len += n->dh_len + tag_len;
        if (*token != CHV_TOKEN_S && (*token != CHV_TOKEN_E || n->pattern.psk))
            tag_len = CHV_AEAD_TAG_LEN;
    }
    return len + tag_len;
}

static void begin(struct chv_noise *n, bool write)
{
    n->phase = write ? CHV_NOISE_WRITING : CHV_NOISE_READING;
    n->token = 0;
    n->pos = 0;
}

enum chv_err chv_noise_write(struct chv_noise *n, const uint8_t *payload, size_t payload_len, uint8_t *out,
                             size_t out_cap)
{
    const enum chv_err err = check_turn(n, true);

    if (err != CHV_OK)
        return err;
    const size_t extra = overhead(n);
    if (payload_len > CHV_NOISE_MESSAGE_MAX - extra)
        return CHV_ERR_ARGUMENT;
    if (out_cap < extra + payload_len)
        return CHV_ERR_SPACE;
    begin(n, true);
    n->payload = payload;
    n->payload_len = payload_len;
    n->out = out;
    return CHV_OK;
}

enum chv_err chv_noise_read(struct chv_noise *n, uint8_t *message, size_t len)
{
    const enum chv_err err = check_turn(n, false);

    if (err != CHV_OK)
        return err;
    if (len > CHV_NOISE_MESSAGE_MAX || len < overhead(n))
        return fail(n, CHV_ERR_MALFORMED);
    begin(n, false);
    n->payload = NULL;
    n->payload_len = 0;
    n->in = message;
    n->in_len = len;
    return CHV_OK;
}

/* e */
static enum chv_err token_e(struct chv_noise *n)
{
    const uint8_t *key = n->re;
    enum chv_err err = CHV_OK;

    if (n->phase == CHV_NOISE_WRITING) {
        err = chv_crypto_dh_generate(n->ss.crypto, n->curve, &n->e, n->e_public);
        if (err != CHV_OK)
            return err;
        memcpy(n->out + n->pos, n->e_public, n->dh_len);
        key = n->e_public;
    } else {
        memcpy(n->re, n->in + n->pos, n->dh_len);
    }
    n->pos += n->dh_len;
    err = chv_symmetric_mix_hash(&n->ss, key, n->dh_len);
    /* 9.2: with a psk anywhere, e goes into the key too, so that no key is used for two handshakes. */
    if (err == CHV_OK && n->pattern.psk)
        err = chv_symmetric_mix_key(&n->ss, key, n->dh_len);
    return err;
}

/* s */
static enum chv_err token_s(struct chv_noise *n)
{
    const size_t len = n->dh_len + chv_symmetric_tag_len(&n->ss);
    enum chv_err err;

    if (n->phase == CHV_NOISE_WRITING) {
        err = chv_symmetric_encrypt_and_hash(&n->ss, n->s_public, n->dh_len, n->out + n->pos);
    } else {
        err = chv_symmetric_decrypt_and_hash(&n->ss, n->in + n->pos, len, n->rs);
        n->has_rs = err == CHV_OK;
    }
    n->pos += len;
    return err;
}

/* Whether a token from here on takes the own ephemeral. */
static bool ephemeral_due(const struct chv_noise *n)
{
    unsigned t = n->token + 1u;

    for (unsigned m = n->message; m < n->pattern.messages; m++, t = 0)
        for (; n->pattern.tokens[m][t] != CHV_TOKEN_END; t++)
            if (uses_own_ephemeral(n, n->pattern.tokens[m][t]))
                return true;
    return false;
}

/* ee, es, se with the own ephemeral */
static enum chv_err token_dh(struct chv_noise *n, unsigned token)
{
    uint8_t shared[CHV_KEY_LEN];
    enum chv_err err = chv_crypto_dh_derive(n->ss.crypto, n->e, token == CHV_TOKEN_EE ? n->re : n->rs, shared);

    if (err == CHV_OK)
        err = chv_symmetric_mix_key(&n->ss, shared, sizeof shared);
    chv_wipe(shared, sizeof shared);
    if (!ephemeral_due(n)) {
        chv_crypto_dh_free(n->ss.crypto, n->e);
        n->e = NULL;
    }
    return err;
}

/* es, se, ss with the own static key; psk */
static enum chv_err token_answered(struct chv_noise *n, unsigned token)
{
    const enum chv_err err = token == CHV_TOKEN_PSK ? chv_symmetric_mix_key_and_hash(&n->ss, n->answer)
                                                    : chv_symmetric_mix_key(&n->ss, n->answer, sizeof n->answer);

    chv_wipe(n->answer, sizeof n->answer);
    n->answered = false;
    return err;
}

/* Whether a psk token is next but for DH tokens that need no answer: these leave h as it is. */
static bool psk_ahead(const struct chv_noise *n)
{
    const uint8_t *token = &n->pattern.tokens[n->message][n->token];

    while (uses_own_ephemeral(n, *token))
        token++;
    return *token == CHV_TOKEN_PSK;
}

static void ask(struct chv_noise *n, enum chv_noise_need need)
{
    n->need = need;
    if (need == CHV_NOISE_NEED_PSK)
        memcpy(n->h_psk, n->ss.h, n->ss.hash_len);
}

static enum chv_err payload(struct chv_noise *n)
{
    enum chv_err err;

    if (n->phase == CHV_NOISE_WRITING) {
        const size_t len = n->payload_len + chv_symmetric_tag_len(&n->ss);
        err = chv_symmetric_encrypt_and_hash(&n->ss, n->payload, n->payload_len, n->out + n->pos);
        n->payload = NULL;
        n->pos += len;
    } else {
        /* read takes the message as writable bytes: the plaintext goes where the ciphertext was */
        uint8_t *text = n->in + n->pos;
        err = chv_symmetric_decrypt_and_hash(&n->ss, text, n->in_len - n->pos, text);
        n->payload = text;
        n->payload_len = n->in_len - n->pos - chv_symmetric_tag_len(&n->ss);
        n->pos = 0;
    }
    return err;
}

static enum chv_err run_token(struct chv_noise *n, unsigned token)
{
    if (token == CHV_TOKEN_E)
        return token_e(n);
    if (token == CHV_TOKEN_S)
        return token_s(n);
    if (uses_own_ephemeral(n, token))
        return token_dh(n, token);
    return token_answered(n, token);
}

enum chv_err chv_noise_run(struct chv_noise *n, bool *complete)
{
    enum chv_err err = CHV_OK;
    unsigned token;

    *complete = false;
    if (n->phase == CHV_NOISE_FAILED)
        return n->error;
    if (n->phase != CHV_NOISE_WRITING && n->phase != CHV_NOISE_READING)
        return CHV_ERR_STATE;
    for (; (token = n->pattern.tokens[n->message][n->token]) != CHV_TOKEN_END; n->token++) {
        if (n->need == CHV_NOISE_NEED_NOTHING && !n->answered) {
            if (psk_ahead(n))
                ask(n, CHV_NOISE_NEED_PSK);
            else if (uses_own_static(n, token))
                ask(n, CHV_NOISE_NEED_DH);
            if (n->need != CHV_NOISE_NEED_NOTHING)
                return CHV_OK;
        } else if (!n->answered && !uses_own_ephemeral(n, token)) {
            return CHV_OK;
        }
        err = run_token(n, token);
        if (err != CHV_OK)
            return fail(n, err);
    }
    err = payload(n);
    if (err != CHV_OK)
        return fail(n, err);
    n->message++;
    n->phase = n->message == n->pattern.messages ? CHV_NOISE_DONE : CHV_NOISE_BETWEEN;
    *complete = true;
    return CHV_OK;
}

size_t chv_noise_written(const struct chv_noise *n)
{
    return n->phase == CHV_NOISE_BETWEEN || n->phase == CHV_NOISE_DONE ? n->pos : 0;
}

const uint8_t *chv_noise_payload(const struct chv_noise *n, size_t *len)
{
    const bool there = (n->phase == CHV_NOISE_BETWEEN || n->phase == CHV_NOISE_DONE) && n->payload != NULL;

    *len = there ? n->payload_len : 0;
    return there ? n->payload : NULL;
}

enum chv_noise_need chv_noise_need(const struct chv_noise *n, const uint8_t **data, size_t *len)
{
    *data = NULL;
    *len = 0;
    if (n->need == CHV_NOISE_NEED_PSK) {
        *data = n->h_psk;
        *len = n->ss.hash_len;
    } else if (n->need == CHV_NOISE_NEED_DH) {
        *data = n->pattern.tokens[n->message][n->token] == CHV_TOKEN_SS ? n->rs : n->re;
        *len = n->dh_len;
    }
    return n->need;
}

enum chv_err chv_noise_answer(struct chv_noise *n, const uint8_t secret[CHV_KEY_LEN])
{
    if (n->phase == CHV_NOISE_FAILED)
        return n->error;
    if (n->need == CHV_NOISE_NEED_NOTHING)
        return CHV_ERR_STATE;
    /* 12.1 leaves it open; a result that the peer can force is no proof of anything. */
    if (n->need == CHV_NOISE_NEED_DH && chv_is_zero(secret, CHV_KEY_LEN))
        return fail(n, CHV_ERR_AUTH);
    memcpy(n->answer, secret, CHV_KEY_LEN);
    n->answered = true;
    n->need = CHV_NOISE_NEED_NOTHING;
    return CHV_OK;
}

enum chv_err chv_noise_split(struct chv_noise *n, uint8_t k1[CHV_KEY_LEN], uint8_t k2[CHV_KEY_LEN],
                             uint8_t third[CHV_KEY_LEN])
{
    if (n->phase == CHV_NOISE_FAILED)
        return n->error;
    if (n->phase != CHV_NOISE_DONE)
        return CHV_ERR_STATE;
    const enum chv_err err = chv_symmetric_split(&n->ss, k1, k2, third);
    if (err != CHV_OK)
        return fail(n, err);
    n->phase = CHV_NOISE_SPLIT;
    return CHV_OK;
}
