/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) of a stream. A file's check, not a session's cryptography: always OpenSSL's. */
#ifndef CHV_SERVICES_FILES_DIGEST_H
#define CHV_SERVICES_FILES_DIGEST_H

#include <chaveiro/error.h>

#include <stddef.h>
#include <stdint.h>

enum { CHV_FILES_DIGEST_LEN = 32 };

struct chv_files_digest;

enum chv_err chv_files_digest_new(struct chv_files_digest **digest) CHV_MUST_CHECK;
void chv_files_digest_free(struct chv_files_digest *digest); /* NULL is allowed */
enum chv_err chv_files_digest_add(struct chv_files_digest *digest, const void *data, size_t len) CHV_MUST_CHECK;
/* A new stream, whatever became of the one before. */
enum chv_err chv_files_digest_reset(struct chv_files_digest *digest) CHV_MUST_CHECK;
/* Of what was added so far; more may follow. */
enum chv_err chv_files_digest_peek(const struct chv_files_digest *digest,
                                   uint8_t out[static CHV_FILES_DIGEST_LEN]) CHV_MUST_CHECK;
/* Once, at the end. */
enum chv_err chv_files_digest_finish(struct chv_files_digest *digest,
                                     uint8_t out[static CHV_FILES_DIGEST_LEN]) CHV_MUST_CHECK;

#endif
