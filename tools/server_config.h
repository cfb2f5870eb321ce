/* SPDX-License-Identifier: Apache-2.0 */
/* chaveirod's configuration file: an INI file by libinih, checked to the last key. */
#ifndef CHV_TOOLS_SERVER_CONFIG_H
#define CHV_TOOLS_SERVER_CONFIG_H

#include "net/server.h"

#define CHV_DEFAULT_LISTEN "127.0.0.1:7040"

enum { CHV_SERVER_CONFIG_TEXT_MAX = 64 * 1024 };

/* What a file that sets no key means; name and keystore are "" (a file must set them). */
void chv_server_config_defaults(struct chv_server_config *config);

/*
 * Parses NUL-terminated text. `file`: what errors call it, and whose folder relative paths start from.
 * CHV_ERR_CONFIG for an unknown section or key, a key given twice, a value that is not allowed, a line that is none, a
 * missing name or keystore: `why` has "FILE:LINE: what is wrong; what is allowed". *config is set only on success.
 */
enum chv_err chv_server_config_parse(const char *text, const char *file, struct chv_server_config *config,
                                     struct chv_why *why) CHV_MUST_CHECK;

/* The same for a data side of its own (chaveirod --data-only): it has no keystore, and must have data and ticket keys. */
enum chv_err chv_server_config_parse_data(const char *text, const char *file, struct chv_server_config *config,
                                          struct chv_why *why) CHV_MUST_CHECK;

/* Reads the file and parses it. CHV_ERR_NOT_FOUND, CHV_ERR_IO; blocks on the file. */
enum chv_err chv_server_config_load(const char *file, struct chv_server_config *config,
                                    struct chv_why *why) CHV_MUST_CHECK;
/* The same for a data side. */
enum chv_err chv_server_config_load_data(const char *file, struct chv_server_config *config,
                                         struct chv_why *why) CHV_MUST_CHECK;

/* Replaces the listen addresses, for the command line. CHV_ERR_CONFIG as in the file, and for a data side. */
enum chv_err chv_server_config_listen(struct chv_server_config *config, const char *const *addresses, size_t count,
                                      struct chv_why *why) CHV_MUST_CHECK;
/* Replaces the backend, likewise. */
enum chv_err chv_server_config_backend(struct chv_server_config *config, const char *spec,
                                       struct chv_why *why) CHV_MUST_CHECK;

/*
 * Puts the [pkcs11] module into the keystore's and the backend's URI, where they are tokens' and name none; after all that
 * may change them.  CHV_ERR_CONFIG if a URI becomes too long.
 */
enum chv_err chv_server_config_complete(struct chv_server_config *config, struct chv_why *why) CHV_MUST_CHECK;

/* What a new configuration file sets; every other key stands in it as a comment with its default. */
struct chv_server_config_values {
    const char *name;            /* server name */
    const char *keystore;        /* as it shall stand in the file: a URI, or a path relative to the file */
    const char *listen;          /* NULL: CHV_DEFAULT_LISTEN */
    const char *passphrase_file; /* NULL: none */
    const char *key_check;       /* "EPOCH:HEX"; NULL: none */
    const char *registry;        /* a URI; NULL: none */
    const char *state;           /* a folder; NULL: none */
};

/*
 * Writes a commented configuration file as NUL-terminated text. *len: in, room at `out` (CHV_SERVER_CONFIG_TEXT_MAX is
 * enough); out, length without the NUL. CHV_ERR_SPACE; CHV_ERR_ARGUMENT for a value that the parser would not take.
 */
enum chv_err chv_server_config_template(const struct chv_server_config_values *values, char *out,
                                        size_t *len) CHV_MUST_CHECK;

#endif
