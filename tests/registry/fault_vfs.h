/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite's default VFS made to fail on demand. */
#ifndef CHV_TESTS_REGISTRY_FAULT_VFS_H
#define CHV_TESTS_REGISTRY_FAULT_VFS_H

enum fault_kind {
    FAULT_NONE,
    FAULT_FULL, /* a write: SQLITE_FULL */
    FAULT_IO,   /* a write: SQLITE_IOERR_WRITE */
    FAULT_SYNC, /* an fsync: SQLITE_IOERR_FSYNC */
    FAULT_READ  /* a read: SQLITE_IOERR_READ */
};

/* Makes it the default for all that is opened from now on. */
void fault_vfs_install(void);
/* The nth such call from now on fails, and all after it. */
void fault_vfs_set(enum fault_kind kind, unsigned nth);
/* Whether one has failed since fault_vfs_set. */
int fault_vfs_hit(void);

#endif
