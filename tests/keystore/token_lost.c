/* SPDX-License-Identifier: Apache-2.0 */
/* What befalls real tokens: moved, unreadable, initialised again, another PIN, doubles, crowds.  Service comes back by itself. */
#include <config.h>

#include "tests/keystore/support.h"
#include "tests/support/tokens.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "p11/provision.h"

static const uint8_t secret[CHV_SECRET_LEN] = "one more secret of 32 bytes ....";

static enum chv_err derive(struct chv_keystore *ks, struct chv_why *why)
{
    uint8_t out[32];
    return chv_keystore_derive(ks, "access", secret, 5, out, why);
}

/* Restarts of the module are rate-limited, so it may take a while. */
static bool back(struct chv_keystore *ks)
{
    struct chv_why why = {""};
    for (unsigned i = 0; i < 2000; i++) {
        if (derive(ks, &why) == CHV_OK)
            return true;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    (void)fprintf(stderr, "not back: %s\n", why.text);
    return false;
}

/* A token of its own for a test, its keystore with "access", and a PIN file. */
struct rig {
    char *pin_file;
    char *uri;
    struct chv_keystore *ks;
};

static struct rig make_rig_with(const char *label, const char *option)
{
    struct rig rig = {.ks = NULL};
    test_softhsm_token(label);
    rig.pin_file = test_format("%s/%s.pin", test_tokens_folder(), label);
    test_write_private(rig.pin_file, TEST_PIN "\n");
    char *query = test_format("&pin-source=file:%s%s", rig.pin_file, option);
    rig.uri = test_softhsm_uri(label, "", query);
    free(query);
    rig.ks = test_open(rig.uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.ks);
    CU_ASSERT_EQUAL_FATAL(chv_keystore_import(rig.ks, "access", secret, NULL), CHV_OK);
    CU_ASSERT_EQUAL(derive(rig.ks, NULL), CHV_OK);
    return rig;
}

static struct rig make_rig(const char *label)
{
    return make_rig_with(label, "");
}

static void drop_rig(struct rig *rig)
{
    chv_keystore_close(rig->ks);
    free(rig->uri);
    free(rig->pin_file);
}

static void token_tool(const char *what, const char *label, const char *old_pin, const char *new_pin)
{
    const char *top = getenv("top_builddir");
    char *path = test_format("%s/tests/p11/token_tool", top != NULL ? top : ".");
    CU_ASSERT_PTR_NOT_NULL_FATAL(path);
    const char *args[] = {path, what, test_softhsm_module(), label, old_pin, new_pin, NULL};
    char *argv[7] = {NULL};
    pid_t pid;
    int status = -1;
    for (size_t i = 0; i < 6 && args[i] != NULL; i++)
        argv[i] = test_format("%s", args[i]);
    CU_ASSERT_EQUAL_FATAL(posix_spawn(&pid, path, NULL, NULL, argv, environ), 0);
    CU_ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
    for (size_t i = 0; i < 6; i++)
        free(argv[i]);
    free(path);
}

static void test_folder_deleted(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig("deleted");
    char *copy = test_tokens_path("copy");
    test_copy_tree(test_softhsm_tokens(), copy);
    test_remove_tree(test_softhsm_tokens());
    for (unsigned i = 0; i < 5; i++) {
        enum chv_err err = derive(rig.ks, &why);
        CU_ASSERT(err != CHV_OK);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "libsofthsm2.so"));
    }
    test_copy_tree(copy, test_softhsm_tokens());
    CU_ASSERT(back(rig.ks));
    test_remove_tree(copy);
    free(copy);
    drop_rig(&rig);
}

/* A copy in the session could serve for ever: the original is looked at, and what was there comes back. */
static void test_copy_follows(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig_with("copied", "&chaveiro-session-copy=yes");
    char *other = test_tokens_path("elsewhere");
    bool served = true;
    CU_ASSERT_EQUAL(rename(test_softhsm_tokens(), other), 0);
    for (unsigned i = 0; i < 2000 && served; i++) {
        served = derive(rig.ks, &why) == CHV_OK;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    CU_ASSERT(!served && why.text[0] != '\0');
    CU_ASSERT_EQUAL(rename(other, test_softhsm_tokens()), 0);
    CU_ASSERT(back(rig.ks));
    free(other);
    drop_rig(&rig);
}

/* Moved away under its name: what a folder without permission is to somebody who is not root. */
static void test_folder_away(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig("away");
    char *other = test_tokens_path("elsewhere");
    bool root = geteuid() == 0;
    CU_ASSERT_EQUAL(root ? rename(test_softhsm_tokens(), other) : chmod(test_softhsm_tokens(), 0), 0);
    CU_ASSERT(derive(rig.ks, &why) != CHV_OK);
    CU_ASSERT(why.text[0] != '\0');
    CU_ASSERT_EQUAL(root ? rename(other, test_softhsm_tokens()) : chmod(test_softhsm_tokens(), 0700), 0);
    CU_ASSERT(back(rig.ks));
    free(other);
    drop_rig(&rig);
}

static void test_initialised_again(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig("again");
    token_tool("reinit", "again", NULL, NULL);
    CU_ASSERT_EQUAL(derive(rig.ks, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "key 'access' was there and is gone"));
    struct chv_keystore *other = NULL;
    for (unsigned i = 0; i < 2000 && other == NULL; i++) { /* the key comes back by another's hand */
        struct chv_keystore_options options = {.mode = CHV_KEYSTORE_WRITE};
        CU_ASSERT_EQUAL_FATAL(chv_keystore_open(rig.uri, &options, &other, NULL), CHV_OK);
        if (chv_keystore_unlock(other, test_secret, NULL, &why) != CHV_OK ||
            chv_keystore_import(other, "access", secret, &why) != CHV_OK) {
            chv_keystore_close(other);
            other = NULL;
            (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        }
    }
    CU_ASSERT_PTR_NOT_NULL(other);
    CU_ASSERT(back(rig.ks));
    chv_keystore_close(other);
    drop_rig(&rig);
}

/* The login lives on; when it is needed again the old PIN is tried once, then the file must change. */
static void test_pin_changed(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig("newpin");
    token_tool("setpin", "newpin", TEST_PIN, "another horse");
    CU_ASSERT_EQUAL(derive(rig.ks, &why), CHV_OK);
    chv_keystore_close(rig.ks);
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    CU_ASSERT_EQUAL_FATAL(chv_keystore_open(rig.uri, &options, &rig.ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_unlock(rig.ks, test_secret, NULL, &why), CHV_ERR_PASSPHRASE);
    test_write_private(rig.pin_file, "another horse\n");
    CU_ASSERT_EQUAL(chv_keystore_unlock(rig.ks, test_secret, NULL, &why), CHV_OK);
    CU_ASSERT_EQUAL(derive(rig.ks, NULL), CHV_OK);
    drop_rig(&rig);
}

static enum chv_err open_only(const char *uri, struct chv_why *why)
{
    struct chv_keystore_options options = {.mode = CHV_KEYSTORE_READ};
    struct chv_keystore *ks = NULL;
    why->text[0] = '\0';
    enum chv_err err = chv_keystore_open(uri, &options, &ks, why);
    chv_keystore_close(ks);
    return err;
}

struct serials {
    char text[2][17];
    unsigned n;
};

static enum chv_err note_serial(void *arg, const struct chv_p11_token_info *info)
{
    struct serials *s = arg;
    if (strncmp(info->label, "twin", 4) == 0 && s->n < 2)
        (void)snprintf(s->text[s->n++], 17, "%s", info->serial);
    return CHV_OK;
}

/* Two tokens of one label: named with their serials, and a serial chooses. */
static void test_twins(void)
{
    struct chv_why why = {""};
    struct serials serials = {.n = 0};
    test_softhsm_token("twin1");
    test_softhsm_token("twin2");
    CU_ASSERT_EQUAL(chv_p11_token_init(test_softhsm_module(), NULL, "twin1", TEST_SO_PIN, TEST_PIN, &why),
                    CHV_ERR_EXISTS);
    CU_ASSERT_EQUAL(chv_p11_token_list(test_softhsm_module(), NULL, note_serial, &serials, &why), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(serials.n, 2);
    token_tool("relabel", "twin2", "twin1", NULL);
    char *uri = test_softhsm_uri("twin1", "", "");
    CU_ASSERT_EQUAL(open_only(uri, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "2 tokens match"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "add ;serial="));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, serials.text[0]));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, serials.text[1]));
    free(uri);
    uri = test_format("pkcs11:token=twin1;serial=%s?module-path=%s", serials.text[1], test_softhsm_module());
    CU_ASSERT_EQUAL(open_only(uri, &why), CHV_OK);
    free(uri);
    uri = test_softhsm_uri("nobody", "", "");
    CU_ASSERT_EQUAL(open_only(uri, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "token=nobody"));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keyadmin token init"));
    free(uri);
}

static void test_modules(void)
{
    struct chv_why why = {""};
    static const struct {
        const char *path;
        enum chv_err err;
        const char *says;
    } cases[] = {
        {"/nowhere/module.so", CHV_ERR_NOT_FOUND, "is not there"},
        {"/etc/passwd", CHV_ERR_CONFIG, "cannot be loaded"},
        {"/dev/null", CHV_ERR_CONFIG, "cannot be loaded"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *uri = test_format("pkcs11:token=x?module-path=%s", cases[i].path);
        CU_ASSERT_EQUAL(open_only(uri, &why), cases[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].path));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].says));
        free(uri);
    }
    /* a library that is no module: one that this program surely has */
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], *path = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(maps);
    while (path == NULL && fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "/libc.so.6") != NULL)
            path = strchr(line, '/');
    CU_ASSERT_PTR_NOT_NULL_FATAL(path);
    path[strcspn(path, "\n")] = '\0';
    char *uri = test_format("pkcs11:token=x?module-path=%s", path);
    CU_ASSERT_EQUAL(open_only(uri, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "no PKCS #11 module"));
    free(uri);
    (void)fclose(maps);
}

/* The one object of SoftHSM's files that is not "access"'s. */
static char *object_file(const char *label)
{
    char *found = NULL;
    DIR *tokens = opendir(test_softhsm_tokens());
    for (const struct dirent *t = readdir(tokens); t != NULL && found == NULL; t = readdir(tokens)) {
        char *path = test_format("%s/%s", test_softhsm_tokens(), t->d_name);
        DIR *dir = t->d_name[0] == '.' ? NULL : opendir(path);
        for (const struct dirent *o = dir == NULL ? NULL : readdir(dir); o != NULL && found == NULL; o = readdir(dir)) {
            if (strstr(o->d_name, ".object") == NULL || strcmp(o->d_name, "token.object") == 0)
                continue;
            char *file = test_format("%s/%s", path, o->d_name);
            struct test_bytes bytes = test_read(file);
            if (memmem(bytes.ptr, bytes.len, label, strlen(label)) != NULL)
                found = file;
            else
                free(file);
            free(bytes.ptr);
        }
        if (dir != NULL)
            (void)closedir(dir);
        free(path);
    }
    (void)closedir(tokens);
    return found;
}

static enum chv_err make_stranger(struct chv_p11_session *s, void *arg, struct chv_why *why)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    char label[] = "somebody else's";
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class},
                        {CKA_TOKEN, &yes, sizeof yes},
                        {CKA_PRIVATE, &no, sizeof no}, /* in clear, so that its file is found */
                        {CKA_LABEL, label, sizeof label - 1},
                        {CKA_VALUE, arg, 4}};
    return chv_p11_call(s, C_CreateObject, t, 5, &object) == CKR_OK ? CHV_OK : chv_p11_session_fail(s, why);
}

static enum chv_err count_key(void *arg, const struct chv_key_info *info)
{
    (void)info;
    ++*(unsigned *)arg;
    return CHV_OK;
}

/* 10 000 objects of other people in the token: found past, and asked for once only. */
static void test_crowd(void)
{
    enum { CROWD = 10000 };
    struct rig rig = make_rig("crowd");
    struct chv_p11_uri uri;
    struct chv_p11_token *token = NULL;
    char value[] = "data";
    unsigned n = 0;
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(rig.uri, &uri, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_open(&uri, &token, NULL), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(chv_p11_token_run(token, make_stranger, value, NULL), CHV_OK);
    chv_p11_token_close(token);
    chv_p11_uri_free(&uri);
    chv_keystore_close(rig.ks);
    char *one = object_file("somebody else's");
    CU_ASSERT_PTR_NOT_NULL_FATAL(one);
    struct test_bytes bytes = test_read(one);
    for (unsigned i = 0; i < CROWD; i++) { /* the object 10 000 times, by its file: the module would take minutes */
        char *copy = test_format("%.*s/00000000-0000-0000-0000-%012u.object", (int)(strrchr(one, '/') - one), one, i);
        test_write(copy, bytes.ptr, bytes.len);
        free(copy);
    }
    free(bytes.ptr);
    free(one);
    rig.ks = test_open(rig.uri, CHV_KEYSTORE_WRITE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.ks);
    for (unsigned i = 0; i < 1000; i++)
        CU_ASSERT_EQUAL(derive(rig.ks, NULL), CHV_OK);
    CU_ASSERT_EQUAL(chv_keystore_list(rig.ks, count_key, &n, NULL), CHV_OK);
    CU_ASSERT_EQUAL(n, 1);
    drop_rig(&rig);
}

/* A child of the process that opened the token may neither use it nor end it. */
static void test_fork(void)
{
    struct chv_why why = {""};
    struct rig rig = make_rig("forked");
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        enum chv_err err = derive(rig.ks, &why);
        chv_keystore_close(rig.ks);
        _exit(err == CHV_ERR_STATE && strstr(why.text, "before a fork") != NULL ? 0 : 1);
    }
    CU_ASSERT(waitpid(pid, &status, 0) == pid && status == 0);
    CU_ASSERT_EQUAL(derive(rig.ks, &why), CHV_OK);
    drop_rig(&rig);
}

TEST_MAIN("keystore: token, lost and found", {"two tokens", test_twins}, {"modules that are none", test_modules},
          {"folder deleted", test_folder_deleted}, {"folder away", test_folder_away},
          {"a copy follows", test_copy_follows}, {"initialised again", test_initialised_again},
          {"PIN changed", test_pin_changed}, {"fork", test_fork}, {"10 000 strangers", test_crowd})
