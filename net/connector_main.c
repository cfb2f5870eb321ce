/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/connector.h"

#include "net/ipc.h"
#include "net/sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* As many names as resolve at a time: one whose name server does not answer keeps a thread for long. */
#define RESOLVERS "16"

struct connector_process {
    uv_loop_t loop;
    uv_poll_t poll; /* of `control` */
    int control;
    struct chv_connector *connector;
};

static void end(struct connector_process *p)
{
    chv_connector_close(p->connector);
    p->connector = NULL;
    uv_close((uv_handle_t *)&p->poll, NULL);
}

static void say_alive(struct connector_process *p, unsigned generation)
{
    const struct chv_ipc_message pong = {.kind = CHV_IPC_PONG, .generation = generation};
    if (chv_ipc_send(p->control, &pong, NULL, 0) != CHV_OK)
        end(p);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct connector_process *p = poll->data;
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    (void)status;
    (void)events;
    enum chv_err err = chv_ipc_receive(p->control, &message, fds, &fd_count);
    if (err == CHV_ERR_NOT_FOUND)
        return;
    if (err != CHV_OK) { /* the supervisor is gone, or wants this process to end */
        end(p);
        return;
    }
    if (message.kind == CHV_IPC_CONNECTORS) {
        chv_connector_serve(p->connector, fds, fd_count);
        return;
    }
    while (fd_count > 0)
        close(fds[--fd_count]);
    if (message.kind == CHV_IPC_CONFIG) {
        chv_log_set_level(message.config.log_level);
        chv_connector_configure(p->connector, &message.config);
    } else if (message.kind == CHV_IPC_PING) {
        say_alive(p, message.generation);
    }
}

static void no_work(uv_work_t *work)
{
    (void)work;
}

static void no_work_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

/* libuv starts all its threads at the first work, and after the system call filter none can be started. */
static enum chv_err start_resolvers(struct connector_process *p, struct chv_why *why)
{
    uv_work_t work;
    int rc = setenv("UV_THREADPOOL_SIZE", RESOLVERS, 1) == 0 ? uv_queue_work(&p->loop, &work, no_work, no_work_done)
                                                             : UV_ENOMEM;
    (void)uv_run(&p->loop, UV_RUN_DEFAULT);
    return rc == 0 ? CHV_OK : chv_fail(why, CHV_ERR_IO, "cannot start threads that resolve names: %s", uv_strerror(rc));
}

static enum chv_err serve(struct connector_process *p, const struct chv_server_config *config, struct chv_why *why)
{
    const struct chv_ipc_message ready = {.kind = CHV_IPC_READY};
    if (chv_connector_new(&p->loop, NULL, CHV_CONNECTOR_FRESH_MS, &p->connector) != CHV_OK)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the connector");
    chv_connector_configure(p->connector, config);
    int rc = uv_poll_init(&p->loop, &p->poll, p->control);
    if (rc != 0) {
        chv_connector_close(p->connector);
        return chv_fail(why, CHV_ERR_IO, "cannot watch the supervisor's socket: %s", uv_strerror(rc));
    }
    p->poll.data = p;
    rc = uv_poll_start(&p->poll, UV_READABLE, on_control);
    enum chv_err err = rc == 0 ? chv_ipc_send(p->control, &ready, NULL, 0)
                               : chv_fail(why, CHV_ERR_IO, "cannot watch the supervisor's socket: %s", uv_strerror(rc));
    if (err != CHV_OK)
        end(p);
    (void)uv_run(&p->loop, UV_RUN_DEFAULT);
    return err;
}

int chv_connector_main(const struct chv_server_config *config, int control)
{
    struct chv_why why = {""};
    struct connector_process *p = calloc(1, sizeof *p);
    if (p == NULL || uv_loop_init(&p->loop) != 0) {
        free(p);
        return EX_OSERR;
    }
    p->control = control;
    chv_sandbox_ignore_signals();
    enum chv_err err = chv_sandbox_user(config->user, &why);
    if (err == CHV_OK)
        err = start_resolvers(p, &why);
    if (err == CHV_OK)
        err = chv_sandbox_enter(CHV_SANDBOX_CONNECTOR, false, &why);
    if (err == CHV_OK)
        err = serve(p, config, &why);
    if (err != CHV_OK)
        chv_log(CHV_LOG_ERROR, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
    (void)uv_loop_close(&p->loop);
    free(p);
    return err == CHV_OK ? EX_OK : err == CHV_ERR_CONFIG ? EX_CONFIG : EX_OSERR;
}
