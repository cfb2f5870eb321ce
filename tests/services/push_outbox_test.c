/* SPDX-License-Identifier: Apache-2.0 */
/* The outbox on the disk: entries, marks, the log. */
#include <errno.h>
#include <sys/file.h>

#include "tests/services/push_support.h"

static bool count_one(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    (void)id;
    ++*(size_t *)arg;
    return true;
}

static size_t count(int folder)
{
    size_t n = 0;
    CU_ASSERT_EQUAL(chv_push_folder_each(folder, count_one, &n), 0);
    return n;
}

static void test_entries(void)
{
    struct box box;
    struct chv_push_entry read;
    uint8_t before[CHV_PUSH_ID_LEN] = {0};
    box_open(&box);
    for (unsigned i = 0; i < 5; i++) {
        char data[64], back[64];
        int fd = -1;
        memset(data, (int)('a' + i), sizeof data);
        const struct chv_push_entry entry = box_push(&box, "name", data, 10 * i);
        CU_ASSERT(memcmp(before, entry.id, sizeof before) < 0);
        memcpy(before, entry.id, sizeof before);
        CU_ASSERT_EQUAL_FATAL(chv_push_entry_open(box.folder, entry.id, &read, &fd), 0);
        CU_ASSERT_STRING_EQUAL(read.name, "name");
        CU_ASSERT_EQUAL(read.size, 10 * i);
        CU_ASSERT_EQUAL(pread(fd, back, sizeof back, CHV_PUSH_HEAD), 10 * i);
        CU_ASSERT_EQUAL(memcmp(back, data, 10 * i), 0);
        (void)close(fd);
    }
    CU_ASSERT_EQUAL(count(box.folder), 5);
    CU_ASSERT_EQUAL(count(box.spool.fd), 0);
    CU_ASSERT_EQUAL(chv_push_entry_remove(box.folder, before), 0);
    CU_ASSERT_EQUAL(chv_push_entry_remove(box.folder, before), ENOENT);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, before, &read, NULL), ENOENT);
    CU_ASSERT_EQUAL(count(box.folder), 4);
    box_close(&box);
}

static void rewrite(const struct box *box, const struct chv_push_entry *entry, off_t at, uint8_t xor, off_t size)
{
    char name[CHV_PUSH_ID_TEXT];
    uint8_t byte = 0;
    chv_push_id_text(entry->id, name);
    int fd = openat(box->folder, name, O_RDWR);
    CU_ASSERT_FATAL(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= xor;
    CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
    CU_ASSERT_EQUAL(ftruncate(fd, size), 0);
    (void)close(fd);
}

static void test_what_is_no_entry(void)
{
    struct box box;
    struct chv_push_entry read;
    box_open(&box);
    const struct chv_push_entry entry = box_push(&box, "name", "12345", 5);
    const off_t size = CHV_PUSH_HEAD + 5;
    for (off_t at = 0; at < 16; at++) { /* magic, length, the map's head and first key */
        rewrite(&box, &entry, at, 0x40, size);
        CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, &read, NULL), EBADMSG);
        rewrite(&box, &entry, at, 0x40, size);
    }
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, &read, NULL), 0);
    rewrite(&box, &entry, 0, 0, size + 1);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, &read, NULL), EBADMSG);
    rewrite(&box, &entry, 0, 0, size - 1);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, &read, NULL), EBADMSG);
    rewrite(&box, &entry, 0, 0, 100);
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, entry.id, &read, NULL), EBADMSG);
    CU_ASSERT_EQUAL(symlinkat("/etc/passwd", box.folder, "0017002e0045005c0073008a00a100b8"), 0);
    uint8_t id[CHV_PUSH_ID_LEN];
    CU_ASSERT(chv_push_id_parse("0017002e0045005c0073008a00a100b8", id));
    CU_ASSERT_EQUAL(chv_push_entry_open(box.folder, id, &read, NULL), ELOOP);
    box_close(&box);
}

static void test_links_out_of_the_outbox(void)
{
    struct box box;
    int fd = -1;
    box_open(&box);
    CU_ASSERT_EQUAL(symlinkat("/tmp", box.outbox.fd, "cam2"), 0);
    CU_ASSERT_EQUAL(chv_push_folder_open(&box.outbox, "cam2", true, &fd), ELOOP);
    CU_ASSERT_EQUAL(chv_push_folder_open(&box.outbox, "cam3", false, &fd), ENOENT);
    CU_ASSERT_EQUAL(fd, -1);
    box_close(&box);
}

static int touched_source;

static void touch(void *arg, uint64_t done)
{
    (void)arg;
    (void)done;
    CU_ASSERT_EQUAL(pwrite(touched_source, "x", 1, 7), 1);
}

static void test_a_source_that_grows(void)
{
    struct box box;
    struct chv_push_entry entry = {.name = "name"};
    box_open(&box);
    touched_source = box_source("12345", 5);
    CU_ASSERT_EQUAL(chv_push_id_new(entry.id), 0);
    CU_ASSERT_EQUAL(chv_push_spool_copy(&box.spool, touched_source, &entry, touch, NULL), ESTALE);
    CU_ASSERT_EQUAL(count(box.spool.fd), 0);
    (void)close(touched_source);
    box_close(&box);
}

static void test_the_spool_is_swept(void)
{
    struct box box;
    struct chv_push_entry entry = {.name = "name"};
    struct chv_push_spool other;
    box_open(&box);
    int source = box_source("12345", 5);
    CU_ASSERT_EQUAL(chv_push_id_new(entry.id), 0);
    CU_ASSERT_EQUAL(chv_push_spool_copy(&box.spool, source, &entry, NULL, NULL), 0);
    CU_ASSERT_EQUAL(chv_push_spool_open(&box.outbox, &other), 0); /* the first one is at work */
    CU_ASSERT_EQUAL(count(other.fd), 1);
    chv_push_spool_close(&other);
    chv_push_spool_close(&box.spool);
    CU_ASSERT_EQUAL(chv_push_spool_open(&box.outbox, &box.spool), 0);
    CU_ASSERT_EQUAL(count(box.spool.fd), 0);
    (void)close(source);
    box_close(&box);
}

static void test_marks(void)
{
    struct box box;
    struct chv_push_mark mark = {.code = 409, .time = 1234567890, .text = "taken by another"}, read;
    box_open(&box);
    const struct chv_push_entry entry = box_push(&box, "name", "", 0);
    CU_ASSERT_FALSE(chv_push_mark_read(box.folder, entry.id, &read));
    CU_ASSERT_EQUAL(chv_push_mark_write(&box.outbox, box.folder, entry.id, &mark), 0);
    memset(mark.text, 't', sizeof mark.text - 1);
    CU_ASSERT_EQUAL(chv_push_mark_write(&box.outbox, box.folder, entry.id, &mark), 0);
    CU_ASSERT_FATAL(chv_push_mark_read(box.folder, entry.id, &read));
    CU_ASSERT(read.code == 409 && read.time == 1234567890);
    CU_ASSERT_STRING_EQUAL(read.text, mark.text);
    CU_ASSERT_EQUAL(count(box.folder), 1);
    CU_ASSERT_EQUAL(chv_push_entry_remove(box.folder, entry.id), 0);
    CU_ASSERT_FALSE(chv_push_mark_read(box.folder, entry.id, &read));
    box_close(&box);
}

/* More than the file holds before it is begun anew, and some of them twice. */
static void test_the_log(void)
{
    struct box box;
    struct chv_push_log log;
    struct chv_push_entry entries[CHV_PUSH_WINDOW];
    uint64_t written = 0;
    box_open(&box);
    chv_push_log_read(box.folder, &log);
    CU_ASSERT(log.count == 0 && log.time == 0);
    memset(entries, 0, sizeof entries);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < CHV_PUSH_WINDOW; i++) {
            entries[i].id[0] = (uint8_t)round;
            entries[i].id[1] = (uint8_t)i;
            memset(entries[i].name, 'n', 200);
        }
        CU_ASSERT_EQUAL(chv_push_log_add(&box.outbox, box.folder, entries, CHV_PUSH_WINDOW, 1000 + round), 0);
        CU_ASSERT_EQUAL(chv_push_log_add(&box.outbox, box.folder, entries, 0, 5), 0);
        written += CHV_PUSH_WINDOW;
        chv_push_log_read(box.folder, &log);
        CU_ASSERT_EQUAL(log.count, written);
        CU_ASSERT_EQUAL(log.time, 1000 + round);
    }
    CU_ASSERT_EQUAL(chv_push_log_add(&box.outbox, box.folder, entries + 3, 2, 9999), 0); /* a second time */
    entries[0].id[0] = 99;
    entries[1] = entries[0];
    CU_ASSERT_EQUAL(chv_push_log_add(&box.outbox, box.folder, entries, 2, 9999), 0); /* twice at once */
    written++;
    chv_push_log_read(box.folder, &log);
    CU_ASSERT_EQUAL(log.count, written);
    box_close(&box);
}

TEST_MAIN("push_outbox", {"entries", test_entries}, {"what is no entry", test_what_is_no_entry},
          {"links out of the outbox", test_links_out_of_the_outbox}, {"a source that grows", test_a_source_that_grows},
          {"the spool is swept", test_the_spool_is_swept}, {"marks", test_marks}, {"the log", test_the_log})
