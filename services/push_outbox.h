/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for clients, on the disk of the server:
 *
 *     OUTBOX/ID/ENTRY           an entry: a head (magic, u16 length, the map of the record ENTRY, zeros), the content
 *     OUTBOX/ID/ENTRY.refused   why the client did not take it, when it was last offered
 *     OUTBOX/ID/delivered       a line for each entry that went, newest last
 *     OUTBOX/.spool/ENTRY       one that is being made; each client's is a hard link to it
 *
 * keyadmin makes entries, the net process removes them. Functions block on the file system and return 0 or errno. No
 * symbolic link is followed, and nothing outside of the outbox reached.
 */
#ifndef CHV_SERVICES_PUSH_OUTBOX_H
#define CHV_SERVICES_PUSH_OUTBOX_H

#include <sys/stat.h>

#include "services/push_wire.h"

enum { CHV_PUSH_HEAD = 512 }; /* where an entry's content begins */

struct chv_push_outbox {
    int fd;    /* -1: none */
    bool root; /* what is made is handed to the owner of the outbox */
    struct stat st;
};

int chv_push_outbox_open(const char *path, struct chv_push_outbox *outbox);
void chv_push_outbox_close(struct chv_push_outbox *outbox);

/* A client's folder; with `make` it is made, durably, if it is missing. `id`: a client id. */
int chv_push_folder_open(const struct chv_push_outbox *outbox, const char *id, bool make, int *fd);
/* Calls `each` for every entry, in no order, until it says false. */
typedef bool (*chv_push_each_fn)(void *arg, const uint8_t id[CHV_PUSH_ID_LEN]);
int chv_push_folder_each(int folder, chv_push_each_fn each, void *arg);

/* Reads the head; *fd (NULL: not wanted) has the content from CHV_PUSH_HEAD on. EBADMSG: this is no entry. */
int chv_push_entry_open(int folder, const uint8_t id[CHV_PUSH_ID_LEN], struct chv_push_entry *entry, int *fd);
/* Not yet durable. ENOENT: there is none. */
int chv_push_entry_remove(int folder, const uint8_t id[CHV_PUSH_ID_LEN]);

/* Why an entry is still there. */
struct chv_push_mark {
    unsigned code;
    uint64_t time; /* Unix seconds */
    char text[CHV_PUSH_TEXT_MAX + 1];
};

int chv_push_mark_write(const struct chv_push_outbox *outbox, int folder, const uint8_t id[CHV_PUSH_ID_LEN],
                        const struct chv_push_mark *mark);
/* False: there is none. */
bool chv_push_mark_read(int folder, const uint8_t id[CHV_PUSH_ID_LEN], struct chv_push_mark *mark);

/* What became of entries; the file is begun anew when it has grown, and goes on counting. */
struct chv_push_log {
    uint64_t count, time; /* of deliveries; Unix seconds of the last one, 0: none */
};

/* An entry that the file has already is not written again. One writer at a time. */
int chv_push_log_add(const struct chv_push_outbox *outbox, int folder, const struct chv_push_entry *entries, size_t n,
                     uint64_t now);
void chv_push_log_read(int folder, struct chv_push_log *log);

/* --- making entries ------------------------------------------------------------------------------------------------ */

struct chv_push_spool {
    const struct chv_push_outbox *outbox;
    int fd;
};

/* Removes what a killed program left there, unless another one is at work. */
int chv_push_spool_open(const struct chv_push_outbox *outbox, struct chv_push_spool *spool);
void chv_push_spool_close(struct chv_push_spool *spool);
/* A new entry's id: later ones are greater. */
int chv_push_id_new(uint8_t id[CHV_PUSH_ID_LEN]);
/*
 * Copies a regular file into the spool: entry->id and name are the caller's, the rest is set. ESTALE: it changed
 * meanwhile. Nothing is left after a failure. `progress` (or NULL) is told the bytes that are done.
 */
int chv_push_spool_copy(const struct chv_push_spool *spool, int source, struct chv_push_entry *entry,
                        void (*progress)(void *arg, uint64_t done), void *arg);
/* Puts it into a client's folder, durably. */
int chv_push_spool_link(const struct chv_push_spool *spool, const struct chv_push_entry *entry, int folder);
void chv_push_spool_drop(const struct chv_push_spool *spool, const struct chv_push_entry *entry);

#endif
