/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tools/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/memory.h"

/* What a file, pipe or terminal is read into: one byte more than a passphrase may have, to see that it is too long. */
enum { SECRET_ROOM = CHV_PASSPHRASE_MAX + 2 };

/* Signals that would end or stop the program with the echo off. */
static const int secret_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGTERM, SIGTSTP};
enum { SECRET_SIGNALS = sizeof secret_signals / sizeof secret_signals[0] };

static volatile sig_atomic_t secret_caught;

static void secret_on_signal(int number)
{
    secret_caught = number;
}

struct chv_secret_source chv_secret_source(const char *value, const char *option, const char *credential)
{
    struct chv_secret_source source = {
        .kind = CHV_SECRET_DEFAULT, .option = option, .credential = credential, .fd = -1};
    if (value == NULL)
        return source;
    if (strcmp(value, "-") == 0) {
        source.kind = CHV_SECRET_STDIN;
        return source;
    }
    source.kind = CHV_SECRET_FILE;
    source.path = value;
    return source;
}

static const char *secret_noun(const struct chv_secret_source *source)
{
    return source->noun != NULL ? source->noun : "passphrase";
}

static enum chv_err secret_descriptor(const char *text, int *fd, struct chv_why *why)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != 0 || number > INT_MAX ||
        fcntl((int)number, F_GETFD) < 0)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--pin-fd '%.20s': is no open descriptor (write --pin-fd 3 3<FILE)",
                        text);
    *fd = (int)number;
    return CHV_OK;
}

enum chv_err chv_secret_for(const char *uri, const struct chv_secret_options *options, struct chv_secret_source *source,
                            struct chv_why *why)
{
    bool token = strncmp(uri, "pkcs11:", strlen("pkcs11:")) == 0;
    bool pin = options->pin_file != NULL || options->pin_fd != NULL;
    int given = (options->passphrase_file != NULL) + (options->pin_file != NULL) + (options->pin_fd != NULL);
    if (given > 1)
        return chv_fail(why, CHV_ERR_ARGUMENT, "give one of --passphrase-file, --pin-file and --pin-fd");
    if (pin && !token)
        return chv_fail(why, CHV_ERR_ARGUMENT, "a PIN is a token's: a keystore file has a --passphrase-file");
    if (pin && strstr(uri, "pin-source=") != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "the token's URI has a pin-source: leave --pin-file and --pin-fd out");
    *source = options->pin_file != NULL
                  ? chv_secret_source(options->pin_file, "--pin-file", NULL)
                  : chv_secret_source(options->passphrase_file, token ? "--pin-file" : "--passphrase-file",
                                      token ? CHV_SECRET_PIN_CREDENTIAL : CHV_SECRET_CREDENTIAL);
    source->noun = token ? "PIN" : NULL;
    if (options->pin_fd == NULL)
        return CHV_OK;
    source->kind = CHV_SECRET_FD;
    return secret_descriptor(options->pin_fd, &source->fd, why);
}

/* The path of the source's systemd credential, if that file is there. */
static bool secret_credential_path(const struct chv_secret_source *source, char path[PATH_MAX])
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    if (source->credential == NULL || directory == NULL || directory[0] != '/')
        return false;
    int n = snprintf(path, PATH_MAX, "%s/%s", directory, source->credential);
    return n > 0 && n < PATH_MAX && access(path, F_OK) == 0;
}

bool chv_secret_repeatable(const struct chv_secret_source *source)
{
    char path[PATH_MAX];
    struct stat st;
    switch (source->kind) {
    case CHV_SECRET_FILE:
        return stat(source->path, &st) == 0 && S_ISREG(st.st_mode);
    case CHV_SECRET_DEFAULT:
        return secret_credential_path(source, path);
    case CHV_SECRET_FD:
        return fstat(source->fd, &st) == 0 && S_ISREG(st.st_mode);
    case CHV_SECRET_PROMPT:
    case CHV_SECRET_STDIN:
        return false;
    }
    return false;
}

bool chv_secret_path(const struct chv_secret_source *source, char path[PATH_MAX])
{
    if (source->kind == CHV_SECRET_FILE) {
        int n = snprintf(path, PATH_MAX, "%s", source->path);
        return n > 0 && n < PATH_MAX;
    }
    return source->kind == CHV_SECRET_DEFAULT && secret_credential_path(source, path);
}

/* systemd hands credentials out as root's, 0400 or, where an ACL lets the service's user in, 0440 (systemd.exec(5)). */
static bool secret_is_credential(const char *path, const struct stat *st)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    size_t len = directory == NULL ? 0 : strlen(directory);
    return len > 0 && strncmp(path, directory, len) == 0 && path[len] == '/' && st->st_uid == 0 &&
           (st->st_mode & 0337) == 0;
}

/* `name`: "PIN file /x", for texts. */
static enum chv_err secret_check_file(int fd, const char *name, const char *path, struct chv_why *why)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s: %s", name, strerror(errno));
    if (S_ISFIFO(st.st_mode)) /* <(command): nobody else has that pipe */
        return CHV_OK;
    if (!S_ISREG(st.st_mode))
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s is not a regular file", name);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s belongs to another user", name);
    if ((st.st_mode & 077) != 0 && st.st_nlink > 0 && (path == NULL || !secret_is_credential(path, &st)))
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s can be read or written by others: chmod 600 %s", name,
                        path != NULL ? path : "the file");
    return CHV_OK;
}

/* While a passphrase is waited for: signal handlers and, on a terminal, its settings, to give back. */
struct secret_wait {
    int fd;
    bool terminal;
    struct termios settings;
    struct sigaction actions[SECRET_SIGNALS];
    sigset_t mask;    /* as it was */
    sigset_t waiting; /* with the signals above let in: only while ppoll(2) sleeps, so that none comes just before it */
};

/*
 * Reads into buf up to the end or, if `line`, up to and without a newline; at most `room` bytes.  By the byte for a
 * line: what is behind the newline is somebody else's.
 */
static enum chv_err secret_read(const struct secret_wait *w, bool line, char *buf, size_t room, size_t *len,
                                struct chv_why *why)
{
    *len = 0;
    while (*len < room) {
        struct pollfd wait = {.fd = w->fd, .events = POLLIN};
        int ready = ppoll(&wait, 1, NULL, &w->waiting);
        if (ready < 0 && errno == EINTR && secret_caught == 0)
            continue;
        ssize_t n = ready < 0 ? -1 : read(w->fd, buf + *len, line ? 1 : room - *len);
        if (n == 0)
            return CHV_OK;
        if (n < 0 && ready >= 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return chv_fail(why, CHV_ERR_NO_SECRET, "cannot read the passphrase: %s", strerror(errno));
        if (line && buf[*len] == '\n') {
            buf[*len] = 0;
            return CHV_OK;
        }
        *len += (size_t)n;
    }
    return CHV_OK;
}

/* Gives all back, then lets the signal that came do what it does; true if the question is to be asked again. */
static bool secret_wait_end(struct secret_wait *w)
{
    int caught = (int)secret_caught;
    if (w->terminal)
        (void)tcsetattr(w->fd, TCSAFLUSH, &w->settings);
    for (size_t i = 0; i < SECRET_SIGNALS; i++)
        (void)sigaction(secret_signals[i], &w->actions[i], NULL);
    if (caught != 0)
        (void)raise(caught); /* pending until the next line, and longer where the caller holds it */
    (void)pthread_sigmask(SIG_SETMASK, &w->mask, NULL);
    return caught == SIGTSTP;
}

/* From here on signals wait, also those that the caller held, to be let in by secret_read. False: no control of the
 * echo. */
static bool secret_wait_begin(struct secret_wait *w)
{
    struct sigaction action = {.sa_handler = secret_on_signal};
    sigset_t wanted;
    if (w->terminal && tcgetattr(w->fd, &w->settings) != 0)
        return false;
    (void)sigemptyset(&action.sa_mask);
    (void)sigemptyset(&wanted);
    for (size_t i = 0; i < SECRET_SIGNALS; i++)
        (void)sigaddset(&wanted, secret_signals[i]);
    (void)pthread_sigmask(SIG_BLOCK, &wanted, &w->mask);
    w->waiting = w->mask;
    secret_caught = 0;
    for (size_t i = 0; i < SECRET_SIGNALS; i++) {
        (void)sigaction(secret_signals[i], &action, &w->actions[i]);
        if (w->actions[i].sa_handler == SIG_IGN) /* nohup(1): it stays ignored */
            (void)sigaction(secret_signals[i], &w->actions[i], NULL);
        (void)sigdelset(&w->waiting, secret_signals[i]);
    }
    if (!w->terminal)
        return true;
    struct termios quiet = w->settings;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    if (tcsetattr(w->fd, TCSAFLUSH, &quiet) == 0)
        return true;
    (void)secret_wait_end(w);
    return false;
}

/* secret_read, which may wait for long, with signals let in. */
static enum chv_err secret_wait_read(int fd, bool line, char *buf, size_t *len, struct chv_why *why)
{
    struct secret_wait w = {.fd = fd};
    enum chv_err err = CHV_OK;
    bool repeat = true;
    size_t before = 0;
    while (repeat) {
        (void)secret_wait_begin(&w);
        err = secret_read(&w, line, buf + before, SECRET_ROOM - before, len, why);
        bool interrupted = secret_caught != 0;
        before += *len;
        repeat = secret_wait_end(&w) && err != CHV_OK;
        if (interrupted && err != CHV_OK && !repeat)
            err = chv_fail(why, CHV_ERR_NO_SECRET, "interrupted while a passphrase was read");
    }
    *len = before;
    return err;
}

static enum chv_err secret_from_file(const struct chv_secret_source *source, const char *path, char *buf, size_t *len,
                                     struct chv_why *why)
{
    char name[PATH_MAX + 32];
    (void)snprintf(name, sizeof name, "%s file %s", secret_noun(source), path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return chv_fail(why, CHV_ERR_NO_SECRET, "%s: %s", name, strerror(errno));
    enum chv_err err = secret_check_file(fd, name, path, why);
    if (err == CHV_OK)
        err = secret_wait_read(fd, false, buf, len, why);
    if (err == CHV_OK && *len > 0 && buf[*len - 1] == '\n')
        *len -= 1;
    (void)close(fd);
    return err;
}

/* A file is read from its start, so that it can be read again. */
static enum chv_err secret_from_descriptor(const struct chv_secret_source *source, char *buf, size_t *len,
                                           struct chv_why *why)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s from descriptor %d", secret_noun(source), source->fd);
    enum chv_err err = secret_check_file(source->fd, name, NULL, why);
    if (err != CHV_OK)
        return err;
    (void)lseek(source->fd, 0, SEEK_SET);
    return secret_wait_read(source->fd, true, buf, len, why);
}

static void secret_say(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* One question on the terminal, without echo. */
static enum chv_err secret_ask(int fd, const char *prompt, const char *again, char *buf, size_t *len,
                               struct chv_why *why)
{
    struct secret_wait w = {.fd = fd, .terminal = true};
    enum chv_err err = CHV_OK;
    bool repeat = true;
    while (repeat) {
        if (!secret_wait_begin(&w))
            return chv_fail(why, CHV_ERR_NO_SECRET, "cannot turn the terminal's echo off: %s", strerror(errno));
        secret_say(fd, prompt);
        secret_say(fd, again);
        err = secret_read(&w, true, buf, SECRET_ROOM, len, why);
        bool interrupted = secret_caught != 0;
        secret_say(fd, "\n");
        repeat = secret_wait_end(&w);
        if (interrupted && !repeat)
            err = chv_fail(why, CHV_ERR_NO_SECRET, "interrupted while a passphrase was asked for");
    }
    return err;
}

static enum chv_err secret_from_terminal(const struct chv_secret_source *source, const char *prompt, int confirm,
                                         char *buf, size_t *len, struct chv_why *why)
{
    char second[SECRET_ROOM];
    size_t second_len = 0;
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        const char first = islower(prompt[1]) ? (char)tolower(prompt[0]) : prompt[0]; /* not of a PIN */
        return chv_fail(why, CHV_ERR_NO_SECRET,
                        "no terminal to ask for the %c%s: give %s FILE, or '-' for standard input", first, prompt + 1,
                        source->option);
    }
    enum chv_err err = secret_ask(fd, prompt, ": ", buf, len, why);
    if (err == CHV_OK && confirm && *len > 0) {
        err = secret_ask(fd, prompt, " again: ", second, &second_len, why);
        if (err == CHV_OK && (second_len != *len || !chv_equal(buf, second, second_len)))
            err = chv_fail(why, CHV_ERR_NO_SECRET, "the two answers differ: nothing was done");
    }
    chv_wipe(second, sizeof second);
    (void)close(fd);
    return err;
}

static enum chv_err secret_from(const struct chv_secret_source *source, const char *prompt, int confirm, char *buf,
                                size_t *len, struct chv_why *why)
{
    char path[PATH_MAX];
    switch (source->kind) {
    case CHV_SECRET_FILE:
        return secret_from_file(source, source->path, buf, len, why);
    case CHV_SECRET_FD:
        return secret_from_descriptor(source, buf, len, why);
    case CHV_SECRET_STDIN:
        return secret_wait_read(STDIN_FILENO, true, buf, len, why);
    case CHV_SECRET_DEFAULT:
        if (secret_credential_path(source, path))
            return secret_from_file(source, path, buf, len, why);
        return secret_from_terminal(source, prompt, confirm, buf, len, why);
    case CHV_SECRET_PROMPT:
        return secret_from_terminal(source, prompt, confirm, buf, len, why);
    }
    return chv_fail(why, CHV_ERR_ARGUMENT, "no such passphrase source");
}

enum chv_err chv_secret_get(void *arg, const char *prompt, int confirm, char *out, size_t cap, size_t *len,
                            struct chv_why *why)
{
    const struct chv_secret_source *source = arg;
    char buf[SECRET_ROOM];
    size_t got = 0;
    size_t most = cap < CHV_PASSPHRASE_MAX ? cap : CHV_PASSPHRASE_MAX;

    chv_wipe(out, cap);
    enum chv_err err = secret_from(source, prompt, confirm, buf, &got, why);
    if (err != CHV_OK)
        goto out;
    if (got == 0) {
        err = chv_fail(why, CHV_ERR_NO_SECRET, "the %s is empty: at least one character is needed", prompt);
        goto out;
    }
    if (got > most) {
        err = chv_fail(why, CHV_ERR_NO_SECRET, "the %s is longer than %zu bytes", prompt, most);
        goto out;
    }
    memcpy(out, buf, got); /* NOLINT(bugprone-not-null-terminated-result): bytes, not text */
    *len = got;
out:
    chv_wipe(buf, sizeof buf);
    return err;
}
