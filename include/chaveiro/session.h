/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session: the protocol engine, sans I/O (doc/protocol.md).
 *
 * Bytes in, bytes out: no sockets, no clock, no heap, no long-term secret.  The driver moves bytes, tells the time, and
 * answers when the handshake reaches a long-term secret (CHV_WANT_KEY).  The answer may take its time and come from
 * another process: the session suspends inside a message.
 *
 *   chv_session_init
 *   while not CHV_WANT_OPEN:  WANT_READ -> recv;  WANT_WRITE -> send_peek, send_consume;  WANT_KEY -> key_request, key_answer
 *   then chv_session_frame cuts the stream, chv_session_open and chv_session_seal work on each frame
 *   chv_session_eof when the transport ends;  chv_session_wipe at the end, on every path
 *
 * A call in the wrong order is CHV_ERR_STATE and changes nothing.  The first fatal error sticks: every later call returns
 * it.  After a refusal the reply frame is still to be sent (WANT_WRITE), then the session is CLOSED.
 * No function blocks, except as the crypto backend does.  A session serves one thread at a time.
 */
#ifndef CHAVEIRO_SESSION_H
#define CHAVEIRO_SESSION_H

#include <chaveiro/backend.h>
#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything else in the library is hidden. */
#pragma GCC visibility push(default)

enum {
    CHV_SERVER_NAME_MAX = 64,
    CHV_CLIENT_ID_MAX = 64,
    CHV_SCOPE_MAX = 32,
    CHV_CREDENTIAL_MAX = 512,
    CHV_HELLO_FRAME_MAX = 2048, /* both with their u16 length */
    CHV_REPLY_FRAME_MAX = 512,
    CHV_RECORD_HEAD = 3,          /* u16 length, u8 type (enciphered) */
    CHV_RECORD_TAIL = 16,         /* AEAD tag */
    CHV_RECORD_BODY_MAX = 65518,  /* 65535 - type - tag */
    CHV_RECORD_FRAME_MAX = 65537, /* u16 length + 65535 */
    CHV_FIRST_FRAME_MAX = 4096,   /* the client's first record */
    CHV_LINEAGE_LEN = 16,
    CHV_TICKET_MAX = 1536
};

enum chv_role { CHV_CLIENT, CHV_SERVER };
enum chv_profile { CHV_PROFILE_PSK = 1, CHV_PROFILE_KEY = 2, CHV_PROFILE_KEY_PSK = 3 };
enum chv_suite {
    CHV_SUITE_X25519_AESGCM_SHA256 = 1,
    CHV_SUITE_X25519_CHACHAPOLY_SHA256 = 2,
    CHV_SUITE_P256_AESGCM_SHA256 = 3
};

#define CHV_PROFILE_BIT(p) (1u << (unsigned)(p))
#define CHV_SUITE_BIT(s) (1u << (unsigned)(s))

/* Record types; doc/protocol.md section 5.  11 to 15 are reserved: they end a session. */
enum chv_record {
    CHV_RECORD_DATA = 0,
    CHV_RECORD_END = 1,
    CHV_RECORD_OPEN = 2,
    CHV_RECORD_STATUS = 3,
    CHV_RECORD_TICKET = 4,
    CHV_RECORD_KEY_UPDATE = 5,
    CHV_RECORD_KEY_UPDATED = 6,
    CHV_RECORD_REDIRECT = 7,
    CHV_RECORD_PING = 8,
    CHV_RECORD_PONG = 9,
    CHV_RECORD_CLOSE = 10,
    CHV_RECORD_SERVICE = 16 /* 16 to 255 belong to the service that OPEN named */
};

/* Refusals in clear, before keys exist; doc/protocol.md section 6. */
enum chv_refusal {
    CHV_REFUSE_MALFORMED = 400,
    CHV_REFUSE_TICKET = 401,
    CHV_REFUSE_UNKNOWN_KEY = 403, /* profile key only */
    CHV_REFUSE_VERSION = 426,
    CHV_REFUSE_RATE = 429,
    CHV_REFUSE_UNAVAILABLE = 503
};

/* What is legal now: chv_session_wants returns a mask of these. */
enum chv_want {
    CHV_WANT_READ = 1,   /* recv may be called (handshake) */
    CHV_WANT_WRITE = 2,  /* send_peek has bytes */
    CHV_WANT_KEY = 4,    /* key_request has a question that was not answered yet */
    CHV_WANT_OPEN = 8,   /* handshake done: records */
    CHV_WANT_CLOSED = 16 /* nothing more will happen; chv_session_error says why (CHV_OK: both sides sent CLOSE) */
};

enum chv_key_kind {
    CHV_KEY_DH,    /* DH of the own identity key with `peer_public`; answer: 32 bytes */
    CHV_KEY_PSK,   /* the session PSK for `credential` and `h_psk`; answer: 32 bytes */
    CHV_KEY_PEER,  /* server, profile key: may this static key come in?  answer: NULL for yes, or refuse with 403 */
    CHV_KEY_TICKET /* server: may this ticket be taken?  answer: chv_session_ticket_answer, or refuse with 401 */
};

/* Pointers are the session's and hold until the question is answered or the session ends. */
struct chv_key_request {
    enum chv_key_kind kind;
    enum chv_profile profile;
    enum chv_curve curve;
    const uint8_t
        *peer_public; /* DH: the point. PEER, and PSK in profile key+psk: the client's static key; else NULL */
    size_t peer_public_len;
    const uint8_t *credential; /* PSK: canonical, already parsed strictly; else NULL */
    size_t credential_len;
    const uint8_t *h_psk; /* PSK: else NULL */
    size_t h_psk_len;
    const uint8_t
        *ticket; /* TICKET: as it came, not looked at yet; else NULL. `profile` is psk then: that of the hello */
    size_t ticket_len;
};

/* What an opened ticket says, with lifetime, audience and rights judged by the driver.  All is copied. */
struct chv_session_ticket {
    enum chv_profile profile; /* of the full handshake that it goes back to */
    enum chv_suite suite;
    const uint8_t *credential; /* profiles psk and key+psk: canonical, of this profile; else NULL */
    size_t credential_len;
    const uint8_t *peer_public; /* profiles key and key+psk: the client's static key on the suite's curve; else NULL */
    size_t peer_public_len;
    const uint8_t *lineage; /* CHV_LINEAGE_LEN */
    const uint8_t *secret;  /* resumption secret, CHV_KEY_LEN */
    const char *server;     /* this server's own name: it goes into the session PSK */
};

struct chv_session_limits {
    uint16_t idle_seconds; /* server: how long it keeps a silent connection, 0 = for ever; sent to the client */
};

struct chv_session_config {
    enum chv_role role;
    const struct chv_crypto *crypto; /* must outlive the session */

    /* client */
    enum chv_profile profile;
    enum chv_suite suite;
    const uint8_t *credential; /* psk, key+psk; copied */
    size_t credential_len;
    const uint8_t
        *peer_public; /* key, key+psk: the server's pinned identity key, chv_dh_public_len of the suite; copied */
    /*
     * A ticket of an earlier session with this credential, profile and suite: no question of any kind is asked then, and
     * no identity key is needed.  NULL: a full handshake.  Copied.  A server that does not take it refuses with 401.
     */
    const uint8_t *ticket;
    size_t ticket_len;         /* at most CHV_TICKET_MAX */
    const uint8_t *resumption; /* the ticket's secret (chv_session_resumption of that session), CHV_KEY_LEN; copied */
    const char *server;        /* the server's name, for the session PSK; copied */

    /* server */
    unsigned profiles; /* CHV_PROFILE_BIT mask of those served; 0: none, only tickets are taken, of any profile */
    unsigned suites;   /* CHV_SUITE_BIT mask of those served */
    uint64_t now;      /* Unix seconds, told to the client in the reply */
    struct chv_session_limits limits;

    /*
     * both, profiles key and key+psk: own identity public key by curve; NULL if there is none; copied.  A server refuses
     * (426) these profiles with a suite on a curve that it has no key for.
     */
    const uint8_t *identity_public[CHV_CURVE_COUNT];
};

struct chv_session;

/* Bytes that a session takes, in memory aligned as by malloc. */
size_t chv_session_size(void);

/*
 * Starts a session in `memory` (chv_session_size() bytes).  A client has its hello ready at once, except where the profile
 * asks for a key first.  CHV_ERR_ARGUMENT for a config that contradicts itself, CHV_ERR_UNSUPPORTED for a suite that the
 * backend lacks (`why` names what is missing); then there is nothing to wipe.
 */
enum chv_err chv_session_init(void *memory, const struct chv_session_config *config, struct chv_session **session,
                              struct chv_why *why) CHV_MUST_CHECK;
/* Wipes all secrets and gives backend handles back.  NULL is allowed; the memory stays the caller's. */
void chv_session_wipe(struct chv_session *s);

/*
 * An established session (WANT_OPEN) needs no room for a handshake: it may go on in chv_session_open_size(s) bytes.
 * Moves it to `memory` (aligned as by malloc) and wipes all chv_session_size() bytes that it leaves.  NULL, and
 * nothing has changed, in any other state.  Pointers that it had lent end here.
 */
size_t chv_session_open_size(const struct chv_session *s);
struct chv_session *chv_session_move(struct chv_session *s, void *memory) CHV_MUST_CHECK;

unsigned chv_session_wants(const struct chv_session *s);
/* The error that ended the session, CHV_OK if none did. */
enum chv_err chv_session_error(const struct chv_session *s);
/* What an operator should read about that error ("hello: reserved byte is not 0"); static storage, "" if nothing. */
const char *chv_session_note(const struct chv_session *s);
/* The clear refusal that was sent or received (enum chv_refusal), 0 if none. */
unsigned chv_session_refusal(const struct chv_session *s);

/*
 * Handshake input: takes at most `len` bytes, *consumed says how many.  Never takes bytes of the first record.  Returns the
 * fatal error if these bytes ended the session; *consumed is set all the same.
 */
enum chv_err chv_session_recv(struct chv_session *s, const uint8_t *buf, size_t len, size_t *consumed) CHV_MUST_CHECK;
/* Handshake output: lends *ptr, *len until the next call on this session; *len is 0 when there is none. */
enum chv_err chv_session_send_peek(struct chv_session *s, const uint8_t **ptr, size_t *len) CHV_MUST_CHECK;
/* n of those bytes were written. */
enum chv_err chv_session_send_consume(struct chv_session *s, size_t n) CHV_MUST_CHECK;

/* The question of CHV_WANT_KEY. */
enum chv_err chv_session_key_request(struct chv_session *s, struct chv_key_request *request) CHV_MUST_CHECK;
/*
 * Optional, while a question is out: computes what does not depend on the answer (the ephemeral DH).
 * CHV_OK when there was nothing to do.
 */
enum chv_err chv_session_precompute(struct chv_session *s) CHV_MUST_CHECK;
/*
 * Answers it and goes on; the session wipes its own copy, the caller wipes `secret`.  NULL for CHV_KEY_PEER.
 * CHV_ERR_AUTH, fatal, for a DH result of zeros; a server refuses the hello with 400.
 */
enum chv_err chv_session_key_answer(struct chv_session *s, const uint8_t *secret) CHV_MUST_CHECK;
/*
 * Refuses: a server sends `code` in clear (429, 503; 403 for CHV_KEY_PEER; 400 for CHV_KEY_DH, where the keystore's dh
 * has said CHV_ERR_MALFORMED: the peer's point is bad; 401 for CHV_KEY_TICKET) and the session ends once that is written,
 * with CHV_ERR_KEY, for 400 with CHV_ERR_MALFORMED, for 401 with CHV_ERR_AUTH; a client ends with CHV_ERR_KEY.  A server may also refuse with 429 or 503 before the hello
 * has come.  CHV_ERR_ARGUMENT for any other code.
 */
enum chv_err chv_session_key_refuse(struct chv_session *s, unsigned code) CHV_MUST_CHECK;
/*
 * The answer to CHV_KEY_TICKET; no other question follows.  A ticket of another suite than the hello's, or of a profile
 * that is not served, is refused with 401 (CHV_ERR_AUTH, fatal).  CHV_ERR_ARGUMENT for one that contradicts itself or a
 * bad server name, CHV_ERR_STATE if this is not the question: nothing has changed.
 */
enum chv_err chv_session_ticket_answer(struct chv_session *s, const struct chv_session_ticket *ticket) CHV_MUST_CHECK;

/* What is known of the session.  Pointers hold until the session is wiped or moved. */
struct chv_session_info {
    bool resumed;             /* came with a ticket: the next four are the ticket's */
    enum chv_profile profile; /* of the full handshake, also in a resumed session */
    enum chv_suite suite;
    const uint8_t *credential; /* server: as claimed, proven once the first record has opened; NULL in profile key */
    size_t credential_len;
    const uint8_t *peer_public; /* the peer's identity key; NULL in profile psk */
    size_t peer_public_len;
    const uint8_t *lineage; /* CHV_LINEAGE_LEN; NULL before message 2; the ticket's in a resumed session */
    uint64_t server_time;   /* client: what the server said */
    uint16_t idle_seconds;  /* client: what the server said */
    const uint8_t *h_fin;   /* handshake hash, 32 bytes; NULL before the handshake is done */
    uint64_t records_sent, records_received;
};
/* CHV_ERR_STATE on a server before its hello was parsed, and before CHV_KEY_TICKET was answered. */
enum chv_err chv_session_get_info(const struct chv_session *s, struct chv_session_info *info) CHV_MUST_CHECK;

/*
 * Cuts the stream: *frame_len is the length of the whole frame that begins at buf, 0 if fewer than 2 bytes are there.
 * Fatal (CHV_ERR_PROTOCOL) as soon as the length is one that no record can have here: under 19 bytes, or over
 * CHV_FIRST_FRAME_MAX before a server has opened OPEN.  CHV_ERR_STATE before WANT_OPEN.
 */
enum chv_err chv_session_frame(struct chv_session *s, const uint8_t *buf, size_t len, size_t *frame_len) CHV_MUST_CHECK;

/*
 * Seals one record in place.  `frame` has CHV_RECORD_HEAD free bytes, then `body_len` bytes of body, then
 * CHV_RECORD_TAIL free bytes; on success *frame_len = body_len + 19 bytes are ready to send.
 * CHV_ERR_STATE before WANT_OPEN, after CLOSE was sealed, for a client whose first record is not OPEN or that seals OPEN
 * twice, and for a server that has not opened the client's OPEN yet (nobody has proven anything to it).
 * CHV_ERR_ARGUMENT for a reserved type, a body over CHV_RECORD_BODY_MAX, or CLOSE with a body.
 */
enum chv_err chv_session_seal(struct chv_session *s, uint8_t type, uint8_t *frame, size_t body_len,
                              size_t *frame_len) CHV_MUST_CHECK;
/*
 * Opens one whole frame in place (frame_len as chv_session_frame says); *body points into it.  Fatal on a wrong tag
 * (CHV_ERR_AUTH), a reserved type, a frame of impossible length, any first record but OPEN, anything to a client that has
 * not sent it, OPEN again, a type that the peer's role does not send, CLOSE with a body, anything after CLOSE (CHV_ERR_PROTOCOL).  After a failure the frame holds zeros or ciphertext, never plaintext.
 */
enum chv_err chv_session_open(struct chv_session *s, uint8_t *frame, size_t frame_len, uint8_t *type,
                              const uint8_t **body, size_t *body_len) CHV_MUST_CHECK;
/*
 * The transport ended.  CHV_OK if the peer had sent CLOSE, else the session ends with CHV_ERR_TRUNCATED.
 * `partial`: bytes of an unfinished frame were left over (truncated, CLOSE or not).
 */
enum chv_err chv_session_eof(struct chv_session *s, bool partial) CHV_MUST_CHECK;
/* Gives the AEAD contexts back until the next record (an idle connection then keeps 32 bytes of key per direction). */
void chv_session_idle(struct chv_session *s);

/*
 * Keying material for an application, bound to this session: RFC 5705's idea, doc/protocol.md section 2.
 * `label`: 1 to 64 bytes; context up to 512 bytes.  CHV_ERR_STATE before WANT_OPEN.
 */
enum chv_err chv_session_export(struct chv_session *s, const char *label, const uint8_t *context, size_t context_len,
                                uint8_t out[CHV_KEY_LEN]) CHV_MUST_CHECK;

/*
 * The secret of ticket `number` of this session, the same on both sides: the server seals it into the ticket, the client
 * keeps it beside the ticket (doc/protocol.md section 7).  CHV_ERR_STATE before WANT_OPEN.
 */
enum chv_err chv_session_resumption(struct chv_session *s, uint32_t number, uint8_t out[CHV_KEY_LEN]) CHV_MUST_CHECK;

/* Names for configuration and logs: "psk", "key", "key+psk"; "x25519-aesgcm-sha256"...  "?" for a number that is none. */
const char *chv_profile_name(enum chv_profile profile);
const char *chv_suite_name(enum chv_suite suite);
/* CHV_ERR_NOT_FOUND for an unknown name. */
enum chv_err chv_suite_find(const char *name, enum chv_suite *suite) CHV_MUST_CHECK;
enum chv_err chv_profile_find(const char *name, enum chv_profile *profile) CHV_MUST_CHECK;

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
