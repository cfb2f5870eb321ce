/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/supervisor.h"

#include "base/memory.h"
#include "net/ipc.h"
#include "net/keeper.h"
#include "net/listener.h"
#include "net/sandbox.h"

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
#include <time.h>
#include <unistd.h>

enum {
    PIN_MAX = 1024,
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 30000,
    STEADY_MS = 60000,     /* who lived so long begins with the first back-off again */
    KEEPER_END_MS = 2000,  /* to end once its socket closed */
    DRAIN_SLACK_MS = 2000, /* more than the net process gives its clients: then it is ended */
    LOST_MS = 100,         /* a lost socket often means that a process ends: wait whether it does */
    INTRODUCE_MS = 1000,   /* a failed introduction is tried again */
    NEVER = -1
};

struct child {
    const char *name;
    pid_t pid;   /* 0: not running */
    int control; /* -1 */
    bool ready;
    uint64_t started, restart_at; /* ms; restart_at 0: not planned */
    unsigned backoff_ms;
};

struct supervisor {
    const struct chv_supervisor_setup *setup;
    struct chv_server_config config; /* in effect: what a child started again is given */
    struct chv_listeners listeners;
    struct child keeper, net;
    unsigned workers;
    int signals;
    bool announced, draining, over;
    unsigned generation;   /* of the sockets between net and keeper */
    uint64_t introduce_at; /* ms: they are to get new ones; 0: not planned */
    uint64_t drain_until;  /* ms; 0: not draining */
    int exit_code;
    char *pin; /* chv_secure_alloc; NULL: none is held */
    size_t pin_len;
    pid_t self;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A chv_secret_fn: the passphrase that the supervisor asked for, in the keeper's copy of its memory. */
static enum chv_err held_pin(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                             struct chv_why *why)
{
    const struct supervisor *s = arg;
    (void)prompt;
    (void)confirm;
    if (s->pin_len > cap)
        return chv_fail(why, CHV_ERR_NO_SECRET, "the passphrase is too long");
    memcpy(out, s->pin, s->pin_len);
    *len = s->pin_len;
    return CHV_OK;
}

static void forget_pin(struct supervisor *s)
{
    chv_secure_free(s->pin, PIN_MAX);
    s->pin = NULL;
}

/* --- children ----------------------------------------------------------------------------------------------------- */

static int run_keeper(struct supervisor *s)
{
    chv_log_open("keeper", s->config.log_target, s->config.log_level);
    chv_listeners_close(&s->listeners, false);
    chv_secret_fn secret = s->pin != NULL ? held_pin : s->setup->secret;
    void *arg = s->pin != NULL ? s : s->setup->secret_arg;
    int code = chv_keeper_main(&s->config, s->keeper.control, secret, arg);
    forget_pin(s);
    return code;
}

static int run_net(struct supervisor *s)
{
    forget_pin(s);
    if (s->setup->secret_fd >= 0)
        close(s->setup->secret_fd);
    chv_log_open("net", s->config.log_target, s->config.log_level);
    return chv_server_main(&s->config, &s->setup->parts, s->net.control, &s->listeners);
}

static void start_child(struct supervisor *s, struct child *child)
{
    bool keeper = child == &s->keeper;
    struct child *other = keeper ? &s->net : &s->keeper;
    int ends[2];
    struct chv_why why = {""};
    child->restart_at = 0;
    child->started = now_ms();
    if (chv_ipc_pair(ends, &why) != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "cannot start the %s process: %s", child->name, why.text);
        child->restart_at = now_ms() + BACKOFF_MAX_MS;
        return;
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        close(s->signals);
        if (other->control >= 0)
            close(other->control);
        child->control = ends[1];
        if (!chv_sandbox_child(keeper ? "chv-keeper" : "chv-net", (int)s->self))
            _exit(EX_OK);
        bool module = chv_keeper_has_token(&s->config) || strncmp(s->config.backend, "pkcs11", strlen("pkcs11")) == 0;
        chv_sandbox_exit(module, keeper ? run_keeper(s) : run_net(s));
    }
    close(ends[1]);
    if (pid < 0) {
        chv_log(CHV_LOG_ERROR, "cannot start the %s process: %s", child->name, strerror(errno));
        close(ends[0]);
        child->restart_at = now_ms() + BACKOFF_MAX_MS;
        return;
    }
    child->pid = pid;
    child->control = ends[0];
    child->ready = false;
}

/* Gives each loop of the net process and the keeper two ends of one socket. */
static void introduce(struct supervisor *s)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_KEEPERS, .generation = ++s->generation};
    int nets[CHV_WORKERS_MAX], keepers[CHV_WORKERS_MAX];
    unsigned n = 0;
    struct chv_why why = {""};
    enum chv_err err = CHV_OK;
    while (n < s->workers && err == CHV_OK) {
        int ends[2];
        err = chv_ipc_pair(ends, &why);
        if (err == CHV_OK) {
            nets[n] = ends[0];
            keepers[n++] = ends[1];
        }
    }
    if (err == CHV_OK)
        err = chv_ipc_send(s->keeper.control, &message, keepers, n);
    if (err == CHV_OK)
        err = chv_ipc_send(s->net.control, &message, nets, n);
    s->introduce_at = err == CHV_OK ? 0 : now_ms() + INTRODUCE_MS;
    if (err != CHV_OK)
        chv_log(CHV_LOG_ERROR, "cannot connect the net process to the keeper: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
    while (n-- > 0) {
        close(nets[n]);
        close(keepers[n]);
    }
}

/* Both live, but a socket between them was lost. */
static void introduce_due(struct supervisor *s)
{
    if (s->introduce_at == 0 || s->introduce_at > now_ms())
        return;
    s->introduce_at = 0;
    if (!s->keeper.ready || !s->net.ready || s->draining)
        return; /* child_ready will do it */
    introduce(s);
    if (s->introduce_at == 0)
        chv_log(CHV_LOG_WARNING, "the net process had lost the keeper: they are connected again");
}

static void announce(struct supervisor *s)
{
    s->announced = true;
    for (size_t i = 0; i < s->listeners.count; i++)
        chv_log(CHV_LOG_INFO, "listening on %s", s->listeners.list[i].text);
    (void)sd_notify(0, "READY=1");
}

static void child_ready(struct supervisor *s, struct child *child)
{
    child->ready = true;
    if (child == &s->keeper && s->net.pid == 0 && !s->announced) {
        start_child(s, &s->net);
        return;
    }
    if (s->keeper.ready && s->net.ready) {
        introduce(s);
        if (s->announced)
            chv_log(CHV_LOG_INFO, "the %s process serves again", child->name);
        else
            announce(s);
    } else if (child == &s->net) {
        /* Without a keeper too it is to accept: a 503 says more than silence. */
        const struct chv_ipc_message nobody = {.kind = CHV_IPC_KEEPERS};
        if (chv_ipc_send(s->net.control, &nobody, NULL, 0) != CHV_OK)
            chv_log(CHV_LOG_ERROR, "the net process cannot be told to accept");
    }
}

static void take_epochs(struct chv_server_config *config, const struct chv_server_config *from)
{
    config->max_lifetime = from->max_lifetime;
    config->epoch_count = from->epoch_count;
    memcpy(config->epochs, from->epochs, sizeof config->epochs);
    config->check_count = from->check_count;
    memcpy(config->checks, from->checks, sizeof config->checks);
}

static void send_config(const struct child *child, const struct chv_server_config *config)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_CONFIG, .config = *config};
    if (child->control >= 0 && chv_ipc_send(child->control, &message, NULL, 0) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the %s process does not take the configuration: SIGHUP again, or restart", child->name);
}

/* The keeper may have refused new epochs for want of a master: what it serves now is in effect. */
static void keeper_serves(struct supervisor *s, const struct chv_server_config *config)
{
    uint64_t before = s->config.max_lifetime;
    take_epochs(&s->config, config);
    if (s->config.max_lifetime != before)
        send_config(&s->net, &s->config);
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
    } else if (message.kind == CHV_IPC_SERVES && child == &s->keeper) {
        keeper_serves(s, &message.config);
    } else if (message.kind == CHV_IPC_LOST && child == &s->net && message.generation == s->generation &&
               s->introduce_at == 0) {
        s->introduce_at = now_ms() + LOST_MS;
    }
}

static void end_text(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "exit code %d", WEXITSTATUS(status));
}

static void plan_restart(struct supervisor *s, struct child *child)
{
    if (child == &s->keeper && !s->setup->secret_repeatable && s->pin == NULL) {
        chv_log(CHV_LOG_ERROR,
                "the keeper needs the %s and is not kept (pin-hold = no): new clients get 503 until chaveirod is "
                "restarted",
                s->setup->secret_fd >= 0           ? "PIN, which came by a descriptor once"
                : chv_keeper_has_token(&s->config) ? "PIN, which was typed in"
                                                   : "passphrase, which was typed in");
        return;
    }
    uint64_t now = now_ms();
    if (now - child->started >= STEADY_MS || child->backoff_ms == 0)
        child->backoff_ms = BACKOFF_FIRST_MS;
    else
        child->backoff_ms = child->backoff_ms * 2 < BACKOFF_MAX_MS ? child->backoff_ms * 2 : BACKOFF_MAX_MS;
    child->restart_at = now + child->backoff_ms;
}

static void child_ended(struct supervisor *s, struct child *child, int status)
{
    char text[100];
    end_text(status, text, sizeof text);
    child->pid = 0;
    child->ready = false;
    if (child->control >= 0)
        close(child->control);
    child->control = -1;
    if (s->draining) {
        if (child == &s->net)
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
    if (child == &s->net && WIFEXITED(status) && WEXITSTATUS(status) == EX_OK) {
        chv_log(CHV_LOG_INFO, "the net process made way for a fresh one");
        child->restart_at = now_ms(); /* it was asked for: no back-off */
        return;
    }
    chv_log(CHV_LOG_ERROR, "the %s process ended: %s", child->name, text);
    plan_restart(s, child);
}

/* --- signals ------------------------------------------------------------------------------------------------------ */

static void on_terminate(struct supervisor *s)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_DRAIN};
    if (s->draining || !s->announced || s->net.pid == 0) {
        s->over = true;
        return;
    }
    chv_log(CHV_LOG_INFO, "ending: no new clients; a second signal ends at once");
    (void)sd_notify(0, "STOPPING=1");
    s->draining = true;
    s->drain_until = now_ms() + UINT64_C(1000) * chv_server_drain_seconds(&s->config) + DRAIN_SLACK_MS;
    chv_listeners_stop(&s->listeners);
    chv_listeners_close(&s->listeners, false);
    if (chv_ipc_send(s->net.control, &message, NULL, 0) != CHV_OK)
        s->over = true;
}

/* Keys whose change needs a restart; "" if none changed. */
static void restart_keys(const struct chv_server_config *a, const struct chv_server_config *b, char *out, size_t size)
{
    const struct {
        const char *key;
        bool changed;
    } keys[] = {
        {"name", strcmp(a->name, b->name) != 0},
        {"keystore", strcmp(a->keystore, b->keystore) != 0},
        {"passphrase-file", strcmp(a->passphrase_file, b->passphrase_file) != 0},
        {"pin-hold", a->pin_hold != b->pin_hold},
        {"listen", a->listen_count != b->listen_count || memcmp(a->listen, b->listen, sizeof a->listen) != 0},
        {"backend", strcmp(a->backend, b->backend) != 0},
        {"module", strcmp(a->module, b->module) != 0},
        {"suites", a->suites != b->suites},
        {"workers", a->workers != b->workers},
        {"user", strcmp(a->user, b->user) != 0},
        {"state", strcmp(a->state, b->state) != 0},
        {"backlog", a->backlog != b->backlog},
        {"memory", a->limits.memory != b->limits.memory},
        {"keeper-queue", a->limits.keeper_queue != b->limits.keeper_queue},
        {"target", a->log_target != b->log_target},
    };
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].changed && len < size)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", keys[i].key);
}

/* What may change while running, and needs no answer of the keeper. */
static void take_over(struct chv_server_config *config, const struct chv_server_config *new_config)
{
    size_t memory = config->limits.memory;
    unsigned keeper_queue = config->limits.keeper_queue;
    config->limits = new_config->limits;
    config->limits.memory = memory;
    config->limits.keeper_queue = keeper_queue;
    config->log_level = new_config->log_level;
}

static void on_hangup(struct supervisor *s)
{
    struct chv_why why = {""};
    char keys[300];
    struct chv_server_config *loaded = malloc(sizeof *loaded);
    if (loaded == NULL)
        return;
    enum chv_err err = s->setup->load(s->setup->load_arg, loaded, &why);
    if (err != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "the configuration stays as it was: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
        free(loaded);
        return;
    }
    restart_keys(&s->config, loaded, keys, sizeof keys);
    take_over(&s->config, loaded);
    chv_log_set_level(s->config.log_level);
    send_config(&s->net, &s->config);
    if (s->keeper.control >= 0) {
        struct chv_server_config asked = s->config; /* its epochs are in effect once the keeper says so */
        take_epochs(&asked, loaded);
        send_config(&s->keeper, &asked);
    } else {
        take_epochs(&s->config, loaded);
    }
    free(loaded);
    if (keys[0] != '\0')
        chv_log(CHV_LOG_WARNING, "configuration loaded; these take a restart: %s", keys);
    else
        chv_log(CHV_LOG_INFO, "configuration loaded");
}

static void on_children(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->keeper.pid)
            child_ended(s, &s->keeper, status);
        else if (pid == s->net.pid)
            child_ended(s, &s->net, status);
    }
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
    uint64_t now = now_ms(), next = UINT64_MAX;
    const struct child *children[] = {&s->keeper, &s->net};
    for (size_t i = 0; i < 2; i++)
        if (children[i]->restart_at != 0 && children[i]->restart_at < next)
            next = children[i]->restart_at;
    if (s->introduce_at != 0 && s->introduce_at < next)
        next = s->introduce_at;
    if (s->drain_until != 0)
        next = s->drain_until; /* nobody is started again */
    if (next == UINT64_MAX)
        return NEVER;
    return next > now ? (int)(next - now) : 0;
}

static void restart_due(struct supervisor *s)
{
    struct child *children[] = {&s->keeper, &s->net};
    for (size_t i = 0; i < 2 && !s->draining; i++)
        if (children[i]->restart_at != 0 && children[i]->restart_at <= now_ms())
            start_child(s, children[i]);
}

static void loop(struct supervisor *s)
{
    while (!s->over) {
        struct pollfd polls[] = {
            {.fd = s->signals, .events = POLLIN},
            {.fd = s->keeper.control, .events = POLLIN},
            {.fd = s->net.control, .events = POLLIN},
        };
        if (poll(polls, 3, timeout_ms(s)) < 0 && errno != EINTR) {
            chv_log(CHV_LOG_ERROR, "poll: %s", strerror(errno));
            s->exit_code = EX_OSERR;
            return;
        }
        if (polls[1].revents != 0)
            on_control(s, &s->keeper);
        if (polls[2].revents != 0 && s->net.control == polls[2].fd)
            on_control(s, &s->net);
        if (polls[0].revents != 0)
            on_signals(s);
        restart_due(s);
        introduce_due(s);
        if (s->drain_until != 0 && now_ms() >= s->drain_until && !s->over) {
            chv_log(CHV_LOG_WARNING, "the net process does not end: it is killed");
            s->over = true;
        }
    }
}

static void end_child(struct child *child, int sig, int wait_ms)
{
    if (child->control >= 0)
        close(child->control);
    child->control = -1;
    if (child->pid == 0)
        return;
    if (sig != 0)
        (void)kill(child->pid, sig);
    const struct timespec step = {.tv_nsec = 10000000};
    for (int waited = 0; waited < wait_ms; waited += 10) {
        if (waitpid(child->pid, NULL, WNOHANG) == child->pid) {
            child->pid = 0;
            return;
        }
        (void)nanosleep(&step, NULL);
    }
    (void)kill(child->pid, SIGKILL);
    (void)waitpid(child->pid, NULL, 0);
    child->pid = 0;
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
    s->pin = chv_secure_alloc(PIN_MAX);
    if (s->pin == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the passphrase");
    return s->setup->secret(s->setup->secret_arg,
                            chv_keeper_has_token(&s->config) ? "PIN of the server's token"
                                                             : "Passphrase of the server's keystore",
                            0, s->pin, PIN_MAX, &s->pin_len, why);
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
                             .keeper = {.name = "keeper", .control = -1},
                             .net = {.name = "net", .control = -1},
                             .workers = chv_server_workers(config),
                             .signals = -1,
                             .self = getpid()};
    chv_log_open("supervisor", config->log_target, config->log_level);
    if (geteuid() == 0 && config->user[0] == '\0')
        chv_log(CHV_LOG_WARNING, "runs as root: give it a user of its own with 'user = NAME' under [server]");
    raise_file_limit();
    enum chv_err err = hold_pin(s, &why);
    if (err == CHV_OK)
        err = chv_listeners_open(&s->listeners, config, s->workers, &why);
    if (err == CHV_OK && !open_signals(s))
        err = chv_fail(&why, CHV_ERR_IO, "signalfd: %s", strerror(errno));
    if (err == CHV_OK) {
        start_child(s, &s->keeper);
        loop(s);
    } else {
        chv_log(CHV_LOG_ERROR, "%s", why.text);
        s->exit_code = err == CHV_ERR_NO_SECRET ? EX_NOPERM : err == CHV_ERR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
    }
    /* Before it is ready the keeper may have the terminal without echo: SIGTERM lets it put that right. */
    end_child(&s->net, SIGKILL, KEEPER_END_MS);
    end_child(&s->keeper, s->keeper.ready ? 0 : SIGTERM, KEEPER_END_MS);
    chv_listeners_close(&s->listeners, true);
    if (s->signals >= 0)
        close(s->signals);
    forget_pin(s);
    int code = s->exit_code;
    free(s);
    return code;
}
