/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a token that module.c, session.c and token.c share. */
#ifndef CHV_P11_TOKEN_PRIVATE_H
#define CHV_P11_TOKEN_PRIVATE_H

#include "p11/module.h"
#include "p11/pin.h"
#include "p11/token.h"

struct chv_p11_token {
    struct chv_p11_module *module;
    struct chv_p11_uri uri;
    char name[512];

    /* Under module->lock. */
    struct chv_p11_token *next; /* of the module */
    unsigned refs;
    CK_SLOT_ID slot;
    bool located; /* `slot` is right: not after a restart of the module */
    struct chv_p11_session *idle;
    unsigned open, limit;     /* sessions: out and idle, and how many there may be */
    unsigned long generation; /* object handles of another one are void */
    unsigned long pool;       /* sessions of another one are closed when given back */
    bool wanted;              /* somebody logged in: every new session must be so too */
    bool logged_in;

    /* One try of a PIN at a time. */
    pthread_mutex_t login_lock;
    bool pin_refused;                 /* the last PIN was wrong ... */
    struct chv_p11_pin_mark pin_mark; /* ... and came from this file; zeros if from a person */
};

/*
 * A text of Cryptoki, padded with spaces and without a NUL (PKCS #11 2.40, 3.2), to show: UTF-8, and '?' for each byte that
 * is none or that a terminal would obey.  `to` has len + 1 bytes.
 */
void chv_p11_show(const unsigned char *from, size_t len, char *to);
/* All slots with a token, in memory that the caller frees, also after a failure. */
CK_RV chv_p11_slots(CK_FUNCTION_LIST *fn, CK_SLOT_ID **slots, CK_ULONG *count);
/* The slot of the one token that the URI means.  The caller is inside the module.  *rv says what failed, CKR_OK for
 * none. */
enum chv_err chv_p11_token_locate(const struct chv_p11_uri *uri, const struct chv_p11_module *module, CK_SLOT_ID *slot,
                                  CK_TOKEN_INFO *info, CK_RV *rv, struct chv_why *why) CHV_MUST_CHECK;
/* Sessions, login and handles are gone with the module's state.  The caller has module->lock. */
void chv_p11_token_reset(struct chv_p11_token *token);
void chv_p11_token_convert(const CK_TOKEN_INFO *from, CK_SLOT_ID slot, struct chv_p11_token_info *to);

/*
 * Makes the session one of a logged-in user: by the PIN file, else by `secret`; `again` if nobody asked for it now.
 * The caller is inside the module.
 */
enum chv_err chv_p11_token_authenticate(struct chv_p11_token *token, CK_SESSION_HANDLE session, chv_secret_fn secret,
                                        void *arg, bool again, CK_RV *rv, struct chv_why *why) CHV_MUST_CHECK;

/* chv_p11_session_take; `login`: log in where that was wanted before. */
enum chv_err chv_p11_session_take_rv(struct chv_p11_token *token, bool login, struct chv_p11_session **session,
                                     CK_RV *rv, struct chv_why *why) CHV_MUST_CHECK;
/* Closes what is idle, and the rest when given back; handles are void.  The caller has module->lock. */
void chv_p11_session_drop_idle(struct chv_p11_token *token);

#endif
