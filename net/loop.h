/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop and what its connections share: crypto context, bulk buffers, memory pool, deadlines.
 * A loop belongs to one thread; nothing here may be called from another.
 */
#ifndef CHV_NET_LOOP_H
#define CHV_NET_LOOP_H

#include <chaveiro/backend.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct chv_conn;

enum {
    CHV_LOOP_BUFFER = 1024 * 1024, /* bulk buffer per direction; so much all that are ready in a round share */
    CHV_POOL_SHARE_MIN = 4096,
    CHV_LOOP_READS = 8,           /* reads per wake-up of one connection, or fewer: chv_loop_turn */
    CHV_RECORD_BULK_BODY = 65280, /* body of a bulk record: 65 299 bytes on the wire fit one loopback segment */
    CHV_LOOP_TURN_MIN = 65299,    /* one of these */
    CHV_LOOP_SLOTS = 16,          /* of such records that a buffer has room for */
    CHV_LOOP_REST_SECONDS = 1     /* an established connection silent for so long gives its AEAD contexts back */
};

/* Bytes held for peers that sent part of a frame or do not read: one bound for all loops of a process. */
struct chv_pool {
    atomic_size_t used;
    size_t limit;
};

/* Memory out of the pool. */
struct chv_held {
    uint8_t *buf;
    size_t start, len, cap; /* `len` bytes from buf + start */
};
/* Appends; on CHV_ERR_MEMORY nothing changed and the pool's limit (or the heap's) is reached. */
enum chv_err chv_held_append(struct chv_held *held, struct chv_pool *pool, const uint8_t *data,
                             size_t len) CHV_MUST_CHECK;
/* Wipes, frees, gives back to the pool. */
void chv_held_free(struct chv_held *held, struct chv_pool *pool);
/*
 * What is to be read at a time at most, if it may have to be held: `wanted` while the pool has plenty, less and less as it
 * fills, so that many stuck streams use up no more than it has; at least CHV_POOL_SHARE_MIN.
 */
size_t chv_pool_share(const struct chv_pool *pool, size_t wanted);

struct chv_loop_limits {
    unsigned handshake_seconds; /* from accept or connect to the first record */
    unsigned idle_seconds;      /* without a record in either direction; 0: for ever */
    unsigned stall_seconds; /* a started frame must be whole, unsent bytes must move, CLOSE be answered; at least 1 */
};

/* Connections in order of their deadline, one list per kind of deadline (a constant delay keeps it sorted). */
struct chv_deadline_list {
    struct chv_conn *first, *last;
};

enum { CHV_LOOP_ROOMS = 32 };

struct chv_loop {
    uv_loop_t uv;
    struct chv_crypto crypto;
    struct chv_pool *pool;
    struct chv_loop_limits limits;
    uint8_t *in; /* CHV_LOOP_BUFFER each; what held plaintext is wiped after use */
    uint8_t *out;
    struct chv_conn *in_conn; /* whose bytes are in `in`, while its records are handed out */
    /*
     * Room for handshakes, which is kept for the next ones: memory that comes and goes between what idle connections keep
     * would leave holes as large as itself.
     */
    void *rooms[CHV_LOOP_ROOMS];
    size_t room_count;
    struct chv_conn *out_conn; /* whose sealed records wait in `out` for one write */
    size_t out_len;
    uv_timer_t tick;
    uv_check_t round;             /* the end of a round of the loop: */
    unsigned turns, turns_before; /* of this one so far, and of the last */
    struct chv_deadline_list handshaking, active, idle, stalled;
    struct chv_conn *conns; /* all of this loop */
    size_t conn_count;
};

/* `backend`: as chv_backend_open takes it. The pool is shared and outlives the loop. May block (self-test). */
enum chv_err chv_loop_init(struct chv_loop *loop, const char *backend, struct chv_pool *pool,
                           const struct chv_loop_limits *limits, struct chv_why *why) CHV_MUST_CHECK;
/*
 * A stream's turn to read: how many bytes it may take before others have theirs. The more had one in the last round, the
 * fewer: a long turn each would let those with small windows starve beside those with large ones.
 */
size_t chv_loop_turn(struct chv_loop *loop);
/* Closes every connection with CHV_ERR_CANCELLED, runs the loop until its handles are gone, frees all. */
void chv_loop_close(struct chv_loop *loop);

#endif
