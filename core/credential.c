/* SPDX-License-Identifier: Apache-2.0 */
#include "core/credential.h"

#include "base/bytes.h"
#include "base/memory.h"

#include <string.h>

enum { CREDENTIAL_VERSION = 1 };

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c);
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

bool chv_client_id_valid(const char *id)
{
    size_t len = strnlen(id, CHV_CLIENT_ID_MAX + 1);
    if (len < 1 || len > CHV_CLIENT_ID_MAX || !is_alphanumeric(id[0]))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!is_alphanumeric(id[i]) && !is_one_of(id[i], "._@:-"))
            return false;
    return true;
}

bool chv_server_name_valid(const char *name)
{
    size_t len = strnlen(name, CHV_SERVER_NAME_MAX + 1);
    if (len < 1 || len > CHV_SERVER_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alphanumeric(name[i]) && !is_one_of(name[i], "._-"))
            return false;
    return true;
}

bool chv_scope_valid(const char *scope)
{
    size_t len = strnlen(scope, CHV_SCOPE_MAX + 1);
    if (len < 1 || len > CHV_SCOPE_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_lower(scope[i]) && !is_digit(scope[i]) && !is_one_of(scope[i], "._:/-"))
            return false;
    return true;
}

/* Everything that one canonical credential must be; strcmp is the memcmp-then-length order, since no text holds NUL. */
static bool is_canonical(const struct chv_credential *c)
{
    if (c->profile != CHV_PROFILE_PSK && c->profile != CHV_PROFILE_KEY_PSK)
        return false;
    if (c->has_identity != (c->profile == CHV_PROFILE_KEY_PSK))
        return false;
    if (c->epoch < 1 || c->serial < 1 || !chv_client_id_valid(c->id) || c->scope_count > CHV_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < c->scope_count; i++)
        if (!chv_scope_valid(c->scopes[i]) || (i > 0 && strcmp(c->scopes[i - 1], c->scopes[i]) >= 0))
            return false;
    return true;
}

/* Reads u8 length and that many bytes as text; a NUL inside cuts it short, which the length comparison notices. */
static bool read_text(struct chv_reader *r, char *out, size_t max)
{
    size_t len = chv_read_u8(r);
    if (len > max)
        return false;
    const uint8_t *bytes = chv_read_bytes(r, len);
    if (bytes == NULL)
        return false;
    memcpy(out, bytes, len);
    out[len] = '\0';
    return strlen(out) == len;
}

static bool read_fields(struct chv_reader *r, struct chv_credential *c)
{
    if (chv_read_u8(r) != CREDENTIAL_VERSION)
        return false;
    c->profile = (enum chv_profile)chv_read_u8(r);
    c->epoch = chv_read_u32(r);
    c->serial = chv_read_u32(r);
    c->not_after = chv_read_u64(r);
    if (!read_text(r, c->id, CHV_CLIENT_ID_MAX))
        return false;

    size_t hash_len = chv_read_u8(r);
    if (hash_len != 0 && hash_len != CHV_IDENTITY_HASH_LEN)
        return false;
    const uint8_t *hash = chv_read_bytes(r, hash_len);
    if (hash == NULL)
        return false;
    c->has_identity = hash_len != 0;
    memcpy(c->identity_hash, hash, hash_len);

    c->scope_count = chv_read_u8(r);
    if (c->scope_count > CHV_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < c->scope_count; i++)
        if (!read_text(r, c->scopes[i], CHV_SCOPE_MAX))
            return false;
    return !r->failed && is_canonical(c);
}

enum chv_err chv_credential_parse(const uint8_t *buf, size_t len, struct chv_credential *c, size_t *used)
{
    struct chv_reader r;
    chv_reader_init(&r, buf, len);
    memset(c, 0, sizeof *c);
    bool good = read_fields(&r, c) && len - r.left <= CHV_CREDENTIAL_MAX && (used != NULL || r.left == 0);
    if (!good) {
        memset(c, 0, sizeof *c);
        return CHV_ERR_MALFORMED;
    }
    if (used != NULL)
        *used = len - r.left;
    return CHV_OK;
}

enum chv_err chv_credential_encode(const struct chv_credential *c, uint8_t *out, size_t *len)
{
    if (!is_canonical(c))
        return CHV_ERR_ARGUMENT;

    uint8_t buf[CHV_CREDENTIAL_MAX];
    struct chv_writer w;
    chv_writer_init(&w, buf, sizeof buf);
    chv_write_u8(&w, CREDENTIAL_VERSION);
    chv_write_u8(&w, (uint8_t)c->profile);
    chv_write_u32(&w, c->epoch);
    chv_write_u32(&w, c->serial);
    chv_write_u64(&w, c->not_after);
    chv_write_u8(&w, (uint8_t)strlen(c->id));
    chv_write_bytes(&w, c->id, strlen(c->id));
    chv_write_u8(&w, c->has_identity ? CHV_IDENTITY_HASH_LEN : 0);
    chv_write_bytes(&w, c->identity_hash, c->has_identity ? CHV_IDENTITY_HASH_LEN : 0);
    chv_write_u8(&w, (uint8_t)c->scope_count);
    for (size_t i = 0; i < c->scope_count; i++) {
        chv_write_u8(&w, (uint8_t)strlen(c->scopes[i]));
        chv_write_bytes(&w, c->scopes[i], strlen(c->scopes[i]));
    }
    if (w.failed || w.len > *len)
        return CHV_ERR_SPACE;
    memcpy(out, buf, w.len);
    *len = w.len;
    return CHV_OK;
}

enum chv_err chv_credential_add_scope(struct chv_credential *c, const char *scope)
{
    if (!chv_scope_valid(scope))
        return CHV_ERR_ARGUMENT;
    size_t at = 0;
    while (at < c->scope_count && strcmp(c->scopes[at], scope) < 0)
        at++;
    if (at < c->scope_count && strcmp(c->scopes[at], scope) == 0)
        return CHV_OK;
    if (c->scope_count == CHV_SCOPES_MAX)
        return CHV_ERR_SPACE;
    memmove(c->scopes[at + 1], c->scopes[at], (c->scope_count - at) * sizeof c->scopes[0]);
    memset(c->scopes[at], 0, sizeof c->scopes[at]);
    memcpy(c->scopes[at], scope, strlen(scope));
    c->scope_count++;
    return CHV_OK;
}

bool chv_credential_has_scope(const struct chv_credential *c, const char *scope)
{
    for (size_t i = 0; i < c->scope_count; i++)
        if (strcmp(c->scopes[i], scope) == 0)
            return true;
    return false;
}

enum chv_err chv_identity_hash(const struct chv_crypto *crypto, enum chv_curve curve, const uint8_t *public_key,
                               uint8_t out[CHV_IDENTITY_HASH_LEN])
{
    static const char label[] = "chaveiro v1 identity"; /* hashed with its NUL */
    const uint8_t curve_byte = (uint8_t)curve;
    const struct chv_part parts[] = {{label, sizeof label}, {&curve_byte, 1}, {public_key, chv_dh_public_len(curve)}};
    return chv_crypto_hash(crypto, CHV_HASH_SHA256, parts, sizeof parts / sizeof parts[0], out);
}
