/* SPDX-License-Identifier: Apache-2.0 */
/* Known-answer self-test that a backend runs at the end of its open(). */
#ifndef CHV_BACKENDS_SELFTEST_H
#define CHV_BACKENDS_SELFTEST_H

#include <chaveiro/backend.h>

/*
 * Runs what `capabilities` names on an otherwise open context: hashes and HMAC, AEAD seal, open and refusal of a wrong
 * tag, Diffie-Hellman by known keys where dh_import exists (else two fresh keys against each other), random.
 * CHV_ERR_SELFTEST and in `why` which test; leaves no handle.  Blocks as the backend's methods do.
 */
enum chv_err chv_selftest(const struct chv_backend *backend, void *ctx, uint32_t capabilities,
                          struct chv_why *why) CHV_MUST_CHECK;

#endif
