# SPDX-License-Identifier: Apache-2.0
"""A site with files whose first client runs `chaveiro ftp`, and FTP by hand on plain sockets."""
import contextlib
import ftplib
import os
import re
import socket

import chv
from rotate import RotationSite

PART = ".chv-part-"


class FtpSite(RotationSite):
    """`home` is the folder of cam1; `door()` starts its `chaveiro ftp`."""

    def init(self, *extra, scopes=("files:rw",), listen="127.0.0.1:0", **settings):
        super().init(*extra, listen=listen)
        self.homes = self.path("homes")
        os.makedirs(self.homes)
        self.configure(home=self.homes + "/%i", **settings)
        self.key = self.add_client("cam1", scopes=scopes)
        self.sockets = []
        return self.start()

    def __exit__(self, *what):
        for s in getattr(self, "sockets", ()):
            s.close()
        return super().__exit__(*what)

    def home(self, name=""):
        return os.path.join(self.homes, "cam1", name)

    def left(self):
        """Everything in the home, hidden parts too."""
        return sorted(n for _, folders, names in os.walk(self.home()) for n in folders + names)

    def door(self, *extra, listen=("127.0.0.1:0",), to=None, key=None):
        options = [word for address in listen for word in ("--listen", address)]
        door = self.client_start(key or self.key, "ftp", *options, *extra, to=to)
        told = [m[1].decode() for m in door.wait_for(r"listening on (\S+)\n", len(listen), stream="stdout")]
        door.ports = [int(address.rpartition(":")[2]) for address in told if not address.startswith("unix:")]
        door.password = None
        if "--password-file" not in extra:
            door.password = door.wait_for(r"password of this run, for any user name: (\S+)\n", stream="stdout")[0][1].decode()
        return door

    def ftp(self, door, host="127.0.0.1", port=None, passive=True, login=True):
        ftp = ftplib.FTP(encoding="utf-8", timeout=chv.DEADLINE)
        ftp.connect(host, port or door.ports[0])
        self.sockets.append(ftp)
        if login:
            ftp.login("any", door.password)
        ftp.set_pasv(passive)
        return ftp

    def raw(self, door, login=True, host="127.0.0.1", source=None, port=None):
        raw = Raw(host, port or door.ports[0], source)
        self.sockets.append(raw)
        chv.check_in("220 ", raw.reply(), "the greeting")
        if login:
            raw.login(door.password)
        return raw


class Raw:
    """One control connection, a byte at a time if need be."""

    def __init__(self, host, port, source=None):
        if host == "unix":
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(chv.DEADLINE)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection((host, port), timeout=chv.DEADLINE, source_address=source)
        self.have = b""

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def line(self):
        """The next line; b"": the connection is over."""
        while b"\n" not in self.have:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                chv.check_equal(self.have, b"", "half a line at the end")
                return b""
            self.have += piece
        line, _, self.have = self.have.partition(b"\n")
        chv.check(line.endswith(b"\r") and b"\r" not in line[:-1], f"a line without CR LF: {line}")
        return line[:-1]

    def reply(self):
        """The next reply, lines joined; b"": the connection is over."""
        lines = [self.line()]
        if lines[0][3:4] == b"-":
            while not (lines[-1][:4] == lines[0][:3] + b" "):
                lines.append(self.line())
                chv.check(lines[-1] != b"", "a reply that does not end")
        elif lines[0]:
            chv.check(re.match(rb"\d\d\d ", lines[0]), f"no reply: {lines[0]}")
        return b"\n".join(lines)

    def ask(self, command, code):
        self.send(command + ("\r\n" if isinstance(command, str) else b"\r\n"))
        reply = self.reply()
        chv.check_equal(reply[:3].decode(), str(code), f"{command!r}: {reply!r}")
        return reply.decode()

    def login(self, password):
        self.ask("USER any", 331)
        self.ask(f"PASS {password}", 230)
        self.ask("TYPE I", 200)

    def passive_port(self):
        return int(re.search(r"\(\|\|\|(\d+)\|\)", self.ask("EPSV", 229))[1])

    def passive(self, host="127.0.0.1", source=None):
        """A data connection that is there."""
        return socket.create_connection((host, self.passive_port()), timeout=chv.DEADLINE, source_address=source)

    def over(self):
        """Nothing more comes."""
        chv.check_equal(self.line(), b"", "what comes after the end")


def read_all(data):
    """Bytes until the end, and whether that was a reset."""
    got = bytearray()
    with data:
        while True:
            try:
                piece = data.recv(1 << 16)
            except ConnectionResetError:
                return bytes(got), True
            if not piece:
                return bytes(got), False
            got += piece


@contextlib.contextmanager
def refused(code, *texts):
    """The FTP command inside is refused with this code."""
    try:
        yield
    except (ftplib.error_perm, ftplib.error_temp) as e:
        chv.check_equal(str(e)[:3], str(code), f"refused: {e}")
        for text in texts:
            chv.check_in(text, str(e), "the reply")
        return
    raise chv.Failure(f"was not refused with {code}")
