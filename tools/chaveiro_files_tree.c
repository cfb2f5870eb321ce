/* SPDX-License-Identifier: Apache-2.0 */
/* Folders with all that is in them, both ways. */
#include "config.h"

#include "tools/chaveiro_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "services/files_home.h"

/* A folder under way. */
struct folder {
    unsigned users;
    struct chaveiro_transfer *t;
    struct chaveiro_base *base;
    char *name, *path;
    struct chv_files_meta meta;
    bool has_meta;
    bool asked; /* put: whether what has the name is a folder */
};

/* One whose mode and time are set at the end; the last one made stands first. */
struct chaveiro_folder {
    struct chaveiro_folder *next;
    struct chaveiro_base *base; /* NULL: `name` is on the server */
    struct chv_files_meta meta;
    char name[];
};

static void free_folder(void *arg)
{
    struct folder *f = arg;
    if (--f->users > 0)
        return;
    chaveiro_base_free(f->base);
    free(f->name);
    free(f->path);
    free(f);
}

static struct folder *new_folder(struct chaveiro_files *files, struct chaveiro_transfer *t, struct chaveiro_base *base,
                                 const char *name, const char *path)
{
    struct folder *f = calloc(1, sizeof *f);
    if (f != NULL) {
        *f = (struct folder){
            .users = 1, .t = t, .base = chaveiro_base_use(base), .name = strdup(name), .path = strdup(path)};
        if (f->name != NULL && f->path != NULL)
            return f;
        free_folder(f);
    }
    chaveiro_files_fail(files, EX_OSERR, "no memory for more folders");
    return NULL;
}

/* "a/b", "b" if a is "". malloc'ed, NULL: no memory. */
static char *join(const char *a, const char *b)
{
    const size_t size = strlen(a) + strlen(b) + 2;
    char *path = malloc(size);
    if (path != NULL)
        (void)snprintf(path, size, "%s%s%s", a, a[0] != '\0' && b[0] != '\0' ? "/" : "", b);
    return path;
}

/* Something has gone wrong with this local folder. */
static void local_failed(struct chaveiro_files *files, const struct folder *f, const char *name, int code, int error)
{
    char *beneath = join(f->name, name);
    char *shown = beneath != NULL ? chaveiro_base_path(f->base, beneath) : NULL;
    chaveiro_files_fail(files, code, "%s: %s", shown != NULL && shown[0] != '\0' ? shown : ".",
                        chaveiro_local_error(error));
    free(shown);
    free(beneath);
}

/* base NULL: `name` is on the server. */
static void remember(struct chaveiro_files *files, const struct folder *f, struct chaveiro_base *base, const char *name)
{
    const size_t len = strlen(name) + 1;
    if (!f->has_meta || !f->t->preserve || len == 1)
        return;
    struct chaveiro_folder *kept = malloc(sizeof *kept + len);
    if (kept == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more folders");
        return;
    }
    kept->next = f->t->folders;
    kept->base = base != NULL ? chaveiro_base_use(base) : NULL;
    kept->meta = f->meta;
    memcpy(kept->name, name, len);
    f->t->folders = kept;
}

/* --- from the server ----------------------------------------------------------------------------------------------- */

/* 0 or errno. */
static int make_local(const struct folder *f)
{
    if (f->name[0] == '\0')
        return 0;
    const char *last = chv_files_path_name(f->name);
    const int parent =
        last == f->name ? fcntl(f->base->fd, F_DUPFD_CLOEXEC, 3) : chv_files_open_parent(f->base->fd, f->name);
    if (parent < 0)
        return errno;
    int failed = mkdirat(parent, last, 0777) == 0 ? 0 : errno;
    if (failed == EEXIST) {
        const int fd = chv_files_openat(parent, last, O_RDONLY | O_DIRECTORY, 0);
        failed = fd >= 0 ? 0 : errno;
        if (fd >= 0)
            (void)close(fd);
    }
    (void)close(parent);
    return failed;
}

static void get_entry(struct chaveiro_files *files, const struct folder *f, const struct chv_files_entry *e)
{
    char *path = join(f->path, e->name), *name = join(f->name, e->name);
    const char *wrong = path != NULL ? chv_files_path_check(path, strlen(path)) : NULL;
    if (path == NULL || name == NULL) {
        chaveiro_files_fail(files, EX_OSERR, "no memory for more files");
    } else if (wrong != NULL) { /* such as folders without an end */
        chaveiro_files_fail(files, EX_PROTOCOL, "%.200s...: the server's listing has what it does not serve: %s", path,
                            wrong);
    } else if (strncmp(e->name, CHAVEIRO_PART, strlen(CHAVEIRO_PART)) == 0) {
        chaveiro_files_tell(files, "%s: left out: its name is of unfinished files here", path);
    } else if (e->meta.type == CHV_FILES_FOLDER) {
        chaveiro_get_folder(files, f->t, path, &e->meta, f->base, name);
    } else if (e->meta.type == CHV_FILES_FILE) {
        chaveiro_get_file(files, f->t, path, &e->meta, f->base, name);
    } else {
        chaveiro_files_tell(files, "%s: left out: is %s", path,
                            e->meta.type == CHV_FILES_LINK ? "a symbolic link" : "no regular file");
    }
    free(path);
    free(name);
}

static void listed(struct chaveiro_files *files, void *arg, const struct chaveiro_listing *listing,
                   const struct chv_files_answer *answer)
{
    struct folder *f = arg;
    if (answer == NULL)
        chaveiro_files_fail(files, EX_PROTOCOL, "%s: the server's listing is damaged", f->path);
    else if (answer->code >= 300)
        chaveiro_files_failed(files, answer);
    if (answer == NULL || answer->code >= 300)
        return;
    const int failed = make_local(f);
    if (failed != 0) {
        local_failed(files, f, "", EX_CANTCREAT, failed);
        return;
    }
    remember(files, f, f->base, f->name);
    chaveiro_ops_first(files);
    for (size_t i = 0; i < listing->count; i++)
        get_entry(files, f, &listing->entries[i]);
    chaveiro_ops_done(files);
}

void chaveiro_get_folder(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *path,
                         const struct chv_files_meta *meta, struct chaveiro_base *base, const char *name)
{
    struct folder *f = new_folder(files, t, base, name, path);
    if (f == NULL)
        return;
    f->has_meta = meta != NULL;
    if (meta != NULL)
        f->meta = *meta;
    chaveiro_files_list(files, path, listed, free_folder, f);
}

/* --- to the server ------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* All names in it, sorted; closes fd. 0 or errno. */
static int read_names(int fd, char ***names_out, size_t *count_out)
{
    char **names = NULL;
    size_t count = 0, room = 0;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        const int failed = errno;
        (void)close(fd);
        return failed;
    }
    int failed = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (e == NULL) {
            failed = errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (count == room) {
            room = room > 0 ? 2 * room : 64;
            char **more = realloc(names, room * sizeof *more);
            if (more == NULL) {
                failed = ENOMEM;
                break;
            }
            names = more;
        }
        names[count] = strdup(e->d_name);
        if (names[count] == NULL) {
            failed = ENOMEM;
            break;
        }
        count++;
    }
    (void)closedir(dir);
    if (failed != 0) {
        free_names(names, count);
        return failed;
    }
    if (count > 1)
        qsort(names, count, sizeof *names, by_name);
    *names_out = names;
    *count_out = count;
    return 0;
}

static void put_entry(struct chaveiro_files *files, const struct folder *f, int dir, const char *entry)
{
    struct stat st;
    char *path = join(f->path, entry), *name = join(f->name, entry);
    char *shown = name != NULL ? chaveiro_base_path(f->base, name) : NULL;
    const char *wrong = path != NULL ? chv_files_path_check(path, strlen(path)) : NULL;
    if (path == NULL || name == NULL || shown == NULL)
        chaveiro_files_fail(files, EX_OSERR, "no memory for more files");
    else if (strncmp(entry, CHAVEIRO_PART, strlen(CHAVEIRO_PART)) == 0)
        ; /* what an interrupted get has left */
    else if (wrong != NULL)
        chaveiro_files_fail(files, EX_DATAERR, "%s: cannot be a name on the server: %s", shown, wrong);
    else if (fstatat(dir, entry, &st, AT_SYMLINK_NOFOLLOW) != 0)
        chaveiro_files_fail(files, EX_NOINPUT, "%s: %s", shown, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        chaveiro_put_folder(files, f->t, f->base, name, path);
    else if (S_ISREG(st.st_mode))
        chaveiro_put_file(files, f->t, f->base, name, &st, path);
    else
        chaveiro_files_tell(files, "%s: left out: is %s", shown,
                            S_ISLNK(st.st_mode) ? "a symbolic link" : "no regular file");
    free(path);
    free(name);
    free(shown);
}

/* The home and shared folders belong to the server. */
static bool is_root(const char *path)
{
    return path[0] == '\0' || (path[0] == '@' && strchr(path, '/') == NULL);
}

static void keep_meta(struct chaveiro_files *files, struct folder *f, int dir)
{
    struct stat st;
    if (is_root(f->path) || fstat(dir, &st) != 0)
        return;
    f->meta = (struct chv_files_meta){
        .type = CHV_FILES_FOLDER, .mode = st.st_mode & CHV_FILES_MODE, .mtime = chaveiro_files_mtime(&st)};
    f->has_meta = true;
    remember(files, f, NULL, f->path);
}

/* The folder is there, on the server: what is in it. */
static void walk(struct chaveiro_files *files, struct folder *f)
{
    char **names = NULL;
    size_t count = 0;
    const int dir = chv_files_openat(f->base->fd, f->name, O_RDONLY | O_DIRECTORY, 0);
    int failed = dir < 0 ? errno : 0;
    if (failed == 0) {
        const int again = fcntl(dir, F_DUPFD_CLOEXEC, 3);
        failed = again >= 0 ? read_names(again, &names, &count) : errno;
    }
    if (failed != 0)
        local_failed(files, f, "", EX_NOINPUT, failed);
    else
        keep_meta(files, f, dir);
    chaveiro_ops_first(files);
    for (size_t i = 0; i < count && failed == 0; i++)
        put_entry(files, f, dir, names[i]);
    chaveiro_ops_done(files);
    if (failed == 0)
        free_names(names, count);
    if (dir >= 0)
        (void)close(dir);
}

static void made(struct chaveiro_files *files, void *arg, const struct chv_files_answer *answer)
{
    struct folder *f = arg;
    const bool there = f->asked && answer->code == 200 && answer->has_meta && answer->meta.type == CHV_FILES_FOLDER;
    if (there || (!f->asked && answer->code == 200)) {
        walk(files, f);
    } else if (!f->asked && answer->code == 409) {
        f->asked = true;
        f->users++;
        chaveiro_ops_first(files);
        chaveiro_files_ask(files, CHV_FILES_STAT, f->path, NULL, made, free_folder, f);
        chaveiro_ops_done(files);
    } else if (answer->code >= 300) {
        chaveiro_files_failed(files, answer);
    } else {
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: is no folder on the server", f->path);
    }
}

void chaveiro_put_folder(struct chaveiro_files *files, struct chaveiro_transfer *t, struct chaveiro_base *base,
                         const char *name, const char *path)
{
    struct folder *f = new_folder(files, t, base, name, path);
    if (f == NULL)
        return;
    f->asked = is_root(path);
    chaveiro_files_ask(files, f->asked ? CHV_FILES_STAT : CHV_FILES_MKDIR, path, NULL, made, free_folder, f);
}

/* --- modes and times ----------------------------------------------------------------------------------------------- */

struct set_op {
    struct chaveiro_op op;
    struct chaveiro_folder *folder;
};

static void set_begin(struct chaveiro_op *op)
{
    const struct chaveiro_folder *folder = ((struct set_op *)op)->folder;
    struct chv_files_request request = {.op = CHV_FILES_SET,
                                        .has_mode = true,
                                        .mode = folder->meta.mode & CHV_FILES_MODE,
                                        .has_mtime = true,
                                        .mtime = folder->meta.mtime};
    (void)snprintf(request.path, sizeof request.path, "%s", folder->name);
    chaveiro_op_ask(op, &request);
}

static void set_answer(struct chaveiro_op *op, const struct chv_files_answer *answer)
{
    if (answer->code >= 300)
        chaveiro_files_failed(op->files, answer);
}

static void set_free(struct chaveiro_op *op)
{
    free(((struct set_op *)op)->folder);
}

static const struct chaveiro_op_class set_class = {.begin = set_begin, .answer = set_answer, .free = set_free};

static void set_local(struct chaveiro_files *files, struct chaveiro_folder *folder)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(folder->meta.mtime / 1000000000), .tv_nsec = (long)(folder->meta.mtime % 1000000000)}};
    const int fd = chv_files_openat(folder->base->fd, folder->name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || futimens(fd, times) != 0 || fchmod(fd, (mode_t)folder->meta.mode & CHV_FILES_MODE) != 0)
        chaveiro_files_fail(files, EX_CANTCREAT, "%s: its mode and time cannot be set: %s", folder->name,
                            chaveiro_local_error(errno));
    if (fd >= 0)
        (void)close(fd);
    chaveiro_base_free(folder->base);
    free(folder);
}

void chaveiro_folders_done(struct chaveiro_files *files, struct chaveiro_transfer *t, bool alive)
{
    bool asks = false;
    while (t->folders != NULL) {
        struct chaveiro_folder *folder = t->folders;
        t->folders = folder->next;
        if (folder->base != NULL) {
            set_local(files, folder);
            continue;
        }
        struct set_op *set = alive ? chaveiro_op_new(files, &set_class, sizeof *set) : NULL;
        if (set == NULL) {
            free(folder);
            continue;
        }
        set->folder = folder;
        chaveiro_op_queue(&set->op);
        asks = true;
    }
    if (asks)
        (void)chaveiro_files_run(files);
}
