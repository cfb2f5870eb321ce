/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper.h"

#include "base/memory.h"
#include "net/clock.h"
#include "net/ipc.h"
#include "net/keeper_audit.h"
#include "net/keeper_receipt.h"
#include "net/keeper_ticket.h"
#include "net/keeper_update.h"
#include "net/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum { LOOK_MS = 100 }; /* how long packets may be answered before the supervisor is listened to again */

struct keeper_process {
    struct chv_keeper keeper;
    int control;
    size_t net_count;
    int nets[CHV_WORKERS_MAX];
    int registrar;   /* its socket, -1: none */
    unsigned sets;   /* of sockets, that came so far */
    uint64_t looked; /* at the supervisor's socket: ms */
    bool refused;    /* as the supervisor knows it */
    bool over;
    chv_secret_fn secret;
    void *secret_arg;
};

/* To the supervisor; a failure ends the loop. */
static void say(struct keeper_process *p, enum chv_ipc_kind kind, unsigned generation)
{
    const struct chv_ipc_message message = {.kind = kind, .generation = generation};
    if (chv_ipc_send(p->control, &message, NULL, 0) != CHV_OK)
        p->over = true;
}

/* A chv_secret_fn: the supervisor does not count the time that a person takes. */
static enum chv_err ask(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                        struct chv_why *why)
{
    struct keeper_process *p = arg;
    say(p, CHV_IPC_ASKS, 1);
    enum chv_err err = p->secret(p->secret_arg, prompt, confirm, out, cap, len, why);
    say(p, CHV_IPC_ASKS, 0);
    return err;
}

static void close_nets(struct keeper_process *p)
{
    for (size_t i = 0; i < p->net_count; i++)
        if (p->nets[i] >= 0)
            close(p->nets[i]);
    p->net_count = 0;
}

static void lose_registrar(struct keeper_process *p)
{
    if (p->registrar >= 0)
        close(p->registrar);
    p->registrar = -1;
}

/* Answers each one, in order, so that the supervisor knows what is in effect however many are on their way. */
static void configure(struct keeper_process *p, struct chv_ipc_message *message)
{
    struct chv_why why = {""};
    chv_log_set_level(message->config.log_level);
    enum chv_err err = chv_keeper_configure(&p->keeper, &message->config, &why);
    const bool again = err != CHV_OK && p->keeper.lacks && message->generation == 0;
    if (err != CHV_OK && !again)
        chv_log(CHV_LOG_ERROR, "epochs and max-lifetime stay as they were: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
    message->generation = again;
    message->kind = CHV_IPC_SERVES;
    message->config.epoch_count = p->keeper.epoch_count;
    memcpy(message->config.epochs, p->keeper.epochs, sizeof message->config.epochs);
    message->config.check_count = p->keeper.check_count;
    memcpy(message->config.checks, p->keeper.checks, sizeof message->config.checks);
    message->config.max_lifetime = p->keeper.max_lifetime;
    message->config.update = p->keeper.update;
    message->config.update_to = p->keeper.update_to;
    if (chv_ipc_send(p->control, message, NULL, 0) != CHV_OK)
        p->over = true;
}

static void on_control(struct keeper_process *p)
{
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    p->looked = chv_clock_ms();
    switch (chv_ipc_receive(p->control, &message, fds, &fd_count)) {
    case CHV_OK:
        break;
    case CHV_ERR_NOT_FOUND:
        return;
    default: /* the supervisor is gone, or wants this process to end */
        p->over = true;
        return;
    }
    if (message.kind == CHV_IPC_KEEPERS) {
        close_nets(p);
        memcpy(p->nets, fds, fd_count * sizeof(int));
        p->net_count = fd_count;
        p->sets++;
        return;
    }
    if (message.kind == CHV_IPC_AUDIT && fd_count > 0) {
        lose_registrar(p);
        p->registrar = fds[--fd_count];
    }
    while (fd_count > 0)
        close(fds[--fd_count]);
    if (message.kind == CHV_IPC_CONFIG)
        configure(p, &message);
    else if (message.kind == CHV_IPC_PING)
        say(p, CHV_IPC_PONG, message.generation);
}

static void tell_refused(struct keeper_process *p)
{
    if (p->refused == p->keeper.refused)
        return;
    p->refused = p->keeper.refused;
    say(p, CHV_IPC_REFUSED, p->refused);
}

static bool serve_update(struct keeper_process *p, int net, const uint8_t *packet)
{
    struct chv_keeper_update_answer answer;
    chv_keeper_update(&p->keeper, chv_clock_time(), packet, &answer);
    tell_refused(p);
    return send(net, &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool serve_receipt(struct keeper_process *p, int net, const uint8_t *packet)
{
    struct chv_keeper_receipt_answer answer;
    chv_keeper_receipt(&p->keeper, chv_clock_time(), packet, &answer);
    tell_refused(p);
    return send(net, &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool serve_ticket(struct keeper_process *p, int net, const uint8_t *packet)
{
    struct chv_keeper_ticket_answer answer;
    chv_keeper_ticket(&p->keeper, chv_clock_time(), packet, &answer);
    tell_refused(p);
    ssize_t sent = send(net, &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL);
    chv_wipe(&answer, sizeof answer);
    return sent >= 0;
}

/* False: this loop of the net process is gone, or misbehaves; the socket is to be closed. */
static bool serve(struct keeper_process *p, int net)
{
    /* One more byte than the longest packet, so that a longer one is seen. */
    static uint8_t packet[CHV_KEEPER_BATCH * sizeof(struct chv_keeper_request) + 1];
    struct chv_keeper_answer answers[CHV_KEEPER_BATCH];
    size_t count = 0;
    ssize_t n = recv(net, packet, sizeof packet, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    if (chv_keeper_is_update(packet, (size_t)n))
        return serve_update(p, net, packet);
    if (chv_keeper_is_receipt(packet, (size_t)n))
        return serve_receipt(p, net, packet);
    if (chv_keeper_is_ticket(packet, (size_t)n))
        return serve_ticket(p, net, packet);
    if (chv_keeper_answer(&p->keeper, chv_clock_time(), packet, (size_t)n, answers, &count) != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "a packet of %zd bytes from the net process is none of requests: its socket is closed",
                n);
        return false;
    }
    tell_refused(p);
    /* The asker bounds what it has outstanding so that answers always fit: one who does not read is at fault. */
    ssize_t sent = send(net, answers, count * sizeof answers[0], MSG_DONTWAIT | MSG_NOSIGNAL);
    chv_wipe(answers, sizeof answers);
    return sent >= 0;
}

static void serve_registrar(struct keeper_process *p)
{
    struct chv_keeper_audit_request question;
    struct chv_keeper_audit_answer answer;
    ssize_t n = recv(p->registrar, &question, sizeof question, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool good = n > 0 && chv_keeper_audit(&p->keeper, chv_clock_time(), &question, (size_t)n, &answer) == CHV_OK;
    if (n > 0 && !good)
        chv_log(CHV_LOG_ERROR, "a packet of %zd bytes from the registrar is no question: its socket is closed", n);
    if (good)
        tell_refused(p);
    if (!good || send(p->registrar, &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        lose_registrar(p);
}

static void serve_all(struct keeper_process *p, const struct pollfd *polls, size_t n)
{
    const unsigned sets = p->sets;
    for (size_t i = 0; i < n && p->sets == sets && !p->over; i++) {
        if (polls[i].revents != 0 && !serve(p, p->nets[i])) {
            close(p->nets[i]);
            p->nets[i] = -1; /* poll passes over it */
        }
        if (chv_clock_ms() - p->looked >=
            LOOK_MS) /* a slow token: who asks whether this process lives is not to wait */
            on_control(p);
    }
}

static void loop(struct keeper_process *p)
{
    struct pollfd polls[2 + CHV_WORKERS_MAX];
    while (!p->over) {
        size_t n = p->net_count;
        polls[0] = (struct pollfd){.fd = p->control, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = p->registrar, .events = POLLIN};
        for (size_t i = 0; i < n; i++)
            polls[2 + i] = (struct pollfd){.fd = p->nets[i], .events = POLLIN};
        int ready = poll(polls, 2 + n, CHV_CLOCKMARK_INTERVAL * 1000);
        p->looked = chv_clock_ms();
        if (ready < 0) {
            if (errno == EINTR)
                continue;
            chv_log(CHV_LOG_ERROR, "poll: %s", strerror(errno));
            return;
        }
        if (ready == 0)
            chv_keeper_watch_clock(&p->keeper, chv_clock_time());
        if (polls[0].revents != 0) {
            on_control(p); /* first: what comes behind it is answered by it; the sockets may be others now */
            continue;
        }
        serve_all(p, polls + 2, n);
        if (polls[1].revents != 0 && p->registrar == polls[1].fd && !p->over) /* behind the clients */
            serve_registrar(p);
    }
}

static int exit_code(enum chv_err err)
{
    switch (err) {
    case CHV_ERR_NOT_FOUND:
        return EX_NOINPUT;
    case CHV_ERR_PASSPHRASE:
    case CHV_ERR_NO_SECRET:
    case CHV_ERR_STORE_MODE:
        return EX_NOPERM;
    case CHV_ERR_STORE_TRUNCATED:
    case CHV_ERR_STORE_DAMAGED:
    case CHV_ERR_STORE_FORMAT:
    case CHV_ERR_STORE_COST:
        return EX_DATAERR;
    case CHV_ERR_IO:
    case CHV_ERR_MEMORY:
        return EX_OSERR;
    case CHV_ERR_BUSY:
    case CHV_ERR_UNAVAILABLE:
        return EX_TEMPFAIL;
    default:
        return EX_CONFIG;
    }
}

int chv_keeper_main(const struct chv_server_config *config, int control, chv_secret_fn secret, void *secret_arg)
{
    struct keeper_process p = {.control = control, .registrar = -1, .secret = secret, .secret_arg = secret_arg};
    struct chv_why why = {""};
    const struct chv_ipc_message ready = {.kind = CHV_IPC_READY};
    struct chv_ipc_message serves = {.kind = CHV_IPC_SERVES, .config = *config};
    const bool token = chv_keeper_has_token(config);

    /* A token's module opens its files again at every use: it must be able to as who it will be then. */
    enum chv_err err = token ? chv_sandbox_user(config->user, &why) : CHV_OK;
    if (err == CHV_OK)
        err = chv_keeper_open(&p.keeper, config, ask, &p, &serves.config.identity, &why);
    if (err == CHV_OK) {
        chv_sandbox_ignore_signals();
        if (!token)
            err = chv_sandbox_user(config->user, &why);
        if (err == CHV_OK)
            err = chv_clockmark_open(&p.keeper.mark, config->state, &why);
        if (err == CHV_OK) {
            err = chv_clockmark_check(&p.keeper.mark, chv_clock_time(), &why);
            if (err == CHV_ERR_UNAVAILABLE) {
                /* It may be set right while this runs: until then every answer is 503. */
                chv_log(CHV_LOG_ERROR, "no client is served: %s", why.text);
                err = CHV_OK;
            }
        }
        if (err == CHV_OK)
            err = chv_sandbox_enter(CHV_SANDBOX_KEEPER, token, &why);
        if (err == CHV_OK && serves.config.identity.there) /* the net process must know it from its start */
            err = chv_ipc_send(control, &serves, NULL, 0);
        if (err == CHV_OK)
            err = chv_ipc_send(control, &ready, NULL, 0);
        if (err == CHV_OK)
            loop(&p);
        close_nets(&p);
        lose_registrar(&p);
        chv_keeper_close(&p.keeper);
    }
    if (err != CHV_OK)
        chv_log(CHV_LOG_ERROR, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
    return err == CHV_OK ? EX_OK : exit_code(err);
}
