/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One token: found by URI, logged in to, with a bounded pool of sessions, and brought back when it was lost.
 *
 * Work is a function given to chv_p11_token_run, which lends it a session.  When the answer says that the session, the
 * login or the token is gone, run opens another session, logs in, and at last restarts the module (rate-limited),
 * and calls the function again, four times in all; so the function must be one that may be repeated from its start.
 * Object handles are void when session->generation is another one than when they were found.
 *
 * The PIN is asked for, used, wiped.  To log in again a PIN file (pin-source) is read again; without one the token
 * stays locked until chv_p11_token_login.  A PIN that was wrong is not tried again: not before the PIN file has changed
 * or chv_p11_token_login is called.
 *
 * Openers of one token in one process share it, and its login; the pin-source is that of the last one who named one.
 * All functions may be called by any thread, but a thread that has a
 * session calls none that takes a token until it has given it back: it could wait for itself.
 */
#ifndef CHV_P11_TOKEN_H
#define CHV_P11_TOKEN_H

#include "p11/error.h"
#include "p11/uri.h"

#include <chaveiro/keystore.h>

#include <stdbool.h>

enum { CHV_P11_POOL_MAX = 16 }; /* sessions at most; fewer where the token says so, 1 is enough */

struct chv_p11_token;

/* As C_GetTokenInfo says it, without padding. */
struct chv_p11_token_info {
    char label[33], manufacturer[33], model[17], serial[17];
    CK_SLOT_ID slot;
    CK_FLAGS flags;
    CK_ULONG max_sessions; /* CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION or the number */
    CK_ULONG pin_min, pin_max;
};

/*
 * A session that one caller has.  It belongs to the token and stays open when given back, and so do the session objects
 * made in it, which every other session of the token sees; they live until `pool` changes.
 */
struct chv_p11_session {
    CK_FUNCTION_LIST *fn;
    CK_SESSION_HANDLE handle;
    unsigned long generation;
    const char *where;           /* token and module, for chv_p11_fail */
    const char *call;            /* the last call, */
    CK_RV rv;                    /* its answer, */
    CK_MECHANISM_TYPE mechanism; /* and what it was for; CHV_P11_NO_MECHANISM */
    struct chv_p11_token *token;
    unsigned long pool; /* another number: all older sessions are closed, and their session objects gone */
    /* the pool's own */
    struct chv_p11_session *next;
};

/* Cryptoki by a session: the call and its answer are kept for chv_p11_session_fail.  The value is the answer. */
#define chv_p11_call(s, name, ...)                                                                                     \
    ((s)->mechanism = CHV_P11_NO_MECHANISM, (s)->call = #name, (s)->rv = (s)->fn->name((s)->handle, __VA_ARGS__))
/* The same with the mechanism that it is about. */
#define chv_p11_call_for(s, type, name, ...)                                                                           \
    ((s)->mechanism = (type), (s)->call = #name, (s)->rv = (s)->fn->name((s)->handle, __VA_ARGS__))

/* The error of the last call. */
enum chv_err chv_p11_session_fail(const struct chv_p11_session *s, struct chv_why *why);
/*
 * For a thing that was there before and is not now: run takes it as a lost token.  Sets `why` and returns
 * CHV_ERR_NOT_FOUND.
 */
enum chv_err chv_p11_session_missing(struct chv_p11_session *s, const char *what, struct chv_why *why);

/* Loads the URI's module (CHV_P11_DEFAULT_MODULE if it names none), finds exactly one token; no session yet. */
enum chv_err chv_p11_token_open(const struct chv_p11_uri *uri, struct chv_p11_token **token,
                                struct chv_why *why) CHV_MUST_CHECK;
/* NULL is allowed.  Handles and session objects of this opener must have been destroyed before. */
void chv_p11_token_close(struct chv_p11_token *token);

/*
 * Logs in as the user, with the PIN file of the URI if it has one, else by `secret` (may be NULL then).  One try, none
 * when the token says that the PIN is locked, or that the next wrong one locks it and the URI does not say
 * chaveiro-final-try=yes.  CHV_ERR_PASSPHRASE for a wrong or locked PIN.  A no-op for one that is logged in to.
 */
enum chv_err chv_p11_token_login(struct chv_p11_token *token, chv_secret_fn secret, void *arg,
                                 struct chv_why *why) CHV_MUST_CHECK;
/* False before login, and again after the login was lost and could not be made anew without a PIN. */
bool chv_p11_token_logged_in(struct chv_p11_token *token);

/* One line: label, serial, module.  Lives as long as the token. */
const char *chv_p11_token_name(const struct chv_p11_token *token);
/* Fresh from the token. */
enum chv_err chv_p11_token_info(struct chv_p11_token *token, struct chv_p11_token_info *info,
                                struct chv_why *why) CHV_MUST_CHECK;
/* CHV_ERR_UNSUPPORTED, naming the mechanism, if the token lacks it or one of the CKF_ bits of `flags`. `info` may be
 * NULL. */
enum chv_err chv_p11_token_mechanism(struct chv_p11_token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags,
                                     CK_MECHANISM_INFO *info, struct chv_why *why) CHV_MUST_CHECK;

/*
 * Work with a session; see above.  It returns chv_p11_session_fail(s, why) when a call fails; run goes by s->rv.  Where
 * an answer like CKR_GENERAL_ERROR only means a bad input, the function sets s->rv = CKR_OK before it returns its
 * error, so that a peer cannot make us restart the module.
 */
typedef enum chv_err (*chv_p11_work_fn)(struct chv_p11_session *s, void *arg, struct chv_why *why);
enum chv_err chv_p11_token_run(struct chv_p11_token *token, chv_p11_work_fn work, void *arg,
                               struct chv_why *why) CHV_MUST_CHECK;

/*
 * The parts of run, for callers that do their own.  take waits while all sessions are out, 5 s at most
 * (CHV_ERR_UNAVAILABLE): a thread that has one must not take another.  give looks at s->rv and closes the session if it is dead.
 */
enum chv_err chv_p11_session_take(struct chv_p11_token *token, struct chv_p11_session **session,
                                  struct chv_why *why) CHV_MUST_CHECK;
void chv_p11_session_give(struct chv_p11_session *session);

#endif
