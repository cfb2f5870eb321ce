# SPDX-License-Identifier: Apache-2.0
"""Planned rotation of the master, from end to end: nobody is lost, whatever is rolled back or cannot be written."""
import json
import os
import shutil
import signal
import subprocess

import chv
import softhsm
import store
from rotate import Callers, RotationSite, contents, labels


def test_a_client_is_handed_its_next_key_and_the_old_one_goes():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1", scopes=("message", "files:ro"))
        site.start()
        site.send(cam1)
        made = site.rotate()
        chv.check_equal((made["epoch"], made["epochs"]), (2, "1, 2"), "epoch new")
        done = site.send_until(cam1, ["1.1", "2.1"])
        chv.check_in("credential 1.1", done.stderr, "the old key was in use")
        chv.check_in("the server gave the key of credential 2.1", done.stderr, "verbose")
        site.server.wait_for("client 'cam1': is handed its key of epoch 2")
        held = contents(cam1)
        old, new = held.data["credential:1.1"], held.data["credential:2.1"]
        chv.check_equal((old[:2], old[6:]), (new[:2], new[6:]), "all but the epoch is equal")
        master = store.Store(os.path.join(site.store, "server.keys"), store.passphrase_of(site.passphrase_file)).keys
        chv.check_equal(held.keys["access:2.1"], store.access_key(master["master:2"], new), "the new access key")
        done = site.send(cam1)
        chv.check_in("credential 2.1", done.stderr, "the new key is tried first")
        chv.check_in("keys older than credential 2.1 are removed", done.stderr, "verbose")
        chv.check_equal(labels(cam1), ["2.1"], "the old key is gone")
        refused = site.epoch("retire", "1", code=None)
        chv.check(refused.code != 0, "nobody counts the clients")
        chv.check_in("--force", refused.stderr, "what to do")
        site.epoch("retire", "1", "--force")
        chv.check_in("\nepochs = 2\n", chv.read(site.config), "configuration")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        site.send(cam1)


def test_the_client_says_so_while_it_is_connected():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        site.rotate()
        chat = site.client_start(cam1, "chat", stdin=subprocess.PIPE)
        site.server.wait_for("client 'cam1': has stored its key of epoch 2")
        chat.stdin.write(b"one\n")
        chat.stdin.close()
        chv.check_equal(chat.wait(0).stdout, b"message received: 'one'\n", "the session goes on")


def test_profile_key_psk_is_handed_one_bound_to_the_same_identity():
    with RotationSite() as site:
        site.init()
        site.configure(profiles="psk, key+psk")
        cam1 = site.add_client("cam1", extra=("--profile", "key+psk"))
        site.start()
        site.send(cam1)
        site.rotate()
        site.send_until(cam1, ["1.1", "2.1"])
        old, new = (contents(cam1).data[f"credential:{n}.1"] for n in (1, 2))
        chv.check_equal((new[1], new[6:]), (3, old[6:]), "profile, and all behind the epoch")
        done = site.send(cam1)
        chv.check_in("profile key+psk", done.stderr, "profile")
        chv.check_in("credential 2.1", done.stderr, "the new key")
        chv.check_equal(labels(cam1), ["2.1"], "the old one is gone")


def test_switched_off_or_to_another_epoch():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.configure(update="no")
        site.start()
        site.rotate()
        for _ in range(3):
            site.send(cam1)
        chv.check_equal(labels(cam1), ["1.1"], "update = no")
        site.epoch_new()
        site.configure(update="yes", update_to="2")
        site.reload()
        site.send_until(cam1, ["1.1", "2.1"])
        done = site.client(cam1, "send", "ola")
        chv.check_equal(done.stderr, b"", "nothing is said without -v")
        site.send(cam1)
        chv.check_equal(labels(cam1), ["2.1"], "update-to = 2: not 3")
        new = site.add_client("cam2")  # of the newest epoch: nothing newer is there for it
        site.send(new)
        chv.check_equal(labels(new), ["3.1"], "the newest")
        chv.check_not_in("handed its key of epoch 3", site.log(), "log")


def test_a_server_rolled_back_finds_the_old_key():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        before = site.path("before")
        shutil.copytree(site.store, before)
        site.start()
        site.rotate()
        site.send_until(cam1, ["1.1", "2.1"])
        site.stop()
        shutil.rmtree(site.store)
        shutil.copytree(before, site.store)
        site.start()
        done = site.send(cam1)
        chv.check_in("cannot prove that it knows credential 2.1: trying the older 1.1", done.stderr, "verbose")
        chv.check_in("credential 1.1", done.stderr, "the old one")
        chv.check_equal(labels(cam1), ["1.1", "2.1"], "nothing is removed on that")
        again = site.rotate()  # another master of epoch 2: the server's word about it replaces the first
        chv.check_equal(again["epoch"], 2, "epoch")
        for _ in range(50):
            done = site.send(cam1)
            if labels(cam1) == ["2.1"]:
                break
        chv.check_equal(labels(cam1), ["2.1"], "the key of the new master")
        chv.check_in("credential 2.1", site.send(cam1).stderr, "works")


def test_a_compromised_master_is_handed_nobody():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        site.send(cam1)
        made = site.rotate("--compromised")
        chv.check_equal(made["epochs"], "2", "epochs")
        done = site.send(cam1, code=77)
        chv.check_in("the server cannot prove that it knows this key", done.stderr, "the old key is refused at once")
        chv.check_equal(labels(cam1), ["1.1"], "no update in band")
        site.send(site.add_client("cam2"))


def test_a_keystore_that_cannot_be_written_is_warned_of_once():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        site.rotate()
        os.mkdir(cam1.path + ".lock")  # nobody gets the lock
        for _ in range(2):
            done = site.client(cam1, "send", "ola")
            chv.check_equal(done.stdout, b"message received: 'ola'\n", "the old key goes on")
            chv.check_equal(done.stderr.count(b"warning: the new key that the server has"), 1, f"{done.stderr}")
        os.rmdir(cam1.path + ".lock")
        site.send_until(cam1, ["1.1", "2.1"])


def test_passphrase_from_a_pipe_is_at_hand_for_the_write():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        site.rotate()
        passphrase = chv.read(cam1.passphrase_file)
        for _ in range(50):
            chv.run("chaveiro", "-k", cam1.path, "--passphrase-file", "-", "--server", site.address, "send", "ola",
                    stdin=passphrase)
            if "2.1" in labels(cam1):
                return
        raise chv.Failure("no new key")


def test_rotation_under_load_loses_nobody():
    with RotationSite() as site:
        site.init()
        keys = [site.add_client(f"cam{i}") for i in range(4)]
        site.start()
        with Callers(site, [*keys, keys[0]]) as callers:  # cam0 twice: two runs share a keystore
            callers.wait_for(1)
            site.rotate()
            callers.wait_for(2)
            site.epoch("retire", "1", "--force")
            site.server.signal(signal.SIGHUP)
            site.rotate()
            callers.wait_for(3)
        chv.check_equal(callers.failures, [], "failures")
        for key in keys:
            if key is not keys[0]:
                chv.check_equal(callers.used[key.id], sorted(callers.used[key.id]), f"{key.id}: nobody goes back")
            site.send(key)
            chv.check_equal(labels(key), ["3.1"], f"{key.id}: one key is left")


def test_rotation_in_tokens_loses_nobody():
    """The masters in a token, clients in files and in tokens; the keeper sees the new master without a restart."""
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        keys = [site.add_client("cam1"), site.add_client("cam2"), site.add_token_client("cam3"),
                site.add_token_client("cam4")]
        keeper = site.keeper()
        with Callers(site, keys, site.env) as callers:
            callers.wait_for(1)
            made = json.loads(site.keyadmin("epoch", "new", "-c", site.config, "--json").stdout)
            chv.check_in(f"2:{made['key_check']}", chv.read(site.config), "key-check")
            site.server.signal(signal.SIGHUP)
            callers.wait_for(2)
        chv.check_equal(callers.failures, [], "failures")
        chv.check_equal(site.keeper(), keeper, "the same keeper")
        for key in keys:
            site.send(key, "after")
            shown = site.keyadmin("check", key, "--json") if isinstance(key, str) else None
            held = ([k["label"] for k in json.loads(shown.stdout)["keys"]] if shown
                    else [f"access:{e}" for e in labels(key)])
            chv.check_equal(held, ["access:2.1"], "one key is left")
        site.stop()


if __name__ == "__main__":
    chv.main()
