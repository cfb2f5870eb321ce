/* SPDX-License-Identifier: Apache-2.0 */
/* Published known answers, computed in a token. */
#ifndef CHV_KEYSTORE_TOKEN_ANSWERS_H
#define CHV_KEYSTORE_TOKEN_ANSWERS_H

#include "p11/token.h"

#include <chaveiro/backend.h>

enum { CHV_TOKEN_KNOWN_MAX = 20, CHV_TOKEN_REASON_MAX = 160 };

enum chv_token_verdict {
    CHV_TOKEN_LISTS_NOT, /* the token does not list the mechanism: it was not tried */
    CHV_TOKEN_GIVES,     /* the published bytes */
    CHV_TOKEN_REFUSES,   /* a call failed: `reason` has its CKR_ name */
    CHV_TOKEN_ERRS       /* other bytes, or a wrong tag was taken */
};

struct chv_token_known {
    const char *what;   /* "AES-256-GCM" */
    const char *source; /* "RFC 5869, A.1" */
    enum chv_token_verdict verdict;
    char reason[CHV_TOKEN_REASON_MAX]; /* "" if it gives them */
};

/*
 * Tries them all; *count of `known` are set.  Keys are session objects, destroyed at once.  The token must be logged in to.
 * `software` is whom a curve is compared with where the token takes no private keys: `source` says so then.
 * CHV_OK whatever the token answers; an error if there is no session to be had.
 */
enum chv_err chv_token_known_run(struct chv_p11_token *token, const struct chv_crypto *software,
                                 struct chv_token_known known[CHV_TOKEN_KNOWN_MAX], size_t *count,
                                 struct chv_why *why) CHV_MUST_CHECK;

#endif
