# SPDX-License-Identifier: Apache-2.0
"""Rotation: servers that lie, other runs of the same client, and programs that are killed at every step."""
import os
import shutil
import signal
import struct

import chv
import fakeserver
import softhsm
import store
from rotate import RotationSite, contents, killed_at_each_call, labels

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

        def twice_before_status(peer):
            """One may come there, before a REDIRECT."""
            peer.reply(access, "test-server")
            peer.read_record()
            peer.send_record(KEY_UPDATE, made(credential())(peer))
            peer.send_record(KEY_UPDATE, made(credential(epoch=3))(peer))
            peer.drain()

        file = chv.read(cam1.path)
        for serve in (twice, twice_before_status):
            chv.write(cam1.path, file)
            with fakeserver.FakeServer(serve) as fake:
                done = site.client(cam1, "send", "ola", to=fake.address, code=76)
            chv.check_in("record of type 5 that is not due", done.stderr, "the session ends")
            chv.check_equal(labels(cam1), ["1.1", "2.1"], "what is stored")
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


def test_a_client_with_a_token_killed_at_every_step_keeps_a_key_that_works():
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        uri = site.add_token_client("cam1")
        site.keyadmin("epoch", "new", "-c", site.config)
        before, tried = site.path("tokens-before"), []
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded")
        shutil.copytree(site.tokens.folder, before)

        def prepare():
            for name in os.listdir(before):
                shutil.rmtree(os.path.join(site.tokens.folder, name))
                shutil.copytree(os.path.join(before, name), os.path.join(site.tokens.folder, name))

        def check_after(what):
            # SoftHSM writes token.object anew in its place at each login: killed just then, the token itself is lost
            if all(os.path.getsize(os.path.join(site.tokens.folder, name, "token.object")) for name in os.listdir(before)):
                tried.append(what)
                site.send(uri, "again")

        arguments = ["-k", uri, "--server", site.address, "send", "ola"]
        killed_at_each_call("chaveiro", arguments, prepare, check_after, site.env)
        chv.check(len(tried) >= 10, f"killed {len(tried)} times")


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


if __name__ == "__main__":
    chv.main()
