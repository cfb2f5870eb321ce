/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a configuration file that people keep: its comments, order and mode stay. */
#ifndef CHV_TOOLS_SERVER_CONFIG_EDIT_H
#define CHV_TOOLS_SERVER_CONFIG_EDIT_H

#include "tools/server_config.h"

/* A key of [server]. */
struct chv_config_change {
    const char *key;
    const char *value; /* NULL: the line becomes a comment */
};

/*
 * `text` with the changes: a line that sets the key is replaced; else one is added behind the comment that shows the key,
 * or at the beginning of [server].  *len: in, room at `out`; out, length without the NUL.  CHV_ERR_SPACE;
 * CHV_ERR_NOT_FOUND if there is no [server].
 */
enum chv_err chv_server_config_change(const char *text, const struct chv_config_change *changes, size_t count,
                                      char *out, size_t *len) CHV_MUST_CHECK;
/*
 * The same to a file: a new one in its place, whole or not at all and durable, with its owner and mode; behind a symbolic
 * link the file itself.  What would not be a configuration any more is not written.  CHV_ERR_BUSY if somebody else
 * changed it meanwhile; CHV_ERR_IO if it cannot be written.
 */
enum chv_err chv_server_config_edit(const char *file, const struct chv_config_change *changes, size_t count,
                                    struct chv_why *why) CHV_MUST_CHECK;

#endif
