/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/supervisor.h"

#include "base/memory.h"
#include "net/keeper.h"
#include "net/supervisor_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum {
    KEEPER_END_MS = 2000,  /* to end once its socket closed */
    DRAIN_SLACK_MS = 2000, /* more than the net process gives its clients: then it is ended */
    LOST_MS = 100,         /* a lost socket often means that a process ends: wait whether it does */
    INTRODUCE_MS = 1000,   /* a failed introduction is tried again */
    NEVER = -1
};

void chv_supervisor_forget_pin(struct supervisor *s)
{
    chv_secure_free(s->pin, CHV_PIN_MAX);
    s->pin = NULL;
}

static bool all_ready(const struct supervisor *s)
{
    for (size_t i = 0; i < CHILDREN; i++)
        if (s->children[i].wanted && !s->children[i].ready)
            return false;
    return true;
}

static bool is_other(const struct child *child)
{
    return child->wanted && child->sockets != 0;
}

/* Gives each loop of the net process and another child two ends of one socket. */
static void introduce(struct supervisor *s, struct child *child)
{
    const struct chv_ipc_message message = {.kind = child->sockets, .generation = ++s->generations};
    int nets[CHV_WORKERS_MAX], others[CHV_WORKERS_MAX];
    unsigned n = 0;
    struct chv_why why = {""};
    enum chv_err err = CHV_OK;
    while (n < s->workers && err == CHV_OK) {
        int ends[2];
        err = chv_ipc_pair(ends, &why);
        if (err == CHV_OK) {
            nets[n] = ends[0];
            others[n++] = ends[1];
        }
    }
    if (err == CHV_OK)
        err = chv_ipc_send(child->control, &message, others, n);
    if (err == CHV_OK)
        err = chv_ipc_send(s->children[CHILD_NET].control, &message, nets, n);
    child->generation = message.generation;
    child->introduce_at = err == CHV_OK ? 0 : chv_clock_ms() + INTRODUCE_MS;
    if (err != CHV_OK)
        chv_log(CHV_LOG_ERROR, "cannot connect the net process to the %s: %s", child->name,
                why.text[0] != '\0' ? why.text : chv_err_text(err));
    while (n-- > 0) {
        close(nets[n]);
        close(others[n]);
    }
}

/* The registrar asks the keeper for seals by a socket that the net process has no end of. */
static void introduce_auditor(struct supervisor *s)
{
    const struct child *keeper = &s->children[CHILD_KEEPER], *registrar = &s->children[CHILD_REGISTRAR];
    const struct chv_ipc_message message = {.kind = CHV_IPC_AUDIT};
    int ends[2];
    struct chv_why why = {""};
    if (!keeper->ready || !registrar->ready)
        return;
    enum chv_err err = chv_ipc_pair(ends, &why);
    if (err == CHV_OK) {
        err = chv_ipc_send(keeper->control, &message, &ends[0], 1);
        if (err == CHV_OK)
            err = chv_ipc_send(registrar->control, &message, &ends[1], 1);
        close(ends[0]);
        close(ends[1]);
    }
    if (err != CHV_OK)
        chv_log(CHV_LOG_ERROR, "cannot connect the registrar to the keeper: the audit trail is not sealed: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
}

/* Both live, but a socket between them was lost. */
static void introduce_due(struct supervisor *s, struct child *child)
{
    if (child->introduce_at == 0 || child->introduce_at > chv_clock_ms())
        return;
    child->introduce_at = 0;
    if (!child->ready || !s->children[CHILD_NET].ready || s->draining)
        return; /* child_ready will do it */
    introduce(s, child);
    if (child->introduce_at == 0)
        chv_log(CHV_LOG_WARNING, "the net process had lost the %s: they are connected again", child->name);
}

/* All addresses, and what comes in by each; systemd shows the same. */
static void announce(struct supervisor *s)
{
    static const char *const purposes[] = {
        [CHV_PORT_BOTH] = "", [CHV_PORT_HANDSHAKE] = " for handshakes", [CHV_PORT_DATA] = " for data"};
    char status[1024] = "";
    size_t len = 0;
    s->announced = true;
    for (size_t i = 0; i < s->listeners.count; i++) {
        const struct chv_listener *l = &s->listeners.list[i];
        chv_log(CHV_LOG_INFO, "listening on %s%s", l->text, purposes[l->kind]);
        if (len < sizeof status)
            len += (size_t)snprintf(status + len, sizeof status - len, "%s%s%s", i > 0 ? ", " : "", l->text,
                                    purposes[l->kind]);
    }
    chv_supervisor_say_redirects(&s->config);
    (void)sd_notifyf(0, "READY=1\nSTATUS=listening on %s", status);
    chv_children_update(s); /* SIGHUP may have come meanwhile */
}

static void child_ready(struct supervisor *s, struct child *child)
{
    struct child *net = &s->children[CHILD_NET];
    const bool again = child == net || child->generation != 0;
    child->ready = true;
    if (child == net)
        chv_supervisor_send_allowed(s); /* before it accepts, as the next */
    if (child == net)
        chv_supervisor_send_ticket_keys(s);
    child->start_by = 0;
    if (child != net)
        introduce_auditor(s);
    if (!s->announced && child != net) {
        struct child *next = child + 1;
        while (!next->wanted) /* the net process is the last, and always */
            next++;
        chv_child_start(s, next);
        return;
    }
    /* The keeper's come last, and by them it accepts. */
    for (size_t i = CHILDREN; i-- > 0 && net->ready;)
        if (is_other(&s->children[i]) && s->children[i].ready && (child == net || child == &s->children[i]))
            introduce(s, &s->children[i]);
    if (child == net && !s->children[CHILD_KEEPER].ready) {
        /* Without a keeper too it is to accept: a 503 says more than silence. */
        const struct chv_ipc_message nobody = {.kind = CHV_IPC_KEEPERS};
        if (chv_ipc_send(net->control, &nobody, NULL, 0) != CHV_OK)
            chv_log(CHV_LOG_ERROR, "the net process cannot be told to accept");
    }
    if (!s->announced && all_ready(s))
        announce(s);
    else if (s->announced && net->ready)
        chv_log(CHV_LOG_INFO, "the %s process serves%s", child->name, again ? " again" : "");
    if (child == &s->children[CHILD_KEEPER])
        chv_supervisor_keeper_ready(s);
}

/* A loop of the net process has lost one of the sockets that it was given last. */
static void on_lost(struct supervisor *s, unsigned generation)
{
    for (size_t i = 0; i < CHILDREN; i++) {
        struct child *child = &s->children[i];
        if (is_other(child) && child->generation == generation && child->introduce_at == 0)
            child->introduce_at = chv_clock_ms() + LOST_MS;
    }
}

/* It may only be slow, or the net process may lie. */
static void on_silent(struct supervisor *s, unsigned generation)
{
    for (size_t i = 0; i < CHILDREN; i++) {
        struct child *child = &s->children[i];
        if (is_other(child) && child->generation == generation && child->answer_by == 0)
            chv_child_ping(child);
    }
}

static void on_control(struct supervisor *s, struct child *child)
{
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    enum chv_err err = chv_ipc_receive(child->control, &message, fds, &fd_count);
    if (err == CHV_ERR_NOT_FOUND)
        return;
    while (fd_count > 0)
        close(fds[--fd_count]);
    if (err != CHV_OK) { /* its end is told by SIGCHLD */
        close(child->control);
        child->control = -1;
    } else if (message.kind == CHV_IPC_READY) {
        child_ready(s, child);
    } else if (child == &s->children[CHILD_KEEPER]) {
        if (message.kind == CHV_IPC_SERVES)
            chv_supervisor_serves(s, &message.config, message.generation != 0);
        else
            chv_child_message(s, child, &message);
    } else if (child != &s->children[CHILD_NET]) {
        chv_child_message(s, child, &message);
    } else if (message.kind == CHV_IPC_LOST) {
        on_lost(s, message.generation);
    } else if (message.kind == CHV_IPC_SILENT) {
        on_silent(s, message.generation);
    }
}

/* What a child that has ended had still to say of its PIN. */
static void hear_out(struct supervisor *s, struct child *child)
{
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    while (child->control >= 0 && chv_ipc_receive(child->control, &message, fds, &fd_count) == CHV_OK) {
        while (fd_count > 0)
            close(fds[--fd_count]);
        if (child == &s->children[CHILD_KEEPER] && message.kind == CHV_IPC_REFUSED)
            chv_child_message(s, child, &message);
    }
}

static void end_text(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "exit code %d", WEXITSTATUS(status));
}

static void child_ended(struct supervisor *s, struct child *child, int status)
{
    char text[100];
    end_text(status, text, sizeof text);
    hear_out(s, child);
    child->pid = 0;
    child->ready = false;
    child->start_by = child->answer_by = 0;
    if (child->control >= 0)
        close(child->control);
    child->control = -1;
    if (s->draining) {
        if (child == &s->children[CHILD_NET])
            s->over = true;
        return;
    }
    if (!s->announced) {
        /* A first start that fails is the operator's to mend; the child has said why. */
        if (WIFSIGNALED(status) || WEXITSTATUS(status) == 0)
            chv_log(CHV_LOG_ERROR, "the %s process ended at its start: %s", child->name, text);
        s->exit_code = WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EX_SOFTWARE;
        s->over = true;
        return;
    }
    if (child == &s->children[CHILD_KEEPER] && s->renewing == RENEW_ENDS) {
        s->renewing = RENEW_STARTS;
        child->restart_at = chv_clock_ms();
        return;
    }
    if (child == &s->children[CHILD_NET] && WIFEXITED(status) && WEXITSTATUS(status) == EX_OK) {
        chv_log(CHV_LOG_INFO, "the net process made way for a fresh one");
        child->restart_at = chv_clock_ms(); /* it was asked for: no back-off */
        return;
    }
    if (child == &s->children[CHILD_CONNECTOR] && (!child->wanted || status == 0)) { /* it was let go */
        child->restart_at = child->wanted ? chv_clock_ms() : 0;
        return;
    }
    chv_log(CHV_LOG_ERROR, "the %s process ended: %s", child->name, text);
    chv_child_plan(s, child, status);
}

/* --- signals ------------------------------------------------------------------------------------------------------ */

static void on_terminate(struct supervisor *s)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_DRAIN};
    if (s->draining || !s->announced || s->children[CHILD_NET].pid == 0) {
        s->over = true;
        return;
    }
    chv_log(CHV_LOG_INFO, "ending: no new clients; a second signal ends at once");
    (void)sd_notify(0, "STOPPING=1");
    s->draining = true;
    s->drain_until = chv_clock_ms() + UINT64_C(1000) * chv_server_drain_seconds(&s->config) + DRAIN_SLACK_MS;
    chv_listeners_stop(&s->listeners);
    chv_listeners_close(&s->listeners, false);
    if (chv_ipc_send(s->children[CHILD_NET].control, &message, NULL, 0) != CHV_OK)
        s->over = true;
}

static void on_children(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < CHILDREN; i++)
            if (pid == s->children[i].pid)
                child_ended(s, &s->children[i], status);
    }
}

static void on_hangup(struct supervisor *s)
{
    chv_supervisor_reload(s);
    for (size_t i = 0; i < CHILDREN; i++)
        chv_child_hangup(&s->children[i]);
}

static void on_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            on_children(s);
        else if (info.ssi_signo == SIGHUP)
            on_hangup(s);
        else
            on_terminate(s);
    }
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int timeout_ms(const struct supervisor *s)
{
    uint64_t now = chv_clock_ms(), next = UINT64_MAX;
    for (size_t i = 0; i < CHILDREN; i++) {
        uint64_t wanted = chv_child_next(&s->children[i]);
        next = wanted < next ? wanted : next;
    }
    if (s->ticket_keys_look != 0 && s->ticket_keys_look < next)
        next = s->ticket_keys_look;
    if (s->drain_until != 0)
        next = s->drain_until; /* nobody is started again */
    if (next == UINT64_MAX)
        return NEVER;
    return next > now ? (int)(next - now) : 0;
}

static void loop(struct supervisor *s)
{
    while (!s->over) {
        struct pollfd polls[1 + CHILDREN] = {{.fd = s->signals, .events = POLLIN}};
        for (size_t i = 0; i < CHILDREN; i++)
            polls[1 + i] = (struct pollfd){.fd = s->children[i].control, .events = POLLIN};
        if (poll(polls, 1 + CHILDREN, timeout_ms(s)) < 0 && errno != EINTR) {
            chv_log(CHV_LOG_ERROR, "poll: %s", strerror(errno));
            s->exit_code = EX_OSERR;
            return;
        }
        for (size_t i = 0; i < CHILDREN; i++)
            if (polls[1 + i].revents != 0 && s->children[i].control == polls[1 + i].fd)
                on_control(s, &s->children[i]);
        if (polls[0].revents != 0)
            on_signals(s);
        for (size_t i = 0; i < CHILDREN && !s->draining; i++)
            chv_child_due(s, &s->children[i]);
        for (size_t i = 0; i < CHILDREN; i++)
            introduce_due(s, &s->children[i]);
        if (s->ticket_keys_look != 0 && chv_clock_ms() >= s->ticket_keys_look)
            chv_supervisor_look_at_ticket_keys(s);
        if (s->drain_until != 0 && chv_clock_ms() >= s->drain_until && !s->over) {
            chv_log(CHV_LOG_WARNING, "the net process does not end: it is killed");
            s->over = true;
        }
    }
}

static bool open_signals(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    (void)signal(SIGPIPE, SIG_IGN);
    /* An ignored SIGCHLD, as some parents hand it down, would reap the children unseen. */
    (void)signal(SIGCHLD, SIG_DFL);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals >= 0;
}

/* pin-hold: asked for here, once, and held for keepers to come. */
static enum chv_err hold_pin(struct supervisor *s, struct chv_why *why)
{
    if (!s->config.pin_hold || s->setup->secret_repeatable)
        return CHV_OK;
    s->pin = chv_secure_alloc(CHV_PIN_MAX);
    if (s->pin == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the passphrase");
    return s->setup->secret(s->setup->secret_arg,
                            chv_keeper_has_token(&s->config) ? "PIN of the server's token"
                                                             : "Passphrase of the server's keystore",
                            0, s->pin, CHV_PIN_MAX, &s->pin_len, why);
}

static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

int chv_supervisor_run(const struct chv_server_config *config, const struct chv_supervisor_setup *setup)
{
    struct chv_why why = {""};
    struct supervisor *s = calloc(1, sizeof *s);
    if (s == NULL)
        return EX_OSERR;
    *s = (struct supervisor){.setup = setup,
                             .config = *config,
                             .workers = chv_server_workers(config),
                             .allowed_keys = -1,
                             .signals = -1,
                             .self = getpid()};
    chv_children_init(s);
    chv_log_open("supervisor", config->log_target, config->log_level);
    if (geteuid() == 0 && config->user[0] == '\0')
        chv_log(CHV_LOG_WARNING, "runs as root: give it a user of its own with 'user = NAME' under [server]");
    raise_file_limit();
    enum chv_err err = hold_pin(s, &why);
    if (err == CHV_OK && chv_supervisor_load_allowed(s, &s->config, &why) != CHV_OK)
        err = CHV_ERR_CONFIG;
    if (err == CHV_OK && chv_supervisor_load_ticket_keys(s, config, &why) != CHV_OK)
        err = CHV_ERR_CONFIG;
    if (err == CHV_OK)
        err = chv_listeners_open(&s->listeners, config, s->workers, &why);
    if (err == CHV_OK && !open_signals(s))
        err = chv_fail(&why, CHV_ERR_IO, "signalfd: %s", strerror(errno));
    if (err == CHV_OK) {
        struct child *first = s->children;
        while (!first->wanted) /* the net process always is */
            first++;
        chv_child_start(s, first);
        loop(s);
    } else {
        chv_log(CHV_LOG_ERROR, "%s", why.text);
        s->exit_code = err == CHV_ERR_NO_SECRET ? EX_NOPERM : err == CHV_ERR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
    }
    /* Before it is ready the keeper may have the terminal without echo: SIGTERM lets it put that right. */
    chv_child_end(&s->children[CHILD_NET], SIGKILL, KEEPER_END_MS);
    chv_child_end(&s->children[CHILD_CONNECTOR], SIGKILL,
                  KEEPER_END_MS); /* one that resolves a name does not end soon */
    chv_child_end(&s->children[CHILD_REGISTRAR], 0, KEEPER_END_MS);
    chv_child_end(&s->children[CHILD_KEEPER], s->children[CHILD_KEEPER].ready ? 0 : SIGTERM, KEEPER_END_MS);
    chv_listeners_close(&s->listeners, true);
    if (s->signals >= 0)
        close(s->signals);
    if (s->allowed_keys >= 0)
        close(s->allowed_keys);
    chv_supervisor_forget_pin(s);
    chv_supervisor_forget_ticket_keys(s);
    int code = s->exit_code;
    free(s);
    return code;
}
