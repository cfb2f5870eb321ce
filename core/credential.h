/* SPDX-License-Identifier: Apache-2.0 */
/* The credential: the public half of a client's provisioning, in its one canonical encoding (doc/protocol.md, section
 * 2). */
#ifndef CHV_CORE_CREDENTIAL_H
#define CHV_CORE_CREDENTIAL_H

#include <chaveiro/session.h>

enum { CHV_SCOPES_MAX = 64, CHV_IDENTITY_HASH_LEN = 32 };

/* A parsed credential.  Strings are NUL-terminated and checked; scopes are sorted, none twice. */
struct chv_credential {
    enum chv_profile profile; /* psk or key+psk */
    uint32_t epoch;           /* from 1 */
    uint32_t serial;          /* from 1 */
    uint64_t not_after;       /* Unix seconds, 0 = never */
    char id[CHV_CLIENT_ID_MAX + 1];
    bool has_identity; /* exactly in profile key+psk */
    uint8_t identity_hash[CHV_IDENTITY_HASH_LEN];
    size_t scope_count;
    char scopes[CHV_SCOPES_MAX][CHV_SCOPE_MAX + 1];
};

/*
 * Strict parser: accepts exactly what chv_credential_encode writes; anything else is CHV_ERR_MALFORMED and *c is
 * zeroed. `used`: NULL if `len` must be used up; else set to the credential's length, for one with something behind it.
 */
enum chv_err chv_credential_parse(const uint8_t *buf, size_t len, struct chv_credential *c,
                                  size_t *used) CHV_MUST_CHECK;

/*
 * *len: in, room (CHV_CREDENTIAL_MAX is always enough for a valid one); out, length.
 * CHV_ERR_ARGUMENT for a bad id, scope, order, epoch, serial or profile; CHV_ERR_SPACE if it would pass 512 bytes.
 */
enum chv_err chv_credential_encode(const struct chv_credential *c, uint8_t *out, size_t *len) CHV_MUST_CHECK;

/* Adds a scope in its place (memcmp order, then length); a scope that is there already changes nothing.
 * CHV_ERR_ARGUMENT, CHV_ERR_SPACE. */
enum chv_err chv_credential_add_scope(struct chv_credential *c, const char *scope) CHV_MUST_CHECK;
bool chv_credential_has_scope(const struct chv_credential *c, const char *scope);

/* Grammar of section 1; NUL-terminated text. */
bool chv_client_id_valid(const char *id);
bool chv_server_name_valid(const char *name);
bool chv_scope_valid(const char *scope);

/* SHA-256("chaveiro v1 identity" 0x00 u8 curve || public key); `public_key` has chv_dh_public_len(curve) bytes. */
enum chv_err chv_identity_hash(const struct chv_crypto *crypto, enum chv_curve curve, const uint8_t *public_key,
                               uint8_t out[CHV_IDENTITY_HASH_LEN]) CHV_MUST_CHECK;

#endif
