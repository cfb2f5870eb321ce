# SPDX-License-Identifier: Apache-2.0
"""Sessions end with their credentials, and no clock that was set back serves anybody: with clocks that jump."""
import os
import subprocess
import time

import chv
import clock
import rawclient
import store
from fakeserver import CLOSE, STATUS

DAY, NOPERM = 86400, 77
NEVER_SERVED = "no client is served"


class Gate:
    """A site that serves under a clock of its own, and keys to make clients of."""

    def __init__(self, **settings):
        self.settings = settings

    def __enter__(self):
        store.need()
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        self.site.configure(max_lifetime="0", idle_timeout="0", **self.settings)
        self.keys = rawclient.Keys(self.site)
        self.clock = clock.Clock(self.site.folder)
        self.server = self.site.start("-v", env=self.clock.env)
        return self

    def __exit__(self, *details):
        self.site.__exit__(*details)

    def client(self, days, client_id="cam1", code=200):
        """A client whose credential ends in so many true days (None: never), with an open session."""
        client = self.keys.client(self.site, client_id, not_after=0 if days is None else int(time.time()) + days * DAY)
        chv.check_equal(client.handshake(), None, "handshake")
        chv.check_equal(client.open()[0], code, "STATUS of OPEN")
        return client

    def ended(self, client):
        """Waits for the end that the server puts to it."""
        kind, body = client.read_record()
        code, text = rawclient.status_of(body)
        chv.check_equal((kind, code), (STATUS, 403), "record out of the blue")
        chv.check_in("credential expired at", text, "STATUS")
        chv.check_in("the session ends", text, "STATUS")
        chv.check_equal(client.read_record()[0], CLOSE, "behind STATUS")
        client.send_record(CLOSE)
        chv.check_equal(client.sock.recv(1), b"", "the end")
        client.sock.close()


def test_a_session_ends_with_its_credential():
    with Gate(workers="2") as gate:
        early = [gate.client(1, f"early{i}") for i in range(4)]
        late, never = gate.client(30, "late"), gate.client(None, "never")
        gate.clock.shift(2 * DAY)
        for client in early:
            gate.ended(client)
        for i in range(4):
            gate.server.wait_for(rf"client 'early{i}': refused 403: credential expired at [^:]+:\d\d UTC: the session ends")
        for client in (late, never):
            chv.check_equal(client.message(b"x"), b"message received: 'x'", "a client whose credential still holds")
        # the rest has not been forgotten: the next end is found too
        gate.clock.shift(31 * DAY)
        gate.ended(late)
        chv.check_equal(never.message(b"x"), b"message received: 'x'", "a client without an end")
        never.close()


def test_a_session_that_began_behind_an_earlier_end_ends_too():
    """The earliest of all went by itself; what came later is not lost with it."""
    with Gate(workers="1") as gate:
        gate.client(1, "gone").close()
        second = gate.client(2, "second")
        gate.clock.shift(int(1.5 * DAY))
        third = gate.client(3, "third")
        chv.check_equal(second.message(b"x"), b"message received: 'x'", "before its end")
        gate.clock.shift(4 * DAY)
        gate.ended(second)
        gate.ended(third)


def test_what_is_sent_to_an_ended_session_is_not_looked_at():
    with Gate(workers="1") as gate:
        client = gate.client(1)
        client.send_record(0, b"half a mess")
        reply = b""
        while not reply.endswith(b"half a mess"):
            reply += client.read_record()[1]
        gate.clock.shift(2 * DAY)
        chv.check_equal(client.read_record()[0], STATUS, "first record")
        client.send_record(0, b"age")
        client.send_record(1)
        chv.check_equal(client.read_record()[0], CLOSE, "second record: no reply")
        client.send_record(CLOSE)
        chv.check_equal(client.sock.recv(1), b"", "the end")
        client.sock.close()
        gate.site.stop()
        chv.check_not_in(b"half a message", gate.server.stdout, "what the service printed")


def test_at_open_it_reads_the_other_reason():
    with Gate() as gate:
        gate.clock.shift(2 * DAY)
        client = gate.client(1, code=403)
        client.sock.close()
        gate.server.wait_for("credential expired at [^:]+:.. UTC: it must be issued again")


def test_the_client_says_so_and_fails():
    with Gate() as gate:
        key = gate.site.add_client("cam9", expires="1d")
        chat = gate.site.client_start(key, "chat", stdin=subprocess.PIPE)
        chat.stdin.write(b"ola\n")
        chat.stdin.flush()
        chat.wait_for("message received: 'ola'", stream="stdout")
        gate.clock.shift(4 * DAY)
        done = chat.wait(NOPERM)
        chv.check_in("the server refused: 403: credential expired at", done.stderr, "error")
        chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")


def test_a_clock_that_jumps_back():
    """Behind its own high-water mark nobody is let in; who is in stays; set right again, all is well."""
    with Gate() as gate:
        inside = gate.client(30, "inside")
        gate.clock.shift(-3 * DAY)
        refused = gate.keys.client(gate.site, "outside")
        chv.check_equal(refused.handshake(), 503, "refusal while the clock is wrong")
        refused.sock.close()
        gate.server.wait_for(r"the clock is \d+ s behind what it showed before")
        chv.check_equal(inside.message(b"x"), b"message received: 'x'", "a session that is there")
        gate.clock.shift(0)
        gate.client(30, "outside").close()
        inside.close()


def test_a_restart_does_not_forget_the_clock():
    with chv.Site("gate") as site:
        site.init()
        state = site.path("state")
        os.mkdir(state, 0o700)
        site.configure(state=state)
        keys, shifted = rawclient.Keys(site), clock.Clock(site.folder)
        shifted.shift(DAY)
        site.start(env=shifted.env)
        marked = int(chv.read(os.path.join(state, "clock-mark")))
        chv.check(marked >= int(time.time()) + DAY - 300, "the mark is what the clock showed")
        site.stop()
        shifted.shift(0)
        server = site.start(env=shifted.env)
        server.wait_for(NEVER_SERVED + r": the clock is \d+ s behind")
        with keys.client(site) as client:
            chv.check_equal(client.handshake(), 503, "refusal")
        shifted.shift(DAY)
        with keys.client(site, not_after=int(time.time()) + 3 * DAY) as client:
            chv.check_equal((client.handshake(), client.open()[0]), (None, 200), "the clock is right again")
        site.stop()


def test_a_clock_before_the_build():
    with chv.Site("gate") as site:
        site.init()
        shifted = clock.Clock(site.folder)
        shifted.shift(-int(time.time()) + 1000000000)
        server = site.start(env=shifted.env)
        server.wait_for(NEVER_SERVED + ": the clock shows a time before this program was released")
        with rawclient.Keys(site).client(site) as client:
            chv.check_equal(client.handshake(), 503, "refusal")


if __name__ == "__main__":
    chv.main()
