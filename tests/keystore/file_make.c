/* SPDX-License-Identifier: Apache-2.0 */
/* file_make PATH: a keystore with one entry of each kind, for the reader that was written apart (file_format). */
#include <chaveiro/keystore.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"

static enum chv_err passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                               struct chv_why *why)
{
    static const char text[] = "sesame";
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)why;
    if (cap < sizeof text - 1)
        return CHV_ERR_SPACE;
    *len = sizeof text - 1;
    memcpy(out, text, *len);
    return CHV_OK;
}

static enum chv_err fill(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t secret[CHV_SECRET_LEN];
    memset(secret, 0x42, sizeof secret);
    enum chv_err err = chv_keystore_unlock(ks, passphrase, NULL, why);
    if (err == CHV_OK)
        err = chv_keystore_import(ks, "secret", secret, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, "x", CHV_USE_IDENTITY, CHV_CURVE_25519, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, "p", CHV_USE_IDENTITY, CHV_CURVE_P256, why);
    if (err == CHV_OK)
        err = chv_keystore_generate_identity(ks, "r", CHV_USE_RECEIPT, CHV_CURVE_P256, why);
    if (err == CHV_OK)
        err = chv_keystore_data_put(ks, "data", (const uint8_t *)"hello", 5, why);
    if (err == CHV_OK)
        err = chv_keystore_commit(ks, why);
    return err;
}

/* Prints the public keys, "LABEL HEX" a line, as the program sees them. */
static enum chv_err print_public(struct chv_keystore *ks, struct chv_why *why)
{
    static const char *const labels[] = {"x", "p", "r"};
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        uint8_t key[CHV_DH_PUBLIC_MAX];
        char hex[CHV_HEX_SIZE(CHV_DH_PUBLIC_MAX)];
        enum chv_curve curve;
        enum chv_err err = chv_keystore_public_key(ks, labels[i], &curve, key, why);
        if (err != CHV_OK)
            return err;
        chv_hex_encode(key, chv_dh_public_len(curve), hex);
        (void)printf("%s %s\n", labels[i], hex);
    }
    return CHV_OK;
}

int main(int argc, char **argv)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = UINT64_C(1) << 14};
    struct chv_keystore *ks = NULL;
    struct chv_why why = {""};
    if (argc != 2)
        return EXIT_FAILURE;
    enum chv_err err = chv_keystore_open(argv[1], &options, &ks, &why);
    if (err == CHV_OK)
        err = fill(ks, &why);
    if (err == CHV_OK)
        err = print_public(ks, &why);
    if (err != CHV_OK)
        (void)fprintf(stderr, "%s\n", why.text);
    chv_keystore_close(ks);
    return err == CHV_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
