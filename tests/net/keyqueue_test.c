/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keyqueue.h"
#include "tests/harness.h"

#include <string.h>

enum { MANY = 64 };

static struct chv_keyqueue queue;
static struct chv_keyqueue_entry entries[MANY];

static void start(size_t capacity)
{
    memset(entries, 0, sizeof entries);
    CU_ASSERT_EQUAL_FATAL(chv_keyqueue_init(&queue, capacity, 4711), CHV_OK);
}

static void push(size_t i, uint64_t source)
{
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[i], source, 0, 100 + i), CHV_OK);
}

static long pop(void)
{
    struct chv_keyqueue_entry *entry = chv_keyqueue_pop(&queue);
    return entry != NULL ? entry - entries : -1;
}

static void test_order_of_one_source(void)
{
    start(MANY);
    CU_ASSERT_EQUAL(pop(), -1);
    for (size_t i = 0; i < 5; i++)
        push(i, 7);
    CU_ASSERT_EQUAL(queue.count, 5);
    for (long i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(pop(), i);
    CU_ASSERT_EQUAL(pop(), -1);
    CU_ASSERT_EQUAL(queue.count, 0);
    chv_keyqueue_free(&queue);
}

static void test_sources_take_turns(void)
{
    static const long wanted[] = {0, 4, 5, 1, 6, 2, 3};
    start(MANY);
    for (size_t i = 0; i < 4; i++)
        push(i, 7);
    push(4, 8);
    push(5, 9);
    push(6, 9);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        CU_ASSERT_EQUAL(pop(), wanted[i]);
    CU_ASSERT_EQUAL(pop(), -1);
    chv_keyqueue_free(&queue);
}

static void test_bound(void)
{
    start(4);
    push(0, 1);
    push(1, 1);
    /* Two are left free: a source that has two waits for no third. */
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[2], 1, 0, 200), CHV_ERR_BUSY);
    CU_ASSERT_FALSE(chv_keyqueue_waits(&entries[2]));
    push(2, 2);
    push(3, 3);
    CU_ASSERT_EQUAL(queue.count, 4);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[4], 4, 0, 200), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(queue.count, 4);
    CU_ASSERT_EQUAL(pop(), 0);
    push(4, 4);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[4], 5, 0, 200), CHV_ERR_STATE);
    chv_keyqueue_free(&queue);

    start(1);
    push(0, 1);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[1], 2, 0, 200), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(pop(), 0);
    push(1, 2);
    chv_keyqueue_free(&queue);
}

static void test_flood_leaves_room(void)
{
    size_t taken = 0, i = 0;
    start(32);
    for (; i < MANY - 1; i++)
        taken += chv_keyqueue_push(&queue, &entries[i], 1, 0, 100) == CHV_OK;
    CU_ASSERT_EQUAL(taken, 16);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[i], 2, 0, 100), CHV_OK);
    CU_ASSERT_EQUAL(pop(), 0);
    CU_ASSERT_EQUAL(pop(), (long)i);
    chv_keyqueue_free(&queue);
}

/* Every set of 6 entries of 3 sources, each one cancelled after each number of pops. */
static void test_cancel_at_every_point(void)
{
    for (size_t victim = 0; victim < 6; victim++) {
        for (size_t pops = 0; pops <= 6; pops++) {
            bool seen[6] = {false};
            size_t left = 6;
            start(MANY);
            for (size_t i = 0; i < 6; i++)
                push(i, 1 + i % 3);
            for (size_t n = 0; n < pops; n++, left--)
                seen[pop()] = true;
            left -= chv_keyqueue_waits(&entries[victim]);
            chv_keyqueue_cancel(&queue, &entries[victim]);
            chv_keyqueue_cancel(&queue, &entries[victim]);
            CU_ASSERT_FALSE(chv_keyqueue_waits(&entries[victim]));
            CU_ASSERT_EQUAL(queue.count, left);
            seen[victim] = true;
            for (; left > 0; left--) {
                long i = pop();
                CU_ASSERT_FATAL(i >= 0);
                CU_ASSERT_FALSE(seen[i]);
                seen[i] = true;
            }
            CU_ASSERT_EQUAL(pop(), -1);
            CU_ASSERT_PTR_NULL(chv_keyqueue_expire(&queue, UINT64_MAX));
            /* Everything is as new: the same entry can wait again. */
            push(victim, 1);
            CU_ASSERT_EQUAL(pop(), (long)victim);
            chv_keyqueue_free(&queue);
        }
    }
}

static void test_deadlines(void)
{
    start(MANY);
    push(0, 1);
    push(1, 2);
    push(2, 1);
    CU_ASSERT_PTR_NULL(chv_keyqueue_expire(&queue, 99));
    CU_ASSERT_PTR_EQUAL(chv_keyqueue_expire(&queue, 100), &entries[0]);
    CU_ASSERT_PTR_NULL(chv_keyqueue_expire(&queue, 100));
    CU_ASSERT_EQUAL(pop(), 2);
    CU_ASSERT_PTR_NULL(chv_keyqueue_expire(&queue, 100));
    CU_ASSERT_PTR_EQUAL(chv_keyqueue_expire(&queue, 500), &entries[1]);
    CU_ASSERT_EQUAL(queue.count, 0);
    CU_ASSERT_EQUAL(pop(), -1);
    chv_keyqueue_free(&queue);
}

static void test_proven_sources_first(void)
{
    start(MANY);
    chv_keyqueue_trust(&queue, 9, 0);
    for (size_t i = 0; i < 20; i++)
        push(i, 1 + i % 2);
    for (size_t i = 20; i < 40; i++)
        push(i, 9);
    size_t others = 0;
    for (size_t i = 0; i < 16; i++)
        others += pop() < 20;
    CU_ASSERT_EQUAL(others, 16 / CHV_KEYQUEUE_SHARE);
    chv_keyqueue_free(&queue);

    start(MANY); /* and only for a while */
    chv_keyqueue_trust(&queue, 9, 0);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[0], 1, CHV_KEYQUEUE_TRUST_MS, 0), CHV_OK);
    CU_ASSERT_EQUAL(chv_keyqueue_push(&queue, &entries[1], 9, CHV_KEYQUEUE_TRUST_MS, 0), CHV_OK);
    CU_ASSERT_EQUAL(pop(), 0);
    CU_ASSERT_EQUAL(pop(), 1);
    chv_keyqueue_free(&queue);
}

/* Random pushes, pops, cancels and expiries against the counts that they must give. */
static void test_soak(void)
{
    uint32_t x = 1;
    size_t waiting = 0;
    start(24);
    for (unsigned step = 0; step < 20000; step++) {
        x = x * 1664525u + 1013904223u;
        struct chv_keyqueue_entry *entry = &entries[x >> 8 & (MANY - 1)];
        bool waits = chv_keyqueue_waits(entry);
        switch (x >> 28 & 3) {
        case 0:
        case 1:
            waiting += chv_keyqueue_push(&queue, entry, 1 + (x >> 16 & 7), step, step + 50) == CHV_OK;
            break;
        case 2:
            chv_keyqueue_cancel(&queue, entry);
            waiting -= waits;
            break;
        default:
            if ((x >> 27 & 1) != 0)
                waiting -= chv_keyqueue_pop(&queue) != NULL;
            else
                waiting -= chv_keyqueue_expire(&queue, step) != NULL;
            break;
        }
        if (queue.count != waiting || waiting > 24)
            break;
    }
    CU_ASSERT_EQUAL(queue.count, waiting);
    while (pop() >= 0)
        waiting--;
    CU_ASSERT_EQUAL(waiting, 0);
    chv_keyqueue_free(&queue);
}

TEST_MAIN("keyqueue", {"order of one source", test_order_of_one_source},
          {"sources take turns", test_sources_take_turns}, {"bound", test_bound},
          {"a flood leaves room", test_flood_leaves_room}, {"cancel at every point", test_cancel_at_every_point},
          {"deadlines", test_deadlines}, {"proven sources first", test_proven_sources_first}, {"soak", test_soak})
