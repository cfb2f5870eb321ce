/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/registry/fault_vfs.h"

#include <sqlite3.h>

#include <stdlib.h>
#include <string.h>

static enum fault_kind wanted;
static unsigned left;
static int hit;
static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim;

/* The real file stands behind this in the same memory. */
struct file {
    sqlite3_file base;
    sqlite3_file *real;
};

static int fails(enum fault_kind kind)
{
    if (kind != wanted && !(kind == FAULT_FULL && wanted == FAULT_IO))
        return 0;
    if (left > 1) {
        left--;
        return 0;
    }
    hit = 1;
    return 1;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)(void *)f)->real;
}

static int file_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int file_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    return fails(FAULT_READ) ? SQLITE_IOERR_READ : real_of(f)->pMethods->xRead(real_of(f), out, n, at);
}

static int file_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    if (fails(FAULT_FULL))
        return wanted == FAULT_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    return real_of(f)->pMethods->xWrite(real_of(f), data, n, at);
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int file_sync(sqlite3_file *f, int flags)
{
    return fails(FAULT_SYNC) ? SQLITE_IOERR_FSYNC : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int file_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int file_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int file_check_reserved(sqlite3_file *f, int *result)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), result);
}

static int file_control(sqlite3_file *f, int operation, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), operation, arg);
}

static int file_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int file_device(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int file_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}

static int file_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int file_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_device,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct file *file = (struct file *)(void *)f;
    (void)vfs;
    file->real = (sqlite3_file *)(void *)(file + 1);
    memset(file->real, 0, (size_t)real_vfs->szOsFile);
    int rc = real_vfs->xOpen(real_vfs, name, file->real, flags, out);
    file->base.pMethods = file->real->pMethods == NULL ? NULL : &methods;
    return rc;
}

void fault_vfs_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "fault";
    shim.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    shim.pNext = NULL;
    shim.xOpen = vfs_open;
    if (sqlite3_vfs_register(&shim, 1) != SQLITE_OK)
        abort();
}

void fault_vfs_set(enum fault_kind kind, unsigned nth)
{
    wanted = kind;
    left = nth;
    hit = 0;
}

int fault_vfs_hit(void)
{
    return hit;
}
