/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the shell and of batch files. */
#include "tools/chaveiro_shell.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* How a command is run: its words, the first one its name, and what it was called with. */
struct call {
    struct chaveiro_shell *shell;
    struct chaveiro_files *files;
    char **words; /* behind the name and the options */
    size_t count;
    char options[16]; /* letters */
};

struct command {
    const char *name, *also; /* another name, or NULL */
    const char *operands;    /* as the help shows them */
    const char *help;
    const char *options; /* letters that it takes */
    size_t least, most;  /* operands */
    enum chaveiro_names first, rest;
    int (*run)(struct call *call);
};

static bool has(const struct call *call, char option)
{
    return strchr(call->options, option) != NULL;
}

static struct chaveiro_transfer transfer_of(const struct call *call)
{
    return (struct chaveiro_transfer){.recursive = has(call, 'r') || has(call, 'R'),
                                      .preserve = has(call, 'p') || has(call, 'P'),
                                      .resume = has(call, 'a'),
                                      .fsync = has(call, 'f')};
}

static int run_get(struct call *call)
{
    struct chaveiro_transfer t = transfer_of(call);
    return chaveiro_files_get(call->files, &t, call->words, call->count);
}

static int run_reget(struct call *call)
{
    struct chaveiro_transfer t = transfer_of(call);
    t.resume = true;
    return chaveiro_files_get(call->files, &t, call->words, call->count);
}

/* Local patterns are ours here; the last word, if it is not the only one, is a name on the server. */
static int put(struct call *call, bool resume)
{
    struct chaveiro_transfer t = transfer_of(call);
    const size_t sources = call->count > 1 ? call->count - 1 : 1;
    glob_t found = {.gl_pathc = 0};
    int failed = 0;
    t.resume = t.resume || resume;
    for (size_t i = 0; i < sources && failed == 0; i++) {
        failed = glob(call->words[i], i > 0 ? GLOB_APPEND : 0, NULL, &found);
        if (failed == GLOB_NOMATCH) { /* it stands for itself */
            chv_pattern_literal(call->words[i]);
            failed = glob(call->words[i], GLOB_NOCHECK | GLOB_NOESCAPE | (i > 0 ? GLOB_APPEND : 0), NULL, &found);
        }
    }
    char **words = failed == 0 ? calloc(found.gl_pathc + 1, sizeof *words) : NULL;
    if (words == NULL) {
        chaveiro_files_fail(call->files, EX_OSERR, "put: no memory for names, or a folder cannot be read");
    } else {
        size_t count = found.gl_pathc;
        memcpy(words, found.gl_pathv, count * sizeof *words);
        if (call->count > 1) {
            chv_pattern_literal(call->words[call->count - 1]);
            words[count++] = call->words[call->count - 1];
        }
        (void)chaveiro_files_put(call->files, &t, words, count, call->count > 1);
    }
    free(words);
    globfree(&found);
    return call->files->code;
}

static int run_put(struct call *call)
{
    return put(call, false);
}

static int run_reput(struct call *call)
{
    return put(call, true);
}

static int run_ls(struct call *call)
{
    static char here[] = ".", *none[] = {here};
    call->files->names = has(call, '1');
    const int code = call->count > 0 ? chaveiro_files_simple(call->files, CHV_FILES_LS, call->words, call->count)
                                     : chaveiro_files_simple(call->files, CHV_FILES_LS, none, 1);
    call->files->names = false;
    return code;
}

static int run_cd(struct call *call)
{
    struct chaveiro_matches m = {.list = NULL};
    struct chaveiro_files *files = call->files;
    if (call->count == 0) {
        files->cwd[0] = '\0';
        return EX_OK;
    }
    if (chaveiro_files_expand(files, call->words[0], CHAVEIRO_EXPAND_STAT, &m) && m.count > 0) {
        const struct chaveiro_match *to = &m.list[0];
        if (m.count > 1 || !to->known)
            chaveiro_files_fail(files, EX_NOINPUT, "%s: there is no such folder, or more than one", call->words[0]);
        else if (to->meta.type != CHV_FILES_FOLDER)
            chaveiro_files_fail(files, EX_NOINPUT, "%s: is no folder", to->path);
        else
            (void)snprintf(files->cwd, sizeof files->cwd, "%s", to->path);
    }
    chaveiro_matches_free(&m);
    return files->code;
}

static int run_lcd(struct call *call)
{
    const char *home = getenv("HOME");
    if (call->count > 0)
        chv_pattern_literal(call->words[0]);
    const char *to = call->count > 0 ? call->words[0] : home != NULL ? home : "/";
    if (chdir(to) != 0)
        chaveiro_files_fail(call->files, EX_NOINPUT, "%s: %s", to, strerror(errno));
    return call->files->code;
}

static int run_pwd(struct call *call)
{
    (void)putchar('/');
    chaveiro_files_put_name(call->files->cwd);
    (void)putchar('\n');
    return EX_OK;
}

static int run_lpwd(struct call *call)
{
    char *folder = getcwd(NULL, 0);
    if (folder == NULL) {
        chaveiro_files_fail(call->files, EX_OSERR, "the current folder: %s", strerror(errno));
    } else {
        chaveiro_files_put_name(folder);
        (void)putchar('\n');
    }
    free(folder);
    return call->files->code;
}

static int run_lls(struct call *call)
{
    static char ls[] = "ls";
    char **argv = calloc(call->count + 2, sizeof *argv);
    if (argv == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    argv[0] = ls;
    for (size_t i = 0; i < call->count; i++) {
        chv_pattern_literal(call->words[i]);
        argv[i + 1] = call->words[i];
    }
    const int code = chaveiro_shell_run(call->shell, argv);
    free(argv);
    return code;
}

static int run_mkdir(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_MKDIR, call->words, call->count);
}

static int run_rmdir(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_RMDIR, call->words, call->count);
}

static int run_rm(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_RM, call->words, call->count);
}

static int run_rename(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_RENAME, call->words, call->count);
}

static int run_stat(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_STAT, call->words, call->count);
}

static int run_checksum(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_CHECKSUM, call->words, call->count);
}

static int run_df(struct call *call)
{
    return chaveiro_files_simple(call->files, CHV_FILES_DF, NULL, 0);
}

static int run_quit(struct call *call)
{
    call->shell->quit = true;
    return EX_OK;
}

static int run_help(struct call *call);

#define REMOTE CHAVEIRO_NAMES_REMOTE
#define LOCAL CHAVEIRO_NAMES_LOCAL
#define NONE CHAVEIRO_NAMES_NONE

static const struct command commands[] = {
    {"get", NULL, "[-afpr] REMOTE... [LOCAL]", "fetch files", "afprPR", 1, SIZE_MAX, REMOTE, LOCAL, run_get},
    {"put", NULL, "[-apr] LOCAL... [REMOTE]", "store files", "aprPR", 1, SIZE_MAX, LOCAL, REMOTE, run_put},
    {"reget", NULL, "[-fpr] REMOTE... [LOCAL]", "go on fetching them", "fprPR", 1, SIZE_MAX, REMOTE, LOCAL, run_reget},
    {"reput", NULL, "[-pr] LOCAL... [REMOTE]", "go on storing them", "prPR", 1, SIZE_MAX, LOCAL, REMOTE, run_reput},
    {"ls", "dir", "[-1l] [PATH...]", "list files and folders, -1: names alone", "1l", 0, SIZE_MAX, REMOTE, REMOTE,
     run_ls},
    {"cd", NULL, "[PATH]", "go to a folder on the server", "", 0, 1, REMOTE, NONE, run_cd},
    {"lcd", NULL, "[PATH]", "go to a local folder", "", 0, 1, LOCAL, NONE, run_lcd},
    {"pwd", NULL, "", "show where we are on the server", "", 0, 0, NONE, NONE, run_pwd},
    {"lpwd", NULL, "", "show the local folder", "", 0, 0, NONE, NONE, run_lpwd},
    {"lls", NULL, "[OPTIONS] [PATH...]", "list local files, by ls(1)", NULL, 0, SIZE_MAX, LOCAL, LOCAL, run_lls},
    {"mkdir", NULL, "PATH...", "make folders", "", 1, SIZE_MAX, REMOTE, REMOTE, run_mkdir},
    {"rm", NULL, "PATH...", "remove files", "", 1, SIZE_MAX, REMOTE, REMOTE, run_rm},
    {"rmdir", NULL, "PATH...", "remove empty folders", "", 1, SIZE_MAX, REMOTE, REMOTE, run_rmdir},
    {"rename", "mv", "PATH NEW", "give a file or folder another name", "", 2, 2, REMOTE, REMOTE, run_rename},
    {"df", NULL, "", "show the space for files, in bytes", "", 0, 0, NONE, NONE, run_df},
    {"stat", NULL, "PATH...", "show what is known of files", "", 1, SIZE_MAX, REMOTE, REMOTE, run_stat},
    {"checksum", NULL, "PATH...", "show files' SHA-256, computed by the server", "", 1, SIZE_MAX, REMOTE, REMOTE,
     run_checksum},
    {"help", "?", "", "show this", "", 0, 0, NONE, NONE, run_help},
    {"quit", "exit", "", "end; so do 'bye' and the end of input", "", 0, 0, NONE, NONE, run_quit},
    {"bye", NULL, NULL, NULL, "", 0, 0, NONE, NONE, run_quit},
};

#undef REMOTE
#undef LOCAL
#undef NONE

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int run_help(struct call *call)
{
    (void)call;
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].help != NULL)
            (void)printf("%-9s%-28s%s\n", commands[i].name, commands[i].operands, commands[i].help);
    (void)fputs("!COMMAND                             run a command of this machine; ! alone: its shell\n"
                "\n"
                "A name with spaces stands in quotes, 'like this' or \"like this\", or has \\ before each of them.\n"
                "* ? [...] in names stand for several, here and there.\n",
                stdout);
    return EX_OK;
}

const char *chaveiro_shell_command(size_t i)
{
    return i < COMMANDS ? commands[i].name : NULL;
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0 || (commands[i].also != NULL && strcmp(commands[i].also, name) == 0))
            return &commands[i];
    return NULL;
}

enum chaveiro_names chaveiro_shell_names(const char *command, size_t index)
{
    const struct command *c = find(command);
    return c == NULL ? CHAVEIRO_NAMES_NONE : index <= 1 ? c->first : c->rest;
}

/* --- a line -------------------------------------------------------------------------------------------------------- */

/* Takes options off the words; false after one line. */
static bool take_options(const struct command *c, struct call *call)
{
    if (c->options == NULL)
        return true; /* they are another program's */
    while (call->count > 0 && call->words[0][0] == '-' && call->words[0][1] != '\0') {
        const char *word = call->words[0];
        call->words++;
        call->count--;
        if (strcmp(word, "--") == 0)
            return true;
        for (const char *o = word + 1; *o != '\0'; o++) {
            const size_t used = strlen(call->options);
            if (strchr(c->options, *o) == NULL) {
                chaveiro_files_fail(call->files, EX_USAGE, "%s: option -%c is unknown: see 'help'", c->name, *o);
                return false;
            }
            if (!has(call, *o) && used + 1 < sizeof call->options)
                call->options[used] = *o;
        }
    }
    return true;
}

static int run_words(struct chaveiro_shell *shell, const struct chv_words *words)
{
    struct call call = {.shell = shell, .files = &shell->files, .words = words->words + 1, .count = words->count - 1};
    const struct command *c = find(words->words[0]);
    if (c == NULL)
        return chv_cli_fail(EX_USAGE, "no command '%s': 'help' shows all", words->words[0]);
    if (!take_options(c, &call))
        return shell->files.code;
    if (call.count < c->least || call.count > c->most)
        return chv_cli_fail(EX_USAGE, "%s wants %s: see 'help'", c->name,
                            c->operands != NULL && c->operands[0] != '\0' ? c->operands : "no operands");
    return c->run(&call);
}

/* The user's shell, for what stands behind "!". */
static int run_outside(struct chaveiro_shell *shell, const char *text)
{
    static char option[] = "-c", standard[] = "/bin/sh";
    char *user = getenv("SHELL"), *command = strdup(text);
    if (command == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    if (user == NULL || user[0] != '/')
        user = standard;
    char *argv[] = {user, text[0] != '\0' ? option : NULL, command, NULL};
    const int code = chaveiro_shell_run(shell, argv);
    free(command);
    return code;
}

int chaveiro_shell_line(struct chaveiro_shell *shell, const char *line)
{
    struct chv_words words;
    struct chv_why why = {""};
    chaveiro_files_reset(&shell->files);
    line += strspn(line, " \t");
    if (line[0] == '!')
        return run_outside(shell, line + 1 + strspn(line + 1, " \t"));
    enum chv_err err = chv_words_split(line, &words, &why);
    if (err != CHV_OK)
        return chv_cli_fail(EX_USAGE, "%s", why.text[0] != '\0' ? why.text : chv_err_text(err));
    const int code = words.count > 0 ? run_words(shell, &words) : EX_OK;
    chv_words_free(&words);
    return code;
}
