/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tests/support/tokens.h"

#include "p11/module.h"
#include "p11/provision.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256];
static pid_t folder_owner;

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void test_remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_folder(void)
{
    if (folder_owner == getpid()) /* not in a child that leaves by exit() */
        test_remove_tree(folder);
}

const char *test_tokens_folder(void)
{
    if (folder[0] == '\0') {
        const char *tmp = getenv("TMPDIR");
        (void)snprintf(folder, sizeof folder, "%s/chaveiro-tokens-XXXXXX", tmp != NULL && tmp[0] ? tmp : "/tmp");
        if (mkdtemp(folder) == NULL)
            die(folder, "cannot be made");
        folder_owner = getpid();
        (void)atexit(remove_folder);
    }
    return folder;
}

char *test_format(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    return text;
}

char *test_tokens_path(const char *name)
{
    return test_format("%s/%s", test_tokens_folder(), name);
}

char *test_encode(const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    char *out = calloc(3 * strlen(text) + 1, 1), *at = out;
    if (out == NULL)
        abort();
    for (; *text != '\0'; text++) {
        if (strchr(plain, *text) != NULL)
            *at++ = *text;
        else
            at += snprintf(at, 4, "%%%02X", (unsigned char)*text);
    }
    return out;
}

void test_write_private(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0)
        die(path, "cannot be written");
}

void test_copy_tree(const char *from, const char *to)
{
    char cp[] = "cp", flag[] = "-a", *source = test_format("%s", from), *target = test_format("%s", to);
    char *const argv[] = {cp, flag, source, target, NULL};
    pid_t pid;
    int status = 0;
    if (posix_spawnp(&pid, "cp", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
        die(from, "cannot be copied");
    free(source);
    free(target);
}

static const char *first_file(const char *const *paths, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    return NULL;
}

const char *test_softhsm_module(void)
{
    static const char *const paths[] = {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so",
                                        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"};
    return first_file(paths, sizeof paths / sizeof paths[0]);
}

const char *test_nss_module(void)
{
    static const char *const paths[] = {"/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
                                        "/usr/lib/aarch64-linux-gnu/libsoftokn3.so", "/usr/lib64/libsoftokn3.so",
                                        "/usr/lib/libsoftokn3.so"};
    return first_file(paths, sizeof paths / sizeof paths[0]);
}

#ifdef __SANITIZE_ADDRESS__
/* Memory that the modules never give back is not ours to report. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libsoftokn3.so\nleak:libnssutil3.so\nleak:libsofthsm2.so\n";
}

/* Whole stacks, through libcrypto too, so that the modules are found in them. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}
#endif

bool test_may_leave_out(const char *package)
{
    const char *strict = getenv("CHV_NO_SKIP");
    (void)printf("left out: %s is not installed\n", package);
    return strict == NULL || strcmp(strict, "1") != 0;
}

static const char *need(const char *module, const char *package)
{
    if (module == NULL) {
        (void)printf("skipped: %s is not installed\n", package);
        exit(77);
    }
#ifdef __SANITIZE_ADDRESS__
    (void)dlopen(module, RTLD_NOW | RTLD_NODELETE); /* or its functions have no names when leaks are looked for */
#endif
    return module;
}

const char *test_softhsm_tokens(void)
{
    static char path[300];
    (void)snprintf(path, sizeof path, "%s/tokens", test_tokens_folder());
    return path;
}

void test_softhsm_setup(void)
{
    static bool done;
    need(test_softhsm_module(), "softhsm2");
    if (done)
        return;
    done = true;
    char *conf = test_tokens_path("softhsm2.conf");
    char *text = test_format("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n",
                             test_softhsm_tokens());
    if (mkdir(test_softhsm_tokens(), 0700) != 0)
        die(test_softhsm_tokens(), "cannot be made");
    test_write_private(conf, text);
    (void)setenv("SOFTHSM2_CONF", conf, 1);
    free(text);
    free(conf);
}

void test_softhsm_token(const char *label)
{
    struct chv_why why = {""};
    test_softhsm_setup();
    if (chv_p11_token_init(test_softhsm_module(), NULL, label, TEST_SO_PIN, TEST_PIN, &why) != CHV_OK)
        die(label, why.text);
}

char *test_softhsm_uri(const char *label, const char *object, const char *query)
{
    return test_format("pkcs11:token=%s%s%s?module-path=%s%s", label, object[0] != '\0' ? ";object=" : "", object,
                       need(test_softhsm_module(), "softhsm2"), query);
}

/* A fresh database has a user PIN of no characters: the security officer sets one. */
static void nss_set_pin(const char *init_args)
{
    struct chv_p11_module *m;
    struct chv_why why = {""};
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;
    CK_SESSION_HANDLE session;
    CK_UTF8CHAR pin[] = TEST_PIN, none[] = "";
    if (chv_p11_module_load(test_nss_module(), init_args, &m, &why) != CHV_OK)
        die("NSS", why.text);
    if (m->fn->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK || n < 2 ||
        m->fn->C_OpenSession(slots[1], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session) != CKR_OK ||
        m->fn->C_Login(session, CKU_SO, none, 0) != CKR_OK ||
        m->fn->C_InitPIN(session, pin, sizeof TEST_PIN - 1) != CKR_OK)
        die("NSS", "cannot set a PIN");
    (void)m->fn->C_Logout(session);
    (void)m->fn->C_CloseSession(session);
    chv_p11_module_unload(m);
}

char *test_nss_uri(const char *object, const char *query)
{
    static char *encoded;
    const char *module = need(test_nss_module(), "libnss3");
    if (encoded == NULL) {
        char *db = test_tokens_path("nss");
        char *args = test_format("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", db);
        if (mkdir(db, 0700) != 0)
            die(db, "cannot be made");
        nss_set_pin(args);
        encoded = test_encode(args);
        free(args);
        free(db);
    }
    return test_format("pkcs11:token=NSS%%20Certificate%%20DB%s%s?module-path=%s&chaveiro-init=%s%s",
                       object[0] != '\0' ? ";object=" : "", object, module, encoded, query);
}
