/* SPDX-License-Identifier: Apache-2.0 */
/* Handshake patterns (Noise revision 34, sections 7.4, 7.5, 9 and 18.1) as data. */
#ifndef CHV_CORE_PATTERN_H
#define CHV_CORE_PATTERN_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chv_noise_token {
    CHV_TOKEN_END,
    CHV_TOKEN_E,
    CHV_TOKEN_S,
    CHV_TOKEN_EE,
    CHV_TOKEN_ES,
    CHV_TOKEN_SE,
    CHV_TOKEN_SS,
    CHV_TOKEN_PSK
};

enum {
    CHV_PATTERN_NAME_MAX = 32, /* "XXpsk0+psk1+psk2+psk3" */
    CHV_PATTERN_MESSAGES_MAX = 4,
    CHV_PATTERN_TOKENS_MAX = 8 /* of one message, with its END */
};

struct chv_noise_pattern {
    char name[CHV_PATTERN_NAME_MAX]; /* with modifiers */
    bool one_way;
    bool pre_initiator, pre_responder; /* s known beforehand */
    bool psk;                          /* any psk modifier */
    uint8_t messages;
    uint8_t tokens[CHV_PATTERN_MESSAGES_MAX][CHV_PATTERN_TOKENS_MAX];
};

/*
 * Builds the pattern of a name: one of the 38 of sections 7.4, 7.5 and 18.1 with psk modifiers ("NNpsk0+psk2").
 * CHV_ERR_NOT_FOUND for an unknown name, a modifier that is no pskN, one given twice or out of order, or one past the
 * last message.
 */
enum chv_err chv_noise_pattern_find(const char *name, struct chv_noise_pattern *pattern) CHV_MUST_CHECK;

/* The base patterns' names in order, for tests; NULL past the last. */
const char *chv_noise_pattern_name(size_t index);

#endif
