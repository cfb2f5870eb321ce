/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a session share; nobody else includes this. */
#ifndef CHV_SERVICES_FILES_SESSION_INTERNAL_H
#define CHV_SERVICES_FILES_SESSION_INTERNAL_H

#include "services/files_part.h"
#include "services/files_session.h"

#include <dirent.h>
#include <stdatomic.h>

/* Whose folder a request's path is in, and what it is called there. */
struct chv_files_place {
    struct chv_files_home *home;
    const char *path;
    bool write;
};

/* A folder, open while requests for what is in it follow each other. */
struct chv_files_dir {
    unsigned users;
    int fd;
    bool synced; /* while a group is finished */
    int failed;
    struct chv_files_home *home;
    char path[CHV_FILES_PATH_MAX + 1];
};

/* A file on its way in. */
struct chv_files_put {
    struct chv_files_put *next; /* of its group */
    struct chv_files_home *home;
    struct chv_files_dir *dir;
    int fd;     /* of the part, locked */
    bool keep;  /* what is left of it may be gone on with */
    bool begun; /* the part is this put's: what was in it before is gone, or verified */
    int failed; /* while a group is finished */
    char name[CHV_FILES_NAME_MAX + 1], part[CHV_FILES_PART_SIZE];
    uint64_t old;   /* bytes that the part had */
    uint64_t got;   /* bytes that are there */
    uint64_t taken; /* of the quota, for these */
    struct chv_files_request request;
    uint8_t digest[CHV_FILES_DIGEST_LEN];
};

/* Files that have come as a whole, and are confirmed together. */
struct chv_files_group {
    struct chv_files_put *first, **end;
    size_t count;
    uint64_t bytes;
};

enum chv_files_purpose { CHV_FILES_TO_GET, CHV_FILES_TO_SUM, CHV_FILES_TO_PUT, CHV_FILES_TO_LIST };

/* Something that is read step by step: for an answer on its way out, or only for its digest. */
struct chv_files_stream {
    bool active;
    bool told; /* ANSWER 206 */
    bool top;  /* a listing of the home */
    enum chv_files_purpose purpose;
    int fd;             /* of a file */
    DIR *dir;           /* of a listing */
    struct stat before; /* the file as it was */
    uint64_t at, end;   /* bytes */
    uint64_t skip;      /* bytes in front that are not sent */
};

struct chv_files_session {
    const struct chv_files_root *root;
    char id[128];
    bool write;
    uint32_t shares;             /* a bit for each that it sees */
    struct chv_files_home *home; /* NULL until the first request */
    struct chv_files_request request;
    struct chv_files_place at, to; /* of the request */
    bool putting;                  /* the stream of a put is due */
    struct chv_files_put *put;     /* NULL: it was answered already; the rest of the stream is not wanted */
    struct chv_files_group group;
    struct chv_files_dir *dir; /* of the last request; NULL: none */
    struct chv_files_stream stream;
    struct chv_files_digest *digest;
    struct chv_files_out *out; /* of the call under way */
    bool receipt_due;
    uint64_t receipt_size;
    uint8_t receipt_digest[CHV_FILES_DIGEST_LEN];
    atomic_bool is_due; /* there is a request whose answer is the next one, */
    _Atomic uint64_t due;
};

/* The answer to the request, in words. Returns CHV_OK, or CHV_ERR_MEMORY. */
enum chv_err chv_files_reply(struct chv_files_session *s, unsigned code, const char *format, ...) CHV_MUST_CHECK
    CHV_PRINTF(3, 4);
/* With more in it; text "" if NULL. What is older is answered before. */
enum chv_err chv_files_reply_with(struct chv_files_session *s, struct chv_files_answer *answer, unsigned code,
                                  const char *text) CHV_MUST_CHECK;
/* For an errno. */
enum chv_err chv_files_reply_errno(struct chv_files_session *s, int error) CHV_MUST_CHECK;
/* To an older request; failed: 0 or an errno. */
enum chv_err chv_files_reply_put(struct chv_files_session *s, const struct chv_files_put *put,
                                 int failed) CHV_MUST_CHECK;
void chv_files_meta_of(const struct stat *st, struct chv_files_meta *meta);
/* Begins a new digest. */
enum chv_err chv_files_begin_digest(struct chv_files_session *s) CHV_MUST_CHECK;

/* files_place.c */
/* False: there is no such shared folder. `path` must outlive the place. */
bool chv_files_place_find(const struct chv_files_session *s, const char *path, struct chv_files_place *place);
/* fstatat, no link followed; 0 or errno. */
int chv_files_stat(struct chv_files_session *s, const struct chv_files_place *place, struct stat *st);
/* The folder that has it; one user more. 0 or errno. */
int chv_files_dir_take(struct chv_files_session *s, const struct chv_files_place *place, struct chv_files_dir **dir);
void chv_files_dir_drop(struct chv_files_dir *dir); /* NULL is allowed */
/* The last one is opened anew when it is needed. */
void chv_files_dir_forget(struct chv_files_session *s);

/* files_put.c */
enum chv_err chv_files_put_begin(struct chv_files_session *s) CHV_MUST_CHECK;
/* The part's first bytes have been read: their digest is in s->digest; failed: 0 or an errno of reading. */
enum chv_err chv_files_put_verified(struct chv_files_session *s, int failed) CHV_MUST_CHECK;
enum chv_err chv_files_put_data(struct chv_files_session *s, const uint8_t *data, size_t len) CHV_MUST_CHECK;
enum chv_err chv_files_put_end(struct chv_files_session *s, const uint8_t *digest, size_t len) CHV_MUST_CHECK;
/* The connection has ended: nothing is left, or what may be gone on with. */
void chv_files_put_interrupt(struct chv_files_session *s);
/* Nothing of it is left; the put is freed. NULL is allowed. */
void chv_files_put_undo(struct chv_files_put *put);
/* It is stored, or was undone. */
void chv_files_put_free(struct chv_files_put *put);
/* Bytes of the file that a put will replace; EISDIR, EEXIST or another errno if it is none. */
int chv_files_put_replaces(const struct chv_files_put *put, uint64_t *size);
enum chv_err chv_files_part_stat(struct chv_files_session *s) CHV_MUST_CHECK;
enum chv_err chv_files_part_discard(struct chv_files_session *s) CHV_MUST_CHECK;

/* files_group.c */
/* All of it has come: it gets its name, now or with those that follow; and its answer. */
enum chv_err chv_files_group_add(struct chv_files_session *s, struct chv_files_put *put) CHV_MUST_CHECK;
/* Those that have waited are confirmed. */
enum chv_err chv_files_group_finish(struct chv_files_session *s) CHV_MUST_CHECK;

/* files_receipt.c */
/* The answer to the put under way, which has stored a file of `size` bytes: now, or once there is a receipt. */
enum chv_err chv_files_put_stored(struct chv_files_session *s, struct chv_files_answer *answer,
                                  uint64_t size) CHV_MUST_CHECK;

/* files_stream.c */
enum chv_err chv_files_stream_ls(struct chv_files_session *s) CHV_MUST_CHECK;
enum chv_err chv_files_stream_get(struct chv_files_session *s, enum chv_files_purpose purpose) CHV_MUST_CHECK;
/* The first `size` bytes of `fd`, which stays the caller's, for chv_files_put_verified. */
enum chv_err chv_files_stream_part(struct chv_files_session *s, int fd, uint64_t size) CHV_MUST_CHECK;
enum chv_err chv_files_stream_more(struct chv_files_session *s) CHV_MUST_CHECK;
void chv_files_stream_end(struct chv_files_session *s);

#endif
