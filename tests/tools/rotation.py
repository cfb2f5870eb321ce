# SPDX-License-Identifier: Apache-2.0
"""Planned rotation of the master, from end to end: nobody is lost, whatever is cut off, rolled back or cannot be written."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import threading

import chv
import fakeserver
import softhsm
import store


def contents(key):
    return store.Store(key.path, store.passphrase_of(key.passphrase_file))


def labels(key):
    """The credentials that a client's keystore holds, each with its key."""
    held = contents(key)
    access = {label.partition(":")[2] for label in held.keys if label.startswith("access:")}
    credentials = {label.partition(":")[2] for label in held.data if label.startswith("credential:")}
    chv.check(access <= credentials, f"a key without its credential: {access} {credentials}")
    return sorted(access)


class RotationSite(chv.Site):
    """A site whose keystore file is read again without a person."""

    def init(self, *extra, **options):
        done = super().init(*extra, **options)
        self.configure(passphrase_file=self.passphrase_file)
        return done

    def epoch(self, *arguments, code=0, **options):
        return self.keyadmin("epoch", *arguments, "-c", self.config, "--passphrase-file", self.passphrase_file, code=code,
                             **options)

    def epoch_new(self, *extra):
        return json.loads(self.epoch("new", "--json", *extra).stdout)

    def reload(self):
        """SIGHUP; returns once the keeper has the new epochs."""
        before = len(re.findall(rb"the keeper process serves again", self.server.stderr))
        self.server.signal(signal.SIGHUP)
        self.server.wait_for("the keeper process serves again", before + 1)

    def rotate(self, *extra):
        made = self.epoch_new(*extra)
        self.reload()
        return made

    def send(self, key, text="ola", **options):
        done = self.client(key, "-v", "send", text, **options)
        if options.get("code", 0) == 0:
            chv.check_equal(done.stdout, f"message received: '{text}'\n".encode(), "answer")
        return done

    def send_until(self, key, wanted):
        """Handing a key out may be put off: some time it comes."""
        for _ in range(50):
            done = self.send(key)
            if labels(key) == wanted:
                return done
        raise chv.Failure(f"{key.id} has {labels(key)} and not {wanted}")


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


# --- a server that lies -------------------------------------------------------------------------------------------------

KEY_UPDATE, KEY_UPDATED = 5, 6


def update_body(peer, access, old, new, new_access):
    """doc/protocol.md, section 8."""
    def u16(data):
        return struct.pack(">H", len(data)) + data
    info = (b"chaveiro v1 update\x00" + bytes([len("test-server")]) + b"test-server" + bytes([len(peer.h_fin)]) + peer.h_fin +
            u16(old) + u16(new))
    return u16(new) + store.AESGCM(store.expand(access, info)).encrypt(bytes(12), new_access, b"")


def flipped(body, at):
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]


def test_what_a_client_does_not_take():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        held = contents(cam1)
        old, access = held.data["credential:1.1"], held.keys["access:1.1"]
        not_after = struct.unpack(">Q", old[10:18])[0]
        new_access = os.urandom(32)

        def credential(**changes):
            return store.credential(changes.pop("client_id", "cam1"), **{"not_after": not_after, "epoch": 2, **changes})

        def made(new, key=access):
            return lambda peer: update_body(peer, key, old, new, new_access)

        cases = {
            "empty": lambda _: b"",
            "another client's": made(credential(client_id="cam2")),
            "an older one": made(credential(epoch=1, serial=1)),
            "another profile": made(b"\x01\x03" + old[2:]),
            "by one who does not know the old key": made(credential(), os.urandom(32)),
            "a credential changed on the way": lambda peer: flipped(made(credential())(peer), 9),
            "a key changed on the way": lambda peer: flipped(made(credential())(peer), -1 % 60),
            "cut": lambda peer: made(credential())(peer)[:-1],
            "longer": lambda peer: made(credential())(peer) + b"x",
        }
        for name, body in cases.items():
            def serve(peer, body=body):
                peer.let_in(access, "test-server")
                peer.send_record(KEY_UPDATE, body(peer))
                chv.check_equal(peer.read_message(), b"ola", f"{name}: the session goes on")
                peer.send_record(fakeserver.DATA, b"yes")
                peer.send_record(fakeserver.END)
                while True:
                    kind, _ = peer.read_record()
                    chv.check(kind != KEY_UPDATED, f"{name}: taken")
                    if kind == fakeserver.CLOSE:
                        peer.send_record(fakeserver.CLOSE)
                        peer.drain()
                        return
            with fakeserver.FakeServer(serve) as fake:
                done = site.client(cam1, "send", "ola", to=fake.address)
            chv.check_equal(done.stdout, b"yes\n", name)
            chv.check_in("warning: the server's new key for this client is not taken", done.stderr, name)
            chv.check_equal(labels(cam1), ["1.1"], name)

        def twice(peer):
            peer.let_in(access, "test-server")
            peer.send_record(KEY_UPDATE, made(credential())(peer))
            peer.send_record(KEY_UPDATE, made(credential(epoch=3))(peer))
            peer.drain()

        def too_early(peer):
            peer.reply(access, "test-server")
            peer.read_record()
            peer.send_record(KEY_UPDATE, made(credential())(peer))
            peer.drain()

        for serve, wanted in ((too_early, ["1.1"]), (twice, ["1.1", "2.1"])):
            with fakeserver.FakeServer(serve) as fake:
                done = site.client(cam1, "send", "ola", to=fake.address, code=76)
            chv.check_in("record of type 5 that is not due", done.stderr, "the session ends")
            chv.check_equal(labels(cam1), wanted, "what is stored")
        chv.check_equal(contents(cam1).keys["access:2.1"], new_access, "the first one of the two")


def test_a_refusal_does_not_make_a_client_go_back():
    """Only a server that cannot prove the newer key: what anyone can forge, and a STATUS, do not."""
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        held = contents(cam1)
        new = store.credential("cam1", epoch=2)
        held.keys["access:2.1"], held.data["credential:2.1"] = os.urandom(32), new
        held.write(cam1.path)

        def refuses(peer):
            peer.read_hello()
            peer.send(fakeserver.refusal(426))
            peer.drain()

        def denies(peer):
            peer.reply(held.keys["access:2.1"], "test-server")
            peer.read_record()
            peer.send_record(fakeserver.STATUS, fakeserver.status(403, "no"))
            peer.drain()

        def ends(peer):
            peer.read_hello()

        for serve in (refuses, denies, ends):
            with fakeserver.FakeServer(serve) as fake:
                site.client(cam1, "send", "ola", "--retries", "0", to=fake.address, code=None)
            chv.check_equal(fake.accepted, 1, f"connections after {serve.__name__}")
            chv.check_equal(labels(cam1), ["1.1", "2.1"], "nothing goes")
            chv.check_in(new, fake.hellos[0], "the newest first")

        def proves_nothing(peer):
            peer.reply(b"", "test-server", key_of_another=True)
            peer.drain()

        with fakeserver.FakeServer(proves_nothing) as fake:
            done = site.client(cam1, "send", "ola", to=fake.address, code=77)
        chv.check_equal(fake.accepted, 2, "both keys are tried, once each")
        chv.check_in("cannot prove that it knows this key", done.stderr, "text")


def test_a_key_that_another_run_has_stored_meanwhile_is_taken():
    """Two runs of one client: the other one rotates and drops the key that this one has read."""
    for how in ("unproven", "denied"):
        with RotationSite() as site:
            site.init()
            cam1 = site.add_client("cam1")
            held = contents(cam1)
            old_access, new_access = held.keys["access:1.1"], os.urandom(32)
            new = store.credential("cam1", epoch=2)

            def serve(peer):
                hello = peer.read_hello()
                if new in hello:
                    peer.let_in(new_access, "test-server")
                    peer.read_message()
                    peer.send_record(fakeserver.DATA, b"yes")
                    peer.send_record(fakeserver.END)
                    peer.read_record()
                    peer.send_record(fakeserver.CLOSE)
                    peer.drain()
                    return
                held.keys, held.data["credential:2.1"] = {"access:2.1": new_access}, new
                held.write(cam1.path)
                if how == "unproven":
                    peer.reply(b"", "test-server", key_of_another=True)
                else:
                    peer.reply(old_access, "test-server")
                    peer.read_record()
                    peer.send_record(fakeserver.STATUS, fakeserver.status(403, "superseded"))
                peer.drain()

            with fakeserver.FakeServer(serve) as fake:
                done = site.client(cam1, "-v", "send", "ola", to=fake.address)
            chv.check_equal(done.stdout, b"yes\n", how)
            chv.check_in("another run has stored credential 2.1 meanwhile", done.stderr, how)
            chv.check_equal(fake.accepted, 2, "connections")


# --- cut off ------------------------------------------------------------------------------------------------------------

# All that changes a file, locks one, or sends: one by one the last thing that a process does.
CALLS = ("write", "fsync", "rename,renameat,renameat2", "unlink,unlinkat", "flock", "fchmod", "fchown",
         "sendmsg,sendto,writev")


def killed_at_each_call(program, arguments, prepare, check_after):
    """Runs the program again and again, killed before its Nth call of each kind; how often that was."""
    strace = shutil.which("strace")
    if strace is None:
        raise chv.Skip("strace is not installed")
    if subprocess.run([strace, "-qq", "-o", "/dev/null", "/bin/true"], check=False, capture_output=True).returncode != 0:
        raise chv.Skip("strace may not trace here")
    real = os.path.join(chv.TOP_BUILDDIR, f"tools/.libs/{program}")  # libtool's wrapper would be what is killed
    command = [real if os.path.isfile(real) else chv.program(program), *arguments]
    # a program that is traced already does not go on when it cannot forbid that
    environment = dict(os.environ, LC_ALL="C", LD_LIBRARY_PATH=os.path.join(chv.TOP_BUILDDIR, ".libs"),
                       ASAN_OPTIONS="detect_leaks=0")
    killed = 0
    for calls in CALLS:
        for n in range(1, 60):
            prepare()
            done = subprocess.run([strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
                                   f"inject={calls}:signal=SIGKILL:when={n}", *command], check=False,
                                  capture_output=True, timeout=chv.DEADLINE, env=environment)
            if done.returncode not in (-9, 137):
                break
            killed += 1
            check_after(f"{program} killed at {calls}, {n}")
    return killed


def test_a_client_killed_at_every_step_keeps_a_key_that_works():
    with RotationSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        site.start()
        site.rotate()
        with_old = chv.read(cam1.path)
        seen = set()

        def with_the_old_one(what):
            held = labels(cam1)
            seen.add(tuple(held))
            chv.check("1.1" in held, f"{what}: the old key is gone: {held}")

        killed = killed_at_each_call("chaveiro", site.client_argv(cam1, "send", "ola"),
                                     lambda: chv.write(cam1.path, with_old), with_the_old_one)
        chv.check(killed >= 10, f"killed {killed} times")
        chv.check_equal(seen, {("1.1",), ("1.1", "2.1")}, "before the new key is there, and with both")
        chv.write(cam1.path, with_old)
        site.send_until(cam1, ["1.1", "2.1"])
        with_both = chv.read(cam1.path)
        seen.clear()

        def with_the_new_one(what):
            held = labels(cam1)
            seen.add(tuple(held))
            chv.check("2.1" in held, f"{what}: the new key is gone: {held}")

        killed = killed_at_each_call("chaveiro", site.client_argv(cam1, "send", "ola"),
                                     lambda: chv.write(cam1.path, with_both), with_the_new_one)
        chv.check(killed >= 10, f"killed {killed} times")
        chv.check_equal(seen, {("1.1", "2.1"), ("2.1",)}, "before the old key went, and after")
        site.send(cam1)


def test_epoch_new_killed_at_every_step_is_taken_up_again():
    with RotationSite() as site:
        site.init()
        before, keys = site.path("before"), os.path.join(site.store, "server.keys")
        shutil.copytree(site.store, before)
        passphrase = store.passphrase_of(site.passphrase_file)

        def prepare():
            shutil.rmtree(site.store)
            shutil.copytree(before, site.store)

        def check_after(what):
            masters = sorted(store.Store(keys, passphrase).keys)
            config = chv.read(site.config)
            chv.check("master:1" in masters and (b"epochs = 1, 2\n" not in config or "master:2" in masters),
                      f"{what}: {masters}")
            made = site.epoch_new()
            if b"epochs = 1, 2\n" in config:
                return
            chv.check_equal((made["epoch"], made["epochs"]), (2, "1, 2"), what)
            chv.check_equal(sorted(k for k in store.Store(keys, passphrase).keys if k.startswith("master:")),
                            ["master:1", "master:2"], what)

        killed = killed_at_each_call("keyadmin", ["epoch", "new", "-c", site.config], prepare, check_after)
        chv.check(killed >= 6, f"killed {killed} times")


# --- under load ---------------------------------------------------------------------------------------------------------


class Callers:
    """Clients that connect again and again, each in a thread; every one of their messages has to be answered."""

    def __init__(self, site, keys, environment=None):
        self.site, self.keys, self.environment = site, keys, environment
        self.over = threading.Event()
        self.failures, self.used = [], {}
        self.threads = [threading.Thread(target=self._call, args=(key,)) for key in keys]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        for thread in self.threads:
            thread.join(chv.DEADLINE)

    def _call(self, key):
        token = isinstance(key, str)
        where = ["-k", key] if token else ["-k", key.path, "--passphrase-file", key.passphrase_file]
        while not self.over.is_set():
            try:
                done = chv.run("chaveiro", *where, "--server", self.site.address, "-v", "send", "ola", code=None,
                               env=self.environment)
            except chv.Failure as why:
                self.failures.append(str(why))
                return
            if done.code != 0 or done.stdout != b"message received: 'ola'\n":
                self.failures.append(f"{key if token else key.id}: {done.code} {done.stderr}")
                return
            used = re.search(rb"credential (\d+)\.\d+,", done.stderr)
            self.used.setdefault(key if token else key.id, []).append(int(used.group(1)))

    def wait_for(self, epoch):
        """Until each of them has been in with its key of that epoch."""
        for thread in self.threads:
            while thread.is_alive() and not all(epoch in self.used.get(k if isinstance(k, str) else k.id, [])
                                                for k in self.keys):
                thread.join(0.05)
        chv.check_equal(self.failures, [], "failures")


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


# --- keyadmin epoch -----------------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    chv.main()
