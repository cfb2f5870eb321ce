/* SPDX-License-Identifier: Apache-2.0 */
/* Hex and base64url (RFC 4648, 5, without padding) whose time depends on lengths only, so that keys may pass through.
 */
#ifndef CHV_BASE_ENCODE_H
#define CHV_BASE_ENCODE_H

#include <chaveiro/error.h>

#include <stddef.h>
#include <stdint.h>

/* Bytes needed for text, with its NUL. */
#define CHV_HEX_SIZE(n) (2 * (n) + 1)
#define CHV_BASE64_SIZE(n) (((n)*4 + 2) / 3 + 1)

/* out: CHV_HEX_SIZE(len) bytes, lower case, NUL-terminated. */
void chv_hex_encode(const uint8_t *in, size_t len, char *out);
/* Either case, no separators.  *out_len: in, room; out, bytes.  CHV_ERR_MALFORMED, CHV_ERR_SPACE; out is then wiped. */
enum chv_err chv_hex_decode(const char *in, size_t in_len, uint8_t *out, size_t *out_len) CHV_MUST_CHECK;

/* out: CHV_BASE64_SIZE(len) bytes, NUL-terminated. */
void chv_base64_encode(const uint8_t *in, size_t len, char *out);
/* One encoding only: no padding, no white space, unused bits 0.  *out_len and errors as above. */
enum chv_err chv_base64_decode(const char *in, size_t in_len, uint8_t *out, size_t *out_len) CHV_MUST_CHECK;

#endif
