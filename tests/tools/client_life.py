#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients over the registry: added, listed, revoked, reissued, removed; the audit trail; killed anywhere and run again."""
import json
import os
import re
import sqlite3

import chv
import clock
import postgres
import store

USAGE, NOINPUT, CANTCREAT, CONFIG, NOPERM = 64, 66, 73, 78, 77
KILLED = -9
KILL_AT = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/kill_at.so")


class Fleet:
    """A server with a registry, and keyadmin on it."""

    def __init__(self, registry=None):
        self.site = chv.Site()
        self.site.init("--address", "gate.example:7040")
        self.registry = registry or f"sqlite:{self.site.path('clients.db')}"
        self.site.configure(registry=self.registry)
        self.passphrase = self.site.new_passphrase("client.pass")

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.site.__exit__(*what)

    def path(self, name):
        return self.site.path(name)

    def config(self):
        return ["-c", self.site.config]

    def server(self):
        return [*self.config(), "--passphrase-file", self.site.passphrase_file]

    def made(self):
        return [*self.server(), "--client-passphrase-file", self.passphrase, "--scrypt-cost", chv.SCRYPT_COST]

    def json(self, *words, **options):
        return json.loads(chv.run("keyadmin", *words, "--json", **options).stdout)

    def add(self, client, *extra, out=None, **options):
        return self.json("client", "add", client, *self.made(), "--out", out or self.path(f"{client}.key"), *extra,
                         **options)

    def reissue(self, client, out, *extra, **options):
        return self.json("client", "reissue", client, *self.made(), "--out", self.path(out), *extra, **options)

    def state(self, what, client, *extra, **options):
        return self.json("client", what, client, *self.config(), *extra, **options)

    def show(self, client):
        return self.json("client", "show", client, *self.config())

    def list(self, *extra):
        return self.json("client", "list", *self.config(), *extra)["clients"]

    def ids(self, *extra):
        return [c["client"] for c in self.list(*extra)]

    def audit(self, *extra):
        return self.json("audit", "list", *self.config(), *extra)["rows"]

    def verify(self, **options):
        return self.json("audit", "verify", *self.server(), **options)

    def fails(self, code, text, *words, **options):
        done = chv.run("keyadmin", *words, code=code, **options)
        chv.check_equal((done.stdout, done.stderr.count(b"\n")), (b"", 1), f"{words}: {done.stderr}")
        chv.check_in(text, done.stderr, f"{words}: error")

    def key(self, name):
        """What is in a client's keystore, without keyadmin."""
        opened = store.Store(self.path(name), store.passphrase_of(self.passphrase))
        return opened.keys, opened.data


def every_registry(test):
    """Runs a test over SQLite and over a PostgreSQL server of its own."""
    def run():
        with Fleet() as fleet:
            test(fleet)
        try:
            cluster = postgres.Cluster()
        except chv.Skip as why:
            print(f"without PostgreSQL: {why}", flush=True)
            return
        with cluster, Fleet(cluster.uri("fleet")) as fleet:
            test(fleet)
    return run


@every_registry
def test_a_life(fleet):
    added = fleet.add("cam1", "--scope", "message", "--scope", "files:ro", "--expires", "2040-01-31")
    chv.check_equal((added["epoch"], added["serial"], added["scopes"]), (1, 1, ["files:ro", "message"]), "added")
    chv.check_equal(list(fleet.key("cam1.key")[0]), ["access:1.1"], "keys of the client")
    shown = fleet.show("cam1")
    chv.check_equal({name: shown[name] for name in ("status", "expires", "scopes", "serial", "last_seen")},
                    {"status": "active", "expires": "2040-01-31T23:59:59Z", "scopes": ["files:ro", "message"], "serial": 1,
                     "last_seen": "never"}, "in the registry")

    chv.check_equal(fleet.state("suspend", "cam1", "--reason", "in repair")["status"], "suspended", "suspend")
    chv.check_equal(fleet.show("cam1")["reason"], "in repair", "reason")
    chv.check_equal(fleet.state("suspend", "cam1")["changed"], False, "suspended again")
    fleet.fails(CANTCREAT, "is suspended", "client", "reissue", "cam1", *fleet.made(), "--out", fleet.path("no"))
    chv.check_equal(fleet.state("resume", "cam1")["status"], "active", "resume")
    chv.check("reason" not in fleet.show("cam1"), "a reason is left")

    # fewer scopes at once, more only with another credential
    chv.check_equal(fleet.state("set-scopes", "cam1", "message")["scopes"], ["message"], "narrowed")
    fleet.fails(USAGE, "give --out", "client", "set-scopes", "cam1", "message", "files:ro", *fleet.config())
    chv.check_equal(fleet.show("cam1")["scopes"], ["message"], "still narrow")
    wide = fleet.json("client", "set-scopes", "cam1", "message", "files:ro", *fleet.made(), "--out", fleet.path("wide.key"))
    chv.check_equal((wide["serial"], wide["scopes"]), (2, ["files:ro", "message"]), "widened")

    # the old one works until the new one is seen: no minimum is set; leaked: it is
    chv.check("minimum" not in fleet.show("cam1"), "a minimum is set")
    leaked = fleet.reissue("cam1", "leaked.key", "--leaked")
    shown = fleet.show("cam1")
    chv.check_equal((leaked["serial"], shown["minimum"], shown["no_update"]), (3, "1.3", True), "leaked")
    chv.check_equal(list(fleet.key("leaked.key")[0]), ["access:1.3"], "keys")

    chv.check_equal(fleet.state("revoke", "cam1", "--reason", "stolen")["status"], "revoked", "revoke")
    fleet.fails(USAGE, "is revoked", "client", "resume", "cam1", *fleet.config())
    fleet.fails(USAGE, "is revoked", "client", "suspend", "cam1", *fleet.config())
    fleet.fails(CANTCREAT, "is revoked", "client", "add", "cam1", *fleet.made(), "--out", fleet.path("no"))
    chv.check_equal(fleet.state("remove", "cam1")["status"], "removed", "remove")
    chv.check_equal(fleet.ids(), [], "clients")
    chv.check_equal(fleet.ids("--status", "removed"), ["cam1"], "tombstones")
    fleet.fails(NOINPUT, "no client", "client", "revoke", "cam1", *fleet.config())
    again = fleet.add("cam1", out=fleet.path("again.key"))
    chv.check_equal((again["serial"], fleet.show("cam1")["minimum"]), (4, "1.4"), "serials go on")

    user = re.compile(r"keyadmin \S+")
    rows = fleet.audit("--id", "cam1")
    chv.check(all(user.fullmatch(row["actor"]) for row in rows), f"actors: {rows}")
    chv.check_equal([row["action"] for row in rows],
                    ["add", "issue", "suspend", "resume", "set-scopes", "reissue", "issue", "reissue", "issue", "revoke",
                     "remove", "add", "issue"], "audit trail")
    report = fleet.verify()
    chv.check_equal((report["rows"], report["not_sealed_yet"]), (len(rows), 0), "sealed")
    fleet.state("suspend", "cam1")
    chv.check_equal(fleet.verify()["not_sealed_yet"], 1, "a row behind the seal")
    fleet.json("audit", "seal", *fleet.server())
    chv.check_equal(fleet.verify()["not_sealed_yet"], 0, "sealed again")


@every_registry
def test_lists(fleet):
    fleet.add("a", "--expires", "10d")
    fleet.add("b", "--expires", "2040-01-01", "--scope", "files:rw")
    fleet.add("long-name-of-a-client", "--expires", "never")
    fleet.state("suspend", "b")
    chv.check_equal(fleet.ids(), ["a", "b", "long-name-of-a-client"], "all")
    chv.check_equal(fleet.ids("--expiring", "30d"), ["a"], "expiring")
    chv.check_equal(fleet.ids("--status", "suspended"), ["b"], "suspended")
    chv.check_equal(fleet.ids("--scope", "files:rw"), ["b"], "by scope")
    chv.check_equal((fleet.ids("--epoch", "1"), fleet.ids("--epoch", "2")), (["a", "b", "long-name-of-a-client"], []),
                    "by epoch")
    lines = chv.run("keyadmin", "client", "list", *fleet.config()).stdout.decode().splitlines()
    chv.check_equal(len({line.index(word) for line, word in zip(lines, ("STATUS", "active", "suspended", "active"))}), 1,
                    f"columns of {lines}")
    chv.check("\033" not in "".join(lines), "colours in a pipe")
    fleet.fails(USAGE, "there are active", "client", "list", *fleet.config(), "--status", "gone")


def test_add_again_is_the_same():
    with Fleet() as fleet:
        first = fleet.add("cam1", "--expires", "90d")
        wall = clock.Clock(fleet.site.folder)
        wall.shift(5 * 86400)
        again = fleet.add("cam1", "--expires", "90d", env=wall.env)
        chv.check_equal(again, first, "the same file, days later")
        other = fleet.add("cam1", "--expires", "90d", out=fleet.path("copy.key"), env=wall.env)
        chv.check_equal((other["key_check"], other["expires"]), (first["key_check"], first["expires"]), "another copy")
        for extra, text in ((["--scope", "files:ro"], "other scopes"), (["--expires", "30d"], "another expiry"),
                            (["--expires", "2040-01-01"], "another expiry"), (["--serial", "2"], "another serial")):
            fleet.fails(CANTCREAT, text, "client", "add", "cam1", *fleet.made(), "--out", fleet.path("no"), *extra)
        chv.check(not os.path.exists(fleet.path("no")), "a file was made")
        # what fails before there is a key registers nobody
        fleet.fails(NOINPUT, "nopass: No such file", "client", "add", "cam9", *fleet.server(), "--expires", "1d", "--client-passphrase-file",
                    fleet.path("nopass"), "--out", fleet.path("no"))
        fleet.fails(NOINPUT, "cannot open its folder", "client", "add", "cam9", *fleet.made(), "--out", fleet.path("none/no"))
        chv.check_equal(fleet.ids(), ["cam1"], "who is registered")
        # a file that is something else stays
        chv.write(fleet.path("mine"), "precious")
        fleet.fails(CANTCREAT, "is there already", "client", "add", "cam2", *fleet.made(), "--out", fleet.path("mine"))
        chv.check_equal((chv.read(fleet.path("mine")), fleet.ids()), (b"precious", ["cam1"]), "what is there")


def test_keystore_or_client():
    with Fleet() as fleet:
        fleet.add("cam1")
        os.rename(fleet.path("cam1.key"), fleet.path("cam1"))
        secret = ["--passphrase-file", fleet.passphrase]
        chv.check_in("key_check", fleet.json("client", "show", "cam1", *secret, cwd=fleet.site.folder), "a file here")
        chv.check_in("key_check", fleet.json("client", "show", f"file:{fleet.path('cam1')}", *secret), "a URI")
        chv.check_in("status", fleet.show("cam1"), "no such file here")
        chv.check_in("status", fleet.json("client", "show", "cam1", "--registry", fleet.registry, cwd=fleet.site.folder),
                     "--registry")
        fleet.fails(NOINPUT, "is no keystore here, and no client in", "client", "show", "cam2", *fleet.config())
        fleet.fails(NOINPUT, "is no keystore here, and there is no registry", "client", "show", "cam2", cwd="/")


def test_profiles_with_identity_keys():
    with Fleet() as fleet:
        chv.run("keyadmin", "identity", "new", "--out", fleet.path("dev"))
        bound = fleet.add("cam1", "--profile", "key+psk", "--identity", fleet.path("dev.pub"))
        chv.check_equal(fleet.show("cam1")["identity"], bound["identity"], "identity key in the registry")
        chv.check_equal(fleet.add("cam1", "--profile", "key+psk", "--identity", fleet.path("dev.pub"),
                                  out=fleet.path("copy"))["key_check"], bound["key_check"], "again")
        made = fleet.add("cam3", "--profile", "key+psk")
        chv.check_equal(fleet.show("cam3")["identity"], made["identity"], "key that was made")
        fleet.fails(CANTCREAT, "is registered with an identity key", "client", "add", "cam3", *fleet.made(), "--profile",
                    "key+psk", "--out", fleet.path("no"))
        key = fleet.add("cam4", "--profile", "key")
        chv.check_equal((fleet.show("cam4")["identity"], fleet.show("cam4")["profile"]), (key["identity"], "key"), "key")
        chv.check_equal(fleet.state("set-scopes", "cam4", "message", "files:ro")["scopes"], ["files:ro", "message"],
                        "profile key is widened by the registry")
        again = fleet.reissue("cam1", "new.key", "--identity", fleet.path("dev.pub"))
        chv.check_equal((again["serial"], again["bound_to"]), (2, bound["bound_to"]), "reissue of key+psk")
        fleet.fails(USAGE, "no credential: 'client set-key cam4 --identity KEY'", "client", "reissue", "cam4", *fleet.made(),
                    "--out", fleet.path("no"))
        # another key of profile key; not of the others, nor one that is somebody else's
        chv.run("keyadmin", "identity", "new", "--out", fleet.path("new"))
        chv.run("keyadmin", "identity", "new", "--curve", "p256", "--out", fleet.path("p256"))
        changed = fleet.json("client", "set-key", "cam4", *fleet.config(), "--identity", fleet.path("new.pub"))
        chv.check_equal((changed["changed"], changed["identity"] != key["identity"]), (True, True), "changed")
        chv.check_equal(fleet.show("cam4")["identity"], changed["identity"], "in the registry")
        chv.check_equal(fleet.json("client", "set-key", "cam4", *fleet.config(), "--identity", fleet.path("new.pub"))["changed"],
                        False, "again")
        chv.check_in(changed["identity"], fleet.audit("--id", "cam4")[-1]["details"]["identity"], "audit trail")
        fleet.add("cam5")
        for code, text, client, extra in ((USAGE, "Give --identity", "cam4", []),
                                          (USAGE, "client reissue --identity", "cam1", ["--identity", fleet.path("new.pub")]),
                                          (USAGE, "it has no identity key", "cam5", ["--identity", fleet.path("new.pub")]),
                                          (USAGE, "of kind", "cam4", ["--identity", fleet.path("p256.pub")]),
                                          (CANTCREAT, "belongs to another client", "cam4", ["--identity", fleet.path("dev.pub")])):
            fleet.fails(code, text, "client", "set-key", client, *fleet.config(), *extra)


def test_without_a_registry():
    with Fleet() as fleet:
        fleet.site.configure(registry="none")
        os.unlink(fleet.path("clients.db"))
        denied = os.path.join(fleet.site.store, "revoked")
        fleet.add("cam1")
        chv.check(not os.path.exists(fleet.path("clients.db")), "a registry was made")
        chv.check_equal(fleet.list(), [], "nobody is denied")
        chv.check_equal(fleet.state("revoke", "cam1", "--reason", "stolen")["changed"], True, "revoked")
        chv.check_equal(fleet.state("revoke", "cam1")["changed"], False, "revoked again")
        before = chv.read(denied).decode() + "# by hand\ncam3 1.2\n"
        chv.write(denied, before, 0o644)
        fleet.state("suspend", "cam2", "--reason", "in repair")
        chv.check_equal([(c["client"], c["status"]) for c in fleet.list("--status", "all")],
                        [("cam1", "revoked"), ("cam2", "suspended"), ("cam3", "active")], "list")
        chv.check_equal(chv.read(denied).decode(), before + "cam2 * suspended: in repair\n", "the file")
        chv.check_equal(os.stat(denied).st_mode & 0o777, 0o644, "its mode")
        fleet.state("resume", "cam2")
        chv.check_equal(chv.read(denied).decode(), before, "resumed")
        fleet.fails(70, "is revoked", "client", "resume", "cam1", *fleet.config())
        for words in (["client", "remove", "cam1"], ["client", "set-scopes", "cam1", "message"],
                      ["client", "set-key", "cam1", "--identity", "x"]):
            fleet.fails(CONFIG, "no registry", *words, *fleet.config())
        fleet.fails(CONFIG, "no registry", "client", "reissue", "cam1", *fleet.made(), "--out", fleet.path("no"))
        fleet.fails(CONFIG, "no audit trail", "audit", "list", *fleet.config())


def test_a_leaked_key_is_not_replaced_by_one_of_an_older_epoch():
    """A thief may have been handed the key of the newer epoch, which is newer than any of the older."""
    with Fleet() as fleet:
        fleet.add("cam1")
        fleet.json("epoch", "new", *fleet.server())
        done = chv.run("keyadmin", "client", "reissue", "cam1", *fleet.made(), "--leaked", "--epoch", "1", "--out",
                       fleet.path("no"), code=USAGE)
        chv.check_in(b"leave --epoch out", done.stderr, "what it says")
        chv.check("minimum" not in fleet.show("cam1"), "it was changed")
        fleet.reissue("cam1", "leaked.key", "--leaked")
        chv.check_equal(fleet.show("cam1")["minimum"], "2.2", "minimum")


def test_audit_tampering_is_found():
    with Fleet() as fleet:
        fleet.add("cam1")
        fleet.state("revoke", "cam1")
        with sqlite3.connect(fleet.path("clients.db")) as db:
            db.execute("UPDATE audit SET actor = 'keyadmin nobody' WHERE n = 2")
        db.close()
        fleet.fails(NOPERM, "2", "audit", "verify", *fleet.server())
        # a seal must not vouch for it: the next command says so, and does its work
        done = chv.run("keyadmin", "client", "add", "cam2", *fleet.made(), "--out", fleet.path("cam2.key"))
        chv.check_in("warning: the audit trail was not sealed", done.stderr, "warning")
        chv.check_equal(fleet.ids(), ["cam1", "cam2"], "clients")


def test_keys_from_the_registry_work():
    """With a real server: old until the new is seen; leaked at once; suspended and resumed."""
    with Fleet() as fleet:
        fleet.add("cam1")
        fleet.add("cam2")
        site = fleet.site
        server = site.start()
        chv.check(server.running(), "the server runs")

        def send(name, code=0):
            return site.client(chv.Key("", fleet.path(name), fleet.passphrase), "send", "ola", code=code)

        def refused(name):
            done = send(name, code=None)
            chv.check(done.code != 0, f"{name} was let in")
            return done.stderr

        send("cam1.key")
        fleet.reissue("cam1", "cam1.new")
        send("cam1.key")
        send("cam1.new")
        refused("cam1.key")
        send("cam2.key")
        fleet.reissue("cam2", "cam2.new", "--leaked")
        refused("cam2.key")
        send("cam2.new")
        chv.check("no_update" not in fleet.show("cam2"), "the new key is not updated in band")
        fleet.state("suspend", "cam2")
        refused("cam2.new")
        fleet.state("resume", "cam2")
        send("cam2.new")
        chv.check(fleet.show("cam1")["confirmed"] == "1.2", "the new one is confirmed")


# --- at once, and cut off -------------------------------------------------------------------------------------------


@every_registry
def test_two_at_once(fleet):
    fleet.add("cam0")
    started = []
    for i in range(4):
        started.append(fleet.site.spawn("keyadmin", "client", "add", f"cam{i % 2 + 1}", *fleet.made(), "--out",
                                        fleet.path(f"at-once-{i}.key"), "--json"))
        started.append(fleet.site.spawn("keyadmin", "client", "reissue", "cam0", *fleet.made(), "--out",
                                        fleet.path(f"reissue-{i}.key"), "--json"))
    results = [json.loads(process.wait(0).stdout) for process in started]
    reissued = sorted(r["serial"] for r in results if r["client"] == "cam0")
    chv.check_equal({(r["client"], r["serial"]) for r in results if r["client"] != "cam0"}, {("cam1", 1), ("cam2", 1)},
                    "added")
    # one that finds another's that is not written yet writes the same; none is left out, none is used for two
    latest = fleet.show("cam0")["serial"]
    chv.check_equal(sorted(set(reissued)), list(range(2, latest + 1)), "serials")
    keys = {}
    for r in results:
        if r["client"] == "cam0":
            keys.setdefault(r["serial"], set()).add(r["key_check"])
    chv.check(all(len(found) == 1 for found in keys.values()), f"keys: {keys}")
    chv.check_equal(fleet.ids(), ["cam0", "cam1", "cam2"], "clients")
    fleet.verify()


def killed_at(fleet, n, *words):
    """Runs keyadmin until its Nth change of the outside world; True if it was killed there."""
    wall = clock.Clock(fleet.site.folder)
    env = dict(wall.env, LD_PRELOAD=KILL_AT, CHV_TEST_KILL_AT=str(n))
    done = chv.run("keyadmin", *words, code=None, env=env)
    chv.check(done.code in (0, KILLED), f"{words}, killed at {n}: exit code {done.code}: {done.stderr}")
    return done.code == KILLED


def recorded(fleet, client):
    """The registry's row, None if there is none (or no registry yet)."""
    done = chv.run("keyadmin", "client", "show", client, *fleet.config(), "--json", code=None)
    return json.loads(done.stdout) if done.code == 0 else None


def test_add_killed_anywhere():
    with Fleet() as fleet:
        wall = clock.Clock(fleet.site.folder)
        wall.shift(3 * 86400)
        words = lambda client: ["client", "add", client, *fleet.made(), "--out", fleet.path(f"{client}.key")]
        seen, n, done = 0, 0, False
        while not done:
            n += 1
            client = f"cam{n}"
            if n == 1:
                fleet.add("first")  # the registry's own making is killed in the registry's tests
            done = not killed_at(fleet, n if n % 2 else -n, *words(client))
            row = recorded(fleet, client)
            seen += row is not None
            again = chv.run("keyadmin", *words(client), "--json", env=wall.env)
            result = json.loads(again.stdout)
            after = fleet.show(client)
            if row is not None:
                chv.check_equal((after["serial"], after["expires"]), (row["serial"], row["expires"]), f"{n}: row")
            chv.check_equal((result["serial"], result["expires"]), (1, after["expires"]), f"{n}: result")
            chv.check("pending" not in after, f"{n}: is pending")
            chv.check_equal(list(fleet.key(f"{client}.key")[0]), ["access:1.1"], f"{n}: keystore")
        chv.check(n > 10 and 0 < seen < n, f"{n} points, {seen} of them with a row")
        chv.check_equal(len(fleet.ids()), n + 1, "clients")
        chv.check_equal([f for f in os.listdir(fleet.site.folder) if ".tmp" in f], [], "left-overs")
        fleet.verify()


def test_reissue_killed_anywhere():
    with Fleet() as fleet:
        wall = clock.Clock(fleet.site.folder)
        wall.shift(3 * 86400)
        fleet.add("cam1")
        n, serial, done, counted = 0, 1, False, 0
        while not done:
            n += 1
            out = fleet.path(f"{n}.key")
            words = ["client", "reissue", "cam1", *fleet.made(), "--out", out]
            done = not killed_at(fleet, n if n % 2 else -n, *words)
            row = fleet.show("cam1")
            started = row["serial"] == serial + 1
            counted += started
            # if all was done but to say so, the file is there, and is given yet another one
            complete = started and "pending" not in row
            chv.check_equal(complete and not os.path.exists(out), False, f"{n}: keystore")
            chv.run("keyadmin", *words, "--json", env=wall.env)
            after = fleet.show("cam1")
            if started and not complete:
                chv.check_equal((after["serial"], after["expires"]), (row["serial"], row["expires"]), f"{n}: row")
            first = serial + 1
            serial = first + complete
            chv.check_equal((after["serial"], "pending" in after), (serial, False), f"{n}: serial")
            chv.check_equal(sorted(fleet.key(f"{n}.key")[0]), sorted({f"access:1.{first}", f"access:1.{serial}"}),
                            f"{n}: keystore")
        chv.check(n > 10 and 0 < counted < n, f"{n} points, {counted} of them with a row")
        fleet.verify()


if __name__ == "__main__":
    chv.main()
