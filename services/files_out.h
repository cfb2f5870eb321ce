/* SPDX-License-Identifier: Apache-2.0 */
/* Records that a service makes on a thread of its own and its connection sends from the loop. One user at a time. */
#ifndef CHV_SERVICES_FILES_OUT_H
#define CHV_SERVICES_FILES_OUT_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chv_conn;

enum { CHV_FILES_OUT_FULL = 256 * 1024 };

/* Records to send: u8 type, u32 length in host order, body; and again. */
struct chv_files_out {
    uint8_t *buf;
    size_t len, cap;
};

/* Room for one more body of at most `len` bytes; NULL: no memory. Then how many were written. */
uint8_t *chv_files_out_body(struct chv_files_out *out, size_t len);
void chv_files_out_add(struct chv_files_out *out, uint8_t type, size_t len);
/* The record at *at, which moves on; false: there is none. */
bool chv_files_out_next(const struct chv_files_out *out, size_t *at, uint8_t *type, const uint8_t **body, size_t *len);

/* END of a stream: its SHA-256 (CHV_FILES_DIGEST_LEN bytes), or NULL: it is given up. CHV_ERR_MEMORY. */
enum chv_err chv_files_out_end(struct chv_files_out *out, const uint8_t *digest) CHV_MUST_CHECK;
/*
 * Sends from *at on until the socket takes no more, on the connection's loop. *all: everything is out, was wiped, and *at
 * is 0 again; else it goes on when the connection has drained. An error: this direction is closed.
 */
enum chv_err chv_files_out_send(struct chv_files_out *out, size_t *at, struct chv_conn *conn, bool *all) CHV_MUST_CHECK;

#endif
