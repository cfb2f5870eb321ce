/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tools/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/memory.h"
#include "core/hkdf.h"
#include "keystore/file.h"
#include "tools/cms.h"

static const char backup_format[] = "chaveiro master backup 1";

enum { BACKUP_PLAIN_MAX = 4096 };

struct chv_backup {
    uint8_t master[CHV_SECRET_LEN];
    uint8_t plain[BACKUP_PLAIN_MAX]; /* the JSON text, while it is needed */
    struct chv_backup_info info;
    struct chv_cms_recipient *recipient;
    const char *file; /* to be written; NULL: this one was read */
    bool written;
};

static struct chv_backup *backup_new(void)
{
    return chv_secure_alloc(sizeof(struct chv_backup));
}

void chv_backup_free(struct chv_backup *backup)
{
    if (backup == NULL)
        return;
    chv_cms_recipient_free(backup->recipient);
    chv_secure_free(backup, sizeof *backup);
}

const struct chv_backup_info *chv_backup_info(const struct chv_backup *backup)
{
    return &backup->info;
}

void chv_backup_label(const struct chv_backup *backup, char label[CHV_LABEL_MAX + 1])
{
    (void)snprintf(label, CHV_LABEL_MAX + 1, "master:%" PRIu32, backup->info.epoch);
}

void chv_backup_describe(const struct chv_backup *backup, json_t *object)
{
    char hex[CHV_HEX_SIZE(CHV_CMS_FINGERPRINT_LEN)];
    chv_hex_encode(chv_cms_recipient_fingerprint(backup->recipient), CHV_CMS_FINGERPRINT_LEN, hex);
    (void)json_object_set_new(object, "backup", json_string(backup->file));
    (void)json_object_set_new(object, "backup_certificate", json_string(chv_cms_recipient_subject(backup->recipient)));
    (void)json_object_set_new(object, "backup_fingerprint", json_string(hex));
}

/* --- the contents --------------------------------------------------------------------------------------------------
 */

static enum chv_err backup_check(const struct chv_crypto *crypto, const uint8_t master[CHV_SECRET_LEN],
                                 uint8_t check[CHV_CHECK_MASTER_LEN])
{
    uint8_t info[CHV_INFO_MAX], value[CHV_SECRET_LEN];
    size_t len = 0;
    enum chv_err err = chv_info_check(info, &len);
    if (err == CHV_OK)
        err = chv_hkdf_expand(crypto, CHV_HASH_SHA256, master, CHV_SECRET_LEN, info, len, value, sizeof value);
    if (err == CHV_OK)
        memcpy(check, value, CHV_CHECK_MASTER_LEN);
    chv_wipe(value, sizeof value);
    return err;
}

/* A JSON Web Key (RFC 7517) with members of ours beside it.  Text of the secret is where jansson wipes it. */
static enum chv_err backup_encode(struct chv_backup *b, size_t *len, struct chv_why *why)
{
    char label[CHV_LABEL_MAX + 1], check[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN)], k[CHV_BASE64_SIZE(CHV_SECRET_LEN)];
    const struct chv_backup_info *i = &b->info;
    chv_file_json_setup();
    chv_backup_label(b, label);
    chv_hex_encode(i->check, sizeof i->check, check);
    chv_base64_encode(b->master, sizeof b->master, k);
    json_t *o = json_pack("{ss ss sI ss ss ss ss}", "format", backup_format, "server", i->server, "epoch",
                          (json_int_t)i->epoch, "key_check", check, "kty", "oct", "kid", label, "k", k);
    chv_wipe(k, sizeof k);
    bool failed =
        o == NULL || (i->address[0] != '\0' && json_object_set_new(o, "address", json_string(i->address)) != 0);
    *len = failed ? 0 : json_dumpb(o, (char *)b->plain, sizeof b->plain, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(o);
    if (*len == 0 || *len > sizeof b->plain)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the backup");
    return CHV_OK;
}

static const char *backup_text(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text == NULL ? "" : text;
}

static bool backup_decode(struct chv_backup *b, const json_t *o)
{
    char label[CHV_LABEL_MAX + 1];
    struct chv_backup_info *i = &b->info;
    size_t key_len = sizeof b->master, check_len = sizeof i->check;
    json_int_t epoch = json_integer_value(json_object_get(o, "epoch"));
    const char *k = backup_text(o, "k"), *check = backup_text(o, "key_check"), *address = backup_text(o, "address");
    if (strcmp(backup_text(o, "format"), backup_format) != 0 || strcmp(backup_text(o, "kty"), "oct") != 0 ||
        epoch < 1 || epoch > UINT32_MAX || !chv_server_name_valid(backup_text(o, "server")) ||
        (address[0] != '\0' && chv_provision_address(address, NULL) != CHV_OK))
        return false;
    (void)snprintf(i->server, sizeof i->server, "%s", backup_text(o, "server"));
    (void)snprintf(i->address, sizeof i->address, "%s", address);
    i->epoch = (uint32_t)epoch;
    chv_backup_label(b, label);
    return strcmp(backup_text(o, "kid"), label) == 0 &&
           chv_base64_decode(k, strlen(k), b->master, &key_len) == CHV_OK && key_len == sizeof b->master &&
           chv_hex_decode(check, strlen(check), i->check, &check_len) == CHV_OK && check_len == sizeof i->check;
}

static enum chv_err backup_verify(const struct chv_backup *b, const char *file, struct chv_why *why)
{
    struct chv_crypto crypto;
    uint8_t check[CHV_CHECK_MASTER_LEN];
    char has[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN)], says[CHV_HEX_SIZE(CHV_CHECK_MASTER_LEN)];
    enum chv_err err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    err = backup_check(&crypto, b->master, check);
    chv_backend_close(&crypto);
    if (err != CHV_OK || memcmp(check, b->info.check, sizeof check) == 0)
        return err;
    chv_hex_encode(check, sizeof check, has);
    chv_hex_encode(b->info.check, sizeof check, says);
    return chv_fail(why, CHV_ERR_STORE_DAMAGED,
                    "%s: the key check value differs: it says %s, its key has %s: it was changed, or is of two backups",
                    file, says, has);
}

enum chv_err chv_backup_read(const char *file, const char *key, struct chv_secret_source *secret,
                             struct chv_backup **backup, struct chv_why *why)
{
    struct chv_backup *b = backup_new();
    size_t len = BACKUP_PLAIN_MAX;
    if (b == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = chv_cms_open(file, key, secret, b->plain, &len, why);
    if (err == CHV_OK) {
        chv_file_json_setup();
        json_t *o = json_loadb((const char *)b->plain, len, JSON_REJECT_DUPLICATES, NULL);
        if (!backup_decode(b, o))
            err = chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: opens, but what is in it is no backup of a master", file);
        json_decref(o);
    }
    chv_wipe(b->plain, sizeof b->plain);
    if (err == CHV_OK)
        err = backup_verify(b, file, why);
    if (err != CHV_OK) {
        chv_backup_free(b);
        return err;
    }
    *backup = b;
    return CHV_OK;
}

/* --- making one ----------------------------------------------------------------------------------------------------
 */

enum chv_err chv_backup_plan(const char *certificate, const char *file, struct chv_backup **backup, struct chv_why *why)
{
    struct stat st;
    if (lstat(file, &st) == 0)
        return chv_fail(why, CHV_ERR_EXISTS, "%s is there already and will not be overwritten", file);
    struct chv_backup *b = backup_new();
    if (b == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = chv_cms_recipient_load(certificate, &b->recipient, why);
    if (err != CHV_OK) {
        chv_backup_free(b);
        return err;
    }
    b->file = file;
    *backup = b;
    return CHV_OK;
}

static void backup_sync_folder(const char *file)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(file, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - file) + 1,
                   slash == NULL ? "." : file);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

static bool backup_write(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

/* Replaces nothing, also on file systems without hard links, such as those of memory sticks. */
static bool backup_name(const char *temporary, const char *file)
{
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, file, RENAME_NOREPLACE) == 0)
        return true;
    return errno == EINVAL && link(temporary, file) == 0 && unlink(temporary) == 0;
}

static enum chv_err backup_place(const char *file, const char *text, size_t len, struct chv_why *why)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", file) >= (int)sizeof temporary)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", file);
    int fd = mkstemp(temporary); /* mode 0600 */
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "backup %s: %s", file, strerror(errno));
    bool ok = backup_write(fd, text, len);
    int saved = errno;
    if (close(fd) != 0 && ok) {
        saved = errno;
        ok = false;
    }
    if (ok && backup_name(temporary, file)) {
        backup_sync_folder(file);
        return CHV_OK;
    }
    if (ok)
        saved = errno;
    (void)unlink(temporary);
    return chv_fail(why, saved == EEXIST ? CHV_ERR_EXISTS : CHV_ERR_IO, "backup %s: %s", file, strerror(saved));
}

enum chv_err chv_backup_make(struct chv_backup *backup, const char *server, const char *address, uint32_t epoch,
                             struct chv_why *why)
{
    struct chv_crypto crypto;
    struct chv_backup_info *i = &backup->info;
    char *text = NULL;
    size_t len = 0, text_len = 0;
    (void)snprintf(i->server, sizeof i->server, "%s", server);
    (void)snprintf(i->address, sizeof i->address, "%s", address != NULL ? address : "");
    i->epoch = epoch;
    enum chv_err err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_crypto_random(&crypto, backup->master, sizeof backup->master);
    if (err == CHV_OK)
        err = backup_check(&crypto, backup->master, i->check);
    chv_backend_close(&crypto);
    if (err == CHV_OK)
        err = backup_encode(backup, &len, why);
    if (err == CHV_OK)
        err = chv_cms_seal(backup->recipient, backup->plain, len, &text, &text_len, why);
    chv_wipe(backup->plain, sizeof backup->plain);
    if (err == CHV_OK)
        err = backup_place(backup->file, text, text_len, why);
    backup->written = err == CHV_OK;
    free(text);
    return err;
}

void chv_backup_unmake(struct chv_backup *backup)
{
    if (backup != NULL && backup->written)
        (void)unlink(backup->file);
}

/* A data item that says that there are backups: later masters are to be in one, too. */
static const char backup_mark[] = "backup";

bool chv_backup_was_made(struct chv_keystore *ks)
{
    uint8_t there[CHV_KEYSTORE_DATA_MAX];
    size_t len = sizeof there;
    return chv_keystore_data_get(ks, backup_mark, there, &len, NULL) == CHV_OK;
}

static void backup_put_mark(struct chv_keystore *ks)
{
    static const uint8_t yes[] = {'y', 'e', 's'};
    enum chv_err err = chv_backup_was_made(ks) ? CHV_OK : chv_keystore_data_put(ks, backup_mark, yes, sizeof yes, NULL);
    (void)err; /* without it there is no warning later on */
}

enum chv_err chv_backup_import(const struct chv_backup *backup, struct chv_keystore *ks, struct chv_why *why)
{
    char label[CHV_LABEL_MAX + 1];
    uint8_t check[CHV_SECRET_LEN];
    chv_backup_label(backup, label);
    enum chv_err err = chv_keystore_import(ks, label, backup->master, why);
    if (err != CHV_OK)
        return err;
    err = chv_provision_check_stored(ks, label, check, why);
    if (err == CHV_OK && memcmp(check, backup->info.check, CHV_CHECK_MASTER_LEN) != 0)
        err = chv_fail(why, CHV_ERR_KEY, "the keystore computes another key check value than the backup has");
    if (err != CHV_OK) {
        enum chv_err gone = chv_keystore_remove(ks, label, NULL);
        (void)gone; /* the first failure is what is told */
        return err;
    }
    backup_put_mark(ks);
    return CHV_OK;
}
