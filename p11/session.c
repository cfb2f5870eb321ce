/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of a token's sessions, and the way back when one, or the token, is lost. */
#include "p11/observe.h"
#include "p11/token_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_SECONDS = 5 }; /* for a session that another thread has */

enum chv_err chv_p11_session_fail(const struct chv_p11_session *s, struct chv_why *why)
{
    return chv_p11_fail(why, s->where, s->call, s->mechanism, s->rv);
}

enum chv_err chv_p11_session_missing(struct chv_p11_session *s, const char *what, struct chv_why *why)
{
    s->rv = CKR_OBJECT_HANDLE_INVALID;
    return chv_fail(why, CHV_ERR_NOT_FOUND, "%s: %s was there and is gone: was the token moved or initialised again?",
                    s->where, what);
}

void chv_p11_session_drop_idle(struct chv_p11_token *token)
{
    while (token->idle != NULL) {
        struct chv_p11_session *s = token->idle;
        token->idle = s->next;
        if (token->module->running && token->module->pid == getpid())
            (void)s->fn->C_CloseSession(s->handle);
        free(s);
        token->open--;
    }
    token->generation++;
    token->pool++;
}

/* The slot may have another number after a restart of the module. */
static enum chv_err find_slot(struct chv_p11_token *t, CK_SLOT_ID *slot, CK_RV *rv, struct chv_why *why)
{
    CK_TOKEN_INFO info;
    (void)pthread_mutex_lock(&t->module->lock);
    bool located = t->located;
    *slot = t->slot;
    (void)pthread_mutex_unlock(&t->module->lock);
    if (located)
        return CHV_OK;
    enum chv_err err = chv_p11_token_locate(&t->uri, t->module, slot, &info, rv, why);
    if (err != CHV_OK)
        return err == CHV_ERR_NOT_FOUND ? CHV_ERR_UNAVAILABLE : err; /* it was there before */
    (void)pthread_mutex_lock(&t->module->lock);
    t->slot = *slot;
    t->located = true;
    (void)pthread_mutex_unlock(&t->module->lock);
    return CHV_OK;
}

static enum chv_err connect_session(struct chv_p11_session *s, bool login, CK_RV *rv, struct chv_why *why)
{
    struct chv_p11_token *t = s->token;
    CK_SLOT_ID slot;
    enum chv_err err = find_slot(t, &slot, rv, why);
    if (err != CHV_OK)
        return err;
    *rv = s->fn->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s->handle);
    if (*rv == CKR_TOKEN_WRITE_PROTECTED)
        *rv = s->fn->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &s->handle);
    if (*rv != CKR_OK)
        return chv_p11_fail(why, t->name, "C_OpenSession", CHV_P11_NO_MECHANISM, *rv);
    (void)pthread_mutex_lock(&t->module->lock);
    bool wanted = login && t->wanted;
    (void)pthread_mutex_unlock(&t->module->lock);
    if (wanted)
        err = chv_p11_token_authenticate(t, s->handle, NULL, NULL, true, rv, why);
    if (err != CHV_OK)
        (void)s->fn->C_CloseSession(s->handle);
    return err;
}

/* Until a session may be taken; false if none was given back in time.  The caller has module->lock. */
static bool wait_for_room(struct chv_p11_token *t)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_SECONDS;
    while (t->module->exclusive || (t->idle == NULL && t->open >= t->limit))
        if (pthread_cond_timedwait(&t->module->changed, &t->module->lock, &until) == ETIMEDOUT)
            return !t->module->exclusive && (t->idle != NULL || t->open < t->limit);
    return true;
}

/* A session from the pool, or an empty one to be connected. */
static enum chv_err reserve(struct chv_p11_token *t, struct chv_p11_session **session, bool *fresh, struct chv_why *why)
{
    struct chv_p11_module *m = t->module;
    struct chv_p11_session *s = NULL;
    (void)pthread_mutex_lock(&m->lock);
    if (!wait_for_room(t)) {
        if (m->exclusive)
            (void)chv_fail(why, CHV_ERR_UNAVAILABLE, "%s: its module has been restarting for %d s", t->name,
                           WAIT_SECONDS);
        else
            (void)chv_fail(why, CHV_ERR_UNAVAILABLE,
                           "%s: no session was free for %d s (it has %u): a call hangs, or the token is too slow",
                           t->name, WAIT_SECONDS, t->limit);
        (void)pthread_mutex_unlock(&m->lock);
        return CHV_ERR_UNAVAILABLE;
    }
    *fresh = t->idle == NULL;
    if (!*fresh) {
        s = t->idle;
        t->idle = s->next;
    } else {
        s = calloc(1, sizeof *s);
        if (s != NULL) {
            *s = (struct chv_p11_session){.fn = m->fn, .token = t, .where = t->name, .pool = t->pool};
            t->open++;
        }
    }
    if (s != NULL) {
        m->inside++;
        s->next = NULL;
        s->generation = t->generation;
        s->call = "";
        s->rv = CKR_OK;
        s->mechanism = CHV_P11_NO_MECHANISM;
    }
    (void)pthread_mutex_unlock(&m->lock);
    *session = s;
    return s != NULL ? CHV_OK : chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", t->name);
}

/* Gives back what reserve took.  True: the token has no session more, but others of ours are out: wait for one. */
static bool unreserve(struct chv_p11_session *s, CK_RV rv)
{
    struct chv_p11_token *t = s->token;
    (void)pthread_mutex_lock(&t->module->lock);
    t->open--;
    t->module->inside--;
    bool full = rv == CKR_SESSION_COUNT && t->open > 0;
    if (full && t->limit > t->open)
        t->limit = t->open;
    (void)pthread_cond_broadcast(&t->module->changed);
    (void)pthread_mutex_unlock(&t->module->lock);
    free(s);
    return full;
}

enum chv_err chv_p11_session_take_rv(struct chv_p11_token *token, bool login, struct chv_p11_session **session,
                                     CK_RV *rv, struct chv_why *why)
{
    struct chv_p11_session *s = NULL;
    *rv = CKR_OK;
    enum chv_err err = chv_p11_module_check_process(token->module, why);
    while (err == CHV_OK) {
        bool fresh = false;
        err = reserve(token, &s, &fresh, why);
        if (err != CHV_OK)
            break;
        if (fresh && !token->module->running) {
            err = chv_p11_fail(why, token->name, "C_Initialize", CHV_P11_NO_MECHANISM, token->module->answer);
            *rv = CKR_CRYPTOKI_NOT_INITIALIZED; /* so that it is tried again */
        } else if (fresh) {
            err = connect_session(s, login, rv, why);
        }
        if (err == CHV_OK) {
            *session = s;
            return CHV_OK;
        }
        if (unreserve(s, *rv))
            err = CHV_OK;
    }
    return err;
}

enum chv_err chv_p11_session_take(struct chv_p11_token *token, struct chv_p11_session **session, struct chv_why *why)
{
    CK_RV rv;
    return chv_p11_session_take_rv(token, true, session, &rv, why);
}

/*
 * Another session in the place of one with an operation that nobody will end.  It is opened first: with the last session
 * the login would go.  The caller has module->lock.
 */
static bool replace(struct chv_p11_session *s)
{
    struct chv_p11_token *t = s->token;
    CK_SESSION_HANDLE fresh;
    if (t->open >= t->limit ||
        s->fn->C_OpenSession(t->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &fresh) != CKR_OK)
        return false;
    (void)s->fn->C_CloseSession(s->handle);
    s->handle = fresh;
    return true;
}

/*
 * One session was closed, and the session objects made in it are gone; which those were nobody knows, and a token may give
 * their handles to others.  So all count as gone.  The idle sessions stay open, for the login's sake.  The caller has
 * module->lock.
 */
static void renumber(struct chv_p11_token *t)
{
    t->generation++;
    t->pool++;
    for (struct chv_p11_session *s = t->idle; s != NULL; s = s->next)
        s->pool = t->pool;
}

void chv_p11_session_give(struct chv_p11_session *session)
{
    struct chv_p11_token *t = session->token;
    (void)pthread_mutex_lock(&t->module->lock);
    bool ours = session->pool == t->pool, dead = chv_p11_rv_session_dead(session->rv);
    bool keep = ours && (!dead || (session->rv == CKR_OPERATION_ACTIVE && replace(session)));
    if (keep) {
        session->next = t->idle;
        t->idle = session;
    } else {
        /* what killed this one has most likely killed those that lie idle */
        if (ours && session->rv != CKR_OPERATION_ACTIVE)
            chv_p11_session_drop_idle(t);
        (void)session->fn->C_CloseSession(session->handle);
        free(session);
        t->open--;
    }
    if (ours && dead)
        renumber(t);
    t->module->inside--;
    (void)pthread_cond_broadcast(&t->module->changed);
    (void)pthread_mutex_unlock(&t->module->lock);
}

/*
 * Whether a restart of the module may cost more than it gives: without a PIN file it loses a login that only a person
 * can make again, so it is done only when the token itself does not answer.
 */
static bool restart_pays(struct chv_p11_token *t)
{
    CK_TOKEN_INFO info;
    (void)pthread_mutex_lock(&t->module->lock);
    bool free_of_charge = t->uri.pin_file != NULL || !t->wanted || !t->logged_in;
    CK_SLOT_ID slot = t->slot;
    (void)pthread_mutex_unlock(&t->module->lock);
    if (free_of_charge || chv_p11_module_enter(t->module, NULL) != CHV_OK)
        return true;
    CK_RV rv = t->module->fn->C_GetTokenInfo(slot, &info);
    chv_p11_module_leave(t->module);
    return rv != CKR_OK;
}

/* One try: the answer of the token in *rv, CKR_OK if all went well. */
static enum chv_err try_work(struct chv_p11_token *token, chv_p11_work_fn work, void *arg, CK_RV *rv,
                             struct chv_why *why)
{
    struct chv_p11_session *s;
    enum chv_err err = chv_p11_session_take_rv(token, true, &s, rv, why);
    if (err != CHV_OK)
        return err;
    err = work(s, arg, why);
    *rv = s->rv;
    if (err == CHV_OK)
        s->rv = CKR_OK; /* whatever went wrong on the way did not matter */
    chv_p11_session_give(s);
    return err;
}

static chv_p11_step_fn observer;

void chv_p11_observe(chv_p11_step_fn step)
{
    observer = step;
}

void chv_p11_tell(const char *where, const char *text)
{
    char line[1024];
    if (observer == NULL)
        return;
    (void)snprintf(line, sizeof line, "%s: %s", where, text);
    observer(line);
}

static void tell(const struct chv_p11_token *token, const char *what, const char *detail)
{
    char text[128];
    (void)snprintf(text, sizeof text, "%s%s", what, detail);
    chv_p11_tell(token->name, text);
}

enum chv_err chv_p11_token_run(struct chv_p11_token *token, chv_p11_work_fn work, void *arg, struct chv_why *why)
{
    struct chv_p11_module *m = token->module;
    unsigned tries = 0;
    for (bool restarted = false;;) {
        CK_RV rv;
        (void)pthread_mutex_lock(&m->lock);
        unsigned long restarts = m->restarts;
        (void)pthread_mutex_unlock(&m->lock);
        enum chv_err err = try_work(token, work, arg, &rv, why);
        if (err == CHV_OK && (tries > 0 || restarted))
            tell(token, "is back", restarted ? ", after a restart of the module" : ", by another session");
        if (err == CHV_OK || !chv_p11_rv_lost(rv) || restarted)
            return err;
        (void)pthread_mutex_lock(&m->lock);
        token->generation++; /* whatever it was, handles are found again */
        (void)pthread_mutex_unlock(&m->lock);
        /* first another session and login (an operation left open by the failure may cost one more), then a restart */
        if (tries == 0 || (tries == 1 && rv == CKR_OPERATION_ACTIVE)) {
            tries++;
            tell(token, "another session and login are tried after ", chv_p11_rv_name(rv));
            continue;
        }
        if (!restart_pays(token) || chv_p11_module_restart(m, restarts, NULL) != CHV_OK)
            return err;
        tell(token, "the module was restarted after ", chv_p11_rv_name(rv));
        restarted = true;
    }
}
