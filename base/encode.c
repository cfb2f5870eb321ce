/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on masks in place of tables and branches: a table's cache line or a branch's time would tell which
 * character a key's bits became.
 */
#include "base/encode.h"

#include "base/memory.h"

/* All bits set if lo <= c <= hi, else 0; all of them below 2^31. */
static unsigned mask_between(unsigned c, unsigned lo, unsigned hi)
{
    unsigned below = (c - lo) >> 31;
    unsigned above = (hi - c) >> 31;
    return (below | above) - 1u;
}

static char hex_char(unsigned v)
{
    return (char)((mask_between(v, 0, 9) & ('0' + v)) | (mask_between(v, 10, 15) & ('a' + v - 10)));
}

/* The value of a hex digit; sets *bad to non-zero for any other character. */
static unsigned hex_value(unsigned char c, unsigned *bad)
{
    unsigned digit = mask_between(c, '0', '9');
    unsigned lower = mask_between(c, 'a', 'f');
    unsigned upper = mask_between(c, 'A', 'F');
    *bad |= ~(digit | lower | upper);
    return (digit & (c - (unsigned)'0')) | (lower & (c - (unsigned)'a' + 10)) | (upper & (c - (unsigned)'A' + 10));
}

void chv_hex_encode(const uint8_t *in, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        *out++ = hex_char(in[i] >> 4);
        *out++ = hex_char(in[i] & 15u);
    }
    *out = '\0';
}

/* The one way out of a decoder: only now may the time depend on whether the text was good. */
static enum chv_err finish_decode(unsigned bad, uint8_t *out, size_t *out_len, size_t len)
{
    if (bad != 0) {
        chv_wipe(out, *out_len);
        return CHV_ERR_MALFORMED;
    }
    *out_len = len;
    return CHV_OK;
}

enum chv_err chv_hex_decode(const char *in, size_t in_len, uint8_t *out, size_t *out_len)
{
    if (in_len % 2 != 0)
        return finish_decode(1, out, out_len, 0);
    size_t len = in_len / 2;
    if (len > *out_len) {
        chv_wipe(out, *out_len);
        return CHV_ERR_SPACE;
    }
    unsigned bad = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned high = hex_value((unsigned char)in[2 * i], &bad);
        unsigned low = hex_value((unsigned char)in[2 * i + 1], &bad);
        out[i] = (uint8_t)(high << 4 | low);
    }
    return finish_decode(bad, out, out_len, len);
}

/* RFC 4648, table 2. */
static char base64_char(unsigned v)
{
    return (char)((mask_between(v, 0, 25) & ('A' + v)) | (mask_between(v, 26, 51) & ('a' + v - 26)) |
                  (mask_between(v, 52, 61) & ('0' + v - 52)) | (mask_between(v, 62, 62) & '-') |
                  (mask_between(v, 63, 63) & '_'));
}

static unsigned base64_value(unsigned char c, unsigned *bad)
{
    unsigned upper = mask_between(c, 'A', 'Z');
    unsigned lower = mask_between(c, 'a', 'z');
    unsigned digit = mask_between(c, '0', '9');
    unsigned minus = mask_between(c, '-', '-');
    unsigned under = mask_between(c, '_', '_');
    *bad |= ~(upper | lower | digit | minus | under);
    return (upper & (c - (unsigned)'A')) | (lower & (c - (unsigned)'a' + 26)) | (digit & (c - (unsigned)'0' + 52)) |
           (minus & 62) | (under & 63);
}

void chv_base64_encode(const uint8_t *in, size_t len, char *out)
{
    for (; len >= 3; in += 3, len -= 3) {
        unsigned v = (unsigned)in[0] << 16 | (unsigned)in[1] << 8 | in[2];
        *out++ = base64_char(v >> 18);
        *out++ = base64_char(v >> 12 & 63);
        *out++ = base64_char(v >> 6 & 63);
        *out++ = base64_char(v & 63);
    }
    if (len > 0) {
        unsigned v = (unsigned)in[0] << 16 | (len == 2 ? (unsigned)in[1] << 8 : 0);
        *out++ = base64_char(v >> 18);
        *out++ = base64_char(v >> 12 & 63);
        if (len == 2)
            *out++ = base64_char(v >> 6 & 63);
    }
    *out = '\0';
}

enum chv_err chv_base64_decode(const char *in, size_t in_len, uint8_t *out, size_t *out_len)
{
    if (in_len % 4 == 1)
        return finish_decode(1, out, out_len, 0);
    size_t len = in_len / 4 * 3 + in_len % 4 * 3 / 4;
    if (len > *out_len) {
        chv_wipe(out, *out_len);
        return CHV_ERR_SPACE;
    }
    unsigned bad = 0;
    unsigned bits = 0; /* those read and not yet written, and older ones above them */
    unsigned have = 0;
    uint8_t *o = out;
    for (size_t i = 0; i < in_len; i++) {
        bits = bits << 6 | base64_value((unsigned char)in[i], &bad);
        have += 6;
        if (have >= 8) {
            have -= 8;
            *o++ = (uint8_t)(bits >> have);
        }
    }
    /* RFC 4648, 3.5: the unused bits must be 0, else two texts would mean the same bytes. */
    bad |= bits & ((1u << have) - 1u);
    return finish_decode(bad, out, out_len, len);
}
