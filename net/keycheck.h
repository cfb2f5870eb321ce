/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key check values of masters (doc/protocol.md, section 2), kept outside the keystore and compared when it is opened: a
 * token that was initialised anew behind our back has the same name, and may have the same PIN, but another master.
 */
#ifndef CHV_NET_KEYCHECK_H
#define CHV_NET_KEYCHECK_H

#include "net/server.h"

#include <chaveiro/keystore.h>

/*
 * Derives the check value of the master of `epoch`, which shows also that it can be used, and compares it with the one
 * that the configuration has for that epoch, if any.  CHV_ERR_KEY, and `why` has both values; CHV_ERR_CONFIG if there
 * is no such master.
 */
enum chv_err chv_keycheck(struct chv_keystore *keystore, uint32_t epoch, const struct chv_key_check *checks,
                          size_t check_count, struct chv_why *why) CHV_MUST_CHECK;

/*
 * Calls `say` with one line for each epoch that is served from a token and has no check value: a token initialised anew
 * would not be noticed there.  chv_keycheck_log says it in the log.
 */
typedef void (*chv_keycheck_fn)(const char *text);
void chv_keycheck_missing(const struct chv_server_config *config, chv_keycheck_fn say);
void chv_keycheck_log(const struct chv_server_config *config);

#endif
