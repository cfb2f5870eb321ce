/* SPDX-License-Identifier: Apache-2.0 */
#include "net/loop.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "net/conn_internal.h"

enum { HELD_GRAIN = 512, SHARES = 32 };

static bool pool_take(struct chv_pool *pool, size_t n)
{
    size_t used = atomic_load_explicit(&pool->used, memory_order_relaxed);
    do {
        if (n > pool->limit || used > pool->limit - n)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&pool->used, &used, used + n, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static void pool_give(struct chv_pool *pool, size_t n)
{
    atomic_fetch_sub_explicit(&pool->used, n, memory_order_relaxed);
}

size_t chv_pool_share(const struct chv_pool *pool, size_t wanted)
{
    const size_t used = atomic_load_explicit(&pool->used, memory_order_relaxed);
    size_t share = used < pool->limit ? (pool->limit - used) / SHARES : 0;
    if (share < CHV_POOL_SHARE_MIN)
        share = CHV_POOL_SHARE_MIN;
    return wanted < share ? wanted : share;
}

/* Room for `need` bytes from the start. Doubling, so that a peer that sends byte by byte costs no copy per byte. */
static enum chv_err held_grow(struct chv_held *held, struct chv_pool *pool, size_t need)
{
    size_t cap = held->cap * 2 > need ? held->cap * 2 : need;
    cap = (cap + HELD_GRAIN - 1) / HELD_GRAIN * HELD_GRAIN;
    if (!pool_take(pool, cap))
        return CHV_ERR_MEMORY;
    uint8_t *buf = malloc(cap);
    if (buf == NULL) {
        pool_give(pool, cap);
        return CHV_ERR_MEMORY;
    }
    size_t start = held->start, len = held->len;
    if (len > 0)
        memcpy(buf, held->buf + start, len);
    chv_held_free(held, pool);
    *held = (struct chv_held){.buf = buf, .len = len, .cap = cap};
    return CHV_OK;
}

enum chv_err chv_held_append(struct chv_held *held, struct chv_pool *pool, const uint8_t *data, size_t len)
{
    if (len == 0)
        return CHV_OK;
    if (held->len + len > held->cap) {
        enum chv_err err = held_grow(held, pool, held->len + len);
        if (err != CHV_OK)
            return err;
    } else if (held->start + held->len + len > held->cap) {
        memmove(held->buf, held->buf + held->start, held->len);
        held->start = 0;
    }
    memcpy(held->buf + held->start + held->len, data, len);
    held->len += len;
    return CHV_OK;
}

void chv_held_free(struct chv_held *held, struct chv_pool *pool)
{
    if (held->buf != NULL) {
        chv_wipe(held->buf, held->cap);
        free(held->buf);
        pool_give(pool, held->cap);
    }
    *held = (struct chv_held){.buf = NULL};
}

static void on_round(uv_check_t *check)
{
    struct chv_loop *loop = check->data;
    loop->turns_before = loop->turns;
    loop->turns = 0;
}

size_t chv_loop_turn(struct chv_loop *loop)
{
    loop->turns++;
    const unsigned others = loop->turns > loop->turns_before ? loop->turns : loop->turns_before;
    const size_t share = CHV_LOOP_BUFFER / others;
    return share < CHV_LOOP_TURN_MIN ? CHV_LOOP_TURN_MIN : share;
}

void *chv_loop_take_room(struct chv_loop *loop)
{
    return loop->room_count > 0 ? loop->rooms[--loop->room_count] : malloc(chv_session_size());
}

void chv_loop_give_room(struct chv_loop *loop, void *room)
{
    if (loop->room_count < CHV_LOOP_ROOMS && room != NULL)
        loop->rooms[loop->room_count++] = room;
    else
        free(room);
}

enum chv_err chv_loop_init(struct chv_loop *loop, const char *backend, struct chv_pool *pool,
                           const struct chv_loop_limits *limits, struct chv_why *why)
{
    memset(loop, 0, sizeof *loop);
    loop->pool = pool;
    loop->limits = *limits;
    enum chv_err err = chv_backend_open(backend, &loop->crypto, why);
    if (err != CHV_OK)
        return err;
    loop->in = malloc(CHV_LOOP_BUFFER);
    loop->out = malloc(CHV_LOOP_BUFFER);
    if (loop->in == NULL || loop->out == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "no memory for the buffers of an event loop");
        goto out;
    }
    int rc = uv_loop_init(&loop->uv);
    if (rc != 0) {
        err = chv_fail(why, CHV_ERR_IO, "cannot make an event loop: %s", uv_strerror(rc));
        goto out;
    }
    (void)uv_timer_init(&loop->uv, &loop->tick); /* cannot fail */
    loop->tick.data = loop;
    uv_unref((uv_handle_t *)&loop->tick);
    (void)uv_check_init(&loop->uv, &loop->round); /* likewise, and the next */
    (void)uv_check_start(&loop->round, on_round);
    loop->round.data = loop;
    uv_unref((uv_handle_t *)&loop->round);
    return CHV_OK;
out:
    free(loop->in);
    free(loop->out);
    chv_backend_close(&loop->crypto);
    return err;
}

void chv_loop_close(struct chv_loop *loop)
{
    for (struct chv_conn *conn = loop->conns; conn != NULL; conn = conn->next)
        chv_conn_abort(conn, CHV_ERR_CANCELLED);
    uv_close((uv_handle_t *)&loop->tick, NULL);
    uv_close((uv_handle_t *)&loop->round, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) /* who closes last may stop the loop, with handles still to go */
        continue;
    (void)uv_loop_close(&loop->uv);
    while (loop->room_count > 0)
        free(loop->rooms[--loop->room_count]);
    chv_wipe(loop->in, CHV_LOOP_BUFFER);
    chv_wipe(loop->out, CHV_LOOP_BUFFER);
    free(loop->in);
    free(loop->out);
    chv_backend_close(&loop->crypto);
    memset(loop, 0, sizeof *loop);
}
