# SPDX-License-Identifier: Apache-2.0
"""A site with tunnels to targets of its own, the client's `chaveiro tunnel`, and sockets at both ends."""
import contextlib
import hashlib
import os
import re
import socket
import struct
import threading
import time

import chv
from rotate import RotationSite


class Target:
    """A TCP (or unix socket) server; `serve(connection)` runs in a thread for each connection, which it owns."""

    def __init__(self, serve, path=None):
        self.serve = serve
        if path:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(path)
            self.address = f"unix:{path}"
        else:
            self.listener = socket.socket()
            self.listener.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.listener.listen(128)
        self.threads, self.open, self.failed = [], set(), []
        self.changed = threading.Condition()
        self.count = 0  # connections that have come, ever
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(chv.DEADLINE)
            with self.changed:
                self.count += 1
                self.open.add(connection)
                self.changed.notify_all()
            thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _run(self, connection):
        try:
            self.serve(connection)
        except OSError as e:
            self.failed.append(e)
        finally:
            connection.close()
            with self.changed:
                self.open.discard(connection)
                self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            chv.check(self.changed.wait_for(lambda: condition(self), chv.DEADLINE), f"target: {what}")

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.changed:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in [self.acceptor, *self.threads]:
            thread.join(chv.DEADLINE)


def content(size):
    return hashlib.shake_128(b"%d" % size).digest(size)


def echo(connection):
    """What comes goes back; END after END."""
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            break
        connection.sendall(piece)
    connection.shutdown(socket.SHUT_WR)


def read_all(connection):
    """Bytes until the end, and whether that was a reset."""
    got = bytearray()
    while True:
        try:
            piece = connection.recv(1 << 16)
        except ConnectionResetError:
            return bytes(got), True
        if not piece:
            return bytes(got), False
        got += piece


def reset(connection):
    """Closes it so that the other end is told of a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def resident(pid):
    """Memory of a process in use, in bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def until(condition, what):
    end = time.monotonic() + chv.DEADLINE
    while not condition():
        chv.check(time.monotonic() < end, what)
        time.sleep(0.02)


class TunnelSite(RotationSite):
    """`key` is the client's; `tunnel()` starts its `chaveiro tunnel`."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.sockets, self.targets = [], []

    def init(self, targets, *extra, scopes=None, sections=None, listen="127.0.0.1:0", start=True, **settings):
        """`targets`: an address, or a Target, by the tunnel's name; `sections`: further lines of its section."""
        super().init(*extra, listen=listen)
        self.configure(**settings)
        for name, target in targets.items():
            self.section(f'tunnel "{name}"', target=getattr(target, "address", target), **(sections or {}))
        self.key = self.add_client("cam1", scopes=scopes or ["tunnel:" + name for name in targets])
        return self.start() if start else None

    def __exit__(self, *what):
        for s in self.sockets:
            s.close()
        try:
            return super().__exit__(*what)
        finally:
            for target in self.targets:
                target.close()

    def section(self, header, **settings):
        lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in settings.items())
        chv.write(self.config, chv.read(self.config).decode() + f"[{header}]\n{lines}")

    def target(self, serve=echo, path=None):
        target = Target(serve, path)
        self.targets.append(target)
        return target

    def tunnel(self, *words, listen=("127.0.0.1:0",), key=None, to=None, count=None, **options):
        options_ = [word for address in listen for word in ("--listen", address)]
        process = self.client_start(key or self.key, "tunnel", *words, *options_, to=to, **options)
        return self.listening(process, count or len(listen))

    def listening(self, process, count=1):
        told = process.wait_for(r"tunnel (\S+): listening on (\S+)\n", count, stream="stdout")
        process.addresses = [m[2].decode() for m in told]
        process.by_name = {m[1].decode(): m[2].decode() for m in told}
        return process

    def dial(self, process, address=None):
        """A connection of a local program."""
        address = address or process.addresses[0]
        if address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            where = address[5:]
        else:
            host, _, port = address.rpartition(":")
            s = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
            where = (host.strip("[]"), int(port))
        s.settimeout(chv.DEADLINE)
        s.connect(where)
        self.sockets.append(s)
        return s

    def ask(self, process, data=b"hello", address=None):
        """Through the tunnel and back."""
        with self.dial(process, address) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return read_all(s)

    def log_count(self, pattern):
        return len(re.findall(pattern, self.log()))
