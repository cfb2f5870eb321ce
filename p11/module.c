/* SPDX-License-Identifier: Apache-2.0 */
#include "p11/module.h"

#include <openssl/err.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "p11/error.h"
#include "p11/token_private.h"

enum { PAUSE_FIRST = 500, PAUSE_MAX = 30000, QUIET = 60000, PATIENCE = 3000 }; /* milliseconds */

/* All modules of this process: a second C_Initialize of one is an error, and one C_Finalize ends them all. */
static pthread_mutex_t modules_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chv_p11_module *modules;

static uint64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static const char *path_or_default(const char *path)
{
    return path != NULL ? path : CHV_P11_DEFAULT_MODULE;
}

/* Also one that a parent process loaded.  The caller has modules_lock. */
static struct chv_p11_module *find_loaded(const char *path)
{
    for (struct chv_p11_module *m = modules; m != NULL; m = m->next)
        if (strcmp(m->path, path) == 0)
            return m;
    return NULL;
}

/* The same library by another name: dlopen gives one handle for one file.  The caller has modules_lock. */
static struct chv_p11_module *find_library(const void *library)
{
    for (struct chv_p11_module *m = modules; m != NULL; m = m->next)
        if (m->library == library)
            return m;
    return NULL;
}

/* CKF_OS_LOCKING_OK: without it two threads corrupt the heap of some modules. */
static enum chv_err initialise(struct chv_p11_module *m, struct chv_why *why)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK, .pReserved = m->init_args};
    CK_RV rv = m->fn->C_Initialize(&args);
    ERR_clear_error(); /* modules that use OpenSSL leave entries in the thread's queue */
    m->answer = rv;
    m->running = rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (rv == CKR_ARGUMENTS_BAD) /* NSS without a folder for its database */
        return chv_fail(why, CHV_ERR_CONFIG,
                        "%s: C_Initialize: CKR_ARGUMENTS_BAD (0x%lx): the module wants %s: in a URI chaveiro-init= has "
                        "them (see doc/tokens.md for NSS)",
                        m->path, rv, m->init_args == NULL ? "arguments of its own" : "other arguments");
    return m->running ? CHV_OK : chv_p11_fail(why, m->path, "C_Initialize", CHV_P11_NO_MECHANISM, rv);
}

static enum chv_err open_library(struct chv_p11_module *m, struct chv_why *why)
{
    CK_C_GetFunctionList get_list;
    if (m->path[0] == '/' && access(m->path, F_OK) != 0 && errno != ENOENT)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "PKCS #11 module %s: cannot be reached: %s: see that this user may enter its folders", m->path,
                        strerror(errno));
    if (m->path[0] == '/' && access(m->path, F_OK) != 0)
        return chv_fail(why, CHV_ERR_NOT_FOUND, "PKCS #11 module %s: is not there: install it or name another module",
                        m->path);
    m->library = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);
    if (m->library == NULL)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 module %s: cannot be loaded: %s", m->path, dlerror());
    void *symbol = dlsym(m->library, "C_GetFunctionList");
    if (symbol == NULL)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "PKCS #11 module %s: is a library, but no PKCS #11 module (it has no C_GetFunctionList)",
                        m->path);
    memcpy(&get_list, &symbol, sizeof get_list); /* POSIX: a symbol's address may be a function's */
    CK_RV rv = get_list(&m->fn);
    if (rv != CKR_OK)
        return chv_p11_fail(why, m->path, "C_GetFunctionList", CHV_P11_NO_MECHANISM, rv);
    if (m->fn == NULL || m->fn->version.major < 2)
        return chv_fail(why, CHV_ERR_CONFIG, "PKCS #11 module %s: does not offer PKCS #11 version 2 or 3", m->path);
    return CHV_OK;
}

static void destroy(struct chv_p11_module *m)
{
    bool ours = m->pid == getpid(); /* a child must not finalise what its parent uses */
    if (m->running && ours)
        (void)m->fn->C_Finalize(NULL);
    if (m->library != NULL && ours)
        (void)dlclose(m->library);
    ERR_clear_error();
    (void)pthread_cond_destroy(&m->changed);
    (void)pthread_mutex_destroy(&m->lock);
    free(m->path);
    free(m->init_args);
    free(m);
}

/* A module that is loaded.  What a parent process loaded has its logins too: a child may not have it. */
static enum chv_err share(struct chv_p11_module *m, const char *init_args, struct chv_p11_module **module,
                          struct chv_why *why)
{
    enum chv_err err = chv_p11_module_check_process(m, why);
    if (err != CHV_OK)
        return err;
    if (!same_text(m->init_args, init_args))
        return chv_fail(why, CHV_ERR_BUSY, "PKCS #11 module %s: is loaded already with other arguments", m->path);
    m->refs++;
    *module = m;
    return CHV_OK;
}

static enum chv_err load_new(const char *path, const char *init_args, struct chv_p11_module **module,
                             struct chv_why *why)
{
    struct chv_p11_module *m = calloc(1, sizeof *m);
    if (m == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "PKCS #11 module %s: out of memory", path);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&m->lock, NULL);
    (void)pthread_cond_init(&m->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    m->pid = getpid();
    m->path = strdup(path);
    m->init_args = init_args == NULL ? NULL : strdup(init_args);
    enum chv_err err = m->path == NULL || (init_args != NULL && m->init_args == NULL)
                           ? chv_fail(why, CHV_ERR_MEMORY, "PKCS #11 module %s: out of memory", path)
                           : open_library(m, why);
    struct chv_p11_module *same = err == CHV_OK ? find_library(m->library) : NULL;
    if (err == CHV_OK && same == NULL)
        err = initialise(m, why);
    if (err != CHV_OK || same != NULL) {
        destroy(m);
        return err != CHV_OK ? err : share(same, init_args, module, why);
    }
    m->refs = 1;
    m->next = modules;
    modules = m;
    *module = m;
    return CHV_OK;
}

enum chv_err chv_p11_module_load(const char *path, const char *init_args, struct chv_p11_module **module,
                                 struct chv_why *why)
{
    path = path_or_default(path);
    (void)pthread_mutex_lock(&modules_lock);
    struct chv_p11_module *m = find_loaded(path);
    enum chv_err err = m != NULL ? share(m, init_args, module, why) : load_new(path, init_args, module, why);
    (void)pthread_mutex_unlock(&modules_lock);
    return err;
}

void chv_p11_module_unload(struct chv_p11_module *module)
{
    if (module == NULL)
        return;
    (void)pthread_mutex_lock(&modules_lock);
    if (--module->refs == 0) {
        struct chv_p11_module **at = &modules;
        while (*at != module)
            at = &(*at)->next;
        *at = module->next;
        destroy(module);
    }
    (void)pthread_mutex_unlock(&modules_lock);
}

bool chv_p11_module_loaded(const char *path)
{
    (void)pthread_mutex_lock(&modules_lock);
    bool loaded = find_loaded(path_or_default(path)) != NULL;
    void *library = loaded ? NULL : dlopen(path_or_default(path), RTLD_LAZY | RTLD_NOLOAD);
    if (library != NULL) {
        loaded = find_library(library) != NULL;
        (void)dlclose(library);
    }
    (void)pthread_mutex_unlock(&modules_lock);
    return loaded;
}

enum chv_err chv_p11_module_check_process(const struct chv_p11_module *module, struct chv_why *why)
{
    if (module->pid == getpid())
        return CHV_OK;
    return chv_fail(why, CHV_ERR_STATE,
                    "PKCS #11 module %s: was loaded before a fork: open the token in the process "
                    "that uses it",
                    module->path);
}

enum chv_err chv_p11_module_enter(struct chv_p11_module *module, struct chv_why *why)
{
    enum chv_err err = chv_p11_module_check_process(module, why);
    if (err != CHV_OK)
        return err;
    (void)pthread_mutex_lock(&module->lock);
    while (module->exclusive)
        (void)pthread_cond_wait(&module->changed, &module->lock);
    if (module->running)
        module->inside++;
    else
        err = chv_p11_fail(why, module->path, "C_Initialize", CHV_P11_NO_MECHANISM, module->answer);
    (void)pthread_mutex_unlock(&module->lock);
    return err;
}

void chv_p11_module_leave(struct chv_p11_module *module)
{
    (void)pthread_mutex_lock(&module->lock);
    module->inside--;
    (void)pthread_cond_broadcast(&module->changed);
    (void)pthread_mutex_unlock(&module->lock);
}

/* The caller has the lock and is the only one: nobody is inside. */
static enum chv_err restart_alone(struct chv_p11_module *m, struct chv_why *why)
{
    for (struct chv_p11_token *t = m->tokens; t != NULL; t = t->next)
        chv_p11_token_reset(t);
    if (m->running)
        (void)m->fn->C_Finalize(NULL);
    m->running = false;
    enum chv_err err = initialise(m, why);
    uint64_t now = now_ms();
    bool quiet = m->restarts == 0 || now - m->restarted > QUIET;
    m->restart_pause = quiet ? PAUSE_FIRST : m->restart_pause * 2 < PAUSE_MAX ? m->restart_pause * 2 : PAUSE_MAX;
    m->restarted = now;
    m->restart_after = now + m->restart_pause;
    m->restarts++;
    return err;
}

/* Waits until nobody is inside; false if a call seems to hang.  The caller has the lock. */
static bool wait_alone(struct chv_p11_module *m)
{
    uint64_t until = now_ms() + PATIENCE;
    struct timespec ts = {(time_t)(until / 1000), (long)(until % 1000) * 1000000};
    int late = 0;
    while (m->inside > 0 && late == 0)
        late = pthread_cond_timedwait(&m->changed, &m->lock, &ts);
    return m->inside == 0;
}

enum chv_err chv_p11_module_restart(struct chv_p11_module *module, unsigned long seen, struct chv_why *why)
{
    enum chv_err err = chv_p11_module_check_process(module, why);
    if (err != CHV_OK)
        return err;
    (void)pthread_mutex_lock(&module->lock);
    while (module->exclusive)
        (void)pthread_cond_wait(&module->changed, &module->lock);
    uint64_t now = now_ms();
    if (module->restarts != seen) {
        err = CHV_OK; /* somebody else has just done it */
    } else if (now < module->restart_after) {
        err = chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: the next try to bring it back is in %llu ms", module->path,
                       (unsigned long long)(module->restart_after - now));
    } else {
        module->exclusive = true;
        if (wait_alone(module))
            err = restart_alone(module, why);
        else
            err = chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: a call to it hangs: it cannot be restarted", module->path);
        module->exclusive = false;
        (void)pthread_cond_broadcast(&module->changed);
    }
    (void)pthread_mutex_unlock(&module->lock);
    return err;
}
