#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads keystore files by doc/keystore-format.md alone, with Python's own scrypt and the cryptography package."""
import base64
import hashlib
import json
import os
import re
import subprocess

import chv

try:
    from cryptography.hazmat.primitives.asymmetric import ec, x25519
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    AESGCM = None


def need_cryptography():
    if AESGCM is None:
        raise chv.Skip("Python's cryptography package is not here")


def unbase64(text):
    assert "=" not in text
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text
    return raw


def read(text, passphrase):
    """Header and contents of a keystore file."""
    outer = json.loads(text)
    assert list(outer) == ["protected", "iv", "ciphertext", "tag", "digest"]
    assert text == json.dumps(outer, indent=2) + "\n"
    signed = ".".join(outer[k] for k in ("protected", "iv", "ciphertext", "tag"))
    assert unbase64(outer["digest"]) == hashlib.sha256(signed.encode()).digest()
    header = json.loads(unbase64(outer["protected"]))
    assert set(header) == {"typ", "v", "alg", "n", "r", "p", "salt", "enc", "cty"}
    assert (header["typ"], header["v"], header["alg"]) == ("chaveiro-keystore", 1, "scrypt")
    assert (header["enc"], header["cty"]) == ("A256GCM", "jwk-set+json")
    salt, iv, tag = unbase64(header["salt"]), unbase64(outer["iv"]), unbase64(outer["tag"])
    assert (len(salt), len(iv), len(tag)) == (32, 12, 16)
    key = hashlib.scrypt(passphrase, salt=salt, n=header["n"], r=header["r"], p=header["p"], maxmem=1 << 28, dklen=32)
    plain = AESGCM(key).decrypt(iv, unbase64(outer["ciphertext"]) + tag, outer["protected"].encode())
    return header, json.loads(plain)


def test_the_documents_example():
    need_cryptography()
    with open(os.path.join(chv.TOP_SRCDIR, "doc/keystore-format.md"), encoding="utf-8") as f:
        doc = f.read()
    passphrase = re.search(r"The passphrase is `([^`]*)`", doc).group(1)
    example = doc.split("```json\n")[1].split("```")[0]
    header, contents = read(example, passphrase.encode())
    blocks = doc.split("## Example")[1].split("```\n")
    assert json.loads(blocks[2].strip()) == header, "the header shown is not the example's"
    assert json.loads(blocks[4].replace("\n", "")) == contents, "the contents shown are not the example's"


def public_of(jwk):
    """The public key computed from the private one, checked against what the JWK says."""
    private = unbase64(jwk["d"])
    assert len(private) == 32
    if jwk["kty"] == "OKP":
        assert jwk["crv"] == "X25519"
        key = x25519.X25519PrivateKey.from_private_bytes(private).public_key()
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert raw == unbase64(jwk["x"])
        return raw
    assert (jwk["kty"], jwk["crv"]) == ("EC", "P-256")
    key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1()).public_key()
    raw = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert raw == b"\x04" + unbase64(jwk["x"]) + unbase64(jwk["y"])
    return raw


def test_what_the_library_writes():
    need_cryptography()
    path = os.path.join(chv.folder(), "made.ks")
    program = os.path.join(chv.TOP_BUILDDIR, "tests/keystore/file_make")
    out = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout
    shown = dict(line.split() for line in out.splitlines())
    with open(path, encoding="ascii") as f:
        header, contents = read(f.read(), b"sesame")
    assert (header["n"], header["r"], header["p"]) == (16384, 8, 1)
    assert contents["data"] == {"data": base64.urlsafe_b64encode(b"hello").rstrip(b"=").decode()}
    keys = {jwk["kid"]: jwk for jwk in contents["keys"]}
    assert list(keys) == ["p", "r", "secret", "x"]
    assert keys["secret"] == {"kty": "oct", "kid": "secret",
                              "k": base64.urlsafe_b64encode(b"\x42" * 32).rstrip(b"=").decode()}
    for label, ops in (("p", ["deriveBits"]), ("r", ["sign"]), ("x", ["deriveBits"])):
        assert keys[label]["key_ops"] == ops
        assert public_of(keys[label]).hex() == shown[label]


if __name__ == "__main__":
    chv.main()
