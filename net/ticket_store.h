/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's tickets for coming back (doc/protocol.md, section 7): in locked memory and, only if asked, in a file.  Each
 * is handed out once.
 *
 * A store belongs to one credential, server name, suite and profile at a time (chv_ticket_store_bind); what was got with
 * another one is dropped.  A ticket's lifetime counts from when it came, by this machine's own clocks: the server's time of
 * day may be another one.  In memory that is CLOCK_BOOTTIME, which nobody sets and which goes on while the machine
 * sleeps.  A file may outlive the machine's run, so there it is the time of day, and a ticket from the future, because
 * the clock was set back, is dropped.
 *
 * The file is shared by as many processes as like: all of them read and write it under its lock (flock(2)), and a ticket
 * is gone from it, durably, before it is handed out.  It holds secrets: mode 0600, own user's, no symbolic link.  Whoever
 * has it can be this client until its tickets end.
 */
#ifndef CHV_NET_TICKET_STORE_H
#define CHV_NET_TICKET_STORE_H

#include "net/control.h"

#include <chaveiro/backend.h>

enum {
    CHV_TICKET_STORE_MAX = 64,
    CHV_TICKET_STORE_WANTED = 2,    /* in stock, unless chv_ticket_store_want says another number */
    CHV_TICKET_LIFETIME_MAX = 86400 /* seconds; a longer one is not believed */
};

struct chv_ticket_store;

/* One ticket with its resumption secret; wiped by whoever has it. */
struct chv_ticket_use {
    uint8_t ticket[CHV_TICKET_MAX];
    size_t ticket_len;
    uint8_t secret[CHV_KEY_LEN];
};

/* This machine's clocks, in seconds. */
struct chv_ticket_now {
    uint64_t boot; /* CLOCK_BOOTTIME */
    uint64_t wall; /* CLOCK_REALTIME, Unix time */
};
struct chv_ticket_now chv_ticket_now(void);

/* One line for people about the file, which never keeps a connection from being made. */
typedef void (*chv_ticket_warn_fn)(void *arg, const char *text);

/*
 * `file` NULL: in memory only; else its name, copied.  One that is not there is made when the first ticket comes.
 * CHV_ERR_STORE_MODE: others may read it, or it is another user's; CHV_ERR_CONFIG: a symbolic link or no plain file;
 * CHV_ERR_IO, CHV_ERR_MEMORY.  A damaged one is a warning, and its tickets are lost.  `warn` may be NULL.
 */
enum chv_err chv_ticket_store_open(const char *file, chv_ticket_warn_fn warn, void *arg,
                                   struct chv_ticket_store **store, struct chv_why *why) CHV_MUST_CHECK;
/* Wipes what is in memory; the file stays.  NULL is allowed. */
void chv_ticket_store_close(struct chv_ticket_store *store);

/* What tickets are got with and used for from now on; those of anything else are dropped, in the file at its next change. */
void chv_ticket_store_bind(struct chv_ticket_store *store, const uint8_t binding[static CHV_KEY_LEN]);
/* How many shall be in stock, at most CHV_TICKET_STORE_MAX: for a program with so many connections at a time. */
void chv_ticket_store_want(struct chv_ticket_store *store, unsigned count);
/* How many there are.  Blocks on the file, if none is in memory. */
unsigned chv_ticket_store_count(struct chv_ticket_store *store, struct chv_ticket_now now);
/* How many of those are missing, at most CHV_OPEN_TICKETS_MAX: what OPEN asks for.  Blocks on the file. */
unsigned chv_ticket_store_lacks(struct chv_ticket_store *store, struct chv_ticket_now now);

/*
 * Keeps a ticket that has just come, if `binding` is still what the store is bound to.  If there are too many, the one that
 * ends first goes.  If the file cannot be written, it is kept in memory.  Blocks on the file.
 */
void chv_ticket_store_add(struct chv_ticket_store *store, const uint8_t binding[static CHV_KEY_LEN],
                          struct chv_ticket_now now, const struct chv_grant *grant,
                          const uint8_t secret[static CHV_KEY_LEN]);
/*
 * Takes the ticket that lives longest out of the store; false if there is none, and then `use` is zeros.  Never the same
 * one twice, in this process or another one, whatever is killed when.  Blocks on the file.
 */
bool chv_ticket_store_take(struct chv_ticket_store *store, struct chv_ticket_now now, struct chv_ticket_use *use);

#endif
