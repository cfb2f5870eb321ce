/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups inside one process: what stays in memory (nothing but the one copy in secure memory, and after the end not that),
 * and files that cannot be written.  End to end, and with openssl(1): backup.py.
 */
#include <config.h>

#include "tests/keystore/support.h"
#include "tests/support/needle.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "keystore/keystore.h"
#include "tools/backup.h"

/* free() writes to the first bytes of a block: what is looked for is the rest. */
enum { HEAD = 16, TEXT_LEN = 40, DAY = 86400 };

static struct chv_why why;

/* --- a certificate ------------------------------------------------------------------------------------------------- */

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    CU_ASSERT_FATAL(f != NULL);
    CU_ASSERT_EQUAL(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

static void write_certificate(const char *path, EVP_PKEY *key)
{
    X509 *x = X509_new();
    FILE *f = fopen(path, "w");
    CU_ASSERT_FATAL(x != NULL && f != NULL);
    X509_NAME *name = X509_get_subject_name(x);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    CU_ASSERT_PTR_NOT_NULL(X509_gmtime_adj(X509_getm_notBefore(x), -DAY));
    CU_ASSERT_PTR_NOT_NULL(X509_gmtime_adj(X509_getm_notAfter(x), DAY));
    CU_ASSERT_EQUAL(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"Recovery", -1, -1, 0),
                    1);
    CU_ASSERT_EQUAL(X509_set_issuer_name(x, name), 1);
    CU_ASSERT_EQUAL(X509_set_pubkey(x, key), 1);
    CU_ASSERT(X509_sign(x, key, EVP_sha256()) > 0);
    CU_ASSERT_EQUAL(PEM_write_X509(f, x), 1);
    fclose(f);
    X509_free(x);
}

struct files {
    char *key, *certificate, *backup;
};

static struct files make_files(bool rsa)
{
    struct files f = {test_fresh_path(), test_fresh_path(), test_fresh_path()};
    EVP_PKEY *key =
        rsa ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048) : EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    CU_ASSERT_FATAL(key != NULL);
    write_key(f.key, key);
    write_certificate(f.certificate, key);
    EVP_PKEY_free(key);
    return f;
}

static void free_files(struct files *f)
{
    free(f->key);
    free(f->certificate);
    free(f->backup);
}

/* --- a keystore that looks at what it is given, and keeps nothing -------------------------------------------------- */

struct watcher {
    struct chv_keystore base;
    struct needle raw, text;
    unsigned removed;
};

/* Byte by byte and masked at once: the secret is in no second place for it. */
static enum chv_err watch_import(struct chv_keystore *ks, const char *label, const uint8_t secret[CHV_SECRET_LEN],
                                 struct chv_why *unused)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct watcher *w = (struct watcher *)ks;
    (void)unused;
    CU_ASSERT_STRING_EQUAL(label, "master:3");
    w->raw.len = CHV_SECRET_LEN - HEAD;
    for (size_t i = 0; i < w->raw.len; i++)
        w->raw.masked[i] = secret[HEAD + i] ^ NEEDLE_MASK;
    w->text.len = TEXT_LEN - HEAD;
    for (size_t i = 0; i < w->text.len; i++) {
        size_t bit = 6 * (HEAD + i), byte = bit / 8;
        unsigned pair = ((unsigned)secret[byte] << 8) | secret[byte + 1];
        w->text.masked[i] = (uint8_t)digits[(pair >> (10 - bit % 8)) & 63] ^ NEEDLE_MASK;
    }
    return CHV_OK;
}

static enum chv_err watch_derive(struct chv_keystore *ks, const char *label, const uint8_t *info, size_t info_len,
                                 uint8_t out[CHV_SECRET_LEN], struct chv_why *unused)
{
    (void)ks;
    (void)label;
    (void)info;
    (void)info_len;
    (void)unused;
    memset(out, 0x55, CHV_SECRET_LEN); /* another key's */
    return CHV_OK;
}

static enum chv_err watch_remove(struct chv_keystore *ks, const char *label, struct chv_why *unused)
{
    struct watcher *w = (struct watcher *)ks;
    (void)unused;
    CU_ASSERT_STRING_EQUAL(label, "master:3");
    w->removed++;
    return CHV_OK;
}

static const struct chv_keystore_ops watch_ops = {
    .abi = CHV_KEYSTORE_ABI, .scheme = "watch", .import = watch_import, .derive = watch_derive, .remove = watch_remove};

/* --- tests --------------------------------------------------------------------------------------------------------- */

static void look(const struct chv_backup *b, struct watcher *w)
{
    *w = (struct watcher){.base.ops = &watch_ops};
    CU_ASSERT_EQUAL(chv_backup_import(b, &w->base, &why), CHV_ERR_KEY); /* it computes another check value: taken out */
    CU_ASSERT_EQUAL(w->removed, 1);
    CU_ASSERT_EQUAL(needle_occurrences(w->raw), 1);
    CU_ASSERT_EQUAL(needle_occurrences(w->text), 0);
}

static void leaves_nothing(bool rsa)
{
    struct files f = make_files(rsa);
    struct chv_secret_source none = {.kind = CHV_SECRET_STDIN};
    struct chv_backup *b = NULL;
    struct watcher made, read;
    CU_ASSERT_EQUAL_FATAL(chv_backup_plan(f.certificate, f.backup, &b, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_backup_make(b, "gate", "gate:7040", 3, &why), CHV_OK);
    look(b, &made);
    chv_backup_free(b);
    CU_ASSERT_EQUAL(needle_occurrences(made.raw), 0);
    CU_ASSERT_EQUAL(needle_occurrences(made.text), 0);

    CU_ASSERT_EQUAL_FATAL(chv_backup_read(f.backup, f.key, &none, &b, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(chv_backup_info(b)->server, "gate");
    CU_ASSERT_STRING_EQUAL(chv_backup_info(b)->address, "gate:7040");
    CU_ASSERT_EQUAL(chv_backup_info(b)->epoch, 3);
    look(b, &read);
    CU_ASSERT_EQUAL(memcmp(read.raw.masked, made.raw.masked, made.raw.len), 0);
    chv_backup_free(b);
    CU_ASSERT_EQUAL(needle_occurrences(made.raw), 0);
    CU_ASSERT_EQUAL(needle_occurrences(made.text), 0);
    free_files(&f);
}

static void test_memory_rsa(void)
{
    leaves_nothing(true);
}

static void test_memory_ec(void)
{
    leaves_nothing(false);
}

static void test_masters_differ(void)
{
    struct files f = make_files(false), g = make_files(false);
    struct chv_backup *a = NULL, *b = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_backup_plan(f.certificate, f.backup, &a, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_backup_plan(g.certificate, g.backup, &b, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_backup_make(a, "gate", NULL, 1, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_backup_make(b, "gate", NULL, 1, &why), CHV_OK);
    CU_ASSERT_NOT_EQUAL(memcmp(chv_backup_info(a)->check, chv_backup_info(b)->check, CHV_CHECK_MASTER_LEN), 0);
    chv_backup_free(a);
    chv_backup_free(b);
    free_files(&f);
    free_files(&g);
}

static void test_what_is_there_stays(void)
{
    struct files f = make_files(false);
    struct chv_backup *b = NULL;
    test_write(f.backup, "mine", 4);
    CU_ASSERT_EQUAL(chv_backup_plan(f.certificate, f.backup, &b, &why), CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL_FATAL(unlink(f.backup), 0);
    CU_ASSERT_EQUAL_FATAL(chv_backup_plan(f.certificate, f.backup, &b, &why), CHV_OK);
    test_write(f.backup, "mine", 4); /* a moment later */
    size_t before = test_folder_count();
    CU_ASSERT_EQUAL(chv_backup_make(b, "gate", NULL, 1, &why), CHV_ERR_EXISTS);
    chv_backup_unmake(b); /* not ours */
    struct test_bytes left = test_read(f.backup);
    CU_ASSERT_STRING_EQUAL(left.ptr, "mine");
    CU_ASSERT_EQUAL(test_folder_count(), before);
    free(left.ptr);
    chv_backup_free(b);
    free_files(&f);
}

static void test_full_disk(void)
{
    struct files f = make_files(true);
    struct chv_backup *b = NULL;
    struct rlimit had, little;
    CU_ASSERT_EQUAL_FATAL(chv_backup_plan(f.certificate, f.backup, &b, &why), CHV_OK);
    size_t before = test_folder_count();
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &had), 0);
    little = had;
    little.rlim_cur = 100;
    (void)signal(SIGXFSZ, SIG_IGN);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_FSIZE, &little), 0);
    enum chv_err err = chv_backup_make(b, "gate", NULL, 1, &why);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_FSIZE, &had), 0);
    CU_ASSERT_EQUAL(err, CHV_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, f.backup));
    CU_ASSERT_EQUAL(test_folder_count(), before);
    CU_ASSERT_EQUAL(chv_backup_make(b, "gate", NULL, 1, &why), CHV_OK); /* there is room again */
    CU_ASSERT_EQUAL(test_folder_count(), before + 1);
    chv_backup_unmake(b);
    CU_ASSERT_EQUAL(test_folder_count(), before);
    chv_backup_free(b);
    free_files(&f);
}

static void test_nothing_is_all_right(void)
{
    chv_backup_unmake(NULL);
    chv_backup_free(NULL);
}

TEST_MAIN("tools/backup", {"memory, RSA", test_memory_rsa}, {"memory, EC", test_memory_ec},
          {"masters differ", test_masters_differ}, {"what is there stays", test_what_is_there_stays},
          {"a full disk", test_full_disk}, {"nothing", test_nothing_is_all_right})
