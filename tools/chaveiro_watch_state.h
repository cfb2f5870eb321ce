/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder that 'chaveiro watch' fills, and what it must remember beside it, in DIR/.chaveiro-watch:
 *
 *     lock      held by the one program that is at work here
 *     journal   chaveiro-watch 1 SERVER CLIENT        whose the folder is
 *               I ENTRY SHA256 NAME                   the entry is whole in its part, which is to be renamed to NAME
 *               G ENTRY                               its intent counts no more: the server has removed the entry, or the
 *                                                     name is another file's
 *
 * A part is DIR/.chv-part-ENTRY. While its intent is in the journal it goes in one way only, by being renamed: an intent
 * whose part is gone has been carried out, and one step of the file system does it and records it. Where the name is
 * another file's, its G is written before the part is removed. An intent is kept, and
 * answered for again in the next connection, until the server says that the entry is gone.
 *
 * What is written is on the disk before the next step is made; functions block.
 */
#ifndef CHV_TOOLS_CHAVEIRO_WATCH_STATE_H
#define CHV_TOOLS_CHAVEIRO_WATCH_STATE_H

#include "services/push_wire.h"

/* What was received and is not known to be gone. */
struct chaveiro_watch_intent {
    uint8_t id[CHV_PUSH_ID_LEN], sha256[CHV_FILES_DIGEST_LEN];
    char name[CHV_FILES_NAME_MAX + 1];
};

struct chaveiro_watch_state {
    const char *folder; /* for messages */
    int dir, own, lock, journal;
    char who[512]; /* "" until it is bound */
    struct chaveiro_watch_intent *intents;
    size_t count, room;
    uint64_t size, head; /* bytes of the journal, and of its first line */
};

/* A whole file that has come. */
struct chaveiro_watch_file {
    struct chv_push_entry entry;
    int fd;        /* of its part */
    unsigned code; /* out: 200, or why it has not got its name */
    char text[CHV_PUSH_TEXT_MAX + 1];
};

/*
 * Takes the folder, and finishes or undoes what was under way when the last program there ended. `renamed` is told each
 * name that a file has got by that. CHV_ERR_BUSY: another one is at work; CHV_ERR_NOT_FOUND, CHV_ERR_IO,
 * CHV_ERR_DAMAGED. `close` takes what a failed `open` left.
 */
enum chv_err chaveiro_watch_open(const char *folder, struct chaveiro_watch_state *state,
                                 void (*renamed)(const struct chaveiro_watch_intent *intent, void *arg), void *arg,
                                 struct chv_why *why) CHV_MUST_CHECK;
void chaveiro_watch_close(struct chaveiro_watch_state *state);
/* The folder is this client's of this server ("SERVER CLIENT"), for good. CHV_ERR_CONFIG: it is another one's. */
enum chv_err chaveiro_watch_bind(struct chaveiro_watch_state *state, const char *who,
                                 struct chv_why *why) CHV_MUST_CHECK;

const struct chaveiro_watch_intent *chaveiro_watch_find(const struct chaveiro_watch_state *state,
                                                        const uint8_t id[CHV_PUSH_ID_LEN]);
/* Whether anything has that name. */
bool chaveiro_watch_taken(const struct chaveiro_watch_state *state, const char *name);
/* A new part: its descriptor, or -1 and errno. */
int chaveiro_watch_part(const struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN]);
void chaveiro_watch_drop(const struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN]);
/*
 * Gives whole files their names, durably: `code` of each says what became of it; nothing is replaced. Closes their
 * descriptors. An error: the state is not known, and nothing may be answered.
 */
enum chv_err chaveiro_watch_commit(struct chaveiro_watch_state *state, struct chaveiro_watch_file *files, size_t n,
                                   struct chv_why *why) CHV_MUST_CHECK;
/* The server has removed the entry: nothing of it needs to be remembered. */
enum chv_err chaveiro_watch_gone(struct chaveiro_watch_state *state, const uint8_t id[CHV_PUSH_ID_LEN],
                                 struct chv_why *why) CHV_MUST_CHECK;
/* code and text of an answer for an errno. */
void chaveiro_watch_refuse(struct chaveiro_watch_file *file, int failed);

#endif
