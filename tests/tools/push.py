# SPDX-License-Identifier: Apache-2.0
"""Pushes from end to end: what keyadmin queues arrives at whom it is for, whole, under its name, once, whoever is there and
whatever the disk says; and nobody else gets it."""
import hashlib
import json
import os
import pwd
import signal
import stat

import chv
import rawclient
from pushes import STATE, PushSite, content, raw, wait_until

USAGE, DATAERR, NOINPUT, UNAVAILABLE, OSERR, CANTCREAT, IOERR, TEMPFAIL, PROTOCOL, NOPERM, CONFIG = (
    64, 65, 66, 69, 71, 73, 74, 75, 76, 77, 78)
MIB = 1 << 20
ENTRY, ANSWER, GONE, IDLE = 16, 17, 18, 19
DATA, END, CLOSE = 0, 1, 10


# --- what is pushed arrives ---------------------------------------------------------------------------------------------


def test_files_of_every_size_arrive():
    with PushSite() as site:
        site.init()
        sizes = (0, 1, 65279, 65280, 65281, 262144 - 512, 3 * MIB + 7)
        files = []
        for size in sizes:
            files.append(site.source(f"f{size}", content(size)))
            os.chmod(files[-1], 0o640)
            os.utime(files[-1], ns=(1, 1234567890123456789))
        done = site.push(*files, "--to", "cam1")
        chv.check_equal(len(done.stdout.splitlines()), len(files), "lines")
        chv.check_equal(len(site.entries("cam1")), len(files), "entries")
        done = site.watch("cam1")
        chv.check_equal(done.stdout.decode().split(), [f"f{size}" for size in sizes], "printed, in the order of pushes")
        chv.check_equal(done.stderr, b"", "standard error")
        for size in sizes:
            path = site.incoming("cam1", f"f{size}")
            chv.check(chv.read(path) == content(size), f"{size} bytes came changed")
            st = os.stat(path)
            chv.check_equal((stat.S_IMODE(st.st_mode), st.st_mtime_ns), (0o640, 1234567890123456789), "mode, time")
        chv.check_equal(site.files("cam1"), sorted(f"f{size}" for size in sizes), "what is there")
        chv.check_equal(site.entries("cam1"), [], "entries left")
        told = site.status("cam1")
        chv.check_equal((told["waiting"], told["delivered"], told["refused"]), (0, len(sizes), 0), "status")
        chv.check(site.watch("cam1").stdout == b"", "a second time")


def test_who_watches_gets_it_at_once():
    with PushSite() as site:
        site.init()
        watchers = {name: site.watch_start(name) for name in ("cam1", "cam2")}
        site.server.wait_for("opened service 'push'", 2)
        chv.check_equal(os.listdir(site.outbox), [], "what the server makes")
        site.push(site.source("one"), "--to", "cam1", "--to", "cam2")
        for name, watcher in watchers.items():
            watcher.wait_for("one\n", stream="stdout")
            chv.check_equal(chv.read(site.incoming(name, "one")), b"data", name)
        site.push(site.source("two", b"2"), "--to", "cam2")
        watchers["cam2"].wait_for("two\n", stream="stdout")
        for name, watcher in watchers.items():
            wait_until("removed", lambda: site.entries(name) == [])
            watcher.signal(signal.SIGTERM)
            watcher.wait(128 + signal.SIGTERM)
        chv.check_equal(site.files("cam1"), ["one"], "cam1")


def test_a_thousand_small_files():
    with PushSite() as site:
        site.init()
        files = [site.source(f"n{i:04}", b"%d" % i * (i % 50)) for i in range(1000)]
        site.push(*files, "--to", "cam1")
        done = site.watch("cam1")
        chv.check_equal(done.stdout.decode().split(), [f"n{i:04}" for i in range(1000)], "in order")
        for i in range(1000):
            chv.check_equal(chv.read(site.incoming("cam1", f"n{i:04}")), b"%d" % i * (i % 50), "contents")
        chv.check_equal(site.entries("cam1"), [], "entries left")
        chv.check_equal(site.status("cam1")["delivered"], 1000, "delivered")


def test_what_is_waiting_is_not_queued_twice():
    with PushSite() as site:
        site.init()
        one = site.source("one")
        site.push(one, "--to", "cam1")
        done = site.push(one, "--to", "cam1", "--to", "cam2")
        chv.check_in("(was waiting already)", done.stdout, "told")
        chv.check_equal((len(site.entries("cam1")), len(site.entries("cam2"))), (1, 1), "entries")
        os.chmod(one, 0o755)
        site.push(one, "--to", "cam1")
        chv.check_equal(len(site.entries("cam1")), 2, "with another mode")


def test_json_and_status():
    with PushSite() as site:
        site.init()
        told = json.loads(site.push(site.source("one", b"12345"), "--to", "cam1", "--json").stdout)["pushed"][0]
        digest = hashlib.sha256(b"12345").hexdigest()
        chv.check_equal((told["client"], told["name"], told["state"], told["size"], told["sha256"]),
                        ("cam1", "one", "queued", 5, digest), "pushed")
        state = site.status("cam1")
        chv.check_equal((state["waiting"], state["bytes"], state["entries"][0]["entry"], state["entries"][0]["sha256"]),
                        (1, 5, told["entry"], digest), "status")
        chv.check_in(told["entry"], site.push("status", "cam1").stdout, "status for people")
        chv.check_in("cam1", site.push("status").stdout, "all clients")
        got = json.loads(site.watch("cam1", "--json").stdout)
        chv.check_equal(got, {"name": "one", "entry": told["entry"], "sha256": digest}, "watch")
        chv.check_equal(site.status("cam1")["delivered"], 1, "delivered")


def test_cancel():
    with PushSite() as site:
        site.init()
        site.push(site.source("one"), site.source("two"), "--to", "cam1", "--to", "cam2")
        entry = site.entries("cam1")[0]
        site.push("cancel", entry, "--to", "cam1")
        chv.check_equal((len(site.entries("cam1")), len(site.entries("cam2"))), (1, 2), "entries")
        site.push("cancel", entry)
        chv.check_equal(len(site.entries("cam2")), 1, "entries of cam2")
        chv.check_in("waits for none", site.push("cancel", entry, code=NOINPUT).stderr, "a second time")
        chv.check_in("is no entry", site.push("cancel", "x", code=USAGE).stderr, "what is none")
        chv.check_equal(site.watch("cam1").stdout, b"two\n", "what arrives")


# --- who may what -------------------------------------------------------------------------------------------------------


def test_refused_by_keyadmin():
    with PushSite() as site:
        site.init(start=False)
        one = site.source("one")
        os.mkdir(site.path("other"))
        chv.write(site.path("other/one"), "x")
        chv.write(site.path("src/.chv-part-x"), "x")
        for arguments, code, text in (
                ([one], USAGE, "push to whom?"), (["--to", "cam1"], USAGE, "wants FILE"),
                ([one, "--to", "../x"], USAGE, "is no client id"), ([site.path("no"), "--to", "cam1"], NOINPUT, "No such file"),
                ([site.path("src"), "--to", "cam1"], USAGE, "is no regular file"),
                ([one, site.path("other/one"), "--to", "cam1"], USAGE, "the same name"),
                ([site.path("src/.chv-part-x"), "--to", "cam1"], USAGE, "the server's own"),
                ([one, "--to-scope", "push"], CONFIG, "no registry that knows")):
            chv.check_in(text, site.push(*arguments, code=code).stderr, "the error")
        chv.check_equal(os.listdir(site.outbox), [], "what was queued")
        site.configure(outbox=site.path("nowhere"))
        chv.check_in("nowhere: No such file", site.push(one, "--to", "cam1", code=CONFIG).stderr, "no outbox")
        done = chv.run("chaveirod", "--check", "-c", site.config, "--passphrase-file", site.passphrase_file,
                       code=CONFIG)
        chv.check_in("[push] outbox: " + site.path("nowhere") + ": No such file", done.stderr, "check")


def test_the_registry_says_whom():
    with PushSite() as site:
        site.init(registry=True, start=False, clients=("cam1", "cam2", "cam3"))
        site.add_client("other", scopes=["message"])
        site.add_client("half", scopes=["group:north"])
        site.add_client("north", scopes=["group:north", "push"])
        one = site.source("one")
        chv.check_in("no scope 'push'", site.push(one, "--to", "other", code=CONFIG).stderr, "without the scope")
        chv.check_in("no client 'nobody'", site.push(one, "--to", "nobody", code=NOINPUT).stderr, "unknown")
        site.keyadmin("client", "revoke", "cam3", "-c", site.config)
        chv.check_in("is revoked", site.push(one, "--to", "cam3", code=CONFIG).stderr, "revoked")
        chv.check_equal(os.listdir(site.outbox), [], "what was queued")
        site.push(one, "--to-scope", "push")
        chv.check_equal(sorted(n for n in os.listdir(site.outbox) if n[0] != "."), ["cam1", "cam2", "north"], "whom")
        done = site.push(site.source("two"), "--to-scope", "group:north", "--to", "cam1")
        chv.check_in("warning: client 'half' has no scope 'push'", done.stderr, "left out")
        chv.check_equal([len(site.entries(n)) for n in ("cam1", "cam2", "north")], [2, 1, 2], "entries")
        chv.check_in("no client", site.push(one, "--to-scope", "nothing", code=NOINPUT).stderr, "nobody has it")


def test_scope_and_configuration():
    with PushSite() as site:
        site.init()
        site.keys["none"] = site.add_client("none", scopes=["message"])
        os.mkdir(site.incoming("none"))
        chv.check_in("no scope 'push'", site.watch("none", code=NOPERM).stderr, "without the scope")
        chv.check(not os.path.exists(os.path.join(site.outbox, "none")), "a folder for who has no right")
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=["push"])
        site.start()
        os.mkdir(site.path("in"))
        done = site.client(key, "watch", site.path("in"), code=CONFIG)
        chv.check_in("this server pushes nothing", done.stderr, "without an outbox")


def test_a_client_that_is_revoked_meanwhile():
    with PushSite() as site:
        site.init(registry=True)
        watcher = site.watch_start("cam1")
        site.push(site.source("one"), "--to", "cam1")
        watcher.wait_for("one\n", stream="stdout")
        site.keyadmin("client", "revoke", "cam1", "-c", site.config)
        done = watcher.wait(NOPERM)
        chv.check_in("revoked", done.stderr, "why")
        chv.check_equal(site.files("cam1"), ["one"], "files")


def test_an_outbox_of_another_user():
    if os.geteuid() != 0:
        raise chv.Skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    for owner, group, mode, wanted in ((nobody.pw_uid, 0, 0o700, (0o700, 0o600)), (0, nobody.pw_gid, 0o2770, (0o2770, 0o660))):
        with PushSite() as site:
            site.init(start=False, user="nobody")
            os.chmod(site.folder, 0o711)
            os.chmod(site.store, 0o711)
            os.chown(os.path.join(site.store, "state"), nobody.pw_uid, 0)
            server = site.spawn("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file)
            server.wait_for(r"\[push\] outbox: .*Permission denied")
            server.kill()
            os.chown(site.outbox, owner, group)
            os.chmod(site.outbox, mode)
            site.start()
            chv.write(site.incoming("cam1", "two"), "mine")
            watcher = site.watch_start("cam1")
            site.server.wait_for("opened service 'push'")
            site.push(site.source("one"), site.source("two"), "--to", "cam1")
            watcher.wait_for("one\n", stream="stdout")
            wait_until("removed", lambda: len(site.entries("cam1")) == 1)
            watcher.wait_for("two: not taken")
            wait_until("a mark", lambda: site.status("cam1")["refused"] == 1)
            watcher.signal(signal.SIGTERM)
            watcher.wait(128 + signal.SIGTERM)
            chv.check_equal(site.status("cam1")["delivered"], 1, "delivered")
            folder = os.path.join(site.outbox, "cam1")
            for path, bits in ((folder, wanted[0]), (os.path.join(folder, site.entries("cam1")[0]), wanted[1]),
                               (os.path.join(folder, "delivered"), wanted[1])):
                st = os.stat(path)
                chv.check_equal(stat.S_IMODE(st.st_mode), bits, f"mode of {path}")
                chv.check_equal(st.st_gid if mode == 0o2770 else st.st_uid,
                                nobody.pw_gid if mode == 0o2770 else nobody.pw_uid, f"owner of {path}")


def test_a_watcher_that_is_silent_for_long():
    """It asks for an answer often enough for the server to keep the connection."""
    with PushSite() as site:
        site.init(idle_timeout="2s")
        watcher = site.watch_start("cam1")
        site.server.wait_for("opened service 'push'")
        with raw(site, "cam2") as silent:  # which the server closes, and then once more: that long it was
            chv.check_equal(silent.read_record()[0], IDLE, "nothing waits")
            chv.check_equal(silent.read_record()[0], CLOSE, "what the server says")
        with raw(site, "cam2") as silent:
            chv.check_equal(silent.read_record()[0], IDLE, "nothing waits")
            chv.check_equal(silent.read_record()[0], CLOSE, "what the server says")
        site.push(site.source("one"), "--to", "cam1")
        watcher.wait_for("one\n", stream="stdout")
        chv.check_equal(watcher.stderr, b"", "the connection was never lost")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)


# --- names that are taken, disks that are full --------------------------------------------------------------------------


def test_a_name_that_is_taken():
    with PushSite() as site:
        site.init()
        chv.write(site.incoming("cam1", "one"), "mine")
        os.symlink("/nowhere", site.incoming("cam1", "two"))
        site.push(site.source("one"), site.source("two"), site.source("three"), "--to", "cam1")
        done = site.watch("cam1", code=CANTCREAT)
        chv.check_equal(done.stdout, b"three\n", "what came")
        chv.check_in("one: not taken: another file of that name is there, and nothing is replaced (409)", done.stderr, "why")
        chv.check_equal(chv.read(site.incoming("cam1", "one")), b"mine", "what was there")
        chv.check_equal(os.readlink(site.incoming("cam1", "two")), "/nowhere", "the link")
        state = site.status("cam1")
        chv.check_equal((state["waiting"], state["refused"]), (2, 2), "status")
        chv.check_equal(state["entries"][0]["refused"]["code"], 409, "code")
        chv.check_in("(refused 409: another file of that name is there", site.push("status", "cam1").stdout, "for people")
        os.unlink(site.incoming("cam1", "one"))
        os.unlink(site.incoming("cam1", "two"))
        chv.check_equal(site.watch("cam1").stdout, b"one\ntwo\n", "when the names are free")
        chv.check_equal(site.files("cam1"), ["one", "three", "two"], "files")
        chv.check_equal([n for n in os.listdir(os.path.join(site.outbox, "cam1")) if n != "delivered"], [], "outbox")


def test_two_files_of_one_name():
    with PushSite() as site:
        site.init()
        site.push(site.source("one", b"first"), "--to", "cam1")
        site.push(site.source("one", b"second"), "--to", "cam1")
        done = site.watch("cam1", code=CANTCREAT)
        chv.check_equal(done.stdout, b"one\n", "what came")
        chv.check_equal(chv.read(site.incoming("cam1", "one")), b"first", "the first")
        os.unlink(site.incoming("cam1", "one"))
        site.watch("cam1")
        chv.check_equal(chv.read(site.incoming("cam1", "one")), b"second", "the second")


def test_a_full_disk():
    with PushSite() as site:
        site.init()
        if os.geteuid() != 0:
            raise chv.Skip("mounts a file system: needs root")
        small = site.path("small")
        os.mkdir(small)
        mount = chv.run("/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small, code=None)
        if mount.code != 0:
            raise chv.Skip("cannot mount here")
        try:
            site.push(site.source("big", content(3 * MIB)), site.source("fits", content(1000)), "--to", "cam1")
            done = site.watch("cam1", folder=small, code=CANTCREAT)
            chv.check_equal(done.stdout, b"fits\n", "what came")
            chv.check_in("big: not taken: No space left on device (507)", done.stderr, "why")
            chv.check_equal(sorted(os.listdir(small)), [STATE, "fits"], "what is there")
            chv.check_equal(site.status("cam1")["entries"][0]["refused"]["code"], 507, "status")
        finally:
            chv.run("/bin/umount", small, code=None)
        site.watch("cam1")
        chv.check(chv.read(site.incoming("cam1", "big")) == content(3 * MIB), "with more space")


def test_a_full_disk_of_the_outbox():
    with PushSite() as site:
        site.init(start=False)
        if os.geteuid() != 0:
            raise chv.Skip("mounts a file system: needs root")
        mount = chv.run("/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", site.outbox, code=None)
        if mount.code != 0:
            raise chv.Skip("cannot mount here")
        try:
            done = site.push(site.source("big", content(3 * MIB)), site.source("fits"), "--to", "cam1", code=CANTCREAT)
            chv.check_in("big: no space left on the disk of the outbox: not queued for anybody", done.stderr, "why")
            chv.check_equal(len(site.entries("cam1")), 1, "the other one")
            chv.check_equal(os.listdir(os.path.join(site.outbox, ".spool")), [], "nothing is left")
        finally:
            chv.run("/bin/umount", site.outbox, code=None)


def test_damaged_entries():
    with PushSite() as site:
        site.init()
        site.push(site.source("one", content(200000)), site.source("two"), site.source("three"), "--to", "cam1")
        first, second, _ = site.entries("cam1")
        folder = os.path.join(site.outbox, "cam1")
        with open(os.path.join(folder, first), "r+b") as f:
            f.seek(150000)
            f.write(b"xxxxxx")
        with open(os.path.join(folder, second), "r+b") as f:
            f.write(b"what?")
        done = site.watch("cam1")
        chv.check_equal(done.stdout, b"three\n", "what came")
        chv.check_equal(site.files("cam1"), ["three"], "files")
        state = site.status("cam1")
        chv.check_equal([e["refused"]["code"] if "refused" in e else e for e in state["entries"] if "damaged" not in e],
                        [500], "status")
        chv.check_equal(sum("damaged" in e for e in state["entries"]), 1, "damaged")


# --- two programs -------------------------------------------------------------------------------------------------------


def test_a_second_watcher_of_a_folder_is_refused():
    with PushSite() as site:
        site.init()
        watcher = site.watch_start("cam1")
        wait_until("a journal", lambda: os.path.exists(site.incoming("cam1", STATE + "/journal")))
        done = site.watch("cam1", code=TEMPFAIL)
        chv.check_in("another 'chaveiro watch' is at work in this folder", done.stderr, "why")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)
        done = site.client(site.keys["cam2"], "watch", "--once", site.incoming("cam1"), code=CONFIG)
        chv.check_in("is the folder of server and client 'test-server cam1', not of 'test-server cam2'", done.stderr, "why")


def test_two_watchers_of_one_client_share():
    with PushSite() as site:
        site.init()
        other = site.path("other")
        os.mkdir(other)
        watchers = [site.watch_start("cam1"), site.watch_start("cam1", folder=other)]
        for folder in (site.incoming("cam1"), other):
            wait_until("a journal", lambda: os.path.exists(os.path.join(folder, STATE, "journal")))
        names = [f"n{i:03}" for i in range(300)]
        site.push(*[site.source(n, n.encode() * 1000) for n in names], "--to", "cam1")
        wait_until("all delivered", lambda: site.entries("cam1") == [])
        got = [sorted(n for n in os.listdir(f) if n != STATE) for f in (site.incoming("cam1"), other)]
        chv.check_equal(sorted(got[0] + got[1]), names, "each at one of them")
        for watcher in watchers:
            watcher.signal(signal.SIGTERM)
            watcher.wait(128 + signal.SIGTERM)


def test_what_a_dead_watcher_was_offered_goes_to_the_other():
    with PushSite() as site:
        site.init()
        with raw(site, "cam1") as stuck:
            chv.check_equal(stuck.read_record()[0], IDLE, "nothing waits")
            site.push(site.source("one"), "--to", "cam1")
            chv.check_equal(stuck.read_record()[0], ENTRY, "offered to the one that is there")
            chv.check_equal(site.watch("cam1").stdout, b"", "which another one is not offered meanwhile")
            watcher = site.watch_start("cam1")
            wait_until("connected", lambda: len(site.server.wait_for("opened service 'push'", 3)) >= 3)
            chv.check_equal(site.files("cam1"), [], "not yet")
        watcher.wait_for("one\n", stream="stdout")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)


# --- connections that are lost ------------------------------------------------------------------------------------------


def test_the_server_goes_and_comes_back():
    with PushSite() as site:
        site.init()
        site.configure(listen=site.address)
        watcher = site.watch_start("cam1")
        site.push(site.source("one"), "--to", "cam1")
        watcher.wait_for("one\n", stream="stdout")
        site.stop()
        watcher.wait_for("trying again in")
        site.push(site.source("two"), "--to", "cam1")
        site.start()
        watcher.wait_for("two\n", stream="stdout")
        chv.check_equal(site.files("cam1"), ["one", "two"], "files")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)


def test_signals_between_two_connections():
    for number in (signal.SIGTERM, signal.SIGINT):
        with PushSite() as site:
            site.init()
            watcher = site.watch_start("cam1")
            wait_until("a journal", lambda: os.path.exists(site.incoming("cam1", STATE + "/journal")))
            site.stop()
            watcher.wait_for("trying again in", 3)
            watcher.signal(number)
            watcher.wait(128 + number)


def test_a_folder_that_is_removed_under_a_watcher():
    with PushSite() as site:
        site.init()
        watcher = site.watch_start("cam1")
        site.push(site.source("one"), "--to", "cam1")
        watcher.wait_for("one\n", stream="stdout")
        wait_until("removed", lambda: site.entries("cam1") == [])
        os.rename(os.path.join(site.outbox, "cam1"), site.path("aside"))
        chv.remove_folder(site.path("aside"))
        site.push(site.source("two"), "--to", "cam1")
        watcher.wait_for("two\n", stream="stdout")
        watcher.signal(signal.SIGTERM)
        watcher.wait(128 + signal.SIGTERM)


# --- who does not keep to it --------------------------------------------------------------------------------------------


def cbor(value):
    """Of a map with texts, bytes and numbers."""
    def head(major, n):
        return bytes([major << 5 | n]) if n < 24 else bytes([major << 5 | 24, n]) if n < 256 else (
            bytes([major << 5 | 25]) + n.to_bytes(2, "big"))
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(0, value)


def answer(entry, code=200, **more):
    return cbor({"id": bytes.fromhex(entry), "code": code, **more})


def ended(connection, code, text):
    """The server says STATUS and closes."""
    kind, body = connection.read_record()
    while kind in (ENTRY, DATA, END, IDLE, GONE):
        kind, body = connection.read_record()
    chv.check_equal(kind, 3, "record")
    status = rawclient.status_of(body)
    chv.check_equal(status[0], code, "code")
    chv.check_in(text, status[1], "text")
    chv.check_equal(connection.sock.recv(1), b"", "bytes behind STATUS")


def test_answers_that_do_not_fit():
    with PushSite() as site:
        site.init()
        digest = hashlib.sha256(b"data").digest()
        site.push(site.source("one"), "--to", "cam1", "--to", "cam2")
        entry = site.entries("cam1")[0]
        for body, text in ((answer(entry, sha256=bytes(32)), "an answer that fits no entry"),
                           (answer(entry), "not an answer"), (answer(entry, 201, sha256=digest), "not an answer"),
                           (answer(entry, 399, text="x"), "not an answer"), (answer(entry[:30], sha256=digest), "not an answer"),
                           (answer(entry, sha256=digest[:31]), "not an answer"), (b"", "not an answer"),
                           (cbor({"id": bytes(16), "code": 409, "text": "x" * 256}), "not an answer")):
            with raw(site, "cam1") as client:
                client.send_record(ANSWER, body)
                ended(client, 400, text)
        for kind in (DATA, END, ENTRY, GONE, IDLE, 99):
            with raw(site, "cam1") as client:
                client.send_record(kind, answer(entry, sha256=digest))
                ended(client, 400, "not an answer")
        chv.check_equal(site.entries("cam1"), [entry], "what waits")
        chv.check_equal(site.status("cam1")["delivered"], 0, "delivered")
        with raw(site, "cam1") as client:  # refusals of what was not offered count for nothing
            client.send_record(ANSWER, answer("00" * 16, 409, text="no"))
            client.send_record(ANSWER, answer("00" * 16, sha256=digest))
            kind, body = client.read_record()
            while kind != GONE:
                kind, body = client.read_record()
            chv.check_equal(body, bytes(16), "what is not there is gone")
        chv.check_equal(site.watch("cam1").stdout, b"one\n", "and it still arrives")


def test_a_client_reaches_its_own_entries_only():
    with PushSite() as site:
        site.init()
        site.push(site.source("one"), "--to", "cam1")
        entry = site.entries("cam1")[0]
        with raw(site, "cam2") as client:
            chv.check_equal(client.read_record()[0], IDLE, "nothing for cam2")
            client.send_record(ANSWER, answer(entry, sha256=hashlib.sha256(b"data").digest()))
            chv.check_equal(client.read_record(), (GONE, bytes.fromhex(entry)), "nothing there")
        chv.check_equal(site.entries("cam1"), [entry], "what waits for cam1")


def test_a_client_that_never_answers():
    with PushSite() as site:
        site.init()
        site.push(*[site.source(f"n{i:03}") for i in range(100)], "--to", "cam1")
        with raw(site, "cam1") as client:
            for _ in range(64):
                chv.check_equal([client.read_record()[0] for _ in range(3)], [ENTRY, DATA, END], "an entry")
            client.send_record(8, b"ping")
            chv.check_equal(client.read_record(), (9, b"ping"), "nothing more but the answer to PING")
            client.send_record(ANSWER, answer(site.entries("cam1")[5], 507, text="full"))
            chv.check_equal(client.read_record()[0], ENTRY, "one more")
        chv.check_equal(len(site.entries("cam1")), 100, "all wait")


def test_a_client_that_answers_without_end():
    """Its records are held back, and the others are served."""
    with PushSite() as site:
        site.init()
        site.push(site.source("one"), "--to", "cam2")
        with raw(site, "cam1") as client:
            for i in range(5000):
                client.send_record(ANSWER, answer(f"{i:032x}", sha256=bytes(32)))
            chv.check_equal(site.watch("cam2").stdout, b"one\n", "another client")
            gone = [body for kind, body in (client.read_record() for _ in range(5001)) if kind == GONE]
            chv.check_equal(len(gone), 5000, "answers")


def test_an_early_answer_stops_the_stream():
    with PushSite() as site:
        site.init()
        site.push(site.source("big", content(64 * MIB)), site.source("small"), "--to", "cam1")
        chv.write(site.incoming("cam1", "big"), "mine")
        chv.check_equal(site.watch("cam1", code=CANTCREAT).stdout, b"small\n", "what came")
        with raw(site, "cam1") as client:
            chv.check_equal(client.read_record()[0], ENTRY, "offered again")
            client.send_record(ANSWER, answer(site.entries("cam1")[0], 409, text="taken"))
            got, (kind, body) = 0, client.read_record()
            while kind == DATA:
                got += len(body)
                kind, body = client.read_record()
            chv.check_equal((kind, body), (END, b""), "the end of the stream")
            chv.check(got < 64 * MIB, "the stream was cut short")


def test_the_service_without_a_server():
    with PushSite() as site:
        site.init(start=False)
        done = site.client(site.keys["cam1"], "watch", "--once", site.incoming("cam1"), to="127.0.0.1:9", code=UNAVAILABLE)
        chv.check_in("refused", done.stderr, "why")


if __name__ == "__main__":
    chv.main()
