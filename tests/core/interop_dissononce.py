#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The engine and dissononce complete handshakes with each other over a pipe: the three patterns of the protocol, its
three suites, both roles, with the late PSK; then they exchange transport messages."""
import os
import signal
import struct
import subprocess
import sys

try:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError:
    print("python3-cryptography is missing: apt-get install python3-cryptography")
    sys.exit(77)
try:
    from dissononce.cipher.aesgcm import AESGCMCipher
    from dissononce.cipher.chachapoly import ChaChaPolyCipher
    from dissononce.dh.dh import DH
    from dissononce.dh.keypair import KeyPair
    from dissononce.dh.private import PrivateKey
    from dissononce.dh.public import PublicKey
    from dissononce.dh.x25519.x25519 import X25519DH
    from dissononce.hash.sha256 import SHA256Hash
    from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
    from dissononce.processing.handshakepatterns.interactive.NN import NNHandshakePattern
    from dissononce.processing.impl.cipherstate import CipherState
    from dissononce.processing.impl.handshakestate import HandshakeState
    from dissononce.processing.impl.symmetricstate import SymmetricState
    from dissononce.processing.modifiers.psk import PSKPatternModifier
except ImportError:
    print("python3-dissononce is missing: apt-get install python3-dissononce")
    sys.exit(77)

INTEROP = os.path.join(os.environ["top_builddir"], "tests", "core", "interop")
PROLOGUE = b"the hello"
SERVER = b"home.example"
TIMEOUT = 120  # seconds for all of it, so that a hang is a failure


class P256DH(DH):
    """Noise has no P-256: public keys as SEC 1 uncompressed points, the result is x (doc/protocol.md, section 3)."""

    def __init__(self):
        super().__init__("P256", 65)

    def generate_keypair(self, privatekey=None):
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key().public_bytes(serialization.Encoding.X962,
                                                   serialization.PublicFormat.UncompressedPoint)
        scalar = private.private_numbers().private_value.to_bytes(32, "big")
        return KeyPair(PublicKey(65, public), PrivateKey(scalar))

    def create_public(self, data):
        return PublicKey(65, bytes(data))

    def dh(self, key_pair, public_key):
        private = ec.derive_private_key(int.from_bytes(key_pair.private.data, "big"), ec.SECP256R1())
        return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(),
                                                                                      public_key.data))


class LatePskState(SymmetricState):
    """Takes an access key where a psk stands, and derives the psk from it and from h at that point."""

    def mix_key_and_hash(self, input_key_material):
        info = (b"chaveiro v1 session\0" + bytes([len(SERVER)]) + SERVER + bytes([len(self._h)]) + self._h)
        psk = HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(input_key_material)
        super().mix_key_and_hash(psk)

    def third_output(self):
        return self._hashfn.hkdf(self._ck, b"", 3)[2]


class Engine:
    """The program under test, spoken to in frames."""

    def __init__(self, name, role, setup):
        self.process = subprocess.Popen([INTEROP, name, role], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for frame in setup:
            self.send(frame)

    def send(self, frame):
        self.process.stdin.write(struct.pack(">H", len(frame)) + bytes(frame))
        self.process.stdin.flush()

    def receive(self):
        head = self.process.stdout.read(2)
        if len(head) < 2:
            raise EOFError("the engine gave up")
        return self.process.stdout.read(struct.unpack(">H", head)[0])

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


def run(pattern, suite, engine_starts, wrong_key=False):
    dh, cipher = suite()
    state = HandshakeState(LatePskState(CipherState(cipher), SHA256Hash()), dh)
    own, engine_key = dh.generate_keypair(), dh.generate_keypair()
    access_key = os.urandom(32)
    keyed = pattern.name.startswith("IK")
    name = f"Noise_{pattern.name}_{dh.name}_{cipher.name}_SHA256"
    # IK: the initiator knows the responder's key beforehand.
    state.initialize(pattern, not engine_starts, PROLOGUE, s=own if keyed else None,
                     rs=engine_key.public if keyed and not engine_starts else None,
                     psks=[access_key] if "psk" in pattern.name else None)
    engine = Engine(name, "initiator" if engine_starts else "responder", (
        PROLOGUE, engine_key.private.data if keyed else b"", own.public.data if keyed and engine_starts else b"",
        os.urandom(32) if wrong_key else access_key, SERVER))
    try:
        ciphers = None
        for message in range(2):
            if (message % 2 == 0) == engine_starts:
                payload = bytearray()
                ciphers = state.read_message(engine.receive(), payload)
                assert payload == f"message {message}".encode(), payload
            else:
                buffer = bytearray()
                ciphers = state.write_message(f"message {message}".encode(), buffer)
                engine.send(buffer)
        result = engine.receive()
        assert result[:32] == state.symmetricstate.get_handshake_hash(), "handshake hashes differ"
        assert result[32:] == state.symmetricstate.third_output(), "third outputs of Split differ"
        to_engine, from_engine = (ciphers[1], ciphers[0]) if engine_starts else ciphers
        for text in (b"", b"one", os.urandom(1000), os.urandom(65535 - 16)):
            engine.send(to_engine.encrypt_with_ad(b"", text))
            assert from_engine.decrypt_with_ad(b"", engine.receive()) == text, "transport text differs"
        status = engine.close()
        assert status == 0, f"the engine exited with {status}"
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
    return name


def main():
    signal.alarm(TIMEOUT)
    patterns = (PSKPatternModifier(2).modify(NNHandshakePattern()), IKHandshakePattern(),
                PSKPatternModifier(2).modify(IKHandshakePattern()))
    suites = (lambda: (X25519DH(), AESGCMCipher()), lambda: (X25519DH(), ChaChaPolyCipher()),
              lambda: (P256DH(), AESGCMCipher()))
    for pattern in patterns:
        for suite in suites:
            for engine_starts in (True, False):
                name = run(pattern, suite, engine_starts)
                print(f"ok: {name}, engine {'initiator' if engine_starts else 'responder'}")
    # Another access key on the engine's side must stop the engine as initiator: message 2 does not open.
    try:
        run(patterns[0], suites[0], True, wrong_key=True)
    except EOFError:
        print("ok: another access key is refused")
    else:
        sys.exit("another access key was taken")


main()
