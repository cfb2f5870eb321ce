/* SPDX-License-Identifier: Apache-2.0 */
/* The CBOR maps of OPEN and STATUS records (doc/protocol.md, section 5), by libcbor with strict limits. */
#ifndef CHV_NET_CONTROL_H
#define CHV_NET_CONTROL_H

#include <chaveiro/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHV_CONTROL_MAX = 4000, /* bytes of a map */
    CHV_SERVICE_NAME_MAX = 32,
    CHV_INSTANCE_LEN = 16,
    CHV_STATUS_TEXT_MAX = 512,
    CHV_STATUS_CODE_MIN = 100,
    CHV_STATUS_CODE_MAX = 599
};

/*
 * OPEN: {"service": text, "instance": 16 bytes}. A service's own arguments are further keys, which it reads itself. The
 * instance is the same in all connections of one run of a client's program; it may be missing.
 */
struct chv_open {
    char service[CHV_SERVICE_NAME_MAX + 1];
    bool has_instance;
    uint8_t instance[CHV_INSTANCE_LEN];
};

/* STATUS: {"code": uint, "text": text}. */
struct chv_status {
    unsigned code; /* HTTP's numbers, 100 to 599 */
    char text[CHV_STATUS_TEXT_MAX + 1];
};

/* *len: in, room; out, bytes. */
/* Sets the instance of this process: random bytes, made once. CHV_ERR_IO: the system has none. */
enum chv_err chv_open_instance(struct chv_open *open) CHV_MUST_CHECK;
enum chv_err chv_open_encode(const struct chv_open *open, uint8_t *out, size_t *len) CHV_MUST_CHECK;
enum chv_err chv_status_encode(const struct chv_status *status, uint8_t *out, size_t *len) CHV_MUST_CHECK;
/*
 * CHV_ERR_MALFORMED for anything but one map of definite length, depth at most 4, text keys, none twice, nothing behind
 * it, a wanted key that is missing or of another type, text that is not UTF-8 or holds NUL. Unknown keys are ignored.
 */
enum chv_err chv_open_decode(const uint8_t *buf, size_t len, struct chv_open *open) CHV_MUST_CHECK;
enum chv_err chv_status_decode(const uint8_t *buf, size_t len, struct chv_status *status) CHV_MUST_CHECK;

#endif
