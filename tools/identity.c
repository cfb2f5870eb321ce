/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/identity.h"

#include "keystore/file_pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Nobody has a passphrase for a public key. */
static enum chv_err identity_no_secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                       struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)out;
    (void)cap;
    (void)len;
    return chv_fail(why, CHV_ERR_NO_SECRET, "a file with the public key only is wanted here, not a private one");
}

static enum chv_err identity_from_pem(const char *path, struct chv_identity *identity, struct chv_why *why)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    char uri[CHV_TOKEN_URI_SIZE];
    struct chv_keystore *ks = NULL;
    if (snprintf(uri, sizeof uri, "pem:%s", path) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", path);
    enum chv_err err = chv_keystore_open(uri, &options, &ks, why);
    if (err == CHV_OK)
        err = chv_keystore_unlock(ks, identity_no_secret, NULL, why);
    if (err == CHV_OK)
        err = chv_identity_of(ks, identity, why);
    chv_keystore_close(ks);
    return err;
}

enum chv_err chv_identity_public(const char *text, struct chv_identity *identity, struct chv_why *why)
{
    char curve[16];
    size_t n = strcspn(text, " \t");
    const char *key = text + n + strspn(text + n, " \t");
    if (*key == '\0' || n >= sizeof curve)
        return identity_from_pem(text, identity, why);
    memcpy(curve, text, n);
    curve[n] = '\0';
    if (chv_identity_curve_find(curve, &identity->curve) != CHV_OK)
        return identity_from_pem(text, identity, why);
    if (chv_identity_parse(curve, key, identity) != CHV_OK)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "'%.100s' is no public key: write x25519 BASE64, p256 BASE64 or the name of a PEM file", text);
    return CHV_OK;
}

enum chv_err chv_identity_uri(const char *given, const char *module, char out[CHV_TOKEN_URI_SIZE], struct chv_why *why)
{
    const char *scheme = "";
    if (strncmp(given, "pem:", 4) != 0 && strncmp(given, "file:", 5) != 0 && !chv_token_uri_is(given))
        scheme = access(given, F_OK) != 0 || chv_pem_is(given) ? "pem:" : "file:";
    if (scheme[0] == '\0')
        return chv_token_uri(given, module, NULL, out, why);
    if (module != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--module is for tokens: %.200s is a file", given);
    if (snprintf(out, CHV_TOKEN_URI_SIZE, "%s%s", scheme, given) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%.60s...: the name is too long", given);
    return CHV_OK;
}

enum chv_err chv_identity_of(struct chv_keystore *ks, struct chv_identity *identity, struct chv_why *why)
{
    struct chv_identity found;
    memset(&found, 0, sizeof found);
    enum chv_err err = chv_keystore_public_key(ks, CHV_IDENTITY_LABEL, &found.curve, found.public_key, why);
    if (err == CHV_OK)
        *identity = found;
    return err;
}

enum chv_err chv_identity_digest(const struct chv_identity *identity, uint8_t out[CHV_IDENTITY_HASH_LEN],
                                 struct chv_why *why)
{
    struct chv_crypto crypto;
    enum chv_err err = chv_backend_open("openssl", &crypto, why);
    if (err != CHV_OK)
        return err;
    err = chv_identity_hash(&crypto, identity->curve, identity->public_key, out);
    chv_backend_close(&crypto);
    return err;
}

enum chv_err chv_identity_fingerprint(const struct chv_identity *identity, char out[CHV_FINGERPRINT_MAX],
                                      struct chv_why *why)
{
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
    enum chv_err err = chv_identity_digest(identity, hash, why);
    if (err == CHV_OK)
        chv_fingerprint_format(hash, out);
    return err;
}

enum chv_err chv_identity_write(const struct chv_identity *identity, const char *path, struct chv_why *why)
{
    char text[CHV_PEM_TEXT_MAX];
    enum chv_err err = chv_pem_public(identity, text, why);
    if (err != CHV_OK)
        return err;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 && errno == EEXIST)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", path);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", path, strerror(errno));
    size_t len = strlen(text);
    /* A short write of less than a block is a full disk. */
    if (write(fd, text, len) != (ssize_t)len || fchmod(fd, 0644) != 0 || fsync(fd) != 0) {
        err = chv_fail(why, CHV_ERR_IO, "%s: %s", path, errno != 0 ? strerror(errno) : "no room");
        (void)unlink(path);
    }
    (void)close(fd);
    return err;
}

enum chv_err chv_identity_server_file(const char *config_file, char out[PATH_MAX], struct chv_why *why)
{
    const char *slash = strrchr(config_file, '/');
    int dir = slash != NULL ? (int)(slash - config_file) + 1 : 0;
    if (snprintf(out, PATH_MAX, "%.*s%s", dir, config_file, CHV_IDENTITY_SERVER_FILE) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", config_file);
    return CHV_OK;
}
