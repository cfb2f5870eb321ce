/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hkdf.h"

#include "base/encode.h"
#include "base/memory.h"
#include "tests/harness.h"
#include "tests/support/test_backend.h"

#include <stdio.h>
#include <string.h>

static struct chv_crypto crypto;

static size_t unhex(const char *hex, uint8_t *out, size_t room)
{
    CU_ASSERT_EQUAL_FATAL(chv_hex_decode(hex, strlen(hex), out, &room), CHV_OK);
    return room;
}

/* RFC 5869, appendix A: the SHA-256 cases. */
static const struct rfc_case {
    const char *ikm, *salt, *info, *prk, *okm;
} rfc_cases[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
     "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
     "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
     "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f"
     "909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
     "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
     "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
     "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
     "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
};

static void test_rfc(void)
{
    for (size_t i = 0; i < sizeof rfc_cases / sizeof rfc_cases[0]; i++) {
        const struct rfc_case *c = &rfc_cases[i];
        uint8_t ikm[80], salt[80], info[80], prk[32], expected[96], got[96];
        const size_t ikm_len = unhex(c->ikm, ikm, sizeof ikm);
        const size_t salt_len = unhex(c->salt, salt, sizeof salt);
        const size_t info_len = unhex(c->info, info, sizeof info);

        unhex(c->prk, expected, sizeof expected);
        CU_ASSERT_EQUAL(
            chv_hkdf_extract(&crypto, CHV_HASH_SHA256, salt_len == 0 ? NULL : salt, salt_len, ikm, ikm_len, prk),
            CHV_OK);
        CU_ASSERT(memcmp(prk, expected, sizeof prk) == 0);
        const size_t okm_len = unhex(c->okm, expected, sizeof expected);
        CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, prk, 32, info, info_len, got, okm_len), CHV_OK);
        CU_ASSERT(memcmp(got, expected, okm_len) == 0);
    }
}

static void test_expand_limits(void)
{
    static uint8_t out[255 * 32 + 1];
    const uint8_t prk[32] = {1};

    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, prk, 32, NULL, 0, out, sizeof out - 1), CHV_OK);
    CU_ASSERT_FALSE(chv_is_zero(&out[sizeof out - 33], 32));
    memset(out, 1, sizeof out);
    CU_ASSERT_EQUAL(chv_hkdf_expand(&crypto, CHV_HASH_SHA256, prk, 32, NULL, 0, out, sizeof out), CHV_ERR_ARGUMENT);
    CU_ASSERT(chv_is_zero(out, sizeof out));
}

/* Whichever HMAC fails, nothing of the output stays. */
static void test_expand_fault(void)
{
    struct test_fault fault;
    const uint8_t prk[32] = {1};
    uint8_t out[96];
    unsigned n = 0;

    test_fault_init(&fault, &crypto);
    do {
        memset(out, 1, sizeof out);
        test_fault_arm(&fault, ++n);
        const enum chv_err err = chv_hkdf_expand(&fault.crypto, CHV_HASH_SHA256, prk, 32, NULL, 0, out, sizeof out);
        CU_ASSERT_EQUAL(err, fault.fired ? CHV_ERR_CRYPTO : CHV_OK);
        CU_ASSERT_EQUAL(chv_is_zero(out, sizeof out), fault.fired);
    } while (fault.fired);
    CU_ASSERT_EQUAL(n, 4);
}

/* `fields`: what must stand behind the label and its 0x00. */
static void check_info(const char *label, const uint8_t *fields, size_t fields_len, const uint8_t *info, size_t len)
{
    const size_t label_len = strlen(label) + 1;

    CU_ASSERT_EQUAL_FATAL(len, label_len + fields_len);
    CU_ASSERT(memcmp(info, label, label_len) == 0);
    CU_ASSERT(memcmp(info + label_len, fields, fields_len) == 0);
}

static void test_infos(void)
{
    uint8_t h[64];
    uint8_t info[CHV_INFO_MAX];
    uint8_t fields[128];
    size_t len;

    memset(h, 0xaa, sizeof h);
    CU_ASSERT_EQUAL(chv_info_access((const uint8_t *)"abc", 3, info, &len), CHV_OK);
    check_info("chaveiro v1 access", (const uint8_t *)"\0\3abc", 5, info, len);

    CU_ASSERT_EQUAL(chv_info_session("srv", h, 32, info, &len), CHV_OK);
    static const uint8_t server[] = {3, 's', 'r', 'v', 32};
    memcpy(fields, server, sizeof server);
    memset(fields + 5, 0xaa, 32);
    check_info("chaveiro v1 session", fields, 37, info, len);

    CU_ASSERT_EQUAL(chv_info_check(info, &len), CHV_OK);
    check_info("chaveiro v1 check", fields, 0, info, len);

    CU_ASSERT_EQUAL(chv_info_ticket("srv/data", 0x0102030405060708, info, &len), CHV_OK);
    check_info("chaveiro v1 ticket", (const uint8_t *)"\10srv/data\1\2\3\4\5\6\7\10", 17, info, len);

    CU_ASSERT_EQUAL(chv_info_ticket_seal(h, info, &len), CHV_OK);
    check_info("chaveiro v1 ticket seal", h, 32, info, len);

    CU_ASSERT_EQUAL(chv_info_resumption(h, 32, 0x01020304, info, &len), CHV_OK);
    fields[0] = 32;
    memset(fields + 1, 0xaa, 32);
    memcpy(fields + 33, "\1\2\3\4", 4);
    check_info("chaveiro v1 resumption", fields, 37, info, len);

    CU_ASSERT_EQUAL(chv_info_exporter(h, 64, "app", (const uint8_t *)"xy", 2, info, &len), CHV_OK);
    fields[0] = 64;
    memset(fields + 1, 0xaa, 64);
    static const uint8_t rest[] = {3, 'a', 'p', 'p', 0, 2, 'x', 'y'};
    memcpy(fields + 65, rest, sizeof rest);
    check_info("chaveiro v1 exporter", fields, 73, info, len);
    CU_ASSERT_EQUAL(chv_info_exporter(h, 32, "app", NULL, 0, info, &len), CHV_OK);
}

static void test_info_limits(void)
{
    static uint8_t large[CHV_INFO_MAX];
    char name[258];
    uint8_t h[65] = {0};
    uint8_t info[CHV_INFO_MAX];
    size_t len = 77;

    memset(name, 'a', 257);
    name[257] = '\0';
    CU_ASSERT_EQUAL(chv_info_access(large, sizeof large, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_access(large, 0x10000, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_session(name, h, 32, info, &len), CHV_ERR_ARGUMENT); /* 257 would wrap to 1 */
    CU_ASSERT_EQUAL(chv_info_session("srv", h, 31, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_session("srv", h, 65, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_exporter(h, 31, "app", NULL, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_exporter(h, 32, "", NULL, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_resumption(h, 31, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_resumption(h, 65, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_ticket("", 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_ticket("a b", 0, info, &len), CHV_ERR_ARGUMENT);
    name[CHV_AUDIENCE_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(chv_info_ticket(name, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(len, 77);
    name[CHV_AUDIENCE_MAX] = '\0';
    CU_ASSERT_EQUAL(chv_info_ticket(name, 0, info, &len), CHV_OK);
    len = 77;
    name[65] = '\0';
    CU_ASSERT_EQUAL(chv_info_exporter(h, 32, name, NULL, 0, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_info_exporter(h, 32, "app", large, sizeof large, info, &len), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(len, 77);
    name[64] = '\0';
    CU_ASSERT_EQUAL(chv_info_exporter(h, 32, name, large, 512, info, &len), CHV_OK);
    CU_ASSERT_EQUAL(chv_info_access(large, 512, info, &len), CHV_OK);
}

static void test_labels(void)
{
    for (size_t i = 0; i < chv_label_count; i++) {
        const struct chv_label *a = &chv_labels[i];
        CU_ASSERT(strncmp(a->text, "chaveiro v1 ", 12) == 0);
        CU_ASSERT(a->parent[0] != '\0' && a->result[0] != '\0' && a->fields != NULL);
        for (size_t j = 0; j < chv_label_count; j++)
            /* label || 0x00 begins no other: compares the 0x00 too */
            CU_ASSERT(i == j || strncmp(a->text, chv_labels[j].text, strlen(a->text) + 1) != 0);
    }
    CU_ASSERT_EQUAL(chv_label_count, 11);
}

static const struct test_case cases[] = {
    {"RFC 5869, appendix A", test_rfc},          {"expand: length limit", test_expand_limits},
    {"expand: failing HMAC", test_expand_fault}, {"infos", test_infos},
    {"infos: limits", test_info_limits},         {"labels: distinct, none a prefix", test_labels},
};

int main(void)
{
    struct chv_why why;

    if (chv_backend_open("openssl", &crypto, &why) != CHV_OK) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    const int status = test_main("hkdf", cases, sizeof cases / sizeof cases[0]);
    chv_backend_close(&crypto);
    return status;
}
