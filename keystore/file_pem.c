/* SPDX-License-Identifier: Apache-2.0 */
#include "keystore/file_pem.h"

#include "base/memory.h"
#include "keystore/file.h"
#include "keystore/file_pem_private.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* By use. */
static const char *const pem_labels[] = {[CHV_USE_IDENTITY] = "identity", [CHV_USE_RECEIPT] = "receipt"};
static const char pem_scheme[] = "pem:";

enum { PEM_FILE_MAX = 64 * 1024, PEM_SALT_LEN = 16 };
/* RFC 8018, scrypt: as much memory as OpenSSL reads without being told to (32 MiB). */
enum { PEM_SCRYPT_N = 16384, PEM_SCRYPT_R = 8, PEM_SCRYPT_P = 5 };

struct pem_store {
    struct chv_keystore base;
    char *path;
    enum chv_keystore_mode mode;
    struct chv_file_place place; /* CREATE only */
    struct chv_crypto crypto;
    OSSL_LIB_CTX *ossl;
    char *text; /* as read; secure memory of PEM_FILE_MAX */
    size_t len;
    bool unlocked;
    char *passphrase; /* secure memory; CREATE: of the new file, else only while it is unlocked */
    size_t passphrase_len;
    EVP_PKEY *pkey; /* NULL: there is no key (yet), or one that only `dh` has */
    enum chv_key_use use;
    bool has_key;      /* `identity` is set */
    struct chv_dh *dh; /* NULL: only the public key is known */
    struct chv_identity identity;
};

static struct pem_store *store_of(struct chv_keystore *ks)
{
    return (struct pem_store *)ks;
}

static enum chv_err openssl_failed(const char *path, const char *what, struct chv_why *why)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    enum chv_err err =
        chv_fail(why, CHV_ERR_CRYPTO, "%s: %s: %s", path, what, reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return err;
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static bool is_private(const char *text)
{
    return strstr(text, "PRIVATE KEY-----") != NULL;
}

/* A private key must be ours and nobody else's to read; a public key is anybody's. */
static enum chv_err check_stat(const struct pem_store *s, const struct stat *st, struct chv_why *why)
{
    if (!is_private(s->text))
        return CHV_OK;
    if (geteuid() != 0 && st->st_uid != geteuid())
        return chv_fail(why, CHV_ERR_STORE_MODE, "%s: belongs to user %lu, not to you (user %lu)", s->path,
                        (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return chv_fail(
            why, CHV_ERR_STORE_MODE,
            "%s: mode is %04o, others may read this private key: run 'chmod 600' on it, and think who could have",
            s->path, (unsigned)(st->st_mode & 07777));
    return CHV_OK;
}

static enum chv_err read_all(struct pem_store *s, int fd, struct chv_why *why)
{
    while (s->len < PEM_FILE_MAX) {
        ssize_t n = read(fd, s->text + s->len, PEM_FILE_MAX - s->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return chv_fail(why, CHV_ERR_IO, "%s: cannot read: %s", s->path, strerror(errno));
        if (n == 0)
            break;
        s->len += (size_t)n;
    }
    if (s->len == PEM_FILE_MAX || memchr(s->text, '\0', s->len) != NULL || strstr(s->text, "-----BEGIN ") == NULL)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is not a key in PEM text, as 'keyadmin identity new' makes one",
                        s->path);
    return CHV_OK;
}

static enum chv_err read_file(struct pem_store *s, struct chv_why *why)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO must not hold us before fstat has shown what it is */
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: cannot open: %s", s->path,
                        strerror(errno));
    enum chv_err err;
    s->text = chv_secure_alloc(PEM_FILE_MAX);
    if (s->text == NULL) {
        err = chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    } else if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is no regular file", s->path);
    } else {
        err = read_all(s, fd, why);
        if (err == CHV_OK)
            err = check_stat(s, &st, why);
    }
    close(fd);
    return err;
}

bool chv_pem_is(const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    text[n] = '\0';
    bool found = strstr(text, "-----BEGIN ") != NULL; /* text may stand before it */
    chv_wipe(text, sizeof text);
    return found;
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

/* Curve and public key of an EVP_PKEY. */
static enum chv_err take_public(struct pem_store *s, struct chv_why *why)
{
    struct chv_identity *id = &s->identity;
    char group[64];
    size_t len = sizeof id->public_key;
    memset(id, 0, sizeof *id);
    if (EVP_PKEY_is_a(s->pkey, "X25519")) {
        id->curve = CHV_CURVE_25519;
        if (EVP_PKEY_get_raw_public_key(s->pkey, id->public_key, &len) == 1 && len == chv_dh_public_len(id->curve))
            goto found;
    } else if (EVP_PKEY_is_a(s->pkey, "EC") && EVP_PKEY_get_group_name(s->pkey, group, sizeof group, NULL) == 1 &&
               (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0)) {
        id->curve = CHV_CURVE_P256;
        if (EVP_PKEY_set_utf8_string_param(s->pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "uncompressed") == 1 &&
            EVP_PKEY_get_octet_string_param(s->pkey, OSSL_PKEY_PARAM_PUB_KEY, id->public_key, len, &len) == 1 &&
            len == chv_dh_public_len(id->curve))
            goto found;
    } else {
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: is a key of another kind: an identity key is X25519 or P-256",
                        s->path);
    }
    return openssl_failed(s->path, "its public key cannot be had", why);
found:
    s->has_key = true;
    return CHV_OK;
}

/* The private key as the backend's handle; no other copy of its bytes stays. */
static enum chv_err take_private(struct pem_store *s, struct chv_why *why)
{
    uint8_t bytes[CHV_DH_PRIVATE_LEN], public_key[CHV_DH_PUBLIC_MAX];
    BIGNUM *scalar = NULL;
    size_t len = sizeof bytes;
    bool ok = s->identity.curve == CHV_CURVE_25519
                  ? EVP_PKEY_get_raw_private_key(s->pkey, bytes, &len) == 1 && len == sizeof bytes
                  : EVP_PKEY_get_bn_param(s->pkey, OSSL_PKEY_PARAM_PRIV_KEY, &scalar) == 1 &&
                        BN_bn2binpad(scalar, bytes, sizeof bytes) == (int)sizeof bytes;
    enum chv_err err = ok ? chv_crypto_dh_import(&s->crypto, s->identity.curve, bytes, &s->dh, public_key)
                          : openssl_failed(s->path, "its private key cannot be had", why);
    if (ok && err != CHV_OK)
        err = chv_fail(why, CHV_ERR_STORE_DAMAGED, "%s: its private key is none for its curve", s->path);
    if (err == CHV_OK && memcmp(public_key, s->identity.public_key, chv_dh_public_len(s->identity.curve)) != 0)
        err = chv_fail(why, CHV_ERR_STORE_DAMAGED, "%s: its public key does not belong to its private key", s->path);
    chv_wipe(bytes, sizeof bytes);
    BN_clear_free(scalar);
    return err;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static void pem_close(struct chv_keystore *ks)
{
    struct pem_store *s = store_of(ks);
    if (s == NULL)
        return;
    if (s->dh != NULL)
        chv_crypto_dh_free(&s->crypto, s->dh);
    EVP_PKEY_free(s->pkey);
    chv_secure_free(s->text, PEM_FILE_MAX);
    chv_secure_free(s->passphrase, CHV_FILE_PASSPHRASE_MAX);
    chv_file_leave(&s->place);
    chv_backend_close(&s->crypto);
    OSSL_LIB_CTX_free(s->ossl);
    free(s->path);
    free(s);
}

static enum chv_err prepare(struct pem_store *s, struct chv_why *why)
{
    struct stat st;
    s->ossl = OSSL_LIB_CTX_new();
    if (s->ossl == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    enum chv_err err = chv_backend_open("openssl", &s->crypto, why);
    if (err != CHV_OK || s->mode == CHV_KEYSTORE_READ)
        return err == CHV_OK ? read_file(s, why) : err;
    if (s->mode == CHV_KEYSTORE_WRITE)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: a key in PEM text is not changed: make another", s->path);
    err = chv_file_locate(&s->place, s->path, s->mode, why);
    if (err == CHV_OK && lstat(s->path, &st) == 0)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", s->path);
    return err;
}

static enum chv_err pem_open(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                             struct chv_why *why)
{
    const char *path = uri + sizeof pem_scheme - 1;
    if (strncmp(uri, pem_scheme, sizeof pem_scheme - 1) != 0 || path[0] == '\0')
        return chv_fail(why, CHV_ERR_CONFIG, "keystore '%s': no path stands behind the scheme: write pem:PATH", uri);
    struct pem_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path);
    s->base.ops = &chv_keystore_pem_ops;
    s->use = CHV_USE_IDENTITY;
    s->mode = options->mode;
    s->place = (struct chv_file_place){.dir = -1, .lock = -1};
    s->path = strdup(path);
    enum chv_err err = s->path == NULL ? chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", path) : prepare(s, why);
    if (err != CHV_OK) {
        pem_close(&s->base);
        return err;
    }
    *ks = &s->base;
    return CHV_OK;
}

/* What PEM_read_bio's callback needs to ask, and how it went. */
struct asking {
    struct pem_store *store;
    chv_secret_fn secret;
    void *arg;
    bool asked;
    enum chv_err err;
    struct chv_why *why;
};

static enum chv_err ask(struct asking *a, int confirm, char *out, size_t cap, size_t *len)
{
    char prompt[256];
    (void)snprintf(prompt, sizeof prompt, "%s for identity key %s", confirm ? "New passphrase" : "Passphrase",
                   a->store->path);
    for (char *p = prompt; *p != '\0'; p++)
        if (*p == ':' || (unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    a->asked = true;
    a->err = a->secret(a->arg, prompt, confirm, out, cap, len, a->why);
    return a->err;
}

static int on_passphrase(char *out, int size, int writing, void *arg)
{
    struct asking *a = arg;
    size_t len = 0;
    (void)writing;
    if (size <= 0 || ask(a, 0, out, (size_t)size, &len) != CHV_OK)
        return -1;
    if (len <= CHV_FILE_PASSPHRASE_MAX) {
        memcpy(a->store->passphrase, out, len);
        a->store->passphrase_len = len;
    }
    return (int)len;
}

static enum chv_err read_key(struct pem_store *s, struct asking *a, struct chv_why *why)
{
    BIO *bio = BIO_new_mem_buf(s->text, (int)s->len);
    if (bio == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    s->passphrase = is_private(s->text) ? chv_secure_alloc(CHV_FILE_PASSPHRASE_MAX) : NULL;
    if (s->passphrase == NULL && is_private(s->text)) {
        BIO_free(bio);
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    }
    s->pkey = is_private(s->text) ? PEM_read_bio_PrivateKey_ex(bio, NULL, on_passphrase, a, s->ossl, NULL)
                                  : PEM_read_bio_PUBKEY_ex(bio, NULL, NULL, NULL, s->ossl, NULL);
    BIO_free(bio);
    if (s->pkey != NULL)
        return CHV_OK;
    ERR_clear_error();
    if (a->err != CHV_OK)
        return a->err;
    if (a->asked)
        return chv_fail(why, CHV_ERR_PASSPHRASE, "%s: wrong passphrase, or the file is damaged", s->path);
    return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: holds no key in PEM text that can be read", s->path);
}

static enum chv_err pem_unlock(struct chv_keystore *ks, chv_secret_fn secret, void *arg, struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    struct asking a = {.store = s, .secret = secret, .arg = arg, .why = why};
    enum chv_err err;
    if (s->unlocked)
        return chv_fail(why, CHV_ERR_STATE, "%s: is unlocked already", s->path);
    if (s->mode == CHV_KEYSTORE_CREATE) {
        s->passphrase = chv_secure_alloc(CHV_FILE_PASSPHRASE_MAX);
        err = s->passphrase == NULL ? chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path)
                                    : ask(&a, 1, s->passphrase, CHV_FILE_PASSPHRASE_MAX, &s->passphrase_len);
    } else {
        err = read_key(s, &a, why);
        if (err == CHV_OK && is_private(s->text))
            err = chv_pem_use(s->path, s->text, s->len, s->ossl, s->passphrase, s->passphrase_len, &s->pkey, &s->use,
                              why);
        if (err == CHV_OK)
            err = take_public(s, why);
        if (err == CHV_OK && is_private(s->text) && s->use == CHV_USE_IDENTITY)
            err = take_private(s, why);
        if (err == CHV_OK && s->use == CHV_USE_RECEIPT && s->identity.curve != CHV_CURVE_P256)
            err = chv_fail(why, CHV_ERR_KEY, "%s: a receipt key is on P-256", s->path);
        chv_secure_free(s->passphrase, CHV_FILE_PASSPHRASE_MAX);
        s->passphrase = NULL;
        chv_secure_free(s->text, PEM_FILE_MAX);
        s->text = NULL;
        if (err != CHV_OK || s->use == CHV_USE_IDENTITY) {
            EVP_PKEY_free(s->pkey);
            s->pkey = NULL;
        }
    }
    s->unlocked = err == CHV_OK;
    return err;
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static enum chv_err pem_generate_identity(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                          enum chv_curve curve, struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    if (!s->unlocked || s->mode != CHV_KEYSTORE_CREATE)
        return chv_fail(why, CHV_ERR_STATE, "%s: is not a new one, or locked", s->path);
    if ((use != CHV_USE_IDENTITY && use != CHV_USE_RECEIPT) || strcmp(label, pem_labels[use]) != 0)
        return chv_fail(why, CHV_ERR_UNSUPPORTED,
                        "%s: PEM text holds one identity key, or receipt key, and nothing else", s->path);
    if (s->pkey != NULL)
        return chv_fail(why, CHV_ERR_EXISTS, "%s: '%s' is there already", s->path, label);
    s->pkey = curve == CHV_CURVE_25519 ? EVP_PKEY_Q_keygen(s->ossl, NULL, "X25519")
                                       : EVP_PKEY_Q_keygen(s->ossl, NULL, "EC", "P-256");
    if (s->pkey == NULL)
        return openssl_failed(s->path, "key generation", why);
    s->use = use;
    enum chv_err err = take_public(s, why);
    return err == CHV_OK && use == CHV_USE_IDENTITY ? take_private(s, why) : err;
}

/* PKCS #8 in PEM, encrypted if there is a passphrase. */
static bool write_private(struct pem_store *s, BIO *bio)
{
    uint8_t salt[PEM_SALT_LEN];
    bool ok = false;
    X509_SIG *sealed = NULL;
    X509_ALGOR *pbe = NULL;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(s->pkey);
    if (info == NULL || (s->use == CHV_USE_RECEIPT && !chv_pem_mark_receipt(info)))
        goto out;
    if (s->passphrase_len == 0) {
        ok = PEM_write_bio_PKCS8_PRIV_KEY_INFO(bio, info) == 1;
        goto out;
    }
    if (chv_crypto_random(&s->crypto, salt, sizeof salt) != CHV_OK)
        goto out;
    pbe = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt, sizeof salt, NULL, PEM_SCRYPT_N, PEM_SCRYPT_R, PEM_SCRYPT_P);
    if (pbe != NULL)
        sealed = PKCS8_set0_pbe(s->passphrase, (int)s->passphrase_len, info, pbe);
    if (sealed != NULL) {
        pbe = NULL; /* its owner is `sealed` now */
        ok = PEM_write_bio_PKCS8(bio, sealed) == 1;
    }
out:
    X509_SIG_free(sealed);
    X509_ALGOR_free(pbe);
    PKCS8_PRIV_KEY_INFO_free(info);
    return ok;
}

static enum chv_err pem_commit(struct chv_keystore *ks, struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    char *text = NULL;
    if (s->mode != CHV_KEYSTORE_CREATE || s->pkey == NULL)
        return chv_fail(why, CHV_ERR_STATE, "%s: there is no new key to write", s->path);
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", s->path);
    enum chv_err err = CHV_OK;
    if (!write_private(s, bio)) {
        err = openssl_failed(s->path, "writing the key", why);
    } else {
        long len = BIO_get_mem_data(bio, &text);
        err = chv_file_replace(&s->place, &s->crypto, text, (size_t)len, why);
    }
    BIO_free(bio); /* wipes */
    return err;
}

/* Of bytes, without a file. */
EVP_PKEY *chv_pem_public_pkey(const struct chv_identity *identity)
{
    static char group[] = "P-256";
    uint8_t point[CHV_DH_PUBLIC_MAX]; /* a copy: OSSL_PARAM takes no const */
    EVP_PKEY *pkey = NULL;
    size_t len = chv_dh_public_len(identity->curve);
    if (identity->curve == CHV_CURVE_25519)
        return EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, identity->public_key, len);
    memcpy(point, identity->public_key, sizeof point);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, len),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

enum chv_err chv_pem_public(const struct chv_identity *identity, char out[CHV_PEM_TEXT_MAX], struct chv_why *why)
{
    char *text = NULL;
    EVP_PKEY *pkey = chv_pem_public_pkey(identity);
    BIO *bio = BIO_new(BIO_s_mem());
    enum chv_err err = CHV_OK;
    if (pkey == NULL || bio == NULL || PEM_write_bio_PUBKEY(bio, pkey) != 1) {
        err = openssl_failed("public key", "is none for its curve", why);
    } else {
        long len = BIO_get_mem_data(bio, &text);
        if (len <= 0 || len >= CHV_PEM_TEXT_MAX) {
            err = chv_fail(why, CHV_ERR_SPACE, "public key: its PEM text is too long");
        } else {
            memcpy(out, text, (size_t)len);
            out[len] = '\0';
        }
    }
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return err;
}

/* --- using -------------------------------------------------------------------------------------------------------- */

static enum chv_err check_key(const struct pem_store *s, const char *label, struct chv_why *why)
{
    if (!s->unlocked)
        return chv_fail(why, CHV_ERR_STORE_LOCKED, "%s: is locked: unlock it first", s->path);
    if (strcmp(label, pem_labels[s->use]) != 0 || !s->has_key)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: there is no key '%s' in it", s->path, label);
    return CHV_OK;
}

static enum chv_err pem_list(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    enum chv_err err = check_key(s, pem_labels[s->use], why);
    if (err != CHV_OK)
        return err;
    struct chv_key_info info = {.use = s->use, .curve = s->identity.curve};
    (void)snprintf(info.label, sizeof info.label, "%s", pem_labels[s->use]);
    return each(arg, &info);
}

static enum chv_err pem_public_key(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                                   uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    enum chv_err err = check_key(s, label, why);
    if (err != CHV_OK)
        return err;
    memcpy(out, s->identity.public_key, chv_dh_public_len(s->identity.curve));
    *curve = s->identity.curve;
    return CHV_OK;
}

static enum chv_err pem_dh(struct chv_keystore *ks, const char *label, const uint8_t *peer_public,
                           uint8_t out[CHV_KEY_LEN], struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    enum chv_err err = check_key(s, label, why);
    if (err != CHV_OK)
        return err;
    if (s->use != CHV_USE_IDENTITY)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: its key is a receipt key: it signs, and does nothing else",
                        s->path);
    if (s->dh == NULL)
        return chv_fail(why, CHV_ERR_KEY, "%s: holds only the public key: give the file of the private one", s->path);
    err = chv_crypto_dh_derive(&s->crypto, s->dh, peer_public, out);
    if (err == CHV_ERR_MALFORMED)
        return chv_fail(why, err, "%s: what was given as the peer's public key is none", s->path);
    return err == CHV_OK ? CHV_OK : chv_fail(why, err, "%s: Diffie-Hellman failed", s->path);
}

static enum chv_err pem_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                             uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why)
{
    struct pem_store *s = store_of(ks);
    enum chv_err err = check_key(s, label, why);
    if (err == CHV_OK && (s->use != CHV_USE_RECEIPT || s->pkey == NULL))
        err = chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: its key is an identity key: it signs nothing", s->path);
    return err == CHV_OK ? chv_pem_sign(s->path, s->ossl, s->pkey, message, len, sig, sig_len, why) : err;
}

const struct chv_keystore_ops chv_keystore_pem_ops = {
    .abi = CHV_KEYSTORE_ABI,
    .scheme = "pem",
    .description = "one identity or receipt key as PEM text",
    .open = pem_open,
    .close = pem_close,
    .unlock = pem_unlock,
    .commit = pem_commit,
    .list = pem_list,
    .generate_identity = pem_generate_identity,
    .public_key = pem_public_key,
    .dh = pem_dh,
    .sign = pem_sign,
};
