/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts at the client: what a server says is compared with what was sent, and files are written whole or not at all. */
#include "tools/chaveiro_receipt.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "keystore/file_pem.h"
#include "tests/keystore/support.h"
#include "tools/receipt.h"

static struct chv_why why;
static struct chaveiro_link link_of_cam1;
static struct chv_files_answer answer;
static struct chaveiro_receipts receipts;
static struct chv_identity key;
static uint8_t digest[CHV_FILES_DIGEST_LEN];

/* A receipt key, and its signature of that text. */
static void sign(const char *text)
{
    static char uri[300];
    struct chv_keystore *ks;
    if (uri[0] == '\0') {
        const struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .scrypt_n = TEST_N};
        struct test_secret secret = {.text = TEST_PASSPHRASE};
        char *path = test_path("receipt.keys");
        (void)snprintf(uri, sizeof uri, "file:%s", path);
        free(path);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_open(uri, &options, &ks, &why), CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_unlock(ks, test_secret, &secret, &why), CHV_OK);
        CU_ASSERT_EQUAL(chv_keystore_generate_identity(ks, CHV_RECEIPT_LABEL, CHV_USE_RECEIPT, CHV_CURVE_P256, &why),
                        CHV_OK);
        CU_ASSERT_EQUAL_FATAL(chv_keystore_commit(ks, &why), CHV_OK);
        chv_keystore_close(ks);
    }
    ks = test_open(uri, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    memset(&key, 0, sizeof key);
    CU_ASSERT_EQUAL(chv_keystore_public_key(ks, CHV_RECEIPT_LABEL, &key.curve, key.public_key, &why), CHV_OK);
    answer.signature_len = sizeof answer.signature;
    CU_ASSERT_EQUAL(chv_keystore_sign(ks, CHV_RECEIPT_LABEL, (const uint8_t *)text, strlen(text), answer.signature,
                                      &answer.signature_len, &why),
                    CHV_OK);
    chv_keystore_close(ks);
}

/* An answer with a signed receipt of cam1's put of 5 bytes to "a/b", after a change. */
static void answer_with(void (*change)(struct chv_receipt *receipt))
{
    struct chv_receipt r = {.server = "s1", .client = "cam1", .path = "a/b", .size = 5, .time = 1800000000};
    size_t len = 0;
    memset(digest, 0xab, sizeof digest);
    memset(r.sha256, 0xab, sizeof r.sha256);
    if (change != NULL)
        change(&r);
    memset(&answer, 0, sizeof answer);
    answer.has_receipt = true;
    CU_ASSERT_EQUAL_FATAL(chv_receipt_format(&r, answer.receipt, &len), CHV_OK);
    sign(answer.receipt);
}

static void start(char *name)
{
    memset(&receipts, 0, sizeof receipts);
    memset(&link_of_cam1, 0, sizeof link_of_cam1);
    memcpy(link_of_cam1.key.parsed.id, "cam1", sizeof "cam1");
    memcpy(link_of_cam1.key.server, "s1", sizeof "s1");
    receipts.where = name;
    receipts.has_key = receipts.checked = true;
    answer_with(NULL);
    receipts.key = key;
}

static int take(void)
{
    return chaveiro_receipts_take(&receipts, &link_of_cam1, "a/b", 5, digest, &answer);
}

static void other_server(struct chv_receipt *r)
{
    r->server[1] = '2';
}

static void other_client(struct chv_receipt *r)
{
    r->client[3] = '2';
}

static void other_path(struct chv_receipt *r)
{
    r->path[0] = 'b';
}

static void other_size(struct chv_receipt *r)
{
    r->size++;
}

static void other_digest(struct chv_receipt *r)
{
    r->sha256[31] ^= 1;
}

static void test_taken(void)
{
    struct chv_receipt_signed sealed;
    struct chv_receipt receipt;
    char *name = test_fresh_path();
    start(name);
    CU_ASSERT_EQUAL(take(), EX_OK);
    CU_ASSERT_EQUAL_FATAL(chv_receipt_read(name, &sealed, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(sealed.text, answer.receipt);
    CU_ASSERT_EQUAL(sealed.signature_len, answer.signature_len);
    CU_ASSERT_EQUAL(chv_receipt_open(&sealed, &key, &receipt, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(receipt.client, "cam1");
    struct chv_identity none = key;
    none.public_key[1] ^= 1; /* no point of the curve */
    CU_ASSERT_EQUAL(chv_receipt_open(&sealed, &none, &receipt, &why), CHV_ERR_CRYPTO);
    none.curve = CHV_CURVE_25519;
    CU_ASSERT_EQUAL(chv_receipt_open(&sealed, &none, &receipt, &why), CHV_ERR_ARGUMENT);
    /* Once more: it is there. */
    CU_ASSERT_EQUAL(take(), EX_CANTCREAT);
    CU_ASSERT_EQUAL(chv_receipt_absent(name, &why), CHV_ERR_EXISTS);
    free(name);
}

/* Signed by the right key, and still not what was asked for. */
static void test_of_something_else(void)
{
    static void (*const changes[])(struct chv_receipt *) = {other_server, other_client, other_path, other_size,
                                                            other_digest};
    char *name = test_fresh_path();
    const size_t before = test_folder_count();
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        start(name);
        answer_with(changes[i]);
        CU_ASSERT_EQUAL(take(), EX_PROTOCOL);
    }
    start(name);
    answer.signature[answer.signature_len - 1] ^= 1;
    CU_ASSERT_EQUAL(take(), EX_PROTOCOL);
    start(name);
    memcpy(answer.receipt, "I owe", 5); /* signed, even */
    sign(answer.receipt);
    CU_ASSERT_EQUAL(take(), EX_PROTOCOL);
    start(name);
    receipts.has_key = false; /* also without a key */
    answer_with(other_path);
    CU_ASSERT_EQUAL(take(), EX_PROTOCOL);
    start(name);
    answer.has_receipt = false;
    CU_ASSERT_EQUAL(take(), EX_UNAVAILABLE);
    CU_ASSERT_EQUAL(test_folder_count(), before);
    free(name);
}

/* A client without a credential knows neither its id nor the server's name. */
static void test_profile_key(void)
{
    char *name = test_fresh_path();
    start(name);
    link_of_cam1.key.parsed.id[0] = link_of_cam1.key.server[0] = '\0';
    CU_ASSERT_EQUAL(take(), EX_OK);
    free(name);
}

/* Without a key the signature is not looked at. */
static void test_no_key(void)
{
    char *name = test_fresh_path();
    start(name);
    receipts.has_key = false;
    answer.signature[answer.signature_len - 1] ^= 1;
    CU_ASSERT_EQUAL(take(), EX_OK);
    free(name);
}

/* A disk that is full in the middle leaves nothing: neither a statement without its signature nor half a file. */
static void test_no_room(void)
{
    struct rlimit was, small;
    char *name = test_fresh_path();
    const size_t before = test_folder_count();
    start(name);
    (void)signal(SIGXFSZ, SIG_IGN);
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &was), 0);
    for (rlim_t room = 0; room < 150; room += 74) { /* not even the signature; the signature only */
        small = was;
        small.rlim_cur = room;
        CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &small), 0);
        int code = take();
        CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &was), 0);
        CU_ASSERT_EQUAL(code, EX_IOERR);
        CU_ASSERT_EQUAL(test_folder_count(), before);
    }
    CU_ASSERT_EQUAL(take(), EX_OK);
    free(name);
}

static void test_names(void)
{
    struct chv_receipt_signed sealed;
    char *name = test_fresh_path(), *folder = test_fresh_path();
    static char longest[PATH_MAX + 10];
    start(name);
    CU_ASSERT_EQUAL(chv_receipt_absent(name, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_receipt_read(name, &sealed, &why), CHV_ERR_NOT_FOUND);
    memset(longest, 'x', sizeof longest - 1);
    CU_ASSERT_EQUAL(chv_receipt_absent(longest, &why), CHV_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(chv_receipt_read(longest, &sealed, &why), CHV_ERR_ARGUMENT);
    longest[300] = '\0'; /* longer than a name may be */
    CU_ASSERT_EQUAL(chv_receipt_absent(longest, &why), CHV_ERR_IO);
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    CU_ASSERT_EQUAL(chv_receipt_read(folder, &sealed, &why), CHV_ERR_IO);
    /* In a folder: with the folders of the path. */
    receipts.where = folder;
    receipts.folder = true;
    CU_ASSERT_EQUAL(chaveiro_receipts_plan(&receipts, &link_of_cam1, "a/b"), EX_OK);
    CU_ASSERT_EQUAL(take(), EX_OK);
    char in_folder[400];
    (void)snprintf(in_folder, sizeof in_folder, "%s/a/b.receipt", folder);
    CU_ASSERT_EQUAL(chv_receipt_read(in_folder, &sealed, &why), CHV_OK);
    CU_ASSERT_EQUAL(chaveiro_receipts_plan(&receipts, &link_of_cam1, "a/b"), EX_CANTCREAT);
    CU_ASSERT_EQUAL(chaveiro_receipts_plan(&receipts, &link_of_cam1, "a/b.receipt/c"), EX_IOERR);
    free(name);
    free(folder);
}

TEST_MAIN("receipts", {"taken", test_taken}, {"of something else", test_of_something_else},
          {"profile key", test_profile_key}, {"no key", test_no_key}, {"no room", test_no_room}, {"names", test_names})
