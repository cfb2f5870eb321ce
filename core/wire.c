/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wire.h"

#include "base/bytes.h"

#include <string.h>

static const uint8_t magic[3] = {'C', 'H', 'V'};

/* Indexed by enum chv_suite. */
static const struct chv_suite_parts suites[] = {
    [CHV_SUITE_X25519_AESGCM_SHA256] = {"x25519-aesgcm-sha256", CHV_CURVE_25519, CHV_AEAD_AES256GCM, CHV_HASH_SHA256},
    [CHV_SUITE_X25519_CHACHAPOLY_SHA256] = {"x25519-chachapoly-sha256", CHV_CURVE_25519, CHV_AEAD_CHACHA20POLY1305,
                                            CHV_HASH_SHA256},
    [CHV_SUITE_P256_AESGCM_SHA256] = {"p256-aesgcm-sha256", CHV_CURVE_P256, CHV_AEAD_AES256GCM, CHV_HASH_SHA256},
};

/* Indexed by enum chv_profile. `kind`: the one hello kind of a full handshake. */
static const struct profile {
    const char *name;
    const char *pattern;
    enum chv_hello_kind kind;
} profiles[] = {
    [CHV_PROFILE_PSK] = {"psk", "NNpsk2", CHV_HELLO_CREDENTIAL},
    [CHV_PROFILE_KEY] = {"key", "IK", CHV_HELLO_NOTHING},
    [CHV_PROFILE_KEY_PSK] = {"key+psk", "IKpsk2", CHV_HELLO_NOTHING},
};

static const unsigned refusals[] = {CHV_REFUSE_MALFORMED, CHV_REFUSE_TICKET, CHV_REFUSE_UNKNOWN_KEY,
                                    CHV_REFUSE_VERSION,   CHV_REFUSE_RATE,   CHV_REFUSE_UNAVAILABLE};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

const struct chv_suite_parts *chv_suite_parts(enum chv_suite suite)
{
    size_t i = (size_t)suite;
    return i < COUNT(suites) && suites[i].name != NULL ? &suites[i] : NULL;
}

static const struct profile *find_profile(enum chv_profile profile)
{
    size_t i = (size_t)profile;
    return i < COUNT(profiles) && profiles[i].name != NULL ? &profiles[i] : NULL;
}

const char *chv_profile_pattern(enum chv_profile profile)
{
    const struct profile *p = find_profile(profile);
    return p != NULL ? p->pattern : NULL;
}

const char *chv_profile_name(enum chv_profile profile)
{
    const struct profile *p = find_profile(profile);
    return p != NULL ? p->name : "?";
}

const char *chv_suite_name(enum chv_suite suite)
{
    const struct chv_suite_parts *parts = chv_suite_parts(suite);
    return parts != NULL ? parts->name : "?";
}

enum chv_err chv_suite_find(const char *name, enum chv_suite *suite)
{
    for (size_t i = 0; i < COUNT(suites); i++)
        if (suites[i].name != NULL && strcmp(suites[i].name, name) == 0) {
            *suite = (enum chv_suite)i;
            return CHV_OK;
        }
    return CHV_ERR_NOT_FOUND;
}

enum chv_err chv_profile_find(const char *name, enum chv_profile *profile)
{
    for (size_t i = 0; i < COUNT(profiles); i++)
        if (profiles[i].name != NULL && strcmp(profiles[i].name, name) == 0) {
            *profile = (enum chv_profile)i;
            return CHV_OK;
        }
    return CHV_ERR_NOT_FOUND;
}

bool chv_refusal_known(unsigned code)
{
    for (size_t i = 0; i < COUNT(refusals); i++)
        if (refusals[i] == code)
            return true;
    return false;
}

void chv_put_u16(uint8_t out[2], uint16_t v)
{
    out[0] = (uint8_t)(v >> 8);
    out[1] = (uint8_t)v;
}

uint16_t chv_get_u16(const uint8_t in[2])
{
    return (uint16_t)(in[0] << 8 | in[1]);
}

/* Full handshakes carry their profile's kind; every resumption is NNpsk2 with a ticket. */
static bool kind_fits(enum chv_profile profile, enum chv_hello_kind kind)
{
    return kind == profiles[profile].kind || (kind == CHV_HELLO_TICKET && profile == CHV_PROFILE_PSK);
}

unsigned chv_hello_parse(uint8_t *body, size_t len, const struct chv_served *served, struct chv_hello *hello,
                         const char **note)
{
    struct chv_reader r;
    chv_reader_init(&r, body, len);

    const uint8_t *start = chv_read_bytes(&r, sizeof magic);
    if (start == NULL || memcmp(start, magic, sizeof magic) != 0) {
        *note = "hello: it does not begin with \"CHV\"; not a chaveiro client";
        return CHV_REFUSE_MALFORMED;
    }
    const uint8_t version = chv_read_u8(&r);
    if (!r.failed && version != CHV_WIRE_VERSION) {
        *note = "hello: unknown protocol version";
        return CHV_REFUSE_VERSION;
    }
    unsigned profile = chv_read_u8(&r), suite = chv_read_u8(&r), kind = chv_read_u8(&r), zero = chv_read_u8(&r);
    size_t bytes_len = chv_read_u16(&r);
    const uint8_t *bytes = chv_read_bytes(&r, bytes_len);
    if (bytes == NULL) {
        *note = "hello: too short";
        return CHV_REFUSE_MALFORMED;
    }
    if (zero != 0) {
        *note = "hello: the reserved byte is not 0";
        return CHV_REFUSE_MALFORMED;
    }
    /* Every resumption says psk: whether its own profile is served is seen when its ticket is opened. */
    if (find_profile((enum chv_profile)profile) == NULL ||
        (kind != CHV_HELLO_TICKET && !(served->profiles & CHV_PROFILE_BIT(profile)))) {
        *note = served->profiles != 0 ? "hello: profile not served"
                                      : "hello: a full handshake, and only tickets are taken here";
        return CHV_REFUSE_VERSION;
    }
    if (chv_suite_parts((enum chv_suite)suite) == NULL || !(served->suites & CHV_SUITE_BIT(suite))) {
        *note = "hello: suite not served";
        return CHV_REFUSE_VERSION;
    }
    if (!kind_fits((enum chv_profile)profile, (enum chv_hello_kind)kind)) {
        *note = "hello: this kind does not go with this profile";
        return CHV_REFUSE_MALFORMED;
    }
    if (kind == CHV_HELLO_NOTHING && bytes_len != 0) {
        *note = "hello: bytes where its kind has none";
        return CHV_REFUSE_MALFORMED;
    }
    *hello = (struct chv_hello){
        .profile = (enum chv_profile)profile,
        .suite = (enum chv_suite)suite,
        .kind = (enum chv_hello_kind)kind,
        .bytes = bytes,
        .bytes_len = bytes_len,
        .prologue = body,
        .prologue_len = len - r.left,
        .message1 = body + (len - r.left),
        .message1_len = r.left,
    };
    return 0;
}

size_t chv_hello_write_prologue(uint8_t *out, enum chv_profile profile, enum chv_suite suite, enum chv_hello_kind kind,
                                const uint8_t *bytes, size_t bytes_len)
{
    struct chv_writer w;
    chv_writer_init(&w, out, CHV_HELLO_FIXED_LEN + bytes_len);
    chv_write_bytes(&w, magic, sizeof magic);
    chv_write_u8(&w, CHV_WIRE_VERSION);
    chv_write_u8(&w, (uint8_t)profile);
    chv_write_u8(&w, (uint8_t)suite);
    chv_write_u8(&w, (uint8_t)kind);
    chv_write_u8(&w, 0);
    chv_write_u16(&w, (uint16_t)bytes_len);
    chv_write_bytes(&w, bytes, bytes_len);
    return w.len;
}
