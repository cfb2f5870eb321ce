/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registrar's question to the keeper: the MAC of a seal over the head of the audit trail (doc/registry.md), by the
 * audit key of the epoch that the seal names. That key does not leave the keeper. Such questions come through a socket
 * of their own, which the supervisor gives to these two alone: on those of the net process they are none.
 */
#ifndef CHV_NET_KEEPER_AUDIT_H
#define CHV_NET_KEEPER_AUDIT_H

#include "net/keeper.h"
#include "registry/registry.h"

/* One a packet; its answer is one, too. */
struct chv_keeper_audit_request {
    uint64_t tag; /* the asker's, comes back */
    uint8_t kind; /* CHV_KEEPER_AUDIT */
    uint8_t zero[3];
    uint32_t epoch; /* of the seal, as what follows */
    uint64_t n;
    uint64_t time; /* Unix seconds */
    uint8_t hash[CHV_AUDIT_HASH_LEN];
};

struct chv_keeper_audit_answer {
    uint64_t tag;
    uint16_t status; /* CHV_KEEPER_OK; CHV_KEEPER_MALFORMED: no master of that epoch; CHV_KEEPER_UNAVAILABLE */
    uint16_t zero[3];
    uint8_t mac[CHV_AUDIT_MAC_LEN]; /* zeros unless status is CHV_KEEPER_OK */
};

_Static_assert(sizeof(struct chv_keeper_audit_request) == 64 && sizeof(struct chv_keeper_audit_answer) == 48, "layout");

/* Answers one packet. CHV_ERR_MALFORMED: not such a question, nothing is to be sent. */
enum chv_err chv_keeper_audit(struct chv_keeper *keeper, uint64_t now, const void *packet, size_t len,
                              struct chv_keeper_audit_answer *answer) CHV_MUST_CHECK;

#endif
