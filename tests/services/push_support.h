/* SPDX-License-Identifier: Apache-2.0 */
/* An outbox in a throw-away folder. */
#ifndef CHV_TESTS_SERVICES_PUSH_SUPPORT_H
#define CHV_TESTS_SERVICES_PUSH_SUPPORT_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/push_outbox.h"
#include "tests/harness.h"

struct box {
    char path[256];
    struct chv_push_outbox outbox;
    struct chv_push_spool spool;
    int folder; /* of cam1 */
};

static inline int box_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void box_open(struct box *box)
{
    const char *tmp = getenv("TMPDIR");
    memset(box, 0, sizeof *box);
    (void)snprintf(box->path, sizeof box->path, "%s/chv-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(box->path));
    CU_ASSERT_EQUAL_FATAL(chv_push_outbox_open(box->path, &box->outbox), 0);
    CU_ASSERT_EQUAL_FATAL(chv_push_spool_open(&box->outbox, &box->spool), 0);
    CU_ASSERT_EQUAL_FATAL(chv_push_folder_open(&box->outbox, "cam1", true, &box->folder), 0);
}

static inline void box_close(struct box *box)
{
    (void)close(box->folder);
    chv_push_spool_close(&box->spool);
    chv_push_outbox_close(&box->outbox);
    CU_ASSERT_EQUAL(nftw(box->path, box_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* An unnamed file with that in it. */
static inline int box_source(const void *data, size_t len)
{
    FILE *f = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL_FATAL(fwrite(data, 1, len, f), len);
    CU_ASSERT_EQUAL_FATAL(fflush(f), 0);
    int fd = dup(fileno(f));
    (void)fclose(f);
    CU_ASSERT_FATAL(fd >= 0);
    return fd;
}

/* An entry for cam1. */
static inline struct chv_push_entry box_push(struct box *box, const char *name, const void *data, size_t len)
{
    struct chv_push_entry entry = {.size = 0};
    int source = box_source(data, len);
    (void)snprintf(entry.name, sizeof entry.name, "%s", name);
    CU_ASSERT_EQUAL_FATAL(chv_push_id_new(entry.id), 0);
    CU_ASSERT_EQUAL_FATAL(chv_push_spool_copy(&box->spool, source, &entry, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(chv_push_spool_link(&box->spool, &entry, box->folder), 0);
    chv_push_spool_drop(&box->spool, &entry);
    (void)close(source);
    return entry;
}

#endif
