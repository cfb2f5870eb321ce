/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PKCS #11 URIs (RFC 7512), parsed strictly.
 *
 *   pkcs11:token=LABEL;object=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/chaveiro/pin
 *
 * Path: token, manufacturer, model, serial, slot-id (which token; at least one), object (a name inside it).
 * Query: module-path, pin-source, and the options below.  Anything else, and anything twice, is refused by name.
 * pin-value is refused (a PIN in a URI ends in process lists and logs), and so is a pin-source that is a command.
 */
#ifndef CHV_P11_URI_H
#define CHV_P11_URI_H

#include "p11/pkcs11_extra.h"

#include <chaveiro/error.h>

#include <stdbool.h>

#define CHV_P11_URI_MAX 2048  /* bytes of a URI */
#define CHV_P11_OBJECT_MAX 64 /* bytes of `object` */

struct chv_p11_uri {
    void *parsed;      /* p11-kit's */
    char *text;        /* as it was given; no secret is in it */
    char *module_path; /* NULL: CHV_P11_DEFAULT_MODULE */
    char *pin_file;    /* path of pin-source=file:PATH, NULL if there is none */
    char *init_args;   /* chaveiro-init=TEXT, the module's own arguments for C_Initialize (NSS needs them), else NULL */
    char object[CHV_P11_OBJECT_MAX + 1]; /* "" if there is none */
    char derive[16];                     /* chaveiro-derive=hmac|hkdf|sp800-108, "" if there is none */
    bool session_copy;                   /* chaveiro-session-copy=yes */
    bool final_try;                      /* chaveiro-final-try=yes: use the last try of a PIN too */
    unsigned long objects; /* chaveiro-objects=N: a backend's bound on session objects, 0 if there is none */
};

/* CHV_ERR_CONFIG, and `why` names the attribute.  On success freed by chv_p11_uri_free. */
enum chv_err chv_p11_uri_parse(const char *text, struct chv_p11_uri *uri, struct chv_why *why) CHV_MUST_CHECK;
void chv_p11_uri_free(struct chv_p11_uri *uri);

/* Whether the slot holds the token that the URI means. */
bool chv_p11_uri_matches(const struct chv_p11_uri *uri, CK_SLOT_ID slot, const CK_TOKEN_INFO *info);
/* The token's label, if that is all that the URI says of it: so one can be made.  False else. */
bool chv_p11_uri_label(const struct chv_p11_uri *uri, char out[33]);
/* The same URI without `object`.  False if `size` bytes are too few. */
bool chv_p11_uri_token_only(const struct chv_p11_uri *uri, char *out, size_t size);
/* The token part as the URI has it ("token \"x\", serial \"y\""), for error texts. */
void chv_p11_uri_describe(const struct chv_p11_uri *uri, char *out, size_t size);

#endif
