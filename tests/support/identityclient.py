# SPDX-License-Identifier: Apache-2.0
"""A client in Python, after doc/protocol.md, of profiles key (Noise IK) and key+psk (IKpsk2): with any static key, any
credential, any key that it takes for the server's.  Suite x25519-aesgcm-sha256."""
import hashlib

import rawclient
import store
from fakeserver import _hkdf, _nonce, frame
from rawclient import AESGCM, X25519PrivateKey, X25519PublicKey, serialization

try:
    from cryptography.exceptions import InvalidTag
except ImportError:  # store.need() has skipped the test before it is caught
    InvalidTag = ValueError

KEY, KEY_PSK = 2, 3
NAMES = {KEY: b"Noise_IK_25519_AESGCM_SHA256", KEY_PSK: b"Noise_IKpsk2_25519_AESGCM_SHA256"}


def private_of(path):
    """The X25519 private key of a PEM file."""
    store.need()
    with open(path, "rb") as f:
        return serialization.load_pem_private_key(f.read(), None)


def public_bytes(key):
    """Of a private key, or of the name of a PEM file with a public one."""
    if isinstance(key, str):
        with open(key, "rb") as f:
            public = serialization.load_pem_public_key(f.read())
    else:
        public = key.public_key()
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def identity_hash(public):
    return hashlib.sha256(b"chaveiro v1 identity\0\0" + public).digest()


class IdentityClient(rawclient.RawClient):
    """`static`: the client's private key; `server_key`: the server's public one, 32 bytes."""

    def __init__(self, site, profile, static, server_key, cred=b"", access=bytes(32), **extra):
        super().__init__(site, cred, access, **extra)
        self.profile, self.static, self.server_key = profile, static, server_key

    def _encrypt(self, plain):
        sealed = AESGCM(self.key).encrypt(_nonce(self.n), plain, self.h)
        self.n += 1
        self.mix(sealed)
        return sealed

    def _mix_key(self, data):
        self.ck, self.key = _hkdf(self.ck, data, 2)
        self.n = 0

    def _dh(self, private, public):
        self._mix_key(private.exchange(X25519PublicKey.from_public_bytes(public)))

    def hello(self):
        prologue = rawclient.head(b"", profile=self.profile, kind=0)
        self.h = self.ck = NAMES[self.profile].ljust(32, b"\0")
        self.mix(prologue)
        self.mix(self.server_key)
        self.private = X25519PrivateKey.generate()
        message = public_bytes(self.private)  # e
        self.mix(message)
        if self.profile == KEY_PSK:
            self._mix_key(message)
        self._dh(self.private, self.server_key)  # es
        message += self._encrypt(public_bytes(self.static))  # s
        self._dh(self.static, self.server_key)  # ss
        return frame(prologue + message + self._encrypt(self.cred.ljust(512, b"\0") if self.profile == KEY_PSK else b""))

    def read_reply(self):
        body = self.read_frame()
        if body[0] != 0:
            return int.from_bytes(body[1:3], "big")
        public = body[1:33]  # e
        self.mix(public)
        if self.profile == KEY_PSK:
            self._mix_key(public)
        info = b"chaveiro v1 session\x00" + bytes([len(self.server)]) + self.server.encode() + bytes([32]) + self.h
        self._dh(self.private, public)  # ee
        self._dh(self.static, public)  # se
        if self.profile == KEY_PSK:
            self.ck, temp, self.key = _hkdf(self.ck, store.expand(self.access, info), 3)
            self.mix(temp)
            self.n = 0
        self.payload = AESGCM(self.key).decrypt(_nonce(self.n), body[33:], self.h)
        self.mix(body[33:])
        self.keys = _hkdf(self.ck, b"", 3)
        return None
