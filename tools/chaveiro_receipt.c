/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/chaveiro_receipt.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "tools/identity.h"
#include "tools/receipt.h"

#define RECEIPT_SUFFIX ".receipt"

int chaveiro_receipts_init(struct chaveiro_receipts *r, const struct chv_cli_args *args, bool many)
{
    struct stat st;
    memset(r, 0, sizeof *r);
    r->where = chv_cli_value(args, "receipt");
    if (r->where == NULL)
        return EX_OK;
    const size_t len = strlen(r->where);
    if (len == 0)
        return chv_cli_fail(EX_USAGE, "--receipt: give a file or a folder");
    r->folder = r->where[len - 1] == '/' || (stat(r->where, &st) == 0 && S_ISDIR(st.st_mode));
    if (many && !r->folder)
        return chv_cli_fail(EX_USAGE, "--receipt '%.200s': for several files name a folder", r->where);
    return EX_OK;
}

/* --- before -------------------------------------------------------------------------------------------------------- */

/* FOLDER/PATH.receipt, or the file that was named. */
static enum chv_err receipt_name(const struct chaveiro_receipts *r, const char *path, char out[PATH_MAX],
                                 struct chv_why *why)
{
    const size_t len = strlen(r->where);
    int n = r->folder
                ? snprintf(out, PATH_MAX, "%s%s%s" RECEIPT_SUFFIX, r->where, r->where[len - 1] == '/' ? "" : "/", path)
                : snprintf(out, PATH_MAX, "%s", r->where);
    return n > 0 && n < PATH_MAX
               ? CHV_OK
               : chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the receipt's name is too long", r->where);
}

/* The folders of a name that begins with r->where. The path on the server has neither "." nor ".." in it. */
static enum chv_err make_folders(const struct chaveiro_receipts *r, char *name, struct chv_why *why)
{
    for (char *slash = strchr(name + strlen(r->where) - 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const int failed = name[0] == '\0' || mkdir(name, 0777) == 0 || errno == EEXIST ? 0 : errno;
        if (failed != 0)
            (void)chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(failed));
        *slash = '/';
        if (failed != 0)
            return CHV_ERR_IO;
    }
    return CHV_OK;
}

static enum chv_err take_key(struct chaveiro_receipts *r, const struct chaveiro_link *link, struct chv_why *why)
{
    const char *given = chv_cli_value(link->args, "receipt-key");
    if (given == NULL && link->config.receipt_key[0] != '\0')
        given = link->config.receipt_key;
    r->checked = true;
    if (given == NULL)
        return CHV_OK;
    enum chv_err err = chv_identity_public(given, &r->key, why);
    if (err == CHV_OK && r->key.curve != CHV_CURVE_P256)
        err = chv_fail(why, CHV_ERR_ARGUMENT,
                       "receipt-key: an X25519 key signs no receipts: give the server's "
                       "receipt.pub");
    r->has_key = err == CHV_OK;
    return err;
}

int chaveiro_receipts_plan(struct chaveiro_receipts *r, const struct chaveiro_link *link, const char *path)
{
    struct chv_why why = {""};
    char name[PATH_MAX];
    if (r->where == NULL)
        return EX_OK;
    enum chv_err err = r->checked ? CHV_OK : take_key(r, link, &why);
    if (err == CHV_OK)
        err = receipt_name(r, path, name, &why);
    if (err == CHV_OK && r->folder)
        err = make_folders(r, name, &why);
    if (err == CHV_OK)
        err = chv_receipt_absent(name, &why);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- behind -------------------------------------------------------------------------------------------------------- */

/* NULL, or what is wrong with it. */
static const char *compare(const struct chv_receipt *receipt, const struct chv_client_key *key, const char *path,
                           uint64_t size, const uint8_t *digest)
{
    if (key->parsed.id[0] != '\0' && strcmp(receipt->client, key->parsed.id) != 0)
        return "it is for another client";
    if (key->server[0] != '\0' && strcmp(receipt->server, key->server) != 0)
        return "it is of another server";
    if (strcmp(receipt->path, path) != 0)
        return "it is of another path";
    if (receipt->size != size || memcmp(receipt->sha256, digest, sizeof receipt->sha256) != 0)
        return "it is of another content";
    return NULL;
}

int chaveiro_receipts_take(const struct chaveiro_receipts *r, const struct chaveiro_link *link, const char *path,
                           uint64_t size, const uint8_t digest[static CHV_FILES_DIGEST_LEN],
                           const struct chv_files_answer *answer)
{
    static const char stored[] = "the file is stored, but";
    struct chv_receipt_signed sealed = {.signature_len = answer->signature_len};
    struct chv_receipt receipt;
    struct chv_why why = {""};
    char name[PATH_MAX];
    if (r->where == NULL)
        return EX_OK;
    if (!answer->has_receipt)
        return chv_cli_fail(EX_UNAVAILABLE, "%s: %s there is no receipt: %s", path, stored,
                            answer->text[0] != '\0' ? answer->text : "the server knows of none");
    sealed.text_len = strlen(answer->receipt);
    memcpy(sealed.text, answer->receipt, sealed.text_len + 1);
    memcpy(sealed.signature, answer->signature, sealed.signature_len);
    enum chv_err err = chv_receipt_open(&sealed, r->has_key ? &r->key : NULL, &receipt, &why);
    const char *wrong = err != CHV_OK ? why.text : compare(&receipt, &link->key, path, size, digest);
    if (wrong != NULL)
        return chv_cli_fail(EX_PROTOCOL, "%s: %s its receipt is refused: %s", path, stored, wrong);
    err = receipt_name(r, path, name, &why);
    if (err == CHV_OK)
        err = chv_receipt_write(name, &sealed, &why);
    return err == CHV_OK ? EX_OK : chv_cli_error(err, &why, "%s: %s its receipt cannot be written", path, stored);
}
