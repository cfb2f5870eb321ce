# SPDX-License-Identifier: Apache-2.0
"""chaveiro chat, and what is shown on a terminal, against a server in Python that answers as the message service does."""
import signal
import subprocess

import chv
import fakeserver
import store
import terminal
from fakeserver import CLOSE, DATA, END

USAGE, UNAVAILABLE, PROTOCOL = 64, 69, 76


class Talk:
    """A client and a server that answers each message with `answer(message)`; None: it closes."""

    def __init__(self, answer=lambda message: b"message received: '" + message + b"'"):
        store.need()
        self.answer = answer
        self.messages = []

    def __enter__(self):
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        self.key = self.site.add_client("cam1")
        access = store.Store(self.key.path, store.passphrase_of(self.key.passphrase_file)).keys["access:1.1"]

        def serve(peer):
            peer.let_in(access, "gate")
            while True:
                kind, body = peer.read_record()
                if kind == CLOSE:
                    peer.send_record(CLOSE)
                    return
                message = b""
                while kind == DATA:
                    message += body
                    kind, body = peer.read_record()
                self.messages.append(message)
                answer = self.answer(message)
                if answer is None:
                    return
                peer.send_record(DATA, answer)
                peer.send_record(END)

        self.server = fakeserver.FakeServer(serve)
        self.server.__enter__()
        return self

    def __exit__(self, *details):
        try:
            self.server.__exit__(*details)
        finally:
            self.site.__exit__(*details)

    def run(self, *arguments, **options):
        return self.site.client(self.key, *arguments, to=self.server.address, **options)

    def terminal(self, *arguments, **options):
        return terminal.Terminal("chaveiro", *self.site.client_argv(self.key, *arguments, to=self.server.address), **options)


def test_lines_of_a_pipe():
    with Talk() as talk:
        done = talk.run("chat", stdin=b"ola\n\nsegunda linha\xff\nsem fim")
        chv.check_equal(talk.messages, [b"ola", b"", b"segunda linha\xff", b"sem fim"], "messages")
        chv.check_equal(done.stdout, b"".join(b"message received: '" + m + b"'\n" for m in talk.messages), "replies")
        chv.check_equal(done.stderr, b"", "standard error")


def test_many_and_long_lines():
    lines = [b"%d" % i * (1 + 3000 * (i % 50 == 7)) for i in range(200)] + [b"x" * 300000]
    with Talk(lambda message: b"%d" % len(message)) as talk:
        done = talk.run("chat", stdin=b"\n".join(lines) + b"\n")
        chv.check_equal(talk.messages, lines, "messages")
        chv.check_equal(done.stdout, b"".join(b"%d\n" % len(line) for line in lines), "replies")


def test_no_lines():
    with Talk() as talk:
        chv.check_equal(talk.run("chat", stdin=b"").stdout, b"", "standard output")
        chv.check_equal(talk.messages, [], "messages")


def test_each_line_as_json():
    import json
    with Talk() as talk:
        done = talk.run("--json", "chat", stdin=b"um\ndois\n")
        chv.check_equal([json.loads(line)["reply"] for line in done.stdout.splitlines()],
                        ["message received: 'um'", "message received: 'dois'"], "replies")
    with Talk(lambda message: b"\xff\x00") as talk:
        done = talk.run("--json", "send", "x")
        chv.check_equal(json.loads(done.stdout), {"reply_base64url": "_wA", "bytes": 2}, "reply that is no text")


def test_the_server_ends_in_the_middle():
    with Talk(lambda message: None if message == b"two" else message) as talk:
        done = talk.run("chat", stdin=b"one\ntwo\nthree\n", code=PROTOCOL)
        chv.check_equal(done.stdout, b"one\n", "replies")
        chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
        chv.check_equal(talk.messages, [b"one", b"two"], "messages")


def test_a_terminal_prompts_and_shows():
    with Talk() as talk, talk.terminal("chat") as t:
        t.expect("gate, client 'cam1'")
        t.expect("> ")
        t.type("ola\n")
        t.expect("message received: 'ola'\r\n")
        t.expect("> ")
        t.type("\n")  # an empty line is no message
        t.expect("> ")
        t.type("ol\x7fla\n")  # editing: o l DEL l a
        t.expect("message received: 'ola'\r\n")
        t.expect("> ")
        t.type("\x04")
        t.wait(0)
        chv.check(t.echoes(), "the terminal is as it was")
        chv.check_equal(talk.messages, [b"ola", b"ola"], "messages")


def test_control_characters_of_the_server_are_escaped():
    answer = b"a\x1b[2Jb\x07\xc2\x9b\xff \xc3\xa7\ttab\nnew"
    wanted = b"a\\x1b[2Jb\\x07\\xc2\\x9b\\xff \xc3\xa7\ttab\r\nnew"
    with Talk(lambda message: answer) as talk, talk.terminal("send", "x") as t:
        t.wait(0)
        shown = t.text.replace(b"      ", b"\t")
        chv.check_not_in(b"\x1b", t.text, "escape sequences of the server")
        for part in wanted.split(b"\t"):
            chv.check_in(part, shown, "what the terminal shows")


def test_control_c_at_the_prompt():
    for number in (signal.SIGINT, signal.SIGTERM):
        with Talk() as talk, talk.terminal("chat") as t:
            t.expect("> ")
            t.signal(number)
            t.wait(128 + number)
            chv.check(t.echoes(), "the terminal is as it was")


def test_the_server_ends_while_a_prompt_waits():
    with Talk(lambda message: None) as talk, talk.terminal("chat") as t:
        t.expect("> ")
        t.type("bye\n")
        t.expect("chaveiro: ")
        t.wait(PROTOCOL)
        chv.check(t.echoes(), "the terminal is as it was")


def test_send_reads_input_only_when_told():
    with Talk() as talk:
        chv.check_equal(talk.run("send", "-", stdin=b"a\0b\n").stdout, b"message received: 'a\0b\n'\n", "-")
        chv.check_equal(talk.run("send", stdin=b"piped").stdout, b"message received: 'piped'\n", "no TEXT")
        chv.check_equal(talk.run("send", "um", "dois", stdin=b"no").stdout, b"message received: 'um dois'\n", "TEXT")
        chv.check_equal(talk.run("send", "--", "-v", stdin=b"no").stdout, b"message received: '-v'\n", "a dash")
        chv.check_equal(talk.run("send", "-", "-", stdin=b"no").stdout, b"message received: '- -'\n", "two dashes")
        chv.check_equal(talk.run("send", "", stdin=b"no").stdout, b"message received: ''\n", "an empty TEXT")
        with talk.terminal("send") as t:
            t.expect("Give TEXT")
            t.wait(USAGE)


def test_input_of_every_kind():
    with Talk(lambda message: b"%d" % len(message)) as talk:
        for kind, path, wanted in (("file", chv.write(talk.site.path("big"), bytes(300000)), 300000),
                                   ("empty file", chv.write(talk.site.path("none"), b""), 0), ("null", "/dev/null", 0)):
            for command in (["send", "-"], ["chat"]):
                with open(path, "rb") as f:
                    done = subprocess.run([chv.program("chaveiro"), *talk.site.client_argv(
                        talk.key, *command, to=talk.server.address)], stdin=f, capture_output=True, check=False)
                lines = b"" if command == ["chat"] and wanted == 0 else b"%d\n" % wanted
                chv.check_equal((done.returncode, done.stdout), (0, lines), f"{kind}, {command}: {done.stderr}")
        with talk.terminal("send", "-") as t:
            t.wait_echo(True)
            t.type("typed\n\x04")
            t.expect("6\r\n")
            t.wait(0)
        closed = subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', chv.program("chaveiro"), *talk.site.client_argv(
            talk.key, "send", "-", to=talk.server.address)], capture_output=True, check=False)
        chv.check_equal((closed.returncode, closed.stdout), (0, b"0\n"), f"closed input: {closed.stderr}")


def test_passphrase_and_message_share_standard_input():
    with Talk() as talk:
        passphrase = chv.read(talk.key.passphrase_file)
        done = chv.run("chaveiro", "-k", talk.key.path, "--passphrase-file", "-", "-s", talk.server.address, "send", "-",
                       stdin=passphrase + b"line one\nline two\n")
        chv.check_equal(talk.messages, [b"line one\nline two\n"], "messages")
        chv.check_equal(done.stdout, b"message received: 'line one\nline two\n'\n", "reply")


def test_a_full_disk():
    with Talk() as talk, open("/dev/full", "wb") as full:
        done = subprocess.run([chv.program("chaveiro"), *talk.site.client_argv(talk.key, "send", "x",
                                                                            to=talk.server.address)],
                              stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False)
        chv.check_equal(done.returncode, 74, done.stderr)
        chv.check_in("standard output", done.stderr, "error")


if __name__ == "__main__":
    chv.main()
