/* SPDX-License-Identifier: Apache-2.0 */
/* Lines that are typed: editing, and the history. */
#include "tools/chaveiro_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <wchar.h>

#include "net/text.h"

enum { HISTORY_LINES = 500, PROMPT_SIZE = 4 * CHV_FILES_PATH_MAX + 16 };

struct chaveiro_edit {
    struct chaveiro_shell *shell;
    EditLine *el;
    History *history;
    char prompt[PROMPT_SIZE];
    char *line;
    char path[PATH_MAX]; /* of the history; "": it is not kept */
};

/* --- the history --------------------------------------------------------------------------------------------------- */

/* mkdir -p of the folder that a file is in. */
static bool make_folders(const char *path)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

/* XDG Base Directory Specification: what is kept between runs. */
static void history_open(struct chaveiro_edit *edit)
{
    HistEvent event;
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const bool own = state != NULL && state[0] == '/';
    edit->history = history_init();
    if (edit->history == NULL)
        return;
    (void)history(edit->history, &event, H_SETSIZE, HISTORY_LINES);
    (void)history(edit->history, &event, H_SETUNIQUE, 1);
    (void)el_set(edit->el, EL_HIST, history, edit->history);
    if (!own && (home == NULL || home[0] != '/'))
        return;
    const int n = own ? snprintf(edit->path, sizeof edit->path, "%s/chaveiro/history", state)
                      : snprintf(edit->path, sizeof edit->path, "%s/.local/state/chaveiro/history", home);
    if (n < 0 || (size_t)n >= sizeof edit->path)
        edit->path[0] = '\0';
    else
        (void)history(edit->history, &event, H_LOAD, edit->path); /* it may not be there yet */
}

/* Whole or not at all, and for nobody else's eyes. */
static void history_save(struct chaveiro_edit *edit)
{
    char part[PATH_MAX];
    HistEvent event;
    if (edit->path[0] == '\0' || !make_folders(edit->path) ||
        (size_t)snprintf(part, sizeof part, "%s.XXXXXX", edit->path) >= sizeof part)
        return;
    const int fd = mkostemp(part, O_CLOEXEC); /* mode 0600 */
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        if (fd >= 0) {
            (void)close(fd);
            (void)unlink(part);
        }
        return;
    }
    const bool saved = history(edit->history, &event, H_SAVE_FP, file) >= 0;
    if (fclose(file) != 0 || !saved || rename(part, edit->path) != 0)
        (void)unlink(part);
}

/* --- editing ------------------------------------------------------------------------------------------------------- */

static char *show_prompt(EditLine *el)
{
    struct chaveiro_edit *edit = NULL;
    static char none[] = "";
    (void)el_get(el, EL_CLIENTDATA, &edit);
    return edit != NULL ? edit->prompt : none;
}

static unsigned char complete(EditLine *el, wint_t character)
{
    struct chaveiro_edit *edit = NULL;
    (void)character;
    (void)el_get(el, EL_CLIENTDATA, &edit);
    return edit != NULL ? chaveiro_edit_complete(edit->shell, el) : CC_ERROR;
}

/* The line that is being typed, as editline believes that it stands there, below what was told. */
static void draw_again(const struct chaveiro_edit *edit)
{
    const LineInfo *line = el_line(edit->el);
    (void)fputs(edit->prompt, stdout);
    (void)fwrite(line->buffer, 1, (size_t)(line->lastchar - line->buffer), stdout);
    for (const char *c = line->cursor; c < line->lastchar; c++)
        if (((unsigned char)*c & 0xc0) != 0x80)
            (void)putchar('\b');
    (void)fflush(stdout);
}

/* The next character; the connection is served meanwhile. */
static int get_character(EditLine *el, wchar_t *out)
{
    struct chaveiro_edit *edit = NULL;
    mbstate_t state = {0};
    (void)el_get(el, EL_CLIENTDATA, &edit);
    for (;;) {
        char c;
        const bool connected = edit->shell->files.connected;
        const bool readable = chaveiro_shell_wait(edit->shell, connected);
        if (edit->shell->files.signal != 0) {
            errno = EINTR;
            return -1;
        }
        if (!readable) { /* the connection is lost, and a line has said so */
            draw_again(edit);
            continue;
        }
        const ssize_t n = read(edit->shell->fd, &c, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return (int)n;
        const size_t used = mbrtowc(out, &c, 1, &state);
        if (used == (size_t)-2)
            continue; /* in the middle of a character */
        if (used == (size_t)-1) {
            memset(&state, 0, sizeof state); /* no character of the locale's: left out */
            continue;
        }
        return 1;
    }
}

struct chaveiro_edit *chaveiro_edit_open(struct chaveiro_shell *shell)
{
    struct chaveiro_edit *edit = calloc(1, sizeof *edit);
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1)
        (void)setlocale(LC_CTYPE, "C.UTF-8"); /* as names on the server are */
    if (edit != NULL)
        edit->el = el_init("chaveiro", stdin, stdout, stderr);
    if (edit == NULL || edit->el == NULL) {
        free(edit);
        (void)chv_cli_fail(EX_OSERR, "the terminal cannot be used for editing");
        return NULL;
    }
    edit->shell = shell;
    (void)el_set(edit->el, EL_CLIENTDATA, edit);
    (void)el_set(edit->el, EL_PROMPT, show_prompt);
    (void)el_set(edit->el, EL_EDITOR, "emacs");
    (void)el_set(edit->el, EL_SIGNAL, 0);
    (void)el_set(edit->el, EL_GETCFN, get_character);
    (void)el_wset(edit->el, EL_ADDFN, L"chaveiro-complete", L"complete a name", complete); /* el_set leaks copies */
    (void)el_set(edit->el, EL_BIND, "^I", "chaveiro-complete", NULL);
    history_open(edit);
    (void)el_source(edit->el, NULL); /* the user's own ~/.editrc */
    return edit;
}

void chaveiro_edit_close(struct chaveiro_edit *edit)
{
    if (edit == NULL)
        return;
    if (edit->history != NULL)
        history_save(edit);
    el_end(edit->el);
    if (edit->history != NULL)
        history_end(edit->history);
    free(edit->line);
    free(edit);
}

const char *chaveiro_edit_line(struct chaveiro_edit *edit)
{
    struct chaveiro_files *files = &edit->shell->files;
    char shown[4 * CHV_FILES_PATH_MAX + 1];
    HistEvent event;
    int count = 0;
    (void)chv_text_escape(files->cwd, strlen(files->cwd), shown, sizeof shown, NULL);
    (void)snprintf(edit->prompt, sizeof edit->prompt, "files:/%s> ", shown);
    (void)fflush(stdout);
    files->prompting = true;
    (void)el_set(edit->el, EL_PREP_TERM, 1); /* before the prompt: a key that is pressed at once is its own */
    const char *typed = el_gets(edit->el, &count);
    files->prompting = false;
    if (typed == NULL || count <= 0 || files->signal != 0)
        return NULL;
    free(edit->line);
    edit->line = strndup(typed, strcspn(typed, "\n"));
    if (edit->line != NULL && edit->line[strspn(edit->line, " \t")] != '\0' && edit->history != NULL)
        (void)history(edit->history, &event, H_ENTER, edit->line);
    return edit->line;
}
