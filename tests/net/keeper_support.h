/* SPDX-License-Identifier: Apache-2.0 */
/* A server keystore with the masters of epochs 1 and 2, requests to a keeper, and what it must answer. */
#ifndef CHV_TESTS_NET_KEEPER_SUPPORT_H
#define CHV_TESTS_NET_KEEPER_SUPPORT_H

#include "net/keeper.h"
#include "tests/keystore/support.h"

enum { NOW = 1800000000, DAY = 86400 };

/* Makes the keystore (once per program) and a configuration of server "s1" for it: epoch 1, lifetimes up to 90 days. */
void keeper_config(struct chv_server_config *config);
/* A credential's bytes. `profile` 0: psk. */
size_t keeper_credential(enum chv_profile profile, uint32_t epoch, uint64_t not_after, uint8_t out[CHV_CREDENTIAL_MAX]);
void keeper_request(struct chv_keeper_request *request, uint64_t tag, uint32_t epoch, uint64_t not_after);
/* The session PSK by HKDF alone. */
void keeper_psk(const struct chv_keeper_request *request, const char *server, uint32_t epoch, uint8_t out[CHV_KEY_LEN]);

#endif
