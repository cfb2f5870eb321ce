/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/child_watch.h"

#include <stdlib.h>
#include <unistd.h>

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

void chv_child_unwatch(uv_poll_t *poll, int fd)
{
    if (poll == NULL)
        return;
    (void)uv_poll_stop(poll);
    uv_close((uv_handle_t *)poll, on_closed);
    close(fd);
}

uv_poll_t *chv_child_watch(uv_loop_t *loop, int fd, uv_poll_cb ready, void *data)
{
    uv_poll_t *poll = malloc(sizeof *poll);
    if (poll == NULL || uv_poll_init(loop, poll, fd) != 0) {
        free(poll);
        close(fd);
        return NULL;
    }
    poll->data = data;
    uv_unref((uv_handle_t *)poll);
    if (uv_poll_start(poll, UV_READABLE, ready) == 0)
        return poll;
    chv_child_unwatch(poll, fd);
    return NULL;
}
