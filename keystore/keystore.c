/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of keystores, and the wrappers that check arguments and optional members. */
#include "keystore/keystore.h"

#include <string.h>

static const struct chv_keystore_ops *const keystores[] = {
    &chv_keystore_file_ops,
    &chv_keystore_token_ops,
    &chv_keystore_pem_ops,
};

/* Must name the table's schemes, in order; tests/keystore/ compares. */
const char *chv_keystore_schemes(void)
{
    return "file, pkcs11, pem";
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool chv_label_valid(const char *label)
{
    size_t n = label == NULL ? 0 : strnlen(label, CHV_LABEL_MAX + 1);
    if (n == 0 || n > CHV_LABEL_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_alpha(label[i]) && !is_digit(label[i]) && strchr("._:@-", label[i]) == NULL)
            return false;
    return true;
}

static enum chv_err check_label(const struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    if (ks == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no keystore was given");
    if (!chv_label_valid(label))
        return chv_fail(why, CHV_ERR_ARGUMENT, "bad label '%.64s': a label is 1 to %d characters of [A-Za-z0-9._:@-]",
                        label == NULL ? "" : label, CHV_LABEL_MAX);
    return CHV_OK;
}

static enum chv_err check_bytes(const void *ptr, size_t len, size_t max, const char *what, struct chv_why *why)
{
    if (len > max)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s has %zu bytes: at most %zu are allowed", what, len, max);
    if (ptr == NULL && len > 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no %s was given", what);
    return CHV_OK;
}

static enum chv_err lacks(const struct chv_keystore *ks, const char *what, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_UNSUPPORTED, "a '%s' keystore cannot %s", ks->ops->scheme, what);
}

/* Length of the scheme before the first ':' (RFC 3986, 3.1); 0 for a bare path. */
static size_t scheme_length(const char *uri)
{
    size_t n = 0;
    if (!is_alpha(uri[0]))
        return 0;
    while (is_alpha(uri[n]) || is_digit(uri[n]) || (uri[n] != '\0' && strchr("+.-", uri[n]) != NULL))
        n++;
    return uri[n] == ':' ? n : 0;
}

static const struct chv_keystore_ops *find_scheme(const char *scheme, size_t len)
{
    for (size_t i = 0; i < sizeof keystores / sizeof keystores[0]; i++)
        if (strlen(keystores[i]->scheme) == len && memcmp(keystores[i]->scheme, scheme, len) == 0)
            return keystores[i];
    return NULL;
}

enum chv_err chv_keystore_open(const char *uri, const struct chv_keystore_options *options, struct chv_keystore **ks,
                               struct chv_why *why)
{
    static const char file[] = "file";
    if (uri == NULL || uri[0] == '\0' || options == NULL || ks == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no keystore was named");
    if (options->mode != CHV_KEYSTORE_READ && options->mode != CHV_KEYSTORE_WRITE &&
        options->mode != CHV_KEYSTORE_CREATE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: %d is no mode of opening a keystore", uri, (int)options->mode);
    size_t n = scheme_length(uri);
    const struct chv_keystore_ops *ops = n == 0 ? find_scheme(file, strlen(file)) : find_scheme(uri, n);
    if (ops == NULL)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "keystore '%s': unknown scheme '%.*s', known are: %s (write file:PATH for a path with a colon)",
                        uri, (int)n, uri, chv_keystore_schemes());
    if (ops->abi != CHV_KEYSTORE_ABI)
        return chv_fail(why, CHV_ERR_UNSUPPORTED, "keystore '%s': built for interface %u, this is %u", ops->scheme,
                        ops->abi, CHV_KEYSTORE_ABI);
    return ops->open(uri, options, ks, why);
}

void chv_keystore_close(struct chv_keystore *ks)
{
    if (ks != NULL)
        ks->ops->close(ks);
}

enum chv_err chv_keystore_unlock(struct chv_keystore *ks, chv_secret_fn secret, void *arg, struct chv_why *why)
{
    if (ks == NULL || secret == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no keystore, or no way to ask for its passphrase, was given");
    return ks->ops->unlock(ks, secret, arg, why);
}

enum chv_err chv_keystore_commit(struct chv_keystore *ks, struct chv_why *why)
{
    if (ks == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no keystore was given");
    return ks->ops->commit(ks, why);
}

enum chv_err chv_keystore_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK)
        err = check_bytes(info, info_len, CHV_INFO_MAX, "info", why);
    if (err == CHV_OK && ks->ops->derive == NULL)
        return lacks(ks, "derive keys", why);
    return err != CHV_OK ? err : ks->ops->derive(ks, label, info, info_len, out, why);
}

enum chv_err chv_keystore_derive2(struct chv_keystore *ks, const char *label, const uint8_t *info1, size_t info1_len,
                                  const uint8_t *info2, size_t info2_len, uint8_t out[CHV_SECRET_LEN],
                                  struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK)
        err = check_bytes(info1, info1_len, CHV_INFO_MAX, "first info", why);
    if (err == CHV_OK)
        err = check_bytes(info2, info2_len, CHV_INFO_MAX, "second info", why);
    if (err == CHV_OK && ks->ops->derive2 == NULL)
        return lacks(ks, "derive keys", why);
    return err != CHV_OK ? err : ks->ops->derive2(ks, label, info1, info1_len, info2, info2_len, out, why);
}

enum chv_err chv_keystore_generate(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK && ks->ops->generate == NULL)
        return lacks(ks, "hold secrets", why);
    return err != CHV_OK ? err : ks->ops->generate(ks, label, why);
}

enum chv_err chv_keystore_import(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                                 struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK)
        err = check_bytes(secret, CHV_SECRET_LEN, CHV_SECRET_LEN, "secret", why);
    if (err == CHV_OK && ks->ops->import == NULL)
        return lacks(ks, "hold secrets", why);
    return err != CHV_OK ? err : ks->ops->import(ks, label, secret, why);
}

enum chv_err chv_keystore_list(struct chv_keystore *ks, chv_key_fn each, void *arg, struct chv_why *why)
{
    if (ks == NULL || each == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no keystore, or nobody to tell its keys to, was given");
    return ks->ops->list(ks, each, arg, why);
}

enum chv_err chv_keystore_remove(struct chv_keystore *ks, const char *label, struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK && ks->ops->remove == NULL)
        return lacks(ks, "remove anything", why);
    return err != CHV_OK ? err : ks->ops->remove(ks, label, why);
}

enum chv_err chv_keystore_data_put(struct chv_keystore *ks, const char *label, const uint8_t *data, size_t len,
                                   struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK)
        err = check_bytes(data, len, CHV_KEYSTORE_DATA_MAX, "data item", why);
    if (err == CHV_OK && ks->ops->data_put == NULL)
        return lacks(ks, "hold data items", why);
    return err != CHV_OK ? err : ks->ops->data_put(ks, label, data, len, why);
}

enum chv_err chv_keystore_data_get(struct chv_keystore *ks, const char *label, uint8_t *out, size_t *len,
                                   struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK && (len == NULL || (out == NULL && *len > 0)))
        err = chv_fail(why, CHV_ERR_ARGUMENT, "no room for data item '%s' was given", label);
    if (err == CHV_OK && ks->ops->data_get == NULL)
        return lacks(ks, "hold data items", why);
    return err != CHV_OK ? err : ks->ops->data_get(ks, label, out, len, why);
}

enum chv_err chv_keystore_generate_identity(struct chv_keystore *ks, const char *label, enum chv_key_use use,
                                            enum chv_curve curve, struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err != CHV_OK)
        return err;
    if ((curve != CHV_CURVE_25519 && curve != CHV_CURVE_P256) ||
        (use != CHV_USE_IDENTITY && (use != CHV_USE_RECEIPT || curve != CHV_CURVE_P256)))
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "key pair '%s': an identity is X25519 or P-256, a receipt key is P-256, nothing else", label);
    if (ks->ops->generate_identity == NULL)
        return lacks(ks, "make key pairs", why);
    return ks->ops->generate_identity(ks, label, use, curve, why);
}

enum chv_err chv_keystore_public_key(struct chv_keystore *ks, const char *label, enum chv_curve *curve,
                                     uint8_t out[CHV_DH_PUBLIC_MAX], struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err != CHV_OK)
        return err;
    if (ks->ops->public_key == NULL)
        return lacks(ks, "hold key pairs", why);
    return ks->ops->public_key(ks, label, curve, out, why);
}

enum chv_err chv_keystore_dh(struct chv_keystore *ks, const char *label, const uint8_t *peer_public,
                             uint8_t out[CHV_KEY_LEN], struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err != CHV_OK)
        return err;
    if (peer_public == NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "no public key of the peer was given");
    if (ks->ops->dh == NULL)
        return lacks(ks, "compute Diffie-Hellman", why);
    return ks->ops->dh(ks, label, peer_public, out, why);
}

enum chv_err chv_keystore_sign(struct chv_keystore *ks, const char *label, const uint8_t *message, size_t len,
                               uint8_t sig[CHV_SIGNATURE_MAX], size_t *sig_len, struct chv_why *why)
{
    enum chv_err err = check_label(ks, label, why);
    if (err == CHV_OK)
        err = check_bytes(message, len, SIZE_MAX, "message", why);
    if (err != CHV_OK)
        return err;
    if (ks->ops->sign == NULL)
        return lacks(ks, "sign", why);
    return ks->ops->sign(ks, label, message, len, sig, sig_len, why);
}
