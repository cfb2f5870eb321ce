#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tickets at the client: a file of them, who may use it, what is asked of the keystore, and where a REDIRECT leads."""
import os
import re
import signal

import chv
from client_life import Fleet
from client_tokens import TokenFleet
from pushes import PushSite

CONFIG, NOPERM, PROTOCOL, UNAVAILABLE = 78, 77, 76, 69
HEAD = b"chaveiro tickets 1\n"
DISK = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/disk.so")


class Gate(chv.Site):
    def __enter__(self):
        super().__enter__()
        self.init()
        self.tickets = self.path("tickets")
        return self

    def start(self, *extra, **options):
        return super().start("-v", *extra, **options)

    def send(self, key, *extra, code=0, **options):
        return self.client(key, "-v", "--tickets", self.tickets, *extra, "send", "ola", code=code, **options)

    def resumed(self, key, *extra, **options):
        """Whether that session was, by the word of client and server."""
        before = self.log().count("(resumed)")
        done = self.send(key, *extra, **options)
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "the answer")
        told = b"(resumed)" in done.stderr
        chv.check_equal(self.log().count("opened service 'message' (resumed)") - before, int(told), "the server's log")
        return told


def parsed(path):
    """(binding, [ticket...]) of a file."""
    data = chv.read(path)
    chv.check(data.startswith(HEAD), "the head of the file")
    data = data[len(HEAD):]
    binding, count, data = data[:32], int.from_bytes(data[32:34], "big"), data[34:]
    found = []
    for _ in range(count):
        n = int.from_bytes(data[48:50], "big")
        found.append(data[50:50 + n])
        data = data[50 + n:]
    chv.check_equal(data, b"", "behind the last ticket")
    return binding, found


# --- the file -----------------------------------------------------------------------------------------------------------


def test_comes_back():
    with Gate() as site:
        site.start()
        key, seen = site.add_client("cam1"), set()
        for i in range(4):
            chv.check_equal(site.resumed(key), i > 0, f"session {i}")
            info = os.stat(site.tickets)
            chv.check_equal((info.st_mode & 0o7777, info.st_uid), (0o600, os.geteuid()), "mode and owner")
            _, tickets = parsed(site.tickets)
            chv.check_equal(len(tickets), 2, "tickets in stock")
            chv.check_equal(len(seen & set(tickets)), min(i, 1), "one was used, and one is new")
            seen |= set(tickets)
        chv.check_equal(sorted(os.listdir(site.folder)).count("tickets"), 1, "the file")
        chv.check(not [n for n in os.listdir(site.folder) if n.startswith(".tickets")], "nothing is left beside it")
        # other commands and services too; who does not ask gets and leaves nothing
        before = chv.read(site.tickets)
        chv.check_not_in(b"(resumed)", site.client(key, "-v", "ping").stderr, "without --tickets")
        chv.check_equal(chv.read(site.tickets), before, "the file")
        chv.check_in(b"(resumed)", site.client(key, "-v", "--tickets", site.tickets, "ping").stderr, "ping")
        chv.check_in(b"(resumed)", site.client(key, "-v", "--tickets", site.tickets, "chat", stdin=b"ola\n").stderr, "chat")


def test_by_configuration():
    with Gate() as site:
        site.start()
        key = site.add_client("cam1")
        conf = chv.write(site.path("client.conf"), f"[client]\nkeystore = {key.path}\npassphrase-file = "
                         f"{key.passphrase_file}\naddress = {site.address}\ntickets = kept\nredirect-hosts = a.example,::1\n")
        for told in (0, 1):
            done = chv.run("chaveiro", "--config", conf, "-v", "send", "ola")
            chv.check_equal(done.stderr.count(b"(resumed)"), told, "resumed")
        chv.check_equal(len(parsed(site.path("kept"))[1]), 2, "beside the configuration")
        for line, text in (("redirect-hosts = a b", "redirect-hosts = 'a b' is not allowed"),
                           ("redirect-hosts = a,,b", "is not allowed"), ("redirect-hosts = a:7040/x", "is not allowed"),
                           ("server-name = a/b", "server-name = 'a/b' is not allowed")):
            chv.write(conf, f"[client]\n{line}\n")
            chv.check_in(text, chv.run("chaveiro", "--config", conf, "send", "ola", code=CONFIG).stderr, line)


def test_another_clients_file():
    with Gate() as site:
        site.start()
        one, two = site.add_client("cam1"), site.add_client("cam2")
        chv.check_equal(site.resumed(one), False, "the first")
        bound, _ = parsed(site.tickets)
        chv.check_equal(site.resumed(two), False, "another one's tickets")
        chv.check(parsed(site.tickets)[0] != bound, "they are dropped")
        chv.check_equal(site.resumed(two), True, "its own")
        chv.check_equal(site.resumed(two, "--suite", "x25519-chachapoly-sha256"), False, "another suite")


def test_refused_and_damaged_files():
    with Gate() as site:
        site.start()
        key = site.add_client("cam1")
        site.send(key)
        os.chmod(site.tickets, 0o640)
        done = site.send(key, code=None)
        chv.check_in("others may get at the tickets in it: remove it", done.stderr, "advice")
        chv.check(done.code in (CONFIG, NOPERM), f"exit code {done.code}")
        os.chmod(site.tickets, 0o600)
        link = site.path("link")
        os.symlink(site.tickets, link)
        chv.check_in("is a symbolic link", site.client(key, "--tickets", link, "send", "ola", code=CONFIG).stderr, "link")
        chv.check_in("is no plain file", site.client(key, "--tickets", site.folder, "send", "ola", code=CONFIG).stderr,
                     "folder")
        chv.check_equal(site.resumed(key), True, "as it was")
        good = chv.read(site.tickets)
        for bad in (good[:-1], b"x" * 100, HEAD):
            chv.write(site.tickets, bad)
            done = site.send(key)
            chv.check_in("warning: " + site.tickets + ": is damaged", done.stderr, "told")
            chv.check_not_in(b"(resumed)", done.stderr, "a full handshake")
            chv.check_equal(site.resumed(key), True, "it is good again")


def test_not_taken():
    """401 for tickets that were changed: one full handshake, unseen."""
    with Gate() as site:
        site.start()
        key = site.add_client("cam1")
        site.send(key)
        data = bytearray(chv.read(site.tickets))
        for ticket in parsed(site.tickets)[1]:
            data[data.index(ticket) + len(ticket) - 1] ^= 1
        chv.write(site.tickets, bytes(data))
        conns = site.log().count("opened service")
        done = site.send(key)
        chv.check_equal((done.stdout, done.stderr.count(b"\n")), (b"message received: 'ola'\n", 1), "as ever")
        chv.check_equal(site.log().count("opened service") - conns, 1, "sessions")
        chv.check(any([site.resumed(key) for _ in range(3)]), "by new ones, whenever the other bad one is used up")


def test_a_broken_disk():
    """What cannot be taken off the disk for good is not used."""
    with Gate() as site:
        site.start()
        key = site.add_client("cam1")
        site.send(key)
        before = parsed(site.tickets)[1]
        state = chv.write(site.path("disk"), b"\3")
        env = {"LD_PRELOAD": DISK, "CHV_TEST_DISK": state, "CHV_TEST_DISK_FILE": "/nowhere",
               "ASAN_OPTIONS": "verify_asan_link_order=0"}
        done = site.send(key, env=env)
        chv.check_in("cannot write the file with tickets", done.stderr, "told")
        chv.check_not_in(b"(resumed)", done.stderr, "a full handshake")
        chv.check_equal(parsed(site.tickets)[1], before, "the file")


def test_many_at_a_time():
    """Processes that share a file: no ticket goes twice to the server, and none is lost on the way."""
    with Gate() as site:
        site.start()
        key = site.add_client("cam1")
        site.send(key)
        running = [site.client_start(key, "-v", "--tickets", site.tickets, "send", "ola") for _ in range(6)]
        told = 0
        for process in running:
            process.wait(0)
            told += process.stderr.count(b"(resumed)")
        chv.check(2 <= told <= 6, f"of six, {told} came by ticket")
        chv.check_equal(site.log().count("opened service 'message' (resumed)"), told, "the server's log")
        _, tickets = parsed(site.tickets)
        chv.check_equal(len(tickets), len(set(tickets)), "tickets, each once")


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_reissued():
    with Fleet() as fleet:
        site, tickets = fleet.site, fleet.path("tickets")
        fleet.add("cam1")
        site.start()

        def send(what):
            done = site.client(chv.Key("", fleet.path("cam1.key"), fleet.passphrase), "-v", "--tickets", tickets, "send", "ola")
            return b"(resumed)" in done.stderr, re.search(rb"credential ([\d.]+)", done.stderr)[1]

        chv.check_equal([send(i) for i in range(2)], [(False, b"1.1"), (True, b"1.1")], "before")
        fleet.reissue("cam1", "cam1.key")
        chv.check_equal([send(i) for i in range(2)], [(False, b"1.2"), (True, b"1.2")], "after")


def test_a_token_is_not_asked():
    """A client whose key is in a token comes back without a signature of it, nor one of the server's."""
    with TokenFleet() as site:
        site.json(*site.words("add", "cam1"))
        key, tickets = site.keystore("cam1"), site.path("tickets")
        site.send(key, "first", "--tickets", tickets)
        before = site.tokens.calls("C_Sign")
        site.send(key, "without")
        chv.check(site.tokens.calls("C_Sign") >= before + 2, "a full handshake signs on both sides")
        before = site.tokens.calls("C_Sign")
        for i in range(5):
            done = site.send(key, str(i), "-v", "--tickets", tickets)
            chv.check_in(b"(resumed)", done.stderr, "resumed")
        chv.check_equal(site.tokens.calls("C_Sign"), before, "C_Sign in five resumed sessions")


def test_in_memory():
    """A program that connects again does so by ticket, without a file."""
    with PushSite() as site:
        site.init()
        site.configure(listen=site.address)
        watcher = site.watch_start("cam1", "-v")
        watcher.wait_for("connected to")
        chv.check_not_in(b"(resumed)", watcher.stderr, "the first time")
        site.stop()
        site.start()
        watcher.wait_for(r"connected to \S+ \(resumed\)")
        site.server.wait_for(r"opened service 'push' \(resumed\)")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)


# --- two ports ----------------------------------------------------------------------------------------------------------


def ports(site, **keys):
    lines = [line for line in chv.read(site.config).decode().splitlines() if not line.startswith("listen ")]
    chv.write(site.config, "\n".join(lines) + "\n")
    site.configure(**keys)


def start_handshakes(site, listening=1):
    site.start(listening=listening)
    site.address = re.search(r"listening on (\S+) for handshakes", site.log())[1]


def test_two_ports():
    with Gate() as site:
        key = site.add_client("cam1")
        ports(site, handshake="127.0.0.1:0", data="127.0.0.1:0")
        start_handshakes(site, 2)
        data = [a for a in re.findall(r"listening on (\S+)", site.log()) if a != site.address][0]
        for told in (f"connected to {data}, redirected by {site.address} as",
                     f"connected to {data}, redirected by {site.address} (resumed) as"):
            done = site.send(key)
            chv.check_equal(done.stdout, b"message received: 'ola'\n", "the answer")
            chv.check_in(told, done.stderr, "-v")
        chv.check_equal(len(parsed(site.tickets)[1]), 2, "tickets of the handshake port")
        # a tool with results of its own, and without a store
        chv.check_equal(site.client(key, "send", "ola").stdout, b"message received: 'ola'\n", "without tickets")
        site.client(key, "--json", "ping")


def test_sent_elsewhere():
    """Not followed, unless the configuration allows it; and a data side that is not there."""
    with Gate() as site:
        key = site.add_client("cam1")
        ports(site, handshake="127.0.0.1:0", redirect="localhost:1")
        start_handshakes(site)
        done = site.client(key, "send", "ola", code=PROTOCOL)
        chv.check_in("redirected to another host, localhost, port 1: not followed", done.stderr, "told")
        conf = chv.write(site.path("client.conf"), "[client]\nredirect-hosts = other.example, localhost\n")
        done = site.client(key, "--config", conf, "--retries", "0", "send", "ola", code=UNAVAILABLE)
        chv.check_in(f"the server at {site.address} redirected to port 1, which did not answer: cannot connect to "
                     "localhost:1", done.stderr, "told")


if __name__ == "__main__":
    chv.main()
