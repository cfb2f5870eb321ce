/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ratelimit.h"

#include "net/source.h"

#include <stdlib.h>

enum { SETS = 1024, WAYS = 4, UNIT = 1000 };

enum chv_err chv_ratelimit_init(struct chv_ratelimit *limit, unsigned rate, unsigned burst, uint64_t seed)
{
    struct chv_ratelimit_bucket *buckets = calloc((size_t)SETS * WAYS, sizeof *buckets);
    if (buckets == NULL)
        return CHV_ERR_MEMORY;
    *limit = (struct chv_ratelimit){.buckets = buckets, .seed = seed, .rate = rate, .burst = burst};
    return CHV_OK;
}

void chv_ratelimit_free(struct chv_ratelimit *limit)
{
    free(limit->buckets);
    limit->buckets = NULL;
}

void chv_ratelimit_set(struct chv_ratelimit *limit, unsigned rate, unsigned burst)
{
    limit->rate = rate;
    limit->burst = burst;
}

static uint64_t refilled(uint64_t tokens, uint64_t added, uint64_t full)
{
    return tokens >= full || added >= full - tokens ? full : tokens + added;
}

static void refill(const struct chv_ratelimit *limit, struct chv_ratelimit_bucket *bucket, uint64_t now)
{
    uint64_t full = (uint64_t)limit->burst * UNIT;
    uint64_t passed = now > bucket->updated ? now - bucket->updated : 0;
    /* `rate` tokens a second are `rate` thousandths a millisecond; beyond `full` ms even rate 1 has filled it. */
    uint64_t added = passed >= full ? full : passed * limit->rate;
    bucket->tokens = refilled(bucket->tokens, added, full);
    bucket->answers = refilled(bucket->answers, added, full);
    bucket->updated = now;
}

static struct chv_ratelimit_bucket *find(const struct chv_ratelimit *limit, uint64_t source, uint64_t now)
{
    uint64_t set = chv_source_hash(source, limit->seed) % SETS;
    struct chv_ratelimit_bucket *ways = &limit->buckets[set * WAYS], *victim = NULL;
    for (size_t i = 0; i < WAYS; i++) {
        struct chv_ratelimit_bucket *bucket = &ways[i];
        if (bucket->source != 0)
            refill(limit, bucket, now);
        if (bucket->source == source)
            return bucket;
        if (victim == NULL || bucket->source == 0 || (victim->source != 0 && bucket->tokens > victim->tokens))
            victim = bucket;
    }
    uint64_t full = (uint64_t)limit->burst * UNIT;
    *victim = (struct chv_ratelimit_bucket){.source = source, .updated = now, .tokens = full, .answers = full};
    return victim;
}

enum chv_rate chv_ratelimit_take(struct chv_ratelimit *limit, uint64_t source, uint64_t now)
{
    if (limit->rate == 0)
        return CHV_RATE_PASS;
    struct chv_ratelimit_bucket *bucket = find(limit, source, now);
    if (bucket->tokens >= UNIT) {
        bucket->tokens -= UNIT;
        return CHV_RATE_PASS;
    }
    if (bucket->answers >= UNIT) {
        bucket->answers -= UNIT;
        return CHV_RATE_REFUSE;
    }
    return CHV_RATE_DROP;
}
