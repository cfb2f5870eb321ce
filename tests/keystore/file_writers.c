/* SPDX-License-Identifier: Apache-2.0 */
/* Writers at once: nothing that one of them adds is lost, and readers meanwhile always find a whole file. */
#include "tests/keystore/support.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 2, ADDS = 20 };

static void add_labels(const char *path, int writer)
{
    for (int i = 0; i < ADDS; i++) {
        char label[32];
        struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_WRITE);
        (void)snprintf(label, sizeof label, "w%d.%d", writer, i);
        if (ks == NULL || chv_keystore_generate(ks, label, NULL) != CHV_OK || chv_keystore_commit(ks, NULL) != CHV_OK)
            _exit(1);
        chv_keystore_close(ks);
    }
    _exit(0);
}

static void test_writers(void)
{
    char *path = test_path("shared.ks");
    pid_t children[WRITERS];
    int running = WRITERS, status;
    uint8_t out[32];
    test_make_file(path);
    for (int w = 0; w < WRITERS; w++) {
        children[w] = fork();
        if (children[w] == 0)
            add_labels(path, w);
    }
    while (running > 0) {
        CU_ASSERT(test_file_is_good(path));
        for (int w = 0; w < WRITERS; w++) {
            if (children[w] != 0 && waitpid(children[w], &status, WNOHANG) == children[w]) {
                CU_ASSERT_EQUAL(status, 0);
                children[w] = 0;
                running--;
            }
        }
    }
    struct chv_keystore *ks = test_open(path, CHV_KEYSTORE_READ);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ks);
    for (int w = 0; w < WRITERS; w++) {
        for (int i = 0; i < ADDS; i++) {
            char label[32];
            (void)snprintf(label, sizeof label, "w%d.%d", w, i);
            CU_ASSERT_EQUAL(chv_keystore_derive(ks, label, out, 1, out, NULL), CHV_OK);
        }
    }
    chv_keystore_close(ks);
    CU_ASSERT_EQUAL(test_folder_count(), 1);
    free(path);
}

/* Two that create: one does, the other finds it there. */
static void test_creators(void)
{
    char *path = test_path("new.ks");
    int made = 0, there = 0, status;
    for (int w = 0; w < 4; w++) {
        if (fork() == 0) {
            struct chv_keystore_options options = {.mode = CHV_KEYSTORE_CREATE, .lock_seconds = 60, .scrypt_n = TEST_N};
            struct test_secret secret = {.text = TEST_PASSPHRASE};
            struct chv_keystore *ks = NULL;
            enum chv_err err = chv_keystore_open(path, &options, &ks, NULL);
            if (err == CHV_OK)
                err = chv_keystore_unlock(ks, test_secret, &secret, NULL);
            if (err == CHV_OK)
                err = chv_keystore_commit(ks, NULL);
            chv_keystore_close(ks);
            _exit(err == CHV_OK ? 0 : err == CHV_ERR_EXISTS ? 1 : 2);
        }
    }
    for (int w = 0; w < 4; w++) {
        CU_ASSERT(wait(&status) > 0);
        made += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        there += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    CU_ASSERT_EQUAL(made, 1);
    CU_ASSERT_EQUAL(there, 3);
    (void)unlink(path);
    CU_ASSERT_EQUAL(test_folder_count(), 1); /* shared.ks */
    free(path);
}

TEST_MAIN("keystore: writers at once", {"two writers, one reader", test_writers}, {"creators", test_creators})
