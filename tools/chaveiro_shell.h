/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro shell: what its parts share. */
#ifndef CHV_TOOLS_CHAVEIRO_SHELL_H
#define CHV_TOOLS_CHAVEIRO_SHELL_H

#include "services/input.h"
#include "tools/chaveiro_files.h"
#include "tools/words.h"

struct chaveiro_edit;

struct chaveiro_shell {
    struct chaveiro_files files;
    bool terminal; /* lines are typed; else a failure ends it */
    bool quit;
    int fd; /* of the lines */
    bool readable;
    struct chv_input *input;
    struct chaveiro_edit *edit; /* terminal */
    char *buf;                  /* no terminal: what was read, and is no line yet */
    size_t len, room;
    bool ended;
};

/* --- commands (chaveiro_shell_commands.c) -------------------------------------------------------------------------- */

enum chaveiro_names { CHAVEIRO_NAMES_NONE, CHAVEIRO_NAMES_REMOTE, CHAVEIRO_NAMES_LOCAL };

/* One line, without what stands in front of it in a batch file. Its exit code, after one line if it is not 0. */
int chaveiro_shell_line(struct chaveiro_shell *shell, const char *line);
/* The name of command i, NULL behind the last. */
const char *chaveiro_shell_command(size_t i);
/* What operand `index` (from 1) of a command is a name of. */
enum chaveiro_names chaveiro_shell_names(const char *command, size_t index);

/* --- programs (chaveiro_shell_run.c) ------------------------------------------------------------------------------- */

/* Runs a program to its end, while the connection is served; its exit code, 128 + number if a signal ended it. */
int chaveiro_shell_run(struct chaveiro_shell *shell, char **argv);

/* --- lines (chaveiro_shell_edit.c) --------------------------------------------------------------------------------- */

/* Waits until the input can be read. False: a signal, or with `connected` the connection ended meanwhile. */
bool chaveiro_shell_wait(struct chaveiro_shell *shell, bool connected);
/* NULL after one line. */
struct chaveiro_edit *chaveiro_edit_open(struct chaveiro_shell *shell);
/* Stores the history. NULL is allowed. */
void chaveiro_edit_close(struct chaveiro_edit *edit);
/* The next line, until the next call; NULL: the end, or files.signal is set. */
const char *chaveiro_edit_line(struct chaveiro_edit *edit);
/* Completes the word in front of the cursor (chaveiro_shell_complete.c); what editline wants to be told. */
unsigned char chaveiro_edit_complete(struct chaveiro_shell *shell, void *editline);

#endif
