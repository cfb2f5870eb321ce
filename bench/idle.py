#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""idle.py [--count N]... [--markdown]: memory of an idle connection: what the process that holds it grows by (RSS), when 1 000
and 10 000 clients have opened a service, had their answer, and are silent. chaveirod's net process beside a server of ours on
libssl, stunnel and spiped (these two for 1 000 only: with a thread or an outgoing connection for each).

The kernel's sockets stand apart: they are the same for all, and what is given is of both ends, which are on this machine."""
import argparse
import sys
import time

import chv
import common
import connect

KIB = 1024.0
WARM = 32
REST = 7  # s: chaveirod gives the contexts of a silent connection back after 1


def status_kib(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ":"))


def slab_kib():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Slab:"))


class Chaveiro(connect.Chaveiro):
    name, most = "chaveirod, net process", 1 << 30

    @property
    def holder(self):
        return chv.process_named(self.site.server.pid, "chv-net")

    def hold(self, count):
        self.load.ask("hold", self.port, count)

    def release(self):
        self.load.ask("")


class Libssl(connect.Libssl256):
    name, most = "libssl, TLS 1.3, buffers released", 1 << 30

    @property
    def holder(self):
        return self.server.pid

    def hold(self, count):
        self.load.ask("hold", self.server.port, count)

    def release(self):
        self.load.ask("")


class Stunnel(connect.Stunnel):
    most = 1000

    @property
    def holder(self):
        return self.tunnel.server_pids[0]

    def hold(self, count):
        self.load.ask("hold", self.tunnel.server_port, count)

    def release(self):
        self.load.ask("")


class Spiped(connect.Spiped):
    most = 1000

    @property
    def holder(self):
        return self.tunnel.server_pids[0]

    def hold(self, count):
        self.blast.ask("hold", self.tunnel.port, count)

    def release(self):
        self.blast.ask("")


KINDS = [Chaveiro, Libssl, Stunnel, Spiped]


def measure(kind, count):
    """Bytes for each connection: of the process, and of the kernel for both ends. A process of its own for each number."""
    peer = kind()
    try:
        peer.hold(WARM)  # what the process holds once, for all
        peer.release()
        before, slab = status_kib(peer.holder, "VmRSS"), slab_kib()
        peer.hold(count)
        time.sleep(REST)
        grown, kernel = status_kib(peer.holder, "VmRSS") - before, slab_kib() - slab
        peer.release()
        return grown * KIB / count, kernel * KIB / count
    finally:
        peer.stop()


def main():
    parser = argparse.ArgumentParser(description="memory of idle connections")
    parser.add_argument("--count", type=int, action="append", help="of connections (default: 1000 and 10000)")
    common.options(parser, repetitions=1)
    args = parser.parse_args()
    common.begin(args)
    print(f"idle: bytes for each idle connection, loopback, median of {args.repetitions}: memory, not time, so once is enough")
    kinds = common.chosen(KINDS, args)
    for count in args.count or [1000, 10000]:
        here = [kind for kind in kinds if kind.most >= count]
        found = {k: common.medians(v) for k, v in common.rounds(here, args.repetitions, lambda k: measure(k, count)).items()}
        table = common.Table(f"{count} idle connections", "", "bytes in the process", "bytes in the kernel, both ends",
                             "chaveirod's process : its", "chaveirod's kernel : its")
        own = found.get(Chaveiro)
        for kind, columns in found.items():
            table.add(kind.name, *columns, *[a / b if b > 0 else "" for a, b in zip(own, columns)] if own else ["", ""])
        table.print()
        if own:
            common.aim("KiB in the net process", own[0] / KIB, 4)
    return 0


if __name__ == "__main__":
    sys.exit(main())
