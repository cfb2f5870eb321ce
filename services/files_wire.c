/* SPDX-License-Identifier: Apache-2.0 */
#include "services/files_wire.h"

#include <string.h>

#include "net/control.h"
#include "net/map.h"

static const char *const op_names[CHV_FILES_OPS] = {
    [CHV_FILES_LS] = "ls",         [CHV_FILES_STAT] = "stat",         [CHV_FILES_GET] = "get",
    [CHV_FILES_PUT] = "put",       [CHV_FILES_CHECKSUM] = "checksum", [CHV_FILES_DF] = "df",
    [CHV_FILES_MKDIR] = "mkdir",   [CHV_FILES_RMDIR] = "rmdir",       [CHV_FILES_RM] = "rm",
    [CHV_FILES_RENAME] = "rename", [CHV_FILES_STAT_PART] = "part",    [CHV_FILES_RM_PART] = "discard",
    [CHV_FILES_SET] = "set",
};

static const char *const type_names[] = {
    [CHV_FILES_FILE] = "file",
    [CHV_FILES_FOLDER] = "folder",
    [CHV_FILES_LINK] = "link",
    [CHV_FILES_OTHER] = "other",
};

enum { TYPE_MAX = 8, OP_MAX = 16, TYPES = sizeof type_names / sizeof type_names[0], ENTRY_HEAD = 2 };

const char *chv_files_op_name(enum chv_files_op op)
{
    return op_names[op];
}

const char *chv_files_type_name(enum chv_files_type type)
{
    return type_names[type];
}

/* --- out ----------------------------------------------------------------------------------------------------------- */

enum chv_err chv_files_request_encode(const struct chv_files_request *request, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    const bool put = request->op == CHV_FILES_PUT, renames = request->op == CHV_FILES_RENAME;
    const bool receipt = put && request->receipt, resume = put && request->resume;
    const bool size = (put && !request->no_size) || (request->op == CHV_FILES_CHECKSUM && request->has_size);
    const bool offset = (put || request->op == CHV_FILES_GET) && request->has_offset;
    const bool prefix = offset && (put || !request->no_prefix);
    const bool set = request->op == CHV_FILES_SET;
    const bool mode = put || (set && request->has_mode), mtime = put || (set && request->has_mtime);
    chv_map_begin(&w, 3U + (size ? 1U : 0U) + (mode ? 1U : 0U) + (mtime ? 1U : 0U) + (renames ? 1U : 0U) +
                          (offset ? 1U : 0U) + (prefix ? 1U : 0U) + (resume ? 1U : 0U) + (receipt ? 1U : 0U));
    chv_map_put_uint(&w, "id", request->id);
    chv_map_put_text(&w, "op", op_names[request->op]);
    chv_map_put_text(&w, "path", request->path);
    if (renames)
        chv_map_put_text(&w, "to", request->to);
    if (size)
        chv_map_put_uint(&w, "size", request->size);
    if (mode)
        chv_map_put_uint(&w, "mode", request->mode);
    if (mtime)
        chv_map_put_uint(&w, "mtime", request->mtime);
    if (offset)
        chv_map_put_uint(&w, "offset", request->offset);
    if (prefix)
        chv_map_put_bytes(&w, "sha256", request->prefix, sizeof request->prefix);
    if (resume)
        chv_map_put_true(&w, "resume");
    if (receipt)
        chv_map_put_true(&w, "receipt");
    return chv_map_end(&w, len);
}

static void put_meta(struct chv_map_writer *w, const struct chv_files_meta *meta)
{
    chv_map_put_text(w, "type", type_names[meta->type]);
    chv_map_put_uint(w, "mode", meta->mode);
    chv_map_put_uint(w, "size", meta->size);
    chv_map_put_uint(w, "mtime", meta->mtime);
}

enum chv_err chv_files_answer_encode(const struct chv_files_answer *answer, uint8_t *out, size_t *len)
{
    struct chv_map_writer w = {.out = out, .cap = *len};
    chv_map_begin(&w, 4U + (answer->has_meta ? 4U : 0U) + (answer->has_digest ? 1U : 0U) +
                          (answer->has_space ? 2U : 0U) + (answer->has_receipt ? 2U : 0U));
    chv_map_put_uint(&w, "id", answer->id);
    chv_map_put_uint(&w, "code", answer->code);
    chv_map_put_text(&w, "path", answer->path);
    chv_map_put_text(&w, "text", answer->text);
    if (answer->has_meta)
        put_meta(&w, &answer->meta);
    if (answer->has_digest)
        chv_map_put_bytes(&w, "sha256", answer->digest, sizeof answer->digest);
    if (answer->has_space) {
        chv_map_put_uint(&w, "total", answer->total);
        chv_map_put_uint(&w, "free", answer->left);
    }
    if (answer->has_receipt) {
        chv_map_put_text(&w, "receipt", answer->receipt);
        chv_map_put_bytes(&w, "signature", answer->signature, answer->signature_len);
    }
    return chv_map_end(&w, len);
}

enum chv_err chv_files_entry_encode(const struct chv_files_entry *entry, uint8_t *out, size_t *len)
{
    if (*len < ENTRY_HEAD)
        return CHV_ERR_SPACE;
    struct chv_map_writer w = {.out = out + ENTRY_HEAD, .cap = *len - ENTRY_HEAD};
    size_t map_len;
    chv_map_begin(&w, 5);
    chv_map_put_text(&w, "name", entry->name);
    put_meta(&w, &entry->meta);
    enum chv_err err = chv_map_end(&w, &map_len);
    if (err != CHV_OK)
        return err;
    out[0] = (uint8_t)(map_len >> 8);
    out[1] = (uint8_t)map_len;
    *len = ENTRY_HEAD + map_len;
    return CHV_OK;
}

/* --- in ------------------------------------------------------------------------------------------------------------ */

/* A path and what is wrong with it; one that is too long is cut at a character. */
static const char *get_path(const struct cbor_item_t *map, const char *key, char out[CHV_FILES_PATH_MAX + 1])
{
    char text[CHV_CONTROL_MAX + 1];
    if (chv_map_text(map, key, text, sizeof text) != CHV_OK)
        return "a path is missing, no text, or has NUL";
    size_t len = strlen(text);
    const char *wrong = chv_files_path_check(text, len);
    if (len > CHV_FILES_PATH_MAX)
        for (len = CHV_FILES_PATH_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
            len--;
    memcpy(out, text, len);
    out[len] = '\0';
    return wrong;
}

/* What a get or a put goes on behind. */
static const char *get_offset(const struct cbor_item_t *map, struct chv_files_request *r)
{
    r->has_offset = chv_map_has(map, "offset") || chv_map_has(map, "sha256");
    if (!r->has_offset)
        return NULL;
    r->no_prefix = r->op == CHV_FILES_GET && !chv_map_has(map, "sha256");
    if (chv_map_uint(map, "offset", &r->offset) != CHV_OK ||
        (!r->no_prefix && chv_map_bytes(map, "sha256", r->prefix, sizeof r->prefix) != CHV_OK))
        return "offset without the SHA-256 of what is before it, or one of them malformed";
    return r->offset <= INT64_MAX ? NULL : "offset is too large";
}

static const char *get_put(const struct cbor_item_t *map, struct chv_files_request *r)
{
    uint64_t mode = 0;
    r->no_size = !chv_map_has(map, "size");
    if ((!r->no_size && chv_map_uint(map, "size", &r->size) != CHV_OK) ||
        chv_map_uint(map, "mtime", &r->mtime) != CHV_OK || chv_map_uint(map, "mode", &mode) != CHV_OK)
        return "size, mode or mtime is missing or no number";
    if (r->size > INT64_MAX || r->mtime > INT64_MAX || mode > CHV_FILES_MODE)
        return "size, mode or mtime is too large";
    r->mode = (unsigned)mode;
    if (chv_map_flag(map, "receipt", &r->receipt) != CHV_OK || chv_map_flag(map, "resume", &r->resume) != CHV_OK)
        return "receipt or resume is neither true nor false";
    const char *wrong = get_offset(map, r);
    return wrong != NULL ? wrong : r->no_size || r->offset <= r->size ? NULL : "offset is larger than size";
}

static const char *get_set(const struct cbor_item_t *map, struct chv_files_request *r)
{
    uint64_t mode = 0;
    r->has_mode = chv_map_has(map, "mode");
    r->has_mtime = chv_map_has(map, "mtime");
    if ((r->has_mode && chv_map_uint(map, "mode", &mode) != CHV_OK) ||
        (r->has_mtime && chv_map_uint(map, "mtime", &r->mtime) != CHV_OK) || (!r->has_mode && !r->has_mtime))
        return "mode or mtime is no number, or both are missing";
    if (r->mtime > INT64_MAX || mode > CHV_FILES_MODE)
        return "mode or mtime is too large";
    r->mode = (unsigned)mode;
    return NULL;
}

static const char *get_arguments(const struct cbor_item_t *map, struct chv_files_request *r)
{
    const char *wrong = get_path(map, "path", r->path);
    if (wrong != NULL)
        return wrong;
    switch (r->op) {
    case CHV_FILES_RENAME:
        return get_path(map, "to", r->to);
    case CHV_FILES_GET:
        return get_offset(map, r);
    case CHV_FILES_CHECKSUM:
        r->has_size = chv_map_has(map, "size");
        return !r->has_size || (chv_map_uint(map, "size", &r->size) == CHV_OK && r->size <= INT64_MAX)
                   ? NULL
                   : "size is no number, or too large";
    case CHV_FILES_PUT:
        return get_put(map, r);
    case CHV_FILES_SET:
        return get_set(map, r);
    default:
        return NULL;
    }
}

enum chv_err chv_files_request_decode(const uint8_t *buf, size_t len, struct chv_files_request *request,
                                      const char **wrong)
{
    struct cbor_item_t *map = NULL;
    struct chv_files_request r;
    char op[OP_MAX];
    unsigned i = 0;
    memset(&r, 0, sizeof r);
    enum chv_err err = chv_map_load(buf, len, &map);
    if (err != CHV_OK)
        return err;
    err = chv_map_uint(map, "id", &r.id);
    if (err == CHV_OK)
        err = chv_map_text(map, "op", op, sizeof op);
    while (err == CHV_OK && i < CHV_FILES_OPS && strcmp(op, op_names[i]) != 0)
        i++;
    if (err == CHV_OK && i == CHV_FILES_OPS)
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK) {
        r.op = (enum chv_files_op)i;
        *wrong = get_arguments(map, &r);
        *request = r;
    }
    chv_map_free(map);
    return err;
}

static enum chv_err get_meta(const struct cbor_item_t *map, struct chv_files_meta *meta)
{
    char type[TYPE_MAX];
    uint64_t mode = 0;
    unsigned i = 0;
    enum chv_err err = chv_map_text(map, "type", type, sizeof type);
    while (err == CHV_OK && i < TYPES && strcmp(type, type_names[i]) != 0)
        i++;
    if (err == CHV_OK)
        err = chv_map_uint(map, "mode", &mode);
    if (err == CHV_OK)
        err = chv_map_uint(map, "size", &meta->size);
    if (err == CHV_OK)
        err = chv_map_uint(map, "mtime", &meta->mtime);
    if (err == CHV_OK && (i == TYPES || mode > CHV_FILES_MODE || meta->size > INT64_MAX || meta->mtime > INT64_MAX))
        err = CHV_ERR_MALFORMED;
    if (err != CHV_OK)
        return err;
    meta->type = (enum chv_files_type)i;
    meta->mode = (unsigned)mode;
    return CHV_OK;
}

static enum chv_err get_answer(const struct cbor_item_t *map, struct chv_files_answer *a)
{
    uint64_t code = 0;
    enum chv_err err = chv_map_uint(map, "id", &a->id);
    if (err == CHV_OK)
        err = chv_map_uint(map, "code", &code);
    if (err == CHV_OK)
        err = chv_map_text(map, "path", a->path, sizeof a->path);
    if (err == CHV_OK)
        err = chv_map_text(map, "text", a->text, sizeof a->text);
    if (err == CHV_OK && (code < CHV_STATUS_CODE_MIN || code > CHV_STATUS_CODE_MAX))
        err = CHV_ERR_MALFORMED;
    a->code = (unsigned)code;
    a->has_meta = chv_map_has(map, "type");
    a->has_digest = chv_map_has(map, "sha256");
    a->has_space = chv_map_has(map, "total");
    if (err == CHV_OK && a->has_meta)
        err = get_meta(map, &a->meta);
    if (err == CHV_OK && a->has_digest)
        err = chv_map_bytes(map, "sha256", a->digest, sizeof a->digest);
    if (err == CHV_OK && a->has_space)
        err = chv_map_uint(map, "total", &a->total);
    if (err == CHV_OK && a->has_space)
        err = chv_map_uint(map, "free", &a->left);
    a->has_receipt = chv_map_has(map, "receipt");
    a->signature_len = a->has_receipt ? sizeof a->signature : 0;
    if (err == CHV_OK && a->has_receipt)
        err = chv_map_text(map, "receipt", a->receipt, sizeof a->receipt);
    if (err == CHV_OK && a->has_receipt)
        err = chv_map_bytes_up_to(map, "signature", a->signature, &a->signature_len);
    return err;
}

enum chv_err chv_files_answer_decode(const uint8_t *buf, size_t len, struct chv_files_answer *answer)
{
    struct cbor_item_t *map = NULL;
    struct chv_files_answer a;
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

enum chv_err chv_files_entry_decode(const uint8_t *buf, size_t len, struct chv_files_entry *entry, size_t *used)
{
    struct cbor_item_t *map = NULL;
    struct chv_files_entry e;
    memset(&e, 0, sizeof e);
    const size_t map_len = len < ENTRY_HEAD ? 0 : (size_t)buf[0] << 8 | buf[1];
    if (map_len == 0 || map_len > len - ENTRY_HEAD)
        return CHV_ERR_MALFORMED;
    enum chv_err err = chv_map_load(buf + ENTRY_HEAD, map_len, &map);
    if (err != CHV_OK)
        return err;
    err = chv_map_text(map, "name", e.name, sizeof e.name);
    if (err == CHV_OK)
        err = get_meta(map, &e.meta);
    if (err == CHV_OK &&
        (e.name[0] == '\0' || strchr(e.name, '/') != NULL || chv_files_path_check(e.name, strlen(e.name)) != NULL))
        err = CHV_ERR_MALFORMED;
    if (err == CHV_OK) {
        *entry = e;
        *used = ENTRY_HEAD + map_len;
    }
    chv_map_free(map);
    return err;
}
