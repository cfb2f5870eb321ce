#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the known answers of Debian's python3-cryptography-vectors in Wycheproof's schema.

Usage: debian_vectors.py FOLDER     exit 77 if the package is not installed

AES-256-GCM: NIST CAVP, those with 96-bit nonces and 128-bit tags, which is all that the engine claims.
ChaCha20-Poly1305: RFC 7539 2.8.2 and BoringSSL's, OpenSSL's.  HMAC: RFC 4231.  HKDF: RFC 5869.
X25519: RFC 7748 5.2.  P-256: NIST CAVP ECC CDH validity tests.
"""
import json
import os
import re
import sys

try:
    import cryptography_vectors
except ImportError:
    print("the known answers are missing: install the package python3-cryptography-vectors")
    sys.exit(77)


def lines(name):
    with cryptography_vectors.open_vector_file(name, "r") as f:
        for line in f:
            yield line.strip()


def records(name, first):
    """Dicts of `key = value` lines in lower case; `first` begins a new one; [key = value] lines are kept in all."""
    section, record = {}, None
    for line in lines(name):
        if line.startswith("#"):
            continue
        head = re.fullmatch(r"\[(.*?)(?:\s*=\s*(.*))?\]", line)
        if head:
            if record:
                yield record
            record = None
            section = {**section, head[1].lower(): head[2]} if head[2] else {"section": head[1]}
            continue
        key, sep, value = line.partition("=")
        key = key.strip().lower()
        if key == first:
            if record:
                yield record
            record = dict(section)
        if record is None:
            continue
        if sep:
            record[key] = value.strip()
        elif line:
            record[line.lower()] = ""
    if record:
        yield record


def hexed(value):
    """BoringSSL's file writes some members as text in quotes."""
    return value[1:-1].encode().hex() if value.startswith('"') else value.lower()


class File:
    def __init__(self, algorithm):
        self.algorithm, self.groups, self.count = algorithm, {}, 0

    def add(self, group, result, **test):
        self.count += 1
        key = json.dumps(group, sort_keys=True)
        tests = self.groups.setdefault(key, [])
        tests.append({"tcId": self.count, "comment": "", "flags": [], **test, "result": result})

    def write(self, folder, name):
        groups = [{**json.loads(key), "tests": tests} for key, tests in self.groups.items()]
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            json.dump({"algorithm": self.algorithm, "numberOfTests": self.count, "testGroups": groups}, f)
        if self.count == 0:
            sys.exit(name + ": no test found: the package's files have another form than expected")


AEAD = {"type": "AeadTest", "ivSize": 96, "keySize": 256, "tagSize": 128}


def aes_gcm():
    out = File("AES-GCM")
    for name in ("gcmDecrypt256.rsp", "gcmEncryptExtIV256.rsp"):
        for r in records("ciphers/AES/GCM/" + name, "count"):
            if len(r["iv"]) == 24 and len(r["tag"]) == 32:
                out.add(AEAD, "invalid" if "fail" in r else "valid", key=r["key"], iv=r["iv"], aad=r["aad"],
                        msg=r.get("pt", ""), ct=r["ct"], tag=r["tag"])
    return out


def chacha():
    out = File("CHACHA20-POLY1305")
    for r in records("ciphers/ChaCha20Poly1305/boringssl.txt", "count"):
        if len(hexed(r["nonce"])) == 24 and len(hexed(r["tag"])) == 32:
            out.add(AEAD, "valid", key=hexed(r["key"]), iv=hexed(r["nonce"]), aad=hexed(r["ad"]), msg=hexed(r["in"]),
                    ct=hexed(r["ct"]), tag=hexed(r["tag"]))
    for r in records("ciphers/ChaCha20Poly1305/openssl.txt", "count"):
        if len(r["iv"]) == 24 and len(r["tag"]) == 32:
            out.add(AEAD, "invalid" if "result" in r else "valid", key=r["key"], iv=r["iv"], aad=r["aad"],
                    msg=r["plaintext"], ct=r["ciphertext"], tag=r["tag"])
    return out


def hmac(bits):
    out = File("HMACSHA%d" % bits)
    for r in records("HMAC/rfc-4231-sha%d.txt" % bits, "len"):
        group = {"type": "MacTest", "keySize": 4 * len(r["key"]), "tagSize": 4 * len(r["md"])}
        out.add(group, "valid", key=r["key"], msg=r["msg"], tag=r["md"])
        wrong = r["md"][:-2] + "%02x" % (int(r["md"][-2:], 16) ^ 1)
        out.add(group, "invalid", key=r["key"], msg=r["msg"], tag=wrong)
    return out


def hkdf():
    out = File("HKDF-SHA-256")
    for name in ("rfc-5869-HKDF-SHA256.txt", "hkdf-generated.txt"):
        for r in records("KDF/" + name, "count"):
            if r["hash"] == "SHA-256":
                out.add({"type": "HkdfTest", "keySize": 4 * len(r["ikm"])}, "valid", ikm=r["ikm"], salt=r["salt"],
                        info=r["info"], size=int(r["l"]), okm=r["okm"])
    return out


def x25519():
    out = File("XDH")
    for r in records("asymmetric/X25519/rfc7748.txt", "count"):
        if "input_scalar" in r:
            out.add({"type": "XdhComp", "curve": "curve25519"}, "valid", public=r["input_u"],
                    private=r["input_scalar"], shared=r["output_u"])
    return out


def p256():
    """P: Z is right.  F (1), F (2): the peer's key is not on the curve.  The other F are about this side's own key."""
    out = File("ECDH")
    group = {"type": "EcdhEcpointTest", "curve": "secp256r1", "encoding": "ecpoint"}
    for role in ("init", "resp"):
        for r in records("asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_%s.fax" % role, "count"):
            if not r.get("section", "").startswith("EC -"):
                continue
            verdict = re.match(r"(P|F \((1|2) )", r["result"])
            if verdict:
                out.add(group, "valid" if verdict[1] == "P" else "invalid",
                        public="04" + r["qscavsx"].zfill(64) + r["qscavsy"].zfill(64), private=r["dsiut"].zfill(64),
                        shared=r["z"].zfill(64))
    return out


def main():
    if len(sys.argv) != 2:
        sys.exit("Usage: debian_vectors.py FOLDER")
    for name, made in (("aes_gcm", aes_gcm()), ("chacha20_poly1305", chacha()), ("hmac_sha256", hmac(256)),
                       ("hmac_sha512", hmac(512)), ("hkdf_sha256", hkdf()), ("x25519", x25519()),
                       ("ecdh_secp256r1", p256())):
        made.write(sys.argv[1], name + ".json")


if __name__ == "__main__":
    main()
