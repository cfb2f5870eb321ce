/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the server's files are: one folder for each client, made when it first comes, and folders that clients share. All
 * of this blocks on the file system; any thread may call it.
 */
#ifndef CHV_SERVICES_FILES_HOME_H
#define CHV_SERVICES_FILES_HOME_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "net/server.h"
#include "services/files_path.h"

/* A client's folder, one object for all its connections; or a shared folder. */
struct chv_files_home;

struct chv_files_share {
    char name[CHV_SHARE_NAME_MAX + 1], scope[CHV_SCOPE_MAX + 1];
    bool write;
    struct chv_files_home *home;
};

/* What the configuration says; it holds from before the first thread to the end. */
struct chv_files_root {
    int fd;                   /* of the folder that has the homes */
    uint64_t max_size, quota; /* bytes; 0: no limit */
    uint64_t part_keep;       /* seconds; 0: no part is kept */
    enum chv_durability durability;
    bool receipts; /* puts may ask for one */
    size_t share_count;
    struct chv_files_share shares[CHV_SHARES_MAX];
};

/* errno. `id`: a client id, which is a name without slashes that begins with a letter or digit. */
int chv_files_home_open(const struct chv_files_root *root, const char *id, struct chv_files_home **home);
void chv_files_home_close(struct chv_files_home *home); /* NULL is allowed */
int chv_files_home_fd(const struct chv_files_home *home);
/* A folder without a quota, of which `fd` is taken over; NULL: no memory. */
struct chv_files_home *chv_files_home_shared(int fd);
/* Bytes; 0: no limit. */
uint64_t chv_files_home_quota(const struct chv_files_home *home);

/* `n` bytes more; false: the quota does not allow them, and nothing changed. And back. */
bool chv_files_home_take(struct chv_files_home *home, uint64_t n);
void chv_files_home_give(struct chv_files_home *home, uint64_t n);
/* Bytes that the quota still allows; UINT64_MAX: there is none. */
uint64_t chv_files_home_left(struct chv_files_home *home);

/*
 * openat2 beneath `dir`: nothing outside is ever reached, and no symbolic link followed, whoever puts one there and
 * when (openat2(2), RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). A descriptor, or -1 and errno.
 */
int chv_files_openat(int dir, const char *path, int flags, mode_t mode);
/* The folder that holds `path` (checked, not ""); the name in it is chv_files_path_name. */
int chv_files_open_parent(int dir, const char *path);

/* pwrite(2) of all of it; 0 or errno. */
int chv_files_write_all(int fd, const void *data, size_t len, uint64_t at);

/* Removes a file that counts: what it had is given back, also while others count. 0 or errno. */
int chv_files_home_unlink(struct chv_files_home *home, int dir, const char *name, uint64_t size);

/* Removes parts that are older than the root keeps them, of all homes and shares. False: `stop` ended it before. */
bool chv_files_sweep(const struct chv_files_root *root, bool (*stop)(void));

#endif
