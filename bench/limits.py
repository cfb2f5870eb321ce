#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""limits.py [--markdown]: what this machine can do at best: processors, kernel, `openssl speed` of the primitives that a
handshake and a record are made of. The plain relay stands beside the tunnels (tunnel.py)."""
import argparse
import os
import platform
import re
import sys

import common

NUMBER = r"([0-9.]+)k?"


def last_number(text, line):
    """The last number of the line that begins so."""
    found = re.findall(rf"^{re.escape(line)}.*\s{NUMBER}\s*$", text, re.MULTILINE | re.IGNORECASE)
    return float(found[-1])


def speed(openssl, seconds, *words):
    return common.run(openssl, "speed", "-seconds", str(seconds), *words)


def bytes_per_second(openssl, seconds, size, line, *words):
    """In MB/s, and µs for one."""
    rate = last_number(speed(openssl, seconds, "-bytes", str(size), *words), line) * 1e3
    return rate / 1e6, size / rate * 1e6


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = re.findall(r"model name\s*: (.*)", f.read())
    return f"{len(os.sched_getaffinity(0))} processors, {names[0].strip() if names else platform.machine()}"


def main():
    parser = argparse.ArgumentParser(description="what this machine can do")
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--markdown", action="store_true", help="tables to be pasted")
    args = parser.parse_args()
    common.begin(args)
    print(f"limits: {processor()}; Linux {platform.release()}; load {os.getloadavg()[0]:.1f}")
    try:
        openssl, = common.need("openssl")
    except common.Missing as why:
        print(f"  ({why})")
        return 0
    version = common.run(openssl, "version").split()[1]
    table = common.Table(f"One processor, openssl speed of OpenSSL {version}", "", "MB/s", "us for one")
    for size in (64, 16 * 1024, 65280):
        table.add(f"AES-256-GCM, {size} bytes", *bytes_per_second(openssl, args.seconds, size, "AES-256-GCM", "-evp", "aes-256-gcm"))
    table.add("HMAC-SHA256, 64 bytes", *bytes_per_second(openssl, args.seconds, 64, "hmac(sha256)", "-hmac", "sha256"))
    table.add("SHA-256, 64 KiB", *bytes_per_second(openssl, args.seconds, 65536, "sha256", "-evp", "sha256"))
    derive = last_number(speed(openssl, args.seconds, "ecdhx25519"), " 253 bits ecdh (X25519)")
    table.add("X25519, one agreement", "", 1e6 / derive)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
