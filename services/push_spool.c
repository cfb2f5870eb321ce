/* SPDX-License-Identifier: Apache-2.0 */
/* How entries are made: copied once, out of sight, then a hard link for each client. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "services/files_home.h"
#include "services/push_outbox_internal.h"

#define SPOOL ".spool"

enum { COPY_STEP = 256 << 10, TIME_BYTES = 8 };

static bool sweep_one(void *arg, const uint8_t id[CHV_PUSH_ID_LEN])
{
    const struct chv_push_spool *spool = arg;
    char name[CHV_PUSH_ID_TEXT];
    chv_push_id_text(id, name);
    (void)unlinkat(spool->fd, name, 0);
    return true;
}

/* Who is at work has a share of the folder's lock: who gets all of it may clean up. */
int chv_push_spool_open(const struct chv_push_outbox *outbox, struct chv_push_spool *spool)
{
    struct chv_push_spool s = {.outbox = outbox};
    int failed = chv_push_make_folder(outbox, SPOOL, &s.fd);
    if (failed != 0)
        return failed;
    if (flock(s.fd, LOCK_EX | LOCK_NB) == 0)
        (void)chv_push_folder_each(s.fd, sweep_one, &s);
    while (flock(s.fd, LOCK_SH) != 0)
        if (errno != EINTR) {
            failed = errno;
            (void)close(s.fd);
            return failed;
        }
    *spool = s;
    return 0;
}

void chv_push_spool_close(struct chv_push_spool *spool)
{
    if (spool->fd >= 0)
        (void)close(spool->fd);
    spool->fd = -1;
}

int chv_push_id_new(uint8_t id[CHV_PUSH_ID_LEN])
{
    static uint64_t last;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 ||
        getrandom(id + TIME_BYTES, CHV_PUSH_ID_LEN - TIME_BYTES, 0) != CHV_PUSH_ID_LEN - TIME_BYTES)
        return errno;
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (ns <= last)
        ns = last + 1;
    last = ns;
    for (unsigned i = 0; i < TIME_BYTES; i++)
        id[i] = (uint8_t)(ns >> (56 - 8 * i));
    return 0;
}

static int copy_content(int source, int file, const struct stat *st, struct chv_files_digest *digest,
                        void (*progress)(void *arg, uint64_t done), void *arg)
{
    const uint64_t size = (uint64_t)st->st_size;
    uint8_t *buf = malloc(COPY_STEP);
    int failed = buf == NULL ? ENOMEM : 0;
    for (uint64_t at = 0; failed == 0;) {
        ssize_t n = pread(source, buf, COPY_STEP, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            failed = errno;
        else if ((n == 0) != (at == size) || (uint64_t)n > size - at)
            failed = ESTALE;
        if (failed != 0 || n == 0)
            break;
        failed = chv_files_digest_add(digest, buf, (size_t)n) == CHV_OK
                     ? chv_files_write_all(file, buf, (size_t)n, CHV_PUSH_HEAD + at)
                     : EIO;
        at += (uint64_t)n;
        if (progress != NULL)
            progress(arg, at);
    }
    free(buf);
    return failed;
}

static bool changed(int source, const struct stat *before)
{
    struct stat now;
    return fstat(source, &now) != 0 || now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

static int write_head(int file, const struct chv_push_entry *entry)
{
    uint8_t head[CHV_PUSH_HEAD] = {0};
    size_t len = CHV_PUSH_MAP_MAX;
    memcpy(head, chv_push_magic, CHV_PUSH_MAGIC_LEN);
    if (chv_push_entry_encode(entry, head + CHV_PUSH_MAP_AT, &len) != CHV_OK)
        return EINVAL;
    head[CHV_PUSH_MAGIC_LEN] = (uint8_t)(len >> 8);
    head[CHV_PUSH_MAGIC_LEN + 1] = (uint8_t)len;
    return chv_files_write_all(file, head, sizeof head, 0);
}

static int fill(const struct chv_push_spool *spool, int source, int file, struct chv_push_entry *entry,
                void (*progress)(void *arg, uint64_t done), void *arg)
{
    struct chv_files_digest *digest = NULL;
    struct stat st;
    if (fstat(source, &st) != 0)
        return errno;
    entry->size = (uint64_t)st.st_size;
    entry->mode = st.st_mode & CHV_PUSH_MODE;
    entry->mtime = st.st_mtim.tv_sec < 0 ? 0 : (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
    int failed = chv_push_adopt(spool->outbox, file, false);
    if (failed == 0 && chv_files_digest_new(&digest) != CHV_OK)
        failed = ENOMEM;
    if (failed == 0)
        failed = copy_content(source, file, &st, digest, progress, arg);
    if (failed == 0 && changed(source, &st))
        failed = ESTALE;
    if (failed == 0 && chv_files_digest_finish(digest, entry->sha256) != CHV_OK)
        failed = EIO;
    if (failed == 0)
        failed = write_head(file, entry);
    if (failed == 0 && fsync(file) != 0)
        failed = errno;
    chv_files_digest_free(digest);
    return failed;
}

int chv_push_spool_copy(const struct chv_push_spool *spool, int source, struct chv_push_entry *entry,
                        void (*progress)(void *arg, uint64_t done), void *arg)
{
    char name[CHV_PUSH_ID_TEXT];
    chv_push_id_text(entry->id, name);
    int file = chv_files_openat(spool->fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (file < 0)
        return errno;
    int failed = fill(spool, source, file, entry, progress, arg);
    (void)close(file);
    if (failed != 0)
        (void)unlinkat(spool->fd, name, 0);
    return failed;
}

int chv_push_spool_link(const struct chv_push_spool *spool, const struct chv_push_entry *entry, int folder)
{
    char name[CHV_PUSH_ID_TEXT];
    chv_push_id_text(entry->id, name);
    if (linkat(spool->fd, name, folder, name, 0) != 0)
        return errno;
    return fsync(folder) == 0 ? 0 : errno;
}

void chv_push_spool_drop(const struct chv_push_spool *spool, const struct chv_push_entry *entry)
{
    char name[CHV_PUSH_ID_TEXT];
    chv_push_id_text(entry->id, name);
    (void)unlinkat(spool->fd, name, 0);
}
