/* SPDX-License-Identifier: Apache-2.0 */
/* A credential by the server's own rules: for a full handshake the keeper judges, for a ticket the net process. */
#ifndef CHV_NET_JUDGE_H
#define CHV_NET_JUDGE_H

#include "net/keeper.h"

/* `now`: Unix seconds. max_lifetime: seconds that it may still live, 0: no limit. */
enum chv_keeper_verdict chv_judge(const uint32_t *epochs, size_t epoch_count, uint64_t max_lifetime, uint64_t now,
                                  const struct chv_credential *credential);

#endif
