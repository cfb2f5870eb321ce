/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL 3: every hash, curve and AEAD, in a library context of its own, so that neither the host program's providers
 * nor an openssl.cnf decide who computes.  Takes no uri.  Never blocks.
 */
#ifndef CHV_BACKENDS_OPENSSL_H
#define CHV_BACKENDS_OPENSSL_H

#include <chaveiro/backend.h>

extern const struct chv_backend chv_backend_openssl;

#endif
