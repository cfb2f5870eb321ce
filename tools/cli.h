/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs' command lines share: one table of commands and one of options per program, from which come the
 * parser, --help and the tests; exit codes (sysexits.h); one-line errors; results for people and as JSON.
 */
#ifndef CHV_TOOLS_CLI_H
#define CHV_TOOLS_CLI_H

#include <chaveiro/error.h>

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CHV_CLI_OPTIONS = 64, CHV_CLI_REPEATS = 64 };

/* An option.  Options may stand before and after the command's words; "--" ends them. */
struct chv_cli_option {
    const char *name;  /* long, without dashes */
    int letter;        /* short, 0: none */
    const char *value; /* what its value is called in the help, NULL: it takes none */
    const char *help;  /* one line, or several with \n between */
    uint64_t commands; /* bit i: command i takes it */
    uint64_t repeats;  /* bit i: for command i it may be given up to CHV_CLI_REPEATS times in all; false: once */
};

#define CHV_CLI_ALL UINT64_MAX

struct chv_cli_args;

struct chv_cli_command {
    const char *words;                           /* "client add"; "" for a program without commands */
    const char *operands;                        /* as the help shows them: "ID" */
    const char *summary;                         /* one line for the list of commands */
    const char *text;                            /* what --help says below the usage line; ends with \n */
    size_t least, most;                          /* number of operands */
    int (*run)(const struct chv_cli_args *args); /* returns the exit code */
};

struct chv_cli {
    const char *name;
    const char *summary; /* one line */
    const char *text;    /* examples and more for --help; ends with \n */
    const struct chv_cli_command *commands;
    size_t command_count;                 /* at most 63 */
    const struct chv_cli_option *options; /* --help and --version are added */
    size_t option_count;                  /* at most CHV_CLI_OPTIONS - 2 */
};

struct chv_cli_args {
    const struct chv_cli *cli;
    const struct chv_cli_command *command;
    const char *values[CHV_CLI_OPTIONS];  /* last value of option i; "" for one without value; NULL: not given */
    const char *repeats[CHV_CLI_REPEATS]; /* every value of options that repeat for the command, in order */
    size_t repeated[CHV_CLI_REPEATS];     /* which option each of them is of */
    size_t repeat_count;
    char **operands;
    size_t operand_count;
};

/*
 * Starts the program: no core dumps, not traceable, descriptors 0 to 2 open, SIGPIPE ignored.  Then parses, runs the
 * command (or --help,
 * --version), checks that standard output took everything, and returns the exit code.
 */
int chv_cli_main(const struct chv_cli *cli, int argc, char **argv);

/* The parser alone: 0 and *args, or an exit code after one line on standard error.  *help: --help was given, *version
 * likewise. */
int chv_cli_parse(const struct chv_cli *cli, int argc, char **argv, struct chv_cli_args *args, bool *help,
                  bool *version);

/* By long name; NULL if it was not given. */
const char *chv_cli_value(const struct chv_cli_args *args, const char *option);
bool chv_cli_given(const struct chv_cli_args *args, const char *option);
/* A number in min..max from an option; `otherwise` if it was not given.  CHV_ERR_ARGUMENT. */
enum chv_err chv_cli_number(const struct chv_cli_args *args, const char *option, uint64_t min, uint64_t max,
                            uint64_t otherwise, uint64_t *out, struct chv_why *why) CHV_MUST_CHECK;

/*
 * While files are changed: SIGINT, SIGTERM, SIGHUP and SIGQUIT wait, so that what was begun is finished or undone, and
 * then end the program.  (A passphrase question lets them in and then fails.)  Calls nest no deeper than one.
 */
void chv_cli_hold_signals(void);
void chv_cli_release_signals(void);

/* The name in front of every error line, set by chv_cli_main. */
const char *chv_cli_program(void);
/* "PROGRAM: text" on standard error, control characters escaped; returns `code`. */
int chv_cli_fail(int code, const char *format, ...) CHV_PRINTF(2, 3);
/* "PROGRAM: text: why, or else the text of err"; returns chv_cli_exit_code(err). */
int chv_cli_error(enum chv_err err, const struct chv_why *why, const char *format, ...) CHV_PRINTF(3, 4);
/* The same without "text: ". */
int chv_cli_why(enum chv_err err, const struct chv_why *why);
/* sysexits.h for an error; EX_OK for CHV_OK. */
int chv_cli_exit_code(enum chv_err err);

/* Whether colours may be written to this stream: a terminal, and NO_COLOR is unset or empty. */
bool chv_cli_colour(FILE *stream);

/* A result: `object` as JSON on one line, or as "name: value" lines (_ in a name becomes a space). Takes the reference.
 */
void chv_cli_print(json_t *object, bool json);

/* Text from elsewhere: control characters and bytes that are not UTF-8 as \xHH; \n and \t stay as they are if
 * `multiline`. */
void chv_cli_put_escaped(FILE *stream, const char *text, size_t len, bool multiline);

#endif
