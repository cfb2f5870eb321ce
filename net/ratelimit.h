/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets per source (net/source.h) in a table of fixed size. When the table is full, the fullest bucket of a set
 * makes room: forgetting it forgives the least. Not thread-safe.
 */
#ifndef CHV_NET_RATELIMIT_H
#define CHV_NET_RATELIMIT_H

#include <chaveiro/error.h>

#include <stdint.h>

struct chv_ratelimit_bucket {
    uint64_t source;  /* 0: free */
    uint64_t updated; /* ms */
    uint64_t tokens;  /* thousandths */
    uint64_t answers; /* likewise: refusals that may still be answered */
};

struct chv_ratelimit {
    struct chv_ratelimit_bucket *buckets;
    uint64_t seed;
    unsigned rate, burst; /* per second; at once. rate 0: everything passes */
};

enum chv_rate {
    CHV_RATE_PASS,
    CHV_RATE_REFUSE, /* over the rate: say so */
    CHV_RATE_DROP    /* far over it: answers would cost as much as handshakes; close silently */
};

enum chv_err chv_ratelimit_init(struct chv_ratelimit *limit, unsigned rate, unsigned burst,
                                uint64_t seed) CHV_MUST_CHECK;
void chv_ratelimit_free(struct chv_ratelimit *limit);
/* New numbers for old buckets. */
void chv_ratelimit_set(struct chv_ratelimit *limit, unsigned rate, unsigned burst);

/* One connection of `source` at `now` (ms, never going back): takes a token. Refusals have a bucket of the same size.
 */
enum chv_rate chv_ratelimit_take(struct chv_ratelimit *limit, uint64_t source, uint64_t now);

#endif
