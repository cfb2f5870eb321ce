/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of this machine, from the shell. */
#include "tools/chaveiro_shell.h"

#include <sysexits.h>
#include <unistd.h>

enum { STREAMS = 3, SIGNALLED = 128 };

struct child {
    uv_process_t process;
    bool ended, closed;
    int64_t status;
    int number; /* of a signal; 0: none */
};

static void on_ended(uv_process_t *process, int64_t status, int number)
{
    struct child *child = process->data;
    child->status = status;
    child->number = number;
    child->ended = true;
}

static void on_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    child->closed = true;
}

int chaveiro_shell_run(struct chaveiro_shell *shell, char **argv)
{
    struct child child = {.ended = false};
    uv_stdio_container_t streams[STREAMS];
    uv_loop_t *loop = &shell->files.link->loop.uv;
    for (int i = 0; i < STREAMS; i++)
        streams[i] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = i};
    if (!shell->terminal)
        streams[STDIN_FILENO].flags = UV_IGNORE; /* the lines to come are ours */
    const uv_process_options_t options = {
        .exit_cb = on_ended, .file = argv[0], .args = argv, .stdio_count = STREAMS, .stdio = streams};
    (void)fflush(stdout);
    const int rc = uv_spawn(loop, &child.process, &options);
    child.process.data = &child;
    while (rc == 0 && !child.ended)
        (void)uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&child.process, on_closed);
    while (!child.closed)
        (void)uv_run(loop, UV_RUN_ONCE);
    if (rc != 0)
        return chv_cli_fail(EX_UNAVAILABLE, "%s: %s", argv[0], uv_strerror(rc));
    if (shell->terminal)
        shell->files.signal = 0; /* what was typed meant the program */
    return child.number != 0 ? SIGNALLED + child.number : (int)(child.status & 0xff);
}
