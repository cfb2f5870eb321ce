/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chaveiro ftp: a plain FTP server for programs of this machine; each of its control connections has a session of its
 * own with the server, and what FTP asks for becomes requests of the service files. One loop has them all.
 *
 * Nothing is kept in files, and memory is bounded: a line, a record that the slower side does not take yet, what was
 * read of the channel in one go. What one side does not take, the other is not read for.
 */
#ifndef CHV_TOOLS_CHAVEIRO_FTP_H
#define CHV_TOOLS_CHAVEIRO_FTP_H

#include "net/listener.h"
#include "net/source.h"
#include "services/files.h"
#include "tools/chaveiro.h"
#include "tools/chaveiro_ftp_text.h"

enum {
    FTP_LINE_MAX = 2560,    /* of a client, with CR LF: a command, a path of 1024 bytes, some room */
    FTP_REPLY_MAX = 4096,   /* of the door */
    FTP_LOGIN_MS = 60000,   /* to give a password */
    FTP_IDLE_MS = 900000,   /* without a command; of a transfer that the client holds up */
    FTP_REPLIES_MAX = 65536 /* bytes that a client has not read: it is not read any more */
};

struct ftp_client;
struct ftp_session;
struct ftp_data;

struct ftp_door {
    struct chaveiro_link *link;
    struct chv_listeners listeners;
    struct chv_acceptor acceptors[CHV_LISTENERS_MAX];
    size_t acceptor_count;
    char *password; /* CHV_PASSPHRASE_MAX bytes of secure memory, zeros behind its end */
    size_t password_len;
    unsigned wrong; /* passwords, since the last right one */
    unsigned client_count, client_max, session_count;
    struct ftp_client *clients;
    struct ftp_session *connecting, *waiting; /* one handshake at a time: they share keystores */
    bool stored;                              /* a new key of the client is in the keystore */
    bool stopping, over;
    uv_timer_t tick, deadline, retry; /* keeps sessions alive; of the end; before another attempt */
    uv_signal_t signals[3];
};

enum ftp_kind { FTP_NONE, FTP_RETR, FTP_STOR, FTP_LIST, FTP_NLST, FTP_MLSD };

/* The transfer under way; ftp_transfer.c alone changes it. */
struct ftp_transfer {
    enum ftp_kind kind; /* FTP_NONE: there is none */
    bool begun;         /* the server streams, or takes the content */
    bool open;          /* the data connection is there */
    bool paused;        /* the server's stream, for a client that does not read */
    bool ended;         /* STOR: END has been sent */
    bool complete;      /* what came is what the server sent */
    bool damaged;       /* it cannot be */
    bool single;        /* NLST of a file */
    unsigned failed;    /* the reply that is due at the end, 0: none yet */
    bool aborted;       /* by ABOR: another one */
    uint64_t count;
    uint64_t announced; /* STOR; UINT64_MAX: it was not */
    struct chv_files_digest *digest;
    uint8_t sum[CHV_FILES_DIGEST_LEN];
    char prefix[CHV_FILES_PATH_MAX + 2]; /* NLST: in front of each name */
    char pattern[CHV_FILES_NAME_MAX + 1];
    char argument[CHV_FILES_PATH_MAX + 1]; /* ... or this, if it is a file */
    char text[CHV_FILES_TEXT_MAX + 1];     /* of `failed` */
};

/* A control connection. */
struct ftp_client {
    struct ftp_door *door;
    struct ftp_client *next, *prev;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } control;
    uv_timer_t timer;
    unsigned handles;                  /* that are open; it is freed with the last one */
    bool local;                        /* a unix socket */
    struct sockaddr_storage peer, own; /* local: 127.0.0.1 */
    bool has_owner;                    /* the other end is a process of this machine, of user `owner` */
    uid_t owner;
    char peer_text[CHV_PEER_TEXT];
    void (*timed_out)(struct ftp_client *client);

    char line[FTP_LINE_MAX];
    size_t line_len;
    unsigned telnet;   /* bytes of a Telnet command that are still to be left out */
    bool telnet_begun; /* IAC was the last byte */
    bool reading, busy, closing, running, first;
    unsigned unknown; /* commands in a row */

    bool user, logged_in;
    uint64_t login_by; /* uv_now */
    unsigned wrong;
    struct ftp_session *session;
    void (*answered)(struct ftp_client *client, const struct chv_files_answer *answer);
    struct chv_files_request request;

    bool image, epsv_all;
    unsigned facts;
    uint64_t rest;
    uint64_t announced; /* ALLO, for the next STOR */
    bool has_announced;
    char cwd[CHV_FILES_PATH_MAX + 1];
    char from[CHV_FILES_PATH_MAX + 1]; /* RNFR */
    bool has_from;
    struct ftp_data *data;
    struct ftp_transfer transfer;
};

/* Ends the loop once it is to end and nobody is there any more (chaveiro_ftp.c). */
void ftp_settle(struct ftp_door *door);

/* --- control connections (chaveiro_ftp_control.c) ----------------------------------------------------------------- */

/* Takes over a connected socket. */
void ftp_client_accept(struct ftp_door *door, int fd, const struct sockaddr *peer);
/* One reply line; control characters in it are left out. */
void ftp_reply(struct ftp_client *client, unsigned code, const char *format, ...) CHV_PRINTF(3, 4);
/* Bytes as they are: lines of a long reply. */
void ftp_reply_bytes(struct ftp_client *client, const char *bytes, size_t len);
/* The command is done: the next one, if it has come. */
void ftp_done(struct ftp_client *client);
/* Ends it now, with all that it has. */
void ftp_client_close(struct ftp_client *client);
/* 421 with this text, and the end. */
void ftp_client_leave(struct ftp_client *client, const char *format, ...) CHV_PRINTF(2, 3);
/* `timed_out` after so many milliseconds without another call of this. */
void ftp_timer(struct ftp_client *client, uint64_t ms, void (*timed_out)(struct ftp_client *client));
/* The client has closed its side: what it has sent last may be cut off. */
bool ftp_client_gone(const struct ftp_client *client);

/* --- commands (chaveiro_ftp_commands.c) --------------------------------------------------------------------------- */

/* `line`: without CR LF. During a transfer only one that ftp_command_urgent says. */
void ftp_command(struct ftp_client *client, char *line);
bool ftp_command_urgent(const char *line);
/* The session is there (again). */
void ftp_session_ready(struct ftp_client *client);
/* One reply, and ftp_done. */
void ftp_reply_done(struct ftp_client *client, unsigned code, const char *text);

/* --- commands for the server (chaveiro_ftp_files.c) --------------------------------------------------------------- */

void ftp_cmd_pwd(struct ftp_client *client, const char *arg);
void ftp_cmd_cwd(struct ftp_client *client, const char *arg);
void ftp_cmd_cdup(struct ftp_client *client, const char *arg);
void ftp_cmd_mkd(struct ftp_client *client, const char *arg);
void ftp_cmd_rmd(struct ftp_client *client, const char *arg);
void ftp_cmd_dele(struct ftp_client *client, const char *arg);
void ftp_cmd_rnfr(struct ftp_client *client, const char *arg);
void ftp_cmd_rnto(struct ftp_client *client, const char *arg);
void ftp_cmd_size(struct ftp_client *client, const char *arg);
void ftp_cmd_mdtm(struct ftp_client *client, const char *arg);
void ftp_cmd_mfmt(struct ftp_client *client, const char *arg);
void ftp_cmd_site(struct ftp_client *client, const char *arg);
void ftp_cmd_mlst(struct ftp_client *client, const char *arg);
void ftp_cmd_retr(struct ftp_client *client, const char *arg);
void ftp_cmd_stor(struct ftp_client *client, const char *arg);
void ftp_cmd_list(struct ftp_client *client, const char *arg);
void ftp_cmd_nlst(struct ftp_client *client, const char *arg);
void ftp_cmd_mlsd(struct ftp_client *client, const char *arg);
/* Asks with client->request and calls back with its answer; busy until then. */
void ftp_ask(struct ftp_client *client, void (*answered)(struct ftp_client *client, const struct chv_files_answer *a));
/* The reply for an answer that is an error. */
void ftp_reply_failed(struct ftp_client *client, const struct chv_files_answer *answer, bool naming);
/* Where an argument leads; false after a reply. */
bool ftp_resolve(struct ftp_client *client, const char *arg, char out[CHV_FILES_PATH_MAX + 1]);

/* --- sessions (chaveiro_ftp_session.c) ---------------------------------------------------------------------------- */

/* Connects, then ftp_session_ready; or says why not. */
void ftp_session_open(struct ftp_client *client);
/* NULL while it is not ready. */
struct chv_files_client *ftp_session_files(const struct ftp_client *client);
/* It is not the client's any more; `abort`: in the middle of something. */
void ftp_session_drop(struct ftp_client *client, bool abort);
void ftp_tick(struct ftp_door *door);
/* The next one that waits, if none connects. */
void ftp_session_next(struct ftp_door *door);

/* --- data connections (chaveiro_ftp_data.c) ----------------------------------------------------------------------- */

/* Waits for one connection of the control connection's host; the port is in *address. False: no socket could be had. */
bool ftp_data_listen(struct ftp_client *client, int family, struct sockaddr_storage *address);
void ftp_data_connect_to(struct ftp_client *client, const struct sockaddr_storage *address);
/* Opens it: ftp_transfer_open, or ftp_transfer_broken. */
void ftp_data_open(struct ftp_client *client);
/* What does not leave at once is copied, and true: ftp_transfer_drained says when it has. */
bool ftp_data_write(struct ftp_client *client, const uint8_t *bytes, size_t len);
/* What comes goes to ftp_transfer_read, from room that ftp_transfer_room gives. */
void ftp_data_read(struct ftp_client *client, bool on);
/* Closes it; `reset`: so that the other side cannot take it for the end of a file. */
void ftp_data_close(struct ftp_client *client, bool reset);

/*
 * The user whose the other end of a connected socket is (chaveiro_ftp_owner.c). False: it is not on this machine, or
 * closed already, or the kernel does not tell.
 */
bool ftp_owner(int fd, uid_t *uid);

/* --- transfers (chaveiro_ftp_transfer.c) -------------------------------------------------------------------------- */

/* client->request is what the server is asked; the data connection must have been announced. */
void ftp_transfer_begin(struct ftp_client *client, enum ftp_kind kind);
void ftp_transfer_abort(struct ftp_client *client);
/* Nothing is said: the client is gone, or the session is. */
void ftp_transfer_forget(struct ftp_client *client);
void ftp_transfer_answer(struct ftp_client *client, const struct chv_files_answer *answer);
void ftp_transfer_data(struct ftp_client *client, const uint8_t *data, size_t len);
void ftp_transfer_end(struct ftp_client *client, const uint8_t *digest);
void ftp_transfer_sent(struct ftp_client *client); /* the channel takes more */
void ftp_transfer_open(struct ftp_client *client);
void ftp_transfer_broken(struct ftp_client *client, unsigned code, const char *text);
void ftp_transfer_drained(struct ftp_client *client);
uint8_t *ftp_transfer_room(struct ftp_client *client, size_t *len);
void ftp_transfer_read(struct ftp_client *client, const uint8_t *bytes, size_t len);
void ftp_transfer_eof(struct ftp_client *client);

#endif
