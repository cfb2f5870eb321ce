/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hkdf.h"

#include "base/bytes.h"
#include "base/memory.h"

#include <string.h>

enum { CHV_H_MIN = 32, CHV_EXPORT_LABEL_MAX = 64 };

static const char label_access[] = "chaveiro v1 access";
static const char label_session[] = "chaveiro v1 session";
static const char label_update[] = "chaveiro v1 update";
static const char label_check[] = "chaveiro v1 check";
static const char label_audit[] = "chaveiro v1 audit";
static const char label_ticket[] = "chaveiro v1 ticket";
static const char label_ticket_seal[] = "chaveiro v1 ticket seal";
static const char label_resumption[] = "chaveiro v1 resumption";
static const char label_exporter[] = "chaveiro v1 exporter";

const struct chv_label chv_labels[] = {
    {label_access, "master", "u16 len credential", "access key"},
    {label_session, "access key", "u8 len server, u8 len h_psk", "session PSK"},
    {label_update, "access key", "u8 len server, u8 len h_fin, u16 len old, u16 len new", "update key"},
    {label_check, "master, access key", "", "key check value"},
    {"chaveiro v1 grant", "master", "u16 len old, u16 len new", "grant"},
    {label_ticket, "master", "u8 len audience, u64 period", "ticket key"},
    {label_ticket_seal, "ticket key", "nonce[32]", "key of one ticket"},
    {label_audit, "master", "", "MAC key of the audit trail"},
    {label_resumption, "exporter secret", "u8 len h_fin, u32 ticket number", "resumption secret"},
    {label_exporter, "exporter secret", "u8 len h_fin, u8 len label, u16 len context", "exported keying material"},
    {"chaveiro v1 identity", "hash", "u8 curve, public key", "identity hash"},
};
const size_t chv_label_count = sizeof chv_labels / sizeof chv_labels[0];

enum chv_err chv_hkdf_extract(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *salt, size_t salt_len,
                              const uint8_t *ikm, size_t ikm_len, uint8_t *prk)
{
    static const uint8_t zeros[CHV_HASH_MAX];
    const struct chv_part part = {ikm, ikm_len};

    if (salt_len == 0) {
        salt = zeros;
        salt_len = chv_hash_len(alg);
    }
    return chv_crypto_hmac(crypto, alg, salt, salt_len, &part, 1, prk);
}

enum chv_err chv_hkdf_expand(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *prk, size_t prk_len,
                             const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len)
{
    const size_t hash_len = chv_hash_len(alg);
    uint8_t t[CHV_HASH_MAX] = {0};
    enum chv_err err = CHV_OK;
    size_t done = 0;

    if (hash_len == 0 || out_len > 255 * hash_len)
        err = CHV_ERR_ARGUMENT;
    /* T(i) = HMAC-Hash(PRK, T(i-1) | info | i), T(0) = "" */
    for (uint8_t i = 1; err == CHV_OK && done < out_len; i++) {
        const struct chv_part parts[] = {{t, i == 1 ? 0 : hash_len}, {info, info_len}, {&i, 1}};
        const size_t n = out_len - done < hash_len ? out_len - done : hash_len;

        err = chv_crypto_hmac(crypto, alg, prk, prk_len, parts, 3, t);
        if (err == CHV_OK)
            memcpy(out + done, t, n);
        done += n;
    }
    chv_wipe(t, sizeof t);
    if (err != CHV_OK)
        chv_wipe(out, out_len);
    return err;
}

enum chv_err chv_hkdf_forget(const struct chv_crypto *crypto, enum chv_hash alg)
{
    static const uint8_t zeros[CHV_HASH_MAX];
    uint8_t unused[CHV_HASH_MAX];

    return chv_crypto_hmac(crypto, alg, zeros, chv_hash_len(alg), NULL, 0, unused);
}

/* label || 0x00 */
static void info_begin(struct chv_writer *w, const char *label, uint8_t *out)
{
    chv_writer_init(w, out, CHV_INFO_MAX);
    chv_write_bytes(w, label, strlen(label) + 1);
}

static void write_u8_field(struct chv_writer *w, const void *field, size_t len)
{
    if (len > UINT8_MAX)
        w->failed = true;
    chv_write_u8(w, (uint8_t)len);
    chv_write_bytes(w, field, len);
}

static void write_u16_field(struct chv_writer *w, const void *field, size_t len)
{
    if (len > UINT16_MAX)
        w->failed = true;
    chv_write_u16(w, (uint16_t)len);
    chv_write_bytes(w, field, len);
}

static void write_hash(struct chv_writer *w, const uint8_t *h, size_t len)
{
    if (len < CHV_H_MIN || len > CHV_HASH_MAX)
        w->failed = true;
    write_u8_field(w, h, len);
}

static enum chv_err info_end(const struct chv_writer *w, size_t *len)
{
    if (w->failed)
        return CHV_ERR_ARGUMENT;
    *len = w->len;
    return CHV_OK;
}

enum chv_err chv_info_access(const uint8_t *credential, size_t credential_len, uint8_t out[CHV_INFO_MAX], size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_access, out);
    write_u16_field(&w, credential, credential_len);
    return info_end(&w, len);
}

enum chv_err chv_info_session(const char *server, const uint8_t *h_psk, size_t h_psk_len, uint8_t out[CHV_INFO_MAX],
                              size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_session, out);
    write_u8_field(&w, server, strlen(server));
    write_hash(&w, h_psk, h_psk_len);
    return info_end(&w, len);
}

enum chv_err chv_info_update(const char *server, const uint8_t *h_fin, size_t h_fin_len, const uint8_t *old_credential,
                             size_t old_len, const uint8_t *new_credential, size_t new_len, uint8_t out[CHV_INFO_MAX],
                             size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_update, out);
    write_u8_field(&w, server, strlen(server));
    write_hash(&w, h_fin, h_fin_len);
    write_u16_field(&w, old_credential, old_len);
    write_u16_field(&w, new_credential, new_len);
    return info_end(&w, len);
}

enum chv_err chv_info_check(uint8_t out[CHV_INFO_MAX], size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_check, out);
    return info_end(&w, len);
}

enum chv_err chv_info_audit(uint8_t out[CHV_INFO_MAX], size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_audit, out);
    return info_end(&w, len);
}

bool chv_audience_valid(const char *audience)
{
    static const char others[] = "0123456789._/-";
    const size_t len = strnlen(audience, CHV_AUDIENCE_MAX + 1);
    if (len < 1 || len > CHV_AUDIENCE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = audience[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && strchr(others, c) == NULL)
            return false;
    }
    return true;
}

enum chv_err chv_info_ticket(const char *audience, uint64_t period, uint8_t out[CHV_INFO_MAX], size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_ticket, out);
    if (!chv_audience_valid(audience))
        w.failed = true;
    write_u8_field(&w, audience, strnlen(audience, CHV_AUDIENCE_MAX));
    chv_write_u64(&w, period);
    return info_end(&w, len);
}

enum chv_err chv_info_ticket_seal(const uint8_t nonce[CHV_TICKET_NONCE_LEN], uint8_t out[CHV_INFO_MAX], size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_ticket_seal, out);
    chv_write_bytes(&w, nonce, CHV_TICKET_NONCE_LEN);
    return info_end(&w, len);
}

enum chv_err chv_info_resumption(const uint8_t *h_fin, size_t h_fin_len, uint32_t number, uint8_t out[CHV_INFO_MAX],
                                 size_t *len)
{
    struct chv_writer w;

    info_begin(&w, label_resumption, out);
    write_hash(&w, h_fin, h_fin_len);
    chv_write_u32(&w, number);
    return info_end(&w, len);
}

enum chv_err chv_info_exporter(const uint8_t *h_fin, size_t h_fin_len, const char *label, const uint8_t *context,
                               size_t context_len, uint8_t out[CHV_INFO_MAX], size_t *len)
{
    const size_t label_len = strlen(label);
    struct chv_writer w;

    info_begin(&w, label_exporter, out);
    write_hash(&w, h_fin, h_fin_len);
    if (label_len == 0 || label_len > CHV_EXPORT_LABEL_MAX)
        w.failed = true;
    write_u8_field(&w, label, label_len);
    write_u16_field(&w, context, context_len);
    return info_end(&w, len);
}
