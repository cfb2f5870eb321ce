/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro shell: commands from a terminal, a batch file or a pipe, on one connection. */
#include "tools/chaveiro_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { READ_SIZE = 65536, LINE_MAX_SIZE = 1 << 20, SIGNALLED = 128 };

/* --- lines that are not typed -------------------------------------------------------------------------------------- */

static void on_input(void *arg)
{
    struct chaveiro_shell *shell = arg;
    shell->readable = true;
    chv_input_pause(shell->input);
}

bool chaveiro_shell_wait(struct chaveiro_shell *shell, bool connected)
{
    shell->readable = false;
    chv_input_resume(shell->input);
    while (!shell->readable && shell->files.signal == 0 && (!connected || shell->files.connected))
        (void)uv_run(&shell->files.link->loop.uv, UV_RUN_ONCE);
    if (!shell->readable)
        chv_input_pause(shell->input);
    return shell->readable;
}

/* Reads once more. False: nothing more comes; shell->files.code says whether that is an error. */
static bool read_more(struct chaveiro_shell *shell)
{
    if (shell->room - shell->len < READ_SIZE) {
        const size_t room = shell->room + READ_SIZE;
        char *buf = shell->len < LINE_MAX_SIZE ? realloc(shell->buf, room) : NULL;
        if (buf == NULL) {
            chaveiro_files_fail(&shell->files, EX_DATAERR, "a line is too long");
            return false;
        }
        shell->buf = buf;
        shell->room = room;
    }
    if (!chaveiro_shell_wait(shell, false))
        return false;
    const ssize_t n = read(shell->fd, shell->buf + shell->len, READ_SIZE - 1);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n < 0)
        chaveiro_files_fail(&shell->files, EX_IOERR, "the commands: %s", strerror(errno));
    shell->ended = n <= 0;
    shell->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The next line, malloc'ed; NULL: there is none. */
static char *next_line(struct chaveiro_shell *shell)
{
    for (;;) {
        const char *newline = shell->len > 0 ? memchr(shell->buf, '\n', shell->len) : NULL;
        if (newline != NULL || (shell->ended && shell->len > 0)) {
            const size_t len = newline != NULL ? (size_t)(newline - shell->buf) : shell->len;
            const size_t used = len + (newline != NULL);
            char *line = strndup(shell->buf, len > 0 && shell->buf[len - 1] == '\r' ? len - 1 : len);
            shell->len -= used;
            memmove(shell->buf, shell->buf + used, shell->len);
            if (line == NULL)
                chaveiro_files_fail(&shell->files, EX_OSERR, "no memory for a line");
            return line;
        }
        if (shell->ended || (!read_more(shell) && !shell->ended))
            return NULL;
    }
}

/* Until the first command that fails, which has no '-' in front. */
static int run_batch(struct chaveiro_shell *shell)
{
    int code = EX_OK;
    while (code == EX_OK && !shell->quit) {
        chaveiro_files_reset(&shell->files);
        char *line = next_line(shell);
        if (line == NULL) {
            code = shell->files.code;
            break;
        }
        const char *text = line + strspn(line, " \t");
        bool forgiven = false;
        for (; *text == '-' || *text == '@'; text++) /* '@': sftp does not show such a line; nor is any other here */
            forgiven = forgiven || *text == '-';
        code = chaveiro_shell_line(shell, text);
        free(line);
        if (forgiven && shell->files.signal == 0)
            code = EX_OK;
        (void)fflush(stdout);
        if (shell->files.signal != 0)
            break;
    }
    return shell->files.signal != 0 ? SIGNALLED + shell->files.signal : code;
}

/* --- lines that are typed ------------------------------------------------------------------------------------------ */

static int run_terminal(struct chaveiro_shell *shell)
{
    struct chaveiro_files *files = &shell->files;
    shell->edit = chaveiro_edit_open(shell);
    if (shell->edit == NULL)
        return EX_OSERR;
    (void)printf("connected to %s as '%s'; 'help' shows the commands\n", files->link->key.server,
                 files->link->key.parsed.id);
    while (!shell->quit) {
        files->signal = 0;
        const char *line = chaveiro_edit_line(shell->edit);
        if (files->signal == SIGINT) {
            (void)putchar('\n'); /* the line is given up */
            continue;
        }
        if (files->signal != 0 || line == NULL) {
            (void)putchar('\n');
            break;
        }
        (void)chaveiro_shell_line(shell, line);
        if (files->signal == SIGINT)
            (void)chv_cli_fail(EX_OK, "interrupted");
        else if (files->signal != 0)
            break;
        (void)fflush(stdout);
    }
    chaveiro_edit_close(shell->edit);
    return files->signal != 0 && files->signal != SIGINT ? SIGNALLED + files->signal : EX_OK;
}

/* --- names of files that are read again, after lcd ----------------------------------------------------------------- */

static const char *const file_options[] = {"key",      "config",   "passphrase-file",
                                           "pin-file", "identity", "identity-passphrase-file"};

enum { FILE_OPTIONS = sizeof file_options / sizeof file_options[0] };

/* "cwd/value", malloc'ed; NULL if it is no name of a file that starts from the current folder, or there is no memory. */
static char *absolute(const char *value)
{
    static const char scheme[] = "file:";
    const bool uri = strncmp(value, scheme, strlen(scheme)) == 0;
    const char *path = uri ? value + strlen(scheme) : value;
    if (path[0] == '/' || strcmp(path, "-") == 0 || chv_token_uri_is(value))
        return NULL;
    char *folder = getcwd(NULL, 0), *made = NULL;
    const size_t size = folder != NULL ? strlen(folder) + strlen(path) + sizeof scheme + 1 : 0;
    if (folder != NULL)
        made = malloc(size);
    if (made != NULL)
        (void)snprintf(made, size, "%s%s/%s", uri ? scheme : "", folder, path);
    free(folder);
    return made;
}

/* The key is written and read when it is updated, at whatever time: `made` is the caller's to free. */
static void fix_files(struct chv_cli_args *args, char *made[static FILE_OPTIONS])
{
    for (size_t i = 0; i < args->cli->option_count; i++)
        for (size_t j = 0; j < FILE_OPTIONS; j++)
            if (args->values[i] != NULL && strcmp(args->cli->options[i].name, file_options[j]) == 0) {
                made[j] = absolute(args->values[i]);
                args->values[i] = made[j] != NULL ? made[j] : args->values[i];
            }
}

/* --- both ---------------------------------------------------------------------------------------------------------- */

static int run(struct chaveiro_shell *shell)
{
    struct chv_why why = {""};
    struct chaveiro_files *files = &shell->files;
    if (!chaveiro_files_connect(files))
        return files->signal != 0 ? SIGNALLED + files->signal : files->code;
    enum chv_err err = chv_input_open(&files->link->loop, shell->fd, on_input, shell, &shell->input, &why);
    if (err != CHV_OK)
        return chv_cli_why(err, &why);
    const int code = shell->terminal ? run_terminal(shell) : run_batch(shell);
    chv_input_close(shell->input);
    return code;
}

int chaveiro_shell(const struct chv_cli_args *given)
{
    struct chv_cli_args fixed = *given, *args = &fixed;
    char *names[FILE_OPTIONS] = {NULL};
    const char *batch = chv_cli_value(args, "batch");
    const bool standard = batch == NULL || strcmp(batch, "-") == 0;
    struct chaveiro_shell *shell = calloc(1, sizeof *shell);
    if (shell == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    shell->terminal = batch == NULL && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
    shell->fd = standard ? STDIN_FILENO : open(batch, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (shell->fd < 0) {
        const int code = chv_cli_fail(EX_NOINPUT, "%s: %s", batch, strerror(errno));
        free(shell);
        return code;
    }
    fix_files(args, names);
    chaveiro_files_init(&shell->files, args);
    shell->files.shell = true;
    shell->files.chatty = shell->terminal;
    const int code = chaveiro_files_close(&shell->files, run(shell));
    if (!standard)
        (void)close(shell->fd);
    for (size_t i = 0; i < FILE_OPTIONS; i++)
        free(names[i]);
    free(shell->buf);
    free(shell);
    return code;
}
