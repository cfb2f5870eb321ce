/* SPDX-License-Identifier: Apache-2.0 */
/* The scopes that services look at: the one list of them. */
#ifndef CHV_SERVICES_SCOPES_H
#define CHV_SERVICES_SCOPES_H

#include <stdbool.h>

/* For people: "message, files:ro, files:rw, push, tunnel:NAME, share:NAME". */
#define CHV_SCOPES_KNOWN "message, files:ro, files:rw, push, tunnel:NAME, share:NAME"

/* Whether a service may grant something for that scope; one that is not known is no error, and grants nothing. */
bool chv_scope_known(const char *scope);

#endif
