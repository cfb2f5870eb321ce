/* SPDX-License-Identifier: Apache-2.0 */
/* The net process: its loops, what they share, and the supervisor's commands to them. */
#include "config.h"

#include "net/server_internal.h"

#include "base/memory.h"
#include "net/ipc.h"
#include "net/sandbox.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    HEALTH_MS = 1000,      /* between two looks at the backend */
    DRAIN_SECONDS = 20,    /* chv_server_drain_seconds at most */
    OTHER_DESCRIPTORS = 64 /* of a process, beside connections, and as many per loop */
};

struct net_process {
    struct chv_server server;
    unsigned worker_count;
    struct chv_worker *workers;
    uv_poll_t control;
    int control_fd;
    rlim_t descriptors;   /* asked for in time: the filter does not let */
    pthread_mutex_t gate; /* held until the sandbox is there: the other threads wait behind it */
};

unsigned chv_server_workers(const struct chv_server_config *config)
{
    if (config->workers > 0)
        return config->workers;
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > CHV_WORKERS_MAX ? CHV_WORKERS_MAX : (unsigned)n;
}

unsigned chv_server_drain_seconds(const struct chv_server_config *config)
{
    unsigned seconds = config->limits.loop.handshake_seconds + config->limits.loop.stall_seconds;
    return seconds < DRAIN_SECONDS ? seconds : DRAIN_SECONDS;
}

/* --- one loop ----------------------------------------------------------------------------------------------------- */

static void stop_accepting(struct chv_worker *w)
{
    for (size_t i = 0; i < w->acceptor_count && w->accepting; i++)
        chv_acceptor_stop(&w->acceptors[i]);
    w->accepting = false;
}

void chv_server_accept(struct chv_worker *w)
{
    struct chv_why why = {""};
    if (w->accepting || w->draining)
        return;
    w->accepting = true;
    for (size_t i = 0; i < w->acceptor_count; i++) {
        w->acceptors[i].listener = &w->server->listeners->list[i];
        if (chv_acceptor_start(&w->acceptors[i], &w->loop.uv, w->listen_fds[i], w, chv_server_accepted, &why) != CHV_OK)
            chv_log(CHV_LOG_ERROR, "%s", why.text);
    }
}

static void on_drain_limit(uv_timer_t *timer)
{
    struct chv_worker *w = timer->data;
    chv_log(CHV_LOG_WARNING, "%zu clients did not go in %u s", w->loop.conn_count,
            chv_server_drain_seconds(&w->config));
    uv_stop(&w->loop.uv);
}

static void drain(struct chv_worker *w)
{
    if (w->draining)
        return;
    w->draining = true;
    stop_accepting(w);
    chv_server_drain(w);
    (void)uv_timer_start(&w->drain_limit, on_drain_limit, UINT64_C(1000) * chv_server_drain_seconds(&w->config), 0);
    if (w->conns == NULL)
        uv_stop(&w->loop.uv);
}

static void configure(struct chv_worker *w, const struct chv_server_config *config)
{
    w->config = *config;
    w->loop.limits = config->limits.loop;
    chv_tickets_configure(&w->tickets, config, w->server->suites);
    w->keeper.wait_ms = UINT64_C(500) * config->limits.loop.handshake_seconds;
}

static enum chv_err tell_of_keeper(struct chv_keeper_client *client, enum chv_ipc_kind kind)
{
    struct chv_worker *w = (struct chv_worker *)(void *)((char *)client - offsetof(struct chv_worker, keeper));
    const struct chv_ipc_message message = {.kind = kind, .generation = w->keeper_generation};
    return chv_ipc_send(w->server->control_fd, &message, NULL, 0);
}

/* While the keeper itself is gone the supervisor will know better. */
static void keeper_lost(struct chv_keeper_client *client)
{
    if (tell_of_keeper(client, CHV_IPC_LOST) != CHV_OK)
        chv_log(CHV_LOG_ERROR, "the supervisor cannot be told that the keeper's socket is lost: restart");
}

static void keeper_silent(struct chv_keeper_client *client)
{
    enum chv_err err = tell_of_keeper(client, CHV_IPC_SILENT);
    (void)err; /* it is told again */
}

static const struct chv_keeper_events keeper_events = {
    .verdict = chv_server_verdict, .refused = chv_server_refused, .lost = keeper_lost, .silent = keeper_silent};

static void on_wake(uv_async_t *async)
{
    struct chv_worker *w = async->data;
    pthread_mutex_lock(&w->mail.lock);
    bool keeper = w->mail.keeper, registrar = w->mail.registrar, connector = w->mail.connector, config = w->mail.config,
         drains = w->mail.drain, stop = w->mail.stop;
    int fd = w->mail.keeper_fd, registrar_fd = w->mail.registrar_fd, connector_fd = w->mail.connector_fd;
    unsigned generation = w->mail.keeper_generation, registrar_generation = w->mail.registrar_generation,
             connector_generation = w->mail.connector_generation;
    bool allow = w->mail.allow;
    struct chv_ticket_keys *ticket_keys = w->mail.ticket_keys;
    w->mail.ticket_keys = NULL;
    if (config)
        configure(w, &w->mail.new_config);
    if (allow) {
        chv_allowlist_unref(w->allowed);
        w->allowed = w->mail.allowed;
        w->mail.allowed = NULL;
    }
    struct chv_server_letter *letters = w->mail.letters;
    w->mail.letters = NULL;
    w->mail.last = &w->mail.letters;
    w->mail.keeper = w->mail.registrar = w->mail.connector = false;
    w->mail.config = w->mail.drain = w->mail.stop = w->mail.allow = false;
    pthread_mutex_unlock(&w->mail.lock);
    chv_server_duplicate_letters(w, letters);
    if (ticket_keys != NULL)
        chv_server_tickets_set(w, ticket_keys);
    chv_secure_free(ticket_keys, sizeof *ticket_keys);
    if (allow)
        chv_server_recheck(w);
    if (registrar) { /* before it accepts */
        w->registrar_generation = registrar_generation;
        chv_registrar_client_connect(&w->registrar, registrar_fd);
    }
    if (connector) {
        w->connector_generation = connector_generation;
        chv_connector_client_set(&w->connector, connector_fd);
    }
    if (keeper) {
        w->keeper_generation = generation;
        chv_keeper_client_connect(&w->keeper, fd);
    }
    if (keeper || (config && w->accepting))
        chv_server_tickets_renew(w); /* and accepts */
    if (drains)
        drain(w);
    if (stop)
        uv_stop(&w->loop.uv);
}

/* What on_wake will find. */
static void post(struct chv_worker *w, const struct chv_ipc_message *message, const int *fds, size_t fd_count,
                 size_t index)
{
    pthread_mutex_lock(&w->mail.lock);
    switch (message->kind) {
    case CHV_IPC_KEEPERS:
        if (w->mail.keeper && w->mail.keeper_fd >= 0)
            close(w->mail.keeper_fd);
        w->mail.keeper = true;
        w->mail.keeper_fd = index < fd_count ? fds[index] : -1;
        w->mail.keeper_generation = message->generation;
        break;
    case CHV_IPC_REGISTRARS:
        if (w->mail.registrar && w->mail.registrar_fd >= 0)
            close(w->mail.registrar_fd);
        w->mail.registrar = true;
        w->mail.registrar_fd = index < fd_count ? fds[index] : -1;
        w->mail.registrar_generation = message->generation;
        break;
    case CHV_IPC_CONNECTORS:
        if (w->mail.connector && w->mail.connector_fd >= 0)
            close(w->mail.connector_fd);
        w->mail.connector = true;
        w->mail.connector_fd = index < fd_count ? fds[index] : -1;
        w->mail.connector_generation = message->generation;
        break;
    case CHV_IPC_CONFIG:
        w->mail.config = true;
        w->mail.new_config = message->config;
        break;
    case CHV_IPC_DRAIN:
        w->mail.drain = true;
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&w->mail.lock);
    (void)uv_async_send(&w->wake);
}

/* Each loop becomes an owner of the list. */
static void post_allowed(struct chv_worker *w, struct chv_allowlist *list)
{
    pthread_mutex_lock(&w->mail.lock);
    chv_allowlist_unref(w->mail.allowed);
    w->mail.allowed = chv_allowlist_ref(list);
    w->mail.allow = true;
    pthread_mutex_unlock(&w->mail.lock);
    (void)uv_async_send(&w->wake);
}

/*
 * A backend whose device leaks says when it is enough: the clients of all loops are let go, the process ends, and the
 * supervisor, which has the listening sockets, starts a fresh one.
 */
static void on_health(uv_timer_t *timer)
{
    static const struct chv_ipc_message make_way = {.kind = CHV_IPC_DRAIN};
    struct chv_worker *w = timer->data;
    struct net_process *p = w->loop.uv.data;
    struct chv_backend_health health;
    chv_crypto_health(&w->loop.crypto, &health);
    if (!health.worn)
        return;
    (void)uv_timer_stop(timer);
    if (w->draining)
        return;
    chv_log(CHV_LOG_INFO, "backend %s has used up what its module leaks: a fresh process takes over",
            w->loop.crypto.backend->name);
    for (unsigned i = 0; i < p->worker_count; i++)
        post(&p->workers[i], &make_way, NULL, 0, 0);
}

static enum chv_err worker_init(struct chv_worker *w, struct chv_server *server, const struct chv_server_config *config,
                                unsigned index, const struct chv_listeners *listeners, struct chv_why *why)
{
    uint64_t seed;
    w->server = server;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return chv_fail(why, CHV_ERR_IO, "no random bytes");
    enum chv_err err = chv_loop_init(&w->loop, config->backend, &server->pool, &config->limits.loop, why);
    if (err != CHV_OK)
        return err;
    err = chv_keeper_client_init(&w->keeper, &w->loop.uv, config->limits.keeper_queue, seed, &keeper_events);
    if (err != CHV_OK)
        return chv_fail(why, err, "no memory for the keeper's queue");
    err = chv_server_tickets_init(w);
    if (err != CHV_OK)
        return chv_fail(why, err, "no memory for ticket keys");
    configure(w, config);
    chv_server_registry_init(w);
    chv_server_tunnel_init(w);
    (void)uv_timer_init(&w->loop.uv, &w->drain_limit);
    w->drain_limit.data = w;
    (void)uv_timer_init(&w->loop.uv, &w->health);
    w->health.data = w;
    chv_server_expiry_init(&w->expiry, &w->loop.uv, chv_server_expire);
    if (w->loop.crypto.backend->health != NULL)
        (void)uv_timer_start(&w->health, on_health, HEALTH_MS, HEALTH_MS);
    if (uv_async_init(&w->loop.uv, &w->wake, on_wake) != 0 || pthread_mutex_init(&w->mail.lock, NULL) != 0)
        return chv_fail(why, CHV_ERR_IO, "cannot make an event loop");
    w->wake.data = w;
    w->mail.last = &w->mail.letters;
    for (size_t i = 0; i < listeners->count; i++) {
        const struct chv_listener *l = &listeners->list[i];
        /* A unix socket is shared: each loop has its own descriptor of it to close, and no other stays open. */
        int fd = !l->local ? l->fds[index] : index == 0 ? l->fds[0] : dup(l->fds[0]);
        if (fd < 0)
            return chv_fail(why, CHV_ERR_IO, "no descriptor for a listening socket");
        w->listen_fds[w->acceptor_count++] = fd;
    }
    return CHV_OK;
}

/* After its loop was stopped. */
static void worker_end(struct chv_worker *w)
{
    stop_accepting(w);
    uv_close((uv_handle_t *)&w->drain_limit, NULL);
    uv_close((uv_handle_t *)&w->health, NULL);
    chv_server_expiry_close(&w->expiry);
    uv_close((uv_handle_t *)&w->wake, NULL);
    chv_server_tickets_close(w);
    chv_keeper_client_close(&w->keeper);
    chv_server_registry_close(w);
    w->draining = true;
    chv_connector_client_close(&w->connector);
    chv_loop_close(&w->loop);
    chv_tickets_free(&w->tickets);
    chv_keeper_client_free(&w->keeper);
    chv_allowlist_unref(w->allowed);
    chv_allowlist_unref(w->mail.allowed);
    w->allowed = w->mail.allowed = NULL;
    chv_secure_free(w->mail.ticket_keys, sizeof *w->mail.ticket_keys);
    w->mail.ticket_keys = NULL;
    while (w->mail.letters != NULL) {
        struct chv_server_letter *letter = w->mail.letters;
        w->mail.letters = letter->next;
        free(letter);
    }
}

static void *worker_thread(void *arg)
{
    struct chv_worker *w = arg;
    struct net_process *p = w->loop.uv.data;
    pthread_mutex_lock(&p->gate);
    pthread_mutex_unlock(&p->gate);
    (void)uv_run(&w->loop.uv, UV_RUN_DEFAULT);
    worker_end(w);
    return NULL;
}

/* --- the process -------------------------------------------------------------------------------------------------- */

/* No more connections than descriptors: one through a tunnel has two. */
static unsigned bound_connections(const struct net_process *p, unsigned wanted, bool tunnels)
{
    const rlim_t each = tunnels ? 2 : 1;
    rlim_t other = (rlim_t)OTHER_DESCRIPTORS * (p->worker_count + 1);
    if (p->descriptors == RLIM_INFINITY)
        return wanted;
    rlim_t most = p->descriptors > other + each ? (p->descriptors - other) / each : 1;
    if (wanted <= most)
        return wanted;
    chv_log(CHV_LOG_WARNING, "connections = %u, but the limit of open files leaves %lu%s", wanted, (unsigned long)most,
            tunnels ? " (one through a tunnel has two)" : "");
    return (unsigned)most;
}

static void apply_limits(struct net_process *p, const struct chv_server_config *config)
{
    chv_log_set_level(config->log_level);
    atomic_store(&p->server.most_connections,
                 bound_connections(p, config->limits.connections, config->tunnel_count > 0));
    pthread_mutex_lock(&p->server.rate_lock);
    chv_ratelimit_set(&p->server.rate, config->limits.rate, config->limits.burst);
    pthread_mutex_unlock(&p->server.rate_lock);
}

static void stop_all(struct net_process *p)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct chv_worker *w = &p->workers[i];
        pthread_mutex_lock(&w->mail.lock);
        w->mail.stop = true;
        pthread_mutex_unlock(&w->mail.lock);
        (void)uv_async_send(&w->wake);
    }
}

/* The supervisor has parsed it already: it can fail for want of memory only, and the old one stays. */
static void take_allowed(struct net_process *p, const int *fds, size_t fd_count)
{
    struct chv_allowlist *list = NULL;
    struct chv_why why = {""};
    enum chv_err err = fd_count > 0 ? chv_allowlist_receive(fds[0], "allowed-keys", &list, &why) : CHV_OK;
    for (size_t i = 0; i < fd_count; i++)
        close(fds[i]);
    if (err != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "allowed-keys stay as they were: %s",
                why.text[0] != '\0' ? why.text : chv_err_text(err));
        return;
    }
    for (unsigned i = 0; i < p->worker_count; i++)
        post_allowed(&p->workers[i], list);
    chv_allowlist_unref(list);
}

/* Each loop has a copy of its own until it has taken them over. */
static void take_ticket_keys(struct net_process *p, const struct chv_ticket_keys *keys)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct chv_worker *w = &p->workers[i];
        struct chv_ticket_keys *copy = chv_secure_alloc(sizeof *copy);
        if (copy == NULL) {
            chv_log(CHV_LOG_ERROR, "no locked memory for ticket keys: SIGHUP again, or restart");
            return;
        }
        memcpy(copy, keys, sizeof *copy);
        pthread_mutex_lock(&w->mail.lock);
        chv_secure_free(w->mail.ticket_keys, sizeof *copy);
        w->mail.ticket_keys = copy;
        pthread_mutex_unlock(&w->mail.lock);
        (void)uv_async_send(&w->wake);
    }
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct net_process *p = poll->data;
    struct chv_ipc_message message;
    int fds[CHV_WORKERS_MAX];
    size_t fd_count;
    (void)status;
    (void)events;
    enum chv_err err = chv_ipc_receive(p->control_fd, &message, fds, &fd_count);
    if (err == CHV_ERR_NOT_FOUND)
        return;
    if (err != CHV_OK) { /* the supervisor is gone */
        (void)uv_poll_stop(poll);
        stop_all(p);
        return;
    }
    if (message.kind == CHV_IPC_ALLOWED) {
        take_allowed(p, fds, fd_count);
        return;
    }
    if (message.kind == CHV_IPC_TICKET_KEYS) {
        take_ticket_keys(p, &message.keys);
        chv_wipe(&message.keys, sizeof message.keys);
        return;
    }
    if (message.kind == CHV_IPC_CONFIG)
        apply_limits(p, &message.config);
    for (unsigned i = 0; i < p->worker_count; i++)
        post(&p->workers[i], &message, fds, fd_count, i);
    for (size_t i = p->worker_count; i < fd_count; i++)
        close(fds[i]);
}

static enum chv_err choose_suites(struct net_process *p, const struct chv_server_config *config, struct chv_why *why)
{
    unsigned had = chv_server_suites(p->workers[0].loop.crypto.capabilities);
    p->server.suites = config->suites != 0 ? config->suites : had;
    enum chv_err err = chv_server_suites_check(&p->workers[0].loop.crypto, p->server.suites, why);
    if (err != CHV_OK)
        return err;
    for (unsigned i = 0; i < p->worker_count; i++)
        chv_tickets_configure(&p->workers[i].tickets, config, p->server.suites);
    if (p->server.suites == 0)
        return chv_fail(why, CHV_ERR_CONFIG, "backend %s can serve no suite", config->backend);
    return CHV_OK;
}

static enum chv_err process_init(struct net_process *p, const struct chv_server_config *config,
                                 const struct chv_server_parts *parts, const struct chv_listeners *listeners,
                                 struct chv_why *why)
{
    uint64_t seed;
    struct rlimit files;
    p->descriptors = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : RLIM_INFINITY;
    p->worker_count = chv_server_workers(config);
    p->server.parts = parts;
    p->server.listeners = listeners;
    p->server.pool.limit = config->limits.memory;
    p->workers = calloc(p->worker_count, sizeof *p->workers);
    if (p->workers == NULL || getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed ||
        pthread_mutex_init(&p->server.rate_lock, NULL) != 0 || pthread_mutex_init(&p->gate, NULL) != 0 ||
        chv_clients_init(&p->server.clients) != CHV_OK || chv_clients_init(&p->server.tunnels) != CHV_OK ||
        chv_ratelimit_init(&p->server.rate, config->limits.rate, config->limits.burst, seed) != CHV_OK)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for the net process");
    p->server.source_seed = seed;
    apply_limits(p, config);
    for (unsigned i = 0; i < p->worker_count; i++) {
        enum chv_err err = worker_init(&p->workers[i], &p->server, config, i, listeners, why);
        if (err != CHV_OK)
            return err;
        p->workers[i].loop.uv.data = p;
    }
    return choose_suites(p, config, why);
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

/* libuv starts its threads for file work at the first one, and after the system call filter none can be started. */
static enum chv_err start_file_threads(struct chv_why *why)
{
    uv_loop_t loop;
    uv_work_t work;
    int rc = uv_loop_init(&loop);
    if (rc == 0) {
        rc = uv_queue_work(&loop, &work, no_work, no_work_done);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&loop);
    }
    return rc == 0 ? CHV_OK : chv_fail(why, CHV_ERR_IO, "cannot start threads for files: %s", uv_strerror(rc));
}

/* The threads wait at the gate until the filter is on all of them: after it none can be made. */
static enum chv_err start_threads(struct net_process *p, const struct chv_server_config *config, struct chv_why *why)
{
    const bool module = strncmp(config->backend, "pkcs11", strlen("pkcs11")) == 0;
    unsigned started = 1;
    pthread_mutex_lock(&p->gate);
    enum chv_err err =
        chv_sandbox_user(config->user, why); /* capabilities are each thread's own: before there are others */
    for (const struct chv_service *const *s = p->server.parts->services; *s != NULL && err == CHV_OK; s++)
        if ((*s)->prepare != NULL)
            err = (*s)->prepare(config, why);
    if (err == CHV_OK && chv_sandbox_has_folders() && !module) /* a module's files may be anywhere */
        err = chv_sandbox_folders(why);
    if (err == CHV_OK && chv_sandbox_has_folders())
        err = start_file_threads(why);
    while (started < p->worker_count && err == CHV_OK) {
        if (pthread_create(&p->workers[started].thread, NULL, worker_thread, &p->workers[started]) == 0)
            started++;
        else
            err = chv_fail(why, CHV_ERR_IO, "cannot start a thread");
    }
    if (err == CHV_OK)
        err = chv_sandbox_enter(chv_sandbox_has_folders() ? CHV_SANDBOX_NET_FILES : CHV_SANDBOX_NET, module, why);
    if (err != CHV_OK)
        return err; /* the process ends with its threads at the gate */
    pthread_mutex_unlock(&p->gate);
    return CHV_OK;
}

static int exit_code(enum chv_err err)
{
    switch (err) {
    case CHV_ERR_PASSPHRASE: /* of the backend's token */
    case CHV_ERR_NO_SECRET:
    case CHV_ERR_STORE_MODE:
        return EX_NOPERM;
    case CHV_ERR_CONFIG:
        return EX_CONFIG;
    default:
        return EX_OSERR;
    }
}

int chv_server_main(const struct chv_server_config *config, const struct chv_server_parts *parts, int control,
                    const struct chv_listeners *listeners)
{
    const struct chv_ipc_message ready = {.kind = CHV_IPC_READY};
    struct net_process p = {.control_fd = control, .server.control_fd = control};
    struct chv_why why = {""};

    chv_sandbox_ignore_signals();
    enum chv_err err = process_init(&p, config, parts, listeners, &why);
    if (err == CHV_OK && (uv_poll_init(&p.workers[0].loop.uv, &p.control, control) != 0 ||
                          uv_poll_start(&p.control, UV_READABLE, on_control) != 0))
        err = chv_fail(&why, CHV_ERR_IO, "cannot watch the supervisor's socket");
    p.control.data = &p;
    if (err == CHV_OK)
        err = start_threads(&p, config, &why);
    if (err == CHV_OK)
        err = chv_ipc_send(control, &ready, NULL, 0);
    if (err != CHV_OK) {
        chv_log(CHV_LOG_ERROR, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
        _exit(exit_code(err));
    }
    (void)uv_run(&p.workers[0].loop.uv, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&p.control, NULL);
    worker_end(&p.workers[0]);
    for (unsigned i = 1; i < p.worker_count; i++)
        (void)pthread_join(p.workers[i].thread, NULL);
    chv_ratelimit_free(&p.server.rate);
    chv_clients_free(&p.server.clients);
    chv_clients_free(&p.server.tunnels);
    free(p.workers);
    return EX_OK;
}
