/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro tunnel: which tunnels, where they listen, accepting, the end. */
#include "tools/chaveiro_tunnel.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/memory.h"
#include "tools/server_config.h"
#include "tools/times.h"

enum {
    BACKLOG = 1024,
    ACCEPTS_PER_TURN = 16,
    PAUSE_MS = 200,
    MEMORY_EACH = 2 * CHV_LOOP_BUFFER /* of the pool: what each side has sent and the other one does not take */
};

/* --- accepting ---------------------------------------------------------------------------------------------------- */

bool tunnel_has_room(const struct tunnel_entry *entry)
{
    const struct tunnel_door *door = entry->door;
    return !door->stopping && door->count < door->count_max && door->pending < TUNNEL_PENDING &&
           (entry->config->connections == 0 || entry->count < entry->config->connections);
}

/* Descriptors may be free again. */
static void on_pause(uv_timer_t *timer)
{
    tunnel_settle(timer->data);
}

static void on_connections(uv_poll_t *poll, int status, int events)
{
    struct tunnel_listener *in = poll->data;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && status == 0 && tunnel_has_room(in->entry); i++) {
        static const int on = 1;
        struct sockaddr_storage address = {.ss_family = AF_UNIX};
        socklen_t len = sizeof address;
        char peer[CHV_PEER_TEXT];
        const int fd = accept4(in->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            (void)uv_poll_stop(poll);
            (void)uv_timer_start(&in->entry->door->pause, on_pause, PAUSE_MS, 0);
            return;
        }
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0)
            continue; /* ECONNABORTED and the network errors of accept(2) belong to one connection that is gone */
        if (!in->local)
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        chv_source_text((const struct sockaddr *)&address, peer);
        tunnel_local_start(in->entry, fd, peer);
    }
    tunnel_settle(in->entry->door);
}

void tunnel_settle(struct tunnel_door *door)
{
    for (size_t i = 0; i < door->entry_count; i++)
        for (size_t j = 0; j < door->entries[i].in_count; j++) {
            uv_poll_t *poll = &door->entries[i].in[j].poll;
            if (!tunnel_has_room(&door->entries[i]) || uv_is_active((uv_handle_t *)&door->pause))
                (void)uv_poll_stop(poll);
            else if (!uv_is_active((uv_handle_t *)poll))
                (void)uv_poll_start(poll, UV_READABLE, on_connections);
        }
    if (!door->stopping || door->count > 0)
        return;
    door->over = true;
    uv_stop(&door->link->loop.uv);
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    if (address->sa_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Heard on this machine only: whatever the name stands for. One that stands for nothing will not be listened on. */
static bool is_local(const char *address)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char host[CHV_LISTEN_LEN];
    bool local = true;
    if (strncmp(address, "unix:", 5) == 0)
        return true;
    (void)snprintf(host, sizeof host, "%s", address[0] == '[' ? address + 1 : address);
    char *colon = strrchr(host, ':');
    if (colon == NULL)
        return true;
    *colon = '\0';
    if (address[0] == '[' && colon > host)
        colon[-1] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
        return true;
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        local = local && is_loopback(at->ai_addr);
    freeaddrinfo(list);
    return local;
}

static enum chv_err check_safe(const struct tunnel_entry *entry, const char *address, struct chv_why *why)
{
    const struct chv_cli_args *args = entry->door->link->args;
    if (is_local(address))
        return CHV_OK;
    if (!entry->config->unsafe_listen && !chv_cli_given(args, "unsafe-listen"))
        return chv_fail(
            why, entry->config->seen != 0 ? CHV_ERR_CONFIG : CHV_ERR_ARGUMENT,
            "tunnel '%s': '%s' is not a loopback address or a unix socket: everybody who reaches it would use this "
            "client's tunnel, and what is said would cross the network in clear. If that is meant, add %s",
            entry->config->name, address,
            entry->config->seen != 0 ? "'unsafe-listen = yes' to its section" : "--unsafe-listen");
    (void)chv_cli_fail(EX_OK, "warning: tunnel '%s': %s: everybody who reaches it uses this tunnel, in clear",
                       entry->config->name, address);
    return CHV_OK;
}

static enum chv_err open_entry(struct tunnel_entry *entry, struct chv_why *why)
{
    const struct chv_client_tunnel *tunnel = entry->config;
    const char *addresses[CHV_CLIENT_TUNNEL_LISTENS];
    struct chv_server_config *config = calloc(1, sizeof *config);
    enum chv_err err = CHV_OK;
    if (config == NULL)
        return CHV_ERR_MEMORY;
    config->backlog = BACKLOG;
    config->private_sockets = true;
    for (size_t i = 0; i < tunnel->listen_count && err == CHV_OK; i++) {
        addresses[i] = tunnel->listen[i];
        err = check_safe(entry, addresses[i], why);
    }
    if (err == CHV_OK)
        err = chv_server_config_listen(config, addresses, tunnel->listen_count, why);
    if (err == CHV_OK)
        err = chv_listeners_open(&entry->listeners, config, 1, why);
    free(config);
    return err;
}

static enum chv_err start_entry(struct tunnel_entry *entry, struct chv_why *why)
{
    for (size_t i = 0; i < entry->listeners.count; i++) {
        const struct chv_listener *listener = &entry->listeners.list[i];
        struct tunnel_listener *in = &entry->in[i];
        *in = (struct tunnel_listener){
            .entry = entry, .fd = listener->fds[0], .local = listener->local, .text = listener->text};
        const int rc = uv_poll_init(&entry->door->link->loop.uv, &in->poll, in->fd);
        if (rc != 0)
            return chv_fail(why, CHV_ERR_IO, "cannot watch a listening socket: %s", uv_strerror(rc));
        in->poll.data = in;
        entry->in_count++;
        (void)uv_poll_start(&in->poll, UV_READABLE, on_connections);
    }
    return CHV_OK;
}

static enum chv_err start_listening(struct tunnel_door *door, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    for (size_t i = 0; i < door->entry_count && err == CHV_OK; i++)
        err = open_entry(&door->entries[i], why);
    for (size_t i = 0; i < door->entry_count && err == CHV_OK; i++)
        err = start_entry(&door->entries[i], why);
    return err;
}

static void stop_listening(struct tunnel_door *door)
{
    for (size_t i = 0; i < door->entry_count; i++) {
        struct tunnel_entry *entry = &door->entries[i];
        for (size_t j = 0; j < entry->in_count; j++)
            uv_close((uv_handle_t *)&entry->in[j].poll, NULL);
        entry->in_count = 0;
        chv_listeners_stop(&entry->listeners);
        chv_listeners_close(&entry->listeners, true);
    }
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void cut_off(struct tunnel_door *door)
{
    struct tunnel_local *local = door->locals;
    if (local != NULL)
        (void)chv_cli_fail(EX_OK, door->count == 1 ? "%u connection is cut off" : "%u connections are cut off",
                           door->count);
    while (local != NULL) {
        struct tunnel_local *next = local->next;
        tunnel_local_drop(local);
        local = next;
    }
    door->over = true;
    uv_stop(&door->link->loop.uv);
}

static void on_deadline(uv_timer_t *timer)
{
    cut_off(timer->data);
}

/* The first one: streams may end, but who has none yet gets none. */
static void on_signal(uv_signal_t *signal, int number)
{
    struct tunnel_door *door = signal->data;
    (void)number;
    if (door->stopping) {
        cut_off(door);
        return;
    }
    door->stopping = true;
    (void)sd_notify(0, "STOPPING=1");
    stop_listening(door);
    for (struct tunnel_local *local = door->locals, *next; local != NULL; local = next) {
        next = local->next;
        if (!local->ready)
            tunnel_local_drop(local);
    }
    (void)uv_timer_start(&door->deadline, on_deadline, door->link->timeout, 0);
    if (door->verbose && door->count > 0)
        (void)chv_cli_fail(EX_OK, "ending: connections that may still end by themselves: %u", door->count);
    tunnel_settle(door);
}

static void start_handles(struct tunnel_door *door)
{
    static const int numbers[TUNNEL_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
    uv_loop_t *loop = &door->link->loop.uv;
    (void)uv_timer_init(loop, &door->pause);
    (void)uv_timer_init(loop, &door->deadline);
    door->pause.data = door->deadline.data = door;
    for (size_t i = 0; i < TUNNEL_SIGNALS; i++) {
        (void)uv_signal_init(loop, &door->signals[i]);
        door->signals[i].data = door;
        (void)uv_signal_start(&door->signals[i], on_signal, numbers[i]);
    }
    tunnel_session_start(door);
}

static void stop_handles(struct tunnel_door *door)
{
    uv_close((uv_handle_t *)&door->pause, NULL);
    uv_close((uv_handle_t *)&door->deadline, NULL);
    for (size_t i = 0; i < TUNNEL_SIGNALS; i++)
        uv_close((uv_handle_t *)&door->signals[i], NULL);
    tunnel_session_stop(door);
}

/* --- which tunnels ------------------------------------------------------------------------------------------------ */

/* The section of the file for the tunnel that is named, if it says where to listen and --listen does not. */
static void take_section(struct chv_client_tunnels *tunnels, const char *name, bool listen_given)
{
    for (size_t i = 0; !listen_given && i < tunnels->count; i++)
        if (strcmp(tunnels->list[i].name, name) == 0 && tunnels->list[i].listen_count > 0) {
            tunnels->list[0] = tunnels->list[i];
            return;
        }
    memset(tunnels, 0, sizeof *tunnels);
    memcpy(tunnels->list[0].name, name, strlen(name) + 1);
}

/* The one that the command line names, alone: as it says with --listen, else as the file has it. */
static enum chv_err take_named(struct chv_client_tunnels *tunnels, const struct chv_cli_args *args, struct chv_why *why)
{
    const char *name = args->operands[0], *idle = chv_cli_value(args, "idle-timeout");
    struct chv_client_tunnel *tunnel = &tunnels->list[0];
    if (!chv_tunnel_name_valid(name))
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.80s' is no tunnel's name: 1 to 25 of a-z 0-9 . _ -", name);
    take_section(tunnels, name, args->repeat_count > 0);
    tunnels->count = 1;
    for (size_t i = 0; i < args->repeat_count; i++)
        if (!chv_client_tunnel_listen(tunnel, args->repeats[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT,
                            "--listen '%.100s' is not allowed; allowed: up to 16 different HOST:PORT, [V6]:PORT, "
                            "unix:/PATH",
                            args->repeats[i]);
    if (tunnel->listen_count == 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "tunnel '%s' needs --listen ADDR: where its connections come in", name);
    return idle != NULL ? chv_client_tunnel_idle(tunnel, idle, why) : CHV_OK;
}

static enum chv_err take_file(const struct chaveiro_link *link, struct chv_why *why)
{
    const struct chv_client_tunnels *tunnels = &link->config.tunnels;
    if (link->args->repeat_count > 0 || chv_cli_given(link->args, "idle-timeout"))
        return chv_fail(
            why, CHV_ERR_ARGUMENT,
            "--listen and --idle-timeout are for the tunnel that is named: chaveiro tunnel NAME --listen ADDR");
    if (tunnels->count == 0)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "%s has no section [tunnel \"NAME\"]: which tunnel? Give --config FILE with such sections, or: "
                        "chaveiro tunnel NAME --listen ADDR",
                        link->config.file[0] != '\0' ? link->config.file : "the configuration (none was read)");
    for (size_t i = 0; i < tunnels->count; i++)
        if (tunnels->list[i].listen_count == 0)
            return chv_fail(why, CHV_ERR_CONFIG, "%s: [tunnel \"%s\"] has no 'listen': where its connections come in",
                            link->config.file, tunnels->list[i].name);
    return CHV_OK;
}

static enum chv_err take_tunnels(struct tunnel_door *door, struct chv_why *why)
{
    struct chaveiro_link *link = door->link;
    enum chv_err err =
        link->args->operand_count > 0 ? take_named(&link->config.tunnels, link->args, why) : take_file(link, why);
    if (err != CHV_OK)
        return err;
    door->entry_count = link->config.tunnels.count;
    door->entries = calloc(door->entry_count, sizeof *door->entries);
    if (door->entries == NULL)
        return CHV_ERR_MEMORY;
    for (size_t i = 0; i < door->entry_count; i++) {
        door->entries[i].door = door;
        door->entries[i].config = &link->config.tunnels.list[i];
    }
    return CHV_OK;
}

/* --- the command -------------------------------------------------------------------------------------------------- */

/* Each local connection takes two. */
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

static enum chv_err run(struct tunnel_door *door, struct chv_why *why)
{
    start_handles(door);
    enum chv_err err = start_listening(door, why);
    if (err == CHV_OK)
        err = tunnel_tell_listening(door, why);
    if (err == CHV_OK)
        (void)sd_notify(0, "READY=1");
    while (err == CHV_OK && !door->over && uv_run(&door->link->loop.uv, UV_RUN_DEFAULT) != 0)
        continue;
    door->stopping = true;
    stop_listening(door);
    stop_handles(door);
    return err;
}

int chaveiro_tunnel(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    uint64_t most = TUNNEL_CONNECTIONS;
    struct tunnel_door *door = calloc(1, sizeof *door);
    if (door == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    enum chv_err err =
        chv_cli_number(args, "connections", 1, CHV_CLIENT_CONNECTIONS_MAX, TUNNEL_CONNECTIONS, &most, &why);
    if (err == CHV_OK)
        err = chaveiro_open(args, &door->link, &why);
    if (err == CHV_OK) {
        door->count_max = (unsigned)most;
        door->json = chv_cli_given(args, "json");
        door->verbose = chv_cli_given(args, "verbose");
        door->link->pool.limit += most * MEMORY_EACH;
        raise_file_limit();
        err = take_tunnels(door, &why);
        chaveiro_keep_tickets(door->link, TUNNEL_TICKETS);
        if (err == CHV_OK)
            err = run(door, &why);
        chaveiro_close(door->link); /* ends sessions that are left: their callbacks look at the door */
    }
    free(door->entries);
    chv_wipe(door, sizeof *door);
    free(door);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
