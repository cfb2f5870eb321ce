/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's TLS 1.3 with an external PSK, psk_dhe_ke over X25519, no tickets: one suite, one key. */
#ifndef CHV_BENCH_TLS_PSK_H
#define CHV_BENCH_TLS_PSK_H

#include <openssl/ssl.h>

enum { TLS_ASK = 80, TLS_ANSWER = 64 }; /* bytes of a request and of what comes back (bench/blast.h: an echo) */

/* `suite` "256": AES-256-GCM/SHA-384; "128": AES-128-GCM/SHA-256. */
SSL_CTX *tls_psk_context(const SSL_METHOD *method, const char *suite);
/* One that is on `fd` and knows its side. */
SSL *tls_psk_new(SSL_CTX *context, int fd, int server);

#endif
