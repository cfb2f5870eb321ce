/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include <chaveiro/version.h>

/* What getopt_long returns for an option without a letter: this plus its index. */
enum { CLI_LONG = 0x100, CLI_COMMANDS_MAX = 63, CLI_HELP_COLUMN = 26 };

static const char *cli_program = "chaveiro";

const char *chv_cli_program(void)
{
    return cli_program;
}

/* --- starting ------------------------------------------------------------------------------------------------------
 */

/* Nothing of this process may end in a core file or be read by another process of the same user (prctl(2)). */
static void cli_harden(void)
{
    struct rlimit none = {0, 0};
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0)
            _exit(EX_OSERR);
    (void)signal(SIGPIPE, SIG_IGN);
}

static sigset_t cli_mask;

void chv_cli_hold_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigset_t held;
    (void)sigemptyset(&held);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaddset(&held, numbers[i]);
    (void)pthread_sigmask(SIG_BLOCK, &held, &cli_mask);
}

void chv_cli_release_signals(void)
{
    (void)fflush(stdout); /* what was made is told of, also to who wanted to stop it when it was made */
    (void)pthread_sigmask(SIG_SETMASK, &cli_mask, NULL);
}

/* --- parsing -------------------------------------------------------------------------------------------------------
 */

/* Number of words of `words` that begin the operands, 0 if they do not all match. "" matches with 0 words. */
static size_t cli_match(const char *words, char **operands, size_t count, bool *matches)
{
    size_t n = 0;
    *matches = false;
    while (*words != 0) {
        size_t len = strcspn(words, " ");
        if (n == count || strlen(operands[n]) != len || strncmp(operands[n], words, len) != 0)
            return 0;
        words += len;
        words += *words == ' ';
        n++;
    }
    *matches = true;
    return n;
}

/* The command that the operands name; takes its words off them. NULL if there is none. */
static const struct chv_cli_command *cli_find(const struct chv_cli *cli, struct chv_cli_args *args)
{
    for (size_t i = 0; i < cli->command_count; i++) {
        bool matches;
        size_t n = cli_match(cli->commands[i].words, args->operands, args->operand_count, &matches);
        if (matches) {
            args->operands += n;
            args->operand_count -= n;
            return &cli->commands[i];
        }
    }
    return NULL;
}

/* The words of all commands that begin with `word`, or of all if it is NULL: "token list, token init". */
static void cli_list(const struct chv_cli *cli, const char *word, char *list, size_t size)
{
    list[0] = 0;
    for (size_t i = 0; i < cli->command_count; i++) {
        const char *words = cli->commands[i].words;
        size_t used = strlen(list), len = word == NULL ? 0 : strlen(word);
        if (word == NULL || (strncmp(words, word, len) == 0 && words[len] == ' '))
            (void)snprintf(list + used, size - used, "%s%s", used == 0 ? "" : ", ", words);
    }
}

static int cli_no_command(const struct chv_cli *cli, const struct chv_cli_args *args)
{
    char known[768];
    if (args->operand_count == 0)
        return chv_cli_fail(EX_USAGE, "no command given: see '%s --help'", cli->name);
    cli_list(cli, args->operands[0], known, sizeof known);
    if (known[0] != 0 && args->operand_count == 1)
        return chv_cli_fail(EX_USAGE, "'%s' is not a whole command: there are %s; '%s COMMAND --help' says more",
                            args->operands[0], known, cli->name);
    if (known[0] == 0)
        cli_list(cli, NULL, known, sizeof known);
    return chv_cli_fail(EX_USAGE, "no command '%s%s%s': there are %s", args->operands[0],
                        args->operand_count > 1 ? " " : "", args->operand_count > 1 ? args->operands[1] : "", known);
}

/* The getopt tables of a program. */
struct cli_getopt {
    struct option longs[CHV_CLI_OPTIONS + 1];
    char shorts[2 * CHV_CLI_OPTIONS + 8];
};

static void cli_getopt_tables(const struct chv_cli *cli, struct cli_getopt *g)
{
    size_t at = 0;
    memset(g, 0, sizeof *g);
    g->shorts[at++] = ':'; /* tell a missing value from an unknown option */
    for (size_t i = 0; i < cli->option_count; i++) {
        const struct chv_cli_option *o = &cli->options[i];
        g->longs[i].name = o->name;
        g->longs[i].has_arg = o->value == NULL ? no_argument : required_argument;
        g->longs[i].val = CLI_LONG + (int)i;
        if (o->letter != 0) {
            g->shorts[at++] = (char)o->letter;
            if (o->value != NULL)
                g->shorts[at++] = ':';
        }
    }
    g->shorts[at++] = 'h';
    g->longs[cli->option_count] = (struct option){"help", no_argument, NULL, 'h'};
    g->longs[cli->option_count + 1] = (struct option){"version", no_argument, NULL, CLI_LONG - 1};
}

static int cli_bad_option(const struct chv_cli *cli, int result, char **argv)
{
    /* optopt is a letter, the val of a long option, or 0 for an unknown long one. */
    bool is_letter = optopt > 0 && optopt < CLI_LONG - 1;
    const char *given = argv[optind > 0 ? optind - 1 : 0];
    const char *what = result == ':'                ? "wants a value"
                       : !is_letter && optopt != 0  ? "takes no value"
                       : strchr(given, '=') != NULL ? "is unknown or ambiguous"
                                                    : "is unknown";
    if (is_letter)
        return chv_cli_fail(EX_USAGE, "option -%c %s: see '%s --help'", optopt, what, cli->name);
    return chv_cli_fail(EX_USAGE, "option %s %s: see '%s --help'", given, what, cli->name);
}

static int cli_twice(const struct chv_cli_option *o)
{
    return chv_cli_fail(EX_USAGE, "option --%s is given twice", o->name);
}

static int cli_take(const struct chv_cli *cli, size_t i, struct chv_cli_args *args)
{
    const struct chv_cli_option *o = &cli->options[i];
    if (args->values[i] != NULL && o->value != NULL && o->repeats == 0)
        return cli_twice(o);
    args->values[i] = o->value == NULL ? "" : optarg;
    if (o->repeats != 0) {
        if (args->repeat_count == CHV_CLI_REPEATS)
            return chv_cli_fail(EX_USAGE, "option --%s is given more than %d times", o->name, CHV_CLI_REPEATS);
        args->repeats[args->repeat_count] = optarg;
        args->repeated[args->repeat_count++] = i;
    }
    return EX_OK;
}

static size_t cli_by_letter(const struct chv_cli *cli, int letter)
{
    size_t i = 0;
    while (i < cli->option_count && cli->options[i].letter != letter)
        i++;
    return i;
}

/* Options that repeat for another command may be given once, and are not among this one's repeats. */
static int cli_keep_repeats(const struct chv_cli *cli, struct chv_cli_args *args, uint64_t command)
{
    uint64_t once = 0; /* bit per option */
    size_t kept = 0;
    _Static_assert(CHV_CLI_OPTIONS <= 64, "a bit per option");
    for (size_t n = 0; n < args->repeat_count; n++) {
        const size_t i = args->repeated[n];
        if ((cli->options[i].repeats & command) == 0) {
            if ((once & UINT64_C(1) << i) != 0)
                return cli_twice(&cli->options[i]);
            once |= UINT64_C(1) << i;
            continue;
        }
        args->repeats[kept] = args->repeats[n];
        args->repeated[kept++] = i;
    }
    args->repeat_count = kept;
    return EX_OK;
}

static int cli_check(const struct chv_cli *cli, struct chv_cli_args *args)
{
    const struct chv_cli_command *c = args->command;
    size_t index = (size_t)(c - cli->commands);
    for (size_t i = 0; i < cli->option_count; i++)
        if (args->values[i] != NULL && (cli->options[i].commands & (UINT64_C(1) << index)) == 0)
            return chv_cli_fail(EX_USAGE, "option --%s does not belong to '%s %s'", cli->options[i].name, cli->name,
                                c->words);
    const int code = cli_keep_repeats(cli, args, UINT64_C(1) << index);
    if (code != EX_OK)
        return code;
    if (args->operand_count < c->least)
        return chv_cli_fail(EX_USAGE, "'%s%s%s' wants %s: see '%s%s%s --help'", cli->name, *c->words ? " " : "",
                            c->words, c->operands, cli->name, *c->words ? " " : "", c->words);
    if (args->operand_count > c->most)
        return chv_cli_fail(EX_USAGE, "unexpected '%s': see '%s%s%s --help'", args->operands[c->most], cli->name,
                            *c->words ? " " : "", c->words);
    return EX_OK;
}

int chv_cli_parse(const struct chv_cli *cli, int argc, char **argv, struct chv_cli_args *args, bool *help,
                  bool *version)
{
    struct cli_getopt tables;
    int result, code = EX_OK;

    memset(args, 0, sizeof *args);
    args->cli = cli;
    *help = *version = false;
    cli_getopt_tables(cli, &tables);
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    while (code == EX_OK && (result = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1) {
        if (result == '?' || result == ':')
            code = cli_bad_option(cli, result, argv);
        else if (result == 'h')
            *help = true;
        else if (result == CLI_LONG - 1)
            *version = true;
        else
            code = cli_take(cli, result >= CLI_LONG ? (size_t)(result - CLI_LONG) : cli_by_letter(cli, result), args);
    }
    if (code != EX_OK)
        return code;
    args->operands = argv + optind;
    args->operand_count = (size_t)(argc - optind);
    args->command = cli_find(cli, args);
    if (*version || (*help && args->operand_count == 0) || (*help && args->command != NULL))
        return EX_OK;
    if (args->command == NULL)
        return cli_no_command(cli, args);
    return cli_check(cli, args);
}

static size_t cli_index(const struct chv_cli_args *args, const char *option)
{
    for (size_t i = 0; i < args->cli->option_count; i++)
        if (strcmp(args->cli->options[i].name, option) == 0)
            return i;
    abort(); /* a name that the program's own table does not have */
}

const char *chv_cli_value(const struct chv_cli_args *args, const char *option)
{
    return args->values[cli_index(args, option)];
}

bool chv_cli_given(const struct chv_cli_args *args, const char *option)
{
    return chv_cli_value(args, option) != NULL;
}

enum chv_err chv_cli_number(const struct chv_cli_args *args, const char *option, uint64_t min, uint64_t max,
                            uint64_t otherwise, uint64_t *out, struct chv_why *why)
{
    const char *text = chv_cli_value(args, option);
    char *end = NULL;
    if (text == NULL) {
        *out = otherwise;
        return CHV_OK;
    }
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || errno != 0 || *end != 0 || v < min || v > max)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--%s wants a number from %llu to %llu, not '%s'", option,
                        (unsigned long long)min, (unsigned long long)max, text);
    *out = v;
    return CHV_OK;
}

/* --- help ----------------------------------------------------------------------------------------------------------
 */

static void cli_heading(const char *text)
{
    bool bold = chv_cli_colour(stdout);
    printf("\n%s%s:%s\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
}

/* "  left      right", a continuation line of `right` under its first. */
static void cli_help_line(const char *left, const char *right)
{
    int column = printf("  %s", left);
    if (column + 2 > CLI_HELP_COLUMN) {
        printf("\n");
        column = 0;
    }
    while (true) {
        size_t len = strcspn(right, "\n");
        printf("%*s%.*s\n", CLI_HELP_COLUMN - column, "", (int)len, right);
        if (right[len] == 0)
            return;
        right += len + 1;
        column = 0;
    }
}

static void cli_help_options(const struct chv_cli *cli, uint64_t commands)
{
    char left[96];
    for (size_t i = 0; i < cli->option_count; i++) {
        const struct chv_cli_option *o = &cli->options[i];
        if ((o->commands & commands) != commands)
            continue;
        (void)snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                       o->letter ? "," : " ", o->name, o->value == NULL ? "" : " ", o->value == NULL ? "" : o->value);
        cli_help_line(left, o->help);
    }
    cli_help_line("-h, --help",
                  *cli->commands[0].words == 0 ? "this text" : "this text; after a command, that command's");
    cli_help_line("    --version", "the version");
}

static void cli_help_program(const struct chv_cli *cli)
{
    printf("Usage: %s [OPTION...] COMMAND [ARGUMENT...]\n%s\n", cli->name, cli->summary);
    cli_heading("Commands");
    for (size_t i = 0; i < cli->command_count; i++) {
        char left[96];
        const struct chv_cli_command *c = &cli->commands[i];
        (void)snprintf(left, sizeof left, "%s%s%s", c->words, *c->operands ? " " : "", c->operands);
        cli_help_line(left, c->summary);
    }
    cli_heading("Options of every command");
    _Static_assert(CLI_COMMANDS_MAX < 64, "a bit per command");
    cli_help_options(cli, (UINT64_C(1) << cli->command_count) - 1);
    printf("\n%s", cli->text);
}

static void cli_help(const struct chv_cli *cli, const struct chv_cli_command *c)
{
    if (c == NULL) {
        cli_help_program(cli);
        return;
    }
    printf("Usage: %s%s%s [OPTION...]%s%s\n%s\n", cli->name, *c->words ? " " : "", c->words, *c->operands ? " " : "",
           c->operands, c->summary);
    cli_heading("Options");
    cli_help_options(cli, UINT64_C(1) << (size_t)(c - cli->commands));
    printf("\n%s", c->text);
}

int chv_cli_main(const struct chv_cli *cli, int argc, char **argv)
{
    struct chv_cli_args args;
    bool help, version;

    cli_program = cli->name;
    cli_harden();
    int code = chv_cli_parse(cli, argc, argv, &args, &help, &version);
    if (code != EX_OK)
        return code;
    if (help)
        cli_help(cli, args.command);
    else if (version)
        printf("%s (chaveiro) %s\n", cli->name, CHV_VERSION);
    else
        code = args.command->run(&args);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EX_OK)
        return chv_cli_fail(EX_IOERR, "standard output: %s", strerror(errno));
    return code;
}
