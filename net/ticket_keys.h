/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of ticket keys for a data side that has no keystore (doc/keystore-format.md, "Ticket keys"). keyadmin writes
 * it, the supervisor reads it. Its keys open and make tickets of one audience, SERVER/data, in the days that they are for:
 * nothing about the master or other audiences follows from them.
 *
 *   chaveiro-ticket-keys 1
 *   audience gate.example/data
 *   key EPOCH PERIOD 64 hex digits
 */
#ifndef CHV_NET_TICKET_KEYS_H
#define CHV_NET_TICKET_KEYS_H

#include "core/ticket.h"

enum {
    CHV_TICKET_KEYS_MAX = 200,
    CHV_TICKET_KEYS_TEXT_MAX = 64 * 1024,
    CHV_TICKET_KEYS_WARN = 3 * 86400 /* seconds before its keys run out that are said */
};

struct chv_ticket_key {
    uint32_t epoch;
    uint64_t period; /* Unix time / CHV_TICKET_PERIOD_SECONDS */
    uint8_t key[CHV_KEY_LEN];
};

/* All secret: in memory of chv_secure_alloc, or wiped after use. */
struct chv_ticket_keys {
    char audience[CHV_AUDIENCE_MAX + 1];
    size_t count;
    struct chv_ticket_key list[CHV_TICKET_KEYS_MAX];
};

/*
 * CHV_ERR_CONFIG with "FILE:LINE: ..." for anything but the above, for two keys of one epoch and period, and for none.
 * Empty lines and lines that begin with '#' are passed over. On failure *keys is wiped.
 */
enum chv_err chv_ticket_keys_parse(const char *text, size_t len, const char *file, struct chv_ticket_keys *keys,
                                   struct chv_why *why) CHV_MUST_CHECK;
/* The text, with a NUL. *len: in, room (CHV_TICKET_KEYS_TEXT_MAX is enough); out, length. CHV_ERR_SPACE. */
enum chv_err chv_ticket_keys_format(const struct chv_ticket_keys *keys, char *out, size_t *len) CHV_MUST_CHECK;
/*
 * Reads a file. CHV_ERR_STORE_MODE: it is not root's or the caller's, or others can read it. CHV_ERR_CONFIG also for
 * another audience than `server`'s. Blocks on the file.
 */
enum chv_err chv_ticket_keys_load(const char *file, const char *server, struct chv_ticket_keys *keys,
                                  struct chv_why *why) CHV_MUST_CHECK;

/* When the last of the days without a gap from `now` on ends, Unix seconds; 0: there is no key for today. */
uint64_t chv_ticket_keys_end(const struct chv_ticket_keys *keys, uint64_t now);
/* To the log: how many there are and until when, a warning within CHV_TICKET_KEYS_WARN, an error if there is none now. */
void chv_ticket_keys_say(const struct chv_ticket_keys *keys, const char *file, uint64_t now);

#endif
