/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro ftp: what it listens on, its password, its end. */
#include "tools/chaveiro_ftp.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/encode.h"
#include "base/memory.h"
#include "tools/server_config.h"

enum {
    CLIENTS = 32,
    CLIENTS_MAX = 200, /* four descriptors each */
    BACKLOG = 64,
    PASSWORD_BYTES = 16,
    TICK_MS = 1000,
    END_MS = 10000,        /* for transfers that are under way when it is told to end */
    MEMORY_EACH = 1 << 20, /* of the pool: what was read of a channel in one go, and waits */
    PASSWORD_LEAST = 8
};

static const char ftp_listen[] = "127.0.0.1:2121";

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* What is surely heard on this machine only. */
static bool is_local(const char *address)
{
    struct sockaddr_storage parsed;
    char text[CHV_LISTEN_LEN + 8];
    const bool v6 = address[0] == '[';
    const size_t host = strcspn(address, v6 ? "]" : ":");
    bool other;
    if (strncmp(address, "unix:", 5) == 0)
        return true;
    (void)snprintf(text, sizeof text, "|%c|%.*s|1|", v6 ? '2' : '1', (int)(host - v6), address + v6);
    return ftp_eprt_parse(text, &parsed, &other) && ftp_is_loopback(&parsed);
}

static enum chv_err open_listeners(struct ftp_door *door, struct chv_why *why)
{
    const struct chv_cli_args *args = door->link->args;
    const char *one[] = {ftp_listen};
    const char *const *addresses = args->repeat_count > 0 ? args->repeats : one; /* only --listen repeats */
    const size_t count = args->repeat_count > 0 ? args->repeat_count : 1;
    struct chv_server_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return CHV_ERR_MEMORY;
    config->backlog = BACKLOG;
    config->private_sockets = true;
    enum chv_err err = chv_server_config_listen(config, addresses, count, why);
    if (err == CHV_ERR_CONFIG) /* not of a file here */
        err = CHV_ERR_ARGUMENT;
    for (size_t i = 0; i < count && err == CHV_OK; i++) {
        if (is_local(addresses[i]))
            continue;
        if (!chv_cli_given(args, "unsafe-listen"))
            err = chv_fail(why, CHV_ERR_ARGUMENT,
                           "--listen '%s' is not 127.0.0.1, [::1] or a unix socket: files and password would cross the "
                           "network in clear. If that is meant, add --unsafe-listen",
                           addresses[i]);
        else
            (void)chv_cli_fail(EX_OK, "warning: %s: files and password cross the network in clear", addresses[i]);
    }
    if (err == CHV_OK)
        err = chv_listeners_open(&door->listeners, config, 1, why);
    free(config);
    return err;
}

static void on_accepted(struct chv_acceptor *acceptor, int fd, const struct sockaddr *peer)
{
    ftp_client_accept(acceptor->owner, fd, peer);
}

static enum chv_err start_listeners(struct ftp_door *door, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    for (size_t i = 0; i < door->listeners.count && err == CHV_OK; i++) {
        struct chv_listener *listener = &door->listeners.list[i];
        listener->fd_count = 0; /* the acceptor's from now on */
        err = chv_acceptor_start(&door->acceptors[i], &door->link->loop.uv, listener->fds[0], door, on_accepted, why);
        door->acceptor_count++;
    }
    return err;
}

static void stop_listeners(struct ftp_door *door)
{
    for (size_t i = 0; i < door->acceptor_count; i++)
        chv_acceptor_stop(&door->acceptors[i]);
    door->acceptor_count = 0;
    chv_listeners_close(&door->listeners, true);
}

/* --- the password ------------------------------------------------------------------------------------------------- */

static enum chv_err read_password(struct ftp_door *door, const char *file, struct chv_why *why)
{
    struct chv_secret_source source = chv_secret_source(file, "--password-file", NULL);
    source.noun = "password";
    enum chv_err err =
        chv_secret_get(&source, "Password: ", 0, door->password, CHV_PASSPHRASE_MAX, &door->password_len, why);
    if (err == CHV_OK &&
        (door->password_len < PASSWORD_LEAST || memchr(door->password, '\0', door->password_len) != NULL))
        err = chv_fail(why, CHV_ERR_ARGUMENT, "--password-file: at least %d characters, and none of them NUL",
                       PASSWORD_LEAST);
    for (size_t i = 0; i < door->password_len && err == CHV_OK; i++)
        if ((unsigned char)door->password[i] < 0x20 || door->password[i] == 0x7f ||
            (unsigned char)door->password[i] == 0xff)
            err = chv_fail(why, CHV_ERR_ARGUMENT, "--password-file: FTP takes no control characters in a password");
    return err;
}

static enum chv_err make_password(struct ftp_door *door)
{
    uint8_t random[PASSWORD_BYTES];
    enum chv_err err = chv_crypto_random(&door->link->loop.crypto, random, sizeof random);
    if (err == CHV_OK) {
        chv_hex_encode(random, sizeof random, door->password);
        door->password_len = 2 * sizeof random;
    }
    chv_wipe(random, sizeof random);
    return err;
}

static enum chv_err set_password(struct ftp_door *door, struct chv_why *why)
{
    const char *file = chv_cli_value(door->link->args, "password-file");
    door->password = chv_secure_alloc(CHV_PASSPHRASE_MAX);
    if (door->password == NULL)
        return CHV_ERR_MEMORY;
    return file != NULL ? read_password(door, file, why) : make_password(door);
}

/* Where it listens, and the password of this run: the one place where that is to be read. */
static enum chv_err tell(const struct ftp_door *door, struct chv_why *why)
{
    const bool generated = !chv_cli_given(door->link->args, "password-file");
    if (chv_cli_given(door->link->args, "json")) {
        json_t *list = json_array();
        for (size_t i = 0; i < door->listeners.count; i++)
            (void)json_array_append_new(list, json_string(door->listeners.list[i].text));
        json_t *told = json_pack("{s:o}", "listening", list);
        if (generated)
            (void)json_object_set_new(told, "password", json_string(door->password));
        chv_cli_print(told, true);
    } else {
        for (size_t i = 0; i < door->listeners.count; i++)
            (void)printf("listening on %s\n", door->listeners.list[i].text);
        if (generated)
            (void)printf("password of this run, for any user name: %s\n", door->password);
    }
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return CHV_OK;
    return chv_fail(why, CHV_ERR_IO, "where it listens cannot be said: standard output: %s", strerror(errno));
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void ftp_settle(struct ftp_door *door)
{
    if (!door->stopping || door->client_count > 0 || door->session_count > 0)
        return;
    door->over = true;
    uv_stop(&door->link->loop.uv);
}

static void cut_off(struct ftp_door *door)
{
    while (door->clients != NULL)
        ftp_client_close(door->clients);
    door->over = true;
    uv_stop(&door->link->loop.uv);
}

static void on_deadline(uv_timer_t *timer)
{
    cut_off(timer->data);
}

/* The first one: what is under way may finish. */
static void on_signal(uv_signal_t *signal, int number)
{
    struct ftp_door *door = signal->data;
    (void)number;
    if (door->stopping) {
        cut_off(door);
        return;
    }
    door->stopping = true;
    stop_listeners(door);
    (void)uv_timer_start(&door->deadline, on_deadline, END_MS, 0);
    for (struct ftp_client *client = door->clients, *next; client != NULL; client = next) {
        next = client->next;
        if (!client->busy)
            ftp_client_leave(client, "This program is being ended");
    }
    ftp_settle(door);
}

static void on_tick(uv_timer_t *timer)
{
    ftp_tick(timer->data);
}

static void start_handles(struct ftp_door *door)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    uv_loop_t *loop = &door->link->loop.uv;
    uv_timer_t *timers[] = {&door->tick, &door->deadline, &door->retry};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        (void)uv_timer_init(loop, timers[i]);
        timers[i]->data = door;
    }
    (void)uv_timer_start(&door->tick, on_tick, TICK_MS, TICK_MS);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)uv_signal_init(loop, &door->signals[i]);
        door->signals[i].data = door;
        (void)uv_signal_start(&door->signals[i], on_signal, numbers[i]);
    }
}

static void stop_handles(struct ftp_door *door)
{
    uv_close((uv_handle_t *)&door->tick, NULL);
    uv_close((uv_handle_t *)&door->deadline, NULL);
    uv_close((uv_handle_t *)&door->retry, NULL);
    for (size_t i = 0; i < sizeof door->signals / sizeof door->signals[0]; i++)
        uv_close((uv_handle_t *)&door->signals[i], NULL);
}

/* --- the command -------------------------------------------------------------------------------------------------- */

static enum chv_err run(struct ftp_door *door, struct chv_why *why)
{
    start_handles(door);
    enum chv_err err = open_listeners(door, why);
    if (err == CHV_OK)
        err = start_listeners(door, why);
    if (err == CHV_OK)
        err = tell(door, why);
    if (err == CHV_OK) {
        while (!door->over && uv_run(&door->link->loop.uv, UV_RUN_DEFAULT) != 0)
            continue;
    }
    stop_listeners(door);
    stop_handles(door);
    return err;
}

int chaveiro_ftp(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    uint64_t most = CLIENTS;
    struct ftp_door *door = calloc(1, sizeof *door);
    if (door == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    enum chv_err err = chv_cli_number(args, "max-clients", 1, CLIENTS_MAX, CLIENTS, &most, &why);
    if (err == CHV_OK)
        err = chaveiro_open(args, &door->link, &why);
    if (err == CHV_OK) {
        door->client_max = (unsigned)most;
        door->link->pool.limit += most * MEMORY_EACH;
        chaveiro_keep_tickets(door->link,
                              (unsigned)most < CHV_OPEN_TICKETS_MAX ? (unsigned)most : CHV_OPEN_TICKETS_MAX);
        err = set_password(door, &why);
        if (err == CHV_OK)
            err = run(door, &why);
        chaveiro_close(door->link); /* ends sessions that are left: their callbacks look at the door */
    }
    chv_secure_free(door->password, CHV_PASSPHRASE_MAX);
    free(door);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
