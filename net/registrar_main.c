/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/registrar.h"

#include "net/clock.h"
#include "net/ipc.h"
#include "net/keeper_audit.h"
#include "net/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    POLL_MS = 200, /* between two looks at the registry */
    TICK_MS = 1000
};

/* One loop of the net process. */
struct peer {
    int fd;        /* -1: gone */
    bool asks;     /* there is a packet of it */
    bool all;      /* it is to be told that anybody may have changed, */
    size_t unsent; /* and these bytes of answers, once its socket has room: until then it is asked nothing */
    uint8_t answers[CHV_REGISTRAR_BATCH * sizeof(struct chv_registrar_answer)];
};

struct registrar_process {
    struct chv_registrar *registrar;
    struct chv_crypto crypto;
    int control;
    int keeper; /* -1: none */
    size_t peer_count;
    struct peer peers[CHV_WORKERS_MAX];
    size_t turn;     /* whose is next */
    uint64_t ticked; /* ms */
    bool over;
};

static void lose(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
    peer->asks = peer->all = false;
    peer->unsent = 0;
}

static void close_peers(struct registrar_process *p)
{
    for (size_t i = 0; i < p->peer_count; i++)
        lose(&p->peers[i]);
    p->peer_count = 0;
}

static void lose_keeper(struct registrar_process *p)
{
    if (p->keeper >= 0)
        close(p->keeper);
    p->keeper = -1;
    chv_registrar_seal_lost(p->registrar);
}

static void take_config(struct registrar_process *p, const struct chv_server_config *config)
{
    chv_log_set_level(config->log_level);
    chv_registrar_set_epochs(p->registrar, config->epochs, config->epoch_count);
}

static void say_alive(struct registrar_process *p, unsigned generation)
{
    const struct chv_ipc_message pong = {.kind = CHV_IPC_PONG, .generation = generation};
    if (chv_ipc_send(p->control, &pong, NULL, 0) != CHV_OK)
        p->over = true;
}

static void on_control(struct registrar_process *p)
{
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    switch (chv_ipc_receive(p->control, &message, fds, &fd_count)) {
    case CHV_OK:
        break;
    case CHV_ERR_NOT_FOUND:
        return;
    default: /* the supervisor is gone, or wants this process to end */
        p->over = true;
        return;
    }
    if (message.kind == CHV_IPC_REGISTRARS) {
        close_peers(p);
        for (size_t i = 0; i < fd_count; i++)
            p->peers[i].fd = fds[i];
        p->peer_count = fd_count;
        return;
    }
    if (message.kind == CHV_IPC_AUDIT && fd_count > 0) {
        lose_keeper(p);
        p->keeper = fds[--fd_count];
    }
    while (fd_count > 0)
        close(fds[--fd_count]);
    if (message.kind == CHV_IPC_CONFIG)
        take_config(p, &message.config);
    else if (message.kind == CHV_IPC_PING)
        say_alive(p, message.generation);
}

/* False: its socket has no room now. */
static bool send_packet(struct peer *peer, const void *packet, size_t len)
{
    if (peer->fd < 0 || send(peer->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
        return false;
    if (errno != EPIPE && errno != ECONNRESET) /* these: it has ended */
        chv_log(CHV_LOG_ERROR, "a loop of the net process cannot be answered: %s: its socket is closed",
                strerror(errno));
    lose(peer);
    return true;
}

static bool send_change(struct peer *peer, const struct chv_registrar_answer *told)
{
    return send_packet(peer, told, chv_registrar_answer_size(told));
}

/*
 * A chv_registrar_changed_fn. What a peer cannot be told by name it is told by "anybody".  Not before answers that wait:
 * they are from before the change, and who gets them afterwards takes them for ones from after it.
 */
static void on_changed(void *arg, const char *id)
{
    struct registrar_process *p = arg;
    struct chv_registrar_answer told = {.status = CHV_REGISTRAR_CHANGED};
    if (id != NULL)
        memcpy(told.id, id, strnlen(id, sizeof told.id - 1));
    for (size_t i = 0; i < p->peer_count; i++)
        if (!p->peers[i].all && (p->peers[i].unsent > 0 || !send_change(&p->peers[i], &told)))
            p->peers[i].all = true;
}

/* What it has not been told yet. */
static void send_rest(struct peer *peer)
{
    const struct chv_registrar_answer all = {.status = CHV_REGISTRAR_CHANGED};
    if (peer->unsent > 0 && send_packet(peer, peer->answers, peer->unsent))
        peer->unsent = 0;
    if (peer->unsent == 0 && peer->all && send_change(peer, &all))
        peer->all = false;
}

/* The questions of one packet, as many as it returns; the answers wait. */
static size_t answer_packet(struct registrar_process *p, struct peer *peer, uint64_t now, uint64_t time)
{
    /* One more byte than the longest packet, so that a longer one is seen. */
    static uint8_t packet[CHV_REGISTRAR_BATCH * sizeof(struct chv_registrar_request) + 1];
    const size_t one = sizeof(struct chv_registrar_request);
    struct chv_registrar_answer answer;
    const ssize_t n = recv(peer->fd, packet, sizeof packet, MSG_DONTWAIT);
    peer->asks = false;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        lose(peer);
        return 0;
    }
    for (size_t at = 0; at < (size_t)n; at += one) {
        chv_registrar_answer(p->registrar, now, time, packet + at, (size_t)n - at < one ? (size_t)n - at : one,
                             &answer);
        if (answer.status == CHV_REGISTRAR_MALFORMED) {
            chv_log(CHV_LOG_ERROR,
                    "a packet of %zd bytes from the net process is none of questions: its socket is closed", n);
            lose(peer);
            return 0;
        }
        const size_t size = chv_registrar_answer_size(&answer);
        memcpy(peer->answers + peer->unsent, &answer, size);
        peer->unsent += size;
    }
    return (size_t)n / one;
}

/* A packet of each loop that asked before the registry was looked at, until a batch is full: who is left is next. */
static void answer_packets(struct registrar_process *p, uint64_t now, uint64_t time)
{
    size_t questions = 0;
    for (size_t i = 0; i < p->peer_count && questions < CHV_REGISTRAR_BATCH; i++) {
        struct peer *peer = &p->peers[p->turn++ % p->peer_count];
        if (peer->asks && peer->unsent == 0)
            questions += answer_packet(p, peer, now, time);
    }
}

/* The seal of the audit trail: the keeper's answer. */
static void take_seal(struct registrar_process *p)
{
    struct chv_keeper_audit_answer answer;
    if (p->keeper < 0)
        return;
    ssize_t n = recv(p->keeper, &answer, sizeof answer, MSG_DONTWAIT | MSG_TRUNC);
    if (n == (ssize_t)sizeof answer)
        chv_registrar_seal_answer(p->registrar, chv_clock_ms(), &answer);
    else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
        lose_keeper(p);
}

/* Its next question. */
static void ask_seal(struct registrar_process *p)
{
    struct chv_keeper_audit_request question;
    if (p->keeper >= 0 && chv_registrar_seal_ask(p->registrar, chv_clock_ms(), chv_clock_time(), &question) &&
        send(p->keeper, &question, sizeof question, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        lose_keeper(p);
}

static void serve(struct registrar_process *p, bool keeper)
{
    const uint64_t now = chv_clock_ms();
    chv_registrar_poll(p->registrar, now, on_changed, p);
    answer_packets(p, now, chv_clock_time());
    chv_registrar_settle(p->registrar, chv_clock_ms());
    for (size_t i = 0; i < p->peer_count; i++)
        send_rest(&p->peers[i]);
    if (keeper)
        take_seal(p);
    ask_seal(p);
    if (now - p->ticked >= TICK_MS) {
        p->ticked = now;
        chv_registrar_tick(p->registrar, chv_clock_ms());
    }
}

static void loop(struct registrar_process *p)
{
    struct pollfd polls[3 + CHV_WORKERS_MAX];
    while (!p->over) {
        polls[0] = (struct pollfd){.fd = p->control, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = chv_registrar_fd(p->registrar), .events = POLLIN};
        polls[2] = (struct pollfd){.fd = p->keeper, .events = POLLIN};
        for (size_t i = 0; i < p->peer_count; i++) {
            const struct peer *peer = &p->peers[i];
            polls[3 + i] = (struct pollfd){
                .fd = peer->fd,
                .events = (short)((peer->unsent > 0 ? 0 : POLLIN) | (peer->unsent > 0 || peer->all ? POLLOUT : 0))};
        }
        if (poll(polls, 3 + p->peer_count, POLL_MS) < 0 && errno != EINTR) {
            chv_log(CHV_LOG_ERROR, "poll: %s", strerror(errno));
            return;
        }
        if (polls[0].revents != 0)
            on_control(p); /* the sockets may be others now */
        else
            for (size_t i = 0; i < p->peer_count; i++)
                p->peers[i].asks = p->peers[i].fd >= 0 && (polls[3 + i].revents & ~POLLOUT) != 0;
        if (!p->over)
            serve(p, polls[2].revents != 0);
    }
}

static int exit_code(enum chv_err err)
{
    switch (err) {
    case CHV_ERR_NOT_FOUND:
        return EX_NOINPUT;
    case CHV_ERR_DAMAGED:
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

/* Asked before the user changes: that one may not be let into the folder. */
static bool deny_file_is_absent(const struct chv_server_config *config)
{
    static const char scheme[] = "revoked:";
    return strncmp(config->registry, scheme, strlen(scheme)) == 0 &&
           access(config->registry + strlen(scheme), F_OK) != 0 && errno == ENOENT;
}

int chv_registrar_main(const struct chv_server_config *config, int control, bool again)
{
    struct chv_why why = {""};
    const struct chv_ipc_message ready = {.kind = CHV_IPC_READY};
    struct registrar_process *p = calloc(1, sizeof *p);
    if (p == NULL)
        return EX_OSERR;
    p->control = control;
    p->keeper = -1;
    struct chv_registrar_setup setup = {.uri = config->registry,
                                        .state = config->state,
                                        .required = config->registry_required,
                                        .again = again,
                                        .absent = deny_file_is_absent(config),
                                        .crypto = &p->crypto,
                                        .epoch_count = config->epoch_count,
                                        .epochs = config->epochs};
    chv_sandbox_ignore_signals();
    enum chv_err err = chv_sandbox_user(config->user, &why);
    if (err == CHV_OK)
        err = chv_backend_open("openssl", &p->crypto, &why);
    if (err == CHV_OK)
        err = chv_sandbox_enter(CHV_SANDBOX_REGISTRAR, false, &why);
    if (err == CHV_OK)
        err = chv_registrar_open(&setup, chv_clock_ms(), &p->registrar, &why);
    if (err == CHV_OK)
        err = chv_ipc_send(control, &ready, NULL, 0);
    if (err == CHV_OK)
        loop(p);
    else
        chv_log(CHV_LOG_ERROR, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
    close_peers(p);
    if (p->keeper >= 0)
        close(p->keeper);
    chv_registrar_close(p->registrar);
    chv_backend_close(&p->crypto);
    free(p);
    return err == CHV_OK ? EX_OK : exit_code(err);
}
