/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told how a token is brought back: a log.  Apart from token.h, so that it needs no PKCS #11. */
#ifndef CHV_P11_OBSERVE_H
#define CHV_P11_OBSERVE_H

/*
 * Told of each step of a recovery by chv_p11_token_run, and of what is not as it was asked for, one line each, never a
 * secret.  In any thread, no lock held.  One
 * for the process, NULL for none; set it before tokens are used.
 */
typedef void (*chv_p11_step_fn)(const char *text);
void chv_p11_observe(chv_p11_step_fn step);
/* Tells it "WHERE: TEXT"; nobody if there is none. */
void chv_p11_tell(const char *where, const char *text);

#endif
