/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro's configuration file: an INI file by libinih with the section [client], and [tunnel "NAME"] for
 * each tunnel. */
#ifndef CHV_TOOLS_CLIENT_CONFIG_H
#define CHV_TOOLS_CLIENT_CONFIG_H

#include "tools/client_config_tunnel.h"

#include <chaveiro/session.h>

#include <limits.h>
#include <stdbool.h>

/* What a file says; "" and 0 where it says nothing.  Paths that are relative in it start from its folder. */
struct chv_client_config {
    char file[PATH_MAX]; /* its name; "": none was read */
    char keystore[PATH_MAX];
    char passphrase_file[PATH_MAX];
    char identity[PATH_MAX];
    char identity_passphrase_file[PATH_MAX];
    char server_key[PATH_MAX];  /* "x25519 BASE64" or a path */
    char receipt_key[PATH_MAX]; /* "p256 BASE64" or a path */
    char address[256];
    char suite[64];
    char tickets[PATH_MAX];    /* file with tickets */
    char redirect_hosts[1024]; /* "HOST, HOST" */
    char server_name[CHV_SERVER_NAME_MAX + 1];
    enum chv_profile profile;
    struct chv_client_tunnels tunnels;
};

/*
 * Parses NUL-terminated text.  CHV_ERR_CONFIG: `why` has "FILE:LINE: what is wrong; what is allowed" for an unknown
 * section or key, a key given twice, a value that is not allowed, a line that is none.  *config is set only on success.
 */
enum chv_err chv_client_config_parse(const char *text, const char *file, struct chv_client_config *config,
                                     struct chv_why *why) CHV_MUST_CHECK;
/*
 * Reads `file`; NULL: the user's own, $XDG_CONFIG_HOME/chaveiro/chaveiro.conf or ~/.config/chaveiro/chaveiro.conf, if it
 * is there.  CHV_ERR_NOT_FOUND, CHV_ERR_IO; blocks on the file.
 */
enum chv_err chv_client_config_load(const char *file, struct chv_client_config *config,
                                    struct chv_why *why) CHV_MUST_CHECK;

#endif
