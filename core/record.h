/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of the record layer (doc/protocol.md, section 5): key, counter, rekey every 2^20 records. */
#ifndef CHV_CORE_RECORD_H
#define CHV_CORE_RECORD_H

#include <chaveiro/session.h>

#define CHV_REKEY_RECORDS (UINT64_C(1) << 20)

struct chv_direction {
    uint8_t key[CHV_KEY_LEN];
    uint64_t n;            /* of the next record; never reset */
    struct chv_aead *aead; /* holds `key`; NULL while idle */
};

/*
 * Seals in place: chaveiro/session.h, chv_session_seal, without its rules of order.  On failure the frame must not be
 * sent and the direction must not be used again: its counter is spent (CHV_ERR_EXHAUSTED) or its key may be torn
 * (CHV_ERR_CRYPTO).
 */
enum chv_err chv_direction_seal(struct chv_direction *d, const struct chv_crypto *crypto, enum chv_aead_alg alg,
                                uint8_t type, uint8_t *frame, size_t body_len, size_t *frame_len) CHV_MUST_CHECK;
/* Opens in place a frame of at least 19 bytes whose first two say frame_len - 2; CHV_ERR_PROTOCOL if they do not. */
enum chv_err chv_direction_open(struct chv_direction *d, const struct chv_crypto *crypto, enum chv_aead_alg alg,
                                uint8_t *frame, size_t frame_len, uint8_t *type, const uint8_t **body,
                                size_t *body_len) CHV_MUST_CHECK;
/* Gives the AEAD context back until the next record. */
void chv_direction_idle(struct chv_direction *d, const struct chv_crypto *crypto);
void chv_direction_wipe(struct chv_direction *d, const struct chv_crypto *crypto);

#endif
