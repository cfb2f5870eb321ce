#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""keyadmin, chaveirod and chaveiro with one registry: sessions are cut, keys known by the registry, two servers."""
import os
import shutil
import subprocess

import chv
import postgres
import rawclient
from client_life import Fleet, killed_at
from registrar import House, until
from registry_faults import checkpoint, replace
from rotate import RotationSite, labels

NOPERM = 77


class Running(Fleet):
    """A fleet whose server runs: its address is what clients are told at the command line."""

    def __init__(self, registry=None, **settings):
        super().__init__(registry)
        self.site.configure(**settings)

    def key(self, client):
        return chv.Key(client, self.path(f"{client}.key"), self.passphrase)

    def chat(self, client):
        """A session that lives, and has been served once."""
        process = self.site.client_start(self.key(client), "chat", stdin=subprocess.PIPE)
        self.says(process, "one")
        return process

    def says(self, process, text):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        process.wait_for(f"message received: '{text}'", stream="stdout")

    def cut(self, process, text):
        chv.check_in(text, process.wait(NOPERM).stderr, "why it ended")

    def send(self, client, *extra, code=0):
        return self.site.client(self.key(client), "-v", "send", "ola", *extra, code=code)


def test_live_sessions_are_cut_by_keyadmin():
    """Every command that takes something away, with the programs themselves; the others' sessions go on."""
    with Running() as fleet:
        names = ("revoked", "suspended", "removed", "narrowed", "leaked", "reissued", "other")
        for name in names:
            fleet.add(name, "--scope", "message", "--scope", "files:ro")
        fleet.site.start()
        live = {name: fleet.chat(name) for name in names}
        fleet.state("revoke", "revoked", "--reason", "stolen")
        fleet.state("suspend", "suspended", "--reason", "in repair")
        fleet.state("remove", "removed")
        fleet.state("set-scopes", "narrowed", "files:ro")
        fleet.reissue("leaked", "leaked.new", "--leaked")
        fleet.reissue("reissued", "reissued.new")
        fleet.cut(live["revoked"], "client is revoked: stolen")
        fleet.cut(live["suspended"], "client is suspended: in repair")
        fleet.cut(live["removed"], "403: client was removed")
        fleet.site.server.wait_for("client 'removed': .*client was removed")
        fleet.cut(live["narrowed"], "scope 'message' was taken away")
        fleet.cut(live["leaked"], "credential is superseded")
        for name in ("reissued", "other"):
            fleet.says(live[name], "two")
            live[name].stdin.close()
            live[name].wait(0)


def test_what_was_taken_comes_back_with_the_new_key_only():
    """Narrowed, then widened by a new credential: the old one gets nothing back, also once the new one is known."""
    with Running() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        fleet.site.start()
        fleet.send("cam1")
        fleet.state("set-scopes", "cam1", "files:ro")
        chv.check_equal(fleet.show("cam1").get("narrowed"), True, "narrowed")
        until(lambda: b"no scope 'message'" in fleet.send("cam1", code=None).stderr, "narrowed")
        fleet.json("client", "set-scopes", "cam1", "message", "files:ro", *fleet.made(), "--out", fleet.path("wide.key"))
        shown = fleet.show("cam1")
        chv.check_equal(("narrowed" in shown, shown["scopes"], shown["held_back"]),
                        (False, ["files:ro", "message"], ["message"]), "widened")
        chv.check_in("held back:      message", chv.run("keyadmin", "client", "show", "cam1", *fleet.config()).stdout, "show")
        live = fleet.chat("wide")  # the server has the change by now
        chv.check_in("403", fleet.send("cam1", code=NOPERM).stderr, "the old key")
        live.stdin.close()
        live.wait(0)
        shown = fleet.show("cam1")
        chv.check_equal([name for name in ("narrowed", "held_back") if name in shown], [], "the new one was used")
        # a scope that it never had, and one taken away meanwhile: the old key has neither
        for name in ("cam2", "cam3"):
            fleet.add(name, "--scope", "files:ro")
        fleet.json("client", "set-scopes", "cam2", "message", "files:ro", *fleet.made(), "--out", fleet.path("two.key"))
        fleet.state("set-scopes", "cam2", "message")
        chv.check_equal(fleet.show("cam2")["held_back"], ["message"], "it stays held back")
        fleet.send("two")
        chv.check_in("no scope 'message'", fleet.send("cam3", code=NOPERM).stderr, "another client")


def test_the_old_key_stays_narrow_while_the_new_one_waits():
    with Running() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        fleet.state("set-scopes", "cam1", "files:ro")
        fleet.json("client", "set-scopes", "cam1", "message", "files:ro", *fleet.made(), "--out", fleet.path("wide.key"))
        fleet.site.start()
        for _ in range(2):
            chv.check_in("no scope 'message'", fleet.send("cam1", code=NOPERM).stderr, "the old key")
        fleet.send("wide")
        chv.check_in("older than one", fleet.send("cam1", code=NOPERM).stderr, "the old key, afterwards")


def test_without_a_registry_the_reason_is_said_once():
    with Running(registry="none") as fleet:
        fleet.add("cam1")
        fleet.site.start()
        live = fleet.chat("cam1")
        for what, text in (("suspend", "client is suspended: in repair\n"), ("revoke", "client is revoked: in repair\n")):
            fleet.state(what, "cam1", "--reason", "in repair")
            if live is not None:
                fleet.cut(live, "client is suspended: in repair")
                live = None
            until(lambda: text.encode() in fleet.send("cam1", code=NOPERM).stderr, text)
        chv.check_equal([c["reason"] for c in fleet.list("--status", "all")], ["in repair"], "list")


def test_a_client_is_known_by_its_key_in_the_registry():
    """Profile key without an allow-list: the registry says whose key it is, and may take it away."""
    with Running(profiles="psk, key, key+psk") as fleet:
        for name in ("cam1", "cam2"):
            fleet.add(name, "--profile", "key")
        fleet.add("cam3", "--profile", "key+psk")
        stranger = fleet.path("stranger")
        chv.run("keyadmin", "identity", "new", "--out", stranger)
        server = fleet.site.start()
        for name in ("cam1", "cam2", "cam3"):
            fleet.send(name)
            server.wait_for(f"client '{name}': opened service 'message'")
        done = chv.run("chaveiro", "--identity", stranger, "--server-key", os.path.join(fleet.site.store, "server.pub"),
                       "--server", fleet.site.address, "send", "ola", code=NOPERM)
        chv.check_in("403", done.stderr, "a key that nobody knows")
        # another key in the place of its own: what was open with the old one ends, and it is not let in any more
        new, live = fleet.path("new"), fleet.chat("cam1")
        chv.run("keyadmin", "identity", "new", "--out", new)
        old = chv.run("keyadmin", "identity", "show", fleet.path("cam1.key"), "cam1", "--passphrase-file",
                      fleet.passphrase).stdout.split()[:2]
        fleet.json("client", "set-key", "cam1", *fleet.config(), "--identity", new + ".pub")
        live.wait(NOPERM)
        chv.check_in("403", fleet.send("cam1", code=NOPERM).stderr, "the old key")
        chv.run("chaveiro", "--identity", new, "--server-key", os.path.join(fleet.site.store, "server.pub"), "--server",
                fleet.site.address, "send", "ola")
        fleet.json("client", "set-key", "cam1", *fleet.config(), "--identity", b" ".join(old).decode())
        until(lambda: fleet.send("cam1", code=None).code == 0, "the key that it has again")
        live, other = fleet.chat("cam1"), fleet.chat("cam2")
        fleet.state("revoke", "cam1", "--reason", "stolen")
        fleet.cut(live, "client is revoked: stolen")
        chv.check_in("403", fleet.send("cam1", code=NOPERM).stderr, "revoked")
        fleet.says(other, "two")
        fleet.state("suspend", "cam3")
        chv.check_in("client is suspended", fleet.send("cam3", code=NOPERM).stderr, "suspended")
        other.stdin.close()
        other.wait(0)


def test_who_has_not_sent_open_was_not_seen():
    """A hello may be a replay: only OPEN proves that the client is there."""
    with House() as house:
        for name in ("cam1", "cam2"):
            house.put(name, "latest=1.2")
        held = house.keys.client(house.site, "cam1", serial=2)
        chv.check_equal(held.handshake(), None, "handshake")
        replayed = house.keys.client(house.site, "cam1", serial=2)
        replayed.send_hello()
        house.comes_in("cam2", serial=2)  # and was written with all that was known by then
        until(lambda: "last_seen=0\n" not in house.tool("show", "cam2"), "cam2 was seen")
        chv.check_in("confirmed=0.0 last_seen=0\n", house.tool("show", "cam1"), "cam1")
        house.comes_in("cam1", serial=1)
        held.sock.close()
        replayed.sock.close()


def test_a_leaked_key_is_handed_no_successor():
    """The thief may have it: nothing is handed out in band until the owner has come in with the new one."""
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        cam1, cam2 = site.add_client("cam1"), site.add_client("cam2")
        out = site.path("cam1.new")
        site.keyadmin("client", "reissue", "cam1", "--leaked", "-c", site.config, "--passphrase-file",
                      site.passphrase_file, "--client-passphrase-file", cam1.passphrase_file, "--scrypt-cost",
                      chv.SCRYPT_COST, "--out", out)
        new = chv.Key("cam1", out, cam1.passphrase_file)
        server = site.start()
        site.rotate()
        chv.check_in("superseded", site.client(cam1, "send", "ola", code=NOPERM).stderr, "the leaked one")
        site.send_until(cam2, ["1.1", "2.1"])
        chv.check_in("credential 1.2", site.send(new).stderr, "its credential")
        chv.check_equal(labels(new), ["1.2"], "what it holds")
        chv.check_not_in("client 'cam1': is handed", server.stderr, "log")
        site.send_until(new, ["1.2", "2.2"])
        chv.check_in("older than one", site.client(cam1, "send", "ola", code=NOPERM).stderr, "the leaked one, for ever")
        chv.check_equal(labels(cam1), ["1.1"], "what who holds the leaked one has")


def test_a_new_identity_key_does_not_shut_the_old_one_out():
    """Reissued into another file a client of key+psk has a key pair of its own there, and goes on with the old until then."""
    with Running(profiles="key+psk") as fleet:
        fleet.add("cam1", "--profile", "key+psk")
        fleet.site.start()
        live = fleet.chat("cam1")
        before = fleet.show("cam1")
        fleet.reissue("cam1", "new.key")
        chv.check(fleet.show("cam1")["identity"] != before["identity"], "it is the same identity key")
        fleet.says(live, "two")
        fleet.send("cam1")
        fleet.says(live, "three")
        fleet.site.client(chv.Key("cam1", fleet.path("new.key"), fleet.passphrase), "send", "ola")
        fleet.says(live, "four")
        live.stdin.close()
        live.wait(0)
        chv.check_in("older than one that was used", fleet.send("cam1", code=NOPERM).stderr, "the old one, from now on")
        fleet.reissue("cam1", "leaked.key", "--leaked")
        done = fleet.site.client(chv.Key("cam1", fleet.path("new.key"), fleet.passphrase), "send", "ola", code=NOPERM)
        chv.check_in("superseded", done.stderr, "one that leaked, at once")


def test_a_key_on_its_way_is_not_overtaken_by_a_rotation():
    """Given before the new epoch, put in after it: what the old one would have been handed is newer by its epoch."""
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        cam1, cam2 = site.add_client("cam1"), site.add_client("cam2")
        out = site.path("cam1.new")
        site.keyadmin("client", "reissue", "cam1", "-c", site.config, "--passphrase-file", site.passphrase_file,
                      "--client-passphrase-file", cam1.passphrase_file, "--scrypt-cost", chv.SCRYPT_COST, "--out", out)
        new = chv.Key("cam1", out, cam1.passphrase_file)
        server = site.start()
        site.rotate()
        site.send_until(cam2, ["1.1", "2.1"])
        for _ in range(3):
            site.send(cam1)
        chv.check_equal(labels(cam1), ["1.1"], "the old one is served as it is")
        chv.check_not_in("client 'cam1': is handed", server.stderr, "log")
        chv.check_in("credential 1.2", site.send(new).stderr, "the new one is let in")
        site.send_until(new, ["2.2"])
        site.client(cam1, "send", "ola", code=NOPERM)


def test_a_server_killed_during_a_rotation_leaves_a_key_that_works():
    """At whatever moment of a client's coming; what it has stored by then is what it comes with next."""
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        keys = [site.add_client(f"cam{i}") for i in range(1, 5)]
        site.start()
        site.rotate()
        moments = ("opened service", "is handed its key", "has stored its key", "closed")
        for key, moment in zip(keys, moments):
            # who has said all may leave before its key has come
            stays = moment == "has stored its key"
            client = site.client_start(key, *(("chat",) if stays else ("send", "ola")), stdin=subprocess.PIPE if stays else None)
            site.server.wait_for(f"client '{key.id}': .*{moment}")
            server, site.server = site.server, None
            server.kill()
            client.wait()
            site.start()
            site.send(key)
            chv.check(labels(key) in (["1.1"], ["1.1", "2.1"], ["2.1"]), f"{moment}: {labels(key)}")
        for key in keys:
            site.send_until(key, ["2.1"])
        site.keyadmin("audit", "verify", "-c", site.config, "--passphrase-file", site.passphrase_file)


def test_epochs_killed_anywhere_are_taken_up_again():
    """keyadmin epoch, killed before and after each thing that it changes: keystore, configuration, registry, trail."""
    with Fleet() as fleet:
        fleet.add("cam1")
        site, before = fleet.site, fleet.path("before")
        shutil.copytree(site.store, before)
        registry = fleet.path("clients.db")
        checkpoint(registry)
        rows, n, killed = chv.read(registry), 0, True
        while killed:
            n += 1
            shutil.rmtree(site.store)
            shutil.copytree(before, site.store)
            replace(registry, rows)
            killed = killed_at(fleet, n if n % 2 else -n, "epoch", "new", *fleet.server())
            if killed and b"epochs = 1, 2\n" not in chv.read(site.config):
                made = fleet.json("epoch", "new", *fleet.server())
                chv.check_equal((made["epoch"], made["epochs"]), (2, "1, 2"), f"{n}: again")
            chv.run("chaveirod", "-t", "-c", site.config)
            chv.check_equal(fleet.ids(), ["cam1"], f"{n}: clients")
            fleet.verify()
            fleet.add("cam2")
            chv.check_equal(fleet.show("cam2")["epoch"], 2, f"{n}: the new epoch works")
            os.unlink(fleet.path("cam2.key"))
        chv.check(n > 10, f"{n} points")


def test_two_servers_with_one_postgresql():
    """What one keyadmin says reaches both, also after the database was away; a clone at the other one is found out."""
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with Running(pg.uri("fleet")) as one, chv.Site("two") as two:
            two.init()
            one.add("cam1")
            one.add("cam2")
            chv.write(os.path.join(two.store, "server.keys"), chv.read(os.path.join(one.site.store, "server.keys")))
            chv.write(two.passphrase_file, chv.read(one.site.passphrase_file))
            chv.write(two.config, chv.read(one.site.config))
            one.site.start()
            two.start()
            key = one.key("cam1")
            here = one.chat("cam1")
            there = two.client_start(key, "chat", stdin=subprocess.PIPE)
            one.says(there, "one")
            other = two.client_start(one.key("cam2"), "chat", stdin=subprocess.PIPE)
            one.says(other, "one")
            pg.stop()
            for server in (one.site.server, two.server):
                server.wait_for("error registrar")
            for session in (here, there, other):
                one.says(session, "two")
            done = chv.run("keyadmin", "client", "revoke", "cam1", *one.config(), code=None)
            chv.check(done.code in (69, 75), f"keyadmin without the database: {done.code} {done.stderr}")
            chv.check_equal(done.stderr.count(b"\n"), 1, f"one line: {done.stderr}")
            pg.start()
            one.state("revoke", "cam1", "--reason", "stolen")
            one.cut(here, "client is revoked: stolen")
            one.cut(there, "client is revoked: stolen")
            one.says(other, "three")
            other.stdin.close()
            other.wait(0)
            # a copy of an older key, at the server that has not seen the newer one
            one.reissue("cam2", "cam2.new")
            new = chv.Key("cam2", one.path("cam2.new"), one.passphrase)
            one.site.client(new, "send", "ola")
            chv.check_in("403", two.client(one.key("cam2"), "send", "ola", code=NOPERM).stderr, "the older one")
            chv.check_equal(one.audit("--id", "cam2")[-1]["action"], "clone", "audit trail")
            one.verify()


if __name__ == "__main__":
    chv.main()
