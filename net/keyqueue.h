/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions of one loop that wait for the keeper. A pure data structure: no clock, no sockets; memory is taken once.
 *
 * Bounded: of `capacity` entries one source never takes more than are left free, so a flood from one place leaves room.
 * Fair: sources take turns. Sources that proved a key lately have their turns first; every CHV_KEYQUEUE_SHARE-th turn
 * goes to the others, so that nobody starves. Times are in ms and never go back.
 */
#ifndef CHV_NET_KEYQUEUE_H
#define CHV_NET_KEYQUEUE_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHV_KEYQUEUE_SHARE = 8,
    CHV_KEYQUEUE_TRUST_MS = 10 * 60 * 1000, /* how long a source that reached OPEN goes first */
    CHV_KEYQUEUE_TRUSTED = 1024             /* how many of them are remembered */
};

struct chv_keyqueue_source;

/* Part of the caller's object; zeroed before its first use. */
struct chv_keyqueue_entry {
    struct chv_keyqueue_source *source;       /* NULL: not queued */
    struct chv_keyqueue_entry *prev, *next;   /* of its source */
    struct chv_keyqueue_entry *older, *newer; /* of all */
    uint64_t deadline;
};

struct chv_keyqueue_trust {
    uint64_t source, until;
};

struct chv_keyqueue {
    size_t capacity, count;
    uint64_t seed;
    size_t buckets; /* of `table` */
    struct chv_keyqueue_source **table, *sources, *unused;
    struct chv_keyqueue_source *turns[2]; /* whose turn is next: [0] of the others, [1] of the trusted */
    unsigned turn;
    struct chv_keyqueue_entry *oldest, *newest;
    struct chv_keyqueue_trust *trust;
};

enum chv_err chv_keyqueue_init(struct chv_keyqueue *queue, size_t capacity, uint64_t seed) CHV_MUST_CHECK;
/* Entries that still wait are forgotten. */
void chv_keyqueue_free(struct chv_keyqueue *queue);

/*
 * CHV_ERR_BUSY: full for this source; nothing changed. CHV_ERR_STATE: the entry waits already.
 * `deadline`: not before that of the entry pushed last (a constant delay does).
 */
enum chv_err chv_keyqueue_push(struct chv_keyqueue *queue, struct chv_keyqueue_entry *entry, uint64_t source,
                               uint64_t now, uint64_t deadline) CHV_MUST_CHECK;
/* The next one in fair order, taken out; NULL if none waits. */
struct chv_keyqueue_entry *chv_keyqueue_pop(struct chv_keyqueue *queue);
/* One whose deadline is `now` or earlier, taken out, earliest first; NULL if there is none. */
struct chv_keyqueue_entry *chv_keyqueue_expire(struct chv_keyqueue *queue, uint64_t now);
/* Takes it out if it waits. */
void chv_keyqueue_cancel(struct chv_keyqueue *queue, struct chv_keyqueue_entry *entry);
bool chv_keyqueue_waits(const struct chv_keyqueue_entry *entry);

/* A client of this source has proven its key. */
void chv_keyqueue_trust(struct chv_keyqueue *queue, uint64_t source, uint64_t now);

#endif
