/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for secrets in this process's memory.  A needle is kept masked, so that the search does not find itself. */
#ifndef CHV_TESTS_SUPPORT_NEEDLE_H
#define CHV_TESTS_SUPPORT_NEEDLE_H

#include <stddef.h>
#include <stdint.h>

enum { NEEDLE_MASK = 0x5a, NEEDLE_MAX = 64 };

struct needle {
    uint8_t masked[NEEDLE_MAX]; /* each byte XOR NEEDLE_MASK */
    size_t len;
};

/* How often it stands in the writable memory of this process. */
size_t needle_occurrences(struct needle needle);

#endif
