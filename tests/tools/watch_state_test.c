/* SPDX-License-Identifier: Apache-2.0 */
/* A watched folder: what is remembered, and what is made of it after each way to stop. */
#include "tools/chaveiro_watch_state.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"

struct place {
    char path[256];
    struct chaveiro_watch_state state;
    unsigned renamed;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void on_renamed(const struct chaveiro_watch_intent *intent, void *arg)
{
    (void)intent;
    ++*(unsigned *)arg;
}

static enum chv_err take(struct place *p)
{
    struct chv_why why = {""};
    p->renamed = 0;
    return chaveiro_watch_open(p->path, &p->state, on_renamed, &p->renamed, &why);
}

static void place_open(struct place *p)
{
    const char *tmp = getenv("TMPDIR");
    memset(p, 0, sizeof *p);
    (void)snprintf(p->path, sizeof p->path, "%s/chv-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(p->path));
    CU_ASSERT_EQUAL_FATAL(take(p), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chaveiro_watch_bind(&p->state, "gate cam1", NULL), CHV_OK);
}

static void place_remove(struct place *p)
{
    CU_ASSERT_EQUAL(nftw(p->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* A whole part, of which the program has written no more. */
static struct chaveiro_watch_file part(const struct place *p, uint8_t n, const char *name)
{
    struct chaveiro_watch_file file = {.fd = -1};
    file.entry.id[0] = n;
    (void)snprintf(file.entry.name, sizeof file.entry.name, "%s", name);
    file.entry.mode = 0600;
    file.entry.size = 1;
    CU_ASSERT_EQUAL(EVP_Digest(&n, 1, file.entry.sha256, NULL, EVP_sha256(), NULL), 1);
    file.fd = chaveiro_watch_part(&p->state, file.entry.id);
    CU_ASSERT_FATAL(file.fd >= 0 && write(file.fd, &n, 1) == 1);
    return file;
}

static bool there(const struct place *p, const char *name)
{
    return faccessat(p->state.dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_commit(void)
{
    struct place p;
    place_open(&p);
    struct chaveiro_watch_file files[3] = {part(&p, 1, "one"), part(&p, 2, "taken"), part(&p, 3, "three")};
    CU_ASSERT_EQUAL(symlinkat("nowhere", p.state.dir, "taken"), 0);
    CU_ASSERT(chaveiro_watch_taken(&p.state, "taken") && !chaveiro_watch_taken(&p.state, "one"));
    CU_ASSERT_EQUAL(chaveiro_watch_commit(&p.state, files, 3, NULL), CHV_OK);
    CU_ASSERT(files[0].code == 200 && files[1].code == 409 && files[2].code == 200);
    CU_ASSERT(there(&p, "one") && there(&p, "three") && !there(&p, ".chv-part-02000000000000000000000000000000"));
    CU_ASSERT_EQUAL(p.state.count, 2);
    CU_ASSERT_PTR_NULL(chaveiro_watch_find(&p.state, files[1].entry.id));
    chaveiro_watch_close(&p.state);
    /* It is remembered until the server has let it go, whatever becomes of the file. */
    CU_ASSERT_EQUAL_FATAL(take(&p), CHV_OK);
    CU_ASSERT_EQUAL(unlinkat(p.state.dir, "one", 0), 0);
    CU_ASSERT_EQUAL(p.renamed, 0);
    CU_ASSERT_EQUAL(p.state.count, 2);
    CU_ASSERT_EQUAL(chaveiro_watch_gone(&p.state, files[0].entry.id, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chaveiro_watch_gone(&p.state, files[0].entry.id, NULL), CHV_OK);
    chaveiro_watch_close(&p.state);
    CU_ASSERT_EQUAL_FATAL(take(&p), CHV_OK);
    CU_ASSERT_EQUAL(p.state.count, 1);
    CU_ASSERT_PTR_NOT_NULL(chaveiro_watch_find(&p.state, files[2].entry.id));
    CU_ASSERT_EQUAL(chaveiro_watch_gone(&p.state, files[2].entry.id, NULL), CHV_OK);
    chaveiro_watch_close(&p.state);
    CU_ASSERT_EQUAL_FATAL(take(&p), CHV_OK);
    CU_ASSERT_EQUAL(p.state.count, 0);
    chaveiro_watch_close(&p.state);
    place_remove(&p);
}

static void put_journal(const struct place *p, const char *text, size_t len)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/" CHV_PUSH_STATE "/journal", p->path);
    FILE *f = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(text, 1, len, f), len);
    (void)fclose(f);
}

/* The journal as it is after two commits, cut off after each of its bytes: no more than its last line is missed. */
static void test_a_journal_that_ends_anywhere(void)
{
    char text[2048], path[512];
    struct place p;
    place_open(&p);
    struct chaveiro_watch_file files[2] = {part(&p, 1, "one"), part(&p, 2, "two words")};
    CU_ASSERT_EQUAL(chaveiro_watch_commit(&p.state, files, 2, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chaveiro_watch_gone(&p.state, files[0].entry.id, NULL), CHV_OK);
    (void)snprintf(path, sizeof path, "%s/" CHV_PUSH_STATE "/journal", p.path);
    chaveiro_watch_close(&p.state);
    FILE *f = fopen(path, "re");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    const size_t len = fread(text, 1, sizeof text, f);
    (void)fclose(f);
    const size_t head = strlen("chaveiro-watch 1 gate cam1\n");
    CU_ASSERT_FATAL(len > head && len < sizeof text);
    for (size_t cut = 0; cut <= len; cut++) {
        size_t lines = 0;
        for (size_t i = head; i < cut; i++)
            lines += text[i] == '\n';
        put_journal(&p, text, cut);
        enum chv_err err = take(&p);
        if (cut < head) {
            CU_ASSERT_EQUAL(err, CHV_ERR_DAMAGED);
        } else {
            CU_ASSERT_EQUAL(err, CHV_OK);
            CU_ASSERT_EQUAL(p.state.count, lines == 3 ? 1 : lines);
            CU_ASSERT_STRING_EQUAL(p.state.who, "gate cam1");
            /* What is written next stands behind what counts. */
            CU_ASSERT_EQUAL(chaveiro_watch_bind(&p.state, "gate cam1", NULL), CHV_OK);
        }
        chaveiro_watch_close(&p.state);
    }
    put_journal(&p, text, len);
    text[head + 5] = 'x'; /* in the first line's id: nothing from there on counts */
    put_journal(&p, text, len);
    CU_ASSERT_EQUAL(take(&p), CHV_OK);
    CU_ASSERT_EQUAL(p.state.count, 0);
    chaveiro_watch_close(&p.state);
    place_remove(&p);
}

/* The intents are there, and the parts in each state that a rename can be stopped in. */
static void test_recovery(void)
{
    static const char zeros[] = "000000000000000000000000000000";
    char text[2048], hex[3] = "", sums[4][65];
    struct place p;
    place_open(&p);
    size_t len = (size_t)snprintf(text, sizeof text, "chaveiro-watch 1 gate cam1\n");
    for (uint8_t n = 1; n <= 4; n++) {
        struct chaveiro_watch_file file = part(&p, n, "x");
        (void)close(file.fd);
        for (size_t i = 0; i < sizeof file.entry.sha256; i++)
            (void)snprintf(sums[n - 1] + 2 * i, 3, "%02x", file.entry.sha256[i]);
        (void)snprintf(hex, sizeof hex, "%02x", n);
        len += (size_t)snprintf(text + len, sizeof text - len, "I %s%s %s name%u\n", hex, zeros, sums[n - 1], n);
    }
    /* 1: not renamed. 2: was. 3: its name is another file's. 4: the part is not whole. 5: no intent. */
    chaveiro_watch_drop(&p.state, (const uint8_t[CHV_PUSH_ID_LEN]){2});
    CU_ASSERT_EQUAL(mkdirat(p.state.dir, "name3", 0700), 0);
    int fd = chaveiro_watch_part(&p.state, (const uint8_t[CHV_PUSH_ID_LEN]){4});
    CU_ASSERT_EQUAL(write(fd, "xx", 2), 2);
    (void)close(fd);
    (void)close(chaveiro_watch_part(&p.state, (const uint8_t[CHV_PUSH_ID_LEN]){5}));
    chaveiro_watch_close(&p.state);
    put_journal(&p, text, len);
    for (unsigned round = 0; round < 2; round++) {
        CU_ASSERT_EQUAL_FATAL(take(&p), CHV_OK);
        CU_ASSERT_EQUAL(p.renamed, round == 0 ? 1 : 0);
        CU_ASSERT_EQUAL(p.state.count, 2);
        CU_ASSERT_PTR_NOT_NULL(chaveiro_watch_find(&p.state, (const uint8_t[CHV_PUSH_ID_LEN]){1}));
        CU_ASSERT_PTR_NOT_NULL(chaveiro_watch_find(&p.state, (const uint8_t[CHV_PUSH_ID_LEN]){2}));
        CU_ASSERT(there(&p, "name1") && !there(&p, "name2") && there(&p, "name3") && !there(&p, "name4"));
        for (unsigned n = 1; n <= 5; n++) {
            char name[64];
            (void)snprintf(name, sizeof name, ".chv-part-%02x%s", n, zeros);
            CU_ASSERT_FALSE(there(&p, name));
        }
        chaveiro_watch_close(&p.state);
    }
    place_remove(&p);
}

static void test_one_at_a_time(void)
{
    struct place p;
    struct chaveiro_watch_state other;
    struct chv_why why = {""};
    place_open(&p);
    CU_ASSERT_EQUAL(chaveiro_watch_open(p.path, &other, on_renamed, NULL, &why), CHV_ERR_BUSY);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "another 'chaveiro watch' is at work in this folder"));
    chaveiro_watch_close(&other);
    CU_ASSERT_EQUAL(chaveiro_watch_bind(&p.state, "gate cam1", NULL), CHV_OK);
    CU_ASSERT_EQUAL(chaveiro_watch_bind(&p.state, "gate cam2", &why), CHV_ERR_CONFIG);
    chaveiro_watch_close(&p.state);
    CU_ASSERT_EQUAL(chaveiro_watch_open("/nowhere", &other, on_renamed, NULL, &why), CHV_ERR_NOT_FOUND);
    chaveiro_watch_close(&other);
    place_remove(&p);
}

TEST_MAIN("watch_state", {"commit", test_commit}, {"a journal that ends anywhere", test_a_journal_that_ends_anywhere},
          {"recovery", test_recovery}, {"one at a time", test_one_at_a_time})
