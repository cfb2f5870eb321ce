/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data connections: one for each transfer, with the host of the control connection and nobody else. It outlives its
 * client by the turn of the loop that libuv takes to close it.
 */
#include "tools/chaveiro_ftp.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"

struct ftp_data {
    struct ftp_client *client; /* NULL: it is being closed */
    uv_tcp_t listener;
    uv_tcp_t *stream; /* NULL: none; freed when it is closed */
    uv_timer_t timer; /* until it is open */
    uv_connect_t connect;
    unsigned handles;
    bool listens; /* the listener is open */
    bool open, wanted, passive, reading;
    unsigned writes;
    struct sockaddr_storage to;
};

struct piece {
    uv_write_t write;
    struct ftp_data *data;
    size_t len;
    uint8_t bytes[];
};

static void on_handle_closed(uv_handle_t *handle)
{
    struct ftp_data *data = handle->data;
    if (--data->handles == 0)
        free(data);
}

static void on_stream_closed(uv_handle_t *handle)
{
    struct ftp_data *data = handle->data;
    free(handle);
    if (--data->handles == 0)
        free(data);
}

static void close_stream(uv_tcp_t *stream, bool reset)
{
    if (!reset || uv_tcp_close_reset(stream, on_stream_closed) != 0)
        uv_close((uv_handle_t *)stream, on_stream_closed);
}

static void close_listener(struct ftp_data *data)
{
    if (data->listens)
        uv_close((uv_handle_t *)&data->listener, on_handle_closed);
    data->listens = false;
}

void ftp_data_close(struct ftp_client *client, bool reset)
{
    struct ftp_data *data = client->data;
    if (data == NULL)
        return;
    client->data = NULL;
    data->client = NULL;
    close_listener(data);
    uv_close((uv_handle_t *)&data->timer, on_handle_closed);
    if (data->stream != NULL)
        close_stream(data->stream, reset);
    data->stream = NULL;
}

static struct ftp_data *data_new(struct ftp_client *client)
{
    struct ftp_data *data = calloc(1, sizeof *data);
    ftp_data_close(client, false);
    if (data == NULL)
        return NULL;
    (void)uv_timer_init(&client->door->link->loop.uv, &data->timer);
    data->timer.data = data;
    data->handles = 1;
    data->client = client;
    client->data = data;
    return data;
}

/* NULL: no memory. */
static uv_tcp_t *new_stream(struct ftp_data *data)
{
    uv_tcp_t *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    (void)uv_tcp_init(&data->client->door->link->loop.uv, stream);
    stream->data = data;
    data->handles++;
    return stream;
}

static void failed(struct ftp_data *data, const char *text)
{
    struct ftp_client *client = data->client;
    const bool wanted = data->wanted;
    ftp_data_close(client, true);
    if (wanted)
        ftp_transfer_broken(client, 425, text);
}

static void on_timer(uv_timer_t *timer)
{
    failed(timer->data, "The data connection did not come");
}

static void is_open(struct ftp_data *data)
{
    data->open = true;
    (void)uv_timer_stop(&data->timer);
    (void)uv_tcp_nodelay(data->stream, 1);
    if (data->wanted)
        ftp_transfer_open(data->client);
}

/* --- passive ------------------------------------------------------------------------------------------------------ */

/* From the host of the control connection and, if that is this one, of the same user. */
static bool is_meant(const struct ftp_client *client, uv_tcp_t *stream, const struct sockaddr_storage *peer)
{
    const char *other = NULL;
    uv_os_fd_t fd;
    uid_t owner;
    if (!ftp_same_host(peer, &client->peer))
        other = "address";
    else if (client->has_owner && (uv_fileno((const uv_handle_t *)stream, &fd) != 0 || !ftp_owner(fd, &owner) ||
                                   owner != client->owner)) /* whose it was before it was closed cannot be known */
        other = "user";
    if (other != NULL)
        (void)chv_cli_fail(0, "%s: a data connection came from another %s: closed", client->peer_text, other);
    return other == NULL;
}

/* Whoever comes from elsewhere is let go, and the one who is meant goes on being waited for. */
static void on_connection(uv_stream_t *listener, int status)
{
    struct ftp_data *data = listener->data;
    struct sockaddr_storage peer;
    int len = sizeof peer;
    if (status != 0 || data->client == NULL || data->stream != NULL)
        return;
    uv_tcp_t *stream = new_stream(data);
    if (stream == NULL) {
        failed(data, "No memory for a data connection");
        return;
    }
    if (uv_accept(listener, (uv_stream_t *)stream) != 0 ||
        uv_tcp_getpeername(stream, (struct sockaddr *)&peer, &len) != 0) {
        close_stream(stream, false);
    } else if (!is_meant(data->client, stream, &peer)) {
        close_stream(stream, true);
    } else {
        data->stream = stream;
        close_listener(data);
        is_open(data);
    }
}

bool ftp_data_listen(struct ftp_client *client, int family, struct sockaddr_storage *address)
{
    struct ftp_data *data = data_new(client);
    int len = sizeof *address;
    if (data == NULL)
        return false;
    *address = client->own;
    if (family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = 0;
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = 0;
    (void)uv_tcp_init(&client->door->link->loop.uv, &data->listener);
    data->listener.data = data;
    data->handles++;
    data->listens = data->passive = true;
    if (uv_tcp_bind(&data->listener, (const struct sockaddr *)address, 0) != 0 ||
        uv_listen((uv_stream_t *)&data->listener, 1, on_connection) != 0 ||
        uv_tcp_getsockname(&data->listener, (struct sockaddr *)address, &len) != 0) {
        ftp_data_close(client, false);
        return false;
    }
    (void)uv_timer_start(&data->timer, on_timer, client->door->link->timeout, 0);
    return true;
}

/* --- active ------------------------------------------------------------------------------------------------------- */

void ftp_data_connect_to(struct ftp_client *client, const struct sockaddr_storage *address)
{
    struct ftp_data *data = data_new(client);
    if (data != NULL)
        data->to = *address;
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct ftp_data *data = connect->data;
    if (data->client == NULL)
        return;
    if (status != 0)
        failed(data, "The data connection cannot be made");
    else
        is_open(data);
}

void ftp_data_open(struct ftp_client *client)
{
    struct ftp_data *data = client->data;
    if (data == NULL) { /* nobody came in time */
        ftp_transfer_broken(client, 425, "The data connection did not come");
        return;
    }
    data->wanted = true;
    if (data->open) {
        ftp_transfer_open(client);
        return;
    }
    (void)uv_timer_start(&data->timer, on_timer, client->door->link->timeout, 0);
    if (data->passive)
        return;
    data->stream = new_stream(data);
    data->connect.data = data;
    if (data->stream == NULL ||
        uv_tcp_connect(&data->connect, data->stream, (const struct sockaddr *)&data->to, on_connected) != 0)
        failed(data, "The data connection cannot be made");
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void broken(struct ftp_data *data)
{
    struct ftp_client *client = data->client;
    ftp_data_close(client, true);
    ftp_transfer_broken(client, 426, "The data connection is lost");
}

static void on_written(uv_write_t *write, int status)
{
    struct piece *piece = (struct piece *)write;
    struct ftp_data *data = piece->data;
    chv_wipe(piece->bytes, piece->len);
    free(piece);
    data->writes--;
    if (data->client == NULL)
        return;
    if (status != 0)
        broken(data);
    else if (data->writes == 0)
        ftp_transfer_drained(data->client);
}

bool ftp_data_write(struct ftp_client *client, const uint8_t *bytes, size_t len)
{
    struct ftp_data *data = client->data;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    int n = uv_try_write((uv_stream_t *)data->stream, &buf, 1); /* behind what waits: UV_EAGAIN */
    if (n == (int)len)
        return false;
    const size_t sent = n > 0 ? (size_t)n : 0;
    struct piece *piece = n >= 0 || n == UV_EAGAIN ? malloc(sizeof *piece + len - sent) : NULL;
    if (piece == NULL) {
        broken(data);
        return false;
    }
    piece->data = data;
    piece->len = len - sent;
    memcpy(piece->bytes, bytes + sent, piece->len);
    buf = uv_buf_init((char *)piece->bytes, (unsigned)piece->len);
    if (uv_write(&piece->write, (uv_stream_t *)data->stream, &buf, 1, on_written) != 0) {
        free(piece);
        broken(data);
        return false;
    }
    data->writes++;
    return true;
}

/* Straight into the record that it will be. */
static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct ftp_data *data = handle->data;
    size_t len = 0;
    uint8_t *room = data->client != NULL ? ftp_transfer_room(data->client, &len) : NULL;
    (void)suggested;
    *buf = uv_buf_init((char *)room, (unsigned)len);
}

/* libuv takes a reset that comes right behind the last bytes for their end: the socket knows better. */
static ssize_t ended(const struct ftp_data *data)
{
    char byte;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)data->stream, &fd) != 0)
        return -1;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct ftp_data *data = stream->data;
    if (data->client == NULL || n == 0)
        return;
    if (n > 0)
        ftp_transfer_read(data->client, (const uint8_t *)buf->base, (size_t)n);
    else if (n == UV_EOF && ended(data) == 0)
        ftp_transfer_eof(data->client);
    else
        broken(data);
}

void ftp_data_read(struct ftp_client *client, bool on)
{
    struct ftp_data *data = client->data;
    if (data == NULL || !data->open || data->reading == on)
        return;
    data->reading = on;
    if (!on)
        (void)uv_read_stop((uv_stream_t *)data->stream);
    else if (uv_read_start((uv_stream_t *)data->stream, on_room, on_read) != 0)
        broken(data);
}
