/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "services/files_home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/encode.h"
#include "core/credential.h"
#include "services/files_digest.h"

enum { DEPTH_MAX = 64, PART_BYTES = 8 };

struct chv_files_home {
    struct chv_files_home *next;
    char id[CHV_CLIENT_ID_MAX + 1];
    unsigned users; /* under homes_lock */
    int fd;
    uint64_t quota;
    pthread_mutex_t lock; /* of the rest */
    bool counted;
    uint64_t used; /* bytes of all files, while there is a quota */
};

/* Homes in use: connections of one client share a quota, whichever loop they are on. */
static pthread_mutex_t homes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chv_files_home *homes;

int chv_files_openat(int dir, const char *path, int flags, mode_t mode)
{
    const struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                                 .mode = mode,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd;
    do
        fd = syscall(SYS_openat2, dir, path[0] != '\0' ? path : ".", &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

int chv_files_open_parent(int dir, const char *path)
{
    char parent[CHV_FILES_PATH_MAX + 1];
    const size_t len = (size_t)(chv_files_path_name(path) - path);
    if (len > CHV_FILES_PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(parent, path, len);
    parent[len > 0 ? len - 1 : 0] = '\0';
    return chv_files_openat(dir, parent, O_RDONLY | O_DIRECTORY, 0);
}

bool chv_files_part_name(const char *name, char out[CHV_FILES_PART_SIZE])
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    struct chv_files_digest *d = NULL;
    bool made = chv_files_digest_new(&d) == CHV_OK && chv_files_digest_add(d, name, strlen(name)) == CHV_OK &&
                chv_files_digest_finish(d, digest) == CHV_OK;
    chv_files_digest_free(d);
    if (!made)
        return false;
    memcpy(out, CHV_FILES_PART, strlen(CHV_FILES_PART));
    chv_hex_encode(digest, PART_BYTES, out + strlen(CHV_FILES_PART));
    return true;
}

static bool is_part(const char *name)
{
    return strncmp(name, CHV_FILES_PART, strlen(CHV_FILES_PART)) == 0;
}

/* Who writes one holds its lock. */
static bool remove_part(int dir, const char *name)
{
    int fd = chv_files_openat(dir, name, O_RDWR | O_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool removed = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir, name, 0) == 0;
    (void)close(fd);
    return removed;
}

bool chv_files_sweep_parts(int dir)
{
    bool any = false;
    int fd = chv_files_openat(dir, "", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        any = (is_part(e->d_name) && remove_part(dir, e->d_name)) || any;
    (void)closedir(d);
    return any;
}

/* Bytes of all files in and below `dir`, which is closed. What a killed server left unfinished is removed on the way. */
static int count_folder(int dir, unsigned depth, uint64_t *used)
{
    DIR *d = fdopendir(dir);
    if (d == NULL) {
        (void)close(dir);
        return errno;
    }
    int failed = 0;
    for (const struct dirent *e = readdir(d); e != NULL && failed == 0; e = readdir(d)) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (is_part(e->d_name) && remove_part(dir, e->d_name)) ||
            fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(st.st_mode)) {
            *used += (uint64_t)st.st_size;
        } else if (S_ISDIR(st.st_mode)) {
            int sub = depth > 0 ? chv_files_openat(dir, e->d_name, O_RDONLY | O_DIRECTORY, 0) : -1;
            failed = sub >= 0 ? count_folder(sub, depth - 1, used) : depth > 0 ? errno : ELOOP;
        }
    }
    (void)closedir(d);
    return failed;
}

static int count_home(struct chv_files_home *home)
{
    int failed = 0;
    (void)pthread_mutex_lock(&home->lock);
    if (home->quota != 0 && !home->counted) {
        int fd = chv_files_openat(home->fd, "", O_RDONLY | O_DIRECTORY, 0);
        home->used = 0;
        failed = fd >= 0 ? count_folder(fd, DEPTH_MAX, &home->used) : errno;
        home->counted = failed == 0;
    }
    (void)pthread_mutex_unlock(&home->lock);
    return failed;
}

static int make_home(const struct chv_files_root *root, const char *id, struct chv_files_home **home)
{
    if (mkdirat(root->fd, id, 0700) != 0 && errno != EEXIST)
        return errno;
    int fd = chv_files_openat(root->fd, id, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return errno;
    struct chv_files_home *h = calloc(1, sizeof *h);
    if (h == NULL || pthread_mutex_init(&h->lock, NULL) != 0) {
        free(h);
        (void)close(fd);
        return ENOMEM;
    }
    memcpy(h->id, id, strlen(id) + 1);
    h->fd = fd;
    h->quota = root->quota;
    h->next = homes;
    homes = h;
    *home = h;
    return 0;
}

int chv_files_home_open(const struct chv_files_root *root, const char *id, struct chv_files_home **home)
{
    int failed = 0;
    (void)pthread_mutex_lock(&homes_lock);
    struct chv_files_home *h = homes;
    while (h != NULL && strcmp(h->id, id) != 0)
        h = h->next;
    if (h == NULL)
        failed = make_home(root, id, &h);
    if (h != NULL)
        h->users++;
    (void)pthread_mutex_unlock(&homes_lock);
    if (h == NULL)
        return failed;
    failed = count_home(h);
    if (failed == 0)
        *home = h;
    else
        chv_files_home_close(h);
    return failed;
}

void chv_files_home_close(struct chv_files_home *home)
{
    if (home == NULL)
        return;
    (void)pthread_mutex_lock(&homes_lock);
    bool last = --home->users == 0;
    for (struct chv_files_home **at = &homes; last && *at != NULL; at = &(*at)->next)
        if (*at == home) {
            *at = home->next;
            break;
        }
    (void)pthread_mutex_unlock(&homes_lock);
    if (!last)
        return;
    (void)close(home->fd);
    (void)pthread_mutex_destroy(&home->lock);
    free(home);
}

int chv_files_home_fd(const struct chv_files_home *home)
{
    return home->fd;
}

bool chv_files_home_take(struct chv_files_home *home, uint64_t n)
{
    if (home->quota == 0)
        return true;
    (void)pthread_mutex_lock(&home->lock);
    bool fits = home->used <= home->quota && n <= home->quota - home->used;
    if (fits)
        home->used += n;
    (void)pthread_mutex_unlock(&home->lock);
    return fits;
}

void chv_files_home_give(struct chv_files_home *home, uint64_t n)
{
    if (home->quota == 0)
        return;
    (void)pthread_mutex_lock(&home->lock);
    home->used -= n < home->used ? n : home->used;
    (void)pthread_mutex_unlock(&home->lock);
}

uint64_t chv_files_home_left(struct chv_files_home *home)
{
    if (home->quota == 0)
        return UINT64_MAX;
    (void)pthread_mutex_lock(&home->lock);
    uint64_t left = home->used < home->quota ? home->quota - home->used : 0;
    (void)pthread_mutex_unlock(&home->lock);
    return left;
}
