/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the supervisor share; nobody else includes this. */
#ifndef CHV_NET_SUPERVISOR_INTERNAL_H
#define CHV_NET_SUPERVISOR_INTERNAL_H

#include "net/clock.h"
#include "net/filemark.h"
#include "net/ipc.h"
#include "net/listener.h"
#include "net/supervisor.h"

#include <sys/types.h>

enum { CHV_PIN_MAX = 1024 };

struct supervisor;

/* In the order in which they start. */
enum { CHILD_KEEPER, CHILD_REGISTRAR, CHILD_CONNECTOR, CHILD_NET, CHILDREN };

/* What a child's PIN or passphrase comes from, and what opens with it: changes of these give a new try. */
struct secret_files {
    const char *noun;
    char path[PATH_MAX];  /* "": none */
    int fd;               /* of a file that has no path; -1 */
    char store[PATH_MAX]; /* a keystore file; "": none */
};

struct secret_marks {
    struct chv_filemark secret, store;
};

struct child {
    const char *name, *process;       /* for the log; for ps(1) */
    const char *what;                 /* its keystore or backend, for the log */
    bool wanted;                      /* by the configuration: else it is never started */
    int (*run)(struct supervisor *s); /* in the new process; the exit code */
    enum chv_ipc_kind sockets;        /* by which it and the net process are given sockets to each other; 0: none */
    bool module;                      /* it loads a PKCS #11 module */
    struct secret_files files;

    pid_t pid;   /* 0: not running */
    int control; /* -1 */
    bool ready;
    uint64_t started, restart_at; /* ms; restart_at 0: not planned */
    unsigned backoff_ms;

    /* Its sockets to the net process. */
    unsigned generation;
    uint64_t introduce_at; /* ms: they are to get new ones; 0: not planned */

    /* A wrong PIN is tried once: doc/tokens.md. */
    struct secret_marks
        tried;    /* the files before it started, or when it said that its PIN was refused while it served */
    bool refused; /* the second */
    struct secret_marks seen; /* at the last look, while it waits for another PIN */
    uint64_t look_at;         /* ms: the next one; 0: it does not wait */

    /* A call that does not return: doc/architecture.md, section 3. */
    uint64_t start_by, answer_by; /* ms; 0: nothing is awaited */
    unsigned pings;
    bool left_alone; /* it hangs, but cannot be replaced: said once */
};

struct supervisor {
    const struct chv_supervisor_setup *setup;
    struct chv_server_config config; /* in effect: what a child started again is given */
    struct chv_listeners listeners;
    struct child children[CHILDREN];
    unsigned workers;
    struct chv_server_config wanted; /* its epochs, as the file last said them */
    /* The keeper makes way; another one is being started, and will be asked for `wanted` when it serves. */
    enum { RENEW_NOT, RENEW_ENDS, RENEW_STARTS } renewing;
    struct chv_ticket_keys *ticket_keys; /* chv_secure_alloc, of a data side; NULL: none */
    char ticket_keys_file[PATH_MAX];
    uint64_t ticket_keys_look; /* ms: whether they run out; 0: never */
    uint64_t ticket_keys_day;  /* on which that was said */
    int allowed_keys;          /* the allow-list in a sealed memory file; -1: none */
    int signals;
    bool announced, draining, over;
    unsigned generations; /* of sockets between children, so far */
    uint64_t drain_until; /* ms; 0: not draining */
    int exit_code;
    char *pin; /* chv_secure_alloc; NULL: none is held */
    size_t pin_len;
    pid_t self;
};

void chv_supervisor_forget_pin(struct supervisor *s);

/* supervisor_child.c */
/* Before the first start: by the configuration. */
void chv_children_init(struct supervisor *s);
void chv_child_start(struct supervisor *s, struct child *child);
/* Whether a new one would find its PIN or passphrase again. */
bool chv_child_restartable(const struct supervisor *s, const struct child *child);
/* It has ended, by a wait status, after the server was announced and while it does not drain: what now. */
void chv_child_plan(struct supervisor *s, struct child *child, int status);
/* Answers are awaited from now on; for a keeper or registrar. */
void chv_child_ping(struct child *child);
/* SIGHUP: who waits for another PIN has its try. */
void chv_child_hangup(struct child *child);
/* Earliest time at which chv_child_due has to do; UINT64_MAX: never. */
uint64_t chv_child_next(const struct child *child);
/* Starts again, looks at files, kills who hangs. */
void chv_child_due(struct supervisor *s, struct child *child);
/* Its end of the socket is closed, then a signal (0: none), then SIGKILL. */
void chv_child_end(struct child *child, int sig, int wait_ms);
/* One of its messages, if it is about one of the above. */
void chv_child_message(struct supervisor *s, struct child *child, const struct chv_ipc_message *message);

/* The configuration may have got its first tunnel, or lost its last one; while the server runs, else nothing happens. */
void chv_children_update(struct supervisor *s);

/* supervisor_config.c */
/* SIGHUP. */
void chv_supervisor_reload(struct supervisor *s);
/* To the log: the data sides elsewhere. */
void chv_supervisor_say_redirects(const struct chv_server_config *config);
/* Reads the allow-list that `config` names; on failure nothing changes. */
enum chv_err chv_supervisor_load_allowed(struct supervisor *s, const struct chv_server_config *config,
                                         struct chv_why *why) CHV_MUST_CHECK;
/* To the net process, if it runs. */
void chv_supervisor_send_allowed(const struct supervisor *s);
/*
 * The keeper may have refused new epochs: what it serves now is in effect. `lacks`: for want of a master, and another
 * keeper may find it in the keystore.
 */
void chv_supervisor_serves(struct supervisor *s, const struct chv_server_config *config, bool lacks);
/* A keeper that was started again serves. */
void chv_supervisor_keeper_ready(struct supervisor *s);

/* supervisor_tickets.c */
/* Reads the ticket keys that `config` names, if it is a data side's; on failure nothing changes. */
enum chv_err chv_supervisor_load_ticket_keys(struct supervisor *s, const struct chv_server_config *config,
                                             struct chv_why *why) CHV_MUST_CHECK;
/* To the net process, if it runs. */
void chv_supervisor_send_ticket_keys(const struct supervisor *s);
/* Once a day, when ticket_keys_look is due: says it if they run out. */
void chv_supervisor_look_at_ticket_keys(struct supervisor *s);
void chv_supervisor_forget_ticket_keys(struct supervisor *s);

#endif
