/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making tokens and looking at them, by libp11: for administration, before a token is opened.
 *
 * Day-to-day work does not go through libp11: it keeps the PIN of a login in memory, gives up on all slots when one of
 * them fails, has no secret keys, and cannot list any key of a token that holds an X25519 one.
 */
#ifndef CHV_P11_PROVISION_H
#define CHV_P11_PROVISION_H

#include "p11/token.h"

/* Calls `each` for every token of the module; stops at the first error and returns it. */
typedef enum chv_err (*chv_p11_token_fn)(void *arg, const struct chv_p11_token_info *info);
enum chv_err chv_p11_token_list(const char *module_path, const char *init_args, chv_p11_token_fn each, void *arg,
                                struct chv_why *why) CHV_MUST_CHECK;

/*
 * Makes a token: the first slot whose token was never initialised gets `label` (1 to 32 bytes), the security officer's
 * PIN and the user's PIN.  CHV_ERR_EXISTS if the module has a token of that label, CHV_ERR_NOT_FOUND if there is no
 * free slot, CHV_ERR_BUSY if this process has the module open (libp11 finalises it when done), CHV_ERR_PASSPHRASE, with
 * no login tried, if the token then says that the security officer's PIN is locked, or that the next wrong one locks it.
 * After a failure the token may be there with its label and the security officer's PIN, but no user PIN.
 */
enum chv_err chv_p11_token_init(const char *module_path, const char *init_args, const char *label, const char *so_pin,
                                const char *pin, struct chv_why *why) CHV_MUST_CHECK;

#endif
