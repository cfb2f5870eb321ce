/* SPDX-License-Identifier: Apache-2.0 */
/* The format of a bundle: what comes out is what went in, and nothing that was changed, cut or moved is believed. */
#include "tests/harness.h"
#include "tools/bundle.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLIENTS = 1500, FILE_MAX = 256 << 10, CHUNKS_MAX = 16 };

static char folder[256], path[300], other[300];
static const char *passphrase = "correct horse";
static struct chv_why why;
static uint8_t file[FILE_MAX], changed[FILE_MAX];
static size_t file_len;

static int remove_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(name);
}

static void clean_up(void)
{
    (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static enum chv_err secret(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                           struct chv_why *w)
{
    (void)arg;
    (void)prompt;
    (void)confirm;
    (void)w;
    *len = strlen(passphrase);
    if (*len > cap)
        return CHV_ERR_NO_SECRET;
    memcpy(out, passphrase, *len);
    return CHV_OK;
}

static const struct chv_bundle_seal seal = {.secret = secret, .scrypt_n = 1 << 14};
static const struct chv_bundle_open how = {.secret = secret};
static const struct chv_bundle_meta meta = {
    .server = "gate", .address = "gate.example:7040", .created = 1, .clients = CLIENTS};

static size_t credential(size_t i, uint8_t bytes[CHV_CREDENTIAL_MAX])
{
    struct chv_credential c = {.profile = CHV_PROFILE_PSK, .epoch = 1, .serial = (uint32_t)i + 1};
    size_t len = CHV_CREDENTIAL_MAX;
    (void)snprintf(c.id, sizeof c.id, "client-%zu", i);
    CU_ASSERT_EQUAL_FATAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_credential_encode(&c, bytes, &len), CHV_OK);
    return len;
}

static enum chv_err put_all(struct chv_bundle_writer *writer, size_t n)
{
    uint8_t bytes[CHV_CREDENTIAL_MAX], key[CHV_SECRET_LEN];
    enum chv_err err = CHV_OK;
    for (size_t i = 0; err == CHV_OK && i < n; i++) {
        size_t len = credential(i, bytes);
        memset(key, (int)(i % 251), sizeof key);
        err = chv_bundle_put(writer, bytes, len, key, &why);
    }
    return err;
}

static void make(const char *name)
{
    struct chv_bundle_writer *writer = NULL;
    CU_ASSERT_EQUAL_FATAL(chv_bundle_create(name, &seal, &meta, &writer, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(put_all(writer, CLIENTS), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_bundle_finish(writer, false, &why), CHV_OK);
    chv_bundle_discard(writer);
}

static size_t load(const char *name, uint8_t *out)
{
    FILE *in = fopen(name, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    size_t len = fread(out, 1, FILE_MAX, in);
    (void)fclose(in);
    return len;
}

static void store(const char *name, const uint8_t *bytes, size_t len)
{
    FILE *out = fopen(name, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, len, out), len);
    (void)fclose(out);
}

/* Reads all of it: clients that came out, and how it ended. */
static enum chv_err read_all(const char *name, size_t *n)
{
    struct chv_bundle_reader *reader = NULL;
    struct chv_bundle_meta got = {.clients = 0};
    struct chv_bundle_entry entry;
    uint8_t bytes[CHV_CREDENTIAL_MAX];
    bool end = false;
    *n = 0;
    enum chv_err err = chv_bundle_read(name, &how, &got, &reader, &why);
    while (err == CHV_OK && !end) {
        err = chv_bundle_next(reader, &entry, &end, &why);
        if (err != CHV_OK || end)
            break;
        CU_ASSERT_EQUAL(entry.len, credential(*n, bytes));
        CU_ASSERT_EQUAL(memcmp(entry.bytes, bytes, entry.len), 0);
        CU_ASSERT_EQUAL(entry.key[0], *n % 251);
        CU_ASSERT_EQUAL(entry.key[CHV_SECRET_LEN - 1], *n % 251);
        (*n)++;
    }
    chv_bundle_close(reader);
    return err;
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    if (folder[0] != '\0')
        return;
    (void)snprintf(folder, sizeof folder, "%s/chaveiro-bundle-XXXXXX", tmp != NULL && tmp[0] ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)atexit(clean_up);
    (void)snprintf(path, sizeof path, "%s/bundle", folder);
    (void)snprintf(other, sizeof other, "%s/other", folder);
    make(path);
    file_len = load(path, file);
}

/* Where the chunks begin, from the first line; then each chunk's place. */
static size_t chunks(size_t at[CHUNKS_MAX + 1])
{
    size_t n = 0, envelope = 0;
    const char *line_end = memchr(file, '\n', file_len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(line_end);
    CU_ASSERT_EQUAL_FATAL(sscanf((const char *)file, "chaveiro-bundle 1 passphrase %zu", &envelope), 1);
    size_t here = (size_t)(line_end - (const char *)file) + 1 + envelope;
    while (here < file_len && n < CHUNKS_MAX) {
        at[n++] = here;
        here += 4 + ((size_t)file[here] << 24 | (size_t)file[here + 1] << 16 | (size_t)file[here + 2] << 8 |
                     file[here + 3]);
    }
    CU_ASSERT_EQUAL_FATAL(here, file_len);
    at[n] = here;
    return n;
}

static void test_whole(void)
{
    size_t n, at[CHUNKS_MAX + 1];
    struct stat st;
    setup();
    CU_ASSERT_EQUAL(read_all(path, &n), CHV_OK);
    CU_ASSERT_EQUAL(n, CLIENTS);
    CU_ASSERT(chunks(at) >= 4);
    CU_ASSERT(chv_bundle_is(path));
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    passphrase = "another";
    CU_ASSERT_EQUAL(read_all(path, &n), CHV_ERR_PASSPHRASE);
    passphrase = "correct horse";
    CU_ASSERT_EQUAL(read_all("/nonexistent/bundle", &n), CHV_ERR_NOT_FOUND);
    store(other, (const uint8_t *)"id,scopes\n", 10);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_FORMAT);
    CU_ASSERT_FALSE(chv_bundle_is(other));
    store(other, (const uint8_t *)"chaveiro-bundle 2 x 1\n", 22);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_FORMAT);
}

static void test_writing(void)
{
    struct chv_bundle_writer *writer = NULL, *second = NULL;
    char part[320];
    setup();
    (void)unlink(other);
    (void)snprintf(part, sizeof part, "%s.part", other);
    CU_ASSERT_EQUAL_FATAL(chv_bundle_create(other, &seal, &meta, &writer, &why), CHV_OK);
    CU_ASSERT_EQUAL(chv_bundle_create(other, &seal, &meta, &second, &why), CHV_ERR_BUSY);
    CU_ASSERT_EQUAL(put_all(writer, CLIENTS - 1), CHV_OK);
    CU_ASSERT_EQUAL(chv_bundle_finish(writer, false, &why), CHV_ERR_STATE);
    chv_bundle_discard(writer);
    CU_ASSERT_NOT_EQUAL(access(part, F_OK), 0);
    CU_ASSERT_NOT_EQUAL(access(other, F_OK), 0);
    /* one that is there stays, unless it is to be replaced */
    for (int replace = 0; replace < 2; replace++) {
        size_t n;
        store(other, (const uint8_t *)"mine", 4);
        CU_ASSERT_EQUAL_FATAL(chv_bundle_create(other, &seal, &meta, &writer, &why), CHV_OK);
        CU_ASSERT_EQUAL(put_all(writer, CLIENTS), CHV_OK);
        CU_ASSERT_EQUAL(chv_bundle_finish(writer, replace != 0, &why), replace ? CHV_OK : CHV_ERR_EXISTS);
        chv_bundle_discard(writer);
        CU_ASSERT_EQUAL(load(other, changed) == 4, replace == 0);
        if (replace != 0)
            CU_ASSERT_EQUAL(read_all(other, &n), CHV_OK);
        CU_ASSERT_NOT_EQUAL(access(part, F_OK), 0);
    }
}

static void test_flipped(void)
{
    size_t n, at[CHUNKS_MAX + 1];
    setup();
    const size_t count = chunks(at);
    /* every chunk: its length, its first bytes, its tag */
    for (size_t i = 0; i < count; i++) {
        const size_t places[] = {at[i] + 3, at[i] + 4, at[i] + 40, at[i + 1] - 1, at[i + 1] - 16};
        for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
            memcpy(changed, file, file_len);
            changed[places[k]] ^= 1;
            store(other, changed, file_len);
            enum chv_err err = read_all(other, &n);
            CU_ASSERT(err == CHV_ERR_STORE_DAMAGED || err == CHV_ERR_STORE_TRUNCATED);
        }
    }
    /* line and envelope, here and there: each change is noticed before any key comes out */
    for (size_t i = 0; i < at[0]; i += 7) {
        memcpy(changed, file, file_len);
        changed[i] ^= 1;
        store(other, changed, file_len);
        CU_ASSERT_NOT_EQUAL(read_all(other, &n), CHV_OK);
        CU_ASSERT_EQUAL(n, 0);
    }
}

static void test_cut(void)
{
    size_t n, at[CHUNKS_MAX + 1];
    setup();
    const size_t count = chunks(at);
    for (size_t i = 1; i <= count; i++) {
        /* right behind a chunk, inside one, inside a length */
        if (i < count) {
            store(other, file, at[i]);
            CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_TRUNCATED);
            store(other, file, at[i] + 2);
            CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_TRUNCATED);
        }
        store(other, file, at[i] - 1);
        CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_TRUNCATED);
    }
    store(other, file, at[0]);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_TRUNCATED);
    store(other, file, at[0] - 1);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_TRUNCATED);
    /* and something behind the end */
    memcpy(changed, file, file_len);
    changed[file_len] = 0;
    store(other, changed, file_len + 1);
    CU_ASSERT_NOT_EQUAL(read_all(other, &n), CHV_OK);
}

static void test_reordered(void)
{
    size_t n, at[CHUNKS_MAX + 1];
    setup();
    const size_t count = chunks(at);
    CU_ASSERT_FATAL(count >= 4);
    /* chunks 1 and 2 in the other's place */
    size_t len = at[1], one = at[2] - at[1], two = at[3] - at[2];
    memcpy(changed, file, len);
    memcpy(changed + len, file + at[2], two);
    memcpy(changed + len + two, file + at[1], one);
    memcpy(changed + at[3], file + at[3], file_len - at[3]);
    store(other, changed, file_len);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_DAMAGED);
    /* one left out, one twice */
    memcpy(changed, file, at[1]);
    memcpy(changed + at[1], file + at[2], file_len - at[2]);
    store(other, changed, file_len - one);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_DAMAGED);
    memcpy(changed, file, at[2]);
    memcpy(changed + at[2], file + at[1], file_len - at[1]);
    store(other, changed, file_len + one);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_DAMAGED);
    /* the chunks of another bundle of the same clients */
    (void)unlink(other);
    make(other);
    size_t other_len = load(other, changed);
    CU_ASSERT_EQUAL_FATAL(other_len, file_len);
    memcpy(changed, file, at[1]);
    store(other, changed, other_len);
    CU_ASSERT_EQUAL(read_all(other, &n), CHV_ERR_STORE_DAMAGED);
    CU_ASSERT_EQUAL(n, 0);
}

TEST_MAIN("bundle", {"whole", test_whole}, {"writing", test_writing}, {"flipped", test_flipped}, {"cut", test_cut},
          {"reordered", test_reordered})
