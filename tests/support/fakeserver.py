# SPDX-License-Identifier: Apache-2.0
"""A server in Python, after doc/protocol.md, that can be told to lie: forged refusals, garbage, an end at any step.
Profile psk, suite x25519-aesgcm-sha256; one thread, one connection at a time."""
import contextlib
import hashlib
import hmac
import os
import socket
import struct
import threading
import time

import chv
import store

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None

DATA, END, OPEN, STATUS, PING, PONG, CLOSE = 0, 1, 2, 3, 8, 9, 10


def frame(body):
    return struct.pack(">H", len(body)) + body


def refusal(code):
    return frame(b"\x01" + struct.pack(">H", code))


def status(code, text):
    """CBOR {"code": code, "text": text}."""
    encoded = text.encode()
    return b"\xa2\x64code\x19" + struct.pack(">H", code) + b"\x64text\x79" + struct.pack(">H", len(encoded)) + encoded


def _hkdf(ck, data, count):
    temp = hmac.new(ck, data, hashlib.sha256).digest()
    out, last = [], b""
    for i in range(count):
        last = hmac.new(temp, last + bytes([i + 1]), hashlib.sha256).digest()
        out.append(last)
    return out


def _nonce(n):
    return bytes(4) + struct.pack(">Q", n)


class Peer:
    """One client's connection."""

    def __init__(self, sock):
        self.sock = sock
        self.hello = None

    def read_frame(self):
        head = self._exactly(2)
        return self._exactly(struct.unpack(">H", head)[0])

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def send(self, data):
        self.sock.sendall(data)

    def read_hello(self):
        self.hello = self.read_frame()
        return self.hello

    def reply(self, access, server, server_time=None, idle=600, key_of_another=False):
        """Noise NNpsk2's second message, late PSK (doc/protocol.md, section 2); sends it and makes the record keys."""
        if self.hello is None:
            self.read_hello()
        length = struct.unpack(">H", self.hello[8:10])[0]
        prologue, message1 = self.hello[:10 + length], self.hello[10 + length:]
        h = ck = b"Noise_NNpsk2_25519_AESGCM_SHA256"

        def mix(data):
            nonlocal h
            h = hashlib.sha256(h + data).digest()

        mix(prologue)
        client = message1[:32]
        mix(client)
        ck, key = _hkdf(ck, client, 2)
        AESGCM(key).decrypt(_nonce(0), message1[32:], h)
        mix(message1[32:])
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        mix(public)
        ck, key = _hkdf(ck, public, 2)
        h_psk = h
        ck, key = _hkdf(ck, private.exchange(X25519PublicKey.from_public_bytes(client)), 2)
        info = b"chaveiro v1 session\x00" + bytes([len(server)]) + server.encode() + bytes([len(h_psk)]) + h_psk
        psk = os.urandom(32) if key_of_another else store.expand(access, info)
        ck, temp, key = _hkdf(ck, psk, 3)
        mix(temp)
        payload = bytes(range(16)) + struct.pack(">QH", int(time.time()) if server_time is None else server_time, idle)
        sealed = AESGCM(key).encrypt(_nonce(0), payload, h)
        mix(sealed)
        self.h_fin = h
        self.keys = _hkdf(ck, b"", 2)
        self.counts = [0, 0]
        self.send(frame(b"\x00" + public + sealed))

    def read_record(self):
        body = self.read_frame()
        plain = AESGCM(self.keys[0]).decrypt(_nonce(self.counts[0]), body, b"")
        self.counts[0] += 1
        return plain[0], plain[1:]

    def record(self, kind, body=b""):
        sealed = AESGCM(self.keys[1]).encrypt(_nonce(self.counts[1]), bytes([kind]) + body, b"")
        self.counts[1] += 1
        return frame(sealed)

    def send_record(self, kind, body=b""):
        self.send(self.record(kind, body))

    def let_in(self, access, server):
        """Handshake, OPEN, STATUS 200: the client may send."""
        self.reply(access, server)
        kind, _ = self.read_record()
        chv.check_equal(kind, OPEN, "the client's first record")
        self.send_record(STATUS, status(200, "ready"))

    def read_message(self):
        message = b""
        while True:
            kind, body = self.read_record()
            if kind == END:
                return message
            chv.check_equal(kind, DATA, "record type in a message")
            message += body

    def drain(self):
        """Until the client ends the connection."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


class FakeServer:
    """Calls `serve(peer)` for each connection; what it raises fails the test at the end. In a `with` block."""

    def __init__(self, serve):
        store.need()
        self.serve = serve
        self.accepted = 0
        self.hellos = []
        self.error = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def _run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock:
                sock.settimeout(chv.DEADLINE)
                peer = Peer(sock)
                try:
                    self.serve(peer)
                except (EOFError, ConnectionError):
                    pass
                except Exception as why:  # told by __exit__: this is another thread
                    self.error = why
                if peer.hello is not None:
                    self.hellos.append(peer.hello)

    def __exit__(self, kind, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(chv.DEADLINE)
        if kind is None and self.error is not None:
            raise chv.Failure(f"fake server: {type(self.error).__name__}: {self.error}")
