/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's children: how they start, and what is done when one ends, waits for another PIN, or hangs. */
#include "config.h"

#include "base/memory.h"
#include "net/connector.h"
#include "net/keeper.h"
#include "net/registrar.h"
#include "net/sandbox.h"
#include "net/supervisor_internal.h"
#include "p11/pin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 30000,
    STEADY_MS = 60000, /* who lived so long begins with the first back-off again */
    LOOK_MS = 1000,    /* between two looks at a PIN file */
    ANSWER_MS = 4000,  /* to answer a ping, beside CHV_KEEPER_SILENT_MS before it */
    START_MS = 20000   /* to come up with a module or a registry, without the time that a person is asked */
};

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

static int run_keeper(struct supervisor *s)
{
    chv_listeners_close(&s->listeners, false);
    chv_secret_fn secret = s->pin != NULL ? held_pin : s->setup->secret;
    void *arg = s->pin != NULL ? s : s->setup->secret_arg;
    int code = chv_keeper_main(&s->config, s->children[CHILD_KEEPER].control, secret, arg);
    chv_supervisor_forget_pin(s);
    return code;
}

static int run_registrar(struct supervisor *s)
{
    chv_listeners_close(&s->listeners, false);
    chv_supervisor_forget_pin(s);
    if (s->setup->secret_fd >= 0)
        close(s->setup->secret_fd);
    return chv_registrar_main(&s->config, s->children[CHILD_REGISTRAR].control, s->announced);
}

static int run_connector(struct supervisor *s)
{
    chv_listeners_close(&s->listeners, false);
    chv_supervisor_forget_pin(s);
    if (s->setup->secret_fd >= 0)
        close(s->setup->secret_fd);
    return chv_connector_main(&s->config, s->children[CHILD_CONNECTOR].control);
}

static int run_net(struct supervisor *s)
{
    chv_supervisor_forget_pin(s);
    if (s->setup->secret_fd >= 0)
        close(s->setup->secret_fd);
    return chv_server_main(&s->config, &s->setup->parts, s->children[CHILD_NET].control, &s->listeners);
}

/* --- what they are ------------------------------------------------------------------------------------------------ */

void chv_children_init(struct supervisor *s)
{
    static const char scheme[] = "file:";
    const struct chv_server_config *c = &s->config;
    struct child *keeper = &s->children[CHILD_KEEPER], *net = &s->children[CHILD_NET];
    s->children[CHILD_REGISTRAR] = (struct child){.name = "registrar",
                                                  .process = "chv-registrar",
                                                  .what = c->registry,
                                                  .wanted = chv_server_has_registry(c),
                                                  .run = run_registrar,
                                                  .sockets = CHV_IPC_REGISTRARS,
                                                  .files = {.noun = "password", .fd = -1},
                                                  .control = -1};
    s->children[CHILD_CONNECTOR] = (struct child){.name = "connector",
                                                  .process = "chv-connector",
                                                  .what = "the resolver",
                                                  .wanted = c->tunnel_count > 0,
                                                  .run = run_connector,
                                                  .sockets = CHV_IPC_CONNECTORS,
                                                  .files = {.noun = "configuration", .fd = -1},
                                                  .control = -1};
    *keeper = (struct child){.name = "keeper",
                             .process = "chv-keeper",
                             .what = c->keystore,
                             .wanted = !c->data_only,
                             .run = run_keeper,
                             .sockets = CHV_IPC_KEEPERS,
                             .module = chv_keeper_has_token(c),
                             .files = {.noun = chv_keeper_has_token(c) ? "PIN" : "passphrase", .fd = -1},
                             .control = -1};
    *net = (struct child){.name = "net",
                          .process = "chv-net",
                          .what = c->backend,
                          .wanted = true,
                          .run = run_net,
                          .module = strncmp(c->backend, "pkcs11", strlen("pkcs11")) == 0,
                          .files = {.noun = "PIN", .fd = -1},
                          .control = -1};
    chv_p11_pin_path(c->keystore, keeper->files.path, sizeof keeper->files.path);
    if (keeper->files.path[0] == '\0' && s->setup->secret_file != NULL)
        (void)snprintf(keeper->files.path, sizeof keeper->files.path, "%s", s->setup->secret_file);
    if (keeper->files.path[0] == '\0' && s->setup->secret_repeatable)
        keeper->files.fd = s->setup->secret_fd;
    if (strncmp(c->keystore, scheme, strlen(scheme)) == 0)
        (void)snprintf(keeper->files.store, sizeof keeper->files.store, "%s", c->keystore + strlen(scheme));
    chv_p11_pin_path(c->backend, net->files.path, sizeof net->files.path);
}

static void take_marks(const struct secret_files *files, struct secret_marks *marks)
{
    if (files->fd >= 0)
        chv_filemark_fd(files->fd, &marks->secret);
    else
        chv_filemark_path(files->path, &marks->secret);
    chv_filemark_path(files->store, &marks->store);
}

static bool same_marks(const struct secret_marks *a, const struct secret_marks *b)
{
    return chv_filemark_same(&a->secret, &b->secret) && chv_filemark_same(&a->store, &b->store);
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static void in_child(struct supervisor *s, struct child *child, int control)
{
    close(s->signals);
    if (s->allowed_keys >= 0)
        close(s->allowed_keys);
    for (size_t i = 0; i < CHILDREN; i++)
        if (s->children[i].control >= 0)
            close(s->children[i].control);
    child->control = control;
    chv_supervisor_forget_ticket_keys(s); /* the net process is sent its own */
    if (!chv_sandbox_child(child->process, (int)s->self))
        _exit(EX_OK);
    chv_log_open(child->name, s->config.log_target, s->config.log_level);
    chv_sandbox_exit(child->module, child->run(s));
}

void chv_child_start(struct supervisor *s, struct child *child)
{
    int ends[2];
    struct chv_why why = {""};
    const uint64_t now = chv_clock_ms();
    child->restart_at = child->look_at = child->start_by = child->answer_by = 0;
    child->started = now;
    child->ready = child->refused = child->left_alone = false;
    take_marks(&child->files, &child->tried); /* before it reads them: what changes from here on gives another try */
    if (chv_ipc_pair(ends, &why) != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "cannot start the %s process: %s", child->name, why.text);
        child->restart_at = now + BACKOFF_MAX_MS;
        return;
    }
    /* Configurations that follow each other find room, as far as the system lets (socket(7)). */
    const int room = 8 * (int)sizeof(struct chv_ipc_message);
    (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        in_child(s, child, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        chv_log(CHV_LOG_ERROR, "cannot start the %s process: %s", child->name, strerror(errno));
        close(ends[0]);
        child->restart_at = now + BACKOFF_MAX_MS;
        return;
    }
    child->pid = pid;
    child->control = ends[0];
    if (s->announced &&
        (child->module || child == &s->children[CHILD_REGISTRAR] || child == &s->children[CHILD_CONNECTOR]))
        child->start_by = now + START_MS;
}

/* The connector comes with the first tunnel; told by its closed socket, it goes with the last. */
void chv_children_update(struct supervisor *s)
{
    struct child *connector = &s->children[CHILD_CONNECTOR];
    const bool wanted = s->config.tunnel_count > 0;
    if (!s->announced || s->draining || wanted == connector->wanted)
        return;
    connector->wanted = wanted;
    if (wanted && connector->pid == 0) {
        chv_log(CHV_LOG_INFO, "the configuration has a tunnel: the connector process is started");
        chv_child_start(s, connector);
    } else if (!wanted) {
        chv_log(CHV_LOG_INFO, "the configuration has no tunnel any more: the connector process ends");
        if (connector->control >= 0)
            close(connector->control);
        connector->control = -1;
        connector->ready = false;
        connector->restart_at = connector->introduce_at = connector->start_by = connector->answer_by = 0;
    }
}

/* --- ending ------------------------------------------------------------------------------------------------------- */

/* Whether it would find its secret if it was started again. */
bool chv_child_restartable(const struct supervisor *s, const struct child *child)
{
    return child != &s->children[CHILD_KEEPER] || s->setup->secret_repeatable || s->pin != NULL;
}

static void say_secret_is_gone(const struct supervisor *s, const struct child *child)
{
    chv_log(CHV_LOG_ERROR,
            "the keeper needs the %s and is not kept (pin-hold = no): new clients get 503 until chaveirod is "
            "restarted",
            s->setup->secret_fd >= 0 ? "PIN, which came by a descriptor once"
            : child->module          ? "PIN, which was typed in"
                                     : "passphrase, which was typed in");
}

static void wait_for_secret(struct supervisor *s, struct child *child)
{
    const struct secret_files *files = &child->files;
    char file[PATH_MAX + 40] = "";
    if (files->path[0] != '\0')
        (void)snprintf(file, sizeof file, "%s changes or ", files->path);
    else if (files->fd >= 0)
        (void)snprintf(file, sizeof file, "the file of descriptor %d changes or ", files->fd);
    chv_log(CHV_LOG_ERROR,
            "the %s process could not use its %s (its line above says why): no %s is tried, and no %s process started, "
            "until %sSIGHUP comes; %s",
            child->name, files->noun, files->noun, child->name, file,
            child == &s->children[CHILD_KEEPER] ? "new clients get 503" : "no client is served");
    child->seen = child->tried;
    child->look_at = chv_clock_ms() + LOOK_MS;
    child->backoff_ms = 0;
}

void chv_child_plan(struct supervisor *s, struct child *child, int status)
{
    const bool refused = child->refused || (WIFEXITED(status) && WEXITSTATUS(status) == EX_NOPERM);
    const uint64_t now = chv_clock_ms();
    if (!chv_child_restartable(s, child)) {
        say_secret_is_gone(s, child);
        return;
    }
    if (refused && child == &s->children[CHILD_KEEPER] && s->pin != NULL) {
        chv_log(CHV_LOG_ERROR,
                "the keeper could not use the %s that is held (pin-hold = yes; its line above says why): it is not "
                "tried again: restart chaveirod with the right one; new clients get 503",
                child->files.noun);
        chv_supervisor_forget_pin(s);
        return;
    }
    if (refused) {
        wait_for_secret(s, child);
        return;
    }
    if (now - child->started >= STEADY_MS || child->backoff_ms == 0)
        child->backoff_ms = BACKOFF_FIRST_MS;
    else
        child->backoff_ms = child->backoff_ms * 2 < BACKOFF_MAX_MS ? child->backoff_ms * 2 : BACKOFF_MAX_MS;
    child->restart_at = now + child->backoff_ms;
}

void chv_child_end(struct child *child, int sig, int wait_ms)
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

/* --- while they live ---------------------------------------------------------------------------------------------- */

void chv_child_ping(struct child *child)
{
    const struct chv_ipc_message message = {.kind = CHV_IPC_PING, .generation = child->pings + 1};
    if (!child->ready || child->pid == 0)
        return; /* start_by holds */
    if (child->answer_by == 0)
        child->answer_by = chv_clock_ms() + ANSWER_MS;
    if (chv_ipc_send(child->control, &message, NULL, 0) == CHV_OK) /* else it has enough that it does not answer */
        child->pings++;
}

void chv_child_hangup(struct child *child)
{
    if (child->look_at == 0)
        return;
    child->look_at = 0;
    child->restart_at = chv_clock_ms();
}

void chv_child_message(struct supervisor *s, struct child *child, const struct chv_ipc_message *message)
{
    switch (message->kind) {
    case CHV_IPC_PONG:
        if (message->generation == child->pings) {
            child->answer_by = 0;
            child->left_alone = false;
        }
        break;
    case CHV_IPC_ASKS:
        if (s->announced && !child->ready && child->module)
            child->start_by = message->generation != 0 ? 0 : chv_clock_ms() + START_MS;
        break;
    case CHV_IPC_REFUSED:
        child->refused = message->generation != 0;
        if (child->refused)
            take_marks(&child->files, &child->tried);
        break;
    default:
        break;
    }
}

static void on_hang(struct supervisor *s, struct child *child)
{
    const int len = (int)strcspn(child->what, "?"); /* of a token's URI, what names it */
    const char *state = child->start_by != 0 ? "does not come up" : "does not answer";
    child->start_by = child->answer_by = 0;
    if (chv_child_restartable(s, child)) {
        chv_log(CHV_LOG_ERROR, "the %s process %s: a call to %.*s does not return: it is killed and started again",
                child->name, state, len, child->what);
        (void)kill(child->pid, SIGKILL);
        return;
    }
    if (!child->left_alone)
        chv_log(CHV_LOG_ERROR,
                "the %s process %s: a call to %.*s does not return; it is left alone, for another one would not have "
                "its %s (pin-hold = no): clients get 503; if it lasts, restart chaveirod",
                child->name, state, len, child->what, child->files.noun);
    child->left_alone = true;
}

/* A file that is being written changes more than once: two looks must see the same. */
static void look(struct supervisor *s, struct child *child)
{
    struct secret_marks now;
    take_marks(&child->files, &now);
    bool settled = same_marks(&now, &child->seen) && !same_marks(&now, &child->tried);
    child->seen = now;
    child->look_at = chv_clock_ms() + LOOK_MS;
    if (!settled)
        return;
    chv_log(CHV_LOG_INFO, "the %s has changed: the %s process is started again", child->files.noun, child->name);
    chv_child_start(s, child);
}

uint64_t chv_child_next(const struct child *child)
{
    const uint64_t times[] = {child->restart_at, child->look_at, child->start_by, child->answer_by,
                              child->introduce_at};
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (times[i] != 0 && times[i] < next)
            next = times[i];
    return next;
}

static bool due(uint64_t time)
{
    return time != 0 && time <= chv_clock_ms();
}

void chv_child_due(struct supervisor *s, struct child *child)
{
    if (due(child->start_by) || due(child->answer_by))
        on_hang(s, child);
    if (due(child->look_at))
        look(s, child);
    if (due(child->restart_at))
        chv_child_start(s, child);
}
