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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/credential.h"
#include "services/files_part.h"

enum { DEPTH_MAX = 64 };

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

int chv_files_write_all(int fd, const void *data, size_t len, uint64_t at)
{
    const uint8_t *bytes = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Bytes of all files in and below `dir`, which is closed, parts among them. */
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

static struct chv_files_home *new_home(int fd)
{
    struct chv_files_home *h = calloc(1, sizeof *h);
    if (h == NULL || pthread_mutex_init(&h->lock, NULL) != 0) {
        free(h);
        return NULL;
    }
    h->fd = fd;
    return h;
}

struct chv_files_home *chv_files_home_shared(int fd)
{
    struct chv_files_home *h = new_home(fd);
    if (h != NULL)
        h->users = 1;
    return h;
}

static int make_home(const struct chv_files_root *root, const char *id, struct chv_files_home **home)
{
    if (mkdirat(root->fd, id, 0700) != 0 && errno != EEXIST)
        return errno;
    int fd = chv_files_openat(root->fd, id, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return errno;
    struct chv_files_home *h = new_home(fd);
    if (h == NULL) {
        (void)close(fd);
        return ENOMEM;
    }
    memcpy(h->id, id, strlen(id) + 1);
    h->quota = root->quota;
    h->next = homes;
    homes = h;
    *home = h;
    return 0;
}

/* The home's object, whose files may not have been counted. */
static int take_home(const struct chv_files_root *root, const char *id, struct chv_files_home **home)
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
    if (h != NULL)
        *home = h;
    return failed;
}

int chv_files_home_open(const struct chv_files_root *root, const char *id, struct chv_files_home **home)
{
    struct chv_files_home *h = NULL;
    int failed = take_home(root, id, &h);
    if (failed != 0)
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

uint64_t chv_files_home_quota(const struct chv_files_home *home)
{
    return home->quota;
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

int chv_files_home_unlink(struct chv_files_home *home, int dir, const char *name, uint64_t size)
{
    (void)pthread_mutex_lock(&home->lock);
    int failed = unlinkat(dir, name, 0) == 0 ? 0 : errno;
    if (failed == 0 && home->counted)
        home->used -= size < home->used ? size : home->used;
    (void)pthread_mutex_unlock(&home->lock);
    return failed;
}

/* --- parts that nobody goes on with -------------------------------------------------------------------------------- */

struct sweep {
    struct chv_files_home *home;
    time_t older;
    bool (*stop)(void);
};

/* `dir` is closed. What cannot be read or removed now is left for the next time. */
static void sweep_folder(const struct sweep *s, int dir, unsigned depth)
{
    DIR *d = fdopendir(dir);
    if (d == NULL) {
        (void)close(dir);
        return;
    }
    for (const struct dirent *e = readdir(d); e != NULL && !s->stop(); e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (chv_files_is_part(e->d_name)) {
            (void)chv_files_part_remove(s->home, dirfd(d), e->d_name, s->older);
        } else if (depth > 0 && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)) {
            int sub = chv_files_openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY, 0);
            if (sub >= 0)
                sweep_folder(s, sub, depth - 1);
        }
    }
    (void)closedir(d);
}

static void sweep_home(struct chv_files_home *home, time_t older, bool (*stop)(void))
{
    const struct sweep sweep = {home, older, stop};
    int fd = chv_files_openat(home->fd, "", O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0)
        sweep_folder(&sweep, fd, DEPTH_MAX);
}

bool chv_files_sweep(const struct chv_files_root *root, bool (*stop)(void))
{
    const time_t older = time(NULL) - (time_t)root->part_keep;
    int fd = chv_files_openat(root->fd, "", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL && !stop(); e = readdir(d)) {
        struct chv_files_home *home = NULL;
        if (e->d_name[0] != '.' && strlen(e->d_name) <= CHV_CLIENT_ID_MAX &&
            (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && take_home(root, e->d_name, &home) == 0 &&
            home != NULL) {
            sweep_home(home, older, stop);
            chv_files_home_close(home);
        }
    }
    if (d != NULL)
        (void)closedir(d);
    else if (fd >= 0)
        (void)close(fd);
    for (size_t i = 0; i < root->share_count; i++)
        if (root->shares[i].write)
            sweep_home(root->shares[i].home, older, stop);
    return !stop();
}
