/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR maps of control records, read with strict limits and written, by libcbor. Also for what a service has beside
 * OPEN and STATUS.
 */
#ifndef CHV_NET_MAP_H
#define CHV_NET_MAP_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cbor_item_t;

/*
 * CHV_ERR_MALFORMED for anything but one map of definite length, at most CHV_CONTROL_MAX bytes, depth at most 4, text
 * keys, none twice, texts in UTF-8, nothing behind it. The map goes to chv_map_free.
 */
enum chv_err chv_map_load(const uint8_t *buf, size_t len, struct cbor_item_t **map) CHV_MUST_CHECK;
void chv_map_free(struct cbor_item_t *map); /* NULL is allowed */

/* CHV_ERR_MALFORMED for a key that is missing or of another type. Outputs are set on success only. */
/* NUL-terminated; also malformed if it has NUL or more than size - 1 bytes. */
enum chv_err chv_map_text(const struct cbor_item_t *map, const char *key, char *out, size_t size) CHV_MUST_CHECK;
enum chv_err chv_map_uint(const struct cbor_item_t *map, const char *key, uint64_t *out) CHV_MUST_CHECK;
/* A byte string of exactly `len` bytes. */
enum chv_err chv_map_bytes(const struct cbor_item_t *map, const char *key, uint8_t *out, size_t len) CHV_MUST_CHECK;
/* A byte string of at most *len bytes; *len: out, its length. */
enum chv_err chv_map_bytes_up_to(const struct cbor_item_t *map, const char *key, uint8_t *out,
                                 size_t *len) CHV_MUST_CHECK;
/* false if the key is missing. */
enum chv_err chv_map_flag(const struct cbor_item_t *map, const char *key, bool *out) CHV_MUST_CHECK;
bool chv_map_has(const struct cbor_item_t *map, const char *key);

/* `out`, `cap` set, the rest 0; what does not fit is told at the end. */
struct chv_map_writer {
    uint8_t *out;
    size_t len, cap;
    bool full;
};

void chv_map_begin(struct chv_map_writer *w, size_t pairs);
void chv_map_put_text(struct chv_map_writer *w, const char *key, const char *text);
void chv_map_put_uint(struct chv_map_writer *w, const char *key, uint64_t value);
void chv_map_put_true(struct chv_map_writer *w, const char *key);
void chv_map_put_bytes(struct chv_map_writer *w, const char *key, const uint8_t *bytes, size_t len);
/* CHV_ERR_SPACE. */
enum chv_err chv_map_end(const struct chv_map_writer *w, size_t *len) CHV_MUST_CHECK;

#endif
