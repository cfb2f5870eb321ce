# SPDX-License-Identifier: Apache-2.0
"""Whom chaveirod refuses, what it tells them, and what an onlooker sees: nothing that depends on the credential."""
import os
import socket
import struct
import time

import chv
import rawclient
import store
from fakeserver import CLOSE, DATA, OPEN, PING, PONG, STATUS, frame

try:
    from cryptography.exceptions import InvalidTag
except ImportError:
    InvalidTag = None


def soon():
    return int(time.time()) + 86400


class Gate:
    """A site that serves, and keys to make clients of."""

    def __init__(self, **settings):
        self.settings = settings

    def __enter__(self):
        store.need()
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        if self.settings:
            self.site.configure(**self.settings)
        self.keys = rawclient.Keys(self.site)
        self.server = self.site.start("-v")
        return self

    def __exit__(self, *details):
        self.site.__exit__(*details)

    def client(self, **fields):
        fields.setdefault("not_after", soon())
        return self.keys.client(self.site, **fields)

    def still_serves(self):
        with self.client() as client:
            chv.check_equal(client.handshake(), None, "handshake of a good client")
            chv.check_equal(client.open()[0], 200, "STATUS of a good client")
            chv.check_equal(client.message(b"x"), b"message received: 'x'", "reply to a good client")
            client.close()


def outcome(client):
    """What a client learns from the handshake: 'open', 'unproven', or the code of a refusal."""
    try:
        code = client.handshake()
    except InvalidTag:
        return "unproven"
    return "open" if code is None else code


def test_equal_on_the_wire():
    """Before the client's own OPEN nobody can tell a good client from an expired, an unknown or a lying one."""
    with Gate() as gate:
        cases = {
            "good": {},
            "expired": {"not_after": 1000},
            "too long-lived": {"not_after": 0},
            "wrong key": {"master": os.urandom(32)},
            "unknown epoch": {"epoch": 7},
            "unknown epoch, right master": {"epoch": 2},
            "unknown scope": {"scopes": ("nothing",)},
        }
        wanted = {"good": "open", "expired": "open", "too long-lived": "open", "unknown scope": "open"}
        seen = {}
        for name, fields in cases.items():
            for _ in range(3):
                with gate.client(**fields) as client:
                    chv.check_equal(outcome(client), wanted.get(name, "unproven"), name)
                    client.sock.settimeout(0.1)
                    try:
                        more = client.sock.recv(1)
                        raise chv.Failure(f"{name}: {more!r} before OPEN")
                    except socket.timeout:
                        pass
                    seen.setdefault(name, []).append(client.received)
        lengths = {name: {len(reply) for reply in replies} for name, replies in seen.items()}
        chv.check_equal(len(set().union(*lengths.values())), 1, f"lengths {lengths}")
        good = seen["good"][0]
        constant = [i for i in range(len(good)) if len({r[i] for replies in seen.values() for r in replies}) == 1]
        # the frame's length and the status byte; a 33rd byte equal in 21 random replies is no pattern but a miracle
        chv.check_equal(constant, [0, 1, 2], "bytes that are the same in every reply")
        gate.still_serves()


def test_expired_reads_the_reason():
    with Gate() as gate:
        with gate.client(not_after=1767225600) as client:
            client.handshake()
            code, text = client.open()
            chv.check_equal(code, 403, "STATUS")
            chv.check_in("credential expired at 2026-01-01 00:00 UTC", text, "STATUS")
            chv.check_equal(client.read_record()[0], CLOSE, "behind STATUS")
            client.send_record(CLOSE)
            chv.check_equal(client.sock.recv(1), b"", "the end")
        gate.server.wait_for(r"client 'cam1': refused 403: credential expired at 2026-01-01")
        gate.still_serves()


def test_expired_and_pipelined():
    """What a refused client sent behind its OPEN is not looked at."""
    with Gate() as gate:
        with gate.client(not_after=1000) as client:
            client.handshake()
            client.sock.sendall(client.record(OPEN, rawclient.open_map()) + client.record(DATA, b"secret") +
                                client.record(1))
            chv.check_equal(client.read_record()[0], STATUS, "first record")
            chv.check_equal(client.read_record()[0], CLOSE, "second record")
            client.send_record(CLOSE)
            chv.check_equal(client.sock.recv(1), b"", "the end")
        chv.check_not_in(b"secret", gate.server.stdout, "what the service printed")


def test_scope_service_and_map():
    with Gate() as gate:
        for fields, service, wanted, text in (
                ({"scopes": ()}, "message", 403, "no scope 'message'"),
                ({"scopes": ("messages",)}, "message", 403, "no scope 'message'"),
                ({}, "nothing", 404, "no service 'nothing'"),
        ):
            with gate.client(**fields) as client:
                client.handshake()
                code, said = client.open(service)
                chv.check_equal(code, wanted, f"{fields} {service}")
                chv.check_in(text, said, "STATUS")
                chv.check_equal(client.read_record()[0], CLOSE, "behind STATUS")
        for body in (b"", b"\xa0", b"\xf6", b"\xa1\x67service\x01", rawclient.open_map() + b"\x00",
                     b"\xbf\x67service\x67message\xff"):
            with gate.client() as client:
                client.handshake()
                client.send_record(OPEN, body)
                kind, status = client.read_record()
                chv.check_equal((kind, rawclient.status_of(status)[0]), (STATUS, 400), f"OPEN {body!r}")
        gate.still_serves()


def test_more_scopes_than_given():
    """A client that adds a scope to its credential computes another key."""
    with Gate() as gate:
        given = store.credential("cam1", ("message",), soon())
        access = store.access_key(gate.keys.master, given)
        lies = [store.credential("cam1", ("admin", "message"), soon()), store.credential("cam2", ("message",), soon()),
                store.credential("cam1", ("message",), soon() + 86400), store.credential("cam1", ("message",), soon(),
                                                                                        serial=2)]
        for lie in lies:
            with rawclient.RawClient(gate.site, lie, access) as client:
                chv.check_equal(outcome(client), "unproven", "a lying client")
        gate.still_serves()


def test_wrong_server_name():
    with Gate() as gate:
        cred = store.credential("cam1", ("message",), soon())
        with rawclient.RawClient(gate.site, cred, store.access_key(gate.keys.master, cred), server="other") as client:
            chv.check_equal(outcome(client), "unproven", "a client of another server")
        gate.still_serves()


def test_first_record_must_prove_the_client():
    """The server has the true PSK of an expired client, too: only an OPEN under the right keys counts."""
    with Gate() as gate:
        with gate.client(master=os.urandom(32)) as client:
            outcome(client)
            client.keys = [os.urandom(32)] * 3
            client.send_record(OPEN, rawclient.open_map())
            chv.check_equal(client.sock.recv(1), b"", "answer to a forged OPEN")
        gate.server.wait_for(r"claimed client 'cam1': OPEN does not open")
        with gate.client(epoch=7) as client:
            outcome(client)
            client.keys = [os.urandom(32)] * 3
            client.send_record(OPEN, rawclient.open_map())
            chv.check_equal(client.sock.recv(1), b"", "answer to a forged OPEN")
        gate.server.wait_for(r"claimed client 'cam1': .*the credential's epoch is not served")
        chv.check_not_in(b": client 'cam1'", gate.server.stderr, "a claimed id is logged as proven")
        gate.still_serves()


def test_hello_refused_in_clear():
    with Gate() as gate:
        cred = store.credential("cam1", ("message",), soon())
        with gate.client() as client:
            message1 = client.hello()[2 + 10 + len(cred):]
        good = rawclient.head(cred)
        cases = [
            (rawclient.head(cred, version=2), 426), (rawclient.head(cred, profile=2), 426),
            (rawclient.head(cred, profile=3), 426), (rawclient.head(cred, suite=9), 426),
            (rawclient.head(cred, kind=0), 400), (rawclient.head(cred, kind=7), 400), (rawclient.head(cred, last=1), 400),
            (b"CHW" + good[3:], 400), (good[:8] + b"\xff\xff" + good[10:], 400),
            (rawclient.head(cred[:-1]), 400), (rawclient.head(b""), 400), (rawclient.head(cred + b"\x00"), 400),
        ]
        for prologue, wanted in cases:
            with gate.client() as client:
                client.sock.sendall(frame(prologue + message1))
                chv.check_equal(client.read_reply(), wanted, f"{prologue[:10]!r}")
                chv.check_equal(client.sock.recv(1), b"", "behind a refusal")
        gate.still_serves()


def test_replayed_message_1():
    """It gets an answer, as the first time, and nothing more without the ephemeral's private key."""
    with Gate() as gate:
        with gate.client() as client:
            hello = client.hello()
            client.sock.sendall(hello)
            client.read_reply()
            client.open()
            client.close()
            answer = client.received
        with gate.client() as again:
            again.sock.sendall(hello)
            again.read_frame()
            chv.check(again.received != answer[:len(again.received)], "the same answer twice")
            again.sock.sendall(frame(os.urandom(40)))
            chv.check_equal(again.sock.recv(1), b"", "answer to a guessed OPEN")
        gate.still_serves()


def test_records_out_of_place():
    with Gate() as gate:
        for name, types in (("DATA before OPEN", [DATA]), ("OPEN twice", [OPEN, OPEN]), ("STATUS", [OPEN, STATUS]),
                            ("TICKET", [OPEN, 4]), ("KEY_UPDATE", [OPEN, 5]),
                            ("KEY_UPDATED without a KEY_UPDATE", [OPEN, 6]), ("KEY_UPDATED before OPEN", [6]), ("REDIRECT", [OPEN, 7]),
                            ("reserved", [OPEN, 12]), ("service's", [OPEN, 16])):
            with gate.client() as client:
                client.handshake()
                for kind in types:
                    client.send_record(kind, rawclient.open_map())
                records = []
                try:
                    while True:
                        records.append(client.read_record()[0])
                except (EOFError, ConnectionError):
                    pass
                chv.check(records in ([], [STATUS]), f"{name}: {records}")
        with gate.client() as client:
            client.handshake()
            client.open()
            client.send_record(PING, b"12345678")
            chv.check_equal(client.read_record(), (PONG, b"12345678"), "answer to PING")
            client.send_record(PONG, b"unasked")
            client.close()
        gate.still_serves()


def test_replayed_and_reordered_records():
    with Gate() as gate:
        for name in ("replayed", "reordered", "flipped"):
            with gate.client() as client:
                client.handshake()
                client.open()
                one, two = client.record(DATA, b"one"), client.record(DATA, b"two")
                if name == "replayed":
                    client.sock.sendall(one + one)
                elif name == "reordered":
                    client.sock.sendall(two + one)
                else:
                    client.sock.sendall(one[:-1] + bytes([one[-1] ^ 1]))
                end = b""
                try:
                    while piece := client.sock.recv(4096):
                        end += piece
                except ConnectionError:
                    pass
        gate.server.wait_for(r"client 'cam1': ended: ", 3)
        gate.still_serves()


def test_truncated_stream():
    with Gate() as gate:
        with gate.client() as client:
            client.handshake()
            client.open()
            client.send_record(DATA, b"half a message")
        gate.server.wait_for(r"client 'cam1': ended: .*\(TRUNCATED\)")
        chv.check_not_in(b"half a message", gate.server.stdout, "what the service printed")
        with gate.client() as client:
            client.handshake()
            client.open()
            client.sock.sendall(client.record(DATA, b"half a record")[:9])
        gate.server.wait_for(r"client 'cam1': ended: .*\(TRUNCATED\)", 2)
        gate.still_serves()


def test_log_lines_cannot_be_forged():
    """Text of a peer cannot start a line or a colour."""
    with Gate() as gate:
        with gate.client() as client:
            client.handshake()
            code, _ = client.open("a\nforged line\x1b[31m")
            chv.check_equal(code in (400, 404), True, "STATUS")
        gate.server.wait_for(r"refused 40[04]: ")
        chv.check_not_in(b"\nforged", gate.server.stderr, "log")
        chv.check_not_in(b"\x1b", gate.server.stderr, "log")


if __name__ == "__main__":
    chv.main()
