# SPDX-License-Identifier: Apache-2.0
"""Keystore files and key derivations in Python, written from doc/keystore-format.md and doc/protocol.md: to check what
the programs wrote, and to make what they would never write (an expired credential, one with more scopes than given)."""
import base64
import hashlib
import hmac
import json
import os
import struct

import chv

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None


def need():
    if AESGCM is None:
        raise chv.Skip("python3-cryptography is not installed")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _key(passphrase, header):
    return hashlib.scrypt(passphrase, salt=unb64(header["salt"]), n=header["n"], r=header["r"], p=header["p"],
                          maxmem=1 << 30, dklen=32)


def passphrase_of(path):
    text = chv.read(path)
    return text[:-1] if text.endswith(b"\n") else text


class Store:
    """The contents of a keystore file: secrets and data by label."""

    def __init__(self, path, passphrase):
        need()
        self.passphrase = passphrase
        outer = json.loads(chv.read(path))
        self.header = json.loads(unb64(outer["protected"]))
        plain = AESGCM(_key(passphrase, self.header)).decrypt(
            unb64(outer["iv"]), unb64(outer["ciphertext"]) + unb64(outer["tag"]), outer["protected"].encode())
        inner = json.loads(plain)
        self.keys = {k["kid"]: unb64(k["k"]) for k in inner["keys"] if k["kty"] == "oct"}
        self.data = {label: unb64(text) for label, text in inner["data"].items()}

    def write(self, path):
        """The file with what is in `keys` and `data` now, fresh salt and nonce."""
        inner = {"keys": [{"kty": "oct", "kid": label, "k": b64(key)} for label, key in sorted(self.keys.items())],
                 "data": {label: b64(data) for label, data in sorted(self.data.items())}}
        header = dict(self.header, salt=b64(os.urandom(32)))
        protected = b64(json.dumps(header, separators=(",", ":")).encode())
        iv = os.urandom(12)
        sealed = AESGCM(_key(self.passphrase, header)).encrypt(
            iv, json.dumps(inner, separators=(",", ":")).encode(), protected.encode())
        members = [protected, b64(iv), b64(sealed[:-16]), b64(sealed[-16:])]
        members.append(b64(hashlib.sha256(".".join(members).encode()).digest()))
        names = ["protected", "iv", "ciphertext", "tag", "digest"]
        lines = ",\n".join(f'  "{name}": "{value}"' for name, value in zip(names, members))
        chv.write(path, "{\n" + lines + "\n}\n")


def expand(key, info):
    """HKDF-Expand (RFC 5869, 2.3), SHA-256, one block."""
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def credential(client_id, scopes=("message",), not_after=0, epoch=1, serial=1, profile=1, identity=b""):
    """`identity`: the identity hash, in profile 3."""
    out = struct.pack(">BBIIQB", 1, profile, epoch, serial, not_after, len(client_id)) + client_id.encode()
    out += bytes([len(identity)]) + identity
    listed = sorted(scope.encode() for scope in scopes)
    return out + bytes([len(listed)]) + b"".join(bytes([len(s)]) + s for s in listed)


def access_key(master, cred):
    return expand(master, b"chaveiro v1 access\x00" + struct.pack(">H", len(cred)) + cred)


def key_check(key, length=4):
    return expand(key, b"chaveiro v1 check\x00")[:length].hex()


def client_store(key, cred, epoch=1, serial=1, master=None):
    """Rewrites a client's keystore (chv.Key) for another credential; with `master`, with the key that belongs to it."""
    store = Store(key.path, passphrase_of(key.passphrase_file))
    old = next(iter(store.keys.values()))
    store.keys = {f"access:{epoch}.{serial}": access_key(master, cred) if master else old}
    store.data = {label: value for label, value in store.data.items() if not label.startswith("credential:")}
    store.data[f"credential:{epoch}.{serial}"] = cred
    store.write(key.path)
