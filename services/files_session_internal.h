/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a session share; nobody else includes this. */
#ifndef CHV_SERVICES_FILES_SESSION_INTERNAL_H
#define CHV_SERVICES_FILES_SESSION_INTERNAL_H

#include "services/files_session.h"

#include <dirent.h>

/* A file on its way in. */
struct chv_files_put {
    bool active;  /* its stream is due */
    bool discard; /* it was answered already; the rest of the stream is not wanted */
    int dir, fd;  /* -1: none */
    char name[CHV_FILES_NAME_MAX + 1], part[CHV_FILES_PART_SIZE];
    uint64_t got, taken; /* bytes; of the quota */
};

/* An answer on its way out. */
struct chv_files_stream {
    bool active, silent; /* silent: a checksum, nothing is sent */
    int fd;              /* of a file */
    DIR *dir;            /* of a listing */
    struct stat before;  /* the file as it was */
    uint64_t at;
};

struct chv_files_session {
    const struct chv_files_root *root;
    char id[128];
    bool write;
    struct chv_files_home *home; /* NULL until the first request */
    struct chv_files_request request;
    struct chv_files_put put;
    struct chv_files_stream stream;
    struct chv_files_digest *digest;
    struct chv_files_out *out; /* of the call under way */
    bool receipt_due;
    uint64_t receipt_size;
    uint8_t receipt_digest[CHV_FILES_DIGEST_LEN];
};

/* The answer to the request, in words. Returns CHV_OK, or CHV_ERR_MEMORY. */
enum chv_err chv_files_reply(struct chv_files_session *s, unsigned code, const char *format, ...) CHV_MUST_CHECK
    CHV_PRINTF(3, 4);
/* With more in it; text "" if NULL. */
enum chv_err chv_files_reply_with(struct chv_files_session *s, struct chv_files_answer *answer, unsigned code,
                                  const char *text) CHV_MUST_CHECK;
/* For an errno. */
enum chv_err chv_files_reply_errno(struct chv_files_session *s, int error) CHV_MUST_CHECK;
void chv_files_meta_of(const struct stat *st, struct chv_files_meta *meta);
/* fstatat beneath the home, no link followed; 0 or errno. */
int chv_files_stat(const struct chv_files_session *s, const char *path, struct stat *st);
/* Begins a new digest. */
enum chv_err chv_files_begin_digest(struct chv_files_session *s) CHV_MUST_CHECK;

/* files_put.c */
enum chv_err chv_files_put_begin(struct chv_files_session *s) CHV_MUST_CHECK;
enum chv_err chv_files_put_data(struct chv_files_session *s, const uint8_t *data, size_t len) CHV_MUST_CHECK;
enum chv_err chv_files_put_end(struct chv_files_session *s, const uint8_t *digest, size_t len) CHV_MUST_CHECK;
/* Nothing of it is left. */
void chv_files_put_undo(struct chv_files_session *s);

/* files_receipt.c */
/* The answer to the put under way, which has stored a file of `size` bytes: now, or once there is a receipt. */
enum chv_err chv_files_put_stored(struct chv_files_session *s, struct chv_files_answer *answer,
                                  uint64_t size) CHV_MUST_CHECK;

/* files_stream.c */
enum chv_err chv_files_stream_ls(struct chv_files_session *s) CHV_MUST_CHECK;
enum chv_err chv_files_stream_get(struct chv_files_session *s, bool silent) CHV_MUST_CHECK;
enum chv_err chv_files_stream_more(struct chv_files_session *s) CHV_MUST_CHECK;
void chv_files_stream_end(struct chv_files_session *s);

#endif
