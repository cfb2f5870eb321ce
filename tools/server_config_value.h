/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the configuration file's keys, for tools/server_config*.c only. */
#ifndef CHV_TOOLS_SERVER_CONFIG_VALUE_H
#define CHV_TOOLS_SERVER_CONFIG_VALUE_H

#include "tools/server_config.h"

/* A line of the file, its newline and what libinih adds. */
enum { CHV_CONFIG_LINE_SIZE = 8192 };

enum chv_config_kind {
    KIND_SERVER_NAME,
    KIND_KEYSTORE,
    KIND_PATH,
    KIND_BOOL,
    KIND_SWITCH,
    KIND_EPOCHS,
    KIND_CHECKS,
    KIND_LISTEN,
    KIND_HANDSHAKE,
    KIND_DATA,
    KIND_REDIRECT,
    KIND_BACKEND,
    KIND_SUITES,
    KIND_PROFILES,
    KIND_USER,
    KIND_NUMBER,
    KIND_SECONDS,   /* unsigned */
    KIND_SECONDS64, /* uint64_t */
    KIND_SIZE,      /* size_t */
    KIND_SIZE64,    /* uint64_t */
    KIND_HOME,
    KIND_DURABILITY,
    KIND_SHARE_PATH,
    KIND_SHARE_ACCESS,
    KIND_SHARE_SCOPE,
    KIND_TUNNEL_TARGET,
    KIND_LEVEL,
    KIND_TARGET,
    KIND_MODULE,
    KIND_REGISTRY,
    KIND_DUPLICATE
};

struct chv_config_key {
    const char *section, *name;
    enum chv_config_kind kind;
    size_t offset; /* in struct chv_server_config; of a share or tunnel, in its struct */
    uint64_t min, max;
    const char *allowed;
};

/* NAME of a section `share "NAME"`. False if it is none: the name is 1 to 32 of A-Z a-z 0-9 . _ -, and not only dots. */
bool chv_config_share_name(const char *section, char out[CHV_SHARE_NAME_MAX + 1]) CHV_MUST_CHECK;

enum { CHV_CONFIG_SHARE_KEYS = 3 };
extern const struct chv_config_key chv_config_share_keys[CHV_CONFIG_SHARE_KEYS];

/* NAME of a section `tunnel "NAME"`. False if it is none: the name is 1 to 25 of a-z 0-9 . _ -. */
bool chv_config_tunnel_name(const char *section, char out[CHV_TUNNEL_NAME_MAX + 1]) CHV_MUST_CHECK;
/* What a section without a key means; it has no target. */
void chv_config_tunnel_defaults(struct chv_server_tunnel *tunnel, const char *name);

enum { CHV_CONFIG_TUNNEL_KEYS = 4 };
extern const struct chv_config_key chv_config_tunnel_keys[CHV_CONFIG_TUNNEL_KEYS];

/* Where relative paths start from. */
struct chv_config_place {
    const char *file;
    size_t dir_len; /* of `file`, with its last slash */
};

/* Sets the key's member.  False if the value is not allowed; the member may have changed then. */
bool chv_config_value_set(struct chv_server_config *config, const struct chv_config_place *place,
                          const struct chv_config_key *key, const char *value) CHV_MUST_CHECK;
/* The same of a share. */
bool chv_config_share_set(struct chv_server_share *share, const struct chv_config_place *place,
                          const struct chv_config_key *key, const char *value) CHV_MUST_CHECK;
/* And of a tunnel, by its number. */
bool chv_config_tunnel_set(struct chv_server_config *config, size_t tunnel, const struct chv_config_place *place,
                           const struct chv_config_key *key, const char *value) CHV_MUST_CHECK;

#endif
