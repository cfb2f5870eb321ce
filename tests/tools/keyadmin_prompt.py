# SPDX-License-Identifier: Apache-2.0
"""Passphrases typed at a terminal: no echo, twice for a new one, the terminal as it was afterwards."""
import os
import signal
import subprocess

import chv
import store
import terminal

NOINPUT, NOPERM = 66, 77


def init(site):
    return terminal.Terminal("keyadmin", "init", "--dir", site.store, "--name", "gate", "--scrypt-cost", "16384")


def test_typed_twice_and_never_shown():
    with chv.Site() as site:
        with init(site) as t:
            t.expect(": ")
            t.wait_echo(False)
            t.type("s3cret words\n")
            t.expect("again: ")
            t.wait_echo(False)
            t.type("s3cret words\n")
            t.expect("key check")
            t.wait(0)
            chv.check(t.echoes(), "the echo is on again")
            chv.check_not_in("s3cret", t.text, "what the terminal shows")
        opened = store.Store(os.path.join(site.store, "server.keys"), b"s3cret words")
        chv.check_equal(list(opened.keys), ["master:1"], "keys")
        with terminal.Terminal("keyadmin", "check", os.path.join(site.store, "server.keys")) as t:
            t.expect(": ")
            t.wait_echo(False)
            t.type("wrong\n")  # asked once, for an existing one
            t.expect("wrong passphrase")
            t.wait(NOPERM)


def test_two_answers_that_differ():
    with chv.Site() as site, init(site) as t:
        t.expect(": ")
        t.wait_echo(False)
        t.type("one\n")
        t.expect("again: ")
        t.wait_echo(False)
        t.type("two\n")
        t.expect("the two answers differ")
        t.wait(NOINPUT)
        chv.check(t.echoes(), "the echo is on again")
        chv.check(not os.path.exists(site.store), "nothing was made")


def test_empty_and_end_of_file():
    for typed in ("\n", "\x04"):
        with chv.Site() as site, init(site) as t:
            t.expect(": ")
            t.wait_echo(False)
            t.type(typed)
            t.expect("is empty")
            t.wait(NOINPUT)
            chv.check(not os.path.exists(site.store), "nothing was made")


def test_signals_find_the_echo_on():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        with chv.Site() as site, init(site) as t:
            t.expect(": ")
            t.wait_echo(False)
            t.type("half")
            t.signal(number)
            t.wait(-number)
            chv.check(t.echoes(), f"the echo is on again after {number!r}")
            chv.check(not os.path.exists(site.store), f"{number!r}: nothing was made")


def test_ignored_signals_stay_ignored():
    with chv.Site() as site:
        with terminal.Terminal("/bin/sh", "-c", 'trap "" HUP INT; exec "$0" "$@"', chv.program("keyadmin"), "init", "--dir",
                               site.store, "--name", "gate", "--scrypt-cost", "16384") as t:
            for prompt in (": ", "again: "):
                t.expect(prompt)
                t.wait_echo(False)
                t.signal(signal.SIGHUP)
                t.signal(signal.SIGINT)
                t.type("typed\n")
            t.wait(0)
        store.Store(os.path.join(site.store, "server.keys"), b"typed")


def test_control_c_at_the_second_question():
    with chv.Site() as site, init(site) as t:
        t.expect(": ")
        t.wait_echo(False)
        t.type("one\n")
        t.expect("again: ")
        t.wait_echo(False)
        t.type("\x03")
        t.wait(-signal.SIGINT)
        chv.check(t.echoes(), "the echo is on again")
        chv.check(not os.path.exists(site.store), "nothing was made")


def test_stopped_and_continued_it_asks_again():
    """In a session without a shell the kernel drops the stop (POSIX, orphaned process group): continued at once."""
    with chv.Site() as site, init(site) as t:
        t.expect(": ")
        t.wait_echo(False)
        t.type("lost")
        t.signal(signal.SIGTSTP)
        t.expect(": ")
        t.wait_echo(False)
        t.type("kept\n")
        t.expect("again: ")
        t.wait_echo(False)
        t.type("kept\n")
        t.expect("key check")
        t.wait(0)
        store.Store(os.path.join(site.store, "server.keys"), b"kept")


def test_the_terminal_is_asked_when_input_is_a_pipe():
    with chv.Site() as site:
        with terminal.Terminal("keyadmin", "init", "--dir", site.store, "--name", "gate", "--scrypt-cost", "16384",
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as t:
            for prompt in (": ", "again: "):
                t.expect(prompt)
                t.wait_echo(False)
                t.type("typed\n")
            t.wait(0)
        store.Store(os.path.join(site.store, "server.keys"), b"typed")


def test_without_a_terminal_it_says_what_to_do():
    with chv.Site() as site:
        done = subprocess.run([chv.program("keyadmin"), "init", "--dir", site.store, "--name", "gate"],
                              stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False)
        chv.check_equal(done.returncode, NOINPUT, done.stderr)
        chv.check_in("no terminal to ask for the new passphrase for keystore ", done.stderr, "error")
        chv.check_in("give --passphrase-file FILE", done.stderr, "what to do")
        chv.check(not os.path.exists(site.store), "nothing was made")


def test_colours_only_on_a_terminal_and_not_with_no_color():
    for env, wanted in (({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
        with terminal.Terminal("keyadmin", "--help", env=env) as t:
            t.wait(0)
            chv.check_equal(b"\x1b[1m" in t.text, wanted, f"colours with {env}")
    chv.check_not_in("\x1b", chv.run("keyadmin", "--help", env={"NO_COLOR": ""}).stdout, "colours in a pipe")


if __name__ == "__main__":
    chv.main()
