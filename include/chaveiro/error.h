/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: one code, one name, one text each, from one table. */
#ifndef CHAVEIRO_ERROR_H
#define CHAVEIRO_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Everything else in the library is hidden. */
#pragma GCC visibility push(default)

#if defined(__GNUC__)
#define CHV_MUST_CHECK __attribute__((warn_unused_result))
#define CHV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CHV_MUST_CHECK
#define CHV_PRINTF(fmt, args)
#endif

/*
 * X(code, name, text).  Codes are 0 or negative and never reused.
 *   -1 .. -29    the caller's or the environment's: the object is as it was before the call
 *   -30 .. -59   fatal to a session: the first one sticks, the session is over
 *   -60 .. -89   about a keystore or the secret that opens it
 */
#define CHV_ERROR_MAP(X)                                                                                               \
    X(0, OK, "success")                                                                                                \
    X(-1, ARGUMENT, "invalid argument")                                                                                \
    X(-2, STATE, "call not allowed in this state")                                                                     \
    X(-3, SPACE, "buffer too small")                                                                                   \
    X(-4, MEMORY, "out of memory")                                                                                     \
    X(-5, UNSUPPORTED, "not supported")                                                                                \
    X(-6, NOT_FOUND, "not found")                                                                                      \
    X(-7, EXISTS, "already exists")                                                                                    \
    X(-8, IO, "input/output error")                                                                                    \
    X(-9, BUSY, "in use by somebody else")                                                                             \
    X(-10, CANCELLED, "cancelled")                                                                                     \
    X(-11, CONFIG, "bad configuration")                                                                                \
    X(-12, UNAVAILABLE, "not available at the moment")                                                                 \
    X(-13, TIMEOUT, "timed out")                                                                                       \
    X(-14, DAMAGED, "damaged data")                                                                                    \
    X(-30, MALFORMED, "malformed data")                                                                                \
    X(-31, AUTH, "authentication failed")                                                                              \
    X(-32, PROTOCOL, "protocol violated by the peer")                                                                  \
    X(-33, REFUSED, "refused by the peer")                                                                             \
    X(-34, TRUNCATED, "stream truncated: it ended without CLOSE")                                                      \
    X(-35, CRYPTO, "a cryptographic operation failed")                                                                 \
    X(-36, EXHAUSTED, "the nonces of this key are used up")                                                            \
    X(-37, SELFTEST, "known-answer self-test failed")                                                                  \
    X(-38, KEY, "the long-term key could not be used")                                                                 \
    X(-60, PASSPHRASE, "wrong passphrase")                                                                             \
    X(-61, STORE_TRUNCATED, "keystore file is truncated")                                                              \
    X(-62, STORE_DAMAGED, "keystore file was changed or damaged")                                                      \
    X(-63, STORE_MODE, "keystore file can be read or written by others")                                               \
    X(-64, STORE_COST, "keystore file asks for an absurd scrypt cost")                                                 \
    X(-65, STORE_FORMAT, "not a keystore file of a known version")                                                     \
    X(-66, STORE_LOCKED, "keystore is locked: it was not unlocked")                                                    \
    X(-67, NO_SECRET, "no passphrase or PIN could be had")

enum chv_err {
#define CHV_ERROR_ENUM(code, name, text) CHV_ERR_##name = (code),
    CHV_ERROR_MAP(CHV_ERROR_ENUM)
#undef CHV_ERROR_ENUM
        CHV_OK = 0
};

/* The text of a code, "unknown error" for any other number.  Static storage. */
const char *chv_err_text(enum chv_err err);

/* The name of a code without its prefix ("AUTH"), "?" for any other number.  Static storage. */
const char *chv_err_name(enum chv_err err);

/* Whether the code ends a session (-30 .. -59). */
int chv_err_is_fatal(enum chv_err err);

/*
 * What stands beside a code for the log and for people: CK_RV names, OpenSSL's error strings, a path,
 * an errno, what to do.  Never a secret.  Always NUL-terminated once a function that takes one has failed;
 * untouched on success.  Every parameter of this type may be NULL.
 */
struct chv_why {
    char text[1024];
};

/* Formats into `why` (cut to its size; NULL is allowed) and returns `err`, so that a failing line is one line. */
enum chv_err chv_fail(struct chv_why *why, enum chv_err err, const char *format, ...) CHV_PRINTF(3, 4);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
