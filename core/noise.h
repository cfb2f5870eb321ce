/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Noise Protocol Framework, revision 34: symmetric state and handshake state over a crypto backend.
 * Section numbers below are of that document.  General: any pattern of pattern.h with any psk modifiers; the session
 * uses NNpsk2, IK and IKpsk2 of it.
 *
 * The handshake holds no static private key and no psk: it stops at a token that needs one and asks (chv_noise_need).
 *
 * A call in the wrong order is CHV_ERR_STATE and changes nothing.  Every other failure of read, run, answer and split
 * is the end: the state is wiped, what was written of the message too, and every later call returns the same error,
 * which is one of the fatal codes (a backend's that is not becomes CHV_ERR_CRYPTO).  chv_noise_wipe is allowed after
 * it.
 */
#ifndef CHV_CORE_NOISE_H
#define CHV_CORE_NOISE_H

#include "core/pattern.h"

#include <chaveiro/backend.h>

enum { CHV_NOISE_MESSAGE_MAX = 65535 };

/* CipherState and SymmetricState of section 5 in one: the handshake has one key at a time. */
struct chv_noise_symmetric {
    const struct chv_crypto *crypto;
    enum chv_hash hash;
    enum chv_aead_alg cipher;
    uint8_t hash_len;
    uint8_t ck[CHV_HASH_MAX];
    uint8_t h[CHV_HASH_MAX];
    uint8_t prk[CHV_HASH_MAX]; /* of the last MixKey: the key is its second output, computed when it is first used */
    enum { CHV_NOISE_NO_KEY, CHV_NOISE_KEY_PENDING, CHV_NOISE_KEY_SET } key_state;
    uint64_t n;
    struct chv_aead *aead; /* NULL before the first key */
};

enum chv_noise_need { CHV_NOISE_NEED_NOTHING, CHV_NOISE_NEED_DH, CHV_NOISE_NEED_PSK };

struct chv_noise {
    struct chv_noise_symmetric ss;
    struct chv_noise_pattern pattern;
    enum chv_curve curve;
    uint8_t dh_len; /* public key bytes */
    bool initiator;
    bool has_rs;      /* rs is known */
    struct chv_dh *e; /* own ephemeral; NULL before it is made and after the last use */
    uint8_t e_public[CHV_DH_PUBLIC_MAX];
    uint8_t s_public[CHV_DH_PUBLIC_MAX];
    uint8_t re[CHV_DH_PUBLIC_MAX];
    uint8_t rs[CHV_DH_PUBLIC_MAX];

    uint8_t message; /* index of the message under way or next */
    uint8_t token;   /* next token of it */
    enum {
        CHV_NOISE_BETWEEN,
        CHV_NOISE_WRITING,
        CHV_NOISE_READING,
        CHV_NOISE_DONE,
        CHV_NOISE_SPLIT,
        CHV_NOISE_FAILED
    } phase;
    enum chv_noise_need need; /* asked and not answered */
    bool answered;            /* answered and not used */
    uint8_t answer[CHV_KEY_LEN];
    uint8_t h_psk[CHV_HASH_MAX];
    /* the message under way: borrowed from the caller until it is done */
    uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t pos; /* bytes written or read so far */
    const uint8_t *payload;
    size_t payload_len; /* given to write, or found by read */
    enum chv_err error; /* the first one, sticky */
};

struct chv_noise_config {
    const struct chv_crypto *crypto;
    const char *name; /* full protocol name (section 8), the initial h; NULL: built from the parts */
    const struct chv_noise_pattern *pattern;
    enum chv_curve curve;
    enum chv_aead_alg cipher;
    enum chv_hash hash;
    bool initiator;
    const uint8_t *prologue;
    size_t prologue_len;
    const uint8_t *s_public; /* own static public key, NULL if there is none */
    const uint8_t *rs;       /* the peer's, exactly where the pattern knows it beforehand */
};

/*
 * Initialize (5.3).  CHV_ERR_ARGUMENT if a static key that the pattern needs is missing or `rs` is one that it does not
 * know beforehand, CHV_ERR_UNSUPPORTED if the backend lacks an algorithm.  Keys are copied.  On failure there is
 * nothing to wipe.
 */
enum chv_err chv_noise_init(struct chv_noise *n, const struct chv_noise_config *config) CHV_MUST_CHECK;
/* Frees the backend's handles and zeroes all; then every call fails.  A zeroed struct is allowed. */
void chv_noise_wipe(struct chv_noise *n);

/* Whether the next message is ours to write; meaningless once done. */
bool chv_noise_our_turn(const struct chv_noise *n);
bool chv_noise_done(const struct chv_noise *n);

/*
 * WriteMessage, ReadMessage (5.3), begun: the buffers stay borrowed until the message is complete.  Run with
 * chv_noise_run. `out` and `payload` of write do not overlap.  Read decrypts the payload in place of `message`'s bytes.
 * Write: CHV_ERR_ARGUMENT if the message would pass 65535 bytes, CHV_ERR_SPACE if it would pass out_cap; nothing has
 * begun then.  Read: CHV_ERR_MALFORMED if `len` is over 65535 or too short for the pattern; fatal.
 */
enum chv_err chv_noise_write(struct chv_noise *n, const uint8_t *payload, size_t payload_len, uint8_t *out,
                             size_t out_cap) CHV_MUST_CHECK;
enum chv_err chv_noise_read(struct chv_noise *n, uint8_t *message, size_t len) CHV_MUST_CHECK;

/*
 * Goes on with the message under way.  *complete is set when it is finished: its length (write) or payload (read) can
 * be had below.  Not complete and CHV_OK: chv_noise_need says what is missing.  CHV_ERR_AUTH: something did not open.
 * The payload appears in the buffer only when its tag was right.
 * A psk is asked for as soon as its h is known, before the DH tokens that stand between; calling again then computes
 * these.
 */
enum chv_err chv_noise_run(struct chv_noise *n, bool *complete) CHV_MUST_CHECK;
/* Bytes of the message that was just written; 0 if none was. */
size_t chv_noise_written(const struct chv_noise *n);
/* Payload of the message that was just read; points into it.  NULL if none was. */
const uint8_t *chv_noise_payload(const struct chv_noise *n, size_t *len);

/*
 * NEED_DH: DH of our static key with *data (public key).  NEED_PSK: the psk, *data = h before MixKeyAndHash.
 * *data holds until the answer.
 */
enum chv_noise_need chv_noise_need(const struct chv_noise *n, const uint8_t **data, size_t *len);
/* 32 bytes; the copy is wiped after use.  Refuses an all-zero DH result (CHV_ERR_AUTH).  Go on with chv_noise_run. */
enum chv_err chv_noise_answer(struct chv_noise *n, const uint8_t secret[CHV_KEY_LEN]) CHV_MUST_CHECK;

/*
 * Split (5.2) after the last message: k1 (initiator to responder), k2, and the third HKDF output (32 bytes each).
 * Once.  Wipes ck; the handshake hash ss.h stays readable until chv_noise_wipe.  third may be NULL.
 */
enum chv_err chv_noise_split(struct chv_noise *n, uint8_t k1[CHV_KEY_LEN], uint8_t k2[CHV_KEY_LEN],
                             uint8_t third[CHV_KEY_LEN]) CHV_MUST_CHECK;

/* Nonce bytes of a cipher (section 12): AESGCM 32 zero bits and big-endian n, ChaChaPoly little-endian. */
void chv_noise_nonce(enum chv_aead_alg cipher, uint64_t n, uint8_t out[CHV_AEAD_NONCE_LEN]);
/* Rekey (4.2): k = the first 32 bytes of ENCRYPT(k, 2^64-1, "", 32 zeros). `aead` holds k and then the new one. */
enum chv_err chv_noise_rekey(const struct chv_crypto *crypto, enum chv_aead_alg cipher, struct chv_aead *aead,
                             uint8_t k[CHV_KEY_LEN]) CHV_MUST_CHECK;

/* "Noise_XXpsk3_25519_AESGCM_SHA256" into its parts; CHV_ERR_NOT_FOUND for a part that is not known. */
enum chv_err chv_noise_parse_name(const char *name, struct chv_noise_pattern *pattern, enum chv_curve *curve,
                                  enum chv_aead_alg *cipher, enum chv_hash *hash) CHV_MUST_CHECK;

#endif
