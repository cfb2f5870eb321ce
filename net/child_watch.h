/* SPDX-License-Identifier: Apache-2.0 */
/* A loop's end of a socket to another process of the server: it is watched, and never keeps the loop alive. */
#ifndef CHV_NET_CHILD_WATCH_H
#define CHV_NET_CHILD_WATCH_H

#include <uv.h>

/* Takes `fd`, whose reading `ready` is told, with `data` in the handle. NULL: no memory, `fd` is closed. */
uv_poll_t *chv_child_watch(uv_loop_t *loop, int fd, uv_poll_cb ready, void *data);
/* The handle's memory goes once the loop has run; `fd` is closed at once. NULL: nothing happens. */
void chv_child_unwatch(uv_poll_t *poll, int fd);

#endif
