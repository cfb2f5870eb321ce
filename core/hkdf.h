/* SPDX-License-Identifier: Apache-2.0 */
/* HKDF (RFC 5869) over the backend's HMAC, and the infos of every derivation of doc/protocol.md, section 2. */
#ifndef CHV_CORE_HKDF_H
#define CHV_CORE_HKDF_H

#include <chaveiro/backend.h>
#include <chaveiro/keystore.h>

enum { CHV_AUDIENCE_MAX = 72, CHV_TICKET_NONCE_LEN = 32 };

/* RFC 5869, 2.2.  prk: chv_hash_len(alg) bytes. salt NULL with length 0 = HashLen zeros. salt at most 1024 bytes. */
enum chv_err chv_hkdf_extract(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *salt, size_t salt_len,
                              const uint8_t *ikm, size_t ikm_len, uint8_t *prk) CHV_MUST_CHECK;
/* RFC 5869, 2.3.  out_len up to 255 * HashLen.  On failure out is wiped. */
enum chv_err chv_hkdf_expand(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *prk, size_t prk_len,
                             const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len) CHV_MUST_CHECK;

/*
 * After the last use of a key that outlives no call: a backend may keep the key of its last HMAC in a context (OpenSSL
 * does, in ordinary memory); this makes it one of zeros.  One HMAC.
 */
enum chv_err chv_hkdf_forget(const struct chv_crypto *crypto, enum chv_hash alg) CHV_MUST_CHECK;

/*
 * Builders of an info: label || 0x00 || fields.  They write to `out` (CHV_INFO_MAX bytes) and set *len.
 * All texts are checked by the caller (chv_server_name_valid...); CHV_ERR_ARGUMENT for a length that its prefix cannot
 * carry. h_psk and h_fin: 32 to 64 bytes.
 */
enum chv_err chv_info_access(const uint8_t *credential, size_t credential_len, uint8_t out[CHV_INFO_MAX],
                             size_t *len) CHV_MUST_CHECK;
enum chv_err chv_info_session(const char *server, const uint8_t *h_psk, size_t h_psk_len, uint8_t out[CHV_INFO_MAX],
                              size_t *len) CHV_MUST_CHECK;
enum chv_err chv_info_update(const char *server, const uint8_t *h_fin, size_t h_fin_len, const uint8_t *old_credential,
                             size_t old_len, const uint8_t *new_credential, size_t new_len, uint8_t out[CHV_INFO_MAX],
                             size_t *len) CHV_MUST_CHECK;
enum chv_err chv_info_check(uint8_t out[CHV_INFO_MAX], size_t *len) CHV_MUST_CHECK;
/* The MAC key of the audit trail, from a master. */
enum chv_err chv_info_audit(uint8_t out[CHV_INFO_MAX], size_t *len) CHV_MUST_CHECK;
/* Who opens a ticket ("home", "home/data", "fleet/NAME"): 1 to CHV_AUDIENCE_MAX bytes of [A-Za-z0-9._/-]. */
bool chv_audience_valid(const char *audience);
/* The ticket key of an audience for one period (Unix time / 86400), from a master; then the key of one ticket from it. */
enum chv_err chv_info_ticket(const char *audience, uint64_t period, uint8_t out[CHV_INFO_MAX],
                             size_t *len) CHV_MUST_CHECK;
enum chv_err chv_info_ticket_seal(const uint8_t nonce[CHV_TICKET_NONCE_LEN], uint8_t out[CHV_INFO_MAX],
                                  size_t *len) CHV_MUST_CHECK;
/* The resumption secret of a session's ticket `number`, from the exporter secret. */
enum chv_err chv_info_resumption(const uint8_t *h_fin, size_t h_fin_len, uint32_t number, uint8_t out[CHV_INFO_MAX],
                                 size_t *len) CHV_MUST_CHECK;
enum chv_err chv_info_exporter(const uint8_t *h_fin, size_t h_fin_len, const char *label, const uint8_t *context,
                               size_t context_len, uint8_t out[CHV_INFO_MAX], size_t *len) CHV_MUST_CHECK;

/*
 * Every label of the protocol, for `keyadmin derive --explain`, doc/protocol.md and the test that no two are equal
 * or one a prefix of another with its 0x00.
 */
struct chv_label {
    const char *text;   /* "chaveiro v1 access" */
    const char *parent; /* "master", "access key", "exporter secret", "hash" */
    const char *fields; /* "u16 len credential" */
    const char *result; /* "access key" */
};
extern const struct chv_label chv_labels[];
extern const size_t chv_label_count;

#endif
