/* SPDX-License-Identifier: Apache-2.0 */
/* Sections [tunnel "NAME"] of the client's configuration file. */
#ifndef CHV_TOOLS_CLIENT_CONFIG_TUNNEL_H
#define CHV_TOOLS_CLIENT_CONFIG_TUNNEL_H

#include "net/control.h"
#include "net/server.h"

enum { CHV_CLIENT_TUNNELS_MAX = 32, CHV_CLIENT_TUNNEL_LISTENS = CHV_LISTEN_MAX, CHV_CLIENT_CONNECTIONS_MAX = 16384 };

struct chv_client_tunnel {
    char name[CHV_TUNNEL_NAME_MAX + 1];
    unsigned seen; /* bit per key that the file has */
    size_t listen_count;
    char listen[CHV_CLIENT_TUNNEL_LISTENS][CHV_LISTEN_LEN]; /* "HOST:PORT", "[V6]:PORT", "unix:/PATH" */
    unsigned connections;                                   /* local ones at a time; 0: as many as the program's */
    unsigned idle_seconds;                                  /* 0: none */
    bool unsafe_listen;
};

struct chv_client_tunnels {
    size_t count;
    struct chv_client_tunnel list[CHV_CLIENT_TUNNELS_MAX];
};

/* NAME of a section `tunnel "NAME"`; false if it is none. */
bool chv_client_tunnel_section(const char *section, char out[CHV_TUNNEL_NAME_MAX + 1]) CHV_MUST_CHECK;
/* A key of such a section.  CHV_ERR_CONFIG: `why` says what is wrong and what is allowed. */
enum chv_err chv_client_tunnel_set(struct chv_client_tunnels *tunnels, const char *tunnel_name, const char *name,
                                   const char *value, struct chv_why *why) CHV_MUST_CHECK;
/* One more address; false if it is none, if it is there already, or if there are too many. */
bool chv_client_tunnel_listen(struct chv_client_tunnel *tunnel, const char *address) CHV_MUST_CHECK;

/* "10m", or "0" for none.  CHV_ERR_ARGUMENT. */
enum chv_err chv_client_tunnel_idle(struct chv_client_tunnel *tunnel, const char *span,
                                    struct chv_why *why) CHV_MUST_CHECK;

#endif
