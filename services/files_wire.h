/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the service `files` (doc/protocol.md, section 5). */
#ifndef CHV_SERVICES_FILES_WIRE_H
#define CHV_SERVICES_FILES_WIRE_H

#include <chaveiro/session.h>

#include <stdbool.h>

#include "net/receipt.h"
#include "services/files_digest.h"
#include "services/files_path.h"

enum {
    CHV_FILES_REQUEST = CHV_RECORD_SERVICE,    /* client: a map */
    CHV_FILES_ANSWER = CHV_RECORD_SERVICE + 1, /* server: a map */
    CHV_FILES_CONTINUE = 100,                  /* codes of answers behind which another one comes; so does 206 */
    CHV_FILES_WORKING = 102,
    CHV_FILES_TEXT_MAX = 255,
    CHV_FILES_ENTRY_MAX = 512, /* of a listing, with its length */
    CHV_FILES_MODE = 0777      /* bits that travel */
};

enum chv_files_op {
    CHV_FILES_LS,
    CHV_FILES_STAT,
    CHV_FILES_GET,
    CHV_FILES_CHECKSUM,
    CHV_FILES_DF,
    CHV_FILES_PUT, /* from here on: files:rw */
    CHV_FILES_MKDIR,
    CHV_FILES_RMDIR,
    CHV_FILES_RM,
    CHV_FILES_RENAME,
    CHV_FILES_STAT_PART, /* "part": what an interrupted put has left */
    CHV_FILES_RM_PART,   /* "discard" */
    CHV_FILES_SET,       /* mode or mtime of what is there */
    CHV_FILES_OPS
};

/* "ls", ...; static. */
const char *chv_files_op_name(enum chv_files_op op);

struct chv_files_request {
    uint64_t id;
    enum chv_files_op op;
    char path[CHV_FILES_PATH_MAX + 1];
    char to[CHV_FILES_PATH_MAX + 1]; /* rename */
    uint64_t size, mtime;            /* put; ns since 1970. checksum, with has_size: of the first `size` bytes */
    unsigned mode;                   /* put */
    bool has_mode, has_mtime;        /* set: at least one */
    bool receipt;                    /* put: the answer is to bring one */
    bool has_size;                   /* checksum */
    bool resume;                     /* put: what is left if it is interrupted is kept, to be gone on with */
    bool no_size;                    /* put: the end of the content tells it; ANSWER 100 comes first */
    bool has_offset;                 /* get, put: only what is behind the first `offset` bytes, */
    uint64_t offset;                 /* whose SHA-256 is `prefix` */
    bool no_prefix;                  /* get: it is not compared, and the END's digest is of what is sent */
    uint8_t prefix[CHV_FILES_DIGEST_LEN];
};

enum chv_files_type { CHV_FILES_FILE, CHV_FILES_FOLDER, CHV_FILES_LINK, CHV_FILES_OTHER };

/* "file", "folder", "link", "other". */
const char *chv_files_type_name(enum chv_files_type type);

struct chv_files_meta {
    enum chv_files_type type;
    unsigned mode;
    uint64_t size, mtime; /* mtime: ns since 1970 */
};

struct chv_files_answer {
    uint64_t id;
    unsigned code; /* 206: a stream follows, and another answer */
    char path[CHV_FILES_PATH_MAX + 1];
    char text[CHV_FILES_TEXT_MAX + 1];
    bool has_meta, has_digest, has_space, has_receipt;
    struct chv_files_meta meta;
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    uint64_t total, left; /* df, bytes */
    char receipt[CHV_RECEIPT_MAX + 1];
    uint8_t signature[CHV_SIGNATURE_MAX];
    size_t signature_len;
};

_Static_assert(CHV_FILES_PATH_MAX == (int)CHV_RECEIPT_PATH_MAX && CHV_FILES_DIGEST_LEN == (int)CHV_RECEIPT_DIGEST_LEN,
               "every file may have a receipt");

struct chv_files_entry {
    char name[CHV_FILES_NAME_MAX + 1];
    struct chv_files_meta meta;
};

/* *len: in, room; out, bytes. */
enum chv_err chv_files_request_encode(const struct chv_files_request *request, uint8_t *out,
                                      size_t *len) CHV_MUST_CHECK;
enum chv_err chv_files_answer_encode(const struct chv_files_answer *answer, uint8_t *out, size_t *len) CHV_MUST_CHECK;
/* One entry of a listing: u16 length, map. */
enum chv_err chv_files_entry_encode(const struct chv_files_entry *entry, uint8_t *out, size_t *len) CHV_MUST_CHECK;

/*
 * CHV_ERR_MALFORMED: not even the request's id or operation can be read. CHV_OK: *wrong is NULL, or what is wrong with
 * the rest (static text, for an answer 400); a path that is too long is then cut.
 */
enum chv_err chv_files_request_decode(const uint8_t *buf, size_t len, struct chv_files_request *request,
                                      const char **wrong) CHV_MUST_CHECK;
enum chv_err chv_files_answer_decode(const uint8_t *buf, size_t len, struct chv_files_answer *answer) CHV_MUST_CHECK;
/* The entry at buf, *used bytes long. CHV_ERR_MALFORMED also for a name that no file of a client can have. */
enum chv_err chv_files_entry_decode(const uint8_t *buf, size_t len, struct chv_files_entry *entry,
                                    size_t *used) CHV_MUST_CHECK;

#endif
