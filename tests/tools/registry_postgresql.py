#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""keyadmin and chaveirod over a PostgreSQL registry that may not be written, or that somebody has locked."""
import os

import chv
import postgres
from client_life import Fleet
from registrar import AWAY, House, ended, serves, until
from registry_faults import changes

IOERR, TEMPFAIL, CONFIG = 74, 75, 78
BUSY = "another program is changing it: try again"


def rows(pg, database):
    return [pg.sql(database, f"SELECT * FROM {table} ORDER BY 1") for table in ("clients", "audit", "meta", "epochs")]


def nothing_changes(fleet, code, text):
    for words, out in changes(fleet):
        fleet.fails(code, text, *words)
        chv.check(out is None or not os.path.exists(out), f"{words}: a keystore was made")


def with_guest(pg, database):
    """A role that may look."""
    pg.sql(database, "CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest;"
                     "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    return pg.uri(database, user="guest")


def test_keyadmin_with_too_few_rights():
    with postgres.Cluster() as pg, Fleet(pg.uri("fleet")) as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(pg, "fleet")
        fleet.site.configure(make_registry=False, registry=with_guest(pg, "fleet"))
        nothing_changes(fleet, CONFIG, "fleet: the user has too few rights (ERROR:  permission denied for table")
        chv.check_equal(fleet.ids(), ["cam1"], "it may look")
        other = pg.uri("other", user="guest")  # a new database, whose schema is its owner's
        fleet.fails(CONFIG, "too few rights", "registry", "new", "--registry", other)
        chv.check_equal(rows(pg, "fleet"), before, "what is in it")
        fleet.site.configure(make_registry=False, registry=pg.uri("fleet"))
        fleet.add("cam3")
        fleet.verify()


def test_keyadmin_and_a_database_that_may_only_be_read():
    with postgres.Cluster() as pg, Fleet(pg.uri("fleet")) as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(pg, "fleet")
        pg.sql("postgres", "ALTER DATABASE fleet SET default_transaction_read_only = on")
        nothing_changes(fleet, IOERR, "fleet: is read-only: nothing was changed")
        chv.check_equal(fleet.ids(), ["cam1"], "it may be read")
        chv.check_equal(rows(pg, "fleet"), before, "what is in it")
        pg.sql("postgres", "ALTER DATABASE fleet SET default_transaction_read_only = off")
        fleet.add("cam3")
        fleet.verify()


def test_keyadmin_and_a_lock():
    """Each waits for a while, and no longer."""
    with postgres.Cluster() as pg, Fleet(pg.uri("fleet")) as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(pg, "fleet")
        out = fleet.path("not-made")
        for words in (["client", "revoke", "cam1", *fleet.config()], ["client", "add", "cam2", *fleet.made(), "--out", out]):
            with pg.holding("fleet", "SELECT * FROM meta FOR UPDATE"):
                fleet.fails(TEMPFAIL, BUSY, *words)
                chv.check_equal(fleet.ids(), ["cam1"], "who reads does not wait")
        with pg.holding("fleet", "LOCK TABLE clients IN ACCESS EXCLUSIVE MODE"):
            fleet.fails(TEMPFAIL, BUSY, "client", "list", *fleet.config())
            fleet.fails(TEMPFAIL, BUSY, "client", "add", "cam2", *fleet.made(), "--out", out)
        chv.check(not os.path.exists(out), "a keystore was made")
        chv.check_equal(rows(pg, "fleet"), before, "what is in it")
        fleet.add("cam2")
        fleet.verify()


def test_chaveirod_with_too_few_rights():
    """It keeps nobody out; who was seen is written once it may."""
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with House(uri=pg.uri("one"), start=False) as house:
            house.put("cam1")
            house.put("cam2", "latest=1.2")
            house.site.configure(make_registry=False, registry=with_guest(pg, "one"))
            house.start()
            live = house.client("cam1")
            house.comes_in("cam2", serial=2)
            house.server.wait_for("the user has too few rights .*: who was seen is written later")
            chv.check_in("confirmed=0.0 last_seen=0\n", house.tool("show", "cam1"), "cam1")
            house.put("cam1", "status=revoked", "reason=stolen")
            ended(live, "client is revoked: stolen")
            house.refused("cam2", text="older than one that was used already", serial=1)
            pg.sql("one", "GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO guest")
            until(lambda: "confirmed=1.2" in house.tool("show", "cam2"), "cam2 is confirmed")
            until(lambda: "last_seen=0\n" not in house.tool("show", "cam1"), "cam1 was seen")


def test_chaveirod_and_a_writer():
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with House(uri=pg.uri("one")) as house:
            house.put("cam1")
            house.put("cam2")
            with pg.holding("one", "SELECT * FROM meta FOR UPDATE"):
                live = house.client("cam1")
                house.server.wait_for(f"{BUSY}.*: who was seen is written later")
                house.comes_in("cam2")
                serves(live)
            for name in ("cam1", "cam2"):
                until(lambda: "confirmed=1.1" in house.tool("show", name), f"{name} is confirmed")
            live.close()


def test_chaveirod_and_locked_tables():
    """Who is not known from before gets 503 after a bounded wait; sessions live on, and hear of changes afterwards."""
    lock = "LOCK TABLE clients, meta, epochs IN ACCESS EXCLUSIVE MODE"
    with postgres.Cluster() as pg:
        os.chmod(pg.folder, 0o711)
        with House(uri=pg.uri("one")) as house:
            for name in ("cam1", "cam2", "cam3"):
                house.put(name)
            live, other = house.client("cam1"), house.client("cam2")
            with pg.holding("one", lock):
                house.refused("cam3", code=503, text=AWAY)
                house.server.wait_for(f"error registrar.*{BUSY}.*; new clients get 503, established sessions go on")
                serves(live)
                serves(other)
            house.server.wait_for("can be reached again")
            house.comes_in("cam3")
            serves(live)
            house.put("cam1", "status=revoked")
            ended(live, "client is revoked")
            serves(other)
            other.close()
            house.site.stop()
            with pg.holding("one", lock):
                done = chv.run("chaveirod", "-c", house.site.config, "--passphrase-file", house.site.passphrase_file,
                               code=TEMPFAIL)
                chv.check_in(BUSY, done.stderr, "a server that is started meanwhile")
                done = chv.run("chaveirod", "-t", "-c", house.site.config, code=CONFIG)
                chv.check_in(BUSY, done.stderr, "-t")
            house.start()
            house.comes_in("cam2")


if __name__ == "__main__":
    chv.main()
