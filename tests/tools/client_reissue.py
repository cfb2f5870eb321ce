#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keys in the place of others: into the same file, after an epoch was given up; changes that are killed anywhere."""
import os
import shutil
import signal
import sqlite3
import subprocess

import chv
import clock
import store
from client_life import CANTCREAT, CONFIG, NOPERM, USAGE, Fleet, killed_at, recorded

TEMPFAIL = 75


def access(fleet, name):
    """The keys that a client's keystore holds."""
    return sorted(label.partition(":")[2] for label in fleet.key(name)[0] if label.startswith("access:"))


def send(fleet, name, code=0):
    return fleet.site.client(chv.Key("", fleet.path(name), fleet.passphrase), "-v", "send", "ola", code=code)


def write_list(fleet, lines, name="list.csv"):
    return chv.write(fleet.path(name), "id,scopes,expires\n" + "\n".join(lines) + "\n")


# --- into the client's own file -----------------------------------------------------------------------------------------


def test_into_the_clients_own_file():
    with Fleet() as fleet:
        fleet.add("cam1")
        fleet.add("cam2")
        before = fleet.key("cam1.key")
        done = fleet.reissue("cam1", "cam1.key")
        chv.check_equal((done["serial"], done["file"]), (2, fleet.path("cam1.key")), "reissued")
        chv.check_equal(access(fleet, "cam1.key"), ["1.1", "1.2"], "the new one beside the old one")
        chv.check_equal(fleet.key("cam1.key")[0]["access:1.1"], before[0]["access:1.1"], "the old one is as it was")
        chv.check_equal(os.stat(fleet.path("cam1.key")).st_mode & 0o777, 0o600, "mode")
        chv.check("pending" not in fleet.show("cam1"), "it is written out")
        fleet.site.start()
        chv.check_in("credential 1.2", send(fleet, "cam1.key").stderr, "the newest is used")
        chv.check_equal(access(fleet, "cam1.key"), ["1.2"], "and the old one taken out")
        # with other rights, and for a key that leaked
        fleet.json("client", "set-scopes", "cam1", "message", "files:ro", *fleet.made(), "--out", fleet.path("cam1.key"))
        fleet.reissue("cam1", "cam1.key", "--leaked")
        chv.check_in("credential 1.4", send(fleet, "cam1.key").stderr, "leaked")


def test_another_file_stays_and_costs_no_serial():
    with Fleet() as fleet:
        for name in ("cam1", "cam2"):
            fleet.add(name)
        other = fleet.site.new_passphrase("other.pass")
        server = os.path.join(fleet.site.store, "server.keys")
        chv.write(fleet.path("text"), "precious", 0o600)
        shutil.copy2(fleet.path("cam1.key"), fleet.path("locked.key"))
        words = ["client", "reissue", "cam1", *fleet.server(), "--scrypt-cost", chv.SCRYPT_COST]
        for code, text, name, passphrase in ((CANTCREAT, "another client", "cam2.key", fleet.passphrase),
                                             (CANTCREAT, "is a server's keystore", server, fleet.site.passphrase_file),
                                             (NOPERM, "wrong passphrase", "locked.key", other),
                                             (65, "text", "text", fleet.passphrase)):
            path = fleet.path(name)
            held = chv.read(path)
            fleet.fails(code, text, *words, "--client-passphrase-file", passphrase, "--out", path)
            chv.check_equal(chv.read(path), held, f"{name}: the file")
        shown = fleet.show("cam1")
        chv.check_equal((shown["serial"], "pending" in shown), (1, False), "the registry")


def test_an_identity_key_in_the_file_stays():
    with Fleet() as fleet:
        made = fleet.add("cam1", "--profile", "key+psk")
        again = fleet.reissue("cam1", "cam1.key")
        chv.check_equal((again["serial"], again["identity"]), (2, made["identity"]), "the same identity key")
        chv.run("keyadmin", "identity", "new", "--out", fleet.path("dev"))
        fleet.add("cam2", "--profile", "key+psk", "--identity", fleet.path("dev.pub"))
        fleet.fails(CANTCREAT, "give --identity", "client", "reissue", "cam2", *fleet.made(), "--out", fleet.path("cam2.key"))
        again = fleet.reissue("cam2", "cam2.key", "--identity", fleet.path("dev.pub"))
        chv.check_equal(access(fleet, "cam2.key")[-1], f"1.{again['serial']}", "beside the old one")


def test_into_the_own_file_killed_anywhere():
    with Fleet() as fleet:
        fleet.add("cam1")
        n, done = 0, False
        while not done:
            n += 1
            before = access(fleet, "cam1.key")
            words = ["client", "reissue", "cam1", *fleet.made(), "--out", fleet.path("cam1.key")]
            done = not killed_at(fleet, n if n % 2 else -n, *words)
            between = access(fleet, "cam1.key")
            chv.check(set(before) <= set(between), f"{n}: a key was lost: {before} {between}")
            fleet.reissue("cam1", "cam1.key")
            shown = fleet.show("cam1")
            chv.check_in(f"1.{shown['serial']}", access(fleet, "cam1.key"), f"{n}: the newest")
            chv.check("pending" not in shown, f"{n}: pending")
            if len(between) > 8:
                os.unlink(fleet.path("cam1.key"))
                fleet.reissue("cam1", "cam1.key")
        chv.check(n > 10, f"{n} points")
        fleet.verify()


# --- an epoch is given up -----------------------------------------------------------------------------------------------


def stranded(fleet):
    return sorted(c["client"] for c in fleet.list("--stranded"))


def test_no_key_of_an_epoch_that_is_given_up():
    with Fleet() as fleet:
        for name in ("cam1", "cam2", "cam3", "gone"):
            fleet.add(name)
        fleet.add("bound", "--profile", "key")
        fleet.state("remove", "gone")
        fleet.state("suspend", "cam3")
        listed = write_list(fleet, ["b1,message,90d", "b2,message,90d"])
        bundle = ["client", "add", "--from", listed, *fleet.made(), "--out"]
        fleet.json(*bundle, fleet.path("one.bundle"))
        status = fleet.json("epoch", "status", *fleet.config())
        chv.check_equal((status["stranded"], stranded(fleet)), (0, []), "nobody before")
        fleet.json("epoch", "new", "--compromised", *fleet.server())
        # who is cut off, in tables and as JSON
        chv.check_equal(stranded(fleet), ["b1", "b2", "cam1", "cam2", "cam3"], "stranded")
        status = fleet.json("epoch", "status", *fleet.config())
        rows = {row["epoch"]: (row["served"], row["clients"], row["stranded"], row.get("lost")) for row in status["epochs"]}
        chv.check_equal(rows, {2: (True, 0, 0, None), 1: (False, 5, 5, "its master leaked")}, "status")
        chv.check_equal(status["stranded"], 5, "how many")
        text = chv.run("keyadmin", "epoch", "status", *fleet.config()).stdout.decode()
        chv.check_in("5 clients have no key that is taken", text, "for people")
        lines = chv.run("keyadmin", "client", "list", *fleet.config()).stdout.decode().splitlines()
        chv.check_equal(sorted(line.split()[0] for line in lines if " stranded " in line), ["b1", "b2", "cam1", "cam2"],
                        "table")
        chv.check_equal(fleet.show("cam1")["stranded"], True, "show")
        chv.check_in("stranded:", chv.run("keyadmin", "client", "show", "cam1", *fleet.config()).stdout, "show, for people")
        # nothing hands out a key of the old one
        fleet.fails(USAGE, "its master leaked): leave --epoch out for epoch 2", "client", "add", "new", *fleet.made(), "--out",
                    fleet.path("no"), "--epoch", "1")
        fleet.fails(USAGE, "leave --epoch out", *bundle, fleet.path("no"), "--epoch", "1")
        fleet.fails(USAGE, "leave --epoch out", "client", "reissue", "cam1", *fleet.made(), "--out", fleet.path("no"),
                    "--epoch", "1")
        chv.check(not os.path.exists(fleet.path("no")), "a keystore of the old epoch")
        again = fleet.add("cam1")
        chv.check_equal((again["epoch"], again["serial"], access(fleet, "cam1.key")), (2, 2, ["1.1", "2.2"]), "add again")
        chv.check_equal(fleet.add("cam1"), again, "and again: the same")
        chv.check_equal(fleet.reissue("cam2", "cam2.key")["epoch"], 2, "reissue")
        made = fleet.json(*bundle, fleet.path("two.bundle"))
        chv.check_equal((made["clients"], made["added"]), (2, 2), "the whole list")
        held = fleet.json("bundle", "list", fleet.path("two.bundle"), "--passphrase-file", fleet.passphrase)["clients"]
        chv.check_equal({(c["epoch"], c["serial"]) for c in held}, {(2, 2)}, "bundle")
        chv.check_equal(stranded(fleet), ["cam3"], "left")
        chv.check_equal([row["action"] for row in fleet.audit("--id", "cam1")], ["add", "issue", "reissue", "issue"], "trail")
        fleet.site.start()
        chv.check_in("credential 2.2", send(fleet, "cam1.key").stderr, "it is let in")
        fleet.verify()


def test_one_that_was_cut_off_before_goes_on_in_the_new_epoch():
    """Numbered in the old epoch and never written out: what comes of it is of the new one."""
    with Fleet() as fleet:
        fleet.add("cam1")
        for client, words in (("cam1", ["client", "reissue", "cam1"]), ("cam2", ["client", "add", "cam2"])):
            out = fleet.path(f"{client}.new")
            n = 0
            while "pending" not in (recorded(fleet, client) or {}):
                n += 1
                chv.check(killed_at(fleet, n, *words, *fleet.made(), "--out", out), "it ended")
        fleet.json("epoch", "new", "--compromised", *fleet.server())
        chv.check_equal(fleet.reissue("cam1", "cam1.new2")["epoch"], 2, "reissue")
        chv.check_equal(fleet.add("cam2", out=fleet.path("cam2.new2"))["epoch"], 2, "add")
        chv.check_equal((access(fleet, "cam1.new2"), access(fleet, "cam2.new2")), (["2.3"], ["2.2"]), "keys")


def test_a_master_that_is_not_served_yet_makes_no_key():
    """epoch new that could not write the configuration: its master waits, and keys are of the one that is served."""
    with Fleet() as fleet:
        keystore = ["--keystore", os.path.join(fleet.site.store, "server.keys"), "--passphrase-file",
                    fleet.site.passphrase_file]
        chv.run("keyadmin", "epoch", "new", *keystore)
        chv.check_equal(fleet.add("cam1")["epoch"], 1, "the newest that is served")
        fleet.json(*["client", "add", "--from", write_list(fleet, ["b1"]), *fleet.made(), "--out", fleet.path("bundle")])
        chv.check_equal(fleet.show("b1")["epoch"], 1, "of a list, too")
        fleet.fails(USAGE, "it is not in epochs", "client", "add", "cam2", *fleet.made(), "--out", fleet.path("no"), "--epoch",
                    "2")
        # by the keystore alone, what the registry knows counts
        made = ["--client-passphrase-file", fleet.passphrase, "--scrypt-cost", chv.SCRYPT_COST, "--address", "x:1"]
        given = fleet.json("client", "add", "cam3", *keystore, *made, "--registry", fleet.registry, "--out", fleet.path("c3"))
        chv.check_equal(given["epoch"], 2, "no configuration that says otherwise")
        fleet.json("epoch", "new", *fleet.server())
        fleet.json("epoch", "new", "--compromised", *fleet.server())
        with sqlite3.connect(fleet.path("clients.db")) as db:
            db.execute("UPDATE epochs SET status = 3 WHERE epoch = 3")
        db.close()
        fleet.fails(CONFIG, "'keyadmin epoch new' makes one", "client", "add", "cam4", *keystore, *made, "--registry",
                    fleet.registry, "--out", fleet.path("no"))
        fleet.fails(CONFIG, "its master leaked", "client", "add", "cam4", *fleet.made(), "--out", fleet.path("no"))


def test_giving_an_epoch_up_killed_anywhere():
    """Run again, no server with this registry takes keys of the epochs that leaked, whatever its configuration says."""
    with Fleet() as fleet:
        fleet.add("cam1")
        site, before = fleet.site, fleet.path("before")
        shutil.copytree(site.store, before)
        with sqlite3.connect(fleet.path("clients.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        rows, n, killed = chv.read(fleet.path("clients.db")), 0, True
        while killed:
            n += 1
            shutil.rmtree(site.store)
            shutil.copytree(before, site.store)
            for left in ("", "-wal", "-shm", "-journal"):
                if os.path.exists(fleet.path("clients.db" + left)):
                    os.unlink(fleet.path("clients.db" + left))
            chv.write(fleet.path("clients.db"), rows, 0o600)
            words = ["epoch", "new", "--compromised", *fleet.server()]
            killed = killed_at(fleet, n if n % 2 else -n, *words)
            with sqlite3.connect(fleet.path("clients.db")) as db:
                known = db.execute("SELECT 1 FROM epochs WHERE epoch = 1 AND status = 3").fetchall()
            db.close()
            served = b"\nepochs = 2\n" not in chv.read(site.config)
            chv.check(served or known, f"{n}: epoch 1 left the configuration, and the registry does not know why")
            if served:
                fleet.json(*words)
            chv.check_equal(stranded(fleet), ["cam1"], f"{n}: stranded")
            chv.check_equal(fleet.reissue("cam1", f"{n}.key")["epoch"], 2, f"{n}: reissue")
            fleet.verify()
        chv.check(n > 10, f"{n} points")


# --- other changes, killed anywhere -------------------------------------------------------------------------------------


def killed_states(change, undo, states):
    """Kills a change of one client before and after each thing that it does: all of it is there, or nothing."""
    with Fleet() as fleet:
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro", out=fleet.path("first.key"))
        n, seen, done = 0, set(), False
        while not done:
            n += 1
            done = not killed_at(fleet, n if n % 2 else -n, "client", *change, *fleet.config())
            shown = fleet.show("cam1")
            state = (shown["status"], tuple(shown["scopes"]))
            chv.check(state in states, f"{n}: {state}")
            seen.add(state)
            chv.run("keyadmin", "client", *change, *fleet.config())
            shown = fleet.show("cam1")
            chv.check_equal((shown["status"], tuple(shown["scopes"])), states[1], f"{n}: run again")
            undo(fleet, n)
            fleet.verify()
        chv.check(n > 4 and seen == set(states), f"{n} points, {seen}")


BOTH = ("files:ro", "message")


def test_remove_killed_anywhere():
    def undo(fleet, n):
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro", out=fleet.path(f"{n}.key"))
        chv.check_equal(fleet.show("cam1")["serial"], n + 1, "serials go on")
    killed_states(["remove", "cam1"], undo, [("active", BOTH), ("removed", BOTH)])


def test_set_scopes_killed_anywhere():
    def undo(fleet, n):
        fleet.json("client", "set-scopes", "cam1", *BOTH, *fleet.made(), "--out", fleet.path(f"{n}.key"))
    killed_states(["set-scopes", "cam1", "message"], undo, [("active", BOTH), ("active", ("message",))])


def test_revoke_and_suspend_killed_anywhere():
    killed_states(["suspend", "cam1"], lambda fleet, n: fleet.state("resume", "cam1"),
                  [("active", BOTH), ("suspended", BOTH)])

    def undo(fleet, n):
        fleet.state("remove", "cam1")
        fleet.add("cam1", "--scope", "message", "--scope", "files:ro", out=fleet.path(f"{n}.key"))
    killed_states(["revoke", "cam1"], undo, [("active", BOTH), ("revoked", BOTH)])


def test_widening_killed_anywhere():
    """set-scopes with --out: what was held back stays so, and the same command gives the same credential."""
    with Fleet() as fleet:
        wall = clock.Clock(fleet.site.folder)
        n, started, done = 0, 0, False
        while not done:
            n += 1
            client = f"cam{n}"
            fleet.add(client, "--scope", "message", "--scope", "files:ro", out=fleet.path(f"{client}.old"))
            fleet.state("set-scopes", client, "files:ro")
            words = ["client", "set-scopes", client, *BOTH, *fleet.made(), "--out", fleet.path(f"{client}.key")]
            done = not killed_at(fleet, n if n % 2 else -n, *words)
            row = fleet.show(client)
            started += row["serial"] == 2
            chv.check(row["serial"] == 1 or row["held_back"] == ["message"], f"{n}: {row}")
            chv.check_equal("narrowed" in row, row["serial"] == 1, f"{n}: narrowed")
            if "pending" in row or row["serial"] == 1:
                chv.run("keyadmin", *words, env=wall.env)
            after = fleet.show(client)
            chv.check_equal((after["serial"], after["scopes"], after["held_back"], "pending" in after),
                            (2, list(BOTH), ["message"], False), f"{n}: in the end")
            chv.check_equal(access(fleet, f"{client}.key"), ["1.2"], f"{n}: keystore")
        chv.check(n > 10 and 0 < started < n, f"{n} points, {started} of them behind the row")
        fleet.verify()


# --- why it failed is said ----------------------------------------------------------------------------------------------


def test_a_signal_that_waits_does_not_hide_the_reason():
    """Interrupted while the registry is locked by somebody else: the reason, then the signal."""
    with Fleet() as fleet:
        fleet.add("cam1")
        for words in (["client", "revoke", "cam1", *fleet.config()],
                      ["client", "reissue", "cam1", *fleet.made(), "--out", fleet.path("no")],
                      ["audit", "seal", *fleet.server()]):
            db = sqlite3.connect(fleet.path("clients.db"), isolation_level=None)
            db.execute("BEGIN EXCLUSIVE")
            real = os.path.join(chv.TOP_BUILDDIR, "tools/.libs/keyadmin")
            process = subprocess.Popen([real if os.path.isfile(real) else chv.program("keyadmin"), *words],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env=dict(os.environ, LD_LIBRARY_PATH=os.path.join(chv.TOP_BUILDDIR, ".libs")))
            while process.poll() is None:  # until signals are held
                with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:
                    held = [line for line in status if line.startswith("SigBlk:")]
                if held and int(held[0].split()[1], 16) & (1 << (signal.SIGINT - 1)):
                    break
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=chv.DEADLINE)[1]
            db.execute("ROLLBACK")
            db.close()
            chv.check_equal(process.returncode, -signal.SIGINT, f"{words}: {err}")
            chv.check_in("another program is changing it", err, f"{words}: why it failed")
            chv.check_equal(err.count(b"\n"), 1, f"{words}: {err}")
        chv.check_equal((fleet.show("cam1")["status"], fleet.show("cam1")["serial"]), ("active", 1), "nothing was changed")


if __name__ == "__main__":
    chv.main()
