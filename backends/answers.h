/* SPDX-License-Identifier: Apache-2.0 */
/* Published known answers, in hex, that more than one test of this library runs. */
#ifndef CHV_BACKENDS_ANSWERS_H
#define CHV_BACKENDS_ANSWERS_H

#include <chaveiro/backend.h>

enum { CHV_ANSWER_MESSAGE_MAX = 114, CHV_ANSWER_AD_MAX = 20 }; /* bytes: the longest below is RFC 8439's */

struct chv_answer_aead {
    const char *source;
    const char *key, *nonce, *ad, *plain;
    const char *sealed; /* ciphertext, tag */
};
extern const struct chv_answer_aead chv_answers_aead[CHV_AEAD_COUNT];

/* Two key pairs and what they agree on. */
struct chv_answer_dh {
    const char *source;
    const char *private_key[2], *public_key[2];
    const char *shared;
};
extern const struct chv_answer_dh chv_answers_dh[CHV_CURVE_COUNT];

#endif
