/* SPDX-License-Identifier: Apache-2.0 */
/* Protocol names (Noise, section 8); the parser is in noise.h. */
#ifndef CHV_CORE_NOISE_NAME_H
#define CHV_CORE_NOISE_NAME_H

#include "core/noise.h"

/* "Noise", a pattern, and what the longest curve, cipher and hash take. */
enum { CHV_NOISE_NAME_MAX = 96 };

/* "Noise_NNpsk2_25519_AESGCM_SHA256" from the parts, NUL-terminated. */
void chv_noise_build_name(const struct chv_noise_config *config, char out[CHV_NOISE_NAME_MAX]);

#endif
