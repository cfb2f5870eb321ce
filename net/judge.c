/* SPDX-License-Identifier: Apache-2.0 */
#include "net/judge.h"

enum chv_keeper_verdict chv_judge(const uint32_t *epochs, size_t epoch_count, uint64_t max_lifetime, uint64_t now,
                                  const struct chv_credential *credential)
{
    bool served = false;
    for (size_t i = 0; i < epoch_count; i++)
        served |= epochs[i] == credential->epoch;
    if (!served)
        return CHV_KEEPER_EPOCH;
    if (credential->not_after != 0 && credential->not_after <= now)
        return CHV_KEEPER_EXPIRED;
    const uint64_t most = now + max_lifetime + CHV_LIFETIME_SLACK;
    if (max_lifetime != 0 && (credential->not_after == 0 || credential->not_after > most))
        return CHV_KEEPER_LIFETIME;
    return CHV_KEEPER_ACCEPTED;
}
