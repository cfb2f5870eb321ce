#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry's own life: made once, lost, put back from a backup; what becomes of what was revoked in it."""
import os
import pwd
import signal
import sqlite3

import chv
import postgres
from client_life import Fleet
from registry_faults import checkpoint, replace

NOINPUT, CANTCREAT, CONFIG, NOPERM = 66, 73, 78, 77
HELP = "if it was lost, put its backup back; if there never was one, 'keyadmin registry new' makes it"


class Running(Fleet):
    """A fleet with a server and clients that try to come in."""

    def key(self, name):
        return chv.Key(name, self.path(f"{name}.key"), self.passphrase)

    def send(self, name, code=0):
        return self.site.client(self.key(name), "send", "ola", code=code)

    def remove_registry(self):
        for end in ("", "-wal", "-shm"):
            if os.path.exists(self.path("clients.db" + end)):
                os.unlink(self.path("clients.db" + end))


def nothing_makes_one(fleet):
    """Whatever would hand out a number, or change what is said of a client."""
    listed = chv.write(fleet.path("list.csv"), "id,scopes,expires\ncam1,,\n")
    out = fleet.path("not-made")
    for words in (["client", "add", "cam1", *fleet.made(), "--out", out],
                  ["client", "add", "cam1", "--profile", "key", *fleet.made(), "--out", out],
                  ["client", "add", "--from", listed, *fleet.made(), "--out", out],
                  ["client", "reissue", "cam1", *fleet.made(), "--out", out],
                  ["client", "revoke", "cam1", *fleet.config()],
                  ["client", "list", *fleet.config()],
                  ["audit", "seal", *fleet.server()]):
        fleet.fails(NOINPUT, HELP, *words)
        chv.check(not os.path.exists(out), f"{words}: a keystore was made")


def test_a_lost_file_is_not_made_anew():
    with Running() as fleet:
        fleet.add("cam1")
        fleet.state("revoke", "cam1", "--reason", "stolen")
        fleet.remove_registry()
        nothing_makes_one(fleet)
        chv.check(not os.path.exists(fleet.path("clients.db")), "it was made anew")
        done = chv.run("keyadmin", "epoch", "new", *fleet.server())
        chv.check_in("the registry does not have it", done.stderr, "an epoch that it cannot be told of")
        chv.write(fleet.path("clients.db"), b"")
        nothing_makes_one(fleet)
        chv.check_equal(chv.read(fleet.path("clients.db")), b"", "an empty file")


def test_lost_tables_are_not_made_anew():
    with postgres.Cluster() as pg, Running(pg.uri("fleet")) as fleet:
        fleet.add("cam1")
        pg.sql("fleet", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        nothing_makes_one(fleet)
        chv.check_equal(pg.sql("fleet", "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), "0", "tables")
        fleet.json("registry", "new", *fleet.config())
        fleet.fails(CANTCREAT, "is there already", "registry", "new", *fleet.config())
        fleet.add("cam2")
        chv.check_equal(fleet.ids(), ["cam2"], "clients")


def test_registry_new():
    with Running() as fleet:
        path = fleet.path("clients.db")
        fleet.add("cam1")
        before = chv.read(path)
        fleet.fails(CANTCREAT, f"{path}: the registry is there already: it stays", "registry", "new", *fleet.config())
        chv.check_equal(chv.read(path), before, "the one that is there")
        made = fleet.json("registry", "new", "--registry", "sqlite:" + fleet.path("other.db"), cwd="/")
        chv.check_equal(made, {"registry": fleet.path("other.db")}, "what it says")
        chv.check_equal(os.stat(fleet.path("other.db")).st_mode & 0o777, 0o600, "its mode")
        fleet.fails(CANTCREAT, "other.db", "registry", "new", "--registry", fleet.path("other.db"))
        for text in (b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096):
            replace(path, text)
            chv.run("keyadmin", "registry", "new", *fleet.config(), code=65)
            chv.check_equal(chv.read(path), text, "what is no registry")
        fleet.remove_registry()
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE notes (text)")
        db.close()
        os.chmod(path, 0o600)
        fleet.fails(CONFIG, "another program", "registry", "new", *fleet.config())
        fleet.fails(NOINPUT, "no configuration file", "registry", "new", cwd=fleet.site.folder)
        for none in ("none", "revoked:" + fleet.path("denied")):
            fleet.site.configure(registry=none)
            fleet.fails(CONFIG, "there is no registry to make", "registry", "new", *fleet.config())
        fleet.fails(CONFIG, "there is no registry to make", "registry", "new", "--registry", "none")
        chv.check(not os.path.exists(fleet.path("denied")), "a deny file was made")


def test_init_makes_the_one_of_its_configuration():
    with chv.Site() as site:
        site.init(registry=True)
        path = os.path.join(site.store, "registry.db")
        chv.check(os.path.exists(path), "a new master has a new registry")
        site.keyadmin("registry", "new", "-c", site.config, code=CANTCREAT)
        site.add_client("cam1", extra=["--address", "gate.example:1"])


def test_what_a_lost_registry_takes_along():
    """No backup: as the manual says, the epoch is given up before anybody is added again; then no old key fits."""
    with Running() as fleet:
        fleet.add("cam1")
        fleet.add("cam2")
        fleet.site.start()
        fleet.send("cam1")
        fleet.send("cam2")
        fleet.state("revoke", "cam1", "--reason", "stolen")
        fleet.send("cam1", code=NOPERM)
        fleet.site.stop()
        fleet.remove_registry()
        done = chv.run("chaveirod", "-c", fleet.site.config, "--passphrase-file", fleet.site.passphrase_file, code=NOINPUT)
        chv.check_in(HELP, done.stderr, "the server")
        done = chv.run("keyadmin", "registry", "new", *fleet.config())
        chv.check_in("this server had a registry", done.stderr, "warning")
        chv.check_in("'keyadmin epoch new --compromised'", done.stderr, "what to do")
        chv.check_equal(done.stderr.count(b"\n"), 1, f"lines: {done.stderr}")
        chv.run("keyadmin", "epoch", "new", "--compromised", *fleet.server())
        for name in ("cam1", "cam2"):
            os.rename(fleet.path(f"{name}.key"), fleet.path(f"{name}-old.key"))
            fleet.add(name)
        fleet.site.start()
        for name in ("cam1", "cam2"):
            chv.check(fleet.site.client(fleet.key(f"{name}-old"), "send", "ola", code=None).code != 0, "an old key fits")
            fleet.send(name)
        fleet.verify()


def test_an_old_backup_is_noticed():
    """With what keyadmin init configures: by keyadmin before a server runs again, and by the server, once."""
    with chv.Site() as site:
        site.init(registry=True)
        path = os.path.join(site.store, "registry.db")
        chv.check_in("\nstate = state\n", chv.read(site.config).decode(), "configuration")
        chv.check_equal(os.stat(os.path.join(site.store, "state")).st_mode & 0o777, 0o700, "mode of the folder")
        site.add_client("cam1", extra=["--address", "gate.example:1"])
        checkpoint(path)
        backup = chv.read(path)
        revoke = ["client", "revoke", "cam1", "-c", site.config]
        chv.check_equal(site.keyadmin(*revoke).stderr, b"", "nothing to warn of")
        checkpoint(path)
        after = chv.read(path)
        site.start()
        site.stop()  # that writes the mark, if not before
        replace(path, backup)
        done = site.keyadmin(*revoke)
        chv.check_in("warning: " + path + ": is older than it was", done.stderr, "keyadmin")
        chv.check_equal(done.stderr.count(b"\n"), 1, f"lines: {done.stderr}")
        listed = site.keyadmin("client", "list", "-c", site.config)
        chv.check_equal(listed.stderr, b"", "who only reads")
        replace(path, backup)
        other = site.path("other.db")
        replace(other, backup)
        chv.check_equal(site.keyadmin(*revoke, "--registry", "sqlite:" + other).stderr, b"", "another one has no mark")
        server = site.start()
        server.wait_for("error registrar.*is older than it was .* an old backup")
        site.stop()
        server = site.start()
        site.stop()
        chv.check_not_in("is older", server.stderr, "said once")
        replace(path, after)
        chv.write(os.path.join(site.store, "state", "registry-mark"), "nonsense\n")
        chv.check_in("warning: ", site.keyadmin(*revoke).stderr, "a mark that is none")


def test_a_registry_without_a_state_folder():
    told = "there is a registry but no 'state' folder"
    with Running() as fleet:
        site = fleet.site
        chv.check_equal(chv.run("chaveirod", "-t", "-c", site.config).stderr, b"", "with one")
        text = chv.read(site.config).decode()
        chv.write(site.config, text.replace("\nstate = state\n", "\n"), 0o644)
        chv.check_equal(chv.run("chaveirod", "-t", "-c", site.config).stderr.decode().count(told), 1, "-t")
        server = site.start()
        os.kill(chv.process_named(server.pid, "chv-registrar"), signal.SIGKILL)
        server.wait_for("the registrar process serves again")
        site.stop()
        chv.check_equal(server.stderr.decode().count(told), 1, "the log")
        site.configure(registry="none")
        chv.check_equal(chv.run("chaveirod", "-t", "-c", site.config).stderr, b"", "without a registry")


def test_root_and_the_deny_file_of_the_servers_user():
    if os.geteuid() != 0:
        raise chv.Skip("only root runs keyadmin for another user")
    with chv.Site() as site:
        site.init()
        user = pwd.getpwnam("nobody")
        denied = chv.write(os.path.join(site.store, "revoked"), "cam1 * stolen\n", 0o600)
        os.chown(denied, user.pw_uid, user.pw_gid)
        who = ["client", "list", "-c", site.config, "--status", "all"]
        chv.check_in("give it to root", site.keyadmin(*who, code=CONFIG).stderr, "somebody's")
        site.serve_as("nobody")
        chv.check_in("cam1", site.keyadmin(*who).stdout, "the server's user's")
        site.keyadmin("client", "revoke", "cam2", "-c", site.config)
        chv.check_equal((os.stat(denied).st_uid, os.stat(denied).st_mode & 0o777), (user.pw_uid, 0o600), "whose it is now")
        chv.run("chaveirod", "-t", "-c", site.config)
        cam2 = site.add_client("cam2")
        site.start()
        chv.check_in("client is revoked", site.client(cam2, "send", "ola", code=NOPERM).stderr, "what counts")
        os.chown(denied, pwd.getpwnam("daemon").pw_uid, -1)
        chv.check_in("give it to root", site.keyadmin(*who, code=CONFIG).stderr, "somebody else's")


if __name__ == "__main__":
    chv.main()
