/* SPDX-License-Identifier: Apache-2.0 */
#include "services/scopes.h"

#include "net/server.h"

#include <stddef.h>
#include <string.h>

static bool tunnel_name(const char *name)
{
    const size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return len > 0 && len <= CHV_TUNNEL_NAME_MAX && name[len] == '\0';
}

bool chv_scope_known(const char *scope)
{
    static const char *const whole[] = {"message", "files:ro", "files:rw", "push"};
    static const char tunnel[] = "tunnel:", share[] = "share:";
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (strcmp(scope, whole[i]) == 0)
            return true;
    if (strncmp(scope, tunnel, strlen(tunnel)) == 0)
        return tunnel_name(scope + strlen(tunnel));
    return strncmp(scope, share, strlen(share)) == 0 && scope[strlen(share)] != '\0';
}
