/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a program gets a passphrase or PIN from: a terminal, a file, a descriptor, standard input, a systemd credential.
 * Never from argv or the environment.  Bytes are read with read(2) only: no stdio buffer ever holds a secret.
 */
#ifndef CHV_TOOLS_SECRET_H
#define CHV_TOOLS_SECRET_H

#include <chaveiro/error.h>
#include <chaveiro/keystore.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { CHV_PASSPHRASE_MAX = 1024 }; /* bytes, without the newline */

/* The systemd credential (systemd.exec(5), LoadCredential=) that is used when nothing is said. */
#define CHV_SECRET_CREDENTIAL "chaveiro.passphrase"
/* The same for the PIN of a token. */
#define CHV_SECRET_PIN_CREDENTIAL "chaveiro.pin"

enum chv_secret_kind {
    CHV_SECRET_DEFAULT, /* $CREDENTIALS_DIRECTORY/<credential> if that is there, else the terminal */
    CHV_SECRET_PROMPT,  /* /dev/tty without echo; twice for a new one */
    CHV_SECRET_FILE,    /* the whole file but one trailing newline; refused if others than its owner can read it */
    CHV_SECRET_STDIN,   /* the next line of standard input; no byte behind its newline is taken */
    CHV_SECRET_FD       /* the first line of a descriptor that the program was started with */
};

/* Texts are the caller's and must outlive the source. */
struct chv_secret_source {
    enum chv_secret_kind kind;
    const char *path;       /* CHV_SECRET_FILE: else NULL */
    const char *option;     /* what to say in error texts: "--passphrase-file", "passphrase-file =" */
    const char *credential; /* CHV_SECRET_DEFAULT: name of the systemd credential; NULL: there is none, ask */
    const char *noun;       /* what to call it: "PIN"; NULL: "passphrase" */
    int fd;                 /* CHV_SECRET_FD */
};

/* The source of an option's value: NULL is CHV_SECRET_DEFAULT, "-" standard input, anything else a file. */
struct chv_secret_source chv_secret_source(const char *value, const char *option, const char *credential);

/* What a command line says about the secret of one keystore; NULL: not given. */
struct chv_secret_options {
    const char *passphrase_file, *pin_file, *pin_fd;
};
/*
 * The source that they mean for the keystore `uri`: a token's PIN, or a file's passphrase.  CHV_ERR_ARGUMENT for two of
 * them, for a PIN of a file, for a PIN beside the URI's own pin-source, for a descriptor that is none.
 */
enum chv_err chv_secret_for(const char *uri, const struct chv_secret_options *options, struct chv_secret_source *source,
                            struct chv_why *why) CHV_MUST_CHECK;

/* Whether asking a second time gives the passphrase again without a person or a pipe: a file (also one behind a
 * descriptor) or a credential. */
bool chv_secret_repeatable(const struct chv_secret_source *source);

/* The file that it comes from, by its path.  False: it is in none. */
bool chv_secret_path(const struct chv_secret_source *source, char path[PATH_MAX]);

/*
 * A chv_secret_fn; `arg` is a struct chv_secret_source.  Blocks until the passphrase is there.  Signals that end or
 * stop the program while it asks find the echo restored first.  CHV_ERR_NO_SECRET, with what to do in `why`: no
 * terminal, the two answers differ, empty, longer than `cap` or CHV_PASSPHRASE_MAX, a file that is missing or that
 * others can read.  On failure `out` holds zeros.
 */
enum chv_err chv_secret_get(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                            struct chv_why *why) CHV_MUST_CHECK;

#endif
