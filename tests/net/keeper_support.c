/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/net/keeper_support.h"

#include "core/credential.h"
#include "core/hkdf.h"

#include <stdio.h>
#include <string.h>

static void make_keystore(const char *uri)
{
    const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
    struct test_secret secret = {.text = TEST_PASSPHRASE};
    struct chv_keystore *ks;
    struct chv_why why;
    uint8_t master[CHV_SECRET_LEN];
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, test_secret, &secret, &why), CHV_OK);
    memset(master, 0x11, sizeof master);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "master:1", master, &why), CHV_OK);
    memset(master, 0x22, sizeof master);
    CU_ASSERT_EQUAL(chv_keystore_import(ks, "master:2", master, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, "identity", CHV_USE_IDENTITY, CHV_CURVE_25519, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_data_put(ks, "server", (const uint8_t *)"s1", 2, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_commit(ks, &why), CHV_OK);
    chv_keystore_close(ks);
}

void keeper_config(struct chv_server_config *config)
{
    static char uri[PATH_MAX];
    if (uri[0] == '\0') {
        char *path = test_path("server.keys");
        snprintf(uri, sizeof uri, "file:%s", path);
        free(path);
        make_keystore(uri);
    }
    memset(config, 0, sizeof *config);
    snprintf(config->name, sizeof config->name, "s1");
    snprintf(config->keystore, sizeof config->keystore, "%s", uri);
    config->epoch_count = 1;
    config->epochs[0] = 1;
    config->max_lifetime = 90 * DAY;
    config->log_level = CHV_LOG_ERROR;
}

size_t keeper_credential(enum chv_profile profile, uint32_t epoch, uint64_t not_after, uint8_t out[CHV_CREDENTIAL_MAX])
{
    struct chv_credential c = {.profile = profile != 0 ? profile : CHV_PROFILE_PSK,
                               .epoch = epoch,
                               .serial = 1,
                               .not_after = not_after,
                               .id = "cam1",
                               .has_identity = profile == CHV_PROFILE_KEY_PSK,
                               .scope_count = 1,
                               .scopes = {"message"}};
    size_t len = CHV_CREDENTIAL_MAX;
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, out, &len), CHV_OK);
    return len;
}

void keeper_request(struct chv_keeper_request *request, uint64_t tag, uint32_t epoch, uint64_t not_after)
{
    memset(request, 0, sizeof *request);
    request->tag = tag;
    request->kind = CHV_KEEPER_PSK;
    request->profile = CHV_PROFILE_PSK;
    request->credential_len = (uint16_t)keeper_credential(CHV_PROFILE_PSK, epoch, not_after, request->credential);
    request->h_psk_len = 32;
    memset(request->h_psk, 0xab, 32);
}

void keeper_psk(const struct chv_keeper_request *request, const char *server, uint32_t epoch, uint8_t out[CHV_KEY_LEN])
{
    struct chv_crypto crypto;
    struct chv_why why;
    uint8_t info[CHV_INFO_MAX], key[CHV_KEY_LEN];
    size_t len;
    memset(key, (int)(epoch * 0x11), sizeof key);
    CU_ASSERT_EQUAL_FATAL(chv_backend_open("openssl", &crypto, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_access(request->credential, request->credential_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, key, 32), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_session(server, request->h_psk, request->h_psk_len, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, key, 32, info, len, out, 32), CHV_OK);
    chv_backend_close(&crypto);
}
