/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keystore: where long-term secrets live.  Secrets are 32 bytes, named by label, and never come out.
 *
 * Opened by URI: "file:PATH" (or a bare path), "pkcs11:..." (RFC 7512), or "pem:PATH" for one identity key.  One `static const struct chv_keystore_ops` per
 * kind; callers use the chv_keystore_* functions, which check arguments and optional members.
 *
 * A keystore serves one thread at a time.  Every call may block (a token's call, scrypt, a lock, fsync).
 *
 * Labels: 1 to 64 bytes of [A-Za-z0-9._:@-].  Conventions used by the programs:
 *   secrets  "master:EPOCH"            a server's master secret
 *            "access:EPOCH.SERIAL"     a client's access key
 *   data     "credential:EPOCH.SERIAL" the credential that belongs to that access key (canonical bytes)
 *            "server", "address"       the server's name; "HOST:PORT" or "unix:/path" (text, no NUL)
 *   identity "identity", "receipt"
 *            "profile", "server-key"   of a client: which one it is for ("key"); "x25519 BASE64", the key that it expects
 */
#ifndef CHAVEIRO_KEYSTORE_H
#define CHAVEIRO_KEYSTORE_H

#include <chaveiro/backend.h>
#include <chaveiro/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything else in the library is hidden. */
#pragma GCC visibility push(default)

enum {
    CHV_SECRET_LEN = 32,
    CHV_LABEL_MAX = 64,
    CHV_INFO_MAX = 1280,          /* longest HKDF info: that of a key update, with two credentials */
    CHV_KEYSTORE_DATA_MAX = 4096, /* longest data item */
    CHV_SIGNATURE_MAX = 80        /* ECDSA P-256, DER */
};

enum chv_keystore_mode {
    CHV_KEYSTORE_READ,  /* changes are CHV_ERR_STATE */
    CHV_KEYSTORE_WRITE, /* an existing one, locked against other writers until close */
    CHV_KEYSTORE_CREATE /* a new one (CHV_ERR_EXISTS if there is one), locked likewise */
};

/*
 * Asks for a passphrase or PIN.  `prompt`: what it is for, one line without a colon.  `confirm`: non-zero if it is a new
 * one (ask twice).  Writes at most `cap` bytes at `out` and their number to *len; the keystore wipes `out` after use and
 * keeps no copy.  CHV_ERR_NO_SECRET if there is none.
 */
typedef enum chv_err (*chv_secret_fn)(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                      struct chv_why *why);

struct chv_keystore_options {
    enum chv_keystore_mode mode;
    unsigned lock_seconds; /* how long to wait for another writer; then CHV_ERR_BUSY */
    uint64_t scrypt_n;     /* cost for a file made by CREATE: a power of two, 2^14 to 2^20; 0: 2^17 */
};

enum chv_key_use {
    CHV_USE_SECRET,   /* 32-byte secret: derive only */
    CHV_USE_IDENTITY, /* X25519 or P-256 key pair: dh only */
    CHV_USE_RECEIPT   /* P-256 key pair: sign only */
};

/* One object, for list().  `curve` is set for key pairs only. */
struct chv_key_info {
    char label[CHV_LABEL_MAX + 1];
    enum chv_key_use use;
    enum chv_curve curve;
};

typedef enum chv_err (*chv_key_fn)(void *arg, const struct chv_key_info *info);

struct chv_keystore; /* each kind's own; begins with `const struct chv_keystore_ops *ops` */

#define CHV_KEYSTORE_ABI 1u

/* A kind that holds identity keys only leaves out the members about secrets and data items. */
struct chv_keystore_ops {
    uint32_t abi;
    const char *scheme;      /* URI scheme: "file", "pkcs11" */
    const char *description; /* one line for people */

    /*
     * Opens what `uri` names, without any secret yet; *ks is the caller's, for close().  A file is read and its header
     * checked here: CHV_ERR_STORE_* and CHV_ERR_NOT_FOUND come from here.
     */
    enum chv_err (*open)(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                         struct chv_why *why);
    /* Wipes and frees, gives the lock back; uncommitted changes are gone.  NULL is allowed. */
    void (*close)(struct chv_keystore *ks);
    /* Gets the passphrase or PIN by `secret` (asked once, never tried twice) and opens the contents. */
    enum chv_err (*unlock)(struct chv_keystore *ks, chv_secret_fn secret, void *arg, struct chv_why *why);
    /* Makes the changes since unlock durable, all or none.  (A token's changes are durable at once; then a no-op.) */
    enum chv_err (*commit)(struct chv_keystore *ks, struct chv_why *why);

    /* HKDF-Expand (RFC 5869, 2.3), SHA-256, L = 32, with the secret as PRK. */
    enum chv_err (*derive)(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                           uint8_t out[CHV_SECRET_LEN], struct chv_why *why);
    /* Expand(Expand(secret, info1), info2): the middle key stays in the token where it can, else is wiped at once. */
    enum chv_err (*derive2)(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                            const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN], struct chv_why *why);
    /* A new random secret (made in the token where there is one).  CHV_ERR_EXISTS if the label is taken. */
    enum chv_err (*generate)(struct chv_keystore *ks, const char *label, struct chv_why *why);
    /* A given secret; the caller wipes its copy. */
    enum chv_err (*import)(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                           struct chv_why *why);
    /* Calls `each` for every secret and key pair in label order; stops at the first error and returns it. */
    enum chv_err (*list)(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why);
    /* Destroys the secret, key pair or data item of that label.  CHV_ERR_NOT_FOUND if there is none. */
    enum chv_err (*remove)(struct chv_keystore *ks, const char *label, struct chv_why *why);

    /* Public bytes that belong to the keys (credential, server name), up to CHV_KEYSTORE_DATA_MAX; put replaces. */
    enum chv_err (*data_put)(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                             struct chv_why *why);
    /* *len: in, room at out; out, the item's length.  CHV_ERR_SPACE if it is longer. */
    enum chv_err (*data_get)(struct chv_keystore *ks, const char *label, uint8_t *out, size_t *len,
                             struct chv_why *why);

    /* Optional: a new key pair whose use is fixed now (CHV_USE_IDENTITY or CHV_USE_RECEIPT). */
    enum chv_err (*generate_identity)(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                      enum chv_curve curve, struct chv_why *why);
    /* Optional: its public key, chv_dh_public_len(curve) bytes; *curve is set. */
    enum chv_err (*public_key)(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                               uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why);
    /* Optional: DH of an identity key with a peer's public key; CHV_ERR_MALFORMED as dh_derive. */
    enum chv_err (*dh)(struct chv_keystore *ks, const char *label, const uint8_t *peer_public, uint8_t out[CHV_KEY_LEN],
                       struct chv_why *why);
    /* Optional: ECDSA with SHA-256 over `message` by a receipt key, DER; *sig_len is set. */
    enum chv_err (*sign)(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                         uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why);
};

/* Wrappers with the contracts above.  An unknown scheme is CHV_ERR_CONFIG and `why` lists the known ones. */
enum chv_err chv_keystore_open(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                               struct chv_why *why) CHV_MUST_CHECK;
void chv_keystore_close(struct chv_keystore *ks);
enum chv_err chv_keystore_unlock(struct chv_keystore *ks, chv_secret_fn secret, void *arg,
                                 struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_commit(struct chv_keystore *ks, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_derive2(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                                  const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN],
                                  struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_generate(struct chv_keystore *ks, const char *label, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_import(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                                 struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_list(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_remove(struct chv_keystore *ks, const char *label, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_data_put(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                                   struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_data_get(struct chv_keystore *ks, const char *label, uint8_t *out, size_t *len,
                                   struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_generate_identity(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                            enum chv_curve curve, struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_public_key(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                                     uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_dh(struct chv_keystore *ks, const char *label, const uint8_t *peer_public,
                             uint8_t out[CHV_KEY_LEN], struct chv_why *why) CHV_MUST_CHECK;
enum chv_err chv_keystore_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                               uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why) CHV_MUST_CHECK;

/* The schemes known to chv_keystore_open ("file, pkcs11, pem"), for help and error texts.  Static storage. */
const char *chv_keystore_schemes(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
