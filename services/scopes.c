/* SPDX-License-Identifier: Apache-2.0 */
#include "services/scopes.h"

#include <stddef.h>
#include <string.h>

bool chv_scope_known(const char *scope)
{
    static const char *const whole[] = {"message", "files:ro", "files:rw", "push"};
    static const char *const heads[] = {"tunnel:", "share:"};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (strcmp(scope, whole[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (strncmp(scope, heads[i], strlen(heads[i])) == 0)
            return scope[strlen(heads[i])] != '\0';
    return false;
}
