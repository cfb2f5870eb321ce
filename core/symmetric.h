/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Noise revision 34, section 5.2: the symmetric state of a handshake.  Used by noise.c only.
 *
 * No function leaves a state that may go on after it has failed: wipe it.
 */
#ifndef CHV_CORE_SYMMETRIC_H
#define CHV_CORE_SYMMETRIC_H

#include "core/noise.h"

/* InitializeSymmetric, then nothing to wipe on failure. */
enum chv_err chv_symmetric_init(struct chv_noise_symmetric *ss, const struct chv_crypto *crypto, enum chv_hash hash,
                                enum chv_aead_alg cipher, const char *name) CHV_MUST_CHECK;
/* Frees the AEAD key and zeroes everything. */
void chv_symmetric_wipe(struct chv_noise_symmetric *ss);

/* 16 once there is a key, 0 before: what encrypting adds to a length. */
size_t chv_symmetric_tag_len(const struct chv_noise_symmetric *ss);

enum chv_err chv_symmetric_mix_hash(struct chv_noise_symmetric *ss, const uint8_t *data, size_t len) CHV_MUST_CHECK;
enum chv_err chv_symmetric_mix_key(struct chv_noise_symmetric *ss, const uint8_t *ikm, size_t len) CHV_MUST_CHECK;
enum chv_err chv_symmetric_mix_key_and_hash(struct chv_noise_symmetric *ss,
                                            const uint8_t psk[CHV_KEY_LEN]) CHV_MUST_CHECK;
/* out: len + chv_symmetric_tag_len bytes, apart from `in`. */
enum chv_err chv_symmetric_encrypt_and_hash(struct chv_noise_symmetric *ss, const uint8_t *in, size_t len,
                                            uint8_t *out) CHV_MUST_CHECK;
/* in_len is at least chv_symmetric_tag_len; `out == in` is allowed.  On failure `out` is zeros or still `in`. */
enum chv_err chv_symmetric_decrypt_and_hash(struct chv_noise_symmetric *ss, const uint8_t *in, size_t in_len,
                                            uint8_t *out) CHV_MUST_CHECK;
/* HKDF(ck, "", 3); with third NULL, HKDF(ck, "", 2).  Outputs are set on success only. */
enum chv_err chv_symmetric_split(struct chv_noise_symmetric *ss, uint8_t k1[CHV_KEY_LEN], uint8_t k2[CHV_KEY_LEN],
                                 uint8_t *third) CHV_MUST_CHECK;

#endif
