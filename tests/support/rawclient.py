# SPDX-License-Identifier: Apache-2.0
"""A client in Python, after doc/protocol.md: any credential, any key, any step left out. Profile psk, suite
x25519-aesgcm-sha256."""
import os
import struct

import chv
import store
from fakeserver import CLOSE, DATA, END, OPEN, STATUS, _hkdf, _nonce, frame

try:
    import hashlib

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None


def _text(text):
    data = text.encode()
    return (bytes([0x60 + len(data)]) if len(data) < 24 else b"\x78" + bytes([len(data)])) + data


def open_map(service="message"):
    """CBOR {"service": service}."""
    return b"\xa1" + _text("service") + _text(service)


def head(cred, version=1, profile=1, suite=1, kind=1, last=0):
    return b"CHV" + bytes([version, profile, suite, kind, last]) + struct.pack(">H", len(cred)) + cred


class RawClient:
    """One connection; every byte from the server is in `received` (unless `keep` is False)."""

    keep = True

    def __init__(self, site, cred, access, server=None, address=None):
        store.need()
        self.sock = site.connect(address)
        self.cred, self.access, self.server = cred, access, server or site.name
        self._pieces = []
        self.counts = [0, 0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    @property
    def received(self):
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def _exactly(self, n):
        data, at = bytearray(n), 0
        while at < n:
            got = self.sock.recv_into(memoryview(data)[at:])
            if got == 0:
                raise EOFError
            at += got
        if self.keep:
            self._pieces.append(bytes(data))
        return bytes(data)

    def read_frame(self):
        return self._exactly(struct.unpack(">H", self._exactly(2))[0])

    def prologue(self):
        return head(self.cred)

    def hello(self):
        prologue = self.prologue()
        self.h = self.ck = b"Noise_NNpsk2_25519_AESGCM_SHA256"
        self.mix(prologue)
        self.private = X25519PrivateKey.generate()
        public = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.mix(public)
        self.ck, key = _hkdf(self.ck, public, 2)
        sealed = AESGCM(key).encrypt(_nonce(0), b"", self.h)
        self.mix(sealed)
        return frame(prologue + public + sealed)

    def mix(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def send_hello(self):
        self.sock.sendall(self.hello())

    def read_reply(self):
        """The code of a refusal, or None when message 2 has opened; InvalidTag when it does not."""
        body = self.read_frame()
        if body[0] != 0:
            return struct.unpack(">H", body[1:3])[0]
        public = body[1:33]
        self.mix(public)
        self.ck, _ = _hkdf(self.ck, public, 2)
        info = b"chaveiro v1 session\x00" + bytes([len(self.server)]) + self.server.encode() + bytes([32]) + self.h
        self.ck, _ = _hkdf(self.ck, self.private.exchange(X25519PublicKey.from_public_bytes(public)), 2)
        psk = store.expand(self.access, info)
        self.ck, temp, key = _hkdf(self.ck, psk, 3)
        self.mix(temp)
        self.payload = AESGCM(key).decrypt(_nonce(0), body[33:], self.h)
        self.mix(body[33:])
        self.keys = _hkdf(self.ck, b"", 3)
        return None

    def handshake(self):
        self.send_hello()
        return self.read_reply()

    def record(self, kind, body=b""):
        sealed = AESGCM(self.keys[0]).encrypt(_nonce(self.counts[0]), bytes([kind]) + body, b"")
        self.counts[0] += 1
        return frame(sealed)

    def send_record(self, kind, body=b""):
        self.sock.sendall(self.record(kind, body))

    def read_record(self):
        plain = AESGCM(self.keys[1]).decrypt(_nonce(self.counts[1]), self.read_frame(), b"")
        self.counts[1] += 1
        return plain[0], plain[1:]

    def open(self, service="message"):
        """Sends OPEN; returns code and text of STATUS."""
        self.send_record(OPEN, open_map(service))
        kind, body = self.read_record()
        chv.check_equal(kind, STATUS, "first record of the server")
        return status_of(body)

    def message(self, text):
        """Sends a message and returns the reply."""
        self.send_record(DATA, text)
        self.send_record(END)
        reply = b""
        while True:
            kind, body = self.read_record()
            if kind == END:
                return reply
            chv.check_equal(kind, DATA, "record of a reply")
            reply += body

    def close(self):
        """CLOSE in both directions, then the end of the stream."""
        self.send_record(CLOSE)
        chv.check_equal(self.read_record()[0], CLOSE, "answer to CLOSE")
        chv.check_equal(self.sock.recv(1), b"", "bytes behind CLOSE")


def status_of(body):
    """(code, text) of a STATUS map, whose keys may stand in any order."""
    found = map_of(body)
    return found["code"], found.get("text", "")


def map_of(body):
    """A CBOR map of numbers, texts and bytes."""
    chv.check_equal(body[0] & 0xe0, 0xa0, "it is a map")
    at, found = 1, {}
    for _ in range(body[0] & 0x1f):
        key, at = _item(body, at)
        found[key], at = _item(body, at)
    return found


def _item(body, at):
    major, small = body[at] >> 5, body[at] & 0x1f
    at += 1
    if small >= 24:
        size = 1 << (small - 24)
        small = int.from_bytes(body[at:at + size], "big")
        at += size
    if major == 0:
        return small, at
    item = body[at:at + small]
    return item if major == 2 else item.decode(), at + small


class Keys:
    """A site's master secret, and credentials that keyadmin would not make."""

    def __init__(self, site):
        store.need()
        opened = store.Store(os.path.join(site.store, "server.keys"), store.passphrase_of(site.passphrase_file))
        self.master = opened.keys["master:1"]

    def client(self, site, client_id="cam1", **fields):
        address = fields.pop("address", None)
        master = fields.pop("master", self.master)
        cred = store.credential(client_id, **fields)
        return RawClient(site, cred, store.access_key(master, cred), address=address)
