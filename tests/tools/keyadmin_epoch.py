# SPDX-License-Identifier: Apache-2.0
"""keyadmin epoch: what it makes, writes, counts and refuses."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess

import chv
import store
from rotate import RotationSite

KILLED, RETIRED = -9, 2
KILL_AT = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/kill_at.so")


def test_the_configuration_keeps_its_comments():
    with RotationSite() as site:
        site.init()
        config = chv.read(site.config).decode()
        lines = [line for line in config.splitlines() if line]
        os.chmod(site.config, 0o640)
        real = site.path("real.conf")
        os.rename(site.config, real)
        os.symlink(real, site.config)
        chv.write(real, config.replace("keystore = file:server.keys", f"keystore = file:{site.store}/server.keys"), 0o640)
        site.epoch_new()
        chv.check(os.path.islink(site.config), "the link stays")
        chv.check_equal(os.stat(real).st_mode & 0o777, 0o640, "mode")
        after = chv.read(real).decode().splitlines()
        for line in lines:
            chv.check(line in after or line.startswith("keystore"), f"gone: {line}")
        chv.check_equal(after.count("epochs = 1, 2"), 1, "epochs")
        chv.check_equal(after[after.index("#epochs = 1") + 1], "epochs = 1, 2", "behind its comment")
        site.epoch_new()
        after = chv.read(real).decode().splitlines()
        chv.check_equal([line for line in after if line.startswith("epochs")], ["epochs = 1, 2, 3"], "replaced")
        site.epoch("retire", "2", "--force")
        chv.check_in("\nepochs = 1, 3\n", chv.read(real), "retired")


def test_a_configuration_that_cannot_be_written_is_told():
    with RotationSite() as site:
        site.init()
        done = site.keyadmin("epoch", "new", "--keystore", os.path.join(site.store, "server.keys"), "--passphrase-file",
                             site.passphrase_file)
        chv.check_in("epochs = 2\n", done.stderr, "the line to write")
        again = site.epoch_new()  # with the configuration: it is taken up
        chv.check_equal((again["epoch"], again["epochs"]), (2, "1, 2"), "taken up")


def test_list_and_retire():
    with RotationSite() as site:
        site.init()
        made = site.epoch_new()
        rows = json.loads(site.epoch("list", "--json").stdout)["epochs"]
        chv.check_equal([(r["epoch"], r["served"], r["successor"]) for r in rows],
                        [(1, True, False), (2, True, True)], "list")
        chv.check_equal(rows[1]["key_check"], made["key_check"], "key check value")
        chv.check_in("EPOCH", site.epoch("list").stdout, "for people")
        for arguments, text in ((("retire", "2", "--force"), "is the newest"), (("retire", "7", "--force"), "is not in epochs"),
                                (("retire", "x"), "is no epoch"), (("retire", "1"), "--force"),
                                (("retire", "1", "--force", "--yes"), "--yes is for --destroy"),
                                (("new", "--backup-out", "x"), "--backup-to")):
            done = site.epoch(*arguments, code=None)
            chv.check(done.code != 0, f"{arguments}")
            chv.check_in(text, done.stderr, f"{arguments}")
        chv.check_equal(chv.read(site.config).count(b"\nepochs = 1, 2\n"), 1, "nothing was changed")
        no_terminal = subprocess.run([chv.program("keyadmin"), "epoch", "retire", "1", "--force", "--destroy", "-c",
                                      site.config], check=False, capture_output=True, stdin=subprocess.DEVNULL,
                                     start_new_session=True)
        chv.check(no_terminal.returncode != 0 and b"--yes" in no_terminal.stderr, f"{no_terminal}")
        site.configure(update_to="1")
        site.epoch("retire", "1", "--force", "--destroy", "--yes")
        config = chv.read(site.config)
        chv.check(b"\nepochs = 2\n" in config and b"\n# update-to = 1\n" in config, "configuration")
        rows = json.loads(site.epoch("list", "--json").stdout)["epochs"]
        chv.check_equal([r["epoch"] for r in rows], [2], "the master is gone")
        chv.run("chaveirod", "-t", "-c", site.config)


def test_a_registry_counts_who_would_be_cut_off():
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        cam1, cam2 = site.add_client("cam1"), site.add_client("cam2")
        site.start()
        site.send(cam1)
        made = site.rotate()

        def clients():
            done = chv.run("keyadmin", "epoch", "status", "-c", site.config, "--json")
            return {row["epoch"]: row["clients"] for row in json.loads(done.stdout)["epochs"]}

        chv.check_equal(clients(), {1: 2, 2: 0}, "before anybody came")
        refused = site.epoch("retire", "1", code=None)
        chv.check(refused.code != 0, "two clients would be cut off")
        chv.check_in("2 clients have no newer key", refused.stderr, "how many")
        site.send_until(cam1, ["1.1", "2.1"])
        site.send_until(cam1, ["2.1"])
        for _ in range(200):  # seen is written behind the OPEN
            if clients() == {1: 1, 2: 1}:
                break
            site.send(cam1)
        chv.check_equal(clients(), {1: 1, 2: 1}, "one has come with its new key")
        chv.check_in("1 clients have no newer key", site.epoch("retire", "1", code=None).stderr, "one is left")
        site.send_until(cam2, ["1.1", "2.1"])
        for _ in range(200):
            site.send(cam2)
            if clients() == {1: 0, 2: 2}:
                break
        site.epoch("retire", "1")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        site.send(cam1)
        site.send(cam2)
        rows = chv.run("keyadmin", "audit", "list", "-c", site.config, "--json").stdout.decode()
        for action in ("epoch-new", "epoch-retire"):
            chv.check_in(action, rows, "audit trail")
        site.keyadmin("audit", "verify", "-c", site.config, "--passphrase-file", site.passphrase_file)
        site.epoch_new("--compromised")
        rows = chv.run("keyadmin", "audit", "list", "-c", site.config, "--json").stdout.decode()
        chv.check_in("epoch-compromised", rows, "audit trail")
        chv.check_equal(made["epoch"], 2, "epoch")


def test_an_old_key_that_was_superseded_is_a_clone():
    """Who stole a copy of the keystore before the rotation is found out once its owner has come with the new key."""
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        cam1 = site.add_client("cam1")
        site.start()
        stolen = site.path("stolen.key")
        shutil.copy2(cam1.path, stolen)
        site.rotate()
        site.send_until(cam1, ["1.1", "2.1"])
        site.send_until(cam1, ["2.1"])
        done = site.send(chv.Key("cam1", stolen, cam1.passphrase_file), code=77)
        chv.check_in("403", done.stderr, "refused")
        site.send(cam1)


def test_an_epoch_that_no_keystore_has_costs_nobody_anything():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        for n in (1, 2):
            site.configure(epochs="1, 9")
            site.reload()
            site.server.wait_for("stay as they were: .* no master secret of epoch 9", n)
            site.send(cam1)
        site.configure(epochs="1")
        site.rotate()
        site.send_until(cam1, ["1.1", "2.1"])


def test_destroying_is_taken_up_again_wherever_it_was_killed():
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}")
        cam1 = site.add_client("cam1")
        words = ["epoch", "retire", "1", "--force", "--destroy", "--yes", "-c", site.config, "--passphrase-file",
                 site.passphrase_file]
        site.epoch_new()
        files = {path: site.path(f"before-{os.path.basename(path)}")
                 for path in (site.config, os.path.join(site.store, "server.keys"), site.path("clients.db"))}
        for path, copy in files.items():
            shutil.copy2(path, copy)
        asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
        passphrase = store.passphrase_of(site.passphrase_file)

        def masters():
            held = store.Store(os.path.join(site.store, "server.keys"), passphrase).keys
            return sorted(label for label in held if label.startswith("master:"))

        states, n, killed = set(), 0, True
        while killed:
            n += 1
            for path, copy in files.items():
                for left in ("-wal", "-shm", "-journal"):
                    if os.path.exists(path + left):
                        os.unlink(path + left)
                shutil.copy2(copy, path)
            env = {"LD_PRELOAD": KILL_AT, "CHV_TEST_KILL_AT": str(n if n % 2 else -n),
                   "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"])}
            done = chv.run("keyadmin", *words, code=None, env=env)
            chv.check(done.code in (0, KILLED), f"killed at {n}: {done.code} {done.stderr}")
            killed = done.code == KILLED
            served = b"\nepochs = 1, 2\n" in chv.read(site.config)
            states.add((served, "master:1" in masters()))
            chv.check("master:1" in masters() or not served, f"{n}: a server started now would look for it")
            chv.run("chaveirod", "-t", "-c", site.config)
            chv.run("keyadmin", *words)
            chv.check_in("\nepochs = 2\n", chv.read(site.config), f"{n}: configuration")
            chv.check_equal(masters(), ["master:2"], f"{n}: masters")
            with sqlite3.connect(site.path("clients.db")) as db:
                chv.check_equal(db.execute("SELECT status FROM epochs WHERE epoch = 1").fetchall(), [(RETIRED,)],
                                f"{n}: registry")
            db.close()
            site.keyadmin("audit", "verify", "-c", site.config, "--passphrase-file", site.passphrase_file)
        chv.check(n > 6 and states == {(True, True), (False, True), (False, False)}, f"{n} points: {states}")
        refused = site.epoch("retire", "7", "--force", "--destroy", "--yes", code=None)
        chv.check(refused.code != 0, "an epoch that never was")
        cam2 = site.add_client("cam2")
        site.start()
        site.send(cam2)
        chv.check(site.send(cam1, code=None).code != 0, "the master of its key is gone")


if __name__ == "__main__":
    chv.main()
