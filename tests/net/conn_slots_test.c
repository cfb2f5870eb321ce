/* SPDX-License-Identifier: Apache-2.0 */
/* Many records at once: slots that are sealed where they are, and one callback for what a read has brought. */
#include "tests/net/conn_support.h"

#include <string.h>

#include "net/conn_internal.h"

enum { FRAME_EXTRA = CHV_RECORD_HEAD + CHV_RECORD_TAIL, ALL = CHV_LOOP_SLOTS * CHV_RECORD_BULK_BODY };

/* Fills what is asked of the slots as readv would. */
static void fill_slots(const struct iovec *slots, size_t count, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < count && len > 0; i++) {
        const size_t n = len < slots[i].iov_len ? len : slots[i].iov_len;
        memcpy(slots[i].iov_base, data, n);
        data += n;
        len -= n;
    }
    CU_ASSERT_EQUAL(len, 0);
}

static void one_total(size_t total, size_t max, size_t before)
{
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    struct iovec slots[CHV_LOOP_SLOTS + 1];
    uint8_t *data = malloc(ALL);
    uint64_t sum = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    test_fill(data, ALL, total);
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    chv_conn_cork(client.conn);
    if (before > 0) {
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, data, before), CHV_OK);
        sum = test_sum(sum, data, before);
    }
    const size_t waiting = t.loop.out_len, count = chv_conn_slots(client.conn, slots, max);
    CU_ASSERT_EQUAL(count, max < CHV_LOOP_SLOTS - (before > 0) ? max : CHV_LOOP_SLOTS - (size_t)(before > 0));
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_PTR_EQUAL(slots[i].iov_base,
                            t.loop.out + waiting + i * (CHV_RECORD_BULK_BODY + FRAME_EXTRA) + CHV_RECORD_HEAD);
        CU_ASSERT_EQUAL(slots[i].iov_len, CHV_RECORD_BULK_BODY);
    }
    fill_slots(slots, count, data, total);
    CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, CHV_RECORD_DATA, total), CHV_OK);
    const size_t records = (total + CHV_RECORD_BULK_BODY - 1) / CHV_RECORD_BULK_BODY;
    CU_ASSERT_EQUAL(t.loop.out_len, waiting + total + records * FRAME_EXTRA);
    CU_ASSERT_EQUAL(t.loop.out_conn == NULL, t.loop.out_len == 0);
    sum = test_sum(sum, data, total);
    chv_conn_uncork(client.conn);
    chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.bytes, before + total);
    CU_ASSERT_EQUAL(server.sum, sum);
    CU_ASSERT_EQUAL(server.count[CHV_RECORD_DATA], records + (before > 0));
    test_loop_close(&t);
    free(data);
}

static void test_slots(void)
{
    static const size_t totals[] = {0, 1, CHV_RECORD_BULK_BODY, CHV_RECORD_BULK_BODY + 1, ALL - 1, ALL};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        one_total(totals[i], CHV_LOOP_SLOTS, 0);
    one_total(ALL, CHV_LOOP_SLOTS + 1, 0);
    one_total(2 * CHV_RECORD_BULK_BODY, 2, 0);
    one_total(5, 1, 7);
    one_total(ALL - CHV_RECORD_BULK_BODY, CHV_LOOP_SLOTS, CHV_RECORD_BULK_BODY);
}

static bool holds(const uint8_t *buf, const char *text)
{
    return memmem(buf, CHV_LOOP_BUFFER, text, strlen(text)) != NULL;
}

static void test_slots_wrong(void)
{
    static const char text[] = "nobody may find this text in a buffer";
    struct test_loop t;
    struct side client = {.arg = NULL}, server = {.arg = NULL};
    struct iovec slots[CHV_LOOP_SLOTS];
    test_loop_open(&t, NULL, 0);
    test_pair(&t, &client, &server);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, CHV_RECORD_DATA, 1), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_slots(client.conn, slots, CHV_LOOP_SLOTS), CHV_LOOP_SLOTS);
    CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, CHV_RECORD_DATA, CHV_LOOP_BUFFER), CHV_ERR_STATE);
    CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, CHV_RECORD_DATA, SIZE_MAX), CHV_ERR_STATE);
    for (int i = 0; i < 2; i++) { /* a type that cannot be, then a connection that ends: no body stays behind */
        CU_ASSERT_EQUAL(chv_conn_slots(client.conn, slots, CHV_LOOP_SLOTS), CHV_LOOP_SLOTS);
        memcpy(slots[0].iov_base, text, sizeof text);
        memcpy(slots[CHV_LOOP_SLOTS - 1].iov_base, text, sizeof text);
        if (i == 0) {
            CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, 11, ALL), CHV_ERR_ARGUMENT);
        } else {
            chv_conn_abort(client.conn, CHV_ERR_CANCELLED);
        }
        CU_ASSERT_FALSE(holds(t.loop.out, text));
        CU_ASSERT_PTR_NULL(t.loop.out_conn);
    }
    CU_ASSERT_EQUAL(chv_conn_slots(client.conn, slots, 1), 1);
    memcpy(slots[0].iov_base, text, sizeof text);
    CU_ASSERT_EQUAL(chv_conn_send_slots(client.conn, CHV_RECORD_DATA, sizeof text), CHV_ERR_STATE);
    CU_ASSERT_FALSE(holds(t.loop.out, text));
    test_loop_close(&t);
}

/* Bodies as they were handed out, looked at again when all of a read are there. */
struct gathered {
    struct test_loop *t;
    const uint8_t *body[64];
    uint8_t first[64];
    size_t count, most;
    unsigned batches;
    enum chv_err fail;
    bool pause;
};

static enum chv_err gather(struct side *side, uint8_t type, const uint8_t *body, size_t len)
{
    struct gathered *g = side->arg;
    if (type != CHV_RECORD_DATA)
        return CHV_OK;
    CU_ASSERT_FATAL(len > 0 && g->count < 64);
    g->body[g->count] = body;
    g->first[g->count++] = body[0];
    if (g->pause)
        chv_conn_pause(side->conn);
    return g->fail != CHV_OK && g->count == 2 ? g->fail : CHV_OK;
}

static void on_batch(struct chv_conn *conn)
{
    struct side *side = chv_conn_owner(conn);
    struct gathered *g = side->arg;
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->count; i++)
        CU_ASSERT_EQUAL(g->body[i][0], g->first[i]);
    g->most = g->count > g->most ? g->count : g->most;
    g->batches++;
    g->count = 0;
    if (g->pause)
        chv_conn_unpause(conn);
}

static void run_batches(struct gathered *g, unsigned records)
{
    struct test_loop t;
    struct chv_conn_events with_batch = test_events;
    struct side client = {.arg = NULL}, server = {.record = gather, .arg = g};
    struct chv_session_config config;
    struct chv_why why;
    int fd[2];
    with_batch.batch = on_batch;
    test_loop_open(&t, NULL, 0);
    test_tcp_pair(fd);
    test_config(&config, CHV_SERVER);
    CU_ASSERT_EQUAL_FATAL(chv_conn_start(&t.loop, fd[1], "client", &config, &with_batch, &server, &server.conn, &why),
                          CHV_OK);
    test_start(&t, &client, CHV_CLIENT, fd[0]);
    CU_ASSERT_TRUE(test_run_ready(&t, &client));
    g->batches = 0; /* of OPEN */
    chv_conn_cork(client.conn);
    for (unsigned i = 0; i < records; i++)
        CU_ASSERT_EQUAL(chv_conn_send(client.conn, CHV_RECORD_DATA, &(uint8_t){(uint8_t)i}, 1), CHV_OK);
    chv_conn_uncork(client.conn);
    if (g->fail == CHV_OK)
        chv_conn_shutdown(client.conn);
    CU_ASSERT_TRUE(test_run_closed(&t, &server));
    CU_ASSERT_EQUAL(server.err, g->fail);
    if (g->fail == CHV_OK)
        CU_ASSERT_EQUAL(server.count[CHV_RECORD_DATA], records);
    test_loop_close(&t);
}

static void test_batch(void)
{
    struct gathered g = {.count = 0};
    run_batches(&g, 40);
    CU_ASSERT_EQUAL(g.most, 40);
    CU_ASSERT_TRUE(g.batches >= 1 && g.batches <= 2); /* CLOSE may have come by itself */
    CU_ASSERT_EQUAL(g.count, 0);
}

static void test_batch_after_an_error(void)
{
    struct gathered g = {.fail = CHV_ERR_PROTOCOL};
    run_batches(&g, 40);
    CU_ASSERT_EQUAL(g.most, 2);
    CU_ASSERT_EQUAL(g.batches, 1);
}

/* Each record pauses, each batch goes on: nothing stays behind. */
static void test_batch_unpauses(void)
{
    struct gathered g = {.pause = true};
    run_batches(&g, 40);
    CU_ASSERT_EQUAL(g.most, 1);
    CU_ASSERT_TRUE(g.batches >= 40);
}

TEST_MAIN("many records at once", {"slots", test_slots}, {"wrong calls of slots", test_slots_wrong},
          {"batch", test_batch}, {"batch after an error", test_batch_after_an_error},
          {"batch lets records go on", test_batch_unpauses})
