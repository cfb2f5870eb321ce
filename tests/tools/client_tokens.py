#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients' keystores in tokens through a client's life: killed and run again, reissued beside the old key, unpacked out
of a bundle; a batch whose master is in a token."""
import json
import os

import chv
import faulty
from client_life import CANTCREAT, KILL_AT, KILLED

CLIENTS = 200


class TokenFleet(faulty.FaultySite):
    """Master and registry of a server, the master in a token; a second token for the keystores of many clients."""

    def __enter__(self):
        super().__enter__()
        self.init()
        self.configure(registry=f"sqlite:{self.path('clients.db')}")
        self.passphrase = self.new_passphrase("client.pass")
        self.pin = self.path("fleet.pin")
        self.keyadmin("token", "init", f"pkcs11:token=fleet?module-path={self.tokens.module}", "--pin-file", self.pin,
                      "--so-pin-file", self.path("fleet.so-pin"))
        self.json(*self.words("add", "first"))  # makes the registry
        self.start()
        return self

    def keystore(self, name):
        return self.tokens.uri(f"fleet;object={name}", self.pin)

    def words(self, command, client, name=None):
        return ["client", command, client, "-c", self.config, "--to", self.keystore(name or client), "--address",
                self.address or "127.0.0.1:1"]

    def json(self, *words):
        return json.loads(self.keyadmin(*words, "--json").stdout)

    def show(self, client):
        done = self.keyadmin("client", "show", client, "-c", self.config, "--json", code=None)
        return json.loads(done.stdout) if done.code == 0 else None

    def keys(self, name):
        return [key["label"] for key in self.json("check", self.keystore(name))["keys"]]

    def killed(self, n, words):
        """At the Nth change of a file or a socket; True if it was killed there."""
        # AddressSanitizer wants to be the first library, but does without
        env = {"LD_PRELOAD": KILL_AT, "CHV_TEST_KILL_AT": str(n),
               "ASAN_OPTIONS": self.env["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}
        done = self.keyadmin(*words, code=None, env=env)
        chv.check(done.code in (0, KILLED), f"{words}, killed at {n}: exit code {done.code}: {done.stderr}")
        return done.code == KILLED

    def killed_in_token(self, call, n, words):
        """Before the Nth call of this name of the token."""
        self.tokens.fail(call, "kill", first=n)
        done = self.keyadmin(*words, code=None)
        self.tokens.heal()
        chv.check(done.code in (0, KILLED), f"{words}, killed at {call} {n}: exit code {done.code}: {done.stderr}")
        return done.code == KILLED

    def kill_points(self):
        """(name, run) of a command: run(words) kills it there; the caller ends a kind when nothing was killed."""
        for call in ("C_CreateObject", "C_SetAttributeValue"):
            yield call, lambda n, words, call=call: self.killed_in_token(call, n, words)
        yield "files", lambda n, words: self.killed(n if n % 2 else -n, words)


def works(site, name, serial):
    chv.check_equal(site.keys(name), [f"access:1.{serial}"], f"{name}: keys")
    site.send(site.keystore(name), name)


def test_add_killed_anywhere():
    with TokenFleet() as site:
        points, made = {}, []
        for kind, kill in site.kill_points():
            n, killed = 0, True
            while killed:
                n += 1
                client = f"{kind}{n}".replace("_", "-")
                words = site.words("add", client)
                killed = kill(n, words)
                row = site.show(client)
                again = site.json(*words)
                after = site.show(client)
                chv.check_equal((again["serial"], after["serial"], "pending" in after), (1, 1, False), client)
                if row is not None:
                    chv.check_equal(after["expires"], row["expires"], f"{client}: expiry")
                chv.check_equal(site.keys(client), ["access:1.1"], f"{client}: keys")
                made.append(client)
            points[kind] = n - 1
        chv.check(points["C_CreateObject"] == 4 and points["files"] > 10, f"points: {points}")
        for client in made:
            if not client.startswith("files") or client in ("files1", "files8"):
                works(site, client, 1)
        site.stop()


def test_reissue_into_the_same_token():
    with TokenFleet() as site:
        first = site.json(*site.words("add", "cam1"))
        site.send(site.keystore("cam1"), "with the first")
        second = site.json(*site.words("reissue", "cam1"))
        chv.check_equal((first["serial"], second["serial"], second["token"]), (1, 2, site.keystore("cam1")), "reissued")
        chv.check_equal(site.keys("cam1"), ["access:1.1", "access:1.2"], "the new key beside the old one")
        chv.check("pending" not in site.show("cam1"), "is pending")
        site.send(site.keystore("cam1"), "with the second")
        chv.check_equal(site.keys("cam1"), ["access:1.2"], "the old key, once the new one was used")
        # another one by set-scopes, and one for a leak: the same way
        wide = site.json("client", "set-scopes", "cam1", "message", "files:ro", *site.words("reissue", "cam1")[3:])
        chv.check_equal((wide["serial"], wide["scopes"]), (3, ["files:ro", "message"]), "widened")
        leaked = site.json(*site.words("reissue", "cam1"), "--leaked")
        chv.check_equal((leaked["serial"], site.show("cam1")["minimum"]), (4, "1.4"), "leaked")
        site.send(site.keystore("cam1"), "with the fourth")
        works(site, "cam1", 4)
        site.stop()


def test_reissue_keeps_the_identity_key():
    """Profile key+psk: the pair that the token made stays, the new credential is bound to it."""
    with TokenFleet() as site:
        site.stop()
        site.configure(profiles="psk, key+psk")
        site.start()
        first = site.json(*site.words("add", "cam1"), "--profile", "key+psk")
        site.send(site.keystore("cam1"), "with the first")
        second = site.json(*site.words("reissue", "cam1"))
        chv.check_equal((second["serial"], second["identity_key"]), (2, first["identity_key"]), "reissued")
        site.send(site.keystore("cam1"), "with the second")
        chv.check_equal(sorted(site.keys("cam1")), ["access:1.2", "identity"], "keys")
        site.stop()


def test_reissue_killed_anywhere():
    with TokenFleet() as site:
        site.json(*site.words("add", "cam1"))
        serial, points = 1, {}
        for kind, kill in site.kill_points():
            n, killed = 0, True
            while killed:
                n += 1
                words = site.words("reissue", "cam1")
                killed = kill(n, words)
                row = site.show("cam1")
                if f"access:1.{serial + 1}" not in site.keys("cam1"):
                    site.send(site.keystore("cam1"), f"{kind} {n}: with the old one")
                    site.json(*words)
                elif "pending" in row:  # before the new one is used: then it would be another that is asked for
                    site.json(*words)
                after = site.show("cam1")
                serial += 1
                chv.check_equal((after["serial"], "pending" in after), (serial, False), f"{kind} {n}: serial")
                works_after(site, serial, f"{kind} {n}")
            points[kind] = n - 1
        chv.check(points["C_CreateObject"] == 2 and points["files"] > 10, f"points: {points}")
        site.stop()


def works_after(site, serial, where):
    site.send(site.keystore("cam1"), where)
    chv.check_equal(site.keys("cam1"), [f"access:1.{serial}"], f"{where}: keys")


def test_keystores_of_others_are_left_alone():
    """A wrong URI, given twice: the second time the registry has the client already."""
    with TokenFleet() as site:
        for client in ("cam1", "cam2"):
            site.json(*site.words("add", client))
        for text, uri in (("another client", site.keystore("cam2")), ("is a server's keystore", site.uri)):
            for words in (["reissue", "cam1"], ["reissue", "cam1"], ["add", "cam1"]):
                done = site.keyadmin("client", *words, "-c", site.config, "--address", "127.0.0.1:1", "--to", uri,
                                     code=CANTCREAT)
                chv.check_in(text, done.stderr, f"{words}: error")
        chv.check_equal(site.show("cam1")["serial"], 2, "one number was given")
        works(site, "cam2", 1)
        site.send(site.keystore("cam1"), "the old one")
        site.json(*site.words("reissue", "cam1"))
        works_after(site, 2, "cam1")
        site.stop()


def batch(site, clients=CLIENTS):
    """A bundle out of a master in a token."""
    listed = chv.write(site.path("list.csv"), "id,scopes,expires\n" + "".join(f"dev{i:03d},message,90d\n"
                                                                             for i in range(clients)))
    return site.json("client", "add", "--from", listed, "-c", site.config, "--client-passphrase-file", site.passphrase,
                     "--scrypt-cost", chv.SCRYPT_COST, "--out", site.path("bundle"), "--address", site.address)


def unpack_words(site, client, *where):
    return ["bundle", "unpack", client, "--from", site.path("bundle"), "--passphrase-file", site.passphrase, *where]


def test_a_batch_by_a_master_in_a_token():
    with TokenFleet() as site:
        made = batch(site)
        chv.check_equal((made["clients"], made["added"]), (CLIENTS, CLIENTS), "made")
        listed = site.json("client", "list", "-c", site.config)["clients"]
        chv.check_equal((len(listed), [c for c in listed if "pending" in c]), (CLIENTS + 1, []), "registered")
        file = site.path("dev150.key")
        site.keyadmin(*unpack_words(site, "dev150", "--client-passphrase-file", site.passphrase, "--scrypt-cost",
                                    chv.SCRYPT_COST, "--out", file))
        site.send(chv.Key("dev150", file, site.passphrase), "out of a bundle")
        unpacked = site.json(*unpack_words(site, "dev151", "--to", site.keystore("dev151")))
        chv.check_equal((unpacked["serial"], unpacked["token"]), (1, site.keystore("dev151")), "unpacked")
        works(site, "dev151", 1)
        # what the bundle says is what the server derives
        single = site.json(*site.words("add", "dev151", "single"))
        chv.check_equal(single["key_check"], unpacked["key_check"], "key")
        done = site.keyadmin(*unpack_words(site, "dev152", "--to", site.keystore("dev151")), code=CANTCREAT)
        chv.check_in("another client", done.stderr, "into the keystore of another one")
        done = site.keyadmin(*unpack_words(site, "dev152", "--to", site.uri), code=CANTCREAT)
        chv.check_in("is a server's keystore", done.stderr, "into the server's own")
        works(site, "dev151", 1)
        site.stop()


def test_unpack_killed_anywhere():
    with TokenFleet() as site:
        batch(site, 8)
        n, killed = 0, True
        while killed:
            client = f"dev{n:03d}"
            n += 1
            words = unpack_words(site, client, "--to", site.keystore(client))
            killed = site.killed_in_token("C_CreateObject", n, words)
            chv.check_equal(site.json(*words)["serial"], 1, f"{client}: again")
            works(site, client, 1)
        chv.check_equal(n - 1, 4, "points")
        site.stop()


if __name__ == "__main__":
    chv.main()
