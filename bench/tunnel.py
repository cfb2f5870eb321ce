#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tunnel.py [--size MIB] [--repetitions N] [--markdown]: bytes through `chaveiro tunnel` and chaveirod, beside peers that do
the same and relays that only copy: bulk in one direction, 64 bytes there and back, and many streams at once.

Source and sink are one program of ours, the same for all. All subjects are up the whole time and take turns. Processor time is
that of all processes of both ends; what source and sink need is not in it."""
import argparse
import os
import sys
import tempfile

import chv
import common
import tunnels

GIB = float(1 << 30)
KINDS = [tunnels.Chaveiro, *tunnels.RELAYS, *tunnels.PEERS]


def ours(found):
    return next((columns for subject, columns in found.items() if isinstance(subject, tunnels.Chaveiro)), None)


def bulk(args, subjects, blast):
    def measure(subject):
        before = common.cpu_seconds(subject.pids)
        seconds, = blast.ask("bulk", subject.port, args.size << 20)
        used = common.cpu_seconds(subject.pids) - before
        return args.size * 1.048576 / seconds, used * GIB / (args.size << 20)

    found = {s: common.medians(v) for s, v in common.rounds(subjects, args.repetitions, measure).items()}
    table = common.Table(f"Bulk, one direction, {args.size} MiB", "", "MB/s", "CPU s/GiB, both ends", "chaveiro's CPU : its",
                         "chaveiro's rate : its")
    own = ours(found)
    for subject, (rate, cpu) in found.items():
        table.add(subject.name, rate, cpu, *([own[1] / cpu, own[0] / rate] if own else ["", ""]))
    table.print()
    if own:
        for kind, cpu, rate in ((tunnels.Stunnel, 0.70, 1.25), (tunnels.Spiped, 0.27, None), (tunnels.Relay, None, 1.0)):
            for subject in (s for s in found if type(s) is kind):
                if cpu:
                    common.aim(f"CPU, of {subject.name}", own[1] / found[subject][1], cpu)
                if rate:
                    common.aim(f"rate, of {subject.name}", own[0] / found[subject][0], rate, at_least=True)


def echo(args, subjects, blast, cpus, title):
    def measure(subject):
        return tuple(blast.ask("echo", subject.port, args.round_trips))

    everything = os.sched_getaffinity(0)
    for subject in subjects:
        common.pin(subject.pids, cpus)
    common.pin([blast.pid], cpus)
    try:
        found = {s: common.medians(v) for s, v in common.rounds(subjects, args.repetitions, measure).items()}
    finally:
        for subject in subjects:
            common.pin(subject.pids, everything)
        common.pin([blast.pid], everything)
    table = common.Table(f"64 bytes there and back, {title}", "", "p50, us", "p99, us", "p50 : 64 KiB relay's")
    relay = next((v[0] for s, v in found.items() if type(s) is tunnels.Relay), None)
    for subject, (half, most) in found.items():
        table.add(subject.name, half, most, half / relay if relay else "")
    table.print()
    own = ours(found)
    if relay and own:
        common.aim("p50, of the 64 KiB relay's", own[0] / relay, 1.35)
        peers = [v[0] for s, v in found.items() if type(s) in tunnels.PEERS]
        if peers:
            common.aim("p50, of the fastest peer's", own[0] / min(peers), 1.0)


def fair(args, subjects, blast):
    def measure(subject):
        slowest, mean = blast.ask("fair", subject.port, args.streams, args.fair_ms)
        return slowest / mean if mean else 0.0, mean * args.streams / args.fair_ms / 1e3

    found = {s: common.medians(v) for s, v in common.rounds(subjects, args.repetitions, measure).items()}
    table = common.Table(f"{args.streams} bulk streams at once, for {args.fair_ms / 1000:g} s", "", "slowest : mean",
                         "MB/s, all")
    for subject, columns in found.items():
        table.add(subject.name, *columns)
    table.print()
    own = ours(found)
    if own:
        common.aim("slowest : mean", own[0], 0.5, at_least=True)


def main():
    parser = argparse.ArgumentParser(description="tunnels over loopback")
    parser.add_argument("--size", type=int, default=1024, help="of the bulk stream, MiB")
    parser.add_argument("--round-trips", type=int, default=5000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--fair-ms", type=int, default=3000)
    parser.add_argument("--part", choices=["bulk", "echo", "fair"], action="append", help="only this (default: all)")
    common.options(parser)
    args = parser.parse_args()
    common.begin(args)
    parts = args.part or ["bulk", "echo", "fair"]
    print(f"tunnel: medians of {args.repetitions}, alternating, loopback")
    with tempfile.TemporaryDirectory(prefix="chv-bench-") as work:
        blast = common.Helper("blast").with_port()
        subjects = []
        try:
            subjects = common.start_all(common.chosen(KINDS, args), work, blast.port)
            if "bulk" in parts:
                bulk(args, subjects, blast)
            if "echo" in parts:
                one = {max(os.sched_getaffinity(0))}
                echo(args, subjects, blast, one, "everything on one processor")
                echo(args, subjects, blast, os.sched_getaffinity(0), "on all processors")
            if "fair" in parts:
                fair(args, subjects, blast)
        finally:
            for subject in subjects:
                subject.stop()
            blast.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
