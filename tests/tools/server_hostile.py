# SPDX-License-Identifier: Apache-2.0
"""Many clients, garbage, half frames, peers that vanish: chaveirod stays up, its descriptors and memory stay bounded, and
no connection is left."""
import os
import random
import resource
import socket
import struct
import threading
import time

import chv
import rawclient
from fakeserver import DATA, END, OPEN, frame

HALVES = 10000
# A sanitizer keeps freed memory for a while: then only descriptors are counted.
SANITIZED = b"#define CHV_SANITIZED" in chv.read(os.path.join(chv.TOP_BUILDDIR, "config.h"))


def soon():
    return int(time.time()) + 86400


def net_pid(site):
    return chv.process_named(site.server.pid, "chv-net")


def sockets_of(pid):
    """Sockets open in a process; its listening and inner ones included."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        raise chv.Skip("only root sees the descriptors of a process that cannot be traced") from None
    found = 0
    for name in names:
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return found


def memory_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


def wait_sockets(pid, wanted):
    end = time.monotonic() + chv.DEADLINE
    while sockets_of(pid) > wanted:
        chv.check(time.monotonic() < end, f"{sockets_of(pid)} sockets are open instead of {wanted}")
        time.sleep(0.05)


class Gate:
    def __init__(self, **settings):
        self.settings = dict(rate="0", **settings)

    def __enter__(self):
        rawclient.store.need()
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        self.site.configure(**self.settings)
        self.keys = rawclient.Keys(self.site)
        self.site.start("--listen", "127.0.0.1:0")
        self.pid = net_pid(self.site)
        self.still_serves()
        self.sockets = sockets_of(self.pid)
        self.memory = memory_of(self.pid)
        return self

    def __exit__(self, *details):
        self.site.__exit__(*details)

    def client(self):
        return self.keys.client(self.site, not_after=soon())

    def still_serves(self):
        with self.client() as client:
            chv.check_equal(client.handshake(), None, "handshake of a good client")
            chv.check_equal(client.open()[0], 200, "STATUS of a good client")
            chv.check_equal(client.message(b"x"), b"message received: 'x'", "reply to a good client")
            client.close()

    def nothing_is_left(self, memory=None):
        self.still_serves()
        wait_sockets(self.pid, self.sockets)
        chv.check_equal(net_pid(self.site), self.pid, "the net process")
        if memory is not None and not SANITIZED:
            grown = memory_of(self.pid) - self.memory
            chv.check(grown <= memory, f"the net process grew by {grown} bytes, at most {memory} are allowed")


def end_of(sock):
    """Everything until the server ends the connection."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


def test_200_clients_at_once():
    with Gate() as gate:
        clients = [gate.client() for _ in range(200)]
        try:
            for client in clients:
                client.send_hello()
            for client in clients:
                chv.check_equal(client.read_reply(), None, "handshake")
            for client in clients:
                client.send_record(OPEN, rawclient.open_map())
            for client in clients:
                chv.check_equal(rawclient.status_of(client.read_record()[1])[0], 200, "STATUS")
            for i, client in enumerate(clients):
                client.send_record(DATA, b"%d" % i)
                client.send_record(END)
            for i, client in enumerate(clients):
                reply = b""
                while True:
                    kind, body = client.read_record()
                    if kind == END:
                        break
                    reply += body
                chv.check_equal(reply, b"message received: '%d'" % i, "reply")
            for client in clients:
                client.close()
        finally:
            for client in clients:
                client.sock.close()
        gate.nothing_is_left()


def test_200_threads_with_large_messages():
    with Gate() as gate:
        failures = []

        def talk(i):
            try:
                with gate.client() as client:
                    client.handshake()
                    client.open()
                    text = bytes([65 + i % 26]) * 20000
                    chv.check_equal(client.message(text), b"message received: '" + text + b"'", "reply")
                    client.close()
            except Exception as why:  # told below: this is another thread
                failures.append(f"{i}: {type(why).__name__}: {why}")

        threads = [threading.Thread(target=talk, args=(i,)) for i in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(chv.DEADLINE)
        chv.check_equal(failures, [], "failures")
        gate.nothing_is_left()


def test_garbage():
    noise = random.Random(4711)
    with Gate() as gate:
        for i in range(300):
            with gate.site.connect() as sock:
                data = noise.randbytes(noise.randrange(1, 3000))
                if i % 3 == 0:
                    data = struct.pack(">H", len(data)) + data
                elif i % 3 == 1:
                    data = struct.pack(">H", len(data) + 8) + b"CHV" + bytes([1, 1, 1, 1, 0]) + data
                try:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                reply = end_of(sock)
                chv.check(reply == b"" or (len(reply) == 5 and reply[:3] == b"\x00\x03\x01"), f"reply {reply!r}")
        gate.nothing_is_left(8 << 20)


def test_zero_and_oversized_frames():
    with Gate() as gate:
        for head in (b"\x00\x00", b"\x00\x01C", b"\xff\xff", struct.pack(">H", 2047)):
            with gate.site.connect() as sock:
                sock.sendall(head)
                sock.shutdown(socket.SHUT_WR)
                end_of(sock)
        for size in (0, 1, 16):
            with gate.client() as client:
                client.handshake()
                client.sock.sendall(frame(bytes(size)))
                chv.check_equal(end_of(client.sock), b"", f"answer to a first record of {size} bytes")
            with gate.client() as client:
                client.handshake()
                client.open()
                client.sock.sendall(frame(bytes(size)))
                chv.check_equal(end_of(client.sock), b"", f"answer to a record of {size} bytes")
        with gate.client() as client:
            client.handshake()
            client.sock.sendall(b"\xff\xff" + bytes(100))  # the first record is at most 4096 bytes: not waited for
            chv.check_equal(end_of(client.sock), b"", "answer to an oversized first record")
        gate.nothing_is_left()


def test_vanishing_at_every_step():
    def reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    with Gate() as gate:
        hello = gate.client().hello()
        for polite in (True, False):
            for cut in (0, 1, 2, 10, len(hello) - 1, len(hello)):
                sock = gate.site.connect()
                sock.sendall(hello[:cut])
                sock.close() if polite else reset(sock)
            for steps in range(4):
                client = gate.client()
                client.handshake()
                if steps > 0:
                    client.open()
                if steps > 1:
                    client.send_record(DATA, bytes(5000))
                if steps > 2:
                    client.sock.sendall(client.record(END)[:5])
                client.sock.close() if polite else reset(client.sock)
        gate.nothing_is_left(8 << 20)


def test_half_frames_are_bounded():
    """Thousands that send half a hello or half a record and stop: what they cost has a bound, and good clients go on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HALVES + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise chv.Skip(f"the limit of open files is {hard}, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    count = HALVES // 10 if SANITIZED else HALVES
    with Gate(connections="20000", memory="4M", handshake_timeout="1h", stall_timeout="1h", backlog="4096") as gate:
        hello = gate.client().hello()
        host, _, port = gate.site.address.rpartition(":")
        server, socks = (host, int(port)), []
        try:
            for i in range(count):
                # four networks: one alone may not hold half of the server's connections
                sock = socket.create_connection(server, chv.DEADLINE, source_address=(f"127.0.{1 + i % 4}.1", 0))
                socks.append(sock)
                sock.sendall(hello[:1 + i % (len(hello) - 1)])
            clients = []
            for i in range(200):
                client = gate.client()
                socks.append(client.sock)
                client.handshake()
                client.open()
                clients.append(client)
            for client in clients:  # 200 times most of 64 KiB: more than the pool has
                try:
                    client.sock.sendall(client.record(DATA, bytes(60000))[:-1])
                except ConnectionError:
                    pass  # one too many: ended
            gate.still_serves()
            grown = memory_of(gate.pid) - gate.memory
            # a handshake's session and its connection, and the pool
            bound = count * 8192 + (16 << 20)
            chv.check(SANITIZED or grown <= bound, f"{count} half hellos and 200 half records cost {grown} bytes, more than {bound}")
        finally:
            for sock in socks:
                sock.close()
        gate.nothing_is_left()


def test_slow_client_is_ended():
    with Gate(handshake_timeout="1s", stall_timeout="1s") as gate:
        with gate.site.connect() as sock:
            sock.sendall(gate.client().hello()[:30])
            end_of(sock)
        with gate.client() as client:
            client.handshake()
            end_of(client.sock)  # no OPEN
        with gate.client() as client:
            client.handshake()
            client.open()
            client.sock.sendall(client.record(DATA, b"slow")[:-1])
            end_of(client.sock)
        gate.nothing_is_left()


def test_reader_who_never_reads():
    """Back-pressure: a client that sends and does not read is not read either."""
    with Gate(stall_timeout="2s") as gate:
        with gate.client() as client:
            client.handshake()
            client.open()
            client.sock.settimeout(chv.DEADLINE)
            try:
                while True:
                    client.send_record(DATA, bytes(60000))
            except (ConnectionError, socket.timeout):
                pass
        gate.nothing_is_left(64 << 20)


if __name__ == "__main__":
    chv.main()
