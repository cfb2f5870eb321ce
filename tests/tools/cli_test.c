/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cli.h"

#include "tests/harness.h"

#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static int no_run(const struct chv_cli_args *args)
{
    (void)args;
    return EX_OK;
}

static const struct chv_cli_command commands[] = {
    {"one", "", "first", "", 0, 0, no_run},
    {"two words", "A [B]", "second", "", 1, 2, no_run},
};
static const struct chv_cli_option options[] = {
    {"all", 'a', NULL, "every command's", CHV_CLI_ALL, false},
    {"file", 'f', "FILE", "the second's", 2, false},
    {"many", 0, "M", "the first's", 1, true},
    {"some", 0, "S", "of both, again for the second", CHV_CLI_ALL, 2},
};
static const struct chv_cli cli = {"prog", "summary", "text\n", commands, 2, options, 4};
static const struct chv_cli_command only[] = {{"", "", "the one", "", 0, 0, no_run}};
static const struct chv_cli plain = {"plain", "summary", "text\n", only, 1, options, 1};

/* What chv_cli_parse wrote to standard error, with its result. */
struct parsed {
    struct chv_cli_args args;
    bool help, version;
    int code;
    char text[512];
    char *argv[16];
};

static void parse(const struct chv_cli *of, struct parsed *p, const char *line)
{
    static char words[512];
    int argc = 0, saved = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    memset(p, 0, sizeof *p);
    (void)snprintf(words, sizeof words, "%s", line);
    p->argv[argc++] = (char *)(uintptr_t)of->name;
    for (char *w = strtok(words, " "); w != NULL && argc < 15; w = strtok(NULL, " "))
        p->argv[argc++] = w;
    (void)fflush(stderr);
    CU_ASSERT_FATAL(file != NULL && saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    p->code = chv_cli_parse(of, argc, p->argv, &p->args, &p->help, &p->version);
    (void)fflush(stderr);
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    rewind(file);
    size_t n = fread(p->text, 1, sizeof p->text - 1, file);
    p->text[n] = 0;
    (void)fclose(file);
}

static void test_commands(void)
{
    struct parsed p;
    parse(&cli, &p, "one");
    CU_ASSERT_EQUAL(p.code, EX_OK);
    CU_ASSERT_PTR_EQUAL(p.args.command, &commands[0]);
    CU_ASSERT_EQUAL(p.args.operand_count, 0);
    parse(&cli, &p, "two words x y");
    CU_ASSERT_EQUAL(p.code, EX_OK);
    CU_ASSERT_PTR_EQUAL(p.args.command, &commands[1]);
    CU_ASSERT_EQUAL(p.args.operand_count, 2);
    CU_ASSERT_STRING_EQUAL(p.args.operands[1], "y");
    parse(&plain, &p, "-a");
    CU_ASSERT_EQUAL(p.code, EX_OK);
    CU_ASSERT_PTR_EQUAL(p.args.command, &only[0]);
}

static void test_options_stand_anywhere(void)
{
    static const char *const lines[] = {"-a -f x two words y", "two -a words --file x y", "two words y -fx --all",
                                        "two words --file=x -a -- y"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct parsed p;
        parse(&cli, &p, lines[i]);
        CU_ASSERT_EQUAL(p.code, EX_OK);
        CU_ASSERT_PTR_EQUAL(p.args.command, &commands[1]);
        CU_ASSERT_TRUE(chv_cli_given(&p.args, "all"));
        CU_ASSERT_STRING_EQUAL(chv_cli_value(&p.args, "file"), "x");
        CU_ASSERT_EQUAL(p.args.operand_count, 1);
        CU_ASSERT_STRING_EQUAL(p.args.operands[0], "y");
    }
}

static void test_dashes(void)
{
    struct parsed p;
    parse(&cli, &p, "two words -- --all");
    CU_ASSERT_EQUAL(p.code, EX_OK);
    CU_ASSERT_STRING_EQUAL(p.args.operands[0], "--all");
    CU_ASSERT_FALSE(chv_cli_given(&p.args, "all"));
    parse(&cli, &p, "two words -");
    CU_ASSERT_STRING_EQUAL(p.args.operands[0], "-");
}

static void test_repeats(void)
{
    struct parsed p;
    parse(&cli, &p, "one --many a --many=b");
    CU_ASSERT_EQUAL(p.code, EX_OK);
    CU_ASSERT_EQUAL(p.args.repeat_count, 2);
    CU_ASSERT_STRING_EQUAL(p.args.repeats[1], "b");
    parse(&cli, &p, "two words x -f 1 -f 2");
    CU_ASSERT_EQUAL(p.code, EX_USAGE);
    CU_ASSERT_STRING_EQUAL(p.text, "chaveiro: option --file is given twice\n");
    parse(&cli, &p, "two words x --some 1 --some 2");
    CU_ASSERT(p.code == EX_OK && p.args.repeat_count == 2);
    parse(&cli, &p, "one --some 1 --many a");
    CU_ASSERT(p.code == EX_OK && p.args.repeat_count == 1);
    CU_ASSERT_STRING_EQUAL(p.args.repeats[0], "a");
    CU_ASSERT_STRING_EQUAL(chv_cli_value(&p.args, "some"), "1");
    parse(&cli, &p, "one --some 1 --some 2");
    CU_ASSERT_EQUAL(p.code, EX_USAGE);
    CU_ASSERT_STRING_EQUAL(p.text, "chaveiro: option --some is given twice\n");
}

static void test_refused(void)
{
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"", "no command given: see 'prog --help'"},
        {"three", "no command 'three': there are one, two words"},
        {"two", "'two' is not a whole command: there are two words; 'prog COMMAND --help' says more"},
        {"two wor ds", "no command 'two wor': there are two words"},
        {"two words", "'prog two words' wants A [B]: see 'prog two words --help'"},
        {"two words x y z", "unexpected 'z': see 'prog two words --help'"},
        {"one --file x", "option --file does not belong to 'prog one'"},
        {"two words x --many m", "option --many does not belong to 'prog two words'"},
        {"one --nothing", "option --nothing is unknown: see 'prog --help'"},
        {"one -z", "option -z is unknown: see 'prog --help'"},
        {"two words x --file", "option --file wants a value: see 'prog --help'"},
        {"two words x -f", "option -f wants a value: see 'prog --help'"},
        {"one --all=x", "option --all=x takes no value: see 'prog --help'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct parsed p;
        char wanted[256];
        parse(&cli, &p, cases[i].line);
        (void)snprintf(wanted, sizeof wanted, "chaveiro: %s\n", cases[i].text);
        CU_ASSERT_EQUAL(p.code, EX_USAGE);
        CU_ASSERT_STRING_EQUAL(p.text, wanted);
    }
}

static void test_help_and_version(void)
{
    struct parsed p;
    parse(&cli, &p, "--help");
    CU_ASSERT(p.code == EX_OK && p.help && p.args.command == NULL);
    parse(&cli, &p, "two words -h");
    CU_ASSERT(p.code == EX_OK && p.help && p.args.command == &commands[1]);
    parse(&cli, &p, "--version");
    CU_ASSERT(p.code == EX_OK && p.version && !p.help);
    parse(&cli, &p, "three --help");
    CU_ASSERT_EQUAL(p.code, EX_USAGE);
}

static void test_numbers(void)
{
    static const char *const bad[] = {
        "two words x -f 0",  "two words x -f 11",  "two words x --file=-1", "two words x -f +2",
        "two words x -f 2x", "two words x -f 0x2", "two words x -f 1.5",    "two words x -f 99999999999999999999"};
    struct parsed p;
    struct chv_why why;
    uint64_t n = 0;
    parse(&cli, &p, "two words x -f 10");
    CU_ASSERT_EQUAL(chv_cli_number(&p.args, "file", 1, 10, 5, &n, &why), CHV_OK);
    CU_ASSERT_EQUAL(n, 10);
    parse(&cli, &p, "two words x");
    CU_ASSERT_EQUAL(chv_cli_number(&p.args, "file", 1, 10, 5, &n, &why), CHV_OK);
    CU_ASSERT_EQUAL(n, 5);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        n = 77;
        parse(&cli, &p, bad[i]);
        CU_ASSERT_EQUAL(chv_cli_number(&p.args, "file", 1, 10, 5, &n, &why), CHV_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(n, 77);
    }
}

/* Every error has an exit code of sysexits.h, and only success is 0. */
static void test_exit_codes(void)
{
#define CHECK_CODE(code, name, text)                                                                                   \
    {                                                                                                                  \
        int exit_code = chv_cli_exit_code(CHV_ERR_##name);                                                             \
        CU_ASSERT((code) == 0 ? exit_code == EX_OK : exit_code >= EX__BASE && exit_code <= EX__MAX);                   \
    }
    CHV_ERROR_MAP(CHECK_CODE)
#undef CHECK_CODE
    CU_ASSERT_EQUAL(chv_cli_exit_code(CHV_ERR_PASSPHRASE), EX_NOPERM);
    CU_ASSERT_EQUAL(chv_cli_exit_code(CHV_ERR_NOT_FOUND), EX_NOINPUT);
    CU_ASSERT_EQUAL(chv_cli_exit_code(CHV_ERR_TRUNCATED), EX_PROTOCOL);
}

static void escape(const char *in, size_t len, bool multiline, char *out, size_t room)
{
    FILE *file = tmpfile();
    CU_ASSERT_FATAL(file != NULL);
    chv_cli_put_escaped(file, in, len, multiline);
    rewind(file);
    out[fread(out, 1, room - 1, file)] = 0;
    (void)fclose(file);
}

static void test_escape(void)
{
    char out[256];
    escape("ol\xc3\xa1\n\t\x1b[31m\x7f", 12, false, out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "ol\xc3\xa1\\x0a\\x09\\x1b[31m\\x7f");
    escape("a\n\tb\r", 5, true, out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "a\n\tb\\x0d");
    /* overlong, surrogate, out of range, alone, cut, C1 control */
    escape("\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\x80|\xe2\x82|\xc2\x9b", 19, false, out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "\\xc0\\x80|\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80|\\x80|\\xe2\\x82|\\xc2\\x9b");
    escape("\xe2\x82\xac\xf0\x9f\x94\x91", 7, false, out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "\xe2\x82\xac\xf0\x9f\x94\x91");
    escape("a\0b", 3, true, out, sizeof out);
    CU_ASSERT_STRING_EQUAL(out, "a\\x00b");
}

TEST_MAIN("cli", {"commands", test_commands}, {"options stand anywhere", test_options_stand_anywhere},
          {"dashes", test_dashes}, {"repeats", test_repeats}, {"refused", test_refused},
          {"help and version", test_help_and_version}, {"numbers", test_numbers}, {"exit codes", test_exit_codes},
          {"escape", test_escape})
