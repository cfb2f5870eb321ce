/* SPDX-License-Identifier: Apache-2.0 */
/* Which suites a backend can serve. */
#include "core/wire.h"
#include "net/server.h"

unsigned chv_server_suites(uint32_t capabilities)
{
    static const struct {
        enum chv_suite suite;
        uint32_t needs;
    } suites[] = {
        {CHV_SUITE_X25519_AESGCM_SHA256,
         CHV_CAP_CURVE(CHV_CURVE_25519) | CHV_CAP_AEAD(CHV_AEAD_AES256GCM) | CHV_CAP_HASH(CHV_HASH_SHA256)},
        {CHV_SUITE_X25519_CHACHAPOLY_SHA256,
         CHV_CAP_CURVE(CHV_CURVE_25519) | CHV_CAP_AEAD(CHV_AEAD_CHACHA20POLY1305) | CHV_CAP_HASH(CHV_HASH_SHA256)},
        {CHV_SUITE_P256_AESGCM_SHA256,
         CHV_CAP_CURVE(CHV_CURVE_P256) | CHV_CAP_AEAD(CHV_AEAD_AES256GCM) | CHV_CAP_HASH(CHV_HASH_SHA256)},
    };
    unsigned mask = 0;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        if ((capabilities & suites[i].needs) == suites[i].needs)
            mask |= CHV_SUITE_BIT(suites[i].suite);
    return mask;
}

/* What the backend says about the first thing that it has not, "" if it says nothing. */
static const char *reason_of(const struct chv_crypto *crypto, enum chv_suite suite)
{
    const struct chv_suite_parts *parts = chv_suite_parts(suite);
    const uint32_t needs[] = {CHV_CAP_CURVE(parts->curve), CHV_CAP_AEAD(parts->aead), CHV_CAP_HASH(parts->hash)};
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        if ((crypto->capabilities & needs[i]) == 0)
            return chv_crypto_lacks(crypto, needs[i]);
    return "";
}

enum chv_err chv_server_suites_check(const struct chv_crypto *crypto, unsigned suites, struct chv_why *why)
{
    unsigned lacking = suites & ~chv_server_suites(crypto->capabilities);
    for (unsigned s = CHV_SUITE_X25519_AESGCM_SHA256; s <= CHV_SUITE_P256_AESGCM_SHA256; s++) {
        if ((lacking & CHV_SUITE_BIT(s)) == 0)
            continue;
        const char *reason = reason_of(crypto, (enum chv_suite)s);
        return chv_fail(
            why, CHV_ERR_CONFIG, "backend %s does not have what suite %s needs%s%s: leave it out of 'suites'",
            crypto->backend->name, chv_suite_name((enum chv_suite)s), reason[0] != '\0' ? ": " : "", reason);
    }
    return CHV_OK;
}
