/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: the process that has the keystore open and answers these questions: the session PSK of a credential for one
 * handshake, the Diffie-Hellman of the server's identity key with a point of one (doc/architecture.md, section 4), the
 * next key of a credential (keeper_update.h), a file's receipt (keeper_receipt.h), and the keys of tickets
 * (keeper_ticket.h).
 * It trusts the net process with nothing: the credential is parsed here, server name, epochs, clock and lifetimes are
 * the keeper's own, and no request names a label.
 *
 * Wire: a SOCK_SEQPACKET socket per loop of the net process; a packet is an array of 1 to CHV_KEEPER_BATCH requests,
 * answered by one packet of as many answers in the same order. Both ends are the same program on the same machine: host
 * byte order.
 */
#ifndef CHV_NET_KEEPER_H
#define CHV_NET_KEEPER_H

#include "core/credential.h"
#include "net/clockmark.h"
#include "net/server.h"

#include <chaveiro/keystore.h>

enum { CHV_KEEPER_BATCH = 32, CHV_H_PSK_MAX = 64 };

enum chv_keeper_kind {
    CHV_KEEPER_PSK = 1,
    CHV_KEEPER_DH = 2,
    CHV_KEEPER_UPDATE = 3,  /* keeper_update.h */
    CHV_KEEPER_AUDIT = 4,   /* keeper_audit.h: the registrar's */
    CHV_KEEPER_RECEIPT = 5, /* keeper_receipt.h */
    CHV_KEEPER_TICKET = 6   /* keeper_ticket.h */
};

enum chv_keeper_status {
    CHV_KEEPER_OK = 200,         /* verdict and psk are set */
    CHV_KEEPER_MALFORMED = 400,  /* not a request; its credential is none for this profile; its point is none */
    CHV_KEEPER_UNAVAILABLE = 503 /* keystore or clock cannot be used: the keeper's log says why */
};

/*
 * What the client's OPEN will be told. An expired or too long-lived credential gets its true PSK, one of an epoch that
 * is not served 32 random bytes: on the wire all three look like success (doc/protocol.md, section 6).
 */
enum chv_keeper_verdict { CHV_KEEPER_ACCEPTED, CHV_KEEPER_EXPIRED, CHV_KEEPER_LIFETIME, CHV_KEEPER_EPOCH };

struct chv_keeper_request {
    uint64_t tag;      /* the asker's, comes back */
    uint8_t kind;      /* enum chv_keeper_kind */
    uint8_t profile;   /* enum chv_profile of the session */
    uint8_t curve;     /* CHV_KEEPER_DH: enum chv_curve; else 0 */
    uint8_t h_psk_len; /* CHV_KEEPER_DH: 0 */
    union {
        uint16_t credential_len;
        uint16_t point_len; /* CHV_KEEPER_DH */
    };
    uint16_t zero2;
    union { /* zeros behind it */
        uint8_t credential[CHV_CREDENTIAL_MAX];
        uint8_t point[CHV_DH_PUBLIC_MAX]; /* CHV_KEEPER_DH */
    };
    uint8_t h_psk[CHV_H_PSK_MAX]; /* likewise */
};

struct chv_keeper_answer {
    uint64_t tag;
    uint16_t status;  /* enum chv_keeper_status */
    uint16_t verdict; /* enum chv_keeper_verdict */
    uint32_t zero;
    uint8_t psk[CHV_KEY_LEN]; /* or the result of CHV_KEEPER_DH; zeros unless status is CHV_KEEPER_OK */
};

_Static_assert(sizeof(struct chv_keeper_request) == 592 && offsetof(struct chv_keeper_request, credential) == 16 &&
                   offsetof(struct chv_keeper_request, h_psk) == 528,
               "request layout");
_Static_assert(sizeof(struct chv_keeper_answer) == 48 && offsetof(struct chv_keeper_answer, psk) == 16,
               "answer layout");

struct chv_keeper {
    struct chv_keystore *keystore;
    char server[CHV_SERVER_NAME_MAX + 1];
    size_t epoch_count;
    uint32_t epochs[CHV_EPOCHS_MAX];
    size_t check_count;
    struct chv_key_check checks[CHV_EPOCHS_MAX];
    uint64_t max_lifetime;
    bool update;
    unsigned update_to;
    uint32_t successor;                            /* epoch that older credentials are handed; 0: none */
    bool tickets[2];                               /* which the configuration has: an enum chv_ticket_use */
    char ticket_audience[CHV_SERVER_NAME_MAX + 1]; /* of a fleet; "": none */
    bool lacks;                                    /* the last configuration was refused for want of a master */
    struct chv_crypto crypto;
    bool has_identity; /* the configuration serves profiles that use it */
    enum chv_curve identity_curve;
    bool receipts;                         /* the configuration has them, */
    struct chv_keystore *receipt_keystore; /* and here is their key: `keystore`, or one of its own */
    struct chv_clockmark mark;
    uint64_t complained;                    /* when a failure was last logged: the same one at most once a second */
    unsigned complaints;                    /* in that second, if they differ: a few */
    char complaint[sizeof(struct chv_why)]; /* the last one */
    uint64_t asked;                         /* when it was last asked something */
    bool failing;                           /* the keystore did not answer the last time, */
    bool refused;                           /* for its PIN was wrong or is locked */
};

/*
 * Opens and unlocks the keystore and checks that it is the one of the configured server name and has every epoch's
 * master, and the identity key where a profile needs it: its public key goes to *identity. `why` says what to do. Blocks (scrypt, a prompt). On failure there is nothing to close.
 */
enum chv_err chv_keeper_open(struct chv_keeper *keeper, const struct chv_server_config *config, chv_secret_fn secret,
                             void *secret_arg, struct chv_server_identity *identity,
                             struct chv_why *why) CHV_MUST_CHECK;
void chv_keeper_close(struct chv_keeper *keeper);

/* Takes over epochs and max_lifetime; CHV_ERR_CONFIG and nothing changes if an epoch has no master or the name differs.
 */
enum chv_err chv_keeper_configure(struct chv_keeper *keeper, const struct chv_server_config *config,
                                  struct chv_why *why) CHV_MUST_CHECK;

/*
 * Answers one packet at the time `now` (Unix seconds). *count: answers written; the caller wipes them.
 * CHV_ERR_MALFORMED: not a packet of requests, nothing is to be sent.
 */
enum chv_err chv_keeper_answer(struct chv_keeper *keeper, uint64_t now, const void *packet, size_t len,
                               struct chv_keeper_answer answers[CHV_KEEPER_BATCH], size_t *count) CHV_MUST_CHECK;

/* Once in a while when nobody asks: what the clock shows then is not forgotten. */
void chv_keeper_watch_clock(struct chv_keeper *keeper, uint64_t now);

/* Whether the keystore is in a token. */
bool chv_keeper_has_token(const struct chv_server_config *config);

/*
 * The keeper process, from after the fork to its end: opens, drops user and rights, says CHV_IPC_READY on `control`
 * and serves until the supervisor's end closes. Returns the exit code.
 */
int chv_keeper_main(const struct chv_server_config *config, int control, chv_secret_fn secret, void *secret_arg);

#endif
