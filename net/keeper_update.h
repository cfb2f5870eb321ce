/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's third question: the body of a KEY_UPDATE (doc/protocol.md, section 8) for a credential that a session has
 * proven. A struct chv_keeper_request of kind CHV_KEEPER_UPDATE is a packet of its own: `credential` is the old one,
 * `h_psk` is h_fin. So is its answer, which is longer than the others: it is known by its length.
 */
#ifndef CHV_NET_KEEPER_UPDATE_H
#define CHV_NET_KEEPER_UPDATE_H

#include "core/update.h"
#include "net/keeper.h"

enum { CHV_KEEPER_UPDATE_ROOM = 568 };

struct chv_keeper_update_answer {
    uint64_t tag;
    uint16_t
        status; /* CHV_KEEPER_OK; CHV_KEEPER_MALFORMED: there is none for this credential; CHV_KEEPER_UNAVAILABLE */
    uint16_t body_len;
    uint32_t zero;
    uint8_t body[CHV_KEEPER_UPDATE_ROOM]; /* zeros behind body_len, and unless status is CHV_KEEPER_OK */
};

_Static_assert(CHV_UPDATE_BODY_MAX - (int)CHV_KEEPER_UPDATE_ROOM <= 0, "the longest body fits");
_Static_assert(sizeof(struct chv_keeper_update_answer) == 584 &&
                   sizeof(struct chv_keeper_update_answer) % sizeof(struct chv_keeper_answer) != 0,
               "no number of other answers has this length");

/* Whether a packet from the net process is such a question; any other goes to chv_keeper_answer. */
bool chv_keeper_is_update(const void *packet, size_t len);
/*
 * Answers it. The keeper judges the old credential as it does for a session (epoch served, own clock, lifetime), and makes
 * the new one itself: the old one in its own successor's epoch. Update key and new access key are in this process's memory
 * while it computes and wiped before it returns; the old access key is the keystore's middle key (chv_keystore_derive2).
 */
void chv_keeper_update(struct chv_keeper *keeper, uint64_t now, const void *packet,
                       struct chv_keeper_update_answer *answer);

#endif
