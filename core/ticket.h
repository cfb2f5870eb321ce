/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ticket: what a server writes down about a session so that it need not remember it (doc/protocol.md, section 7).
 *
 *   u8 1 | u32 epoch | u8 len audience | u64 period | nonce[32] | AES-256-GCM(key of this ticket, nonce 0, ad = all before)
 *   key of this ticket = Expand(ticket key, chv_info_ticket_seal(nonce))
 *   ticket key         = Expand(master[epoch], chv_info_ticket(audience, period))
 *   plaintext = u8 profile | u8 suite | u64 not_after | u64 auth_time | lineage[16] | u32 number | resumption secret[32]
 *             | u16 len credential | u8 curve | u8 len static public key | rights
 *   rights    = u64 not_after | u8 len id | u8 count | {u8 len scope}...
 *
 * The credential is empty in profile key; curve and length of the static key are 0 in profile psk.  The same cipher in
 * every suite: whoever has ticket keys need not know the session's suite.  Clocks, audiences and periods are the
 * caller's to judge.
 */
#ifndef CHV_CORE_TICKET_H
#define CHV_CORE_TICKET_H

#include "core/credential.h"
#include "core/hkdf.h"

enum { CHV_TICKET_PERIOD_SECONDS = 86400 };

/* The part that anyone can read: which ticket key opens the rest. */
struct chv_ticket_label {
    uint32_t epoch;  /* of the master, from 1 */
    uint64_t period; /* Unix time / CHV_TICKET_PERIOD_SECONDS when it was made */
    char audience[CHV_AUDIENCE_MAX + 1];
};

struct chv_ticket {
    enum chv_profile profile; /* of the full handshake */
    enum chv_suite suite;
    uint64_t not_after; /* of the ticket, Unix s; not 0 */
    uint64_t auth_time; /* of the full handshake, Unix s */
    uint8_t lineage[CHV_LINEAGE_LEN];
    uint32_t number;             /* which ticket of its session */
    uint8_t secret[CHV_KEY_LEN]; /* resumption secret */
    uint8_t credential[CHV_CREDENTIAL_MAX];
    size_t credential_len; /* 0 exactly in profile key */
    bool has_peer;         /* false exactly in profile psk */
    enum chv_curve curve;  /* the suite's; 0 without a peer */
    uint8_t peer_public[CHV_DH_PUBLIC_MAX];
    size_t peer_public_len;
    /* What the client was let in with, narrowed.  Only not_after, id and scopes are kept; id is the credential's. */
    struct chv_credential rights;
};

/* CHV_ERR_MALFORMED for what cannot be a ticket (form, length, label); *label is set on success only. */
enum chv_err chv_ticket_peek(const uint8_t *ticket, size_t len, struct chv_ticket_label *label) CHV_MUST_CHECK;

/*
 * *len: in, room (CHV_TICKET_MAX is enough); out, length.  CHV_ERR_ARGUMENT for a label or a ticket that contradicts
 * itself, CHV_ERR_SPACE for one that would be longer than `*len` or CHV_TICKET_MAX.  On failure nothing stays in `out`.
 */
enum chv_err chv_ticket_seal(const struct chv_crypto *crypto, const uint8_t ticket_key[CHV_KEY_LEN],
                             const struct chv_ticket_label *label, const struct chv_ticket *ticket, uint8_t *out,
                             size_t *len) CHV_MUST_CHECK;

/*
 * CHV_ERR_AUTH: another key, or changed.  CHV_ERR_MALFORMED: not the one encoding.  *out holds a secret: the caller wipes
 * it; on failure it is zeros.
 */
enum chv_err chv_ticket_open(const struct chv_crypto *crypto, const uint8_t ticket_key[CHV_KEY_LEN],
                             const uint8_t *ticket, size_t len, struct chv_ticket *out) CHV_MUST_CHECK;

#endif
