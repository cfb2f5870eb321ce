/* SPDX-License-Identifier: Apache-2.0 */
/* Where a path of a client leads: its home, or a shared folder. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/files_session_internal.h"

bool chv_files_place_find(const struct chv_files_session *s, const char *path, struct chv_files_place *place)
{
    if (path[0] != CHV_FILES_SHARE) {
        *place = (struct chv_files_place){.home = s->home, .path = path, .write = s->write};
        return true;
    }
    const char *name = path + 1;
    const size_t len = strcspn(name, "/");
    for (size_t i = 0; i < s->root->share_count; i++) {
        const struct chv_files_share *share = &s->root->shares[i];
        if ((s->shares & UINT32_C(1) << i) == 0 || strlen(share->name) != len || memcmp(share->name, name, len) != 0)
            continue;
        *place = (struct chv_files_place){
            .home = share->home, .path = name + len + (name[len] == '/'), .write = s->write && share->write};
        return true;
    }
    return false;
}

void chv_files_dir_drop(struct chv_files_dir *dir)
{
    if (dir == NULL || --dir->users > 0)
        return;
    (void)close(dir->fd);
    free(dir);
}

void chv_files_dir_forget(struct chv_files_session *s)
{
    chv_files_dir_drop(s->dir);
    s->dir = NULL;
}

int chv_files_dir_take(struct chv_files_session *s, const struct chv_files_place *place, struct chv_files_dir **dir)
{
    const size_t len = (size_t)(chv_files_path_name(place->path) - place->path);
    struct chv_files_dir *d = s->dir;
    if (d == NULL || d->home != place->home || strlen(d->path) != len || memcmp(d->path, place->path, len) != 0) {
        int fd = chv_files_open_parent(chv_files_home_fd(place->home), place->path);
        if (fd < 0)
            return errno;
        d = calloc(1, sizeof *d);
        if (d == NULL) {
            (void)close(fd);
            return ENOMEM;
        }
        d->fd = fd;
        d->home = place->home;
        memcpy(d->path, place->path, len);
        chv_files_dir_forget(s);
        s->dir = d;
        d->users = 1;
    }
    d->users++;
    *dir = d;
    return 0;
}

int chv_files_stat(struct chv_files_session *s, const struct chv_files_place *place, struct stat *st)
{
    struct chv_files_dir *dir = NULL;
    memset(st, 0, sizeof *st);
    if (place->path[0] == '\0')
        return fstat(chv_files_home_fd(place->home), st) == 0 ? 0 : errno;
    int failed = chv_files_dir_take(s, place, &dir);
    if (dir == NULL)
        return failed;
    failed = fstatat(dir->fd, chv_files_path_name(place->path), st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    chv_files_dir_drop(dir);
    return failed;
}
