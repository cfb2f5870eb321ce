/* SPDX-License-Identifier: Apache-2.0 */
/* What a client reads from its keystore before it connects. */
#include "tests/services/message_support.h"

#include <string.h>

static void put(struct test_store *s, const char *label, const void *data, size_t len)
{
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_keystore_data_put(s->keystore, label, data, len, &why), CHV_OK);
}

static void put_credential(struct test_store *s, const char *label, uint32_t epoch, uint32_t serial)
{
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = epoch, .serial = serial, .id = "1"};
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = sizeof bytes;
    CU_ASSERT_EQUAL(chv_credential_encode(&c, bytes, &len), CHV_OK);
    put(s, label, bytes, len);
}

static void add_secret(struct test_store *s, const char *label)
{
    CU_ASSERT_EQUAL(chv_keystore_generate(s->keystore, label, NULL), CHV_OK);
}

static void fails(struct test_store *s, enum chv_err err, const char *text)
{
    struct chv_client_key key;
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_client_key_load(&key, s->keystore, &why), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
}

static void test_load(void)
{
    struct test_store s;
    struct chv_session_config config;
    test_store_open(&s);
    CU_ASSERT_STRING_EQUAL(s.key.label, "access:1.1");
    CU_ASSERT_STRING_EQUAL(s.key.server, "hive");
    CU_ASSERT_STRING_EQUAL(s.key.address, "127.0.0.1:7240");
    CU_ASSERT_STRING_EQUAL(s.key.parsed.id, "1");
    chv_client_key_config(&s.key, &config);
    CU_ASSERT_EQUAL(config.role, CHV_CLIENT);
    CU_ASSERT_EQUAL(config.profile, CHV_PROFILE_PSK);
    CU_ASSERT_EQUAL(config.suite, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_EQUAL(config.credential_len, s.key.credential_len);
    test_store_close(&s);
}

/* By epoch, then serial, as numbers; other labels are none of ours. */
static void test_newest(void)
{
    static const char *const labels[] = {"access:1.2", "access:1.10", "access:2.9", "access:2.10",
                                         "access:x.1", "access:03.1", "access:9",   "master:7"};
    struct test_store s;
    struct chv_why why = {""};
    test_store_open(&s);
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++)
        add_secret(&s, labels[i]);
    put_credential(&s, "credential:2.10", 2, 10);
    CU_ASSERT_EQUAL(chv_client_key_load(&s.key, s.keystore, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(s.key.label, "access:2.10");
    CU_ASSERT_EQUAL(s.key.parsed.serial, 10);
    test_store_close(&s);
}

static void test_load_fails(void)
{
    struct test_store s;
    test_store_open(&s);
    put(&s, "server", "bad name", 8);
    fails(&s, CHV_ERR_STORE_DAMAGED, "server name");
    put(&s, "server", "hi\0ve", 5);
    fails(&s, CHV_ERR_STORE_DAMAGED, "NUL");
    CU_ASSERT_EQUAL(chv_keystore_remove(s.keystore, "server", NULL), CHV_OK);
    fails(&s, CHV_ERR_NOT_FOUND, "server");
    put(&s, "server", "hive", 4);
    put_credential(&s, "credential:1.1", 1, 2); /* of another key */
    fails(&s, CHV_ERR_STORE_DAMAGED, "credential:1.1");
    put(&s, "credential:1.1", "garbage", 7);
    fails(&s, CHV_ERR_STORE_DAMAGED, "credential:1.1");
    CU_ASSERT_EQUAL(chv_keystore_remove(s.keystore, "access:1.1", NULL), CHV_OK);
    fails(&s, CHV_ERR_NOT_FOUND, "no access key");
    test_store_close(&s);
}

/* Credential 1.2, bound to this public key. */
static void put_bound(struct test_store *s, const struct chv_crypto *crypto, const struct chv_identity *identity)
{
    struct chv_credential c = {
        .profile = CHV_PROFILE_KEY_PSK, .epoch = 1, .serial = 2, .id = "1", .has_identity = true};
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    size_t len = sizeof bytes;
    CU_ASSERT_EQUAL(chv_identity_hash(crypto, identity->curve, identity->public_key, c.identity_hash), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_encode(&c, bytes, &len), CHV_OK);
    put(s, "credential:1.2", bytes, len);
}

static void ready_fails(struct chv_client_key *key, const struct chv_crypto *crypto, const char *text)
{
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_client_key_ready(key, crypto, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
}

/* Each profile has what it needs, or says what is missing. */
static void test_profiles(void)
{
    static const char server_key[] = "x25519 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd+/8=";
    struct test_store s;
    struct chv_client_key key;
    struct chv_session_config config;
    struct chv_crypto crypto;
    struct chv_identity own = {.curve = CHV_CURVE_25519};
    struct chv_why why = {""};
    test_store_open(&s);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, NULL), CHV_OK);

    /* profile psk is what the credential says, and no other is gone over to */
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_PSK, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_client_key_ready(&key, &crypto, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_KEY_PSK, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "profile key+psk is wanted"));
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_KEY, &why), CHV_OK);
    ready_fails(&key, &crypto, "--identity");

    CU_ASSERT_EQUAL(chv_keystore_generate_identity(s.keystore, "identity", CHV_USE_IDENTITY, own.curve, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_public_key(s.keystore, "identity", &own.curve, own.public_key, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_KEY, &why), CHV_OK);
    ready_fails(&key, &crypto, "--server-key");
    put(&s, "server-key", server_key, sizeof server_key - 1);
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_KEY, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_client_key_ready(&key, &crypto, &why), CHV_OK);
    chv_client_key_config(&key, &config);
    CU_ASSERT_EQUAL(config.profile, CHV_PROFILE_KEY);
    CU_ASSERT_EQUAL(config.suite, CHV_SUITE_X25519_AESGCM_SHA256);
    CU_ASSERT_PTR_NULL(config.credential);
    CU_ASSERT_EQUAL(memcmp(config.identity_public[CHV_CURVE_25519], own.public_key, 32), 0);
    CU_ASSERT_EQUAL(config.peer_public[31], 0xff);
    key.has_suite = true;
    key.suite = CHV_SUITE_P256_AESGCM_SHA256;
    ready_fails(&key, &crypto, "does not go with an identity key of kind x25519");
    key.suite = CHV_SUITE_X25519_CHACHAPOLY_SHA256;
    CU_ASSERT_EQUAL(chv_client_key_ready(&key, &crypto, &why), CHV_OK);
    key.server_key.curve = CHV_CURVE_P256;
    ready_fails(&key, &crypto, "both must be the same");

    /* the keystore says what it is for, unless somebody else does */
    put(&s, "profile", "key", 3);
    CU_ASSERT_EQUAL(chv_client_key_load(&key, s.keystore, &why), CHV_OK);
    CU_ASSERT_EQUAL(key.profile, CHV_PROFILE_KEY);
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, s.keystore, CHV_PROFILE_PSK, &why), CHV_OK);
    CU_ASSERT_EQUAL(key.profile, CHV_PROFILE_PSK);
    put(&s, "profile", "tls", 3);
    fails(&s, CHV_ERR_STORE_DAMAGED, "\"profile\"");
    CU_ASSERT_EQUAL(chv_keystore_remove(s.keystore, "profile", NULL), CHV_OK);

    /* key+psk: the newest credential is bound to this key, then to another */
    add_secret(&s, "access:1.2");
    put_bound(&s, &crypto, &own);
    CU_ASSERT_EQUAL(chv_client_key_load(&key, s.keystore, &why), CHV_OK);
    CU_ASSERT_EQUAL(key.profile, CHV_PROFILE_KEY_PSK);
    CU_ASSERT_EQUAL(chv_client_key_ready(&key, &crypto, &why), CHV_OK);
    chv_client_key_config(&key, &config);
    CU_ASSERT_PTR_NOT_NULL(config.credential);
    own.public_key[0] ^= 1;
    put_bound(&s, &crypto, &own);
    CU_ASSERT_EQUAL(chv_client_key_load(&key, s.keystore, &why), CHV_OK);
    ready_fails(&key, &crypto, "is bound to the identity key SHA256:");
    put(&s, "server-key", "x25519 AAAA", 11);
    fails(&s, CHV_ERR_STORE_DAMAGED, "\"server-key\"");

    /* no keystore at all */
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, NULL, CHV_PROFILE_PSK, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_client_key_load_for(&key, NULL, (enum chv_profile)0, &why), CHV_OK);
    CU_ASSERT_EQUAL(key.profile, CHV_PROFILE_KEY);
    chv_backend_close(&crypto);
    test_store_close(&s);
}

TEST_MAIN("client key", {"load", test_load}, {"newest", test_newest}, {"load fails", test_load_fails},
          {"profiles", test_profiles})
