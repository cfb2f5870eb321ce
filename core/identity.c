/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity.h"

#include "base/encode.h"

#include <string.h>

static const char *const curve_names[CHV_CURVE_COUNT] = {[CHV_CURVE_25519] = "x25519", [CHV_CURVE_P256] = "p256"};

static const char fingerprint_prefix[] = "SHA256:";

_Static_assert(CHV_FINGERPRINT_MAX >= sizeof fingerprint_prefix - 1 + CHV_BASE64_SIZE(CHV_IDENTITY_HASH_LEN),
               "a fingerprint fits");
_Static_assert(CHV_IDENTITY_TEXT_MAX > 6 + 1 + CHV_IDENTITY_BASE64_MAX, "curve, space, key, NUL");
_Static_assert(CHV_IDENTITY_BASE64_MAX == (CHV_DH_PUBLIC_MAX + 2) / 3 * 4, "padded base64");

const char *chv_identity_curve_name(enum chv_curve curve)
{
    return (unsigned)curve < CHV_CURVE_COUNT ? curve_names[curve] : "?";
}

enum chv_err chv_identity_curve_find(const char *name, enum chv_curve *curve)
{
    for (unsigned i = 0; i < CHV_CURVE_COUNT; i++)
        if (strcmp(curve_names[i], name) == 0) {
            *curve = (enum chv_curve)i;
            return CHV_OK;
        }
    return CHV_ERR_NOT_FOUND;
}

/* Between the alphabets of RFC 4648, 5 and 4: what ssh-keygen, openssl and base64(1) write. */
static void swap_alphabet(char *text, const char from[2], const char to[2])
{
    for (; *text != '\0'; text++)
        if (*text == from[0])
            *text = to[0];
        else if (*text == from[1])
            *text = to[1];
}

void chv_identity_format(const struct chv_identity *identity, char out[CHV_IDENTITY_TEXT_MAX])
{
    const char *name = chv_identity_curve_name(identity->curve);
    size_t len = strlen(name);
    memcpy(out, name, len);
    out[len++] = ' ';
    chv_base64_encode(identity->public_key, chv_dh_public_len(identity->curve), out + len);
    swap_alphabet(out + len, "-_", "+/");
    size_t digits = strlen(out + len);
    len += digits;
    for (; digits % 4 != 0; digits++)
        out[len++] = '=';
    out[len] = '\0';
}

enum chv_err chv_identity_parse(const char *curve, const char *base64, struct chv_identity *identity)
{
    char text[CHV_IDENTITY_BASE64_MAX + 1];
    struct chv_identity found;
    memset(identity, 0, sizeof *identity);
    memset(&found, 0, sizeof found);
    size_t len = strnlen(base64, sizeof text);
    if (len == sizeof text || chv_identity_curve_find(curve, &found.curve) != CHV_OK)
        return CHV_ERR_MALFORMED;
    const size_t wanted = chv_dh_public_len(found.curve);
    memcpy(text, base64, len + 1);
    /* The decoder takes the other alphabet without padding, which is checked here. */
    if (strpbrk(text, "-_") != NULL || len != (wanted + 2) / 3 * 4)
        return CHV_ERR_MALFORMED;
    size_t digits = strcspn(text, "=");
    if (digits != (wanted * 4 + 2) / 3 || strspn(text + digits, "=") != len - digits)
        return CHV_ERR_MALFORMED;
    text[digits] = '\0';
    swap_alphabet(text, "+/", "-_");
    size_t n = sizeof found.public_key;
    enum chv_err err = chv_base64_decode(text, digits, found.public_key, &n);
    if (err != CHV_OK || n != wanted)
        return CHV_ERR_MALFORMED;
    if (found.curve == CHV_CURVE_P256 && found.public_key[0] != 4) /* SEC 1, 2.3.3: uncompressed */
        return CHV_ERR_MALFORMED;
    *identity = found;
    return CHV_OK;
}

int chv_identity_compare(const struct chv_identity *a, const struct chv_identity *b)
{
    if (a->curve != b->curve)
        return a->curve < b->curve ? -1 : 1;
    return memcmp(a->public_key, b->public_key, chv_dh_public_len(a->curve));
}

void chv_fingerprint_format(const uint8_t hash[CHV_IDENTITY_HASH_LEN], char out[CHV_FINGERPRINT_MAX])
{
    const size_t prefix = sizeof fingerprint_prefix - 1;
    memcpy(out, fingerprint_prefix, prefix);
    chv_base64_encode(hash, CHV_IDENTITY_HASH_LEN, out + prefix);
    swap_alphabet(out + prefix, "-_", "+/");
}

enum chv_err chv_fingerprint(const struct chv_crypto *crypto, const struct chv_identity *identity,
                             char out[CHV_FINGERPRINT_MAX])
{
    uint8_t hash[CHV_IDENTITY_HASH_LEN];
    enum chv_err err = chv_identity_hash(crypto, identity->curve, identity->public_key, hash);
    if (err == CHV_OK)
        chv_fingerprint_format(hash, out);
    return err;
}
