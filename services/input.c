/* SPDX-License-Identifier: Apache-2.0 */
#include "services/input.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>

struct chv_input {
    union {
        uv_handle_t any;
        uv_poll_t poll; /* pipe, socket, terminal */
        uv_idle_t idle; /* what epoll does not take, a regular file: always ready */
    } handle;
    bool polled;
    chv_input_fn ready;
    void *arg;
};

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct chv_input *input = handle->data;
    (void)status; /* the read will say it */
    (void)events;
    input->ready(input->arg);
}

static void on_idle(uv_idle_t *handle)
{
    struct chv_input *input = handle->data;
    input->ready(input->arg);
}

enum chv_err chv_input_open(struct chv_loop *loop, int fd, chv_input_fn ready, void *arg, struct chv_input **input,
                            struct chv_why *why)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return chv_fail(why, CHV_ERR_IO, "input is not open for reading");
    struct chv_input *made = calloc(1, sizeof *made);
    if (made == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for an input");
    int rc = uv_poll_init(&loop->uv, &made->handle.poll, fd);
    /* libuv makes it non-blocking, and with it every process that shares the terminal. Nobody reads more than is there.
     */
    (void)fcntl(fd, F_SETFL, flags);
    made->polled = rc == 0;
    if (rc == UV_EPERM)
        rc = uv_idle_init(&loop->uv, &made->handle.idle);
    if (rc != 0) {
        free(made);
        return chv_fail(why, CHV_ERR_IO, "cannot watch the input: %s", uv_strerror(rc));
    }
    made->handle.any.data = made;
    made->ready = ready;
    made->arg = arg;
    *input = made;
    return CHV_OK;
}

void chv_input_resume(struct chv_input *input)
{
    /* Neither fails on a handle that is initialised and not closing. */
    if (input->polled)
        (void)uv_poll_start(&input->handle.poll, UV_READABLE, on_poll);
    else
        (void)uv_idle_start(&input->handle.idle, on_idle);
}

void chv_input_pause(struct chv_input *input)
{
    if (input->polled)
        (void)uv_poll_stop(&input->handle.poll);
    else
        (void)uv_idle_stop(&input->handle.idle);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void chv_input_close(struct chv_input *input)
{
    if (input != NULL)
        uv_close(&input->handle.any, on_closed);
}
