/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PKCS #11 module in this process: loaded once however many use it, and initialised for threads.
 *
 * Load after the last fork, in the process that uses it: handles and locks do not survive fork.  A child's calls on
 * what its parent loaded are CHV_ERR_STATE, and its close leaves the parent's token alone.
 *
 * Every Cryptoki call of the layers above runs between a session's take and give (token.h): the module counts them, so
 * that nobody is inside when it is finalised and initialised again.  All functions may be called by any thread.
 */
#ifndef CHV_P11_MODULE_H
#define CHV_P11_MODULE_H

#include "p11/pkcs11_extra.h"

#include <chaveiro/error.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The module of p11-kit, which offers all that the host has configured. */
#define CHV_P11_DEFAULT_MODULE "p11-kit-proxy.so"

struct chv_p11_token;

struct chv_p11_module {
    char *path;
    char *init_args; /* NULL if none */
    void *library;
    CK_FUNCTION_LIST *fn;
    pid_t pid; /* who loaded it */
    unsigned refs;
    struct chv_p11_module *next;
    struct chv_p11_token *tokens; /* open ones, each once */

    /* Below: under `lock`.  Tokens use it for their pools too. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside; /* sessions taken and not given back */
    bool exclusive;  /* somebody restarts it: nobody else enters */
    bool running;    /* C_Initialize succeeded ... */
    CK_RV answer;    /* ... or what it said */
    unsigned long restarts;
    uint64_t restart_after; /* monotonic milliseconds */
    uint64_t restarted;     /* the same: when it was last done */
    unsigned restart_pause; /* milliseconds between two; doubles up to 30 s, starts anew after a quiet minute */
};

/*
 * Loads `path` (CHV_P11_DEFAULT_MODULE if NULL), or takes the one that is loaded already, also by another name of the
 * same file.  CHV_ERR_NOT_FOUND for a file that is not there, CHV_ERR_CONFIG for one that is no PKCS #11 module,
 * CHV_ERR_BUSY if it is loaded with other `init_args`, CHV_ERR_STATE if a parent of this process has loaded it.
 */
enum chv_err chv_p11_module_load(const char *path, const char *init_args, struct chv_p11_module **module,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* The last one finalises and unloads.  NULL is allowed. */
void chv_p11_module_unload(struct chv_p11_module *module);
/* Whether anybody in this process, or one that it is a fork of, has that module, by whatever name. */
bool chv_p11_module_loaded(const char *path);

/* CHV_ERR_STATE in a child of the process that loaded it. */
enum chv_err chv_p11_module_check_process(const struct chv_p11_module *module, struct chv_why *why) CHV_MUST_CHECK;

/*
 * C_Finalize, C_Initialize; all sessions, logins and handles are gone then (the tokens are told).  The caller must be
 * outside.  Does nothing if the module was restarted since `seen` restarts.  CHV_ERR_UNAVAILABLE when it is too early
 * for another try.
 */
enum chv_err chv_p11_module_restart(struct chv_p11_module *module, unsigned long seen,
                                    struct chv_why *why) CHV_MUST_CHECK;

/*
 * Every use of the module stands between these two (a session's take and give do it): enter waits while somebody
 * restarts the module.  CHV_ERR_UNAVAILABLE if it is not initialised (a restart failed).
 */
enum chv_err chv_p11_module_enter(struct chv_p11_module *module, struct chv_why *why) CHV_MUST_CHECK;
void chv_p11_module_leave(struct chv_p11_module *module);

#endif
