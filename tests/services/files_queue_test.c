/* SPDX-License-Identifier: Apache-2.0 */
/* Records that wait: their order, their bytes, and blocks that are filled again. */
#include "services/files_queue.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"
#include "tests/harness.h"

static uint8_t record[CHV_RECORD_BULK_BODY];

/* The n-th record has a length and content of its own. */
static size_t make_record(unsigned n)
{
    static const size_t lengths[] = {0, 1, 100, 4096, CHV_RECORD_BULK_BODY, 60000, 7};
    const size_t len = lengths[n % (sizeof lengths / sizeof lengths[0])];
    memset(record, (int)(n % 251), len);
    return len;
}

static void add(struct chv_files_queue *q, unsigned n)
{
    const size_t len = make_record(n);
    CU_ASSERT_EQUAL_FATAL(chv_files_queue_add(q, (uint8_t)n, record, len), CHV_OK);
}

static void take(struct chv_files_queue *q, unsigned n)
{
    uint8_t type = 0;
    const uint8_t *body = NULL;
    size_t len = 0;
    const size_t wanted = make_record(n);
    CU_ASSERT_FATAL(chv_files_queue_take(q, &type, &body, &len));
    CU_ASSERT_EQUAL(type, (uint8_t)n);
    CU_ASSERT_EQUAL_FATAL(len, wanted);
    CU_ASSERT(memcmp(body, record, len) == 0);
}

static void test_order(void)
{
    struct chv_files_queue q = {.first = NULL};
    uint8_t type;
    const uint8_t *body;
    size_t len;
    CU_ASSERT_FALSE(chv_files_queue_take(&q, &type, &body, &len));
    for (unsigned n = 0; n < 200; n++)
        add(&q, n);
    CU_ASSERT(q.bytes > 0);
    for (unsigned n = 0; n < 200; n++)
        take(&q, n);
    CU_ASSERT_EQUAL(q.bytes, 0);
    CU_ASSERT_FALSE(chv_files_queue_take(&q, &type, &body, &len));
    chv_files_queue_free(&q);
}

static void test_mixed(void)
{
    struct chv_files_queue q = {.first = NULL};
    unsigned in = 0, out = 0;
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i <= round % 11; i++)
            add(&q, in++);
        for (unsigned i = 0; i <= round % 7 && out < in; i++)
            take(&q, out++);
    }
    while (out < in)
        take(&q, out++);
    chv_files_queue_free(&q);
}

/* The same memory serves batch after batch. */
static void test_turn(void)
{
    struct chv_files_queue waiting = {.first = NULL}, batch = {.first = NULL};
    const struct chv_files_block *seen[16];
    size_t blocks = 0;
    unsigned in = 0, out = 0;
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 10; i++)
            add(&waiting, in++);
        chv_files_queue_turn(&batch, &waiting);
        CU_ASSERT_EQUAL(waiting.bytes, 0);
        CU_ASSERT_PTR_NULL(waiting.first);
        while (out < in) {
            const struct chv_files_block *b = batch.first;
            size_t i = 0;
            while (i < blocks && seen[i] != b)
                i++;
            if (i == blocks && blocks < 16)
                seen[blocks++] = b;
            take(&batch, out++);
        }
    }
    CU_ASSERT(blocks < 16);
    CU_ASSERT_PTR_NOT_NULL(batch.spare);
    chv_files_queue_trim(&batch);
    CU_ASSERT_PTR_NULL(batch.spare);
    chv_files_queue_free(&batch);
    chv_files_queue_free(&waiting);
}

/* What waits is freed with the queue, which is empty then. */
static void test_free(void)
{
    struct chv_files_queue q = {.first = NULL};
    for (unsigned n = 0; n < 20; n++)
        add(&q, n);
    take(&q, 0);
    chv_files_queue_free(&q);
    CU_ASSERT_PTR_NULL(q.first);
    CU_ASSERT_PTR_NULL(q.spare);
    CU_ASSERT_EQUAL(q.bytes, 0);
    add(&q, 3);
    take(&q, 3);
    chv_files_queue_free(&q);
}

TEST_MAIN("files_queue", {"order", test_order}, {"mixed", test_mixed}, {"turn", test_turn}, {"free", test_free})
