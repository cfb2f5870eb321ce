/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/bytes.h"

#include <string.h>

static const uint8_t input[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0xf0};

static void test_read(void)
{
    struct chv_reader r;
    chv_reader_init(&r, input, sizeof input);
    CU_ASSERT_EQUAL(chv_read_u8(&r), 0x01);
    CU_ASSERT_EQUAL(chv_read_u16(&r), 0x0203);
    CU_ASSERT_EQUAL(chv_read_u32(&r), 0x04050607);
    CU_ASSERT_EQUAL(chv_read_u64(&r), UINT64_C(0x08090a0b0c0d0e0f));
    CU_ASSERT_FALSE(chv_reader_done(&r));
    CU_ASSERT_PTR_EQUAL(chv_read_bytes(&r, 1), input + 15);
    CU_ASSERT_TRUE(chv_reader_done(&r));
    CU_ASSERT_PTR_NOT_NULL(chv_read_bytes(&r, 0));
    CU_ASSERT_TRUE(chv_reader_done(&r));
}

/* Each kind one byte short: 0, failed, nothing taken; and a shorter read that would fit fails too. */
static void test_read_past(void)
{
    for (size_t size = 1; size <= 8; size *= 2) {
        struct chv_reader r;
        chv_reader_init(&r, input, size - 1);
        if (size == 1)
            CU_ASSERT_EQUAL(chv_read_u8(&r), 0);
        if (size == 2)
            CU_ASSERT_EQUAL(chv_read_u16(&r), 0);
        if (size == 4)
            CU_ASSERT_EQUAL(chv_read_u32(&r), 0);
        if (size == 8)
            CU_ASSERT_EQUAL(chv_read_u64(&r), 0);
        CU_ASSERT_TRUE(r.failed);
        CU_ASSERT_EQUAL(r.left, size - 1);
        CU_ASSERT_PTR_NULL(chv_read_bytes(&r, 0));
        CU_ASSERT_EQUAL(chv_read_u8(&r), 0);
        CU_ASSERT_EQUAL(r.left, size - 1);
        CU_ASSERT_FALSE(chv_reader_done(&r));
    }
    struct chv_reader r;
    chv_reader_init(&r, input, sizeof input);
    CU_ASSERT_PTR_NULL(chv_read_bytes(&r, SIZE_MAX));
    CU_ASSERT_TRUE(r.failed);
    chv_reader_init(&r, NULL, 0);
    CU_ASSERT_TRUE(chv_reader_done(&r));
    (void)chv_read_bytes(&r, 0);
    CU_ASSERT_TRUE(chv_reader_done(&r));
}

static void test_write(void)
{
    uint8_t out[17];
    struct chv_writer w;
    memset(out, 0xa5, sizeof out);
    chv_writer_init(&w, out, 16);
    chv_write_u8(&w, 0x01);
    chv_write_u16(&w, 0x0203);
    chv_write_u32(&w, 0x04050607);
    chv_write_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
    chv_write_bytes(&w, NULL, 0);
    uint8_t *room = chv_write_room(&w, 1);
    CU_ASSERT_PTR_EQUAL_FATAL(room, out + 15);
    *room = 0xf0;
    CU_ASSERT_FALSE(w.failed);
    CU_ASSERT_EQUAL(w.len, 16);
    CU_ASSERT_EQUAL(memcmp(out, input, 16), 0);
    CU_ASSERT_EQUAL(out[16], 0xa5);
}

static void test_write_past(void)
{
    for (size_t size = 1; size <= 8; size *= 2) {
        uint8_t out[8];
        struct chv_writer w;
        memset(out, 0xa5, sizeof out);
        chv_writer_init(&w, out, size - 1);
        if (size == 1)
            chv_write_u8(&w, 0);
        if (size == 2)
            chv_write_u16(&w, 0);
        if (size == 4)
            chv_write_u32(&w, 0);
        if (size == 8)
            chv_write_u64(&w, 0);
        CU_ASSERT_TRUE(w.failed);
        CU_ASSERT_EQUAL(w.len, 0);
        chv_write_bytes(&w, input, 0);
        chv_write_bytes(&w, input, 1);
        CU_ASSERT_PTR_NULL(chv_write_room(&w, 0));
        CU_ASSERT_EQUAL(w.len, 0);
        for (size_t i = 0; i < sizeof out; i++)
            CU_ASSERT_EQUAL(out[i], 0xa5);
    }
    uint8_t out[4];
    struct chv_writer w;
    chv_writer_init(&w, out, sizeof out);
    chv_write_u8(&w, 1);
    CU_ASSERT_PTR_NULL(chv_write_room(&w, SIZE_MAX));
    CU_ASSERT_TRUE(w.failed);
    chv_writer_init(&w, NULL, 0);
    chv_write_bytes(&w, NULL, 0);
    CU_ASSERT_FALSE(w.failed);
    chv_write_u8(&w, 1);
    CU_ASSERT_TRUE(w.failed);
}

TEST_MAIN("bytes", {"read", test_read}, {"read past the end", test_read_past}, {"write", test_write},
          {"write past the end", test_write_past})
