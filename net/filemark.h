/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a file has changed, by what stat says of it: it is never read. */
#ifndef CHV_NET_FILEMARK_H
#define CHV_NET_FILEMARK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* All zeros: there is no such file, or nobody may look. */
struct chv_filemark {
    uint64_t device, inode, size;
    struct timespec modified, changed;
};

/* "" for none, which never changes. */
void chv_filemark_path(const char *path, struct chv_filemark *mark);
void chv_filemark_fd(int fd, struct chv_filemark *mark);
bool chv_filemark_same(const struct chv_filemark *a, const struct chv_filemark *b);

#endif
