/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the file keystore (doc/keystore-format.md), for keystore/file*.c and their tests only. */
#ifndef CHV_KEYSTORE_FILE_H
#define CHV_KEYSTORE_FILE_H

#include "keystore/keystore.h"

#include <openssl/types.h>

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum {
    CHV_FILE_SIZE_MAX = 1 << 20, /* bytes of a keystore file, checked before it is read */
    CHV_FILE_SALT_LEN = 32,
    CHV_FILE_PASSPHRASE_MAX = 1024,
    CHV_FILE_TEMP_RANDOM = 12 /* random bytes in the name of a temporary file */
};

/* scrypt (RFC 7914).  Limits are checked before anything is allocated. */
struct chv_file_cost {
    uint64_t n;
    uint64_t r;
    uint64_t p;
};

#define CHV_FILE_N_MIN (UINT64_C(1) << 14)
#define CHV_FILE_N_MAX (UINT64_C(1) << 20)
#define CHV_FILE_N_DEFAULT (UINT64_C(1) << 17)
#define CHV_FILE_R_MAX 16
#define CHV_FILE_R_DEFAULT 8
#define CHV_FILE_P_MAX 4
#define CHV_FILE_P_DEFAULT 1
#define CHV_FILE_SCRYPT_MEMORY_MAX (UINT64_C(1) << 30) /* 128 * N * r bytes */

/* ---- file_disk.c: reading, locking, replacing ---- */

struct chv_file_place {
    const char *path; /* as the caller named it, for texts; borrowed */
    int dir;          /* the folder, AT_FDCWD for a reader */
    char *name;       /* the file inside it */
    char *lock_name;  /* NAME.lock */
    int lock;         /* -1: not held */
    bool exists;      /* replace, or create without replacing */
    uid_t owner;
    gid_t group;
};

/*
 * Finds the folder and the name behind `path` (kept as a pointer).  A writer follows a symbolic link to the file
 * itself, so that two names of one file share a lock and the link stays a link.  The place must be left by
 * chv_file_leave on every path.
 */
enum chv_err chv_file_locate(struct chv_file_place *place, const char *path, enum chv_keystore_mode mode,
                             struct chv_why *why) CHV_MUST_CHECK;
/* Takes the writers' lock and removes what a crashed writer left.  CHV_ERR_BUSY after `seconds`. */
enum chv_err chv_file_lock(struct chv_file_place *place, unsigned seconds, struct chv_why *why) CHV_MUST_CHECK;
/* Gives the lock back, closes and frees. */
void chv_file_leave(struct chv_file_place *place);
/* Checks kind, owner, mode and size of the opened file and reads it; *text is freed by the caller. */
enum chv_err chv_file_read(struct chv_file_place *place, char **text, size_t *len, struct chv_why *why) CHV_MUST_CHECK;
/* Writes the whole file so that a crash leaves the old or the new one; CHV_ERR_EXISTS if !exists and there is one. */
enum chv_err chv_file_replace(struct chv_file_place *place, const struct chv_crypto *crypto, const char *text,
                              size_t len, struct chv_why *why) CHV_MUST_CHECK;

/* ---- file_envelope.c: the outer JSON ---- */

struct chv_file_envelope {
    char *header; /* the base64url text of "protected": the AEAD's associated data */
    struct chv_file_cost cost;
    uint8_t salt[CHV_FILE_SALT_LEN];
    uint8_t iv[CHV_AEAD_NONCE_LEN];
    uint8_t *sealed; /* ciphertext and tag */
    size_t sealed_len;
};

enum chv_err chv_file_cost_check(const struct chv_file_cost *cost, const char *path,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* `path` is for texts.  On success the envelope is freed by chv_file_envelope_free. */
enum chv_err chv_file_envelope_parse(struct chv_file_envelope *env, const struct chv_crypto *crypto, const char *path,
                                     const char *text, size_t len, struct chv_why *why) CHV_MUST_CHECK;
void chv_file_envelope_free(struct chv_file_envelope *env);
/* Fresh salt and nonce.  *text is freed by the caller.  CHV_ERR_SPACE if it would be over CHV_FILE_SIZE_MAX. */
enum chv_err chv_file_envelope_seal(const struct chv_crypto *crypto, OSSL_LIB_CTX *ossl,
                                    const struct chv_file_cost *cost, const char *passphrase, size_t passphrase_len,
                                    const uint8_t *plain, size_t plain_len, const char *path, char **text, size_t *len,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* *plain: secure memory of env->sealed_len bytes, *plain_len used.  CHV_ERR_PASSPHRASE. */
enum chv_err chv_file_envelope_open(const struct chv_file_envelope *env, const struct chv_crypto *crypto,
                                    OSSL_LIB_CTX *ossl, const char *passphrase, size_t passphrase_len, const char *path,
                                    uint8_t **plain, size_t *plain_len, struct chv_why *why) CHV_MUST_CHECK;

/* ---- file_contents.c: keys and data items, and their JSON ---- */

struct chv_file_key {
    char label[CHV_LABEL_MAX + 1];
    enum chv_key_use use;
    enum chv_curve curve;                  /* key pairs */
    struct chv_dh *dh;                     /* key pairs: the backend's handle */
    uint8_t secret[CHV_SECRET_LEN];        /* the secret, or the private key */
    uint8_t public_key[CHV_DH_PUBLIC_MAX]; /* key pairs */
};

struct chv_file_item {
    char label[CHV_LABEL_MAX + 1];
    size_t len;
    uint8_t bytes[];
};

/* Both tables are sorted by label; a label names one thing in either of them. */
struct chv_file_contents {
    const struct chv_crypto *crypto;
    struct chv_file_key *keys; /* secure memory */
    size_t key_count, key_room;
    struct chv_file_item **items;
    size_t item_count, item_room;
};

struct chv_file_key *chv_file_find_key(const struct chv_file_contents *c, const char *label);
const struct chv_file_item *chv_file_find_item(const struct chv_file_contents *c, const char *label);
/* CHV_ERR_EXISTS if the label is taken; a key pair's public key is computed from the private one. */
enum chv_err chv_file_add_key(struct chv_file_contents *c, const char *label, enum chv_key_use use,
                              enum chv_curve curve, const uint8_t secret[CHV_SECRET_LEN]) CHV_MUST_CHECK;
/* Replaces an item; CHV_ERR_EXISTS if the label is a key's. */
enum chv_err chv_file_put_item(struct chv_file_contents *c, const char *label, const uint8_t *data,
                               size_t len) CHV_MUST_CHECK;
enum chv_err chv_file_remove(struct chv_file_contents *c, const char *label) CHV_MUST_CHECK;
void chv_file_contents_free(struct chv_file_contents *c);

/* *plain: secure memory of *room bytes, *len used. */
enum chv_err chv_file_contents_encode(const struct chv_file_contents *c, uint8_t **plain, size_t *len,
                                      size_t *room) CHV_MUST_CHECK;
/* Fills an empty `c`; CHV_ERR_STORE_FORMAT for anything but what encode writes. */
enum chv_err chv_file_contents_decode(struct chv_file_contents *c, const uint8_t *plain, size_t len, const char *path,
                                      struct chv_why *why) CHV_MUST_CHECK;
/* Makes jansson wipe what it frees.  Called before any secret text is given to it. */
void chv_file_json_setup(void);

/* ---- file_openssl.c: what the backend vtable has not ---- */

enum chv_err chv_file_scrypt(OSSL_LIB_CTX *ossl, const char *passphrase, size_t passphrase_len,
                             const uint8_t salt[CHV_FILE_SALT_LEN], const struct chv_file_cost *cost,
                             uint8_t out[CHV_KEY_LEN], struct chv_why *why) CHV_MUST_CHECK;
/* A fresh private key in the backend's form. */
enum chv_err chv_file_generate_private(OSSL_LIB_CTX *ossl, enum chv_curve curve, uint8_t out[CHV_DH_PRIVATE_LEN],
                                       struct chv_why *why) CHV_MUST_CHECK;
/* ECDSA P-256 with SHA-256, DER. */
enum chv_err chv_file_sign(OSSL_LIB_CTX *ossl, const struct chv_file_key *key, const uint8_t *message, size_t len,
                           uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why) CHV_MUST_CHECK;

#endif
