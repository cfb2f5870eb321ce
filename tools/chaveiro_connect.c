/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro connect: a tunnel on standard input and output, for ssh's ProxyCommand and the like. */
#include "services/tunnel_pipe.h"
#include "tools/chaveiro.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { CONNECT_SIGNALS = 3 };

struct connect_job {
    struct chv_tunnel_pipe *pipe;
    uv_signal_t signals[CONNECT_SIGNALS];
    bool handles;
};

static void on_signal(uv_signal_t *signal, int number)
{
    chaveiro_interrupt(signal->data, number); /* the descriptors' flags become what they were */
}

static void on_finished(void *owner)
{
    chaveiro_finish(owner);
}

/* Standard input and output are one socket. */
static bool is_one_socket(void)
{
    struct stat in, out;
    return fstat(STDIN_FILENO, &in) == 0 && fstat(STDOUT_FILENO, &out) == 0 && S_ISSOCK(in.st_mode) &&
           in.st_dev == out.st_dev && in.st_ino == out.st_ino;
}

/* They are the pipe's alone from now on, so that their ends are noticed on the other side. */
static enum chv_err take_over(struct chv_tunnel_pipe_config *config, struct chv_why *why)
{
    const bool one = is_one_socket();
    const int none = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int out = one ? in : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    enum chv_err err = CHV_OK;
    if (none < 0 || in < 0 || out < 0 || dup2(none, STDIN_FILENO) < 0 || dup2(none, STDOUT_FILENO) < 0)
        err = chv_fail(why, CHV_ERR_IO, "standard input and output: %s", strerror(errno));
    if (none >= 0)
        close(none);
    if (err == CHV_OK) {
        config->read_fd = in;
        config->write_fd = out;
        return CHV_OK;
    }
    if (in >= 0)
        close(in);
    if (out >= 0 && out != in)
        close(out);
    return err;
}

static void connect_ready(struct chaveiro_link *link)
{
    static const int numbers[CONNECT_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    struct connect_job *job = link->state;
    struct chv_why why = {""};
    struct chv_tunnel_pipe_config config = {.pings = true, .finished = on_finished};
    for (size_t i = 0; i < CONNECT_SIGNALS; i++) {
        (void)uv_signal_init(&link->loop.uv, &job->signals[i]);
        job->signals[i].data = link;
        (void)uv_signal_start(&job->signals[i], on_signal, numbers[i]);
    }
    job->handles = true;
    enum chv_err err = take_over(&config, &why);
    if (err == CHV_OK)
        err = chv_tunnel_pipe_start(chv_message_conn(link->message), &config, link, &job->pipe, &why);
    if (err != CHV_OK)
        chaveiro_fail_why(link, err, &why);
}

static enum chv_err connect_record(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len)
{
    const struct connect_job *job = link->state;
    return job->pipe != NULL ? chv_tunnel_pipe_record(job->pipe, type, body, len) : CHV_OK;
}

static void connect_batch(struct chaveiro_link *link)
{
    const struct connect_job *job = link->state;
    if (job->pipe != NULL)
        chv_tunnel_pipe_batch(job->pipe);
}

static void connect_drained(struct chaveiro_link *link)
{
    const struct connect_job *job = link->state;
    if (job->pipe != NULL)
        chv_tunnel_pipe_drained(job->pipe);
}

static void connect_over(struct chaveiro_link *link)
{
    struct connect_job *job = link->state;
    chv_tunnel_pipe_free(job->pipe);
    job->pipe = NULL;
    for (size_t i = 0; i < CONNECT_SIGNALS && job->handles; i++)
        uv_close((uv_handle_t *)&job->signals[i], NULL);
    job->handles = false;
}

int chaveiro_connect(const struct chv_cli_args *args)
{
    struct connect_job state = {.pipe = NULL};
    const struct chaveiro_job job = {.service = "tunnel",
                                     .tunnel = args->operands[0],
                                     .ready = connect_ready,
                                     .record = connect_record,
                                     .batch = connect_batch,
                                     .drained = connect_drained,
                                     .over = connect_over};
    if (!chv_tunnel_name_valid(job.tunnel))
        return chv_cli_fail(EX_USAGE, "'%.80s' is no tunnel's name: 1 to 25 of a-z 0-9 . _ -", job.tunnel);
    return chaveiro_run(args, &job, &state);
}
