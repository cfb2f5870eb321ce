# SPDX-License-Identifier: Apache-2.0
"""Sites with two ports, data sides of their own, and tickets that nobody gave (doc/protocol.md, section 7)."""
import os
import re
import struct
import time

import chv
import rawclient
import store
from fakeserver import OPEN, _nonce
from rawclient import AESGCM

TICKET, REDIRECT, CLOSE = 4, 7, 10
DAY = 86400


class PortsSite(chv.Site):
    """A site with a handshake port; `handshake` and `data` (a list) are its addresses once it runs."""

    def init(self, *extra, data="127.0.0.1:0", redirect=None, listen=None, **options):
        done = super().init(*extra, **options)
        if not listen:
            chv.write(self.config, re.sub(r"(?m)^listen = .*\n", "", chv.read(self.config).decode()))
        self.configure(handshake="127.0.0.1:0")
        if data:
            self.configure(data=data)
        if redirect:
            self.configure(redirect=redirect)
        return done

    def start(self, *extra, listening=1, env=None):
        server = super().start(*extra, listening=listening, env=env)
        self.handshake = self.told("for handshakes")[0]
        self.data = self.told("for data")
        self.address = self.handshake
        return server

    def told(self, purpose):
        return re.findall(rf"listening on (\S+) {purpose}\n", self.log())

    def keys(self, *extra, days=10, out="ticket.keys", code=0):
        """The file that keyadmin ticket-keys makes."""
        path = self.path(out)
        done = self.keyadmin("ticket-keys", "--days", str(days), "--out", path, "-c", self.config, "--passphrase-file",
                             self.passphrase_file, *extra, code=code)
        return path if code == 0 else done

    def data_side(self, keys, *sections, name=None, env=None, wait=True, **settings):
        """chaveirod --data-only with that file of keys; (process, address)."""
        folder = chv.folder()
        conf = os.path.join(folder, "data.conf")
        settings = {"name": name or self.name, "data": "127.0.0.1:0", **settings}
        lines = ["[server]", *(f"{key.replace('_', '-')} = {value}" for key, value in settings.items()),
                 "[tickets]", f"keys = {keys}", *sections]
        chv.write(conf, "\n".join(lines) + "\n")
        process = self.spawn("chaveirod", "--data-only", "-v", "-c", conf, env=env)
        process.conf = conf
        if not wait:
            return process, None
        address = process.wait_for(r"listening on (\S+) for data")[0].group(1).decode()
        return process, address


def port_of(address):
    return int(address.rpartition(":")[2])


def read_keys(path):
    """{(epoch, period): key} of a file of ticket keys, and its audience."""
    lines = chv.read(path).decode().splitlines()
    chv.check_equal(lines[0], "chaveiro-ticket-keys 1", "first line of the keys")
    chv.check(lines[1].startswith("audience "), f"second line of the keys: {lines[1]}")
    keys = {}
    for line in lines[2:]:
        word, epoch, period, key = line.split(" ")
        chv.check_equal(word, "key", "the other lines")
        keys[int(epoch), int(period)] = bytes.fromhex(key)
    return keys, lines[1].split(" ", 1)[1]


def _head(epoch, audience, period):
    return struct.pack(">BIB", 1, epoch, len(audience)) + audience.encode() + struct.pack(">Q", period)


def _seal_key(ticket_key, nonce):
    return store.expand(ticket_key, b"chaveiro v1 ticket seal\x00" + nonce)


class Minted:
    """A ticket made with whatever ticket key one has: for any client, with any rights."""

    def __init__(self, ticket_key, audience, client_id="mallory", scopes=("message",), epoch=1, period=None, lifetime=30,
                 number=0x10000):
        now = int(time.time())
        self.number, self.lifetime, self.secret = number, lifetime, os.urandom(32)
        cred = store.credential(client_id, scopes=scopes, not_after=now + 30 * DAY)
        plain = struct.pack(">BBQQ", 1, 1, now + lifetime, now) + os.urandom(16) + struct.pack(">I", number) + self.secret
        plain += struct.pack(">H", len(cred)) + cred + b"\x00\x00"
        plain += struct.pack(">QB", now + 30 * DAY, len(client_id)) + client_id.encode() + bytes([len(scopes)])
        plain += b"".join(bytes([len(s)]) + s.encode() for s in sorted(scopes))
        head = _head(epoch, audience, now // DAY if period is None else period) + os.urandom(32)
        self.bytes = head + AESGCM(_seal_key(ticket_key, head[-32:])).encrypt(_nonce(0), plain, head)


def opens(ticket_key, ticket):
    """What is in a ticket, None: that key does not open it."""
    size = struct.unpack(">B", ticket[5:6])[0]
    head = ticket[:6 + size + 8 + 32]
    try:
        return AESGCM(_seal_key(ticket_key, head[-32:])).decrypt(_nonce(0), ticket[len(head):], head)
    except Exception:  # cryptography's InvalidTag
        return None


def ask_for_service(client, service="message", tickets=0):
    """Handshake and OPEN; what the server sends up to CLOSE or an answer, as (type, body)."""
    chv.check_equal(client.handshake(), None, "handshake")
    plain = rawclient.open_map(service)
    wanted = rawclient._text("tickets") + bytes([tickets]) if tickets else b""
    client.send_record(OPEN, bytes([plain[0] + bool(tickets)]) + plain[1:] + wanted)
    records = []
    while not records or records[-1][0] in (TICKET, REDIRECT):
        records.append(client.read_record())
    return records
