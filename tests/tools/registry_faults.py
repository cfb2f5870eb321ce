#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The registry's file locked, read-only, on a full disk, damaged, or an old backup: what keyadmin and chaveirod do."""
import contextlib
import os
import sqlite3

import chv
from client_life import Fleet
from registrar import AWAY, House, ended, serves, until

DATAERR, OSERR, IOERR, TEMPFAIL, CONFIG = 65, 71, 74, 75, 78
LIBRARY = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/disk.so")
FULL, READ_ONLY = b"\1", b"\2"


class Disk:
    """The disk that a file is on, for programs started with its environment; it may be set while they run."""

    def __init__(self, folder, file):
        self.state = chv.write(os.path.join(folder, "disk"), b"\0")
        asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
        self.env = {"LD_PRELOAD": LIBRARY, "CHV_TEST_DISK": self.state, "CHV_TEST_DISK_FILE": os.path.realpath(file),
                    "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"])}

    def set(self, state):
        fd = os.open(self.state, os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(fd, state, 0)
        os.close(fd)

    @contextlib.contextmanager
    def being(self, state):
        self.set(state)
        try:
            yield
        finally:
            self.set(b"\0")


def checkpoint(path):
    """All of the registry in its one file."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def rows(path):
    """What is in it, without keyadmin."""
    db = sqlite3.connect(path)
    try:
        return [db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("clients", "audit")]
    finally:
        db.close()


def replace(path, data):
    """As a backup is put back: another file under the same name, and no log of the one before."""
    chv.write(path + ".new", data)
    os.rename(path + ".new", path)
    for name in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + name)


def damaged(data):
    """Copies of it: the header gone, the schema behind it, the end."""
    noise = b"\xa5" * 4096
    return {"header": noise[:100] + data[100:], "schema": data[:100] + noise[100:] + data[4096:],
            "cut off": data[:4096]}


def changes(fleet):
    """Every kind of change, each with the file that it would make."""
    config, made, out = fleet.config(), fleet.made(), fleet.path("not-made")
    listed = fleet.path("list.csv")
    chv.write(listed, "id,scopes,expires\ncam8,,\ncam9,,\n")
    yield ["client", "revoke", "cam1", *config], None
    yield ["client", "suspend", "cam1", *config], None
    yield ["client", "remove", "cam1", *config], None
    yield ["client", "set-scopes", "cam1", "files:ro", *config], None
    yield ["client", "add", "cam2", *made, "--out", out], out
    yield ["client", "reissue", "cam1", *made, "--out", out], out
    yield ["client", "add", "--from", listed, *made, "--out", out], out


def nothing_changes(fleet, code, text, **options):
    """Every change is refused in one line that names the file and the reason; nothing is made."""
    for words, out in changes(fleet):
        fleet.fails(code, text, *words, **options)
        done = chv.run("keyadmin", *words, code=code, **options)
        chv.check_in(fleet.path("clients.db"), done.stderr, f"{words}: the file")
        chv.check(out is None or not os.path.exists(out), f"{words}: a keystore was made")


def works(fleet):
    """Nothing of the fault is left."""
    chv.check_equal(fleet.state("suspend", "cam1")["status"], "suspended", "suspend")
    chv.check_equal(fleet.state("resume", "cam1")["status"], "active", "resume")
    fleet.add("cam3")
    fleet.verify()


# --- keyadmin ---------------------------------------------------------------------------------------------------------


def test_keyadmin_and_a_lock():
    with Fleet() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(fleet.path("clients.db"))
        other = sqlite3.connect(fleet.path("clients.db"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for words in (["client", "revoke", "cam1", *fleet.config()],
                      ["client", "add", "cam2", *fleet.made(), "--out", fleet.path("not-made")]):  # each waits
            fleet.fails(TEMPFAIL, "clients.db: another program is changing it", *words)
        chv.check(not os.path.exists(fleet.path("not-made")), "a keystore was made")
        chv.check_equal(fleet.ids(), ["cam1"], "who reads does not wait")
        other.execute("ROLLBACK")
        other.close()
        chv.check_equal(rows(fleet.path("clients.db")), before, "what is in it")
        works(fleet)


def test_keyadmin_and_a_file_that_may_only_be_read():
    with Fleet() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(fleet.path("clients.db"))
        disk = Disk(fleet.site.folder, fleet.path("clients.db"))
        with disk.being(READ_ONLY):
            nothing_changes(fleet, IOERR, "clients.db: is read-only: nothing was changed", env=disk.env)
            listed = fleet.json("client", "list", *fleet.config(), env=disk.env)
            chv.check_equal([c["client"] for c in listed["clients"]], ["cam1"], "it may be read")
        chv.check_equal(rows(fleet.path("clients.db")), before, "what is in it")
        works(fleet)


def test_keyadmin_and_a_full_disk():
    with Fleet() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        before = rows(fleet.path("clients.db"))
        disk = Disk(fleet.site.folder, fleet.path("clients.db"))
        with disk.being(FULL):  # there is no room for -shm
            nothing_changes(fleet, IOERR, "clients.db: the disk is full: nothing was changed", env=disk.env)
        server = sqlite3.connect(fleet.path("clients.db"))
        server.execute("SELECT COUNT(*) FROM clients").fetchall()
        with disk.being(FULL):  # there is none for -wal
            nothing_changes(fleet, IOERR, "clients.db: the disk is full: nothing was changed", env=disk.env)
            listed = fleet.json("client", "list", *fleet.config(), env=disk.env)
            chv.check_equal([c["client"] for c in listed["clients"]], ["cam1"], "it may be read")
        server.close()
        chv.check_equal(rows(fleet.path("clients.db")), before, "what is in it")
        works(fleet)


def test_keyadmin_and_a_damaged_file():
    with Fleet() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro")
        path = fleet.path("clients.db")
        checkpoint(path)
        good = chv.read(path)
        for what, bad in damaged(good).items():
            replace(path, bad)
            nothing_changes(fleet, DATAERR, "nothing was written; move it away")
            fleet.fails(DATAERR, "restore a backup", "client", "list", *fleet.config())
            chv.check_equal(chv.read(path), bad, f"{what}: the damaged file, which nobody writes to")
        replace(path, good)
        works(fleet)


def test_keyadmin_and_somebody_elses_file():
    with Fleet() as fleet:
        path = fleet.path("clients.db")
        os.unlink(path)
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE notes (text)")
        db.close()
        os.chmod(path, 0o600)
        theirs = chv.read(path)
        fleet.fails(CONFIG, "is a database of another program", "client", "add", "cam1", *fleet.made(), "--out",
                    fleet.path("cam1.key"))
        chv.check_equal(chv.read(path), theirs, "their file")
        chv.check(not os.path.exists(fleet.path("cam1.key")), "a keystore was made")


# --- chaveirod --------------------------------------------------------------------------------------------------------


def not_started(house, code, text, **options):
    done = chv.run("chaveirod", "-c", house.site.config, "--passphrase-file", house.site.passphrase_file, code=code,
                   **options)
    chv.check_in(text, done.stderr, "what it says")
    chv.check_in(house.file, done.stderr, "about what")


def test_chaveirod_does_not_start_on_a_damaged_file():
    with House(start=False) as house:
        house.put("cam1")
        checkpoint(house.file)
        good = chv.read(house.file)
        for what, bad in damaged(good).items():
            replace(house.file, bad)
            not_started(house, DATAERR, "nothing was written; move it away")
            chv.check_equal(chv.read(house.file), bad, f"{what}: the damaged file, which nobody writes to")
        replace(house.file, good)
        house.start()
        house.comes_in("cam1")


def test_chaveirod_does_not_start_where_it_may_only_read():
    with House(start=False) as house:
        house.put("cam1")
        disk = Disk(house.site.folder, house.file)
        with disk.being(READ_ONLY):
            not_started(house, OSERR, "is read-only", env=disk.env)
        house.start()
        house.comes_in("cam1")


def test_chaveirod_and_a_full_disk():
    """It keeps nobody out; who was seen, and a clone, is written when there is room again."""
    with House(start=False) as house:
        house.put("cam1")
        house.put("cam2", "latest=1.2")
        disk = Disk(house.site.folder, house.file)
        house.server = house.site.start(env=disk.env)
        live = house.client("cam1")
        until(lambda: "confirmed=1.1" in house.tool("show", "cam1"), "cam1 is confirmed")
        with disk.being(FULL):
            house.comes_in("cam1")
            house.comes_in("cam2", serial=2)
            house.server.wait_for("clients.db: the disk is full: nothing was changed: who was seen is written later")
            house.refused("cam2", text="older than one that was used already", serial=1)
            house.put("cam3")  # another program's disk is not full
            house.comes_in("cam3")
            serves(live)
        until(lambda: "confirmed=1.2" in house.tool("show", "cam2"), "cam2 is confirmed")
        house.put("cam1", "status=revoked")
        ended(live, "client is revoked")


def test_a_backup_that_is_restored_while_it_runs():
    with House() as house:
        house.put("cam1")
        house.put("cam2")
        checkpoint(house.file)
        backup = chv.read(house.file)
        house.put("cam1", "status=revoked")
        house.refused("cam1", text="client is revoked")
        live = house.client("cam2")
        mark = os.path.join(house.state, "registry-mark")
        generation = lambda: chv.read(mark).split()[0] if os.path.exists(mark) else b"0"
        until(lambda: int(generation()) > 2, "the mark is that of the change")
        replace(house.file, backup)
        house.server.wait_for("error registrar.*is older than it was .* an old backup\\? What was revoked since then")
        house.server.wait_for("can be reached again")
        serves(live)
        house.comes_in("cam1")  # what counts is what the registry says, loudly warned of
        house.put("cam1", "status=suspended")
        house.refused("cam1", text="client is suspended")
        live.close()


if __name__ == "__main__":
    chv.main()
