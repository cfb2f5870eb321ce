/* SPDX-License-Identifier: Apache-2.0 */
/* Control connections: lines in, one command at a time, replies out. */
#include "tools/chaveiro_ftp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"

/* Telnet (RFC 854): FTP's control connection may bring its commands, ABOR's IP and DM above all. */
enum { IAC = 255, IAC_WILL = 251, IAC_DONT = 254, KEEPALIVE_SECONDS = 60 };

struct reply {
    uv_write_t write;
    struct ftp_client *client;
    char bytes[];
};

static void run_lines(struct ftp_client *client);

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void on_handle_closed(uv_handle_t *handle)
{
    struct ftp_client *client = handle->data;
    if (--client->handles > 0)
        return;
    chv_wipe(client, sizeof *client); /* a password may have come in a line */
    free(client);
}

void ftp_client_close(struct ftp_client *client)
{
    struct ftp_door *door = client->door;
    if (client->closing)
        return;
    client->closing = true;
    if (client->next != NULL)
        client->next->prev = client->prev;
    if (client->prev != NULL)
        client->prev->next = client->next;
    else
        door->clients = client->next;
    door->client_count--;
    if (chv_cli_given(door->link->args, "verbose"))
        (void)chv_cli_fail(0, "%s: closed", client->peer_text);
    const bool inside = client->transfer.kind != FTP_NONE;
    ftp_transfer_forget(client);
    ftp_data_close(client, inside);
    ftp_session_drop(client, inside || client->answered != NULL);
    uv_close((uv_handle_t *)&client->timer, on_handle_closed);
    uv_close(&client->control.handle, on_handle_closed);
    ftp_settle(door);
}

void ftp_client_leave(struct ftp_client *client, const char *format, ...)
{
    struct chv_why why;
    va_list args;
    if (client->closing)
        return;
    va_start(args, format);
    (void)vsnprintf(why.text, sizeof why.text, format, args);
    va_end(args);
    ftp_reply(client, 421, "%s", why.text);
    ftp_client_close(client);
}

bool ftp_client_gone(const struct ftp_client *client)
{
    char byte;
    uv_os_fd_t fd;
    if (client->closing || uv_fileno(&client->control.handle, &fd) != 0)
        return true;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

static void on_written(uv_write_t *write, int status)
{
    struct reply *reply = (struct reply *)write;
    struct ftp_client *client = reply->client;
    free(reply);
    if (status != 0)
        ftp_client_close(client); /* does nothing while it is being closed */
    else if (!client->closing)
        run_lines(client);
}

void ftp_reply_bytes(struct ftp_client *client, const char *bytes, size_t len)
{
    if (client->closing)
        return;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    int n = uv_try_write(&client->control.stream, &buf, 1); /* behind what waits: UV_EAGAIN */
    if (n == (int)len)
        return;
    const size_t sent = n > 0 ? (size_t)n : 0;
    struct reply *reply = n >= 0 || n == UV_EAGAIN ? malloc(sizeof *reply + len - sent) : NULL;
    if (reply == NULL) {
        ftp_client_close(client);
        return;
    }
    reply->client = client;
    memcpy(reply->bytes, bytes + sent, len - sent);
    buf = uv_buf_init(reply->bytes, (unsigned)(len - sent));
    if (uv_write(&reply->write, &client->control.stream, &buf, 1, on_written) != 0) {
        free(reply);
        ftp_client_close(client);
    }
}

void ftp_reply(struct ftp_client *client, unsigned code, const char *format, ...)
{
    char line[FTP_REPLY_MAX];
    va_list args;
    int len = snprintf(line, sizeof line, "%03u ", code);
    va_start(args, format);
    (void)vsnprintf(line + len, sizeof line - (size_t)len - 2, format, args);
    va_end(args);
    size_t end = strlen(line);
    /* A reply is one line, whatever a name in it has. */
    for (size_t i = 0; i < end; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[end++] = '\r';
    line[end++] = '\n';
    ftp_reply_bytes(client, line, end);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct ftp_client *client = timer->data;
    client->timed_out(client);
}

void ftp_timer(struct ftp_client *client, uint64_t ms, void (*timed_out)(struct ftp_client *client))
{
    if (client->closing)
        return;
    client->timed_out = timed_out;
    (void)uv_timer_start(&client->timer, on_timer, ms, 0);
}

static void on_idle(struct ftp_client *client)
{
    ftp_client_leave(client, client->logged_in ? "Nothing came for too long" : "No password came in time");
}

static void wait_for_command(struct ftp_client *client)
{
    const uint64_t now = uv_now(&client->door->link->loop.uv);
    client->busy = false;
    if (client->logged_in)
        ftp_timer(client, FTP_IDLE_MS, on_idle);
    else /* a minute, whatever is sent */
        ftp_timer(client, client->login_by > now ? client->login_by - now : 0, on_idle);
}

void ftp_done(struct ftp_client *client)
{
    if (client->closing)
        return;
    wait_for_command(client);
    if (client->door->stopping)
        ftp_client_leave(client, "This program is being ended");
    else
        run_lines(client);
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct ftp_client *client = handle->data;
    (void)suggested;
    *buf = uv_buf_init(client->line + client->line_len, (unsigned)(sizeof client->line - client->line_len));
}

/* Takes what has come into the line, without Telnet's commands. */
static void take_bytes(struct ftp_client *client, size_t len)
{
    const char *in = client->line + client->line_len;
    char *out = client->line + client->line_len;
    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)in[i];
        if (client->telnet_begun) {
            client->telnet_begun = false;
            client->telnet = byte >= IAC_WILL && byte <= IAC_DONT ? 1 : 0;
        } else if (client->telnet > 0) {
            client->telnet--;
        } else if (byte == IAC) { /* never part of UTF-8 */
            client->telnet_begun = true;
        } else {
            *out++ = (char)byte;
        }
    }
    client->line_len = (size_t)(out - client->line);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct ftp_client *client = stream->data;
    (void)buf;
    if (n < 0) {
        ftp_client_close(client);
    } else if (n > 0) {
        take_bytes(client, (size_t)n);
        run_lines(client);
    }
}

/* The first line without its end; false: it is not there yet. */
static bool next_line(struct ftp_client *client, char line[FTP_LINE_MAX])
{
    const char *end = memchr(client->line, '\n', client->line_len);
    if (end == NULL)
        return false;
    const size_t used = (size_t)(end - client->line) + 1;
    size_t len = used - 1;
    if (len > 0 && client->line[len - 1] == '\r')
        len--;
    memcpy(line, client->line, len);
    line[len] = '\0';
    if (client->busy && (client->transfer.kind == FTP_NONE || !ftp_command_urgent(line)))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[0] = '\n'; /* what is no command */
    client->line_len -= used;
    memmove(client->line, client->line + used, client->line_len);
    chv_wipe(client->line + client->line_len, used);
    return true;
}

static void watch(struct ftp_client *client)
{
    const bool read = !client->closing && client->line_len < sizeof client->line &&
                      uv_stream_get_write_queue_size(&client->control.stream) < FTP_REPLIES_MAX;
    if (client->closing || read == client->reading)
        return;
    client->reading = read;
    if (!read)
        (void)uv_read_stop(&client->control.stream);
    else if (uv_read_start(&client->control.stream, on_room, on_read) != 0)
        ftp_client_close(client);
}

static void run_lines(struct ftp_client *client)
{
    char line[FTP_LINE_MAX];
    if (client->running) /* by a command's own end */
        return;
    client->running = true;
    while (!client->closing && uv_stream_get_write_queue_size(&client->control.stream) < FTP_REPLIES_MAX &&
           next_line(client, line)) {
        const bool first = client->first;
        client->first = false;
        if (first && ftp_is_http(line)) { /* a browser that a page has sent here: not even an answer */
            (void)chv_cli_fail(0, "%s: an HTTP request came to the FTP port: closed", client->peer_text);
            ftp_client_close(client);
        } else {
            ftp_command(client, line);
        }
    }
    chv_wipe(line, sizeof line);
    if (!client->closing && client->line_len == sizeof client->line &&
        memchr(client->line, '\n', sizeof client->line) == NULL) {
        ftp_reply(client, 500, "Line too long");
        ftp_client_close(client);
    }
    client->running = false;
    watch(client);
}

/* --- the beginning ------------------------------------------------------------------------------------------------ */

static int open_control(struct ftp_client *client, int fd)
{
    static const int on = 1;
    uv_loop_t *loop = &client->door->link->loop.uv;
    int rc;
    if (client->local) {
        (void)uv_pipe_init(loop, &client->control.pipe, 0);
        rc = uv_pipe_open(&client->control.pipe, fd);
    } else {
        (void)uv_tcp_init(loop, &client->control.tcp);
        /* Clients send ABOR, or the last byte of it, as urgent data: that is a part of the line, too. */
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
        rc = uv_tcp_open(&client->control.tcp, fd);
        if (rc == 0)
            (void)uv_tcp_keepalive(&client->control.tcp, 1, KEEPALIVE_SECONDS);
    }
    if (rc != 0)
        (void)close(fd);
    client->control.handle.data = client;
    (void)uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    client->handles = 2;
    return rc;
}

/* Data connections of a unix socket's client go over the loopback interface. */
static bool find_addresses(struct ftp_client *client, int fd, const struct sockaddr *peer)
{
    socklen_t len = sizeof client->own;
    client->local = peer->sa_family == AF_UNIX;
    if (client->local)
        return ftp_port_parse("127,0,0,1,0,0", &client->peer) && ftp_port_parse("127,0,0,1,0,0", &client->own);
    memcpy(&client->peer, peer, peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    return getsockname(fd, (struct sockaddr *)&client->own, &len) == 0;
}

static void refuse(int fd)
{
    static const char text[] = "421 Too many connections\r\n";
    (void)send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(fd);
}

void ftp_client_accept(struct ftp_door *door, int fd, const struct sockaddr *peer)
{
    struct ftp_client *client =
        door->client_count < door->client_max && !door->stopping ? calloc(1, sizeof *client) : NULL;
    if (client == NULL) {
        refuse(fd);
        return;
    }
    client->door = door;
    client->first = true;
    client->facts = FTP_FACTS_ALL;
    chv_source_text(peer, client->peer_text);
    bool found = find_addresses(client, fd, peer);
    client->has_owner = found && ftp_owner(fd, &client->owner);
    bool opened = open_control(client, fd) == 0;
    client->next = door->clients;
    if (door->clients != NULL)
        door->clients->prev = client;
    door->clients = client;
    door->client_count++;
    if (!found || !opened) {
        ftp_client_close(client);
        return;
    }
    if (chv_cli_given(door->link->args, "verbose"))
        (void)chv_cli_fail(0, "%s: connected", client->peer_text);
    ftp_reply(client, 220, "chaveiro: files over a secure channel");
    client->login_by = uv_now(&door->link->loop.uv) + FTP_LOGIN_MS;
    wait_for_command(client);
    watch(client);
}
