/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tests/support/needle.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"

static size_t count_in(const uint8_t *buf, size_t len, const struct needle *n)
{
    size_t found = 0;
    for (size_t i = 0; i + n->len <= len; i++) {
        size_t k = 0;
        while (k < n->len && (buf[i + k] ^ NEEDLE_MASK) == n->masked[k])
            k++;
        found += k == n->len;
    }
    return found;
}

size_t needle_occurrences(struct needle n)
{
    static uint8_t page[1 << 16];
    char line[512];
    size_t found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    CU_ASSERT_FATAL(maps != NULL && mem >= 0);
    while (fgets(line, sizeof line, maps) != NULL) {
        char *rest = NULL;
        uint64_t start = strtoull(line, &rest, 16), end = strtoull(rest + 1, &rest, 16);
        if (strncmp(rest, " rw", 3) != 0 || end - start > UINT64_C(1) << 30)
            continue; /* as large as that is only a sanitizer's own map of memory */
        /* windows overlap by the needle; a mapping that cannot be read (a sanitizer's gap) is passed over */
        for (uint64_t at = start; at < end; at += sizeof page - n.len) {
            uint64_t left = end - at;
            ssize_t got = pread(mem, page, left < sizeof page ? (size_t)left : sizeof page, (off_t)at);
            if (got <= 0)
                break;
            /* our own window would be found in itself: it is wiped before anything else is looked at */
            if (!((uintptr_t)page >= at && (uintptr_t)page < at + (uint64_t)got) &&
                !(at >= (uintptr_t)page && at < (uintptr_t)page + sizeof page))
                found += count_in(page, (size_t)got, &n);
            memset(page, 0, sizeof page);
        }
    }
    (void)fclose(maps);
    close(mem);
    return found;
}
