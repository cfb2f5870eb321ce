/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: what its configuration says, and the net process, which has the client connections (doc/architecture.md,
 * section 4). The net process holds no long-term secret: for these it asks the keeper.
 */
#ifndef CHV_NET_SERVER_H
#define CHV_NET_SERVER_H

#include "core/credential.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/service.h"

#include <chaveiro/session.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CHV_LISTEN_MAX = 16,    /* addresses of one server */
    CHV_LISTEN_LEN = 128,   /* an address with its NUL; a unix socket's path fits sun_path */
    CHV_EPOCHS_MAX = 16,    /* epochs served at a time */
    CHV_WORKERS_MAX = 64,   /* loops of the net process */
    CHV_REDIRECTS_MAX = 16, /* data sides elsewhere */
    CHV_REDIRECT_HOST_MAX = 255,
    CHV_BACKEND_SPEC_MAX = 2048 /* with its NUL; a token's URI may be long */
};

/* How far beyond now + max_lifetime a credential may end: a relative expiry is rounded up to a UTC day when it is made.
 */
#define CHV_LIFETIME_SLACK UINT64_C(86400)

/* What a master's key check value must be: a keystore whose master is another one is refused. */
enum { CHV_KEY_CHECK_LEN = 16 };
struct chv_key_check {
    uint32_t epoch;
    uint8_t value[CHV_KEY_CHECK_LEN];
};

/* The public half of the server's identity key, which the keeper tells. */
struct chv_server_identity {
    bool there;
    enum chv_curve curve;
    uint8_t public_key[CHV_DH_PUBLIC_MAX];
};

/* What comes in by a listening address (doc/architecture.md, "Two ports"). */
enum chv_port {
    CHV_PORT_BOTH,      /* handshakes, and the services behind them */
    CHV_PORT_HANDSHAKE, /* handshakes; who may come in is sent on to a data port */
    CHV_PORT_DATA       /* sessions that begin with a data ticket */
};

/* A data side elsewhere. */
struct chv_server_redirect {
    char host[CHV_REDIRECT_HOST_MAX + 1]; /* an IPv6 address without its brackets; "": where the client is already */
    uint16_t port;
};

/* What becomes of a client that comes while one of its id, of another run of its program, is there. */
enum chv_on_duplicate {
    CHV_DUPLICATE_ALLOW,
    CHV_DUPLICATE_REJECT, /* the new one goes, unless the old one is dead */
    CHV_DUPLICATE_REPLACE /* the old one goes */
};

enum {
    CHV_SHARES_MAX = 16,
    CHV_SHARE_NAME_MAX = 32, /* libinih cuts sections' names */
    CHV_SHARE_PATH_MAX = 1024
};

/* What is confirmed is on the disk: each file by itself, several at once, or not. */
enum chv_durability { CHV_DURABILITY_BATCH, CHV_DURABILITY_FILE, CHV_DURABILITY_NONE };

/* [share "NAME"]: a folder that clients have in common */
struct chv_server_share {
    char name[CHV_SHARE_NAME_MAX + 1];
    char path[CHV_SHARE_PATH_MAX];
    char scope[CHV_SCOPE_MAX + 1]; /* that a client must have; "": none of its own */
    bool write;
};

/* [files]: the service `files` */
struct chv_server_files {
    char home[PATH_MAX];      /* folder that has one for each client id; "": no files */
    uint64_t max_size, quota; /* bytes of a file, of a client's files; 0: no limit */
    uint64_t part_keep;       /* seconds that an interrupted put may be gone on with */
    enum chv_durability durability;
    bool receipts;              /* the keeper signs them (net/receipt.h) */
    char receipt_key[PATH_MAX]; /* PEM file of their key; "": it is in the keystore */
    size_t share_count;
    struct chv_server_share shares[CHV_SHARES_MAX];
};

/* [push]: the service `push` */
struct chv_server_push {
    char outbox[PATH_MAX]; /* folder with what waits for each client; "": no pushes */
};

enum {
    CHV_TUNNELS_MAX = 32,
    CHV_TUNNEL_NAME_MAX = 25, /* so that "tunnel:NAME" is a scope */
    CHV_TUNNEL_TARGET_LEN =
        272 /* "HOST:PORT", "[V6]:PORT", "unix:/PATH", with its NUL: a DNS name has 253 characters */
};
_Static_assert(sizeof "tunnel:" - 1 + CHV_TUNNEL_NAME_MAX == CHV_SCOPE_MAX, "the scope of a tunnel");

/* [tunnel "NAME"]: where the service `tunnel` leads to */
struct chv_server_tunnel {
    char name[CHV_TUNNEL_NAME_MAX + 1];
    char target[CHV_TUNNEL_TARGET_LEN];
    unsigned connect_seconds; /* for name and connection together */
    unsigned idle_seconds;    /* without a byte in either direction; 0: for ever */
    unsigned connections;     /* of one client id, at a time */
};

struct chv_server_limits {
    unsigned connections;        /* at a time, all loops together */
    unsigned client_connections; /* of them for one proven client id */
    unsigned rate, burst;        /* new connections per second and source prefix; rate 0: no limit */
    unsigned keeper_queue;       /* questions of one loop that wait for the keeper */
    size_t memory;               /* bytes held for peers that sent half a frame or do not read */
    struct chv_loop_limits loop;
};

/* What a configuration file says, checked. Paths are absolute. No pointers: it travels between processes as bytes. */
struct chv_server_config {
    char name[CHV_SERVER_NAME_MAX + 1];
    char keystore[PATH_MAX];        /* URI */
    char passphrase_file[PATH_MAX]; /* "": none */
    bool pin_hold;
    size_t epoch_count;
    uint32_t epochs[CHV_EPOCHS_MAX]; /* ascending */
    bool update;                     /* clients of older epochs are handed their next key, */
    unsigned update_to;              /* of this one of the epochs; 0: the newest */
    size_t check_count;              /* 0: nothing is compared */
    struct chv_key_check checks[CHV_EPOCHS_MAX];
    size_t listen_count;
    char listen[CHV_LISTEN_MAX][CHV_LISTEN_LEN]; /* "HOST:PORT", "[V6]:PORT", "unix:/PATH" */
    size_t handshake_count, data_count, redirect_count;
    char handshake[CHV_LISTEN_MAX][CHV_LISTEN_LEN]; /* "HOST:PORT", "[V6]:PORT" */
    char data[CHV_LISTEN_MAX][CHV_LISTEN_LEN];      /* likewise */
    struct chv_server_redirect redirect[CHV_REDIRECTS_MAX];
    bool data_only;             /* a data side: no keystore and no keeper, tickets open with the keys of a file, */
    char ticket_keys[PATH_MAX]; /* this one (net/ticket_keys.h) */
    uint64_t session_limit;     /* seconds after which a data side ends a session; 0: no limit */
    char backend[CHV_BACKEND_SPEC_MAX];
    char module[PATH_MAX];       /* of a token whose URI names none; "": p11-kit's */
    unsigned suites;             /* CHV_SUITE_BIT mask; 0: all that the backend has */
    unsigned profiles;           /* CHV_PROFILE_BIT mask; 0: psk */
    char allowed_keys[PATH_MAX]; /* file; "": none */
    char registry[PATH_MAX];     /* URI; of registry = none "revoked:FILE", and the file may be missing */
    bool registry_required;      /* else the deny snapshot will do while it cannot be reached */
    enum chv_on_duplicate on_duplicate;
    struct chv_server_identity identity; /* not in the file: the keeper's word */
    unsigned workers;                    /* loops; 0: one per processor */
    char user[64];                       /* to become when started as root; "": stay */
    char state[PATH_MAX];                /* folder of the keeper's clock mark; "": none is kept */
    uint64_t max_lifetime;               /* seconds that a credential may still live; 0: no limit */
    unsigned backlog;
    bool private_sockets; /* unix sockets with mode 0600 and not 0660: no key of the file */
    struct chv_server_limits limits;
    struct chv_server_files files;
    struct chv_server_push push;
    bool tickets; /* clients are given some, and theirs are taken */
    char
        ticket_audience[CHV_SERVER_NAME_MAX + 1]; /* of a fleet whose servers take each other's; "": this name's only */
    size_t tunnel_count;
    struct chv_server_tunnel tunnels[CHV_TUNNELS_MAX];
    enum chv_log_level log_level;
    enum chv_log_target log_target;
};

struct chv_listeners;

/* What a server is made of beside its configuration. */
struct chv_server_parts {
    const struct chv_service *const *services; /* NULL-terminated */
};

/* CHV_PROFILE_BIT mask of what is served. */
static inline unsigned chv_server_profiles(const struct chv_server_config *config)
{
    return config->profiles != 0 ? config->profiles : CHV_PROFILE_BIT(CHV_PROFILE_PSK);
}
/* Whether one of these uses the server's identity key. */
static inline bool chv_server_wants_identity(const struct chv_server_config *config)
{
    return (chv_server_profiles(config) & ~CHV_PROFILE_BIT(CHV_PROFILE_PSK)) != 0;
}
/* The epoch that older credentials are handed in band; 0: none. */
static inline uint32_t chv_server_successor(const struct chv_server_config *config)
{
    if (!config->update || config->epoch_count == 0)
        return 0;
    return config->update_to != 0 ? config->update_to : config->epochs[config->epoch_count - 1];
}
/* Whether clients are sent on from the port of their handshake to one for data. */
static inline bool chv_server_has_two_ports(const struct chv_server_config *config)
{
    return config->data_count > 0 || config->redirect_count > 0;
}
/* Loops that this configuration means. */
unsigned chv_server_workers(const struct chv_server_config *config);
/* Whether somebody is asked at OPEN. */
static inline bool chv_server_has_registry(const struct chv_server_config *config)
{
    return config->registry[0] != '\0';
}
/* The tunnel of that name; NULL: none. */
const struct chv_server_tunnel *chv_server_tunnel_named(const struct chv_server_config *config, const char *name);
/* How long clients may take to go when the server ends: no longer than a handshake and a stall, at most 20 s. */
unsigned chv_server_drain_seconds(const struct chv_server_config *config);
/* Suites (CHV_SUITE_BIT mask) that a backend with these capabilities can serve. */
unsigned chv_server_suites(uint32_t capabilities);
/* CHV_ERR_CONFIG for the first of these suites that the backend cannot serve; `why` has what it lacks. */
enum chv_err chv_server_suites_check(const struct chv_crypto *crypto, unsigned suites,
                                     struct chv_why *why) CHV_MUST_CHECK;

/*
 * The net process, from after the fork to its end: makes the loops, drops user and rights, says CHV_IPC_READY on
 * `control`, accepts once it has a keeper, and serves until it has drained or the supervisor's end closes. Returns the
 * exit code.
 */
int chv_server_main(const struct chv_server_config *config, const struct chv_server_parts *parts, int control,
                    const struct chv_listeners *listeners);

#endif
