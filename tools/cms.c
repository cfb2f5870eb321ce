/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cms.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

/* After pem.h: only then it declares what reads and writes PEM. */
#include <openssl/cms.h>

#include "base/memory.h"

enum {
    CMS_FILE_MAX = 64 * 1024, /* of a certificate or a private key, and of what CMS adds to a plaintext */
    CMS_SECURITY_BITS = 112,  /* RSA 2048, P-224: NIST SP 800-57 part 1, 5.6.1 */
    CMS_KEY_PROMPT = 128
};

struct chv_cms_recipient {
    OSSL_LIB_CTX *ossl;
    X509 *certificate;
    bool agreement; /* ECDH, else RSA */
    char subject[CHV_CMS_NAME_SIZE];
    uint8_t fingerprint[CHV_CMS_FINGERPRINT_LEN];
};

static enum chv_err cms_failed(struct chv_why *why, enum chv_err err, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    err = chv_fail(why, err, "%s: %s", what, reason == NULL ? "OpenSSL gives no reason" : reason);
    ERR_clear_error();
    return err;
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

/* A whole file in secure memory: private keys come through here.  *room is for chv_secure_free. */
struct cms_bytes {
    uint8_t *ptr;
    size_t len, room;
};

static void cms_bytes_free(struct cms_bytes *b)
{
    chv_secure_free(b->ptr, b->room);
    *b = (struct cms_bytes){.ptr = NULL};
}

static enum chv_err cms_read(const char *file, size_t max, struct cms_bytes *out, struct chv_why *why)
{
    struct stat st;
    enum chv_err err = CHV_OK;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", file, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > max) {
        err = chv_fail(why, CHV_ERR_IO, "%s: is not a file of 1 to %zu bytes", file, max);
        goto out;
    }
    out->room = (size_t)st.st_size;
    out->ptr = chv_secure_alloc(out->room);
    if (out->ptr == NULL) {
        err = CHV_ERR_MEMORY;
        goto out;
    }
    while (out->len < out->room) {
        ssize_t n = read(fd, out->ptr + out->len, out->room - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = chv_fail(why, CHV_ERR_IO, "%s: %s", file, strerror(errno));
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
out:
    if (err != CHV_OK)
        cms_bytes_free(out);
    (void)close(fd);
    return err;
}

static BIO *cms_bio(const struct cms_bytes *b)
{
    return b->len > INT32_MAX ? NULL : BIO_new_mem_buf(b->ptr, (int)b->len);
}

/* --- certificates --------------------------------------------------------------------------------------------------
 */

static enum chv_err cms_parse_certificate(struct chv_cms_recipient *r, const char *file, struct chv_why *why)
{
    struct cms_bytes bytes = {.ptr = NULL};
    enum chv_err err = cms_read(file, CMS_FILE_MAX, &bytes, why);
    if (err != CHV_OK)
        return err;
    BIO *pem = cms_bio(&bytes), *der = cms_bio(&bytes);
    r->certificate = X509_new_ex(r->ossl, NULL);
    if (pem == NULL || der == NULL || r->certificate == NULL)
        err = CHV_ERR_MEMORY;
    else if (PEM_read_bio_X509(pem, &r->certificate, NULL, NULL) == NULL) {
        /* what fails within ASN.1 frees what it was given, what fails before does not */
        if (r->certificate == NULL)
            r->certificate = X509_new_ex(r->ossl, NULL);
        if (r->certificate == NULL || d2i_X509_bio(der, &r->certificate) == NULL)
            err = chv_fail(why, CHV_ERR_ARGUMENT, "%s: there is no certificate in it (PEM or DER)", file);
    }
    ERR_clear_error();
    BIO_free(pem);
    BIO_free(der);
    cms_bytes_free(&bytes);
    return err;
}

/* What would make a file that nobody can open, or that too many can, fails here. */
static enum chv_err cms_judge_certificate(struct chv_cms_recipient *r, const char *file, struct chv_why *why)
{
    EVP_PKEY *key = X509_get0_pubkey(r->certificate);
    bool rsa = key != NULL && EVP_PKEY_is_a(key, "RSA") == 1;
    r->agreement = key != NULL && EVP_PKEY_is_a(key, "EC") == 1;
    uint32_t wanted = r->agreement ? KU_KEY_AGREEMENT : KU_KEY_ENCIPHERMENT;
    if (!rsa && !r->agreement)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: its key is %s; one of RSA or EC (ECDH) is needed", file,
                        key != NULL && EVP_PKEY_get0_type_name(key) != NULL ? EVP_PKEY_get0_type_name(key)
                                                                            : "of an unknown kind");
    if (EVP_PKEY_get_security_bits(key) < CMS_SECURITY_BITS)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: its key is too weak: RSA of 2048 bits or P-256 at least", file);
    if ((X509_get_extension_flags(r->certificate) & EXFLAG_KUSAGE) != 0 &&
        (X509_get_key_usage(r->certificate) & wanted) == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: its key usage does not allow %s", file,
                        r->agreement ? "key agreement" : "key encipherment");
    if (X509_cmp_current_time(X509_get0_notAfter(r->certificate)) < 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the certificate has expired", file);
    return CHV_OK;
}

static enum chv_err cms_name_certificate(struct chv_cms_recipient *r, struct chv_why *why)
{
    unsigned len = sizeof r->fingerprint;
    BIO *text = BIO_new(BIO_s_mem());
    EVP_MD *sha256 = EVP_MD_fetch(r->ossl, "SHA256", NULL);
    enum chv_err err = CHV_OK;
    if (text == NULL || sha256 == NULL || X509_digest(r->certificate, sha256, r->fingerprint, &len) != 1 ||
        X509_NAME_print_ex(text, X509_get_subject_name(r->certificate), 0, XN_FLAG_ONELINE) < 0)
        err = cms_failed(why, CHV_ERR_CRYPTO, "the certificate's name");
    int n = err == CHV_OK ? BIO_read(text, r->subject, sizeof r->subject - 1) : 0;
    r->subject[n > 0 ? n : 0] = '\0';
    EVP_MD_free(sha256);
    BIO_free(text);
    return err;
}

enum chv_err chv_cms_recipient_load(const char *file, struct chv_cms_recipient **recipient, struct chv_why *why)
{
    struct chv_cms_recipient *r = calloc(1, sizeof *r);
    if (r == NULL)
        return CHV_ERR_MEMORY;
    r->ossl = OSSL_LIB_CTX_new();
    enum chv_err err = r->ossl == NULL ? CHV_ERR_MEMORY : cms_parse_certificate(r, file, why);
    if (err == CHV_OK)
        err = cms_judge_certificate(r, file, why);
    if (err == CHV_OK)
        err = cms_name_certificate(r, why);
    if (err != CHV_OK) {
        chv_cms_recipient_free(r);
        return err;
    }
    *recipient = r;
    return CHV_OK;
}

void chv_cms_recipient_free(struct chv_cms_recipient *recipient)
{
    if (recipient == NULL)
        return;
    X509_free(recipient->certificate);
    OSSL_LIB_CTX_free(recipient->ossl);
    free(recipient);
}

const char *chv_cms_recipient_subject(const struct chv_cms_recipient *recipient)
{
    return recipient->subject;
}

const uint8_t *chv_cms_recipient_fingerprint(const struct chv_cms_recipient *recipient)
{
    return recipient->fingerprint;
}

/* --- sealing -------------------------------------------------------------------------------------------------------
 */

/* The defaults of CMS are PKCS #1 v1.5 and SHA-1: RFC 8017, 7.1 and RFC 5753, 7.1.4 with SHA-256 instead. */
static bool cms_add_recipient(CMS_ContentInfo *cms, const struct chv_cms_recipient *r)
{
    CMS_RecipientInfo *info = CMS_add1_recipient_cert(cms, r->certificate, CMS_KEY_PARAM);
    EVP_PKEY_CTX *ctx = info != NULL ? CMS_RecipientInfo_get0_pkey_ctx(info) : NULL;
    if (ctx == NULL)
        return false;
    if (r->agreement)
        return EVP_PKEY_CTX_set_ecdh_kdf_md(ctx, EVP_sha256()) > 0;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0 && EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
}

/* Not by CMS_final, which copies the plaintext through a buffer of its own and leaves it there. */
static bool cms_encrypt(CMS_ContentInfo *cms, const uint8_t *plain, size_t len)
{
    BIO *content = CMS_dataInit(cms, NULL);
    bool ok = content != NULL && len <= INT32_MAX && BIO_write(content, plain, (int)len) == (int)len &&
              BIO_flush(content) == 1 && CMS_dataFinal(cms, content) == 1;
    BIO_free_all(content);
    return ok;
}

static bool cms_to_text(CMS_ContentInfo *cms, char **text, size_t *text_len)
{
    char *data = NULL;
    BIO *out = BIO_new(BIO_s_mem());
    long len = out != NULL && PEM_write_bio_CMS(out, cms) == 1 ? BIO_get_mem_data(out, &data) : 0;
    char *copy = len > 0 ? malloc((size_t)len) : NULL;
    if (copy != NULL) {
        memcpy(copy, data, (size_t)len);
        *text = copy;
        *text_len = (size_t)len;
    }
    BIO_free(out);
    return copy != NULL;
}

enum chv_err chv_cms_seal(const struct chv_cms_recipient *recipient, const uint8_t *plain, size_t len, char **text,
                          size_t *text_len, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(recipient->ossl, "AES-256-GCM", NULL);
    CMS_ContentInfo *cms =
        cipher == NULL ? NULL : CMS_encrypt_ex(NULL, NULL, cipher, CMS_BINARY | CMS_PARTIAL, recipient->ossl, NULL);
    if (cms == NULL || !cms_add_recipient(cms, recipient) || !cms_encrypt(cms, plain, len) ||
        !cms_to_text(cms, text, text_len))
        err = cms_failed(why, CHV_ERR_CRYPTO, "encrypting to the certificate");
    CMS_ContentInfo_free(cms);
    EVP_CIPHER_free(cipher);
    return err;
}

/* --- opening -------------------------------------------------------------------------------------------------------
 */

struct cms_asked {
    const char *key;
    struct chv_secret_source *secret;
    bool asked;
    enum chv_err err;
    struct chv_why *why;
};

/* A pem_password_cb. */
static int cms_passphrase(char *buf, int size, int writing, void *arg)
{
    struct cms_asked *a = arg;
    char prompt[CMS_KEY_PROMPT];
    size_t len = 0;
    (void)writing;
    if (a->asked || size <= 0) /* one try: never the same question twice */
        return -1;
    a->asked = true;
    (void)snprintf(prompt, sizeof prompt, "Passphrase of %.100s", a->key);
    a->err = chv_secret_get(a->secret, prompt, 0, buf, (size_t)size, &len, a->why);
    return a->err == CHV_OK ? (int)len : -1;
}

static enum chv_err cms_load_key(OSSL_LIB_CTX *ossl, const char *file, struct chv_secret_source *secret, EVP_PKEY **key,
                                 struct chv_why *why)
{
    struct cms_bytes bytes = {.ptr = NULL};
    struct cms_asked asked = {.key = file, .secret = secret, .err = CHV_OK, .why = why};
    enum chv_err err = cms_read(file, CMS_FILE_MAX, &bytes, why);
    if (err != CHV_OK)
        return err;
    BIO *bio = cms_bio(&bytes);
    if (bio != NULL)
        *key = PEM_read_bio_PrivateKey_ex(bio, NULL, cms_passphrase, &asked, ossl, NULL);
    if (bio == NULL)
        err = CHV_ERR_MEMORY;
    else if (asked.err != CHV_OK)
        err = asked.err;
    else if (*key == NULL && asked.asked)
        err = chv_fail(why, CHV_ERR_PASSPHRASE, "%s: wrong passphrase", file);
    else if (*key == NULL)
        err = chv_fail(why, CHV_ERR_ARGUMENT, "%s: there is no private key in it (PEM)", file);
    ERR_clear_error();
    BIO_free(bio);
    cms_bytes_free(&bytes);
    return err;
}

static enum chv_err cms_parse(OSSL_LIB_CTX *ossl, const char *file, const struct cms_bytes *bytes,
                              CMS_ContentInfo **cms, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    CMS_ContentInfo *read = CMS_ContentInfo_new_ex(ossl, NULL);
    BIO *pem = cms_bio(bytes), *der = cms_bio(bytes);
    int kind = NID_undef;
    bool parsed = true;
    if (read == NULL || pem == NULL || der == NULL)
        err = CHV_ERR_MEMORY;
    else if (PEM_read_bio_CMS(pem, &read, NULL, NULL) == NULL) {
        if (read == NULL) /* as with certificates */
            read = CMS_ContentInfo_new_ex(ossl, NULL);
        parsed = read != NULL && d2i_CMS_bio(der, &read) != NULL;
    }
    if (err == CHV_OK && parsed)
        kind = OBJ_obj2nid(CMS_get0_type(read));
    if (err == CHV_OK && kind != NID_pkcs7_enveloped && kind != NID_id_smime_ct_authEnvelopedData)
        err = chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is not a CMS file that is encrypted to a certificate", file);
    ERR_clear_error();
    BIO_free(pem);
    BIO_free(der);
    if (err != CHV_OK)
        CMS_ContentInfo_free(read);
    else
        *cms = read;
    return err;
}

/* Not by CMS_decrypt, which copies like CMS_final: what comes out comes out here only. */
static bool cms_decrypt(CMS_ContentInfo *cms, EVP_PKEY *key, uint8_t *plain, size_t *len)
{
    uint8_t more;
    size_t have = 0;
    int n = 1;
    BIO *content = CMS_decrypt_set1_pkey(cms, key, NULL) == 1 ? CMS_dataInit(cms, NULL) : NULL;
    if (content == NULL)
        return false;
    while (n > 0 && have < *len) {
        size_t room = *len - have < INT32_MAX ? *len - have : INT32_MAX;
        n = BIO_read(content, plain + have, (int)room);
        have += n > 0 ? (size_t)n : 0;
    }
    /* the last read finds the end and checks the tag or the padding */
    bool ok = (n <= 0 || BIO_read(content, &more, 1) <= 0) && BIO_get_cipher_status(content) == 1;
    BIO_free_all(content);
    *len = have;
    return ok;
}

static enum chv_err cms_open(const char *file, const struct cms_bytes *bytes, const char *key,
                             struct chv_secret_source *secret, uint8_t *plain, size_t *len, struct chv_why *why)
{
    EVP_PKEY *pkey = NULL;
    CMS_ContentInfo *cms = NULL;
    const size_t room = *len;
    OSSL_LIB_CTX *ossl = OSSL_LIB_CTX_new();
    enum chv_err err = ossl == NULL ? CHV_ERR_MEMORY : cms_parse(ossl, file, bytes, &cms, why);
    if (err == CHV_OK)
        err = cms_load_key(ossl, key, secret, &pkey, why);
    if (err == CHV_OK && !cms_decrypt(cms, pkey, plain, len))
        err = chv_fail(why, CHV_ERR_AUTH,
                       "%s: does not open with %s: it was encrypted to another certificate, or was changed", file, key);
    if (err != CHV_OK)
        chv_wipe(plain, room);
    ERR_clear_error();
    CMS_ContentInfo_free(cms);
    EVP_PKEY_free(pkey);
    OSSL_LIB_CTX_free(ossl);
    return err;
}

enum chv_err chv_cms_open(const char *file, const char *key, struct chv_secret_source *secret, uint8_t *plain,
                          size_t *len, struct chv_why *why)
{
    struct cms_bytes bytes = {.ptr = NULL};
    enum chv_err err = cms_read(file, *len + *len / 2 + CMS_FILE_MAX, &bytes, why);
    if (err == CHV_OK)
        err = cms_open(file, &bytes, key, secret, plain, len, why);
    else
        chv_wipe(plain, *len);
    cms_bytes_free(&bytes);
    return err;
}

enum chv_err chv_cms_open_text(const char *name, const char *text, size_t text_len, const char *key,
                               struct chv_secret_source *secret, uint8_t *plain, size_t *len, struct chv_why *why)
{
    struct cms_bytes bytes = {.ptr = malloc(text_len), .len = text_len};
    if (bytes.ptr == NULL)
        return CHV_ERR_MEMORY;
    memcpy(bytes.ptr, text, text_len);
    enum chv_err err = cms_open(name, &bytes, key, secret, plain, len, why);
    free(bytes.ptr);
    return err;
}
