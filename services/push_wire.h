/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the service `push` (doc/protocol.md, section 5). */
#ifndef CHV_SERVICES_PUSH_WIRE_H
#define CHV_SERVICES_PUSH_WIRE_H

#include <chaveiro/session.h>

#include <stdbool.h>

#include "services/files_digest.h"
#include "services/files_path.h"

enum {
    CHV_PUSH_ENTRY = CHV_RECORD_SERVICE,      /* server: a map; DATA and END follow */
    CHV_PUSH_ANSWER = CHV_RECORD_SERVICE + 1, /* client: a map */
    CHV_PUSH_GONE = CHV_RECORD_SERVICE + 2,   /* server: an entry's id */
    CHV_PUSH_IDLE = CHV_RECORD_SERVICE + 3,   /* server: empty */
    CHV_PUSH_ID_LEN = 16,                     /* of an entry: in the order in which they were pushed */
    CHV_PUSH_ID_TEXT = 2 * CHV_PUSH_ID_LEN + 1,
    CHV_PUSH_TEXT_MAX = 255,
    CHV_PUSH_MODE = 0777,   /* bits that travel */
    CHV_PUSH_MAP_MAX = 480, /* bytes of an entry's map */
    CHV_PUSH_WINDOW = 64    /* entries that a server offers one connection before the first is answered */
};

/* What a client keeps beside the files. */
#define CHV_PUSH_STATE ".chaveiro-watch"

struct chv_push_entry {
    uint8_t id[CHV_PUSH_ID_LEN];
    char name[CHV_FILES_NAME_MAX + 1];
    uint64_t size, mtime; /* bytes; ns since 1970 */
    unsigned mode;
    uint8_t sha256[CHV_FILES_DIGEST_LEN];
};

struct chv_push_answer {
    uint8_t id[CHV_PUSH_ID_LEN];
    unsigned code; /* 200: the file with this digest is stored under its name; from 400 on: it is not */
    uint8_t sha256[CHV_FILES_DIGEST_LEN]; /* code 200 */
    char text[CHV_PUSH_TEXT_MAX + 1];     /* why not */
};

/* NULL for a name that a file in a watched folder may have, else why not (static text). */
const char *chv_push_name_check(const char *name, size_t len);

/* The id as text, and back; false: it is none. */
void chv_push_id_text(const uint8_t id[CHV_PUSH_ID_LEN], char out[CHV_PUSH_ID_TEXT]);
bool chv_push_id_parse(const char *text, uint8_t id[CHV_PUSH_ID_LEN]);

/* *len: in, room (CHV_PUSH_MAP_MAX, CHV_CONTROL_MAX are enough); out, bytes. CHV_ERR_SPACE. */
enum chv_err chv_push_entry_encode(const struct chv_push_entry *entry, uint8_t *out, size_t *len) CHV_MUST_CHECK;
enum chv_err chv_push_answer_encode(const struct chv_push_answer *answer, uint8_t *out, size_t *len) CHV_MUST_CHECK;
/* CHV_ERR_MALFORMED; also for a number out of range. The name is any text: chv_push_name_check. */
enum chv_err chv_push_entry_decode(const uint8_t *buf, size_t len, struct chv_push_entry *entry) CHV_MUST_CHECK;
enum chv_err chv_push_answer_decode(const uint8_t *buf, size_t len, struct chv_push_answer *answer) CHV_MUST_CHECK;

#endif
