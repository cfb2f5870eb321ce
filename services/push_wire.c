/* SPDX-License-Identifier: Apache-2.0 */
#include "services/push_wire.h"

#include <string.h>

#include "base/encode.h"
#include "net/control.h"
#include "net/map.h"

const char *chv_push_name_check(const char *name, size_t len)
{
    if (len == 0)
        return "the name is empty";
    if (memchr(name, '/', len) != NULL)
        return "the name has a slash in it";
    if (len == strlen(CHV_PUSH_STATE) && memcmp(name, CHV_PUSH_STATE, len) == 0)
        return CHV_PUSH_STATE " is the client's own";
    return chv_files_path_check(name, len);
}

void chv_push_id_text(const uint8_t id[CHV_PUSH_ID_LEN], char out[CHV_PUSH_ID_TEXT])
{
    chv_hex_encode(id, CHV_PUSH_ID_LEN, out);
}

bool chv_push_id_parse(const char *text, uint8_t id[CHV_PUSH_ID_LEN])
{
    char again[CHV_PUSH_ID_TEXT];
    uint8_t bytes[CHV_PUSH_ID_LEN];
    size_t len = sizeof bytes;
    if (strlen(text) != CHV_PUSH_ID_TEXT - 1 || chv_hex_decode(text, CHV_PUSH_ID_TEXT - 1, bytes, &len) != CHV_OK)
        return false;
    chv_push_id_text(bytes, again);
    if (strcmp(text, again) != 0) /* one text for one id */
        return false;
    memcpy(id, bytes, sizeof bytes);
    return true;
}

enum chv_err chv_push_entry_encode(const struct chv_push_entry *entry, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    chv_map_begin(&w, 6);
    chv_map_put_bytes(&w, "id", entry->id, sizeof entry->id);
    chv_map_put_text(&w, "name", entry->name);
    chv_map_put_uint(&w, "size", entry->size);
    chv_map_put_uint(&w, "mode", entry->mode);
    chv_map_put_uint(&w, "mtime", entry->mtime);
    chv_map_put_bytes(&w, "sha256", entry->sha256, sizeof entry->sha256);
    return chv_map_end(&w, len);
}

enum chv_err chv_push_answer_encode(const struct chv_push_answer *answer, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    const bool stored = answer->code == 200;
    chv_map_begin(&w, 3);
    chv_map_put_bytes(&w, "id", answer->id, sizeof answer->id);
    chv_map_put_uint(&w, "code", answer->code);
    if (stored)
        chv_map_put_bytes(&w, "sha256", answer->sha256, sizeof answer->sha256);
    else
        chv_map_put_text(&w, "text", answer->text);
    return chv_map_end(&w, len);
}

static enum chv_err get_entry(const struct cbor_item_t *map, struct chv_push_entry *e)
{
    uint64_t mode = 0;
    enum chv_err err = chv_map_bytes(map, "id", e->id, sizeof e->id);
    if (err == CHV_OK)
        err = chv_map_text(map, "name", e->name, sizeof e->name);
    if (err == CHV_OK)
        err = chv_map_uint(map, "size", &e->size);
    if (err == CHV_OK)
        err = chv_map_uint(map, "mode", &mode);
    if (err == CHV_OK)
        err = chv_map_uint(map, "mtime", &e->mtime);
    if (err == CHV_OK)
        err = chv_map_bytes(map, "sha256", e->sha256, sizeof e->sha256);
    if (err == CHV_OK && (e->size > INT64_MAX || e->mtime > INT64_MAX || mode > CHV_PUSH_MODE))
        err = CHV_ERR_MALFORMED;
    e->mode = (unsigned)mode;
    return err;
}

enum chv_err chv_push_entry_decode(const uint8_t *buf, size_t len, struct chv_push_entry *entry)
{
    struct cbor_item_t *map = NULL;
    struct chv_push_entry e;
    memset(&e, 0, sizeof e);
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = get_entry(map, &e);
    if (err == CHV_OK)
        *entry = e;
    chv_map_free(map);
    return err;
}

static enum chv_err get_answer(const struct cbor_item_t *map, struct chv_push_answer *a)
{
    uint64_t code = 0;
    enum chv_err err = chv_map_bytes(map, "id", a->id, sizeof a->id);
    if (err == CHV_OK)
        err = chv_map_uint(map, "code", &code);
    if (err == CHV_OK && code != 200 && (code < 400 || code > CHV_STATUS_CODE_MAX))
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK && code == 200)
        err = chv_map_bytes(map, "sha256", a->sha256, sizeof a->sha256);
    else if (err == CHV_OK)
        err = chv_map_text(map, "text", a->text, sizeof a->text);
    a->code = (unsigned)code;
    return err;
}

enum chv_err chv_push_answer_decode(const uint8_t *buf, size_t len, struct chv_push_answer *answer)
{
    struct cbor_item_t *map = NULL;
    struct chv_push_answer a;
    memset(&a, 0, sizeof a);
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = get_answer(map, &a);
    if (err == CHV_OK)
        *answer = a;
    chv_map_free(map);
    return err;
}
