/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stays in a process's memory: after unlock a reader holds the secret once, in secure memory, and neither its JSON
 * text nor the passphrase anywhere; after close nothing.  Needles are kept masked, so that the search does not find
 * itself.
 */
#include <config.h>

#include "tests/keystore/support.h"
#include "tests/support/needle.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

/* free() writes to the first bytes of a block: what is looked for is the rest. */
enum { HEAD = 16, TEXT_LEN = 40, PASSPHRASE_LEN = 40 };

/* The secret is a(0), a(1), ...: never whole in memory but where the keystore put it. */
static uint8_t secret_byte(size_t i)
{
    return (uint8_t)(((i + 3) * 167) ^ 0xc3);
}

static struct needle raw_needle(void)
{
    struct needle n = {.len = CHV_SECRET_LEN - HEAD};
    for (size_t i = 0; i < n.len; i++)
        n.masked[i] = secret_byte(HEAD + i) ^ NEEDLE_MASK;
    return n;
}

/* From the secret's base64url without its last, incomplete group: computed masked, digit by digit. */
static struct needle text_needle(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct needle n = {.len = TEXT_LEN - HEAD};
    for (size_t i = 0; i < n.len; i++) {
        size_t bit = 6 * (HEAD + i), byte = bit / 8;
        unsigned pair = ((unsigned)secret_byte(byte) << 8) | secret_byte(byte + 1);
        n.masked[i] = (uint8_t)digits[(pair >> (10 - bit % 8)) & 63] ^ NEEDLE_MASK;
    }
    return n;
}

/* Expand(secret, 01) = HMAC-SHA256(secret, 01 01), computed elsewhere, under the mask. */
static struct needle middle_needle(void)
{
    static const uint8_t masked[CHV_SECRET_LEN] = {
        0xb8, 0x30, 0x38, 0x3a, 0x2a, 0x0c, 0x10, 0x83, 0xe2, 0x46, 0xf3, 0x00, 0xa6, 0x7b, 0xea, 0x96,
        0x25, 0x17, 0x10, 0xd3, 0xb8, 0xf1, 0x73, 0xc4, 0x58, 0x40, 0x73, 0x10, 0xa1, 0xfd, 0xb0, 0x58,
    };
    struct needle n = {.len = CHV_SECRET_LEN - HEAD};
    memcpy(n.masked, masked + HEAD, n.len);
    return n;
}

static uint8_t passphrase_byte(size_t i)
{
    return (uint8_t)(((i + 7) * 59) ^ 0x35);
}

static struct needle passphrase_needle(void)
{
    struct needle n = {.len = PASSPHRASE_LEN - HEAD};
    for (size_t i = 0; i < n.len; i++)
        n.masked[i] = passphrase_byte(HEAD + i) ^ NEEDLE_MASK;
    return n;
}

static enum chv_err give_passphrase(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                    struct chv_why *why)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)why;
    if (cap < PASSPHRASE_LEN)
        return CHV_ERR_SPACE;
    for (size_t i = 0; i < PASSPHRASE_LEN; i++)
        ((volatile char *)out)[i] = (char)passphrase_byte(i);
    *len = PASSPHRASE_LEN;
    return CHV_OK;
}

/* In a child, so that nothing of the making stays in this process. */
static void make_in_child(const char *path)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
        struct chv_keystore *ks = NULL;
        uint8_t secret[CHV_SECRET_LEN];
        for (size_t i = 0; i < sizeof secret; i++)
            secret[i] = secret_byte(i);
        bool ok = chv_keystore_open(path, &options, &ks, NULL) == CHV_OK &&
                  chv_keystore_unlock(ks, give_passphrase, NULL, NULL) == CHV_OK &&
                  chv_keystore_import(ks, "s", secret, NULL) == CHV_OK && chv_keystore_commit(ks, NULL) == CHV_OK;
        chv_keystore_close(ks);
        _exit(ok ? 0 : 1);
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL_FATAL(status, 0);
}

static struct chv_keystore *open_in(const char *path, enum chv_keystore_mode mode)
{
    struct chv_keystore_options options = {.mode = mode};
    struct chv_keystore *ks = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(path, &options, &ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, give_passphrase, NULL, NULL), CHV_OK);
    return ks;
}

static void test_reader(void)
{
    static const uint8_t info = 1;
    uint8_t out[32];
    char *path = test_path("memory.ks");
    make_in_child(path);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 0);
    struct chv_keystore *ks = open_in(path, CHV_KEYSTORE_READ);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 1);
    CU_ASSERT_EQUAL(needle_occurrences(text_needle()), 0);
    CU_ASSERT_EQUAL(needle_occurrences(passphrase_needle()), 0);
    /* The secret in no second place after its use, what is derived on the way in none. */
    CU_ASSERT_EQUAL(chv_keystore_derive2(ks, "s", &info, 1, &info, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 1);
    CU_ASSERT_EQUAL(needle_occurrences(middle_needle()), 0);
    CU_ASSERT_EQUAL(chv_keystore_derive(ks, "s", &info, 1, out, NULL), CHV_OK);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 1);
    CU_ASSERT(needle_occurrences(middle_needle()) > 0); /* in out: it is the right needle */
    chv_wipe(out, sizeof out);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 0);
    CU_ASSERT_EQUAL(needle_occurrences(text_needle()), 0);
    (void)unlink(path);
    free(path);
}

static void test_writer(void)
{
    char *path = test_path("memory.ks");
    make_in_child(path);
    struct chv_keystore *ks = open_in(path, CHV_KEYSTORE_WRITE);
    CU_ASSERT_EQUAL(needle_occurrences(passphrase_needle()), 1); /* needed again at each commit */
    CU_ASSERT_EQUAL(chv_keystore_commit(ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(needle_occurrences(passphrase_needle()), 1);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 1);
    CU_ASSERT_EQUAL(needle_occurrences(text_needle()), 0);
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(needle_occurrences(passphrase_needle()), 0);
    CU_ASSERT_EQUAL(needle_occurrences(raw_needle()), 0);
    CU_ASSERT_EQUAL(needle_occurrences(text_needle()), 0);
    (void)unlink(path);
    free(path);
}

/* The search finds what is there, else the tests above say nothing. */
static void test_search(void)
{
    const struct needle n = text_needle();
    char *text = malloc(HEAD + n.len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    if (text == NULL)
        return;
    for (size_t i = 0; i < n.len; i++)
        ((volatile char *)text)[HEAD + i] = (char)(n.masked[i] ^ NEEDLE_MASK);
    CU_ASSERT_EQUAL(needle_occurrences(n), 1);
    chv_wipe(text, HEAD + n.len);
    CU_ASSERT_EQUAL(needle_occurrences(n), 0);
    free(text);
}

TEST_MAIN("keystore: what stays in memory", {"the search itself", test_search}, {"reader", test_reader},
          {"writer", test_writer})
