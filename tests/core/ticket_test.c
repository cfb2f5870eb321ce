/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: one encoding each, opened by one key only, and nothing of what is inside on any failure. */
#include "core/ticket.h"

#include "base/bytes.h"
#include "base/memory.h"
#include "core/wire.h"
#include "tests/harness.h"
#include "tests/support/test_backend.h"

#include <stdio.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static struct chv_crypto crypto;
static const uint8_t key[CHV_KEY_LEN] = {1, 2, 3};
static const uint8_t nonce_0[CHV_AEAD_NONCE_LEN];
static const struct chv_ticket_label home = {.epoch = 7, .period = 20771, .audience = "home"};

static struct chv_ticket sample(enum chv_profile profile, enum chv_suite suite)
{
    struct chv_ticket t = {.profile = profile,
                           .suite = suite,
                           .not_after = 1800003600,
                           .auth_time = 1800000000,
                           .lineage = {1, 2, 3},
                           .number = 5,
                           .secret = {9, 8, 7},
                           .rights = {.not_after = 1800864000, .id = "cam-1@door"}};
    CU_ASSERT_EQUAL(chv_credential_add_scope(&t.rights, "message"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&t.rights, "tunnel:db"), CHV_OK);
    if (profile != CHV_PROFILE_KEY) {
        struct chv_credential c = {.profile = profile,
                                   .epoch = 7,
                                   .serial = 2,
                                   .id = "cam-1@door",
                                   .has_identity = profile == CHV_PROFILE_KEY_PSK};
        t.credential_len = sizeof t.credential;
        CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, t.credential, &t.credential_len), CHV_OK);
    }
    if (profile != CHV_PROFILE_PSK) {
        t.has_peer = true;
        t.curve = chv_suite_parts(suite)->curve;
        t.peer_public_len = chv_dh_public_len(t.curve);
        memset(t.peer_public, 4, t.peer_public_len);
    }
    return t;
}

static size_t seal(const struct chv_ticket *t, uint8_t out[CHV_TICKET_MAX])
{
    size_t len = CHV_TICKET_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&crypto, key, &home, t, out, &len), CHV_OK);
    return len;
}

/* Opening fails with `wanted`, and nothing of the ticket is left. */
static void check_refused(const uint8_t *bytes, size_t len, enum chv_err wanted)
{
    struct chv_ticket out;
    memset(&out, 0xaa, sizeof out);
    CU_ASSERT_EQUAL(chv_ticket_open(&crypto, key, bytes, len, &out), wanted);
    CU_ASSERT(chv_is_zero((const uint8_t *)&out, sizeof out));
}

static void test_round_trip(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++)
        for (unsigned suite = 1; suite <= 3; suite++) {
            const struct chv_ticket t = sample((enum chv_profile)profile, (enum chv_suite)suite);
            struct chv_ticket out;
            struct chv_ticket_label label;
            uint8_t bytes[CHV_TICKET_MAX], again[CHV_TICKET_MAX];
            const size_t len = seal(&t, bytes);
            CU_ASSERT_EQUAL(chv_ticket_peek(bytes, len, &label), CHV_OK);
            CU_ASSERT_EQUAL(label.epoch, home.epoch);
            CU_ASSERT_EQUAL(label.period, home.period);
            CU_ASSERT_STRING_EQUAL(label.audience, home.audience);
            CU_ASSERT_EQUAL_FATAL(chv_ticket_open(&crypto, key, bytes, len, &out), CHV_OK);
            CU_ASSERT_EQUAL(out.profile, t.profile);
            CU_ASSERT_EQUAL(out.suite, t.suite);
            CU_ASSERT_EQUAL(out.not_after, t.not_after);
            CU_ASSERT_EQUAL(out.auth_time, t.auth_time);
            CU_ASSERT(memcmp(out.lineage, t.lineage, sizeof t.lineage) == 0);
            CU_ASSERT_EQUAL(out.number, t.number);
            CU_ASSERT(memcmp(out.secret, t.secret, sizeof t.secret) == 0);
            CU_ASSERT_EQUAL(out.credential_len, t.credential_len);
            CU_ASSERT(memcmp(out.credential, t.credential, sizeof t.credential) == 0);
            CU_ASSERT_EQUAL(out.has_peer, t.has_peer);
            CU_ASSERT_EQUAL(out.curve, t.curve);
            CU_ASSERT_EQUAL(out.peer_public_len, t.peer_public_len);
            CU_ASSERT(memcmp(out.peer_public, t.peer_public, sizeof t.peer_public) == 0);
            CU_ASSERT_EQUAL(out.rights.not_after, t.rights.not_after);
            CU_ASSERT_STRING_EQUAL(out.rights.id, t.rights.id);
            CU_ASSERT_EQUAL_FATAL(out.rights.scope_count, 2);
            CU_ASSERT_STRING_EQUAL(out.rights.scopes[0], "message");
            CU_ASSERT_STRING_EQUAL(out.rights.scopes[1], "tunnel:db");
            CU_ASSERT_EQUAL(out.rights.epoch, 0);
            /* The nonce is fresh, so no key seals twice; nothing of the inside can be seen. */
            CU_ASSERT_EQUAL(seal(&t, again), len);
            CU_ASSERT(memcmp(bytes, again, len) != 0);
            CU_ASSERT_PTR_NULL(memmem(bytes, len, "cam-1", 5));
            CU_ASSERT_PTR_NULL(memmem(bytes, len, t.secret, 8));
            CU_ASSERT_PTR_NULL(memmem(bytes, len, t.lineage, 8));
        }
}

static void test_every_truncation(void)
{
    for (unsigned profile = CHV_PROFILE_PSK; profile <= CHV_PROFILE_KEY_PSK; profile++) {
        const struct chv_ticket t = sample((enum chv_profile)profile, CHV_SUITE_P256_AESGCM_SHA256);
        uint8_t bytes[CHV_TICKET_MAX + 1];
        const size_t label_len = 1 + 4 + 1 + 4 + 8 + CHV_TICKET_NONCE_LEN;
        const size_t len = seal(&t, bytes);
        for (size_t n = 0; n < len; n++) {
            struct chv_ticket_label label;
            const bool label_whole = n > label_len + CHV_AEAD_TAG_LEN;
            CU_ASSERT_EQUAL(chv_ticket_peek(bytes, n, &label), label_whole ? CHV_OK : CHV_ERR_MALFORMED);
            check_refused(bytes, n, label_whole ? CHV_ERR_AUTH : CHV_ERR_MALFORMED);
        }
        bytes[len] = 0;
        check_refused(bytes, len + 1, CHV_ERR_AUTH);
    }
}

static void test_every_byte_flipped(void)
{
    const struct chv_ticket t = sample(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    uint8_t bytes[CHV_TICKET_MAX];
    const size_t len = seal(&t, bytes);
    for (size_t at = 0; at < len; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct chv_ticket out;
            bytes[at] ^= (uint8_t)(1u << bit);
            const enum chv_err err = chv_ticket_open(&crypto, key, bytes, len, &out);
            CU_ASSERT(err == CHV_ERR_AUTH || (err == CHV_ERR_MALFORMED && at < 10)); /* version, epoch, audience */
            CU_ASSERT(chv_is_zero((const uint8_t *)&out, sizeof out));
            bytes[at] ^= (uint8_t)(1u << bit);
        }
}

static void test_wrong_key(void)
{
    const struct chv_ticket t = sample(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    uint8_t bytes[CHV_TICKET_MAX], other[CHV_KEY_LEN];
    struct chv_ticket out;
    const size_t len = seal(&t, bytes);
    for (size_t at = 0; at < sizeof key; at++) {
        memcpy(other, key, sizeof key);
        other[at] ^= 1;
        CU_ASSERT_EQUAL(chv_ticket_open(&crypto, other, bytes, len, &out), CHV_ERR_AUTH);
        CU_ASSERT(chv_is_zero((const uint8_t *)&out, sizeof out));
    }
}

/* A ticket as whoever has the key could make it: any plaintext behind a good label. */
static size_t forge(const uint8_t *plain, size_t plain_len, uint8_t *out)
{
    uint8_t info[CHV_INFO_MAX], seal_key[CHV_KEY_LEN];
    size_t info_len = 0;
    struct chv_aead *aead = NULL;
    const struct chv_ticket t = sample(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    uint8_t whole[CHV_TICKET_MAX];
    const size_t label_len = 1 + 4 + 1 + 4 + 8 + CHV_TICKET_NONCE_LEN;
    (void)seal(&t, whole);
    memcpy(out, whole, label_len);
    CU_ASSERT_EQUAL_FATAL(chv_info_ticket_seal(out + label_len - CHV_TICKET_NONCE_LEN, info, &info_len), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(
        chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, sizeof key, info, info_len, seal_key, sizeof seal_key), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_crypto_aead_new(&crypto, CHV_AEAD_AES256GCM, seal_key, &aead), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(
        chv_crypto_aead_seal(&crypto, aead, nonce_0, out, label_len, plain, plain_len, out + label_len), CHV_OK);
    chv_crypto_aead_free(&crypto, aead);
    return label_len + plain_len + CHV_AEAD_TAG_LEN;
}

/* The plaintext of a good ticket, by the table in the header; its length. */
static size_t plaintext(const struct chv_ticket *t, uint8_t *out, size_t room)
{
    struct chv_writer w;
    chv_writer_init(&w, out, room);
    chv_write_u8(&w, (uint8_t)t->profile);
    chv_write_u8(&w, (uint8_t)t->suite);
    chv_write_u64(&w, t->not_after);
    chv_write_u64(&w, t->auth_time);
    chv_write_bytes(&w, t->lineage, CHV_LINEAGE_LEN);
    chv_write_u32(&w, t->number);
    chv_write_bytes(&w, t->secret, CHV_KEY_LEN);
    chv_write_u16(&w, (uint16_t)t->credential_len);
    chv_write_bytes(&w, t->credential, t->credential_len);
    chv_write_u8(&w, (uint8_t)t->curve);
    chv_write_u8(&w, (uint8_t)t->peer_public_len);
    chv_write_bytes(&w, t->peer_public, t->peer_public_len);
    chv_write_u64(&w, t->rights.not_after);
    chv_write_u8(&w, (uint8_t)strlen(t->rights.id));
    chv_write_bytes(&w, t->rights.id, strlen(t->rights.id));
    chv_write_u8(&w, (uint8_t)t->rights.scope_count);
    for (size_t i = 0; i < t->rights.scope_count; i++) {
        chv_write_u8(&w, (uint8_t)strlen(t->rights.scopes[i]));
        chv_write_bytes(&w, t->rights.scopes[i], strlen(t->rights.scopes[i]));
    }
    CU_ASSERT_FALSE_FATAL(w.failed);
    return w.len;
}

/* What the label's key seals and is still no ticket. */
static void change_profile(struct chv_ticket *t)
{
    t->profile = (enum chv_profile)4;
}
static void change_suite(struct chv_ticket *t)
{
    t->suite = (enum chv_suite)0;
}
static void change_curve(struct chv_ticket *t)
{
    t->curve = CHV_CURVE_P256; /* another than the suite's */
}
static void change_suite_only(struct chv_ticket *t)
{
    t->suite = CHV_SUITE_P256_AESGCM_SHA256;
}
static void drop_peer(struct chv_ticket *t)
{
    t->peer_public_len = 0;
}
static void shorten_peer(struct chv_ticket *t)
{
    t->peer_public_len--;
}
static void drop_credential(struct chv_ticket *t)
{
    t->credential_len = 0;
}
static void shorten_credential(struct chv_ticket *t)
{
    t->credential_len--;
}
static void change_credentials_profile(struct chv_ticket *t)
{
    const struct chv_ticket other = sample(CHV_PROFILE_PSK, t->suite);
    memcpy(t->credential, other.credential, other.credential_len);
    t->credential_len = other.credential_len;
}
static void change_id(struct chv_ticket *t)
{
    t->rights.id[0] = 'd'; /* rights of another than the credential's */
}
static void bad_id(struct chv_ticket *t)
{
    t->rights.id[0] = '-';
}
static void no_id(struct chv_ticket *t)
{
    t->rights.id[0] = '\0';
}
static void bad_scope(struct chv_ticket *t)
{
    t->rights.scopes[0][0] = 'M';
}
static void swap_scopes(struct chv_ticket *t)
{
    memcpy(t->rights.scopes[0], "tunnel:db", 10);
    memcpy(t->rights.scopes[1], "message", 8);
}
static void double_scope(struct chv_ticket *t)
{
    memcpy(t->rights.scopes[1], "message", 8);
}
static void empty_scope(struct chv_ticket *t)
{
    t->rights.scopes[0][0] = '\0';
}
static void no_end(struct chv_ticket *t)
{
    t->not_after = 0;
}
static void psk_with_peer(struct chv_ticket *t)
{
    change_credentials_profile(t);
    t->profile = CHV_PROFILE_PSK;
}
static void key_with_credential(struct chv_ticket *t)
{
    t->profile = CHV_PROFILE_KEY;
}

static void test_not_canonical(void)
{
    static void (*const changes[])(struct chv_ticket * t) = {change_profile,
                                                             change_suite,
                                                             change_curve,
                                                             change_suite_only,
                                                             drop_peer,
                                                             shorten_peer,
                                                             drop_credential,
                                                             shorten_credential,
                                                             change_credentials_profile,
                                                             change_id,
                                                             bad_id,
                                                             no_id,
                                                             bad_scope,
                                                             swap_scopes,
                                                             double_scope,
                                                             empty_scope,
                                                             no_end,
                                                             psk_with_peer,
                                                             key_with_credential};
    uint8_t plain[CHV_TICKET_MAX], bytes[2 * CHV_TICKET_MAX];
    struct chv_ticket good = sample(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256), out;
    size_t plain_len = plaintext(&good, plain, sizeof plain);
    CU_ASSERT_EQUAL(chv_ticket_open(&crypto, key, bytes, forge(plain, plain_len, bytes), &out), CHV_OK);
    for (size_t i = 0; i < COUNT(changes); i++) {
        struct chv_ticket t = good;
        size_t len = CHV_TICKET_MAX;
        changes[i](&t);
        plain_len = plaintext(&t, plain, sizeof plain);
        check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
        t.has_peer = t.peer_public_len > 0;
        CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &home, &t, bytes, &len), CHV_ERR_ARGUMENT);
    }
    /* Profile key: no credential vouches for the id. */
    static void (*const ids[])(struct chv_ticket * t) = {bad_id, no_id};
    for (size_t i = 0; i < COUNT(ids); i++) {
        struct chv_ticket t = sample(CHV_PROFILE_KEY, CHV_SUITE_X25519_AESGCM_SHA256);
        ids[i](&t);
        plain_len = plaintext(&t, plain, sizeof plain);
        check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
    }
    /* Curve without a key; a byte behind; every truncation of the plaintext; a NUL in the id; a length over its room. */
    struct chv_ticket psk = sample(CHV_PROFILE_PSK, CHV_SUITE_P256_AESGCM_SHA256);
    psk.curve = CHV_CURVE_P256;
    plain_len = plaintext(&psk, plain, sizeof plain);
    check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
    plain_len = plaintext(&good, plain, sizeof plain);
    plain[plain_len] = 0;
    check_refused(bytes, forge(plain, plain_len + 1, bytes), CHV_ERR_MALFORMED);
    for (size_t n = 1; n < plain_len; n++)
        check_refused(bytes, forge(plain, n, bytes), CHV_ERR_MALFORMED);
    uint8_t *id = memmem(plain + 72 + good.credential_len, plain_len - 72 - good.credential_len, "cam-1@door",
                         10); /* the rights' */
    CU_ASSERT_PTR_NOT_NULL_FATAL(id);
    id[9] = '\0';
    check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
    id[9] = 'r';
    id[-1] = 255;
    check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
    plain[70] = 0xff; /* length of the credential */
    check_refused(bytes, forge(plain, plain_len, bytes), CHV_ERR_MALFORMED);
}

static void test_label(void)
{
    static const char *const bad[] = {"", "a b", "home\n", "caf\xc3\xa9"};
    const struct chv_ticket t = sample(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    struct chv_ticket_label label = home, found;
    uint8_t bytes[CHV_TICKET_MAX];
    size_t len = sizeof bytes;
    label.epoch = 0;
    CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &label, &t, bytes, &len), CHV_ERR_ARGUMENT);
    label.epoch = 1;
    for (size_t i = 0; i < COUNT(bad); i++) {
        (void)snprintf(label.audience, sizeof label.audience, "%s", bad[i]);
        CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &label, &t, bytes, &len), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(chv_info_ticket(bad[i], 1, bytes, &len), CHV_ERR_ARGUMENT);
    }
    memset(label.audience, 'x', CHV_AUDIENCE_MAX);
    label.period = UINT64_MAX;
    len = sizeof bytes;
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&crypto, key, &label, &t, bytes, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_ticket_peek(bytes, len, &found), CHV_OK);
    CU_ASSERT_EQUAL(strlen(found.audience), CHV_AUDIENCE_MAX);
    CU_ASSERT_EQUAL(found.period, UINT64_MAX);
    /* on the wire: version, epoch 0, a length over the limit, a byte outside the grammar, a NUL */
    static const struct {
        size_t at;
        uint8_t value;
    } lies[] = {{0, 0}, {0, 2}, {4, 0}, {5, CHV_AUDIENCE_MAX + 1}, {5, 0}, {6, ' '}, {6, 0}, {10, 0}};
    for (size_t i = 0; i < COUNT(lies); i++) {
        const uint8_t kept = bytes[lies[i].at];
        bytes[lies[i].at] = lies[i].value;
        memset(&found, 0x55, sizeof found);
        CU_ASSERT_EQUAL(chv_ticket_peek(bytes, len, &found), CHV_ERR_MALFORMED);
        CU_ASSERT_EQUAL(found.epoch, 0x55555555);
        check_refused(bytes, len, CHV_ERR_MALFORMED);
        bytes[lies[i].at] = kept;
    }
}

static void test_too_long(void)
{
    struct chv_ticket t = sample(CHV_PROFILE_KEY_PSK, CHV_SUITE_P256_AESGCM_SHA256);
    struct chv_ticket_label label;
    uint8_t bytes[2 * CHV_TICKET_MAX];
    size_t len = sizeof bytes;
    CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&crypto, key, &home, &t, bytes, &len), CHV_OK);
    const size_t needed = len;
    for (len = 0; len < needed;) {
        const size_t room = len;
        memset(bytes, 0x55, sizeof bytes);
        CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &home, &t, bytes, &len), CHV_ERR_SPACE);
        CU_ASSERT_EQUAL(len, room);
        CU_ASSERT(chv_is_zero(bytes, room));
        CU_ASSERT_EQUAL(bytes[room], 0x55);
        len++;
    }
    CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &home, &t, bytes, &len), CHV_OK);
    /* Rights of a registry or allow-list may be longer than any credential: such a ticket is not made. */
    while (t.rights.scope_count < CHV_SCOPES_MAX) {
        char scope[CHV_SCOPE_MAX + 1];
        (void)snprintf(scope, sizeof scope, "tunnel:a-target-with-a-name-%02zu", t.rights.scope_count);
        CU_ASSERT_EQUAL_FATAL(chv_credential_add_scope(&t.rights, scope), CHV_OK);
    }
    len = sizeof bytes;
    CU_ASSERT_EQUAL(chv_ticket_seal(&crypto, key, &home, &t, bytes, &len), CHV_ERR_SPACE);
    /* Nor looked at. */
    t.rights.scope_count = 2;
    len = seal(&t, bytes);
    memset(bytes + len, 0, sizeof bytes - len);
    CU_ASSERT_EQUAL(chv_ticket_peek(bytes, CHV_TICKET_MAX, &label), CHV_OK);
    CU_ASSERT_EQUAL(chv_ticket_peek(bytes, CHV_TICKET_MAX + 1, &label), CHV_ERR_MALFORMED);
    check_refused(bytes, CHV_TICKET_MAX + 1, CHV_ERR_MALFORMED);
}

/* Whichever call of the backend fails: no handle, no plaintext, no ticket. */
static void test_backend_fails(void)
{
    const struct chv_ticket t = sample(CHV_PROFILE_KEY_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    struct test_fault fault;
    uint8_t bytes[CHV_TICKET_MAX], good[CHV_TICKET_MAX];
    const size_t good_len = seal(&t, good);
    test_fault_init(&fault, &crypto);
    unsigned n = 0;
    do {
        size_t len = sizeof bytes;
        memset(bytes, 0x55, sizeof bytes);
        test_fault_arm(&fault, ++n);
        const enum chv_err err = chv_ticket_seal(&fault.crypto, key, &home, &t, bytes, &len);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_CRYPTO : CHV_OK);
        CU_ASSERT_EQUAL(chv_is_zero(bytes, sizeof bytes), fault.fired);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
    } while (fault.fired);
    CU_ASSERT_EQUAL(n, 6); /* nonce, key, forget, AEAD key, seal */
    n = 0;
    do {
        struct chv_ticket out;
        test_fault_arm(&fault, ++n);
        const enum chv_err err = chv_ticket_open(&fault.crypto, key, good, good_len, &out);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_CRYPTO : CHV_OK);
        CU_ASSERT_EQUAL(chv_is_zero((const uint8_t *)&out, sizeof out), fault.fired);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
    } while (fault.fired);
    CU_ASSERT_EQUAL(n, 5);
}

/* One audience's key, period's or epoch's opens nothing of another's. */
static void test_keys_differ(void)
{
    static const struct {
        const char *audience;
        uint64_t period;
    } cases[] = {{"home", 1}, {"home", 2}, {"home/data", 1}, {"fleet/home", 1}, {"hom", 1}};
    const uint8_t master[CHV_KEY_LEN] = {5};
    const struct chv_ticket t = sample(CHV_PROFILE_PSK, CHV_SUITE_X25519_AESGCM_SHA256);
    uint8_t keys[COUNT(cases)][CHV_KEY_LEN], info[CHV_INFO_MAX], bytes[CHV_TICKET_MAX];
    size_t info_len = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        CU_ASSERT_EQUAL_FATAL(chv_info_ticket(cases[i].audience, cases[i].period, info, &info_len), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(
            chv_hkdf_expand(&crypto, CHV_HASH_SHA256, master, sizeof master, info, info_len, keys[i], CHV_KEY_LEN),
            CHV_OK);
    }
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = sizeof bytes;
        CU_ASSERT_EQUAL_FATAL(chv_ticket_seal(&crypto, keys[i], &home, &t, bytes, &len), CHV_OK);
        for (size_t j = 0; j < COUNT(cases); j++) {
            struct chv_ticket out;
            CU_ASSERT_EQUAL(chv_ticket_open(&crypto, keys[j], bytes, len, &out), i == j ? CHV_OK : CHV_ERR_AUTH);
        }
    }
}

static const struct test_case cases[] = {
    {"round trip", test_round_trip},
    {"every truncation", test_every_truncation},
    {"every bit flipped", test_every_byte_flipped},
    {"wrong key", test_wrong_key},
    {"not canonical", test_not_canonical},
    {"label", test_label},
    {"too long", test_too_long},
    {"backend fails", test_backend_fails},
    {"keys differ", test_keys_differ},
};

int main(void)
{
    struct chv_why why;

    if (chv_backend_open("openssl", &crypto, &why) != CHV_OK) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    const int status = test_main("core/ticket", cases, COUNT(cases));
    chv_backend_close(&crypto);
    return status;
}
