/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <string.h>

void chv_reader_init(struct chv_reader *r, const void *buf, size_t len)
{
    *r = (struct chv_reader){.ptr = buf, .left = len};
}

const uint8_t *chv_read_bytes(struct chv_reader *r, size_t n)
{
    if (r->failed || n > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->ptr;
    /* An empty reader may stand on NULL, to which not even 0 may be added. */
    if (n > 0)
        r->ptr += n;
    r->left -= n;
    return p;
}

static uint64_t read_be(struct chv_reader *r, size_t n)
{
    uint64_t v = 0;
    const uint8_t *p = chv_read_bytes(r, n);
    for (size_t i = 0; p != NULL && i < n; i++)
        v = v << 8 | p[i];
    return v;
}

uint8_t chv_read_u8(struct chv_reader *r)
{
    return (uint8_t)read_be(r, 1);
}

uint16_t chv_read_u16(struct chv_reader *r)
{
    return (uint16_t)read_be(r, 2);
}

uint32_t chv_read_u32(struct chv_reader *r)
{
    return (uint32_t)read_be(r, 4);
}

uint64_t chv_read_u64(struct chv_reader *r)
{
    return read_be(r, 8);
}

bool chv_reader_done(const struct chv_reader *r)
{
    return !r->failed && r->left == 0;
}

void chv_writer_init(struct chv_writer *w, void *buf, size_t cap)
{
    *w = (struct chv_writer){.start = buf, .cap = cap};
}

uint8_t *chv_write_room(struct chv_writer *w, size_t n)
{
    if (w->failed || n > w->cap - w->len) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->len > 0 ? w->start + w->len : w->start;
    w->len += n;
    return p;
}

static void write_be(struct chv_writer *w, uint64_t v, size_t n)
{
    uint8_t *p = chv_write_room(w, n);
    for (size_t i = n; p != NULL && i > 0; i--) {
        p[i - 1] = (uint8_t)v;
        v >>= 8;
    }
}

void chv_write_u8(struct chv_writer *w, uint8_t v)
{
    write_be(w, v, 1);
}

void chv_write_u16(struct chv_writer *w, uint16_t v)
{
    write_be(w, v, 2);
}

void chv_write_u32(struct chv_writer *w, uint32_t v)
{
    write_be(w, v, 4);
}

void chv_write_u64(struct chv_writer *w, uint64_t v)
{
    write_be(w, v, 8);
}

void chv_write_bytes(struct chv_writer *w, const void *buf, size_t n)
{
    uint8_t *p = chv_write_room(w, n);
    if (p != NULL && n > 0)
        memcpy(p, buf, n);
}
