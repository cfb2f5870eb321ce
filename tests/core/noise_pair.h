/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of a Noise handshake, for tests of the engine. */
#ifndef CHV_TESTS_CORE_NOISE_PAIR_H
#define CHV_TESTS_CORE_NOISE_PAIR_H

#include "core/noise.h"
#include "tests/harness.h"

enum { INITIATOR = 0, RESPONDER = 1 };

struct noise_pair {
    const struct chv_crypto *keys; /* holds the static keys and answers DH questions */
    struct chv_noise_pattern pattern;
    struct chv_noise_config config[2]; /* may be changed before noise_pair_start */
    struct chv_dh *key[2];
    uint8_t key_public[2][CHV_DH_PUBLIC_MAX];
    uint8_t psk[2][CHV_KEY_LEN]; /* what a side answers */
    struct chv_noise noise[2];
    char asked[2][16]; /* 'd' and 'p' in the order of the questions */
    unsigned next;     /* index of the message to be written, or written and to be read */
    bool key_refused;  /* a static key could not be used with a peer's: its holder said so, not the engine */
    uint8_t message[CHV_NOISE_MESSAGE_MAX];
    size_t message_len;
};

/* The openssl backend, open while noise_test_main runs the cases. */
extern struct chv_crypto noise_crypto;
int noise_test_main(const char *suite, const struct test_case *cases, size_t n);

/* Parses the name, makes static keys and configurations; `crypto[side]` is what a side computes with. */
void noise_pair_init(struct noise_pair *pair, const char *name, const struct chv_crypto *keys,
                     const struct chv_crypto *initiator, const struct chv_crypto *responder);
enum chv_err noise_pair_start(struct noise_pair *pair, int side) CHV_MUST_CHECK;
void noise_pair_start_both(struct noise_pair *pair);
/* init and start with noise_crypto */
void noise_pair_begin(struct noise_pair *pair, const char *name);
/* Wipes both sides and frees the static keys. */
void noise_pair_free(struct noise_pair *pair);

/* Runs the message under way of a side to its end and answers its questions. */
enum chv_err noise_pair_finish(struct noise_pair *pair, int side) CHV_MUST_CHECK;
/* The next message, into pair->message and out of it; "payload I" is the payload of message I. */
enum chv_err noise_pair_write(struct noise_pair *pair) CHV_MUST_CHECK;
enum chv_err noise_pair_read(struct noise_pair *pair) CHV_MUST_CHECK;
/* All messages that are left. */
enum chv_err noise_pair_run(struct noise_pair *pair) CHV_MUST_CHECK;

/* Asserts that nothing but the failure is left in `n`, and that every call tells it; then wipes that too. */
void noise_check_failed(struct chv_noise *n, enum chv_err err);

#endif
