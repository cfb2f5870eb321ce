/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service `files` for people: one queue of operations on one connection, which the commands, batch files and the
 * shell share. Each command queues what it needs and works the queue off (chaveiro_files_run): many requests are
 * outstanding at once, and answers come in their order.
 */
#ifndef CHV_TOOLS_CHAVEIRO_FILES_H
#define CHV_TOOLS_CHAVEIRO_FILES_H

#include "services/files.h"
#include "tools/chaveiro.h"
#include "tools/chaveiro_receipt.h"

#include <sys/stat.h>

enum {
    CHAVEIRO_OUTSTANDING = 64, /* requests without an answer */
    CHAVEIRO_RECORDS = 16,     /* sent in one go, before the answers that have come are read */
    CHAVEIRO_TIME_SIZE = 32,
    CHAVEIRO_SIGNALS = 3
};

struct chaveiro_files;
struct chaveiro_op;

/* --- operations ---------------------------------------------------------------------------------------------------- */

/* What an operation does when. Those with (optional) may be NULL. */
struct chaveiro_op_class {
    /* Its turn has come: it asks (chaveiro_op_ask), or works (chaveiro_op_work), or is over when this returns. */
    void (*begin)(struct chaveiro_op *op);
    /* A piece of its work: computing, or sending a record. chaveiro_op_rest when there is no more. (optional) */
    void (*work)(struct chaveiro_op *op);
    /* An answer to what it asked; 100 and 206 are not the last. It may ask for another turn (chaveiro_op_again). */
    void (*answer)(struct chaveiro_op *op, const struct chv_files_answer *answer);
    /* The stream behind 206. (both optional) */
    void (*data)(struct chaveiro_op *op, const uint8_t *data, size_t len);
    void (*end)(struct chaveiro_op *op, const uint8_t *digest);
    /* It is over, or was never begun: what it holds besides its memory. (optional) */
    void (*free)(struct chaveiro_op *op);
};

/* The first member of each operation. */
struct chaveiro_op {
    struct chaveiro_op *next;
    const struct chaveiro_op_class *class;
    struct chaveiro_files *files;
    bool asked, queued;
};

/* Calloc of `size`, which begins with a chaveiro_op; NULL after one line. Not queued yet. */
void *chaveiro_op_new(struct chaveiro_files *files, const struct chaveiro_op_class *class, size_t size);
/* At the end of the queue; the queue owns it. */
void chaveiro_op_queue(struct chaveiro_op *op);
/* Sends its request; once in each turn. */
void chaveiro_op_ask(struct chaveiro_op *op, struct chv_files_request *request);
/* It works from now on, and nobody else is begun meanwhile; and no longer. */
void chaveiro_op_work(struct chaveiro_op *op);
void chaveiro_op_rest(struct chaveiro_op *op);
/* It waits for an answer before it goes on working, and nobody else is begun meanwhile. */
void chaveiro_op_wait(struct chaveiro_op *op, bool wait);
/* From `answer` or `work`: another turn, the next one. */
void chaveiro_op_again(struct chaveiro_op *op);
/*
 * From `begin`, `answer` or `work`: what chaveiro_op_queue is given from here to chaveiro_ops_done stands before all
 * that is queued, in its order.
 */
void chaveiro_ops_first(struct chaveiro_files *files);
void chaveiro_ops_done(struct chaveiro_files *files);

/* --- the connection and its queue ---------------------------------------------------------------------------------- */

/* A line on standard error, drawn over itself; only on a terminal, and not with --json. */
struct chaveiro_progress {
    bool shown;
    char name[64];
    uint64_t files, files_done;
    uint64_t size, done, moved; /* bytes: of all files, there, of these transferred */
    uint64_t started, drawn;    /* uv_hrtime */
};

struct chaveiro_files {
    const struct chv_cli_args *args;
    struct chaveiro_link *link; /* NULL: not opened yet */
    struct chv_files_client client;
    bool connected;
    struct chaveiro_op *todo, **todo_end;
    struct chaveiro_op **insert; /* between chaveiro_ops_first and _done */
    struct chaveiro_op *sent, **sent_end;
    struct chaveiro_op *worker; /* NULL: nobody works */
    bool waiting;               /* the worker does, for an answer */
    bool running, done;
    uv_idle_t idle;
    uv_signal_t signals[CHAVEIRO_SIGNALS];
    bool has_handles;
    uint64_t pinged; /* uv_hrtime */

    /* of the command under way */
    int code;   /* exit code, of the first failure */
    int signal; /* that ended it; 0: none */
    unsigned failures;
    struct chaveiro_progress progress;

    /* of the run */
    bool json, verbose;
    bool names;     /* ls: names alone */
    bool shell;     /* a signal ends a command, and the next one connects again */
    bool chatty;    /* what a transfer came to is told */
    bool prompting; /* the shell's line is on the terminal */
    mode_t umask;
    char cwd[CHV_FILES_PATH_MAX + 1]; /* the shell's, on the server */
};

/* Opens nothing yet. */
void chaveiro_files_init(struct chaveiro_files *files, const struct chv_cli_args *args);
/* Ends the connection in order, if there is one. Returns `code`, or if that is 0 what went wrong at the end. */
int chaveiro_files_close(struct chaveiro_files *files, int code);
/* Opens the key and connects, if that has not been done. False after one line; files->code is set. */
bool chaveiro_files_connect(struct chaveiro_files *files);
/* Connects if need be, and works off the queue. False: the connection ended before; nothing is queued any more. */
bool chaveiro_files_run(struct chaveiro_files *files);
/* All that is queued is given up, and the connection. */
void chaveiro_files_abort(struct chaveiro_files *files);
/* The beginning of a command: no failure yet. */
void chaveiro_files_reset(struct chaveiro_files *files);

/* One line; the command's exit code is the first one's. */
void chaveiro_files_fail(struct chaveiro_files *files, int code, const char *format, ...) CHV_PRINTF(3, 4);
/* The same for what has been told already; EX_OK: it went well. */
void chaveiro_files_code(struct chaveiro_files *files, int code);
/* The same for an answer that is an error. */
void chaveiro_files_failed(struct chaveiro_files *files, const struct chv_files_answer *answer);
/* A line that is no failure. */
void chaveiro_files_tell(struct chaveiro_files *files, const char *format, ...) CHV_PRINTF(2, 3);

/* --- progress (chaveiro_files_progress.c) -------------------------------------------------------------------------- */

/* name "", size 0: chaveiro_progress_expect and _file say more. */
void chaveiro_progress_begin(struct chaveiro_progress *p, const struct chv_cli_args *args, const char *name,
                             uint64_t size);
/* So many more files and bytes are to be moved. */
void chaveiro_progress_expect(struct chaveiro_progress *p, uint64_t count, uint64_t bytes);
/* This one moves now. */
void chaveiro_progress_file(struct chaveiro_progress *p, const char *name);
/* `moved` bytes came or went, `skipped` ones were there. */
void chaveiro_progress_add(struct chaveiro_progress *p, uint64_t moved, uint64_t skipped);
/* All in all `done` bytes were moved. */
void chaveiro_progress_to(struct chaveiro_progress *p, uint64_t done);
/* Takes the line away until the next chaveiro_progress_add. */
void chaveiro_progress_clear(struct chaveiro_progress *p);
void chaveiro_progress_end(struct chaveiro_progress *p);
/* The line itself; `ns` since the beginning. */
void chaveiro_progress_text(const struct chaveiro_progress *p, uint64_t ns, char *out, size_t out_size);

/* --- names (chaveiro_files_names.c) -------------------------------------------------------------------------------- */

/*
 * A name on the server as people write it: "/" is the client's home, slashes behind it are left out. In the shell it
 * starts from files->cwd, and '.' and '..' are taken out of it. False after one line.
 */
bool chaveiro_files_path(struct chaveiro_files *files, const char *text, char out[CHV_FILES_PATH_MAX + 1]);

/* Where an operand leads: a name on the server, and what is known of it. */
struct chaveiro_match {
    char *path;
    bool known;
    struct chv_files_meta meta;
};

struct chaveiro_matches {
    struct chaveiro_match *list;
    size_t count, room;
};

enum {
    CHAVEIRO_EXPAND_STAT = 1, /* what a name is, too: what is not there is told, and left out */
    CHAVEIRO_EXPAND_ONE = 2   /* ... and of what is not there nothing is told: it stays, unknown */
};

/*
 * What a pattern stands for, by name; adds to `matches`. A pattern that nothing matches stands for itself. False: it
 * failed, after one line.
 */
bool chaveiro_files_expand(struct chaveiro_files *files, const char *pattern, unsigned flags,
                           struct chaveiro_matches *matches);
void chaveiro_matches_free(struct chaveiro_matches *matches);

/* --- listings (chaveiro_files_list.c) ------------------------------------------------------------------------------ */

struct chaveiro_listing {
    struct chv_files_entry *entries; /* by name */
    size_t count;
};

/*
 * Queues a listing; `done` is called once, with an answer that may be an error and is NULL if what came is damaged (both have not
 * been told), unless the connection ends before. `free_arg` afterwards in every case. The listing is `done`'s to read.
 */
typedef void chaveiro_list_fn(struct chaveiro_files *files, void *arg, const struct chaveiro_listing *listing,
                              const struct chv_files_answer *answer);
void chaveiro_files_list(struct chaveiro_files *files, const char *path, chaveiro_list_fn *done,
                         void (*free_arg)(void *arg), void *arg);
/* Queues a request that has one answer. */
typedef void chaveiro_answer_fn(struct chaveiro_files *files, void *arg, const struct chv_files_answer *answer);
void chaveiro_files_ask(struct chaveiro_files *files, enum chv_files_op op, const char *path, const char *to,
                        chaveiro_answer_fn *done, void (*free_arg)(void *arg), void *arg);

/* --- transfers (chaveiro_files_get.c, _put.c, _tree.c) ------------------------------------------------------------- */

/* How to transfer, and what it came to. */
struct chaveiro_transfer {
    const char *command; /* "get" */
    bool recursive, preserve, resume, fsync;
    bool many;                    /* a sum of all is wanted */
    uint64_t files, bytes, there; /* moved; `there`: files that were the same already */
    uint64_t started;
    struct chaveiro_receipts *receipts; /* put: NULL, none are wanted */
    struct chaveiro_folder *folders;    /* -rp: whose mode and time are set at the end */
};

/* A local folder beneath which names are read or written; counted. */
struct chaveiro_base {
    int fd;
    unsigned users;
    char *shown; /* as the user called it, "" for the current folder */
};

/* NULL and errno. */
struct chaveiro_base *chaveiro_base_open(const char *folder);
struct chaveiro_base *chaveiro_base_use(struct chaveiro_base *base);
void chaveiro_base_free(struct chaveiro_base *base); /* NULL is allowed */
/* "shown/name", malloc'ed. */
char *chaveiro_base_path(const struct chaveiro_base *base, const char *name);

/* Queues a file; `name` beneath base (no link in it is followed). meta: what is known of it, or NULL. */
void chaveiro_get_file(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *path,
                       const struct chv_files_meta *meta, struct chaveiro_base *base, const char *name);
/* A folder and all in it; name "": into base itself. */
void chaveiro_get_folder(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *path,
                         const struct chv_files_meta *meta, struct chaveiro_base *base, const char *name);
/* base NULL: `name` is as the user wrote it, and links in it are followed. st: what is known of it, or NULL. */
void chaveiro_put_file(struct chaveiro_files *files, struct chaveiro_transfer *t, struct chaveiro_base *base,
                       const char *name, const struct stat *st, const char *path);
/* name "": base itself. */
void chaveiro_put_folder(struct chaveiro_files *files, struct chaveiro_transfer *t, struct chaveiro_base *base,
                         const char *name, const char *path);
/* Modes and times of folders, when all in them is there; frees t->folders. `alive`: the server can be asked. */
void chaveiro_folders_done(struct chaveiro_files *files, struct chaveiro_transfer *t, bool alive);
/* As the service has it: ns since 1970, 0 for what is before. */
uint64_t chaveiro_files_mtime(const struct stat *st);
/* A file is there: what -v and --json say. digest NULL: it was there already. */
void chaveiro_files_moved(struct chaveiro_files *files, struct chaveiro_transfer *t, const char *remote,
                          const char *local, uint64_t size, uint64_t started, const uint8_t *digest);

/* --- local files that come (chaveiro_files_local.c) ---------------------------------------------------------------- */

/* What an unfinished file is called, with text behind it. */
#define CHAVEIRO_PART ".chv-get-"

/* A file on its way in: hidden beside its name until all of it is there. */
struct chaveiro_part {
    int dir, fd; /* -1: none */
    char name[CHV_FILES_NAME_MAX + 1], part[sizeof CHAVEIRO_PART + 16];
};

/* errno. What an interrupted one has left is kept if `keep`; *size: its bytes. */
int chaveiro_part_open(struct chaveiro_part *part, const struct chaveiro_base *base, const char *name, bool keep,
                       uint64_t *size);
/* Opens the file that has the name now, for reading; -1: there is none. */
int chaveiro_part_old(const struct chaveiro_part *part, uint64_t *size);
/* errno. All of it is there: under its name. */
int chaveiro_part_commit(struct chaveiro_part *part, const struct chv_files_meta *meta, mode_t mask, bool fsync_it);
void chaveiro_part_close(struct chaveiro_part *part, bool remove);
/* In words. */
const char *chaveiro_local_error(int error);

/* --- commands (chaveiro_files_command.c) --------------------------------------------------------------------------- */

/* Exit code of the command; after one line for each failure. Patterns on the server are expanded. */
int chaveiro_files_get(struct chaveiro_files *files, struct chaveiro_transfer *t, char **words, size_t count);
/* has_remote: the last word is where to. */
int chaveiro_files_put(struct chaveiro_files *files, struct chaveiro_transfer *t, char **words, size_t count,
                       bool has_remote);
/* ls, stat, checksum, df, mkdir, rmdir, rm, rename. */
int chaveiro_files_simple(struct chaveiro_files *files, enum chv_files_op op, char **words, size_t count);
/* "2026-03-01 12:00:00", local time, of ns since 1970. */
void chaveiro_files_time(uint64_t ns, char out[CHAVEIRO_TIME_SIZE]);
/* The server's name, escaped if standard output is a terminal. */
void chaveiro_files_put_name(const char *name);

#endif
