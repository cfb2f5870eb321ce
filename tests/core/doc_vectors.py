# SPDX-License-Identifier: Apache-2.0
"""The worked vectors of doc/protocol.md, computed from the document's rules alone, without any code of the library.

    doc_vectors.py                 compares the document's blocks with what is computed here
    doc_vectors.py --write FILE    puts what is computed here into the document

A block is fenced by ```vector NAME and ```; a line is `name = value`, hexadecimal unless it is in quotes or a decimal number;
a line that begins with spaces goes on with the value before.
"""
import hashlib
import hmac
import os
import re
import struct
import sys

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, x25519
    from cryptography.hazmat.primitives.ciphers import aead
except ImportError:
    print("python3-cryptography is not installed")
    sys.exit(77)

# --- what is given ------------------------------------------------------------------------------------------------------


def pattern_bytes(start, n=32):
    return bytes((start + i) & 0xff for i in range(n))


MASTER = pattern_bytes(0x00)
MASTER_2 = pattern_bytes(0x20)
SERVER = b"example-server"
NOT_AFTER = 1798761600  # 2027-01-01 00:00:00 UTC
CLIENT_EPHEMERAL = pattern_bytes(0x40)
SERVER_EPHEMERAL = pattern_bytes(0x60)
CLIENT_IDENTITY = pattern_bytes(0x80)
SERVER_IDENTITY = pattern_bytes(0xa0)
LINEAGE = pattern_bytes(0xc0, 16)
RESUMED_CLIENT_EPHEMERAL = pattern_bytes(0x48)
RESUMED_SERVER_EPHEMERAL = pattern_bytes(0x68)
TICKET_NONCE = pattern_bytes(0xd0)
TICKET_SECONDS = 3600
SERVER_TIME = 1767225600  # 2026-01-01 00:00:00 UTC
IDLE_SECONDS = 300
EXPORTER_LABEL = b"example"
EXPORTER_CONTEXT = b"context"
OPEN_BODY = b"\xa1\x67service\x67message"  # CBOR {"service": "message"}
STATUS_BODY = b"\xa2\x64code\x18\xc8\x64text\x62OK"  # CBOR {"code": 200, "text": "OK"}
DATA_BODY = b"ola"

PROFILES = {"psk": (1, "NNpsk2"), "key+psk": (3, "IKpsk2")}
SUITES = {
    "x25519-aesgcm-sha256": (1, "25519", "AESGCM"),
    "x25519-chachapoly-sha256": (2, "25519", "ChaChaPoly"),
    "p256-aesgcm-sha256": (3, "P256", "AESGCM"),
}
PATTERNS = {
    "NNpsk2": ([], [["e"], ["e", "ee", "psk"]]),
    "IKpsk2": (["s"], [["e", "es", "s", "ss"], ["e", "ee", "se", "psk"]]),
}

# --- section 2: keys ----------------------------------------------------------------------------------------------------


def expand(prk, info):
    """HKDF-Expand, SHA-256, L = 32: RFC 5869, 2.3, one block."""
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def info_of(label, *fields):
    return label.encode() + b"\x00" + b"".join(fields)


def u8(data):
    return struct.pack(">B", len(data)) + data


def u16(data):
    return struct.pack(">H", len(data)) + data


def credential(profile, client_id, scopes, identity_hash=b"", epoch=1):
    scopes = sorted(scopes)
    return (struct.pack(">BBIIQ", 1, profile, epoch, 1, NOT_AFTER) + u8(client_id) + u8(identity_hash) +
            struct.pack(">B", len(scopes)) + b"".join(u8(s) for s in scopes))


# --- the Noise Protocol Framework, revision 34 --------------------------------------------------------------------------


class Dh25519:
    number = 0

    def __init__(self, private):
        self.key = x25519.X25519PrivateKey.from_private_bytes(private)
        self.public = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def dh(self, public):
        return self.key.exchange(x25519.X25519PublicKey.from_public_bytes(public))


class DhP256:
    number = 1

    def __init__(self, private):
        self.key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
        self.public = self.key.public_key().public_bytes(serialization.Encoding.X962,
                                                         serialization.PublicFormat.UncompressedPoint)

    def dh(self, public):
        return self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public))


DH = {"25519": Dh25519, "P256": DhP256}


def seal(cipher, key, n, ad, plain):
    """ENCRYPT of section 12: AESGCM has the counter big-endian, ChaChaPoly little-endian."""
    if cipher == "AESGCM":
        return aead.AESGCM(key).encrypt(b"\0\0\0\0" + struct.pack(">Q", n), plain, ad)
    return aead.ChaCha20Poly1305(key).encrypt(b"\0\0\0\0" + struct.pack("<Q", n), plain, ad)


class Symmetric:
    """Section 5.2, the writing half: both messages are made with the writer's knowledge."""

    def __init__(self, name, cipher):
        self.cipher = cipher
        self.h = name + bytes(32 - len(name)) if len(name) <= 32 else hashlib.sha256(name).digest()
        self.ck, self.key, self.n = self.h, None, 0

    def hkdf(self, material, count):
        temp = hmac.new(self.ck, material, hashlib.sha256).digest()
        outputs, last = [], b""
        for i in range(1, count + 1):
            last = hmac.new(temp, last + bytes([i]), hashlib.sha256).digest()
            outputs.append(last)
        return outputs

    def mix_hash(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, material):
        self.ck, self.key = self.hkdf(material, 2)
        self.n = 0

    def mix_key_and_hash(self, material):
        self.ck, temp, self.key = self.hkdf(material, 3)
        self.n = 0
        self.mix_hash(temp)

    def encrypt_and_hash(self, plain):
        sealed = plain
        if self.key is not None:
            sealed = seal(self.cipher, self.key, self.n, self.h, plain)
            self.n += 1
        self.mix_hash(sealed)
        return sealed


def handshake(name, pattern, cipher, prologue, keys, psk_of, payloads):
    """keys: {"client e", "server e", "client s", "server s"}; psk_of(h) answers the psk token.  The messages, and the state."""
    state = Symmetric(name, cipher)
    state.mix_hash(prologue)
    pre, messages = PATTERNS[pattern]
    if pre:
        state.mix_hash(keys["server s"].public)
    sent, asked = [], []
    for i, tokens in enumerate(messages):
        me = "client" if i == 0 else "server"
        out = b""
        for token in tokens:
            if token == "e":
                out += keys[f"{me} e"].public
                state.mix_hash(keys[f"{me} e"].public)
                if "psk" in pattern:
                    state.mix_key(keys[f"{me} e"].public)
            elif token == "s":
                out += state.encrypt_and_hash(keys[f"{me} s"].public)
            elif token == "psk":
                asked.append(state.h)
                state.mix_key_and_hash(psk_of(state.h))
            else:  # two letters: the initiator's key, the responder's
                state.mix_key(keys[f"client {token[0]}"].dh(keys[f"server {token[1]}"].public))
        sent.append(out + state.encrypt_and_hash(payloads[i]))
    return sent, state, asked


# --- sections 4 and 5: frames -------------------------------------------------------------------------------------------


def record(cipher, key, n, kind, body):
    return u16(seal(cipher, key, n, b"", bytes([kind]) + body))


def rekey(cipher, key):
    return seal(cipher, key, 2**64 - 1, b"", bytes(32))[:32]


def text(value):
    return '"' + value.decode() + '"'


def keys_block():
    plain = credential(1, b"cam1", [b"message", b"files:ro"])
    access = expand(MASTER, info_of("chaveiro v1 access", u16(plain)))
    return "keys", [
        ("master", MASTER),
        ("master_check", expand(MASTER, info_of("chaveiro v1 check"))[:16]),
        ("credential", plain),
        ("access_info", info_of("chaveiro v1 access", u16(plain))),
        ("access_key", access),
        ("access_check", expand(access, info_of("chaveiro v1 check"))[:4]),
    ]


def update_block():
    """Section 8: the session is that of psk-x25519-aesgcm-sha256, its h_fin is here what that block has."""
    h_fin = dict(handshake_block("psk", "x25519-aesgcm-sha256")[1])["h_fin"]
    scopes = [b"message", b"files:ro"]
    old, new = credential(1, b"cam1", scopes), credential(1, b"cam1", scopes, epoch=2)
    old_access = expand(MASTER, info_of("chaveiro v1 access", u16(old)))
    new_access = expand(MASTER_2, info_of("chaveiro v1 access", u16(new)))
    info = info_of("chaveiro v1 update", u8(SERVER), u8(h_fin), u16(old), u16(new))
    key = expand(old_access, info)
    return "key-update", [
        ("server", text(SERVER)),
        ("h_fin", h_fin),
        ("old_credential", old),
        ("old_access_key", old_access),
        ("new_master", MASTER_2),
        ("new_credential", new),
        ("new_access_key", new_access),
        ("update_info", info),
        ("update_key", key),
        ("key_update_body", u16(new) + aead.AESGCM(key).encrypt(bytes(12), new_access, b"")),
    ]


def ticket_block():
    """Section 7: the ticket 0 of the session of psk-x25519-aesgcm-sha256, for coming back to the server itself."""
    session = dict(handshake_block("psk", "x25519-aesgcm-sha256")[1])
    audience, period, number = SERVER, SERVER_TIME // 86400, 0
    ticket_info = info_of("chaveiro v1 ticket", u8(audience), struct.pack(">Q", period))
    ticket_key = expand(MASTER, ticket_info)
    seal_key = expand(ticket_key, info_of("chaveiro v1 ticket seal", TICKET_NONCE))
    resumption_info = info_of("chaveiro v1 resumption", u8(session["h_fin"]), struct.pack(">I", number))
    secret = expand(session["exporter_secret"], resumption_info)
    scopes = sorted([b"message", b"files:ro"])
    rights = struct.pack(">Q", NOT_AFTER) + u8(b"cam1") + bytes([len(scopes)]) + b"".join(u8(s) for s in scopes)
    plain = (struct.pack(">BBQQ", 1, 1, SERVER_TIME + TICKET_SECONDS, SERVER_TIME) + LINEAGE + struct.pack(">I", number) +
             secret + u16(session["credential"]) + bytes([0]) + u8(b"") + rights)
    clear = struct.pack(">BI", 1, 1) + u8(audience) + struct.pack(">Q", period) + TICKET_NONCE
    return "ticket", [
        ("master", MASTER),
        ("epoch", 1),
        ("audience", text(audience)),
        ("period", period),
        ("ticket_info", ticket_info),
        ("ticket_key", ticket_key),
        ("nonce", TICKET_NONCE),
        ("seal_key", seal_key),
        ("h_fin", session["h_fin"]),
        ("exporter_secret", session["exporter_secret"]),
        ("number", number),
        ("resumption_info", resumption_info),
        ("resumption_secret", secret),
        ("not_after", SERVER_TIME + TICKET_SECONDS),
        ("auth_time", SERVER_TIME),
        ("lineage", LINEAGE),
        ("credential", session["credential"]),
        ("rights", rights),
        ("plaintext", plain),
        ("ticket", clear + aead.AESGCM(seal_key).encrypt(bytes(12), plain, clear)),
    ]


def resumed_block():
    """The session that comes back with that ticket."""
    issued = dict(ticket_block()[1])
    suite_number, curve, cipher = SUITES["x25519-aesgcm-sha256"]
    name = f"Noise_NNpsk2_{curve}_{cipher}_SHA256".encode()
    keys = {"client e": DH[curve](RESUMED_CLIENT_EPHEMERAL), "server e": DH[curve](RESUMED_SERVER_EPHEMERAL)}
    prologue = b"CHV" + bytes([1, 1, suite_number, 2, 0]) + u16(issued["ticket"])
    payload2 = LINEAGE + struct.pack(">QH", SERVER_TIME + 60, IDLE_SECONDS)

    def psk_of(h):
        return expand(issued["resumption_secret"], info_of("chaveiro v1 session", u8(SERVER), u8(h)))

    (message1, message2), state, (h_psk,) = handshake(name, "NNpsk2", cipher, prologue, keys, psk_of, (b"", payload2))
    to_server, to_client, exporter = state.hkdf(b"", 3)
    return "resumed-x25519-aesgcm-sha256", [
        ("protocol_name", text(name)),
        ("server", text(SERVER)),
        ("credential", issued["credential"]),
        ("ticket", issued["ticket"]),
        ("resumption_secret", issued["resumption_secret"]),
        ("client_ephemeral_private", RESUMED_CLIENT_EPHEMERAL),
        ("server_ephemeral_private", RESUMED_SERVER_EPHEMERAL),
        ("lineage", LINEAGE),
        ("server_time", SERVER_TIME + 60),
        ("idle_seconds", IDLE_SECONDS),
        ("hello", u16(prologue + message1)),
        ("h_psk", h_psk),
        ("session_psk", psk_of(h_psk)),
        ("reply", u16(b"\x00" + message2)),
        ("h_fin", state.h),
        ("key_client_to_server", to_server),
        ("key_server_to_client", to_client),
        ("exporter_secret", exporter),
        ("resumption_secret_0", expand(exporter, info_of("chaveiro v1 resumption", u8(state.h), bytes(4)))),
    ]


def handshake_block(profile, suite):
    profile_number, pattern = PROFILES[profile]
    suite_number, curve, cipher = SUITES[suite]
    name = f"Noise_{pattern}_{curve}_{cipher}_SHA256".encode()
    dh = DH[curve]
    keys = {"client e": dh(CLIENT_EPHEMERAL), "server e": dh(SERVER_EPHEMERAL),
            "client s": dh(CLIENT_IDENTITY), "server s": dh(SERVER_IDENTITY)}
    identity = b""
    if profile == "key+psk":
        identity = hashlib.sha256(info_of("chaveiro v1 identity", bytes([dh.number]), keys["client s"].public)).digest()
    claimed = credential(profile_number, b"cam1", [b"message", b"files:ro"], identity)
    access = expand(MASTER, info_of("chaveiro v1 access", u16(claimed)))

    in_clear = claimed if profile == "psk" else b""
    kind = 1 if profile == "psk" else 0
    prologue = b"CHV" + bytes([1, profile_number, suite_number, kind, 0]) + u16(in_clear)
    payload1 = b"" if profile == "psk" else claimed + bytes(512 - len(claimed))
    payload2 = LINEAGE + struct.pack(">QH", SERVER_TIME, IDLE_SECONDS)

    def psk_of(h):
        return expand(access, info_of("chaveiro v1 session", u8(SERVER), u8(h)))

    (message1, message2), state, (h_psk,) = handshake(name, pattern, cipher, prologue, keys, psk_of, (payload1, payload2))
    to_server, to_client, exporter = state.hkdf(b"", 3)
    values = [("protocol_name", text(name)), ("server", text(SERVER)), ("credential", claimed), ("access_key", access)]
    if profile == "key+psk":
        values += [("client_identity_private", CLIENT_IDENTITY), ("client_identity_public", keys["client s"].public),
                   ("server_identity_private", SERVER_IDENTITY), ("server_identity_public", keys["server s"].public)]
    return f"{profile}-{suite}", values + [
        ("client_ephemeral_private", CLIENT_EPHEMERAL),
        ("server_ephemeral_private", SERVER_EPHEMERAL),
        ("lineage", LINEAGE),
        ("server_time", SERVER_TIME),
        ("idle_seconds", IDLE_SECONDS),
        ("hello", u16(prologue + message1)),
        ("h_psk", h_psk),
        ("session_psk", psk_of(h_psk)),
        ("reply", u16(b"\x00" + message2)),
        ("h_fin", state.h),
        ("key_client_to_server", to_server),
        ("key_server_to_client", to_client),
        ("exporter_secret", exporter),
        ("exporter_label", text(EXPORTER_LABEL)),
        ("exporter_context", EXPORTER_CONTEXT),
        ("exporter_value", expand(exporter, info_of("chaveiro v1 exporter", u8(state.h), u8(EXPORTER_LABEL),
                                                    u16(EXPORTER_CONTEXT)))),
        ("open_body", OPEN_BODY),
        ("open_record", record(cipher, to_server, 0, 2, OPEN_BODY)),
        ("status_body", STATUS_BODY),
        ("status_record", record(cipher, to_client, 0, 3, STATUS_BODY)),
        ("data_body", DATA_BODY),
        ("data_record", record(cipher, to_server, 1, 0, DATA_BODY)),
        ("rekeyed_client_to_server", rekey(cipher, to_server)),
    ]


# --- the document -------------------------------------------------------------------------------------------------------


def lines_of(values):
    for name, value in values:
        if isinstance(value, bytes):
            value = value.hex()
        shown = str(value)
        yield f"{name} = {shown[:64]}".rstrip()
        for at in range(64, len(shown), 64):
            yield "    " + shown[at:at + 64]


def blocks():
    yield keys_block()
    for suite in SUITES:
        yield handshake_block("psk", suite)
    yield handshake_block("key+psk", "x25519-aesgcm-sha256")
    yield update_block()
    yield ticket_block()
    yield resumed_block()


def main():
    write = sys.argv[1:2] == ["--write"]
    path = sys.argv[2] if write else os.path.join(os.environ.get("top_srcdir", "."), "doc", "protocol.md")
    with open(path, encoding="utf-8") as f:
        document = f.read()
    passed = failed = 0
    for name, values in blocks():
        wanted = "\n".join(lines_of(values)) + "\n"
        opening = f"```vector {name}\n"
        fence = re.compile(r"^" + re.escape(opening) + r"(.*?)^```$", re.S | re.M)
        found = fence.findall(document)
        if write:
            document = fence.sub(lambda _, text=opening + wanted + "```": text, document)
        if found == [wanted]:
            print(f"ok {name}")
            passed += 1
        else:
            what = f"{len(found)} blocks of that name" if len(found) != 1 else "another content"
            print(f"not ok {name}: {path} has {what}")
            failed += 1
    names = re.findall(r"^```vector (\S+)$", document, re.M)
    unknown = sorted(set(names) - {name for name, _ in blocks()})
    print(f"{'not ok' if unknown else 'ok'} every block of the document is computed here {unknown or ''}".rstrip())
    passed, failed = passed + (not unknown), failed + bool(unknown)
    if write:
        with open(path, "w", encoding="utf-8") as f:
            f.write(document)
        return 0
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
