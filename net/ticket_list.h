/* SPDX-License-Identifier: Apache-2.0 */
/* What the ticket store has in memory and in its file: a bounded list, and the file that one is read from and written to. */
#ifndef CHV_NET_TICKET_LIST_H
#define CHV_NET_TICKET_LIST_H

#include "net/ticket_store.h"

struct chv_ticket_entry {
    uint64_t from, until; /* seconds of one clock: good at from <= now < until */
    uint8_t ticket[CHV_TICKET_MAX];
    uint16_t ticket_len;
    uint8_t secret[CHV_KEY_LEN];
};

/* In locked memory. */
struct chv_ticket_list {
    uint8_t binding[CHV_KEY_LEN];
    size_t count;
    struct chv_ticket_entry entries[CHV_TICKET_STORE_MAX];
};

/* Drops those that are not good at `now`. */
void chv_ticket_list_expire(struct chv_ticket_list *list, uint64_t now);
/* In a full list the one that ends first goes, which may be the new one. */
void chv_ticket_list_add(struct chv_ticket_list *list, const struct chv_ticket_entry *entry);
/* The one that ends last; false: the list is empty. */
bool chv_ticket_list_take(struct chv_ticket_list *list, struct chv_ticket_entry *entry);
void chv_ticket_list_clear(struct chv_ticket_list *list);

struct chv_ticket_file;

/* The folder must be there; the file is looked at only if it is there.  Errors as chv_ticket_store_open. */
enum chv_err chv_ticket_file_open(const char *path, struct chv_ticket_file **file, struct chv_why *why) CHV_MUST_CHECK;
void chv_ticket_file_close(struct chv_ticket_file *file);
/*
 * Locks the file and reads it; one that is not there is made if `make`, else CHV_ERR_NOT_FOUND.  On success it is locked
 * until chv_ticket_file_leave.  A damaged one is an empty list: `why` says so, and the result is CHV_OK.  CHV_ERR_BUSY:
 * somebody holds it for longer than a moment.
 */
enum chv_err chv_ticket_file_enter(struct chv_ticket_file *file, bool make, struct chv_ticket_list *list,
                                   struct chv_why *why) CHV_MUST_CHECK;
/* Puts the list in its place, whole and on the disk.  On failure *placed says whether it is there, but not durably. */
enum chv_err chv_ticket_file_write(struct chv_ticket_file *file, const struct chv_ticket_list *list, bool *placed,
                                   struct chv_why *why) CHV_MUST_CHECK;
void chv_ticket_file_leave(struct chv_ticket_file *file);

#endif
