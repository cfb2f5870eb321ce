# SPDX-License-Identifier: Apache-2.0
"""chaveiro and a server that lies: forged refusals, wrong keys, garbage, an end at every step. Each has its exit code and
one line, and nothing that is stored changes."""
import os
import socket
import struct

import chv
import fakeserver
import store
from fakeserver import CLOSE, DATA, END, PONG, STATUS, refusal, status

USAGE, NOINPUT, UNAVAILABLE, IOERR, PROTOCOL, NOPERM, CONFIG = 64, 66, 69, 74, 76, 77, 78
UNPROVEN = b"the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)"


class Client:
    """A site without a server, one client, its access key."""

    def __enter__(self):
        store.need()
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        self.key = self.site.add_client("cam1")
        opened = store.Store(self.key.path, store.passphrase_of(self.key.passphrase_file))
        self.access = opened.keys["access:1.1"]
        self.before = self.state()
        return self

    def __exit__(self, *details):
        if details[0] is None:
            chv.check_equal(self.state(), self.before, "what is stored")
        self.site.__exit__(*details)

    def state(self):
        """Every file of the site: name, mode, bytes."""
        found = {}
        for top, _, names in os.walk(self.site.folder):
            for name in names:
                path = os.path.join(top, name)
                found[path] = (os.stat(path).st_mode, chv.read(path))
        return found

    def run(self, server, *arguments, code, **options):
        done = self.site.client(self.key, *arguments, to=server.address, code=code, **options)
        if code != 0:
            chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
            chv.check(done.stderr.startswith(b"chaveiro: "), f"begin of {done.stderr}")
        return done


def test_forged_refusals_change_nothing():
    """Anyone on the way can send these: one attempt, the same key, no other profile, suite or server."""
    wanted = {400: PROTOCOL, 401: PROTOCOL, 403: NOPERM, 426: PROTOCOL}
    for code, exit_code in wanted.items():
        def serve(peer, code=code):
            peer.read_hello()
            peer.send(refusal(code))
            peer.drain()

        with Client() as client, fakeserver.FakeServer(serve) as server:
            done = client.run(server, "send", "ola", code=exit_code)
            chv.check_equal(server.accepted, 1, f"{code}: attempts")
            chv.check_in(str(code), done.stderr, "error")


def test_too_busy_is_tried_again_and_not_for_ever():
    for code in (429, 503):
        def serve(peer, code=code):
            peer.read_hello()
            peer.send(refusal(code))
            peer.drain()

        with Client() as client, fakeserver.FakeServer(serve) as server:
            done = client.run(server, "--retries", "2", "send", "ola", code=UNAVAILABLE)
            chv.check_in(str(code), done.stderr, "error")
            chv.check_equal(server.accepted, 3, f"{code}: attempts")
            heads = {hello[:10 + struct.unpack(">H", hello[8:10])[0]] for hello in server.hellos}
            chv.check_equal(len(heads), 1, f"{code}: profile, suite and credential of the attempts")
            client.run(server, "--retries", "0", "send", "ola", code=UNAVAILABLE)
            chv.check_equal(server.accepted, 4, f"{code}: attempts without retries")


def test_busy_then_free():
    with Client() as client:
        def serve(peer):
            if server.accepted == 1:
                peer.read_hello()
                peer.send(refusal(503))
                return
            peer.let_in(client.access, "gate")
            chv.check_equal(peer.read_message(), b"ola", "message")
            peer.send_record(DATA, b"hello")
            peer.send_record(END)
            peer.read_record()
            peer.send_record(CLOSE)

        with fakeserver.FakeServer(serve) as server:
            done = client.run(server, "send", "ola", code=0)
            chv.check_equal(done.stdout, b"hello\n", "reply")
            chv.check_equal(server.accepted, 2, "attempts")


def test_unknown_refusals_and_garbage_instead_of_a_reply():
    replies = {"unknown code": refusal(499), "code 200": refusal(200), "short refusal": fakeserver.frame(b"\x01\x01"),
               "long refusal": fakeserver.frame(b"\x01\x01\xf7x"), "unknown status": fakeserver.frame(b"\x02" + bytes(58)),
               "empty": fakeserver.frame(b""), "short message": fakeserver.frame(b"\x00" + bytes(20)),
               "too long": b"\xff\xff" + bytes(600), "http": b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(600),
               "all zeros point": fakeserver.frame(b"\x00" + bytes(32 + 26 + 16))}
    for name, reply in replies.items():
        def serve(peer, reply=reply):
            peer.read_hello()
            peer.send(reply)
            peer.drain()

        with Client() as client, fakeserver.FakeServer(serve) as server:
            done = client.run(server, "send", "ola", code=PROTOCOL)
            chv.check_equal(done.stdout, b"", f"{name}: standard output")
            chv.check_equal(server.accepted, 1, f"{name}: attempts")


def test_an_end_at_every_step_of_the_handshake():
    with Client() as client:
        whole = []

        def serve(peer):
            step = server.accepted - 1
            if step > 0:
                peer.read_hello()
            if step > 1:
                peer.sock.sendall(b"\x00")
            if step > 2:
                peer.sock.sendall(b"\x5b" + bytes(50))
            whole.append(step)

        with fakeserver.FakeServer(serve) as server:
            for _ in range(4):
                done = client.run(server, "send", "ola", code=None)
                chv.check(done.code in (UNAVAILABLE, IOERR, PROTOCOL), f"exit code {done.code}: {done.stderr}")
                chv.check_equal(done.stdout, b"", "standard output")


def test_the_server_must_prove_the_key():
    with Client() as client:
        servers = {"another key": lambda peer: peer.reply(bytes(32), "gate"),
                   "another name": lambda peer: peer.reply(client.access, "other"),
                   "unknown epoch": lambda peer: peer.reply(client.access, "gate", key_of_another=True)}
        for name, answer in servers.items():
            def serve(peer, answer=answer):
                answer(peer)
                peer.drain()

            with fakeserver.FakeServer(serve) as server:
                done = client.run(server, "send", "ola", code=NOPERM)
                chv.check_equal(done.stderr, b"chaveiro: " + UNPROVEN + b"\n", f"{name}: error")


def test_refused_in_the_channel():
    """Only the key's holder reads these."""
    wanted = {403: NOPERM, 404: CONFIG, 400: PROTOCOL, 500: UNAVAILABLE, 503: UNAVAILABLE, 413: PROTOCOL}
    with Client() as client:
        for code, exit_code in wanted.items():
            def serve(peer, code=code):
                peer.reply(client.access, "gate")
                peer.read_record()
                peer.send_record(STATUS, status(code, "because\x1b[31m of \u00e7"))
                peer.send_record(CLOSE)
                peer.drain()

            with fakeserver.FakeServer(serve) as server:
                done = client.run(server, "--retries", "0", "send", "ola", code=exit_code)
                chv.check_in(f"{code}: because", done.stderr, "the reason")
                chv.check_not_in(b"\x1b", done.stderr, "control characters of the server")


def test_an_end_at_every_step_after_the_handshake():
    def after_reply(peer, client):
        peer.reply(client.access, "gate")

    def after_open(peer, client):
        peer.reply(client.access, "gate")
        peer.read_record()

    def after_status(peer, client):
        peer.let_in(client.access, "gate")

    def after_message(peer, client):
        peer.let_in(client.access, "gate")
        peer.read_message()

    def in_the_reply(peer, client):
        after_message(peer, client)
        peer.send_record(DATA, b"half a rep")

    def in_a_record(peer, client):
        after_message(peer, client)
        peer.send(peer.record(DATA, b"half a record")[:12])

    def close_without_end(peer, client):
        in_the_reply(peer, client)
        peer.send_record(CLOSE)
        peer.drain()

    steps = [after_reply, after_open, after_status, after_message, in_the_reply, in_a_record, close_without_end]
    with Client() as client:
        for step in steps:
            with fakeserver.FakeServer(lambda peer, step=step: step(peer, client)) as server:
                done = client.run(server, "send", "ola", code=None)
                chv.check(done.code in (UNAVAILABLE, IOERR, PROTOCOL), f"{step.__name__}: {done.code} {done.stderr}")
                if step in (in_the_reply, close_without_end):
                    chv.check_equal(done.code, PROTOCOL, f"{step.__name__}: a truncated reply is never complete")


def test_bad_records():
    def flipped(peer):
        record = bytearray(peer.record(DATA, b"reply"))
        record[-1] ^= 1
        peer.send(bytes(record))

    def garbage(peer):
        peer.send(fakeserver.frame(os.urandom(200)))

    def repeated(peer):
        record = peer.record(DATA, b"reply")
        peer.send(record + record)

    def swapped(peer):
        first, second = peer.record(DATA, b"one"), peer.record(DATA, b"two")
        peer.send(second + first)

    def reserved(peer):
        peer.send_record(11, b"")

    def unasked(peer):
        peer.send_record(PONG, b"12345678")

    def open_again(peer):
        peer.send_record(2, b"\xa0")

    def bad_status(peer):
        peer.send_record(STATUS, b"\xff")

    def short(peer):
        peer.send(fakeserver.frame(b"123"))

    with Client() as client:
        for bad in (flipped, garbage, repeated, swapped, reserved, unasked, open_again, bad_status, short):
            def serve(peer, bad=bad):
                peer.let_in(client.access, "gate")
                peer.read_message()
                bad(peer)
                peer.drain()

            with fakeserver.FakeServer(serve) as server:
                done = client.run(server, "send", "ola", code=None)
                chv.check_equal(done.code, PROTOCOL, f"{bad.__name__}: {done.stderr}")


def test_nobody_there():
    with Client() as client:
        listener = socket.create_server(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        listener.close()
        for target in (address, "unix:" + client.site.path("no-socket"), "name.invalid:7040"):
            done = client.site.client(client.key, "send", "ola", to=target, code=UNAVAILABLE)
            chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
            chv.check_in(target.replace("unix:", "").split(":")[0], done.stderr, "where")


def test_a_silent_server_is_given_up():
    with Client() as client, fakeserver.FakeServer(lambda peer: peer.drain()) as server:
        done = client.run(server, "--timeout", "200ms", "send", "ola", code=UNAVAILABLE)
        chv.check_in("no answer within 200 ms", done.stderr, "error")
    with Client() as client:
        def serve(peer):
            peer.let_in(client.access, "gate")
            peer.drain()

        with fakeserver.FakeServer(serve) as server:
            client.run(server, "--timeout", "300ms", "send", "ola", code=UNAVAILABLE)
            client.run(server, "--timeout", "300ms", "ping", code=UNAVAILABLE)
            client.run(server, "--timeout", "300ms", "chat", stdin="ola\n", code=UNAVAILABLE)


def test_replies_are_shown_as_they_are():
    answer = bytes(range(256)) + b"\x1b[2J"
    with Client() as client:
        def serve(peer):
            peer.let_in(client.access, "gate")
            peer.read_message()
            for byte in answer:
                peer.send_record(DATA, bytes([byte]))
            peer.send_record(END)
            peer.read_record()
            peer.send_record(CLOSE)

        with fakeserver.FakeServer(serve) as server:
            chv.check_equal(client.run(server, "send", "x", code=0).stdout, answer + b"\n", "reply in a pipe")


if __name__ == "__main__":
    chv.main()
