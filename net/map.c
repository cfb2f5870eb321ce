/* SPDX-License-Identifier: Apache-2.0 */
#include "net/map.h"

#include <cbor.h>
#include <string.h>

#include "net/control.h"
#include "net/text.h"

enum { DEPTH_MAX = 4, PAIRS_MAX = 64 };

/*
 * First pass, by libcbor's streaming decoder, which allocates nothing: the shape. Only a buffer that passes is given to
 * cbor_load, whose memory is then bounded by CHV_CONTROL_MAX.
 */
struct shape {
    size_t open[DEPTH_MAX]; /* items that each open container still wants */
    size_t depth;
    size_t room; /* bytes of the buffer: no container has more items */
    bool started, bad;
};

static void count_item(struct shape *s)
{
    if (s->depth > 0)
        s->open[s->depth - 1]--;
    else if (s->started)
        s->bad = true; /* something behind the map */
    s->started = true;
}

static void open_container(struct shape *s, size_t items)
{
    count_item(s);
    if (s->bad || s->depth == DEPTH_MAX || items > s->room)
        s->bad = true;
    else
        s->open[s->depth++] = items;
}

static void on_u8(void *arg, uint8_t v)
{
    (void)v;
    count_item(arg);
}

static void on_u16(void *arg, uint16_t v)
{
    (void)v;
    count_item(arg);
}

static void on_u32(void *arg, uint32_t v)
{
    (void)v;
    count_item(arg);
}

static void on_u64(void *arg, uint64_t v)
{
    (void)v;
    count_item(arg);
}

static void on_string(void *arg, cbor_data data, size_t len)
{
    struct shape *s = arg;
    count_item(s);
    (void)data;
    if (len > s->room)
        s->bad = true;
}

static void on_text(void *arg, cbor_data data, size_t len)
{
    struct shape *s = arg;
    on_string(arg, data, len);
    if (!s->bad && !chv_text_is_utf8((const char *)data, len))
        s->bad = true;
}

static void on_array(void *arg, size_t items)
{
    open_container(arg, items);
}

static void on_map(void *arg, size_t pairs)
{
    struct shape *s = arg;
    if (pairs > PAIRS_MAX)
        s->bad = true;
    else
        open_container(s, 2 * pairs);
}

static void on_tag(void *arg, uint64_t tag)
{
    (void)tag;
    open_container(arg, 1);
}

static void on_float(void *arg, float v)
{
    (void)v;
    count_item(arg);
}

static void on_double(void *arg, double v)
{
    (void)v;
    count_item(arg);
}

static void on_bool(void *arg, bool v)
{
    (void)v;
    count_item(arg);
}

static void on_simple(void *arg)
{
    count_item(arg);
}

/* Indefinite lengths and their end. */
static void on_bad(void *arg)
{
    struct shape *s = arg;
    s->bad = true;
}

static const struct cbor_callbacks shape_callbacks = {
    .uint8 = on_u8,
    .uint16 = on_u16,
    .uint32 = on_u32,
    .uint64 = on_u64,
    .negint8 = on_u8,
    .negint16 = on_u16,
    .negint32 = on_u32,
    .negint64 = on_u64,
    .byte_string_start = on_bad,
    .byte_string = on_string,
    .string = on_text,
    .string_start = on_bad,
    .indef_array_start = on_bad,
    .array_start = on_array,
    .indef_map_start = on_bad,
    .map_start = on_map,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_simple,
    .null = on_simple,
    .boolean = on_bool,
    .indef_break = on_bad,
};

static bool well_shaped(const uint8_t *buf, size_t len)
{
    struct shape s = {.room = len};
    size_t pos = 0;
    if (len == 0 || len > CHV_CONTROL_MAX || buf[0] >> 5 != 5) /* major type 5: a map (RFC 8949, 3.1) */
        return false;
    while (pos < len && !s.bad) {
        struct cbor_decoder_result r = cbor_stream_decode(buf + pos, len - pos, &shape_callbacks, &s);
        if (r.status != CBOR_DECODER_FINISHED || r.read == 0)
            return false;
        pos += r.read;
        while (!s.bad && s.depth > 0 && s.open[s.depth - 1] == 0)
            s.depth--;
    }
    return !s.bad && s.depth == 0;
}

static bool same_text(const cbor_item_t *a, const cbor_item_t *b)
{
    size_t len = cbor_string_length(a);
    return len == cbor_string_length(b) && memcmp(cbor_string_handle(a), cbor_string_handle(b), len) == 0;
}

static bool good_items(cbor_item_t *item);

/* Text keys, none twice; values good. */
static bool good_map(const cbor_item_t *map)
{
    const struct cbor_pair *pairs = cbor_map_handle(map);
    for (size_t i = 0; i < cbor_map_size(map); i++) {
        if (!cbor_isa_string(pairs[i].key))
            return false;
        for (size_t j = 0; j < i; j++)
            if (same_text(pairs[i].key, pairs[j].key))
                return false;
        if (!good_items(pairs[i].value))
            return false;
    }
    return true;
}

/* Recursion is bounded by DEPTH_MAX, which the first pass has checked. */
static bool good_items(cbor_item_t *item)
{
    if (cbor_isa_map(item))
        return good_map(item);
    if (cbor_isa_tag(item)) {
        cbor_item_t *inner = cbor_tag_item(item);
        bool good = good_items(inner);
        cbor_decref(&inner);
        return good;
    }
    if (!cbor_isa_array(item))
        return true;
    for (size_t i = 0; i < cbor_array_size(item); i++)
        if (!good_items(cbor_array_handle(item)[i]))
            return false;
    return true;
}

enum chv_err chv_map_load(const uint8_t *buf, size_t len, struct cbor_item_t **map)
{
    struct cbor_load_result result;
    if (!well_shaped(buf, len))
        return CHV_ERR_MALFORMED;
    cbor_item_t *item = cbor_load(buf, len, &result);
    if (item == NULL)
        return result.error.code == CBOR_ERR_MEMERROR ? CHV_ERR_MEMORY : CHV_ERR_MALFORMED;
    if (result.read != len || !cbor_isa_map(item) || !good_map(item)) {
        cbor_decref(&item);
        return CHV_ERR_MALFORMED;
    }
    *map = item;
    return CHV_OK;
}

static const cbor_item_t *find(const cbor_item_t *map, const char *key)
{
    const struct cbor_pair *pairs = cbor_map_handle(map);
    size_t len = strlen(key);
    for (size_t i = 0; i < cbor_map_size(map); i++)
        if (cbor_string_length(pairs[i].key) == len && memcmp(cbor_string_handle(pairs[i].key), key, len) == 0)
            return pairs[i].value;
    return NULL;
}

/* NUL-terminated text of at most size - 1 bytes. */
enum chv_err chv_map_text(const struct cbor_item_t *map, const char *key, char *out, size_t size)
{
    const cbor_item_t *item = find(map, key);
    if (item == NULL || !cbor_isa_string(item))
        return CHV_ERR_MALFORMED;
    size_t len = cbor_string_length(item);
    const unsigned char *text = cbor_string_handle(item);
    if (len >= size || (len > 0 && memchr(text, '\0', len) != NULL))
        return CHV_ERR_MALFORMED;
    if (len > 0)
        memcpy(out, text, len);
    out[len] = '\0';
    return CHV_OK;
}

enum chv_err chv_map_uint(const struct cbor_item_t *map, const char *key, uint64_t *out)
{
    const cbor_item_t *item = find(map, key);
    if (item == NULL || !cbor_isa_uint(item))
        return CHV_ERR_MALFORMED;
    *out = cbor_get_int(item);
    return CHV_OK;
}

enum chv_err chv_map_bytes(const struct cbor_item_t *map, const char *key, uint8_t *out, size_t len)
{
    const cbor_item_t *item = find(map, key);
    if (item == NULL || !cbor_isa_bytestring(item) || cbor_bytestring_length(item) != len)
        return CHV_ERR_MALFORMED;
    memcpy(out, cbor_bytestring_handle(item), len);
    return CHV_OK;
}

enum chv_err chv_map_bytes_up_to(const struct cbor_item_t *map, const char *key, uint8_t *out, size_t *len)
{
    const cbor_item_t *item = find(map, key);
    if (item == NULL || !cbor_isa_bytestring(item) || cbor_bytestring_length(item) > *len)
        return CHV_ERR_MALFORMED;
    *len = cbor_bytestring_length(item);
    if (*len > 0)
        memcpy(out, cbor_bytestring_handle(item), *len);
    return CHV_OK;
}

enum chv_err chv_map_flag(const struct cbor_item_t *map, const char *key, bool *out)
{
    const cbor_item_t *item = find(map, key);
    if (item != NULL && !(cbor_isa_float_ctrl(item) && cbor_float_ctrl_is_ctrl(item) && cbor_is_bool(item)))
        return CHV_ERR_MALFORMED;
    *out = item != NULL && cbor_get_bool(item);
    return CHV_OK;
}

bool chv_map_has(const struct cbor_item_t *map, const char *key)
{
    return find(map, key) != NULL;
}

void chv_map_free(struct cbor_item_t *map)
{
    if (map != NULL)
        cbor_decref(&map);
}

static void wrote(struct chv_map_writer *w, size_t n)
{
    if (n == 0)
        w->full = true;
    w->len += n;
}

static void put_string(struct chv_map_writer *w, size_t head, const void *bytes, size_t len)
{
    wrote(w, head);
    if (w->full || len > w->cap - w->len) {
        w->full = true;
        return;
    }
    if (len > 0)
        memcpy(w->out + w->len, bytes, len);
    w->len += len;
}

static void put_text(struct chv_map_writer *w, const char *text)
{
    const size_t len = strlen(text);
    put_string(w, cbor_encode_string_start(len, w->out + w->len, w->cap - w->len), text, len);
}

void chv_map_begin(struct chv_map_writer *w, size_t pairs)
{
    wrote(w, cbor_encode_map_start(pairs, w->out + w->len, w->cap - w->len));
}

void chv_map_put_text(struct chv_map_writer *w, const char *key, const char *text)
{
    put_text(w, key);
    put_text(w, text);
}

void chv_map_put_uint(struct chv_map_writer *w, const char *key, uint64_t value)
{
    put_text(w, key);
    wrote(w, cbor_encode_uint(value, w->out + w->len, w->cap - w->len));
}

void chv_map_put_true(struct chv_map_writer *w, const char *key)
{
    put_text(w, key);
    wrote(w, cbor_encode_bool(true, w->out + w->len, w->cap - w->len));
}

void chv_map_put_bytes(struct chv_map_writer *w, const char *key, const uint8_t *bytes, size_t len)
{
    put_text(w, key);
    put_string(w, cbor_encode_bytestring_start(len, w->out + w->len, w->cap - w->len), bytes, len);
}

enum chv_err chv_map_end(const struct chv_map_writer *w, size_t *len)
{
    if (w->full)
        return CHV_ERR_SPACE;
    *len = w->len;
    return CHV_OK;
}
