/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin receipt new-key, public-key, verify: the server's key that signs receipts, and what it has signed. */
#include "tools/keyadmin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/encode.h"
#include "keystore/file_pem.h"
#include "services/files_digest.h"
#include "tools/identity.h"
#include "tools/receipt.h"
#include "tools/times.h"

/* The public key, in the folder of the server's configuration. */
#define RECEIPT_PUBLIC "receipt.pub"

enum { READ_SIZE = 64 * 1024 };

struct receipt_made {
    struct chv_identity key;
    char public_file[PATH_MAX], old_file[PATH_MAX]; /* "": none */
};

static enum chv_err receipt_public_file(const char *config_file, char out[PATH_MAX], struct chv_why *why)
{
    const char *slash = strrchr(config_file, '/');
    int dir = slash != NULL ? (int)(slash - config_file) + 1 : 0;
    if (snprintf(out, PATH_MAX, "%.*s%s", dir, config_file, RECEIPT_PUBLIC) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", config_file);
    return CHV_OK;
}

static enum chv_err receipt_key_of(struct chv_keystore *ks, struct chv_identity *key, struct chv_why *why)
{
    struct chv_identity found;
    memset(&found, 0, sizeof found);
    enum chv_err err = chv_keystore_public_key(ks, CHV_RECEIPT_LABEL, &found.curve, found.public_key, why);
    if (err == CHV_ERR_NOT_FOUND)
        return chv_fail(why, err, "there is no receipt key in the keystore: 'keyadmin receipt new-key' makes one");
    if (err == CHV_OK)
        *key = found;
    return err;
}

/* --replace: where the public half of the key that goes stays, for the receipts that it has signed. */
static enum chv_err receipt_old_file(const char *public_file, char out[PATH_MAX], struct chv_why *why)
{
    char now[CHV_TIME_TEXT];
    size_t n = 0;
    chv_time_format(chv_time_now(), now);
    for (const char *p = now; *p != '\0'; p++) /* 20260301T120000Z */
        if (*p != '-' && *p != ':')
            now[n++] = *p;
    now[n] = '\0';
    if (snprintf(out, PATH_MAX, "%.*s-until-%s.pub", (int)(strlen(public_file) - strlen(".pub")), public_file, now) >=
        PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", public_file);
    return CHV_OK;
}

/* --- new-key, public-key ------------------------------------------------------------------------------------------- */

/* Takes the old key, if there is one (*removed), out of the way; its public half gets another name. */
static enum chv_err receipt_retire(struct chv_keystore *ks, const char *public_file, char old_file[PATH_MAX],
                                   bool *removed, struct chv_why *why)
{
    char name[PATH_MAX] = "";
    enum chv_err err = chv_keystore_remove(ks, CHV_RECEIPT_LABEL, why);
    *removed = err == CHV_OK;
    if (err == CHV_ERR_NOT_FOUND)
        err = CHV_OK;
    if (err != CHV_OK || public_file[0] == '\0' || access(public_file, F_OK) != 0)
        return err;
    err = receipt_old_file(public_file, name, why);
    if (err == CHV_OK && renameat2(AT_FDCWD, public_file, AT_FDCWD, name, RENAME_NOREPLACE) != 0)
        err = chv_fail(why, CHV_ERR_IO, "%s: cannot be renamed to %s: %s", public_file, name, strerror(errno));
    if (err == CHV_OK)
        memcpy(old_file, name, sizeof name);
    return err;
}

static enum chv_err receipt_make(const struct chv_cli_args *args, struct receipt_made *made, struct chv_why *why)
{
    struct keyadmin_server server = {0};
    bool written = false, generated = false, removed = false;
    enum chv_err err = keyadmin_server_open_for(args, CHV_KEYSTORE_WRITE, &server, why);
    if (err == CHV_OK && server.config_file != NULL)
        err = receipt_public_file(server.config_file, made->public_file, why);
    if (err == CHV_OK && chv_cli_given(args, "replace"))
        err = receipt_retire(server.keystore, made->public_file, made->old_file, &removed, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(server.keystore, CHV_RECEIPT_LABEL, CHV_USE_RECEIPT, CHV_CURVE_P256, why);
    generated = err == CHV_OK;
    if (err == CHV_OK)
        err = receipt_key_of(server.keystore, &made->key, why);
    if (err == CHV_OK && made->public_file[0] != '\0') {
        err = chv_identity_write(&made->key, made->public_file, why);
        written = err == CHV_OK;
    }
    if (err == CHV_OK)
        err = chv_keystore_commit(server.keystore, why);
    if (err != CHV_OK && written)
        (void)unlink(made->public_file);
    if (err != CHV_OK && made->old_file[0] != '\0')
        (void)renameat2(AT_FDCWD, made->old_file, AT_FDCWD, made->public_file, RENAME_NOREPLACE);
    if (err != CHV_OK && generated) { /* a token keeps at once what it makes */
        enum chv_err undone = chv_keystore_remove(server.keystore, CHV_RECEIPT_LABEL, NULL);
        (void)undone;
    }
    if (err != CHV_OK && removed &&
        chv_token_uri_is(server.uri)) { /* which has one place for it, and takes out at once */
        const struct chv_why first = *why;
        err = chv_fail(why, err, "%s; the old key is destroyed: no receipts are signed until this was run again",
                       first.text[0] != '\0' ? first.text : chv_err_text(err));
    }
    keyadmin_server_close(&server);
    return err;
}

/* A key in PEM text has a passphrase only if one is given: the server takes one that has none. */
static enum chv_err receipt_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                   struct chv_why *why)
{
    const struct chv_secret_source *source = arg;
    *len = 0;
    return source->kind == CHV_SECRET_DEFAULT ? CHV_OK : chv_secret_get(arg, prompt, confirm, out, cap, len, why);
}

/* --out: into a file of its own. */
static enum chv_err receipt_make_file(const struct chv_cli_args *args, const char *file, struct receipt_made *made,
                                      struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret;
    const struct chv_provision_store store = {.uri = uri, .secret = receipt_secret, .secret_arg = &secret};
    struct chv_keystore *ks = NULL;
    if (chv_cli_given(args, "config") || chv_cli_given(args, "keystore") || chv_cli_given(args, "replace"))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "--out makes a new file: --config, --keystore and --replace are for a key "
                        "in the server's keystore");
    if (snprintf(made->public_file, PATH_MAX, "%s.pub", file) >= PATH_MAX ||
        snprintf(uri, sizeof uri, "pem:%s", file) >= (int)sizeof uri)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--out: the name is too long");
    enum chv_err err = keyadmin_secret(args, uri, &secret, why);
    if (err == CHV_OK)
        err = chv_provision_open(&store, CHV_KEYSTORE_CREATE, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, CHV_RECEIPT_LABEL, CHV_USE_RECEIPT, CHV_CURVE_P256, why);
    if (err == CHV_OK)
        err = receipt_key_of(ks, &made->key, why);
    if (err == CHV_OK)
        err = chv_identity_write(&made->key, made->public_file, why);
    const bool written = err == CHV_OK;
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    if (err != CHV_OK && written)
        (void)unlink(made->public_file);
    chv_keystore_close(ks);
    return err;
}

static enum chv_err receipt_describe_key(json_t *o, const struct chv_identity *key, struct chv_why *why)
{
    char text[CHV_IDENTITY_TEXT_MAX], fingerprint[CHV_FINGERPRINT_MAX];
    enum chv_err err = chv_identity_fingerprint(key, fingerprint, why);
    if (err != CHV_OK)
        return err;
    chv_identity_format(key, text);
    (void)json_object_set_new(o, "receipt_key", json_string(text));
    (void)json_object_set_new(o, "fingerprint", json_string(fingerprint));
    return CHV_OK;
}

int keyadmin_receipt_new_key(const struct chv_cli_args *args)
{
    struct receipt_made made = {.key = {.curve = CHV_CURVE_P256}};
    struct chv_why why = {""};
    json_t *o = json_object();

    chv_cli_hold_signals();
    const char *out = chv_cli_value(args, "out");
    enum chv_err err = o == NULL     ? CHV_ERR_MEMORY
                       : out != NULL ? receipt_make_file(args, out, &made, &why)
                                     : receipt_make(args, &made, &why);
    if (err == CHV_OK)
        err = receipt_describe_key(o, &made.key, &why);
    if (err == CHV_OK) {
        if (out != NULL)
            (void)json_object_set_new(o, "file", json_string(out));
        if (made.public_file[0] != '\0')
            (void)json_object_set_new(o, "public_file", json_string(made.public_file));
        if (made.old_file[0] != '\0')
            (void)json_object_set_new(o, "old_public_file", json_string(made.old_file));
        chv_cli_print(json_incref(o), chv_cli_given(args, "json"));
    }
    json_decref(o);
    int code = err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
    chv_cli_release_signals();
    return code;
}

/* Of a key in PEM text that has no passphrase. */
static enum chv_err receipt_key_in(const char *file, struct chv_identity *key, struct chv_why *why)
{
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_secret_source secret = {.kind = CHV_SECRET_DEFAULT};
    const struct chv_provision_store store = {.uri = uri, .secret = chv_secret_get, .secret_arg = &secret};
    struct chv_keystore *ks = NULL;
    if (snprintf(uri, sizeof uri, "pem:%s", file) >= (int)sizeof uri)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", file);
    enum chv_err err = chv_provision_open(&store, CHV_KEYSTORE_READ, &ks, why);
    if (err == CHV_OK)
        err = receipt_key_of(ks, key, why);
    chv_keystore_close(ks);
    return err;
}

int keyadmin_receipt_public_key(const struct chv_cli_args *args)
{
    struct keyadmin_server server = {0};
    struct chv_identity key = {.curve = CHV_CURVE_P256};
    struct chv_why why = {""};
    char pem[CHV_PEM_TEXT_MAX];
    json_t *o = json_object();

    enum chv_err err = o == NULL ? CHV_ERR_MEMORY : keyadmin_server_find(args, &server, &why);
    const bool in_file = err == CHV_OK && server.config != NULL && server.config->files.receipt_key[0] != '\0';
    if (in_file) {
        err = receipt_key_in(server.config->files.receipt_key, &key, &why);
    } else if (err == CHV_OK) {
        keyadmin_server_close(&server);
        err = keyadmin_server_open(args, &server, &why);
        if (err == CHV_OK)
            err = receipt_key_of(server.keystore, &key, &why);
    }
    if (err == CHV_OK)
        err = chv_pem_public(&key, pem, &why);
    if (err == CHV_OK)
        err = receipt_describe_key(o, &key, &why);
    if (err == CHV_OK && chv_cli_given(args, "json"))
        chv_cli_print(json_incref(o), true);
    else if (err == CHV_OK)
        printf("%s", pem);
    json_decref(o);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}

/* --- verify -------------------------------------------------------------------------------------------------------- */

static enum chv_err receipt_find_key(const struct chv_cli_args *args, struct chv_identity *key, struct chv_why *why)
{
    struct keyadmin_server server = {0};
    char file[PATH_MAX];
    const char *given = chv_cli_value(args, "key");
    if (given != NULL)
        return chv_identity_public(given, key, why);
    enum chv_err err = keyadmin_server_config(args, &server, why);
    if (err == CHV_ERR_NOT_FOUND)
        err = chv_fail(why, err, "whose receipt is it? Give the server's public key with --key receipt.pub");
    if (err == CHV_OK && server.config->files.receipt_key[0] != '\0')
        err = snprintf(file, sizeof file, "%s.pub", server.config->files.receipt_key) < (int)sizeof file
                  ? CHV_OK
                  : chv_fail(why, CHV_ERR_ARGUMENT, "receipt-key: the name is too long");
    else if (err == CHV_OK)
        err = receipt_public_file(server.config_file, file, why);
    if (err == CHV_OK)
        err = chv_identity_public(file, key, why);
    keyadmin_server_close(&server);
    return err;
}

/* Size and SHA-256 of a file. */
static enum chv_err receipt_digest(const char *name, uint64_t *size, uint8_t out[CHV_FILES_DIGEST_LEN],
                                   struct chv_why *why)
{
    static uint8_t buf[READ_SIZE];
    struct chv_files_digest *digest = NULL;
    struct stat st;
    enum chv_err err = CHV_OK;
    ssize_t n = 1;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", name, strerror(errno));
    *size = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        err = chv_fail(why, CHV_ERR_IO, "%s: is no regular file", name);
    if (err == CHV_OK)
        err = chv_files_digest_new(&digest);
    while (err == CHV_OK && n != 0) {
        n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = chv_fail(why, CHV_ERR_IO, "%s: %s", name, strerror(errno));
        else
            err = chv_files_digest_add(digest, buf, (size_t)n);
        *size += n > 0 ? (uint64_t)n : 0;
    }
    if (err == CHV_OK)
        err = chv_files_digest_finish(digest, out);
    chv_files_digest_free(digest);
    (void)close(fd);
    return err;
}

/* --content: what the receipt is about. */
static enum chv_err receipt_compare(const struct chv_cli_args *args, const struct chv_receipt *receipt,
                                    struct chv_why *why)
{
    uint8_t digest[CHV_FILES_DIGEST_LEN];
    uint64_t size = 0;
    const char *name = chv_cli_value(args, "content");
    if (name == NULL)
        return CHV_OK;
    enum chv_err err = receipt_digest(name, &size, digest, why);
    if (err == CHV_OK && (size != receipt->size || memcmp(digest, receipt->sha256, sizeof digest) != 0))
        err = chv_fail(why, CHV_ERR_DAMAGED, "%s: is not the file of this receipt: its size or SHA-256 differs", name);
    return err;
}

static enum chv_err receipt_describe(const struct chv_cli_args *args, const struct chv_receipt *receipt,
                                     const struct chv_identity *key, struct chv_why *why)
{
    char hex[CHV_HEX_SIZE(CHV_RECEIPT_DIGEST_LEN)], when[CHV_TIME_TEXT];
    chv_hex_encode(receipt->sha256, sizeof receipt->sha256, hex);
    chv_time_format(receipt->time, when);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s}", "signature", "good", "server", receipt->server,
                          "client", receipt->client, "path", receipt->path, "size", (json_int_t)receipt->size, "sha256",
                          hex, "time", when);
    enum chv_err err = o == NULL ? CHV_ERR_MEMORY : receipt_describe_key(o, key, why);
    if (err == CHV_OK && chv_cli_given(args, "content"))
        (void)json_object_set_new(o, "content", json_string("the same"));
    if (err == CHV_OK)
        chv_cli_print(json_incref(o), chv_cli_given(args, "json"));
    json_decref(o);
    return err;
}

int keyadmin_receipt_verify(const struct chv_cli_args *args)
{
    struct chv_receipt_signed sealed;
    struct chv_receipt receipt;
    struct chv_identity key = {.curve = CHV_CURVE_P256};
    struct chv_why why = {""};
    enum chv_err err = receipt_find_key(args, &key, &why);
    if (err == CHV_OK)
        err = chv_receipt_read(args->operands[0], &sealed, &why);
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    err = chv_receipt_open(&sealed, &key, &receipt, &why);
    if (err != CHV_OK)
        return chv_cli_error(err, &why, "%s", args->operands[0]);
    err = receipt_compare(args, &receipt, &why);
    if (err == CHV_OK)
        err = receipt_describe(args, &receipt, &key, &why);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
