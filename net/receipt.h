/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receipts: the server's signed statement that it has stored a file (doc/protocol.md, section 5). Text, so that people
 * read it and `openssl dgst -verify` checks it:
 *
 *     chaveiro-receipt: 1
 *     server: gate.example
 *     client: cam1
 *     path: 2026/img.jpg
 *     size: 1234
 *     sha256: 64 hex digits
 *     time: 2026-03-01T12:00:00Z
 *
 * These lines in this order, each with a newline behind it, and nothing else: one text for one statement. In a path every
 * byte of what is no printable character, and the backslash, is \xHH: no name makes a line of its own.
 */
#ifndef CHV_NET_RECEIPT_H
#define CHV_NET_RECEIPT_H

#include "core/credential.h"

#include <chaveiro/keystore.h>
#include <chaveiro/session.h>

enum {
    CHV_RECEIPT_MAX = 2400, /* bytes of a statement */
    CHV_RECEIPT_PATH_MAX = 1024,
    CHV_RECEIPT_DIGEST_LEN = 32
};

/* Label of the key that signs them, in the server's keystore. */
#define CHV_RECEIPT_LABEL "receipt"

struct chv_receipt {
    char server[CHV_SERVER_NAME_MAX + 1];
    char client[CHV_CLIENT_ID_MAX + 1];
    char path[CHV_RECEIPT_PATH_MAX + 1];
    uint64_t size;
    uint8_t sha256[CHV_RECEIPT_DIGEST_LEN];
    uint64_t time; /* Unix seconds, by the clock of the process that has the key */
};

/*
 * The statement; no NUL. CHV_ERR_ARGUMENT for a name, id or path that is none (a path: 1 to CHV_RECEIPT_PATH_MAX bytes of
 * UTF-8) or a time after the year 9999, CHV_ERR_SPACE for a path with so much to escape that it does not fit.
 */
enum chv_err chv_receipt_format(const struct chv_receipt *receipt, char out[CHV_RECEIPT_MAX],
                                size_t *len) CHV_MUST_CHECK;
/* CHV_ERR_MALFORMED for anything but what chv_receipt_format makes. *receipt is set only on success. */
enum chv_err chv_receipt_parse(const char *text, size_t len, struct chv_receipt *receipt) CHV_MUST_CHECK;

#endif
