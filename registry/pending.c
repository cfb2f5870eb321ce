/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/internal.h"

static enum chv_err pending(const char *uri, const struct chv_registry_options *options, struct chv_registry **r,
                            struct chv_why *why)
{
    (void)options;
    (void)r;
    return chv_fail(why, CHV_ERR_UNSUPPORTED, "%s: this kind of registry is being written", uri);
}

const struct chv_registry_ops chv_registry_sqlite_ops = {
    .abi = CHV_REGISTRY_ABI, .scheme = "sqlite", .traits = 3, .open = pending};
const struct chv_registry_ops chv_registry_postgresql_ops = {
    .abi = CHV_REGISTRY_ABI, .scheme = "postgresql", .traits = 3, .open = pending};
const struct chv_registry_ops chv_registry_revoked_ops = {
    .abi = CHV_REGISTRY_ABI, .scheme = "revoked", .open = pending};
