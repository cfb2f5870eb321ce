/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens as command lines name them: URIs made complete, tokens made, their PINs kept in files. */
#ifndef CHV_TOOLS_TOKEN_H
#define CHV_TOOLS_TOKEN_H

#include <chaveiro/error.h>

#include <limits.h>
#include <stdbool.h>

enum { CHV_TOKEN_URI_SIZE = 2049 };

/* Whether a keystore's URI names a token. */
bool chv_token_uri_is(const char *uri);

/*
 * `uri` with module-path= and pin-source=file: added where they are not NULL.  CHV_ERR_ARGUMENT if it has the one that
 * is to be added, or becomes too long; a URI that is not a token's is copied, and CHV_ERR_ARGUMENT with a module.
 */
enum chv_err chv_token_uri(const char *uri, const char *module, const char *pin_file, char out[CHV_TOKEN_URI_SIZE],
                           struct chv_why *why) CHV_MUST_CHECK;

/* `uri` with module-path= added where it is a token's and has none, and `module` is neither NULL nor "". */
enum chv_err chv_token_uri_default(const char *uri, const char *module, char out[CHV_TOKEN_URI_SIZE],
                                   struct chv_why *why) CHV_MUST_CHECK;

/* What is asked for; NULL: not said. */
struct chv_token_wish {
    const char *uri, *module;
    const char *folder; /* where PIN files go that are made */
    const char *pin_file, *so_pin_file;
    bool ask;    /* PINs are asked for, none is written */
    bool pin_fd; /* the PIN comes by a descriptor: the token must be there */
};

/* What is to be done about it, and then what was done. */
struct chv_token_plan {
    char uri[CHV_TOKEN_URI_SIZE];     /* complete */
    char label[33];                   /* to make; "": the token is there */
    char module[PATH_MAX];            /* "": the default */
    char pin_file[PATH_MAX];          /* "": none; the PIN is asked for */
    char so_pin_file[PATH_MAX];       /* of a new token; "": asked for */
    bool pin_new, so_pin_new;         /* files that are to be made */
    bool pin_written, so_pin_written; /* files that were made */
    bool made;
};

/*
 * Finds the token, or decides how it is made: in the module that is named, else in SoftHSM's.  Changes nothing.
 * CHV_ERR_NOT_FOUND: there is none and it cannot be made.
 */
enum chv_err chv_token_plan(const struct chv_token_wish *wish, struct chv_token_plan *plan,
                            struct chv_why *why) CHV_MUST_CHECK;
/*
 * Makes it: long random PINs into files of mode 0600, or those that are in the files, or asked for.  On failure the
 * files are gone again, unless the token was begun, or nobody can tell: it stays (tokens are not destroyed here), and so
 * do its PINs; `why` says so.
 */
enum chv_err chv_token_make(struct chv_token_plan *plan, struct chv_why *why) CHV_MUST_CHECK;

#endif
