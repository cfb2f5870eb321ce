/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a session: its state, and what session.c (input, output, questions), handshake.c (from hello to Split) and
 * channel.c (records) share.  The contract is in chaveiro/session.h.
 *
 *   client  BUILD_HELLO -> SEND_HELLO -> READ_REPLY -> OPEN_REPLY -> CHANNEL
 *   server  READ_HELLO -> OPEN_HELLO [-> ASK_TICKET] [-> ASK_PEER] -> BUILD_REPLY -> SEND_REPLY -> CHANNEL
 *                 `------------`-> SEND_REFUSAL -> ENDED
 *
 * Any phase ends in ENDED.  BUILD_* and OPEN_* are where the Noise engine may stop for a long-term secret; in a resumed
 * session the engine's only question, the PSK, is answered here.
 */
#ifndef CHV_CORE_SESSION_H
#define CHV_CORE_SESSION_H

#include "core/noise.h"
#include "core/record.h"
#include "core/wire.h"

#include <chaveiro/session.h>

enum chv_phase {
    CHV_PHASE_BUILD_HELLO,
    CHV_PHASE_SEND_HELLO,
    CHV_PHASE_READ_REPLY,
    CHV_PHASE_OPEN_REPLY,
    CHV_PHASE_READ_HELLO,
    CHV_PHASE_OPEN_HELLO,
    CHV_PHASE_ASK_TICKET,
    CHV_PHASE_ASK_PEER,
    CHV_PHASE_BUILD_REPLY,
    CHV_PHASE_SEND_REPLY,
    CHV_PHASE_SEND_REFUSAL,
    CHV_PHASE_CHANNEL,
    CHV_PHASE_ENDED
};

/* While the handshake runs. */
struct chv_handshake {
    struct chv_noise noise;
    bool noise_started;
    bool doomed;                     /* key+psk: the credential belongs to another identity; the PSK will be random */
    uint8_t resumption[CHV_KEY_LEN]; /* resumed: what the session PSK is made of, with the server's name */
    char server[CHV_SERVER_NAME_MAX + 1];
    const uint8_t *ticket; /* server: in `frame` */
    size_t ticket_len;
    size_t have;              /* bytes of the frame read into `frame`, or sent from it */
    size_t length;            /* of the whole frame; 0 while reading and not yet known */
    struct chv_served served; /* server */
    bool has_identity[CHV_CURVE_COUNT];
    uint8_t identity_public[CHV_CURVE_COUNT][CHV_DH_PUBLIC_MAX];
    uint8_t payload[CHV_PADDED_CREDENTIAL_LEN]; /* of the message being written */
    uint8_t frame[CHV_HELLO_FRAME_MAX];
};

/* After it. */
struct chv_channel {
    struct chv_direction send, receive;
    uint8_t exporter[CHV_KEY_LEN];
    bool open_done; /* client: OPEN was sealed; server: OPEN was opened */
    bool close_sent, close_received;
};

struct chv_session {
    const struct chv_crypto *crypto;
    enum chv_role role;
    enum chv_phase phase;
    enum chv_err error;
    const char *note;
    unsigned refusal;

    enum chv_profile profile;
    enum chv_suite suite;
    bool resumed;
    const struct chv_suite_parts *parts; /* of the suite; NULL on a server before its hello was parsed */
    uint64_t server_time;
    uint16_t idle_seconds;

    bool has_peer, has_lineage, has_h_fin;
    uint8_t peer_public[CHV_DH_PUBLIC_MAX];
    uint8_t lineage[CHV_LINEAGE_LEN];
    uint8_t h_fin[CHV_KEY_LEN];

    struct chv_channel channel;

    /* An open session that has been moved ends behind its credential: chv_session_open_size. */
    size_t credential_len;
    uint8_t credential[CHV_CREDENTIAL_MAX];

    struct chv_handshake handshake;
};

/* Ends the session: the first error and note stick, everything secret is wiped.  Returns the error that stuck. */
enum chv_err chv_session_fail(struct chv_session *s, enum chv_err err, const char *note);

/* handshake.c */
/* `ticket`: NULL for a full handshake. */
enum chv_err chv_handshake_start_client(struct chv_session *s, const uint8_t *ticket, size_t ticket_len);
/* The whole frame is in handshake.frame. */
enum chv_err chv_handshake_hello_arrived(struct chv_session *s);
enum chv_err chv_handshake_reply_arrived(struct chv_session *s);
/* Server: the ticket's profile, lineage and secrets have been copied. */
enum chv_err chv_handshake_ticket_taken(struct chv_session *s);
/* The whole frame has been sent. */
enum chv_err chv_handshake_sent(struct chv_session *s);
/* Goes as far as it can without an answer. */
enum chv_err chv_handshake_advance(struct chv_session *s);
/* Server: the reply becomes a refusal in clear; the session's error is `err`.  Returns err. */
enum chv_err chv_handshake_refuse(struct chv_session *s, unsigned code, enum chv_err err, const char *note);
void chv_handshake_wipe(struct chv_handshake *h);

/* channel.c */
void chv_channel_wipe(struct chv_channel *c, const struct chv_crypto *crypto);

#endif
