#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tickets at the server: given, taken without the keystore, and refused where their client is."""
import os
import re
import shutil
import signal
import time

import chv
import clock
import faulty
import identityclient
import rawclient
import store
from client_life import Fleet
from fakeserver import DATA, END, OPEN
from identity_site import allow, line_of, new_key, serve_all, server_pub
from rotate import RotationSite
from ticketclient import TICKET, Asks, Comer, Ticket

DAY, KEY_UPDATE = 86400, 5
LOOKED_AT = ("C_Sign", "C_SignInit", "C_DeriveKey", "C_OpenSession", "C_FindObjectsInit", "C_Login")


class Gate(chv.Site):
    """A site with a client that knows about tickets."""

    def __init__(self, name="gate", **settings):
        super().__init__(name)
        self.settings = {"workers": "1", **settings}  # each loop hears of what is new for itself: some time

    def __enter__(self):
        store.need()
        super().__enter__()
        self.init()
        self.configure(**self.settings)
        self.master = rawclient.Keys(self).master
        self.comer = Comer.of_master(self, self.master, not_after=int(time.time()) + 30 * DAY)
        return self

    def start(self, *extra, **options):
        return super().start("-v", *extra, **options)

    def reload(self, **settings):
        before = self.server.stderr.count(b"configuration loaded")
        self.configure(**settings)
        self.server.signal(signal.SIGHUP)
        self.server.wait_for("configuration loaded", before + 1)


def gives(comer, ticket=None, code=200, **where):
    """One more ticket."""
    return comer.come(ticket, code=code, **where).tickets[0]


def sooner_or_later(act, what):
    """What comes from another process after a while."""
    end = time.monotonic() + chv.DEADLINE
    while not act():
        chv.check(time.monotonic() < end, what)
        time.sleep(0.02)


# --- given and taken ----------------------------------------------------------------------------------------------------


def test_a_session_is_resumed():
    with Gate(workers="2") as gate:
        gate.start()
        first = gate.comer.come(tickets=3)
        chv.check_equal([t.number for t in first.tickets], [0, 1, 2], "numbers")
        chv.check_equal(len({t.bytes for t in first.tickets}), 3, "different tickets")
        for ticket in first.tickets:
            chv.check_equal(ticket.label()[:2], (1, "gate"), "epoch and audience")
            chv.check_equal(ticket.lifetime, DAY, "lifetime")
        again = gate.comer.come(first.tickets[2], tickets=2)
        chv.check_equal(again.lineage(), first.lineage(), "lineage")
        third = gate.comer.come(again.tickets[1])
        chv.check_equal(third.lineage(), first.lineage(), "lineage across renewals")
        chv.check(gate.comer.come().lineage() != first.lineage(), "another full handshake has another lineage")
        gate.server.wait_for(rf"client 'cam1': began a session: lineage {first.lineage()}, full handshake at")
        gate.server.wait_for(rf"client 'cam1': resumed a session: lineage {first.lineage()}, full handshake at", 2)
        gate.server.wait_for(r"opened service 'message' \(resumed\)", 2)
        chv.check_equal(gate.server.stderr.count(b"opened service 'message'\n"), 2, "full handshakes in the log")


def test_as_many_as_are_asked_for():
    with Gate() as gate:
        gate.start()
        for count in (0, 1, 8):
            chv.check_equal(len(gate.comer.come(tickets=count).tickets), count, "tickets")
        gate.comer.come(tickets=9, code=400)


def test_off():
    """None are given, and those that there are taken no more; then on again."""
    with Gate() as gate:
        gate.start()
        ticket = gives(gate.comer)
        gate.reload(tickets="off")

        def none():
            with gate.comer.connect() as client:
                chv.check_equal((client.handshake(), client.open(tickets=8)[0]), (None, 200), "a full handshake")
                client.send_record(DATA, b"x")
                client.send_record(END)
                return client.read_record()[0] != TICKET

        sooner_or_later(none, "no tickets")
        gate.comer.refused(ticket)
        gate.server.wait_for("refused 401: tickets are off")
        gate.reload(tickets="on")
        sooner_or_later(lambda: not none(), "tickets again")
        gate.comer.come(ticket)


def test_a_stolen_ticket_is_worth_nothing_without_its_secret():
    with Gate() as gate:
        gate.start()
        ticket = gives(gate.comer)
        secret, ticket.secret = ticket.secret, bytes(32)
        with gate.comer.connect(ticket) as client:
            try:
                client.handshake()
            except identityclient.InvalidTag:
                pass
            else:
                raise chv.Failure("message 2 opened with another secret")
            client.keys = (bytes(32), bytes(32))
            client.send_record(OPEN, rawclient.open_map())
            chv.check_equal(client.sock.recv(1), b"", "the end")
        gate.server.wait_for("claimed client 'cam1': OPEN does not open")
        ticket.secret = secret
        gate.comer.come(ticket)


def test_forged_tickets():
    with Gate() as gate:
        gate.start()
        ticket = gives(gate.comer)
        true = ticket.bytes
        for at in (0, 1, 4, 5, 6, 10, 17, 18, 60, len(true) - 1):
            ticket.bytes = true[:at] + bytes([true[at] ^ 1]) + true[at + 1:]
            gate.comer.refused(ticket)
        for made in (true[:-1], true + b"\0", true[:30], b"\1", bytes(1536)):
            ticket.bytes = made
            gate.comer.refused(ticket)
        ticket.bytes = true
        gate.comer.come(ticket)


def test_limits_are_as_ever():
    """Connections of one client, counted at OPEN as after a full handshake."""
    with Gate(client_connections="1") as gate:
        gate.start()
        tickets = gate.comer.come(tickets=2).tickets
        with gate.comer.connect(tickets[0]) as client:
            chv.check_equal((client.handshake(), client.open()[0]), (None, 200), "the first one")
            gate.comer.come(tickets[1], code=429)
            client.close()


# --- whose tickets ------------------------------------------------------------------------------------------------------


def test_a_restart_keeps_tickets_good():
    with Gate() as gate:
        gate.start()
        ticket = gives(gate.comer)
        for _ in range(3):
            gate.stop()
            gate.start()
            ticket = gives(gate.comer, ticket)
        chv.check_not_in(b"refused 401", gate.server.stderr, "the log of the last one")


def test_after_another_net_process_or_keeper():
    """A process that was killed has no keys to leave behind: those of the next one are the same."""
    with Gate(passphrase_file="server.pass") as gate:
        shutil.copy(gate.passphrase_file, os.path.join(gate.store, "server.pass"))
        gate.start()
        ticket = gives(gate.comer)
        for name in ("net", "keeper"):
            os.kill(chv.process_named(gate.server.pid, f"chv-{name}"), signal.SIGKILL)
            gate.server.wait_for(f"the {name} process serves again")
            ticket = gives(gate.comer, ticket)


class Twin:
    """Another server with the same master; `name`: of another server name."""

    def __init__(self, gate, name=None, **settings):
        self.site = chv.Site(name or gate.name)
        shutil.copytree(gate.store, self.site.store)
        shutil.copy(gate.passphrase_file, self.site.passphrase_file)
        if name:
            keys = os.path.join(self.site.store, "server.keys")
            opened = store.Store(keys, store.passphrase_of(gate.passphrase_file))
            opened.data["server"] = name.encode()
            opened.write(keys)
            self.site.configure(name=name)
        self.site.configure(**settings)

    def __enter__(self):
        self.site.__enter__()
        self.site.start("-v")
        return self.site

    def __exit__(self, *details):
        self.site.__exit__(*details)


def test_every_server_of_the_name_takes_them():
    with Gate(workers="2") as gate, Twin(gate) as twin:
        gate.start()
        ticket = gives(gate.comer)
        for address in (twin.address, gate.address, twin.address):
            ticket = gives(gate.comer, ticket, address=address)
        twin.server.wait_for(r"opened service 'message' \(resumed\)", 2)


def test_no_other_server_takes_them():
    with Gate() as gate, Twin(gate, "other") as other:
        gate.start()
        mine, theirs = gives(gate.comer), gives(gate.comer, server="other", address=other.address)
        gate.comer.refused(mine, address=other.address)
        gate.comer.refused(theirs)
        other.server.wait_for("refused 401: the ticket is for another audience")
        gate.comer.come(mine)
        # nor one of the same name with another master
        with Gate() as stranger:
            stranger.start()
            gate.comer.refused(gives(gate.comer), address=stranger.address)
            stranger.server.wait_for("refused 401: the ticket does not open")


def test_a_fleet_of_several_names():
    with Gate(audience="fleet1") as gate, Twin(gate, "other") as other, Twin(gate, "third", audience="fleet2") as third:
        gate.start()
        ticket = gives(gate.comer)
        chv.check_equal(ticket.label()[1], "fleet/fleet1", "audience")
        # the session stays bound to the name that the client means
        with gate.comer.connect(ticket, address=other.address) as client:
            try:
                client.handshake()
            except identityclient.InvalidTag:
                pass
            else:
                raise chv.Failure("a server of another name proved that it is 'gate'")
        ticket = gives(gate.comer, ticket, server="other", address=other.address)
        gate.comer.refused(ticket, server="third", address=third.address)
        gate.comer.come(ticket)


# --- the keystore is not asked ------------------------------------------------------------------------------------------


class Tokened(faulty.FaultySite):
    """A site whose master is in a token, with a client."""

    def __enter__(self):
        store.need()
        super().__enter__()
        self.init()
        self.configure(workers="2")
        self.start("-v")
        self.comer = Comer.of_key(self, self.add_client("cam1"))
        return self

    def full_is_told(self, code):
        with self.comer.connect() as client:
            chv.check_equal(client.handshake(), code, "a full handshake")


def test_no_keystore_call():
    with Tokened() as site:
        ticket = gives(site.comer)
        before = {call: site.tokens.calls(call) for call in LOOKED_AT}
        for _ in range(10):
            ticket = gives(site.comer, ticket)
        chv.check_equal({call: site.tokens.calls(call) for call in LOOKED_AT}, before, "calls of ten resumed sessions")
        site.comer.come()
        chv.check(site.tokens.calls("C_Sign") > before["C_Sign"], "a full handshake signs")


def test_a_token_that_cannot_be_reached_is_no_outage():
    with Tokened() as site:
        ticket = gives(site.comer)
        for call in ("C_Sign", "C_SignInit", "C_OpenSession", "C_Login"):
            site.tokens.fail(call, "CKR_DEVICE_REMOVED")
        site.full_is_told(503)
        for _ in range(3):
            ticket = gives(site.comer, ticket)
        site.full_is_told(503)
        # nor is a keeper that dies and does not come up again
        os.kill(chv.process_named(site.server.pid, "chv-keeper"), signal.SIGKILL)
        site.server.wait_for("the keeper process (ended|was killed)")
        for _ in range(3):
            ticket = gives(site.comer, ticket)
        site.full_is_told(503)
        site.tokens.heal()
        sooner_or_later(lambda: site.comer.connect().handshake() is None, "full handshakes again")
        site.comer.come(ticket)


# --- the real client ----------------------------------------------------------------------------------------------------


def test_the_program_comes_back():
    """The first run does a full handshake, the others need no keystore; a ticket that is not taken costs one more."""
    with Tokened() as site:
        key, file = site.add_client("cam2"), site.path("tickets")

        def send():
            return site.client(key, "-v", "--tickets", file, "send", "ola")

        def count(text):
            return site.server.stderr.count(text)

        told = [send()]
        signs = site.tokens.calls("C_Sign")
        site.tokens.fail("C_Sign", "CKR_DEVICE_REMOVED")
        told += [send(), send()]
        site.tokens.heal()
        chv.check(signs > 0 and count(b"client 'cam2': began a session") == 1, "one full handshake")
        site.server.wait_for(r"client 'cam2': opened service 'message' \(resumed\)", 2)
        lineages = set(re.findall(rb"client 'cam2': (?:began|resumed) a session: lineage ([0-9a-f]{32})", site.server.stderr))
        lineages |= {lineage for done in told for lineage in re.findall(rb"lineage ([0-9a-f]{32})", done.stderr)}
        chv.check_equal(len(lineages), 1, "lineages in the logs of both sides")
        site.configure(tickets="off")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded")
        sooner_or_later(lambda: send() and count(b"refused 401") > 0, "tickets are off")
        chv.check_equal(count(b"client 'cam2': began a session"), 2, "one full handshake for one 401")


# --- who is refused -----------------------------------------------------------------------------------------------------


def test_the_registry_is_asked_at_each_use():
    """A valid ticket of one who was denied meanwhile: told why, in the channel."""
    with Fleet() as fleet:
        store.need()
        names = ("revoked", "suspended", "removed", "narrowed", "leaked", "kept")
        for name in names:
            fleet.add(name, "--scope", "message", "--scope", "files:ro")
        fleet.site.start("-v")
        comers = {name: Comer.of_key(fleet.site, chv.Key(name, fleet.path(f"{name}.key"), fleet.passphrase))
                  for name in names}
        tickets = {name: comer.come(tickets=2).tickets for name, comer in comers.items()}
        fleet.state("revoke", "revoked", "--reason", "stolen")
        fleet.state("suspend", "suspended")
        fleet.state("remove", "removed")
        fleet.state("set-scopes", "narrowed", "files:ro")
        fleet.reissue("leaked", "leaked.new", "--leaked")
        for name, text in (("revoked", "client is revoked: stolen"), ("suspended", "client is suspended"),
                           ("removed", "client was removed"), ("leaked", "credential is superseded"),
                           ("narrowed", "in the registry this client has no scope 'message'")):
            chv.check_in(text, comers[name].come(tickets[name][0], code=403).text, f"{name}: what it is told")
        comers["kept"].come(tickets["kept"][0])
        fleet.state("resume", "suspended")
        comers["suspended"].come(tickets["suspended"][1])


def test_reissued():
    """The old credential's ticket is good until the new one was seen."""
    with Fleet() as fleet:
        store.need()
        fleet.add("cam1", "--scope", "message")
        fleet.site.start("-v")
        old = Comer.of_key(fleet.site, chv.Key("cam1", fleet.path("cam1.key"), fleet.passphrase))
        first, second = old.come(tickets=2).tickets
        fleet.reissue("cam1", "cam1.new")
        old.come(first)
        new = Comer.of_key(fleet.site, chv.Key("cam1", fleet.path("cam1.new"), fleet.passphrase), "1.2")
        ticket = gives(new)
        chv.check_in("credential is older than one that was used already", old.come(second, code=403).text, "what the old one is told")
        new.come(ticket)


def test_a_ticket_ends_with_its_credential():
    with Gate(max_lifetime="0") as gate:
        time_to_go = clock.Clock(gate.folder)
        gate.start(env=time_to_go.env)
        short = Comer.of_master(gate, gate.master, "short", not_after=int(time.time()) + 3600)
        ticket, other = gives(short), gives(gate.comer)
        chv.check(3500 < ticket.lifetime <= 3600, f"lifetime {ticket.lifetime}")
        time_to_go.shift(3601)
        short.refused(ticket)
        gate.server.wait_for("refused 401: the ticket has ended")
        chv.check_in("credential expired", short.come(code=403).text, "a full handshake")
        gate.comer.come(other)


def test_the_servers_rules_are_applied_at_each_use():
    with Gate(max_lifetime="90d") as gate:
        gate.start()
        first, second = gate.comer.come(tickets=2).tickets
        gate.reload(max_lifetime="10d")
        sooner_or_later(lambda: _status(gate.comer, first) == 403, "the new limit")
        chv.check_in("lives longer than this server allows", gate.comer.come(first, code=403).text, "what is told")
        gate.reload(max_lifetime="60d")
        sooner_or_later(lambda: _status(gate.comer, second) == 200, "the limit is gone")


def _status(comer, ticket):
    """The STATUS of a resumed session."""
    with comer.connect(ticket) as client:
        chv.check_equal(client.handshake(), None, "handshake")
        return client.open()[0]


def test_seven_days():
    with Gate(max_lifetime="0") as gate:
        days = clock.Clock(gate.folder)
        gate.comer = Comer.of_master(gate, gate.master)
        gate.start(env=days.env)
        ticket = gives(gate.comer)
        for hours in range(20, 7 * 24, 20):
            days.shift(hours * 3600)
            sooner_or_later(lambda: _gives_some(gate.comer), "keys of this day")  # a jump of the clock moves no timer
            ticket = gives(gate.comer, ticket)
        chv.check(ticket.lifetime <= 8 * 3600, f"the last one's lifetime: {ticket.lifetime}")
        days.shift(7 * DAY + 10)
        gate.comer.refused(ticket)


def _gives_some(comer):
    with comer.connect() as client:
        chv.check_equal((client.handshake(), client.open(tickets=1)[0]), (None, 200), "a full handshake")
        client.send_record(DATA, b"x")
        client.send_record(END)
        return client.read_record()[0] == TICKET


# --- profiles with identity keys ----------------------------------------------------------------------------------------


class IdentityComer(Asks, identityclient.IdentityClient):
    pass


def test_profile_key():
    """Who has the key is looked up again: in the allow-list, and in the registry."""
    with Fleet() as fleet:
        store.need()
        site = fleet.site
        site.keyadmin("identity", "new", "--server", "-c", site.config, "--passphrase-file", site.passphrase_file,
                      code=None)
        serve_all(site)
        listed, known = new_key(site, "listed"), new_key(site, "known")
        allow(site, line_of(listed))
        fleet.add("known", "--profile", "key")
        fleet.json("client", "set-key", "known", *fleet.config(), "--identity", known + ".pub")
        site.start("-v")
        public = identityclient.public_bytes(server_pub(site))
        comer, tickets = Comer(site), {}
        for name, path in (("listed", listed), ("known", known)):
            with IdentityComer(site, identityclient.KEY, identityclient.private_of(path), public) as client:
                client.visit(tickets=3)
                tickets[name] = client.tickets
            again = comer.come(tickets[name][0])
            chv.check_equal(again.lineage(), client.lineage(), "lineage")
            site.server.wait_for(rf"client '{name}': opened service 'message' \(resumed\)")
        fleet.state("revoke", "known")
        chv.check_in("client is revoked", comer.come(tickets["known"][1], code=403).text, "what a denied key is told")
        allow(site)
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded")
        sooner_or_later(lambda: _status(comer, tickets["listed"][1]) == 403, "a key that is not in the list any more")


# --- rotation -----------------------------------------------------------------------------------------------------------


def test_rotation():
    """A client of the old epoch is handed its next key in a resumed session; a retired epoch's tickets are no more."""
    with RotationSite("gate") as site:
        store.need()
        site.init()
        site.configure(workers="1")  # else each loop hears of it for itself
        key = site.add_client("cam1")
        site.start("-v")
        comer = Comer.of_key(site, key)
        first, second = comer.come(tickets=2).tickets
        site.rotate()
        sooner_or_later(lambda: _label_of_new(comer) == 2, "tickets by the new epoch")
        with comer.connect(first) as client:
            chv.check_equal((client.handshake(), client.open()[0]), (None, 200), "a ticket of before")
            chv.check_equal(client.read_record()[0], KEY_UPDATE, "behind STATUS")
        site.configure(epochs="2")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        sooner_or_later(lambda: _refusal(comer, second) == 401, "the old epoch is retired")
        site.server.wait_for("refused 401: there is no key for tickets of that epoch")


def test_a_retired_credentials_ticket_by_the_new_epochs_key():
    """The key that opens the ticket is there; what was let in by is not served any more."""
    with RotationSite("gate") as site:
        store.need()
        site.init()
        site.configure(workers="1")
        key = site.add_client("cam1")
        site.start("-v")
        comer = Comer.of_key(site, key)
        site.rotate()
        sooner_or_later(lambda: _label_of_new(comer) == 2, "tickets by the new epoch")
        with comer.connect() as client:  # its credential stays the old one: no KEY_UPDATE is taken
            chv.check_equal((client.handshake(), client.open(tickets=2)[0]), (None, 200), "a full handshake")
            first, second = client.take_tickets(2)
        chv.check_equal([t.label()[0] for t in (first, second)], [2, 2], "epochs of the tickets")
        with comer.connect(first) as client:
            chv.check_equal((client.handshake(), client.open()[0]), (None, 200), "while both epochs are served")
        site.configure(epochs="2")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        sooner_or_later(lambda: _refusal(comer, second) == 401, "the old epoch is retired")
        site.server.wait_for("refused 401: the epoch of the ticket's credential is not served")
        sooner_or_later(lambda: _opens_no_more(comer), "message 2 of a full handshake opens no more")


def _opens_no_more(comer):
    with comer.connect() as client:
        try:
            client.handshake()  # the keeper is not back yet
        except identityclient.InvalidTag:
            return True
    return False


def _label_of_new(comer):
    with comer.connect() as client:
        if client.handshake() is not None:  # the keeper is not back yet
            return 0
        chv.check_equal(client.open(tickets=1)[0], 200, "STATUS of OPEN")
        kind, body = client.read_record()
        return Ticket(client, rawclient.map_of(body)).label()[0] if kind == TICKET else 0


def _refusal(comer, ticket):
    with comer.connect(ticket) as client:
        return client.handshake()


if __name__ == "__main__":
    chv.main()
