# SPDX-License-Identifier: Apache-2.0
"""For tests of the service files: a site with it, and a client that sends any record (doc/protocol.md, section 5)."""
import hashlib
import os
import struct
import time

import chv
import rawclient
import store

MIB = 1 << 20
REQUEST, ANSWER = 16, 17
END, DATA = rawclient.END, rawclient.DATA
PART = ".chv-part-"
RECORD = 65280


class FilesSite(chv.Site):
    """A site with [files]; `root` has the homes."""

    def init(self, *extra, root=None, env=None, **settings):
        super().init(*extra)
        self.root = root or self.path("homes")
        os.makedirs(self.root, exist_ok=True)
        self.configure(home=self.root + "/%i", **settings)
        chv.write(self.config, chv.read(self.config).decode() + getattr(self, "sections", ""))
        self.rw = self.add_client("cam1", scopes=["files:rw"])
        return self.start(env=env)

    def section(self, text):
        """Appends a section to the configuration; before init it is one of the first."""
        self.sections = getattr(self, "sections", "") + "\n" + text

    def home(self, name="", key="cam1"):
        return os.path.join(self.root, key, name)

    def parts(self):
        return [n for _, _, names in os.walk(self.root) for n in names if n.startswith(PART)]


def content(size):
    return hashlib.shake_128(b"%d" % size).digest(size)


def refused(done, *texts):
    chv.check_equal(done.stdout, b"", "standard output")
    for text in texts:
        chv.check_in(text, done.stderr, "the error")


def wait_until(what, condition):
    end = time.monotonic() + chv.DEADLINE
    while not condition():
        chv.check(time.monotonic() < end, f"never: {what}")
        time.sleep(0.02)


def big(path, size=4 << 30):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def cbor(value):
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return b"\x1b" + struct.pack(">Q", value)
    if isinstance(value, bytes):
        return b"\x59" + struct.pack(">H", len(value)) + value
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return b"\x79" + struct.pack(">H", len(data)) + data
    return bytes([0xA0 + len(value)]) + b"".join(cbor(k) + cbor(v) for k, v in value.items())


def decode(body, at=0):
    """(value, end) of a CBOR item: numbers, texts, byte strings, maps."""
    major, small = body[at] >> 5, body[at] & 0x1F
    at += 1
    if small >= 24:
        size = 1 << (small - 24)
        small, at = int.from_bytes(body[at:at + size], "big"), at + size
    if major == 5:
        found = {}
        for _ in range(small):
            key, at = decode(body, at)
            found[key], at = decode(body, at)
        return found, at
    if major == 0:
        return small, at
    piece = body[at:at + small]
    return piece.decode() if major == 3 else piece, at + small


class Raw(rawclient.RawClient):
    """A connection that has opened the service files; records of any kind."""

    def __init__(self, site, client_id="cam1", scopes=("files:rw",)):
        cred = store.credential(client_id, sorted(scopes), int(time.time()) + 86400)
        super().__init__(site, cred, store.access_key(rawclient.Keys(site).master, cred))

    def __enter__(self):
        chv.check_equal(self.handshake(), None, "a refusal")
        chv.check_equal(self.open("files"), (200, "ready"), "STATUS")
        return self

    def ask(self, number, op, path, **more):
        self.send_record(REQUEST, cbor({"id": number, "op": op, "path": path, **more}))

    def put(self, path, size, number=1, mode=0o644):
        self.ask(number, "put", path, size=size, mode=mode, mtime=0)

    def part(self):
        """The next record; ANSWER 102 says nothing but that the server lives."""
        while True:
            kind, body = self.read_record()
            told = decode(body)[0] if kind == ANSWER else body
            if kind != ANSWER or told["code"] != 102:
                return kind, told

    def answer(self):
        kind, told = self.part()
        chv.check_equal(kind, ANSWER, f"record of the server ({told})")
        return told

    def stream(self, number, path, code=200):
        """DATA up to END, and the last answer: (content, digest)."""
        pieces = []
        kind, body = self.part()
        while kind == DATA:
            pieces.append(body)
            kind, body = self.part()
        chv.check_equal(kind, END, "the record behind DATA")
        self.check_answer(number, code, path)
        return b"".join(pieces), body

    def get(self, number, path, **more):
        self.ask(number, "get", path, **more)
        told = self.check_answer(number, 206, path)
        return told["size"], *self.stream(number, path)

    def entries(self, number, path):
        """The listing: {name: map}."""
        self.ask(number, "ls", path)
        self.check_answer(number, 206, path)
        content_, found, at = self.stream(number, path)[0], {}, 0
        while at < len(content_):
            entry, end = decode(content_, at + 2)
            chv.check_equal(end - at - 2, struct.unpack(">H", content_[at:at + 2])[0], "length of an entry")
            found[entry.pop("name")] = entry
            at = end
        return found

    def send_file(self, path, data, number=1, records=None, end=True, **more):
        """A put from the start, or of what is behind `offset`; `records`: how many of them."""
        offset = more.get("offset", 0)
        self.ask(number, "put", path, **{"size": len(data), "mode": 0o644, "mtime": 0, **more})
        if "offset" in more:
            self.check_answer(number, 100, path)
        pieces = [data[at:at + RECORD] for at in range(offset, len(data), RECORD)]
        for piece in pieces[:records]:
            self.send_record(DATA, piece)
        if end:
            self.send_record(END, hashlib.sha256(data).digest())

    def store(self, path, data, number=1, **more):
        self.send_file(path, data, number, **more)
        chv.check_equal(self.check_answer(number, 200, path)["sha256"], hashlib.sha256(data).digest(), "digest")

    def check_answer(self, number, code, path=None):
        told = self.answer()
        chv.check_equal((told["id"], told["code"]), (number, code), f"answer {told}")
        if path is not None:
            chv.check_equal(told["path"], path, "path in the answer")
        return told

    def check_ended(self, code=400):
        kind, body = self.read_record()
        chv.check_equal((kind, rawclient.status_of(body)[0]), (rawclient.STATUS, code), "STATUS")
        try:
            chv.check_equal(self.sock.recv(1), b"", "bytes behind STATUS")
        except ConnectionResetError:
            pass
