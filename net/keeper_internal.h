/* SPDX-License-Identifier: Apache-2.0 */
/* What keeper.c and keeper_update.c share; nobody else includes this. */
#ifndef CHV_NET_KEEPER_INTERNAL_H
#define CHV_NET_KEEPER_INTERNAL_H

#include "net/keeper.h"

enum { CHV_KEEPER_LABEL_SIZE = 32 };

/* "master:EPOCH" */
void chv_keeper_master(uint32_t epoch, char label[CHV_KEEPER_LABEL_SIZE]);
/* Form of a question about a credential, which is parsed. */
bool chv_keeper_well_formed(const struct chv_keeper *keeper, const struct chv_keeper_request *request,
                            struct chv_credential *credential);
enum chv_keeper_verdict chv_keeper_judge(const struct chv_keeper *keeper, uint64_t now, const struct chv_credential *c);
/* Whether the keystore answers, for the log. */
void chv_keeper_keystore_says(struct chv_keeper *keeper, uint64_t now, enum chv_err err, struct chv_why *why);
/* A packet has come. CHV_ERR_UNAVAILABLE: no question can be answered, the clock is wrong. */
enum chv_err chv_keeper_begin(struct chv_keeper *keeper, uint64_t now);

#endif
