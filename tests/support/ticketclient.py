# SPDX-License-Identifier: Apache-2.0
"""Clients in Python that ask for tickets and come back with them (doc/protocol.md, section 7)."""
import struct

import chv
import rawclient
import store
from fakeserver import OPEN, STATUS

TICKET = 4


class Ticket:
    """What a client keeps: the bytes and, beside them, the secret that its session gave them."""

    def __init__(self, client, told):
        self.bytes, self.number, self.lifetime = told["ticket"], told["number"], told["lifetime"]
        info = b"chaveiro v1 resumption\x00" + bytes([32]) + client.h + struct.pack(">I", self.number)
        self.secret = store.expand(client.keys[2], info)

    def label(self):
        """(epoch, audience, period): what anyone can read of it."""
        epoch, size = struct.unpack(">IB", self.bytes[1:6])
        return epoch, self.bytes[6:6 + size].decode(), struct.unpack(">Q", self.bytes[6 + size:14 + size])[0]


class Asks:
    """Beside a client's class: it asks for tickets."""

    def lineage(self):
        return self.payload[:16].hex()

    def open(self, service="message", tickets=0):
        """Sends OPEN; code and text of STATUS."""
        plain = rawclient.open_map(service)
        wanted = rawclient._text("tickets") + bytes([tickets]) if tickets else b""
        self.send_record(OPEN, bytes([plain[0] + bool(tickets)]) + plain[1:] + wanted)
        kind, body = self.read_record()
        chv.check_equal(kind, STATUS, "first record of the server")
        return rawclient.status_of(body)

    def take_tickets(self, count):
        """What comes behind STATUS 200."""
        self.tickets = []
        for _ in range(count):
            kind, body = self.read_record()
            chv.check_equal(kind, TICKET, "a record behind STATUS")
            self.tickets.append(Ticket(self, rawclient.map_of(body)))
        return self.tickets

    def visit(self, tickets=1, code=200):
        """Handshake, OPEN, tickets, a message, CLOSE; or the refusal in the channel, whose text is in `text`."""
        chv.check_equal(self.handshake(), None, "handshake")
        status, self.text = self.open(tickets=tickets)
        chv.check_equal(status, code, f"STATUS of OPEN ({self.text})")
        if code == 200:
            self.take_tickets(tickets)
            chv.check_equal(self.message(b"ola"), b"message received: 'ola'", "the answer")
            self.close()


class TicketClient(Asks, rawclient.RawClient):
    """`ticket`: it comes back with that one, and its key is not used."""

    def __init__(self, site, cred, access, server=None, address=None, ticket=None):
        super().__init__(site, cred, ticket.secret if ticket else access, server, address)
        self.ticket = ticket

    def prologue(self):
        return rawclient.head(self.ticket.bytes, kind=2) if self.ticket else super().prologue()


class Comer:
    """One who comes with a key at first, and then with tickets."""

    def __init__(self, site, cred=b"", access=b""):
        self.site, self.cred, self.access = site, cred, access

    @classmethod
    def of_key(cls, site, key, label="1.1"):
        """A chv.Key that keyadmin made."""
        opened = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        return cls(site, opened.data[f"credential:{label}"], opened.keys[f"access:{label}"])

    @classmethod
    def of_master(cls, site, master, client_id="cam1", **fields):
        cred = store.credential(client_id, **fields)
        return cls(site, cred, store.access_key(master, cred))

    def connect(self, ticket=None, **where):
        """`where`: server (its name), address."""
        return TicketClient(self.site, self.cred, self.access, ticket=ticket, **where)

    def come(self, ticket=None, tickets=1, code=200, **where):
        """A visit; the client that made it."""
        with self.connect(ticket, **where) as client:
            client.visit(tickets, code)
            return client

    def refused(self, ticket, code=401, **where):
        """In clear, before there are keys."""
        with self.connect(ticket, **where) as client:
            chv.check_equal(client.handshake(), code, "refusal")
