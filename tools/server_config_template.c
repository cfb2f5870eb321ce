/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/server_config.h"

#include <stdio.h>
#include <stdlib.h>

void chv_server_config_defaults(struct chv_server_config *config)
{
    *config = (struct chv_server_config){
        .epoch_count = 1,
        .epochs = {1},
        .update = true,
        .listen_count = 1,
        .listen = {CHV_DEFAULT_LISTEN},
        .backend = "openssl",
        .profiles = CHV_PROFILE_BIT(CHV_PROFILE_PSK),
        .registry_required = true,
        .max_lifetime = UINT64_C(86400) * 90,
        .backlog = 1024,
        .limits = {.connections = 10000,
                   .client_connections = 256,
                   .rate = 1000,
                   .burst = 10000,
                   .keeper_queue = 4096,
                   .memory = (size_t)64 << 20,
                   .loop = {.handshake_seconds = 10, .idle_seconds = 600, .stall_seconds = 30}},
        .tickets = true,
        .files = {.part_keep = UINT64_C(86400) * 7},
        .log_level = CHV_LOG_INFO,
        .log_target = CHV_LOG_STDERR,
    };
}

/* "#key = value" is a default, "# key = value" an example of a key that has none; the test reads it so. */
static const char server_head[] =
    "# Configuration of chaveirod; see chaveirod.conf(5).\n"
    "# A line that begins with '#key' shows a default.\n"
    "# Relative file names start from this file's folder. Times: s, m, h, d. Sizes: K, M, G.\n"
    "# After a change: chaveirod -t -c FILE checks it, SIGHUP loads it.\n"
    "\n"
    "[server]\n"
    "# Whom the clients mean to talk to: bound into every session's keys, and clients are provisioned for it.\n"
    "name = %s\n"
    "\n"
    "# Where the master secrets are.\n"
    "keystore = %s\n"
    "\n"
    "# What its masters must be, EPOCH:KEY CHECK VALUE: one that was made anew behind our back is refused.\n"
    "%skey-check = %s\n"
    "\n"
    "# The passphrase, or a token's PIN: from this file, else from a systemd credential, else from a prompt.\n"
    "%spassphrase-file = %s\n"
    "# Keep a prompted passphrase in locked memory, so that the keeper can be started again\n"
    "# without a person.\n"
    "#pin-hold = no\n"
    "\n"
    "# Which epochs of the master secret are served: 1, 2\n"
    "#epochs = 1\n"
    "# Clients of an older epoch are handed their next key when they come: of which epoch (without this line: of the\n"
    "# newest), or not at all.\n"
    "# update-to = 1\n"
    "#update = yes\n"
    "\n"
    "# Where clients come in: HOST:PORT, [V6]:PORT, unix:/PATH; several with commas.\n"
    "listen = %s\n"
    "# Two ports instead: handshakes at one, and everything behind them at another, which clients are sent on to with "
    "a\n"
    "# ticket of 30 s. Port 0: the kernel picks one. A data side elsewhere (chaveirod --data-only): 'redirect'.\n"
    "# handshake = 0.0.0.0:7040\n"
    "# data = 0.0.0.0:0\n"
    "# redirect = 7041, files.example:7041\n"
    "# Of chaveirod --data-only: how long a session may last; without this line as long as its client's rights.\n"
    "# session-limit = 12h\n";

static const char server_tail[] =
    "# Connections that may wait to be accepted.\n"
    "#backlog = 1024\n"
    "\n"
    "# Who computes the sessions' cryptography.\n"
    "#backend = openssl\n"
    "# Suites served; without this line all that the backend has.\n"
    "# suites = x25519-aesgcm-sha256, x25519-chachapoly-sha256, p256-aesgcm-sha256\n"
    "# Profiles served: psk (a credential and its access key), key (an identity key in allowed-keys), key+psk (both).\n"
    "#profiles = psk\n"
    "# Whose identity keys may come in, as whom and for what: lines of 'keyadmin identity show'. Loaded by SIGHUP.\n"
    "# allowed-keys = allowed_keys\n"
    "# Who the clients are and who is denied: none (only the file 'revoked' beside this one), sqlite:FILE,\n"
    "# postgresql://HOST/DATABASE.\n"
    "%sregistry = %s\n"
    "# Whether nobody new comes in while the registry cannot be reached; no: credentials and the last deny snapshot,\n"
    "# which is in the state folder, will do.\n"
    "#registry-required = yes\n"
    "# A client that comes while another run of it is there: allow, reject (unless that is dead), replace (it).\n"
    "#on-duplicate = allow\n"
    "# Event loops; 0: one per processor.\n"
    "#workers = 0\n"
    "\n"
    "# Whom to become when started as root; the registry and the state folder must be that user's.\n"
    "# user = chaveiro\n"
    "# Folder of the server's user for marks by which a clock that was set back, and an old backup of the registry, "
    "are\n"
    "# noticed.\n"
    "%sstate = %s\n"
    "# A credential that would live longer than this is refused; 0: no limit.\n"
    "#max-lifetime = 90d\n"
    "\n"
    "[pkcs11]\n"
    "# The module of tokens whose URI has no module-path; without this line all that p11-kit knows.\n"
    "# module = /usr/lib/softhsm/libsofthsm2.so\n"
    "\n"
    "[limits]\n"
    "# Connections at a time.\n"
    "#connections = 10000\n"
    "# Of these, for one client.\n"
    "#client-connections = 256\n"
    "# From accept to a client's first record.\n"
    "#handshake-timeout = 10s\n"
    "# Without a record in either direction; 0: for ever.\n"
    "#idle-timeout = 10m\n"
    "# A record that has begun must be whole, and bytes to a client must move.\n"
    "#stall-timeout = 30s\n"
    "# For all clients that sent half a record or do not read.\n"
    "#memory = 64M\n"
    "# New connections per second from one IPv4 /24 or IPv6 /48 (0: no limit), and how many at once.\n"
    "#rate = 1000\n"
    "#burst = 10000\n"
    "# Handshakes of one event loop that wait for the keeper.\n"
    "#keeper-queue = 4096\n"
    "\n"
    "[files]\n"
    "# The service files: a folder for each client, %%i is its id; without this line there is none.\n"
    "# home = /srv/chaveiro/%%i\n"
    "# The largest file that is taken, and all files of a client; 0: no limit.\n"
    "#max-size = 0\n"
    "#quota = 0\n"
    "# What is confirmed is on the disk, whatever happens to the machine: batch (several files at once), file (each "
    "by\n"
    "# itself), none (the system writes it when it likes).\n"
    "#durability = batch\n"
    "# How long an upload that was interrupted may be gone on with.\n"
    "#part-keep = 7d\n"
    "# Receipts, signed by the key that 'keyadmin receipt new-key' makes, for clients that ask for one: on, off.\n"
    "#receipts = off\n"
    "# The file of that key, PEM text; without this line it is in the keystore.\n"
    "# receipt-key = receipt.key\n"
    "\n"
    "# A folder that clients have in common; they see it as @plans. Access: ro, or rw for clients with files:rw.\n"
    "# With a scope only clients that have it see it.\n"
    "# [share \"plans\"]\n"
    "# path = /srv/plans\n"
    "# access = ro\n"
    "# scope = share:plans\n"
    "\n"
    "# A service that clients with scope tunnel:db reach through the server, by name and as 'chaveiro tunnel db'. Its\n"
    "# target is HOST:PORT, [V6]:PORT or unix:/PATH; a name is resolved for new connections.\n"
    "# [tunnel \"db\"]\n"
    "# target = 127.0.0.1:5432\n"
    "# For the name and the connection together.\n"
    "# connect-timeout = 10s\n"
    "# Without a byte in either direction; 0: for ever.\n"
    "# idle-timeout = 0\n"
    "# Of one client, at a time.\n"
    "# connections = 64\n"
    "\n"
    "[push]\n"
    "# The service push: what 'keyadmin push' has put there for clients; without this line there is none.\n"
    "# outbox = /var/spool/chaveiro\n"
    "\n"
    "[tickets]\n"
    "# Tickets, with which a client comes back within a day without the keystore's being asked: on, off.\n"
    "#tickets = on\n"
    "# Servers of several names that take each other's tickets have this name in common; without this line a ticket\n"
    "# is good for the servers of this name alone.\n"
    "# audience = fleet1\n"
    "# Of chaveirod --data-only: the file that 'keyadmin ticket-keys' made.\n"
    "# keys = ticket.keys\n"
    "\n"
    "[log]\n"
    "# error, warning, info, debug\n"
    "#level = info\n"
    "# stderr or syslog\n"
    "#target = stderr\n";

enum chv_err chv_server_config_template(const struct chv_server_config_values *values, char *out, size_t *len)
{
    const char *passphrase_file = values->passphrase_file;
    size_t cap = *len;
    struct chv_server_config *parsed = malloc(sizeof *parsed);
    if (parsed == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = CHV_ERR_SPACE;
    int head = snprintf(out, cap, server_head, values->name, values->keystore, values->key_check != NULL ? "" : "# ",
                        values->key_check != NULL ? values->key_check : "1:00112233445566778899aabbccddeeff",
                        passphrase_file != NULL ? "" : "# ", passphrase_file != NULL ? passphrase_file : "passphrase",
                        values->listen != NULL ? values->listen : CHV_DEFAULT_LISTEN);
    if (head > 0 && (size_t)head < cap) {
        int tail = snprintf(out + head, cap - (size_t)head, server_tail, values->registry != NULL ? "" : "#",
                            values->registry != NULL ? values->registry : "none", values->state != NULL ? "" : "# ",
                            values->state != NULL ? values->state : "/var/lib/chaveiro");
        if (tail > 0 && (size_t)tail < cap - (size_t)head) {
            /* A value with a line end or a comment sign in it would say something else than was meant. */
            err = chv_server_config_parse(out, "", parsed, NULL) == CHV_OK ? CHV_OK : CHV_ERR_ARGUMENT;
            *len = (size_t)head + (size_t)tail;
        }
    }
    free(parsed);
    return err;
}
