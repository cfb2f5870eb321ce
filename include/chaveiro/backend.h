/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backend: who computes a session's cryptography.  Owned by core, its caller; implemented by backends/.
 *
 * One `static const struct chv_backend` per implementation, designated initialisers only.  A method has exactly the
 * type given here and casts its `ctx` inside.  Callers never call a method directly: they use the chv_crypto_*
 * wrappers below, which check lengths and optional members, and behind which tests put a backend that fails on demand.
 *
 * A context serves one thread at a time.  Methods may block where the backend's device does (openssl: never).
 * On failure outputs are not written, except where a member says otherwise.
 */
#ifndef CHAVEIRO_BACKEND_H
#define CHAVEIRO_BACKEND_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything else in the library is hidden. */
#pragma GCC visibility push(default)

#define CHV_BACKEND_ABI 1u

enum chv_hash { CHV_HASH_SHA256, CHV_HASH_SHA512, CHV_HASH_BLAKE2S, CHV_HASH_BLAKE2B };
enum chv_curve { CHV_CURVE_25519, CHV_CURVE_P256 };
enum chv_aead_alg { CHV_AEAD_AES256GCM, CHV_AEAD_CHACHA20POLY1305 };

#define CHV_HASH_COUNT 4
#define CHV_CURVE_COUNT 2
#define CHV_AEAD_COUNT 2

enum {
    CHV_KEY_LEN = 32,        /* every symmetric key and every DH result */
    CHV_HASH_MAX = 64,       /* longest hash output: SHA-512, BLAKE2b */
    CHV_DH_PRIVATE_LEN = 32, /* X25519: RFC 7748 bytes; P-256: big-endian scalar */
    CHV_DH_PUBLIC_MAX = 65,  /* P-256: SEC 1 uncompressed point; X25519: 32 bytes */
    CHV_AEAD_NONCE_LEN = 12,
    CHV_AEAD_TAG_LEN = 16
};

/* Capability bits: what this context really has. */
#define CHV_CAP_HASH(h) (UINT32_C(1) << (unsigned)(h))
#define CHV_CAP_CURVE(c) (UINT32_C(1) << (8u + (unsigned)(c)))
#define CHV_CAP_AEAD(a) (UINT32_C(1) << (16u + (unsigned)(a)))

/* One piece of a scatter list. */
struct chv_part {
    const void *ptr;
    size_t len;
};

struct chv_dh;   /* an ephemeral or imported private key: a handle, never bytes */
struct chv_aead; /* an AEAD key */

/* How a context is. */
struct chv_backend_health {
    bool worn;        /* what it uses leaks: its process should take no new sessions and make way for a fresh one */
    const char *last; /* the device's words for the last call that failed, "" if none did; until the next call */
};

struct chv_backend {
    uint32_t abi;            /* CHV_BACKEND_ABI */
    const char *name;        /* what the configuration says: "openssl", "pkcs11" */
    const char *description; /* one line for people */
    size_t context_size;     /* bytes that open() wants at ctx, aligned as by malloc */

    /*
     * Makes a context in zeroed memory at `ctx` and runs the known-answer self-test (CHV_ERR_SELFTEST).
     * `uri`: what stood behind the backend's name in the configuration, "" if nothing.  Not kept.
     * `capabilities`: set to the CHV_CAP_* bits that this context has, asked from the device.
     * On failure nothing is left to close.
     */
    enum chv_err (*open)(void *ctx, const char *uri, uint32_t *capabilities, struct chv_why *why);
    /* Frees all that open() took and wipes `ctx`.  Handles must have been freed before. */
    void (*close)(void *ctx);

    /* Random bytes fit for keys. */
    enum chv_err (*random)(void *ctx, uint8_t *out, size_t len);
    /* Digest of the parts one after the other; out has chv_hash_len(alg) bytes and may alias a part. */
    enum chv_err (*hash)(void *ctx, enum chv_hash alg, const struct chv_part *parts, size_t n, uint8_t *out);
    /* HMAC (RFC 2104) of the parts; out has chv_hash_len(alg) bytes and may alias the key or a part. keylen 0 to 1024. */
    enum chv_err (*hmac)(void *ctx, enum chv_hash alg, const uint8_t *key, size_t keylen, const struct chv_part *parts,
                         size_t n, uint8_t *out);

    /* A fresh key pair.  public_out: chv_dh_public_len(curve) bytes.  *key is freed by dh_free. */
    enum chv_err (*dh_generate)(void *ctx, enum chv_curve curve, struct chv_dh **key, uint8_t *public_out);
    /*
     * Optional: the key pair of a known private key, for known-answer tests (the session itself never has one).
     * CHV_ERR_ARGUMENT for a P-256 scalar of 0 or not below the order.
     */
    enum chv_err (*dh_import)(void *ctx, enum chv_curve curve, const uint8_t private_key[CHV_DH_PRIVATE_LEN],
                              struct chv_dh **key, uint8_t *public_out);
    /*
     * X25519 (RFC 7748) or the x coordinate of P-256 ECDH (SP 800-56A).  CHV_ERR_MALFORMED for a peer key that is not a
     * valid point, is the point at infinity, or gives the all-zero X25519 result.
     */
    enum chv_err (*dh_derive)(struct chv_dh *key, const uint8_t *peer_public, uint8_t shared_out[CHV_KEY_LEN]);
    /* Destroys a key; NULL is allowed. */
    void (*dh_free)(struct chv_dh *key);

    /* An AEAD key.  *aead is freed by aead_free, before the context is closed. */
    enum chv_err (*aead_new)(void *ctx, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN], struct chv_aead **aead);
    /* The same object with another key. On failure the object can only be rekeyed or freed. */
    enum chv_err (*aead_rekey)(struct chv_aead *aead, const uint8_t key[CHV_KEY_LEN]);
    /*
     * out[0..len) = ciphertext, out[len..len+16) = tag.  `out == in` is allowed, other overlaps are not.
     * On failure out is undefined and must not be sent.
     */
    enum chv_err (*aead_seal)(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                              size_t ad_len, const uint8_t *in, size_t len, uint8_t *out);
    /*
     * in: ciphertext and tag, in_len >= 16; out[0..in_len-16) = plaintext.  `out == in` is allowed, other overlaps are
     * not.  CHV_ERR_AUTH when the tag is wrong; on every failure out[0..in_len-16) is zeros.
     */
    enum chv_err (*aead_open)(struct chv_aead *aead, const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad,
                              size_t ad_len, const uint8_t *in, size_t in_len, uint8_t *out);
    /* Wipes and frees; NULL is allowed. */
    void (*aead_free)(struct chv_aead *aead);

    /*
     * Optional: why the context does not have one capability bit, for people ("token \"T\" ...: C_GetMechanismInfo with
     * CKM_AES_GCM: CKR_MECHANISM_INVALID ..."); "" if it has it.  Lives as long as the context.
     */
    const char *(*lacks)(void *ctx, uint32_t capability);
    /* Optional: never blocks. */
    void (*health)(void *ctx, struct chv_backend_health *health);
};

/* A backend and an open context of it: what core is given. */
struct chv_crypto {
    const struct chv_backend *backend;
    void *ctx;
    uint32_t capabilities;
};

/* Output bytes of a hash; 0 for a number that is none. */
size_t chv_hash_len(enum chv_hash alg);
/* Block bytes of a hash (HMAC, Noise's BLOCKLEN); 0 for a number that is none. */
size_t chv_hash_block_len(enum chv_hash alg);
/* Public key bytes of a curve: 32 or 65; 0 for a number that is none. */
size_t chv_dh_public_len(enum chv_curve curve);

/* Names as people and log lines see them: "SHA256", "25519", "AESGCM" (Noise's); "?" for a number that is none. */
const char *chv_hash_name(enum chv_hash alg);
const char *chv_curve_name(enum chv_curve curve);
const char *chv_aead_name(enum chv_aead_alg alg);

/*
 * Opens backend->open in `memory` (context_size bytes, zeroed here) and fills *crypto.
 * CHV_ERR_UNSUPPORTED if the backend's abi is not CHV_BACKEND_ABI.
 */
enum chv_err chv_crypto_open(struct chv_crypto *crypto, const struct chv_backend *backend, void *memory,
                             const char *uri, struct chv_why *why) CHV_MUST_CHECK;
/* Closes and forgets; the memory stays the caller's.  NULL or never opened is allowed. */
void chv_crypto_close(struct chv_crypto *crypto);

/* Wrappers with the contracts of the members above.  CHV_ERR_UNSUPPORTED where a capability or member is missing. */
enum chv_err chv_crypto_random(const struct chv_crypto *crypto, uint8_t *out, size_t len) CHV_MUST_CHECK;
enum chv_err chv_crypto_hash(const struct chv_crypto *crypto, enum chv_hash alg, const struct chv_part *parts, size_t n,
                             uint8_t *out) CHV_MUST_CHECK;
enum chv_err chv_crypto_hmac(const struct chv_crypto *crypto, enum chv_hash alg, const uint8_t *key, size_t keylen,
                             const struct chv_part *parts, size_t n, uint8_t *out) CHV_MUST_CHECK;
enum chv_err chv_crypto_dh_generate(const struct chv_crypto *crypto, enum chv_curve curve, struct chv_dh **key,
                                    uint8_t *public_out) CHV_MUST_CHECK;
enum chv_err chv_crypto_dh_import(const struct chv_crypto *crypto, enum chv_curve curve,
                                  const uint8_t private_key[CHV_DH_PRIVATE_LEN], struct chv_dh **key,
                                  uint8_t *public_out) CHV_MUST_CHECK;
enum chv_err chv_crypto_dh_derive(const struct chv_crypto *crypto, struct chv_dh *key, const uint8_t *peer_public,
                                  uint8_t shared_out[CHV_KEY_LEN]) CHV_MUST_CHECK;
void chv_crypto_dh_free(const struct chv_crypto *crypto, struct chv_dh *key);
enum chv_err chv_crypto_aead_new(const struct chv_crypto *crypto, enum chv_aead_alg alg, const uint8_t key[CHV_KEY_LEN],
                                 struct chv_aead **aead) CHV_MUST_CHECK;
enum chv_err chv_crypto_aead_rekey(const struct chv_crypto *crypto, struct chv_aead *aead,
                                   const uint8_t key[CHV_KEY_LEN]) CHV_MUST_CHECK;
enum chv_err chv_crypto_aead_seal(const struct chv_crypto *crypto, struct chv_aead *aead,
                                  const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                                  const uint8_t *in, size_t len, uint8_t *out) CHV_MUST_CHECK;
enum chv_err chv_crypto_aead_open(const struct chv_crypto *crypto, struct chv_aead *aead,
                                  const uint8_t nonce[CHV_AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                                  const uint8_t *in, size_t in_len, uint8_t *out) CHV_MUST_CHECK;
void chv_crypto_aead_free(const struct chv_crypto *crypto, struct chv_aead *aead);

/* "" where the backend says nothing. */
const char *chv_crypto_lacks(const struct chv_crypto *crypto, uint32_t capability);
/* A backend that says nothing is well. */
void chv_crypto_health(const struct chv_crypto *crypto, struct chv_backend_health *health);

/*
 * The built-in backends (backends/registry.c, the one table).
 *
 * chv_backend_find: by exact name, NULL if unknown.
 * chv_backend_names: "openssl, pkcs11", for help and error texts; static storage.
 * chv_backend_open: `spec` as the configuration has it: a name, or a name, ':' and what that backend's open() takes
 * ("openssl", "pkcs11:token=T": the whole spec is the uri).  Allocates the context; an unknown name is CHV_ERR_CONFIG and
 * `why` lists the known ones.  May block as the backend's open() does.
 * chv_backend_close: closes, wipes and frees what chv_backend_open made; a zeroed struct is allowed.
 */
const struct chv_backend *chv_backend_find(const char *name);
const char *chv_backend_names(void);
enum chv_err chv_backend_open(const char *spec, struct chv_crypto *crypto, struct chv_why *why) CHV_MUST_CHECK;
void chv_backend_close(struct chv_crypto *crypto);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
