/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro's commands, one file each, and the connection that they share. */
#ifndef CHV_TOOLS_CHAVEIRO_H
#define CHV_TOOLS_CHAVEIRO_H

#include "services/message.h"
#include "tools/cli.h"
#include "tools/client_config.h"
#include "tools/secret.h"
#include "tools/token.h"

#include <uv.h>

int chaveiro_send(const struct chv_cli_args *args);
int chaveiro_chat(const struct chv_cli_args *args);
int chaveiro_ping(const struct chv_cli_args *args);
int chaveiro_get(const struct chv_cli_args *args);
int chaveiro_put(const struct chv_cli_args *args);
int chaveiro_ls(const struct chv_cli_args *args);
int chaveiro_stat(const struct chv_cli_args *args);
int chaveiro_df(const struct chv_cli_args *args);
int chaveiro_checksum(const struct chv_cli_args *args);
int chaveiro_mkdir(const struct chv_cli_args *args);
int chaveiro_rmdir(const struct chv_cli_args *args);
int chaveiro_rm(const struct chv_cli_args *args);
int chaveiro_mv(const struct chv_cli_args *args);
int chaveiro_watch(const struct chv_cli_args *args);
int chaveiro_shell(const struct chv_cli_args *given);

int chaveiro_ftp(const struct chv_cli_args *args);
int chaveiro_tunnel(const struct chv_cli_args *args);
int chaveiro_connect(const struct chv_cli_args *args);

struct chaveiro_link;

enum { CHAVEIRO_WHERE_MAX = 600 }; /* two addresses */

/* What a command does with the connection: as chv_message_events, once the server has let us in. Optional members are
 * NULL. */
struct chaveiro_job {
    void (*ready)(struct chaveiro_link *link);
    void (*sent)(struct chaveiro_link *link);                                   /* optional */
    void (*reply)(struct chaveiro_link *link, const uint8_t *data, size_t len); /* optional */
    void (*reply_end)(struct chaveiro_link *link);                              /* optional */
    void (*pong)(struct chaveiro_link *link, uint64_t microseconds);            /* optional */
    /* Of another service than `message`: its name (NULL: files), its records, and room to send more. */
    const char *service;
    enum chv_err (*record)(struct chaveiro_link *link, uint8_t type, const uint8_t *body, size_t len);
    void (*batch)(struct chaveiro_link *link); /* optional */
    void (*drained)(struct chaveiro_link *link);
    const char *tunnel; /* of service "tunnel": its name */
    /* It was lost, or could not be made, for a reason that may pass: true if another one shall be, after a pause.
     * Optional. */
    bool (*again)(struct chaveiro_link *link);
    /* The connection is gone, in whatever way; with `again` this may be told twice. Optional. */
    void (*over)(struct chaveiro_link *link);
};

/* The passphrase of the client's keystore, which it takes to write it too. */
struct chaveiro_secret {
    struct chv_secret_source source;
    bool hold;  /* what cannot be had again is kept, in locked memory, until the end of the run */
    char *held; /* chv_secure_alloc; NULL: nothing */
    size_t held_len;
};

/* The connection of one run of the program. */
struct chaveiro_link {
    const struct chv_cli_args *args;
    const struct chaveiro_job *job;
    void *state; /* the job's */
    const char *address;
    uint64_t timeout; /* milliseconds */
    uint64_t started; /* uv_hrtime of the attempt that is under way */
    unsigned retries, attempt;
    struct chv_client_config config;
    struct chv_keystore *keystore;    /* of -k; NULL: there is none */
    struct chv_keystore *identity;    /* of --identity; NULL: the key is in `keystore`, or there is none */
    char key_uri[CHV_TOKEN_URI_SIZE]; /* of `keystore` */
    struct chaveiro_secret key_secret;
    bool update_warned, caught_up;
    uint32_t newest_epoch, newest_serial; /* of the credential that was tried first */
    struct chv_client_key key;
    struct chv_pool pool;
    bool has_loop;
    struct chv_loop loop;
    uv_timer_t timer;                 /* the answer that is due; between attempts, the back-off */
    struct chv_message *message;      /* NULL between attempts and at the end */
    struct chv_message_events events; /* of each connection */
    bool ready, was_ready, over;      /* over: the connection is gone */
    int code;                         /* exit code, once it is over or chaveiro_fail was called */
    bool failed;
};

/* Opens the key, connects, runs the job to its end; returns the exit code, after one line if that is not 0. */
int chaveiro_run(const struct chv_cli_args *args, const struct chaveiro_job *job, void *state);
/* The same for a program with connections of its own: all of it but these, on link->loop. */
enum chv_err chaveiro_open(const struct chv_cli_args *args, struct chaveiro_link **out,
                           struct chv_why *why) CHV_MUST_CHECK;
/* Closes what chaveiro_open has opened; what is on the loop is closed by its owners' callbacks meanwhile. */
void chaveiro_close(struct chaveiro_link *link);
/* One connection after another on such a link, whose job and state are set: EX_OK once the job is ready, or an exit code
 * after one line. */
int chaveiro_link_connect(struct chaveiro_link *link);
/* Runs the loop until *until, or until the connection is over. */
void chaveiro_link_wait(struct chaveiro_link *link, const bool *until);
/* What ended a connection, when it was neither this program nor an orderly end: one line, and the exit code. */
void chaveiro_report(struct chaveiro_link *link, enum chv_err err, const char *text, unsigned refusal, unsigned status,
                     bool unproven);
/* Milliseconds before attempt number attempt + 1: 250, doubled each time. */
uint64_t chaveiro_backoff(struct chaveiro_link *link, unsigned attempt);
/* Opens what options and configuration name, into link->key; link->address is set. */
enum chv_err chaveiro_open_key(struct chaveiro_link *link, struct chv_why *why) CHV_MUST_CHECK;
/*
 * For messages, of a session that is ready: "ADDR", "ADDR (resumed)", "ADDR, redirected by ADDR" or
 * "ADDR, redirected by ADDR (resumed)"; returns `out`.
 */
const char *chaveiro_where(const struct chaveiro_link *link, struct chv_message *message, char out[CHAVEIRO_WHERE_MAX]);
/* The fingerprint of an identity key; returns `out`. */
const char *chaveiro_fingerprint(const struct chaveiro_link *link, const struct chv_identity *identity,
                                 char out[CHV_FINGERPRINT_MAX]);
/* The key check value of the client's access key, in hex, CHV_CHECK_CLIENT_LEN bytes; "" in profile key. */
enum chv_err chaveiro_key_check(struct chaveiro_link *link, char out[2 * 4 + 1], struct chv_why *why) CHV_MUST_CHECK;

/* An answer is due: without progress for --timeout the connection ends. `due` false: nothing is. */
void chaveiro_due(struct chaveiro_link *link, bool due);
/* Ends the connection in order; the exit code is what was said before, else 0. */
void chaveiro_finish(struct chaveiro_link *link);
/* One line, and the connection ends now; the first call decides on the exit code. */
void chaveiro_fail(struct chaveiro_link *link, int code, const char *format, ...) CHV_PRINTF(3, 4);
/* The same without a line, for a signal: exit code 128 + number. */
void chaveiro_interrupt(struct chaveiro_link *link, int number);
void chaveiro_fail_why(struct chaveiro_link *link, enum chv_err err, const struct chv_why *why);

/* --- tickets (chaveiro_tickets.c) ----------------------------------------------------------------------------------
 */

/* What --tickets or the configuration says; where a REDIRECT may lead. */
enum chv_err chaveiro_open_tickets(struct chaveiro_link *link, struct chv_why *why) CHV_MUST_CHECK;
/*
 * For a program that connects more than once: so many tickets shall be in stock, in memory if there is no file. Without
 * the memory for them handshakes are full ones.
 */
void chaveiro_keep_tickets(struct chaveiro_link *link, unsigned count);

/* --- key update (chaveiro_update.c) --------------------------------------------------------------------------------
 */

/* A chv_secret_fn for a struct chaveiro_secret. */
enum chv_err chaveiro_secret_get(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                                 struct chv_why *why) CHV_MUST_CHECK;
void chaveiro_secret_free(struct chaveiro_secret *s);
/* KEY_UPDATE has come: true if what it brings is stored. */
bool chaveiro_update(struct chaveiro_link *link, const uint8_t *body, size_t len);
/*
 * The same for a program with several sessions, whose link has no message of its own: `key` is what this session began
 * with.  False, too, if link->key is newer.
 */
bool chaveiro_update_of(struct chaveiro_link *link, struct chv_message *message, const struct chv_client_key *key,
                        const uint8_t *body, size_t len);
/* STATUS 200 has come: the server knows the key in use, older ones go. */
void chaveiro_update_proven(struct chaveiro_link *link);
/*
 * No key that was read at the start will do, but another run of this client may have stored a newer one since, and dropped
 * these: true, once a run, if it has taken their place.
 */
bool chaveiro_update_catch_up(struct chaveiro_link *link);
/* The server could not prove the key in use: true if an older one has taken its place. */
bool chaveiro_update_fall_back(struct chaveiro_link *link);

/* --- replies (chaveiro_reply.c) ------------------------------------------------------------------------------------
 */

/* Where a reply goes: as it is, escaped on a terminal, or collected for --json. */
struct chaveiro_reply {
    bool json, escaped;
    uint8_t *bytes;
    size_t len, room;
    uint8_t held[4]; /* escaped: the start of a UTF-8 sequence whose end has not come */
    size_t held_len;
};

void chaveiro_reply_init(struct chaveiro_reply *reply, const struct chv_cli_args *args);
void chaveiro_reply_free(struct chaveiro_reply *reply);
/* A piece, and the end of one reply: a newline is added. A failure ends the link. */
void chaveiro_reply_add(struct chaveiro_reply *reply, struct chaveiro_link *link, const uint8_t *data, size_t len);
void chaveiro_reply_finish(struct chaveiro_reply *reply, struct chaveiro_link *link);

#endif
