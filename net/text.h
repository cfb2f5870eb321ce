/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a peer on its way to a log or a terminal. */
#ifndef CHV_NET_TEXT_H
#define CHV_NET_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629). */
bool chv_text_is_utf8(const char *text, size_t len);

/*
 * Copies `len` bytes, NUL-terminated; every byte that is not part of a printable UTF-8 character comes out as \xHH:
 * control characters (C0, DEL, C1), characters that change the direction or the lines of text, and malformed sequences.
 * Stops before what does not fit into `cap` (at least 1) as a whole. Returns the bytes of `text` that were copied;
 * *out_len, if not NULL, is set to the bytes written without the NUL.
 */
size_t chv_text_escape(const char *text, size_t len, char *out, size_t cap, size_t *out_len);

#endif
