/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tools/receipt.h"

#include "keystore/file_pem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum chv_err chv_receipt_open(const struct chv_receipt_signed *sealed, const struct chv_identity *key,
                              struct chv_receipt *receipt, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    if (key != NULL && key->curve != CHV_CURVE_P256)
        return chv_fail(why, CHV_ERR_ARGUMENT, "an X25519 key signs no receipts: give the server's receipt.pub");
    if (key != NULL)
        err = chv_pem_verify(key, (const uint8_t *)sealed->text, sealed->text_len, sealed->signature,
                             sealed->signature_len, why);
    if (err == CHV_OK && chv_receipt_parse(sealed->text, sealed->text_len, receipt) != CHV_OK)
        err = chv_fail(why, CHV_ERR_DAMAGED, "the text is no receipt");
    return err;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

static bool name_of(const char *file, const char *suffix, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s%s", file, suffix);
    return n > 0 && n < PATH_MAX;
}

static enum chv_err read_one(const char *file, void *out, size_t cap, size_t *len, struct chv_why *why)
{
    uint8_t more;
    struct stat st;
    size_t got = 0;
    ssize_t n = 1;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return chv_fail(why, CHV_ERR_IO, "%s: is no regular file", file);
    }
    while (n != 0 && (n > 0 || errno == EINTR)) {
        n = got < cap ? read(fd, (uint8_t *)out + got, cap - got) : read(fd, &more, 1);
        if (n > 0 && got == cap)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    const int failed = errno;
    (void)close(fd);
    if (n < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(failed));
    if (n > 0)
        return chv_fail(why, CHV_ERR_DAMAGED, "%s: is longer than a receipt's can be", file);
    *len = got;
    return CHV_OK;
}

enum chv_err chv_receipt_read(const char *file, struct chv_receipt_signed *sealed, struct chv_why *why)
{
    char signature[PATH_MAX];
    if (!name_of(file, CHV_RECEIPT_SIGNATURE_SUFFIX, signature))
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", file);
    enum chv_err err = read_one(file, sealed->text, CHV_RECEIPT_MAX, &sealed->text_len, why);
    if (err == CHV_OK)
        err = read_one(signature, sealed->signature, sizeof sealed->signature, &sealed->signature_len, why);
    if (err == CHV_OK)
        sealed->text[sealed->text_len] = '\0';
    return err;
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

enum chv_err chv_receipt_absent(const char *file, struct chv_why *why)
{
    static const char *const suffixes[] = {"", CHV_RECEIPT_SIGNATURE_SUFFIX};
    char name[PATH_MAX];
    struct stat st;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (!name_of(file, suffixes[i], name))
            return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", file);
        if (lstat(name, &st) == 0)
            return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", name);
        if (errno != ENOENT)
            return chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(errno));
    }
    return CHV_OK;
}

/* fsync of the folder that a name is in. */
static bool sync_folder(const char *name)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(name, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - name) + 1,
                   slash == NULL ? "." : name);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

/* Replaces nothing, also on file systems that have no RENAME_NOREPLACE. */
static bool give_name(const char *temporary, const char *name)
{
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, name, RENAME_NOREPLACE) == 0)
        return true;
    return errno == EINVAL && link(temporary, name) == 0 && unlink(temporary) == 0;
}

static enum chv_err write_one(const char *name, const void *bytes, size_t len, struct chv_why *why)
{
    char temporary[PATH_MAX];
    if (!name_of(name, ".XXXXXX", temporary))
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", name);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(errno));
    errno = ENOSPC; /* a write that is short */
    bool ok = write(fd, bytes, len) == (ssize_t)len && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
    int failed = errno;
    (void)close(fd);
    if (ok && !give_name(temporary, name)) {
        failed = errno;
        ok = false;
    }
    if (ok && !sync_folder(name)) {
        failed = errno;
        (void)unlink(name);
        ok = false;
    }
    if (ok)
        return CHV_OK;
    (void)unlink(temporary);
    return chv_fail(why, failed == EEXIST ? CHV_ERR_EXISTS : CHV_ERR_IO, "%s: %s", name, strerror(failed));
}

enum chv_err chv_receipt_write(const char *file, const struct chv_receipt_signed *sealed, struct chv_why *why)
{
    char signature[PATH_MAX];
    if (!name_of(file, CHV_RECEIPT_SIGNATURE_SUFFIX, signature))
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", file);
    enum chv_err err = write_one(signature, sealed->signature, sealed->signature_len, why);
    if (err != CHV_OK)
        return err;
    err = write_one(file, sealed->text, sealed->text_len, why);
    if (err != CHV_OK)
        (void)unlink(signature);
    return err;
}
