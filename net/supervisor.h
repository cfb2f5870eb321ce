/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's first process: binds the addresses, starts the keeper and the net process, introduces them to each
 * other, starts again the one that dies, and turns signals into commands. It reads nothing from peers and has no
 * keystore open; it knows a passphrase only with pin-hold = yes.
 *
 * A PIN or passphrase that was wrong is not tried again before its file changes; a child that hangs in a PKCS #11 module
 * is killed and started again (doc/architecture.md, section 3).
 *
 *   SIGTERM, SIGINT  drain: accept no more, let the clients go, exit 0; the second one: at once
 *   SIGHUP           load the configuration again; a bad one is said and the old one stays
 */
#ifndef CHV_NET_SUPERVISOR_H
#define CHV_NET_SUPERVISOR_H

#include "net/server.h"

#include <chaveiro/keystore.h>

struct chv_supervisor_setup {
    struct chv_server_parts parts;
    /* The configuration anew, for SIGHUP. */
    enum chv_err (*load)(void *arg, struct chv_server_config *config, struct chv_why *why);
    void *load_arg;
    chv_secret_fn secret;
    void *secret_arg;
    bool secret_repeatable;  /* asking again needs no person: a file, a systemd credential */
    const char *secret_file; /* its path; NULL: it is in none, or the keystore's URI names it */
    int secret_fd;           /* a descriptor that the secret comes from, for the keeper only; -1 */
};

/* Runs the server to its end. Call with one thread. Returns the exit code (sysexits.h). */
int chv_supervisor_run(const struct chv_server_config *config, const struct chv_supervisor_setup *setup);

#endif
