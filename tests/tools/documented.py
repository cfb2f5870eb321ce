# SPDX-License-Identifier: Apache-2.0
"""What the programs take, their manual pages and their completions say the same."""
import os
import re
import shutil
import subprocess

import chv

COMMANDS = {"keyadmin": [[], ["init"], ["client", "add"], ["client", "show"], ["check"], ["derive"],
                         ["token", "list"], ["token", "init"], ["token", "check"], ["identity", "new"],
                         ["identity", "show"], ["identity", "fingerprint"], ["restore"], ["client", "list"],
                         ["client", "reissue"], ["client", "revoke"], ["client", "suspend"], ["client", "resume"],
                         ["client", "remove"], ["client", "set-scopes"], ["client", "set-key"], ["audit", "list"], ["audit", "verify"],
                         ["audit", "seal"], ["receipt", "new-key"],
                         ["receipt", "public-key"], ["receipt", "verify"], ["bundle", "unpack"], ["bundle", "list"], ["epoch", "new"], ["epoch", "list"], ["epoch", "status"],
                         ["epoch", "retire"], ["push", "status"], ["push", "cancel"], ["push"], ["registry", "new"], ["ticket-keys"]],
            "chaveiro": [[], *([c] for c in "send chat ping ftp get put ls stat checksum df mkdir rmdir rm mv watch shell tunnel connect".split())], "chaveirod": [[]]}
SECTIONS = {"chaveirod": 8}
COMPLETION = "/usr/share/bash-completion/bash_completion"


def options_of(name, command):
    text = chv.run(name, *command, "--help").stdout.decode()
    return set(re.findall(r"^  (?:-\w,|   ) (--[a-z-]+)", text, re.M))


def page(name):
    """As it is installed: made, if it has something to fill in."""
    made = os.path.join(chv.TOP_BUILDDIR, "doc", "man", f"{name}.{SECTIONS.get(name, 1)}")
    return made if os.path.exists(made) else os.path.join(chv.TOP_SRCDIR, "doc", f"{name}.{SECTIONS.get(name, 1)}")


def test_the_default_folder_is_the_configured_one():
    told = chv.run("keyadmin", "--help").stdout.decode() + chv.run("keyadmin", "client", "add", "--help").stdout.decode()
    file = re.search(r"then (/\S+/chaveiro)/chaveirod.conf\)", told)[1]
    text = chv.read(page("keyadmin")).decode()
    chv.check_in(f".Pa {file} .", text, "keyadmin(1)")
    chv.check_not_in("@sysconfdir", text, "keyadmin(1): something is left to fill in")
    for command in COMMANDS["keyadmin"]:
        told = chv.run("keyadmin", *command, "--help").stdout.decode()
        chv.check_not_in("/etc/chaveiro", told.replace(file, ""), f"help of {command}")


def test_exit_codes_are_told():
    codes = {"64", "65", "66", "69", "70", "71", "73", "74", "75", "76", "77", "78"}  # chv_cli_exit_code
    text = chv.read(page("keyadmin")).decode().partition(".Sh EXIT STATUS")[2].partition(".Sh")[0]
    chv.check_equal(set(re.findall(r"\b([67]\d)\b", text)), codes, "keyadmin(1)")
    text = chv.run("keyadmin", "--help").stdout.decode().partition("Exit codes:")[2]
    chv.check_equal(set(re.findall(r"\b([67]\d)\b", text)), codes, "keyadmin --help")


def complete(name, *words):
    """What bash offers for the last of these words."""
    if not os.path.exists(COMPLETION):
        raise chv.Skip("bash-completion is not installed")
    script = ('. "$1"; . "$2"; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; '
              'COMP_POINT=${#COMP_LINE}; _$1 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", COMPLETION,
                           os.path.join(chv.TOP_SRCDIR, "dist/completions", name), name, *words],
                          capture_output=True, text=True, check=False, cwd="/")
    chv.check_equal(done.stderr, "", f"{words}: standard error of the completion")
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def test_manual_pages_name_every_option():
    for name, commands in COMMANDS.items():
        text = chv.read(page(name)).decode()
        wanted = set().union(*[options_of(name, command) for command in commands])
        named = {"--" + option.replace("\\-", "-") for option in re.findall(r"Fl Fl ([a-z\\-]+)", text)}
        chv.check_equal(named, wanted, f"options in the page of {name}")
        for command in commands[1:]:
            chv.check(re.search(r"Cm " + " ".join(command), text), f"{name}(1) lacks {command}")


def test_these_are_all_commands():
    for name, commands in COMMANDS.items():
        text = chv.run(name, "--help").stdout.decode().partition("\nCommands:\n")[2].partition("\n\n")[0]
        told = {tuple(re.match(r"  ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", line)[1].split()) for line in text.splitlines()
                if re.match(r"  [a-z]", line)}
        chv.check_equal(told, {tuple(command) for command in commands if command}, f"commands of {name}")


def test_manual_pages_are_clean():
    if shutil.which("mandoc") is None:
        raise chv.Skip("mandoc is not installed")
    for name in COMMANDS:
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page(name)], capture_output=True, text=True,
                              check=False)
        chv.check_equal((done.returncode, done.stdout), (0, ""), f"mandoc on the page of {name}")


def test_completions_offer_every_option_and_command():
    for name, commands in COMMANDS.items():
        for command in commands:
            chv.check_equal(complete(name, *command, "--"), options_of(name, command), f"{name} {command} --<TAB>")
        chv.check_equal(complete(name, ""), {command[0] for command in commands if command}, f"{name} <TAB>")
    chv.check_equal(complete("keyadmin", "client", ""),
                    {command[1] for command in COMMANDS["keyadmin"] if command[:1] == ["client"]}, "keyadmin client <TAB>")
    chv.check_equal(complete("keyadmin", "client", "add", "--scope", "fi"), {"files:ro", "files:rw"}, "scopes")
    chv.check_equal(len(complete("chaveiro", "--suite", "")), 3, "suites")


def test_the_measurements_that_can_be_chosen_are_named():
    """What doc/performance.md lists for BENCH is what bench/local.mk has."""
    told = chv.read(os.path.join(chv.TOP_SRCDIR, "doc/performance.md")).decode()
    told = told.partition("## To repeat\n")[2].partition("\n## ")[0]
    made = chv.read(os.path.join(chv.TOP_SRCDIR, "bench/local.mk")).decode()
    names = re.search(r"^BENCH = (.+)$", made, re.M)[1].split()
    chv.check_equal(re.search(r"^make bench BENCH=.*# these: (.+)$", told, re.M)[1].split(), names, "names for BENCH")
    for example in re.findall(r'^make bench BENCH=("[^"]+"|\S+)', told, re.M):
        chv.check(set(example.strip('"').split()) <= set(names), f"BENCH={example} of the example is not there")
    for name in names:
        scripted = os.path.exists(os.path.join(chv.TOP_SRCDIR, "bench", f"{name}.py"))
        chv.check(scripted or f"\tbench/{name} \\\n" in made, f"BENCH names {name}, which is neither script nor program")


if __name__ == "__main__":
    chv.main()
