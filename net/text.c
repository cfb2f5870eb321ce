/* SPDX-License-Identifier: Apache-2.0 */
#include "net/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the well-formed UTF-8 sequence at p (RFC 3629, section 4), 0 if there is none; *code is its character. */
static size_t utf8_sequence(const uint8_t *p, size_t len, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (n == 0 || n > len)
        return 0;
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return n;
}

bool chv_text_is_utf8(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    uint32_t code;
    while (len > 0) {
        size_t n = utf8_sequence(p, len, &code);
        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

static bool printable(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0))
        return false;
    /* Direction marks, embeddings and isolates; line and paragraph separators; byte order mark; tags. */
    return c != 0x61c && !(c >= 0x200b && c <= 0x200f) && !(c >= 0x2028 && c <= 0x202e) &&
           !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff && !(c >= 0xfff0 && c <= 0xfffb) && (c & 0xfffe) != 0xfffe &&
           !(c >= 0xe0000 && c <= 0xe0fff);
}

size_t chv_text_escape(const char *text, size_t len, char *out, size_t cap, size_t *out_len)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = (const uint8_t *)text;
    size_t used = 0, w = 0;
    while (used < len) {
        uint32_t code = 0;
        size_t n = utf8_sequence(p + used, len - used, &code);
        bool plain = n > 0 && printable(code);
        size_t in = n > 0 ? n : 1;
        size_t need = plain ? n : 4 * in;
        if (need >= cap - w)
            break;
        if (plain)
            memcpy(out + w, p + used, n);
        for (size_t i = 0; !plain && i < in; i++) {
            uint8_t byte = p[used + i];
            const char escape[4] = {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
            memcpy(out + w + 4 * i, escape, sizeof escape);
        }
        w += need;
        used += in;
    }
    out[w] = '\0';
    if (out_len != NULL)
        *out_len = w;
    return used;
}
