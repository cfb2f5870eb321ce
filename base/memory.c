/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What malloc promises: any object may stand at such an address. */
#define ALIGNMENT _Alignof(max_align_t)

void chv_wipe(void *ptr, size_t len)
{
    if (len > 0)
        explicit_bzero(ptr, len);
}

int chv_equal(const void *a, const void *b, size_t len)
{
    /* volatile: else the compiler may leave the loop at the first difference. */
    const volatile uint8_t *p = a;
    const volatile uint8_t *q = b;
    unsigned differ = 0;
    for (size_t i = 0; i < len; i++)
        differ |= (unsigned)(p[i] ^ q[i]);
    return (int)((differ - 1u) >> 31);
}

int chv_is_zero(const void *ptr, size_t len)
{
    const volatile uint8_t *p = ptr;
    unsigned any = 0;
    for (size_t i = 0; i < len; i++)
        any |= p[i];
    return (int)((any - 1u) >> 31);
}

/*
 * One mapping: guard page, data pages, guard page.  The object stands as near to the upper guard page as its alignment
 * lets it, since overruns are commoner than underruns.
 */
struct layout {
    size_t page;
    size_t data;   /* bytes of the data pages */
    size_t offset; /* of the object within them */
};

static int lay_out(size_t len, struct layout *l)
{
    long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || len > SIZE_MAX / 2)
        return -1;
    l->page = (size_t)page;
    size_t size = len > 0 ? len : 1;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    l->data = (size + l->page - 1) / l->page * l->page;
    l->offset = l->data - size;
    return 0;
}

void *chv_secure_alloc(size_t len)
{
    struct layout l;
    if (lay_out(len, &l) != 0)
        return NULL;
    size_t total = l.data + 2 * l.page;
    uint8_t *map = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    uint8_t *data = map + l.page;
    if (mprotect(data, l.data, PROT_READ | PROT_WRITE) != 0 || madvise(data, l.data, MADV_DONTDUMP) != 0) {
        munmap(map, total);
        return NULL;
    }
    /* RLIMIT_MEMLOCK may be small: a secret that could be swapped out is still better than none. */
    (void)mlock(data, l.data);
    return data + l.offset;
}

void chv_secure_free(void *ptr, size_t len)
{
    struct layout l;
    if (ptr == NULL || lay_out(len, &l) != 0)
        return;
    chv_wipe(ptr, len);
    uint8_t *data = (uint8_t *)ptr - l.offset;
    /* munmap also unlocks. */
    munmap(data - l.page, l.data + 2 * l.page);
}
