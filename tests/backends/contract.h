/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the backend contract test share. */
#ifndef CHV_TESTS_BACKENDS_CONTRACT_H
#define CHV_TESTS_BACKENDS_CONTRACT_H

#include <chaveiro/backend.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The open backends, one or more. */
extern struct chv_crypto subjects[];
extern size_t subject_count;

/* `c` is the name of the variable to declare. */
/* NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define FOR_EACH_SUBJECT(c) for (const struct chv_crypto *c = subjects; c < subjects + subject_count; c++)

#define FOR_EACH_PAIR(a, b)                                                                                            \
    FOR_EACH_SUBJECT(a)                                                                                                \
    FOR_EACH_SUBJECT(b)

#define BIG 65536u

static const uint8_t key_a[CHV_KEY_LEN] = {1, 2, 3};
static const uint8_t nonce_a[CHV_AEAD_NONCE_LEN] = {7, 0, 0, 0, 9};

static inline bool has(const struct chv_crypto *c, uint32_t capability)
{
    return (c->capabilities & capability) != 0;
}

static inline void fill(uint8_t *buf, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(seed + i * 7 + i / 251);
}

static inline bool all_are(const uint8_t *buf, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (buf[i] != value)
            return false;
    return true;
}

/* contract_aead.c */
void test_aead(void);
void test_aead_empty(void);
void test_aead_pairs(void);

#endif
