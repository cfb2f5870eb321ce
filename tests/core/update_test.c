/* SPDX-License-Identifier: Apache-2.0 */
#include "core/update.h"

#include "base/memory.h"
#include "core/hkdf.h"
#include "tests/harness.h"
#include "tests/support/test_backend.h"

#include <stdio.h>
#include <string.h>

static struct chv_crypto crypto;
static const uint8_t update_key[CHV_KEY_LEN] = {1, 2, 3};
static const uint8_t access_key[CHV_KEY_LEN] = {9, 8, 7};

static struct chv_credential sample(void)
{
    struct chv_credential c = {.profile = CHV_PROFILE_KEY_PSK,
                               .epoch = 7,
                               .serial = 2,
                               .not_after = 1800000000,
                               .id = "cam-1@door",
                               .has_identity = true,
                               .identity_hash = {1, 2, 3}};
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "files:ro"), CHV_OK);
    return c;
}

static size_t encode(const struct chv_credential *c, uint8_t out[CHV_CREDENTIAL_MAX])
{
    size_t len = CHV_CREDENTIAL_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(c, out, &len), CHV_OK);
    return len;
}

/* A body for `c`; its length. */
static size_t seal(const struct chv_credential *c, uint8_t body[CHV_UPDATE_BODY_MAX])
{
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = CHV_UPDATE_BODY_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_update_seal(&crypto, update_key, bytes, encode(c, bytes), access_key, body, &len),
                          CHV_OK);
    return len;
}

static void test_successor(void)
{
    struct chv_credential old = sample(), new;
    uint8_t a[CHV_CREDENTIAL_MAX], b[CHV_CREDENTIAL_MAX];
    size_t len = encode(&old, a), new_len = sizeof b;
    CU_ASSERT_EQUAL_FATAL(chv_update_successor(a, len, 9, b, &new_len), CHV_OK);
    CU_ASSERT_EQUAL(new_len, len);
    CU_ASSERT_EQUAL_FATAL(chv_credential_parse(b, new_len, &new, NULL), CHV_OK);
    CU_ASSERT_EQUAL(new.epoch, 9);
    old.epoch = 9; /* and nothing else */
    CU_ASSERT_EQUAL(encode(&old, a), new_len);
    CU_ASSERT_EQUAL(memcmp(a, b, len), 0);

    new_len = sizeof b;
    CU_ASSERT_EQUAL(chv_update_successor(a, len, 9, b, &new_len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_update_successor(a, len, 8, b, &new_len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_update_successor(a, len - 1, 10, b, &new_len), CHV_ERR_MALFORMED);
    new_len = len - 1;
    CU_ASSERT_EQUAL(chv_update_successor(a, len, 10, b, &new_len), CHV_ERR_SPACE);
}

static void test_round_trip(void)
{
    const struct chv_credential old = sample();
    struct chv_credential new = sample();
    struct chv_update update;
    uint8_t body[CHV_UPDATE_BODY_MAX], out[CHV_KEY_LEN];
    new.epoch = 8;
    const size_t len = seal(&new, body);
    CU_ASSERT_EQUAL_FATAL(chv_update_accept(&old, body, len, &update, NULL), CHV_OK);
    CU_ASSERT_EQUAL(update.parsed.epoch, 8);
    CU_ASSERT_EQUAL_FATAL(chv_update_open(&crypto, update_key, &update, out), CHV_OK);
    CU_ASSERT_EQUAL(memcmp(out, access_key, sizeof out), 0);

    const uint8_t other[CHV_KEY_LEN] = {1, 2, 4};
    CU_ASSERT_EQUAL(chv_update_open(&crypto, other, &update, out), CHV_ERR_AUTH);
    CU_ASSERT_TRUE(chv_is_zero(out, sizeof out));
}

static enum chv_err accept_changed(void (*change)(struct chv_credential *c), struct chv_why *why)
{
    const struct chv_credential old = sample();
    struct chv_credential new = sample();
    struct chv_update update = {.credential_len = 77};
    uint8_t body[CHV_UPDATE_BODY_MAX];
    new.epoch = 8;
    change(&new);
    const size_t len = seal(&new, body);
    why->text[0] = '\0';
    enum chv_err err = chv_update_accept(&old, body, len, &update, why);
    if (err != CHV_OK)
        CU_ASSERT_EQUAL(update.credential_len, 77);
    return err;
}

static void other_id(struct chv_credential *c)
{
    c->id[0] = 'C';
}
static void longer_id(struct chv_credential *c)
{
    (void)snprintf(c->id, sizeof c->id, "cam-1@doors");
}
static void other_profile(struct chv_credential *c)
{
    c->profile = CHV_PROFILE_PSK;
    c->has_identity = false;
}
static void other_identity(struct chv_credential *c)
{
    c->identity_hash[31] ^= 1;
}
static void same_place(struct chv_credential *c)
{
    c->epoch = 7;
}
static void lower_serial(struct chv_credential *c)
{
    c->epoch = 7;
    c->serial = 1;
}
static void lower_epoch(struct chv_credential *c)
{
    c->epoch = 6;
    c->serial = 100;
}
static void next_serial(struct chv_credential *c)
{
    c->epoch = 7;
    c->serial = 3;
}
static void lower_serial_of_a_new_epoch(struct chv_credential *c)
{
    c->serial = 1;
}
static void other_rights(struct chv_credential *c) /* by a grant; the server's word about them is what counts */
{
    c->not_after = 0;
    CU_ASSERT_EQUAL(chv_credential_add_scope(c, "tunnel:db"), CHV_OK);
}

static void test_rule(void)
{
    static const struct {
        void (*change)(struct chv_credential *c);
        const char *says;
    } refused[] = {
        {other_id, "another client id"},      {longer_id, "another client id"}, {other_profile, "another profile"},
        {other_identity, "another identity"}, {same_place, "not newer"},        {lower_serial, "not newer"},
        {lower_epoch, "not newer"},
    };
    struct chv_why why;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        CU_ASSERT_EQUAL(accept_changed(refused[i].change, &why), CHV_ERR_PROTOCOL);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, refused[i].says));
    }
    CU_ASSERT_EQUAL(accept_changed(next_serial, &why), CHV_OK);
    CU_ASSERT_EQUAL(accept_changed(lower_serial_of_a_new_epoch, &why), CHV_OK);
    CU_ASSERT_EQUAL(accept_changed(other_rights, &why), CHV_OK);
}

/* What arrives, as a client takes it: the update key is that of the credential that arrives. */
static bool taken(const uint8_t *body, size_t len)
{
    static const uint8_t old_access[CHV_KEY_LEN] = {5}, h_fin[32] = {6};
    const struct chv_credential old = sample();
    struct chv_update update;
    uint8_t old_bytes[CHV_CREDENTIAL_MAX], info[CHV_INFO_MAX], key[CHV_KEY_LEN], out[CHV_KEY_LEN];
    size_t info_len, old_len = encode(&old, old_bytes);
    if (chv_update_accept(&old, body, len, &update, NULL) != CHV_OK)
        return false;
    CU_ASSERT_EQUAL(chv_info_update("srv", h_fin, sizeof h_fin, old_bytes, old_len, update.credential,
                                    update.credential_len, info, &info_len),
                    CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, old_access, 32, info, info_len, key, 32), CHV_OK);
    return chv_update_open(&crypto, key, &update, out) == CHV_OK;
}

static size_t make_bound(uint8_t body[CHV_UPDATE_BODY_MAX])
{
    static const uint8_t old_access[CHV_KEY_LEN] = {5}, h_fin[32] = {6};
    struct chv_credential c = sample();
    uint8_t old[CHV_CREDENTIAL_MAX], new[CHV_CREDENTIAL_MAX], info[CHV_INFO_MAX], key[CHV_KEY_LEN];
    size_t old_len = encode(&c, old), new_len = sizeof new, info_len, len = CHV_UPDATE_BODY_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_update_successor(old, old_len, 8, new, &new_len), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_update("srv", h_fin, sizeof h_fin, old, old_len, new, new_len, info, &info_len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, old_access, 32, info, info_len, key, 32), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_update_seal(&crypto, key, new, new_len, access_key, body, &len), CHV_OK);
    return len;
}

static void test_every_change_is_refused(void)
{
    uint8_t body[CHV_UPDATE_BODY_MAX + 1] = {0}, cut[CHV_UPDATE_BODY_MAX];
    const size_t len = make_bound(body);
    CU_ASSERT_TRUE(taken(body, len));
    for (size_t i = 0; i < len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            body[i] ^= (uint8_t)(1u << bit);
            CU_ASSERT_FALSE(taken(body, len));
            body[i] ^= (uint8_t)(1u << bit);
        }
    for (size_t i = 0; i < len; i++) {
        uint8_t *exact = malloc(i + 1); /* a sanitizer sees what is read behind it */
        CU_ASSERT_PTR_NOT_NULL_FATAL(exact);
        memcpy(exact, body, i);
        CU_ASSERT_FALSE(taken(exact, i));
        free(exact);
    }
    CU_ASSERT_FALSE(taken(body, len + 1));
    memset(cut, 0xff, sizeof cut); /* a length that nothing stands behind */
    CU_ASSERT_FALSE(taken(cut, sizeof cut));
    memset(cut, 0, sizeof cut);
    CU_ASSERT_FALSE(taken(cut, sizeof cut));
}

static void test_seal_limits(void)
{
    static const uint8_t large[CHV_CREDENTIAL_MAX + 1];
    uint8_t body[CHV_UPDATE_BODY_MAX];
    size_t len = sizeof body;
    CU_ASSERT_EQUAL(chv_update_seal(&crypto, update_key, large, sizeof large, access_key, body, &len),
                    CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_update_seal(&crypto, update_key, large, CHV_CREDENTIAL_MAX, access_key, body, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, CHV_UPDATE_BODY_MAX);
    len--;
    CU_ASSERT_EQUAL(chv_update_seal(&crypto, update_key, large, CHV_CREDENTIAL_MAX, access_key, body, &len),
                    CHV_ERR_SPACE);
}

/* The longest credentials and names fit into an info. */
static void test_info(void)
{
    static const uint8_t large[CHV_CREDENTIAL_MAX + 1];
    static const char head[] = "chaveiro v1 update\0\3srv\x20";
    char name[CHV_SERVER_NAME_MAX + 1];
    uint8_t h[64] = {0}, info[CHV_INFO_MAX];
    size_t len = 0;
    CU_ASSERT_EQUAL(chv_info_update("srv", h, 32, (const uint8_t *)"old", 3, (const uint8_t *)"new!", 4, info, &len),
                    CHV_OK);
    CU_ASSERT_EQUAL(len, sizeof head - 1 + 32 + 5 + 6);
    CU_ASSERT_EQUAL(memcmp(info, head, sizeof head - 1), 0);
    CU_ASSERT_EQUAL(memcmp(info + sizeof head - 1 + 32, "\0\3old\0\4new!", 11), 0);
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CU_ASSERT_EQUAL(chv_info_update(name, h, 64, large, CHV_CREDENTIAL_MAX, large, CHV_CREDENTIAL_MAX, info, &len),
                    CHV_OK);
    CU_ASSERT_EQUAL(chv_info_update(name, h, 31, large, 1, large, 1, info, &len), CHV_ERR_ARGUMENT);
}

/* Whichever call fails: no key, no handle, no half-made body. */
static void test_faults(void)
{
    struct test_fault fault;
    const struct chv_credential old = sample();
    struct chv_update update;
    uint8_t body[CHV_UPDATE_BODY_MAX], out[CHV_KEY_LEN], bytes[CHV_CREDENTIAL_MAX];
    struct chv_credential new = sample();
    new.epoch = 8;
    const size_t len = seal(&new, body), bytes_len = encode(&new, bytes);
    CU_ASSERT_EQUAL_FATAL(chv_update_accept(&old, body, len, &update, NULL), CHV_OK);
    test_fault_init(&fault, &crypto);
    for (unsigned n = 1;; n++) {
        memset(out, 1, sizeof out);
        test_fault_arm(&fault, n);
        enum chv_err err = chv_update_open(&fault.crypto, update_key, &update, out);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_CRYPTO : CHV_OK);
        CU_ASSERT_EQUAL(chv_is_zero(out, sizeof out), fault.fired);
        if (!fault.fired)
            break;
    }
    for (unsigned n = 1;; n++) {
        uint8_t made[CHV_UPDATE_BODY_MAX];
        size_t made_len = sizeof made;
        memset(made, 1, sizeof made);
        test_fault_arm(&fault, n);
        enum chv_err err = chv_update_seal(&fault.crypto, update_key, bytes, bytes_len, access_key, made, &made_len);
        CU_ASSERT_EQUAL(fault.open_aead, 0);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_CRYPTO : CHV_OK);
        if (!fault.fired)
            break;
        CU_ASSERT_TRUE(chv_is_zero(made, len));
        CU_ASSERT_EQUAL(made_len, sizeof made);
    }
}

static const struct test_case cases[] = {
    {"successor", test_successor},         {"round trip", test_round_trip},
    {"what is accepted", test_rule},       {"every change is refused", test_every_change_is_refused},
    {"sealing: limits", test_seal_limits}, {"info", test_info},
    {"failing backend", test_faults},
};

int main(void)
{
    struct chv_why why;
    if (chv_backend_open("openssl", &crypto, &why) != CHV_OK) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    const int status = test_main("key update", cases, sizeof cases / sizeof cases[0]);
    chv_backend_close(&crypto);
    return status;
}
