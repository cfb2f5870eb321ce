#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chaveirod -t: what a server would stumble over is told, a line each, with 78; what a server starts with is no problem."""
import os
import pwd
import sqlite3

import chv
import postgres
from client_life import Fleet
from registry_faults import checkpoint, replace

CONFIG = 78


def check(site, *problems, warnings=(), env=None):
    """Each line of -t, in order, has that text; the exit code follows from the problems."""
    done = chv.run("chaveirod", "-t", "-c", site.config, code=CONFIG if problems else 0, env=env)
    lines = done.stderr.decode().splitlines()
    problem = [line for line in lines if "warning: " not in line]
    warned = [line for line in lines if "warning: " in line]
    chv.check_equal((len(problem), len(warned), done.stdout), (len(problems), len(warnings), b""), f"lines {lines}")
    for text, line in zip((*problems, *warnings), (*problem, *warned)):
        chv.check_in(text, line, "what is wrong")
    return lines


def is_started(site):
    site.start()
    site.stop()


def test_the_registry():
    with Fleet() as fleet:
        site, path = fleet.site, fleet.path("clients.db")
        fleet.add("cam1")
        check(site)
        checkpoint(path)
        good = chv.read(path)
        os.rename(path, path + ".away")
        check(site, f"{path}: there is no registry: if it was lost")
        chv.check(not os.path.exists(path), "-t made a registry")
        os.rename(path + ".away", path)
        replace(path, b"\xa5" * 8192)
        check(site, "nothing was written; move it away")
        replace(path, good)
        os.chmod(path, 0o666)
        check(site, "others can write to it")
        os.chmod(path, 0o600)
        db = sqlite3.connect(path)
        db.execute("INSERT INTO migrations (version, applied) VALUES (99, 1)")
        db.commit()
        db.close()
        check(site, "upgrade this program")
        replace(path, good)
        check(site)
        is_started(site)


def test_an_old_backup():
    with Fleet() as fleet:
        path = fleet.path("clients.db")
        fleet.add("cam1")
        checkpoint(path)
        backup = chv.read(path)
        fleet.state("revoke", "cam1")
        is_started(fleet.site)
        replace(path, backup)
        check(fleet.site, warnings=["is older than it was"])


def test_a_registry_that_cannot_be_reached():
    with postgres.Cluster() as pg, Fleet(pg.uri("fleet")) as fleet:
        site = fleet.site
        os.chmod(pg.folder, 0o711)
        check(site)
        pg.sql("fleet", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        check(site, "'keyadmin registry new' makes it")
        pg.stop()
        check(site, "/fleet: cannot connect")
        site.configure(make_registry=False, registry=pg.uri("fleet", make=False), registry_required="no")
        check(site, warnings=["/fleet: cannot connect"])
        is_started(site)


def test_the_deny_file():
    with chv.Site() as site:
        site.init()
        denied = os.path.join(site.store, "revoked")
        check(site)
        chv.write(denied, "cam1 * stolen\n", 0o644)
        check(site)
        chv.write(denied, "cam1 stolen\n", 0o644)
        check(site, "line 1 has no EPOCH.SERIAL or *")


def test_the_identity_key():
    with chv.Site() as site:
        site.init()
        public = os.path.join(site.store, "server.pub")
        os.rename(public, public + ".away")
        check(site)
        for profiles in ("psk, key+psk", "key+psk"):
            site.configure(profiles=profiles)
            check(site, f"{public}, its public half, is not there: run 'keyadmin identity new --server'")
        chv.write(public, "no key\n", 0o644)
        check(site, public)
        os.unlink(public)
        # the second way that it names
        done = site.keyadmin("identity", "show", "--pem", os.path.join(site.store, "server.keys"), "--passphrase-file",
                             site.passphrase_file)
        chv.write(public, done.stdout, 0o644)
        check(site)
        chv.check_equal(chv.read(public), chv.read(public + ".away"), "the public key")


def test_all_at_once():
    """A line each, and those that a start would not have come to."""
    with chv.Site() as site:
        site.init()
        text = chv.read(site.config).decode()
        chv.write(site.config, text.replace("\n# home =", "\nhome ="), 0o644)
        site.configure(keystore="file:nowhere.keys", registry="sqlite:nowhere.db", state="nowhere", profiles="key, key+psk",
                       allowed_keys="nowhere.allowed", home=site.path("nowhere/%i"), backend="pkcs11:token=nowhere",
                       passphrase_file="nowhere.pass", make_registry=False)
        os.unlink(os.path.join(site.store, "server.pub"))
        check(site, "nowhere.keys", "nowhere.pass", "server.pub", "nowhere.allowed", "nowhere.db", "state folder", "home",
              "nowhere")


def test_as_the_servers_user():
    """Root may do all; what counts is what the server may."""
    if os.geteuid() != 0:
        raise chv.Skip("only root can become another user")
    with Fleet() as fleet:
        site, path, state = fleet.site, fleet.path("clients.db"), os.path.join(fleet.site.store, "state")
        os.chmod(site.folder, 0o711)
        os.chmod(site.store, 0o711)
        home = site.path("home")
        os.mkdir(home, 0o700)
        text = chv.read(site.config).decode()
        chv.write(site.config, text.replace("\n# home =", "\nhome =").replace("/srv/chaveiro/", home + "/"), 0o644)
        check(site)
        site.configure(user="no-such-user")
        check(site, "no-such-user")
        site.configure(user="nobody")
        check(site, "clients.db", "state folder", "home")
        user = pwd.getpwnam("nobody")
        for mine in (path, state, home):
            os.chown(mine, user.pw_uid, user.pw_gid)
        check(site, f"{path}: unable to open")
        database = site.path("db")
        os.mkdir(database, 0o700)
        os.rename(path, os.path.join(database, "clients.db"))
        os.chown(database, user.pw_uid, user.pw_gid)
        site.configure(registry=f"sqlite:{database}/clients.db")
        check(site)
        os.chown(os.path.join(database, "clients.db"), 0, 0)
        os.chmod(os.path.join(database, "clients.db"), 0o644)
        check(site, f"{database}/clients.db: the server's user cannot write to it")
        os.chown(os.path.join(database, "clients.db"), user.pw_uid, user.pw_gid)
        is_started(site)


if __name__ == "__main__":
    chv.main()
