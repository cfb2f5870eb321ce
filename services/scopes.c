/* SPDX-License-Identifier: Apache-2.0 */
#include "services/scopes.h"

#include <stddef.h>
#include <string.h>

bool chv_scope_known(const char *scope)
{
    static const char *const whole[] = {"message", "files:ro", "files:rw", "push"};
    static const char tunnel[] = "tunnel:";
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (strcmp(scope, whole[i]) == 0)
            return true;
    return strncmp(scope, tunnel, sizeof tunnel - 1) == 0 && scope[sizeof tunnel - 1] != '\0';
}
