/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump between a plain side (a socket, or two descriptors such as standard input and output) and an established
 * connection, each way by itself: DATA records are the bytes, END is the plain side's end of file (shutdown(2)). Neither
 * side is read while the other does not take what was read, so that a stopped reader stops the sender; what has to be held
 * meanwhile is at most one read, out of the loop's pool.
 *
 * A plain side that is reset ends the connection without END and CLOSE, so that the other end sees a truncated stream; and
 * where a connection ends before both directions have, the plain side is reset (SO_LINGER 0; a unix socket and a pipe
 * know no reset, and are closed). A cut stream never looks like a complete one.
 */
#ifndef CHV_SERVICES_TUNNEL_PIPE_H
#define CHV_SERVICES_TUNNEL_PIPE_H

#include "net/conn.h"

struct chv_tunnel_pipe;

struct chv_tunnel_pipe_config {
    int read_fd, write_fd;     /* socket: the same twice. Anything that can be polled, or a regular file */
    unsigned idle_seconds;     /* without a byte in either direction the connection ends; 0: for ever */
    void (*idle)(void *owner); /* comes before that end, and may still say something to the peer. Optional */
    bool pings;                /* client: the server's limit for silent connections is kept from coming */
    /*
     * Both directions have ended and all is handed over: the client closes the connection; a server waits for CLOSE.
     * At most once, from within any call or from the loop; everything but chv_tunnel_pipe_free is allowed.
     */
    void (*finished)(void *owner);
};

/*
 * Takes over the descriptors (also on failure: they are closed), which get non-blocking until then; makes the connection
 * duplex, and pumps from the loop. `owner` is for `finished`.
 */
enum chv_err chv_tunnel_pipe_start(struct chv_conn *conn, const struct chv_tunnel_pipe_config *config, void *owner,
                                   struct chv_tunnel_pipe **pipe, struct chv_why *why) CHV_MUST_CHECK;
/*
 * What the connection's owner is told, it passes on: DATA and END records, whose error ends the connection, `batch` and
 * `drained`.
 */
enum chv_err chv_tunnel_pipe_record(struct chv_tunnel_pipe *pipe, uint8_t type, const uint8_t *body,
                                    size_t len) CHV_MUST_CHECK;
void chv_tunnel_pipe_batch(struct chv_tunnel_pipe *pipe);
void chv_tunnel_pipe_drained(struct chv_tunnel_pipe *pipe);
/* END was received, and sent. */
bool chv_tunnel_pipe_ended(const struct chv_tunnel_pipe *pipe);
/* `finished` was called. */
bool chv_tunnel_pipe_finished(const struct chv_tunnel_pipe *pipe);
/* Bytes read from the plain side, and written to it. */
void chv_tunnel_pipe_counts(const struct chv_tunnel_pipe *pipe, uint64_t *in, uint64_t *out);
/* In `closed` of the connection: closes the plain side, or resets it. NULL is allowed. */
void chv_tunnel_pipe_free(struct chv_tunnel_pipe *pipe);

#endif
