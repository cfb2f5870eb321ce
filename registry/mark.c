/* SPDX-License-Identifier: Apache-2.0 */
/* A mark of where the registry stood, kept outside it: "generation n hash" on one line. */
#include "registry/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/encode.h"

enum { MARK_TEXT_MAX = 20 + 1 + 20 + 1 + 2 * CHV_AUDIT_HASH_LEN + 1 };

static enum chv_err mark_path(const char *folder, char **path, struct chv_why *why)
{
    if (asprintf(path, "%s/" CHV_REGISTRY_MARK_FILE, folder) >= 0)
        return CHV_OK;
    *path = NULL;
    return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", folder);
}

/* A number in its one decimal form, then `end`; NULL if it is not there. */
static const char *read_number(const char *text, char end, uint64_t *value)
{
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 19 || (text[0] == '0' && digits > 1) || text[digits] != end)
        return NULL;
    *value = strtoull(text, NULL, 10);
    return text + digits + 1;
}

static bool parse_mark(const char *text, struct chv_registry_info *mark)
{
    size_t len = sizeof mark->audit_hash;
    const char *hash = read_number(text, ' ', &mark->generation);
    if (hash != NULL)
        hash = read_number(hash, ' ', &mark->audit_n);
    return hash != NULL && strlen(hash) == 2 * sizeof mark->audit_hash + 1 &&
           hash[2 * sizeof mark->audit_hash] == '\n' &&
           chv_hex_decode(hash, 2 * sizeof mark->audit_hash, mark->audit_hash, &len) == CHV_OK;
}

static enum chv_err read_mark(const char *path, bool *there, struct chv_registry_info *mark, struct chv_why *why)
{
    char text[MARK_TEXT_MAX + 2];
    *there = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return CHV_OK;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: %s", path, strerror(saved));
    text[n] = '\0';
    if (!parse_mark(text, mark))
        return chv_fail(why, CHV_ERR_CONFIG, "%s: not a registry mark; remove it if the registry is the right one",
                        path);
    *there = true;
    return CHV_OK;
}

struct find_row {
    uint64_t n;
    bool found;
    uint8_t hash[CHV_AUDIT_HASH_LEN];
};

static enum chv_err take_row(void *arg, const struct chv_audit_row *row)
{
    struct find_row *find = arg;
    find->found = row->n == find->n;
    memcpy(find->hash, row->hash, sizeof find->hash);
    return CHV_ERR_CANCELLED; /* one is enough */
}

enum chv_err chv_registry_mark_check(struct chv_registry *r, const char *folder, bool *older, struct chv_why *why)
{
    struct chv_registry_info mark, now;
    bool there = false;
    char *path = NULL;
    enum chv_err err = mark_path(folder, &path, why);
    if (path != NULL)
        err = read_mark(path, &there, &mark, why);
    free(path);
    if (err == CHV_OK)
        err = chv_registry_info(r, &now, why);
    if (err != CHV_OK)
        return err;
    *older = false;
    if (!there)
        return CHV_OK;
    if (now.generation < mark.generation || now.audit_n < mark.audit_n) {
        *older = true;
        return chv_fail(why, CHV_OK,
                        "%s: is older than it was (generation %" PRIu64 ", audit row %" PRIu64 "; before: %" PRIu64
                        ", %" PRIu64 "): an old backup? What was revoked since then is not revoked now",
                        chv_registry_name(r), now.generation, now.audit_n, mark.generation, mark.audit_n);
    }
    if (mark.audit_n == 0)
        return CHV_OK;
    struct find_row find = {.n = mark.audit_n};
    err = chv_registry_audit_list(r, mark.audit_n, take_row, &find, why);
    if (err != CHV_OK && err != CHV_ERR_CANCELLED)
        return err;
    *older = !find.found || memcmp(find.hash, mark.audit_hash, sizeof find.hash) != 0;
    if (*older)
        (void)chv_fail(why, CHV_OK,
                       "%s: audit row %" PRIu64 " is not the one that it was: another registry, or an old backup that "
                       "was changed since",
                       chv_registry_name(r), mark.audit_n);
    return CHV_OK;
}

static enum chv_err write_mark(void *arg, FILE *out, struct chv_why *why)
{
    const struct chv_registry_info *info = arg;
    char hash[CHV_HEX_SIZE(CHV_AUDIT_HASH_LEN)];
    chv_hex_encode(info->audit_hash, sizeof info->audit_hash, hash);
    if (fprintf(out, "%" PRIu64 " %" PRIu64 " %s\n", info->generation, info->audit_n, hash) < 0)
        return chv_fail(why, CHV_ERR_IO, "the registry's mark: %s", strerror(errno));
    return CHV_OK;
}

enum chv_err chv_registry_mark_write(struct chv_registry *r, const char *folder, struct chv_why *why)
{
    struct chv_registry_info info;
    char *path = NULL;
    enum chv_err err = chv_registry_info(r, &info, why);
    if (err == CHV_OK)
        err = mark_path(folder, &path, why);
    if (err == CHV_OK)
        err = chv_registry_replace_file(path, write_mark, &info, why);
    free(path);
    return err;
}
