/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service `push`: files that the server's operator has for a client, kept until the client has confirmed that they
 * are stored (doc/protocol.md, section 5). The client's side is tools/chaveiro_watch.c.
 */
#ifndef CHV_SERVICES_PUSH_H
#define CHV_SERVICES_PUSH_H

#include "net/service.h"

/* Server side. Scope "push"; configuration [push]. */
extern const struct chv_service chv_service_push;

#endif
