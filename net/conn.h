/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: a session (chaveiro/session.h) on a socket, for servers and clients alike.
 *
 * uv_poll with own reads and writes: frames are opened in the loop's buffer, records are sealed in it and written at
 * once. A connection owns memory only while it has part of a frame or unsent bytes, and both come out of the loop's
 * pool. While a server has unsent bytes the peer is not read (back-pressure end to end), unless its directions are
 * independent (chv_conn_duplex); a client always reads, lest both wait for each other in the middle of a long message.
 */
#ifndef CHV_NET_CONN_H
#define CHV_NET_CONN_H

#include "net/loop.h"

#include <chaveiro/session.h>

#include <stdbool.h>
#include <sys/uio.h>

struct chv_conn;

/*
 * What the owner of a connection is told.  In every callback but `closed` the owner may send and close.  `body` holds
 * until the callback returns.
 */
struct chv_conn_events {
    /* A question of the handshake: answer with chv_conn_key_answer or _refuse, now or later. */
    void (*key)(struct chv_conn *conn, const struct chv_key_request *request);
    /* Handshake done. A client sends OPEN now; a server waits for it. Optional. */
    void (*established)(struct chv_conn *conn);
    /*
     * One record, OPEN first. A PING comes here when its PONG was sent already. CLOSE comes here too: an owner that has
     * nothing more to send answers it with chv_conn_shutdown. An error ends the connection with it, as chv_conn_end
     * does: what was sent before (a STATUS that says why) still reaches the peer.
     */
    enum chv_err (*record)(struct chv_conn *conn, uint8_t type, const uint8_t *body, size_t len);
    /*
     * The records of one read have been handed out; their bodies stay where they were until this returns, so that one
     * writev can take them all. It comes after the last of them also when an error has ended the connection. Optional.
     */
    void (*batch)(struct chv_conn *conn);
    /* All unsent bytes are gone after some had to wait: there is room for more. Optional. */
    void (*drained)(struct chv_conn *conn);
    /* The end, exactly once. `err`: CHV_OK after CLOSE in both directions. The conn is freed after this returns. */
    void (*closed)(struct chv_conn *conn, enum chv_err err);
};

/*
 * Takes over the connected, non-blocking socket `fd` (also on failure: it is closed). Sends what the session has to
 * send and reads at once: callbacks but `closed` may come before this returns. `config->crypto` is ignored: the loop's
 * is used. `peer`: for the log, copied. On failure no callback was or will be made.
 */
enum chv_err chv_conn_start(struct chv_loop *loop, int fd, const char *peer, const struct chv_session_config *config,
                            const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                            struct chv_why *why) CHV_MUST_CHECK;

void *chv_conn_owner(const struct chv_conn *conn);
void chv_conn_set_owner(struct chv_conn *conn, void *owner);
struct chv_loop *chv_conn_loop(const struct chv_conn *conn);
uint64_t chv_conn_id(const struct chv_conn *conn); /* unique in the process, for the log */
const char *chv_conn_peer(const struct chv_conn *conn);
/* For chv_session_get_info, _note, _refusal, _export; not for moving bytes. Holds until `closed` has returned. */
struct chv_session *chv_conn_session(struct chv_conn *conn);

/*
 * Answers to `key`. Once the connection is ending, or without a question, CHV_ERR_STATE and nothing changes. Any other error is
 * the session's, and the connection ends with it.
 */
enum chv_err chv_conn_key_answer(struct chv_conn *conn, const uint8_t *secret) CHV_MUST_CHECK;
enum chv_err chv_conn_key_refuse(struct chv_conn *conn, unsigned code) CHV_MUST_CHECK;
/* To CHV_KEY_TICKET (chv_session_ticket_answer); CHV_ERR_ARGUMENT, too, changes nothing. Else refuse with 401. */
enum chv_err chv_conn_ticket_answer(struct chv_conn *conn, const struct chv_session_ticket *ticket) CHV_MUST_CHECK;
/* chv_session_precompute, for the owner of a batch of questions once that is flushed. */
enum chv_err chv_conn_precompute(struct chv_conn *conn) CHV_MUST_CHECK;

/*
 * Inside a `record`, `drained` or `established` callback several records leave in one write when the callbacks are
 * done. Elsewhere each is written at once, unless it stands between cork and uncork; they do not nest.
 */
void chv_conn_cork(struct chv_conn *conn);
void chv_conn_uncork(struct chv_conn *conn);
/* Room for the body of the next record in the loop's buffer; *cap is at most CHV_RECORD_BULK_BODY. Holds until the next
 * call on this loop. */
uint8_t *chv_conn_body(struct chv_conn *conn, size_t *cap);
/* Seals and sends the first `len` bytes written there. What the socket does not take now is kept and sent later. */
enum chv_err chv_conn_send_body(struct chv_conn *conn, uint8_t type, size_t len) CHV_MUST_CHECK;
/* The same for bytes elsewhere; `len` at most CHV_RECORD_BULK_BODY. */
enum chv_err chv_conn_send(struct chv_conn *conn, uint8_t type, const void *body, size_t len) CHV_MUST_CHECK;
/*
 * Room for several records at once in the loop's buffer: sets slots[0..] to the bodies (each CHV_RECORD_BULK_BODY bytes)
 * of the next records, which stand one behind the other with the place of heads and tails left free, so that one readv can
 * fill them. Returns how many, 1 to `max`, at most CHV_LOOP_SLOTS. They hold until the next call on this loop.
 */
size_t chv_conn_slots(struct chv_conn *conn, struct iovec *slots, size_t max);
/*
 * Seals the first `total` bytes in the slots, where they are, as records of this type, to leave in one write; every
 * record but the last is full. 0: none, the slots are given back. An error has sent nothing of them, or ended the session.
 */
enum chv_err chv_conn_send_slots(struct chv_conn *conn, uint8_t type, size_t total) CHV_MUST_CHECK;
/* Bytes that wait for the socket. An owner that sends a stream stops while this is not 0 and goes on at `drained`. */
size_t chv_conn_unsent(const struct chv_conn *conn);

/*
 * Sends CLOSE, then ends when the peer's CLOSE has come, within the stall limit; records that come before it are still
 * handed out. Before OPEN it is chv_conn_abort with CHV_ERR_CANCELLED. A second call does nothing.
 */
void chv_conn_shutdown(struct chv_conn *conn);
/*
 * Ends with `err` (not CHV_OK) once the unsent bytes are out, within the stall limit: no record is handed out any more,
 * and the socket is closed so that a reset does not overtake them.
 */
void chv_conn_end(struct chv_conn *conn, enum chv_err err);
/* Ends now, unsent bytes are dropped; `closed` is called from the loop, soon, with `err`. */
void chv_conn_abort(struct chv_conn *conn, enum chv_err err);

/*
 * Connects to "HOST:PORT", "[V6]:PORT" or "unix:/PATH" (every address of the name in turn) and starts a client session.
 * A config or an address that cannot be is an error here; all that fails later comes to `events->closed`, with its text
 * in chv_conn_why. No callback is made before this returns.
 */
enum chv_err chv_conn_connect(struct chv_loop *loop, const char *address, const struct chv_session_config *config,
                              const struct chv_conn_events *events, void *owner, struct chv_conn **conn,
                              struct chv_why *why) CHV_MUST_CHECK;
/*
 * "HOST:PORT" or "[V6]:PORT" with that port, for the address that a client is connected to: of a name that has several, the
 * one that it is.  CHV_ERR_UNSUPPORTED on a unix socket, CHV_ERR_STATE when it is not connected.
 */
enum chv_err chv_conn_same_host(const struct chv_conn *conn, uint16_t port, char *out, size_t size) CHV_MUST_CHECK;
/*
 * From inside a `record` callback: no further record is handed out, and the peer is not read, until chv_conn_unpause; what
 * was read already (at most one read) is kept.  The owner bounds how long.  An end of the connection is noticed later.
 */
void chv_conn_pause(struct chv_conn *conn);
/*
 * From inside a `record` callback: what was read already, at most CHV_LOOP_BUFFER bytes, is still handed out, but the peer is
 * not read until chv_conn_unpause. For an owner that can take these records: chv_conn_pause has to copy them.
 */
void chv_conn_hold_back(struct chv_conn *conn);
/*
 * Directions that have nothing to do with each other, for a service that carries a byte stream each way: the peer is read
 * also while bytes to it wait (until 1 MiB does), and these may wait for as long as the owner lets them: the stall
 * limit is theirs again once CLOSE was sent. A peer that is held back is not taken for silent; its reset is noticed.
 */
void chv_conn_duplex(struct chv_conn *conn, bool on);
/* Hands out what was kept, at once, and reads on.  Without chv_conn_pause or chv_conn_hold_back nothing happens. */
void chv_conn_unpause(struct chv_conn *conn);
/* What went wrong, beside the code: for the log and for people; "" if nothing is known. */
const char *chv_conn_why(const struct chv_conn *conn);
/* Says it for a failure that the owner brings about; what was said first stays. */
void chv_conn_explain(struct chv_conn *conn, const char *format, ...) CHV_PRINTF(2, 3);

#endif
