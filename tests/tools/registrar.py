# SPDX-License-Identifier: Apache-2.0
"""The registry while a server runs: who may come in, who is ended, and what happens when the registry is away."""
import contextlib
import hmac
import json
import os
import re
import select
import signal
import sqlite3
import struct
import time

import chv
import identityclient
import postgres
import rawclient
import store
from fakeserver import CLOSE, STATUS

TOOL = os.path.join(chv.TOP_BUILDDIR, "tests", "registry", "registry_tool")
AWAY = "cannot reach its registry"


class House:
    """A server with a registry of its own, and keys to make clients of."""

    def __init__(self, uri=None, create=True, start=True, workers="2", **settings):
        self.uri, self.create, self.begin = uri, create, start
        self.settings, self.sockets = dict(settings, workers=workers), []

    def __enter__(self):
        store.need()
        self.site = chv.Site("house")
        self.site.__enter__()
        self.site.init()
        self.file = self.site.path("clients.db")
        self.state = self.site.path("state")
        os.mkdir(self.state, 0o700)
        self.uri = self.uri or "sqlite:" + self.file
        if self.create:
            self.tool("create")
        self.site.configure(make_registry=False, registry=self.uri, state=self.state, max_lifetime="0", **self.settings)
        self.keys = rawclient.Keys(self.site)
        if self.begin:
            self.start()
        return self

    def __exit__(self, *details):
        for sock in self.sockets:
            sock.close()
        self.site.__exit__(*details)

    def start(self):
        self.server = self.site.start()

    def tool(self, *arguments):
        return chv.run(TOOL, self.uri, *arguments).stdout.decode()

    def put(self, *arguments):
        self.tool("put", *arguments)

    def client(self, client_id, code=200, text="", **fields):
        """A client that has asked for its service and got that answer."""
        client = self.keys.client(self.site, client_id, **fields)
        self.sockets.append(client.sock)
        chv.check_equal(client.handshake(), None, f"handshake of {client_id}")
        got = client.open()
        chv.check_equal(got[0], code, f"STATUS of OPEN of {client_id}: {got}")
        chv.check_in(text, got[1], f"STATUS of OPEN of {client_id}")
        return client

    def refused(self, client_id, code=403, text="", **fields):
        self.client(client_id, code, text, **fields).sock.close()

    def answer_to(self, client_id, **fields):
        """The code of STATUS."""
        with self.keys.client(self.site, client_id, **fields) as client:
            chv.check_equal(client.handshake(), None, f"handshake of {client_id}")
            return client.open()[0]

    def comes_in(self, client_id, **fields):
        self.client(client_id, **fields).close()

    def registrar_is_back(self, client_id, count=1):
        """The supervisor says so a moment before the last loop has its socket: until then it answers 503."""
        self.server.wait_for("the registrar process serves again", count)
        until(lambda: self.answer_to(client_id) == 200, f"{client_id} comes in")

    def pid(self, name):
        return chv.process_named(self.server.pid, name)


def ended(client, text):
    """Waits for the end that the server puts to it."""
    kind, body = client.read_record()
    chv.check_equal(kind, STATUS, "record out of the blue")
    code, got = rawclient.status_of(body)
    chv.check_equal(code, 403, "its code")
    chv.check_in(text, got, "its text")
    chv.check_equal(client.read_record()[0], CLOSE, "behind STATUS")
    client.send_record(CLOSE)
    chv.check_equal(client.sock.recv(1), b"", "the end")
    client.sock.close()


def serves(client):
    chv.check_equal(client.message(b"x"), b"message received: 'x'", "a session that nothing was done to")


def until(condition, what):
    """Of what has no line in a log: waits for it."""
    end = time.monotonic() + chv.DEADLINE
    while not condition():
        chv.check(time.monotonic() < end, f"it did not happen: {what}")
        time.sleep(0.05)


# --- OPEN ---------------------------------------------------------------------------------------------------------------


def test_who_comes_in():
    with House() as house:
        house.put("cam1")
        house.put("cam2", "status=suspended", "reason=being mended")
        house.put("cam3", "status=revoked", "reason=stolen")
        house.put("cam4", "minimum=1.2", "latest=1.2")
        house.put("cam5", "not_after=1000000000")
        house.put("cam6", "scopes=files:ro")
        house.put("cam7", "profile=key", "identity=x25519:" + "42" * 32)
        house.put("cam8", "status=removed")
        house.comes_in("cam1")
        house.refused("cam0", text="client is not registered")
        house.refused("cam2", text="client is suspended: being mended")
        house.refused("cam3", text="client is revoked: stolen")
        house.refused("cam4", text="credential is superseded")
        house.comes_in("cam4", serial=2)
        house.refused("cam5", text="client has expired")
        house.refused("cam6", text="no scope 'message'")
        house.refused("cam7", text="registered for another profile")
        house.refused("cam8", text="client was removed")
        log = house.site.log()
        chv.check(re.search(r"client 'cam3': refused 403: client is revoked: stolen", log), "a line in the log")


def test_what_the_client_says():
    with House() as house:
        key = house.site.add_client("cam1")
        house.put("cam1", "status=revoked", "reason=stolen")
        done = house.site.client(key, "send", "ola", code=77)
        chv.check_in(b"403: client is revoked: stolen", done.stderr, "what chaveiro says")


def test_what_comes_behind_open_is_not_lost():
    """The service opens when the registry has its say: what the client has sent by then is handled, in order."""
    with House() as house:
        house.put("cam1")
        os.kill(house.pid("chv-registrar"), signal.SIGSTOP)
        client = house.keys.client(house.site, "cam1")
        client.send_hello()
        client.read_reply()
        client.sock.sendall(client.record(rawclient.OPEN, rawclient.open_map()) + client.record(0, b"ol") +
                            client.record(0, b"a" * 5000) + client.record(1))
        os.kill(house.pid("chv-registrar"), signal.SIGCONT)
        chv.check_equal(rawclient.status_of(client.read_record()[1])[0], 200, "STATUS")
        reply = b""
        while True:
            kind, body = client.read_record()
            if kind == 1:
                break
            reply += body
        chv.check_equal(reply, b"message received: 'ol" + b"a" * 5000 + b"'", "the reply")
        client.close()


def test_a_registrar_that_hangs_is_killed():
    """Whoever waits gets 503; then another one takes over by itself, and sessions notice nothing."""
    with House() as house:
        house.put("cam1")
        live = house.client("cam1")
        hanging, keeper, net = house.pid("chv-registrar"), house.pid("chv-keeper"), house.pid("chv-net")
        os.kill(hanging, signal.SIGSTOP)
        house.refused("cam1", code=503, text=AWAY)
        serves(live)
        house.server.wait_for(r"error supervisor\[\d+\]: the registrar process does not answer: a call to sqlite:\S+ does "
                              "not return: it is killed")
        house.server.wait_for("the registrar process ended: signal 9")
        house.registrar_is_back("cam1")
        serves(live)
        live.close()
        chv.check(house.pid("chv-registrar") != hanging, "the same registrar")
        chv.check_equal((house.pid("chv-keeper"), house.pid("chv-net")), (keeper, net), "the others")


def test_a_database_that_hangs():
    """Its server takes connections and says nothing: the registrar is killed, and is back when the server goes on."""
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with House(pg.uri("hangs")) as house:
            house.put("cam1")
            house.put("cam2")
            live = house.client("cam1")
            with pg.standing_still():
                house.refused("cam2", code=503, text=AWAY)  # of cam1 it remembers all that it needs
                house.server.wait_for("the registrar process does not answer: a call to postgresql:")
                serves(live)
            house.registrar_is_back("cam2")
            serves(live)
            live.close()


def test_revoked_between_hello_and_open():
    with House() as house:
        house.put("cam1")
        house.comes_in("cam1")  # the registrar remembers it
        client = house.keys.client(house.site, "cam1")
        chv.check_equal(client.handshake(), None, "handshake")
        house.put("cam1", "status=revoked")
        code, text = client.open()
        chv.check_equal((code, text), (403, "client is revoked"), "STATUS")
        client.sock.close()


def test_an_older_credential_behind_a_newer_one_is_a_clone():
    with House() as house:
        house.put("cam1", "latest=1.2")
        live = house.client("cam1", serial=1)
        house.comes_in("cam1", serial=2)
        chv.check_in("minimum=1.2 confirmed=1.2", house.tool("show", "cam1"), "raised at once")
        house.refused("cam1", text="older than one that was used already", serial=1)
        house.refused("cam1", text="older than one that was used already", serial=1)
        house.server.wait_for("warning registrar.*client 'cam1': credential 1.1 came after 1.2 was used")
        clones = [line for line in house.tool("audit").splitlines() if " clone " in line]
        chv.check_equal(clones, ['chaveirod clone cam1 {"came":"1.1","confirmed":"1.2"}'], "audit rows")
        serves(live)  # it came in before: its owner's, as far as anybody knows
        live.close()


# --- the seal of the audit trail ------------------------------------------------------------------------------------------


def seal_of(house):
    """(rows, sealed), as keyadmin finds them; it seals nothing here."""
    done = chv.run("keyadmin", "audit", "verify", "-c", house.site.config, "--passphrase-file",
                   house.site.passphrase_file, "--json")
    found = json.loads(done.stdout)
    return found["rows"], found["sealed"]


def is_sealed(house):
    rows, sealed = seal_of(house)
    return rows == sealed


def clone_comes(house, client_id):
    """A row that the server writes by itself."""
    old, new = house.keys.client(house.site, client_id), house.keys.client(house.site, client_id, serial=2)
    house.sockets += [old.sock, new.sock]
    for client in (new, old):
        chv.check_equal(client.handshake(), None, "handshake")
    yield
    chv.check_equal(new.open()[0], 200, "the new one")
    chv.check_equal(old.open()[0], 403, "the copy")
    until(lambda: f" clone {client_id} " in house.tool("audit"), "the row")
    yield


def test_the_server_seals_what_it_writes():
    with House() as house:
        house.put("cam1", "latest=1.2")
        until(lambda: is_sealed(house), "what was there is sealed")
        before = seal_of(house)[0]
        coming = clone_comes(house, "cam1")
        next(coming)
        next(coming)
        until(lambda: is_sealed(house), "the clone is sealed")
        chv.check(seal_of(house)[0] > before, "rows were written")
        house.put("cam2")
        until(lambda: is_sealed(house), "what somebody else has written is sealed")
        house.site.stop()
        chv.check(is_sealed(house), "after the end")


def test_what_is_written_without_a_keeper_is_sealed_later():
    """One that hangs, one that is killed, one that comes."""
    with House() as house:
        for name in ("cam1", "cam2"):
            house.put(name, "latest=1.2")
        house.put("cam3")
        until(lambda: is_sealed(house), "what was there is sealed")
        coming = clone_comes(house, "cam1")
        next(coming)
        os.kill(house.pid("chv-keeper"), signal.SIGSTOP)
        next(coming)
        rows, sealed = seal_of(house)
        chv.check(sealed < rows, f"{sealed} of {rows} rows are sealed without a keeper")
        os.kill(house.pid("chv-keeper"), signal.SIGKILL)
        house.server.wait_for("the keeper process serves again")
        until(lambda: is_sealed(house), "the clone is sealed by the next keeper")
        coming = clone_comes(house, "cam2")
        next(coming)
        os.kill(house.pid("chv-registrar"), signal.SIGKILL)
        house.registrar_is_back("cam3")
        next(coming)
        until(lambda: is_sealed(house), "by the next registrar")


def test_the_server_seals_no_trail_that_was_changed():
    with House() as house:
        house.put("cam1", "latest=1.2")
        until(lambda: is_sealed(house), "what was there is sealed")
        with sqlite3.connect(house.file) as db:
            db.execute("UPDATE seal SET mac = ?", ("00" * 32,))
        db.close()
        coming = clone_comes(house, "cam1")
        next(coming)
        next(coming)
        house.server.wait_for(r"error registrar\[\d+\]: .*the seal on audit row \d+ is none that this master made; this server "
                              "seals the audit trail no more")
        house.comes_in("cam1", serial=2)
        with sqlite3.connect(house.file) as db:
            chv.check_equal(db.execute("SELECT mac FROM seal").fetchall(), [("00" * 32,)], "the seal")
        db.close()


def test_the_master_of_an_epoch_that_is_over_makes_no_seal():
    """It leaked, and its thief can write to the database: another story, whole in itself, under a seal that was right once."""
    with House() as house:
        house.put("cam1", "latest=1.2")
        house.put("cam2")
        until(lambda: is_sealed(house), "what was there is sealed")
        house.site.stop()
        words = ("-c", house.site.config, "--passphrase-file", house.site.passphrase_file)
        chv.run("keyadmin", "epoch", "new", "--compromised", *words)
        chv.run("keyadmin", "audit", "verify", *words)
        with sqlite3.connect(house.file) as db:
            n, digest = db.execute("SELECT n, hash FROM audit WHERE n = 2").fetchone()
            db.execute("DELETE FROM audit WHERE n > 2")
            db.execute("DELETE FROM epochs")
            db.execute("UPDATE meta SET audit_n = ?, audit_hash = ?", (n, digest))
            message = struct.pack(">Q", n) + bytes.fromhex(digest) + struct.pack(">IQ", 1, 1800000000)
            key = hmac.digest(house.keys.master, b"chaveiro v1 audit\0\x01", "sha256")
            db.execute("UPDATE seal SET n = ?, hash = ?, epoch = 1, time = 1800000000, mac = ?",
                       (n, digest, hmac.digest(key, message, "sha256").hex()))
            forged = db.execute("SELECT * FROM seal").fetchall()
        db.close()
        said = "by the master of epoch 1, which is not in epochs of"
        chv.check_in(said, chv.run("keyadmin", "audit", "verify", *words, code=77).stderr.decode(), "audit verify")
        chv.check_in(said, chv.run("keyadmin", "audit", "seal", *words, code=77).stderr.decode(), "audit seal")
        added = chv.run("keyadmin", "client", "add", "cam3", *words, "--client-passphrase-file", house.site.passphrase_file,
                        "--scrypt-cost", chv.SCRYPT_COST, "--out", house.site.path("cam3.key"))
        chv.check_in(said, added.stderr.decode(), "what another command warns of")
        house.start()
        house.server.wait_for(r"error registrar\[\d+\]: the audit trail has a seal by the master of epoch 1, which is over")
        with sqlite3.connect(house.file) as db:
            chv.check_equal(db.execute("SELECT * FROM seal").fetchall(), forged, "nobody has sealed what is behind it")
        db.close()
        done = json.loads(chv.run("keyadmin", "audit", "seal", "--anew", "--json", *words).stdout)
        chv.check_equal(done["epoch"], 2, "sealed by a person's word")
        chv.run("keyadmin", "audit", "verify", *words)
        chv.check_in(" seal-anew ", house.tool("audit"), "the row")
        house.put("cam4")
        until(lambda: is_sealed(house), "the server seals again")


def test_two_servers_seal_one_trail():
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with House(pg.uri("sealed")) as house:
            other = House(pg.uri("sealed"), create=False, start=False)
            with other:
                chv.write(os.path.join(other.site.store, "server.keys"),
                          chv.read(os.path.join(house.site.store, "server.keys")))
                chv.write(other.site.passphrase_file, chv.read(house.site.passphrase_file))
                other.keys = house.keys
                other.start()
                for i, at in enumerate((house, other, house, other)):
                    house.put(f"cam{i}", "latest=1.2")
                    coming = clone_comes(at, f"cam{i}")
                    next(coming)
                    next(coming)
                until(lambda: is_sealed(house), "all of it is sealed")
                for server in (house, other):
                    chv.check_not_in("seals the audit trail no more", server.site.log(), "log")


def test_who_was_seen_is_written():
    with House() as house:
        for i in range(20):
            house.put(f"cam{i}")
            house.comes_in(f"cam{i}")
        started = int(time.time()) - 60
        for i in range(20):
            until(lambda: int(house.tool("show", f"cam{i}").split("last_seen=")[1]) >= started, f"cam{i} was seen")
        house.comes_in("cam3")
        house.site.stop()


# --- changes reach sessions ---------------------------------------------------------------------------------------------


def test_live_sessions_are_cut_and_others_are_not():
    with House(workers="3") as house:
        for name in ("cam1", "cam2", "cam3", "cam4", "cam5", "other"):
            house.put(name, "scopes=files:ro,message")
        victims = {name: [house.client(name) for _ in range(3)] for name in ("cam1", "cam2", "cam3", "cam4", "cam5")}
        others = [house.client("other") for _ in range(3)]
        house.put("cam1", "status=revoked", "reason=stolen")
        house.put("cam2", "status=suspended")
        house.put("cam3", "minimum=1.2", "latest=1.2")
        house.put("cam4", "scopes=files:ro")
        house.put("cam5", "not_after=1000000000")
        for name, text in {"cam1": "client is revoked: stolen", "cam2": "client is suspended",
                           "cam3": "credential is superseded", "cam4": "scope 'message' was taken away",
                           "cam5": "client has expired"}.items():
            for client in victims[name]:
                ended(client, text)
        for client in others:
            serves(client)
        house.put("other", "scopes=message", "reason=")  # narrower, but not for this service
        house.put("cam2", "status=active")
        house.comes_in("cam2")
        for client in others:
            serves(client)
            client.close()


def test_a_revocation_while_many_wait_to_come_in():
    """No question about a live session fits between theirs when the change is told: it is asked later."""
    with House(workers="1", keeper_queue="4") as house:
        house.put("cam1")
        house.tool("many", "n", "37")
        live = house.client("cam1")
        coming = [house.keys.client(house.site, f"n{i}") for i in range(37)]
        for client in coming:
            house.sockets.append(client.sock)
            chv.check_equal(client.handshake(), None, "handshake")
        os.kill(house.pid("chv-registrar"), signal.SIGSTOP)
        house.put("cam1", "status=revoked")
        for client in coming:
            client.sock.sendall(client.record(rawclient.OPEN, rawclient.open_map()))
        full = select.select([client.sock for client in coming], [], [], chv.DEADLINE)[0]
        os.kill(house.pid("chv-registrar"), signal.SIGCONT)
        chv.check_equal(len(full), 1, "32 questions are out, 4 wait, one is refused")
        ended(live, "client is revoked")


def test_strangers_do_not_stand_before_who_has_proven_a_key():
    """Profile key: any number may ask whose their key is, and no OPEN waits behind more than a few of them."""
    with House(workers="1", keeper_queue="4", profiles="psk, key") as house:
        house.put("cam1")
        server = identityclient.public_bytes(os.path.join(house.site.store, "server.pub"))
        client = house.keys.client(house.site, "cam1")
        house.sockets.append(client.sock)
        os.kill(house.pid("chv-registrar"), signal.SIGSTOP)
        for _ in range(40):
            stranger = identityclient.IdentityClient(house.site, identityclient.KEY,
                                                     identityclient.X25519PrivateKey.generate(), server)
            house.sockets.append(stranger.sock)
            stranger.send_hello()
            with house.keys.client(house.site, "cam1") as other:  # answered behind the stranger's
                chv.check_equal(other.handshake(), None, "handshake of cam1")
        chv.check_equal(client.handshake(), None, "handshake of cam1")
        client.send_record(rawclient.OPEN, rawclient.open_map())
        os.kill(house.pid("chv-registrar"), signal.SIGCONT)
        chv.check_equal(rawclient.status_of(client.read_record()[1])[0], 200, "STATUS of OPEN of cam1")
        client.close()


def test_many_changes_at_once():
    with House() as house:
        house.tool("many", "cam", "300")
        live = [house.client(f"cam{i}") for i in range(0, 300, 20)]
        house.put("other")
        other = house.client("other")
        house.tool("many", "cam", "300", "status=revoked")
        for client in live:
            ended(client, "client is revoked")
        serves(other)
        other.close()


def test_the_end_of_an_idle_loop_of_sessions():
    """A session that ended by itself meanwhile is no trouble for the ones that are cut."""
    with House(workers="1") as house:
        house.put("cam1")
        clients = [house.client("cam1") for _ in range(8)]
        for client in clients[::2]:
            client.sock.close()
        house.put("cam1", "status=revoked")
        for client in clients[1::2]:
            ended(client, "client is revoked")


def test_an_epoch_whose_master_leaked():
    with House() as house:
        house.put("cam1")
        live = house.client("cam1")
        house.tool("epoch", "1", "3")
        ended(live, "credential is of an epoch whose master leaked")
        house.refused("cam1", text="credential is of an epoch whose master leaked")
        house.tool("epoch", "1", "2")
        house.comes_in("cam1")


def test_profile_key_by_the_registry():
    with House(start=False, profiles="psk, key, key+psk") as house:
        site = house.site
        site.client_identity = site.path("cam1")
        chv.run("keyadmin", "identity", "new", "--out", site.client_identity)
        static = identityclient.private_of(site.client_identity)
        public = identityclient.public_bytes(static)
        server = identityclient.public_bytes(os.path.join(site.store, "server.pub"))
        house.put("cam1", "profile=key", "identity=x25519:" + public.hex(), "latest=0.0", "minimum=0.0")
        house.start()

        def come():
            client = identityclient.IdentityClient(site, identityclient.KEY, static, server)
            house.sockets.append(client.sock)
            return client, client.handshake()

        client, refused = come()
        chv.check_equal((refused, client.open()[0]), (None, 200), "a key of the registry")
        house.server.wait_for("client 'cam1': opened service")
        until(lambda: int(house.tool("show", "cam1").split("last_seen=")[1]) > 0, "cam1 was seen")
        house.put("cam1", "scopes=files:ro")
        ended(client, "scope 'message' was taken away")
        client, refused = come()
        chv.check_equal(refused, None, "handshake")
        code, text = client.open()
        chv.check_equal((code, text), (403, "in the registry this client has no scope 'message'"), "STATUS")
        house.put("cam1", "status=revoked")
        chv.check_equal(come()[1], 403, "a key that is revoked")
        house.server.wait_for("refused 403: client is revoked")
        static = identityclient.X25519PrivateKey.generate()
        chv.check_equal(come()[1], 403, "a key that nobody knows")
        house.server.wait_for("neither in allowed-keys nor in the registry")


def test_a_key_of_the_allow_list_and_the_registry():
    """It need not be registered; where the registry has it, what it says counts."""
    with House(start=False, profiles="psk, key", allowed_keys="allowed_keys") as house:
        site = house.site
        keys = {}
        for name in ("cam1", "cam2", "cam3", "cam4"):
            chv.run("keyadmin", "identity", "new", "--out", site.path(name))
            keys[name] = identityclient.private_of(site.path(name))
        lines = [chv.run("keyadmin", "identity", "show", site.path(name) + ".pub").stdout for name in keys]
        chv.write(os.path.join(site.store, "allowed_keys"), b"".join(lines), 0o644)
        server = identityclient.public_bytes(os.path.join(site.store, "server.pub"))
        public = {name: identityclient.public_bytes(key).hex() for name, key in keys.items()}
        house.put("other", "profile=key", "identity=x25519:" + public["cam2"], "latest=0.0", "minimum=0.0")
        house.put("cam3", "status=revoked")
        house.put("cam4", "profile=key", "identity=x25519:" + public["cam4"], "latest=0.0", "minimum=0.0")
        house.start()

        def come(name):
            client = identityclient.IdentityClient(site, identityclient.KEY, keys[name], server)
            house.sockets.append(client.sock)
            chv.check_equal(client.handshake(), None, f"handshake of {name}")
            return client, client.open()

        chv.check_equal(come("cam1")[1][0], 200, "one that is not registered")
        chv.check_equal(come("cam2")[1], (403, "identity key is not this client's"), "one that is another's there")
        chv.check_equal(come("cam3")[1], (403, "client is revoked"), "one whose id is revoked")
        client, opened = come("cam4")
        chv.check_equal(opened[0], 200, "one that is in both")
        house.put("cam4", "status=revoked")
        ended(client, "client is revoked")


# --- the registry is away -----------------------------------------------------------------------------------------------


def test_it_must_be_there_at_the_start():
    with House(create=False, start=False) as house:
        done = chv.run("chaveirod", "-c", house.site.config, "--passphrase-file", house.site.passphrase_file, code=66)
        chv.check_in(b"there is no registry: if it was lost, put its backup back; if there never was one, 'keyadmin registry new'", done.stderr, "what it says")
        chv.check_in(house.file, done.stderr.decode(), "about what")


def test_deleted_and_put_back():
    with House() as house:
        house.put("cam1")
        live = house.client("cam1")
        os.rename(house.file, house.file + ".away")
        house.server.wait_for("was removed or exchanged")
        house.refused("cam1", code=503, text=AWAY)
        serves(live)
        os.rename(house.file + ".away", house.file)
        house.server.wait_for("can be reached again")
        house.comes_in("cam1")
        house.put("cam1", "status=revoked")
        ended(live, "client is revoked")


def test_damaged_and_put_back():
    with House() as house:
        house.put("cam1")
        live = house.client("cam1")
        other = sqlite3.connect(house.file)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        os.rename(house.file, house.file + ".good")
        bad = b"this is no database, whatever its name" * 200
        chv.write(house.file, bad, 0o600)
        for name in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(house.file + name)
        house.server.wait_for("error registrar")
        house.refused("cam1", code=503, text=AWAY)
        chv.check_equal(chv.read(house.file), bad, "the damaged file, which nobody writes to")
        serves(live)
        os.rename(house.file + ".good", house.file)
        house.server.wait_for("can be reached again")
        house.comes_in("cam1")
        live.close()


def test_locked_and_released():
    """A writer that holds it does not keep clients out; only what was seen is written later."""
    with House() as house:
        house.put("cam1")
        house.put("cam2")
        other = sqlite3.connect(house.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        house.comes_in("cam1")
        house.server.wait_for("who was seen is written later")
        house.comes_in("cam2")
        other.execute("ROLLBACK")
        other.close()
        until(lambda: "confirmed=1.1" in house.tool("show", "cam1"), "cam1 is confirmed")
        until(lambda: "confirmed=1.1" in house.tool("show", "cam2"), "cam2 is confirmed")


def test_the_registrar_is_killed_under_load():
    with House() as house:
        for i in range(8):
            house.put(f"cam{i}")
        live = [house.client(f"cam{i}") for i in range(8)]
        for n in range(3):
            os.kill(house.pid("chv-registrar"), signal.SIGKILL)
            for i in range(8):
                client = house.keys.client(house.site, f"cam{i}")
                chv.check_equal(client.handshake(), None, "handshake")
                chv.check(client.open()[0] in (200, 503), "STATUS")
                client.sock.close()
            house.registrar_is_back("cam0", n + 1)
        for client in live:
            serves(client)
        # what was done while it was away is found when it is back
        os.kill(house.pid("chv-registrar"), signal.SIGKILL)
        house.put("cam1", "status=revoked")
        ended(live[1], "client is revoked")
        serves(live[2])


def test_an_old_backup_is_noticed():
    with House() as house:
        house.put("cam1")
        house.site.stop()
        backup = chv.read(house.file)
        house.put("cam1", "status=revoked")
        house.start()
        house.refused("cam1", text="client is revoked")
        until(lambda: os.path.exists(os.path.join(house.state, "registry-mark")), "a mark")
        house.site.stop()
        chv.write(house.file, backup, 0o600)
        house.start()
        house.server.wait_for("error registrar.*is older than it was .* an old backup?")
        house.comes_in("cam1")


def test_not_required_goes_by_the_snapshot():
    with House(registry_required="no") as house:
        house.put("cam1")
        house.put("cam2")
        house.put("cam3", "latest=1.2")
        house.comes_in("cam1")
        house.put("cam2", "status=revoked", "reason=stolen")
        house.comes_in("cam3", serial=2)
        snapshot = os.path.join(house.state, "registry-deny")
        until(lambda: os.path.exists(snapshot) and b"cam2" in chv.read(snapshot) and b"cam3" in chv.read(snapshot),
              "a snapshot with both")
        os.rename(house.file, house.file + ".away")
        house.server.wait_for("served by their credentials and the last deny snapshot")
        house.comes_in("cam1")
        house.refused("cam2", text="client is revoked: stolen")
        house.refused("cam3", text="superseded", serial=1)
        # also a registrar that never saw the registry
        os.kill(house.pid("chv-registrar"), signal.SIGKILL)
        house.registrar_is_back("cam1")
        house.refused("cam2", text="client is revoked: stolen")
        os.rename(house.file + ".away", house.file)
        house.server.wait_for("can be reached again")
        house.put("cam1", "status=suspended")
        house.refused("cam1", text="client is suspended")


# --- registry = none ----------------------------------------------------------------------------------------------------


def test_none_and_a_deny_file():
    with House(create=False, start=False) as house:
        house.site.configure(registry="none")
        deny = os.path.join(os.path.dirname(house.site.config), "revoked")
        house.start()
        live, other = house.client("cam1"), house.client("cam2")
        chv.write(deny + ".new", "cam1 * stolen\n", 0o600)
        os.rename(deny + ".new", deny)
        ended(live, "client is revoked: stolen")
        house.refused("cam1", text="client is revoked: stolen")
        serves(other)
        chv.write(deny + ".new", "cam1 2.1\ncam2\n", 0o600)
        os.rename(deny + ".new", deny)
        house.server.wait_for("error registrar.*revoked: line 2 has no")
        house.refused("cam1", text="client is revoked: stolen")
        chv.write(deny + ".new", "cam1 1.2\n", 0o600)
        os.rename(deny + ".new", deny)
        until(lambda: house.client_is_let_in("cam1", serial=2), "the file is read")
        house.refused("cam1", text="credential is superseded", serial=1)
        serves(other)


def client_is_let_in(self, client_id, **fields):
    client = self.keys.client(self.site, client_id, **fields)
    client.handshake()
    code = client.open()[0]
    client.sock.close()
    return code == 200


House.client_is_let_in = client_is_let_in


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


def test_postgresql():
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)  # the server has given up root's rights
        with House(uri=pg.uri("one")) as house:
            house.put("cam1")
            house.put("cam2", "latest=1.2")
            live, other = house.client("cam1"), house.client("cam2", serial=2)
            chv.check_in("confirmed=1.2", house.tool("show", "cam2"), "raised at once")
            house.refused("cam2", text="older than one that was used already", serial=1)
            house.refused("cam0", text="client is not registered")
            house.put("cam1", "status=revoked", "reason=stolen")
            ended(live, "client is revoked: stolen")
            house.refused("cam1", text="client is revoked: stolen")
            pg.stop()
            house.server.wait_for("error registrar")
            house.refused("cam2", code=503, text=AWAY, serial=2)
            serves(other)
            pg.start()
            house.server.wait_for("can be reached again")
            house.comes_in("cam2", serial=2)
            serves(other)
            pg.kill()
            pg.start()
            house.put("cam2", "status=suspended")
            ended(other, "client is suspended")


if __name__ == "__main__":
    chv.main()
