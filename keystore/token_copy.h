/* SPDX-License-Identifier: Apache-2.0 */
/* The session copy of a master (doc/tokens.md, "Costs"): whether a token is fit for it. */
#ifndef CHV_KEYSTORE_TOKEN_COPY_H
#define CHV_KEYSTORE_TOKEN_COPY_H

#include "p11/token.h"

/*
 * Tries it with a key of the session, in a token that is logged in to.  CHV_OK: a key that is CKA_MODIFIABLE can be copied,
 * the copy is as protected, neither can be opened by its owner, and neither gives its bytes out even if it is made to
 * derive.  Else `why` says what speaks against it.  Takes up to a second; nothing stays behind.
 */
enum chv_err chv_token_copy_trial(struct chv_p11_token *token, struct chv_why *why) CHV_MUST_CHECK;

#endif
