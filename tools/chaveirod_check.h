/* SPDX-License-Identifier: Apache-2.0 */
/* chaveirod -t: what a server would stumble over, found without a passphrase and without binding an address. */
#ifndef CHV_TOOLS_CHAVEIROD_CHECK_H
#define CHV_TOOLS_CHAVEIROD_CHECK_H

#include "net/server.h"

#include <stdbool.h>

/*
 * Writes a line to standard error for each problem, and for each warning.  `file`: where the configuration was read from;
 * `secret_given`: the command line says where the passphrase is.  As root, what the server does as its `user` is tried as
 * that user, in a process of its own.  Blocks on disk, and on the registry for some seconds.  True: no problem.
 */
bool chv_chaveirod_check(const struct chv_server_config *config, const char *file, bool secret_given);

#endif
