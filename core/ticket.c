/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ticket.h"

#include "base/bytes.h"
#include "base/memory.h"
#include "core/wire.h"

#include <string.h>

enum { TICKET_VERSION = 1 };

static const uint8_t nonce_0[CHV_AEAD_NONCE_LEN];

static bool write_text(struct chv_writer *w, const char *text)
{
    const size_t len = strlen(text);
    chv_write_u8(w, (uint8_t)len);
    chv_write_bytes(w, text, len);
    return len <= UINT8_MAX;
}

/* Reads u8 length and that many bytes as text; a NUL inside cuts it short, which the length comparison notices. */
static bool read_text(struct chv_reader *r, char *out, size_t max)
{
    const size_t len = chv_read_u8(r);
    const uint8_t *bytes = len <= max ? chv_read_bytes(r, len) : NULL;
    if (bytes == NULL)
        return false;
    memcpy(out, bytes, len);
    out[len] = '\0';
    return strlen(out) == len;
}

/* The label and the place of the nonce behind it. */
static bool read_label(struct chv_reader *r, struct chv_ticket_label *label, const uint8_t **nonce)
{
    memset(label, 0, sizeof *label);
    if (chv_read_u8(r) != TICKET_VERSION)
        return false;
    label->epoch = chv_read_u32(r);
    if (!read_text(r, label->audience, CHV_AUDIENCE_MAX))
        return false;
    label->period = chv_read_u64(r);
    *nonce = chv_read_bytes(r, CHV_TICKET_NONCE_LEN);
    return !r->failed && label->epoch >= 1 && chv_audience_valid(label->audience);
}

enum chv_err chv_ticket_peek(const uint8_t *ticket, size_t len, struct chv_ticket_label *label)
{
    struct chv_ticket_label found;
    const uint8_t *nonce;
    struct chv_reader r;
    chv_reader_init(&r, ticket, len);
    if (len > CHV_TICKET_MAX || !read_label(&r, &found, &nonce) || r.left <= CHV_AEAD_TAG_LEN)
        return CHV_ERR_MALFORMED;
    *label = found;
    return CHV_OK;
}

/* The credential's part in a ticket of this profile: none in profile key, else a canonical one of this profile and id. */
static bool credential_fits(const struct chv_ticket *t)
{
    struct chv_credential c;
    if (t->profile == CHV_PROFILE_KEY)
        return t->credential_len == 0;
    return chv_credential_parse(t->credential, t->credential_len, &c, NULL) == CHV_OK && c.profile == t->profile &&
           strcmp(c.id, t->rights.id) == 0;
}

static bool peer_fits(const struct chv_ticket *t, const struct chv_suite_parts *parts)
{
    if (t->has_peer != (t->profile != CHV_PROFILE_PSK))
        return false;
    return t->has_peer ? t->curve == parts->curve && t->peer_public_len == chv_dh_public_len(t->curve)
                       : (unsigned)t->curve == 0 && t->peer_public_len == 0;
}

static bool rights_fit(const struct chv_credential *rights)
{
    if (!chv_client_id_valid(rights->id) || rights->scope_count > CHV_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < rights->scope_count; i++)
        if (!chv_scope_valid(rights->scopes[i]) || (i > 0 && strcmp(rights->scopes[i - 1], rights->scopes[i]) >= 0))
            return false;
    return true;
}

/* Everything that a ticket must be, sealed and opened alike: so there is one encoding of each. */
static bool is_canonical(const struct chv_ticket *t)
{
    const struct chv_suite_parts *parts = chv_suite_parts(t->suite);
    return parts != NULL && chv_profile_pattern(t->profile) != NULL && t->not_after != 0 &&
           t->credential_len <= sizeof t->credential && rights_fit(&t->rights) && credential_fits(t) &&
           peer_fits(t, parts);
}

static bool write_plaintext(struct chv_writer *w, const struct chv_ticket *t)
{
    chv_write_u8(w, (uint8_t)t->profile);
    chv_write_u8(w, (uint8_t)t->suite);
    chv_write_u64(w, t->not_after);
    chv_write_u64(w, t->auth_time);
    chv_write_bytes(w, t->lineage, sizeof t->lineage);
    chv_write_u32(w, t->number);
    chv_write_bytes(w, t->secret, sizeof t->secret);
    chv_write_u16(w, (uint16_t)t->credential_len);
    chv_write_bytes(w, t->credential, t->credential_len);
    chv_write_u8(w, (uint8_t)t->curve);
    chv_write_u8(w, (uint8_t)t->peer_public_len);
    chv_write_bytes(w, t->peer_public, t->peer_public_len);
    chv_write_u64(w, t->rights.not_after);
    bool fits = write_text(w, t->rights.id);
    chv_write_u8(w, (uint8_t)t->rights.scope_count);
    for (size_t i = 0; i < t->rights.scope_count; i++)
        fits = write_text(w, t->rights.scopes[i]) && fits;
    return fits && !w->failed;
}

static bool read_rights(struct chv_reader *r, struct chv_credential *rights)
{
    rights->not_after = chv_read_u64(r);
    if (!read_text(r, rights->id, CHV_CLIENT_ID_MAX))
        return false;
    rights->scope_count = chv_read_u8(r);
    if (rights->scope_count > CHV_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < rights->scope_count; i++)
        if (!read_text(r, rights->scopes[i], CHV_SCOPE_MAX))
            return false;
    return true;
}

/* u8 or u16 length was read already: copies that many bytes. */
static bool read_into(struct chv_reader *r, uint8_t *out, size_t room, size_t len)
{
    const uint8_t *bytes = len <= room ? chv_read_bytes(r, len) : NULL;
    if (bytes == NULL)
        return false;
    memcpy(out, bytes, len);
    return true;
}

static bool read_plaintext(struct chv_reader *r, struct chv_ticket *t)
{
    t->profile = (enum chv_profile)chv_read_u8(r);
    t->suite = (enum chv_suite)chv_read_u8(r);
    t->not_after = chv_read_u64(r);
    t->auth_time = chv_read_u64(r);
    if (!read_into(r, t->lineage, sizeof t->lineage, sizeof t->lineage))
        return false;
    t->number = chv_read_u32(r);
    if (!read_into(r, t->secret, sizeof t->secret, sizeof t->secret))
        return false;
    t->credential_len = chv_read_u16(r);
    if (!read_into(r, t->credential, sizeof t->credential, t->credential_len))
        return false;
    t->curve = (enum chv_curve)chv_read_u8(r);
    t->peer_public_len = chv_read_u8(r);
    if (!read_into(r, t->peer_public, sizeof t->peer_public, t->peer_public_len))
        return false;
    t->has_peer = t->peer_public_len > 0;
    return read_rights(r, &t->rights) && chv_reader_done(r) && is_canonical(t);
}

/* An AEAD with the key of one ticket. */
static enum chv_err seal_key(const struct chv_crypto *crypto, const uint8_t ticket_key[CHV_KEY_LEN],
                             const uint8_t *nonce, struct chv_aead **aead)
{
    uint8_t info[CHV_INFO_MAX], key[CHV_KEY_LEN];
    size_t info_len = 0;
    enum chv_err err = chv_info_ticket_seal(nonce, info, &info_len);
    if (err == CHV_OK)
        err = chv_hkdf_expand(crypto, CHV_HASH_SHA256, ticket_key, CHV_KEY_LEN, info, info_len, key, sizeof key);
    if (err == CHV_OK)
        err = chv_hkdf_forget(crypto, CHV_HASH_SHA256);
    if (err == CHV_OK)
        err = chv_crypto_aead_new(crypto, CHV_AEAD_AES256GCM, key, aead);
    chv_wipe(key, sizeof key);
    return err;
}

enum chv_err chv_ticket_seal(const struct chv_crypto *crypto, const uint8_t ticket_key[CHV_KEY_LEN],
                             const struct chv_ticket_label *label, const struct chv_ticket *ticket, uint8_t *out,
                             size_t *len)
{
    if (label->epoch < 1 || !chv_audience_valid(label->audience) || !is_canonical(ticket))
        return CHV_ERR_ARGUMENT;

    const size_t room = *len < CHV_TICKET_MAX ? *len : CHV_TICKET_MAX;
    struct chv_aead *aead = NULL;
    enum chv_err err = CHV_ERR_SPACE;
    struct chv_writer w;
    chv_writer_init(&w, out, room);
    chv_write_u8(&w, TICKET_VERSION);
    chv_write_u32(&w, label->epoch);
    (void)write_text(&w, label->audience);
    chv_write_u64(&w, label->period);
    uint8_t *nonce = chv_write_room(&w, CHV_TICKET_NONCE_LEN);
    const size_t label_len = w.len;
    if (nonce == NULL || !write_plaintext(&w, ticket) || chv_write_room(&w, CHV_AEAD_TAG_LEN) == NULL)
        goto out;

    err = chv_crypto_random(crypto, nonce, CHV_TICKET_NONCE_LEN);
    if (err == CHV_OK)
        err = seal_key(crypto, ticket_key, nonce, &aead);
    if (err == CHV_OK)
        err = chv_crypto_aead_seal(crypto, aead, nonce_0, out, label_len, out + label_len,
                                   w.len - label_len - CHV_AEAD_TAG_LEN, out + label_len);
out:
    chv_crypto_aead_free(crypto, aead);
    if (err == CHV_OK)
        *len = w.len;
    else
        chv_wipe(out, room);
    return err;
}

enum chv_err chv_ticket_open(const struct chv_crypto *crypto, const uint8_t ticket_key[CHV_KEY_LEN],
                             const uint8_t *ticket, size_t len, struct chv_ticket *out)
{
    uint8_t plaintext[CHV_TICKET_MAX];
    struct chv_aead *aead = NULL;
    struct chv_ticket_label label;
    const uint8_t *nonce;
    enum chv_err err = CHV_ERR_MALFORMED;
    struct chv_reader r;
    memset(out, 0, sizeof *out);
    chv_reader_init(&r, ticket, len);
    if (len > CHV_TICKET_MAX || !read_label(&r, &label, &nonce) || r.left <= CHV_AEAD_TAG_LEN)
        return err;

    const size_t plaintext_len = r.left - CHV_AEAD_TAG_LEN;
    err = seal_key(crypto, ticket_key, nonce, &aead);
    if (err == CHV_OK)
        err = chv_crypto_aead_open(crypto, aead, nonce_0, ticket, len - r.left, r.ptr, r.left, plaintext);
    if (err == CHV_OK) {
        chv_reader_init(&r, plaintext, plaintext_len);
        err = read_plaintext(&r, out) ? CHV_OK : CHV_ERR_MALFORMED;
    }
    chv_crypto_aead_free(crypto, aead);
    chv_wipe(plaintext, plaintext_len);
    if (err != CHV_OK)
        chv_wipe(out, sizeof *out);
    return err;
}
