# SPDX-License-Identifier: Apache-2.0
"""A site whose server pushes files, for the tests of pushes."""
import hashlib
import json
import os
import time

import chv
import rawclient
import store

STATE = ".chaveiro-watch"


class PushSite(chv.Site):
    """A site with [push]; clients cam1 and cam2 have the scope."""

    def init(self, *extra, registry=False, clients=("cam1", "cam2"), start=True, **settings):
        super().init(*extra, registry=registry)
        self.outbox = self.path("outbox")
        os.makedirs(self.outbox, mode=0o700, exist_ok=True)
        self.configure(outbox=self.outbox, **settings)
        self.keys = {name: self.add_client(name, scopes=["push"]) for name in clients}
        for name in clients:
            os.makedirs(self.path("in-" + name))
        return self.start() if start else None

    def incoming(self, client, name=""):
        return os.path.join(self.path("in-" + client), name)

    def push(self, *arguments, code=0, **options):
        return chv.run("keyadmin", "push", *arguments, "-c", self.config, code=code, **options)

    def source(self, name, data=b"data"):
        os.makedirs(self.path("src"), exist_ok=True)
        return chv.write(os.path.join(self.path("src"), name), data)

    def watch(self, client, *extra, folder=None, code=0, **options):
        """`chaveiro watch --once`"""
        return self.client(self.keys[client], "watch", "--once", folder or self.incoming(client), *extra, code=code, **options)

    def watch_start(self, client, *extra, folder=None):
        return self.client_start(self.keys[client], "watch", folder or self.incoming(client), *extra)

    def files(self, client):
        return sorted(n for n in os.listdir(self.incoming(client)) if n != STATE)

    def entries(self, client):
        folder = os.path.join(self.outbox, client)
        return sorted(n for n in os.listdir(folder) if len(n) == 32) if os.path.isdir(folder) else []

    def status(self, client):
        listed = json.loads(self.push("status", client, "--json").stdout)["clients"]
        return listed[0]


def raw(site, client):
    """A connection in Python that has opened the service."""
    kept = store.Store(site.keys[client].path, store.passphrase_of(site.keys[client].passphrase_file))
    cred = next(value for label, value in kept.data.items() if label.startswith("credential:"))
    connection = rawclient.RawClient(site, cred, next(iter(kept.keys.values())))
    chv.check_equal(connection.handshake(), None, "handshake")
    chv.check_equal(connection.open("push")[0], 200, "status")
    return connection


def content(size):
    return hashlib.shake_128(b"%d" % size).digest(size)


def wait_until(what, condition):
    end = time.monotonic() + chv.DEADLINE
    while not condition():
        chv.check(time.monotonic() < end, f"never: {what}")
        time.sleep(0.02)
