/* SPDX-License-Identifier: Apache-2.0 */
/* Protocol names (Noise, section 8). */
#include "core/noise_name.h"

#include <string.h>

/* Moves *text past `part` and the separator behind it; false if something else stands there. */
static bool take(const char **text, const char *part, char separator)
{
    const size_t len = strlen(part);

    if (strncmp(*text, part, len) != 0 || (*text)[len] != separator)
        return false;
    *text += separator == '\0' ? len : len + 1;
    return true;
}

static enum chv_err take_pattern(const char **text, struct chv_noise_pattern *pattern)
{
    char name[CHV_PATTERN_NAME_MAX] = {0};
    const size_t len = strcspn(*text, "_");

    if (len >= sizeof name || (*text)[len] != '_')
        return CHV_ERR_NOT_FOUND;
    memcpy(name, *text, len);
    *text += len + 1;
    return chv_noise_pattern_find(name, pattern);
}

enum chv_err chv_noise_parse_name(const char *name, struct chv_noise_pattern *pattern, enum chv_curve *curve,
                                  enum chv_aead_alg *cipher, enum chv_hash *hash)
{
    struct chv_noise_pattern p;
    unsigned c = 0;
    unsigned a = 0;
    unsigned h = 0;

    if (!take(&name, "Noise", '_') || take_pattern(&name, &p) != CHV_OK)
        return CHV_ERR_NOT_FOUND;
    while (c < CHV_CURVE_COUNT && !take(&name, chv_curve_name((enum chv_curve)c), '_'))
        c++;
    while (a < CHV_AEAD_COUNT && !take(&name, chv_aead_name((enum chv_aead_alg)a), '_'))
        a++;
    while (h < CHV_HASH_COUNT && !take(&name, chv_hash_name((enum chv_hash)h), '\0'))
        h++;
    if (c == CHV_CURVE_COUNT || a == CHV_AEAD_COUNT || h == CHV_HASH_COUNT)
        return CHV_ERR_NOT_FOUND;
    *pattern = p;
    *curve = (enum chv_curve)c;
    *cipher = (enum chv_aead_alg)a;
    *hash = (enum chv_hash)h;
    return CHV_OK;
}

void chv_noise_build_name(const struct chv_noise_config *config, char out[CHV_NOISE_NAME_MAX])
{
    const char *const parts[] = {"Noise", config->pattern->name, chv_curve_name(config->curve),
                                 chv_aead_name(config->cipher), chv_hash_name(config->hash)};
    size_t pos = 0;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const size_t len = strnlen(parts[i], CHV_NOISE_NAME_MAX - 1 - pos);
        memcpy(out + pos, parts[i], len);
        pos += len;
        out[pos++] = '_';
    }
    out[pos - 1] = '\0';
}
