/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded cursors over caller-owned memory.  Integers are big-endian.
 * The first call that would pass the end sets `failed` and does nothing more, as do all later ones: check once at the
 * end.
 */
#ifndef CHV_BASE_BYTES_H
#define CHV_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chv_reader {
    const uint8_t *ptr;
    size_t left;
    bool failed;
};

struct chv_writer {
    uint8_t *start;
    size_t len; /* bytes written */
    size_t cap;
    bool failed;
};

void chv_reader_init(struct chv_reader *r, const void *buf, size_t len);
/* 0 once failed. */
uint8_t chv_read_u8(struct chv_reader *r);
uint16_t chv_read_u16(struct chv_reader *r);
uint32_t chv_read_u32(struct chv_reader *r);
uint64_t chv_read_u64(struct chv_reader *r);
/* Lends the next n bytes; NULL once failed. */
const uint8_t *chv_read_bytes(struct chv_reader *r, size_t n);
/* Not failed and nothing left. */
bool chv_reader_done(const struct chv_reader *r);

void chv_writer_init(struct chv_writer *w, void *buf, size_t cap);
void chv_write_u8(struct chv_writer *w, uint8_t v);
void chv_write_u16(struct chv_writer *w, uint16_t v);
void chv_write_u32(struct chv_writer *w, uint32_t v);
void chv_write_u64(struct chv_writer *w, uint64_t v);
void chv_write_bytes(struct chv_writer *w, const void *buf, size_t n);
/* Lends room for n bytes and counts them as written; NULL once failed. */
uint8_t *chv_write_room(struct chv_writer *w, size_t n);

#endif
