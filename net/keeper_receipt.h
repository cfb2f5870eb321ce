/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's question about a receipt (net/receipt.h): a signature by the server's receipt key over the statement that a
 * file was stored. No text to sign is asked for: server name and time are the keeper's own, it makes the statement itself,
 * and the question brings no more than whose file it is, its path, size and digest. A question is a packet of its own, and
 * so is its answer: both are known by their length.
 */
#ifndef CHV_NET_KEEPER_RECEIPT_H
#define CHV_NET_KEEPER_RECEIPT_H

#include "net/keeper.h"
#include "net/receipt.h"

struct chv_keeper_receipt_request {
    uint64_t tag;
    uint8_t kind; /* CHV_KEEPER_RECEIPT */
    uint8_t zero[7];
    uint64_t size;
    uint8_t sha256[CHV_RECEIPT_DIGEST_LEN];
    char client[CHV_CLIENT_ID_MAX + 1];  /* NUL-terminated, zeros behind it */
    char path[CHV_RECEIPT_PATH_MAX + 1]; /* likewise */
    uint8_t zero2[6];
};

struct chv_keeper_receipt_answer {
    uint64_t tag;
    uint16_t status; /* CHV_KEEPER_OK; CHV_KEEPER_MALFORMED: none can be made of this; CHV_KEEPER_UNAVAILABLE */
    uint16_t signature_len;
    uint32_t zero;
    uint64_t time;                        /* as in the statement, Unix seconds */
    uint8_t signature[CHV_SIGNATURE_MAX]; /* zeros behind signature_len, and unless status is CHV_KEEPER_OK */
};

_Static_assert(offsetof(struct chv_keeper_receipt_request, kind) == offsetof(struct chv_keeper_request, kind) &&
                   sizeof(struct chv_keeper_receipt_request) % sizeof(struct chv_keeper_request) != 0,
               "no number of other questions has this length");
_Static_assert(sizeof(struct chv_keeper_receipt_answer) == 104 &&
                   sizeof(struct chv_keeper_receipt_answer) % sizeof(struct chv_keeper_answer) != 0,
               "no number of other answers has this length");

/* Whether a packet from the net process is such a question. */
bool chv_keeper_is_receipt(const void *packet, size_t len);
/* Answers it at the time `now` (Unix seconds). */
void chv_keeper_receipt(struct chv_keeper *keeper, uint64_t now, const void *packet,
                        struct chv_keeper_receipt_answer *answer);

/*
 * At the start, if the configuration has receipts: finds the key that signs them, in the keystore or in the PEM file of
 * receipt-key, and makes sure that it was made to sign and for nothing else; `why` says what to do. chv_keeper_close
 * closes what it opened.
 */
enum chv_err chv_keeper_receipt_open(struct chv_keeper *keeper, const struct chv_server_config *config,
                                     struct chv_why *why) CHV_MUST_CHECK;

#endif
