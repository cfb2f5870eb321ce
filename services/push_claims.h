/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connection of a client has an entry: it is offered to one at a time, whichever loops they are on. Any thread.
 */
#ifndef CHV_SERVICES_PUSH_CLAIMS_H
#define CHV_SERVICES_PUSH_CLAIMS_H

#include "services/push_wire.h"

/* One connection's; one thread at a time. */
struct chv_push_claims;

/* As chv_push_session_new. */
enum chv_err chv_push_claims_new(const char *id, void (*wake)(void *arg), void *arg,
                                 struct chv_push_claims **claims) CHV_MUST_CHECK;
/* Gives all up, and wakes the client's other connections if there were any. NULL is allowed. */
void chv_push_claims_free(struct chv_push_claims *claims);

/* False: a connection of the client has it, or this one has CHV_PUSH_WINDOW. */
bool chv_push_claim(struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN]);
/* `wake`: others may want it. */
void chv_push_unclaim(struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN], bool wake);
/* Whether any connection of the client has it. */
bool chv_push_claimed(const struct chv_push_claims *claims, const uint8_t id[CHV_PUSH_ID_LEN]);

#endif
