/* SPDX-License-Identifier: Apache-2.0 */
/* The CBOR maps of OPEN, STATUS, TICKET and REDIRECT (doc/protocol.md, section 5), by libcbor with strict limits. */
#ifndef CHV_NET_CONTROL_H
#define CHV_NET_CONTROL_H

#include <chaveiro/error.h>
#include <chaveiro/session.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHV_CONTROL_MAX = 4000, /* bytes of a map */
    CHV_SERVICE_NAME_MAX = 32,
    CHV_INSTANCE_LEN = 16,
    CHV_OPEN_TICKETS_MAX = 8, /* that a client may ask for */
    CHV_OPEN_TUNNEL_MAX = 25, /* so that "tunnel:NAME" is a scope */
    CHV_GRANT_HOST_MAX = 255,
    CHV_STATUS_TEXT_MAX = 512,
    CHV_STATUS_CODE_MIN = 100,
    CHV_STATUS_CODE_MAX = 599
};

/*
 * OPEN: {"service": text, "instance": 16 bytes, "tickets": uint, "tunnel": text}. A service's own arguments are further
 * keys, which it reads itself. All but the service may be missing. The instance is the same in all connections of one run
 * of a client's program.
 */
struct chv_open {
    char service[CHV_SERVICE_NAME_MAX + 1];
    bool has_instance;
    uint8_t instance[CHV_INSTANCE_LEN];
    unsigned tickets;                     /* that the client would like to have; 0: none, and no such key */
    char tunnel[CHV_OPEN_TUNNEL_MAX + 1]; /* of service `tunnel`, [a-z0-9._-]; "": no such key */
};

/* STATUS: {"code": uint, "text": text}. */
struct chv_status {
    unsigned code; /* HTTP's numbers, 100 to 599 */
    char text[CHV_STATUS_TEXT_MAX + 1];
};

/*
 * TICKET: {"ticket": bytes, "number": uint, "lifetime": uint}; REDIRECT: the same and {"port": uint, "host": text}, of
 * which the host may be missing. The resumption secret that goes with it is chv_session_resumption(number).
 */
struct chv_grant {
    uint8_t ticket[CHV_TICKET_MAX];
    size_t ticket_len; /* 1 or more */
    uint32_t number;
    uint32_t lifetime;                 /* seconds from now, 1 or more */
    uint16_t port;                     /* 0: a TICKET */
    char host[CHV_GRANT_HOST_MAX + 1]; /* name or address without brackets, [A-Za-z0-9.:_-]; "": the same host */
};

/* *len: in, room; out, bytes. */
/* Sets the instance of this process: random bytes, made once. CHV_ERR_IO: the system has none. */
enum chv_err chv_open_instance(struct chv_open *open) CHV_MUST_CHECK;
enum chv_err chv_open_encode(const struct chv_open *open, uint8_t *out, size_t *len) CHV_MUST_CHECK;
/* Whether `name` may be a tunnel's: 1 to 25 of a-z 0-9 . _ -. */
bool chv_tunnel_name_valid(const char *name);
enum chv_err chv_grant_encode(const struct chv_grant *grant, uint8_t *out, size_t *len) CHV_MUST_CHECK;
enum chv_err chv_status_encode(const struct chv_status *status, uint8_t *out, size_t *len) CHV_MUST_CHECK;
/*
 * CHV_ERR_MALFORMED for anything but one map of definite length, depth at most 4, text keys, none twice, nothing behind
 * it, a wanted key that is missing or of another type, text that is not UTF-8 or holds NUL. Unknown keys are ignored.
 */
enum chv_err chv_open_decode(const uint8_t *buf, size_t len, struct chv_open *open) CHV_MUST_CHECK;
enum chv_err chv_status_decode(const uint8_t *buf, size_t len, struct chv_status *status) CHV_MUST_CHECK;
/* A map with a port is a REDIRECT's; port 0 in it is malformed, as is a host without a port. */
enum chv_err chv_grant_decode(const uint8_t *buf, size_t len, struct chv_grant *grant) CHV_MUST_CHECK;

#endif
