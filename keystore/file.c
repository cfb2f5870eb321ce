/* SPDX-License-Identifier: Apache-2.0 */
/* The file keystore: its vtable, and what it holds between open and close. */
#include "keystore/file.h"

#include <openssl/crypto.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "core/hkdf.h"

struct file_store {
    struct chv_keystore base;
    char *path;
    enum chv_keystore_mode mode;
    struct chv_file_place place;
    struct chv_file_envelope envelope; /* as read; empty for a new file and once unlocked */
    struct chv_file_cost cost;
    struct chv_crypto crypto;
    OSSL_LIB_CTX *ossl;
    bool unlocked;
    /* Writers only: every commit takes a fresh salt, so scrypt must run again. Secure memory, wiped by close. */
    char *passphrase;
    size_t passphrase_len;
    struct chv_file_contents contents;
};

static struct file_store *store_of(struct chv_keystore *ks)
{
    return (struct file_store *)ks;
}

static void file_close(struct chv_keystore *ks)
{
    struct file_store *s = store_of(ks);
    if (s == NULL)
        return;
    chv_file_contents_free(&s->contents);
    chv_secure_free(s->passphrase, CHV_FILE_PASSPHRASE_MAX);
    chv_file_envelope_free(&s->envelope);
    chv_file_leave(&s->place);
    chv_backend_close(&s->crypto);
    OSSL_LIB_CTX_free(s->ossl);
    free(s->path);
    free(s);
}

static enum chv_err check_new(const struct file_store *s, struct chv_why *why)
{
    struct stat st;
    enum chv_err err = chv_file_cost_check(&s->cost, s->path, why);
    if (err == CHV_OK && lstat(s->path, &st) == 0)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: exists already: choose another name or move it away", s->path);
    return err;
}

static enum chv_err read_existing(struct file_store *s, struct chv_why *why)
{
    char *text = NULL;
    size_t len = 0;
    enum chv_err err = chv_file_read(&s->place, &text, &len, why);
    if (err == CHV_OK)
        err = chv_file_envelope_parse(&s->envelope, &s->crypto, s->path, text, len, why);
    if (err == CHV_OK)
        s->cost = s->envelope.cost;
    free(text);
    return err;
}

/* Everything of open() that can fail, on an allocated store. */
static enum chv_err prepare(struct file_store *s, const struct chv_keystore_options *options, struct chv_why *why)
{
    chv_file_json_setup();
    s->ossl = OSSL_LIB_CTX_new();
    if (s->ossl == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    enum chv_err err = chv_backend_open("openssl", &s->crypto, why);
    if (err != CHV_OK)
        return err;
    s->contents.crypto = &s->crypto;
    err = chv_file_locate(&s->place, s->path, s->mode, why);
    if (err == CHV_OK && s->mode != CHV_KEYSTORE_READ)
        err = chv_file_lock(&s->place, options->lock_seconds, why);
    if (err != CHV_OK)
        return err;
    return s->mode == CHV_KEYSTORE_CREATE ? check_new(s, why) : read_existing(s, why);
}

static enum chv_err file_open(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                              struct chv_why *why)
{
    static const char scheme[] = "file:";
    const char *path = strncmp(uri, scheme, strlen(scheme)) == 0 ? uri + strlen(scheme) : uri;
    if (path[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "keystore '%s': no path stands behind the scheme: write file:PATH", uri);
    struct file_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    s->base.ops = &chv_keystore_file_ops;
    s->mode = options->mode;
    s->cost = (struct chv_file_cost){options->scrypt_n == 0 ? CHV_FILE_N_DEFAULT : options->scrypt_n,
                                     CHV_FILE_R_DEFAULT, CHV_FILE_P_DEFAULT};
    s->place = (struct chv_file_place){.dir = -1, .lock = -1};
    s->path = strdup(path);
    enum chv_err err =
        s->path == NULL ? chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path) : prepare(s, options, why);
    if (err != CHV_OK) {
        file_close(&s->base);
        return err;
    }
    *ks = &s->base;
    return CHV_OK;
}

/* One line without a colon, whatever the path has in it. */
static void make_prompt(const char *path, int confirm, char *out, size_t size)
{
    (void)snprintf(out, size, "%s for keystore %s", confirm ? "New passphrase" : "Passphrase", path);
    for (; *out != '\0'; out++)
        if (*out == ':' || (unsigned char)*out < ' ' || *out == 0x7f)
            *out = '?';
}

static enum chv_err ask(struct file_store *s, chv_secret_fn secret, void *arg, char *out, size_t *len,
                        struct chv_why *why)
{
    char prompt[256];
    int confirm = s->mode == CHV_KEYSTORE_CREATE;
    make_prompt(s->path, confirm, prompt, sizeof prompt);
    enum chv_err err = secret(arg, prompt, confirm, out, CHV_FILE_PASSPHRASE_MAX, len, why);
    if (err != CHV_OK)
        return err;
    if (*len == 0)
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s: an empty passphrase is refused", s->path);
    if (*len > CHV_FILE_PASSPHRASE_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the passphrase has more than %d bytes", s->path,
                        CHV_FILE_PASSPHRASE_MAX);
    return CHV_OK;
}

static enum chv_err load(struct file_store *s, const char *passphrase, size_t len, struct chv_why *why)
{
    uint8_t *plain = NULL;
    size_t plain_len = 0;
    enum chv_err err =
        chv_file_envelope_open(&s->envelope, &s->crypto, s->ossl, passphrase, len, s->path, &plain, &plain_len, why);
    if (err != CHV_OK)
        return err;
    err = chv_file_contents_decode(&s->contents, plain, plain_len, s->path, why);
    chv_secure_free(plain, s->envelope.sealed_len);
    if (err == CHV_OK)
        chv_file_envelope_free(&s->envelope);
    return err;
}

static enum chv_err file_unlock(struct chv_keystore *ks, chv_secret_fn secret, void *arg, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    if (s->unlocked)
        return chv_fail(why, CHV_ERR_STATE, "%s: is unlocked already", s->path);
    size_t len = 0;
    char *passphrase = chv_secure_alloc(CHV_FILE_PASSPHRASE_MAX);
    if (passphrase == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    enum chv_err err = ask(s, secret, arg, passphrase, &len, why);
    if (err == CHV_OK && s->mode != CHV_KEYSTORE_CREATE)
        err = load(s, passphrase, len, why);
    s->unlocked = err == CHV_OK;
    if (s->unlocked && s->mode != CHV_KEYSTORE_READ) {
        s->passphrase = passphrase;
        s->passphrase_len = len;
        passphrase = NULL;
    }
    chv_secure_free(passphrase, CHV_FILE_PASSPHRASE_MAX);
    return err;
}

static enum chv_err check_open(const struct file_store *s, struct chv_why *why)
{
    if (!s->unlocked)
        return chv_fail(why, CHV_ERR_STORE_LOCKED, "%s: is locked: unlock it first", s->path);
    return CHV_OK;
}

static enum chv_err check_writable(const struct file_store *s, struct chv_why *why)
{
    if (s->mode == CHV_KEYSTORE_READ)
        return chv_fail(why, CHV_ERR_STATE, "%s: was opened for reading only", s->path);
    return check_open(s, why);
}

static enum chv_err file_commit(struct chv_keystore *ks, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    uint8_t *plain = NULL;
    char *text = NULL;
    size_t plain_len = 0, room = 0, len = 0;
    enum chv_err err = check_writable(s, why);
    if (err != CHV_OK)
        return err;
    err = chv_file_contents_encode(&s->contents, &plain, &plain_len, &room);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s: cannot encode its contents", s->path);
    err = chv_file_envelope_seal(&s->crypto, s->ossl, &s->cost, s->passphrase, s->passphrase_len, plain, plain_len,
                                 s->path, &text, &len, why);
    chv_secure_free(plain, room);
    if (err == CHV_OK)
        err = chv_file_replace(&s->place, &s->crypto, text, len, why);
    free(text);
    return err;
}

/* The key of that label if its use is `use`; else NULL and *err. */
static const struct chv_file_key *find_key(struct file_store *s, const char *label, enum chv_key_use use,
                                           enum chv_err *err, struct chv_why *why)
{
    static const char *const uses[] = {"a secret", "an identity key", "a receipt key"};
    *err = check_open(s, why);
    if (*err != CHV_OK)
        return NULL;
    const struct chv_file_key *key = chv_file_find_key(&s->contents, label);
    if (key == NULL) {
        *err = chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no key '%s' in it", s->path, label);
        return NULL;
    }
    if (key->use != use) {
        *err = chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: '%s' is %s, wanted was %s", s->path, label, uses[key->use],
                        uses[use]);
        return NULL;
    }
    return key;
}

/* Expand, once or twice (info2 NULL: once).  Neither key stays in the backend's context. */
static enum chv_err expand(struct file_store *s, const uint8_t *secret, const struct chv_part *info1,
                           const struct chv_part *info2, uint8_t out[CHV_SECRET_LEN])
{
    uint8_t first[CHV_SECRET_LEN], second[CHV_SECRET_LEN];
    enum chv_err err = chv_hkdf_expand(&s->crypto, CHV_HASH_SHA256, secret, CHV_SECRET_LEN, info1->ptr, info1->len,
                                       first, sizeof first);
    if (err == CHV_OK && info2 != NULL)
        err = chv_hkdf_expand(&s->crypto, CHV_HASH_SHA256, first, sizeof first, info2->ptr, info2->len, second,
                              sizeof second);
    if (err == CHV_OK)
        err = chv_hkdf_forget(&s->crypto, CHV_HASH_SHA256);
    if (err == CHV_OK)
        memcpy(out, info2 != NULL ? second : first, CHV_SECRET_LEN);
    chv_wipe(first, sizeof first);
    chv_wipe(second, sizeof second);
    return err;
}

static enum chv_err derive(struct file_store *s, const char *label, const struct chv_part *info1,
                           const struct chv_part *info2, uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    enum chv_err err;
    const struct chv_file_key *key = find_key(s, label, CHV_USE_SECRET, &err, why);
    if (key == NULL)
        return err;
    err = expand(s, key->secret, info1, info2, out);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: cannot derive from '%s'", s->path, label);
}

static enum chv_err file_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    return derive(store_of(ks), label, &(struct chv_part){info, info_len}, NULL, out, why);
}

static enum chv_err file_derive2(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                                 const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN],
                                 struct chv_why *why)
{
    return derive(store_of(ks), label, &(struct chv_part){info1, info1_len}, &(struct chv_part){info2, info2_len}, out,
                  why);
}

static enum chv_err add_key(struct file_store *s, const char *label, enum chv_key_use use, enum chv_curve curve,
                            const uint8_t secret[CHV_SECRET_LEN], struct chv_why *why)
{
    enum chv_err err = chv_file_add_key(&s->contents, label, use, curve, secret);
    if (err == CHV_ERR_EXISTS)
        return chv_fail(why, err, "%s: '%s' is there already", s->path, label);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: cannot add '%s'", s->path, label);
}

static enum chv_err file_import(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                                struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_writable(s, why);
    return err != CHV_OK ? err : add_key(s, label, CHV_USE_SECRET, CHV_CURVE_25519, secret, why);
}

static enum chv_err file_generate(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    uint8_t secret[CHV_SECRET_LEN];
    enum chv_err err = check_writable(s, why);
    if (err != CHV_OK)
        return err;
    err = chv_crypto_random(&s->crypto, secret, sizeof secret);
    err = err != CHV_OK ? chv_fail(why, err, "%s: no random bytes for '%s'", s->path, label)
                        : add_key(s, label, CHV_USE_SECRET, CHV_CURVE_25519, secret, why);
    chv_wipe(secret, sizeof secret);
    return err;
}

static enum chv_err file_list(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_open(s, why);
    for (size_t i = 0; err == CHV_OK && i < s->contents.key_count; i++) {
        const struct chv_file_key *key = &s->contents.keys[i];
        struct chv_key_info info = {.use = key->use, .curve = key->curve};
        memcpy(info.label, key->label, sizeof info.label);
        err = each(arg, &info);
    }
    return err;
}

static enum chv_err file_remove(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_writable(s, why);
    if (err == CHV_OK && chv_file_remove(&s->contents, label) != CHV_OK)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is nothing called '%s' in it", s->path, label);
    return err;
}

static enum chv_err file_data_put(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                                  struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_writable(s, why);
    if (err != CHV_OK)
        return err;
    err = chv_file_put_item(&s->contents, label, data, len);
    if (err == CHV_ERR_EXISTS)
        return chv_fail(why, err, "%s: '%s' is a key, not a data item", s->path, label);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: cannot store '%s'", s->path, label);
}

static enum chv_err file_data_get(struct chv_keystore *ks, const char *label, uint8_t *out, size_t *len,
                                  struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_open(s, why);
    if (err != CHV_OK)
        return err;
    const struct chv_file_item *item = chv_file_find_item(&s->contents, label);
    if (item == NULL)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no data item '%s' in it", s->path, label);
    if (item->len > *len)
        return chv_fail(why, CHV_ERR_SPACE, "%s: data item '%s' has %zu bytes, there is room for %zu", s->path, label,
                        item->len, *len);
    if (item->len > 0)
        memcpy(out, item->bytes, item->len);
    *len = item->len;
    return CHV_OK;
}

static enum chv_err file_generate_identity(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                           enum chv_curve curve, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    uint8_t secret[CHV_DH_PRIVATE_LEN];
    enum chv_err err = check_writable(s, why);
    if (err != CHV_OK)
        return err;
    err = chv_file_generate_private(s->ossl, curve, secret, why);
    if (err == CHV_OK)
        err = add_key(s, label, use, curve, secret, why);
    chv_wipe(secret, sizeof secret);
    return err;
}

static enum chv_err file_public_key(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                                    uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err = check_open(s, why);
    if (err != CHV_OK)
        return err;
    const struct chv_file_key *key = chv_file_find_key(&s->contents, label);
    if (key == NULL)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no key '%s' in it", s->path, label);
    if (key->use == CHV_USE_SECRET)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: '%s' is a secret: it has no public key", s->path, label);
    memcpy(out, key->public_key, chv_dh_public_len(key->curve));
    *curve = key->curve;
    return CHV_OK;
}

static enum chv_err file_dh(struct chv_keystore *ks, const char *label, const uint8_t *peer_public,
                            uint8_t out[CHV_KEY_LEN], struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err;
    const struct chv_file_key *key = find_key(s, label, CHV_USE_IDENTITY, &err, why);
    if (key == NULL)
        return err;
    err = chv_crypto_dh_derive(&s->crypto, key->dh, peer_public, out);
    if (err == CHV_ERR_MALFORMED)
        return chv_fail(why, err, "%s: what was given as the peer's public key is none for '%s'", s->path, label);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: Diffie-Hellman with '%s' failed", s->path, label);
}

static enum chv_err file_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                              uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why)
{
    struct file_store *s = store_of(ks);
    enum chv_err err;
    const struct chv_file_key *key = find_key(s, label, CHV_USE_RECEIPT, &err, why);
    return key == NULL ? err : chv_file_sign(s->ossl, key, message, len, sig, sig_len, why);
}

const struct chv_keystore_ops chv_keystore_file_ops = {
    .abi = CHV_KEYSTORE_ABI,
    .scheme = "file",
    .description = "encrypted file (scrypt, AES-256-GCM)",
    .open = file_open,
    .close = file_close,
    .unlock = file_unlock,
    .commit = file_commit,
    .derive = file_derive,
    .derive2 = file_derive2,
    .generate = file_generate,
    .import = file_import,
    .list = file_list,
    .remove = file_remove,
    .data_put = file_data_put,
    .data_get = file_data_get,
    .generate_identity = file_generate_identity,
    .public_key = file_public_key,
    .dh = file_dh,
    .sign = file_sign,
};
