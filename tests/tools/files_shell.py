# SPDX-License-Identifier: Apache-2.0
"""chaveiro shell: batches, the terminal, completion, what a signal and a lost connection do."""
import json
import os
import signal
import stat

import chv
import terminal
from filesite import MIB, FilesSite, big, content

USAGE, NOINPUT, CANTCREAT = 64, 66, 73

PROMPT = r"files:/[^>]*> "


class ShellSite(FilesSite):
    """`local` is the folder of this side, `state` has the history."""

    def init(self, *extra, **settings):
        super().init(*extra, durability="none", **settings)
        for name in ("local", "state", "outside"):
            os.mkdir(self.path(name))
        return self.server

    def shell(self, text, *options, code=0, **more):
        return self.client(self.rw, *options, "shell", stdin=text, code=code, cwd=self.path("local"), **more)

    def terminal(self, *options):
        os.makedirs(self.home(), mode=0o700, exist_ok=True)
        env = {"NO_COLOR": "1", "XDG_STATE_HOME": self.path("state"), "HOME": self.path("local"), "SHELL": "/bin/sh"}
        return terminal.Terminal("chaveiro", *self.client_argv(self.rw, *options, "shell"), cwd=self.path("local"), env=env)

    def local(self, name=""):
        return os.path.join(self.path("local"), name)


def test_a_batch():
    with ShellSite() as site:
        site.init()
        chv.write(site.local("a b"), "one")
        chv.write(site.local("f1.txt"), "f1")
        chv.write(site.local("f2.txt"), "f2")
        done = site.shell("# a comment\n\n"
                          "mkdir 'd d'\n"
                          "put a\\ b 'd d/'\n"
                          "cd \"d d\"\n"
                          "pwd\n"
                          "put f?.txt .\n"
                          "ls -1\n"
                          "rename 'a b' ../moved\n"
                          "cd ..\n"
                          "get moved d\\ d/f[1]* .\n"
                          "lcd ..\n"
                          "lpwd\n"
                          "rm 'd d'/*.txt\n"
                          "rmdir 'd d'\n"
                          "mkdir x\\*y\n"
                          "ls -1\n"
                          "checksum moved\n"
                          "df\n"
                          "quit\n"
                          "nonsense\n")
        lines = done.stdout.decode().splitlines()
        chv.check_equal(lines[:4], ["/d d", "a b", "f1.txt", "f2.txt"], "first lines")
        chv.check_equal(lines[4], site.path("local").rpartition("/")[0], "lpwd")
        chv.check_equal(lines[5:7], ["moved", "x*y"], "names")
        chv.check(lines[7].endswith("  moved"), "checksum")
        chv.check_equal(done.stderr, b"", "standard error")
        chv.check_equal((chv.read(site.local("moved")), chv.read(site.home("moved"))), (b"one", b"one"), "what moved")
        chv.check_equal(sorted(os.listdir(site.home())), ["moved", "x*y"], "what is there")


def test_a_batch_stops_at_the_first_error():
    with ShellSite() as site:
        site.init()
        for text, code, made in (("mkdir a\nget nosuch\nmkdir b\n", NOINPUT, ["a"]),
                                 ("rmdir a\n-get nosuch\n- @rm nosuch\nmkdir b\n", 0, ["b"]),
                                 ("rmdir b\nfly\nmkdir c\n", USAGE, []),
                                 ("mkdir 'c\nmkdir d\n", USAGE, []),
                                 ("ls -x\nmkdir d\n", USAGE, []),
                                 ("mkdir\nmkdir d\n", USAGE, []),
                                 ("!exit 3\nmkdir d\n", 3, []),
                                 ("!kill -9 $$\nmkdir d\n", 137, []),
                                 ("-!exit 3\nmkdir d", 0, ["d"]),
                                 ("mkdir d\nmkdir e\n", CANTCREAT, ["d"]),
                                 ("lcd nosuch\nmkdir e\n", NOINPUT, ["d"]),
                                 ("cd nosuch\nmkdir e\n", NOINPUT, ["d"])):
            done = site.shell(text, code=code)
            chv.check_equal(sorted(os.listdir(site.home())), made, f"after {text!r}: {done.stderr}")
        chv.write(site.path("batch"), "mkdir from-file\n!cat\npwd\n")
        done = site.client(site.rw, "shell", "-b", site.path("batch"), stdin=b"not a command\n")
        chv.check_equal(done.stdout, b"/\n", "a program does not read what is not its")
        chv.check(os.path.isdir(site.home("from-file")), "a batch file")
        site.client(site.rw, "shell", "-b", "-", stdin=b"mkdir from-stdin\n")
        chv.check(os.path.isdir(site.home("from-stdin")), "a batch from standard input")
        done = site.client(site.rw, "shell", "--batch", site.path("nosuch"), code=NOINPUT)
        chv.check_in("nosuch: No such file", done.stderr, "error")
        site.shell("help\n")
        site.shell("")
        site.shell("x" * (2 << 20), code=65)


def test_no_program_between():
    """A name is never a shell's to read."""
    with ShellSite() as site:
        site.init()
        chv.write(site.local("$(touch owned)"), "x")
        site.shell("put '$(touch owned)'\nls '$(touch owned)'\nget '$(touch owned)' `id`\nlls '; touch owned'\n", code=2)
        chv.check(not os.path.exists(site.local("owned")), "a name was run")
        chv.check_equal(chv.read(site.local("`id`")), b"x", "got")


def test_reget_and_reput_in_a_batch():
    with ShellSite() as site:
        site.init()
        chv.write(site.local("f"), content(MIB))
        told = [json.loads(line) for line in site.shell("put f\nreput f\nreget f\nget f g\n", "--json").stdout.splitlines()]
        chv.check_equal([(t["command"], t["size"], t.get("unchanged", False)) for t in told if "local" in t],
                        [("put", MIB, False), ("put", MIB, True), ("get", MIB, True), ("get", MIB, False)], "what it tells")
        chv.check_equal(chv.read(site.local("g")), content(MIB), "what came")


def test_the_terminal():
    with ShellSite() as site:
        site.init()
        chv.write(site.local("here"), "data")
        with site.terminal() as t:
            t.expect("connected to test-server as 'cam1'")
            t.expect(PROMPT)
            chv.check(not t.echoes(), "the line is the shell's as soon as the prompt is seen")
            t.type("mkdir 'two words'\n")
            t.expect(PROMPT)
            t.type("cd tw\t\n")  # completed, with the backslash
            t.expect("files:/two words> ")
            t.type("put he\t\n")
            t.expect("put: 1 file, 4 bytes")
            t.expect("files:/two words> ")
            t.type("lls nosuch\n")
            t.expect("No such file|cannot access")
            t.type("!echo outside $((6 * 7))\n")
            t.expect("outside 42")
            t.expect(PROMPT)
            t.type("fly\n")
            t.expect("no command 'fly'")
            t.expect(PROMPT)
            t.type("half a li")
            t.expect("half a li")
            t.interrupt()
            t.expect(PROMPT)
            t.type("pwd\n")
            t.expect("/two words\r\n")
            t.expect(PROMPT)
            t.type("\x1b[A\x1b[A\n")  # the history
            t.expect("no command 'fly'")
            t.expect(PROMPT)
            t.type("\x04")
            t.wait(0)
        chv.check_equal(chv.read(site.home("two words/here")), b"data", "stored")
        history = site.path("state/chaveiro/history")
        chv.check_equal(stat.S_IMODE(os.stat(history).st_mode), 0o600, "mode of the history")
        chv.check_equal(os.listdir(os.path.dirname(history)), ["history"], "what is beside it")
        with site.terminal() as t:
            t.expect(PROMPT)
            t.type("\x1b[A\x1b[A\n")  # from the last run
            t.expect("pwd")
            t.expect("/\r\n")
            t.expect(PROMPT)
            t.type("quit\n")
            t.wait(0)


def test_completion():
    with ShellSite() as site:
        site.init()
        os.makedirs(site.home("reports"))
        for name in ("alpha-1", "alpha-2", "it's", "x\u202eevil"):
            chv.write(site.home(f"reports/{name}"), "x")
        chv.write(site.local("local file"), "x")
        with site.terminal() as t:
            t.expect(PROMPT)
            t.type("chec\t")
            t.expect("ksum ")  # the terminal is sent what changes only
            t.type("rep\t")
            t.expect("orts/")
            t.type("al\t")
            t.expect("pha-")
            t.type("\t")
            t.expect("alpha-1 +alpha-2")
            t.type("2\n")
            t.expect(" reports/alpha-2\r\n")
            t.expect(PROMPT)
            t.type("checksum 'reports/it\t\n")
            t.expect("reports/it's\r\n")
            t.expect(PROMPT)
            t.type("put lo\t\n")
            t.expect("put: 1 file")
            t.expect(PROMPT)
            t.type("get reports/x\t\t\n")  # a name that turns the text around is not typed by itself
            t.expect("no such file")
            t.expect(PROMPT)
            t.type("\x04")
            t.wait(0)
            chv.check_not_in("\u202e".encode(), t.text, "what the terminal was sent")
        chv.check_equal(chv.read(site.home("local file")), b"x", "stored")


def test_control_c_ends_a_transfer_only():
    with ShellSite() as site:
        site.init()
        with site.terminal() as t:
            t.expect(PROMPT)
            big(site.home("big"))
            big(site.local("large"))
            for command, kept in (("get big", "kept for 'get --resume'"), ("put large", "interrupted")):
                t.type(command + "\n")
                t.expect(r"\[[#.]{24}\]")
                t.type("\x03")
                t.expect(kept)
                t.expect(PROMPT)
                t.type("pwd\n")
                t.expect("/\r\n")
                t.expect(PROMPT)
            t.type("ls -1\n")
            t.expect("big\r\n")
            t.expect(PROMPT)
            t.signal(signal.SIGTERM)
            t.wait(128 + signal.SIGTERM)
        chv.check_equal(os.listdir(site.home()).count("large"), 0, "a part under the final name")
        chv.check(not os.path.exists(site.local("big")), "a part under the final name")


def test_a_lost_connection():
    with ShellSite() as site:
        site.init()
        with site.terminal() as t:
            t.expect(PROMPT)
            for typed in ("", "pw"):  # also in the middle of a line, which stays
                t.type(typed)
                if typed:
                    t.expect(typed)
                os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
                t.expect("chaveiro: .*\r\n")
                t.expect(PROMPT + typed)
                t.type("d\n" if typed else "mkdir d\n")
                t.expect("/\r\n" if typed else PROMPT)
            t.expect(PROMPT)
            t.type("ls -1\n")
            t.expect("d\r\n")
            t.expect(PROMPT)
            t.type("quit\n")
            t.wait(0)


def test_a_key_with_a_relative_name():
    """lcd does not lose it."""
    with ShellSite() as site:
        site.init()
        key = chv.Key("cam1", os.path.relpath(site.rw.path, site.local()), site.rw.passphrase_file)
        site.client(key, "shell", stdin="lcd /\nls\nlpwd\n", cwd=site.local())


if __name__ == "__main__":
    chv.main()
