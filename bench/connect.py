#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""connect.py [--count N] [--repetitions N] [--markdown]: connections by the second, and the server's processor time for each,
with 4 and with 16 in flight: chaveirod with one loop (handshake, OPEN, STATUS, CLOSE; all its processes, keeper included),
fully and by ticket, beside a server of ours on libssl (TLS 1.3 psk_dhe_ke: handshake, request, answer, close_notify) and beside
stunnel, spiped and sshd, which connect to a target as well."""
import argparse
import subprocess
import sys
import tempfile

import chv
import common
import softhsm
import tunnels

STOCK_ROUND = 8  # tickets of one full handshake


class Chaveiro:
    """A server with one loop and its client. The keystore is a file."""

    name = "chaveirod, master in a file"

    def __init__(self):
        self.site = self.make_site()
        self.site.configure(workers="1", rate="0", connections="30000", client_connections="30000")
        self.key = self.site.add_client("bench", scopes=["message"])
        self.port = tunnels.start_quiet(self.site)
        self.load = self.new_load()

    def new_load(self):
        return common.Helper("connect_load", self.key.path, self.key.passphrase_file)

    def make_site(self):
        site = chv.Site()
        site.init()
        return site

    @property
    def pids(self):
        return [self.site.server.pid]

    def stop(self):
        self.load.stop()
        self.site.stop()
        chv.remove_folder(self.site.folder)

    def full(self, count, flight):
        return self.load.ask("full", self.port, count, flight, 0)[0]

    def with_ticket(self, count, flight):
        return self.load.ask("full", self.port, count, flight, 1)[0]

    def resumed(self, count, flight):
        return self.load.ask("resumed", self.port, count, flight)[0]

    def stock(self, flight):
        """False: there are no tickets to be had."""
        try:
            self.load.ask("full", self.port, -(-flight // STOCK_ROUND) + 1, 1, STOCK_ROUND)
        except chv.Failure:
            self.load.stop()
            self.load = self.new_load()
            return False
        return True


class ChaveiroToken(Chaveiro):
    name = "chaveirod, master in SoftHSM"

    def make_site(self):
        try:
            site = softhsm.TokenSite()
        except chv.Skip as why:
            raise common.Missing(str(why)) from None
        site.init()
        real = site.add_client
        site.add_client = lambda client, scopes: real(client, extra=[w for s in scopes for w in ("--scope", s)])
        return site


class Libssl:
    def __init__(self):
        self.server = common.Helper("tls_server", self.suite).with_port()
        self.load = common.Helper("tls_load", self.suite)

    @property
    def pids(self):
        return [self.server.pid]

    def full(self, count, flight):
        return self.load.ask("full", self.server.port, count, flight)[0]

    def stop(self):
        self.load.stop()
        self.server.stop()


class Libssl256(Libssl):
    name, suite = "libssl, psk_dhe_ke, AES-256-GCM/SHA-384", "256"


class Libssl128(Libssl):
    name, suite = "libssl, psk_dhe_ke, AES-128-GCM/SHA-256", "128"


class Through:
    """A peer that carries a connection to an echo: its server's processor time counts."""

    def __init__(self):
        self.work = tempfile.TemporaryDirectory(prefix="chv-bench-")
        self.blast = common.Helper("blast").with_port()
        self.tunnel = None
        try:
            self.tunnel = self.kind(self.work.name, self.blast.port)
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self):
        return self.tunnel.server_pids

    def full(self, count, flight):
        return self.blast.ask("connect", self.tunnel.port, count, flight)[0]

    def stop(self):
        if self.tunnel is not None:
            self.tunnel.stop()
        self.blast.stop()
        self.work.cleanup()


class Stunnel(Through):
    name, kind, share = "stunnel, TLS 1.3 PSK, AES-128-GCM", tunnels.Stunnel, 5

    def __init__(self):
        super().__init__()
        self.load = common.Helper("tls_load", "128")

    def full(self, count, flight):
        return self.load.ask("full", self.tunnel.server_port, count, flight)[0]

    def stop(self):
        super().stop()
        if hasattr(self, "load"):
            self.load.stop()


class Spiped(Through):
    name, kind, share = "spiped", tunnels.Spiped, 5


class Ssh(Through):
    """A connection is a client of its own, which goes to the target at once (-W)."""

    name, kind, share = "ssh -W, ed25519 keys", tunnels.Ssh, 100

    def full(self, count, flight):
        start, left, running = common.time.monotonic(), count, []
        while left or running:
            while left and len(running) < flight:
                command = [*self.tunnel.argv(), "-W", f"127.0.0.1:{self.blast.port}", "127.0.0.1"]
                running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
                left -= 1
            running.pop(0).wait(chv.DEADLINE)
        return common.time.monotonic() - start


class Subject:
    """A peer with one of its ways to connect."""

    def __init__(self, peer, name, connect, flight):
        self.peer, self.name, self.connect, self.flight = peer, name, connect, flight

    def measure(self, count):
        count = max(count // getattr(self.peer, "share", 1), 4)
        before, keeper = common.cpu_seconds(self.peer.pids), self.keeper()
        seconds = self.connect(count, self.flight)
        used = common.cpu_seconds(self.peer.pids) - before
        return count / seconds, used * 1e6 / count, (self.keeper() - keeper) * 1e6 / count

    def keeper(self):
        if not isinstance(self.peer, Chaveiro):
            return 0.0
        return common.cpu_seconds([chv.process_named(self.peer.site.server.pid, "chv-keeper")])


def subjects_of(peers, flight):
    subjects = []
    for peer in peers:
        subjects.append(Subject(peer, peer.name + (": full" if isinstance(peer, Chaveiro) else ""), peer.full, flight))
        if type(peer) is Chaveiro:
            if not peer.stock(flight):
                print("  (no tickets: the server gives none)")
                continue
            subjects.append(Subject(peer, "the same: full, and a ticket for later", peer.with_ticket, flight))
            subjects.append(Subject(peer, "the same: by ticket, and the next ticket", peer.resumed, flight))
    return subjects


def report(flight, found):
    by_name = {subject.name: columns for subject, columns in found.items()}
    table = common.Table(f"Connections, {flight} in flight", "", "per s", "server's CPU, us", "of which keeper",
                         "CPU : libssl, AES-256", ": AES-128")
    base = [by_name.get(kind.name, (0, 0))[1] for kind in (Libssl256, Libssl128)]
    for subject, (rate, cpu, keeper) in found.items():
        table.add(subject.name, rate, cpu, keeper or "", *(cpu / b if b else "" for b in base))
    table.print()
    own = [columns for name, columns in by_name.items() if name.startswith((Chaveiro.name, "the same"))]
    limit = 0.7 if flight <= 4 else 0.6
    if own and base[0]:
        common.aim("full, of libssl's with AES-256-GCM/SHA-384", own[0][1] / base[0], limit)
    if own and base[1]:
        common.aim("full, of libssl's with AES-128-GCM/SHA-256", own[0][1] / base[1], limit)
    if len(own) == 3:
        common.aim("by ticket, of our own full one (both with a ticket for later)", own[2][1] / own[1][1], 0.9)


KINDS = [Chaveiro, ChaveiroToken, Libssl256, Libssl128, Stunnel, Spiped, Ssh]


def main():
    parser = argparse.ArgumentParser(description="connections over loopback")
    parser.add_argument("--count", type=int, default=2000, help="connections of one measurement; fewer for slow peers")
    common.options(parser)
    args = parser.parse_args()
    common.begin(args)
    print(f"connect: medians of {args.repetitions}, alternating, loopback; all processes of the server")
    peers = []
    try:
        peers = common.start_all(common.chosen(KINDS, args))
        for flight in (4, 16):
            values = common.rounds(subjects_of(peers, flight), args.repetitions, lambda s: s.measure(args.count))
            report(flight, {s: common.medians(v) for s, v in values.items()})
    finally:
        for peer in peers:
            peer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
